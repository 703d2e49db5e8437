//! `understudy audit`: what was asked of the admin that would change something, by whom, and how it was answered.

use super::words::{ago, brief, items, table, text, width};
use super::{Client, Format, Remote, Trouble, say, say_json};
use clap::Args;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// At most so many.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Older than this cursor of an earlier answer.
    #[arg(long)]
    before: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let mut query = vec![("limit", arguments.limit.to_string())];
    query.extend(arguments.before.clone().map(|before| ("before", before)));
    let audit = Client::new(&arguments.remote)?.get("/api/v1/audit", &query)?;
    match arguments.remote.format {
        Format::Json => say_json(&audit),
        Format::Table => say(&all(&audit, jiff::Timestamp::now())),
    }
    Ok(ExitCode::SUCCESS)
}

fn all(answer: &Value, now: jiff::Timestamp) -> String {
    let list = items(answer);
    if list.is_empty() {
        return "nothing was asked for that would change something".to_owned();
    }
    let mut table = table(&["when", "who", "from", "what", "asked", "answer"], &[]);
    let each = usize::from(width()).saturating_sub(58).max(20);
    for item in list {
        let status = item.get("status").and_then(Value::as_u64);
        table.add_row([
            ago(text(item, "/at"), now),
            who(item),
            text(item, "/from").to_owned(),
            text(item, "/what").to_owned(),
            brief(text(item, "/body"), each),
            status.map_or_else(|| "(left)".to_owned(), |status| status.to_string()),
        ]);
    }
    let mut shown = table.trim_fmt();
    if let Some(next) = answer.get("next").filter(|next| !next.is_null()) {
        let _ = write!(shown, "\n\nolder ones: --before {next}");
    }
    shown
}

/// Whose token it was, and who its body says that it is of.
fn who(item: &Value) -> String {
    match (text(item, "/who"), text(item, "/said")) {
        ("", "") => "-".to_owned(),
        ("", said) => format!("- (as {said})"),
        (who, "") => who.to_owned(),
        (who, said) if who == said => who.to_owned(),
        (who, said) => format!("{who} (as {said})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_audit_is_a_table() {
        let one = |who: Option<&str>, said: Option<&str>, status: Option<u16>| {
            json!({
                "id": 4, "at": "2026-01-01T23:59:48Z", "who": who, "said": said, "from": "127.0.0.1:5",
                "what": "POST /api/v1/cutover", "body": "to=vitess", "status": status,
            })
        };
        let answer = json!({
            "items": [one(Some("alice"), Some("bob"), Some(202)), one(Some("alice"), None, None), one(None, None, Some(401))],
            "next": 4,
        });
        let shown = all(&answer, "2026-01-02T00:00:00Z".parse().expect("a time"));
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "WHEN      WHO             FROM         WHAT                  ASKED      ANSWER",
                "12 s ago  alice (as bob)  127.0.0.1:5  POST /api/v1/cutover  to=vitess  202",
                "12 s ago  alice           127.0.0.1:5  POST /api/v1/cutover  to=vitess  (left)",
                "12 s ago  -               127.0.0.1:5  POST /api/v1/cutover  to=vitess  401",
                "",
                "older ones: --before 4",
            ]
        );
        let none = json!({"items": [], "next": null});
        assert!(all(&none, jiff::Timestamp::UNIX_EPOCH).starts_with("nothing was asked"));
    }
}

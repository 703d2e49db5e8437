//! `understudy divergences`: where the two servers' answers differed, newest first; one whole by its id.

use super::words::{ago, brief, count, items, number, table, text, width};
use super::{Client, Door, ListFormat, Trouble, say, say_json, say_sheet, whole};
use clap::Args;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// One divergence, whole: both answers, the first differing rows, session, cause and plans.
    id: Option<String>,
    /// Of this kind only: unsupported, error, value, rows …
    #[arg(long, conflicts_with = "id")]
    kind: Option<String>,
    /// That touch this table only.
    #[arg(long, conflicts_with = "id")]
    table: Option<String>,
    /// Of this fingerprint only (the statement's shape, or its digest).
    #[arg(long, conflicts_with = "id")]
    fingerprint: Option<String>,
    /// Whose finding is in this state only: open, accepted, fixed, regressed, noise.
    #[arg(long, conflicts_with = "id")]
    state: Option<String>,
    /// Of this finding only.
    #[arg(long, value_name = "ID", conflicts_with = "id")]
    finding: Option<u64>,
    /// What follows from a taint instead: differences that are not compared, for their tables are tainted.
    #[arg(long, conflicts_with = "id")]
    follows: bool,
    /// At most so many.
    #[arg(long, default_value_t = 20, conflicts_with = "id")]
    limit: u32,
    /// Older than this cursor of an earlier answer.
    #[arg(long, conflicts_with = "id")]
    before: Option<String>,
    #[command(flatten)]
    door: Door,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    format: ListFormat,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::behind(&arguments.door)?;
    let asked = arguments.id.as_ref();
    if arguments.format == ListFormat::Csv {
        if asked.is_some() {
            return Err(Trouble::usage(
                "--format csv is for lists; one divergence is a table or json",
            ));
        }
        say_sheet(&client.sheet("/api/v1/divergences", &query(arguments))?);
        return Ok(ExitCode::SUCCESS);
    }
    let answer = match asked {
        Some(id) if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
            return Err(Trouble::usage(format!("{id:?} is no divergence's id")));
        }
        Some(id) => client.get(&format!("/api/v1/divergences/{id}"), &[])?,
        None => client.get("/api/v1/divergences", &query(arguments))?,
    };
    match (arguments.format, asked) {
        (ListFormat::Table, Some(_)) => say(&whole::divergence(&answer)),
        (ListFormat::Table, None) => say(&all(&answer, jiff::Timestamp::now())),
        (ListFormat::Json | ListFormat::Csv, _) => say_json(&answer),
    }
    Ok(ExitCode::SUCCESS)
}

fn query(arguments: &Arguments) -> Vec<(&'static str, String)> {
    let given = [
        ("kind", &arguments.kind),
        ("table", &arguments.table),
        ("fingerprint", &arguments.fingerprint),
        ("state", &arguments.state),
        ("before", &arguments.before),
    ];
    let mut query: Vec<_> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect();
    if let Some(finding) = arguments.finding {
        query.push(("finding", finding.to_string()));
    }
    if arguments.follows {
        query.push(("follows", "true".to_owned()));
    }
    query.push(("limit", arguments.limit.to_string()));
    query
}

fn all(answer: &Value, now: jiff::Timestamp) -> String {
    let list = items(answer);
    if list.is_empty() {
        return "no divergences".to_owned();
    }
    let name = |role: &str| {
        list.first()
            .map_or(role, |item| text(item, &format!("/{role}/server")))
            .to_owned()
    };
    let (primary, shadow) = (name("primary"), name("shadow"));
    let mut table = table(
        &[
            "id",
            "when",
            "kind",
            "follows",
            "statement",
            &primary,
            &shadow,
        ],
        &[],
    );
    let each = usize::from(width()).saturating_sub(49);
    for item in list {
        table.add_row([
            id(item),
            ago(text(item, "/at"), now),
            text(item, "/kind").to_owned(),
            follows(item).to_owned(),
            brief(text(item, "/statement"), each * 2 / 5),
            side(item.get("primary"), each * 3 / 10),
            side(item.get("shadow"), each * 3 / 10),
        ]);
    }
    let mut shown = table.trim_fmt();
    let next = answer.get("next").filter(|next| !next.is_null());
    if let Some(next) = next {
        let next = next
            .as_str()
            .map_or_else(|| next.to_string(), str::to_owned);
        let _ = write!(shown, "\n\nolder ones: --before {next}");
    }
    shown
}

fn id(item: &Value) -> String {
    match item.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(id) => id.to_string(),
        None => String::new(),
    }
}

/// Whether it follows from a taint, and is no divergence of its own.
fn follows(item: &Value) -> &'static str {
    match item.get("follows") {
        Some(Value::Bool(true)) => "yes",
        _ => "",
    }
}

/// One server's side in a few words.
fn side(side: Option<&Value>, most: usize) -> String {
    let Some(side) = side.filter(|side| side.is_object()) else {
        return "not run".to_owned();
    };
    if side.get("error").is_some_and(Value::is_object) {
        let error = format!(
            "error {} {}",
            number(side, "/error/code"),
            text(side, "/error/message")
        );
        return brief(&error, most.max(24));
    }
    match side.get("affected_rows").and_then(Value::as_u64) {
        Some(affected) if number(side, "/rows") == 0 => format!("{} changed", count(affected)),
        _ => format!("{} rows", count(number(side, "/rows"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item() -> Value {
        json!({
            "id": 7, "at": "2026-01-01T23:59:48Z", "kind": "error", "also": ["rows"], "fingerprint": "SELECT ?",
            "protocol": "text", "user": "app", "database": "app", "tables": ["app.t"], "statement": "SELECT ?",
            "primary": {"server": "legacy", "rows": 3, "error": null, "affected_rows": null, "latency_us": 850},
            "shadow": {"server": "vitess", "rows": 0, "latency_us": 1_250, "affected_rows": null,
                       "error": {"code": 1235, "sqlstate": "42000", "message": "VT12001: unsupported"}},
            "finding_id": 3, "follows": true,
            "examples": [{"row": 0, "names": ["a"], "columns": [0], "primary": ["x"], "shadow": [null]}],
        })
    }

    fn lines(shown: &str) -> Vec<&str> {
        shown.lines().map(str::trim_end).collect()
    }

    #[test]
    fn divergences_are_a_table() {
        let answer = json!({"items": [item()], "next": "7"});
        let shown = all(&answer, "2026-01-02T00:00:00Z".parse().expect("a time"));
        assert_eq!(
            lines(&shown),
            [
                "ID  WHEN      KIND   FOLLOWS  STATEMENT  LEGACY  VITESS",
                "7   12 s ago  error  yes      SELECT ?   3 rows  error 1235 VT12001: unsupported",
                "",
                "older ones: --before 7",
            ]
        );
        assert_eq!(
            all(
                &json!({"items": [], "next": null}),
                jiff::Timestamp::UNIX_EPOCH
            ),
            "no divergences"
        );
    }
}

//! `understudy divergences`: where the two servers' answers differed, newest first; one whole by its id.

use super::words::{ago, brief, count, items, list, micros, number, table, text, width};
use super::{Client, Format, Remote, Trouble, say, say_json};
use clap::Args;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// One divergence, whole: both answers and the first differing rows.
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
    /// At most so many.
    #[arg(long, default_value_t = 20, conflicts_with = "id")]
    limit: u32,
    /// Older than this cursor of an earlier answer.
    #[arg(long, conflicts_with = "id")]
    before: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::new(&arguments.remote)?;
    let whole = arguments.id.as_ref();
    let answer = match whole {
        Some(id) if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
            return Err(Trouble::usage(format!("{id:?} is no divergence's id")));
        }
        Some(id) => client.get(&format!("/api/v1/divergences/{id}"), &[])?,
        None => client.get("/api/v1/divergences", &query(arguments))?,
    };
    match (arguments.remote.format, whole) {
        (Format::Json, _) => say_json(&answer),
        (Format::Table, Some(_)) => say(&one(&answer)),
        (Format::Table, None) => say(&all(&answer, jiff::Timestamp::now())),
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
    let mut table = table(&["id", "when", "kind", "statement", &primary, &shadow], &[]);
    let each = usize::from(width()).saturating_sub(40);
    for item in list {
        table.add_row([
            id(item),
            ago(text(item, "/at"), now),
            text(item, "/kind").to_owned(),
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

fn one(item: &Value) -> String {
    let mut out = String::new();
    for (title, words) in [
        ("divergence", id(item)),
        ("at", text(item, "/at").to_owned()),
        ("kind", text(item, "/kind").to_owned()),
        ("also", list(item, "/also")),
        ("detail", text(item, "/detail").to_owned()),
        ("protocol", text(item, "/protocol").to_owned()),
        ("user", text(item, "/user").to_owned()),
        ("database", text(item, "/database").to_owned()),
        ("tables", list(item, "/tables")),
        (
            "finding",
            item.get("finding_id")
                .map(|_| number(item, "/finding_id").to_string())
                .unwrap_or_default(),
        ),
        ("statement", text(item, "/statement").to_owned()),
        ("fingerprint", text(item, "/fingerprint").to_owned()),
    ] {
        if !words.is_empty() {
            let _ = writeln!(out, "{title:<12} {words}");
        }
    }
    for role in ["primary", "shadow"] {
        let Some(side) = item.get(role).filter(|side| side.is_object()) else {
            continue;
        };
        let _ = writeln!(out, "{:<12} {}", text(side, "/server"), whole_side(side));
    }
    out.push_str(&examples(item));
    out
}

fn whole_side(side: &Value) -> String {
    let took = micros(number(side, "/latency_us"));
    if side.get("error").is_some_and(Value::is_object) {
        return format!(
            "error {} ({}) {}, in {took}",
            number(side, "/error/code"),
            text(side, "/error/sqlstate"),
            text(side, "/error/message"),
        );
    }
    let affected = side.get("affected_rows").and_then(Value::as_u64);
    let affected = affected
        .map(|n| format!(", {} changed", count(n)))
        .unwrap_or_default();
    format!("{} rows{affected}, in {took}", count(number(side, "/rows")))
}

/// The first differing rows, a line for each differing cell.
fn examples(item: &Value) -> String {
    let examples = item
        .get("examples")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if examples.is_empty() {
        return String::new();
    }
    let mut table = table(
        &[
            "row",
            "column",
            text(item, "/primary/server"),
            text(item, "/shadow/server"),
        ],
        &[],
    );
    for example in examples {
        let row = example
            .get("row")
            .and_then(Value::as_u64)
            .map_or_else(|| "-".to_owned(), |row| row.to_string());
        let cells = |side: &str| {
            example
                .get(side)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let (primary, shadow) = (cells("primary"), cells("shadow"));
        let names = cells("names");
        for at in 0..names.len().max(primary.len()).max(shadow.len()) {
            let name = names
                .get(at)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            table.add_row([
                row.clone(),
                name,
                cell(primary.get(at)),
                cell(shadow.get(at)),
            ]);
        }
    }
    format!("\n{}", table.trim_fmt())
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None => "(no row)".to_owned(),
        Some(Value::Null) => "NULL".to_owned(),
        Some(Value::String(text)) => brief(text, 60),
        Some(other) => brief(&other.to_string(), 60),
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
            "finding_id": 3,
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
                "ID  WHEN      KIND   STATEMENT  LEGACY  VITESS",
                "7   12 s ago  error  SELECT ?   3 rows  error 1235 VT12001: unsupported",
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

    #[test]
    fn one_divergence_is_shown_whole() {
        let shown = one(&item());
        let lines = lines(&shown);
        assert!(
            lines.contains(&"vitess       error 1235 (42000) VT12001: unsupported, in 1.25 ms"),
            "{shown}"
        );
        assert!(lines.contains(&"legacy       3 rows, in 850 µs"), "{shown}");
        assert_eq!(lines.last(), Some(&"0    a       x       NULL"), "{shown}");
    }
}

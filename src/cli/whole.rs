//! One divergence or finding, whole, as people read it: what differs side by side, the session's
//! state, the known cause, both servers' plans.

use super::words::{brief, count, list, micros, number, table, text};
use serde_json::Value;
use std::fmt::Write;

/// Width of the titles.
const TITLE: usize = 12;

/// One divergence.
pub(super) fn divergence(item: &Value) -> String {
    let mut out = String::new();
    lines(
        &mut out,
        &[
            ("divergence", id(item, "/id")),
            ("finding", id(item, "/finding_id")),
            ("at", text(item, "/at").to_owned()),
            ("kind", text(item, "/kind").to_owned()),
            ("also", list(item, "/also")),
            ("detail", text(item, "/detail").to_owned()),
            ("protocol", text(item, "/protocol").to_owned()),
            ("user", text(item, "/user").to_owned()),
            ("tables", list(item, "/tables")),
            ("statement", text(item, "/statement").to_owned()),
            ("fingerprint", text(item, "/fingerprint").to_owned()),
        ],
    );
    out.push_str(&evidence(item));
    out
}

/// One finding, with its newest divergence.
pub(super) fn finding(item: &Value) -> String {
    let mut out = String::new();
    lines(
        &mut out,
        &[
            ("finding", id(item, "/id")),
            ("state", text(item, "/state").to_owned()),
            ("kind", text(item, "/kind").to_owned()),
            ("protocol", text(item, "/protocol").to_owned()),
            ("tables", list(item, "/tables")),
            (
                "count",
                format!(
                    "{} of {} commands",
                    count(number(item, "/count")),
                    count(number(item, "/commands"))
                ),
            ),
            ("first seen", text(item, "/first_seen").to_owned()),
            ("last seen", text(item, "/last_seen").to_owned()),
            ("who", text(item, "/who").to_owned()),
            ("why", text(item, "/why").to_owned()),
            ("until", text(item, "/until").to_owned()),
            ("follows", id(item, "/cause_id")),
            ("tainted", list(item, "/tainted")),
            ("fingerprint", text(item, "/fingerprint").to_owned()),
        ],
    );
    match item
        .pointer("/examples/0")
        .filter(|newest| newest.is_object())
    {
        Some(newest) => {
            let statement = text(newest, "/statement").to_owned();
            lines(
                &mut out,
                &[
                    ("newest", format!("divergence {}", id(newest, "/id"))),
                    ("detail", text(newest, "/detail").to_owned()),
                    ("statement", statement),
                ],
            );
            out.push_str(&evidence(newest));
            out.push_str(&plans(item));
        }
        None => out.push_str(&cause(item)),
    }
    out
}

fn id(item: &Value, path: &str) -> String {
    match item.pointer(path) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(id)) => id.clone(),
        Some(id) => id.to_string(),
    }
}

fn lines(out: &mut String, lines: &[(&str, String)]) {
    for (title, words) in lines {
        if !words.is_empty() {
            let _ = writeln!(out, "{title:<TITLE$} {words}");
        }
    }
}

/// All that a divergence shows beside its head.
fn evidence(item: &Value) -> String {
    // Of statistics over many commands there is no session, and nothing to repeat.
    let is_one = !is_latency(item);
    let mut out = if is_one { session(item) } else { String::new() };
    for role in ["primary", "shadow"] {
        let side = item.get(role).filter(|side| side.is_object());
        if let Some(side) = side {
            lines(&mut out, &[(text(side, "/server"), whole_side(side))]);
        }
    }
    out.push_str(&cause(item));
    out.push_str(&examples(item));
    out.push_str(&plans(item));
    if is_one {
        let _ = write!(out, "\n\nrepeat it: understudy repro {}", id(item, "/id"));
    }
    out
}

fn is_latency(item: &Value) -> bool {
    text(item, "/kind") == "latency"
}

fn cause(item: &Value) -> String {
    let mut out = String::new();
    let code = text(item, "/cause/code");
    if !code.is_empty() {
        let words = format!("{} ({code})", text(item, "/cause/text"));
        lines(
            &mut out,
            &[
                ("cause", words),
                ("advice", text(item, "/cause/advice").to_owned()),
            ],
        );
    }
    out
}

/// The session's state: what it set, and where it stood.
fn session(item: &Value) -> String {
    let mut known = Vec::new();
    let (ours, theirs) = (
        text(item, "/database"),
        text(item, "/session/shadow_database"),
    );
    known.push(match (ours, theirs) {
        ("", _) => "no database".to_owned(),
        _ if theirs.is_empty() || ours == theirs => format!("database {ours}"),
        _ => format!("database {ours} (there {theirs})"),
    });
    for (name, path) in [
        ("charset", "/session/charset"),
        ("collation", "/session/collation"),
        ("sql_mode", "/session/sql_mode"),
        ("isolation", "/session/isolation"),
        ("time_zone", "/session/time_zone"),
    ] {
        match item.pointer(path) {
            Some(Value::String(value)) if value.is_empty() => known.push(format!("{name} ''")),
            Some(Value::String(value)) => known.push(format!("{name} {value}")),
            _ => {}
        }
    }
    let is = |path: &str| item.pointer(path).and_then(Value::as_bool);
    if is("/session/autocommit") == Some(false) {
        known.push("autocommit off".to_owned());
    }
    if is("/session/in_transaction") == Some(true) {
        let before = number(item, "/session/commands_before");
        let wrote = match is("/session/wrote_before") {
            Some(true) => ", which wrote",
            _ => "",
        };
        known.push(format!(
            "in a transaction, {before} commands before it{wrote}"
        ));
    }
    if is("/session/rewritten") == Some(true) {
        known.push("the shadow was sent another text".to_owned());
    }
    if is("/session/known") == Some(false) {
        known.push("not all of it is known".to_owned());
    }
    let mut out = String::new();
    lines(&mut out, &[("session", known.join("; "))]);
    out
}

fn whole_side(side: &Value) -> String {
    if let Some(times) = side.get("quantiles").filter(|times| times.is_object()) {
        let time = |name: &str| micros(number(times, name));
        return format!(
            "p50 {}, p90 {}, p99 {}, longest {}",
            time("/p50"),
            time("/p90"),
            time("/p99"),
            time("/max")
        );
    }
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

/// The first differing rows side by side, a line for each differing cell.
fn examples(item: &Value) -> String {
    let examples = item
        .get("examples")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if examples.is_empty() {
        return String::new();
    }
    let head = [
        "row",
        "column",
        text(item, "/primary/server"),
        text(item, "/shadow/server"),
    ];
    let mut table = table(&head, &[]);
    for example in examples {
        let cells = |side: &str| {
            let cells = example.get(side).and_then(Value::as_array);
            cells.map_or(&[][..], Vec::as_slice)
        };
        let (primary, shadow) = (cells("primary"), cells("shadow"));
        let (names, numbers) = (cells("names"), cells("columns"));
        for at in 0..numbers.len().max(primary.len()).max(shadow.len()) {
            table.add_row([
                if at == 0 { row(example) } else { String::new() },
                column(names.get(at), numbers.get(at)),
                cell(primary, at),
                cell(shadow, at),
            ]);
        }
    }
    format!("\n{}", table.trim_fmt())
}

/// Rows are counted from 1, as in the detail's words.
fn row(example: &Value) -> String {
    example
        .get("row")
        .and_then(Value::as_u64)
        .map_or_else(|| "-".to_owned(), |row| (row + 1).to_string())
}

/// A column's name; of an expression, which has none to show, its number.
fn column(name: Option<&Value>, number: Option<&Value>) -> String {
    match name.and_then(Value::as_str).filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => number
            .and_then(Value::as_u64)
            .map_or_else(String::new, |number| format!("column {}", number + 1)),
    }
}

fn cell(cells: &[Value], at: usize) -> String {
    match cells.get(at) {
        None if cells.is_empty() => "(no row)".to_owned(),
        None => String::new(),
        Some(Value::Null) => "NULL".to_owned(),
        Some(Value::String(text)) => brief(text, 60),
        Some(other) => brief(&other.to_string(), 60),
    }
}

/// Both servers' plans.
fn plans(item: &Value) -> String {
    let mut out = String::new();
    let plans = item.get("plans").filter(|plans| plans.is_object());
    let Some(plans) = plans else { return out };
    for role in ["primary", "shadow"] {
        let Some(side) = plans.get(role).filter(|side| side.is_object()) else {
            continue;
        };
        let _ = write!(out, "\n\nplan of {}", text(side, "/server"));
        let class = text(plans, "/class");
        if role == "shadow" && !class.is_empty() {
            let _ = write!(out, ": {class}");
        }
        if let Some(rows) = side.get("rows").and_then(Value::as_array) {
            for row in rows {
                let _ = write!(out, "\n  {}", plan_row(row));
            }
        } else if let Some(plan) = side.get("plan") {
            out.push_str(
                &format!("{plan:#}")
                    .replace('\n', "\n  ")
                    .replacen('{', "\n  {", 1),
            );
        } else {
            let _ = write!(out, ": {}", text(side, "/why"));
        }
    }
    out
}

/// One row of EXPLAIN, on a line.
fn plan_row(row: &Value) -> String {
    let fields = row.as_object().into_iter().flatten();
    let told = fields.filter_map(|(name, value)| {
        let value = value.as_str().filter(|value| !value.is_empty())?;
        Some(format!("{name}={value}"))
    });
    told.collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item() -> Value {
        json!({
            "id": 7, "at": "2026-01-01T23:59:48Z", "kind": "value", "also": ["rows"], "fingerprint": "SELECT ?",
            "protocol": "text", "user": "app", "database": "app", "tables": ["app.t"], "statement": "SELECT ?",
            "primary": {"server": "legacy", "rows": 3, "error": null, "affected_rows": null, "latency_us": 850},
            "shadow": {"server": "vitess", "rows": 0, "latency_us": 1_250, "affected_rows": null,
                       "error": {"code": 1235, "sqlstate": "42000", "message": "VT12001: unsupported"}},
            "session": {"shadow_database": "commerce", "charset": "utf8", "sql_mode": "", "time_zone": null,
                        "autocommit": false, "in_transaction": true, "commands_before": 2, "wrote_before": true},
            "cause": {"code": "unsupported", "text": "it is not supported", "advice": "rewrite it"},
            "finding_id": 3,
            "examples": [
                {"row": 0, "names": ["a", ""], "columns": [0, 1], "primary": ["x", "5"], "shadow": [null, "6"]},
                {"row": null, "names": ["a"], "columns": [0], "primary": [], "shadow": ["y"]}],
            "plans": {"class": "Scatter", "primary": {"server": "legacy", "rows": [{"id": "1", "table": "t", "ref": null}]},
                      "shadow": {"server": "vitess", "why": "not asked: no account"}},
        })
    }

    fn lines_of(shown: &str) -> Vec<&str> {
        shown.lines().map(str::trim_end).collect()
    }

    #[test]
    fn one_divergence_is_shown_whole() {
        let shown = divergence(&item());
        let lines = lines_of(&shown);
        for line in [
            "vitess       error 1235 (42000) VT12001: unsupported, in 1.25 ms",
            "legacy       3 rows, in 850 µs",
            "cause        it is not supported (unsupported)",
            "advice       rewrite it",
            "session      database app (there commerce); charset utf8; sql_mode ''; autocommit off; in a transaction, 2 commands before it, which wrote",
            "ROW  COLUMN    LEGACY    VITESS",
            "1    a         x         NULL",
            "     column 2  5         6",
            "-    a         (no row)  y",
            "  id=1  table=t",
            "plan of vitess: Scatter: not asked: no account",
            "repeat it: understudy repro 7",
        ] {
            assert!(lines.contains(&line), "{line}:\n{shown}");
        }
    }

    #[test]
    fn of_a_slower_statement_times_are_told_and_no_session() {
        let times =
            |n: u64| json!({"p50": n, "p90": 2 * n, "p99": 3 * n, "p999": 4 * n, "max": 5 * n});
        let item = json!({
            "id": 8, "kind": "latency", "detail": "p50 100 µs → 2.00 ms", "fingerprint": "SELECT ?", "finding_id": 4,
            "primary": {"server": "legacy", "rows": null, "latency_us": 300, "quantiles": times(100)},
            "shadow": {"server": "vitess", "rows": null, "latency_us": 6_000, "quantiles": times(2_000)},
        });
        let shown = divergence(&item);
        let lines = lines_of(&shown);
        for line in [
            "legacy       p50 100 µs, p90 200 µs, p99 300 µs, longest 500 µs",
            "vitess       p50 2.00 ms, p90 4.00 ms, p99 6.00 ms, longest 10.0 ms",
        ] {
            assert!(lines.contains(&line), "{line}:\n{shown}");
        }
        for word in ["session", "repeat it", "0 rows"] {
            assert!(!shown.contains(word), "{word}:\n{shown}");
        }
    }

    #[test]
    fn a_finding_is_shown_with_its_newest_divergence() {
        let whole = json!({
            "id": 3, "state": "open", "kind": "value", "protocol": "text", "tables": ["app.t"], "count": 5, "commands": 1_000,
            "first_seen": "2026-01-01T00:00:00Z", "last_seen": "2026-01-02T00:00:00Z", "fingerprint": "SELECT ?",
            "cause_id": null, "examples": [item()],
        });
        let shown = finding(&whole);
        let lines = lines_of(&shown);
        for line in [
            "count        5 of 1,000 commands",
            "newest       divergence 7",
            "1    a         x         NULL",
        ] {
            assert!(lines.contains(&line), "{line}:\n{shown}");
        }
        let pruned =
            json!({"id": 3, "examples": [], "cause": {"code": "null", "text": "t", "advice": "a"}});
        assert!(finding(&pruned).contains("cause        t (null)"));
    }
}

//! How a verification stands, for people.

use super::super::words::{items, number, table, text};
use crate::words::{count, share, span};
use serde_json::{Value, json};

/// Rows that differ and are told, of all tables.
const ROWS_MAX: usize = 50;

/// Notes on definitions that are told.
const NOTES_MAX: usize = 5;

/// Holds that are told one by one, the newest.
const HOLDS_MAX: usize = 10;

/// One line while it runs.
pub(super) fn line(told: &Value) -> String {
    let run = told.get("run").unwrap_or(&Value::Null);
    let whole = |pointer: &str| run.pointer(pointer).and_then(Value::as_u64);
    let (rows, expected) = (
        whole("/rows").unwrap_or(0),
        whole("/rows_expected").unwrap_or(0),
    );
    let mut words = vec![format!(
        "{} of about {} rows ({}), {} rows/s",
        count(rows),
        count(expected.max(rows)),
        share(rows, expected.max(rows).max(1)),
        count(whole("/rows_per_second").unwrap_or(0))
    )];
    words.extend(whole("/eta_s").map(|eta| format!("{} left", span(eta))));
    let tables = run.get("tables").and_then(Value::as_array);
    let tables = tables.map_or(&[][..], Vec::as_slice);
    let stage = |one: &&Value| matches!(text(one, "/stage"), "walking" | "settling");
    let names = tables.iter().filter(stage).map(|one| {
        let settling = if text(one, "/stage") == "settling" {
            " (looking again)"
        } else {
            ""
        };
        format!(
            "{}.{}{settling}",
            text(one, "/database"),
            text(one, "/table")
        )
    });
    words.extend(names);
    match text(run, "/waits") {
        "" => {}
        why => words.push(format!("waits: {why}")),
    }
    words.join(", ")
}

/// All of it.
pub(super) fn whole(told: &Value) -> String {
    let run = told.get("run").unwrap_or(&Value::Null);
    if run.is_null() {
        return history(told);
    }
    let mut lines = vec![format!(
        "verification {} of {} against {}: {}",
        number(run, "/id"),
        text(run, "/shadow"),
        text(run, "/primary"),
        match text(run, "/outcome") {
            "" => text(told, "/state").to_owned(),
            outcome => outcome.replace('_', " "),
        }
    )];
    match text(run, "/why") {
        "" => {}
        why => lines.push(why.to_owned()),
    }
    lines.extend(instants(run));
    if text(run, "/outcome").is_empty() {
        lines.push(line(told));
    }
    let tables = json!({"items": run.get("tables")});
    let tables = items(&tables);
    lines.push(String::new());
    lines.push(sheet(tables));
    for one in tables {
        lines.extend(beside(one));
    }
    lines.extend(rows(run, tables));
    lines.extend(notes(run, tables));
    lines.join("\n")
}

/// What differs and says nothing of a row, behind all that does.
fn notes(run: &Value, tables: &[Value]) -> Vec<String> {
    let of_run = run.get("notes").and_then(Value::as_array);
    let of_run = of_run.into_iter().flatten().filter_map(Value::as_str);
    let mut notes: Vec<String> = of_run.map(|note| format!("note: {note}")).collect();
    let of_tables = tables.iter().flat_map(|one| {
        let schema = one.get("schema").and_then(Value::as_array);
        let of_it = schema.into_iter().flatten().filter(|said| is_note(said));
        of_it.map(|said| format!("note: {}: {}", name(one), text(said, "/said")))
    });
    let of_tables: Vec<String> = of_tables.collect();
    let more = of_tables.len().saturating_sub(NOTES_MAX);
    notes.extend(of_tables.into_iter().take(NOTES_MAX));
    if more > 0 {
        notes.push(format!("and {more} notes more: --format json"));
    }
    if !notes.is_empty() {
        notes.insert(0, String::new());
    }
    notes
}

fn is_note(difference: &Value) -> bool {
    text(difference, "/weight") == "note"
}

fn name(one: &Value) -> String {
    format!("{}.{}", text(one, "/database"), text(one, "/table"))
}

/// `in 2 instants, for which sessions waited 8.1 ms and 11.0 ms`
fn instants(run: &Value) -> Option<String> {
    let told = run.get("instants").filter(|told| !told.is_null())?;
    let whole = |key: &str| told.get(key).and_then(Value::as_u64).unwrap_or(0);
    let holds = told.get("holds").and_then(Value::as_array);
    let holds = holds.map_or(&[][..], Vec::as_slice);
    let of_use = holds
        .iter()
        .filter(|one| one.get("failed").is_none_or(Value::is_null));
    let waited = of_use.filter_map(|one| one.get("hold_us").and_then(Value::as_u64));
    let waited: Vec<String> = waited.map(ms).collect();
    let last = waited.get(waited.len().saturating_sub(HOLDS_MAX)..);
    let mut words = format!("in {} instants", count(whole("instants")));
    if let Some(last) = last.filter(|last| !last.is_empty()) {
        let longest = ms(whole("hold_us_max"));
        let who = match run.get("lock").and_then(Value::as_bool) {
            Some(true) => "a table was locked for",
            _ => "sessions waited",
        };
        words.push_str(&format!(
            ", for which {who} {} (at most {longest})",
            last.join(", ")
        ));
    }
    for (key, what) in [
        ("failed", "could not be had at once"),
        ("ended_early", "were ended by a server before their time"),
    ] {
        let n = whole(key);
        if n > 0 {
            words.push_str(&format!("; {} {what}", count(n)));
        }
    }
    Some(words)
}

fn ms(us: u64) -> String {
    format!("{}.{} ms", us / 1_000, us % 1_000 / 100)
}

fn sheet(tables: &[Value]) -> String {
    let names = [
        "table",
        "outcome",
        "primary rows",
        "shadow rows",
        "different",
        "repaired",
        "unsettled",
    ];
    let mut sheet = table(&names, &[2, 3, 4, 5, 6]);
    for one in tables {
        let whole =
            |pointer: &str| count(one.pointer(pointer).and_then(Value::as_u64).unwrap_or(0));
        let outcome = match text(one, "/outcome") {
            "" => text(one, "/stage").to_owned(),
            outcome => outcome.replace('_', " "),
        };
        sheet.add_row([
            format!("{}.{}", text(one, "/database"), text(one, "/table")),
            outcome,
            whole("/rows_primary"),
            whole("/rows_shadow"),
            different(one),
            whole("/repaired"),
            whole("/unsettled"),
        ]);
    }
    sheet.trim_fmt()
}

/// `3 missing, 1 changed`
fn different(one: &Value) -> String {
    let by = one.get("differences").and_then(Value::as_object);
    let words: Vec<String> = by
        .into_iter()
        .flatten()
        .map(|(how, rows)| format!("{} {how}", count(rows.as_u64().unwrap_or(0))))
        .collect();
    if words.is_empty() {
        "0".to_owned()
    } else {
        words.join(", ")
    }
}

/// What is to be said of a table beside its figures.
fn beside(one: &Value) -> Vec<String> {
    let name = name(one);
    let list = |key: &str| {
        let list = one.get(key).and_then(Value::as_array);
        list.map_or(&[][..], Vec::as_slice)
    };
    let differ = list("schema").iter().filter(|said| !is_note(said));
    let mut lines: Vec<String> = differ
        .map(|difference| format!("{name}: {}", text(difference, "/said")))
        .collect();
    let uncovered = list("not_covered").iter().filter_map(Value::as_str);
    lines.extend(uncovered.map(|what| format!("{name}: not covered: {what}")));
    let why = text(one, "/why");
    if !why.is_empty() && !lines.iter().any(|line| line.ends_with(why)) {
        lines.push(format!("{name}: {why}"));
    }
    lines
}

fn rows(run: &Value, tables: &[Value]) -> Vec<String> {
    let (mut lines, mut left_out, mut redacted) = (Vec::new(), 0, false);
    for one in tables {
        let rows = one.get("rows").and_then(Value::as_array);
        for row in rows.into_iter().flatten() {
            let repair = text(row, "/repair");
            // A plan is to be whole.
            if !repair.is_empty() {
                lines.push(if repair.starts_with("--") {
                    repair.to_owned()
                } else {
                    format!("{repair};")
                });
                continue;
            }
            if lines.len() >= ROWS_MAX {
                left_out += 1;
                continue;
            }
            let mut words = vec![name(one), text(row, "/how").to_owned()];
            words.extend((!text(row, "/key").is_empty()).then(|| text(row, "/key").to_owned()));
            words.extend(values(run, row));
            redacted |= text(row, "/key").is_empty();
            words.extend(
                (!text(row, "/repaired").is_empty()).then(|| text(row, "/repaired").to_owned()),
            );
            lines.push(words.join("  "));
        }
    }
    if left_out > 0 {
        lines.push(format!("and {} rows more: --format json", count(left_out)));
    }
    if redacted {
        lines.push(
            "keys and values are not told: the ledger keeps no literals (ledger.literals = \"redact\")".to_owned(),
        );
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// `(a: legacy 1, vitess 2; b)`: the columns that differ, with what both have where that is told.
fn values(run: &Value, row: &Value) -> Option<String> {
    let texts = |key: &str| {
        let list = row.get(key).and_then(Value::as_array);
        let list = list.into_iter().flatten();
        list.filter_map(Value::as_str).collect::<Vec<_>>()
    };
    let (mine, theirs) = (texts("primary"), texts("shadow"));
    let columns = texts("columns").into_iter().enumerate();
    let columns = columns.map(|(at, column)| match (mine.get(at), theirs.get(at)) {
        (Some(mine), Some(theirs)) => format!(
            "{column}: {} {mine}, {} {theirs}",
            text(run, "/primary"),
            text(run, "/shadow")
        ),
        _ => column.to_owned(),
    });
    let columns = columns.collect::<Vec<_>>().join("; ");
    (!columns.is_empty()).then(|| format!("({columns})"))
}

fn history(told: &Value) -> String {
    let history = json!({"items": told.get("history")});
    let history = items(&history);
    if history.is_empty() {
        return "nothing was verified yet".to_owned();
    }
    let mut sheet = table(
        &["id", "primary", "shadow", "began", "outcome", "why", "who"],
        &[0],
    );
    for one in history {
        sheet.add_row([
            number(one, "/id").to_string(),
            text(one, "/primary").to_owned(),
            text(one, "/shadow").to_owned(),
            text(one, "/started").to_owned(),
            text(one, "/outcome").replace('_', " "),
            text(one, "/why").to_owned(),
            text(one, "/who").to_owned(),
        ]);
    }
    sheet.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_was_not_covered_beside_its_outcome() {
        let told = json!({"state": "ended", "run": {
            "id": 3, "primary": "legacy", "shadow": "vitess", "outcome": "different", "tables": [{
                "database": "app", "table": "t", "stage": "done", "outcome": "different",
                "rows_primary": 1200, "rows_shadow": 1199, "differences": {"missing": 1}, "unsettled": 0,
                "schema": [{"weight": "note", "what": "collation", "said": "a is x on legacy, y on vitess"}],
                "not_covered": ["the sample left out 3 of 4 ranges"],
                "rows": [{"how": "missing", "key": "`id` = 7", "columns": []},
                    {"how": "changed", "key": "`id` = 8", "columns": ["v", "w"], "primary": ["1"], "shadow": ["NULL"]}],
            }], "notes": ["others write"],
        }});
        let shown = whole(&told);
        for words in [
            "verification 3 of vitess against legacy: different",
            "1,200",
            "1 missing",
            "not covered: the sample left out 3 of 4 ranges",
            "app.t  missing  `id` = 7",
            "app.t  changed  `id` = 8  (v: legacy 1, vitess NULL; w)",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        let last = "\n\nnote: others write\nnote: app.t: a is x on legacy, y on vitess";
        assert!(shown.ends_with(last), "{shown}");
    }

    #[test]
    fn notes_do_not_bury_what_differs_and_redaction_is_said() {
        let note = |n: u64| json!({"weight": "note", "said": format!("column {n} is x there")});
        let told = json!({"run": {"id": 1, "notes": [], "tables": [{
            "database": "app", "table": "t", "outcome": "different", "differences": {"clock": 1},
            "schema": (0..40).map(note).collect::<Vec<_>>(),
            "rows": [{"how": "clock", "key": null, "columns": ["at"], "primary": [], "shadow": []}],
        }]}});
        let shown = whole(&told);
        let redacted = "app.t  clock  (at)\nkeys and values are not told";
        assert!(shown.contains(redacted), "{shown}");
        assert!(
            shown.ends_with("\nand 35 notes more: --format json"),
            "{shown}"
        );
    }

    #[test]
    fn a_snapshot_says_how_long_sessions_waited_for_it() {
        let hold = |us: u64, failed: Value| json!({"hold_us": us, "failed": failed});
        let run = json!({"instants": {"instants": 2, "failed": 1, "ended_early": 0, "hold_us_max": 100_200,
            "holds": [hold(8_150, Value::Null), hold(100_200, json!("late")), hold(11_000, Value::Null)]}});
        assert_eq!(
            instants(&run).unwrap(),
            "in 2 instants, for which sessions waited 8.1 ms, 11.0 ms (at most 100.2 ms); 1 could not be had at once"
        );
        assert_eq!(instants(&json!({"instants": null})), None);
    }

    #[test]
    fn progress_is_one_line() {
        let told = json!({"run": {"rows": 500, "rows_expected": 1000, "rows_per_second": 100, "eta_s": 5,
            "waits": "a cutover is under way", "tables": [{"database": "app", "table": "t", "stage": "settling"}]}});
        assert_eq!(
            line(&told),
            "500 of about 1,000 rows (50.00 %), 100 rows/s, 5 s left, app.t (looking again), waits: a cutover is under way"
        );
    }
}

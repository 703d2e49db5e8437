//! What statements are, as data: `cases/*.txt`.
//!
//! A case is a statement, then lines that say what is known of it; keys that are left out are as
//! in `DEFAULTS`. Cases are separated by an empty line; `#` begins a remark.

use super::*;
use std::collections::BTreeMap;

const CASES: &[(&str, &str)] = &[
    ("reads", include_str!("cases/reads.txt")),
    ("writes", include_str!("cases/writes.txt")),
    ("session", include_str!("cases/session.txt")),
    ("ddl", include_str!("cases/ddl.txt")),
    ("unmirrored", include_str!("cases/unmirrored.txt")),
    ("texts", include_str!("cases/texts.txt")),
];

struct Case {
    text: String,
    wanted: BTreeMap<String, String>,
}

fn cases(source: &str) -> Vec<Case> {
    let blocks = source.split("\n\n").map(|block| {
        block
            .lines()
            .filter(|line| !line.starts_with("# ") && *line != "#" && !line.trim().is_empty())
            .collect::<Vec<_>>()
    });
    blocks
        .filter(|lines| !lines.is_empty())
        .map(|lines| {
            let known = lines.iter().position(|l| l.starts_with("  = "));
            let (text, wanted) = lines.split_at(known.unwrap_or(lines.len()));
            let wanted = wanted.iter().map(|line| {
                let line = line.trim_start().trim_start_matches("= ");
                let (key, value) = line.split_once(' ').unwrap_or((line, ""));
                (key.to_owned(), value.trim().to_owned())
            });
            Case {
                text: text.join("\n"),
                wanted: wanted.collect(),
            }
        })
        .collect()
}

fn names(tables: &Tables) -> String {
    match tables {
        Tables::Unknown => "?".into(),
        Tables::Known(tables) => {
            let names = tables.iter().map(|t| match &t.database {
                Some(database) => format!("{database}.{}", t.name),
                None => t.name.clone(),
            });
            names.collect::<Vec<_>>().join(", ")
        }
    }
}

fn keys(order: Option<&OrderBy>) -> String {
    let keys = order.map(|o| o.keys.as_slice()).unwrap_or_default();
    let shown = keys.iter().map(|key| match key {
        SortKey::Column(n) => n.to_string(),
        SortKey::Named(name) => name.clone(),
        SortKey::Hidden => "-".into(),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn changes(changes: &[Change]) -> String {
    let shown = changes.iter().map(|change| match change {
        Change::Database(name) => format!("use {name}"),
        Change::Variable { name, assignment } => format!("{name}: {assignment}"),
        Change::Value(name) => format!("{name}: ?"),
        Change::Unknown => "?".into(),
    });
    shown.collect::<Vec<_>>().join(" | ")
}

fn flags(s: &Statement) -> String {
    let mut flags: Vec<&str> = Vec::new();
    for (name, on) in [
        ("limit", s.limit),
        ("inside", s.limit_inside),
        ("clock", s.clock),
        ("insert", s.insert),
        ("qualified", s.qualified),
    ] {
        if on {
            flags.push(name);
        }
    }
    flags.extend(&s.nondeterministic);
    flags.join(" ")
}

fn control(control: Option<Control>) -> String {
    control
        .map(|c| format!("{c:?}").to_lowercase())
        .unwrap_or_default()
}

/// All that is known, but what is at its default.
fn shown(analysis: &Analysis) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::from([
        ("fp".to_owned(), analysis.fingerprint.to_string()),
        ("class".to_owned(), analysis.class.name().to_owned()),
    ]);
    let each = |f: &dyn Fn(&Statement) -> String| {
        let parts: Vec<String> = analysis.statements.iter().map(f).collect();
        if parts.iter().all(String::is_empty) {
            String::new()
        } else {
            parts.join(" ;; ")
        }
    };
    let rest = [
        ("tables", each(&|s| names(&s.tables))),
        ("written", each(&|s| names(&s.written))),
        ("order", each(&|s| keys(s.order_by.as_ref()))),
        ("flags", each(&flags)),
        ("changes", each(&|s| changes(&s.changes))),
        ("control", each(&|s| control(s.control))),
    ];
    for (key, value) in rest {
        if !value.is_empty() {
            shown.insert(key.to_owned(), value.trim().to_owned());
        }
    }
    shown
}

fn print(text: &str, shown: &BTreeMap<String, String>) -> String {
    let order = [
        "fp", "class", "tables", "written", "order", "flags", "changes", "control",
    ];
    let lines = order
        .iter()
        .filter_map(|key| Some(format!("  = {key} {}\n", shown.get(*key)?)));
    format!("{text}\n{}", lines.collect::<String>())
}

#[test]
fn statements_are_what_the_cases_say() {
    let dialect = Dialect::default();
    let mut wrong = String::new();
    for (file, source) in CASES {
        for case in cases(source) {
            let analysis = analyze(case.text.as_bytes(), dialect);
            let shown = shown(&analysis);
            if shown != case.wanted {
                wrong.push_str(&format!("--- {file}\n{}\n", print(&case.text, &shown)));
            }
        }
    }
    assert!(wrong.is_empty(), "these are now:\n{wrong}");
}

#[test]
fn a_fingerprint_is_its_own_fingerprint_with_the_same_analysis() {
    for (_, source) in CASES {
        for case in cases(source) {
            let first = analyze(case.text.as_bytes(), Dialect::default());
            let again = analyze(first.fingerprint.as_bytes(), Dialect::default());
            assert_eq!(again.fingerprint, first.fingerprint, "{}", case.text);
            let (mut one, mut two) = (shown(&first), shown(&again));
            one.remove("changes");
            two.remove("changes");
            assert_eq!(one, two, "{}", case.text);
        }
    }
}

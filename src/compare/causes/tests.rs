use super::*;
use std::collections::BTreeSet;

fn told(rows: u64) -> Told<'static> {
    Told {
        rows,
        error: None,
        affected_rows: None,
    }
}

fn failed(code: u16, text: &'static str) -> Told<'static> {
    Told {
        error: Some((code, "HY000", text)),
        ..told(0)
    }
}

fn divergence(kind: Kind, detail: &str, examples: Vec<Example>) -> Divergence {
    Divergence {
        kind,
        also: Vec::new(),
        detail: detail.to_owned(),
        columns: None,
        examples,
    }
}

fn pair(primary: &[Option<&str>], shadow: &[Option<&str>]) -> Example {
    let cells = |cells: &[Option<&str>]| {
        cells
            .iter()
            .map(|cell| cell.map(str::to_owned))
            .collect::<Vec<_>>()
    };
    Example {
        row: (!primary.is_empty()).then_some(0),
        primary: cells(primary),
        shadow: cells(shadow),
        ..Example::default()
    }
}

fn told_of(case: &Case<'_>) -> &'static str {
    cause(case).map_or("", |cause| cause.code.name())
}

fn of_errors(primary: Told<'_>, shadow: Told<'_>) -> &'static str {
    told_of(&Case {
        divergence: &divergence(Kind::Error, "", Vec::new()),
        primary,
        shadow,
        class: Class::Write,
        fingerprint: "INSERT INTO t VALUES ( ... )",
        literals: &[],
    })
}

fn of_examples(kind: Kind, examples: Vec<Example>, literals: &[&str]) -> Option<Cause> {
    let count = |side: fn(&Example) -> bool| examples.iter().filter(|one| side(one)).count() as u64;
    let (primary, shadow) = (
        told(count(|one| !one.primary.is_empty())),
        told(count(|one| !one.shadow.is_empty())),
    );
    let literals: Vec<String> = literals.iter().map(|one| (*one).to_owned()).collect();
    cause(&Case {
        divergence: &divergence(kind, "", examples),
        primary,
        shadow,
        class: Class::Read,
        fingerprint: "SELECT a FROM t WHERE b = ?",
        literals: &literals,
    })
}

#[test]
fn the_codes_have_names_of_their_own_and_stand_in_the_modules_table() {
    let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), Code::ALL.len());
    let table = include_str!("../causes.rs")
        .split("mod cells;")
        .next()
        .unwrap();
    for code in Code::ALL {
        assert!(table.contains(&format!("`{}`", code.name())), "{code:?}");
        assert!(!code.text().is_empty() && !code.advice().is_empty());
    }
}

#[test]
fn an_error_of_the_shadow_alone_has_its_cause() {
    for (code, text, name) in [
        (
            1235,
            "VT12001: unsupported: window functions",
            "unsupported",
        ),
        (1235, "unsupported: Call statement", "unsupported"),
        (1317, "Row count exceeded 10000", "row_cap"),
        (3024, "Query execution was interrupted", "time_limit"),
        (
            1203,
            "transaction pool connection limit exceeded",
            "pool_full",
        ),
        (1105, "VT09015: schema tracking required", "schema_unseen"),
        (1105, "table x not found", "vschema_table"),
        (1146, "Table 'app.t' doesn't exist", "table_missing"),
        (
            1105,
            "VT05003: unknown database 'x' in vschema",
            "database_missing",
        ),
        (1054, "Unknown column 'x' in 'field list'", "column_missing"),
        (1406, "Data too long for column 'v' at row 1", "strict_mode"),
        (
            1366,
            "Incorrect integer value: 'a' for column 'n'",
            "strict_mode",
        ),
        (
            1292,
            "Incorrect datetime value: '0000-00-00' for column 'd'",
            "zero_date",
        ),
        (
            1292,
            "Incorrect date value: '2024-13-01' for column 'd'",
            "strict_mode",
        ),
        (
            1055,
            "Expression #1 of SELECT list is not in GROUP BY",
            "group_by",
        ),
        (1062, "Duplicate entry 'a' for key 'u'", "unique_extra"),
        (1452, "a foreign key constraint fails", "foreign_key_extra"),
        (1105, "syntax error at position 6", "syntax"),
        (
            1105,
            "VT05006: unknown system variable 'insert_id'",
            "unknown_variable",
        ),
        (1644, "no", "trigger"),
        (1356, "View 'app.v' references invalid table(s)", "view"),
        (9999, "?", ""),
    ] {
        assert_eq!(
            of_errors(told(1), failed(code, text)),
            name,
            "{code} {text}"
        );
    }
}

#[test]
fn an_error_of_the_primary_alone_has_its_cause() {
    for (code, name) in [
        (1062, "unique_missing"),
        (1452, "foreign_key_missing"),
        (1406, "laxer_mode"),
        (1054, "column_extra"),
        (1146, "table_extra"),
        (1048, "not_null"),
    ] {
        assert_eq!(of_errors(failed(code, ""), told(1)), name, "{code}");
    }
}

#[test]
fn two_numbers_for_one_error_are_no_more_than_that() {
    let syntax = failed(1105, "syntax error at position 6 near 'selec'");
    assert_eq!(of_errors(failed(1064, ""), syntax), "error_number");
    let unsupported = failed(1235, "VT12001: unsupported: REPLACE INTO");
    assert_eq!(of_errors(failed(1064, ""), unsupported), "unsupported");
}

#[test]
fn cells_say_why_they_differ() {
    for (one, other, name) in [
        (
            Some("2024-01-02 03:04:05"),
            Some("2024-01-02 05:04:05"),
            "time_zone",
        ),
        (Some("03:04:05"), Some("08:34:05"), "time_zone"),
        (
            Some("2024-01-02 03:04:05"),
            Some("2024-01-02 03:04:06"),
            "changed_value",
        ),
        (Some("2024-01-02"), Some("2024-01-03"), "changed_value"),
        (Some("0000-00-00"), Some("2024-01-03"), "zero_date"),
        (Some("Müller"), Some("muller"), "collation"),
        (Some("abc"), Some("abc  "), "padding"),
        (Some("é"), Some("Ã©"), "charset"),
        (Some("naïve"), Some("na?ve"), "charset"),
        (Some("19.99"), Some("20.00"), "rounding"),
        (Some("3.14159265"), Some("3.1416"), "rounding"),
        (Some("1.239"), Some("1.23"), "rounding"),
        (Some("0.1234567"), Some("0.1234568"), "rounding"),
        (Some("5"), Some("6"), "changed_value"),
        (Some("1.51"), Some("1.62"), "changed_value"),
        (Some("1000000"), Some("1000001"), "changed_value"),
        (Some("1"), Some("0x01"), "boolean"),
        (Some(r#"{"a": 1}"#), Some(r#"{"a":1}"#), "json_text"),
        (Some("x"), None, "null"),
        (None, Some(""), "default_value"),
        (Some("0.00"), None, "default_value"),
        (Some("new"), Some("paid"), "changed_value"),
    ] {
        let kind = if one.is_none() || other.is_none() {
            Kind::Null
        } else {
            Kind::Value
        };
        let found = of_examples(kind, vec![pair(&[one], &[other])], &[]);
        assert_eq!(found.unwrap().code.name(), name, "{one:?} {other:?}");
    }
}

#[test]
fn a_time_zone_is_one_offset_in_every_row() {
    let moved = |by: &'static str| pair(&[Some("2024-01-02 03:04:05")], &[Some(by)]);
    let two = vec![moved("2024-01-02 02:04:05"), moved("2024-01-02 02:04:05")];
    let found = of_examples(Kind::Value, two, &[]).unwrap();
    assert_eq!(
        (found.code, found.seen.as_str()),
        (Code::TimeZone, "the shadow's are -01:00 apart")
    );
    let mixed = vec![moved("2024-01-02 02:04:05"), moved("2024-01-02 01:04:05")];
    let found = of_examples(Kind::Value, mixed, &[]).unwrap();
    assert_eq!(found.code, Code::ChangedValue);
}

#[test]
fn rows_are_missing_or_too_many_or_match_by_collation() {
    let missing = || vec![pair(&[Some("7"), Some("Anna")], &[])];
    for (examples, literals, code) in [
        (missing(), &["x"][..], Code::MissingRow),
        (missing(), &["Anna"], Code::MissingRow),
        (missing(), &["anna"], Code::Collation),
        (missing(), &["änna"], Code::Collation),
        (vec![pair(&[], &[Some("7")])], &[], Code::ExtraRow),
    ] {
        let found = of_examples(Kind::Rows, examples, literals).unwrap();
        assert_eq!(found.code, code, "{literals:?}");
    }
}

#[test]
fn words_sorted_otherwise_are_of_another_collation() {
    let words = vec![pair(&[Some("a")], &[Some("B")])];
    let numbers = vec![pair(&[Some("1")], &[Some("2")])];
    let an_enum = vec![pair(
        &[Some("2"), Some("small")],
        &[Some("1"), Some("large")],
    )];
    let of = |examples| of_examples(Kind::Order, examples, &[]).unwrap().code;
    assert_eq!((of(words), of(numbers)), (Code::Collation, Code::Order));
    assert_eq!(of(an_enum), Code::Order);
}

#[test]
fn a_write_that_changed_fewer_rows_was_skipped() {
    for (ours, theirs, detail, name) in [
        (1, 0, "1 rows affected against 0", "skipped_write"),
        (1, 2, "1 rows affected against 2", "extra_write"),
        (
            1,
            1,
            "transaction open true against false",
            "transaction_state",
        ),
        (1, 1, "another info text", ""),
    ] {
        let side = |affected| Told {
            affected_rows: Some(affected),
            ..told(0)
        };
        let found = told_of(&Case {
            divergence: &divergence(Kind::AffectedRows, detail, Vec::new()),
            primary: side(ours),
            shadow: side(theirs),
            class: Class::Write,
            fingerprint: "UPDATE t SET a = ?",
            literals: &[],
        });
        assert_eq!(found, name, "{detail}");
    }
}

#[test]
fn what_asks_the_server_about_itself_differs_by_that() {
    for (class, fingerprint, name) in [
        (Class::Read, "SELECT found_rows()", "session_figures"),
        (Class::Read, "SELECT @@sql_mode", "server_variable"),
        (Class::Metadata, "SHOW TABLES", "server_metadata"),
    ] {
        let examples = vec![pair(&[Some("1")], &[Some("2")])];
        let found = told_of(&Case {
            divergence: &divergence(Kind::Value, "", examples),
            primary: told(1),
            shadow: told(1),
            class,
            fingerprint,
            literals: &[],
        });
        assert_eq!(found, name, "{fingerprint}");
    }
}

use super::*;
use crate::sql::analyze;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

/// 2026-11-25 12:00:00.123456 in UTC, two hours ahead of it here.
const MOMENT: Moment = Moment {
    unix_micros: 1_795_608_000_123_456,
    offset_s: Some(7200),
};

const KNOWN: Known = Known {
    last_insert_id: Some(41),
    moment: None,
    increment: Some(2),
    zero_is_a_key: false,
    found_rows: false,
    keys: true,
    rehearsed: false,
};

fn table() -> TableFacts {
    let column = |name: &str| Column {
        name: name.into(),
        ..Column::default()
    };
    TableFacts {
        columns: vec![
            Column {
                auto_increment: true,
                ..column("id")
            },
            column("a"),
            Column {
                default_clock: Some(0),
                on_update: Some(0),
                ..column("at")
            },
        ],
        insert_triggers: false,
    }
}

fn ok(affected_rows: u64, last_insert_id: u64) -> Option<Done> {
    Some(Done {
        affected_rows,
        last_insert_id,
        ..Done::default()
    })
}

fn pinned_with(
    text: &str,
    done: Option<Done>,
    known: &Known,
    facts: &TableFacts,
    protocol: Protocol<'_>,
) -> Pinned {
    let analysis = analyze(text.as_bytes(), Dialect::default());
    let given: Vec<Given<'_>> = analysis
        .statements
        .iter()
        .map(|statement| Given {
            statement: Some(statement),
            done,
            facts: Some(facts),
        })
        .collect();
    pin(text.as_bytes(), Dialect::default(), protocol, known, &given)
}

fn of(pinned: &Pinned) -> &str {
    let text = pinned.text.as_deref().unwrap_or(b"as it was");
    std::str::from_utf8(text).unwrap()
}

fn keyed(text: &str, done: Option<Done>) -> Pinned {
    pinned_with(text, done, &KNOWN, &table(), Protocol::Text)
}

#[test]
fn a_generated_key_is_written_into_the_statement() {
    for (text, affected, wanted) in [
        (
            "INSERT INTO t (a) VALUES ('x')",
            1,
            "INSERT INTO t (a, `id`) VALUES ('x', 7)",
        ),
        (
            "insert t (a) values (1), (2) -- c",
            2,
            "insert t (a, `id`) values (1, 7), (2, 9) -- c",
        ),
        (
            "INSERT INTO t SET a = '/*', at = 1",
            1,
            "INSERT INTO t SET a = '/*', at = 1, `id` = 7",
        ),
        (
            "INSERT INTO t VALUES (NULL, 'x', 1), (0,'y',2)",
            2,
            "INSERT INTO t VALUES (7, 'x', 1), (9,'y',2)",
        ),
        (
            "INSERT INTO t VALUES (default, f(1, 2), (3))",
            1,
            "INSERT INTO t VALUES (7, f(1, 2), (3))",
        ),
        (
            "INSERT INTO t (`ID`, a) VALUES ('0', 1)",
            1,
            "INSERT INTO t (`ID`, a) VALUES (7, 1)",
        ),
        (
            "INSERT INTO t () VALUES ()",
            1,
            "INSERT INTO t (`id`) VALUES (7)",
        ),
        (
            "INSERT INTO t VALUES (), ()",
            2,
            "INSERT INTO t (`id`) VALUES (7), (9)",
        ),
        (
            "INSERT INTO t (id, a) VALUES (5, 1), (NULL, 2)",
            2,
            "INSERT INTO t (id, a) VALUES (5, 1), (7, 2)",
        ),
        (
            "INSERT IGNORE INTO db.t (a) VALUE (1)",
            1,
            "INSERT IGNORE INTO db.t (a, `id`) VALUE (1, 7)",
        ),
        (
            "REPLACE t (a) VALUES (1)",
            2,
            "REPLACE t (a, `id`) VALUES (1, 7)",
        ),
        (
            "INSERT INTO t (a) VALUES (1) ON DUPLICATE KEY UPDATE a = VALUES(a), at = 3",
            1,
            "INSERT INTO t (a, `id`) VALUES (1, 7) ON DUPLICATE KEY UPDATE a = VALUES(a), at = 3",
        ),
        (
            "INSERT INTO t SET a = 1 ON DUPLICATE KEY UPDATE a = 2",
            1,
            "INSERT INTO t SET a = 1, `id` = 7 ON DUPLICATE KEY UPDATE a = 2",
        ),
        (
            "INSERT INTO t (a) VALUES (1) AS new ON DUPLICATE KEY UPDATE a = new.a",
            1,
            "INSERT INTO t (a, `id`) VALUES (1, 7) AS new ON DUPLICATE KEY UPDATE a = new.a",
        ),
        (
            "INSERT INTO t PARTITION (p0) (a) VALUES (1)",
            1,
            "INSERT INTO t PARTITION (p0) (a, `id`) VALUES (1, 7)",
        ),
        (
            "INSERT INTO t (id, a) VALUES (@next, 1)",
            1,
            "INSERT INTO t (id, a) VALUES (7, 1)",
        ),
    ] {
        let pinned = keyed(text, ok(affected, 7));
        assert_eq!(of(&pinned), wanted);
        assert!(pinned.key && pinned.cannot.is_none(), "{text}");
        assert_eq!(pinned.last_insert_id_after, Some(7), "{text}");
    }
}

#[test]
fn what_generated_nothing_stays_as_it_is() {
    for (text, affected, id) in [
        ("INSERT INTO t (id, a) VALUES (5, 1)", 1, 5),
        (
            "INSERT INTO t VALUES (5, 1, 2), ('6', 1, 2), (-1, 1, 2)",
            3,
            6,
        ),
        ("INSERT INTO t (a) VALUES (1)", 1, 0),
        ("INSERT IGNORE INTO t (a) VALUES (1)", 0, 0),
        (
            "INSERT INTO t (a) VALUES (1) ON DUPLICATE KEY UPDATE a = 2",
            2,
            5,
        ),
        (
            "INSERT INTO t (a) VALUES (1), (2) ON DUPLICATE KEY UPDATE a = 2",
            4,
            5,
        ),
        ("INSERT INTO t (id, a) SELECT id, a FROM u", 3, 5),
        ("INSERT INTO t SELECT * FROM u", 3, 5),
    ] {
        let pinned = keyed(text, ok(affected, id));
        assert_eq!((of(&pinned), pinned.cannot), ("as it was", None), "{text}");
        assert!(!pinned.key);
        assert_eq!(pinned.last_insert_id_after, Some(41), "{text}");
    }
    let failed = keyed("INSERT INTO t (a) VALUES (1)", None);
    assert_eq!(
        (of(&failed), failed.last_insert_id_after),
        ("as it was", None)
    );
}

#[test]
fn what_the_answer_does_not_determine_is_not_pinned_and_said_so() {
    for (text, affected) in [
        ("INSERT INTO t (a) SELECT a FROM u", 1),
        ("INSERT INTO t SELECT NULL, a, b FROM u", 1),
        ("INSERT IGNORE INTO t (a) VALUES (1), (2)", 1),
        (
            "INSERT INTO t (a) VALUES (1), (2) ON DUPLICATE KEY UPDATE a = 2",
            2,
        ),
        (
            "INSERT INTO t (a) VALUES (1), (2) ON DUPLICATE KEY UPDATE a = 2",
            3,
        ),
        (
            "INSERT INTO t (id, a) VALUES (NULL, 1), (5, 2), (NULL, 3)",
            3,
        ),
        ("INSERT INTO t (id, a) VALUES (@a, 1), (@b, 2)", 2),
        ("INSERT INTO t VALUES (1)", 1),
        (
            "INSERT INTO t (a) VALUES (1) AS new(x) ON DUPLICATE KEY UPDATE a = x",
            1,
        ),
    ] {
        let pinned = keyed(text, ok(affected, 7));
        assert_eq!(of(&pinned), "as it was");
        assert!(pinned.cannot.is_some() && !pinned.key, "{text}");
    }
    let mut facts = table();
    facts.insert_triggers = true;
    let text = "INSERT INTO t (a) VALUES (1)";
    let pinned = pinned_with(text, ok(1, 7), &KNOWN, &facts, Protocol::Text);
    assert_eq!(pinned.cannot, Some("its table has triggers"));
    let unknown = Known {
        increment: None,
        ..KNOWN
    };
    let text = "INSERT INTO t (a) VALUES (1), (2)";
    let pinned = pinned_with(text, ok(2, 7), &unknown, &table(), Protocol::Text);
    assert!(pinned.cannot.is_some());
}

#[test]
fn a_bulk_upsert_that_met_nothing_is_pinned_by_its_info_text() {
    let text = "INSERT INTO t (a) VALUES (1), (2) ON DUPLICATE KEY UPDATE a = 2";
    let done = Done {
        affected_rows: 2,
        last_insert_id: 7,
        info: xxh3_64(b"Records: 2  Duplicates: 0  Warnings: 0"),
        ..Done::default()
    };
    assert!(keyed(text, Some(done)).key);
    let found_rows = Known {
        found_rows: true,
        ..KNOWN
    };
    let pinned = pinned_with(text, Some(done), &found_rows, &table(), Protocol::Text);
    assert!(pinned.cannot.is_some());
}

#[test]
fn a_zero_is_a_key_where_the_mode_says_so() {
    let known = Known {
        zero_is_a_key: true,
        ..KNOWN
    };
    let text = "INSERT INTO t VALUES (0, 1, 2)";
    let pinned = pinned_with(text, ok(1, 7), &known, &table(), Protocol::Text);
    assert_eq!((of(&pinned), pinned.key), ("as it was", false));
}

#[test]
fn a_table_that_is_not_known_is_pinned_nowhere_and_a_key_that_is_named_is_none() {
    for (text, cannot) in [
        ("INSERT INTO t (a) VALUES (1)", true),
        ("INSERT INTO t (id) VALUES (7)", false),
    ] {
        let analysis = analyze(text.as_bytes(), Dialect::default());
        let given = [Given {
            statement: analysis.statements.first(),
            done: ok(1, 7),
            facts: None,
        }];
        let pinned = pin(
            text.as_bytes(),
            Dialect::default(),
            Protocol::Text,
            &KNOWN,
            &given,
        );
        assert_eq!(
            (of(&pinned), pinned.cannot.is_some()),
            ("as it was", cannot)
        );
    }
}

#[test]
fn an_execution_gets_its_key_as_a_parameter() {
    use Parameter::{Added, Own};
    let key = |key| Added(Literal::Key(key));
    for (text, bound, wanted, parameters) in [
        (
            "INSERT INTO t (a) VALUES (?), (?)",
            vec![Bound::Unsure; 2],
            "INSERT INTO t (a, `id`) VALUES (?, ?), (?, ?)",
            vec![Own(0), key(7), Own(1), key(9)],
        ),
        (
            "INSERT INTO t (id, a) VALUES (?, ?)",
            vec![Bound::Null, Bound::Unsure],
            "INSERT INTO t (id, a) VALUES (?, ?)",
            vec![key(7), Own(1)],
        ),
        (
            "INSERT INTO t SET a = ?",
            vec![Bound::Null],
            "INSERT INTO t SET a = ?, `id` = ?",
            vec![Own(0), key(7)],
        ),
        (
            "INSERT INTO t VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE a = ?",
            vec![Bound::Zero, Bound::Unsure, Bound::Unsure, Bound::Unsure],
            "INSERT INTO t VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE a = ?",
            vec![key(7), Own(1), Own(2), Own(3)],
        ),
    ] {
        let rows = text.matches("(?").count() as u64;
        let affected = if text.contains("), (") { rows } else { 1 };
        let done = ok(affected, 7);
        let pinned = pinned_with(text, done, &KNOWN, &table(), Protocol::Prepared(&bound));
        assert_eq!(of(&pinned), wanted);
        assert_eq!(pinned.parameters, parameters, "{text}");
        assert!(pinned.key);
    }
    let bound = [Bound::Number, Bound::Unsure];
    let text = "INSERT INTO t (id, a) VALUES (?, ?)";
    let pinned = pinned_with(text, ok(1, 7), &KNOWN, &table(), Protocol::Prepared(&bound));
    assert_eq!((of(&pinned), pinned.key), ("as it was", false));
}

#[test]
fn the_last_key_is_the_primarys_and_keeps_its_column_name() {
    for (text, wanted) in [
        ("SELECT LAST_INSERT_ID()", "SELECT 41 AS `LAST_INSERT_ID()`"),
        (
            "select last_insert_id( ), @@identity as k",
            "select 41 AS `last_insert_id()`, 41 as k",
        ),
        ("SELECT @@session.last_insert_id + 1", "SELECT 41 + 1"),
        (
            "SELECT * FROM t WHERE id = LAST_INSERT_ID()",
            "SELECT * FROM t WHERE id = 41",
        ),
        (
            "UPDATE t SET a = last_insert_id() WHERE id = 1",
            "UPDATE t SET a = 41 WHERE id = 1",
        ),
        (
            "INSERT INTO t (id, a) VALUES (5, LAST_INSERT_ID())",
            "INSERT INTO t (id, a) VALUES (5, 41)",
        ),
        (
            "SELECT 'LAST_INSERT_ID()' /* LAST_INSERT_ID() */",
            "as it was",
        ),
        ("UPDATE t SET id = LAST_INSERT_ID(id + 1)", "as it was"),
    ] {
        let pinned = keyed(text, ok(1, 0));
        assert_eq!(of(&pinned), wanted);
        assert_eq!(pinned.last_insert_id, wanted != "as it was", "{text}");
    }
    let unknown = Known {
        last_insert_id: None,
        ..KNOWN
    };
    let text = "SELECT LAST_INSERT_ID()";
    let pinned = pinned_with(text, None, &unknown, &table(), Protocol::Text);
    assert!(pinned.text.is_none() && !pinned.last_insert_id);
}

#[test]
fn an_expression_in_it_sets_the_last_key() {
    let after = |text| keyed(text, ok(1, 7)).last_insert_id_after;
    assert_eq!(after("UPDATE t SET id = LAST_INSERT_ID(id + 1)"), Some(7));
    assert_eq!(after("SELECT LAST_INSERT_ID(5)"), None);
    assert_eq!(after("SET last_insert_id = 5"), None);
    assert_eq!(after("CALL p()"), None);
    assert_eq!(after("SELECT 1"), Some(41));
}

#[test]
fn of_several_statements_each_has_the_key_of_those_before() {
    let text = "INSERT INTO t (a) VALUES (1); SELECT LAST_INSERT_ID()";
    let pinned = keyed(text, ok(1, 7));
    assert_eq!(
        of(&pinned),
        "INSERT INTO t (a, `id`) VALUES (1, 7); SELECT 7 AS `LAST_INSERT_ID()`"
    );
}

fn clocked(text: &str, done: Option<Done>) -> Pinned {
    let known = Known {
        moment: Some(MOMENT),
        ..KNOWN
    };
    pinned_with(text, done, &known, &table(), Protocol::Text)
}

#[test]
fn the_clock_is_written_as_a_literal_of_the_sessions_zone() {
    for (text, wanted) in [
        (
            "SELECT a FROM t WHERE b > NOW() - INTERVAL 1 DAY",
            "SELECT a FROM t WHERE b > TIMESTAMP'2026-11-25 14:00:00' - INTERVAL 1 DAY",
        ),
        (
            "UPDATE u SET b = now(3), c = CURRENT_TIMESTAMP, d=current_timestamp(6)",
            "UPDATE u SET b = TIMESTAMP'2026-11-25 14:00:00.123', c = TIMESTAMP'2026-11-25 14:00:00', d=TIMESTAMP'2026-11-25 14:00:00.123456'",
        ),
        (
            "DELETE FROM u WHERE d < CURDATE() AND e < UTC_TIME() AND f = UNIX_TIMESTAMP()",
            "DELETE FROM u WHERE d < DATE'2026-11-25' AND e < TIME'12:00:00' AND f = 1795608000",
        ),
        (
            "DELETE FROM u WHERE YEAR(b) = EXTRACT(YEAR FROM NOW()) OR c = UTC_TIMESTAMP",
            "DELETE FROM u WHERE YEAR(b) = EXTRACT(YEAR FROM TIMESTAMP'2026-11-25 14:00:00') OR c = TIMESTAMP'2026-11-25 12:00:00'",
        ),
        ("SELECT NOW(), NOW() AS n, NOW(6) n FROM t", "as it was"),
        (
            "SELECT TIMESTAMPDIFF(SECOND, b, SYSDATE()) AS age FROM t",
            "SELECT TIMESTAMPDIFF(SECOND, b, TIMESTAMP'2026-11-25 14:00:00') AS age FROM t",
        ),
        (
            "SELECT 'NOW()', `now`, t.now FROM t WHERE UNIX_TIMESTAMP(b) = 1",
            "as it was",
        ),
        (
            "CREATE TABLE x (b DATETIME DEFAULT CURRENT_TIMESTAMP)",
            "as it was",
        ),
        ("SET @a = NOW()", "as it was"),
    ] {
        assert_eq!(of(&clocked(text, ok(1, 0))), wanted);
    }
}

#[test]
fn a_zone_that_is_not_known_leaves_what_needs_it() {
    let known = Known {
        moment: Some(Moment {
            offset_s: None,
            ..MOMENT
        }),
        ..KNOWN
    };
    let text = "UPDATE u SET a = NOW(), b = UTC_DATE()";
    let pinned = pinned_with(
        text,
        ok(1, 0),
        &known,
        &TableFacts::default(),
        Protocol::Text,
    );
    assert_eq!(of(&pinned), "UPDATE u SET a = NOW(), b = DATE'2026-11-25'");
}

#[test]
fn columns_that_the_clock_fills_are_named() {
    let at = "TIMESTAMP'2026-11-25 14:00:00'";
    for (text, wanted) in [
        (
            "INSERT INTO t (a) VALUES (1)",
            format!("INSERT INTO t (a, `id`, `at`) VALUES (1, 7, {at})"),
        ),
        (
            "INSERT INTO t SET a = 1",
            format!("INSERT INTO t SET a = 1, `id` = 7, `at` = {at}"),
        ),
        (
            "INSERT INTO t VALUES (NULL, 1, DEFAULT)",
            format!("INSERT INTO t VALUES (7, 1, {at})"),
        ),
        (
            "INSERT INTO t (a, at) VALUES (1, NOW())",
            format!("INSERT INTO t (a, at, `id`) VALUES (1, {at}, 7)"),
        ),
        (
            "INSERT INTO t VALUES ()",
            "INSERT INTO t (`id`) VALUES (7)".to_owned(),
        ),
    ] {
        assert_eq!(of(&clocked(text, ok(1, 7))), wanted);
    }
    let pinned = clocked(
        "INSERT INTO t (a, at) VALUES (NOW() + INTERVAL 1 DAY, 5)",
        ok(1, 0),
    );
    assert_eq!(filled(&pinned), [("a", false)]);
    let pinned = clocked("UPDATE t SET a = NOW() WHERE id = 1", ok(1, 0));
    assert_eq!(filled(&pinned), [("a", false)]);
}

#[test]
fn an_update_never_names_the_columns_that_the_clock_fills() {
    let info = "Rows matched: 2  Changed: 2  Warnings: 0";
    let done = Done {
        affected_rows: 2,
        info: xxh3_64(info.as_bytes()),
        ..Done::default()
    };
    for text in ["UPDATE t SET a = 1 WHERE id < 9", "UPDATE t SET at = 1"] {
        assert_eq!(of(&clocked(text, Some(done))), "as it was", "{text}");
    }
}

fn filled(pinned: &Pinned) -> Vec<(&str, bool)> {
    let all = pinned.clocked.iter();
    all.map(|it| (it.column.as_str(), it.is_unix)).collect()
}

#[test]
fn of_an_insert_from_a_query_only_the_item_with_the_clock_fills_a_column() {
    for (text, wanted) in [
        (
            "INSERT INTO t (id, a, at) SELECT id, total, NOW() FROM u WHERE b < NOW()",
            vec![("at", false)],
        ),
        (
            "INSERT INTO t (id, a, at) SELECT DISTINCT UNIX_TIMESTAMP() AS k, UNIX_TIMESTAMP() - 5 x, c FROM u",
            vec![("id", true), ("a", false)],
        ),
        (
            "INSERT INTO t (id, a) SELECT id, b FROM u WHERE c < NOW()",
            vec![],
        ),
        ("INSERT INTO t (id, a, at) SELECT u.*, NOW() FROM u", vec![]),
        ("INSERT INTO t SELECT 1, NOW(), 3", vec![("a", false)]),
        (
            "INSERT INTO t (id, a) VALUES (5, UNIX_TIMESTAMP())",
            vec![("a", true)],
        ),
        (
            "UPDATE t SET a = UNIX_TIMESTAMP(), at = NOW()",
            vec![("a", true), ("at", false)],
        ),
    ] {
        assert_eq!(filled(&clocked(text, ok(1, 0))), wanted, "{text}");
    }
}

#[test]
fn where_two_values_would_be_written_in_one_place_nothing_is_pinned_and_that_is_said() {
    for text in [
        "INSERT INTO t (id, a) VALUES (UNIX_TIMESTAMP(), NOW())",
        "INSERT INTO t (id, a) VALUES (LAST_INSERT_ID() + 1, 2)",
        "INSERT INTO t (id, a) VALUES (NULLIF(NOW(), 5), 2)",
    ] {
        let pinned = clocked(text, ok(1, 7));
        assert_eq!(of(&pinned), "as it was", "{text}");
        assert!(!pinned.key && !pinned.last_insert_id, "{text}");
        assert!(
            pinned.clocked.is_empty() && pinned.cannot.is_some(),
            "{text}"
        );
    }
}

#[test]
fn a_rehearsed_insert_gets_a_key_of_its_own_and_its_last_key_is_the_primarys() {
    let known = Known {
        rehearsed: true,
        ..KNOWN
    };
    let text = "INSERT INTO t (a) VALUES (LAST_INSERT_ID())";
    let pinned = pinned_with(text, ok(1, 7), &known, &table(), Protocol::Text);
    assert_eq!(of(&pinned), "INSERT INTO t (a) VALUES (41)");
    assert!(pinned.key && pinned.cannot.is_none());
    assert_eq!(pinned.last_insert_id_after, Some(7));
}

#[test]
fn an_execution_gets_the_clock_as_a_parameter_with_its_type() {
    let known = Known {
        moment: Some(MOMENT),
        ..KNOWN
    };
    let text = "UPDATE u SET a = ?, b = NOW(6) - INTERVAL ? DAY WHERE c = ?";
    let bound = [Bound::Unsure; 3];
    let pinned = pinned_with(
        text,
        ok(1, 0),
        &known,
        &TableFacts::default(),
        Protocol::Prepared(&bound),
    );
    assert_eq!(
        of(&pinned),
        "UPDATE u SET a = ?, b = CAST(? AS DATETIME(6)) - INTERVAL ? DAY WHERE c = ?"
    );
    assert_eq!(
        pinned.parameters,
        [
            Parameter::Own(0),
            Parameter::Added(Literal::DateTime("2026-11-25 14:00:00.123456".into(), 6)),
            Parameter::Own(1),
            Parameter::Own(2),
        ]
    );
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[1-9][0-9]{0,5}".prop_map(|it| it),
        "[a-z ]{0,6}".prop_map(|it| format!("'{it}'")),
        Just("'it''s (, NOW() '".to_owned()),
        Just("\"a\\\" ) VALUES (\"".to_owned()),
        Just("'\\', ('".to_owned()),
        Just("NOW()".to_owned()),
        Just("f(1, (2), 'x')".to_owned()),
        Just("/* ) */ 1".to_owned()),
        Just("(SELECT 1)".to_owned()),
    ]
}

fn dialects() -> impl Strategy<Value = Dialect> {
    (any::<bool>(), any::<bool>()).prop_map(|(ansi_quotes, no_backslash_escapes)| Dialect {
        ansi_quotes,
        no_backslash_escapes,
    })
}

/// The bytes of each token.
fn tokens(text: &[u8], dialect: Dialect) -> Vec<Vec<u8>> {
    let all: Vec<Token> = Lexer::new(text, dialect).collect();
    all.iter()
        .map(|token| text[token.start..token.end].to_vec())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where only columns are added, the tokens are the client's and the added ones between.
    #[test]
    fn what_the_client_wrote_stays(rows in proptest::collection::vec(value(), 1..5), dialect in dialects()) {
        let list: Vec<String> = rows.iter().map(|value| format!("({value})")).collect();
        let text = format!("INSERT INTO t (a) VALUES {}", list.join(","));
        let analysis = analyze(text.as_bytes(), dialect);
        let facts = table();
        let given = [Given {
            statement: analysis.statements.first(),
            done: ok(rows.len() as u64, 7),
            facts: Some(&facts),
        }];
        let pinned = pin(text.as_bytes(), dialect, Protocol::Text, &KNOWN, &given);
        if let Some(new) = &pinned.text {
            let (old, new) = (tokens(text.as_bytes(), dialect), tokens(new, dialect));
            let mut left = old.iter().peekable();
            let mut added = Vec::new();
            for token in &new {
                if left.peek() == Some(&token) {
                    left.next();
                } else {
                    added.push(String::from_utf8_lossy(token).into_owned());
                }
            }
            prop_assert!(left.next().is_none(), "{} lost something", text);
            prop_assert!(added.iter().all(|it| {
                it == "," || it == "`id`" || it.bytes().all(|byte| byte.is_ascii_digit())
            }), "{:?} added", added);
        }
    }

    #[test]
    fn nothing_panics_and_the_parameters_are_those_of_the_text(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "INSERT", "INTO", "t", "(", ")", ",", "VALUES", "NULL", "?", "NOW()", "SET", "a", "=", "id", "0", "SELECT",
            "FROM", "UPDATE", "WHERE", "LAST_INSERT_ID()", ";", "ON", "DUPLICATE", "KEY", "'x'", "@@identity", "AS", ".",
        ]), 0..24),
        affected in 0u64..4, id in 0u64..3,
    ) {
        let text = words.join(" ");
        let known = Known { moment: Some(MOMENT), ..KNOWN };
        let bound = [Bound::Null; 24];
        let facts = table();
        let pinned = pinned_with(&text, ok(affected, id), &known, &facts, Protocol::Prepared(&bound));
        if let Some(new) = &pinned.text {
            let new: Vec<Token> = Lexer::new(new, Dialect::default()).collect();
            let questions = new.iter().filter(|token| token.kind == Kind::Param).count();
            prop_assert_eq!(questions, pinned.parameters.len());
        }
        let _ = pinned_with(&text, ok(affected, id), &known, &facts, Protocol::Text);
    }
}

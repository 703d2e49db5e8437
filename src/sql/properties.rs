//! What holds for any text.

use super::lexer::{Kind, Lexer};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn dialects() -> impl Strategy<Value = Dialect> {
    (any::<bool>(), any::<bool>()).prop_map(|(ansi_quotes, no_backslash_escapes)| Dialect {
        ansi_quotes,
        no_backslash_escapes,
    })
}

/// Bytes that are likely to mean something to the lexer.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let bit = prop_oneof![
        8 => proptest::sample::select(vec![
            "SELECT", "FROM", "t", "`a``b`", "WHERE", "INSERT INTO", "VALUES", "UPDATE", "SET", "(", ")", ",", ";", ".",
            "ORDER BY", "GROUP BY", "LIMIT", "IN", "WITH", "AS", "UNION", "JOIN", "ON", "'x'", "\"y\"", "1", "2.5", "-", "+",
            "NULL", "TRUE", "@a", "@@b", ":=", "=", "*", "/* c */", "/*! 40101", "*/", "-- d\n", "#e\n", "?", "_utf8", "ROW",
            "DELETE", "REPLACE", "FOR UPDATE", "BEGIN", "COMMIT", "SHOW", "CREATE TABLE", "CALL", "USE", "COUNT", "x'4d'",
            "'", "\"", "`", "\\", "@'f'", "IS", "NOT", "VALUE", "BY", "DUPLICATE KEY", "INTO", "@", "/*", "\\N", "0x1f", "1e5",
            "SHOW CREATE TABLE", "END", "OFFSET", "ASC", "DESC", "DIV", "N'g'", "{", "}", "PARTITION", "f", "a.b.c",
            "1e+5", "1.5e-3", "1.e+5",
        ]).prop_map(|word: &str| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..4),
    ];
    let gap = proptest::sample::select(vec!["", " ", "\n", "  "]);
    proptest::collection::vec((bit, gap), 0..40).prop_map(|bits| {
        let mut text = Vec::new();
        for (bit, gap) in bits {
            text.extend(bit);
            text.extend(gap.as_bytes());
        }
        text
    })
}

/// All of it, on anything.
fn exercise(text: &[u8], dialect: Dialect) -> Analysis {
    let names = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let _ = redact(text, dialect);
    let _ = redact_error(&String::from_utf8_lossy(text));
    let _ = map_databases(text, dialect, &names);
    analyze(text, dialect)
}

/// A literal, the secret that it holds, and its kind.
fn literal() -> impl Strategy<Value = (String, String)> {
    let digits = "[1-9][0-9]{5,9}";
    let word = "zq[a-z]{6,10}";
    prop_oneof![
        digits.prop_map(|d| (d.clone(), d)),
        digits.prop_map(|d| (format!("-{d}"), d)),
        digits.prop_map(|d| (format!("{d}.25e3"), d)),
        digits.prop_map(|d| (format!(".{d}"), d)),
        digits.prop_map(|d| (format!("0x{d}"), d)),
        word.prop_map(|w| (format!("'{w}'"), w)),
        word.prop_map(|w| (format!("\"{w}\""), w)),
        word.prop_map(|w| (format!("'it''s {w}'"), w)),
        word.prop_map(|w| (format!("'; -- {w} /* '"), w)),
        word.prop_map(|w| (format!("'a\\'{w}\\\\'"), w)),
        word.prop_map(|w| (format!("_utf8mb4 '{w}'"), w)),
        word.prop_map(|w| (format!("N'{w}'"), w)),
        digits.prop_map(|d| (format!("x'{d}'"), d)),
        word.prop_map(|w| (format!("'{w}' '{w}'"), w)),
    ]
}

/// The same text with other digits and other letters in its quotes, as far as a coarse look tells them.
fn with_other_literals(text: &[u8], seed: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut state, mut quote) = (seed, None);
    for &byte in text {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let draw = state >> 60;
        match (quote, byte) {
            (None, b'0'..=b'9') => {
                out.extend(format!("{}", state >> 33 >> (draw * 2)).into_bytes());
                if draw == 0 {
                    out.extend(b".5");
                }
            }
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                out.push(byte);
            }
            (Some(open), _) if open == byte => {
                quote = None;
                out.push(byte);
            }
            (Some(_), b'a'..=b'z') => out.extend(std::iter::repeat_n(b'q', (draw % 4) as usize)),
            _ => out.push(byte),
        }
    }
    out
}

const TEMPLATES: &[&str] = &[
    "SELECT a FROM t WHERE b = $1 AND c > $2",
    "SELECT $1, $2 FROM t",
    "SELECT a FROM t WHERE b IN ($1, $2)",
    "SELECT f($1), g(a, $2) FROM t ORDER BY a, $1",
    "SELECT a FROM t WHERE b BETWEEN $1 AND $2 ORDER BY b LIMIT 5",
    "INSERT INTO t (a, b) VALUES ($1, $2)",
    "INSERT INTO t VALUES ($1, NOW()), ($2, NOW())",
    "UPDATE t SET a = $1, b = b + $2 WHERE c = $1",
    "DELETE FROM t WHERE a = $1 OR b LIKE $2",
    "SET @a = $1, b = $2",
    "SELECT a AS x FROM t GROUP BY a HAVING MAX(b) > $1 AND x < $2",
    "CALL p($1, $2)",
    "SELECT CASE WHEN a = $1 THEN $2 ELSE $1 END FROM t",
    "INSERT INTO t SELECT $1, b FROM u WHERE (a, b) IN (($1, $2), ($2, $1))",
    "CREATE USER a IDENTIFIED BY $1; SELECT $2",
];

fn fill(template: &str, one: &str, two: &str) -> String {
    template.replace("$1", one).replace("$2", two)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_on_any_bytes(text in proptest::collection::vec(any::<u8>(), 0..200), dialect in dialects()) {
        exercise(&text, dialect);
    }

    #[test]
    fn nothing_panics_on_scraps_of_sql(text in soup(), dialect in dialects()) {
        let analysis = exercise(&text, dialect);
        prop_assert!(!analysis.statements.is_empty());
        prop_assert_eq!(Some(analysis.class), analysis.statements.iter().map(|s| s.class).max());
    }

    #[test]
    fn texts_with_one_skeleton_have_one_fingerprint(text in soup(), seed in any::<u64>(), dialect in dialects()) {
        let other = with_other_literals(&text, seed);
        let (mut one, mut another) = (Vec::new(), Vec::new());
        let both = skeleton::strip(&text, dialect, &mut one)
            && skeleton::strip(&other, dialect, &mut another);
        if both && one == another {
            let [first, second] = [&text, &other].map(|text| analyze(text, dialect).fingerprint);
            prop_assert_eq!(first, second, "{} and {}", String::from_utf8_lossy(&text), String::from_utf8_lossy(&other));
        }
    }

    #[test]
    fn literals_alone_make_no_other_skeleton(template in proptest::sample::select(TEMPLATES), numbers in any::<[u32; 4]>(), words in any::<[char; 2]>()) {
        let quoted = |word: char| format!("'{}'", word.to_string().replace(['\'', '\\'], ""));
        let [one, two, three, four] = numbers.map(|n| (u64::from(n) + 10_000).to_string());
        let texts = [
            (fill(template, &one, &quoted(words[0])), fill(template, &two, &quoted(words[1]))),
            (fill(template, &three, &one), fill(template, &format!("{four}.5"), &two)),
        ];
        for (text, other) in texts {
            let mut skeletons = [Vec::new(), Vec::new()];
            let [own, others] = &mut skeletons;
            prop_assert!(skeleton::strip(text.as_bytes(), Dialect::default(), own));
            prop_assert!(skeleton::strip(other.as_bytes(), Dialect::default(), others));
            prop_assert_eq!(&skeletons[0], &skeletons[1]);
        }
    }

    #[test]
    fn tokens_follow_each_other(text in soup(), dialect in dialects()) {
        let mut end = 0;
        for token in Lexer::new(&text, dialect) {
            prop_assert!(token.start >= end && token.end >= token.start && token.end <= text.len());
            prop_assert!(token.end > token.start || token.kind == Kind::Broken);
            end = token.end;
        }
    }

    #[test]
    fn a_fingerprint_is_its_own_fingerprint(text in soup(), dialect in dialects()) {
        let first = analyze(&text, dialect);
        let again = analyze(first.fingerprint.as_bytes(), Dialect::default());
        prop_assert_eq!(&again.fingerprint, &first.fingerprint);
        prop_assert_eq!(again.class, first.class);
        prop_assert_eq!(again.statements.len(), first.statements.len());
    }

    #[test]
    fn no_literal_is_in_a_fingerprint_or_a_redacted_text((one, secret) in literal(), (two, other) in literal(), at in 0..TEMPLATES.len()) {
        let text = fill(TEMPLATES[at], &one, &two);
        let analysis = analyze(text.as_bytes(), Dialect::default());
        let redacted = redact(text.as_bytes(), Dialect::default());
        for secret in [secret, other] {
            prop_assert!(!analysis.fingerprint.contains(&secret), "{} in {}", secret, analysis.fingerprint);
            prop_assert!(!redacted.contains(&secret), "{} in {}", secret, redacted);
        }
    }

    #[test]
    fn other_literals_give_the_same_fingerprint((one, _) in literal(), (two, _) in literal(), at in 0..TEMPLATES.len()) {
        let first = analyze(fill(TEMPLATES[at], &one, &two).as_bytes(), Dialect::default());
        let other = analyze(fill(TEMPLATES[at], "'a'", "7").as_bytes(), Dialect::default());
        prop_assert_eq!(&first.fingerprint, &other.fingerprint);
        let prepared = analyze(fill(TEMPLATES[at], "?", "?").as_bytes(), Dialect::default());
        prop_assert_eq!(&first.fingerprint, &prepared.fingerprint);
        prop_assert_eq!(first.digest, prepared.digest);
    }

    #[test]
    fn a_catalog_says_what_an_analysis_says(texts in proptest::collection::vec(soup(), 1..20), dialect in dialects()) {
        let catalog = Catalog::new(16);
        for text in texts.iter().chain(&texts) {
            let remembered = catalog.analyze(text, dialect);
            let fresh = analyze(text, dialect);
            prop_assert_eq!(format!("{remembered:?}"), format!("{fresh:?}"));
        }
    }

    #[test]
    fn mapping_nothing_changes_nothing(text in soup(), dialect in dialects()) {
        let names = BTreeMap::from([("no_such_name".to_owned(), "other".to_owned())]);
        if let Some(mapped) = map_databases(&text, dialect, &names) {
            prop_assert_eq!(mapped, text);
        }
    }

    #[test]
    fn no_value_is_in_a_redacted_error(word in "zq[a-z]{6,10}", number in "[1-9][0-9]{5,9}", at in 0..ERRORS.len()) {
        for (template, _) in &ERRORS[at..=at] {
            let text = template.replace("$w", &word).replace("$n", &number);
            let redacted = redact_error(&text);
            prop_assert!(!redacted.contains(&word), "{} in {}", word, redacted);
            prop_assert!(!redacted.contains(&number), "{} in {}", number, redacted);
        }
    }
}

/// Errors with the users' data, and what is left of them.
const ERRORS: &[(&str, &str)] = &[
    (
        "Duplicate entry '$w-$n' for key 'PRIMARY'",
        "Duplicate entry '?' for key 'PRIMARY'",
    ),
    (
        "Duplicate entry 'O'Brien $w' for key 't.name'",
        "Duplicate entry '?' for key 't.name'",
    ),
    (
        "Duplicate entry 'it's' for key '$w' for key 'k'",
        "Duplicate entry '?' for key 'k'",
    ),
    (
        "Duplicate entry 'x' at row $w' for key 'k'",
        "Duplicate entry '?' for key 'k'",
    ),
    (
        "Incorrect integer value: 'x' in 'where clause' $w' for column 'k' at row 1",
        "Incorrect integer value: '?' for column 'k' at row ?",
    ),
    (
        "You have an error in your SQL syntax near 'FORM t WHERE a = 'b' for key '$w'' at line 1",
        "You have an error in your SQL syntax near '?' at line ?",
    ),
    (
        "Incorrect integer value: '$w' for column 'k' at row 1",
        "Incorrect integer value: '?' for column 'k' at row ?",
    ),
    (
        "Data too long for column 'c' at row $n",
        "Data too long for column 'c' at row ?",
    ),
    (
        "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the right syntax to use near 'FORM t WHERE a = '$w' and b = $n' at line 1",
        "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the right syntax to use near '?' at line ?",
    ),
    (
        "Access denied for user '$w'@'10.0.0.1' (using password: YES)",
        "Access denied for user '?' (using password: YES)",
    ),
    (
        "target: app.-80.primary: vttablet: rpc error: code = AlreadyExists desc = Duplicate entry '$n' for key 't.PRIMARY' (errno 1062) (sqlstate 23000) (CallerID: app): Sql: \"insert into t(id, a) values ($n, '$w')\", BindVars: {id: \"type:INT64 value:\\\"$n\\\"\"}",
        "target: app.-?.primary: vttablet: rpc error: code = AlreadyExists desc = Duplicate entry '?' for key 't.PRIMARY' (errno ?) (sqlstate ?)",
    ),
    (
        "Truncated incorrect DOUBLE value: '$w'",
        "Truncated incorrect DOUBLE value: '?'",
    ),
    (
        "Out of range value for column 'a' at row $n",
        "Out of range value for column 'a' at row ?",
    ),
    (
        "syntax error at position $n near '$w'",
        "syntax error at position ? near '?'",
    ),
    (
        "BIGINT UNSIGNED value is out of range in '(`t`.`a` - $n)'",
        "BIGINT UNSIGNED value is out of range in '?'",
    ),
    (
        "Cannot add or update a child row: a foreign key constraint fails (`app`.`t`, CONSTRAINT `fk` FOREIGN KEY (`a`) REFERENCES `u` (`id`))",
        "Cannot add or update a child row: a foreign key constraint fails (`app`.`t`, CONSTRAINT `fk` FOREIGN KEY (`a`) REFERENCES `u` (`id`))",
    ),
    (
        "Unknown column 'abc' in 'field list'",
        "Unknown column 'abc' in 'field list'",
    ),
    ("Table 'app.t' doesn't exist", "Table 'app.t' doesn't exist"),
    (
        "VT12001: unsupported: REPLACE INTO with sharded keyspace",
        "VT12001: unsupported: REPLACE INTO with sharded keyspace",
    ),
    (
        "Unknown column '$n' in 'where clause'",
        "Unknown column '?' in 'where clause'",
    ),
    (
        "Incorrect datetime value: '$n-01-01' for column 'd' at row 3",
        "Incorrect datetime value: '?' for column 'd' at row ?",
    ),
    (
        "Invalid JSON text: \"Invalid value.\" at position $n in value for column 't.j'.",
        "Invalid JSON text: '?' at position ? in value for column 't.j'.",
    ),
    (
        "Lock wait timeout exceeded; try restarting transaction",
        "Lock wait timeout exceeded; try restarting transaction",
    ),
];

#[test]
fn errors_keep_their_words_and_names_and_lose_their_values() {
    for (text, wanted) in ERRORS {
        let text = text.replace("$w", "zqsecret").replace("$n", "123456");
        assert_eq!(&redact_error(&text), wanted, "{text}");
    }
}

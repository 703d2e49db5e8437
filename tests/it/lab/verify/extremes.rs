//! Every type that can be a key, at its extremes, in ranges of two rows: each row is read, found by its key on either
//! side, and nothing is taken away that a literal did not find. And what can be no key, for it would be walked wrongly.

use super::planted::{doors, make, run};
use super::{table, verify};
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use serde_json::json;

const FAST: &str = "[verify]\nshare = 1.0\nrange_rows = 2";

/// A table's name, the type of its key, the key's values, and how it is walked.
struct Extremes(
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
);

const KEYS: &[Extremes] = &[
    Extremes(
        "x_bit",
        "BIT(64)",
        &[
            "0",
            "1",
            "255",
            "256",
            "9223372036854775807",
            "9223372036854775808",
            "9223372036854775809",
            "18446744073709551615",
        ],
        "ranges",
    ),
    Extremes(
        "x_big",
        "BIGINT",
        &[
            "-9223372036854775808",
            "-1",
            "0",
            "1",
            "9223372036854775807",
        ],
        "ranges",
    ),
    Extremes(
        "x_unsigned",
        "BIGINT UNSIGNED",
        &[
            "0",
            "1",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
        ],
        "ranges",
    ),
    Extremes(
        "x_decimal",
        "DECIMAL(40,10)",
        &[
            "-999999999999999999999999999999.9999999999",
            "-0.0000000001",
            "0",
            "0.0000000001",
            "999999999999999999999999999999.9999999998",
            "999999999999999999999999999999.9999999999",
        ],
        "ranges",
    ),
    Extremes(
        "x_year",
        "YEAR",
        &["'0000'", "1901", "2000", "2001", "2155"],
        "ranges",
    ),
    Extremes(
        "x_date",
        "DATE",
        &[
            "'0000-00-00'",
            "'1000-01-01'",
            "'2024-02-29'",
            "'9999-12-31'",
        ],
        "ranges",
    ),
    Extremes(
        "x_datetime",
        "DATETIME(6)",
        &[
            "'0000-00-00 00:00:00'",
            "'1000-01-01 00:00:00.000001'",
            "'2024-02-29 12:00:00.999999'",
            "'2024-02-29 12:00:01'",
            "'9999-12-31 23:59:59.999999'",
        ],
        "ranges",
    ),
    Extremes(
        "x_timestamp",
        "TIMESTAMP(6) DEFAULT '2000-01-01 00:00:00'",
        &[
            "'1970-01-01 00:00:01'",
            "'2024-03-31 01:59:59.999999'",
            "'2024-03-31 02:00:00'",
            "'2024-10-27 02:30:00'",
            "'2038-01-19 03:14:07.999999'",
        ],
        "ranges",
    ),
    Extremes(
        "x_time",
        "TIME(3)",
        &[
            "'-838:59:59'",
            "'-00:00:00.001'",
            "'00:00:00'",
            "'00:00:00.001'",
            "'838:59:59'",
        ],
        "ranges",
    ),
    Extremes(
        "x_varbinary",
        "VARBINARY(9)",
        &[
            "''", "x'00'", "x'0000'", "x'27'", "x'5C'", "x'80'", "x'FF'", "x'FF00'",
        ],
        "ranges",
    ),
    Extremes(
        "x_binary",
        "BINARY(3)",
        &["x'000000'", "x'610000'", "x'616161'", "x'FFFFFF'"],
        "ranges",
    ),
    Extremes(
        "x_latin",
        "VARCHAR(9) CHARACTER SET latin1",
        &[
            "''", "'a'", "'B'", "'é'", "'ÿ'", "'_'", "'%'", "''''", "'\\\\'", "'?'",
        ],
        "lookups",
    ),
    Extremes(
        "x_utf",
        "VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        &[
            "''", "'a'", "'B'", "'é'", "'😀'", "'ÿ'", "'_'", "'z'", "'中'",
        ],
        "lookups",
    ),
];

#[tokio::test]
async fn at_its_extremes_every_key_is_walked_to_its_end_and_found() {
    let lab = Lab::get();
    let (mut legacy, mut vtgate) = doors(&lab).await;
    for Extremes(name, kind, keys, _) in KEYS {
        let rows: Vec<String> = keys.iter().map(|key| format!("({key}, 0)")).collect();
        for conn in [&mut legacy, &mut vtgate] {
            make(conn, name, &format!("k {kind} NOT NULL PRIMARY KEY, v INT")).await;
            run(
                conn,
                &format!("INSERT INTO {name} VALUES {}", rows.join(", ")),
            )
            .await;
        }
    }
    let setup = Setup {
        more: FAST.to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let tables = ["--tables", "scratch.x_*"];
    let (_, told) = verify(&proxy.admin, &tables);
    for Extremes(name, _, keys, way) in KEYS {
        let one = table(&told, name);
        let found = (&one["outcome"], &one["way"], &one["rows_primary"]);
        let expected = (&json!("equal"), &json!(way), &json!(keys.len()));
        assert_eq!(found, expected, "{name}: {one:#}");
    }
    // A row that is not read is not found to differ.
    for Extremes(name, ..) in KEYS {
        run(&mut vtgate, &format!("UPDATE {name} SET v = 1")).await;
    }
    let apply = [&tables[..], &["--repair", "apply"]].concat();
    let (_, told) = verify(&proxy.admin, &apply);
    for Extremes(name, _, keys, _) in KEYS {
        let one = table(&told, name);
        assert_eq!(
            one["differences"],
            json!({"changed": keys.len()}),
            "{name}: {one:#}"
        );
        assert_eq!(one["repaired"], json!(keys.len()), "{name}: {one:#}");
    }
    let (code, told) = verify(&proxy.admin, &tables);
    assert_eq!(
        (code, &told["run"]["outcome"]),
        (0, &json!("equal")),
        "{told:#}"
    );
    for Extremes(name, ..) in KEYS {
        for conn in [&mut legacy, &mut vtgate] {
            run(conn, &format!("DROP TABLE {name}")).await;
        }
    }
}

/// Finding: ordered by its numbers and compared by its words, half of such a table was never read.
#[tokio::test]
async fn a_key_with_an_enum_is_not_walked() {
    let lab = Lab::get();
    let (mut legacy, mut vtgate) = doors(&lab).await;
    const COLUMNS: &str =
        "s ENUM('new','open','archived') NOT NULL, id INT NOT NULL, v INT, PRIMARY KEY (s, id)";
    let of = |word: &str| {
        (1..=7)
            .map(move |id| format!("('{word}', {id}, 0)"))
            .collect::<Vec<_>>()
    };
    let rows = [of("new"), of("archived")].concat().join(", ");
    for conn in [&mut legacy, &mut vtgate] {
        make(conn, "e_enum", COLUMNS).await;
        run(conn, &format!("INSERT INTO e_enum VALUES {rows}")).await;
    }
    run(
        &mut vtgate,
        "DELETE FROM e_enum WHERE s = 'archived' AND id <= 3",
    )
    .await;
    let setup = Setup {
        more: FAST.to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let (code, told) = verify(&proxy.admin, &["--tables", "scratch.e_*"]);
    assert_eq!(
        (code, &table(&told, "e_enum")["outcome"]),
        (2, &json!("unfinished")),
        "{told:#}"
    );
    let (code, told) = verify(&proxy.admin, &["--tables", "scratch.e_enum"]);
    let one = table(&told, "e_enum");
    assert_eq!(
        (code, &one["differences"]),
        (1, &json!({"missing": 3})),
        "{told:#}"
    );
    assert_eq!(
        (&one["way"], &one["rows_primary"]),
        (&json!("buckets"), &json!(14)),
        "{told:#}"
    );
    for conn in [&mut legacy, &mut vtgate] {
        run(conn, "DROP TABLE e_enum").await;
    }
}

/// Finding: where a server says `?` for a character, a literal `?` on the other side was the same.
#[tokio::test]
async fn a_character_without_utf8_is_no_question_mark() {
    let lab = Lab::get();
    let (mut legacy, mut vtgate) = doors(&lab).await;
    const GBK: &str = "id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET gbk";
    const UTF: &str = "id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET utf8mb4";
    const KEY: &str = "v VARCHAR(9) CHARACTER SET gbk PRIMARY KEY";
    const HERE: &str = "(1, x'A6D9'), (2, '?'), (3, '中?'), (4, NULL)";
    const THERE: &str = "(1, '?'), (2, '?'), (3, '中?'), (4, NULL)";
    for (name, there, rows) in [("g_lost", UTF, THERE), ("g_same", GBK, HERE)] {
        make(&mut legacy, name, GBK).await;
        make(&mut vtgate, name, there).await;
        run(&mut legacy, &format!("INSERT INTO {name} VALUES {HERE}")).await;
        run(&mut vtgate, &format!("INSERT INTO {name} VALUES {rows}")).await;
    }
    for conn in [&mut legacy, &mut vtgate] {
        make(conn, "g_key", KEY).await;
        run(conn, "INSERT INTO g_key VALUES (x'A6D9'), (x'A6DA'), ('?')").await;
    }
    let setup = Setup {
        more: FAST.to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let tables = ["--tables", "scratch.g_lost,scratch.g_same,scratch.g_key"];
    let (_, told) = verify(
        &proxy.admin,
        &[&tables[..], &["--repair", "apply"]].concat(),
    );
    let lost = table(&told, "g_lost");
    assert_eq!(lost["differences"], json!({"changed": 1}), "{told:#}");
    let why = lost["rows"][0]["repaired"].to_string();
    assert!(why.contains("cannot be told in UTF-8"), "{told:#}");
    for name in ["g_same", "g_key"] {
        assert_eq!(table(&told, name)["outcome"], "equal", "{told:#}");
    }
    assert_eq!(table(&told, "g_key")["way"], "buckets", "{told:#}");
    run(&mut vtgate, "UPDATE g_same SET v = x'A6DA' WHERE id = 1").await;
    run(
        &mut vtgate,
        "UPDATE g_key SET v = x'A6DB' WHERE v = x'A6DA'",
    )
    .await;
    let (_, told) = verify(&proxy.admin, &tables);
    let differences = |name| table(&told, name)["differences"].clone();
    assert_eq!(differences("g_same"), json!({"changed": 1}), "{told:#}");
    assert_eq!(
        differences("g_key"),
        json!({"missing": 1, "extra": 1}),
        "{told:#}"
    );
    for conn in [&mut legacy, &mut vtgate] {
        for name in ["g_lost", "g_same", "g_key"] {
            run(conn, &format!("DROP TABLE {name}")).await;
        }
    }
}

/// What is left out is told: a view is no table.
#[tokio::test]
async fn a_view_is_told_as_not_compared() {
    let lab = Lab::get();
    let (mut legacy, mut vtgate) = doors(&lab).await;
    for conn in [&mut legacy, &mut vtgate] {
        make(conn, "w_of", "id INT PRIMARY KEY").await;
    }
    legacy
        .query_drop("CREATE OR REPLACE VIEW w_view AS SELECT id FROM w_of")
        .await
        .expect("a view");
    let proxy = Proxy::start(&lab);
    let (code, told) = verify(&proxy.admin, &["--tables", "scratch.w_*"]);
    run(&mut legacy, "DROP VIEW w_view").await;
    for conn in [&mut legacy, &mut vtgate] {
        run(conn, "DROP TABLE w_of").await;
    }
    assert_eq!(code, 0, "{told:#}");
    let notes = told["run"]["notes"].to_string();
    assert!(notes.contains("of scratch, w_view"), "{told:#}");
}

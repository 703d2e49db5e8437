//! Keys that two servers order otherwise, and tables without one.

use super::planted::{doors, make, run};
use super::{table, verify};
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

/// A table without a key is read only where it is named.
const ALL: &str = "scratch.k_*,scratch.k_none";

#[tokio::test]
async fn keys_of_characters_and_tables_without_one_are_compared_too() {
    let lab = Lab::get();
    let (mut legacy, mut vtgate) = doors(&lab).await;
    const LETTERS: &str = "k VARCHAR(9) CHARACTER SET latin1 PRIMARY KEY, v INT";
    const LETTERS_THERE: &str =
        "k VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, v INT";
    for (conn, letters) in [(&mut legacy, LETTERS), (&mut vtgate, LETTERS_THERE)] {
        make(conn, "k_letters", letters).await;
        make(conn, "k_none", "a INT, b VARCHAR(9)").await;
        make(
            conn,
            "k_two",
            "a INT NOT NULL, b VARCHAR(9) NOT NULL, c INT, PRIMARY KEY (a, b)",
        )
        .await;
        make(
            conn,
            "k_two_numbers",
            "a INT NOT NULL, b INT NOT NULL, c INT, PRIMARY KEY (a, b)",
        )
        .await;
        run(conn, "INSERT INTO k_letters VALUES ('a', 1), ('B', 2), ('c', 3), ('Z', 4), ('é', 5), ('_', 6)").await;
        run(
            conn,
            "INSERT INTO k_none VALUES (1, 'x'), (1, 'x'), (2, NULL), (3, 'z')",
        )
        .await;
        run(
            conn,
            "INSERT INTO k_two VALUES (1, 'a', 1), (1, 'B', 2), (2, 'a', 3)",
        )
        .await;
        run(
            conn,
            "INSERT INTO k_two_numbers VALUES (1, 1, 1), (1, 2, 2), (2, 1, 3), (2, 2, 4)",
        )
        .await;
    }
    let setup = Setup {
        // Ranges of two rows: keys that two collations order otherwise lie in other ranges.
        more: "[verify]\nshare = 1.0\nrange_rows = 2".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let (code, told) = verify(&proxy.admin, &["--tables", ALL]);
    let outcomes = |told: &Value| {
        ["k_letters", "k_none", "k_two", "k_two_numbers"].map(|name| {
            let one = table(told, name);
            (
                one["outcome"].as_str().unwrap_or_default().to_owned(),
                one["way"].as_str().unwrap_or_default().to_owned(),
            )
        })
    };
    let expected =
        ["lookups", "buckets", "lookups", "ranges"].map(|way| ("equal".to_owned(), way.to_owned()));
    assert_eq!((code, outcomes(&told)), (0, expected), "{told:#}");

    for statement in [
        "UPDATE k_letters SET k = 'b' WHERE k = 'B'",
        "INSERT INTO k_letters VALUES ('zz', 7)",
        "DELETE FROM k_none WHERE a = 1 LIMIT 1",
        "UPDATE k_two SET c = 9 WHERE a = 1 AND b = 'B'",
        "DELETE FROM k_two_numbers WHERE a = 2 AND b = 1",
    ] {
        run(&mut vtgate, statement).await;
    }
    let (code, told) = verify(&proxy.admin, &["--tables", ALL]);
    let differences = ["k_letters", "k_none", "k_two", "k_two_numbers"]
        .map(|name| table(&told, name)["differences"].clone());
    let expected = [
        json!({"missing": 1, "extra": 2}),
        json!({"missing": 1}),
        json!({"changed": 1}),
        json!({"missing": 1}),
    ];
    assert_eq!((code, differences), (1, expected), "{told:#}");
    // The ledger redacts: no key is told.
    assert_eq!(table(&told, "k_letters")["rows"][0]["key"], Value::Null);

    what_has_a_key_is_repaired(&proxy);

    // A table that the shadow lacks is no equal one, and what was not read is said.
    run(&mut vtgate, "DROP TABLE k_two").await;
    let (code, told) = verify(
        &proxy.admin,
        &[
            "--tables",
            "scratch.k_two,scratch.k_two_numbers",
            "--sample",
            "50%",
        ],
    );
    assert_eq!(code, 1, "{told:#}");
    assert_eq!(table(&told, "k_two")["schema"][0]["what"], "table");
    assert_eq!(table(&told, "k_two")["rows_primary"], 0);
    let (code, told) = verify(
        &proxy.admin,
        &["--tables", "scratch.k_two_numbers", "--where", "a = 1"],
    );
    assert_eq!(
        (code, &table(&told, "k_two_numbers")["outcome"]),
        (2, &json!("equal_in_part")),
        "{told:#}"
    );
    assert_eq!(table(&told, "k_two_numbers")["rows_primary"], 2);
    drop_all(&mut [legacy, vtgate]).await;
}

/// By the very bytes of it; what has none is told.
fn what_has_a_key_is_repaired(proxy: &Proxy) {
    let apply = ["--tables", ALL, "--repair", "apply"];
    let (_, told) = verify(&proxy.admin, &apply);
    let repaired = ["k_letters", "k_none", "k_two", "k_two_numbers"]
        .map(|name| table(&told, name)["repaired"].as_u64());
    assert_eq!(repaired, [3, 0, 1, 1].map(Some), "{told:#}");
    let why = table(&told, "k_none")["why"].as_str().unwrap_or_default();
    assert!(why.contains("no key to repair a row by"), "{told:#}");
    let keyed = "scratch.k_letters,scratch.k_two,scratch.k_two_numbers";
    let (code, told) = verify(&proxy.admin, &["--tables", keyed]);
    assert_eq!(
        (code, &told["run"]["outcome"]),
        (0, &json!("equal")),
        "{told:#}"
    );
}

async fn drop_all(conns: &mut [Conn]) {
    for table in ["k_letters", "k_none", "k_two", "k_two_numbers"] {
        for conn in &mut *conns {
            let drop = format!("DROP TABLE IF EXISTS {table}");
            conn.query_drop(drop).await.expect("it is dropped");
        }
    }
}

/// One statement reads a table without a key: it is not read by the way, nor where that would lock it.
#[tokio::test]
async fn a_table_without_a_key_is_read_where_it_is_named_and_nothing_locks() {
    let lab = Lab::get();
    let (mut legacy, mut vtgate) = doors(&lab).await;
    for conn in [&mut legacy, &mut vtgate] {
        make(conn, "n_none", "a INT, b VARCHAR(9)").await;
        run(conn, "INSERT INTO n_none VALUES (1, 'x'), (2, NULL)").await;
    }
    let proxy = Proxy::start(&lab);
    let outcome = |pattern: &str| {
        let (code, told) = verify(&proxy.admin, &["--tables", pattern]);
        let one = table(&told, "n_none");
        (code, one["outcome"].clone(), one["not_covered"].to_string())
    };
    let (code, word, why) = outcome("scratch.n_*");
    assert_eq!((code, word), (2, json!("unfinished")), "{why}");
    assert!(why.contains("name it in --tables"), "{why}");
    let (code, word, why) = outcome("scratch.n_none");
    assert_eq!((code, word), (0, json!("equal")), "{why}");
    run(&mut legacy, "ALTER TABLE n_none ENGINE = MyISAM").await;
    let (code, word, why) = outcome("scratch.n_none");
    assert_eq!((code, word), (2, json!("unfinished")), "{why}");
    assert!(why.contains("MyISAM"), "{why}");
    for conn in [&mut legacy, &mut vtgate] {
        run(conn, "DROP TABLE n_none").await;
    }
}

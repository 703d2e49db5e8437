//! Each fault is a table of its own in `scratch`: how it is made, what is changed on the shadow alone, and what must
//! be said of it.

use super::{table, verify};
use crate::lab::mirroring::connect;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

/// What must be said.
#[derive(Clone, Copy)]
enum Said {
    /// Nothing.
    Equal,
    /// So many rows differ in these ways.
    Rows(&'static [(&'static str, u64)]),
    /// A row is changed in this column.
    Changed(&'static str),
    /// The definitions differ in this.
    Schema(&'static str),
}

/// Definition (on the shadow, where it is another one), rows on both sides, and statements on the shadow alone. `T`
/// stands for the table.
struct Fault(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Said,
);

use Said::{Changed, Equal, Rows, Schema};

const V: &str = "id INT PRIMARY KEY";

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    Fault("same", "v VARCHAR(9)", "", "(1,'a'),(2,'b')", "", Equal),
    Fault("missing", "v INT", "", "(1,1),(2,2),(3,3)", "DELETE FROM T WHERE id = 2", Rows(&[("missing", 1)])),
    Fault("extra", "v INT", "", "(1,1)", "INSERT INTO T VALUES (9,9)", Rows(&[("extra", 1)])),
    Fault("all", "v INT", "", "(1,1),(2,2)", "DELETE FROM T", Rows(&[("missing", 2)])),
    Fault("integer", "v INT", "", "(1,1),(2,2)", "UPDATE T SET v = 3 WHERE id = 2", Changed("v")),
    Fault("unsigned", "v BIGINT UNSIGNED", "", "(1,18446744073709551615)", "UPDATE T SET v = 18446744073709551614", Changed("v")),
    Fault("decimal", "v DECIMAL(30,10)", "", "(1,1.0000000001)", "UPDATE T SET v = 1.0000000002", Changed("v")),
    Fault("double", "v DOUBLE", "", "(1,0.1),(2,1e15)", "UPDATE T SET v = 0.10000000000000002 WHERE id = 1", Changed("v")),
    Fault("float_text", "v FLOAT", "v DOUBLE", "(1,1.5),(2,1e10)", "", Schema("type")),
    Fault("float_same", "v FLOAT", "", "(1,0.1),(2,1e15),(3,-0.0)", "UPDATE T SET v = 0 WHERE id = 3", Equal),
    Fault("letter_case", "v VARCHAR(9)", "", "(1,'abc')", "UPDATE T SET v = 'aBc'", Changed("v")),
    Fault("trailing_space", "v VARCHAR(9)", "", "(1,'abc')", "UPDATE T SET v = 'abc '", Changed("v")),
    Fault("accent", "v VARCHAR(9)", "", "(1,'e')", "UPDATE T SET v = 'é'", Changed("v")),
    Fault("null", "v VARCHAR(9)", "", "(1,'')", "UPDATE T SET v = NULL", Changed("v")),
    Fault("binary_case", "v VARBINARY(9)", "", "(1,x'00FF'),(2,'')", "UPDATE T SET v = x'00FE' WHERE id = 1", Changed("v")),
    Fault("text", "v TEXT", "", "(1,REPEAT('x',20000))", "UPDATE T SET v = CONCAT(REPEAT('x',19999),'y')", Changed("v")),
    Fault("latin", "v VARCHAR(9) CHARACTER SET latin1", "v VARCHAR(9) CHARACTER SET utf8mb4", "(1,'é'),(2,'ÿ')", "", Equal),
    Fault("date", "v DATE", "", "(1,'2024-02-29')", "UPDATE T SET v = '2024-02-28'", Changed("v")),
    Fault("microsecond", "v DATETIME(6)", "", "(1,'2024-02-29 12:00:00.000001')", "UPDATE T SET v = '2024-02-29 12:00:00.000002'", Changed("v")),
    Fault("time_zone", "v TIMESTAMP NULL", "", "(1,'2024-02-29 12:00:00')", "UPDATE T SET v = '2024-02-29 13:00:00'", Changed("v")),
    Fault("time", "v TIME", "", "(1,'-01:00:00')", "UPDATE T SET v = '01:00:00'", Changed("v")),
    Fault("year", "v YEAR", "", "(1,2024)", "UPDATE T SET v = 2023", Changed("v")),
    Fault("bit", "v BIT(12)", "", "(1,b'100000000001')", "UPDATE T SET v = b'100000000000'", Changed("v")),
    Fault("enum", "v ENUM('a','b')", "", "(1,'a')", "UPDATE T SET v = 'b'", Changed("v")),
    Fault("set", "v SET('a','b','c')", "", "(1,'a,c')", "UPDATE T SET v = 'a,b'", Changed("v")),
    Fault("json_order", "v LONGTEXT", "v JSON", "(1,'{\"bb\": 1.0, \"a\": [1, 2]}')", "", Equal),
    Fault("json", "v LONGTEXT", "v JSON", "(1,'{\"a\": [1, 2]}')", "UPDATE T SET v = '{\"a\": [2, 1]}'", Changed("v")),
    Fault("point", "v POINT", "", "(1,ST_GeomFromText('POINT(1 2)'))", "UPDATE T SET v = ST_GeomFromText('POINT(1 3)')", Changed("v")),
    Fault("default", "v INT DEFAULT 1", "v INT DEFAULT 2", "(1,1)", "", Schema("default")),
    Fault("nullable", "v INT NOT NULL", "v INT", "(1,1)", "", Schema("null")),
    Fault("type", "v INT", "v BIGINT", "(1,1)", "", Schema("type")),
    Fault("index", "v INT, KEY by_v (v)", "v INT", "(1,1)", "", Schema("index")),
];

fn name(fault: &Fault) -> String {
    format!("v_{}", fault.0)
}

async fn make(conn: &mut Conn, name: &str, columns: &str) {
    conn.query_drop(format!("DROP TABLE IF EXISTS {name}"))
        .await
        .expect("it is dropped");
    let make = format!("CREATE TABLE {name} ({columns}) DEFAULT CHARSET utf8");
    conn.query_drop(&make)
        .await
        .unwrap_or_else(|fault| panic!("{make}: {fault}"));
}

/// Runs a statement once vtgate has learnt of its table.
async fn run(conn: &mut Conn, statement: &str) {
    let mut tries = 0;
    while let Err(fault) = conn.query_drop(statement).await {
        tries += 1;
        assert!(tries < 100, "{statement}: {fault}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The legacy and vtgate, with sessions that take what a test writes as it is.
async fn doors(lab: &Lab) -> (Conn, Conn) {
    let (mut legacy, mut vtgate) = (
        connect(&lab.legacy(), "scratch").await,
        connect(&lab.shadow(), "scratch").await,
    );
    for conn in [&mut legacy, &mut vtgate] {
        conn.query_drop("SET NAMES utf8mb4")
            .await
            .expect("it is set");
        conn.query_drop("SET time_zone = '+00:00'")
            .await
            .expect("it is set");
    }
    (legacy, vtgate)
}

/// The statements on the shadow alone.
async fn plant(lab: &Lab, faults: &[&Fault]) {
    let (mut legacy, mut vtgate) = doors(lab).await;
    for fault in faults {
        let Fault(_, here, there, rows, change, _) = fault;
        let (name, there) = (name(fault), if there.is_empty() { here } else { there });
        make(&mut legacy, &name, &format!("{V}, {here}")).await;
        make(&mut vtgate, &name, &format!("{V}, {there}")).await;
        for conn in [&mut legacy, &mut vtgate] {
            run(conn, &format!("INSERT INTO {name} VALUES {rows}")).await;
        }
        if !change.is_empty() {
            let change = change.replace(" T ", &format!(" {name} "));
            let change = change
                .strip_suffix(" T")
                .map_or(change.clone(), |rest| format!("{rest} {name}"));
            run(&mut vtgate, &change).await;
        }
    }
}

fn wrong(fault: &Fault, found: &Value) -> Option<String> {
    let outcome = found["outcome"].as_str().unwrap_or_default();
    let schema: Vec<&str> = found["schema"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|one| one["weight"] == "differs")
        .filter_map(|one| one["what"].as_str())
        .collect();
    let differences = &found["differences"];
    let fine = match fault.5 {
        Equal => outcome == "equal" && schema.is_empty(),
        Rows(rows) => {
            let expected: serde_json::Map<String, Value> = rows
                .iter()
                .map(|(how, n)| ((*how).to_owned(), json!(n)))
                .collect();
            outcome == "different" && *differences == Value::Object(expected)
        }
        Changed(column) => {
            outcome == "different"
                && *differences == json!({"changed": 1})
                && found["rows"][0]["columns"] == json!([column])
        }
        Schema(what) => outcome == "different" && schema == [what] && *differences == json!({}),
    };
    (!fine).then(|| format!("{}: {found:#}", fault.0))
}

#[tokio::test]
async fn every_planted_fault_is_found_as_what_it_is_and_repaired() {
    let lab = Lab::get();
    let faults: Vec<&Fault> = FAULTS.iter().collect();
    plant(&lab, &faults).await;
    let setup = Setup {
        ledger: "literals = \"keep\"",
        more: "[verify]\nshare = 1.0\njobs = 4".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let (code, told) = verify(&proxy.admin, &["--tables", "scratch.v_*"]);
    assert_eq!(code, 1, "{told:#}");
    let wrong_ones: Vec<String> = faults
        .iter()
        .filter_map(|fault| wrong(fault, table(&told, &name(fault))))
        .collect();
    assert!(
        wrong_ones.is_empty(),
        "{} of {}: {}",
        wrong_ones.len(),
        faults.len(),
        wrong_ones.join("\n")
    );

    // What a plan says is what a repair does, and a plan changes nothing.
    let (_, plan) = verify(
        &proxy.admin,
        &["--tables", "scratch.v_missing", "--repair", "plan"],
    );
    let row = &table(&plan, "v_missing")["rows"][0];
    assert_eq!(
        row["repair"],
        "INSERT INTO `scratch`.`v_missing` (`id`, `v`) VALUES (2, 2)"
    );
    assert_eq!(
        table(&plan, "v_missing")["differences"],
        json!({"missing": 1})
    );
    let (_, repaired) = verify(
        &proxy.admin,
        &["--tables", "scratch.v_*", "--repair", "apply"],
    );
    for fault in &faults {
        let found = table(&repaired, &name(fault));
        let rows: u64 = found["differences"]
            .as_object()
            .map_or(0, |by| by.values().filter_map(Value::as_u64).sum());
        assert_eq!(
            found["repaired"].as_u64(),
            Some(rows),
            "{}: {found:#}",
            fault.0
        );
    }
    let (code, again) = verify(&proxy.admin, &["--tables", "scratch.v_*"]);
    assert_eq!(code, 1, "definitions still differ");
    for fault in &faults {
        let found = table(&again, &name(fault));
        assert_eq!(found["differences"], json!({}), "{}: {found:#}", fault.0);
        let expected = if matches!(fault.5, Schema(_)) {
            "different"
        } else {
            "equal"
        };
        assert_eq!(found["outcome"], expected, "{}: {found:#}", fault.0);
    }
}

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
    const ALL: &str = "scratch.k_letters,scratch.k_none,scratch.k_two,scratch.k_two_numbers";
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

async fn drop_all(conns: &mut [Conn]) {
    for table in ["k_letters", "k_none", "k_two", "k_two_numbers"] {
        for conn in &mut *conns {
            let drop = format!("DROP TABLE IF EXISTS {table}");
            conn.query_drop(drop).await.expect("it is dropped");
        }
    }
}

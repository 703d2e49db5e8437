//! Each fault is a table of its own in `scratch`: how it is made, what is changed on the shadow alone, and what must
//! be said of it.

use crate::lab::Lab;
use crate::lab::mirroring::connect;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

/// What must be said.
#[derive(Clone, Copy)]
pub(super) enum Said {
    /// Nothing.
    Equal,
    /// So many rows differ in these ways.
    Rows(&'static [(&'static str, u64)]),
    /// A row is changed in this column.
    Changed(&'static str),
    /// In this column, by no more than the mirror's own clock may be off.
    Clock(&'static str),
    /// The definitions differ in this.
    Schema(&'static str),
}

/// Definition (on the shadow, where it is another one), rows on both sides, and statements on the shadow alone. `T`
/// stands for the table.
pub(super) struct Fault(
    pub(super) &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    pub(super) Said,
);

use Said::{Changed, Clock, Equal, Rows, Schema};

const V: &str = "id INT PRIMARY KEY";

#[rustfmt::skip]
pub(super) const FAULTS: &[Fault] = &[
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
    Fault("microsecond", "v DATETIME(6)", "", "(1,'2024-02-29 12:00:00.000001')", "UPDATE T SET v = '2024-02-29 12:00:00.000002'", Clock("v")),
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
    Fault("tiny", "v TINYINT", "", "(1,-128)", "UPDATE T SET v = 127", Changed("v")),
    Fault("zero", "v INT", "", "(1,0)", "UPDATE T SET v = NULL", Changed("v")),
    Fault("float", "v FLOAT", "", "(1,0.1),(2,16777216),(3,NULL)", "UPDATE T SET v = 0.2 WHERE id = 1", Changed("v")),
    Fault("float_missing", "v FLOAT", "", "(1,0.1),(2,16777217.5)", "DELETE FROM T WHERE id = 2", Rows(&[("missing", 1)])),
    Fault("char", "v CHAR(9)", "", "(1,'abc')", "UPDATE T SET v = 'abd'", Changed("v")),
    Fault("blob", "v BLOB", "", "(1,x'00FF0A5C27')", "UPDATE T SET v = x'00FF0A5C28'", Changed("v")),
    Fault("long", "v MEDIUMTEXT", "", "(1,REPEAT('é',300000))", "UPDATE T SET v = CONCAT(REPEAT('é',299999),'e')", Changed("v")),
    Fault("quotes", "v VARCHAR(30)", "", "(1,'a''b\\\\c%_\\n`')", "UPDATE T SET v = 'ab'", Changed("v")),
    Fault("emoji", "v VARCHAR(9) CHARACTER SET utf8mb4", "", "(1,'😀')", "UPDATE T SET v = '😁'", Changed("v")),
    Fault("question", "v VARCHAR(9) CHARACTER SET latin1", "", "(1,'é?')", "UPDATE T SET v = 'é!'", Changed("v")),
    Fault("datetime", "v DATETIME", "", "(1,'2024-02-29 12:00:00')", "UPDATE T SET v = '2024-02-29 12:00:01'", Clock("v")),
    Fault("zero_date", "v DATETIME", "", "(1,'0000-00-00 00:00:00')", "UPDATE T SET v = NULL", Changed("v")),
    Fault("timestamp", "v TIMESTAMP(6) NULL", "", "(1,'2024-02-29 12:00:00.5')", "UPDATE T SET v = '2024-02-29 12:00:00.500001'", Clock("v")),
    Fault("renews", "v INT, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP", "", "(1,1,'2020-01-01 00:00:00')", "UPDATE T SET v = 2, at = at", Changed("v")),
    Fault("two", "v INT, w INT", "", "(1,1,1)", "UPDATE T SET v = 2, w = NULL", Rows(&[("changed", 1)])),
    Fault("in_the_way", "v INT, UNIQUE KEY by_v (v)", "", "(1,1),(2,2)", "UPDATE T SET id = 9 WHERE id = 1", Rows(&[("missing", 1), ("extra", 1)])),
    Fault("line", "v GEOMETRY", "", "(1,ST_GeomFromText('LINESTRING(0 0,1 1)'))", "UPDATE T SET v = NULL", Changed("v")),
    Fault("column_missing", "v INT, w INT", "", "(1,1,1)", "ALTER TABLE T DROP COLUMN w", Schema("column")),
    Fault("column_more", "v INT", "", "(1,1)", "ALTER TABLE T ADD COLUMN w INT", Schema("column")),
    Fault("table_missing", "v INT", "", "(1,1)", "DROP TABLE T", Schema("table")),
    Fault("sign", "v INT", "v INT UNSIGNED", "(1,1)", "", Schema("type")),
    Fault("digits", "v DECIMAL(10,2)", "v DECIMAL(10,4)", "(1,1.50)", "", Schema("type")),
    Fault("generated_key", "v INT NOT NULL AUTO_INCREMENT, UNIQUE KEY by_v (v)", "v INT NOT NULL, UNIQUE KEY by_v (v)", "(1,1)", "", Schema("generated_key")),
    Fault("order", "v INT, w INT", "w INT, v INT", "(1,1,1)", "", Schema("order")),
    Fault("float_digits", "v FLOAT", "", "(1,1234567),(2,16777216)", "UPDATE T SET v = 1234568 WHERE id = 1", Changed("v")),
    Fault("unique", "v INT, UNIQUE KEY by_v (v)", "v INT, KEY by_v (v)", "(1,1)", "", Schema("index")),
];

pub(super) fn name(fault: &Fault) -> String {
    format!("v_{}", fault.0)
}

pub(super) async fn make(conn: &mut Conn, name: &str, columns: &str) {
    conn.query_drop(format!("DROP TABLE IF EXISTS {name}"))
        .await
        .expect("it is dropped");
    let make = format!("CREATE TABLE {name} ({columns}) DEFAULT CHARSET utf8");
    conn.query_drop(&make)
        .await
        .unwrap_or_else(|fault| panic!("{make}: {fault}"));
}

/// Runs a statement once vtgate has learnt of its table.
pub(super) async fn run(conn: &mut Conn, statement: &str) {
    let mut tries = 0;
    while let Err(fault) = conn.query_drop(statement).await {
        tries += 1;
        assert!(tries < 100, "{statement}: {fault}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The legacy and vtgate, with sessions that take what a test writes as it is.
pub(super) async fn doors(lab: &Lab) -> (Conn, Conn) {
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
        conn.query_drop("SET sql_mode = ''")
            .await
            .expect("it is set");
    }
    (legacy, vtgate)
}

/// The statements on the shadow alone.
pub(super) async fn plant(lab: &Lab, faults: &[&Fault]) {
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

pub(super) fn wrong(fault: &Fault, found: &Value) -> Option<String> {
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
        Clock(column) => {
            outcome == "different"
                && *differences == json!({"clock": 1})
                && found["rows"][0]["columns"] == json!([column])
        }
        Schema(what) => outcome == "different" && schema == [what] && *differences == json!({}),
    };
    (!fine).then(|| format!("{}: {found:#}", fault.0))
}

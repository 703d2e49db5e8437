//! What the primary makes up, on real servers: generated keys, LAST_INSERT_ID(), the clock. What is
//! pinned leaves both sides' tables equal row by row; what is not taints, and says so.

use super::mirroring::{connect, divergences};
use super::{Lab, Proxy, client};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Params, Row, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A table of the unsharded keyspace with these columns, on both servers, and its name.
async fn table(lab: &Lab, columns: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("p{}_{number}", std::process::id());
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address, "scratch").await;
        let make = format!("CREATE TABLE {name} ({columns}) DEFAULT CHARSET utf8");
        direct.query_drop(make).await.expect("the table is made");
        direct.disconnect().await.expect("it closes");
    }
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let mut tries = 0;
    let look = format!("SELECT * FROM {name}");
    while shadow.query_drop(&look).await.is_err() {
        tries += 1;
        assert!(tries < 300, "vtgate does not see {name}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The shadow's own keys are others from here on.
    shadow
        .query_drop(format!("ALTER TABLE {name} AUTO_INCREMENT = 5000"))
        .await
        .expect("the shadow's keys begin elsewhere");
    name
}

async fn rows(address: &str, database: &str, query: &str) -> Vec<Vec<Value>> {
    let mut direct = connect(address, database).await;
    let rows: Vec<Row> = direct.query(query).await.expect("the rows");
    rows.into_iter().map(Row::unwrap).collect()
}

/// Both sides' rows by this query, which must be equal; how many they are.
async fn equal(lab: &Lab, database: &str, query: &str) -> usize {
    let one = rows(&lab.legacy(), database, query).await;
    let other = rows(&lab.shadow(), database, query).await;
    assert_eq!(one, other, "{query}");
    one.len()
}

async fn run(app: &mut Conn, statements: &[String]) {
    for statement in statements {
        let mut answer = app
            .query_iter(statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        while !answer.is_empty() {
            let _rows: Vec<Row> = answer.collect().await.expect("the rows");
        }
    }
}

fn causes(proxy: &Proxy) -> Vec<String> {
    let taints = proxy.get("/api/v1/taints");
    let items = taints["items"].as_array().expect("items").clone();
    let cause = |item: &serde_json::Value| item["cause"].as_str().unwrap_or_default().to_owned();
    items.iter().map(cause).collect()
}

const KEYED: &str = "id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), other INT, UNIQUE (name)";

#[tokio::test]
async fn generated_keys_are_the_primarys_in_text() {
    let lab = Lab::get();
    let (proxy, t) = (Proxy::start(&lab), table(&lab, KEYED).await);
    let mut app = connect(&proxy.address, "scratch").await;
    let statements = [
        format!("INSERT INTO {t} (name) VALUES ('one')"),
        format!("INSERT INTO {t} (name) VALUES ('two'), ('th)ree'), ('fo\\'ur')"),
        format!("INSERT INTO {t} SET name = 'five'"),
        format!("INSERT INTO {t} VALUES (NULL, 'six', 6), (0, 'seven', 7)"),
        format!("INSERT INTO {t} VALUES (DEFAULT, 'eight', 8)"),
        format!("INSERT INTO {t} (id, name) VALUES (100, 'hundred')"),
        format!("INSERT INTO {t} () VALUES ()"),
        format!("REPLACE INTO {t} (name) VALUES ('one')"),
        format!("INSERT IGNORE INTO {t} (name) VALUES ('nine')"),
        format!("INSERT IGNORE INTO {t} (name) VALUES ('nine')"),
        format!("INSERT INTO {t} (name) VALUES ('ten') ON DUPLICATE KEY UPDATE other = 1"),
        format!("INSERT INTO {t} (name) VALUES ('ten') ON DUPLICATE KEY UPDATE other = 1"),
        format!("INSERT INTO {t} (name, other) VALUES ('child', LAST_INSERT_ID())"),
        "BEGIN".to_owned(),
        format!("INSERT INTO scratch.{t} (name) VALUES ('within')"),
        format!("UPDATE {t} SET other = LAST_INSERT_ID() WHERE name = 'six'"),
        "COMMIT".to_owned(),
        "SELECT LAST_INSERT_ID()".to_owned(),
        format!("SELECT * FROM {t} WHERE id = LAST_INSERT_ID()"),
        "SELECT @@identity AS k, LAST_INSERT_ID() + 1".to_owned(),
    ];
    run(&mut app, &statements).await;
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(
        divergences(&proxy),
        Vec::<serde_json::Value>::new(),
        "{coverage}"
    );
    assert_eq!(causes(&proxy), Vec::<String>::new());
    assert_eq!(
        coverage["not_compared"]["nondeterministic"]
            .as_u64()
            .unwrap_or(0),
        0
    );
    let all = format!("SELECT * FROM {t} ORDER BY id");
    assert_eq!(equal(&lab, "scratch", &all).await, 14);
}

#[tokio::test]
async fn generated_keys_are_the_primarys_in_prepared_statements() {
    let lab = Lab::get();
    let (proxy, t) = (Proxy::start(&lab), table(&lab, KEYED).await);
    let mut app = connect(&proxy.address, "scratch").await;
    let one = app
        .prep(format!("INSERT INTO {t} (name, other) VALUES (?, ?)"))
        .await
        .unwrap();
    let two = app
        .prep(format!(
            "INSERT INTO {t} (name, other) VALUES (?, 5), (?, ?)"
        ))
        .await
        .unwrap();
    let listless = app
        .prep(format!("INSERT INTO {t} VALUES (?, ?, ?)"))
        .await
        .unwrap();
    app.query_drop("BEGIN").await.unwrap();
    for n in 0..3_i64 {
        app.exec_drop(&one, (format!("one {n}"), n)).await.unwrap();
        let params: Params = (format!("two {n}"), format!("more {n}"), n).into();
        app.exec_drop(&two, params).await.unwrap();
    }
    app.query_drop("COMMIT").await.unwrap();
    for (id, name) in [
        (Value::NULL, "null"),
        (Value::Int(0), "zero"),
        (Value::Int(77), "explicit"),
        (Value::NULL, "null again"),
    ] {
        let other = Value::NULL;
        app.exec_drop(&listless, (id, name, other)).await.unwrap();
    }
    app.exec_drop(&one, ("long ".repeat(8), Value::NULL))
        .await
        .unwrap();
    let child = app
        .prep(format!(
            "UPDATE {t} SET other = LAST_INSERT_ID() + ? WHERE name = ?"
        ))
        .await
        .unwrap();
    app.exec_drop(&child, (1, "zero")).await.unwrap();
    let last: Option<u64> = app.exec_first("SELECT LAST_INSERT_ID()", ()).await.unwrap();
    assert!(last.is_some());
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(
        divergences(&proxy),
        Vec::<serde_json::Value>::new(),
        "{coverage}"
    );
    assert_eq!(causes(&proxy), Vec::<String>::new());
    let all = format!("SELECT * FROM {t} ORDER BY id");
    assert_eq!(equal(&lab, "scratch", &all).await, 14);
}

#[tokio::test]
async fn a_sequence_is_passed_over_for_the_primarys_key() {
    let lab = Lab::get();
    let proxy = Proxy::start(&lab);
    let kind = format!("pin{}", std::process::id());
    let mut app = connect(&proxy.address, "app").await;
    let statements = [
        format!("INSERT INTO events (kind, payload, at) VALUES ('{kind}', 'a', NOW())"),
        format!(
            "INSERT INTO events VALUES (NULL, '{kind}', 'b', NOW()), (NULL, '{kind}', 'c', NOW())"
        ),
        format!("SELECT id, payload FROM events WHERE kind = '{kind}' ORDER BY id"),
    ];
    run(&mut app, &statements).await;
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(
        divergences(&proxy),
        Vec::<serde_json::Value>::new(),
        "{coverage}"
    );
    assert_eq!(causes(&proxy), Vec::<String>::new());
    let all = format!("SELECT id, payload FROM events WHERE kind = '{kind}' ORDER BY id");
    assert_eq!(equal(&lab, "app", &all).await, 3);
}

const CLOCKED: &str = "id INT AUTO_INCREMENT PRIMARY KEY, a DATETIME(6), b DATETIME, c DATE, u INT, \
    made TIMESTAMP DEFAULT CURRENT_TIMESTAMP, changed DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)";

#[tokio::test]
async fn the_clock_is_the_primarys() {
    let lab = Lab::get();
    let (proxy, t) = (Proxy::start(&lab), table(&lab, CLOCKED).await);
    let mut app = connect(&proxy.address, "scratch").await;
    let insert = format!(
        "INSERT INTO {t} (a, b, c, u) VALUES (NOW(6), NOW() - INTERVAL ? DAY, CURDATE(), UNIX_TIMESTAMP())"
    );
    run(
        &mut app,
        &[
            insert.replace('?', "1"),
            "SET time_zone = '+05:30'".to_owned(),
            insert.replace('?', "2"),
            format!("UPDATE {t} SET u = u + 1, b = CURRENT_TIMESTAMP WHERE id > 0"),
        ],
    )
    .await;
    let prepared = app.prep(&insert).await.unwrap();
    for days in 3..6 {
        app.exec_drop(&prepared, (days,)).await.unwrap();
    }
    run(
        &mut app,
        &[
            format!("SELECT * FROM {t} ORDER BY id"),
            format!("SELECT id FROM {t} WHERE b > NOW() - INTERVAL 3 DAY ORDER BY id"),
            "SELECT NOW(), NOW(6), UNIX_TIMESTAMP()".to_owned(),
        ],
    )
    .await;
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(
        divergences(&proxy),
        Vec::<serde_json::Value>::new(),
        "{coverage}"
    );
    assert_eq!(causes(&proxy), Vec::<String>::new());
    let keys = format!("SELECT id, c FROM {t} ORDER BY id");
    assert_eq!(equal(&lab, "scratch", &keys).await, 5);
    // The estimate is far better than the second that is tolerated.
    let micros = format!(
        "SELECT UNIX_TIMESTAMP(a) * 1000000, UNIX_TIMESTAMP(b) * 1000000, u * 1000000, \
         UNIX_TIMESTAMP(made) * 1000000, UNIX_TIMESTAMP(changed) * 1000000 FROM {t} ORDER BY id"
    );
    let number = |value: &Value| {
        let text = mysql_async::from_value::<String>(value.clone());
        text.parse::<f64>().expect("a number")
    };
    let (one, other) = (
        rows(&lab.legacy(), "scratch", &micros).await,
        rows(&lab.shadow(), "scratch", &micros).await,
    );
    for (row, (one, other)) in std::iter::zip(&one, &other).enumerate() {
        for (column, (one, other)) in std::iter::zip(one, other).enumerate() {
            let apart = (number(one) - number(other)).abs();
            assert!(
                apart <= 1_000_000.0,
                "row {row}, column {column}: {apart} µs"
            );
        }
        let apart = (number(&one[0]) - number(&other[0])).abs();
        assert!(apart <= 200_000.0, "row {row}: NOW(6) is {apart} µs off");
    }
}

#[tokio::test]
async fn what_cannot_be_pinned_taints_and_says_so() {
    let lab = Lab::get();
    for (what, statements) in [
        (
            "cannot pin the generated key: INSERT … SELECT",
            vec!["INSERT INTO # (name) SELECT 'a'"],
        ),
        (
            "cannot pin the generated key: IGNORE",
            vec![
                "INSERT INTO # (id, name) VALUES (1, 'a')",
                "INSERT IGNORE INTO # (name) VALUES ('a'), ('b')",
            ],
        ),
        (
            "cannot pin the generated key: ON DUPLICATE KEY UPDATE",
            vec![
                "INSERT INTO # (id, name) VALUES (1, 'a')",
                "INSERT INTO # (name) VALUES ('a'), ('b') ON DUPLICATE KEY UPDATE other = 2",
            ],
        ),
        (
            "cannot be mirrored exactly (uuid() differs by nature)",
            vec!["INSERT INTO # (id, name) VALUES (1, UUID())"],
        ),
        (
            "cannot pin the generated key: its table has triggers",
            vec!["INSERT INTO # (name) VALUES ('triggered')"],
        ),
    ] {
        let (proxy, t) = (Proxy::start(&lab), table(&lab, KEYED).await);
        if what.contains("triggers") {
            // It takes SUPER, where the binary log is on.
            let opts = OptsBuilder::from_opts(client(&lab.legacy(), "scratch"))
                .user(Some(lab.value("LEGACY_PROXY_USER")))
                .pass(Some(lab.value("LEGACY_PROXY_PASSWORD")));
            let mut legacy = Conn::new(opts).await.expect("the login");
            let make =
                format!("CREATE TRIGGER {t} BEFORE INSERT ON {t} FOR EACH ROW SET NEW.other = 1");
            legacy.query_drop(make).await.expect("a trigger");
        }
        let mut app = connect(&proxy.address, "scratch").await;
        let statements: Vec<String> = statements.iter().map(|it| it.replace('#', &t)).collect();
        run(&mut app, &statements).await;
        app.disconnect().await.unwrap();
        let coverage = proxy.settled();
        assert_eq!(
            divergences(&proxy),
            Vec::<serde_json::Value>::new(),
            "{what}: {coverage}"
        );
        let causes = causes(&proxy);
        assert!(
            causes.len() == 1 && causes[0].contains(what),
            "{what}: {causes:?}"
        );
        assert!(proxy.log().contains(what), "{what}:\n{}", proxy.log());
    }
}

#[tokio::test]
async fn ddl_makes_forget_what_was_known_of_a_table() {
    let lab = Lab::get();
    let (proxy, t) = (Proxy::start(&lab), table(&lab, KEYED).await);
    let mut app = connect(&proxy.address, "scratch").await;
    run(
        &mut app,
        &[format!("INSERT INTO {t} VALUES (NULL, 'a', 1)")],
    )
    .await;
    proxy.settled();
    let statements = [
        format!("ALTER TABLE {t} ADD COLUMN more INT"),
        format!("INSERT INTO {t} VALUES (NULL, 'b', 2, 3)"),
    ];
    run(&mut app, &statements).await;
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(
        divergences(&proxy),
        Vec::<serde_json::Value>::new(),
        "{coverage}"
    );
    assert_eq!(causes(&proxy), Vec::<String>::new());
    let all = format!("SELECT * FROM {t} ORDER BY id");
    assert_eq!(equal(&lab, "scratch", &all).await, 2);
}

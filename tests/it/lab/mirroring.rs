//! The mirror on real servers: what is replayed, what of it reaches the shadow, and how each
//! command is judged.

use super::way::Way;
use super::{Lab, Proxy, client, proxy::Setup};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// A table of the unsharded keyspace that no other test has, made on both servers.
pub async fn table(lab: &Lab) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("m{}_{number}", std::process::id());
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address, "scratch").await;
        let make = format!(
            "CREATE TABLE {name} (id INT PRIMARY KEY, name VARCHAR(40), body LONGBLOB) DEFAULT CHARSET utf8"
        );
        direct.query_drop(make).await.expect("the table is made");
        direct.disconnect().await.expect("it closes");
    }
    // vtgate learns of a new table a moment later.
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let mut tries = 0;
    while shadow
        .query_drop(format!("SELECT id FROM {name}"))
        .await
        .is_err()
    {
        tries += 1;
        assert!(tries < 300, "vtgate does not see {name}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    name
}

pub async fn connect(address: &str, database: &str) -> Conn {
    let opts: Opts = client(address, database);
    Conn::new(opts).await.expect("the login")
}

pub async fn ids(address: &str, table: &str) -> Vec<i32> {
    let mut direct = connect(address, "scratch").await;
    direct
        .query(format!("SELECT id FROM {table} ORDER BY id"))
        .await
        .expect("the rows")
}

pub fn reason(coverage: &Value, name: &str) -> u64 {
    coverage["not_compared"][name].as_u64().unwrap_or(0)
}

pub fn judged(coverage: &Value) -> u64 {
    coverage["matched"].as_u64().unwrap() + coverage["tolerated"].as_u64().unwrap()
}

pub fn divergences(proxy: &Proxy) -> Vec<Value> {
    let page = proxy.get("/api/v1/divergences?limit=100");
    page["items"].as_array().expect("items").clone()
}

#[tokio::test]
async fn text_and_prepared_are_replayed_and_compared() {
    let lab = Lab::get();
    let (proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let mut app = connect(&proxy.address, "scratch").await;
    for id in 1..=5 {
        app.query_drop(format!(
            "INSERT INTO {table} (id, name) VALUES ({id}, 'n{id}')"
        ))
        .await
        .unwrap();
    }
    for id in 1..=5 {
        let found: Option<String> = app
            .exec_first(format!("SELECT name FROM {table} WHERE id = ?"), (id,))
            .await
            .unwrap();
        assert_eq!(found, Some(format!("n{id}")));
    }
    let blob = vec![b'x'; 2 << 20];
    app.exec_drop(
        format!("UPDATE {table} SET body = ? WHERE id = ?"),
        (blob, 3),
    )
    .await
    .unwrap();
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(divergences(&proxy), Vec::<Value>::new(), "{coverage}");
    assert!(judged(&coverage) >= 11, "{coverage}");
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let length: Option<usize> = shadow
        .query_first(format!("SELECT LENGTH(body) FROM {table} WHERE id = 3"))
        .await
        .unwrap();
    assert_eq!(length, Some(2 << 20));
    let latency = proxy.get("/api/v1/latency");
    let read = latency["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["class"] == "read")
        .expect("reads are timed");
    for server in ["legacy", "vitess"] {
        assert!(read[server]["p50"].as_u64() > Some(0), "{read}");
        assert!(
            read[server]["first_byte"]["p99"].as_u64() > Some(0),
            "{read}"
        );
    }
}

#[tokio::test]
async fn transactions_are_carried_whole_and_a_client_that_vanishes_rolls_back() {
    let lab = Lab::get();
    let (proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let insert = |id: i32| format!("INSERT INTO {table} (id) VALUES ({id})");
    let mut app = connect(&proxy.address, "scratch").await;
    for (end, id) in [("COMMIT", 1), ("ROLLBACK", 2)] {
        app.query_drop("BEGIN").await.unwrap();
        app.query_drop(insert(id)).await.unwrap();
        app.query_drop(end).await.unwrap();
    }
    for statement in ["BEGIN", "SAVEPOINT a"] {
        app.query_drop(statement).await.unwrap();
    }
    app.query_drop(insert(3)).await.unwrap();
    app.query_drop("ROLLBACK TO SAVEPOINT a").await.unwrap();
    app.query_drop(insert(4)).await.unwrap();
    app.query_drop("COMMIT").await.unwrap();
    app.query_drop("SET autocommit = 0").await.unwrap();
    app.query_drop(insert(5)).await.unwrap();
    app.query_drop("COMMIT").await.unwrap();
    app.query_drop(insert(6)).await.unwrap();
    drop(app); // without a word: the client is gone
    let coverage = proxy.settled();
    assert_eq!(divergences(&proxy), Vec::<Value>::new(), "{coverage}");
    let mut tries = 0;
    while ids(&lab.legacy(), &table).await != [1, 4, 5]
        || ids(&lab.shadow(), &table).await != [1, 4, 5]
    {
        tries += 1;
        assert!(
            tries < 100,
            "{:?} on the shadow",
            ids(&lab.shadow(), &table).await
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_sessions_state_is_carried() {
    let lab = Lab::get();
    let (proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let mut app = connect(&proxy.address, "app").await;
    for statement in [
        "USE scratch".to_owned(),
        "SET NAMES utf8".to_owned(),
        "SET @wanted = 7".to_owned(),
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
        "SET sql_mode = 'NO_ENGINE_SUBSTITUTION'".to_owned(),
        format!("INSERT INTO {table} (id, name) VALUES (7, 'a')"),
        // Over-long, and taken without strict mode only.
        format!("UPDATE {table} SET name = REPEAT('b', 50) WHERE id = @wanted"),
        format!("SELECT name FROM {table} WHERE id = @wanted"),
    ] {
        app.query_drop(&statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(divergences(&proxy), Vec::<Value>::new(), "{coverage}");
    assert_eq!(reason(&coverage, "internal"), 0, "{coverage}");
}

#[tokio::test]
async fn only_apply_writes_the_shadow() {
    let lab = Lab::get();
    for (mode, mirror) in [
        ("rollback", "writes = \"rollback\""),
        ("plan", "writes = \"plan\""),
        ("off", "writes = \"off\""),
    ] {
        let table = table(&lab).await;
        let setup = Setup {
            mirror,
            ..Setup::default()
        };
        let proxy = Proxy::start_with(&lab, &setup);
        let mut app = connect(&proxy.address, "scratch").await;
        let insert = |id: i32| format!("INSERT INTO {table} (id) VALUES ({id})");
        let mut shadow = connect(&lab.shadow(), "scratch").await;
        shadow.query_drop(insert(9)).await.unwrap();
        app.query_drop(insert(1)).await.unwrap();
        app.query_drop("BEGIN").await.unwrap();
        app.query_drop(insert(2)).await.unwrap();
        app.query_drop("COMMIT").await.unwrap();
        app.query_drop("SET autocommit = 0").await.unwrap();
        app.query_drop(insert(3)).await.unwrap();
        app.query_drop("SET autocommit = 1").await.unwrap(); // commits
        app.exec_drop(format!("INSERT INTO {table} (id) VALUES (?)"), (4,))
            .await
            .unwrap();
        // Each would commit what is only rehearsed, were it run.
        for statement in [
            "BEGIN".to_owned(),
            insert(5),
            format!("TRUNCATE TABLE {table}"),
            insert(6),
        ] {
            app.query_drop(statement).await.unwrap();
        }
        app.disconnect().await.unwrap();
        let coverage = proxy.settled();
        assert_eq!(ids(&lab.legacy(), &table).await, [6], "{mode}");
        assert_eq!(ids(&lab.shadow(), &table).await, [9], "{mode}: {coverage}");
        // What the primary has and the shadow has not is known.
        let taints = proxy.get("/api/v1/taints");
        assert!(taints.to_string().contains(&table), "{mode}: {taints}");
    }
}

#[tokio::test]
async fn a_known_difference_is_one_divergence_and_one_finding_without_literals() {
    let lab = Lab::get();
    let (proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let mut app = connect(&proxy.address, "scratch").await;
    app.query_drop(format!(
        "INSERT INTO {table} (id, name) VALUES (1, 'a secret'), (2, 'b')"
    ))
    .await
    .unwrap();
    proxy.settled();
    shadow
        .query_drop(format!(
            "UPDATE {table} SET name = 'another secret' WHERE id = 1"
        ))
        .await
        .unwrap();
    for _ in 0..2 {
        let _row: Option<Row> = app
            .query_first(format!(
                "SELECT id, name FROM {table} WHERE name <> 'the third secret' AND id = 1"
            ))
            .await
            .unwrap();
    }
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 2, "{coverage}");
    let mut tries = 0;
    while divergences(&proxy).len() < 2 {
        tries += 1;
        assert!(tries < 100, "{:?}", divergences(&proxy));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let one = divergences(&proxy).remove(0);
    for key in [
        "id",
        "at",
        "kind",
        "fingerprint",
        "digest",
        "protocol",
        "user",
        "database",
        "tables",
        "statement",
        "also",
        "primary",
        "shadow",
        "finding_id",
    ] {
        assert!(one.get(key).is_some(), "{key} is missing: {one}");
    }
    assert_eq!(
        (&one["kind"], &one["protocol"]),
        (&json!("value"), &json!("text")),
        "{one}"
    );
    assert_eq!(one["primary"]["server"], "legacy");
    assert_eq!(one["shadow"]["server"], "vitess");
    let findings = proxy.get("/api/v1/findings");
    assert_eq!(findings["items"].as_array().unwrap().len(), 1, "{findings}");
    assert_eq!(findings["items"][0]["count"], 2, "{findings}");
    let whole = proxy.get(&format!("/api/v1/divergences/{}", one["id"]));
    let log = std::fs::read_to_string(proxy.file("divergences.jsonl")).unwrap();
    for text in [whole.to_string(), findings.to_string(), log] {
        assert!(!text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn a_failed_dark_write_taints_and_what_follows_is_told_apart() {
    let lab = Lab::get();
    let (proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    shadow
        .query_drop(format!(
            "INSERT INTO {table} (id, name) VALUES (1, 'in the way')"
        ))
        .await
        .unwrap();
    let mut app = connect(&proxy.address, "scratch").await;
    app.query_drop(format!("INSERT INTO {table} (id, name) VALUES (1, 'a')"))
        .await
        .unwrap();
    proxy.settled();
    let _names: Vec<String> = app
        .query(format!("SELECT name FROM {table} WHERE id = 1"))
        .await
        .unwrap();
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 1, "{coverage}");
    assert_eq!(reason(&coverage, "tainted"), 1, "{coverage}");
    let taints = proxy.get("/api/v1/taints");
    assert_eq!(taints["items"][0]["table"], json!(table), "{taints}");
    let name = format!("scratch.{table}");
    proxy.send(
        "POST",
        "/api/v1/taints/clear",
        &json!({"tables": [name], "who": "a test", "why": "to see it go"}),
    );
    assert_eq!(proxy.get("/api/v1/taints")["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_on_the_list_never_reaches_the_shadow() {
    let lab = Lab::get();
    let way = Way::to(lab.shadow()).await;
    let setup = Setup {
        shadow: Some(way.address.clone()),
        ..Setup::default()
    };
    let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
    let mut app = connect(&proxy.address, "scratch").await;
    for statement in [
        format!("LOCK TABLES {table} WRITE"),
        "UNLOCK TABLES".to_owned(),
        format!("FLUSH TABLES {table}"),
        format!("CHECK TABLE {table}"),
        format!("HANDLER {table} OPEN"),
    ] {
        let _either = app.query_drop(&statement).await;
    }
    app.ping().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(reason(&coverage, "not_mirrored"), 6, "{coverage}");
    for words in ["LOCK TABLES", "FLUSH", "CHECK", "HANDLER"] {
        assert!(!way.has_said(words), "{words} reached the shadow");
    }
    app.query_drop(format!("CREATE TABLE {table}_b (id INT PRIMARY KEY)"))
        .await
        .unwrap();
    app.query_drop(format!("INSERT INTO {table}_b VALUES (1)"))
        .await
        .unwrap();
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(divergences(&proxy), Vec::<Value>::new(), "{coverage}");
    assert_eq!(
        ids(&lab.shadow(), &format!("{table}_b")).await,
        [1],
        "DDL is mirrored"
    );
    assert!(way.has_said("CREATE TABLE"), "the way hears what is said");
}

#[tokio::test]
async fn sampling_and_pausing_say_what_they_left_out() {
    let lab = Lab::get();
    let (proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let mut app = connect(&proxy.address, "scratch").await;
    let read = format!("SELECT COUNT(*) FROM {table}");
    proxy.settled();
    proxy.send("PATCH", "/api/v1/mirror", &json!({"sample": 0.0}));
    app.query_drop(&read).await.unwrap();
    proxy.settled();
    proxy.send(
        "PATCH",
        "/api/v1/mirror",
        &json!({"sample": 1.0, "paused": true}),
    );
    assert_eq!(proxy.get("/api/v1/status")["mirror"]["state"], "paused");
    app.query_drop(&read).await.unwrap();
    proxy.settled();
    proxy.send("PATCH", "/api/v1/mirror", &json!({"paused": false}));
    let before = judged(&proxy.settled());
    app.query_drop(&read).await.unwrap();
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(reason(&coverage, "sampled_out"), 1, "{coverage}");
    assert_eq!(reason(&coverage, "paused"), 1, "{coverage}");
    assert_eq!(judged(&coverage), before + 1, "{coverage}");
}

#[tokio::test]
async fn databases_are_mapped_and_logins_exchanged() {
    let lab = Lab::get();
    let table = table(&lab).await;
    let setup = Setup {
        mirror: "writes = \"apply\"",
        more: "[shadow.databases]\napp = \"scratch\"\n[shadow.users]\napp = { user = \"app\", password = \"app\" }\n"
            .to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let mut legacy = connect(&lab.legacy(), "app").await;
    legacy
        .query_drop(format!("CREATE TABLE {table} (id INT PRIMARY KEY)"))
        .await
        .unwrap();
    let mut app = connect(&proxy.address, "app").await;
    for (id, name) in [
        (1, table.clone()),
        (2, format!("app.{table}")),
        (3, format!("`app`.`{table}`")),
    ] {
        app.query_drop(format!("INSERT INTO {name} (id) VALUES ({id})"))
            .await
            .unwrap();
    }
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    legacy
        .query_drop(format!("DROP TABLE {table}"))
        .await
        .unwrap();
    assert_eq!(ids(&lab.shadow(), &table).await, [1, 2, 3], "{coverage}");
    assert_eq!(divergences(&proxy), Vec::<Value>::new(), "{coverage}");
}

#[tokio::test]
async fn without_a_shadow_production_is_served_and_the_status_says_so() {
    let lab = Lab::get();
    let setup = Setup {
        shadow: Some(format!("127.0.0.1:{}", super::proxy::free_port())),
        mirror: "writes = \"apply\"\nbreaker_errors = 2",
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let mut app = connect(&proxy.address, "app").await;
    for _ in 0..20 {
        let one: Option<i32> = app.query_first("SELECT 1").await.unwrap();
        assert_eq!(one, Some(1));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    let out = reason(&coverage, "shadow_down") + reason(&coverage, "suspended");
    assert!(out >= 20 && judged(&coverage) == 0, "{coverage}");
    let status = proxy.get("/api/v1/status");
    assert_eq!(status["mirror"]["state"], "suspended", "{status}");
    assert!(status["mirror"]["reason"].is_string(), "{status}");
    assert!(status["servers"]["vitess"]["error"].is_string(), "{status}");
}

/// A shadow that answers everything with far more than the primary is unwell; one that answers a little more is not.
#[tokio::test]
async fn a_shadow_that_floods_suspends_the_mirror() {
    let lab = Lab::get();
    for (primary, shadow, floods) in [(10, 200_000, true), (50_000, 200_000, false)] {
        let table = table(&lab).await;
        for (address, bytes) in [(lab.legacy(), primary), (lab.shadow(), shadow)] {
            let mut direct = connect(&address, "scratch").await;
            let insert = format!("INSERT INTO {table} (id, body) VALUES (1, REPEAT('x', {bytes}))");
            direct.query_drop(insert).await.expect("the row is there");
            direct.disconnect().await.expect("it closes");
        }
        let setup = Setup {
            mirror: "writes = \"apply\"\nanswer_bytes_max = \"64KiB\"\nbreaker_errors = 3\n\
                     breaker_pause_ms = 5000",
            ..Setup::default()
        };
        let proxy = Proxy::start_with(&lab, &setup);
        let mut app = connect(&proxy.address, "scratch").await;
        let read = format!("SELECT body FROM {table} WHERE id = 1");
        let mut mirror = Value::Null;
        for reads in 1..=12 {
            let body: Option<Vec<u8>> = app.query_first(&read).await.expect("served");
            assert_eq!(body.map(|body| body.len()), Some(primary));
            let coverage = proxy.settled();
            assert_eq!(reason(&coverage, "too_large"), reads, "{coverage}");
            mirror = proxy.get("/api/v1/status")["mirror"].clone();
            if mirror["state"] != "running" {
                break;
            }
        }
        app.disconnect().await.expect("it closes");
        if floods {
            assert_eq!(mirror["state"], "suspended", "{mirror}");
            let why = mirror["reason"].as_str().unwrap_or_default();
            assert!(
                why.contains("3 errors") && why.contains("answer_bytes_max"),
                "{mirror}"
            );
        } else {
            assert_eq!(mirror["state"], "running", "{mirror}");
        }
    }
}

/// After a cutover: vtgate prepares a BEGIN, a 5.6 does not.
#[tokio::test]
async fn a_transaction_whose_control_the_shadow_cannot_prepare_is_carried_all_the_same() {
    let lab = Lab::get();
    let setup = Setup {
        primary: Some(lab.shadow()),
        shadow: Some(lab.legacy()),
        ..Setup::default()
    };
    let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
    let mut app = connect(&proxy.address, "scratch").await;
    let begin = app.prep("BEGIN").await.unwrap();
    for (id, end) in [(1, "COMMIT"), (2, "ROLLBACK"), (3, "COMMIT")] {
        app.exec_drop(&begin, ()).await.unwrap();
        let insert = format!("INSERT INTO {table} (id, name) VALUES (?, 'n')");
        app.exec_drop(insert, (id,)).await.unwrap();
        app.exec_drop(end, ()).await.unwrap();
    }
    app.disconnect().await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(ids(&lab.shadow(), &table).await, [1, 3]);
    assert_eq!(ids(&lab.legacy(), &table).await, [1, 3], "{coverage}");
    assert_eq!(proxy.get("/api/v1/taints")["items"], json!([]));
    // That it cannot prepare the BEGIN is said.
    assert_eq!(coverage["diverged"], 1, "{:?}", divergences(&proxy));
}

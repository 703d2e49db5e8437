//! What a difference turns out to be: what follows from another one and how it is linked to it, and
//! what passes by itself.

use super::mirroring::{connect, divergences, reason, table};
use super::proxy::Setup;
use super::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::time::Duration;

async fn findings(proxy: &Proxy, until: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    for _ in 0..300 {
        let page = proxy.get("/api/v1/findings?limit=100");
        let items = page["items"].as_array().expect("items").clone();
        if until(&items) {
            return items;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{}", proxy.get("/api/v1/findings?limit=100"));
}

/// The findings apart: those of divergences, and those of what follows.
fn apart(items: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    items.into_iter().partition(|one| one["follows"] == false)
}

fn followed(items: &[Value], count: u64) -> bool {
    let mut all = items.iter();
    all.any(|one| one["follows"] == true && one["count"] == count)
}

#[tokio::test]
async fn what_follows_from_a_failed_write_is_one_finding_that_names_its_cause() {
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
    for statement in [
        "BEGIN".to_owned(),
        format!("INSERT INTO {table} (id, name) VALUES (1, 'a'), (2, 'b')"),
        // The row is missing there: no divergence of its own.
        format!("UPDATE {table} SET name = 'c' WHERE id = 2"),
        "COMMIT".to_owned(),
        format!("SELECT name FROM {table} WHERE id = 1"),
        format!("SELECT COUNT(*) FROM {table}"),
        format!("SELECT id FROM {table} WHERE id > 1 ORDER BY id"),
    ] {
        app.query_drop(&statement).await.expect("it is served");
    }
    let _name: Option<String> = app
        .exec_first(format!("SELECT name FROM {table} WHERE id = ?"), (2,))
        .await
        .unwrap();
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 1, "{coverage}");
    assert_eq!(reason(&coverage, "tainted"), 5, "{coverage}");

    let (roots, follow_ups) = apart(findings(&proxy, |all| followed(all, 5)).await);
    assert_eq!(
        (roots.len(), follow_ups.len()),
        (1, 1),
        "{roots:?} {follow_ups:?}"
    );
    let (root, follow_up) = (&roots[0], &follow_ups[0]);
    assert_eq!(root["kind"], "error", "{root}");
    assert_eq!(follow_up["cause_id"], root["id"], "{follow_up}");
    assert_eq!(follow_up["tables"], json!([format!("scratch.{table}")]));
    let cause = follow_up["cause"]["text"].as_str().unwrap();
    assert!(cause.contains("failed with error 1062"), "{cause}");
    let taint = proxy.get("/api/v1/taints")["items"][0].clone();
    assert_eq!(taint["finding_id"], root["id"], "{taint}");
    assert_eq!(taint["followed"]["count"], 5, "{taint}");

    let clear =
        json!({"tables": [format!("scratch.{table}")], "who": "a test", "why": "to see it go"});
    proxy.send("POST", "/api/v1/taints/clear", &clear);
    let fixed = |all: &[Value]| all.iter().any(|one| one["state"] == "fixed");
    let (_, follow_ups) = apart(findings(&proxy, fixed).await);
    assert_eq!(follow_ups[0]["who"], "a test", "{follow_ups:?}");
}

#[tokio::test]
async fn what_follows_from_a_lost_write_has_its_cause_in_words() {
    let lab = Lab::get();
    let (proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let mut app = connect(&proxy.address, "scratch").await;
    app.query_drop(format!("SELECT id FROM {table}"))
        .await
        .unwrap();
    proxy.send("PATCH", "/api/v1/mirror", &json!({"paused": true}));
    app.query_drop(format!("INSERT INTO {table} (id) VALUES (1)"))
        .await
        .unwrap();
    proxy.settled();
    proxy.send("PATCH", "/api/v1/mirror", &json!({"paused": false}));
    for statement in [
        format!("SELECT id FROM {table}"),
        format!("SELECT id FROM {table} WHERE id = 1"),
        format!("SELECT COUNT(*) FROM {table}"),
    ] {
        app.query_drop(statement).await.unwrap();
    }
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 0, "{coverage}");
    let (roots, follow_ups) = apart(findings(&proxy, |all| followed(all, 3)).await);
    assert_eq!(
        (roots.len(), follow_ups.len()),
        (0, 1),
        "{roots:?} {follow_ups:?}"
    );
    assert_eq!(follow_ups[0]["cause_id"], Value::Null);
    let cause = follow_ups[0]["cause"]["text"].as_str().unwrap();
    assert!(cause.contains("(paused): INSERT INTO"), "{cause}");
    let taint = proxy.get("/api/v1/taints")["items"][0].clone();
    assert_eq!(
        (&taint["cause"], &taint["finding_id"]),
        (&json!(cause), &Value::Null)
    );
}

/// A row on both sides, and connections behind the proxy's back.
async fn staged(lab: &Lab, proxy: &Proxy, table: &str) -> (mysql_async::Conn, mysql_async::Conn) {
    let mut app = connect(&proxy.address, "scratch").await;
    app.query_drop(format!("INSERT INTO {table} (id, name) VALUES (1, 'a')"))
        .await
        .unwrap();
    proxy.settled();
    (app, connect(&lab.shadow(), "scratch").await)
}

fn named(table: &str, name: &str) -> String {
    format!("UPDATE {table} SET name = '{name}' WHERE id = 1")
}

fn rechecks(coverage: &Value, outcome: &str) -> u64 {
    coverage["rechecks"][outcome].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn a_difference_that_passes_is_lag_and_no_finding() {
    let lab = Lab::get();
    let (proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let (mut app, mut shadow) = staged(&lab, &proxy, &table).await;
    shadow.query_drop(named(&table, "b")).await.unwrap();
    app.query_drop(format!("SELECT name FROM {table} WHERE id = 1"))
        .await
        .unwrap();
    let _name: Option<String> = app
        .exec_first(format!("SELECT name FROM {table} WHERE id = ?"), (1,))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let pending = proxy.get("/api/v1/status")["coverage"]["pending"].clone();
    assert_eq!(pending, 2, "the difference waits");
    shadow.query_drop(named(&table, "a")).await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 0, "{coverage}");
    assert_eq!(reason(&coverage, "lag"), 2, "{coverage}");
    assert_eq!(rechecks(&coverage, "lag"), 2, "{coverage}");
    assert_eq!(divergences(&proxy), Vec::<Value>::new());
}

#[tokio::test]
async fn a_difference_that_stays_is_a_finding_that_says_how_it_was_rechecked() {
    let lab = Lab::get();
    for (recheck, by, rechecked) in [
        ("off", "no", 0),
        ("shadow", "shadow", 2),
        ("primary", "primary", 2),
    ] {
        let setup = Setup {
            more: format!("[compare]\nrecheck = \"{recheck}\""),
            ..Setup::default()
        };
        let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
        let (mut app, mut shadow) = staged(&lab, &proxy, &table).await;
        app.query_drop("SET NAMES utf8").await.unwrap();
        shadow.query_drop(named(&table, "b")).await.unwrap();
        app.query_drop(format!("SELECT name FROM {table} WHERE id = 1"))
            .await
            .unwrap();
        let _name: Option<String> = app
            .exec_first(format!("SELECT name FROM {table} WHERE id = ?"), (1,))
            .await
            .unwrap();
        let coverage = proxy.settled();
        assert_eq!(coverage["diverged"], 2, "{recheck}: {coverage}");
        assert_eq!(
            rechecks(&coverage, "diverged"),
            rechecked,
            "{recheck}: {coverage}"
        );
        findings(&proxy, |all| all.len() == 2).await;
        for one in divergences(&proxy) {
            assert_eq!(one["rechecked"], by, "{one}");
            assert_eq!(one["recheck"].is_string(), rechecked > 0, "{one}");
        }
    }
}

#[tokio::test]
async fn where_the_primarys_own_answer_has_moved_it_is_a_race() {
    let lab = Lab::get();
    let setup = Setup {
        more: "[compare]\nrecheck = \"primary\"".to_owned(),
        ..Setup::default()
    };
    let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
    let (mut app, mut shadow) = staged(&lab, &proxy, &table).await;
    shadow.query_drop(named(&table, "b")).await.unwrap();
    app.query_drop(format!("SELECT name FROM {table} WHERE id = 1"))
        .await
        .unwrap();
    // Behind the proxy's back, so that nothing else tells of it.
    let mut legacy = connect(&lab.legacy(), "scratch").await;
    legacy.query_drop(named(&table, "b")).await.unwrap();
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 0, "{coverage}");
    assert_eq!(reason(&coverage, "race"), 1, "{coverage}");
}

#[tokio::test]
async fn a_shadow_that_is_fed_half_a_second_late_lags_and_does_not_diverge() {
    let lab = Lab::get();
    let setup = Setup {
        shadow_more: "fed_by = \"replication\"".to_owned(),
        mirror: "writes = \"off\"",
        ..Setup::default()
    };
    let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
    let mut app = connect(&proxy.address, "scratch").await;
    let mut feeders = Vec::new();
    for id in 1..=20 {
        let insert = format!("INSERT INTO {table} (id, name) VALUES ({id}, 'n{id}')");
        app.query_drop(&insert).await.unwrap();
        let shadow = lab.shadow();
        feeders.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut late = connect(&shadow, "scratch").await;
            late.query_drop(insert).await.unwrap();
        }));
        app.query_drop(format!("SELECT name FROM {table} WHERE id = {id}"))
            .await
            .unwrap();
    }
    for feeder in feeders {
        feeder.await.unwrap();
    }
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 0, "{coverage}");
    assert!(reason(&coverage, "lag") >= 10, "{coverage}");
    assert_eq!(proxy.get("/api/v1/taints")["items"], json!([]));
}

#[tokio::test]
async fn what_differs_on_a_table_that_is_written_all_the_time_is_a_finding() {
    let lab = Lab::get();
    let (proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let (mut app, mut shadow) = staged(&lab, &proxy, &table).await;
    shadow.query_drop(named(&table, "b")).await.unwrap();
    app.query_drop(format!("SELECT name FROM {table} WHERE id = 1"))
        .await
        .unwrap();
    // Before the shadow is first asked again, and on: none of them explains what it said at first.
    for id in 2..40 {
        app.query_drop(format!("INSERT INTO {table} (id, name) VALUES ({id}, 'c')"))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 1, "{coverage}");
    assert_eq!(reason(&coverage, "race"), 0, "{coverage}");
}

#[tokio::test]
async fn what_is_lost_later_excuses_no_difference_that_was_there_before() {
    let lab = Lab::get();
    let (proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let (mut app, mut shadow) = staged(&lab, &proxy, &table).await;
    shadow.query_drop(named(&table, "b")).await.unwrap();
    app.query_drop(format!("SELECT name FROM {table} WHERE id = 1"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.send("PATCH", "/api/v1/mirror", &json!({"paused": true}));
    app.query_drop(format!("INSERT INTO {table} (id) VALUES (2)"))
        .await
        .unwrap();
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 1, "{coverage}");
    assert_eq!(reason(&coverage, "tainted"), 0, "{coverage}");
}

#[tokio::test]
async fn what_a_lagging_shadow_lacks_is_lag_though_the_primary_is_read_again() {
    let lab = Lab::get();
    let setup = Setup {
        shadow_more: "fed_by = \"replication\"".to_owned(),
        mirror: "writes = \"off\"",
        more: "[compare]\nrecheck = \"primary\"\nrecheck_ms = 500\nrecheck_rate = 1000".to_owned(),
        ..Setup::default()
    };
    let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
    let mut app = connect(&proxy.address, "scratch").await;
    let mut feeders = Vec::new();
    for turn in 0..20 {
        let write = format!("REPLACE INTO {table} (id, name) VALUES (1, 'n{turn}')");
        app.query_drop(&write).await.unwrap();
        let shadow = lab.shadow();
        feeders.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(450)).await;
            let mut late = connect(&shadow, "scratch").await;
            late.query_drop(write).await.unwrap();
        }));
        app.query_drop(format!("SELECT name FROM {table} WHERE id = 1"))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for feeder in feeders {
        feeder.await.unwrap();
    }
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 0, "{coverage}");
}

#[tokio::test]
async fn a_rehearsed_write_that_replication_has_outrun_is_lag() {
    let lab = Lab::get();
    let setup = Setup {
        shadow_more: "fed_by = \"replication\"".to_owned(),
        mirror: "writes = \"rollback\"",
        ..Setup::default()
    };
    let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
    let mut app = connect(&proxy.address, "scratch").await;
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    for write in [
        format!("INSERT INTO {table} (id, name) VALUES (1, 'a')"),
        named(&table, "b"),
    ] {
        shadow.query_drop(&write).await.unwrap();
        app.query_drop(&write).await.unwrap();
    }
    let coverage = proxy.settled();
    assert_eq!(coverage["diverged"], 0, "{coverage}");
    assert_eq!(reason(&coverage, "lag"), 2, "{coverage}");
}

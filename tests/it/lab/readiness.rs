//! Readiness and the report, on the real process: not ready before anything was seen, ready with what the
//! limits ask for, not ready any more once the servers differ; and a document that tells it without a value.

use super::mirroring::{connect, table};
use super::proxy::{Setup, free_port};
use super::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use serde_json::Value;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn understudy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(arguments)
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Limits that a minute of traffic can reach; the two servers' speeds are not what is tested here.
const LOW: &str = "[readiness]
evidence_s = 0
evidence_hours = 1
evidence_commands = 50
latency_samples = 20
latency_p50_ms = 10000
latency_p99_ms = 10000
coverage_commands = 0.5
coverage_fingerprints = 0.5
";

fn failed(readiness: &Value) -> Vec<&str> {
    let guards = readiness["guards"].as_array().expect("guards");
    guards
        .iter()
        .filter(|guard| guard["pass"] == false)
        .filter_map(|guard| guard["name"].as_str())
        .collect()
}

#[tokio::test]
async fn nothing_seen_is_no_evidence() {
    let lab = Lab::get();
    let proxy = Proxy::start(&lab);
    let table = understudy(&["readiness", "--admin", &proxy.admin]);
    assert_eq!(table.status.code(), Some(1), "{}", said(&table));
    for words in ["NOT READY", "evidence", "nothing was compared yet"] {
        assert!(said(&table).contains(words), "{words}: {}", said(&table));
    }
    let json = understudy(&["readiness", "--admin", &proxy.admin, "--format", "json"]);
    assert_eq!(json.status.code(), Some(1), "{}", said(&json));
    let readiness: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(
        failed(&readiness),
        ["divergences", "coverage", "evidence", "latency"]
    );
    let usage = understudy(&["readiness", "--format", "xml"]);
    assert_eq!(usage.status.code(), Some(2), "{}", said(&usage));
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let alone = understudy(&["readiness", "--admin", &nobody]);
    assert_eq!(alone.status.code(), Some(1), "{}", said(&alone));
}

#[tokio::test]
async fn it_is_ready_until_the_servers_differ_and_the_report_says_so_without_a_value() {
    let lab = Lab::get();
    let setup = Setup {
        more: LOW.to_owned(),
        ..Setup::default()
    };
    let (mut proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
    let mut app = connect(&proxy.address, "scratch").await;
    for id in 1..=30 {
        app.query_drop(format!("INSERT INTO {table} (id, name) VALUES ({id}, 'n')"))
            .await
            .unwrap();
    }
    for id in 1..=30 {
        let ask = format!("SELECT name FROM {table} WHERE id = ?");
        let _: Vec<String> = app.exec(ask, (id,)).await.unwrap();
    }
    proxy.settled();
    let ready = understudy(&["readiness", "--admin", &proxy.admin]);
    assert_eq!(ready.status.code(), Some(0), "{}", said(&ready));
    // What was seen is known after a restart, but for the latencies, which are of this process.
    app.disconnect().await.unwrap();
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(Duration::from_secs(60)), Some(0));
    proxy.start_again();
    assert_eq!(failed(&proxy.get("/api/v1/readiness")), ["latency"]);
    let mut app = connect(&proxy.address, "scratch").await;
    for id in 1..=25 {
        app.query_drop(format!("SELECT name FROM {table} WHERE id = {id}"))
            .await
            .unwrap();
    }
    proxy.settled();
    assert_eq!(failed(&proxy.get("/api/v1/readiness")), [""; 0]);
    // A row that only the shadow has otherwise.
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let secret = "planted-secret-4711";
    shadow
        .query_drop(format!(
            "UPDATE {table} SET name = '{secret}-shadow' WHERE id = 7"
        ))
        .await
        .unwrap();
    app.query_drop(format!(
        "SELECT id, name FROM {table} WHERE id = 7 AND 'x' <> '{secret}'"
    ))
    .await
    .unwrap();
    // Nothing of it is ever compared: CALL is not mirrored.
    let _refused = app.query_drop("CALL nothing_of_the_kind()").await;
    proxy.settled();
    let end = Instant::now() + Duration::from_secs(60);
    let readiness = loop {
        let readiness = proxy.get("/api/v1/readiness");
        if failed(&readiness).contains(&"divergences") {
            break readiness;
        }
        assert!(Instant::now() < end, "{readiness}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let guard = &readiness["guards"][0];
    assert_eq!(guard["value"]["value"], 1, "{guard}");
    assert!(
        guard["why"]
            .as_str()
            .is_some_and(|why| why.contains(&table)),
        "{guard}"
    );
    let not_ready = understudy(&["readiness", "--admin", &proxy.admin]);
    assert_eq!(not_ready.status.code(), Some(1), "{}", said(&not_ready));
    reports(&proxy, &table, secret);
}

/// The report in every form: the finding is in it, and no value is.
fn reports(proxy: &Proxy, table: &str, secret: &str) {
    for (form, file) in [
        ("html", "r.html"),
        ("markdown", "r.md"),
        ("json", "r.json"),
        ("table", "r.txt"),
    ] {
        let path = proxy.file(file);
        let path = path.to_string_lossy();
        let made = understudy(&["report", "--admin", &proxy.admin, "--output", &path]);
        assert_eq!(made.status.code(), Some(0), "{form}: {}", said(&made));
        let text = std::fs::read_to_string(&*path).expect("it is written");
        assert!(!text.contains(secret), "{form}: {text}");
        let name = if form == "markdown" {
            table.replace('_', "\\_")
        } else {
            table.to_owned()
        };
        for words in [name.as_str(), "value", "legacy", "vitess"] {
            assert!(text.contains(words), "{words} in {form}:\n{text}");
        }
        if form != "table" {
            assert!(text.contains("CALL"), "never compared, in {form}:\n{text}");
        }
        if form == "html" {
            assert!(
                text.contains("<polyline") && text.contains("</html>"),
                "{text}"
            );
            assert!(
                !text.contains("http://")
                    && !text.contains("https://")
                    && !text.contains("<script")
            );
        }
        let printed = understudy(&["report", "--admin", &proxy.admin, "--format", form]);
        assert_eq!(printed.status.code(), Some(0), "{form}: {}", said(&printed));
    }
    let nowhere = understudy(&[
        "report",
        "--admin",
        &proxy.admin,
        "--output",
        "/nowhere/r.html",
    ]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", said(&nowhere));
}

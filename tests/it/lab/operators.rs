//! The operators' door on the real process: the command line, the token, restarts, the drain.

use super::mirroring::{connect, divergences, table};
use super::proxy::Setup;
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

#[tokio::test]
async fn the_command_line_tells_what_the_api_knows() {
    let lab = Lab::get();
    let proxy = Proxy::start(&lab);
    let mut app = connect(&proxy.address, "app").await;
    for statement in [
        "SELECT 1 AS one",
        "SELECT status, COUNT(*) FROM orders GROUP BY status WITH ROLLUP",
    ] {
        app.query_drop(statement).await.unwrap();
    }
    app.disconnect().await.unwrap();
    proxy.settled();
    let config = proxy.file("understudy.toml");
    let check = understudy(&["check", "--config", &config.to_string_lossy()]);
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
    for word in ["legacy", "vitess", "5.6.24", "Vitess"] {
        assert!(said(&check).contains(word), "{word}:\n{}", said(&check));
    }
    for (command, word) in [
        ("status", "vitess"),
        ("divergences", "unsupported"),
        ("latency", "SELECT"),
    ] {
        let mut tries = 0;
        let table = loop {
            let table = understudy(&[command, "--admin", &proxy.admin]);
            if said(&table).contains(word) || tries == 100 {
                break table;
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(table.status.code(), Some(0), "{command}: {}", said(&table));
        assert!(said(&table).contains(word), "{command}:\n{}", said(&table));
        let json = understudy(&[command, "--admin", &proxy.admin, "--format", "json"]);
        let answer: Value = serde_json::from_slice(&json.stdout)
            .unwrap_or_else(|fault| panic!("{command}: {fault}: {}", said(&json)));
        assert!(answer.is_object(), "{command}: {answer}");
        let nobody = format!("http://127.0.0.1:{}", super::proxy::free_port());
        let alone = understudy(&[command, "--admin", &nobody]);
        assert_eq!(alone.status.code(), Some(1), "{command}: {}", said(&alone));
        assert!(
            said(&alone).contains("understudy serve"),
            "the remedy is named: {}",
            said(&alone)
        );
    }
    assert_eq!(understudy(&["nonsense"]).status.code(), Some(2));
}

#[tokio::test]
async fn check_fails_where_a_server_is_missing_and_says_which() {
    let lab = Lab::get();
    let setup = Setup {
        shadow: Some(format!("127.0.0.1:{}", super::proxy::free_port())),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let config = proxy.file("understudy.toml");
    let check = understudy(&["check", "--config", &config.to_string_lossy()]);
    assert_eq!(check.status.code(), Some(1), "{}", said(&check));
    assert!(said(&check).contains("vitess"), "{}", said(&check));
}

fn status_of(url: &str, token: Option<&str>) -> u16 {
    let mut request = ureq::get(url).config().http_status_as_error(false).build();
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.call().expect("an answer").status().as_u16()
}

#[tokio::test]
async fn with_a_token_only_who_has_it_is_told() {
    let lab = Lab::get();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "a-long-and-secret-token\n").expect("written");
    let setup = Setup {
        admin: format!("token_file = \"{}\"", file.display()),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status_of(&format!("{}{path}", proxy.admin), None), 200);
    }
    for path in ["/api/v1/status", "/metrics", "/api/v1/findings"] {
        let url = format!("{}{path}", proxy.admin);
        assert_eq!(status_of(&url, None), 401, "{path}");
        assert_eq!(status_of(&url, Some("another")), 401, "{path}");
        assert_eq!(
            status_of(&url, Some("a-long-and-secret-token")),
            200,
            "{path}"
        );
    }
    let with = understudy(&[
        "status",
        "--admin",
        &proxy.admin,
        "--token-file",
        &file.to_string_lossy(),
    ]);
    assert_eq!(with.status.code(), Some(0), "{}", said(&with));
    assert!(!proxy.log().contains("a-long-and-secret-token"));
}

#[tokio::test]
async fn the_ledger_survives_kill_9_and_knows_of_the_gap() {
    let lab = Lab::get();
    let (mut proxy, table) = (Proxy::start(&lab), table(&lab).await);
    let mut app = connect(&proxy.address, "app").await;
    app.query_drop("SELECT status, COUNT(*) FROM orders GROUP BY status WITH ROLLUP")
        .await
        .unwrap();
    app.query_drop(format!("INSERT INTO scratch.{table} (id) VALUES (1)"))
        .await
        .unwrap();
    proxy.settled();
    let end = Instant::now() + Duration::from_secs(60);
    while divergences(&proxy).is_empty() || proxy.get("/api/v1/status")["ledger"]["queued"] != 0 {
        assert!(Instant::now() < end, "the divergence is written");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(proxy.get("/api/v1/taints")["items"], serde_json::json!([]));
    proxy.signal("KILL");
    proxy.start_again();
    assert_eq!(divergences(&proxy).len(), 1, "it is still there");
    let taints = proxy.get("/api/v1/taints")["items"].clone();
    let gap = taints.as_array().unwrap().iter().find(|taint| {
        taint["table"] == table && taint["cause"].as_str().unwrap_or("").contains("gap")
    });
    assert!(gap.is_some(), "{taints}");
    // After a clean stop there is none.
    proxy.send(
        "POST",
        "/api/v1/taints/clear",
        &serde_json::json!({"tables": ["*"], "who": "a test", "why": "to see it stay away"}),
    );
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(Duration::from_secs(60)), Some(0));
    proxy.start_again();
    assert_eq!(proxy.get("/api/v1/taints")["items"], serde_json::json!([]));
}

#[tokio::test]
async fn the_drain_has_a_bound() {
    let lab = Lab::get();
    let setup = Setup {
        listen: "drain_timeout_s = 1",
        ..Setup::default()
    };
    let mut proxy = Proxy::start_with(&lab, &setup);
    let mut app = connect(&proxy.address, "app").await;
    app.query_drop("BEGIN").await.unwrap();
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(Duration::from_secs(60)), Some(0));
    assert!(app.query_drop("SELECT 1").await.is_err());
}

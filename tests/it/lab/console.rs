//! The console on the real process, asked by the `mysql` command line.

use super::mirroring::connect;
use super::proxy::Setup;
use super::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Runs the `mysql` command line against the console.
fn mysql(proxy: &Proxy, arguments: &[&str]) -> Output {
    Command::new("mysql")
        .args([
            "--no-defaults",
            "--skip-ssl",
            "-h",
            "127.0.0.1",
            "-u",
            "anybody",
        ])
        .args(["-P", &proxy.console.to_string()])
        .args(arguments)
        .output()
        .expect("the mysql command line runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What a query says, rows as lines, cells by tabs, without names.
fn ask(proxy: &Proxy, query: &str) -> String {
    let output = mysql(proxy, &["-N", "-B", "-e", query]);
    assert!(output.status.success(), "{query}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A statement that the shadow answers as the primary does, and one that it does not support.
const STATEMENTS: [&str; 2] = [
    "SELECT 1 AS one",
    "SELECT status, COUNT(*) FROM orders GROUP BY status WITH ROLLUP",
];

async fn with_a_finding(lab: &Lab, setup: &Setup) -> Proxy {
    let proxy = Proxy::start_with(lab, setup);
    let mut app = connect(&proxy.address, "app").await;
    for statement in STATEMENTS {
        app.query_drop(statement).await.unwrap();
    }
    app.disconnect().await.unwrap();
    proxy.settled();
    proxy
}

/// Asks until the ledger's writer has written.
async fn until(proxy: &Proxy, query: &str, answer: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let now = ask(proxy, query);
        if now == answer {
            return;
        }
        assert!(Instant::now() < end, "{query}: {now}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_mysql_command_line_reads_the_ledger_and_nothing_else() {
    let lab = Lab::get();
    let proxy = with_a_finding(&lab, &Setup::default()).await;
    until(&proxy, "SELECT count(*) FROM findings", "1").await;
    let api = proxy.get("/api/v1/findings");
    let item = &api["items"][0];
    let row = ask(
        &proxy,
        "SELECT id, kind, state, count, commands, digest, tables FROM findings",
    );
    let expected = [
        item["id"].to_string(),
        item["kind"].as_str().unwrap().to_owned(),
        item["state"].as_str().unwrap().to_owned(),
        item["count"].to_string(),
        item["commands"].to_string(),
        item["digest"].as_str().unwrap().to_owned(),
        item["tables"].to_string(),
    ];
    assert_eq!(row, expected.join("\t"));
    assert_eq!(
        ask(
            &proxy,
            "SELECT kind, shadow_server, shadow_error IS NULL FROM divergences"
        ),
        "unsupported\tvitess\t0"
    );
    let alike = ask(
        &proxy,
        "SELECT sum(commands) FROM coverage WHERE verdict IN ('matched', 'tolerated') AND reason IS NULL",
    );
    let coverage = proxy.settled();
    let known = coverage["matched"].as_u64().unwrap() + coverage["tolerated"].as_u64().unwrap();
    assert_eq!(alike, known.to_string());
    assert!(known >= 1, "{coverage}");
    assert_eq!(
        ask(
            &proxy,
            "SELECT count(*) > 1 FROM latency WHERE server = 'legacy' AND p50_us > 0"
        ),
        "1"
    );
    let tables = ask(&proxy, "SHOW TABLES");
    for table in [
        "findings",
        "divergences",
        "latency",
        "coverage",
        "taints",
        "audit",
    ] {
        assert!(tables.contains(table), "{tables}");
    }
    assert!(ask(&proxy, "DESCRIBE findings").contains("fingerprint"));
    for (query, word) in [
        ("DROP TABLE findings", "1290"),
        ("SELECT * FROM meta", "1142"),
        ("ATTACH '/tmp/understudy-stolen.db' AS s", "read-only"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
            "3024",
        ),
    ] {
        let output = mysql(&proxy, &["-e", query]);
        assert!(!output.status.success(), "{query}");
        assert!(said(&output).contains(word), "{query}: {}", said(&output));
    }
    assert!(proxy.metric("understudy_console_connections_total") > 5);
    assert_eq!(proxy.metric("understudy_console_cut_total"), 1);
    assert_eq!(proxy.metric("understudy_console_broken_total"), 0);
}

#[tokio::test]
async fn the_client_may_name_the_database_and_complete_names() {
    let lab = Lab::get();
    let proxy = with_a_finding(&lab, &Setup::default()).await;
    // --auto-rehash asks SHOW TABLES and COM_FIELD_LIST.
    for arguments in [
        &[
            "--auto-rehash",
            "ledger",
            "-e",
            "USE ledger; SELECT count(*) FROM taints; \\s",
        ][..],
        &[
            "-e",
            "SET NAMES utf8mb4; SELECT @@version_comment; SHOW WARNINGS; COMMIT",
        ],
    ] {
        let output = mysql(&proxy, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
    let output = mysql(&proxy, &["nothing", "-e", "SELECT 1"]);
    assert!(said(&output).contains("1049"), "{}", said(&output));
}

#[tokio::test]
async fn with_a_token_the_clients_password_is_the_token() {
    let lab = Lab::get();
    let setup = Setup {
        admin: "token = \"hush\"".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    for (arguments, code) in [
        (&["-e", "SELECT 1"][..], Some(1)),
        (&["-phus", "-e", "SELECT 1"], Some(1)),
        (&["-phush", "-e", "SELECT 1"], Some(0)),
    ] {
        let output = mysql(&proxy, arguments);
        assert_eq!(output.status.code(), code, "{}", said(&output));
    }
}

#[tokio::test]
async fn a_console_whose_port_is_taken_stops_nothing() {
    let lab = Lab::get();
    let first = Proxy::start(&lab);
    let setup = Setup {
        console: Some(first.console),
        ..Setup::default()
    };
    let second = Proxy::start_with(&lab, &setup);
    assert!(
        second.log().contains("admin.console"),
        "it says so: {}",
        second.log()
    );
    assert_eq!(ask(&first, "SELECT 1"), "1");
}

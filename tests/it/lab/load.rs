//! Real load, alone on the machine: what the mirror makes of sysbench, and of an answer of 2 GB.

use super::{Lab, Proxy, client};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};
use serde_json::Value;
use std::process::Command;

/// Seconds of each sysbench run: `UNDERSTUDY_LOAD_S`, 60 by default.
fn seconds() -> u64 {
    let set = std::env::var("UNDERSTUDY_LOAD_S").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(60)
}

const TABLES: u32 = 4;
/// So many that transactions seldom deadlock, and fewer than the 10,000 that vtgate hands out of a
/// shard.
const ROWS: u32 = 10_000;

/// Transactions a second: a rate that vtgate bears on two cores beside the tests themselves.
const RATE: u32 = 35;

/// Runs sysbench through the proxy to its end, with these arguments too.
pub fn sysbench(proxy: &Proxy, command: &str, more: &[String]) -> String {
    let output = self::command(proxy)
        .args(more)
        .arg(command)
        .output()
        .expect("sysbench runs: lab/install sysbench");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "sysbench {command}: {text}\n{}",
        proxy.log()
    );
    text
}

/// sysbench through the proxy, to be told the rest.
pub fn command(proxy: &Proxy) -> Command {
    let (host, port) = proxy.address.rsplit_once(':').expect("host:port");
    let mut command = Command::new("sysbench");
    command
        .args(["oltp_read_write", "--db-driver=mysql", "--auto_inc=off"])
        .args(["--mysql-user=app", "--mysql-password=app", "--mysql-db=app"])
        .arg(format!("--mysql-host={host}"))
        .arg(format!("--mysql-port={port}"))
        .arg(format!("--tables={TABLES}"))
        .arg(format!("--table-size={ROWS}"));
    command
}

/// The tables, on both sides.
pub fn prepare(proxy: &Proxy) {
    let more = ["--threads=8".to_owned(), "--db-ps-mode=disable".to_owned()];
    sysbench(proxy, "cleanup", &more);
    sysbench(proxy, "prepare", &more);
    proxy.settled();
}

async fn rows(address: &str, table: u32) -> Vec<(i64, i64, String, String)> {
    let opts: Opts = client(address, "app");
    let mut direct = Conn::new(opts).await.expect("the login");
    direct
        .query(format!(
            "SELECT id, k, c, pad FROM sbtest{table} ORDER BY id"
        ))
        .await
        .expect("the rows")
}

/// The tables that are not equal row by row.
pub async fn differing(lab: &Lab) -> Vec<String> {
    let mut differing = Vec::new();
    for table in 1..=TABLES {
        let (legacy, shadow) = (
            rows(&lab.legacy(), table).await,
            rows(&lab.shadow(), table).await,
        );
        if legacy != shadow || legacy.len() <= 1000 {
            let (ours, theirs) = (legacy.len(), shadow.len());
            let only = legacy.iter().filter(|row| !shadow.contains(row)).count();
            differing.push(format!(
                "sbtest{table}: {ours} rows and {theirs}, {only} differ"
            ));
        }
    }
    differing
}

/// A figure of sysbench's report.
pub fn figure(said: &str, name: &str) -> u64 {
    said.lines()
        .find_map(|line| line.trim().strip_prefix(name)?.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {said}"))
}

/// Transactions that the legacy has chosen as a deadlock's victim.
pub async fn deadlocks(lab: &Lab) -> u64 {
    let account = OptsBuilder::from_opts(client(&lab.legacy(), "app"))
        .user(Some(lab.value("LEGACY_PROXY_USER")))
        .pass(Some(lab.value("LEGACY_PROXY_PASSWORD")));
    deadlocks_of(Conn::new(account).await.expect("the login")).await
}

/// The same of vtgate's store.
pub async fn store_deadlocks(lab: &Lab) -> u64 {
    deadlocks_of(super::planted::store(lab, "mysql").await).await
}

async fn deadlocks_of(mut direct: Conn) -> u64 {
    direct
        .query_drop("SET GLOBAL innodb_monitor_enable = 'lock_deadlocks'")
        .await
        .expect("SUPER");
    let count: Option<i64> = direct
        .query_first(
            "SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME = 'lock_deadlocks'",
        )
        .await
        .expect("the metric");
    count.expect("the metric").unsigned_abs()
}

/// Each verdict's, tolerance's and reason's share of all commands.
fn print_shares(coverage: &Value) {
    let commands = number(coverage, "commands");
    let line = |name: &str, count: &Value| {
        let count = count.as_u64().unwrap_or(0);
        let share = count * 10_000 / commands.max(1);
        println!(
            "{name:<28} {count:>8}  {}.{:02} %",
            share / 100,
            share % 100
        );
    };
    for name in ["commands", "matched", "tolerated", "diverged", "pending"] {
        line(name, &coverage[name]);
    }
    for (what, of) in [
        ("tolerated", "by_tolerance"),
        ("not compared", "not_compared"),
    ] {
        for (name, count) in coverage[of].as_object().expect("counts by name") {
            line(&format!("{what}: {name}"), count);
        }
    }
}

fn number(coverage: &Value, name: &str) -> u64 {
    coverage[name].as_u64().unwrap_or(0)
}

async fn sysbench_leaves_no_difference(prepared: bool) {
    let lab = Lab::get();
    let proxy = Proxy::start(&lab);
    prepare(&proxy);
    let deadlocks_before = deadlocks(&lab).await;
    let ps_mode = if prepared { "auto" } else { "disable" };
    let more = [
        "--threads=8".to_owned(),
        format!("--time={}", seconds()),
        format!("--rate={RATE}"),
        format!("--db-ps-mode={ps_mode}"),
    ];
    let said = sysbench(&proxy, "run", &more);
    let coverage = proxy.settled();
    println!("prepared: {prepared}");
    print_shares(&coverage);
    for line in said
        .lines()
        .filter(|line| line.contains("per sec.") || line.contains("95th"))
    {
        println!("{line}");
    }
    let done = figure(&said, "transactions:");
    assert!(
        done >= seconds() * 30,
        "{done} transactions in {} s",
        seconds()
    );
    // What the primary itself refuses is no fault of the proxy.
    let errors = figure(&said, "ignored errors:");
    let deadlocks = deadlocks(&lab).await - deadlocks_before;
    assert!(
        errors <= deadlocks,
        "{deadlocks} deadlocks on the primary: {said}"
    );
    assert_eq!(
        number(&coverage, "diverged"),
        0,
        "{}",
        proxy.get("/api/v1/divergences")
    );
    assert_eq!(
        number(&coverage["not_compared"], "dropped"),
        0,
        "{coverage}"
    );
    let judged = number(&coverage, "matched") + number(&coverage, "tolerated");
    assert!(
        judged * 100 >= number(&coverage, "commands") * 95,
        "{coverage}"
    );
    assert_eq!(proxy.get("/api/v1/taints")["items"], serde_json::json!([]));
    assert_eq!(differing(&lab).await, Vec::<String>::new());
}

#[tokio::test]
async fn sysbench_as_text() {
    sysbench_leaves_no_difference(false).await;
}

#[tokio::test]
async fn sysbench_as_prepared_statements() {
    sysbench_leaves_no_difference(true).await;
}

#[tokio::test]
async fn two_gigabytes_pass_in_constant_memory_and_end_in_a_verdict() {
    let lab = Lab::get();
    let proxy = Proxy::start(&lab);
    let opts: Opts = client(&proxy.address, "scratch");
    let mut app = Conn::new(opts).await.expect("the login");
    for statement in [
        "DROP TABLE IF EXISTS large",
        "CREATE TABLE large (id INT PRIMARY KEY, body LONGTEXT)",
        "INSERT INTO large VALUES (1, REPEAT('x', 1000000)), (2, REPEAT('y', 1000000))",
    ] {
        app.query_drop(statement).await.expect(statement);
    }
    for doubling in 1..5 {
        let add = 1 << doubling;
        app.query_drop(format!(
            "INSERT INTO large SELECT id + {add}, body FROM large"
        ))
        .await
        .expect("more rows");
    }
    proxy.settled();
    let resident = proxy.resident_kib();
    // 32 rows of 1 MB, 64 times over.
    let read = "SELECT a.body FROM large a, large b, (SELECT 1 UNION ALL SELECT 2) c";
    let mut bytes = 0_u64;
    let mut most = resident;
    let mut result = app.query_iter(read).await.expect("the answer begins");
    while let Some(row) = result.next().await.expect("a row") {
        let body: String = row.get(0).expect("a body");
        bytes += body.len() as u64;
        most = most.max(proxy.resident_kib());
    }
    drop(result);
    app.disconnect().await.expect("the end");
    let coverage = proxy.settled();
    println!("{bytes} bytes; resident {resident} KiB before, {most} KiB at most; {coverage}");
    assert_eq!(bytes, 2_048_000_000);
    assert!(
        most <= resident + (64 << 10),
        "from {resident} to {most} KiB"
    );
    assert_eq!(
        number(&coverage["not_compared"], "too_large"),
        1,
        "{coverage}"
    );
}

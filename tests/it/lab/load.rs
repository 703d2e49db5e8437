//! Real load, alone on the machine: what production sees while the shadow is well, hangs, dies or
//! talks nonsense; and what the mirror makes of it.

use super::{Lab, Proxy, client, proxy::Setup, signal};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use serde_json::Value;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Seconds of each sysbench run: `UNDERSTUDY_LOAD_S`, 60 by default.
fn seconds() -> u64 {
    let set = std::env::var("UNDERSTUDY_LOAD_S").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(60)
}

const TABLES: u32 = 4;
const ROWS: u32 = 2000;

/// Transactions a second: a rate that vtgate bears on two cores beside the tests themselves.
const RATE: u32 = 35;

fn sysbench(proxy: &Proxy, command: &str, prepared: bool) -> String {
    let (host, port) = proxy.address.rsplit_once(':').expect("host:port");
    let output = Command::new("sysbench")
        .args([
            "oltp_read_write",
            "--db-driver=mysql",
            "--auto_inc=off",
            "--threads=8",
        ])
        .args(["--mysql-user=app", "--mysql-password=app", "--mysql-db=app"])
        .arg(format!("--mysql-host={host}"))
        .arg(format!("--mysql-port={port}"))
        .arg(format!("--tables={TABLES}"))
        .arg(format!("--table-size={ROWS}"))
        .arg(format!("--time={}", seconds()))
        .arg(format!("--rate={RATE}"))
        .arg(format!(
            "--db-ps-mode={}",
            if prepared { "auto" } else { "disable" }
        ))
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

fn number(coverage: &Value, name: &str) -> u64 {
    coverage[name].as_u64().unwrap_or(0)
}

async fn sysbench_leaves_no_difference(prepared: bool) {
    let lab = Lab::get();
    let proxy = Proxy::start(&lab);
    sysbench(&proxy, "cleanup", false);
    sysbench(&proxy, "prepare", false);
    proxy.settled();
    let said = sysbench(&proxy, "run", prepared);
    let coverage = proxy.settled();
    println!("prepared: {prepared}; coverage: {coverage:#}");
    for line in said
        .lines()
        .filter(|line| line.contains("per sec.") || line.contains("95th"))
    {
        println!("{line}");
    }
    let done = said
        .lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix("transactions:")?
                .split_whitespace()
                .next()
        })
        .and_then(|n| n.parse::<u64>().ok())
        .expect("sysbench says how many transactions");
    assert!(
        done >= seconds() * 30,
        "{done} transactions in {} s",
        seconds()
    );
    assert!(
        said.contains("ignored errors:                      0 "),
        "{said}"
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
    for table in 1..=TABLES {
        let (legacy, shadow) = (
            rows(&lab.legacy(), table).await,
            rows(&lab.shadow(), table).await,
        );
        assert!(
            legacy.len() > 1000 && legacy == shadow,
            "sbtest{table} differs"
        );
    }
}

#[tokio::test]
async fn sysbench_as_text() {
    sysbench_leaves_no_difference(false).await;
}

#[tokio::test]
async fn sysbench_as_prepared_statements() {
    sysbench_leaves_no_difference(true).await;
}

/// What clients saw in a while.
#[derive(Debug)]
struct Figures {
    done: usize,
    p99: Duration,
}

/// Four clients that read and write without a pause, for a while. Any error fails the test.
async fn work(proxy: &Proxy, during: Duration) -> Figures {
    let mut tasks = Vec::new();
    for worker in 0..4 {
        let opts: Opts = client(&proxy.address, "scratch");
        tasks.push(tokio::spawn(async move {
            let mut app = Conn::new(opts).await.expect("the login");
            let mut took = Vec::new();
            let end = Instant::now() + during;
            while Instant::now() < end {
                let began = Instant::now();
                app.query_drop("BEGIN").await.expect("BEGIN");
                app.query_drop(format!("UPDATE faults SET n = n + 1 WHERE id = {worker}"))
                    .await
                    .expect("UPDATE");
                let found: Option<i64> = app
                    .exec_first("SELECT n FROM faults WHERE id = ?", (worker,))
                    .await
                    .expect("SELECT");
                assert!(found.is_some());
                app.query_drop("COMMIT").await.expect("COMMIT");
                took.push(began.elapsed());
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            app.disconnect().await.expect("the end");
            took
        }));
    }
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("a client without an error"));
    }
    took.sort_unstable();
    Figures {
        done: took.len(),
        p99: took[took.len() * 99 / 100],
    }
}

async fn faults_table(lab: &Lab) {
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = Conn::new(client(&address, "scratch"))
            .await
            .expect("the login");
        direct
            .query_drop("CREATE TABLE IF NOT EXISTS faults (id INT PRIMARY KEY, n BIGINT)")
            .await
            .expect("the table");
        let mut tries = 0;
        while direct.query_drop("DELETE FROM faults").await.is_err() {
            tries += 1;
            assert!(tries < 300, "vtgate does not see the table");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        direct
            .query_drop("INSERT INTO faults VALUES (0, 0), (1, 0), (2, 0), (3, 0)")
            .await
            .expect("the rows");
    }
}

const WHILE: Duration = Duration::from_secs(8);

/// Production during a fault of the shadow against production before it, with the bounds of the
/// issue; noise of a busy machine gets three tries.
async fn production_does_not_notice(proxy: &Proxy) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let before = work(proxy, WHILE).await;
        let during = work(proxy, WHILE).await;
        seen.push((before, during));
        let (before, during) = seen.last().expect("a pair");
        let fine = during.p99 <= before.p99.mul_f64(1.5) + Duration::from_millis(5)
            && during.done * 10 >= before.done * 9;
        if fine {
            println!("before {before:?}, during {during:?}");
            return;
        }
    }
    panic!("production noticed: {seen:?}");
}

/// Works until the mirror compares again.
async fn mirroring_resumes(proxy: &Proxy) {
    let end = Instant::now() + Duration::from_secs(150);
    let judged = |coverage: &Value| number(coverage, "matched") + number(coverage, "tolerated");
    let before = judged(&proxy.get("/api/v1/status")["coverage"]);
    loop {
        work(proxy, Duration::from_millis(500)).await;
        let status = proxy.get("/api/v1/status");
        if status["mirror"]["state"] == "running" && judged(&status["coverage"]) > before + 20 {
            break;
        }
        assert!(
            Instant::now() < end,
            "it does not resume: {status}\n{}",
            proxy.log()
        );
    }
    proxy.settled();
    let status = proxy.get("/api/v1/status");
    assert_eq!(status["sessions"]["tunnelled"], 0, "{status}");
}

const MIRROR: &str = "writes = \"apply\"\ntimeout_ms = 3000\nbreaker_lag_ms = 3000\n\
    breaker_errors = 3\nbreaker_pause_ms = 200\nqueue_bytes = \"4MiB\"\nsession_queue_bytes = \"1MiB\"\n\
    command_bytes_max = \"512KiB\"";

fn proxy_before(lab: &Lab, shadow: Option<String>) -> Proxy {
    let setup = Setup {
        mirror: MIRROR,
        shadow,
        ..Setup::default()
    };
    Proxy::start_with(lab, &setup)
}

fn assert_within_budget(proxy: &Proxy) {
    let mirror = proxy.get("/api/v1/status")["mirror"].clone();
    assert!(
        mirror["queue_bytes"].as_u64() <= mirror["queue_bytes_max"].as_u64(),
        "{mirror}"
    );
}

#[tokio::test]
async fn a_shadow_that_hangs_is_not_noticed() {
    let lab = Lab::get();
    faults_table(&lab).await;
    let proxy = proxy_before(&lab, None);
    let calm = work(&proxy, WHILE).await;
    let pid = lab.pid("SHADOW_PID");
    let _goes_on = Continues(pid);
    signal(pid, "STOP");
    let hung = work(&proxy, WHILE).await;
    assert_within_budget(&proxy);
    signal(pid, "CONT");
    println!("before {calm:?}, during {hung:?}");
    assert!(
        hung.p99 <= calm.p99.mul_f64(1.5) + Duration::from_millis(5)
            && hung.done * 10 >= calm.done * 9,
        "before {calm:?}, during {hung:?}"
    );
    mirroring_resumes(&proxy).await;
}

/// Lets a stopped process go on, whatever becomes of the test.
struct Continues(i32);

impl Drop for Continues {
    fn drop(&mut self) {
        let _sent = Command::new("kill")
            .args(["-s", "CONT", &self.0.to_string()])
            .status();
    }
}

#[tokio::test]
async fn a_shadow_that_is_killed_is_not_noticed() {
    let lab = Lab::get();
    faults_table(&lab).await;
    let proxy = proxy_before(&lab, None);
    work(&proxy, Duration::from_secs(1)).await;
    signal(lab.pid("SHADOW_PID"), "KILL");
    production_does_not_notice(&proxy).await;
    assert_within_budget(&proxy);
    let run = std::path::Path::new(&std::env::var("LAB_ENV").expect("LAB_ENV"))
        .parent()
        .expect("a directory")
        .to_owned();
    let restarted = Command::new("lab/restart")
        .arg("shadow")
        .env("LAB_RUN", run)
        .status();
    assert!(
        restarted.is_ok_and(|status| status.success()),
        "lab/restart shadow"
    );
    mirroring_resumes(&proxy).await;
}

#[tokio::test]
async fn a_shadow_that_talks_nonsense_is_not_noticed() {
    let lab = Lab::get();
    faults_table(&lab).await;
    let way = Way::to(lab.shadow()).await;
    let proxy = proxy_before(&lab, Some(way.address.clone()));
    work(&proxy, Duration::from_secs(1)).await;
    way.nonsense.store(true, Ordering::Relaxed);
    production_does_not_notice(&proxy).await;
    assert_within_budget(&proxy);
    way.nonsense.store(false, Ordering::Relaxed);
    mirroring_resumes(&proxy).await;
}

/// A way to the shadow on which its answers can be exchanged for nonsense.
struct Way {
    address: String,
    nonsense: Arc<AtomicBool>,
}

impl Way {
    async fn to(shadow: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let nonsense = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&nonsense);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (shadow, switch) = (shadow.clone(), Arc::clone(&switch));
                tokio::spawn(async move {
                    let far = tokio::net::TcpStream::connect(&shadow).await?;
                    let ((mut from, mut to), (mut back, mut forth)) =
                        (near.into_split(), far.into_split());
                    let up = async { tokio::io::copy(&mut from, &mut forth).await };
                    let down = async {
                        let mut piece = vec![0; 4096];
                        loop {
                            let n = back.read(&mut piece).await?;
                            if switch.load(Ordering::Relaxed) {
                                piece[..n].iter_mut().for_each(|byte| *byte ^= 0xA5);
                            }
                            to.write_all(&piece[..n]).await?;
                            if n == 0 {
                                return Ok(0);
                            }
                        }
                    };
                    tokio::select! { done = up => done, done = down => done }
                });
            }
        });
        Self { address, nonsense }
    }
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

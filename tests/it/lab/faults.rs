//! What production sees, alone on the machine, while the shadow hangs, dies or talks nonsense.

use super::proxy::Setup;
use super::way::Way;
use super::{Lab, Proxy, client, signal};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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

/// Works until the mirror compares again.
async fn mirroring_resumes(proxy: &Proxy) {
    let end = Instant::now() + Duration::from_secs(150);
    let judged = |coverage: &Value| {
        ["matched", "tolerated"]
            .iter()
            .filter_map(|name| coverage[*name].as_u64())
            .sum::<u64>()
    };
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

fn proxy_to(lab: &Lab, shadow: Option<String>) -> Proxy {
    let setup = Setup {
        mirror: MIRROR,
        shadow,
        ..Setup::default()
    };
    Proxy::start_with(lab, &setup)
}

/// What all that the mirror holds may take beyond its queue's 4 MiB: connections, journals, the
/// allocator's slack.
const BESIDE_THE_QUEUE_KIB: u64 = 24 << 10;

/// Production during a fault of the shadow against production before it, with the bounds of the
/// issue, and the memory meanwhile; after it mirroring resumes. Noise of a busy machine gets three
/// tries.
async fn production_does_not_notice(proxy: &Proxy, fault: impl Fn(), heal: impl Fn()) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let before = work(proxy, WHILE).await;
        proxy.settled();
        let resident = proxy.resident_kib();
        fault();
        let during = work(proxy, WHILE).await;
        let (mirror, grown) = (
            proxy.get("/api/v1/status")["mirror"].clone(),
            proxy.resident_kib().saturating_sub(resident),
        );
        heal();
        assert!(
            mirror["queue_bytes"].as_u64() <= mirror["queue_bytes_max"].as_u64(),
            "{mirror}"
        );
        assert!(
            grown <= (4 << 10) + BESIDE_THE_QUEUE_KIB,
            "{grown} KiB more than before the fault"
        );
        mirroring_resumes(proxy).await;
        println!("before {before:?}, during {during:?}, {grown} KiB more");
        let fine = during.p99 <= before.p99.mul_f64(1.5) + Duration::from_millis(5)
            && during.done * 10 >= before.done * 9;
        if fine {
            return;
        }
        seen.push((before, during));
    }
    panic!("production noticed: {seen:?}");
}

#[tokio::test]
async fn a_shadow_that_hangs_is_not_noticed() {
    let lab = Lab::get();
    faults_table(&lab).await;
    let proxy = proxy_to(&lab, None);
    let pid = lab.pid("SHADOW_PID");
    let _goes_on = Continues(pid);
    production_does_not_notice(&proxy, || signal(pid, "STOP"), || signal(pid, "CONT")).await;
}

/// Lets a stopped process go on, whatever becomes of the test.
pub struct Continues(pub i32);

impl Drop for Continues {
    fn drop(&mut self) {
        let _sent = Command::new("kill")
            .args(["-s", "CONT", &self.0.to_string()])
            .status();
    }
}

#[tokio::test]
async fn a_shadow_that_is_killed_is_not_noticed() {
    faults_table(&Lab::get()).await;
    let proxy = proxy_to(&Lab::get(), None);
    // Its pid changes with each restart.
    let kill = || signal(Lab::get().pid("SHADOW_PID"), "KILL");
    production_does_not_notice(&proxy, kill, || restart("shadow")).await;
}

/// Starts a server of the lab again over its data: `legacy`, `shadow` or `store`.
pub fn restart(name: &str) {
    let env = std::env::var("LAB_ENV").expect("LAB_ENV");
    let run = Path::new(&env).parent().expect("a directory").to_owned();
    let restarted = Command::new("lab/restart")
        .arg(name)
        .env("LAB_RUN", run)
        .status();
    assert!(
        restarted.is_ok_and(|status| status.success()),
        "lab/restart {name}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_talks_nonsense_is_not_noticed() {
    let lab = Lab::get();
    faults_table(&lab).await;
    let way = Way::to(lab.shadow()).await;
    let proxy = proxy_to(&lab, Some(way.address.clone()));
    let turn = |on| way.nonsense.store(on, Ordering::Relaxed);
    production_does_not_notice(&proxy, || turn(true), || turn(false)).await;
}

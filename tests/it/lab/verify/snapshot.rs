//! Snapshot mode: both servers as they were at one instant, for which every session waits a moment.

use super::live::{ROWS, filled};
use super::{begin_with, store, table, until, verify};
use crate::lab::cutover::scene as cutover;
use crate::lab::load;
use crate::lab::mirroring::connect;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Seconds of load at most; it is ended when the runs are.
const LOAD_S: u32 = 1_800;

fn runs() -> u32 {
    let set = std::env::var("VERIFY_RUNS").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// A run of these tables in snapshot mode, to its end.
fn snapshot(proxy: &Proxy, tables: &str) -> (i32, Value) {
    tokio::task::block_in_place(|| {
        verify(&proxy.admin, &["--mode", "snapshot", "--tables", tables])
    })
}

/// The holds of a run, in milliseconds: those that were of use, and those in vain.
fn holds(told: &Value) -> (Vec<f64>, Vec<f64>) {
    let all = told["run"]["instants"]["holds"].as_array().expect("holds");
    let ms = |one: &&Value| one["hold_us"].as_f64().map(|us| us / 1000.0);
    let (good, vain): (Vec<&Value>, Vec<&Value>) =
        all.iter().partition(|one| one["failed"].is_null());
    (
        good.iter().filter_map(ms).collect(),
        vain.iter().filter_map(ms).collect(),
    )
}

fn setup(verify: &str) -> Setup {
    Setup {
        // A slow machine makes the shadow late, not the mirror lossy.
        mirror: "writes = \"apply\"\norder_wait_ms = 600000\nbreaker_lag_ms = 600000",
        ledger: "literals = \"keep\"",
        more: format!("[verify]\nshare = 1.0\n{verify}"),
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_sysbench_an_instant_shows_what_differs_and_nothing_else() {
    let lab = Lab::get();
    let proxy = Proxy::start_with(&lab, &setup("range_rows = 500\nsnapshot_s = 2"));
    load::prepare(&proxy);
    let still = filled(&lab).await;
    let mut sysbench = load::command(&proxy);
    sysbench
        .args(["--threads=4", "--rate=10"])
        .arg(format!("--time={LOAD_S}"))
        .arg("run")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut sysbench = sysbench.spawn().expect("sysbench runs");
    let tables = format!("app.sbtest*,scratch.{still}");
    let (mut good, mut vain, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs() {
        let (code, told) = snapshot(&proxy, &tables);
        for one in told["run"]["tables"].as_array().expect("tables") {
            if one["differences"] != json!({}) || one["outcome"] != "equal" {
                wrong.push(format!("run {run}: {one:#}"));
            }
            assert_eq!(one["unsettled"], 0, "{one:#}");
        }
        let (some, others) = holds(&told);
        println!(
            "run {run}: {} ({code}), {} rows, {} instants, holds {some:?}, in vain {others:?}",
            told["run"]["outcome"], told["run"]["rows"], told["run"]["instants"]["instants"],
        );
        good.extend(some);
        vain.extend(others);
    }
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let plant = format!("UPDATE {still} SET body = 'planted' WHERE id = 7");
    shadow.query_drop(plant).await.expect("planted");
    let (code, told) = snapshot(&proxy, &tables);
    let traffic = sysbench.try_wait().expect("it can be asked");
    sysbench.kill().expect("it ends");
    sysbench.wait().expect("its end");
    assert!(traffic.is_none(), "sysbench ended too early: {traffic:?}");
    let one = table(&told, &still);
    assert_eq!(
        (code, &one["differences"]),
        (1, &json!({"changed": 1})),
        "{told:#}"
    );
    assert_eq!(
        (&one["rows"][0]["key"], &one["rows"][0]["columns"]),
        (&json!("`id` = 7"), &json!(["body"]))
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    good.sort_by(f64::total_cmp);
    let at = |percent: usize| good[(good.len() - 1) * percent / 100];
    println!(
        "{} holds: p50 {} ms, p90 {} ms, p99 {} ms, max {} ms; in vain {vain:?}",
        good.len(),
        at(50),
        at(90),
        at(99),
        at(100)
    );
    // The bound, and what it takes to let go on a busy machine.
    assert!(
        good.iter().chain(&vain).all(|ms| *ms < 400.0),
        "{good:?} {vain:?}"
    );
}

/// A session that writes all the time; how long its slowest statement took.
fn writes(address: &str, table: &str, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Duration> {
    let (address, table, stop) = (address.to_owned(), table.to_owned(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut app = connect(&address, "scratch").await;
        let mut slowest = Duration::ZERO;
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let write = format!("UPDATE {table} SET body = '{n}' WHERE id = {n} % 100 + 1");
            let began = Instant::now();
            app.query_drop(write)
                .await
                .expect("no client sees an error");
            slowest = slowest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest
    })
}

fn begun(proxy: &Proxy, table: &str) {
    let tables = format!("scratch.{table}");
    tokio::task::block_in_place(|| begin_with(proxy, &tables, &["--mode", "snapshot"]));
}

fn wait_for(proxy: &Proxy, what: &dyn Fn(&Value) -> bool) -> Value {
    tokio::task::block_in_place(|| until(proxy, what))
}

fn failed(told: &Value) -> u64 {
    told["run"]["instants"]["failed"].as_u64().unwrap_or(0)
}

fn ended(told: &Value) -> bool {
    told["state"] == "ended"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_stays_open_is_not_waited_for_beyond_the_bound() {
    let lab = Lab::get();
    let still = filled(&lab).await;
    let proxy = Proxy::start_with(&lab, &setup("hold_ms_max = 150"));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = writes(&proxy.address, &still, &stop);
    let mut app = connect(&proxy.address, "scratch").await;
    // It says something all the time.
    app.query_drop("BEGIN").await.expect("begun");
    begun(&proxy, &still);
    let began = Instant::now();
    while failed(&proxy.get("/api/v1/verify")) < 2 {
        for _ in 0..20 {
            app.query_drop("SELECT 1").await.expect("answered");
            // The shadow has to keep up for as long as it takes until sessions may be held again.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "nothing was tried"
        );
    }
    app.query_drop("COMMIT").await.expect("committed");
    let told = wait_for(&proxy, &ended);
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    let (good, vain) = holds(&told);
    assert_eq!(good.len(), 1, "{told:#}");
    // Given up 5 ms before the bound, so that everybody has gone on within it.
    assert!(
        vain.iter().any(|ms| *ms >= 145.0),
        "it was waited for: {told:#}"
    );
    assert!(vain.iter().all(|ms| *ms < 400.0), "{told:#}");
    // One that says nothing keeps nobody waiting.
    app.query_drop("BEGIN").await.expect("begun");
    app.query_drop("SELECT 1").await.expect("answered");
    begun(&proxy, &still);
    let told = wait_for(&proxy, &|told| failed(told) >= 2);
    let why = told["run"]["instants"]["holds"][0]["failed"].to_string();
    assert!(why.contains("its client says nothing"), "{told:#}");
    assert_eq!(holds(&told).1, Vec::<f64>::new(), "{told:#}");
    app.query_drop("ROLLBACK").await.expect("rolled back");
    let told = wait_for(&proxy, &ended);
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    // And it ends at an operator's word, in the midst of asking.
    app.query_drop("BEGIN").await.expect("begun");
    app.query_drop("SELECT 1").await.expect("answered");
    begun(&proxy, &still);
    wait_for(&proxy, &|told| failed(told) >= 1);
    proxy.send("POST", "/api/v1/verify/abort", &json!({"who": "dba"}));
    let told = wait_for(&proxy, &ended);
    assert_eq!(told["run"]["outcome"], "aborted", "{told:#}");
    stop.store(true, Ordering::Relaxed);
    let slowest = writer.await.expect("it wrote");
    println!("the slowest write took {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_keep_what_they_hold() {
    let lab = Lab::get();
    let still = filled(&lab).await;
    let proxy = Proxy::start_with(&lab, &setup("snapshot_s = 1\nrows_per_second = 3000"));
    let mut app = connect(&proxy.address, "scratch").await;
    let ask = format!("SELECT body FROM {still} WHERE id = ?");
    let prepared = app.prep(ask).await.expect("prepared");
    for statement in [
        "CREATE TEMPORARY TABLE kept (id INT PRIMARY KEY)",
        "INSERT INTO kept VALUES (5)",
        "SET @kept = 7",
        "DO GET_LOCK('kept by a session', 1)",
    ] {
        app.query_drop(statement).await.expect("done");
    }
    let known: Option<(u64,)> = app
        .query_first("SELECT CONNECTION_ID()")
        .await
        .expect("told");
    let (_, told) = snapshot(&proxy, &format!("scratch.{still}"));
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    assert!(holds(&told).0.len() > 1, "{told:#}");
    let body: Option<String> = app.exec_first(&prepared, (3,)).await.expect("executed");
    assert_eq!(body.as_deref(), Some("b"));
    let kept: Option<(u32, u32, u64, u64)> = app
        .query_first(
            "SELECT id, @kept, CONNECTION_ID(), IS_USED_LOCK('kept by a session') FROM kept",
        )
        .await
        .expect("it is there");
    let id = known.expect("a number").0;
    assert_eq!(kept, Some((5, 7, id, id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_comes_first() {
    let lab = Lab::get();
    let still = filled(&lab).await;
    let mut setup = cutover::setup("hold_ms_max = 10000");
    setup.more.push_str("[verify]\nhold_ms_max = 9000\n");
    let proxy = Proxy::start_with(&lab, &setup);
    let mut app = connect(&proxy.address, "scratch").await;
    let mut other = connect(&proxy.address, "scratch").await;
    app.query_drop("BEGIN").await.expect("begun");
    let stop = Arc::new(AtomicBool::new(false));
    // It stays in its transaction, and says something all the time.
    let (stays, told) = (app, Arc::clone(&stop));
    let stays = tokio::spawn(async move {
        let mut app = stays;
        while !told.load(Ordering::Relaxed) {
            app.query_drop("SELECT 1")
                .await
                .expect("no client sees an error");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        app.query_drop("COMMIT").await.expect("committed");
        app
    });
    begun(&proxy, &still);
    // Once it is held, nobody else is answered.
    let end = Instant::now() + Duration::from_secs(60);
    while proxy.metric("understudy_sessions_held_total") == 0 {
        assert!(Instant::now() < end, "nobody was held");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let forced = [
        "divergences",
        "coverage",
        "evidence",
        "latency",
        "writers",
        "features",
        "taint",
        "open_transactions",
        "verification",
        "reachability",
        "lag",
        "accounts",
        "ddl",
        "journals",
    ];
    let body = json!({"to": "vitess", "force": forced});
    let asked = cutover::ask(&proxy, &body);
    assert_eq!(asked.0, 202, "{asked:?}");
    let run = wait_for(&proxy, &|told| failed(told) >= 1);
    let why = run["run"]["instants"]["holds"][0].clone();
    assert_eq!(why["failed"], "a cutover is under way", "{run:#}");
    assert!(
        why["hold_us"].as_u64().expect("held") < 9_000_000,
        "{run:#}"
    );
    // While the cutover holds, the run waits for it.
    stop.store(true, Ordering::Relaxed);
    let mut app = stays.await.expect("it stayed");
    let states = ["soaking", "done", "aborted"];
    let cutover = cutover::until_state(&proxy, &states, Duration::from_secs(60)).await;
    assert_ne!(cutover["state"], "aborted", "{cutover:#}");
    let run = wait_for(&proxy, &ended);
    let why = run["run"]["why"].to_string();
    assert!(why.contains("another server is the primary"), "{run:#}");
    // Both sessions were carried across, the one that was held twice too.
    for session in [&mut app, &mut other] {
        let version: Option<String> = session.query_first("SELECT @@version").await.expect("told");
        assert!(version.is_some_and(|version| version.contains("Vitess")));
    }
}

/// Ends the transactions of the proxy's own readers on a server.
async fn kill_readers(server: &mut Conn, user: &str) -> usize {
    let ask = format!(
        "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx t \
         JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
         WHERE p.user = '{user}' AND t.trx_is_read_only"
    );
    let threads: Vec<u64> = server.query(ask).await.expect("told");
    for thread in &threads {
        // It may have ended.
        let _ = server.query_drop(format!("KILL {thread}")).await;
    }
    threads.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_a_server_ends_is_followed_by_another_one() {
    let lab = Lab::get();
    let still = filled(&lab).await;
    // Longer than a tablet lets a transaction live.
    let slow = "snapshot_s = 120\nrange_rows = 50\nrows_per_second = 150";
    let proxy = Proxy::start_with(&lab, &setup(slow));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = writes(&proxy.address, &still, &stop);
    let root = OptsBuilder::default()
        .user(Some("root"))
        .socket(Some(lab.value("LEGACY_ROOT_SOCKET")));
    let mut legacy = Conn::new(root).await.expect("root's login");
    let mut shadow = store(&lab, "mysql").await;
    begun(&proxy, &still);
    let read = |told: &Value| told["run"]["rows"].as_u64().unwrap_or(0);
    let instants = |told: &Value| told["run"]["instants"]["instants"].as_u64().unwrap_or(0);
    wait_for(&proxy, &|told| read(told) >= 100);
    assert!(kill_readers(&mut legacy, "understudy").await > 0);
    let told = wait_for(&proxy, &|told| instants(told) >= 2 && read(told) >= 300);
    assert_eq!(told["state"], "running", "{told:#}");
    assert!(kill_readers(&mut shadow, "vt_dba").await > 0);
    let told = wait_for(&proxy, &|told| instants(told) >= 3 && read(told) >= 500);
    assert_eq!(told["run"]["instants"]["ended_early"], 2, "{told:#}");
    // An ALTER does not wait for the snapshot's end.
    let began = Instant::now();
    let alter = format!("ALTER TABLE scratch.{still} COMMENT = 'altered'");
    legacy.query_drop(alter).await.expect("altered");
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "an ALTER waited for {took:?}"
    );
    let told = wait_for(&proxy, &ended);
    stop.store(true, Ordering::Relaxed);
    writer.await.expect("it wrote");
    let one = table(&told, &still);
    assert_eq!(one["differences"], json!({}), "{told:#}");
    assert_eq!(read(&told), u64::from(ROWS), "{told:#}");
    // The two; and where nothing else ended it before, the one that lived longer than a tablet lets it.
    let early = told["run"]["instants"]["ended_early"].as_u64().unwrap_or(0);
    assert!(early >= 2, "{told:#}");
    println!(
        "{} instants, {early} ended early; an ALTER took {took:?}",
        instants(&told)
    );
}

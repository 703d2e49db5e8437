//! Flips to and fro under sysbench oltp_read_write, text and prepared, the checker, and other drivers: no client sees
//! an error, nothing is lost or doubled, both sides are equal in the end. What the clients waited is
//! printed beside what the records say.
//!
//! `CUTOVER_CLIENTS` connections (60), `CUTOVER_FLIPS` (10), `CUTOVER_REST_S` seconds between two (5).
//! What is not sysbench's is the checker's, and a fifth of it other drivers'.

use super::number;
use super::scene::{Scene, flip, hold, hold_us, setup};
use crate::acknowledged::quantile;
use crate::lab::checker::Load;
use crate::lab::checker::assert_none;
use crate::lab::{Lab, Proxy, load};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Threads of each of the two sysbenches.
const THREADS: u32 = 8;

/// Of the clients that are not the checker's own: Python, Go, Java.
const DRIVERS: [&str; 3] = ["pymysql", "go", "connector-j"];

/// What a flip may take, with its rest, at most: sysbench must outlive the last.
const EACH_S: u32 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flips_to_and_fro_lose_nothing_and_no_client_sees_an_error() {
    let (flips, rest) = (number("CUTOVER_FLIPS", 10), number("CUTOVER_REST_S", 5));
    let connections = number("CUTOVER_CLIENTS", 60);
    let connections = i64::from(connections.saturating_sub(2 * THREADS).max(15));
    let guests = connections / 15 * 3;
    let load = Load {
        clients: connections - guests,
        guests,
        rate: number("CUTOVER_RATE", 60),
        reconnects: false,
    };
    let mut scene = Scene::open_after(&setup("soak_s = 3600"), load, load::prepare).await;
    scene.checker.invite(&scene.proxy.address, &DRIVERS);
    let before = deadlocks(&scene.lab).await;
    let seconds = flips * (rest + EACH_S) + rest + 10;
    let mut benches = ["disable", "auto"].map(|mode| sysbench(&scene.proxy, mode, seconds));
    let mut records = Vec::new();
    for number in 0..flips {
        tokio::time::sleep(Duration::from_secs(u64::from(rest))).await;
        let to = if number % 2 == 0 { "vitess" } else { "legacy" };
        let record = flip(&scene.proxy, to).await;
        println!(
            "flip {:>2} to {to:<7} hold_us {}",
            number + 1,
            hold_us(&record)
        );
        records.push(record);
    }
    assert_eq!(
        scene.checker.working(),
        usize::try_from(load.clients).unwrap()
    );
    for bench in &mut benches {
        let over = bench.try_wait().expect("it can be asked");
        assert!(
            over.is_none(),
            "sysbench ended before the last flip: {over:?}"
        );
    }
    let refused: u64 = benches.into_iter().map(ended).sum();
    // What a server itself refuses is no fault of a flip.
    let deadlocked = deadlocks(&scene.lab).await - before;
    assert!(
        refused <= deadlocked,
        "{refused} errors, {deadlocked} deadlocks"
    );
    in_the_end(scene, &records).await;
}

async fn in_the_end(scene: Scene, records: &[Value]) {
    let taints = scene.proxy.get("/api/v1/taints")["items"].clone();
    let coverage = scene.proxy.settled();
    println!("coverage: {coverage}");
    println!("tainted: {taints}");
    let lab = scene.lab.clone();
    let report = scene.close_in_order().await;
    print_pauses(&report, records);
    assert_none("clients saw errors", &report.errors());
    assert_eq!(taints, json!([]));
    assert_none("sysbench's tables differ", &load::differing(&lab).await);
}

/// What the clients waited that met a hold, of all flips, beside what they wait anyway.
fn print_pauses(report: &crate::lab::checker::Report, records: &[Value]) {
    let met = |record: &Value| {
        let (from, to) = hold(record);
        report.met(from, to)
    };
    let pauses: Vec<Duration> = records.iter().flat_map(met).collect();
    let holds: Vec<Duration> = records
        .iter()
        .map(|record| Duration::from_micros(hold_us(record)))
        .collect();
    let anyway = report.times();
    for (what, times) in [
        ("the records' holds", &holds),
        ("commands that met a hold", &pauses),
        ("all commands", &anyway),
    ] {
        let [p50, p99, max] = [50, 99, 100].map(|percent| quantile(times, percent));
        println!(
            "{what:<26}{:>8}  p50 {p50:?}  p99 {p99:?}  longest {max:?}",
            times.len()
        );
    }
}

fn sysbench(proxy: &Proxy, ps_mode: &str, seconds: u32) -> Child {
    let rate = number("CUTOVER_SYSBENCH_RATE", 8);
    let mut command: Command = load::command(proxy);
    command
        .arg(format!("--threads={THREADS}"))
        .arg(format!("--time={seconds}"))
        .arg(format!("--rate={rate}"))
        .arg(format!("--db-ps-mode={ps_mode}"))
        .arg(format!("--rand-seed={}", ps_mode.len()))
        .arg("run")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sysbench runs: lab/install sysbench")
}

/// Waits for its end, which must be a good one; the errors that it took for ordinary.
fn ended(bench: Child) -> u64 {
    let output = bench.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    for line in said
        .lines()
        .filter(|line| line.contains("per sec.") || line.contains("max:"))
    {
        println!("sysbench:{line}");
    }
    assert_eq!(load::figure(&said, "reconnects:"), 0, "{said}");
    load::figure(&said, "ignored errors:")
}

/// Deadlocks that the two servers have broken.
async fn deadlocks(lab: &Lab) -> u64 {
    load::deadlocks(lab).await + load::store_deadlocks(lab).await
}

//! Under sysbench's reads and writes, with the mirror on: nothing differs that does not, and all of it is read.
//! Where the machine has so much else to do that mirroring is suspended and writes are lost, what differs then does: the
//! ledger must know of it by the table's taint, and a table that lost a write while it was read is not equal.
//!
//! sysbench's transactions are timed in windows, some beside a run and some while it is paused or there is none, in
//! turns. A few short runs here; `tests/bin/verify` says what the environment makes of it, and is its long form. There no
//! write may be lost, and the windows beside a run must be as short as is asked for.

use super::traffic::{Shape, Traffic, Window, filled};
use super::{begun, table, tainted, until, verify};
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Windows beside a run, then one without.
const BESIDE_IN_TURN: u32 = 2;

/// Windows of each kind from which a ratio is judged.
const WINDOWS_MIN: usize = 10;

fn set<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What was found wrong, and what clients met.
#[derive(Default)]
struct Found {
    wrong: Vec<String>,
    settled: u64,
    unsettled: u64,
    /// How long sessions were held for an instant, in microseconds.
    holds_us: Vec<u64>,
    beside: Vec<Window>,
    without: Vec<Window>,
}

impl Found {
    /// A run, from what was tainted when it began.
    fn judge(&mut self, run: u32, told: &Value, before: &BTreeSet<String>, proxy: &Proxy) {
        let after = tainted(proxy);
        for one in told["run"]["tables"].as_array().expect("tables") {
            let name = one["table"].as_str().expect("a name");
            if one["differences"] != json!({}) && !after.contains(name) {
                self.wrong.push(format!("run {run}: {one:#}"));
            }
            if one["outcome"] == "equal" && after.contains(name) && !before.contains(name) {
                self.wrong.push(format!(
                    "run {run}: it lost a write meanwhile, and is told as equal: {one:#}"
                ));
            }
            self.settled += one["settled"].as_u64().unwrap_or(0);
            self.unsettled += one["unsettled"].as_u64().unwrap_or(0);
        }
        let run_told = &told["run"];
        let holds = run_told["instants"]["holds"].as_array();
        let held = holds.into_iter().flatten();
        self.holds_us
            .extend(held.filter_map(|one| one["hold_us"].as_u64()));
        println!(
            "run {run}: {}, {} rows, {} rows/s, waited {} ms, tainted: {after:?}",
            run_told["outcome"],
            run_told["rows"],
            run_told["rows_per_second"],
            run_told["waited_ms"]
        );
    }

    /// The 99th percentile of the holds, in milliseconds, where there were any.
    fn hold_ms(&mut self) -> Option<f64> {
        self.holds_us.sort_unstable();
        let at = |percent: usize| {
            self.holds_us.get(
                (self.holds_us.len() * percent)
                    .div_ceil(100)
                    .saturating_sub(1),
            )
        };
        let ms = |us: Option<&u64>| us.map(|us| Duration::from_micros(*us).as_secs_f64() * 1e3);
        let (half, p99) = (ms(at(50))?, ms(at(99))?);
        println!(
            "sessions were held {} times, {half:.1} ms (median), {p99:.1} ms (99th percentile)",
            self.holds_us.len()
        );
        Some(p99)
    }

    /// The medians of the windows' p99, and their ratio, where there are enough of them.
    fn ratio(&self) -> Option<f64> {
        let (beside, without) = (median(&self.beside)?, median(&self.without)?);
        let ratio = beside / without;
        println!(
            "p99 of transactions, median of windows: {beside:.2} ms in {} beside a run, {without:.2} ms in {} without: {ratio:.3}",
            self.beside.len(),
            self.without.len()
        );
        (self.beside.len().min(self.without.len()) >= WINDOWS_MIN).then_some(ratio)
    }
}

fn median(windows: &[Window]) -> Option<f64> {
    let mut all: Vec<f64> = windows.iter().map(|one| one.p99_ms).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

/// Runs one after the other, each paused for a window now and then.
fn runs(proxy: &Proxy, traffic: &Traffic, runs: u32, mode: &str) -> Found {
    let mut found = Found::default();
    let mut before = BTreeSet::new();
    let (mut run, mut goes, mut paused, mut in_turn) = (1, false, false, 0);
    // Its first one has connections to open.
    traffic.next();
    while run <= runs {
        let window = traffic.next();
        let told = proxy.get("/api/v1/verify");
        let what = if goes { "beside a run" } else { "without" };
        println!(
            "{what}: p99 {:.2} ms, {:.1} transactions/s, load {}, waits: {}",
            window.p99_ms, window.tps, window.load, told["run"]["waits"]
        );
        if !goes {
            found.without.push(window);
            if paused && told["state"] == "ended" {
                // It was asked to pause with its last word.
                found.judge(run, &told, &before, proxy);
                (run, paused) = (run + 1, false);
                continue;
            }
            if paused {
                proxy.send("POST", "/api/v1/verify/resume", &json!({}));
            } else {
                before = tainted(proxy);
                begun(proxy, &["--tables", "app.sbtest*", "--mode", mode]);
            }
            (goes, paused, in_turn) = (true, false, 0);
        } else if told["state"] == "ended" {
            // Some of this window was beside it, and some not.
            found.judge(run, &told, &before, proxy);
            (run, goes) = (run + 1, false);
        } else {
            found.beside.push(window);
            in_turn += 1;
            if in_turn >= BESIDE_IN_TURN {
                // It may have ended just now: then there is nothing to pause.
                let (status, _) = proxy.ask("POST", "/api/v1/verify/pause", &json!({}));
                (goes, paused) = (status >= 400, status < 400);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_sysbench_nothing_differs_that_does_not() {
    let lab = Lab::get();
    let shape = Shape {
        tables: set("VERIFY_TABLES", 4),
        rows: set("VERIFY_ROWS", 10_000),
        rate: set("VERIFY_RATE", 20),
        threads: set("VERIFY_THREADS", 4),
        window_s: set("VERIFY_WINDOW_S", 5),
    };
    let pace = "share = 1.0\nrange_rows = 500".to_owned();
    let setup = Setup {
        // A machine that has too much else to do makes the shadow late, not the mirror lossy.
        mirror: "writes = \"apply\"\norder_wait_ms = 600000\nbreaker_lag_ms = 600000",
        ledger: "literals = \"keep\"",
        more: format!("[verify]\n{}", set("VERIFY_CONFIG", pace)),
        ..Setup::default()
    };
    filled(&lab, shape).await;
    let proxy = Proxy::start_with(&lab, &setup);
    let traffic = Traffic::through(&proxy, shape);
    let mode = set("VERIFY_MODE", "chunks".to_owned());
    let many = set("VERIFY_RUNS", 2);
    let mut found = tokio::task::block_in_place(|| runs(&proxy, &traffic, many, &mode));
    drop(traffic);
    proxy.settled();
    println!(
        "{} rows that looked different were the same, {} did not come to rest",
        found.settled, found.unsettled
    );
    assert!(found.wrong.is_empty(), "{}", found.wrong.join("\n"));
    let (ratio, ratio_max) = (found.ratio(), set("VERIFY_P99_RATIO", f64::INFINITY));
    let lost = tainted(&proxy);
    let (hold, hold_max) = (found.hold_ms(), set("VERIFY_HOLD_MS", f64::INFINITY));
    assert!(
        mode != "snapshot" || hold.is_some_and(|hold| hold <= hold_max),
        "sessions were held {hold:?} ms"
    );
    if ratio_max.is_finite() {
        assert!(lost.is_empty(), "writes were lost: {lost:?}");
        assert!(
            ratio.is_none_or(|ratio| ratio <= ratio_max),
            "clients' p99: {ratio:?} of what it is without a run"
        );
    } else if !lost.is_empty() {
        println!("writes were lost: this machine had too much else to do");
        return;
    }
    // At rest all of it is read and the same.
    let (code, told) =
        tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", "app.sbtest1"]));
    assert_eq!(
        (code, &told["run"]["outcome"]),
        (0, &json!("equal")),
        "{told:#}"
    );
    let _: &Value = table(&told, "sbtest1");
    let state = tokio::task::block_in_place(|| until(&proxy, &|told| told["state"] == "ended"));
    assert_eq!(state["run"]["id"], told["run"]["id"]);
}

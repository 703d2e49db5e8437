//! Under sysbench's reads and writes, with the mirror on: nothing differs that does not, and all of it is read.
//! Where the machine has so much else to do that mirroring is suspended and writes are lost, what differs then does: the
//! ledger must know of it by the table's taint, and a table that lost a write while it was read is not equal.
//!
//! `VERIFY_RUNS` runs, 2 by default.

use super::{table, until, verify};
use crate::lab::load;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Stdio;

/// Seconds of load at most; it is ended when the runs are.
const LOAD_S: u32 = 1_800;

fn runs() -> u32 {
    let set = std::env::var("VERIFY_RUNS").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// The tables to which writes were lost.
fn tainted(proxy: &Proxy) -> BTreeSet<String> {
    let told = proxy.get("/api/v1/taints");
    let items = told["items"].as_array().expect("items").iter();
    items
        .map(|one| one["table"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_sysbench_nothing_differs_that_does_not() {
    let lab = Lab::get();
    let setup = Setup {
        ledger: "literals = \"keep\"",
        more: "[verify]\nshare = 1.0\nrange_rows = 500".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    load::prepare(&proxy);
    let mut sysbench = load::command(&proxy);
    sysbench
        .args(["--threads=4", "--rate=20", "--db-ps-mode=disable"])
        .arg(format!("--time={LOAD_S}"))
        .arg("run")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut sysbench = sysbench.spawn().expect("sysbench runs");
    let mut wrong = Vec::new();
    let (mut settled, mut unsettled) = (0, 0);
    for run in 1..=runs() {
        let before = tainted(&proxy);
        let (code, told) =
            tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", "app.sbtest*"]));
        let after = tainted(&proxy);
        for one in told["run"]["tables"].as_array().expect("tables") {
            let name = one["table"].as_str().expect("a name");
            if one["differences"] != json!({}) && !after.contains(name) {
                wrong.push(format!("run {run}: {one:#}"));
            }
            if one["outcome"] == "equal" && after.contains(name) && !before.contains(name) {
                wrong.push(format!("run {run}: it lost a write meanwhile: {one:#}"));
            }
            settled += one["settled"].as_u64().unwrap_or(0);
            unsettled += one["unsettled"].as_u64().unwrap_or(0);
        }
        let outcome = told["run"]["outcome"].as_str().unwrap_or_default();
        println!("run {run}: {outcome} ({code}), tainted: {after:?}");
    }
    let traffic = sysbench.try_wait().expect("it can be asked");
    sysbench.kill().expect("it ends");
    sysbench.wait().expect("its end");
    proxy.settled();
    println!(
        "{settled} rows that looked different were the same, {unsettled} did not come to rest"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(traffic.is_none(), "sysbench ended too early: {traffic:?}");
    if !tainted(&proxy).is_empty() {
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

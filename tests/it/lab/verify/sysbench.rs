//! Under sysbench's reads and writes, with the mirror on: nothing differs that does not, and all of it is read.
//!
//! `VERIFY_RUNS` runs, 2 by default.

use super::{table, until, verify};
use crate::lab::load;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use serde_json::{Value, json};
use std::process::Stdio;

/// Seconds of load at most; it is ended when the runs are.
const LOAD_S: u32 = 1_800;

fn runs() -> u32 {
    let set = std::env::var("VERIFY_RUNS").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(2)
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
        .args(["--threads=4", "--rate=30", "--db-ps-mode=disable"])
        .arg(format!("--time={LOAD_S}"))
        .arg("run")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut sysbench = sysbench.spawn().expect("sysbench runs");
    let mut told_all = Vec::new();
    let mut wrong = Vec::new();
    let (mut settled, mut unsettled) = (0, 0);
    for _ in 0..runs() {
        let (code, told) =
            tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", "app.sbtest*"]));
        for one in told["run"]["tables"].as_array().expect("tables") {
            if one["differences"] != json!({}) || one["schema_differs"] == json!(true) {
                wrong.push(format!("{one:#}"));
            }
            settled += one["settled"].as_u64().unwrap_or(0);
            unsettled += one["unsettled"].as_u64().unwrap_or(0);
        }
        told_all.push((code, told["run"]["outcome"].clone()));
    }
    let traffic = sysbench.try_wait().expect("it can be asked");
    sysbench.kill().expect("it ends");
    sysbench.wait().expect("its end");
    proxy.settled();
    println!(
        "{told_all:?}; {settled} rows that looked different were the same, {unsettled} did not come to rest"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(traffic.is_none(), "sysbench ended too early: {traffic:?}");
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

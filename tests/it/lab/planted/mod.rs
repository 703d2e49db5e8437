//! Faults planted in the real shadow's store, among statements that are healthy: each fault is found
//! once, as what it is, and nothing else is.
//!
//! `faults.txt` says what is planted and what must come of it, `healthy.txt` what stays silent.

mod behind;
mod faults;
mod healthy;
mod pt_upgrade;
mod run;

pub use run::store;

use super::proxy::Setup;
use super::{Lab, Proxy};
use faults::Fault;
use serde_json::Value;
use std::collections::BTreeMap;
use understudy::compare::verdict::Tolerance;

/// Sessions of the healthy traffic.
const SESSIONS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_planted_fault_is_one_finding_and_nothing_else_is_found() {
    let lab = Lab::get();
    let mut faults = faults::read();
    faults.retain(|fault| !fault.is_of_config());
    let healthy = healthy::read();
    assert!(faults.len() >= 25 && healthy.said() >= 200);
    healthy::set_up(&lab, &healthy, SESSIONS).await;
    run::plant(&lab, &faults).await;
    let proxy = Proxy::start(&lab);
    let silent = run::all(&lab, &proxy, &faults, &healthy, SESSIONS).await;
    let coverage = proxy.settled();
    let wrong = judge(&proxy, &faults, &coverage);
    let judged = super::mirroring::judged(&coverage);
    println!(
        "{} faults, {silent} healthy commands, {coverage}",
        faults.len()
    );
    assert!(wrong.is_empty(), "{}\n{coverage}", wrong.join("\n"));
    assert!(judged >= silent, "{judged} of {silent} agree: {coverage}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_differs_is_found_and_one_that_mends_is_silent() {
    let lab = Lab::get();
    let mut faults = faults::read();
    faults.retain(Fault::is_of_config);
    assert!(faults.len() > 3);
    run::plant(&lab, &faults).await;
    let mut wrong = Vec::new();
    for fault in faults {
        let proxy = Proxy::start_with(&lab, &setup(&fault));
        run::provoke(&lab, &proxy.address, &fault).await;
        let coverage = proxy.settled();
        wrong.extend(judge(&proxy, &[fault], &coverage));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is not as the faults say.
fn judge(proxy: &Proxy, faults: &[Fault], coverage: &Value) -> Vec<String> {
    let findings = run::findings(proxy);
    let taints = proxy.get("/api/v1/taints");
    faults::judge(faults, &findings, &taints, coverage)
}

/// The config that a fault asks for.
fn setup(fault: &Fault) -> Setup {
    let init = fault.init.iter().map(|init| format!("init = [\"{init}\"]"));
    let left_out = |without: &String| {
        let others = Tolerance::ALL.into_iter().map(Tolerance::name);
        let others = others.filter(|name| name != without).collect::<Vec<_>>();
        format!("[compare]\ntolerate = {others:?}")
    };
    Setup {
        shadow_more: init.collect(),
        more: fault.without.iter().map(left_out).collect(),
        ..Setup::default()
    }
}

/// One of the two files; read when the test runs, so that a fault more needs no compiler.
fn file(name: &str) -> String {
    let path = format!("{}/tests/it/lab/planted/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// Findings by the table that begins with a fault's name; under "" what belongs to none.
fn by_fault<'a>(faults: &[Fault], findings: &'a [Value]) -> BTreeMap<String, Vec<&'a Value>> {
    let mut found: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for finding in findings {
        let text = format!("{} {}", finding["tables"], finding["fingerprint"]);
        let owner = faults.iter().find(|fault| fault.is_named_in(&text));
        let owner = owner.map(|fault| fault.name.clone()).unwrap_or_default();
        found.entry(owner).or_default().push(finding);
    }
    found
}

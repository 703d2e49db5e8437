//! Data at rest, on real servers: planted faults are found as what they are, what is no fault is not found, repairs
//! repair, and a run under traffic that is killed in its midst goes on and finds nothing that is not there.

mod extremes;
mod faults;
mod fed;
mod gone;
mod interrupted;
mod keys;
mod live;
mod lock;
mod planted;
mod ready;
mod repairs;
mod shards;
mod snapshot;
mod still;
mod sysbench;
mod traffic;

use super::{Lab, Proxy};
use mysql_async::{Conn, OptsBuilder};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn understudy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(arguments)
        .output()
        .expect("it runs")
}

/// Begins a run of these tables, and does not wait for it.
fn begin(proxy: &Proxy, tables: &str) {
    begun(proxy, &["--tables", tables]);
}

/// The same, of all that these arguments say.
fn begun(proxy: &Proxy, arguments: &[&str]) {
    let fixed = ["verify", "--admin", &proxy.admin, "--detach"];
    let begun = understudy(&[&fixed, arguments].concat());
    assert!(begun.status.success(), "{begun:?}");
}

/// The tables to which writes were lost.
fn tainted(proxy: &Proxy) -> BTreeSet<String> {
    let told = proxy.get("/api/v1/taints");
    let items = told["items"].as_array().expect("items").iter();
    items
        .map(|one| one["table"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The same, with more words.
fn begin_with(proxy: &Proxy, tables: &str, more: &[&str]) {
    let fixed = [
        "verify",
        "--admin",
        &proxy.admin,
        "--tables",
        tables,
        "--detach",
    ];
    let begun = understudy(&[&fixed, more].concat());
    assert!(begun.status.success(), "{begun:?}");
}

/// A run to its end, as `understudy verify` tells it, with its exit code.
fn verify(admin: &str, arguments: &[&str]) -> (i32, Value) {
    let fixed = ["verify", "--admin", admin, "--format", "json"];
    let output = understudy(&[&fixed, arguments].concat());
    let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("{fault}: {said}")
    });
    (output.status.code().unwrap_or(-1), told)
}

/// A table of a run.
fn table<'a>(told: &'a Value, name: &str) -> &'a Value {
    let tables = told["run"]["tables"].as_array().expect("tables");
    let found = tables.iter().find(|one| one["table"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {told:#}"))
}

/// Looks until this is so.
fn until(proxy: &Proxy, what: &dyn Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let told = proxy.get("/api/v1/verify");
        if what(&told) {
            return told;
        }
        assert!(Instant::now() < end, "{told:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// vtgate's store, as root, by its socket.
async fn store(lab: &Lab, database: &str) -> Conn {
    let root = OptsBuilder::default()
        .user(Some("root"))
        .socket(Some(lab.value("SHADOW_STORE_ROOT_SOCKET")))
        .db_name(Some(database));
    Conn::new(root).await.expect("root's login at the store")
}

//! What a command costs the relay besides its bytes, counted and not timed: system calls, by strace.
//! That it allocates nothing is counted in `relay/tests/idle.rs`.

use super::{Lab, Proxy, load};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Seconds of load, and of counting within them.
const LOAD_S: u32 = 12;
const COUNTED_S: u32 = 5;

/// The threads that serve clients.
fn relay_threads(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the proxy runs");
    let ids = tasks.map(|task| task.expect("a thread").file_name());
    ids.map(|id| id.into_string().expect("a number"))
        .filter(|id| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/task/{id}/comm"));
            name.is_ok_and(|name| name.trim() == "relay")
        })
        .collect()
}

/// Calls by their names, as `strace -c` counted them.
fn calls(table: &str) -> BTreeMap<String, u64> {
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (share, calls, name) = (fields.first()?, fields.get(3)?, fields.last()?);
            share.parse::<f64>().ok()?;
            Some(((*name).to_owned(), calls.parse().ok()?))
        })
        .filter(|(name, _)| name != "total")
        .collect()
}

#[test]
fn a_mirrored_command_costs_the_relay_its_bytes_and_seldom_a_wake_up() {
    let lab = Lab::get();
    let proxy = Proxy::start(&lab);
    load::prepare(&proxy);
    let wakes_before = proxy.metric("understudy_tee_wakes_total");
    let handed_before = proxy.settled()["commands"].as_u64().expect("commands");
    let mut sysbench = load::command(&proxy);
    sysbench
        .args([
            "--threads=8",
            "--db-ps-mode=disable",
            "--skip-trx=on",
            // Without transactions two of its threads may put the same row back.
            "--mysql-ignore-errors=1213,1020,1205,1062",
            "--rate=100",
        ])
        .arg(format!("--time={LOAD_S}"))
        .arg("run")
        .stdout(Stdio::null());
    let mut sysbench = sysbench.spawn().expect("sysbench runs");
    std::thread::sleep(std::time::Duration::from_secs(2)); // its logins are over by then
    let threads = relay_threads(proxy.pid());
    assert!(!threads.is_empty());
    let table = proxy.file("strace");
    let traced = Command::new("timeout")
        .args(["-s", "INT", &COUNTED_S.to_string(), "strace", "-c", "-o"])
        .arg(&table)
        .args(threads.iter().flat_map(|id| ["-p", id]))
        .stderr(Stdio::null())
        .status()
        .expect("strace runs: lab/install strace");
    assert!(traced.code().is_some());
    assert!(
        sysbench.wait().expect("its end").success(),
        "{}",
        proxy.log()
    );
    let coverage = proxy.settled();
    let commands = coverage["commands"].as_u64().expect("commands") - handed_before;
    let wakes = proxy.metric("understudy_tee_wakes_total") - wakes_before;
    let table = std::fs::read_to_string(table).expect("what strace counted");
    let counted = calls(&table);
    println!("{commands} commands, {wakes} wake-ups; while strace counted: {counted:?}");
    let count = |name: &str| counted.get(name).copied().unwrap_or(0);
    // Two of each for a command: from the client, to the primary, and back.
    let exchanges = count("sendto") / 2;
    assert!(exchanges > 1000, "too few commands to tell: {table}");
    assert!(
        count("recvfrom") <= exchanges * 21 / 10,
        "reads that found nothing: {table}"
    );
    assert!(count("epoll_wait") <= exchanges * 22 / 10, "{table}");
    // Nothing else: no lock that was waited for, no memory that was asked for, no timer. What is left
    // is the wake-up of the shadow side, at most one for sixteen.
    let others = counted
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "sendto" | "recvfrom" | "epoll_wait"));
    let others: u64 = others.map(|(_, calls)| calls).sum();
    assert!(others * 16 <= exchanges, "{table}");
    assert!(
        wakes * 16 <= commands,
        "{wakes} wake-ups for {commands} commands"
    );
    assert!(
        coverage["matched"]
            .as_u64()
            .is_some_and(|matched| matched > 0)
    );
}

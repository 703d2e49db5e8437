//! Outside of a cutover production does not miss etcd; a cutover without it is refused; and a proxy that
//! starts without it does not serve, for it cannot know who is primary.

use super::scene::{Fleet, Settings};
use crate::lab::checker::assert_none;
use crate::lab::cutover::scene::{primary, until};
use crate::lab::faults::restart;
use crate::lab::{Lab, Proxy, client, signal};
use mysql_async::Conn;
use serde_json::Value;
use std::time::Duration;

/// So long clients work without it.
const WITHOUT: Duration = Duration::from_secs(5);

/// A client may wait as long on a busy machine.
const LONGEST: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_of_a_cutover_nobody_misses_etcd() {
    let fleet = Fleet::open(&Settings::default()).await;
    let pid = Lab::get().pid("ETCD_PID");
    let comes_back = ComesBack;
    signal(pid, "KILL");
    tokio::time::sleep(WITHOUT).await;
    for (at, member) in fleet.members.iter().enumerate() {
        let unreachable = |fleet: &Value| fleet["etcd"]["reachable"] == false;
        until(Duration::from_secs(10), || {
            let told = member.proxy.get("/api/v1/fleet");
            if unreachable(&told) {
                Ok(())
            } else {
                Err(told)
            }
        })
        .await;
        let told = member.proxy.get("/api/v1/fleet");
        assert!(told["etcd"]["why"].is_string(), "{told:#}");
        let (status, answer) = fleet.ask(at, "vitess");
        assert!((400..504).contains(&status), "{status} {answer:#}");
        assert!(answer.to_string().contains("etcd"), "{status} {answer:#}");
        assert_eq!(primary(&member.proxy), "legacy");
    }
    drop(comes_back);
    for member in &fleet.members {
        until(Duration::from_secs(30), || {
            let told = member.proxy.get("/api/v1/fleet");
            let well = told["etcd"]["reachable"] == true;
            well.then_some(()).ok_or(told)
        })
        .await;
    }
    // What was refused has left nothing behind.
    fleet.flip(1, "vitess").await;
    let report = fleet.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
    let longest = report.times().into_iter().max().unwrap_or_default();
    assert!(longest < LONGEST, "somebody waited for {longest:?}");
}

/// Starts etcd again, whatever becomes of the test.
pub struct ComesBack;

impl Drop for ComesBack {
    fn drop(&mut self) {
        restart("etcd");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_etcd_does_not_serve_and_says_so() {
    let mut fleet = Fleet::open(&Settings {
        late: 1,
        ..Settings::default()
    })
    .await;
    fleet.flip(0, "vitess").await;
    let way = fleet.way().await;
    way.cut(true);
    let setup = fleet.setup("c", &way);
    let mut proxy = Proxy::launch(&fleet.lab, &setup);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(proxy.alive(), "it waits:\n{}", proxy.log());
    assert!(!serves(&proxy).await, "it serves:\n{}", proxy.log());
    assert!(proxy.log().contains("etcd"), "{}", proxy.log());
    assert!(!is_ready(&proxy), "{}", proxy.log());
    assert_eq!(fleet.etcd.members(), ["a", "b"]);
    way.cut(false);
    proxy.wait_until_ready();
    // The config says legacy, and it has no ledger yet.
    assert_eq!(primary(&proxy), "vitess");
    assert!(serves(&proxy).await, "it does not serve:\n{}", proxy.log());
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(Duration::from_secs(60)), Some(0));
    // An operator who knows it says who is primary.
    way.cut(true);
    let mut told = setup.clone();
    told.arguments = &["--primary", "vitess"];
    let sure = Proxy::start_with(&fleet.lab, &told);
    assert_eq!(primary(&sure), "vitess");
    assert!(serves(&sure).await, "it does not serve:\n{}", sure.log());
    drop(sure);
    // One that waits in vain ends.
    let mut brief = setup.clone();
    brief.more += "start_timeout_s = 2\n";
    let mut vain = Proxy::launch(&fleet.lab, &brief);
    let code = vain.exit_code(Duration::from_secs(30));
    assert_eq!(code, Some(1), "{}", vain.log());
    assert!(vain.log().contains("--primary"), "{}", vain.log());
    fleet.join().await;
    fleet.until_ready().await;
    let report = fleet.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

/// What a load balancer's probe sees.
fn is_ready(proxy: &Proxy) -> bool {
    let probe = ureq::get(format!("{}/readyz", proxy.admin)).config();
    let probe = probe.timeout_global(Some(Duration::from_secs(1))).build();
    probe.call().is_ok()
}

/// Whether a client is let in.
async fn serves(proxy: &Proxy) -> bool {
    let login = Conn::new(client(&proxy.address, "scratch"));
    match tokio::time::timeout(Duration::from_secs(3), login).await {
        Ok(Ok(conn)) => conn.disconnect().await.is_ok(),
        Ok(Err(_)) | Err(_) => false,
    }
}

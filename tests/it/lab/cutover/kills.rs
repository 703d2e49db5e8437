//! The proxy is killed at every step of a cutover, while clients write. It comes up with the primary
//! that the record of the roles names, and never serves from both; every acknowledged write is there
//! once. What waited for the shadow is lost with the process: the ledger says so (`gap`), and the guard
//! `taint` refuses until both sides are equal again.
//!
//! `CUTOVER_KILLS` at each step (1).

use super::number;
use super::scene::{LIGHT, Scene, ask, flip, primary, setup, steps, until_state};
use crate::lab::checker::assert_none;
use crate::lab::checker::{self, Checker, Load};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::time::Duration;

/// The places to die at, and who may be primary after it. `switched` is no state: the roles are
/// recorded there, and no session is let go yet.
const PLACES: [(&str, &str); 8] = [
    ("checking", "legacy"),
    ("preparing", "legacy"),
    ("holding", "legacy"),
    ("catching_up", "legacy"),
    ("switching", "legacy"),
    ("switched", "vitess"),
    ("soaking", "vitess"),
    // Wherever it happens to be.
    ("", ""),
];

const LOAD: Load = Load {
    reconnects: true,
    ..LIGHT
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_step_it_comes_up_with_the_one_right_primary() {
    let kills = number("CUTOVER_KILLS", 1);
    let mut random = StdRng::seed_from_u64(u64::from(number("CUTOVER_SEED", 1)));
    for (place, expected) in PLACES {
        for turn in 0..kills {
            let jitter = Duration::from_millis(random.random_range(0..400));
            println!(
                "killed at {place:?}, {jitter:?} into it ({} of {kills})",
                turn + 1
            );
            killed(place, expected, jitter).await;
        }
    }
}

/// One cutover that is killed, what comes after, and the next one, which succeeds.
async fn killed(place: &str, expected: &str, jitter: Duration) {
    let mut setup = setup("soak_s = 3600");
    if !place.is_empty() {
        setup.pause = format!("{place}:3000");
    }
    let mut scene = Scene::open(&setup, LOAD).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let body = json!({"to": "vitess"});
    scene.proxy.ask_aside("/api/v1/cutover", &body);
    reached(&scene, place).await;
    tokio::time::sleep(jitter).await;
    scene.proxy.pause_at("");
    scene.proxy.kill_and_start_again();
    let primary = primary(&scene.proxy);
    let cutover = scene.proxy.get("/api/v1/cutover");
    println!("  up with {primary}, {}", cutover["state"]);
    if !expected.is_empty() {
        assert_eq!(primary, expected, "{cutover:#}");
    }
    at_rest(&cutover, &primary);
    // Clients come back, and write on.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let Scene {
        lab,
        proxy,
        checker,
        load,
    } = scene;
    let report = checker.stop().await;
    report.print();
    proxy.settled();
    let (to, from) = (primary.as_str(), other(&primary));
    let address = |server: &str| {
        if server == "legacy" {
            lab.legacy()
        } else {
            lab.shadow()
        }
    };
    let wrong = report.verify(&address(to)).await;
    assert_none(&format!("killed at {place:?}, {to} is wrong"), &wrong);
    assert_none("a client had a wrong answer", &report.wrong());
    assert!(report.broken() > 0, "the kill was seen");
    is_refused_for_the_gap(&proxy, from);
    checker::copy(&address(to), &address(from), load.all()).await;
    let differences = report.differences(&lab.legacy(), &lab.shadow()).await;
    assert_none("they differ after the repair", &differences);
    clear(&proxy);
    // From here on it is as before: the next cutover succeeds.
    checker::begin_anew(&lab, load).await;
    let checker = Checker::start(&proxy.address, load).await;
    let scene = Scene {
        lab,
        proxy,
        checker,
        load,
    };
    scene.until_ready().await;
    flip(&scene.proxy, from).await;
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

/// Waits until the cutover is at the place, which is planted to last.
async fn reached(scene: &Scene, place: &str) {
    match place {
        "" => (),
        // The pause within the state begins with the commit of the roles, which nothing tells.
        "switched" => {
            until_state(&scene.proxy, &["switching"], Duration::from_secs(60)).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        state => {
            until_state(&scene.proxy, &[state], Duration::from_secs(60)).await;
        }
    }
}

/// What was under way is closed in the record, on the side that the roles say.
fn at_rest(cutover: &Value, primary: &str) {
    let state = cutover["state"].as_str().unwrap_or("");
    assert_eq!(cutover["primary"], primary, "{cutover:#}");
    let allowed = match primary {
        "legacy" => ["idle", "aborted"],
        _ => ["soaking", "done"],
    };
    assert!(
        allowed.contains(&state),
        "{primary} is primary: {cutover:#}"
    );
    if let Some(record) = cutover.get("record").filter(|record| !record.is_null()) {
        let switched = steps(record).contains(&"soaking");
        assert!(primary == "vitess" || !switched, "{cutover:#}");
    }
}

fn other(server: &str) -> &'static str {
    if server == "legacy" {
        "vitess"
    } else {
        "legacy"
    }
}

/// The lost dark writes stand in the taints, and the guard refuses.
fn is_refused_for_the_gap(proxy: &crate::lab::Proxy, to: &str) {
    let taints = proxy.get("/api/v1/taints")["items"].clone();
    let gap = |taint: &Value| {
        taint["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("gap"))
    };
    let gaps = taints
        .as_array()
        .expect("items")
        .iter()
        .filter(|taint| gap(taint));
    assert!(gaps.count() > 0, "{taints:#}");
    let (status, answer) = ask(proxy, &json!({"to": to}));
    assert_eq!(status, 409, "{answer:#}");
    let guards = answer["guards"].as_array().expect("guards");
    let taint = guards
        .iter()
        .find(|guard| guard["name"] == "taint")
        .expect("the guard taint");
    assert_eq!(taint["pass"], false, "{taint}");
}

fn clear(proxy: &crate::lab::Proxy) {
    let body = json!({"tables": ["*"], "who": "a test", "why": "copied from the primary"});
    proxy.send("POST", "/api/v1/taints/clear", &body);
}

//! A server that hangs or is cut off in the midst of a cutover: before the switch it aborts within its
//! bounds and production never notices; after it the old primary is only a shadow.
//!
//! `CUTOVER_HANGS` at each step (1).

use super::number;
use super::scene::{LIGHT, Scene, ask, assert_none, flip, primary, setup, until_state};
use crate::lab::faults::Continues;
use crate::lab::way::Way;
use crate::lab::{Lab, signal};
use serde_json::json;
use std::time::Duration;

/// Steps at which the shadow may go away.
const BEFORE_THE_SWITCH: [&str; 3] = ["preparing", "holding", "catching_up"];

/// The bound of the hold, and what clients may wait beyond it on a busy machine.
const CUTOVER: &str = "hold_ms_max = 1000\nsoak_s = 3600";
const LONGEST: Duration = Duration::from_millis(1000 + 3000);

/// How the shadow goes away and comes back.
enum Away {
    Hangs,
    IsCutOff,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_hangs_before_the_switch_aborts_it() {
    for step in BEFORE_THE_SWITCH {
        for _ in 0..number("CUTOVER_HANGS", 1) {
            goes_away(step, &Away::Hangs).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_is_cut_off_before_the_switch_aborts_it() {
    for step in BEFORE_THE_SWITCH {
        for _ in 0..number("CUTOVER_HANGS", 1) {
            goes_away(step, &Away::IsCutOff).await;
        }
    }
}

async fn goes_away(step: &str, away: &Away) {
    println!("the shadow goes away in {step}");
    let lab = Lab::get();
    let way = Way::to(lab.shadow()).await;
    let mut setup = setup(CUTOVER);
    setup.shadow = Some(way.address.clone());
    setup.pause = format!("{step}:500");
    let scene = Scene::open(&setup, LIGHT).await;
    let pid = lab.pid("SHADOW_PID");
    let goes_on = Continues(pid);
    let (status, answer) = ask(&scene.proxy, &json!({"to": "vitess"}));
    assert_eq!(status, 202, "{answer:#}");
    until_state(&scene.proxy, &[step], Duration::from_secs(60)).await;
    match away {
        Away::Hangs => signal(pid, "STOP"),
        Away::IsCutOff => way.cut(true),
    }
    let cutover = until_state(
        &scene.proxy,
        &["aborted", "soaking", "done"],
        Duration::from_secs(60),
    )
    .await;
    assert_eq!(cutover["state"], "aborted", "{cutover:#}");
    assert_eq!(primary(&scene.proxy), "legacy");
    way.cut(false);
    drop(goes_on);
    let report = scene.checker.stop().await;
    report.print();
    scene.proxy.settled();
    assert_none("clients saw errors", &report.errors());
    assert_none("legacy is wrong", &report.verify(&scene.lab.legacy()).await);
    let longest = report.times().into_iter().max().unwrap_or_default();
    assert!(longest < LONGEST, "somebody waited for {longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_hangs_while_it_soaks_is_not_noticed() {
    let scene = Scene::open(&setup(CUTOVER), LIGHT).await;
    flip(&scene.proxy, "vitess").await;
    let pid = scene.lab.pid("LEGACY_PID");
    let goes_on = Continues(pid);
    signal(pid, "STOP");
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(goes_on);
    assert_eq!(primary(&scene.proxy), "vitess");
    let report = scene.checker.stop().await;
    report.print();
    assert_none("clients saw errors", &report.errors());
    assert_none("vitess is wrong", &report.verify(&scene.lab.shadow()).await);
    let longest = report.times().into_iter().max().unwrap_or_default();
    assert!(longest < LONGEST, "somebody waited for {longest:?}");
}

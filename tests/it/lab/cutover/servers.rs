//! A server that hangs, is cut off or dies in the midst of a cutover: before the switch it aborts within its
//! bounds and production never notices; after it the old primary is only a shadow.
//!
//! `CUTOVER_HANGS` of each at each step (1).

use super::number;
use super::scene::{LIGHT, Scene, ask, flip, primary, setup, until_state};
use crate::lab::checker::Load;
use crate::lab::checker::assert_none;
use crate::lab::faults::{Continues, restart};
use crate::lab::way::Way;
use crate::lab::{Lab, signal};
use serde_json::json;
use std::time::Duration;

/// Steps at which the shadow may go away.
const BEFORE_THE_SWITCH: [&str; 3] = ["preparing", "holding", "catching_up"];

/// The bound of the hold, and what clients may wait beyond it on a busy machine.
const CUTOVER: &str = "hold_ms_max = 1000\nsoak_s = 3600";
const LONGEST: Duration = Duration::from_millis(1000 + 3000);

/// How a server goes away, to come back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    Hangs,
    IsCutOff,
    Dies,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_hangs_before_the_switch_aborts_it() {
    at_each_step(Away::Hangs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_is_cut_off_before_the_switch_aborts_it() {
    at_each_step(Away::IsCutOff).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_dies_before_the_switch_aborts_it() {
    at_each_step(Away::Dies).await;
}

async fn at_each_step(away: Away) {
    for step in BEFORE_THE_SWITCH {
        for _ in 0..number("CUTOVER_HANGS", 1) {
            println!("the shadow in {step}: {away:?}");
            goes_away(step, away).await;
        }
    }
}

async fn goes_away(step: &str, away: Away) {
    let lab = Lab::get();
    let way = Way::to(lab.shadow()).await;
    let mut setup = setup(CUTOVER);
    setup.shadow = Some(way.address.clone());
    setup.pause = format!("{step}:500");
    let scene = Scene::open(&setup, LIGHT).await;
    let pid = lab.pid("SHADOW_PID");
    let (status, answer) = ask(&scene.proxy, &json!({"to": "vitess"}));
    assert_eq!(status, 202, "{answer:#}");
    until_state(&scene.proxy, &[step], Duration::from_secs(60)).await;
    let goes_on = match away {
        Away::Hangs => {
            let goes_on = Continues(pid);
            signal(pid, "STOP");
            Some(goes_on)
        }
        Away::IsCutOff => {
            way.cut(true);
            None
        }
        Away::Dies => {
            signal(pid, "KILL");
            None
        }
    };
    let ends = ["aborted", "soaking", "done"];
    let cutover = until_state(&scene.proxy, &ends, Duration::from_secs(60)).await;
    assert_eq!(cutover["state"], "aborted", "{cutover:#}");
    assert_eq!(primary(&scene.proxy), "legacy");
    way.cut(false);
    drop(goes_on);
    if away == Away::Dies {
        restart("shadow");
    }
    let report = scene.checker.stop().await;
    report.print();
    scene.proxy.settled();
    assert_none("clients saw errors", &report.errors());
    assert_none("a client had a wrong answer", &report.wrong());
    assert_none("legacy is wrong", &report.verify(&scene.lab.legacy()).await);
    let longest = report.times().into_iter().max().unwrap_or_default();
    assert!(longest < LONGEST, "somebody waited for {longest:?}");
}

/// It ends on the one side that has all that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_before_the_switch_loses_nothing() {
    let load = Load {
        reconnects: true,
        ..LIGHT
    };
    for step in BEFORE_THE_SWITCH {
        for _ in 0..number("CUTOVER_HANGS", 1) {
            println!("the primary dies in {step}");
            let mut setup = setup(CUTOVER);
            setup.pause = format!("{step}:500");
            let scene = Scene::open(&setup, load).await;
            let (status, answer) = ask(&scene.proxy, &json!({"to": "vitess"}));
            assert_eq!(status, 202, "{answer:#}");
            until_state(&scene.proxy, &[step], Duration::from_secs(60)).await;
            // Its pid changes with each restart.
            signal(Lab::get().pid("LEGACY_PID"), "KILL");
            let ends = ["aborted", "soaking", "done"];
            until_state(&scene.proxy, &ends, Duration::from_secs(60)).await;
            restart("legacy");
            tokio::time::sleep(Duration::from_secs(3)).await;
            right_on_the_primary(scene).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_primary_that_dies_while_it_soaks_loses_nothing() {
    let load = Load {
        reconnects: true,
        ..LIGHT
    };
    let scene = Scene::open(&setup(CUTOVER), load).await;
    flip(&scene.proxy, "vitess").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    signal(Lab::get().pid("SHADOW_PID"), "KILL");
    tokio::time::sleep(Duration::from_secs(1)).await;
    restart("shadow");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(primary(&scene.proxy), "vitess", "it does not fail over");
    right_on_the_primary(scene).await;
}

/// Whoever is primary has each acknowledged write once.
async fn right_on_the_primary(scene: Scene) {
    let primary = primary(&scene.proxy);
    let address = scene.address(&primary);
    let report = scene.checker.stop().await;
    report.print();
    let wrong = report.verify(&address).await;
    assert_none(&format!("{primary}, the primary, is wrong"), &wrong);
    assert_none("a client had a wrong answer", &report.wrong());
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

//! What is refused, and why it says so; a dry run; an abort.

use super::scene::{
    LIGHT, Scene, ask, flip, hold_us, primary, setup, state, steps, until, until_state, why,
};
use crate::lab::checker::assert_none;
use crate::lab::checker::{self, Checker};
use crate::lab::mirroring::connect;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn understudy(proxy: &Proxy, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(arguments)
        .args(["--admin", &proxy.admin])
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A guard of a refusal.
fn guard<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let guards = answer["guards"]
        .as_array()
        .unwrap_or_else(|| panic!("no guards in {answer:#}"));
    let found = guards.iter().find(|guard| guard["name"] == name);
    found.unwrap_or_else(|| panic!("no guard {name} in {answer:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_says_why_and_changes_nothing() {
    let lab = Lab::get();
    checker::set_up(&lab, LIGHT).await;
    // The limits of a real move: a minute is no evidence.
    let proxy = Proxy::start_with(&lab, &Setup::default());
    let checker = Checker::start(&proxy.address, LIGHT).await;
    assert_eq!(state(&proxy), "idle");
    let (status, answer) = ask(&proxy, &json!({"to": "vitess"}));
    assert_eq!(status, 409, "{answer:#}");
    let evidence = guard(&answer, "evidence");
    assert_eq!(evidence["pass"], false, "{evidence}");
    for figure in ["value", "limit", "why"] {
        assert!(!evidence[figure].is_null(), "{figure}: {evidence}");
    }
    for (body, expected, words) in [
        (json!({"to": "vitess", "force": ["luck"]}), 400, "luck"),
        (json!({"to": "nobody"}), 400, "nobody"),
        (json!({"to": "legacy"}), 409, "legacy"),
    ] {
        let (status, answer) = ask(&proxy, &body);
        let message = answer["error"]["message"].as_str().unwrap_or("");
        assert!((400..500).contains(&status), "{body}: {status} {answer:#}");
        assert!(message.contains(words), "{body}: {status} {answer:#}");
        if expected == 400 && body.get("force").is_some() {
            assert_eq!(status, expected, "{answer:#}");
        }
    }
    let (status, answer) = proxy.ask("POST", "/api/v1/cutover/abort", &json!({}));
    assert!(
        (400..500).contains(&status),
        "nothing to abort: {status} {answer:#}"
    );
    let refused = understudy(&proxy, &["cutover", "--to", "vitess"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("evidence"), "{}", said(&refused));
    let usage = understudy(&proxy, &["cutover", "--to"]);
    assert_eq!(usage.status.code(), Some(2), "{}", said(&usage));
    assert_eq!(primary(&proxy), "legacy");
    assert_none("clients saw errors", &checker.stop().await.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_ends_after_preparing_and_changes_nothing() {
    let scene = Scene::open(&setup(""), LIGHT).await;
    let (status, answer) = ask(&scene.proxy, &json!({"to": "vitess", "dry_run": true}));
    assert_eq!(status, 202, "{answer:#}");
    let cutover = until_state(
        &scene.proxy,
        &["idle", "done", "aborted"],
        Duration::from_secs(60),
    )
    .await;
    let record = &cutover["record"];
    let steps = steps(record);
    assert!(steps.contains(&"preparing"), "{record:#}");
    for later in ["holding", "catching_up", "switching", "soaking"] {
        assert!(!steps.contains(&later), "{record:#}");
    }
    assert!(!record["ended"].is_null(), "{record:#}");
    assert_eq!(primary(&scene.proxy), "legacy");
    let by_hand = understudy(
        &scene.proxy,
        &["cutover", "--to", "vitess", "--dry-run", "--watch"],
    );
    assert_eq!(by_hand.status.code(), Some(0), "{}", said(&by_hand));
    assert!(said(&by_hand).contains("preparing"), "{}", said(&by_hand));
    assert_eq!(primary(&scene.proxy), "legacy");
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_held_open_past_the_bound_aborts_and_production_goes_on() {
    let scene = Scene::open(&setup("hold_ms_max = 2000"), LIGHT).await;
    let mut slow = connect(&scene.proxy.address, "scratch").await;
    slow.query_drop("BEGIN").await.unwrap();
    slow.query_drop("SELECT COUNT(*) FROM checker_moves")
        .await
        .unwrap();
    let (status, answer) = ask(
        &scene.proxy,
        &json!({"to": "vitess", "force": ["open_transactions"]}),
    );
    assert_eq!(status, 202, "{answer:#}");
    let cutover = until_state(&scene.proxy, &["aborted"], Duration::from_secs(30)).await;
    let record = cutover["record"].clone();
    assert!(steps(&record).contains(&"holding"), "{record:#}");
    assert!(
        why(&record).contains("transaction"),
        "it names what it waited for: {record:#}"
    );
    for part in [
        "its transaction is still open, for ",
        "KILL ",
        "raise cutover.hold_ms_max",
    ] {
        assert!(why(&record).contains(part), "{part}: {record:#}");
    }
    // Its client says nothing: nobody waits for it to the end.
    assert!(hold_us(&record) < 1_500_000, "{record:#}");
    assert_eq!(primary(&scene.proxy), "legacy");
    // The transaction that it waited for goes on, and so does all else.
    slow.query_drop("COMMIT").await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    flip(&scene.proxy, "vitess").await;
    flip(&scene.proxy, "legacy").await;
    slow.query_drop("SELECT 1").await.unwrap();
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
    let longest = report.times().into_iter().max().unwrap_or_default();
    assert!(
        longest < Duration::from_millis(2000 + 3000),
        "somebody waited for {longest:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_lets_go_at_once() {
    let scene = Scene::open(&setup("hold_ms_max = 60000"), LIGHT).await;
    let mut slow = connect(&scene.proxy.address, "scratch").await;
    slow.query_drop("BEGIN").await.unwrap();
    slow.query_drop("SELECT COUNT(*) FROM checker_moves")
        .await
        .unwrap();
    let body = json!({"to": "vitess", "force": ["open_transactions"]});
    let (status, answer) = ask(&scene.proxy, &body);
    assert_eq!(status, 202, "{answer:#}");
    until_state(&scene.proxy, &["holding"], Duration::from_secs(30)).await;
    // It says whom it waits for, and since when that transaction is open.
    let words = until(Duration::from_secs(10), || {
        let progress = scene.proxy.get("/api/v1/status")["cutover"]["progress"].clone();
        let first = &progress["sessions"][0];
        let is_told = first["open_ms"].is_u64() && first["connection"].is_u64();
        match progress["words"].as_str().filter(|_| is_told) {
            Some(words) if words.contains("for at least") => Ok(words.to_owned()),
            _ => Err(progress),
        }
    })
    .await;
    for part in [
        "its transaction is still open, for ",
        "of 1 min 0 s (cutover.hold_ms_max)",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let by_hand = said(&understudy(&scene.proxy, &["status"]));
    assert!(
        by_hand.contains("cutover   holding: waits for every session"),
        "{by_hand}"
    );
    // A second one meanwhile is refused.
    let (status, answer) = ask(&scene.proxy, &body);
    assert_eq!(status, 409, "{answer:#}");
    let asked = Instant::now();
    let (status, answer) = scene.proxy.ask("POST", "/api/v1/cutover/abort", &json!({}));
    assert!(status < 300, "{status} {answer:#}");
    until_state(&scene.proxy, &["aborted"], Duration::from_secs(10)).await;
    println!("aborted {:?} after it was asked", asked.elapsed());
    assert_eq!(primary(&scene.proxy), "legacy");
    slow.query_drop("COMMIT").await.unwrap();
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

//! What an operator may switch on: the fence, the hooks, and what becomes of a soak that fails.

use super::scene::{
    LIGHT, Scene, ask, flip, primary, setup, state, steps, until, until_state, why,
};
use crate::lab::checker::{Load, assert_none};
use crate::lab::mirroring::connect;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const REFUSED: u16 = 1290;

/// Writes to the legacy past the proxy, as the application's own user: the error, if there is one.
async fn past_the_proxy(lab: &Lab) -> Option<u16> {
    let mut direct = connect(&lab.legacy(), "scratch").await;
    let wrote = direct
        .query_drop("INSERT INTO checker_past (id) VALUES (1)")
        .await;
    direct.disconnect().await.expect("it closes");
    match wrote {
        Ok(()) => None,
        Err(Error::Server(said)) => Some(said.code),
        Err(other) => panic!("{other}"),
    }
}

/// A table of nobody else's, on the legacy alone.
async fn table_past_the_proxy(lab: &Lab) {
    let mut direct = connect(&lab.legacy(), "scratch").await;
    for statement in [
        "DROP TABLE IF EXISTS checker_past",
        "CREATE TABLE checker_past (id INT)",
    ] {
        direct.query_drop(statement).await.expect(statement);
    }
    direct.disconnect().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_the_fence_dark_writes_flow_and_nobody_elses() {
    let setup = setup("fence = true\nsoak_s = 3600");
    let scene = Scene::open(&setup, LIGHT).await;
    table_past_the_proxy(&scene.lab).await;
    assert_eq!(past_the_proxy(&scene.lab).await, None);
    flip(&scene.proxy, "vitess").await;
    assert_eq!(past_the_proxy(&scene.lab).await, Some(REFUSED));
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.proxy.settled();
    assert_eq!(scene.proxy.get("/api/v1/taints")["items"], json!([]));
    flip(&scene.proxy, "legacy").await;
    assert_eq!(past_the_proxy(&scene.lab).await, None);
    flip(&scene.proxy, "vitess").await;
    let lab = scene.lab.clone();
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
    lift(&lab).await;
}

/// Whatever a test has left.
async fn lift(lab: &Lab) {
    root(lab, "SET GLOBAL read_only = 0").await;
}

async fn root(lab: &Lab, statement: &str) {
    let opts = OptsBuilder::default()
        .socket(Some(lab.value("LEGACY_ROOT_SOCKET")))
        .user(Some("root"));
    let mut root = Conn::new(opts).await.expect("root logs in by the socket");
    root.query_drop(statement).await.expect(statement);
    root.disconnect().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_dies_behind_its_fence_lifts_it_at_the_next_start() {
    let mut setup = setup("fence = true\nsoak_s = 3600");
    setup.pause = "switching:5000".to_owned();
    let load = Load {
        reconnects: true,
        ..LIGHT
    };
    let mut scene = Scene::open(&setup, load).await;
    table_past_the_proxy(&scene.lab).await;
    let body = json!({"to": "vitess"});
    scene.proxy.ask_aside("/api/v1/cutover", &body);
    until_state(&scene.proxy, &["switching"], Duration::from_secs(60)).await;
    assert_eq!(past_the_proxy(&scene.lab).await, Some(REFUSED));
    scene.proxy.pause_at("");
    scene.proxy.kill_and_start_again();
    assert_eq!(primary(&scene.proxy), "legacy");
    for tries in 0.. {
        match past_the_proxy(&scene.lab).await {
            None => break,
            Some(code) => assert!(tries < 50, "still refused with {code}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = scene.checker.stop().await;
    report.print();
    let wrong = report.verify(&scene.lab.legacy()).await;
    assert_none("legacy is wrong", &wrong);
    assert_none("a client had a wrong answer", &report.wrong());
}

/// Somebody past the proxy holds a lock for which the fence would have to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_cannot_be_set_aborts_and_does_not_come_up_later() {
    let scene = Scene::open(&setup("fence = true\nsoak_s = 3600"), LIGHT).await;
    table_past_the_proxy(&scene.lab).await;
    let mut stranger = connect(&scene.lab.legacy(), "scratch").await;
    let lock = "LOCK TABLES checker_past WRITE";
    stranger.query_drop(lock).await.expect(lock);
    let (status, answer) = ask(&scene.proxy, &json!({"to": "vitess", "force": ["writers"]}));
    assert_eq!(status, 202, "{answer:#}");
    let ends = ["aborted", "soaking"];
    let cutover = until_state(&scene.proxy, &ends, Duration::from_secs(30)).await;
    assert_eq!(cutover["state"], "aborted", "{cutover:#}");
    let why = why(&cutover["record"]);
    assert!(why.contains("legacy cannot be fenced"), "{why}");
    stranger
        .query_drop("UNLOCK TABLES")
        .await
        .expect("it unlocks");
    stranger.disconnect().await.expect("it closes");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(past_the_proxy(&scene.lab).await, None, "nobody is fenced");
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_may_not_pass_its_own_fence_is_refused_and_told_what_it_lacks() {
    let lab = Lab::get();
    for statement in [
        "GRANT PROCESS, REPLICATION CLIENT ON *.* TO 'unfit'@'%' IDENTIFIED BY 'unfit'",
        "GRANT ALL ON app.* TO 'unfit'@'%'",
        "GRANT ALL ON scratch.* TO 'unfit'@'%'",
    ] {
        root(&lab, statement).await;
    }
    let lab = lab
        .with("LEGACY_PROXY_USER", "unfit")
        .with("LEGACY_PROXY_PASSWORD", "unfit");
    let proxy = Proxy::start_with(&lab, &setup("fence = true"));
    let (status, answer) = ask(&proxy, &json!({"to": "vitess"}));
    assert_eq!(status, 409, "{answer:#}");
    let guards = answer["guards"].as_array().expect("guards");
    let accounts = guards.iter().find(|guard| guard["name"] == "accounts");
    let why = accounts.expect("the guard")["why"].to_string();
    assert!(why.contains("cutover.fence needs SUPER"), "{why}");
    let checked = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["check", "--config"])
        .arg(proxy.file("understudy.toml"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("unfit lacks SUPER"), "{said}");
}

/// A hook that writes down what it is told.
fn scribe(file: &Path) -> String {
    let words = "$UNDERSTUDY_CUTOVER $UNDERSTUDY_FROM $UNDERSTUDY_TO";
    format!("[\"sh\", \"-c\", \"echo {words} >> {}\"]", file.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_are_run_once_each_and_told_what_happens() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = ["before_hold", "after_switch", "after_rollback"];
    let files = names.map(|name| dir.path().join(name));
    let mut cutover = "soak_s = 3600".to_owned();
    for (at, name) in names.iter().enumerate() {
        cutover = format!("{cutover}\n{name} = {}", scribe(&files[at]));
    }
    let scene = Scene::open(&setup(&cutover), LIGHT).await;
    let there = flip(&scene.proxy, "vitess").await;
    let back = flip(&scene.proxy, "legacy").await;
    let (there, back) = (
        format!("{} legacy vitess\n", there["id"]),
        format!("{} vitess legacy\n", back["id"]),
    );
    let written = |at: usize| std::fs::read_to_string(&files[at]).unwrap_or_default();
    let due = [format!("{there}{back}"), there.clone(), back.clone()];
    until(Duration::from_secs(10), || {
        let all: [String; 3] = std::array::from_fn(written);
        (all == due).then_some(()).ok_or(json!(all))
    })
    .await;
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_that_fails_or_hangs_before_the_hold_aborts_and_one_after_the_switch_is_noted() {
    for (hook, words) in [
        (
            "[\"sh\", \"-c\", \"echo no backup >&2; exit 3\"]",
            "no backup",
        ),
        ("[\"sleep\", \"600\"]", "did not end within 1 s"),
    ] {
        let cutover = format!("before_hold = {hook}\nhook_timeout_s = 1");
        let scene = Scene::open(&setup(&cutover), LIGHT).await;
        let (status, answer) = ask(&scene.proxy, &json!({"to": "vitess"}));
        assert_eq!(status, 202, "{answer:#}");
        let ends = ["aborted", "soaking"];
        let cutover = until_state(&scene.proxy, &ends, Duration::from_secs(30)).await;
        let record = &cutover["record"];
        assert_eq!(cutover["state"], "aborted", "{cutover:#}");
        assert!(why(record).contains(words), "{record:#}");
        assert!(!steps(record).contains(&"holding"), "{record:#}");
        assert_eq!(primary(&scene.proxy), "legacy");
        let report = scene.close_in_order().await;
        assert_none("clients saw errors", &report.errors());
    }
    let cutover = "after_switch = [\"sleep\", \"600\"]\nhook_timeout_s = 1\nsoak_s = 3600";
    let scene = Scene::open(&setup(cutover), LIGHT).await;
    flip(&scene.proxy, "vitess").await;
    let noted = until(Duration::from_secs(20), || {
        let record = scene.proxy.get("/api/v1/cutover")["record"].clone();
        let noted = step(&record, "after_switch").cloned();
        noted.ok_or(record)
    })
    .await;
    assert_eq!(noted["outcome"], "failed", "{noted}");
    assert!(noted["why"].to_string().contains("was killed"), "{noted}");
    assert_eq!(state(&scene.proxy), "soaking", "it goes on");
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

fn step<'a>(record: &'a Value, name: &str) -> Option<&'a Value> {
    let steps = record["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["step"] == name)
}

/// What a new primary that fails is to its clients, provoked: one client asks for what is not there, until
/// the time is over or something comes of it.
async fn provoke(proxy: &Proxy, mut is_over: impl FnMut() -> bool) -> u64 {
    let mut provoker = connect(&proxy.address, "scratch").await;
    let mut errors = 0;
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !is_over() {
        assert!(
            tokio::time::Instant::now() < end,
            "{errors} errors, and nothing comes of it\n{}",
            proxy.log()
        );
        for _ in 0..20 {
            let failed = provoker.query_drop("SELECT id FROM checker_nowhere").await;
            errors += u64::from(failed.is_err());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    provoker.disconnect().await.expect("it closes");
    errors
}

/// Waits until there is a time before that a soak can be judged by.
async fn until_measured() {
    tokio::time::sleep(Duration::from_secs(6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soak_that_fails_goes_back_by_itself_where_the_config_says_so() {
    let cutover = "soak_s = 3600\nsoak_action = \"rollback\"\nsoak_latency_max = 1000.0";
    let scene = Scene::open(&setup(cutover), BUSY).await;
    until_measured().await;
    let there = flip(&scene.proxy, "vitess").await;
    let errors = provoke(&scene.proxy, || primary(&scene.proxy) == "legacy").await;
    let ends = ["soaking", "done"];
    let cutover = until_state(&scene.proxy, &ends, Duration::from_secs(30)).await;
    println!(
        "{errors} errors, and it went back: {}",
        cutover["record"]["hold_us"]
    );
    let back = &cutover["record"];
    assert_eq!(
        (&back["from"], &back["to"]),
        (&json!("vitess"), &json!("legacy"))
    );
    let who = back["who"].as_str().expect("a name");
    assert!(who.contains("soak_action"), "{who}");
    let history = cutover["history"].as_array().expect("records");
    let first = history.iter().find(|record| record["id"] == there["id"]);
    let first = first.expect("the first one");
    let alert = step(first, "alert").unwrap_or_else(|| panic!("no alert in {first:#}"));
    assert!(
        alert["why"].to_string().contains("soak_errors_max"),
        "{alert}"
    );
    let report = scene.close_in_order().await;
    assert_none("others saw errors", &report.errors());
}

/// So many that a soak can tell.
const BUSY: Load = Load { rate: 60, ..LIGHT };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soak_is_judged_by_the_time_before_the_switch_after_a_restart_too() {
    let cutover = "soak_s = 3600\nsoak_latency_max = 1000.0";
    let load = Load {
        reconnects: true,
        ..BUSY
    };
    let mut scene = Scene::open(&setup(cutover), load).await;
    until_measured().await;
    let there = flip(&scene.proxy, "vitess").await;
    let before = &there["figures"]["before"];
    assert!(before["answers"].as_u64() > Some(500), "{there:#}");
    scene.proxy.kill_and_start_again();
    assert_eq!(state(&scene.proxy), "soaking");
    let alerted = || {
        let record = scene.proxy.get("/api/v1/cutover")["record"].clone();
        step(&record, "alert").is_some()
    };
    assert!(!alerted());
    let errors = provoke(&scene.proxy, alerted).await;
    println!("{errors} errors, and an alert");
    assert_eq!(
        primary(&scene.proxy),
        "vitess",
        "nobody asked it to go back"
    );
    let report = scene.checker.stop().await;
    report.print();
    assert_none("a client had a wrong answer", &report.wrong());
}

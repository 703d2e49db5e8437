//! Where replication feeds the shadow: each way of knowing that it has everything, what comes of
//! replication that stands still, and a way back that waits until forward replication has ended.

use super::replica::{Of, Pair, replicated};
use super::scene::{LIGHT, Scene, ask, flip, hold_us, primary, steps, until, until_state, why};
use crate::lab::Proxy;
use crate::lab::checker::{self, Checker, Load, Report, assert_none};
use crate::lab::proxy::Setup;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const OFF: &str = "writes = \"off\"";
const REHEARSED: &str = "writes = \"rollback\"";
const PLANNED: &str = "writes = \"plan\"";

fn writes(proxy: &Proxy) -> String {
    let status = proxy.get("/api/v1/status");
    status["mirror"]["writes"]
        .as_str()
        .expect("a word")
        .to_owned()
}

/// A hook that says that it was asked, by a file, and ends once it finds another, or with code 7 once it
/// finds a third.
struct Automation {
    dir: tempfile::TempDir,
}

impl Automation {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn hook(&self) -> String {
        let [asked, done, no] = ["asked", "done", "no"].map(|name| self.file(name));
        let (asked, done, no) = (asked.display(), done.display(), no.display());
        let script = format!(
            "touch {asked}; while [ ! -e {done} ]; do [ ! -e {no} ] || exit 7; sleep 0.01; done"
        );
        format!("[\"sh\", \"-c\", \"{script}\"]")
    }

    async fn asked(&self) {
        let asked = self.file("asked");
        until(Duration::from_secs(30), || is_there(&asked)).await;
    }

    fn say(&self, word: &str) {
        std::fs::write(self.file(word), "").expect("a file");
    }
}

fn is_there(file: &Path) -> Result<(), Value> {
    file.exists()
        .then_some(())
        .ok_or(json!(file.display().to_string()))
}

/// The config says another word, and is read again: what came of it.
fn another_word(proxy: &Proxy, from: &str, to: &str) -> Value {
    let file = proxy.file("understudy.toml");
    let text = std::fs::read_to_string(&file).expect("the config");
    assert!(text.contains(from), "{text}");
    std::fs::write(&file, text.replace(from, to)).expect("written");
    proxy.send("POST", "/api/v1/config/reload", &json!({"who": "a test"}))
}

async fn open(pair: &Pair, setup: &Setup, load: Load) -> Scene {
    let scene = Scene::open_on(pair.lab.clone(), setup, load, |_| ()).await;
    // Something is under way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene
}

/// What the roles of now say of a way back.
fn refusal(proxy: &Proxy, to: &str) -> String {
    let (status, answer) = ask(proxy, &json!({"to": to}));
    assert_eq!(status, 409, "{answer:#}");
    let guards = answer["guards"].as_array().expect("guards");
    let refuses = guards.iter().filter(|guard| guard["pass"] == false);
    let words = refuses.map(|guard| format!("{}: {}", guard["name"], guard["why"]));
    words.collect::<Vec<_>>().join("; ")
}

/// The load ends, and is right on the server that is primary.
async fn stop(scene: Scene) -> (Proxy, Report) {
    let report = scene.checker.stop().await;
    report.print();
    scene.proxy.settled();
    let server = if primary(&scene.proxy) == "legacy" {
        scene.lab.legacy()
    } else {
        scene.lab.shadow()
    };
    assert_none("the primary is wrong", &report.verify(&server).await);
    assert_none("a client had a wrong answer", &report.wrong());
    assert_none("clients saw errors", &report.errors());
    (scene.proxy, report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_heartbeat_and_the_way_back_waits_for_an_operators_word() {
    let pair = Pair::begin(LIGHT).await;
    let cutover = "catch_up = \"heartbeat\"\nsoak_s = 3600";
    let setup = replicated(&pair.lab, REHEARSED, cutover);
    let scene = open(&pair, &setup, LIGHT).await;
    let record = flip(&scene.proxy, "vitess").await;
    println!("by a heartbeat: hold_us {}", hold_us(&record));
    assert_eq!(writes(&scene.proxy), "off");
    // Replication is still there: what would be written to the legacy would come back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = refusal(&scene.proxy, "legacy");
    assert!(refused.contains("replication_stopped"), "{refused}");
    let (status, _) = scene
        .proxy
        .ask("PATCH", "/api/v1/mirror", &json!({"writes": "apply"}));
    assert_eq!(status, 409, "nobody gets round it");
    pair.run(Of::Replica, &["STOP REPLICA"]).await;
    let said = "/api/v1/cutover/replication_stopped";
    scene.proxy.send("POST", said, &json!({"who": "a test"}));
    assert_eq!(writes(&scene.proxy), "apply");
    let (again, _) = scene.proxy.ask("POST", said, &json!({}));
    assert_eq!(again, 409, "nothing waits for it any more");
    let reloaded = another_word(&scene.proxy, REHEARSED, PLANNED);
    assert_eq!(
        writes(&scene.proxy),
        "apply",
        "the config waits: {reloaded:#}"
    );
    assert_eq!(reloaded["changed"][0]["key"], "mirror.writes");
    let told = &reloaded["switches"][0];
    assert_eq!(
        (&told["is"], &told["file"]),
        (&json!("\"apply\""), &json!("\"plan\""))
    );
    // What was written meanwhile is missing on the legacy, and is not forgotten.
    let refused = refusal(&scene.proxy, "legacy");
    assert!(refused.contains("\"taint\""), "{refused}");
    let lab = scene.lab.clone();
    let (proxy, _) = stop(scene).await;
    checker::copy(&lab.shadow(), &lab.legacy(), LIGHT.all()).await;
    let cleared = json!({"tables": ["*"], "who": "a test", "why": "copied from the primary"});
    proxy.send("POST", "/api/v1/taints/clear", &cleared);
    checker::begin_anew(&lab, LIGHT).await;
    let checker = Checker::start(&proxy.address, LIGHT).await;
    let scene = Scene {
        lab,
        proxy,
        checker,
        load: LIGHT,
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let record = flip(&scene.proxy, "legacy").await;
    println!("the way back: hold_us {}", hold_us(&record));
    assert_eq!(writes(&scene.proxy), "plan", "as the config says by now");
    let lab = scene.lab.clone();
    let (_proxy, report) = stop(scene).await;
    // Of what the legacy has taken since nothing is on the other: nobody replicates. All that came
    // before is.
    assert!(report.writes() > 0);
    assert_none("legacy", &report.verify(&lab.legacy()).await);
    pair.part().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_gtids_with_replication_stopped_in_the_hold_the_way_back_loses_nothing() {
    let pair = Pair::begin(LIGHT).await;
    let cutover = "catch_up = \"gtid\"\nstop_replication = true\nfence = true\nsoak_s = 3600";
    let setup = replicated(&pair.lab, OFF, cutover);
    // A replica is read-only; with a fence it is let write in the hold.
    pair.run(Of::Replica, &["SET GLOBAL super_read_only = 1"])
        .await;
    let scene = open(&pair, &setup, LIGHT).await;
    let record = flip(&scene.proxy, "vitess").await;
    println!("by GTIDs: hold_us {}", hold_us(&record));
    assert_eq!(record["figures"]["replication_stopped"], true, "{record:#}");
    assert_eq!(pair.applies().await, "No");
    assert_eq!(writes(&scene.proxy), "apply");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let record = flip(&scene.proxy, "legacy").await;
    println!("the way back: hold_us {}", hold_us(&record));
    assert_eq!(writes(&scene.proxy), "off");
    // From where the legacy stood at that moment replication goes on.
    let stood = record["figures"]["gtid_executed"].as_str().expect("GTIDs");
    pair.replicate_behind(stood).await;
    let record = flip(&scene.proxy, "vitess").await;
    println!("and there again: hold_us {}", hold_us(&record));
    assert_eq!(scene.proxy.get("/api/v1/taints")["items"], json!([]));
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
    pair.part().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_hook_and_another_says_that_replication_has_ended() {
    let pair = Pair::begin(LIGHT).await;
    let (catches_up, stops) = (Automation::new(), Automation::new());
    let cutover = format!(
        "catch_up = \"hook\"\ncatch_up_hook = {}\nafter_switch = {}\nsoak_s = 3600",
        catches_up.hook(),
        stops.hook()
    );
    let setup = replicated(&pair.lab, OFF, &cutover);
    let scene = open(&pair, &setup, LIGHT).await;
    // Production waits for the hook, and the hook for replication.
    let (status, answer) = ask(&scene.proxy, &json!({"to": "vitess"}));
    assert_eq!(status, 202, "{answer:#}");
    catches_up.asked().await;
    pair.until_replicated().await;
    catches_up.say("done");
    let cutover = until_state(&scene.proxy, &["soaking"], Duration::from_secs(30)).await;
    println!("by a hook: hold_us {}", hold_us(&cutover["record"]));
    stops.asked().await;
    assert_eq!(writes(&scene.proxy), "off", "the hook has not ended");
    pair.run(Of::Replica, &["STOP REPLICA"]).await;
    stops.say("done");
    until(Duration::from_secs(10), || {
        let writes = writes(&scene.proxy);
        (writes == "apply").then_some(()).ok_or(json!(writes))
    })
    .await;
    let (_proxy, report) = stop(scene).await;
    assert!(report.writes() > 0);
    pair.part().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replication_that_stands_still_aborts_within_its_bound_and_production_goes_on() {
    for way in ["heartbeat", "gtid"] {
        let pair = Pair::begin(LIGHT).await;
        let cutover = format!("catch_up = \"{way}\"\nhold_ms_max = 1000\nsoak_s = 3600");
        let setup = replicated(&pair.lab, OFF, &cutover);
        let scene = open(&pair, &setup, LIGHT).await;
        pair.run(Of::Replica, &["STOP REPLICA SQL_THREAD"]).await;
        // Nobody is held for what does not come.
        let record = aborts(&scene.proxy, &json!({"to": "vitess"})).await;
        assert!(!steps(&record).contains(&"holding"), "{record:#}");
        assert!(why(&record).contains("behind or stopped"), "{record:#}");
        assert!(record["hold_us"].is_null(), "{record:#}");
        // Nor for longer than allowed, where somebody insists.
        let insists = json!({"to": "vitess", "force": ["lag"]});
        let record = aborts(&scene.proxy, &insists).await;
        println!("{way}, nothing comes: hold_us {}", hold_us(&record));
        assert!(steps(&record).contains(&"catching_up"), "{record:#}");
        assert!(why(&record).contains("behind or stopped"), "{record:#}");
        assert!(hold_us(&record) < 1_000_000 + 1_000_000, "{record:#}");
        assert_eq!(primary(&scene.proxy), "legacy");
        pair.run(Of::Replica, &["START REPLICA SQL_THREAD"]).await;
        let (_proxy, report) = stop(scene).await;
        pair.until_replicated().await;
        let lab = &pair.lab;
        let differences = report.differences(&lab.legacy(), &lab.shadow()).await;
        assert_none("they differ", &differences);
        pair.part().await;
    }
}

/// What an aborted cutover leaves in its record.
async fn aborts(proxy: &Proxy, body: &Value) -> Value {
    let (status, answer) = ask(proxy, body);
    assert_eq!(status, 202, "{answer:#}");
    let cutover = until_state(proxy, &["aborted", "soaking"], Duration::from_secs(30)).await;
    assert_eq!(cutover["state"], "aborted", "{cutover:#}");
    cutover["record"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stopped_for_a_switch_that_does_not_come_is_started_again() {
    let pair = Pair::begin(LIGHT).await;
    let cutover = "catch_up = \"gtid\"\nstop_replication = true\nsoak_s = 3600";
    let mut setup = replicated(&pair.lab, OFF, cutover);
    setup.pause = "switching:2000".to_owned();
    let load = Load {
        reconnects: true,
        ..LIGHT
    };
    let mut scene = open(&pair, &setup, load).await;
    // The switch cannot be recorded: somebody has locked the ledger.
    let body = json!({"to": "vitess"});
    scene.proxy.ask_aside("/api/v1/cutover", &body);
    until_state(&scene.proxy, &["switching"], Duration::from_secs(30)).await;
    assert_eq!(pair.applies().await, "No");
    let ledger = rusqlite::Connection::open(scene.proxy.file("ledger.db")).expect("the file");
    ledger.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    pair.until_it_applies().await;
    drop(ledger);
    let ends = ["aborted", "soaking"];
    let cutover = until_state(&scene.proxy, &ends, Duration::from_secs(30)).await;
    assert_eq!(cutover["state"], "aborted", "{cutover:#}");
    assert!(why(&cutover["record"]).contains("locked"), "{cutover:#}");
    assert_eq!(primary(&scene.proxy), "legacy");
    // The proxy dies there.
    scene.proxy.ask_aside("/api/v1/cutover", &body);
    until_state(&scene.proxy, &["switching"], Duration::from_secs(30)).await;
    assert_eq!(pair.applies().await, "No");
    scene.proxy.pause_at("");
    scene.proxy.kill_and_start_again();
    assert_eq!(primary(&scene.proxy), "legacy");
    pair.until_it_applies().await;
    let began = record_of(&scene.proxy);
    // Started once, it is left to whoever stops it then.
    until(Duration::from_secs(10), || {
        let record = record_of(&scene.proxy);
        let noted = notes(&record) == ["stopped", "started"];
        noted.then_some(()).ok_or(record)
    })
    .await;
    pair.run(Of::Replica, &["STOP REPLICA"]).await;
    scene.proxy.kill_and_start_again();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pair.applies().await, "No");
    assert_eq!(record_of(&scene.proxy)["id"], began["id"]);
    pair.run(Of::Replica, &["START REPLICA"]).await;
    pair.until_replicated().await;
    // And where it dies right behind the switch, the next one knows that replication has ended.
    scene.proxy.pause_at("switched:5000");
    scene.proxy.kill_and_start_again();
    scene.proxy.ask_aside(
        "/api/v1/cutover",
        // A process that was just started has timed too few commands for a judgement on latency.
        &json!({"to": "vitess", "force": ["taint", "latency"]}),
    );
    let switched = || {
        let record = record_of(&scene.proxy);
        (!record["switched"].is_null()).then_some(()).ok_or(record)
    };
    until(Duration::from_secs(30), switched).await;
    scene.proxy.pause_at("");
    scene.proxy.kill_and_start_again();
    assert_eq!(primary(&scene.proxy), "vitess");
    until(Duration::from_secs(10), || {
        let writes = writes(&scene.proxy);
        (writes == "apply").then_some(()).ok_or(json!(writes))
    })
    .await;
    assert_eq!(pair.applies().await, "No");
    let report = scene.checker.stop().await;
    report.print();
    assert_none("a client had a wrong answer", &report.wrong());
    pair.part().await;
}

/// The newest record.
fn record_of(proxy: &Proxy) -> Value {
    proxy.get("/api/v1/cutover")["record"].clone()
}

/// What a record says of replication.
fn notes(record: &Value) -> Vec<&str> {
    let steps = record["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let of = steps.iter().filter(|step| step["step"] == "replication");
    of.filter_map(|step| step["outcome"].as_str()).collect()
}

//! Snapshot mode with `--lock`: the primary locks one table at a time, so that writers which go past the proxy stand
//! still too, and the shadow is waited for at the primary's position. A MySQL 9.7 before its replica, and before a
//! vtgate, of which a command says where it is. A MySQL 5.6 is refused.
//!
//! `VERIFY_RUNS` runs under writers (2).

use super::{begun, table, until, verify};
use crate::lab::cutover::replica::{Of, Pair, replicated};
use crate::lab::cutover::scene::LIGHT;
use crate::lab::mirroring::connect;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Primary, Proxy};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const ROWS: u32 = 2_000;

/// What a busy machine may add to a bound.
const BUSY: Duration = Duration::from_millis(2_500);

const OFF: &str = "writes = \"off\"";

fn runs() -> u32 {
    crate::lab::cutover::number("VERIFY_RUNS", 2)
}

/// A proxy before a pair, with these lines below `[verify]`.
fn setup(pair: &Pair, verify: &str) -> Setup {
    let mut setup = replicated(&pair.lab, OFF, "catch_up = \"gtid\"");
    setup.more.push_str(&format!(
        "[verify]\nshare = 1.0\nrange_rows = 200\n{verify}\n"
    ));
    setup.ledger = "literals = \"keep\"";
    setup
}

/// A table on the source, and so on its replica.
pub(super) async fn filled(pair: &Pair, name: &str) {
    let mut direct = connect(&pair.lab.legacy(), "scratch").await;
    make(&mut direct, name).await;
    direct.disconnect().await.expect("it closes");
    pair.until_replicated().await;
}

async fn make(direct: &mut Conn, name: &str) {
    let all: Vec<String> = (1..=ROWS).map(|id| format!("({id}, 0, 'b')")).collect();
    for statement in [
        format!("DROP TABLE IF EXISTS {name}"),
        format!(
            "CREATE TABLE {name} (id INT PRIMARY KEY, n INT NOT NULL, body VARCHAR(40)) DEFAULT CHARSET utf8mb4"
        ),
        format!("INSERT INTO {name} VALUES {}", all.join(", ")),
    ] {
        direct.query_drop(statement).await.expect("made");
    }
}

/// Sessions that write straight to the primary, at a steady rate.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
    tasks: Vec<tokio::task::JoinHandle<Duration>>,
}

impl Writers {
    /// Some write one statement at a time, one a transaction of several, which reaches two tables.
    fn start(address: &str, name: &str, other: &str) -> Self {
        let (stop, written) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
        );
        let one = |number: u32| {
            let (address, name, other) = (address.to_owned(), name.to_owned(), other.to_owned());
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            tokio::spawn(async move {
                let mut direct = connect(&address, "scratch").await;
                let (mut slowest, mut n) = (Duration::ZERO, 0);
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    for statement in statements(&name, &other, number, n) {
                        let began = Instant::now();
                        direct
                            .query_drop(statement)
                            .await
                            .expect("no writer sees an error");
                        slowest = slowest.max(began.elapsed());
                    }
                    written.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                slowest
            })
        };
        let tasks = (0..4).map(one).collect();
        Self {
            stop,
            written,
            tasks,
        }
    }

    /// The slowest statement, and how often each wrote together.
    async fn stop(self) -> (Duration, u32) {
        self.stop.store(true, Ordering::Relaxed);
        let mut slowest = Duration::ZERO;
        for task in self.tasks {
            slowest = slowest.max(task.await.expect("it wrote"));
        }
        (slowest, self.written.load(Ordering::Relaxed))
    }

    /// Whoever has not yet written since this was called writes.
    async fn write_on(&self, within: Duration) {
        let (before, began) = (self.written.load(Ordering::Relaxed), Instant::now());
        while self.written.load(Ordering::Relaxed) < before + 8 {
            assert!(began.elapsed() < within, "nobody writes");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Rows below 100 are nobody's.
fn statements(name: &str, other: &str, number: u32, n: u32) -> Vec<String> {
    let id = 100 + (n * 37 + number * 1009) % (ROWS - 100);
    let new = 1_000_000 * (number + 1) + n;
    let write = [
        format!("UPDATE {name} SET n = n + 1 WHERE id = {id}"),
        format!("INSERT INTO {name} VALUES ({new}, {n}, 'new')"),
        format!("DELETE FROM {name} WHERE id = {new} - 3"),
    ];
    if number > 0 {
        return write.into();
    }
    let mut all = vec!["BEGIN".to_owned()];
    all.extend(write);
    all.push(format!("UPDATE {other} SET n = n + 1 WHERE id = {id}"));
    all.push(format!("UPDATE {name} SET body = '{n}' WHERE id = {id}"));
    all.push("COMMIT".to_owned());
    all
}

fn holds(told: &Value) -> Vec<Value> {
    let holds = told["run"]["instants"]["holds"].as_array();
    holds.cloned().unwrap_or_default()
}

/// Those of use and those in vain, in milliseconds.
fn ms(told: &Value) -> (Vec<f64>, Vec<f64>) {
    let (good, vain): (Vec<Value>, Vec<Value>) = holds(told)
        .into_iter()
        .partition(|one| one["failed"].is_null());
    let ms = |one: &Value| one["hold_us"].as_f64().map(|us| us / 1000.0);
    (
        good.iter().filter_map(ms).collect(),
        vain.iter().filter_map(ms).collect(),
    )
}

const LOCK: [&str; 3] = ["--mode", "snapshot", "--lock"];

/// A run with `--lock` to its end.
fn locked(proxy: &Proxy, tables: &str) -> (i32, Value) {
    let words = [&LOCK[..], &["--tables", tables]].concat();
    tokio::task::block_in_place(|| verify(&proxy.admin, &words))
}

fn begin(proxy: &Proxy, tables: &str) {
    let words = [&LOCK[..], &["--tables", tables]].concat();
    tokio::task::block_in_place(|| begun(proxy, &words));
}

fn wait_for(proxy: &Proxy, what: &dyn Fn(&Value) -> bool) -> Value {
    tokio::task::block_in_place(|| until(proxy, what))
}

fn ended(told: &Value) -> bool {
    told["state"] == "ended"
}

/// Why the last instant was not to be had.
fn why(told: &Value) -> String {
    let failed = holds(told)
        .into_iter()
        .rev()
        .find(|one| !one["failed"].is_null());
    failed
        .map(|one| one["failed"].to_string())
        .unwrap_or_default()
}

fn in_vain(told: &Value) -> u64 {
    told["run"]["instants"]["failed"].as_u64().unwrap_or(0)
}

/// A row of the replica's is changed, of which the source does not know.
async fn plant(pair: &Pair, name: &str) {
    let change = format!("UPDATE scratch.{name} SET body = 'planted' WHERE id = 7");
    let planted = [
        "SET SESSION sql_log_bin = 0",
        &change,
        "SET SESSION sql_log_bin = 1",
    ];
    pair.run(Of::Replica, &planted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_writers_that_go_past_the_proxy_what_differs_is_found_and_nothing_else() {
    let pair = Pair::begin(LIGHT).await;
    for name in ["locked_a", "locked_b"] {
        filled(&pair, name).await;
    }
    let setup = setup(
        &pair,
        "hold_ms_max = 1000\nsnapshot_s = 1\nrows_per_second = 1500",
    );
    let proxy = Proxy::start_with(&pair.lab, &setup);
    // Without a lock it is refused, and says what would do.
    let body = json!({"mode": "snapshot", "tables": ["scratch.locked_a"]});
    let (status, refused) = proxy.ask("POST", "/api/v1/verify", &body);
    assert_eq!(status, 409, "{refused:#}");
    assert!(refused.to_string().contains("--lock"), "{refused:#}");
    let writers = Writers::start(&pair.lab.legacy(), "locked_a", "locked_b");
    let tables = "scratch.locked_a,scratch.locked_b";
    let (mut good, mut vain, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs() {
        let (code, told) = locked(&proxy, tables);
        let (some, others) = ms(&told);
        println!(
            "run {run}: {} ({code}), {} rows, holds {some:?}, in vain {others:?} {}",
            told["run"]["outcome"],
            told["run"]["rows"],
            why(&told),
        );
        for one in told["run"]["tables"].as_array().expect("tables") {
            if one["outcome"] != "equal" || one["unsettled"] != 0 {
                wrong.push(format!("run {run}: {one:#}"));
            }
        }
        let of: Vec<Value> = holds(&told)
            .iter()
            .map(|one| one["table"].clone())
            .collect();
        assert!(of.contains(&json!("scratch.locked_a")) && of.contains(&json!("scratch.locked_b")));
        good.extend(some);
        vain.extend(others);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    plant(&pair, "locked_a").await;
    let (code, told) = locked(&proxy, tables);
    let one = table(&told, "locked_a");
    let found = (code, &one["differences"], &one["rows"][0]["key"]);
    let expected = (1, &json!({"changed": 1}), &json!("`id` = 7"));
    assert_eq!(found, expected, "{told:#}");
    assert_eq!(table(&told, "locked_b")["outcome"], "equal", "{told:#}");
    let (slowest, written) = writers.stop().await;
    good.sort_by(f64::total_cmp);
    println!(
        "{} holds {good:?} ms, in vain {vain:?}; {written} rounds of writes, the slowest statement {slowest:?}",
        good.len()
    );
    assert!(slowest < Duration::from_secs(1) + BUSY, "{slowest:?}");
    assert!(good.len() >= 4, "{good:?}");
    pair.part().await;
}

/// It writes to no row, so no list of transactions shows what it has: the lock waits for it.
async fn keeps_it_open(address: &str, name: &str) -> Conn {
    let mut direct = connect(address, "scratch").await;
    for statement in [
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
        "BEGIN".to_owned(),
        format!("UPDATE {name} SET n = 1 WHERE id = -1"),
    ] {
        direct.query_drop(statement).await.expect("it is open");
    }
    direct
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_stays_open_is_not_waited_for_beyond_the_bound() {
    let pair = Pair::begin(LIGHT).await;
    for name in ["locked_a", "locked_b"] {
        filled(&pair, name).await;
    }
    let proxy = Proxy::start_with(&pair.lab, &setup(&pair, "hold_ms_max = 800"));
    let source = pair.lab.legacy();
    let writers = Writers::start(&source, "locked_a", "locked_b");
    let mut open = keeps_it_open(&source, "locked_a").await;
    begin(&proxy, "scratch.locked_a");
    let told = wait_for(&proxy, &|told| in_vain(told) >= 2);
    assert!(why(&told).contains("the lock was not had"), "{told:#}");
    let (_, vain) = ms(&told);
    assert!(
        vain.iter().all(|ms| (795.0..800.0 + 2_500.0).contains(ms)),
        "{vain:?}"
    );
    assert_eq!(vain.len(), 2, "it was waited for: {told:#}");
    // Nobody waits behind it once it was let go, though it is open still.
    writers.write_on(Duration::from_secs(30)).await;
    open.query_drop("COMMIT").await.expect("committed");
    let told = wait_for(&proxy, &ended);
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    // One that is seen keeps nobody waiting.
    open.query_drop("BEGIN").await.expect("begun");
    open.query_drop("UPDATE locked_a SET n = 1 WHERE id = 50")
        .await
        .expect("it is open");
    begin(&proxy, "scratch.locked_a");
    let told = wait_for(&proxy, &|told| in_vain(told) >= 2);
    assert!(
        why(&told).contains("(app) has a transaction open"),
        "{told:#}"
    );
    assert_eq!(ms(&told).1, Vec::<f64>::new(), "{told:#}");
    open.query_drop("COMMIT").await.expect("committed");
    let told = wait_for(&proxy, &ended);
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    let (slowest, written) = writers.stop().await;
    println!("the slowest of {written} rounds of writes took {slowest:?}, in vain {vain:?} ms");
    assert!(slowest < Duration::from_millis(800) + BUSY, "{slowest:?}");
    pair.part().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_replication_is_stopped_nothing_is_locked() {
    let pair = Pair::begin(LIGHT).await;
    for name in ["locked_a", "locked_b"] {
        filled(&pair, name).await;
    }
    let proxy = Proxy::start_with(&pair.lab, &setup(&pair, "hold_ms_max = 1000"));
    let writers = Writers::start(&pair.lab.legacy(), "locked_a", "locked_b");
    pair.run(Of::Replica, &["STOP REPLICA SQL_THREAD"]).await;
    writers.write_on(Duration::from_secs(30)).await;
    begin(&proxy, "scratch.locked_a");
    let told = wait_for(&proxy, &|told| in_vain(told) >= 1);
    assert!(why(&told).contains("behind or stopped"), "{told:#}");
    assert_eq!(
        ms(&told),
        (Vec::new(), Vec::new()),
        "nobody was held: {told:#}"
    );
    pair.run(Of::Replica, &["START REPLICA SQL_THREAD"]).await;
    let told = wait_for(&proxy, &ended);
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    let (slowest, _) = writers.stop().await;
    assert!(slowest < Duration::from_secs(1) + BUSY, "{slowest:?}");
    pair.part().await;
}

/// The threads of the proxy's own that ask for a lock, or have one.
async fn lockers(eye: &mut Conn) -> Vec<u64> {
    let ask = "SELECT id FROM information_schema.processlist WHERE user = 'understudy' AND info LIKE 'LOCK TABLES%'";
    eye.query(ask).await.expect("told")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_dies_in_mid_hold_keeps_nobody_waiting() {
    let pair = Pair::begin(LIGHT).await;
    for name in ["locked_a", "locked_b"] {
        filled(&pair, name).await;
    }
    let source = pair.lab.legacy();
    let dir = tempfile::tempdir().expect("a directory");
    let [first, held] = ["first", "held"].map(|name| dir.path().join(name));
    // Asked before the hold it says yes; asked in it, it takes its time.
    let script = format!(
        "if [ -e {first} ]; then touch {held}; exec sleep 20; fi; touch {first}",
        first = first.display(),
        held = held.display()
    );
    let command = format!("hold_ms_max = 10000\nposition_command = [\"sh\", \"-c\", \"{script}\"]");
    let proxy = Proxy::start_with(&pair.lab, &setup(&pair, &command));
    let writers = Writers::start(&source, "locked_a", "locked_b");
    begin(&proxy, "scratch.locked_a");
    exists(&held).await;
    let before = writers.written.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let meanwhile = writers.written.load(Ordering::Relaxed) - before;
    assert!(
        meanwhile <= 4,
        "they wrote {meanwhile} times while it was locked"
    );
    proxy.signal("KILL");
    let began = Instant::now();
    writers.write_on(Duration::from_secs(3)).await;
    println!(
        "held: writers went on {:?} after a kill -9",
        began.elapsed()
    );
    drop(proxy);
    // And where it dies while it waits for the lock: no longer than the server's own bound, however long that is open.
    let proxy = Proxy::start_with(&pair.lab, &setup(&pair, "hold_ms_max = 1900"));
    let mut open = keeps_it_open(&source, "locked_a").await;
    let mut eye = connect_as(&pair.lab).await;
    begin(&proxy, "scratch.locked_a");
    let end = Instant::now() + Duration::from_secs(60);
    while lockers(&mut eye).await.is_empty() {
        assert!(Instant::now() < end, "no lock was asked for");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.signal("KILL");
    let began = Instant::now();
    writers.write_on(Duration::from_secs(2) + BUSY).await;
    println!(
        "waiting: writers went on {:?} after a kill -9",
        began.elapsed()
    );
    // Where writers go before it, nobody would notice that it is there still.
    while !lockers(&mut eye).await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(2) + BUSY, "it waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("waiting: gone {:?} after a kill -9", began.elapsed());
    open.query_drop("ROLLBACK").await.expect("it ends");
    let (slowest, _) = writers.stop().await;
    println!("the slowest write took {slowest:?}");
    pair.part().await;
}

/// The proxy's own account sees its own threads.
async fn connect_as(lab: &Lab) -> Conn {
    let opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(lab.port("LEGACY_PORT"))
        .user(Some("understudy"))
        .pass(Some("understudy"))
        .prefer_socket(false);
    Conn::new(opts).await.expect("the login")
}

async fn exists(file: &Path) {
    let end = Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(Instant::now() < end, "no {}", file.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_running_understudy_it_is_one_instant_too_and_what_is_lacking_is_told() {
    let pair = Pair::begin(LIGHT).await;
    for name in ["locked_a", "locked_b"] {
        filled(&pair, name).await;
    }
    let setup = setup(&pair, "hold_ms_max = 1000");
    // For its files.
    let mut proxy = Proxy::start_with(&pair.lab, &setup);
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(Duration::from_secs(30)), Some(0));
    let config = proxy.file("understudy.toml");
    let writers = Writers::start(&pair.lab.legacy(), "locked_a", "locked_b");
    let tables = "scratch.locked_a,scratch.locked_b";
    for run in 1..=runs() {
        let (code, told) = alone(&config, tables);
        println!(
            "run {run}: {} {:?} {}",
            told["run"]["outcome"],
            ms(&told),
            why(&told)
        );
        assert_eq!(
            (code, &told["run"]["outcome"]),
            (0, &json!("equal")),
            "{told:#}"
        );
        assert_eq!(ms(&told).0.len(), 2, "{told:#}");
    }
    plant(&pair, "locked_b").await;
    let (code, told) = alone(&config, tables);
    let differs = &table(&told, "locked_b")["differences"];
    assert_eq!((code, differs), (1, &json!({"changed": 1})), "{told:#}");
    let (slowest, written) = writers.stop().await;
    println!("the slowest of {written} rounds of writes took {slowest:?}");
    assert!(slowest < Duration::from_secs(1) + BUSY, "{slowest:?}");
    // An account that may read, and not lock.
    let user = [
        "CREATE USER IF NOT EXISTS 'reads'@'%' IDENTIFIED WITH caching_sha2_password BY 'reads'",
        "GRANT SELECT ON scratch.* TO 'reads'@'%'",
    ];
    pair.run(Of::Source, &user).await;
    pair.until_replicated().await;
    let text = std::fs::read_to_string(&config).expect("the config");
    let text = text.replacen(
        "user = \"understudy\"\npassword = \"understudy\"",
        "user = \"reads\"\npassword = \"reads\"",
        1,
    );
    std::fs::write(&config, text).expect("written");
    let (code, told) = alone(&config, tables);
    let why = told["run"]["why"].to_string();
    assert_eq!(
        (code, &told["run"]["outcome"]),
        (2, &json!("failed")),
        "{told:#}"
    );
    assert!(
        why.contains("GRANT LOCK TABLES ON `scratch`.* TO 'reads'@'%'"),
        "{told:#}"
    );
    assert_eq!(holds(&told), Vec::<Value>::new(), "{told:#}");
    pair.run(Of::Source, &["DROP USER 'reads'@'%'"]).await;
    pair.part().await;
}

fn alone(config: &Path, tables: &str) -> (i32, Value) {
    let config = config.to_string_lossy();
    let fixed = [
        "verify", "--format", "json", "--config", &config, "--tables", tables,
    ];
    let words = [&fixed[..], &LOCK[..]].concat();
    let output = tokio::task::block_in_place(|| super::understudy(&words));
    let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| {
        panic!("{fault}: {}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code().unwrap_or(-1), told)
}

/// The last number of a set of GTIDs of one server: how many transactions it has had.
async fn stands(direct: &mut Conn) -> u64 {
    let set: Option<String> = direct
        .query_first("SELECT @@GLOBAL.gtid_executed")
        .await
        .expect("told");
    let last = set.as_deref().and_then(|set| set.rsplit(['-', ':']).next());
    last.and_then(|n| n.trim().parse().ok()).expect("GTIDs")
}

/// One session writes to the primary past the proxy, and a moment later the same to vtgate, as something that replicates would;
/// it leaves in a file how far that has come.
fn carries(
    lab: &Lab,
    name: &str,
    carried: &Path,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Duration> {
    let (legacy, shadow) = (lab.legacy(), lab.shadow());
    let (name, carried, stop) = (name.to_owned(), carried.to_owned(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut legacy = connect(&legacy, "scratch").await;
        let mut shadow = connect(&shadow, "scratch").await;
        let (mut slowest, mut n) = (Duration::ZERO, 0);
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let id = 100 + n * 37 % 2_800;
            let write = format!("UPDATE {name} SET name = '{n}' WHERE id = {id}");
            let began = Instant::now();
            legacy
                .query_drop(&write)
                .await
                .expect("no writer sees an error");
            slowest = slowest.max(began.elapsed());
            let stands = stands(&mut legacy).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            shadow.query_drop(&write).await.expect("carried");
            let new = carried.with_extension("new");
            std::fs::write(&new, format!("{stands}\n")).expect("a file");
            std::fs::rename(&new, &carried).expect("its place");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        slowest
    })
}

/// A proxy before vtgate, which something else than the mirror feeds, with this script as the command.
fn with_command(lab: &Lab, script: &str, verify: &str) -> Proxy {
    let command = if script.is_empty() {
        String::new()
    } else {
        format!("position_command = [\"sh\", \"-c\", '''{script}''', \"sh\"]")
    };
    let setup = Setup {
        mirror: OFF,
        shadow_more: "fed_by = \"replication\"".to_owned(),
        ledger: "literals = \"keep\"",
        more: format!(
            "[cutover]\ncatch_up = \"heartbeat\"\n[verify]\nshare = 1.0\n{verify}\n{command}"
        ),
        ..Setup::default()
    };
    Proxy::start_with(lab, &setup)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_vtgate_a_command_says_how_far_it_has_come() {
    let old = Lab::get();
    let lab = Lab::of(Primary::MySql97)
        .with("SHADOW_HOST", old.value("SHADOW_HOST"))
        .with("SHADOW_PORT", old.value("SHADOW_PORT"));
    let name = super::live::filled(&lab).await;
    let tables = format!("scratch.{name}");
    let dir = tempfile::tempdir().expect("a directory");
    let carried = dir.path().join("carried");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = carries(&lab, &name, &carried, &stop);
    exists(&carried).await;
    // One that waits: instants under a writer, in which nothing differs.
    let script = format!(
        r#"n="${{1##*[-:]}}"; while [ "$(cat {})" -lt "$n" ]; do sleep 0.01; done"#,
        carried.display()
    );
    let slow = "hold_ms_max = 3000\nsnapshot_s = 1\nrange_rows = 200\nrows_per_second = 3000";
    let proxy = with_command(&lab, &script, slow);
    let (code, told) = locked(&proxy, &tables);
    println!(
        "with a command that waits: {} {:?} {}",
        told["run"]["outcome"],
        ms(&told),
        why(&told)
    );
    assert_eq!(
        (code, &told["run"]["outcome"]),
        (0, &json!("equal")),
        "{told:#}"
    );
    assert!(ms(&told).0.len() >= 2, "{told:#}");
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let plant = format!("UPDATE {name} SET body = 'planted' WHERE id = 7");
    shadow.query_drop(plant).await.expect("planted");
    let (code, told) = locked(&proxy, &tables);
    let differs = &table(&told, &name)["differences"];
    assert_eq!((code, differs), (1, &json!({"changed": 1})), "{told:#}");
    drop(proxy);
    // One that fails: nobody is held, and its words are told.
    let proxy = with_command(&lab, "echo no such workflow >&2; exit 3", slow);
    begin(&proxy, &tables);
    let told = wait_for(&proxy, &|told| in_vain(told) >= 1);
    assert!(why(&told).contains("no such workflow"), "{told:#}");
    assert_eq!(ms(&told), (Vec::new(), Vec::new()), "{told:#}");
    drop(proxy);
    // One that hangs in the hold, once it was quick: let go at the bound, and it is killed.
    let [first, pid] = ["first", "pid"].map(|name| dir.path().join(name));
    let script = format!(
        "if [ -e {first} ]; then echo $$ > {pid}; exec sleep 600; fi; touch {first}",
        first = first.display(),
        pid = pid.display()
    );
    let proxy = with_command(&lab, &script, "hold_ms_max = 1500");
    begin(&proxy, &tables);
    let told = wait_for(&proxy, &|told| in_vain(told) >= 1);
    assert!(why(&told).contains("killed"), "{told:#}");
    let (_, vain) = ms(&told);
    assert!(
        vain.iter().all(|ms| *ms < 1_500.0 + 2_500.0) && vain.len() == 1,
        "{told:#}"
    );
    let pid = std::fs::read_to_string(&pid).expect("it was asked in the hold");
    let gone = || !Path::new(&format!("/proc/{}/cmdline", pid.trim())).exists();
    let end = Instant::now() + Duration::from_secs(10);
    while !gone() {
        assert!(Instant::now() < end, "it still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(proxy);
    stop.store(true, Ordering::Relaxed);
    let slowest = writer.await.expect("it wrote");
    println!("the slowest write took {slowest:?}");
    assert!(slowest < Duration::from_secs(3) + BUSY, "{slowest:?}");
    // And none at all is told before anything is locked.
    let proxy = with_command(&lab, "", slow);
    let (code, told) = locked(&proxy, &tables);
    let words = told["run"]["why"].to_string();
    assert_eq!(
        (code, &told["run"]["outcome"]),
        (2, &json!("failed")),
        "{told:#}"
    );
    assert!(words.contains("verify.position_command"), "{told:#}");
    drop(proxy);
    // Where a lock could have the server end somebody's transaction there is none.
    let proxy = with_command(&old, "exit 0", slow);
    let (code, told) = locked(&proxy, "app.customers");
    let words = told["run"]["why"].to_string();
    assert_eq!(code, 2, "{told:#}");
    assert!(
        words.contains("5.6.24") && words.contains("1213"),
        "{told:#}"
    );
}

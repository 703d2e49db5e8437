//! The alerts of `deploy/prometheus` on a real exporter: a Prometheus scrapes an understudy between real servers, to whom
//! happens what an alert is for, and the alert fires; before, with all well, none does. Thresholds are as they are, but
//! what must last (`for`) lasts a second here. What is not brought about here stands in `alerts_test.yaml` alone, where
//! series are made up: what takes many sessions, hours, or another day, and what a cutover or etcd must do.

use super::mirroring::{connect, table};
use super::proxy::Setup;
use super::way::Way;
use super::{Lab, Proxy, client};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ALERTS: &str = include_str!("../../../deploy/prometheus/alerts.yaml");

/// It is installed at its first start.
const PATIENCE: Duration = Duration::from_secs(120);

/// A Prometheus of the test's own. Ended when dropped.
struct Prometheus {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes this proxy, and knows the alerts.
    fn start(proxy: &Proxy) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = port.expect("a free port").to_string();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("a file is written");
        };
        write("alerts.yaml", &sooner(ALERTS));
        let target = proxy.admin.trim_start_matches("http://");
        write(
            "prometheus.yml",
            &format!(
                "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}\nrule_files: [alerts.yaml]\n\
                 scrape_configs: [{{job_name: understudy, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
            ),
        );
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/prometheus"))
            .arg("prometheus")
            .arg(format!("--web.listen-address={address}"))
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("lab/prometheus starts");
        let mut prometheus = Self {
            child,
            url: format!("http://{address}"),
            _dir: dir,
        };
        prometheus.wait_for("it scrapes", |one| {
            one.ask("query?query=up%7Bjob%3D%22understudy%22%7D%3D%3D1")
                .is_some_and(|found| found["result"] != json!([]))
        });
        prometheus
    }

    /// What its API says; nothing where it does not answer (yet).
    fn ask(&self, what: &str) -> Option<Value> {
        let url = format!("{}/api/v1/{what}", self.url);
        let body: Value = ureq::get(&url).call().ok()?.body_mut().read_json().ok()?;
        Some(body["data"].clone())
    }

    /// The alerts that fire, or did since its start.
    fn fired(&self) -> BTreeSet<String> {
        // group by (alertname) (count_over_time(ALERTS{alertstate="firing"}[1h]))
        let query = "group%20by%20(alertname)%20(count_over_time(ALERTS%7Balertstate%3D%22firing%22%7D%5B1h%5D))";
        let found = self.ask(&format!("query?query={query}"));
        let found = found.unwrap_or_default()["result"].clone();
        let names = found.as_array().into_iter().flatten();
        names
            .filter_map(|one| Some(one["metric"]["alertname"].as_str()?.to_owned()))
            .collect()
    }

    fn wait_for(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is(self) {
            let ended = self.child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "Prometheus has ended: {ended:?}");
            let (now, fired) = (Instant::now(), self.fired());
            assert!(now < end, "not in time: {what}; fired: {fired:?}");
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Waits until all of these have fired.
    fn wait_until_fired(&mut self, names: &[&str]) {
        let rings = |one: &Self| {
            let fired = one.fired();
            names.iter().all(|name| fired.contains(*name))
        };
        self.wait_for(&names.join(", "), rings);
        println!("fired: {}", names.join(", "));
    }
}

/// The same alerts, which fire after a second.
fn sooner(alerts: &str) -> String {
    let lines = alerts.lines().map(|line| {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("for: ") {
            format!("{}for: 1s", " ".repeat(indent))
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// An understudy whose ways to both servers can be cut, a table of its own, and a session.
struct Stage {
    lab: Lab,
    to_primary: Way,
    to_shadow: Way,
    proxy: Proxy,
    table: String,
    app: Conn,
}

impl Stage {
    async fn set() -> Self {
        let lab = Lab::get();
        let (to_primary, to_shadow) = (Way::to(lab.legacy()).await, Way::to(lab.shadow()).await);
        let setup = Setup {
            primary: Some(to_primary.address.clone()),
            shadow: Some(to_shadow.address.clone()),
            listen: "max_connections = 4",
            mirror: "writes = \"apply\"\nqueue_bytes = \"2MiB\"\nsession_queue_bytes = \"2MiB\"\ncommand_bytes_max = \"1MiB\"\nbreaker_errors = 2",
            ..Setup::default()
        };
        let proxy = Proxy::start_with(&lab, &setup);
        let table = table(&lab).await;
        let app = connect(&proxy.address, "scratch").await;
        Self {
            lab,
            to_primary,
            to_shadow,
            proxy,
            table,
            app,
        }
    }

    async fn say(&mut self, statement: &str) {
        let statement = statement.replace("{t}", &self.table);
        let said = self.app.query_drop(&statement).await;
        said.unwrap_or_else(|fault| panic!("{statement}: {fault}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_fire_on_what_really_happens_and_not_before() {
    let mut stage = Stage::set().await;
    stage
        .say("INSERT INTO {t} (id, name) VALUES (1, 'a'), (2, 'b')")
        .await;
    for _ in 0..50 {
        stage.say("SELECT name FROM {t} WHERE id = 1").await;
    }
    let coverage = stage.proxy.settled();
    assert_eq!(coverage["diverged"], 0, "{coverage}");
    let mut prometheus = Prometheus::start(&stage.proxy);
    stage.say("SELECT name FROM {t} WHERE id = 2").await;
    all_is_well(&mut prometheus);

    a_row_that_only_the_primary_has(&mut stage, &mut prometheus).await;
    a_pause(&stage, &mut prometheus);
    a_shadow_that_hangs_and_one_that_is_gone(&mut stage, &mut prometheus).await;
    a_client_too_many(&stage, &mut prometheus).await;
    a_ledger_that_is_locked(&mut stage, &mut prometheus).await;
    a_primary_that_is_gone(&stage, &mut prometheus).await;
    a_stop_and_a_start_without_a_primary(&mut stage, &mut prometheus);
}

/// Two scrapes later than the first, nothing fires.
fn all_is_well(prometheus: &mut Prometheus) {
    prometheus.wait_for("six scrapes", |one| {
        let scrapes = one.ask("query?query=count_over_time(understudy_ready%5B1h%5D)");
        let scrapes = scrapes.unwrap_or_default()["result"][0]["value"][1].clone();
        scrapes.as_str().and_then(|n| n.parse().ok()).unwrap_or(0) >= 6
    });
    let rules = prometheus.ask("rules?type=alert").expect("its rules");
    let groups = rules["groups"].as_array().expect("groups").iter();
    let read: usize = groups
        .map(|group| group["rules"].as_array().map_or(0, Vec::len))
        .sum();
    assert_eq!(read, ALERTS.matches("- alert: ").count());
    assert_eq!(prometheus.fired(), BTreeSet::new());
}

async fn a_row_that_only_the_primary_has(stage: &mut Stage, prometheus: &mut Prometheus) {
    let mut behind = connect(&stage.lab.legacy(), "scratch").await;
    let row = format!("INSERT INTO {} (id, name) VALUES (3, 'c')", stage.table);
    behind.query_drop(row).await.expect("the row");
    for _ in 0..12 {
        stage.say("SELECT name FROM {t} WHERE id = 3").await;
    }
    prometheus.wait_until_fired(&["UnderstudyDiverges"]);
    let tables = json!({"tables": [format!("scratch.{}", stage.table)]});
    stage.proxy.send("POST", "/api/v1/verify", &tables);
    prometheus.wait_until_fired(&["UnderstudyVerificationFindsDifferences"]);
}

fn a_pause(stage: &Stage, prometheus: &mut Prometheus) {
    let pause = |paused| {
        let body = json!({"paused": paused});
        stage.proxy.send("PATCH", "/api/v1/mirror", &body);
    };
    pause(true);
    prometheus.wait_until_fired(&["UnderstudyMirrorPaused"]);
    pause(false);
}

async fn a_shadow_that_hangs_and_one_that_is_gone(stage: &mut Stage, prometheus: &mut Prometheus) {
    stage.to_shadow.cut(true);
    let long = format!("SELECT '{}'", "x".repeat(20_000));
    for _ in 0..120 {
        stage.say(&long).await;
    }
    prometheus.wait_until_fired(&["UnderstudyQueueNearLimit", "UnderstudyExchangesDropped"]);
    stage.to_shadow.gone(true);
    stage.to_shadow.cut(false);
    for n in 10..30 {
        stage
            .say(&format!("INSERT INTO {{t}} (id, name) VALUES ({n}, 'd')"))
            .await;
    }
    prometheus.wait_until_fired(&[
        "UnderstudyShadowDown",
        "UnderstudyMirrorSuspended",
        "UnderstudyTainted",
        "UnderstudyComparesTooLittle",
    ]);
    stage.to_shadow.gone(false);
}

async fn a_client_too_many(stage: &Stage, prometheus: &mut Prometheus) {
    let mut others = Vec::new();
    for _ in 0..5 {
        let other = Conn::new(client(&stage.proxy.address, "scratch")).await;
        others.extend(other.ok());
    }
    prometheus.wait_until_fired(&["UnderstudyRefusesClients"]);
}

async fn a_ledger_that_is_locked(stage: &mut Stage, prometheus: &mut Prometheus) {
    let blocker = rusqlite::Connection::open(stage.proxy.file("ledger.db")).expect("the ledger");
    blocker.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    stage.say("SELECT name FROM {t} WHERE id = 1").await;
    prometheus.wait_until_fired(&["UnderstudyLedgerUnwritable"]);
    blocker.execute_batch("ROLLBACK").expect("let go");
}

async fn a_primary_that_is_gone(stage: &Stage, prometheus: &mut Prometheus) {
    stage.to_primary.gone(true);
    let refused = Conn::new(client(&stage.proxy.address, "scratch")).await;
    assert!(refused.is_err(), "the primary is gone");
    prometheus.wait_until_fired(&["UnderstudyPrimaryDown", "UnderstudyRefusesPrimaryDown"]);
}

fn a_stop_and_a_start_without_a_primary(stage: &mut Stage, prometheus: &mut Prometheus) {
    stage.proxy.signal("TERM");
    assert_eq!(stage.proxy.exit_code(Duration::from_secs(90)), Some(0));
    prometheus.wait_until_fired(&["UnderstudyDown"]);
    stage.proxy.launch_again();
    prometheus.wait_until_fired(&["UnderstudyNotReady", "UnderstudyRestarted"]);
}

//! A proxy with the checker at work on it, and its operators' door for cutovers.

use crate::lab::checker::{self, Checker, Load, Report, assert_none};
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

/// Limits of the guards that a minute of traffic can reach. How fast vtgate is on the machine of a
/// test is not what is tested.
const LOW: &str = "[readiness]
evidence_s = 0
evidence_hours = 1
evidence_commands = 50
latency_samples = 20
latency_p50_ms = 10000
latency_p99_ms = 10000
coverage_commands = 0.5
coverage_fingerprints = 0.5
coverage_tables = 0.5
";

/// What Connector/J asks when it logs in to a 5.6 is none of what it asks vtgate.
const RULES: &str = "[[compare.rules]]
name = \"Connector-J logs in\"
fingerprint = \"SELECT @@session.auto_increment_increment*\"
state = \"noise\"
who = \"a test\"
why = \"it asks what the server that it logs in to has\"
";

/// The application's user is the same on both sides, and replay logs in as it.
const USERS: &str = "[shadow.users]
app = { user = \"app\", password = \"app\" }
[primary.users]
app = { user = \"app\", password = \"app\" }
";

/// A light load, for tests of something else than load.
pub const LIGHT: Load = Load {
    clients: 12,
    guests: 0,
    rate: 40,
    reconnects: false,
};

/// A setup with these lines below `[cutover]`.
pub fn setup(cutover: &str) -> Setup {
    Setup {
        more: format!("{USERS}{RULES}{LOW}[cutover]\n{cutover}\n"),
        ..Setup::default()
    }
}

/// See the module.
pub struct Scene {
    pub lab: Lab,
    pub proxy: Proxy,
    pub checker: Checker,
    pub load: Load,
}

impl Scene {
    /// Tables anew, a proxy, the checker at work, and every guard content.
    pub async fn open(setup: &Setup, load: Load) -> Self {
        Self::open_after(setup, load, |_| ()).await
    }

    /// The same; before the checker begins, something is done through the proxy.
    pub async fn open_after(setup: &Setup, load: Load, first: impl FnOnce(&Proxy)) -> Self {
        let lab = Lab::get();
        checker::set_up(&lab, load).await;
        Self::open_on(lab, setup, load, first).await
    }

    /// The same with another lab, whose tables are there.
    pub async fn open_on(lab: Lab, setup: &Setup, load: Load, first: impl FnOnce(&Proxy)) -> Self {
        let proxy = Proxy::start_with(&lab, setup);
        first(&proxy);
        let checker = Checker::start(&proxy.address, load).await;
        let scene = Self {
            lab,
            proxy,
            checker,
            load,
        };
        scene.until_ready().await;
        scene
    }

    /// Waits until the guards would let it pass.
    pub async fn until_ready(&self) {
        let is_ready = |readiness: &Value| readiness["ready"] == true;
        until(Duration::from_secs(90), || {
            let readiness = self.proxy.get("/api/v1/readiness");
            is_ready(&readiness).then_some(()).ok_or(readiness)
        })
        .await;
    }

    /// Where a server is, by its name.
    pub fn address(&self, server: &str) -> String {
        match server {
            "legacy" => self.lab.legacy(),
            "vitess" => self.lab.shadow(),
            other => panic!("no server is called {other}"),
        }
    }

    /// The load ends; what is held is right on the primary, and the same on both sides.
    pub async fn close_in_order(self) -> Report {
        let report = self.checker.stop().await;
        report.print();
        self.proxy.settled();
        let primary = primary(&self.proxy);
        let wrong = report.verify(&address(&self.lab, &primary)).await;
        assert_none(&format!("{primary}, the primary, is wrong"), &wrong);
        assert_none("a client had a wrong answer", &report.wrong());
        let differences = report
            .differences(&self.lab.legacy(), &self.lab.shadow())
            .await;
        assert_none("legacy and vitess differ", &differences);
        report
    }
}

fn address(lab: &Lab, server: &str) -> String {
    if server == "legacy" {
        lab.legacy()
    } else {
        lab.shadow()
    }
}

/// Who is primary, as the status says.
pub fn primary(proxy: &Proxy) -> String {
    let status = proxy.get("/api/v1/status");
    status["primary"].as_str().expect("a name").to_owned()
}

/// The state of the cutover.
pub fn state(proxy: &Proxy) -> String {
    let cutover = proxy.get("/api/v1/cutover");
    cutover["state"].as_str().expect("a state").to_owned()
}

/// Asks for a cutover: the HTTP status, and the answer.
pub fn ask(proxy: &Proxy, body: &Value) -> (u16, Value) {
    proxy.ask("POST", "/api/v1/cutover", body)
}

/// Asks until it is true, or fails with what was seen last.
pub async fn until<T>(within: Duration, mut is_so: impl FnMut() -> Result<T, Value>) -> T {
    let end = Instant::now() + within;
    loop {
        match is_so() {
            Ok(seen) => return seen,
            Err(seen) => assert!(Instant::now() < end, "not within {within:?}: {seen:#}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the machine is in one of the states; what the API then says.
pub async fn until_state(proxy: &Proxy, states: &[&str], within: Duration) -> Value {
    until(within, || {
        let cutover = proxy.get("/api/v1/cutover");
        let is_there = states.iter().any(|state| cutover["state"] == *state);
        if is_there { Ok(cutover) } else { Err(cutover) }
    })
    .await
}

/// The same without evidence: for tests of what comes after it.
pub async fn flip_unproven(proxy: &Proxy, to: &str) -> Value {
    let unproven = [
        "divergences",
        "coverage",
        "evidence",
        "latency",
        "writers",
        "features",
        "taint",
    ];
    flip_by(proxy, &json!({"to": to, "force": unproven})).await
}

/// Makes the server primary, and waits until it serves; the record.
pub async fn flip(proxy: &Proxy, to: &str) -> Value {
    flip_by(proxy, &json!({"to": to})).await
}

async fn flip_by(proxy: &Proxy, body: &Value) -> Value {
    let to = body["to"].as_str().expect("a name");
    let (status, answer) = ask(proxy, body);
    assert_eq!(status, 202, "{answer:#}\n{}", proxy.log());
    let cutover = until_state(
        proxy,
        &["soaking", "done", "aborted"],
        Duration::from_secs(60),
    )
    .await;
    assert_ne!(cutover["state"], "aborted", "{cutover:#}\n{}", proxy.log());
    assert_eq!(primary(proxy), to, "{cutover:#}");
    cutover["record"].clone()
}

/// The time during which new transactions waited, of a record.
pub fn hold(record: &Value) -> (SystemTime, SystemTime) {
    let steps = record["steps"].as_array().expect("steps");
    let holding = steps.iter().find(|step| step["step"] == "holding");
    let at = holding
        .and_then(|step| step["at"].as_str())
        .expect("the step holding");
    let at: jiff::Timestamp = at.parse().expect("a time");
    let began = SystemTime::from(at);
    (began, began + Duration::from_micros(hold_us(record)))
}

pub fn hold_us(record: &Value) -> u64 {
    record["hold_us"]
        .as_u64()
        .unwrap_or_else(|| panic!("no hold_us in {record:#}"))
}

/// The names of a record's steps, in turn.
pub fn steps(record: &Value) -> Vec<&str> {
    let steps = record["steps"].as_array().expect("steps");
    steps
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect()
}

/// All that a record says of why.
pub fn why(record: &Value) -> String {
    let steps = record["steps"].as_array().expect("steps");
    let of = |step: &Value| format!("{} {}", step["outcome"], step["why"]);
    let steps: Vec<String> = steps.iter().map(of).collect();
    let (outcome, whole) = (&record["outcome"], &record["why"]);
    format!("{outcome} {whole} {}", steps.join(" "))
}

#[test]
fn a_record_tells_when_new_transactions_waited_and_why() {
    let record = json!({"hold_us": 23_500, "outcome": "aborted", "steps": [
        {"step": "preparing", "at": "2030-01-01T00:00:00Z", "took_us": 5, "outcome": "done", "why": null},
        {"step": "holding", "at": "2030-01-01T00:00:01.250Z", "took_us": 9, "outcome": "stuck", "why": "GET_LOCK"},
    ]});
    let (from, to) = hold(&record);
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_001);
    assert_eq!(from, second + Duration::from_millis(250));
    assert_eq!(to, from + Duration::from_micros(23_500));
    assert_eq!(steps(&record), ["preparing", "holding"]);
    assert!(why(&record).contains("GET_LOCK"));
}

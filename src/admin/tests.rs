//! Every route over a real socket, with a ledger in a file and a house of cards.

mod audit;
mod cutover;
mod events;
mod openapi;
mod page;
mod querylog;
mod roles;
mod tls;
mod verify;
mod watched;

use super::*;
use crate::compare::verdict::{Divergence, Example, Kind, Reason, Verdict};
use crate::config::Writes;
use crate::cutover::Unmanned;
use crate::ledger::{Commands, Judged, Observation, Protocol, Side};
use crate::roles::Roles;
use crate::sql::{Class, Table, TableSet};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

struct Cards {
    control: Mutex<Control>,
    ready: Mutex<Ready>,
}

impl House for Cards {
    fn sessions(&self) -> Sessions {
        Sessions {
            open: 3,
            mirrored: 2,
            tunnelled: 1,
        }
    }

    fn mirror(&self) -> Mirror {
        let control = *self.control.lock();
        Mirror {
            state: if control.paused { "paused" } else { "running" },
            reason: None,
            control,
            waiting: 2,
            unread: 1,
            oldest: std::time::Duration::from_millis(30),
        }
    }

    fn change_control(&self, change: &mut dyn FnMut(&mut Control)) {
        change(&mut self.control.lock());
    }

    fn seen(&self, server: &str) -> Seen {
        Seen {
            version: Some(format!("{server}-1")),
            error: None,
            unwatched: server == "vitess",
        }
    }

    fn ready(&self) -> Ready {
        *self.ready.lock()
    }

    fn tee(&self) -> Tee {
        Tee {
            queue_bytes: 5,
            queue_bytes_max: 9,
            ..Tee::default()
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("understudy_accepted_total", 7)]
    }
}

/// A house of cards, and all that a request may need of it.
fn built(
    config: &Arc<config::Config>,
    ledger: &Ledger,
    console: &Arc<console::Counters>,
) -> (Parts, Arc<Cards>, watch::Sender<Roles>) {
    let roles = Roles {
        primary: Arc::new(config.primary.clone()),
        shadow: Arc::new(config.shadow.clone()),
    };
    let (writer, roles) = watch::channel(roles);
    let ready = Ready {
        listener: true,
        primary: true,
        ledger: true,
        draining: false,
    };
    let cards = Arc::new(Cards {
        control: Mutex::new(Control::new(&config.mirror)),
        ready: Mutex::new(ready),
    });
    let parts = Parts {
        config: Arc::clone(config),
        roles,
        ledger: ledger.clone(),
        house: Arc::clone(&cards) as Arc<dyn House>,
        helm: Arc::new(Unmanned::new("nobody is here", None, None)),
        inspector: Arc::new(crate::verify::Absent),
        metrics: Arc::new(Metrics::new()),
        started: tokio::time::Instant::now(),
        console: Arc::clone(console),
        counters: Arc::default(),
        tls: Tls::open(&config.admin).expect("sound"),
    };
    (parts, cards, writer)
}

/// The same for the console's tests.
pub(super) fn parts(
    config: config::Config,
    ledger: Ledger,
    console: &Arc<console::Counters>,
) -> (watch::Sender<Roles>, Parts) {
    let (parts, _, writer) = built(&Arc::new(config), &ledger, console);
    (writer, parts)
}

/// Makes the helm, given the ledger's file.
type MakeHelm<'a> = &'a dyn Fn(&std::path::Path) -> Arc<dyn Helm>;

/// A running admin, ended when dropped.
struct Door {
    at: SocketAddr,
    cards: Arc<Cards>,
    ledger: Ledger,
    stop: CancellationToken,
    parts: Parts,
    _roles: watch::Sender<Roles>,
    _files: tempfile::TempDir,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Door {
    async fn open(more: &str) -> Self {
        Self::open_with(more, None).await
    }

    /// With somebody who verifies.
    async fn open_to(inspector: Arc<dyn crate::verify::Inspector>) -> Self {
        Self::open_for("", None, inspector).await
    }

    async fn open_with(more: &str, helm: Option<MakeHelm<'_>>) -> Self {
        Self::open_for(more, helm, Arc::new(crate::verify::Absent)).await
    }

    async fn open_for(
        more: &str,
        helm: Option<MakeHelm<'_>>,
        inspector: Arc<dyn crate::verify::Inspector>,
    ) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let path = files.path().join("ledger.db");
        let text = format!("[ledger]\npath = {path:?}\nlog = \"\"\n{more}");
        let config = config::Config::parse(&text, &[]).expect("sound");
        let ledger = Ledger::open(
            &config.ledger,
            config.shadow.fed_by,
            Judged {
                rules: config.compare.rules.clone(),
                stale_after: config.compare.rule_stale.clone(),
                floor: None,
            },
            Arc::new(|| Commands {
                handed: 4,
                lost: 0,
                passed: 0,
            }),
        )
        .expect("a ledger");
        let config = Arc::new(config);
        let (mut parts, cards, writer) = built(&config, &ledger, &Arc::default());
        if let Some(helm) = helm {
            parts.helm = helm(&config.ledger.path);
        }
        parts.inspector = inspector;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        crate::task::spawn("admin", serve(listener, None, parts.clone(), stop.clone()));
        Self {
            parts,
            at,
            cards,
            ledger,
            stop,
            _roles: writer,
            _files: files,
        }
    }

    async fn raw(&self, request: &str) -> (u16, String) {
        let (status, _, body) = self.whole(request).await;
        (status, body)
    }

    /// An answer's status, head and body.
    async fn whole(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.at).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        let status = answer
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let (length, at) = (body.len(), self.at);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        let (status, body) = self.raw(&request).await;
        (
            status,
            serde_json::from_str(&body).unwrap_or(Value::String(body)),
        )
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "", "").await
    }

    /// Records a match, a divergence, and a command that was not compared; waits for the writer.
    async fn fill(&self) {
        self.ledger.record(observation(Verdict::Match));
        self.ledger
            .record(observation(Verdict::NotCompared(Reason::Race)));
        self.ledger
            .record(observation(Verdict::Diverged(Divergence {
                kind: Kind::Value,
                also: vec![Kind::Order],
                detail: "column 1: value".into(),
                columns: Some(vec!["a".into()]),
                examples: vec![Example {
                    row: Some(0),
                    names: vec!["a".into()],
                    ..Example::default()
                }],
            })));
        while self.get("/api/v1/divergences").await.1["items"] == json!([]) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

fn observation(verdict: Verdict) -> Observation {
    let side = |server: &str, us| Side {
        server: server.into(),
        rows: 1,
        error: None,
        affected_rows: None,
        first_byte_us: Some(us / 2),
        latency_us: Some(us),
    };
    Observation {
        at: jiff::Timestamp::now(),
        session: 1,
        fingerprint: "SELECT `a` FROM `t`".into(),
        digest: 42,
        protocol: Protocol::Text,
        class: Class::Read,
        user: "app".into(),
        database: "shop".into(),
        tables: [Table {
            database: Some("shop".into()),
            name: "t".into(),
        }]
        .into(),
        written: TableSet::none(),
        statement: Some("SELECT a FROM t".into()),
        context: None,
        verdict,
        follows: None,
        rechecked: None,
        primary: side("legacy", 1_000),
        shadow: Some(side("vitess", 2_000)),
        queue_us: Some(1),
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .map(|object| object.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

#[tokio::test]
async fn the_status_has_the_contracts_shape() {
    let door = Door::open("").await;
    door.fill().await;
    let (status, body) = door.get("/api/v1/status").await;
    assert_eq!(status, 200);
    for key in [
        "version", "uptime_s", "primary", "shadow", "mirror", "sessions", "coverage",
    ] {
        assert!(body.get(key).is_some(), "{key}: {body}");
    }
    assert_eq!(
        (&body["primary"], &body["shadow"]),
        (&json!("legacy"), &json!("vitess"))
    );
    assert_eq!(
        body["mirror"],
        json!({"state": "running", "mirrors": true, "reason": null, "reads": true, "writes": "apply", "sample": 1.0, "observe": true,
               "waiting": 2, "unread": 1, "queue_bytes": 5, "queue_bytes_max": 9})
    );
    let servers = &body["servers"];
    assert_eq!(
        (&servers["legacy"]["watched"], &servers["vitess"]["watched"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        body["sessions"],
        json!({"open": 3, "mirrored": 2, "tunnelled": 1})
    );
    let coverage = &body["coverage"];
    assert_eq!(
        (&coverage["commands"], &coverage["pending"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(
        (&coverage["matched"], &coverage["diverged"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(coverage["not_compared"], json!({"race": 1}));
}

#[tokio::test]
async fn divergences_and_findings_have_the_contracts_shape() {
    let door = Door::open("").await;
    door.fill().await;
    let (_, page) = door
        .get("/api/v1/divergences?kind=value&table=t&state=open&limit=5")
        .await;
    let item = &page["items"][0];
    for key in [
        "id",
        "at",
        "kind",
        "fingerprint",
        "digest",
        "protocol",
        "user",
        "database",
        "tables",
        "statement",
        "also",
        "primary",
        "shadow",
        "finding_id",
    ] {
        assert!(item.get(key).is_some(), "{key}: {item}");
    }
    for key in ["server", "rows", "error", "affected_rows", "latency_us"] {
        assert!(
            item["primary"].get(key).is_some() && item["shadow"].get(key).is_some(),
            "{key}: {item}"
        );
    }
    assert_eq!(page["next"], Value::Null);
    let (status, whole) = door
        .get(&format!("/api/v1/divergences/{}", item["id"]))
        .await;
    assert_eq!((status, &whole["kind"]), (200, &json!("value")));
    let (_, page) = door.get("/api/v1/findings?sort=impact&limit=5").await;
    let finding = &page["items"][0];
    for key in [
        "id",
        "kind",
        "fingerprint",
        "digest",
        "protocol",
        "tables",
        "count",
        "commands",
        "first_seen",
        "last_seen",
        "state",
        "impact",
        "cause_id",
    ] {
        assert!(finding.get(key).is_some(), "{key}: {finding}");
    }
    let path = format!("/api/v1/findings/{}", finding["id"]);
    let body =
        r#"{"state": "accepted", "who": "me", "why": "known", "until": "2030-01-31T00:00:00Z"}"#;
    let (status, changed) = door.ask("PATCH", &path, "", body).await;
    assert_eq!(
        (status, &changed["state"]),
        (200, &json!("accepted")),
        "{changed}"
    );
    assert_eq!(
        door.get("/api/v1/findings?state=open").await.1["items"],
        json!([])
    );
}

#[tokio::test]
async fn a_finding_is_shown_whole_triaged_and_refused_by_the_word_that_is_missing() {
    let door = Door::open("").await;
    door.fill().await;
    for (body, word) in [
        ("{}", "state"),
        (r#"{"state": "lost", "who": "me"}"#, "state"),
        (r#"{"state": "fixed"}"#, "who"),
        (
            r#"{"state": "accepted", "who": "me", "until": "2930-01-31T00:00:00Z"}"#,
            "why",
        ),
        (
            r#"{"state": "accepted", "who": "me", "why": "b", "until": "2020-01-31T00:00:00Z"}"#,
            "until",
        ),
    ] {
        let (status, answer) = door.ask("PATCH", "/api/v1/findings/1", "", body).await;
        assert_eq!(status, 400, "{answer}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.starts_with(word), "{message}");
    }
    let body = r#"{"state": "noise", "who": "me", "why": "a trigger"}"#;
    let (status, _) = door.ask("PATCH", "/api/v1/findings/1", "", body).await;
    assert_eq!(status, 200);
    let (status, whole) = door.get("/api/v1/findings/1").await;
    assert_eq!((status, &whole["state"]), (200, &json!("noise")));
    assert_eq!(whole["history"][0]["why"], "a trigger");
    assert_eq!(whole["examples"][0]["finding_id"], 1);
    assert_eq!(door.get("/api/v1/findings/2").await.0, 404);
    for (query, items) in [
        (
            "state=noise&kind=value&table=t&fingerprint=SELECT%20%60a%60%20FROM%20%60t%60",
            1,
        ),
        ("state=open", 0),
        ("kind=rows", 0),
        ("by=table", 1),
        ("by=fingerprint&state=open", 0),
    ] {
        let (_, page) = door.get(&format!("/api/v1/findings?{query}")).await;
        let found = page["items"].as_array().expect("items").len();
        assert_eq!(found, items, "{query}: {page}");
    }
    for query in ["by=user", "by=table&sort=count", "kind=odd", "format=xml"] {
        let (status, _) = door.get(&format!("/api/v1/findings?{query}")).await;
        assert_eq!(status, 400, "{query}");
    }
}

#[tokio::test]
async fn rules_are_made_and_deleted_but_for_those_of_the_config() {
    let config = r#"[[compare.rules]]
        name = "written"
        table = "other"
        state = "noise"
        who = "ops""#;
    let door = Door::open(config).await;
    for (body, status) in [
        (r#"{"name": "mine", "table": "t", "state": "noise"}"#, 400),
        (r#"{"name": "mine", "state": "noise", "who": "me"}"#, 400),
        (
            r#"{"name": "mine", "table": "t", "state": "noise", "who": "me", "until": "2020-01-01T00:00:00Z"}"#,
            400,
        ),
        (
            r#"{"name": "mine", "table": "t", "state": "noise", "who": "me", "odd": 1}"#,
            400,
        ),
        (
            r#"{"name": "mine", "table": "t", "state": "noise", "who": "me"}"#,
            201,
        ),
        (
            r#"{"name": "mine", "table": "u", "state": "noise", "who": "me"}"#,
            409,
        ),
        (
            r#"{"name": "written", "table": "u", "state": "noise", "who": "me"}"#,
            409,
        ),
    ] {
        let (told, answer) = door.ask("POST", "/api/v1/rules", "", body).await;
        assert_eq!(told, status, "{body}: {answer}");
    }
    door.fill().await;
    let (_, rules) = door.get("/api/v1/rules").await;
    let all = rules["items"].as_array().expect("items");
    let told: Vec<_> = all
        .iter()
        .map(|one| (&one["name"], &one["from"], &one["hits"]))
        .collect();
    let (written, mine) = (json!("written"), json!("mine"));
    let (config, api) = (json!("config"), json!("api"));
    assert_eq!(
        told,
        [(&written, &config, &json!(0)), (&mine, &api, &json!(1))]
    );
    let (_, page) = door.get("/api/v1/findings?rule=mine").await;
    assert_eq!(page["items"][0]["state"], "noise");
    let path = |at: usize| format!("/api/v1/rules/{}?who=me&why=done", all[at]["id"]);
    assert_eq!(door.ask("DELETE", &path(0), "", "").await.0, 409);
    assert_eq!(door.ask("DELETE", &path(1), "", "").await.0, 200);
    assert_eq!(door.ask("DELETE", &path(1), "", "").await.0, 404);
    let (_, page) = door.get("/api/v1/findings").await;
    assert_eq!(
        (&page["items"][0]["state"], &page["items"][0]["rule"]),
        (&json!("open"), &Value::Null)
    );
}

#[tokio::test]
async fn lists_are_sheets_for_those_who_ask() {
    let door = Door::open("").await;
    door.fill().await;
    for (path, headers) in [
        ("/api/v1/findings?format=csv", ""),
        ("/api/v1/findings", "accept: text/csv\r\n"),
        ("/api/v1/findings?by=table&format=csv", ""),
        ("/api/v1/divergences?format=csv&limit=1", ""),
    ] {
        let (status, body) = door.ask("GET", path, headers, "").await;
        let text = body.as_str().expect("a sheet");
        assert_eq!((status, text.lines().count()), (200, 2), "{path}: {text}");
        assert!(text.contains("shop.t"), "{text}");
    }
}

#[tokio::test]
async fn latencies_stand_under_the_servers_names() {
    let door = Door::open("").await;
    door.fill().await;
    let (_, body) = door.get("/api/v1/latency").await;
    let item = &body["items"][0];
    for server in ["legacy", "vitess"] {
        for key in ["p50", "p90", "p99", "p999", "max"] {
            assert!(
                item[server][key].is_u64() && item[server]["first_byte"][key].is_u64(),
                "{item}"
            );
        }
    }
    assert!(
        keys(item).contains(&"fingerprint")
            && keys(item).contains(&"class")
            && keys(item).contains(&"count")
    );
}

#[tokio::test]
async fn taints_are_told_and_cleared_by_somebody_for_a_reason() {
    let door = Door::open("").await;
    door.ledger.taint(
        &[Table {
            database: Some("shop".into()),
            name: "t".into(),
        }],
        &"a write was dropped".into(),
    );
    let (_, body) = door.get("/api/v1/taints").await;
    let taint = &body["items"][0];
    assert_eq!(taint["cause"], "a write was dropped");
    assert_eq!(taint["name"], "shop.t", "as findings say it");
    assert_eq!(taint["finding_id"], Value::Null);
    assert_eq!(taint["followed"], json!({"count": 0, "last": null}));
    for (body, status) in [
        (r#"{"tables": [], "who": "a", "why": "b"}"#, 400),
        (r#"{"tables": ["shop.t"], "who": "", "why": "b"}"#, 400),
        (r#"{"tables": ["shop.t"], "why": "b"}"#, 400),
        (r#"{"tables": ["shop.t"], "who": "a", "why": "b"}"#, 200),
    ] {
        assert_eq!(
            door.ask("POST", "/api/v1/taints/clear", "", body).await.0,
            status,
            "{body}"
        );
    }
    assert_eq!(door.get("/api/v1/taints").await.1["items"], json!([]));
}

#[tokio::test]
async fn the_mirrors_switches_are_set_one_by_one() {
    let door =
        Door::open("[shadow]\nfed_by = \"replication\"\n[mirror]\nwrites = \"rollback\"").await;
    for (body, status) in [
        (r#"{"paused": true}"#, 200),
        (r#"{"sample": 0.5, "reads": false, "observe": false}"#, 200),
        (r#"{"writes": "plan"}"#, 200),
        (r#"{"writes": "apply"}"#, 409),
        (r#"{"writes": "some"}"#, 400),
        (r#"{"sample": 2}"#, 400),
        (r#"{"speed": 2}"#, 400),
        (r#"{"paused": 1}"#, 400),
        ("", 400),
        ("[]", 400),
    ] {
        let (told, answer) = door
            .ask(
                "PATCH",
                "/api/v1/mirror",
                "content-type: application/json\r\n",
                body,
            )
            .await;
        assert_eq!(told, status, "{body}: {answer}");
        assert_eq!(answer.get("error").is_some(), status != 200, "{answer}");
    }
    let control = *door.cards.control.lock();
    assert_eq!(
        control,
        Control {
            reads: false,
            writes: Writes::Plan,
            sample: 0.5,
            paused: true,
            observe: false,
            flows_back: false,
        }
    );
}

#[tokio::test]
async fn dark_writes_wait_for_the_word_that_replication_has_ended() {
    let door =
        Door::open("[shadow]\nfed_by = \"replication\"\n[mirror]\nwrites = \"rollback\"").await;
    let switch = async |body: &str| {
        let (status, answer) = door.ask("PATCH", "/api/v1/mirror", "", body).await;
        let message = answer["error"]["message"].as_str();
        (status, message.unwrap_or_default().to_owned())
    };
    let (status, why) = switch(r#"{"writes": "apply"}"#).await;
    assert_eq!(status, 409);
    assert!(why.contains("vitess is fed by replication"), "{why}");
    // Behind a cutover.
    door.cards.control.lock().flows_back = true;
    let (status, why) = switch(r#"{"writes": "apply", "reads": false}"#).await;
    assert_eq!(status, 409);
    assert!(
        why.contains("replication-stopped") && !why.contains("twice"),
        "{why}"
    );
    assert!(door.cards.control.lock().reads, "nothing was changed");
    // The word was given: they flow, and to say so once more is no change.
    door.cards.control.lock().writes = Writes::Apply;
    assert_eq!(
        switch(r#"{"writes": "apply", "reads": false}"#).await.0,
        200
    );
    let control = *door.cards.control.lock();
    assert!(control.writes == Writes::Apply && !control.reads && control.flows_back);
}

#[tokio::test]
async fn every_error_has_a_code_and_a_message() {
    let door = Door::open("").await;
    for (method, path, status, code) in [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/api/v2/status", 404, "not_found"),
        ("POST", "/api/v1/status", 405, "method_not_allowed"),
        ("GET", "/api/v1/mirror", 405, "method_not_allowed"),
        ("GET", "/api/v1/status?x=1", 400, "bad_request"),
        ("GET", "/api/v1/divergences?limit=0", 400, "bad_request"),
        ("GET", "/api/v1/divergences?limit=-1", 400, "bad_request"),
        ("GET", "/api/v1/divergences?kind=odd", 400, "bad_request"),
        ("GET", "/api/v1/divergences?before=x", 400, "bad_request"),
        ("GET", "/api/v1/divergences?state=odd", 400, "bad_request"),
        ("GET", "/api/v1/divergences/x", 400, "bad_request"),
        ("GET", "/api/v1/divergences/1", 404, "not_found"),
        ("GET", "/api/v1/findings?sort=size", 400, "bad_request"),
        ("PATCH", "/api/v1/findings/1", 400, "bad_request"),
    ] {
        let (told, body) = door.ask(method, path, "", "").await;
        assert_eq!(
            (told, body["error"]["code"].as_str()),
            (status, Some(code)),
            "{method} {path}: {body}"
        );
        assert!(
            body["error"]["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty())
        );
    }
    let long = format!(r#"{{"paused": {}true}}"#, " ".repeat(70_000));
    assert_eq!(door.ask("PATCH", "/api/v1/mirror", "", &long).await.0, 413);
}

#[tokio::test]
async fn readiness_is_the_listener_the_primary_and_the_ledger() {
    let door = Door::open("").await;
    assert_eq!(door.get("/healthz").await.0, 200);
    assert_eq!(door.get("/readyz").await.0, 200);
    door.cards.ready.lock().primary = false;
    let (status, body) = door.get("/readyz").await;
    assert_eq!((status, &body["primary"]), (503, &json!(false)));
    *door.cards.ready.lock() = Ready {
        listener: true,
        primary: true,
        ledger: true,
        draining: true,
    };
    assert_eq!(door.get("/readyz").await.0, 503);
    assert_eq!(door.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn the_token_opens_what_is_closed() {
    let door = Door::open("[admin]\ntoken = \"hush\"").await;
    assert_eq!(door.get("/healthz").await.0, 200);
    let (status, body) = door.get("/api/v1/status").await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (401, &json!("unauthorized"))
    );
    assert_eq!(
        door.ask(
            "GET",
            "/api/v1/status",
            "authorization: Bearer hush\r\n",
            ""
        )
        .await
        .0,
        200
    );
    assert_eq!(
        door.ask("GET", "/metrics", "authorization: Bearer wrong\r\n", "")
            .await
            .0,
        401
    );
}

#[tokio::test]
async fn readiness_has_the_contracts_shape_and_every_guard() {
    let door = Door::open("").await;
    door.fill().await;
    let (status, body) = door.get("/api/v1/readiness").await;
    assert_eq!((status, &body["ready"]), (200, &json!(false)));
    let guards = body["guards"].as_array().expect("guards");
    let names: Vec<_> = guards
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(names, crate::readiness::GUARDS);
    for guard in guards {
        assert_eq!(keys(guard), ["limit", "name", "pass", "value", "why"]);
    }
    assert_eq!(guards[0]["value"], json!({"value": 1}));
    assert_eq!(guards[1]["value"]["commands"], json!(0.6666));
    assert_eq!(guards[4]["value"]["oldest_ms"], json!(30));
    let (_, metrics) = door.get("/metrics").await;
    let metrics = metrics.as_str().unwrap_or_default();
    assert!(
        metrics.contains("understudy_readiness_guard{name=\"lag\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("understudy_readiness_guard{name=\"divergences\"} 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn coverage_is_told_by_statement_by_table_and_by_hour() {
    let door = Door::open("").await;
    door.fill().await;
    for (query, key, name) in [
        ("", "fingerprint", json!("SELECT `a` FROM `t`")),
        (
            "?by=fingerprint&compared=ever",
            "digest",
            json!("000000000000002a"),
        ),
        ("?by=table&limit=1", "table", json!("shop.t")),
        ("?by=hour", "seconds", json!(1)),
    ] {
        let (status, page) = door.get(&format!("/api/v1/coverage{query}")).await;
        assert_eq!(status, 200, "{query}: {page}");
        let item = &page["items"][0];
        assert_eq!(item[key], name, "{query}: {item}");
        assert_eq!(
            (&item["commands"], &item["compared"]),
            (&json!(3), &json!(2)),
            "{query}"
        );
        assert_eq!(item["not_compared"], json!({"race": 1}), "{query}");
    }
    let (_, none) = door.get("/api/v1/coverage?compared=never").await;
    assert_eq!(none["items"], json!([]));
    for wrong in ["?by=user", "?compared=perhaps", "?limit=0", "?colour=red"] {
        let (status, body) = door.get(&format!("/api/v1/coverage{wrong}")).await;
        assert_eq!(status, 400, "{wrong}: {body}");
    }
}

#[tokio::test]
async fn a_report_comes_in_three_forms() {
    let door = Door::open("").await;
    door.fill().await;
    let (status, body) = door.get("/api/v1/report").await;
    assert_eq!(status, 200);
    assert_eq!(body["findings"][0]["finding"]["kind"], "value");
    assert_eq!(body["findings"][0]["example"]["detail"], "column 1: value");
    assert_eq!(body["primary"]["name"], "legacy");
    assert_eq!(body["evidence"]["ever"]["diverged"], 1);
    for (form, begins) in [
        ("markdown", "# understudy: legacy → vitess"),
        ("html", "<!doctype html>"),
    ] {
        let (status, text) = door.get(&format!("/api/v1/report?format={form}")).await;
        let text = text.as_str().unwrap_or_default();
        assert_eq!(status, 200, "{form}");
        assert!(text.starts_with(begins), "{text}");
        assert!(text.contains("column 1: value"), "{text}");
    }
    let (status, body) = door.get("/api/v1/report?format=pdf").await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn a_statement_that_is_slow_on_the_shadow_becomes_a_finding() {
    let limits = "[readiness]\nlatency_samples = 10\nlatency_p50_ms = 0\nlatency_p99_ms = 0\n";
    let door = Door::open(limits).await;
    let mut watch = readiness::Watch::default();
    for _ in 0..9 {
        door.ledger.record(observation(Verdict::Match));
    }
    watch.look(&door.parts);
    door.ledger.record(observation(Verdict::Match));
    watch.look(&door.parts);
    watch.look(&door.parts);
    let mut found = Value::Null;
    while found["items"].get(0).is_none() {
        found = door.get("/api/v1/findings").await.1;
    }
    let finding = &found["items"][0];
    assert_eq!(
        (&finding["kind"], &finding["count"]),
        (&json!("latency"), &json!(10))
    );
    assert_eq!(finding["tables"], json!(["shop.t"]));
    let (_, status) = door.get("/api/v1/status").await;
    assert_eq!(status["coverage"]["diverged"], 0);
}

fn known() -> impl Iterator<Item = &'static crate::metrics::Metric> {
    crate::metrics::METRICS
        .iter()
        .chain(&crate::metrics::PROCESS)
        .chain(&crate::metrics::RELAY)
        .chain(&crate::metrics::CONSOLE)
        .chain(&crate::metrics::VERIFICATION)
}

#[test]
fn the_guide_tells_every_metric_and_no_other() {
    let told: std::collections::BTreeSet<&str> = include_str!("../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `understudy_"))
        .filter_map(|rest| rest.split('`').next())
        .collect();
    let exported = known()
        .filter_map(|metric| metric.name.strip_prefix("understudy_"))
        .collect();
    assert_eq!(told, exported);
}

#[tokio::test]
async fn every_metric_is_in_the_table_and_in_base_units() {
    let door = Door::open("").await;
    door.fill().await;
    let (status, body) = door.get("/metrics").await;
    assert_eq!(status, 200);
    let text = body.as_str().expect("text");
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let name = line.split(['{', ' ']).next().expect("a name");
        assert!(known().any(|metric| metric.name == name), "{line}");
    }
    for metric in known() {
        let base = ["_total", "_seconds", "_bytes", "_ratio", "_info"]
            .iter()
            .any(|end| metric.name.ends_with(end));
        let counter = metric.kind == crate::metrics::Kind::Counter;
        assert_eq!(counter, metric.name.ends_with("_total"), "{}", metric.name);
        assert!(base || !counter, "{}", metric.name);
        assert!(metric.name.starts_with("understudy_"), "{}", metric.name);
    }
    for line in [
        "understudy_commands_total 4",
        "understudy_not_compared_total{reason=\"race\"} 1",
        "understudy_not_compared_total{reason=\"dropped\"} 0",
        "understudy_accepted_total 7",
        "understudy_latency_seconds{server=\"legacy\",class=\"read\",quantile=\"1\"}",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn one_that_never_ends_its_head_takes_nothing_from_others() {
    let door = Door::open("").await;
    let mut slow = Vec::new();
    for _ in 0..32 {
        let mut stream = TcpStream::connect(door.at).await.expect("connected");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: ")
            .await
            .expect("sent");
        slow.push(stream);
    }
    assert_eq!(door.get("/healthz").await.0, 200);
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: {}\r\nx: {}\r\n\r\n",
        door.at,
        "y".repeat(200_000)
    );
    let mut stream = TcpStream::connect(door.at).await.expect("connected");
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

/// Asks by a connection that stays open; the status.
async fn asked_on(stream: &mut TcpStream, at: SocketAddr, headers: &str) -> u16 {
    let request = format!("GET /api/v1/status HTTP/1.1\r\nhost: {at}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).await.expect("answered");
        assert!(n > 0, "it was closed");
        answer.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_lowercase();
        let (_, length) = head.split_once("content-length: ").expect("a length");
        let length = length.lines().next().expect("a number");
        if body.len() >= length.parse().expect("a number") {
            return head
                .get(9..12)
                .and_then(|it| it.parse().ok())
                .expect("a status");
        }
    }
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let door = Door::open("").await;
    let mut kept = TcpStream::connect(door.at).await.expect("connected");
    assert_eq!(asked_on(&mut kept, door.at, "").await, 200);
    let mut silent = Vec::new();
    for _ in 0..2 * places::CONNECTIONS_MAX {
        silent.push(TcpStream::connect(door.at).await.expect("connected"));
    }
    for path in ["/readyz", "/healthz", "/api/v1/status"] {
        assert_eq!(door.get(path).await.0, 200, "{path}");
    }
    assert_eq!(asked_on(&mut kept, door.at, "").await, 200, "it was let in");
    let gone = silent[0].read(&mut [0]).await;
    assert!(!matches!(gone, Ok(1..)), "{gone:?}");
    let turned_away = door.parts.counters.turned_away.load(Ordering::Relaxed);
    assert!(turned_away >= 64, "{turned_away}");
}

#[tokio::test]
async fn an_id_that_is_no_text_is_refused_as_everything_is() {
    let door = Door::open("").await;
    for path in ["/api/v1/divergences/%ff", "/api/v1/divergences/x"] {
        let (status, body) = door.get(path).await;
        assert_eq!(status, 400);
        assert_eq!(body["error"]["code"], "bad_request", "{body}");
    }
}

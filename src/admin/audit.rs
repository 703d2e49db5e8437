//! The audit: whatever would change something is written down, with who asked for it, from where, for what, and how
//! it was answered; what was refused too. And `GET /api/v1/audit`, which tells it.
//!
//! Two layers do it for every route: the outer one has the request as it came and the answer as it goes, and the
//! inner one, behind `access`, the body of who was let in. Of that no text is kept that a person wrote freely: such
//! a text may hold anything, a secret or a customer's name.

use super::answer::{Asked, Refusal, body, read};
use super::page::{self, Trouble};
use super::who::Caller;
use super::{Counters, Parts};
use crate::config;
use crate::ledger::{Audited, Ledger};
use crate::task;
use crate::words::{brief, harmless, is_misleading};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Requests that wait to be written at most; one more is in understudy's own log alone.
const WAITING_MAX: usize = 64;

/// An answer waits for so long until its request is written down, and then goes: no operator is to be stopped by a
/// disk that hangs.
const WRITTEN: Duration = Duration::from_secs(1);

/// At the end, what waits is written within this time.
const DRAIN: Duration = Duration::from_secs(1);

/// Of those who prove nothing so many requests are kept in each minute, and as many of viewers who were refused; the
/// next one says how many were left out.
const REFUSED_MAX: u32 = 30;
const MINUTE: Duration = Duration::from_secs(60);

/// The status of who may not.
const FORBIDDEN: u16 = 403;

/// Fields of a body, and of a query, that are looked at.
const FIELDS_MAX: usize = 200;

/// Characters of a path, of a value, of a body's summary, at most.
const PATH_CHARS: usize = 200;
const VALUE_CHARS: usize = 64;
const BODY_CHARS: usize = 300;

/// Of who somebody says that they are: a name, and no text.
const NAME_CHARS: usize = 64;

/// Entries of a list that are told.
const LIST_MAX: usize = 10;

/// Where a connection comes from; in its requests' extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What the way to the handler learns of a request; in its extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Slip(Arc<Learned>);

#[derive(Debug, Default)]
struct Learned {
    who: OnceLock<Arc<str>>,
    said: OnceLock<String>,
    body: OnceLock<String>,
}

impl Slip {
    /// Who asks, once that is proved. A stranger has no name.
    pub(super) fn is_of(&self, caller: &Caller) {
        if caller.name().is_empty() {
            return;
        }
        let _first_counts = self.0.who.set(Arc::clone(caller.name()));
    }

    /// Takes note of what the request says: the body first, for it is what the handlers read.
    fn learn(&self, is_form: bool, body: &[u8], query: &str) {
        let mut told = if is_form {
            fields(body)
        } else if let Ok(Value::Object(json)) = serde_json::from_slice(body) {
            json.into_iter().collect()
        } else {
            Vec::new()
        };
        told.extend(fields(query.as_bytes()));
        let told = in_order(told);
        let who = told.iter().find(|(name, _)| name == "who");
        let who = who.and_then(|(_, who)| who.as_str());
        if let Some(said) = who.filter(|who| !who.is_empty()) {
            let _first = self.0.said.set(name(said));
        }
        let _first = self.0.body.set(summary(&told));
    }
}

/// Who writes it all down, one after another, and keeps nobody waiting.
#[derive(Debug)]
pub(super) struct Clerk {
    desk: mpsc::Sender<Handed>,
    /// Of nobody's.
    strangers: Mutex<Refused>,
    /// Of those who proved who they are, and may not. Strangers, who are as many as they like, leave them their own.
    viewers: Mutex<Refused>,
    counters: Arc<Counters>,
}

/// A request, and who waits until it is written.
type Handed = (Audited, oneshot::Sender<()>);

impl Clerk {
    /// One that writes into this ledger until it is dropped, and the task that does it.
    pub(super) fn start(ledger: Ledger, counters: &Arc<Counters>) -> (Arc<Self>, JoinHandle<()>) {
        let (desk, mut waiting) = mpsc::channel::<Handed>(WAITING_MAX);
        let counts = Arc::clone(counters);
        let writes = async move {
            while let Some((request, written)) = waiting.recv().await {
                let (kept, whole) = (ledger.clone(), request.clone());
                let done = tokio::task::spawn_blocking(move || kept.audit(whole)).await;
                match done {
                    Ok(Ok(())) => {}
                    Ok(Err(fault)) => lost(&counts, &request, &fault),
                    Err(_) => lost(&counts, &request, "it broke off"),
                }
                let _gone = written.send(());
            }
        };
        let clerk = Self {
            desk,
            strangers: Mutex::default(),
            viewers: Mutex::default(),
            counters: Arc::clone(counters),
        };
        (Arc::new(clerk), task::spawn("audit", writes))
    }

    /// Lets the clerk write what waits, for a while.
    pub(super) async fn end(clerk: JoinHandle<()>) {
        let _late = tokio::time::timeout(DRAIN, clerk).await;
    }

    /// Hands a request over; what it returns comes once it is written.
    fn take(&self, mut request: Audited) -> oneshot::Receiver<()> {
        let (written, when) = oneshot::channel();
        let bounded = match (&request.who, request.status) {
            (None, _) => Some(&self.strangers),
            (Some(_), Some(FORBIDDEN)) => Some(&self.viewers),
            (Some(_), _) => None,
        };
        if let Some(bounded) = bounded {
            match bounded.lock().one_more(Instant::now()) {
                None => return when,
                Some(0) => {}
                Some(left_out) => {
                    let gap = format!("(and {left_out} more before it that are left out)");
                    request.body = format!("{} {gap}", request.body).trim_start().to_owned();
                }
            }
        }
        tracing::info!(
            who = request.who,
            said = request.said,
            from = request.from,
            body = request.body,
            status = request.status,
            "audit: {}",
            request.what
        );
        if let Err(error) = self.desk.try_send((request, written)) {
            let ((request, _), fault) = match error {
                mpsc::error::TrySendError::Full(it) => (it, "too many wait for the disk"),
                mpsc::error::TrySendError::Closed(it) => (it, "understudy ends"),
            };
            lost(&self.counters, &request, fault);
        }
        when
    }
}

fn lost(counters: &Counters, request: &Audited, fault: &str) {
    counters.audit_lost.fetch_add(1, Ordering::Relaxed);
    tracing::error!(
        who = request.who,
        fault,
        "the audit could not be written into the ledger, and stands in this log alone: {}",
        request.what
    );
}

/// How many requests there were in this minute of those who were refused.
#[derive(Debug, Default)]
struct Refused {
    since: Option<Instant>,
    kept: u32,
    left_out: u64,
}

impl Refused {
    /// Whether one more is kept, and how many were left out before it.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        if self
            .since
            .is_none_or(|since| now.duration_since(since) >= MINUTE)
        {
            (self.since, self.kept) = (Some(now), 0);
        }
        if self.kept >= REFUSED_MAX {
            self.left_out += 1;
            return None;
        }
        self.kept += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A request under way. Whoever asked may leave before the answer: what is dropped is written down too.
struct UnderWay {
    clerk: Arc<Clerk>,
    request: Option<Audited>,
    slip: Slip,
}

impl UnderWay {
    /// It was answered with this status.
    fn answered(mut self, status: u16) -> Option<oneshot::Receiver<()>> {
        self.hand_over(Some(status))
    }

    fn hand_over(&mut self, status: Option<u16>) -> Option<oneshot::Receiver<()>> {
        let mut request = self.request.take()?;
        let learned = &self.slip.0;
        request.status = status;
        request.who = learned.who.get().map(ToString::to_string);
        request.said = learned.said.get().cloned();
        request.body = learned.body.get().cloned().unwrap_or_default();
        Some(self.clerk.take(request))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let _nobody_waits = self.hand_over(None);
    }
}

/// The outer layer: writes down what would change something.
pub(super) async fn watch(
    State(clerk): State<Arc<Clerk>>,
    mut request: Request,
    next: Next,
) -> Response {
    let slip = Slip::default();
    request.extensions_mut().insert(slip.clone());
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Peer>();
    let path = harmless(request.uri().path()).replace(['\n', '\t'], "\u{fffd}");
    let under_way = UnderWay {
        clerk,
        slip,
        request: Some(Audited {
            at: jiff::Timestamp::now(),
            who: None,
            said: None,
            from: peer.map_or_else(String::new, |peer| peer.0.to_string()),
            what: format!("{} {}", request.method(), brief(&path, PATH_CHARS)),
            body: String::new(),
            status: None,
        }),
    };
    let response = next.run(request).await;
    if let Some(written) = under_way.answered(response.status().as_u16()) {
        let _late = tokio::time::timeout(WRITTEN, written).await;
    }
    response
}

/// The inner layer: takes note of the body of who was let in, and hands it on as it came.
pub(super) async fn note(request: Request, next: Next) -> Response {
    let Some(slip) = request.extensions().get::<Slip>().cloned() else {
        return next.run(request).await;
    };
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let is_form = page::is_page(request.uri().path());
    let query = request.uri().query().map(str::to_owned);
    let (head, came) = request.into_parts();
    let bytes = match body(Request::new(came)).await {
        Ok(bytes) => bytes,
        Err(refusal) if is_form => return Trouble::from(refusal).into_response(),
        Err(refusal) => return refusal.into_response(),
    };
    slip.learn(is_form, &bytes, query.as_deref().unwrap_or_default());
    next.run(Request::from_parts(head, Body::from(bytes))).await
}

/// The fields of a form, or of a query.
fn fields(bytes: &[u8]) -> Vec<(String, Value)> {
    let fields = form_urlencoded::parse(bytes).into_owned();
    fields
        .take(FIELDS_MAX)
        .map(|(name, text)| (name, Value::String(text)))
        .collect()
}

/// Each name once, as it came first; those whose values are told before all others.
fn in_order(fields: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let mut known = BTreeSet::new();
    let mut each = fields;
    each.retain(|(name, _)| known.insert(name.clone()));
    each.sort_by_key(|(name, _)| !TOLD.contains(&&**name));
    each
}

/// Fields whose values are names, words or numbers. Of all others it is told that they were there.
const TOLD: [&str; 23] = [
    "act",
    "column",
    "dry_run",
    "finding",
    "force",
    "jobs",
    "kind",
    "lock",
    "mode",
    "name",
    "observe",
    "paused",
    "reads",
    "record",
    "repair",
    "rows_per_second",
    "sample",
    "state",
    "table",
    "tables",
    "to",
    "until",
    "writes",
];

/// Fields that say nothing of what is asked for.
const BESIDE: [&str; 3] = ["who", "form_token", "token"];

/// Stands for what is not told.
const HIDDEN: &str = "…";

/// What was asked for, in a line.
fn summary(told: &[(String, Value)]) -> String {
    let plain = |name: &str| {
        let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
        name.len() <= 32 && name.chars().all(is_plain)
    };
    let says = |value: &Value| !value.is_null() && *value != Value::String(String::new());
    let each = told
        .iter()
        .filter(|(name, value)| !BESIDE.contains(&&**name) && says(value));
    let words = each.map(|(name, value)| {
        if !plain(name) {
            HIDDEN.to_owned()
        } else if TOLD.contains(&&**name) {
            format!("{name}={}", word(value))
        } else {
            format!("{name}={HIDDEN}")
        }
    });
    brief(&words.collect::<Vec<_>>().join(" "), BODY_CHARS)
}

/// Who somebody says that they are, where that could stand in a record.
fn name(said: &str) -> String {
    if config::said("who", said).is_ok() && said.chars().count() <= NAME_CHARS {
        brief(&harmless(said), NAME_CHARS)
    } else {
        "…".to_owned()
    }
}

/// A value, where it is a name, a word or a number.
fn word(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => {
            let is_plain =
                |c: char| (c.is_alphanumeric() || "_.*:%+-$,".contains(c)) && !is_misleading(c);
            if text.chars().count() <= VALUE_CHARS && text.chars().all(is_plain) {
                text.clone()
            } else {
                HIDDEN.to_owned()
            }
        }
        Value::Array(list) => {
            let mut words: Vec<String> = list.iter().take(LIST_MAX).map(word).collect();
            if list.len() > LIST_MAX {
                words.push(HIDDEN.to_owned());
            }
            words.join(",")
        }
        Value::Object(_) => HIDDEN.to_owned(),
    }
}

/// Which of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<u32>,
    before: Option<i64>,
}

/// Where the query does not say.
const LIMIT: u32 = 100;

/// A page of the audit, newest first.
pub(super) async fn audit(
    State(parts): State<Parts>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Json<crate::ledger::Page>, Refusal> {
    if wanted.limit == Some(0) {
        return Err(Refusal::bad("limit: found 0; it is at least 1"));
    }
    let (limit, before) = (wanted.limit.unwrap_or(LIMIT), wanted.before);
    read(move || parts.ledger.audited(limit, before))
        .await
        .map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(body: &Value) -> String {
        let Value::Object(fields) = body.clone() else {
            return String::new();
        };
        summary(&fields.into_iter().collect::<Vec<_>>())
    }

    #[test]
    fn of_a_body_words_and_numbers_are_told_and_no_text() {
        for (body, line) in [
            (
                json!({"state": "accepted", "who": "bob", "why": "card 4111 1111", "until": "2030-01-31T00:00:00Z"}),
                "state=accepted until=2030-01-31T00:00:00Z why=…",
            ),
            (
                json!({"to": "vitess", "dry_run": false, "force": ["taint", "lag"]}),
                "dry_run=false force=taint,lag to=vitess",
            ),
            (
                json!({"tables": ["app.orders", "app.o'r"], "why": "x", "fingerprint": "SELECT 'secret'"}),
                "fingerprint=… tables=app.orders,… why=…",
            ),
            (
                json!({"sample": 0.5, "paused": true, "reads": null}),
                "paused=true sample=0.5",
            ),
            (json!({"token": "hush", "form_token": "hush"}), ""),
            (
                json!({"SELECT 'secret'": 1, "where": "id = 5", "state": {"a": "secret"}}),
                "… state=… where=…",
            ),
            (json!({"name": "n".repeat(65)}), "name=…"),
        ] {
            assert_eq!(told(&body), line, "{body}");
        }
        let many = json!({"tables": (0..500).map(|n| format!("app.t{n}")).collect::<Vec<_>>()});
        assert!(told(&many).ends_with("app.t9,…"), "{}", told(&many));
    }

    #[tokio::test]
    async fn whoever_leaves_before_the_answer_is_written_down_too() {
        let (desk, mut waiting) = mpsc::channel(4);
        let clerk = Arc::new(Clerk {
            desk,
            strangers: Mutex::default(),
            viewers: Mutex::default(),
            counters: Arc::default(),
        });
        let slip = Slip::default();
        slip.is_of(&Caller::anybody());
        let request = Audited {
            at: jiff::Timestamp::UNIX_EPOCH,
            who: None,
            said: None,
            from: String::new(),
            what: "POST /api/v1/cutover".to_owned(),
            body: String::new(),
            status: Some(200),
        };
        let under_way = |number: u16| UnderWay {
            clerk: Arc::clone(&clerk),
            slip: slip.clone(),
            request: Some(Audited {
                from: number.to_string(),
                ..request.clone()
            }),
        };
        drop(under_way(1));
        assert!(under_way(2).answered(202).is_some());
        for status in [None, Some(202)] {
            let (written, _) = waiting.recv().await.expect("one");
            assert_eq!(
                (written.who.as_deref(), written.status),
                (Some("operator"), status)
            );
        }
        assert!(waiting.try_recv().is_err(), "each once");
    }

    fn clerk() -> (Clerk, mpsc::Receiver<Handed>) {
        let (desk, waiting) = mpsc::channel(100);
        let clerk = Clerk {
            desk,
            strangers: Mutex::default(),
            viewers: Mutex::default(),
            counters: Arc::default(),
        };
        (clerk, waiting)
    }

    fn refused(who: Option<&str>) -> Audited {
        Audited {
            at: jiff::Timestamp::UNIX_EPOCH,
            who: who.map(str::to_owned),
            said: None,
            from: String::new(),
            what: "POST /api/v1/cutover".to_owned(),
            body: "to=vitess".to_owned(),
            status: Some(if who.is_some() { FORBIDDEN } else { 401 }),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_leave_a_viewers_refusal_its_line() {
        let (clerk, mut waiting) = clerk();
        let mut written = || {
            let mut all = Vec::new();
            while let Ok((one, _)) = waiting.try_recv() {
                all.push((one.who, one.body));
            }
            all
        };
        for _ in 0..REFUSED_MAX + 5 {
            drop(clerk.take(refused(None)));
        }
        drop(clerk.take(refused(Some("grafana"))));
        let all = written();
        assert_eq!(all.len(), 31);
        let last = (Some("grafana".to_owned()), "to=vitess".to_owned());
        assert_eq!(all.last(), Some(&last));
        tokio::time::advance(MINUTE).await;
        drop(clerk.take(refused(None)));
        let told = "to=vitess (and 5 more before it that are left out)".to_owned();
        assert_eq!(written(), [(None, told)]);
    }

    #[test]
    fn who_somebody_says_that_they_are_is_a_name() {
        let long = "n".repeat(NAME_CHARS + 1);
        for (said, told) in [
            ("bob", "bob"),
            ("Zoë of the night shift", "Zoë of the night shift"),
            (&*long, "…"),
            (" ", "…"),
            ("understudy", "…"),
        ] {
            assert_eq!(name(said), told);
        }
    }

    #[test]
    fn those_who_prove_nothing_have_so_many_lines_a_minute() {
        let mut strangers = Refused::default();
        let now = Instant::now();
        for _ in 0..REFUSED_MAX {
            assert_eq!(strangers.one_more(now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(strangers.one_more(now + MINUTE / 2), None);
        }
        assert_eq!(strangers.one_more(now + MINUTE), Some(7));
        assert_eq!(strangers.one_more(now + MINUTE), Some(0));
    }
}

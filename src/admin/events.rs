//! `GET /api/v1/events`: what happens to the whole, as server-sent events; one JSON object a line (NDJSON) where that is
//! asked for. First everything as it stands, then what changes: roles, servers, readiness to serve, the mirror,
//! the ledger, a cutover's state, a verification, taints, guards; and each new finding and each word on one.
//!
//! Refuses to slow anything down, and to keep anything for anybody: one look a second serves all who listen, and who
//! is slower is told what stands then, and how much of what happened was let go.

mod look;

use super::Parts;
use super::answer::{Asked, Refusal};
use super::few::{Few, Taken, none_left};
use super::status::Nothing;
use super::streams::{Form, Stream, Streams};
use super::who::Caller;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use look::{Look, Looks};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Who may listen at once.
const LISTENERS_MAX: usize = 8;

/// Between two looks.
const STEP: Duration = Duration::from_secs(1);

/// Where nothing happens, something is sent after so long, so that a listener that is gone is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// The places, and the last look.
#[derive(Debug)]
pub(super) struct Events {
    places: Arc<Few>,
    looks: Looks,
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            places: Few::new(LISTENERS_MAX),
            looks: Looks::default(),
        }
    }
}

/// Listens until the asker leaves, or their token is taken away, or understudy ends.
pub(super) async fn events(
    State(parts): State<Parts>,
    Extension(events): Extension<Arc<Events>>,
    Extension(streams): Extension<Streams>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Response, Refusal> {
    let role = caller.role();
    let place = events.places.take(role);
    let place = place.ok_or_else(|| none_left(role, LISTENERS_MAX))?;
    let form = Form::asked(&headers, Form::Events);
    let listener = Listener {
        events,
        parts,
        form,
        caller,
        stream: streams.begin(),
        told: None,
        spoke: Instant::now(),
        _place: place,
    };
    let pieces = stream::unfold(listener, |mut listener| async move {
        let piece = listener.next().await?;
        Some((Ok::<_, Infallible>(piece), listener))
    });
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(form.kind()));
    let fresh = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(([kind, fresh], Body::from_stream(pieces)).into_response())
}

/// One who listens.
struct Listener {
    events: Arc<Events>,
    parts: Parts,
    form: Form,
    /// With their token it ends.
    caller: Caller,
    /// Its connection lives on as long as it does.
    stream: Stream,
    told: Option<Told>,
    /// When something was sent last.
    spoke: Instant,
    _place: Taken,
}

/// What a listener knows.
#[derive(Debug)]
struct Told {
    stands: BTreeMap<&'static str, Value>,
    /// Of what happened, where it goes on.
    next: u64,
}

impl Listener {
    /// The next piece, when there is one; nothing once it is over.
    async fn next(&mut self) -> Option<String> {
        self.stream.is_read();
        loop {
            if self.told.is_some() {
                tokio::time::sleep(STEP).await;
            }
            if self.stream.is_to_end() || self.caller.is_over() {
                return None;
            }
            let look = self.events.looks.look(&self.parts).await;
            let told = self.told.get_or_insert_with(|| Told::before(&look));
            let mut piece = String::new();
            for (name, what) in told.news(&look) {
                self.form.event(&mut piece, name, &event(name, what));
            }
            if piece.is_empty() && self.spoke.elapsed() >= SIGN_OF_LIFE {
                piece.push_str(self.form.nothing());
            }
            if !piece.is_empty() {
                self.spoke = Instant::now();
                return Some(piece);
            }
        }
    }
}

impl Told {
    /// Nothing of what stands, and all that happened until now.
    const fn before(look: &Look) -> Self {
        Self {
            stands: BTreeMap::new(),
            next: look.next(),
        }
    }

    /// What is new to a listener, each with the name of its event.
    fn news(&mut self, look: &Look) -> Vec<(&'static str, Value)> {
        let mut news = Vec::new();
        for (name, stands) in look.stands() {
            if self.stands.get(name) != Some(stands) {
                self.stands.insert(name, stands.clone());
                news.push((name, stands.clone()));
            }
        }
        let dropped = look.first().saturating_sub(self.next);
        if dropped > 0 {
            news.push(("dropped", json!({"dropped": dropped})));
        }
        news.extend(look.since(self.next).cloned());
        self.next = look.next();
        news
    }
}

/// The line of an event; where it says itself when it was, that stands.
fn event(name: &str, what: Value) -> Value {
    let mut line = json!({"event": name, "at": Timestamp::now().to_string()});
    if let (Some(line), Value::Object(what)) = (line.as_object_mut(), what) {
        line.extend(what);
    }
    line
}

//! `GET /api/v1/querylog`: commands as they get their verdicts, one JSON object a line (NDJSON), or as server-sent
//! events where a browser asks. It goes on until the asker leaves.
//!
//! Refuses to slow anything down: lines for which an asker is too slow are let go, and it is told how many.

use super::Parts;
use super::answer::{Asked, Refusal};
use super::few::{none_left, open_to};
use super::streams::{Form, Stream, Streams};
use super::who::Caller;
use crate::ledger::{LISTENERS_MAX, Listener, QueryFilter, VERDICTS};
use crate::sql::Class;
use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Between two looks for lines.
const LOOK: Duration = Duration::from_millis(50);

/// Lines of one piece of the answer; the next look takes the rest.
const LINES_MAX: usize = 1024;

/// Where nothing happens, something is sent after so long, so that an asker that is gone is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Which commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    pub(super) fingerprint: Option<String>,
    pub(super) user: Option<String>,
    pub(super) table: Option<String>,
    pub(super) class: Option<String>,
    pub(super) verdict: Option<String>,
    pub(super) slower_us: Option<u64>,
}

/// The classes that there are.
pub(super) fn classes() -> [&'static str; Class::ALL.len()] {
    Class::ALL.map(Class::name)
}

impl Wanted {
    /// What is meant by it.
    ///
    /// # Errors
    /// A word that is none of those which are known, and these.
    pub(super) fn filter(self) -> Result<QueryFilter, Refusal> {
        one_of("verdict", self.verdict.as_deref(), &VERDICTS)?;
        one_of("class", self.class.as_deref(), &classes())?;
        Ok(QueryFilter {
            fingerprint: self.fingerprint,
            user: self.user,
            table: self.table,
            class: self.class,
            verdict: self.verdict,
            slower_us: self.slower_us,
        })
    }
}

fn one_of(what: &str, given: Option<&str>, names: &[&str]) -> Result<(), Refusal> {
    match given {
        Some(given) if !names.contains(&given) => Err(Refusal::bad(format!(
            "{what}: found {given:?}; it is one of {}",
            names.join(", ")
        ))),
        _ => Ok(()),
    }
}

/// Listens until the asker leaves, or their token is taken away, or understudy ends.
pub(super) async fn querylog(
    State(parts): State<Parts>,
    Extension(streams): Extension<Streams>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Asked(wanted): Asked<Wanted>,
) -> Result<Response, Refusal> {
    let form = Form::asked(&headers, Form::Ndjson);
    let listener = listened(&parts, &caller, wanted.filter()?)?;
    let lines = Lines::new(listener, streams.begin(), form, caller);
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(form.kind()));
    let fresh = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(([kind, fresh], Body::new(lines)).into_response())
}

/// One who listens, for the page too.
///
/// # Errors
/// As many listen as may.
pub(super) fn listened(
    parts: &Parts,
    caller: &Caller,
    filter: QueryFilter,
) -> Result<Listener, Refusal> {
    let role = caller.role();
    let listener = parts.ledger.listen(filter, open_to(role, LISTENERS_MAX));
    listener.ok_or_else(|| none_left(role, LISTENERS_MAX))
}

/// The answer's body.
#[derive(Debug)]
struct Lines {
    listener: Listener,
    stream: Stream,
    form: Form,
    /// Who listens: with their token it ends.
    caller: Caller,
    looks: Interval,
    /// When something was sent last; the head counts.
    said: Option<Instant>,
}

impl Lines {
    fn new(listener: Listener, stream: Stream, form: Form, caller: Caller) -> Self {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            listener,
            stream,
            form,
            caller,
            looks,
            said: None,
        }
    }

    fn piece(&self) -> String {
        let mut piece = String::new();
        for line in self.listener.take(LINES_MAX) {
            self.form.line(&mut piece, &line.json());
        }
        let dropped = self.listener.dropped();
        if dropped > 0 {
            let dropped = json!({"dropped": dropped});
            self.form.event(&mut piece, "dropped", &dropped);
        }
        if piece.is_empty() && self.said.is_none_or(|at| at.elapsed() >= SIGN_OF_LIFE) {
            piece.push_str(self.form.nothing());
        }
        piece
    }
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.stream.is_read();
        loop {
            ready!(self.looks.poll_tick(context));
            if self.stream.is_to_end() || self.caller.is_over() {
                return Poll::Ready(None);
            }
            let piece = self.piece();
            if !piece.is_empty() {
                self.said = Some(Instant::now());
                return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
            }
        }
    }
}

//! `GET /ui/events`: server-sent events that say which parts of the views have changed. What has changed
//! they do not say: a document asks for that itself, with what it may see.
//!
//! Streams take few of the admin's connections, and end after a while; a browser then asks again. One look
//! serves all of them.

use super::Page;
use super::entry::cookie_name;
use super::form::cookie;
use super::seats::Visitor;
use crate::admin::answer::{Refusal, read};
use crate::admin::few::{Few, Taken};
use crate::admin::places::CONNECTIONS_MAX;
use crate::admin::server::LIFE_MAX;
use crate::admin::streams::{Stream as Answer, Streams};
use crate::admin::who::Caller;
use crate::admin::{House, Parts};
use crate::config::Role;
use crate::cutover::machine::Rest;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Streams at once: what is left of the connections is for those who ask for something.
pub(super) const STREAMS_MAX: usize = CONNECTIONS_MAX / 4;

/// Between two looks.
const STEP: Duration = Duration::from_secs(1);

/// A look that is younger serves another stream too.
const YOUNG: Duration = Duration::from_millis(900);

/// A stream ends after this time: who has gone without a word holds no place for longer.
const LIFE: Duration = LIFE_MAX;

/// Something is said at least so often, or whatever stands between takes it for dead, and so does the page.
const QUIET_MAX: u32 = 15;

/// Readiness moves by itself, with time and with the window.
const READINESS_S: u64 = 15;

/// The parts, as `data-by` names them.
const PARTS: [&str; 6] = [
    "status",
    "roles",
    "findings",
    "cutover",
    "verification",
    "readiness",
];

/// A number for each part, which moves when it changes.
type Look = [u64; PARTS.len()];

/// The places, and the last look.
#[derive(Debug)]
pub(super) struct Watchers {
    places: Arc<Few>,
    last: Mutex<Option<(Instant, Look)>>,
}

impl Watchers {
    pub(super) fn new() -> Self {
        Self {
            places: Few::new(STREAMS_MAX),
            last: Mutex::new(None),
        }
    }
}

/// One stream.
struct Stream {
    page: Arc<Page>,
    parts: Parts,
    /// The cookie's seat, where one is needed: with it the stream ends.
    seat: Option<String>,
    /// Who looks: with their token it ends too.
    caller: Caller,
    told: Option<Look>,
    quiet: u32,
    ends: Instant,
    /// Its connection lives on as long as it does.
    answer: Answer,
    _place: Taken,
}

/// Opens a stream.
pub(super) async fn stream(
    State(parts): State<Parts>,
    Extension(page): Extension<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Extension(streams): Extension<Streams>,
    headers: HeaderMap,
) -> Response {
    let Some(place) = page.events.places.take(visitor.caller.role()) else {
        let whose = match visitor.caller.role() {
            Role::Viewer => "too many pages of viewers are open",
            Role::Operator => "too many pages are open",
        };
        let refusal =
            Refusal::unavailable(format!("{whose}; this one looks by itself now and then"));
        return ([(header::RETRY_AFTER, "30")], refusal).into_response();
    };
    let seat = cookie(&headers, &cookie_name(parts.config.admin.address.port()));
    let one = Stream {
        seat: seat.filter(|_| visitor.seated),
        caller: visitor.caller,
        page,
        parts,
        told: None,
        quiet: 0,
        ends: Instant::now() + LIFE,
        answer: streams.begin(),
        _place: place,
    };
    let events = stream::unfold(one, |mut one| async move {
        let event = one.next().await?;
        Some((Ok::<_, Infallible>(event), one))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::from_stream(events)).into_response()
}

impl Stream {
    /// The next event, when there is one; nothing once the stream is over.
    async fn next(&mut self) -> Option<String> {
        self.answer.is_read();
        if self.told.is_none() {
            // A younger look may be from before what the document of this stream shows already.
            self.told = Some(looked(&self.page, &self.parts).await);
            // Between a document and its stream, or between two streams, anything may have changed. Not that a
            // list is old, which is told once it is sure.
            let all = PARTS.into_iter().filter(|part| *part != "findings");
            let all = all.collect::<Vec<_>>().join(" ");
            return Some(format!("retry: 3000\nevent: changed\ndata: {all}\n\n"));
        }
        loop {
            tokio::time::sleep(STEP).await;
            let gone = |seat: &String| self.page.seats.at(seat).is_none();
            let is_over = self.answer.is_to_end() || Instant::now() >= self.ends;
            if is_over || self.caller.is_over() || self.seat.as_ref().is_some_and(gone) {
                return None;
            }
            let now = look(&self.page, &self.parts).await;
            let changed = changed(self.told.as_ref(), &now);
            self.told = Some(now);
            self.quiet += 1;
            if !changed.is_empty() {
                self.quiet = 0;
                return Some(format!("event: changed\ndata: {}\n\n", changed.join(" ")));
            }
            if self.quiet >= QUIET_MAX {
                self.quiet = 0;
                return Some("event: still\ndata: here\n\n".to_owned());
            }
        }
    }
}

fn changed(told: Option<&Look>, now: &Look) -> Vec<&'static str> {
    let parts = PARTS.into_iter().enumerate();
    parts
        .filter(|(at, _)| told.and_then(|told| told.get(*at)) != now.get(*at))
        .map(|(_, part)| part)
        .collect()
}

/// Where everything stands, or stood a moment ago.
async fn look(page: &Page, parts: &Parts) -> Look {
    let young = |(at, look): &(Instant, Look)| (at.elapsed() < YOUNG).then_some(*look);
    let last = *page.events.last.lock();
    match last.as_ref().and_then(young) {
        Some(look) => look,
        None => looked(page, parts).await,
    }
}

/// Where everything stands now.
async fn looked(page: &Page, parts: &Parts) -> Look {
    let last = *page.events.last.lock();
    let ledger = parts.ledger.clone();
    // A file that cannot be read now changes nothing, and holds up nothing that is known without it.
    let old = last.map_or(0, |(_, [_, _, mark, ..])| mark);
    let marked = tokio::time::timeout(STEP, read(move || ledger.mark())).await;
    let mark = marked.ok().and_then(Result::ok);
    let now = [
        digest(&status(parts)),
        digest(&roles(parts)),
        mark.map_or(old, |mark| digest(&mark)),
        digest(&cutover(parts)),
        digest(&verification(parts)),
        parts.started.elapsed().as_secs() / READINESS_S,
    ];
    *page.events.last.lock() = Some((Instant::now(), now));
    now
}

fn digest(what: &impl std::fmt::Debug) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{what:?}").as_bytes())
}

fn status(parts: &Parts) -> impl std::fmt::Debug {
    let house: &dyn House = &*parts.house;
    (
        parts.ledger.coverage(),
        house.mirror(),
        house.sessions(),
        house.tee(),
    )
}

fn roles(parts: &Parts) -> impl std::fmt::Debug {
    let roles = parts.roles.borrow();
    [roles.primary.name.clone(), roles.shadow.name.clone()]
}

/// While one is under way it moves with every look, for the times of its steps do.
fn cutover(parts: &Parts) -> impl std::fmt::Debug {
    let state = parts.helm.state();
    let lasts = matches!(state.rest(), None | Some(Rest::Soaking(_)));
    let beat = lasts.then(|| parts.started.elapsed().as_secs());
    (state.name(), parts.helm.record(), beat)
}

fn verification(parts: &Parts) -> impl std::fmt::Debug {
    let figures = parts.inspector.figures();
    (
        figures.state,
        figures.waits,
        figures.rows,
        figures.different,
        figures.tables,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_moved_is_named() {
        let now = [1, 2, 3, 4, 5, 6];
        assert_eq!(
            changed(Some(&[1, 2, 0, 4, 5, 0]), &now),
            ["findings", "readiness"]
        );
        assert!(changed(Some(&now), &now).is_empty());
    }
}

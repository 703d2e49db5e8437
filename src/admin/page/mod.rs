//! The operators' page: what the JSON API knows, for people, at night, for weeks.
//!
//! Rendered here, on the server: every view is a document that reads without JavaScript, and its whole
//! state is its URL. `page.js` only brings in anew what [`events`] says has changed, and adds keys. Nothing
//! is asked for from elsewhere, no script or style stands in a document, and the headers that hold a browser
//! to that go with every answer ([`secured`]).
//!
//! A view reads what the handler of the API reads (`admin/…`'s `told`, `listed`, `judged` …) and words it; it
//! computes nothing of its own but rates. What changes something is a form that carries a token which only
//! our own document can know ([`form::Sent`] cannot be had without it), and ends in the same function as the
//! API's request. What comes from clients is escaped by `maud`, and what could make a text look like another
//! one is shown as what it is.

mod assets;
mod audit;
mod bits;
mod cutover;
mod entry;
mod events;
mod evidence;
mod finding;
mod findings;
mod fleet;
mod form;
mod latency;
mod layout;
mod mirror;
mod overview;
mod pace;
mod queries;
mod recent;
pub(super) mod seats;
mod taints;
mod trouble;
mod verification;

pub(super) use entry::{again, login_first};
pub(super) use seats::{Seats, Visitor};
pub(super) use trouble::Trouble;

use super::Parts;
use super::holders::Holders;
use axum::extract::FromRequestParts;
use axum::http::request;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use std::convert::Infallible;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What the page keeps beside what it shows.
#[derive(Debug)]
pub(super) struct Page {
    /// Who has logged in.
    pub(super) seats: Seats,
    events: events::Watchers,
    pace: pace::Pace,
}

impl Page {
    /// Nobody has logged in, nobody looks.
    pub(super) fn new(holders: Arc<Holders>) -> Arc<Self> {
        Arc::new(Self {
            seats: Seats::new(holders),
            events: events::Watchers::new(),
            pace: pace::Pace::default(),
        })
    }
}

/// Keeps what rates are made of, until told to end.
pub(super) async fn watch(page: Arc<Page>, parts: Parts, stop: CancellationToken) {
    page.pace.keep(&parts, &stop).await;
}

/// The page's routes.
pub(super) fn router(page: Arc<Page>) -> Router<Parts> {
    Router::new()
        .route("/", get(|| async { Redirect::to("/ui/") }))
        .route("/ui", get(|| async { Redirect::to("/ui/") }))
        .route("/ui/", get(overview::view))
        .route("/ui/findings", get(findings::view))
        .route(
            "/ui/findings/{id}",
            get(finding::view).post(finding::triage),
        )
        .route("/ui/divergences/{id}", get(finding::divergence))
        .route("/ui/latency", get(latency::view))
        .route("/ui/queries", get(queries::view))
        .route("/ui/queries/stream", get(queries::stream))
        .route("/ui/mirror", get(mirror::view).post(mirror::order))
        .route("/ui/fleet", get(fleet::view))
        .route("/ui/fleet/forget", post(fleet::forget))
        .route("/ui/cutover", get(cutover::view).post(cutover::order))
        .route("/ui/cutover/abort", post(cutover::abort))
        .route("/ui/cutover/stopped", post(cutover::replication_stopped))
        .route("/ui/cutover/{id}", get(cutover::record))
        .route(
            "/ui/verification",
            get(verification::view).post(verification::start),
        )
        .route("/ui/verification/steer", post(verification::steer))
        .route("/ui/audit", get(audit::view))
        .route("/ui/login", get(entry::view).post(entry::login))
        .route("/ui/logout", post(entry::logout))
        .route("/ui/events", get(events::stream))
        .route("/ui/assets/{name}", get(assets::asset))
        .route("/ui/{*rest}", get(no_such_page))
        .layer(Extension(page))
        .layer(axum::middleware::map_response(secured))
}

/// Whether a path is the page's.
pub(super) fn is_page(path: &str) -> bool {
    path == "/" || path == "/ui" || path.starts_with("/ui/")
}

/// Whether a path is shown to who has not logged in: the form, and what it looks like.
pub(super) fn is_open(path: &str) -> bool {
    path == "/ui/login" || path.starts_with("/ui/assets/")
}

/// Whether what is sent there lets somebody in or out, whatever they may do inside.
pub(super) fn is_way_in_or_out(path: &str) -> bool {
    path == "/ui/login" || path == "/ui/logout"
}

/// Whether it is a stream of events.
pub(super) fn is_stream(path: &str) -> bool {
    matches!(path, "/ui/events" | "/ui/queries/stream")
}

/// The id of a seat that a request brings, at the admin on this port.
pub(super) fn seat_of(headers: &HeaderMap, port: u16) -> Option<String> {
    form::cookie(headers, &entry::cookie_name(port))
}

async fn no_such_page(uri: Uri) -> Trouble {
    Trouble::no_such_page(uri.path())
}

/// The headers that hold a browser to what the module promises. What is cached says so itself.
pub(super) async fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
        ),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: a browser would then say `Origin: null` of our own forms.
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The parts of a view that are asked for; all of it where nothing is said.
#[derive(Clone, Debug, Default)]
struct Wanted(Option<Vec<String>>);

/// The header in which `page.js` names them.
const PARTS: &str = "x-understudy-parts";

impl Wanted {
    /// Whether the whole document is.
    const fn whole(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this part is.
    fn has(&self, part: &str) -> bool {
        let named = |names: &Vec<String>| names.iter().any(|name| name == part);
        self.0.as_ref().is_none_or(named)
    }
}

impl<S: Sync> FromRequestParts<S> for Wanted {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut request::Parts,
        _state: &S,
    ) -> Result<Self, Infallible> {
        let named = parts.headers.get(PARTS);
        let named = named.and_then(|names| names.to_str().ok());
        let names = |names: &str| names.split_whitespace().map(str::to_owned).collect();
        Ok(Self(named.map(names)))
    }
}

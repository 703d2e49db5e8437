//! The operators' doors, on a runtime of its own: HTTP and JSON, the page, and the console's SQL.
//!
//! It reads what the other parts count and keep, and changes nothing but the mirror's switches,
//! the triage of findings, rules, and taints; a cutover it asks of the helm, a verification of the inspector, the
//! config to be read again of the house. Without a token it answers loopback callers only; with one
//! every path but `/healthz` and `/readyz` needs it, and what changes something needs an operator's. Nothing here can hold a relay thread.

mod access;
mod answer;
mod audit;
mod config_again;
pub(crate) mod console;
mod coverage;
mod cutover;
mod events;
mod few;
mod findings;
mod fleet;
mod health;
mod holders;
mod latency;
mod mirror;
mod openapi;
mod page;
mod places;
mod proof;
mod querylog;
pub(crate) mod readiness;
mod report;
mod repro;
mod rules;
mod server;
mod sheet;
mod status;
mod streams;
mod taints;
mod tls;
mod verify;
mod watched;
mod who;

#[cfg(test)]
mod tests;

pub use server::serve;
pub use tls::Tls;

use crate::config::{self, Differences};
use crate::cutover::Helm;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::roles::RolesWatch;
use crate::shadow::{Control, Switch};
use crate::verify::Inspector;
use access::Access;
use axum::routing::{delete, get, patch, post};
use axum::{Extension, Router};
use events::Events;
use holders::Holders;
use page::Page;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What the admin reads of the running parts, and the little that it may change.
pub trait House: Send + Sync + 'static {
    /// Sessions by what they are.
    fn sessions(&self) -> Sessions;
    /// The mirror's state.
    fn mirror(&self) -> Mirror;
    /// Has the mirror's switches changed; nobody else changes them meanwhile. `change` is called once, and must wait
    /// for nothing and ask neither the house nor for the roles.
    fn change_control(&self, change: &mut dyn FnMut(&mut Control));
    /// What was last seen of a server, by its name.
    fn seen(&self, server: &str) -> Seen;
    /// How far the start has come.
    fn ready(&self) -> Ready;
    /// Reads the config again and takes what differs, all of it or nothing; with `dry_run` only says what that would
    /// be. Reads files and waits for the ledger: not for the runtime's thread.
    ///
    /// # Errors
    /// It was not read, or the file is wrong: nothing was changed.
    fn reload(&self, _dry_run: bool, _who: &str) -> Result<Reloaded, NotReloaded> {
        Err(NotReloaded::NotNow("there is no file here".to_owned()))
    }
    /// The process that has taken over, where this one only lets its sessions end.
    fn heir(&self) -> Option<u32> {
        None
    }
    /// The tee's counters.
    fn tee(&self) -> Tee;
    /// Every other counter: metric name and value.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

/// What came of it that the config was read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Which keys say something else.
    pub found: Differences,
    /// The mirror's switches of which the file does not say how they stand.
    pub switches: Vec<Switch>,
}

/// Why the config was not read again.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// What is wrong with the file.
    #[error(transparent)]
    Wrong(config::ConfigError),
    /// Not this process, or not at this moment.
    #[error("{0}")]
    NotNow(String),
}

/// Sessions by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Open now.
    pub open: u64,
    /// Open now, with a replay on the shadow; none while nothing is mirrored.
    pub mirrored: u64,
    /// Open now, piped untouched and not mirrored.
    pub tunnelled: u64,
}

/// The mirror's state.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// `running`, `paused` or `suspended`.
    pub state: &'static str,
    /// Why it is not running; or what is wrong though it is.
    pub reason: Option<String>,
    /// The switches.
    pub control: Control,
    /// Commands that wait for the shadow, or run there.
    pub waiting: u64,
    /// Of these, what lies unread, as most sessions are far behind.
    pub unread: u64,
    /// How long the first of them has been waiting.
    pub oldest: std::time::Duration,
}

impl Mirror {
    /// Whether anything is run on the shadow: it runs, and reads or writes are mirrored.
    #[must_use]
    pub fn mirrors(&self) -> bool {
        self.state == "running" && self.control.compares()
    }

    /// Its state in a word for people: `off` where it runs, and neither reads nor writes are mirrored.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.state {
            "running" if !self.mirrors() => "off",
            state => state,
        }
    }
}

/// What was last seen of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The version in its greeting.
    pub version: Option<String>,
    /// Why it was not reached at the last try.
    pub error: Option<String>,
    /// Nobody looks any more: what stands here may be long past.
    pub unwatched: bool,
}

/// How far the start has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The listener for clients is bound.
    pub listener: bool,
    /// The primary has answered.
    pub primary: bool,
    /// The ledger is open.
    pub ledger: bool,
    /// SIGTERM came: clients are sent elsewhere.
    pub draining: bool,
}

impl Ready {
    /// Whether clients may be sent here.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        self.listener && self.primary && self.ledger && !self.draining
    }
}

/// The tee's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tee {
    /// Bytes that wait for the shadow.
    pub queue_bytes: u64,
    /// The most that may.
    pub queue_bytes_max: u64,
    /// Bytes of dropped commands' stubs.
    pub stub_bytes: u64,
    /// Exchanges of which only a stub stayed.
    pub stubbed: u64,
    /// Exchanges of which nothing stayed.
    pub lost: u64,
    /// Samples let go to fit more.
    pub samples_shed: u64,
}

/// Everything a request may need.
#[derive(Clone)]
pub struct Parts {
    /// The config, for limits and rules.
    pub config: Arc<config::Config>,
    /// Who is primary.
    pub roles: RolesWatch,
    /// What was found.
    pub ledger: Ledger,
    /// The running parts.
    pub house: Arc<dyn House>,
    /// Who steers the cutovers.
    pub helm: Arc<dyn Helm>,
    /// Who verifies data at rest.
    pub inspector: Arc<dyn Inspector>,
    /// The metrics' recorder.
    pub metrics: Arc<Metrics>,
    /// When the process started.
    pub started: tokio::time::Instant,
    /// What the console counts.
    pub console: Arc<console::Counters>,
    /// What the other door counts.
    pub counters: Arc<Counters>,
    /// The HTTP door's TLS; none where it is plain.
    pub tls: Option<Arc<Tls>>,
}

/// What the HTTP door counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that are missing in the ledger's audit.
    pub audit_lost: AtomicU64,
    /// Times that the tokens' file was not taken over, since it was last.
    pub tokens_refused: AtomicU64,
    /// Connections that were closed because all places were taken.
    pub turned_away: Arc<AtomicU64>,
}

/// Every route, and who may ask.
fn router(
    parts: Parts,
    page: Arc<Page>,
    holders: Arc<Holders>,
    clerk: Arc<audit::Clerk>,
) -> Router {
    let access = Arc::new(Access::new(holders, parts.config.admin.address));
    Router::new()
        .merge(page::router(Arc::clone(&page)))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/divergences", get(findings::divergences))
        .route("/api/v1/divergences/{id}", get(findings::divergence))
        .route("/api/v1/divergences/{id}/repro", get(proof::of_divergence))
        .route("/api/v1/findings", get(findings::findings))
        .route(
            "/api/v1/findings/{id}",
            get(findings::finding).patch(findings::triage),
        )
        .route("/api/v1/findings/{id}/repro", get(proof::of_finding))
        .route("/api/v1/rules", get(rules::rules).post(rules::add))
        .route("/api/v1/rules/{id}", delete(rules::delete))
        .route("/api/v1/taints", get(taints::taints))
        .route("/api/v1/taints/clear", post(taints::clear))
        .route("/api/v1/latency", get(status::latency))
        .route("/api/v1/latency/course", get(latency::course))
        .route("/api/v1/coverage", get(coverage::coverage))
        .route("/api/v1/readiness", get(readiness::readiness))
        .route(
            "/api/v1/cutover",
            get(cutover::standing).post(cutover::order),
        )
        .route("/api/v1/cutover/abort", post(cutover::abort))
        .route(
            "/api/v1/cutover/replication_stopped",
            post(cutover::replication_stopped),
        )
        .route("/api/v1/verify", get(verify::standing).post(verify::start))
        .route("/api/v1/verify/pause", post(verify::pause))
        .route("/api/v1/verify/resume", post(verify::resume))
        .route("/api/v1/verify/abort", post(verify::abort))
        .route("/api/v1/fleet", get(fleet::fleet))
        .route("/api/v1/fleet/forget", post(fleet::forget))
        .route("/api/v1/querylog", get(querylog::querylog))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/audit", get(audit::audit))
        .route("/api/v1/report", get(report::report))
        .route("/api/v1/openapi.json", get(openapi::openapi))
        .route("/api/v1/mirror", patch(mirror::switch))
        .route("/api/v1/config/reload", post(config_again::reload))
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(Extension(Arc::new(Events::new())))
        // The last one is the outermost.
        .layer(axum::middleware::from_fn(audit::note))
        .layer(axum::middleware::from_fn_with_state(
            (access, page),
            access::check,
        ))
        .layer(axum::middleware::from_fn_with_state(clerk, audit::watch))
        .with_state(parts)
}

//! The console: read-only SQL over the ledger, for any MySQL client.
//!
//! It speaks MySQL's protocol itself, by way of `wire`, and asks SQLite (`ask`), behind a guard that
//! lets nothing through but reads of the console's tables (`guard`). It changes nothing, keeps
//! nothing between two queries, and answers what clients ask of a server at connect (`chatter`).
//! A connection that breaks ends alone. Without a token it is bound to a loopback address; with
//! one, the token is the password: anybody's, for it only reads.

mod answer;
mod ask;
mod chatter;
mod functions;
mod guard;
mod login;
mod session;

#[cfg(test)]
mod tests;

use super::Parts;
use super::holders::Holders;
use super::places::Places;
use crate::config::Live;
use crate::ledger::Ledger;
use crate::wire::reply::write_err;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at once; one more gets MySQL's error 1040.
const CONNECTIONS_MAX: usize = 16;

/// Queries under way at once; more wait their turn. Each holds a thread of the admin's.
const QUERIES_MAX: usize = 2;

/// Time for a connection that is refused to take the reason.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// What the console counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were accepted.
    pub connections: AtomicU64,
    /// Connections that were refused, or closed before anybody had logged in, for there were too many.
    pub refused: Arc<AtomicU64>,
    /// Logins with a wrong password.
    pub denied: AtomicU64,
    /// Queries that SQLite was asked.
    pub queries: AtomicU64,
    /// Queries that were cut off by one of the bounds.
    pub cut: AtomicU64,
    /// Connections that ended by a fault in the client's bytes, or in ours.
    pub broken: AtomicU64,
}

impl Counters {
    /// Metric names and values.
    pub(crate) fn values(&self) -> [(&'static str, u64); 6] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            (
                "understudy_console_connections_total",
                value(&self.connections),
            ),
            ("understudy_console_refused_total", value(&self.refused)),
            ("understudy_console_denied_total", value(&self.denied)),
            ("understudy_console_queries_total", value(&self.queries)),
            ("understudy_console_cut_total", value(&self.cut)),
            ("understudy_console_broken_total", value(&self.broken)),
        ]
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What every connection shares.
#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    holders: Arc<Holders>,
    rows: Live<usize>,
    time: Live<Duration>,
    turns: Arc<Semaphore>,
    running: session::Running,
    counters: Arc<Counters>,
}

impl Shared {
    fn new(parts: &Parts, holders: Arc<Holders>) -> Self {
        let admin = &parts.config.admin;
        Self {
            ledger: parts.ledger.clone(),
            holders,
            rows: admin.console_rows.clone(),
            time: admin.console_timeout.clone(),
            turns: Arc::new(Semaphore::new(QUERIES_MAX)),
            running: session::Running::default(),
            counters: Arc::clone(&parts.console),
        }
    }

    /// What holds for a query that begins now.
    fn bounds(&self) -> ask::Bounds {
        ask::Bounds {
            rows: self.rows.now(),
            time: self.time.now(),
        }
    }
}

/// Answers until told to end.
pub(super) async fn serve(
    listener: TcpListener,
    parts: Parts,
    holders: Arc<Holders>,
    shutdown: CancellationToken,
) {
    let shared = Arc::new(Shared::new(&parts, holders));
    let refused = Arc::clone(&shared.counters.refused);
    let places = Places::new("console", CONNECTIONS_MAX, refused);
    let mut connections = JoinSet::new();
    let mut number: u32 = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                note_end(&shared.counters, ended);
                continue;
            }
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => match places.take(peer.ip()) {
                Some(place) => {
                    count(&shared.counters.connections);
                    number = number.wrapping_add(1);
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        tokio::select! {
                            ended = session::serve(stream, &shared, number, place.let_in()) => ended,
                            () = place.is_lost() => session::Ended::Left,
                        }
                    });
                }
                None => {
                    // It is done within a second, so that few of these ever wait.
                    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refuse(stream)).await;
                }
            },
            Err(error) => {
                tracing::warn!(%error, "the console cannot accept a connection for now");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // Nothing there must be saved: the sockets close as their tasks are dropped.
    connections.shutdown().await;
}

/// Counts a connection that broke, by its bytes or by a fault of ours; it has ended alone.
fn note_end(counters: &Counters, ended: Result<session::Ended, tokio::task::JoinError>) {
    match ended {
        Ok(session::Ended::Left) => {}
        Ok(session::Ended::Broken(why)) => {
            count(&counters.broken);
            tracing::debug!(why, "a connection of the console broke");
        }
        Err(error) => {
            count(&counters.broken);
            tracing::error!(%error, "a fault of understudy's own ended a connection of the console");
        }
    }
}

/// MySQL's error 1040, before any greeting.
async fn refuse(mut stream: TcpStream) {
    let mut out = Vec::new();
    let text = format!("Too many connections: the console has {CONNECTIONS_MAX} places");
    write_err(&mut out, 0, 1040, *b"08004", &text);
    if stream.write_all(&out).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

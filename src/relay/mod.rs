//! Client ⇄ primary. HOT PATH: nothing else runs on its threads, and its sessions wait for their
//! two sockets and nothing else.
//!
//! Bytes pass through as they come. The relay reads packet headers and the few bytes that say
//! where a command and its answer end; it never decodes a row, never parses SQL, and never takes
//! a lock that the shadow side can hold. What it cannot place it pipes on untouched.

mod homes;
mod listener;
mod session;

mod anew;
mod auth;
mod login;
mod probe;
mod proxied;

mod book;
mod buffer;
mod half;
mod pump;

mod carry;
mod census;
mod ear;
mod gate;
mod held;
mod kills;
mod own;
mod statements;

mod counters;
mod drain;
mod init;
mod refuse;

#[cfg(test)]
mod tests;

pub use carry::{Carry, Carrying, Held, Leg, NoCarry, Then, part_with};
pub use census::{Census, Connection, Unheld};
pub use counters::{Count, Counters, Sessions};
pub use listener::bind;
pub use statements::StandIn;

use crate::config::{Listen, Live, Server};
use crate::connect::{self, CertificateError, Dial, Stream, TlsContext, TlsError};
use crate::roles::RolesWatch;
use crate::tee::{Facts, Tee};
use crate::wire::capability::Capabilities;
use crate::wire::proxied::Addresses;
use arc_swap::ArcSwap;
use census::Roster;
use counters::Gauge;
use drain::Drain;
use ear::Bell;
use gate::Gate;
use homes::Homes;
use proxied::Balancers;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What a relay is made of.
pub struct RelayParts {
    /// The client leg.
    pub listen: Listen,
    /// Bytes of each command that are copied for the shadow. (`mirror.command_bytes_max`)
    pub copy_bytes_max: usize,
    /// Bytes of each answer that are copied for the comparison. (`compare.sample_bytes`)
    pub sample_bytes: usize,
    /// Who is primary.
    pub roles: RolesWatch,
    /// The way to servers.
    pub dial: Arc<dyn Dial>,
    /// Where exchanges are handed.
    pub tee: Tee,
    /// What clients may be offered: what both servers can.
    pub offer: Offer,
    /// Who says how held sessions go on.
    pub carry: Arc<dyn Carry>,
    /// The threads on which sessions live; without any, they live where the relay is run.
    pub threads: Vec<Handle>,
}

impl std::fmt::Debug for RelayParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayParts")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// The one dialect: capabilities that clients are offered, as far as the primary has them. May be
/// narrowed at run time, once the shadow's are known; sessions keep what they logged in with.
#[derive(Clone, Debug)]
pub struct Offer(Arc<AtomicU32>);

impl Offer {
    /// Offers what `capabilities` has.
    #[must_use]
    pub fn new(capabilities: Capabilities) -> Self {
        Self(Arc::new(AtomicU32::new(capabilities.0)))
    }

    /// Offers all that the primary has.
    #[must_use]
    pub fn all() -> Self {
        Self::new(Capabilities(u32::MAX))
    }

    /// Changes what later logins are offered.
    pub fn set(&self, capabilities: Capabilities) {
        self.0.store(capabilities.0, Ordering::Relaxed);
    }

    /// What logins are offered now.
    #[must_use]
    pub fn now(&self) -> Capabilities {
        Capabilities(self.0.load(Ordering::Relaxed))
    }
}

/// Why a relay cannot be made: the config's fault.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// TLS with clients.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS with a server.
    #[error("{server}: {source}")]
    Tls {
        /// The server's name.
        server: String,
        /// What is wrong.
        source: TlsError,
    },
}

/// Limits of sessions.
#[derive(Clone, Debug)]
struct Limits {
    connections_max: Live<usize>,
    login_timeout: Live<Duration>,
    balancers: Balancers,
    write_timeout: Live<Duration>,
    drain_timeout: Live<Duration>,
    book: book::Limits,
}

/// What all sessions share.
struct Shared {
    limits: Limits,
    /// TLS with clients; none where they are offered none.
    acceptor: Option<ArcSwap<TlsAcceptor>>,
    /// TLS towards each server, by its name.
    contexts: BTreeMap<String, TlsContext>,
    roles: RolesWatch,
    dial: Arc<dyn Dial>,
    tee: Tee,
    offer: Offer,
    carry: Arc<dyn Carry>,
    homes: Homes,
    bell: Bell,
    drain: Drain,
    gate: Gate,
    roster: Arc<Roster>,
    probes: probe::Probes,
    counters: Arc<Counters>,
    open: Gauge,
    /// Whether connections are accepted.
    accepts: watch::Sender<bool>,
    last_session: AtomicU64,
}

impl Shared {
    fn offer(&self) -> Capabilities {
        self.offer.now()
    }

    fn next_session(&self) -> u64 {
        self.last_session
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
    }

    /// One of the two servers, by its name.
    fn server(&self, name: &str) -> Arc<Server> {
        let roles = self.roles.borrow();
        if roles.shadow.name == name {
            Arc::clone(&roles.shadow)
        } else {
            Arc::clone(&roles.primary)
        }
    }

    fn tls(&self, server: &Server) -> Result<TlsContext, TlsError> {
        match self.contexts.get(&server.name) {
            Some(context) => Ok(context.clone()),
            None => TlsContext::new(server),
        }
    }
}

/// Serves clients from the primary. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("sessions", &self.sessions())
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// Reads certificates and makes the relay; binds nothing yet.
    pub fn new(parts: RelayParts) -> Result<Self, RelayError> {
        let acceptor = match &parts.listen.tls {
            Some((chain, key)) => {
                let read = connect::acceptor("listen", chain, key)?;
                Some(ArcSwap::from_pointee(read))
            }
            None => None,
        };
        let contexts = contexts(&parts.roles)?;
        let limits = Limits {
            connections_max: parts.listen.max_connections.clone(),
            login_timeout: parts.listen.login_timeout.clone(),
            balancers: Balancers {
                networks: parts.listen.proxy_protocol_networks.clone(),
                within: parts.listen.login_timeout.clone(),
            },
            write_timeout: parts.listen.write_timeout.clone(),
            drain_timeout: parts.listen.drain_timeout.clone(),
            book: book::Limits {
                command_bytes_max: parts.listen.command_bytes_max,
                copy_bytes_max: parts.copy_bytes_max,
                sample_bytes: parts.sample_bytes,
            },
        };
        let bell = Bell::default();
        let shared = Shared {
            limits,
            acceptor,
            contexts,
            gate: Gate::new(parts.roles.clone(), bell.clone()),
            roles: parts.roles,
            dial: parts.dial,
            tee: parts.tee,
            offer: parts.offer,
            carry: parts.carry,
            homes: Homes::new(&parts.threads),
            drain: Drain::new(bell.clone()),
            bell,
            roster: Arc::default(),
            probes: probe::Probes::default(),
            counters: Arc::default(),
            open: Gauge::default(),
            accepts: watch::Sender::new(true),
            last_session: AtomicU64::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Has clients that ask for TLS from now on be served with this certificate. Where they are offered none at all
    /// it changes nothing.
    pub(crate) fn renew(&self, certificate: TlsAcceptor) {
        if let Some(acceptor) = &self.shared.acceptor {
            acceptor.store(Arc::new(certificate));
        }
    }

    /// Serves one client to its end, whatever it came by.
    pub async fn serve(&self, client: Stream, peer: SocketAddr) {
        let counters = &self.shared.counters;
        counters.accepted.add(1);
        let Some(open) = self
            .shared
            .open
            .enter(self.shared.limits.connections_max.now())
        else {
            counters.too_many.add(1);
            refuse::Refusal::too_many_connections().say(0, client).await;
            return;
        };
        let here = (open, None);
        let ends = Addresses {
            client: peer,
            met: peer,
        };
        session::serve(Arc::clone(&self.shared), || Ok(client), ends, here).await;
    }

    /// Asks every session to stand at its next boundary, and new logins to wait. Each is then held
    /// as its [`Carry`] says.
    pub fn hold(&self) {
        self.shared.gate.hold();
    }

    /// Lets new logins in, and sessions pass. Roles must have been written before: a session whose
    /// primary is not the roles' any more is held at its next boundary all the same.
    pub fn resume(&self) {
        self.shared.gate.resume();
    }

    /// Asks every session whether a transaction is open in it, for the census; it takes a moment
    /// until all have answered. They go on meanwhile. Nothing while the gate holds.
    pub fn call(&self) {
        self.shared.gate.call();
    }

    /// Ends the sessions that this hold has not held yet, tunnels included, with MySQL's error 1053 where it can
    /// still be said. Nothing while the gate is open. What such a session's last command does on
    /// the primary is not known: its connection is closed, the statement may still run.
    pub fn end_unheld(&self, why: &str) {
        self.shared.gate.end_unheld(why);
    }

    /// Who is here, and who is not held.
    #[must_use]
    pub fn census(&self) -> Census {
        self.shared.roster.census()
    }

    /// Every open session, as it logged in last.
    #[must_use]
    pub fn open_sessions(&self) -> Vec<Arc<Facts>> {
        self.shared.roster.facts()
    }

    /// The connection of an open session, held or not, to the server that answers it now.
    #[must_use]
    pub fn connection(&self, session: u64) -> Option<Connection> {
        self.shared.roster.connection(session)
    }

    /// The same of every open session, by its number.
    #[must_use]
    pub fn connections(&self) -> BTreeMap<u64, Connection> {
        self.shared.roster.connections()
    }

    /// How many sessions are open and not held: one load.
    #[must_use]
    pub fn unheld(&self) -> u64 {
        self.shared.roster.unheld()
    }

    /// Resolves once every open session is held; from then on, until one is let go or the gate is
    /// opened, no client's command reaches the primary. Logins under way do not count: their
    /// sessions are held before their first command.
    ///
    /// Cancel-safe.
    pub async fn all_held(&self) {
        self.shared.roster.all_held().await;
    }

    /// Sessions, for the status.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        Sessions {
            open: self.shared.open.value(),
            tunnelled: self.shared.counters.tunnels_open.value(),
            total: self.shared.counters.logins.value(),
        }
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }
}

fn contexts(roles: &RolesWatch) -> Result<BTreeMap<String, TlsContext>, RelayError> {
    let roles = roles.borrow();
    [&roles.primary, &roles.shadow]
        .into_iter()
        .map(|server| {
            let context = TlsContext::new(server).map_err(|source| RelayError::Tls {
                server: server.name.clone(),
                source,
            })?;
            Ok((server.name.clone(), context))
        })
        .collect()
}

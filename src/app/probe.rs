//! Looks at both servers, at the start and from time to time: are they there, which version, what
//! can they? From what they can follows the one dialect that clients are offered.
//!
//! A look logs in with the proxy's own account, for a visit that ends at the greeting counts
//! against this host (`max_connect_errors`). Without an account it looks until it has seen the
//! greeting once, and not again, which it says: what it saw is then no news of the server any more.

use super::house::Running;
use crate::admin::Seen;
use crate::config::{Account, Server};
use crate::connect::{
    self, ConnectError, Dial, Login, PacketReader, Stream, TlsContext, dial_for, greet, log_in,
    secure,
};
use crate::relay::Offer;
use crate::roles::RolesWatch;
use crate::task;
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::greeting::Greeting;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Between two looks at a server that is there.
const CALM: Duration = Duration::from_secs(30);

/// Between two looks at a server that is not; doubles up to the second.
const AGAIN_MIN: Duration = Duration::from_millis(500);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// utf8mb4_general_ci, which every server since 5.5 knows.
const COLLATION: u16 = 45;

/// What each server was last seen to be able to, and the offer that follows.
struct Dialect {
    offer: Offer,
    primary: Mutex<Option<Capabilities>>,
    shadow: Mutex<Option<Capabilities>>,
}

impl Dialect {
    /// A server was seen. Until the other one was too, all is offered that the primary has.
    fn saw(&self, primary: bool, capabilities: Capabilities) {
        let seen = if primary { &self.primary } else { &self.shadow };
        *seen.lock() = Some(capabilities);
        let both = self
            .primary
            .lock()
            .and_then(|ours| Some(ours.and((*self.shadow.lock())?)));
        if let Some(both) = both.filter(|both| *both != self.offer.now()) {
            self.offer.set(both);
            let lacking = Capabilities::DIALECT.without(both);
            tracing::info!(
                "clients are not offered what only one server can: {}",
                connect::names(lacking)
            );
        }
    }
}

/// Starts looking, and returns once both have been looked at, or `first_look` is over.
pub(super) async fn start(
    roles: &RolesWatch,
    dial: &Arc<dyn Dial>,
    house: &Arc<Running>,
    offer: Offer,
    stop: &CancellationToken,
    first_look: Duration,
) -> Vec<JoinHandle<()>> {
    let dialect = Arc::new(Dialect {
        offer,
        primary: Mutex::new(None),
        shadow: Mutex::new(None),
    });
    let (primary, shadow) = {
        let roles = roles.borrow();
        (Arc::clone(&roles.primary), Arc::clone(&roles.shadow))
    };
    let mut tasks = Vec::new();
    let mut firsts = Vec::new();
    for (server, is_primary) in [(primary, true), (shadow, false)] {
        let (looked, first) = oneshot::channel();
        let look = Look {
            tls: TlsContext::new(&server).unwrap_or_else(|_| TlsContext::off()),
            server,
            is_primary,
            dial: Arc::clone(dial),
            house: Arc::clone(house),
            dialect: Arc::clone(&dialect),
        };
        tasks.push(task::spawn("probe", look.run(looked, stop.clone())));
        firsts.push(first);
    }
    let _ = tokio::time::timeout(first_look, async {
        for first in firsts {
            let _ = first.await;
        }
    })
    .await;
    tasks
}

/// Looks once, within this time, whether clients could be served from this server: it is there, and TLS towards it is
/// as it should be. That the proxy's own account is refused is no hindrance, and is said.
///
/// # Errors
/// They could not.
pub(super) async fn try_out(
    dial: &dyn Dial,
    server: &Server,
    at_most: Duration,
) -> Result<(), ConnectError> {
    let tls = TlsContext::new(server)?;
    let tried = async {
        let (stream, greeting) = call(dial, server).await?;
        let Some(login) = server.account.as_ref().map(own_login) else {
            return secure(stream, &greeting, server, &tls).await;
        };
        match own_visit(stream, &greeting, server, &tls, &login).await {
            Err(error @ (ConnectError::Refused(_) | ConnectError::Plugin(_))) => {
                tracing::warn!(
                    "{}: the proxy's own account cannot log in: {error}",
                    server.name
                );
                Ok(())
            }
            tried => tried,
        }
    };
    let tried = tokio::time::timeout(at_most, tried).await;
    tried.unwrap_or(Err(ConnectError::Timeout))
}

/// Ends the looks.
pub(super) async fn end(looks: Vec<JoinHandle<()>>, stop: &CancellationToken) {
    stop.cancel();
    for look in looks {
        let _ = look.await;
    }
}

/// Looks at one server.
struct Look {
    server: Arc<Server>,
    tls: TlsContext,
    is_primary: bool,
    dial: Arc<dyn Dial>,
    house: Arc<Running>,
    dialect: Arc<Dialect>,
}

impl Look {
    async fn run(self, looked: oneshot::Sender<()>, stop: CancellationToken) {
        let mut looked = Some(looked);
        let mut again = AGAIN_MIN;
        loop {
            let there = tokio::select! {
                there = self.look() => there,
                () = stop.cancelled() => return,
            };
            if let Some(looked) = looked.take() {
                let _ = looked.send(());
            }
            let pause = if there { CALM } else { again };
            again = if there {
                AGAIN_MIN
            } else {
                again.saturating_mul(2).min(AGAIN_MAX)
            };
            if there && self.server.account.is_none() {
                return self.look_away();
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One look. Whether the server is there.
    async fn look(&self) -> bool {
        let visit = tokio::time::timeout(self.server.connect_timeout, self.visit());
        let (greeting, error) = match visit.await {
            Ok(Ok((greeting, login))) => (Some(greeting), login.err()),
            Ok(Err(error)) => (None, Some(error)),
            Err(_) => (None, Some(ConnectError::Timeout)),
        };
        self.tell(greeting.as_ref(), error.as_ref());
        let Some(greeting) = greeting else {
            return false;
        };
        self.dialect.saw(self.is_primary, greeting.capabilities);
        if self.is_primary {
            self.house.set_primary_answered();
        }
        true
    }

    /// The greeting, and how the login after it went.
    async fn visit(&self) -> Result<(Greeting, Result<(), ConnectError>), ConnectError> {
        let (stream, greeting) = call(&*self.dial, &self.server).await?;
        let Some(login) = self.server.account.as_ref().map(own_login) else {
            return Ok((greeting, Ok(())));
        };
        let login = own_visit(stream, &greeting, &self.server, &self.tls, &login).await;
        Ok((greeting, login))
    }

    /// Leaves word that nobody looks any more.
    fn look_away(&self) {
        let name = &self.server.name;
        tracing::info!(
            "{name}: without an account of the proxy's own it is not looked at again; whether it is there shows in its sessions"
        );
        let seen = Seen {
            unwatched: true,
            ..self.house.seen_of(name)
        };
        self.house.see(name, seen);
    }

    /// Logs what has changed since the last look, and leaves it for the status.
    fn tell(&self, greeting: Option<&Greeting>, error: Option<&ConnectError>) {
        let name = &self.server.name;
        let before = self.house.seen_of(name);
        let now = Seen {
            version: greeting
                .map(|greeting| greeting.version.clone())
                .or_else(|| before.version.clone()),
            error: error.map(ToString::to_string),
            unwatched: false,
        };
        match (&now.error, greeting) {
            _ if now.error == before.error && now.version == before.version => {}
            (Some(error), Some(_)) => {
                tracing::warn!("{name}: the proxy's own account cannot log in: {error}")
            }
            (Some(error), None) if self.is_primary => {
                tracing::error!("{name}: {error}; until it is back clients are told so")
            }
            (Some(error), None) => {
                tracing::warn!("{name}: {error}; until it is back nothing is mirrored")
            }
            (None, _) => tracing::info!(
                "{name} answers, version {}",
                now.version.as_deref().unwrap_or("unknown")
            ),
        }
        self.house.see(name, now);
    }
}

/// Up to the greeting.
async fn call(dial: &dyn Dial, server: &Server) -> Result<(Stream, Greeting), ConnectError> {
    let dialled = dial_for(dial, server, None).await;
    let mut stream = dialled.map_err(ConnectError::Unreachable)?;
    let (_, greeting) = greet(&mut stream, &mut PacketReader::default()).await?;
    Ok((stream, greeting))
}

/// Logs in, and leaves.
async fn own_visit(
    stream: Stream,
    greeting: &Greeting,
    server: &Server,
    tls: &TlsContext,
    login: &Login,
) -> Result<(), ConnectError> {
    let mut connection = log_in(stream, greeting, server, tls, login).await?;
    let quit = connect::Packet::new(0, &[Command::QUIT.0]);
    let _ = connect::write_one(&mut connection.stream, &quit).await;
    Ok(())
}

fn own_login(account: &Account) -> Login {
    Login {
        user: account.user.clone(),
        password: account.password.clone(),
        database: None,
        capabilities: Capabilities::PROTOCOL_41,
        collation: COLLATION,
        client: None,
    }
}

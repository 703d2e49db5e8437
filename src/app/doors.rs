//! The listeners: bound by this process, or taken from the one before it.

use super::AppError;
use super::runtime::Threads;
use crate::admin;
use crate::config::Config;
use crate::relay;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// The listeners, bound.
pub(super) struct Doors {
    pub(super) clients: TcpListener,
    pub(super) operating: Operating,
    pub(super) at: Places,
}

/// The operators' listeners.
pub(super) struct Operating {
    pub(super) admin: std::net::TcpListener,
    pub(super) console: Option<std::net::TcpListener>,
    /// The admin's certificate, where it speaks HTTPS.
    pub(super) tls: Option<Arc<admin::Tls>>,
}

/// Where they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) clients: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) console: Option<SocketAddr>,
}

/// The admin's listener, bound.
pub(super) struct Operators {
    admin: std::net::TcpListener,
    at: SocketAddr,
    tls: Option<Arc<admin::Tls>>,
}

impl Operators {
    pub(super) fn bind(config: &Config) -> Result<Self, AppError> {
        let at = config.admin.address;
        let tls = certificate(config)?;
        let failed = || taken("admin.address", at);
        let admin = std::net::TcpListener::bind(at).map_err(failed())?;
        admin.set_nonblocking(true).map_err(failed())?;
        let at = admin.local_addr().map_err(failed())?;
        Ok(Self { admin, at, tls })
    }
}

/// The admin's certificate, where the config names one.
fn certificate(config: &Config) -> Result<Option<Arc<admin::Tls>>, AppError> {
    admin::Tls::open(&config.admin).map_err(|error| AppError::Config(error.to_string()))
}

/// What a port that somebody has is refused with: most often that is the process which serves already.
fn taken(key: &str, at: SocketAddr) -> impl FnOnce(std::io::Error) -> AppError {
    let what = format!("{key} {at} cannot be listened on");
    move |error| {
        let hint = match error.kind() {
            ErrorKind::AddrInUse => {
                "; is another understudy serving there? `understudy serve --take-over` takes over from it"
            }
            _ => "",
        };
        AppError::Failed(format!("{what}: {error}{hint}"))
    }
}

impl Doors {
    pub(super) fn bind(
        threads: &Threads,
        config: &Config,
        operators: Operators,
    ) -> Result<Self, AppError> {
        let at = config.listen.address;
        let failed = || taken("listen.address", at);
        let _on_the_first = threads.relay.handles().first().map(Handle::enter);
        let clients = relay::bind(at).map_err(failed())?;
        let client_at = clients.local_addr().map_err(failed())?;
        let console = config.admin.console.and_then(console);
        Ok(Self::of((clients, client_at), operators, console))
    }

    /// Those that another process has bound. Where the config has the operators' elsewhere, they are bound there.
    pub(super) fn taken(
        threads: &Threads,
        config: &Config,
        given: Given,
    ) -> Result<Self, AppError> {
        let failed = || AppError::failed("a listener that was handed over cannot be used");
        let (clients, client_at) = {
            let _on_the_first = threads.relay.handles().first().map(Handle::enter);
            let clients = std::net::TcpListener::from(given.clients);
            clients.set_nonblocking(true).map_err(failed())?;
            let at = clients.local_addr().map_err(failed())?;
            (TcpListener::from_std(clients).map_err(failed())?, at)
        };
        let operators = match same(given.admin, config.admin.address) {
            Some((admin, at)) => Operators {
                admin,
                at,
                tls: certificate(config)?,
            },
            None => Operators::bind(config)?,
        };
        let console = config.admin.console.and_then(|at| {
            let given = given.console.and_then(|console| same(console, at));
            given.map(|(door, _)| door).or_else(|| console(at))
        });
        Ok(Self::of((clients, client_at), operators, console))
    }

    fn of(
        (clients, at): (TcpListener, SocketAddr),
        operators: Operators,
        console: Option<std::net::TcpListener>,
    ) -> Self {
        Self {
            clients,
            at: Places {
                clients: at,
                admin: operators.at,
                console: console.as_ref().and_then(|door| door.local_addr().ok()),
            },
            operating: Operating {
                admin: operators.admin,
                console,
                tls: operators.tls,
            },
        }
    }

    /// The same doors, for another process.
    pub(super) fn copies(&self) -> Result<Given, AppError> {
        self.copied().map_err(AppError::failed(
            "the listeners cannot be kept for another process",
        ))
    }

    fn copied(&self) -> std::io::Result<Given> {
        let Operating { admin, console, .. } = &self.operating;
        let console = console.as_ref();
        Ok(Given {
            clients: self.clients.as_fd().try_clone_to_owned()?,
            admin: admin.as_fd().try_clone_to_owned()?,
            console: console
                .map(|door| door.as_fd().try_clone_to_owned())
                .transpose()?,
        })
    }
}

/// The doors as they go from one process to another.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) clients: OwnedFd,
    pub(super) admin: OwnedFd,
    pub(super) console: Option<OwnedFd>,
}

/// This door, where it is the one that the config names; with the port 0 any of its address is.
fn same(door: OwnedFd, at: SocketAddr) -> Option<(std::net::TcpListener, SocketAddr)> {
    let door = std::net::TcpListener::from(door);
    door.set_nonblocking(true).ok()?;
    let is = door.local_addr().ok()?;
    let is_same = is == at || (at.port() == 0 && is.ip() == at.ip());
    is_same.then_some((door, is))
}

/// The console's door. Where it cannot be opened production is served without, which is said.
fn console(at: SocketAddr) -> Option<std::net::TcpListener> {
    let opened = std::net::TcpListener::bind(at).and_then(|door| {
        door.set_nonblocking(true)?;
        Ok(door)
    });
    opened
        .inspect_err(|error| {
            tracing::error!(
                "admin.console {at} cannot be listened on: {error}; there is no console until the next start. Set another port, or \"\" for none"
            );
        })
        .ok()
}

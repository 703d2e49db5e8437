//! Dial, TLS, login: how the proxy becomes a client of a server. Relay and shadow share it.
//!
//! A login asks for exactly the capabilities it is told to, so that an answer never needs
//! translating; where the server lacks one that changes the dialect, the login is refused here
//! instead of being half right. Passwords are never logged.

use crate::config::Server;
use crate::wire::answer::Failure;
use crate::wire::capability::Capabilities;
use crate::wire::proxied::Addresses;
use crate::wire::status::Status;
use std::io;
use std::pin::Pin;

mod announce;
mod dial;
mod direct;
mod expiry;
mod login;
mod packets;
mod serving;
mod stream;
mod tls;

pub(crate) use announce::dial_for;
pub use dial::Tcp;
pub(crate) use expiry::expires;
pub(crate) use login::{greet, log_in, secure};
pub(crate) use packets::{Packet, PacketReader, write as write_one};
pub use serving::CertificateError;
pub(crate) use serving::{accept, acceptor};
pub use stream::Stream;
pub use tls::{TlsContext, TlsError};
pub(crate) use tls::{connect as shake_hands, system_authorities};

/// The way to a server: TCP, or an in-memory end in the simulation.
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream to the server.
    fn dial<'a>(&'a self, server: &'a Server) -> Dialing<'a>;
}

/// A stream that is being opened.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// What a login asks for.
#[derive(Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password; empty for none.
    pub password: String,
    /// The database to begin in.
    pub database: Option<String>,
    /// The dialect. What the login itself needs is added.
    pub capabilities: Capabilities,
    /// The collation id.
    pub collation: u16,
    /// The ends of the client's connection for which it is made, for servers that are told; none for the proxy's own.
    pub client: Option<Addresses>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("database", &self.database)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

/// A connection that is logged in, between two commands.
#[derive(Debug)]
pub struct Connection {
    /// The stream; nothing is read ahead of it.
    pub stream: Stream,
    /// What was agreed on.
    pub capabilities: Capabilities,
    /// The server's id for the connection.
    pub thread_id: u32,
    /// The server's version.
    pub server_version: String,
    /// The status flags after the login.
    pub status: Status,
}

impl Connection {
    /// Whether the server is a vtgate.
    #[must_use]
    pub fn is_vitess(&self) -> bool {
        self.server_version.contains("Vitess")
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers at the address.
    #[error("the server cannot be reached: {0}; check its address and that it runs")]
    Unreachable(#[source] io::Error),
    /// The server did not finish the login in time.
    #[error(
        "the server did not finish the login within its connect time-out; it is overloaded or hangs"
    )]
    Timeout,
    /// The connection broke off in the login.
    #[error("the server broke the connection off during the login: {0}")]
    Broken(#[source] io::Error),
    /// TLS failed, or the server has none.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server's ERR packet.
    #[error("the server refused the login: {} ({})", String::from_utf8_lossy(&.0.message), .0.code)]
    Refused(Failure),
    /// The server speaks what no MySQL server would.
    #[error("the server broke MySQL's protocol during the login: {0}")]
    Protocol(&'static str),
    /// The server lacks what the dialect needs.
    #[error("the server lacks the capability {}, so its answers would have another form than the client's", names(*.0))]
    Capability(Capabilities),
    /// The account's authentication plugin is not spoken here.
    #[error(
        "the account uses the authentication plugin {0}, which the proxy's own logins do not speak; use caching_sha2_password or mysql_native_password"
    )]
    Plugin(String),
}

/// The names of [`Capabilities::DIALECT`].
const NAMES: [(Capabilities, &str); 8] = [
    (Capabilities::FOUND_ROWS, "FOUND_ROWS"),
    (Capabilities::LONG_FLAG, "LONG_FLAG"),
    (Capabilities::TRANSACTIONS, "TRANSACTIONS"),
    (Capabilities::MULTI_STATEMENTS, "MULTI_STATEMENTS"),
    (Capabilities::MULTI_RESULTS, "MULTI_RESULTS"),
    (Capabilities::SESSION_TRACK, "SESSION_TRACK"),
    (Capabilities::DEPRECATE_EOF, "DEPRECATE_EOF"),
    (Capabilities::QUERY_ATTRIBUTES, "QUERY_ATTRIBUTES"),
];

/// The names of those of [`Capabilities::DIALECT`] that are in the set.
#[must_use]
pub fn names(set: Capabilities) -> String {
    let names: Vec<&str> = NAMES
        .iter()
        .filter(|(bit, _)| set.has(*bit))
        .map(|(_, name)| *name)
        .collect();
    names.join(", ")
}

/// Dials the server and logs in.
///
/// Bounded by the server's connect time-out. Cancel-safe: a login that is given up closes.
pub async fn open(
    dial: &dyn Dial,
    server: &Server,
    tls: &TlsContext,
    login: &Login,
) -> Result<Connection, ConnectError> {
    let connecting = async {
        let stream = dial_for(dial, server, login.client).await;
        let mut stream = stream.map_err(ConnectError::Unreachable)?;
        let (_, greeting) = greet(&mut stream, &mut PacketReader::default()).await?;
        log_in(stream, &greeting, server, tls, login).await
    };
    tokio::time::timeout(server.connect_timeout, connecting)
        .await
        .unwrap_or(Err(ConnectError::Timeout))
}

#[cfg(test)]
mod tests;

//! What the proxy says in its own name: error packets before a close, and nothing else.

use crate::connect::{Packet, Stream};
use crate::wire::answer::Failure;
use crate::wire::packet::CHUNK_MAX;
use crate::wire::reply::write_err;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How long a goodbye may take, and how long a peer's last bytes are waited for.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);

/// An error of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    code: u16,
    sqlstate: [u8; 5],
    message: String,
}

impl Refusal {
    fn new(code: u16, sqlstate: &[u8; 5], message: impl Into<String>) -> Self {
        Self {
            code,
            sqlstate: *sqlstate,
            message: message.into(),
        }
    }

    pub(super) fn too_many_connections() -> Self {
        Self::new(1040, b"08004", "Too many connections")
    }

    pub(super) fn bad_handshake() -> Self {
        Self::new(1043, b"08S01", "Bad handshake")
    }

    pub(super) fn shutting_down() -> Self {
        Self::new(1053, b"08S01", "Server shutdown in progress")
    }

    /// A session that ends so that the others can go on.
    pub(super) fn ended(why: &str) -> Self {
        Self::new(1053, b"08S01", why)
    }

    pub(super) fn too_large() -> Self {
        Self::new(
            1153,
            b"08S01",
            "Got a packet bigger than 'max_allowed_packet' bytes",
        )
    }

    /// A statement that a KILL has cut.
    pub(super) fn interrupted() -> Self {
        Self::new(1317, b"70100", "Query execution was interrupted")
    }

    pub(super) fn unknown_thread(id: u64) -> Self {
        Self::new(1094, b"HY000", format!("Unknown thread id: {id}"))
    }

    pub(super) fn not_owner(id: u64) -> Self {
        let message = format!("You are not owner of thread {id}");
        Self::new(1095, b"HY000", message)
    }

    /// A client that cannot be asked to prove itself by another nonce.
    pub(super) fn old_client() -> Self {
        let message = "Client does not support authentication protocol requested by server; \
                       consider upgrading MySQL client";
        Self::new(1251, b"08004", message)
    }

    /// An error in a server's own words.
    pub(super) fn of(failure: &Failure) -> Self {
        let message = String::from_utf8_lossy(&failure.message);
        Self::new(failure.code, &failure.sqlstate, message)
    }

    pub(super) fn primary_down(name: &str, why: &str) -> Self {
        Self::new(
            2003,
            b"HY000",
            format!("Can't connect to MySQL server '{name}' ({why})"),
        )
    }

    pub(super) fn primary_lost(name: &str) -> Self {
        let message = format!("Lost connection to MySQL server '{name}' during query");
        Self::new(2013, b"HY000", message)
    }

    /// A login after which the server refused one of the config's statements, in its own words.
    pub(super) fn init(name: &str, statement: &str, failure: &Failure) -> Self {
        let said = String::from_utf8_lossy(&failure.message);
        let message = format!("init of '{name}': \"{statement}\" was refused: {said}");
        Self::new(failure.code, &failure.sqlstate, message)
    }

    pub(super) fn primary_tls(why: &str) -> Self {
        Self::new(2026, b"HY000", format!("SSL connection error: {why}"))
    }

    /// A login that needs TLS on both legs or on none.
    pub(super) fn mixed_legs(plugin: &str, name: &str, client_tls: bool) -> Self {
        let (is, remedy) = if client_tls {
            (
                format!("the client's leg uses TLS, the leg to '{name}' does not"),
                format!("set tls = \"required\" for '{name}', or connect without TLS"),
            )
        } else {
            (
                format!("the leg to '{name}' uses TLS, the client's leg does not"),
                format!("connect with TLS, or set tls = \"off\" for '{name}'"),
            )
        };
        let message = format!(
            "Authentication plugin '{plugin}' reported error: it needs TLS on both legs through the \
             proxy or on none: {is}; {remedy}"
        );
        Self::new(3159, b"HY000", message)
    }

    /// The packet.
    pub(super) fn packet(&self, seq: u8) -> Vec<u8> {
        let mut out = Vec::new();
        write_err(&mut out, seq, self.code, self.sqlstate, &self.message);
        out
    }

    /// The packet, for a leg that is still in its login.
    pub(super) fn as_packet(&self, seq: u8) -> Packet {
        Packet::from_bytes(self.packet(seq))
    }

    /// Says it and closes, as far as the peer lets us within a second.
    pub(super) async fn say(&self, seq: u8, mut client: Stream) {
        let packet = self.packet(seq);
        let saying = async {
            client.write_all(&packet).await?;
            client.flush().await
        };
        if matches!(timeout(GOODBYE, saying).await, Ok(Ok(()))) {
            close(client, false).await;
        }
    }
}

/// The sequence number of the answer to a command of this length: a packet each 16 MiB.
pub(super) fn seq_after(command_bytes: u64) -> u8 {
    let packets = (command_bytes / CHUNK_MAX as u64).saturating_add(1);
    u8::try_from(packets & 0xFF).unwrap_or_default()
}

/// Closes a leg so that the peer can read all that was written: a close with unread input would
/// be a reset, which may overtake the last bytes.
pub(super) async fn close(mut stream: Stream, peer_ended: bool) {
    let closing = async {
        if stream.shutdown().await.is_err() || peer_ended {
            return;
        }
        let mut rest = [0; 512];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    };
    // A peer that neither reads nor closes is not waited for any longer.
    let _ = timeout(GOODBYE, closing).await;
}

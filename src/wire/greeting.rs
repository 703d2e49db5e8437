//! The server's greeting: parsed, and edited in place. Never written anew, so that what the proxy
//! does not know about stays as the server sent it.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html>

use super::answer::Failure;
use super::capability::Capabilities;
use super::packet::{Reader, Short};
use super::reply;
use super::status::Status;

/// Length of a nonce, in bytes.
pub const NONCE_LEN: usize = 20;

/// What a server says of itself when a client connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The server's version.
    pub version: String,
    /// The connection's thread id.
    pub thread_id: u32,
    /// The nonce that the client's proof answers.
    pub nonce: [u8; NONCE_LEN],
    /// What the server can.
    pub capabilities: Capabilities,
    /// The server's default collation.
    pub collation: u8,
    /// Status flags.
    pub status: Status,
    /// The authentication plugin that the nonce is for; empty where none is named.
    pub auth_plugin: String,
}

/// Why a server's first packet is no greeting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GreetingError {
    /// The server refused the connection.
    #[error("the server refused the connection: {} {}", .0.code, String::from_utf8_lossy(&.0.message))]
    Refused(Failure),
    /// Not protocol 10 with 4.1 authentication.
    #[error(
        "the server speaks protocol version {0} or lacks 4.1 authentication; MySQL 4.1 or later is needed"
    )]
    Version(u8),
    /// Cut off.
    #[error("the server's greeting: {0}")]
    Short(#[from] Short),
}

impl Greeting {
    /// Reads a greeting's payload.
    pub fn parse(payload: &[u8]) -> Result<Self, GreetingError> {
        if reply::is_err(payload) {
            return Err(GreetingError::Refused(reply::parse_err(payload)));
        }
        let mut reader = Reader::new(payload);
        let version = reader.u8()?;
        if version != 10 {
            return Err(GreetingError::Version(version));
        }
        let server_version = text(reader.null_bytes()?);
        let thread_id = reader.u32()?;
        let nonce_begin = reader.bytes(8)?;
        reader.u8()?;
        let low = reader.u16()?;
        let collation = reader.u8()?;
        let status = Status(reader.u16()?);
        let high = reader.u16()?;
        let capabilities = Capabilities(u32::from(low) | u32::from(high) << 16);
        if !capabilities.has(Capabilities::PROTOCOL_41.with(Capabilities::SECURE_CONNECTION)) {
            return Err(GreetingError::Version(version));
        }
        let nonce_len = usize::from(reader.u8()?);
        reader.bytes(10)?;
        // At least 13 bytes by the manual, the last one zero; some servers leave that one out.
        let rest_len = nonce_len.saturating_sub(8).max(13).min(reader.rest().len());
        let nonce_end = reader.bytes(rest_len)?;
        Ok(Self {
            version: server_version,
            thread_id,
            nonce: nonce(nonce_begin, nonce_end)?,
            capabilities,
            collation,
            status,
            auth_plugin: plugin(reader.rest(), capabilities),
        })
    }

    /// Whether it is a vtgate's, which has neither KILL nor CHANGE_USER.
    #[must_use]
    pub fn is_vitess(&self) -> bool {
        self.version.contains("Vitess")
    }
}

fn nonce(begin: &[u8], end: &[u8]) -> Result<[u8; NONCE_LEN], Short> {
    let begin: &[u8; 8] = begin.first_chunk().ok_or(Short)?;
    let end: &[u8; 12] = end.first_chunk().ok_or(Short)?;
    let mut nonce = [0; NONCE_LEN];
    let (left, right) = nonce.split_at_mut(8);
    left.copy_from_slice(begin);
    right.copy_from_slice(end);
    Ok(nonce)
}

fn plugin(rest: &[u8], capabilities: Capabilities) -> String {
    if !capabilities.has(Capabilities::PLUGIN_AUTH) {
        return String::new();
    }
    let name = Reader::new(rest).null_bytes().unwrap_or(rest);
    text(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Takes out of a greeting every capability that is not in `keep`, MariaDB's extended ones
/// included, and sets SSL as `keep` says, whether or not the server offers it. Nothing else changes.
pub fn restrict(payload: &mut [u8], keep: Capabilities) -> Result<(), Short> {
    let version_end = payload.iter().position(|byte| *byte == 0).ok_or(Short)?;
    // thread id 4, nonce 8, filler 1 │ low 2 │ collation 1, status 2 │ high 2 │ length 1, filler 6 │ extended 4
    let fields = payload.get_mut(version_end + 1 + 13..).ok_or(Short)?;
    let fields: &mut [u8; 18] = fields.first_chunk_mut().ok_or(Short)?;
    let [
        low0,
        low1,
        _,
        _,
        _,
        high0,
        high1,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        extended @ ..,
    ] = fields;
    let offered = Capabilities(u32::from_le_bytes([*low0, *low1, *high0, *high1]));
    let ssl = keep.and(Capabilities::SSL);
    [*low0, *low1, *high0, *high1] = offered.and(keep).with(ssl).0.to_le_bytes();
    *extended = [0; 4];
    Ok(())
}

/// Writes another thread id into a greeting; nothing else changes.
pub fn set_thread_id(payload: &mut [u8], id: u32) -> Result<(), Short> {
    let version_end = payload.iter().position(|byte| *byte == 0).ok_or(Short)?;
    let fields = payload.get_mut(version_end + 1..).ok_or(Short)?;
    let field: &mut [u8; 4] = fields.first_chunk_mut().ok_or(Short)?;
    *field = id.to_le_bytes();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MySQL 5.6.24 sends it.
    const MYSQL56: &[u8] =
        b"\x0a5.6.24\x00\x07\x00\x00\x00abcdefgh\x00\xff\xf7\x08\x02\x00\x7f\x80\x15\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00ijklmnopqrst\x00mysql_native_password\x00";

    #[test]
    fn a_greeting_reads_as_the_manual_lays_it_out() {
        let greeting = Greeting::parse(MYSQL56).unwrap();
        assert_eq!(greeting.version, "5.6.24");
        assert_eq!(greeting.thread_id, 7);
        assert_eq!(&greeting.nonce, b"abcdefghijklmnopqrst");
        assert_eq!(greeting.capabilities, Capabilities(0x807F_F7FF));
        assert_eq!(greeting.collation, 8);
        assert_eq!(greeting.status, Status(2));
        assert_eq!(greeting.auth_plugin, "mysql_native_password");
    }

    #[test]
    fn restricting_changes_the_capabilities_and_nothing_else() {
        let keep = Capabilities(u32::MAX)
            .without(Capabilities::COMPRESS)
            .without(Capabilities::SSL);
        let mut payload = MYSQL56.to_vec();
        restrict(&mut payload, keep).unwrap();
        let before = Greeting::parse(MYSQL56).unwrap();
        let after = Greeting::parse(&payload).unwrap();
        let expected = Greeting {
            capabilities: before.capabilities.and(keep),
            ..before
        };
        assert_eq!(after, expected);
        let changed = (0..payload.len())
            .filter(|at| payload[*at] != MYSQL56[*at])
            .count();
        assert_eq!(changed, 1);
    }

    #[test]
    fn another_thread_id_changes_four_bytes() {
        let mut payload = MYSQL56.to_vec();
        set_thread_id(&mut payload, 0x0102_0304).unwrap();
        let expected = Greeting {
            thread_id: 0x0102_0304,
            ..Greeting::parse(MYSQL56).unwrap()
        };
        assert_eq!(Greeting::parse(&payload).unwrap(), expected);
        assert!(set_thread_id(&mut payload[..9], 1).is_err());
    }

    #[test]
    fn tls_is_offered_as_we_are_told_even_where_the_server_has_none() {
        let mut payload = MYSQL56.to_vec();
        restrict(
            &mut payload,
            Capabilities::PROTOCOL_41.with(Capabilities::SECURE_CONNECTION),
        )
        .unwrap();
        assert!(
            !Greeting::parse(&payload)
                .unwrap()
                .capabilities
                .has(Capabilities::SSL)
        );
        restrict(&mut payload, Capabilities(u32::MAX)).unwrap();
        assert!(
            Greeting::parse(&payload)
                .unwrap()
                .capabilities
                .has(Capabilities::SSL)
        );
    }

    #[test]
    fn extended_capabilities_of_mariadb_are_cleared() {
        let mut payload = MYSQL56.to_vec();
        let extended = payload
            .windows(10)
            .position(|bytes| bytes == [0; 10])
            .unwrap()
            + 6;
        payload[extended..extended + 4].copy_from_slice(&[0x1D, 0, 0, 0]);
        restrict(
            &mut payload,
            Capabilities(u32::MAX).without(Capabilities::SSL),
        )
        .unwrap();
        assert_eq!(payload, MYSQL56);
    }

    #[test]
    fn a_refusal_is_not_a_greeting() {
        let refused = Greeting::parse(b"\xff\x6a\x04Host is blocked").unwrap_err();
        assert!(
            refused.to_string().contains("1130 Host is blocked"),
            "{refused}"
        );
        assert_eq!(Greeting::parse(b"\x09x"), Err(GreetingError::Version(9)));
    }

    #[test]
    fn a_greeting_cut_anywhere_is_short() {
        for len in 0..MYSQL56.len() - 35 {
            assert!(Greeting::parse(&MYSQL56[..len]).is_err(), "{len}");
        }
    }
}

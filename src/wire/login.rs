//! The client's side of a login, and the packets of authentication. Relayed logins are edited in
//! place; only a login of the proxy's own is encoded from its parts.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>

use super::capability::Capabilities;
use super::command::Command;
use super::packet::{Reader, Short, write_lenenc, write_lenenc_bytes};
use std::fmt;

/// Length of an SSL request's payload, and of the fields that it shares with a login.
pub const SSL_REQUEST_LEN: usize = 32;

/// First byte of the server's demand for another plugin.
pub const AUTH_SWITCH: u8 = 0xFE;
/// First byte of more authentication data.
pub const AUTH_MORE: u8 = 0x01;
/// First byte of the demand for another factor.
pub const AUTH_NEXT_FACTOR: u8 = 0x02;
/// caching_sha2_password, after [`AUTH_MORE`]: the fast path succeeded, OK follows.
pub const FAST_AUTH_OK: u8 = 0x03;
/// caching_sha2_password, after [`AUTH_MORE`]: the server wants the whole password.
pub const FULL_AUTH: u8 = 0x04;
/// caching_sha2_password: the client asks for the server's public key.
pub const PUBLIC_KEY_REQUEST: u8 = 0x02;
/// sha256_password: the client asks for the server's public key.
pub const SHA256_PUBLIC_KEY_REQUEST: u8 = 0x01;

/// Why a client's first packet is no login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The client does not speak the 4.1 protocol.
    #[error("the client does not speak the 4.1 protocol; a client of MySQL 4.1 or later is needed")]
    Old,
    /// Cut off.
    #[error("the client's login: {0}")]
    Short(#[from] Short),
}

/// A HandshakeResponse41.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// What the client asks for.
    pub capabilities: Capabilities,
    /// The client's largest packet.
    pub max_packet: u32,
    /// The client's collation.
    pub collation: u8,
    /// MariaDB's extended capabilities; zero from everybody else.
    pub extended: u32,
    /// User name.
    pub user: Vec<u8>,
    /// The proof of the password.
    pub auth_response: Vec<u8>,
    /// Database, where [`Capabilities::CONNECT_WITH_DB`] is set.
    pub database: Option<Vec<u8>>,
    /// Plugin that the proof is for, where [`Capabilities::PLUGIN_AUTH`] is set.
    pub auth_plugin: Option<Vec<u8>>,
    /// All behind the plugin's name as it came: the attributes with their length, and what a
    /// later protocol may add.
    pub tail: Vec<u8>,
}

impl fmt::Debug for Login {
    /// Everything but the proof.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("capabilities", &self.capabilities)
            .field("collation", &self.collation)
            .field("user", &String::from_utf8_lossy(&self.user))
            .finish_non_exhaustive()
    }
}

impl Login {
    /// Reads a login's payload. A database, plugin or attributes that are announced and missing
    /// at the very end are read as absent, as servers do.
    pub fn parse(payload: &[u8]) -> Result<Self, LoginError> {
        let request = SslRequest::parse(payload)?;
        let mut reader = Reader::new(payload.get(SSL_REQUEST_LEN..).unwrap_or(&[]));
        let capabilities = request.capabilities;
        let user = reader.null_bytes()?.to_vec();
        let auth_response = auth_response(&mut reader, capabilities)?.to_vec();
        let database = optional(&mut reader, capabilities, Capabilities::CONNECT_WITH_DB);
        let auth_plugin = optional(&mut reader, capabilities, Capabilities::PLUGIN_AUTH);
        Ok(Self {
            capabilities,
            max_packet: request.max_packet,
            collation: request.collation,
            extended: request.extended,
            user,
            auth_response,
            database,
            auth_plugin,
            tail: reader.rest().to_vec(),
        })
    }

    /// The payload. Fields whose capability is not set are left out; a proof that is too long for
    /// the way that the capabilities spell it is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.request().encode();
        out.extend_from_slice(&self.user);
        out.push(0);
        if self.capabilities.has(Capabilities::PLUGIN_AUTH_LENENC_DATA) {
            write_lenenc_bytes(&mut out, &self.auth_response);
        } else if self.capabilities.has(Capabilities::SECURE_CONNECTION) {
            let proof = self
                .auth_response
                .get(..0xFF)
                .unwrap_or(&self.auth_response);
            write_short_bytes(&mut out, proof);
        } else {
            out.extend_from_slice(&self.auth_response);
            out.push(0);
        }
        let named = [
            (Capabilities::CONNECT_WITH_DB, &self.database),
            (Capabilities::PLUGIN_AUTH, &self.auth_plugin),
        ];
        for (capability, name) in named {
            if self.capabilities.has(capability) {
                out.extend_from_slice(name.as_deref().unwrap_or_default());
                out.push(0);
            }
        }
        out.extend_from_slice(&self.tail);
        out
    }

    /// The request for TLS that goes before this login.
    #[must_use]
    pub const fn request(&self) -> SslRequest {
        SslRequest {
            capabilities: self.capabilities,
            max_packet: self.max_packet,
            collation: self.collation,
            extended: self.extended,
        }
    }

    /// The connection attributes, name and value in turn; empty where there are none.
    #[must_use]
    pub fn attributes(&self) -> Vec<(&[u8], &[u8])> {
        let mut attributes = Vec::new();
        if !self.capabilities.has(Capabilities::CONNECT_ATTRS) {
            return attributes;
        }
        let whole = Reader::new(&self.tail).lenenc_bytes().ok().flatten();
        let mut reader = Reader::new(whole.unwrap_or_default());
        while let Ok(Some(name)) = reader.lenenc_bytes()
            && let Ok(Some(value)) = reader.lenenc_bytes()
        {
            attributes.push((name, value));
        }
        attributes
    }
}

fn auth_response<'a>(
    reader: &mut Reader<'a>,
    capabilities: Capabilities,
) -> Result<&'a [u8], Short> {
    if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC_DATA) {
        Ok(reader.lenenc_bytes()?.unwrap_or_default())
    } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
        let len = usize::from(reader.u8()?);
        reader.bytes(len)
    } else {
        reader.null_bytes()
    }
}

/// A zero-terminated string that is there if the capability is set. Some clients leave out the
/// zero of the last one, or the whole string.
fn optional(
    reader: &mut Reader<'_>,
    capabilities: Capabilities,
    needs: Capabilities,
) -> Option<Vec<u8>> {
    if !capabilities.has(needs) || reader.is_empty() {
        return None;
    }
    let rest = reader.rest();
    let taken = reader
        .null_bytes()
        .or_else(|Short| reader.bytes(rest.len()));
    taken.ok().map(<[u8]>::to_vec)
}

fn write_short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(bytes);
}

/// The first part of a login, sent alone to ask for TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SslRequest {
    /// What the client asks for.
    pub capabilities: Capabilities,
    /// The client's largest packet.
    pub max_packet: u32,
    /// The client's collation.
    pub collation: u8,
    /// MariaDB's extended capabilities.
    pub extended: u32,
}

impl SslRequest {
    /// Reads the fields from a request or from the front of a login.
    pub fn parse(payload: &[u8]) -> Result<Self, LoginError> {
        let mut reader = Reader::new(payload);
        if u32::from(reader.u16()?) & Capabilities::PROTOCOL_41.0 == 0 {
            return Err(LoginError::Old);
        }
        let mut reader = Reader::new(payload);
        let capabilities = Capabilities(reader.u32()?);
        let max_packet = reader.u32()?;
        let collation = reader.u8()?;
        reader.bytes(19)?;
        let extended = reader.u32()?;
        Ok(Self {
            capabilities,
            max_packet,
            collation,
            extended,
        })
    }

    /// Whether a client's first payload asks for TLS and is no login yet.
    #[must_use]
    pub fn is(payload: &[u8]) -> bool {
        payload.len() == SSL_REQUEST_LEN
            && Self::parse(payload).is_ok_and(|request| request.capabilities.has(Capabilities::SSL))
    }

    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SSL_REQUEST_LEN);
        out.extend_from_slice(&self.capabilities.0.to_le_bytes());
        out.extend_from_slice(&self.max_packet.to_le_bytes());
        out.push(self.collation);
        out.extend_from_slice(&[0; 19]);
        out.extend_from_slice(&self.extended.to_le_bytes());
        out
    }
}

/// Writes `capabilities` over those of a login or an SSL request and clears MariaDB's extended
/// ones; nothing else changes. The caller must leave the bits that lay out the packet as they are.
pub fn set_capabilities(payload: &mut [u8], capabilities: Capabilities) -> Result<(), Short> {
    let fields: &mut [u8; SSL_REQUEST_LEN] = payload.first_chunk_mut().ok_or(Short)?;
    let [a, b, c, d, middle @ .., e, f, g, h] = fields;
    let _: &mut [u8; 24] = middle;
    [*a, *b, *c, *d] = capabilities.0.to_le_bytes();
    [*e, *f, *g, *h] = [0; 4];
    Ok(())
}

/// The server's demand that the client prove itself by another plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthSwitch<'a> {
    /// The plugin; `mysql_old_password` where the packet is a lone `0xFE`.
    pub plugin: &'a [u8],
    /// Its data, usually a nonce, without the zero at its end.
    pub data: &'a [u8],
}

impl<'a> AuthSwitch<'a> {
    /// Reads the payload, the first byte ([`AUTH_SWITCH`] or [`AUTH_NEXT_FACTOR`]) included.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(payload);
        if !matches!(reader.u8()?, AUTH_SWITCH | AUTH_NEXT_FACTOR) {
            return Err(Short);
        }
        if reader.is_empty() {
            return Ok(Self {
                plugin: b"mysql_old_password",
                data: &[],
            });
        }
        let plugin = reader.null_bytes()?;
        let data = reader.rest();
        Ok(Self {
            plugin,
            data: data.strip_suffix(&[0]).unwrap_or(data),
        })
    }
}

/// A COM_CHANGE_USER.
///
/// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_change_user.html>
#[derive(Clone, PartialEq, Eq)]
pub struct ChangeUser<'a> {
    /// User name.
    pub user: &'a [u8],
    /// The proof of the password.
    pub auth_response: &'a [u8],
    /// Database; empty for none.
    pub database: &'a [u8],
    /// Collation, where the packet goes that far.
    pub collation: Option<u16>,
    /// Plugin that the proof is for; empty where none is named.
    pub auth_plugin: &'a [u8],
}

impl fmt::Debug for ChangeUser<'_> {
    /// Everything but the proof.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeUser")
            .field("user", &String::from_utf8_lossy(self.user))
            .field("database", &String::from_utf8_lossy(self.database))
            .finish_non_exhaustive()
    }
}

impl<'a> ChangeUser<'a> {
    /// Reads the command's payload, the command byte included.
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Result<Self, Short> {
        let mut reader = Reader::new(payload);
        if Command(reader.u8()?) != Command::CHANGE_USER {
            return Err(Short);
        }
        let user = reader.null_bytes()?;
        // Unlike in a login, the length is one byte whatever PLUGIN_AUTH_LENENC_DATA says.
        let one_byte = capabilities.without(Capabilities::PLUGIN_AUTH_LENENC_DATA);
        let auth_response = auth_response(&mut reader, one_byte)?;
        let database = reader.null_bytes()?;
        let collation = reader.u16().ok();
        let auth_plugin = if capabilities.has(Capabilities::PLUGIN_AUTH) {
            let rest = reader.rest();
            reader.null_bytes().unwrap_or(rest)
        } else {
            &[]
        };
        Ok(Self {
            user,
            auth_response,
            database,
            collation,
            auth_plugin,
        })
    }
}

/// Appends attributes as a login carries them.
pub fn write_attributes(out: &mut Vec<u8>, attributes: &[(&[u8], &[u8])]) {
    let mut all = Vec::new();
    for (name, value) in attributes {
        write_lenenc_bytes(&mut all, name);
        write_lenenc_bytes(&mut all, value);
    }
    write_lenenc(out, all.len() as u64);
    out.extend_from_slice(&all);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        let mut tail = Vec::new();
        write_attributes(
            &mut tail,
            &[(b"_client_name", b"libmysql"), (b"_pid", b"1")],
        );
        Login {
            capabilities: Capabilities::PROTOCOL_41
                .with(Capabilities::SECURE_CONNECTION)
                .with(Capabilities::CONNECT_WITH_DB)
                .with(Capabilities::PLUGIN_AUTH)
                .with(Capabilities::CONNECT_ATTRS),
            max_packet: 1 << 24,
            collation: 45,
            user: b"app".to_vec(),
            auth_response: vec![7; 20],
            database: Some(b"shop".to_vec()),
            auth_plugin: Some(b"mysql_native_password".to_vec()),
            tail,
            ..Login::default()
        }
    }

    #[test]
    fn a_login_reads_back_as_it_was_encoded_whatever_spells_the_proof() {
        let plain = login();
        let lenenc = Login {
            capabilities: plain
                .capabilities
                .with(Capabilities::PLUGIN_AUTH_LENENC_DATA),
            auth_response: vec![9; 300],
            ..login()
        };
        let old = Login {
            capabilities: plain.capabilities.without(Capabilities::SECURE_CONNECTION),
            ..login()
        };
        for login in [plain, lenenc, old] {
            assert_eq!(Login::parse(&login.encode()), Ok(login));
        }
    }

    #[test]
    fn attributes_read_in_their_order() {
        let login = login();
        let expected: [(&[u8], &[u8]); 2] = [(b"_client_name", b"libmysql"), (b"_pid", b"1")];
        assert_eq!(login.attributes(), expected);
    }

    #[test]
    fn a_login_without_its_end_is_read_as_servers_do() {
        let mut payload = Login {
            tail: Vec::new(),
            ..login()
        }
        .encode();
        payload.pop();
        assert_eq!(
            Login::parse(&payload).unwrap().auth_plugin.unwrap(),
            b"mysql_native_password"
        );
        payload.truncate(32 + 4 + 21);
        assert_eq!(Login::parse(&payload).unwrap().database, None);
    }

    #[test]
    fn a_login_cut_anywhere_never_panics_and_an_old_one_is_named() {
        let payload = login().encode();
        for len in 0..payload.len() {
            let _ = Login::parse(&payload[..len]);
        }
        assert_eq!(
            Login::parse(b"\x05\x24\x00\x00\x00root\0"),
            Err(LoginError::Old)
        );
    }

    #[test]
    fn a_request_for_tls_is_told_from_a_login() {
        let mut login = login();
        assert!(!SslRequest::is(&login.request().encode()));
        login.capabilities = login.capabilities.with(Capabilities::SSL);
        assert!(SslRequest::is(&login.request().encode()));
        assert!(!SslRequest::is(&login.encode()));
    }

    #[test]
    fn capabilities_are_edited_in_place() {
        let mut payload = login().encode();
        let wanted = login().capabilities.with(Capabilities::SSL);
        set_capabilities(&mut payload, wanted).unwrap();
        assert_eq!(
            Login::parse(&payload),
            Ok(Login {
                capabilities: wanted,
                ..login()
            })
        );
        assert_eq!(set_capabilities(&mut [0; 31], wanted), Err(Short));
    }

    #[test]
    fn a_demand_for_another_plugin_reads_with_its_nonce() {
        let switch =
            AuthSwitch::parse(b"\xFEcaching_sha2_password\x00abcdefghijklmnopqrst\x00").unwrap();
        assert_eq!(switch.plugin, b"caching_sha2_password");
        assert_eq!(switch.data, b"abcdefghijklmnopqrst");
        assert_eq!(
            AuthSwitch::parse(b"\xFE").unwrap().plugin,
            b"mysql_old_password"
        );
        assert_eq!(AuthSwitch::parse(b"\x00"), Err(Short));
    }

    #[test]
    fn a_change_of_user_reads_to_where_it_goes() {
        let capabilities = login()
            .capabilities
            .with(Capabilities::PLUGIN_AUTH_LENENC_DATA);
        let payload = b"\x11bob\x00\x03abcshop\x00\x2d\x00mysql_native_password\x00";
        let change = ChangeUser::parse(payload, capabilities).unwrap();
        assert_eq!((change.user, change.database), (&b"bob"[..], &b"shop"[..]));
        assert_eq!(
            (change.auth_response, change.collation),
            (&b"abc"[..], Some(45))
        );
        assert_eq!(change.auth_plugin, b"mysql_native_password");
        let short = ChangeUser::parse(b"\x11bob\x00\x00\x00", capabilities).unwrap();
        assert_eq!((short.collation, short.auth_plugin), (None, &b""[..]));
    }
}

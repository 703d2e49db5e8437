//! A login as a client: native, caching_sha2 (fast, and full by TLS or RSA), sha256.
//!
//! The clear password is sent over TLS only; on a plain leg it goes under the server's RSA key.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>

use super::packets::{Packet, PacketReader, write};
use super::{ConnectError, Connection, Login, Stream, TlsContext};
use crate::config::Server;
use crate::wire::capability::Capabilities;
use crate::wire::greeting::{Greeting, GreetingError};
use crate::wire::login::{
    AUTH_MORE, AUTH_SWITCH, AuthSwitch, FAST_AUTH_OK, FULL_AUTH, Login as Response,
    PUBLIC_KEY_REQUEST, SHA256_PUBLIC_KEY_REQUEST, SslRequest,
};
use crate::wire::reply;
use mysql_common::scramble::{scramble_native, scramble_sha256};
use std::io;

pub(super) const NATIVE: &str = "mysql_native_password";
pub(super) const CACHING_SHA2: &str = "caching_sha2_password";
pub(super) const SHA256: &str = "sha256_password";
pub(super) const CLEAR: &str = "mysql_clear_password";

/// What a login needs whatever the dialect.
const NEEDED: Capabilities = Capabilities::PROTOCOL_41
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::PLUGIN_AUTH);

/// What a login of the proxy's own never asks for: it would change the form of every packet, or
/// speaks of the client's program.
const NEVER: Capabilities = Capabilities::COMPRESS
    .with(Capabilities::ZSTD_COMPRESSION)
    .with(Capabilities::OPTIONAL_RESULTSET_METADATA)
    .with(Capabilities::MULTI_FACTOR)
    .with(Capabilities::CONNECT_ATTRS)
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::SSL)
    .with(Capabilities(1 << 29));

/// The largest packet that we say to take; servers look at it only for their own limits.
const MAX_PACKET: u32 = 1 << 30;

/// A server's public key in PEM is far smaller than this.
const PUBLIC_KEY_MAX: usize = 4096;

/// Reads the greeting of a stream that was just opened.
pub(crate) async fn greet(
    stream: &mut Stream,
    reader: &mut PacketReader,
) -> Result<(Packet, Greeting), ConnectError> {
    let packet = reader.read(stream).await.map_err(broken)?;
    match Greeting::parse(packet.payload()) {
        Ok(greeting) => Ok((packet, greeting)),
        Err(GreetingError::Refused(failure)) => Err(ConnectError::Refused(failure)),
        Err(GreetingError::Version(_)) => Err(ConnectError::Protocol(
            "its greeting is not that of MySQL 4.1 or later",
        )),
        Err(GreetingError::Short(_)) => Err(ConnectError::Protocol("its greeting is cut off")),
    }
}

/// Logs in on a stream whose greeting has been read and to which nothing has been sent.
pub(crate) async fn log_in(
    stream: Stream,
    greeting: &Greeting,
    server: &Server,
    tls: &TlsContext,
    login: &Login,
) -> Result<Connection, ConnectError> {
    let agreed = agree(greeting, login)?;
    let config = tls.choose(server, greeting.capabilities.has(Capabilities::SSL))?;
    let asked = if config.is_some() {
        agreed.with(Capabilities::SSL)
    } else {
        agreed
    };
    let request = SslRequest {
        capabilities: asked,
        max_packet: MAX_PACKET,
        collation: u8::try_from(login.collation).unwrap_or(greeting.collation),
        extended: 0,
    };
    let mut dialogue = Dialogue {
        stream,
        reader: PacketReader::default(),
        seq: 1,
        plugin: greeting.auth_plugin.clone(),
        nonce: greeting.nonce.to_vec(),
        password: login.password.as_bytes(),
    };
    if let Some(config) = config {
        dialogue.say(&request.encode()).await?;
        dialogue.stream = super::tls::connect(dialogue.stream, config, server).await?;
    }
    let response = dialogue.response(request, login);
    dialogue.say(&response.encode()).await?;
    let status = dialogue.until_ok(agreed).await?;
    Ok(Connection {
        stream: dialogue.stream,
        capabilities: agreed,
        thread_id: greeting.thread_id,
        server_version: greeting.version.clone(),
        status,
    })
}

/// Shakes hands as TLS is meant towards a server, and no more: whoever looks whether clients could be served needs no
/// account for that.
pub(crate) async fn secure(
    mut stream: Stream,
    greeting: &Greeting,
    server: &Server,
    tls: &TlsContext,
) -> Result<(), ConnectError> {
    let offered = greeting.capabilities.has(Capabilities::SSL);
    let Some(config) = tls.choose(server, offered)? else {
        return Ok(());
    };
    let request = SslRequest {
        capabilities: NEEDED.with(Capabilities::SSL),
        max_packet: MAX_PACKET,
        collation: greeting.collation,
        extended: 0,
    };
    let packet = Packet::new(1, &request.encode());
    let sent = write(&mut stream, &packet).await;
    sent.map_err(ConnectError::Broken)?;
    super::tls::connect(stream, config, server).await?;
    Ok(())
}

/// What both sides can, or what the server lacks.
fn agree(greeting: &Greeting, login: &Login) -> Result<Capabilities, ConnectError> {
    let wanted = login.capabilities.without(NEVER);
    let lacking = wanted
        .and(Capabilities::DIALECT)
        .without(greeting.capabilities);
    if lacking != Capabilities::default() {
        return Err(ConnectError::Capability(lacking));
    }
    let database = match &login.database {
        Some(name) if !name.is_empty() => Capabilities::CONNECT_WITH_DB,
        Some(_) | None => Capabilities::default(),
    };
    Ok(wanted
        .with(NEEDED)
        .with(database)
        .and(greeting.capabilities))
}

/// The exchange of packets up to OK or ERR.
struct Dialogue<'a> {
    stream: Stream,
    reader: PacketReader,
    seq: u8,
    plugin: String,
    nonce: Vec<u8>,
    password: &'a [u8],
}

impl Dialogue<'_> {
    fn response(&mut self, request: SslRequest, login: &Login) -> Response {
        if !matches!(self.plugin.as_str(), NATIVE | CACHING_SHA2) {
            // What the account really needs, the server will ask for.
            NATIVE.clone_into(&mut self.plugin);
        }
        Response {
            capabilities: request.capabilities,
            max_packet: request.max_packet,
            collation: request.collation,
            user: login.user.clone().into_bytes(),
            auth_response: proof(&self.plugin, &self.nonce, self.password),
            database: login.database.clone().map(String::into_bytes),
            auth_plugin: Some(self.plugin.clone().into_bytes()),
            ..Response::default()
        }
    }

    async fn say(&mut self, payload: &[u8]) -> Result<(), ConnectError> {
        let packet = Packet::new(self.seq, payload);
        self.seq = self.seq.wrapping_add(1);
        write(&mut self.stream, &packet)
            .await
            .map_err(ConnectError::Broken)
    }

    async fn hear(&mut self) -> Result<Packet, ConnectError> {
        let packet = self.reader.read(&mut self.stream).await.map_err(broken)?;
        self.seq = packet.seq().wrapping_add(1);
        Ok(packet)
    }

    async fn until_ok(
        &mut self,
        agreed: Capabilities,
    ) -> Result<crate::wire::status::Status, ConnectError> {
        // A server that never comes to an end is bounded by the connect time-out.
        loop {
            let packet = self.hear().await?;
            match packet.first() {
                Some(reply::OK) => {
                    let done = reply::parse_ok(packet.payload(), agreed)
                        .map_err(|_| ConnectError::Protocol("its OK packet is cut off"))?;
                    return Ok(done.status);
                }
                Some(reply::ERR) => {
                    return Err(ConnectError::Refused(reply::parse_err(packet.payload())));
                }
                Some(AUTH_SWITCH) => self.switch(packet.payload()).await?,
                Some(AUTH_MORE) => {
                    self.more(packet.payload().get(1..).unwrap_or_default())
                        .await?;
                }
                _ => return Err(ConnectError::Protocol("a packet that no login has")),
            }
        }
    }

    async fn switch(&mut self, payload: &[u8]) -> Result<(), ConnectError> {
        let switch = AuthSwitch::parse(payload)
            .map_err(|_| ConnectError::Protocol("its auth switch is cut off"))?;
        self.plugin = String::from_utf8_lossy(switch.plugin).into_owned();
        self.nonce = switch.data.to_vec();
        let answer = match self.plugin.as_str() {
            NATIVE | CACHING_SHA2 => proof(&self.plugin, &self.nonce, self.password),
            SHA256 if self.password.is_empty() => vec![0],
            SHA256 if self.stream.is_tls() => self.clear_password(),
            SHA256 => vec![SHA256_PUBLIC_KEY_REQUEST],
            CLEAR if self.stream.is_tls() => self.clear_password(),
            _ => return Err(ConnectError::Plugin(self.plugin.clone())),
        };
        self.say(&answer).await
    }

    async fn more(&mut self, data: &[u8]) -> Result<(), ConnectError> {
        match (self.plugin.as_str(), data) {
            (CACHING_SHA2, [FAST_AUTH_OK]) => Ok(()),
            (CACHING_SHA2, [FULL_AUTH]) if self.stream.is_tls() => {
                let clear = self.clear_password();
                self.say(&clear).await
            }
            (CACHING_SHA2, [FULL_AUTH]) => self.say(&[PUBLIC_KEY_REQUEST]).await,
            // A key that we asked for: never on TLS, where nobody needs one.
            (CACHING_SHA2 | SHA256, key) if !self.stream.is_tls() => {
                let sealed = seal(&self.clear_password(), &self.nonce, key)?;
                self.say(&sealed).await
            }
            _ => Err(ConnectError::Protocol(
                "more authentication data than its plugin has",
            )),
        }
    }

    fn clear_password(&self) -> Vec<u8> {
        [self.password, &[0]].concat()
    }
}

fn proof(plugin: &str, nonce: &[u8], password: &[u8]) -> Vec<u8> {
    let proof = match plugin {
        CACHING_SHA2 => scramble_sha256(nonce, password).map(|proof| proof.to_vec()),
        _ => scramble_native(nonce, password).map(|proof| proof.to_vec()),
    };
    proof.unwrap_or_default()
}

/// The password under the server's public key.
fn seal(clear: &[u8], nonce: &[u8], key: &[u8]) -> Result<Vec<u8>, ConnectError> {
    const NO_KEY: ConnectError = ConnectError::Protocol("its public key cannot be used");
    if key.len() > PUBLIC_KEY_MAX || nonce.is_empty() {
        return Err(NO_KEY);
    }
    let masked: Vec<u8> = clear
        .iter()
        .enumerate()
        .map(|(at, byte)| byte ^ nonce.get(at % nonce.len()).copied().unwrap_or_default())
        .collect();
    // The library panics on a key that is none, and a server may send anything.
    std::panic::catch_unwind(|| mysql_common::crypto::encrypt(&masked, key)).map_err(|_| NO_KEY)
}

/// What a failed read means.
fn broken(error: io::Error) -> ConnectError {
    if error.kind() == io::ErrorKind::InvalidData {
        return ConnectError::Protocol("a packet that is longer than any login's");
    }
    ConnectError::Broken(error)
}

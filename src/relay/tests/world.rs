//! Both ends of the relay in a test's hands.

use crate::config::{Account, FedBy, Listen, ProxyProtocol, Server, TlsMode};
use crate::connect::{Dial, Dialing, Stream};
use crate::relay::{Carry, NoCarry, Offer, Relay, RelayParts};
use crate::roles::Roles;
use crate::tee::{self, Handed, Limits, Receiver};
use crate::wire::capability::Capabilities;
use crate::wire::greeting::Greeting;
use crate::wire::packet::write_packet;
use crate::wire::reply;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(super) const NONCE: &[u8; 20] = b"abcdefghijklmnopqrst";

/// What the fake primary can: everything but TLS.
pub(super) const SERVER: Capabilities = Capabilities(0xFFFF_F7FF);

/// What the fake client asks for.
pub(super) const CLIENT: Capabilities = Capabilities::PROTOCOL_41
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::PLUGIN_AUTH)
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::TRANSACTIONS)
    .with(Capabilities::MULTI_RESULTS);

/// One end, with what a test needs of it.
pub(super) struct End(pub(super) DuplexStream);

impl End {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Sends one packet.
    pub(super) async fn say(&mut self, seq: u8, payload: &[u8]) {
        self.send(&packet(seq, payload)).await;
    }

    /// The next packet's sequence number and payload.
    pub(super) async fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 4];
        self.0.read_exact(&mut header).await.unwrap();
        let len = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).await.unwrap();
        (header[3], payload)
    }

    /// Exactly these bytes come next.
    pub(super) async fn expect(&mut self, bytes: &[u8]) {
        let mut seen = vec![0; bytes.len()];
        self.0.read_exact(&mut seen).await.unwrap();
        assert!(seen == bytes, "the bytes differ");
    }

    /// All that comes up to the end.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest).await;
        rest
    }

    /// Nothing comes within a second.
    pub(super) async fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        tokio::time::timeout(Duration::from_secs(1), self.0.read(&mut byte))
            .await
            .is_err()
    }
}

pub(super) fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_packet(&mut out, seq, payload);
    out
}

/// An OK packet's payload with status flags.
pub(super) fn ok(status: u8) -> Vec<u8> {
    vec![0, 0, 0, status, 0, 0, 0]
}

pub(super) fn error(code: u16, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    reply::write_err(&mut out, 0, code, *b"HY000", message);
    out.split_off(4)
}

/// A text result of one column with these cells, with EOF packets.
pub(super) fn rows(cells: &[&[u8]], status: u8) -> Vec<u8> {
    let mut out = packet(1, &[1]);
    out.extend(packet(
        2,
        b"\x03def\x00\x00\x00\x01a\x00\x0c\x2d\x00\x01\x00\x00\x00\xfd\x00\x00\x00\x00\x00",
    ));
    out.extend(packet(3, &[0xFE, 0, 0, 2, 0]));
    let mut seq = 4;
    for cell in cells {
        let mut row = Vec::new();
        crate::wire::packet::write_lenenc_bytes(&mut row, cell);
        let mut encoded = Vec::new();
        seq = write_packet(&mut encoded, seq, &row);
        out.extend(encoded);
    }
    out.extend(packet(seq, &[0xFE, 0, 0, status, 0]));
    out
}

pub(super) fn greeting(capabilities: Capabilities) -> Vec<u8> {
    greeting_of(MYSQL, 7, capabilities)
}

/// The versions that servers tell of themselves.
pub(super) const MYSQL: &str = "5.6.24";
pub(super) const VTGATE: &str = "8.4.6-Vitess";

/// A greeting of this version, with this connection's id.
pub(super) fn greeting_of(version: &str, id: u32, capabilities: Capabilities) -> Vec<u8> {
    let [a, b, c, d] = capabilities.0.to_le_bytes();
    let mut payload = [b"\x0a", version.as_bytes(), b"\0", &id.to_le_bytes()].concat();
    payload.extend_from_slice(&NONCE[..8]);
    payload.extend_from_slice(&[0, a, b, 45, 2, 0, c, d, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend_from_slice(&NONCE[8..]);
    payload.extend_from_slice(b"\0mysql_native_password\0");
    payload
}

pub(super) fn login(capabilities: Capabilities) -> Vec<u8> {
    login_as("app", capabilities)
}

pub(super) fn login_as(user: &str, capabilities: Capabilities) -> Vec<u8> {
    crate::wire::login::Login {
        capabilities,
        max_packet: 1 << 24,
        collation: 45,
        user: user.into(),
        auth_response: vec![7; 20],
        database: Some(b"shop".to_vec()),
        auth_plugin: Some(b"mysql_native_password".to_vec()),
        ..Default::default()
    }
    .encode()
}

/// Every dial opens a pair; the test gets the far ends. Without one it is refused.
struct Ends(Option<mpsc::Sender<(String, DuplexStream)>>, usize);

impl Dial for Ends {
    fn dial<'a>(&'a self, server: &'a Server) -> Dialing<'a> {
        Box::pin(async {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (near, far) = tokio::io::duplex(self.1);
            self.0
                .as_ref()
                .ok_or_else(refused)?
                .send((server.name.clone(), far))
                .await
                .map_err(|_| refused())?;
            Ok(Stream::Memory(near))
        })
    }
}

/// What a test may set.
pub(super) struct Setting {
    pub(super) max_connections: usize,
    pub(super) command_bytes_max: u64,
    pub(super) account: bool,
    pub(super) primary_up: bool,
    pub(super) pipe_bytes: usize,
    pub(super) offer: Offer,
    pub(super) tee: Limits,
    pub(super) carry: Arc<dyn Carry>,
    /// What `vitess` wants on every connection.
    pub(super) init: Vec<String>,
    /// Networks whose connections begin with a PROXY header.
    pub(super) balancers: Vec<ipnet::IpNet>,
    /// Whether servers are told whose a connection is.
    pub(super) announced: ProxyProtocol,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            max_connections: 10,
            command_bytes_max: 64 << 20,
            account: false,
            primary_up: true,
            pipe_bytes: 64 << 10,
            offer: Offer::all(),
            tee: Limits::default(),
            carry: Arc::new(NoCarry),
            init: Vec::new(),
            balancers: Vec::new(),
            announced: ProxyProtocol::Off,
        }
    }
}

pub(super) struct World {
    pub(super) relay: Relay,
    pub(super) receiver: Receiver,
    pub(super) offer: Offer,
    servers: mpsc::Receiver<(String, DuplexStream)>,
    pipe_bytes: usize,
    pub(super) roles: watch::Sender<Roles>,
}

impl World {
    pub(super) fn new(setting: Setting) -> Self {
        let server = Server {
            name: "legacy".into(),
            host: "127.0.0.1".into(),
            port: 1,
            tls: TlsMode::Off,
            tls_ca: None,
            account: setting.account.then(|| Account {
                user: "proxy".into(),
                password: "secret".into(),
            }),
            users: Default::default(),
            databases: Default::default(),
            fed_by: FedBy::Mirror,
            init: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            source_addresses: Vec::new(),
            proxy_protocol: setting.announced,
        };
        let other = Server {
            name: "vitess".into(),
            init: setting.init,
            ..server.clone()
        };
        let roles = Roles {
            primary: Arc::new(server),
            shadow: Arc::new(other),
        };
        let (roles_sender, roles) = watch::channel(roles);
        let (tee, receiver) = tee::door(setting.tee);
        let (opened, servers) = mpsc::channel(16);
        let opened = setting.primary_up.then_some(opened);
        let relay = Relay::new(RelayParts {
            listen: Listen {
                address: ([127, 0, 0, 1], 0).into(),
                tls: None,
                max_connections: setting.max_connections.into(),
                login_timeout: Duration::from_secs(10).into(),
                proxy_protocol_networks: setting.balancers,
                write_timeout: Duration::ZERO.into(),
                drain_timeout: Duration::from_secs(30).into(),
                handover: None,
                handover_time: Duration::ZERO.into(),
                threads: 1,
                command_bytes_max: setting.command_bytes_max,
            },
            copy_bytes_max: 16 << 20,
            sample_bytes: 64 << 10,
            roles,
            dial: Arc::new(Ends(opened, setting.pipe_bytes)),
            tee,
            offer: setting.offer.clone(),
            carry: setting.carry,
            threads: Vec::new(),
        });
        Self {
            relay: relay.unwrap(),
            receiver,
            offer: setting.offer,
            servers,
            pipe_bytes: setting.pipe_bytes,
            roles: roles_sender,
        }
    }

    /// A client that has just connected.
    pub(super) fn knock(&self) -> (End, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(self.pipe_bytes);
        let relay = self.relay.clone();
        let serving = crate::task::spawn("session", async move {
            relay
                .serve(Stream::Memory(near), ([127, 0, 0, 1], 9).into())
                .await;
        });
        (End(far), serving)
    }

    /// The primary's end of the connection opened last.
    pub(super) async fn server(&mut self) -> End {
        self.dialled().await.1
    }

    /// The same, and which server was dialled.
    pub(super) async fn dialled(&mut self) -> (String, End) {
        let (name, far) = self.servers.recv().await.unwrap();
        (name, End(far))
    }

    /// A client and a primary, logged in.
    pub(super) async fn session(&mut self) -> (End, End) {
        let (client, server, _) = self.session_of().await;
        (client, server)
    }

    /// The same, and which server was dialled.
    pub(super) async fn session_of(&mut self) -> (End, End, String) {
        let (mut client, _) = self.knock();
        let (name, mut server) = self.dialled().await;
        server.say(0, &greeting(SERVER)).await;
        client.hear().await;
        client.say(1, &login(CLIENT)).await;
        server.hear().await;
        server.say(2, &ok(2)).await;
        assert_eq!(client.hear().await, (2, ok(2)));
        (client, server, name)
    }

    /// A user's client and a primary of this version, logged in, and the connection's id that the
    /// client was told; `id`: the one that the server gave. The statements of an `init` are done.
    pub(super) async fn session_as(
        &mut self,
        user: &str,
        version: &str,
        id: u32,
    ) -> (End, End, u32) {
        let (mut client, _) = self.knock();
        let (name, mut server) = self.dialled().await;
        server.say(0, &greeting_of(version, id, SERVER)).await;
        let (_, greeting) = client.hear().await;
        let told = Greeting::parse(&greeting).unwrap().thread_id;
        client.say(1, &login_as(user, CLIENT)).await;
        server.hear().await;
        server.say(2, &ok(2)).await;
        let init = {
            let roles = self.roles.borrow();
            let primary = Arc::clone(&roles.primary);
            assert_eq!(name, primary.name);
            primary.init.len()
        };
        for _ in 0..init {
            server.hear().await;
            server.say(1, &ok(2)).await;
        }
        assert_eq!(client.hear().await, (2, ok(2)));
        (client, server, told)
    }

    /// Makes the shadow the primary.
    pub(super) fn flip(&self) {
        self.roles
            .send_modify(|roles| std::mem::swap(&mut roles.primary, &mut roles.shadow));
    }

    /// What was handed, as text: sequence number, command, outcome.
    pub(super) fn handed(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.receiver.try_recv())
            .map(|handed| describe(&handed))
            .collect()
    }
}

fn describe(handed: &Handed) -> String {
    match handed {
        Handed::Exchange(it) => {
            assert!(it.began <= it.sent && it.sent <= it.acked && it.first_byte <= it.acked);
            let text = String::from_utf8_lossy(it.command.get(1..).unwrap_or_default());
            let text: String = text.chars().take(20).collect();
            let transaction = if it.in_transaction_before {
                " in transaction"
            } else {
                ""
            };
            let answer = match (it.answered, it.answer.results.len(), it.answer.error()) {
                (false, ..) => "unanswered".to_owned(),
                (_, _, Some(failure)) => format!("error {}", failure.code),
                (_, 0, _) => "silent".to_owned(),
                (_, n, _) => format!("{n} result, {} rows", it.answer.rows()),
            };
            format!(
                "{} {:#04x} {text}: {answer}{transaction}",
                it.seq,
                it.kind().0
            )
        }
        Handed::Stub(it) => format!("{} stub", it.seq),
        Handed::Lost(_) => "lost".into(),
        Handed::Passed(_) => "passed by".into(),
        Handed::Closed { end, .. } => format!("{end:?}"),
    }
}

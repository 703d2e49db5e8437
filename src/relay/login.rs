//! From an accepted connection to two legs that are logged in. The client gets the primary's own
//! greeting and proves itself to the primary; the proxy edits capability bits and sequence
//! numbers in place, ends TLS on either leg, and keeps no user's password.

use super::Shared;
use super::auth::{Broken, Dialogue, needs_equal_legs};
use super::census::{Newcomer, Told};
use super::drain::Phase;
use super::gate;
use super::init;
use super::probe;
use super::refuse::{Refusal, close};
use crate::config::{ProxyProtocol, Server};
use crate::connect::{
    self, ConnectError, Packet, PacketReader, Stream, TlsContext, dial_for, shake_hands, write_one,
};
use crate::tee::{Facts, Share};
use crate::wire::capability::Capabilities;
use crate::wire::greeting::{Greeting, restrict, set_thread_id};
use crate::wire::login::{Login, SslRequest, set_capabilities};
use crate::wire::proxied::Addresses;
use crate::wire::reply;
use crate::wire::status::Status;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Capabilities that cannot be carried: they would change the form of packets in ways that the
/// scan does not read.
const NEVER: Capabilities = Capabilities::COMPRESS
    .with(Capabilities::ZSTD_COMPRESSION)
    .with(Capabilities::OPTIONAL_RESULTSET_METADATA)
    // MySQL's CLIENT_CAPABILITY_EXTENSION; MariaDB's progress reports.
    .with(Capabilities(1 << 29));

/// What a client may be offered, given what both servers can. Only what gives answers another form
/// must be common to both; the rest (LOCAL_FILES, IGNORE_SPACE, PS_MULTI_RESULTS …) is between the
/// client and the primary, and production would notice its absence.
pub(super) fn offerable(offer: Capabilities) -> Capabilities {
    let unshared = Capabilities::DIALECT.without(offer);
    Capabilities(u32::MAX)
        .without(unshared)
        .without(NEVER)
        .without(Capabilities::SSL)
}

/// Two legs in the command phase.
#[derive(Debug)]
pub(super) struct Legs {
    pub(super) client: Stream,
    pub(super) primary: Stream,
    pub(super) facts: Arc<Facts>,
    pub(super) newcomer: Newcomer,
    pub(super) status: Status,
    /// What the client sent behind its login.
    pub(super) ahead: Vec<u8>,
}

/// A primary that has greeted and heard nothing yet.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) server: Arc<Server>,
    pub(super) tls: TlsContext,
    pub(super) stream: Stream,
    pub(super) greeting: Greeting,
}

/// A client's login, and what the primary's leg needs to hear it.
struct Heard {
    client: Stream,
    packet: Packet,
    login: Login,
    greeted: Greeted,
    /// The connection's id that it was told.
    told: Told,
    /// What the client was offered.
    keep: Capabilities,
}

/// Logs a client in. `None` once it has been told why not and was closed.
pub(super) async fn relay(shared: &Arc<Shared>, client: Stream, ends: Addresses) -> Option<Legs> {
    if let Err(refusal) = wait_at_gate(shared).await {
        refusal.say(0, client).await;
        return None;
    }
    let deadline = Instant::now() + shared.limits.login_timeout.now();
    let server = Arc::clone(&shared.roles.borrow().primary);
    let (greeted, greeting) = match reach(shared, &server, Some(ends), deadline).await {
        Ok(reached) => reached,
        Err(unreached) => {
            unreached.tell(shared, client).await;
            return None;
        }
    };
    let heard = hear(shared, client, greeted, greeting, deadline).await?;
    let ready = prepare(shared, heard, deadline).await?;
    speak(shared, ready, ends, deadline).await
}

/// The ends of a client's connection, where a server will be told of them once more.
fn to_tell(shared: &Shared, ends: Addresses) -> Option<Arc<Addresses>> {
    let roles = shared.roles.borrow();
    let is_told = |server: &Server| server.proxy_protocol != ProxyProtocol::Off;
    (is_told(&roles.primary) || is_told(&roles.shadow)).then(|| Arc::new(ends))
}

/// While the gate holds, it is not known yet which server a new client is to be greeted by. The
/// wait is no part of the login's own time.
async fn wait_at_gate(shared: &Shared) -> Result<(), Refusal> {
    let deadline = Instant::now() + shared.limits.login_timeout.now();
    loop {
        let rung = shared.bell.rung();
        if !gate::holds(shared.gate.word_now()) {
            return Ok(());
        }
        if shared.drain.phase() != Phase::Running {
            return Err(Refusal::shutting_down());
        }
        if timeout_at(deadline, rung).await.is_err() {
            shared.counters.logins_held.add(1);
            let name = shared.roles.borrow().primary.name.clone();
            let why = "it is about to be changed for another, and new logins wait";
            return Err(Refusal::primary_down(&name, why));
        }
    }
}

/// Why the primary has not greeted.
pub(super) enum Unreached {
    Down(Refusal),
    /// It refused the connection: its own words, as it said them.
    Refused(Packet),
}

impl Unreached {
    async fn tell(self, shared: &Shared, mut client: Stream) {
        match self {
            Self::Down(refusal) => {
                shared.counters.primary_down.add(1);
                refusal.say(0, client).await;
            }
            Self::Refused(packet) => {
                shared.counters.logins_refused.add(1);
                if write_one(&mut client, &packet).await.is_ok() {
                    close(client, false).await;
                }
            }
        }
    }
}

/// Dials a server on behalf of a client, and hears its greeting.
pub(super) async fn reach(
    shared: &Shared,
    server: &Arc<Server>,
    client: Option<Addresses>,
    deadline: Instant,
) -> Result<(Greeted, Packet), Unreached> {
    let tls = shared
        .tls(server)
        .map_err(|error| Unreached::Down(Refusal::primary_tls(&error.to_string())))?;
    let down = |why: &str| Unreached::Down(Refusal::primary_down(&server.name, why));
    let deadline = deadline.min(Instant::now() + server.connect_timeout);
    let reaching = async {
        let mut stream = dial_for(&*shared.dial, server, client).await?;
        let packet = PacketReader::default().read(&mut stream).await?;
        Ok::<_, std::io::Error>((stream, packet))
    };
    let (stream, packet) = match timeout_at(deadline, reaching).await {
        Ok(Ok(reached)) => reached,
        Ok(Err(error)) => return Err(down(&error.to_string())),
        Err(_) => return Err(down("it does not answer in time")),
    };
    if reply::is_err(packet.payload()) {
        return Err(Unreached::Refused(packet));
    }
    let greeting = Greeting::parse(packet.payload()).map_err(|error| down(&error.to_string()))?;
    // Asked now, so that a config that cannot work is told before the client says anything.
    tls.choose(server, greeting.capabilities.has(Capabilities::SSL))
        .map_err(|error| Unreached::Down(Refusal::primary_tls(&error.to_string())))?;
    Ok((
        Greeted {
            server: Arc::clone(server),
            tls,
            stream,
            greeting,
        },
        packet,
    ))
}

/// Hears the client's login. A client that does not come to it must not count against the proxy
/// at the primary.
async fn hear(
    shared: &Arc<Shared>,
    client: Stream,
    greeted: Greeted,
    mut greeting: Packet,
    deadline: Instant,
) -> Option<Heard> {
    let keep = offerable(shared.offer());
    let id = greeted.greeting.thread_id;
    let told = shared.roster.tell(id);
    if told.id() != id {
        // What was parsed as a greeting has one.
        let _ = set_thread_id(greeting.payload_mut(), told.id());
    }
    let hearing = listen(shared, client, greeting, keep);
    let unheard = match timeout_at(deadline, hearing).await {
        Ok(Ok((client, packet, login))) => {
            return Some(Heard {
                client,
                packet,
                login,
                greeted,
                told,
                keep,
            });
        }
        Ok(Err(unheard)) => unheard,
        Err(_) => Unheard::Late,
    };
    probe::finish(shared, greeted);
    match unheard {
        Unheard::Left => shared.counters.probes.add(1),
        Unheard::Late => shared.counters.logins_timed_out.add(1),
        Unheard::Nonsense(client, seq) => {
            shared.counters.bad_logins.add(1);
            Refusal::bad_handshake().say(seq, *client).await;
        }
    }
    None
}

/// Why a client's login was not heard.
enum Unheard {
    Left,
    Late,
    Nonsense(Box<Stream>, u8),
}

/// Greets the client in the primary's words and hears its login, over TLS where it asks for it.
async fn listen(
    shared: &Shared,
    mut client: Stream,
    mut greeting: Packet,
    keep: Capabilities,
) -> Result<(Stream, Packet, Login), Unheard> {
    let offers_tls = shared.acceptor.is_some() && matches!(client, Stream::Tcp(_));
    let keep = if offers_tls {
        keep.with(Capabilities::SSL)
    } else {
        keep
    };
    // What was parsed as a greeting can be restricted.
    let _ = restrict(greeting.payload_mut(), keep);
    write_one(&mut client, &greeting)
        .await
        .map_err(|_| Unheard::Left)?;
    let mut packet = first_packet(&mut client).await?;
    if SslRequest::is(packet.payload()) {
        let seq = packet.seq().wrapping_add(1);
        let (true, Some(acceptor)) = (offers_tls, &shared.acceptor) else {
            return Err(Unheard::Nonsense(Box::new(client), seq));
        };
        let acceptor = acceptor.load_full();
        client = connect::accept(&acceptor, client)
            .await
            .map_err(|_| Unheard::Left)?;
        packet = first_packet(&mut client).await?;
    }
    match Login::parse(packet.payload()) {
        Ok(login) => Ok((client, packet, login)),
        Err(_) => Err(Unheard::Nonsense(
            Box::new(client),
            packet.seq().wrapping_add(1),
        )),
    }
}

async fn first_packet(client: &mut Stream) -> Result<Packet, Unheard> {
    // One that is too long is taken as a client that left: nothing can be said to it.
    PacketReader::default()
        .read(client)
        .await
        .map_err(|_| Unheard::Left)
}

/// A login that only has to be spoken.
struct Ready {
    client: Stream,
    primary: Stream,
    /// The client's login, edited for the primary's leg.
    packet: Packet,
    login: Login,
    greeting: Greeting,
    told: Told,
    server: Arc<Server>,
    asked: Capabilities,
    plugin: Vec<u8>,
    /// What the client's sequence numbers lack to be the primary's.
    shift: u8,
    /// The client leg's next sequence number.
    next_seq: u8,
}

/// Encrypts the primary's leg as its config says, and edits the login for it.
async fn prepare(shared: &Arc<Shared>, heard: Heard, deadline: Instant) -> Option<Ready> {
    let Heard {
        client,
        mut packet,
        login,
        greeted,
        told,
        keep,
    } = heard;
    let next_seq = packet.seq().wrapping_add(1);
    let named = login.auth_plugin.clone();
    let plugin = named.unwrap_or_else(|| greeted.greeting.auth_plugin.clone().into_bytes());
    let offered = greeted.greeting.capabilities.has(Capabilities::SSL);
    let config = greeted.tls.choose(&greeted.server, offered).ok().flatten();
    if client.is_tls() != config.is_some() && needs_equal_legs(&plugin, client.is_tls()) {
        shared.counters.logins_mixed.add(1);
        let plugin = String::from_utf8_lossy(&plugin);
        let refusal = Refusal::mixed_legs(&plugin, &greeted.server.name, client.is_tls());
        probe::finish(shared, greeted);
        refusal.say(next_seq, client).await;
        return None;
    }
    let mut asked = login.capabilities.and(keep);
    let Greeted {
        greeting,
        stream,
        server,
        ..
    } = greeted;
    let mut primary = stream;
    let mut seq = 1;
    if let Some(config) = config {
        asked = asked.with(Capabilities::SSL);
        let request = SslRequest {
            capabilities: asked,
            extended: 0,
            ..login.request()
        };
        let request = Packet::new(seq, &request.encode());
        let shaking = request_tls(primary, config, &server, &request);
        match timeout_at(deadline, shaking)
            .await
            .unwrap_or(Err(ConnectError::Timeout))
        {
            Ok(encrypted) => primary = encrypted,
            Err(error) => {
                tracing::warn!(primary = %server.name, %error, "a login failed");
                Refusal::primary_tls(&error.to_string())
                    .say(next_seq, client)
                    .await;
                return None;
            }
        }
        seq = 2;
    }
    let shift = u8::wrapping_sub(seq, packet.seq());
    packet.shift(shift);
    // What was parsed as a login can be edited.
    let _ = set_capabilities(packet.payload_mut(), asked);
    Some(Ready {
        client,
        primary,
        packet,
        login,
        greeting,
        told,
        server,
        asked,
        plugin,
        shift,
        next_seq,
    })
}

/// Asks a server for TLS, and shakes hands.
pub(super) async fn request_tls(
    mut primary: Stream,
    config: Arc<rustls::ClientConfig>,
    server: &Server,
    request: &Packet,
) -> Result<Stream, ConnectError> {
    write_one(&mut primary, request)
        .await
        .map_err(ConnectError::Broken)?;
    Ok(shake_hands(primary, config, server).await?)
}

/// Forwards the login and relays what follows, up to the primary's verdict.
async fn speak(
    shared: &Arc<Shared>,
    mut ready: Ready,
    ends: Addresses,
    deadline: Instant,
) -> Option<Legs> {
    let mut dialogue = Dialogue {
        client: &mut ready.client,
        primary: &mut ready.primary,
        from_client: PacketReader::default(),
        from_primary: PacketReader::default(),
        shift: ready.shift,
        plugin: std::mem::take(&mut ready.plugin),
        name: &ready.server.name,
        next_seq: ready.next_seq,
    };
    let relaying = async {
        write_one(dialogue.primary, &ready.packet)
            .await
            .map_err(Broken::Primary)?;
        dialogue.verdict().await
    };
    let verdict = timeout_at(deadline, relaying)
        .await
        .unwrap_or(Err(Broken::Late));
    let next_seq = dialogue.next_seq;
    let (ahead, _) = dialogue.into_ahead();
    match verdict {
        Ok(verdict) if reply::is_err(verdict.payload()) => {
            refuse(shared, ready.client, &verdict).await;
            None
        }
        Ok(verdict) => {
            let status = init(shared, &mut ready, &verdict, deadline).await;
            match status {
                Ok(status) => {
                    let client = to_tell(shared, ends);
                    conclude(shared, ready, &verdict, (status, client), ahead).await
                }
                Err(refusal) => {
                    shared.counters.logins_refused.add(1);
                    refusal.say(verdict.seq(), ready.client).await;
                    None
                }
            }
        }
        Err(broken) => {
            probe::soothe(shared, &ready.server);
            let (refusal, seq) = broken.refusal(&shared.counters, &ready.server.name, next_seq)?;
            refusal.say(seq, ready.client).await;
            None
        }
    }
}

/// Passes the primary's refusal on.
async fn refuse(shared: &Shared, mut client: Stream, verdict: &Packet) {
    shared.counters.logins_refused.add(1);
    if write_one(&mut client, verdict).await.is_ok() {
        close(client, false).await;
    }
}

/// Runs what the config wants on every connection of this server; the status flags after it.
async fn init(
    shared: &Shared,
    ready: &mut Ready,
    verdict: &Packet,
    deadline: Instant,
) -> Result<Status, Refusal> {
    let agreed = ready.agreed();
    let told = reply::parse_ok(verdict.payload(), agreed).map(|done| done.status);
    let told = told.unwrap_or_default();
    let server = Arc::clone(&ready.server);
    let ran = init::again(shared, &mut ready.primary, &server, agreed, deadline);
    Ok(ran.await?.unwrap_or(told))
}

impl Ready {
    /// What client and primary agreed on.
    fn agreed(&self) -> Capabilities {
        self.asked
            .and(self.greeting.capabilities)
            .without(Capabilities::SSL)
    }
}

/// Passes the primary's grant on.
async fn conclude(
    shared: &Shared,
    mut ready: Ready,
    verdict: &Packet,
    (status, client): (Status, Option<Arc<Addresses>>),
    ahead: Vec<u8>,
) -> Option<Legs> {
    // A client that has gone is found out by the pump.
    let _ = write_one(&mut ready.client, verdict).await;
    shared.counters.logins.add(1);
    let agreed = ready.agreed();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let facts = Facts {
        session: shared.next_session(),
        login: 0,
        user: text(&ready.login.user),
        database: text(ready.login.database.as_deref().unwrap_or_default()),
        capabilities: agreed,
        collation: u16::from(ready.login.collation),
        primary: Arc::from(ready.server.name.as_str()),
        thread_id: ready.told.id(),
        client,
        share: Arc::new(Share::default()),
    };
    let newcomer = Newcomer {
        told: Some(ready.told),
        thread_id: ready.greeting.thread_id,
        vitess: ready.greeting.is_vitess(),
    };
    Some(Legs {
        client: ready.client,
        primary: ready.primary,
        facts: Arc::new(facts),
        newcomer,
        status,
        ahead,
    })
}

//! CHANGE_USER: a login in the middle of a session. It is relayed on the session's own connection;
//! where the server is a vtgate, which does not know the command, over a new one, to whose nonce the
//! client is asked to answer. After it the session is as fresh as after a login, and has what the
//! server's `init` sets; the client's id of its connection stays what it was told first.

use super::Shared;
use super::auth::{Broken, Dialogue, needs_equal_legs};
use super::book::Flight;
use super::init;
use super::login::{Greeted, Unreached, reach, request_tls};
use super::own::{InHand, ended, go_on, say};
use super::pump::Pump;
use super::refuse::Refusal;
use crate::connect::{Packet, PacketReader, Stream, write_one};
use crate::tee::{End, Facts};
use crate::wire::capability::Capabilities;
use crate::wire::login::{AUTH_SWITCH, ChangeUser, Login};
use crate::wire::reply;
use crate::wire::status::Status;
use std::sync::Arc;
use tokio::time::{Instant, timeout, timeout_at};

/// What a server names that names no plugin.
const NATIVE: &[u8] = b"mysql_native_password";

/// The collation for one whose number a login has no room for: utf8mb4_0900_ai_ci.
const UTF8MB4: u8 = 255;

/// A client's largest packet, which nobody tells at a change of user; servers go by their own.
const MAX_PACKET: u32 = 1 << 30;

/// Relays the login on the session's own connection, then goes on with the new facts.
pub(super) async fn relay(shared: &Arc<Shared>, pump: &mut Pump) -> Result<(), End> {
    let Some(mut flight) = pump.book.take_first() else {
        return Ok(());
    };
    let facts = Arc::clone(pump.book.facts());
    let renewed = renewed(&facts, &flight.exchange.command);
    let (up, down) = pump.take_unseen();
    let mut dialogue = Dialogue {
        client: &mut pump.client,
        primary: &mut pump.primary,
        from_client: PacketReader::with_ahead(up),
        from_primary: PacketReader::with_ahead(down),
        shift: 0,
        plugin: renewed
            .as_ref()
            .map(|(_, plugin)| plugin.clone())
            .unwrap_or_default(),
        name: &facts.primary,
        next_seq: 1,
    };
    let verdict = tokio::select! {
        biased;
        // Who is in the middle of a login cannot be held.
        refusal = ended(shared) => Err(Broken::Ended(refusal)),
        verdict = timeout(shared.limits.login_timeout.now(), dialogue.verdict()) => {
            verdict.unwrap_or(Err(Broken::Late))
        }
    };
    let next_seq = dialogue.next_seq;
    let (up, down) = dialogue.into_ahead();
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(broken) => return Err(broke(shared, pump, flight, broken, next_seq).await),
    };
    let granted = flight.is_answered(&verdict, facts.capabilities);
    let mut status = None;
    if granted {
        let deadline = Instant::now() + shared.limits.login_timeout.now();
        let server = shared.server(&facts.primary);
        let capabilities = facts.capabilities;
        let ran = init::again(shared, &mut pump.primary, &server, capabilities, deadline);
        match ran.await {
            Ok(told) => status = told,
            Err(refusal) => {
                pump.book.hand(flight, Instant::now(), false);
                return Err(say(pump, &refusal, verdict.seq()).await);
            }
        }
    }
    pump.book.hand(flight, Instant::now(), true);
    match renewed {
        Some((renewed, _)) if granted => pump.renew(Arc::new(renewed), status),
        None if granted => pump.become_tunnel("a change of user that cannot be read"),
        Some(_) | None => {}
    }
    write_one(&mut pump.client, &verdict)
        .await
        .map_err(|_| End::Vanished)?;
    pump.book.ring();
    pump.put_unseen(&up, &down);
    Ok(())
}

/// Hands what came to no verdict, and tells the client why.
async fn broke(
    shared: &Shared,
    pump: &mut Pump,
    flight: Flight,
    broken: Broken,
    next_seq: u8,
) -> End {
    pump.book.hand(flight, Instant::now(), false);
    let name = Arc::clone(&pump.book.facts().primary);
    match broken.refusal(&shared.counters, &name, next_seq) {
        Some((refusal, seq)) => say(pump, &refusal, seq).await,
        None => End::Vanished,
    }
}

/// What the session's facts are if the primary grants the change; the plugin that it begins with.
fn renewed(facts: &Facts, command: &[u8]) -> Option<(Facts, Vec<u8>)> {
    let change = ChangeUser::parse(command, facts.capabilities).ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let renewed = Facts {
        session: facts.session,
        login: facts.login.saturating_add(1),
        user: text(change.user),
        database: text(change.database),
        capabilities: facts.capabilities,
        collation: change.collation.unwrap_or(facts.collation),
        primary: Arc::clone(&facts.primary),
        thread_id: facts.thread_id,
        client: facts.client.clone(),
        share: Arc::clone(&facts.share),
    };
    Some((renewed, change.auth_plugin.to_vec()))
}

/// A login over a new connection that came to a verdict.
struct Judged {
    verdict: Packet,
    leg: Stream,
    thread_id: u32,
    /// The status flags after the statements of its `init`, where there are any.
    status: Option<Status>,
}

/// Logs in over a new connection, and goes on with that. As after a refused change of user on a
/// MySQL the session ends where it fails.
pub(super) async fn by_new_leg(
    shared: &Arc<Shared>,
    pump: &mut Pump,
    mut hand: InHand,
) -> Result<(), End> {
    let facts = Arc::clone(pump.book.facts());
    let mut flight = pump.book.flight(hand.packet.payload(), hand.began);
    // What the session has open ends with the command, as on a MySQL, whatever comes of it.
    pump.leave();
    let deadline = Instant::now() + shared.limits.login_timeout.now();
    let mut next_seq = hand.packet.seq().wrapping_add(1);
    let judging = judge(shared, pump, &facts, &mut hand, deadline, &mut next_seq);
    let judged = tokio::select! {
        biased;
        refusal = ended(shared) => Err(Broken::Ended(refusal)),
        judged = timeout_at(deadline, judging) => judged.unwrap_or(Err(Broken::Late)),
    };
    let judged = match judged {
        Ok(judged) => judged,
        Err(broken) => return Err(broke(shared, pump, flight, broken, next_seq).await),
    };
    let granted = flight.is_answered(&judged.verdict, facts.capabilities);
    let renewed = renewed(&facts, hand.packet.payload());
    let Some((renewed, _)) = renewed.filter(|_| granted) else {
        pump.book.hand(flight, Instant::now(), true);
        let _ = write_one(&mut pump.client, &judged.verdict).await;
        return Err(End::Vanished);
    };
    pump.enter(judged.leg, judged.thread_id);
    // The command is the last of the login before, its answer the first of the new one.
    pump.book.hand(flight, Instant::now(), true);
    pump.renew(Arc::new(renewed), judged.status);
    write_one(&mut pump.client, &judged.verdict)
        .await
        .map_err(|_| End::Vanished)?;
    go_on(pump, hand);
    Ok(())
}

/// The login over a new connection, up to its verdict, which is not sent yet. `next_seq`: with which
/// number the client hears what comes next.
async fn judge(
    shared: &Arc<Shared>,
    pump: &mut Pump,
    facts: &Facts,
    hand: &mut InHand,
    deadline: Instant,
    next_seq: &mut u8,
) -> Result<Judged, Broken> {
    let refused = |refusal: Refusal, seq: u8| Broken::Refused(refusal, seq);
    let change = ChangeUser::parse(hand.packet.payload(), facts.capabilities)
        .map_err(|_| refused(Refusal::bad_handshake(), *next_seq))?;
    let server = shared.server(&facts.primary);
    let greeted = match reach(shared, &server, facts.client.as_deref().copied(), deadline).await {
        Ok((greeted, _)) => greeted,
        Err(unreached) => return Err(refused(unreachable(shared, unreached), *next_seq)),
    };
    let thread_id = greeted.greeting.thread_id;
    let switch = switch(facts, pump.client.is_tls(), &greeted);
    let (plugin, switch) = switch.map_err(|refusal| refused(refusal, *next_seq))?;
    let encrypted = encrypt(facts, greeted).await.map_err(Broken::Primary)?;
    let Encrypted {
        mut leg,
        asked,
        seq,
    } = encrypted;
    write_one(&mut pump.client, &Packet::new(*next_seq, &switch))
        .await
        .map_err(|_| Broken::Client)?;
    let proof = hand.client.read(&mut pump.client).await;
    let proof = proof.map_err(|_| Broken::Client)?;
    if proof.seq() != next_seq.wrapping_add(1) {
        // A command that it sent ahead: whoever is asked for a proof must say that first.
        return Err(Broken::Client);
    }
    *next_seq = proof.seq().wrapping_add(1);
    let login = login(facts, &change, asked, &plugin, proof.payload());
    write_one(&mut leg, &Packet::new(seq, &login.encode()))
        .await
        .map_err(Broken::Primary)?;
    let mut dialogue = Dialogue {
        client: &mut pump.client,
        primary: &mut leg,
        from_client: std::mem::take(&mut hand.client),
        from_primary: PacketReader::default(),
        shift: seq.wrapping_sub(proof.seq()),
        plugin,
        name: &facts.primary,
        next_seq: *next_seq,
    };
    let verdict = dialogue.verdict().await;
    *next_seq = dialogue.next_seq;
    hand.client = PacketReader::with_ahead(dialogue.into_ahead().0);
    let verdict = verdict?;
    let mut status = None;
    if !reply::is_err(verdict.payload()) {
        let ran = init::again(shared, &mut leg, &server, facts.capabilities, deadline);
        status = ran
            .await
            .map_err(|refusal| refused(refusal, verdict.seq()))?;
    }
    Ok(Judged {
        verdict,
        leg,
        thread_id,
        status,
    })
}

fn unreachable(shared: &Shared, unreached: Unreached) -> Refusal {
    match unreached {
        Unreached::Down(refusal) => {
            shared.counters.primary_down.add(1);
            refusal
        }
        Unreached::Refused(packet) => Refusal::of(&reply::parse_err(packet.payload())),
    }
}

/// The plugin that a server greets with, and the demand that the client answer to its nonce.
fn switch(
    facts: &Facts,
    client_tls: bool,
    greeted: &Greeted,
) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    let greeting = &greeted.greeting;
    let named = greeting.auth_plugin.as_bytes();
    let plugin = if named.is_empty() { NATIVE } else { named };
    if !facts.capabilities.has(Capabilities::PLUGIN_AUTH) {
        return Err(Refusal::old_client());
    }
    let offered = greeting.capabilities.has(Capabilities::SSL);
    let server_tls = matches!(greeted.tls.choose(&greeted.server, offered), Ok(Some(_)));
    if client_tls != server_tls && needs_equal_legs(plugin, client_tls) {
        let plugin = String::from_utf8_lossy(plugin);
        return Err(Refusal::mixed_legs(
            &plugin,
            &greeted.server.name,
            client_tls,
        ));
    }
    let dialect = facts.capabilities.and(Capabilities::DIALECT);
    if dialect.without(greeting.capabilities) != Capabilities::default() {
        let why = "it cannot speak what it could when this session began";
        return Err(Refusal::primary_down(&greeted.server.name, why));
    }
    let demand = [&[AUTH_SWITCH], plugin, &[0], &greeting.nonce, &[0]].concat();
    Ok((plugin.to_vec(), demand))
}

/// A server that waits for a login.
struct Encrypted {
    leg: Stream,
    /// What to ask it for.
    asked: Capabilities,
    /// The login's sequence number.
    seq: u8,
}

async fn encrypt(facts: &Facts, greeted: Greeted) -> std::io::Result<Encrypted> {
    let offered = greeted.greeting.capabilities.has(Capabilities::SSL);
    // It was asked when the server was reached.
    let config = greeted.tls.choose(&greeted.server, offered).ok().flatten();
    let Some(config) = config else {
        return Ok(Encrypted {
            leg: greeted.stream,
            asked: facts.capabilities,
            seq: 1,
        });
    };
    let asked = facts.capabilities.with(Capabilities::SSL);
    let request = Login {
        capabilities: asked,
        max_packet: MAX_PACKET,
        collation: u8::try_from(facts.collation).unwrap_or(greeted.greeting.collation),
        ..Login::default()
    };
    let request = Packet::new(1, &request.request().encode());
    let leg = request_tls(greeted.stream, config, &greeted.server, &request)
        .await
        .map_err(std::io::Error::other)?;
    Ok(Encrypted { leg, asked, seq: 2 })
}

/// The login that does what the change of user was to do.
fn login(
    facts: &Facts,
    change: &ChangeUser<'_>,
    asked: Capabilities,
    plugin: &[u8],
    proof: &[u8],
) -> Login {
    let collation = change.collation.unwrap_or(facts.collation);
    let named = if change.database.is_empty() {
        Capabilities::default()
    } else {
        Capabilities::CONNECT_WITH_DB
    };
    let asked = asked
        .without(Capabilities::CONNECT_WITH_DB)
        .without(Capabilities::CONNECT_ATTRS);
    Login {
        capabilities: asked.with(named),
        max_packet: MAX_PACKET,
        collation: u8::try_from(collation).unwrap_or(UTF8MB4),
        user: change.user.to_vec(),
        auth_response: proof.to_vec(),
        database: Some(change.database.to_vec()),
        auth_plugin: Some(plugin.to_vec()),
        ..Login::default()
    }
}

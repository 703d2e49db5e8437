//! Commands that the proxy takes in hand, each told by its first bytes: a KILL, which may name an id
//! that the server does not know; CHANGE_USER, which a vtgate does not know; RESET_CONNECTION, after
//! which the statements of a server's `init` are due again; and an execution of what the server could
//! not prepare. All others pass through.
//!
//! Such a command waits until all before it have been answered, and what follows waits for it.

use super::Shared;
use super::anew;
use super::book::Flight;
use super::drain::Phase;
use super::init;
use super::kills::{self, Sentence};
use super::pump::Pump;
use super::refuse::Refusal;
use super::statements::{StandIn, Statements};
use crate::connect::{Packet, PacketReader, write_one};
use crate::tee::End;
use crate::wire::HEADER_LEN;
use crate::wire::answer::Done;
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::kill::{self, Beginning, Kill, Victim};
use crate::wire::reply;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::{Instant, timeout};

/// What a command's first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// It passes through.
    Through,
    /// It is the proxy's.
    Own,
    /// Too few bytes to tell.
    Cut,
}

/// What makes a command of a session the proxy's. HOT PATH: while ids are the servers' own and no
/// server needs more, a look is one relaxed load and three compares.
#[derive(Debug)]
pub(super) struct Own {
    /// A client of the relay may know another id than its server's.
    ids_differ: Arc<AtomicBool>,
    /// The server is a vtgate.
    vitess: bool,
    /// The server has statements that every connection begins with.
    init: bool,
    capabilities: Capabilities,
}

impl Own {
    pub(super) const fn new(
        ids_differ: Arc<AtomicBool>,
        capabilities: Capabilities,
        (vitess, init): (bool, bool),
    ) -> Self {
        Self {
            ids_differ,
            vitess,
            init,
            capabilities,
        }
    }

    /// Another server answers from here on.
    pub(super) const fn take_over(&mut self, vitess: bool, init: bool) {
        self.vitess = vitess;
        self.init = init;
    }

    /// Looks at the first bytes of a command, its header included.
    pub(super) fn look(&self, piece: &[u8], statements: Option<&Statements>) -> Ahead {
        let kills = self.ids_differ.load(Ordering::Relaxed);
        let stand_ins = statements.filter(|statements| statements.has_stand_ins());
        if !kills && !self.init && stand_ins.is_none() {
            return Ahead::Through;
        }
        self.look_closer(piece, kills, stand_ins)
    }

    fn look_closer(&self, piece: &[u8], kills: bool, stand_ins: Option<&Statements>) -> Ahead {
        let Some(kind) = piece.get(HEADER_LEN) else {
            return if piece.starts_with(&[0, 0, 0]) && piece.len() == HEADER_LEN {
                Ahead::Through
            } else {
                Ahead::Cut
            };
        };
        match Command(*kind) {
            Command::QUERY | Command::PROCESS_KILL if kills => {
                match kill::begins(piece, self.capabilities) {
                    Beginning::Other => Ahead::Through,
                    Beginning::Kill => Ahead::Own,
                    Beginning::Short => Ahead::Cut,
                }
            }
            Command::CHANGE_USER if self.vitess => Ahead::Own,
            Command::RESET_CONNECTION if self.init => Ahead::Own,
            Command::STMT_EXECUTE | Command::STMT_RESET => {
                stand_ins.map_or(Ahead::Through, |all| look_for_stand_in(piece, all))
            }
            _ => Ahead::Through,
        }
    }
}

fn look_for_stand_in(piece: &[u8], all: &Statements) -> Ahead {
    let id = piece.get(HEADER_LEN.saturating_add(1)..);
    let whole = match piece {
        [len, 0, 0, ..] => *len >= 5,
        _ => true,
    };
    match id.and_then(|id| id.first_chunk::<4>()) {
        Some(id) if all.stand_in(u32::from_le_bytes(*id)).is_some() => Ahead::Own,
        None if whole => Ahead::Cut,
        Some(_) | None => Ahead::Through,
    }
}

/// A command in hand.
#[derive(Debug)]
pub(super) struct InHand {
    /// The command, or its first packet.
    pub(super) packet: Packet,
    /// When it was taken in hand.
    pub(super) began: Instant,
    /// What the client sent behind it.
    pub(super) client: PacketReader,
    /// What the server sent unasked.
    down: Vec<u8>,
}

/// Deals with the command that waits. Not on the hot path; its future is boxed by its caller.
pub(super) async fn deal(shared: &Arc<Shared>, pump: &mut Pump) -> Result<(), End> {
    let began = Instant::now();
    let (up, down) = pump.take_unseen();
    let mut client = PacketReader::with_ahead(up);
    let reading = timeout(
        shared.limits.login_timeout.now(),
        client.read(&mut pump.client),
    );
    let packet = tokio::select! {
        biased;
        refusal = ended(shared) => return Err(say(pump, &refusal, 1).await),
        read = reading => read,
    };
    let Ok(Ok(packet)) = packet else {
        // It left in the middle of a command, or takes longer for a short one than for a login.
        return Err(End::Vanished);
    };
    pump.book.is_in_hand();
    let hand = InHand {
        packet,
        began,
        client,
        down,
    };
    let dealing = async {
        match hand.packet.first().map(Command) {
            Some(Command::CHANGE_USER) => anew::by_new_leg(shared, pump, hand).await,
            Some(Command::RESET_CONNECTION) => reset(shared, pump, hand).await,
            Some(Command::STMT_EXECUTE | Command::STMT_RESET) => stand_in(pump, hand).await,
            _ => kill(shared, pump, hand).await,
        }
    };
    tokio::select! {
        biased;
        done = dealing => done,
        // What it does says so where it can; a client that does not read cannot be told.
        _ = ended(shared) => Err(End::Vanished),
    }
}

/// Resolves once the session is to end whatever it is in the middle of.
///
/// Cancel-safe.
pub(super) async fn ended(shared: &Shared) -> Refusal {
    let cut = async {
        loop {
            let rung = shared.bell.rung();
            if shared.drain.phase() == Phase::Cut {
                return;
            }
            rung.await;
        }
    };
    tokio::select! {
        why = shared.gate.ended() => {
            shared.counters.ended.add(1);
            Refusal::ended(&why)
        }
        () = cut => {
            shared.counters.drain_cut.add(1);
            Refusal::shutting_down()
        }
    }
}

/// Tells the client the last that it hears.
pub(super) async fn say(pump: &mut Pump, refusal: &Refusal, seq: u8) -> End {
    let _ = write_one(&mut pump.client, &refusal.as_packet(seq)).await;
    End::Vanished
}

/// Goes on with what the client sent behind the command.
pub(super) fn go_on(pump: &mut Pump, hand: InHand) {
    let InHand { client, down, .. } = hand;
    pump.book.ring();
    pump.put_unseen(&client.into_ahead(), &down);
}

/// Passes a command on in the place of the one in hand: the same, or another.
fn pass_on(pump: &mut Pump, hand: InHand, packet: &Packet) {
    let InHand { client, down, .. } = hand;
    let ahead = client.into_ahead();
    pump.book.pass_next();
    pump.put_unseen(&[packet.bytes(), &ahead].concat(), &down);
}

/// Answers a command in the server's place.
async fn answer(pump: &mut Pump, hand: InHand, answer: &Packet) -> Result<(), End> {
    let mut flight = pump.book.flight(hand.packet.payload(), hand.began);
    let capabilities = pump.book.facts().capabilities;
    flight.is_answered(answer, capabilities);
    hand_over(pump, flight, answer, hand).await
}

/// Hands a command and its answer, then tells the client the answer.
pub(super) async fn hand_over(
    pump: &mut Pump,
    flight: Flight,
    answer: &Packet,
    hand: InHand,
) -> Result<(), End> {
    pump.book.hand(flight, Instant::now(), true);
    let written = write_one(&mut pump.client, answer).await;
    go_on(pump, hand);
    written.map_err(|_| End::Vanished)
}

fn ok(pump: &Pump, seq: u8) -> Packet {
    let mut bytes = Vec::new();
    let done = Done {
        status: pump.book.status(),
        ..Done::default()
    };
    reply::write_ok(&mut bytes, seq, done);
    Packet::from_bytes(bytes)
}

async fn kill(shared: &Arc<Shared>, pump: &mut Pump, hand: InHand) -> Result<(), End> {
    let facts = Arc::clone(pump.book.facts());
    let seq = hand.packet.seq().wrapping_add(1);
    let Some(kill) = Kill::parse(hand.packet.payload(), facts.capabilities) else {
        let packet = hand.packet.clone();
        pass_on(pump, hand, &packet);
        return Ok(());
    };
    let is_vitess = pump.seat().is_vitess();
    match kills::judge(shared, &facts, is_vitess, &kill) {
        Sentence::Through => {
            let packet = hand.packet.clone();
            pass_on(pump, hand, &packet);
            Ok(())
        }
        Sentence::Server(id) => {
            let payload = kill.with_id(hand.packet.payload(), id);
            let packet = Packet::new(hand.packet.seq(), &payload);
            pass_on(pump, hand, &packet);
            Ok(())
        }
        Sentence::Done => {
            let ok = ok(pump, seq);
            answer(pump, hand, &ok).await
        }
        Sentence::Oneself(victim) => {
            let refusal = Refusal::interrupted().as_packet(seq);
            answer(pump, hand, &refusal).await?;
            match victim {
                Victim::Query => Ok(()),
                Victim::Connection => Err(End::Vanished),
            }
        }
        Sentence::Refused(refusal) => answer(pump, hand, &refusal.as_packet(seq)).await,
    }
}

/// Runs what stands in for a statement that the server could not prepare.
async fn stand_in(pump: &mut Pump, hand: InHand) -> Result<(), End> {
    let seq = hand.packet.seq().wrapping_add(1);
    let id = hand.packet.payload().get(1..).and_then(<[u8]>::first_chunk);
    let id = id.map(|id| u32::from_le_bytes(*id)).unwrap_or_default();
    let stands_in = pump.book.stand_in(id);
    match stands_in {
        // It has neither long data nor a cursor.
        Some(_) if hand.packet.first() == Some(Command::STMT_RESET.0) => {
            let ok = ok(pump, seq);
            answer(pump, hand, &ok).await
        }
        Some(StandIn::Text(text)) => {
            let attributes = pump
                .book
                .facts()
                .capabilities
                .has(Capabilities::QUERY_ATTRIBUTES);
            // None of them, in one set.
            let head: &[u8] = if attributes { &[0, 1] } else { &[] };
            let payload = [&[Command::QUERY.0], head, &text].concat();
            let packet = Packet::new(hand.packet.seq(), &payload);
            pass_on(pump, hand, &packet);
            Ok(())
        }
        Some(StandIn::Error(failure)) => {
            let refusal = Refusal::of(&failure).as_packet(seq);
            answer(pump, hand, &refusal).await
        }
        None => {
            let packet = hand.packet.clone();
            pass_on(pump, hand, &packet);
            Ok(())
        }
    }
}

/// Resets the session on its server, and has it begin as every connection of that server does.
async fn reset(shared: &Arc<Shared>, pump: &mut Pump, hand: InHand) -> Result<(), End> {
    let facts = Arc::clone(pump.book.facts());
    let mut flight = pump.book.flight(hand.packet.payload(), hand.began);
    let asking = async {
        write_one(&mut pump.primary, &hand.packet).await?;
        let mut reader = PacketReader::default();
        reader.read(&mut pump.primary).await
    };
    let verdict = tokio::select! {
        biased;
        refusal = ended(shared) => Err(refusal),
        verdict = asking => verdict.map_err(|error| {
            shared.counters.primary_lost.add(1);
            tracing::warn!(primary = %facts.primary, %error, "the primary broke a reset off");
            Refusal::primary_lost(&facts.primary)
        }),
    };
    let seq = hand.packet.seq().wrapping_add(1);
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(refusal) => {
            pump.book.hand(flight, Instant::now(), false);
            return Err(say(pump, &refusal, seq).await);
        }
    };
    let granted = flight.is_answered(&verdict, facts.capabilities);
    if granted {
        let deadline = Instant::now() + shared.limits.login_timeout.now();
        let server = shared.server(&facts.primary);
        let ran = init::again(
            shared,
            &mut pump.primary,
            &server,
            facts.capabilities,
            deadline,
        );
        match ran.await {
            Ok(status) => {
                // The answer first: it ends a transaction that is open.
                pump.book.hand(flight, Instant::now(), true);
                pump.book.was_reset(status);
                let written = write_one(&mut pump.client, &verdict).await;
                go_on(pump, hand);
                return written.map_err(|_| End::Vanished);
            }
            Err(refusal) => {
                pump.book.hand(flight, Instant::now(), false);
                return Err(say(pump, &refusal, seq).await);
            }
        }
    }
    hand_over(pump, flight, &verdict, hand).await
}

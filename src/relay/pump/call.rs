//! How a session answers the gate: it settles with the gate's word, or gives its primary away at
//! a boundary and goes on as it is told, or ends. Nothing here is run for a session that has
//! settled.

use super::super::carry::{Held, Leg, part_with};
use super::super::census::Seat;
use super::super::gate::{self, Gate};
use super::super::refuse::Refusal;
use super::{Event, Pump};
use crate::connect::Stream;
use crate::tee::{End, Facts};
use crate::wire::kill::Victim;
use crate::wire::status::Status;
use std::sync::Arc;
use std::task::Context;

/// How the session stands with the gate.
#[derive(Debug)]
pub(super) struct Call {
    /// The word that was settled: held and gone on with, or no concern of this session's.
    pub(super) settled: u32,
    /// The word heard last.
    heard: u32,
    /// The word heard last is not settled.
    pub(super) open: bool,
    /// With this word, the session goes on for one command behind this one.
    once: Option<(u32, u64)>,
}

impl Call {
    /// A session that settled with this word.
    pub(super) const fn new(settled: u32) -> Self {
        Self {
            settled,
            heard: settled,
            open: false,
            once: None,
        }
    }
}

impl Pump {
    /// The first look at the gate, before anything of the client is read.
    pub(in crate::relay) fn look_at_gate(
        &mut self,
        gate: &Gate,
        context: &mut Context<'_>,
    ) -> Option<Event> {
        let word = gate.word_now();
        self.call.open = word != self.call.settled;
        if self.call.open {
            self.hear_call(word, gate, context)
        } else {
            None
        }
    }

    /// The gate's word is not the one that was settled: settles with it, or is held, or ends, or
    /// goes on until it can be held.
    #[cold]
    pub(super) fn hear_call(
        &mut self,
        word: u32,
        gate: &Gate,
        context: &mut Context<'_>,
    ) -> Option<Event> {
        self.call.heard = word;
        if gate::are_one(word, self.call.settled) {
            self.settle();
            return None;
        }
        self.seat.answer(self.book.in_transaction());
        self.seat.stands(self.book.is_idle(), self.book.seq());
        let holds = gate::holds(word);
        if !holds && (self.is_tunnel() || gate.is_primary(&self.book.facts().primary)) {
            self.settle();
            return None;
        }
        if !self.has_one_more() && self.is_at_boundary() {
            return Some(Event::Held);
        }
        let why = gate.ending().filter(|_| holds)?;
        Some(self.end_now(&why, context))
    }

    fn settle(&mut self) {
        self.call.settled = self.call.heard;
        self.call.open = false;
        self.call.once = None;
    }

    /// The session may go on for one command, and has not begun it.
    fn has_one_more(&self) -> bool {
        self.call.once == Some((self.call.heard, self.book.seq())) && self.book.is_idle()
    }

    /// Between two transactions, with nothing on its way in either direction.
    fn is_at_boundary(&self) -> bool {
        self.is_quiet() && !self.up.has_ended() && !self.book.has_quit()
    }

    /// Whether the client's next command is for the gate to let in. One of which a part has been read
    /// has begun.
    pub(super) fn waits_at_gate(&self) -> bool {
        self.up.is_empty()
            && !self.book.is_mid_command()
            && !self.book.in_transaction()
            && !self.has_one_more()
    }

    /// Ends a session that cannot be held, as far as can be said at once.
    fn end_now(&mut self, why: &str, context: &mut Context<'_>) -> Event {
        if !self.is_ending() {
            // Counted by whoever ended it.
            self.counters.ended.add(1);
        }
        let seq = match self.book.awaits_answer() {
            true => self.book.next_answer_seq(),
            false if self.book.is_mid_command() => Some(self.book.refused_seq()),
            false => Some(1),
        };
        self.say_last(&Refusal::ended(why), seq, context)
    }

    /// Another's KILL: ends the command that runs, and the session with it, as the server goes on with
    /// the command and would still answer it. Where nothing runs, a KILL QUERY means nothing.
    #[cold]
    pub(super) fn be_killed(&mut self, context: &mut Context<'_>) -> Option<Event> {
        match self.seat.summons().take()? {
            Victim::Connection => Some(Event::Over(End::Vanished)),
            Victim::Query if self.is_tunnel() => Some(Event::Over(End::Vanished)),
            Victim::Query if !self.book.awaits_answer() => None,
            Victim::Query => {
                let seq = self.book.next_answer_seq();
                Some(self.say_last(&Refusal::interrupted(), seq, context))
            }
        }
    }

    /// Says the last that the client hears, where it can still be said, and ends. A goodbye that was
    /// about to be said comes first.
    fn say_last(&mut self, last: &Refusal, seq: Option<u8>, context: &mut Context<'_>) -> Event {
        let silent = self.is_tunnel() || self.closing || !self.down.is_empty();
        let goodbye = self.goodbye.take().filter(|_| !self.book.awaits_answer());
        let packet = goodbye.or_else(|| seq.map(|seq| last.packet(seq)));
        if let Some(packet) = packet.filter(|_| !silent) {
            self.down.put(&packet);
            self.down.clear_all();
            // A client that does not read is not waited for.
            let _ = self.down.poll_drain(&mut self.client, context);
        }
        Event::Over(End::Vanished)
    }

    /// Whether the session ends once what is on its way has gone.
    pub(in crate::relay) fn is_ending(&self) -> bool {
        self.closing || self.goodbye.is_some()
    }

    pub(in crate::relay) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Gives the primary away. Only at a boundary.
    pub(in crate::relay) fn part(&mut self) -> Held {
        Held {
            facts: Arc::clone(self.book.facts()),
            seq: self.book.seq(),
            status: self.book.status(),
            primary: std::mem::replace(&mut self.primary, Stream::gone()),
            thread_id: self.seat.thread_id(),
            statements: self.book.statements(),
        }
    }

    /// Goes on with the primary that was given away.
    pub(in crate::relay) fn go_back(&mut self, primary: Stream) {
        self.primary = primary;
        self.settle();
    }

    /// Goes on for one command with the primary that was given away.
    pub(in crate::relay) fn go_once(&mut self, primary: Stream) {
        self.primary = primary;
        self.call.once = Some((self.call.heard, self.book.seq()));
    }

    /// Goes on with another primary. `has_init`: whether its connections begin with statements.
    pub(in crate::relay) fn go_over(&mut self, leg: Leg, has_init: bool) {
        let was = self.book.facts();
        let facts = Arc::new(Facts {
            session: was.session,
            login: was.login,
            user: was.user.clone(),
            database: was.database.clone(),
            capabilities: was.capabilities,
            collation: was.collation,
            primary: Arc::clone(&leg.server),
            // The one that the client was told.
            thread_id: was.thread_id,
            client: was.client.clone(),
            share: Arc::clone(&was.share),
        });
        self.seat.moved(leg.thread_id, leg.vitess);
        self.seat.renew(&facts);
        self.book.take_over(facts, &leg, has_init);
        self.primary = leg.stream;
        self.settle();
    }

    /// Leaves its connection, to log in over another one of the same server.
    pub(in crate::relay) fn leave(&mut self) {
        part_with(std::mem::replace(&mut self.primary, Stream::gone()));
    }

    /// Goes on with another connection to the vtgate that it had.
    pub(in crate::relay) fn enter(&mut self, primary: Stream, thread_id: u32) {
        self.primary = primary;
        self.seat.moved(thread_id, true);
    }

    /// The session has logged in anew. `status`: what its server has told since, if anything.
    pub(in crate::relay) fn renew(&mut self, facts: Arc<Facts>, status: Option<Status>) {
        self.seat.renew(&facts);
        self.book.renew(facts, status);
    }

    /// Tells the client why its session ends, as the answer to its next command.
    pub(in crate::relay) fn say_and_close(&mut self, why: &str) {
        self.goodbye = Some(Refusal::ended(why).packet(1));
    }

    /// Tells the client that the proxy ends, as the answer to its next command.
    pub(in crate::relay) fn shut_down(&mut self) {
        self.goodbye = Some(Refusal::shutting_down().packet(1));
    }
}

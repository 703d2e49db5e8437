//! Which command each byte belongs to, and what was handed through the tee. HOT PATH.
//!
//! The book sees every byte of both directions and holds none back. It knows no socket and never
//! waits: what it is unsure of it says, and the pump becomes a tunnel.

use super::carry::Leg;
use super::counters::Counters;
use super::own::{Ahead, Own};
use super::statements::{Look, StandIn, Statements};
use crate::connect::Packet;
use crate::tee::{Charge, Charged, Facts, Regard, STUB_COMMAND_BYTES, Tee};
use crate::wire::answer::{AnswerTracker, Outcome, Progress};
use crate::wire::capability::Capabilities;
use crate::wire::command::{Command, CommandScanner, Expect, Scanned, Turn};
use crate::wire::reply;
use crate::wire::status::Status;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::Instant;

/// Commands that may be unanswered; past it the client waits, as it would before the server.
pub(super) const PIPELINE_MAX: usize = 1024;

/// Bytes of commands that may be unanswered, the last one not counted.
const PIPELINE_BYTES_MAX: usize = 1 << 20;

/// A command's copy up to this size is not charged to the budget before it is handed over.
const UNCHARGED_MAX: usize = 64 << 10;

/// What to do after the client's bytes were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientThen {
    /// Go on.
    Go,
    /// The last command changes how the connection is read: nothing after it may be looked at
    /// before it is the first unanswered one. See [`Book::barrier`]. Or the next one is the proxy's
    /// own, see [`Book::is_own_ahead`].
    Barrier,
    /// What is left is a part of a statement's id, or too little of a command to tell whether it is
    /// the proxy's own, and waits for the rest of it.
    Partial,
    /// The command is longer than the config allows.
    TooLarge,
}

/// What to do after the primary's bytes were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrimaryThen {
    /// Go on.
    Go,
    /// The answer is that of a barrier: it is not the book's to read.
    Barrier,
    /// What is left is a part of a statement's id, and waits for the rest of it.
    Partial,
    /// Nobody asked for this.
    Unasked,
    /// The bytes cannot be placed.
    Unsure,
}

/// A command that ends the plain course of commands and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barrier {
    /// CHANGE_USER: a login in the middle.
    Login,
    /// From here on the connection is a pipe.
    Tunnel,
}

/// What a session may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) command_bytes_max: u64,
    pub(super) copy_bytes_max: usize,
    pub(super) sample_bytes: usize,
}

/// A command on its way.
#[derive(Debug)]
pub(super) struct Flight {
    /// The command and its answer, as far as they have come.
    pub(super) exchange: Charged,
    expect: Expect,
    /// Where it ends in the client's bytes.
    ends_at: u64,
    sent: Option<Instant>,
    pub(super) first_byte: Option<Instant>,
    /// Room taken for a large copy while it is not handed over yet.
    room: Charge,
    /// The copy found no room and was let go.
    cut: bool,
}

/// One session's book.
#[derive(Debug)]
pub(super) struct Book {
    facts: Arc<Facts>,
    tee: Tee,
    limits: Limits,
    scanner: CommandScanner,
    tracker: AnswerTracker,
    under_way: Option<Flight>,
    unanswered: VecDeque<Flight>,
    unanswered_bytes: usize,
    /// The client sends a file, not commands.
    file: bool,
    /// COM_QUIT was seen.
    quit: bool,
    /// A barrier was seen and not dealt with yet.
    behind_barrier: bool,
    own: Own,
    /// The next command is the proxy's own.
    own_ahead: bool,
    /// The next command passes through: it was in hand.
    passes: bool,
    seen: u64,
    sent: u64,
    seq: u64,
    status: Status,
    ring: bool,
    /// Where the client's statement ids are not the primary's.
    statements: Option<Box<Statements>>,
    counters: Arc<Counters>,
}

/// What came of a piece of a command.
struct Step {
    used: usize,
    ended: bool,
    /// Nothing more of the piece may be looked at before more has come.
    partial: bool,
}

impl Book {
    pub(super) fn new(
        facts: Arc<Facts>,
        tee: Tee,
        limits: Limits,
        status: Status,
        counters: Arc<Counters>,
        own: Own,
    ) -> Self {
        let tracker = AnswerTracker::new(facts.capabilities, limits.sample_bytes);
        Self {
            facts,
            tee,
            limits,
            scanner: CommandScanner::new(limits.copy_bytes_max),
            tracker,
            under_way: None,
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            file: false,
            quit: false,
            behind_barrier: false,
            own,
            own_ahead: false,
            passes: false,
            seen: 0,
            sent: 0,
            seq: 0,
            status,
            ring: false,
            statements: None,
            counters,
        }
    }

    pub(super) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// The number of the last command that was handed.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// The last status flags that the primary told.
    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// Nothing is under way in either direction.
    pub(super) fn is_idle(&self) -> bool {
        self.unanswered.is_empty() && !self.is_mid_command()
    }

    /// The client sends a file that the primary has asked for.
    pub(super) fn is_in_file(&self) -> bool {
        self.file
    }

    /// The client has begun a command, or a file, and not ended it.
    pub(super) fn is_mid_command(&self) -> bool {
        self.file || self.under_way.is_some()
    }

    /// Whether any command waits for its answer.
    pub(super) fn awaits_answer(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// COM_QUIT was seen.
    pub(super) fn has_quit(&self) -> bool {
        self.quit
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.status.in_transaction()
    }

    /// Too much is unanswered: the client is not read from until the primary has caught up. A
    /// file that the primary asked for is always read.
    pub(super) fn is_full(&self) -> bool {
        !self.file
            && (self.unanswered.len() >= PIPELINE_MAX || self.unanswered_bytes > PIPELINE_BYTES_MAX)
    }

    /// The barrier, once it is the first unanswered command and was wholly sent.
    pub(super) fn barrier(&self) -> Option<Barrier> {
        let front = self.unanswered.front()?;
        front.sent?;
        match front.expect {
            Expect::Login => Some(Barrier::Login),
            Expect::Tunnel => Some(Barrier::Tunnel),
            Expect::Results { .. }
            | Expect::Prepared
            | Expect::Rows
            | Expect::Columns
            | Expect::Text
            | Expect::One
            | Expect::Nothing => None,
        }
    }

    /// Looks at bytes that the client sent; says how many were looked at, and what then. They are
    /// changed only where they name a statement by another id than the primary's.
    pub(super) fn client(&mut self, piece: &mut [u8], now: Instant) -> (usize, ClientThen) {
        let mut done = 0_usize;
        while done < piece.len() {
            let rest = piece.get_mut(done..).unwrap_or_default();
            match self.look_ahead(rest) {
                Ahead::Through => {}
                Ahead::Own => return (done, ClientThen::Barrier),
                Ahead::Cut => return (done, ClientThen::Partial),
            }
            let step = if self.file {
                self.scan_file(rest)
            } else if self.statements.is_some() {
                self.scan_translated(rest, now)
            } else {
                self.scan_command(rest, now)
            };
            let then = self.after_scan(step.ended, step.used);
            if then == ClientThen::TooLarge {
                // Its end must not leave: the primary would run what the client is refused.
                return (done, then);
            }
            done = done.saturating_add(step.used);
            self.seen = self.seen.saturating_add(step.used as u64);
            if then != ClientThen::Go {
                return (done, then);
            }
            if step.partial {
                return (done, ClientThen::Partial);
            }
        }
        (done, ClientThen::Go)
    }

    /// Whether the command that begins here, if one does, is the proxy's own.
    fn look_ahead(&mut self, rest: &[u8]) -> Ahead {
        if self.is_mid_command() || std::mem::take(&mut self.passes) {
            return Ahead::Through;
        }
        let ahead = self.own.look(rest, self.statements.as_deref());
        self.own_ahead = ahead == Ahead::Own;
        ahead
    }

    fn scan_file(&mut self, rest: &[u8]) -> Step {
        // Nothing of a file is copied.
        match self.scanner.feed(rest, &mut Vec::new()) {
            Scanned::More => Step::more(rest.len()),
            Scanned::Ended { used } => {
                self.file = false;
                Step::more(used)
            }
        }
    }

    /// The copy keeps the client's id; what goes on has the primary's.
    fn scan_translated(&mut self, rest: &mut [u8], now: Instant) -> Step {
        let begins = self.under_way.is_none();
        let Some(statements) = &mut self.statements else {
            return self.scan_command(rest, now);
        };
        if begins {
            statements.command_begins();
        }
        let look = statements.look_up(rest);
        if let Look::Cut(before) = look {
            let step = match rest.get(..before) {
                None | Some([]) => Step::more(0),
                Some(head) => self.scan_command(head, now),
            };
            return Step {
                partial: true,
                ..step
            };
        }
        let step = self.scan_command(rest, now);
        if let Look::Id(at) = look
            && let Some(id) = rest.get_mut(at..at.saturating_add(4))
        {
            let mut unanswered = self.unanswered.iter();
            let preparing = unanswered.any(|flight| flight.expect == Expect::Prepared);
            if let Some(statements) = &mut self.statements {
                statements.put_servers(id, preparing);
            }
        }
        step
    }

    fn scan_command(&mut self, rest: &[u8], now: Instant) -> Step {
        let flight = match &mut self.under_way {
            Some(flight) => flight,
            none => none.insert(Flight::new(self.tee.blank(&self.facts), now)),
        };
        let scanned = if flight.cut {
            self.scanner.feed(rest, &mut Vec::new())
        } else {
            self.scanner.feed(rest, &mut flight.exchange.command)
        };
        if flight.exchange.command.capacity() > UNCHARGED_MAX && !flight.reserve(&self.tee) {
            self.counters.commands_cut.add(1);
        }
        match scanned {
            Scanned::More => Step::more(rest.len()),
            Scanned::Ended { used } => Step {
                used,
                ended: true,
                partial: false,
            },
        }
    }

    fn after_scan(&mut self, ended: bool, used: usize) -> ClientThen {
        let is_command = self.under_way.is_some();
        if is_command && self.scanner.payload_bytes() > self.limits.command_bytes_max {
            return ClientThen::TooLarge;
        }
        if !ended {
            return ClientThen::Go;
        }
        let Some(mut flight) = self.under_way.take() else {
            return ClientThen::Go;
        };
        flight.expect = self.scanner.expect();
        if flight.expect == Expect::Login {
            scrub(&mut flight.exchange.command);
        }
        flight.exchange.command_bytes = self.scanner.payload_bytes();
        flight.ends_at = self.seen.saturating_add(used as u64);
        self.quit |= self.scanner.kind() == Some(Command::QUIT);
        let barrier = matches!(flight.expect, Expect::Login | Expect::Tunnel);
        self.unanswered_bytes = self
            .unanswered_bytes
            .saturating_add(flight.exchange.command.capacity());
        if self.unanswered.capacity() == 0 {
            // One is what nearly every client needs; the default would be four.
            self.unanswered.reserve_exact(1);
        }
        self.unanswered.push_back(flight);
        self.behind_barrier |= barrier;
        if barrier {
            ClientThen::Barrier
        } else {
            ClientThen::Go
        }
    }

    /// Says how many of the client's bytes have been written to the primary, since the beginning, and since when
    /// the last of them was being written: a primary on this host may have answered before that was done.
    pub(super) fn sent(&mut self, bytes: u64, since: Option<Instant>) {
        if bytes == self.sent {
            return;
        }
        self.sent = bytes;
        let mut now = since;
        let mut any = false;
        for flight in self.unanswered.iter_mut().rev() {
            if flight.sent.is_some() {
                break;
            }
            if flight.ends_at <= bytes {
                flight.sent = Some(*now.get_or_insert_with(Instant::now));
                any = true;
            }
        }
        if any {
            self.hand_silent();
        }
    }

    /// Looks at bytes that the primary sent; says how many may go to the client, and what then.
    /// They are changed only where they name a statement by another id than the client's.
    pub(super) fn primary(&mut self, piece: &mut [u8], now: Instant) -> (usize, PrimaryThen) {
        let mut done = 0_usize;
        while done < piece.len() {
            let rest = piece.get_mut(done..).unwrap_or_default();
            let (used, then) = self.scan_answer(rest, now);
            done = done.saturating_add(used);
            if then != PrimaryThen::Go {
                return (done, then);
            }
        }
        (done, PrimaryThen::Go)
    }

    fn scan_answer(&mut self, rest: &mut [u8], now: Instant) -> (usize, PrimaryThen) {
        let Some(front) = self.unanswered.front_mut() else {
            return (rest.len(), PrimaryThen::Unasked);
        };
        match front.expect {
            Expect::Nothing => return (rest.len(), PrimaryThen::Unasked),
            Expect::Login | Expect::Tunnel => return (0, PrimaryThen::Barrier),
            Expect::Results { .. }
            | Expect::Prepared
            | Expect::Rows
            | Expect::Columns
            | Expect::Text
            | Expect::One => {}
        }
        let begins = front.first_byte.is_none();
        if begins {
            front.first_byte = Some(now);
            let regard = self.tee.regard();
            self.tracker.digest_rows(regard == Regard::Compare);
            self.tracker.take_sample(regard != Regard::Nothing);
            self.tracker.begin(front.expect);
        }
        let mut rest = rest;
        let mut then = PrimaryThen::Go;
        if let Some(statements) = &mut self.statements
            && front.expect == Expect::Prepared
        {
            let before = translate_prepared(statements, begins, rest);
            if before < rest.len() {
                then = PrimaryThen::Partial;
                rest = rest.get_mut(..before).unwrap_or_default();
            }
        }
        match self.tracker.feed(rest, &mut front.exchange.answer) {
            Progress::More => (rest.len(), then),
            Progress::Ended { used } => {
                if let Some(statements) = &mut self.statements {
                    note_answer(statements, front);
                }
                self.hand_first(now, true);
                self.hand_silent();
                (used, PrimaryThen::Go)
            }
            Progress::ClientTurn { used } => (used, self.expect_file()),
            Progress::Unsure => (rest.len(), PrimaryThen::Unsure),
        }
    }

    /// The primary asks for the client's file. What the client has sent beyond this command it
    /// would take for that file, so a pipelined command cannot be placed any more.
    fn expect_file(&mut self) -> PrimaryThen {
        let alone = self.unanswered.len() == 1 && self.under_way.is_none();
        self.file = alone && self.scanner.turn(Turn::File);
        if self.file {
            PrimaryThen::Go
        } else {
            PrimaryThen::Unsure
        }
    }

    /// Hands the commands without an answer that stand in front, once they were sent.
    fn hand_silent(&mut self) {
        while let Some(front) = self.unanswered.front()
            && front.expect == Expect::Nothing
            && let Some(sent) = front.sent
        {
            self.hand_first(sent, true);
        }
    }

    /// Hands the first unanswered command.
    pub(super) fn hand_first(&mut self, acked: Instant, answered: bool) {
        let Some(flight) = self.take_first() else {
            return;
        };
        if flight.exchange.command.first() == Some(&Command::QUIT.0) {
            return;
        }
        self.hand(flight, acked, answered);
    }

    /// Nothing of the client's may be looked at before the barrier is dealt with.
    pub(super) fn is_behind_barrier(&self) -> bool {
        self.behind_barrier || self.own_ahead
    }

    /// The client's next command is the proxy's own.
    pub(super) fn is_own_ahead(&self) -> bool {
        self.own_ahead
    }

    /// That command was taken out of what the client has sent.
    pub(super) fn is_in_hand(&mut self) {
        self.own_ahead = false;
    }

    /// The client's next command passes through, whatever it is.
    pub(super) fn pass_next(&mut self) {
        self.passes = true;
    }

    /// What stands in for a statement that the primary could not prepare.
    pub(super) fn stand_in(&self, id: u32) -> Option<StandIn> {
        self.statements.as_ref()?.stand_in(id).cloned()
    }

    /// A command that was in hand, to be handed by [`Book::hand`].
    pub(super) fn flight(&self, command: &[u8], began: Instant) -> Flight {
        let mut flight = Flight::new(self.tee.blank(&self.facts), began);
        let copy = command.get(..self.limits.copy_bytes_max).unwrap_or(command);
        flight.exchange.command.extend_from_slice(copy);
        flight.exchange.command_bytes = command.len() as u64;
        if command.first() == Some(&Command::CHANGE_USER.0) {
            scrub(&mut flight.exchange.command);
        }
        flight
    }

    /// Takes the first unanswered command, to be handed by [`Book::hand`].
    pub(super) fn take_first(&mut self) -> Option<Flight> {
        let flight = self.unanswered.pop_front()?;
        let bytes = flight.exchange.command.capacity();
        self.unanswered_bytes = self.unanswered_bytes.saturating_sub(bytes);
        if matches!(flight.expect, Expect::Login | Expect::Tunnel) {
            self.behind_barrier = false;
        }
        Some(flight)
    }

    /// Hands a command and its answer.
    pub(super) fn hand(&mut self, flight: Flight, acked: Instant, answered: bool) {
        let Flight {
            mut exchange,
            sent,
            first_byte,
            room,
            ..
        } = flight;
        // What the exchange is charged now, it need not hold any more.
        drop(room);
        if !Arc::ptr_eq(&exchange.facts, &self.facts) {
            exchange.facts = Arc::clone(&self.facts);
        }
        exchange.in_transaction_before = self.status.in_transaction();
        if let Some(status) = exchange.answer.status {
            self.status = status;
        }
        self.seq = self.seq.saturating_add(1);
        exchange.seq = self.seq;
        exchange.answered = answered;
        exchange.sent = sent.unwrap_or(acked);
        exchange.first_byte = first_byte.unwrap_or(acked);
        exchange.acked = acked;
        self.ring |= self.tee.put(exchange);
    }

    /// Wakes the tee's receiver, if anything was handed since the last call.
    pub(super) fn ring(&mut self) {
        if std::mem::take(&mut self.ring) {
            self.tee.ring();
        }
    }

    /// Hands what is unanswered as unanswered: the primary or the client is gone, or nothing more
    /// can be told of it. A command that the primary never had whole was not run.
    pub(super) fn abandon(&mut self) {
        let now = Instant::now();
        while let Some(front) = self.unanswered.front() {
            if front.sent.is_some() {
                let answered = front.expect == Expect::Nothing;
                self.hand_first(now, answered);
            } else {
                self.take_first();
            }
        }
        self.under_way = None;
        self.ring();
    }

    /// The sequence number with which the client expects the first unanswered command's answer,
    /// where nothing of it has been sent.
    pub(super) fn next_answer_seq(&self) -> Option<u8> {
        let front = self.unanswered.front()?;
        let untouched = front.first_byte.is_none() && front.expect != Expect::Nothing;
        untouched.then(|| super::refuse::seq_after(front.exchange.command_bytes))
    }

    /// The sequence number with which the client expects an error about the command under way.
    pub(super) fn refused_seq(&self) -> u8 {
        super::refuse::seq_after(self.scanner.payload_bytes())
    }

    /// The session has logged in anew. The primary has forgotten its statements. `status`: what it
    /// has told since, if anything.
    pub(super) fn renew(&mut self, facts: Arc<Facts>, status: Option<Status>) {
        self.facts = facts;
        self.was_reset(status);
    }

    /// The primary has forgotten the session's statements.
    pub(super) fn was_reset(&mut self, status: Option<Status>) {
        self.status = status.unwrap_or(self.status);
        if let Some(statements) = &mut self.statements {
            statements.forget();
        }
    }

    /// Another server answers from here on, between two commands and in the same dialect.
    pub(super) fn take_over(&mut self, facts: Arc<Facts>, leg: &Leg, has_init: bool) {
        self.facts = facts;
        self.status = leg.status;
        self.own.take_over(leg.vitess, has_init);
        let before = self.statements.take();
        if before.is_some() || !leg.statements.is_empty() || !leg.stand_ins.is_empty() {
            let mut statements = Statements::new(&leg.statements, &leg.stand_ins, leg.last);
            if let Some(before) = before {
                statements = statements.after(&before);
            }
            self.statements = Some(Box::new(statements));
        }
    }

    /// The client's statement ids and the primary's, where they are not the same.
    pub(super) fn statements(&self) -> Option<Vec<(u32, u32)>> {
        self.statements.as_ref().map(|ids| ids.pairs())
    }

    /// Whether the client's statement ids are not the primary's.
    pub(super) fn is_translated(&self) -> bool {
        self.statements.is_some()
    }

    /// The tee.
    pub(super) fn tee(&self) -> &Tee {
        &self.tee
    }
}

/// Translates the id in the answer to a PREPARE; says how many bytes may be read now.
fn translate_prepared(statements: &mut Statements, begins: bool, piece: &mut [u8]) -> usize {
    if begins {
        statements.prepared_begins();
    }
    match statements.look_down(piece) {
        Look::Through => piece.len(),
        Look::Cut(before) => before,
        Look::Id(at) => {
            if let Some(id) = piece.get_mut(at..at.saturating_add(4)) {
                statements.put_clients(id);
            }
            piece.len()
        }
    }
}

/// What an answer means for the statements that the primary knows.
fn note_answer(statements: &mut Statements, flight: &Flight) {
    let failed = flight.exchange.answer.error().is_some();
    let reset = flight.exchange.command.first() == Some(&Command::RESET_CONNECTION.0);
    if reset && !failed {
        statements.forget();
    } else if failed && flight.expect == Expect::Prepared {
        statements.refused();
    }
}

impl Step {
    const fn more(used: usize) -> Self {
        Self {
            used,
            ended: false,
            partial: false,
        }
    }
}

impl Flight {
    fn new(mut exchange: Charged, began: Instant) -> Self {
        exchange.began = began;
        Self {
            exchange,
            expect: Expect::Tunnel,
            ends_at: u64::MAX,
            sent: None,
            first_byte: None,
            room: Charge::default(),
            cut: false,
        }
    }

    /// Writes a packet down as the whole answer; says whether it is no error.
    pub(super) fn is_answered(&mut self, packet: &Packet, capabilities: Capabilities) -> bool {
        let payload = packet.payload();
        let answer = &mut self.exchange.answer;
        answer.bytes = packet.bytes().len() as u64;
        answer.sample.extend_from_slice(packet.bytes());
        answer.sample_whole = true;
        if reply::is_err(payload) {
            let failure = reply::parse_err(payload);
            answer.results.push(Outcome::Error(failure));
            return false;
        }
        let done = reply::parse_ok(payload, capabilities).unwrap_or_default();
        answer.status = Some(done.status);
        answer.results.push(Outcome::Ok(done));
        true
    }

    /// Takes room for what the copy has grown to; without it lets all but a stub of the copy go.
    fn reserve(&mut self, tee: &Tee) -> bool {
        let capacity = self.exchange.command.capacity() as u64;
        if capacity <= self.room.bytes() {
            return true;
        }
        self.room = Charge::default();
        if let Some(room) = tee.reserve(capacity) {
            self.room = room;
            return true;
        }
        self.exchange.command.truncate(STUB_COMMAND_BYTES);
        self.exchange.command.shrink_to_fit();
        self.cut = true;
        false
    }
}

/// Blackens the proof in a CHANGE_USER, which some plugins make of the password itself.
fn scrub(command: &mut [u8]) {
    let Some(end) = command.iter().skip(1).position(|byte| *byte == 0) else {
        return;
    };
    let begin = end.saturating_add(3);
    let len = command
        .get(begin.saturating_sub(1))
        .copied()
        .unwrap_or_default();
    let end = begin.saturating_add(usize::from(len)).min(command.len());
    if let Some(proof) = command.get_mut(begin..end) {
        proof.fill(0);
    }
}

//! Both directions of one session, polled by one task. HOT PATH: it waits for its two sockets
//! and nothing else, takes no lock, starts no timer, and logs nothing for a command.
//!
//! What arrives is looked at by the [`Book`] and passed on as it is, whole packets or not. Answers
//! are handed through the tee before their last byte goes to the client; the tee's receiver is
//! woken after it went.

use super::book::{Barrier, Book, ClientThen, PrimaryThen};
use super::census::Seat;
use super::counters::{Counters, Ticket};
use super::drain::{Drain, Phase};
use super::gate::Gate;
use super::half::Half;
use super::refuse::Refusal;
use crate::connect::Stream;
use crate::tee::End;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

mod call;

use call::Call;

/// What ends the pump, or interrupts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// CHANGE_USER was sent: what follows is a login.
    Login,
    /// The client's next command is the proxy's own.
    Own,
    /// The gate asks for the session, and it stands between two transactions.
    Held,
    /// The session is over.
    Over(End),
}

/// How a direction stands once it was polled.
enum Stand {
    /// It waits for its sockets.
    Waits,
    /// It waits for the other direction.
    Blocked,
    /// It is over, or interrupted.
    Event(Event),
}

/// One session after its login.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) client: Stream,
    pub(super) primary: Stream,
    pub(super) up: Half,
    pub(super) down: Half,
    pub(super) book: Book,
    counters: Arc<Counters>,
    tunnel: Option<Ticket>,
    /// The primary does not take what the client sends any more; it may still have said why.
    deaf: bool,
    /// The client's end was passed on, by a tunnel.
    shut: bool,
    /// What the client is told before the close, once all answers have gone.
    goodbye: Option<Vec<u8>>,
    /// Once everything has gone to the client, the session is over.
    closing: bool,
    seat: Seat,
    call: Call,
    #[cfg(feature = "simulation")]
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
    #[cfg(feature = "simulation")]
    stalls: u32,
}

impl Pump {
    pub(super) fn new(
        client: Stream,
        primary: Stream,
        book: Book,
        counters: Arc<Counters>,
        (seat, word): (Seat, u32),
    ) -> Self {
        Self {
            client,
            primary,
            up: Half::default(),
            down: Half::default(),
            book,
            counters,
            tunnel: None,
            deaf: false,
            shut: false,
            goodbye: None,
            closing: false,
            seat,
            call: Call::new(word),
            #[cfg(feature = "simulation")]
            stalled: None,
            #[cfg(feature = "simulation")]
            stalls: 0,
        }
    }

    /// Runs until something interrupts it; `word` is the gate's. Cancel-safe: all that it has is in
    /// the pump.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        word: u32,
        (gate, drain): (&Gate, &Drain),
    ) -> Poll<Event> {
        if self.seat.summons().is_there()
            && let Some(event) = self.be_killed(context)
        {
            return Poll::Ready(event);
        }
        loop {
            self.call.open = word != self.call.settled;
            // Before the client is read: what it sends from here on may be for another primary.
            if self.call.open
                && let Some(event) = self.hear_call(word, gate, context)
            {
                return Poll::Ready(event);
            }
            let up = self.poll_up(context);
            if let Stand::Event(event) = up {
                return Poll::Ready(event);
            }
            if let Stand::Event(event) = self.poll_down(context) {
                return Poll::Ready(event);
            }
            let was_tunnel = self.is_tunnel();
            if let Some(event) = self.barrier() {
                return Poll::Ready(event);
            }
            if let Some(event) = self.check_drain(drain.phase()) {
                return Poll::Ready(event);
            }
            // The primary's answers may have made room for the client's next commands, or a
            // barrier let go what it held.
            let unblocked = matches!(up, Stand::Blocked) && self.may_go_on_up();
            // What is still on its way to the client wakes us itself.
            let goodbye =
                self.goodbye.is_some() && !self.book.awaits_answer() && self.down.is_empty();
            let released = self.is_tunnel() && !was_tunnel;
            if !unblocked && !goodbye && !released {
                // The last answer may have been all that it took to come to a boundary.
                let event = if self.call.open {
                    self.hear_call(word, gate, context)
                } else {
                    None
                };
                return event.map_or(Poll::Pending, Poll::Ready);
            }
        }
    }

    /// The legs, and the place in the census, once it is over.
    pub(super) fn into_legs(self) -> (Stream, Stream, Seat) {
        (self.client, self.primary, self.seat)
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// Whether the client has closed its side.
    pub(super) fn client_ended(&self) -> bool {
        self.up.has_ended()
    }

    /// From the client to the primary.
    fn poll_up(&mut self, context: &mut Context<'_>) -> Stand {
        // When what is to be written now was read.
        let mut read = None;
        loop {
            if self.deaf {
                return Stand::Waits;
            }
            let since = read
                .take()
                .or_else(|| (!self.up.is_empty()).then(Instant::now));
            let drained = self.up.poll_drain(&mut self.primary, context);
            if !self.is_tunnel() {
                self.book.sent(self.up.moved(), since);
                self.book.ring();
            }
            match drained {
                Poll::Pending => return Stand::Waits,
                Poll::Ready(Err(_)) => {
                    // It may have said why before it closed: what it said is read to its end.
                    self.deaf = true;
                    continue;
                }
                Poll::Ready(Ok(())) => {}
            }
            if self.up.has_ended() {
                return self.client_left(context);
            }
            if !self.may_read_client() {
                return Stand::Blocked;
            }
            match self.up.poll_fill(&mut self.client, context) {
                Poll::Pending => return Stand::Waits,
                Poll::Ready(Err(_)) => return Stand::Event(Event::Over(End::Vanished)),
                Poll::Ready(Ok(0)) => {}
                Poll::Ready(Ok(_)) => {
                    let now = Instant::now();
                    self.look_at_client(now);
                    read = Some(now);
                }
            }
        }
    }

    /// Whether what held the client's direction back is gone.
    fn may_go_on_up(&self) -> bool {
        if self.up.has_ended() {
            !self.book.awaits_answer()
        } else {
            self.may_read_client()
        }
    }

    /// Whether the client's next bytes may be read: all that came before has gone on its way, and
    /// not too much is unanswered.
    fn may_read_client(&self) -> bool {
        if self.is_tunnel() {
            return self.up.is_empty();
        }
        let held = self.call.open && self.waits_at_gate();
        self.up.may_fill()
            && !self.is_ending()
            && !held
            && !self.book.is_full()
            && !self.book.is_behind_barrier()
    }

    fn look_at_client(&mut self, now: Instant) {
        if self.is_tunnel() {
            self.up.clear_all();
            return;
        }
        let (looked_at, then) = self.book.client(self.up.unseen_mut(), now);
        self.up.clear(looked_at);
        match then {
            // Behind a barrier the rest stays where it is until the barrier is dealt with.
            ClientThen::Go | ClientThen::Barrier => {}
            ClientThen::Partial => self.up.wait_for_more(),
            ClientThen::TooLarge => {
                self.counters.too_large.add(1);
                self.goodbye = Some(Refusal::too_large().packet(self.book.refused_seq()));
            }
        }
    }

    /// The client has closed its side, and all that it sent was passed on.
    fn client_left(&mut self, context: &mut Context<'_>) -> Stand {
        if self.is_tunnel() {
            // The primary decides what a half-closed connection means.
            if !self.shut {
                let shutting = Pin::new(&mut self.primary).poll_shutdown(context);
                self.shut = shutting.is_ready();
            }
            return Stand::Waits;
        }
        if self.book.is_in_file() {
            // The primary would wait for the rest of the file, holding its locks.
            return Stand::Event(Event::Over(End::Vanished));
        }
        if self.book.awaits_answer() {
            // It may still read the answers.
            return Stand::Blocked;
        }
        let has_begun = self.book.is_mid_command() || !self.up.is_empty();
        let end = if has_begun { End::Vanished } else { End::Left };
        Stand::Event(Event::Over(end))
    }

    /// From the primary to the client.
    fn poll_down(&mut self, context: &mut Context<'_>) -> Stand {
        loop {
            #[cfg(feature = "simulation")]
            if self.is_stalled(context) {
                return Stand::Waits;
            }
            let drained = self.down.poll_drain(&mut self.client, context);
            self.book.ring();
            match drained {
                Poll::Pending => return Stand::Waits,
                Poll::Ready(Err(_)) => return Stand::Event(Event::Over(End::Vanished)),
                Poll::Ready(Ok(())) => {}
            }
            if self.closing {
                return Stand::Event(Event::Over(self.end()));
            }
            if !self.down.may_fill() {
                // The rest belongs to a barrier.
                return Stand::Blocked;
            }
            if self.goodbye.is_some() && !self.book.awaits_answer() {
                self.say_goodbye();
                continue;
            }
            match self.down.poll_fill(&mut self.primary, context) {
                Poll::Pending => return Stand::Waits,
                Poll::Ready(Ok(0) | Err(_)) => self.primary_left(),
                Poll::Ready(Ok(_)) => self.look_at_primary(),
            }
        }
    }

    fn look_at_primary(&mut self) {
        #[cfg(feature = "simulation")]
        if crate::planted::is(crate::planted::Bug::DropByte) && self.down.unseen().len() > 64 {
            self.down.drop_byte();
        }
        if self.is_tunnel() {
            self.down.clear_all();
            return;
        }
        let (looked_at, then) = self.book.primary(self.down.unseen_mut(), Instant::now());
        self.down.clear(looked_at);
        match then {
            PrimaryThen::Go | PrimaryThen::Barrier => {}
            PrimaryThen::Partial => self.down.wait_for_more(),
            PrimaryThen::Unasked => {
                self.counters.unasked.add(1);
                self.down.clear_all();
                self.closing = true;
            }
            PrimaryThen::Unsure => self.become_tunnel("an answer that cannot be placed"),
        }
    }

    /// The primary has closed, and all that it sent went to the client.
    fn primary_left(&mut self) {
        self.closing = true;
        if self.is_tunnel() {
            return;
        }
        let seq = self.book.next_answer_seq();
        if self.book.awaits_answer() && !self.book.has_quit() {
            self.counters.primary_lost.add(1);
            tracing::warn!(
                session = self.book.facts().session,
                primary = %self.book.facts().primary,
                "the primary closed the connection before it had answered"
            );
        }
        if let Some(seq) = seq {
            self.goodbye = Some(Refusal::primary_lost(&self.book.facts().primary).packet(seq));
            self.say_goodbye();
        }
        self.book.abandon();
    }

    fn say_goodbye(&mut self) {
        if let Some(packet) = self.goodbye.take() {
            self.down.put(&packet);
            self.down.clear_all();
        }
        self.closing = true;
    }

    fn end(&self) -> End {
        if self.book.has_quit() {
            End::Left
        } else {
            End::Vanished
        }
    }

    /// Deals with a command that ends the plain course, once it is the first unanswered one.
    fn barrier(&mut self) -> Option<Event> {
        if self.book.is_own_ahead() {
            let is_due = !self.book.awaits_answer() && !self.is_ending();
            let is_settled = self.up.is_settled() && self.down.is_settled();
            return (is_due && is_settled).then_some(Event::Own);
        }
        match self.book.barrier()? {
            // A login writes to both legs itself: what came before must be gone.
            Barrier::Login => {
                (self.up.is_settled() && self.down.is_settled()).then_some(Event::Login)
            }
            Barrier::Tunnel => {
                self.become_tunnel("a command that the proxy does not know");
                // Where it could not become one.
                (!self.is_tunnel()).then_some(Event::Over(End::Vanished))
            }
        }
    }

    /// From here on bytes are passed on and nothing is read from them.
    pub(super) fn become_tunnel(&mut self, why: &'static str) {
        if self.book.is_translated() {
            // A pipe would carry the client's statement ids to a server that has others.
            tracing::warn!(
                session = self.book.facts().session,
                why,
                "the session ends: it has another primary than it began with, and cannot become a tunnel"
            );
            self.counters.untranslated.add(1);
            self.closing = true;
            self.down.clear_all();
            self.book.abandon();
            return;
        }
        tracing::info!(
            session = self.book.facts().session,
            why,
            "the session became a tunnel"
        );
        self.counters.tunnelled.add(1);
        if self.goodbye.take().is_some() {
            // The rest of a command that was refused cannot be piped on.
            self.closing = true;
        }
        self.book.abandon();
        self.book.tee().closed(self.book.facts(), End::Tunnelled);
        self.tunnel = self.counters.tunnels_open.enter(usize::MAX);
        self.seat.is_tunnel_now();
        self.up.clear_all();
        self.down.clear_all();
    }

    /// Nothing is open and nothing on its way, nor is the session about to end.
    fn is_quiet(&self) -> bool {
        let empty = self.up.is_empty() && self.down.is_empty();
        let idle = self.book.is_idle() && !self.book.in_transaction();
        empty && idle && !self.is_tunnel() && !self.is_ending()
    }

    /// Ends an idle session when the proxy drains, and any session when the drain's time is up.
    fn check_drain(&mut self, phase: Phase) -> Option<Event> {
        match phase {
            Phase::Running => None,
            Phase::Draining => {
                if self.is_quiet() {
                    // As the answer to the client's next command, which it will find.
                    self.shut_down();
                }
                None
            }
            Phase::Cut => {
                self.counters.drain_cut.add(1);
                Some(Event::Over(End::Vanished))
            }
        }
    }

    /// Takes what both directions have read and not passed on, for a login in the middle.
    pub(super) fn take_unseen(&mut self) -> (Vec<u8>, Vec<u8>) {
        (self.up.take_unseen(), self.down.take_unseen())
    }

    /// Goes on after a login in the middle, with what it has left.
    pub(super) fn put_unseen(&mut self, up: &[u8], down: &[u8]) {
        self.up.put(up);
        if !up.is_empty() {
            self.look_at_client(Instant::now());
        }
        self.down.put(down);
        if !down.is_empty() {
            self.look_at_primary();
        }
    }

    /// Waits for the shadow to catch up: the bug that the simulation must catch.
    #[cfg(feature = "simulation")]
    fn is_stalled(&mut self, context: &mut Context<'_>) -> bool {
        const STEP: std::time::Duration = std::time::Duration::from_millis(5);
        if !crate::planted::is(crate::planted::Bug::AwaitTee) {
            return false;
        }
        let waits = self.book.tee().budget().used() > 0 && self.stalls < 200;
        if self.stalled.is_none() && waits {
            self.stalls += 1;
            self.stalled = Some(Box::pin(tokio::time::sleep(STEP)));
        }
        let Some(sleep) = &mut self.stalled else {
            return false;
        };
        if sleep.as_mut().poll(context).is_ready() {
            self.stalled = None;
            return self.is_stalled(context);
        }
        true
    }
}

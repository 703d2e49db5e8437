//! The door itself: a bounded queue, a bell, and buffers that come back.

use super::bell::Bell;
use super::budget::{Budget, Charge, Purse, Share};
use super::charged::{Parcel, shed_sample};
use super::doze::Doze;
use super::kept::Kept;
use super::regard::{Appraisal, Regard};
use super::{Charged, End, Exchange, Facts, Handed, STUB_COMMAND_BYTES, Stub};
use crossbeam_queue::ArrayQueue;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// How much may wait behind the door.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of exchanges, all sessions together.
    pub queue_bytes: u64,
    /// Bytes of exchanges of one session.
    pub session_queue_bytes: u64,
    /// Bytes of stubs, all sessions together.
    pub stub_bytes: u64,
    /// Exchanges and stubs that wait to be received.
    pub slots: usize,
    /// Sessions that are open, or whose end waits to be received. Each has room for its end.
    pub sessions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_bytes: 256 << 20,
            session_queue_bytes: 32 << 20,
            stub_bytes: 8 << 20,
            slots: 1 << 15,
            sessions: 1 << 14,
        }
    }
}

/// What both ends share.
#[derive(Debug)]
pub(super) struct Door {
    queue: ArrayQueue<Handed>,
    slots: Purse,
    sessions: Purse,
    /// Those that the shadow side is done with.
    kept: Kept,
    bell: Bell,
    pub(super) budget: Arc<Budget>,
    /// How much is wanted. Apart from what is written with each command.
    appraisal: Appraisal,
    tees: AtomicUsize,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    handed: AtomicU64,
    samples_shed: AtomicU64,
    stubbed: AtomicU64,
    lost: AtomicU64,
    lost_sessions: AtomicU64,
    passed: AtomicU64,
}

/// Makes the door.
#[must_use]
pub fn door(limits: Limits) -> (Tee, Receiver) {
    // A session has room for its end, for one notice of a loss, and for one of what passed by.
    let own_room = limits.sessions.saturating_mul(3);
    let door = Arc::new(Door {
        queue: ArrayQueue::new(limits.slots.saturating_add(own_room).max(1)),
        slots: Purse::new(limits.slots as u64),
        sessions: Purse::new(limits.sessions as u64),
        kept: Kept::default(),
        bell: Bell::default(),
        budget: Arc::new(Budget {
            queue: Purse::new(limits.queue_bytes),
            stubs: Purse::new(limits.stub_bytes),
            session_max: limits.session_queue_bytes,
        }),
        appraisal: Appraisal::new(),
        tees: AtomicUsize::new(1),
        counters: Counters::default(),
    });
    (
        Tee {
            door: Arc::clone(&door),
        },
        Receiver {
            door,
            doze: Doze::default(),
        },
    )
}

/// The relay's end. Cheap to clone.
#[derive(Debug)]
pub struct Tee {
    door: Arc<Door>,
}

impl Tee {
    /// An empty exchange for a session's next command. Dropped, it is ready for another.
    #[must_use]
    pub fn blank(&self, facts: &Arc<Facts>) -> Charged {
        Charged::blank(&self.door, facts)
    }

    /// How much anybody wants to know of the answers that begin now.
    #[must_use]
    pub fn regard(&self) -> Regard {
        self.door.appraisal.told()
    }

    /// Takes room for a large command whose copy grows before it is handed over; given back when
    /// the charge is dropped. `None` where there is none, now.
    #[must_use]
    pub fn reserve(&self, bytes: u64) -> Option<Charge> {
        self.door.budget.reserve(bytes)
    }

    /// Hands an exchange over and wakes the receiver.
    pub fn hand(&self, exchange: Exchange) {
        let mut charged = self.blank(&exchange.facts);
        *charged = exchange;
        if self.put(charged) {
            self.ring();
        }
    }

    /// Hands an exchange over. The receiver may go on sleeping until [`Tee::ring`], so that the
    /// relay can wake it after the answer's last byte has gone to the client. False where the receiver
    /// has nothing to wake up for: the exchange passed by.
    pub fn put(&self, exchange: Charged) -> bool {
        if self.regard() == Regard::Nothing {
            self.door.pass_by(&exchange);
            return false;
        }
        if exchange.counts() {
            // Counted first, so that no verdict is ever ahead of the commands.
            self.door.counters.handed.fetch_add(1, Ordering::AcqRel);
        }
        if !self.door.enter(&exchange.facts.share) {
            self.door.lose(&exchange, false);
            return true;
        }
        self.door.tell_passed(&exchange);
        if self.door.slots.take(1) {
            self.door.push_within_budget(exchange);
        } else {
            self.door.lose(&exchange, true);
        }
        true
    }

    /// Wakes the receiver if it sleeps.
    pub fn ring(&self) {
        self.door.bell.ring();
    }

    /// Tells a session's end, after all that it handed.
    pub fn closed(&self, facts: &Facts, end: End) {
        // Only a session that entered has anything to end, and it has room for this.
        if facts.share.entered.swap(false, Ordering::AcqRel) {
            let _ = self.door.queue.push(Handed::Closed {
                session: facts.session,
                end,
            });
            self.ring();
        } else if end == End::Tunnelled {
            // Of one that never entered nobody is told, and what goes through its tunnel may be any write.
            self.door
                .counters
                .lost_sessions
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Commands that have an answer and were handed over, lost ones included.
    #[must_use]
    pub fn handed(&self) -> u64 {
        self.door.counters.handed.load(Ordering::Acquire)
    }

    /// Those of [`Tee::handed`] of which nothing came through.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.door.counters.lost.load(Ordering::Acquire)
    }

    /// Commands that have an answer and passed by: [`Tee::handed`] does not count them.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.door.counters.passed.load(Ordering::Acquire)
    }

    /// Exchanges of which only a stub came through.
    #[must_use]
    pub fn stubbed(&self) -> u64 {
        self.door.counters.stubbed.load(Ordering::Relaxed)
    }

    /// Samples that were let go for want of room.
    #[must_use]
    pub fn samples_shed(&self) -> u64 {
        self.door.counters.samples_shed.load(Ordering::Relaxed)
    }

    /// How often the receiver had to be woken; each costs the relay a system call.
    #[must_use]
    pub fn wakes(&self) -> u64 {
        self.door.bell.woken()
    }

    /// Losses of sessions for which there was no room at all, so that not even a [`Handed::Lost`] could tell of them;
    /// and sessions that became a tunnel before anything of them was handed over. Any table may be affected.
    #[must_use]
    pub fn lost_unsaid(&self) -> u64 {
        self.door.counters.lost_sessions.load(Ordering::Relaxed)
    }

    /// The budget.
    #[must_use]
    pub fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.door.budget)
    }
}

impl Clone for Tee {
    fn clone(&self) -> Self {
        self.door.tees.fetch_add(1, Ordering::Relaxed);
        Self {
            door: Arc::clone(&self.door),
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        if self.door.tees.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Each of them keeps the door.
            self.door.kept.clear();
            self.door.bell.ring();
        }
    }
}

/// The shadow side's end.
#[derive(Debug)]
pub struct Receiver {
    door: Arc<Door>,
    doze: Doze,
}

impl Receiver {
    /// What came next, or `None` once every [`Tee`] is gone and all has been received.
    ///
    /// Cancel-safe: nothing is taken unless it is returned.
    pub async fn recv(&mut self) -> Option<Handed> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Handed>> {
        if let Some(handed) = self.try_recv() {
            self.doze.is_awake();
            return Poll::Ready(Some(handed));
        }
        let gone = || self.door.tees.load(Ordering::Acquire) == 0;
        if !gone() && self.doze.poll(context).is_pending() {
            return Poll::Pending;
        }
        self.door.bell.sleep(context.waker());
        let gone = gone();
        let handed = self.try_recv();
        if handed.is_some() || gone {
            self.door.bell.up();
            self.doze.is_awake();
            return Poll::Ready(handed);
        }
        Poll::Pending
    }

    /// What came next, if anything did.
    pub fn try_recv(&mut self) -> Option<Handed> {
        let handed = self.door.queue.pop()?;
        match &handed {
            Handed::Exchange(_) | Handed::Stub(_) => self.door.slots.give(1),
            Handed::Lost(facts) => facts.share.lost_waits.store(false, Ordering::Release),
            Handed::Passed(facts) => facts.share.passed_waits.store(false, Ordering::Release),
            Handed::Closed { .. } => self.door.sessions.give(1),
        }
        Some(handed)
    }

    /// See [`Tee::lost_unsaid`].
    #[must_use]
    pub fn lost_unsaid(&self) -> u64 {
        self.door.counters.lost_sessions.load(Ordering::Relaxed)
    }

    /// See [`Tee::passed`].
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.door.counters.passed.load(Ordering::Acquire)
    }

    /// Where it is told how much is wanted.
    #[must_use]
    pub fn appraisal(&self) -> Appraisal {
        self.door.appraisal.clone()
    }

    /// The budget.
    #[must_use]
    pub fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.door.budget)
    }
}

impl Door {
    /// Gives a session its place behind the door, at its first exchange.
    fn enter(&self, share: &Share) -> bool {
        if share.entered.load(Ordering::Acquire) {
            return true;
        }
        let entered = self.sessions.take(1);
        share.entered.store(entered, Ordering::Release);
        entered
    }

    /// A slot is taken: fills it with the exchange, with what the budget allows of it, or not.
    fn push_within_budget(&self, mut exchange: Charged) {
        let mut cost = exchange.cost();
        if self.budget.is_tight(&exchange.facts.share, cost) {
            let freed = shed_sample(&mut exchange);
            cost = cost.saturating_sub(freed);
            self.counters
                .samples_shed
                .fetch_add(u64::from(freed > 0), Ordering::Relaxed);
        }
        if self.budget.charge(&exchange.facts.share, cost) {
            exchange.is_charged(cost);
            self.push(Handed::Exchange(exchange));
            return;
        }
        let text = exchange.command.len().min(STUB_COMMAND_BYTES);
        let cost = text.saturating_add(size_of::<Stub>()) as u64;
        if let Some(charge) = self.budget.charge_stub(cost) {
            self.counters.stubbed.fetch_add(1, Ordering::Relaxed);
            self.push(Handed::Stub(Box::new(Stub::of(&exchange, charge))));
            return;
        }
        self.slots.give(1);
        self.lose(&exchange, true);
    }

    /// Pushes what a slot or a session's own room was taken for, so there is room.
    fn push(&self, handed: Handed) {
        let pushed = self.queue.push(handed).is_ok();
        debug_assert!(pushed, "the queue is as long as all that can be reserved");
    }

    /// Nothing of the exchange fits. The session's own room tells so, once until it is received.
    fn lose(&self, exchange: &Exchange, entered: bool) {
        let share = &exchange.facts.share;
        share.make_unknown();
        if exchange.counts() {
            self.counters.lost.fetch_add(1, Ordering::AcqRel);
        }
        if !entered {
            self.counters.lost_sessions.fetch_add(1, Ordering::Relaxed);
        } else if !share.lost_waits.swap(true, Ordering::AcqRel) {
            self.push(Handed::Lost(Arc::clone(&exchange.facts)));
        }
    }

    /// Nobody wants to know of it. Costs the relay a counter and two looks.
    fn pass_by(&self, exchange: &Exchange) {
        if exchange.counts() {
            self.counters.passed.fetch_add(1, Ordering::AcqRel);
        }
        let share = &exchange.facts.share;
        if !share.passed.load(Ordering::Relaxed) {
            share.make_unknown();
            share.passed.store(true, Ordering::Relaxed);
        }
    }

    /// Says, before the first exchange that is handed again, that others of the session were not.
    fn tell_passed(&self, exchange: &Exchange) {
        let share = &exchange.facts.share;
        if share.passed.load(Ordering::Relaxed) {
            share.passed.store(false, Ordering::Relaxed);
            if !share.passed_waits.swap(true, Ordering::AcqRel) {
                self.push(Handed::Passed(Arc::clone(&exchange.facts)));
            }
        }
    }

    /// One that lies ready, empty but for what it has allocated.
    pub(super) fn kept(&self) -> Option<Box<Parcel>> {
        self.kept.take()
    }

    /// Keeps an empty one for its next use, while there is room and anybody who may use it.
    pub(super) fn keep(&self, parcel: Box<Parcel>) {
        if self.tees.load(Ordering::Relaxed) > 0 {
            self.kept.put(parcel);
        }
    }
}

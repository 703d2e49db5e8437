//! Bytes that may wait behind the tee: in all, for each session, and for stubs.
//!
//! Counted by compare-and-swap, so that what is charged never exceeds a limit, not even briefly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A sum that never exceeds its limit.
#[derive(Debug)]
pub(super) struct Purse {
    used: AtomicU64,
    max: u64,
}

impl Purse {
    pub(super) fn new(max: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            max,
        }
    }

    /// Takes `bytes`, if the sum stays within the limit.
    pub(super) fn take(&self, bytes: u64) -> bool {
        take(&self.used, bytes, self.max)
    }

    pub(super) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Release);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

fn take(used: &AtomicU64, bytes: u64, max: u64) -> bool {
    used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
        used.checked_add(bytes).filter(|sum| *sum <= max)
    })
    .is_ok()
}

/// What may wait, and what does.
#[derive(Debug)]
pub struct Budget {
    pub(super) queue: Purse,
    pub(super) stubs: Purse,
    pub(super) session_max: u64,
}

impl Budget {
    /// Bytes of exchanges that wait or are worked on, all sessions together.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.queue.used()
    }

    /// The most that [`Budget::used`] can be.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.queue.max
    }

    /// The most that one session's [`Share::used`] can be.
    #[must_use]
    pub fn session_max(&self) -> u64 {
        self.session_max
    }

    /// Bytes of stubs.
    #[must_use]
    pub fn stubs_used(&self) -> u64 {
        self.stubs.used()
    }

    /// Whether more than three quarters of the budget, or of the session's share, are used: from
    /// here on samples are let go, so that commands still fit.
    pub(super) fn is_tight(&self, share: &Share, cost: u64) -> bool {
        let over = |used: u64, max: u64| used.saturating_add(cost) > max / 4 * 3;
        over(self.used(), self.max()) || over(share.used(), self.session_max)
    }

    /// Charges an exchange to the whole and to its session, if both have room.
    pub(super) fn charge(&self, share: &Share, bytes: u64) -> bool {
        if !take(&share.bytes, bytes, self.session_max) {
            return false;
        }
        #[cfg(feature = "simulation")]
        let overfill = crate::planted::is(crate::planted::Bug::Overfill);
        #[cfg(not(feature = "simulation"))]
        let overfill = false;
        if overfill {
            self.queue.used.fetch_add(bytes, Ordering::AcqRel);
        } else if !self.queue.take(bytes) {
            share.bytes.fetch_sub(bytes, Ordering::Release);
            return false;
        }
        true
    }

    /// Gives back what was charged with [`Budget::charge`].
    pub(super) fn give_back(&self, share: &Share, bytes: u64) {
        self.queue.give(bytes);
        share.bytes.fetch_sub(bytes, Ordering::Release);
    }

    /// Charges a command that is still being received.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        self.queue.take(bytes).then(|| Charge {
            bytes,
            payer: Some(Payer::Receiving(Arc::clone(self))),
        })
    }

    /// Charges a stub.
    pub(super) fn charge_stub(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        // Not `then_some`: a charge that is dropped gives back what was never taken.
        self.stubs.take(bytes).then(|| Charge {
            bytes,
            payer: Some(Payer::Stub(Arc::clone(self))),
        })
    }
}

/// A session's share of the budget. It lives as long as the session or anything that it handed.
#[derive(Debug, Default)]
pub struct Share {
    bytes: AtomicU64,
    unknown: AtomicBool,
    /// Whether the session has a place behind the door, so that its end will be told.
    pub(super) entered: AtomicBool,
    /// Whether a [`super::Handed::Lost`] of this session waits to be received.
    pub(super) lost_waits: AtomicBool,
    /// Whether a [`super::Handed::Passed`] of it does.
    pub(super) passed_waits: AtomicBool,
    /// Whether commands passed by of which the receiver has not been told.
    pub(super) passed: AtomicBool,
}

impl Share {
    /// Bytes of this session's exchanges that wait or are worked on.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether a command was lost without a trace, or passed by: the session cannot be carried across a cutover
    /// until it reconnects.
    #[must_use]
    pub fn journal_unknown(&self) -> bool {
        self.unknown.load(Ordering::Relaxed)
    }

    pub(super) fn make_unknown(&self) {
        self.unknown.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Payer {
    Receiving(Arc<Budget>),
    Stub(Arc<Budget>),
}

/// Bytes charged to the budget, given back when this is dropped. The default is free of charge.
#[derive(Debug, Default)]
pub struct Charge {
    bytes: u64,
    payer: Option<Payer>,
}

impl Charge {
    /// Bytes charged.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        match &self.payer {
            Some(Payer::Receiving(budget)) => budget.queue.give(self.bytes),
            Some(Payer::Stub(budget)) => budget.stubs.give(self.bytes),
            None => {}
        }
    }
}

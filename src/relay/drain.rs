//! The end of serving: idle sessions close, others at their next boundary, all in the end.

use super::ear::Bell;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far the drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Running,
    /// Sessions end at their boundaries.
    Draining,
    /// The time is up.
    Cut,
}

/// What sessions look at between two commands: one relaxed load.
#[derive(Debug, Default)]
pub(super) struct Drain {
    phase: AtomicU8,
    bell: Bell,
}

impl Drain {
    pub(super) fn new(bell: Bell) -> Self {
        Self {
            phase: AtomicU8::new(0),
            bell,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Cut,
        }
    }

    /// Goes on to a phase and wakes every session.
    pub(super) fn set(&self, phase: Phase) {
        let phase = match phase {
            Phase::Running => 0,
            Phase::Draining => 1,
            Phase::Cut => 2,
        };
        self.phase.store(phase, Ordering::SeqCst);
        self.bell.ring();
    }
}

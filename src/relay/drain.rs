//! The end of serving: idle sessions close, others at their next boundary, all in the end.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Waker};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

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
    changed: Notify,
}

impl Drain {
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
        self.changed.notify_waiters();
    }

    /// A session's ear for changes.
    pub(super) fn ear(&self) -> Ear<'_> {
        Ear {
            drain: self,
            changed: Box::pin(self.changed.notified()),
            known: None,
        }
    }
}

/// Registers a session's waker once and again after each change, not at every poll: the
/// registration takes a lock that all sessions share.
#[derive(Debug)]
pub(super) struct Ear<'a> {
    drain: &'a Drain,
    changed: Pin<Box<Notified<'a>>>,
    known: Option<(Phase, Waker)>,
}

impl Ear<'_> {
    /// Sees to it that the next change wakes this task.
    pub(super) fn listen(&mut self, context: &mut Context<'_>) {
        let phase = self.drain.phase();
        if let Some((known, waker)) = &self.known
            && *known == phase
            && waker.will_wake(context.waker())
        {
            return;
        }
        while self.changed.as_mut().poll(context).is_ready() {
            self.changed.set(self.drain.changed.notified());
        }
        self.known = Some((phase, context.waker().clone()));
    }
}

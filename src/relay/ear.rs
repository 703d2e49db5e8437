//! A session's ear for what all sessions are told at once: how far the drain has come, and what
//! the gate's word is. HOT PATH: to listen is two loads and a compare.

use super::drain::{Drain, Phase};
use super::gate::Gate;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The one bell of drain and gate. It is rung after what is to be heard has changed, never else.
#[derive(Clone, Debug, Default)]
pub(super) struct Bell(Arc<Notify>);

impl Bell {
    /// Wakes every session.
    pub(super) fn ring(&self) {
        self.0.notify_waiters();
    }

    /// Resolves at the next ring after this call, awaited or not.
    pub(super) fn rung(&self) -> Notified<'_> {
        self.0.notified()
    }
}

/// Registers a session's waker once and again after each change, not at every poll: the
/// registration takes a lock that all sessions share.
#[derive(Debug)]
pub(super) struct Ear<'a> {
    drain: &'a Drain,
    gate: &'a Gate,
    bell: &'a Bell,
    rung: Pin<Box<Notified<'a>>>,
    known: Option<(Phase, u32, Waker)>,
}

impl<'a> Ear<'a> {
    pub(super) fn new(drain: &'a Drain, gate: &'a Gate, bell: &'a Bell) -> Self {
        Self {
            drain,
            gate,
            bell,
            rung: Box::pin(bell.rung()),
            known: None,
        }
    }

    /// Sees to it that the next change wakes this task; says the gate's word.
    pub(super) fn listen(&mut self, context: &mut Context<'_>) -> u32 {
        let (phase, word) = (self.drain.phase(), self.gate.word());
        if let Some((known_phase, known_word, waker)) = &self.known
            && *known_phase == phase
            && *known_word == word
            && waker.will_wake(context.waker())
        {
            return word;
        }
        self.register(context)
    }

    #[cold]
    fn register(&mut self, context: &mut Context<'_>) -> u32 {
        while self.rung.as_mut().poll(context).is_ready() {
            self.rung.set(self.bell.rung());
        }
        // Read after the registration: what changed before it is seen, what changes later is heard.
        let (phase, word) = (self.drain.phase(), self.gate.word());
        self.known = Some((phase, word, context.waker().clone()));
        word
    }
}

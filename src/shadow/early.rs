//! What clients say before there is a mirror: it is taken from the tee, and lies until one begins.
//!
//! The tee has room for so many exchanges only; here they are bounded by the tee's budget of bytes. What does not
//! fit the tee drops, counts, and it taints, as ever. Of a session's losses the first alone lies here: nothing of
//! the session is known from there on. Where too many sessions have lost something, all that is said passes by until
//! the mirror begins, which then taints everything. Refuses to look at anything: that is the mirror's.

use super::Control;
use super::antechamber::{Antechamber, Came};
use crate::tee::{Handed, Receiver, Regard};
use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// So many are taken at once before anything else has its turn.
const BATCH: usize = 1024;

/// Sessions of which a loss lies here. Nothing is let out, so the next of them would lose something, too.
const LOST_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Early {
    receiver: Receiver,
    antechamber: Antechamber,
    control: Control,
    began: Instant,
    /// Whose loss lies here: sessions, and their logins.
    lost: BTreeSet<(u64, u32)>,
    /// All that is said passes by.
    is_full: bool,
}

/// What was said, for the mirror that begins.
#[derive(Debug)]
pub struct Before {
    pub(super) antechamber: Antechamber,
    /// The switches that held meanwhile.
    pub(super) control: Control,
    /// For how long it was waited for a mirror.
    pub(super) waited: Duration,
    /// From some moment on all that was said passed by.
    pub(super) is_full: bool,
}

impl Early {
    /// With the tee's other end, and the switches of the mirror that is to begin.
    #[must_use]
    pub fn new(receiver: Receiver, control: Control) -> Self {
        receiver.appraisal().set(control.regard());
        Self {
            receiver,
            antechamber: Antechamber::default(),
            control,
            began: Instant::now(),
            lost: BTreeSet::new(),
            is_full: false,
        }
    }

    /// Takes in what comes until this resolves, or no tee is left.
    pub async fn collect(mut self, until: impl Future<Output = ()>) -> Self {
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                () = &mut until => return self,
                handed = self.receiver.recv() => match handed {
                    Some(handed) => self.enter(handed),
                    None => return self,
                },
            }
            for _ in 0..BATCH {
                let Some(handed) = self.receiver.try_recv() else {
                    break;
                };
                self.enter(handed);
            }
        }
    }

    /// A mirror begins: the tee's other end, and what was said.
    #[must_use]
    pub fn end(self) -> (Receiver, Before) {
        let before = Before {
            antechamber: self.antechamber,
            control: self.control,
            waited: self.began.elapsed(),
            is_full: self.is_full,
        };
        (self.receiver, before)
    }

    fn enter(&mut self, handed: Handed) {
        if let Handed::Lost(facts) = &handed {
            if !self.lost.insert((facts.session, facts.login)) {
                return;
            }
            if self.lost.len() >= LOST_MAX && !self.is_full {
                self.fill();
            }
        }
        let came = Came {
            control: self.control,
            journal_unknown: match &handed {
                Handed::Exchange(one) => one.facts.share.journal_unknown(),
                Handed::Stub(_) | Handed::Lost(_) | Handed::Passed(_) | Handed::Closed { .. } => {
                    false
                }
            },
        };
        let budget = self.receiver.budget();
        self.antechamber.enter(handed, came, true, &budget);
    }

    /// What is under way in the tee comes still, and the end of each session that has a place there.
    fn fill(&mut self) {
        self.is_full = true;
        self.receiver.appraisal().set(Regard::Nothing);
        tracing::warn!(
            "what clients say does not fit into mirror.queue_bytes any more: it passes by until this process mirrors, and then all tables count as tainted. Give it more, or let the old process' sessions end sooner (listen.handover_s)"
        );
    }
}

#[cfg(test)]
mod tests;

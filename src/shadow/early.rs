//! What clients say before there is a mirror: it is taken from the tee, and lies until one begins.
//!
//! The tee has room for so many exchanges only; here they are bounded by the tee's budget of bytes alone. What
//! does not fit the tee drops, counts, and it taints, as ever. Refuses to look at anything: that is the mirror's.

use super::Control;
use super::antechamber::{Antechamber, Came};
use crate::config::Config;
use crate::tee::{Handed, Receiver};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// So many are taken at once before anything else has its turn.
const BATCH: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Early {
    receiver: Receiver,
    antechamber: Antechamber,
    control: Control,
    began: Instant,
}

/// What was said, for the mirror that begins.
#[derive(Debug)]
pub struct Before {
    pub(super) antechamber: Antechamber,
    /// For how long it was waited for a mirror.
    pub(super) waited: Duration,
}

impl Early {
    /// With the tee's other end, and the switches that the config sets.
    #[must_use]
    pub fn new(receiver: Receiver, config: &Config) -> Self {
        Self {
            receiver,
            antechamber: Antechamber::default(),
            control: Control::new(&config.mirror),
            began: Instant::now(),
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
            waited: self.began.elapsed(),
        };
        (self.receiver, before)
    }

    fn enter(&mut self, handed: Handed) {
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
}

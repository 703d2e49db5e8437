//! What has come through the tee and is not looked at yet, while so much waits for the shadow that it
//! would only wait there.
//!
//! A shadow that hangs or crawls must cost no more than one that is not there: what it will not come to
//! soon lies here as it came, in its order, and its bytes stay charged to the tee's budget. Where that
//! runs short all of it is taken in, for only what is looked at can be let go by what it is. Nothing lies
//! here while a transaction is open: others may wait on the shadow for locks that its end would free.

use super::dispatcher::is_tight;
use crate::tee::{Budget, Handed};
use std::collections::VecDeque;

/// So many commands may be with the replays, however few connections there are.
const WITH_REPLAYS_MIN: usize = 1024;

/// So many may be, for each connection to the shadow: each of its sessions is to be seen in the line, for
/// the breaker asks how many of them are behind.
const WITH_REPLAYS_EACH: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Antechamber {
    waiting: VecDeque<Handed>,
    /// Room is running short: nothing may lie here.
    opens: bool,
}

impl Antechamber {
    /// Takes what came; `behind`: it is to lie here for a while.
    pub(super) fn enter(&mut self, handed: Handed, behind: bool, budget: &Budget) {
        let handed = match handed {
            Handed::Exchange(one) => {
                self.opens |= is_tight(budget, &one.facts);
                let lies = (behind || !self.waiting.is_empty()) && !self.opens;
                Handed::Exchange(if lies { one.put_aside() } else { one })
            }
            Handed::Stub(_) | Handed::Lost(_) => {
                self.opens = true;
                handed
            }
            Handed::Closed { .. } => handed,
        };
        self.waiting.push_back(handed);
    }

    /// What is to be looked at next, if anything is now.
    pub(super) fn next(&mut self, behind: bool) -> Option<Handed> {
        if behind && !self.opens {
            return None;
        }
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.opens = false;
            if self.waiting.capacity() > WITH_REPLAYS_MIN {
                self.waiting = VecDeque::new();
            }
        }
        next
    }

    /// Whether anything lies here.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// How the replays stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Commands that they have been given and not done.
    pub(super) busy: usize,
    /// Their connections.
    pub(super) connections: usize,
    /// Sessions with an open transaction.
    pub(super) open: usize,
}

impl Standing {
    /// Whether more need not be looked at now.
    pub(super) fn is_far_behind(self) -> bool {
        let each = self.connections.saturating_mul(WITH_REPLAYS_EACH);
        self.open == 0 && self.busy >= WITH_REPLAYS_MIN.max(each)
    }
}

#[cfg(test)]
mod tests;

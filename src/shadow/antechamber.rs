//! What has come through the tee and is not looked at yet, while so much waits for the shadow that it
//! would only wait there.
//!
//! A shadow that hangs or crawls must cost no more than one that is not there: what it will not come to soon
//! lies here, in the order in which it came, and its bytes stay charged to the tee's budget. What this itself
//! takes is not: fifty bytes for each, and each is charged with ten times as much. It knows nothing of
//! the replays; when what lies here is let in is decided by the dispatcher, a few hundred at a time,
//! and as many thousands as came meanwhile.

use super::Control;
use super::dispatcher::is_tight;
use crate::tee::{Budget, Facts, Handed};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::time::Instant;

/// Entries of one allocation: so many are given back at a time, and none is ever moved.
const CHUNK: usize = 512;

/// What held when something came: a switch does not reach back, nor does a loss.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    /// The switches.
    pub(super) control: Control,
    /// A command of its session had been lost without a trace.
    pub(super) journal_unknown: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Antechamber {
    chunks: VecDeque<VecDeque<(Handed, Came)>>,
    len: usize,
    /// How much of each session lies here.
    sessions: BTreeMap<u64, usize>,
    /// How many ever came in.
    entered: u64,
    /// A session that had no room for more, or the budget had none for it: nothing may lie here until it
    /// has, for only what was looked at can be let go by what it is.
    short: Option<Arc<Facts>>,
    /// The primary acknowledged what lies here no sooner.
    floor: Option<Instant>,
}

impl Antechamber {
    /// Takes what came, at its end. `lies`: for a while, so that the relay is to have its buffers back.
    pub(super) fn enter(&mut self, handed: Handed, came: Came, lies: bool, budget: &Budget) {
        let handed = match handed {
            Handed::Exchange(one) => {
                if is_tight(budget, &one.facts) {
                    self.short = Some(Arc::clone(&one.facts));
                }
                Handed::Exchange(if lies { one.put_aside() } else { one })
            }
            Handed::Stub(one) => {
                self.short = Some(Arc::clone(&one.facts));
                Handed::Stub(one)
            }
            Handed::Lost(facts) => {
                self.short = Some(Arc::clone(&facts));
                Handed::Lost(facts)
            }
            other @ (Handed::Passed(_) | Handed::Closed { .. }) => other,
        };
        *self.sessions.entry(session(&handed)).or_default() += 1;
        if self.is_empty() {
            self.floor = acked(&handed).or_else(|| Some(Instant::now()));
        }
        self.len += 1;
        self.entered += 1;
        if self.chunks.back().is_none_or(|chunk| chunk.len() >= CHUNK) {
            self.chunks.push_back(VecDeque::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.push_back((handed, came));
        }
    }

    /// Takes out what came first.
    pub(super) fn next(&mut self) -> Option<(Handed, Came)> {
        let chunk = self.chunks.front_mut()?;
        let next = chunk.pop_front();
        // The last one is kept for what comes next.
        if chunk.is_empty() && self.chunks.len() > 1 {
            self.chunks.pop_front();
        }
        let (handed, came) = next?;
        self.len = self.len.saturating_sub(1);
        self.floor = acked(&handed).or(self.floor);
        let session = session(&handed);
        if let Some(lie) = self.sessions.get_mut(&session) {
            *lie = lie.saturating_sub(1);
            if *lie == 0 {
                self.sessions.remove(&session);
            }
        }
        Some((handed, came))
    }

    /// Whether nothing lies here.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How much does.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// How many ever came in.
    pub(super) const fn entered(&self) -> u64 {
        self.entered
    }

    /// Of these, how many are out again.
    pub(super) fn left(&self) -> u64 {
        self.entered.saturating_sub(self.len as u64)
    }

    /// Whether anything of this session does.
    pub(super) fn has(&self, session: u64) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The sessions of which something does.
    pub(super) fn sessions(&self) -> impl Iterator<Item = u64> {
        self.sessions.keys().copied()
    }

    /// Whether nothing may lie here for want of room.
    pub(super) fn is_short(&mut self, budget: &Budget) -> bool {
        if self
            .short
            .as_ref()
            .is_some_and(|facts| !is_tight(budget, facts))
        {
            self.short = None;
        }
        self.short.is_some()
    }

    /// When the primary acknowledged the first of what lies here, or a moment before.
    pub(super) fn since(&self) -> Option<Instant> {
        let (first, _) = self.chunks.front()?.front()?;
        acked(first).or(self.floor)
    }

    /// Adds the sessions of which something lies here that the primary acknowledged before then, until
    /// there are `enough`.
    pub(super) fn add_behind(&self, then: Instant, enough: usize, to: &mut BTreeSet<u64>) {
        for (handed, _) in self.chunks.iter().flatten() {
            let Some(acked) = acked(handed) else {
                continue;
            };
            if acked >= then || to.len() >= enough {
                return;
            }
            to.insert(session(handed));
        }
    }
}

fn session(handed: &Handed) -> u64 {
    match handed {
        Handed::Exchange(one) => one.facts.session,
        Handed::Stub(one) => one.facts.session,
        Handed::Lost(facts) | Handed::Passed(facts) => facts.session,
        Handed::Closed { session, .. } => *session,
    }
}

/// When the primary had acknowledged it, or a moment before.
fn acked(handed: &Handed) -> Option<Instant> {
    match handed {
        Handed::Exchange(one) => Some(one.acked),
        Handed::Stub(one) => Some(one.began),
        Handed::Lost(_) | Handed::Passed(_) | Handed::Closed { .. } => None,
    }
}

#[cfg(test)]
mod tests;

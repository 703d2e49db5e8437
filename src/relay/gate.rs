//! The gate: where sessions wait between two transactions while the primary changes. HOT PATH: a
//! session asks it with one relaxed load, and looks closer only where the word is another than the
//! one that it has settled with.
//!
//! The word only asks. A session is held once it has come to a boundary and given its primary
//! away, which the [census](super::census) tells. Nothing here knows why there is a cutover.

use super::ear::Bell;
use crate::roles::RolesWatch;
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// See the module.
pub(super) struct Gate {
    /// A number that grows by each thing that is said, above the two bits below.
    word: AtomicU32,
    bell: Bell,
    roles: RolesWatch,
    /// Why sessions that are not held are to end, while the gate holds.
    ending: ArcSwapOption<String>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("word", &self.word)
            .finish_non_exhaustive()
    }
}

/// The gate holds.
const HOLDS: u32 = 1;
/// Who is not held by this hold is to end.
const ENDS: u32 = 2;
/// One more thing is said.
const NEXT: u32 = 4;

/// Whether the gate holds with this word.
pub(super) const fn holds(word: u32) -> bool {
    word & HOLDS != 0
}

/// Whether both words are of one hold, or of one time between two: who has settled with one has
/// settled with the other.
pub(super) const fn are_one(word: u32, other: u32) -> bool {
    word & !ENDS == other & !ENDS
}

const fn next(word: u32) -> u32 {
    (word & !(HOLDS | ENDS)).wrapping_add(NEXT)
}

impl Gate {
    pub(super) fn new(roles: RolesWatch, bell: Bell) -> Self {
        Self {
            word: AtomicU32::new(0),
            bell,
            roles,
            ending: ArcSwapOption::empty(),
        }
    }

    /// The word, for a look at every poll.
    pub(super) fn word(&self) -> u32 {
        self.word.load(Ordering::Relaxed)
    }

    /// The word, for a session that has just entered the census: either it sees that the gate
    /// holds, or whoever holds it sees the session.
    pub(super) fn word_now(&self) -> u32 {
        self.word.load(Ordering::SeqCst)
    }

    /// A word that no session which starts now will meet.
    pub(super) fn word_never(&self) -> u32 {
        self.word_now().wrapping_sub(NEXT)
    }

    /// Asks sessions to wait. Nothing where they are asked already.
    pub(super) fn hold(&self) {
        self.go(|word| (!holds(word)).then(|| next(word) | HOLDS));
    }

    /// Lets sessions go on. Nothing where they do.
    pub(super) fn resume(&self) {
        self.ending.store(None);
        self.go(|word| holds(word).then(|| next(word)));
    }

    /// Asks every session for a sign of life, and for nothing else. Nothing while the gate holds:
    /// those that are not held give it by themselves.
    pub(super) fn call(&self) {
        self.go(|word| (!holds(word)).then(|| next(word)));
    }

    /// Ends the sessions that are not held. Nothing while the gate is open.
    pub(super) fn end_unheld(&self, why: &str) {
        if holds(self.word_now()) {
            // Before the word: who hears of it finds the reason.
            self.ending.store(Some(Arc::new(why.to_owned())));
            self.go(|word| holds(word).then_some(word | ENDS));
        }
    }

    fn go(&self, next: impl FnMut(u32) -> Option<u32>) {
        let went = self
            .word
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        if went.is_ok() {
            self.bell.ring();
        }
    }

    /// Why a session that is not held is to end, if it is.
    pub(super) fn ending(&self) -> Option<Arc<String>> {
        self.ending.load_full()
    }

    /// Resolves once whoever is not held is to end; says why.
    ///
    /// Cancel-safe.
    pub(super) async fn ended(&self) -> Arc<String> {
        loop {
            let rung = self.bell.rung();
            if holds(self.word_now())
                && let Some(why) = self.ending()
            {
                return why;
            }
            rung.await;
        }
    }

    /// Whether this server is the primary.
    pub(super) fn is_primary(&self, name: &str) -> bool {
        self.roles.borrow().primary.name == name
    }
}

//! How much of what passes the shadow side wants to know. It says so, the relay reads it at each answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// See the module. Each wants all that those before it want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Regard {
    /// Nothing: commands pass by the door, and are only counted. A session of which one has passed by is
    /// as if commands of it were lost: its journal is unknown until it reconnects.
    Nothing,
    /// What was said, and when: rows are counted, not digested.
    Follow,
    /// The answers, too: somebody is to compare them.
    #[default]
    Compare,
}

impl Regard {
    const fn word(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Follow => 1,
            Self::Compare => 2,
        }
    }

    const fn of(word: u8) -> Self {
        match word {
            0 => Self::Nothing,
            1 => Self::Follow,
            _ => Self::Compare,
        }
    }
}

/// Tells the relay how much is wanted: everything, until it says otherwise. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Appraisal(Arc<AtomicU8>);

impl Appraisal {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Regard::default().word())))
    }

    /// From here on, of answers that begin; some may be on their way.
    pub fn set(&self, regard: Regard) {
        self.0.store(regard.word(), Ordering::Relaxed);
    }

    /// What was told last.
    #[must_use]
    pub fn told(&self) -> Regard {
        Regard::of(self.0.load(Ordering::Relaxed))
    }
}

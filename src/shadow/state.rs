//! A session's state, as another server would need it to take the session over; and whether it can
//! be taken over now.

use super::journal::{Journal, unsafe_collation};
use crate::tee::Facts;
use std::collections::BTreeSet;
use std::sync::Arc;

pub use super::ties::{Soft, Stuck};

/// See the module. Of the moment when the command [`SessionState::seq`] had been answered.
#[derive(Clone, Debug)]
pub struct SessionState {
    /// The session, as it logged in last.
    pub facts: Arc<Facts>,
    /// The number of its last command that is in this; 0 where none is.
    pub seq: u64,
    /// Why it cannot be taken over now; empty where it can be.
    pub stuck: Vec<Stuck>,
    /// What would be lost by it; one more command, and it may be nothing.
    pub soft: Vec<Soft>,
    /// What LAST_INSERT_ID() says; `None` where that must be read from the session.
    pub last_insert_id: Option<u64>,
    /// Features that it used since it logged in first.
    pub features: BTreeSet<&'static str>,
    /// Variables whose values must be read from the session.
    pub(super) values: BTreeSet<String>,
    pub(super) journal: Journal,
    /// Counts resets: what was set before one is gone.
    pub(super) resets: u64,
}

impl SessionState {
    /// A session that has logged in and said nothing since.
    #[must_use]
    pub fn fresh(facts: &Arc<Facts>) -> Self {
        Self::of(facts, &Journal::new(&facts.database))
    }

    /// What the journal says, and no more.
    pub(super) fn of(facts: &Arc<Facts>, journal: &Journal) -> Self {
        let mut stuck = Vec::new();
        if facts.share.journal_unknown() {
            stuck.push(Stuck::Unknown(
                "commands were lost, or passed by unobserved",
            ));
        }
        if journal.is_full() {
            stuck.push(Stuck::Unknown("more than is remembered"));
        }
        if unsafe_collation(facts.collation) || journal.charset_is_unsafe() {
            stuck.push(Stuck::Unknown("its character set is not read"));
        }
        Self {
            facts: Arc::clone(facts),
            seq: 0,
            stuck,
            soft: Vec::new(),
            last_insert_id: Some(0),
            features: BTreeSet::new(),
            values: BTreeSet::new(),
            journal: journal.clone(),
            resets: 0,
        }
    }

    /// Whether nothing hinders that it is taken over.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.stuck.is_empty()
    }

    /// Why its state cannot be told, if it cannot: it stays so until it is reset.
    #[must_use]
    pub fn unknown(&self) -> Option<Stuck> {
        self.stuck.iter().copied().find(|stuck| stuck.is_unknown())
    }

    /// Its database; empty for none.
    #[must_use]
    pub fn database(&self) -> &str {
        self.journal.database()
    }
}

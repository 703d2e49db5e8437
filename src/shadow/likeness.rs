//! Whether a connection to the shadow is like the session that it stands for. Pure.
//!
//! It refuses to guess: where the shadow would not take what the session set, or never saw it,
//! what it answers says nothing about the primary's answer, and a write would write something else.

use super::journal::Entry;
use crate::compare::verdict::Reason;
use crate::sql::Change;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Likeness {
    /// The session is in a database that the shadow lacks.
    no_database: bool,
    /// The shadow refused one of the session's variables.
    refused: bool,
    /// Something that cannot be told changed without it.
    unknown: bool,
    /// Something that the journal knows changed without it: opened anew, it would be like the
    /// session again.
    pub(super) stale: bool,
}

/// What became of a command on the shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was done.
    Done,
    /// The shadow refused it, or some of it.
    Refused,
    /// It was not run.
    NotRun,
}

impl Likeness {
    /// A connection that was just opened: whether it has the session's database, and took the
    /// session's variables.
    pub(super) const fn opened(has_database: bool, took_variables: bool) -> Self {
        Self {
            no_database: !has_database,
            refused: !took_variables,
            unknown: false,
            stale: false,
        }
    }

    /// Takes a change of the session in.
    pub(super) fn take_in(&mut self, entry: &Entry, fate: Fate) {
        if fate == Fate::NotRun {
            self.stale |= entry.changes_state();
            self.unknown |= matches!(entry, Entry::Change(Change::Unknown));
            return;
        }
        let refused = fate == Fate::Refused;
        match entry {
            Entry::Change(Change::Database(_)) => self.no_database = refused,
            Entry::Change(Change::Variable { .. }) | Entry::MultiStatements(_) => {
                self.refused |= refused;
            }
            Entry::Change(Change::Unknown) => self.unknown |= refused,
            Entry::Reset if refused => self.stale = true,
            Entry::Reset => {
                let no_database = self.no_database;
                *self = Self::opened(!no_database, true);
            }
            Entry::Login { .. } => self.stale = true,
            Entry::Prepared(..) | Entry::NotPrepared | Entry::Types(..) | Entry::Forgotten(_) => {}
        }
    }

    /// Why what is run on the connection now would say nothing, if it would.
    pub(super) const fn why_not(&self) -> Option<Reason> {
        if self.no_database {
            Some(Reason::Database)
        } else if self.refused || self.unknown || self.stale {
            Some(Reason::NotMirrored)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable() -> Entry {
        Entry::Change(Change::Variable {
            name: "@a".into(),
            assignment: "@a := 5".into(),
        })
    }

    fn database() -> Entry {
        Entry::Change(Change::Database("other".into()))
    }

    #[test]
    fn what_the_shadow_refused_or_never_saw_makes_it_another_session() {
        let unknown = Entry::Change(Change::Unknown);
        for (entry, fate, why) in [
            (variable(), Fate::Done, None),
            (variable(), Fate::Refused, Some(Reason::NotMirrored)),
            (variable(), Fate::NotRun, Some(Reason::NotMirrored)),
            (database(), Fate::Refused, Some(Reason::Database)),
            (unknown.clone(), Fate::Done, None),
            (unknown, Fate::NotRun, Some(Reason::NotMirrored)),
            (Entry::Forgotten(1), Fate::NotRun, None),
        ] {
            let mut likeness = Likeness::default();
            likeness.take_in(&entry, fate);
            assert_eq!(likeness.why_not(), why, "{entry:?} {fate:?}");
        }
    }

    #[test]
    fn a_reset_or_another_database_makes_them_alike_again() {
        let mut likeness = Likeness::default();
        likeness.take_in(&database(), Fate::Refused);
        likeness.take_in(&variable(), Fate::Refused);
        likeness.take_in(&Entry::Reset, Fate::Done);
        assert_eq!(likeness.why_not(), Some(Reason::Database));
        likeness.take_in(&database(), Fate::Done);
        assert_eq!(likeness.why_not(), None);
    }
}

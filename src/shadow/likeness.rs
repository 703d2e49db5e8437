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
    /// The shadow refused one of the session's settings.
    refused: bool,
    /// It refused one of its user variables, which concerns what names one alone.
    lacks_variable: bool,
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
    /// A connection that was just opened, whether it has the session's database.
    pub(super) fn opened(has_database: bool) -> Self {
        Self {
            no_database: !has_database,
            ..Self::default()
        }
    }

    /// The shadow refused what the session set: a variable's name, or its assignment.
    pub(super) fn refused(&mut self, variable: &str) {
        if variable.starts_with('@') && !variable.starts_with("@@") {
            self.lacks_variable = true;
        } else {
            self.refused = true;
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
            Entry::Change(Change::Variable { name, .. }) if refused => self.refused(name),
            Entry::MultiStatements(_) if refused => self.refused(""),
            Entry::Change(Change::Variable { .. }) | Entry::MultiStatements(_) => {}
            Entry::Change(Change::Unknown) => self.unknown |= refused,
            Entry::Reset if refused => self.stale = true,
            Entry::Reset => {
                let no_database = self.no_database;
                *self = Self::opened(!no_database);
            }
            Entry::Login { .. } => self.stale = true,
            Entry::Prepared(..) | Entry::NotPrepared | Entry::Types(..) | Entry::Forgotten(_) => {}
        }
    }

    /// Why a statement that is run on the connection now would say nothing, if it would.
    pub(super) fn why_not(&self, statement: &str) -> Option<Reason> {
        if self.no_database {
            Some(Reason::Database)
        } else if self.refused || self.unknown || self.stale {
            Some(Reason::NotMirrored)
        } else {
            let concerns = self.lacks_variable && statement.contains('@');
            concerns.then_some(Reason::NotMirrored)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Entry {
        Entry::Change(Change::Variable {
            name: name.into(),
            assignment: format!("{name} := 5"),
        })
    }

    fn database() -> Entry {
        Entry::Change(Change::Database("other".into()))
    }

    #[test]
    fn what_the_shadow_refused_or_never_saw_makes_it_another_session() {
        let unknown = Entry::Change(Change::Unknown);
        for (entry, fate, why) in [
            (set("timestamp"), Fate::Done, None),
            (set("timestamp"), Fate::Refused, Some(Reason::NotMirrored)),
            (set("@a"), Fate::NotRun, Some(Reason::NotMirrored)),
            (database(), Fate::Refused, Some(Reason::Database)),
            (unknown.clone(), Fate::Done, None),
            (unknown, Fate::NotRun, Some(Reason::NotMirrored)),
            (Entry::Forgotten(1), Fate::NotRun, None),
        ] {
            let mut likeness = Likeness::default();
            likeness.take_in(&entry, fate);
            assert_eq!(likeness.why_not("SELECT 1"), why, "{entry:?} {fate:?}");
        }
    }

    #[test]
    fn a_reset_or_another_database_makes_them_alike_again() {
        let mut likeness = Likeness::default();
        likeness.take_in(&database(), Fate::Refused);
        likeness.take_in(&set("timestamp"), Fate::Refused);
        likeness.take_in(&Entry::Reset, Fate::Done);
        assert_eq!(likeness.why_not(""), Some(Reason::Database));
        likeness.take_in(&database(), Fate::Done);
        assert_eq!(likeness.why_not(""), None);
    }

    #[test]
    fn a_user_variable_that_is_missing_concerns_what_names_one() {
        let mut likeness = Likeness::default();
        likeness.take_in(&set("@a"), Fate::Refused);
        assert_eq!(likeness.why_not("SELECT 1"), None);
        let named = likeness.why_not("INSERT INTO t VALUES (@a)");
        assert_eq!(named, Some(Reason::NotMirrored));
    }
}

//! Whether a connection to the shadow is like the session that it stands for. Pure.
//!
//! It refuses to guess: where the shadow would not take what the session set, or never saw it,
//! what it answers says nothing about the primary's answer, and a write would write something else.

use super::journal::{Entry, Untold};
use crate::compare::verdict::Reason;
use crate::sql::Change;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Likeness {
    /// The session is in a database that the shadow lacks.
    no_database: bool,
    /// The shadow refused one of the session's settings.
    refused: bool,
    /// It refused one of its user variables, or did not see it set, which concerns what names one
    /// alone.
    lacks_variable: bool,
    /// Something that cannot be told changed without it.
    unknown: bool,
    /// Something that the journal knows changed without it: opened anew, it would be like the
    /// session again.
    pub(super) stale: bool,
}

/// System variables that change what is written, read or understood. The shadow's refusal of any
/// other (time-outs, limits of resources, the optimizer's switches) is a divergence of its own and
/// leaves the session's statements comparable.
const TELLING: [&str; 27] = [
    "auto_increment_increment",
    "auto_increment_offset",
    "autocommit",
    "big_tables",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "collation_connection",
    "default_week_format",
    "div_precision_increment",
    "explicit_defaults_for_timestamp",
    "foreign_key_checks",
    "group_concat_max_len",
    "identity",
    "insert_id",
    "last_insert_id",
    "lc_time_names",
    "names",
    "rand_seed1",
    "rand_seed2",
    "sql_auto_is_null",
    "sql_mode",
    "sql_safe_updates",
    "sql_select_limit",
    "time_zone",
    "timestamp",
    "unique_checks",
];

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

    /// Whether a variable of the system changes what is written, read or understood.
    pub(super) fn is_telling(variable: &str) -> bool {
        TELLING.contains(&variable)
    }

    /// The shadow refused to set a variable of the session, a user's (`@a`) or the system's.
    pub(super) fn refused(&mut self, variable: &str) {
        if variable.starts_with('@') {
            self.lacks_variable = true;
        } else {
            self.refused |= Self::is_telling(variable);
        }
    }

    /// Something changed that cannot be told, and the shadow did not do it.
    pub(super) const fn missed(&mut self, what: Untold) {
        match what {
            Untold::Anything => self.unknown = true,
            Untold::Variables => self.lacks_variable = true,
            Untold::Table => {}
        }
    }

    /// Takes a change of the session in.
    pub(super) fn take_in(&mut self, entry: &Entry, fate: Fate) {
        if fate == Fate::NotRun {
            self.stale |= entry.changes_state();
            if let Entry::Untold(what) = entry {
                self.missed(*what);
            }
            return;
        }
        let refused = fate == Fate::Refused;
        match entry {
            Entry::Change(Change::Database(_)) => self.no_database = refused,
            Entry::Change(Change::Variable { name, .. }) if refused => self.refused(name),
            Entry::MultiStatements(_) => self.refused |= refused,
            Entry::Untold(what) if refused => self.missed(*what),
            // Perhaps the one that was refused, and now it was not: the journal, which keeps the
            // last assignment to each, tells on a connection opened anew.
            Entry::Change(Change::Variable { .. }) => self.stale |= self.refused,
            Entry::Change(Change::Value(_) | Change::Unknown) | Entry::Untold(_) => {}
            Entry::Reset if refused => self.stale = true,
            Entry::Reset => {
                let no_database = self.no_database;
                *self = Self::opened(!no_database);
            }
            Entry::Login { .. } => self.stale = true,
            Entry::Prepared(..)
            | Entry::NotPrepared
            | Entry::Types(..)
            | Entry::Relied(_)
            | Entry::Forgotten(_) => {}
        }
    }

    /// Why a statement that is run on the connection now would say nothing, if it would;
    /// `names_variable`: it names a user variable.
    pub(super) const fn why_not(&self, names_variable: bool) -> Option<Reason> {
        let lacks = self.lacks_variable && names_variable;
        if self.no_database {
            Some(Reason::Database)
        } else if self.refused || self.unknown || self.stale || lacks {
            Some(Reason::NotMirrored)
        } else {
            None
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
        for (entry, fate, why) in [
            (set("timestamp"), Fate::Done, None),
            (set("timestamp"), Fate::Refused, Some(Reason::NotMirrored)),
            (set("@a"), Fate::NotRun, Some(Reason::NotMirrored)),
            (database(), Fate::Refused, Some(Reason::Database)),
            (set("wait_timeout"), Fate::Refused, None),
            (Entry::Forgotten(1), Fate::NotRun, None),
        ] {
            let mut likeness = Likeness::default();
            likeness.take_in(&entry, fate);
            assert_eq!(likeness.why_not(false), why, "{entry:?} {fate:?}");
        }
    }

    #[test]
    fn a_reset_or_another_database_makes_them_alike_again() {
        let mut likeness = Likeness::default();
        likeness.take_in(&database(), Fate::Refused);
        likeness.take_in(&set("timestamp"), Fate::Refused);
        likeness.take_in(&Entry::Reset, Fate::Done);
        assert_eq!(likeness.why_not(false), Some(Reason::Database));
        likeness.take_in(&database(), Fate::Done);
        assert_eq!(likeness.why_not(false), None);
    }

    #[test]
    fn what_cannot_be_told_concerns_what_it_may_have_changed() {
        for (what, plain, named) in [
            (Untold::Anything, true, true),
            (Untold::Variables, false, true),
            (Untold::Table, false, false),
        ] {
            let mut likeness = Likeness::default();
            likeness.missed(what);
            assert_eq!(likeness.why_not(false).is_some(), plain, "{what:?}");
            assert_eq!(likeness.why_not(true).is_some(), named, "{what:?}");
        }
    }

    #[test]
    fn what_is_set_after_a_refusal_calls_for_a_connection_opened_anew() {
        let mut likeness = Likeness::default();
        likeness.take_in(&set("sql_mode"), Fate::Done);
        assert!(!likeness.stale);
        likeness.take_in(&set("sql_mode"), Fate::Refused);
        likeness.take_in(&set("sql_mode"), Fate::Done);
        assert!(likeness.stale);
    }

    #[test]
    fn a_user_variable_that_is_missing_concerns_what_names_one() {
        let mut likeness = Likeness::default();
        likeness.take_in(&set("@a"), Fate::Refused);
        assert_eq!(likeness.why_not(false), None);
        let named = likeness.why_not(true);
        assert_eq!(named, Some(Reason::NotMirrored));
    }
}

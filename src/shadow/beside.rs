//! Sessions of another understudy that go on beside this one's, on the same primary: in a hand-over the old
//! process still has its sessions while the new one serves others, and each mirrors its own.
//!
//! So the shadow has all of the old one's commands first, and then all of the new one's; the primary had them
//! mixed. A difference that this may explain is a *race*; and where both wrote to a table, and perhaps in another
//! order than the primary has it, the table is tainted. It knows when commits were, not which rows they had, so
//! it says too much rather than too little.

use super::scope::Scope;
use crate::sql::Table;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Tables whose last commit is remembered; with more of them it may have been any.
const TABLES_MAX: usize = 4096;

/// What the sessions of a process wrote, and how long before a moment they did last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The moment.
    pub at: Instant,
    /// Each table, and how long before its last commit was acknowledged.
    pub tables: Vec<(Table, Duration)>,
    /// How long before perhaps any table was written last; `None` where all of them are known.
    pub any: Option<Duration>,
}

impl Written {
    /// Nobody knows what was written, until now.
    #[must_use]
    pub fn anything() -> Self {
        Self {
            at: Instant::now(),
            tables: Vec::new(),
            any: Some(Duration::ZERO),
        }
    }

    /// The same at this moment.
    #[must_use]
    pub fn as_of(self, at: Instant) -> Self {
        Self { at, ..self }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Beside {
    born: Instant,
    /// Commands that began up to then may have to do with others: [`NOBODY`], [`ANYBODY`], or in nanoseconds since birth.
    /// Most of the time this is all that is looked at, and so it is again once an old process is gone whose last commit
    /// came before all that is said.
    until: AtomicU64,
    who: Mutex<Who>,
}

const NOBODY: u64 = 0;
const ANYBODY: u64 = u64::MAX;

impl Default for Beside {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            until: AtomicU64::new(NOBODY),
            who: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
enum Who {
    /// Nobody.
    #[default]
    Nobody,
    /// A new process serves others since then; what was committed here since is remembered.
    Heir { since: Instant, commits: Commits },
    /// An old process had sessions, which wrote this after the first of ours had come.
    Old { commits: Commits },
}

/// The last commit of each table.
#[derive(Debug, Default)]
struct Commits {
    tables: BTreeMap<Table, Instant>,
    any: Option<Instant>,
}

impl Commits {
    fn add(&mut self, scope: &Scope, acked: Instant) {
        let Scope::Known(tables) = scope else {
            self.any = self.any.max(Some(acked));
            return;
        };
        for table in tables.iter() {
            if let Some(last) = self.tables.get_mut(table) {
                *last = acked.max(*last);
            } else if self.tables.len() < TABLES_MAX {
                self.tables.insert(table.clone(), acked);
            } else {
                self.any = self.any.max(Some(acked));
            }
        }
    }

    /// The last of all.
    fn last(&self) -> Option<Instant> {
        self.tables.values().copied().max().max(self.any)
    }

    /// Whether a commit on one of these tables was acknowledged after this.
    fn has_after(&self, scope: &Scope, began: Instant) -> bool {
        let is_after = |last: &Instant| *last >= began;
        let is_any = !scope.is_empty() && self.any.as_ref().is_some_and(is_after);
        is_any
            || match scope {
                Scope::Known(tables) => tables
                    .iter()
                    .any(|table| self.tables.get(table).is_some_and(is_after)),
                Scope::All => self.tables.values().any(is_after),
            }
    }
}

impl Beside {
    /// A new process serves others from now on.
    pub(super) fn begin(&self, now: Instant) {
        self.set(Who::Heir {
            since: now,
            commits: Commits::default(),
        });
    }

    /// It does not any more.
    pub(super) fn end(&self) {
        self.set(Who::Nobody);
    }

    /// The old process has ended; this is what its sessions wrote.
    pub(super) fn follow(&self, written: &Written) {
        let at = |ago: Duration| written.at.checked_sub(ago).unwrap_or(written.at);
        let tables = written.tables.iter();
        let commits = Commits {
            tables: tables
                .map(|(table, ago)| (table.clone(), at(*ago)))
                .collect(),
            any: written.any.map(at),
        };
        self.set(Who::Old { commits });
    }

    fn set(&self, who: Who) {
        let until = match &who {
            Who::Nobody => NOBODY,
            Who::Heir { .. } => ANYBODY,
            Who::Old { commits } => commits.last().map_or(NOBODY, |last| self.nanos(last)),
        };
        *self.who.lock() = who;
        self.until.store(until, Ordering::Release);
    }

    /// What was before its birth is as it. Never [`NOBODY`], nor [`ANYBODY`].
    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.born).as_nanos();
        u64::try_from(since)
            .unwrap_or(ANYBODY)
            .clamp(NOBODY + 1, ANYBODY - 1)
    }

    /// Whether what began then has to do with nobody else.
    fn is_alone(&self, began: Instant) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until == NOBODY || (until != ANYBODY && self.nanos(began) > until)
    }

    /// A session of ours committed to these tables.
    pub(super) fn note(&self, scope: &Scope, acked: Instant) {
        if self.until.load(Ordering::Acquire) != ANYBODY {
            return;
        }
        if let Who::Heir { since, commits } = &mut *self.who.lock()
            && acked >= *since
        {
            commits.add(scope, acked);
        }
    }

    /// What was committed here since a new process serves.
    pub(super) fn written(&self, now: Instant) -> Written {
        let mut written = Written {
            at: now,
            tables: Vec::new(),
            any: None,
        };
        let Who::Heir { commits, .. } = &*self.who.lock() else {
            return written;
        };
        let ago = |at: Instant| now.saturating_duration_since(at);
        let tables = commits.tables.iter();
        written.tables = tables
            .map(|(table, at)| (table.clone(), ago(*at)))
            .collect();
        written.any = commits.any.map(ago);
        written
    }

    /// Whether sessions of another process may have changed what a command on these tables saw, which ran on the
    /// primary in this time, and the shadow had it before or after.
    pub(super) fn may_explain(&self, scope: &Scope, began: Instant, acked: Instant) -> bool {
        if self.is_alone(began) {
            return false;
        }
        match &*self.who.lock() {
            Who::Nobody => false,
            Who::Heir { since, .. } => acked >= *since,
            Who::Old { commits } => commits.has_after(scope, began),
        }
    }

    /// Whether a write to these tables that began then may stand on the shadow behind one that came after it.
    pub(super) fn may_be_swapped(&self, scope: &Scope, began: Instant) -> bool {
        if self.is_alone(began) {
            return false;
        }
        match &*self.who.lock() {
            Who::Nobody | Who::Heir { .. } => false,
            Who::Old { commits } => commits.has_after(scope, began),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> Table {
        Table {
            database: Some("app".into()),
            name: name.into(),
        }
    }

    fn on(name: &str) -> Scope {
        Scope::Known([table(name)].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_the_old_process_wrote_later_is_swapped_and_no_other() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (old, new) = (Beside::default(), Beside::default());
        old.note(&on("before"), at(0));
        old.begin(at(1));
        old.note(&on("late"), at(0));
        old.note(&on("a"), at(2));
        old.note(&on("a"), at(5));
        old.note(&on("b"), at(3));
        let written = old.written(at(10));
        let expected = [
            (table("a"), Duration::from_secs(5)),
            (table("b"), Duration::from_secs(7)),
        ];
        assert_eq!(written.tables, expected);
        assert_eq!(written.any, None);

        new.follow(&written);
        for (name, began, swapped) in [
            ("a", 4, true),
            ("a", 6, false),
            ("b", 4, false),
            ("b", 3, true),
            ("c", 1, false),
        ] {
            assert_eq!(new.may_be_swapped(&on(name), at(began)), swapped, "{name}");
            let explained = new.may_explain(&on(name), at(began), at(began));
            assert_eq!(explained, swapped, "{name}");
        }
        assert!(new.may_be_swapped(&Scope::All, at(4)));
        assert!(!new.may_be_swapped(&Scope::All, at(6)));
        // Finding: what began after the old one's end was looked up to this process' own end.
        assert!(new.is_alone(at(6)) && !new.is_alone(at(5)));
        assert!(!new.may_be_swapped(&Scope::none(), at(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_process_knows_nothing_of_what_the_new_one_has_written() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let old = Beside::default();
        assert!(!old.may_explain(&on("a"), at(9), at(9)));
        old.begin(at(1));
        assert!(!old.may_explain(&on("a"), at(0), at(0)));
        assert!(old.may_explain(&on("a"), at(0), at(2)));
        assert!(!old.may_be_swapped(&on("a"), at(0)), "the new one says so");
        old.end();
        assert!(!old.may_explain(&on("a"), at(2), at(3)));
        assert_eq!(old.written(at(9)).tables, []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_known_may_be_any_table() {
        let start = Instant::now();
        let old = Beside::default();
        old.begin(start);
        for n in 0..=TABLES_MAX {
            old.note(&on(&format!("t{n}")), start);
        }
        let written = old.written(start);
        assert_eq!(written.tables.len(), TABLES_MAX);
        assert_eq!(written.any, Some(Duration::ZERO));
        for written in [written, Written::anything().as_of(start)] {
            let new = Beside::default();
            new.follow(&written);
            assert!(new.may_be_swapped(&on("another"), start));
            assert!(!new.may_be_swapped(&on("another"), start + Duration::from_secs(1)));
        }
    }
}

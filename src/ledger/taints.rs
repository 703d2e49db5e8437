//! Tables that may hold other rows on the shadow, each with the cause, until an operator clears it.
//!
//! In memory for the quick question, in the store for good.

use super::cause::Cause;
use crate::sql::Table;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Tables that are kept apart; one more taints everything, as `*`.
const TAINTS_MAX: usize = 10_000;

/// Clearances that wait for a file that cannot be written; the oldest go first.
const CLEARANCES_MAX: usize = 1_000;

/// Tables that the record of one clearance names.
const NAMES_MAX: usize = 50;

/// That what is tainted was tainted once more is brought to the file no more often: it may be so with every command.
const MOVED_PAUSE: Duration = Duration::from_secs(1);

/// A tainted table, and why. A name of `*` stands for every table of its database, or of all
/// where it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// The database; null for any.
    pub database: Option<String>,
    /// The table.
    pub table: String,
    /// What happened.
    pub cause: Cause,
    /// When it was first tainted.
    pub since: jiff::Timestamp,
    /// When it was tainted last: what was found equal before then may be so no more.
    pub last: jiff::Timestamp,
}

impl serde::Serialize for Taint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}

impl Taint {
    /// In the API's shape, as far as memory knows it.
    #[must_use]
    pub fn shown(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name(),
            "database": self.database,
            "table": self.table,
            "cause": &*self.cause.text,
            "since": self.since.to_string(),
        })
    }

    /// As findings name the table, and as it is cleared by: `database.table` where the database is known.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.database {
            Some(database) => format!("{database}.{}", self.table),
            None => self.table.clone(),
        }
    }

    /// The table's name for the quick question.
    #[must_use]
    pub fn key(&self) -> Table {
        Table {
            database: self.database.clone(),
            name: self.table.clone(),
        }
    }
}

/// All tainted tables, and what the file does not know of them yet.
#[derive(Debug, Default)]
pub(super) struct Taints {
    tables: RwLock<BTreeMap<Table, Taint>>,
    unsaved: Mutex<Lacks>,
}

/// What the file lacks.
#[derive(Debug, Default)]
struct Lacks {
    /// Which tables are tainted, and why; with the clearances since.
    changed: Option<Cleared>,
    /// When some were tainted last.
    moved: bool,
    /// When it was taken last.
    taken: Option<Instant>,
}

/// Clearances that are to be kept for good: what was cleared, by whom, why.
pub(super) type Cleared = VecDeque<Clearance>;

/// One clearance.
#[derive(Clone, Debug)]
pub(super) struct Clearance {
    pub(super) at: jiff::Timestamp,
    pub(super) who: String,
    pub(super) what: String,
    pub(super) why: String,
    /// Digests of the causes of which no table is tainted any more.
    pub(super) over: Vec<u64>,
}

/// A change that the file lacks: the taints as they are now, and the clearances since.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) taints: Vec<Taint>,
    pub(super) cleared: Cleared,
}

impl Taints {
    /// What the file knows, beside what came up in the meantime. The earlier cause stays.
    pub(super) fn load(&self, known: Vec<Taint>) {
        let mut tables = self.tables.write();
        for taint in known {
            let key = taint.key();
            let last = tables
                .get(&key)
                .map_or(taint.last, |newer| newer.last.max(taint.last));
            tables.insert(key, Taint { last, ..taint });
        }
    }

    /// Taints tables; whether one was not tainted before. The first cause stays.
    pub(super) fn add(&self, tables: &[Table], cause: &Cause, now: jiff::Timestamp) -> bool {
        let mut known = self.tables.write();
        let (mut any, mut moved) = (false, false);
        for table in tables {
            let full = known.len() >= TAINTS_MAX;
            let key = if full { everything() } else { table.clone() };
            if let Some(taint) = known.get_mut(&key) {
                taint.last = taint.last.max(now);
                moved = true;
                continue;
            }
            let taint = Taint {
                database: key.database.clone(),
                table: key.name.clone(),
                cause: cause.clone(),
                since: now,
                last: now,
            };
            known.insert(key, taint);
            any = true;
        }
        self.lacks(any, moved);
        any
    }

    fn lacks(&self, changed: bool, moved: bool) {
        let mut unsaved = self.unsaved.lock();
        unsaved.moved |= moved;
        if changed {
            unsaved.changed.get_or_insert_default();
        }
    }

    /// Gives the taints of one cause, since then, another; whether there was one.
    pub(super) fn amend(&self, told: &Cause, cause: &Cause, since: jiff::Timestamp) -> bool {
        let mut known = self.tables.write();
        let mut any = false;
        for taint in known.values_mut() {
            if taint.cause == *told && taint.since >= since {
                taint.cause = cause.clone();
                any = true;
            }
        }
        self.lacks(any, false);
        any
    }

    /// Whether a table is tainted by this very cause.
    pub(super) fn has_cause(&self, cause: &Cause) -> bool {
        let known = self.tables.read();
        known.values().any(|taint| taint.cause == *cause)
    }

    pub(super) fn has(&self, table: &Table) -> bool {
        self.tables.read().contains_key(table)
    }

    pub(super) fn any(&self) -> bool {
        !self.tables.read().is_empty()
    }

    pub(super) fn cause(&self, table: &Table) -> Option<Cause> {
        let tables = self.tables.read();
        tables.get(table).map(|taint| taint.cause.clone())
    }

    pub(super) fn any_cause(&self) -> Option<Cause> {
        let tables = self.tables.read();
        let first = tables.values().min_by_key(|taint| taint.since);
        first.map(|taint| taint.cause.clone())
    }

    pub(super) fn all(&self) -> Vec<Taint> {
        self.tables.read().values().cloned().collect()
    }

    /// Clears tables by `database.table`, `table` (in any database) or `*`; says which were.
    pub(super) fn clear(&self, names: &[String], who: &str, why: &str) -> Vec<Taint> {
        let by_name = |taint: &Taint| names.iter().any(|name| named(taint, name));
        self.clear_those(by_name, who, why)
    }

    /// Whether a table, its database, or everything was tainted since then.
    pub(super) fn since(&self, table: &Table, since: jiff::Timestamp) -> bool {
        let known = self.tables.read();
        let whole = Table {
            database: table.database.clone(),
            name: "*".to_owned(),
        };
        [table, &whole, &everything()]
            .into_iter()
            .any(|one| known.get(one).is_some_and(|taint| taint.last >= since))
    }

    /// Whether a table that was read from then on, and was the same, may be so no more: it is tainted, whenever that
    /// was (what is read clears its taint), or its database, or everything, was since.
    pub(super) fn belies(&self, table: &Table, began: jiff::Timestamp) -> bool {
        let known = self.tables.read();
        let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
        known.iter().any(|(one, taint)| {
            let database = match (&one.database, &table.database) {
                (Some(one), Some(database)) => same(one, database),
                (None, _) | (_, None) => true,
            };
            database && (same(&one.name, &table.name) || (one.name == "*" && taint.last >= began))
        })
    }

    /// Clears one table, if it was tainted before then and not since; whether it was.
    pub(super) fn clear_one(
        &self,
        table: &Table,
        before: jiff::Timestamp,
        who: &str,
        why: &str,
    ) -> bool {
        let is_it = |taint: &Taint| taint.key() == *table && taint.last < before;
        !self.clear_those(is_it, who, why).is_empty()
    }

    fn clear_those(&self, of: impl Fn(&Taint) -> bool, who: &str, why: &str) -> Vec<Taint> {
        let mut known = self.tables.write();
        let cleared: Vec<Taint> = known.values().filter(|taint| of(taint)).cloned().collect();
        for taint in &cleared {
            known.remove(&taint.key());
        }
        if !cleared.is_empty() {
            let left: BTreeSet<u64> = known.values().map(|taint| taint.cause.digest()).collect();
            let over: BTreeSet<u64> = cleared.iter().map(|taint| taint.cause.digest()).collect();
            let mut unsaved = self.unsaved.lock();
            let clearances = unsaved.changed.get_or_insert_default();
            clearances.push_back(Clearance {
                at: jiff::Timestamp::now(),
                who: who.to_owned(),
                what: told(&cleared),
                why: why.to_owned(),
                over: over.difference(&left).copied().collect(),
            });
            bound(clearances);
        }
        cleared
    }

    /// What the file lacks; where that is only when some were tainted last, and not `all` is wanted, a while later.
    /// It is given the taints whole: they are few and change rarely, and so no change can be missed, whatever became
    /// of the one before.
    pub(super) fn take(&self, all: bool) -> Option<Change> {
        let mut unsaved = self.unsaved.lock();
        let rests = |taken: Instant| taken.elapsed() < MOVED_PAUSE;
        let waits = !all && unsaved.taken.is_some_and(rests);
        if unsaved.changed.is_none() && (!unsaved.moved || waits) {
            return None;
        }
        let cleared = unsaved.changed.take().unwrap_or_default();
        unsaved.moved = false;
        unsaved.taken = Some(Instant::now());
        drop(unsaved);
        Some(Change {
            taints: self.all(),
            cleared,
        })
    }

    /// It could not be written.
    pub(super) fn give_back(&self, change: Change) {
        let mut unsaved = self.unsaved.lock();
        let mut cleared = change.cleared;
        cleared.extend(unsaved.changed.take().unwrap_or_default());
        bound(&mut cleared);
        unsaved.changed = Some(cleared);
    }
}

fn bound(clearances: &mut Cleared) {
    let surplus = clearances.len().saturating_sub(CLEARANCES_MAX);
    clearances.drain(..surplus);
}

/// A clearance's tables as a text, the first of them if they are many.
fn told(cleared: &[Taint]) -> String {
    let names: Vec<String> = cleared.iter().take(NAMES_MAX).map(Taint::name).collect();
    let more = match cleared.len().saturating_sub(NAMES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("cleared the taint of {}{more}", names.join(", "))
}

fn everything() -> Table {
    Table {
        database: None,
        name: "*".to_owned(),
    }
}

fn named(taint: &Taint, name: &str) -> bool {
    name == "*" || name == taint.table || name == taint.name()
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

    #[test]
    fn the_first_cause_stays_until_the_table_is_cleared() {
        let taints = Taints::default();
        let now = jiff::Timestamp::UNIX_EPOCH;
        assert!(taints.add(&[table("a")], &"dropped".into(), now));
        assert!(!taints.add(&[table("a")], &"diverged".into(), now));
        assert_eq!(taints.all()[0].cause, "dropped".into());
        assert_eq!(taints.all()[0].shown()["name"], "app.a");
        assert!(taints.has(&table("a")) && !taints.has(&table("b")));
        assert_eq!(taints.clear(&["app.a".into()], "dba", "copied").len(), 1);
        assert!(!taints.has(&table("a")));
    }

    #[test]
    fn a_table_is_cleared_by_its_own_name_only() {
        let taints = Taints::default();
        taints.add(
            &[table("a"), table("ab")],
            &"dropped".into(),
            jiff::Timestamp::UNIX_EPOCH,
        );
        assert_eq!(taints.clear(&["a".into()], "dba", "copied").len(), 1);
        assert!(taints.has(&table("ab")));
        assert_eq!(taints.clear(&["*".into()], "dba", "copied").len(), 1);
    }

    #[test]
    fn what_tainted_a_table_since_it_was_read_stays() {
        let taints = Taints::default();
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        taints.add(&[table("a")], &"dropped".into(), at(1));
        taints.add(&[table("b")], &"dropped".into(), at(5));
        assert!(taints.clear_one(&table("a"), at(3), "understudy", "verified"));
        assert!(!taints.clear_one(&table("b"), at(3), "understudy", "verified"));
        assert!(!taints.has(&table("a")) && taints.has(&table("b")));
        assert!(taints.since(&table("b"), at(4)) && !taints.since(&table("b"), at(6)));
        assert!(taints.belies(&table("b"), at(9)) && !taints.belies(&table("a"), at(0)));
        let whole = Table {
            database: Some("App".into()),
            name: "*".into(),
        };
        taints.add(&[whole], &"dropped".into(), at(7));
        assert!(taints.belies(&table("a"), at(7)) && !taints.belies(&table("a"), at(8)));
        // The first cause is told, and the last one counts.
        taints.add(&[table("c")], &"dropped".into(), at(1));
        taints.add(&[table("c")], &"dropped".into(), at(5));
        assert!(!taints.clear_one(&table("c"), at(3), "understudy", "verified"));
        assert!(taints.clear_one(&table("c"), at(6), "understudy", "verified"));
    }

    #[test]
    fn what_could_not_be_written_is_asked_for_again() {
        let taints = Taints::default();
        assert!(taints.take(true).is_none());
        taints.add(
            &[table("a")],
            &"dropped".into(),
            jiff::Timestamp::UNIX_EPOCH,
        );
        let change = taints.take(false).unwrap();
        assert!(taints.take(true).is_none());
        taints.clear(&["a".into()], "dba", "copied");
        taints.give_back(change);
        let change = taints.take(false).unwrap();
        assert!(change.taints.is_empty());
        assert_eq!(change.cleared[0].what, "cleared the taint of app.a");
    }

    /// Finding: a file knew when a table was first tainted alone, and after a restart what was found equal before it was
    /// tainted once more was equal again.
    #[tokio::test(start_paused = true)]
    async fn when_it_was_tainted_last_is_kept_too_and_not_with_every_command() {
        let taints = Taints::default();
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        taints.add(&[everything()], &"unobserved".into(), at(10));
        let first = taints.take(false).unwrap();
        assert_eq!(
            (first.taints[0].since, first.taints[0].last),
            (at(10), at(10))
        );
        assert!(!taints.add(&[everything()], &"unobserved".into(), at(11)));
        assert!(taints.take(false).is_none(), "it was just written");
        tokio::time::advance(MOVED_PAUSE).await;
        let later = taints.take(false).unwrap();
        assert_eq!(
            (later.taints[0].since, later.taints[0].last),
            (at(10), at(11))
        );
        // At a stop nothing waits, and what could not be written is asked for again.
        taints.add(&[everything()], &"unobserved".into(), at(12));
        let last = taints.take(true).unwrap();
        assert!(taints.take(true).is_none());
        taints.give_back(last);
        let last = taints.take(false).unwrap();
        let again = Taints::default();
        again.add(&[everything()], &"orphaned".into(), at(9));
        again.load(last.taints);
        assert!(again.belies(&table("t"), at(12)) && !again.belies(&table("t"), at(13)));
        assert_eq!(again.any_cause(), Some("unobserved".into()));
    }

    /// The same through a file, as a restart finds it.
    #[test]
    fn what_was_equal_before_all_was_tainted_once_more_is_not_so_after_a_restart() {
        use crate::ledger::store_tests::{config, open};
        use crate::ledger::{Ledger, Listed, RunBegun, TableEnd, Verifications};
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let told = |ledger: &Ledger| {
            let known = ledger.at_rest(["legacy", "other"], "here").unwrap();
            known.tables[0].outcome.clone().unwrap()
        };
        let ledger = open(&config);
        ledger.taint(&[everything()], &"unobserved".into());
        let records = Verifications::at(&config.path);
        let run = records.begin(&RunBegun {
            primary: "legacy".into(),
            shadow: "other".into(),
            who: "dba".into(),
            wish: "{}".into(),
            condition: None,
            servers: "here".into(),
            alone: false,
        });
        let run = run.unwrap();
        let listed = Listed {
            database: "app".into(),
            name: "t".into(),
            asked: true,
            rows_about: None,
        };
        records.tables(run, &[listed]).unwrap();
        records.table_begins(run, ("app", "t")).unwrap();
        let end = TableEnd {
            outcome: "equal",
            rows: (1, 1),
            standing: "{}",
        };
        records.table_ends(run, ("app", "t"), &end).unwrap();
        records.end(run, "equal", None).unwrap();
        assert_eq!(told(&ledger), "equal", "it was tainted before");
        ledger.taint(&[everything()], &"unobserved".into());
        assert_eq!(told(&ledger), "tainted");
        ledger.close();
        assert_eq!(told(&open(&config)), "tainted");
    }

    #[test]
    fn a_cause_is_amended_where_it_tainted_since() {
        let taints = Taints::default();
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        taints.add(&[table("before")], &"diverged".into(), at(1));
        taints.add(&[table("after")], &"diverged".into(), at(5));
        taints.add(&[table("other")], &"dropped".into(), at(5));
        assert!(taints.amend(&"diverged".into(), &"raced".into(), at(5)));
        assert_eq!(taints.cause(&table("before")), Some("diverged".into()));
        assert_eq!(taints.cause(&table("after")), Some("raced".into()));
        assert_eq!(taints.cause(&table("other")), Some("dropped".into()));
    }

    #[test]
    fn a_cause_is_over_once_its_last_table_is_cleared() {
        let taints = Taints::default();
        let cause = Cause::from("dropped");
        let now = jiff::Timestamp::UNIX_EPOCH;
        taints.add(&[table("a"), table("b")], &cause, now);
        taints.clear(&["a".into()], "dba", "copied");
        taints.clear(&["b".into()], "dba", "copied");
        let cleared = taints.take(false).unwrap().cleared;
        let over: Vec<_> = cleared.iter().map(|one| one.over.clone()).collect();
        assert_eq!(over, [vec![], vec![cause.digest()]]);
    }
}

//! The primary's latest commit points, mirrored or not: did one fall into a read's time? Pure and
//! bounded. Of what has been forgotten the last commit of each table stays; whether it was one that
//! the read met nobody can tell any more, so it counts as "perhaps".

use super::order::Scope;
use crate::sql::Table;
use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

/// How many commit points are remembered. At 10,000 writes a second that is the last 0.8 s, about
/// the time that a healthy mirror is behind.
const POINTS_MAX: usize = 8192;

/// Tables whose last forgotten commit is known.
const TABLES_MAX: usize = 4096;

/// A ring of commit points.
#[derive(Debug, Default)]
pub(super) struct Recent {
    points: VecDeque<Point>,
    /// Of the forgotten ones, each table's latest acknowledgement.
    tables: BTreeMap<Table, Instant>,
    /// The latest among the forgotten ones that perhaps were of any table.
    forgotten: Option<Instant>,
}

#[derive(Debug)]
struct Point {
    session: u64,
    scope: Scope,
    began: Instant,
    acked: Instant,
}

impl Recent {
    /// Remembers a commit point.
    pub(super) fn push(&mut self, session: u64, scope: Scope, began: Instant, acked: Instant) {
        if self.points.len() >= POINTS_MAX {
            self.forget_one();
        }
        self.points.push_back(Point {
            session,
            scope,
            began,
            acked,
        });
    }

    fn forget_one(&mut self) {
        let Some(Point { scope, acked, .. }) = self.points.pop_front() else {
            return;
        };
        let Scope::Known(tables) = scope else {
            self.forgotten = self.forgotten.max(Some(acked));
            return;
        };
        for table in tables.iter() {
            if let Some(last) = self.tables.get_mut(table) {
                *last = acked.max(*last);
                continue;
            }
            if self.tables.len() >= TABLES_MAX {
                let latest = self.tables.values().max().copied();
                self.forgotten = self.forgotten.max(latest);
                self.tables.clear();
            }
            self.tables.insert(table.clone(), acked);
        }
    }

    /// Whether a commit on these tables was forgotten that may have been after `from`.
    fn perhaps(&self, scope: &Scope, from: Instant) -> bool {
        let since = |last: &Instant| *last >= from;
        self.forgotten.as_ref().is_some_and(since)
            || match scope {
                Scope::Known(tables) => tables
                    .iter()
                    .any(|table| self.tables.get(table).is_some_and(since)),
                Scope::All => self.tables.values().any(since),
            }
    }

    /// Whether another session's commit point on these tables was, even in part, between `from`
    /// and `to` on the primary.
    pub(super) fn met(&self, session: u64, scope: &Scope, from: Instant, to: Instant) -> bool {
        if self.perhaps(scope, from) {
            return true;
        }
        self.points.iter().any(|point| {
            point.session != session
                && point.began <= to
                && point.acked >= from
                && point.scope.meets(scope)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn on(name: &str) -> Scope {
        Scope::Known(
            [Table {
                database: None,
                name: name.into(),
            }]
            .into(),
        )
    }

    #[test]
    fn a_commit_meets_a_read_that_it_overlapped_on_the_same_table_from_another_session() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut recent = Recent::default();
        recent.push(1, on("a"), at(10), at(20));
        for (session, table, from, to, met) in [
            (2, "a", 15, 16, true),
            (2, "a", 0, 10, true),
            (2, "a", 20, 30, true),
            (2, "a", 21, 30, false),
            (2, "a", 0, 9, false),
            (2, "b", 15, 16, false),
            (1, "a", 15, 16, false),
        ] {
            assert_eq!(
                recent.met(session, &on(table), at(from), at(to)),
                met,
                "{session} {table} {from}..{to}"
            );
        }
    }

    #[test]
    fn what_was_forgotten_counts_as_perhaps_on_its_tables_alone() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut recent = Recent::default();
        for _ in 0..=POINTS_MAX {
            recent.push(1, on("a"), start, start);
        }
        assert!(recent.met(2, &on("a"), start, later));
        assert!(recent.met(2, &Scope::All, start, later));
        assert!(!recent.met(2, &on("a"), later, later));
        assert!(!recent.met(2, &on("b"), start, later));
        recent.points.clear();
        recent.push(1, Scope::All, start, start);
        recent.forget_one();
        assert!(recent.met(2, &on("b"), start, later));
    }

    #[test]
    fn tables_past_the_bound_count_as_perhaps_any() {
        let start = Instant::now();
        let mut recent = Recent::default();
        for table in 0..=TABLES_MAX {
            recent.push(1, on(&format!("t{table}")), start, start);
            recent.forget_one();
        }
        assert!(recent.tables.len() <= TABLES_MAX);
        assert!(recent.met(2, &on("t0"), start, start));
    }
}

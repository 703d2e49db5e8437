//! The primary's latest commit points, mirrored or not: did one fall into a read's time? Pure and
//! bounded; what has been forgotten counts as "perhaps".

use super::order::Scope;
use std::collections::VecDeque;
use tokio::time::Instant;

/// How many commit points are remembered. At 10,000 writes a second that is the last 0.8 s, about
/// the time that a healthy mirror is behind.
const POINTS_MAX: usize = 8192;

/// A ring of commit points.
#[derive(Debug, Default)]
pub(super) struct Recent {
    points: VecDeque<Point>,
    /// The latest acknowledgement among those that were forgotten.
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
            let oldest = self.points.pop_front().map(|point| point.acked);
            self.forgotten = self.forgotten.max(oldest);
        }
        self.points.push_back(Point {
            session,
            scope,
            began,
            acked,
        });
    }

    /// Whether another session's commit point on these tables was, even in part, between `from`
    /// and `to` on the primary.
    pub(super) fn met(&self, session: u64, scope: &Scope, from: Instant, to: Instant) -> bool {
        if self.forgotten.is_some_and(|forgotten| forgotten >= from) {
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
    use crate::sql::Table;
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
    fn what_was_forgotten_counts_as_perhaps() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut recent = Recent::default();
        for _ in 0..=POINTS_MAX {
            recent.push(1, on("a"), start, start);
        }
        assert!(recent.met(2, &on("b"), start, later));
        assert!(!recent.met(2, &on("b"), later, later));
    }
}

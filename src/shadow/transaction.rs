//! Where a session's transactions begin and end on the primary. Pure; from the status flags of
//! the answers, never from SQL: SQL only tells a commit from a rollback.

use super::order::Scope;
use crate::sql::Control;
use crate::wire::answer::{Answer, Failure};
use tokio::time::Instant;

/// How a transaction ended on the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Committed, by COMMIT or by a command that commits implicitly.
    Commit,
    /// Rolled back, by ROLLBACK, a deadlock or a reset.
    Rollback,
}

/// What one command did to the session's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// A transaction was open before it.
    pub(super) before: bool,
    /// One is open after it.
    pub(super) after: bool,
    /// The transaction that was open ended by it.
    pub(super) ended: Option<Ending>,
    /// What the transaction that ended had written.
    pub(super) wrote: Scope,
    /// When the transaction's snapshot was opened, where this command reads within one.
    pub(super) snapshot: Option<Instant>,
    /// This command opened the snapshot.
    pub(super) opens_snapshot: bool,
    /// Something was written earlier in the same transaction.
    pub(super) written_before: bool,
}

/// What must be known of a command to take a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// The last status flags before it said that a transaction is open.
    pub(super) flag_before: bool,
    /// The flag after it; `None` where the answer carried none (an error, no answer).
    pub(super) flag_after: Option<bool>,
    /// The error number of the answer.
    pub(super) error: Option<u16>,
    /// The transaction control of the command's last such statement.
    pub(super) control: Option<Control>,
    /// The session's state is reset by it (RESET_CONNECTION, CHANGE_USER).
    pub(super) resets: bool,
    /// It reads, and the session's isolation level keeps snapshots.
    pub(super) reads: bool,
    /// The tables that it writes or locks.
    pub(super) writes: Option<&'a Scope>,
    /// When it began.
    pub(super) began: Instant,
}

/// One session's transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker {
    /// A deadlock ended the transaction and no flag has said so since.
    rolled_back: bool,
    snapshot: Option<Instant>,
    wrote: Option<Scope>,
}

impl Tracker {
    /// Whether a transaction is open, given the flag that was seen last.
    pub(super) const fn open(&self, flag: bool) -> bool {
        flag && !self.rolled_back
    }

    /// What the open transaction has written so far.
    pub(super) fn wrote(&self) -> Scope {
        self.wrote.clone().unwrap_or_else(Scope::none)
    }

    /// Takes in a command and the primary's answer to it.
    pub(super) fn step(&mut self, seen: &Seen<'_>) -> Step {
        let before = self.open(seen.flag_before);
        if !before {
            self.forget();
        }
        let deadlock = seen.error == Some(DEADLOCK);
        let after = match seen.flag_after {
            Some(flag) => flag,
            None => before && !deadlock && !seen.resets,
        };
        self.rolled_back = match seen.flag_after {
            Some(_) => false,
            None => self.rolled_back && seen.flag_before || deadlock,
        };
        let failed = seen.error.is_some();
        let ended = (before && (!failed || deadlock))
            .then(|| ending(seen, deadlock, after))
            .flatten();
        let mut wrote = Scope::none();
        let written_before = self.wrote.is_some();
        if ended.is_some() {
            wrote = self.wrote();
            self.forget();
        }
        let opens_snapshot = self.snapshot.is_none()
            && !failed
            && after
            && (seen.reads || matches!(seen.control, Some(Control::Begin { snapshot: true })));
        if opens_snapshot {
            self.snapshot = Some(seen.began);
        }
        let snapshot = self.snapshot.filter(|_| before || after);
        if let (Some(tables), true) = (seen.writes, after) {
            self.wrote.get_or_insert_with(Scope::none).join(tables);
        }
        Step {
            before,
            after,
            ended,
            wrote,
            snapshot,
            opens_snapshot,
            written_before,
        }
    }

    fn forget(&mut self) {
        self.snapshot = None;
        self.wrote = None;
    }
}

fn ending(seen: &Seen<'_>, deadlock: bool, after: bool) -> Option<Ending> {
    if deadlock || seen.resets {
        return Some(Ending::Rollback);
    }
    match seen.control {
        Some(Control::Commit) => Some(Ending::Commit),
        Some(Control::Rollback) => Some(Ending::Rollback),
        // BEGIN within a transaction commits that and opens another.
        Some(Control::Begin { .. }) => Some(Ending::Commit),
        Some(Control::Within) | None => (!after).then_some(Ending::Commit),
    }
}

/// ER_LOCK_DEADLOCK: the server has rolled the whole transaction back.
pub(super) const DEADLOCK: u16 = 1213;

/// Whether the shadow's error means: the same transaction again may succeed.
pub(super) fn is_retriable(failure: &Failure) -> bool {
    matches!(failure.code, 1205 | DEADLOCK)
        // A row lock's wait that vtgate's own time-out cut short.
        || failure.code == 3024
        // vttablet ended the transaction ("transaction 12: ended at …"); the row cap is no such.
        || failure.code == 1317 && contains(&failure.message, b"ended at")
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// The flag that an answer ended with, where it carried one.
pub(super) fn flag_after(answer: &Answer, answered: bool) -> Option<bool> {
    if !answered || answer.error().is_some() {
        return None;
    }
    answer
        .status
        .map(crate::wire::status::Status::in_transaction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Table;

    fn on(name: &str) -> Scope {
        Scope::Known(
            [Table {
                database: None,
                name: name.into(),
            }]
            .into(),
        )
    }

    fn seen(flag_before: bool, flag_after: Option<bool>) -> Seen<'static> {
        Seen {
            flag_before,
            flag_after,
            error: None,
            control: None,
            resets: false,
            reads: false,
            writes: None,
            began: Instant::now(),
        }
    }

    #[test]
    fn a_transaction_ends_as_its_last_command_says() {
        let begin = Some(Control::Begin { snapshot: false });
        for (control, after, error, ended) in [
            (
                Some(Control::Commit),
                Some(false),
                None,
                Some(Ending::Commit),
            ),
            (
                Some(Control::Rollback),
                Some(false),
                None,
                Some(Ending::Rollback),
            ),
            (
                Some(Control::Commit),
                Some(true),
                None,
                Some(Ending::Commit),
            ), // AND CHAIN
            (begin, Some(true), None, Some(Ending::Commit)),
            (Some(Control::Within), Some(true), None, None),
            (None, Some(true), None, None),
            (None, Some(false), None, Some(Ending::Commit)), // DDL
            (None, None, Some(1213), Some(Ending::Rollback)),
            (None, None, Some(1062), None),
        ] {
            let mut tracker = Tracker::default();
            let tables = on("a");
            tracker.step(&Seen {
                writes: Some(&tables),
                ..seen(false, Some(true))
            });
            let step = tracker.step(&Seen {
                control,
                error,
                ..seen(true, after)
            });
            assert_eq!(step.ended, ended, "{control:?} {after:?} {error:?}");
            let wrote = if ended.is_some() {
                on("a")
            } else {
                Scope::none()
            };
            assert_eq!(step.wrote, wrote, "{control:?} {after:?} {error:?}");
        }
    }

    #[test]
    fn after_a_deadlock_the_old_flag_is_not_believed_until_a_new_one_comes() {
        let mut tracker = Tracker::default();
        tracker.step(&seen(false, Some(true)));
        tracker.step(&Seen {
            error: Some(1213),
            ..seen(true, None)
        });
        assert!(!tracker.open(true));
        let step = tracker.step(&Seen {
            error: Some(1064),
            ..seen(true, None)
        });
        assert!(!step.before && !step.after);
        let step = tracker.step(&seen(true, Some(true)));
        assert!(!step.before && step.after);
        assert!(tracker.open(true));
    }

    #[test]
    fn the_first_read_opens_the_snapshot_and_the_end_closes_it() {
        let mut tracker = Tracker::default();
        let step = tracker.step(&seen(false, Some(true)));
        assert_eq!(
            (step.opens_snapshot, step.snapshot.is_some()),
            (false, false)
        );
        let read = |flag_before, flag_after| Seen {
            reads: true,
            ..seen(flag_before, flag_after)
        };
        let step = tracker.step(&read(true, Some(true)));
        assert_eq!((step.opens_snapshot, step.snapshot.is_some()), (true, true));
        let step = tracker.step(&read(true, Some(true)));
        assert_eq!(
            (step.opens_snapshot, step.snapshot.is_some()),
            (false, true)
        );
        tracker.step(&Seen {
            control: Some(Control::Commit),
            ..seen(true, Some(false))
        });
        let step = tracker.step(&read(false, Some(false)));
        assert_eq!(
            (step.opens_snapshot, step.snapshot.is_some()),
            (false, false)
        );
    }
}

//! Where a session's transactions begin and end on the primary. Pure; from the status flags of
//! the answers, never from SQL: SQL only tells a commit from a rollback.

use super::order::Scope;
use crate::sql::Control;
use crate::wire::answer::{Answer, Failure};
use crate::wire::status::Status;
use tokio::time::Instant;

/// How a transaction ended on the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Committed, by COMMIT or by a command that commits implicitly.
    Commit,
    /// Rolled back, by ROLLBACK, a deadlock, a reset or the session's end.
    Rollback,
    /// It ended, or may have, and the primary did not say how: a COMMIT without an answer, or one
    /// that failed.
    Unknown,
}

/// What the primary said to a command, as far as transactions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It was done; the status flag where the answer carried one.
    Done(Option<bool>),
    /// It failed with this error; the flag where a statement before it in the same command had
    /// one.
    Failed(u16, Option<bool>),
    /// Nothing: the primary or the client vanished, and the session with it.
    Nothing,
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
    /// Where it held locks: what it wrote, and what it read to write.
    pub(super) locked: Scope,
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
    /// What the primary said.
    pub(super) said: Said,
    /// The transaction control of the command's last such statement.
    pub(super) control: Option<Control>,
    /// It may have committed what was written before it, though it failed: DDL, or one of several
    /// statements.
    pub(super) commits: bool,
    /// The session's state is reset by it (RESET_CONNECTION, CHANGE_USER).
    pub(super) resets: bool,
    /// It reads, and the session's isolation level keeps snapshots.
    pub(super) reads: bool,
    /// The tables that it writes or locks.
    pub(super) writes: Option<&'a Scope>,
    /// All tables of a command that writes or locks.
    pub(super) touches: &'a Scope,
    /// When it began.
    pub(super) began: Instant,
}

/// One session's transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker {
    /// The transaction ended without a flag that said so, and none has since.
    ended: bool,
    /// An error may have rolled the transaction back, and no flag has said since whether it did.
    doubtful: bool,
    snapshot: Option<Instant>,
    wrote: Option<Scope>,
    locked: Option<Scope>,
}

impl Tracker {
    /// Whether a transaction is open, given the flag that was seen last.
    pub(super) const fn open(&self, flag: bool) -> bool {
        flag && !self.ended
    }

    /// Takes in a command and what the primary said to it.
    pub(super) fn step(&mut self, seen: &Seen<'_>) -> Step {
        let before = self.open(seen.flag_before);
        if !before {
            self.forget();
        }
        let ended = before.then(|| ending(seen)).flatten();
        let ended = match ended {
            // Whatever it was that ended here, nobody knows what it held.
            Some(Ending::Commit) if self.doubtful => Some(Ending::Unknown),
            ended => ended,
        };
        let after = match seen.said {
            Said::Done(Some(flag)) => flag,
            Said::Done(None) => before && !seen.resets,
            Said::Failed(_, flag) => ended.is_none() && flag.unwrap_or(before),
            Said::Nothing => before && ended.is_none(),
        };
        let flag = match seen.said {
            Said::Done(flag) | Said::Failed(_, flag) => flag,
            Said::Nothing => None,
        };
        self.ended = flag.unwrap_or(seen.flag_before) && !after;
        self.doubtful = match seen.said {
            Said::Failed(code, None) => before && after && (self.doubtful || may_roll_back(code)),
            Said::Failed(_, Some(_)) | Said::Done(Some(_)) => false,
            Said::Done(None) | Said::Nothing => self.doubtful && after,
        };
        let (mut wrote, mut locked) = (Scope::none(), Scope::none());
        let written_before = self.wrote.is_some();
        if ended.is_some() {
            wrote = self.wrote.take().unwrap_or_else(Scope::none);
            locked = self.locked.take().unwrap_or_else(Scope::none);
            self.forget();
        }
        let opens_snapshot = self.snapshot.is_none()
            // Of several statements, one before the one that failed may have read.
            && matches!(seen.said, Said::Done(_) | Said::Failed(_, Some(_)))
            && after
            && (seen.reads || matches!(seen.control, Some(Control::Begin { snapshot: true })));
        if opens_snapshot {
            self.snapshot = Some(seen.began);
        }
        let snapshot = self.snapshot.filter(|_| before || after);
        if let (Some(tables), true) = (seen.writes, after) {
            self.wrote.get_or_insert_with(Scope::none).join(tables);
            let locked = self.locked.get_or_insert_with(Scope::none);
            locked.join(tables);
            locked.join(seen.touches);
        }
        Step {
            before,
            after,
            ended,
            wrote,
            locked,
            snapshot,
            opens_snapshot,
            written_before,
        }
    }

    fn forget(&mut self) {
        self.snapshot = None;
        self.wrote = None;
        self.locked = None;
    }
}

/// How the open transaction ended by this command, if it did.
fn ending(seen: &Seen<'_>) -> Option<Ending> {
    // BEGIN within a transaction commits that and opens another.
    let ends = matches!(seen.control, Some(Control::Commit | Control::Begin { .. }));
    match seen.said {
        // Of several statements, one before it may have committed.
        Said::Failed(DEADLOCK, _) if !seen.commits => Some(Ending::Rollback),
        Said::Failed(SYNTAX, _) if !seen.commits => None,
        Said::Failed(..) if ends || seen.commits => Some(Ending::Unknown),
        Said::Failed(..) => None,
        Said::Nothing if ends || seen.commits => Some(Ending::Unknown),
        Said::Nothing => Some(Ending::Rollback),
        Said::Done(_) if seen.resets || seen.control == Some(Control::Rollback) => {
            Some(Ending::Rollback)
        }
        Said::Done(_) if ends => Some(Ending::Commit),
        Said::Done(flag) => (flag == Some(false)).then_some(Ending::Commit),
    }
}

/// ER_LOCK_WAIT_TIMEOUT, which rolls the whole transaction back where the server's
/// innodb_rollback_on_timeout is on, and ER_CHECKREAD, of MariaDB's innodb_snapshot_isolation.
const fn may_roll_back(code: u16) -> bool {
    matches!(code, 1205 | 1020)
}

/// ER_PARSE_ERROR: nothing of a single statement was run.
pub(super) const SYNTAX: u16 = 1064;

/// ER_LOCK_DEADLOCK: the server has rolled the whole transaction back.
pub(super) const DEADLOCK: u16 = 1213;

/// Whether the shadow's error means: the same transaction again may succeed. `locks`: what failed
/// takes locks, as writes and locking reads do.
pub(super) fn is_retriable(failure: &Failure, locks: bool) -> bool {
    matches!(failure.code, 1205 | DEADLOCK)
        // A row lock's wait that vtgate's own time-out cut short. What waits for no lock is slow
        // by itself, and will be again.
        || failure.code == 3024 && locks
        // vttablet ended the transaction ("transaction 12: ended at …"); the row cap is no such.
        || is_ended_by_limit(failure)
}

/// Whether vttablet ended the transaction for its age: a limit of the shadow's, if it does so again.
pub(super) fn is_ended_by_limit(failure: &Failure) -> bool {
    failure.code == 1317 && contains(&failure.message, b"ended at")
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// What an answer says.
pub(super) fn said(answer: &Answer, answered: bool) -> Said {
    let flag = answer.status.map(Status::in_transaction);
    match answer.error() {
        _ if !answered => Said::Nothing,
        Some(failure) => Said::Failed(failure.code, flag),
        None => Said::Done(flag),
    }
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

    static NOTHING: Scope = Scope::none();

    fn seen(flag_before: bool, flag_after: Option<bool>) -> Seen<'static> {
        Seen {
            flag_before,
            said: Said::Done(flag_after),
            control: None,
            commits: false,
            resets: false,
            reads: false,
            writes: None,
            touches: &NOTHING,
            began: Instant::now(),
        }
    }

    #[test]
    fn a_transaction_ends_as_its_last_command_says() {
        let begin = Some(Control::Begin { snapshot: false });
        let (commit, rollback) = (Some(Control::Commit), Some(Control::Rollback));
        let done = |flag| Said::Done(Some(flag));
        for (control, commits, said, ended) in [
            (commit, false, done(false), Some(Ending::Commit)),
            (rollback, false, done(false), Some(Ending::Rollback)),
            (commit, false, done(true), Some(Ending::Commit)), // AND CHAIN
            (begin, false, done(true), Some(Ending::Commit)),
            (Some(Control::Within), false, done(true), None),
            (None, false, done(true), None),
            (None, false, done(false), Some(Ending::Commit)), // SET autocommit = 1
            (None, true, done(false), Some(Ending::Commit)),  // DDL
            (
                None,
                false,
                Said::Failed(1213, None),
                Some(Ending::Rollback),
            ),
            // BEGIN; UPDATE …, of which the UPDATE failed.
            (
                begin,
                true,
                Said::Failed(1213, Some(false)),
                Some(Ending::Unknown),
            ),
            (None, false, Said::Failed(1062, None), None),
            (commit, false, Said::Failed(1064, None), None),
            (
                commit,
                false,
                Said::Failed(1180, None),
                Some(Ending::Unknown),
            ),
            (
                begin,
                false,
                Said::Failed(3101, None),
                Some(Ending::Unknown),
            ),
            (None, true, Said::Failed(1050, None), Some(Ending::Unknown)),
            (commit, false, Said::Nothing, Some(Ending::Unknown)),
            (None, true, Said::Nothing, Some(Ending::Unknown)),
            (None, false, Said::Nothing, Some(Ending::Rollback)),
        ] {
            let mut tracker = Tracker::default();
            let tables = on("a");
            tracker.step(&Seen {
                writes: Some(&tables),
                ..seen(false, Some(true))
            });
            let step = tracker.step(&Seen {
                control,
                commits,
                said,
                ..seen(true, None)
            });
            assert_eq!(step.ended, ended, "{control:?} {commits} {said:?}");
            let wrote = if ended.is_some() {
                on("a")
            } else {
                Scope::none()
            };
            assert_eq!(step.wrote, wrote, "{control:?} {commits} {said:?}");
        }
    }

    #[test]
    fn a_reads_time_out_is_no_locks_and_is_not_tried_again() {
        let failure = |code, message: &str| Failure {
            code,
            message: message.as_bytes().to_vec(),
            ..Failure::default()
        };
        let ended = "transaction 12: ended at 2026-01-01 (exceeded timeout: 30s)";
        for (code, message, of_a_read, of_a_write) in [
            (1205, "Lock wait timeout exceeded", true, true),
            (1213, "Deadlock found", true, true),
            (3024, "maximum execution time exceeded", false, true),
            (1317, ended, true, true),
            (1317, "Row count exceeded 10000", false, false),
            (1062, "Duplicate entry", false, false),
        ] {
            let failure = failure(code, message);
            let retriable = [false, true].map(|locks| is_retriable(&failure, locks));
            assert_eq!(retriable, [of_a_read, of_a_write], "{message}");
            assert_eq!(is_ended_by_limit(&failure), message == ended, "{message}");
        }
    }

    #[test]
    fn after_a_deadlock_the_old_flag_is_not_believed_until_a_new_one_comes() {
        let mut tracker = Tracker::default();
        tracker.step(&seen(false, Some(true)));
        tracker.step(&Seen {
            said: Said::Failed(1213, None),
            ..seen(true, None)
        });
        assert!(!tracker.open(true));
        let step = tracker.step(&Seen {
            said: Said::Failed(1146, None),
            ..seen(true, None)
        });
        assert!(!step.before && !step.after);
        let step = tracker.step(&seen(true, Some(true)));
        assert!(!step.before && step.after);
        assert!(tracker.open(true));
    }

    #[test]
    fn of_several_statements_one_may_open_a_transaction_before_another_fails() {
        let mut tracker = Tracker::default();
        let tables = on("a");
        let step = tracker.step(&Seen {
            said: Said::Failed(1062, Some(true)),
            writes: Some(&tables),
            ..seen(false, None)
        });
        assert!(!step.before && step.after);
        let step = tracker.step(&Seen {
            control: Some(Control::Commit),
            ..seen(true, Some(false))
        });
        assert_eq!((step.ended, step.wrote), (Some(Ending::Commit), on("a")));
    }

    #[test]
    fn after_a_lock_time_out_nobody_knows_what_the_next_end_ends() {
        let begin = Some(Control::Begin { snapshot: false });
        for (between, control, flag, ended) in [
            (false, begin, Some(true), Some(Ending::Unknown)),
            (
                false,
                Some(Control::Commit),
                Some(false),
                Some(Ending::Unknown),
            ),
            (false, None, Some(false), Some(Ending::Unknown)),
            (
                false,
                Some(Control::Rollback),
                Some(false),
                Some(Ending::Rollback),
            ),
            // A statement between them was answered within the transaction: it is still open.
            (
                true,
                Some(Control::Commit),
                Some(false),
                Some(Ending::Commit),
            ),
        ] {
            let mut tracker = Tracker::default();
            tracker.step(&seen(false, Some(true)));
            tracker.step(&Seen {
                said: Said::Failed(1205, None),
                ..seen(true, None)
            });
            if between {
                tracker.step(&seen(true, Some(true)));
            }
            let step = tracker.step(&Seen {
                control,
                ..seen(true, flag)
            });
            assert_eq!(step.ended, ended, "{between} {control:?} {flag:?}");
        }
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

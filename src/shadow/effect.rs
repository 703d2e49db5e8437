//! What a command did on the primary, as far as the shadow must know: what it wrote, what it
//! committed, how it takes part in the order. Pure.

use super::order::{Part, Scope};
use super::reading::Reading;
use super::transaction::{Ending, SYNTAX, Said, Step};
use crate::compare::verdict::Reason;
use crate::sql::{Class, Control, Statement, Tables};
use crate::tee::Exchange;
use crate::wire::command::Command;

/// Whether the reason is one of ours, for which whole transactions are let go.
const fn is_a_drop(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Dropped | Reason::Suspended | Reason::Paused | Reason::Internal
    )
}

/// Whether the rest of the open transaction cannot be run without this command.
pub(super) fn is_missed(reading: &Reading, step: &Step, reason: Reason) -> bool {
    let reads = matches!(reading.class, Class::Read | Class::Metadata | Class::Empty);
    step.before && is_a_drop(reason) && reading.runs && !reads
}

/// What the primary committed with the command.
pub(super) fn committed(reading: &Reading, step: &Step, may_have_written: bool) -> Scope {
    let mut scope = Scope::none();
    if matches!(step.ended, Some(Ending::Commit | Ending::Unknown)) {
        scope.join(&step.wrote);
    }
    if !step.after && may_have_written && !reading.only_locks() {
        scope.join(&reading.writes);
    }
    scope
}

/// Whether the command may have committed without saying so, given what the primary said.
pub(super) fn commits(reading: &Reading, said: Said) -> bool {
    let by_class = match (reading.class, said) {
        (Class::Ddl, _) => !matches!(said, Said::Failed(SYNTAX, _)),
        // A procedure may commit, and SET autocommit.
        (Class::Unmirrored, Said::Failed(code, _)) => code != SYNTAX,
        (Class::Unmirrored | Class::Session, Said::Nothing) => true,
        _ => false,
    };
    is_statement(reading) && (reading.ends_inside || by_class)
}

/// Whether it may change which tables a view, a trigger or a foreign key leads to.
pub(super) fn changes_definitions(reading: &Reading) -> bool {
    let defines = |one: &Statement| defines(&one.fingerprint);
    matches!(reading.class, Class::Ddl | Class::Unmirrored)
        && reading.runs
        && reading
            .analysis
            .as_ref()
            .is_some_and(|all| all.statements.iter().any(defines))
}

/// Words of a definition's beginning among which its kind is: DEFINER, ALGORITHM and SQL SECURITY
/// stand before it.
const BEGINNING: usize = 16;

/// Whether a statement defines a table, a view or a trigger; what is temporary has no triggers, and
/// no foreign keys lead to it.
fn defines(fingerprint: &str) -> bool {
    let mut words = fingerprint.split_whitespace().take(BEGINNING);
    let is = |word: &str, known: &[&str]| known.iter().any(|it| it.eq_ignore_ascii_case(word));
    words
        .next()
        .is_some_and(|word| is(word, &["CREATE", "ALTER", "DROP", "RENAME"]))
        && words
            .find(|word| is(word, &["TABLE", "TABLES", "VIEW", "TRIGGER", "TEMPORARY"]))
            .is_some_and(|word| !is(word, &["TEMPORARY"]))
}

/// Whether it can open or end a transaction: a PING may only be the first to say that one is open.
pub(super) const fn is_statement(reading: &Reading) -> bool {
    matches!(reading.kind, Command::QUERY | Command::STMT_EXECUTE)
}

pub(super) fn statements(reading: &Reading) -> usize {
    reading
        .analysis
        .as_ref()
        .map_or(1, |analysis| analysis.statements.len())
}

pub(super) const fn resets(kind: Command) -> bool {
    kind.0 == Command::CHANGE_USER.0 || kind.0 == Command::RESET_CONNECTION.0
}

pub(super) fn written(reading: &Reading) -> Option<&Scope> {
    Some(&reading.writes).filter(|writes| !writes.is_empty())
}

/// Whether the primary's answer leaves it possible that something was written: several statements
/// may have been run before the one that failed, and without an answer nobody knows.
pub(super) fn may_have_written(one: &Exchange) -> bool {
    !one.answered || one.answer.error().is_none() || one.answer.results.len() > 1
}

/// Whether the session is left with what a read has seen: a snapshot, where its isolation level
/// keeps them.
pub(super) fn reads_to_the_end(reading: &Reading) -> bool {
    let Some(analysis) = &reading.analysis else {
        return false;
    };
    let ends = |one: &Statement| {
        one.control
            .is_some_and(|control| control != Control::Within)
    };
    let reads =
        |one: &Statement| one.class == Class::Read && one.tables != Tables::Known(Vec::new());
    let last = analysis.statements.iter().rev();
    reading.runs && last.take_while(|one| !ends(one)).any(reads)
}

/// How the command takes part in the order of all sessions, and with which tables.
pub(super) fn part(reading: &Reading, step: &Step) -> (Part, Scope) {
    let mut scope = reading.scope.clone();
    if reading.kind == Command::STMT_PREPARE {
        // It reads nothing, but the tables must be there.
        return (Part::Within, scope);
    }
    if !reading.runs {
        return (Part::Within, Scope::none());
    }
    let reads = !scope.is_empty();
    scope.join(&step.locked);
    let lets_go = step.ended.is_some() && !step.locked.is_empty();
    let snapshot = matches!(reading.control, Some(Control::Begin { snapshot: true }));
    let part = match reading.class {
        Class::Ddl => Part::Ddl,
        Class::Write | Class::LockingRead => {
            if step.opens_snapshot {
                scope = Scope::All;
            }
            // Of several statements, one may commit in their midst.
            if step.after && !reading.ends_inside {
                Part::Write
            } else {
                Part::Commit
            }
        }
        _ if lets_go && step.ended == Some(Ending::Rollback) && !reads => Part::Rollback,
        _ if lets_go => Part::End,
        Class::Transaction if snapshot => Part::Snapshot,
        _ if step.opens_snapshot => Part::Snapshot,
        _ if step.snapshot.is_some() => Part::Within,
        _ => Part::Read,
    };
    (part, scope)
}

/// How a command that is not run takes part: the transaction that it ended lets its locks go.
pub(super) fn part_of_end(step: &Step) -> Option<(Part, Scope)> {
    let part = match step.ended? {
        Ending::Rollback => Part::Rollback,
        Ending::Commit | Ending::Unknown => Part::End,
    };
    (!step.locked.is_empty()).then(|| (part, step.locked.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::journal::Journal;
    use super::super::outline::Shapes;
    use super::super::reading::{Missing, Reader};
    use super::*;
    use crate::sql::Table;
    use crate::wire::capability::Capabilities;
    use std::collections::BTreeMap;

    fn read(text: &str) -> Reading {
        read_by(&Journal::new("app"), &[b"\x03", text.as_bytes()].concat())
    }

    fn read_by(journal: &Journal, payload: &[u8]) -> Reading {
        let reader = Reader {
            shapes: &Shapes::new(8),
            journal,
            capabilities: Capabilities::default(),
            no_backslash_escapes: false,
            databases: &BTreeMap::new(),
            missing: Missing::Nothing,
        };
        reader.read(payload)
    }

    fn on(name: &str) -> Scope {
        Scope::Known(
            [Table {
                database: Some("app".into()),
                name: name.into(),
            }]
            .into(),
        )
    }

    fn step(before: bool, after: bool, ended: Option<Ending>) -> Step {
        Step {
            before,
            after,
            ended,
            wrote: on("earlier"),
            locked: if ended.is_some() {
                on("earlier")
            } else {
                Scope::none()
            },
            snapshot: None,
            opens_snapshot: false,
            written_before: true,
        }
    }

    #[test]
    fn what_was_committed_is_what_the_transaction_wrote_or_the_statement_on_its_own() {
        let mut both = on("t");
        both.join(&on("earlier"));
        let (write, commit) = (Some(Ending::Commit), Some(Ending::Unknown));
        for (text, step, wrote, committed_tables) in [
            ("COMMIT", step(true, false, write), true, on("earlier")),
            ("COMMIT", step(true, false, commit), true, on("earlier")),
            (
                "ROLLBACK",
                step(true, false, Some(Ending::Rollback)),
                true,
                Scope::none(),
            ),
            ("DELETE FROM t", step(false, false, None), true, on("t")),
            (
                "DELETE FROM t",
                step(false, false, None),
                false,
                Scope::none(),
            ),
            ("DELETE FROM t", step(true, true, None), true, Scope::none()),
            (
                "SELECT 1 FROM t FOR UPDATE",
                step(false, false, None),
                true,
                Scope::none(),
            ),
            ("TRUNCATE t", step(true, false, write), true, both),
        ] {
            let found = committed(&read(text), &step, wrote);
            assert_eq!(found, committed_tables, "{text} {step:?}");
        }
    }

    fn on_all(names: &[&str]) -> Scope {
        let mut scope = Scope::none();
        names.iter().for_each(|name| scope.join(&on(name)));
        scope
    }

    /// The same statement as it is read when it was prepared and is executed.
    fn executed(text: &str) -> Reading {
        let mut journal = Journal::new("app");
        let prepare = [b"\x16", text.as_bytes()].concat();
        let prepared = read_by(&journal, &prepare);
        let entry = prepared.newly_prepared(&prepare, 7, 0).unwrap();
        journal.apply(&entry, 8);
        read_by(&journal, &[0x17, 7, 0, 0, 0, 0, 1, 0, 0, 0])
    }

    #[test]
    fn text_and_prepared_take_part_alike() {
        let (alone, within) = (step(false, false, None), step(true, true, None));
        let commits = step(true, false, Some(Ending::Commit));
        let rolls_back = step(true, false, Some(Ending::Rollback));
        for (text, step, expected, tables) in [
            ("SELECT 1 FROM t", &alone, Part::Read, &["t"][..]),
            ("SELECT 1 FROM t", &within, Part::Read, &["t"]),
            ("SELECT 1 FROM t FOR UPDATE", &alone, Part::Commit, &["t"]),
            (
                "SELECT 1 FROM t LOCK IN SHARE MODE",
                &within,
                Part::Write,
                &["t"],
            ),
            ("UPDATE t SET v = 1", &alone, Part::Commit, &["t"]),
            ("UPDATE t SET v = 1", &within, Part::Write, &["t"]),
            (
                "INSERT INTO t SELECT * FROM s",
                &alone,
                Part::Commit,
                &["s", "t"],
            ),
            (
                "INSERT INTO t SELECT * FROM s",
                &within,
                Part::Write,
                &["s", "t"],
            ),
            (
                "DELETE t FROM t JOIN s USING (id)",
                &within,
                Part::Write,
                &["s", "t"],
            ),
            ("TRUNCATE t", &alone, Part::Ddl, &["t"]),
            ("TRUNCATE t", &commits, Part::Ddl, &["earlier", "t"]),
            ("COMMIT", &commits, Part::End, &["earlier"]),
            ("BEGIN", &commits, Part::End, &["earlier"]),
            ("SET autocommit = 1", &commits, Part::End, &["earlier"]),
            ("ROLLBACK", &rolls_back, Part::Rollback, &["earlier"]),
        ] {
            for reading in [read(text), executed(text)] {
                let found = part(&reading, step);
                assert_eq!(found, (expected, on_all(tables)), "{text} {step:?}");
            }
        }
        let reading = read("SELECT f() FROM t");
        assert_eq!(part(&reading, &alone), (Part::Commit, Scope::All));
    }

    #[test]
    fn several_statements_take_part_as_one_that_does_all_of_it() {
        let (alone, within) = (step(false, false, None), step(true, true, None));
        let opens = step(false, true, None);
        let commits = step(true, false, Some(Ending::Commit));
        let goes_on = step(true, true, Some(Ending::Commit));
        let rolls_back = step(true, false, Some(Ending::Rollback));
        for (text, step, expected, tables) in [
            (
                "SELECT 1 FROM t; SELECT 1 FROM s",
                &alone,
                Part::Read,
                &["s", "t"][..],
            ),
            (
                "SELECT 1 FROM t; UPDATE s SET v = 1",
                &alone,
                Part::Commit,
                &["s", "t"],
            ),
            (
                "SELECT 1 FROM t; UPDATE s SET v = 1",
                &within,
                Part::Write,
                &["s", "t"],
            ),
            (
                "BEGIN; UPDATE t SET v = 1; COMMIT",
                &alone,
                Part::Commit,
                &["t"],
            ),
            ("BEGIN; UPDATE t SET v = 1", &opens, Part::Commit, &["t"]),
            (
                "UPDATE t SET v = 1; COMMIT",
                &commits,
                Part::Commit,
                &["earlier", "t"],
            ),
            (
                "COMMIT; BEGIN; UPDATE t SET v = 1",
                &goes_on,
                Part::Commit,
                &["earlier", "t"],
            ),
            (
                "SELECT 1 FROM t; COMMIT",
                &commits,
                Part::End,
                &["earlier", "t"],
            ),
            (
                "ROLLBACK; SELECT 1 FROM t",
                &rolls_back,
                Part::End,
                &["earlier", "t"],
            ),
        ] {
            let found = part(&read(text), step);
            assert_eq!(found, (expected, on_all(tables)), "{text} {step:?}");
        }
    }

    #[test]
    fn what_reads_last_leaves_a_snapshot() {
        for (text, leaves) in [
            ("SELECT 1 FROM t", true),
            ("SELECT 1", false),
            ("BEGIN; SELECT 1 FROM t", true),
            ("SELECT 1 FROM t; UPDATE t SET v = 1", true),
            ("SELECT 1 FROM t; BEGIN", false),
            ("SELECT 1 FROM t; COMMIT; BEGIN; UPDATE t SET v = 1", false),
            ("SELECT 1 FROM t FOR UPDATE", false),
        ] {
            assert_eq!(reads_to_the_end(&read(text)), leaves, "{text}");
        }
    }

    #[test]
    fn a_transaction_cannot_go_on_without_a_command_of_ours_unless_that_only_reads() {
        let open = step(true, true, None);
        for (text, reason, missed) in [
            ("SELECT 1 FROM t", Reason::Dropped, false),
            ("SHOW TABLES", Reason::Suspended, false),
            ("DELETE FROM t", Reason::Dropped, true),
            ("SET @a = 1", Reason::Suspended, true),
            ("USE other", Reason::Dropped, true),
            ("ROLLBACK TO s", Reason::Dropped, true),
            ("COMMIT", Reason::Suspended, true),
            ("DELETE FROM t", Reason::PrimaryError, false),
        ] {
            assert_eq!(is_missed(&read(text), &open, reason), missed, "{text}");
        }
        let alone = step(false, false, None);
        assert!(!is_missed(&read("DELETE FROM t"), &alone, Reason::Dropped));
    }

    #[test]
    fn what_may_commit_without_saying_so_is_known_by_its_class() {
        for (text, said, may) in [
            ("TRUNCATE t", Said::Failed(1146, None), true),
            ("TRUNCATE", Said::Failed(SYNTAX, None), false),
            ("CALL p()", Said::Failed(1644, None), true),
            ("SET autocommit = 1", Said::Nothing, true),
            ("SET autocommit = 1", Said::Failed(1193, None), false),
            ("DELETE FROM t", Said::Nothing, false),
            (
                "COMMIT; DELETE FROM",
                Said::Failed(SYNTAX, Some(false)),
                true,
            ),
        ] {
            assert_eq!(commits(&read(text), said), may, "{text} {said:?}");
        }
    }

    #[test]
    fn only_what_defines_tables_views_and_triggers_changes_what_is_reached() {
        for (fingerprint, wanted) in [
            ("CREATE TABLE t (a INT)", true),
            (
                "CREATE OR REPLACE DEFINER = a @ b SQL SECURITY INVOKER VIEW v AS SELECT ?",
                true,
            ),
            ("DROP TRIGGER x", true),
            ("RENAME TABLE a TO b", true),
            ("CREATE TEMPORARY TABLE t (a INT)", false),
            ("DROP TEMPORARY TABLE t", false),
            ("CREATE INDEX i ON t (a)", false),
            ("CREATE USER ?", false),
            ("TRUNCATE TABLE t", false),
        ] {
            assert_eq!(super::defines(fingerprint), wanted, "{fingerprint}");
        }
    }
}

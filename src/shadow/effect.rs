//! What a command did on the primary, as far as the shadow must know: what it wrote, what it
//! committed, how it takes part in the order. Pure.

use super::order::{Part, Scope};
use super::reading::Reading;
use super::transaction::{Ending, SYNTAX, Said, Step};
use crate::compare::verdict::Reason;
use crate::sql::{Class, Control};
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
    if step.ended == Some(Ending::Commit) {
        scope.join(&step.wrote);
    }
    match reading.class {
        Class::Ddl => (Part::Ddl, scope),
        Class::Write | Class::LockingRead if step.after => (Part::Write, scope),
        Class::Write | Class::LockingRead => (Part::Commit, scope),
        _ if step.ended == Some(Ending::Commit) && !step.wrote.is_empty() => (Part::End, scope),
        Class::Transaction
            if matches!(reading.control, Some(Control::Begin { snapshot: true })) =>
        {
            (Part::Snapshot, scope)
        }
        _ if step.opens_snapshot => (Part::Snapshot, scope),
        _ if step.snapshot.is_some() => (Part::Within, scope),
        _ => (Part::Read, scope),
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::Journal;
    use super::super::reading::{Missing, Reader};
    use super::*;
    use crate::sql::{Catalog, Table};
    use crate::wire::capability::Capabilities;
    use std::collections::BTreeMap;

    fn read(text: &str) -> Reading {
        let reader = Reader {
            catalog: &Catalog::new(8),
            journal: &Journal::new("app"),
            capabilities: Capabilities::default(),
            no_backslash_escapes: false,
            databases: &BTreeMap::new(),
            missing: Missing::Nothing,
        };
        reader.read(&[b"\x03", text.as_bytes()].concat())
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
}

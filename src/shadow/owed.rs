//! The verdict that every command is owed: exactly one, whatever happens to the task that has it.

use super::order::Scope;
use super::proof::Evidence;
use super::reading::Reading;
use crate::compare::verdict::{Reason, Verdict};
use crate::ledger::observation::{Follows, Rechecked};
use crate::ledger::{Ledger, Observation, Side};
use crate::sql::{Change, Table};
use crate::tee::Exchange;
use crate::wire::answer::{Answer, Outcome};
use std::sync::Arc;
use tokio::time::Instant;

/// A command without its verdict. Dropped without one, it is *not compared: internal*.
#[derive(Debug)]
pub(super) struct Owed {
    observation: Option<Box<Observation>>,
    ledger: Ledger,
}

/// What the shadow did with a command.
#[derive(Debug)]
pub(super) struct Ran {
    /// Its side.
    pub(super) side: Side,
    /// Time between the primary's answer and the start on the shadow, in µs.
    pub(super) queue_us: u64,
}

impl Owed {
    /// Of a whole exchange.
    pub(super) fn new(ledger: &Ledger, reading: &Reading, database: &str, one: &Exchange) -> Self {
        let side = side(
            &one.facts.primary,
            &one.answer,
            one.sent,
            one.first_byte,
            one.acked,
        );
        Self::of(ledger, reading, database, &one.facts, side)
    }

    /// Of a command whose answer is not known.
    pub(super) fn of(
        ledger: &Ledger,
        reading: &Reading,
        database: &str,
        facts: &crate::tee::Facts,
        primary: Side,
    ) -> Self {
        let observation = Observation {
            at: jiff::Timestamp::now(),
            session: facts.session,
            fingerprint: Arc::clone(&reading.fingerprint),
            digest: reading.digest,
            protocol: reading.protocol,
            class: reading.class,
            user: Arc::from(facts.user.as_str()),
            database: Arc::from(database),
            tables: named(reading, database),
            written: reading.written(database),
            statement: None,
            context: None,
            verdict: Verdict::NotCompared(Reason::Internal),
            follows: None,
            rechecked: None,
            primary,
            shadow: None,
            queue_us: None,
        };
        Self {
            observation: Some(Box::new(observation)),
            ledger: ledger.clone(),
        }
    }

    /// It was not compared.
    pub(super) fn not_compared(self, reason: Reason) {
        self.settle(Verdict::NotCompared(reason), None, None);
    }

    /// What its difference follows from.
    pub(super) fn follows(&mut self, follows: Option<Follows>) {
        if let Some(observation) = &mut self.observation {
            observation.follows = follows;
        }
    }

    /// How its difference was looked at again.
    pub(super) fn rechecked(&mut self, rechecked: Rechecked) {
        if let Some(observation) = &mut self.observation {
            observation.rechecked = Some(rechecked);
        }
    }

    /// Its verdict; `evidence` goes with a difference.
    pub(super) fn settle(mut self, verdict: Verdict, ran: Option<Ran>, evidence: Option<Evidence>) {
        let mut question = None;
        if let Some(observation) = &mut self.observation {
            observation.verdict = verdict;
            if let Some(evidence) = evidence {
                observation.statement = evidence.wording;
                observation.context = Some(evidence.context);
                let stands = matches!(observation.verdict, Verdict::Diverged(_));
                question = evidence.question.filter(|_| stands);
            }
            if let Some(ran) = ran {
                observation.shadow = Some(ran.side);
                observation.queue_us = Some(ran.queue_us);
            }
        }
        // First the ledger learns of what diverged, then of its plans.
        drop(self);
        if let Some(question) = question {
            question.ask();
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(mut observation) = self.observation.take() {
            observation.at = jiff::Timestamp::now();
            self.ledger.record(*observation);
        }
    }
}

/// The tables that the statement names: what is merely reached by a view, a trigger or a foreign key
/// is for its place in the order, and no rule on it is meant for the statement.
fn named(reading: &Reading, database: &str) -> Vec<Table> {
    let Some(analysis) = &reading.analysis else {
        return reading.scope.tables();
    };
    let mut database = database.to_owned();
    let mut scope = Scope::none();
    for one in &analysis.statements {
        scope.join(&Scope::of(&one.tables, &database));
        for change in &one.changes {
            if let Change::Database(name) = change {
                name.clone_into(&mut database);
            }
        }
    }
    scope.tables()
}

/// One server's side of an exchange.
pub(super) fn side(
    server: &Arc<str>,
    answer: &Answer,
    sent: Instant,
    first_byte: Instant,
    last_byte: Instant,
) -> Side {
    let error = answer.error().map(|failure| {
        (
            failure.code,
            String::from_utf8_lossy(&failure.sqlstate).into_owned(),
            String::from_utf8_lossy(&failure.message).into_owned(),
        )
    });
    let affected_rows = answer
        .results
        .iter()
        .rev()
        .find_map(|outcome| match outcome {
            Outcome::Ok(done) => Some(done.affected_rows),
            Outcome::Error(_)
            | Outcome::Rows(_)
            | Outcome::RowsThenError(..)
            | Outcome::Prepared { .. }
            | Outcome::LocalInfile
            | Outcome::Other => None,
        });
    Side {
        server: Arc::clone(server),
        rows: answer.rows(),
        error,
        affected_rows,
        first_byte_us: Some(micros(sent, first_byte)),
        latency_us: Some(micros(sent, last_byte)),
    }
}

/// The time between two instants, in µs; 0 where the second is the earlier.
pub(super) fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::journal::Journal;
    use super::super::reading::{Missing, Reader};
    use super::*;
    use crate::sql::Catalog;
    use crate::wire::capability::Capabilities;

    #[test]
    fn the_tables_of_a_statement_are_those_that_it_names_not_those_that_it_reaches() {
        let journal = Journal::new("app");
        let reader = Reader {
            catalog: &Catalog::new(10),
            journal: &journal,
            capabilities: Capabilities::default(),
            no_backslash_escapes: false,
            databases: &std::collections::BTreeMap::new(),
            missing: Missing::Nothing,
        };
        let mut reading = reader.read(b"\x03INSERT INTO t VALUES (1)");
        let log = Table {
            database: Some("app".into()),
            name: "log".into(),
        };
        reading.scope.join(&Scope::Known([log].into()));
        assert_eq!(reading.scope.tables().len(), 2);
        let tables = named(&reading, "app");
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["t"]);
    }
}

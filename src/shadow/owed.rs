//! The verdict that every command is owed: exactly one, whatever happens to the task that has it.

use super::proof::Evidence;
use super::reading::Reading;
use crate::compare::verdict::{Reason, Verdict};
use crate::ledger::observation::{Follows, Rechecked};
use crate::ledger::{Ledger, Observation, Side};
use crate::tee::Exchange;
use crate::wire::answer::{Answer, Outcome};
use std::sync::Arc;
use tokio::time::Instant;

/// A command without its verdict. Dropped without one, it is *not compared: internal*.
#[derive(Debug)]
pub(super) struct Owed {
    observation: Observation,
    ledger: Ledger,
}

/// Whose command it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    /// The session.
    pub(super) session: u64,
    /// The application's user.
    pub(super) user: &'a Arc<str>,
    /// The session's database.
    pub(super) database: &'a Arc<str>,
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
    pub(super) fn new(
        ledger: &Ledger,
        reading: &Reading,
        asker: Asker<'_>,
        one: &Exchange,
    ) -> Self {
        let side = side(
            &one.facts.primary,
            &one.answer,
            one.sent,
            one.first_byte,
            one.acked,
        );
        Self::of(ledger, reading, asker, side)
    }

    /// Of a command whose answer is not known.
    pub(super) fn of(ledger: &Ledger, reading: &Reading, asker: Asker<'_>, primary: Side) -> Self {
        let observation = Observation {
            at: jiff::Timestamp::UNIX_EPOCH, // until it is recorded
            session: asker.session,
            fingerprint: Arc::clone(&reading.fingerprint),
            digest: reading.digest,
            protocol: reading.protocol,
            class: reading.class,
            user: Arc::clone(asker.user),
            database: Arc::clone(asker.database),
            tables: reading.named(),
            written: reading.written(asker.database),
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
            observation,
            ledger: ledger.clone(),
        }
    }

    /// It was not compared.
    pub(super) fn not_compared(self, reason: Reason) {
        self.settle(Verdict::NotCompared(reason), None, None);
    }

    /// What its difference follows from.
    pub(super) fn follows(&mut self, follows: Option<Follows>) {
        self.observation.follows = follows;
    }

    /// How its difference was looked at again.
    pub(super) fn rechecked(&mut self, rechecked: Rechecked) {
        self.observation.rechecked = Some(rechecked);
    }

    /// Its verdict; `evidence` goes with a difference.
    pub(super) fn settle(mut self, verdict: Verdict, ran: Option<Ran>, evidence: Option<Evidence>) {
        let mut question = None;
        let observation = &mut self.observation;
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
        // First the ledger learns of what diverged, then of its plans.
        drop(self);
        if let Some(question) = question {
            question.ask();
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.observation.at = jiff::Timestamp::now();
        self.ledger.record(&self.observation);
    }
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
    use super::super::order::Scope;
    use super::super::outline::Shapes;
    use super::super::reading::{Missing, Reader};
    use crate::sql::Table;
    use crate::wire::capability::Capabilities;

    #[test]
    fn the_tables_of_a_statement_are_those_that_it_names_not_those_that_it_reaches() {
        let journal = Journal::new("app");
        let reader = Reader {
            shapes: &Shapes::new(10),
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
        let tables = reading.named();
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["t"]);
    }
}

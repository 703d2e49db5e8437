//! What the dispatcher gives to a session's replay, in the session's order.

use super::journal::Entry;
use super::line::Ticket;
use super::owed::Owed;
use super::reading::Reading;
use super::transaction::{Ending, Step};
use crate::tee::{Charged, Stub};
use crate::wire::answer::Answer;

/// One step of a session.
#[derive(Debug)]
pub(super) enum Job {
    /// A command to run.
    Run(Box<Run>),
    /// A command that is not run, where it changed something.
    Skip(Skip),
}

/// A command to run on the shadow.
#[derive(Debug)]
pub(super) struct Run {
    /// The verdict that it is owed.
    pub(super) owed: Owed,
    /// The exchange; its bytes stay charged until it has been judged.
    pub(super) charged: Box<Charged>,
    /// What it is.
    pub(super) reading: Reading,
    /// What it did to the transaction on the primary.
    pub(super) step: Step,
    /// How it is run.
    pub(super) mode: Mode,
    /// What it changed of the session.
    pub(super) entries: Vec<Entry>,
    /// Values of its parameters that were sent apart.
    pub(super) long: Vec<Charged>,
    /// Its place among the commands of all sessions.
    pub(super) ticket: Ticket,
}

/// How a command is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As the client ran it.
    Replay,
    /// In a transaction that is rolled back.
    Rollback,
    /// It is planned only.
    Plan,
}

/// A command that is not run.
#[derive(Debug)]
pub(super) struct Skip {
    /// What it changed of the session.
    pub(super) entries: Vec<Entry>,
    /// The transaction ended with it.
    pub(super) ends: Option<Ending>,
    /// The transaction on the shadow is given up: one of its writes is missing.
    pub(super) abandons: bool,
    /// Keeps the command's bytes charged while this waits, so that what waits stays bounded.
    pub(super) _held: Held,
}

/// What keeps a skipped command charged.
#[derive(Debug)]
pub(super) enum Held {
    /// The exchange.
    Exchange(#[expect(dead_code, reason = "held for its charge")] Box<Charged>),
    /// What stayed of it.
    Stub(#[expect(dead_code, reason = "held for its charge")] Box<Stub>),
    /// Nothing did.
    Nothing,
}

impl Run {
    /// The primary's answer.
    pub(super) fn primary(&self) -> &Answer {
        &self.charged.answer
    }

    /// Whether the primary refused the whole of it.
    pub(super) fn failed_on_primary(&self) -> bool {
        self.primary().error().is_some()
    }
}

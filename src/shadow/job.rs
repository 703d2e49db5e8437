//! What the dispatcher gives to a session's replay, in the session's order.

use super::journal::Entry;
use super::line::Ticket;
use super::order::Scope;
use super::owed::Owed;
use super::pin::{LastKey, Pin};
use super::reading::Reading;
use super::stake::Stake;
use super::transaction::{Ending, Step};
use crate::compare::verdict::Reason;
use crate::sql::Control;
use crate::tee::{Charged, Stub};
use crate::wire::answer::Answer;
use tokio::time::Instant;

/// One step of a session.
#[derive(Debug)]
pub(super) enum Job {
    /// A command to run.
    Run(Box<Run>),
    /// A command that is not run, where it changed something.
    Skip(Box<Skip>),
}

/// A command to run on the shadow.
#[derive(Debug)]
pub(super) struct Run {
    /// The verdict that it is owed.
    pub(super) owed: Owed,
    /// What the primary committed with it.
    pub(super) stake: Option<Stake>,
    /// The exchange; its bytes stay charged until it has been judged.
    pub(super) charged: Charged,
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
    /// LAST_INSERT_ID() before it.
    pub(super) last_key: LastKey,
    /// What it says behind it is for the replay to find out.
    pub(super) settles_key: bool,
    /// What was made of its text for the shadow.
    pub(super) pin: Pin,
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

impl Mode {
    /// Whether the shadow is sent something else in the command's place: a question for its plan,
    /// or a ROLLBACK for the COMMIT of what must not stay.
    fn has_stand_in(self, ended: Option<Ending>, control: Option<Control>) -> bool {
        match self {
            Self::Replay => false,
            Self::Rollback => ended == Some(Ending::Commit) && control == Some(Control::Commit),
            Self::Plan => true,
        }
    }
}

/// A command that is not run.
#[derive(Debug)]
pub(super) struct Skip {
    /// What it changed of the session.
    pub(super) entries: Vec<Entry>,
    /// The transaction ended with it.
    pub(super) ends: Option<End>,
    /// Why the transaction on the shadow is given up: what it must not miss is missing.
    pub(super) abandons: Option<Reason>,
    /// The place of the transaction's end, where that lets locks go.
    pub(super) ticket: Option<Ticket>,
    /// What it wrote in the open transaction, which will be missing on the shadow.
    pub(super) misses: Scope,
    /// Keeps the command's bytes charged while this waits, so that what waits stays bounded.
    pub(super) _held: Held,
}

/// How a transaction ended with a command that is not run.
#[derive(Debug)]
pub(super) struct End {
    /// How.
    pub(super) ending: Ending,
    /// The command opened another.
    pub(super) another: bool,
    /// The shadow commits where the primary did.
    pub(super) applies: bool,
    /// What the primary committed.
    pub(super) stake: Stake,
}

/// What keeps a skipped command charged.
#[derive(Debug)]
pub(super) enum Held {
    /// The exchange.
    Exchange(Charged),
    /// What stayed of it.
    Stub(Box<Stub>),
    /// Nothing did.
    Nothing,
}

/// When a command began, and when the primary had answered it.
pub(super) type Times = Option<(Instant, Instant)>;

impl Held {
    /// When it was, as far as that stayed.
    pub(super) fn times(&self) -> Times {
        match self {
            Self::Exchange(one) => Some((one.began, one.acked)),
            Self::Stub(one) => Some((one.began, Instant::now())),
            Self::Nothing => None,
        }
    }
}

impl Run {
    /// The primary's answer.
    pub(super) fn primary(&self) -> &Answer {
        &self.charged.answer
    }

    /// Whether the shadow is sent something else in its place.
    pub(super) fn has_stand_in(&self) -> bool {
        self.mode
            .has_stand_in(self.step.ended, self.reading.control)
    }

    /// Whether the primary refused it, or one of its statements.
    pub(super) fn failed_on_primary(&self) -> bool {
        self.primary().error().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_and_the_rollback_of_a_commit_are_not_the_command_itself() {
        let commit = (Some(Ending::Commit), Some(Control::Commit));
        // A statement that commits implicitly runs once what was open is rolled back.
        let implicitly = (
            Some(Ending::Commit),
            Some(Control::Begin { snapshot: false }),
        );
        // A COMMIT with nothing open keeps nothing.
        let idle = (None, Some(Control::Commit));
        let write = (None, None);
        for (mode, stands_in) in [
            (Mode::Replay, [false, false, false, false]),
            (Mode::Rollback, [true, false, false, false]),
            (Mode::Plan, [true, true, true, true]),
        ] {
            let found = [commit, implicitly, idle, write]
                .map(|(ended, control)| mode.has_stand_in(ended, control));
            assert_eq!(found, stands_in, "{mode:?}");
        }
    }
}

//! What the shadow side tells the ledger of one command.

use super::cause::Cause;
use crate::compare::verdict::{Divergence, Verdict};
use crate::sql::{Class, Dialect, TableSet};
use std::sync::Arc;

/// How a command carried its statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// COM_QUERY, and commands without a statement.
    Text,
    /// COM_STMT_PREPARE, EXECUTE, FETCH, RESET.
    Prepared,
}

impl Protocol {
    /// The name in API and ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Prepared => "prepared",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Text, Self::Prepared]
            .into_iter()
            .find(|one| one.name() == name)
    }
}

/// One command's end: its verdict and all that goes with it.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Wall clock of the verdict.
    pub at: jiff::Timestamp,
    /// The session's number.
    pub session: u64,
    /// The statement's shape; for commands without a statement the command's name (`COM_PING`).
    pub fingerprint: Arc<str>,
    /// xxh3-64 of the fingerprint.
    pub digest: u64,
    /// Text or prepared.
    pub protocol: Protocol,
    /// The strongest class of the command.
    pub class: Class,
    /// The application's user.
    pub user: Arc<str>,
    /// The session's database at that time; empty for none.
    pub database: Arc<str>,
    /// The tables, qualified by the session's database where the statement does not.
    pub tables: TableSet,
    /// Those of them that it wrote; `*` where they are not known.
    pub written: TableSet,
    /// The statement as the client sent it, for differences only; the ledger redacts it.
    pub statement: Option<Wording>,
    /// The session's state when it sent the command, for differences only.
    pub context: Option<Box<Context>>,
    /// What became of it.
    pub verdict: Verdict,
    /// How it differed, where it is *not compared: tainted* for that, and from what it follows.
    pub follows: Option<Follows>,
    /// How its difference was looked at again, where it was to be.
    pub rechecked: Option<Rechecked>,
    /// The primary's side.
    pub primary: Side,
    /// The shadow's side, where it ran.
    pub shadow: Option<Side>,
    /// Time between the primary's answer and the start on the shadow, in µs, where it ran.
    pub queue_us: Option<u64>,
}

/// The state of a session when it sent a command: what its client set, as it set it.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The shadow's name for the session's database.
    pub shadow_database: String,
    /// The variables that the client set, each in lower case with its assignment's text, in order.
    pub settings: Vec<(String, String)>,
    /// Whether these are all.
    pub known: bool,
    /// The collation id of the login.
    pub collation: u16,
    /// How the session read text.
    pub no_backslash_escapes: bool,
    /// It was within a transaction.
    pub in_transaction: bool,
    /// Commands of that transaction that ran before it.
    pub commands_before: u64,
    /// Some of them wrote.
    pub wrote_before: bool,
    /// The shadow was sent another text than the primary.
    pub rewritten: bool,
    /// The literals of a prepared statement's parameters, where they could be told.
    pub parameters: Option<Vec<String>>,
}

/// A difference that follows from what tainted its tables.
#[derive(Clone, Debug)]
pub struct Follows {
    /// What tainted them.
    pub cause: Cause,
    /// The difference.
    pub divergence: Divergence,
}

/// How a difference was looked at again before it was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rechecked {
    /// What it came to.
    pub outcome: Outcome,
    /// Where it was run again; `None` where that decided nothing.
    pub by: Option<By>,
    /// What that said, in words without literals.
    pub said: Option<String>,
}

impl Rechecked {
    /// It was not run again, or not for the verdict.
    #[must_use]
    pub const fn not(outcome: Outcome) -> Self {
        Self {
            outcome,
            by: None,
            said: None,
        }
    }
}

/// Where a read was run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// On the shadow.
    Shadow,
    /// On a replica of the primary, and the shadow.
    Replica,
    /// On the primary, and the shadow.
    Primary,
}

impl By {
    /// The name in API and ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Replica => "replica",
            Self::Primary => "primary",
        }
    }
}

/// What a second look at a difference came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The shadow had not caught up.
    Lag,
    /// Somebody wrote to the tables meanwhile, and that may explain it.
    Race,
    /// It persists.
    Diverged,
    /// A taint or a commit became known that explains it, or the second answers cannot be compared.
    NotCompared,
    /// It was not run again: that is switched off, cannot be done with this command, or is over a
    /// limit.
    Skipped,
    /// It was not run again: the shadow could not be asked.
    Unavailable,
    /// It ended early, for the mirror was suspended or ended.
    Cut,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Lag,
        Self::Race,
        Self::Diverged,
        Self::NotCompared,
        Self::Skipped,
        Self::Unavailable,
        Self::Cut,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Race => "race",
            Self::Diverged => "diverged",
            Self::NotCompared => "not_compared",
            Self::Skipped => "skipped",
            Self::Unavailable => "unavailable",
            Self::Cut => "cut",
        }
    }
}

/// A statement as the client worded it. Where its literals end is only known with its dialect.
#[derive(Clone, Debug)]
pub struct Wording {
    /// The text.
    pub text: String,
    /// How the session read text when it sent it.
    pub dialect: Dialect,
}

#[cfg(test)]
impl From<&str> for Wording {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            dialect: Dialect::default(),
        }
    }
}

/// One server's side of an exchange.
#[derive(Clone, Debug)]
pub struct Side {
    /// The server's name.
    pub server: Arc<str>,
    /// Rows in the answer.
    pub rows: u64,
    /// The error that the answer ended with: number, SQLSTATE, text as the server sent it.
    pub error: Option<(u16, String, String)>,
    /// Rows changed, where an OK said so.
    pub affected_rows: Option<u64>,
    /// From the command's last byte sent to the answer's first byte, in µs; `None` where nothing of
    /// the answer came through.
    pub first_byte_us: Option<u64>,
    /// From the command's last byte sent to the answer's last byte, in µs; `None` as above.
    pub latency_us: Option<u64>,
}

//! What the shadow side tells the ledger of one command.

use super::cause::Cause;
use crate::compare::verdict::{Divergence, Verdict};
use crate::sql::{Class, Dialect, Table};
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
    pub tables: Vec<Table>,
    /// Those of them that it wrote; `*` where they are not known.
    pub written: Vec<Table>,
    /// The statement as the client sent it, for differences only; the ledger redacts it.
    pub statement: Option<Wording>,
    /// The session's state when it sent the command, for differences only.
    pub context: Option<Box<Context>>,
    /// What became of it.
    pub verdict: Verdict,
    /// How it differed, where it is *not compared: tainted* for that, and from what it follows.
    pub follows: Option<Follows>,
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

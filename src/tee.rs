//! The one door from the hot path to the rest. It never waits.
//!
//! The relay hands over every exchange here, just before the answer's last byte goes to the
//! client. A hand-over is a try: where the budget is spent, the answer's sample is let go first,
//! then the exchange, of which a [`Stub`] stays within a small budget of its own; where even that
//! is spent, the session's journal becomes unknown and a counter says so. While nobody wants to know of
//! anything ([`Regard::Nothing`]), commands pass by the door and are only counted. Nothing here parses SQL.

use crate::wire::answer::Answer;
use crate::wire::capability::Capabilities;
use crate::wire::command::{Command, Expect};
use crate::wire::proxied::Addresses;
use std::sync::Arc;
use tokio::time::Instant;

mod bell;
mod budget;
mod charged;
mod door;
mod doze;
mod kept;
mod regard;

pub use budget::{Budget, Charge, Share};
pub use charged::Charged;
pub use door::{Limits, Receiver, Tee, door};
pub use regard::{Appraisal, Regard};

/// How many bytes of a dropped command's payload a [`Stub`] keeps.
pub const STUB_COMMAND_BYTES: usize = 1024;

/// What does not change in a session between two logins (login and CHANGE_USER).
#[derive(Debug)]
pub struct Facts {
    /// The proxy's number for the session.
    pub session: u64,
    /// Counts logins in the session: 0 for the first, 1 more for each CHANGE_USER.
    pub login: u32,
    /// The user that logged in.
    pub user: String,
    /// The database named in the login; empty for none.
    pub database: String,
    /// What client and primary agreed on.
    pub capabilities: Capabilities,
    /// The collation id of the login.
    pub collation: u16,
    /// The server that answers (its config name).
    pub primary: Arc<str>,
    /// The connection's id that the client was told in the greeting.
    pub thread_id: u32,
    /// The ends of the client's connection, where a server is to be told of them.
    pub client: Option<Arc<Addresses>>,
    /// The session's share of the budget, and whether its journal is still known.
    pub share: Arc<Share>,
}

#[cfg(test)]
impl Facts {
    /// Of a session that logged in once, for tests.
    pub(crate) fn plain(session: u64, share: &Arc<Share>) -> Arc<Self> {
        Arc::new(Self {
            session,
            login: 0,
            user: "app".into(),
            database: "app".into(),
            capabilities: Capabilities::default(),
            collation: 45,
            primary: "legacy".into(),
            thread_id: 1,
            client: None,
            share: Arc::clone(share),
        })
    }
}

/// A command, the primary's answer, and the times.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The session.
    pub facts: Arc<Facts>,
    /// The command's number within the session, from 1, those without an answer included.
    pub seq: u64,
    /// The command's payload without packet headers, at most `mirror.command_bytes_max` bytes.
    pub command: Vec<u8>,
    /// The whole command's length in bytes; more than `command.len()` where it was cut.
    pub command_bytes: u64,
    /// Whether a transaction was open when the command began, by the last status flags seen.
    pub in_transaction_before: bool,
    /// What the primary answered. Empty for commands without an answer.
    pub answer: Answer,
    /// Whether the answer came to its end; false where the primary or the client vanished.
    pub answered: bool,
    /// When the command's first byte was read.
    pub began: Instant,
    /// When the command's last piece was read from the client, before it was written to the primary.
    pub sent: Instant,
    /// When the answer's first byte was read.
    pub first_byte: Instant,
    /// When the answer's last byte was read, before it went to the client.
    pub acked: Instant,
}

impl Exchange {
    /// The kind of command; `QUIT` for an empty payload.
    #[must_use]
    pub fn kind(&self) -> Command {
        kind_of(&self.command)
    }

    /// Whether coverage counts this command: all are but those without an answer.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.kind().expect() != Expect::Nothing
    }
}

fn kind_of(command: &[u8]) -> Command {
    command.first().map_or(Command::QUIT, |byte| Command(*byte))
}

/// What stays of an exchange that did not fit the budget.
#[derive(Debug)]
pub struct Stub {
    /// The session.
    pub facts: Arc<Facts>,
    /// The command's number within the session.
    pub seq: u64,
    /// At most [`STUB_COMMAND_BYTES`] of the command's payload.
    pub command: Vec<u8>,
    /// The whole command's length in bytes.
    pub command_bytes: u64,
    /// When the command's first byte was read.
    pub began: Instant,
    /// Whether a transaction was open before the command.
    pub in_transaction_before: bool,
    /// Whether a transaction was open after it.
    pub in_transaction_after: bool,
    /// Whether its answer came to its end.
    pub answered: bool,
    /// The error that the primary answered with.
    pub error: Option<u16>,
    /// The id and the number of parameters of what it prepared.
    pub prepared: Option<(u32, u16)>,
    /// Whether its answer was one result: the command is one statement, however long its text.
    pub one_result: bool,
    /// Its share of the stubs' budget, given back when this is dropped.
    pub charge: Charge,
}

impl Stub {
    fn of(exchange: &Exchange, charge: Charge) -> Self {
        let cut = exchange.command.len().min(STUB_COMMAND_BYTES);
        Self {
            facts: Arc::clone(&exchange.facts),
            seq: exchange.seq,
            command: exchange.command.get(..cut).unwrap_or_default().to_vec(),
            command_bytes: exchange.command_bytes,
            began: exchange.began,
            in_transaction_before: exchange.in_transaction_before,
            in_transaction_after: exchange
                .answer
                .status
                .map_or(exchange.in_transaction_before, |status| {
                    status.in_transaction()
                }),
            answered: exchange.answered,
            error: exchange.answer.error().map(|failure| failure.code),
            prepared: exchange.answer.prepared(),
            one_result: exchange.answered
                && exchange.answer.error().is_none()
                && exchange.answer.results.len() == 1,
            charge,
        }
    }

    /// The kind of command; `QUIT` for an empty payload.
    #[must_use]
    pub fn kind(&self) -> Command {
        kind_of(&self.command)
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// COM_QUIT, or the client closed between commands.
    Left,
    /// The client or the primary vanished, or the drain ended it; the primary rolls back.
    Vanished,
    /// The session became a tunnel: it is served, not mirrored.
    Tunnelled,
}

/// What comes through the door, in each session's order.
#[derive(Debug)]
pub enum Handed {
    /// A whole exchange. Its bytes stay charged to the budget until it is dropped.
    Exchange(Charged),
    /// What stayed of one.
    Stub(Box<Stub>),
    /// Commands of this session came to nothing here: not even a stub had room. Its journal is
    /// unknown from here on, and what it wrote must count as tainted. Never lost itself: it has
    /// room of its own, and one stands for all that were lost until it is received.
    Lost(Arc<Facts>),
    /// Commands of this session passed by while nobody wanted to know of them: told before the first one
    /// that is handed again. Its journal is unknown from here on. It has room of its own.
    Passed(Arc<Facts>),
    /// A session's end. Never lost: it has room of its own. A session of which nothing came
    /// through the door has no end either.
    Closed {
        /// The session's number.
        session: u64,
        /// How it ended.
        end: End,
    },
}

#[cfg(test)]
mod tests;

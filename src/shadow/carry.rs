//! A session's next connection: opened on the server that is to be its primary, made like the
//! session, kept up with it, and given away.
//!
//! It refuses what would be another session: under another user's name, without a setting that
//! changes what is written or read, without a statement that the client has prepared.

use super::desk::UNSUPPORTED_PS;
use super::journal::{Habit, Journal, Statement};
use super::likeness::Likeness;
use super::link::{Link, Trouble};
use super::primed;
use super::reading::mapped;
use super::shared::Shared;
use super::state::{SessionState, Stuck};
use super::values::{Values, is_plain};
use crate::connect::Stream;
use crate::sql::{Class, redact_error};
use crate::tee::Facts;
use crate::wire::answer::Failure;
use crate::wire::command::Command;
use crate::wire::execute::Type;
use crate::wire::status::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Of one moment or one statement alone, or carried otherwise: not set again.
const NOT_SET: [&str; 5] = [
    "last_insert_id",
    "identity",
    "insert_id",
    "rand_seed1",
    "rand_seed2",
];

/// Uses a table, and reads none.
const CLEARS_WARNINGS: &str = "SELECT 1 FROM (SELECT 1) AS t";

/// Why no connection can be like the session.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The session itself cannot be taken over.
    #[error("the session cannot be taken over: {0}")]
    Stuck(Stuck),
    /// The server refused what the session has.
    #[error("{what} was refused with error {code}: {message}")]
    Refused {
        /// What.
        what: String,
        /// The error number.
        code: u16,
        /// Its text.
        message: String,
    },
    /// The server does not let the session's user in, or the config has no password for it under the
    /// same name.
    #[error("{0}")]
    Account(String),
    /// The server lacks the session's database.
    #[error("the server lacks the database {0}")]
    Database(String),
    /// The client relies on the types of a prepared statement's parameters, which this server does
    /// not take ahead, or which are not known.
    #[error("the types of a prepared statement's parameters cannot be carried")]
    Types,
    /// What the session's own connection answered cannot be read.
    #[error("the values of the session's variables cannot be read")]
    Unreadable,
    /// A name that the server does not take.
    #[error("the server does not take a variable named {0}")]
    Name(String),
    /// The session speaks a dialect that the server has not.
    #[error("{0}")]
    Dialect(String),
    /// The connection cannot be opened, or broke.
    #[error("{0}")]
    Down(String),
}

impl CarryError {
    pub(super) fn refused(what: impl Into<String>, failure: &Failure) -> Self {
        Self::Refused {
            what: what.into(),
            code: failure.code,
            message: redact_error(&String::from_utf8_lossy(&failure.message)),
        }
    }
}

impl From<Trouble> for CarryError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(why) => Self::Account(why),
            Trouble::Dialect(why) => Self::Dialect(why),
            other => Self::Down(other.to_string()),
        }
    }
}

/// See the module.
pub struct Carried {
    shared: Arc<Shared>,
    link: Link,
    facts: Arc<Facts>,
    journal: Journal,
    resets: u64,
    /// What was by value when its assignments were run.
    values: BTreeSet<String>,
    /// The types that were taken in ahead.
    bound: BTreeMap<u32, Arc<[Type]>>,
    refused: BTreeSet<String>,
    /// What the server cannot prepare.
    unprepared: BTreeMap<u32, Unprepared>,
    /// Something of what was run may have left a warning.
    warns: bool,
}

/// A statement that the client has prepared, and that this server says cannot be prepared at all
/// (error 1295). Most often it is a BEGIN: vtgate prepares it, a MySQL 5.6 does not. The session is
/// carried all the same: to leave it behind would end it for a statement that it may never run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unprepared {
    /// It has no parameters, answers without rows, and means the same in every database: its text, run as
    /// text, is answered with the very same bytes.
    Text(Arc<[u8]>),
    /// What the server says of it, which an execution would have to be told.
    Refused(Failure),
}

impl Unprepared {
    fn new(statement: &Statement, text: Arc<[u8]>, failure: &Failure) -> Self {
        let without_rows = matches!(
            statement.prepared.analysis.class,
            Class::Session | Class::Transaction
        );
        if without_rows && statement.prepared.parameters == 0 {
            Self::Text(text)
        } else {
            Self::Refused(failure.clone())
        }
    }
}

/// What a connection is made of, once it is the session's.
#[derive(Debug)]
pub struct Parts {
    /// The stream; nothing was read ahead of it.
    pub stream: Stream,
    /// The server's name.
    pub server: Arc<str>,
    /// The server's own id for the connection.
    pub thread_id: u32,
    /// Its last status flags.
    pub status: Status,
    /// Whether the server is a vtgate.
    pub vitess: bool,
    /// The client's statement ids, each with the server's.
    pub statements: Vec<(u32, u32)>,
    /// Those of statements that the server cannot prepare.
    pub unprepared: Vec<(u32, Unprepared)>,
    /// The client's id of the statement that was prepared last, while there is one.
    pub last: Option<u32>,
}

impl Carried {
    /// Opens it on the shadow, and makes it like the session but for what must be read from that.
    pub(super) async fn open(
        shared: Arc<Shared>,
        state: &SessionState,
    ) -> Result<Self, CarryError> {
        if let Some(stuck) = state.unknown() {
            return Err(CarryError::Stuck(stuck));
        }
        let (link, has_database) = Link::open_bare(&shared, &state.facts, &state.journal).await?;
        if !has_database {
            return Err(CarryError::Database(state.database().to_owned()));
        }
        let mut carried = Self {
            link,
            facts: Arc::clone(&state.facts),
            journal: Journal::new(state.database()),
            resets: state.resets,
            values: BTreeSet::new(),
            bound: BTreeMap::new(),
            refused: BTreeSet::new(),
            unprepared: BTreeMap::new(),
            warns: false,
            shared,
        };
        carried.follow(state).await?;
        Ok(carried)
    }

    /// Takes in what changed of the session since. Where it was reset or logged in anew, the
    /// connection is opened anew. Not cancel-safe: given up, it is to be dropped.
    ///
    /// # Errors
    /// The connection is not like the session any more, and cannot be made so.
    pub async fn catch_up(&mut self, newer: &SessionState) -> Result<(), CarryError> {
        if let Some(stuck) = newer.unknown() {
            return Err(CarryError::Stuck(stuck));
        }
        if newer.facts.login != self.facts.login || newer.resets != self.resets {
            *self = Self::open(Arc::clone(&self.shared), newer).await?;
            return Ok(());
        }
        self.follow(newer).await
    }

    /// Sets what was read from the session: its variables, and LAST_INSERT_ID(). Not cancel-safe.
    ///
    /// # Errors
    /// See [`Carried::catch_up`].
    pub async fn set_values(&mut self, values: &Values) -> Result<(), CarryError> {
        if let Some(name) = values
            .assignments()
            .iter()
            .find(|one| !self.takes(&one.name))
        {
            return Err(CarryError::Name(name.name.clone()));
        }
        if !values.assignments().is_empty() {
            self.assign(values).await?;
        }
        if values.last_insert_id != 0 {
            let text = format!("SELECT LAST_INSERT_ID({})", values.last_insert_id);
            self.run(&text, "LAST_INSERT_ID()").await?;
        }
        self.tidy().await
    }

    /// Whether the server still answers on it.
    pub async fn is_alive(&mut self) -> bool {
        let asked = self.link.ask(&[Command::PING.0]).await;
        asked.is_ok_and(|reply| reply.answer.error().is_none())
    }

    /// Settings that the server refused and that change nothing of what is written or read.
    #[must_use]
    pub const fn refused(&self) -> &BTreeSet<String> {
        &self.refused
    }

    /// The name of the server that it leads to.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.shared.name
    }

    /// Gives the connection away.
    #[must_use]
    pub fn into_parts(self) -> Parts {
        let own = |(id, _)| Some((id, self.link.statement(id)?));
        let statements = self.journal.statements().filter_map(own).collect();
        let last = self.journal.last_prepared();
        let vitess = self.link.is_vitess();
        let (stream, thread_id, status) = self.link.into_parts();
        Parts {
            stream,
            server: Arc::clone(&self.shared.name),
            thread_id,
            status,
            vitess,
            statements,
            unprepared: self.unprepared.into_iter().collect(),
            last,
        }
    }

    async fn follow(&mut self, state: &SessionState) -> Result<(), CarryError> {
        let journal = &state.journal;
        if journal.database() != self.journal.database() {
            self.enter(journal.database()).await?;
        }
        if journal.multi_statements() != self.journal.multi_statements()
            && let Some(on) = journal.multi_statements()
        {
            let option = [Command::SET_OPTION.0, u8::from(!on), 0];
            let reply = self.link.ask(&option).await?;
            if let Some(failure) = reply.answer.error() {
                return Err(CarryError::refused("SET_OPTION", failure));
            }
        }
        self.set(state).await?;
        self.prepare(journal).await?;
        self.journal = journal.clone();
        self.values.clone_from(&state.values);
        self.tidy().await
    }

    /// Leaves it as between two commands: SHOW WARNINGS would show what was said here, until a
    /// statement uses a table (vtgate keeps none); and without autocommit a SELECT may have opened a
    /// transaction.
    async fn tidy(&mut self) -> Result<(), CarryError> {
        if std::mem::take(&mut self.warns) && !self.link.is_vitess() {
            self.run(CLEARS_WARNINGS, "a SELECT").await?;
        }
        if self.link.in_transaction() {
            self.run("ROLLBACK", "ROLLBACK").await?;
        }
        Ok(())
    }

    async fn enter(&mut self, database: &str) -> Result<(), CarryError> {
        if self.link.enter(&self.shared, database).await? {
            Ok(())
        } else {
            Err(CarryError::Database(database.to_owned()))
        }
    }

    /// Runs the assignments that are not on the connection yet, in order.
    async fn set(&mut self, state: &SessionState) -> Result<(), CarryError> {
        let done = still_stands(&self.journal, &state.journal);
        for (at, (name, assignment)) in state.journal.settings().enumerate() {
            let was_left = self.values.contains(name) && !state.values.contains(name);
            let is_new = at >= done || was_left;
            if !is_new || NOT_SET.contains(&name) || state.values.contains(name) {
                continue;
            }
            let reply = self
                .link
                .query(format!("SET {assignment}").as_bytes())
                .await?;
            self.warns = true;
            let Some(failure) = reply.answer.error() else {
                self.refused.remove(name);
                continue;
            };
            if name.starts_with('@') || Likeness::is_telling(name) || is_of_transactions(name) {
                return Err(CarryError::refused(name, failure));
            }
            self.refused.insert(name.to_owned());
        }
        Ok(())
    }

    /// Closes, prepares and binds what is not as in the session.
    async fn prepare(&mut self, journal: &Journal) -> Result<(), CarryError> {
        let gone: Vec<u32> = self
            .journal
            .statements()
            .filter(|(id, own)| journal.prepared(*id).is_none_or(|now| !is_same(own, now)))
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            self.link.close(id).await?;
            self.bound.remove(&id);
            self.unprepared.remove(&id);
        }
        let mut database = journal.database();
        for (id, statement) in journal.statements() {
            if self.unprepared.contains_key(&id) {
                continue;
            }
            if self.link.statement(id).is_none() {
                let own = &*statement.prepared.database;
                if own != database && !own.is_empty() {
                    self.enter(own).await?;
                    database = own;
                }
                let text = mapped(&statement.prepared, &self.shared.server.databases);
                let text = text.ok_or_else(|| {
                    CarryError::Database("that a prepared statement names".to_owned())
                })?;
                let reply = self.link.prepare(id, &text).await?;
                match reply.answer.error() {
                    Some(failure) if failure.code == UNSUPPORTED_PS => {
                        self.warns = true;
                        let instead = Unprepared::new(statement, text, failure);
                        self.unprepared.insert(id, instead);
                        continue;
                    }
                    Some(failure) => {
                        return Err(CarryError::refused("a prepared statement", failure));
                    }
                    None => {}
                }
            }
            self.bind(id, statement).await?;
        }
        if database != journal.database() {
            self.enter(journal.database()).await?;
        }
        Ok(())
    }

    /// Has the server take in the types of the parameters, where the client may rely on them.
    async fn bind(&mut self, id: u32, statement: &Statement) -> Result<(), CarryError> {
        if statement.habit == Habit::Untold {
            return Err(CarryError::Types);
        }
        let Some(types) = statement.types.as_ref().filter(|types| !types.is_empty()) else {
            return Ok(());
        };
        let Some(own) = self.link.statement(id) else {
            return Ok(());
        };
        if self.bound.get(&id) == Some(types) {
            return Ok(());
        }
        self.warns = true;
        let link = &mut self.link;
        if !primed::without_values(link, own, (statement, types)).await? {
            if statement.habit == Habit::Always {
                // The server forgets them, and the client does not mind.
                return Ok(());
            }
            if !primed::with_nulls(link, own, (statement, types)).await? {
                return Err(CarryError::Types);
            }
        }
        self.bound.insert(id, Arc::clone(types));
        Ok(())
    }

    async fn assign(&mut self, values: &Values) -> Result<(), CarryError> {
        let text = |with_collation| {
            let all = values.assignments().iter();
            let all: Vec<String> = all.map(|one| one.text(with_collation)).collect();
            format!("SET {}", all.join(", "))
        };
        // Collations have other names elsewhere, or are not there.
        if self.run(&text(true), "").await.is_ok() {
            return Ok(());
        }
        self.warns = true;
        self.run(&text(false), "the session's variables").await
    }

    async fn run(&mut self, text: &str, what: &str) -> Result<(), CarryError> {
        let reply = self.link.query(text.as_bytes()).await?;
        match reply.answer.error() {
            Some(failure) => Err(CarryError::refused(what, failure)),
            None => Ok(()),
        }
    }

    /// vtgate takes plain names of user variables alone.
    fn takes(&self, name: &str) -> bool {
        let bare = name.strip_prefix('@');
        !self.link.is_vitess() || bare.is_none_or(is_plain)
    }
}

impl std::fmt::Debug for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carried")
            .field("session", &self.facts.session)
            .field("server", &self.shared.name)
            .finish_non_exhaustive()
    }
}

/// The next transaction would be another without them.
fn is_of_transactions(name: &str) -> bool {
    name.starts_with("transaction_")
}

fn is_same(one: &Statement, other: &Statement) -> bool {
    Arc::ptr_eq(&one.prepared, &other.prepared) || one.prepared.text == other.prepared.text
}

/// How many of the assignments were run before: new ones stand at the end, and what was set again
/// has left its old place.
fn still_stands(before: &Journal, now: &Journal) -> usize {
    let mut run = before.settings();
    let stands = now.settings().take_while(|one| run.any(|old| old == *one));
    stands.count()
}

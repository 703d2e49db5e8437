//! What ties a session to its own connection: what no other connection can be given. Pure.
//!
//! Kept for every session from what the primary answered. It refuses to guess: what it cannot
//! follow makes the session *unknown* until it is reset, and what may be held counts as held.

use super::reading::Reading;
use crate::sql::{
    Change, Class, Control, Dialect, Table, Tie, names_of_variables, reads_variables, ties,
};
use crate::wire::answer::{Answer, Outcome};
use crate::wire::command::Command;
use crate::wire::execute;
use crate::wire::query::query_text;
use crate::wire::sample::Sampled;
use crate::wire::status::Status;
use std::collections::BTreeSet;

/// Locks, tables, handlers, cursors, variables that are followed, each; more make a session unknown.
const EACH_MAX: usize = 256;

/// Errors that say that a CALL ran nothing: ER_PARSE_ERROR, ER_SP_DOES_NOT_EXIST,
/// ER_SP_WRONG_NO_OF_ARGS, ER_PROCACCESS_DENIED_ERROR.
const NOT_CALLED: [u16; 4] = [1064, 1305, 1318, 1370];

/// Why a session cannot move to another connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stuck {
    /// A transaction is open.
    Transaction,
    /// It has temporary tables.
    TemporaryTables,
    /// LOCK TABLES, FLUSH TABLES WITH READ LOCK.
    LockTables,
    /// GET_LOCK.
    GetLock,
    /// A cursor is open.
    Cursor,
    /// A HANDLER is open.
    Handler,
    /// XA START.
    Xa,
    /// What it has set cannot be told, for this reason: only a reset or a new login helps.
    Unknown(&'static str),
}

impl Stuck {
    /// The words for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transaction => "an open transaction",
            Self::TemporaryTables => "temporary tables",
            Self::LockTables => "LOCK TABLES",
            Self::GetLock => "GET_LOCK",
            Self::Cursor => "an open cursor",
            Self::Handler => "an open HANDLER",
            Self::Xa => "an XA transaction",
            Self::Unknown(why) => why,
        }
    }

    /// Whether only a reset or a new login helps.
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(why) => write!(f, "its state is not known ({why})"),
            other => f.write_str(other.name()),
        }
    }
}

/// What would be lost by moving now, and is not by waiting for one more command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Soft {
    /// The last answer had warnings, which SHOW WARNINGS may ask for.
    Warnings,
    /// SQL_CALC_FOUND_ROWS was run, and FOUND_ROWS() may follow.
    FoundRows,
    /// SET TRANSACTION was run, and the transaction that it is for has not begun.
    NextTransaction,
    /// Parameters were sent that the next execution takes.
    LongData,
}

impl Soft {
    /// The words for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warnings => "warnings",
            Self::FoundRows => "FOUND_ROWS()",
            Self::NextTransaction => "SET TRANSACTION",
            Self::LongData => "parameters sent ahead",
        }
    }
}

/// A feature, by the name that the guard has for it.
pub(super) type Feature = &'static str;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Ties {
    /// Variables whose values must be read from the session: user variables with their `@`, others
    /// without.
    values: BTreeSet<String>,
    locks: Vec<Option<Vec<u8>>>,
    locked_tables: bool,
    read_lock: bool,
    temporary: BTreeSet<Table>,
    handlers: BTreeSet<String>,
    cursors: BTreeSet<u32>,
    xa: bool,
    unknown: Option<&'static str>,
    warnings: bool,
    found_rows: bool,
    next_transaction: bool,
}

/// A command and its answer, as far as they tie.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) reading: &'a Reading,
    /// The command's payload.
    pub(super) command: &'a [u8],
    pub(super) capabilities: crate::wire::capability::Capabilities,
    /// None where it is not known; it was answered without an error then.
    pub(super) answer: Option<&'a Answer>,
    /// The session's database.
    pub(super) database: &'a str,
}

impl Ties {
    /// Takes in a command that the primary answered. Says which features it used.
    pub(super) fn take(&mut self, told: &Told<'_>) -> BTreeSet<Feature> {
        let mut used = BTreeSet::new();
        match told.reading.kind {
            Command::QUERY | Command::STMT_EXECUTE => {
                self.statements(told, &mut used);
                self.diagnostics(told);
            }
            Command::STMT_FETCH => self.fetched(told),
            Command::STMT_RESET | Command::STMT_CLOSE => self.close_cursor(told),
            Command::CHANGE_USER if !told.failed() => {
                used.insert("change_user");
            }
            _ => {}
        }
        self.stay_bounded();
        used
    }

    /// The session was reset, or logged in anew: nothing of all this is left.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What it has set cannot be told any more.
    pub(super) fn lose(&mut self, why: &'static str) {
        self.unknown.get_or_insert(why);
    }

    /// Why it is tied, if it is.
    pub(super) fn stuck(&self) -> Vec<Stuck> {
        let mut stuck = Vec::new();
        for (is, why) in [
            (!self.temporary.is_empty(), Stuck::TemporaryTables),
            (self.locked_tables || self.read_lock, Stuck::LockTables),
            (!self.locks.is_empty(), Stuck::GetLock),
            (!self.cursors.is_empty(), Stuck::Cursor),
            (!self.handlers.is_empty(), Stuck::Handler),
            (self.xa, Stuck::Xa),
        ] {
            if is {
                stuck.push(why);
            }
        }
        stuck.extend(self.unknown.map(Stuck::Unknown));
        stuck
    }

    /// What would be lost.
    pub(super) fn soft(&self) -> Vec<Soft> {
        let mut soft = Vec::new();
        for (is, what) in [
            (self.warnings, Soft::Warnings),
            (self.found_rows, Soft::FoundRows),
            (self.next_transaction, Soft::NextTransaction),
        ] {
            if is {
                soft.push(what);
            }
        }
        soft
    }

    /// The values were read, and are in the journal.
    pub(super) fn learned(&mut self) {
        self.values.clear();
    }

    /// Variables whose values must be read from the session.
    pub(super) const fn values(&self) -> &BTreeSet<String> {
        &self.values
    }

    fn statements(&mut self, told: &Told<'_>, used: &mut BTreeSet<Feature>) {
        let Some(analysis) = &told.reading.analysis else {
            if !told.failed() {
                self.lose("a statement that cannot be read");
            }
            return;
        };
        if told
            .reading
            .control
            .is_some_and(|control| matches!(control, Control::Begin { .. }))
            && !told.failed()
        {
            self.locked_tables = false;
        }
        self.forget_soft(told);
        if told.has(|outcome| *outcome == Outcome::LocalInfile) {
            used.insert("local_infile");
        }
        let ties = if analysis.statements.iter().any(|one| one.ties) {
            told.ties()
        } else {
            Vec::new()
        };
        let ran = match told.answer {
            Some(answer) if told.failed() => answer.results.len(),
            _ => analysis.statements.len(),
        };
        for (nth, one) in analysis.statements.iter().enumerate().take(ran) {
            let failed = told.failed() && nth + 1 == ran;
            if one.stored && !failed {
                used.insert("stored_functions");
                self.lose("a stored function was called");
            }
            let of_one = ties.get(nth).cloned().flatten();
            let known = of_one.is_some() && one.ties;
            for tie in of_one.unwrap_or_default() {
                used.extend(self.tie(&tie, told, failed));
            }
            for change in one.changes.iter().filter(|_| !failed) {
                match change {
                    Change::Database(_) => {}
                    Change::Variable { name, assignment } => self.assigned(name, assignment),
                    Change::Value(name) => self.valued(name),
                    Change::Unknown if !known => self.lose("a statement that cannot be read"),
                    Change::Unknown => {}
                }
            }
        }
        self.cursor(told, used);
    }

    /// What was of the statement before.
    fn forget_soft(&mut self, told: &Told<'_>) {
        let class = told.reading.class;
        if !matches!(class, Class::Empty | Class::Session | Class::Transaction) {
            self.found_rows = false;
        }
        let after = told.answer.and_then(|answer| answer.status);
        let ends = class == Class::Transaction && !after.is_some_and(Status::in_transaction);
        if ends
            || !matches!(
                class,
                Class::Empty | Class::Session | Class::Metadata | Class::Transaction
            )
        {
            self.next_transaction = false;
        }
    }

    fn tie(&mut self, tie: &Tie, told: &Told<'_>, failed: bool) -> Option<Feature> {
        match tie {
            // Some rows may have been computed before it failed; read as it is, it does no harm.
            Tie::Variable(name) => {
                self.values.insert(name.clone());
                return None;
            }
            Tie::Called => {
                let ran = |answer: &Answer| {
                    answer
                        .error()
                        .is_none_or(|failure| !NOT_CALLED.contains(&failure.code))
                };
                if told.answer.is_none_or(ran) {
                    self.lose("CALL");
                }
            }
            _ if failed => return None,
            Tie::Prepared => self.lose("a statement prepared in SQL"),
            Tie::Lock(name) => {
                if told.single() != Some(false) {
                    self.locks.push(name.clone());
                }
            }
            Tie::Unlock(name) => self.unlock(name.as_ref(), told.single()),
            Tie::UnlockAll => self.locks.clear(),
            Tie::TablesLocked => self.locked_tables = true,
            Tie::ReadLocked => self.read_lock = true,
            Tie::TablesUnlocked => {
                self.locked_tables = false;
                self.read_lock = false;
            }
            Tie::TemporaryMade(table) => {
                self.temporary.insert(told.qualified(table));
            }
            Tie::Dropped(table) => {
                self.temporary.remove(&told.qualified(table));
            }
            Tie::HandlerOpened(name) => {
                self.handlers.insert(name.clone());
            }
            Tie::HandlerClosed(name) => {
                self.handlers.remove(name);
            }
            Tie::XaBegun => self.xa = true,
            Tie::XaEnded => self.xa = false,
            Tie::FoundRows => self.found_rows = true,
            Tie::NextTransaction => self.next_transaction = true,
        }
        feature(tie)
    }

    /// Of a lock whose name is not known, only its answer tells that it was let go.
    fn unlock(&mut self, name: Option<&Vec<u8>>, released: Option<bool>) {
        let at = match name {
            Some(_) if released == Some(false) => {
                self.locks.retain(|lock| lock.as_ref() != name);
                return;
            }
            Some(_) => {
                let own = self.locks.iter().position(|lock| lock.as_ref() == name);
                let any = self.locks.iter().position(Option::is_none);
                own.or(any.filter(|_| released == Some(true)))
            }
            None if released == Some(true) => {
                let any = self.locks.iter().position(Option::is_none);
                any.or((!self.locks.is_empty()).then_some(0))
            }
            None => None,
        };
        if let Some(at) = at {
            self.locks.swap_remove(at);
        }
    }

    /// SET with a value that can be run again; by its value all the same where it reads what another
    /// connection has not.
    fn assigned(&mut self, name: &str, assignment: &str) {
        let by_value = if name.starts_with('@') {
            reads_variables(assignment)
        } else {
            let mut read =
                names_of_variables(assignment.as_bytes(), Dialect::default()).into_iter();
            read.any(|name| self.values.contains(&name))
        };
        if by_value {
            self.valued(name);
        } else {
            self.values.remove(name);
        }
    }

    fn valued(&mut self, name: &str) {
        // SET NAMES and SET TRANSACTION set several, and structured ones are the server's.
        let opaque = name == "names" || name.starts_with("transaction_") || name.contains('.');
        if !name.starts_with('@') && opaque {
            self.lose("a SET that cannot be read");
        } else {
            self.values.insert(name.to_owned());
        }
    }

    fn cursor(&mut self, told: &Told<'_>, used: &mut BTreeSet<Feature>) {
        if told.reading.kind != Command::STMT_EXECUTE {
            return;
        }
        let Some((id, _)) = told.reading.statement.as_ref() else {
            return;
        };
        self.cursors.remove(id);
        let opened = match told.answer {
            Some(_) => told.has(|outcome| matches!(outcome, Outcome::Rows(rows) if rows.cursor)),
            None => execute::asks_for_cursor(told.command),
        };
        if opened {
            self.cursors.insert(*id);
            used.insert("cursors");
        }
    }

    fn fetched(&mut self, told: &Told<'_>) {
        let status = told.answer.and_then(|answer| answer.status);
        if status.is_some_and(|status| status.has(Status::LAST_ROW_SENT)) {
            self.close_cursor(told);
        }
    }

    fn close_cursor(&mut self, told: &Told<'_>) {
        if let Some((id, _)) = told.reading.statement.as_ref().filter(|_| !told.failed()) {
            self.cursors.remove(id);
        }
    }

    fn diagnostics(&mut self, told: &Told<'_>) {
        self.warnings = told.has(|outcome| match outcome {
            Outcome::Ok(done) => done.warnings > 0,
            Outcome::Rows(rows) => rows.warnings > 0,
            Outcome::Error(_)
            | Outcome::RowsThenError(..)
            | Outcome::Prepared { .. }
            | Outcome::LocalInfile
            | Outcome::Other => false,
        });
    }

    fn stay_bounded(&mut self) {
        let all = [
            self.values.len(),
            self.locks.len(),
            self.temporary.len(),
            self.handlers.len(),
            self.cursors.len(),
        ];
        if all.iter().any(|each| *each > EACH_MAX) {
            self.clear();
            self.lose("more than is remembered");
        }
    }
}

impl Told<'_> {
    fn failed(&self) -> bool {
        self.answer.is_some_and(|answer| answer.error().is_some())
    }

    fn has(&self, is: impl Fn(&Outcome) -> bool) -> bool {
        self.answer
            .is_some_and(|answer| answer.results.iter().any(is))
    }

    fn ties(&self) -> Vec<Option<Vec<Tie>>> {
        let text = match &self.reading.statement {
            Some((_, statement)) => Some(&*statement.prepared.text),
            None => query_text(self.command, self.capabilities).ok(),
        };
        text.map_or_else(Vec::new, |text| ties(text, self.reading.dialect))
    }

    fn qualified(&self, table: &Table) -> Table {
        Table {
            database: Some(
                table
                    .database
                    .clone()
                    .unwrap_or_else(|| self.database.to_owned()),
            ),
            name: table.name.clone(),
        }
    }

    /// Whether the answer is the number 1, where it is one row of one column and has been kept; what
    /// is no 1 is no success of a lock's function.
    fn single(&self) -> Option<bool> {
        let answer = self.answer?;
        let [Outcome::Rows(rows)] = answer.results.as_slice() else {
            return None;
        };
        if rows.rows != 1 || rows.columns != 1 {
            return None;
        }
        let row = Sampled::read(answer, rows)?.next()?;
        if !rows.binary {
            return Some(row == b"\x011");
        }
        let (head, value) = row.split_at_checked(2)?;
        let is_null = head.get(1).is_some_and(|bits| bits & 4 != 0);
        Some(!is_null && value.first() == Some(&1))
    }
}

fn feature(tie: &Tie) -> Option<Feature> {
    match tie {
        Tie::Called => Some("call"),
        Tie::Prepared => Some("sql_prepare"),
        Tie::Lock(_) => Some("get_lock"),
        Tie::TablesLocked | Tie::ReadLocked => Some("lock_tables"),
        Tie::TemporaryMade(_) => Some("temporary_tables"),
        Tie::HandlerOpened(_) => Some("handler"),
        Tie::XaBegun => Some("xa"),
        Tie::FoundRows => Some("found_rows"),
        Tie::Variable(_)
        | Tie::Unlock(_)
        | Tie::UnlockAll
        | Tie::TablesUnlocked
        | Tie::Dropped(_)
        | Tie::HandlerClosed(_)
        | Tie::XaEnded
        | Tie::NextTransaction => None,
    }
}

#[cfg(test)]
mod tests;

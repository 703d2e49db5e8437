//! What a command is: its statement's analysis, its tables, what it changes of the session. Pure
//! but for the catalog's memory; nothing is decided here.

use super::journal::{Entry, Habit, Journal, Statement, Untold};
use super::order::Scope;
use super::outline::{Outline, Shapes};
use super::prepared::Prepared;
use crate::ledger::Protocol;
use crate::sql::{
    Analysis, Change, Class, Control, Dialect, TableSet, Tables, beginning, map_databases,
};
use crate::wire::answer::Answer;
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::execute::{self, Execute, Shape, Type};
use crate::wire::query::query_text;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A command, read.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The command.
    pub(super) kind: Command,
    /// Of its statement; none for commands without one, and where it is not known.
    pub(super) analysis: Option<Arc<Analysis>>,
    /// What follows from its shape; none where there is no analysis.
    pub(super) outline: Option<Arc<Outline>>,
    /// The strongest class.
    pub(super) class: Class,
    /// The shape, or the command's name.
    pub(super) fingerprint: Arc<str>,
    /// xxh3-64 of it.
    pub(super) digest: u64,
    /// Text or prepared.
    pub(super) protocol: Protocol,
    /// All tables that it runs on.
    pub(super) scope: Scope,
    /// Those that it writes.
    pub(super) writes: Scope,
    /// The transaction control of its last such statement.
    pub(super) control: Option<Control>,
    /// It runs something: not so where it is only prepared.
    pub(super) runs: bool,
    /// To ask how it would be run is to run nothing of it: one statement whose tables are known, so
    /// that it calls no stored function.
    pub(super) plannable: bool,
    /// Several statements, among them one that ends a transaction, commits implicitly or may switch
    /// autocommit.
    pub(super) ends_inside: bool,
    /// The prepared statement that it is about, by the client's id.
    pub(super) statement: Option<(u32, Statement)>,
    /// Its text as the shadow must be sent it, where that is another one.
    pub(super) text: Text,
    /// How the statement's text is read: as the session read it when it sent it.
    pub(super) dialect: Dialect,
    /// Of what is prepared, the database in which it is.
    prepared_in: Option<Arc<str>>,
}

/// What the shadow is sent for a command's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// What the client sent, or the command has no text.
    Same,
    /// The text with the databases' names mapped.
    Mapped(Vec<u8>),
    /// It cannot be told which database is meant.
    Unsure,
}

/// What a session's commands are read by.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// Shapes seen before.
    pub(super) shapes: &'a Shapes,
    /// The session so far.
    pub(super) journal: &'a Journal,
    /// What the session agreed on.
    pub(super) capabilities: Capabilities,
    /// The server's last flag on NO_BACKSLASH_ESCAPES.
    pub(super) no_backslash_escapes: bool,
    /// The primary's databases and what the shadow calls them.
    pub(super) databases: &'a BTreeMap<String, String>,
    /// What is missing of the command.
    pub(super) missing: Missing,
}

/// What is missing of a command that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Nothing.
    Nothing,
    /// The end of its one statement.
    End,
    /// Its end, in which further statements may stand.
    Statements,
}

impl Reader<'_> {
    /// Reads a command's payload.
    pub(super) fn read(&self, payload: &[u8]) -> Reading {
        let kind = payload.first().map_or(Command::QUIT, |byte| Command(*byte));
        match kind {
            Command::QUERY => match query_text(payload, self.capabilities) {
                Ok(text) => self.statement(kind, text),
                Err(_) => bare(kind, Class::Unmirrored),
            },
            Command::STMT_PREPARE => {
                let text = payload.get(1..).unwrap_or_default();
                let mut reading = self.statement(kind, text);
                reading.protocol = Protocol::Prepared;
                reading.runs = false;
                reading.writes = Scope::none();
                reading.control = None;
                reading.prepared_in = Some(Arc::clone(self.journal.database_kept()));
                reading
            }
            Command::STMT_EXECUTE
            | Command::STMT_FETCH
            | Command::STMT_RESET
            | Command::STMT_SEND_LONG_DATA
            | Command::STMT_CLOSE => self.prepared(kind, payload),
            Command::INIT_DB => {
                let mut reading = bare(kind, Class::Session);
                let name = String::from_utf8_lossy(payload.get(1..).unwrap_or_default());
                reading.text = self.mapped(&name);
                reading
            }
            Command::SET_OPTION | Command::RESET_CONNECTION => bare(kind, Class::Session),
            _ => bare(kind, Class::Unmirrored),
        }
    }

    fn dialect(&self) -> Dialect {
        let mut dialect = self.journal.dialect();
        dialect.no_backslash_escapes |= self.no_backslash_escapes;
        dialect
    }

    fn statement(&self, kind: Command, text: &[u8]) -> Reading {
        let dialect = self.dialect();
        if self.missing != Missing::Nothing {
            let analysis = self.shapes.analyze(beginning(text, dialect), dialect);
            let mut reading = self.analysed(kind, &analysis).cut(self.missing);
            reading.dialect = dialect;
            return reading;
        }
        let analysis = self.shapes.analyze(text, dialect);
        let mut reading = self.analysed(kind, &analysis);
        reading.dialect = dialect;
        if let Some(mapped) = map_text(text, &analysis, dialect, self.databases) {
            reading.text = mapped.map_or(Text::Unsure, |mapped| {
                if mapped == text {
                    Text::Same
                } else {
                    Text::Mapped(mapped)
                }
            });
        }
        reading
    }

    /// A database's name as the shadow knows it. Some servers tell names apart by their case.
    fn mapped(&self, name: &str) -> Text {
        if let Some(mapped) = self.databases.get(name) {
            return Text::Mapped(mapped.clone().into_bytes());
        }
        let mut known = self.databases.keys();
        if known.any(|known| known.eq_ignore_ascii_case(name)) {
            Text::Unsure
        } else {
            Text::Same
        }
    }

    fn analysed(&self, kind: Command, analysis: &Arc<Analysis>) -> Reading {
        self.analysed_in(self.journal.database_kept(), kind, analysis)
    }

    fn analysed_in(&self, database: &Arc<str>, kind: Command, analysis: &Arc<Analysis>) -> Reading {
        let outline = self.shapes.outline(analysis, database);
        Reading {
            kind,
            class: analysis.class,
            fingerprint: Arc::clone(&analysis.fingerprint),
            digest: analysis.digest,
            protocol: Protocol::Text,
            scope: outline.scope.clone(),
            writes: outline.writes.clone(),
            control: outline.control,
            runs: true,
            plannable: outline.plannable,
            ends_inside: outline.ends_inside,
            analysis: Some(Arc::clone(analysis)),
            outline: Some(outline),
            statement: None,
            text: Text::Same,
            dialect: Dialect::default(),
            prepared_in: None,
        }
    }

    fn prepared(&self, kind: Command, payload: &[u8]) -> Reading {
        let id = execute::statement_id(payload).ok();
        let id = id.and_then(|id| self.journal.resolve(id));
        let known = id.and_then(|id| Some((id, self.journal.prepared(id)?.clone())));
        let Some((id, statement)) = known else {
            let mut reading = bare(kind, Class::Unmirrored);
            reading.protocol = Protocol::Prepared;
            if kind == Command::STMT_EXECUTE {
                reading.writes = Scope::All; // nobody knows what it ran
            }
            return reading;
        };
        let prepared = &statement.prepared;
        let mut reading = self.analysed_in(&prepared.database, kind, &prepared.analysis);
        reading.protocol = Protocol::Prepared;
        reading.dialect = statement.prepared.dialect;
        if statement.prepared.mapped.is_none() {
            reading.text = Text::Unsure;
        }
        reading.statement = Some((id, statement));
        if kind != Command::STMT_EXECUTE {
            reading.runs = false;
            reading.writes = Scope::none();
            reading.control = None;
        }
        reading
    }
}

impl Reading {
    /// Whether it locks rows and writes none: nothing is lost where it is not run.
    pub(super) fn only_locks(&self) -> bool {
        let writes = |one: &crate::sql::Statement| one.written != Tables::Known(Vec::new());
        let analysis = self.analysis.as_ref();
        self.class == Class::LockingRead
            && analysis.is_some_and(|analysis| !analysis.statements.iter().any(writes))
    }

    /// The tables that the statement names, as far as they are known.
    pub(super) fn named(&self) -> TableSet {
        let outline = self.outline.as_ref();
        outline.map_or_else(|| self.scope.tables(), |outline| outline.named())
    }

    /// The tables that it writes; where they are not known, all of the database.
    pub(super) fn written(&self, database: &str) -> TableSet {
        if self.only_locks() {
            TableSet::none()
        } else {
            self.writes.taintable(database)
        }
    }

    /// What is left to say where the end of the command is missing.
    fn cut(mut self, missing: Missing) -> Self {
        self.scope = Scope::All;
        self.text = Text::Unsure;
        let told = match self.class {
            Class::Write => missing == Missing::End && !self.writes.is_empty(),
            // To take what follows a long read for writes would taint all with each that is let go.
            Class::Read | Class::Metadata | Class::LockingRead => true,
            Class::Empty | Class::Session | Class::Transaction | Class::Ddl | Class::Unmirrored => {
                false
            }
        };
        let statements = self
            .analysis
            .as_ref()
            .map(|analysis| analysis.statements.len());
        if statements != Some(1) || !told {
            self.writes = Scope::All;
        }
        self
    }

    /// What it may have changed of the session where its analysis says that this cannot be told.
    fn untold(&self) -> Untold {
        let statements = self.analysis.as_ref().map(|analysis| &analysis.statements);
        let sets = statements.is_none_or(|all| {
            all.iter().any(|one| {
                let word = one.fingerprint.split_whitespace().next();
                word.is_some_and(|word| word.eq_ignore_ascii_case("SET"))
            })
        });
        match self.class {
            _ if sets => Untold::Anything,
            Class::Ddl => Untold::Table,
            _ => Untold::Variables,
        }
    }

    /// What the command changed of the session, given that the primary answered so. `long` are
    /// the parameters that were sent apart.
    pub(super) fn entries(
        &self,
        payload: &[u8],
        capabilities: Capabilities,
        answer: Option<&Answer>,
        long: &BTreeSet<u16>,
    ) -> Vec<Entry> {
        let failed = answer.is_some_and(|answer| answer.error().is_some());
        match self.kind {
            Command::QUERY | Command::STMT_EXECUTE => {
                let mut entries = self.changes(answer, failed);
                entries.extend(self.types(payload, capabilities, long));
                entries
            }
            Command::STMT_CLOSE => self.of_statement(Entry::Forgotten),
            Command::STMT_PREPARE if failed => vec![Entry::NotPrepared],
            _ if failed => Vec::new(),
            Command::STMT_PREPARE => {
                let new = answer
                    .and_then(Answer::prepared)
                    .and_then(|(id, parameters)| self.newly_prepared(payload, id, parameters));
                vec![new.unwrap_or(Entry::NotPrepared)]
            }
            Command::INIT_DB => {
                let name = String::from_utf8_lossy(payload.get(1..).unwrap_or_default());
                vec![Entry::Change(Change::Database(name.into_owned()))]
            }
            Command::SET_OPTION => {
                let on = payload.get(1..3).is_some_and(|option| option == [0, 0]);
                vec![Entry::MultiStatements(on)]
            }
            Command::RESET_CONNECTION => vec![Entry::Reset],
            _ => Vec::new(),
        }
    }

    /// The changes of those statements that the primary ran.
    fn changes(&self, answer: Option<&Answer>, failed: bool) -> Vec<Entry> {
        let Some(analysis) = &self.analysis else {
            return Vec::new();
        };
        let ran = match answer {
            Some(answer) if failed => answer.results.len().saturating_sub(1),
            _ => analysis.statements.len(),
        };
        let of_ran = analysis.statements.iter().take(ran);
        of_ran
            .flat_map(|one| one.changes.iter().cloned())
            .map(|change| match change {
                Change::Value(name) if name.starts_with('@') => Entry::Untold(Untold::Variables),
                Change::Value(_) => Entry::Untold(Untold::Anything),
                Change::Unknown => Entry::Untold(self.untold()),
                told => Entry::Change(told),
            })
            .collect()
    }

    fn of_statement(&self, entry: impl Fn(u32) -> Entry) -> Vec<Entry> {
        self.statement.iter().map(|(id, _)| entry(*id)).collect()
    }

    /// The types that an execution bound anew.
    fn types(
        &self,
        payload: &[u8],
        capabilities: Capabilities,
        long: &BTreeSet<u16>,
    ) -> Option<Entry> {
        let (id, statement) = self.statement.as_ref()?;
        let shape = shape(statement, capabilities, long);
        match Execute::parse(payload, shape).ok()?.types {
            // The same as ever changes nothing.
            Some(types)
                if statement.habit == Habit::Always
                    && statement.types.as_deref() == Some(&types) =>
            {
                None
            }
            Some(types) => Some(Entry::Types(*id, Some(types.into()))),
            None if statement.habit == Habit::Relies => None,
            None => (shape.parameters > 0).then_some(Entry::Relied(*id)),
        }
    }

    /// The statement that the primary has prepared under an id, with so many parameters.
    pub(super) fn newly_prepared(&self, payload: &[u8], id: u32, parameters: u16) -> Option<Entry> {
        let text: Arc<[u8]> = Arc::from(payload.get(1..).unwrap_or_default());
        let mapped = match &self.text {
            Text::Same => Some(Arc::clone(&text)),
            Text::Mapped(mapped) => Some(Arc::from(mapped.as_slice())),
            Text::Unsure => None,
        };
        let prepared = Prepared {
            text,
            dialect: self.dialect,
            mapped,
            analysis: Arc::clone(self.analysis.as_ref()?),
            database: self.prepared_in.clone().unwrap_or_default(),
            parameters,
        };
        Some(Entry::Prepared(id, Arc::new(prepared)))
    }
}

/// A text with the databases' names mapped, `None` inside where that cannot be told; `None` where
/// there is nothing to map.
#[expect(clippy::option_option, reason = "said above")]
fn map_text(
    text: &[u8],
    analysis: &Analysis,
    dialect: Dialect,
    databases: &BTreeMap<String, String>,
) -> Option<Option<Vec<u8>>> {
    let qualified = analysis.statements.iter().any(|one| one.qualified);
    let metadata = analysis.class == Class::Metadata;
    (!databases.is_empty() && (qualified || metadata))
        .then(|| map_databases(text, dialect, databases))
}

/// A prepared statement's text as a server that calls databases so must be sent it; `None` where
/// that cannot be told.
pub(super) fn mapped(
    prepared: &Prepared,
    databases: &BTreeMap<String, String>,
) -> Option<Arc<[u8]>> {
    let text = &prepared.text;
    match map_text(text, &prepared.analysis, prepared.dialect, databases) {
        None => Some(Arc::clone(text)),
        Some(mapped) => mapped.map(|mapped| {
            if *mapped == **text {
                Arc::clone(text)
            } else {
                Arc::from(mapped)
            }
        }),
    }
}

/// What is needed to read an execution of a statement.
pub(super) fn shape<'a>(
    statement: &'a Statement,
    capabilities: Capabilities,
    long: &'a BTreeSet<u16>,
) -> Shape<'a> {
    Shape {
        parameters: statement.prepared.parameters,
        capabilities,
        types: statement.types.as_deref().map(|types: &[Type]| types),
        long,
    }
}

/// A command without a statement.
fn bare(kind: Command, class: Class) -> Reading {
    let name: Arc<str> = Arc::from(name_of(kind));
    Reading {
        kind,
        analysis: None,
        outline: None,
        class,
        digest: xxhash_rust::xxh3::xxh3_64(name.as_bytes()),
        fingerprint: name,
        protocol: Protocol::Text,
        scope: Scope::none(),
        writes: Scope::none(),
        control: None,
        runs: true,
        plannable: false,
        ends_inside: false,
        statement: None,
        text: Text::Same,
        dialect: Dialect::default(),
        prepared_in: None,
    }
}

/// The command's name, as MySQL's documentation has it.
fn name_of(kind: Command) -> &'static str {
    match kind {
        Command::QUIT => "COM_QUIT",
        Command::INIT_DB => "COM_INIT_DB",
        Command::QUERY => "COM_QUERY",
        Command::FIELD_LIST => "COM_FIELD_LIST",
        Command::STATISTICS => "COM_STATISTICS",
        Command::DEBUG => "COM_DEBUG",
        Command::PING => "COM_PING",
        Command::CHANGE_USER => "COM_CHANGE_USER",
        Command::BINLOG_DUMP => "COM_BINLOG_DUMP",
        Command::STMT_PREPARE => "COM_STMT_PREPARE",
        Command::STMT_EXECUTE => "COM_STMT_EXECUTE",
        Command::STMT_SEND_LONG_DATA => "COM_STMT_SEND_LONG_DATA",
        Command::STMT_CLOSE => "COM_STMT_CLOSE",
        Command::STMT_RESET => "COM_STMT_RESET",
        Command::SET_OPTION => "COM_SET_OPTION",
        Command::STMT_FETCH => "COM_STMT_FETCH",
        Command::RESET_CONNECTION => "COM_RESET_CONNECTION",
        _ => "COM_UNKNOWN",
    }
}

#[cfg(test)]
mod tests;

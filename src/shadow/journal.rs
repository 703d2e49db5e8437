//! What another server would need to take a session over: database, variables, prepared
//! statements. Pure; kept for every session, mirrored or not, from what the primary accepted.
//!
//! It holds no transaction: a session is taken over between transactions. It refuses to guess: a
//! change that cannot be told makes it *unknown* until the session starts afresh.

use super::prepared::Prepared;
use crate::sql::{Change, Dialect, dialect_after, reads_variables};
use crate::wire::execute::Type;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Variables remembered for each session; more make the journal unknown.
const VARIABLES_MAX: usize = 256;
/// Bytes of their assignments.
const VARIABLES_BYTES_MAX: usize = 64 << 10;
/// Bytes of the texts that a session has prepared; more make the journal unknown. Values come as
/// parameters, so that a thousand statements of an application are far below it.
const PREPARED_BYTES_MAX: usize = 16 << 20;

/// What a change that cannot be told may have changed of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Untold {
    /// Anything (a SET that could not be read).
    Anything,
    /// User variables and locks (CALL, `SELECT @a := …`, GET_LOCK): of these only the variables show
    /// in answers, and only in those of statements that name one.
    Variables,
    /// A temporary table: what names it fails on the shadow.
    Table,
}

/// One change of a session's state, as it goes to every copy of its journal.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// USE, INIT_DB, a SET.
    Change(Change),
    /// A change that cannot be told.
    Untold(Untold),
    /// A statement was prepared under this id.
    Prepared(u32, Arc<Prepared>),
    /// A statement was prepared, or refused, and its id is not known.
    NotPrepared,
    /// A statement's parameter types were sent; none: they were, and are not known.
    Types(u32, Option<Arc<[Type]>>),
    /// A statement was executed with the types that were sent before.
    Relied(u32),
    /// A prepared statement was closed.
    Forgotten(u32),
    /// SET_OPTION.
    MultiStatements(bool),
    /// RESET_CONNECTION: variables and prepared statements are gone, the database stays.
    Reset,
    /// CHANGE_USER: everything is gone.
    Login {
        /// The database named in it; empty for none.
        database: String,
    },
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    database: Arc<str>,
    /// Assignments in the order in which they must run, with the variable's name.
    variables: Vec<(String, String)>,
    variables_bytes: usize,
    manner: Manner,
    prepared: BTreeMap<u32, Statement>,
    prepared_bytes: usize,
    last_prepared: Option<u32>,
    multi_statements: Option<bool>,
    unknown: bool,
    lacks: bool,
    full: bool,
}

/// What follows from the variables and is asked at every command.
#[derive(Clone, Copy, Debug)]
struct Manner {
    dialect: Dialect,
    keeps_snapshot: bool,
    charset_is_unsafe: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            dialect: Dialect::default(),
            keeps_snapshot: true,
            charset_is_unsafe: false,
        }
    }
}

/// A prepared statement of the session.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// What was prepared.
    pub(super) prepared: Arc<Prepared>,
    /// The parameter types that the client sent last.
    pub(super) types: Option<Arc<[Type]>>,
    /// How it sends them.
    pub(super) habit: Habit,
}

/// How a client sends the types of a statement's parameters. Some do so each time, some once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// It has executed nothing yet.
    New,
    /// It executed once, with types.
    Once,
    /// Each time, and that was more than once.
    Always,
    /// It relied on those that it had sent.
    Relies,
    /// It may have sent others than are known.
    Untold,
}

impl Habit {
    const fn bound(self) -> Self {
        match self {
            Self::New | Self::Untold => Self::Once,
            Self::Once | Self::Always => Self::Always,
            Self::Relies => Self::Relies,
        }
    }
}

impl Entry {
    /// Whether a connection that did not see this change is no longer like the session. A
    /// prepared statement is prepared when it is needed.
    pub(super) const fn changes_state(&self) -> bool {
        match self {
            Self::Change(Change::Database(_) | Change::Variable { .. })
            | Self::MultiStatements(_)
            | Self::Reset
            | Self::Login { .. } => true,
            // What cannot be told cannot be caught up with either.
            Self::Untold(_)
            | Self::Change(Change::Value(_) | Change::Unknown)
            | Self::Prepared(..)
            | Self::NotPrepared
            | Self::Types(..)
            | Self::Relied(_)
            | Self::Forgotten(_) => false,
        }
    }
}

impl Journal {
    /// The journal of a session that has just logged in.
    pub(super) fn new(database: &str) -> Self {
        Self {
            database: Arc::from(database),
            ..Self::default()
        }
    }

    /// Takes a change in. `prepared_max` bounds the prepared statements.
    pub(super) fn apply(&mut self, entry: &Entry, prepared_max: usize) {
        match entry {
            Entry::Change(Change::Database(name)) => self.database = Arc::from(name.as_str()),
            Entry::Change(Change::Variable { name, assignment }) => self.set(name, assignment),
            Entry::Untold(Untold::Anything) | Entry::Change(Change::Value(_) | Change::Unknown) => {
                self.unknown = true;
            }
            Entry::Untold(Untold::Variables | Untold::Table) => self.lacks = true,
            Entry::Prepared(id, prepared) => self.prepare(*id, prepared, prepared_max),
            Entry::Types(id, types) => {
                if let Some(statement) = self.prepared.get_mut(id) {
                    statement.types.clone_from(types);
                    statement.habit = match types {
                        Some(_) => statement.habit.bound(),
                        None => Habit::Untold,
                    };
                }
            }
            Entry::Relied(id) => {
                if let Some(statement) = self.prepared.get_mut(id) {
                    statement.habit = Habit::Relies;
                }
            }
            Entry::NotPrepared => self.last_prepared = None,
            Entry::Forgotten(id) => self.forget(*id),
            Entry::MultiStatements(on) => self.multi_statements = Some(*on),
            Entry::Reset => {
                *self = Self {
                    database: std::mem::take(&mut self.database),
                    ..Self::default()
                };
            }
            Entry::Login { database } => *self = Self::new(database),
        }
    }

    /// The session's database; empty for none.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// The same, to be kept.
    pub(super) const fn database_kept(&self) -> &Arc<str> {
        &self.database
    }

    /// Whether the session's state cannot be told.
    pub(super) const fn is_unknown(&self) -> bool {
        self.unknown
    }

    /// Whether it is unknown because more was set, or prepared, than is remembered.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// Whether the session has user variables, locks or temporary tables that a fresh connection
    /// would lack.
    pub(super) const fn lacks_something(&self) -> bool {
        self.lacks
    }

    /// What could not be told, or a fresh connection would have lacked, has become known or is no
    /// more.
    pub(super) const fn is_told(&mut self) {
        self.lacks = false;
        self.unknown = self.full;
    }

    /// Whether a reset of the session changes anything but its prepared statements.
    pub(super) fn has_settings(&self) -> bool {
        self.unknown || self.lacks || !self.variables.is_empty() || self.multi_statements.is_some()
    }

    /// From here on the session's state cannot be told.
    pub(super) const fn lose(&mut self) {
        self.unknown = true;
    }

    /// What SET_OPTION said last, if anything.
    pub(super) const fn multi_statements(&self) -> Option<bool> {
        self.multi_statements
    }

    /// The statements that rebuild the variables on a fresh connection, in order.
    pub(super) fn assignments(&self) -> impl Iterator<Item = (&str, String)> {
        self.variables
            .iter()
            .map(|(name, assignment)| (name.as_str(), format!("SET {assignment}")))
    }

    /// The assignments as the client wrote them, each with its variable's name, in order.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables
            .iter()
            .map(|(name, assignment)| (name.as_str(), assignment.as_str()))
    }

    /// The id that a client means: 0xFFFFFFFF, of MariaDB's connectors, is the last one prepared.
    pub(super) fn resolve(&self, id: u32) -> Option<u32> {
        if id == u32::MAX && !self.prepared.contains_key(&id) {
            self.last_prepared
        } else {
            Some(id)
        }
    }

    /// A prepared statement by its own id.
    pub(super) fn prepared(&self, id: u32) -> Option<&Statement> {
        self.prepared.get(&id)
    }

    /// All prepared statements by their ids, the one prepared last at the end.
    pub(super) fn statements(&self) -> impl Iterator<Item = (u32, &Statement)> {
        let is_last = |id: &u32| self.last_prepared == Some(*id);
        let rest = self.prepared.iter().filter(move |(id, _)| !is_last(id));
        let last = self.prepared.iter().filter(move |(id, _)| is_last(id));
        rest.chain(last).map(|(id, statement)| (*id, statement))
    }

    /// The id of the one prepared last, while it is there.
    pub(super) fn last_prepared(&self) -> Option<u32> {
        self.last_prepared
            .filter(|id| self.prepared.contains_key(id))
    }

    /// Another server calls some databases by other names: its texts are made anew.
    pub(super) fn map_again(&mut self, map: impl Fn(&Prepared) -> Option<Arc<[u8]>>) {
        let mut bytes = 0;
        for statement in self.prepared.values_mut() {
            let mapped = map(&statement.prepared);
            if mapped != statement.prepared.mapped {
                statement.prepared = Arc::new(Prepared {
                    text: Arc::clone(&statement.prepared.text),
                    dialect: statement.prepared.dialect,
                    mapped,
                    analysis: Arc::clone(&statement.prepared.analysis),
                    database: Arc::clone(&statement.prepared.database),
                    parameters: statement.prepared.parameters,
                });
            }
            bytes += statement.prepared.bytes();
        }
        self.prepared_bytes = bytes;
    }

    /// The last assignment to any of these variables, in lower case.
    pub(super) fn value_of(&self, names: &[&str]) -> Option<String> {
        self.variables
            .iter()
            .rev()
            .find(|(name, _)| names.contains(&name.as_str()))
            .map(|(_, assignment)| assignment.to_ascii_lowercase())
    }

    /// How the session's text is read, by what was assigned to `sql_mode`.
    pub(super) const fn dialect(&self) -> Dialect {
        self.manner.dialect
    }

    /// Whether a snapshot is opened by a transaction's first read and kept to its end.
    pub(super) const fn keeps_snapshot(&self) -> bool {
        self.manner.keeps_snapshot
    }

    /// Whether the session speaks a character set whose second bytes look like ASCII.
    pub(super) const fn charset_is_unsafe(&self) -> bool {
        self.manner.charset_is_unsafe
    }

    fn manner(&self) -> Manner {
        let modes = self.variables.iter().filter(|(name, _)| name == "sql_mode");
        let level = self.value_of(&[
            "transaction_isolation",
            "tx_isolation",
            "@@transaction_isolation",
            "@@tx_isolation",
        ]);
        let charset = self.value_of(&["names", "character_set_client", "character set", "charset"]);
        Manner {
            dialect: modes.fold(Dialect::default(), |dialect, (_, assignment)| {
                dialect_after(dialect, assignment)
            }),
            keeps_snapshot: level.is_none_or(|level| !level.contains("committed")),
            charset_is_unsafe: charset.is_some_and(|text| unsafe_charset(&text)),
        }
    }

    fn set(&mut self, name: &str, assignment: &str) {
        // An assignment that reads variables must find what it found: nothing before it is let go.
        let read = self
            .variables
            .iter()
            .rposition(|(_, text)| reads_variables(text));
        let keep = read.map_or(0, |at| at + 1);
        let mut nth = 0;
        let bytes = &mut self.variables_bytes;
        self.variables.retain(|(other, text)| {
            nth += 1;
            let stays = nth <= keep || other != name || reads_variables(assignment);
            if !stays {
                *bytes -= other.len() + text.len();
            }
            stays
        });
        self.variables_bytes += name.len() + assignment.len();
        self.variables
            .push((name.to_owned(), assignment.to_owned()));
        let full = self.variables.len() > VARIABLES_MAX;
        if full || self.variables_bytes > VARIABLES_BYTES_MAX {
            self.unknown = true;
            self.full = true;
            self.variables.pop();
            self.variables_bytes -= name.len() + assignment.len();
        }
        self.manner = self.manner();
    }

    fn prepare(&mut self, id: u32, prepared: &Arc<Prepared>, prepared_max: usize) {
        self.forget(id);
        let bytes = self.prepared_bytes + prepared.bytes();
        if self.prepared.len() >= prepared_max || bytes > PREPARED_BYTES_MAX {
            self.unknown = true;
            self.full = true;
            self.last_prepared = None;
            return;
        }
        let statement = Statement {
            prepared: Arc::clone(prepared),
            types: None,
            habit: Habit::New,
        };
        self.prepared.insert(id, statement);
        self.prepared_bytes = bytes;
        self.last_prepared = Some(id);
    }

    fn forget(&mut self, id: u32) {
        if let Some(statement) = self.prepared.remove(&id) {
            self.prepared_bytes -= statement.prepared.bytes();
        }
    }
}

/// Whether a text in lower case names one of the charsets that are served but not mirrored.
fn unsafe_charset(text: &str) -> bool {
    ["sjis", "cp932", "gbk", "gb18030", "big5"]
        .iter()
        .any(|name| text.contains(name))
}

/// Whether a login's collation belongs to one of those charsets.
///
/// <https://dev.mysql.com/doc/refman/8.4/en/information-schema-collations-table.html>
pub(super) const fn unsafe_collation(collation: u16) -> bool {
    matches!(
        collation,
        1 | 84 | 13 | 88 | 95 | 96 | 28 | 87 | 248..=250 // big5, sjis, cp932, gbk, gb18030
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(journal: &mut Journal, name: &str, assignment: &str) {
        let change = Change::Variable {
            name: name.into(),
            assignment: assignment.into(),
        };
        journal.apply(&Entry::Change(change), 8);
    }

    fn assignments(journal: &Journal) -> Vec<String> {
        journal.assignments().map(|(_, set)| set).collect()
    }

    #[test]
    fn the_last_assignment_to_a_variable_is_the_one_that_is_kept() {
        let mut journal = Journal::new("app");
        set(&mut journal, "names", "NAMES utf8");
        set(&mut journal, "sql_mode", "sql_mode = ''");
        set(&mut journal, "names", "NAMES utf8mb4");
        assert_eq!(
            assignments(&journal),
            ["SET sql_mode = ''", "SET NAMES utf8mb4"]
        );
    }

    #[test]
    fn an_assignment_that_reads_variables_finds_what_it_found() {
        let mut journal = Journal::new("app");
        set(&mut journal, "sql_mode", "sql_mode = 'ANSI'");
        set(
            &mut journal,
            "sql_mode",
            "sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
        );
        set(&mut journal, "@a", "@a = @@sql_mode");
        set(&mut journal, "sql_mode", "sql_mode = ''");
        set(&mut journal, "sql_mode", "sql_mode = 'TRADITIONAL'");
        assert_eq!(
            assignments(&journal),
            [
                "SET sql_mode = 'ANSI'",
                "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
                "SET @a = @@sql_mode",
                "SET sql_mode = 'TRADITIONAL'",
            ]
        );
    }

    #[test]
    fn a_reset_keeps_the_database_and_forgets_the_rest() {
        let mut journal = Journal::new("app");
        set(&mut journal, "names", "NAMES utf8");
        journal.apply(&Entry::Untold(Untold::Anything), 8);
        journal.apply(&Entry::Change(Change::Database("other".into())), 8);
        journal.apply(&Entry::Reset, 8);
        assert_eq!((journal.database(), journal.is_unknown()), ("other", false));
        assert_eq!(assignments(&journal), [""; 0]);
    }

    #[test]
    fn too_many_variables_make_the_journal_unknown_and_stay_bounded() {
        let mut journal = Journal::new("");
        for n in 0..2 * VARIABLES_MAX {
            set(&mut journal, &format!("@v{n}"), &format!("@v{n} = 1"));
        }
        assert!(journal.is_unknown());
        assert_eq!(assignments(&journal).len(), VARIABLES_MAX);
    }

    #[test]
    fn an_at_sign_in_a_text_reads_no_variable() {
        let mut journal = Journal::new("");
        for n in 0..2 * VARIABLES_MAX {
            set(&mut journal, "@user", &format!("@user = 'a{n}@b.c'"));
        }
        assert!(!journal.is_unknown());
        assert_eq!(assignments(&journal).len(), 1);
    }

    fn prepare(journal: &mut Journal, id: u32, text: &str) {
        let text: Arc<[u8]> = Arc::from(text.as_bytes());
        let prepared = Prepared {
            dialect: crate::sql::Dialect::default(),
            text: Arc::clone(&text),
            mapped: Some(text),
            analysis: Arc::new(crate::sql::analyze(
                b"SELECT 1",
                crate::sql::Dialect::default(),
            )),
            database: Arc::from("app"),
            parameters: 0,
        };
        journal.apply(&Entry::Prepared(id, Arc::new(prepared)), 1024);
    }

    #[test]
    fn prepared_texts_are_bounded_in_bytes_and_closed_ones_are_no_longer_counted() {
        let mut journal = Journal::new("");
        let half = "x".repeat(PREPARED_BYTES_MAX / 2);
        prepare(&mut journal, 1, &half);
        prepare(&mut journal, 1, &half);
        prepare(&mut journal, 2, &half);
        assert!(!journal.is_unknown() && journal.prepared(2).is_some());
        journal.apply(&Entry::Forgotten(1), 1024);
        prepare(&mut journal, 3, &half);
        assert!(!journal.is_unknown());
        prepare(&mut journal, 4, "x");
        assert!(journal.is_unknown() && journal.prepared(4).is_none());
    }

    #[test]
    fn statements_come_by_their_ids_and_the_last_one_at_the_end() {
        let mut journal = Journal::new("");
        for id in [9, 3, 5] {
            prepare(&mut journal, id, "SELECT 1");
        }
        let ids = |journal: &Journal| journal.statements().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(
            (ids(&journal), journal.last_prepared()),
            (vec![3, 9, 5], Some(5))
        );
        journal.apply(&Entry::Forgotten(5), 1024);
        assert_eq!((ids(&journal), journal.last_prepared()), (vec![3, 9], None));
    }

    #[test]
    fn a_client_that_sends_its_types_each_time_is_told_from_one_that_relies_on_them() {
        let types: Option<Arc<[Type]>> = Some(Arc::from([]));
        let (bound, untold) = (Entry::Types(7, types), Entry::Types(7, None));
        let relied = Entry::Relied(7);
        for (entries, habit) in [
            (&[][..], Habit::New),
            (&[&bound][..], Habit::Once),
            (&[&bound, &bound][..], Habit::Always),
            (&[&bound, &relied, &bound][..], Habit::Relies),
            (&[&bound, &untold][..], Habit::Untold),
            (&[&untold, &bound][..], Habit::Once),
        ] {
            let mut journal = Journal::new("");
            prepare(&mut journal, 7, "SELECT ?");
            for entry in entries {
                journal.apply(entry, 1024);
            }
            let found = journal.prepared(7).map(|statement| statement.habit);
            assert_eq!(found, Some(habit), "{entries:?}");
        }
    }

    #[test]
    fn what_became_known_is_told_again_but_not_what_is_not_remembered() {
        let mut journal = Journal::new("");
        journal.apply(&Entry::Untold(Untold::Anything), 8);
        journal.apply(&Entry::Untold(Untold::Variables), 8);
        journal.is_told();
        assert!(!journal.is_unknown() && !journal.lacks_something());
        for n in 0..=VARIABLES_MAX {
            set(&mut journal, &format!("@v{n}"), &format!("@v{n} = 1"));
        }
        journal.is_told();
        assert!(journal.is_unknown() && journal.is_full());
    }

    #[test]
    fn texts_are_mapped_anew_for_another_server() {
        let mut journal = Journal::new("");
        prepare(&mut journal, 7, "SELECT 1 FROM a.t");
        let other: Arc<[u8]> = Arc::from(b"SELECT 1 FROM b.t".as_slice());
        journal.map_again(|_| Some(Arc::clone(&other)));
        let mapped = |journal: &Journal| journal.prepared(7).unwrap().prepared.mapped.clone();
        assert_eq!(mapped(&journal), Some(other));
        assert_eq!(journal.prepared_bytes, 34);
        journal.map_again(|prepared| Some(Arc::clone(&prepared.text)));
        assert_eq!(journal.prepared_bytes, 17);
    }

    #[test]
    fn the_statement_prepared_last_is_not_an_older_one_where_its_id_is_not_known() {
        let mut journal = Journal::new("");
        prepare(&mut journal, 7, "SELECT 1");
        assert_eq!(journal.resolve(u32::MAX), Some(7));
        journal.apply(&Entry::NotPrepared, 1024);
        assert_eq!(journal.resolve(u32::MAX), None);
        assert_eq!(journal.resolve(7), Some(7));
    }

    #[test]
    fn the_isolation_level_decides_whether_a_snapshot_is_kept() {
        for (assignment, keeps) in [
            ("transaction_isolation = 'READ-COMMITTED'", false),
            ("TRANSACTION ISOLATION LEVEL READ COMMITTED", false),
            ("tx_isolation = 'REPEATABLE-READ'", true),
        ] {
            let mut journal = Journal::new("");
            set(&mut journal, "transaction_isolation", assignment);
            assert_eq!(journal.keeps_snapshot(), keeps, "{assignment}");
        }
        assert!(Journal::new("").keeps_snapshot());
    }

    #[test]
    fn charsets_that_hide_ascii_bytes_are_known_by_name_and_by_collation() {
        let mut journal = Journal::new("");
        set(&mut journal, "names", "NAMES 'GBK'");
        assert!(journal.charset_is_unsafe());
        set(&mut journal, "names", "NAMES utf8mb4");
        assert!(!journal.charset_is_unsafe());
        assert!(unsafe_collation(95) && !unsafe_collation(45) && !unsafe_collation(255));
    }
}

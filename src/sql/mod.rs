//! What a statement is: its class, its tables, its fingerprint. Pure but for a bounded cache.
//!
//! Never on the relay's threads. Statements are read token by token, by a lexer of our own: a
//! parser takes fifty times as long, refuses what servers take (LOCK IN SHARE MODE, `SET @a := 1`),
//! and its tree loses what the client wrote. What is not known for certain is
//! [`Class::Unmirrored`].

mod analysis;
mod beginning;
mod body;
mod catalog;
mod classify;
mod databases;
mod ddl;
mod fingerprint;
mod functions;
mod lexer;
mod names;
mod order;
mod parameters;
pub mod pin;
mod redact;
mod sequence;
mod session;
mod skeleton;
mod statements;
mod table;
mod tables;
mod ties;
mod touched;
mod words;

pub use analysis::analyze;
pub use beginning::beginning;
pub use body::tables_of_body;
pub use catalog::{Catalog, Figures};
pub use databases::map_databases;
pub use parameters::{between_parameters, nests, quoted, with_parameters};
pub use redact::{literals, redact, redact_error};
pub use sequence::sequence_in;
pub use session::{dialect_after, names_of_variables, names_variable, reads_variables};
pub use table::{Table, TableSet};
pub use ties::{Tie, ties};
pub use touched::rows_touched;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::sync::Arc;

/// What kind of statement it is, for policy. Where a command holds several statements, the
/// strongest counts; the order here is the order of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Nothing but comments.
    Empty,
    /// SHOW, DESCRIBE, EXPLAIN, reads of information_schema: differences do not block readiness.
    Metadata,
    /// SELECT, VALUES, TABLE, WITH … SELECT without locks and without INTO.
    Read,
    /// SET of session or user variables, SET NAMES, USE.
    Session,
    /// BEGIN, START TRANSACTION, COMMIT, ROLLBACK, SAVEPOINT, RELEASE, SET TRANSACTION.
    Transaction,
    /// SELECT … FOR UPDATE, FOR SHARE, LOCK IN SHARE MODE, SELECT … INTO @variable; a SELECT or SET
    /// that calls a stored function, which may write.
    LockingRead,
    /// INSERT, UPDATE, DELETE, REPLACE.
    Write,
    /// CREATE, ALTER, DROP, RENAME, TRUNCATE TABLE; CREATE and DROP INDEX.
    Ddl,
    /// All else: never reaches the shadow.
    Unmirrored,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Empty,
        Self::Metadata,
        Self::Read,
        Self::Session,
        Self::Transaction,
        Self::LockingRead,
        Self::Write,
        Self::Ddl,
        Self::Unmirrored,
    ];

    /// The name in metrics, API and ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Metadata => "metadata",
            Self::Read => "read",
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::LockingRead => "locking_read",
            Self::Write => "write",
            Self::Ddl => "ddl",
            Self::Unmirrored => "unmirrored",
        }
    }
}

/// The tables that a statement touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tables {
    /// These and no others.
    Known(Vec<Table>),
    /// Perhaps any.
    Unknown,
}

/// One transaction-control statement, as far as a replay must know it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// BEGIN, START TRANSACTION; `snapshot` for WITH CONSISTENT SNAPSHOT.
    Begin {
        /// WITH CONSISTENT SNAPSHOT.
        snapshot: bool,
    },
    /// COMMIT.
    Commit,
    /// ROLLBACK of the whole transaction.
    Rollback,
    /// SAVEPOINT, RELEASE SAVEPOINT, ROLLBACK TO, SET TRANSACTION.
    Within,
}

/// What the session must remember of a SET or USE that the primary answered with OK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// USE, or COM_INIT_DB's equal.
    Database(String),
    /// `SET x = …`: the variable's name in lower case (`@x` for a user variable, `names` for SET
    /// NAMES and SET CHARACTER SET), and the one assignment's own text, ready to run after `SET `.
    Variable {
        /// Lower case; a user variable with its `@`.
        name: String,
        /// The text of this one assignment, as the client wrote it.
        assignment: String,
    },
    /// A variable was set to what cannot be told from the text; its name as above.
    Value(String),
    /// A change that cannot be told (PREPARE, an unparsed SET, `SELECT @a := …`).
    Unknown,
}

/// What differs by nature where a write has a LIMIT and no ORDER BY that leaves no rows equal: which
/// rows it takes.
pub const ANY_ROWS: &str = "any rows";

/// One statement of a command, analysed. The same for every statement of one fingerprint but for
/// `changes`, which hold literals: those are read for Session statements each time.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The shape with literals as `?`, lists folded, comments dropped.
    pub fingerprint: Arc<str>,
    /// xxh3-64 of the fingerprint; printed as 16 hexadecimal digits.
    pub digest: u64,
    /// What kind of statement it is.
    pub class: Class,
    /// Tables read and written.
    pub tables: Tables,
    /// Tables written (a subset of `tables`); empty for reads.
    pub written: Tables,
    /// For [`Class::Transaction`].
    pub control: Option<Control>,
    /// What a Session statement changes.
    pub changes: Vec<Change>,
    /// An ORDER BY at the outermost level.
    pub order_by: Option<OrderBy>,
    /// A LIMIT at the outermost level, or one inside whose effect shows outside.
    pub limit: bool,
    /// A LIMIT inside: of a subquery, a derived table, or one arm of a UNION. It chooses among rows
    /// before the outermost ORDER BY sorts them.
    pub limit_inside: bool,
    /// Functions whose value differs by nature (`UUID`, `RAND`, `CONNECTION_ID`, `@@server_id` …),
    /// in lower case. The clock is not one of them: see `clock`. Of a write [`ANY_ROWS`] too.
    pub nondeterministic: Vec<&'static str>,
    /// NOW(), CURRENT_TIMESTAMP, SYSDATE(), UNIX_TIMESTAMP() without argument and the like.
    pub clock: bool,
    /// LAST_INSERT_ID(expression): the session's last key is what it says, on every server.
    pub sets_last_insert_id: bool,
    /// It may leave something behind that only the session's own connection has, or let go of it:
    /// [`ties`] says what, from the text.
    pub ties: bool,
    /// It calls a function that the server did not bring along.
    pub stored: bool,
    /// An INSERT or REPLACE, whose OK may carry a generated key.
    pub insert: bool,
    /// Whether a database is named in the text (`db.table`, USE): must be mapped where names differ.
    pub qualified: bool,
}

/// The outermost ORDER BY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// The sort keys, each as far as it can be found in the answer.
    pub keys: Vec<SortKey>,
}

/// One sort key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The answer's column with this number, from 0.
    Column(u16),
    /// A column by name, which the answer's definitions may hold.
    Named(String),
    /// An expression that is not in the answer.
    Hidden,
}

/// A COM_QUERY's text (or a prepared statement's), analysed.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The statements, one at least.
    pub statements: Vec<Statement>,
    /// The strongest class among them.
    pub class: Class,
    /// The fingerprint of the whole text: the statements' joined by `; `.
    pub fingerprint: Arc<str>,
    /// xxh3-64 of the whole fingerprint.
    pub digest: u64,
}

impl Analysis {
    /// Whether it holds what was read from one text's literals; else all of it follows from the shape,
    /// and every text of that has the same one.
    #[must_use]
    pub fn has_literals(&self) -> bool {
        analysis::has_literal_changes(self)
    }
}

/// What of a session's `sql_mode` and charset changes how text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// ANSI_QUOTES: `"` quotes a name.
    pub ansi_quotes: bool,
    /// NO_BACKSLASH_ESCAPES: `\` is an ordinary character in a string.
    pub no_backslash_escapes: bool,
}

/// The dialect that a session's `sql_mode` asks for.
#[must_use]
pub fn dialect_of(sql_mode: &str) -> Dialect {
    // https://dev.mysql.com/doc/refman/5.6/en/sql-mode.html#sql-mode-combo
    let ansi = [
        "ANSI_QUOTES",
        "ANSI",
        "DB2",
        "MAXDB",
        "MSSQL",
        "ORACLE",
        "POSTGRESQL",
    ];
    let mut dialect = Dialect::default();
    for mode in sql_mode.split(',').map(str::trim) {
        dialect.ansi_quotes |= ansi.iter().any(|a| a.eq_ignore_ascii_case(mode));
        dialect.no_backslash_escapes |= mode.eq_ignore_ascii_case("NO_BACKSLASH_ESCAPES");
    }
    dialect
}

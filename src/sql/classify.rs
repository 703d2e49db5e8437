//! What kind of statement it is, by its first words and by what it holds.
//!
//! Careful in one direction: what is not on the list is [`Class::Unmirrored`], and so is what
//! would hold a lock, wait for replication, draw from a sequence or reach past the session.
//!
//! Choices that are not obvious:
//! - `SELECT … @a := …` leaves a variable behind: [`Class::Session`], its change unknown.
//! - `SELECT … INTO @a` is a [`Class::LockingRead`], its change unknown as well.
//! - `SELECT @@variable` without a table asks about the server: [`Class::Metadata`].
//! - A read or SET that calls a function which the server did not bring along is a
//!   [`Class::LockingRead`] that may have written any table: a stored function may do what it likes.
//!   An INSERT that calls one still writes its own table alone, as with a trigger.
//! - EXPLAIN is Metadata, but EXPLAIN ANALYZE of anything but a read runs it: Unmirrored.

use super::functions::{Calls, calls};
use super::lexer::Kind;
use super::session;
use super::statements::Statement;
use super::tables::{Scan, known, scan, table_name};
use super::{Change, Class, Control, Tables, ddl};

/// A statement's class and what goes with it.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) class: Class,
    pub(crate) control: Option<Control>,
    pub(crate) tables: Tables,
    pub(crate) written: Tables,
    pub(crate) changes: Vec<Change>,
    /// A SET: its changes hold literals, and are read from each text.
    pub(crate) sets: bool,
    pub(crate) databases: Vec<usize>,
    pub(crate) calls: Calls,
}

impl Reading {
    fn new(class: Class) -> Self {
        Self {
            class,
            control: None,
            tables: Tables::Known(Vec::new()),
            written: Tables::Known(Vec::new()),
            changes: Vec::new(),
            sets: false,
            databases: Vec::new(),
            calls: Calls::default(),
        }
    }

    /// Never replayed; what it wrote and what it changed cannot be told.
    fn opaque() -> Self {
        Self {
            tables: Tables::Unknown,
            written: Tables::Unknown,
            changes: vec![Change::Unknown],
            ..Self::new(Class::Unmirrored)
        }
    }

    fn control(control: Control) -> Self {
        Self {
            control: Some(control),
            ..Self::new(Class::Transaction)
        }
    }

    fn scanned(class: Class, scan: Scan, statement: Statement<'_>) -> Self {
        let calls = calls(statement, &scan.named);
        Self::calling(class, scan, calls)
    }

    fn calling(class: Class, scan: Scan, calls: Calls) -> Self {
        let tables = if calls.unknown {
            Tables::Unknown
        } else {
            scan.tables()
        };
        let changes = if calls.assigns {
            vec![Change::Unknown]
        } else {
            Vec::new()
        };
        Self {
            tables,
            written: scan.written(),
            changes,
            databases: scan.databases,
            calls,
            ..Self::new(class)
        }
    }

    fn unmirrored_if(mut self, unmirrored: bool) -> Self {
        if unmirrored {
            self.class = Class::Unmirrored;
        }
        self
    }

    fn changed(mut self) -> Self {
        self.changes = vec![Change::Unknown];
        self
    }

    /// Nobody knows what a function that the server did not bring along writes.
    fn runs_functions(&mut self) {
        if self.calls.unknown {
            self.class = Class::LockingRead;
            self.written = Tables::Unknown;
        }
    }
}

/// Reads one statement.
pub(crate) fn read(statement: Statement<'_>) -> Reading {
    if statement.len() == 0 {
        return Reading::new(Class::Empty);
    }
    if statement.tokens.iter().any(|t| t.kind == Kind::Broken) {
        return Reading::opaque();
    }
    let first = (0..statement.len())
        .find(|at| !statement.op(*at, b"("))
        .unwrap_or(0);
    let word = statement.bytes(first).to_ascii_uppercase();
    if statement.kind(first) != Some(Kind::Word) {
        return Reading::opaque();
    }
    match word.as_slice() {
        b"SELECT" | b"TABLE" | b"VALUES" => query(statement),
        b"WITH" => with(statement, first),
        _ if first > 0 => Reading::opaque(),
        b"INSERT" | b"REPLACE" | b"UPDATE" | b"DELETE" => write(statement),
        b"BEGIN" | b"START" | b"COMMIT" | b"ROLLBACK" | b"SAVEPOINT" | b"RELEASE" => {
            transaction(statement)
        }
        b"SET" => set(statement),
        b"USE" => use_database(statement),
        b"SHOW" => show(statement),
        b"EXPLAIN" | b"DESCRIBE" | b"DESC" => explain(statement),
        b"ANALYZE" if !statement.is(1, "TABLE") && explained(statement).is_some() => {
            explain(statement)
        }
        b"CREATE" | b"ALTER" | b"DROP" | b"RENAME" | b"TRUNCATE" => definition(statement),
        _ => unmirrored(statement),
    }
}

/// SELECT, VALUES, TABLE, with or without parentheses.
fn query(statement: Statement<'_>) -> Reading {
    let mut reading = Reading::scanned(Class::Read, scan(statement), statement);
    let system = reads_system_tables(&reading.tables);
    let bare = matches!(&reading.tables, Tables::Known(tables) if tables.is_empty())
        && reading.calls.system_variable;
    if system || bare {
        reading.class = Class::Metadata;
    }
    if reading.calls.assigns {
        reading.class = Class::Session;
    }
    if is_locking(statement) {
        reading.class = Class::LockingRead;
    }
    reading.runs_functions();
    if let Some(into) = (0..statement.len())
        .find(|at| statement.is(*at, "INTO") && !statement.op(at.wrapping_sub(1), b"."))
    {
        reading.class = Class::LockingRead;
        reading.changes = vec![Change::Unknown];
        if !matches!(statement.kind(into + 1), Some(Kind::UserVariable))
            && !statement.op(into + 1, b"@")
        {
            reading.class = Class::Unmirrored;
            reading.changes.clear();
        }
    }
    if reading.calls.never_twice {
        reading.class = Class::Unmirrored;
        reading.changes = vec![Change::Unknown];
    }
    reading
}

fn is_locking(statement: Statement<'_>) -> bool {
    (0..statement.len()).any(|at| {
        statement.are(at, &["FOR", "UPDATE"])
            || statement.are(at, &["FOR", "SHARE"])
            || statement.are(at, &["LOCK", "IN"])
    })
}

fn reads_system_tables(tables: &Tables) -> bool {
    const SYSTEM: &[&str] = &["information_schema", "performance_schema", "mysql", "sys"];
    let Tables::Known(tables) = tables else {
        return false;
    };
    tables.iter().any(|t| {
        t.database
            .as_ref()
            .is_some_and(|d| SYSTEM.iter().any(|s| s.eq_ignore_ascii_case(d)))
    })
}

/// WITH before a query or a write.
fn with(statement: Statement<'_>, first: usize) -> Reading {
    let verbs = [
        "SELECT", "TABLE", "VALUES", "UPDATE", "DELETE", "INSERT", "REPLACE",
    ];
    let verb = statement.find(first, |at| statement.is_any(at, &verbs));
    match verb {
        Some(at) if statement.is_any(at, &["UPDATE", "DELETE", "INSERT", "REPLACE"]) => {
            write(statement)
        }
        Some(_) => query(statement),
        None if statement.is(first, "WITH")
            && (0..statement.len()).any(|at| statement.is(at, "SELECT")) =>
        {
            query(statement)
        }
        None => Reading::opaque(),
    }
}

fn write(statement: Statement<'_>) -> Reading {
    let mut reading = Reading::scanned(Class::Write, scan(statement), statement);
    if reading.written == Tables::Known(Vec::new()) {
        reading.tables = Tables::Unknown;
        reading.written = Tables::Unknown;
    }
    let never = reading.calls.never_twice;
    reading.unmirrored_if(never)
}

fn transaction(statement: Statement<'_>) -> Reading {
    let is = |at, words: &[&str]| statement.is_any(at, words);
    if is(0, &["BEGIN"]) && (statement.len() == 1 || (statement.len() == 2 && is(1, &["WORK"]))) {
        return Reading::control(Control::Begin { snapshot: false });
    }
    if statement.are(0, &["START", "TRANSACTION"]) {
        let snapshot = (2..statement.len()).any(|at| is(at, &["SNAPSHOT"]));
        return Reading::control(Control::Begin { snapshot });
    }
    if is(0, &["COMMIT"]) {
        return Reading::control(Control::Commit);
    }
    if is(0, &["ROLLBACK"]) {
        let within = statement.find(1, |at| is(at, &["TO"])).is_some();
        return Reading::control(if within {
            Control::Within
        } else {
            Control::Rollback
        });
    }
    if is(0, &["SAVEPOINT"]) || statement.are(0, &["RELEASE", "SAVEPOINT"]) {
        return Reading::control(Control::Within);
    }
    unmirrored(statement)
}

fn set(statement: Statement<'_>) -> Reading {
    let scan = scan(statement);
    let mut reading = Reading::scanned(Class::Session, scan, statement);
    reading.changes.clear();
    match session::kind(statement) {
        session::Kind::Session => reading.sets = true,
        session::Kind::Transaction => return Reading::control(Control::Within),
        session::Kind::Global => reading.class = Class::Unmirrored,
        session::Kind::Mixed | session::Kind::Other => {
            reading.class = Class::Unmirrored;
            reading.changes = vec![Change::Unknown];
        }
    }
    if reading.sets && reading.calls.unknown {
        reading.runs_functions();
        reading.sets = false;
        reading.changes = vec![Change::Unknown];
    }
    if reading.calls.never_twice {
        reading.class = Class::Unmirrored;
        reading.sets = false;
        reading.changes = vec![Change::Unknown];
    }
    reading
}

fn use_database(statement: Statement<'_>) -> Reading {
    let mut reading = Reading::new(Class::Session);
    if statement.len() != 2 || !statement.is_name(1) {
        return Reading::opaque();
    }
    reading.databases.push(1);
    reading
        .changes
        .push(Change::Database(super::names::plain(statement.bytes(1))));
    reading
}

/// SHOW. The tables are those whose definition it shows.
fn show(statement: Statement<'_>) -> Reading {
    let mut reading = Reading::new(Class::Metadata);
    let calls = calls(statement, &[]);
    if calls.unknown || calls.never_twice {
        return Reading::opaque();
    }
    let noun = (1..statement.len().min(4)).find(|at| {
        statement.is_any(
            *at,
            &[
                "COLUMNS", "FIELDS", "INDEX", "INDEXES", "KEYS", "CREATE", "TABLES", "TABLE",
                "OPEN", "TRIGGERS",
            ],
        )
    });
    let Some(noun) = noun else { return reading };
    if statement.is(noun, "CREATE") {
        if statement.is_any(noun + 1, &["DATABASE", "SCHEMA"]) {
            let last = statement.len() - 1;
            reading.databases.push(last);
        } else {
            shown(statement, noun + 2, &mut reading);
        }
        return reading;
    }
    let of_tables = statement.is_any(noun, &["TABLES", "TABLE", "OPEN", "TRIGGERS"]);
    let mut froms = (noun..statement.len()).filter(|at| statement.is_any(*at, &["FROM", "IN"]));
    if of_tables {
        reading.tables = Tables::Unknown;
    } else if let Some(from) = froms.next() {
        shown(statement, from + 1, &mut reading);
    }
    if let Some(from) = froms.next()
        && statement.is_name(from + 1)
    {
        reading.databases.push(from + 1);
    }
    reading
}

fn shown(statement: Statement<'_>, at: usize, reading: &mut Reading) {
    if let Some((table, _)) = table_name(statement, at) {
        if table.database.is_some() {
            reading.databases.push(at);
        }
        reading.tables = known(vec![table]);
    }
}

/// EXPLAIN, DESCRIBE, and MariaDB's ANALYZE of a statement.
fn explain(statement: Statement<'_>) -> Reading {
    if statement.is(1, "FOR")
        || (1..statement.len()).any(|at| statement.are(at, &["FOR", "CONNECTION"]))
    {
        return Reading::new(Class::Unmirrored);
    }
    let Some(verb) = explained(statement) else {
        let mut reading = Reading::new(Class::Metadata);
        shown(statement, 1, &mut reading);
        return reading;
    };
    let inner = read(statement.slice(verb, statement.len()));
    let analyse = (0..verb).any(|at| statement.is(at, "ANALYZE"));
    let reads = matches!(
        inner.class,
        Class::Read | Class::Metadata | Class::Session | Class::Empty
    );
    let into = (1..verb).any(|at| statement.is(at, "INTO"));
    let runs = analyse && !reads;
    let mirrored = !into && !runs && !inner.calls.never_twice && !inner.calls.unknown;
    let mut reading = Reading {
        tables: inner.tables,
        databases: inner.databases.iter().map(|at| at + verb).collect(),
        calls: inner.calls,
        ..Reading::new(Class::Metadata)
    };
    if runs {
        reading.written = inner.written;
    }
    if analyse || into {
        reading.changes = inner.changes;
    }
    if into || runs || reading.calls.never_twice {
        reading = reading.changed();
    }
    reading.unmirrored_if(!mirrored || statement.is(0, "ANALYZE"))
}

/// Where the statement begins that an EXPLAIN is about.
fn explained(statement: Statement<'_>) -> Option<usize> {
    let verbs = [
        "SELECT", "TABLE", "VALUES", "WITH", "UPDATE", "DELETE", "INSERT", "REPLACE",
    ];
    (1..statement.len()).find(|at| statement.is_any(*at, &verbs))
}

fn definition(statement: Statement<'_>) -> Reading {
    let Some(mut found) = ddl::ddl(statement) else {
        return unmirrored(statement);
    };
    let written = found.written();
    let calls = std::mem::take(&mut found.fills);
    let never = calls.never_twice;
    let mut reading = Reading::calling(Class::Ddl, found, calls);
    reading.written = if written == Tables::Known(Vec::new()) {
        Tables::Unknown
    } else {
        written
    };
    if ddl::is_temporary(statement) {
        reading = reading.changed();
    }
    let tablespace = (0..statement.len()).any(|at| {
        statement.is(at, "TABLESPACE")
            && statement.is_any(at.wrapping_sub(1), &["IMPORT", "DISCARD"])
    });
    if never {
        reading = reading.changed();
    }
    reading.unmirrored_if(tablespace || never)
}

/// Never replayed. What it wrote is told apart, because that is tainted.
fn unmirrored(statement: Statement<'_>) -> Reading {
    let mut reading = Reading::opaque();
    let nothing = [
        "GRANT",
        "REVOKE",
        "KILL",
        "FLUSH",
        "RESET",
        "PURGE",
        "CHANGE",
        "STOP",
        "START",
        "ANALYZE",
        "OPTIMIZE",
        "CHECK",
        "CHECKSUM",
        "REPAIR",
        "CACHE",
        "INSTALL",
        "UNINSTALL",
        "SHUTDOWN",
        "RESTART",
        "BINLOG",
        "HELP",
        "CLONE",
        "SIGNAL",
        "RESIGNAL",
        "GET",
        "BACKUP",
    ];
    if statement.is_any(0, &nothing) {
        reading.tables = Tables::Known(Vec::new());
        reading.written = Tables::Known(Vec::new());
        reading.changes.clear();
        if statement.is(0, "FLUSH")
            && (1..statement.len()).any(|at| statement.is(at, "LOCK") || statement.is(at, "EXPORT"))
        {
            reading = reading.changed();
        }
    } else if statement.is_any(0, &["LOCK", "UNLOCK", "HANDLER", "PREPARE", "DEALLOCATE"]) {
        reading.written = Tables::Known(Vec::new());
    } else if statement.is(0, "DO") {
        reading = Reading::scanned(Class::Unmirrored, scan(statement), statement);
        if reading.calls.unknown || reading.calls.never_twice || reading.calls.assigns {
            reading = reading.changed();
        }
        if reading.calls.unknown {
            reading.written = Tables::Unknown;
        }
    } else if statement.is(0, "XA") {
        reading.changes.clear();
    } else if statement.is(0, "LOAD") {
        load(statement, &mut reading);
    } else if statement.is_any(0, &["CREATE", "ALTER", "DROP", "RENAME"]) {
        object(statement, &mut reading);
    }
    reading
}

/// `LOAD DATA … INTO TABLE t`.
fn load(statement: Statement<'_>, reading: &mut Reading) {
    let into = (0..statement.len()).find(|at| statement.are(*at, &["INTO", "TABLE"]));
    if let Some((table, _)) = into.and_then(|at| table_name(statement, at + 2)) {
        reading.written = known(vec![table]);
        reading.tables = reading.written.clone();
        let session = statement
            .tokens
            .iter()
            .any(|t| t.kind == Kind::UserVariable);
        reading.changes = if session {
            vec![Change::Unknown]
        } else {
            Vec::new()
        };
    } else if statement.are(0, &["LOAD", "INDEX"]) {
        reading.written = Tables::Known(Vec::new());
        reading.changes.clear();
    }
}

/// CREATE, ALTER, DROP of what is no table: a view or a trigger changes what its table is.
fn object(statement: Statement<'_>, reading: &mut Reading) {
    let body = (1..statement.len()).find(|at| {
        statement.is_any(
            *at,
            &[
                "VIEW",
                "TRIGGER",
                "PROCEDURE",
                "FUNCTION",
                "EVENT",
                "DATABASE",
                "SCHEMA",
                "USER",
                "ROLE",
                "SERVER",
                "TABLESPACE",
                "SEQUENCE",
            ],
        )
    });
    let Some(noun) = body else { return };
    reading.changes.clear();
    if statement.is(noun, "VIEW") {
        let name = (noun + 1..noun + 4).find(|at| statement.is_name(*at));
        reading.written = name
            .and_then(|at| table_name(statement, at))
            .map_or(Tables::Unknown, |(table, _)| known(vec![table]));
    } else if statement.is(noun, "TRIGGER") {
        let on = statement.find(noun, |at| statement.is(at, "ON"));
        reading.written = on
            .and_then(|at| table_name(statement, at + 1))
            .map_or(Tables::Unknown, |(table, _)| known(vec![table]));
    } else if !(statement.is_any(noun, &["DATABASE", "SCHEMA"]) && statement.is(0, "DROP")) {
        reading.written = Tables::Known(Vec::new());
    }
}

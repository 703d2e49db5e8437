//! One question to SQLite: opened, guarded, asked within bounds, closed. Nothing outlives it.
//!
//! It reads with a snapshot of the write-ahead log and never holds the ledger's writer; a snapshot
//! holds back a checkpoint, for as long as a query may take. Everything here blocks: it runs on the
//! admin's threads for that.

use super::functions::TOO_BIG;
use super::guard::{self, Refused, STATEMENT_BYTES_MAX, Why};
use crate::ledger::{Ledger, VIEWS};
use parking_lot::Mutex;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode, Statement};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// An answer's cells at most, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// So much may the process grow while a query runs, in bytes: what it sorts stays in memory.
const GROWTH_BYTES_MAX: u64 = 128 << 20;

/// Steps of SQLite's machine between two looks at the bounds.
const STEPS: i32 = 256;

/// Bounds that the config sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Rows of an answer at most.
    pub(super) rows: usize,
    /// A query's time at most.
    pub(super) time: Duration,
}

/// A whole answer, in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rows {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Value>>,
}

/// What a statement takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) parameters: u16,
    pub(super) columns: Vec<String>,
}

/// Why there is no answer: an error of MySQL's, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: u16,
    pub(super) sqlstate: [u8; 5],
    pub(super) text: String,
    /// One of the bounds cut the query off.
    pub(super) cut: bool,
}

impl Fault {
    pub(super) fn new(code: u16, sqlstate: &[u8; 5], text: impl Into<String>) -> Self {
        Self {
            code,
            sqlstate: *sqlstate,
            text: text.into(),
            cut: false,
        }
    }

    fn cut(code: u16, sqlstate: &[u8; 5], text: impl Into<String>) -> Self {
        Self {
            cut: true,
            ..Self::new(code, sqlstate, text)
        }
    }

    pub(super) fn no_such_thread(number: &str) -> Self {
        let text = format!("Unknown thread id: {number}: no query of that connection runs here");
        Self::new(1094, b"HY000", text)
    }

    pub(super) fn interrupted() -> Self {
        Self::cut(1317, b"70100", "Query execution was interrupted")
    }

    pub(super) fn no_turn(time: Duration) -> Self {
        let text = format!(
            "other queries had not ended after {} ms (admin.console_timeout_ms): ask again",
            time.as_millis()
        );
        Self::cut(3024, b"HY000", text)
    }

    pub(super) fn too_long() -> Self {
        let text = format!("a statement has at most {STATEMENT_BYTES_MAX} bytes here");
        Self::cut(1153, b"08S01", text)
    }

    pub(super) fn refused(why: Why) -> Self {
        let names: Vec<&str> = VIEWS.iter().map(|view| view.name).collect();
        match why {
            Why::NotARead => Self::new(
                1290,
                b"HY000",
                "the console is read-only: it answers SELECT, WITH, VALUES, SHOW TABLES, DESCRIBE and EXPLAIN",
            ),
            Why::Table(table) => Self::new(
                1142,
                b"42000",
                format!(
                    "SELECT command denied for table '{table}': the console is read-only and shows {}",
                    names.join(", ")
                ),
            ),
            Why::Function(function) => Self::new(
                1305,
                b"42000",
                format!(
                    "FUNCTION {function} is not one of the console's: the dialect is SQLite's, and only functions that compute are allowed"
                ),
            ),
        }
    }
}

/// Asks, and gathers the whole answer. `gone` ends it early.
pub(super) fn ask(
    ledger: &Ledger,
    bounds: Bounds,
    gone: &Arc<AtomicBool>,
    text: &str,
    parameters: &[Value],
) -> Result<Rows, Fault> {
    let question = Question::open(ledger, bounds, gone, text)?;
    let mut statement = question.prepare(text)?;
    let columns = names(&statement);
    bind(&mut statement, parameters)?;
    let rows = gather(&mut statement, columns.len(), bounds.rows)
        .map_err(|trouble| trouble.told(&question))?;
    Ok(Rows { columns, rows })
}

/// What a statement takes and gives, without running it.
pub(super) fn describe(
    ledger: &Ledger,
    bounds: Bounds,
    gone: &Arc<AtomicBool>,
    text: &str,
) -> Result<Described, Fault> {
    let question = Question::open(ledger, bounds, gone, text)?;
    let statement = question.prepare(text)?;
    Ok(Described {
        parameters: u16::try_from(statement.parameter_count()).unwrap_or(u16::MAX),
        columns: names(&statement),
    })
}

/// A connection for one question.
struct Question {
    connection: Connection,
    refused: Refused,
    cut: Arc<Mutex<Option<Fault>>>,
}

impl Question {
    fn open(
        ledger: &Ledger,
        bounds: Bounds,
        gone: &Arc<AtomicBool>,
        text: &str,
    ) -> Result<Self, Fault> {
        let unreadable = |fault: String| {
            let text = format!("the ledger cannot be read: {fault}");
            Fault::new(1105, b"HY000", text)
        };
        let lower = text.to_ascii_lowercase();
        let mut connection = ledger
            .views(|name| lower.contains(name))
            .map_err(unreadable)?;
        let cut = Arc::default();
        let mut watch = Watch::new(bounds, Arc::clone(gone), Arc::clone(&cut));
        let walls = guard::put_around(&mut connection).and_then(|refused| {
            connection.progress_handler(STEPS, Some(move || watch.is_over()))?;
            Ok(refused)
        });
        let refused = walls.map_err(|fault| unreadable(fault.to_string()))?;
        Ok(Self {
            connection,
            refused,
            cut,
        })
    }

    /// A statement that reads and answers with rows; nothing else is ever stepped.
    fn prepare(&self, text: &str) -> Result<Statement<'_>, Fault> {
        let statement = self
            .connection
            .prepare(text)
            .map_err(|error| self.fault(&error))?;
        if !statement.readonly() || statement.column_count() == 0 {
            return Err(Fault::refused(Why::NotARead));
        }
        Ok(statement)
    }

    fn fault(&self, error: &rusqlite::Error) -> Fault {
        if let Some(why) = self.refused.take() {
            return Fault::refused(why);
        }
        if let Some(cut) = self.cut.lock().take() {
            return cut;
        }
        of_sqlite(error)
    }
}

/// What went wrong while rows were gathered.
enum Trouble {
    Sqlite(rusqlite::Error),
    Bound(Fault),
}

impl Trouble {
    fn told(self, question: &Question) -> Fault {
        match self {
            Self::Sqlite(error) => question.fault(&error),
            Self::Bound(fault) => fault,
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn names(statement: &Statement<'_>) -> Vec<String> {
    let names = statement.column_names();
    names.map(str::to_owned).collect()
}

fn bind(statement: &mut Statement<'_>, parameters: &[Value]) -> Result<(), Fault> {
    if statement.parameter_count() != parameters.len() {
        let text = format!(
            "the statement has {} parameters, and {} were given",
            statement.parameter_count(),
            parameters.len()
        );
        return Err(Fault::new(1210, b"HY000", text));
    }
    for (at, value) in parameters.iter().enumerate() {
        statement
            .raw_bind_parameter(at + 1, value)
            .map_err(|error| of_sqlite(&error))?;
    }
    Ok(())
}

fn gather(
    statement: &mut Statement<'_>,
    columns: usize,
    most: usize,
) -> Result<Vec<Vec<Value>>, Trouble> {
    let mut rows = statement.raw_query();
    let mut gathered = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if gathered.len() >= most {
            let text = format!(
                "the answer has more than {most} rows (admin.console_rows): add a LIMIT, or count and group"
            );
            return Err(Trouble::Bound(Fault::cut(1104, b"42000", text)));
        }
        let mut cells = Vec::with_capacity(columns);
        for at in 0..columns {
            let value = row.get_ref(at)?;
            // Before it is copied: a row alone may be larger than an answer.
            bytes += size(value);
            if bytes > ANSWER_BYTES_MAX {
                let text = format!(
                    "the answer is larger than {ANSWER_BYTES_MAX} bytes: name the columns that you need, or add a LIMIT"
                );
                return Err(Trouble::Bound(Fault::cut(1104, b"42000", text)));
            }
            cells.push(cell(value));
        }
        gathered.push(cells);
    }
    Ok(gathered)
}

fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Integer(n),
        ValueRef::Real(n) => Value::Real(n),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

fn size(value: ValueRef<'_>) -> usize {
    let own = size_of::<Value>();
    match value {
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => own,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => own + bytes.len(),
    }
}

/// An error of SQLite's as one of MySQL's.
fn of_sqlite(error: &rusqlite::Error) -> Fault {
    let (code, text) = match error {
        rusqlite::Error::SqliteFailure(failure, text) => (
            Some(failure.code),
            text.clone().unwrap_or_else(|| failure.to_string()),
        ),
        rusqlite::Error::SqlInputError { error, msg, .. } => (Some(error.code), msg.clone()),
        rusqlite::Error::MultipleStatement => {
            let text = "one statement at a time: something stands behind the first one's end";
            return Fault::new(1064, b"42000", text);
        }
        other => return Fault::new(1105, b"HY000", other.to_string()),
    };
    if text.starts_with("cannot modify") {
        return Fault::refused(Why::NotARead);
    }
    let beginnings: [(&str, u16, &[u8; 5]); 4] = [
        ("no such table", 1146, b"42S02"),
        ("no such column", 1054, b"42S22"),
        ("ambiguous column", 1052, b"23000"),
        ("no such function", 1305, b"42000"),
    ];
    for (beginning, code, sqlstate) in beginnings {
        if text.starts_with(beginning) {
            return Fault::new(code, sqlstate, text);
        }
    }
    match code {
        _ if text == TOO_BIG => Fault::cut(1301, b"HY000", text),
        Some(ErrorCode::TooBig) => Fault::cut(1301, b"HY000", text),
        Some(ErrorCode::OutOfMemory) => Fault::cut(1037, b"HY001", text),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Fault::new(1205, b"HY000", text)
        }
        Some(ErrorCode::Unknown) => Fault::new(1064, b"42000", text),
        _ => Fault::new(1105, b"HY000", text),
    }
}

/// Looks at a query's bounds while it runs.
struct Watch {
    time: Duration,
    end: Instant,
    memory: Option<Memory>,
    gone: Arc<AtomicBool>,
    cut: Arc<Mutex<Option<Fault>>>,
}

impl Watch {
    fn new(bounds: Bounds, gone: Arc<AtomicBool>, cut: Arc<Mutex<Option<Fault>>>) -> Self {
        Self {
            time: bounds.time,
            end: Instant::now() + bounds.time,
            memory: Memory::open(),
            gone,
            cut,
        }
    }

    fn is_over(&mut self) -> bool {
        let fault = if self.gone.load(Ordering::Relaxed) {
            Fault::interrupted()
        } else if Instant::now() >= self.end {
            let text = format!(
                "Query execution was interrupted, maximum statement execution time exceeded: {} ms (admin.console_timeout_ms)",
                self.time.as_millis()
            );
            Fault::cut(3024, b"HY000", text)
        } else if self.memory.as_ref().is_some_and(Memory::has_grown) {
            let text = format!(
                "Out of memory: the query took more than about {} MiB for what it sorts and groups",
                GROWTH_BYTES_MAX >> 20
            );
            Fault::cut(1038, b"HY001", text)
        } else {
            return false;
        };
        self.cut.lock().get_or_insert(fault);
        true
    }
}

/// The process's resident memory. SQLite's own limits of memory would hold for the ledger's writer
/// too, and this one needs none; what else grows at the same time counts against the query.
struct Memory {
    file: File,
    page: u64,
    before: u64,
}

impl Memory {
    fn open() -> Option<Self> {
        let mut memory = Self {
            file: File::open("/proc/self/statm").ok()?,
            page: rustix::param::page_size() as u64,
            before: 0,
        };
        memory.before = memory.resident()?;
        Some(memory)
    }

    /// In bytes.
    fn resident(&self) -> Option<u64> {
        let mut line = [0; 128];
        let read = self.file.read_at(&mut line, 0).ok()?;
        let line = std::str::from_utf8(line.get(..read)?).ok()?;
        let pages: u64 = line.split(' ').nth(1)?.parse().ok()?;
        Some(pages.saturating_mul(self.page))
    }

    fn has_grown(&self) -> bool {
        self.resident()
            .is_some_and(|now| now > self.before.saturating_add(GROWTH_BYTES_MAX))
    }
}

//! What the record says at the start: who is primary, and what became of a cutover that an earlier
//! process left in its midst.

use super::super::file::open_reader;
use super::{PRIMARY, end};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction};
use std::path::Path;

/// Who is primary, as far as the ledger tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// This server, by its name.
    Is(String),
    /// There was no cutover yet, or no ledger: the config says it.
    Nothing,
    /// The file is there and cannot be read, and why.
    Unreadable(String),
}

/// Reads who is primary. A file that another process writes, or whose disk is full, can be read.
#[must_use]
pub fn recorded(ledger: &Path) -> Recorded {
    match ledger.metadata() {
        Ok(file) if file.len() == 0 && !has_log(ledger) => return Recorded::Nothing,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return Recorded::Nothing,
        Ok(_) => {}
        Err(fault) => return Recorded::Unreadable(fault.to_string()),
    }
    let read = open_reader(ledger).and_then(|connection| ask(&connection));
    match read.or_else(|fault| alone(ledger).map_err(|_| fault)) {
        Ok(Some(name)) => Recorded::Is(name),
        Ok(None) => Recorded::Nothing,
        Err(fault) => Recorded::Unreadable(fault.to_string()),
    }
}

/// What was not yet taken over into the file stands beside it.
fn has_log(ledger: &Path) -> bool {
    let mut log = ledger.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).metadata().is_ok_and(|log| log.len() > 0)
}

fn ask(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let has = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'";
    let has = connection.query_row(has, (), |_| Ok(())).optional()?;
    if has.is_none() {
        return Ok(None);
    }
    let ask = "SELECT value FROM meta WHERE key = ?1";
    connection
        .query_row(ask, [PRIMARY], |row| row.get(0))
        .optional()
}

/// A full disk has no room for the memory that readers share; who has the file alone needs none.
fn alone(ledger: &Path) -> rusqlite::Result<Option<String>> {
    let connection = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
    ask(&connection)
}

/// See [`super::Records::take_over`]: the cutover that soaks on.
pub(super) fn take_over(transaction: &Transaction<'_>) -> rusqlite::Result<Option<i64>> {
    let ask = "SELECT id, from_server, to_server, state, switched IS NOT NULL FROM cutovers
               WHERE ended IS NULL ORDER BY id";
    let mut statement = transaction.prepare(ask)?;
    let rows = statement.query_map((), |row| {
        Ok(Left {
            id: row.get(0)?,
            from: row.get(1)?,
            to: row.get(2)?,
            state: row.get(3)?,
            switched: row.get(4)?,
        })
    })?;
    let left = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut soaks = None;
    for one in left {
        if one.switched {
            // Of two that were switched, the older one's soak ended when the newer one began.
            if let Some(older) = soaks.replace(one.id) {
                end(transaction, older, "done", "another cutover followed")?;
            }
            one.cut(transaction, &format!("understudy ended in this step; the switch was recorded before, so {} is primary", one.to))?;
            let update = "UPDATE cutovers SET state = 'soaking' WHERE id = ?1";
            transaction.execute(update, [one.id])?;
        } else {
            let why = format!(
                "understudy ended while it was {}, before the switch was recorded, so {} is primary as before",
                one.state.replace('_', " "),
                one.from
            );
            one.cut(transaction, &why)?;
            end(transaction, one.id, "aborted", &why)?;
        }
    }
    Ok(soaks)
}

/// A cutover without an end.
struct Left {
    id: i64,
    from: String,
    to: String,
    state: String,
    switched: bool,
}

impl Left {
    /// Ends the steps that did not end. How long they took nobody knows.
    fn cut(&self, transaction: &Transaction<'_>, why: &str) -> rusqlite::Result<()> {
        transaction.execute(
            "UPDATE cutover_steps SET outcome = 'cut', why = ?2 WHERE cutover_id = ?1 AND outcome IS NULL",
            rusqlite::params![self.id, why],
        )?;
        Ok(())
    }
}

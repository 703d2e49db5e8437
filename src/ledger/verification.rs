//! The verifications' records: the runs, each table of each, the rows that differ, and how far each table's
//! walk has come, so that a run goes on after a crash.
//!
//! As the cutovers' records: written at once, by whoever calls, on a connection of its own. Every function
//! blocks on the disk. What the run itself means by its words (outcomes, cursors, wishes) it says as text.

mod asked;
mod kept;
mod repairs;
mod touched;

pub use kept::{
    AtRest, Listed, RunBegun, RunRecord, TableEnd, TableLeft, VerificationError, Verified,
};
pub use repairs::{Repair, RepairBegun};
pub use touched::Touched;

use super::file::File;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs that are remembered; older ones go when one begins.
const RUNS_MAX: i64 = 50;

/// Rows that differ, remembered of each table of a run.
const ROWS_MAX: i64 = 1_000;

/// How long a write waits for the ledger's writer.
const BUSY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Verifications {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl Verifications {
    /// The records in the ledger's file at this path, which is opened at the first write. For the process that
    /// has the ledger alone.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            connection: Mutex::new(None),
        }
    }

    /// Begins a run; its number. One that was left before is closed.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn begin(&self, begun: &RunBegun) -> Result<i64, VerificationError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE verifications SET ended = ?1, outcome = 'aborted', why = 'another one began', condition = NULL
                 WHERE ended IS NULL",
                [now()],
            )?;
            transaction.execute(
                "INSERT INTO verifications (primary_server, shadow_server, who, wish, started, servers, alone, condition)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    begun.primary,
                    begun.shadow,
                    begun.who,
                    begun.wish,
                    now(),
                    begun.servers,
                    begun.alone,
                    begun.condition
                ],
            )?;
            let id = transaction.last_insert_rowid();
            forget(transaction)?;
            Ok(id)
        })
    }

    /// The primary's tables, which of them the run is asked for, and about how many rows they have.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn tables(&self, run: i64, tables: &[Listed]) -> Result<(), VerificationError> {
        self.write(|transaction| {
            let mut insert = transaction.prepare(
                "INSERT OR IGNORE INTO verification_tables (verification_id, database, name, asked, rows_about)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for table in tables {
                let about = table.rows_about.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
                insert.execute(params![run, table.database, table.name, table.asked, about])?;
            }
            Ok(())
        })
    }

    /// Closes what a process without an understudy left in its midst.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn end_alone(&self) -> Result<(), VerificationError> {
        let open = "SELECT 1 FROM verifications WHERE ended IS NULL AND alone LIMIT 1";
        let open = self.read(|connection| connection.query_row(open, (), |_| Ok(())).optional())?;
        if open.flatten().is_none() {
            return Ok(());
        }
        self.write(|transaction| {
            transaction.execute(
                "UPDATE verifications SET ended = ?1, outcome = 'aborted', why = 'its process ended in its midst', condition = NULL
                 WHERE ended IS NULL AND alone",
                [now()],
            )?;
            transaction.execute(
                "UPDATE verification_tables SET cursor = NULL WHERE verification_id IN (SELECT id FROM verifications WHERE alone)",
                (),
            )?;
            Ok(())
        })
    }

    /// Which servers these are, by what they say themselves, and what of the primary the run cannot see. Tables that
    /// were mirrored and that neither has (`gone`) are no tables any more. Whether they are those with which it began:
    /// else nothing of it was read.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn sees(
        &self,
        run: i64,
        identities: &str,
        unseen: &[String],
        gone: &[(String, String)],
    ) -> Result<bool, VerificationError> {
        let unseen = serde_json::to_string(unseen).unwrap_or_else(|_| "[\"?\"]".to_owned());
        self.write(|transaction| {
            let known: Option<String> = transaction.query_row(
                "SELECT identities FROM verifications WHERE id = ?1",
                [run],
                |row| row.get(0),
            )?;
            let same = known.is_none_or(|known| known == identities);
            transaction.execute(
                "UPDATE verifications SET identities = ?2, unseen = ?3 WHERE id = ?1",
                params![run, identities, unseen],
            )?;
            let mut insert = transaction.prepare(
                "INSERT OR IGNORE INTO verification_tables (verification_id, database, name, asked, outcome)
                 VALUES (?1, ?2, ?3, 0, 'gone')",
            )?;
            for (database, name) in gone {
                insert.execute(params![run, database, name])?;
            }
            if !same {
                transaction.execute(
                    "UPDATE verification_tables SET outcome = NULL, ended = NULL, started = NULL, cursor = NULL
                     WHERE verification_id = ?1 AND asked",
                    [run],
                )?;
            }
            Ok(same)
        })
    }

    /// A table's walk begins.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn table_begins(
        &self,
        run: i64,
        (database, name): (&str, &str),
    ) -> Result<(), VerificationError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE verification_tables SET started = coalesce(started, ?4)
                 WHERE verification_id = ?1 AND database = ?2 AND name = ?3",
                params![run, database, name, now()],
            )?;
            Ok(())
        })
    }

    /// Its walk begins anew: nothing of it was read.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn table_anew(
        &self,
        run: i64,
        (database, name): (&str, &str),
    ) -> Result<(), VerificationError> {
        self.write(|transaction| {
            for forget in [
                "UPDATE verification_tables SET cursor = NULL WHERE verification_id = ?1 AND database = ?2 AND name = ?3",
                "DELETE FROM verification_rows WHERE verification_id = ?1 AND database = ?2 AND name = ?3",
            ] {
                transaction.execute(forget, params![run, database, name])?;
            }
            Ok(())
        })
    }

    /// How far it has come.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn keep_cursor(
        &self,
        run: i64,
        (database, name): (&str, &str),
        cursor: &str,
    ) -> Result<(), VerificationError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE verification_tables SET cursor = ?4
                 WHERE verification_id = ?1 AND database = ?2 AND name = ?3",
                params![run, database, name, cursor],
            )?;
            Ok(())
        })
    }

    /// Rows that differ.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn found(
        &self,
        run: i64,
        (database, name): (&str, &str),
        items: &[String],
    ) -> Result<(), VerificationError> {
        self.write(|transaction| {
            let known: i64 = transaction.query_row(
                "SELECT count(*) FROM verification_rows WHERE verification_id = ?1 AND database = ?2 AND name = ?3",
                params![run, database, name],
                |row| row.get(0),
            )?;
            let room = usize::try_from(ROWS_MAX - known).unwrap_or(0);
            let mut insert = transaction.prepare(
                "INSERT INTO verification_rows (verification_id, database, name, item) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for item in items.iter().take(room) {
                insert.execute(params![run, database, name, item])?;
            }
            Ok(())
        })
    }

    /// It ended. The key at which it stood is kept no longer.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn table_ends(
        &self,
        run: i64,
        (database, name): (&str, &str),
        end: &TableEnd<'_>,
    ) -> Result<(), VerificationError> {
        let rows = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        self.write(|transaction| {
            transaction.execute(
                "UPDATE verification_tables SET ended = ?4, outcome = ?5, rows_primary = ?6, rows_shadow = ?7,
                 standing = ?8, cursor = NULL WHERE verification_id = ?1 AND database = ?2 AND name = ?3",
                params![
                    run,
                    database,
                    name,
                    now(),
                    end.outcome,
                    rows(end.rows.0),
                    rows(end.rows.1),
                    end.standing
                ],
            )?;
            transaction.execute("UPDATE verifications SET resumed = 0 WHERE id = ?1", [run])?;
            Ok(())
        })
    }

    /// An operator has it wait, or lets it go on: the next process heeds that.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn pause(&self, run: i64, paused: bool) -> Result<(), VerificationError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE verifications SET paused = ?2 WHERE id = ?1",
                params![run, paused],
            )?;
            Ok(())
        })
    }

    /// Another process goes on with it; how many have since a table of it ended last.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn resumes(&self, run: i64) -> Result<u32, VerificationError> {
        self.write(|transaction| {
            transaction.query_row(
                "UPDATE verifications SET resumed = resumed + 1 WHERE id = ?1 RETURNING resumed",
                [run],
                |row| row.get(0),
            )
        })
    }

    /// The run's instants so far, and what sessions were held for them.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn instants(
        &self,
        run: i64,
        instants: &serde_json::Value,
    ) -> Result<(), VerificationError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE verifications SET instants = ?2 WHERE id = ?1",
                params![run, instants.to_string()],
            )?;
            Ok(())
        })
    }

    /// The run ended.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn end(&self, run: i64, outcome: &str, why: Option<&str>) -> Result<(), VerificationError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE verifications SET ended = ?2, outcome = ?3, why = ?4, condition = NULL
                 WHERE id = ?1 AND ended IS NULL",
                params![run, now(), outcome, why],
            )?;
            transaction.execute(
                "UPDATE verification_tables SET cursor = NULL WHERE verification_id = ?1",
                [run],
            )?;
            Ok(())
        })
    }

    /// Tables that the mirror wrote, as a test says.
    #[cfg(test)]
    pub(crate) fn mirror_for_tests(
        &self,
        tables: &[(&str, &str)],
    ) -> Result<(), VerificationError> {
        self.write(|transaction| {
            for (database, name) in tables {
                transaction.execute(
                    "INSERT INTO mirrored_tables (database, name) VALUES (?1, ?2)",
                    [database, name],
                )?;
            }
            Ok(())
        })
    }

    /// A finding and its divergences, as a test says.
    #[cfg(test)]
    pub(crate) fn find_for_tests(
        &self,
        id: i64,
        items: &[String],
    ) -> Result<(), VerificationError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO findings (id, digest, kind, protocol, fingerprint, tables, count, first_seen, last_seen)
                 VALUES (?1, ?1, 'rows', 'text', '', '[]', 1, 0, 0)",
                [id],
            )?;
            for item in items {
                transaction.execute(
                    "INSERT INTO divergences (at, kind, digest, fingerprint, tables, finding_id, item)
                     VALUES (0, 'rows', '', '', '[]', ?1, ?2)",
                    params![id, item],
                )?;
            }
            Ok(())
        })
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, VerificationError> {
        let mut place = self.connection.lock();
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => {
                let connection = File::connect(&self.path).map_err(VerificationError::of)?;
                connection
                    .busy_timeout(BUSY)
                    .map_err(VerificationError::of)?;
                connection
            }
        };
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(VerificationError::of)?;
        // A connection that fails is not kept: the next write opens another.
        let done = change(&transaction).map_err(VerificationError::of)?;
        transaction.commit().map_err(VerificationError::of)?;
        *place = Some(connection);
        Ok(done)
    }
}

/// Lets the oldest go, and with it what it said of its tables.
fn forget(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let old = "SELECT id FROM verifications ORDER BY id DESC LIMIT 1 OFFSET ?1";
    let old: Option<i64> = transaction
        .query_row(old, [RUNS_MAX], |row| row.get(0))
        .optional()?;
    if let Some(old) = old {
        for table in [
            "verification_rows",
            "verification_repairs",
            "verification_tables",
        ] {
            transaction.execute(
                &format!("DELETE FROM {table} WHERE verification_id <= ?1"),
                [old],
            )?;
        }
        transaction.execute("DELETE FROM verifications WHERE id <= ?1", [old])?;
    }
    Ok(())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests;

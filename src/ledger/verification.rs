//! The verifications' records: the runs, each table of each, the rows that differ, and how far each table's
//! walk has come, so that a run goes on after a crash.
//!
//! As the cutovers' records: written at once, by whoever calls, on a connection of its own. Every function
//! blocks on the disk. What the run itself means by its words (outcomes, cursors, wishes) it says as text.

use super::file::{File, open_reader};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs that are remembered; older ones go when one begins.
const RUNS_MAX: i64 = 50;

/// Rows that differ, remembered of each table of a run.
const ROWS_MAX: i64 = 1_000;

/// How long a write waits for the ledger's writer.
const BUSY: Duration = Duration::from_secs(5);

/// Why something was not written or read: what SQLite says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger's record of verifications: {0}")]
pub struct VerificationError(String);

impl VerificationError {
    fn of(fault: impl std::fmt::Display) -> Self {
        Self(fault.to_string())
    }
}

/// What a run begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunBegun {
    /// The primary's name.
    pub primary: String,
    /// The shadow's.
    pub shadow: String,
    /// Who asked for it.
    pub who: String,
    /// What was asked for, as it was written.
    pub wish: String,
}

/// A run, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRecord {
    /// Its number.
    pub id: i64,
    /// The primary's name.
    pub primary: String,
    /// The shadow's.
    pub shadow: String,
    /// Who asked for it.
    pub who: String,
    /// What was asked for.
    pub wish: Value,
    /// When it began.
    pub started: jiff::Timestamp,
    /// When it ended.
    pub ended: Option<jiff::Timestamp>,
    /// How.
    pub outcome: Option<String>,
    /// Why.
    pub why: Option<String>,
}

/// A table of a run that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLeft {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// How it ended, if it did.
    pub outcome: Option<String>,
    /// How far it has come.
    pub cursor: Option<String>,
    /// How it stands.
    pub standing: Option<String>,
    /// When its walk began, in microseconds.
    pub started: Option<i64>,
}

/// How a table ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEnd<'a> {
    /// A word.
    pub outcome: &'a str,
    /// Rows read on both sides.
    pub rows: (u64, u64),
    /// How it stands, without the rows that differ.
    pub standing: &'a str,
}

/// What is known of a table between two servers: of the newest runs that say something of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// How it stands: `equal`, `different` …; none where no run was asked for it.
    pub outcome: Option<String>,
    /// Rows of the primary's that were read.
    pub rows: u64,
    /// When that ended.
    pub ended: Option<jiff::Timestamp>,
}

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
                "UPDATE verifications SET ended = ?1, outcome = 'aborted', why = 'another one began' WHERE ended IS NULL",
                [now()],
            )?;
            transaction.execute(
                "INSERT INTO verifications (primary_server, shadow_server, who, wish, started) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![begun.primary, begun.shadow, begun.who, begun.wish, now()],
            )?;
            let id = transaction.last_insert_rowid();
            forget(transaction)?;
            Ok(id)
        })
    }

    /// The primary's tables, and which of them the run is asked for.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn tables(
        &self,
        run: i64,
        tables: &[(String, String, bool)],
    ) -> Result<(), VerificationError> {
        self.write(|transaction| {
            let mut insert = transaction.prepare(
                "INSERT OR IGNORE INTO verification_tables (verification_id, database, name, asked) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for (database, name, asked) in tables {
                insert.execute(params![run, database, name, asked])?;
            }
            Ok(())
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
            Ok(())
        })
    }

    /// A row was repaired on the shadow: who, what, why.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn repaired(&self, who: &str, what: &str, why: &str) -> Result<(), VerificationError> {
        self.write(|transaction| {
            let at = jiff::Timestamp::now().to_string();
            transaction.execute(
                "INSERT INTO audit (at, who, what, why) VALUES (?1, ?2, ?3, ?4)",
                [&at, who, what, why],
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
                "UPDATE verifications SET ended = ?2, outcome = ?3, why = ?4 WHERE id = ?1 AND ended IS NULL",
                params![run, now(), outcome, why],
            )?;
            transaction.execute(
                "UPDATE verification_tables SET cursor = NULL WHERE verification_id = ?1",
                [run],
            )?;
            Ok(())
        })
    }

    /// The run that was left in its midst, between these two servers in these roles. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn left(
        &self,
        primary: &str,
        shadow: &str,
    ) -> Result<Option<RunRecord>, VerificationError> {
        let found = self.read(|connection| {
            let ask = format!(
                "SELECT {RUN} FROM verifications WHERE ended IS NULL ORDER BY id DESC LIMIT 1"
            );
            connection.query_row(&ask, (), run).optional()
        })?;
        let is_of = |run: &RunRecord| run.primary == primary && run.shadow == shadow;
        Ok(found.flatten().filter(is_of))
    }

    /// The tables that a run is asked for. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn tables_left(&self, run: i64) -> Result<Vec<TableLeft>, VerificationError> {
        let found = self.read(|connection| {
            let mut statement = connection.prepare(
                "SELECT database, name, outcome, cursor, standing, started FROM verification_tables
                 WHERE verification_id = ?1 AND asked ORDER BY database, name",
            )?;
            let rows = statement.query_map([run], |row| {
                Ok(TableLeft {
                    database: row.get(0)?,
                    name: row.get(1)?,
                    outcome: row.get(2)?,
                    cursor: row.get(3)?,
                    standing: row.get(4)?,
                    started: row.get(5)?,
                })
            })?;
            rows.collect()
        })?;
        Ok(found.unwrap_or_default())
    }

    /// The rows of a table that differ, as they were kept. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn rows(
        &self,
        run: i64,
        (database, name): (&str, &str),
    ) -> Result<Vec<String>, VerificationError> {
        let found = self.read(|connection| {
            let mut statement = connection.prepare(
                "SELECT item FROM verification_rows WHERE verification_id = ?1 AND database = ?2 AND name = ?3 ORDER BY id",
            )?;
            let rows = statement.query_map(params![run, database, name], |row| row.get(0))?;
            rows.collect()
        })?;
        Ok(found.unwrap_or_default())
    }

    /// The newest runs, newest first. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRecord>, VerificationError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = self.read(|connection| {
            let ask = format!("SELECT {RUN} FROM verifications ORDER BY id DESC LIMIT ?1");
            let mut statement = connection.prepare(&ask)?;
            let rows = statement.query_map([limit], run)?;
            rows.collect()
        })?;
        Ok(found.unwrap_or_default())
    }

    /// What is known of each of the primary's tables: of its newest run that read all of it, or that found it
    /// different since. The tables are those of the newest run. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn verified(
        &self,
        primary: &str,
        shadow: &str,
    ) -> Result<Vec<Verified>, VerificationError> {
        let found = self.read(|connection| {
            let newest = "SELECT max(id) FROM verifications WHERE primary_server = ?1 AND shadow_server = ?2
                 AND EXISTS (SELECT 1 FROM verification_tables WHERE verification_id = verifications.id)";
            let newest: Option<i64> = connection.query_row(newest, [primary, shadow], |row| row.get(0))?;
            let Some(newest) = newest else {
                return Ok(Vec::new());
            };
            // `equal` is of the whole table; a part that was the same says nothing of the rest.
            let mut statement = connection.prepare(
                "SELECT t.database, t.name, s.outcome, s.rows_primary, s.ended
                 FROM verification_tables t LEFT JOIN verification_tables s
                   ON s.database = t.database AND s.name = t.name AND s.verification_id = (
                     SELECT max(o.verification_id) FROM verification_tables o JOIN verifications v ON v.id = o.verification_id
                     WHERE o.database = t.database AND o.name = t.name AND o.outcome IN ('equal', 'different')
                       AND v.primary_server = ?2 AND v.shadow_server = ?3)
                 WHERE t.verification_id = ?1 ORDER BY t.database, t.name",
            )?;
            let rows = statement.query_map(params![newest, primary, shadow], |row| {
                Ok(Verified {
                    database: row.get(0)?,
                    name: row.get(1)?,
                    outcome: row.get(2)?,
                    rows: row.get::<_, Option<i64>>(3)?.map_or(0, i64::unsigned_abs),
                    ended: row.get::<_, Option<i64>>(4)?.map(time),
                })
            })?;
            rows.collect()
        })?;
        Ok(found.unwrap_or_default())
    }

    fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, VerificationError> {
        if !self.path.exists() {
            return Ok(None);
        }
        let connection = open_reader(&self.path).map_err(VerificationError::of)?;
        let has = "SELECT 1 FROM sqlite_schema WHERE name = 'verification_rows'";
        let has = connection.query_row(has, (), |_| Ok(())).optional();
        match has.map_err(VerificationError::of)? {
            Some(()) => ask(&connection).map(Some).map_err(VerificationError::of),
            None => Ok(None),
        }
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
        for table in ["verification_rows", "verification_tables"] {
            transaction.execute(
                &format!("DELETE FROM {table} WHERE verification_id <= ?1"),
                [old],
            )?;
        }
        transaction.execute("DELETE FROM verifications WHERE id <= ?1", [old])?;
    }
    Ok(())
}

const RUN: &str = "id, primary_server, shadow_server, who, wish, started, ended, outcome, why";

fn run(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let wish: String = row.get(4)?;
    Ok(RunRecord {
        id: row.get(0)?,
        primary: row.get(1)?,
        shadow: row.get(2)?,
        who: row.get(3)?,
        wish: serde_json::from_str(&wish).unwrap_or_default(),
        started: time(row.get(5)?),
        ended: row.get::<_, Option<i64>>(6)?.map(time),
        outcome: row.get(7)?,
        why: row.get(8)?,
    })
}

fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

fn time(micros: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> RunBegun {
        RunBegun {
            primary: "legacy".into(),
            shadow: "vitess".into(),
            who: "dba".into(),
            wish: "{\"tables\": []}".into(),
        }
    }

    fn kept() -> (tempfile::TempDir, Verifications) {
        let dir = tempfile::tempdir().unwrap();
        let kept = Verifications::at(&dir.path().join("ledger.db"));
        (dir, kept)
    }

    fn end(kept: &Verifications, run: i64, name: &str, outcome: &str, rows: u64) {
        let end = TableEnd {
            outcome,
            rows: (rows, rows),
            standing: "{}",
        };
        kept.table_ends(run, ("app", name), &end).unwrap();
    }

    fn run_of(kept: &Verifications, tables: &[(&str, bool)]) -> i64 {
        let run = kept.begin(&begun()).unwrap();
        let tables: Vec<_> = tables
            .iter()
            .map(|(name, asked)| ("app".to_owned(), (*name).to_owned(), *asked))
            .collect();
        kept.tables(run, &tables).unwrap();
        run
    }

    #[test]
    fn a_run_that_was_left_goes_on_where_it_was() {
        let (_dir, kept) = kept();
        assert_eq!(kept.left("legacy", "vitess").unwrap(), None);
        let run = run_of(&kept, &[("a", true), ("b", true), ("c", false)]);
        kept.table_begins(run, ("app", "a")).unwrap();
        end(&kept, run, "a", "equal", 5);
        kept.table_begins(run, ("app", "b")).unwrap();
        kept.keep_cursor(run, ("app", "b"), "here").unwrap();
        kept.found(run, ("app", "b"), &["{}".into()]).unwrap();
        // Another process.
        let later = Verifications::at(&kept.path);
        let left = later.left("legacy", "vitess").unwrap().unwrap();
        assert_eq!(left.id, run);
        assert_eq!(
            later.left("vitess", "legacy").unwrap(),
            None,
            "in other roles"
        );
        let tables = later.tables_left(run).unwrap();
        let told: Vec<_> = tables
            .iter()
            .map(|one| {
                (
                    one.name.as_str(),
                    one.outcome.as_deref(),
                    one.cursor.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [("a", Some("equal"), None), ("b", None, Some("here"))]
        );
        assert_eq!(later.rows(run, ("app", "b")).unwrap().len(), 1);
        later.end(run, "aborted", Some("by an operator")).unwrap();
        assert_eq!(later.left("legacy", "vitess").unwrap(), None);
        assert_eq!(
            later.tables_left(run).unwrap()[1].cursor,
            None,
            "no key stays"
        );
    }

    #[test]
    fn what_is_known_of_a_table_is_of_the_newest_run_that_says_something() {
        let (_dir, kept) = kept();
        let told = || -> Vec<(String, Option<String>, u64)> {
            let all = kept.verified("legacy", "vitess").unwrap();
            all.into_iter()
                .map(|one| (one.name, one.outcome, one.rows))
                .collect()
        };
        let named = |name: &str, outcome: Option<&str>, rows| {
            (name.to_owned(), outcome.map(str::to_owned), rows)
        };
        assert_eq!(told(), []);
        let first = run_of(&kept, &[("a", true), ("b", false)]);
        end(&kept, first, "a", "equal", 5);
        assert_eq!(told(), [named("a", Some("equal"), 5), named("b", None, 0)]);
        let second = run_of(&kept, &[("a", true), ("b", true)]);
        end(&kept, second, "a", "equal_in_part", 1);
        end(&kept, second, "b", "different", 7);
        // A part that was the same takes nothing back.
        assert_eq!(
            told(),
            [
                named("a", Some("equal"), 5),
                named("b", Some("different"), 7)
            ]
        );
        let third = run_of(&kept, &[("a", false), ("b", true)]);
        end(&kept, third, "b", "equal", 7);
        assert_eq!(told()[1], named("b", Some("equal"), 7));
        assert_eq!(
            kept.verified("vitess", "legacy").unwrap(),
            [],
            "in other roles"
        );
    }

    #[test]
    fn a_run_that_begins_closes_the_one_that_was_left_and_old_ones_go() {
        let (_dir, kept) = kept();
        let first = run_of(&kept, &[("a", true)]);
        run_of(&kept, &[("a", true)]);
        let runs = kept.runs(9).unwrap();
        assert_eq!(
            (runs[1].id, runs[1].outcome.as_deref()),
            (first, Some("aborted"))
        );
        for _ in 0..RUNS_MAX {
            run_of(&kept, &[("a", true)]);
        }
        assert!(kept.tables_left(first).unwrap().is_empty());
        assert_eq!(
            i64::try_from(kept.runs(1000).unwrap().len()).unwrap(),
            RUNS_MAX
        );
    }
}

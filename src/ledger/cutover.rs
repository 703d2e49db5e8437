//! The cutovers' records, their steps, and the record of which server is primary.
//!
//! Written at once, by whoever calls, on a connection of its own: not by the ledger's writer, whose
//! queue may be full. Every function blocks on the disk, so none is for a runtime's thread. The
//! record of the primary is the whole truth after a crash: [`Records::switch`] is the one write that
//! makes another server the primary.

mod start;

#[cfg(test)]
mod tests;

pub use start::{Recorded, recorded};

use super::file::{File, open_reader};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Cutovers that are remembered; older ones go when one begins.
const CUTOVERS_MAX: i64 = 1_000;

/// How long a write waits for the ledger's writer, in steps of a millisecond: sessions may be held.
const BUSY_MS_MAX: i32 = 3_000;

/// The figure of a record that names the fleet's cutover that it was.
pub const FLEET: &str = "fleet";

/// The key in `meta` under which the primary's name stands.
const PRIMARY: &str = "primary";

/// Why something was not written or read: what SQLite says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger's record of cutovers: {0}")]
pub struct RecordError(String);

impl RecordError {
    fn of(fault: impl std::fmt::Display) -> Self {
        Self(fault.to_string())
    }
}

/// Why there was no switch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// It was not committed, for certain.
    #[error("the switch was not recorded: {0}")]
    Failed(String),
    /// It may be on the disk and may not: [`Records::settle`] must say before a session goes on.
    #[error("whether the switch was recorded is not known: {0}")]
    Unknown(String),
}

/// What a cutover begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The primary.
    pub from: String,
    /// Who is to be.
    pub to: String,
    /// It ends before the hold.
    pub dry_run: bool,
    /// It goes back to the server that was primary before.
    pub is_back: bool,
    /// The guards that it overrides.
    pub forced: Vec<String>,
    /// Who asked for it.
    pub who: String,
}

/// One cutover, as it is kept and as the API tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Its number.
    pub id: i64,
    /// The primary before.
    pub from: String,
    /// The primary that was to be.
    pub to: String,
    /// When it began.
    pub started: jiff::Timestamp,
    /// When the new primary was recorded.
    pub switched: Option<jiff::Timestamp>,
    /// When it ended, its soak included.
    pub ended: Option<jiff::Timestamp>,
    /// The step that it is in, or was in last.
    pub state: String,
    /// How it ended: `done`, `aborted`, `refused` or `dry_run`.
    pub outcome: Option<String>,
    /// Why it ended so.
    pub why: Option<String>,
    /// How long transactions waited.
    pub hold_us: Option<u64>,
    /// It was to end before the hold.
    pub dry_run: bool,
    /// It went back to the server that was primary before.
    pub is_back: bool,
    /// The guards that it overrode.
    pub forced: Vec<String>,
    /// Who asked for it.
    pub who: String,
    /// What was measured and judged.
    pub figures: Value,
    /// Its steps, first one first.
    pub steps: Vec<Step>,
}

/// One step of a cutover.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Its name.
    pub step: String,
    /// When it began.
    pub at: jiff::Timestamp,
    /// How long it took; none while it lasts.
    pub took_us: Option<u64>,
    /// What became of it; none while it lasts.
    pub outcome: Option<String>,
    /// Why.
    pub why: Option<String>,
}

/// A step that has begun and not ended.
#[derive(Debug)]
pub struct OpenStep {
    id: i64,
    began: Instant,
}

/// How a step ended.
#[derive(Clone, Copy, Debug)]
pub struct StepEnd<'a> {
    /// A word.
    pub outcome: &'a str,
    /// A sentence; empty where there is nothing to say.
    pub why: &'a str,
}

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    /// It is on the disk when it returns.
    Full,
    /// It outlives this process, not the machine: a line of the record that is not worth the
    /// milliseconds of a hold. The next full one takes it along.
    Normal,
}

/// See the module. Shared by reference; every call takes its turn.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl Records {
    /// The records in the ledger's file at this path, which is opened at the first write. For the
    /// process that has the ledger alone.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            connection: Mutex::new(None),
        }
    }

    /// Begins a cutover; its number.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn begin(&self, begun: &Begun) -> Result<i64, RecordError> {
        self.write(Sync::Full, |transaction| {
            transaction.execute(
                "INSERT INTO cutovers (from_server, to_server, who, dry_run, is_back, forced, started, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'checking')",
                params![
                    begun.from,
                    begun.to,
                    begun.who,
                    begun.dry_run,
                    begun.is_back,
                    serde_json::json!(begun.forced).to_string(),
                    now(),
                ],
            )?;
            let id = transaction.last_insert_rowid();
            forget(transaction)?;
            Ok(id)
        })
    }

    /// Notes that a step begins, and that the cutover is in it.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn step_begins(&self, cutover: i64, step: &str) -> Result<OpenStep, RecordError> {
        self.write(Sync::Normal, |transaction| {
            begins(transaction, cutover, step)
        })
    }

    /// Notes how a step ended.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn step_ends(&self, step: &OpenStep, end: StepEnd<'_>) -> Result<(), RecordError> {
        self.write(Sync::Normal, |transaction| ends(transaction, step, end))
    }

    /// Both at once: one step ends and the next begins.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn step_follows(
        &self,
        ended: &OpenStep,
        end: StepEnd<'_>,
        cutover: i64,
        step: &str,
    ) -> Result<OpenStep, RecordError> {
        self.write(Sync::Normal, |transaction| {
            ends(transaction, ended, end)?;
            begins(transaction, cutover, step)
        })
    }

    /// Notes something beside the steps, such as a hook that ran: a step that is over already.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn note(
        &self,
        cutover: i64,
        step: &str,
        took: Duration,
        end: StepEnd<'_>,
    ) -> Result<(), RecordError> {
        let took = micros(took);
        self.write(Sync::Normal, |transaction| {
            transaction.execute(
                "INSERT INTO cutover_steps (cutover_id, step, at, took_us, outcome, why)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    cutover,
                    step,
                    now().saturating_sub(took),
                    took,
                    end.outcome,
                    said(end.why)
                ],
            )?;
            Ok(())
        })
    }

    /// Notes how long transactions waited.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn held(&self, cutover: i64, hold: Duration) -> Result<(), RecordError> {
        self.write(Sync::Normal, |transaction| {
            let update = "UPDATE cutovers SET hold_us = ?2 WHERE id = ?1";
            transaction.execute(update, params![cutover, micros(hold)])?;
            Ok(())
        })
    }

    /// Keeps what was measured and judged, in the place of what was kept before.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn keep_figures(&self, cutover: i64, figures: &Value) -> Result<(), RecordError> {
        self.write(Sync::Normal, |transaction| {
            let update = "UPDATE cutovers SET figures = ?2 WHERE id = ?1";
            transaction.execute(update, params![cutover, figures.to_string()])?;
            Ok(())
        })
    }

    /// Makes the cutover's `to` the primary: the record and the cutover's state in one transaction,
    /// on the disk when this returns. Running it again changes nothing more.
    ///
    /// # Errors
    /// [`SwitchError::Failed`]: the primary is who it was. [`SwitchError::Unknown`]: ask
    /// [`Records::settle`].
    pub fn switch(&self, cutover: i64) -> Result<(), SwitchError> {
        let mut place = self.connection.lock();
        let switched = self.connected(&mut place).and_then(|connection| {
            let written = pragma(connection, Sync::Full).and_then(|()| {
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                switch(&transaction, cutover)?;
                Ok(transaction.commit())
            });
            written.map_err(RecordError::of)
        });
        match switched {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => {
                *place = None;
                Err(SwitchError::Unknown(fault.to_string()))
            }
            Err(fault) => {
                *place = None;
                Err(SwitchError::Failed(fault.0))
            }
        }
    }

    /// After [`SwitchError::Unknown`]: writes down anew who is primary, so that nothing older on the
    /// disk can be taken for it, and says whether the switch was made. Until it returns nobody knows.
    ///
    /// # Errors
    /// It is still not known: try again.
    pub fn settle(&self, cutover: i64) -> Result<bool, RecordError> {
        *self.connection.lock() = None;
        self.write(Sync::Full, |transaction| {
            let switched = transaction
                .query_row(
                    "SELECT switched IS NOT NULL, from_server FROM cutovers WHERE id = ?1",
                    [cutover],
                    |row| Ok((row.get::<_, bool>(0)?, row.get::<_, String>(1)?)),
                )
                .optional()?;
            match switched {
                Some((true, _)) => {
                    switch(transaction, cutover)?;
                    Ok(true)
                }
                Some((false, from)) => {
                    make_primary(transaction, &from)?;
                    Ok(false)
                }
                None => Ok(false),
            }
        })
    }

    /// Ends a cutover. One that has ended stays as it is.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn end(&self, cutover: i64, outcome: &str, why: &str) -> Result<(), RecordError> {
        self.write(Sync::Full, |transaction| {
            end(transaction, cutover, outcome, why)
        })
    }

    /// Records who is primary because an operator says so, with who and why in the audit.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn declare(&self, primary: &str, who: &str, why: &str) -> Result<(), RecordError> {
        self.write(Sync::Full, |transaction| {
            make_primary(transaction, primary)?;
            let what = format!("primary: {primary}");
            audit(transaction, who, &what, why)
        })
    }

    /// Closes what an earlier process left in its midst: before its switch a cutover is aborted,
    /// after it goes on with its soak. The one that soaks.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn take_over(&self) -> Result<Option<Record>, RecordError> {
        let soaks = self.write(Sync::Full, start::take_over)?;
        match soaks {
            Some(id) => self.cutover(id),
            None => Ok(None),
        }
    }

    /// The newest cutovers, newest first. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn cutovers(&self, limit: usize) -> Result<Vec<Record>, RecordError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|connection| {
            let ask = format!("SELECT {COLUMNS} FROM cutovers ORDER BY id DESC LIMIT ?1");
            let mut statement = connection.prepare(&ask)?;
            let rows = statement.query_map([limit], record)?;
            let mut records = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            for record in &mut records {
                record.steps = steps(connection, record.id)?;
            }
            Ok(records)
        })
        .map(Option::unwrap_or_default)
    }

    /// One cutover. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn cutover(&self, id: i64) -> Result<Option<Record>, RecordError> {
        self.newest("id = ?1", [id])
    }

    /// The newest cutover that was switched. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn last_switched(&self) -> Result<Option<Record>, RecordError> {
        self.newest("switched IS NOT NULL", [])
    }

    /// Makes a cutover of the fleet the one that was switched, where it was under way here; else nothing.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn switch_of_fleet(&self, cutover: &str) -> Result<(), RecordError> {
        let open = "ended IS NULL AND switched IS NULL AND NOT dry_run";
        let Some(left) = self.newest(open, [])? else {
            return Ok(());
        };
        if left.figures.get(FLEET).and_then(Value::as_str) != Some(cutover) {
            return Ok(());
        }
        self.write(Sync::Full, |transaction| switch(transaction, left.id))
    }

    /// Ends the soaks of other servers than this one, which the fleet has gone on from without this proxy.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn end_others(&self, primary: &str) -> Result<(), RecordError> {
        self.write(Sync::Full, |transaction| {
            transaction.execute(
                "UPDATE cutovers SET ended = ?2, outcome = 'done', why = 'the fleet went on without this proxy'
                 WHERE ended IS NULL AND switched IS NOT NULL AND to_server <> ?1",
                params![primary, now()],
            )?;
            Ok(())
        })
    }

    /// Whether this cutover of the fleet was switched here, too.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn was_in_switch_of_fleet(&self, cutover: &str) -> Result<bool, RecordError> {
        let all = self.cutovers(usize::try_from(CUTOVERS_MAX).unwrap_or(usize::MAX))?;
        let is_it = |one: &Record| one.figures.get(FLEET).and_then(Value::as_str) == Some(cutover);
        Ok(all.iter().any(|one| one.switched.is_some() && is_it(one)))
    }

    /// Whether a fleet's cutover was left here at its switch: only etcd then knows who is primary.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn left_at_a_switch_of_a_fleet(&self) -> Result<bool, RecordError> {
        let open = "ended IS NULL AND switched IS NULL AND state = 'switching'";
        let left = self.newest(open, [])?;
        Ok(left.is_some_and(|left| left.figures.get(FLEET).is_some_and(Value::is_string)))
    }

    /// The newest cutover that was neither refused nor a dry run. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn last_acted(&self) -> Result<Option<Record>, RecordError> {
        let acted = "NOT dry_run AND coalesce(outcome, '') <> 'refused'";
        self.newest(acted, [])
    }

    fn newest(
        &self,
        which: &str,
        values: impl rusqlite::Params,
    ) -> Result<Option<Record>, RecordError> {
        self.read(|connection| {
            let ask =
                format!("SELECT {COLUMNS} FROM cutovers WHERE {which} ORDER BY id DESC LIMIT 1");
            let found = connection.query_row(&ask, values, record).optional()?;
            found
                .map(|mut record| {
                    record.steps = steps(connection, record.id)?;
                    Ok(record)
                })
                .transpose()
        })
        .map(Option::flatten)
    }

    /// Reads with a connection of its own, which no write holds up; `None` where there is no file, or
    /// it has no cutovers yet.
    fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, RecordError> {
        if !self.path.exists() {
            return Ok(None);
        }
        let connection = open_reader(&self.path).map_err(RecordError::of)?;
        let has = "SELECT 1 FROM sqlite_schema WHERE name = 'cutover_steps'";
        let has = connection
            .query_row(has, (), |_| Ok(()))
            .optional()
            .map_err(RecordError::of)?;
        match has {
            Some(()) => ask(&connection).map(Some).map_err(RecordError::of),
            None => Ok(None),
        }
    }

    fn write<T>(
        &self,
        sync: Sync,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, RecordError> {
        let mut place = self.connection.lock();
        let connection = self.connected(&mut place)?;
        let written = pragma(connection, sync).and_then(|()| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        written.map_err(|fault| {
            // A connection that failed once is opened anew: what it has in memory is not trusted.
            *place = None;
            RecordError::of(fault)
        })
    }

    fn connected<'a>(
        &self,
        place: &'a mut Option<Connection>,
    ) -> Result<&'a mut Connection, RecordError> {
        let connection = match place.take() {
            Some(connection) => connection,
            None => {
                let mut connection = File::connect(&self.path).map_err(RecordError::of)?;
                // Taking the log over into the file is the ledger's writer's: it may take a while, and
                // sessions may be held.
                connection
                    .busy_handler(Some(wait_a_millisecond))
                    .and_then(|()| connection.execute_batch("PRAGMA wal_autocheckpoint = 0"))
                    .map_err(RecordError::of)?;
                connection
            }
        };
        Ok(place.insert(connection))
    }
}

/// SQLite's own pauses grow to a tenth of a second.
fn wait_a_millisecond(tries: i32) -> bool {
    std::thread::sleep(Duration::from_millis(1));
    tries < BUSY_MS_MAX
}

fn pragma(connection: &Connection, sync: Sync) -> rusqlite::Result<()> {
    connection.execute_batch(match sync {
        Sync::Full => "PRAGMA synchronous = FULL",
        Sync::Normal => "PRAGMA synchronous = NORMAL",
    })
}

fn begins(transaction: &Transaction<'_>, cutover: i64, step: &str) -> rusqlite::Result<OpenStep> {
    let insert = "INSERT INTO cutover_steps (cutover_id, step, at) VALUES (?1, ?2, ?3)";
    transaction.execute(insert, params![cutover, step, now()])?;
    let id = transaction.last_insert_rowid();
    let update = "UPDATE cutovers SET state = ?2 WHERE id = ?1";
    transaction.execute(update, params![cutover, step])?;
    Ok(OpenStep {
        id,
        began: Instant::now(),
    })
}

fn ends(transaction: &Transaction<'_>, step: &OpenStep, end: StepEnd<'_>) -> rusqlite::Result<()> {
    let took = micros(step.began.elapsed());
    transaction.execute(
        "UPDATE cutover_steps SET took_us = ?2, outcome = ?3, why = ?4 WHERE id = ?1 AND outcome IS NULL",
        params![step.id, took, end.outcome, said(end.why)],
    )?;
    Ok(())
}

fn switch(transaction: &Transaction<'_>, cutover: i64) -> rusqlite::Result<()> {
    let (from, to, who, again) = transaction.query_row(
        "SELECT from_server, to_server, who, switched IS NOT NULL FROM cutovers WHERE id = ?1 AND ended IS NULL",
        [cutover],
        |row| {
            let text = |at| row.get::<_, String>(at);
            Ok((text(0)?, text(1)?, text(2)?, row.get::<_, bool>(3)?))
        },
    )?;
    make_primary(transaction, &to)?;
    if again {
        return Ok(());
    }
    let update = "UPDATE cutovers SET switched = ?2 WHERE id = ?1";
    transaction.execute(update, params![cutover, now()])?;
    let what = format!("cutover {cutover}: {from} → {to}");
    audit(transaction, &who, &what, "")
}

fn make_primary(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    let insert = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)";
    transaction.execute(insert, [PRIMARY, name])?;
    Ok(())
}

fn audit(transaction: &Transaction<'_>, who: &str, what: &str, why: &str) -> rusqlite::Result<()> {
    let insert = "INSERT INTO audit (at, who, what, why) VALUES (?1, ?2, ?3, ?4)";
    let at = jiff::Timestamp::now().to_string();
    transaction.execute(insert, [&at, who, what, why])?;
    Ok(())
}

fn end(
    transaction: &Transaction<'_>,
    cutover: i64,
    outcome: &str,
    why: &str,
) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE cutovers SET ended = ?2, outcome = ?3, why = ?4 WHERE id = ?1 AND ended IS NULL",
        params![cutover, now(), outcome, said(why)],
    )?;
    Ok(())
}

/// Lets the oldest go. One that has not ended is among the newest; the one that switched last stays, for
/// it says where the way back leads.
fn forget(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let old = "SELECT id FROM cutovers ORDER BY id DESC LIMIT 1 OFFSET ?1";
    let old: Option<i64> = transaction
        .query_row(old, [CUTOVERS_MAX], |row| row.get(0))
        .optional()?;
    if let Some(old) = old {
        const LAST: &str = "(SELECT coalesce(max(id), 0) FROM cutovers WHERE switched IS NOT NULL)";
        let steps =
            format!("DELETE FROM cutover_steps WHERE cutover_id <= ?1 AND cutover_id <> {LAST}");
        transaction.execute(&steps, [old])?;
        let records = format!("DELETE FROM cutovers WHERE id <= ?1 AND id <> {LAST}");
        transaction.execute(&records, [old])?;
    }
    Ok(())
}

const COLUMNS: &str = "id, from_server, to_server, started, switched, ended, state, outcome, why, hold_us, dry_run, is_back, forced, who, figures";

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let (forced, figures): (String, String) = (row.get(12)?, row.get(14)?);
    Ok(Record {
        id: row.get(0)?,
        from: row.get(1)?,
        to: row.get(2)?,
        started: time(row.get(3)?),
        switched: row.get::<_, Option<i64>>(4)?.map(time),
        ended: row.get::<_, Option<i64>>(5)?.map(time),
        state: row.get(6)?,
        outcome: row.get(7)?,
        why: row.get(8)?,
        hold_us: row.get::<_, Option<i64>>(9)?.map(i64::unsigned_abs),
        dry_run: row.get(10)?,
        is_back: row.get(11)?,
        forced: serde_json::from_str(&forced).unwrap_or_default(),
        who: row.get(13)?,
        figures: serde_json::from_str(&figures).unwrap_or_default(),
        steps: Vec::new(),
    })
}

fn steps(connection: &Connection, cutover: i64) -> rusqlite::Result<Vec<Step>> {
    let mut statement = connection.prepare_cached(
        "SELECT step, at, took_us, outcome, why FROM cutover_steps WHERE cutover_id = ?1 ORDER BY id",
    )?;
    let rows = statement.query_map([cutover], |row| {
        Ok(Step {
            step: row.get(0)?,
            at: time(row.get(1)?),
            took_us: row.get::<_, Option<i64>>(2)?.map(i64::unsigned_abs),
            outcome: row.get(3)?,
            why: row.get(4)?,
        })
    })?;
    rows.collect()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

fn time(micros: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn said(why: &str) -> Option<&str> {
    (!why.is_empty()).then_some(why)
}

//! What is read of the records, from the file.

use super::super::file::open_reader;
use super::Verifications;
use super::kept::{AtRest, RunRecord, TableLeft, VerificationError, Verified};
use super::touched::{TOUCHED_MAX, Touched};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

impl Verifications {
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
                "SELECT {RUN} FROM verifications WHERE ended IS NULL AND NOT alone ORDER BY id DESC LIMIT 1"
            );
            connection.query_row(&ask, (), run).optional()
        })?;
        let is_of = |run: &RunRecord| run.primary == primary && run.shadow == shadow;
        Ok(found.flatten().filter(is_of))
    }

    /// What a finding touched: its tables, and of its newest divergences the statement, as far as its text and its
    /// values were kept. `None` where there is no such finding. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn touched(&self, finding: i64) -> Result<Option<Touched>, VerificationError> {
        let found = self.read(|connection| {
            let known = connection
                .query_row(
                    "SELECT 1 FROM findings WHERE id = ?1",
                    [finding],
                    |_| Ok(()),
                )
                .optional()?;
            if known.is_none() {
                return Ok(None);
            }
            let mut statement = connection.prepare(
                "SELECT item FROM divergences WHERE finding_id = ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let items = statement.query_map(params![finding, TOUCHED_MAX], |row| {
                let item: String = row.get(0)?;
                Ok(serde_json::from_str::<Value>(&item).unwrap_or_default())
            })?;
            let items: Result<Vec<Value>, _> = items.collect();
            Ok(Some(Touched::of(&items?)))
        })?;
        Ok(found.flatten())
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

    /// What is known of each of the primary's tables: of its newest run that read all of it, that found it different,
    /// or that came to no end with it; and whether it was repaired since. The tables are those of the newest run, and
    /// those that the mirror wrote since. A run between servers elsewhere, or between others at the same place, says
    /// nothing. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn verified(
        &self,
        primary: &str,
        shadow: &str,
        servers: &str,
    ) -> Result<AtRest, VerificationError> {
        let found = self.read(|connection| {
            let newest = "SELECT id, unseen FROM verifications WHERE primary_server = ?1 AND shadow_server = ?2 AND servers = ?3
                 AND EXISTS (SELECT 1 FROM verification_tables WHERE verification_id = verifications.id)
                 ORDER BY id DESC LIMIT 1";
            let newest: Option<(i64, String)> = connection
                .query_row(newest, [primary, shadow, servers], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let Some((newest, unseen)) = newest else {
                return Ok(AtRest::default());
            };
            // `equal` is of the whole table; a part that was the same says nothing of the rest.
            let mut statement = connection.prepare(
                "SELECT t.database, t.name,
                   CASE WHEN s.outcome = 'equal' AND EXISTS (
                     SELECT 1 FROM verification_repairs r WHERE r.database = t.database AND r.name = t.name
                       AND r.verification_id >= s.verification_id
                       AND (r.outcome IS NULL OR r.outcome NOT LIKE 'not repaired%'))
                   THEN 'repaired' ELSE s.outcome END,
                   s.rows_primary, s.started, t.rows_about
                 FROM verification_tables t LEFT JOIN verification_tables s
                   ON s.database = t.database AND s.name = t.name AND s.verification_id = (
                     SELECT max(o.verification_id) FROM verification_tables o JOIN verifications v ON v.id = o.verification_id
                     WHERE o.database = t.database AND o.name = t.name AND o.outcome IN ('equal', 'different', 'unfinished')
                       AND v.primary_server = ?2 AND v.shadow_server = ?3 AND v.servers = ?4
                       AND v.identities IS (SELECT n.identities FROM verifications n WHERE n.id = ?1))
                 WHERE t.verification_id = ?1 AND t.outcome IS NOT 'gone' ORDER BY t.database, t.name",
            )?;
            let rows = statement.query_map(params![newest, primary, shadow, servers], |row| {
                Ok(Verified {
                    database: row.get(0)?,
                    name: row.get(1)?,
                    outcome: row.get(2)?,
                    rows: row.get::<_, Option<i64>>(3)?.map_or(0, i64::unsigned_abs),
                    rows_about: row.get::<_, Option<i64>>(5)?.map(i64::unsigned_abs),
                    began: row.get::<_, Option<i64>>(4)?.map(time),
                })
            })?;
            let mut tables = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            tables.extend(since(connection, newest)?);
            Ok(AtRest {
                tables,
                unseen: serde_json::from_str(&unseen).unwrap_or_else(|_| vec![unseen]),
            })
        })?;
        Ok(found.unwrap_or_default())
    }

    /// The tables that the mirror ever wrote, by the primary's names; a name of `*` stands for some that were not
    /// remembered one by one. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn mirrored(&self) -> Result<Vec<(Option<String>, String)>, VerificationError> {
        let found = self.read(|connection| {
            let mut statement = connection.prepare("SELECT database, name FROM mirrored_tables")?;
            let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })?;
        Ok(found.unwrap_or_default())
    }

    pub(super) fn read<T>(
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
}

/// Tables that the mirror wrote and that this run did not know of. Servers differ in whether the case of a name counts.
fn since(connection: &Connection, run: i64) -> rusqlite::Result<Vec<Verified>> {
    let mut statement = connection.prepare(
        "SELECT m.database, m.name FROM mirrored_tables m
         WHERE m.name <> '*' AND m.database <> '' AND NOT EXISTS (
           SELECT 1 FROM verification_tables t WHERE t.verification_id = ?1
             AND lower(t.name) = lower(m.name) AND lower(t.database) = lower(m.database))
         ORDER BY m.database, m.name",
    )?;
    let rows = statement.query_map([run], |row| {
        Ok(Verified {
            database: row.get(0)?,
            name: row.get(1)?,
            outcome: None,
            rows: 0,
            rows_about: None,
            began: None,
        })
    })?;
    rows.collect()
}

const RUN: &str = "id, primary_server, shadow_server, who, wish, started, ended, outcome, why, paused, resumed, instants, condition";

fn run(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let wish: String = row.get(4)?;
    let instants: Option<String> = row.get(11)?;
    Ok(RunRecord {
        id: row.get(0)?,
        primary: row.get(1)?,
        shadow: row.get(2)?,
        who: row.get(3)?,
        wish: serde_json::from_str(&wish).unwrap_or_default(),
        condition: row.get(12)?,
        started: time(row.get(5)?),
        ended: row.get::<_, Option<i64>>(6)?.map(time),
        outcome: row.get(7)?,
        why: row.get(8)?,
        paused: row.get(9)?,
        resumed: row.get(10)?,
        instants: instants.map_or(Value::Null, |text| {
            serde_json::from_str(&text).unwrap_or_default()
        }),
    })
}

fn time(micros: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

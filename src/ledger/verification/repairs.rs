//! The repairs of verifications: each row that was written to the shadow, from before it was, and what became of it.
//! One without an outcome was under way when its process ended: nobody knows whether it was run.
//!
//! Where the ledger redacts literals, its key and its statement are not kept.

use super::{VerificationError, Verifications};
use rusqlite::params;
use serde::Serialize;

/// Repairs that are told of one run.
const TOLD_MAX: i64 = 10_000;

/// A repair that is about to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairBegun {
    /// How the row differs.
    pub how: &'static str,
    /// In which columns.
    pub columns: Vec<String>,
    /// Its key.
    pub key: Option<String>,
    /// What is to be run.
    pub statement: Option<String>,
}

/// A repair as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// The table's database.
    pub database: String,
    /// Its name.
    pub table: String,
    /// The server that was written to.
    pub server: String,
    /// Who asked for it.
    pub who: String,
    /// When it was begun.
    pub at: jiff::Timestamp,
    /// How the row differed.
    pub how: String,
    /// In which columns.
    pub columns: String,
    /// Its key.
    pub key: Option<String>,
    /// What was to be run.
    pub statement: Option<String>,
    /// What became of it.
    pub outcome: Option<String>,
}

impl Verifications {
    /// Repairs of a table's rows on this server are about to be run: their numbers.
    ///
    /// # Errors
    /// What SQLite says: then they are not to be run.
    pub fn repairs_begin(
        &self,
        (run, who): (i64, &str),
        (database, name): (&str, &str),
        server: &str,
        repairs: &[RepairBegun],
    ) -> Result<Vec<i64>, VerificationError> {
        if repairs.is_empty() {
            return Ok(Vec::new());
        }
        let at = jiff::Timestamp::now().as_microsecond();
        self.write(|transaction| {
            let mut insert = transaction.prepare(
                "INSERT INTO verification_repairs (verification_id, database, name, server, who, at, how, columns, key, statement)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?;
            let ids = repairs.iter().map(|one| {
                insert.insert(params![
                    run,
                    database,
                    name,
                    server,
                    who,
                    at,
                    one.how,
                    one.columns.join(", "),
                    one.key,
                    one.statement
                ])
            });
            ids.collect()
        })
    }

    /// What became of repairs, by their numbers.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn repairs_end(&self, ends: &[(i64, String)]) -> Result<(), VerificationError> {
        if ends.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            let mut update = transaction
                .prepare("UPDATE verification_repairs SET outcome = ?2 WHERE id = ?1")?;
            for (id, outcome) in ends {
                update.execute(params![id, outcome])?;
            }
            Ok(())
        })
    }

    /// Repairs were run: who asked, what, why.
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

    /// The repairs of a run, in the order in which they were begun. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn repairs(&self, run: i64) -> Result<Vec<Repair>, VerificationError> {
        let found = self.read(|connection| {
            let mut statement = connection.prepare(
                "SELECT database, name, server, who, at, how, columns, key, statement, outcome
                 FROM verification_repairs WHERE verification_id = ?1 ORDER BY id LIMIT ?2",
            )?;
            let rows = statement.query_map([run, TOLD_MAX], |row| {
                let at = jiff::Timestamp::from_microsecond(row.get(4)?);
                Ok(Repair {
                    database: row.get(0)?,
                    table: row.get(1)?,
                    server: row.get(2)?,
                    who: row.get(3)?,
                    at: at.unwrap_or(jiff::Timestamp::UNIX_EPOCH),
                    how: row.get(5)?,
                    columns: row.get(6)?,
                    key: row.get(7)?,
                    statement: row.get(8)?,
                    outcome: row.get(9)?,
                })
            })?;
            rows.collect()
        })?;
        Ok(found.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::super::RunBegun;
    use super::*;

    #[test]
    fn a_repair_is_there_before_it_is_run_and_goes_with_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Verifications::at(&dir.path().join("ledger.db"));
        let begin = || {
            kept.begin(&RunBegun {
                primary: "legacy".into(),
                shadow: "vitess".into(),
                who: "dba".into(),
                wish: "{}".into(),
                condition: None,
                servers: String::new(),
                alone: false,
            })
            .unwrap()
        };
        let run = begin();
        let one = |key: Option<&str>| RepairBegun {
            how: "changed",
            columns: vec!["v".into(), "w".into()],
            key: key.map(str::to_owned),
            statement: None,
        };
        let ids = kept
            .repairs_begin(
                (run, "dba"),
                ("app", "t"),
                "vitess",
                &[one(Some("`id` = 1")), one(None)],
            )
            .unwrap();
        let told = || -> Vec<(Option<String>, Option<String>)> {
            let all = kept.repairs(run).unwrap().into_iter();
            all.map(|one| (one.key, one.outcome)).collect()
        };
        assert_eq!(told(), [(Some("`id` = 1".to_owned()), None), (None, None)]);
        kept.repairs_end(&[(ids[0], "done".to_owned())]).unwrap();
        assert_eq!(told()[0].1.as_deref(), Some("done"));
        assert_eq!(told()[1].1, None, "nobody knows of it");
        for _ in 0..60 {
            begin();
        }
        assert!(told().is_empty(), "it went with its run");
    }
}

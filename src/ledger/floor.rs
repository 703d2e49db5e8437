//! The floor: what differed between two servers that are alike (an A/A run), from that run's ledger.
//!
//! A finding is at or below its floor where this run diverged no more often, by command, than that
//! one: its rate is not above the floor's, or it is above by no more than chance explains (two
//! proportions, one-sided, 95 %) and by no more than twice.

use super::file::open_reader;
use super::schema;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Findings of a floor at most, the most frequent.
const FINDINGS_MAX: u32 = 100_000;

/// One-sided 95 %.
const Z_MAX: f64 = 1.645;

/// However little is known, a rate above this many times the floor's is above it.
const TIMES_MAX: f64 = 2.0;

/// Why a file is no floor.
#[derive(Debug, thiserror::Error)]
#[error(
    "compare.floor: {path} cannot be read as a ledger: {why}; name the ledger of an A/A run, or take the key out"
)]
pub struct FloorError {
    path: PathBuf,
    why: String,
}

/// How often each finding of an A/A run diverged.
#[derive(Clone, Debug, Default)]
pub struct Floor {
    rates: BTreeMap<Shape, Rate>,
}

/// Digest, kind and protocol of a finding.
type Shape = (String, String, String);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    count: f64,
    commands: f64,
}

impl Rate {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share needs no more digits than a double has"
    )]
    fn new(count: u64, commands: u64) -> Self {
        Self {
            count: count as f64,
            commands: commands.max(count).max(1) as f64,
        }
    }

    fn share(self) -> f64 {
        self.count / self.commands
    }

    /// Whether this is at or below the floor.
    fn is_within(self, floor: Self) -> bool {
        if self.share() <= floor.share() {
            return true;
        }
        let pooled = (self.count + floor.count) / (self.commands + floor.commands);
        let spread = pooled * (1.0 - pooled) * (1.0 / self.commands + 1.0 / floor.commands);
        let above = self.share() - floor.share();
        above <= Z_MAX * spread.sqrt() && self.share() <= TIMES_MAX * floor.share()
    }
}

impl Floor {
    /// Reads the ledger of an A/A run, without touching it.
    ///
    /// # Errors
    /// It is no ledger, or one that cannot be read.
    pub fn read(path: &Path) -> Result<Self, FloorError> {
        let fault = |why: String| FloorError {
            path: path.to_owned(),
            why,
        };
        if !path.is_file() {
            return Err(fault("there is no such file".to_owned()));
        }
        let connection = open_reader(path).map_err(|why| fault(why.to_string()))?;
        schema::fits(&connection).map_err(|why| fault(why.to_string()))?;
        let rates = rates(&connection).map_err(|why| fault(why.to_string()))?;
        Ok(Self { rates })
    }

    /// Marks a finding that has a floor.
    pub(super) fn mark(&self, finding: &mut Value) {
        let Some(floor) = self.of(finding) else {
            return;
        };
        let mark = json!({
            "rate": floor.share(),
            "count": floor.count,
            "commands": floor.commands,
            "at_or_below": measured(finding).is_within(floor),
        });
        if let Some(fields) = finding.as_object_mut() {
            fields.insert("floor".into(), mark);
        }
    }

    /// Whether a finding is no more than an A/A run shows too.
    pub(super) fn has(&self, finding: &Value) -> bool {
        self.of(finding)
            .is_some_and(|floor| measured(finding).is_within(floor))
    }

    fn of(&self, finding: &Value) -> Option<Rate> {
        let text = |key: &str| finding.get(key).and_then(Value::as_str).map(str::to_owned);
        let shape = (text("digest")?, text("kind")?, text("protocol")?);
        self.rates.get(&shape).copied()
    }
}

fn measured(finding: &Value) -> Rate {
    let number = |key: &str| finding.get(key).and_then(Value::as_u64).unwrap_or(0);
    Rate::new(number("count"), number("commands"))
}

fn rates(connection: &Connection) -> rusqlite::Result<BTreeMap<Shape, Rate>> {
    let mut statement = connection.prepare(
        "SELECT f.digest, f.kind, f.protocol, sum(f.count), max(coalesce(t.commands, 0))
         FROM findings f LEFT JOIN traffic t ON t.digest = f.digest AND t.protocol = f.protocol
         GROUP BY f.digest, f.kind, f.protocol ORDER BY sum(f.count) DESC LIMIT ?1",
    )?;
    let rows = statement.query_map([FINDINGS_MAX], |row| {
        let shape = (row.get(0)?, row.get(1)?, row.get(2)?);
        let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.unsigned_abs());
        Ok((shape, Rate::new(number(3)?, number(4)?)))
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_more_frequent_than_between_equal_servers_is_at_the_floor() {
        for (count, commands, floor_count, floor_commands, within) in [
            (1, 100, 1, 100, true),
            (0, 100, 1, 100, true),
            (1_000, 1_000, 10, 10, true),
            // Above, by what chance may do.
            (2, 100, 1, 100, true),
            (11, 1_000, 10, 1_000, true),
            // Above for certain.
            (2_000, 100_000, 1_000, 100_000, false),
            (1, 1, 1, 100, false),
            (1, 10, 1, 100, false),
            (900, 1_000, 1, 2, false),
            // A floor of which little is known does not hide a multiple of it.
            (100, 100, 1, 3, false),
            (1, 1, 0, 1_000, false),
        ] {
            let (run, floor) = (
                Rate::new(count, commands),
                Rate::new(floor_count, floor_commands),
            );
            assert_eq!(run.is_within(floor), within, "{run:?} {floor:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_ledger_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aa.db");
        for text in [None, Some("no ledger"), Some("")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let fault = Floor::read(&path).unwrap_err().to_string();
            assert!(
                fault.starts_with("compare.floor: ") && fault.contains("aa.db"),
                "{fault}"
            );
        }
    }
}

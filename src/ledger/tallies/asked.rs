//! The tallies, as they are asked for: pages of coverage, and the figures that readiness is judged by.

use super::super::findings::{Page, bounded};
use super::kept::sums;
use crate::compare::verdict::Reason;
use rusqlite::{Connection, Row};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Names that are told of what was never compared, or never settled.
const NAMES_MAX: u32 = 10;

/// By what coverage is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoverageBy {
    /// By statement and protocol.
    #[default]
    Fingerprint,
    /// By table.
    Table,
    /// By hour.
    Hour,
}

/// Which rows of coverage, the busiest first; hours newest first.
#[derive(Clone, Debug, Default)]
pub struct CoverageFilter {
    /// By what.
    pub by: CoverageBy,
    /// Only what was ever compared, or only what never was.
    pub compared: Option<bool>,
    /// At most so many; [`super::super::LIMIT_MAX`] if more.
    pub limit: u32,
    /// After so many in that order (a cursor of an earlier page).
    pub before: Option<i64>,
}

/// How many of a kind were ever compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// All that were seen within the window.
    pub all: u64,
    /// Those of them of which no command was ever compared.
    pub never: u64,
    /// The busiest of the latter, by name: ten at most.
    pub names: Vec<String>,
}

/// What became of some commands; those that still wait for their verdict are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// All of them.
    pub commands: u64,
    /// Answers that were equal.
    pub matched: u64,
    /// Answers that differed in nothing but what is tolerated.
    pub tolerated: u64,
    /// Answers that differed.
    pub diverged: u64,
    /// Not compared, by reason; reasons that never occurred are left out.
    pub not_compared: BTreeMap<&'static str, u64>,
}

impl Sum {
    /// Commands that were compared.
    #[must_use]
    pub const fn compared(&self) -> u64 {
        self.matched + self.tolerated + self.diverged
    }
}

/// What readiness is judged by, of all that was tallied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// What became of the commands within the window, whole hours.
    pub window: Sum,
    /// What became of all commands since the ledger's file was made.
    pub ever: Sum,
    /// When the first was.
    pub first_compared: Option<jiff::Timestamp>,
    /// When the last was.
    pub last_compared: Option<jiff::Timestamp>,
    /// Hours of the clock in which something was compared.
    pub hours: u64,
    /// Seconds in which something was compared.
    pub seconds: u64,
    /// Divergences within the window that could not be kept.
    pub lost: u64,
    /// Statements, by fingerprint and protocol.
    pub fingerprints: Reach,
    /// Tables.
    pub tables: Reach,
    /// Statements that raced at least so often, and were never compared.
    pub unsettled: Reach,
}

const COMPARED: &str = "(matched + tolerated + diverged)";

/// A page of coverage.
pub(in crate::ledger) fn coverage(
    connection: &Connection,
    filter: &CoverageFilter,
) -> rusqlite::Result<Page> {
    let (table, keys, order) = match filter.by {
        CoverageBy::Fingerprint => (
            "traffic",
            "nullif(fingerprint, '') AS fingerprint, digest, protocol, class",
            "commands DESC, digest, protocol",
        ),
        CoverageBy::Table => ("traffic_tables", "name AS \"table\"", "commands DESC, name"),
        CoverageBy::Hour => ("traffic_hours", "hour, seconds", "hour DESC"),
    };
    let chosen = match filter.compared {
        None => "1".to_owned(),
        Some(true) => format!("{COMPARED} > 0"),
        Some(false) => format!("{COMPARED} = 0"),
    };
    let counts: Vec<String> = sums().map(|name| format!("\"{name}\"")).collect();
    let limit = bounded(filter.limit);
    let skip = filter.before.unwrap_or(0).max(0);
    let text = format!(
        "SELECT {}, first_seen, seen, first_compared, last_compared, {keys} FROM {table}
         WHERE {chosen} ORDER BY {order} LIMIT {} OFFSET {skip}",
        counts.join(", "),
        limit + 1
    );
    let mut statement = connection.prepare_cached(&text)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement.query_map((), |row| item(row, &names))?;
    let items: Vec<Value> = rows.collect::<Result<_, _>>()?;
    let cursors = items.into_iter().enumerate().map(|(at, item)| {
        let passed = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1);
        (skip.saturating_add(passed), item)
    });
    Ok(Page::of(cursors.collect(), limit))
}

/// A row of coverage: its names first, its counts, its times.
fn item(row: &Row<'_>, names: &[String]) -> rusqlite::Result<Value> {
    let mut item = Map::new();
    let (mut reasons, mut compared) = (Map::new(), 0);
    for (at, name) in names.iter().enumerate() {
        let value: rusqlite::types::Value = row.get(at)?;
        match (name.as_str(), value) {
            ("first_seen" | "first_compared" | "last_compared", value) => {
                item.insert(name.clone(), time(&value));
            }
            ("seen", value) => {
                item.insert("last_seen".into(), time(&value));
            }
            ("hour", rusqlite::types::Value::Integer(hour)) => {
                let start = rusqlite::types::Value::Integer(hour.saturating_mul(super::HOUR_US));
                item.insert("hour".into(), time(&start));
            }
            (name, rusqlite::types::Value::Integer(n)) if Reason::named(name).is_some() => {
                if n > 0 {
                    reasons.insert(name.to_owned(), json!(n));
                }
            }
            (name, rusqlite::types::Value::Integer(n)) => {
                if matches!(name, "matched" | "tolerated" | "diverged") {
                    compared += n;
                }
                item.insert(name.to_owned(), json!(n));
            }
            (name, rusqlite::types::Value::Text(text)) => {
                item.insert(name.to_owned(), json!(text));
            }
            (name, _) => {
                item.insert(name.to_owned(), Value::Null);
            }
        }
    }
    item.insert("compared".into(), json!(compared));
    item.insert("not_compared".into(), Value::Object(reasons));
    Ok(Value::Object(item))
}

/// A time of the file; 0 is none, of rows that an earlier version wrote.
fn time(value: &rusqlite::types::Value) -> Value {
    match value {
        rusqlite::types::Value::Integer(at) => json!(timestamp(*at)),
        _ => Value::Null,
    }
}

fn timestamp(at: i64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(at)
        .ok()
        .filter(|_| at != 0)
}

/// The figures; shares are of what was seen since `since` (µs since 1970), statements are unsettled
/// from so many races on.
pub(in crate::ledger) fn evidence(
    connection: &Connection,
    since: i64,
    races: u64,
) -> rusqlite::Result<Evidence> {
    let mut evidence = Evidence {
        window: sum(connection, since)?,
        ever: sum(connection, 0)?,
        ..Evidence::default()
    };
    connection.query_row(
        &format!(
            "SELECT min(first_compared), max(last_compared), coalesce(sum({COMPARED} > 0), 0),
               coalesce(sum(seconds), 0) FROM traffic_hours"
        ),
        (),
        |row| {
            let time = |at: Option<i64>| at.and_then(timestamp);
            evidence.first_compared = time(row.get(0)?);
            evidence.last_compared = time(row.get(1)?);
            evidence.hours = unsigned(row.get(2)?);
            evidence.seconds = unsigned(row.get(3)?);
            Ok(())
        },
    )?;
    evidence.lost = unsigned(connection.query_row(
        "SELECT coalesce(sum(lost), 0) FROM traffic_hours WHERE hour >= ?1",
        [since.div_euclid(super::HOUR_US)],
        |row| row.get(0),
    )?);
    let never = format!("{COMPARED} = 0");
    let shapes = "fingerprint <> '' AND seen >= ?1";
    let shape = "fingerprint";
    evidence.fingerprints = reach(connection, ("traffic", shape), (shapes, &never), since)?;
    let tables = "name <> '*' AND seen >= ?1";
    evidence.tables = reach(
        connection,
        ("traffic_tables", "name"),
        (tables, &never),
        since,
    )?;
    let unsettled = format!("{never} AND race >= {races}");
    evidence.unsettled = reach(connection, ("traffic", shape), (shapes, &unsettled), since)?;
    Ok(evidence)
}

/// What became of the commands since the hour of a time, in µs since 1970.
fn sum(connection: &Connection, since: i64) -> rusqlite::Result<Sum> {
    let all: Vec<String> = sums()
        .map(|name| format!("coalesce(sum(\"{name}\"), 0)"))
        .collect();
    let text = format!(
        "SELECT {} FROM traffic_hours WHERE hour >= ?1",
        all.join(", ")
    );
    let from = since.div_euclid(super::HOUR_US);
    connection.query_row(&text, [from], |row| {
        let mut sum = Sum::default();
        for (at, name) in sums().enumerate() {
            let count = unsigned(row.get(at)?);
            match (name, Reason::named(name)) {
                ("commands", _) => sum.commands = count,
                ("matched", _) => sum.matched = count,
                ("tolerated", _) => sum.tolerated = count,
                ("diverged", _) => sum.diverged = count,
                (_, Some(reason)) if count > 0 => {
                    sum.not_compared.insert(reason.name(), count);
                }
                _ => {}
            }
        }
        Ok(sum)
    })
}

/// How many rows of a table (with the name of its column of names) hold the first condition, and how
/// many of them the second one too.
fn reach(
    connection: &Connection,
    (table, name): (&str, &str),
    (all, never): (&str, &str),
    since: i64,
) -> rusqlite::Result<Reach> {
    let (count, lacking): (i64, i64) = connection.query_row(
        &format!("SELECT count(*), coalesce(sum({never}), 0) FROM {table} WHERE {all}"),
        [since],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {name} FROM {table} WHERE {all} AND {never} ORDER BY commands DESC, {name} LIMIT {NAMES_MAX}"
    ))?;
    let names = statement.query_map([since], |row| row.get(0))?;
    Ok(Reach {
        all: unsigned(count),
        never: unsigned(lacking),
        names: names.collect::<Result<_, _>>()?,
    })
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

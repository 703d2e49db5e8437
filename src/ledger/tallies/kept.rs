//! The tallies in the file: added up there, and folded where they are too many.

use super::super::redact::name;
use super::{Counts, Lacking, TABLES_MAX};
use crate::compare::verdict::Reason;
use rusqlite::types::Value as Sql;
use rusqlite::{Transaction, params_from_iter};
use std::borrow::Cow;
use std::fmt::Write as _;

/// A fingerprint's bytes at most; its digest is that of the whole.
const FINGERPRINT_BYTES_MAX: usize = 4 << 10;

/// The digest under which the tallies of statements that are let go are added up.
const OTHER: &str = "0000000000000000";

/// Hours that are kept: more than a year.
const HOURS_KEPT: i64 = 9_600;

/// The columns that are added up, every one a count of commands. Reasons stand under their names.
pub(super) fn sums() -> impl Iterator<Item = &'static str> {
    ["commands", "matched", "tolerated", "diverged"]
        .into_iter()
        .chain(Reason::ALL.map(Reason::name))
}

/// A text, cut to what is stored of a fingerprint.
pub(in crate::ledger) fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= FINGERPRINT_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let (kept, _) = text.split_at(text.floor_char_boundary(FINGERPRINT_BYTES_MAX));
    Cow::Owned(format!("{kept}…"))
}

/// One of the three tables.
struct Kept {
    name: &'static str,
    /// What a row is known by.
    keys: &'static [&'static str],
    /// What is set anew with each write.
    words: &'static [&'static str],
    /// What is added up beside the counts.
    more: &'static [&'static str],
}

const SHAPES: Kept = Kept {
    name: "traffic",
    keys: &["digest", "protocol"],
    words: &["fingerprint", "class"],
    more: &["earlier"],
};

const TABLES: Kept = Kept {
    name: "traffic_tables",
    keys: &["name"],
    words: &[],
    more: &[],
};

const HOURS: Kept = Kept {
    name: "traffic_hours",
    keys: &["hour"],
    words: &[],
    more: &["seconds", "lost"],
};

const TIMES: [&str; 4] = ["first_seen", "seen", "first_compared", "last_compared"];

impl Kept {
    /// All columns, in the order of [`row`].
    fn columns(&self) -> Vec<String> {
        let keys = self.keys.iter().chain(self.words).chain(self.more).copied();
        keys.chain(sums())
            .chain(TIMES)
            .map(|column| format!("\"{column}\""))
            .collect()
    }

    /// What is done where the row is there already.
    fn conflict(&self) -> String {
        let mut text = format!("ON CONFLICT ({}) DO UPDATE SET ", self.keys.join(", "));
        for name in self.words {
            let _ = write!(text, "{name} = excluded.{name}, ");
        }
        for name in self.more.iter().copied().chain(sums()) {
            let _ = write!(text, "\"{name}\" = \"{name}\" + excluded.\"{name}\", ");
        }
        text.push_str(
            "first_seen = min(coalesce(first_seen, excluded.first_seen), coalesce(excluded.first_seen, first_seen)),
             seen = max(seen, excluded.seen),
             first_compared = min(coalesce(first_compared, excluded.first_compared), coalesce(excluded.first_compared, first_compared)),
             last_compared = max(coalesce(last_compared, excluded.last_compared), coalesce(excluded.last_compared, last_compared))",
        );
        text
    }

    fn insert(&self) -> String {
        let columns = self.columns();
        let places = vec!["?"; columns.len()].join(", ");
        format!(
            "INSERT INTO {} ({}) VALUES ({places}) {}",
            self.name,
            columns.join(", "),
            self.conflict()
        )
    }

    /// Adds the least recently seen rows, past so many, to the row `other` (for the first key; the
    /// other keys stay), and lets them go. At most so many in one step.
    fn fold(
        &self,
        transaction: &Transaction<'_>,
        other: &str,
        most: i64,
        step: u32,
    ) -> rusqlite::Result<()> {
        let (name, keys) = (self.name, self.keys.join(", "));
        let first = self.keys.first().copied().unwrap_or_default();
        let surplus = format!(
            "FROM {name} WHERE {first} <> ?1 ORDER BY seen DESC, {first} LIMIT ?2 OFFSET ?3"
        );
        let more: Vec<&str> = self.keys.iter().skip(1).copied().collect();
        let mut values = vec!["?1".to_owned()];
        values.extend(more.iter().map(|&key| key.to_owned()));
        values.extend(self.words.iter().map(|_| "''".to_owned()));
        let added = self.more.iter().copied().chain(sums());
        values.extend(added.map(|name| format!("sum(\"{name}\")")));
        // What was let go was not seen now, so that the row is no news.
        values.extend(
            [
                "min(first_seen)",
                "0",
                "min(first_compared)",
                "max(last_compared)",
            ]
            .map(str::to_owned),
        );
        let group = if more.is_empty() {
            String::new()
        } else {
            format!("GROUP BY {}", more.join(", "))
        };
        let text = format!(
            "INSERT INTO {name} ({}) SELECT {} FROM (SELECT * {surplus}) WHERE true {group} HAVING count(*) > 0 {}",
            self.columns().join(", "),
            values.join(", "),
            self.conflict()
        );
        let bounds = (other, step, most);
        transaction.prepare_cached(&text)?.execute(bounds)?;
        transaction
            .prepare_cached(&format!(
                "DELETE FROM {name} WHERE ({keys}) IN (SELECT {keys} {surplus})"
            ))?
            .execute(bounds)
            .map(drop)
    }
}

/// Adds to the file what it lacks.
pub(in crate::ledger) fn store(
    transaction: &Transaction<'_>,
    lacking: &Lacking,
) -> rusqlite::Result<()> {
    let mut shapes = transaction.prepare_cached(&SHAPES.insert())?;
    for ((digest, protocol), shape) in &lacking.shapes {
        let keys = [
            Sql::Text(format!("{digest:016x}")),
            Sql::Text(protocol.name().to_owned()),
            Sql::Text(cut(&shape.fingerprint).into_owned()),
            Sql::Text(shape.class.name().to_owned()),
            // Only what an older file had counted was earlier.
            Sql::Integer(0),
        ];
        shapes.execute(params_from_iter(row(keys, &shape.counts)))?;
    }
    let mut tables = transaction.prepare_cached(&TABLES.insert())?;
    for (table, counts) in &lacking.tables {
        tables.execute(params_from_iter(row([Sql::Text(name(table))], counts)))?;
    }
    let mut hours = transaction.prepare_cached(&HOURS.insert())?;
    for (hour, tally) in &lacking.hours {
        let keys = [
            Sql::Integer(*hour),
            signed(tally.seconds),
            signed(tally.lost),
        ];
        hours.execute(params_from_iter(row(keys, &tally.counts)))?;
    }
    Ok(())
}

/// Lets go what is too much, at most so many rows of each table.
pub(in crate::ledger) fn prune(
    transaction: &Transaction<'_>,
    shapes_max: i64,
    step: u32,
) -> rusqlite::Result<()> {
    SHAPES.fold(transaction, OTHER, shapes_max, step)?;
    let tables_max = i64::try_from(TABLES_MAX).unwrap_or(i64::MAX);
    TABLES.fold(transaction, "*", tables_max, step)?;
    transaction
        .prepare_cached(
            "DELETE FROM traffic_hours WHERE hour IN (SELECT hour FROM traffic_hours ORDER BY hour DESC LIMIT ?2 OFFSET ?1)",
        )?
        .execute((HOURS_KEPT, step))
        .map(drop)
}

fn row(keys: impl IntoIterator<Item = Sql>, counts: &Counts) -> Vec<Sql> {
    let time = |time: Option<i64>| time.map_or(Sql::Null, Sql::Integer);
    let mut row: Vec<Sql> = keys.into_iter().collect();
    let verdicts = [
        counts.commands,
        counts.matched,
        counts.tolerated,
        counts.diverged,
    ];
    row.extend(verdicts.into_iter().chain(counts.not_compared).map(signed));
    row.extend([
        time(counts.seen.map(|(first, _)| first)),
        Sql::Integer(counts.seen.map_or(0, |(_, last)| last)),
        time(counts.compared.map(|(first, _)| first)),
        time(counts.compared.map(|(_, last)| last)),
    ]);
    row
}

fn signed(count: u64) -> Sql {
    Sql::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

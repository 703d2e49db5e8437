//! How a run stands: what is told of it while it runs, and kept when it has ended. Pure but for a lock.
//!
//! Each table says what was read on both sides and what was not covered: nothing is called equal that was
//! not read.

use super::plan::Way;
use super::rows::How;
use super::shape::{Difference, Weight};
use crate::sql::Table;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rows that are told one by one, of each table and of all.
const EXAMPLES_MAX: usize = 1_000;
const EXAMPLES_ALL_MAX: usize = 20_000;

/// What became of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All of it was read on both sides, and is the same.
    Equal,
    /// What was asked for was read and is the same; that was not all of it.
    EqualInPart,
    /// It differs.
    Different,
    /// Nothing different was found, and not all that was asked for was read, or settled.
    Unfinished,
}

impl Outcome {
    /// All of them.
    const ALL: [Self; 4] = [
        Self::Equal,
        Self::EqualInPart,
        Self::Different,
        Self::Unfinished,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::EqualInPart => "equal_in_part",
            Self::Different => "different",
            Self::Unfinished => "unfinished",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Where a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// It is walked.
    Walking,
    /// What looked different is looked at again.
    Settling,
    /// It is done.
    Done,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    /// How: `missing`, `extra`, `changed`, `twice`, `misplaced`, `clock`.
    pub(super) how: String,
    /// Its key; none where the ledger's literals are redacted.
    pub(super) key: Option<String>,
    /// The columns that differ.
    pub(super) columns: Vec<String>,
    /// What the primary has in the first of them; nothing where the ledger's literals are redacted.
    #[serde(default)]
    pub(super) primary: Vec<String>,
    /// And the shadow.
    #[serde(default)]
    pub(super) shadow: Vec<String>,
    /// The statement that would repair it, where that was asked for.
    #[serde(default)]
    pub(super) repair: Option<String>,
    /// What became of the repair.
    #[serde(default)]
    pub(super) repaired: Option<String>,
}

impl Found {
    /// Without its values.
    #[must_use]
    pub(super) fn redacted(self) -> Self {
        Self {
            key: None,
            primary: Vec::new(),
            shadow: Vec::new(),
            ..self
        }
    }
}

/// Rows that differ, by how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// By the word for how.
    #[serde(flatten)]
    pub(super) rows: BTreeMap<String, u64>,
}

impl Tally {
    /// So many rows more.
    pub(super) fn add(&mut self, how: How, rows: u64) {
        if rows > 0 {
            *self.rows.entry(how.name().to_owned()).or_default() += rows;
        }
    }

    /// All of them.
    #[must_use]
    pub(super) fn sum(&self) -> u64 {
        self.rows.values().sum()
    }
}

/// A table of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Standing {
    /// Its database, by the primary's name for it.
    pub(super) database: String,
    /// Its name.
    pub(super) table: String,
    /// Where it is.
    pub(super) stage: Stage,
    /// What became of it; none while it lasts.
    pub(super) outcome: Option<Outcome>,
    /// Why, where there is something to say.
    pub(super) why: Option<String>,
    /// How it is gone through: `ranges`, `lookups`, `buckets`.
    pub(super) way: Option<&'static str>,
    /// Rows that were read on the primary.
    pub(super) rows_primary: u64,
    /// Rows that were read on the shadow.
    pub(super) rows_shadow: u64,
    /// Rows that the primary thinks it has.
    pub(super) rows_expected: Option<u64>,
    /// Rows that differ.
    pub(super) differences: Tally,
    /// Rows that did not stay the same for long enough to be judged.
    pub(super) unsettled: u64,
    /// Rows that looked different and were found to be the same.
    pub(super) settled: u64,
    /// Where the definitions differ.
    pub(super) schema: Vec<Difference>,
    /// What was not compared.
    pub(super) not_covered: Vec<String>,
    /// The first rows that differ.
    pub(super) rows: Vec<Found>,
    /// Rows that were repaired.
    pub(super) repaired: u64,
    /// When its walk began.
    pub(super) started: Option<jiff::Timestamp>,
    /// When it ended.
    pub(super) ended: Option<jiff::Timestamp>,
}

impl Standing {
    /// A table whose turn has not come.
    #[must_use]
    pub(super) fn waiting(table: &Table) -> Self {
        Self {
            database: table.database.clone().unwrap_or_default(),
            table: table.name.clone(),
            ..Self::default()
        }
    }

    /// As it is kept in its record: the rows that differ stand beside it.
    #[must_use]
    pub(super) fn without_rows(&self) -> Self {
        Self {
            rows: Vec::new(),
            ..self.clone()
        }
    }

    /// Nothing of it was read.
    pub(super) fn begin_anew(&mut self) {
        self.stage = Stage::Walking;
        (self.rows_primary, self.rows_shadow) = (0, 0);
        (self.unsettled, self.settled, self.repaired) = (0, 0, 0);
        self.differences = Tally::default();
        self.rows.clear();
        self.why = None;
    }

    /// Takes over what a record tells of a table that has ended.
    pub(super) fn recall(&mut self, kept: &serde_json::Value) {
        let number = |key: &str| {
            kept.get(key)
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0)
        };
        self.rows_primary = number("rows_primary");
        self.rows_shadow = number("rows_shadow");
        self.unsettled = number("unsettled");
        self.settled = number("settled");
        self.repaired = number("repaired");
        let differences = kept.get("differences").cloned().unwrap_or_default();
        self.differences = serde_json::from_value(differences).unwrap_or_default();
        let texts = |key: &str| serde_json::from_value(kept.get(key).cloned().unwrap_or_default());
        self.not_covered = texts("not_covered").unwrap_or_default();
        self.schema = serde_json::from_value(kept.get("schema").cloned().unwrap_or_default())
            .unwrap_or_default();
        let text = |key: &str| kept.get(key).and_then(serde_json::Value::as_str);
        self.why = text("why").map(str::to_owned);
        self.way = text("way").and_then(Way::named).map(Way::name);
        self.ended = text("ended").and_then(|at| at.parse().ok());
    }

    /// Whether anything differs.
    #[must_use]
    pub(super) fn differs(&self) -> bool {
        self.differences.sum() > self.repaired
            || self.schema.iter().any(|one| one.weight == Weight::Differs)
    }

    /// Whether nothing differs but moments, as the mirror's own may.
    #[must_use]
    pub(super) fn is_clock(&self) -> bool {
        let clock = self.differences.rows.get(How::Clock.name()).copied();
        let mut schema = self.schema.iter();
        clock.is_some_and(|rows| rows == self.differences.sum() && rows > self.repaired)
            && !schema.any(|one| one.weight == Weight::Differs)
    }

    /// What became of it, once all that was asked for was read (or not: `fault` says why), of the whole table or
    /// of a part of it.
    #[must_use]
    pub(super) fn judged(&self, fault: bool, is_whole: bool) -> Outcome {
        if self.differs() {
            Outcome::Different
        } else if fault || self.unsettled > 0 {
            Outcome::Unfinished
        } else if is_whole && self.not_covered.is_empty() {
            Outcome::Equal
        } else {
            Outcome::EqualInPart
        }
    }
}

/// Every table of a run.
#[derive(Debug, Default)]
pub(super) struct Board {
    tables: Mutex<Vec<Standing>>,
}

impl Board {
    /// Changes how one stands.
    pub(super) fn set<T>(&self, at: usize, change: impl FnOnce(&mut Standing) -> T) -> Option<T> {
        self.tables.lock().get_mut(at).map(change)
    }

    /// One table more, or another one in its place.
    pub(super) fn put(&self, at: usize, standing: Standing) {
        let mut tables = self.tables.lock();
        match tables.get_mut(at) {
            Some(known) => *known = standing,
            None => tables.push(standing),
        }
    }

    /// How one stands.
    #[must_use]
    pub(super) fn get(&self, at: usize) -> Option<Standing> {
        self.tables.lock().get(at).cloned()
    }

    /// How all of them stand.
    #[must_use]
    pub(super) fn all(&self) -> Vec<Standing> {
        self.tables.lock().clone()
    }

    /// Rows that differ and were not repaired, and how many tables have come to which outcome.
    #[must_use]
    pub(super) fn counts(&self) -> (u64, [(&'static str, u64); 5]) {
        let tables = self.tables.lock();
        let different = tables
            .iter()
            .map(|one| one.differences.sum().saturating_sub(one.repaired));
        let of = |outcome| tables.iter().filter(|one| one.outcome == outcome).count() as u64;
        let ended = Outcome::ALL.map(|one| (one.name(), of(Some(one))));
        let [equal, in_part, differ, unfinished] = ended;
        let pending = ("pending", of(None));
        (
            different.sum(),
            [pending, equal, in_part, differ, unfinished],
        )
    }

    /// Rows more of a table that may be told one by one.
    #[must_use]
    pub(super) fn room(&self, at: usize) -> usize {
        let tables = self.tables.lock();
        let told = |standing: &Standing| standing.rows.len();
        let of_it = EXAMPLES_MAX.saturating_sub(tables.get(at).map_or(0, told));
        let all: usize = tables.iter().map(told).sum();
        of_it.min(EXAMPLES_ALL_MAX.saturating_sub(all))
    }

    /// Rows that were read, and that are to be read, on the primary.
    #[must_use]
    pub(super) fn rows(&self) -> (u64, u64) {
        let tables = self.tables.lock();
        let read = tables.iter().map(|table| table.rows_primary).sum();
        let all = tables.iter().map(|table| match table.outcome {
            Some(_) => table.rows_primary,
            None => table.rows_expected.unwrap_or(0).max(table.rows_primary),
        });
        (read, all.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(change: impl FnOnce(&mut Standing)) -> Standing {
        let mut standing = Standing::default();
        change(&mut standing);
        standing
    }

    #[test]
    fn nothing_is_equal_that_was_not_read() {
        let clean = standing(|_| ());
        assert_eq!(clean.judged(false, true), Outcome::Equal);
        assert_eq!(clean.judged(false, false), Outcome::EqualInPart);
        assert_eq!(clean.judged(true, true), Outcome::Unfinished);
        let uncovered = standing(|one| one.not_covered.push("the column x".into()));
        assert_eq!(uncovered.judged(false, true), Outcome::EqualInPart);
        let unsettled = standing(|one| one.unsettled = 1);
        assert_eq!(unsettled.judged(false, true), Outcome::Unfinished);
        let missing = standing(|one| one.differences.add(How::Missing, 1));
        assert_eq!(missing.judged(true, false), Outcome::Different);
    }

    #[test]
    fn what_the_clock_made_differs_and_is_told_apart() {
        let clock = standing(|one| one.differences.add(How::Clock, 3));
        assert_eq!(clock.judged(false, true), Outcome::Different);
        assert!(clock.is_clock());
        let changed = standing(|one| {
            one.differences.add(How::Clock, 3);
            one.differences.add(How::Changed, 1);
        });
        assert!(!changed.is_clock() && !Standing::default().is_clock());
        let repaired = standing(|one| {
            one.differences.add(How::Clock, 3);
            one.repaired = 3;
        });
        assert!(!repaired.is_clock() && !repaired.differs());
    }

    #[test]
    fn a_note_is_no_difference() {
        let with = |weight| {
            standing(|one| {
                let said = String::new();
                one.schema.push(Difference {
                    weight,
                    what: "collation".into(),
                    said,
                });
            })
        };
        assert!(!with(Weight::Note).differs());
        assert!(with(Weight::Differs).differs());
    }

    #[test]
    fn every_outcome_has_its_word() {
        for one in [
            Outcome::Equal,
            Outcome::EqualInPart,
            Outcome::Different,
            Outcome::Unfinished,
        ] {
            assert_eq!(Outcome::named(one.name()), Some(one));
            assert_eq!(serde_json::json!(one), one.name());
        }
    }
}

//! What an operator asks for, as it was written and as it is meant. Pure.

use super::gate::By;
use super::value;
use crate::sql::Table;
use serde::{Deserialize, Serialize};

/// Tables that may be named.
const PATTERNS_MAX: usize = 1_000;

/// Tables at a time.
pub const JOBS_MAX: usize = 16;

/// The longest condition, in bytes.
const CONDITION_BYTES_MAX: usize = 16 << 10;

/// A wish as it is written: the API's body.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wish {
    /// `a.b`, `c.*`, `b` (in any database); none for all.
    pub tables: Vec<String>,
    /// `chunks` or `snapshot`.
    pub mode: Option<String>,
    /// In mode snapshot: the primary locks each table for a moment, so that writers past this proxy stand still too.
    pub lock: bool,
    /// `1%`, or a share from 0 to 1.
    pub sample: Option<String>,
    /// A condition that both servers understand.
    #[serde(rename = "where")]
    pub condition: Option<String>,
    /// The rows that this finding touched, or its tables where its statements do not say which: instead of tables and
    /// condition.
    pub finding: Option<i64>,
    /// Tables at a time.
    pub jobs: Option<usize>,
    /// Rows a second at most, both sides together.
    pub rows_per_second: Option<u64>,
    /// `plan` or `apply`.
    pub repair: Option<String>,
    /// Repair although replication feeds the shadow, or others are seen to write past this proxy.
    pub force: bool,
}

/// How two servers are compared that are written to meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Range by range, each as it is by then; what looks different is looked at again until it stays so.
    #[default]
    Chunks,
    /// As both were at one instant, for which sessions are held for a moment.
    Snapshot,
}

/// What becomes of a difference that was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// It is told.
    #[default]
    None,
    /// It is told with the statement that would repair it.
    Plan,
    /// It is repaired.
    Apply,
}

/// A wish as it is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Meant {
    /// See [`Wish::tables`].
    pub tables: Vec<Pattern>,
    /// See [`Wish::mode`].
    pub mode: Mode,
    /// See [`Wish::lock`].
    pub by: By,
    /// The share of ranges that is read.
    pub sample: f64,
    /// See [`Wish::condition`].
    pub condition: Option<String>,
    /// See [`Wish::jobs`].
    pub jobs: Option<usize>,
    /// See [`Wish::rows_per_second`].
    pub rows_per_second: Option<u64>,
    /// What becomes of differences.
    pub repair: Repair,
    /// See [`Wish::force`].
    pub force: bool,
}

/// A wish that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub String);

/// Tables by their names, `*` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    database: Option<String>,
    name: String,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let (database, name) = match text.split_once('.') {
            Some((database, name)) => (Some(database.to_owned()), name.to_owned()),
            None => (None, text.to_owned()),
        };
        if name.is_empty() || database.as_ref().is_some_and(String::is_empty) {
            return Err(Wrong(format!(
                "tables: {text:?} names no table; write database.table, database.* or table"
            )));
        }
        Ok(Self { database, name })
    }

    fn takes(&self, table: &Table) -> bool {
        let database = self.database.as_deref().unwrap_or("*");
        matches(database, table.database.as_deref().unwrap_or_default())
            && matches(&self.name, &table.name)
    }
}

/// Whether a name is as a pattern says, in whatever case; `*` stands for any characters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else {
            return false;
        };
        rest = behind;
    }
    rest.ends_with(last)
}

impl Wish {
    /// What is meant.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn meant(&self) -> Result<Meant, Wrong> {
        let mode = match self.mode.as_deref() {
            None | Some("chunks") => Mode::Chunks,
            Some("snapshot") => Mode::Snapshot,
            Some(other) => {
                return Err(Wrong(format!(
                    "mode: there is no mode {other:?}; write \"chunks\" or \"snapshot\""
                )));
            }
        };
        let by = if self.lock { By::Lock } else { By::Gate };
        if self.lock && mode != Mode::Snapshot {
            let wrong = "lock: tables are locked for an instant of mode snapshot alone; write mode \"snapshot\" beside it";
            return Err(Wrong(wrong.to_owned()));
        }
        if self.tables.len() > PATTERNS_MAX {
            return Err(Wrong(format!(
                "tables: more than {PATTERNS_MAX} names; write patterns, such as app.*"
            )));
        }
        let tables: Result<Vec<Pattern>, Wrong> =
            self.tables.iter().map(|one| Pattern::parse(one)).collect();
        let jobs = self.jobs;
        if jobs.is_some_and(|jobs| jobs == 0 || jobs > JOBS_MAX) {
            return Err(Wrong(format!(
                "jobs: 1 to {JOBS_MAX} tables can be walked at a time"
            )));
        }
        let condition = self
            .condition
            .clone()
            .filter(|text| !text.trim().is_empty());
        if let Some(condition) = &condition {
            sound(condition)?;
        }
        let repair = match self.repair.as_deref() {
            None => Repair::None,
            Some("plan") => Repair::Plan,
            Some("apply") => Repair::Apply,
            Some(other) => {
                return Err(Wrong(format!(
                    "repair: there is no {other:?}; write \"plan\" or \"apply\""
                )));
            }
        };
        Ok(Meant {
            tables: tables?,
            mode,
            by,
            sample: self.sample.as_deref().map_or(Ok(1.0), share)?,
            condition,
            jobs,
            rows_per_second: self.rows_per_second.filter(|rows| *rows > 0),
            repair,
            force: self.force,
        })
    }
}

/// It stands in brackets in a statement, which it must not leave.
fn sound(condition: &str) -> Result<(), Wrong> {
    let wrong = |why: &str| Err(Wrong(format!("where: {why}")));
    if condition.len() > CONDITION_BYTES_MAX {
        return wrong("the condition is longer than 16 KiB");
    }
    if condition.contains(';')
        || condition.contains("--")
        || condition.contains("/*")
        || condition.contains('#')
    {
        return wrong("write one condition, without ; and without comments");
    }
    let mut open = 0_i64;
    let mut quote = None;
    for c in condition.chars() {
        match (quote, c) {
            (None, '\'' | '"' | '`') => quote = Some(c),
            (Some(one), c) if one == c => quote = None,
            (_, '\\') => return wrong("write it without backslashes"),
            (None, '(') => open += 1,
            (None, ')') => open -= 1,
            _ => {}
        }
        if open < 0 {
            return wrong("a bracket is closed that was not opened");
        }
    }
    if open != 0 || quote.is_some() {
        return wrong("a bracket or a quote is not closed");
    }
    Ok(())
}

fn share(text: &str) -> Result<f64, Wrong> {
    let wrong = || {
        Wrong(format!(
            "sample: {text:?} is no share; write 1%, or a number from 0 to 1"
        ))
    };
    let (number, whole) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text.trim(), 1.0),
    };
    let share = number.trim().parse::<f64>().map_err(|_| wrong())? / whole;
    if share > 0.0 && share <= 1.0 {
        Ok(share)
    } else {
        Err(wrong())
    }
}

impl Meant {
    /// Whether a table is asked for.
    #[must_use]
    pub fn takes(&self, table: &Table) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|pattern| pattern.takes(table))
    }

    /// Whether a table is asked for by its own name.
    #[must_use]
    pub fn names(&self, table: &Table) -> bool {
        let named = |pattern: &Pattern| !pattern.name.contains('*') && pattern.takes(table);
        self.tables.iter().any(named)
    }

    /// The databases of which whatever there is is asked for: as patterns; none where single tables are.
    #[must_use]
    pub fn databases(&self) -> Vec<&str> {
        if self.tables.is_empty() {
            return vec!["*"];
        }
        let wide = self.tables.iter().filter(|one| one.name.contains('*'));
        wide.map(|one| one.database.as_deref().unwrap_or("*"))
            .collect()
    }

    /// What names one table, and takes none of these.
    #[must_use]
    pub fn unmet(&self, tables: &[Table]) -> Vec<String> {
        let single = self.tables.iter().filter(|one| !one.name.contains('*'));
        let unmet = single.filter(|one| !tables.iter().any(|table| one.takes(table)));
        let told = |one: &Pattern| match &one.database {
            Some(database) => format!("{database}.{}", one.name),
            None => one.name.clone(),
        };
        unmet.map(told).collect()
    }

    /// Whether all rows of the tables are asked for.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.sample >= 1.0 && self.condition.is_none()
    }

    /// Whether a range is in the sample: a die that falls the same way whenever it is thrown for this range of
    /// this run.
    #[must_use]
    pub fn samples(&self, run: i64, table: &Table, range: u64) -> bool {
        if self.sample >= 1.0 {
            return true;
        }
        let thrown = format!("{run} {:?} {} {range}", table.database, table.name);
        let thrown =
            u32::try_from(value::digest(thrown.as_bytes()) & u128::from(u32::MAX)).unwrap_or(0);
        f64::from(thrown) / f64::from(u32::MAX) < self.sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(change: impl FnOnce(&mut Wish)) -> Result<Meant, Wrong> {
        let mut wish = Wish::default();
        change(&mut wish);
        wish.meant()
    }

    fn table(database: &str, name: &str) -> Table {
        Table {
            database: Some(database.into()),
            name: name.into(),
        }
    }

    #[test]
    fn tables_are_named_by_patterns() {
        let meant = wish(|wish| {
            wish.tables = ["a.b", "c.*", "sbtest*", "d.x*y*z"]
                .map(str::to_owned)
                .into()
        })
        .unwrap();
        for (database, name, taken) in [
            ("a", "b", true),
            ("A", "B", true),
            ("a", "bb", false),
            ("c", "anything", true),
            ("z", "sbtest12", true),
            ("z", "sbtes", false),
            ("d", "x1y2z", true),
            ("d", "xz", false),
        ] {
            assert_eq!(
                meant.takes(&table(database, name)),
                taken,
                "{database}.{name}"
            );
        }
        assert!(wish(|_| ()).unwrap().takes(&table("any", "thing")));
        assert!(wish(|wish| wish.tables = vec!["a.".into()]).is_err());
    }

    #[test]
    fn a_sample_is_a_share() {
        let share =
            |text: &str| wish(|wish| wish.sample = Some(text.into())).map(|meant| meant.sample);
        assert_eq!(share("1%"), Ok(0.01));
        assert_eq!(share("0.5"), Ok(0.5));
        for wrong in ["0", "2", "101%", "x", "", "-1%", "nan"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_die_falls_as_often_as_it_should_and_always_the_same_way() {
        let meant = wish(|wish| wish.sample = Some("10%".into())).unwrap();
        let (run, table) = (7, table("a", "b"));
        let all: Vec<bool> = (0..10_000)
            .map(|range| meant.samples(run, &table, range))
            .collect();
        let taken = all.iter().filter(|taken| **taken).count();
        assert!((800..1200).contains(&taken), "{taken}");
        assert_eq!(all[5], meant.samples(run, &table, 5));
    }

    #[test]
    fn a_condition_stays_a_condition() {
        let ok = |text: &str| wish(|wish| wish.condition = Some(text.into())).is_ok();
        assert!(ok("a > 1 AND (b = 'x)' OR c IN (1, 2))"));
        for wrong in [
            "1) OR (1",
            "a = 'x",
            "1; DROP TABLE t",
            "1 -- x",
            "1 /* x */",
            "a = '\\'",
        ] {
            assert!(!ok(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let refused = wish(|wish| wish.mode = Some("tables".into())).unwrap_err();
        assert!(refused.0.contains("no mode \"tables\""), "{refused}");
        assert!(wish(|wish| wish.repair = Some("both".into())).is_err());
        let refused = wish(|wish| wish.lock = true).unwrap_err();
        assert!(refused.0.contains("mode \"snapshot\""), "{refused}");
        let locks = |wish: &mut Wish| (wish.lock, wish.mode) = (true, Some("snapshot".into()));
        assert_eq!(wish(locks).unwrap().by, By::Lock);
        assert!(wish(|wish| wish.jobs = Some(0)).is_err());
    }
}

//! What became of the commands of each statement, on each table and in each hour: what readiness and
//! coverage are read from. Small tables between the shadow side and the store; what could not be
//! stored is given back and waits here.
//!
//! Memory has what the file lacks, and the file has the rest, so that evidence outlives restarts. Both
//! are bounded: what has no place of its own is added up under the digest 0 or the table `*`.

pub(super) mod asked;
pub(super) mod kept;

use super::observation::{Observation, Protocol};
use crate::compare::verdict::{Reason, Verdict};
use crate::sql::{Class, Table};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// After so many commands the tallies go to the store, though not within so many µs, and without
/// them after so many.
const STORE_EVERY: u64 = 1000;
const STORE_PAUSE_US: i64 = 1_000_000;
const STORE_AFTER_US: i64 = 10_000_000;

/// Tables that are counted apart.
pub(super) const TABLES_MAX: usize = 10_000;

/// Hours that wait for the store: more than a file is ever locked for.
const HOURS_MAX: usize = 1_000;

/// An hour in µs.
pub(super) const HOUR_US: i64 = 3_600_000_000;

/// What became of some commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) commands: u64,
    pub(super) matched: u64,
    pub(super) tolerated: u64,
    pub(super) diverged: u64,
    pub(super) not_compared: [u64; Reason::ALL.len()],
    /// When the first and the last of them ended, in µs since 1970.
    pub(super) seen: Option<(i64, i64)>,
    /// The same of those that were compared.
    pub(super) compared: Option<(i64, i64)>,
}

impl Counts {
    fn count(&mut self, verdict: &Verdict, at: i64) {
        self.commands += 1;
        widen(&mut self.seen, (at, at));
        match verdict {
            Verdict::Match => self.matched += 1,
            Verdict::Tolerated(_) => self.tolerated += 1,
            Verdict::Diverged(_) => self.diverged += 1,
            Verdict::NotCompared(reason) => {
                if let Some(count) = self.not_compared.get_mut(*reason as usize) {
                    *count += 1;
                }
                return;
            }
        }
        widen(&mut self.compared, (at, at));
    }

    /// So many, not compared for this reason, at this time.
    fn not_compared(count: u64, reason: Reason, at: i64) -> Self {
        let mut counts = Self {
            commands: count,
            seen: Some((at, at)),
            ..Self::default()
        };
        if let Some(of_reason) = counts.not_compared.get_mut(reason as usize) {
            *of_reason = count;
        }
        counts
    }

    fn add(&mut self, other: &Self) {
        self.commands += other.commands;
        self.matched += other.matched;
        self.tolerated += other.tolerated;
        self.diverged += other.diverged;
        for (at, count) in self.not_compared.iter_mut().enumerate() {
            *count += other.not_compared.get(at).copied().unwrap_or_default();
        }
        for (own, others) in [
            (&mut self.seen, other.seen),
            (&mut self.compared, other.compared),
        ] {
            if let Some(span) = others {
                widen(own, span);
            }
        }
    }
}

/// A span of time that takes in another one.
fn widen(span: &mut Option<(i64, i64)>, (from, to): (i64, i64)) {
    *span = Some(match *span {
        Some((first, last)) => (first.min(from), last.max(to)),
        None => (from, to),
    });
}

/// A statement's tally.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) fingerprint: Arc<str>,
    pub(super) class: Class,
    pub(super) counts: Counts,
}

/// An hour's tally.
#[derive(Clone, Debug, Default)]
pub(super) struct Hour {
    pub(super) counts: Counts,
    /// Seconds of it in which something was compared.
    pub(super) seconds: u64,
    /// Divergences of it that could not be kept.
    pub(super) lost: u64,
}

/// What was lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Commands that never reached the ledger.
    pub(super) commands: u64,
    /// Commands that passed by unobserved.
    pub(super) passed: u64,
    /// Divergences that could not be kept.
    pub(super) divergences: u64,
}

/// Tallies that the store lacks.
#[derive(Clone, Debug, Default)]
pub(super) struct Lacking {
    /// By digest and protocol; under the digest 0 those without a place.
    pub(super) shapes: BTreeMap<(u64, Protocol), Shape>,
    /// By table; `*` for those without a place.
    pub(super) tables: BTreeMap<Table, Counts>,
    /// By hours since 1970.
    pub(super) hours: BTreeMap<i64, Hour>,
}

impl Lacking {
    pub(super) fn is_empty(&self) -> bool {
        self.shapes.is_empty() && self.hours.is_empty()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tallies {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lacking: Lacking,
    /// Commands since the store was last told.
    since_told: u64,
    /// When it was, in µs since 1970.
    told: i64,
    /// The last second in which something was compared.
    second: i64,
    /// What was lost and is in the tallies.
    lost: Lost,
}

impl Tallies {
    /// Tallies of at most so many statements at once.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            inner: Mutex::default(),
        }
    }

    /// Counts one command; whether it is time to tell the store.
    pub(super) fn count(&self, observation: &Observation) -> bool {
        let at = observation.at.as_microsecond();
        let mut inner = self.inner.lock();
        inner.count_shape(self.most, observation, at);
        for table in observation.tables.iter().filter(|one| !one.name.is_empty()) {
            inner.count_table(table, |counts| counts.count(&observation.verdict, at));
        }
        inner.hour(&observation.verdict, at);
        inner.since_told += 1;
        let age = at.saturating_sub(inner.told);
        let many = inner.since_told >= STORE_EVERY && age >= STORE_PAUSE_US;
        // Where the clock was set back, nobody knows how long ago that was.
        let tells = many || !(0..STORE_AFTER_US).contains(&age);
        if tells {
            (inner.since_told, inner.told) = (0, at);
        }
        tells
    }

    /// Counts what was lost since the last time as of this hour: of that nothing else was tallied.
    /// The totals are those since the start.
    pub(super) fn lose(&self, total: Lost, at: i64) {
        let mut inner = self.inner.lock();
        let before = inner.lost;
        let commands = total.commands.saturating_sub(before.commands);
        let divergences = total.divergences.saturating_sub(before.divergences);
        let passed = total.passed.saturating_sub(before.passed);
        if commands == 0 && passed == 0 && divergences == 0 {
            return;
        }
        let Some(hour) = inner.hour_of(at.div_euclid(HOUR_US)) else {
            return;
        };
        hour.lost += divergences;
        for (count, reason) in [(commands, Reason::Dropped), (passed, Reason::Off)] {
            if count > 0 {
                hour.counts.add(&Counts::not_compared(count, reason, at));
            }
        }
        inner.lost = Lost {
            commands: before.commands + commands,
            passed: before.passed + passed,
            divergences: before.divergences + divergences,
        };
    }

    /// What has not been stored yet.
    pub(super) fn take(&self) -> Lacking {
        std::mem::take(&mut self.inner.lock().lacking)
    }

    /// It could not be stored.
    pub(super) fn give_back(&self, lacking: Lacking) {
        let mut inner = self.inner.lock();
        for ((digest, protocol), shape) in lacking.shapes {
            let (key, own) = inner.place(self.most, digest, protocol);
            inner
                .lacking
                .shapes
                .entry(key)
                .or_insert_with(|| Shape::named(own.then_some(&shape.fingerprint), shape.class))
                .counts
                .add(&shape.counts);
        }
        for (table, counts) in lacking.tables {
            inner.count_table(&table, |own| own.add(&counts));
        }
        for (hour, tally) in lacking.hours {
            if let Some(own) = inner.hour_of(hour) {
                own.counts.add(&tally.counts);
                own.seconds += tally.seconds;
                own.lost += tally.lost;
            }
        }
    }
}

impl Shape {
    /// A tally without commands; `None` for that of all statements without a place.
    fn named(fingerprint: Option<&Arc<str>>, class: Class) -> Self {
        Self {
            fingerprint: fingerprint.map_or_else(|| Arc::from(""), Arc::clone),
            class: if fingerprint.is_some() {
                class
            } else {
                Class::Empty
            },
            counts: Counts::default(),
        }
    }
}

impl Inner {
    /// Under which key a statement counts, and whether that is its own.
    fn place(&self, most: usize, digest: u64, protocol: Protocol) -> ((u64, Protocol), bool) {
        let key = (digest, protocol);
        let shapes = &self.lacking.shapes;
        let own = digest != 0 && (shapes.len() < most || shapes.contains_key(&key));
        (if own { key } else { (0, protocol) }, own)
    }

    /// Nearly every statement has been counted before: then it is found by one look.
    fn count_shape(&mut self, most: usize, of: &Observation, at: i64) {
        let known = self.lacking.shapes.get_mut(&(of.digest, of.protocol));
        if let Some(shape) = known.filter(|_| of.digest != 0) {
            return shape.counts.count(&of.verdict, at);
        }
        let (key, own) = self.place(most, of.digest, of.protocol);
        let named = || Shape::named(own.then_some(&of.fingerprint), of.class);
        let shape = self.lacking.shapes.entry(key).or_insert_with(named);
        shape.counts.count(&of.verdict, at);
    }

    /// Counts for a table; likewise.
    fn count_table(&mut self, table: &Table, count: impl FnOnce(&mut Counts)) {
        let tables = &mut self.lacking.tables;
        if let Some(known) = tables.get_mut(table) {
            return count(known);
        }
        let key = if tables.len() < TABLES_MAX {
            table.clone()
        } else {
            Table {
                database: None,
                name: "*".to_owned(),
            }
        };
        count(tables.entry(key).or_default());
    }

    fn hour(&mut self, verdict: &Verdict, at: i64) {
        let second = at.div_euclid(1_000_000);
        let compared = !matches!(verdict, Verdict::NotCompared(_));
        let new = compared && second > self.second;
        if new {
            self.second = second;
        }
        if let Some(hour) = self.hour_of(at.div_euclid(HOUR_US)) {
            hour.counts.count(verdict, at);
            hour.seconds += u64::from(new);
        }
    }

    /// An hour's tally; `None` where the file could not be written for weeks.
    fn hour_of(&mut self, hour: i64) -> Option<&mut Hour> {
        let hours = &mut self.lacking.hours;
        let fits = hours.len() < HOURS_MAX || hours.contains_key(&hour);
        fits.then(|| hours.entry(hour).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{diverged, observation};
    use super::*;

    fn race() -> Verdict {
        Verdict::NotCompared(Reason::Race)
    }

    #[test]
    fn a_command_counts_for_its_statement_each_of_its_tables_and_its_hour() {
        let tallies = Tallies::new(10);
        tallies.count(&observation("a", Verdict::Match));
        tallies.count(&observation("a", race()));
        tallies.count(&diverged("b"));
        let lacking = tallies.take();
        let a = lacking.shapes.values().find(|one| &*one.fingerprint == "a");
        let counts = &a.expect("it is counted").counts;
        assert_eq!(
            (counts.commands, counts.matched, counts.diverged),
            (2, 1, 0)
        );
        assert_eq!(counts.not_compared[Reason::Race as usize], 1);
        let table = lacking.tables.values().next().expect("a table");
        assert_eq!((table.commands, table.matched, table.diverged), (3, 1, 1));
        let hours: u64 = lacking.hours.values().map(|one| one.counts.commands).sum();
        assert_eq!(hours, 3);
        assert!(tallies.take().is_empty());
    }

    #[test]
    fn what_was_only_seen_was_not_compared() {
        let tallies = Tallies::new(10);
        tallies.count(&observation("a", race()));
        let shape = tallies.take().shapes.into_values().next();
        let counts = shape.expect("it is counted").counts;
        assert!(counts.seen.is_some() && counts.compared.is_none());
    }

    #[test]
    fn statements_without_a_place_count_together() {
        let tallies = Tallies::new(2);
        for shape in ["a", "b", "c", "d", "a"] {
            tallies.count(&observation(shape, Verdict::Match));
        }
        let lacking = tallies.take();
        let other = &lacking.shapes[&(0, Protocol::Text)];
        assert_eq!((&*other.fingerprint, other.counts.commands), ("", 2));
        assert_eq!(lacking.shapes.len(), 3);
    }

    #[test]
    fn what_could_not_be_stored_counts_once_all_the_same() {
        let tallies = Tallies::new(10);
        tallies.count(&observation("a", Verdict::Match));
        let lacking = tallies.take();
        tallies.count(&observation("a", race()));
        tallies.give_back(lacking);
        let lacking = tallies.take();
        let shape = lacking.shapes.values().next().expect("it is counted");
        assert_eq!((shape.counts.commands, shape.counts.matched), (2, 1));
        assert_eq!(&*shape.fingerprint, "a");
    }

    #[test]
    fn a_second_in_which_something_was_compared_counts_once() {
        let tallies = Tallies::new(10);
        for (at, verdict) in [
            (0, race()),
            (1, Verdict::Match),
            (1, Verdict::Match),
            (3, Verdict::Match),
        ] {
            let mut one = observation("a", verdict);
            one.at = jiff::Timestamp::from_second(7200 + at).expect("a time");
            tallies.count(&one);
        }
        assert_eq!(tallies.take().hours[&2].seconds, 2);
    }

    #[test]
    fn what_was_lost_is_counted_once_in_the_hour_in_which_it_was() {
        let tallies = Tallies::new(10);
        let lost = |commands, divergences| Lost {
            commands,
            passed: 2 * commands,
            divergences,
        };
        tallies.lose(lost(3, 1), 0);
        tallies.lose(lost(3, 1), HOUR_US);
        tallies.lose(lost(5, 2), HOUR_US);
        let lacking = tallies.take();
        assert!(!lacking.is_empty(), "it is to be stored");
        let of = |hour: i64| {
            let tally = &lacking.hours[&hour];
            let of = |reason: Reason| tally.counts.not_compared[reason as usize];
            let (dropped, off) = (of(Reason::Dropped), of(Reason::Off));
            (tally.counts.commands, dropped, off, tally.lost)
        };
        assert_eq!((of(0), of(1)), ((9, 3, 6, 1), (6, 2, 4, 1)));
    }

    #[test]
    fn the_store_is_told_after_so_many_commands_but_not_all_the_time_or_after_so_long() {
        let tallies = Tallies::new(10);
        let mut one = observation("a", Verdict::Match);
        assert!(tallies.count(&one), "the first");
        let told = |one: &Observation, times| (0..times).filter(|_| tallies.count(one)).count();
        assert_eq!(told(&one, 5 * STORE_EVERY), 0, "it was told a moment ago");
        one.at += jiff::SignedDuration::from_secs(1);
        assert_eq!(told(&one, 1), 1);
        one.at += jiff::SignedDuration::from_secs(2);
        assert_eq!(told(&one, STORE_EVERY - 1), 0);
        one.at += jiff::SignedDuration::from_secs(8);
        assert_eq!(told(&one, 1), 1);
        one.at -= jiff::SignedDuration::from_hours(1);
        assert_eq!(told(&one, 2), 1, "the clock was set back");
    }
}

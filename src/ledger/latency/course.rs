//! How latency went over time: a point a minute, for the last twelve hours, of all commands, of each class and
//! of the busiest statements.
//!
//! Made of what is counted anyway: a point is what the histograms have more than a minute ago. So a command
//! costs nothing more for it. In memory alone; a restart begins anew.

use super::{Both, Byte, Key, Latency, Whose, histogram, since, sum};
use hdrhistogram::Histogram;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Between two points.
const STEP: Duration = Duration::from_secs(60);

/// Points of one course: twelve hours.
const POINTS_MAX: usize = 720;

/// Statements that have a course: the busiest.
const STATEMENTS_MAX: usize = 100;

/// Changes of the primary that are remembered, the newest.
const TURNS_MAX: usize = 32;

/// Courses at once: classes, and statements of which some are not among the busiest any more.
const COURSES_MAX: usize = 2 * STATEMENTS_MAX;

/// How latency went over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// Minute by minute, oldest first. One in which nothing was timed is left out.
    pub moments: Vec<Moment>,
    /// When another server became the primary, oldest first.
    pub turns: Vec<Turn>,
}

/// Another server became the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When that was seen: at most a look of the guards later than it was.
    pub at: Timestamp,
    /// Its name.
    pub to: String,
}

/// Who was what in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// As now.
    Same,
    /// The other way round: who is the primary now was the shadow.
    Turned,
    /// The primary changed in it.
    Between,
}

/// One minute's quantiles of what ran on both servers, in µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When the minute ended.
    pub at: Timestamp,
    /// Commands that were timed on each of the servers, at least.
    pub samples: u64,
    /// The median of the server that is the primary now, and what 99 in a hundred took at most.
    pub primary: [u64; 2],
    /// The other's.
    pub shadow: [u64; 2],
    /// Which of them was the primary then.
    pub then: Then,
}

/// A point as it is kept: times have room in 32 bits, for none is longer than an hour.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// In seconds since 1970.
    at: i64,
    samples: u32,
    /// At its end the second server was the primary.
    is_turned: bool,
    /// Another was at its beginning.
    changed: bool,
    /// Of each server, p50 and p99.
    first: [[u32; 2]; 2],
    last: [[u32; 2]; 2],
}

/// What was counted until the last point, of one byte. All commands have no key.
type Counted = BTreeMap<Option<Key>, Both>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Courses {
    /// In the order of their names, so that a cutover does not turn them round.
    servers: Option<[String; 2]>,
    /// Whether the second of them is the primary.
    is_turned: Option<bool>,
    /// That has changed since the last point.
    changed: bool,
    /// When, in seconds since 1970, and whether the second has been the primary from then on.
    turns: VecDeque<(i64, bool)>,
    marked: Option<Instant>,
    first: Counted,
    last: Counted,
    points: BTreeMap<Option<Key>, VecDeque<Point>>,
}

impl Latency {
    /// Adds a point to every course, where a minute has passed. Asked every so often.
    pub(in crate::ledger) fn mark(&self, servers: [&str; 2], at: Timestamp) {
        self.mark_after(servers, at, STEP);
    }

    pub(super) fn mark_after(&self, servers: [&str; 2], at: Timestamp, step: Duration) {
        let is_due = |marked: &Instant| marked.elapsed() >= step;
        let (servers, is_turned) = ordered(servers);
        {
            let mut courses = self.courses.lock();
            courses.look(servers, at.as_second(), is_turned);
            if !courses.marked.as_ref().is_none_or(is_due) {
                return;
            }
        }
        let first = self.counted(servers, Byte::First);
        let last = self.counted(servers, Byte::Last);
        let mut courses = self.courses.lock();
        courses.marked = Some(Instant::now());
        courses.take(servers.map(str::to_owned), at.as_second(), first, last);
    }

    /// What was counted until now.
    fn counted(&self, servers: [&str; 2], byte: Byte) -> Counted {
        let mut all = [histogram(), histogram()];
        let mut counted = Counted::new();
        for (key, of) in self.present(servers, byte, STATEMENTS_MAX) {
            if key.shape.is_none() {
                sum(&mut all, &of.times);
            }
            counted.insert(Some(key), of.times);
        }
        counted.insert(None, all);
        counted
    }

    /// The course of these commands; empty where they have none.
    pub(in crate::ledger) fn course(&self, servers: [&str; 2], byte: Byte, whose: Whose) -> Course {
        let (servers, is_turned) = ordered(servers);
        let courses = self.courses.lock();
        if courses
            .servers
            .as_ref()
            .is_none_or(|known| *known != servers)
        {
            return Course::default();
        }
        let is_meant = |key: &Option<Key>| match (whose, key) {
            (Whose::All, None) => true,
            (Whose::Class(class), Some(key)) => key.shape.is_none() && key.class == class,
            (Whose::Statement(digest, protocol), Some(key)) => {
                key.shape == Some((digest, protocol))
            }
            _ => false,
        };
        let found = courses.points.iter().find(|(key, _)| is_meant(key));
        let points = found.map(|(_, points)| points.iter());
        let told = points.into_iter().flatten();
        let [one, other] = servers;
        let turns = courses.turns.iter().map(|(at, is_turned)| Turn {
            at: Timestamp::from_second(*at).unwrap_or(Timestamp::UNIX_EPOCH),
            to: if *is_turned { other } else { one }.to_owned(),
        });
        Course {
            moments: told.map(|point| point.told(byte, is_turned)).collect(),
            turns: turns.collect(),
        }
    }
}

/// Two names in their order, and whether that is not how they came.
fn ordered([primary, shadow]: [&str; 2]) -> ([&str; 2], bool) {
    if shadow < primary {
        ([shadow, primary], true)
    } else {
        ([primary, shadow], false)
    }
}

impl Point {
    fn told(&self, byte: Byte, is_turned: bool) -> Moment {
        let times = match byte {
            Byte::First => self.first,
            Byte::Last => self.last,
        };
        let [one, other] = times.map(|server| server.map(u64::from));
        let (primary, shadow) = if is_turned {
            (other, one)
        } else {
            (one, other)
        };
        Moment {
            at: Timestamp::from_second(self.at).unwrap_or(Timestamp::UNIX_EPOCH),
            samples: u64::from(self.samples),
            primary,
            shadow,
            then: if self.changed {
                Then::Between
            } else if self.is_turned == is_turned {
                Then::Same
            } else {
                Then::Turned
            },
        }
    }
}

impl Courses {
    /// Remembers when the primary changed.
    fn look(&mut self, servers: [&str; 2], at: i64, is_turned: bool) {
        let known = self.servers.as_ref().is_some_and(|known| *known == servers);
        let other = self.is_turned.is_some_and(|before| before != is_turned);
        if known && other {
            self.turns.push_back((at, is_turned));
            self.changed = true;
            if self.turns.len() > TURNS_MAX {
                self.turns.pop_front();
            }
        }
        self.is_turned = Some(is_turned);
    }

    /// Takes what was counted until now, and makes points of what came since the last time.
    fn take(&mut self, servers: [String; 2], at: i64, first: Counted, last: Counted) {
        if self.servers.as_ref() != Some(&servers) {
            *self = Self {
                servers: Some(servers),
                is_turned: self.is_turned,
                marked: self.marked,
                ..Self::default()
            };
        }
        let is_turned = self.is_turned.unwrap_or(false);
        let changed = std::mem::take(&mut self.changed);
        for (key, times) in &last {
            // What counts for the first time has nothing from which to count.
            let Some(before) = self.last.get(key) else {
                continue;
            };
            let last = since(times, Some(before));
            let samples = last.iter().map(Histogram::len).min().unwrap_or(0);
            if samples == 0 {
                continue;
            }
            let first = first
                .get(key)
                .map(|times| since(times, self.first.get(key)));
            let point = Point {
                at,
                samples: u32::try_from(samples).unwrap_or(u32::MAX),
                is_turned,
                changed,
                first: first.as_ref().map_or([[0; 2]; 2], brief),
                last: brief(&last),
            };
            let points = self.points.entry(*key).or_default();
            points.push_back(point);
            if points.len() > POINTS_MAX {
                points.pop_front();
            }
        }
        (self.first, self.last) = (first, last);
        self.forget(at);
    }

    /// Lets go what is older than is kept, and the courses past the most, whose last point is oldest.
    fn forget(&mut self, at: i64) {
        let kept = i64::try_from(STEP.as_secs()).unwrap_or(60);
        let kept = kept * i64::try_from(POINTS_MAX).unwrap_or(0);
        self.turns.retain(|(turned, _)| *turned >= at - kept);
        for points in self.points.values_mut() {
            while points.front().is_some_and(|point| point.at < at - kept) {
                points.pop_front();
            }
        }
        self.points.retain(|_, points| !points.is_empty());
        let surplus = self.points.len().saturating_sub(COURSES_MAX);
        let ends = self.points.iter().map(|(key, points)| {
            let end = points.back().map_or(0, |point| point.at);
            (end, *key)
        });
        let ends: BTreeSet<(i64, Option<Key>)> = ends.collect();
        for (_, key) in ends.into_iter().take(surplus) {
            self.points.remove(&key);
        }
    }
}

/// p50 and p99 of each server.
fn brief(times: &Both) -> [[u32; 2]; 2] {
    let [one, other] = times;
    let of = |times: &Histogram<u32>| {
        [0.5, 0.99].map(|share| u32::try_from(times.value_at_quantile(share)).unwrap_or(u32::MAX))
    };
    [of(one), of(other)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::Verdict;
    use crate::ledger::tests::observation;
    use crate::sql::Class;

    const SERVERS: [&str; 2] = ["legacy", "vitess"];

    /// So many commands of this shape, which took the shadow so long.
    fn record(latency: &Latency, shape: &str, shadow_us: u64, times: u32) {
        for _ in 0..times {
            let mut one = observation(shape, Verdict::Match);
            one.shadow.as_mut().expect("it ran").latency_us = Some(shadow_us);
            latency.record(&one);
        }
    }

    fn mark(latency: &Latency, servers: [&str; 2], minute: i64) {
        let at = Timestamp::from_second(60 * minute).expect("a time");
        latency.mark_after(servers, at, Duration::ZERO);
    }

    #[test]
    fn each_minute_has_its_own_quantiles_and_an_empty_one_has_no_point() {
        let latency = Latency::new(10);
        record(&latency, "a", 90_000, 50);
        mark(&latency, SERVERS, 1);
        let course = |whose| latency.course(SERVERS, Byte::Last, whose).moments;
        assert!(course(Whose::All).is_empty(), "nothing to count from");
        record(&latency, "a", 2_000, 10);
        mark(&latency, SERVERS, 2);
        mark(&latency, SERVERS, 3);
        record(&latency, "a", 30_000, 7);
        mark(&latency, SERVERS, 4);
        let digest = observation("a", Verdict::Match).digest;
        let statement = Whose::Statement(digest, crate::ledger::Protocol::Text);
        for whose in [Whose::All, Whose::Class(Class::Read), statement] {
            let [slow, slower] = &*course(whose) else {
                panic!("two points: {:?}", course(whose))
            };
            assert_eq!((slow.at.as_second(), slow.samples), (120, 10));
            assert_eq!((slower.at.as_second(), slower.samples), (240, 7));
            assert!((1_900..2_100).contains(&slow.shadow[1]), "{slow:?}");
            assert!((29_000..31_000).contains(&slower.shadow[0]), "{slower:?}");
            assert!((990..1_100).contains(&slower.primary[1]), "{slower:?}");
        }
        assert!(course(Whose::Class(Class::Write)).is_empty());
        let first = latency.course(SERVERS, Byte::First, Whose::All).moments;
        assert!((890..920).contains(&first[0].shadow[0]), "{first:?}");
    }

    #[test]
    fn a_cutover_turns_the_sides_and_loses_no_point_but_other_servers_begin_anew() {
        let latency = Latency::new(10);
        mark(&latency, SERVERS, 1);
        record(&latency, "a", 5_000, 10);
        mark(&latency, SERVERS, 2);
        let turned = ["vitess", "legacy"];
        record(&latency, "a", 5_000, 10);
        mark(&latency, turned, 3);
        let course = latency.course(turned, Byte::Last, Whose::All);
        assert_eq!(course.moments.len(), 2, "{course:?}");
        for moment in &course.moments {
            assert!(moment.primary[0] > 4_900 && moment.shadow[0] < 1_100);
        }
        let none = Course::default();
        let others = ["legacy", "other"];
        assert_eq!(latency.course(others, Byte::Last, Whose::All), none);
        mark(&latency, others, 4);
        assert_eq!(latency.course(SERVERS, Byte::Last, Whose::All), none);
    }

    #[test]
    fn a_minute_knows_who_was_the_primary_in_it() {
        let latency = Latency::new(10);
        let turned = ["vitess", "legacy"];
        mark(&latency, SERVERS, 1);
        for (minute, servers) in [(2, SERVERS), (3, turned), (4, turned)] {
            record(&latency, "a", 5_000, 10);
            mark(&latency, servers, minute);
        }
        let then = |servers| {
            let course = latency.course(servers, Byte::Last, Whose::All);
            let moments = course.moments.iter();
            moments.map(|moment| moment.then).collect::<Vec<_>>()
        };
        assert_eq!(then(turned), [Then::Turned, Then::Between, Then::Same]);
        assert_eq!(then(SERVERS), [Then::Same, Then::Between, Then::Turned]);
        let turns = latency.course(turned, Byte::Last, Whose::All).turns;
        let [turn] = &*turns else { panic!("{turns:?}") };
        assert_eq!((turn.at.as_second(), turn.to.as_str()), (180, "vitess"));
        // They are bounded, and let go when they are old.
        for minute in 5..100 {
            let servers = if minute % 2 == 0 { turned } else { SERVERS };
            mark(&latency, servers, minute);
        }
        assert_eq!(latency.courses.lock().turns.len(), TURNS_MAX);
        mark(&latency, SERVERS, 10_000);
        assert!(latency.courses.lock().turns.is_empty());
    }

    #[test]
    fn a_change_of_the_primary_is_seen_between_two_points() {
        let latency = Latency::new(10);
        latency.mark(SERVERS, Timestamp::from_second(60).expect("a time"));
        latency.mark(
            ["vitess", "legacy"],
            Timestamp::from_second(75).expect("a time"),
        );
        let turns = latency.course(SERVERS, Byte::Last, Whose::All).turns;
        assert_eq!(turns.len(), 1, "{turns:?}");
        assert_eq!(turns[0].at.as_second(), 75);
    }

    #[test]
    fn it_is_bounded_in_points_in_age_and_in_courses() {
        let latency = Latency::new(1_000);
        record(&latency, "a", 1_000, 1);
        for minute in 0..900 {
            mark(&latency, SERVERS, minute);
            record(&latency, "a", 1_000, 1);
        }
        let course = latency.course(SERVERS, Byte::Last, Whose::All);
        assert_eq!(course.moments.len(), POINTS_MAX);
        // Others are the busiest, time after time.
        for turn in 0..6 {
            for n in 0..STATEMENTS_MAX {
                record(&latency, &format!("{turn}-{n}"), 1_000, 10 * (turn + 1));
            }
            mark(&latency, SERVERS, 1_000 + 2 * i64::from(turn));
            for n in 0..STATEMENTS_MAX {
                record(&latency, &format!("{turn}-{n}"), 1_000, 1);
            }
            mark(&latency, SERVERS, 1_001 + 2 * i64::from(turn));
            assert!(latency.courses.lock().points.len() <= COURSES_MAX);
        }
        mark(&latency, SERVERS, 10_000);
        assert!(latency.courses.lock().points.is_empty(), "all is old");
    }

    #[test]
    fn points_are_a_minute_apart_however_often_it_is_asked() {
        let latency = Latency::new(10);
        let at = Timestamp::from_second(60).expect("a time");
        latency.mark(SERVERS, at);
        record(&latency, "a", 1_000, 5);
        latency.mark(SERVERS, at);
        let course = latency.course(SERVERS, Byte::Last, Whose::All);
        assert!(course.moments.is_empty(), "{course:?}");
    }
}

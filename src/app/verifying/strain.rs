//! How much a verification strains the primary: what its clients' answers take beside it, held against what they take
//! without it. Pure but for the clock that it is told.
//!
//! There are two answers to it. A walk has less of the time ([`Strain::share`]) as soon as answers are a little slower
//! (`verify.ease_ratio`), and slowly more while they are not; and it waits altogether while they are much slower
//! (`verify.latency_ratio`). What they take without it was measured before, and is measured anew every few minutes, for
//! which it rests, so that nothing is laid to it that the hour of the day has done.

use crate::config;
use crate::shadow::Beat;
use std::time::Duration;
use tokio::time::Instant;

/// The primary's latency is looked at so often; now is the last ten seconds, before is the minute before a run.
const LOOK: Duration = Duration::from_secs(1);
const NOW: Duration = Duration::from_secs(10);
const BEFORE: Duration = Duration::from_secs(60);

/// Where nobody has asked for so long no walk was under way: one range may take its time, and is no absence.
const ABSENT: Duration = Duration::from_secs(60);

/// A latency that stays though the run has given way for so long is not of its making.
const NOT_OURS: Duration = Duration::from_secs(30);

/// What answers take without it is measured anew after so long.
const AGAIN: Duration = Duration::from_secs(300);

/// Answers from which a quantile says something.
const ANSWERS_MIN: u64 = 100;

/// The share of the time that a walk begins with, and has at least, where the primary serves anybody.
const SHARE_FIRST: f64 = 0.1;
const SHARE_MIN: f64 = 0.02;

/// What its share is multiplied by, where answers are slower and where they are not.
const LESS: f64 = 0.6;
const MORE: f64 = 1.25;

const MEASURES: &str = "it rests for ten seconds to see how the primary answers without it";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Strain {
    looked: Option<Instant>,
    /// The 99th percentile without a walk, and when that was measured.
    before: Option<Duration>,
    measured: Option<Instant>,
    slow_since: Option<Instant>,
    /// Why it waits.
    why: Option<String>,
    /// It rests since then, to measure.
    rests: Option<Instant>,
    /// The share of the time, and when that was last changed; none where the primary serves nobody.
    share: Option<f64>,
    eased: Option<Instant>,
}

impl Strain {
    /// Why a walk must wait now. `beat` tells how the primary answered for so long up to now.
    pub(super) fn holds(
        &mut self,
        now: Instant,
        beat: impl Fn(Duration) -> Beat,
        limits: &config::Verify,
    ) -> Option<String> {
        let alone = self
            .looked
            .map(|looked| now.saturating_duration_since(looked));
        if alone.is_none_or(|alone| alone > ABSENT) {
            // Nobody has asked of late: a run begins, or goes on.
            self.begin(now, &beat(alone.map_or(BEFORE, |alone| alone.min(BEFORE))));
            return None;
        }
        if alone.is_some_and(|alone| alone < LOOK) {
            return self.why.clone();
        }
        self.look(now, &beat(NOW), limits)
    }

    /// The share of the time in which a walk works now, of this at most.
    pub(super) fn share(&self, most: f64) -> f64 {
        self.share.map_or(most, |share| share.min(most))
    }

    /// How the primary answered while no walk was under way.
    fn begin(&mut self, now: Instant, beat: &Beat) {
        let serves = beat.answers >= ANSWERS_MIN;
        *self = Self {
            looked: Some(now),
            before: serves.then_some(beat.p99),
            measured: serves.then_some(now),
            // What was found to be bearable still is.
            share: serves.then(|| self.share.unwrap_or(SHARE_FIRST)),
            eased: Some(now),
            ..Self::default()
        };
    }

    fn look(&mut self, now: Instant, beat: &Beat, limits: &config::Verify) -> Option<String> {
        self.looked = Some(now);
        self.why = None;
        if let Some(since) = self.rests {
            return self.rest(now, since, beat);
        }
        if beat.answers < ANSWERS_MIN {
            self.share = None;
            return None;
        }
        let Some(before) = self.before else {
            // Clients have come since it began: they are measured without it.
            return self.rest(now, now, beat);
        };
        self.ease(now, beat, before.mul_f64(limits.ease_ratio));
        let allowed = before
            .mul_f64(limits.latency_ratio)
            .max(before + limits.latency);
        if beat.p99 > allowed {
            return self.give_way(now, beat, before);
        }
        self.slow_since = None;
        let measured = self.measured.unwrap_or(now);
        if now.saturating_duration_since(measured) >= AGAIN {
            return self.rest(now, now, beat);
        }
        None
    }

    /// Less of the time, or more.
    fn ease(&mut self, now: Instant, beat: &Beat, bearable: Duration) {
        let share = self.share.unwrap_or(SHARE_FIRST);
        let eased = *self.eased.get_or_insert(now);
        // What it does now shows in full only then.
        if now.saturating_duration_since(eased) >= NOW {
            let factor = if beat.p99 > bearable { LESS } else { MORE };
            self.share = Some((share * factor).clamp(SHARE_MIN, 1.0));
            self.eased = Some(now);
        } else {
            self.share = Some(share);
        }
    }

    fn give_way(&mut self, now: Instant, beat: &Beat, before: Duration) -> Option<String> {
        let since = *self.slow_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= NOT_OURS {
            self.before = Some(beat.p99);
            self.measured = Some(now);
            self.slow_since = None;
            return None;
        }
        self.why = Some(format!(
            "the primary answers more slowly: its 99th percentile is {} ms, and was {} ms before",
            beat.p99.as_millis(),
            before.as_millis()
        ));
        self.why.clone()
    }

    /// Rests until the last ten seconds were without a walk, and takes them for what is usual.
    fn rest(&mut self, now: Instant, since: Instant, beat: &Beat) -> Option<String> {
        self.rests = Some(since);
        if now.saturating_duration_since(since) < NOW {
            self.why = Some(MEASURES.to_owned());
            return self.why.clone();
        }
        self.begin(now, beat);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn limits() -> config::Verify {
        let config = Config::parse(
            "[primary]\nname = \"a\"\naddress = \"h:1\"\n[shadow]\nname = \"b\"\naddress = \"h:2\"",
            &[],
        );
        config.unwrap().verify
    }

    fn beat(micros: u64) -> Beat {
        Beat {
            answers: 1000,
            errors: 0,
            p50: Duration::from_micros(100),
            p99: Duration::from_micros(micros),
        }
    }

    fn quiet() -> Beat {
        Beat {
            answers: 3,
            ..beat(90_000)
        }
    }

    /// A strain that was looked at each second, from a second to another: why it waits at the last look.
    fn looked(
        strain: &mut Strain,
        start: Instant,
        from: u64,
        to: u64,
        beat: Beat,
    ) -> Option<String> {
        let limits = limits();
        let looks = (from..=to).map(|s| start + Duration::from_secs(s));
        looks.fold(None, |_, now| strain.holds(now, |_| beat, &limits))
    }

    #[test]
    fn it_gives_way_to_a_slower_primary_until_that_is_not_its_doing() {
        let (start, mut strain) = (Instant::now(), Strain::default());
        assert_eq!(looked(&mut strain, start, 0, 0, beat(10_000)), None);
        let within = looked(&mut strain, start, 1, 1, beat(14_000));
        assert_eq!(within, None, "within the factor");
        let why = looked(&mut strain, start, 2, 2, beat(30_000)).unwrap();
        assert!(why.contains("30 ms, and was 10 ms before"), "{why}");
        assert_eq!(looked(&mut strain, start, 3, 3, beat(10_500)), None);
        assert!(looked(&mut strain, start, 4, 33, beat(30_000)).is_some());
        let still = looked(&mut strain, start, 34, 34, beat(30_000));
        assert_eq!(still, None, "it is not its doing");
        assert_eq!(looked(&mut strain, start, 35, 35, beat(30_000)), None);
        let quiet = looked(&mut strain, start, 36, 36, quiet());
        assert_eq!(quiet, None, "three answers say nothing");
    }

    #[test]
    fn it_has_less_of_the_time_while_answers_are_a_little_slower_and_then_slowly_more() {
        let (start, mut strain) = (Instant::now(), Strain::default());
        assert!((strain.share(0.5) - 0.5).abs() < 1e-9, "nobody is served");
        looked(&mut strain, start, 0, 5, beat(10_000));
        assert!((strain.share(0.5) - SHARE_FIRST).abs() < 1e-9);
        looked(&mut strain, start, 6, 41, beat(10_400));
        let more = strain.share(0.5);
        assert!(more > SHARE_FIRST, "{more}");
        assert_eq!(looked(&mut strain, start, 42, 51, beat(11_500)), None);
        let less = strain.share(0.5);
        assert!(less < more, "{less}");
        looked(&mut strain, start, 52, 250, beat(11_500));
        let least = strain.share(0.5);
        assert!((least - SHARE_MIN).abs() < 1e-9, "{least}");
        // What was bearable is kept over a pause, and what is usual is measured anew.
        looked(&mut strain, start, 320, 320, beat(11_500));
        assert!((strain.share(0.5) - SHARE_MIN).abs() < 1e-9);
        looked(&mut strain, start, 321, 335, beat(11_500));
        assert!(strain.share(0.5) > SHARE_MIN);
    }

    /// A walk whose ranges take so long that it looks but each half minute is judged all the same.
    #[test]
    fn one_that_looks_seldom_gives_way_too_and_has_more_of_the_time_again() {
        let (start, mut strain) = (Instant::now(), Strain::default());
        let limits = limits();
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(strain.holds(at(0), |_| beat(10_000), &limits), None);
        assert_eq!(strain.holds(at(30), |_| beat(10_000), &limits), None);
        assert!(strain.share(0.5) > SHARE_FIRST, "{}", strain.share(0.5));
        let why = strain.holds(at(60), |_| beat(30_000), &limits);
        assert!(why.is_some_and(|why| why.contains("30 ms, and was 10 ms")));
        assert!(strain.share(0.5) < SHARE_FIRST, "{}", strain.share(0.5));
    }

    #[test]
    fn it_measures_anew_what_is_usual() {
        let (start, mut strain) = (Instant::now(), Strain::default());
        assert_eq!(looked(&mut strain, start, 0, 299, beat(10_000)), None);
        let rests = looked(&mut strain, start, 300, 300, beat(10_000));
        assert_eq!(rests.as_deref(), Some(MEASURES));
        assert!(looked(&mut strain, start, 301, 309, beat(20_000)).is_some());
        assert_eq!(looked(&mut strain, start, 310, 310, beat(20_000)), None);
        // So 21 ms are usual now, though they were not before.
        assert_eq!(looked(&mut strain, start, 311, 330, beat(21_000)), None);
        // And clients that come in its midst are measured first.
        let mut alone = Strain::default();
        assert_eq!(looked(&mut alone, start, 0, 5, quiet()), None);
        assert!(looked(&mut alone, start, 6, 6, beat(9_000)).is_some());
        assert_eq!(looked(&mut alone, start, 7, 16, beat(9_000)), None);
    }
}

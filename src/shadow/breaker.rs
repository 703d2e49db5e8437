//! When mirroring is suspended, and when it tries again. Pure: the time is an argument.

use crate::config::{self, Live};
use std::time::Duration;
use tokio::time::Instant;

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Floods further apart than this take little from anybody.
const FLOODS_WITHIN: Duration = Duration::from_secs(5);

/// Why mirroring was suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The connection to the shadow failed, or it flooded, so many times in a row, the last with this text.
    Errors(u32, String),
    /// The oldest waiting exchange is this old.
    Lag(Duration),
    /// The queue is this full, in percent, though reads and transactions were dropped.
    Queue(u64),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Errors(count, last) => {
                write!(
                    f,
                    "{count} errors of the shadow's connections in a row, the last: {last}"
                )
            }
            Self::Lag(age) => write!(f, "the shadow is {:.1} s behind", age.as_secs_f64()),
            Self::Queue(percent) => write!(f, "the queue is {percent} % full"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    limits: Live<config::Breaker>,
    errors: u32,
    /// When the shadow last flooded.
    flooded: Option<Instant>,
    state: State,
    /// The next suspension's pause: longer each time until the mirror has run well for a while.
    pause: Duration,
    times: u64,
}

#[derive(Debug)]
enum State {
    Running {
        since: Option<Instant>,
    },
    Suspended {
        cause: Cause,
        until: Instant,
        probing: bool,
    },
}

impl Breaker {
    /// A breaker that lets everything pass.
    pub(super) fn new(limits: Live<config::Breaker>) -> Self {
        let state = State::Running { since: None };
        Self {
            pause: limits.now().pause,
            limits,
            errors: 0,
            flooded: None,
            state,
            times: 0,
        }
    }

    /// Why mirroring is suspended, if it is.
    pub(super) const fn cause(&self) -> Option<&Cause> {
        match &self.state {
            State::Running { .. } => None,
            State::Suspended { cause, .. } => Some(cause),
        }
    }

    /// How often mirroring was suspended.
    pub(super) const fn times(&self) -> u64 {
        self.times
    }

    /// The shadow answered something.
    pub(super) const fn answered(&mut self) {
        self.errors = 0;
    }

    /// A connection to the shadow could not be opened or broke.
    pub(super) fn failed(&mut self, what: &str, now: Instant) {
        self.errors = self.errors.saturating_add(1);
        if self.errors >= self.limits.now().errors {
            self.suspend(Cause::Errors(self.errors, what.to_owned()), now);
        }
    }

    /// An answer of the shadow's was given up for its length, where the primary's was short. Soon after another one
    /// that is an error like those of a connection: they take network and processors from clients.
    pub(super) fn flooded(&mut self, what: &str, now: Instant) {
        let before = self.flooded.replace(now);
        if before.is_some_and(|before| now.duration_since(before) <= FLOODS_WITHIN) {
            self.failed(what, now);
        }
    }

    /// The oldest waiting exchange is this old.
    pub(super) fn lagging(&mut self, age: Duration, now: Instant) {
        if age > self.limits.now().lag {
            self.suspend(Cause::Lag(age), now);
        }
    }

    /// Suspends.
    pub(super) fn suspend(&mut self, cause: Cause, now: Instant) {
        let State::Running { since } = self.state else {
            return;
        };
        // A minute without trouble, and the pauses start small again.
        if since.is_none_or(|since| now.duration_since(since) >= PAUSE_MAX) {
            self.pause = self.limits.now().pause;
        }
        self.times += 1;
        self.state = State::Suspended {
            cause,
            until: now + self.pause,
            probing: false,
        };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Whether it is time for a probe; if so, one is taken to be under way.
    pub(super) fn wants_probe(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Suspended { until, probing, .. } if !*probing && now >= *until => {
                *probing = true;
                true
            }
            State::Suspended { .. } | State::Running { .. } => false,
        }
    }

    /// The probe came back.
    pub(super) fn probed(&mut self, good: bool, now: Instant) {
        let State::Suspended { until, probing, .. } = &mut self.state else {
            return;
        };
        if good {
            self.errors = 0;
            self.state = State::Running { since: Some(now) };
        } else {
            *probing = false;
            *until = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        let limits = config::Breaker {
            errors: 3,
            lag: Duration::from_secs(10),
            pause: Duration::from_secs(1),
        };
        Breaker::new(limits.into())
    }

    #[test]
    fn errors_in_a_row_suspend_and_an_answer_in_between_does_not_count() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for _ in 0..2 {
            breaker.failed("refused", now);
        }
        breaker.answered();
        breaker.failed("refused", now);
        assert_eq!(breaker.cause(), None);
        breaker.failed("refused", now);
        breaker.failed("refused", now);
        assert_eq!(breaker.cause(), Some(&Cause::Errors(3, "refused".into())));
    }

    #[test]
    fn floods_suspend_where_one_follows_the_other_soon_and_nothing_is_answered() {
        let (mut breaker, mut now) = (breaker(), Instant::now());
        for _ in 0..20 {
            breaker.flooded("too long", now);
            now += FLOODS_WITHIN + Duration::from_millis(1);
        }
        assert_eq!(breaker.cause(), None, "now and then");
        for _ in 0..20 {
            breaker.flooded("too long", now);
            breaker.flooded("too long", now);
            breaker.answered();
        }
        assert_eq!(breaker.cause(), None, "some are answered");
        now += FLOODS_WITHIN * 2;
        for _ in 0..4 {
            assert_eq!(breaker.cause(), None);
            breaker.flooded("too long", now);
            now += FLOODS_WITHIN;
        }
        assert_eq!(breaker.cause(), Some(&Cause::Errors(3, "too long".into())));
    }

    #[test]
    fn the_pause_doubles_to_a_minute_and_starts_small_after_a_good_minute() {
        let (mut breaker, mut now) = (breaker(), Instant::now());
        breaker.lagging(Duration::from_secs(11), now);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(pause);
            assert!(!breaker.wants_probe(now + pause / 2), "{pause:?}");
            now += pause;
            assert!(breaker.wants_probe(now), "{pause:?}");
            assert!(!breaker.wants_probe(now), "one probe at a time");
            breaker.probed(false, now);
        }
        now += Duration::from_secs(60);
        assert!(breaker.wants_probe(now));
        breaker.probed(true, now);
        assert_eq!(breaker.cause(), None);
        now += Duration::from_secs(60);
        breaker.suspend(Cause::Queue(90), now);
        now += Duration::from_secs(1);
        assert!(breaker.wants_probe(now));
    }
}

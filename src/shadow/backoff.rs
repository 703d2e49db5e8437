//! When a session tries again to open its connection to the shadow. Pure: the time is an argument.

use crate::compare::verdict::Reason;
use std::time::Duration;
use tokio::time::Instant;

/// The first pause; the next is twice as long, up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Backoff {
    pause: Duration,
    waits: Option<(Instant, Reason)>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            pause: PAUSE_MIN,
            waits: None,
        }
    }
}

impl Backoff {
    /// The connection could not be opened.
    pub(super) fn failed(&mut self, why: Reason, now: Instant) {
        self.waits = Some((now + self.pause, why));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Why no connection was opened, while it is too early for another try. It is no new failure.
    pub(super) fn waits(&self, now: Instant) -> Option<Reason> {
        self.waits
            .filter(|(until, _)| now < *until)
            .map(|(_, why)| why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_and_the_last_reason_stays_until_it_is_over() {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        assert_eq!(backoff.waits(now), None);
        for pause in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            let pause = Duration::from_millis(pause);
            backoff.failed(Reason::Dropped, now);
            assert_eq!(backoff.waits(now + pause / 2), Some(Reason::Dropped));
            now += pause;
            assert_eq!(backoff.waits(now), None, "{pause:?}");
        }
    }
}

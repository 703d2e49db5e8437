//! From the old process' word on the new one says every few seconds that its relay's threads turn: who hangs serves
//! nobody, and its connection shows nothing of it. That is found out here, and not by a supervisor alone.

use crate::app::supervisor::all_turn;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Between two beats.
const BEAT: Duration = Duration::from_secs(3);

/// So many that do not come are one process that hangs. Looks are counted, and not time: a machine that stood still
/// for a minute has had none.
const MISSED: u32 = 4;

fn every_beat() -> Interval {
    let mut beats = interval_at(Instant::now() + BEAT, BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// The new process' side.
#[derive(Debug)]
pub(super) struct Beats {
    next: Option<Interval>,
}

impl Beats {
    /// The first one is due at once.
    pub(super) const fn new() -> Self {
        Self { next: None }
    }

    /// Resolves when the next one is due, and the relay's threads have all taken a turn.
    ///
    /// Cancel-safe: what is cancelled in a turn comes with the next beat.
    pub(super) async fn due(&mut self, relay: &[Handle]) {
        loop {
            match &mut self.next {
                Some(next) => {
                    next.tick().await;
                }
                None => self.next = Some(every_beat()),
            }
            if all_turn(relay).await {
                return;
            }
        }
    }
}

/// The old process' side.
#[derive(Debug)]
pub(super) struct Pulse {
    looks: Interval,
    missed: u32,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            looks: every_beat(),
            missed: 0,
        }
    }

    /// It was heard.
    pub(super) const fn beats(&mut self) {
        self.missed = 0;
    }

    /// Resolves once it is not heard any more; waited for again, a beat later.
    ///
    /// Cancel-safe.
    pub(super) async fn stops(&mut self) {
        while self.missed < MISSED {
            self.looks.tick().await;
            self.missed += 1;
        }
        self.missed = MISSED - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn a_pulse_that_is_heard_does_not_stop_and_another_stops_soon() {
        let mut pulse = Pulse::new();
        for _ in 0..20 {
            let heard = timeout(BEAT * 2, pulse.stops()).await;
            assert!(heard.is_err());
            pulse.beats();
        }
        let silent = Instant::now();
        pulse.stops().await;
        assert!(silent.elapsed() <= Duration::from_secs(15));
        let again = Instant::now();
        pulse.stops().await;
        assert!(again.elapsed() <= BEAT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_stood_still_is_no_process_that_hangs() {
        let mut pulse = Pulse::new();
        tokio::time::advance(BEAT * 100).await;
        let late = timeout(BEAT, pulse.stops()).await;
        assert!(late.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn beats_come_at_once_and_then_from_time_to_time() {
        let (mut beats, relay) = (Beats::new(), [Handle::current()]);
        let start = Instant::now();
        beats.due(&relay).await;
        assert!(start.elapsed() < BEAT);
        beats.due(&relay).await;
        assert_eq!(start.elapsed(), BEAT);
    }
}

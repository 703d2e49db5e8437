//! How many commands a second: the counters of every few seconds of the last ten minutes, in memory.

use crate::admin::Parts;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two samples.
const STEP: Duration = Duration::from_secs(5);

/// Samples that are kept: ten minutes, and the one before.
const SAMPLES_MAX: usize = 121;

/// Steps over which a rate is taken: a minute.
const MINUTE: usize = 12;

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at: Instant,
    commands: u64,
    compared: u64,
    diverged: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<VecDeque<Sample>>);

/// Commands a second, in tenths, over the last minute; and each step's, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) commands: u64,
    pub(super) compared: u64,
    pub(super) diverged: u64,
    pub(super) steps: Vec<u64>,
}

impl Pace {
    /// Takes a sample every so often, until told to end.
    pub(super) async fn keep(&self, parts: &Parts, stop: &CancellationToken) {
        loop {
            let coverage = parts.ledger.coverage();
            self.take(Sample {
                at: Instant::now(),
                commands: coverage.commands,
                compared: coverage.matched + coverage.tolerated + coverage.diverged,
                diverged: coverage.diverged,
            });
            tokio::select! {
                () = tokio::time::sleep(STEP) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn take(&self, sample: Sample) {
        let mut samples = self.0.lock();
        if samples.len() >= SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The rates; none before there are two samples.
    pub(super) fn rates(&self) -> Option<Rates> {
        let samples = self.0.lock();
        let last = samples.back()?;
        let first = samples.get(samples.len().saturating_sub(MINUTE + 1))?;
        let rate = |of: fn(&Sample) -> u64| per_second(first, last, of);
        let pairs = samples.iter().skip(1).enumerate();
        let steps = pairs.filter_map(|(at, then)| {
            let before = samples.get(at)?;
            per_second(before, then, |one| one.commands)
        });
        Some(Rates {
            commands: rate(|one| one.commands)?,
            compared: rate(|one| one.compared)?,
            diverged: rate(|one| one.diverged)?,
            steps: steps.collect(),
        })
    }
}

fn per_second(from: &Sample, to: &Sample, of: impl Fn(&Sample) -> u64) -> Option<u64> {
    let ms = u64::try_from(to.at.duration_since(from.at).as_millis()).ok()?;
    let more = of(to).saturating_sub(of(from));
    more.saturating_mul(10_000).checked_div(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rates_are_of_the_last_minute_and_samples_of_ten() {
        let pace = Pace::default();
        assert_eq!(pace.rates(), None);
        let mut commands = 0;
        for step in 0..300_u64 {
            let sample = Sample {
                at: Instant::now(),
                commands,
                compared: commands / 2,
                diverged: 0,
            };
            pace.take(sample);
            // 2 a second, and 20 in the last two minutes.
            commands += if step < 276 { 10 } else { 100 };
            tokio::time::advance(STEP).await;
        }
        let rates = pace.rates().unwrap();
        assert_eq!(
            (rates.commands, rates.compared, rates.diverged),
            (200, 100, 0)
        );
        assert_eq!(rates.steps.len(), SAMPLES_MAX - 1);
        assert_eq!((rates.steps[0], rates.steps[119]), (20, 200));
    }
}

//! How the primary has been answering of late: how many commands, how many with an error, how long
//! they took. Of every session, mirrored or not; bounded to the last minutes. A soak after a cutover
//! is judged by the time before it.

use crate::tee::Exchange;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// What one slot covers.
const SLOT: Duration = Duration::from_secs(5);

/// Slots that are kept: ten minutes.
const SLOTS_MAX: usize = 120;

/// The longest time that is told apart.
const LONGEST: Duration = Duration::from_secs(60);

/// The primary's answers in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Commands that were answered.
    pub answers: u64,
    /// Of these, with an error.
    pub errors: u64,
    /// The median of the time from the command's last byte to the answer's last byte.
    pub p50: Duration,
    /// Its 99th percentile.
    pub p99: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    slots: Mutex<VecDeque<Slot>>,
}

#[derive(Debug)]
struct Slot {
    began: Instant,
    answers: u64,
    errors: u64,
    took: Option<Histogram<u32>>,
}

impl Pulse {
    /// An exchange that the primary has answered; others are not of it.
    pub(super) fn record(&self, one: &Exchange) {
        if one.answered && one.counts() {
            let took = one.acked.saturating_duration_since(one.sent);
            self.add(one.acked, took, one.answer.error().is_some());
        }
    }

    fn add(&self, now: Instant, took: Duration, failed: bool) {
        let mut slots = self.slots.lock();
        let stale = slots
            .back()
            .is_none_or(|slot| now.saturating_duration_since(slot.began) >= SLOT);
        if stale {
            if slots.len() >= SLOTS_MAX {
                slots.pop_front();
            }
            slots.push_back(Slot {
                began: now,
                answers: 0,
                errors: 0,
                took: histogram(),
            });
        }
        let Some(slot) = slots.back_mut() else { return };
        slot.answers += 1;
        slot.errors += u64::from(failed);
        if let Some(histogram) = &mut slot.took {
            histogram.saturating_record(micros(took));
        }
    }

    /// What was answered from one moment to another, to within a slot.
    pub(super) fn between(&self, from: Instant, to: Instant) -> Beat {
        let slots = self.slots.lock();
        let mut beat = Beat::default();
        let Some(mut all) = histogram() else {
            return beat;
        };
        for slot in slots
            .iter()
            .filter(|slot| slot.began >= from && slot.began < to)
        {
            beat.answers += slot.answers;
            beat.errors += slot.errors;
            if let Some(histogram) = &slot.took {
                // Both have the same bounds.
                let _ = all.add(histogram);
            }
        }
        let quantile = |q| Duration::from_micros(all.value_at_quantile(q));
        if !all.is_empty() {
            (beat.p50, beat.p99) = (quantile(0.5), quantile(0.99));
        }
        beat
    }
}

/// From 1 µs on, to two digits. `None` never comes: the bounds are constants.
fn histogram() -> Option<Histogram<u32>> {
    Histogram::new_with_bounds(1, micros(LONGEST), 2).ok()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_own_answers_and_no_others() {
        let pulse = Pulse::default();
        let start = Instant::now();
        for n in 0..100 {
            pulse.add(start, Duration::from_millis(1), n % 10 == 0);
        }
        let later = start + SLOT * 2;
        for _ in 0..50 {
            pulse.add(later, Duration::from_millis(9), false);
        }
        let before = pulse.between(start, later);
        assert_eq!((before.answers, before.errors), (100, 10));
        assert!(before.p99 < Duration::from_millis(2), "{before:?}");
        let after = pulse.between(later, later + SLOT);
        assert_eq!((after.answers, after.errors), (50, 0));
        assert!(after.p50 >= Duration::from_millis(8), "{after:?}");
        assert_eq!(
            pulse.between(later + SLOT, later + SLOT * 9),
            Beat::default()
        );
    }

    #[test]
    fn it_remembers_so_much_and_no_more() {
        let pulse = Pulse::default();
        let start = Instant::now();
        for n in 0..500 {
            pulse.add(start + SLOT * n, Duration::from_millis(1), false);
        }
        assert_eq!(pulse.slots.lock().len(), SLOTS_MAX);
        let all = pulse.between(start, start + SLOT * 500);
        assert_eq!(all.answers, SLOTS_MAX as u64);
    }
}

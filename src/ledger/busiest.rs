//! Which keys are seen most: so many are kept, and one more takes the place of the least of them once
//! it has been seen more often.
//!
//! Those that wait for a place are only counted, roughly: a key seen once costs next to nothing. Keys
//! hold digests.

use super::digests::Digests;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, binary_heap::PeekMut};
use std::hash::Hash;

/// See the module.
#[derive(Debug)]
pub(super) struct Busiest<K> {
    most: usize,
    kept: HashMap<K, u64, Digests>,
    /// The kept keys with what they counted when it was last looked at, least first.
    least: BinaryHeap<Reverse<(u64, K)>>,
    waiting: HashMap<K, u64, Digests>,
}

/// What becomes of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<K> {
    /// It is kept.
    Kept,
    /// It is kept from now on, instead of this one.
    InsteadOf(K),
    /// It is not kept.
    None,
}

impl<K: Copy + Eq + Hash + Ord> Busiest<K> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: HashMap::default(),
            least: BinaryHeap::new(),
            waiting: HashMap::default(),
        }
    }

    /// Counts a key.
    pub(super) fn see(&mut self, key: K) -> Place<K> {
        if let Some(count) = self.kept.get_mut(&key) {
            *count += 1;
            return Place::Kept;
        }
        if self.kept.len() < self.most {
            self.keep(key, 1);
            return Place::Kept;
        }
        let count = self.wait(key);
        let Some(out) = self.take_less_than(count) else {
            return Place::None;
        };
        self.kept.remove(&out);
        self.waiting.remove(&key);
        self.keep(key, count);
        Place::InsteadOf(out)
    }

    fn keep(&mut self, key: K, count: u64) {
        self.kept.insert(key, count);
        self.least.push(Reverse((count, key)));
    }

    fn wait(&mut self, key: K) -> u64 {
        while self.waiting.len() >= self.most && !self.waiting.contains_key(&key) {
            self.waiting.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
        let count = self.waiting.entry(key).or_default();
        *count += 1;
        *count
    }

    /// Takes the kept key with the least count, if that is less than this one.
    fn take_less_than(&mut self, count: u64) -> Option<K> {
        loop {
            let mut first = self.least.peek_mut()?;
            let Reverse((seen, key)) = *first;
            let now = self.kept.get(&key).copied().unwrap_or_default();
            if now > seen {
                *first = Reverse((now, key));
            } else if seen < count {
                PeekMut::pop(first);
                return Some(key);
            } else {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busier_takes_the_place_of_the_least() {
        let mut busiest = Busiest::new(2);
        for key in [1, 1, 1, 2] {
            assert_eq!(busiest.see(key), Place::Kept);
        }
        assert_eq!(busiest.see(3), Place::None);
        assert_eq!(busiest.see(3), Place::InsteadOf(2));
        assert_eq!(busiest.see(2), Place::None);
        assert_eq!(busiest.see(1), Place::Kept);
    }

    #[test]
    fn keys_seen_once_are_forgotten_and_the_real_load_is_kept() {
        let mut busiest = Busiest::new(10);
        for round in 0..1000 {
            busiest.see(1_000 + round);
            busiest.see(round % 5);
            assert!(busiest.waiting.len() <= 10 && busiest.least.len() <= 10);
        }
        for key in 0..5 {
            assert_eq!(busiest.see(key), Place::Kept);
        }
    }
}

//! Whether a walk gets on. A server whose order of a key is not what it compares by (and of which nobody knew) leads a
//! walk back to where it was, for ever. Pure, and of one key's size.
//!
//! One of the keys behind it is kept, of twice as many each time: whatever circle a walk is in, it meets that one.

use super::rows::Key;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Lap {
    kept: Option<Box<[u8]>>,
    /// Ranges since it was kept, and so many until another one is.
    since: u64,
    until: u64,
}

impl Lap {
    /// Goes on behind this key; whether it was not there before.
    #[must_use]
    pub(super) fn gets_on(&mut self, to: Option<&Key>) -> bool {
        let Some(to) = to else {
            *self = Self::default();
            return true;
        };
        if self.kept.as_ref() == Some(&to.canonical) {
            return false;
        }
        self.since += 1;
        if self.since >= self.until {
            self.until = (self.until * 2).max(1);
            self.since = 0;
            self.kept = Some(to.canonical.clone());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key {
            canonical: n.to_be_bytes().into(),
            values: Vec::new(),
        }
    }

    #[test]
    fn a_way_ahead_gets_on_and_begins_anew_behind_its_end() {
        let mut lap = Lap::default();
        assert!((0..10_000).all(|n| lap.gets_on(Some(&key(n)))));
        assert!(lap.gets_on(None));
        assert!((0..10_000).all(|n| lap.gets_on(Some(&key(n)))));
    }

    #[test]
    fn a_circle_is_known_within_a_few_rounds_of_it() {
        for (before, round) in [(0, 1), (0, 2), (7, 1), (1_000, 3), (5, 1_000)] {
            let mut lap = Lap::default();
            let way = (0..before).chain((0..u64::MAX).map(|n| before + n % round));
            let steps = way.take_while(|n| lap.gets_on(Some(&key(*n)))).count() as u64;
            assert!(
                steps < 4 * (before + round) + 4,
                "{before} {round}: {steps}"
            );
        }
    }
}

//! A table without a key as a multiset of rows, in the memory of its buckets. Pure.
//!
//! Each row falls into a bucket by its digest. A bucket counts its rows and sums their digests: two buckets
//! with the same rows, in whatever order, are the same. Where they are not, the rows of those buckets are
//! gone through once more and counted one by one.

use std::collections::{BTreeMap, BTreeSet};

/// Buckets of a table. The more, the fewer rows are counted one by one; 24 bytes each.
pub(super) const BUCKETS: usize = 8192;

/// Rows that are counted one by one, at most.
pub(super) const COUNTED_MAX: usize = 200_000;

/// One side of a table.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    buckets: Vec<Bucket>,
    rows: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    rows: u64,
    sum: u128,
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            buckets: vec![Bucket::default(); BUCKETS],
            rows: 0,
        }
    }
}

/// The bucket of a row.
#[must_use]
pub(super) fn bucket(digest: u128) -> usize {
    usize::try_from(digest % (BUCKETS as u128)).unwrap_or(0)
}

impl Buckets {
    /// Takes a row.
    pub(super) fn add(&mut self, digest: u128) {
        self.rows += 1;
        if let Some(bucket) = self.buckets.get_mut(bucket(digest)) {
            bucket.rows += 1;
            bucket.sum = bucket.sum.wrapping_add(digest);
        }
    }

    /// Rows that it took.
    #[must_use]
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// The buckets that are not the same on the other side.
    #[must_use]
    pub(super) fn differing(&self, other: &Self) -> BTreeSet<usize> {
        let pairs = self.buckets.iter().enumerate();
        let differ = pairs.filter(|(at, mine)| other.buckets.get(*at) != Some(*mine));
        differ.map(|(at, _)| at).collect()
    }
}

/// How often each row of the differing buckets is there: the primary's add, the shadow's take away.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    rows: BTreeMap<u128, i64>,
    overflow: bool,
}

impl Counted {
    /// Takes a row; `by` is 1 for the primary's and -1 for the shadow's.
    pub(super) fn add(&mut self, digest: u128, by: i64) {
        // Once one was left out, no other is taken in: it may be the other side's half of the one left out.
        let full = self.overflow || self.rows.len() >= COUNTED_MAX;
        if full && !self.rows.contains_key(&digest) {
            self.overflow = true;
            return;
        }
        let count = self.rows.entry(digest).or_insert(0);
        *count += by;
        if *count == 0 {
            self.rows.remove(&digest);
        }
    }

    /// Rows that the shadow lacks, and rows that it alone has.
    #[must_use]
    pub(super) fn differences(&self) -> (u64, u64) {
        let sum = |of: fn(i64) -> bool| {
            let counts = self.rows.values().filter(|count| of(**count));
            counts.map(|count| count.unsigned_abs()).sum()
        };
        (sum(|count| count > 0), sum(|count| count < 0))
    }

    /// The rows that another count has too many (or too few) of as well.
    #[must_use]
    pub(super) fn also_in(&self, other: &Self) -> Self {
        let both = self.rows.iter().filter_map(|(digest, count)| {
            let there = other.rows.get(digest)?;
            let same = count.signum() == there.signum();
            let least = count.abs().min(there.abs());
            same.then(|| (*digest, count.signum() * least))
        });
        Self {
            rows: both.collect(),
            overflow: self.overflow || other.overflow,
        }
    }

    /// Whether there were too many to count them all.
    #[must_use]
    pub(super) const fn is_cut(&self) -> bool {
        self.overflow
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::digest;
    use super::*;
    use proptest::prelude::*;

    fn side(rows: &[u8]) -> Buckets {
        let mut side = Buckets::default();
        for row in rows {
            side.add(digest(&[*row]));
        }
        side
    }

    #[test]
    fn the_order_says_nothing_and_the_number_does() {
        assert!(
            side(&[1, 2, 2, 3])
                .differing(&side(&[2, 3, 1, 2]))
                .is_empty()
        );
        assert_eq!(side(&[1, 2, 2]).differing(&side(&[1, 2])).len(), 1);
        assert_eq!(side(&[1]).differing(&side(&[2])).len(), 2);
    }

    #[test]
    fn a_row_that_looks_missing_once_and_extra_once_is_neither() {
        let counted = |rows: &[(u8, i64)]| {
            let mut counted = Counted::default();
            for (row, by) in rows {
                counted.add(digest(&[*row]), *by);
            }
            counted
        };
        let one = counted(&[(1, 1), (2, 1), (3, -1), (3, -1), (4, -1)]);
        let other = counted(&[(1, -1), (2, 1), (3, -1), (5, 1)]);
        assert_eq!(one.also_in(&other).differences(), (1, 1));
        assert_eq!(other.also_in(&one).differences(), (1, 1));
    }

    proptest! {
        #[test]
        fn what_differs_is_counted_as_multisets_differ(
            primary in proptest::collection::vec(0_u8..10, 0..30),
            shadow in proptest::collection::vec(0_u8..10, 0..30),
        ) {
            let (mut missing, mut extra) = (0, 0);
            for row in 0_u8..10 {
                let times = |rows: &[u8]| rows.iter().filter(|one| **one == row).count() as u64;
                missing += times(&primary).saturating_sub(times(&shadow));
                extra += times(&shadow).saturating_sub(times(&primary));
            }
            let differ = side(&primary).differing(&side(&shadow));
            let mut counted = Counted::default();
            for (rows, by) in [(&primary, 1), (&shadow, -1)] {
                for digest in rows.iter().map(|row| digest(&[*row])) {
                    if differ.contains(&bucket(digest)) {
                        counted.add(digest, by);
                    }
                }
            }
            prop_assert_eq!(counted.differences(), (missing, extra));
            prop_assert!(!counted.is_cut());
        }
    }
}

//! Which row of one sample is which row of the other.
//!
//! Exact rows first, at the same place and then anywhere (a multiset); then rows that are equal by
//! tolerances, at the same place and then anywhere. What is left on both sides differs. All in
//! bounded time: searches that look at every pair stop at [`SEARCH_MAX`] rows a side.

use super::cells::{Likeness, Ruler};
use super::sample::Row;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Rows a side up to which every pair is looked at.
const SEARCH_MAX: usize = 128;

/// How two samples' rows fit together.
#[derive(Debug, Default)]
pub(super) struct Alignment {
    /// Rows that are equal by tolerances, by their numbers in the two samples.
    pub(super) like: Vec<(usize, usize)>,
    /// Rows of the primary, and of the shadow, that have no equal.
    pub(super) alone: (Vec<usize>, Vec<usize>),
    /// Equal rows at the same place.
    pub(super) in_place: usize,
    /// Whether equal rows stand at different places.
    pub(super) permuted: bool,
}

/// The two samples' rows and how to judge their cells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides<'a> {
    pub(super) primary: &'a [Row<'a>],
    pub(super) shadow: &'a [Row<'a>],
    pub(super) rulers: &'a [Ruler],
}

impl Sides<'_> {
    /// Finds for each row its equal.
    pub(super) fn align(&self) -> Alignment {
        let mut found = Alignment {
            alone: (indexes(self.primary), indexes(self.shadow)),
            ..Alignment::default()
        };
        let same = found.in_place(|at| self.primary.get(at) == self.shadow.get(at));
        found.take(&same);
        let moved = self.exact(&found.alone);
        found.take(&moved);
        let like = found.in_place(|at| self.alike(at, at));
        found.take_like(like);
        let like = self.sorted(&found.alone);
        found.take_like(like);
        let like = self.searched(&found.alone);
        found.take_like(like);
        found
    }

    /// Exactly equal rows, wherever they stand.
    fn exact(&self, alone: &(Vec<usize>, Vec<usize>)) -> Vec<(usize, usize)> {
        let mut waiting: BTreeMap<&Row<'_>, VecDeque<usize>> = BTreeMap::new();
        for at in &alone.1 {
            if let Some(row) = self.shadow.get(*at) {
                waiting.entry(row).or_default().push_back(*at);
            }
        }
        let partner =
            |at: &usize| Some((*at, waiting.get_mut(self.primary.get(*at)?)?.pop_front()?));
        alone.0.iter().filter_map(partner).collect()
    }

    /// Sorted by value, rows that differ only by a tolerance stand side by side.
    fn sorted(&self, alone: &(Vec<usize>, Vec<usize>)) -> Vec<(usize, usize)> {
        let (mut ours, mut theirs) = alone.clone();
        ours.sort_by(|one, other| self.order(self.primary.get(*one), self.primary.get(*other)));
        theirs.sort_by(|one, other| self.order(self.shadow.get(*one), self.shadow.get(*other)));
        let mut theirs = theirs.into_iter();
        let pairs = ours
            .into_iter()
            .map_while(|one| Some((one, theirs.next()?)));
        pairs
            .filter(|(one, other)| self.alike(*one, *other))
            .collect()
    }

    /// Every pair of the first rows that are left.
    fn searched(&self, alone: &(Vec<usize>, Vec<usize>)) -> Vec<(usize, usize)> {
        let mut theirs: Vec<usize> = alone.1.iter().copied().take(SEARCH_MAX).collect();
        let mut pairs = Vec::new();
        for one in alone.0.iter().take(SEARCH_MAX) {
            if let Some(at) = theirs.iter().position(|other| self.alike(*one, *other)) {
                pairs.push((*one, theirs.remove(at)));
            }
        }
        pairs
    }

    /// A total order that puts equal values together, whatever their text.
    fn order(&self, one: Option<&Row<'_>>, other: Option<&Row<'_>>) -> Ordering {
        let (one, other) = (
            one.map_or(&[][..], Vec::as_slice),
            other.map_or(&[][..], Vec::as_slice),
        );
        let mut others = other.iter();
        let mut rulers = self.rulers.iter();
        let orders = one.iter().map_while(|cell| {
            let (other, ruler) = (others.next()?, rulers.next()?);
            Some(match (cell, other) {
                (Some(cell), Some(other)) => ruler.order(cell, other),
                (cell, other) => cell.is_some().cmp(&other.is_some()),
            })
        });
        orders.fold(Ordering::Equal, Ordering::then)
    }

    fn alike(&self, one: usize, other: usize) -> bool {
        self.cells(one, other).all(Likeness::is_like)
    }

    /// What the cells of two rows are to each other, column by column.
    pub(super) fn cells(&self, one: usize, other: usize) -> impl Iterator<Item = Likeness> {
        let column = move |(at, ruler): (usize, &Ruler)| {
            ruler.judge(cell(self.primary, one, at), cell(self.shadow, other, at))
        };
        self.rulers.iter().enumerate().map(column)
    }

    /// Pairs of rows that differ but are probably the same row: most cells in common first, and
    /// at the same place rather than elsewhere. At most [`SEARCH_MAX`] a side are looked at.
    pub(super) fn closest(&self, alone: &(Vec<usize>, Vec<usize>)) -> Vec<(usize, usize)> {
        let mut scored = Vec::new();
        for one in alone.0.iter().take(SEARCH_MAX) {
            for other in alone.1.iter().take(SEARCH_MAX) {
                let alike = self
                    .cells(*one, *other)
                    .filter(|cell| cell.is_like())
                    .count();
                scored.push((alike, *one == *other, *one, *other));
            }
        }
        scored.sort_by(|a, b| {
            (b.0, b.1)
                .cmp(&(a.0, a.1))
                .then((a.2, a.3).cmp(&(b.2, b.3)))
        });
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for (_, _, one, other) in scored {
            if !pairs.iter().any(|(a, b)| *a == one || *b == other) {
                pairs.push((one, other));
            }
        }
        pairs.sort_unstable();
        pairs
    }
}

impl Alignment {
    /// Rows that have no equal yet and pass `test` at the same place on both sides.
    fn in_place(&self, test: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
        let theirs: BTreeSet<usize> = self.alone.1.iter().copied().collect();
        let ours = self.alone.0.iter().copied();
        ours.filter(|at| theirs.contains(at) && test(*at))
            .map(|at| (at, at))
            .collect()
    }

    /// These pairs have found each other.
    fn take(&mut self, pairs: &[(usize, usize)]) {
        let ours: BTreeSet<usize> = pairs.iter().map(|(one, _)| *one).collect();
        let theirs: BTreeSet<usize> = pairs.iter().map(|(_, other)| *other).collect();
        self.alone.0.retain(|at| !ours.contains(at));
        self.alone.1.retain(|at| !theirs.contains(at));
        self.in_place += pairs.iter().filter(|(one, other)| one == other).count();
        self.permuted |= pairs.iter().any(|(one, other)| one != other);
    }

    fn take_like(&mut self, pairs: Vec<(usize, usize)>) {
        self.take(&pairs);
        self.like.extend(pairs);
    }

    /// Whether each row has its equal.
    pub(super) const fn is_complete(&self) -> bool {
        self.alone.0.is_empty() && self.alone.1.is_empty()
    }
}

/// One cell of one row; `None` is NULL, or beyond the row.
pub(super) fn cell<'a>(rows: &'a [Row<'_>], row: usize, column: usize) -> Option<&'a [u8]> {
    rows.get(row)?.get(column)?.as_deref()
}

fn indexes(rows: &[Row<'_>]) -> Vec<usize> {
    (0..rows.len()).collect()
}

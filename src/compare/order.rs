//! Whether rows stand in the order that the statement asked for.
//!
//! Judged by the sort keys: both answers are sorted by the same keys, so the two sequences of
//! keys must be equal, row by row. Where they are, rows that moved did so among equals: ties. The
//! keys must be in the answer; a server's collation is not known here, so strings that may be
//! equal to it count as equal. Moments that each server's own clock wrote need not be equal: there
//! each side is held to the direction in which it sorts.

use super::align::{Sides, cell};
use super::sample::Row;
use crate::sql::{OrderBy, SortKey};
use crate::wire::column::Column;
use std::cmp::Ordering;

/// The sort keys that are in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// Columns of the answer, first key first, up to the first that is not in it.
    columns: Vec<usize>,
    /// Whether that is all of them.
    complete: bool,
}

/// What the keys say about two sequences of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequence {
    /// The same keys in the same order.
    Same,
    /// The keys that are known are the same; others are not in the answer.
    Unknown,
    /// The keys differ first at this row.
    Differs(usize),
}

impl Keys {
    /// Looks for the keys of `order` among the columns.
    pub(super) fn find(order: &OrderBy, columns: &[Column]) -> Self {
        let found: Vec<usize> = order
            .keys
            .iter()
            .map_while(|key| find(key, columns))
            .collect();
        Self {
            complete: !found.is_empty() && found.len() == order.keys.len(),
            columns: found,
        }
    }

    pub(super) const fn complete(&self) -> bool {
        self.complete
    }

    /// Compares the keys of the rows that both samples hold.
    pub(super) fn sequence(&self, sides: &Sides<'_>) -> Sequence {
        let rows = sides.primary.len().min(sides.shadow.len());
        let differs = (0..rows).find(|row| !self.same(sides, *row));
        let turns = self.turns(sides);
        match differs.into_iter().chain(turns).min() {
            Some(row) => Sequence::Differs(row),
            None if self.complete => Sequence::Same,
            None => Sequence::Unknown,
        }
    }

    fn same(&self, sides: &Sides<'_>, row: usize) -> bool {
        self.columns.iter().all(|column| {
            let ours = cell(sides.primary, row, *column);
            let theirs = cell(sides.shadow, row, *column);
            sides
                .rulers
                .get(*column)
                .is_some_and(|ruler| ruler.same_key(ours, theirs))
        })
    }

    /// The first row at which the shadow leaves the order of a key that the clock fills.
    fn turns(&self, sides: &Sides<'_>) -> Option<usize> {
        let turn = |nth| {
            let ours: Vec<_> = self.steps(sides.primary, nth, sides).collect();
            let mut theirs = self.steps(sides.shadow, nth, sides);
            let first = ours.first().map(|(_, way)| *way);
            if ours.iter().any(|(_, way)| Some(*way) != first) {
                return None; // the primary does not sort by what we take for the key
            }
            let way = first.or_else(|| Some(theirs.next()?.1))?;
            theirs.find(|(_, other)| *other != way).map(|(row, _)| row)
        };
        (0..self.columns.len()).filter_map(turn).min()
    }

    /// Where the `nth` key changes from a row to the next, and which way, while the keys before it
    /// stay the same.
    fn steps(
        &self,
        rows: &[Row<'_>],
        nth: usize,
        sides: &Sides<'_>,
    ) -> impl Iterator<Item = (usize, Ordering)> {
        let before = self.columns.get(..nth).unwrap_or_default();
        let column = self.columns.get(nth).copied();
        let ruler = column.and_then(|column| sides.rulers.get(column));
        (1..rows.len()).filter_map(move |row| {
            let at = |row, column| cell(rows, row, column);
            let stays = |column: &usize| at(row - 1, *column) == at(row, *column);
            let way = ruler?.clock_order(at(row - 1, column?), at(row, column?))?;
            (way.is_ne() && before.iter().all(stays)).then_some((row, way))
        })
    }

    /// Whether no neighbour of this row has the same keys, on either side: then the row at this
    /// place is the same row on both.
    pub(super) fn unique(&self, sides: &Sides<'_>, row: usize) -> bool {
        let apart = |rows, other: usize| {
            self.columns.iter().any(|column| {
                let ruler = sides.rulers.get(*column);
                !ruler.is_some_and(|ruler| {
                    ruler.same_key(cell(rows, row, *column), cell(rows, other, *column))
                })
            })
        };
        let before = row.checked_sub(1);
        [sides.primary, sides.shadow].into_iter().all(|rows| {
            before.is_none_or(|before| apart(rows, before))
                && row + 1 < rows.len()
                && apart(rows, row + 1)
        })
    }

    /// Whether this row of the primary, and the shadow's, have the keys of the last row: a LIMIT
    /// may have cut through equals there.
    pub(super) fn at_the_edge(&self, rows: &[Row<'_>], row: usize, sides: &Sides<'_>) -> bool {
        let Some(last) = rows.len().checked_sub(1) else {
            return false;
        };
        self.columns.iter().all(|column| {
            let ruler = sides.rulers.get(*column);
            ruler.is_some_and(|ruler| {
                ruler.same_key(cell(rows, row, *column), cell(rows, last, *column))
            })
        })
    }
}

/// An alias is looked for before the table's own name for a column, as ORDER BY does.
fn find(key: &SortKey, columns: &[Column]) -> Option<usize> {
    match key {
        SortKey::Column(number) => {
            Some(usize::from(*number)).filter(|number| *number < columns.len())
        }
        SortKey::Named(name) => {
            let named = |column: &&Column| column.name.eq_ignore_ascii_case(name);
            let originally = |column: &&Column| column.org_name.eq_ignore_ascii_case(name);
            let only = |test: &dyn Fn(&&Column) -> bool| {
                let mut found = columns
                    .iter()
                    .enumerate()
                    .filter(|(_, column)| test(column))
                    .map(|(at, _)| at);
                found.next().filter(|_| found.next().is_none())
            };
            if columns.iter().any(|column| named(&column)) {
                only(&named)
            } else {
                only(&originally)
            }
        }
        SortKey::Hidden => None,
    }
}

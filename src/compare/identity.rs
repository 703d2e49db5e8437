//! Rows that are the same row of the tables, whatever else they say: by a unique column.
//!
//! Needed where rows may be missing for no fault of a server (a LIMIT, the end of the sample): two
//! rows of one key that differ are a difference all the same. A primary key's flag alone is not
//! enough: each part of a composite key has it, and the answer may lack the others.

use super::align::{Sides, cell};
use crate::wire::column::{Column, flag};
use std::collections::BTreeMap;

/// The columns of an answer that are unique by themselves, where each table in it shows one; else
/// none.
pub(super) fn columns(primary: &[Column], shadow: &[Column]) -> Vec<usize> {
    let unique = |at: usize| {
        [primary, shadow]
            .iter()
            .any(|side| side.get(at).is_some_and(is_unique))
    };
    let keys: Vec<usize> = (0..primary.len()).filter(|at| unique(*at)).collect();
    let same_table =
        |one: &Column, other: &Column| one.table == other.table && one.org_table == other.org_table;
    let keyed = |one: &Column| {
        keys.iter()
            .filter_map(|at| primary.get(*at))
            .any(|key| same_table(key, one))
    };
    if primary
        .iter()
        .filter(|column| column.is_a_tables())
        .all(keyed)
    {
        keys
    } else {
        Vec::new()
    }
}

const fn is_unique(column: &Column) -> bool {
    let generated = column.flags & flag::AUTO_INCREMENT != 0;
    let unique = column.flags & flag::UNIQUE_KEY != 0 && column.flags & flag::NOT_NULL != 0;
    column.is_a_tables() && (generated || unique)
}

/// Rows of the primary, and of the shadow, that have one key.
type Rows = (Vec<usize>, Vec<usize>);

/// Pairs of rows among `alone` that have one key, which no other of them has.
pub(super) fn pairs(
    identity: &[usize],
    sides: &Sides<'_>,
    alone: &(Vec<usize>, Vec<usize>),
) -> Vec<(usize, usize)> {
    if identity.is_empty() {
        return Vec::new();
    }
    let mut known: BTreeMap<Vec<&[u8]>, Rows> = BTreeMap::new();
    let key = |rows, row: usize| {
        identity
            .iter()
            .map(|column| cell(rows, row, *column))
            .collect::<Option<Vec<_>>>()
    };
    for row in &alone.0 {
        if let Some(key) = key(sides.primary, *row) {
            known.entry(key).or_default().0.push(*row);
        }
    }
    for row in &alone.1 {
        if let Some(key) = key(sides.shadow, *row) {
            known.entry(key).or_default().1.push(*row);
        }
    }
    let single =
        |(ours, theirs): (Vec<usize>, Vec<usize>)| match (ours.as_slice(), theirs.as_slice()) {
            ([one], [other]) => Some((*one, *other)),
            _ => None,
        };
    known.into_values().filter_map(single).collect()
}

//! A table's name, and sets of tables. Pure.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A table as a statement names it. Where only the case of names differs it is the same table: on
/// some servers it is, and on the others to take two for one orders and taints too much, never too
/// little.
#[derive(Clone, Debug)]
pub struct Table {
    /// The database, where the statement names one.
    pub database: Option<String>,
    /// The table.
    pub name: String,
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        let [own, others] = [self, other].map(|one| one.database.as_deref().unwrap_or_default());
        self.name.eq_ignore_ascii_case(&other.name) && own.eq_ignore_ascii_case(others)
    }
}

impl Eq for Table {}

impl PartialOrd for Table {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Table {
    fn cmp(&self, other: &Self) -> Ordering {
        let [own, others] = [self, other].map(|one| one.database.as_deref().unwrap_or_default());
        in_any_case(own, others).then_with(|| in_any_case(&self.name, &other.name))
    }
}

/// Compares names in whatever case. Most are written in one, and are told apart by their bytes.
fn in_any_case(one: &str, other: &str) -> Ordering {
    if one == other {
        return Ordering::Equal;
    }
    let fold = |byte: u8| byte.to_ascii_lowercase();
    one.bytes().map(fold).cmp(other.bytes().map(fold))
}

impl Hash for Table {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let database = self.database.as_deref().unwrap_or_default();
        hash_in_any_case(database, state);
        hash_in_any_case(&self.name, state);
    }
}

/// Names are hashed in pieces of so many bytes, of which each is one call.
const PIECE: usize = 32;

fn hash_in_any_case<H: Hasher>(name: &str, state: &mut H) {
    for piece in name.as_bytes().chunks(PIECE) {
        let mut folded = [0; PIECE];
        if let Some(folded) = folded.get_mut(..piece.len()) {
            folded.copy_from_slice(piece);
            folded.make_ascii_lowercase();
            state.write(folded);
        }
    }
    state.write_u8(0xFF);
}

/// A set of tables.
///
/// Nearly every command touches the same few tables as one before it, so a set is shared and a copy
/// of it costs a count; only a join that adds a table makes another. The empty one allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct TableSet(Option<Arc<BTreeSet<Table>>>);

impl TableSet {
    /// No table.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// The tables, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Table> {
        self.0.iter().flat_map(|tables| tables.iter())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |tables| tables.len())
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it has this one.
    #[must_use]
    pub fn contains(&self, table: &Table) -> bool {
        self.0.as_ref().is_some_and(|own| own.contains(table))
    }

    /// Whether both have a table in common.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(own), Some(others)) => Arc::ptr_eq(own, others) || !own.is_disjoint(others),
            (None, _) | (_, None) => false,
        }
    }

    /// This set and `other` together.
    pub(crate) fn join(&mut self, other: &Self) {
        let Some(others) = &other.0 else { return };
        let Some(own) = &mut self.0 else {
            self.0 = Some(Arc::clone(others));
            return;
        };
        if !Arc::ptr_eq(own, others) && !others.is_subset(own) {
            Arc::make_mut(own).extend(others.iter().cloned());
        }
    }
}

impl From<BTreeSet<Table>> for TableSet {
    fn from(tables: BTreeSet<Table>) -> Self {
        Self((!tables.is_empty()).then(|| Arc::new(tables)))
    }
}

impl<const N: usize> From<[Table; N]> for TableSet {
    fn from(tables: [Table; N]) -> Self {
        BTreeSet::from(tables).into()
    }
}

impl From<Vec<Table>> for TableSet {
    fn from(tables: Vec<Table>) -> Self {
        BTreeSet::from_iter(tables).into()
    }
}

impl FromIterator<Table> for TableSet {
    fn from_iter<I: IntoIterator<Item = Table>>(tables: I) -> Self {
        BTreeSet::from_iter(tables).into()
    }
}

impl PartialEq for TableSet {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(own), Some(others)) => Arc::ptr_eq(own, others) || own == others,
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Eq for TableSet {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    fn table(database: Option<&str>, name: &str) -> Table {
        Table {
            database: database.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    #[test]
    fn names_that_differ_in_case_alone_are_one_table_however_long_they_are() {
        let hasher = std::hash::RandomState::new();
        let long = "a".repeat(3 * PIECE + 1);
        for (one, other, are) in [
            (table(Some("App"), "T"), table(Some("app"), "t"), true),
            (table(None, "t"), table(Some(""), "T"), true),
            (table(None, &long), table(None, &long.to_uppercase()), true),
            (table(Some("a"), "bc"), table(Some("ab"), "c"), false),
            (table(None, "t"), table(Some("t"), "t"), false),
        ] {
            assert_eq!(one == other, are, "{one:?} {other:?}");
            assert_eq!(one.cmp(&other) == Ordering::Equal, are, "{one:?} {other:?}");
            let hashes = [&one, &other].map(|table| hasher.hash_one(table));
            assert_eq!(hashes[0] == hashes[1], are, "{one:?} {other:?}");
        }
    }
}

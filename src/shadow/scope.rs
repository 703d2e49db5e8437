//! The tables that a command touches, as far as its order among others must know them. Pure.

use crate::sql::{Table, TableSet, Tables};

/// The tables that a command touches, as far as the order must know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// These and no others, qualified by their database.
    Known(TableSet),
    /// Perhaps any.
    All,
}

impl Scope {
    /// The scope of a statement's tables, unqualified ones taken to be in `database`.
    pub(super) fn of(tables: &Tables, database: &str) -> Self {
        match tables {
            Tables::Known(tables) => Self::Known(
                tables
                    .iter()
                    .map(|table| qualified(table, database))
                    .collect(),
            ),
            Tables::Unknown => Self::All,
        }
    }

    /// The tables, as far as they are known.
    pub(super) fn tables(&self) -> TableSet {
        match self {
            Self::Known(tables) => tables.clone(),
            Self::All => TableSet::none(),
        }
    }

    /// The tables for a taint: where they are not known, all of the database.
    pub(super) fn taintable(&self, database: &str) -> TableSet {
        match self {
            Self::Known(tables) => tables.clone(),
            Self::All => [Table {
                database: (!database.is_empty()).then(|| database.to_owned()),
                name: "*".to_owned(),
            }]
            .into(),
        }
    }

    /// No table at all.
    pub(super) const fn none() -> Self {
        Self::Known(TableSet::none())
    }

    /// Whether it is known to touch nothing.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Known(tables) if tables.is_empty())
    }

    /// Whether it may touch this table.
    pub(super) fn has(&self, table: &Table) -> bool {
        match self {
            Self::Known(tables) => tables.contains(table),
            Self::All => true,
        }
    }

    /// Whether both may touch the same table.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(mine), Self::Known(theirs)) => mine.meets(theirs),
            (Self::All, one) | (one, Self::All) => !one.is_empty(),
        }
    }

    /// This scope and `other` together; past [`SCOPE_TABLES_MAX`] tables it is [`Scope::All`].
    pub(super) fn join(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (Self::Known(_), Self::All) => *self = Self::All,
            (Self::Known(mine), Self::Known(theirs)) => {
                mine.join(theirs);
                if mine.len() > SCOPE_TABLES_MAX {
                    *self = Self::All;
                }
            }
        }
    }
}

/// A transaction that touches more tables than this counts as touching all: what is remembered of
/// it stays small.
const SCOPE_TABLES_MAX: usize = 256;

/// The table with the session's database filled in.
pub(super) fn qualified(table: &Table, database: &str) -> Table {
    match &table.database {
        Some(_) => table.clone(),
        None => Table {
            database: (!database.is_empty()).then(|| database.to_owned()),
            name: table.name.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(names: &[&str]) -> Scope {
        let table = |name: &&str| Table {
            database: Some("app".into()),
            name: (*name).into(),
        };
        Scope::Known(names.iter().map(table).collect())
    }

    #[test]
    fn what_is_joined_to_a_copy_is_not_in_the_one_that_was_copied() {
        let one = on(&["a", "b"]);
        let mut other = one.clone();
        other.join(&on(&["C", "A"]));
        assert_eq!((&one, &other), (&on(&["a", "b"]), &on(&["a", "b", "c"])));
        assert!(one.meets(&other) && !one.meets(&on(&["c"])) && !one.meets(&Scope::none()));
    }

    #[test]
    fn what_touches_nothing_is_empty_however_it_was_made() {
        let mut scope = Scope::none();
        scope.join(&on(&[]));
        assert!(scope.is_empty());
        assert_eq!(scope, on(&[]));
        assert!(!scope.meets(&Scope::All));
    }

    #[test]
    fn past_so_many_tables_it_may_be_any() {
        let mut scope = Scope::none();
        for n in 0..=SCOPE_TABLES_MAX {
            assert_ne!(scope, Scope::All, "{n}");
            scope.join(&on(&[&format!("t{n}")]));
        }
        assert_eq!(scope, Scope::All);
    }
}

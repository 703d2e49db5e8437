//! Tables that may hold other rows on the shadow, each with the cause, until an operator clears it.
//!
//! In memory for the quick question, in the store for good.

use crate::sql::Table;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tables that are kept apart; one more taints everything, as `*`.
const TAINTS_MAX: usize = 10_000;

/// A tainted table, and why. A name of `*` stands for every table of its database, or of all
/// where it has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taint {
    /// The database; null for any.
    pub database: Option<String>,
    /// The table.
    pub table: String,
    /// What happened, without literals.
    pub cause: String,
    /// When it was first tainted.
    pub since: jiff::Timestamp,
}

impl Taint {
    /// The table's name for the quick question.
    #[must_use]
    pub fn key(&self) -> Table {
        Table {
            database: self.database.clone(),
            name: self.table.clone(),
        }
    }
}

/// All tainted tables.
#[derive(Debug, Default)]
pub(super) struct Taints {
    tables: RwLock<BTreeMap<Table, Taint>>,
}

impl Taints {
    pub(super) fn load(known: Vec<Taint>) -> Self {
        let tables = known
            .into_iter()
            .map(|taint| (taint.key(), taint))
            .collect();
        Self {
            tables: RwLock::new(tables),
        }
    }

    /// Taints tables; says which were not tainted before. The first cause stays.
    pub(super) fn add(&self, tables: &[Table], cause: &str, now: jiff::Timestamp) -> Vec<Taint> {
        let mut known = self.tables.write();
        let mut new = Vec::new();
        for table in tables {
            let full = known.len() >= TAINTS_MAX;
            let key = if full { everything() } else { table.clone() };
            if known.contains_key(&key) {
                continue;
            }
            let taint = Taint {
                database: key.database.clone(),
                table: key.name.clone(),
                cause: cause.to_owned(),
                since: now,
            };
            known.insert(key, taint.clone());
            new.push(taint);
        }
        new
    }

    pub(super) fn has(&self, table: &Table) -> bool {
        self.tables.read().contains_key(table)
    }

    pub(super) fn any(&self) -> bool {
        !self.tables.read().is_empty()
    }

    pub(super) fn all(&self) -> Vec<Taint> {
        self.tables.read().values().cloned().collect()
    }

    /// Clears tables by `database.table`, `table` (in any database) or `*`; says which were.
    pub(super) fn clear(&self, names: &[String]) -> Vec<Taint> {
        let mut known = self.tables.write();
        let cleared: Vec<Taint> = known
            .values()
            .filter(|taint| names.iter().any(|name| named(taint, name)))
            .cloned()
            .collect();
        for taint in &cleared {
            known.remove(&taint.key());
        }
        cleared
    }
}

fn everything() -> Table {
    Table {
        database: None,
        name: "*".to_owned(),
    }
}

fn named(taint: &Taint, name: &str) -> bool {
    let qualified = taint
        .database
        .as_ref()
        .map(|database| format!("{database}.{}", taint.table));
    name == "*" || name == taint.table || qualified.as_deref() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> Table {
        Table {
            database: Some("app".into()),
            name: name.into(),
        }
    }

    #[test]
    fn the_first_cause_stays_until_the_table_is_cleared() {
        let taints = Taints::default();
        let now = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(taints.add(&[table("a")], "dropped", now).len(), 1);
        assert!(taints.add(&[table("a")], "diverged", now).is_empty());
        assert_eq!(taints.all()[0].cause, "dropped");
        assert!(taints.has(&table("a")) && !taints.has(&table("b")));
        assert_eq!(taints.clear(&["app.a".into()]).len(), 1);
        assert!(!taints.has(&table("a")));
    }

    #[test]
    fn a_table_is_cleared_by_its_own_name_only() {
        let taints = Taints::default();
        taints.add(
            &[table("a"), table("ab")],
            "dropped",
            jiff::Timestamp::UNIX_EPOCH,
        );
        assert_eq!(taints.clear(&["a".into()]).len(), 1);
        assert!(taints.has(&table("ab")));
        assert_eq!(taints.clear(&["*".into()]).len(), 1);
    }
}

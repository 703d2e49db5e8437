//! Columns of tables that are known to hold the clock: by their definition, or because a statement
//! wrote NOW() into them. The packets say so of TIMESTAMP alone.

use crate::wire::column::Column;
use std::collections::BTreeSet;

/// Columns remembered at most; those of one more are judged as any other.
const COLUMNS_MAX: usize = 10_000;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockColumns(BTreeSet<[String; 3]>);

impl ClockColumns {
    /// Whether the clock fills this column.
    #[must_use]
    pub fn has(&self, database: &str, table: &str, column: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&key(database, table, column))
    }

    /// The clock fills this column.
    pub fn learn(&mut self, database: &str, table: &str, column: &str) {
        if self.0.len() < COLUMNS_MAX {
            self.0.insert(key(database, table, column));
        }
    }

    /// Whether the clock fills what the primary describes so.
    pub(super) fn fills(&self, column: &Column) -> bool {
        self.has(&column.schema, &column.org_table, &column.org_name)
    }
}

fn key(database: &str, table: &str, column: &str) -> [String; 3] {
    [database, table, column].map(str::to_lowercase)
}

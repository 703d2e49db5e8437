//! Columns of tables that are known to hold the clock: by their definition, or because a statement
//! wrote NOW() into them. The packets say so of TIMESTAMP alone.

use crate::wire::column::{Column, kind};
use std::collections::BTreeMap;

/// Columns remembered at most; those of one more are judged as any other.
const COLUMNS_MAX: usize = 10_000;

/// See the module. Of each, whether a number in it is the clock's too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockColumns(BTreeMap<[String; 3], bool>);

impl ClockColumns {
    /// Whether it is known that the clock fills this column, `is_unix`: with a number.
    #[must_use]
    pub fn has(&self, database: &str, table: &str, column: &str, is_unix: bool) -> bool {
        let known = self.0.get(&key(database, table, column));
        known.is_some_and(|unix| *unix || !is_unix)
    }

    /// The clock fills this column; `is_unix` where UNIX_TIMESTAMP() did, and nothing else.
    pub fn learn(&mut self, database: &str, table: &str, column: &str, is_unix: bool) {
        let key = key(database, table, column);
        if let Some(unix) = self.0.get_mut(&key) {
            *unix |= is_unix;
        } else if self.0.len() < COLUMNS_MAX {
            self.0.insert(key, is_unix);
        }
    }

    /// Whether anything is known of a table.
    #[must_use]
    pub fn has_table(&self, database: &str, table: &str) -> bool {
        self.0.keys().any(|key| of_table(key, database, table))
    }

    /// The table is another one now.
    pub fn forget(&mut self, database: &str, table: &str) {
        self.0.retain(|key, _| !of_table(key, database, table));
    }

    /// Whether the clock fills what the primary describes so: a column that keeps a time, or a
    /// number that was assigned the clock's. Any other only looks like it.
    pub(super) fn fills(&self, column: &Column) -> bool {
        let is_unix = match column.kind {
            kind::TIMESTAMP | kind::DATE | kind::TIME | kind::DATETIME => false,
            kind::LONG | kind::LONGLONG => true,
            _ => return false,
        };
        !self.0.is_empty() && self.has(&column.schema, &column.org_table, &column.org_name, is_unix)
    }
}

fn of_table([own, name, _]: &[String; 3], database: &str, table: &str) -> bool {
    *own == database.to_lowercase() && *name == table.to_lowercase()
}

fn key(database: &str, table: &str, column: &str) -> [String; 3] {
    [database, table, column].map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: u8) -> Column {
        Column {
            schema: "app".into(),
            org_table: "T".into(),
            org_name: "at".into(),
            kind,
            ..Column::default()
        }
    }

    #[test]
    fn a_number_holds_the_clock_only_where_nothing_but_the_clock_was_assigned() {
        let mut known = ClockColumns::default();
        known.learn("app", "t", "at", false);
        assert!(known.fills(&column(kind::DATETIME)));
        assert!(!known.fills(&column(kind::LONG)));
        known.learn("app", "t", "AT", true);
        assert!(known.fills(&column(kind::LONGLONG)));
        assert!(!known.fills(&column(kind::VAR_STRING)));
    }

    #[test]
    fn a_table_that_is_another_now_is_forgotten() {
        let mut known = ClockColumns::default();
        known.learn("app", "t", "at", true);
        known.learn("app", "u", "at", true);
        known.forget("APP", "t");
        assert!(!known.has_table("app", "t") && known.has_table("app", "u"));
    }
}

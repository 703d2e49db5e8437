//! Which tables the mirror ever wrote: a small table between the shadow side and the store. What could
//! not be stored is given back and waits here.

use crate::sql::{Table, TableSet};
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// Mirrored tables that are remembered one by one; after that, as `*`.
const MIRRORED_MAX: usize = 10_000;

/// Tables that the mirror wrote, ever.
#[derive(Debug, Default)]
pub(super) struct Mirrored {
    tables: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    known: BTreeSet<Table>,
    unsaved: BTreeSet<Table>,
}

impl Mirrored {
    /// What the file knows, beside what came up in the meantime.
    pub(super) fn load(&self, known: Vec<Table>) {
        self.tables.lock().known.extend(known);
    }

    /// Adds tables; whether one of them is new.
    pub(super) fn add(&self, tables: &TableSet) -> bool {
        if tables.is_empty() {
            return false;
        }
        let mut written = self.tables.lock();
        let mut any = false;
        for table in tables.iter().filter(|table| !table.name.is_empty()) {
            if written.known.contains(table) {
                continue;
            }
            let table = if written.known.len() < MIRRORED_MAX {
                table.clone()
            } else {
                Table {
                    database: None,
                    name: "*".to_owned(),
                }
            };
            if written.known.insert(table.clone()) {
                written.unsaved.insert(table);
                any = true;
            }
        }
        any
    }

    /// What has not been stored yet.
    pub(super) fn take(&self) -> BTreeSet<Table> {
        std::mem::take(&mut self.tables.lock().unsaved)
    }

    /// It could not be stored.
    pub(super) fn give_back(&self, tables: BTreeSet<Table>) {
        self.tables.lock().unsaved.extend(tables);
    }
}

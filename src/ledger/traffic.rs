//! How often each statement was seen, and which tables the mirror wrote: small tables between the
//! shadow side and the store. What could not be stored is given back and waits here.

use super::observation::{Observation, Protocol};
use crate::sql::Table;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};

/// Commands after which the counts go to the store.
const FLUSH_EVERY: u64 = 1000;

/// Mirrored tables that are remembered one by one; after that, as `*`.
const MIRRORED_MAX: usize = 10_000;

/// Counts commands by digest and protocol between two flushes. Bounded: past the limit the rest
/// counts under the digest 0.
#[derive(Debug)]
pub(super) struct Traffic {
    most: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    since_flush: u64,
    by_shape: Flush,
}

/// Commands by digest and protocol.
pub(super) type Flush = BTreeMap<(u64, Protocol), u64>;

impl Traffic {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            counts: Mutex::default(),
        }
    }

    /// Counts one command; whether it is time to store the counts.
    pub(super) fn count(&self, observation: &Observation) -> bool {
        let mut counts = self.counts.lock();
        counts.add(self.most, (observation.digest, observation.protocol), 1);
        counts.since_flush += 1;
        counts.since_flush >= FLUSH_EVERY
    }

    /// What has not been stored yet.
    pub(super) fn take(&self) -> Flush {
        let mut counts = self.counts.lock();
        counts.since_flush = 0;
        std::mem::take(&mut counts.by_shape)
    }

    /// It could not be stored.
    pub(super) fn give_back(&self, flush: Flush) {
        let mut counts = self.counts.lock();
        for (shape, commands) in flush {
            counts.add(self.most, shape, commands);
        }
    }
}

impl Counts {
    fn add(&mut self, most: usize, mut shape: (u64, Protocol), commands: u64) {
        if self.by_shape.len() >= most && !self.by_shape.contains_key(&shape) {
            shape.0 = 0;
        }
        *self.by_shape.entry(shape).or_default() += commands;
    }
}

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
    pub(super) fn add(&self, tables: &[Table]) -> bool {
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

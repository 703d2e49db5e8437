//! How often each statement was seen, and which tables the mirror wrote: small tables between the
//! shadow side and the store.

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
    by_shape: BTreeMap<(u64, Protocol), u64>,
}

/// Counts as the store takes them: digest, protocol, commands.
pub(super) type Flush = Vec<(String, &'static str, u64)>;

impl Traffic {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            counts: Mutex::default(),
        }
    }

    /// Counts one command; from time to time what is to be stored.
    pub(super) fn count(&self, observation: &Observation) -> Option<Flush> {
        let mut counts = self.counts.lock();
        let mut key = (observation.digest, observation.protocol);
        if counts.by_shape.len() >= self.most && !counts.by_shape.contains_key(&key) {
            key.0 = 0;
        }
        *counts.by_shape.entry(key).or_default() += 1;
        counts.since_flush += 1;
        (counts.since_flush >= FLUSH_EVERY).then(|| take(&mut counts))
    }

    /// What has not been stored yet.
    pub(super) fn take(&self) -> Flush {
        take(&mut self.counts.lock())
    }
}

fn take(counts: &mut Counts) -> Flush {
    counts.since_flush = 0;
    let shapes = std::mem::take(&mut counts.by_shape);
    shapes
        .into_iter()
        .map(|((digest, protocol), commands)| (format!("{digest:016x}"), protocol.name(), commands))
        .collect()
}

/// Tables that the mirror wrote, ever.
#[derive(Debug, Default)]
pub(super) struct Mirrored {
    tables: Mutex<BTreeSet<Table>>,
}

impl Mirrored {
    pub(super) fn load(known: Vec<Table>) -> Self {
        Self {
            tables: Mutex::new(known.into_iter().collect()),
        }
    }

    /// Adds tables; says which are new.
    pub(super) fn add(&self, tables: &[Table]) -> Vec<Table> {
        let mut known = self.tables.lock();
        let mut new = Vec::new();
        for table in tables.iter().filter(|table| !table.name.is_empty()) {
            if known.contains(table) {
                continue;
            }
            let table = if known.len() < MIRRORED_MAX {
                table.clone()
            } else {
                Table {
                    database: None,
                    name: "*".to_owned(),
                }
            };
            if known.insert(table.clone()) {
                new.push(table);
            }
        }
        new
    }
}

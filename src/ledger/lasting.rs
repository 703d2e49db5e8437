//! What must reach the file some day, however long it cannot be written: taints, the tables that
//! the mirror wrote, the counts of traffic.
//!
//! It does not pass through the queue of findings, which may be full. Memory has all of it, in
//! bounds of its own, and the writer asks what the file still lacks.

use super::taints::{Change, Taints};
use super::traffic::{Flush, Mirrored, Traffic};
use crate::sql::Table;
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug)]
pub(super) struct Lasting {
    pub(super) taints: Taints,
    pub(super) mirrored: Mirrored,
    pub(super) traffic: Traffic,
}

/// What the file lacks.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    pub(super) taints: Option<Change>,
    pub(super) wrote: BTreeSet<Table>,
    pub(super) traffic: Flush,
}

impl Unsaved {
    /// Whether it says which tables are to be trusted: then it must be on the disk.
    pub(super) fn is_urgent(&self) -> bool {
        self.taints.is_some() || !self.wrote.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_urgent() && self.traffic.is_empty()
    }
}

impl Lasting {
    pub(super) fn new(fingerprints_max: usize) -> Self {
        Self {
            taints: Taints::default(),
            mirrored: Mirrored::default(),
            traffic: Traffic::new(fingerprints_max),
        }
    }

    /// Takes what the file lacks; the counts of traffic, which change with every command, only
    /// when it is time.
    pub(super) fn take(&self, with_traffic: bool) -> Unsaved {
        Unsaved {
            taints: self.taints.take(),
            wrote: self.mirrored.take(),
            traffic: if with_traffic {
                self.traffic.take()
            } else {
                Flush::new()
            },
        }
    }

    /// It could not be written.
    pub(super) fn give_back(&self, unsaved: Unsaved) {
        if let Some(change) = unsaved.taints {
            self.taints.give_back(change);
        }
        self.mirrored.give_back(unsaved.wrote);
        self.traffic.give_back(unsaved.traffic);
    }
}

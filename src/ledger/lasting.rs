//! What must reach the file some day, however long it cannot be written: taints, the tables that
//! the mirror wrote, the tallies.
//!
//! It does not pass through the queue of findings, which may be full. Memory has all of it, in
//! bounds of its own, and the writer asks what the file still lacks.

use super::mirrored::Mirrored;
use super::taints::{Change, Taints};
use super::tallies::{Lacking, Tallies};
use crate::sql::Table;
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug)]
pub(super) struct Lasting {
    pub(super) taints: Taints,
    pub(super) mirrored: Mirrored,
    pub(super) tallies: Tallies,
}

/// What the file lacks.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    pub(super) taints: Option<Change>,
    pub(super) wrote: BTreeSet<Table>,
    pub(super) tallies: Lacking,
}

impl Unsaved {
    /// Whether it says which tables are to be trusted: then it must be on the disk.
    pub(super) fn is_urgent(&self) -> bool {
        self.taints.is_some() || !self.wrote.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_urgent() && self.tallies.is_empty()
    }
}

impl Lasting {
    pub(super) fn new(fingerprints_max: usize) -> Self {
        Self {
            taints: Taints::default(),
            mirrored: Mirrored::default(),
            tallies: Tallies::new(fingerprints_max),
        }
    }

    /// Takes what the file lacks; the tallies, which change with every command, only
    /// when it is time.
    pub(super) fn take(&self, with_tallies: bool) -> Unsaved {
        Unsaved {
            taints: self.taints.take(),
            wrote: self.mirrored.take(),
            tallies: if with_tallies {
                self.tallies.take()
            } else {
                Lacking::default()
            },
        }
    }

    /// It could not be written.
    pub(super) fn give_back(&self, unsaved: Unsaved) {
        if let Some(change) = unsaved.taints {
            self.taints.give_back(change);
        }
        self.mirrored.give_back(unsaved.wrote);
        self.tallies.give_back(unsaved.tallies);
    }
}

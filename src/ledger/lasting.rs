//! What must reach the file some day, however long it cannot be written: taints and how much
//! followed from them, the tables that the mirror wrote, the tallies.
//!
//! It does not pass through the queue of findings, which may be full. Memory has all of it, in
//! bounds of its own, and the writer asks what the file still lacks.

use super::cause::{Amended, ByCause, Followed};
use super::mirrored::Mirrored;
use super::taints::{Change, Taints};
use super::tallies::{Lacking, Tallies};
use crate::sql::Table;
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug)]
pub(super) struct Lasting {
    pub(super) taints: Taints,
    pub(super) followed: Followed,
    pub(super) mirrored: Mirrored,
    pub(super) tallies: Tallies,
}

/// What the file lacks.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    pub(super) taints: Option<Change>,
    /// To be applied before what followed is added.
    pub(super) amended: Vec<Amended>,
    pub(super) followed: ByCause,
    pub(super) wrote: BTreeSet<Table>,
    pub(super) tallies: Lacking,
}

impl Unsaved {
    /// Whether it says which tables are to be trusted: then it must be on the disk.
    pub(super) fn is_urgent(&self) -> bool {
        self.taints.is_some() || !self.wrote.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_urgent()
            && self.followed.is_empty()
            && self.amended.is_empty()
            && self.tallies.is_empty()
    }
}

impl Lasting {
    pub(super) fn new(fingerprints_max: usize) -> Self {
        Self {
            taints: Taints::default(),
            followed: Followed::default(),
            mirrored: Mirrored::default(),
            tallies: Tallies::new(fingerprints_max),
        }
    }

    /// Takes what the file lacks; the tallies, which change with every command, and when a table was tainted
    /// last, only when it is time.
    pub(super) fn take(&self, with_tallies: bool) -> Unsaved {
        // The taints first: what followed before one was cleared is then stored with the clearance
        // or before it, and never taken for a relapse.
        let taints = self.taints.take(with_tallies);
        Unsaved {
            amended: self.followed.take_amended(),
            followed: self.followed.take(),
            taints,
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
        self.followed.give_back(unsaved.followed);
        self.followed.give_back_amended(unsaved.amended);
        self.mirrored.give_back(unsaved.wrote);
        self.tallies.give_back(unsaved.tallies);
    }
}

//! The transaction under way on the shadow: whether it is carried whole, and what is owed once the
//! primary commits.

use super::order::Scope;
use super::perform::Kept;
use super::shared::{Shared, count};
use crate::compare::verdict::Reason;
use crate::ledger::Cause;

/// See the module.
#[derive(Debug)]
pub(super) struct Carried {
    /// What it wrote there.
    pub(super) wrote: Scope,
    /// Its commands so far.
    pub(super) commands: u64,
    /// Why it is not carried to its end, if it is not: the rest of it is not run, and what it has
    /// done is rolled back.
    broken: Option<Reason>,
    /// One of its commands ran before its turn, so that what it sees may be older, or what it
    /// wrote newer, than on the primary.
    pub(super) late: bool,
    /// What is tainted once the primary commits, though the shadow does so, too.
    taints: Vec<(Scope, Cause)>,
    /// Its commands, to run it again.
    pub(super) kept: Kept,
}

impl Default for Carried {
    fn default() -> Self {
        Self {
            wrote: Scope::none(),
            commands: 0,
            broken: None,
            late: false,
            taints: Vec::new(),
            kept: Kept::default(),
        }
    }
}

impl Carried {
    /// Why it is not carried to its end, if it is not.
    pub(super) const fn broken(&self) -> Option<Reason> {
        self.broken
    }

    /// Whether there is none: nothing is written, broken, owed or kept.
    pub(super) fn is_over(&self) -> bool {
        self.broken.is_none()
            && !self.late
            && self.taints.is_empty()
            && self.wrote.is_empty()
            && self.commands == 0
    }

    /// It is not carried to its end. The first reason stays.
    pub(super) fn give_up(&mut self, shared: &Shared, reason: Reason) {
        if self.broken.is_none() {
            self.broken = Some(reason);
            count(&shared.counters.broken);
        }
    }

    /// These tables will hold other rows once the primary commits.
    pub(super) fn owe(&mut self, scope: Scope, cause: Cause) {
        if !scope.is_empty() {
            self.taints.push((scope, cause));
        }
    }

    /// Why one of the tables holds other rows by now, if one does: the first cause.
    pub(super) fn owes(&self, scope: &Scope) -> Option<&Cause> {
        let owed = self.taints.iter().find(|(tables, _)| tables.meets(scope));
        owed.map(|(_, cause)| cause)
    }

    /// What is owed.
    pub(super) fn take_owed(&mut self) -> Vec<(Scope, Cause)> {
        std::mem::take(&mut self.taints)
    }

    /// It has ended; `another` was opened by the command that ended it, whose commands since
    /// cannot be told from those of this one.
    pub(super) fn end(&mut self, shared: &Shared, another: bool) {
        self.kept.clear(shared);
        *self = Self::default();
        if another {
            self.kept.is_not_whole();
        }
    }
}

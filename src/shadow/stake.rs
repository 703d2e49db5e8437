//! What the primary committed with one command, and the shadow must have too.
//!
//! The one place where a lost write taints: whoever has a stake either says that the shadow
//! carried it, or its tables are tainted, even where the task that had it broke.

use super::order::Scope;
use super::shared::Shared;
use crate::compare::verdict::Reason;
use crate::ledger::Cause;
use std::sync::Arc;

/// See the module.
pub(super) struct Stake {
    shared: Arc<Shared>,
    scope: Scope,
    database: Arc<str>,
    shape: Arc<str>,
}

impl Stake {
    /// In these tables, the unqualified ones in `database`; `shape` is the command's.
    pub(super) fn new(
        shared: &Arc<Shared>,
        scope: Scope,
        database: &Arc<str>,
        shape: &Arc<str>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            scope,
            database: Arc::clone(database),
            shape: Arc::clone(shape),
        }
    }

    /// The shadow has it, too.
    pub(super) fn carried(mut self) {
        self.scope = Scope::none();
    }

    /// The shadow has it not, or not as the primary has.
    pub(super) fn lost(mut self, cause: &Cause) {
        let scope = std::mem::replace(&mut self.scope, Scope::none());
        self.shared.taint(&scope, &self.database, cause);
    }

    /// It was not run there, or not to its end.
    pub(super) fn missed(self, reason: Reason) {
        let cause = format!("a dark write was lost ({}): {}", reason.name(), self.shape);
        self.lost(&cause.as_str().into());
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        if !self.scope.is_empty() {
            let cause = format!("a dark write was lost (internal): {}", self.shape);
            let cause = cause.as_str().into();
            self.shared.taint(&self.scope, &self.database, &cause);
        }
    }
}

impl std::fmt::Debug for Stake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stake").field(&self.scope).finish()
    }
}

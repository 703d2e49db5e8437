//! How a verification has an instant of one table, where writers go past this proxy: the primary locks it
//! ([`Lock`]). Only where replication feeds the shadow, for it brings what others write, too.

use super::Surroundings;
use crate::config::FedBy;
use crate::cutover::{Lock, Locked, Of};
use crate::sql::Table;
use crate::verify::{Held, On};
use std::sync::Arc;

impl Surroundings {
    /// Of tables of who is primary now. On the main thread: writers wait for it.
    pub(super) fn lock(&self) -> Lock {
        Lock::new(
            Arc::clone(&self.dial),
            self.roles.borrow().clone(),
            &self.config.verify.position_command,
            (self.main.clone(), self.standstill.clone()),
        )
    }
}

/// Why no lock is of use where this feeds the shadow; none where one is.
pub(super) fn never_locked(fed_by: FedBy, is_fleet: bool) -> Option<String> {
    let why = match (fed_by, is_fleet) {
        (FedBy::Replication, _) => return None,
        (FedBy::Mirror, true) => {
            "what other proxies of the fleet have queued for the shadow has not arrived there when a table is locked, and nobody here can wait for it; take --mode chunks"
        }
        (FedBy::Mirror, false) => {
            "only where replication feeds the shadow (shadow.fed_by): what goes past the proxy the mirror brings to no shadow, and the running proxy holds its own sessions without a lock; leave --lock out"
        }
    };
    Some(format!("--lock: {why}"))
}

/// As a lock is asked for.
#[must_use]
pub fn of<'a>(table: &'a Table, on: On<'a>) -> Of<'a> {
    Of {
        database: table.database.as_deref().unwrap_or_default(),
        name: &table.name,
        primary: on.primary,
        shadow: on.shadow,
    }
}

/// As a run tells it.
#[must_use]
pub fn held(locked: Locked) -> Held {
    let Locked {
        moment,
        caught_up,
        hopeless,
    } = locked;
    Held {
        held: moment.held,
        gathered: moment.gathered,
        caught_up,
        sessions: moment.sessions,
        failed: moment.outcome.err().map(|why| why.to_string()),
        hopeless,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_of_use_only_where_replication_brings_what_others_write() {
        for is_fleet in [true, false] {
            assert_eq!(never_locked(FedBy::Replication, is_fleet), None);
        }
        let fleet = never_locked(FedBy::Mirror, true).unwrap();
        assert!(fleet.contains("other proxies"), "{fleet}");
        let alone = never_locked(FedBy::Mirror, false).unwrap();
        assert!(alone.contains("leave --lock out"), "{alone}");
    }
}

//! Who was seen, and which features of a server's sessions use: kept since the start, bounded.
//!
//! A session counts from its first command on: one that never said anything is not seen here.

use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Users that are told apart; sessions of others are only counted.
const USERS_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Census {
    users: Mutex<Users>,
    features: Mutex<BTreeMap<&'static str, u64>>,
}

/// Users whose sessions were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Each with how many of its logins were.
    pub logins: BTreeMap<String, u64>,
    /// Logins of users for whom there was no more room.
    pub unnamed: u64,
}

impl Census {
    /// A user has logged in.
    pub(super) fn see_user(&self, user: &str) {
        let mut users = self.users.lock();
        if let Some(logins) = users.logins.get_mut(user) {
            *logins += 1;
        } else if users.logins.len() < USERS_MAX {
            users.logins.insert(user.to_owned(), 1);
        } else {
            users.unnamed += 1;
        }
    }

    /// A session used a feature.
    pub(super) fn see_feature(&self, feature: &'static str) {
        *self.features.lock().entry(feature).or_default() += 1;
    }

    /// Who was seen.
    pub(super) fn users(&self) -> Users {
        self.users.lock().clone()
    }

    /// How often each feature was used.
    pub(super) fn features(&self) -> BTreeMap<&'static str, u64> {
        self.features.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_past_the_bound_are_counted_together() {
        let census = Census::default();
        for n in 0..=USERS_MAX {
            census.see_user(&format!("u{n}"));
        }
        census.see_user("u0");
        let users = census.users();
        assert_eq!((users.logins.len(), users.unnamed), (USERS_MAX, 1));
        assert_eq!(users.logins.get("u0"), Some(&2));
    }
}

//! Which server is primary; a watch that sessions read between transactions.
//!
//! Only `cutover` writes roles.

use crate::config::{Config, Server};
use std::sync::Arc;
use tokio::sync::watch;

/// Who answers and who rehearses.
#[derive(Clone, Debug)]
pub struct Roles {
    /// Answers the clients.
    pub primary: Arc<Server>,
    /// Rehearses.
    pub shadow: Arc<Server>,
}

impl Roles {
    /// As the config has them, for the very first start.
    #[must_use]
    pub fn configured(config: &Config) -> Self {
        Self {
            primary: Arc::new(config.primary.clone()),
            shadow: Arc::new(config.shadow.clone()),
        }
    }

    /// With the server of this name as the primary; `None` where the config has no such server.
    #[must_use]
    pub fn with_primary(config: &Config, name: &str) -> Option<Self> {
        let roles = Self::configured(config);
        if roles.primary.name == name {
            return Some(roles);
        }
        (roles.shadow.name == name).then(|| roles.swapped())
    }

    /// The other way round.
    #[must_use]
    pub fn swapped(self) -> Self {
        Self {
            primary: self.shadow,
            shadow: self.primary,
        }
    }
}

/// The readers' end: cheap to clone, current at every look.
pub type RolesWatch = watch::Receiver<Roles>;

//! Which server is primary; a watch that sessions read between transactions.
//!
//! Only `cutover` writes roles.

use crate::config::Server;
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

/// The readers' end: cheap to clone, current at every look.
pub type RolesWatch = watch::Receiver<Roles>;

//! Whether replication has brought the shadow what the primary committed, for whoever compares the two: asked in the
//! cutover's way (`cutover.catch_up`), with a heartbeat's row of its own. Refuses to guess: what is not known in time is
//! an error.

use super::catch_up::{self, Way, row_of};
use crate::config::{CatchUp, Cutover};
use crate::connect::Dial;
use crate::roles::Roles;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

/// See the module.
pub struct Replicated {
    /// One at a time: a second heartbeat would be written over the first. It is made when it is asked first.
    way: Mutex<Option<Way>>,
    dial: Arc<dyn Dial>,
    roles: Roles,
    config: Cutover,
    row: u32,
}

impl std::fmt::Debug for Replicated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replicated").finish_non_exhaustive()
    }
}

impl Replicated {
    /// Between these two; `proxy` is its name in a fleet.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, roles: Roles, config: Cutover, proxy: Option<&str>) -> Self {
        let name = format!("{} verifies", proxy.unwrap_or_default());
        Self {
            way: Mutex::new(None),
            dial,
            roles,
            config,
            row: row_of(Some(&name)),
        }
    }

    /// Whether this is between these two.
    #[must_use]
    pub fn is_between(&self, roles: &Roles) -> bool {
        self.roles.primary.name == roles.primary.name && self.roles.shadow.name == roles.shadow.name
    }

    /// Whether the shadow is asked for each transaction, and not for a sign of one that came behind them.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.config.catch_up == CatchUp::Gtid
    }

    /// Returns once the shadow has what the primary had committed when this was called.
    ///
    /// # Errors
    /// It has not, or nobody can say, within this time.
    pub async fn wait(&self, at_most: Duration) -> Result<(), String> {
        let until = Instant::now() + at_most;
        let late = |_| "replication is asked by others all the time".to_owned();
        let mut known = timeout_at(until, self.way.lock()).await.map_err(late)?;
        let way = match known.take() {
            Some(way) => way,
            None => {
                let told = vec![
                    ("FROM", self.roles.primary.name.clone()),
                    ("TO", self.roles.shadow.name.clone()),
                ];
                catch_up::replicated((&self.dial, &self.roles), &self.config, self.row, told)?
            }
        };
        let came = way.wait(until).await;
        *known = Some(way);
        came
    }
}

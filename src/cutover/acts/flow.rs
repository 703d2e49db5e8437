//! Where replication fed the new primary: dark writes to the old one wait until forward replication
//! has ended, for what flows forward would come back.

use super::Run;
use crate::config::{FedBy, Writes};
use crate::cutover::helm::Refused;
use crate::roles::Roles;
use crate::shadow::Control;
use serde_json::json;

/// The figure of a record that says that forward replication has ended.
const STOPPED: &str = "replication_stopped";

/// The figure that says where the server stood that becomes the primary again.
const STANDS: &str = "gtid_executed";

impl Run {
    /// Whether what replication fed is the primary now: dark writes to the old one wait for a word.
    pub(super) fn is_away_from_replication(&self) -> bool {
        self.parts.config.shadow.fed_by == FedBy::Replication
            && self.parts.roles.borrow().shadow.fed_by == FedBy::Mirror
    }

    fn set_writes(&self, writes: Writes) {
        let set = |control: &mut Control| control.writes = writes;
        self.parts.mirror.change_control(set);
    }

    /// Dark writes go back to where replication came from; what becomes of them nobody else says from now on.
    fn flow_back(&self, writes: Writes) {
        self.parts.mirror.change_control(|control| {
            control.writes = writes;
            control.flows_back = true;
        });
    }

    /// Whether dark writes wait for the word that forward replication has ended.
    pub(super) fn is_waiting_for_replication(&self) -> bool {
        self.is_away_from_replication() && self.parts.mirror.control().writes != Writes::Apply
    }

    /// The same, and every proxy of the fleet hears it.
    pub(super) async fn confirm_everywhere(&mut self) -> bool {
        let waits = self.confirm().await;
        if let Some(fleet) = &self.parts.fleet
            && let Err(error) = fleet.say_stopped().await
        {
            tracing::error!(
                "the other proxies do not hear that forward replication has ended: {error}; say it at each of them, or once more here"
            );
        }
        waits
    }

    /// Dark writes go another way with these roles.
    pub(super) fn redirect(&mut self, roles: &Roles) {
        if self.parts.config.shadow.fed_by == FedBy::Replication {
            if roles.shadow.fed_by == FedBy::Replication {
                let config = &self.parts.config.mirror;
                self.parts.mirror.change_control(|control| {
                    // Asked for in here: who reads the config again changes it first, and then the switches.
                    control.writes = config.writes.now();
                    control.flows_back = false;
                });
            } else {
                // What flows forward would come back.
                let stopped = self.halt.take();
                self.flow_back(if stopped { Writes::Apply } else { Writes::Off });
            }
        }
        self.parts.ledger.is_fed_by(roles.shadow.fed_by);
    }

    /// What is known of replication is in the record before the switch is: a process that ends right behind
    /// it leaves it to the next.
    pub(super) async fn keep_flow(&mut self) {
        let (done, stands) = (self.halt.is_done(), self.halt.stands());
        if !done && stands.is_none() {
            return;
        }
        if done {
            self.recorder.figure(STOPPED, json!(true));
        }
        if let Some(stands) = stands {
            self.recorder.figure(STANDS, json!(stands));
        }
        self.recorder.keep_figures().await;
    }

    /// There was no switch: of what was kept for it nothing holds any more.
    pub(super) fn forget_flow(&mut self) {
        let _ = self.halt.stands();
        self.recorder.no_figure(STOPPED);
        self.recorder.no_figure(STANDS);
    }

    /// Forward replication has ended: dark writes flow back from here on, after a restart too.
    pub(super) async fn confirm(&mut self) -> bool {
        let waits = self.is_waiting_for_replication();
        if waits {
            self.recorder.confirm(STOPPED).await;
            self.set_writes(Writes::Apply);
        }
        waits
    }

    /// What an earlier process was told of forward replication holds.
    pub(in crate::cutover) async fn restore_flow(&mut self) {
        if !self.is_away_from_replication() {
            return;
        }
        let last = self.recorder.last_switched().await.ok().flatten();
        let stopped = last.is_some_and(|last| last.figures.get(STOPPED) == Some(&json!(true)));
        self.flow_back(if stopped { Writes::Apply } else { Writes::Off });
    }

    /// An operator says that forward replication has ended.
    pub(in crate::cutover) async fn replication_stopped(
        &mut self,
        who: &str,
    ) -> Result<(), Refused> {
        if self.confirm_everywhere().await {
            tracing::warn!(who, "forward replication has ended: dark writes flow back");
            return Ok(());
        }
        Err(Refused::NotNow(
            "nothing waits for it: there was no switch away from a server that replication fed, or it was said before".to_owned(),
        ))
    }
}

//! The switch: recorded first, then told to everybody.

use super::Run;
use super::together::Together;
use crate::cutover::coordinator::pause;
use crate::cutover::fleet::Decision;
use crate::cutover::machine::Event;
use crate::ledger::SwitchError;
use crate::roles::Roles;
use std::sync::Arc;
use std::time::Duration;

/// The shadow side is turned within this time, or while sessions go on already.
const TURN_MAX: Duration = Duration::from_secs(5);

/// A fleet's switch is recorded within this time, or while sessions go on already.
const RECORD_MAX: Duration = Duration::from_secs(1);

/// Between two tries to find out what was recorded. Sessions wait meanwhile.
const SETTLE_AGAIN: Duration = Duration::from_millis(50);

impl Run {
    pub(super) async fn switch(&mut self) -> Event {
        if !self.stage.goes_on() {
            let why = "the hold took too long, and every session was let go";
            return self.say(Event::SwitchFailed, why);
        }
        #[cfg(feature = "simulation")]
        if crate::planted::is(crate::planted::Bug::LetGoEarly) {
            self.publish().await;
            self.release().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Some(together) = self.together() {
            let decided = together.switch(self.until).await;
            return match decided {
                Ok(decision) => self.decided(decision).await,
                Err(why) => self.say(Event::SwitchUnknown, &why.to_string()),
            };
        }
        match self.recorder.switch().await {
            Ok(()) => Event::Switched,
            Err(SwitchError::Failed(why)) => self.say(Event::SwitchFailed, &why),
            Err(SwitchError::Unknown(why)) => self.say(Event::SwitchUnknown, &why),
        }
    }

    /// What the fleet has decided holds, whether or not it can be recorded here: a start asks etcd.
    async fn decided(&mut self, decision: Decision) -> Event {
        match decision {
            Decision::Aborted(why) => self.say(Event::SwitchFailed, &why),
            Decision::Ended => self.say(Event::SwitchFailed, "it was to end before the hold"),
            Decision::Switched => {
                self.record_switch().await;
                let _ = self.leave_call();
                Event::Switched
            }
            Decision::Lost(primary) => {
                if let Some(together) = self.together() {
                    self.lose(&together.fleet, &primary, &together.call.from);
                }
                self.is_lost = true;
                self.say(
                    Event::SwitchFailed,
                    "the fleet has gone on without this proxy",
                )
            }
        }
    }

    /// The disk is not waited for: the others serve already.
    async fn record_switch(&self) {
        let why = match tokio::time::timeout(RECORD_MAX, self.recorder.switch()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the disk does not answer".to_owned(),
        };
        tracing::error!(
            "the fleet has switched, and it cannot be recorded here: {why}; it is tried again"
        );
        self.recorder.switch_later();
    }

    /// Cut off from etcd after its last word, this proxy is shut until it knows who is primary.
    async fn settle_together(&mut self, together: &Together) -> Event {
        let words =
            |why: &dyn std::fmt::Display| format!("this proxy cannot tell who is primary: {why}");
        // What led here has waited for etcd long enough.
        let mut why = words(&self.recorder.last());
        tracing::error!("{why}; its sessions are ended, and none is served until it knows");
        loop {
            self.hands.end_all(&why);
            match together.settle().await {
                Ok(decision) => return self.decided(decision).await,
                Err(error) => why = words(&error),
            }
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
    }

    /// Sessions wait until this is known: to guess would be to have two primaries.
    pub(super) async fn settle(&mut self) -> Event {
        if let Some(together) = self.together() {
            return self.settle_together(&together).await;
        }
        loop {
            match self.recorder.settle().await {
                Ok(true) => return Event::Switched,
                Ok(false) => return Event::SwitchFailed,
                Err(why) => tracing::error!("{why}; sessions are held until it is known"),
            }
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
    }

    pub(super) async fn publish(&mut self) {
        pause("switched").await;
        let Some(order) = &self.order else { return };
        let was = self.parts.roles.borrow().clone();
        if was.primary.name == order.to {
            return;
        }
        let roles = Roles {
            primary: Arc::clone(&was.shadow),
            shadow: Arc::clone(&was.primary),
        };
        tracing::warn!(
            "{} is the primary now, {} the shadow",
            roles.primary.name,
            roles.shadow.name
        );
        self.redirect(&roles);
        self.parts.roles.send_replace(roles.clone());
        let turning = self.parts.mirror.turn(roles);
        match tokio::time::timeout(TURN_MAX, turning).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => tracing::error!("{ended}: nothing is mirrored until the next start"),
            Err(_) => tracing::error!(
                "the shadow side has not turned yet: what is said meanwhile is not mirrored"
            ),
        }
        self.published = true;
        self.went_back = false;
        self.soaked = false;
    }
}

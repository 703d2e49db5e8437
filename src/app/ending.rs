//! The way to the end: why a process that serves ends, its sessions' drain, and what falls behind it.
//!
//! Where another process has taken over, both may end: whatever this one is at, the first signal has that one end, too, and
//! this one is the last. To a supervisor the end of this one is the service's: it would kill the other with all its clients.

use super::front::Front;
use super::handover::{self, Giving, Heirs};
use super::house::Running;
use super::rest::Rest;
use super::signals::{Signals, Told};
use super::supervisor::Supervisor;
use super::{AppError, CUTOVER_STOP, FALL, reload};
use crate::config::Config;
use crate::cutover::{Cutovers, Fleet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A signal that was on its way to this process when its supervisor heard that another one is the main one has come by
/// then.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Ending<'a> {
    pub(super) config: &'a Config,
    pub(super) supervisor: &'a Arc<Supervisor>,
    pub(super) house: Arc<Running>,
    pub(super) cutovers: Option<Cutovers>,
    pub(super) front: &'a Front,
    pub(super) giving: &'a Giving,
}

impl Ending<'_> {
    /// Waits for a reason to end, and then for the drain; a second signal ends the drain.
    pub(super) async fn until_told(
        &self,
        signals: &mut Signals,
        mut relay: JoinHandle<()>,
    ) -> Result<(), AppError> {
        let Some(signal) = self.reason(signals, &mut relay).await? else {
            // Where the process that has taken over goes on, nobody is sent elsewhere.
            if self.giving.ends_both() {
                self.begin();
            }
            tracing::info!("the sessions of this process have ended, or their time is up: it ends");
            self.drained_beside(signals, &mut relay).await;
            return Ok(());
        };
        self.giving.close(false).await;
        self.begin();
        tracing::info!("{signal}: no new connections; transactions may end, idle sessions close");
        if let Some(cutovers) = &self.cutovers {
            tokio::select! {
                stopped = tokio::time::timeout(CUTOVER_STOP, cutovers.stop()) => {
                    if stopped.is_err() {
                        tracing::error!("the cutover under way did not end in time; its record says how far it came");
                    }
                }
                signal = signals.next() => tracing::warn!("{signal} again: the cutover under way is not waited for"),
            }
        }
        self.drained(signals, &mut relay).await;
        Ok(())
    }

    /// Whoever asks is told that it drains, and the supervisor how long that takes at most, from here to the
    /// process's end; where another one has taken over, and ends too, to the end of both.
    pub(super) fn begin(&self) {
        let own = self.config.listen.drain_timeout.now();
        let drain = self.giving.drain(own) + CUTOVER_STOP;
        let falls = if self.giving.ends_both() {
            handover::BOTH_END
        } else {
            FALL
        };
        self.house.set_draining();
        self.supervisor.stopping(drain + falls);
    }

    /// Ends all the rest, once no session is left.
    pub(super) async fn fall(&self, rest: Rest, fleet: Option<&Arc<Fleet>>, signals: &mut Signals) {
        tokio::select! {
            () = rest.fall(self.giving, &self.front.roles, fleet) => {}
            never = self.heed(signals) => match never {},
        }
        self.leave(signals).await;
    }

    /// Why it is to end: a signal; or `None`, where another process has taken over and no session is left here.
    async fn reason(
        &self,
        signals: &mut Signals,
        relay: &mut JoinHandle<()>,
    ) -> Result<Option<&'static str>, AppError> {
        let mut heirs = Heirs::default();
        let at_most = &self.config.listen.handover_time;
        loop {
            tokio::select! {
                ended = &mut *relay => {
                    let why = ended.err().map_or_else(|| "it ended by itself".to_owned(), |error| error.to_string());
                    return Err(AppError::Failed(format!("the relay broke: {why}")));
                }
                signal = signals.any() => match signal {
                    Told::End(signal) => return Ok(Some(signal)),
                    Told::HandOver => heirs.start(self.giving.handed(), self.supervisor),
                    Told::Reload => reload::at_signal(&self.house, self.supervisor),
                },
                () = self.giving.emptied(&self.front.relay, at_most) => {
                    // Unless that process has ended just now.
                    if self.giving.close(true).await {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn drained(&self, signals: &mut Signals, relay: &mut JoinHandle<()>) {
        self.front.drain.cancel();
        tokio::select! {
            _ = relay => tracing::info!("every session has ended"),
            signal = signals.next() => tracing::warn!("{signal} again: sessions are cut off"),
        }
    }

    /// The same where another process has taken over: the first signal has both end, and only the second cuts off.
    async fn drained_beside(&self, signals: &mut Signals, relay: &mut JoinHandle<()>) {
        self.front.drain.cancel();
        let signal = tokio::select! {
            _ = &mut *relay => {
                tracing::info!("every session has ended");
                return;
            }
            signal = signals.next() => signal,
        };
        self.end_both(signal).await;
        self.drained(signals, relay).await;
    }

    /// While the rest falls. Where nobody has taken over it takes its time, which is bounded.
    async fn heed(&self, signals: &mut Signals) -> Infallible {
        loop {
            let signal = signals.next().await;
            if self.giving.heir().is_some() {
                self.end_both(signal).await;
            }
        }
    }

    /// Has the process end, too, that has taken over.
    async fn end_both(&self, signal: &str) {
        self.giving.close(false).await;
        self.begin();
        tracing::info!(
            "{signal}: the process that has taken over ends, too, and this one behind it"
        );
    }

    /// The last that a process does which another one has taken over from. Where both end it is the last of both, for to
    /// a supervisor its end is the service's; else the other one is named, and goes on.
    async fn leave(&self, signals: &mut Signals) {
        let Some(heir) = self.giving.heir() else {
            return;
        };
        if !self.giving.ends_both() {
            self.supervisor.leaves_to(heir);
            if let Ok(signal) = tokio::time::timeout(ON_ITS_WAY, signals.next()).await {
                tracing::info!("{signal}: process {heir}, which has taken over, is told to end");
                self.giving.close(false).await;
            }
            return;
        }
        let drain = self.giving.drain(self.config.listen.drain_timeout.now());
        let at_most = drain + handover::CATCH_UP + FALL;
        if tokio::time::timeout(at_most, self.giving.until_gone())
            .await
            .is_err()
        {
            tracing::error!("process {heir} was told to end, and has not: it is not waited for");
        }
    }
}

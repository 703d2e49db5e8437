//! The old process' side, as the rest of it has it: how it stands with a process that would take over, and the orders to
//! the [porter](super::porter), who speaks with that one.

use super::porter::{Porter, bind};
use crate::app::doors::Given;
use crate::app::house::Running;
use crate::app::supervisor::Supervisor;
use crate::config::{Config, Live};
use crate::cutover::Cutovers;
use crate::ledger::Ledger;
use crate::relay::{self, Relay};
use crate::roles::RolesWatch;
use crate::shadow::Written;
use crate::task;
use crate::verify::Verifier;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

/// Between two looks at whether a session is left.
const LOOK: Duration = Duration::from_millis(20);

/// What is handed over, and what stops meanwhile.
pub(in crate::app) struct Estate {
    pub(in crate::app) config: Arc<Config>,
    pub(in crate::app) relay: Relay,
    pub(in crate::app) roles: RolesWatch,
    /// What clients are offered.
    pub(in crate::app) offer: relay::Offer,
    pub(in crate::app) house: Arc<Running>,
    pub(in crate::app) cutovers: Option<Cutovers>,
    pub(in crate::app) verifier: Option<Arc<Verifier>>,
    pub(in crate::app) ledger: Ledger,
    pub(in crate::app) supervisor: Arc<Supervisor>,
    pub(in crate::app) doors: Given,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// This process serves.
    Alone,
    /// Another one does, since then, whose sessions' drain takes so long. `hurries`: one of both was told to end, and
    /// both do.
    Handed {
        heir: u32,
        since: Instant,
        drain: Duration,
        hurries: bool,
    },
    /// Another one did, and ended while this one was ending.
    Bereft,
}

impl Stand {
    /// Whether another process has taken over, and both end.
    pub(super) const fn hurries(&self) -> bool {
        matches!(self, Self::Handed { hurries: true, .. })
    }

    /// Where another process has taken over, both end.
    pub(super) const fn hurry(&mut self) {
        if let Self::Handed { hurries, .. } = self {
            *hurries = true;
        }
    }
}

pub(super) enum Order {
    /// Nobody is let in any more; whether one has taken over. `if_handed`: only then.
    Close {
        if_handed: bool,
        to: oneshot::Sender<bool>,
    },
    /// The new process is told what was written, and that this one ends.
    Ended(Written, oneshot::Sender<()>),
    /// Its end is waited for.
    Gone(oneshot::Sender<()>),
}

/// The handle.
#[derive(Debug)]
pub(in crate::app) struct Giving {
    stand: watch::Receiver<Stand>,
    orders: mpsc::Sender<Order>,
}

impl Giving {
    /// Begins to listen. Where that cannot be, production is served without, which is said.
    pub(in crate::app) async fn start(estate: Estate) -> Self {
        let (told, stand) = watch::channel(Stand::Alone);
        let (orders, inbox) = mpsc::channel(4);
        let giving = Self { stand, orders };
        let Some(path) = estate.config.listen.handover.clone() else {
            return giving;
        };
        if !estate.config.fleet.etcd.is_empty() {
            return giving;
        }
        match bind(&path).await {
            Ok(listener) => {
                let porter = Porter::new(estate, told, path);
                // It ends with the handle.
                drop(task::spawn("handover", porter.run(listener, inbox)));
            }
            Err(error) => tracing::warn!(
                "listen.handover {}: {error}; no process can take over from this one. Set another path, or \"\" for none",
                path.display()
            ),
        }
        giving
    }

    /// Whether another process has taken over.
    pub(in crate::app) fn is_handed(&self) -> bool {
        *self.stand.borrow() != Stand::Alone
    }

    /// The process that has taken over.
    pub(in crate::app) fn heir(&self) -> Option<u32> {
        match *self.stand.borrow() {
            Stand::Handed { heir, .. } => Some(heir),
            Stand::Alone | Stand::Bereft => None,
        }
    }

    /// Whether another process has taken over, and both end.
    pub(in crate::app) fn ends_both(&self) -> bool {
        self.stand.borrow().hurries()
    }

    /// So long the sessions' drain takes at most where it takes this process so long: where another one has taken over,
    /// and has longer by its config, that long.
    pub(in crate::app) fn drain(&self, own: Duration) -> Duration {
        match *self.stand.borrow() {
            Stand::Handed { drain, .. } => own.max(drain),
            Stand::Alone | Stand::Bereft => own,
        }
    }

    /// Resolves once another process has taken over.
    pub(in crate::app) fn handed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stand = self.stand.clone();
        async move {
            let is_gone = stand
                .wait_for(|stand| *stand != Stand::Alone)
                .await
                .is_err();
            if is_gone {
                std::future::pending().await
            }
        }
    }

    /// Resolves once another process has taken over and no session is left here, or has had this time.
    ///
    /// Cancel-safe.
    pub(in crate::app) async fn emptied(&self, relay: &Relay, at_most: &Live<Duration>) {
        let mut stand = self.stand.clone();
        loop {
            let handed = stand.wait_for(|stand| *stand != Stand::Alone).await;
            let handed = handed.map(|stand| *stand);
            let (since, hurries) = match handed {
                Ok(Stand::Handed { since, hurries, .. }) => (since, hurries),
                Ok(Stand::Bereft) => return,
                // Where nobody listens, nobody ever takes over.
                Ok(Stand::Alone) | Err(_) => return std::future::pending().await,
            };
            if hurries || relay.sessions().open == 0 || since.elapsed() >= at_most.now() {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Resolves once the process that had taken over has ended, in the midst of this one's end: nobody serves, and the
    /// next start waits for this process.
    ///
    /// Cancel-safe.
    pub(in crate::app) async fn bereft(&self) {
        let mut stand = self.stand.clone();
        if stand
            .wait_for(|stand| *stand == Stand::Bereft)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Lets nobody in any more, and lets the listeners go; whether another process has taken over. With `if_handed`
    /// nothing happens where none has; without, one that has is told to end, too.
    pub(in crate::app) async fn close(&self, if_handed: bool) -> bool {
        let (to, answer) = oneshot::channel();
        let sent = self.orders.send(Order::Close { if_handed, to }).await;
        sent.is_ok() && answer.await.unwrap_or(false)
    }

    /// Tells the process that has taken over what the sessions here wrote, and that this one ends.
    pub(in crate::app) async fn ended(&self, written: Written) {
        let (to, answer) = oneshot::channel();
        if self.orders.send(Order::Ended(written, to)).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Waits for the end of the process that has taken over.
    pub(in crate::app) async fn until_gone(&self) {
        let (to, answer) = oneshot::channel();
        if self.orders.send(Order::Gone(to)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

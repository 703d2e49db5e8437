//! What serves clients, without all that looks at what it does: relay, roles, tee.

use super::AppError;
use super::runtime::Threads;
use crate::config::Config;
use crate::connect::{Dial, Tcp};
use crate::cutover::Carrier;
use crate::relay::{self, Offer, Relay, RelayParts};
use crate::roles::{Roles, RolesWatch};
use crate::task;
use crate::tee::Tee;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// See the module.
pub(super) struct Front {
    pub(super) relay: Relay,
    pub(super) roles: RolesWatch,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) carrier: Arc<Carrier>,
    /// What clients are offered.
    pub(super) offer: Offer,
    pub(super) tee: Tee,
    /// Told, it accepts no more, and sessions end at their boundaries.
    pub(super) drain: CancellationToken,
}

impl Front {
    /// Builds it, and serves nobody yet. Whoever may change the roles gets their writer.
    pub(super) fn build(
        config: &Config,
        threads: &Threads,
        tee: Tee,
        roles: Roles,
        offer: Offer,
    ) -> Result<(Self, watch::Sender<Roles>), AppError> {
        let (writer, roles) = watch::channel(roles);
        let dial: Arc<dyn Dial> = Arc::new(Tcp::default());
        let carrier = Arc::new(Carrier::new(roles.clone(), Arc::clone(&dial)));
        let relay = Relay::new(RelayParts {
            listen: config.listen.clone(),
            copy_bytes_max: config.mirror.command_bytes_max,
            sample_bytes: config.compare.sample_bytes,
            roles: roles.clone(),
            dial: Arc::clone(&dial),
            tee: tee.clone(),
            offer: offer.clone(),
            carry: Arc::clone(&carrier) as Arc<dyn relay::Carry>,
            threads: threads.relay.handles().to_vec(),
        })
        .map_err(|error| AppError::Config(error.to_string()))?;
        let front = Self {
            relay,
            roles,
            dial,
            carrier,
            offer,
            tee,
            drain: CancellationToken::new(),
        };
        Ok((front, writer))
    }

    /// Accepts clients, until the drain is over. The listener was bound on the first of the relay's threads.
    pub(super) fn open(&self, threads: &Threads, listener: TcpListener) -> JoinHandle<()> {
        let (relay, drain) = (self.relay.clone(), self.drain.clone());
        let accepting = async move { relay.run(listener, drain).await };
        let first = threads.relay.handles().first();
        let first = first.cloned().unwrap_or_else(Handle::current);
        task::spawn_on(&first, "listener", accepting)
    }
}

//! What looks at what clients do, behind the [`Front`] that serves them: ledger, mirror, cutovers, verifications, and
//! the operators' doors.

use super::doors::Operating;
use super::front::Front;
use super::handover::{CATCH_UP, Giving};
use super::house::{self, Feed, Running};
use super::primary::Start;
use super::reload::Reload;
use super::runtime::Threads;
use super::{AppError, FIRST_LOOK, LEDGER_CLOSE, MIRROR_DRAIN, fleet, probe, verifying};
use crate::admin;
use crate::config::Config;
use crate::cutover::{self, Cutovers, Fleet, Helm, Unmanned};
use crate::ledger::{Ledger, Records};
use crate::metrics::Metrics;
use crate::roles::{Roles, RolesWatch};
use crate::shadow::Mirror;
use crate::verify::Verifier;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// See the module.
pub(super) struct Rest {
    pub(super) ledger: Ledger,
    pub(super) house: Arc<Running>,
    pub(super) cutovers: Option<Cutovers>,
    pub(super) verifier: Option<Arc<Verifier>>,
    _coordinator: Option<JoinHandle<()>>,
    /// Where nobody steers, nobody writes them; they are the same to the end.
    _writer: Arc<watch::Sender<Roles>>,
    probes: Vec<JoinHandle<()>>,
    /// The operators' doors stay open while sessions drain, and the ledger closes.
    stop: CancellationToken,
}

/// What it is made of.
pub(super) struct Materials<'a> {
    pub(super) config: &'a Arc<Config>,
    pub(super) threads: &'a Threads,
    pub(super) front: &'a Front,
    /// The roles, for the cutovers to change.
    pub(super) writer: watch::Sender<Roles>,
    pub(super) start: Start,
    /// What the mirror begins with.
    pub(super) feed: Feed,
    pub(super) operating: Operating,
    pub(super) fleet: Option<Arc<Fleet>>,
    pub(super) started: tokio::time::Instant,
    /// Clients are served already: another process has handed them over.
    pub(super) serves: bool,
}

impl Rest {
    /// Builds and starts all of it, and looks at both servers. The ledger is closed where that cannot be.
    pub(super) async fn raise(materials: Materials<'_>) -> Result<Self, AppError> {
        let Materials {
            config,
            threads,
            front,
            writer,
            start,
            feed,
            operating,
            fleet,
            started,
            serves,
        } = materials;
        let (ledger, records) = (start.ledger, start.records);
        let mirror = house::start_mirror(threads, config, front, feed, &ledger)
            .inspect_err(|_| ledger.close())
            .map_err(|error| AppError::Config(format!("[shadow]: {error}")))?;
        let (relay, tee) = (front.relay.clone(), front.tee.clone());
        let reload = Reload::new(
            Arc::clone(config),
            relay.clone(),
            Arc::clone(&mirror),
            ledger.clone(),
        );
        let house = Arc::new(Running::new(relay, Arc::clone(&mirror), tee, reload));
        house.set_ledger_open();
        if serves {
            // This process has seen it answer before it took clients over.
            house.set_primary_answered();
            house.set_listening();
        }
        let steered = Steering {
            config,
            threads,
            front,
            ledger: &ledger,
            house: &house,
            fleet: fleet.as_ref(),
        };
        let writer = Arc::new(writer);
        let (helm, cutovers) = steered.steer(records, Arc::clone(&writer), mirror);
        let standstill = cutovers.as_ref().map(|(one, _)| one.standstill());
        let roles = &front.roles;
        let verifier = verifying::verifier(config, roles, &house, (&helm, standstill), &ledger);
        let stop = CancellationToken::new();
        let parts = admin::Parts {
            config: Arc::clone(config),
            roles: roles.clone(),
            ledger: ledger.clone(),
            house: Arc::clone(&house) as Arc<dyn admin::House>,
            helm,
            inspector: verifying::inspector(verifier.as_ref()),
            metrics: Arc::new(Metrics::new()),
            started,
            console: Arc::default(),
            counters: Arc::default(),
            tls: operating.tls,
        };
        threads
            .admin(operating.admin, operating.console, parts, stop.clone())
            .map_err(AppError::failed("the admin's thread cannot be started"))?;
        let offer = front.offer.clone();
        let probes = probe::start(roles, &front.dial, &house, offer, &stop, FIRST_LOOK).await;
        let (cutovers, coordinator) = cutovers.unzip();
        Ok(Self {
            ledger,
            house,
            cutovers,
            verifier,
            _coordinator: coordinator,
            _writer: writer,
            probes,
            stop,
        })
    }

    /// Ends it, once no session is left: the shadow gets what waits for it, and the ledger is closed.
    pub(super) async fn fall(
        self,
        giving: &Giving,
        roles: &RolesWatch,
        fleet: Option<&Arc<Fleet>>,
    ) {
        verifying::leave(self.verifier).await;
        let is_handed = giving.is_handed();
        let caught_up = async {
            if is_handed {
                self.house.catch_up(CATCH_UP).await;
            }
            self.house.drain_mirror(MIRROR_DRAIN).await;
        };
        tokio::select! {
            () = caught_up => {}
            () = giving.bereft() => self.house.drain_mirror(BEREFT_DRAIN).await,
        }
        let written = self.house.shadow_side().written_beside();
        let roles = roles.borrow().clone();
        fleet::takes_along(fleet.map(Arc::as_ref), &roles, &self.house, &self.ledger);
        close_ledger(self.ledger).await;
        if is_handed {
            // Where there can be no lock, that is how the new process knows that the ledger is its own.
            giving.ended(written).await;
        }
        probe::end(self.probes, &self.stop).await;
    }
}

/// What the cutovers are given.
struct Steering<'a> {
    config: &'a Arc<Config>,
    threads: &'a Threads,
    front: &'a Front,
    ledger: &'a Ledger,
    house: &'a Arc<Running>,
    fleet: Option<&'a Arc<Fleet>>,
}

/// Whom the operators ask, and who steers, where anybody does.
type Steered = (Arc<dyn Helm>, Option<(Cutovers, JoinHandle<()>)>);

impl Steering<'_> {
    /// Starts whoever steers the cutovers; nobody does where there are no records.
    fn steer(
        &self,
        records: Option<Arc<Records>>,
        writer: Arc<watch::Sender<Roles>>,
        mirror: Arc<Mirror>,
    ) -> Steered {
        let Some(records) = records else {
            let why = "there is no ledger that could record it";
            let unmanned = Unmanned::new(why, None, self.fleet.cloned());
            return (Arc::new(unmanned), None);
        };
        let front = self.front;
        let (cutovers, running) = Cutovers::start(cutover::Parts {
            config: Arc::clone(self.config),
            roles: writer,
            relay: front.relay.clone(),
            mirror,
            carrier: Arc::clone(&front.carrier),
            ledger: self.ledger.clone(),
            records,
            dial: Arc::clone(&front.dial),
            threads: self.threads.relay.handles().to_vec(),
            judge: self.judge(),
            fleet: self.fleet.cloned(),
        });
        let helm: Arc<dyn Helm> = Arc::new(cutovers.clone());
        (helm, Some((cutovers, running)))
    }

    /// Asks for what readiness is judged by.
    fn judge(&self) -> cutover::Judge {
        let (config, ledger) = (Arc::clone(self.config), self.ledger.clone());
        let (house, roles) = (Arc::clone(self.house), self.front.roles.clone());
        Arc::new(move || admin::readiness::figures_of(&config, &ledger, &*house, &roles))
    }
}

/// Nobody serves until this process has ended: what waits for the shadow has no longer than that.
const BEREFT_DRAIN: Duration = Duration::from_millis(500);

/// Sets the mark of a clean stop, unless the disk hangs.
async fn close_ledger(ledger: Ledger) {
    let closed = tokio::task::spawn_blocking(move || ledger.close());
    if tokio::time::timeout(LEDGER_CLOSE, closed).await.is_err() {
        tracing::warn!(
            "the ledger could not be closed in time: the next start will take it for a crash"
        );
    }
}

//! What a verification must know of this understudy: when to give way, when the shadow has caught up, and how a
//! repair gets its place in the mirror's order, and a snapshot its instant.

mod flight;
mod instant;
mod locked;
mod others;
mod repairs;
mod strain;

use self::flight::Flight;
pub use self::locked::{held, of};
use self::strain::Strain;
use super::house::Running;
use crate::config::{self, CatchUp, Config, FedBy};
use crate::connect::{Dial, Tcp};
use crate::cutover::{Helm, Replicated, Standstill};
use crate::ledger::{Ledger, Verifications};
use crate::roles::{Roles, RolesWatch};
use crate::shadow::Mirror;
use crate::sql::Table;
use crate::verify::{
    Absent, Around, By, CaughtUp, Held, Inspector, NoPlace, Opening, Place, Soon, Sought, Still,
    Verifier, VerifierParts,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// A commit is seen by others before its acknowledgement has come through the tee, or its GTID is in the primary's set: so
/// long is waited before it is asked whether the shadow has it.
const QUIET: Duration = Duration::from_millis(100);

/// How long the dark writes of one table are waited for.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Time for a run to end where understudy does.
const LEAVE: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Surroundings {
    config: Arc<Config>,
    roles: RolesWatch,
    dial: Arc<dyn Dial>,
    mirror: Arc<Mirror>,
    house: Arc<Running>,
    helm: Arc<dyn Helm>,
    ledger: Ledger,
    strain: Mutex<Strain>,
    replicated: Mutex<Option<Arc<Replicated>>>,
    standstill: Option<Standstill>,
    /// Commands under way on the primary that were waited for, and only read.
    long_reads: Mutex<Flight>,
    /// The main thread.
    main: Handle,
}

/// Who verifies, in an understudy that serves. To be called on the main thread.
pub(super) fn verifier(
    config: &Arc<Config>,
    roles: &RolesWatch,
    house: &Arc<Running>,
    (helm, standstill): (&Arc<dyn Helm>, Option<Standstill>),
    ledger: &Ledger,
) -> Option<Arc<Verifier>> {
    let dial: Arc<dyn Dial> = Arc::new(Tcp::default());
    let around = Surroundings {
        config: Arc::clone(config),
        roles: roles.clone(),
        dial: Arc::clone(&dial),
        mirror: house.shadow_side(),
        house: Arc::clone(house),
        helm: Arc::clone(helm),
        ledger: ledger.clone(),
        strain: Mutex::default(),
        replicated: Mutex::default(),
        standstill,
        long_reads: Mutex::default(),
        main: Handle::current(),
    };
    ledger.is_kept().then(|| {
        Arc::new(Verifier::new(VerifierParts {
            roles: roles.clone(),
            dial,
            limits: config.verify.clone(),
            tells_keys: config.ledger.literals == config::Literals::Keep,
            around: Arc::new(around),
            records: Arc::new(Verifications::at(&config.ledger.path)),
            left_out: left_out(config),
            alone: false,
        }))
    })
}

/// The same for the operators' door.
pub(super) fn inspector(verifier: Option<&Arc<Verifier>>) -> Arc<dyn Inspector> {
    match verifier {
        Some(verifier) => Arc::clone(verifier) as Arc<dyn Inspector>,
        None => Arc::new(Absent),
    }
}

/// What an earlier process left in its midst goes on.
pub(super) async fn go_on(verifier: Option<&Arc<Verifier>>) {
    if let Some(verifier) = verifier.cloned() {
        let going_on = tokio::task::spawn_blocking(move || verifier.go_on());
        let _ = going_on.await;
    }
}

/// The run under way, if there is one, is left for the next start.
pub(super) async fn leave(verifier: Option<Arc<Verifier>>) {
    if let Some(verifier) = verifier {
        let left = tokio::task::spawn_blocking(move || verifier.leave());
        if tokio::time::timeout(LEAVE, left).await.is_err() {
            tracing::warn!(
                "the verification under way did not end in time; the next start goes on with it"
            );
        }
    }
}

impl Around for Surroundings {
    fn holds(&self) -> Option<String> {
        if self.helm.state().rest().is_none() {
            return Some("a cutover is under way".to_owned());
        }
        let figures = self.mirror.figures();
        let limit = self.config.verify.lag;
        if figures.oldest > limit && figures.suspended.is_none() {
            return Some(format!(
                "the shadow is behind: the first of {} commands waits for {} ms",
                figures.waiting,
                figures.oldest.as_millis()
            ));
        }
        self.slow()
    }

    fn share(&self, most: f64) -> f64 {
        self.strain.lock().share(most)
    }

    /// The rounds of looks stay apart where the mirror feeds the shadow, too: a commit may be seen on the primary for
    /// longer than is waited here before its answer, and so its exchange, comes through the tee (semi-sync, a command of
    /// several statements). Before anything is concluded, what is under way is waited for; not each time, for every
    /// session is asked for it.
    fn caught_up<'a>(
        &'a self,
        table: &'a Table,
        sought: Sought<'a>,
    ) -> Soon<'a, Result<CaughtUp, String>> {
        Box::pin(async move {
            tokio::time::sleep(QUIET).await;
            let roles = self.roles.borrow().clone();
            if roles.shadow.fed_by == FedBy::Replication {
                let replicated = self.replicated(roles);
                let on = [sought.on.primary, sought.on.shadow];
                replicated.wait(on, CATCH_UP).await?;
                return Ok(sureness(&replicated));
            }
            if sought.concludes {
                self.landed().await?;
            }
            match self.mirror.caught_up(table, CATCH_UP).await {
                Ok(true) => Ok(CaughtUp::Waited),
                Ok(false) => Err(format!(
                    "the shadow did not catch up with {} within {} s",
                    table.name,
                    CATCH_UP.as_secs()
                )),
                Err(ended) => Err(ended.to_string()),
            }
        })
    }

    fn place<'a>(
        &'a self,
        table: &'a Table,
        server: &'a str,
    ) -> Soon<'a, Result<Box<dyn Place>, NoPlace>> {
        Box::pin(self.spot(table, server))
    }

    fn repairs(&self, table: &Table) {
        let cause = "a verification repairs it, and has not read it whole since";
        self.ledger
            .taint(std::slice::from_ref(table), &cause.into());
    }

    fn clock(&self) -> Duration {
        clock(&self.config, self.roles.borrow().shadow.fed_by)
    }

    fn lost_since(&self, table: &Table, since: jiff::Timestamp) -> bool {
        self.ledger.tainted_since(table, since)
    }

    fn verified(&self, table: &Table, since: jiff::Timestamp) {
        if self.ledger.verified(table, since) {
            tracing::info!("{} is tainted no more: it was verified", table.name);
        }
    }

    fn cannot_apply(&self) -> Option<String> {
        self.no_repairs()
    }

    fn instant<'a>(
        &'a self,
        still: Still<'a>,
        at_most: Duration,
        opening: Opening,
    ) -> Soon<'a, Held> {
        Box::pin(self.one_instant(still, at_most, opening))
    }

    fn no_instants(&self, by: By) -> Option<String> {
        self.never_an_instant(by)
    }

    fn may_lock<'a>(&'a self, databases: &'a [String]) -> Soon<'a, Result<(), String>> {
        Box::pin(async move { self.lock().may(databases).await })
    }

    fn others<'a>(&'a self, time: Duration) -> Soon<'a, Result<Vec<String>, String>> {
        Box::pin(self.other_writers(time))
    }
}

/// What it is worth that replication was seen to have come so far: a set of GTIDs is all of it; a heartbeat that has come
/// across, or what a hook says, is not where a replica applies transactions beside each other, out of their order.
#[must_use]
pub fn sureness(replicated: &Replicated) -> CaughtUp {
    if replicated.is_exact() {
        CaughtUp::Seen
    } else {
        CaughtUp::Waited
    }
}

/// By so much the moments of two rows may differ as the mirror's own do, which estimates what NOW() was: by nothing where
/// replication feeds the shadow, for that brings the primary's own.
#[must_use]
pub fn clock(config: &Config, fed_by: FedBy) -> Duration {
    match fed_by {
        FedBy::Mirror => config.compare.measure.now().clock_tolerated(),
        FedBy::Replication => Duration::ZERO,
    }
}

/// The proxy's own table, where it has one: it is written to while it is compared.
pub fn left_out(config: &Config) -> Vec<Table> {
    let replication = config.shadow.fed_by == FedBy::Replication;
    let beats = replication && config.cutover.catch_up == CatchUp::Heartbeat;
    let table = config.cutover.heartbeat_table.split_once('.');
    let table = table.filter(|_| beats).map(|(database, name)| Table {
        database: Some(database.to_owned()),
        name: name.to_owned(),
    });
    table.into_iter().collect()
}

impl Surroundings {
    /// Who says how far replication is, between these two.
    fn replicated(&self, roles: Roles) -> Arc<Replicated> {
        let mut known = self.replicated.lock();
        if let Some(known) = known.as_ref().filter(|known| known.is_between(&roles)) {
            return Arc::clone(known);
        }
        let fleet = &self.config.fleet;
        let proxy = (!fleet.etcd.is_empty()).then_some(fleet.name.as_str());
        let config = self.config.cutover.clone();
        let new = Replicated::new(Arc::clone(&self.dial), roles, config, proxy);
        Arc::clone(known.insert(Arc::new(new)))
    }

    /// Why the primary's latency has it give way.
    fn slow(&self) -> Option<String> {
        let now = Instant::now();
        let beat = |time| self.mirror.pulse(now.checked_sub(time).unwrap_or(now), now);
        let mut strain = self.strain.lock();
        strain.holds(now, beat, &self.config.verify)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_moment_may_differ_of_what_replication_brings() {
        let of = |text: &str, fed_by| clock(&Config::parse(text, &[]).unwrap(), fed_by);
        let wide = "[compare]\nclock_ms = 3000";
        assert_eq!(of(wide, FedBy::Mirror), Duration::from_secs(3));
        assert_eq!(of(wide, FedBy::Replication), Duration::ZERO);
        let off = "[compare]\nclock_ms = 3000\ntolerate = []";
        assert_eq!(of(off, FedBy::Mirror), Duration::ZERO);
    }
}

//! `GET /api/v1/readiness`, with the way back, and the task that looks every so often: at the guards, for the metrics, and
//! for statements that have become too slow on the shadow.

use super::answer::{Asked, Refusal, aside_quietly, read};
use super::cutover::way_back;
use super::status::Nothing;
use super::{House, Parts};
use crate::config;
use crate::cutover::guards::{bars_way_back, unfed};
use crate::ledger::{Ledger, Look, Pace, Protocol, Slow, Taint};
use crate::readiness::{Figures, Lag, Readiness, Slower, allowed, judge, slower, times};
use crate::roles::RolesWatch;
use axum::Json;
use axum::extract::State;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(15);

/// Statements whose latency is remembered; one more is told anew at each look.
const REMEMBERED_MAX: usize = 20_000;

/// The guards, and the way back where there is one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Standing {
    #[serde(flatten)]
    pub(super) guards: Readiness,
    /// Where a rollback leads; null where the last switch was none that can be undone.
    pub(super) way_back: Option<WayBack>,
}

/// The way back to the server that was primary before the last cutover. What says how good a server is that
/// nobody has served from is not asked there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct WayBack {
    /// That server.
    pub(super) to: String,
    /// Nothing bars it that is known without asking the servers, which a cutover does.
    pub(super) open: bool,
    /// What does.
    pub(super) barred_by: Vec<Bar>,
}

/// A guard that bars the way back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Bar {
    /// The guard.
    pub(super) name: &'static str,
    /// What it found.
    pub(super) why: String,
}

/// Every guard, its figure, its limit, pass or fail; and whether the way back is open, where there is one.
pub(super) async fn readiness(
    State(parts): State<Parts>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Standing>, Refusal> {
    read(move || told(&parts)).await.map(Json)
}

/// The same for the page. Reads the ledger's file.
pub(super) fn told(parts: &Parts) -> Result<Standing, String> {
    let guards = judged(parts)?;
    let roles = parts.roles.borrow().clone();
    let to = way_back(&*parts.helm, &roles.primary.name)?;
    let way_back = to.map(|to| {
        let house: &dyn House = &*parts.house;
        let unfed = unfed(&parts.config, &house.mirror().control, &roles);
        let bars = bars_way_back(&guards, unfed.as_deref()).into_iter();
        let barred_by: Vec<Bar> = bars.map(|(name, why)| Bar { name, why }).collect();
        WayBack {
            to,
            open: barred_by.is_empty(),
            barred_by,
        }
    });
    Ok(Standing { guards, way_back })
}

/// The guards at this moment, which the metrics show from then on. Reads the ledger's file.
pub(super) fn judged(parts: &Parts) -> Result<Readiness, String> {
    let figures = figures(parts)?;
    let readiness = judge(
        &figures,
        &parts.config.readiness.whole(),
        &parts.config.cutover,
    );
    parts.metrics.readiness(&readiness);
    Ok(readiness)
}

/// What readiness is judged by, at this moment. Reads the ledger's file.
pub(super) fn figures(parts: &Parts) -> Result<Figures, String> {
    figures_of(&parts.config, &parts.ledger, &*parts.house, &parts.roles)
}

/// The same without the operators' door, for whoever else judges by it.
pub(crate) fn figures_of(
    config: &config::Config,
    ledger: &Ledger,
    house: &dyn House,
    roles: &RolesWatch,
) -> Result<Figures, String> {
    let limits = &*config.readiness.whole();
    let now = jiff::Timestamp::now();
    let evidence = ledger.evidence(since_of(limits, now), limits.unsettled_commands)?;
    let health = ledger.health();
    let mirror = house.mirror();
    let tainted = ledger.taints();
    let names = names_of(roles);
    let [primary, shadow] = &names;
    let servers = {
        let roles = roles.borrow();
        crate::verify::between(&roles)
    };
    let at_rest = ledger.at_rest([primary, shadow], &servers)?;
    Ok(Figures {
        now,
        open: ledger.open_findings()?,
        // Of the window, unless the file cannot be written, which is then all that is known.
        lost: if health.ok {
            evidence.lost
        } else {
            evidence.lost.max(health.lost)
        },
        evidence,
        paces: paces_of(config, ledger, &names),
        lag: Lag {
            state: mirror.state.to_owned(),
            reason: mirror.reason,
            commands: mirror.waiting,
            oldest: mirror.oldest,
        },
        tainted: tainted.iter().map(Taint::name).collect(),
        verified: at_rest.tables,
        unseen: at_rest.unseen,
    })
}

/// When the window begins in which coverage is judged.
pub(super) fn since(parts: &Parts, now: jiff::Timestamp) -> jiff::Timestamp {
    since_of(&parts.config.readiness.whole(), now)
}

fn since_of(limits: &config::Readiness, now: jiff::Timestamp) -> jiff::Timestamp {
    let window = jiff::SignedDuration::try_from(limits.window);
    now.checked_sub(window.unwrap_or_default())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// The paces of the classes and of the busiest statements.
pub(super) fn paces(parts: &Parts) -> Vec<Pace> {
    paces_of(&parts.config, &parts.ledger, &names(parts))
}

fn paces_of(config: &config::Config, ledger: &Ledger, names: &[String; 2]) -> Vec<Pace> {
    let limits = &config.readiness.whole().latency;
    let [primary, shadow] = names;
    ledger.paces([primary, shadow], limits.samples, limits.fingerprints)
}

/// The servers' names: the primary's, the shadow's.
pub(super) fn names(parts: &Parts) -> [String; 2] {
    names_of(&parts.roles)
}

fn names_of(roles: &RolesWatch) -> [String; 2] {
    let roles = roles.borrow();
    [roles.primary.name.clone(), roles.shadow.name.clone()]
}

/// Looks until told to end.
pub(super) async fn watch(parts: Parts, stop: CancellationToken) {
    let watch = Arc::new(Mutex::new(Watch::default()));
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return,
        }
        let (parts, watch) = (parts.clone(), Arc::clone(&watch));
        // A look that fails or hangs is followed by another: nothing depends on one of them.
        let _looked = aside_quietly(move || watch.lock().look(&parts)).await;
    }
}

/// A finding is fixed once its statement was within the limits at so many looks, one after another: for
/// five minutes. Near a limit a quantile passes it to and fro with each look, and each passing would
/// otherwise be a fix, a regression and two lines in its history.
const LOOKS_UNTIL_FIXED: u32 = 20;

/// What the ledger was told of each statement's latency.
#[derive(Debug, Default)]
pub(super) struct Watch {
    told: BTreeMap<(u64, Protocol), Told>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    slow: bool,
    /// Looks at which it was within the limits, one after another, until now.
    within: u32,
    /// Commands beyond what is allowed that are in the finding's count.
    beyond: u64,
}

impl Watch {
    /// Looks at the guards and at each statement.
    pub(super) fn look(&mut self, parts: &Parts) {
        let limits = &parts.config.readiness.whole().latency;
        let [primary, shadow] = names(parts);
        let servers = [primary.as_str(), shadow.as_str()];
        parts
            .ledger
            .turn_paces(servers, limits.fingerprints, limits.window);
        parts.ledger.mark_course(servers);
        for pace in paces(parts) {
            self.look_at(parts, pace);
        }
        // Without its figures there is no verdict, and the metrics keep the last one.
        let _judged = judged(parts);
    }

    fn look_at(&mut self, parts: &Parts, pace: Pace) {
        let Some(shape) = pace.shape else { return };
        let limits = &parts.config.readiness.whole().latency;
        let servers = names(parts);
        let known = self.told.get(&shape).copied();
        let (slow, now) = match slower(&pace, limits) {
            None => (None, Told::fast(known)),
            Some(quantile) => {
                let most = match quantile {
                    Slower::P50 => allowed(pace.primary.p50, limits.p50_ratio, limits.p50),
                    Slower::P99 => allowed(pace.primary.p99, limits.p99_ratio, limits.p99),
                };
                let [_, shadow] = &servers;
                let beyond = parts.ledger.longer(&pace, shadow, most);
                let before = known.map_or(0, |told| told.beyond);
                let slow = Slow {
                    more: beyond.saturating_sub(before),
                    detail: times(&pace),
                };
                let now = Told {
                    slow: true,
                    within: 0,
                    beyond: beyond.max(before),
                };
                (Some(slow), now)
            }
        };
        // A statement that stays as it was told is no news. Of one that is not known here an earlier
        // process may have left a finding that is open.
        let was_slow = known.is_none_or(|told| told.slow);
        let news = match &slow {
            Some(slow) => known.is_none_or(|told| !told.slow) || slow.more > 0,
            None => was_slow && !now.slow,
        };
        if !news {
            return self.remember(shape, now);
        }
        let look = Look {
            at: jiff::Timestamp::now(),
            pace,
            servers,
            slow,
        };
        if parts.ledger.looked(look) {
            self.remember(shape, now);
        }
    }

    fn remember(&mut self, shape: (u64, Protocol), now: Told) {
        if self.told.len() < REMEMBERED_MAX || self.told.contains_key(&shape) {
            self.told.insert(shape, now);
        }
    }
}

impl Told {
    /// After one more look at which it was within the limits. What it has counted stays counted.
    fn fast(known: Option<Self>) -> Self {
        let before = known.unwrap_or(Self {
            slow: true,
            ..Self::default()
        });
        let within = before.within.saturating_add(1);
        Self {
            slow: before.slow && within < LOOKS_UNTIL_FIXED,
            within,
            beyond: before.beyond,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fixed_only_after_it_was_fast_for_long_and_counts_nothing_twice() {
        let mut told = Told {
            slow: true,
            within: 0,
            beyond: 40,
        };
        for _ in 1..LOOKS_UNTIL_FIXED {
            told = Told::fast(Some(told));
            assert!(told.slow, "{told:?}");
        }
        let again = Told { within: 0, ..told };
        assert!(Told::fast(Some(again)).slow);
        told = Told::fast(Some(told));
        assert!(!told.slow);
        assert_eq!(told.beyond, 40);
        assert!(Told::fast(None).slow, "one look judges nothing");
    }
}

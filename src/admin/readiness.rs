//! `GET /api/v1/readiness`, and the task that looks every so often: at the guards, for the metrics, and
//! for statements that have become too slow on the shadow.

use super::Parts;
use super::answer::{Asked, Refusal, aside_quietly, read};
use super::status::Nothing;
use crate::ledger::{Look, Pace, Protocol, Slow};
use crate::readiness::{Figures, Lag, Readiness, Slower, allowed, judge, slower, times};
use axum::Json;
use axum::extract::State;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(15);

/// Statements whose latency is remembered; one more is told anew at each look.
const REMEMBERED_MAX: usize = 20_000;

/// Every guard, its figure, its limit, pass or fail.
pub(super) async fn readiness(
    State(parts): State<Parts>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Readiness>, Refusal> {
    read(move || {
        let figures = figures(&parts)?;
        let readiness = judge(&figures, &parts.config.readiness);
        parts.metrics.readiness(&readiness);
        Ok::<_, String>(readiness)
    })
    .await
    .map(Json)
}

/// What readiness is judged by, at this moment. Reads the ledger's file.
pub(super) fn figures(parts: &Parts) -> Result<Figures, String> {
    let limits = &parts.config.readiness;
    let now = jiff::Timestamp::now();
    let since = now
        .checked_sub(jiff::SignedDuration::try_from(limits.window).unwrap_or_default())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let evidence = parts.ledger.evidence(since, limits.unsettled_commands)?;
    let mirror = parts.house.mirror();
    let tainted = parts.ledger.taints();
    Ok(Figures {
        now,
        open: parts.ledger.open_findings()?,
        lost: parts.ledger.health().lost,
        evidence,
        paces: paces(parts),
        lag: Lag {
            state: mirror.state.to_owned(),
            reason: mirror.reason,
            commands: mirror.waiting,
            oldest: mirror.oldest,
        },
        tainted: tainted
            .iter()
            .map(|taint| match &taint.database {
                Some(database) => format!("{database}.{}", taint.table),
                None => taint.table.clone(),
            })
            .collect(),
    })
}

/// The paces of the classes and of the busiest statements.
pub(super) fn paces(parts: &Parts) -> Vec<Pace> {
    let limits = &parts.config.readiness.latency;
    let [primary, shadow] = names(parts);
    parts
        .ledger
        .paces([&primary, &shadow], limits.samples, limits.fingerprints)
}

/// The servers' names: the primary's, the shadow's.
pub(super) fn names(parts: &Parts) -> [String; 2] {
    let roles = parts.roles.borrow();
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

/// What the ledger was told of each statement's latency.
#[derive(Debug, Default)]
pub(super) struct Watch {
    told: BTreeMap<(u64, Protocol), Told>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    slow: bool,
    /// Commands beyond what is allowed that are in the finding's count.
    beyond: u64,
}

impl Watch {
    /// Looks at the guards and at each statement.
    pub(super) fn look(&mut self, parts: &Parts) {
        let limits = &parts.config.readiness.latency;
        let [primary, shadow] = names(parts);
        let servers = [primary.as_str(), shadow.as_str()];
        parts
            .ledger
            .turn_paces(servers, limits.fingerprints, limits.window);
        for pace in paces(parts) {
            self.look_at(parts, pace);
        }
        if let Ok(figures) = figures(parts) {
            let readiness = judge(&figures, &parts.config.readiness);
            parts.metrics.readiness(&readiness);
        }
    }

    fn look_at(&mut self, parts: &Parts, pace: Pace) {
        let Some(shape) = pace.shape else { return };
        let limits = &parts.config.readiness.latency;
        let servers = names(parts);
        let known = self.told.get(&shape).copied();
        let (slow, now) = match slower(&pace, limits) {
            None => (None, Told::default()),
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
                    beyond: beyond.max(before),
                };
                (Some(slow), now)
            }
        };
        // A statement that stays as it was told is no news.
        let news = match (&slow, known) {
            (Some(slow), Some(told)) => !told.slow || slow.more > 0,
            (None, Some(told)) => told.slow,
            (_, None) => true,
        };
        if !news {
            return;
        }
        let look = Look {
            at: jiff::Timestamp::now(),
            pace,
            servers,
            slow,
        };
        if parts.ledger.looked(look) && (known.is_some() || self.told.len() < REMEMBERED_MAX) {
            self.told.insert(shape, now);
        }
    }
}

//! Before the hold: the guards, and the connections to the other side.

use super::Run;
use super::together::Together;
use crate::config::Stuck;
use crate::cutover::behind::Behind;
use crate::cutover::coordinator::{Parts, Report};
use crate::cutover::fleet::Sessions;
use crate::cutover::guards::{self, Verdict};
use crate::cutover::hold::{Failed, Ready, in_words, is_the_servers};
use crate::cutover::machine::Event;
use crate::cutover::progress::Slate;
use crate::cutover::{catch_up, hooks, looks, soak};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Time to open the sessions' connections on the other side, before the hold.
const PREPARE_MAX: Duration = Duration::from_secs(120);

/// So far a vtgate's sequences are taken past the keys that there are: more are generated until the
/// switch.
const SEQUENCES_AHEAD: u64 = 10_000;

/// Before the hold the mirror is no further behind than this, for sessions wait as long, and it can always
/// come so near.
const LAG_MAX: Duration = Duration::from_millis(100);

/// Replication may be further away: it is not later than this part of `hold_ms_max`.
const LAG_SHARE: u32 = 4;

/// The time before the hold to which the new primary is compared.
const BEFORE: Duration = Duration::from_secs(300);

impl Run {
    pub(super) fn check(&mut self) {
        self.taints = self.parts.ledger.taints();
        let (parts, is_back) = (self.parts.clone(), self.is_back);
        let force = self.order.as_ref().map(|order| order.force.clone());
        let together = self.together();
        let slate = &self.hands.slate;
        slate.waits("both servers to answer, and the guards", None);
        self.beside(async move {
            let mut known = Sessions::default();
            if let Some(together) = &together {
                let own = looks::sessions(&parts).await;
                match together.here(&own).await {
                    Ok(all) => known = all,
                    Err(why) => return Report::Checked(Err(why)),
                }
            }
            let figures = looks::figures(&parts, is_back, &known).await;
            let config = &parts.config;
            let force = force.unwrap_or_default();
            let verdict = figures.map(|figures| {
                guards::judge(&figures, &config.readiness.whole(), &config.cutover, &force)
            });
            Report::Checked(match (verdict, together) {
                (Ok(verdict), Some(together)) => together.checked(verdict).await,
                (verdict, _) => verdict,
            })
        });
    }

    pub(super) async fn judged(&mut self, verdict: Verdict) -> Event {
        self.recorder.figure("guards", json!(verdict.guards));
        self.recorder.keep_figures().await;
        let event = if verdict.pass {
            let overridden = verdict.overridden();
            if !overridden.is_empty() {
                self.because(&format!("overridden: {}", overridden.join(", ")));
            }
            Event::GuardsPassed
        } else {
            self.because(&verdict.refusal());
            Event::GuardsRefused
        };
        self.verdict = Some(verdict);
        event
    }

    pub(super) fn prepare(&mut self, dry_run: bool) {
        let (hands, parts) = (self.hands.clone(), self.parts.clone());
        let told = self.told();
        // Forced past servers that cannot be asked, it asks them nothing.
        let blind = self
            .order
            .as_ref()
            .is_some_and(|order| order.force.contains(&"reachability"));
        let order = self.order.as_ref();
        let lags = order.is_some_and(|order| order.force.contains(&"lag"));
        let mut ready = std::mem::take(&mut self.ready);
        let together = self.together();
        let runs_hook = !dry_run && together.as_ref().is_none_or(Together::leads);
        self.beside(async move {
            let until = Instant::now() + PREPARE_MAX;
            let (slate, config) = (&hands.slate, &parts.config.cutover);
            slate.waits(
                "a connection to the other side for each session",
                Some((PREPARE_MAX, None)),
            );
            // A second look finds those that came meanwhile.
            let mut failed = Ok(BTreeMap::new());
            for _ in 0..2 {
                failed = hands.prepare(&mut ready, until).await;
            }
            let failed = match failed {
                Ok(failed) => failed,
                Err(why) => return Report::Prepared(Err(why)),
            };
            if runs_hook {
                let most = (config.hook_timeout.now(), Some("cutover.hook_timeout_s"));
                slate.waits("the command of cutover.before_hold", Some(most));
                let told: Vec<_> = told
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                let ran = hooks::run(&config.before_hold, &told, config.hook_timeout.now()).await;
                if let Err(error) = ran {
                    return Report::Prepared(Err(error.to_string()));
                }
            }
            slate.waits("the other side's sequences to be past the keys", None);
            // A key that the new primary generates must be none that the old one has given.
            if let Err(error) = parts.mirror.advance_sequences(SEQUENCES_AHEAD).await {
                if !blind {
                    return Report::Prepared(Err(error.to_string()));
                }
                tracing::warn!(%error, "sequences were not taken past the keys");
            }
            let mut is_near = near(&parts, slate, LAG_MAX.min(config.hold_max.now() / 2)).await;
            let most = replication_lag_max(config.hold_max.now());
            if is_near.is_ok() && !lags {
                let hold = (config.hold_max.now(), Some("cutover.hold_ms_max"));
                slate.waits("what replication brings to be near", Some(hold));
                is_near = catch_up::comes_near(&parts, most, dry_run).await;
            }
            if let Err(why) = is_near {
                return Report::Prepared(Err(why));
            }
            // Sessions that cannot be carried may be in the way: that is this proxy's to say first.
            let goes_on = failed.is_empty() || config.stuck == Stuck::End;
            if goes_on && together.is_some() {
                slate.waits("the other proxies of the fleet", None);
            }
            Report::Prepared(match together {
                Some(together) if goes_on => together.prepared().await.map(|()| (ready, failed)),
                _ => Ok((ready, failed)),
            })
        });
    }

    /// How the primary answers before the hold, which outlives the process: the soak is judged by it.
    pub(super) async fn measure(&mut self) {
        let now = Instant::now();
        let from = now.checked_sub(BEFORE).unwrap_or(now);
        self.before = self.parts.mirror.pulse(from, now);
        self.recorder.figure(soak::BEFORE, soak::kept(&self.before));
        self.recorder.keep_figures().await;
    }

    /// Sessions whose connections cannot be prepared would be in the way of the hold.
    pub(super) fn prepared(&mut self, ready: Ready, failed: Failed) -> Event {
        self.recorder.figure("prepared", json!(ready.len()));
        self.ready = ready;
        let ends = self.parts.config.cutover.stuck == Stuck::End && !is_the_servers(&failed);
        if failed.is_empty() || ends {
            return Event::Prepared;
        }
        let why = format!("sessions cannot be carried across: {}", in_words(&failed));
        self.say(Event::PrepareFailed, &why)
    }
}

/// So late what replication brings may be before the hold: a quarter of it, and where that is little, as much
/// as the mirror.
fn replication_lag_max(hold_max: Duration) -> Duration {
    (hold_max / LAG_SHARE).max(LAG_MAX).min(hold_max / 2)
}

/// Waits until the shadow is only so far behind.
async fn near(parts: &Parts, slate: &Slate, most: Duration) -> Result<(), String> {
    let began = Instant::now();
    let until = began + PREPARE_MAX;
    let what = format!(
        "the shadow to be no more than {} ms behind, for sessions are held as long",
        most.as_millis()
    );
    slate.waits_for_shadow(&what, began, Some((PREPARE_MAX, None)));
    loop {
        let figures = parts.mirror.figures();
        if figures.oldest <= most {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(format!(
                "the shadow stays behind by more than {} ms: it {}. Choose a quieter time, or find out why that takes so long there (understudy latency)",
                most.as_millis(),
                Behind::of(&parts.mirror).words()
            ));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_may_lag_by_a_share_of_the_hold_and_never_by_most_of_it() {
        for (hold, lag) in [(5_000, 1_250), (1_000, 250), (300, 100), (100, 50)] {
            let most = replication_lag_max(Duration::from_millis(hold));
            assert_eq!(most, Duration::from_millis(lag), "{hold}");
        }
    }
}

//! The hold, from the gate that closes to the gate that opens, whatever has become of it.

use super::Run;
use crate::config::Stuck;
use crate::cutover::catch_up::{self, Expected, Way};
use crate::cutover::coordinator::{Parts, Report};
use crate::cutover::fence;
use crate::cutover::hold::{Failed, Hands, in_words, is_the_servers};
use crate::cutover::looks;
use crate::cutover::machine::Event;
use crate::cutover::progress::Limit;
use crate::cutover::replication;
use crate::cutover::watchdog::{self, Stage};
use crate::relay::Leg;
use crate::task;
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Sessions that were told to end have this time for it.
const ENDING_MAX: Duration = Duration::from_secs(2);

/// The fence, and its end, take no longer.
const FENCE_MAX: Duration = Duration::from_secs(2);

/// A fence that was given up is taken away so much later once more: the server may have set it meanwhile.
const LATE_FENCE: Duration = Duration::from_secs(3);

/// This part of `hold_ms_max` everybody waits for sessions that do nothing: an application may think in
/// the midst of a transaction, but not for long.
const IDLE_SHARE: u32 = 4;

/// A hold that lasts so long asks the primary since when the transactions are open that it waits for.
const AGES_AFTER: Duration = Duration::from_millis(200);

impl Run {
    pub(super) fn hold(&mut self) {
        // Who has them stand still for a moment lets them go at once.
        self.standstill.claim();
        let now = Instant::now();
        self.held_since = Some(now);
        self.until = now + self.parts.config.cutover.hold_max.now();
        self.stage = Arc::new(Stage::default());
        let watchdog = watchdog::watch(
            self.hands.clone(),
            Arc::clone(&self.stage),
            self.until,
            self.together().map(|one| (one.fleet, one.call)),
        );
        // It ends once the hold has ended, or with it.
        drop(task::spawn("watchdog", watchdog));
        let most = self.hold_most();
        self.hands.slate.waits_since(
            "every session to come to the end of its transaction",
            now,
            most,
        );
        self.gather();
    }

    fn hold_most(&self) -> Option<Limit> {
        let most = self.parts.config.cutover.hold_max.now();
        Some((most, Some("cutover.hold_ms_max")))
    }

    pub(super) fn gather(&mut self) {
        let (hands, until) = (self.hands.clone(), self.until);
        let parts = self.parts.clone();
        let together = self.together();
        let config = &self.parts.config.cutover;
        // Those that would be ended have all of the time that they were promised.
        let patience = (config.stuck == Stuck::Abort).then(|| config.hold_max.now() / IDLE_SHARE);
        // Others may still be ending those that are in the way there.
        let others_until = match config.stuck {
            Stuck::Abort => until,
            Stuck::End => until + ENDING_MAX,
        };
        let standstill = self.standstill.clone();
        self.beside(async move {
            standstill.claimed().await;
            let gathered = tokio::select! {
                gathered = hands.gather(until, patience) => gathered,
                never = ages(&parts, &hands) => match never {},
            };
            if let (Ok(_), Some(together)) = (&gathered, together) {
                hands.slate.waits("the other proxies of the fleet", None);
                if let Err(why) = together.held(others_until).await {
                    return Report::OthersFailed(why);
                }
            }
            Report::Gathered(gathered)
        });
    }

    pub(super) fn end_stuck(&mut self) {
        let why = "the primary is being changed, and this session could not be carried across in time (cutover.stuck = \"end\")";
        tracing::warn!("sessions are ended: {}", in_words(&self.failed));
        self.recorder.figure("ended", json!(self.failed.len()));
        let unheld = self.parts.relay.census().unheld;
        let threads: Vec<u32> = unheld.iter().map(|one| one.thread_id).collect();
        let primary = Arc::clone(&self.parts.roles.borrow().primary);
        // It ends by itself, within the server's time-outs.
        drop(task::spawn(
            "kill",
            fence::kill(self.parts.clone(), primary, threads),
        ));
        self.hands.end(&self.failed, why);
        self.until = Instant::now() + ENDING_MAX;
        let slate = &self.hands.slate;
        slate.waits("sessions that were told to end", Some((ENDING_MAX, None)));
        self.gather();
    }

    pub(super) fn catch_up(&mut self) {
        let (hands, until) = (self.hands.clone(), self.until);
        let states = std::mem::take(&mut self.states);
        let ready = std::mem::take(&mut self.ready);
        let lost = states.iter().filter(|state| !state.soft.is_empty()).count();
        self.recorder.figure("sessions", json!(states.len()));
        self.recorder
            .figure("sessions_without_their_last_warnings", json!(lost));
        let way = catch_up::way(&self.parts, self.told());
        self.says_what_it_awaits(matches!(way, Ok(Way::Mirror(_))));
        let parts = self.parts.clone();
        let forced = self.order.as_ref().map(|order| order.force.clone());
        let expected = Expected {
            taints: std::mem::take(&mut self.taints),
            forced: forced.unwrap_or_default(),
            halt: self.halt.clone(),
            record: self.recorder.current(),
        };
        self.beside(async move {
            let way = match way {
                Ok(way) => way,
                Err(why) => return Report::CaughtUp(Err(why)),
            };
            // The connections are brought up to date while the shadow catches up.
            let legs = async { Ok(hands.legs(states, ready, until).await) };
            let caught_up = async {
                way.wait(until).await?;
                catch_up::is_whole(&parts, &expected, until).await
            };
            let done = tokio::try_join!(caught_up, legs);
            Report::CaughtUp(done.map(|((), legs)| legs))
        });
    }

    /// The shadow is awaited: by the mirror it is known how far behind it is.
    fn says_what_it_awaits(&self, by_the_mirror: bool) {
        let since = self.held_since.unwrap_or_else(Instant::now);
        let most = self.until.saturating_duration_since(since);
        // Where sessions were ended there is more time than that.
        let key = "cutover.hold_ms_max";
        let is_the_keys = most <= self.parts.config.cutover.hold_max.now();
        let most = Some((most, is_the_keys.then_some(key)));
        let slate = &self.hands.slate;
        if by_the_mirror {
            let what = "the shadow to have all that the primary has acknowledged, and each session's connection to it";
            slate.waits_for_shadow(what, since, most);
        } else {
            let what = "replication to bring the shadow all that the primary has, and each session's connection to it";
            slate.waits_since(what, since, most);
        }
    }

    pub(super) async fn caught_up(&mut self, legs: BTreeMap<u64, Leg>, failed: Failed) -> Event {
        self.legs = legs;
        let ends = self.parts.config.cutover.stuck == Stuck::End && !is_the_servers(&failed);
        if failed.is_empty() || ends {
            self.keep_flow().await;
            return Event::CaughtUp;
        }
        let why = format!("sessions cannot be carried across: {}", in_words(&failed));
        self.say(Event::CatchUpFailed, &why)
    }

    pub(super) async fn fence(&mut self, on: bool) -> Option<Event> {
        if on {
            if let Err(why) = self.is_in_time().await {
                return Some(self.say(Event::CatchUpFailed, &why));
            }
            // A lift of an earlier one that is still tried would undo this one.
            self.fences.next();
        }
        let primary = Arc::clone(&self.parts.roles.borrow().primary);
        let fences = self.fences.clone();
        let setting = fence::set(&self.parts, &primary, on, (&fences, || true));
        let done = tokio::time::timeout(FENCE_MAX, setting).await;
        let is_late = done.is_err();
        let late = || format!("{} does not answer", primary.name);
        let Err(why) = done.unwrap_or_else(|_| Err(late())) else {
            return None;
        };
        tracing::error!("{why}");
        // A fence that was asked for may come up behind the end that follows now.
        let lifts = match on {
            false => Some(fence::AGAIN),
            true => is_late.then_some(LATE_FENCE),
        };
        if let Some(after) = lifts {
            let lifting = fence::lift(&self.parts, &primary, &self.fences, after);
            // It ends once the server takes writes again, or another fence is set.
            drop(task::spawn("fence", lifting));
        }
        on.then(|| self.say(Event::CatchUpFailed, &why))
    }

    /// Before a fleet's old primary is fenced: the others may have given up and gone on there.
    async fn is_in_time(&self) -> Result<(), String> {
        let Some(together) = self.together() else {
            return Ok(());
        };
        if Instant::now() >= self.until {
            return Err("the hold is over, and the others may have gone on".to_owned());
        }
        together.still_called().await
    }

    /// An earlier process may have ended between a fence and its end: the primary takes writes. One that
    /// could not ask its fleet does not know who that is.
    pub(in crate::cutover) async fn lift_fence(&mut self) {
        let knows = self
            .parts
            .fleet
            .as_ref()
            .is_none_or(|fleet| fleet.has_joined());
        if self.parts.config.cutover.fence && knows {
            let _ = self.fence(false).await;
        }
    }

    pub(super) async fn release(&mut self) {
        self.stage.is_over();
        self.stop_beside();
        if self.published {
            let (moved, ended) = self.hands.carrier.move_all(std::mem::take(&mut self.legs));
            self.recorder.figure("moved", json!(moved));
            if !ended.is_empty() {
                tracing::warn!(?ended, "sessions could not be carried across and are ended");
                self.recorder.figure("not_carried", json!(ended.len()));
            }
        } else {
            self.hands.carrier.let_go();
            self.forget_flow();
            replication::go_on(&self.parts, &self.halt);
        }
        self.hands.relay.resume();
        self.standstill.give_back();
        let Some(since) = self.held_since.take() else {
            return;
        };
        self.recorder.held(since.elapsed()).await;
        self.recorder.keep_figures().await;
    }
}

/// Tells who looks on, and the record of a hold that fails, since when transactions are open: asked of the
/// primary once, and not at all by the holds that are over soon.
async fn ages(parts: &Parts, hands: &Hands) -> Infallible {
    tokio::time::sleep(AGES_AFTER).await;
    if let Ok(ages) = looks::transactions(parts).await {
        hands.slate.opened(ages);
    }
    std::future::pending().await
}

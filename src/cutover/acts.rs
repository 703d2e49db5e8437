//! What the machine's actions do. Each leaves its trace in the record.
//!
//! One file for each time of a cutover: [`preparing`], [`holding`], [`switching`], [`soaking`]; and
//! [`flow`], for what replication feeds; [`called`] and [`together`], for what a fleet does at the same
//! time.

mod called;
mod flow;
mod holding;
mod preparing;
mod soaking;
mod switching;
mod together;

pub(super) use called::News;

use super::coordinator::{Message, Parts, Report, policy};
use super::fence;
use super::fleet::{Call, FleetError};
use super::guards::Verdict;
use super::helm::{Order, Refused, is_way_back};
use super::hold::{Failed, Hands, Ready, in_words, remedy};
use super::machine::{Action, Event, Outcome, Plan, Policy, State};
use super::progress::Slate;
use super::record::Recorder;
use super::replication::{self, Halt};
use super::standstill::Standstill;
use super::turn::Turn;
use super::watchdog::Stage;
use crate::ledger::{Begun, Taint};
use crate::relay::Leg;
use crate::shadow::{Beat, SessionState};
use crate::task;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The figure of a record that names the fleet's cutover that it was.
const FLEET: &str = crate::ledger::FLEET;

fn unable(why: String) -> Refused {
    Refused::Unable(format!("it cannot be recorded: {why}"))
}

/// One cutover after the other: what is known of the one under way.
pub(super) struct Run {
    parts: Parts,
    hands: Hands,
    /// Others have the sessions stand still for a moment; during a hold nobody does.
    standstill: Standstill,
    messages: mpsc::WeakSender<Message>,
    recorder: Recorder,
    /// What runs beside, and its number.
    beside: Option<JoinHandle<()>>,
    number: u64,
    watch: Option<JoinHandle<()>>,
    order: Option<Order>,
    /// What the fleet was called to, while it is under way here.
    call: Option<Call>,
    /// This proxy leads it, or led the last one.
    leads: bool,
    /// The last call that was heard.
    heard: String,
    /// The last one that was under way here, and since when it is over.
    left: Option<(String, Instant)>,
    /// The fleet has gone on without this proxy: nothing is done any more.
    is_lost: bool,
    is_back: bool,
    verdict: Option<Verdict>,
    /// What was tainted before the guards were judged.
    taints: Vec<Taint>,
    ready: Ready,
    states: Vec<SessionState>,
    legs: BTreeMap<u64, Leg>,
    failed: Failed,
    held_since: Option<Instant>,
    until: Instant,
    before: Beat,
    published: bool,
    stage: Arc<Stage>,
    /// It has gone back by itself since the last switch.
    went_back: bool,
    /// Raised with each fence that is set.
    fences: Turn,
    /// The soak's time is over.
    soaked: bool,
    halt: Halt,
}

impl Run {
    pub(super) fn new(
        parts: Parts,
        messages: mpsc::WeakSender<Message>,
        standstill: Standstill,
    ) -> Self {
        let hands = Hands {
            relay: parts.relay.clone(),
            mirror: Arc::clone(&parts.mirror),
            carrier: Arc::clone(&parts.carrier),
            threads: parts.threads.as_slice().into(),
            slate: Slate::default(),
        };
        Self {
            recorder: Recorder::new(Arc::clone(&parts.records)),
            hands,
            standstill,
            parts,
            messages,
            beside: None,
            number: 0,
            watch: None,
            order: None,
            call: None,
            leads: false,
            heard: String::new(),
            left: None,
            is_lost: false,
            is_back: false,
            verdict: None,
            taints: Vec::new(),
            ready: BTreeMap::new(),
            states: Vec::new(),
            legs: BTreeMap::new(),
            failed: BTreeMap::new(),
            held_since: None,
            until: Instant::now(),
            before: Beat::default(),
            published: false,
            stage: Arc::default(),
            went_back: false,
            fences: Turn::default(),
            soaked: false,
            halt: Halt::default(),
        }
    }

    /// Where it is said how far it has come.
    pub(super) fn slate(&self) -> Slate {
        self.hands.slate.clone()
    }

    /// What an earlier process left undone at the servers. Reads the records: it blocks.
    pub(super) fn recall(&self) {
        fence::recall(&self.parts, &self.fences);
        replication::recall(&self.parts, &self.halt);
    }

    pub(super) fn policy(&self) -> Policy {
        policy(&self.parts.config)
    }

    /// The number of the record of the cutover that was begun last.
    pub(super) const fn record(&self) -> i64 {
        self.recorder.current()
    }

    /// The number of the record that is told; 0 for none.
    pub(super) const fn shown(&self) -> i64 {
        self.recorder.shown()
    }

    /// Why what comes next comes.
    pub(super) fn because(&mut self, why: &str) {
        self.recorder.because(why);
    }

    /// Why the guards refuse.
    pub(super) fn refusal(&self) -> Refused {
        match &self.verdict {
            Some(verdict) => Refused::Guards(verdict.guards.clone()),
            None => Refused::Unable(self.recorder.last().to_owned()),
        }
    }

    /// Why the last cutover ended as it did.
    pub(super) fn ended(&self) -> &str {
        self.recorder.last()
    }

    /// What an earlier process left is told.
    pub(super) const fn remember(&mut self, id: i64) {
        self.recorder.remember(id);
    }

    /// Begins a cutover that this proxy is asked for, and calls its fleet. Whether it is a way back.
    pub(super) async fn begin(&mut self, order: Order) -> Result<bool, Refused> {
        let from = self.parts.roles.borrow().primary.name.clone();
        if order.to == *from {
            let why = format!("{} is the primary already", order.to);
            return Err(Refused::NotNow(why));
        }
        let last = self.recorder.last_switched().await.map_err(unable)?;
        let is_back = is_way_back(last.as_ref(), &order.to);
        if let Some(fleet) = &self.parts.fleet {
            let called = fleet.call(&order, &from, is_back).await;
            self.leads = true;
            self.call = Some(called.map_err(|error| match error {
                FleetError::No(why) => Refused::NotNow(why),
                FleetError::Down(why) => Refused::Unable(why),
            })?);
        }
        // A proxy that came after the last switch has no record of it: the fleet has.
        let is_back = self.call.as_ref().map_or(is_back, |call| call.is_back);
        let begun = self.record_it(order, is_back).await;
        if let Err(refused) = &begun {
            self.hang_up(&format!("{refused:?}")).await;
        }
        begun.map(|()| is_back)
    }

    /// Begins a record.
    async fn record_it(&mut self, order: Order, is_back: bool) -> Result<(), Refused> {
        let begun = Begun {
            from: self.parts.roles.borrow().primary.name.clone(),
            to: order.to.clone(),
            dry_run: order.dry_run,
            is_back,
            forced: order.force.iter().map(|name| (*name).to_owned()).collect(),
            who: order.who.clone(),
        };
        self.recorder.begin(begun).await.map_err(unable)?;
        if let Some(call) = &self.call {
            self.recorder.figure(FLEET, json!(call.id));
        }
        self.is_back = is_back;
        self.verdict = None;
        self.failed.clear();
        self.held_since = None;
        self.published = false;
        self.order = Some(order);
        Ok(())
    }

    /// The machine goes from one state to another.
    pub(super) async fn enter(&mut self, from: State, to: State) {
        self.hands.slate.clear();
        self.recorder.enter(from, to).await;
    }

    /// What runs beside says so: the event that it is.
    pub(super) async fn take(&mut self, number: u64, report: Report) -> Option<Event> {
        match report {
            Report::Watched(event, why) => {
                self.soaked = event == Event::SoakPassed;
                self.because(&why);
                return Some(event);
            }
            Report::Hooked { name, took, ran } => {
                let outcome = if ran.is_ok() { "done" } else { "failed" };
                let why = ran.as_ref().err().cloned().unwrap_or_default();
                if let Err(why) = &ran {
                    tracing::error!("{why}");
                } else if name == "after_switch" {
                    self.confirm_everywhere().await;
                }
                self.recorder.note(name, took, outcome, &why).await;
                return None;
            }
            _ if number != self.number => return None,
            _ => self.beside = None,
        }
        Some(match report {
            Report::Checked(Ok(verdict)) => self.judged(verdict).await,
            Report::Checked(Err(why)) => self.say(Event::GuardsRefused, &why),
            Report::Prepared(Ok((ready, failed))) => {
                self.measure().await;
                self.prepared(ready, failed)
            }
            Report::Prepared(Err(why)) => self.say(Event::PrepareFailed, &why),
            Report::Gathered(Ok(states)) => {
                self.states = states;
                Event::AllHeld
            }
            Report::Gathered(Err(failed)) => {
                let waited = self
                    .held_since
                    .map_or(0, |since| since.elapsed().as_millis());
                let primary = self.parts.roles.borrow().primary.name.clone();
                let why = format!(
                    "after {waited} ms not all could be held: {}{}",
                    in_words(&failed),
                    remedy(&failed, &self.parts.config.cutover, &primary)
                );
                self.failed = failed;
                self.say(Event::HoldTimedOut, &why)
            }
            Report::CaughtUp(Ok((legs, failed))) => self.caught_up(legs, failed).await,
            Report::CaughtUp(Err(why)) => self.say(Event::CatchUpFailed, &why),
            Report::OthersFailed(why) => self.say(Event::AbortAsked, &why),
            Report::Watched(..) | Report::Hooked { .. } => return None,
        })
    }

    fn say(&mut self, event: Event, why: &str) -> Event {
        self.because(why);
        event
    }
    /// Does what the machine says. An event where it is over at once.
    pub(super) async fn act(&mut self, action: Action, plan: Option<Plan>) -> Option<Event> {
        if let Some(event) = self.unrecorded(action) {
            return Some(event);
        }
        let lets_go = matches!(action, Action::Unfence | Action::Release) && !self.published;
        if self.is_lost || (lets_go && self.is_left_behind().await) {
            self.is_lost = true;
            return None;
        }
        match action {
            Action::Check => self.check(),
            Action::Refuse => self.refuse().await,
            Action::EndSoak => self.recorder.end_soak(self.soaked).await,
            Action::Prepare => self.prepare(plan.is_some_and(|plan| plan.dry_run)),
            Action::Unprepare => {
                self.stop_beside();
                self.ready.clear();
                self.legs.clear();
                self.states.clear();
            }
            Action::Hold => self.hold(),
            Action::EndStuck => self.end_stuck(),
            Action::Fence => return self.fence(true).await,
            Action::Unfence => return self.fence(false).await,
            Action::CatchUp => self.catch_up(),
            Action::Switch => {
                self.hands.slate.waits("the switch to be recorded", None);
                return Some(self.switch().await);
            }
            Action::Settle => return Some(self.settle().await),
            Action::Publish => self.publish().await,
            Action::Release => self.release().await,
            Action::AfterSwitch => self.hook("after_switch"),
            Action::AfterRollback => self.hook("after_rollback"),
            Action::Watch => self.start_watch(Duration::ZERO),
            Action::Unwatch => {
                if let Some(watch) = self.watch.take() {
                    watch.abort();
                }
            }
            Action::Alert => self.recorder.alert().await,
            Action::GoBack => return self.go_back().await,
            Action::End(outcome) => self.end_record(outcome).await,
        }
        None
    }

    /// Nothing is done that is not in the record first.
    fn unrecorded(&mut self, action: Action) -> Option<Event> {
        let event = match action {
            Action::Prepare => Event::PrepareFailed,
            Action::Hold | Action::CatchUp => Event::AbortAsked,
            Action::Switch => Event::SwitchFailed,
            _ => return None,
        };
        let why = self.recorder.fault()?;
        Some(self.say(event, &why))
    }

    /// Runs something beside; what ran before is given up.
    fn beside(&mut self, work: impl Future<Output = Report> + Send + 'static) {
        self.stop_beside();
        let (number, messages) = (self.number, self.messages.clone());
        self.beside = Some(task::spawn("cutover step", async move {
            let report = work.await;
            if let Some(messages) = messages.upgrade() {
                let _ = messages.send(Message::Report(number, report)).await;
            }
        }));
    }

    fn stop_beside(&mut self) {
        self.number += 1;
        if let Some(beside) = self.beside.take() {
            beside.abort();
        }
    }

    async fn end_record(&mut self, outcome: Outcome) {
        let why = self.recorder.last().to_owned();
        self.recorder.keep_figures().await;
        self.recorder.end(outcome.name()).await;
        match outcome {
            Outcome::DryRun => self.end_call().await,
            Outcome::Aborted | Outcome::Refused => self.hang_up(&why).await,
            Outcome::Done => {}
        }
    }

    async fn refuse(&mut self) {
        let why = self.recorder.last().to_owned();
        self.recorder.refuse().await;
        self.hang_up(&why).await;
    }
    /// The proxy ends.
    pub(super) async fn end(&mut self) {
        self.stop_beside();
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
        self.halt.started().await;
    }
}

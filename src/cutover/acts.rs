//! What the machine's actions do. Each leaves its trace in the record.

use super::catch_up::{self, Expected};
use super::coordinator::{Message, Parts, Report, pause, policy};
use super::guards::{self, Verdict};
use super::helm::{Order, Refused, is_way_back};
use super::hold::{Failed, Hands, Ready, in_words, is_the_servers};
use super::machine::{Action, Event, Outcome, Plan, Policy, State};
use super::record::Recorder;
use super::watchdog::{self, Stage};
use super::{fence, hooks, looks, soak};
use crate::config::{FedBy, Stuck, Writes};
use crate::ledger::{Begun, SwitchError, Taint};
use crate::relay::Leg;
use crate::roles::Roles;
use crate::shadow::{Beat, SessionState};
use crate::task;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Time to open the sessions' connections on the other side, before the hold.
const PREPARE_MAX: Duration = Duration::from_secs(120);

/// So far a vtgate's sequences are taken past the keys that there are: more are generated until the
/// switch.
const SEQUENCES_AHEAD: u64 = 10_000;

/// Before the hold the shadow is no further behind than this, for sessions wait as long.
const LAG_MAX: Duration = Duration::from_millis(100);

/// Sessions that were told to end have this time for it.
const ENDING_MAX: Duration = Duration::from_secs(2);

/// The figure of a record that says that forward replication has ended.
const STOPPED: &str = "replication_stopped";

/// The shadow side is turned within this time, or while sessions go on already.
const TURN_MAX: Duration = Duration::from_secs(5);

/// The fence, and its end, take no longer.
const FENCE_MAX: Duration = Duration::from_secs(2);

/// Between two tries to find out what was recorded. Sessions wait meanwhile.
const SETTLE_AGAIN: Duration = Duration::from_millis(50);

/// The time before the hold to which the new primary is compared.
const BEFORE: Duration = Duration::from_secs(300);

/// One cutover after the other: what is known of the one under way.
pub(super) struct Run {
    parts: Parts,
    hands: Hands,
    messages: mpsc::WeakSender<Message>,
    recorder: Recorder,
    /// What runs beside, and its number.
    beside: Option<JoinHandle<()>>,
    number: u64,
    watch: Option<JoinHandle<()>>,
    order: Option<Order>,
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
    /// The soak's time is over.
    soaked: bool,
}

impl Run {
    pub(super) fn new(parts: Parts, messages: mpsc::WeakSender<Message>) -> Self {
        let hands = Hands {
            relay: parts.relay.clone(),
            mirror: Arc::clone(&parts.mirror),
            carrier: Arc::clone(&parts.carrier),
            threads: parts.threads.clone(),
        };
        Self {
            recorder: Recorder::new(Arc::clone(&parts.records)),
            hands,
            parts,
            messages,
            beside: None,
            number: 0,
            watch: None,
            order: None,
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
            soaked: false,
        }
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
            None => Refused::Unable(self.recorder.why().to_owned()),
        }
    }

    /// What an earlier process left is told.
    pub(super) const fn remember(&mut self, id: i64) {
        self.recorder.remember(id);
    }

    /// An earlier process left a cutover in its soak: it goes on.
    pub(super) async fn take_over(&mut self, id: i64, is_back: bool, soaked: Duration) {
        self.is_back = is_back;
        self.recorder.soaks(id);
        self.recorder.enter_soak().await;
        self.start_watch(soaked);
    }

    /// An earlier process may have ended between a fence and its end: the primary takes writes.
    pub(super) async fn lift_fence(&mut self) {
        if self.parts.config.cutover.fence {
            let _ = self.fence(false).await;
        }
    }

    /// Begins a record. Whether it is a way back.
    pub(super) async fn begin(&mut self, order: Order) -> Result<bool, Refused> {
        let roles = self.parts.roles.borrow().clone();
        if order.to == *roles.primary.name {
            return Err(Refused::NotNow(format!(
                "{} is the primary already",
                order.to
            )));
        }
        let unable = |why: String| Refused::Unable(format!("it cannot be recorded: {why}"));
        let last = self.recorder.last_switched().await.map_err(unable)?;
        let is_back = is_way_back(last.as_ref(), &order.to);
        let begun = Begun {
            from: roles.primary.name.clone(),
            to: order.to.clone(),
            dry_run: order.dry_run,
            is_back,
            forced: order.force.iter().map(|name| (*name).to_owned()).collect(),
            who: order.who.clone(),
        };
        self.recorder.begin(begun).await.map_err(unable)?;
        self.is_back = is_back;
        self.verdict = None;
        self.failed.clear();
        self.held_since = None;
        self.published = false;
        self.order = Some(order);
        Ok(is_back)
    }

    /// The machine goes from one state to another.
    pub(super) async fn enter(&mut self, from: State, to: State) {
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
                    self.confirm().await;
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
            Report::Prepared(Ok((ready, failed))) => self.prepared(ready, failed),
            Report::Prepared(Err(why)) => self.say(Event::PrepareFailed, &why),
            Report::Gathered(Ok(states)) => {
                self.states = states;
                Event::AllHeld
            }
            Report::Gathered(Err(failed)) => {
                let most = self.parts.config.cutover.hold_max.as_millis();
                let why = format!(
                    "after {most} ms not all could be held: {}",
                    in_words(&failed)
                );
                self.failed = failed;
                self.say(Event::HoldTimedOut, &why)
            }
            Report::CaughtUp(Ok((legs, failed))) => self.caught_up(legs, failed),
            Report::CaughtUp(Err(why)) => self.say(Event::CatchUpFailed, &why),
            Report::Watched(..) | Report::Hooked { .. } => return None,
        })
    }

    fn say(&mut self, event: Event, why: &str) -> Event {
        self.because(why);
        event
    }

    async fn judged(&mut self, verdict: Verdict) -> Event {
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

    /// Sessions whose connections cannot be prepared would be in the way of the hold.
    fn prepared(&mut self, ready: Ready, failed: Failed) -> Event {
        self.recorder.figure("prepared", json!(ready.len()));
        self.ready = ready;
        let ends = self.parts.config.cutover.stuck == Stuck::End && !is_the_servers(&failed);
        if failed.is_empty() || ends {
            return Event::Prepared;
        }
        let why = format!("sessions cannot be carried across: {}", in_words(&failed));
        self.say(Event::PrepareFailed, &why)
    }

    fn caught_up(&mut self, legs: BTreeMap<u64, Leg>, failed: Failed) -> Event {
        self.legs = legs;
        let ends = self.parts.config.cutover.stuck == Stuck::End && !is_the_servers(&failed);
        if failed.is_empty() || ends {
            return Event::CaughtUp;
        }
        let why = format!("sessions cannot be carried across: {}", in_words(&failed));
        self.say(Event::CatchUpFailed, &why)
    }

    /// Does what the machine says. An event where it is over at once.
    pub(super) async fn act(&mut self, action: Action, plan: Option<Plan>) -> Option<Event> {
        if let Some(event) = self.unrecorded(action) {
            return Some(event);
        }
        match action {
            Action::Check => self.check(),
            Action::Refuse => self.recorder.refuse().await,
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
            Action::Switch => return Some(self.switch().await),
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

    fn check(&mut self) {
        self.taints = self.parts.ledger.taints();
        let (parts, is_back) = (self.parts.clone(), self.is_back);
        let force = self.order.as_ref().map(|order| order.force.clone());
        self.beside(async move {
            let figures = looks::figures(&parts, is_back).await;
            let config = &parts.config;
            let force = force.unwrap_or_default();
            Report::Checked(
                figures.map(|figures| {
                    guards::judge(&figures, &config.readiness, &config.cutover, &force)
                }),
            )
        });
    }

    fn prepare(&mut self, dry_run: bool) {
        let (hands, parts) = (self.hands.clone(), self.parts.clone());
        let told = self.told();
        // Forced past servers that cannot be asked, it asks them nothing.
        let blind = self
            .order
            .as_ref()
            .is_some_and(|order| order.force.contains(&"reachability"));
        let mut ready = std::mem::take(&mut self.ready);
        self.beside(async move {
            let until = Instant::now() + PREPARE_MAX;
            // A second look finds those that came meanwhile.
            let mut failed = Ok(BTreeMap::new());
            for _ in 0..2 {
                failed = hands.prepare(&mut ready, until).await;
            }
            let failed = match failed {
                Ok(failed) => failed,
                Err(why) => return Report::Prepared(Err(why)),
            };
            let config = &parts.config.cutover;
            if !dry_run {
                let told: Vec<_> = told
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                let ran = hooks::run(&config.before_hold, &told, config.hook_timeout).await;
                if let Err(error) = ran {
                    return Report::Prepared(Err(error.to_string()));
                }
            }
            // A key that the new primary generates must be none that the old one has given.
            if let Err(error) = parts.mirror.advance_sequences(SEQUENCES_AHEAD).await {
                if !blind {
                    return Report::Prepared(Err(error.to_string()));
                }
                tracing::warn!(%error, "sequences were not taken past the keys");
            }
            let most = LAG_MAX.min(config.hold_max / 2);
            Report::Prepared(near(&parts, most).await.map(|()| (ready, failed)))
        });
    }

    fn hold(&mut self) {
        let now = Instant::now();
        self.before = self
            .parts
            .mirror
            .pulse(now.checked_sub(BEFORE).unwrap_or(now), now);
        self.held_since = Some(now);
        self.until = now + self.parts.config.cutover.hold_max;
        self.stage = Arc::new(Stage::default());
        let watchdog = watchdog::watch(self.hands.clone(), Arc::clone(&self.stage), self.until);
        // It ends once the hold has ended, or with it.
        drop(task::spawn("watchdog", watchdog));
        self.gather();
    }

    fn gather(&mut self) {
        let (hands, until) = (self.hands.clone(), self.until);
        self.beside(async move { Report::Gathered(hands.gather(until).await) });
    }

    fn end_stuck(&mut self) {
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
        self.gather();
    }

    fn catch_up(&mut self) {
        let (hands, until) = (self.hands.clone(), self.until);
        let states = std::mem::take(&mut self.states);
        let ready = std::mem::take(&mut self.ready);
        let lost = states.iter().filter(|state| !state.soft.is_empty()).count();
        self.recorder.figure("sessions", json!(states.len()));
        self.recorder
            .figure("sessions_without_their_last_warnings", json!(lost));
        let way = catch_up::way(&self.parts, self.told());
        let parts = self.parts.clone();
        let forced = self.order.as_ref().map(|order| order.force.clone());
        let expected = Expected {
            taints: std::mem::take(&mut self.taints),
            forced: forced.unwrap_or_default(),
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

    async fn fence(&mut self, on: bool) -> Option<Event> {
        let roles = self.parts.roles.borrow().clone();
        let setting = fence::set(&self.parts, &roles.primary, on);
        let done = tokio::time::timeout(FENCE_MAX, setting).await;
        let late = || format!("{} does not answer", roles.primary.name);
        let Err(why) = done.unwrap_or_else(|_| Err(late())) else {
            return None;
        };
        tracing::error!("{why}");
        if !on {
            let lifting = fence::lift(self.parts.clone(), Arc::clone(&roles.primary));
            // It ends once the server takes writes again, or another fence is set.
            drop(task::spawn("fence", lifting));
        }
        on.then(|| self.say(Event::CatchUpFailed, &why))
    }

    async fn switch(&mut self) -> Event {
        if !self.stage.goes_on() {
            let why = "the hold took too long, and every session was let go";
            return self.say(Event::SwitchFailed, why);
        }
        #[cfg(feature = "simulation")]
        if crate::planted::is(crate::planted::Bug::LetGoEarly) {
            self.publish().await;
            self.release().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match self.recorder.switch().await {
            Ok(()) => Event::Switched,
            Err(SwitchError::Failed(why)) => self.say(Event::SwitchFailed, &why),
            Err(SwitchError::Unknown(why)) => self.say(Event::SwitchUnknown, &why),
        }
    }

    /// Sessions wait until this is known: to guess would be to have two primaries.
    async fn settle(&mut self) -> Event {
        loop {
            match self.recorder.settle().await {
                Ok(true) => return Event::Switched,
                Ok(false) => return Event::SwitchFailed,
                Err(why) => tracing::error!("{why}; sessions are held until it is known"),
            }
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
    }

    async fn publish(&mut self) {
        pause("switched").await;
        let Some(order) = &self.order else { return };
        let was = self.parts.roles.borrow().clone();
        if was.primary.name == order.to {
            return;
        }
        let roles = Roles {
            primary: Arc::clone(&was.shadow),
            shadow: Arc::clone(&was.primary),
        };
        tracing::warn!(
            "{} is the primary now, {} the shadow",
            roles.primary.name,
            roles.shadow.name
        );
        if self.parts.config.shadow.fed_by == FedBy::Replication {
            // What flows forward would come back.
            self.set_writes(if roles.shadow.fed_by == FedBy::Replication {
                self.parts.config.mirror.writes
            } else {
                Writes::Off
            });
        }
        self.parts.roles.send_replace(roles.clone());
        let turning = self.parts.mirror.turn(roles);
        match tokio::time::timeout(TURN_MAX, turning).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => tracing::error!("{ended}: nothing is mirrored until the next start"),
            Err(_) => tracing::error!(
                "the shadow side has not turned yet: what is said meanwhile is not mirrored"
            ),
        }
        self.published = true;
        self.went_back = false;
        self.soaked = false;
    }

    async fn release(&mut self) {
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
        }
        self.hands.relay.resume();
        let Some(since) = self.held_since.take() else {
            return;
        };
        self.recorder.held(since.elapsed()).await;
        self.recorder.keep_figures().await;
    }

    /// `soaked`: so long it has been watched before.
    fn start_watch(&mut self, soaked: Duration) {
        if self
            .watch
            .as_ref()
            .is_some_and(|watch| !watch.is_finished())
        {
            return;
        }
        let (parts, before, messages) = (self.parts.clone(), self.before, self.messages.clone());
        let watching = async move {
            let tell = |event, why| {
                let messages = messages.clone();
                async move {
                    if let Some(messages) = messages.upgrade() {
                        let report = Report::Watched(event, why);
                        let _ = messages.send(Message::Report(0, report)).await;
                    }
                }
            };
            soak::watch(&parts, (before, soaked), tell).await;
        };
        self.watch = Some(task::spawn("soak", watching));
    }

    fn hook(&mut self, name: &'static str) {
        let config = &self.parts.config.cutover;
        let command = match name {
            "after_switch" => config.after_switch.clone(),
            _ => config.after_rollback.clone(),
        };
        if command.is_empty() {
            return;
        }
        let (told, at_most, messages) = (self.told(), config.hook_timeout, self.messages.clone());
        // Its owner is the record: it reports there, whatever comes meanwhile.
        drop(task::spawn("hook", async move {
            let began = Instant::now();
            let told: Vec<_> = told
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let ran = hooks::run(&command, &told, at_most).await;
            let report = Report::Hooked {
                name,
                took: began.elapsed(),
                ran: ran.map_err(|error| error.to_string()),
            };
            if let Some(messages) = messages.upgrade() {
                let _ = messages.send(Message::Report(0, report)).await;
            }
        }));
    }

    /// What hooks are told.
    fn told(&self) -> Vec<(&'static str, String)> {
        let Some(order) = &self.order else {
            return Vec::new();
        };
        let roles = self.parts.roles.borrow();
        let from = if roles.primary.name == order.to {
            &roles.shadow.name
        } else {
            &roles.primary.name
        };
        vec![
            ("CUTOVER", self.record().to_string()),
            ("FROM", from.clone()),
            ("TO", order.to.clone()),
        ]
    }

    async fn go_back(&mut self) -> Option<Event> {
        if std::mem::replace(&mut self.went_back, true) {
            return None;
        }
        let order = Order {
            to: self.parts.roles.borrow().shadow.name.clone(),
            dry_run: false,
            force: Vec::new(),
            who: "understudy (cutover.soak_action)".to_owned(),
        };
        match self.begin(order).await {
            Ok(is_back) => Some(Event::Asked {
                dry_run: false,
                is_back,
            }),
            Err(refused) => {
                tracing::error!(?refused, "it cannot be rolled back by itself");
                None
            }
        }
    }

    async fn end_record(&mut self, outcome: Outcome) {
        self.recorder.keep_figures().await;
        self.recorder.end(outcome.name()).await;
    }

    /// Whether what replication fed is the primary now: dark writes to the old one wait for a word.
    fn is_away_from_replication(&self) -> bool {
        self.parts.config.shadow.fed_by == FedBy::Replication
            && self.parts.roles.borrow().shadow.fed_by == FedBy::Mirror
    }

    fn set_writes(&self, writes: Writes) {
        let mut control = self.parts.mirror.control();
        control.writes = writes;
        self.parts.mirror.set_control(control);
    }

    /// Forward replication has ended: dark writes flow back from here on, after a restart too.
    async fn confirm(&mut self) -> bool {
        let waits =
            self.is_away_from_replication() && self.parts.mirror.control().writes != Writes::Apply;
        if waits {
            self.recorder.confirm(STOPPED).await;
            self.set_writes(Writes::Apply);
        }
        waits
    }

    /// What an earlier process was told of forward replication holds.
    pub(super) async fn restore_flow(&mut self) {
        if !self.is_away_from_replication() {
            return;
        }
        let last = self.recorder.last_switched().await.ok().flatten();
        let stopped = last.is_some_and(|last| last.figures.get(STOPPED) == Some(&json!(true)));
        self.set_writes(if stopped { Writes::Apply } else { Writes::Off });
    }

    /// An operator says that forward replication has ended.
    pub(super) async fn replication_stopped(&mut self, who: &str) -> Result<(), Refused> {
        if self.confirm().await {
            tracing::warn!(who, "forward replication has ended: dark writes flow back");
            return Ok(());
        }
        Err(Refused::NotNow(
            "nothing waits for it: there was no switch away from a server that replication fed, or it was said before".to_owned(),
        ))
    }

    /// The proxy ends.
    pub(super) async fn end(&mut self) {
        self.stop_beside();
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
    }
}

/// Waits until the shadow is only so far behind.
async fn near(parts: &Parts, most: Duration) -> Result<(), String> {
    let until = Instant::now() + PREPARE_MAX;
    loop {
        let figures = parts.mirror.figures();
        if figures.oldest <= most {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(format!(
                "the shadow stays behind by more than {} ms: {} commands wait for it, the oldest for {} ms",
                most.as_millis(),
                figures.waiting,
                figures.oldest.as_millis()
            ));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

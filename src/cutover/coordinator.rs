//! Runs the cutovers: one task that has the machine, does what it says, and tells it what became of
//! that. What takes its time (guards, connections, the hold, the catching up, the watch) runs beside
//! it and reports; so an abort is heard at any moment.
//!
//! Whatever is done is in the record first. Refuses two cutovers at a time.

use super::acts::{News, Run};
use super::behind::Behind;
use super::carry::Carrier;
use super::fleet::{self, Board, Call, Fleet};
use super::guards::Verdict;
use super::helm::{Helm, Order, Refused, Soon, restored};
use super::hold::{Failed, Ready};
use super::machine::{Event, Next, Plan, Policy, Rest, Soak, State};
use super::progress::{Progress, Slate};
use super::standstill::Standstill;
use crate::config::Config;
use crate::connect::Dial;
use crate::ledger::{Ledger, Record, Records};
use crate::readiness;
use crate::relay::{Leg, Relay};
use crate::roles::Roles;
use crate::shadow::{Mirror, SessionState};
use crate::task;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Messages that may wait for the coordinator.
const MESSAGES_MAX: usize = 64;

/// Who asks whether another process may take over is answered within this time.
const REST: Duration = Duration::from_secs(1);

/// What readiness is judged by, at this moment; it blocks.
pub type Judge = Arc<dyn Fn() -> Result<readiness::Figures, String> + Send + Sync>;

/// Why nothing can be asked then.
const SWITCHING: &str = "the switch is being recorded: what it says is what holds";

/// What cutovers are made of.
#[derive(Clone)]
pub struct Parts {
    /// The config.
    pub config: Arc<Config>,
    /// Who is primary: nobody else writes it.
    pub roles: Arc<watch::Sender<Roles>>,
    /// Where sessions are held.
    pub relay: Relay,
    /// What knows the sessions.
    pub mirror: Arc<Mirror>,
    /// Where held sessions wait.
    pub carrier: Arc<Carrier>,
    /// Taints and health.
    pub ledger: Ledger,
    /// The records.
    pub records: Arc<Records>,
    /// The way to servers.
    pub dial: Arc<dyn Dial>,
    /// The relay's threads, on which the sessions' new connections are opened.
    pub threads: Vec<Handle>,
    /// Asks for readiness' figures.
    pub judge: Judge,
    /// The other proxies, where there are any.
    pub fleet: Option<Arc<Fleet>>,
}

/// What the coordinator is told.
pub(super) enum Message {
    Order(Order, oneshot::Sender<Result<i64, Refused>>),
    Abort(String, oneshot::Sender<Result<i64, Refused>>),
    ReplicationStopped(String, oneshot::Sender<Result<(), Refused>>),
    /// What runs beside says so. Of an older run it is of no interest any more.
    Report(u64, Report),
    /// Something is new in the fleet.
    Fleet(Box<Board>),
    /// No cutover is to begin from here on; or it may again.
    Rest(oneshot::Sender<Result<(), String>>),
    /// The proxy ends.
    Stop(oneshot::Sender<()>),
}

/// What became of what runs beside.
pub(super) enum Report {
    Checked(Result<Verdict, String>),
    Prepared(Result<(Ready, Failed), String>),
    Gathered(Result<Vec<SessionState>, Failed>),
    CaughtUp(Result<(BTreeMap<u64, Leg>, Failed), String>),
    /// Other proxies of the fleet have not come so far, or have aborted it.
    OthersFailed(String),
    /// The watch: an event, and why.
    Watched(Event, String),
    /// A hook after the switch has ended.
    Hooked {
        name: &'static str,
        took: Duration,
        ran: Result<(), String>,
    },
}

/// What others see of it.
struct Seen {
    state: Mutex<State>,
    record: AtomicI64,
    /// No cutover begins: another process takes over.
    rests: AtomicBool,
}

impl Seen {
    /// See [`Cutovers::rest`].
    async fn rest(&self, messages: &mpsc::Sender<Message>) -> Result<(), String> {
        self.rests.store(true, Ordering::Release);
        let asked = async {
            may_rest(*self.state.lock())?;
            let ended = || "understudy is ending".to_owned();
            let (to, answer) = oneshot::channel();
            let sent = messages.send(Message::Rest(to)).await;
            sent.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        };
        // It hears nobody while it acts.
        let answer = tokio::time::timeout(REST, asked).await;
        let answer = answer.unwrap_or_else(|_| Err("a cutover is at work".to_owned()));
        answer.inspect_err(|_| self.rests.store(false, Ordering::Release))
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Cutovers {
    seen: Arc<Seen>,
    records: Arc<Records>,
    fleet: Option<Arc<Fleet>>,
    messages: mpsc::Sender<Message>,
    standstill: Standstill,
    slate: Slate,
    mirror: Arc<Mirror>,
}

impl Cutovers {
    /// Starts on the current runtime, where the records say that an earlier process stopped. Reads
    /// them.
    #[must_use]
    pub fn start(parts: Parts) -> (Self, JoinHandle<()>) {
        let (messages, inbox) = mpsc::channel(MESSAGES_MAX);
        let records = Arc::clone(&parts.records);
        let fleet = parts.fleet.clone();
        if let Some(fleet) = &fleet {
            let hearing = hear(Arc::clone(fleet), messages.downgrade());
            // It ends with the coordinator.
            drop(task::spawn("fleet", hearing));
        }
        let last = records.last_acted().ok().flatten();
        let state = restored(last.as_ref());
        let seen = Arc::new(Seen {
            state: Mutex::new(state),
            record: AtomicI64::new(last.as_ref().map_or(0, |last| last.id)),
            rests: AtomicBool::new(false),
        });
        let standstill = Standstill::new(
            parts.relay.clone(),
            Arc::clone(&parts.carrier),
            parts.threads.clone(),
        );
        let mirror = Arc::clone(&parts.mirror);
        let run = Run::new(parts, messages.downgrade(), standstill.clone());
        run.recall();
        let slate = run.slate();
        let coordinator = Coordinator {
            run,
            seen: Arc::clone(&seen),
            state,
            ordered: None,
            aborting: Vec::new(),
        };
        let last = last.map(|last| (last.id, soaked(&last)));
        let running = task::spawn("cutover", coordinator.serve(inbox, last));
        let cutovers = Self {
            seen,
            records,
            fleet,
            messages,
            standstill,
            slate,
            mirror,
        };
        (cutovers, running)
    }

    /// By which others have the sessions stand still for a moment, while no cutover holds them.
    #[must_use]
    pub fn standstill(&self) -> Standstill {
        self.standstill.clone()
    }

    /// Lets everybody go, where a cutover is under way and not yet recorded; afterwards there is
    /// none. Returns once that is done.
    pub async fn stop(&self) {
        let (done, ended) = oneshot::channel();
        if self.messages.send(Message::Stop(done)).await.is_ok() {
            let _ = ended.await;
        }
    }

    /// From here on no cutover begins, nor is one under way: another process takes over. Answers within a second,
    /// whatever the coordinator waits for.
    ///
    /// # Errors
    /// One is under way or soaks, and goes on; or this proxy ends. Then they may begin as before.
    pub async fn rest(&self) -> Result<(), String> {
        self.seen.rest(&self.messages).await
    }

    /// They may begin again.
    pub fn rest_is_over(&self) {
        self.seen.rests.store(false, Ordering::Release);
    }

    /// The coordinator hears nobody until the switch is recorded, which a disk or etcd may hold up.
    fn not_while_switching(&self) -> Option<Refused> {
        let switches = matches!(*self.seen.state.lock(), State::Switching(_));
        switches.then(|| Refused::NotNow(SWITCHING.to_owned()))
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Message,
    ) -> Result<T, Refused> {
        let ended = || Refused::Unable("understudy is ending".to_owned());
        let (to, answer) = oneshot::channel();
        let sent = self.messages.send(message(to)).await;
        sent.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

impl std::fmt::Debug for Cutovers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cutovers").finish_non_exhaustive()
    }
}

/// Tells the coordinator what is new in the fleet, until it is gone.
async fn hear(fleet: Arc<Fleet>, messages: mpsc::WeakSender<Message>) {
    let tell = |board| {
        let messages = messages.clone();
        async move {
            let Some(messages) = messages.upgrade() else {
                return false;
            };
            messages.send(Message::Fleet(Box::new(board))).await.is_ok()
        }
    };
    fleet::watch(fleet, tell).await;
}

/// How long the new primary has been watched by now.
fn soaked(record: &Record) -> Duration {
    let since = record
        .switched
        .map(|at| jiff::Timestamp::now().duration_since(at));
    since
        .and_then(|time| time.try_into().ok())
        .unwrap_or_default()
}

impl Helm for Cutovers {
    fn state(&self) -> State {
        *self.seen.state.lock()
    }

    fn record(&self) -> Option<i64> {
        let id = self.seen.record.load(Ordering::Acquire);
        (id > 0).then_some(id)
    }

    fn progress(&self) -> Option<Progress> {
        let state = self.state();
        self.slate.told(state, || Behind::of(&self.mirror))
    }

    fn records(&self, limit: usize) -> Result<Vec<Record>, String> {
        self.records
            .cutovers(limit)
            .map_err(|fault| fault.to_string())
    }

    fn kept(&self, id: i64) -> Result<Option<Record>, String> {
        self.records.cutover(id).map_err(|fault| fault.to_string())
    }

    fn last_switched(&self) -> Result<Option<Record>, String> {
        let last = self.records.last_switched();
        last.map_err(|fault| fault.to_string())
    }

    fn order(&self, order: Order) -> Soon<'_, Result<i64, Refused>> {
        if let Some(refused) = self.not_while_switching() {
            return Box::pin(std::future::ready(Err(refused)));
        }
        Box::pin(self.ask(|to| Message::Order(order, to)))
    }

    fn abort(&self, who: String) -> Soon<'_, Result<i64, Refused>> {
        if let Some(refused) = self.not_while_switching() {
            return Box::pin(std::future::ready(Err(refused)));
        }
        Box::pin(self.ask(|to| Message::Abort(who, to)))
    }

    fn replication_stopped(&self, who: String) -> Soon<'_, Result<(), Refused>> {
        Box::pin(self.ask(|to| Message::ReplicationStopped(who, to)))
    }

    fn fleet(&self) -> Option<Arc<Fleet>> {
        self.fleet.clone()
    }
}

/// The task.
struct Coordinator {
    run: Run,
    seen: Arc<Seen>,
    state: State,
    /// Who asked for the cutover that is being checked.
    ordered: Option<oneshot::Sender<Result<i64, Refused>>>,
    /// Who asked for its end.
    aborting: Vec<oneshot::Sender<Result<i64, Refused>>>,
}

impl Coordinator {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Message>, last: Option<(i64, Duration)>) {
        self.run.restore_flow().await;
        self.run.lift_fence().await;
        if let Some((id, soaked)) = last {
            self.run.remember(id);
            if let State::Soaking(Soak { is_back }) = self.state {
                self.run.take_over(id, is_back, soaked).await;
            }
        }
        while let Some(message) = inbox.recv().await {
            match message {
                Message::Order(order, to) => self.order(order, to).await,
                Message::Abort(who, to) => self.abort(&who, to).await,
                Message::ReplicationStopped(who, to) => {
                    let _ = to.send(self.run.replication_stopped(&who).await);
                }
                Message::Report(run, report) => {
                    if let Some(event) = self.run.take(run, report).await {
                        self.happen(event).await;
                    }
                }
                Message::Fleet(board) => self.fleet(&board).await,
                Message::Rest(to) => {
                    // What was asked for before is under way by now.
                    let _ = to.send(may_rest(self.state));
                }
                Message::Stop(done) => {
                    self.run.because("understudy ends");
                    self.happen(Event::AbortAsked).await;
                    self.run.end().await;
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    async fn order(&mut self, order: Order, to: oneshot::Sender<Result<i64, Refused>>) {
        if self.seen.rests.load(Ordering::Acquire) {
            let refused =
                "this process hands over to another one: ask that one, once this has ended";
            let _ = to.send(Err(Refused::NotNow(refused.to_owned())));
            return;
        }
        if self.state.rest().is_none() {
            let refused = format!("a cutover is under way: it is {}", self.state.name());
            let _ = to.send(Err(Refused::NotNow(refused)));
            return;
        }
        let dry_run = order.dry_run;
        match self.run.begin(order).await {
            Ok(is_back) => {
                self.ordered = Some(to);
                self.happen(Event::Asked { dry_run, is_back }).await;
            }
            Err(refused) => {
                let _ = to.send(Err(refused));
            }
        }
    }

    /// Something is new in the fleet: another proxy calls, or the call that is under way was aborted.
    async fn fleet(&mut self, board: &Board) {
        match self.run.hear(board, self.state).await {
            News::Nothing => {}
            News::Aborted(why) => {
                self.run.because(&why);
                self.happen(Event::AbortAsked).await;
            }
            News::Called(call) => self.follow(*call).await,
        }
    }

    async fn follow(&mut self, call: Call) {
        if self.state.rest().is_none() {
            let why = format!("it is {} another one", self.state.name());
            return self.run.decline(&call, &why).await;
        }
        let (dry_run, is_back) = (call.dry_run, call.is_back);
        match self.run.follow(call).await {
            Ok(()) => self.happen(Event::Asked { dry_run, is_back }).await,
            Err(why) => tracing::error!("the fleet's cutover cannot be followed: {why}"),
        }
    }

    async fn abort(&mut self, who: &str, to: oneshot::Sender<Result<i64, Refused>>) {
        let next = self.state.next(Event::AbortAsked, &self.run.policy());
        if matches!(next, Next::NotNow) {
            let refused = match self.state {
                State::Switching(_) => SWITCHING,
                _ if self
                    .run
                    .abort_call(&format!("{who} asked for its end"))
                    .await =>
                {
                    "no cutover is under way here; the fleet's was ended"
                }
                _ => "no cutover is under way",
            };
            let _ = to.send(Err(Refused::NotNow(refused.to_owned())));
            return;
        }
        self.aborting.push(to);
        self.run.because(&format!("{who} asked for its end"));
        self.happen(Event::AbortAsked).await;
    }

    /// An event, and those that follow from what is done about it.
    async fn happen(&mut self, event: Event) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let policy = self.run.policy();
            let Next::To(state, actions) = self.state.next(event, &policy) else {
                tracing::debug!(?event, state = self.state.name(), "an event came late");
                continue;
            };
            let changes = state.name() != self.state.name();
            let rests = state.rest().is_some() && self.state.rest().is_none();
            if changes {
                self.run.enter(self.state, state).await;
            }
            let plan = plan_of(self.state).or_else(|| plan_of(state));
            self.state = state;
            if state.rest().is_none() {
                self.show();
                self.pass(event);
            }
            if changes {
                pause(state.name()).await;
            }
            for action in actions {
                if let Some(next) = Box::pin(self.run.act(action, plan)).await {
                    events.push_back(next);
                }
            }
            if state.rest().is_some() {
                self.show();
                self.pass(event);
            }
            if rests {
                self.rest();
            }
        }
    }

    /// Whoever asked hears that the guards let it pass, or that they do not.
    fn pass(&mut self, event: Event) {
        let answer = match event {
            Event::GuardsPassed => Ok(self.run.record()),
            Event::GuardsRefused => Err(self.run.refusal()),
            _ => return,
        };
        if let Some(to) = self.ordered.take() {
            let _ = to.send(answer);
        }
    }

    /// Nothing is under way any more.
    fn rest(&mut self) {
        if let Some(to) = self.ordered.take() {
            let why = format!("it was aborted: {}", self.run.ended());
            let _ = to.send(Err(Refused::NotNow(why)));
        }
        for to in self.aborting.drain(..) {
            let _ = to.send(Ok(self.run.record()));
        }
    }

    fn show(&self) {
        *self.seen.state.lock() = self.state;
        self.seen.record.store(self.run.shown(), Ordering::Release);
    }
}

/// Whether another process may take over in this state; if not, why.
fn may_rest(state: State) -> Result<(), String> {
    match state.rest() {
        None => Err(format!("a cutover is under way: it is {}", state.name())),
        Some(Rest::Soaking(_)) => Err(
            "a cutover soaks: this process watches the new primary, and may roll back".to_owned(),
        ),
        Some(Rest::Idle | Rest::Done | Rest::Aborted) => Ok(()),
    }
}

const fn plan_of(state: State) -> Option<Plan> {
    match state {
        State::Checking(plan)
        | State::Preparing(plan)
        | State::CatchingUp(plan)
        | State::Switching(plan)
        | State::Holding { plan, .. } => Some(plan),
        State::Idle | State::Soaking(_) | State::Done | State::Aborted => None,
    }
}

/// Where a test has a cutover pause, so that it can be killed there.
pub(super) async fn pause(at: &str) {
    #[cfg(feature = "simulation")]
    if let Some(pause) = crate::planted::pause(at) {
        tokio::time::sleep(pause).await;
    }
    #[cfg(not(feature = "simulation"))]
    let _ = at;
}

/// What the machine is asked with, of the config.
pub(super) const fn policy(config: &Config) -> Policy {
    Policy {
        stuck: config.cutover.stuck,
        soak: config.cutover.soak_action,
        fence: config.cutover.fence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: State) -> Seen {
        Seen {
            state: Mutex::new(state),
            record: AtomicI64::new(0),
            rests: AtomicBool::new(false),
        }
    }

    /// Finding: SIGTERM waited behind a hand-over that waited for a coordinator at work.
    #[tokio::test(start_paused = true)]
    async fn whoever_asks_is_answered_though_the_coordinator_hears_nobody() {
        let (messages, mut inbox) = mpsc::channel(1);
        let seen = seen(State::Idle);
        let why = seen.rest(&messages).await.unwrap_err();
        assert_eq!(why, "a cutover is at work");
        assert!(!seen.rests.load(Ordering::Acquire), "cutovers may begin");
        // Its inbox is full by now.
        seen.rest(&messages).await.unwrap_err();
        inbox.try_recv().unwrap();
        let answers = async {
            let Some(Message::Rest(to)) = inbox.recv().await else {
                panic!("it was not asked");
            };
            let _ = to.send(Ok(()));
        };
        let (answer, ()) = tokio::join!(seen.rest(&messages), answers);
        answer.unwrap();
        assert!(seen.rests.load(Ordering::Acquire), "and none begins");
    }

    #[test]
    fn nobody_takes_over_while_a_cutover_is_under_way_or_soaks() {
        let plan = Plan {
            dry_run: false,
            is_back: false,
            rest: Rest::Idle,
        };
        for state in [State::Idle, State::Done, State::Aborted] {
            assert_eq!(may_rest(state), Ok(()), "{state:?}");
        }
        for (state, why) in [
            (State::Checking(plan), "under way"),
            (State::Holding { plan, ended: true }, "under way"),
            (State::Switching(plan), "under way"),
            (State::Soaking(Soak { is_back: true }), "soaks"),
        ] {
            let said = may_rest(state).unwrap_err();
            assert!(said.contains(why), "{state:?}: {said}");
        }
    }
}

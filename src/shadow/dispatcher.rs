//! Drains the tee: finds each session's desk, and looks from time to time after the breaker.
//!
//! While commands keep coming it is not woken by each: it looks for what came at its own pace, and
//! the relay, whose bell it has not armed, makes no system call to wake it.

use super::desk::Desk;
use super::era::Era;
use super::errand::{Errand, Rested};
use super::order::Scope;
use super::shared::Shared;
use super::stand;
use crate::connect::{self, Login, PacketReader};
use crate::roles::Roles;
use crate::task;
use crate::tee::{Budget, Facts, Handed, Receiver};
use crate::wire::capability::Capabilities;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Between two looks at the breaker.
const TICK: Duration = Duration::from_millis(100);

/// Between two looks at whether anything still waits for the shadow, while somebody wants to know.
const NEAR: Duration = Duration::from_millis(1);

/// Exchanges that are taken in before anything else has its turn.
const BATCH: usize = 64;

/// As much is taken in at most before an errand is answered, should it come faster than it is taken.
const TAKEN_MAX: usize = 1 << 17;

/// So full the queue has stayed for [`FULL_TICKS`] looks that mirroring is suspended, in percent.
const FULL_PERCENT: u64 = 95;
const FULL_TICKS: u32 = 50;

/// Above this share of the queue, or of its session's, in percent, reads are let go so that writes
/// still fit.
const TIGHT_PERCENT: u64 = 85;

/// After the replays were told to give up, they have this time to say so.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// utf8mb4_general_ci, which every server since 5.5 knows.
const COLLATION: u16 = 45;

/// See the module.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    era: Era,
    /// The same, for whoever looks from outside.
    current: Arc<ArcSwap<Shared>>,
    receiver: Receiver,
    errands: mpsc::Receiver<Errand>,
    /// Replays that have nothing to do.
    rested: mpsc::Receiver<Rested>,
    /// Errands for which nothing may wait for the shadow.
    waiting: Vec<Waiting>,
    budget: Arc<Budget>,
    /// Boxed: most are idle, and a map has room for more than it holds.
    desks: HashMap<u64, Box<Desk>>,
    /// Replays of sessions that have ended, on their last commands.
    leaving: Vec<JoinHandle<()>>,
    probe: Option<JoinHandle<()>>,
    full_ticks: u32,
    lost_unsaid: u64,
}

/// An errand that waits until nothing waits for the shadow.
enum Waiting {
    Drained(oneshot::Sender<()>),
    Turn(Box<Roles>, oneshot::Sender<()>),
}

impl Dispatcher {
    pub(super) fn new(
        era: Era,
        current: Arc<ArcSwap<Shared>>,
        receiver: Receiver,
        errands: mpsc::Receiver<Errand>,
        rested: mpsc::Receiver<Rested>,
    ) -> Self {
        Self {
            budget: receiver.budget(),
            shared: Arc::clone(&era.shared),
            era,
            current,
            receiver,
            errands,
            rested,
            waiting: Vec::new(),
            desks: HashMap::new(),
            leaving: Vec::new(),
            probe: None,
            full_ticks: 0,
            lost_unsaid: 0,
        }
    }

    /// Runs until told to end, or until no tee is left; then lets the replays finish, for
    /// `finish` at most.
    pub(super) async fn run(mut self, stop: CancellationToken, finish: Duration) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                handed = self.receiver.recv() => match handed {
                    Some(handed) => {
                        self.take(handed);
                        self.take_some(BATCH);
                    }
                    None => break,
                },
                Some(errand) = self.errands.recv() => self.run_errand(errand),
                () = tokio::time::sleep(NEAR), if !self.waiting.is_empty() => {}
                Some(rested) = self.rested.recv() => self.part_with(&rested),
                _ = ticks.tick() => self.look(),
                () = stop.cancelled() => break,
            }
            self.serve_waiting();
            tokio::task::consume_budget().await;
        }
        self.take_all();
        self.finish(finish).await;
    }

    /// Takes in what has come through the tee, at most so many.
    fn take_some(&mut self, most: usize) {
        for _ in 0..most {
            let Some(handed) = self.receiver.try_recv() else {
                return;
            };
            self.take(handed);
        }
    }

    /// Takes in what has come through the tee.
    fn take_all(&mut self) {
        self.take_some(TAKEN_MAX);
    }

    /// A replay has nothing to do and holds nothing: the session gets another at its next command.
    /// What still waits in the tee is given to that one, then.
    fn part_with(&mut self, rested: &Rested) {
        if let Some(desk) = self.desks.get_mut(&rested.session) {
            self.leaving.extend(desk.part_with_rested(rested));
        }
    }

    /// An answer that nobody waits for any more is let go.
    fn run_errand(&mut self, errand: Errand) {
        self.take_all();
        match errand {
            Errand::Sessions(to) => {
                let mut desks: Vec<&Desk> = self.desks.values().map(Box::as_ref).collect();
                desks.sort_unstable_by_key(|desk| desk.session());
                let _ = to.send(desks.into_iter().map(Desk::state).collect());
            }
            Errand::Session(session, to) => {
                let _ = to.send(self.desks.get(&session).map(|desk| desk.state()));
            }
            Errand::Learn(session, values, to) => {
                if let Some(desk) = self.desks.get_mut(&session) {
                    desk.learn(&self.shared, &values);
                }
                let _ = to.send(());
            }
            Errand::Stand(part, scope, to) => {
                let _ = to.send(stand::ticket(&self.shared, part, scope));
            }
            Errand::Reserve(scope, to) => {
                let _ = to.send(stand::reserve(&self.shared, scope));
            }
            Errand::Drained(to) => self.waiting.push(Waiting::Drained(to)),
            Errand::Turn(roles, to) => self.waiting.push(Waiting::Turn(roles, to)),
        }
    }

    /// Serves those who wait until nothing waits for the shadow, in the order in which they came.
    fn serve_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.take_all();
        if !self.is_idle() {
            return;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Drained(to) => {
                    let _ = to.send(());
                }
                Waiting::Turn(roles, to) => {
                    self.turn(&roles);
                    let _ = to.send(());
                }
            }
        }
    }

    /// Whether nothing waits for the shadow, and nothing runs there but second looks.
    fn is_idle(&self) -> bool {
        self.shared.busy.load(Ordering::Acquire) == 0
    }

    /// What was the primary is the shadow. The desks stay; their replays end, and others open their
    /// connections as the journals say.
    fn turn(&mut self, roles: &Roles) {
        if *self.shared.primary == *roles.primary.name && *self.shared.name == *roles.shadow.name {
            return;
        }
        let next = match self.era.next(roles) {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "nothing is mirrored to {} until the next start", roles.shadow.name);
                return;
            }
        };
        self.era.hurry();
        if let Some(probe) = self.probe.take() {
            probe.abort();
            // It is asked anew, as the one that it is now.
            self.shared
                .breaker(|breaker| breaker.probed(false, Instant::now()));
        }
        self.era = next;
        self.shared = Arc::clone(&self.era.shared);
        self.current.store(Arc::clone(&self.shared));
        let shared = &self.shared;
        self.desks.values_mut().for_each(|desk| desk.turn(shared));
    }

    fn take(&mut self, handed: Handed) {
        let shared = &self.shared;
        let desks = &mut self.desks;
        match handed {
            Handed::Exchange(charged) => {
                let tight = is_tight(&self.budget, &charged.facts);
                shared.pulse.record(&charged);
                desk(desks, shared, &charged.facts).exchange(shared, charged, tight);
            }
            Handed::Stub(stub) => desk(desks, shared, &stub.facts).stub(shared, stub),
            Handed::Lost(facts) => desk(desks, shared, &facts).lose_all(shared, &facts),
            Handed::Closed { session, end } => {
                if let Some(desk) = desks.remove(&session) {
                    self.leaving.extend(desk.close(shared, end));
                }
            }
        }
    }

    /// How far the shadow is behind, where half of its sessions are: what waits behind one slow
    /// command of its own session says nothing of the shadow.
    fn lag(&self, now: Instant) -> Option<Duration> {
        let age = now.saturating_duration_since(self.shared.line.oldest()?);
        let limit = self.shared.config.mirror.breaker_lag;
        if age <= limit {
            return None;
        }
        let behind = self.shared.line.sessions_behind(now.checked_sub(limit)?);
        (behind * 2 >= self.shared.connections()).then_some(age)
    }

    fn used_percent(&self) -> u64 {
        percent(self.budget.used(), self.budget.max())
    }

    /// Looks after what no single session sees.
    fn look(&mut self) {
        let now = Instant::now();
        self.leaving.retain(|task| !task.is_finished());
        if let Some(age) = self.lag(now) {
            self.shared.breaker(|breaker| breaker.lagging(age, now));
        }
        let percent = self.used_percent();
        self.full_ticks = if percent >= FULL_PERCENT {
            self.full_ticks + 1
        } else {
            0
        };
        if self.full_ticks >= FULL_TICKS {
            self.full_ticks = 0;
            let cause = super::breaker::Cause::Queue(percent);
            self.shared.breaker(|breaker| breaker.suspend(cause, now));
        }
        if self.shared.digests_in_vain() && !self.desks.values().any(|desk| desk.compares_on()) {
            self.shared.needs_no_digests();
        }
        let lost = self.receiver.lost_unsaid();
        if lost > self.lost_unsaid {
            self.lost_unsaid = lost;
            let cause = "commands of sessions past all limits were lost";
            self.shared.taint(&Scope::All, "", &cause.into());
        }
        if self.shared.breaker(|breaker| breaker.wants_probe(now)) {
            self.probe = Some(task::spawn("probe", probe(Arc::clone(&self.shared))));
        }
    }

    async fn finish(mut self, at_most: Duration) {
        self.shared.hurry.cancel();
        if let Some(probe) = self.probe.take() {
            probe.abort();
        }
        let desks = std::mem::take(&mut self.desks);
        let mut tasks: Vec<JoinHandle<()>> = desks
            .into_values()
            .flat_map(|desk| desk.close(&self.shared, crate::tee::End::Left))
            .collect();
        tasks.append(&mut self.leaving);
        let deadline = Instant::now() + at_most;
        for task in &mut tasks {
            if tokio::time::timeout_at(deadline, task).await.is_err() {
                // Every replay says of each command that it was not run, and taints.
                self.shared.give_up();
                break;
            }
        }
        let deadline = Instant::now() + LAST_WORDS;
        for task in &mut tasks {
            if !task.is_finished() && tokio::time::timeout_at(deadline, &mut *task).await.is_err() {
                task.abort();
            }
        }
    }
}

fn desk<'a>(
    desks: &'a mut HashMap<u64, Box<Desk>>,
    shared: &Shared,
    facts: &Arc<Facts>,
) -> &'a mut Desk {
    let desk = desks.entry(facts.session);
    desk.or_insert_with(|| Box::new(Desk::new(shared, facts)))
}

/// Whether so much waits, of all sessions or of this one, that reads make room for writes.
fn is_tight(budget: &Budget, facts: &Facts) -> bool {
    let all = percent(budget.used(), budget.max());
    let own = percent(facts.share.used(), budget.session_max());
    all.max(own) >= TIGHT_PERCENT
}

fn percent(used: u64, max: u64) -> u64 {
    used.saturating_mul(100) / max.max(1)
}

/// Asks the shadow whether it is there again, and tells the breaker.
async fn probe(shared: Arc<Shared>) {
    let good = match ask(&shared).await {
        Ok(()) => true,
        Err(why) => {
            tracing::debug!(%why, "the shadow is still not there");
            false
        }
    };
    shared.breaker(|breaker| breaker.probed(good, Instant::now()));
}

/// With the proxy's own account a login, without one a greeting.
async fn ask(shared: &Shared) -> Result<(), connect::ConnectError> {
    let server = &shared.server;
    if let Some(account) = &server.account {
        let login = Login {
            user: account.user.clone(),
            password: account.password.clone(),
            database: None,
            capabilities: Capabilities::TRANSACTIONS,
            collation: COLLATION,
        };
        return connect::open(&*shared.dial, server, &shared.tls, &login)
            .await
            .map(drop);
    }
    let greeting = async {
        let dialled = shared.dial.dial(server).await;
        let mut stream = dialled.map_err(connect::ConnectError::Unreachable)?;
        connect::greet(&mut stream, &mut PacketReader::default()).await
    };
    tokio::time::timeout(server.connect_timeout, greeting)
        .await
        .map_err(|_| connect::ConnectError::Timeout)?
        .map(drop)
}

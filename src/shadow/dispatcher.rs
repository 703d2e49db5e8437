//! Drains the tee: finds each session's desk, and looks from time to time after the breaker.
//!
//! While commands keep coming it is not woken by each: it looks for what came at its own pace, and
//! the relay, whose bell it has not armed, makes no system call to wake it.
//!
//! Where most sessions are far behind on the shadow, what comes lies unread in the `antechamber` until the
//! `doorkeeper` lets it in: it would only wait with them. The tee is received whatever lies there, and nothing is let in
//! without looking at the tee in between.

use super::antechamber::{Antechamber, Came};
use super::desk::Desk;
use super::doorkeeper::{Doorkeeper, Guest, Lies};
use super::early::Before;
use super::era::Era;
use super::errand::{Errand, Rested, Waiting};
use super::order::{Order, Scope};
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
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;

/// Between two looks at the breaker.
const TICK: Duration = Duration::from_millis(100);

/// Between two looks at whether anything still waits for the shadow, while somebody wants to know.
const NEAR: Duration = Duration::from_millis(1);

/// Exchanges that are received before anything else has its turn.
const BATCH: usize = 64;

/// Of what lies in the antechamber so much is let in, and as much as has come meanwhile up to a bound, before
/// the tee and all other tasks have their turn: the tee does not fill for it, nor the budget.
const LET_IN: usize = 256;
const CAME_MAX: usize = 32 * LET_IN;

/// As much is received at most in one go, should it come faster than that.
const TAKEN_MAX: usize = 1 << 17;

/// So full the queue has stayed for [`FULL_TICKS`] looks that mirroring is suspended, in percent.
const FULL_PERCENT: u64 = 95;
const FULL_TICKS: u32 = 50;

/// Above this share of the queue, or of its session's, in percent, reads are let go so that writes
/// still fit.
const TIGHT_PERCENT: u64 = 85;

/// What came before there was a mirror waits so long for what the primary says of its views, triggers and
/// foreign keys.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// After the replays were told to give up, they have this time to say so; and those that are stopped for not
/// doing it have this to be gone.
const LAST_WORDS: Duration = Duration::from_secs(2);
const GONE: Duration = Duration::from_millis(200);

/// Why everything is tainted where the end came before all was looked at.
pub(super) const UNSEEN: &str =
    "the mirror was stopped before all that the primary had done was looked at";

/// Why everything is tainted where commands pass by, or have.
pub(super) const UNOBSERVED: &str =
    "nothing was mirrored and mirror.observe was false: what was written meanwhile nobody knows";

/// Why everything is tainted where a process that took over could not keep what its clients said.
const OVERFULL: &str = "in a hand-over more was said than mirror.queue_bytes had room for until the new process mirrored: what was written meanwhile nobody knows";

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
    /// Errands that wait.
    waiting: Waiting,
    /// What came and is not looked at yet.
    antechamber: Antechamber,
    doorkeeper: Doorkeeper,
    budget: Arc<Budget>,
    /// Boxed: most are idle, and a map has room for more than it holds.
    desks: HashMap<u64, Box<Desk>>,
    /// Replays of sessions that have ended, on their last commands.
    leaving: Vec<JoinHandle<()>>,
    probe: Option<JoinHandle<()>>,
    full_ticks: u32,
    lost_unsaid: u64,
    /// Until then lag is no fault of the shadow's: what it has to do came before the mirror.
    lag_excused: Option<Instant>,
    /// So many jobs had been done at the last look.
    done: u64,
    /// Until then at most all that comes lies unread: what statements touch beyond the tables that they name is
    /// not known yet.
    first_look: Option<Instant>,
    /// What had passed by when that was said last.
    passed: u64,
    /// By then all had been said that came before the mirror, and not all of it is done.
    before: Option<Instant>,
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
            waiting: Waiting::default(),
            antechamber: Antechamber::default(),
            doorkeeper: Doorkeeper::default(),
            desks: HashMap::new(),
            leaving: Vec::new(),
            probe: None,
            full_ticks: 0,
            lost_unsaid: 0,
            lag_excused: None,
            done: 0,
            first_look: None,
            passed: 0,
            before: None,
        }
    }

    /// Has to begin with what came before there was a mirror. The shadow may take as long for it as it came in, and
    /// lag behind meanwhile, with a full queue: to suspend for that would throw away what was kept.
    pub(super) fn begin_with(&mut self, before: Before) {
        let now = Instant::now();
        let limit = self.shared.config.mirror.breaker.now().lag;
        self.first_look = now.checked_add(FIRST_LOOK);
        self.lag_excused = now.checked_add(before.waited + limit + FIRST_LOOK);
        if before.is_full {
            self.passed = self.receiver.passed();
            self.shared.taint(&Scope::All, "", &OVERFULL.into());
        }
        self.antechamber = before.antechamber;
        self.doorkeeper.closes();
        self.tell_unread();
    }

    /// Runs until told to end, or until no tee is left; then lets in what lies unread and lets the replays
    /// finish, for `finish` at most, both together.
    pub(super) async fn run(mut self, stop: CancellationToken, finish: Duration) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (loads, reach) = (
            Arc::clone(&self.shared.loads),
            Arc::clone(&self.shared.reach),
        );
        if self.first_look.is_some() {
            // What is still in the tee came before, too.
            self.receive_some(TAKEN_MAX, true);
            self.before = Some(Instant::now());
        }
        loop {
            let first_look = self.first_look.unwrap_or_else(Instant::now);
            tokio::select! {
                handed = self.receiver.recv() => match handed {
                    Some(handed) => {
                        let asked = self.waiting.asks();
                        self.receive(handed, asked);
                        self.receive_some(BATCH, asked);
                    }
                    None => break,
                },
                Some(errand) = self.errands.recv(), if self.waiting.has_room() => self.take_errand(errand),
                () = std::future::ready(()), if self.may_enter() => {}
                () = reach.looked(first_look), if self.first_look.is_some() => self.first_look = None,
                () = loads.news(), if !self.antechamber.is_empty() => {}
                () = sleep_until(self.doorkeeper.due()), if self.looks_soon() => {}
                () = tokio::time::sleep(NEAR), if self.waiting.for_the_shadow() => {}
                Some(rested) = self.rested.recv() => self.part_with(&rested),
                _ = ticks.tick() => self.look(),
                () = stop.cancelled() => break,
            }
            let before = self.antechamber.entered();
            if !self.antechamber.is_empty() {
                self.receive_some(TAKEN_MAX, true);
            }
            let let_in = self.let_in(before);
            self.serve_waiting();
            if let_in {
                tokio::task::yield_now().await;
            } else {
                tokio::task::consume_budget().await;
            }
        }
        let end = Instant::now();
        self.let_all_in(end + finish / 2, end + finish).await;
        self.finish(end + finish).await;
    }

    /// Receives what has come through the tee, at most so many.
    fn receive_some(&mut self, most: usize, aside: bool) {
        self.say_passed();
        for _ in 0..most {
            let Some(handed) = self.receiver.try_recv() else {
                return;
            };
            self.receive(handed, aside);
        }
    }

    /// What came is looked at, or lies in the antechamber: behind what lies there, where it would only wait
    /// for the shadow, or where all is to go through it (`aside`), so that no more is looked at in one go
    /// than is let in.
    fn receive(&mut self, handed: Handed, aside: bool) {
        let shared = &self.shared;
        let mut came = Came {
            control: shared.control(),
            journal_unknown: false,
        };
        match &handed {
            Handed::Exchange(one) => {
                shared.pulse.record(one);
                came.journal_unknown = one.facts.share.journal_unknown();
            }
            // Nothing of it is to be done before.
            Handed::Closed { session, .. } if !self.antechamber.has(*session) => {
                return self.take(handed, came);
            }
            Handed::Stub(_) | Handed::Lost(_) | Handed::Passed(_) | Handed::Closed { .. } => {}
        }
        let aside = aside || self.first_look.is_some();
        if !self.antechamber.is_empty() {
            let lies = self.antechamber.len() >= LET_IN || !self.may_enter();
            self.antechamber.enter(handed, came, lies, &self.budget);
        } else if aside || shared.loads.are_far_behind(0) {
            self.antechamber.enter(handed, came, !aside, &self.budget);
            self.doorkeeper.closes();
            self.tell_unread();
        } else {
            self.take(handed, came);
        }
    }

    /// Whether the first of what lies in the antechamber may be looked at now. Before the first look at the primary is
    /// over only where there is no room for more: what is lost is worse than what has no order.
    fn may_enter(&mut self) -> bool {
        if self.antechamber.is_empty() {
            return false;
        }
        if self.antechamber.is_short(&self.budget) {
            return true;
        }
        let left = self.antechamber.left();
        self.first_look.is_none()
            && (self.waiting.asks() || self.doorkeeper.opens(&self.shared.loads, left))
    }

    /// Whether the sessions of what lies there are to be looked at, though nothing else happens.
    const fn looks_soon(&self) -> bool {
        !self.antechamber.is_empty() && self.doorkeeper.is_asked()
    }

    /// Lets in what may be looked at, up to a batch and what came since there were so many; whether
    /// anything was.
    fn let_in(&mut self, before: u64) -> bool {
        if self.antechamber.is_empty() {
            return false;
        }
        let now = Instant::now();
        if self.doorkeeper.looks(now) {
            let desks = &self.desks;
            let guest = |session| match desks.get(&session) {
                None => Guest::New,
                Some(desk) => match desk.load() {
                    Some(load) => Guest::Has(load),
                    None if desk.was_mirrored() => Guest::Parked,
                    None => Guest::Never,
                },
            };
            let lies = Lies {
                since: self.antechamber.since(),
                entered: self.antechamber.entered(),
            };
            let guests = self.antechamber.sessions().map(guest);
            self.doorkeeper.see(&self.shared.loads, now, lies, guests);
        }
        let came = self.antechamber.entered().saturating_sub(before);
        let most = usize::try_from(came).map_or(CAME_MAX, |came| came.min(CAME_MAX)) + LET_IN;
        let mut left = most;
        while left > 0 && self.may_enter() {
            self.take_next();
            left -= 1;
        }
        self.tell_unread();
        let any = left < most;
        if any {
            self.doorkeeper.looks_again();
        }
        any
    }

    fn take_next(&mut self) {
        if let Some((handed, came)) = self.antechamber.next() {
            self.take(handed, came);
        }
    }

    fn tell_unread(&self) {
        let (len, since) = (self.antechamber.len(), self.antechamber.since());
        self.shared.unread.tell(len, since);
        self.shared.loads.watch(len > 0);
    }

    /// Looks at all that has come, for the end. What was not looked at by `late` the replays are not given any
    /// more: each write of it is tainted. What was not by `deadline` nobody looks at, and any table may be
    /// written by it.
    async fn let_all_in(&mut self, late: Instant, deadline: Instant) {
        let end = self.antechamber.entered() + TAKEN_MAX as u64;
        loop {
            if self.antechamber.entered() < end {
                self.receive_some(CAME_MAX, true);
            }
            for _ in 0..LET_IN {
                self.take_next();
            }
            self.tell_unread();
            if self.antechamber.is_empty() {
                break;
            }
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            if now >= late {
                self.shared.give_up();
            }
            tokio::task::yield_now().await;
        }
        // A tee that is fed to the end has more. That sessions have ended means nothing any more.
        let rest = || self.receiver.try_recv();
        let is_left = std::iter::from_fn(rest).any(|came| !matches!(came, Handed::Closed { .. }));
        if is_left || !self.antechamber.is_empty() {
            self.shared.taint(&Scope::All, "", &UNSEEN.into());
        }
        self.say_passed();
        self.say_lost();
    }

    /// A replay has nothing to do and holds nothing: the session gets another at its next command.
    /// What still waits in the tee is given to that one, then.
    fn part_with(&mut self, rested: &Rested) {
        if let Some(desk) = self.desks.get_mut(&rested.session) {
            self.leaving.extend(desk.part_with_rested(rested));
        }
    }

    /// It is served once all that came before it was looked at.
    fn take_errand(&mut self, errand: Errand) {
        self.receive_some(TAKEN_MAX, true);
        self.waiting.take(errand, self.antechamber.entered());
    }

    /// An answer that nobody waits for any more is let go.
    fn run_errand(&mut self, errand: Errand) {
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
            Errand::Drained(to) => {
                let _ = to.send(());
            }
            Errand::Turn(roles, to) => {
                self.turn(&roles);
                let _ = to.send(());
            }
        }
    }

    /// Serves the errands whose moment has come, each kind in the order in which they came.
    fn serve_waiting(&mut self) {
        while let Some(errand) = self.waiting.next(self.antechamber.left()) {
            self.run_errand(errand);
        }
        if !self.waiting.for_the_shadow() {
            return;
        }
        self.receive_some(TAKEN_MAX, true);
        if self.antechamber.is_empty() && self.shared.loads.is_idle() {
            for errand in self.waiting.drained() {
                self.run_errand(errand);
            }
        }
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
        self.first_look = None;
        let shared = &self.shared;
        self.desks.values_mut().for_each(|desk| desk.turn(shared));
    }

    fn take(&mut self, handed: Handed, came: Came) {
        let shared = &self.shared;
        let desks = &mut self.desks;
        match handed {
            Handed::Exchange(charged) => {
                let tight = is_tight(&self.budget, &charged.facts);
                desk(desks, shared, &charged.facts).exchange(shared, charged, came, tight);
            }
            Handed::Stub(stub) => desk(desks, shared, &stub.facts).stub(shared, stub, came),
            Handed::Lost(facts) => desk(desks, shared, &facts).lose_all(shared, &facts),
            Handed::Passed(facts) => desk(desks, shared, &facts).was_passed(shared, &facts),
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
        let age = now.saturating_duration_since(self.shared.oldest()?);
        let limit = self.shared.config.mirror.breaker.now().lag;
        if age <= limit || self.is_excused(now) {
            return None;
        }
        let (then, connections) = (now.checked_sub(limit)?, self.shared.connections());
        let mut behind = self.shared.line.sessions_behind(then);
        self.antechamber
            .add_behind(then, connections / 2 + 1, &mut behind);
        (behind.len() * 2 >= connections).then_some(age)
    }

    /// Whether what came before the mirror excuses that the shadow is behind.
    fn is_excused(&self, now: Instant) -> bool {
        self.lag_excused.is_some_and(|until| now < until)
    }

    /// Whether anything was done on the shadow since the last look, or nothing can be yet.
    fn gets_on(&mut self) -> bool {
        let done = self.shared.loads.done();
        std::mem::replace(&mut self.done, done) < done || self.first_look.is_some()
    }

    fn used_percent(&self) -> u64 {
        percent(self.budget.used(), self.budget.max())
    }

    /// Looks after what no single session sees.
    fn look(&mut self) {
        let now = Instant::now();
        self.leaving.retain(|task| !task.is_finished());
        self.shared.loads.look();
        if let Some(age) = self.lag(now) {
            self.shared.breaker(|breaker| breaker.lagging(age, now));
        }
        let percent = self.used_percent();
        // What is full of what came before the mirror gets emptier: for that it has its time.
        let is_excused = self.gets_on() && self.is_excused(now);
        self.full_ticks = if percent >= FULL_PERCENT && !is_excused {
            self.full_ticks + 1
        } else {
            0
        };
        if self.full_ticks >= FULL_TICKS {
            self.full_ticks = 0;
            let cause = super::breaker::Cause::Queue(percent);
            self.shared.breaker(|breaker| breaker.suspend(cause, now));
        }
        // What lies unread may begin a transaction under the switches of before.
        let in_vain = self.shared.is_told_in_vain() && self.antechamber.is_empty();
        if in_vain
            && !self.desks.values().any(|desk| desk.compares_on())
            && self.shared.is_told_less()
        {
            tracing::warn!("nothing is mirrored and nothing observed: commands pass by");
        }
        self.say_passed();
        self.say_lost();
        self.say_caught_up();
        if self.shared.breaker(|breaker| breaker.wants_probe(now)) {
            self.probe = Some(task::spawn("probe", probe(Arc::clone(&self.shared))));
        }
    }

    /// What passed by may have been any write.
    fn say_passed(&mut self) {
        let passed = self.receiver.passed();
        if passed > self.passed {
            self.passed = passed;
            self.shared.taint(&Scope::All, "", &UNOBSERVED.into());
        }
    }

    /// What was lost without a trace may have been any write.
    fn say_lost(&mut self) {
        let lost = self.receiver.lost_unsaid();
        if lost > self.lost_unsaid {
            self.lost_unsaid = lost;
            let cause = "commands of sessions past all limits were lost, or went through a tunnel that nobody observed";
            self.shared.taint(&Scope::All, "", &cause.into());
        }
    }

    /// Where all is on the shadow, or tainted, that came before there was a mirror, a crash loses none of it any more.
    fn say_caught_up(&mut self) {
        let Some(before) = self.before else { return };
        let shared = &self.shared;
        let open = shared.line.look(Order::acked_first);
        let both = [shared.unread.since(), open];
        if both.into_iter().flatten().all(|since| since > before) {
            self.before = None;
            shared.ledger.is_caught_up();
        }
    }

    async fn finish(mut self, deadline: Instant) {
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
        // What they had at stake is tainted as they go, which is to be before the ledger is closed.
        let gone = Instant::now() + GONE;
        for task in tasks.iter_mut().filter(|task| !task.is_finished()) {
            if tokio::time::timeout_at(gone, task).await.is_err() {
                self.shared.taint(&Scope::All, "", &UNSEEN.into());
                return;
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
pub(super) fn is_tight(budget: &Budget, facts: &Facts) -> bool {
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
            client: None,
        };
        return connect::open(&*shared.dial, server, &shared.tls, &login)
            .await
            .map(drop);
    }
    let greeting = async {
        let dialled = connect::dial_for(&*shared.dial, server, None).await;
        let mut stream = dialled.map_err(connect::ConnectError::Unreachable)?;
        connect::greet(&mut stream, &mut PacketReader::default()).await
    };
    tokio::time::timeout(server.connect_timeout, greeting)
        .await
        .map_err(|_| connect::ConnectError::Timeout)?
        .map(drop)
}

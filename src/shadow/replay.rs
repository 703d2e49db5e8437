//! One session's replay: a task that runs the session's commands on the shadow, one after the
//! other, and judges what it answered.

use super::backoff::Backoff;
use super::carried::Carried;
use super::errand::Rested;
use super::job::{End, Job, Mode, Run, Skip};
use super::journal::{Entry, Journal};
use super::judge::{Circumstances, Glimpse, Judgement, is_flood, judge, raced};
use super::likeness::{Fate, Likeness};
use super::line::{Ticket, Turn, YIELD_AFTER};
use super::link::{Link, Trouble};
use super::load::{Busy, Load};
use super::owed::{Ran, micros, side};
use super::patience::Patience;
use super::perform;
use super::pin::{self, LastKey};
use super::proof::Evidence;
use super::recheck::{Again, Case, Damage};
use super::shared::{Counters, Shared, count};
use super::talk::Reply;
use super::transaction::Ending;
use crate::compare::verdict::{Divergence, Reason, Verdict};
use crate::ledger::observation::Follows;
use crate::ledger::{Cause, FindingKey};
use crate::sql::{Class, names_variable};
use crate::task;
use crate::tee::Facts;
use crate::wire::command::Command;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Jobs of one session that may wait. The budget's bytes are nearly always spent before.
const JOBS_MAX: usize = 1 << 16;

/// A connection that has been idle for less is never parked in favour of another session's.
const SPARED: Duration = Duration::from_millis(500);

/// A replay, as its owner holds it.
pub(super) struct Worker {
    jobs: mpsc::Sender<(Job, Busy)>,
    task: JoinHandle<()>,
    load: Arc<Load>,
    last: Last,
    /// The number of the last job that it was given.
    given: u64,
}

/// What counts as a job once no more are given: that the connection is let go, and what is open on it
/// rolled back.
type Last = Arc<Mutex<Option<Busy>>>;

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts a replay of a session that is as the journal says, between two transactions.
    pub(super) fn start(shared: &Arc<Shared>, facts: &Arc<Facts>, journal: Journal) -> Self {
        let (jobs, receiver) = mpsc::channel(JOBS_MAX);
        let load = Load::new(&shared.loads);
        let replay = Replay {
            shared: Arc::clone(shared),
            facts: Arc::clone(facts),
            journal,
            link: None,
            likeness: Likeness::default(),
            carried: Carried::default(),
            backoff: Backoff::default(),
            rechecks: JoinSet::new(),
            last_key: None,
            last: Arc::default(),
            load: Arc::clone(&load),
            done: 0,
        };
        Self {
            given: 0,
            last: Arc::clone(&replay.last),
            jobs,
            load,
            task: task::spawn("replay", replay.serve(receiver)),
        }
    }

    /// Gives it a job; or says why not: too many wait, or its task broke.
    pub(super) fn give(&mut self, job: Job) -> Result<(), (Job, Reason)> {
        let busy = Busy::new(&self.load);
        let number = busy.number();
        self.jobs
            .try_send((job, busy))
            .map_err(|error| match error {
                TrySendError::Full((job, _)) => (job, Reason::Dropped),
                TrySendError::Closed((job, _)) => (job, Reason::Internal),
            })?;
        self.given = number;
        Ok(())
    }

    /// What it has to do.
    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// The number of the last job that it was given.
    pub(super) const fn given(&self) -> u64 {
        self.given
    }

    /// No more jobs, and all are done: the task ends, with nothing to roll back.
    pub(super) fn retire(self) -> JoinHandle<()> {
        self.task
    }

    /// No more jobs: the task ends once it has done what it was given.
    pub(super) fn close(self) -> JoinHandle<()> {
        *self.last.lock() = Some(Busy::new(&self.load));
        self.task
    }
}

/// See the module.
pub(super) struct Replay {
    pub(super) shared: Arc<Shared>,
    facts: Arc<Facts>,
    journal: Journal,
    link: Option<Link>,
    likeness: Likeness,
    carried: Carried,
    backoff: Backoff,
    rechecks: JoinSet<()>,
    /// LAST_INSERT_ID() behind the command with this number, which the dispatcher could not tell.
    last_key: Option<(u64, Option<u64>)>,
    last: Last,
    load: Arc<Load>,
    /// The number of the last job that is done.
    done: u64,
}

/// A command that was run.
struct Attempt {
    reply: Reply,
    late: bool,
    started: Instant,
}

impl Replay {
    async fn serve(mut self, mut jobs: mpsc::Receiver<(Job, Busy)>) {
        let _counted = Counted::replay(&self.shared.counters);
        let mut spared = Patience::new(self.shared.config.mirror.idle.min(SPARED));
        while let Some((job, busy)) = self.next(&mut jobs, &mut spared).await {
            match job {
                Job::Run(run) => self.run(run).await,
                Job::Skip(skip) => self.skip(*skip).await,
            }
            self.done = busy.number();
            self.load.is_inside(self.in_transaction());
        }
        self.carried.end(&self.shared, false);
        self.link = None;
        self.load.is_inside(false);
        self.last.lock().take();
        while self.rechecks.join_next().await.is_some() {}
    }

    /// The next job. While none comes for `mirror.idle_s`, the connection is parked, and the replay says
    /// that it holds nothing any more; while none comes for a moment, it is parked where another session
    /// finds `mirror.connections_max` open and has none.
    async fn next(
        &mut self,
        jobs: &mut mpsc::Receiver<(Job, Busy)>,
        spared: &mut Patience,
    ) -> Option<(Job, Busy)> {
        if let Ok(job) = jobs.try_recv() {
            return Some(job);
        }
        let idle = self.shared.config.mirror.idle;
        if let Ok(job) = spared.with(jobs.recv()).await {
            return job;
        }
        let shared = Arc::clone(&self.shared);
        let mut rest = idle.saturating_sub(SPARED);
        loop {
            let may_park = self.link.is_some() && self.may_park();
            tokio::select! {
                biased;
                job = jobs.recv() => return job,
                () = shared.connection_wanted(), if may_park => self.link = None,
                () = tokio::time::sleep(rest) => {
                    if may_park {
                        self.link = None; // parked: the journal opens it again
                    }
                    self.tell_its_rest();
                    rest = idle;
                }
            }
        }
    }

    /// Says that the replay holds nothing which the journal could not open anew, if so. Where the dispatcher
    /// parts with it, no more jobs come; else that is said again.
    fn tell_its_rest(&mut self) {
        while self.rechecks.try_join_next().is_some() {}
        let now = Instant::now();
        let holds = self.link.is_some() || !self.may_park() || !self.rechecks.is_empty();
        if holds || !self.carried.is_over() || self.backoff.waits(now).is_some() {
            return;
        }
        self.shared.tell_rested(Rested {
            session: self.facts.session,
            done: self.done,
            last_key: self.last_key,
        });
    }

    /// Whether the journal could open the connection again as it is.
    fn may_park(&self) -> bool {
        self.may_reopen() && !self.journal.lacks_something()
    }

    /// Whether the journal could open a connection that is more like the session than this one.
    fn may_reopen(&self) -> bool {
        !self.in_transaction() && !self.journal.is_unknown() && !self.facts.share.journal_unknown()
    }

    fn in_transaction(&self) -> bool {
        self.link.as_ref().is_some_and(Link::in_transaction)
    }

    async fn run(&mut self, mut run: Box<Run>) {
        if !run.step.before {
            self.begin().await;
        }
        let entries = std::mem::take(&mut run.entries);
        let stake = run.stake.take();
        let (ended, another) = (run.step.ended, run.step.after);
        let applies = run.mode == Mode::Replay;
        let failed_on_primary = run.failed_on_primary();
        let outcome = match self.carried.broken() {
            Some(reason) => Err(reason),
            None => self.try_it(&mut run).await,
        };
        let (fate, mut damage) = match outcome {
            Ok(attempt) => self.settle(run, attempt),
            Err(reason) => {
                let cause = self.give_up(run, reason);
                (Fate::NotRun, Some(cause.as_str().into()))
            }
        };
        if fate == Fate::Refused && another && !failed_on_primary {
            self.see_transaction().await;
        }
        self.take_in(&entries, fate).await;
        if let Some(ending) = ended {
            let failure = self.end(ending, another, applies).await;
            damage = damage.or(failure.map(|failure| failure.as_str().into()));
        }
        if stake.is_some() && applies && !another && damage.is_none() {
            let failure = self.commit_along().await;
            damage = failure.map(Cause::from);
        }
        self.roll_back_broken().await;
        match (stake, damage) {
            (Some(stake), Some(cause)) => stake.lost(&cause),
            (Some(stake), None) => stake.carried(),
            (None, _) => {}
        }
    }

    /// A command that is not run here: the session goes on without it.
    async fn skip(&mut self, skip: Skip) {
        if let Some(reason) = skip.abandons {
            self.carried.give_up(&self.shared, reason);
            self.roll_back_broken().await;
        }
        let missing = "a write of the same transaction was not carried to the shadow";
        self.carried.owe(skip.misses, missing.into());
        self.take_in(&skip.entries, Fate::NotRun).await;
        let Some(end) = skip.ends else { return };
        if let Some(ticket) = &skip.ticket {
            self.turn_to_end(ticket, &end).await;
        }
        match self.end(end.ending, false, end.applies).await {
            Some(cause) => end.stake.lost(&cause.as_str().into()),
            None => end.stake.carried(),
        }
        if end.another {
            self.carried.give_up(&self.shared, Reason::NotMirrored);
        }
    }

    /// Waits until a transaction may end whose last command is not run.
    async fn turn_to_end(&self, ticket: &Ticket, end: &End) {
        if end.applies && end.ending == Ending::Commit {
            let turn = ticket
                .turn(self.shared.config.mirror.order_wait.now())
                .await;
            if turn != Turn::Came {
                let (scope, now) = (self.carried.wrote.clone(), Instant::now());
                let mut overtaking = self.shared.overtaking.lock();
                overtaking.push(self.facts.session, scope, now, now);
            }
        }
        ticket.start();
    }

    /// Runs a command, or says why it has no answer. A suspension interrupts it.
    async fn try_it(&mut self, run: &mut Run) -> Result<Attempt, Reason> {
        let shared = Arc::clone(&self.shared);
        let tried = if shared.is_suspended() {
            Err(Trouble::Suspended)
        } else {
            tokio::select! {
                biased;
                tried = self.attempt(run) => tried,
                () = shared.until_suspended() => Err(Trouble::Suspended),
            }
        };
        let trouble = match tried {
            Ok(attempt) => {
                shared.answered();
                return Ok(attempt);
            }
            Err(trouble) => trouble,
        };
        let reason = trouble.reason();
        if !trouble.keeps_link() {
            self.cut(reason);
        }
        tracing::debug!(session = self.facts.session, %trouble, "not run on the shadow");
        if trouble.is_the_shadows() {
            shared.failed(&trouble.to_string());
        } else if is_flood(&shared, run, &trouble) {
            shared.flooded(&format!(
                "{trouble}, and the primary's less than half of that"
            ));
        }
        Err(reason)
    }

    /// Lets the connection go, and what was open on it.
    fn cut(&mut self, reason: Reason) {
        if self.in_transaction() {
            self.carried.give_up(&self.shared, reason);
        }
        self.link = None;
    }

    async fn attempt(&mut self, run: &mut Run) -> Result<Attempt, Trouble> {
        self.connect().await?;
        self.is_in_step(run)?;
        let last = match run.last_key {
            LastKey::Known(key) => Some(key),
            LastKey::Behind(seq) => self
                .last_key
                .and_then(|(of, key)| key.filter(|_| of == seq)),
            LastKey::Unknown => None,
        };
        run.pin = pin::pin(&self.shared, run, &self.journal, last).await;
        if run.settles_key {
            self.last_key = Some((run.charged.seq, run.pin.last_insert_id_after));
        }
        let turn = self.turn(run).await?;
        let late = turn == Turn::Late;
        if late {
            count(&self.shared.counters.order_waits);
        }
        if turn == Turn::OvertookReads {
            count(&self.shared.counters.overtakes);
        }
        if turn != Turn::Came {
            let mut scope = run.reading.writes.clone();
            scope.join(&run.step.wrote);
            let mut overtaking = self.shared.overtaking.lock();
            overtaking.push(self.facts.session, scope, run.charged.began, Instant::now());
        }
        self.prepare_elsewhere(run).await?;
        let Some(link) = &mut self.link else {
            return Err(Trouble::Unreadable);
        };
        run.ticket.start();
        let started = Instant::now();
        let kept = &mut self.carried.kept;
        let reply = perform::perform(&self.shared, link, run, kept).await?;
        Ok(Attempt {
            reply,
            late,
            started,
        })
    }

    /// Waits for the command's turn. Who waits for long gives back the locks that it holds: on the
    /// shadow they may be others than on the primary (one table's gaps are not its shards'), and
    /// the one that it waits for may wait for them. Its transaction is run again from its start.
    async fn turn(&mut self, run: &Run) -> Result<Turn, Trouble> {
        let at_most = self.shared.config.mirror.order_wait.now();
        let turn = run.ticket.turn(at_most.min(YIELD_AFTER)).await;
        if turn != Turn::Late {
            return Ok(turn);
        }
        let holds_locks = !self.carried.wrote.is_empty() && run.mode == Mode::Replay;
        let kept = &self.carried.kept;
        let Some(link) = self
            .link
            .as_mut()
            .filter(|_| holds_locks && kept.is_whole())
        else {
            return Ok(run.ticket.turn(at_most.saturating_sub(YIELD_AFTER)).await);
        };
        count(&self.shared.counters.retries);
        link.query(b"ROLLBACK").await?;
        let turn = run.ticket.turn(at_most).await;
        perform::run_again(link, kept).await?;
        // Of several statements one may have let locks go, for which the one before it waited: then
        // that one came second on the primary.
        Ok(if run.reading.ends_inside {
            Turn::Late
        } else {
            turn
        })
    }

    /// Sees to it that there is a connection that is like the session.
    async fn connect(&mut self) -> Result<(), Trouble> {
        if self.likeness.stale && self.may_reopen() {
            self.link = None;
        }
        if self.link.is_some() {
            return Ok(());
        }
        if let Some(reason) = self.backoff.waits(Instant::now()) {
            return Err(Trouble::Waits(reason));
        }
        match Link::open(&self.shared, &self.facts, &self.journal).await {
            Ok((link, likeness)) => {
                count(&self.shared.counters.opened);
                self.link = Some(link);
                self.likeness = likeness;
                self.backoff = Backoff::default();
                Ok(())
            }
            // Nothing was tried: as soon as the session starts afresh, it can be.
            Err(Trouble::Unknown) => Err(Trouble::Unknown),
            Err(trouble) => {
                self.backoff.failed(trouble.reason(), Instant::now());
                Err(trouble)
            }
        }
    }

    /// Whether what the command says on the shadow means what it meant on the primary: the
    /// connection is like the session, and in its transaction.
    fn is_in_step(&self, run: &Run) -> Result<(), Trouble> {
        // What sets something may make them alike again; not so `SELECT @a := v FROM t`.
        let sets = matches!(run.reading.class, Class::Session | Class::Empty);
        let sets = sets && run.reading.scope.is_empty();
        if !sets && self.likeness != Likeness::default() {
            let names_variable = perform::wording_of(run)
                .is_none_or(|wording| names_variable(wording.text.as_bytes(), wording.dialect));
            if let Some(reason) = self.likeness.why_not(names_variable) {
                return Err(Trouble::Unlike(reason));
            }
        }
        let commits_each = self.link.as_ref().is_some_and(Link::commits_each);
        if run.step.before && run.reading.runs && commits_each {
            return Err(Trouble::OutOfStep);
        }
        Ok(())
    }

    /// Prepares what the session prepared in another database than it is in now, where this
    /// connection has not: here, its tables would be others.
    async fn prepare_elsewhere(&mut self, run: &Run) -> Result<(), Trouble> {
        let (Some((id, statement)), Some(link)) = (&run.reading.statement, &mut self.link) else {
            return Ok(());
        };
        let (own, now) = (&*statement.prepared.database, self.journal.database());
        let pinned = run.pin.text.as_ref().map(|(text, _)| text);
        let is_there = match pinned {
            Some(text) => link.other(*id, text).is_some(),
            None => link.statement(*id).is_some(),
        };
        if is_there || own == now || own.is_empty() {
            return Ok(());
        }
        let elsewhere = Trouble::Unlike(Reason::Database);
        if !link.enter(&self.shared, own).await? {
            return Err(elsewhere);
        }
        let is_prepared = match (pinned, &statement.prepared.mapped) {
            (Some(text), _) => link.prepare_other(*id, text).await?.is_ok(),
            (None, Some(text)) => link.prepare(*id, text).await?.answer.error().is_none(),
            (None, None) => false,
        };
        if !link.enter(&self.shared, now).await? || !is_prepared {
            return Err(elsewhere);
        }
        Ok(())
    }

    /// The shadow answered: judges, taints, tells the ledger. Says what became of the command, and
    /// what went wrong with what it wrote.
    fn settle(&mut self, run: Box<Run>, attempt: Attempt) -> (Fate, Option<Cause>) {
        let Attempt {
            reply,
            late,
            started,
        } = attempt;
        let since = jiff::Timestamp::now();
        self.carried.late |= late;
        let circumstances = Circumstances {
            late: late || run.step.before && self.carried.late,
            owed: self.carried.owes(&run.reading.scope),
        };
        let judgement = judge(&self.shared, &run, &reply, circumstances);
        #[cfg(feature = "simulation")]
        let judgement = judgement.unless_measured();
        let Judgement {
            verdict,
            follows,
            ran,
            unsettled,
            mut damage,
        } = judgement;
        let locks_only = run.reading.only_locks();
        if late && run.mode == Mode::Replay && !locks_only {
            damage.get_or_insert_with(|| {
                let shape = &run.reading.fingerprint;
                format!("a dark write ran before its turn (mirror.order_wait_ms): {shape}")
            });
        }
        self.keep_step(&run, &reply);
        let fate = match reply.answer.error() {
            Some(_) => Fate::Refused,
            None => Fate::Done,
        };
        let verdict = match verdict {
            Verdict::Diverged(_) if perform::is_transient(&run, &reply) => {
                count(&self.shared.counters.transient);
                Verdict::NotCompared(Reason::Race)
            }
            verdict => verdict,
        };
        let damage = damage.map(|text| cause(&run, &text, &verdict, follows.as_ref()));
        if let Some(cause) = damage.as_ref().filter(|_| !locks_only) {
            self.damage(&run, cause);
        }
        let ran = ran.then(|| Ran {
            side: side(
                &self.shared.name,
                &reply.answer,
                reply.sent,
                reply.first_byte,
                reply.done,
            ),
            queue_us: micros(run.charged.acked, started),
        });
        let unsettled = unsettled.and_then(|one| self.may_pass(&run, &reply, &verdict, one));
        let differs = matches!(verdict, Verdict::Diverged(_)) || follows.is_some();
        let differs = differs || unsettled.is_some();
        let evidence =
            differs.then(|| Evidence::of(&self.shared, &run, &self.journal, self.carried.commands));
        self.carried.commands += u64::from(run.step.after);
        let amends = damage.as_ref().filter(|cause| cause.finding.is_some());
        let amends = amends.map(|told| Damage {
            told: told.clone(),
            raced: raced(&run).as_str().into(),
            since,
        });
        let bytes = run.charged.command.len();
        if let Some(link) = &mut self.link {
            link.recycle(reply.answer);
        }
        let mut owed = run.owed;
        if let Some((glimpse, divergence, again)) = unsettled {
            let case = Case {
                owed,
                ran,
                evidence,
                divergence,
                glimpse,
                again,
                damage: amends,
            };
            while self.rechecks.try_join_next().is_some() {}
            match self.shared.rechecks.leave(bytes) {
                Some(leave) => {
                    let shared = Arc::clone(&self.shared);
                    self.rechecks.spawn(case.settle(shared, leave));
                }
                None => case.settle_now(&self.shared),
            }
        } else {
            owed.follows(follows);
            owed.settle(verdict, ran, evidence);
        }
        (fate, damage)
    }

    /// A difference that may pass, and what it takes to look at it again. A race that cannot be
    /// looked at again is one.
    fn may_pass(
        &self,
        run: &Run,
        reply: &Reply,
        verdict: &Verdict,
        (glimpse, divergence): (Glimpse, Divergence),
    ) -> Option<(Glimpse, Divergence, Option<Again>)> {
        if perform::is_transient(run, reply) {
            return None;
        }
        let again = Again::of(&self.shared, run, &reply.answer, &self.facts, &self.journal);
        let may_pass = again.is_some() || matches!(verdict, Verdict::Diverged(_));
        may_pass.then_some((glimpse, divergence, again))
    }

    /// Notes what the transaction on the shadow wrote, and whether it still stands as on the
    /// primary.
    fn keep_step(&mut self, run: &Run, reply: &Reply) {
        if run.mode != Mode::Replay {
            return;
        }
        let writes = &run.reading.writes;
        self.carried.wrote.join(writes);
        if !run.step.after {
            return;
        }
        if perform::was_rolled_back(run, reply) {
            self.carried.give_up(&self.shared, Reason::Race);
        } else if self.link.as_ref().is_some_and(Link::commits_each) {
            self.carried.give_up(&self.shared, Reason::Internal);
            if reply.answer.error().is_none() && !run.reading.only_locks() {
                let cause = "the shadow committed a write whose transaction the primary has open";
                let database = self.journal.database();
                self.shared.taint(writes, database, &cause.into());
            }
        }
    }

    /// The shadow has no answer to a command. Says in words what that means to what it wrote.
    fn give_up(&mut self, run: Box<Run>, reason: Reason) -> String {
        if run.step.before || run.step.after {
            self.carried.give_up(&self.shared, reason);
        }
        let cause = format!(
            "a dark write was lost ({}): {}",
            reason.name(),
            run.reading.fingerprint
        );
        run.owed.not_compared(reason);
        cause
    }

    /// Taints now, or, within a transaction, once the primary commits it.
    fn damage(&mut self, run: &Run, cause: &Cause) {
        let scope = &run.reading.writes;
        if run.step.after {
            self.carried.owe(scope.clone(), cause.clone());
        } else {
            self.shared.taint(scope, self.journal.database(), cause);
        }
    }

    /// Takes in what a command changed of the session.
    async fn take_in(&mut self, entries: &[Entry], fate: Fate) {
        for entry in entries {
            if let (Entry::Forgotten(id), Some(link)) = (entry, &mut self.link)
                && link.close(*id).await.is_err()
            {
                self.cut(Reason::ShadowDown);
            }
            // vtgate's RESET_CONNECTION leaves what was set.
            let vitess = self.link.as_ref().is_some_and(Link::is_vitess);
            let keeps = vitess && matches!(entry, Entry::Reset) && self.journal.has_settings();
            let prepared_max = self.shared.config.mirror.prepared_max;
            self.journal.apply(entry, prepared_max);
            self.likeness.take_in(entry, fate);
            self.likeness.stale |= keeps;
        }
        // Of several assignments that were refused together, some may be taken one by one.
        self.likeness.stale |= fate == Fate::Refused && entries.len() > 1;
    }

    /// A transaction begins, or a command outside of one. What the shadow still has open, the
    /// primary has not.
    async fn begin(&mut self) {
        if self.in_transaction() {
            self.control(b"ROLLBACK").await;
        }
        self.carried.end(&self.shared, false);
    }

    /// The transaction ended on the primary. Says what went wrong where the shadow did not commit
    /// what the primary did.
    async fn end(&mut self, ending: Ending, another: bool, applies: bool) -> Option<String> {
        if ending == Ending::Commit {
            for (scope, cause) in self.carried.take_owed() {
                self.shared.taint(&scope, self.journal.database(), &cause);
            }
        }
        let broken = self.carried.broken();
        let commits = ending == Ending::Commit && applies && broken.is_none();
        let mut failure = broken.map(|reason| {
            format!(
                "a transaction was not carried to its end ({})",
                reason.name()
            )
        });
        if self.in_transaction() && (!another || broken.is_some()) {
            let text = if commits {
                b"COMMIT".as_slice()
            } else {
                b"ROLLBACK"
            };
            if !self.control(text).await && commits {
                failure = Some("a COMMIT failed on the shadow".to_owned());
            }
        }
        self.carried.end(&self.shared, another);
        if let Some(link) = &mut self.link
            && link.close_retired().await.is_err()
        {
            self.cut(Reason::ShadowDown);
        }
        if let Some(reason) = broken.filter(|_| another) {
            self.carried.give_up(&self.shared, reason);
        }
        failure
    }

    /// An error does not say whether the transaction is still open; the answer to a PING does.
    async fn see_transaction(&mut self) {
        let Some(link) = self.link.as_mut().filter(|link| link.in_transaction()) else {
            return;
        };
        let asked = link.ask(&[Command::PING.0]).await;
        let gone = link.commits_each();
        if asked.is_err() {
            self.cut(Reason::ShadowDown);
        } else if gone {
            self.carried.give_up(&self.shared, Reason::Internal);
        }
    }

    /// The primary has committed a write by itself; where the shadow has it in a transaction (a
    /// table without transactions on the primary, another default of autocommit) it must commit,
    /// too.
    async fn commit_along(&mut self) -> Option<&'static str> {
        let failed = self.in_transaction() && !self.control(b"COMMIT").await;
        failed.then_some("a COMMIT failed on the shadow")
    }

    /// What is not carried to its end holds no locks on the shadow.
    async fn roll_back_broken(&mut self) {
        if self.carried.broken().is_some() && self.in_transaction() {
            self.control(b"ROLLBACK").await;
        }
    }

    /// Ends the transaction on the shadow; whether that was done.
    async fn control(&mut self, text: &[u8]) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let shared = Arc::clone(&self.shared);
        let done = tokio::select! {
            biased;
            () = shared.until_suspended() => false,
            reply = link.query(text) => reply.is_ok_and(|reply| reply.answer.error().is_none()),
        };
        if !done {
            self.link = None; // closing it rolls back
        }
        done
    }
}

/// What a dark write that went wrong is to its tables: the divergence that it is itself, or what it
/// follows from, or a loss.
fn cause(run: &Run, text: &str, verdict: &Verdict, follows: Option<&Follows>) -> Cause {
    match (verdict, follows) {
        (_, Some(follows)) => follows.cause.clone(),
        (Verdict::Diverged(divergence), None) => {
            let finding = FindingKey {
                digest: run.reading.digest,
                kind: divergence.kind,
                protocol: run.reading.protocol,
            };
            Cause::diverged(text, finding)
        }
        _ => text.into(),
    }
}

/// Counts a session as mirrored, or a replay, until this is dropped.
pub(super) struct Counted {
    counters: Arc<Counters>,
    what: fn(&Counters) -> &AtomicU64,
}

impl Counted {
    /// A session that is mirrored.
    pub(super) fn session(counters: &Arc<Counters>) -> Self {
        Self::new(counters, |counters| &counters.mirrored)
    }

    /// A replay.
    fn replay(counters: &Arc<Counters>) -> Self {
        Self::new(counters, |counters| &counters.replays)
    }

    fn new(counters: &Arc<Counters>, what: fn(&Counters) -> &AtomicU64) -> Self {
        count(what(counters));
        Self {
            counters: Arc::clone(counters),
            what,
        }
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counted").finish_non_exhaustive()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.what)(&self.counters).fetch_sub(1, Ordering::Relaxed);
    }
}

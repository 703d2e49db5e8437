//! One session's replay: a task that runs the session's commands on the shadow, one after the
//! other, and judges what it answered.

use super::job::{Job, Mode, Run, Skip};
use super::journal::{Entry, Journal};
use super::judge::{Circumstances, Judgement, judge};
use super::line::Turn;
use super::link::{Link, Reply, Trouble};
use super::order::Scope;
use super::owed::{Ran, micros, side};
use super::perform;
use super::shared::{Shared, count};
use super::transaction::Ending;
use crate::compare::verdict::{Reason, Verdict};
use crate::task;
use crate::tee::Facts;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// After a connection could not be opened, the session waits so long before it tries again; twice
/// as long each time, up to the second.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Jobs of one session that may wait. The budget's bytes are nearly always spent before.
const JOBS_MAX: usize = 1 << 16;

/// A commit is seen by others before its acknowledgement comes through the tee. A read that
/// differs is looked at again after this time, when such a commit is known.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// Who has waited so long for its turn gives back the locks that it holds on the shadow.
const YIELD_AFTER: Duration = Duration::from_millis(150);

/// A replay, as its owner holds it.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Starts a replay of a session that is as the journal says, between two transactions.
    pub(super) fn start(shared: &Arc<Shared>, facts: &Arc<Facts>, journal: Journal) -> Self {
        let (jobs, receiver) = mpsc::channel(JOBS_MAX);
        let replay = Replay {
            shared: Arc::clone(shared),
            facts: Arc::clone(facts),
            journal,
            link: None,
            is_stale: false,
            transaction: Transaction::default(),
            retry: RETRY_MIN,
            not_before: None,
            second_looks: JoinSet::new(),
        };
        Self {
            jobs,
            task: task::spawn("replay", replay.serve(receiver)),
        }
    }

    /// Gives it a job; or says why not: too many wait, or its task broke.
    pub(super) fn give(&self, job: Job) -> Result<(), (Job, Reason)> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) => (job, Reason::Dropped),
            TrySendError::Closed(job) => (job, Reason::Internal),
        })
    }

    /// No more jobs: the task ends once it has done what it was given.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.task
    }
}

/// The transaction under way on the shadow.
#[derive(Debug)]
struct Transaction {
    /// What it wrote there.
    wrote: Scope,
    /// Why the rest of it is not run.
    broken: Option<Reason>,
    /// One of its commands ran before its turn, so that what it sees may be older, or what it
    /// wrote newer, than on the primary.
    late: bool,
    /// What is tainted once the primary commits.
    taints: Vec<(Scope, String)>,
    /// Its commands, to run it again.
    kept: perform::Kept,
}

impl Default for Transaction {
    fn default() -> Self {
        Self {
            wrote: Scope::none(),
            broken: None,
            late: false,
            taints: Vec::new(),
            kept: perform::Kept::default(),
        }
    }
}

/// See the module.
pub(super) struct Replay {
    pub(super) shared: Arc<Shared>,
    facts: Arc<Facts>,
    journal: Journal,
    link: Option<Link>,
    /// The session changed without its connection.
    is_stale: bool,
    transaction: Transaction,
    retry: Duration,
    not_before: Option<Instant>,
    second_looks: JoinSet<()>,
}

/// A command that was run.
struct Attempt {
    reply: Reply,
    late: bool,
    started: Instant,
}

impl Replay {
    async fn serve(mut self, mut jobs: mpsc::Receiver<Job>) {
        let _counted = Counted::new(&self.shared);
        loop {
            match tokio::time::timeout(self.shared.config.mirror.idle, jobs.recv()).await {
                Ok(Some(Job::Run(run))) => self.run(*run).await,
                Ok(Some(Job::Skip(skip))) => self.skip(skip).await,
                Ok(None) => break,
                Err(_) if self.link.as_ref().is_some_and(Link::in_transaction) => {}
                Err(_) => self.link = None, // parked: the journal opens it again
            }
        }
        self.give_back();
        while self.second_looks.join_next().await.is_some() {}
    }

    async fn run(&mut self, mut run: Run) {
        if !run.step.before {
            self.begin();
        }
        let entries = std::mem::take(&mut run.entries);
        let outcome = match self.transaction.broken {
            Some(reason) => Err(reason),
            None => self.try_it(&mut run).await,
        };
        let ended = run.step.ended;
        let in_transaction = run.step.after;
        match outcome {
            Ok(attempt) => self.settle(run, attempt),
            Err(reason) => self.give_up(run, reason),
        }
        self.take_in(&entries, true).await;
        if let Some(ending) = ended {
            self.end(ending, in_transaction).await;
        }
    }

    /// A command that is not run here: the session goes on without it.
    async fn skip(&mut self, skip: Skip) {
        if skip.abandons {
            self.break_off(Reason::Dropped).await;
        }
        self.take_in(&skip.entries, false).await;
        if let Some(ending) = skip.ends {
            self.end(ending, false).await;
        }
    }

    /// Runs a command, or says why it has no answer. A suspension interrupts it.
    async fn try_it(&mut self, run: &mut Run) -> Result<Attempt, Reason> {
        let shared = Arc::clone(&self.shared);
        let tried = tokio::select! {
            biased;
            () = shared.until_suspended() => Err(Trouble::Suspended),
            tried = self.attempt(run) => tried,
        };
        let trouble = match tried {
            Ok(attempt) => {
                shared.answered();
                return Ok(attempt);
            }
            Err(trouble) => trouble,
        };
        let keeps_link = matches!(
            trouble,
            Trouble::Unreadable | Trouble::Full | Trouble::Unknown | Trouble::Dialect(_)
        );
        if !keeps_link {
            self.link = None;
        }
        tracing::debug!(session = self.facts.session, %trouble, "not run on the shadow");
        Err(match trouble {
            Trouble::Down(what) => {
                shared.failed(&what);
                Reason::ShadowDown
            }
            Trouble::Timeout => {
                shared.failed("no answer within mirror.timeout_ms");
                Reason::ShadowDown
            }
            Trouble::Dialect(_) => Reason::NotMirrored,
            Trouble::TooLarge => Reason::TooLarge,
            Trouble::Full | Trouble::Unknown | Trouble::Unreadable => Reason::Dropped,
            Trouble::Suspended => Reason::Suspended,
        })
    }

    async fn attempt(&mut self, run: &mut Run) -> Result<Attempt, Trouble> {
        self.connect().await?;
        let turn = self.turn(run).await?;
        let late = turn == Turn::Late;
        if late {
            count(&self.shared.counters.order_waits);
        }
        if turn != Turn::Came {
            let mut scope = run.reading.writes.clone();
            scope.join(&run.step.wrote);
            let mut overtaking = self.shared.overtaking.lock();
            overtaking.push(self.facts.session, scope, run.charged.began, Instant::now());
        }
        let Some(link) = &mut self.link else {
            return Err(Trouble::Unreadable);
        };
        let started = Instant::now();
        let kept = &mut self.transaction.kept;
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
        let at_most = self.shared.config.mirror.order_wait;
        let turn = run.ticket.turn(at_most.min(YIELD_AFTER)).await;
        if turn != Turn::Late {
            return Ok(turn);
        }
        let holds_locks = !self.transaction.wrote.is_empty() && run.mode == Mode::Replay;
        let kept = &self.transaction.kept;
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
        Ok(turn)
    }

    /// Sees to it that there is a connection that is like the session.
    async fn connect(&mut self) -> Result<(), Trouble> {
        let may_reopen = !self.link.as_ref().is_some_and(Link::in_transaction);
        if self.is_stale && may_reopen {
            self.link = None;
        }
        if self.link.is_some() {
            return Ok(());
        }
        if self.not_before.is_some_and(|when| Instant::now() < when) {
            return Err(Trouble::Down(
                "the connection to the shadow could not be opened".to_owned(),
            ));
        }
        match Link::open(&self.shared, &self.facts, &self.journal).await {
            Ok(link) => {
                count(&self.shared.counters.opened);
                self.link = Some(link);
                self.is_stale = false;
                self.retry = RETRY_MIN;
                self.not_before = None;
                Ok(())
            }
            Err(trouble) => {
                self.not_before = Some(Instant::now() + self.retry);
                self.retry = (self.retry * 2).min(RETRY_MAX);
                Err(trouble)
            }
        }
    }

    /// The shadow answered: judges, taints, tells the ledger.
    fn settle(&mut self, run: Run, attempt: Attempt) {
        let Attempt {
            reply,
            late,
            started,
        } = attempt;
        let scope = &run.reading.scope;
        let tainted = self.shared.is_tainted(scope)
            || self
                .transaction
                .taints
                .iter()
                .any(|(tables, _)| tables.meets(scope));
        self.transaction.late |= late;
        let circumstances = Circumstances {
            late: late || run.step.before && self.transaction.late,
            tainted,
        };
        let Judgement {
            verdict,
            ran,
            may_be_a_race,
            mut damage,
        } = judge(&self.shared, &run, &reply, circumstances);
        let writes = run.reading.writes.clone();
        if late && run.mode == Mode::Replay && !run.reading.only_locks() {
            damage.get_or_insert_with(|| {
                let shape = &run.reading.fingerprint;
                format!("a dark write ran before its turn (mirror.order_wait_ms): {shape}")
            });
        }
        if run.mode == Mode::Replay && !writes.is_empty() {
            self.transaction.wrote.join(&writes);
        }
        if let Some(cause) = damage {
            let mut scope = if run.reading.only_locks() {
                Scope::none()
            } else {
                writes
            };
            let commits = run.step.ended == Some(Ending::Commit);
            if commits && (late || reply.answer.error().is_some()) {
                scope.join(&self.transaction.wrote);
            }
            self.damage(&run, scope, cause);
        }
        // The tables whose rows a deadlock or the end of a transaction took away.
        if perform::was_rolled_back(&reply) && run.step.after {
            let wrote = std::mem::replace(&mut self.transaction.wrote, Scope::none());
            let cause = "the shadow rolled a transaction back that the primary went on with";
            self.transaction.taints.push((wrote, cause.to_owned()));
            self.transaction.broken = Some(Reason::Race);
            count(&self.shared.counters.broken);
        }
        let verdict = match verdict {
            Verdict::Diverged(_) if perform::is_transient(&run, &reply) => {
                Verdict::NotCompared(Reason::Race)
            }
            verdict => verdict,
        };
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
        let statement = matches!(verdict, Verdict::Diverged(_)).then(|| perform::wording_of(&run));
        let statement = statement.flatten();
        let second_look = may_be_a_race.and_then(|glimpse| {
            let leave = self.shared.second_looks.clone().try_acquire_owned();
            Some((glimpse, leave.ok()?))
        });
        let Some((glimpse, leave)) = second_look else {
            run.owed.settle(verdict, ran, statement);
            return;
        };
        let shared = Arc::clone(&self.shared);
        let owed = run.owed;
        while self.second_looks.try_join_next().is_some() {}
        self.second_looks.spawn(async move {
            tokio::time::sleep(SECOND_LOOK).await;
            let known_now = glimpse.explains(&shared);
            let verdict = known_now.map_or(verdict, Verdict::NotCompared);
            owed.settle(verdict, ran, statement);
            drop(leave);
        });
    }

    /// The shadow has no answer to a command.
    fn give_up(&mut self, run: Run, reason: Reason) {
        let wrote_on_primary = !run.failed_on_primary() && !run.reading.only_locks();
        if run.mode == Mode::Replay && wrote_on_primary {
            let mut scope = run.reading.writes.clone();
            if run.step.before {
                scope.join(&self.transaction.wrote);
            }
            let cause = format!(
                "a dark write was lost ({}): {}",
                reason.name(),
                run.reading.fingerprint
            );
            let ends_it = run.step.ended == Some(Ending::Commit);
            if ends_it || !run.reading.writes.is_empty() {
                self.damage(&run, scope, cause);
            } else if run.step.before && !self.transaction.wrote.is_empty() {
                self.transaction.taints.push((scope, cause));
            }
        }
        let in_transaction = run.step.before || run.step.after;
        if in_transaction && self.transaction.broken.is_none() {
            self.transaction.broken = Some(reason);
            count(&self.shared.counters.broken);
        }
        run.owed.not_compared(reason);
    }

    /// Taints now, or, within a transaction, once the primary commits it.
    fn damage(&mut self, run: &Run, scope: Scope, cause: String) {
        if scope.is_empty() {
            return;
        }
        if run.step.after {
            self.transaction.taints.push((scope, cause));
        } else {
            self.shared.taint(&scope, self.journal.database(), &cause);
        }
    }

    /// Takes in what a command changed of the session. `seen`: the connection ran it, too.
    async fn take_in(&mut self, entries: &[Entry], seen: bool) {
        for entry in entries {
            if let (Entry::Forgotten(id), Some(link)) = (entry, &mut self.link)
                && link.close(*id).await.is_err()
            {
                self.link = None;
            }
            let prepared_max = self.shared.config.mirror.prepared_max;
            self.journal.apply(entry, prepared_max);
            self.is_stale |= !seen && entry.changes_state();
        }
    }

    /// A transaction begins, or a command outside of one.
    fn begin(&mut self) {
        self.transaction.wrote = Scope::none();
        self.transaction.broken = None;
        self.transaction.late = false;
        self.transaction.taints.clear();
        self.transaction.kept.clear(&self.shared);
    }

    /// The transaction ended on the primary.
    async fn end(&mut self, ending: Ending, another_is_open: bool) {
        if ending == Ending::Commit {
            for (scope, cause) in std::mem::take(&mut self.transaction.taints) {
                self.shared.taint(&scope, self.journal.database(), &cause);
            }
        }
        let still_open = self.link.as_ref().is_some_and(Link::in_transaction);
        if still_open && !another_is_open {
            let applies = self.shared.control().writes == crate::config::Writes::Apply;
            let text = match ending {
                Ending::Commit if applies => b"COMMIT".as_slice(),
                Ending::Commit | Ending::Rollback => b"ROLLBACK",
            };
            self.control(text).await;
        }
        self.begin();
    }

    /// Gives the transaction on the shadow up.
    async fn break_off(&mut self, reason: Reason) {
        if self.link.as_ref().is_some_and(Link::in_transaction) {
            self.control(b"ROLLBACK").await;
        }
        self.transaction.wrote = Scope::none();
        self.transaction.broken = Some(reason);
        count(&self.shared.counters.broken);
    }

    async fn control(&mut self, text: &[u8]) {
        let Some(link) = &mut self.link else { return };
        let shared = Arc::clone(&self.shared);
        let done = tokio::select! {
            biased;
            () = shared.until_suspended() => false,
            reply = link.query(text) => reply.is_ok_and(|reply| reply.answer.error().is_none()),
        };
        if !done {
            self.link = None; // closing it rolls back
        }
    }

    fn give_back(&mut self) {
        self.transaction.kept.clear(&self.shared);
    }
}

/// Counts a session as mirrored while its replay lives.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        count(&shared.counters.mirrored);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counters.mirrored.fetch_sub(1, Ordering::Relaxed);
    }
}

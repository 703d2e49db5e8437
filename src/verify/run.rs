//! A run: which tables, some at a time, each compared by its definition and its rows, and what became of all.

use super::board::{Board, Outcome, Standing};
use super::gate::{Around, By, Gate, Pace, Signal, Stopped};
use super::instants::{Holds, Instants, Log};
use super::prepare::on_shadow;
use super::reader::Door;
use super::table::{Doors, TableRun};
use super::walk::Ended;
use super::wish::{Meant, Mode, Repair};
use crate::config;
use crate::connect::Dial;
use crate::ledger::{TableLeft, VerificationError, Verifications};
use crate::roles::Roles;
use crate::sql::Table;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// So long is looked for others that write, before anything is repaired.
const OTHERS: Duration = Duration::from_secs(1);

/// Notes of a run that are told.
const NOTES_MAX: usize = 200;

/// What a run is made of.
#[derive(Clone)]
pub(super) struct Parts {
    /// Who is compared with whom.
    pub(super) roles: Roles,
    /// The way to them.
    pub(super) dial: Arc<dyn Dial>,
    /// Its limits.
    pub(super) limits: config::Verify,
    /// The ledger keeps literals.
    pub(super) tells_keys: bool,
    /// The understudy that it runs in.
    pub(super) around: Arc<dyn Around>,
    /// Where it is recorded.
    pub(super) records: Arc<Verifications>,
    /// The proxy's own tables.
    pub(super) left_out: Vec<Table>,
    /// What sessions were held for by this process.
    pub(super) holds: Arc<Holds>,
}

/// A run, under way or ended: what everybody may look at.
#[derive(Debug)]
pub(super) struct Run {
    /// Its number.
    pub(super) id: i64,
    /// Who asked for it.
    pub(super) who: String,
    /// What was asked for.
    pub(super) meant: Meant,
    /// The names of primary and shadow.
    pub(super) servers: (String, String),
    /// When it began.
    pub(super) started: jiff::Timestamp,
    /// It goes on with what an earlier process left.
    pub(super) resumed: bool,
    signal: watch::Sender<Signal>,
    pub(super) gate: Gate,
    pub(super) board: Board,
    began: Instant,
    /// Rows that an earlier process had read.
    pub(super) had: AtomicUsize,
    /// Bytes of the statements that are told.
    pub(super) bytes_told: AtomicUsize,
    end: Mutex<Option<End>>,
    notes: Mutex<Vec<String>>,
    /// What it is at best: something could not be seen.
    at_best: Mutex<Outcome>,
    abort_why: Mutex<Option<String>>,
    log: Mutex<Log>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// A word: that of an outcome, `aborted`, or `failed`.
    pub(super) outcome: String,
    /// Why.
    pub(super) why: Option<String>,
    /// When.
    pub(super) at: jiff::Timestamp,
    took: Duration,
}

/// How fast it has been, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speed {
    /// Rows of the primary's that were read.
    pub(super) rows: u64,
    /// Rows that there are to be read.
    pub(super) expected: u64,
    /// Rows a second, of this process.
    pub(super) per_second: u64,
    /// Seconds that are left, if it goes on so.
    pub(super) eta_s: Option<u64>,
}

impl Run {
    /// A run that has yet to be conducted.
    #[must_use]
    pub(super) fn new(
        id: i64,
        who: &str,
        meant: Meant,
        parts: &Parts,
        (resumed, first): (bool, Signal),
    ) -> Self {
        let (signal, heard) = watch::channel(first);
        let pace = Pace {
            rows_per_second: meant.rows_per_second.or(parts.limits.rows_per_second),
            share: parts.limits.share,
        };
        Self {
            id,
            who: who.to_owned(),
            servers: (
                parts.roles.primary.name.clone(),
                parts.roles.shadow.name.clone(),
            ),
            started: jiff::Timestamp::now(),
            resumed,
            signal,
            gate: Gate::new(heard, Arc::clone(&parts.around), pace),
            board: Board::default(),
            began: Instant::now(),
            had: AtomicUsize::new(0),
            bytes_told: AtomicUsize::new(0),
            end: Mutex::new(None),
            notes: Mutex::new(Vec::new()),
            at_best: Mutex::new(Outcome::Equal),
            abort_why: Mutex::new(None),
            log: Mutex::default(),
            meant,
        }
    }

    /// Tells it what an operator wants.
    pub(super) fn signal(&self, signal: Signal) {
        // Nothing takes back an end.
        self.signal.send_if_modified(|now| {
            let changes = !matches!(*now, Signal::Abort | Signal::Leave) && *now != signal;
            if changes {
                *now = signal;
            }
            changes
        });
    }

    /// Ends it, for this reason.
    pub(super) fn abort(&self, why: String) {
        self.abort_why.lock().get_or_insert(why);
        self.signal(Signal::Abort);
    }

    /// Whether an operator has it wait.
    pub(super) fn is_paused(&self) -> bool {
        *self.signal.borrow() == Signal::Pause
    }

    /// How it ended, if it did.
    #[must_use]
    pub(super) fn end(&self) -> Option<End> {
        self.end.lock().clone()
    }

    /// `running`, `paused` or `ended`.
    #[must_use]
    pub(super) fn state(&self) -> &'static str {
        if self.end().is_some() {
            "ended"
        } else if self.is_paused() {
            "paused"
        } else {
            "running"
        }
    }

    /// Why it waits, and how long it has waited, whichever of its jobs did.
    #[must_use]
    pub(super) fn waits(&self) -> (Option<String>, Duration) {
        let waits = self.gate.waits().filter(|_| self.end().is_none());
        (waits, self.gate.waited())
    }

    /// How its tables stand.
    #[must_use]
    pub(super) fn tables(&self) -> Vec<Standing> {
        self.board.all()
    }

    /// What else was seen.
    #[must_use]
    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.lock().clone()
    }

    /// Takes down something of its instants.
    pub(super) fn log(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.log.lock());
    }

    /// Its instants so far; nothing of a run that asks for none.
    #[must_use]
    pub(super) fn instants(&self) -> serde_json::Value {
        match self.meant.mode {
            Mode::Chunks => serde_json::Value::Null,
            Mode::Snapshot => serde_json::json!(*self.log.lock()),
        }
    }

    /// How fast it is.
    #[must_use]
    pub(super) fn speed(&self) -> Speed {
        let (rows, expected) = self.board.rows();
        let took = self
            .end()
            .map_or_else(|| self.began.elapsed(), |end| end.took);
        let had = self.had.load(Ordering::Relaxed) as u64;
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let read = rows.saturating_sub(had);
        let per_second = read.saturating_mul(1000) / ms;
        let left = expected.saturating_sub(rows);
        let eta_s = left
            .checked_div(per_second)
            .filter(|eta| *eta > 0 && self.end().is_none());
        Speed {
            rows,
            expected,
            per_second,
            eta_s,
        }
    }

    /// There may be as many tables as there are.
    pub(super) fn note(&self, note: String) {
        let mut notes = self.notes.lock();
        if notes.contains(&note) {
            return;
        }
        match notes.len() {
            n if n < NOTES_MAX => notes.push(note),
            NOTES_MAX => notes.push("there are more notes than are told".to_owned()),
            _ => {}
        }
    }

    /// Something could not be seen, so the run is no better than this.
    pub(super) fn lower(&self, at_best: Outcome, why: String) {
        let mut known = self.at_best.lock();
        if *known != Outcome::Unfinished {
            *known = at_best;
        }
        drop(known);
        self.note(why);
    }

    /// Conducts it to its end, which is recorded. `left` is what an earlier process left of it.
    pub(super) async fn conduct(&self, parts: &Parts, left: Vec<TableLeft>) {
        let conducted = self.all(parts, left).await;
        let (outcome, why) = match conducted {
            Ok(()) => (self.outcome(), None),
            Err(Ended::Stopped(Stopped::Left)) => {
                // It goes on at the next start: nothing is recorded.
                self.set_end(
                    "left",
                    Some("understudy ended; the next start goes on with it".to_owned()),
                );
                return;
            }
            Err(Ended::Stopped(Stopped::Aborted)) => ("aborted", self.abort_why.lock().clone()),
            Err(Ended::Fault(fault)) => ("failed", Some(fault.to_string())),
            Err(Ended::TooMany) => ("failed", Some("too much differs".to_owned())),
            Err(Ended::Unread(why)) => ("failed", Some(why)),
        };
        said(parts.records.end(self.id, outcome, why.as_deref()));
        let words = why.clone().unwrap_or_default();
        tracing::info!("verification {} ended: {outcome} {words}", self.id);
        self.set_end(outcome, why);
    }

    /// It broke off in its midst, by a fault of understudy's: that is recorded too.
    pub(super) fn broke_off(&self, parts: &Parts) {
        let why = "it broke off: this is a fault of understudy's, and its log has it".to_owned();
        said(parts.records.end(self.id, "failed", Some(&why)));
        self.set_end("failed", Some(why));
    }

    fn set_end(&self, outcome: &str, why: Option<String>) {
        self.gate.say(None);
        *self.end.lock() = Some(End {
            outcome: outcome.to_owned(),
            why,
            at: jiff::Timestamp::now(),
            took: self.began.elapsed(),
        });
    }

    /// Of all its tables.
    fn outcome(&self) -> &'static str {
        let tables = self.board.all();
        let at_best = *self.at_best.lock();
        let any = |outcome| tables.iter().any(|table| table.outcome == Some(outcome));
        if any(Outcome::Different) {
            Outcome::Different.name()
        } else if tables.is_empty()
            || tables.iter().any(|table| table.outcome.is_none())
            || any(Outcome::Unfinished)
            || at_best == Outcome::Unfinished
        {
            Outcome::Unfinished.name()
        } else if any(Outcome::EqualInPart) || at_best == Outcome::EqualInPart {
            Outcome::EqualInPart.name()
        } else {
            Outcome::Equal.name()
        }
    }

    async fn all(&self, parts: &Parts, left: Vec<TableLeft>) -> Result<(), Ended> {
        let door = |server| {
            Door::new(
                Arc::clone(&parts.dial),
                Arc::clone(server),
                parts.tells_keys,
            )
        };
        let doors = Doors {
            primary: door(&parts.roles.primary),
            shadow: door(&parts.roles.shadow),
        };
        let went = self.all_tables(parts, &doors, left).await;
        // A server goes on with what was given up, unless it is told.
        tokio::join!(doors.primary.end_given_up(), doors.shadow.end_given_up());
        went
    }

    /// Where tables are to be locked: whether they can be, before any is.
    async fn may_lock(&self) -> Result<(), Ended> {
        if self.meant.by != By::Lock {
            return Ok(());
        }
        let tables = self.board.all().into_iter();
        let open = tables.filter(|one| one.outcome.is_none());
        let databases: BTreeSet<String> = open.map(|one| one.database).collect();
        let databases: Vec<String> = databases.into_iter().collect();
        let asked = self
            .gate
            .unless_stopped(self.gate.around().may_lock(&databases));
        let able = asked.await.map_err(Ended::Stopped)?;
        able.map_err(|why| Ended::Unread(format!("no table was locked: {why}")))
    }

    /// Others that write past this understudy: what it knows of the mirror does not cover them, and a repair would have
    /// no order with what they mirror.
    async fn beside_others(&self) -> Result<(), Ended> {
        let applies = self.meant.repair == Repair::Apply;
        if self.meant.by == By::Lock && !applies {
            // They stand still as well.
            return Ok(());
        }
        let time = if applies { OTHERS } else { Duration::ZERO };
        let around = self.gate.around();
        let looked = self.gate.unless_stopped(around.others(time)).await;
        let others = match looked.map_err(Ended::Stopped)? {
            Ok(others) => others,
            Err(why) => {
                self.note(format!(
                    "whether others write to {} past this understudy is not known: {why}",
                    self.servers.0
                ));
                return Ok(());
            }
        };
        if others.is_empty() {
            return Ok(());
        }
        let names = others.join(", ");
        if applies && !self.meant.force {
            return Err(Ended::Unread(format!(
                "nothing was repaired: {names} wrote to {} past this understudy, and where another proxy mirrors that, a repair has no order with it. Take --repair plan, or say force where nobody else writes to {}",
                self.servers.0, self.servers.1
            )));
        }
        if self.meant.by == By::Lock {
            return Ok(());
        }
        self.note(format!(
            "{names} wrote to {} past this understudy: whether the shadow has had that in time, or lost it, is not known here, so that what they write may be told as different",
            self.servers.0
        ));
        Ok(())
    }

    async fn all_tables(
        &self,
        parts: &Parts,
        doors: &Doors,
        left: Vec<TableLeft>,
    ) -> Result<(), Ended> {
        let began = Instant::now();
        let around = self.gate.around();
        let begins = self.gate.unless_stopped(around.begins()).await;
        begins.map_err(Ended::Stopped)?;
        let (sharded, left) = loop {
            self.gate.pass().await.map_err(Ended::Stopped)?;
            let preparing = self.gate.unless_stopped(self.prepare(parts, doors, &left));
            match preparing.await.map_err(Ended::Stopped)? {
                Ok(prepared) => break prepared,
                Err(fault) if fault.may_pass() && began.elapsed() < parts.limits.patience => {
                    self.gate.say(Some(fault.to_string()));
                    self.gate
                        .sleep(Duration::from_secs(1))
                        .await
                        .map_err(Ended::Stopped)?;
                }
                Err(fault) => return Err(Ended::Fault(fault)),
            }
        };
        self.beside_others().await?;
        self.may_lock().await?;
        let instants = match self.meant.mode {
            Mode::Chunks => None,
            Mode::Snapshot => Some(Instants::new(self, parts, doors, self.databases(parts))),
        };
        let all = self.board.all().len();
        let next = AtomicUsize::new(0);
        let jobs = self.meant.jobs.unwrap_or(parts.limits.jobs).min(all.max(1));
        let job = async || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= all {
                    return Ok(());
                }
                let table = TableRun {
                    run: self,
                    parts,
                    doors,
                    instants: instants.as_ref(),
                    sharded: &sharded,
                    left: left.get(at).and_then(Option::as_ref),
                    at,
                };
                table.run().await?;
            }
        };
        let jobs = (0..jobs).map(|_| job()).collect();
        let went = async { together(jobs).await.map_err(Ended::Stopped) };
        match &instants {
            None => went.await,
            Some(instants) => tokio::select! {
                went = went => went,
                never = instants.sweep() => never,
            },
        }
    }
}

impl Run {
    /// The databases of which rows are still to be read, by their names on both sides.
    fn databases(&self, parts: &Parts) -> (Vec<String>, Vec<String>) {
        let tables = self.board.all().into_iter();
        let open = tables.filter(|one| one.outcome.is_none());
        let mine: BTreeSet<String> = open.map(|one| one.database).collect();
        let theirs: BTreeSet<&str> = mine.iter().map(|one| on_shadow(parts, one)).collect();
        let theirs = theirs.into_iter().map(str::to_owned).collect();
        (mine.into_iter().collect(), theirs)
    }
}

/// All of them at once, until all are done or one is stopped.
async fn together(jobs: Vec<impl Future<Output = Result<(), Stopped>>>) -> Result<(), Stopped> {
    let mut jobs: Vec<_> = jobs.into_iter().map(|job| Some(Box::pin(job))).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for place in &mut jobs {
            match place.as_mut().map(|job| job.as_mut().poll(context)) {
                Some(Poll::Ready(Err(stopped))) => return Poll::Ready(Err(stopped)),
                Some(Poll::Ready(Ok(()))) => *place = None,
                Some(Poll::Pending) => pending = true,
                None => {}
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    })
    .await
}

/// A record that could not be written is no reason to end: the run goes on, and tells what it finds.
pub(super) fn said(written: Result<(), VerificationError>) {
    if let Err(fault) = written {
        tracing::warn!(%fault, "a verification goes on without its record");
    }
}

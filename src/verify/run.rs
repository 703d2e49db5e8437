//! A run: which tables, some at a time, each compared by its definition and its rows, and what became of all.

use super::board::{Board, Found, Outcome, Stage, Standing};
use super::catalog;
use super::cursor::Cursor;
use super::gate::{Around, Gate, Pace, Signal, Stopped};
use super::reader::{Door, ReadError, Reader};
use super::statements::quoted;
use super::table::{Doors, TableRun};
use super::walk::Ended;
use super::wish::Meant;
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
    had: AtomicUsize,
    end: Mutex<Option<End>>,
    notes: Mutex<Vec<String>>,
    abort_why: Mutex<Option<String>>,
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
    pub(super) fn new(id: i64, who: &str, meant: Meant, parts: &Parts, resumed: bool) -> Self {
        let (signal, heard) = watch::channel(Signal::Go);
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
            end: Mutex::new(None),
            notes: Mutex::new(Vec::new()),
            abort_why: Mutex::new(None),
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
        } else if *self.signal.borrow() == Signal::Pause {
            "paused"
        } else {
            "running"
        }
    }

    /// Why it waits, and how long it has waited, all its jobs together.
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
            .filter(|_| self.end().is_none());
        Speed {
            rows,
            expected,
            per_second,
            eta_s,
        }
    }

    fn note(&self, note: String) {
        self.notes.lock().push(note);
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
        };
        said(parts.records.end(self.id, outcome, why.as_deref()));
        let words = why.clone().unwrap_or_default();
        tracing::info!("verification {} ended: {outcome} {words}", self.id);
        self.set_end(outcome, why);
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
        let any = |outcome| tables.iter().any(|table| table.outcome == Some(outcome));
        if any(Outcome::Different) {
            Outcome::Different.name()
        } else if tables.is_empty()
            || tables.iter().any(|table| table.outcome.is_none())
            || any(Outcome::Unfinished)
        {
            Outcome::Unfinished.name()
        } else if any(Outcome::EqualInPart) {
            Outcome::EqualInPart.name()
        } else {
            Outcome::Equal.name()
        }
    }

    async fn all(&self, parts: &Parts, left: Vec<TableLeft>) -> Result<(), Ended> {
        let doors = Doors {
            primary: Door::new(Arc::clone(&parts.dial), Arc::clone(&parts.roles.primary)),
            shadow: Door::new(Arc::clone(&parts.dial), Arc::clone(&parts.roles.shadow)),
        };
        let began = Instant::now();
        let (sharded, left) = loop {
            match self.prepare(parts, &doors, &left).await {
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
                    doors: &doors,
                    sharded: &sharded,
                    left: left.get(at).and_then(Option::as_ref),
                    at,
                };
                table.run().await?;
            }
        };
        let jobs = (0..jobs).map(|_| job()).collect();
        together(jobs).await.map_err(Ended::Stopped)
    }

    /// Finds the tables, and what was left of them.
    async fn prepare(
        &self,
        parts: &Parts,
        doors: &Doors,
        left: &[TableLeft],
    ) -> Result<(BTreeSet<String>, Vec<Option<TableLeft>>), ReadError> {
        let mut primary = doors.primary.open().await?;
        let mut shadow = doors.shadow.open().await?;
        let sharded = catalog::sharded(&mut shadow).await?;
        let mut all = Vec::new();
        for database in catalog::databases(&mut primary).await? {
            for name in catalog::tables(&mut primary, &database).await? {
                all.push(Table {
                    database: Some(database.clone()),
                    name,
                });
            }
            if all.len() > catalog::TABLES_MAX {
                self.note(format!(
                    "only the first {} tables are looked at",
                    catalog::TABLES_MAX
                ));
                all.truncate(catalog::TABLES_MAX);
                break;
            }
        }
        let listed: Vec<(String, String, bool)> = all
            .iter()
            .map(|table| {
                (
                    table.database.clone().unwrap_or_default(),
                    table.name.clone(),
                    self.meant.takes(table),
                )
            })
            .collect();
        said(parts.records.tables(self.id, &listed));
        let asked: Vec<Table> = all
            .iter()
            .filter(|table| self.meant.takes(table))
            .cloned()
            .collect();
        self.extra_tables(parts, &mut shadow, &all).await?;
        if asked.is_empty() {
            self.note("no table of the primary's is asked for".to_owned());
        }
        let mut standings = Vec::with_capacity(asked.len());
        let mut lefts = Vec::with_capacity(asked.len());
        for table in &asked {
            let mut standing = Standing::waiting(table);
            standing.rows_expected = expected(&mut primary, table).await?;
            let is_it = |one: &&TableLeft| {
                one.name == table.name && Some(&one.database) == table.database.as_ref()
            };
            let left = left.iter().find(is_it).cloned();
            if let Some(left) = &left {
                self.restore(parts, left, &mut standing);
            }
            standings.push(standing);
            lefts.push(left);
        }
        let had: u64 = standings.iter().map(|one| one.rows_primary).sum();
        self.had.store(
            usize::try_from(had).unwrap_or(usize::MAX),
            Ordering::Relaxed,
        );
        for (at, standing) in standings.into_iter().enumerate() {
            self.board.put(at, standing);
        }
        Ok((sharded, lefts))
    }

    /// What an earlier process knew of a table.
    fn restore(&self, parts: &Parts, left: &TableLeft, standing: &mut Standing) {
        let rows = parts.records.rows(self.id, (&left.database, &left.name));
        let rows = rows.unwrap_or_default();
        standing.rows = rows
            .iter()
            .filter_map(|item| serde_json::from_str::<Found>(item).ok())
            .collect();
        standing.started = left
            .started
            .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
        if let Some(outcome) = left.outcome.as_deref().and_then(Outcome::named) {
            if let Some(kept) = left
                .standing
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok())
            {
                standing.recall(&kept);
            }
            standing.outcome = Some(outcome);
            standing.stage = Stage::Done;
        } else if let Some(cursor) = cursor_of(left) {
            standing.rows_primary = cursor.rows_primary;
            standing.rows_shadow = cursor.rows_shadow;
            standing.differences = cursor.differences;
        }
    }

    /// Tables that the shadow alone has are told: nothing says that they are wrong.
    async fn extra_tables(
        &self,
        parts: &Parts,
        shadow: &mut Reader,
        known: &[Table],
    ) -> Result<(), ReadError> {
        let databases: BTreeSet<&String> = known
            .iter()
            .filter_map(|table| table.database.as_ref())
            .collect();
        for database in databases {
            let there = on_shadow(parts, database);
            let tables = catalog::tables(shadow, there).await?;
            for name in tables {
                let table = Table {
                    database: Some(database.clone()),
                    name,
                };
                if !known.contains(&table) && self.meant.takes(&table) {
                    self.note(format!(
                        "{there}.{} is on {} alone and was not compared",
                        table.name, self.servers.1
                    ));
                }
            }
        }
        Ok(())
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

/// A database's name on the shadow.
pub(super) fn on_shadow<'a>(parts: &'a Parts, database: &'a str) -> &'a str {
    let mapped = parts.roles.shadow.databases.get(database);
    mapped.map_or(database, String::as_str)
}

/// How many rows the primary thinks a table has.
async fn expected(primary: &mut Reader, table: &Table) -> Result<Option<u64>, ReadError> {
    let database = table.database.as_deref().unwrap_or_default();
    let like = table.name.replace('\\', "\\\\").replace('\'', "''");
    let ask = format!("SHOW TABLE STATUS FROM {} LIKE '{like}'", quoted(database));
    match primary.all(&ask).await {
        Ok(rows) => Ok(rows
            .first()
            .and_then(|row| row.get(4)?.as_deref()?.parse().ok())),
        Err(ReadError::Refused { .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

pub(super) fn cursor_of(left: &TableLeft) -> Option<Cursor> {
    serde_json::from_str(left.cursor.as_deref()?).ok()
}

/// A record that could not be written is no reason to end: the run goes on, and tells what it finds.
pub(super) fn said(written: Result<(), VerificationError>) {
    if let Err(fault) = written {
        tracing::warn!(%fault, "a verification goes on without its record");
    }
}

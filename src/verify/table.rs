//! One table of a run, from its definition to its outcome, which is recorded.
//!
//! It is bound to what it was begun with: where a definition changes while its rows are read, it begins anew; where
//! its walk spans two processes, nobody here knows what was lost in between, and its taint stays.

use super::board::{Found, Outcome, Stage, Standing};
use super::catalog::Led;
use super::cursor::Cursor;
use super::definition::Known;
use super::gate::Stopped;
use super::heap;
use super::instants::Instants;
use super::plan::{Plan, Way};
use super::prepare::{cursor_of, on_shadow};
use super::reader::{Door, ReadError};
use super::run::{Parts, Run, said};
use super::settle::{Broke, Places};
use super::statements::{Place, Side};
use super::walk::{Book, Ended, Limits, Walk, Walker};
use super::wish::Repair;
use crate::ledger::{TableEnd, TableLeft, Verifications};
use crate::sql::Table;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Times that a table is begun because its definition changed while it was read.
const BEGUN_MAX: u32 = 3;

/// The ways to both servers.
pub(super) struct Doors {
    pub(super) primary: Door,
    pub(super) shadow: Door,
}

/// One table of a run.
pub(super) struct TableRun<'a> {
    pub(super) run: &'a Run,
    pub(super) parts: &'a Parts,
    pub(super) doors: &'a Doors,
    pub(super) instants: Option<&'a Instants<'a>>,
    pub(super) sharded: &'a BTreeSet<String>,
    pub(super) left: Option<&'a TableLeft>,
    pub(super) at: usize,
}

impl TableRun<'_> {
    pub(super) fn set<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> Option<T> {
        self.run.board.set(self.at, change)
    }

    /// To its end, which is recorded.
    pub(super) async fn run(&self) -> Result<(), Stopped> {
        let Some(standing) = self.run.board.get(self.at) else {
            return Ok(());
        };
        if standing.outcome.is_some() {
            return Ok(());
        }
        let names = (standing.database.as_str(), standing.table.as_str());
        let table = Table {
            database: Some(standing.database.clone()),
            name: standing.table.clone(),
        };
        said(self.parts.records.table_begins(self.run.id, names));
        let now = jiff::Timestamp::now();
        self.set(|one| {
            one.stage = Stage::Walking;
            one.started.get_or_insert(now);
        });
        let read = self.whole(&table).await;
        let (spans, fault) = match read {
            Ok(spans) => (spans, None),
            Err(Ended::Stopped(stopped)) => return Err(stopped),
            Err(Ended::Fault(fault)) => (false, Some(fault.to_string())),
            Err(Ended::Unread(why)) => (false, Some(why)),
            Err(Ended::TooMany) => {
                let more = self.parts.limits.differences_max;
                let why =
                    format!("more than {more} rows differ: the rest of the table was not read");
                (false, Some(why))
            }
        };
        self.ended(&table, fault, (!spans).then_some(now));
        Ok(())
    }

    /// `since`: when its walk began, if this process read all of it.
    fn ended(&self, table: &Table, fault: Option<String>, since: Option<jiff::Timestamp>) {
        let is_whole = self.run.meant.is_whole();
        let ended = self.set(|one| {
            if let Some(fault) = &fault {
                one.not_covered.push(fault.clone());
            }
            // A repair taints its table by itself, and is judged by what is settled behind it.
            let repairs = self.run.meant.repair == Repair::Apply && one.differences.sum() > 0;
            let lost = !repairs
                && one
                    .started
                    .is_some_and(|began| self.parts.around.lost_since(table, began));
            if lost {
                one.not_covered.push(LOST.to_owned());
            }
            if since.is_none() && fault.is_none() {
                one.not_covered.push(ACROSS.to_owned());
            }
            let is_tainted = self.instants.is_some()
                && one.differences.sum() > 0
                && self
                    .parts
                    .around
                    .lost_since(table, jiff::Timestamp::UNIX_EPOCH);
            let outcome = one.judged(fault.is_some(), is_whole);
            one.outcome = Some(outcome);
            one.stage = Stage::Done;
            one.ended = Some(jiff::Timestamp::now());
            one.why = fault
                // What is said of a table without a key is of its end.
                .or_else(|| {
                    let stays = one.unsettled > 0 || one.way == Some(Way::Buckets.name());
                    one.why.take().filter(|_| stays)
                })
                .or_else(|| is_tainted.then(|| TAINTED.to_owned()))
                .or_else(|| one.is_clock().then(|| CLOCK.to_owned()));
            one.clone()
        });
        let Some(standing) = ended else { return };
        let kept = serde_json::to_string(&standing.without_rows()).unwrap_or_default();
        let end = TableEnd {
            outcome: standing.outcome.map_or("", Outcome::name),
            rows: (standing.rows_primary, standing.rows_shadow),
            standing: &kept,
        };
        let names = (standing.database.as_str(), standing.table.as_str());
        said(self.parts.records.table_ends(self.run.id, names, &end));
        if let Some(since) = since.filter(|_| standing.outcome == Some(Outcome::Equal)) {
            self.parts.around.verified(table, since);
        }
    }

    /// Definition and rows; whether its walk spans two processes.
    async fn whole(&self, table: &Table) -> Result<bool, Ended> {
        let mut left = self.left;
        for _ in 0..BEGUN_MAX {
            let known = self.patiently(|| self.definition(table)).await?;
            if let Some(spans) = self.rows(table, &known, left).await? {
                return Ok(spans);
            }
            tracing::info!("{} is begun anew: its definition changed", table.name);
            left = None;
            self.set(Standing::begin_anew);
        }
        Err(Ended::Unread(format!(
            "its definition changed while its rows were read, {BEGUN_MAX} times"
        )))
    }

    /// Asks until there is an answer, or the patience is over.
    async fn patiently<T>(&self, ask: impl AsyncFn() -> Result<T, ReadError>) -> Result<T, Ended> {
        let (began, gate) = (Instant::now(), &self.run.gate);
        loop {
            // No view is kept open meanwhile.
            let lets_go = || self.instants.iter().for_each(|instants| instants.let_go());
            gate.pass_or(lets_go).await.map_err(Ended::Stopped)?;
            match gate.unless_stopped(ask()).await.map_err(Ended::Stopped)? {
                Ok(answer) => return Ok(answer),
                Err(fault) if fault.may_pass() && began.elapsed() < self.parts.limits.patience => {
                    gate.say(Some(fault.to_string()));
                    let slept = gate.sleep(Duration::from_secs(1)).await;
                    slept.map_err(Ended::Stopped)?;
                }
                Err(fault) => return Err(Ended::Fault(fault)),
            }
        }
    }

    /// Its rows; whether their walk spans two processes; `None` where a definition changed meanwhile.
    async fn rows(
        &self,
        table: &Table,
        known: &Known,
        left: Option<&TableLeft>,
    ) -> Result<Option<bool>, Ended> {
        let Some(plan) = &known.plan else {
            return Ok(Some(false));
        };
        self.tell_way(plan, known);
        let database = table.database.as_deref().unwrap_or_default();
        let place = |side, database| Place {
            plan,
            side,
            database,
            table: &table.name,
            condition: self.run.meant.condition.as_deref(),
        };
        let places = Places {
            table,
            primary: place(Side::Primary, database),
            shadow: place(Side::Shadow, on_shadow(self.parts, database)),
            sharded: known.sharded,
            routed: known.routed,
            clock: self.parts.around.clock(),
            tells: self.parts.tells_keys,
        };
        let kept = Kept {
            records: &self.parts.records,
            run: self.run.id,
            names: (database, &table.name),
        };
        let walk = self.walk(&kept);
        if self.instants.is_some() {
            self.may_be_read_at_once(known)?;
        }
        if plan.way == Way::Buckets {
            self.may_be_read_whole(table, known)?;
            self.heap(&walk, &places).await?;
            return Ok(self.is_as_it_was(table, known).await?.then_some(false));
        }
        // What is to be repaired is collected by one process.
        let left = left.filter(|_| self.run.meant.repair == Repair::None);
        let cursor = left
            .and_then(cursor_of)
            .filter(|cursor| cursor.fits(plan, &known.of));
        let spans = cursor.is_some();
        if !spans {
            self.set(Standing::begin_anew);
            said(self.parts.records.table_anew(self.run.id, kept.names));
        }
        let cursor = cursor.unwrap_or_else(|| Cursor::start(plan, &known.of));
        let mut walker = Walker::new(&walk, places.clone(), cursor);
        let walked = walker.run().await;
        if let (Some(instants), Some(pair)) = (self.instants, walker.pair.take()) {
            match self.run.meant.repair {
                Repair::None => instants.give_back(pair),
                // Repairs take their time: no view is kept open beside them.
                Repair::Plan | Repair::Apply => drop(pair),
            }
        }
        self.tell_walked(walker.cursor());
        if let Err(Ended::Stopped(stopped)) = walked {
            return Err(Ended::Stopped(stopped));
        }
        if !self.is_as_it_was(table, known).await? {
            return Ok(None);
        }
        if self.run.meant.repair != Repair::None {
            self.repair(&walk, &places, walker).await?;
        }
        walked.map(|()| Some(spans))
    }

    /// Its walk, kept there.
    fn walk<'b>(&'b self, kept: &'b Kept<'_>) -> Walk<'b> {
        let limits = &self.parts.limits;
        Walk {
            run: self.run.id,
            meant: &self.run.meant,
            primary: &self.doors.primary,
            shadow: &self.doors.shadow,
            instants: self.instants,
            gate: &self.run.gate,
            limits: Limits {
                range_rows: limits.range_rows,
                range_bytes: limits.range_bytes,
                settle: limits.settle,
                snapshot: limits.snapshot,
                patience: limits.patience,
                differences: limits.differences_max,
            },
            board: (&self.run.board, self.at),
            book: kept,
            tells_keys: self.parts.tells_keys,
        }
    }

    /// How its rows are to be compared, and what that does not cover.
    fn tell_way(&self, plan: &Plan, known: &Known) {
        self.set(|one| {
            one.way = Some(plan.way.name());
            one.not_covered.clear();
            if known.sharded && !known.routed {
                one.not_covered.push("whether each row is on the shard where its vindex puts it: the key does not say that".to_owned());
            }
            if !known.indexed {
                one.why = Some("the shadow has no index of the key: each range reads much of the table".to_owned());
            }
        });
    }

    /// Whether both definitions, and both servers, still are what the walk was begun with.
    async fn is_as_it_was(&self, table: &Table, known: &Known) -> Result<bool, Ended> {
        let now = self.patiently(|| self.digest_now(table)).await?;
        Ok(now == known.of)
    }

    /// Other engines show what is there by the time of the statement, whatever transaction it is in.
    fn may_be_read_at_once(&self, known: &Known) -> Result<(), Ended> {
        let (primary, shadow) = &self.run.servers;
        match &known.led_to {
            Led::Here => {}
            Led::To(keyspace) => {
                return Err(Ended::Unread(format!(
                    "its rows were not read: a routing rule of {shadow} sends it to the keyspace {keyspace}, which is not part of the instant; take --mode chunks"
                )));
            }
            Led::Unknown(why) => {
                return Err(Ended::Unread(format!(
                    "its rows were not read: whether a routing rule of {shadow} sends it to another keyspace, which is not part of the instant, is not known ({why}); take --mode chunks"
                )));
            }
        }
        let sides = [(primary, &known.engine), (shadow, &known.engine_there)];
        for (server, engine) in sides {
            let engine = engine.as_deref().unwrap_or("unknown");
            if !engine.eq_ignore_ascii_case("InnoDB") {
                return Err(Ended::Unread(format!(
                    "its rows were not read: its engine on {server} ({engine}) cannot show them as they were at one instant; take --mode chunks"
                )));
            }
        }
        Ok(())
    }

    /// A table without a key is read by one statement: not where that would lock it, nor where nobody asked for
    /// this very table.
    fn may_be_read_whole(&self, table: &Table, known: &Known) -> Result<(), Ended> {
        let engine = known.engine.as_deref().unwrap_or("unknown");
        if !engine.eq_ignore_ascii_case("InnoDB") {
            return Err(Ended::Unread(format!(
                "its rows were not read: it has no key by which it can be walked, so one statement would read all of it, and its engine on {} ({engine}) locks it for as long",
                self.run.servers.0
            )));
        }
        if !self.run.meant.names(table) {
            return Err(Ended::Unread(
                "its rows were not read: it has no key by which it can be walked, so one statement reads all of it; name it in --tables to have that done".to_owned(),
            ));
        }
        Ok(())
    }

    fn tell_walked(&self, cursor: &Cursor) {
        self.set(|one| {
            if cursor.skipped > 0 {
                one.not_covered.push(format!(
                    "the sample left out {} of {} ranges",
                    cursor.skipped, cursor.ranges
                ));
            }
            if self.run.meant.condition.is_some() {
                one.not_covered
                    .push("rows that the condition leaves out".to_owned());
            }
            if cursor.unsettled > 0 {
                one.not_covered.push(format!(
                    "{} rows that did not stay the same for long enough to be judged",
                    cursor.unsettled
                ));
            }
        });
    }

    async fn heap(&self, walk: &Walk<'_>, places: &Places<'_>) -> Result<(), Ended> {
        let mut failing: Option<Instant> = None;
        let found = loop {
            match heap::compare(walk, places).await {
                Ok(found) => break found,
                Err(Broke::Stopped(stopped)) => return Err(Ended::Stopped(stopped)),
                Err(Broke::NoInstant(why)) => return Err(Ended::Unread(why)),
                Err(Broke::Read(fault)) => {
                    let since = *failing.get_or_insert_with(Instant::now);
                    let may_pass = match self.instants {
                        Some(_) => fault.ends_view(),
                        None => fault.may_pass(),
                    };
                    if !may_pass || since.elapsed() >= walk.limits.patience {
                        return Err(Ended::Fault(fault));
                    }
                    walk.gate.say(Some(fault.to_string()));
                    walk.gate
                        .sleep(Duration::from_secs(1))
                        .await
                        .map_err(Ended::Stopped)?;
                }
            }
        };
        self.set(|one| {
            (one.rows_primary, one.rows_shadow) = found.rows;
            for (how, rows) in found.by_how() {
                one.differences.add(how, rows);
            }
            if self.run.meant.condition.is_some() {
                one.not_covered
                    .push("rows that the condition leaves out".to_owned());
            }
            if found.unsettled {
                one.unsettled += 1;
                one.why = Some(
                    "the table has no key, and was written to between all readings".to_owned(),
                );
            }
            if found.cut {
                one.why = Some("so many rows differ that they were not all counted".to_owned());
            }
            if self.run.meant.repair != Repair::None && found.differences != (0, 0) {
                one.why = Some("not repaired: the table has no key to repair a row by".to_owned());
            }
        });
        match found.unread {
            Some(why) => Err(Ended::Unread(why)),
            None => Ok(()),
        }
    }
}

const LOST: &str = "writes to it that the shadow may lack since it was begun (it is tainted): what had been read by then may not be so any more. Verify it again";

const TAINTED: &str = "it is tainted: the ledger knows of writes that the shadow may lack, and what differs may be these (understudy status names the cause)";

const CLOCK: &str = "moments alone differ, and by no more than compare.clock_ms: as those do that the mirror wrote, which estimates what NOW() was on the primary. --repair apply makes them the primary's";

const ACROSS: &str = "what was lost between two processes, which read it one after the other: its taint stays. Verify it again";

/// A table's records.
struct Kept<'a> {
    records: &'a Verifications,
    run: i64,
    names: (&'a str, &'a str),
}

impl Book for Kept<'_> {
    fn keep(&self, cursor: &Cursor) {
        if let Ok(text) = serde_json::to_string(cursor) {
            said(self.records.keep_cursor(self.run, self.names, &text));
        }
    }

    fn found(&self, rows: &[Found]) {
        let items: Vec<String> = rows
            .iter()
            .filter_map(|row| serde_json::to_string(row).ok())
            .collect();
        if !items.is_empty() {
            said(self.records.found(self.run, self.names, &items));
        }
    }
}

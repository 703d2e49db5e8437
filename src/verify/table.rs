//! One table of a run: both definitions, both sides' rows, what repairs them, and what became of it.

use super::board::{Found, Outcome, Stage, Standing};
use super::catalog;
use super::cursor::Cursor;
use super::gate::Stopped;
use super::heap;
use super::plan::{Plan, Way, plan};
use super::reader::{Door, ReadError, Reader};
use super::run::{Parts, Run, cursor_of, on_shadow, said};
use super::settle::{Broke, Places};
use super::shape::{Difference, Index, Shape, Sides, Weight, compare};
use super::statements::{Place, Side};
use super::walk::{Book, Ended, Limits, Walk, Walker};
use super::wish::Repair;
use crate::ledger::{TableEnd, TableLeft, Verifications};
use crate::sql::Table;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

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
    pub(super) sharded: &'a BTreeSet<String>,
    pub(super) left: Option<&'a TableLeft>,
    pub(super) at: usize,
}

/// What is known of a table before its rows are read.
struct Known {
    plan: Option<Plan>,
    sharded: bool,
    routed: bool,
    indexed: bool,
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
        let since = standing.started.unwrap_or(now);
        self.set(|one| {
            one.stage = Stage::Walking;
            one.started = Some(since);
        });
        let fault = match self.whole(&table).await {
            Ok(()) => None,
            Err(Ended::Stopped(stopped)) => return Err(stopped),
            Err(Ended::Fault(fault)) => Some(fault.to_string()),
            Err(Ended::TooMany) => Some(format!(
                "more than {} rows differ: the rest of the table was not read",
                self.parts.limits.differences_max
            )),
        };
        self.ended(&table, fault, since);
        Ok(())
    }

    fn ended(&self, table: &Table, fault: Option<String>, since: jiff::Timestamp) {
        let is_whole = self.run.meant.is_whole();
        let ended = self.set(|one| {
            if let Some(fault) = &fault {
                one.not_covered.push(fault.clone());
            }
            let outcome = one.judged(fault.is_some(), is_whole);
            one.outcome = Some(outcome);
            one.stage = Stage::Done;
            one.ended = Some(jiff::Timestamp::now());
            one.why = fault.or_else(|| one.why.take().filter(|_| one.unsettled > 0));
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
        if standing.outcome == Some(Outcome::Equal) {
            self.parts.around.verified(table, since);
        }
    }

    /// Definition and rows.
    async fn whole(&self, table: &Table) -> Result<(), Ended> {
        let began = Instant::now();
        let known = loop {
            self.run.gate.pass().await.map_err(Ended::Stopped)?;
            match self.definition(table).await {
                Ok(known) => break known,
                Err(fault) if fault.may_pass() && began.elapsed() < self.parts.limits.patience => {
                    self.run.gate.say(Some(fault.to_string()));
                    self.run
                        .gate
                        .sleep(Duration::from_secs(1))
                        .await
                        .map_err(Ended::Stopped)?;
                }
                Err(fault) => return Err(Ended::Fault(fault)),
            }
        };
        let Some(plan) = &known.plan else {
            return Ok(());
        };
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
        };
        let kept = Kept {
            records: &self.parts.records,
            run: self.run.id,
            names: (database, &table.name),
        };
        let limits = &self.parts.limits;
        let walk = Walk {
            run: self.run.id,
            meant: &self.run.meant,
            primary: &self.doors.primary,
            shadow: &self.doors.shadow,
            gate: &self.run.gate,
            limits: Limits {
                range_rows: limits.range_rows,
                range_bytes: limits.range_bytes,
                settle: limits.settle,
                patience: limits.patience,
                differences: limits.differences_max,
            },
            board: (&self.run.board, self.at),
            book: &kept,
            tells_keys: self.parts.tells_keys,
        };
        if plan.way == Way::Buckets {
            return self.heap(&walk, &places).await;
        }
        self.walked(&walk, places).await
    }

    async fn walked<'b>(&self, walk: &'b Walk<'b>, places: Places<'b>) -> Result<(), Ended> {
        let plan = places.primary.plan;
        let cursor = self
            .left
            .and_then(cursor_of)
            .filter(|cursor| cursor.fits(plan));
        let cursor = cursor.unwrap_or_else(|| Cursor::start(plan));
        let mut walker = Walker::new(walk, places.clone(), cursor);
        let walked = walker.run().await;
        let cursor = walker.cursor().clone();
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
        if let Err(Ended::Stopped(stopped)) = walked {
            return Err(Ended::Stopped(stopped));
        }
        if self.run.meant.repair != Repair::None {
            self.repair(walk, &places, walker).await?;
        }
        walked
    }

    async fn heap(&self, walk: &Walk<'_>, places: &Places<'_>) -> Result<(), Ended> {
        let mut failing: Option<Instant> = None;
        let found = loop {
            match heap::compare(walk, places).await {
                Ok(found) => break found,
                Err(Broke::Stopped(stopped)) => return Err(Ended::Stopped(stopped)),
                Err(Broke::Read(fault)) => {
                    let since = *failing.get_or_insert_with(Instant::now);
                    if !fault.may_pass() || since.elapsed() >= walk.limits.patience {
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
        Ok(())
    }

    /// Both definitions, and how the rows are to be compared.
    async fn definition(&self, table: &Table) -> Result<Known, ReadError> {
        let database = table.database.as_deref().unwrap_or_default();
        let there = on_shadow(self.parts, database);
        let mut primary = self.doors.primary.open().await?;
        let mut shadow = self.doors.shadow.open().await?;
        let mine = catalog::shape(&mut primary, database, &table.name).await?;
        let theirs = catalog::shape(&mut shadow, there, &table.name).await?;
        let nothing = Known {
            plan: None,
            sharded: false,
            routed: false,
            indexed: true,
        };
        let (mine, theirs) = match (mine, theirs) {
            (Some(mine), Some(theirs)) => (mine, theirs),
            (None, _) => {
                let gone = format!("the table is not there any more on {}", self.run.servers.0);
                self.set(|one| one.not_covered = vec![gone]);
                return Ok(nothing);
            }
            (Some(_), None) => {
                let said = format!("the table is missing on {}", self.run.servers.1);
                let differs = Difference {
                    weight: Weight::Differs,
                    what: "table".to_owned(),
                    said,
                };
                self.set(|one| {
                    one.schema = vec![differs];
                    one.not_covered = vec!["its rows".to_owned()];
                });
                return Ok(nothing);
            }
        };
        let (sequence, note) = self
            .sequence(&mut primary, &mut shadow, table, &mine, &theirs)
            .await?;
        let sides = Sides {
            primary: &self.run.servers.0,
            shadow: &self.run.servers.1,
            sequence,
        };
        let mut differences = compare(&mine, &theirs, sides);
        differences.extend(note);
        self.set(|one| one.schema = differences);
        let plan = plan(&mine, &theirs);
        let Some(planned) = &plan else {
            self.set(|one| {
                one.not_covered = vec!["its rows: both sides have no column in common".to_owned()]
            });
            return Ok(nothing);
        };
        let sharded = self.sharded.contains(there);
        let by = if sharded {
            catalog::spread_by(&mut shadow, there, &table.name).await?
        } else {
            Vec::new()
        };
        let key: Vec<&str> = planned
            .key
            .iter()
            .filter_map(|at| planned.columns.get(*at))
            .map(|column| column.on_shadow.as_str())
            .collect();
        let is_of_key = |name: &String| key.iter().any(|one| one.eq_ignore_ascii_case(name));
        let leads = |index: &Index| {
            let first = index.columns.first();
            first.is_some_and(|(name, _)| {
                key.first()
                    .is_some_and(|one| one.eq_ignore_ascii_case(name))
            })
        };
        Ok(Known {
            sharded,
            routed: sharded && !by.is_empty() && by.iter().all(is_of_key),
            indexed: key.is_empty() || theirs.indexes.iter().any(leads),
            plan,
        })
    }

    /// Whether a sequence fills the table's counted column on the shadow, and what is to be said of it.
    async fn sequence(
        &self,
        primary: &mut Reader,
        shadow: &mut Reader,
        table: &Table,
        mine: &Shape,
        theirs: &Shape,
    ) -> Result<(bool, Option<Difference>), ReadError> {
        let Some(counted) = mine.columns.iter().find(|column| column.is_counted()) else {
            return Ok((false, None));
        };
        let there = on_shadow(self.parts, table.database.as_deref().unwrap_or_default());
        let name = catalog::sequence_of(shadow, there, &table.name, theirs, &counted.name).await?;
        let Some(name) = name else {
            return Ok((false, None));
        };
        let next = catalog::sequence_next(shadow, &name).await?;
        let greatest = catalog::greatest(primary, table, &counted.name)
            .await?
            .unwrap_or(0);
        let note = next.filter(|next| *next <= greatest).map(|next| Difference {
            weight: Weight::Note,
            what: "sequence".to_owned(),
            said: format!(
                "the sequence {name} of {} stands at {next}, and {} has keys up to {greatest}: the mirror writes keys without drawing them, and a cutover takes the sequence past them",
                self.run.servers.1, self.run.servers.0
            ),
        });
        Ok((true, note))
    }
}

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

//! One table, from its beginning (or its cursor) to its end.
//!
//! By ranges: the primary's next rows, in its order; the shadow's rows of the same range, in none; while the
//! next range is being read on the primary. By lookups: the primary's next rows, each looked up on the shadow;
//! then the shadow's keys in the shadow's order, each looked up on the primary. What looks different is
//! collected, and settled beside the walk (`batch`); the cursor moves past it once it is. A fault that may pass has
//! it wait and read the same range once more. How a range is read stands in `range`.
//!
//! In snapshot mode a pair of views shows both servers at one instant: a range is read in one of them, and what looks
//! different in it is settled there, at once. Where the view is lost on the way, the range is read in another one.
//!
//! What is collected is bounded: a range in which too much looks different is read again in smaller ones, and where
//! that does not help, what was met is settled and the table is left with those words.

use super::batch::{Batch, Looked};
use super::behind::Behind;
use super::board::{Board, Found, Stage};
use super::cursor::Cursor;
use super::gate::{Gate, Stopped};
use super::instants::Instants;
use super::lap::Lap;
use super::plan::Plan;
use super::range::Ahead;
use super::reader::{Door, ReadError};
use super::rows::{Key, Suspect};
use super::settle::{Broke, Differs, Pair, Places, Settled, settle_at_once};
use super::wish::{Meant, Repair};
use std::time::Duration;
use tokio::time::Instant;

/// Ranges of a table that may be read again because too much looked different in them.
const CROWDS_MAX: u32 = 8;

/// A cursor is kept no more often.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// The first pause after a fault that may pass, and the longest.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Rows of the first range at least, where a range may have so many.
const RANGE_ROWS_MIN: u64 = 50;

/// Where a walk rests between its ranges, one takes about so long: a transaction that is under way meanwhile is held up
/// for no longer, and short rests behind short ranges cost nothing but a few round trips.
const RANGE_TIME: Duration = Duration::from_millis(10);

const RESTLESS: &str = "so many rows did not stay the same for long enough to be judged that the rest of the table was not read";

const CROWDED: &str = "so many rows looked different at once that not all of them could be looked at one by one: the rest of the table was not read";

/// The limits of a walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Rows of a range at most.
    pub(super) range_rows: u64,
    /// Bytes of a range, roughly.
    pub(super) range_bytes: u64,
    /// How long what looks different is looked at again.
    pub(super) settle: Duration,
    /// How long a view is of use.
    pub(super) snapshot: Duration,
    /// How long a server that is gone is waited for.
    pub(super) patience: Duration,
    /// Differences after which a table is left.
    pub(super) differences: u64,
}

/// Where cursors and differences are kept.
pub(super) trait Book: Send + Sync {
    /// Everything before this cursor is done.
    fn keep(&self, cursor: &Cursor);
    /// These rows differ.
    fn found(&self, rows: &[Found]);
}

/// What a walk is of.
pub(super) struct Walk<'a> {
    /// The run's number.
    pub(super) run: i64,
    /// What was asked for.
    pub(super) meant: &'a Meant,
    /// The ways to both servers.
    pub(super) primary: &'a Door,
    /// See `primary`.
    pub(super) shadow: &'a Door,
    /// Where instants are had, in which both are compared; none where each is read as it is by then.
    pub(super) instants: Option<&'a Instants<'a>>,
    /// When it may go on.
    pub(super) gate: &'a Gate,
    /// Its limits.
    pub(super) limits: Limits,
    /// Where it stands is told here, of the table at this place.
    pub(super) board: (&'a Board, usize),
    /// Where it is kept.
    pub(super) book: &'a dyn Book,
    /// The ledger keeps literals: keys are told.
    pub(super) tells_keys: bool,
}

impl Walk<'_> {
    /// Connections to both servers, each of which shows what it has by now.
    ///
    /// # Errors
    /// One cannot be had.
    pub(super) async fn pair(&self) -> Result<Pair, ReadError> {
        Ok(Pair {
            primary: self.primary.open().await?,
            shadow: self.shadow.open().await?,
            view: None,
        })
    }
}

/// How a walk ended, where it did not come to its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// It is to end.
    Stopped(Stopped),
    /// A server could not be read.
    Fault(ReadError),
    /// It was left, for so much differs.
    TooMany,
    /// It was not read, or not to its end, and why.
    Unread(String),
}

/// The walk, under way.
pub(super) struct Walker<'a> {
    pub(super) of: &'a Walk<'a>,
    pub(super) places: Places<'a>,
    pub(super) plan: &'a Plan,
    pub(super) pair: Option<Pair>,
    pub(super) cursor: Cursor,
    /// The key behind which it goes on: the cursor is behind, while suspects wait.
    pub(super) after: Option<Key>,
    pub(super) pass: u8,
    pub(super) ahead: Option<Ahead>,
    pub(super) range_rows: u64,
    behind: Behind<'a>,
    /// The connections by which some were looked at again, the last time.
    spare: Option<Pair>,
    kept: Instant,
    /// Ranges in which too much looked different.
    crowds: u32,
    /// What waits is settled, and then the table is left.
    crowded: bool,
    /// Whether it goes on.
    pub(super) lap: Lap,
    /// It cannot go on, and why.
    pub(super) unread: Option<String>,
    /// Every row that stays different, where they are to be repaired.
    pub(super) different: Vec<Differs>,
    pub(super) done: bool,
}

/// Where a walk stood before a range.
struct Mark {
    cursor: Cursor,
    after: Option<Key>,
    pass: u8,
    lap: Lap,
    done: bool,
}

impl<'a> Walker<'a> {
    /// A walk from this cursor on.
    #[must_use]
    pub(super) fn new(of: &'a Walk<'a>, places: Places<'a>, cursor: Cursor) -> Self {
        let plan = places.primary.plan;
        let after = cursor.after(plan);
        Self {
            of,
            plan,
            pair: None,
            pass: cursor.pass,
            after,
            cursor,
            ahead: None,
            range_rows: RANGE_ROWS_MIN
                .max(of.limits.range_rows / 4)
                .min(of.limits.range_rows.max(1)),
            lap: Lap::default(),
            unread: None,
            behind: Behind::default(),
            spare: None,
            kept: Instant::now(),
            crowds: 0,
            crowded: false,
            different: Vec::new(),
            done: false,
            places,
        }
    }

    /// How far it has come.
    #[must_use]
    pub(super) const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Walks to the end.
    ///
    /// # Errors
    /// It did not come there.
    pub(super) async fn run(&mut self) -> Result<(), Ended> {
        let (mut failing, mut pause): (Option<Instant>, _) = (None, RETRY);
        while !self.done || !self.behind.is_nothing() {
            let gate = self.of.gate;
            // It only reads: it may be dropped in its midst.
            let went = Box::pin(gate.unless_stopped(self.go_on())).await;
            match went.map_err(Ended::Stopped)? {
                Ok(()) => {
                    (failing, pause) = (None, RETRY);
                    if self.cursor.differences.sum() > self.of.limits.differences {
                        return Err(Ended::TooMany);
                    }
                    // Each of them takes as long as settling may.
                    if self.cursor.unsettled > self.of.limits.differences {
                        return Err(Ended::Unread(RESTLESS.to_owned()));
                    }
                    if let Some(why) = self.unread.take() {
                        return Err(Ended::Unread(why));
                    }
                    if self.crowded && self.behind.is_nothing() {
                        return Err(Ended::Unread(CROWDED.to_owned()));
                    }
                }
                Err(Broke::Stopped(stopped)) => return Err(Ended::Stopped(stopped)),
                Err(Broke::NoInstant(why)) => return Err(Ended::Unread(why)),
                Err(Broke::Read(fault)) => {
                    // What a connection had under way is not trusted any more.
                    self.pair = None;
                    self.ahead = None;
                    let since = *failing.get_or_insert_with(Instant::now);
                    let may_pass = match self.of.instants {
                        Some(_) => fault.ends_view(),
                        None => fault.may_pass(),
                    };
                    if !may_pass || since.elapsed() >= self.of.limits.patience {
                        return Err(Ended::Fault(fault));
                    }
                    self.of.gate.say(Some(fault.to_string()));
                    self.of.gate.sleep(pause).await.map_err(Ended::Stopped)?;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
        Ok(())
    }

    /// The next range, while what looked different before is looked at again; where there is none, or no room for what
    /// it may bring, that alone.
    async fn go_on(&mut self) -> Result<(), Broke> {
        if let Some(instants) = self.of.instants {
            return Box::pin(self.go_on_in(instants)).await;
        }
        if self.behind.is_due(self.ends()) {
            let batch = self.look_again();
            self.behind.look(Box::new(batch));
        }
        let Some(mut looking) = self.behind.lend() else {
            return self.read_on().await;
        };
        // What it took made room.
        let went = if self.ends() || self.behind.is_full() {
            let (board, at) = self.of.board;
            board.set(at, |one| one.stage = Stage::Settling);
            looking.looks_on().await;
            Ok(())
        } else {
            Box::pin(looking.beside(self.read_on())).await
        };
        match looking.outcome() {
            Some(looked) => {
                self.behind.looked();
                self.take_in(looked)?;
            }
            None => self.behind.look(looking),
        }
        went
    }

    /// No more is read: what waits is settled, and that is all.
    const fn ends(&self) -> bool {
        self.done || self.crowded
    }

    async fn read_on(&mut self) -> Result<(), Broke> {
        self.of.gate.pass().await?;
        let began = Instant::now();
        let rows = self.step().await?;
        let worked = began.elapsed();
        self.keep();
        self.fit_time(rows, worked);
        self.of.gate.rest(rows, worked).await?;
        Ok(())
    }

    /// The next range, in one instant with all that is to be said of it.
    async fn go_on_in(&mut self, instants: &Instants<'_>) -> Result<(), Broke> {
        // No view is kept open while it waits.
        let pair = &mut self.pair;
        let lets_go = || {
            *pair = None;
            instants.let_go();
        };
        self.of.gate.pass_or(lets_go).await?;
        if !self.pair.as_ref().is_some_and(Pair::is_in_time) {
            self.ahead = None;
            let had = self.pair.take();
            let pair = self
                .pair
                .insert(instants.pair(self.places.table, had).await?);
            pair.must_show(self.places.databases())?;
        }
        let (began, mark) = (Instant::now(), self.mark());
        let rows = match self.step_at_once().await {
            Ok(rows) => rows,
            Err(broke) => {
                if self.pair.is_some() && matches!(&broke, Broke::Read(fault) if fault.ends_view())
                {
                    instants.lost();
                }
                self.go_back(mark);
                return Err(broke);
            }
        };
        // What was read was read in the view. Where that is gone by now, the next range has another one.
        if let Some(pair) = &mut self.pair
            && pair.release().await.is_err()
        {
            instants.lost();
            self.pair = None;
        }
        let worked = began.elapsed();
        self.keep();
        self.fit_time(rows, worked);
        self.rest_in(instants, self.of.gate.owes(rows, worked))
            .await
    }

    /// Rests. A view that is of no use behind it is not kept open for it.
    async fn rest_in(&mut self, instants: &Instants<'_>, rest: Duration) -> Result<(), Broke> {
        let behind = Instant::now() + rest;
        if let Some(pair) = &mut self.pair
            && pair.until().is_some_and(|until| until <= behind)
            && pair.end().await.is_err()
        {
            self.pair = None;
        }
        let pair = &mut self.pair;
        let lets_go = || {
            *pair = None;
            instants.let_go();
        };
        Ok(self.of.gate.rest_for(rest, lets_go).await?)
    }

    async fn step_at_once(&mut self) -> Result<u64, Broke> {
        let rows = self.step().await?;
        if self.behind.waits() {
            let suspects = self.behind.all();
            let (places, enough) = (self.places.clone(), self.of.limits.differences);
            let pair = self.pair().await?;
            let settled = settle_at_once(pair, &places, suspects, enough).await?;
            self.take_settled(settled);
            self.keep_now();
            self.show();
        }
        Ok(rows)
    }

    fn mark(&self) -> Mark {
        Mark {
            cursor: self.cursor.clone(),
            after: self.after.clone(),
            pass: self.pass,
            lap: self.lap.clone(),
            done: self.done,
        }
    }

    /// Nothing was read since.
    fn go_back(&mut self, mark: Mark) {
        self.behind.all();
        self.unread = None;
        self.cursor = mark.cursor;
        self.after = mark.after;
        self.pass = mark.pass;
        self.lap = mark.lap;
        self.done = mark.done;
    }

    pub(super) async fn pair(&mut self) -> Result<&mut Pair, Broke> {
        let pair = match (self.pair.take(), self.of.instants) {
            (Some(pair), _) => pair,
            (None, Some(instants)) => instants.pair(self.places.table, None).await?,
            (None, None) => self.of.pair().await?,
        };
        Ok(self.pair.insert(pair))
    }

    pub(super) fn suspect(&mut self, suspects: Vec<Suspect>) {
        self.behind.add(suspects);
    }

    /// So much looked different in a range that its rest was not read: it is read again in smaller ones, or it is
    /// the table's last.
    pub(super) fn crowd(&mut self, met: Vec<Suspect>) {
        // There are rows on the way that nobody takes.
        self.pair = None;
        self.ahead = None;
        self.crowds += 1;
        if self.range_rows > 1 && self.crowds <= CROWDS_MAX {
            self.range_rows = (self.range_rows / 8).max(1);
        } else {
            self.crowded = true;
            self.suspect(met);
        }
    }

    /// So many rows that a range has about as many bytes as it may.
    pub(super) fn fit(&mut self, rows: u64, bytes: u64) {
        let of_one = bytes.checked_div(rows).unwrap_or(0).max(1);
        let fitting = self.of.limits.range_bytes / of_one;
        let most = self
            .of
            .limits
            .range_rows
            .min(self.range_rows.saturating_mul(2));
        self.range_rows = fitting.clamp(1, most.max(1));
    }

    /// So many rows that a range takes about as long as it may. `rows` are both servers'.
    fn fit_time(&mut self, rows: u64, worked: Duration) {
        if self.of.gate.share() < 1.0 {
            self.range_rows = self.range_rows.min(rows_in_time(rows / 2, worked));
        }
    }

    /// Some suspects, which are taken out of what waits.
    fn look_again(&mut self) -> Batch<'a> {
        let suspects = self.behind.some();
        let all = self.behind.is_nothing() && !self.ends();
        let behind = all.then(|| self.cursor_now());
        // Where the walk has ended its own connections are free.
        let free = self.ends();
        let pair = self.spare.take();
        let pair = pair.or_else(|| self.pair.take_if(|_| free));
        Batch::new((self.of, self.places.clone()), suspects, pair, behind)
    }

    /// What became of them.
    fn take_in(&mut self, looked: Looked) -> Result<(), Broke> {
        let settled = match looked.became {
            Ok(settled) => settled,
            Err((broke, suspects)) => {
                self.behind.again(suspects);
                return Err(broke);
            }
        };
        self.spare = looked.pair;
        self.take_settled(settled);
        if self.behind.is_nothing() && !self.crowded {
            self.keep_now();
        } else if let Some(mut behind) = looked.behind {
            // Since it stood there nothing else was settled.
            behind.differences = self.cursor.differences.clone();
            behind.settled = self.cursor.settled;
            behind.unsettled = self.cursor.unsettled;
            self.of.book.keep(&behind);
            self.kept = Instant::now();
        }
        self.show();
        Ok(())
    }

    fn take_settled(&mut self, settled: Settled) {
        let (board, at) = self.of.board;
        self.cursor.settled += settled.same;
        self.cursor.unsettled += settled.unsettled;
        for one in &settled.different {
            self.cursor.differences.add(one.how, 1);
        }
        let told = settled.different.iter().take(board.room(at));
        let told: Vec<Found> = told.map(|one| self.told(one)).collect();
        self.of.book.found(&told);
        if self.of.meant.repair != Repair::None {
            // The values of so many are told, and no others are kept.
            let room = told.len();
            let rows = settled.different.into_iter().enumerate();
            let kept = rows.map(|(nth, one)| {
                if nth < room {
                    one
                } else {
                    one.without_values()
                }
            });
            self.different.extend(kept);
        }
        board.set(at, |one| {
            one.stage = Stage::Walking;
            one.rows.extend(told);
            one.why = settled.why;
        });
    }

    fn told(&self, one: &Differs) -> Found {
        let [primary, shadow] = &one.values;
        let columns = one
            .columns
            .iter()
            .filter_map(|at| self.plan.columns.get(*at));
        Found {
            how: one.how.name().to_owned(),
            key: self.of.tells_keys.then(|| self.places.primary.is(&one.key)),
            columns: columns.map(|column| column.name.clone()).collect(),
            primary: primary.clone(),
            shadow: shadow.clone(),
            repair: None,
            repaired: None,
        }
    }

    fn keep(&mut self) {
        if self.kept.elapsed() >= KEEP_EVERY {
            self.keep_now();
        }
        self.show();
    }

    /// Keeps a cursor where the walk stands, if one may stand there.
    fn keep_now(&mut self) {
        if self.ends() {
            // There is no key behind the last one: a cursor without one would begin anew.
            return;
        }
        let Some(cursor) = self.behind.cursor(self.cursor_now()) else {
            return;
        };
        self.cursor = cursor;
        self.of.book.keep(&self.cursor);
        self.kept = Instant::now();
        self.show();
    }

    /// A cursor where the walk stands now.
    fn cursor_now(&self) -> Cursor {
        let mut cursor = self.cursor.clone();
        cursor.pass = self.pass;
        cursor.set_after(self.after.as_ref());
        cursor
    }

    fn show(&self) {
        let (board, at) = self.of.board;
        board.set(at, |one| {
            one.rows_primary = self.cursor.rows_primary;
            one.rows_shadow = self.cursor.rows_shadow;
            one.differences = self.cursor.differences.clone();
            one.unsettled = self.cursor.unsettled;
            one.settled = self.cursor.settled;
        });
    }
}

/// Of `rows` that took so long, as many as may be read at a time between two rests.
fn rows_in_time(rows: u64, worked: Duration) -> u64 {
    let a_row = worked.as_nanos() / u128::from(rows.max(1));
    let rows = RANGE_TIME.as_nanos() / a_row.max(1);
    u64::try_from(rows).unwrap_or(u64::MAX).max(RANGE_ROWS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_between_rests_is_as_long_as_it_may_be() {
        let rows = |rows, ms| rows_in_time(rows, Duration::from_millis(ms));
        assert_eq!(rows(2000, 80), 250);
        assert_eq!(rows(250, 10), 250);
        // It grows again where rows take less time.
        assert_eq!(rows(250, 5), 500);
        // What a range costs by itself would be all that there is of it.
        assert_eq!(rows(50, 2000), RANGE_ROWS_MIN);
        assert_eq!(rows(0, 3), RANGE_ROWS_MIN);
        assert_eq!(rows(1, 0), 10_000_000);
    }
}

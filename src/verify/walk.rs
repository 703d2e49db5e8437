//! One table, from its beginning (or its cursor) to its end.
//!
//! By ranges: the primary's next rows, in its order; the shadow's rows of the same range, in none; while the
//! next range is being read on the primary. By lookups: the primary's next rows, each looked up on the shadow;
//! then the shadow's keys in the shadow's order, each looked up on the primary. What looks different is
//! collected and settled before the cursor moves past it. A fault that may pass has it wait and read the same
//! range once more.

use super::board::{Board, EXAMPLES_MAX, Found, Stage};
use super::cursor::Cursor;
use super::gate::{Gate, Stopped};
use super::plan::{Plan, Way};
use super::reader::{Door, ReadError, Reader};
use super::rows::{How, Key, Range, Row, Suspect, key_alone};
use super::settle::{Broke, Differs, KEYS_MAX, Pair, Places, settle};
use super::statements::Place;
use super::wish::Meant;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// Suspects that are collected before they are settled.
const SUSPECTS_MAX: usize = 500;

/// They are not kept waiting for longer.
const SUSPECTS_WAIT: Duration = Duration::from_secs(10);

/// A cursor is kept no more often.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// The first pause after a fault that may pass, and the longest.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Rows of a range at least.
const RANGE_ROWS_MIN: u64 = 50;

/// The limits of a walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Rows of a range at most.
    pub(super) range_rows: u64,
    /// Bytes of a range, roughly.
    pub(super) range_bytes: u64,
    /// How long what looks different is looked at again.
    pub(super) settle: Duration,
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

/// How a walk ended, where it did not come to its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// It is to end.
    Stopped(Stopped),
    /// A server could not be read.
    Fault(ReadError),
    /// It was left, for so much differs.
    TooMany,
}

/// The walk, under way.
pub(super) struct Walker<'a> {
    of: &'a Walk<'a>,
    places: Places<'a>,
    plan: &'a Plan,
    pair: Option<Pair>,
    cursor: Cursor,
    /// The key behind which it goes on: the cursor is behind, while suspects wait.
    after: Option<Key>,
    pass: u8,
    ahead: Option<Ahead>,
    range_rows: u64,
    suspects: Vec<Suspect>,
    since: Instant,
    kept: Instant,
    /// Every row that stays different.
    pub(super) different: Vec<Differs>,
    done: bool,
}

/// The primary's next rows.
struct Ahead {
    from: Option<Key>,
    rows: Vec<Row>,
    /// The last key; none where these are the last rows.
    to: Option<Key>,
    bytes: u64,
}

impl<'a> Walker<'a> {
    /// A walk from this cursor on.
    #[must_use]
    pub(super) fn new(of: &'a Walk<'a>, places: Places<'a>, cursor: Cursor) -> Self {
        let plan = places.primary.plan;
        let now = Instant::now();
        let after = cursor.after(plan);
        Self {
            of,
            plan,
            pair: None,
            pass: cursor.pass,
            after,
            cursor,
            ahead: None,
            range_rows: RANGE_ROWS_MIN.max(of.limits.range_rows / 4),
            suspects: Vec::new(),
            since: now,
            kept: now,
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
        while !self.done || !self.suspects.is_empty() {
            match self.go_on().await {
                Ok(()) => {
                    (failing, pause) = (None, RETRY);
                    if self.cursor.differences.sum() > self.of.limits.differences {
                        return Err(Ended::TooMany);
                    }
                }
                Err(Broke::Stopped(stopped)) => return Err(Ended::Stopped(stopped)),
                Err(Broke::Read(fault)) => {
                    // What a connection had under way is not trusted any more.
                    self.pair = None;
                    self.ahead = None;
                    let since = *failing.get_or_insert_with(Instant::now);
                    if !fault.may_pass() || since.elapsed() >= self.of.limits.patience {
                        return Err(Ended::Fault(fault));
                    }
                    self.of.gate.say(Some(fault.to_string()));
                    self.of.gate.sleep(pause).await.map_err(Ended::Stopped)?;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
        self.of.book.keep(&self.cursor);
        Ok(())
    }

    async fn go_on(&mut self) -> Result<(), Broke> {
        self.of.gate.pass().await?;
        let waited = self.since.elapsed() >= SUSPECTS_WAIT;
        let full = self.suspects.len() >= SUSPECTS_MAX;
        if !self.suspects.is_empty() && (self.done || full || waited) {
            return self.settle().await;
        }
        let began = Instant::now();
        let rows = self.step().await?;
        let worked = began.elapsed();
        self.keep();
        self.of.gate.rest(rows, worked).await?;
        Ok(())
    }

    async fn pair(&mut self) -> Result<&mut Pair, Broke> {
        let pair = match self.pair.take() {
            Some(pair) => pair,
            None => Pair {
                primary: self.of.primary.open().await?,
                shadow: self.of.shadow.open().await?,
            },
        };
        Ok(self.pair.insert(pair))
    }

    /// The next range; how many rows were read.
    async fn step(&mut self) -> Result<u64, Broke> {
        self.pair().await?;
        match (self.plan.way, self.pass) {
            (Way::Ranges | Way::Lookups, 0) => self.primary_range().await,
            (Way::Lookups, 1) => self.shadow_keys().await,
            _ => {
                self.done = true;
                Ok(0)
            }
        }
    }

    /// Goes on behind this key; where there is none, this pass is done.
    fn move_to(&mut self, to: Option<Key>) {
        self.cursor.ranges += 1;
        let last = u8::from(self.plan.way == Way::Lookups);
        if to.is_none() {
            if self.pass >= last {
                self.done = true;
            } else {
                self.pass += 1;
            }
        }
        self.after = to;
    }

    async fn skip(&mut self, side: Side) -> Result<u64, Broke> {
        let (from, rows, plan) = (self.after.clone(), self.range_rows, self.plan);
        let place = self.place(side).clone();
        let pair = self.pair().await?;
        let end = end_of_next(side.reader(pair), &place, plan, from.as_ref(), rows).await?;
        self.cursor.skipped += 1;
        self.move_to(end);
        Ok(1)
    }

    const fn place(&self, side: Side) -> &Place<'a> {
        match side {
            Side::Primary => &self.places.primary,
            Side::Shadow => &self.places.shadow,
        }
    }

    fn is_sampled(&self) -> bool {
        let range = self.cursor.ranges;
        self.of.meant.samples(self.of.run, self.places.table, range)
    }

    async fn primary_range(&mut self) -> Result<u64, Broke> {
        if !self.is_sampled() {
            self.ahead = None;
            return self.skip(Side::Primary).await;
        }
        let (from, rows) = (self.after.clone(), self.range_rows);
        let ahead = self.ahead.take().filter(|ahead| ahead.from == from);
        let place = self.places.primary.clone();
        let pair = self.pair().await?;
        let now = match ahead {
            Some(ahead) => ahead,
            None => read_ahead(&mut pair.primary, &place, from, rows).await?,
        };
        let (to, read, bytes) = (now.to.clone(), now.rows.len() as u64, now.bytes);
        let mut range = Range::of(now.rows);
        let keys = range.keys();
        let is_sampling = self.of.meant.sample < 1.0;
        let next = to.clone().filter(|_| !is_sampling);
        let places = self.places.clone();
        let by_range = self.plan.way == Way::Ranges;
        let Some(pair) = self.pair.as_mut() else {
            return Ok(0);
        };
        let met = async {
            if by_range {
                let ask = places.shadow.range(now.from.as_ref(), to.as_ref());
                meet(&mut pair.shadow, &places, &ask, &mut range, false).await
            } else {
                look_up(&mut pair.shadow, &places, &keys, &mut range).await
            }
        };
        let prefetched = async {
            match next {
                Some(from) => read_ahead(&mut pair.primary, &place, Some(from), rows)
                    .await
                    .map(Some),
                None => Ok(None),
            }
        };
        let (met, prefetched) = tokio::join!(met, prefetched);
        let (mut suspects, on_shadow) = met?;
        suspects.extend(range.missing());
        if by_range && places.sharded && places.routed {
            suspects.extend(misplaced(&mut pair.shadow, &places, &keys).await?);
        }
        self.ahead = prefetched?;
        self.suspect(suspects);
        self.cursor.rows_primary += read;
        self.cursor.rows_shadow += on_shadow;
        self.fit(read, bytes);
        self.move_to(to);
        Ok(read + on_shadow)
    }

    /// The shadow's next keys, in its own order: those that the primary lacks, and those that are there twice.
    async fn shadow_keys(&mut self) -> Result<u64, Broke> {
        if !self.is_sampled() {
            return self.skip(Side::Shadow).await;
        }
        let (from, rows, plan) = (self.after.clone(), self.range_rows, self.plan);
        let places = self.places.clone();
        let pair = self.pair().await?;
        let (mut keys, mut suspects): (Vec<Key>, Vec<Suspect>) = (Vec::new(), Vec::new());
        pair.shadow
            .ask(&places.shadow.next_keys(from.as_ref(), rows))
            .await?;
        while let Some(cells) = pair.shadow.next().await? {
            keys.push(key_alone(plan, &cells));
        }
        let read = keys.len() as u64;
        let to = keys.last().cloned().filter(|_| read == rows);
        if let Some(last) = &to {
            // On other shards there may be rows that the collation takes for this one: the next range
            // begins behind them.
            let ask = places.shadow.lookup_keys(std::slice::from_ref(last));
            pair.shadow.ask(&ask).await?;
            let mut found: Vec<Key> = Vec::new();
            while let Some(cells) = pair.shadow.next().await? {
                found.push(key_alone(plan, &cells));
            }
            let mut met = HashSet::new();
            for key in found {
                if !met.insert(key.canonical.clone()) {
                    suspects.push(Suspect {
                        key: key.clone(),
                        how: How::Twice,
                    });
                }
                if !keys.iter().any(|one| one.canonical == key.canonical) {
                    keys.push(key);
                }
            }
        }
        let mut seen = HashSet::new();
        for key in &keys {
            if !seen.insert(key.canonical.clone()) {
                suspects.push(Suspect {
                    key: key.clone(),
                    how: How::Twice,
                });
            }
        }
        let mut known = HashSet::new();
        for some in keys.chunks(KEYS_MAX) {
            pair.primary.ask(&places.primary.lookup_keys(some)).await?;
            while let Some(cells) = pair.primary.next().await? {
                known.insert(key_alone(plan, &cells).canonical);
            }
        }
        for key in keys {
            if !known.contains(&key.canonical) {
                suspects.push(Suspect {
                    key,
                    how: How::Extra,
                });
            }
        }
        self.suspect(suspects);
        self.cursor.rows_shadow += read;
        self.move_to(to);
        Ok(read)
    }

    fn suspect(&mut self, suspects: Vec<Suspect>) {
        if self.suspects.is_empty() {
            self.since = Instant::now();
        }
        self.suspects.extend(suspects);
    }

    /// So many rows that a range has about as many bytes as it may.
    fn fit(&mut self, rows: u64, bytes: u64) {
        let of_one = bytes.checked_div(rows).unwrap_or(0).max(1);
        let fitting = self.of.limits.range_bytes / of_one;
        let most = self
            .of
            .limits
            .range_rows
            .min(self.range_rows.saturating_mul(2));
        self.range_rows = fitting.clamp(1, most.max(1));
    }

    async fn settle(&mut self) -> Result<(), Broke> {
        let (board, at) = self.of.board;
        board.set(at, |one| one.stage = Stage::Settling);
        let suspects = self.suspects.clone();
        let (places, gate, at_most) = (self.places.clone(), self.of.gate, self.of.limits.settle);
        let pair = self.pair().await?;
        let settled = settle(pair, &places, gate, suspects, at_most).await?;
        self.suspects.clear();
        self.cursor.settled += settled.same;
        self.cursor.unsettled += settled.unsettled;
        for one in &settled.different {
            self.cursor.differences.add(one.how, 1);
        }
        let room = EXAMPLES_MAX.saturating_sub(self.different.len());
        let told: Vec<Found> = settled
            .different
            .iter()
            .take(room)
            .map(|one| self.told(one))
            .collect();
        self.of.book.found(&told);
        self.different.extend(settled.different);
        board.set(at, |one| {
            one.stage = Stage::Walking;
            one.rows.extend(told);
            one.why = settled.why;
        });
        self.keep_now();
        Ok(())
    }

    fn told(&self, one: &Differs) -> Found {
        let columns = one
            .columns
            .iter()
            .filter_map(|at| self.plan.columns.get(*at));
        Found {
            how: one.how.name().to_owned(),
            key: self.of.tells_keys.then(|| self.places.primary.is(&one.key)),
            columns: columns.map(|column| column.name.clone()).collect(),
            repair: None,
            repaired: None,
        }
    }

    fn keep(&mut self) {
        if self.suspects.is_empty() && self.kept.elapsed() >= KEEP_EVERY {
            self.keep_now();
        }
        self.show();
    }

    fn keep_now(&mut self) {
        self.cursor.pass = self.pass;
        self.cursor.set_after(self.after.as_ref());
        self.of.book.keep(&self.cursor);
        self.kept = Instant::now();
        self.show();
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

#[derive(Clone, Copy)]
enum Side {
    Primary,
    Shadow,
}

impl Side {
    const fn reader(self, pair: &mut Pair) -> &mut Reader {
        match self {
            Self::Primary => &mut pair.primary,
            Self::Shadow => &mut pair.shadow,
        }
    }
}

async fn end_of_next(
    reader: &mut Reader,
    place: &Place<'_>,
    plan: &Plan,
    from: Option<&Key>,
    rows: u64,
) -> Result<Option<Key>, ReadError> {
    reader.ask(&place.end_of_next(from, rows)).await?;
    let mut end = None;
    while let Some(cells) = reader.next().await? {
        end = Some(key_alone(plan, &cells));
    }
    Ok(end)
}

async fn read_ahead(
    reader: &mut Reader,
    place: &Place<'_>,
    from: Option<Key>,
    most: u64,
) -> Result<Ahead, ReadError> {
    let (mut rows, mut bytes, mut buffer) = (Vec::new(), 0, Vec::new());
    reader.ask(&place.next(from.as_ref(), most)).await?;
    while let Some(cells) = reader.next().await? {
        let row = Row::read(place.plan, &cells, &mut buffer);
        bytes += row.bytes as u64;
        rows.push(row);
    }
    let is_full = rows.len() as u64 >= most;
    let to = rows.last().map(|row| row.key.clone()).filter(|_| is_full);
    Ok(Ahead {
        from,
        rows,
        to,
        bytes,
    })
}

/// Holds the shadow's rows against the range: the suspects among them, and how many there were.
async fn meet(
    shadow: &mut Reader,
    places: &Places<'_>,
    ask: &str,
    range: &mut Range,
    known_alone: bool,
) -> Result<(Vec<Suspect>, u64), ReadError> {
    let (mut suspects, mut rows, mut buffer) = (Vec::new(), 0, Vec::new());
    shadow.ask(ask).await?;
    while let Some(cells) = shadow.next().await? {
        rows += 1;
        let row = Row::read(places.shadow.plan, &cells, &mut buffer);
        suspects.extend(if known_alone {
            range.meet_if_known(row)
        } else {
            range.meet(row)
        });
    }
    Ok((suspects, rows))
}

async fn look_up(
    shadow: &mut Reader,
    places: &Places<'_>,
    keys: &[Key],
    range: &mut Range,
) -> Result<(Vec<Suspect>, u64), ReadError> {
    let (mut suspects, mut rows) = (Vec::new(), 0);
    for some in keys.chunks(KEYS_MAX) {
        let ask = places.shadow.lookup(some);
        let (more, read) = meet(shadow, places, &ask, range, true).await?;
        suspects.extend(more);
        rows += read;
    }
    Ok((suspects, rows))
}

/// The keys that the shadow does not find where they belong: suspects, whatever a range showed of them.
async fn misplaced(
    shadow: &mut Reader,
    places: &Places<'_>,
    keys: &[Key],
) -> Result<Vec<Suspect>, ReadError> {
    let mut found = HashSet::new();
    for some in keys.chunks(KEYS_MAX * 5) {
        shadow.ask(&places.shadow.lookup_keys(some)).await?;
        while let Some(cells) = shadow.next().await? {
            found.insert(key_alone(places.shadow.plan, &cells).canonical);
        }
    }
    let lost = keys.iter().filter(|key| !found.contains(&key.canonical));
    let lost = lost.map(|key| Suspect {
        key: key.clone(),
        how: How::Misplaced,
    });
    Ok(lost.collect())
}

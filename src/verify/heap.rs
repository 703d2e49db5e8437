//! A table without a key, as a multiset: both sides are read from end to end, in the memory of their buckets.
//!
//! There is no key to ask for one row again. So what differs is read again as a whole, behind the mirror's
//! catch-up, now the one side first and now the other: a row that is written meanwhile looks missing in the one
//! order and extra in the other. Only a row that is missing (or extra) in two such readings in a row differs.
//!
//! In snapshot mode both sides are read in one instant, and what differs there differs. All of it must be done in the
//! view's time (`verify.snapshot_s`), and what a reading locked of the table's definition is let go behind it.
//!
//! A side is read by one statement, which the primary keeps a view for as long. So it is given up where production
//! needs the primary, and begun anew; and where it takes too long, the table is left unread.

use super::board::Stage;
use super::buckets::{Buckets, Counted, bucket};
use super::gate::{On, Sought, Stopped};
use super::instants::Instants;
use super::reader::{ReadError, Reader};
use super::rows::{How, Row};
use super::settle::{Broke, Pair, Places};
use super::statements::{Place, Side};
use super::walk::Walk;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Readings of both sides at most.
const READINGS_MAX: u32 = 8;

/// Times that it begins anew because production came first.
const ANEW_MAX: u32 = 8;

/// A statement is not kept open for longer: the primary cannot clear away old versions of rows meanwhile.
const STATEMENT_MAX: Duration = Duration::from_secs(300);

/// Rows between two looks at the gate, or so many bytes.
const ROWS_AT_ONCE: u64 = 2_000;
const BYTES_AT_ONCE: usize = 1 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heap {
    /// Rows read on the primary and on the shadow, the last time.
    pub(super) rows: (u64, u64),
    /// Rows that the shadow lacks, and rows that it alone has.
    pub(super) differences: (u64, u64),
    /// No two readings differed in the same rows.
    pub(super) unsettled: bool,
    /// There were too many to count them all.
    pub(super) cut: bool,
    /// Why it was not read to its end.
    pub(super) unread: Option<String>,
}

/// Why a side was not read to its end.
enum Left {
    Broke(Broke),
    /// Production comes first.
    GaveWay(String),
    /// The view is of no use any more.
    Outlasts,
    TooLong,
}

impl From<ReadError> for Left {
    fn from(fault: ReadError) -> Self {
        Self::Broke(Broke::Read(fault))
    }
}

impl From<Stopped> for Left {
    fn from(stopped: Stopped) -> Self {
        Self::Broke(Broke::Stopped(stopped))
    }
}

/// Compares.
///
/// # Errors
/// A server could not be read, or it is to end: then nothing was compared.
pub(super) async fn compare(walk: &Walk<'_>, places: &Places<'_>) -> Result<Heap, Broke> {
    let mut readings = Readings {
        walk,
        places,
        heap: Heap::default(),
        last: None,
        pair: None,
    };
    let (mut nth, mut anew) = (0, 0);
    while nth < READINGS_MAX {
        let read = match walk.instants {
            Some(instants) => readings.at_once(instants).await,
            None => readings.next(nth % 2 == 0).await,
        };
        match read {
            Ok(true) => return Ok(readings.heap),
            Ok(false) => nth += 1,
            Err(Left::Broke(broke)) => return Err(broke),
            Err(Left::TooLong) => {
                readings.heap.unread = Some(format!(
                    "it has no key, and reading it takes longer than the {} s for which one statement may be kept open",
                    STATEMENT_MAX.as_secs()
                ));
                return Ok(readings.heap);
            }
            Err(Left::Outlasts) => {
                readings.heap.unread = Some(format!(
                    "it has no key, and all of it cannot be read in the {} s for which a snapshot is kept open (verify.snapshot_s); take --mode chunks",
                    walk.limits.snapshot.as_secs()
                ));
                return Ok(readings.heap);
            }
            Err(Left::GaveWay(why)) => {
                anew += 1;
                if anew > ANEW_MAX {
                    readings.heap.unread = Some(format!(
                        "it has no key, and reading it was begun anew {ANEW_MAX} times, for production came first ({why})"
                    ));
                    return Ok(readings.heap);
                }
                // Nothing is kept open meanwhile.
                readings.pair = None;
                walk.gate.say(Some(why));
                walk.gate.pass().await?;
            }
        }
    }
    readings.heap.unsettled = true;
    Ok(readings.heap)
}

struct Readings<'a, 'b> {
    walk: &'a Walk<'b>,
    places: &'a Places<'b>,
    heap: Heap,
    /// The rows in which the last reading differed.
    last: Option<Counted>,
    /// What shows the instant that is read.
    pair: Option<Pair>,
}

impl Readings<'_, '_> {
    /// Reads both sides in one instant; always says what is to be said.
    async fn at_once(&mut self, instants: &Instants<'_>) -> Result<bool, Left> {
        // All of its time is needed.
        let new = instants
            .renewed(self.places.table, self.pair.take())
            .await
            .map_err(Left::Broke)?;
        let pair = self.pair.insert(new);
        pair.must_show(self.places.databases())
            .map_err(Left::from)?;
        let read = self.both_at_once().await;
        if let Err(Left::Broke(Broke::Read(fault))) = &read
            && fault.ends_view()
        {
            instants.lost();
        }
        read
    }

    async fn both_at_once(&mut self) -> Result<bool, Left> {
        let (mut mine, mut theirs) = (Buckets::default(), Buckets::default());
        self.each(Side::Primary, |digest| mine.add(digest)).await?;
        self.each(Side::Shadow, |digest| theirs.add(digest)).await?;
        self.heap.rows = (mine.rows(), theirs.rows());
        let differ = mine.differing(&theirs);
        self.heap.differences = (0, 0);
        if !differ.is_empty() {
            let counted = self.count(&differ, true).await?;
            self.heap.cut = counted.is_cut();
            self.heap.differences = counted.differences();
        }
        Ok(true)
    }

    /// Reads both sides, in one order and then, where they differ, in the other; whether that says what is to be said.
    async fn next(&mut self, primary_first: bool) -> Result<bool, Left> {
        let (mut mine, mut theirs) = (Buckets::default(), Buckets::default());
        for side in order(primary_first) {
            let into = match side {
                Side::Primary => &mut mine,
                Side::Shadow => &mut theirs,
            };
            self.each(side, |digest| into.add(digest)).await?;
        }
        self.heap.rows = (mine.rows(), theirs.rows());
        let differ = mine.differing(&theirs);
        if differ.is_empty() {
            self.heap.differences = (0, 0);
            return Ok(true);
        }
        let (board, at) = self.walk.board;
        board.set(at, |one| one.stage = Stage::Settling);
        let around = self.walk.gate.around();
        let (primary, shadow) = (self.walk.primary.first(), self.walk.shadow.first());
        let sought = Sought {
            on: On {
                primary: primary.as_deref(),
                shadow: shadow.as_deref(),
            },
            concludes: self.last.is_some(),
        };
        if around.caught_up(self.places.table, sought).await.is_err() {
            self.last = None;
            return Ok(false);
        }
        let now = self.count(&differ, !primary_first).await?;
        self.heap.cut = now.is_cut();
        if let Some(last) = &self.last {
            let both = last.also_in(&now);
            if both.differences() != (0, 0) {
                self.heap.differences = both.differences();
                return Ok(true);
            }
        }
        self.last = Some(now);
        Ok(false)
    }

    async fn count(
        &mut self,
        differ: &BTreeSet<usize>,
        primary_first: bool,
    ) -> Result<Counted, Left> {
        let mut counted = Counted::default();
        for side in order(primary_first) {
            let by = match side {
                Side::Primary => 1,
                Side::Shadow => -1,
            };
            let take = |digest| {
                if differ.contains(&bucket(digest)) {
                    counted.add(digest, by);
                }
            };
            self.each(side, take).await?;
        }
        Ok(counted)
    }

    /// Every row's digest, of one side.
    async fn each(&mut self, side: Side, mut take: impl FnMut(u128)) -> Result<(), Left> {
        let gate = self.walk.gate;
        let in_view = self.pair.is_some();
        gate.pass_or(|| self.pair = None).await?;
        if in_view && self.pair.is_none() {
            return Err(Left::GaveWay(
                "it had to wait between two readings".to_owned(),
            ));
        }
        let until = self.pair.as_ref().and_then(Pair::until);
        let (door, place): (_, &Place<'_>) = match side {
            Side::Primary => (self.walk.primary, &self.places.primary),
            Side::Shadow => (self.walk.shadow, &self.places.shadow),
        };
        let mut opened: Reader;
        let reader = match (&mut self.pair, side) {
            (Some(pair), Side::Primary) => &mut pair.primary,
            (Some(pair), Side::Shadow) => &mut pair.shadow,
            (None, _) => {
                opened = gate.unless_stopped(door.open()).await??;
                &mut opened
            }
        };
        let (began, mut since, mut buffer) = (Instant::now(), Instant::now(), Vec::new());
        let (mut rows, mut bytes) = (0, 0);
        let ask = place.range(None, None);
        gate.unless_stopped(reader.ask(&ask)).await??;
        while let Some(cells) = gate.unless_stopped(reader.next()).await?? {
            let row = Row::read(place.plan, &cells, &mut buffer);
            take(row.digest);
            rows += 1;
            bytes += row.bytes;
            if rows >= ROWS_AT_ONCE || bytes >= BYTES_AT_ONCE {
                if let Some(why) = gate.bars() {
                    return Err(Left::GaveWay(why));
                }
                if until.is_some_and(|until| Instant::now() >= until) {
                    return Err(Left::Outlasts);
                }
                if began.elapsed() >= STATEMENT_MAX {
                    return Err(Left::TooLong);
                }
                gate.rest(rows, since.elapsed()).await?;
                (rows, bytes, since) = (0, 0, Instant::now());
            }
        }
        if in_view {
            reader.release().await?;
        }
        Ok(())
    }
}

const fn order(primary_first: bool) -> [Side; 2] {
    if primary_first {
        [Side::Primary, Side::Shadow]
    } else {
        [Side::Shadow, Side::Primary]
    }
}

impl Heap {
    /// The differences by how.
    #[must_use]
    pub(super) const fn by_how(&self) -> [(How, u64); 2] {
        [
            (How::Missing, self.differences.0),
            (How::Extra, self.differences.1),
        ]
    }
}

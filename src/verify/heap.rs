//! A table without a key, as a multiset: both sides are read from end to end, in the memory of their buckets.
//!
//! There is no key to ask for one row again. So what differs is read again as a whole, behind the mirror's
//! catch-up, until two readings in a row differ in the same rows, or none does any more.

use super::board::Stage;
use super::buckets::{Buckets, Counted, bucket};
use super::gate::Gate;
use super::reader::{ReadError, Reader};
use super::rows::{How, Row};
use super::settle::{Broke, Pair, Places};
use super::statements::Place;
use super::walk::Walk;
use std::collections::BTreeSet;
use tokio::time::Instant;

/// Readings of both sides at most.
const READINGS_MAX: u32 = 8;

/// Rows between two looks at the gate.
const ROWS_AT_ONCE: u64 = 2_000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heap {
    /// Rows read on the primary and on the shadow, the last time.
    pub(super) rows: (u64, u64),
    /// Rows that the shadow lacks, and rows that it alone has.
    pub(super) differences: (u64, u64),
    /// Two readings differed, and not in the same rows.
    pub(super) unsettled: bool,
    /// There were too many to count them all.
    pub(super) cut: bool,
}

/// Compares.
///
/// # Errors
/// A server could not be read, or it is to end: then nothing was compared.
pub(super) async fn compare(walk: &Walk<'_>, places: &Places<'_>) -> Result<Heap, Broke> {
    let mut pair = Pair {
        primary: walk.primary.open().await?,
        shadow: walk.shadow.open().await?,
    };
    let mut last: Option<(u64, u64)> = None;
    let mut heap = Heap::default();
    for _ in 0..READINGS_MAX {
        let (one, other) = both(&mut pair, places, walk.gate).await?;
        heap.rows = (one.rows(), other.rows());
        let differ = one.differing(&other);
        if differ.is_empty() {
            heap.differences = (0, 0);
            return Ok(heap);
        }
        let (board, at) = walk.board;
        board.set(at, |one| one.stage = Stage::Settling);
        if walk.gate.around().caught_up(places.table).await.is_err() {
            last = None;
            continue;
        }
        let counted = count(&mut pair, places, walk.gate, &differ).await?;
        heap.cut = counted.is_cut();
        let now = counted.differences();
        if now == (0, 0) {
            // What differed then does not now; the next reading says of all of it.
            last = None;
            continue;
        }
        if last == Some(now) {
            heap.differences = now;
            return Ok(heap);
        }
        last = Some(now);
    }
    heap.unsettled = true;
    Ok(heap)
}

async fn both(
    pair: &mut Pair,
    places: &Places<'_>,
    gate: &Gate,
) -> Result<(Buckets, Buckets), Broke> {
    let side = async |reader: &mut Reader, place: &Place<'_>| {
        let mut side = Buckets::default();
        each(reader, place, gate, |digest| side.add(digest)).await?;
        Ok::<_, Broke>(side)
    };
    let (one, other) = tokio::join!(
        side(&mut pair.primary, &places.primary),
        side(&mut pair.shadow, &places.shadow)
    );
    Ok((one?, other?))
}

async fn count(
    pair: &mut Pair,
    places: &Places<'_>,
    gate: &Gate,
    differ: &BTreeSet<usize>,
) -> Result<Counted, Broke> {
    let mut counted = Counted::default();
    each(&mut pair.primary, &places.primary, gate, |digest| {
        if differ.contains(&bucket(digest)) {
            counted.add(digest, 1);
        }
    })
    .await?;
    each(&mut pair.shadow, &places.shadow, gate, |digest| {
        if differ.contains(&bucket(digest)) {
            counted.add(digest, -1);
        }
    })
    .await?;
    Ok(counted)
}

/// Every row's digest. It rests in between: a server waits for a minute before it gives up a client.
async fn each(
    reader: &mut Reader,
    place: &Place<'_>,
    gate: &Gate,
    mut take: impl FnMut(u128),
) -> Result<(), Broke> {
    gate.pass().await?;
    let (mut rows, mut buffer, mut since) = (0, Vec::new(), Instant::now());
    reader.ask(&place.range(None, None)).await.map_err(read)?;
    while let Some(cells) = reader.next().await.map_err(read)? {
        take(Row::read(place.plan, &cells, &mut buffer).digest);
        rows += 1;
        if rows % ROWS_AT_ONCE == 0 {
            gate.rest(ROWS_AT_ONCE, since.elapsed()).await?;
            since = Instant::now();
        }
    }
    Ok(())
}

fn read(fault: ReadError) -> Broke {
    Broke::Read(fault)
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

//! How a walk reads its next range, and what looks different in it. Memory is the primary's range and what is
//! suspect, of which there may be so much at most.

use super::plan::{Plan, Way};
use super::reader::{ReadError, Reader};
use super::rows::{How, Key, Range, Row, Seen, Suspect, key_alone};
use super::settle::{Broke, KEYS_MAX, Pair, Places};
use super::statements::{Place, Side};
use super::walk::Walker;
use std::collections::HashSet;

/// Suspects of one range at most, and bytes of their keys.
const CROWD_ROWS: usize = 20_000;
const CROWD_BYTES: usize = 8 << 20;

const ROUND: &str = "its rows came round and round: a server does not order its key as it compares it, so the rest of the table was not read";

const ALIKE: &str =
    "two rows of the primary were told with the same key, so the table was not read";

/// The primary's next rows.
pub(super) struct Ahead {
    from: Option<Key>,
    rows: Vec<Row>,
    /// The last key; none where these are the last rows.
    to: Option<Key>,
    bytes: u64,
}

/// The suspects of a range, as far as there is room for them.
#[derive(Default)]
struct Crowd {
    suspects: Vec<Suspect>,
    bytes: usize,
}

impl Crowd {
    /// Takes one; whether there is room for another.
    fn take(&mut self, suspect: Option<Suspect>) -> bool {
        if let Some(suspect) = suspect {
            let values = suspect.key.values.iter().map(|value| value.len());
            self.bytes += suspect.key.canonical.len() + values.sum::<usize>();
            self.suspects.push(suspect);
        }
        self.suspects.len() < CROWD_ROWS && self.bytes < CROWD_BYTES
    }
}

/// What the shadow showed of a range.
struct Met {
    crowd: Crowd,
    rows: u64,
    /// There was no room for all of it: rows are on the way that nobody took.
    cut: bool,
}

impl<'a> Walker<'a> {
    /// The next range; how many rows were read.
    pub(super) async fn step(&mut self) -> Result<u64, Broke> {
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
        if !self.lap.gets_on(to.as_ref()) {
            self.unread = Some(ROUND.to_owned());
        }
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
        let end = end_of_next(reader(side, pair), &place, plan, from.as_ref(), rows).await?;
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
        if (range.len() as u64) < read {
            self.unread = Some(ALIKE.to_owned());
            return Ok(read);
        }
        let is_sampling = self.of.meant.sample < 1.0;
        let next = to.clone().filter(|_| !is_sampling);
        let places = self.places.clone();
        let by_range = self.plan.way == Way::Ranges;
        let looks_up = !by_range || (places.sharded && places.routed);
        let keys = if looks_up { range.keys() } else { Vec::new() };
        let Some(pair) = self.pair.as_mut() else {
            return Ok(0);
        };
        let mut met = Met {
            crowd: Crowd::default(),
            rows: 0,
            cut: false,
        };
        let meeting = async {
            let shadow = &mut pair.shadow;
            if by_range {
                let ask = places.shadow.range(now.from.as_ref(), to.as_ref());
                meet(shadow, &places, &ask, &mut range, &mut met).await
            } else {
                look_up(shadow, &places, &keys, &mut range, &mut met).await
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
        let (met_all, prefetched) = tokio::join!(meeting, prefetched);
        met_all?;
        let on_shadow = met.rows;
        let mut suspects = met.crowd.suspects;
        if met.cut {
            self.crowd(suspects);
            return Ok(read + on_shadow);
        }
        suspects.extend(range.missing());
        if by_range && looks_up {
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
                if found.len() >= CROWD_ROWS {
                    self.crowd(twice(&found));
                    return Ok(read);
                }
            }
            suspects.extend(twice(&found));
            for key in found {
                if !keys.iter().any(|one| one.canonical == key.canonical) {
                    keys.push(key);
                }
            }
        }
        suspects.extend(twice(&keys));
        let bytes = keys.iter().map(|key| key.canonical.len() as u64).sum();
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
        self.fit(read, bytes);
        self.move_to(to);
        Ok(read)
    }
}

const fn reader(side: Side, pair: &mut Pair) -> &mut Reader {
    match side {
        Side::Primary => &mut pair.primary,
        Side::Shadow => &mut pair.shadow,
    }
}

async fn end_of_next(
    reader: &mut Reader,
    place: &Place<'_>,
    plan: &Plan,
    from: Option<&Key>,
    rows: u64,
) -> Result<Option<Key>, ReadError> {
    // By the key alone: a condition that few rows meet would have it look for them through the whole table.
    let place = Place {
        condition: None,
        ..place.clone()
    };
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
    // With a condition the range is one of keys, whichever of its rows are met.
    let bound = match place.condition {
        Some(_) => Some(end_of_next(reader, place, place.plan, from.as_ref(), most).await?),
        None => None,
    };
    let ask = match &bound {
        Some(to) => place.range(from.as_ref(), to.as_ref()),
        None => place.next(from.as_ref(), most),
    };
    reader.ask(&ask).await?;
    while let Some(cells) = reader.next().await? {
        let row = Row::read(place.plan, &cells, &mut buffer);
        bytes += row.bytes as u64;
        rows.push(row);
    }
    let is_full = rows.len() as u64 >= most;
    let last = rows.last().map(|row| row.key.clone());
    let to = bound.unwrap_or_else(|| last.filter(|_| is_full));
    Ok(Ahead {
        from,
        rows,
        to,
        bytes,
    })
}

/// Holds the shadow's rows against the range.
async fn meet(
    shadow: &mut Reader,
    places: &Places<'_>,
    ask: &str,
    range: &mut Range,
    met: &mut Met,
) -> Result<(), ReadError> {
    let known_alone = places.primary.plan.way == Way::Lookups;
    let mut buffer = Vec::new();
    shadow.ask(ask).await?;
    while let Some(cells) = shadow.next().await? {
        met.rows += 1;
        let row = Seen::read(places.shadow.plan, &cells, &mut buffer);
        let suspect = if known_alone {
            range.meet_if_known(&row)
        } else {
            range.meet(&row)
        };
        if !met.crowd.take(suspect) {
            met.cut = true;
            break;
        }
    }
    Ok(())
}

async fn look_up(
    shadow: &mut Reader,
    places: &Places<'_>,
    keys: &[Key],
    range: &mut Range,
    met: &mut Met,
) -> Result<(), ReadError> {
    for some in keys.chunks(KEYS_MAX) {
        let ask = places.shadow.lookup(some);
        meet(shadow, places, &ask, range, met).await?;
        if met.cut {
            break;
        }
    }
    Ok(())
}

/// The keys that are there more than once.
fn twice(keys: &[Key]) -> Vec<Suspect> {
    let mut seen = HashSet::new();
    let again = keys.iter().filter(|key| !seen.insert(&key.canonical));
    let suspect = |key: &Key| Suspect {
        key: key.clone(),
        how: How::Twice,
    };
    again.map(suspect).collect()
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

//! Both servers' latencies, by fingerprint and class, in HDR histograms.
//!
//! Kept in memory: two significant digits, the busiest fingerprints apart, the rest of each class
//! together as `other` (fingerprint null). How they went over time is in `course`.

mod course;

#[cfg(test)]
mod tests;

pub use course::{Course, Moment, Then, Turn};

use super::busiest::{Busiest, Place};
use super::digests::Digests;
use super::observation::{Observation, Protocol, Side};
use super::redact::name;
use crate::sql::Class;
use course::Courses;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Longer times count as this: an hour, in µs.
const LONGEST_US: u64 = 3_600_000_000;

/// Servers whose latency is kept apart under one fingerprint: two, and room for a third name
/// after the config has changed.
const SERVERS_MAX: usize = 3;

/// Entries that are copied in one hold of the lock, for which recorders wait.
const CHUNK: usize = 32;

/// Looks that are begun anew where a statement lost its place meanwhile; the last is not.
const LOOKS_MAX: usize = 3;

/// Of fewer commands there is no curve.
const CURVE_SAMPLES_MIN: u64 = 20;

/// All histograms.
#[derive(Debug)]
pub(super) struct Latency {
    table: Mutex<Table>,
    courses: Mutex<Courses>,
}

#[derive(Debug)]
struct Table {
    entries: HashMap<Key, Entry, Digests>,
    busiest: Busiest<Key>,
    /// Statements that lost their place.
    moved: u64,
    /// What was counted one to two windows ago, and at most one window ago.
    old: Option<Snapshot>,
    young: Option<Snapshot>,
}

/// Times until one byte of an answer: the primary's, the shadow's.
type Both = [Histogram<u32>; 2];

/// Until which byte of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Byte {
    /// Its first one: how long the server thought.
    First,
    /// Its last one.
    #[default]
    Last,
}

/// Which commands a latency is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// All of them together.
    All,
    /// Those of a class.
    Class(Class),
    /// Those of one shape: its digest and protocol.
    Statement(u64, Protocol),
}

/// What was counted at a moment, of every class and of the busiest statements.
#[derive(Debug)]
struct Snapshot {
    at: Instant,
    /// Whose times these are: the primary's name of that moment, the shadow's.
    servers: [String; 2],
    times: BTreeMap<Key, Both>,
}

impl Snapshot {
    /// What was counted of these servers, whatever their roles were.
    fn of(&self, key: &Key, servers: [&str; 2]) -> Option<Both> {
        let [primary, shadow] = &self.servers;
        let [one, other] = self.times.get(key)?;
        match servers {
            names if names == [primary, shadow] => Some([one.clone(), other.clone()]),
            names if names == [shadow, primary] => Some([other.clone(), one.clone()]),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    /// The fingerprint's digest and protocol; `None` for `other`.
    shape: Option<(u64, Protocol)>,
    class: Class,
}

impl Key {
    const fn other(class: Class) -> Self {
        Self { shape: None, class }
    }
}

#[derive(Debug)]
struct Entry {
    fingerprint: Option<Arc<str>>,
    /// Those of the first such command.
    tables: Vec<String>,
    count: u64,
    servers: Vec<(Arc<str>, Times)>,
    queue: Histogram<u32>,
}

#[derive(Debug)]
struct Times {
    first_byte: Histogram<u32>,
    last_byte: Histogram<u32>,
}

/// One server's quantiles, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// Nine in ten are shorter.
    pub p90: u64,
    /// 99 in a hundred are shorter.
    pub p99: u64,
    /// 999 in a thousand are shorter.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

/// How long both servers took, to the last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The statement's shape; `None` for a whole class.
    pub fingerprint: Option<Arc<str>>,
    /// Its digest and protocol.
    pub shape: Option<(u64, Protocol)>,
    /// Its class.
    pub class: Class,
    /// Its tables; none for a class.
    pub tables: Vec<String>,
    /// Commands that were timed on each of the servers, at least.
    pub samples: u64,
    /// The primary's times.
    pub primary: Quantiles,
    /// The shadow's.
    pub shadow: Quantiles,
}

impl Pace {
    /// What it is of, in at most so many characters: a statement, prepared or not, or a class.
    #[must_use]
    pub fn name(&self, most: usize) -> String {
        let Some(fingerprint) = &self.fingerprint else {
            return self.class.name().replace('_', " ");
        };
        let name = crate::words::brief(fingerprint, most);
        match self.shape {
            Some((_, Protocol::Prepared)) => format!("{name} (prepared)"),
            Some((_, Protocol::Text)) | None => name,
        }
    }
}

/// The share of commands, and how long they took at most on each server, in µs, of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The class; null for all of them together.
    pub class: Option<&'static str>,
    /// Commands that were timed on each of the servers, at least.
    pub samples: u64,
    /// For each of [`SHARES`], in that order.
    pub primary: Vec<u64>,
    /// Likewise.
    pub shadow: Vec<u64>,
}

/// The shares of a [`Curve`]'s points, in percent, evenly apart by their number of nines.
pub const SHARES: [f64; 17] = [
    0.0, 25.0, 50.0, 68.4, 75.0, 82.2, 90.0, 94.4, 96.8, 98.2, 99.0, 99.44, 99.68, 99.9, 99.968,
    99.99, 100.0,
];

impl Quantiles {
    fn of(histogram: &Histogram<u32>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// Two significant digits always make a histogram; should they not, nothing is recorded there.
fn histogram() -> Histogram<u32> {
    match Histogram::new(2) {
        Ok(made) => made,
        Err(_) => unreachable!("two significant digits are within the crate's bounds"),
    }
}

fn record(histogram: &mut Histogram<u32>, micros: u64) {
    // `record` lets the histogram grow; a value that is too long cannot come here.
    if histogram.record(micros.clamp(1, LONGEST_US)).is_err() {
        histogram.saturating_record(LONGEST_US);
    }
}

/// Histograms of one precision that grow always add up.
fn add(sum: &mut Histogram<u32>, other: &Histogram<u32>) {
    let _ = sum.add(other);
}

impl Entry {
    fn new(fingerprint: Option<Arc<str>>) -> Self {
        Self {
            fingerprint,
            tables: Vec::new(),
            count: 0,
            servers: Vec::new(),
            queue: histogram(),
        }
    }

    /// Where one server failed alone, its time is that of a refusal and says nothing beside the
    /// other's: it is left out.
    fn add(&mut self, observation: &Observation) {
        self.count += 1;
        let (primary, shadow) = (&observation.primary, observation.shadow.as_ref());
        let failed = |side: &Side| side.error.is_some();
        if !failed(primary) || shadow.is_none_or(failed) {
            self.side(primary);
        }
        if let Some(shadow) = shadow.filter(|shadow| !failed(shadow) || failed(primary)) {
            self.side(shadow);
        }
        if let Some(waited) = observation.queue_us {
            record(&mut self.queue, waited);
        }
    }

    fn side(&mut self, side: &Side) {
        let (Some(first_byte), Some(last_byte)) = (side.first_byte_us, side.latency_us) else {
            return;
        };
        let known = self
            .servers
            .iter()
            .position(|(name, _)| *name == side.server);
        let at = match known {
            Some(at) => at,
            None if self.servers.len() < SERVERS_MAX => {
                let times = Times {
                    first_byte: histogram(),
                    last_byte: histogram(),
                };
                self.servers.push((Arc::clone(&side.server), times));
                self.servers.len() - 1
            }
            None => return,
        };
        if let Some((_, times)) = self.servers.get_mut(at) {
            record(&mut times.first_byte, first_byte);
            record(&mut times.last_byte, last_byte);
        }
    }

    /// Counts what another one has counted.
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for (server, times) in &other.servers {
            let at = self
                .servers
                .iter()
                .position(|(name, _)| name == server)
                .unwrap_or_else(|| {
                    let times = Times {
                        first_byte: histogram(),
                        last_byte: histogram(),
                    };
                    self.servers.push((Arc::clone(server), times));
                    self.servers.len() - 1
                });
            if let Some((_, sum)) = self.servers.get_mut(at) {
                add(&mut sum.first_byte, &times.first_byte);
                add(&mut sum.last_byte, &times.last_byte);
            }
        }
        add(&mut self.queue, &other.queue);
    }

    /// One server's times.
    fn times(&self, server: &str, byte: Byte) -> Option<&Histogram<u32>> {
        let servers = self.servers.iter();
        let mut times = servers.filter(|(name, _)| &**name == server);
        times.next().map(|(_, times)| match byte {
            Byte::First => &times.first_byte,
            Byte::Last => &times.last_byte,
        })
    }

    /// Both servers' times, where there are some of both.
    fn both(&self, [primary, shadow]: [&str; 2], byte: Byte) -> Option<[&Histogram<u32>; 2]> {
        let both = [self.times(primary, byte)?, self.times(shadow, byte)?];
        both.iter().all(|one| !one.is_empty()).then_some(both)
    }

    fn item(&self, key: &Key) -> Value {
        let mut item = Map::new();
        let protocol = key.shape.map(|(_, protocol)| protocol.name());
        item.insert("fingerprint".into(), json!(self.fingerprint.as_deref()));
        item.insert("protocol".into(), json!(protocol));
        item.insert("class".into(), json!(key.class.name()));
        item.insert("count".into(), json!(self.count));
        for (server, times) in &self.servers {
            let mut figures = json!(Quantiles::of(&times.last_byte));
            if let Some(figures) = figures.as_object_mut() {
                figures.insert("count".into(), json!(times.last_byte.len()));
                figures.insert("first_byte".into(), json!(Quantiles::of(&times.first_byte)));
            }
            item.insert(server.to_string(), figures);
        }
        if !self.queue.is_empty() {
            item.insert("queue_wait".into(), json!(Quantiles::of(&self.queue)));
        }
        Value::Object(item)
    }
}

impl Table {
    /// The entry in which a command counts, `other` where its fingerprint has no place of its own.
    fn entry(&mut self, observation: &Observation) -> &mut Entry {
        let own = Key {
            shape: Some((observation.digest, observation.protocol)),
            class: observation.class,
        };
        let place = self.busiest.see(own);
        if let Place::InsteadOf(out) = place
            && let Some(entry) = self.entries.remove(&out)
        {
            self.moved += 1;
            self.other(out.class).merge(&entry);
        }
        if place == Place::None {
            return self.other(own.class);
        }
        let named = || {
            let mut entry = Entry::new(Some(Arc::clone(&observation.fingerprint)));
            entry.tables = observation.tables.iter().map(name).collect();
            entry
        };
        self.entries.entry(own).or_insert_with(named)
    }

    fn other(&mut self, class: Class) -> &mut Entry {
        let other = self.entries.entry(Key::other(class));
        other.or_insert_with(|| Entry::new(None))
    }
}

impl Latency {
    pub(super) fn new(fingerprints_max: usize) -> Self {
        Self {
            table: Mutex::new(Table {
                entries: HashMap::default(),
                busiest: Busiest::new(fingerprints_max),
                moved: 0,
                old: None,
                young: None,
            }),
            courses: Mutex::default(),
        }
    }

    /// Counts what ran: the primary's side where its times are known, the shadow's where there is
    /// one.
    pub(super) fn record(&self, observation: &Observation) {
        self.table.lock().entry(observation).add(observation);
    }

    /// The items of `GET /api/v1/latency`, busiest first. `fingerprint` is a text or 16
    /// hexadecimal digits.
    pub(super) fn items(&self, fingerprint: Option<&str>) -> Vec<Value> {
        let table = self.table.lock();
        let mut chosen: Vec<(&Key, &Entry)> = table
            .entries
            .iter()
            .filter(|(key, entry)| wanted(key, entry, fingerprint))
            .collect();
        chosen.sort_by_key(|(key, entry)| (Reverse(entry.count), key.shape));
        chosen
            .into_iter()
            .map(|(key, entry)| entry.item(key))
            .collect()
    }

    /// All fingerprints of each class together, in the shape of [`Latency::items`].
    pub(super) fn by_class(&self) -> Vec<Value> {
        let mut classes: BTreeMap<Class, Entry> = BTreeMap::new();
        let table = self.table.lock();
        table.entries.iter().for_each(|(key, entry)| {
            classes
                .entry(key.class)
                .or_insert_with(|| Entry::new(None))
                .merge(entry);
        });
        drop(table);
        classes
            .into_iter()
            .map(|(class, entry)| entry.item(&Key::other(class)))
            .collect()
    }

    /// Both servers' paces: every class, and the busiest so many statements, of what has at least so
    /// many samples. Only what ran on both servers counts, and only what ran lately: see
    /// [`Latency::turn`].
    pub(super) fn paces(&self, servers: [&str; 2], samples: u64, most: usize) -> Vec<Pace> {
        let present = self.present(servers, Byte::Last, most);
        let paces = present.into_iter().filter_map(|(key, mut of)| {
            let old = {
                let table = self.table.lock();
                let old = table.old.as_ref();
                old.and_then(|old| old.of(&key, servers))
            };
            of.times = since(&of.times, old.as_ref());
            let pace = pace(&key, of);
            (pace.samples >= samples).then_some(pace)
        });
        paces.collect()
    }

    /// Lets what is older than one to two windows count for no pace any more. Asked every so often,
    /// for as many statements as [`Latency::paces`].
    pub(super) fn turn(&self, servers: [&str; 2], most: usize, window: Duration) {
        let is_due = |table: &Table| {
            let young = table.young.as_ref();
            young.is_none_or(|young| young.at.elapsed() >= window)
        };
        if !is_due(&self.table.lock()) {
            return;
        }
        let at = Instant::now();
        let present = self.present(servers, Byte::Last, most).into_iter();
        let young = Snapshot {
            at,
            servers: servers.map(str::to_owned),
            times: present.map(|(key, of)| (key, of.times)).collect(),
        };
        let mut table = self.table.lock();
        if is_due(&table) {
            table.old = table.young.replace(young);
        }
    }

    /// Every class, then the busiest so many statements: what they took until now on both servers.
    fn present(&self, servers: [&str; 2], byte: Byte, most: usize) -> Vec<(Key, Present)> {
        let mut looked = self.look(servers, byte, most);
        for _ in 1..LOOKS_MAX {
            if looked.is_whole {
                break;
            }
            looked = self.look(servers, byte, most);
        }
        let classes = looked.classes.into_iter();
        classes
            .map(|(class, times)| (Key::other(class), Present::of(times)))
            .chain(looked.busiest)
            .collect()
    }

    /// Every class, and the busiest so many statements.
    fn look(&self, servers: [&str; 2], byte: Byte, most: usize) -> Looked {
        let mut looked = Looked::default();
        let mut left = most;
        looked.is_whole = self.walk(servers, byte, |key, of| {
            add_to(&mut looked.classes, key.class, &of.times);
            if key.shape.is_some() && left > 0 {
                left -= 1;
                looked.busiest.push((key, of));
            }
        });
        looked
    }

    /// Shows every entry, the busiest statement first: copies a few in each hold of the lock, and shows
    /// them without it. Whether no statement lost its place meanwhile, so that each was shown once.
    fn walk(&self, servers: [&str; 2], byte: Byte, mut each: impl FnMut(Key, Present)) -> bool {
        let (mut keys, moved) = {
            let table = self.table.lock();
            let keys = table.entries.iter().map(|(key, entry)| (*key, entry.count));
            (keys.collect::<Vec<_>>(), table.moved)
        };
        keys.sort_by_key(|(key, count)| {
            (key.shape.is_none(), Reverse(*count), key.shape, key.class)
        });
        for chunk in keys.chunks(CHUNK) {
            let copies: Vec<(Key, Present)> = {
                let table = self.table.lock();
                let copy = |(key, _): &(Key, u64)| {
                    let entry = table.entries.get(key)?;
                    Some((*key, Present::copied(entry, servers, byte)?))
                };
                chunk.iter().filter_map(copy).collect()
            };
            for (key, of) in copies {
                each(key, of);
            }
        }
        self.table.lock().moved == moved
    }

    /// How many of a statement's commands took longer on a server than so many µs.
    pub(super) fn longer(&self, of: &Pace, server: &str, micros: u64) -> u64 {
        let key = Key {
            shape: of.shape,
            class: of.class,
        };
        let table = self.table.lock();
        let times = table
            .entries
            .get(&key)
            .and_then(|entry| entry.times(server, Byte::Last));
        times.map_or(0, |times| {
            times.len() - times.count_between(0, micros).min(times.len())
        })
    }

    /// Both servers' curves: all together, and each class.
    pub(super) fn curves(&self, servers: [&str; 2], byte: Byte) -> Vec<Curve> {
        let classes = self.present(servers, byte, 0);
        let mut all = [histogram(), histogram()];
        for (_, of) in &classes {
            sum(&mut all, &of.times);
        }
        let classes = classes
            .iter()
            .map(|(key, of)| (Some(key.class.name()), &of.times));
        std::iter::once((None, &all))
            .chain(classes)
            .filter_map(|(class, times)| curve(class, times))
            .collect()
    }

    /// The curve of one statement; none where it has no place of its own, or was seldom timed.
    pub(super) fn curve_of(
        &self,
        servers: [&str; 2],
        byte: Byte,
        shape: (u64, Protocol),
    ) -> Option<Curve> {
        let mut times = [histogram(), histogram()];
        let mut class = None;
        let table = self.table.lock();
        table.entries.iter().for_each(|(key, entry)| {
            if key.shape != Some(shape) {
                return;
            }
            if let Some([primary, shadow]) = entry.both(servers, byte) {
                class = Some(key.class.name());
                let [own, shadows] = &mut times;
                add(own, primary);
                add(shadows, shadow);
            }
        });
        drop(table);
        curve(class, &times)
    }

    /// What each class and each statement that has a place of its own took since the start on both
    /// servers: the classes first, then the busiest statement.
    pub(super) fn since_start(&self, servers: [&str; 2], byte: Byte) -> Vec<Pace> {
        let mut classes: BTreeMap<Class, Both> = BTreeMap::new();
        let mut statements = Vec::new();
        self.walk(servers, byte, |key, of| {
            add_to(&mut classes, key.class, &of.times);
            if key.shape.is_some() {
                statements.push(pace(&key, of));
            }
        });
        let classes = classes.into_iter();
        classes
            .map(|(class, times)| pace(&Key::other(class), Present::of(times)))
            .chain(statements)
            .collect()
    }
}

/// What one entry took until now on both servers.
struct Present {
    fingerprint: Option<Arc<str>>,
    tables: Vec<String>,
    times: Both,
}

impl Present {
    /// A copy; none where one of the servers was not timed.
    fn copied(entry: &Entry, servers: [&str; 2], byte: Byte) -> Option<Self> {
        let times = entry.both(servers, byte)?.map(Clone::clone);
        Some(Self {
            fingerprint: entry.fingerprint.clone(),
            tables: entry.tables.clone(),
            times,
        })
    }

    const fn of(times: Both) -> Self {
        Self {
            fingerprint: None,
            tables: Vec::new(),
            times,
        }
    }
}

/// What ran on both servers until now.
#[derive(Default)]
struct Looked {
    classes: BTreeMap<Class, Both>,
    busiest: Vec<(Key, Present)>,
    /// No statement lost its place meanwhile, so that each counts once.
    is_whole: bool,
}

fn add_to(classes: &mut BTreeMap<Class, Both>, class: Class, times: &Both) {
    let total = classes.entry(class);
    sum(total.or_insert_with(|| [histogram(), histogram()]), times);
}

fn sum([primary, shadow]: &mut Both, [more_primary, more_shadow]: &Both) {
    add(primary, more_primary);
    add(shadow, more_shadow);
}

/// What came since then. A statement that has lost its place in between, and counts anew, has
/// nothing of before to take off.
fn since(times: &Both, old: Option<&Both>) -> Both {
    let mut recent = times.clone();
    if let Some([old_primary, old_shadow]) = old {
        let [primary, shadow] = &mut recent;
        if primary.subtract(old_primary).is_err() || shadow.subtract(old_shadow).is_err() {
            return times.clone();
        }
    }
    recent
}

fn pace(key: &Key, of: Present) -> Pace {
    let [primary, shadow] = &of.times;
    Pace {
        fingerprint: of.fingerprint,
        shape: key.shape,
        class: key.class,
        tables: of.tables,
        samples: primary.len().min(shadow.len()),
        primary: Quantiles::of(primary),
        shadow: Quantiles::of(shadow),
    }
}

fn curve(class: Option<&'static str>, [primary, shadow]: &Both) -> Option<Curve> {
    let points = |times: &Histogram<u32>| {
        SHARES
            .map(|share| times.value_at_quantile(share / 100.0))
            .to_vec()
    };
    let samples = primary.len().min(shadow.len());
    (samples >= CURVE_SAMPLES_MIN).then(|| Curve {
        class,
        samples,
        primary: points(primary),
        shadow: points(shadow),
    })
}

fn wanted(key: &Key, entry: &Entry, fingerprint: Option<&str>) -> bool {
    let Some(wanted) = fingerprint else {
        return true;
    };
    entry.fingerprint.as_deref() == Some(wanted)
        || key
            .shape
            .is_some_and(|(digest, _)| format!("{digest:016x}") == wanted)
}

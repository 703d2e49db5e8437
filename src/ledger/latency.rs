//! Both servers' latencies, by fingerprint and class, in HDR histograms.
//!
//! Kept in memory: two significant digits, the busiest fingerprints apart, the rest of each class
//! together as `other` (fingerprint null).

use super::busiest::{Busiest, Place};
use super::observation::{Observation, Side};
use crate::sql::Class;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Longer times count as this: an hour, in µs.
const LONGEST_US: u64 = 3_600_000_000;

/// Servers whose latency is kept apart under one fingerprint: two, and room for a third name
/// after the config has changed.
const SERVERS_MAX: usize = 3;

/// All histograms.
#[derive(Debug)]
pub(super) struct Latency {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    entries: HashMap<Key, Entry>,
    busiest: Busiest<Key>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    /// The fingerprint's digest; `None` for `other`.
    digest: Option<u64>,
    class: Class,
}

impl Key {
    const fn other(class: Class) -> Self {
        Self {
            digest: None,
            class,
        }
    }
}

#[derive(Debug)]
struct Entry {
    fingerprint: Option<Arc<str>>,
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
#[derive(Clone, Copy, Debug, Serialize)]
struct Quantiles {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

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
            count: 0,
            servers: Vec::new(),
            queue: histogram(),
        }
    }

    fn add(&mut self, observation: &Observation) {
        self.count += 1;
        self.side(&observation.primary);
        if let Some(shadow) = &observation.shadow {
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

    fn item(&self, class: Class) -> Value {
        let mut item = Map::new();
        item.insert("fingerprint".into(), json!(self.fingerprint.as_deref()));
        item.insert("class".into(), json!(class.name()));
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
            digest: Some(observation.digest),
            class: observation.class,
        };
        let place = self.busiest.see(own);
        if let Place::InsteadOf(out) = place
            && let Some(entry) = self.entries.remove(&out)
        {
            self.other(out.class).merge(&entry);
        }
        if place == Place::None {
            return self.other(own.class);
        }
        let name = || Entry::new(Some(Arc::clone(&observation.fingerprint)));
        self.entries.entry(own).or_insert_with(name)
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
                entries: HashMap::new(),
                busiest: Busiest::new(fingerprints_max),
            }),
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
        chosen.sort_by_key(|(key, entry)| (std::cmp::Reverse(entry.count), key.digest));
        chosen
            .into_iter()
            .map(|(key, entry)| entry.item(key.class))
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
            .map(|(class, entry)| entry.item(class))
            .collect()
    }
}

fn wanted(key: &Key, entry: &Entry, fingerprint: Option<&str>) -> bool {
    let Some(wanted) = fingerprint else {
        return true;
    };
    entry.fingerprint.as_deref() == Some(wanted)
        || key
            .digest
            .is_some_and(|digest| format!("{digest:016x}") == wanted)
}

#[cfg(test)]
mod tests {
    use super::super::tests::observation;
    use super::*;
    use crate::compare::verdict::{Reason, Verdict};

    #[test]
    fn both_servers_stand_under_their_names_with_first_and_last_byte() {
        let latency = Latency::new(10);
        for _ in 0..100 {
            latency.record(&observation("SELECT ?", Verdict::Match));
        }
        let items = latency.items(None);
        assert_eq!(items.len(), 1);
        assert_eq!(items[0]["count"], 100);
        assert_eq!(items[0]["class"], "read");
        assert!(items[0]["legacy"]["p50"].as_u64().unwrap() >= 990);
        assert!(items[0]["vitess"]["first_byte"]["p99"].as_u64().is_some());
        assert!(items[0]["queue_wait"]["p50"].as_u64().is_some());
    }

    #[test]
    fn fingerprints_past_the_limit_are_kept_together_as_other() {
        let latency = Latency::new(2);
        for shape in ["a", "a", "b", "b", "c", "d", "c"] {
            latency.record(&observation(shape, Verdict::Match));
        }
        let items = latency.items(None);
        assert_eq!(items.len(), 3);
        assert_eq!(items[0]["fingerprint"], Value::Null);
        assert_eq!(items[0]["count"], 3);
    }

    #[test]
    fn the_real_load_is_kept_apart_though_one_off_statements_came_first() {
        let latency = Latency::new(5);
        for n in 0..100 {
            latency.record(&observation(&format!("one-off {n}"), Verdict::Match));
        }
        for _ in 0..50 {
            latency.record(&observation("load", Verdict::Match));
        }
        let items = latency.items(None);
        assert_eq!(items[1]["fingerprint"], "load");
        assert!(items[1]["count"].as_u64() > Some(45), "{}", items[1]);
        let counts = items.iter().filter_map(|item| item["count"].as_u64());
        assert_eq!(counts.sum::<u64>(), 150);
        let times = items[0]["legacy"]["count"].as_u64();
        assert_eq!(
            times,
            items[0]["count"].as_u64(),
            "their times go with them"
        );
    }

    #[test]
    fn a_command_whose_times_are_not_known_is_counted_and_not_timed() {
        let latency = Latency::new(10);
        latency.record(&observation("a", Verdict::Match));
        let mut dropped = observation("a", Verdict::NotCompared(Reason::Dropped));
        dropped.primary.first_byte_us = None;
        dropped.primary.latency_us = None;
        dropped.shadow = None;
        latency.record(&dropped);
        let item = &latency.items(None)[0];
        assert_eq!(item["count"], 2);
        assert_eq!(item["legacy"]["count"], 1);
        assert!(item["legacy"]["p50"].as_u64() > Some(900));
    }

    #[test]
    fn one_fingerprint_is_found_by_text_and_by_digest() {
        let latency = Latency::new(10);
        latency.record(&observation("a", Verdict::Match));
        latency.record(&observation("b", Verdict::Match));
        let digest = format!("{:016x}", observation("b", Verdict::Match).digest);
        for name in ["b", digest.as_str()] {
            let items = latency.items(Some(name));
            assert_eq!(items.len(), 1, "{name}");
            assert_eq!(items[0]["fingerprint"], "b");
        }
    }
}

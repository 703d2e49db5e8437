//! Both servers' latencies, by fingerprint and class, in HDR histograms.
//!
//! Kept in memory: two significant digits, at most so many fingerprints apart, the rest of each
//! class together as `other` (fingerprint null).

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
    fingerprints_max: usize,
    table: Mutex<HashMap<Key, Entry>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The fingerprint's digest; `None` for `other`.
    digest: Option<u64>,
    class: Class,
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
            record(&mut times.first_byte, side.first_byte_us);
            record(&mut times.last_byte, side.latency_us);
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

impl Latency {
    pub(super) fn new(fingerprints_max: usize) -> Self {
        Self {
            fingerprints_max,
            table: Mutex::default(),
        }
    }

    /// Counts what ran: the primary's side always, the shadow's where there is one.
    pub(super) fn record(&self, observation: &Observation) {
        let mut table = self.table.lock();
        let own = Key {
            digest: Some(observation.digest),
            class: observation.class,
        };
        let full = table.len() >= self.fingerprints_max;
        let (key, name) = if full && !table.contains_key(&own) {
            let other = Key {
                digest: None,
                class: observation.class,
            };
            (other, None)
        } else {
            (own, Some(&observation.fingerprint))
        };
        table
            .entry(key)
            .or_insert_with(|| Entry::new(name.cloned()))
            .add(observation);
    }

    /// The items of `GET /api/v1/latency`, busiest first. `fingerprint` is a text or 16
    /// hexadecimal digits.
    pub(super) fn items(&self, fingerprint: Option<&str>) -> Vec<Value> {
        let table = self.table.lock();
        let mut chosen: Vec<(&Key, &Entry)> = table
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
        table.iter().for_each(|(key, entry)| {
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
    use crate::compare::verdict::Verdict;

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
        for shape in ["a", "b", "c", "d", "c"] {
            latency.record(&observation(shape, Verdict::Match));
        }
        let items = latency.items(None);
        assert_eq!(items.len(), 3);
        assert_eq!(items[0]["fingerprint"], Value::Null);
        assert_eq!(items[0]["count"], 3);
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

//! A store for tests: in memory, with lines to it that are slow, cut, or lose an answer.

use super::store::{Change, Down, Entry, Look, Revision, Store};
use crate::cutover::helm::Soon;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What is stored.
#[derive(Debug, Default)]
pub(in crate::cutover) struct Memory {
    keys: BTreeMap<String, (Vec<u8>, Revision)>,
    revision: Revision,
}

impl Memory {
    fn look(&self, prefix: &str) -> Look {
        let below = self.keys.iter().filter(|(key, _)| key.starts_with(prefix));
        Look {
            entries: below
                .map(|(key, (value, revision))| Entry {
                    key: key.clone(),
                    value: value.clone(),
                    revision: *revision,
                })
                .collect(),
            revision: self.revision,
        }
    }

    fn change(&mut self, change: Change) -> bool {
        let is = |key: &String| self.keys.get(key).map_or(0, |(_, revision)| *revision);
        if change.seen.iter().any(|(key, seen)| is(key) != *seen) {
            return false;
        }
        self.revision += 1;
        for prefix in &change.clears {
            self.keys.retain(|key, _| !key.starts_with(prefix));
        }
        for (key, value) in change.puts {
            self.keys.insert(key, (value, self.revision));
        }
        true
    }
}

/// What a line does to what is asked over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cutover) enum Manner {
    Whole,
    /// Nothing comes through.
    Cut,
    /// It is heard, and the answer is lost.
    Deaf,
}

/// One proxy's line to it.
pub(in crate::cutover) struct Line {
    memory: Arc<Mutex<Memory>>,
    manner: Arc<Mutex<Manner>>,
    random: Mutex<StdRng>,
}

impl Line {
    pub(in crate::cutover) fn to(
        memory: &Arc<Mutex<Memory>>,
        seed: u64,
    ) -> (Self, Arc<Mutex<Manner>>) {
        let manner = Arc::new(Mutex::new(Manner::Whole));
        let line = Self {
            memory: Arc::clone(memory),
            manner: Arc::clone(&manner),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        };
        (line, manner)
    }

    fn pause(&self) -> Duration {
        Duration::from_micros(self.random.lock().random_range(50..3_000))
    }

    /// There, done, and back.
    async fn over<T>(&self, act: impl FnOnce(&mut Memory) -> T) -> Result<T, Down> {
        let down = || Down("the line is cut".to_owned());
        tokio::time::sleep(self.pause()).await;
        if *self.manner.lock() == Manner::Cut {
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Err(down());
        }
        let done = act(&mut self.memory.lock());
        tokio::time::sleep(self.pause()).await;
        if *self.manner.lock() == Manner::Whole {
            Ok(done)
        } else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Err(down())
        }
    }
}

impl Store for Line {
    fn look<'a>(&'a self, prefix: &'a str) -> Soon<'a, Result<Look, Down>> {
        Box::pin(self.over(move |memory| memory.look(prefix)))
    }

    fn change(&self, change: Change) -> Soon<'_, Result<bool, Down>> {
        Box::pin(self.over(move |memory| memory.change(change)))
    }
}

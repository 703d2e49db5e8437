//! Analyses by fingerprint, so that each shape of statement is read once.
//!
//! Bounded in entries and in bytes; thread-safe; the least recently used goes first. A text is looked
//! up by its skeleton first, which costs a glance at its bytes; one whose skeleton is new, but whose
//! shape is known, costs one pass of the lexer into a buffer that is used again.

use super::analysis::{FINGERPRINT_BYTES_MAX, fill_changes, has_literal_changes, of_fingerprint};
use super::fingerprint::Fingerprinter;
use super::skeleton::strip;
use super::{Analysis, Dialect};
use lru::LruCache;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of fingerprints kept, for each entry on average.
const ENTRY_BYTES: usize = 2 << 10;
/// A text's buffer beyond this is given back after use.
const BUFFER_BYTES_MAX: usize = 1 << 20;
/// Bytes of skeletons kept, for each entry on average, and of one at most.
const SKELETON_BYTES: usize = 512;
const SKELETON_BYTES_MAX: usize = 4 << 10;
/// Locks: threads that look up different shapes seldom meet.
const SHARDS: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers that are used again.
#[derive(Default)]
struct Scratch {
    fingerprinter: Fingerprinter,
    skeleton: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Catalog {
    shards: Vec<Mutex<Shard>>,
    skeletons: Mutex<Skeletons>,
    known: AtomicU64,
    read: AtomicU64,
    forgotten: AtomicU64,
}

#[derive(Debug)]
struct Shard {
    entries: LruCache<u64, Entry>,
    entries_max: usize,
    bytes: usize,
    bytes_max: usize,
}

/// Analyses by skeleton, of those that hold nothing of a literal.
#[derive(Debug)]
struct Skeletons {
    entries: LruCache<u64, Known>,
    entries_max: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    skeleton: Box<[u8]>,
    dialect: Dialect,
    analysis: Arc<Analysis>,
}

#[derive(Clone, Debug)]
struct Entry {
    analysis: Arc<Analysis>,
    /// A SET: what it changes must be read from each text.
    literal_changes: bool,
}

/// How the catalog has fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Texts whose shape was known.
    pub known: u64,
    /// Texts that had to be read.
    pub read: u64,
    /// Shapes and skeletons that were let go to stay within the bounds.
    pub forgotten: u64,
    /// Shapes held now.
    pub entries: usize,
    /// Skeletons held now.
    pub skeletons: usize,
}

impl Catalog {
    /// A catalog of at most `max_entries` shapes.
    #[must_use]
    pub fn new(max_entries: usize) -> Self {
        let entries_max = max_entries.div_ceil(SHARDS).max(1);
        let shard = || Shard {
            entries: LruCache::unbounded(),
            entries_max,
            bytes: 0,
            bytes_max: entries_max * ENTRY_BYTES + FINGERPRINT_BYTES_MAX,
        };
        Self {
            shards: std::iter::repeat_with(|| Mutex::new(shard()))
                .take(SHARDS)
                .collect(),
            skeletons: Mutex::new(Skeletons {
                entries: LruCache::unbounded(),
                entries_max: max_entries.max(1),
                bytes: 0,
            }),
            known: AtomicU64::new(0),
            read: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    /// The analysis of a text: remembered by its fingerprint, but for what its SETs change.
    pub fn analyze(&self, text: &[u8], dialect: Dialect) -> Arc<Analysis> {
        let entry = SCRATCH.with_borrow_mut(|scratch| {
            let skeleton = &mut scratch.skeleton;
            let key = strip(text, dialect, skeleton).then(|| xxh3_64(skeleton));
            let key = key.filter(|_| skeleton.len() <= SKELETON_BYTES_MAX);
            if let Some(analysis) = key.and_then(|key| self.known(key, skeleton, dialect)) {
                return Entry {
                    analysis,
                    literal_changes: false,
                };
            }
            let entry = self.entry(scratch.fingerprinter.run(text, dialect));
            scratch.fingerprinter.shrink(BUFFER_BYTES_MAX);
            if let Some(key) = key.filter(|_| !entry.literal_changes) {
                let forgotten = self.skeletons.lock().keep(
                    key,
                    Known {
                        skeleton: Box::from(skeleton.as_slice()),
                        dialect,
                        analysis: Arc::clone(&entry.analysis),
                    },
                );
                self.forgotten.fetch_add(forgotten, Ordering::Relaxed);
            }
            entry
        });
        if !entry.literal_changes {
            return entry.analysis;
        }
        let mut analysis = Analysis::clone(&entry.analysis);
        fill_changes(&mut analysis, text, dialect);
        Arc::new(analysis)
    }

    /// How it has fared so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            known: self.known.load(Ordering::Relaxed),
            read: self.read.load(Ordering::Relaxed),
            forgotten: self.forgotten.load(Ordering::Relaxed),
            entries: self
                .shards
                .iter()
                .map(|shard| shard.lock().entries.len())
                .sum(),
            skeletons: self.skeletons.lock().entries.len(),
        }
    }

    fn known(&self, key: u64, skeleton: &[u8], dialect: Dialect) -> Option<Arc<Analysis>> {
        let analysis = self.skeletons.lock().find(key, skeleton, dialect)?;
        self.known.fetch_add(1, Ordering::Relaxed);
        Some(analysis)
    }

    fn entry(&self, fingerprint: &[u8]) -> Entry {
        let fingerprint = String::from_utf8_lossy(fingerprint);
        let digest = xxh3_64(fingerprint.as_bytes());
        if let Some(entry) = self
            .shard(digest)
            .and_then(|shard| shard.lock().find(digest, &fingerprint))
        {
            self.known.fetch_add(1, Ordering::Relaxed);
            return entry;
        }
        self.read.fetch_add(1, Ordering::Relaxed);
        self.learn(digest, fingerprint)
    }

    fn learn(&self, digest: u64, fingerprint: Cow<'_, str>) -> Entry {
        let analysis = Arc::new(of_fingerprint(&fingerprint));
        let entry = Entry {
            literal_changes: has_literal_changes(&analysis),
            analysis,
        };
        if fingerprint.len() <= FINGERPRINT_BYTES_MAX
            && let Some(shard) = self.shard(digest)
        {
            let forgotten = shard.lock().keep(digest, entry.clone());
            self.forgotten.fetch_add(forgotten, Ordering::Relaxed);
        }
        entry
    }

    fn shard(&self, digest: u64) -> Option<&Mutex<Shard>> {
        let shard = usize::try_from(digest >> 60).unwrap_or(0);
        self.shards.get(shard % SHARDS)
    }
}

impl Skeletons {
    fn find(&mut self, key: u64, skeleton: &[u8], dialect: Dialect) -> Option<Arc<Analysis>> {
        let known = self.entries.get(&key)?;
        let same = *known.skeleton == *skeleton && known.dialect == dialect;
        same.then(|| Arc::clone(&known.analysis))
    }

    /// Keeps one; how many others had to go.
    fn keep(&mut self, key: u64, known: Known) -> u64 {
        self.bytes += known.skeleton.len();
        if let Some(old) = self.entries.put(key, known) {
            self.bytes -= old.skeleton.len();
        }
        let bytes_max = self.entries_max * SKELETON_BYTES + SKELETON_BYTES_MAX;
        let mut forgotten = 0;
        while self.entries.len() > self.entries_max || self.bytes > bytes_max {
            let Some((_, old)) = self.entries.pop_lru() else {
                break;
            };
            self.bytes -= old.skeleton.len();
            forgotten += 1;
        }
        forgotten
    }
}

impl Shard {
    fn find(&mut self, digest: u64, fingerprint: &str) -> Option<Entry> {
        let entry = self.entries.get(&digest)?;
        (&*entry.analysis.fingerprint == fingerprint).then(|| entry.clone())
    }

    /// Keeps an entry; how many others had to go.
    fn keep(&mut self, digest: u64, entry: Entry) -> u64 {
        self.bytes += entry.analysis.fingerprint.len();
        if let Some(old) = self.entries.put(digest, entry) {
            self.bytes -= old.analysis.fingerprint.len();
        }
        let mut forgotten = 0;
        while self.entries.len() > self.entries_max || self.bytes > self.bytes_max {
            let Some((_, old)) = self.entries.pop_lru() else {
                break;
            };
            self.bytes -= old.analysis.fingerprint.len();
            forgotten += 1;
        }
        forgotten
    }
}

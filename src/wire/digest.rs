//! Digests of rows and column definitions, the same however the bytes arrived.
//!
//! A row's digest is the xxh3-128 of its payload. Rows in order are a chain of those digests;
//! rows in any order are their wrapping sum.

use super::answer::Rows;
use std::cell::RefCell;
use std::fmt;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64, xxh3_128};

/// The digest of one row's payload.
#[must_use]
pub fn row(payload: &[u8]) -> u128 {
    xxh3_128(payload)
}

/// Folds a row of `bytes` bytes into the rows before it.
pub fn fold_row(rows: &mut Rows, digest: u128, bytes: u64) {
    let mut link = [0; 32];
    let (before, this) = link.split_at_mut(16);
    before.copy_from_slice(&rows.ordered.to_le_bytes());
    this.copy_from_slice(&digest.to_le_bytes());
    rows.ordered = xxh3_128(&link);
    rows.unordered = rows.unordered.wrapping_add(digest);
    rows.rows += 1;
    rows.bytes += bytes;
}

/// Folds a column definition into those before it.
pub fn fold_column(rows: &mut Rows, digest: u128) {
    let mut link = [0; 24];
    let (before, this) = link.split_at_mut(8);
    before.copy_from_slice(&rows.columns_digest.to_le_bytes());
    this.copy_from_slice(&digest.to_le_bytes());
    rows.columns_digest = xxh3_64(&link);
}

/// Digests one payload that arrives in parts. A hasher is longer than all else that a connection
/// needs between two answers, so it is borrowed while a payload has begun and not ended.
#[derive(Default)]
pub(super) struct Parts {
    hasher: Option<Hasher>,
    bytes: u64,
}

/// Hashers that a thread keeps for their next use.
const KEPT_MAX: usize = 64;

/// On the heap, so that it is handed over as it is and not copied.
#[derive(Default)]
struct Hasher(Box<Xxh3Default>);

thread_local! {
    static KEPT: RefCell<Vec<Hasher>> = const { RefCell::new(Vec::new()) };
}

impl Parts {
    pub(super) const fn new() -> Self {
        Self {
            hasher: None,
            bytes: 0,
        }
    }

    /// Takes the next part.
    pub(super) fn push(&mut self, part: &[u8]) {
        let hasher = self.hasher.get_or_insert_with(|| {
            let kept = KEPT.with_borrow_mut(Vec::pop);
            kept.unwrap_or_default()
        });
        hasher.0.update(part);
        self.bytes += part.len() as u64;
    }

    /// The payload's digest and length; the next part begins another payload.
    pub(super) fn take(&mut self) -> (u128, u64) {
        let bytes = std::mem::take(&mut self.bytes);
        let Some(mut hasher) = self.hasher.take() else {
            return (row(&[]), bytes);
        };
        let digest = hasher.0.digest128();
        hasher.0.reset();
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < KEPT_MAX {
                kept.push(hasher);
            }
        });
        (digest, bytes)
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(payloads: &[&[u8]]) -> Rows {
        let mut rows = Rows::default();
        for payload in payloads {
            fold_row(&mut rows, row(payload), payload.len() as u64);
        }
        rows
    }

    #[test]
    fn order_is_told_by_one_digest_and_not_by_the_other() {
        let (ab, ba) = (rows(&[b"a", b"b"]), rows(&[b"b", b"a"]));
        assert_ne!(ab.ordered, ba.ordered);
        assert_eq!(ab.unordered, ba.unordered);
    }

    #[test]
    fn neither_digest_takes_pairs_of_equal_rows_for_none() {
        let (twice, once) = (rows(&[b"a", b"a", b"b"]), rows(&[b"b"]));
        assert_ne!(twice.ordered, once.ordered);
        assert_ne!(twice.unordered, once.unordered);
        assert_ne!(rows(&[b""]).unordered, rows(&[]).unordered);
    }

    #[test]
    fn parts_digest_as_the_whole_at_every_length() {
        let payload = (0..2000_u32)
            .map(|n| n.to_le_bytes()[0])
            .collect::<Vec<_>>();
        let mut parts = Parts::new();
        for len in 0..payload.len() {
            let whole = &payload[..len];
            parts.push(&whole[..len / 3]);
            parts.push(&whole[len / 3..]);
            assert_eq!(parts.take(), (row(whole), len as u64), "{len}");
        }
    }
}

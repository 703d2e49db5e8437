//! What is behind a walk's cursor: rows that looked different and wait to be looked at again, and such as are looked at
//! now. It alone says where a cursor may be kept: what is behind one must be settled.

use super::batch::Batch;
use super::cursor::Cursor;
use super::rows::Suspect;
use std::time::Duration;
use tokio::time::Instant;

/// Suspects that are settled together; the walk waits where so many are collected while others are settled.
const TOGETHER: usize = 500;

/// They are not kept waiting for longer: the cursor stands where it stood.
const WAIT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Default)]
pub(super) struct Behind<'a> {
    waits: Vec<Suspect>,
    /// Since when the first of them does.
    since: Option<Instant>,
    looks: Looks<'a>,
}

/// Whether some are looked at.
#[derive(Default)]
enum Looks<'a> {
    #[default]
    None,
    /// By this batch,
    At(Box<Batch<'a>>),
    /// or by one that somebody else drives for now.
    Lent,
}

impl<'a> Behind<'a> {
    /// A cursor that stands here; none where anything is behind it.
    pub(super) fn cursor(&self, here: Cursor) -> Option<Cursor> {
        self.is_nothing().then_some(here)
    }

    /// Whether there is nothing.
    pub(super) const fn is_nothing(&self) -> bool {
        self.waits.is_empty() && matches!(self.looks, Looks::None)
    }

    /// Whether some wait.
    pub(super) const fn waits(&self) -> bool {
        !self.waits.is_empty()
    }

    /// Whether there is no room for what another range may bring.
    pub(super) const fn is_full(&self) -> bool {
        self.waits.len() >= TOGETHER
    }

    /// Whether some are to be looked at now: there are enough, they have waited long enough, or the walk `ends`.
    pub(super) fn is_due(&self, ends: bool) -> bool {
        let waited = self.since.is_some_and(|since| since.elapsed() >= WAIT);
        let due = ends || self.is_full() || waited;
        matches!(self.looks, Looks::None) && self.waits() && due
    }

    /// These wait, too.
    pub(super) fn add(&mut self, suspects: Vec<Suspect>) {
        if self.waits.is_empty() {
            self.since = Some(Instant::now());
        }
        self.waits.extend(suspects);
    }

    /// These wait once more, before the others.
    pub(super) fn again(&mut self, suspects: Vec<Suspect>) {
        self.waits.splice(0..0, suspects);
    }

    /// As many as are settled together do not wait any more.
    pub(super) fn some(&mut self) -> Vec<Suspect> {
        let some = self.waits.len().min(TOGETHER);
        self.waits.drain(..some).collect()
    }

    /// None of them waits any more.
    pub(super) fn all(&mut self) -> Vec<Suspect> {
        std::mem::take(&mut self.waits)
    }

    /// This batch looks at some.
    pub(super) fn look(&mut self, batch: Box<Batch<'a>>) {
        self.looks = Looks::At(batch);
    }

    /// The batch that looks, to be driven; what it looks at stays behind the cursor until [`Behind::looked`].
    pub(super) fn lend(&mut self) -> Option<Box<Batch<'a>>> {
        match std::mem::take(&mut self.looks) {
            Looks::None => None,
            Looks::At(batch) => {
                self.looks = Looks::Lent;
                Some(batch)
            }
            Looks::Lent => {
                self.looks = Looks::Lent;
                None
            }
        }
    }

    /// What was lent has come to its end.
    pub(super) fn looked(&mut self) {
        self.looks = Looks::None;
    }
}

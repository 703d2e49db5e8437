//! Exchanges that lie ready for their next use.
//!
//! Both sides try a shelf's lock and go on to the next where another has it: a thread of the shadow
//! side, which runs at a lower priority, may be stopped with a lock in its hands, and the relay neither
//! waits nor spins for it.

use super::charged::Parcel;
use parking_lot::Mutex;

/// Shelves, so that two threads seldom want the same one.
const SHELVES: usize = 4;

/// What one shelf holds at most. With [`super::charged::KEPT_BYTES_MAX`] each, 16 MiB in all.
const SHELF_MAX: usize = 256;

/// See the module.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the box itself is what is kept")]
pub(super) struct Kept([Mutex<Vec<Box<Parcel>>>; SHELVES]);

impl Kept {
    /// The one that was put down last, if a shelf is free that has any.
    pub(super) fn take(&self) -> Option<Box<Parcel>> {
        let mut shelves = self.0.iter();
        shelves.find_map(|shelf| shelf.try_lock()?.pop())
    }

    /// Puts one down, if a shelf is free that has room; else it is let go.
    pub(super) fn put(&self, parcel: Box<Parcel>) {
        let shelf = self.0.iter().find_map(|shelf| {
            let shelf = shelf.try_lock()?;
            (shelf.len() < SHELF_MAX).then_some(shelf)
        });
        if let Some(mut shelf) = shelf {
            shelf.push(parcel);
        }
    }

    /// Lets all of them go.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|shelf| shelf.lock().clear());
    }
}

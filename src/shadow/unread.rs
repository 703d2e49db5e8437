//! What lies in the antechamber, as everybody else may know it: how much, and since when.
//!
//! Whoever says that nobody wrote to a table, or that a table is not tainted, knows only what was looked
//! at. So they ask here whether that is all up to a moment; where it is not, somebody perhaps did. What is in
//! the tee itself is not known here: the dispatcher receives it within moments whatever lies.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Nothing lies there.
const NOTHING: u64 = u64::MAX;

/// From one look whether all is known to the next, at first and at most; each is twice the one before. Many
/// may wait, and long.
const LOOKS: Duration = Duration::from_millis(50);
const LOOKS_MAX: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Unread {
    born: Instant,
    len: AtomicUsize,
    /// When the primary had acknowledged the first of it, in nanoseconds since birth.
    since: AtomicU64,
    /// When there was something last, the same way.
    emptied: AtomicU64,
}

impl Default for Unread {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            len: AtomicUsize::new(0),
            since: AtomicU64::new(NOTHING),
            emptied: AtomicU64::new(0),
        }
    }
}

impl Unread {
    /// So many lie there, the first of them since then; said before the first one lies there, and after what
    /// is known of those that left.
    pub(super) fn tell(&self, len: usize, since: Option<Instant>) {
        self.len.store(len, Ordering::Relaxed);
        let now = since.map_or(NOTHING, |since| self.nanos(since));
        let before = self.since.load(Ordering::Relaxed);
        if now == NOTHING && before != NOTHING {
            self.emptied
                .store(self.nanos(Instant::now()), Ordering::Release);
        }
        if now != before {
            self.since.store(now, Ordering::Release);
        }
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// When the first of them was acknowledged.
    pub(super) fn since(&self) -> Option<Instant> {
        let since = self.since.load(Ordering::Acquire);
        (since != NOTHING).then(|| self.born + Duration::from_nanos(since))
    }

    /// Whether all is known that the primary acknowledged, and that came through the tee, until then.
    pub(super) fn is_known(&self, until: Instant) -> bool {
        self.since().is_none_or(|since| since > until)
    }

    /// The same, once it is; it is not waited for longer than to this moment.
    pub(super) async fn known(&self, until: Instant, at_most: Instant) -> bool {
        let mut pause = LOOKS;
        while !self.is_known(until) {
            let now = Instant::now();
            if now >= at_most {
                return false;
            }
            tokio::time::sleep_until(at_most.min(now + pause)).await;
            pause = (pause * 2).min(LOOKS_MAX);
        }
        true
    }

    /// Whether anything lay there then or later.
    pub(super) fn has_lain(&self, then: Instant) -> bool {
        let then = self.nanos(then);
        // First whether something does: it may leave in between.
        self.since.load(Ordering::Acquire) != NOTHING || self.emptied.load(Ordering::Acquire) > then
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.born).as_nanos();
        u64::try_from(since).unwrap_or(NOTHING).min(NOTHING - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_known_ends_where_something_lies() {
        let unread = Unread::default();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        assert!(unread.is_known(at(9)) && !unread.has_lain(start));
        unread.tell(2, Some(at(3)));
        assert_eq!((unread.len(), unread.since()), (2, Some(at(3))));
        assert!(unread.is_known(at(2)) && !unread.is_known(at(3)));
        let leaves = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            unread.tell(1, Some(at(5)));
        };
        let (known, ()) = tokio::join!(unread.known(at(4), at(60)), leaves);
        assert!(known && start.elapsed() < Duration::from_secs(2));
        assert!(!unread.known(at(5), at(2)).await, "not for ever");
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        unread.tell(0, None);
        assert!(unread.is_known(at(100)) && unread.has_lain(at(1)));
        assert!(!unread.has_lain(at(3)), "it was empty again by then");
    }
}

//! Wakes the receiver from another runtime, without a lock and only when it sleeps.
//!
//! Ringing costs a fence and a load while the receiver is awake, so a busy tee rings seldom.

use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::Waker;

/// One sleeper, many ringers.
#[derive(Debug, Default)]
pub(super) struct Bell {
    asleep: AtomicBool,
    sleeper: ArcSwapOption<Waker>,
    woken: AtomicU64,
}

impl Bell {
    /// Wakes the sleeper. What it is to see must have been pushed before.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::AcqRel)
            && let Some(waker) = &*self.sleeper.load()
        {
            self.woken.fetch_add(1, Ordering::Relaxed);
            waker.wake_by_ref();
        }
    }

    /// How often the sleeper was woken: each costs a system call.
    pub(super) fn woken(&self) -> u64 {
        self.woken.load(Ordering::Relaxed)
    }

    /// The sleeper will sleep now. It must look once more after this, then sleep or [`Bell::up`].
    pub(super) fn sleep(&self, waker: &Waker) {
        let known = self
            .sleeper
            .load()
            .as_ref()
            .is_some_and(|old| old.will_wake(waker));
        if !known {
            self.sleeper.store(Some(Arc::new(waker.clone())));
        }
        self.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// The sleeper found something after all.
    pub(super) fn up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

//! That what waits for the shadow must stop waiting: mirroring is suspended, or ends. Looked at by
//! every command, so that looking costs a load, and waiting for it a place in a list.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Halt {
    on: AtomicBool,
    bell: Notify,
}

impl Halt {
    /// Whether it is.
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// From now on it is, or is no more.
    pub(super) fn set(&self, on: bool) {
        if !self.on.swap(on, Ordering::AcqRel) && on {
            self.bell.notify_waiters();
        }
    }

    /// Returns once it is.
    ///
    /// Cancel-safe.
    pub(super) async fn until_on(&self) {
        loop {
            // Asked for before the look, so that none is missed between the two.
            let rings = self.bell.notified();
            if self.is_on() {
                return;
            }
            rings.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_return_and_later_ones_too_until_it_is_over() {
        let halt = Halt::default();
        let rings = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            halt.set(true);
        };
        tokio::join!(halt.until_on(), halt.until_on(), rings);
        halt.until_on().await;
        halt.set(false);
        let waits = tokio::time::timeout(Duration::from_secs(9), halt.until_on());
        assert!(waits.await.is_err());
    }
}

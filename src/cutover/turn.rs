//! Whose turn it is to change something at a server that is changed and changed back: its fence, replication
//! into it. What is tried again beside, until a server that was away answers, must not come behind what was
//! decided since, and undo it.
//!
//! Each decision raises a number. What carries an older one does nothing any more, and finds that out with
//! its turn in hand, between its login and its statement. Who has the turn keeps it until the server has
//! answered: so what comes next comes behind it. Refuses to know what becomes of a statement whose answer
//! nobody waits for any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    number: Arc<AtomicU64>,
    place: Arc<Mutex<()>>,
}

impl Turn {
    /// Something is decided: what was decided before is not done any more. The number of this decision.
    pub(super) fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the newest decision.
    pub(super) fn current(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Waits until what was sent is answered. Nothing is sent by others before this is dropped.
    pub(super) async fn take(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.place).lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task;
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn what_was_decided_before_comes_before_or_not_at_all() {
        let turn = Turn::default();
        let sent = Arc::new(parking_lot::Mutex::new(Vec::new()));
        // Three that were decided first: one is about to be answered, two are still logging in.
        let mine = turn.next();
        let mut tries = Vec::new();
        for login in [0_u64, 5, 50] {
            let (turn, sent) = (turn.clone(), Arc::clone(&sent));
            tries.push(task::spawn("try", async move {
                sleep(Duration::from_millis(login)).await;
                let _turn = turn.take().await;
                if turn.current() == mine {
                    sleep(Duration::from_millis(20)).await;
                    sent.lock().push("start");
                }
            }));
        }
        sleep(Duration::from_millis(10)).await;
        let (began, decided) = (Instant::now(), turn.next());
        let place = turn.take().await;
        assert_eq!(turn.current(), decided);
        assert_eq!(
            began.elapsed(),
            Duration::from_millis(10),
            "it was answered"
        );
        sent.lock().push("stop");
        drop(place);
        for one in tries {
            one.await.unwrap();
        }
        assert_eq!(*sent.lock(), ["start", "stop"]);
    }
}

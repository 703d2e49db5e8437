//! The line in which the sessions' commands stand: [`Order`] behind a lock, and how a command
//! waits for its turn.

use super::order::{Order, Place, Request, Waits};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Line {
    order: Mutex<Order>,
    moved: Notify,
}

impl Line {
    /// Puts a command at the end.
    pub(super) fn join(self: &Arc<Self>, request: Request) -> Ticket {
        let (place, waits) = self.order.lock().register(request);
        Ticket {
            line: Arc::clone(self),
            place,
            waits,
        }
    }

    /// Commands in the line.
    pub(super) fn len(&self) -> usize {
        self.order.lock().len()
    }

    /// Since when the first one has been waiting.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.order.lock().oldest()
    }
}

/// How long a commit waits for reads, whose session may be waiting for it.
const READS_WAIT: Duration = Duration::from_millis(50);

/// How the waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// All that it waited for was done.
    Came,
    /// But for some reads.
    OvertookReads,
    /// It ran before its turn.
    Late,
}

/// A command's place in the line; dropping it lets those behind go on.
#[derive(Debug)]
pub(super) struct Ticket {
    line: Arc<Line>,
    place: Place,
    waits: Waits,
}

impl Ticket {
    /// Waits until it is this command's turn, at most so long.
    ///
    /// Cancel-safe.
    pub(super) async fn turn(&self, at_most: Duration) -> Turn {
        let start = Instant::now();
        if self.unblocked(true, start + at_most.min(READS_WAIT)).await {
            Turn::Came
        } else if self.unblocked(false, start + at_most).await {
            Turn::OvertookReads
        } else {
            Turn::Late
        }
    }

    async fn unblocked(&self, patient: bool, deadline: Instant) -> bool {
        loop {
            let moved = self.line.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if !self.is_blocked(patient) {
                return true;
            }
            if tokio::time::timeout_at(deadline, moved).await.is_err() {
                return !self.is_blocked(patient);
            }
        }
    }

    fn is_blocked(&self, patient: bool) -> bool {
        self.line.order.lock().blocks(&self.waits, patient)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.line.order.lock().complete(self.place);
        self.line.moved.notify_waiters();
    }
}

//! The line in which the sessions' commands stand: [`Order`] behind a lock, and how a command
//! waits for its turn.

use super::order::{Order, Place, Request, Waits};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Line {
    queue: Mutex<Queue>,
}

/// Who waits registers with the last command that is in its way, and is woken by that one alone.
#[derive(Debug, Default)]
struct Queue {
    order: Order,
    bells: HashMap<Place, Vec<Arc<Notify>>>,
}

impl Line {
    /// Puts a command at the end.
    pub(super) fn join(self: &Arc<Self>, request: Request) -> Ticket {
        let (place, waits) = self.queue.lock().order.register(request);
        Ticket {
            line: Arc::clone(self),
            place,
            waits,
            bell: OnceLock::new(),
        }
    }

    /// Commands in the line.
    pub(super) fn len(&self) -> usize {
        self.queue.lock().order.len()
    }

    /// See [`Order::sessions_behind`].
    pub(super) fn sessions_behind(&self, then: Instant) -> BTreeSet<u64> {
        self.queue.lock().order.sessions_behind(then)
    }

    /// Looks at the order; nothing that takes its time may be done there.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Order) -> T) -> T {
        look(&self.queue.lock().order)
    }

    /// Since when the first one has been waiting.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.queue.lock().order.oldest()
    }
}

/// Who has waited so long for its turn gives back the locks that it holds on the shadow.
pub(super) const YIELD_AFTER: Duration = Duration::from_millis(150);

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
    /// Most never wait, and have none.
    bell: OnceLock<Arc<Notify>>,
}

impl Ticket {
    /// Waits until it is this command's turn, at most so long.
    ///
    /// Cancel-safe.
    pub(super) async fn turn(&self, at_most: Duration) -> Turn {
        if self.waits.is_empty() {
            return Turn::Came;
        }
        let start = Instant::now();
        if self.unblocked(true, start + at_most.min(READS_WAIT)).await {
            Turn::Came
        } else if self.unblocked(false, start + at_most).await {
            Turn::OvertookReads
        } else {
            Turn::Late
        }
    }

    /// Its turn is over: it runs.
    pub(super) fn start(&self) {
        self.line.queue.lock().order.start(self.place);
    }

    async fn unblocked(&self, patient: bool, deadline: Instant) -> bool {
        while self.is_blocked(patient) {
            let rings = self.bell().notified();
            if tokio::time::timeout_at(deadline, rings).await.is_err() {
                return !self.is_blocked(patient);
            }
        }
        true
    }

    /// Whether something is in its way; if so, its bell rings once that is done.
    fn is_blocked(&self, patient: bool) -> bool {
        let mut queue = self.line.queue.lock();
        let Some(blocker) = queue.order.blocker(&self.waits, patient) else {
            return false;
        };
        let bells = queue.bells.entry(blocker).or_default();
        bells.push(Arc::clone(self.bell()));
        true
    }

    fn bell(&self) -> &Arc<Notify> {
        self.bell.get_or_init(Arc::default)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let bells = {
            let mut queue = self.line.queue.lock();
            queue.order.complete(self.place);
            if queue.bells.is_empty() {
                return;
            }
            queue.bells.remove(&self.place)
        };
        for bell in bells.into_iter().flatten() {
            bell.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::{Part, Scope};
    use super::*;
    use crate::sql::Table;

    fn join(line: &Arc<Line>, part: Part, table: &str, began: Instant) -> Ticket {
        let table = Table {
            database: None,
            name: table.into(),
        };
        line.join(Request {
            session: 0,
            part,
            scope: Scope::Known([table].into()),
            writes: Scope::none(),
            began,
            acked: began,
            statement: Some(Arc::from("UPDATE `a` SET `b` = ?")),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_comes_when_the_last_in_its_way_is_done_in_whatever_order() {
        let (line, start) = (Arc::<Line>::default(), Instant::now());
        let first = join(&line, Part::Commit, "a", start);
        let second = join(&line, Part::Commit, "a", start);
        let _other = join(&line, Part::Commit, "b", start);
        let read = join(&line, Part::Read, "a", start);
        let ends = |ticket: Ticket, after| async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            drop(ticket);
        };
        let (turn, (), ()) = tokio::join!(
            read.turn(Duration::from_secs(1)),
            ends(second, 10),
            ends(first, 20)
        );
        assert_eq!(turn, Turn::Came);
        assert_eq!(start.elapsed(), Duration::from_millis(20));
        assert!(line.queue.lock().bells.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_late() {
        let (line, start) = (Arc::<Line>::default(), Instant::now());
        let _first = join(&line, Part::Commit, "a", start);
        let read = join(&line, Part::Read, "a", start);
        assert_eq!(read.turn(Duration::from_secs(1)).await, Turn::Late);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
}

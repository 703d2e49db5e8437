//! Room for connections to the shadow: so many may be open. Who finds none left asks, and each ask moves
//! one connection that may be parked, the one that has been idle longest first. It refuses to know
//! connections: who is told that one is wanted lets its own go at once.

use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// See the module.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    places: Arc<Semaphore>,
    asks: Mutex<Asks>,
    /// Rung once an ask: of those who wait to be asked, the first to come hears. Those who come later look
    /// at the asks themselves.
    rung: Notify,
}

#[derive(Debug, Default)]
struct Asks {
    /// Those who wait for a place.
    open: usize,
    /// Places that were let go for them and that they have not taken yet.
    given: usize,
}

/// Waits for a place, until this is dropped.
struct Ask<'a> {
    room: &'a Room,
    got: bool,
}

impl Room {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            places: Arc::new(Semaphore::new(most)),
            asks: Mutex::default(),
            rung: Notify::new(),
        }
    }

    /// A place for one more connection; where none is left, one is asked for, for so long at most.
    ///
    /// Cancel-safe.
    pub(super) async fn place(&self, at_most: Duration) -> Option<OwnedSemaphorePermit> {
        let asking = Arc::clone(&self.places).acquire_owned();
        // It must stand in the queue before it asks: what is let go for it is not for those who come later.
        let mut asking = pin!(tokio::task::unconstrained(asking));
        tokio::select! {
            biased;
            place = &mut asking => return place.ok(),
            () = std::future::ready(()) => {}
        }
        let mut ask = Ask::new(self);
        let place = tokio::time::timeout(at_most, asking).await.ok()?.ok()?;
        ask.got = true;
        Some(place)
    }

    /// Resolves once a connection is wanted that nobody else lets go. Whoever it resolves for lets its own
    /// go at once.
    ///
    /// Cancel-safe: what this one was told and did not take, the next one hears.
    pub(super) async fn wanted(&self) {
        loop {
            let mut rung = pin!(self.rung.notified());
            // In the queue before the look, so that no ask is missed between the two.
            rung.as_mut().enable();
            if self.gives() {
                return;
            }
            rung.await;
        }
    }

    /// Connections that are open, or about to be.
    pub(super) fn taken(&self) -> usize {
        self.most.saturating_sub(self.places.available_permits())
    }

    fn gives(&self) -> bool {
        let mut asks = self.asks.lock();
        let wanted = asks.open > asks.given;
        asks.given += usize::from(wanted);
        wanted
    }
}

impl<'a> Ask<'a> {
    fn new(room: &'a Room) -> Self {
        room.asks.lock().open += 1;
        room.rung.notify_one();
        Self { room, got: false }
    }
}

impl Drop for Ask<'_> {
    fn drop(&mut self) {
        let mut asks = self.room.asks.lock();
        asks.open = asks.open.saturating_sub(1);
        if self.got {
            asks.given = asks.given.saturating_sub(1);
        }
        asks.given = asks.given.min(asks.open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;
    use tokio::time::{Instant, sleep};

    const LONG: Duration = Duration::from_secs(1);

    /// One that is idle, and may be asked after so long. Whether it was, within ten seconds.
    async fn idle(room: Arc<Room>, after: Duration) -> bool {
        let place = room.place(LONG).await.expect("a place");
        sleep(after).await;
        let asked = tokio::time::timeout(LONG * 10, room.wanted()).await;
        drop(place);
        asked.is_ok()
    }

    /// So many ask at one instant; how many have a place, which they keep.
    async fn ask(room: &Arc<Room>, at: Duration, many: usize) -> Vec<OwnedSemaphorePermit> {
        sleep(at).await;
        let all: JoinSet<_> = (0..many)
            .map(|_| Arc::clone(room))
            .map(|room| async move { room.place(LONG).await })
            .collect();
        all.join_all().await.into_iter().flatten().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_ask_moves_one_whether_it_came_before_they_could_be_asked_or_after() {
        for (asked_after, at) in [(500, 100), (500, 500), (500, 700), (0, 100)] {
            for asks in [1, 5, 10] {
                let room = Arc::new(Room::new(10));
                let ms = Duration::from_millis;
                let idle: JoinSet<_> = (0..10)
                    .map(|_| idle(Arc::clone(&room), ms(asked_after)))
                    .collect();
                let (parked, got) = tokio::join!(idle.join_all(), ask(&room, ms(at), asks));
                let parked = parked.iter().filter(|parked| **parked).count();
                assert_eq!((got.len(), parked), (asks, asks), "{asked_after} {at}");
                assert_eq!(room.taken(), asks);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_in_vain_is_told_so_and_asks_nobody_any_more() {
        let room = Room::new(1);
        let place = room.place(LONG).await;
        let start = Instant::now();
        assert!(room.place(LONG).await.is_none());
        assert_eq!(start.elapsed(), LONG);
        let wanted = tokio::time::timeout(LONG, room.wanted());
        assert!(wanted.await.is_err());
        drop(place);
        assert!(room.place(LONG).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_came_of_itself_leaves_the_next_ask_as_it_is() {
        let room = Arc::new(Room::new(2));
        let (one, two) = (room.place(LONG).await, room.place(LONG).await);
        let lets_go = async {
            sleep(LONG / 4).await;
            drop(one); // Its session is over.
            sleep(LONG / 4).await;
            room.wanted().await;
            drop(two);
        };
        let (got, ()) = tokio::join!(ask(&room, LONG / 10, 2), lets_go);
        assert_eq!(got.len(), 2);
    }
}

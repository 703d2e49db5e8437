//! The places at the HTTP door. Who was let in keeps theirs. Where none is free one of the others leaves for who comes:
//! of the address that has most of them, the one that came first. So whoever opens connections and proves nothing
//! takes places from themselves, and from nobody who may ask.

use super::Counters;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at once.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// That connections are closed for want of places is said once in this time.
const SAID: Duration = Duration::from_secs(60);

/// Whether a request that came by a connection was let in: who asked had a token, or needed none. In the extensions
/// of its requests; clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct LetIn(Arc<AtomicBool>);

impl LetIn {
    /// One was.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Places {
    taken: Mutex<Taken>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Taken {
    all: Vec<Seated>,
    last: u64,
    said: Option<Instant>,
    unsaid: u64,
}

#[derive(Debug)]
struct Seated {
    /// In the order in which they came.
    number: u64,
    from: IpAddr,
    let_in: LetIn,
    leave: CancellationToken,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    let_in: LetIn,
    leave: CancellationToken,
}

impl Place {
    /// Whether a request was let in.
    pub(super) const fn let_in(&self) -> &LetIn {
        &self.let_in
    }

    /// Resolves where the connection is to end at once, for its place is another's. Cancel-safe.
    pub(super) async fn is_lost(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all.retain(|one| one.number != self.number);
    }
}

impl Places {
    pub(super) fn new(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            counters,
        })
    }

    /// A place for who comes from this address; none where all are taken by those who were let in.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock();
        if taken.all.len() >= CONNECTIONS_MAX {
            let leaves = taken.leaves();
            self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
            taken.say(leaves.as_ref().map_or(from, |one| one.from));
            leaves?.leave.cancel();
        }
        taken.last = taken.last.wrapping_add(1);
        let place = Place {
            places: Arc::clone(self),
            number: taken.last,
            let_in: LetIn::default(),
            leave: CancellationToken::new(),
        };
        taken.all.push(Seated {
            number: place.number,
            from,
            let_in: place.let_in.clone(),
            leave: place.leave.clone(),
        });
        Some(place)
    }
}

impl Taken {
    /// Takes out who leaves for another.
    fn leaves(&mut self) -> Option<Seated> {
        let strangers = || self.all.iter().filter(|one| !one.let_in.is());
        let has = |from: IpAddr| strangers().filter(|one| one.from == from).count();
        let first = strangers().max_by_key(|one| (has(one.from), Reverse(one.number)));
        let number = first?.number;
        let at = self.all.iter().position(|one| one.number == number)?;
        Some(self.all.swap_remove(at))
    }

    /// Says that a connection from there was closed, now and then.
    fn say(&mut self, from: IpAddr) {
        self.unsaid += 1;
        if self.said.is_some_and(|at| at.elapsed() < SAID) {
            return;
        }
        self.said = Some(Instant::now());
        let closed = std::mem::take(&mut self.unsaid);
        tracing::warn!(
            "the admin's {CONNECTIONS_MAX} places are all taken: {closed} connections were closed since that was said last, the last one from {from}. Those are closed first by which no request was let in, of the address that has most of them"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    fn is_lost(place: &Place) -> bool {
        place.leave.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_proves_nothing_takes_places_from_themselves_alone() {
        let places = Places::new(Arc::default());
        let count = || places.counters.turned_away.load(Ordering::Relaxed);
        let operator = places.take(at(1)).unwrap();
        operator.let_in().set();
        // In the midst of shaking hands.
        let comes = places.take(at(2)).unwrap();
        let mut silent = Vec::new();
        for _ in 2..CONNECTIONS_MAX {
            silent.push(places.take(at(3)).unwrap());
        }
        assert_eq!(count(), 0);
        for more in 0..100 {
            silent.push(places.take(at(3)).unwrap());
            assert!(is_lost(&silent[more]) && !is_lost(&silent[more + 1]));
        }
        assert!(!is_lost(&operator) && !is_lost(&comes));
        let asks = places.take(at(1)).unwrap();
        assert!(!is_lost(&asks) && !is_lost(&operator) && !is_lost(&comes));
        assert_eq!(count(), 101);
        assert_eq!(places.taken.lock().all.len(), CONNECTIONS_MAX);
        drop((silent, asks, comes, operator));
        assert_eq!(places.taken.lock().all.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_let_in_leaves_for_nobody() {
        let places = Places::new(Arc::default());
        let take = |_| places.take(at(1)).unwrap();
        let all: Vec<Place> = (0..CONNECTIONS_MAX).map(take).collect();
        for place in &all {
            place.let_in().set();
        }
        assert!(places.take(at(2)).is_none());
        assert!(!all.iter().any(is_lost));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_a_minute() {
        let mut taken = Taken::default();
        taken.say(at(1));
        taken.say(at(1));
        assert_eq!(taken.unsaid, 1);
        tokio::time::advance(SAID).await;
        taken.say(at(1));
        assert_eq!(taken.unsaid, 0);
    }
}

//! The places at a door of the admin's. Who was let in keeps theirs. Where none is free one of the others leaves for who
//! comes: of the address that has most of them, the one that came first. So whoever opens connections and proves nothing
//! takes places from themselves, and from nobody who may ask. Of viewers three quarters of the places may be kept, so that
//! they keep no operator out.

use super::few::{Few, Taken};
use crate::config::Role;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at once to the HTTP door.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// That connections are closed for want of places is said once in this time.
const SAID: Duration = Duration::from_secs(60);

/// Whether somebody who came by a connection was let in: they had a token, or needed none. In the extensions of its
/// requests; clones are of the same connection.
#[derive(Clone, Debug)]
pub(super) struct LetIn(Arc<Standing>);

#[derive(Debug)]
struct Standing {
    is: AtomicBool,
    /// The places that viewers may keep.
    of_viewers: Arc<Few>,
    /// One of these, where this connection has it.
    as_viewer: OnceLock<Taken>,
}

impl LetIn {
    fn of(of_viewers: &Arc<Few>) -> Self {
        Self(Arc::new(Standing {
            is: AtomicBool::new(false),
            of_viewers: Arc::clone(of_viewers),
            as_viewer: OnceLock::new(),
        }))
    }

    /// Somebody of this role was. Whether they keep the place, which a viewer does not where too many others have theirs.
    pub(super) fn set(&self, role: Role) -> bool {
        if self.is() {
            return true;
        }
        if role == Role::Viewer {
            let Some(place) = self.0.of_viewers.take(role) else {
                return false;
            };
            let _it_has_one = self.0.as_viewer.set(place);
        }
        self.0.is.store(true, Ordering::Relaxed);
        true
    }

    fn is(&self) -> bool {
        self.0.is.load(Ordering::Relaxed)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    seating: Mutex<Seating>,
    of_viewers: Arc<Few>,
    /// Connections that were closed for want of places.
    turned_away: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Seating {
    /// What the door is called, and how many places it has.
    door: String,
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
        let mut seating = self.places.seating.lock();
        seating.all.retain(|one| one.number != self.number);
    }
}

impl Places {
    /// So many at the door of this name.
    pub(super) fn new(door: &str, most: usize, turned_away: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            most,
            seating: Mutex::new(Seating::of(door, most)),
            of_viewers: Few::new(most),
            turned_away,
        })
    }

    /// A place for who comes from this address; none where all are taken by those who were let in.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let mut seating = self.seating.lock();
        if seating.all.len() >= self.most {
            let leaves = seating.leaves();
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            seating.say(leaves.as_ref().map_or(from, |one| one.from));
            leaves?.leave.cancel();
        }
        seating.last = seating.last.wrapping_add(1);
        let place = Place {
            places: Arc::clone(self),
            number: seating.last,
            let_in: LetIn::of(&self.of_viewers),
            leave: CancellationToken::new(),
        };
        seating.all.push(Seated {
            number: place.number,
            from,
            let_in: place.let_in.clone(),
            leave: place.leave.clone(),
        });
        Some(place)
    }
}

impl Seating {
    fn of(door: &str, most: usize) -> Self {
        Self {
            door: format!("{door}'s {most} places"),
            all: Vec::new(),
            last: 0,
            said: None,
            unsaid: 0,
        }
    }

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
            "the {} are all taken: {closed} connections were closed since that was said last, the last one from {from}. Those are closed first by which nobody was let in, of the address that has most of them",
            self.door
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
        let places = Places::new("admin", CONNECTIONS_MAX, Arc::default());
        let count = || places.turned_away.load(Ordering::Relaxed);
        let operator = places.take(at(1)).unwrap();
        assert!(operator.let_in().set(Role::Operator));
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
        assert_eq!(places.seating.lock().all.len(), CONNECTIONS_MAX);
        drop((silent, asks, comes, operator));
        assert_eq!(places.seating.lock().all.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_let_in_leaves_for_nobody() {
        let places = Places::new("admin", CONNECTIONS_MAX, Arc::default());
        let take = |_| places.take(at(1)).unwrap();
        let all: Vec<Place> = (0..CONNECTIONS_MAX).map(take).collect();
        for place in &all {
            assert!(place.let_in().set(Role::Operator));
        }
        assert!(places.take(at(2)).is_none());
        assert!(!all.iter().any(is_lost));
    }

    #[tokio::test(start_paused = true)]
    async fn viewers_keep_three_quarters_of_the_places_and_no_more() {
        let places = Places::new("console", 16, Arc::default());
        let mut viewers: Vec<Place> = (0..16).map(|_| places.take(at(1)).unwrap()).collect();
        for (nth, place) in viewers.iter().enumerate() {
            assert_eq!(place.let_in().set(Role::Viewer), nth < 12, "{nth}");
            // Who asks again has no more of them.
            assert_eq!(place.let_in().set(Role::Viewer), nth < 12, "{nth}");
        }
        let mut operators = Vec::new();
        for nth in 0..4 {
            let comes = places.take(at(2)).unwrap();
            assert!(is_lost(&viewers[12 + nth]) && !is_lost(&comes));
            assert!(comes.let_in().set(Role::Operator));
            operators.push(comes);
        }
        assert!(places.take(at(1)).is_none(), "all of these were let in");
        assert!(!viewers[..12].iter().chain(&operators).any(is_lost));
        // What one leaves another one may keep.
        drop(viewers.pop());
        viewers.truncate(11);
        let comes = places.take(at(3)).unwrap();
        assert!(comes.let_in().set(Role::Viewer));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_a_minute() {
        let mut seating = Seating::of("admin", 64);
        seating.say(at(1));
        seating.say(at(1));
        assert_eq!(seating.unsaid, 1);
        tokio::time::advance(SAID).await;
        seating.say(at(1));
        assert_eq!(seating.unsaid, 0);
    }
}

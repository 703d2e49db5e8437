//! Who is here, for whoever holds the gate: how many sessions are open, which of them are held,
//! and who the others are. It is written where sessions begin, end, are held and go on, and where
//! the gate asks; never for a command.

use super::counters::{Gauge, Ticket};
use crate::tee::Facts;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use tokio::sync::Notify;

/// Sessions, as the gate sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Logged in and not over, tunnels and held ones included.
    pub open: u64,
    /// Held at the gate: what they say to the primary is theirs who hold it.
    pub held: u64,
    /// Pipes now, which nothing can hold.
    pub tunnels: u64,
    /// In their login, or waiting to begin it.
    pub in_login: u64,
    /// Those that are open and not held, in the order of their numbers.
    pub unheld: Vec<Unheld>,
}

/// A session that is not held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheld {
    /// Its number.
    pub session: u64,
    /// Its user.
    pub user: String,
    /// Its connection's id at the server that answers it now, for a KILL.
    pub thread_id: u32,
    /// Whether a transaction was open when the gate asked it last.
    pub in_transaction: bool,
    /// Whether it is a pipe now.
    pub tunnel: bool,
}

const HELD: u8 = 1;
const TUNNEL: u8 = 2;
const IN_TRANSACTION: u8 = 4;

/// All sessions. Its lock is taken where a session begins and ends, and for a census.
#[derive(Debug, Default)]
pub(super) struct Roster {
    places: Mutex<BTreeMap<u64, Arc<Place>>>,
    /// Open and not held: one number, so that one look can tell that nobody is left.
    unheld: AtomicU64,
    in_login: Gauge,
    changed: Notify,
}

/// What is known of one session.
#[derive(Debug)]
struct Place {
    facts: ArcSwap<Facts>,
    thread_id: AtomicU32,
    flags: AtomicU8,
}

impl Place {
    fn set(&self, flag: u8, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::SeqCst);
        } else {
            self.flags.fetch_and(!flag, Ordering::SeqCst);
        }
    }
}

impl Roster {
    /// Counts a login, until the ticket is dropped.
    pub(super) fn login(&self) -> Option<Ticket> {
        self.in_login.enter(usize::MAX)
    }

    /// Enters a session. It must look at the gate after this and before its first command.
    pub(super) fn enter(self: &Arc<Self>, facts: &Arc<Facts>) -> Seat {
        let place = Arc::new(Place {
            facts: ArcSwap::from(Arc::clone(facts)),
            thread_id: AtomicU32::new(facts.thread_id),
            flags: AtomicU8::new(0),
        });
        self.places.lock().insert(facts.session, Arc::clone(&place));
        self.unheld.fetch_add(1, Ordering::SeqCst);
        Seat {
            roster: Arc::clone(self),
            session: facts.session,
            place,
        }
    }

    pub(super) fn census(&self) -> Census {
        // What costs more than a count is done when the lock has been given back.
        let (open, unheld): (usize, Vec<_>) = {
            let places = self.places.lock();
            let unheld = places.iter().filter(|(_, place)| !place.is_held());
            let unheld = unheld.map(|(session, place)| (*session, Arc::clone(place)));
            (places.len(), unheld.collect())
        };
        let unheld: Vec<_> = unheld
            .iter()
            .map(|(session, place)| place.unheld(*session))
            .collect();
        Census {
            open: open as u64,
            held: open.saturating_sub(unheld.len()) as u64,
            tunnels: unheld.iter().filter(|one| one.tunnel).count() as u64,
            in_login: self.in_login.value(),
            unheld,
        }
    }

    /// Every open session, as it logged in last.
    pub(super) fn facts(&self) -> Vec<Arc<Facts>> {
        let places = self.places.lock();
        places
            .values()
            .map(|place| place.facts.load_full())
            .collect()
    }

    /// How many are open and not held.
    pub(super) fn unheld(&self) -> u64 {
        self.unheld.load(Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(super) fn lock_for_a_test(&self) -> impl Sized + '_ {
        self.places.lock()
    }

    /// Resolves once no open session is left that is not held.
    ///
    /// Cancel-safe.
    pub(super) async fn all_held(&self) {
        loop {
            let changed = self.changed.notified();
            if self.unheld() == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Place {
    fn is_held(&self) -> bool {
        self.flags.load(Ordering::SeqCst) & HELD != 0
    }

    fn unheld(&self, session: u64) -> Unheld {
        let flags = self.flags.load(Ordering::SeqCst);
        Unheld {
            session,
            user: self.facts.load().user.clone(),
            thread_id: self.thread_id.load(Ordering::Relaxed),
            in_transaction: flags & IN_TRANSACTION != 0,
            tunnel: flags & TUNNEL != 0,
        }
    }
}

/// A session's place in the census, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    roster: Arc<Roster>,
    session: u64,
    place: Arc<Place>,
}

impl Seat {
    /// Answers the gate.
    pub(super) fn answer(&self, in_transaction: bool) {
        self.place.set(IN_TRANSACTION, in_transaction);
    }

    /// The session is a pipe from here on.
    pub(super) fn is_tunnel_now(&self) {
        self.place.set(TUNNEL, true);
    }

    /// The id of its connection at the server that answers it now.
    pub(super) fn thread_id(&self) -> u32 {
        self.place.thread_id.load(Ordering::Relaxed)
    }

    /// The session's facts have changed.
    pub(super) fn renew(&self, facts: &Arc<Facts>) {
        self.place.facts.store(Arc::clone(facts));
    }

    /// Another server answers the session from here on.
    pub(super) fn moved(&self, thread_id: u32) {
        self.place.thread_id.store(thread_id, Ordering::Relaxed);
    }

    /// Counts the session as held, until what is returned is dropped.
    pub(super) fn hold(&self) -> Waiting {
        self.place.set(HELD, true);
        self.roster.unheld.fetch_sub(1, Ordering::SeqCst);
        self.roster.changed.notify_waiters();
        Waiting {
            roster: Arc::clone(&self.roster),
            place: Arc::clone(&self.place),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.roster.places.lock().remove(&self.session);
        self.roster.unheld.fetch_sub(1, Ordering::SeqCst);
        self.roster.changed.notify_waiters();
    }
}

/// A session that is held. Always dropped before its [`Seat`].
#[derive(Debug)]
pub(super) struct Waiting {
    roster: Arc<Roster>,
    place: Arc<Place>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.roster.unheld.fetch_add(1, Ordering::SeqCst);
        self.place.set(HELD, false);
    }
}

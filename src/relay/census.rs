//! Who is here, for whoever holds the gate: how many sessions are open, which of them are held,
//! and who the others are. It is written where sessions begin, end, are held and go on, and where
//! the gate asks; never for a command.

use super::counters::{Gauge, Ticket};
use super::kills::Summons;
use crate::tee::Facts;
use crate::wire::kill::Victim;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
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
    /// Whether that server is a vtgate.
    pub is_vitess: bool,
    /// Whether a transaction was open when the gate asked it last.
    pub in_transaction: bool,
    /// Whether it is a pipe now.
    pub tunnel: bool,
    /// Whether no command was under way when the gate asked it last.
    pub idle: bool,
    /// How many commands it had handed by then.
    pub seq: u64,
}

/// A session's connection to the server that answers it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its id there, for a KILL.
    pub thread_id: u32,
    /// Whether that server is a vtgate.
    pub is_vitess: bool,
}

const HELD: u8 = 1;
const TUNNEL: u8 = 2;
const IN_TRANSACTION: u8 = 4;
const VITESS: u8 = 8;
const IDLE: u8 = 16;

/// All sessions. Its locks are taken where a session begins and ends, for a census and for a KILL.
#[derive(Debug, Default)]
pub(super) struct Roster {
    places: Mutex<BTreeMap<u64, Arc<Place>>>,
    /// The ids that clients were told, those in their login included.
    told: Mutex<BTreeSet<u32>>,
    /// A client may know another id than its server's, or its server has no KILL.
    ids_differ: Arc<AtomicBool>,
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
    summons: Summons,
    seq: AtomicU64,
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

    /// The id that a client is to be told where its server gave this one: that, unless another client was
    /// told it and is still here: by another server, by one of several behind one address, or before a
    /// restart. So an id means one session. Taken until what is returned is dropped.
    pub(super) fn tell(self: &Arc<Self>, id: u32) -> Told {
        let mut told = self.told.lock();
        let id = if told.contains(&id) {
            // No server comes as far as the last ones.
            let mut last = (0..u32::MAX).rev();
            last.find(|one| !told.contains(one)).unwrap_or(id)
        } else {
            id
        };
        told.insert(id);
        Told {
            roster: Arc::clone(self),
            id,
        }
    }

    /// Whether a KILL must be looked at: once a client may know another id than its server's, or is
    /// answered by a server that has no KILL.
    pub(super) fn ids_differ(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ids_differ)
    }

    /// Enters a session. It must look at the gate after this and before its first command.
    pub(super) fn enter(self: &Arc<Self>, facts: &Arc<Facts>, newcomer: Newcomer) -> Seat {
        let Newcomer {
            told,
            thread_id,
            vitess,
        } = newcomer;
        let place = Arc::new(Place {
            facts: ArcSwap::from(Arc::clone(facts)),
            thread_id: AtomicU32::new(thread_id),
            flags: AtomicU8::new(if vitess { VITESS } else { 0 }),
            summons: Summons::default(),
            seq: AtomicU64::new(0),
        });
        if vitess || thread_id != facts.thread_id {
            self.ids_differ.store(true, Ordering::Relaxed);
        }
        self.places.lock().insert(facts.session, Arc::clone(&place));
        self.unheld.fetch_add(1, Ordering::SeqCst);
        Seat {
            roster: Arc::clone(self),
            session: facts.session,
            place,
            _told: told,
        }
    }

    /// The session that a KILL of this id means: the one whose client was told it, or else the one
    /// that its server knows by it now.
    pub(super) fn find(&self, id: u32) -> Option<Known> {
        let places = self.places.lock();
        let told = places
            .values()
            .find(|place| place.facts.load().thread_id == id);
        // Several servers behind one address each have one of that number: then nobody is meant for certain.
        let mut known = places.values().filter(|place| place.thread_id() == id);
        let known = known.next().filter(|_| known.next().is_none());
        told.or(known).map(|place| Known(Arc::clone(place)))
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

    /// The connection of a session that is open, held or not.
    pub(super) fn connection(&self, session: u64) -> Option<Connection> {
        let places = self.places.lock();
        places.get(&session).map(|place| place.connection())
    }

    /// The connection of each.
    pub(super) fn connections(&self) -> BTreeMap<u64, Connection> {
        let places = self.places.lock();
        let each = places.iter();
        each.map(|(session, place)| (*session, place.connection()))
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

    fn thread_id(&self) -> u32 {
        self.thread_id.load(Ordering::Relaxed)
    }

    fn is_vitess(&self) -> bool {
        self.flags.load(Ordering::SeqCst) & VITESS != 0
    }

    fn connection(&self) -> Connection {
        Connection {
            thread_id: self.thread_id(),
            is_vitess: self.is_vitess(),
        }
    }

    fn unheld(&self, session: u64) -> Unheld {
        let flags = self.flags.load(Ordering::SeqCst);
        Unheld {
            session,
            user: self.facts.load().user.clone(),
            thread_id: self.thread_id(),
            is_vitess: self.is_vitess(),
            in_transaction: flags & IN_TRANSACTION != 0,
            tunnel: flags & TUNNEL != 0,
            idle: flags & IDLE != 0,
            seq: self.seq.load(Ordering::Relaxed),
        }
    }
}

/// An id that a client was told, taken until this is dropped.
#[derive(Debug)]
pub(super) struct Told {
    roster: Arc<Roster>,
    id: u32,
}

impl Told {
    pub(super) const fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.roster.told.lock().remove(&self.id);
    }
}

/// What the census must know of a new session besides its facts.
#[derive(Debug)]
pub(super) struct Newcomer {
    /// The id that its client was told.
    pub(super) told: Option<Told>,
    /// Its connection's id at the server.
    pub(super) thread_id: u32,
    /// Whether the server is a vtgate.
    pub(super) vitess: bool,
}

/// A session that a KILL means.
#[derive(Debug)]
pub(super) struct Known(Arc<Place>);

impl Known {
    pub(super) fn facts(&self) -> Arc<Facts> {
        self.0.facts.load_full()
    }

    /// Its connection's id at the server that answers it now.
    pub(super) fn thread_id(&self) -> u32 {
        self.0.thread_id()
    }

    /// Asks it to end what it does.
    pub(super) fn summon(&self, victim: Victim) {
        self.0.summons.call(victim);
    }
}

/// A session's place in the census, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    roster: Arc<Roster>,
    session: u64,
    place: Arc<Place>,
    _told: Option<Told>,
}

impl Seat {
    /// Answers the gate.
    pub(super) fn answer(&self, in_transaction: bool) {
        self.place.set(IN_TRANSACTION, in_transaction);
    }

    /// The same: whether a command is under way, and how many were handed before.
    pub(super) fn stands(&self, idle: bool, seq: u64) {
        self.place.seq.store(seq, Ordering::Relaxed);
        self.place.set(IDLE, idle);
    }

    /// The session is a pipe from here on.
    pub(super) fn is_tunnel_now(&self) {
        self.place.set(TUNNEL, true);
    }

    /// The id of its connection at the server that answers it now.
    pub(super) fn thread_id(&self) -> u32 {
        self.place.thread_id()
    }

    /// Whether a vtgate answers it now.
    pub(super) fn is_vitess(&self) -> bool {
        self.place.is_vitess()
    }

    /// What another's KILL asks of it.
    pub(super) fn summons(&self) -> &Summons {
        &self.place.summons
    }

    /// The session's facts have changed.
    pub(super) fn renew(&self, facts: &Arc<Facts>) {
        self.place.facts.store(Arc::clone(facts));
    }

    /// Another connection answers the session from here on.
    pub(super) fn moved(&self, thread_id: u32, vitess: bool) {
        self.place.thread_id.store(thread_id, Ordering::Relaxed);
        self.place.set(VITESS, vitess);
        self.roster.ids_differ.store(true, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_means_one_session_whoever_numbers_it() {
        let roster = Arc::new(Roster::default());
        let first = roster.tell(7);
        let second = roster.tell(7);
        let third = roster.tell(7);
        assert_eq!(first.id(), 7);
        assert!(second.id() > u32::MAX - 9 && third.id() > u32::MAX - 9);
        assert_ne!(second.id(), third.id());
        drop(first);
        assert_eq!(roster.tell(7).id(), 7, "it is free again");
        assert_ne!(roster.tell(second.id()).id(), second.id());
    }
}

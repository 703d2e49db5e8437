//! KILL by the id that a client knows, or by the one that its server knows it by now. They are the
//! same until a cutover has moved the session, or a vtgate answers it.
//!
//! On a MySQL primary the id is put into the server's and the KILL passed on: the server judges who
//! may. A vtgate refuses KILL, so there the proxy ends the session's command itself: the client is
//! told so where nothing of its answer has gone to it, and its connection closes, for the vtgate's
//! late answer must never reach anybody. Without knowing privileges it does that only for sessions of
//! the same user, which is MySQL's own rule.

use super::Shared;
use super::census::Roster;
use super::refuse::Refusal;
use crate::tee::Facts;
use crate::wire::kill::{Kill, Victim};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;

/// What another's KILL asks of a session. HOT PATH: the session looks at it with one relaxed load.
#[derive(Debug, Default)]
pub(super) struct Summons {
    /// Nothing, its command, or all of it: the larger one holds.
    asked: AtomicU8,
    waker: OnceLock<Waker>,
}

const QUERY: u8 = 1;
const CONNECTION: u8 = 2;

impl Summons {
    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != 0
    }

    /// Takes it.
    pub(super) fn take(&self) -> Option<Victim> {
        match self.asked.swap(0, Ordering::AcqRel) {
            0 => None,
            QUERY => Some(Victim::Query),
            _ => Some(Victim::Connection),
        }
    }

    /// Calls the session.
    pub(super) fn call(&self, victim: Victim) {
        let asked = match victim {
            Victim::Query => QUERY,
            Victim::Connection => CONNECTION,
        };
        self.asked.fetch_max(asked, Ordering::AcqRel);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// How the session's task, which stays the same, is woken.
    pub(super) fn wakes(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }
}

/// What becomes of a KILL.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sentence {
    /// It is the server's to judge, by this id of its own.
    Server(u32),
    /// It names nobody here: it is passed on as it is.
    Through,
    /// The proxy has ended what it names.
    Done,
    /// It names the session that says it.
    Oneself(Victim),
    /// It is refused.
    Refused(Refusal),
}

/// Judges a KILL that a session says. `is_vitess`: whether a vtgate answers it.
pub(super) fn judge(shared: &Shared, by: &Facts, is_vitess: bool, kill: &Kill) -> Sentence {
    let sentence = sentence(&shared.roster, by, is_vitess, kill);
    if sentence == Sentence::Done {
        shared.counters.kills.add(1);
        tracing::info!(session = by.session, user = %by.user, id = kill.id, victim = ?kill.victim, "a KILL was carried out");
    }
    sentence
}

fn sentence(roster: &Roster, by: &Facts, is_vitess: bool, kill: &Kill) -> Sentence {
    let known = u32::try_from(kill.id).ok().and_then(|id| roster.find(id));
    let Some(known) = known else {
        return if is_vitess {
            Sentence::Refused(Refusal::unknown_thread(kill.id))
        } else {
            Sentence::Through
        };
    };
    let whom = known.facts();
    if !is_vitess && whom.primary == by.primary {
        return Sentence::Server(known.thread_id());
    }
    if whom.session == by.session {
        return Sentence::Oneself(kill.victim);
    }
    if whom.user != by.user {
        return Sentence::Refused(Refusal::not_owner(kill.id));
    }
    known.summon(kill.victim);
    Sentence::Done
}

//! What is asked of the dispatcher from outside: each answer is of all that came through the tee
//! before.

use super::line::Ticket;
use super::order::Part;
use super::scope::Scope;
use super::stand::Reserved;
use super::state::SessionState;
use super::values::Values;
use crate::roles::Roles;
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// Errands that may wait for the dispatcher.
pub(super) const ERRANDS_MAX: usize = 64;

/// Replays that may wait to be told from; one that finds no room says so again later.
pub(super) const RESTED_MAX: usize = 1024;

/// A replay that has done all that it was given, and keeps nothing that the journal could not open anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rested {
    /// Its session.
    pub(super) session: u64,
    /// The last job that it has done: where it was given another since, it goes on.
    pub(super) done: u64,
    /// LAST_INSERT_ID() behind the command with this number, where the replay alone could tell.
    pub(super) last_key: Option<(u64, Option<u64>)>,
}

/// See the module.
#[derive(Debug)]
pub(super) enum Errand {
    /// Every session that said something.
    Sessions(oneshot::Sender<Vec<SessionState>>),
    /// One of them.
    Session(u64, oneshot::Sender<Option<SessionState>>),
    /// What the variables of a session hold, as it was just asked.
    Learn(u64, Values, oneshot::Sender<()>),
    /// Once nothing waits for the shadow, nor runs there.
    Drained(oneshot::Sender<()>),
    /// A place in the line behind everything that came through the tee before, as this part, on these tables.
    Stand(Part, Scope, oneshot::Sender<Ticket>),
    /// The place of a write on these tables, which holds up a turn of the roles.
    Reserve(Scope, oneshot::Sender<Reserved>),
    /// Once nothing does, the roles turn.
    Turn(Box<Roles>, oneshot::Sender<()>),
}

/// Errands that wait for their moment.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Until all that came before them was looked at, by its number.
    asked: VecDeque<(u64, Errand)>,
    /// Until nothing waits for the shadow either.
    drained: Vec<Errand>,
}

impl Waiting {
    /// Takes one, before which so many came.
    pub(super) fn take(&mut self, errand: Errand, came: u64) {
        if matches!(errand, Errand::Drained(_) | Errand::Turn(..)) {
            self.drained.push(errand);
        } else {
            self.asked.push_back((came, errand));
        }
    }

    /// Whether more may wait for what lies unread.
    pub(super) fn has_room(&self) -> bool {
        self.asked.len() < ERRANDS_MAX
    }

    /// Whether any waits for what lies unread.
    pub(super) fn asks(&self) -> bool {
        !self.asked.is_empty() || !self.drained.is_empty()
    }

    /// The next one before which no more came than were looked at.
    pub(super) fn next(&mut self, looked_at: u64) -> Option<Errand> {
        self.asked
            .pop_front_if(|(came, _)| *came <= looked_at)
            .map(|(_, errand)| errand)
    }

    /// Whether any waits until nothing waits for the shadow; who has given up does not. A turn happens all
    /// the same.
    pub(super) fn for_the_shadow(&mut self) -> bool {
        let gave_up = |one: &Errand| matches!(one, Errand::Drained(to) if to.is_closed());
        self.drained.retain(|one| !gave_up(one));
        !self.drained.is_empty()
    }

    /// Those for which nothing waits there any more.
    pub(super) fn drained(&mut self) -> Vec<Errand> {
        std::mem::take(&mut self.drained)
    }
}

/// The mirror has ended, so there is nobody to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mirror has ended")]
pub struct Ended;

//! What is asked of the dispatcher from outside: each answer is of all that came through the tee
//! before.

use super::line::Ticket;
use super::order::Part;
use super::scope::Scope;
use super::stand::Reserved;
use super::state::SessionState;
use super::values::Values;
use crate::roles::Roles;
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

/// The mirror has ended, so there is nobody to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mirror has ended")]
pub struct Ended;

//! Replays what clients did on the shadow, in order, and says what became of each command.
//!
//! The `dispatcher` drains the tee, keeps every session's journal at its `desk` and decides;
//! one `replay` task for each mirrored session runs its commands and judges the answers. Every
//! command with an answer ends in exactly one observation in the ledger (`owed`). Nothing here
//! is ever waited for by the relay, and nothing here knows of it.
//!
//! Any session can be taken over by the other server: `state` says whether, from what its desk
//! kept; `carry` opens its next connection. The roles turn under a running mirror: an `era` ends
//! and another begins, and the desks stay.
//!
//! The files in reading order: `dispatcher` (with `errand`), `desk` (with `reading`, `outline`, `journal`,
//! `ties`, `transaction`, `effect`, `policy`, `long`), `job` (with `owed`, `stake`), `replay` (with
//! `link`, `talk`, `patience`, `backoff`, `likeness`, `carried`, `pin` with `tables` and `clock`, `perform`,
//! `judge`, `proof` with `parameters` and `plans`, `recheck`), `line` and `order` (with `scope`, `reach`),
//! `breaker` (with `halt`); `state`, `carry` (with `values`), `sequences`, `era`, `shared` (with `room`), `census`,
//! `stand`, `straggler`. In a hand-over from one process to another: `early`, `beside`.

pub mod control;

mod antechamber;
mod dispatcher;
mod doorkeeper;
mod early;
mod errand;

mod census;
mod desk;
mod effect;
mod journal;
mod long;
mod outline;
mod policy;
mod prepared;
mod primed;
mod reading;
mod ties;
mod transaction;

mod job;
mod owed;
mod stake;

mod backoff;
mod beside;
mod carried;
mod clock;
mod judge;
mod likeness;
mod link;
mod parameters;
mod patience;
mod perform;
mod pin;
mod plans;
mod proof;
mod recheck;
mod replay;
mod tables;
mod talk;

mod carry;
mod sequences;
mod state;
mod values;

mod breaker;
mod era;
mod halt;
mod line;
mod load;
mod order;
mod pulse;
mod reach;
mod recent;
mod room;
mod scope;
mod shared;
mod stand;
mod straggler;
mod unread;

#[cfg(test)]
#[cfg(feature = "simulation")]
mod model;

pub use control::{Control, Switch, Switched};

pub use beside::Written;
pub use carry::{Carried, CarryError, Parts, Unprepared};
pub use census::Users;
pub use early::{Before, Early};
pub use errand::Ended;
pub use pulse::Beat;
pub use sequences::{Sequence, SequenceError};
pub use stand::{NoStand, Stand};
pub use state::{SessionState, Soft, Stuck};
pub use straggler::Straggler;
pub use values::Values;

use crate::config::Config;
use crate::connect::{Dial, Stream, TlsError};
use crate::ledger::Ledger;
use crate::roles::{Roles, RolesWatch};
use crate::task;
use crate::tee::{Facts, Receiver};
use arc_swap::ArcSwap;
use dispatcher::Dispatcher;
use era::Era;
use errand::{ERRANDS_MAX, Errand, RESTED_MAX};
use parking_lot::Mutex;
use scope::Scope;
use shared::{Lasting, Shared};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use talk::Talk;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What the mirror is built from.
pub struct MirrorParts {
    /// The whole config.
    pub config: Arc<Config>,
    /// Who is the shadow.
    pub roles: RolesWatch,
    /// The way to it.
    pub dial: Arc<dyn Dial>,
    /// The tee's other end.
    pub receiver: Receiver,
    /// Where verdicts and taints go.
    pub ledger: Ledger,
}

/// The shadow side, running.
pub struct Mirror {
    /// As the roles are now.
    current: Arc<ArcSwap<Shared>>,
    errands: mpsc::Sender<Errand>,
    stop: CancellationToken,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
}

/// What the mirror counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Why mirroring is suspended, if it is.
    pub suspended: Option<String>,
    /// How often it was suspended.
    pub suspensions: u64,
    /// Sessions that were mirrored and are not over.
    pub sessions: u64,
    /// Of these, sessions whose replay waits or works; one that is idle has none.
    pub replays: u64,
    /// Connections to the shadow that are open.
    pub connections: u64,
    /// Connections to the shadow that were opened.
    pub opened: u64,
    /// Commands that wait for the shadow or run there.
    pub waiting: u64,
    /// Of these, what lies unread, for it would only wait with others: there the ends of sessions count, too.
    pub unread: u64,
    /// How long the first of them has been waiting; zero where none does.
    pub oldest: Duration,
    /// Commands that waited for their turn longer than `mirror.order_wait_ms`.
    pub order_waits: u64,
    /// Transactions and writes that were run again after a deadlock or a lock's time-out.
    pub retries: u64,
    /// Commands that the shadow refused for a deadlock or a lock's time-out, however often they
    /// were run again: not compared.
    pub transient: u64,
    /// Commits that did not wait to the end for reads that should have come first.
    pub overtakes: u64,
    /// Transactions that could not be carried to their end.
    pub broken: u64,
    /// Differences that could not wait to be looked at again, as too many did: not compared, where
    /// they would have been divergences.
    pub unsettled: u64,
    /// Statements whose plans both servers were asked for.
    pub planned: u64,
    /// Statements whose plans were not asked for, as too many waited.
    pub plans_skipped: u64,
}

/// Time for the replays to finish once the mirror is told to end.
const FINISH: Duration = Duration::from_secs(5);

impl Mirror {
    /// Starts the mirror on the current runtime.
    ///
    /// # Errors
    /// Where TLS towards a server cannot be set up as the config says.
    pub fn start(parts: MirrorParts) -> Result<Self, TlsError> {
        Self::begin(parts, None)
    }

    /// Starts the mirror of a process that has taken over, on the current runtime: with what clients said `before`
    /// there was one, behind what the sessions of the old process had `written` meanwhile.
    ///
    /// # Errors
    /// See [`Mirror::start`].
    pub fn start_after(
        parts: MirrorParts,
        before: Before,
        written: &Written,
    ) -> Result<Self, TlsError> {
        Self::begin(parts, Some((before, written)))
    }

    fn begin(parts: MirrorParts, before: Option<(Before, &Written)>) -> Result<Self, TlsError> {
        let roles = parts.roles.borrow().clone();
        let (rests, rested) = mpsc::channel(RESTED_MAX);
        let set = Control::new(&parts.config.mirror);
        let control = before.as_ref().map_or(set, |(before, _)| before.control);
        let lasting = Lasting::new(
            parts.config,
            control,
            &roles,
            parts.dial,
            parts.ledger,
            rests,
            parts.receiver.appraisal(),
        )?;
        let era = Era::first(&Arc::new(lasting), &roles)?;
        let current = Arc::new(ArcSwap::new(Arc::clone(&era.shared)));
        let (errands, receiver) = mpsc::channel(ERRANDS_MAX);
        let stop = CancellationToken::new();
        let mut dispatcher =
            Dispatcher::new(era, Arc::clone(&current), parts.receiver, receiver, rested);
        if let Some((before, written)) = before {
            current.load().beside.follow(written);
            dispatcher.begin_with(before);
        }
        let running = task::spawn("dispatcher", dispatcher.run(stop.clone(), FINISH));
        Ok(Self {
            current,
            errands,
            stop,
            dispatcher: Mutex::new(Some(running)),
        })
    }

    /// Lets it finish what was handed over, and ends it. What is not finished within about
    /// seven seconds is *not compared: suspended*; at the latest after `at_most` this returns, and then
    /// what was not looked at may have written any table: all are tainted.
    pub async fn drain(&self, at_most: Duration) {
        self.stop.cancel();
        let running = self.dispatcher.lock().take();
        if let Some(mut running) = running
            && tokio::time::timeout(at_most, &mut running).await.is_err()
        {
            running.abort();
            let shared = self.current.load_full();
            shared.give_up();
            shared.taint(&Scope::All, "", &dispatcher::UNSEEN.into());
            tracing::error!(
                "the mirror did not end in {} s, and {} commands were not looked at: all tables count as tainted. The machine has too little processor time for it, or this is a fault of understudy's",
                at_most.as_secs(),
                shared.unread.len()
            );
        }
    }

    /// From now on a new process serves others, or it does not any more: how what is acknowledged here from now on
    /// differs, what their commands did may explain, which the shadow has later.
    pub fn is_beside_an_heir(&self, serves: bool) {
        let beside = &self.current.load_full().beside;
        if serves {
            beside.begin(Instant::now());
        } else {
            beside.end();
        }
    }

    /// What the sessions of this process have written since a new one serves others. Whole once it is
    /// [drained](Mirror::drained) and no session is left.
    #[must_use]
    pub fn written_beside(&self) -> Written {
        self.current.load().beside.written(Instant::now())
    }

    /// Any table may have rows that the shadow will not have, and why.
    pub fn taint_all(&self, why: &str) {
        self.current.load().taint(&Scope::All, "", &why.into());
    }

    /// The switches.
    #[must_use]
    pub fn control(&self) -> Control {
        self.current.load().control()
    }

    /// Has the switches changed: they hold so from each session's next transaction on. Nobody else changes them
    /// between a look at them and the change; `change` must wait for nothing, and not ask the mirror.
    pub fn change_control<T>(&self, change: impl FnOnce(&mut Control) -> T) -> T {
        self.current.load_full().change_control(change)
    }

    /// Whether commands pass by, where nothing is mirrored and nothing is to be observed: not before the
    /// transactions have ended that are compared. None where that is not wanted.
    #[must_use]
    pub fn passes_by(&self) -> Option<bool> {
        self.current.load().passes_by()
    }

    /// Every session that said something, as it was when its last command had been answered.
    ///
    /// # Errors
    /// The mirror has ended; so it is for the others that ask.
    pub async fn sessions(&self) -> Result<Vec<SessionState>, Ended> {
        self.ask(Errand::Sessions).await
    }

    /// One of them, as it logged in last: one that has said nothing since is as fresh.
    ///
    /// # Errors
    /// See [`Mirror::sessions`].
    pub async fn session(&self, facts: &Arc<Facts>) -> Result<SessionState, Ended> {
        let session = facts.session;
        let state = self.ask(|to| Errand::Session(session, to)).await?;
        let known = state.filter(|state| state.facts.login == facts.login);
        Ok(known.unwrap_or_else(|| SessionState::fresh(facts)))
    }

    /// Resolves once the tee is empty and nothing waits for the shadow, nor runs there, but reads
    /// that are looked at again. What was not mirrored at all (paused, suspended) does not wait.
    ///
    /// # Errors
    /// See [`Mirror::sessions`].
    pub async fn drained(&self) -> Result<(), Ended> {
        self.ask(Errand::Drained).await
    }

    /// From here on the mirror is of these roles. Happens once it is drained, and is done when this
    /// resolves: until then no session may be let go on with another primary. It happens whether or
    /// not this is waited for. Not where the roles are these already.
    ///
    /// # Errors
    /// See [`Mirror::sessions`].
    pub async fn turn(&self, roles: Roles) -> Result<(), Ended> {
        let roles = Box::new(roles);
        self.ask(|to| Errand::Turn(roles, to)).await
    }

    /// Opens a connection to the current shadow that is like the session, but for the values of its
    /// variables: see [`Values`]. Cancel-safe: given up, it closes.
    ///
    /// # Errors
    /// No connection can be like it, now or at all.
    pub async fn prepare(&self, state: &SessionState) -> Result<Carried, CarryError> {
        Carried::open(self.current.load_full(), state).await
    }

    /// Asks the session itself for what its variables hold, on its own connection, between two
    /// commands; asks nothing where nothing must be read. The journal learns it, so that a replay
    /// can set it, too. The connection is good for the session only where it is given back: not
    /// cancel-safe, given up it is lost. The server has `mirror.timeout_ms` to answer.
    ///
    /// # Errors
    /// The connection is not good any more.
    pub async fn read_values(
        &self,
        own: Stream,
        state: &SessionState,
    ) -> Result<(Stream, Result<Values, CarryError>), CarryError> {
        if let Some(known) = Values::known(state) {
            return Ok((own, Ok(known)));
        }
        let config = &self.current.load_full().config;
        let mut talk = Talk::of(config, own, state.facts.capabilities);
        match Values::ask(&mut talk, state).await {
            Err(CarryError::Down(why)) => Err(CarryError::Down(why)),
            Err(other) => Ok((talk.into_stream(), Err(other))),
            Ok(values) => {
                let (session, learnt) = (state.facts.session, values.clone());
                let learns = self.ask(|to| Errand::Learn(session, learnt, to));
                // Where the mirror has ended, there is no journal any more.
                let _ = learns.await;
                Ok((talk.into_stream(), Ok(values)))
            }
        }
    }

    /// Takes each sequence of the shadow's past the primary's keys, by `ahead` at least, and says where
    /// each stands: before a vtgate becomes the primary. None where the shadow is no vtgate. Safe to
    /// run again.
    ///
    /// # Errors
    /// It is not known of all of them.
    pub async fn advance_sequences(&self, ahead: u64) -> Result<Vec<Sequence>, SequenceError> {
        sequences::advance(&self.current.load_full(), ahead).await
    }

    /// How often each feature was used that not every server has, since the start.
    #[must_use]
    pub fn features(&self) -> BTreeMap<&'static str, u64> {
        self.current.load().census.features()
    }

    /// How the primary answered all sessions, from one moment to another; the last ten minutes are
    /// remembered.
    #[must_use]
    pub fn pulse(&self, from: Instant, to: Instant) -> Beat {
        self.current.load().pulse.between(from, to)
    }

    /// Who was seen since the start.
    #[must_use]
    pub fn users(&self) -> Users {
        self.current.load().census.users()
    }

    async fn ask<T>(&self, errand: impl FnOnce(oneshot::Sender<T>) -> Errand) -> Result<T, Ended> {
        let (to, answer) = oneshot::channel();
        self.errands.send(errand(to)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// What the primary has acknowledged first of all that is not done on the shadow; none where nothing is
    /// under way there, or all that waits lies unread.
    #[must_use]
    pub fn straggler(&self) -> Option<Straggler> {
        self.current.load().line.straggler(Instant::now())
    }

    /// What it counts.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let shared = self.current.load();
        let (cause, suspensions) = shared.suspension();
        let counters = &shared.counters;
        Figures {
            suspended: cause.map(|cause| cause.to_string()),
            suspensions,
            sessions: counters.mirrored.load(Ordering::Relaxed),
            replays: counters.replays.load(Ordering::Relaxed),
            connections: shared.connections() as u64,
            opened: counters.opened.load(Ordering::Relaxed),
            waiting: shared.waiting() as u64,
            unread: shared.unread.len() as u64,
            oldest: shared
                .oldest()
                .map_or(Duration::ZERO, |since| since.elapsed()),
            order_waits: counters.order_waits.load(Ordering::Relaxed),
            retries: counters.retries.load(Ordering::Relaxed),
            transient: counters.transient.load(Ordering::Relaxed),
            overtakes: counters.overtakes.load(Ordering::Relaxed),
            broken: counters.broken.load(Ordering::Relaxed),
            unsettled: counters.unsettled.load(Ordering::Relaxed),
            planned: counters.planned.load(Ordering::Relaxed),
            plans_skipped: counters.plans_skipped.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").finish_non_exhaustive()
    }
}

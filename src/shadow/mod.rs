//! Replays what clients did on the shadow, in order, and says what became of each command.
//!
//! The `dispatcher` drains the tee, keeps every session's journal at its `desk` and decides;
//! one `replay` task for each mirrored session runs its commands and judges the answers. Every
//! command with an answer ends in exactly one observation in the ledger (`owed`). Nothing here
//! is ever waited for by the relay, and nothing here knows of it.
//!
//! The files in reading order: `dispatcher`, `desk` (with `reading`, `journal`, `transaction`,
//! `effect`, `policy`, `long`), `job` (with `owed`, `stake`), `replay` (with `link`, `backoff`,
//! `likeness`, `carried`, `pin` with `tables` and `clock`, `perform`, `judge`, `proof` with
//! `parameters` and `plans`, `recheck`), `line` and `order` (with `reach`), `breaker`.

pub mod control;

mod dispatcher;

mod desk;
mod effect;
mod journal;
mod long;
mod policy;
mod prepared;
mod reading;
mod transaction;

mod job;
mod owed;
mod stake;

mod backoff;
mod carried;
mod clock;
mod judge;
mod likeness;
mod link;
mod parameters;
mod perform;
mod pin;
mod plans;
mod proof;
mod recheck;
mod replay;
mod tables;

mod breaker;
mod line;
mod order;
mod reach;
mod recent;
mod shared;

#[cfg(test)]
#[cfg(feature = "simulation")]
mod model;

pub use control::Control;

use crate::ask::Questions;
use crate::config::{Config, Server};
use crate::connect::{Dial, TlsContext, TlsError};
use crate::ledger::Ledger;
use crate::roles::RolesWatch;
use crate::task;
use crate::tee::Receiver;
use dispatcher::Dispatcher;
use parking_lot::Mutex;
use plans::Planner;
use recheck::Rechecks;
use shared::{Asked, Shared};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;
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
    shared: Arc<Shared>,
    stop: CancellationToken,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
    _asking: Vec<Ends>,
}

/// A task that ends with its owner.
struct Ends(JoinHandle<()>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the mirror counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Why mirroring is suspended, if it is.
    pub suspended: Option<String>,
    /// How often it was suspended.
    pub suspensions: u64,
    /// Sessions with a replay on the shadow.
    pub sessions: u64,
    /// Connections to the shadow that are open.
    pub connections: u64,
    /// Connections to the shadow that were opened.
    pub opened: u64,
    /// Commands that wait for the shadow or run there.
    pub waiting: u64,
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

/// How often the primary is asked for its views, triggers and foreign keys, at most.
const QUESTIONS_A_SECOND: u32 = 2;

impl Mirror {
    /// Starts the mirror on the current runtime.
    ///
    /// # Errors
    /// Where TLS towards the shadow cannot be set up as the config says.
    pub fn start(parts: MirrorParts) -> Result<Self, TlsError> {
        let server = Arc::clone(&parts.roles.borrow().shadow);
        let tls = TlsContext::new(&server)?;
        let roles = parts.roles.borrow().clone();
        let (dial, ledger) = (parts.dial, parts.ledger);
        let questions = Questions::new(&dial, &roles.primary, QUESTIONS_A_SECOND)?;
        let (asked, asking) = ask(&parts.config, &dial, &roles.primary)?;
        let stop = CancellationToken::new();
        let planner = Planner::start(&roles, &dial, &ledger, &stop);
        let shared = Shared::new(parts.config, server, dial, tls, ledger, planner, asked);
        let shared = Arc::new(shared);
        if let Some(questions) = questions {
            let keeping = Arc::clone(&shared.reach).keep(questions, stop.clone());
            task::spawn("reach", keeping);
        }
        let dispatcher = Dispatcher::new(Arc::clone(&shared), parts.receiver);
        let running = task::spawn("dispatcher", dispatcher.run(stop.clone(), FINISH));
        Ok(Self {
            shared,
            stop,
            dispatcher: Mutex::new(Some(running)),
            _asking: asking,
        })
    }

    /// Lets it finish what was handed over, and ends it. What is not finished within about
    /// seven seconds is *not compared: suspended*; at the latest after `at_most` this returns.
    pub async fn drain(&self, at_most: Duration) {
        self.stop.cancel();
        let running = self.dispatcher.lock().take();
        if let Some(mut running) = running
            && tokio::time::timeout(at_most, &mut running).await.is_err()
        {
            running.abort();
        }
    }

    /// The switches.
    #[must_use]
    pub fn control(&self) -> Control {
        self.shared.control()
    }

    /// Sets the switches: they hold from each session's next transaction on.
    pub fn set_control(&self, control: Control) {
        self.shared.set_control(control);
    }

    /// What it counts.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let (cause, suspensions) = self.shared.suspension();
        let counters = &self.shared.counters;
        Figures {
            suspended: cause.map(|cause| cause.to_string()),
            suspensions,
            sessions: counters.mirrored.load(Ordering::Relaxed),
            connections: self.shared.connections() as u64,
            opened: counters.opened.load(Ordering::Relaxed),
            waiting: self.shared.line.len() as u64,
            oldest: self
                .shared
                .line
                .oldest()
                .map_or(Duration::ZERO, |since| since.elapsed()),
            order_waits: counters.order_waits.load(Ordering::Relaxed),
            retries: counters.retries.load(Ordering::Relaxed),
            transient: counters.transient.load(Ordering::Relaxed),
            overtakes: counters.overtakes.load(Ordering::Relaxed),
            broken: counters.broken.load(Ordering::Relaxed),
            unsettled: counters.unsettled.load(Ordering::Relaxed),
            planned: self.shared.planner.planned.load(Ordering::Relaxed),
            plans_skipped: self.shared.planner.skipped.load(Ordering::Relaxed),
        }
    }
}

/// What the primary is asked of its tables and its clock, and the tasks that ask; nothing without
/// an account.
fn ask(
    config: &Config,
    dial: &Arc<dyn Dial>,
    primary: &Arc<Server>,
) -> Result<(Asked, Vec<Ends>), TlsError> {
    let rechecks = Rechecks::new(&config.compare, dial, primary)?;
    let pins = config.mirror.pin_keys || config.mirror.pin_clock;
    let questions = |per_second| Questions::new(dial, primary, per_second);
    let of_tables = questions(tables::Known::per_second())?.filter(|_| pins);
    let of_clock = questions(clock::Clock::per_second())?.filter(|_| pins);
    let (Some(of_tables), Some(of_clock)) = (of_tables, of_clock) else {
        let nothing = Asked {
            tables: Arc::new(tables::Known::nothing()),
            clock: Arc::new(clock::Clock::unknown()),
            rechecks,
        };
        return Ok((nothing, Vec::new()));
    };
    let (tables, one) = tables::Known::asking(of_tables);
    let (clock, other) = clock::Clock::asking(of_clock);
    let asked = Asked {
        tables,
        clock,
        rechecks,
    };
    Ok((asked, vec![Ends(one), Ends(other)]))
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").finish_non_exhaustive()
    }
}

//! One pair of roles, from one turn to the next: what the mirror's tasks share of it, and the tasks
//! that ask its servers. They end with it.

use super::clock::Clock;
use super::plans::Planner;
use super::recheck::Rechecks;
use super::shared::{Asked, Lasting, Shared};
use super::tables::{Known, Sources};
use crate::ask::Questions;
use crate::compare::ClockColumns;
use crate::config::Server;
use crate::connect::TlsError;
use crate::roles::Roles;
use crate::task;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How often the primary is asked for its views, triggers and foreign keys, at most.
const QUESTIONS_A_SECOND: u32 = 2;

/// See the module.
pub(super) struct Era {
    pub(super) shared: Arc<Shared>,
    stop: CancellationToken,
    _asking: Vec<Ends>,
}

/// A task that ends with its owner.
struct Ends(JoinHandle<()>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Era {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Era {
    /// The first one.
    ///
    /// # Errors
    /// Where TLS towards a server cannot be set up as the config says.
    pub(super) fn first(lasting: &Arc<Lasting>, roles: &Roles) -> Result<Self, TlsError> {
        Self::begin(lasting, roles, roles, Arc::default())
    }

    /// The one that follows on this one. Where its servers cannot be asked, it goes on without.
    ///
    /// # Errors
    /// Where there was no such server at the start, and TLS towards it cannot be set up.
    pub(super) fn next(&self, roles: &Roles) -> Result<Self, TlsError> {
        let lasting = self.shared.lasting();
        let known = self.shared.clock_columns();
        Self::begin(lasting, roles, roles, Arc::clone(&known)).or_else(|error| {
            tracing::warn!(%error, "after the turn of the roles neither server is asked anything");
            let silent = |server: &Server| {
                Arc::new(Server {
                    account: None,
                    ..server.clone()
                })
            };
            let asked = Roles {
                primary: silent(&roles.primary),
                shadow: silent(&roles.shadow),
            };
            Self::begin(lasting, roles, &asked, known)
        })
    }

    /// `asked` are the servers as the proxy's own account asks them.
    fn begin(
        lasting: &Arc<Lasting>,
        roles: &Roles,
        asked: &Roles,
        known: Arc<ClockColumns>,
    ) -> Result<Self, TlsError> {
        let tls = lasting.tls(&roles.shadow)?;
        let stop = CancellationToken::new();
        let reach = Questions::new(&lasting.dial, &asked.primary, QUESTIONS_A_SECOND)?;
        let (asked, mut asking) = ask(lasting, asked, &stop)?;
        let shared = Arc::new(Shared::new(lasting, roles, tls, asked, known));
        if let Some(questions) = reach {
            let keeping = Arc::clone(&shared.reach).keep(questions, stop.clone());
            asking.push(Ends(task::spawn("reach", keeping)));
        } else {
            shared.reach.has_looked();
        }
        Ok(Self {
            shared,
            stop,
            _asking: asking,
        })
    }

    /// What waits to be looked at again is settled as it stands: the servers it would ask have
    /// other roles.
    pub(super) fn hurry(&self) {
        self.shared.hurry.cancel();
    }
}

/// What the servers are asked, and the tasks that ask the primary of its tables and its clock;
/// nothing without an account.
fn ask(
    lasting: &Lasting,
    roles: &Roles,
    stop: &CancellationToken,
) -> Result<(Asked, Vec<Ends>), TlsError> {
    let (config, dial, primary) = (&lasting.config, &lasting.dial, &roles.primary);
    let rechecks = Rechecks::new(&config.compare, dial, primary)?;
    let pins = config.mirror.pin_keys || config.mirror.pin_clock;
    let questions = |per_second| Questions::new(dial, primary, per_second);
    let of_tables = questions(Known::per_second())?.filter(|_| pins);
    let of_clock = questions(Clock::per_second())?.filter(|_| pins);
    let planner = Planner::start(roles, dial, &lasting.ledger, &lasting.counters, stop);
    let (Some(of_tables), Some(of_clock)) = (of_tables, of_clock) else {
        let nothing = Asked {
            planner,
            tables: Arc::new(Known::nothing()),
            clock: Arc::new(Clock::unknown()),
            rechecks,
        };
        return Ok((nothing, Vec::new()));
    };
    let (tables, one) = Known::asking(
        Sources {
            primary: of_tables,
            shadow: Questions::new(dial, &roles.shadow, Known::per_second())?,
            databases: roles.shadow.databases.clone(),
        },
        &lasting.unread,
    );
    let (clock, other) = Clock::asking(of_clock);
    let asked = Asked {
        planner,
        tables,
        clock,
        rechecks,
    };
    Ok((asked, vec![Ends(one), Ends(other)]))
}

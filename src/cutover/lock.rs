//! A table's writers stand still for a moment, those too that go past the proxy: the primary locks the table, and what
//! feeds the shadow has brought it all that was committed there. For whoever opens one view of both servers.
//!
//! One table at a time: a lock of several could have the primary end somebody's transaction. Who writes to the table
//! may wait from the moment at which the lock is *asked for* (since 5.7 writers go before it until it is
//! had; before, it is refused), so that counts, and is bounded: past it the lock is let go, or not waited for any more (`grip`). Before, it is looked for whoever would have it wait in vain (`barred`), and
//! whether replication is near (`ready`). Refuses a primary without GTIDs, a shadow of which nobody can say where it is, and to
//! call a moment one of which the lock was lost on the way.

mod barred;
mod grip;
mod names;
mod ready;

use self::grip::{Grip, is_older};
use self::names::{Table, named, quoted};
use super::position::{Follower, Position, Unplaced};
use super::standstill::{Beside, Moment, Standstill, Why, over_by};
use crate::ask::AskError;
use crate::connect::Dial;
use crate::roles::Roles;
use crate::task;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// MySQL's numbers for what is not there, or may not be done: not at another time either.
const NEVER: [u16; 6] = [1044, 1045, 1142, 1146, 1049, 1099];

/// What is done in the moment.
type Work = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Lock {
    dial: Arc<dyn Dial>,
    roles: Roles,
    /// `verify.position_command`; none where it is empty.
    command: Arc<[String]>,
    /// Where it runs: writers wait for it.
    thread: Handle,
    /// A cutover comes first.
    standstill: Option<Standstill>,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// Of which table, on which servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Of<'a> {
    /// Its database, by the primary's name.
    pub database: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The server that it is looked at on (its `server_uuid`), if whoever looks knows.
    pub primary: Option<&'a str>,
    /// The same of the shadow.
    pub shadow: Option<&'a str>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// The moment: who wrote could wait for as long as it was held.
    pub moment: Moment,
    /// When the shadow had everything, from when the lock was had.
    pub caught_up: Option<Duration>,
    /// It is of no use to ask for this table's again.
    pub hopeless: bool,
}

/// Why nobody was held.
#[derive(Debug)]
struct Barred {
    why: String,
    hopeless: bool,
}

impl From<Unplaced> for Barred {
    fn from(unplaced: Unplaced) -> Self {
        match unplaced {
            Unplaced::NotNow(why) => Self::now(why),
            Unplaced::Never(why) => Self {
                why,
                hopeless: true,
            },
        }
    }
}

impl Barred {
    const fn now(why: String) -> Self {
        Self {
            why,
            hopeless: false,
        }
    }
}

/// Why tables of a server of this version are not locked, whoever asks for it; none where they can be.
#[must_use]
pub fn never_locks(version: &str) -> Option<&'static str> {
    if version.contains("Vitess") {
        Some("a vtgate locks no tables")
    } else if version.contains("MariaDB") {
        Some(
            "MariaDB has no GTIDs of MySQL's (its own, such as 0-1-100, are others), by which the shadow could be waited for",
        )
    } else if is_older(version) {
        Some(
            "before MySQL 5.7 a lock of a table may have the server end a transaction of somebody who writes to it (error 1213)",
        )
    } else {
        None
    }
}

impl Lock {
    /// Of tables of this primary. It runs on this thread, and gives way to the cutover of this standstill.
    #[must_use]
    pub fn new(
        dial: Arc<dyn Dial>,
        roles: Roles,
        command: &[String],
        (thread, standstill): (Handle, Option<Standstill>),
    ) -> Self {
        Self {
            dial,
            roles,
            command: command.into(),
            thread,
            standstill,
        }
    }

    /// Whether tables of these databases can be locked, and the shadow be waited for: before anything is.
    ///
    /// # Errors
    /// Why not, and what would help.
    pub async fn may(&self, databases: &[String]) -> Result<(), String> {
        let (lock, databases) = (self.clone(), databases.to_vec());
        let asking = async move { lock.able(&databases).await.map_err(|barred| barred.why) };
        let asked = task::spawn_on(&self.thread, "lock", asking).await;
        asked.unwrap_or_else(|broken| Err(format!("it broke off: {broken}")))
    }

    /// Locks a table (of a database), waits until the shadow has all of it, does this, and lets go; at the latest after this time,
    /// in which `work` is dropped where it is. Where this is dropped it ends at once, and so does a lock that is waited for.
    pub async fn moment(&self, of: Of<'_>, at_most: Duration, work: Work) -> Locked {
        let lock = self.clone();
        let table = Table {
            database: of.database.to_owned(),
            name: of.name.to_owned(),
        };
        let on = [of.primary, of.shadow].map(|one| one.map(str::to_owned));
        let held = async move { lock.held(&table, on, at_most, work).await };
        let mut holding = Holding(task::spawn_on(&self.thread, "lock", held));
        match (&mut holding.0).await {
            Ok(locked) => locked,
            Err(broken) => none(Why::Failed(format!("it broke off: {broken}")), false),
        }
    }

    async fn held(
        self,
        table: &Table,
        on: [Option<String>; 2],
        at_most: Duration,
        work: Work,
    ) -> Locked {
        let (mut grip, mut follower) = match self.ready(table, on, at_most).await {
            Ok(ready) => ready,
            Err(barred) => return none(Why::Failed(barred.why), barred.hopeless),
        };
        let beside = match self.standstill.as_ref().map(Standstill::beside).transpose() {
            Ok(beside) => beside,
            Err(why) => return none(why, false),
        };
        if let Err(fault) = grip.brace().await {
            let why = format!("{}: {fault}", self.roles.primary.name);
            return none(Why::Failed(why), false);
        }
        let asked = Instant::now();
        let mut hold = Hold {
            asked,
            at_most,
            until: over_by(asked, at_most),
            gathered: None,
            caught_up: None,
            hopeless: false,
        };
        let doing = self.doing(table, &mut hold, (&mut grip, &mut follower), work);
        let mut outcome = tokio::select! {
            // Production comes first, then whoever changes it.
            biased;
            () = cut(beside.as_ref()) => Err(Why::Cutover),
            done = doing => done,
        };
        let was_whole = grip.let_go().await;
        let held = asked.elapsed();
        if outcome.is_ok() && !was_whole {
            outcome = Err(Why::Failed(format!(
                "the lock of {} was lost on the way",
                named(table)
            )));
        }
        Locked {
            moment: Moment {
                held: Some(held),
                gathered: hold.gathered,
                sessions: 0,
                outcome,
            },
            caught_up: hold.caught_up,
            hopeless: hold.hopeless,
        }
    }

    /// In the hold.
    async fn doing(
        &self,
        table: &Table,
        hold: &mut Hold,
        (grip, follower): (&mut Grip, &mut Follower<'_>),
        work: Work,
    ) -> Result<(), Why> {
        let ms = hold.at_most.as_millis();
        let late = |what: &str| {
            Why::Failed(format!(
                "{what} within {ms} ms, for which writers of {} may wait (verify.hold_ms_max)",
                named(table)
            ))
        };
        let primary = &self.roles.primary.name;
        let quoted = quoted(table);
        match timeout_at(hold.until, grip.lock(&quoted)).await {
            Err(_) => {
                return Err(late(
                    "the lock was not had, for somebody who writes to it did not end,",
                ));
            }
            Ok(Err(fault)) => {
                hold.hopeless =
                    matches!(&fault, AskError::Refused { code, .. } if NEVER.contains(code));
                return Err(Why::Failed(format!(
                    "{primary} does not lock {quoted}: {fault}"
                )));
            }
            Ok(Ok(())) => {}
        }
        hold.gathered = Some(hold.asked.elapsed());
        let had = Instant::now();
        let aside = grip.aside();
        let aside = aside.map_err(|fault| Why::Failed(format!("{primary}: {fault}")))?;
        let position = match timeout_at(hold.until, Position::of(aside, primary)).await {
            Err(_) => return Err(late("where the primary stands was not told")),
            Ok(Err(Unplaced::NotNow(why) | Unplaced::Never(why))) => return Err(Why::Failed(why)),
            Ok(Ok(position)) => position,
        };
        let came = follower
            .comes_to(&position, &named(table), hold.until)
            .await;
        came.map_err(Why::Failed)?;
        hold.caught_up = Some(had.elapsed());
        match timeout_at(hold.until, work).await {
            Err(_) => Err(late("the opening of both snapshots was not done")),
            Ok(done) => done.map_err(Why::Failed),
        }
    }
}

/// A lock's task, which ends with this.
struct Holding(JoinHandle<Locked>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A hold under way.
struct Hold {
    asked: Instant,
    /// How long whoever writes may wait.
    at_most: Duration,
    /// When what is done must be over, for that.
    until: Instant,
    gathered: Option<Duration>,
    caught_up: Option<Duration>,
    hopeless: bool,
}

fn none(why: Why, hopeless: bool) -> Locked {
    Locked {
        moment: Moment::none(why),
        caught_up: None,
        hopeless,
    }
}

/// Resolves where a cutover comes; never where none can.
async fn cut(beside: Option<&Beside>) {
    match beside {
        Some(beside) => beside.cut().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

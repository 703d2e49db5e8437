//! The connection that locks one table of a primary against writers, and lets go of it.
//!
//! `LOCK TABLES … READ` takes two locks where autocommit is off: the server's own, which since MySQL 5.7 waits for the
//! transactions that wrote to the table, and then the engine's, for which nobody is left to wait. Before 5.7 the server's
//! waits for no transaction, and the engine's may close a circle of those that wait for each other, which InnoDB opens
//! by ending one of production's: such a primary is refused.
//!
//! Whatever becomes of this process, the lock ends: the server closes a connection that says nothing
//! (`wait_timeout`) and gives up one that waits (`lock_wait_timeout`), after the hold's bound in whole seconds, and it
//! sees at once where a connection is closed while it holds. One that still waits is killed, where this is
//! dropped too: a server does not see that nobody waits for its answer any more. It is killed by the number that the
//! server itself gives it, and only where who kills talks to the same server.

use crate::ask::{AskError, Asker, Manner, version_number};
use crate::config::{Account, Server};
use crate::connect::{ConnectError, Dial};
use crate::cutover::position::whole_seconds;
use crate::task;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// A server that does not let go in this time is left to its own bounds.
const LET_GO_MAX: Duration = Duration::from_secs(1);

const UNLOCK: &str = "UNLOCK TABLES";

/// A session that takes both locks.
const OF_BOTH: &str = "autocommit = 0, innodb_table_locks = 1";

/// Which connection this is, and of which server.
const WHICH: &str = "SELECT CONNECTION_ID(), @@GLOBAL.server_uuid";

/// See the module.
pub(super) struct Grip {
    /// Has the lock, or is to have it.
    holder: Asker,
    bound_s: u64,
    server: String,
    wait: Wait,
}

/// That the holder waits for an answer, which ends with this.
struct Wait {
    on: bool,
    /// The holder's number at the server.
    connection: u64,
    /// Asks and kills, while they wait.
    aside: Option<Asker>,
    thread: Handle,
}

/// Why a connection is not ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unready {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(
        "its address led to several servers, of which one cannot end what another does; give the address of one"
    )]
    Several,
    #[error("it does not say which connection this is")]
    Unknown,
}

impl Grip {
    /// Connections that are ready for it, and hold nothing.
    ///
    /// # Errors
    /// The primary does not let them in, or does not take what bounds them.
    pub(super) async fn ready(
        dial: &dyn Dial,
        (primary, account): (&Server, &Account),
        at_most: Duration,
        thread: Handle,
    ) -> Result<Self, Unready> {
        let manner = Manner::default();
        let open = || Asker::open(dial, primary, account, &manner);
        let (mut aside, mut holder) = (open().await?, open().await?);
        let (_, beside) = which(&mut aside).await?;
        let (connection, server) = which(&mut holder).await?;
        if server != beside {
            return Err(Unready::Several);
        }
        let bound_s = whole_seconds(at_most);
        let set = format!(
            "SET {OF_BOTH}, lock_wait_timeout = {bound_s}, innodb_lock_wait_timeout = {bound_s}"
        );
        holder.ask(&set).await?;
        let wait = Wait {
            on: false,
            connection,
            aside: Some(aside),
            thread,
        };
        Ok(Self {
            holder,
            bound_s,
            server,
            wait,
        })
    }

    /// Which server it is, by its `server_uuid`.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Right before the hold, for from here on the server waits no longer for a word.
    ///
    /// # Errors
    /// The primary does not take it.
    pub(super) async fn brace(&mut self) -> Result<(), AskError> {
        let set = format!("SET wait_timeout = {}", self.bound_s);
        self.holder.ask(&set).await.map(drop)
    }

    /// The connection that asks.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn aside(&mut self) -> Result<&mut Asker, AskError> {
        let gone = || AskError::Broken(std::io::ErrorKind::NotConnected.into());
        self.wait.aside.as_mut().ok_or_else(gone)
    }

    /// Locks this table (quoted, with its database). Where it is dropped in its midst, the next is to let go.
    ///
    /// # Errors
    /// The primary refuses, or the connection broke off.
    pub(super) async fn lock(&mut self, table: &str) -> Result<(), AskError> {
        let lock = format!("LOCK TABLES {table} READ");
        self.wait.on = true;
        let locked = self.holder.ask(&lock).await.map(drop);
        // A refusal is an answer.
        self.wait.on = !matches!(locked, Ok(()) | Err(AskError::Refused { .. }));
        locked
    }

    /// Lets go; whether it was held until now, which a server that answers says.
    pub(super) async fn let_go(self) -> bool {
        let Self {
            mut holder,
            mut wait,
            ..
        } = self;
        if wait.on {
            wait.end().await;
            return false;
        }
        let unlocking = holder.ask(UNLOCK);
        if !matches!(timeout(LET_GO_MAX, unlocking).await, Ok(Ok(_))) {
            wait.end().await;
            return false;
        }
        let aside = wait.aside.take();
        let leaving = async move {
            holder.leave().await;
            if let Some(aside) = aside {
                aside.leave().await;
            }
        };
        drop(task::spawn_on(&wait.thread, "leave", leaving));
        true
    }
}

/// The connection's number, and its server's.
async fn which(asker: &mut Asker) -> Result<(u64, String), Unready> {
    let rows = asker.ask(WHICH).await?;
    let mut cells = rows.into_iter().flatten().flatten();
    let connection = cells.next().and_then(|number| number.parse().ok());
    connection.zip(cells.next()).ok_or(Unready::Unknown)
}

/// Whether this is a MySQL before 5.7, whose lock of a table may have it end somebody's transaction. A MariaDB is none,
/// whatever its greeting says of it to replicas of old (`5.5.5-10.11.6-MariaDB`).
pub(super) fn is_older(version: &str) -> bool {
    let (major, minor, _) = version_number(version);
    (major, minor) < (5, 7) && !version.contains("MariaDB")
}

impl Wait {
    /// The holder's connection ends on the server.
    async fn end(&mut self) {
        if let Some(aside) = self.aside.take() {
            kill(aside, self.connection).await;
        }
        self.on = false;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(aside) = self.aside.take().filter(|_| self.on) {
            let killing = kill(aside, self.connection);
            drop(task::spawn_on(&self.thread, "kill", killing));
        }
    }
}

/// It is ended, or was before.
async fn kill(mut aside: Asker, connection: u64) {
    let kill = format!("KILL {connection}");
    let killing = timeout(LET_GO_MAX, aside.ask(&kill)).await;
    if !matches!(killing, Ok(Ok(_) | Err(AskError::Refused { .. }))) {
        tracing::warn!(
            connection,
            "a table's lock was not taken back: the server ends it by itself, in a second or what verify.hold_ms_max is in whole ones"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_5_7_the_servers_lock_waits_for_no_transaction() {
        for (version, older) in [
            ("5.6.24-log", true),
            ("5.5.62", true),
            ("5.7.44-log", false),
            ("8.0.36", false),
            ("9.7.4-2", false),
            ("10.11.6-MariaDB", false),
            ("5.5.5-10.11.6-MariaDB", false),
            ("5.5.68-MariaDB", false),
        ] {
            assert_eq!(is_older(version), older, "{version}");
        }
    }
}

//! The connections that lock one table of a primary against writers, and let go of it.
//!
//! There are two locks. The server's own (`LOCK TABLES … READ`) lets no statement that writes begin; since MySQL 5.7 it
//! waits for the transactions that wrote, too. The engine's, which the same statement takes where autocommit is off,
//! waits for them on MySQL 5.6 as well, which takes it first. There another connection must have the server's before:
//! where new writers already wait at that one, none waits at the engine's, and InnoDB, which ends one of those that
//! wait for each other in a circle, meets no circle. Since 5.7 it is one statement on one connection: a second one would
//! wait behind the writers that wait for the first.
//!
//! Whatever becomes of this process, the lock ends: the server closes a connection that says nothing
//! (`wait_timeout`) and gives up one that waits (`lock_wait_timeout`), after the hold's bound in whole seconds, and it
//! sees at once where a connection is closed while it holds. One that still waits is killed by number, where this is
//! dropped too: a server does not see that nobody waits for its answer any more.

use crate::ask::{AskError, Asker, Manner};
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

/// A session that takes the server's lock alone, and one that takes both.
const OF_SERVER: &str = "autocommit = 1";
const OF_BOTH: &str = "autocommit = 0, innodb_table_locks = 1";

/// See the module.
pub(super) struct Grip {
    /// Each has a lock, or is to have one, in this order.
    holders: Vec<Asker>,
    bound_s: u64,
    wait: Wait,
}

/// That the holders wait for an answer, which ends with this.
struct Wait {
    on: bool,
    threads: Vec<u32>,
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
        let aside = open().await?;
        let sessions = if is_older(aside.version()) {
            &[OF_SERVER, OF_BOTH][..]
        } else {
            &[OF_BOTH]
        };
        let bound_s = whole_seconds(at_most);
        let mut holders = Vec::new();
        for session in sessions {
            let mut holder = open().await?;
            let set = format!(
                "SET {session}, lock_wait_timeout = {bound_s}, innodb_lock_wait_timeout = {bound_s}"
            );
            holder.ask(&set).await?;
            holders.push(holder);
        }
        let wait = Wait {
            on: false,
            threads: holders.iter().map(Asker::thread).collect(),
            aside: Some(aside),
            thread,
        };
        Ok(Self {
            holders,
            bound_s,
            wait,
        })
    }

    /// Right before the hold, for from here on the server waits no longer for a word.
    ///
    /// # Errors
    /// The primary does not take it.
    pub(super) async fn brace(&mut self) -> Result<(), AskError> {
        let set = format!("SET wait_timeout = {}", self.bound_s);
        for holder in &mut self.holders {
            holder.ask(&set).await?;
        }
        Ok(())
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
        let mut locked = Ok(());
        for holder in &mut self.holders {
            locked = holder.ask(&lock).await.map(drop);
            if locked.is_err() {
                break;
            }
        }
        // A refusal is an answer.
        self.wait.on = !matches!(locked, Ok(()) | Err(AskError::Refused { .. }));
        locked
    }

    /// Lets go; whether all was held until now, which a server that answers on each connection says.
    pub(super) async fn let_go(self) -> bool {
        let Self {
            mut holders,
            mut wait,
            ..
        } = self;
        if wait.on {
            wait.end().await;
            return false;
        }
        // The last one first: whoever waits for the first would go on to wait for the last.
        let unlocking = async {
            for holder in holders.iter_mut().rev() {
                holder.ask(UNLOCK).await?;
            }
            Ok::<_, AskError>(())
        };
        if !matches!(timeout(LET_GO_MAX, unlocking).await, Ok(Ok(()))) {
            wait.end().await;
            return false;
        }
        holders.extend(wait.aside.take());
        let leaving = async move {
            for asker in holders {
                asker.leave().await;
            }
        };
        drop(task::spawn_on(&wait.thread, "leave", leaving));
        true
    }
}

/// Whether this is a MySQL before 5.7.
fn is_older(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let version: (u32, u32) = (next(), next());
    version < (5, 7)
}

impl Wait {
    /// The holders' connections end on the server.
    async fn end(&mut self) {
        if let Some(aside) = self.aside.take() {
            kill(aside, self.threads.clone()).await;
        }
        self.on = false;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(aside) = self.aside.take().filter(|_| self.on) {
            let killing = kill(aside, self.threads.clone());
            drop(task::spawn_on(&self.thread, "kill", killing));
        }
    }
}

/// All of them are ended, or were before.
async fn kill(mut aside: Asker, threads: Vec<u32>) {
    let killing = async {
        for thread in &threads {
            match aside.ask(&format!("KILL {thread}")).await {
                Ok(_) | Err(AskError::Refused { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    };
    if !matches!(timeout(LET_GO_MAX, killing).await, Ok(Ok(()))) {
        tracing::warn!(
            ?threads,
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
        ] {
            assert_eq!(is_older(version), older, "{version}");
        }
    }
}

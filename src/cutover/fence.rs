//! Makes the old primary refuse the writes of others: `read_only`, which those with SUPER pass (or what
//! it was split into). `super_read_only` would stop the dark writes that keep the way back open.
//!
//! Behind the fence replay logs in with the proxy's own account, the only one that need pass it: were the
//! applications' own users let through, so were their clients that go past the proxy. vtgate has no such
//! switch, and is left alone.

use super::coordinator::Parts;
use crate::ask::{AskError, Asker, Manner};
use crate::config::Server;
use crate::task;
use std::sync::Arc;
use std::time::Duration;

/// The server gives up by itself to wait for a lock on all tables: a fence that nobody waits for any
/// more must not come up later.
const PATIENCE: &str = "SET SESSION lock_wait_timeout = 1";

/// Between two tries to take a fence away.
const AGAIN: Duration = Duration::from_secs(2);

/// So often it is tried: an hour.
const TRIES: u32 = 1_800;

/// Sets the fence, or takes it away; on a vtgate nothing.
///
/// # Errors
/// The proxy's own account may not, or the server does not answer.
pub(super) async fn set(parts: &Parts, server: &Server, on: bool) -> Result<(), String> {
    let name = &server.name;
    let verb = if on { "fenced" } else { "let write again" };
    let failed = |why: &dyn std::fmt::Display| format!("{name} cannot be {verb}: {why}");
    let Some(account) = &server.account else {
        return Err(failed(&"the proxy has no account there"));
    };
    let opened = Asker::open(&*parts.dial, server, account, &Manner::default()).await;
    let mut asker = opened.map_err(|error| failed(&error))?;
    if is_vitess(asker.version()) {
        asker.leave().await;
        return Ok(());
    }
    let asked = write(&mut asker, on).await;
    asker.leave().await;
    asked.map_err(|error| failed(&error))
}

async fn write(asker: &mut Asker, on: bool) -> Result<(), AskError> {
    if on {
        asker.ask(PATIENCE).await?;
    }
    let set = format!("SET GLOBAL read_only = {}", u8::from(on));
    asker.ask(&set).await.map(drop)
}

fn is_vitess(version: &str) -> bool {
    version.contains("Vitess")
}

/// What an earlier process fenced stays so while it is the shadow, also where that server was restarted
/// meanwhile and has forgotten it. Not in a fleet, whose other proxies may be about to let it write. Reads
/// the records: it blocks.
pub(super) fn recall(parts: &Parts) {
    let shadow = Arc::clone(&parts.roles.borrow().shadow);
    let last = parts.records.last_switched().ok().flatten();
    let was_primary = last.is_some_and(|last| last.from == shadow.name);
    if !parts.config.cutover.fence || !was_primary || parts.fleet.is_some() {
        return;
    }
    let parts = parts.clone();
    // It ends with its one question.
    drop(task::spawn("fence", async move {
        if parts.roles.borrow().shadow.name != shadow.name {
            return;
        }
        if let Err(why) = set(&parts, &shadow, true).await {
            tracing::warn!("{why}");
        }
    }));
}

/// Takes the fence away from a server that did not let it be taken away; gives up after a while, and where
/// it is not the primary any more, or `holds` says that another fence was set since.
pub(super) async fn lift(parts: Parts, server: Arc<Server>, holds: impl Fn() -> bool + Send) {
    for _ in 0..TRIES {
        tokio::time::sleep(AGAIN).await;
        if parts.roles.borrow().primary.name != server.name || !holds() {
            return;
        }
        match set(&parts, &server, false).await {
            Ok(()) => return tracing::info!("{} takes writes again", server.name),
            Err(why) => tracing::error!("{why}; it is tried again"),
        }
    }
}

/// Ends these connections at a server, whose sessions are being ended: what they run would go on after
/// their close. As far as it goes: vtgate has no KILL.
pub(super) async fn kill(parts: Parts, server: Arc<Server>, threads: Vec<u32>) {
    let Some(account) = &server.account else {
        return;
    };
    let opened = Asker::open(&*parts.dial, &server, account, &Manner::default()).await;
    let Ok(mut asker) = opened else { return };
    if !is_vitess(asker.version()) {
        for thread in threads {
            // It may have come to its boundary meanwhile: held, it moves.
            let unheld = parts.relay.census().unheld;
            if !unheld.iter().any(|one| one.thread_id == thread) {
                continue;
            }
            if let Err(error) = asker.ask(&format!("KILL {thread}")).await {
                tracing::debug!(%error, thread, "a connection was not ended at the server");
            }
        }
    }
    asker.leave().await;
}

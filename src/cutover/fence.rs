//! Makes the old primary refuse the writes of others: `read_only`, which those with SUPER pass, the
//! proxy's own account among them, with which the shadow side replays on a server that is fenced.
//! `super_read_only` would stop the dark writes that keep the way back
//! open. vtgate has no such switch, and is left alone.

use super::coordinator::Parts;
use crate::ask::{Asker, Manner};
use crate::config::Server;
use std::sync::Arc;
use std::time::Duration;

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
    if asker.version().contains("Vitess") {
        asker.leave().await;
        return Ok(());
    }
    let set = format!("SET GLOBAL read_only = {}", u8::from(on));
    let asked = asker.ask(&set).await;
    asker.leave().await;
    asked.map(drop).map_err(|error| failed(&error))
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
    if !asker.version().contains("Vitess") {
        for thread in threads {
            if let Err(error) = asker.ask(&format!("KILL {thread}")).await {
                tracing::debug!(%error, thread, "a connection was not ended at the server");
            }
        }
    }
    asker.leave().await;
}

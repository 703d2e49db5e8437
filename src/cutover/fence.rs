//! Makes the old primary refuse the writes of others: `read_only`, which those with SUPER pass (or what
//! it was split into). `super_read_only` would stop the dark writes that keep the way back open.
//!
//! Behind the fence replay logs in with the proxy's own account, the only one that need pass it: were the
//! applications' own users let through, so were their clients that go past the proxy. vtgate has no such
//! switch, and is left alone. What is tried again beside looks once more, after its login, whether it still
//! holds: see [`Turn`](super::turn::Turn).

use super::coordinator::Parts;
use super::turn::Turn;
use crate::ask::{AskError, Asker, Manner};
use crate::config::Server;
use crate::task;
use std::sync::Arc;
use std::time::Duration;

/// The server gives up by itself to wait for a lock on all tables: a fence that nobody waits for any
/// more must not come up later.
const PATIENCE: &str = "SET SESSION lock_wait_timeout = 1";

/// Between two tries to take a fence away.
pub(super) const AGAIN: Duration = Duration::from_secs(2);

/// So often it is tried: an hour.
const TRIES: u32 = 1_800;

/// Sets the fence, or takes it away; on a vtgate nothing, nor where `still` says, once it is its turn, that
/// it is not to be any more. Whether it was done.
///
/// # Errors
/// The proxy's own account may not, or the server does not answer.
pub(super) async fn set(
    parts: &Parts,
    server: &Server,
    on: bool,
    (turn, still): (&Turn, impl Fn() -> bool + Send),
) -> Result<bool, String> {
    let name = &server.name;
    let verb = if on { "fenced" } else { "let write again" };
    let failed = |why: &dyn std::fmt::Display| format!("{name} cannot be {verb}: {why}");
    let Some(account) = &server.account else {
        return Err(failed(&"the proxy has no account there"));
    };
    let opened = Asker::open(&*parts.dial, server, account, &Manner::default()).await;
    let mut asker = opened.map_err(|error| failed(&error))?;
    let turn = turn.take().await;
    let does = !is_vitess(asker.version()) && still();
    let asked = if does {
        write(&mut asker, on).await
    } else {
        Ok(())
    };
    drop(turn);
    asker.leave().await;
    asked.map(|()| does).map_err(|error| failed(&error))
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
pub(super) fn recall(parts: &Parts, fences: &Turn) {
    let shadow = Arc::clone(&parts.roles.borrow().shadow);
    let last = parts.records.last_switched().ok().flatten();
    let was_primary = last.is_some_and(|last| last.from == shadow.name);
    if !parts.config.cutover.fence || !was_primary || parts.fleet.is_some() {
        return;
    }
    // It ends once the server is fenced or the primary again, or after a while.
    drop(task::spawn(
        "fence",
        fence_again(parts.clone(), shadow, fences.clone()),
    ));
}

async fn fence_again(parts: Parts, shadow: Arc<Server>, fences: Turn) {
    let is_shadow = || parts.roles.borrow().shadow.name == shadow.name;
    for _ in 0..TRIES {
        if !is_shadow() {
            return;
        }
        match set(&parts, &shadow, true, (&fences, is_shadow)).await {
            Ok(_) => return,
            Err(why) => tracing::warn!("{why}; it is tried again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Takes the fence away, after a while, from a server that did not let it be taken away, or may have set it
/// late; gives up after an hour, and where it is not the primary any more or another fence was set since.
pub(super) fn lift(
    parts: &Parts,
    server: &Arc<Server>,
    fences: &Turn,
    after: Duration,
) -> impl Future<Output = ()> + Send + use<> {
    let (parts, server, fences) = (parts.clone(), Arc::clone(server), fences.clone());
    let current = fences.current();
    async move {
        let is_to_be =
            || parts.roles.borrow().primary.name == server.name && fences.current() == current;
        tokio::time::sleep(after).await;
        for _ in 0..TRIES {
            if !is_to_be() {
                return;
            }
            match set(&parts, &server, false, (&fences, is_to_be)).await {
                Ok(true) => return tracing::info!("{} takes writes again", server.name),
                Ok(false) => return,
                Err(why) => tracing::error!("{why}; it is tried again"),
            }
            tokio::time::sleep(AGAIN).await;
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

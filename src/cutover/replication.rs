//! Replication from the old primary into the new one, which must end before dark writes flow back: what
//! they write would be brought to the new primary a second time.
//!
//! Where the config says so (`cutover.stop_replication`), it is stopped here, in the hold, once the shadow
//! has everything: then no write is missing on the old primary. It is started again where the cutover is
//! aborted after that. On the way back it notes where the old primary stands, for that is from where
//! replication may go on: what is before it came by dark writes. Refuses to start what somebody else has
//! stopped, and to know how a vtgate is fed.

use super::coordinator::Parts;
use crate::ask::{AskError, Asker, Manner, Row};
use crate::config::{FedBy, Server};
use crate::connect::ConnectError;
use crate::ledger::{Record, StepEnd};
use crate::task;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Between two tries to start it again.
const AGAIN: Duration = Duration::from_secs(2);

/// So often it is tried: an hour.
const TRIES: u32 = 1_800;

/// Where a server stands; what has no GTIDs has none to tell.
const STANDS: &str = "SELECT @@GLOBAL.gtid_executed";

/// Sessions are held while it is asked.
const STANDS_MAX: Duration = Duration::from_millis(500);

/// MySQL's number for a statement that it does not know.
const UNKNOWN_STATEMENT: u16 = 1064;

/// What was done about replication for the cutover under way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Halt {
    stopped: Arc<AtomicBool>,
    stands: Arc<Mutex<Option<String>>>,
}

impl Halt {
    /// Whether it was stopped. Afterwards it is not known any more.
    pub(super) fn take(&self) -> bool {
        self.stopped.swap(false, Ordering::AcqRel)
    }

    /// The GTIDs of the server that replication comes from, as it becomes the primary again. Likewise.
    pub(super) fn stands(&self) -> Option<String> {
        self.stands.lock().take()
    }
}

/// The shadow has everything: replication into it is stopped, where the config says so. Where it is the
/// server that replication would come from, it is asked where it stands, as far as it tells.
///
/// # Errors
/// Replication was not stopped in time, or may not be. It may be all the same, a moment later.
pub(super) async fn settle(parts: &Parts, done: &Halt, until: Instant) -> Result<(), String> {
    if parts.config.shadow.fed_by == FedBy::Mirror {
        return Ok(());
    }
    let shadow = Arc::clone(&parts.roles.borrow().shadow);
    if shadow.fed_by == FedBy::Replication {
        return halt(parts, &shadow, done, until).await;
    }
    let soon = until.min(Instant::now() + STANDS_MAX);
    if let Ok(Ok(rows)) = timeout_at(soon, ask(parts, &shadow, STANDS)).await {
        let set = rows.into_iter().flatten().flatten().next();
        let set = set.map(|set| set.split_whitespace().collect::<String>());
        *done.stands.lock() = set.filter(|set| !set.is_empty());
    }
    Ok(())
}

async fn halt(parts: &Parts, shadow: &Server, done: &Halt, until: Instant) -> Result<(), String> {
    if !parts.config.cutover.stop_replication {
        return Ok(());
    }
    // Before it is asked for: whether it was done is not known where no answer comes.
    done.stopped.store(true, Ordering::Release);
    let stopped = timeout_at(until, tell(parts, shadow, "STOP")).await;
    let stopped = stopped.unwrap_or_else(|_| Err("it does not answer in time".to_owned()));
    stopped.map_err(|why| format!("replication into {} cannot be stopped: {why}", shadow.name))
}

/// The cutover is aborted: replication goes on, if it was stopped for it.
pub(super) fn go_on(parts: &Parts, done: &Halt) {
    if done.take() {
        let (parts, shadow) = (parts.clone(), Arc::clone(&parts.roles.borrow().shadow));
        // It ends once replication runs, or after a while.
        drop(task::spawn("replication", start(parts, shadow)));
    }
}

/// An earlier process may have ended between the stop and the switch. Reads the records: it blocks.
pub(super) fn recall(parts: &Parts) {
    let shadow = Arc::clone(&parts.roles.borrow().shadow);
    let is_fed = shadow.fed_by == FedBy::Replication;
    let last = parts.records.last_acted().ok().flatten();
    let last = last.filter(|last| is_fed && was_cut(last));
    let Some(last) = last.filter(|_| parts.config.cutover.stop_replication) else {
        return;
    };
    let why = format!(
        "understudy ended in the midst of a cutover: replication into {} is started again",
        shadow.name
    );
    tracing::warn!("{why}");
    // Once: whoever stops it after this has a reason.
    let end = StepEnd {
        outcome: "done",
        why: &why,
    };
    let noted = parts
        .records
        .note(last.id, "replication", Duration::ZERO, end);
    if let Err(fault) = noted {
        tracing::warn!("{fault}");
    }
    drop(task::spawn("replication", start(parts.clone(), shadow)));
}

/// Whether the last step that a process came to was one in which replication may be stopped already.
fn was_cut(last: &Record) -> bool {
    let step = last.steps.last();
    let is_cut = step.is_some_and(|step| step.outcome.as_deref() == Some("cut"));
    let may_be = ["catching_up", "switching"].contains(&last.state.as_str());
    last.switched.is_none() && is_cut && may_be
}

/// Twice, for a STOP that was given up may have come behind the first.
async fn start(parts: Parts, shadow: Arc<Server>) {
    let mut started = 0;
    for _ in 0..TRIES {
        match tell(&parts, &shadow, "START").await {
            Ok(()) if started == 1 => {
                return tracing::info!("replication into {} goes on", shadow.name);
            }
            Ok(()) => started += 1,
            Err(why) => tracing::error!(
                "replication into {} cannot be started again: {why}; it is tried again",
                shadow.name
            ),
        }
        tokio::time::sleep(AGAIN).await;
        if parts.roles.borrow().shadow.name != shadow.name {
            return;
        }
    }
}

async fn tell(parts: &Parts, server: &Server, verb: &str) -> Result<(), String> {
    let told = ask(parts, server, &format!("{verb} REPLICA")).await;
    // Before MySQL 8.0.22 it had another name.
    let told = match told {
        Err(Fault::Asked(AskError::Refused { code, .. })) if code == UNKNOWN_STATEMENT => {
            ask(parts, server, &format!("{verb} SLAVE")).await
        }
        told => told,
    };
    told.map(drop).map_err(|fault| fault.to_string())
}

/// Why a server does not do it.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the proxy has no account there")]
    NoAccount,
    #[error(transparent)]
    Closed(#[from] ConnectError),
    #[error(transparent)]
    Asked(#[from] AskError),
}

async fn ask(parts: &Parts, server: &Server, statement: &str) -> Result<Vec<Row>, Fault> {
    let account = server.account.as_ref().ok_or(Fault::NoAccount)?;
    let mut asker = Asker::open(&*parts.dial, server, account, &Manner::default()).await?;
    let told = asker.ask(statement).await;
    asker.leave().await;
    Ok(told?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Begun, Records};

    #[test]
    fn only_a_cutover_that_may_have_stopped_it_leaves_it_to_be_started_once() {
        for (steps, starts) in [
            (&["checking", "preparing", "holding"][..], false),
            (&["holding", "catching_up"], true),
            (&["holding", "catching_up", "switching"], true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let records = Records::at(&dir.path().join("ledger.db"));
            let begun = Begun {
                from: "legacy".into(),
                to: "vitess".into(),
                dry_run: false,
                is_back: false,
                forced: Vec::new(),
                who: "dba".into(),
            };
            let id = records.begin(&begun).unwrap();
            let end = StepEnd {
                outcome: "done",
                why: "",
            };
            let mut open = None;
            for step in steps {
                if let Some(open) = open.replace(records.step_begins(id, step).unwrap()) {
                    records.step_ends(&open, end).unwrap();
                }
            }
            let last = || records.last_acted().unwrap().unwrap();
            assert!(!was_cut(&last()), "it is under way");
            records.take_over().unwrap();
            assert_eq!(was_cut(&last()), starts, "{steps:?}");
            records
                .note(id, "replication", Duration::ZERO, end)
                .unwrap();
            assert!(!was_cut(&last()), "it was started");
        }
    }
}

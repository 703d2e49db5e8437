//! A verification without a running understudy: both servers of a config are read from here.
//!
//! No mirror runs meanwhile, so what differs is looked at again once replication has brought it, or while both servers
//! stand still (`still`), or after pauses alone; and nobody puts repairs in order, so none is applied. No taint is
//! cleared: what applications wrote past the proxy while it was down is not known. The ledger belongs to this process for
//! as long. Ctrl-C, SIGTERM and SIGHUP end the run, which is recorded as aborted; where the process is killed, nobody goes
//! on with it.

use super::super::Trouble;
use super::still::Stillness;
use crate::app;
use crate::config::{Config, FedBy, Literals};
use crate::connect::{Dial, Tcp};
use crate::cutover::{Lock, Replicated};
use crate::ledger::{Commands, Judged, Ledger, Recorded, Verifications, recorded};
use crate::roles::Roles;
use crate::sql::Table;
use crate::verify::{
    Around, By, CaughtUp, Held, Inspector, NoPlace, Opening, Place, Soon, Sought, Still, Verifier,
    VerifierParts, Wish,
};
use serde_json::Value;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// What may be on its way to the shadow is given this time before each look, where nobody can say that nothing is.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Replication is waited for at most so long.
const REPLICATION_MAX: Duration = Duration::from_secs(10);

/// A commit may be seen before its GTID is in the primary's set: so long is waited before it is asked for.
const QUIET: Duration = Duration::from_millis(100);

/// What was begun about a table's lock has this time to end, and is looked at so often.
const END_MAX: Duration = Duration::from_secs(3);
const REST_LOOK: Duration = Duration::from_millis(5);

/// Between two looks whether it has ended, and of so many one is told.
const LOOK: Duration = Duration::from_millis(20);
const TOLD_EACH: u32 = 25;

/// Runs it to its end; how it stands then.
pub(super) fn run(
    file: &Path,
    wish: &Wish,
    who: Option<&str>,
    look: impl Fn(&Value),
) -> Result<Value, Trouble> {
    let config = Config::load(file).map_err(Trouble::usage)?;
    let roles = roles(&config)?;
    // A second process on one ledger is refused here: a running understudy is to be asked with --admin.
    let nothing = Arc::new(|| Commands {
        handed: 0,
        lost: 0,
        passed: 0,
    });
    let fed_by = roles.shadow.fed_by;
    let dial: Arc<dyn Dial> = Arc::new(Tcp::default());
    let replicated = (fed_by == FedBy::Replication).then(|| {
        let cutover = config.cutover.clone();
        Replicated::new(Arc::clone(&dial), roles.clone(), cutover, None)
    });
    let still = match fed_by {
        FedBy::Mirror => Stillness::between(&dial, &roles),
        FedBy::Replication => None,
    };
    let locks = wish.lock && fed_by == FedBy::Replication;
    let beside = locks.then(Beside::begin).transpose();
    let beside = beside.map_err(Trouble::failed)?;
    let lock = beside.as_ref().map(|beside| {
        let command = &config.verify.position_command;
        let thread = (beside.thread.clone(), None);
        Lock::new(Arc::clone(&dial), roles.clone(), command, thread)
    });
    let ledger = Ledger::open(&config.ledger, fed_by, Judged::default(), nothing);
    let ledger = ledger.map_err(|fault| {
        Trouble::failed(format!(
            "{fault}. Where an understudy runs with it, leave --config out and ask it"
        ))
    })?;
    let (_turns, roles) = watch::channel(roles);
    let verifier = Verifier::new(VerifierParts {
        roles,
        dial,
        limits: config.verify.clone(),
        tells_keys: config.ledger.literals == Literals::Keep,
        around: Arc::new(Alone {
            replicated,
            still,
            lock,
            clock: app::clock(&config, fed_by),
        }),
        records: Arc::new(Verifications::at(&config.ledger.path)),
        left_out: app::left_out(&config),
        alone: true,
    });
    let who = who.unwrap_or("operator");
    let begun = verifier.start(wish, who);
    if let Err(refused) = begun {
        ledger.close();
        return Err(Trouble::failed(refused));
    }
    let told = watched(&verifier, who, look);
    verifier.leave();
    ledger.close();
    told
}

/// Looks until it has ended; Ctrl-C, and what a terminal or an init system sends, have it end.
fn watched(
    verifier: &dyn Inspector,
    who: &str,
    mut look: impl FnMut(&Value),
) -> Result<Value, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(Trouble::failed)?;
    // Heard from the beginning on, and between two looks.
    let entered = runtime.enter();
    let ctrl_c = signal(SignalKind::interrupt()).map_err(Trouble::failed)?;
    let terminate = signal(SignalKind::terminate()).map_err(Trouble::failed)?;
    let hangup = signal(SignalKind::hangup()).map_err(Trouble::failed)?;
    drop(entered);
    let (mut ctrl_c, mut terminate, mut hangup) = (ctrl_c, terminate, hangup);
    let mut interrupted: Option<&str> = None;
    let mut looks = 0;
    loop {
        let pause = async {
            tokio::select! {
                _ = ctrl_c.recv() => Some("Ctrl-C"),
                _ = terminate.recv() => Some("SIGTERM"),
                _ = hangup.recv() => Some("SIGHUP"),
                () = tokio::time::sleep(LOOK) => None,
            }
        };
        let heard = runtime.block_on(pause);
        interrupted = interrupted.or(heard);
        if let Some(by) = interrupted {
            // Where it has just ended by itself, so much the better.
            let _ = verifier.abort(&format!("{who} ({by})"));
        }
        looks = (looks + 1) % TOLD_EACH;
        if looks != 0 && verifier.figures().state != "ended" {
            continue;
        }
        let told = verifier.standing(true);
        if told.get("state").and_then(Value::as_str) == Some("ended") {
            return Ok(told);
        }
        look(&told);
    }
}

/// Who is primary: the ledger says so, else the config.
fn roles(config: &Config) -> Result<Roles, Trouble> {
    match recorded(&config.ledger.path) {
        Recorded::Nothing => Ok(Roles::configured(config)),
        Recorded::Is(name) => Roles::with_primary(config, &name).ok_or_else(|| {
            Trouble::failed(format!(
                "the ledger says that {name} is primary, and the config has no server of that name"
            ))
        }),
        Recorded::Unreadable(why) => Err(Trouble::failed(format!(
            "the ledger, which says who is primary, cannot be read: {why}"
        ))),
    }
}

/// A thread beside the one that compares: who waits for a table's lock does not wait for rows to be compared. It ends
/// once what was begun there has ended: a server does not see that nobody waits for its lock any more, and whoever writes
/// to the table stands behind it.
struct Beside {
    thread: Handle,
    ends: Option<oneshot::Sender<Infallible>>,
    ended: Option<JoinHandle<()>>,
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.ends.take());
        let ended = self.ended.take().map(JoinHandle::join);
        if matches!(ended, Some(Err(_))) {
            tracing::error!("the thread of the locks broke off");
        }
    }
}

impl Beside {
    fn begin() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = runtime.handle().clone();
        let (ends, told) = oneshot::channel::<Infallible>();
        let ended = std::thread::Builder::new()
            .name("lock".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let _ = told.await;
                    let _ = timeout(END_MAX, at_rest(runtime.handle())).await;
                });
            })?;
        Ok(Self {
            thread,
            ends: Some(ends),
            ended: Some(ended),
        })
    }
}

/// Returns once nothing is under way on a runtime.
async fn at_rest(runtime: &Handle) {
    while runtime.metrics().num_alive_tasks() > 0 {
        tokio::time::sleep(REST_LOOK).await;
    }
}

/// Nobody is around.
struct Alone {
    replicated: Option<Replicated>,
    /// Where nothing is said to feed the shadow.
    still: Option<Stillness>,
    /// Where tables are to be locked, and replication feeds the shadow.
    lock: Option<Lock>,
    /// By so much moments that a mirror wrote may differ.
    clock: Duration,
}

impl Around for Alone {
    fn holds(&self) -> Option<String> {
        None
    }

    fn share(&self, most: f64) -> f64 {
        most
    }

    fn begins(&self) -> Soon<'_, ()> {
        Box::pin(async {
            if let Some(still) = &self.still {
                still.begins().await;
            }
        })
    }

    fn caught_up<'a>(
        &'a self,
        _table: &'a Table,
        sought: Sought<'a>,
    ) -> Soon<'a, Result<CaughtUp, String>> {
        Box::pin(async move {
            if let Some(replicated) = &self.replicated {
                tokio::time::sleep(QUIET).await;
                let on = [sought.on.primary, sought.on.shadow];
                replicated.wait(on, REPLICATION_MAX).await?;
                return Ok(app::sureness(replicated));
            }
            match &self.still {
                Some(still) if still.lasts(sought.on, CATCH_UP).await => return Ok(CaughtUp::Seen),
                Some(_) => {}
                None => tokio::time::sleep(CATCH_UP).await,
            }
            Ok(CaughtUp::Waited)
        })
    }

    fn place<'a>(
        &'a self,
        _table: &'a Table,
        _server: &'a str,
    ) -> Soon<'a, Result<Box<dyn Place>, NoPlace>> {
        Box::pin(async { Err(NoPlace::Never(NO_ORDER.to_owned())) })
    }

    fn repairs(&self, _table: &Table) {}

    fn clock(&self) -> Duration {
        self.clock
    }

    /// No mirror runs that could lose one.
    fn lost_since(&self, _table: &Table, _since: jiff::Timestamp) -> bool {
        false
    }

    /// No proxy runs: what applications write past it meanwhile is not known, so no taint is cleared.
    fn verified(&self, _table: &Table, _since: jiff::Timestamp) {}

    fn cannot_apply(&self) -> Option<String> {
        Some(NO_ORDER.to_owned())
    }

    fn instant<'a>(
        &'a self,
        still: Still<'a>,
        at_most: Duration,
        opening: Opening,
    ) -> Soon<'a, Held> {
        Box::pin(async move {
            match (still, &self.lock) {
                (Still::Table(table, on), Some(lock)) => {
                    let of = app::of(table, on);
                    app::held(lock.moment(of, at_most, opening).await)
                }
                _ => Held {
                    failed: Some(NO_INSTANT.to_owned()),
                    ..Held::default()
                },
            }
        })
    }

    fn no_instants(&self, by: By) -> Option<String> {
        match (by, &self.lock) {
            (By::Gate, _) => Some(NO_INSTANT.to_owned()),
            (By::Lock, Some(_)) => None,
            (By::Lock, None) => Some(NO_LOCK.to_owned()),
        }
    }

    fn may_lock<'a>(&'a self, databases: &'a [String]) -> Soon<'a, Result<(), String>> {
        Box::pin(async move {
            match &self.lock {
                Some(lock) => lock.may(databases).await,
                None => Err(NO_INSTANT.to_owned()),
            }
        })
    }

    /// Whoever writes does so past the proxy: there is none.
    fn others<'a>(&'a self, _time: Duration) -> Soon<'a, Result<Vec<String>, String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

const NO_ORDER: &str = "repairs are put in the order of a running understudy's dark writes; ask one without --config, or take --repair plan";

const NO_LOCK: &str = "--lock: only where replication feeds the shadow (shadow.fed_by): nothing else brings it what is written while no understudy runs; take --mode chunks";

const NO_INSTANT: &str = "no understudy runs that could hold the writers while both servers are looked at; ask a running one without --config, take --lock where replication feeds the shadow, or --mode chunks";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::RunRecord;
    use crate::verify::{Figures, Refused};
    use parking_lot::Mutex;
    use serde_json::json;

    /// A run that ends where it is told to.
    #[derive(Default)]
    struct UnderWay(Mutex<Option<String>>);

    impl Inspector for UnderWay {
        fn start(&self, _wish: &Wish, _who: &str) -> Result<i64, Refused> {
            Ok(1)
        }
        fn pause(&self) -> Result<i64, Refused> {
            Ok(1)
        }
        fn resume(&self) -> Result<i64, Refused> {
            Ok(1)
        }
        fn abort(&self, who: &str) -> Result<i64, Refused> {
            *self.0.lock() = Some(who.to_owned());
            Ok(1)
        }
        fn standing(&self, _whole: bool) -> Value {
            let by = self.0.lock().clone();
            json!({"state": if by.is_some() { "ended" } else { "running" }, "by": by})
        }
        fn figures(&self) -> Figures {
            Figures::idle()
        }
        fn history(&self, _limit: usize) -> Result<Vec<RunRecord>, String> {
            Ok(Vec::new())
        }
    }

    /// Finding: a terminal that was closed, or an init system, left a run behind that seemed to be under way.
    #[test]
    fn what_ends_the_process_ends_the_run() {
        use rustix::process::{Signal, getpid, kill_process};
        for (sent, said) in [
            (Signal::HUP, "SIGHUP"),
            (Signal::TERM, "SIGTERM"),
            (Signal::INT, "Ctrl-C"),
        ] {
            let run = UnderWay::default();
            let told = watched(&run, "dba", |_| kill_process(getpid(), sent).unwrap());
            assert_eq!(told.unwrap()["by"], format!("dba ({said})"));
        }
    }
}

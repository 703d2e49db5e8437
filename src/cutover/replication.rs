//! Replication from the old primary into the new one, which must end before dark writes flow back: what
//! they write would be brought to the new primary a second time.
//!
//! Where the config says so (`cutover.stop_replication`), it is stopped here, in the hold, once the shadow
//! has everything: then no write is missing on the old primary. It is started again where the cutover is
//! aborted after that. On the way back it notes where the old primary stands, for that is from where
//! replication may go on: what is before it came by dark writes.
//!
//! The record says that it is stopped before it is, and that it is started once it is: a process that ended
//! in between leaves the rest to the next. A start that is still tried does nothing once another stop is
//! asked for: see [`Turn`](super::turn::Turn). Refuses to start what somebody else has stopped, and to know
//! how a vtgate is fed.

use super::coordinator::Parts;
use super::turn::Turn;
use crate::ask::{AskError, Asker, Manner, Row};
use crate::config::{FedBy, Server};
use crate::connect::ConnectError;
use crate::ledger::{Record, RecordError, Records, StepEnd};
use crate::task;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

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

/// MySQL's numbers for a STOP that goes on behind its answer: a thread ends once it is done.
const GOES_ON: [u16; 2] = [1875, 1876];

/// The step of a record that says what was done, and how it ended.
const STEP: &str = "replication";
const STOPPED: &str = "stopped";
const STARTED: &str = "started";
const LEFT: &str = "left";

/// So many cutovers back a start looks for one that has stopped it.
const RECORDS: usize = 100;

/// An end of understudy waits so long for a start that is under way.
const START_MAX: Duration = Duration::from_secs(2);

/// A stop that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stopped {
    /// The cutover that asked for it.
    record: i64,
    /// The server has said that it is done; else it may come later.
    answered: bool,
}

/// A start that is tried, and the number of its turn.
type Tried = (u64, JoinHandle<()>);

/// What was done about replication, and is not undone. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Halt {
    stopped: Arc<Mutex<Option<Stopped>>>,
    stands: Arc<Mutex<Option<String>>>,
    turn: Turn,
    start: Arc<Mutex<Option<Tried>>>,
}

impl Halt {
    /// Whether it was stopped, for certain.
    pub(super) fn is_done(&self) -> bool {
        self.stopped.lock().is_some_and(|stopped| stopped.answered)
    }

    /// The same, and it stays so: it is not to be started again.
    pub(super) fn take(&self) -> bool {
        let stopped = self.stopped.lock().take();
        stopped.is_some_and(|stopped| stopped.answered)
    }

    /// This stop is undone; a newer one is not.
    fn undone(&self, started: Stopped) {
        let mut stopped = self.stopped.lock();
        if *stopped == Some(started) {
            *stopped = None;
        }
    }

    /// The GTIDs of the server that replication comes from, as it becomes the primary again. Afterwards they
    /// are not known any more.
    pub(super) fn stands(&self) -> Option<String> {
        self.stands.lock().take()
    }

    /// Waits for a start that is under way, but not for long: the next process does what is left.
    pub(super) async fn started(&self) {
        let start = self.start.lock().take();
        if let Some((_, start)) = start {
            let _ = timeout(START_MAX, start).await;
        }
    }

    /// It is started again, beside, if it was stopped.
    fn start(&self, parts: &Parts) {
        let Some(stopped) = *self.stopped.lock() else {
            return;
        };
        let number = self.turn.current();
        let mut tried = self.start.lock();
        if tried
            .as_ref()
            .is_some_and(|(of, task)| *of == number && !task.is_finished())
        {
            return;
        }
        let start = Start {
            parts: parts.clone(),
            shadow: Arc::clone(&parts.roles.borrow().shadow),
            stopped,
            done: self.clone(),
            number,
        };
        // It ends once replication runs, once it is to stop, or after a while.
        *tried = Some((number, task::spawn("replication", start.run())));
    }
}

/// The shadow has everything: replication into it is stopped, where the config says so, for the cutover of
/// this record. Where it is the server that replication would come from, it is asked where it stands, as far
/// as it tells.
///
/// # Errors
/// Replication was not stopped in time, or may not be. It may be all the same, a moment later.
pub(super) async fn settle(
    parts: &Parts,
    (done, record): (&Halt, i64),
    until: Instant,
) -> Result<(), String> {
    if parts.config.shadow.fed_by == FedBy::Mirror {
        return Ok(());
    }
    let shadow = Arc::clone(&parts.roles.borrow().shadow);
    if shadow.fed_by == FedBy::Replication {
        if !parts.config.cutover.stop_replication {
            return Ok(());
        }
        let halted = timeout_at(until, halt(parts, &shadow, (done, record))).await;
        let halted = halted.unwrap_or_else(|_| Err("it does not answer in time".to_owned()));
        return halted
            .map_err(|why| format!("replication into {} cannot be stopped: {why}", shadow.name));
    }
    let soon = until.min(Instant::now() + STANDS_MAX);
    if let Ok(Ok(rows)) = timeout_at(soon, ask(parts, &shadow, STANDS)).await {
        let set = rows.into_iter().flatten().flatten().next();
        let set = set.map(|set| set.split_whitespace().collect::<String>());
        *done.stands.lock() = set.filter(|set| !set.is_empty());
    }
    Ok(())
}

async fn halt(parts: &Parts, shadow: &Server, (done, record): (&Halt, i64)) -> Result<(), String> {
    // A start of before that is still tried is not any more; one that was sent is answered first.
    done.turn.next();
    let turn = done.turn.take().await;
    let mut asker = open(parts, shadow)
        .await
        .map_err(|fault| fault.to_string())?;
    // In the record first: a process that ends behind the STOP leaves the START to the next.
    let mut promise = Promise {
        records: Arc::clone(&parts.records),
        record,
        is_kept: false,
    };
    let records = Arc::clone(&parts.records);
    let noted = tokio::task::spawn_blocking(move || note(&records, record, STOPPED, "")).await;
    let noted = noted.map_err(|broken| broken.to_string())?;
    noted.map_err(|fault| fault.to_string())?;
    // What an earlier cutover stopped and could not start yet is still to be started where this one does not.
    let before = *done.stopped.lock();
    // Before it is sent: whether it was done is not known where no answer comes.
    let answered = |answered| *done.stopped.lock() = Some(Stopped { record, answered });
    answered(false);
    promise.is_kept = true;
    let told = tell(&mut asker, "STOP").await;
    match &told {
        Ok(()) => answered(true),
        Err(AskError::Refused { code, .. }) if !GOES_ON.contains(code) => {
            *done.stopped.lock() = before;
            promise.is_kept = false;
        }
        Err(_) => {}
    }
    drop(turn);
    asker.leave().await;
    told.map_err(|error| error.to_string())
}

/// The cutover is aborted: replication goes on, if it was stopped for it, or for one before.
pub(super) fn go_on(parts: &Parts, done: &Halt) {
    done.start(parts);
}

/// An earlier process may have ended between the stop and the switch, or before the start has come to be.
/// Reads the records: it blocks.
pub(super) fn recall(parts: &Parts, done: &Halt) {
    let is_fed = parts.roles.borrow().shadow.fed_by == FedBy::Replication;
    if !is_fed || !parts.config.cutover.stop_replication {
        return;
    }
    let records = parts.records.cutovers(RECORDS).unwrap_or_default();
    let Some(record) = left_stopped(&records) else {
        return;
    };
    tracing::warn!(
        "cutover {record} has stopped replication into {}, and understudy ended before it was started again: it is now",
        parts.roles.borrow().shadow.name
    );
    // A STOP may still be under way there.
    let answered = false;
    *done.stopped.lock() = Some(Stopped { record, answered });
    done.start(parts);
}

/// The cutover that left it stopped, of these, newest first; none where a switch came after it, or the last
/// one that has stopped it has started it, too.
fn left_stopped(records: &[Record]) -> Option<i64> {
    for record in records {
        let notes = record.steps.iter().rev().find(|step| step.step == STEP);
        if record.switched.is_some() {
            return None;
        }
        match notes.and_then(|last| last.outcome.as_deref()) {
            Some(STOPPED) => return Some(record.id),
            Some(STARTED) => return None,
            _ => {}
        }
    }
    None
}

fn note(records: &Records, record: i64, outcome: &str, why: &str) -> Result<(), RecordError> {
    records.note(record, STEP, Duration::ZERO, StepEnd { outcome, why })
}

/// What the record says before a STOP: taken back where none was sent, whatever has come between.
struct Promise {
    records: Arc<Records>,
    record: i64,
    is_kept: bool,
}

impl Drop for Promise {
    fn drop(&mut self) {
        let runtime = Handle::try_current();
        let Some(runtime) = runtime.ok().filter(|_| !self.is_kept) else {
            return;
        };
        let (records, record) = (Arc::clone(&self.records), self.record);
        drop(runtime.spawn_blocking(move || {
            if let Err(fault) = note(&records, record, LEFT, "it was not stopped") {
                tracing::warn!("{fault}");
            }
        }));
    }
}

/// Why a START was not sent, or did not do it.
enum NotStarted {
    /// It is not to be any more.
    Outdated,
    Failed(String),
}

/// Replication is to run again into this shadow.
struct Start {
    parts: Parts,
    shadow: Arc<Server>,
    stopped: Stopped,
    done: Halt,
    /// Another stop raises it.
    number: u64,
}

impl Start {
    /// Twice, where a STOP that was given up may have come behind the first.
    async fn run(self) {
        let mut left = if self.stopped.answered { 1 } else { 2 };
        for _ in 0..TRIES {
            match self.once().await {
                Ok(()) => left -= 1,
                Err(NotStarted::Outdated) => return,
                Err(NotStarted::Failed(why)) => tracing::error!(
                    "replication into {} cannot be started again: {why}; it is tried again",
                    self.shadow.name
                ),
            }
            if left == 0 {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        if left > 0 {
            return tracing::error!(
                "replication into {} was not started again: START REPLICA there",
                self.shadow.name
            );
        }
        tracing::info!("replication into {} goes on", self.shadow.name);
        self.done.undone(self.stopped);
        self.note().await;
    }

    /// Until that is written, the next process would start it again.
    async fn note(&self) {
        for _ in 0..TRIES {
            let (records, record) = (Arc::clone(&self.parts.records), self.stopped.record);
            let noting = tokio::task::spawn_blocking(move || note(&records, record, STARTED, ""));
            match noting.await {
                Ok(Ok(())) => return,
                Ok(Err(fault)) => tracing::warn!("{fault}; it is tried again"),
                Err(broken) => return tracing::error!("{broken}"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn once(&self) -> Result<(), NotStarted> {
        if !self.is_to_be() {
            return Err(NotStarted::Outdated);
        }
        let opened = open(&self.parts, &self.shadow).await;
        let mut asker = opened.map_err(|fault| NotStarted::Failed(fault.to_string()))?;
        let turn = self.done.turn.take().await;
        // While it logged in there may have been another stop.
        let told = if self.is_to_be() {
            let told = tell(&mut asker, "START").await;
            told.map_err(|error| NotStarted::Failed(error.to_string()))
        } else {
            Err(NotStarted::Outdated)
        };
        drop(turn);
        asker.leave().await;
        told
    }

    fn is_to_be(&self) -> bool {
        self.done.turn.current() == self.number
            && self.parts.roles.borrow().shadow.name == self.shadow.name
    }
}

async fn tell(asker: &mut Asker, verb: &str) -> Result<(), AskError> {
    let told = asker.ask(&format!("{verb} REPLICA")).await;
    // Before MySQL 8.0.22 it had another name.
    let told = match told {
        Err(AskError::Refused { code, .. }) if code == UNKNOWN_STATEMENT => {
            asker.ask(&format!("{verb} SLAVE")).await
        }
        told => told,
    };
    told.map(drop)
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

async fn open(parts: &Parts, server: &Server) -> Result<Asker, Fault> {
    let account = server.account.as_ref().ok_or(Fault::NoAccount)?;
    Ok(Asker::open(&*parts.dial, server, account, &Manner::default()).await?)
}

async fn ask(parts: &Parts, server: &Server, statement: &str) -> Result<Vec<Row>, Fault> {
    let mut asker = open(parts, server).await?;
    let told = asker.ask(statement).await;
    asker.leave().await;
    Ok(told?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Begun;

    /// What one cutover notes, and whether it switches.
    type Noted = (&'static [&'static str], bool);

    #[test]
    fn what_a_cutover_stopped_and_nobody_started_is_left_to_be_started() {
        for (cutovers, left) in [
            (&[(&[][..], false)][..], None),
            (&[(&[STOPPED], false)], Some(1)),
            (&[(&[STOPPED], true)], None),
            (&[(&[STOPPED, STARTED], false)], None),
            (&[(&[STOPPED, LEFT], false)], None),
            // Those that came after did not come so far.
            (&[(&[STOPPED], false), (&[], false), (&[], false)], Some(1)),
            (
                &[(&[STOPPED, STARTED], false), (&[STOPPED], false)],
                Some(2),
            ),
            (&[(&[STOPPED], false), (&[STOPPED, STARTED], false)], None),
            (&[(&[STOPPED], false), (&[STOPPED, LEFT], false)], Some(1)),
            (&[(&[STOPPED], false), (&[], true)], None),
            (&[(&[STOPPED], true), (&[], false)], None),
        ] as [(&[Noted], Option<i64>); 11]
        {
            let dir = tempfile::tempdir().unwrap();
            let records = Records::at(&dir.path().join("ledger.db"));
            for (notes, switches) in cutovers {
                let begun = Begun {
                    from: "legacy".into(),
                    to: "vitess".into(),
                    dry_run: false,
                    is_back: false,
                    forced: Vec::new(),
                    who: "dba".into(),
                };
                let id = records.begin(&begun).unwrap();
                let step = records.step_begins(id, "catching_up").unwrap();
                for outcome in *notes {
                    note(&records, id, outcome, "").unwrap();
                }
                let end = StepEnd {
                    outcome: "aborted",
                    why: "",
                };
                records.step_ends(&step, end).unwrap();
                if *switches {
                    records.switch(id).unwrap();
                }
                records.end(id, "aborted", "").unwrap();
            }
            let records = records.cutovers(RECORDS).unwrap();
            assert_eq!(left_stopped(&records), left, "{cutovers:?}");
        }
    }
}

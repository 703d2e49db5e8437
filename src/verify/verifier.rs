//! Whom operators ask: begins a run, tells how it stands, pauses and ends it. One run at a time.
//!
//! Each run has a thread of its own, at the shadow side's priority: comparing never takes the relay's or the
//! replays' time. What an earlier process left in its midst goes on at the next start: paused, where an operator
//! paused it, and not for ever, where no process gets further with it.

use super::gate::{Around, By, Signal};
use super::inspector::{Figures, Inspector, Refused};
use super::instants::{Holds, Log};
use super::run::{Parts, Run, said};
use super::wish::{Meant, Mode, Repair, Wish};
use crate::config::{self, FedBy};
use crate::connect::Dial;
use crate::ledger::{RunBegun, RunRecord, TableLeft, Verifications};
use crate::roles::{Roles, RolesWatch};
use crate::sql::{self, Dialect, Table};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// How much lower the thread's priority is (`nice`), as the shadow side's, where the process serves clients too.
const NICE: i32 = 10;

/// Processes in a row that may go on with a run without one table more of it coming to its end.
const RESUMED_MAX: u32 = 5;

/// What it is built from.
#[derive(Clone)]
pub struct VerifierParts {
    /// Who is compared with whom.
    pub roles: RolesWatch,
    /// The way to them.
    pub dial: Arc<dyn Dial>,
    /// Its limits.
    pub limits: config::Verify,
    /// The ledger keeps literals.
    pub tells_keys: bool,
    /// The understudy that it runs in.
    pub around: Arc<dyn Around>,
    /// Where it is recorded.
    pub records: Arc<Verifications>,
    /// The proxy's own tables, which nobody compares.
    pub left_out: Vec<Table>,
    /// No understudy is around it: no other process goes on with its runs.
    pub alone: bool,
}

/// Where both servers are, so that what is known of them is not held for what others of these names are.
#[must_use]
pub fn between(roles: &Roles) -> String {
    let at = |server: &config::Server| format!("{} {}:{}", server.name, server.host, server.port);
    format!("{}, {}", at(&roles.primary), at(&roles.shadow))
}

/// See the module.
pub struct Verifier {
    parts: VerifierParts,
    holds: Arc<Holds>,
    current: Mutex<Option<Current>>,
    /// None is to begin: another process takes over. Written and read with `current` locked.
    rests: AtomicBool,
}

struct Current {
    run: Arc<Run>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// One that does nothing yet.
    #[must_use]
    pub fn new(parts: VerifierParts) -> Self {
        Self {
            parts,
            holds: Arc::default(),
            current: Mutex::new(None),
            rests: AtomicBool::new(false),
        }
    }

    /// From here on no run begins, nor is one under way: another process takes over.
    ///
    /// # Errors
    /// One is under way, and goes on.
    pub fn rest(&self) -> Result<(), String> {
        let current = self.current.lock();
        let known = current.as_ref().filter(|known| known.run.end().is_none());
        if let Some(known) = known {
            return Err(format!(
                "verification {} is under way: wait for it, or abort it",
                known.run.id
            ));
        }
        self.rests.store(true, Ordering::Release);
        Ok(())
    }

    /// They may begin again.
    pub fn rest_is_over(&self) {
        self.rests.store(false, Ordering::Release);
    }

    fn may_begin(&self, meant: &Meant, roles: &Roles) -> Result<(), Refused> {
        for server in [&roles.primary, &roles.shadow] {
            if server.account.is_none() {
                return Err(Refused::NotNow(format!(
                    "{} cannot be read: it has no account of the proxy's own, set user and password",
                    server.name
                )));
            }
        }
        if meant.mode == Mode::Snapshot
            && let Some(why) = self.parts.around.no_instants(meant.by)
        {
            return Err(Refused::NotNow(format!("mode snapshot: {why}")));
        }
        if meant.repair != Repair::Apply {
            return Ok(());
        }
        if roles.shadow.fed_by == FedBy::Replication && !meant.force {
            return Err(Refused::NotNow(format!(
                "replication feeds {}: what is repaired there, replication would not know of; repair the replication, or say force",
                roles.shadow.name
            )));
        }
        match self.parts.around.cannot_apply() {
            Some(why) => Err(Refused::NotNow(format!("nothing can be repaired: {why}"))),
            None => Ok(()),
        }
    }

    /// A wish for what a finding touched, in tables and rows. Blocks on the disk.
    fn of_finding(&self, wish: &Wish) -> Result<Wish, Refused> {
        let Some(finding) = wish.finding else {
            return Ok(wish.clone());
        };
        if !wish.tables.is_empty() || wish.condition.is_some() {
            let wrong = "finding: it says which tables and rows; leave tables and where out";
            return Err(Refused::Wrong(wrong.to_owned()));
        }
        let touched = self.parts.records.touched(finding);
        let touched = touched.map_err(|fault| Refused::Unable(fault.to_string()))?;
        let touched =
            touched.ok_or_else(|| Refused::Wrong(format!("there is no finding {finding}")))?;
        if touched.tables.is_empty() {
            return Err(Refused::Wrong(format!(
                "finding {finding} names no table, or none of its divergences is kept: name tables"
            )));
        }
        let rows = Wish {
            tables: touched.tables,
            condition: touched.condition,
            ..wish.clone()
        };
        // A condition that cannot stand in a statement is left out: then it is the table.
        let whole = Wish {
            condition: None,
            ..rows.clone()
        };
        Ok(if rows.meant().is_ok() { rows } else { whole })
    }

    /// Goes on with what an earlier process left between the same two servers; its number, if there was
    /// something. Blocks on the disk.
    pub fn go_on(&self) -> Option<i64> {
        let roles = self.parts.roles.borrow().clone();
        let records = &self.parts.records;
        // Whoever ran one without an understudy has ended, and nobody asked for it here.
        said(records.end_alone());
        let left = records.left(&roles.primary.name, &roles.shadow.name);
        let left = left.inspect_err(|fault| tracing::warn!(%fault, "what was left is not known"));
        let left = left.ok().flatten()?;
        let mut wish: Wish = serde_json::from_value(left.wish.clone()).ok()?;
        wish.condition = left.condition.clone().or(wish.condition);
        let meant = wish.meant().ok()?;
        if let Err(why) = self.may_begin(&meant, &roles) {
            tracing::warn!("verification {} does not go on: {why}", left.id);
            return None;
        }
        let times = records.resumes(left.id);
        let times = times.inspect_err(|fault| tracing::warn!(%fault, "what was left is not known"));
        if times.ok()? > RESUMED_MAX {
            let why = format!(
                "{RESUMED_MAX} processes went on with it, one after the other, and none came to the end of a table: begin another one, of fewer tables at a time"
            );
            tracing::warn!("verification {} does not go on: {why}", left.id);
            said(records.end(left.id, "failed", Some(&why)));
            return None;
        }
        let tables = records.tables_left(left.id).ok()?;
        let (first, word) = if left.paused {
            (Signal::Pause, "is paused, as it was")
        } else if meant.repair == Repair::Apply {
            // Nobody who sees it now has asked for it.
            said(records.pause(left.id, true));
            (
                Signal::Pause,
                "repairs, and is paused until an operator lets it go on",
            )
        } else {
            (Signal::Go, "goes on where it was left")
        };
        let mut current = self.current.lock();
        if self.rests.load(Ordering::Acquire) {
            // The process that takes over goes on with it.
            return None;
        }
        tracing::info!("verification {} {word}", left.id);
        let begun = self
            .begin((left.id, &left.who), meant, roles, Some((tables, first)))
            .ok()?;
        begun.run.log(|log| *log = Log::restored(&left.instants));
        *current = Some(begun);
        Some(left.id)
    }

    fn begin(
        &self,
        (id, who): (i64, &str),
        meant: Meant,
        roles: Roles,
        left: Option<(Vec<TableLeft>, Signal)>,
    ) -> Result<Current, Refused> {
        let parts = Parts {
            roles,
            dial: Arc::clone(&self.parts.dial),
            limits: self.parts.limits.clone(),
            tells_keys: self.parts.tells_keys,
            around: Arc::clone(&self.parts.around),
            records: Arc::clone(&self.parts.records),
            left_out: self.parts.left_out.clone(),
            holds: Arc::clone(&self.holds),
        };
        let resumed = left.is_some();
        let (left, first) = left.unwrap_or((Vec::new(), Signal::Go));
        let run = Arc::new(Run::new(id, who, meant, &parts, (resumed, first)));
        let (mine, watch) = (Arc::clone(&run), self.parts.roles.clone());
        let beside_clients = !self.parts.alone;
        let thread = std::thread::Builder::new()
            .name("verify".to_owned())
            .spawn(move || {
                if beside_clients && let Err(error) = rustix::process::nice(NICE) {
                    tracing::debug!(%error, "the verification's thread keeps its priority");
                }
                let _ended = Ends(&mine, &parts);
                conduct(&mine, &parts, left, watch);
            });
        let thread = thread
            .map_err(|fault| Refused::Unable(format!("no thread can be started: {fault}")))?;
        Ok(Current {
            run,
            thread: Some(thread),
        })
    }

    fn tell(&self, tell: impl FnOnce(&Run)) -> Result<i64, Refused> {
        let current = self.current.lock();
        let under_way = current.as_ref().filter(|known| known.run.end().is_none());
        let Some(known) = under_way else {
            return Err(Refused::NotNow("no verification is under way".to_owned()));
        };
        tell(&known.run);
        Ok(known.run.id)
    }

    /// Has the run end as understudy itself ends: the next start goes on with it. Blocks until it has.
    pub fn leave(&self) {
        let current = self.current.lock().take();
        let Some(mut current) = current else { return };
        current.run.signal(Signal::Leave);
        self.wait(&mut current);
    }

    fn wait(&self, current: &mut Current) {
        if let Some(thread) = current.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("verification {} broke off", current.run.id);
        }
    }
}

impl Inspector for Verifier {
    fn start(&self, wish: &Wish, who: &str) -> Result<i64, Refused> {
        let wish = &self.of_finding(wish)?;
        let meant = wish.meant().map_err(|wrong| Refused::Wrong(wrong.0))?;
        let roles = self.parts.roles.borrow().clone();
        self.may_begin(&meant, &roles)?;
        let mut current = self.current.lock();
        if self.rests.load(Ordering::Acquire) {
            return Err(Refused::NotNow(
                "this process hands over to another one: ask that one, once this has ended"
                    .to_owned(),
            ));
        }
        if let Some(known) = current.as_ref().filter(|known| known.run.end().is_none()) {
            return Err(Refused::NotNow(format!(
                "verification {} is under way: wait for it, or abort it",
                known.run.id
            )));
        }
        let tells = self.parts.tells_keys;
        let told = Wish {
            condition: wish.condition.as_deref().map(|one| in_shape(tells, one)),
            ..wish.clone()
        };
        let begun = RunBegun {
            primary: roles.primary.name.clone(),
            shadow: roles.shadow.name.clone(),
            who: who.to_owned(),
            wish: json!(told).to_string(),
            condition: wish.condition.clone().filter(|_| !tells),
            servers: between(&roles),
            alone: self.parts.alone,
        };
        let id = self
            .parts
            .records
            .begin(&begun)
            .map_err(|fault| Refused::Unable(fault.to_string()))?;
        *current = Some(self.begin((id, who), meant, roles, None)?);
        Ok(id)
    }

    fn pause(&self) -> Result<i64, Refused> {
        let id = self.tell(|run| run.signal(Signal::Pause))?;
        self.parts.records.pause(id, true).map_err(|fault| {
            Refused::Unable(format!(
                "verification {id} waits, and would go on by itself after a restart: {fault}"
            ))
        })?;
        Ok(id)
    }

    fn resume(&self) -> Result<i64, Refused> {
        let id = self.tell(|run| run.signal(Signal::Go))?;
        said(self.parts.records.pause(id, false));
        Ok(id)
    }

    fn abort(&self, who: &str) -> Result<i64, Refused> {
        self.tell(|run| run.abort(format!("{who} ended it")))
    }

    fn standing(&self, whole: bool) -> Value {
        let tells = self.parts.tells_keys;
        let run = self
            .current
            .lock()
            .as_ref()
            .map(|known| Arc::clone(&known.run));
        json!({
            "state": run.as_ref().map_or("idle", |run| run.state()),
            "run": run.as_ref().map(|run| shown(run, tells, whole)),
        })
    }

    fn figures(&self) -> Figures {
        let current = self.current.lock();
        let holds = self.holds.figures();
        let Some(run) = current.as_ref().map(|known| &known.run) else {
            return Figures {
                holds,
                ..Figures::idle()
            };
        };
        let (different, tables) = run.board.counts();
        Figures {
            state: run.state(),
            waits: run.waits().0.is_some(),
            rows: run.speed().rows,
            different,
            tables,
            holds,
        }
    }

    fn history(&self, limit: usize) -> Result<Vec<RunRecord>, String> {
        let runs = self.parts.records.runs(limit);
        let mut runs = runs.map_err(|fault| fault.to_string())?;
        // What was kept while literals were is hidden on the way out.
        for run in runs.iter_mut().filter(|_| !self.parts.tells_keys) {
            if let Some(Value::String(condition)) = run.wish.get_mut("where") {
                *condition = in_shape(false, condition);
            }
        }
        Ok(runs)
    }
}

/// A condition as it is told: without values, unless the ledger keeps literals.
fn in_shape(tells: bool, condition: &str) -> String {
    if tells {
        condition.to_owned()
    } else {
        sql::redact(condition.as_bytes(), Dialect::default())
    }
}

/// Sees to it that a run's thread leaves no run behind that seems to be under way.
struct Ends<'a>(&'a Run, &'a Parts);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if self.0.end().is_none() {
            self.0.broke_off(self.1);
        }
    }
}

/// On the run's own thread, to its end.
fn conduct(run: &Run, parts: &Parts, left: Vec<TableLeft>, mut roles: RolesWatch) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "verification {} cannot run", run.id);
            return;
        }
    };
    runtime.block_on(async {
        let conducted = run.conduct(parts, left);
        tokio::pin!(conducted);
        loop {
            tokio::select! {
                () = &mut conducted => return,
                changed = roles.changed() => {
                    if changed.is_err() {
                        // Whoever turns the roles has ended: they do not turn any more.
                        (&mut conducted).await;
                        return;
                    }
                    let turned = roles.borrow().primary.name != run.servers.0;
                    if turned {
                        run.abort("the roles turned: another server is the primary".to_owned());
                    }
                }
            }
        }
    });
}

/// Instead of a statement that is told to others.
const HIDDEN: &str = "-- there is one, which holds the row's values: it is told to the role operator alone (ledger.literals = \"redact\")";

/// A run as the API tells it: with values where the ledger `tells` them, and a plan's statements where it does, or to
/// whom it is told `whole`.
fn shown(run: &Run, tells: bool, whole: bool) -> Value {
    let (waits, waited) = run.waits();
    let (speed, end) = (run.speed(), run.end());
    let mut tables = run.tables();
    if !tells && !whole {
        let rows = tables.iter_mut().flat_map(|table| &mut table.rows);
        let repairs = rows.filter_map(|row| row.repair.as_mut());
        repairs.for_each(|repair| HIDDEN.clone_into(repair));
    }
    let condition = run.meant.condition.as_deref();
    json!({
        "id": run.id,
        "who": run.who,
        "primary": run.servers.0,
        "shadow": run.servers.1,
        "started": run.started,
        "resumed": run.resumed,
        "ended": end.as_ref().map(|end| end.at),
        "outcome": end.as_ref().map(|end| end.outcome.clone()),
        "why": end.as_ref().and_then(|end| end.why.clone()),
        "mode": run.meant.mode,
        "lock": run.meant.by == By::Lock,
        "instants": run.instants(),
        "where": condition.map(|one| in_shape(tells, one)),
        "sample": run.meant.sample,
        "repair": run.meant.repair,
        "waits": waits,
        "waited_ms": u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        "rows": speed.rows,
        "rows_expected": speed.expected,
        "rows_per_second": speed.per_second,
        "eta_s": speed.eta_s,
        "notes": run.notes(),
        "tables": tables,
    })
}

#[cfg(test)]
mod tests;

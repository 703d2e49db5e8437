//! What the mirror's tasks share: what is of one pair of roles, and what outlives their turn.

use super::Control;
use super::beside::Beside;
use super::breaker::{Breaker, Cause};
use super::census::Census;
use super::clock::Clock;
use super::errand::Rested;
use super::halt::Halt;
use super::line::Line;
use super::load::{Limits as Jobs, Loads};
use super::order::Scope;
use super::outline::Shapes;
use super::plans::Planner;
use super::pulse::Pulse;
use super::reach::Reach;
use super::recent::Recent;
use super::recheck::Rechecks;
use super::room::Room;
use super::tables;
use super::unread::Unread;
use crate::compare::ClockColumns;
use crate::config::{Config, FedBy, Server};
use crate::connect::{Dial, TlsContext, TlsError};
use crate::ledger::{Cause as TaintCause, Ledger, Taint};
use crate::roles::Roles;
use crate::sql::Table;
use crate::tee::{Appraisal, Regard};
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Shapes that the catalog remembers.
pub(super) const SHAPES_MAX: usize = 10_000;

/// Bytes of commands that all sessions together keep, to run a transaction again.
const KEPT_BYTES_MAX: u64 = 32 << 20;

/// Shapes of writes that the log was warned of, remembered at most.
const WARNED_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// See the module. What it derefs to outlives a turn of the roles; the rest is of this pair of
/// servers in these roles.
pub(super) struct Shared {
    lasting: Arc<Lasting>,
    /// The name of the primary, whose exchanges are replayed.
    pub(super) primary: Arc<str>,
    /// The primary.
    pub(super) primary_server: Arc<Server>,
    /// The shadow.
    pub(super) server: Arc<Server>,
    /// Its name.
    pub(super) name: Arc<str>,
    pub(super) tls: TlsContext,
    pub(super) line: Arc<Line>,
    /// What statements touch beyond the tables that they name.
    pub(super) reach: Arc<Reach>,
    /// The primary's latest commits.
    pub(super) recent: Mutex<Recent>,
    /// Commits that ran on the shadow before reads that should have come first.
    pub(super) overtaking: Mutex<Recent>,
    /// Asks both servers for plans.
    pub(super) planner: Arc<Planner>,
    /// Differences that are looked at again.
    pub(super) rechecks: Rechecks,
    /// The mirror ends, or the roles turn: what waits is settled as it stands.
    pub(super) hurry: CancellationToken,
    /// What the primary says of its tables.
    pub(super) tables: Arc<tables::Known>,
    /// The primary's clock.
    pub(super) clock: Arc<Clock>,
    /// Columns that hold the clock, as far as it was seen.
    clock_columns: Mutex<Arc<ClockColumns>>,
}

/// What outlives a turn of the roles.
pub(super) struct Lasting {
    pub(super) config: Arc<Config>,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) ledger: Ledger,
    pub(super) shapes: Shapes,
    pub(super) counters: Arc<Counters>,
    /// Who and what was seen.
    pub(super) census: Census,
    /// How the primary answers.
    pub(super) pulse: Pulse,
    /// Sessions of another process.
    pub(super) beside: Beside,
    /// What the replays have to do.
    pub(super) loads: Arc<Loads>,
    /// What lies in the antechamber.
    pub(super) unread: Arc<Unread>,
    /// How TLS is meant towards each server, by its name.
    tls: BTreeMap<String, TlsContext>,
    /// Shapes of writes that cannot be mirrored exactly, of which the log was told.
    warned: Mutex<LruCache<u64, ()>>,
    control: Mutex<Control>,
    /// Where the relay is told whether answers are compared.
    appraisal: Appraisal,
    breaker: Mutex<Breaker>,
    /// Whether mirroring is suspended, or ends.
    halt: Halt,
    ends: AtomicBool,
    /// Room for connections to the shadow.
    room: Room,
    /// Where a replay says that it holds nothing.
    rested: mpsc::Sender<Rested>,
    kept: AtomicU64,
}

/// What asks the servers with the proxy's own account.
pub(super) struct Asked {
    /// Of plans.
    pub(super) planner: Arc<Planner>,
    /// The primary, of its tables.
    pub(super) tables: Arc<tables::Known>,
    /// Its clock.
    pub(super) clock: Arc<Clock>,
    /// Reads, once more.
    pub(super) rechecks: Rechecks,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Sessions that were mirrored and are not over.
    pub(super) mirrored: AtomicU64,
    /// Replays.
    pub(super) replays: AtomicU64,
    /// Connections opened to the shadow.
    pub(super) opened: AtomicU64,
    /// Commands that waited for their turn in vain.
    pub(super) order_waits: AtomicU64,
    /// Transactions and writes that were run again after a deadlock or a lock's time-out.
    pub(super) retries: AtomicU64,
    /// Commands that the shadow refused for a deadlock or a lock's time-out, to the end.
    pub(super) transient: AtomicU64,
    /// Commits that ran before reads which should have come first.
    pub(super) overtakes: AtomicU64,
    /// Transactions that could not be carried to their end.
    pub(super) broken: AtomicU64,
    /// Differences that could not wait to be looked at again.
    pub(super) unsettled: AtomicU64,
    /// Statements whose plans both servers were asked for.
    pub(super) planned: AtomicU64,
    /// Statements whose plans were not asked for, as too many waited.
    pub(super) plans_skipped: AtomicU64,
}

impl Deref for Shared {
    type Target = Lasting;

    fn deref(&self) -> &Lasting {
        &self.lasting
    }
}

impl Shared {
    /// Of these roles. `clock_columns` is what is known of the tables, whoever has them.
    pub(super) fn new(
        lasting: &Arc<Lasting>,
        roles: &Roles,
        tls: TlsContext,
        asked: Asked,
        clock_columns: Arc<ClockColumns>,
    ) -> Self {
        Self {
            lasting: Arc::clone(lasting),
            primary: Arc::from(roles.primary.name.as_str()),
            primary_server: Arc::clone(&roles.primary),
            name: Arc::from(roles.shadow.name.as_str()),
            server: Arc::clone(&roles.shadow),
            tls,
            line: Arc::default(),
            reach: Arc::default(),
            recent: Mutex::default(),
            overtaking: Mutex::default(),
            planner: asked.planner,
            rechecks: asked.rechecks,
            hurry: CancellationToken::new(),
            tables: asked.tables,
            clock: asked.clock,
            clock_columns: Mutex::new(clock_columns),
        }
    }

    /// What outlives these roles.
    pub(super) const fn lasting(&self) -> &Arc<Lasting> {
        &self.lasting
    }

    /// Commands that wait for the shadow, run there, or lie unread.
    pub(super) fn waiting(&self) -> usize {
        self.line.len() + self.unread.len()
    }

    /// Since when the first one has been waiting.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let both = [self.line.oldest(), self.unread.since()];
        both.into_iter().flatten().min()
    }

    /// Leave for a connection of a recheck, which takes none from a replay.
    pub(super) async fn spare(&self) -> Option<OwnedSemaphorePermit> {
        let asking = self.rechecks.connection();
        tokio::time::timeout(self.config.compare.recheck_for, asking)
            .await
            .ok()?
    }

    /// Columns that hold the clock.
    pub(super) fn clock_columns(&self) -> Arc<ClockColumns> {
        Arc::clone(&self.clock_columns.lock())
    }

    /// These columns hold the clock; with `true` those that hold it as a number.
    pub(super) fn know_clocks(&self, database: &str, table: &str, columns: &[(&str, bool)]) {
        let mut known = self.clock_columns.lock();
        for (column, is_unix) in columns {
            if !known.has(database, table, column, *is_unix) {
                Arc::make_mut(&mut known).learn(database, table, column, *is_unix);
            }
        }
    }

    /// DDL made others of these tables: what is known of their columns is forgotten.
    pub(super) fn forget_clocks(&self, scope: &Scope) {
        let mut known = self.clock_columns.lock();
        let Scope::Known(tables) = scope else {
            *known = Arc::default();
            return;
        };
        for table in tables.iter() {
            let database = table.database.as_deref().unwrap_or_default();
            if known.has_table(database, &table.name) {
                Arc::make_mut(&mut known).forget(database, &table.name);
            }
        }
    }

    /// Whether a lost dark write leaves the shadow with other rows: not where replication feeds it.
    pub(super) fn feeds(&self) -> bool {
        self.server.fed_by == FedBy::Mirror
    }

    /// From now on, differences on these tables follow from a lost or diverged write.
    pub(super) fn taint(&self, scope: &Scope, database: &str, cause: &TaintCause) {
        #[cfg(feature = "simulation")]
        if crate::planted::is(crate::planted::Bug::Untainted) {
            return;
        }
        if self.feeds() && !scope.is_empty() {
            let tables: Vec<Table> = scope.taintable(database).iter().cloned().collect();
            self.ledger.taint(&tables, cause);
        }
    }

    /// Why one of the tables is tainted, if one has been since then at the latest.
    pub(super) fn tainted_until(
        &self,
        scope: &Scope,
        until: jiff::Timestamp,
    ) -> Option<TaintCause> {
        self.tainted_by(scope)?;
        let mut taints = self.ledger.taints().into_iter();
        let then = taints.find(|taint| taint.since <= until && is_of(taint, scope))?;
        Some(then.cause)
    }

    /// Why one of the tables is tainted, if one is.
    pub(super) fn tainted_by(&self, scope: &Scope) -> Option<TaintCause> {
        if !self.ledger.has_taints() {
            return None;
        }
        let Scope::Known(tables) = scope else {
            return self.ledger.any_cause();
        };
        let everything = |database: Option<String>| Table {
            database,
            name: "*".to_owned(),
        };
        let of_one = tables.iter().find_map(|table| {
            let of_its_database = || {
                let database = Some(table.database.clone()?);
                self.ledger.cause(&everything(database))
            };
            self.ledger.cause(table).or_else(of_its_database)
        });
        of_one.or_else(|| {
            let any = (!tables.is_empty()).then(|| everything(None))?;
            self.ledger.cause(&any)
        })
    }
}

impl Lasting {
    /// With the switches that it begins with; `roles` are the first ones. TLS towards both servers is set up now, so that it cannot fail
    /// at a turn.
    ///
    /// # Errors
    /// Where TLS cannot be set up as the config says.
    pub(super) fn new(
        config: Arc<Config>,
        control: Control,
        roles: &Roles,
        dial: Arc<dyn Dial>,
        ledger: Ledger,
        rested: mpsc::Sender<Rested>,
        appraisal: Appraisal,
    ) -> Result<Self, TlsError> {
        let mirror = &config.mirror;
        appraisal.set(control.regard());
        let mut tls = BTreeMap::new();
        for server in [&roles.primary, &roles.shadow] {
            tls.insert(server.name.clone(), TlsContext::new(server)?);
        }
        Ok(Self {
            dial,
            ledger,
            shapes: Shapes::new(SHAPES_MAX),
            counters: Arc::default(),
            census: Census::default(),
            pulse: Pulse::default(),
            beside: Beside::default(),
            loads: Arc::new(Loads::new(Jobs::default())),
            unread: Arc::default(),
            tls,
            warned: Mutex::new(LruCache::new(WARNED_MAX)),
            control: Mutex::new(control),
            appraisal,
            breaker: Mutex::new(Breaker::new(mirror.breaker.clone())),
            halt: Halt::default(),
            ends: AtomicBool::new(false),
            room: Room::new(mirror.connections_max),
            rested,
            kept: AtomicU64::new(0),
            config,
        })
    }

    /// How TLS is meant towards a server.
    ///
    /// # Errors
    /// Of a server that was not there at the start, where it cannot be set up.
    pub(super) fn tls(&self, server: &Server) -> Result<TlsContext, TlsError> {
        match self.tls.get(&server.name) {
            Some(tls) => Ok(tls.clone()),
            None => TlsContext::new(server),
        }
    }

    /// The switches.
    pub(super) fn control(&self) -> Control {
        *self.control.lock()
    }

    /// Has the switches changed, from each session's next transaction on. Nobody else changes them meanwhile; `change`
    /// must wait for nothing, and not ask for them.
    pub(super) fn change_control<T>(&self, change: impl FnOnce(&mut Control) -> T) -> T {
        let mut current = self.control.lock();
        let changed = change(&mut current);
        let (told, wanted) = (self.appraisal.told(), current.regard());
        if wanted > told {
            self.appraisal.set(wanted);
        }
        if wanted > told && told == Regard::Nothing {
            tracing::info!("commands pass by no more");
        }
        changed
    }

    /// Whether the relay tells more than anybody who begins anew wants to know.
    pub(super) fn is_told_in_vain(&self) -> bool {
        self.appraisal.told() > self.control().regard()
    }

    /// Nothing is compared any more, not even of a transaction that began when it was. Whether commands
    /// pass by from here on.
    pub(super) fn is_told_less(&self) -> bool {
        let current = self.control.lock();
        let (told, wanted) = (self.appraisal.told(), current.regard());
        if wanted < told {
            self.appraisal.set(wanted);
        }
        wanted == Regard::Nothing && wanted < told
    }

    /// Whether commands pass by; none where that is not wanted.
    pub(super) fn passes_by(&self) -> Option<bool> {
        let wanted = self.control().regard() == Regard::Nothing;
        wanted.then(|| self.appraisal.told() == Regard::Nothing)
    }

    /// Why mirroring is suspended, and how often it was.
    pub(super) fn suspension(&self) -> (Option<Cause>, u64) {
        let breaker = self.breaker.lock();
        (breaker.cause().cloned(), breaker.times())
    }

    /// Whether mirroring is suspended.
    pub(super) fn is_suspended(&self) -> bool {
        self.halt.is_on()
    }

    /// Returns once mirroring is suspended.
    pub(super) async fn until_suspended(&self) {
        self.halt.until_on().await;
    }

    /// Asks the breaker something, and does what follows from it.
    pub(super) fn breaker<T>(&self, ask: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock();
        let before = breaker.cause().cloned();
        let answer = ask(&mut breaker);
        match (before, breaker.cause()) {
            (None, Some(cause)) => tracing::warn!("mirroring is suspended: {cause}"),
            (Some(_), None) => tracing::info!("mirroring goes on: the shadow answers again"),
            _ => {}
        }
        let now = breaker.cause().is_some() || self.ends.load(Ordering::Acquire);
        self.halt.set(now);
        answer
    }

    /// The end has come: what still waits is not run.
    pub(super) fn give_up(&self) {
        self.ends.store(true, Ordering::Release);
        self.halt.set(true);
    }

    /// The shadow answered.
    pub(super) fn answered(&self) {
        self.breaker.lock().answered();
    }

    /// The connection to the shadow failed.
    pub(super) fn failed(&self, what: &str) {
        self.breaker(|breaker| breaker.failed(what, Instant::now()));
    }

    /// The shadow answered far more than the primary.
    pub(super) fn flooded(&self, what: &str) {
        self.breaker(|breaker| breaker.flooded(what, Instant::now()));
    }

    /// Tells the log once of a shape that cannot be mirrored exactly.
    pub(super) fn warn_once(&self, digest: u64, cause: &str) {
        if self.warned.lock().put(digest, ()).is_none() {
            tracing::warn!("{cause}");
        }
    }

    /// Leave to open one more connection, after a moment at most. Where none is left, the one that has
    /// been idle longest is asked for.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.room.place(self.config.mirror.order_wait.now()).await
    }

    /// Resolves once another session needs the connection of whoever waits here, the first to come first:
    /// it lets it go at once.
    ///
    /// Cancel-safe: the next one hears what this one was told and did not take.
    pub(super) async fn connection_wanted(&self) {
        self.room.wanted().await;
    }

    /// Tells the dispatcher of a replay that holds nothing. Where it hears of too many now, or cannot part
    /// with this one, it is told again.
    pub(super) fn tell_rested(&self, rested: Rested) {
        let _ = self.rested.try_send(rested);
    }

    /// Connections to the shadow that are open.
    pub(super) fn connections(&self) -> usize {
        self.room.taken()
    }

    /// Takes room to keep a command's bytes for a second run; give it back with
    /// [`Shared::let_go`].
    pub(super) fn keep(&self, bytes: u64) -> bool {
        let kept = self.kept.fetch_add(bytes, Ordering::Relaxed);
        let fits = kept.saturating_add(bytes) <= KEPT_BYTES_MAX;
        if !fits {
            self.let_go(bytes);
        }
        fits
    }

    /// Gives back what [`Shared::keep`] took.
    pub(super) fn let_go(&self, bytes: u64) {
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Whether a taint is of one of the tables.
fn is_of(taint: &Taint, scope: &Scope) -> bool {
    let Scope::Known(tables) = scope else {
        return true;
    };
    let tainted = Table {
        database: taint.database.clone(),
        name: taint.table.clone(),
    };
    tables.iter().any(|table| {
        let everything = Table {
            database: table.database.clone(),
            name: "*".to_owned(),
        };
        let anywhere = tainted.name == "*" && tainted.database.is_none();
        *table == tainted || everything == tainted || anywhere
    })
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taint_is_of_its_table_of_its_database_or_of_all() {
        let table = |database: Option<&str>, name: &str| Table {
            database: database.map(str::to_owned),
            name: name.to_owned(),
        };
        let read = Scope::Known([table(Some("d"), "t")].into());
        for (database, name, is) in [
            (Some("d"), "T", true),
            (Some("d"), "u", false),
            (Some("e"), "t", false),
            (Some("d"), "*", true),
            (Some("e"), "*", false),
            (None, "*", true),
        ] {
            let taint = Taint {
                database: database.map(str::to_owned),
                table: name.to_owned(),
                cause: "lost".into(),
                since: jiff::Timestamp::UNIX_EPOCH,
                last: jiff::Timestamp::UNIX_EPOCH,
            };
            assert_eq!(is_of(&taint, &read), is, "{database:?} {name}");
            assert!(is_of(&taint, &Scope::All));
            assert!(!is_of(&taint, &Scope::none()));
        }
    }
}

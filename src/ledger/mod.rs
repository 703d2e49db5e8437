//! What was found: findings, latencies, coverage, taints. Kept in SQLite, read by the admin.
//!
//! Recording never waits: one bounded queue to one writer thread. What does not fit, or cannot be
//! written (a full disk, a locked file), is counted as lost; production does not notice.

pub mod audited;
pub mod cause;
pub mod coverage;
pub mod cutover;
pub mod observation;
pub mod taints;
pub mod verification;

mod busiest;
mod digests;
mod file;
mod findings;
mod floor;
mod guard;
mod lasting;
mod latency;
mod log;
mod mirrored;
mod plans;
mod prune;
mod querylog;
mod recent;
mod redact;
mod rollup;
mod rulebook;
mod rules;
mod schema;
mod session;
mod slow;
mod store;
mod tallies;
mod triage;
mod views;
mod write;
mod writer;

pub use audited::Audited;
pub use cause::{Cause, FindingKey};
pub use coverage::{Commands, Snapshot};
pub use cutover::{
    Begun, FLEET, OpenStep, Record, RecordError, Recorded, Records, StepEnd, SwitchError, recorded,
};
pub use findings::{
    DivergenceFilter, FindingFilter, FindingSort, LIMIT_MAX, Open, OpenFindings, Page,
};
pub use floor::{Floor, FloorError};
pub use latency::{Byte, Course, Curve, Moment, Pace, Quantiles, SHARES, Then, Turn, Whose};
pub use observation::{Observation, Protocol, Side};
pub use plans::{Plans, REFUSED};
pub use querylog::{LISTENERS_MAX, Listener, QueryFilter, QueryLine, VERDICTS};
pub use recent::{Mark, Recent};
pub use rollup::By;
pub use slow::{Look, Slow};
pub use store::{Health, LedgerError, inspect, is_in_use};
pub use taints::Taint;
pub use tallies::asked::{CoverageBy, CoverageFilter, Evidence, Reach, Sum};
pub use triage::{FindingPatch, STATES};
pub use verification::{
    AtRest, Listed, Repair, RepairBegun, RunBegun, RunRecord, TableEnd, TableLeft, Touched,
    VerificationError, Verifications, Verified,
};
pub use views::{BASE_TABLES, VIEWS, View};

use crate::config::{self, FedBy, Literals, Live, RULES_MAX, Rule};
use crate::sql::Table;
use cause::Amended;
use coverage::Coverage;
use lasting::Lasting;
use latency::Latency;
use querylog::QueryLog;
use serde_json::Value;
use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::{Change, Message, Store};

/// Asks how many commands there were. Asked at every snapshot.
pub type AskCommands = Arc<dyn Fn() -> Commands + Send + Sync>;

/// What became of a change that an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed<T> {
    /// It was made.
    Done(T),
    /// There is nothing with this id.
    Missing,
    /// It cannot be made, and why.
    Refused(String),
}

impl<T> Changed<T> {
    /// What was made; `None` for what was not.
    #[must_use]
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(what) => Some(what),
            Self::Missing | Self::Refused(_) => None,
        }
    }
}

/// What is judged beforehand.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// The config's rules, first one first.
    pub rules: Live<Vec<Rule>>,
    /// A rule that took nothing for so long is stale; zero for never.
    pub stale_after: Live<Duration>,
    /// What an A/A run showed.
    pub floor: Option<Floor>,
}

/// The handle: cheap to clone, everything shared.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    coverage: Coverage,
    latency: Latency,
    querylog: Arc<QueryLog>,
    lasting: Arc<Lasting>,
    commands: AskCommands,
    literals: Literals,
    /// Whether the mirror feeds the shadow, so that what it wrote may be missing there. Changes with the
    /// roles.
    feeds: AtomicBool,
    stale_after: Live<Duration>,
    floor: Option<Floor>,
    store: Option<Store>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last handle is gone without a clean stop: what waits is still written, but the next
        // start is told of a gap.
        if let Some(store) = &self.store {
            store.abandon();
        }
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the ledger's file, or makes it, and starts its writer. After a stop that was not
    /// clean every table that the mirror ever wrote is tainted, if it is the mirror that feeds the
    /// shadow. A file that is locked or full is taken up once it can be.
    pub fn open(
        config: &config::Ledger,
        fed_by: FedBy,
        judged: Judged,
        commands: AskCommands,
    ) -> Result<Self, LedgerError> {
        Self::inherit(config, fed_by, judged, commands, None)
    }

    /// The same, where the process that had it before may have left it to this one, which has this token: to any
    /// other, that was no clean stop.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn inherit(
        config: &config::Ledger,
        fed_by: FedBy,
        judged: Judged,
        commands: AskCommands,
        heir: Option<&str>,
    ) -> Result<Self, LedgerError> {
        let feeds = fed_by == FedBy::Mirror;
        let lasting = Arc::new(Lasting::new(config.fingerprints_max));
        let store = Store::open(config, &judged.rules, feeds, &lasting, heir)?;
        Ok(Self {
            inner: Arc::new(Inner {
                coverage: Coverage::default(),
                latency: Latency::new(config.fingerprints_max),
                querylog: Arc::default(),
                lasting,
                commands,
                literals: config.literals,
                feeds: AtomicBool::new(feeds),
                stale_after: judged.stale_after,
                floor: judged.floor,
                store: Some(store),
            }),
        })
    }

    /// A ledger without a file and without a thread, for the simulation and for tests.
    #[must_use]
    pub fn in_memory(commands: AskCommands) -> Self {
        Self {
            inner: Arc::new(Inner {
                coverage: Coverage::default(),
                latency: Latency::new(2000),
                querylog: Arc::default(),
                lasting: Arc::new(Lasting::new(2000)),
                commands,
                literals: Literals::Redact,
                feeds: AtomicBool::new(true),
                stale_after: Live::default(),
                floor: None,
                store: None,
            }),
        }
    }

    /// Who feeds the server that is the shadow from now on: what a mirror wrote that does not feed it
    /// cannot be missing there.
    pub fn is_fed_by(&self, fed_by: FedBy) {
        let feeds = fed_by == FedBy::Mirror;
        self.inner.feeds.store(feeds, Ordering::Relaxed);
    }

    /// The process with this token has taken over: once this is closed, it is clean for that one alone, whose clients
    /// write already. `None`: there is no such process any more.
    pub fn is_left_to(&self, heir: Option<&str>) {
        if let Some(store) = &self.inner.store {
            store.is_left_to(heir);
        }
    }

    /// What this process' clients said before the ledger was left to it is on the shadow by now, or tainted. Until then a
    /// crash taints everything, for nobody would know what they wrote.
    pub fn is_caught_up(&self) {
        if let Some(store) = &self.inner.store {
            store.is_caught_up();
        }
    }

    /// Writes what waits and sets the mark of a clean stop. Waits for the writer; later records
    /// are counted, not kept.
    pub fn close(&self) {
        self.tally_lost();
        if let Some(store) = &self.inner.store {
            store.close();
        }
    }

    /// Takes one command's end. Never waits.
    pub fn record(&self, observation: impl Borrow<Observation>) {
        let (inner, observation) = (&self.inner, observation.borrow());
        inner.coverage.count(&observation.verdict);
        #[cfg(feature = "simulation")]
        if crate::planted::is(crate::planted::Bug::CountTwice) {
            inner.coverage.count(&observation.verdict);
        }
        if let Some(rechecked) = &observation.rechecked {
            inner.coverage.count_recheck(rechecked.outcome);
        }
        inner.latency.record(observation);
        inner.querylog.tell(observation);
        let Some(store) = &inner.store else { return };
        if inner.lasting.tallies.count(observation) {
            self.tally_lost();
            store.tell(Message::Tallies(None));
        }
        let applied = observation.shadow.is_some() && inner.feeds.load(Ordering::Relaxed);
        if applied && inner.lasting.mirrored.add(&observation.written) {
            store.tell(Message::Wake);
        }
        let followed = observation.follows.as_ref().map(|follows| {
            let (cause, now) = (&follows.cause, observation.at);
            inner
                .lasting
                .followed
                .count(cause, &observation.tables, now)
        });
        if followed.is_some_and(|taken| taken.is_first) {
            store.tell(Message::Followed);
        }
        if followed.is_some_and(|taken| !taken.is_example) {
            return;
        }
        if let Some(entry) = redact::entry(observation, inner.literals) {
            store.tell(Message::Divergence(Box::new(entry)));
        }
    }

    /// Listens to commands as they get their verdicts; `None` while `most` others do, or [`LISTENERS_MAX`].
    #[must_use]
    pub fn listen(&self, filter: QueryFilter, most: usize) -> Option<Listener> {
        self.inner.querylog.listen(filter, most)
    }

    /// How the ledger's file is.
    #[must_use]
    pub fn health(&self) -> Health {
        let in_memory = || Health {
            ok: true,
            ..Health::default()
        };
        self.inner
            .store
            .as_ref()
            .map_or_else(in_memory, Store::health)
    }

    /// A page of divergences, newest first. Reads the file: not for the shadow's threads.
    pub fn divergences(&self, filter: &DivergenceFilter) -> Result<Page, String> {
        let mut page = self.read(|connection| findings::divergences(connection, filter))?;
        page.items.iter_mut().for_each(|item| self.hide(item));
        Ok(page)
    }

    /// One divergence, whole, with both servers' plans. Reads the file.
    pub fn divergence(&self, id: i64) -> Result<Option<Value>, String> {
        let mut found = self.read(|connection| {
            let mut found = findings::divergence(connection, id)?;
            if let Some(item) = &mut found {
                plans::tell(connection, item)?;
            }
            Ok(found)
        })?;
        found.iter_mut().for_each(|item| self.hide(item));
        Ok(found)
    }

    /// Leaves no literal in what the file has, where the config says so now: it may have said
    /// otherwise when that was written.
    fn hide(&self, item: &mut Value) {
        if self.inner.literals == Literals::Redact {
            redact::again(item);
        }
    }

    /// The newest divergence of a finding that is kept, whole. Reads the file.
    pub fn newest_divergence(&self, finding: i64) -> Result<Option<Value>, String> {
        match self.read(|connection| plans::newest_id(connection, finding))? {
            Some(id) => self.divergence(id),
            None => Ok(None),
        }
    }

    /// Whether what is told lasts: there is a file.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.inner.store.is_some()
    }

    /// Keeps both servers' plans of a statement in the place of older ones. Never waits.
    pub fn keep_plans(&self, plans: Plans) {
        if let Some(store) = &self.inner.store {
            let plans = plans.redacted(self.inner.literals);
            store.tell(Message::Plans(Box::new(plans)));
        }
    }

    /// A page of findings. Reads the file.
    pub fn findings(&self, filter: &FindingFilter) -> Result<Page, String> {
        self.refresh();
        let mut page = self.read(|connection| {
            let mut page = findings::findings(connection, filter)?;
            for item in &mut page.items {
                plans::brief(connection, item)?;
            }
            Ok(page)
        })?;
        if let Some(floor) = &self.inner.floor {
            page.items.iter_mut().for_each(|item| floor.mark(item));
        }
        Ok(page)
    }

    /// One finding, whole: with the tables that it tainted, its history, its newest divergences and both servers'
    /// plans. Reads the file.
    pub fn finding(&self, id: i64) -> Result<Option<Value>, String> {
        self.refresh();
        let taints = self.taints();
        let mut found = self.read(|connection| {
            let mut found = findings::whole(connection, id)?;
            if let Some(item) = &mut found {
                findings::tell_tainted(connection, item, &taints)?;
                plans::brief(connection, item)?;
                plans::tell(connection, item)?;
            }
            Ok(found)
        })?;
        found.iter_mut().for_each(|item| self.hide(item));
        if let (Some(floor), Some(found)) = (&self.inner.floor, &mut found) {
            floor.mark(found);
        }
        Ok(found)
    }

    /// A page of findings rolled up, greatest impact first; the filter's order is not looked at.
    /// Reads the file.
    pub fn rollup(&self, by: By, filter: &FindingFilter) -> Result<Page, String> {
        self.refresh();
        let (limit, before) = (filter.limit, filter.before);
        self.read(|connection| rollup::rollup(connection, by, filter.conditions(), limit, before))
    }

    /// What an operator still has to judge: findings that are open or regressed, no consequence of
    /// others, taken by no rule and above their floor. Reads the file.
    pub fn open_findings(&self) -> Result<OpenFindings, String> {
        self.read(|connection| findings::open(connection, self.inner.floor.as_ref()))
    }

    /// Findings that were new since then, and what was said since, newest first. Reads the file.
    pub fn recent(&self, since: jiff::Timestamp) -> Result<Recent, String> {
        self.read(|connection| recent::since(connection, since))
    }

    /// The same since a mark, oldest first, with the mark to ask from the next time; of many, the first. Reads the file.
    pub fn recent_after(&self, mark: Mark) -> Result<(Recent, Mark), String> {
        self.read(|connection| recent::after(connection, mark))
    }

    /// Where the file stands: it moves with every new finding and every word on one. Reads the file.
    pub fn mark(&self) -> Result<Mark, String> {
        self.read(recent::mark)
    }

    /// So that the next look has the shares of this moment.
    fn refresh(&self) {
        if let Some(store) = &self.inner.store {
            store.tell(Message::Tallies(None));
        }
    }

    /// Changes a finding's triage; the changed finding. Waits for the writer: not for the shadow's
    /// threads.
    pub fn patch_finding(&self, id: i64, patch: FindingPatch) -> Result<Changed<Value>, String> {
        let filter = FindingFilter {
            id: Some(id),
            limit: 1,
            ..FindingFilter::default()
        };
        self.change(Change::Finding { id, patch }, |_| {
            Ok(self.findings(&filter)?.items.into_iter().next())
        })
    }

    /// All rules, in the order in which they are asked, with what each has taken. Reads the file.
    pub fn rules(&self) -> Result<Vec<Value>, String> {
        let by = rulebook::Use {
            stale_after: self.inner.stale_after.now(),
            commands: (self.inner.commands)().handed,
        };
        self.read(|connection| rulebook::list(connection, by))
    }

    /// Adds a rule, the last one; the rule as it is kept. Waits for the writer.
    pub fn add_rule(&self, rule: Rule) -> Result<Changed<Value>, String> {
        self.change(Change::AddRule(rule), |id| {
            let mut rules = self.rules()?.into_iter();
            Ok(rules.find(|rule| rule.get("id").and_then(Value::as_i64) == Some(id)))
        })
    }

    /// Deletes a rule of the API; what it took is open again, unless a person has judged the
    /// same shape. Waits for the writer.
    pub fn delete_rule(&self, id: i64, who: &str, why: &str) -> Result<Changed<()>, String> {
        let (who, why) = (who.to_owned(), why.to_owned());
        self.change(Change::DeleteRule { id, who, why }, |_| Ok(Some(())))
    }

    /// Writes a request of an operator's down; it is on the disk when this returns. Waits for the writer.
    ///
    /// # Errors
    /// It was not written, or that is not known.
    pub fn audit(&self, request: Audited) -> Result<(), String> {
        self.change(Change::Audited(Box::new(request)), |_| Ok(Some(())))
            .map(drop)
    }

    /// A page of the requests that would have changed something, newest first, before this one. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn audited(&self, limit: u32, before: Option<i64>) -> Result<Page, String> {
        self.read(|connection| audited::page(connection, limit, before))
    }

    /// Writes down that somebody did something, of which nothing else is kept. Waits for the writer.
    ///
    /// # Errors
    /// It was not written, or that is not known.
    pub fn note(&self, who: &str, what: &str) -> Result<(), String> {
        let (who, what) = (who.to_owned(), what.to_owned());
        self.change(Change::Note { who, what }, |_| Ok(Some(())))
            .map(drop)
    }

    /// Has the writer make a change; what `then` finds of it.
    fn change<T>(
        &self,
        change: Change,
        then: impl FnOnce(i64) -> Result<Option<T>, String>,
    ) -> Result<Changed<T>, String> {
        let Some(store) = &self.inner.store else {
            return Ok(Changed::Missing);
        };
        Ok(match store.change(change)? {
            Changed::Done(id) => then(id)?.map_or(Changed::Missing, Changed::Done),
            Changed::Missing => Changed::Missing,
            Changed::Refused(why) => Changed::Refused(why),
        })
    }

    /// A page of coverage by statement, by table or by hour, as it is at this moment. Reads the
    /// file, and waits for its writer: not for the shadow's threads.
    pub fn covered(&self, filter: &CoverageFilter) -> Result<Page, String> {
        self.store_tallies();
        self.read(|connection| tallies::asked::coverage(connection, filter))
    }

    /// The figures that readiness is judged by, as they are at this moment. Shares are of what was
    /// seen since `since`; statements are unsettled from so many `races` on. As [`Ledger::covered`].
    pub fn evidence(&self, since: jiff::Timestamp, races: u64) -> Result<Evidence, String> {
        self.store_tallies();
        let since = since.as_microsecond();
        self.read(|connection| tallies::asked::evidence(connection, since, races))
    }

    /// The newest divergence of a finding, whole. Reads the file.
    pub fn newest(&self, finding: i64) -> Result<Option<Value>, String> {
        let mut found = self.read(|connection| findings::newest(connection, finding))?;
        found.iter_mut().for_each(|item| self.hide(item));
        Ok(found)
    }

    /// Both servers' paces (the primary's name first): of every class, and of the busiest `most`
    /// statements, where both servers have at least so many samples, of the last one to two windows.
    #[must_use]
    pub fn paces(&self, servers: [&str; 2], samples: u64, most: usize) -> Vec<Pace> {
        self.inner.latency.paces(servers, samples, most)
    }

    /// Lets paces forget what is older than one to two windows. As [`Ledger::paces`].
    pub fn turn_paces(&self, servers: [&str; 2], most: usize, window: Duration) {
        self.inner.latency.turn(servers, most, window);
    }

    /// How many of a statement's commands took longer on a server than so many µs.
    #[must_use]
    pub fn longer(&self, pace: &Pace, server: &str, micros: u64) -> u64 {
        self.inner.latency.longer(pace, server, micros)
    }

    /// Both servers' curves (the primary's name first): all together, and each class.
    #[must_use]
    pub fn curves(&self, servers: [&str; 2], byte: Byte) -> Vec<Curve> {
        self.inner.latency.curves(servers, byte)
    }

    /// Both servers' curve of one statement; none where it was seldom timed, or has no place of its own.
    #[must_use]
    pub fn curve_of(
        &self,
        servers: [&str; 2],
        byte: Byte,
        shape: (u64, Protocol),
    ) -> Option<Curve> {
        self.inner.latency.curve_of(servers, byte, shape)
    }

    /// Both servers' paces since the start: of every class, and of every statement that has a place of its
    /// own. Copies all histograms: not for every second.
    #[must_use]
    pub fn paces_since_start(&self, servers: [&str; 2], byte: Byte) -> Vec<Pace> {
        self.inner.latency.since_start(servers, byte)
    }

    /// Adds a point to how latency goes over time, where a minute has passed since the last one.
    pub fn mark_course(&self, servers: [&str; 2]) {
        let now = jiff::Timestamp::now();
        self.inner.latency.mark(servers, now);
    }

    /// How both servers' latency went, a point a minute.
    #[must_use]
    pub fn course(&self, servers: [&str; 2], byte: Byte, whose: Whose) -> Course {
        self.inner.latency.course(servers, byte, whose)
    }

    /// Takes what a look at the statistics found; whether there was room for it. Never waits.
    pub fn looked(&self, look: Look) -> bool {
        self.inner
            .store
            .as_ref()
            .is_none_or(|store| store.tell(Message::Look(Box::new(look))))
    }

    /// Of what was lost on its way nothing reaches the tallies by itself.
    fn tally_lost(&self) {
        if let Some(store) = &self.inner.store {
            let commands = (self.inner.commands)();
            let lost = tallies::Lost {
                commands: commands.lost,
                passed: commands.passed,
                divergences: store.lost(),
            };
            let now = jiff::Timestamp::now().as_microsecond();
            self.inner.lasting.tallies.lose(lost, now);
        }
    }

    fn store_tallies(&self) {
        self.tally_lost();
        if let Some(store) = &self.inner.store {
            store.store_tallies();
        }
    }

    fn read<T: Default>(
        &self,
        ask: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, String> {
        match &self.inner.store {
            Some(store) => store.read(ask),
            None => Ok(T::default()),
        }
    }

    /// What became of all commands.
    #[must_use]
    pub fn coverage(&self) -> Snapshot {
        self.inner.coverage.snapshot(|| (self.inner.commands)())
    }

    /// The items of `GET /api/v1/latency`, busiest first; of one fingerprint (text or digest) if
    /// it is given.
    #[must_use]
    pub fn latency(&self, fingerprint: Option<&str>) -> Vec<Value> {
        self.inner.latency.items(fingerprint)
    }

    /// The same figures with all fingerprints of a class together, fingerprint null.
    #[must_use]
    pub fn latency_by_class(&self) -> Vec<Value> {
        self.inner.latency.by_class()
    }

    /// From now on differences on these tables follow from a write that was lost or differed. A
    /// name of `*` stands for every table of its database, or of all where it has none.
    pub fn taint(&self, tables: &[Table], cause: &Cause) {
        let now = jiff::Timestamp::now();
        if self.inner.lasting.taints.add(tables, cause, now) {
            self.wake();
        }
    }

    /// What tainted tables since then turned out to be another cause than was told.
    pub fn amend(&self, told: &Cause, cause: &Cause, since: jiff::Timestamp) {
        let lasting = &self.inner.lasting;
        if lasting.taints.amend(told, cause, since) {
            // Where an older taint has that cause too, it is not known from which one it followed.
            if told != cause && !lasting.taints.has_cause(told) {
                lasting.followed.amend(Amended {
                    told: told.clone(),
                    cause: cause.clone(),
                    since,
                });
            }
            self.wake();
        }
    }

    /// Something must reach the file. The writer finds it by itself where the queue is full.
    fn wake(&self) {
        if let Some(store) = &self.inner.store {
            store.tell(Message::Wake);
        }
    }

    /// Whether a table is tainted.
    #[must_use]
    pub fn is_tainted(&self, table: &Table) -> bool {
        self.inner.lasting.taints.has(table)
    }

    /// Whether any table is tainted.
    #[must_use]
    pub fn has_taints(&self) -> bool {
        self.inner.lasting.taints.any()
    }

    /// Why a table is tainted, if it is.
    #[must_use]
    pub fn cause(&self, table: &Table) -> Option<Cause> {
        self.inner.lasting.taints.cause(table)
    }

    /// Why any table is tainted, if one is.
    #[must_use]
    pub fn any_cause(&self) -> Option<Cause> {
        self.inner.lasting.taints.any_cause()
    }

    /// All tainted tables.
    #[must_use]
    pub fn taints(&self) -> Vec<Taint> {
        self.inner.lasting.taints.all()
    }

    /// The items of `GET /api/v1/taints`: all tainted tables, each with the finding that tainted it,
    /// and how many differences followed. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn tainted(&self) -> Result<Vec<Value>, String> {
        let taints = self.taints();
        let unsaved = |cause: &Cause| self.inner.lasting.followed.unsaved(cause);
        match &self.inner.store {
            Some(store) => store.read(|connection| {
                let all = taints.iter();
                all.map(|taint| findings::taint(connection, taint, unsaved(&taint.cause)))
                    .collect()
            }),
            None => Ok(taints
                .iter()
                .map(|taint| findings::tainted(taint, None, None, unsaved(&taint.cause)))
                .collect()),
        }
    }

    /// What is known of the primary's tables at rest, between these two and where they are. A table that may have lost
    /// a write since it was read is `tainted`, whatever was read. Reads the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn at_rest(&self, [primary, shadow]: [&str; 2], servers: &str) -> Result<AtRest, String> {
        let Some(store) = &self.inner.store else {
            return Ok(AtRest::default());
        };
        let known = Verifications::at(store.path()).verified(primary, shadow, servers);
        let mut known = known.map_err(|fault| fault.to_string())?;
        let taints = &self.inner.lasting.taints;
        for one in &mut known.tables {
            let table = Table {
                database: Some(one.database.clone()),
                name: one.name.clone(),
            };
            let began = one.began.unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            if one.outcome.as_deref() == Some("equal") && taints.belies(&table, began) {
                one.outcome = Some("tainted".to_owned());
            }
        }
        Ok(known)
    }

    /// Whether this table was tainted since then, by itself or with its database; first or once more.
    #[must_use]
    pub fn tainted_since(&self, table: &Table, since: jiff::Timestamp) -> bool {
        self.inner.lasting.taints.since(table, since)
    }

    /// The whole table was read on both servers from `since` on, and is the same: what had tainted it before is
    /// over. A taint of a whole database stays, and so does one that came since.
    pub fn verified(&self, table: &Table, since: jiff::Timestamp) -> bool {
        let why = "verified: its rows are the same on both servers";
        let cleared = self
            .inner
            .lasting
            .taints
            .clear_one(table, since, config::OURSELVES, why);
        if cleared {
            self.wake();
        }
        cleared
    }

    /// Clears the taint of tables, by `database.table`, `table` or `*`; says which were tainted.
    pub fn clear_taints(&self, tables: &[String], who: &str, why: &str) -> Vec<Taint> {
        let cleared = self.inner.lasting.taints.clear(tables, who, why);
        tracing::info!(
            who,
            why,
            tables = cleared.len(),
            "taints cleared by an operator"
        );
        if !cleared.is_empty() {
            self.wake();
        }
        cleared
    }
}

#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod triage_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::{Divergence, Example, Kind, Verdict};
    use crate::sql::{Class, TableSet};

    /// An observation of one shape, run on both sides in about a millisecond.
    pub(super) fn observation(shape: &str, verdict: Verdict) -> Observation {
        let side = |server: &str| Side {
            server: server.into(),
            rows: 1,
            error: None,
            affected_rows: None,
            first_byte_us: Some(900),
            latency_us: Some(1000),
        };
        Observation {
            at: jiff::Timestamp::now(),
            session: 1,
            fingerprint: shape.into(),
            digest: xxhash_rust::xxh3::xxh3_64(shape.as_bytes()),
            protocol: Protocol::Text,
            class: Class::Read,
            user: "app".into(),
            database: "app".into(),
            tables: [Table {
                database: Some("app".into()),
                name: "t".into(),
            }]
            .into(),
            written: TableSet::none(),
            statement: None,
            context: None,
            verdict,
            follows: None,
            rechecked: None,
            primary: side("legacy"),
            shadow: Some(side("vitess")),
            queue_us: Some(50),
        }
    }

    /// An observation that diverged, with a literal planted wherever one can stand.
    pub(super) fn diverged(shape: &str) -> Observation {
        let example = Example {
            row: Some(0),
            columns: vec![1],
            names: vec!["name".into()],
            primary: vec![Some("planted value".into())],
            shadow: vec![None],
        };
        let divergence = Divergence {
            kind: Kind::Value,
            also: vec![Kind::AffectedRows],
            detail: "column 2: value".into(),
            columns: Some(vec!["name".into()]),
            examples: vec![example],
        };
        let mut observation = observation(shape, Verdict::Diverged(divergence));
        observation.statement = Some("SELECT * FROM t WHERE name = 'planted value'".into());
        let text = "Duplicate entry 'planted value' for key 'PRIMARY'";
        observation.primary.error = Some((1062, "23000".into(), text.into()));
        observation
    }

    #[test]
    fn what_is_recorded_is_covered_and_timed() {
        let ledger = Ledger::in_memory(Arc::new(|| Commands {
            handed: 3,
            lost: 1,
            passed: 0,
        }));
        ledger.record(observation("SELECT ?", Verdict::Match));
        let now = ledger.coverage();
        assert_eq!((now.matched, now.pending), (1, 1));
        assert_eq!(now.not_compared["dropped"], 1);
        assert_eq!(ledger.latency(None).len(), 1);
    }
}

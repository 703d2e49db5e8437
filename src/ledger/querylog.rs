//! The live log of queries: a line for each command as it gets its verdict, for whoever listens.
//!
//! It slows nobody down. A listener has room for so many lines and takes them when it likes; what does not fit is
//! counted and let go, and nobody is woken. While nobody listens a command costs one load. A line has the statement's
//! shape, never its text, so that no literal is in it.

use super::observation::{Observation, Protocol, Side};
use crate::compare::verdict::Verdict;
use crate::sql::{Class, TableSet};
use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Listeners at once.
pub const LISTENERS_MAX: usize = 8;

/// Lines that a listener has room for.
const ROOM: usize = 8192;

/// Bytes of their shapes that it has room for, about: a long one is shared with nobody where it comes once.
const ROOM_BYTES: usize = 4 << 20;

/// Which commands a listener wants; each one that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryFilter {
    /// The statement's shape, or its digest in hexadecimal.
    pub fingerprint: Option<String>,
    /// The application's user.
    pub user: Option<String>,
    /// A table, `database.table` or in any database, in whatever case.
    pub table: Option<String>,
    /// The class's name.
    pub class: Option<String>,
    /// `matched`, `tolerated`, `diverged` or `not_compared`.
    pub verdict: Option<String>,
    /// Either server took so long at least, in µs.
    pub slower_us: Option<u64>,
}

impl QueryFilter {
    fn takes(&self, one: &Observation) -> bool {
        is_or_any(self.user.as_deref(), |user| user == &*one.user)
            && is_or_any(self.class.as_deref(), |class| class == one.class.name())
            && is_or_any(self.verdict.as_deref(), |name| {
                name == verdict_name(&one.verdict)
            })
            && is_or_any(self.slower_us, |least| slowest(one) >= least)
            && is_or_any(self.fingerprint.as_deref(), |shape| {
                shape == &*one.fingerprint || shape == digest_text(one.digest)
            })
            && is_or_any(self.table.as_deref(), |table| has(&one.tables, table))
    }
}

fn is_or_any<T>(wanted: Option<T>, is: impl FnOnce(T) -> bool) -> bool {
    wanted.is_none_or(is)
}

fn slowest(one: &Observation) -> u64 {
    let sides = [Some(&one.primary), one.shadow.as_ref()];
    let latencies = sides.into_iter().flatten().map(|side| side.latency_us);
    latencies.flatten().max().unwrap_or(0)
}

fn has(tables: &TableSet, wanted: &str) -> bool {
    let (database, name) = match wanted.split_once('.') {
        Some((database, name)) => (Some(database), name),
        None => (None, wanted),
    };
    tables.iter().any(|table| {
        let own = table.database.as_deref().unwrap_or_default();
        table.name.eq_ignore_ascii_case(name)
            && database.is_none_or(|database| own.eq_ignore_ascii_case(database))
    })
}

fn digest_text(digest: u64) -> String {
    format!("{digest:016x}")
}

/// The names of [`QueryFilter::verdict`].
pub const VERDICTS: [&str; 4] = ["matched", "tolerated", "diverged", "not_compared"];

const fn verdict_name(verdict: &Verdict) -> &'static str {
    let [matched, tolerated, diverged, not_compared] = VERDICTS;
    match verdict {
        Verdict::Match => matched,
        Verdict::Tolerated(_) => tolerated,
        Verdict::Diverged(_) => diverged,
        Verdict::NotCompared(_) => not_compared,
    }
}

/// What the verdict consists of: the tolerances, the kinds of difference, or why nothing was compared.
fn reasons(verdict: &Verdict) -> Vec<&'static str> {
    match verdict {
        Verdict::Match => Vec::new(),
        Verdict::Tolerated(tolerances) => tolerances.iter().map(|one| one.name()).collect(),
        Verdict::Diverged(how) => {
            let also = how.also.iter().map(|kind| kind.name());
            std::iter::once(how.kind.name()).chain(also).collect()
        }
        Verdict::NotCompared(reason) => vec![reason.name()],
    }
}

/// One command, for a listener.
#[derive(Clone, Debug)]
pub struct QueryLine {
    at: jiff::Timestamp,
    session: u64,
    user: Arc<str>,
    database: Arc<str>,
    fingerprint: Arc<str>,
    digest: u64,
    protocol: Protocol,
    class: Class,
    tables: TableSet,
    verdict: &'static str,
    reasons: Vec<&'static str>,
    primary: Half,
    shadow: Option<Half>,
    queue_us: Option<u64>,
}

/// One server's side, without its error's text, in which values may stand.
#[derive(Clone, Debug)]
struct Half {
    server: Arc<str>,
    rows: u64,
    affected_rows: Option<u64>,
    error: Option<u16>,
    first_byte_us: Option<u64>,
    latency_us: Option<u64>,
}

impl Half {
    fn of(side: &Side) -> Self {
        Self {
            server: Arc::clone(&side.server),
            rows: side.rows,
            affected_rows: side.affected_rows,
            error: side.error.as_ref().map(|(code, ..)| *code),
            first_byte_us: side.first_byte_us,
            latency_us: side.latency_us,
        }
    }

    fn json(&self) -> Value {
        json!({
            "server": &*self.server,
            "latency_us": self.latency_us,
            "first_byte_us": self.first_byte_us,
            "rows": self.rows,
            "affected_rows": self.affected_rows,
            "error": self.error,
        })
    }
}

impl QueryLine {
    fn of(one: &Observation) -> Self {
        Self {
            at: one.at,
            session: one.session,
            user: Arc::clone(&one.user),
            database: Arc::clone(&one.database),
            fingerprint: Arc::clone(&one.fingerprint),
            digest: one.digest,
            protocol: one.protocol,
            class: one.class,
            tables: one.tables.clone(),
            verdict: verdict_name(&one.verdict),
            reasons: reasons(&one.verdict),
            primary: Half::of(&one.primary),
            shadow: one.shadow.as_ref().map(Half::of),
            queue_us: one.queue_us,
        }
    }

    /// The API's shape.
    #[must_use]
    pub fn json(&self) -> Value {
        let name = |table: &crate::sql::Table| match &table.database {
            Some(database) => format!("{database}.{}", table.name),
            None => table.name.clone(),
        };
        json!({
            "at": self.at.to_string(),
            "session": self.session,
            "user": &*self.user,
            "database": &*self.database,
            "fingerprint": &*self.fingerprint,
            "digest": digest_text(self.digest),
            "protocol": self.protocol.name(),
            "class": self.class.name(),
            "tables": self.tables.iter().map(name).collect::<Vec<_>>(),
            "verdict": self.verdict,
            "reasons": self.reasons,
            "primary": self.primary.json(),
            "shadow": self.shadow.as_ref().map(Half::json),
            "queue_us": self.queue_us,
        })
    }
}

/// Where a listener's lines lie.
#[derive(Debug)]
struct Ear {
    filter: QueryFilter,
    lines: ArrayQueue<QueryLine>,
    /// Bytes of the shapes that lie there.
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Ear {
    fn tell(&self, one: &Observation) {
        if !self.filter.takes(one) {
            return;
        }
        // The line is made only where there is room for it; a place may be gone by then.
        let bytes = one.fingerprint.len();
        let has_room = !self.lines.is_full()
            && self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= ROOM_BYTES;
        if has_room && self.lines.push(QueryLine::of(one)).is_ok() {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn next(&self) -> Option<QueryLine> {
        let line = self.lines.pop()?;
        let less = |bytes: usize| Some(bytes.saturating_sub(line.fingerprint.len()));
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        Some(line)
    }
}

/// Who listens.
#[derive(Debug, Default)]
pub(super) struct QueryLog {
    is_heard: AtomicBool,
    ears: ArcSwap<Vec<Arc<Ear>>>,
    changing: Mutex<()>,
}

impl QueryLog {
    /// A command has its verdict.
    pub(super) fn tell(&self, one: &Observation) {
        if self.is_heard.load(Ordering::Relaxed) {
            self.tell_ears(one);
        }
    }

    #[cold]
    fn tell_ears(&self, one: &Observation) {
        for ear in self.ears.load().iter() {
            ear.tell(one);
        }
    }

    /// One more listener, where there are fewer than `most` then, which is [`LISTENERS_MAX`] or less.
    pub(super) fn listen(self: &Arc<Self>, filter: QueryFilter, most: usize) -> Option<Listener> {
        let ear = Arc::new(Ear {
            filter,
            lines: ArrayQueue::new(ROOM),
            bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
        });
        let _changing = self.changing.lock();
        let mut ears = Vec::clone(&self.ears.load());
        if ears.len() >= most.min(LISTENERS_MAX) {
            return None;
        }
        ears.push(Arc::clone(&ear));
        self.set(ears);
        Some(Listener {
            ear,
            log: Arc::clone(self),
        })
    }

    fn leave(&self, ear: &Arc<Ear>) {
        let _changing = self.changing.lock();
        let mut ears = Vec::clone(&self.ears.load());
        ears.retain(|one| !Arc::ptr_eq(one, ear));
        self.set(ears);
    }

    fn set(&self, ears: Vec<Arc<Ear>>) {
        self.is_heard.store(!ears.is_empty(), Ordering::Relaxed);
        self.ears.store(Arc::new(ears));
    }
}

/// One who listens, until it is dropped.
#[derive(Debug)]
pub struct Listener {
    ear: Arc<Ear>,
    log: Arc<QueryLog>,
}

impl Listener {
    /// The lines that came since the last call, at most so many.
    pub fn take(&self, most: usize) -> impl Iterator<Item = QueryLine> + '_ {
        std::iter::from_fn(|| self.ear.next()).take(most)
    }

    /// Lines that found no room since the last call.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.ear.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.log.leave(&self.ear);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ledger;
    use super::super::coverage::Commands;
    use super::super::tests::{diverged, observation};
    use super::*;
    use crate::compare::verdict::Reason;

    fn ledger() -> Ledger {
        Ledger::in_memory(Arc::new(Commands::default))
    }

    fn told(listener: &Listener) -> Vec<Value> {
        listener.take(usize::MAX).map(|line| line.json()).collect()
    }

    fn shapes(listener: &Listener) -> Vec<String> {
        let shape = |line: Value| line["fingerprint"].as_str().unwrap().to_owned();
        told(listener).into_iter().map(shape).collect()
    }

    fn wanting(filter: QueryFilter) -> (Ledger, Listener) {
        let ledger = ledger();
        let listener = ledger.listen(filter, LISTENERS_MAX).unwrap();
        (ledger, listener)
    }

    #[test]
    fn each_command_is_a_line_with_both_sides_and_no_literal() {
        let (ledger, listener) = wanting(QueryFilter::default());
        let mut one = diverged("SELECT a FROM t WHERE b = ?");
        one.statement = Some("SELECT a FROM t WHERE b = 'secret'".into());
        one.primary.error = Some((1062, "23000".into(), "Duplicate entry 'secret'".into()));
        ledger.record(&one);
        ledger.record(observation("COMMIT", Verdict::NotCompared(Reason::Paused)));
        let [first, second] = &*told(&listener) else {
            panic!("two lines")
        };
        assert_eq!(first["fingerprint"], "SELECT a FROM t WHERE b = ?");
        assert_eq!(first["verdict"], "diverged");
        assert_eq!(first["primary"]["error"], 1062);
        assert!(first["shadow"]["latency_us"].is_u64() && first["at"].is_string());
        assert!(!first.to_string().contains("secret"), "{first:#}");
        assert_eq!(second["verdict"], "not_compared");
        assert_eq!(second["reasons"], json!(["paused"]));
        assert!(told(&listener).is_empty());
    }

    #[test]
    fn a_filter_takes_what_is_so_in_all_that_it_says() {
        let one = diverged("SELECT 1 FROM t");
        let some = |text: &str| Some(text.to_owned());
        let all = QueryFilter::default();
        let right = QueryFilter {
            fingerprint: some("SELECT 1 FROM t"),
            user: some(&one.user),
            table: some("APP.t"),
            class: some(one.class.name()),
            verdict: some("diverged"),
            slower_us: Some(slowest(&one)),
        };
        assert!(all.takes(&one) && right.takes(&one));
        let wrong = [
            QueryFilter {
                fingerprint: some("SELECT 2 FROM t"),
                ..right.clone()
            },
            QueryFilter {
                user: some("nobody"),
                ..right.clone()
            },
            QueryFilter {
                table: some("other.t"),
                ..right.clone()
            },
            QueryFilter {
                class: some("ddl"),
                ..right.clone()
            },
            QueryFilter {
                verdict: some("matched"),
                ..right.clone()
            },
            QueryFilter {
                slower_us: Some(slowest(&one) + 1),
                ..right.clone()
            },
        ];
        for filter in wrong {
            assert!(!filter.takes(&one), "{filter:?}");
        }
        let others = [
            QueryFilter {
                fingerprint: some(&digest_text(one.digest)),
                ..all.clone()
            },
            QueryFilter {
                table: some("t"),
                ..all
            },
        ];
        for filter in others {
            assert!(filter.takes(&one), "{filter:?}");
        }
    }

    #[test]
    fn a_listener_that_does_not_listen_loses_lines_and_holds_nobody() {
        let (ledger, slow) = wanting(QueryFilter::default());
        let one = observation("SELECT ?", Verdict::Match);
        for _ in 0..ROOM + 3 {
            ledger.record(&one);
        }
        assert_eq!(slow.dropped(), 3);
        assert_eq!(slow.dropped(), 0);
        assert_eq!(shapes(&slow).len(), ROOM);
        // There is room again.
        ledger.record(&one);
        assert_eq!((shapes(&slow).len(), slow.dropped()), (1, 0));
    }

    #[test]
    fn long_shapes_take_no_more_room_than_there_is() {
        let (ledger, slow) = wanting(QueryFilter::default());
        let long = "x".repeat(ROOM_BYTES / 4);
        for _ in 0..6 {
            ledger.record(observation(&long, Verdict::Match));
        }
        assert_eq!((slow.dropped(), shapes(&slow).len()), (2, 4));
        ledger.record(observation(&long, Verdict::Match));
        assert_eq!((slow.dropped(), shapes(&slow).len()), (0, 1));
    }

    #[test]
    fn so_many_listen_at_once_and_who_leaves_makes_room() {
        let ledger = ledger();
        let mut all: Vec<Listener> = (0..LISTENERS_MAX)
            .map(|_| {
                ledger
                    .listen(QueryFilter::default(), LISTENERS_MAX)
                    .unwrap()
            })
            .collect();
        assert!(
            ledger
                .listen(QueryFilter::default(), LISTENERS_MAX)
                .is_none()
        );
        all.pop();
        let last = ledger
            .listen(QueryFilter::default(), LISTENERS_MAX)
            .unwrap();
        ledger.record(observation("SELECT ?", Verdict::Match));
        for listener in all.iter().chain([&last]) {
            assert_eq!(shapes(listener), ["SELECT ?"]);
        }
        let fewer = ledger.listen(QueryFilter::default(), LISTENERS_MAX - 2);
        assert!(fewer.is_none(), "more listen than that");
        all.truncate(LISTENERS_MAX - 4);
        let fewer = ledger.listen(QueryFilter::default(), LISTENERS_MAX - 2);
        assert!(fewer.is_some());
        drop(fewer);
        drop((all, last));
        assert!(!ledger.inner.querylog.is_heard.load(Ordering::Relaxed));
    }
}

//! What the primary says of its tables, asked with the proxy's own account and remembered, within
//! bounds: what a generated key and the clock are pinned by.
//!
//! One task asks; whoever needs a table that is not known waits for it a short time, on the shadow
//! side alone. Forgotten after DDL, looked up anew after a while. Without an account nothing is
//! known.
//!
//! DDL that lies unread is not known here, and the primary answers as of now: while anything lies there, what is
//! known serves on. A table of which nothing is known is asked for all the same; where it was changed between
//! the command and the question, the command is pinned by what came after it.

use super::unread::Unread;
use crate::ask::{AskError, Questions, Row};
use crate::sql::Table;
use crate::sql::pin::{Column, TableFacts};
use crate::task;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Tables remembered at most; the one that was used least recently goes first.
const TABLES_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);

/// Tables that wait to be asked for; what does not fit is asked for at its next use.
const WANTED_MAX: usize = 1024;

/// Questions a second, at most.
const PER_SECOND: u32 = 50;

/// A statement waits so long for its table to be known.
const WAIT: Duration = Duration::from_secs(2);

/// After this time a table is looked up anew, while what is known still serves.
const FRESH: Duration = Duration::from_secs(60);

/// A question that failed is asked again no sooner.
const RETRY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Known {
    entries: Mutex<LruCache<Key, Entry>>,
    /// Says that something was learned.
    learned: watch::Sender<u64>,
    wanted: Option<mpsc::Sender<Key>>,
    /// What is not looked at yet, and may be DDL.
    unread: Arc<Unread>,
    /// Tables that are asked for and not answered yet.
    open: Mutex<BTreeSet<Key>>,
    /// Counts what DDL made forget: an answer from before it is not kept.
    forgotten: AtomicU64,
    changes: Mutex<Changes>,
}

/// The latest DDL of tables, as many as are remembered: what is known now says nothing of a command
/// from before it.
#[derive(Debug)]
struct Changes {
    of: LruCache<Key, Change>,
    /// When DDL on tables that nobody knows was acknowledged.
    of_any: Option<Instant>,
}

/// DDL on a table.
#[derive(Debug)]
struct Change {
    /// The primary had acknowledged it.
    acked: Instant,
    /// What was known of the table before.
    before: Option<Arc<TableFacts>>,
    /// The primary had acknowledged the DDL before it, if any is known.
    since: Option<Instant>,
}

/// Database and name, as they are written: some servers tell them apart by their case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    database: String,
    name: String,
}

#[derive(Clone, Debug)]
struct Entry {
    facts: Option<Arc<TableFacts>>,
    at: Instant,
    /// It has been asked for anew.
    asked: bool,
}

/// What a look at what is known brings.
enum Found {
    Known(Option<Arc<TableFacts>>),
    /// It is asked for.
    Asked,
    /// It is not, and too many others are.
    Full,
}

impl Known {
    /// With nobody to ask: nothing is ever known.
    pub(super) fn nothing() -> Self {
        Self {
            entries: Mutex::new(LruCache::new(TABLES_MAX)),
            learned: watch::Sender::new(0),
            wanted: None,
            unread: Arc::default(),
            open: Mutex::default(),
            forgotten: AtomicU64::new(0),
            changes: Mutex::new(Changes {
                of: LruCache::new(TABLES_MAX),
                of_any: None,
            }),
        }
    }

    /// With the primary to ask, and the task that does.
    pub(super) fn asking(sources: Sources, unread: &Arc<Unread>) -> (Arc<Self>, JoinHandle<()>) {
        let (wanted, wants) = mpsc::channel(WANTED_MAX);
        let known = Arc::new(Self {
            wanted: Some(wanted),
            unread: Arc::clone(unread),
            ..Self::nothing()
        });
        let task = task::spawn("tables", learn(Arc::downgrade(&known), sources, wants));
        (known, task)
    }

    /// Questions a second that [`Known::asking`] may be given.
    pub(super) const fn per_second() -> u32 {
        PER_SECOND
    }

    /// What is known now of a table as it was for a command that began on the primary then; asked
    /// for where it is not known.
    pub(super) fn now(&self, table: &Table, began: Instant) -> Option<Arc<TableFacts>> {
        let key = Key::of(table)?;
        match self.before_ddl(&key, began) {
            Some(before) => before,
            None => match self.look(&key) {
                Found::Known(facts) => facts,
                Found::Asked | Found::Full => None,
            },
        }
    }

    /// The same, after a short time at most; without any where too many tables are asked for.
    pub(super) async fn soon(&self, table: &Table, began: Instant) -> Option<Arc<TableFacts>> {
        let key = Key::of(table)?;
        self.wanted.as_ref()?;
        let mut learned = self.learned.subscribe();
        let found = async {
            loop {
                learned.borrow_and_update();
                if let Some(before) = self.before_ddl(&key, began) {
                    return before;
                }
                match self.look(&key) {
                    Found::Known(facts) => return facts,
                    Found::Full => return None,
                    Found::Asked => learned.changed().await.ok()?,
                }
            }
        };
        tokio::time::timeout(WAIT, found).await.ok()?
    }

    /// DDL has gone through on the primary: these tables are others for what begins after it was
    /// acknowledged.
    pub(super) fn changed<'a>(&self, tables: impl Iterator<Item = &'a Table>, acked: Instant) {
        let mut changes = self.changes.lock();
        let mut entries = self.entries.lock();
        for key in tables.filter_map(Key::of) {
            // What was asked for since tells of what it made of the table.
            let before = entries.pop(&key).filter(|entry| entry.at <= acked);
            let before = before.and_then(|entry| entry.facts);
            let since = changes.of.peek(&key).map(|change| change.acked);
            let change = Change {
                acked,
                before,
                since: since.or(changes.of_any),
            };
            changes.of.put(key, change);
        }
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// DDL has gone through, and nobody knows on which tables.
    pub(super) fn all_changed(&self, acked: Instant) {
        let mut changes = self.changes.lock();
        self.entries.lock().clear();
        changes.of.clear();
        changes.of_any = Some(acked);
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// The shadow comes to DDL on these tables: they are looked up anew.
    pub(super) fn forget<'a>(&self, tables: impl Iterator<Item = &'a Table>) {
        let mut entries = self.entries.lock();
        for key in tables.filter_map(Key::of) {
            entries.pop(&key);
        }
    }

    /// What was known of a table before the DDL that a command precedes; `None` where no DDL is
    /// known to have come after it began.
    fn before_ddl(&self, key: &Key, began: Instant) -> Option<Option<Arc<TableFacts>>> {
        let mut changes = self.changes.lock();
        if changes.of_any.is_some_and(|acked| began < acked) {
            return Some(None);
        }
        let change = changes.of.get(key).filter(|change| began < change.acked)?;
        let holds = change.since.is_none_or(|since| since <= began);
        Some(change.before.clone().filter(|_| holds))
    }

    fn look(&self, key: &Key) -> Found {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(key);
        let stale = entry.as_ref().is_none_or(|entry| {
            let at_most = if entry.facts.is_some() { FRESH } else { RETRY };
            let old = now.saturating_duration_since(entry.at) > at_most;
            old && !entry.asked && (entry.facts.is_none() || self.unread.is_known(now))
        });
        let asked = stale && self.want(key);
        match entry {
            Some(entry) => {
                entry.asked |= asked;
                Found::Known(entry.facts.clone())
            }
            None if asked => Found::Asked,
            None => Found::Full,
        }
    }

    /// Asks for a table, once; whether it is asked for now.
    fn want(&self, key: &Key) -> bool {
        let mut open = self.open.lock();
        if open.contains(key) {
            return true;
        }
        let wanted = self.wanted.as_ref();
        let sent = wanted.is_some_and(|wanted| wanted.try_send(key.clone()).is_ok());
        if sent {
            open.insert(key.clone());
        }
        sent
    }

    fn keep(&self, key: Key, facts: Option<Arc<TableFacts>>, forgotten: u64) {
        self.open.lock().remove(&key);
        let mut entries = self.entries.lock();
        if self.forgotten.load(Ordering::Relaxed) == forgotten {
            let entry = Entry {
                facts,
                at: Instant::now(),
                asked: false,
            };
            entries.put(key, entry);
        }
        drop(entries);
        self.learned.send_modify(|times| *times += 1);
    }

    fn has_fresh(&self, key: &Key) -> bool {
        let entries = self.entries.lock();
        entries.peek(key).is_some_and(|entry| {
            entry.at.elapsed() < if entry.facts.is_some() { FRESH } else { RETRY }
        })
    }
}

impl Key {
    fn of(table: &Table) -> Option<Self> {
        Some(Self {
            database: table.database.clone().filter(|name| !name.is_empty())?,
            name: table.name.clone(),
        })
    }
}

/// Who is asked.
pub(super) struct Sources {
    pub(super) primary: Questions,
    /// Where the primary is a vtgate, it fills keys from sequences, which its tables do not say; the
    /// shadow's tables do.
    pub(super) shadow: Option<Questions>,
    /// The primary's databases and what the shadow calls them.
    pub(super) databases: BTreeMap<String, String>,
}

/// Asks what is wanted, until nobody is left to want anything.
async fn learn(known: std::sync::Weak<Known>, sources: Sources, mut wants: mpsc::Receiver<Key>) {
    let mut is_vitess = None;
    while let Some(key) = wants.recv().await {
        let Some(known) = known.upgrade() else { return };
        if known.has_fresh(&key) {
            known.open.lock().remove(&key);
            continue;
        }
        let forgotten = known.forgotten.load(Ordering::Relaxed);
        let facts = match sources.ask(&key, &mut is_vitess).await {
            Ok(facts) => facts.map(Arc::new),
            Err(error) => {
                tracing::debug!(%error, database = key.database, table = key.name,
                    "the primary does not say what a table is like");
                None
            }
        };
        known.keep(key, facts, forgotten);
    }
}

impl Sources {
    /// `is_vitess`: whether the primary is one, once it has been asked.
    async fn ask(
        &self,
        key: &Key,
        is_vitess: &mut Option<bool>,
    ) -> Result<Option<TableFacts>, AskError> {
        let Some(mut facts) = ask(&self.primary, key).await? else {
            return Ok(None);
        };
        let has_key = facts.columns.iter().any(|column| column.auto_increment);
        let Some(shadow) = self.shadow.as_ref().filter(|_| !has_key) else {
            return Ok(Some(facts));
        };
        if is_vitess.is_none() {
            let rows = self.primary.ask("SELECT @@version").await?;
            let version = rows.first().and_then(|row| row.first()?.as_deref());
            *is_vitess = Some(version.is_some_and(|version| version.contains("Vitess")));
        }
        if *is_vitess == Some(true) {
            let database = self.databases.get(&key.database).unwrap_or(&key.database);
            let (database, name) = (hex(database), hex(&key.name));
            let rows = shadow
                .ask(&format!(
                    "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {database} \
                     AND TABLE_NAME = {name} AND EXTRA LIKE '%auto_increment%'"
                ))
                .await?;
            let key = rows.first().and_then(|row| row.first()?.as_deref());
            for column in &mut facts.columns {
                column.auto_increment =
                    key.is_some_and(|key| key.eq_ignore_ascii_case(&column.name));
            }
        }
        Ok(Some(facts))
    }
}

/// `None` where there is no such table, or it is a view.
async fn ask(questions: &Questions, key: &Key) -> Result<Option<TableFacts>, AskError> {
    let (database, name) = (hex(&key.database), hex(&key.name));
    let kind = questions
        .ask(&format!(
            "SELECT TABLE_TYPE FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = {database} AND TABLE_NAME = {name}"
        ))
        .await?;
    let is_a_table = kind.first().and_then(|row| row.first()?.as_deref()) == Some("BASE TABLE");
    if !is_a_table {
        return Ok(None);
    }
    let rows = questions
        .ask(&format!(
            "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_DEFAULT, EXTRA FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = {database} AND TABLE_NAME = {name} ORDER BY ORDINAL_POSITION"
        ))
        .await?;
    let triggers = questions
        .ask(&format!(
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS \
             WHERE EVENT_OBJECT_SCHEMA = {database} AND EVENT_OBJECT_TABLE = {name} \
             AND EVENT_MANIPULATION = 0x494E53455254"
        ))
        .await?;
    let columns: Vec<Column> = rows.iter().filter_map(column).collect();
    Ok((!columns.is_empty()).then_some(TableFacts {
        columns,
        insert_triggers: !triggers.is_empty(),
    }))
}

/// A text as a literal that no mode or charset of the connection reads otherwise.
fn hex(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = "CONVERT(0x".to_owned();
    for byte in text.bytes() {
        let _ = write!(out, "{byte:02X}");
    }
    out.push_str(" USING utf8)");
    out
}

fn column(row: &Row) -> Option<Column> {
    let cell = |at: usize| row.get(at).and_then(Option::as_deref);
    let extra = cell(3).unwrap_or_default().to_ascii_lowercase();
    let keeps_time = matches!(
        cell(1)?.to_ascii_lowercase().as_str(),
        "timestamp" | "datetime" | "date" | "time"
    );
    let default = cell(2).unwrap_or_default();
    let on_update = extra.split_once("on update").map(|(_, clock)| clock);
    Some(Column {
        name: cell(0)?.to_owned(),
        auto_increment: extra.contains("auto_increment"),
        default_clock: digits(default).filter(|_| keeps_time),
        on_update: on_update.and_then(digits),
        invisible: extra.contains("invisible"),
    })
}

/// The digits of a second that `CURRENT_TIMESTAMP`, `current_timestamp(3)` or `now(6)` asks for.
fn digits(clock: &str) -> Option<u8> {
    let clock = clock.trim().to_ascii_lowercase();
    let rest = ["current_timestamp", "now", "localtimestamp"]
        .iter()
        .find_map(|name| clock.strip_prefix(name))?;
    match rest.as_bytes() {
        [] | [b'(', b')'] => Some(0),
        [b'(', digit @ b'0'..=b'6', b')'] => Some(digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, kind: &str, default: Option<&str>, extra: &str) -> Row {
        let text = |text: &str| Some(text.to_owned());
        vec![
            text(name),
            text(kind),
            default.map(str::to_owned),
            text(extra),
        ]
    }

    #[test]
    fn what_servers_say_of_a_column_is_read() {
        for (kind, default, extra, key, filled, updated, hidden) in [
            ("int", None, "auto_increment", true, None, None, false),
            (
                "timestamp",
                Some("CURRENT_TIMESTAMP"),
                "on update CURRENT_TIMESTAMP",
                false,
                Some(0),
                Some(0),
                false,
            ),
            (
                "datetime",
                Some("CURRENT_TIMESTAMP(3)"),
                "DEFAULT_GENERATED on update CURRENT_TIMESTAMP(3)",
                false,
                Some(3),
                Some(3),
                false,
            ),
            (
                "datetime",
                Some("current_timestamp(6)"),
                "on update current_timestamp(6)",
                false,
                Some(6),
                Some(6),
                false,
            ),
            (
                "timestamp",
                Some("current_timestamp()"),
                "",
                false,
                Some(0),
                None,
                false,
            ),
            (
                "varchar",
                Some("CURRENT_TIMESTAMP"),
                "",
                false,
                None,
                None,
                false,
            ),
            (
                "datetime",
                Some("2026-01-01 00:00:00"),
                "",
                false,
                None,
                None,
                false,
            ),
            (
                "bigint",
                None,
                "auto_increment INVISIBLE",
                true,
                None,
                None,
                true,
            ),
        ] {
            let found = column(&row("c", kind, default, extra)).unwrap();
            let wanted = Column {
                name: "c".into(),
                auto_increment: key,
                default_clock: filled,
                on_update: updated,
                invisible: hidden,
            };
            assert_eq!(found, wanted, "{kind} {default:?} {extra}");
        }
    }

    #[test]
    fn a_name_is_asked_for_in_hexadecimal() {
        assert_eq!(hex("a'b"), "CONVERT(0x612762 USING utf8)");
    }

    fn table(name: &str) -> Table {
        Table {
            database: Some("app".into()),
            name: name.into(),
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn facts(column: &str) -> Option<Arc<TableFacts>> {
        let column = Column {
            name: column.into(),
            ..Column::default()
        };
        Some(Arc::new(TableFacts {
            columns: vec![column],
            insert_triggers: false,
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_forgotten_meanwhile_is_not_kept() {
        let known = Known::nothing();
        let (key, start) = (Key::of(&table("t")).unwrap(), Instant::now());
        known.keep(key.clone(), facts("a"), 0);
        assert!(known.now(&table("t"), start).is_some());
        known.changed([table("t")].iter(), start);
        assert!(known.now(&table("t"), start).is_none());
        known.keep(key.clone(), facts("a"), 0); // asked before the DDL
        assert!(known.now(&table("t"), start).is_none());
        known.keep(key, facts("a"), 1);
        assert!(known.now(&table("t"), start).is_some());
        assert!(known.soon(&table("u"), start).await.is_none()); // nobody to ask: no wait
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_from_before_the_ddl_is_given_what_was_known_then_or_nothing() {
        let known = Known::nothing();
        let (key, start) = (Key::of(&table("t")).unwrap(), Instant::now());
        known.keep(key.clone(), facts("old"), 0);
        known.changed([table("t")].iter(), start + 5 * SECOND);
        known.keep(key.clone(), facts("new"), 1);
        let at = |second: u32| known.now(&table("t"), start + second * SECOND);
        assert_eq!(at(4), facts("old"));
        assert_eq!(at(5), facts("new"));
        known.changed([table("t")].iter(), start + 9 * SECOND);
        assert_eq!(at(4), None); // two changes ago
        assert_eq!(at(8), facts("new"));
        known.all_changed(start + 12 * SECOND);
        known.keep(key, facts("newest"), 3);
        assert_eq!((at(8), at(12)), (None, facts("newest")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_is_asked_for_once_and_nobody_waits_where_too_many_are() {
        let (wanted, mut wants) = mpsc::channel(1);
        let known = Known {
            wanted: Some(wanted),
            ..Known::nothing()
        };
        let start = Instant::now();
        assert!(known.now(&table("t"), start).is_none());
        assert!(known.now(&table("t"), start).is_none());
        assert!(known.soon(&table("u"), start).await.is_none());
        assert_eq!(Instant::now(), start);
        let key = wants.recv().await.unwrap();
        assert!(wants.try_recv().is_err());
        known.keep(key.clone(), facts("a"), 0);
        tokio::time::advance(FRESH + SECOND).await;
        assert!(known.now(&table("u"), start).is_none()); // takes the only place
        assert!(known.now(&table("t"), start).is_some()); // old, and not asked for now
        let _ = wants.recv().await;
        assert!(known.now(&table("t"), start).is_some());
        assert_eq!(wants.recv().await, Some(key));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_behind_the_ddl_says_nothing_of_before() {
        let known = Known::nothing();
        let (key, start) = (Key::of(&table("t")).unwrap(), Instant::now());
        tokio::time::advance(9 * SECOND).await;
        known.keep(key, facts("new"), 0);
        // It was looked at later than it went through.
        known.changed([table("t")].iter(), start + 5 * SECOND);
        assert_eq!(known.now(&table("t"), start), None);
    }

    #[tokio::test(start_paused = true)]
    async fn while_anything_lies_unread_what_is_known_serves_on() {
        let (wanted, mut wants) = mpsc::channel(1);
        let known = Known {
            wanted: Some(wanted),
            ..Known::nothing()
        };
        let (key, start) = (Key::of(&table("t")).unwrap(), Instant::now());
        known.keep(key.clone(), facts("old"), 0);
        tokio::time::advance(FRESH + SECOND).await;
        known.unread.tell(1, Some(Instant::now()));
        assert_eq!(known.now(&table("t"), start), facts("old"));
        assert!(
            wants.try_recv().is_err(),
            "the primary may say what came later"
        );
        known.unread.tell(0, None);
        assert_eq!(known.now(&table("t"), start), facts("old"));
        assert_eq!(wants.try_recv(), Ok(key));
    }
}

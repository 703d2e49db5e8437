//! What the primary says of its tables, asked with the proxy's own account and remembered, within
//! bounds: what a generated key and the clock are pinned by.
//!
//! One task asks; whoever needs a table that is not known waits for it a short time, on the shadow
//! side alone. Forgotten after DDL, looked up anew after a while. Without an account nothing is
//! known.

use crate::ask::{AskError, Questions, Row};
use crate::sql::Table;
use crate::sql::pin::{Column, TableFacts};
use crate::task;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Tables remembered at most; the one that was used least recently goes first.
const TABLES_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

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
    /// Counts what DDL made forget: an answer from before it is not kept.
    forgotten: AtomicU64,
}

/// Database and name, as they are written: some servers tell them apart by their case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

impl Known {
    /// With nobody to ask: nothing is ever known.
    pub(super) fn nothing() -> Self {
        Self {
            entries: Mutex::new(LruCache::new(TABLES_MAX)),
            learned: watch::Sender::new(0),
            wanted: None,
            forgotten: AtomicU64::new(0),
        }
    }

    /// With the primary to ask, and the task that does.
    pub(super) fn asking(questions: Questions) -> (Arc<Self>, JoinHandle<()>) {
        let (wanted, wants) = mpsc::channel(WANTED_MAX);
        let known = Arc::new(Self {
            wanted: Some(wanted),
            ..Self::nothing()
        });
        let task = task::spawn("tables", learn(Arc::downgrade(&known), questions, wants));
        (known, task)
    }

    /// Questions a second that [`Known::asking`] may be given.
    pub(super) const fn per_second() -> u32 {
        PER_SECOND
    }

    /// What is known of a table now; asked for where it is not.
    pub(super) fn now(&self, table: &Table) -> Option<Arc<TableFacts>> {
        self.look(&Key::of(table)?)?
    }

    /// What is known of a table, after a short time at most.
    pub(super) async fn soon(&self, table: &Table) -> Option<Arc<TableFacts>> {
        let key = Key::of(table)?;
        self.wanted.as_ref()?;
        let mut learned = self.learned.subscribe();
        let found = async {
            loop {
                learned.borrow_and_update();
                if let Some(facts) = self.look(&key) {
                    return facts;
                }
                learned.changed().await.ok()?;
            }
        };
        tokio::time::timeout(WAIT, found).await.ok()?
    }

    /// DDL has gone through: these tables may be others now.
    pub(super) fn forget<'a>(&self, tables: impl Iterator<Item = &'a Table>) {
        let mut entries = self.entries.lock();
        for key in tables.filter_map(Key::of) {
            entries.pop(&key);
        }
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// DDL has gone through, and nobody knows on which tables.
    pub(super) fn forget_all(&self) {
        self.entries.lock().clear();
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// `None` where it must be waited for.
    fn look(&self, key: &Key) -> Option<Option<Arc<TableFacts>>> {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(key);
        let stale = entry.as_ref().is_none_or(|entry| {
            let at_most = if entry.facts.is_some() { FRESH } else { RETRY };
            !entry.asked && now.saturating_duration_since(entry.at) > at_most
        });
        let found = entry.map(|entry| {
            entry.asked |= stale;
            entry.facts.clone()
        });
        drop(entries);
        if stale && let Some(wanted) = &self.wanted {
            let _ = wanted.try_send(key.clone());
        }
        found
    }

    fn keep(&self, key: Key, facts: Option<Arc<TableFacts>>, forgotten: u64) {
        if self.forgotten.load(Ordering::Relaxed) == forgotten {
            let entry = Entry {
                facts,
                at: Instant::now(),
                asked: false,
            };
            self.entries.lock().put(key, entry);
        }
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

/// Asks what is wanted, until nobody is left to want anything.
async fn learn(
    known: std::sync::Weak<Known>,
    questions: Questions,
    mut wants: mpsc::Receiver<Key>,
) {
    while let Some(key) = wants.recv().await {
        let Some(known) = known.upgrade() else { return };
        if known.has_fresh(&key) {
            continue;
        }
        let forgotten = known.forgotten.load(Ordering::Relaxed);
        let facts = match ask(&questions, &key).await {
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

    #[tokio::test(start_paused = true)]
    async fn what_was_forgotten_meanwhile_is_not_kept() {
        let known = Known::nothing();
        let key = Key::of(&table("t")).unwrap();
        let facts = Some(Arc::new(TableFacts::default()));
        known.keep(key.clone(), facts.clone(), 0);
        assert!(known.now(&table("t")).is_some());
        known.forget([table("t")].iter());
        assert!(known.now(&table("t")).is_none());
        known.keep(key.clone(), facts.clone(), 0); // asked before the DDL
        assert!(known.now(&table("t")).is_none());
        known.keep(key, facts, 1);
        assert!(known.now(&table("t")).is_some());
        assert!(known.soon(&table("u")).await.is_none()); // nobody to ask: no wait
    }
}

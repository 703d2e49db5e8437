//! A small reference database: rows with versions, locks on keys that are held to the end of the
//! transaction, snapshots, autocommit. Its locks are single keys, or coarser: a shard's gaps are
//! not those of the whole table.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Notify;

/// A table's row.
pub(super) type Row = (&'static str, u64);

/// One statement of the model's little language; it prints itself as SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Begin,
    Commit,
    Rollback,
    Autocommit(bool),
    ReadCommitted,
    Read {
        table: &'static str,
        from: u64,
        to: u64,
    },
    Lock {
        row: Row,
    },
    Set {
        row: Row,
        value: u64,
    },
    Add {
        row: Row,
    },
    Insert {
        row: Row,
        value: u64,
    },
    Delete {
        row: Row,
    },
    /// INSERT … SELECT of one row.
    Copy {
        from: Row,
        to: &'static str,
    },
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => write!(f, "BEGIN"),
            Self::Commit => write!(f, "COMMIT"),
            Self::Rollback => write!(f, "ROLLBACK"),
            Self::Autocommit(on) => write!(f, "SET autocommit = {}", u8::from(*on)),
            Self::ReadCommitted => {
                write!(f, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            }
            Self::Read { table, from, to } => {
                write!(
                    f,
                    "SELECT id, v FROM {table} WHERE id BETWEEN {from} AND {to}"
                )
            }
            Self::Lock { row: (table, id) } => {
                write!(f, "SELECT id, v FROM {table} WHERE id = {id} FOR UPDATE")
            }
            Self::Set {
                row: (table, id),
                value,
            } => {
                write!(f, "UPDATE {table} SET v = {value} WHERE id = {id}")
            }
            Self::Add { row: (table, id) } => {
                write!(f, "UPDATE {table} SET v = v + 1 WHERE id = {id}")
            }
            Self::Insert {
                row: (table, id),
                value,
            } => {
                write!(f, "INSERT INTO {table} (id, v) VALUES ({id}, {value})")
            }
            Self::Delete { row: (table, id) } => write!(f, "DELETE FROM {table} WHERE id = {id}"),
            Self::Copy {
                from: (table, id),
                to,
            } => {
                write!(
                    f,
                    "INSERT INTO {to} SELECT id, v FROM {table} WHERE id = {id}"
                )
            }
        }
    }
}

/// What the database says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Ok(u64),
    Rows(Vec<(u64, u64)>),
    /// 1062
    Duplicate,
    /// 1213: the transaction is gone.
    Deadlock,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Database {
    state: Mutex<State>,
    released: Notify,
    /// Neighbouring keys that one lock covers.
    grain: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Of each row the committed values, each with the commit's number; `None`: deleted.
    rows: BTreeMap<Row, Vec<(u64, Option<u64>)>>,
    commits: u64,
    held: BTreeMap<Row, usize>,
    /// Who waits for whom.
    waits: BTreeMap<usize, usize>,
    lock_waits: u64,
}

impl Database {
    /// With these rows.
    pub(super) fn new(grain: u64, rows: impl IntoIterator<Item = (Row, u64)>) -> Arc<Self> {
        let rows = rows.into_iter();
        let rows = rows.map(|(row, value)| (row, vec![(0, Some(value))]));
        let state = State {
            rows: rows.collect(),
            ..State::default()
        };
        Arc::new(Self {
            state: Mutex::new(state),
            released: Notify::new(),
            grain,
        })
    }

    /// Every value that each row ever had, in the order of the commits.
    pub(super) fn versions(&self) -> BTreeMap<Row, Vec<Option<u64>>> {
        let state = self.state.lock();
        let values = |all: &Vec<(u64, Option<u64>)>| all.iter().map(|(_, value)| *value).collect();
        let rows = state.rows.iter();
        rows.map(|(row, all)| (*row, values(all))).collect()
    }

    /// How often somebody waited for a lock.
    pub(super) fn lock_waits(&self) -> u64 {
        self.state.lock().lock_waits
    }

    /// Takes the lock on a row; an error where that would close a circle.
    async fn lock(&self, who: usize, (table, id): Row) -> Result<(), ()> {
        let unit = (table, id / self.grain);
        let mut waited = false;
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            {
                let mut state = self.state.lock();
                let holder = *state.held.entry(unit).or_insert(who);
                state.waits.remove(&who);
                if holder == who {
                    return Ok(());
                }
                if state.closes_a_circle(who, holder) {
                    return Err(());
                }
                state.waits.insert(who, holder);
                state.lock_waits += u64::from(!waited);
                waited = true;
            }
            released.await;
        }
    }
}

impl State {
    fn closes_a_circle(&self, who: usize, mut holder: usize) -> bool {
        while let Some(next) = self.waits.get(&holder) {
            if *next == who {
                return true;
            }
            holder = *next;
        }
        false
    }

    fn value(&self, row: Row, upto: u64) -> Option<u64> {
        let versions = self.rows.get(&row)?.iter().rev();
        let mut seen = versions.skip_while(|(commit, _)| *commit > upto);
        seen.next().and_then(|(_, value)| *value)
    }
}

/// A session.
#[derive(Debug)]
pub(super) struct Connection {
    database: Arc<Database>,
    number: usize,
    autocommit: bool,
    keeps_snapshot: bool,
    open: bool,
    snapshot: Option<u64>,
    mine: BTreeMap<Row, Option<u64>>,
}

impl Connection {
    pub(super) fn new(database: &Arc<Database>, number: usize) -> Self {
        Self {
            database: Arc::clone(database),
            number,
            autocommit: true,
            keeps_snapshot: true,
            open: false,
            snapshot: None,
            mine: BTreeMap::new(),
        }
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.open
    }

    /// Runs one statement; waits for locks as long as it takes.
    pub(super) async fn run(&mut self, statement: Statement) -> Said {
        match statement {
            Statement::Begin => {
                self.commit();
                self.open = true;
            }
            Statement::Commit => self.commit(),
            Statement::Rollback => self.roll_back(),
            Statement::Autocommit(on) => {
                self.autocommit = on;
                if on {
                    self.commit();
                }
            }
            Statement::ReadCommitted => self.keeps_snapshot = false,
            Statement::Read { table, from, to } => {
                self.open |= !self.autocommit;
                return Said::Rows(self.read(table, from, to));
            }
            Statement::Lock { .. }
            | Statement::Set { .. }
            | Statement::Add { .. }
            | Statement::Insert { .. }
            | Statement::Delete { .. }
            | Statement::Copy { .. } => return self.write(statement).await,
        }
        Said::Ok(0)
    }

    async fn write(&mut self, statement: Statement) -> Said {
        self.open |= !self.autocommit;
        let (reads, row) = match statement {
            Statement::Lock { row }
            | Statement::Set { row, .. }
            | Statement::Add { row }
            | Statement::Insert { row, .. }
            | Statement::Delete { row } => (None, row),
            Statement::Copy { from, to } => (Some(from), (to, from.1)),
            _ => unreachable!("no write"),
        };
        for row in reads.into_iter().chain([row]) {
            if self.database.lock(self.number, row).await.is_err() {
                self.roll_back();
                return Said::Deadlock;
            }
        }
        let there = self.latest(row);
        let (said, value) = match statement {
            Statement::Lock { .. } => {
                let found = there.map(|value| (row.1, value));
                (Said::Rows(found.into_iter().collect()), None)
            }
            Statement::Set { value, .. } if there.is_some() => (Said::Ok(1), Some(Some(value))),
            Statement::Add { .. } if there.is_some() => {
                (Said::Ok(1), Some(there.map(|value| value + 1)))
            }
            Statement::Delete { .. } if there.is_some() => (Said::Ok(1), Some(None)),
            Statement::Insert { .. } | Statement::Copy { .. } if there.is_some() => {
                (Said::Duplicate, None)
            }
            Statement::Insert { value, .. } => (Said::Ok(1), Some(Some(value))),
            Statement::Copy { from, .. } => match self.latest(from) {
                Some(value) => (Said::Ok(1), Some(Some(value))),
                None => (Said::Ok(0), None),
            },
            _ => (Said::Ok(0), None),
        };
        if let Some(value) = value {
            self.mine.insert(row, value);
        }
        if !self.open {
            self.commit();
        }
        said
    }

    fn latest(&self, row: Row) -> Option<u64> {
        let committed = || self.database.state.lock().value(row, u64::MAX);
        self.mine.get(&row).copied().unwrap_or_else(committed)
    }

    fn read(&mut self, table: &'static str, from: u64, to: u64) -> Vec<(u64, u64)> {
        let state = self.database.state.lock();
        let upto = if self.open && self.keeps_snapshot {
            *self.snapshot.get_or_insert(state.commits)
        } else {
            state.commits
        };
        let value = |row: Row| {
            self.mine
                .get(&row)
                .copied()
                .unwrap_or_else(|| state.value(row, upto))
        };
        (from..=to)
            .filter_map(|id| Some((id, value((table, id))?)))
            .collect()
    }

    fn commit(&mut self) {
        let mut state = self.database.state.lock();
        state.commits += 1;
        let commit = state.commits;
        for (row, value) in std::mem::take(&mut self.mine) {
            state.rows.entry(row).or_default().push((commit, value));
        }
        drop(state);
        self.roll_back();
    }

    /// Lets all go that is not committed, and the locks.
    pub(super) fn roll_back(&mut self) {
        self.open = false;
        self.snapshot = None;
        self.mine.clear();
        let mut state = self.database.state.lock();
        state.waits.remove(&self.number);
        state.held.retain(|_, holder| *holder != self.number);
        drop(state);
        self.database.released.notify_waiters();
    }
}

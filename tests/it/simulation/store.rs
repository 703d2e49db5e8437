//! The rows that a fake server keeps: just enough SQL that a write which was lost, doubled or half
//! committed can be seen afterwards.
//!
//! What a transaction changed is the session's own until it commits. Sessions never wait for each
//! other: the scripts draw changes that come out the same in any order across sessions, so that
//! two servers differ only where one of them did not run what the other ran.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// By database and table: ids and values.
pub type Rows = BTreeMap<(String, String), BTreeMap<u64, i64>>;

/// One server's rows, shared by its connections.
pub type Store = Arc<Mutex<Rows>>;

/// The tables that every store has, in each of its databases.
pub const TABLES: [&str; 3] = ["t1", "t2", "t3"];

/// The database that clients log in to, and one that a limited shadow does not have.
pub const DATABASES: [&str; 2] = ["app", "spare"];

/// Rows that are there from the start, and never deleted.
pub const SHARED_IDS: u64 = 50;

/// What adding NULL does to a value, so that it shows.
const NULL_SHOWS: i64 = 1_000_003;

/// What a second INSERT of the same row does to it, should no key have refused it.
const DOUBLE_SHOWS: i64 = 1_000_000;

/// A server's rows at the start.
pub fn store() -> Store {
    let mut rows = Rows::new();
    for database in DATABASES {
        for table in TABLES {
            let key = (database.to_owned(), table.to_owned());
            rows.insert(key, (0..SHARED_IDS).map(|id| (id, 0)).collect());
        }
    }
    Arc::new(Mutex::new(rows))
}

/// What a server says to a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Ok {
        affected: u64,
    },
    Rows {
        columns: u8,
        rows: u32,
    },
    /// What a session is asked before it moves: LAST_INSERT_ID(), if that too, and its variable.
    Values {
        key: bool,
        variable: Option<i64>,
    },
    Failed(&'static Failure),
}

/// An error.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u16,
    pub sqlstate: &'static str,
    pub text: &'static str,
}

const fn failure(code: u16, sqlstate: &'static str, text: &'static str) -> Failure {
    Failure {
        code,
        sqlstate,
        text,
    }
}

const DUPLICATE: Failure = failure(1062, "23000", "Duplicate entry '1' for key 'PRIMARY'");
const MISSING: Failure = failure(1146, "42S02", "Table 'app.missing' doesn't exist");
const NO_SAVEPOINT: Failure = failure(1305, "42000", "SAVEPOINT s does not exist");
const NO_DATABASE: Failure = failure(1049, "42000", "Unknown database 'spare'");
const SYNTAX: Failure = failure(1105, "HY000", "syntax error at position 8 near ':='");
pub const NO_VALUES: Failure = failure(1210, "HY000", "Incorrect arguments to EXECUTE");
const UNKNOWN: Failure = failure(1243, "HY000", "Unknown prepared statement handler");

/// The answer to a login that is refused.
pub const ACCESS_DENIED: Failure = failure(1045, "28000", "Access denied for user 'app'");

/// Errors that a server may answer with for reasons of its own.
pub const DEADLOCK: Failure = failure(1213, "40001", "Deadlock found when trying to get lock");
pub const LOCK_WAIT: Failure = failure(1205, "HY000", "Lock wait timeout exceeded");
pub const ABORTED: Failure = failure(1105, "HY000", "vttablet: rpc error: transaction gone");
pub const ENDED: Failure = failure(1317, "70100", "transaction 12: ended at some time");
pub const COMMIT_FAILED: Failure = failure(1180, "HY000", "Got error 149 during COMMIT");

/// One session's state.
#[derive(Debug)]
pub struct Session {
    store: Store,
    /// It lacks a database and one spelling of SET, as other servers do.
    limited: bool,
    database: String,
    autocommit: bool,
    variable: Option<i64>,
    open: Option<Open>,
    /// By its id: the text, and the database whose tables it means.
    prepared: BTreeMap<u32, (String, String)>,
    /// The id of the first statement.
    first_id: u32,
}

/// The id of a connection's first statement, on servers that give all the same.
pub const FIRST_ID: u32 = 7;

#[derive(Debug, Default)]
struct Open {
    changes: Vec<Change>,
    savepoint: Option<usize>,
}

#[derive(Clone, Debug)]
struct Change {
    table: (String, String),
    id: u64,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Insert,
    Add(i64),
    Delete,
}

impl Session {
    pub fn new(store: Store, limited: bool) -> Self {
        Self {
            store,
            limited,
            database: String::new(),
            autocommit: true,
            variable: None,
            open: None,
            prepared: BTreeMap::new(),
            first_id: FIRST_ID,
        }
    }

    /// Statements of this connection have ids from this one on.
    pub fn with_ids_from(mut self, first_id: u32) -> Self {
        self.first_id = first_id;
        self
    }

    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    pub fn autocommit(&self) -> bool {
        self.autocommit
    }

    /// The database named in the login, or in USE.
    pub fn enter(&mut self, database: &str) -> Done {
        if self.limited && database == DATABASES[1] {
            return Done::Failed(&NO_DATABASE);
        }
        database.clone_into(&mut self.database);
        Done::Ok { affected: 0 }
    }

    /// RESET_CONNECTION.
    pub fn reset(&mut self) {
        let fresh = Self::new(Arc::clone(&self.store), self.limited);
        let database = std::mem::take(&mut self.database);
        *self = Self {
            database,
            first_id: self.first_id,
            ..fresh
        };
    }

    /// The statement's id.
    pub fn prepare(&mut self, text: &str) -> u32 {
        let last = self.prepared.last_key_value();
        let id = last.map_or(self.first_id, |(id, _)| id + 1);
        self.prepared
            .insert(id, (text.to_owned(), self.database.clone()));
        id
    }

    pub fn close_statement(&mut self, id: u32) {
        self.prepared.remove(&id);
    }

    /// All that a session is, but for what it has open.
    fn digest(&self) -> u64 {
        let all = format!(
            "{} {} {:?} {:?}",
            self.database, self.autocommit, self.variable, self.prepared
        );
        u64::from(all.bytes().fold(17_u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u32::from(byte))
        }))
    }

    /// Runs a prepared statement with this parameter.
    pub fn execute(&mut self, id: u32, parameter: u32) -> Done {
        match self.prepared.get(&id).cloned() {
            Some((text, database)) => {
                let own = std::mem::replace(&mut self.database, database);
                let done = self.run(&text.replace('?', &parameter.to_string()));
                self.database = own;
                done
            }
            None => Done::Failed(&UNKNOWN),
        }
    }

    /// The server gives the transaction up by itself.
    pub fn give_up(&mut self) {
        self.open = None;
    }

    /// Runs one statement.
    pub fn run(&mut self, text: &str) -> Done {
        let words: Vec<&str> = text.split_whitespace().collect();
        let touches_tables = matches!(words[0], "SELECT" | "UPDATE" | "INSERT" | "DELETE");
        if touches_tables && !self.autocommit && self.open.is_none() {
            self.open = Some(Open::default());
        }
        match words.as_slice() {
            ["BEGIN"] => {
                self.commit();
                self.open = Some(Open::default());
            }
            ["COMMIT"] => self.commit(),
            ["ROLLBACK"] => self.open = None,
            ["SAVEPOINT", _] => {
                if let Some(open) = &mut self.open {
                    open.savepoint = Some(open.changes.len());
                }
            }
            ["ROLLBACK", "TO", ..] => match &mut self.open {
                Some(Open {
                    changes,
                    savepoint: Some(at),
                }) => changes.truncate(*at),
                _ => return Done::Failed(&NO_SAVEPOINT),
            },
            ["SET", "autocommit", "=", value] => {
                self.autocommit = *value == "1";
                if self.autocommit {
                    self.commit();
                }
            }
            ["SET", "@a", ":=", _] if self.limited => return Done::Failed(&SYNTAX),
            ["SET", "@a", _, value] => self.variable = value.parse().ok(),
            ["USE", database] => return self.enter(database),
            ["STATE"] => {
                return Done::Ok {
                    affected: self.digest(),
                };
            }
            ["SELECT", .., "COLLATION(@a)"] => {
                return Done::Values {
                    key: text.contains("LAST_INSERT_ID()"),
                    variable: self.variable,
                };
            }
            ["SELECT", "@a", ":=", value] => {
                self.variable = value.parse().ok();
                return Done::Rows {
                    columns: 1,
                    rows: 1,
                };
            }
            ["SELECT", ..] => return select(text),
            ["UPDATE", table, .., "+", what, "WHERE", _, _, id] => {
                let by = if *what == "@a" {
                    self.variable.unwrap_or(NULL_SHOWS)
                } else {
                    what.parse().unwrap()
                };
                return self.change(table, id, How::Add(by));
            }
            ["INSERT", "INTO", table, .., id] => return self.change(table, id, How::Insert),
            ["DELETE", "FROM", table, .., id] => return self.change(table, id, How::Delete),
            _ => {}
        }
        Done::Ok { affected: 0 }
    }

    fn change(&mut self, table: &str, id: &str, how: How) -> Done {
        let table = (self.database.clone(), table.to_owned());
        let id = id.trim_matches(['(', ')', ',']).parse().unwrap();
        let there = self.has(&table, id);
        match how {
            How::Insert if there => return Done::Failed(&DUPLICATE),
            How::Add(_) | How::Delete if !there => return Done::Ok { affected: 0 },
            _ => {}
        }
        let change = Change { table, id, how };
        match &mut self.open {
            Some(open) => open.changes.push(change),
            None => apply(&mut self.store.lock().unwrap(), &change),
        }
        Done::Ok { affected: 1 }
    }

    /// Whether the session sees the row.
    fn has(&self, table: &(String, String), id: u64) -> bool {
        let rows = self.store.lock().unwrap();
        let committed = rows.get(table).is_some_and(|rows| rows.contains_key(&id));
        let mine = self.open.iter().flat_map(|open| &open.changes);
        mine.filter(|change| change.table == *table && change.id == id)
            .fold(committed, |there, change| match change.how {
                How::Insert => true,
                How::Delete => false,
                How::Add(_) => there,
            })
    }

    fn commit(&mut self) {
        let Some(open) = self.open.take() else { return };
        let mut rows = self.store.lock().unwrap();
        for change in &open.changes {
            apply(&mut rows, change);
        }
    }
}

fn apply(rows: &mut Rows, change: &Change) {
    let rows = rows.entry(change.table.clone()).or_default();
    match change.how {
        How::Insert => {
            let value = rows.entry(change.id).or_insert(-DOUBLE_SHOWS);
            *value += DOUBLE_SHOWS;
        }
        How::Add(by) => {
            if let Some(value) = rows.get_mut(&change.id) {
                *value += by;
            }
        }
        How::Delete => {
            rows.remove(&change.id);
        }
    }
}

/// Reads are answered by their text alone: they are not what the stores are for.
fn select(text: &str) -> Done {
    if text.contains("missing") {
        return Done::Failed(&MISSING);
    }
    let rows = text.rsplit("LIMIT ").next().and_then(|n| n.parse().ok());
    let columns = if text.contains("id, v") { 2 } else { 1 };
    Done::Rows {
        columns,
        rows: rows.unwrap_or(1),
    }
}

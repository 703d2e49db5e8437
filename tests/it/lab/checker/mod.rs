//! The checker of acknowledged writes: clients that keep their connections open, write all the time
//! and remember what they were told. What a server holds is then held against their memories
//! (`acknowledged`), and one server against the other.

mod client;
mod guests;
mod session;
mod tables;
mod tests;

pub use tables::{begin_anew, copy, held, set_up};

use super::client as options;
use crate::acknowledged::{self, Memory, Timed};
use client::Client;
use guests::Guests;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;

/// How many clients, and what they do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub clients: i64,
    /// Clients beside them, of other drivers, which are numbered after them.
    pub guests: i64,
    /// Acts a second, all clients together.
    pub rate: u32,
    /// Whether a client whose connection broke logs in again. Otherwise it ends.
    pub reconnects: bool,
}

impl Load {
    /// Accounts: so many that clients seldom wait for each other.
    fn accounts(self) -> i64 {
        self.clients * ACCOUNTS
    }

    /// All clients, whatever their driver.
    pub fn all(self) -> i64 {
        self.clients + self.guests
    }

    /// A client rests as long on average between two acts.
    fn rest(self) -> Duration {
        Duration::from_secs(self.clients.unsigned_abs()) / self.rate.max(1)
    }
}

/// Accounts for each client.
const ACCOUNTS: i64 = 4;

/// Lines that must not be there; the first of them are shown.
pub fn assert_none(what: &str, lines: &[String]) {
    let first = &lines[..lines.len().min(20)];
    assert!(
        lines.is_empty(),
        "{what} ({}):\n{}",
        lines.len(),
        first.join("\n")
    );
}

/// Running clients.
pub struct Checker {
    load: Load,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Memory>>,
    guests: Vec<Guests>,
}

impl Checker {
    /// All log in to `address`, and begin. The tables are there: `set_up`.
    pub async fn start(address: &str, load: Load) -> Self {
        Self::start_from(0, address, load).await
    }

    /// The same, numbered from `first`: checkers whose numbers differ share the tables, and no row. The
    /// first rows must be there for all of them.
    pub async fn start_from(first: i64, address: &str, load: Load) -> Self {
        let accounts = first * ACCOUNTS..first * ACCOUNTS + load.accounts();
        let mut checker = Self {
            load,
            stop: Arc::default(),
            clients: Vec::new(),
            guests: Vec::new(),
        };
        for number in first..first + load.clients {
            // Half of them choose their database after the login.
            let database = if number % 2 == 0 { "scratch" } else { "app" };
            let client = Client::new(number, accounts.clone(), options(address, database));
            let (session, client) = client.log_in().await.expect("the login");
            let stop = Arc::clone(&checker.stop);
            let run = client.run(session, stop, load.rest(), load.reconnects);
            checker.clients.push(tokio::spawn(run));
        }
        checker
    }

    /// The guests log in to `address` too, and begin: as many of each driver.
    pub fn invite(&mut self, address: &str, drivers: &[&str]) {
        let each = self.load.guests / i64::try_from(drivers.len().max(1)).expect("few drivers");
        let mut first = self.load.clients;
        for driver in drivers {
            let guests = Guests::start(driver, address, first, each);
            self.guests.push(guests);
            first += each;
        }
    }

    /// How many still work.
    pub fn working(&self) -> usize {
        let at_work = self.clients.iter().filter(|client| !client.is_finished());
        at_work.count()
    }

    /// Each client ends after its act.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut memories = Vec::new();
        for client in self.clients {
            memories.push(client.await.expect("a client does not panic"));
        }
        memories.extend(self.guests.into_iter().flat_map(Guests::stop));
        Report {
            load: self.load,
            memories,
        }
    }
}

/// What the clients remember.
pub struct Report {
    load: Load,
    memories: Vec<Memory>,
}

impl Report {
    /// What the clients of several checkers remember, whose numbers follow each other from 0.
    pub fn joined(reports: Vec<Self>) -> Self {
        let loads = || reports.iter().map(|report| report.load);
        let load = Load {
            clients: loads().map(|load| load.clients).sum(),
            guests: loads().map(|load| load.guests).sum(),
            rate: loads().map(|load| load.rate).sum(),
            reconnects: loads().any(|load| load.reconnects),
        };
        let memories = reports.into_iter().flat_map(|report| report.memories);
        Self {
            load,
            memories: memories.collect(),
        }
    }

    /// What they were refused, and where a connection broke.
    pub fn errors(&self) -> Vec<String> {
        let named = |memory: &Memory| {
            let client = memory.client;
            let errors = memory.errors.iter();
            errors
                .map(move |error| format!("client {client}: {error}"))
                .collect::<Vec<_>>()
        };
        self.memories.iter().flat_map(named).collect()
    }

    /// Answers that were wrong.
    pub fn wrong(&self) -> Vec<String> {
        let named = |memory: &Memory| {
            let client = memory.client;
            let wrong = memory.wrong.iter();
            wrong
                .map(move |wrong| format!("client {client}: {wrong}"))
                .collect::<Vec<_>>()
        };
        self.memories.iter().flat_map(named).collect()
    }

    /// What the server lacks of what was acknowledged, or holds beyond it.
    pub async fn verify(&self, address: &str) -> Vec<String> {
        let held = held(address, self.load.all()).await;
        acknowledged::judge(&self.memories, self.load.accounts(), &held)
    }

    /// Where the two servers hold different rows.
    pub async fn differences(&self, one: &str, other: &str) -> Vec<String> {
        let clients = self.load.all();
        let (one, other) = (held(one, clients).await, held(other, clients).await);
        acknowledged::differences(&one, &other)
    }

    /// The longest command of each client that had one under way at the time.
    pub fn met(&self, from: SystemTime, to: SystemTime) -> Vec<Duration> {
        acknowledged::met(self.commands(), from, to)
    }

    /// All commands' times.
    pub fn times(&self) -> Vec<Duration> {
        self.commands()
            .flatten()
            .map(|command| command.took)
            .collect()
    }

    fn commands(&self) -> impl Iterator<Item = &[Timed]> {
        self.memories.iter().map(|memory| &memory.commands[..])
    }

    pub fn writes(&self) -> usize {
        self.memories.iter().map(|memory| memory.writes.len()).sum()
    }

    /// Connections that broke, of all clients.
    pub fn broken(&self) -> u64 {
        let again = |memory: &Memory| memory.sessions.saturating_sub(1);
        self.memories.iter().map(again).sum()
    }

    pub fn print(&self) {
        let times = self.times();
        let [p50, p99, max] = [50, 99, 100].map(|percent| acknowledged::quantile(&times, percent));
        println!(
            "checker: {} clients, {} commands, {} writes, {} errors, {} broken connections, {} wrong answers; p50 {p50:?}, p99 {p99:?}, longest {max:?}",
            self.load.all(),
            times.len(),
            self.writes(),
            self.errors().len(),
            self.broken(),
            self.wrong().len(),
        );
    }
}

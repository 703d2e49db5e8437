//! One client: acts drawn by chance, each remembered with what came of it.

use super::session::Session;
use super::tables::id;
use crate::acknowledged::{Memory, Move, Outcome, Timed, Write};
use mysql_async::prelude::Queryable;
use mysql_async::{Error, Opts};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Why a command has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// An error packet.
    #[error("{1}")]
    Said(u16, String),
    /// The connection is of no use any more.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(said) => Self::Said(said.code, said.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// After these nothing was written: lock wait, deadlock, read-only, duplicate, no such table.
const NOTHING_WRITTEN: [u16; 6] = [1205, 1213, 1290, 1836, 1062, 1146];

impl Fault {
    /// What became of the one write that this was the answer to.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Said(code, _) if NOTHING_WRITTEN.contains(code) => Outcome::Refused,
            Self::Said(..) | Self::Broken(_) => Outcome::Unknown,
        }
    }

    /// After these the connection goes on.
    fn is_survived(&self) -> bool {
        // 1053: the session was told that it ends.
        matches!(self, Self::Said(code, _) if *code != 1053)
    }
}

/// See the module.
pub struct Client {
    opts: Opts,
    /// Those of its checker, between any two of which it moves amounts.
    accounts: Range<i64>,
    /// Whether it writes by prepared statements.
    prepares: bool,
    next: i64,
    random: StdRng,
    memory: Memory,
}

impl Client {
    pub fn new(number: i64, accounts: Range<i64>, opts: Opts) -> Self {
        Self {
            opts,
            accounts,
            prepares: number % 3 != 0,
            next: 0,
            random: StdRng::seed_from_u64(number.unsigned_abs()),
            memory: Memory::of(number),
        }
    }

    /// The first session.
    pub async fn log_in(mut self) -> Result<(Session, Self), Fault> {
        let session = Session::open(self.opts.clone()).await?;
        self.memory.sessions = 1;
        Ok((session, self))
    }

    /// Acts until told to stop.
    pub async fn run(
        mut self,
        mut session: Session,
        stop: Arc<AtomicBool>,
        rest: Duration,
        reconnects: bool,
    ) -> Memory {
        while !stop.load(Ordering::Relaxed) {
            if let Err(fault) = self.act(&mut session).await {
                self.memory.errors.push(fault.to_string());
                if !fault.is_survived() {
                    if !reconnects {
                        return self.memory;
                    }
                    let Some(another) = self.again(&stop).await else {
                        return self.memory;
                    };
                    session = another;
                }
            }
            tokio::time::sleep(rest.mul_f64(self.random.random_range(0.0..2.0))).await;
        }
        let _closed = session.conn.disconnect().await;
        self.memory
    }

    /// Another session, as soon as there is one to be had.
    async fn again(&mut self, stop: &AtomicBool) -> Option<Session> {
        while !stop.load(Ordering::Relaxed) {
            if let Ok(session) = Session::open(self.opts.clone()).await {
                self.memory.sessions += 1;
                return Some(session);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    async fn act(&mut self, session: &mut Session) -> Result<(), Fault> {
        match self.random.random_range(0..14) {
            0..2 => self.mark(session).await,
            2..4 => self.row(session).await,
            4..6 => self.count(session).await,
            6..9 => self.transfer(session).await,
            9..10 => self.key(session).await,
            10..11 => self.read_back(session).await,
            11..12 => self.set_mark(session).await,
            _ => self.state(session).await,
        }
    }

    fn next(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    /// Waits for a command, and remembers how long.
    async fn timed<T, E: Into<Fault>>(
        &mut self,
        command: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Fault> {
        let (began, clock) = (SystemTime::now(), Instant::now());
        let answer = command.await.map_err(Into::into);
        self.memory.commands.push(Timed {
            began,
            took: clock.elapsed(),
        });
        answer
    }

    /// Remembers what became of a write outside of transactions.
    fn remember(&mut self, write: Write, done: Result<(), Fault>) -> Result<(), Fault> {
        let outcome = match &done {
            Ok(()) => Outcome::Acknowledged,
            Err(fault) => fault.outcome(),
        };
        self.memory.remember(write, outcome);
        done
    }

    async fn mark(&mut self, session: &mut Session) -> Result<(), Fault> {
        let (client, n) = (self.memory.client, self.next());
        let done = if self.prepares {
            let statement = &session.prepared.mark;
            self.timed(session.conn.exec_drop(statement, (client, n)))
                .await
        } else {
            let insert = format!("INSERT INTO checker_marks (client, n) VALUES ({client}, {n})");
            self.timed(session.conn.query_drop(insert)).await
        };
        self.remember(Write::Mark(n), done)
    }

    async fn row(&mut self, session: &mut Session) -> Result<(), Fault> {
        let (client, n) = (self.memory.client, self.next());
        let id = id(client, n);
        let done = if self.prepares {
            let statement = &session.prepared.row;
            self.timed(session.conn.exec_drop(statement, (id, client, n)))
                .await
        } else {
            let insert = format!(
                "INSERT INTO app.checker_rows (id, client, n) VALUES ({id}, {client}, {n})"
            );
            self.timed(session.conn.query_drop(insert)).await
        };
        self.remember(Write::Row(n), done)
    }

    async fn count(&mut self, session: &mut Session) -> Result<(), Fault> {
        let client = self.memory.client;
        let done = if self.prepares {
            let statement = &session.prepared.count;
            self.timed(session.conn.exec_drop(statement, (client,)))
                .await
        } else {
            let update = format!("UPDATE checker_counters SET n = n + 1 WHERE client = {client}");
            self.timed(session.conn.query_drop(update)).await
        };
        self.remember(Write::Count, done)
    }

    async fn key(&mut self, session: &mut Session) -> Result<(), Fault> {
        let (client, n) = (self.memory.client, self.next());
        let insert = format!("INSERT INTO checker_keys (client, n) VALUES ({client}, {n})");
        let done = self.timed(session.conn.query_drop(insert)).await;
        let id = done
            .is_ok()
            .then(|| session.conn.last_insert_id())
            .flatten();
        if id.is_some() {
            session.last_id = id;
        }
        let id = id.map(|id| i64::try_from(id).expect("a small key"));
        self.remember(Write::Key(n, id), done)
    }

    /// What was counted is read back from whoever is the primary.
    async fn read_back(&mut self, session: &mut Session) -> Result<(), Fault> {
        let client = self.memory.client;
        let statement = &session.prepared.counted;
        let said: Option<i64> = self
            .timed(session.conn.exec_first(statement, (client,)))
            .await?;
        let (least, most) = self.memory.counted();
        if !said.is_some_and(|n| (least..=most).contains(&n)) {
            let wrong = format!("the counter says {said:?}, and should {least} to {most}");
            self.memory.wrong.push(wrong);
        }
        Ok(())
    }

    async fn set_mark(&mut self, session: &mut Session) -> Result<(), Fault> {
        let mark = self.next();
        self.timed(session.set_mark(mark)).await
    }

    async fn state(&mut self, session: &mut Session) -> Result<(), Fault> {
        let lost = self.timed(session.lost()).await?;
        self.memory.wrong.extend(lost);
        let lost = self.timed(session.lost_last_id()).await?;
        self.memory.wrong.extend(lost);
        Ok(())
    }

    async fn transfer(&mut self, session: &mut Session) -> Result<(), Fault> {
        let n = self.next();
        let (first, number) = (self.accounts.start, self.accounts.end - self.accounts.start);
        let one = self.random.random_range(0..number);
        let other = (one + self.random.random_range(1..number)) % number;
        let (source, target) = (first + one, first + other);
        let transfer = Move {
            id: id(self.memory.client, n),
            source,
            target,
            amount: self.random.random_range(1..10),
        };
        if let Err(fault) = self.pay(session, transfer).await {
            // It was never told to commit.
            self.memory
                .remember(Write::Transfer(transfer), Outcome::Refused);
            if fault.is_survived() {
                self.timed(session.conn.query_drop("ROLLBACK")).await?;
            }
            return Err(fault);
        }
        let done = self.timed(session.conn.query_drop("COMMIT")).await;
        // Of a COMMIT that was refused only the server knows what became.
        let outcome = if done.is_ok() {
            Outcome::Acknowledged
        } else {
            Outcome::Unknown
        };
        self.memory.remember(Write::Transfer(transfer), outcome);
        done
    }

    /// All of a transfer but its COMMIT.
    async fn pay(&mut self, session: &mut Session, transfer: Move) -> Result<(), Fault> {
        let Move {
            id,
            source,
            target,
            amount,
        } = transfer;
        self.timed(session.conn.query_drop("BEGIN")).await?;
        let lock = format!(
            "SELECT id, balance FROM checker_accounts WHERE id IN ({source}, {target}) ORDER BY id FOR UPDATE"
        );
        let found: Vec<(i64, i64)> = self.timed(session.conn.query(lock)).await?;
        if found.len() != 2 {
            let wrong = format!("of accounts {source} and {target} there is {found:?}");
            self.memory.wrong.push(wrong);
        }
        for statement in [
            format!("UPDATE checker_accounts SET balance = balance - {amount} WHERE id = {source}"),
            format!("UPDATE checker_accounts SET balance = balance + {amount} WHERE id = {target}"),
            format!(
                "INSERT INTO checker_moves (id, source, target, amount) VALUES ({id}, {source}, {target}, {amount})"
            ),
        ] {
            self.timed(session.conn.query_drop(statement)).await?;
        }
        Ok(())
    }
}

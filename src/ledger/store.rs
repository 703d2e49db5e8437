//! The SQLite file: opened, checked, written by one thread, closed with a mark.
//!
//! The writer takes what waits in batches. A file that is locked or full for a while is tried
//! again with growing pauses; after that findings are counted as lost, while taints wait on.

use super::log::Log;
use super::redact::Entry;
use super::schema::{self, Unfit};
use super::taints::Taint;
use super::write::{self, Batch};
use crate::config;
use crate::sql::Table;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a batch is collected, and how often ages and sizes are looked at when all is quiet.
const BATCH_WAIT: Duration = Duration::from_millis(200);
const BATCH_MAX: usize = 256;

/// How long SQLite waits for a lock in one try, and the pauses between tries.
const BUSY: Duration = Duration::from_millis(250);
const PAUSES_MS: [u64; 4] = [100, 300, 900, 2000];

/// Messages other than findings that wait while the file cannot be written.
const KEPT_MAX: usize = 10_000;

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened or read.
    #[error(
        "the ledger {path} cannot be read: {fault}. If it is not a ledger of understudy, set ledger.path to another file; if it is damaged, move it aside and restore a copy"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        fault: String,
    },
    /// A later version of understudy wrote it.
    #[error(
        "the ledger {path} was written by a later version of understudy (its schema is {version}); start that version, or set ledger.path to another file"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's schema version.
        version: usize,
    },
    /// The writer's thread cannot be started.
    #[error("the ledger's thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Message {
    Divergence(Box<Entry>),
    Taint(Vec<Taint>),
    Cleared {
        tables: Vec<Taint>,
        who: String,
        why: String,
    },
    Wrote(Vec<Table>),
    Traffic(Vec<(String, &'static str, u64)>),
    Patch {
        id: i64,
        patch: super::FindingPatch,
        reply: SyncSender<Result<bool, String>>,
    },
    /// Let the file grow to so many pages.
    #[cfg(test)]
    Limit(u32),
    /// End, with the mark of a clean stop.
    Close,
    /// End, without it.
    Abandon,
}

/// How the ledger is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// Whether the last write worked; true before the first.
    pub ok: bool,
    /// Divergences that were counted but could not be kept.
    pub lost: u64,
    /// Lines of the divergence log that could not be written.
    pub log_lost: u64,
    /// What waits for the writer.
    pub queued: u64,
    /// What went wrong last; null once a write works again.
    pub last_error: Option<String>,
    /// The file; null for a ledger in memory.
    pub path: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Vitals {
    pub(super) lost: AtomicU64,
    log_lost: AtomicU64,
    queued: AtomicU64,
    fault: Mutex<Option<String>>,
}

/// The writer's end and the readers' way in.
#[derive(Debug)]
pub(super) struct Store {
    sender: SyncSender<Message>,
    path: PathBuf,
    vitals: Arc<Vitals>,
    thread: Mutex<Option<JoinHandle<()>>>,
    reader: Mutex<Option<Connection>>,
}

/// What an opened file already knew.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) taints: Vec<Taint>,
    pub(super) mirrored: Vec<Table>,
}

impl Store {
    /// Opens the file, or makes it, and starts the writer. `commands` are all commands of this
    /// run, for shares.
    pub(super) fn open(config: &config::Ledger) -> Result<(Self, Known), LedgerError> {
        let unreadable = |fault: rusqlite::Error| LedgerError::Unreadable {
            path: config.path.clone(),
            fault: fault.to_string(),
        };
        let mut connection = connect(&config.path).map_err(unreadable)?;
        schema::migrate(&mut connection).map_err(|unfit| match unfit {
            Unfit::Sqlite(fault) => unreadable(fault),
            Unfit::Newer(version) => LedgerError::Newer {
                path: config.path.clone(),
                version,
            },
        })?;
        let known = write::begin(&mut connection).map_err(unreadable)?;
        let (sender, receiver) = sync_channel(config.queue.max(1));
        let vitals = Arc::new(Vitals::default());
        let writer = Writer {
            connection,
            receiver,
            limits: config.clone(),
            log: config
                .log
                .as_ref()
                .map(|path| Log::new(path, config.log_bytes, config.log_files)),
            vitals: Arc::clone(&vitals),
            kept: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run())
            .map_err(LedgerError::Thread)?;
        let store = Self {
            sender,
            path: config.path.clone(),
            vitals,
            thread: Mutex::new(Some(thread)),
            reader: Mutex::new(None),
        };
        Ok((store, known))
    }

    /// Hands a message to the writer, or counts it as lost.
    pub(super) fn tell(&self, message: Message) {
        self.vitals.queued.fetch_add(1, Ordering::Relaxed);
        if let Err(refused) = self.sender.try_send(message) {
            self.vitals.queued.fetch_sub(1, Ordering::Relaxed);
            let (TrySendError::Full(message) | TrySendError::Disconnected(message)) = refused;
            if matches!(message, Message::Divergence(_)) {
                self.vitals.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Asks the writer to change a finding. Waits for it: not for the shadow's threads.
    pub(super) fn patch(&self, id: i64, patch: super::FindingPatch) -> Result<bool, String> {
        let (reply, answer) = sync_channel(1);
        self.vitals.queued.fetch_add(1, Ordering::Relaxed);
        self.sender
            .send(Message::Patch { id, patch, reply })
            .map_err(|_| "the ledger is closed".to_owned())?;
        answer
            .recv_timeout(Duration::from_secs(10))
            .map_err(|_| "the ledger's file cannot be written now; try again".to_owned())?
    }

    /// Reads with a connection of the readers' own, which writers never block.
    pub(super) fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, String> {
        let mut reader = self.reader.lock();
        let connection = match reader.take() {
            Some(connection) => connection,
            None => open_reader(&self.path).map_err(|fault| fault.to_string())?,
        };
        let answer = ask(&connection).map_err(|fault| fault.to_string());
        if answer.is_ok() {
            *reader = Some(connection);
        }
        answer
    }

    pub(super) fn health(&self) -> Health {
        let fault = self.vitals.fault.lock().clone();
        Health {
            ok: fault.is_none(),
            lost: self.vitals.lost.load(Ordering::Relaxed),
            log_lost: self.vitals.log_lost.load(Ordering::Relaxed),
            queued: self.vitals.queued.load(Ordering::Relaxed),
            last_error: fault,
            path: Some(self.path.display().to_string()),
        }
    }

    /// Lets the writer end when it has written what waits, without the mark.
    pub(super) fn abandon(&self) {
        let _running = self.sender.try_send(Message::Abandon);
    }

    /// Writes what waits, sets the mark of a clean stop and ends the writer.
    pub(super) fn close(&self) {
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        if self.sender.send(Message::Close).is_ok() {
            let _ended = thread.join();
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")?;
    Ok(connection)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    Ok(connection)
}

struct Writer {
    connection: Connection,
    receiver: Receiver<Message>,
    limits: config::Ledger,
    log: Option<Log>,
    vitals: Arc<Vitals>,
    /// Taints and the like that could not be written yet.
    kept: Vec<Message>,
}

impl Writer {
    fn run(mut self) {
        loop {
            let (messages, end) = self.collect();
            self.write(messages);
            match end {
                None => {}
                Some(Message::Close) => return self.mark(),
                Some(_) => return,
            }
        }
    }

    fn mark(&self) {
        if !self.kept.is_empty() {
            tracing::error!(
                "taints could not be written; the next start will taint every mirrored table"
            );
        } else if let Err(fault) = write::end(&self.connection) {
            tracing::error!(%fault, "the ledger could not be marked as closed; the next start will taint every mirrored table");
        }
    }

    /// What waits now, at most a batch, and the message that ends the writer.
    fn collect(&self) -> (Vec<Message>, Option<Message>) {
        let mut messages = Vec::new();
        let mut wait = BATCH_WAIT;
        while messages.len() < BATCH_MAX {
            match self.receiver.recv_timeout(wait) {
                Ok(end @ (Message::Close | Message::Abandon)) => return (messages, Some(end)),
                Err(RecvTimeoutError::Disconnected) => return (messages, Some(Message::Abandon)),
                Ok(message) => messages.push(message),
                Err(RecvTimeoutError::Timeout) => break,
            }
            // Taints are written at once; findings wait for company.
            let urgent = !matches!(messages.last(), Some(Message::Divergence(_)));
            wait = if urgent {
                Duration::ZERO
            } else {
                Duration::from_millis(20)
            };
        }
        (messages, None)
    }

    fn write(&mut self, messages: Vec<Message>) {
        let fresh = messages.len() as u64;
        let mut batch = Batch::new(std::mem::take(&mut self.kept), messages);
        let mut pauses = PAUSES_MS.iter();
        loop {
            match write::batch(&mut self.connection, &batch, &self.limits) {
                Ok(lines) => {
                    *self.vitals.fault.lock() = None;
                    self.append(&lines);
                    batch.answer(&Ok(()));
                    break;
                }
                Err(fault) => {
                    self.failed(&fault);
                    let Some(pause) = pauses.next() else {
                        self.give_up(batch, &fault);
                        break;
                    };
                    std::thread::sleep(Duration::from_millis(*pause));
                }
            }
        }
        self.vitals.queued.fetch_sub(fresh, Ordering::Relaxed);
    }

    fn failed(&self, fault: &rusqlite::Error) {
        let mut known = self.vitals.fault.lock();
        if known.is_none() {
            tracing::warn!(%fault, path = %self.limits.path.display(), "the ledger cannot be written; findings are counted, and kept again once it can");
        }
        *known = Some(fault.to_string());
    }

    /// Findings are lost and counted; what says which tables are not to be trusted is kept.
    fn give_up(&mut self, mut batch: Batch, fault: &rusqlite::Error) {
        batch.answer(&Err(fault.to_string()));
        let lost = batch.divergences();
        self.vitals.lost.fetch_add(lost, Ordering::Relaxed);
        self.kept = batch.into_lasting(KEPT_MAX);
    }

    fn append(&mut self, lines: &[String]) {
        let Some(log) = &mut self.log else { return };
        if lines.is_empty() {
            return;
        }
        if let Err(fault) = log.append(&lines.concat()) {
            let before = self
                .vitals
                .log_lost
                .fetch_add(lines.len() as u64, Ordering::Relaxed);
            if before == 0 {
                tracing::warn!(%fault, "the divergence log cannot be written; lost lines are counted");
            }
        }
    }
}

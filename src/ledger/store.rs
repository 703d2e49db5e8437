//! The way to the SQLite file: a bounded queue to its one writer, and a connection for readers.

use super::file::{may_pass, open_reader};
use super::guard::Guard;
use super::lasting::Lasting;
use super::redact::Entry;
use super::schema::{self, Unfit};
use super::writer::Writer;
use super::{Changed, FindingPatch};
use crate::config;
use parking_lot::Mutex;
use rusqlite::Connection;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

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
    /// Another process has it.
    #[error(
        "the ledger {path} is in use by {by}: stop that one, have this one take over from it (`understudy serve --take-over`), or set ledger.path (and ledger.log) to other files"
    )]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who, as far as its lock file tells.
        by: String,
    },
    /// The writer's thread cannot be started.
    #[error("the ledger's thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
}

impl LedgerError {
    fn of(path: &Path, unfit: Unfit) -> Self {
        let path = path.to_owned();
        match unfit {
            Unfit::Newer(version) => Self::Newer { path, version },
            Unfit::Sqlite(fault) => Self::Unreadable {
                path,
                fault: fault.to_string(),
            },
        }
    }
}

/// Whether `serve` could use this file, as far as can be told without touching it. One that is
/// locked may be fine.
pub fn inspect(path: &Path) -> Result<(), LedgerError> {
    if !path.exists() {
        return Ok(());
    }
    let looked = open_reader(path)
        .map_err(Unfit::Sqlite)
        .and_then(|connection| schema::fits(&connection));
    match looked {
        Err(unfit) if !may_pass(&unfit) => Err(LedgerError::of(path, unfit)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a process has the ledger at this path, at this moment.
#[must_use]
pub fn is_in_use(path: &Path) -> bool {
    super::guard::is_held(path)
}

/// How long a change of triage waits for the writer, and then for the writer's tries.
const PATCH_WAIT: Duration = Duration::from_secs(8);
const PATCH_TRIES: Duration = Duration::from_secs(8);

/// How long a reader waits for the tallies of this moment.
const TALLIES_WAIT: Duration = Duration::from_secs(2);

/// What only one of two may do.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Whether it is ours: the first to ask has it.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// A change that an operator asks for, and waits for.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Finding {
        id: i64,
        patch: FindingPatch,
    },
    AddRule(config::Rule),
    DeleteRule {
        id: i64,
        who: String,
        why: String,
    },
    /// Nothing but that it was asked for.
    Audited(Box<super::Audited>),
    /// Something was done that the file holds nothing else of.
    Note {
        who: String,
        what: String,
    },
}

impl Change {
    /// Whether other rules hold after it.
    pub(super) const fn is_of_rules(&self) -> bool {
        matches!(self, Self::AddRule(_) | Self::DeleteRule { .. })
    }
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Message {
    Divergence(Box<Entry>),
    /// A look at the statistics of one statement.
    Look(Box<super::slow::Look>),
    /// How both servers run a statement that diverged.
    Plans(Box<super::Plans>),
    /// There is something that must last.
    Wake,
    /// The tallies are to be stored; and who waits for that.
    Tallies(Option<SyncSender<()>>),
    /// Differences followed from a taint.
    Followed,
    Change {
        change: Change,
        /// Taken once: by the writer, which then makes the change, or by whoever waits and then
        /// gives up.
        claim: Claim,
        reply: SyncSender<Result<Changed<i64>, String>>,
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
    /// Findings that were let go though an operator had to judge them, for there were more than
    /// `ledger.findings_max`; since the file was made.
    pub evicted: u64,
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
    pub(super) log_lost: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) queued: AtomicU64,
    fault: Mutex<Option<String>>,
    /// The token of the process that the ledger is left to.
    heir: Mutex<Option<String>>,
    /// The token by which it was left to this one, until all is taken in that its clients said before.
    own: Mutex<Option<String>>,
}

impl Vitals {
    /// What went wrong last; `None` once a write works again.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }

    pub(super) fn set_fault(&self, fault: Option<String>) {
        *self.fault.lock() = fault;
    }

    /// To whom it is left.
    pub(super) fn heir(&self) -> Option<String> {
        self.heir.lock().clone()
    }

    /// The token of the process whose clients write what nobody has taken in: should this one end now, nobody would know
    /// what.
    pub(super) fn lent(&self) -> Option<String> {
        self.heir().or_else(|| self.own.lock().clone())
    }
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

impl Store {
    /// Opens the file, or makes it, and starts the writer. A file that is locked or whose disk is
    /// full is no reason to fail: the writer asks again. `heir`: the token by which it was left to this process.
    pub(super) fn open(
        config: &config::Ledger,
        rules: &config::Live<Vec<config::Rule>>,
        feeds: bool,
        lasting: &Arc<Lasting>,
        heir: Option<&str>,
    ) -> Result<Self, LedgerError> {
        let guard = Guard::take(&config.path, heir).map_err(|held| LedgerError::InUse {
            path: config.path.clone(),
            by: held.by.map_or_else(
                || "another process".to_owned(),
                |pid| format!("another understudy (process {pid})"),
            ),
        })?;
        let vitals = Arc::new(Vitals {
            own: Mutex::new(heir.map(str::to_owned)),
            ..Vitals::default()
        });
        let mut writer = Writer::new(
            config,
            feeds,
            guard,
            Arc::clone(lasting),
            Arc::clone(&vitals),
        )
        .with_rules(rules);
        match writer.ready().map(drop) {
            Ok(()) => {}
            Err(unfit) if may_pass(&unfit) => writer.failed(&unfit.to_string()),
            Err(unfit) => {
                writer.give_back();
                return Err(LedgerError::of(&config.path, unfit));
            }
        }
        let (sender, receiver) = sync_channel(config.queue.max(1));
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(LedgerError::Thread)?;
        Ok(Self {
            sender,
            path: config.path.clone(),
            vitals,
            thread: Mutex::new(Some(thread)),
            reader: Mutex::new(None),
        })
    }

    /// Hands a message to the writer, or counts it as lost; whether it was handed over.
    pub(super) fn tell(&self, message: Message) -> bool {
        self.vitals.queued.fetch_add(1, Ordering::Relaxed);
        let told = self.sender.try_send(message);
        let is_told = told.is_ok();
        if let Err(refused) = told {
            self.vitals.queued.fetch_sub(1, Ordering::Relaxed);
            let (TrySendError::Full(message) | TrySendError::Disconnected(message)) = refused;
            if matches!(message, Message::Divergence(_)) {
                self.vitals.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        is_told
    }

    /// Asks the writer for a change. Waits for it: not for the shadow's threads. After an error
    /// nothing was changed, nor will be, unless the error says that this is not known.
    pub(super) fn change(&self, change: Change) -> Result<Changed<i64>, String> {
        const LATER: &str =
            "the ledger's file cannot be written now; nothing was changed, try again";
        let (reply, answer) = sync_channel(1);
        let claim = Claim::default();
        let message = Message::Change {
            change,
            claim: claim.clone(),
            reply,
        };
        self.vitals.queued.fetch_add(1, Ordering::Relaxed);
        if let Err(refused) = self.sender.try_send(message) {
            self.vitals.queued.fetch_sub(1, Ordering::Relaxed);
            return Err(match refused {
                TrySendError::Full(_) => LATER.to_owned(),
                TrySendError::Disconnected(_) => "the ledger is closed".to_owned(),
            });
        }
        match answer.recv_timeout(PATCH_WAIT) {
            Ok(done) => done,
            Err(_) if claim.take() => Err(LATER.to_owned()),
            Err(_) => answer.recv_timeout(PATCH_TRIES).map_err(|_| {
                "the ledger's file hangs; whether the change was made is not known".to_owned()
            })?,
        }
    }

    /// Has the tallies of this moment stored. Waits for it, a while at most: not for the shadow's
    /// threads. Where the file cannot be written, or the queue is full, it has older ones.
    pub(super) fn store_tallies(&self) {
        let (reply, stored) = sync_channel(1);
        if self.tell(Message::Tallies(Some(reply))) {
            let _older = stored.recv_timeout(TALLIES_WAIT);
        }
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

    /// Divergences that could not be kept, since the start.
    pub(super) fn lost(&self) -> u64 {
        self.vitals.lost.load(Ordering::Relaxed)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn health(&self) -> Health {
        let fault = self.vitals.fault();
        Health {
            ok: fault.is_none(),
            lost: self.vitals.lost.load(Ordering::Relaxed),
            log_lost: self.vitals.log_lost.load(Ordering::Relaxed),
            evicted: self.vitals.evicted.load(Ordering::Relaxed),
            queued: self.vitals.queued.load(Ordering::Relaxed),
            last_error: fault,
            path: Some(self.path.display().to_string()),
        }
    }

    /// Lets the writer end when it has written what waits, without the mark.
    pub(super) fn abandon(&self) {
        let _running = self.sender.try_send(Message::Abandon);
    }

    /// The process with this token goes on with it once it is closed.
    pub(super) fn is_left_to(&self, heir: Option<&str>) {
        *self.vitals.heir.lock() = heir.map(str::to_owned);
    }

    /// All is taken in that this process' clients said before it had the ledger.
    pub(super) fn is_caught_up(&self) {
        *self.vitals.own.lock() = None;
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

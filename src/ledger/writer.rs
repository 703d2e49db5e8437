//! The one thread that writes: what waits, in batches, and then the mark of a clean stop.
//!
//! A file that is locked or full for a while is tried again with growing pauses; after that
//! findings are counted as lost, while what must last waits on in memory.

use super::file::{File, Known};
use super::guard::Guard;
use super::lasting::{Lasting, Unsaved};
use super::log::Log;
use super::rulebook;
use super::rules::Rules;
use super::schema::Unfit;
use super::store::{Message, Vitals};
use super::write::{self, Batch, Written};
use crate::config::{self, Live};
use crate::sql::Table;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;
use tokio::time::Instant;

/// How long a batch is collected.
const BATCH_WAIT: Duration = Duration::from_millis(200);
const BATCH_MAX: usize = 256;

/// The pauses between tries.
const PAUSES_MS: [u64; 4] = [100, 300, 900, 2000];

/// Ages and sizes are looked at after so long, or so many findings.
const PRUNE_PAUSE: Duration = Duration::from_secs(5);
const PRUNE_AFTER: u64 = 256;

/// The cause of a taint that stands for a process that took over and ended before it had the ledger.
const ORPHANED: &str = "gap: the process that had taken over ended before it had the ledger, what its clients wrote was not mirrored";

/// The cause of a taint that stands for a stop that was not clean.
const GAP: &str = "gap: understudy ended without a clean stop, queued dark writes may be lost";

/// See the module.
pub(super) struct Writer {
    limits: config::Ledger,
    /// Whether the mirror feeds the shadow: else no dark write is ever missing there.
    feeds: bool,
    guard: Guard,
    file: File,
    log: Option<Log>,
    lasting: Arc<Lasting>,
    vitals: Arc<Vitals>,
    /// The config's rules.
    configured: Live<Vec<config::Rule>>,
    /// All rules, once the file was read, and those of the config that are among them.
    rules: Option<(Rules, Arc<Vec<config::Rule>>)>,
    pruned: Instant,
    unpruned: u64,
    /// Rules that ended have more to give back, which does not wait for its time.
    gives_back: bool,
    /// By the lock's word, the clients of the process with this token write what nobody has taken in.
    lent: Option<String>,
}

/// Why a batch is not in the file.
type Fault = String;

impl Writer {
    pub(super) fn new(
        limits: &config::Ledger,
        feeds: bool,
        guard: Guard,
        lasting: Arc<Lasting>,
        vitals: Arc<Vitals>,
    ) -> Self {
        let log = limits.log.as_ref();
        let lent = vitals.lent();
        Self {
            file: File::new(&limits.path),
            log: log.map(|path| Log::new(path, limits.log_bytes.clone(), limits.log_files.clone())),
            limits: limits.clone(),
            feeds,
            guard,
            lasting,
            vitals,
            configured: Live::default(),
            rules: None,
            pruned: Instant::now(),
            unpruned: 0,
            gives_back: false,
            lent,
        }
    }

    /// With the config's rules.
    pub(super) fn with_rules(mut self, rules: &Live<Vec<config::Rule>>) -> Self {
        self.configured = rules.clone();
        self
    }

    /// Opens the file where it is not open yet, and loads what it knows; the rules too.
    pub(super) fn ready(&mut self) -> Result<(&mut rusqlite::Connection, &mut Rules), Unfit> {
        let (unclean, orphaned) = (self.guard.was_unclean(), self.guard.was_orphaned());
        let (lasting, feeds) = (&self.lasting, self.feeds);
        let vitals = &self.vitals;
        let connection = self.file.ready(|known| {
            vitals.evicted.store(known.evicted, Ordering::Relaxed);
            load(lasting, known, feeds, unclean);
            if feeds && orphaned {
                let any = Table {
                    database: None,
                    name: "*".to_owned(),
                };
                let now = jiff::Timestamp::now();
                lasting.taints.add(&[any], &ORPHANED.into(), now);
            }
        })?;
        let configured = self.configured.whole();
        let known = self.rules.take();
        let rules = match known.filter(|(_, of)| Arc::ptr_eq(of, &configured)) {
            Some(known) => known,
            None => (rulebook::sync(connection, &configured)?, configured),
        };
        Ok((connection, &mut self.rules.insert(rules).0))
    }

    /// There will be no writer: the stop before this one was as clean as it was.
    pub(super) fn give_back(self) {
        self.guard.give_back();
    }

    /// Writes until told to end.
    pub(super) fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let (messages, end) = collect(receiver);
            let is_over = self.lend();
            let waited = messages.len() as u64;
            let asked = messages
                .iter()
                .any(|one| matches!(one, Message::Tallies(_)));
            let waiting = waiting(&messages);
            self.write(Batch::new(messages), asked || end.is_some());
            for reply in waiting {
                let _waiting = reply.try_send(());
            }
            self.vitals.queued.fetch_sub(waited, Ordering::Relaxed);
            // What came of it is in the file.
            if is_over && self.vitals.fault().is_none() {
                self.guard.set_lent(None);
                self.lent = None;
            }
            match end {
                None => {}
                Some(Message::Close) => return self.mark(),
                Some(_) => return,
            }
        }
    }

    /// Writes down whose clients write what nobody has taken in, where that is new. Whether nobody's do any more, which is
    /// not written down yet.
    fn lend(&mut self) -> bool {
        let lent = self.vitals.lent();
        if lent.is_some() && self.lent != lent {
            self.guard.set_lent(lent.as_deref());
            self.lent.clone_from(&lent);
        }
        lent.is_none() && self.lent.is_some()
    }

    /// Sets the mark of a clean stop, if the file has all that must last.
    fn mark(&mut self) {
        let unsaved = self.lasting.take(true);
        let lacking = unsaved.is_urgent() || self.vitals.fault().is_some();
        let marked = match self.ready() {
            Ok(_) if lacking => Err("taints could not be written".to_owned()),
            Ok((connection, _)) => {
                let ended = write::end(connection).map_err(|fault| fault.to_string());
                if ended.is_ok() && !matches!(write::fold(connection), Ok(true)) {
                    tracing::warn!(
                        "the ledger's newest entries stay in the -wal file beside it: whoever copies it takes both"
                    );
                }
                ended
            }
            Err(unfit) => Err(unfit.to_string()),
        };
        match marked {
            Ok(()) => self.guard.set_clean(self.vitals.heir().as_deref()),
            Err(fault) => {
                tracing::error!(%fault, "the ledger could not be marked as closed; the next start will taint every mirrored table");
            }
        }
    }

    fn write(&mut self, batch: Batch, with_tallies: bool) {
        let mut pauses = PAUSES_MS.iter();
        // While the file is known to be at fault one try is enough, for the queue fills meanwhile.
        let known = self.vitals.fault().is_some();
        loop {
            match self.attempt(&batch, with_tallies) {
                Ok(written) => {
                    self.vitals.set_fault(None);
                    for noted in &written.noted {
                        tracing::warn!("{}", noted.0);
                    }
                    for noted in &written.good {
                        tracing::info!("{}", noted.0);
                    }
                    return self.append(&written.lines);
                }
                Err(fault) => {
                    self.failed(&fault);
                    let pause = pauses.next().filter(|_| !known);
                    let Some(pause) = pause else {
                        return self.give_up(&batch, &fault);
                    };
                    std::thread::sleep(Duration::from_millis(*pause));
                }
            }
        }
    }

    /// One try.
    fn attempt(&mut self, batch: &Batch, with_tallies: bool) -> Result<Written, Fault> {
        // What the file knows is loaded before it is overwritten with what memory knows.
        self.ready().map_err(|unfit| unfit.to_string())?;
        let unsaved = self.lasting.take(with_tallies);
        let due = self.unpruned >= PRUNE_AFTER || self.pruned.elapsed() >= PRUNE_PAUSE;
        let prunes = due || self.gives_back;
        let idle = batch.is_empty() && unsaved.is_empty() && !prunes;
        if idle && self.vitals.fault().is_none() {
            return Ok(Written::default());
        }
        let written = self.commit(batch, &unsaved, prunes);
        if let Ok(written) = &written {
            self.gives_back = written.gives_back;
            if let Some(evicted) = written.evicted {
                self.tell_evicted(evicted);
            }
        }
        if written.is_err() {
            self.lasting.give_back(unsaved);
        } else if prunes {
            self.pruned = Instant::now();
            self.unpruned = 0;
        } else {
            self.unpruned += batch.divergences();
        }
        written
    }

    /// Findings that were let go though an operator had to judge them.
    fn tell_evicted(&self, evicted: u64) {
        let before = self.vitals.evicted.swap(evicted, Ordering::Relaxed);
        if evicted > before {
            let more = evicted - before;
            tracing::warn!(
                more,
                max = self.limits.findings_max.now(),
                "open findings were let go, the least recently seen: there are more than ledger.findings_max"
            );
        }
    }

    fn commit(&mut self, batch: &Batch, unsaved: &Unsaved, prunes: bool) -> Result<Written, Fault> {
        let limits = self.limits.clone();
        let (connection, rules) = self.ready().map_err(|unfit| unfit.to_string())?;
        let limits = prunes.then_some(&limits);
        write::batch(connection, batch, unsaved, limits, rules).map_err(|fault| fault.to_string())
    }

    /// The file cannot be written.
    pub(super) fn failed(&self, fault: &str) {
        if self.vitals.fault().is_none() {
            tracing::warn!(%fault, path = %self.limits.path.display(), "the ledger cannot be written; findings are counted, and kept again once it can");
        }
        self.vitals.set_fault(Some(fault.to_owned()));
    }

    /// Findings are lost and counted.
    fn give_up(&self, batch: &Batch, fault: &str) {
        batch.refuse(fault);
        let lost = batch.divergences();
        self.vitals.lost.fetch_add(lost, Ordering::Relaxed);
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

/// Takes in what a file knows. After a stop that was not clean, every table that the mirror ever
/// wrote is tainted, unless it never feeds the shadow.
fn load(lasting: &Lasting, known: Known, feeds: bool, unclean: bool) {
    lasting.taints.load(known.taints);
    if feeds && (unclean || known.unclean) {
        let now = jiff::Timestamp::now();
        lasting.taints.add(&known.mirrored, &GAP.into(), now);
        if !known.mirrored.is_empty() {
            tracing::warn!(
                tables = known.mirrored.len(),
                "understudy ended without a clean stop the last time: dark writes that waited may be lost, so every table that the mirror wrote is tainted; `understudy taints` lists them, and `understudy verify` lifts the taint of each that is equal"
            );
        }
    }
    lasting.mirrored.load(known.mirrored);
}

/// Those who wait for the tallies to be stored.
fn waiting(messages: &[Message]) -> Vec<SyncSender<()>> {
    let replies = messages.iter().filter_map(|message| match message {
        Message::Tallies(reply) => reply.clone(),
        _ => None,
    });
    replies.collect()
}

/// What waits now, at most a batch, and the message that ends the writer.
fn collect(receiver: &Receiver<Message>) -> (Vec<Message>, Option<Message>) {
    let mut messages = Vec::new();
    let mut wait = BATCH_WAIT;
    while messages.len() < BATCH_MAX {
        match receiver.recv_timeout(wait) {
            Ok(end @ (Message::Close | Message::Abandon)) => return (messages, Some(end)),
            Err(RecvTimeoutError::Disconnected) => return (messages, Some(Message::Abandon)),
            Ok(message) => messages.push(message),
            Err(RecvTimeoutError::Timeout) => break,
        }
        // Taints are written at once; findings wait for company.
        let urgent = !matches!(
            messages.last(),
            Some(Message::Divergence(_) | Message::Followed)
        );
        wait = if urgent {
            Duration::ZERO
        } else {
            Duration::from_millis(20)
        };
    }
    (messages, None)
}

//! A differing read, looked at again before it is called a divergence: on the shadow, and then, if
//! the config says where, on the legacy side.
//!
//! What it says: *lag* where the shadow had not caught up, *race* where somebody wrote to the tables
//! meanwhile and that may explain it, or a divergence that persists. Only reads outside of
//! transactions that say the same on any connection like the session's are run again; the rest, and
//! what is over a limit, is judged as it stands after a moment. It refuses to run a write, or
//! anything on a client's connection.

use super::job::{Mode, Run};
use super::journal::{Journal, Statement};
use super::judge::{Glimpse, SEEN_EARLY, compare_reads};
use super::likeness::Likeness;
use super::line::Turn;
use super::link::Link;
use super::owed::{Owed, Ran};
use super::perform;
use super::proof::Evidence;
use super::reading::shape;
use super::shared::{Shared, count};
use crate::ask::{Manner, Questions};
use crate::compare::verdict::{Divergence, Reason, Verdict};
use crate::config::{Compare, Recheck, Server};
use crate::connect::{Dial, TlsError};
use crate::ledger::Cause;
use crate::ledger::observation::{By, Follows, Outcome, Rechecked};
use crate::sql::{Class, names_variable};
use crate::tee::{Exchange, Facts};
use crate::wire::answer::Answer;
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::execute::Execute;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Differences that wait to be settled, all sessions together; what is over it is judged at once.
const WAITING_MAX: usize = 1024;

/// Connections to the shadow that rechecks hold at a time.
const LINKS_MAX: usize = 32;

/// Bytes of commands and primary's answers that are kept for rechecks, all together.
const KEPT_BYTES_MAX: u64 = 32 << 20;

/// What is not run again is judged after this time, when a commit that it saw is known, unless that lies
/// unread.
const SECOND_LOOK: Duration = SEEN_EARLY;

/// For what lies unread it is waited no longer, whatever lag the breaker allows: those that wait are counted.
const UNREAD_MAX: Duration = Duration::from_secs(60);

/// The first pause before the shadow is asked again, and the longest; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often both sides are read until nobody writes in between; and the time in which the
/// acknowledgement of a write that was in between comes through the tee.
const BOTH_SIDES: u32 = 3;
const QUIET: Duration = Duration::from_millis(100);

/// What the primary served in less time may be asked of the legacy side once more: a longer read
/// costs it more than a finding's certainty is worth, and several at a time would pile up.
const LEGACY_READ_MAX: Duration = Duration::from_millis(100);

/// Functions that say something of the session that another connection does not know.
const OF_THE_SESSION: [&str; 10] = [
    "LAST_INSERT_ID",
    "FOUND_ROWS",
    "ROW_COUNT",
    "GET_LOCK",
    "RELEASE_LOCK",
    "RELEASE_ALL_LOCKS",
    "IS_FREE_LOCK",
    "IS_USED_LOCK",
    "CURRENT_USER",
    "SESSION_USER",
];

/// What all rechecks share.
pub(super) struct Rechecks {
    waiting: Arc<Semaphore>,
    links: Arc<Semaphore>,
    kept: Arc<AtomicU64>,
    rate: Mutex<Rate>,
    legacy: Option<Legacy>,
}

/// The legacy side, as far as rechecks may read it.
struct Legacy {
    questions: Questions,
    by: By,
}

/// So many a second, and as many at once.
#[derive(Debug)]
struct Rate {
    per_second: f64,
    left: f64,
    filled: Option<Instant>,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            left: per_second,
            filled: None,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let since = self
            .filled
            .map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        self.filled = Some(now);
        self.left = (self.left + since.as_secs_f64() * self.per_second).min(self.per_second);
        let takes = self.left >= 1.0;
        if takes {
            self.left -= 1.0;
        }
        takes
    }
}

impl Rechecks {
    /// As the config says; `primary` is the legacy side.
    ///
    /// # Errors
    /// TLS towards the legacy side cannot be set up.
    pub(super) fn new(
        compare: &Compare,
        dial: &Arc<dyn Dial>,
        primary: &Arc<Server>,
    ) -> Result<Self, TlsError> {
        let (server, by) = match (compare.recheck, &compare.recheck_replica) {
            (Recheck::Primary, _) => (Some(Arc::clone(primary)), By::Primary),
            (Recheck::Replica, Some((host, port))) => {
                let mut replica = Server::clone(primary);
                replica.host.clone_from(host);
                replica.port = *port;
                (Some(Arc::new(replica)), By::Replica)
            }
            (Recheck::Off | Recheck::Shadow | Recheck::Replica, _) => (None, By::Shadow),
        };
        let questions = match &server {
            Some(server) => Questions::new(dial, server, compare.recheck_rate)?,
            None => None,
        };
        Ok(Self {
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            links: Arc::new(Semaphore::new(LINKS_MAX)),
            kept: Arc::default(),
            rate: Mutex::new(Rate::new(compare.recheck_rate)),
            legacy: questions.map(|questions| Legacy {
                questions: questions.bound(compare.recheck_for),
                by,
            }),
        })
    }

    /// Leave to wait with a command of so many bytes, or none.
    pub(super) fn leave(&self, bytes: usize) -> Option<Leave> {
        // Its wording, the question for its plans on both servers.
        let kept = Kept::take(&self.kept, bytes as u64 * 3)?;
        let permit = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        Some(Leave {
            _permit: permit,
            _kept: kept,
        })
    }

    /// One of the connections that second looks have to themselves.
    pub(super) async fn connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.links).acquire_owned().await.ok()
    }

    /// The legacy side, if it may be asked now.
    fn legacy(&self) -> Option<&Legacy> {
        let legacy = self.legacy.as_ref()?;
        self.rate.lock().take(Instant::now()).then_some(legacy)
    }
}

/// What a difference takes to wait.
pub(super) struct Leave {
    _permit: OwnedSemaphorePermit,
    _kept: Kept,
}

/// Bytes that are kept for a recheck, given back when it is over.
#[derive(Debug)]
struct Kept {
    all: Arc<AtomicU64>,
    bytes: u64,
}

impl Kept {
    fn take(all: &Arc<AtomicU64>, bytes: u64) -> Option<Self> {
        let kept = Self {
            all: Arc::clone(all),
            bytes,
        };
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        // Dropped, it gives them back.
        (before.saturating_add(bytes) <= KEPT_BYTES_MAX).then_some(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What it takes to run a read once more, and to compare it.
#[derive(Debug)]
pub(super) struct Again {
    facts: Arc<Facts>,
    journal: Journal,
    command: Vec<u8>,
    /// What the primary served.
    served: Answer,
    /// It was served in so little time that the legacy side may be asked again.
    is_quick: bool,
    /// The errors of both sides' first answers.
    failed: [Option<u16>; 2],
    statements: Vec<crate::sql::Statement>,
    question: Question,
    _kept: Kept,
}

/// The statement, as each server is sent it.
#[derive(Debug)]
enum Question {
    Text { shadow: Vec<u8>, legacy: Vec<u8> },
    Prepared { id: u32, statement: Statement },
}

impl Again {
    /// Of a read that says the same on any connection like the session's; `None` for any other, and
    /// where there is no room.
    pub(super) fn of(
        shared: &Shared,
        run: &Run,
        shadow: &Answer,
        facts: &Arc<Facts>,
        journal: &Journal,
    ) -> Option<Self> {
        if shared.config.compare.recheck == Recheck::Off || !may_run_again(run, journal) {
            return None;
        }
        let exchange: &Exchange = &run.charged;
        let analysis = run.reading.analysis.as_ref()?;
        let question = match (&run.reading.statement, run.reading.kind) {
            (Some((id, statement)), Command::STMT_EXECUTE) if run.long.is_empty() => {
                Question::Prepared {
                    id: *id,
                    statement: statement.clone(),
                }
            }
            (None, Command::QUERY) => Question::Text {
                shadow: match &run.pin.text {
                    Some((text, _)) => text.clone(),
                    None => perform::text(run).ok()?.to_vec(),
                },
                legacy: perform::worded(run)?.to_vec(),
            },
            _ => return None,
        };
        let bytes = exchange.command.len() * 3 + exchange.answer.sample.len();
        let kept = Kept::take(&shared.rechecks.kept, bytes as u64)?;
        Some(Self {
            facts: Arc::clone(facts),
            journal: journal.clone(),
            command: exchange.command.clone(),
            served: exchange.answer.clone(),
            is_quick: exchange.acked.saturating_duration_since(exchange.began) < LEGACY_READ_MAX,
            failed: [&exchange.answer, shadow]
                .map(|answer| answer.error().map(|failure| failure.code)),
            statements: analysis.statements.clone(),
            question,
            _kept: kept,
        })
    }

    /// Whether this is an error that neither side's first answer had: of the account that asks, of a
    /// limit, of a moment.
    fn fails_newly(&self, answer: &Answer) -> bool {
        is_new(self.failed, answer.error().map(|failure| failure.code))
    }

    fn compare(&self, shared: &Shared, one: &Answer, other: &Answer) -> Verdict {
        compare_reads(shared, &self.command, &self.statements, one, other)
    }

    /// What the shadow says now; `None` where it cannot be asked, or no connection is like the
    /// session.
    async fn on_shadow(&self, shared: &Shared, link: &mut Option<Link>) -> Option<Answer> {
        let link = match link {
            Some(link) => link,
            None => {
                let opened = Link::open_spare(shared, &self.facts, &self.journal).await;
                let (opened, _alike) = opened
                    .ok()
                    .filter(|(_, likeness)| *likeness == Likeness::default())?;
                link.insert(opened)
            }
        };
        let asked = match &self.question {
            Question::Text { shadow, .. } => link.query(shadow).await,
            Question::Prepared { id, statement } => {
                if link.statement(*id).is_none() {
                    let text = statement.prepared.mapped.as_ref()?;
                    link.prepare(*id, text).await.ok()?;
                }
                let payload =
                    self.execution(statement, link.statement(*id)?, link.capabilities())?;
                link.ask(&payload).await
            }
        };
        asked.ok().map(|reply| reply.answer)
    }

    /// What the legacy side says now.
    async fn on_legacy(&self, legacy: &Legacy) -> Option<Answer> {
        let database = self.journal.database();
        let agreed = self.facts.capabilities;
        let manner = Manner {
            database: (!database.is_empty()).then(|| database.to_owned()),
            capabilities: agreed.without(Capabilities::QUERY_ATTRIBUTES),
            collation: self.facts.collation,
        };
        let before: Vec<String> = self.journal.assignments().map(|(_, set)| set).collect();
        let asked = match &self.question {
            Question::Text { legacy: text, .. } => {
                let payload = [&[Command::QUERY.0], text.as_slice()].concat();
                legacy.questions.answer(&manner, &before, &payload).await
            }
            Question::Prepared { statement, .. } => {
                let text = statement.prepared.text.as_ref();
                let encode = |id, capabilities| self.execution(statement, id, capabilities);
                legacy
                    .questions
                    .execute(&manner, &before, text, encode)
                    .await
            }
        };
        asked.ok()
    }

    /// The execution with the client's parameters, of a statement that has another id.
    fn execution(
        &self,
        statement: &Statement,
        id: u32,
        capabilities: Capabilities,
    ) -> Option<Vec<u8>> {
        let none = BTreeSet::new();
        let shape = shape(statement, self.facts.capabilities, &none);
        let sent = Execute::parse(&self.command, shape).ok()?;
        let types = sent.types.as_deref().or(shape.types);
        (shape.parameters == 0 || types.is_some())
            .then(|| sent.encode(id, capabilities, shape.types))
    }
}

/// Whether a later answer's error is none that the first answers had.
fn is_new(first: [Option<u16>; 2], now: Option<u16>) -> bool {
    now.is_some() && !first.contains(&now)
}

/// Whether it reads tables, outside of transactions, and says the same on any connection like the
/// session's and at any time.
fn may_run_again(run: &Run, journal: &Journal) -> bool {
    let reading = &run.reading;
    let reads = matches!(reading.class, Class::Read | Class::Metadata);
    let alone = !run.step.before && !run.step.after && run.mode == Mode::Replay;
    let known = !journal.is_unknown() && !journal.lacks_something();
    if !(reads && alone && known && reading.runs) || reading.scope.is_empty() {
        return false;
    }
    let prepared = reading.statement.as_ref().map(|(_, of)| &of.prepared);
    if prepared.is_some_and(|prepared| *prepared.database != *journal.database()) {
        return false; // on a connection of its own it would be prepared here, of other tables
    }
    let statements = reading
        .analysis
        .as_ref()
        .map(|all| all.statements.as_slice());
    let Some([statement]) = statements else {
        return false;
    };
    let shape = statement.fingerprint.to_ascii_uppercase();
    let of_the_session = OF_THE_SESSION.iter().any(|name| shape.contains(name));
    let names_variable = perform::wording_of(run)
        .is_none_or(|wording| names_variable(wording.text.as_bytes(), wording.dialect));
    !statement.clock && statement.nondeterministic.is_empty() && !of_the_session && !names_variable
}

/// A difference that waits to be settled.
pub(super) struct Case {
    pub(super) owed: Owed,
    pub(super) ran: Option<Ran>,
    pub(super) evidence: Option<Evidence>,
    /// The difference.
    pub(super) divergence: Divergence,
    /// What it saw, and when.
    pub(super) glimpse: Glimpse,
    /// To run it again, if that may be done.
    pub(super) again: Option<Again>,
    /// What a write that may have raced has tainted, and since when: the cause as it was told, and as
    /// it is where it did race.
    pub(super) damage: Option<Damage>,
}

/// See [`Case::damage`].
pub(super) struct Damage {
    pub(super) told: Cause,
    pub(super) raced: Cause,
    pub(super) since: jiff::Timestamp,
}

/// What became of a difference.
struct Conclusion {
    verdict: Verdict,
    follows: Option<Follows>,
    rechecked: Rechecked,
}

/// What the shadow said when it was asked again.
enum Looked {
    Settled(Box<Conclusion>),
    /// It differed to the end; for how long, where no write since may explain that.
    Persists(Option<Duration>),
    /// It could not be asked, or what it says cannot be compared: the first judgement stands.
    Unable,
}

/// Whether two servers that were read at the same time agree.
enum Both {
    Agree {
        moved: bool,
    },
    Differ,
    Unsure,
    /// What is to come to the shadow first lies unread.
    Unread,
}

impl Case {
    /// Looks at it again until it is settled, at the latest when the mirror is suspended or ends;
    /// then as it stands.
    pub(super) async fn settle(mut self, shared: Arc<Shared>, leave: Leave) {
        let again = self.again.take();
        let began = Instant::now();
        let looked = tokio::select! {
            biased;
            // All that the tee had has come by then.
            () = shared.hurry.cancelled() => Err(None),
            () = shared.until_suspended() => Err(Some(Reason::Suspended)),
            conclusion = self.look(&shared, again.as_ref()) => Ok(conclusion),
        };
        let conclusion = looked.unwrap_or_else(|reason| {
            let reason = reason.filter(|_| began.elapsed() < SECOND_LOOK);
            self.cut(&shared, Outcome::Cut, reason)
        });
        self.end(&shared, conclusion);
        drop(leave);
    }

    /// Settles it at once, for too many wait.
    pub(super) fn settle_now(self, shared: &Shared) {
        count(&shared.counters.unsettled);
        let conclusion = self.cut(shared, Outcome::Skipped, Some(Reason::Race));
        self.end(shared, conclusion);
    }

    /// As it stands; but that it is a divergence nobody may say where the acknowledgement of what it
    /// met may still be on its way: then it is not compared, for this reason.
    fn cut(&self, shared: &Shared, outcome: Outcome, reason: Option<Reason>) -> Conclusion {
        let mut conclusion = self.stands(shared, outcome);
        if let (Verdict::Diverged(_), Some(reason)) = (&conclusion.verdict, reason) {
            conclusion.verdict = Verdict::NotCompared(reason);
        }
        conclusion
    }

    fn end(self, shared: &Shared, conclusion: Conclusion) {
        let Self {
            mut owed,
            ran,
            evidence,
            damage,
            ..
        } = self;
        let raced = conclusion.verdict == Verdict::NotCompared(Reason::Race);
        if let Some(damage) = damage.filter(|_| raced) {
            let Damage { told, raced, since } = damage;
            shared.ledger.amend(&told, &raced, since);
        }
        owed.follows(conclusion.follows);
        owed.rechecked(conclusion.rechecked);
        owed.settle(conclusion.verdict, ran, evidence);
    }

    async fn look(&self, shared: &Shared, again: Option<&Again>) -> Conclusion {
        let began = Instant::now();
        let second_look = began + SECOND_LOOK;
        let end = began + shared.config.compare.recheck_for;
        let mut link = None;
        let Some(again) = again else {
            self.second_look(shared, second_look, &mut link).await;
            return self.stands(shared, Outcome::Skipped);
        };
        let looked = self.on_shadow(shared, again, &mut link, (began, end)).await;
        let persists = match looked {
            Looked::Settled(conclusion) => return *conclusion,
            Looked::Unable => {
                self.second_look(shared, second_look, &mut link).await;
                return self.stands(shared, Outcome::Unavailable);
            }
            Looked::Persists(persists) => persists,
        };
        self.second_look(shared, second_look, &mut link).await;
        if let Some(conclusion) = self.on_both(shared, again, &mut link).await {
            return conclusion;
        }
        self.unsettled(shared, persists)
    }

    /// The acknowledgement of a commit that the read met may still be on its way, or lie unread: no longer
    /// than the shadow may lag, for then mirroring is suspended. Whoever waits for what lies unread holds no
    /// connection meanwhile: others look again with it.
    async fn second_look(&self, shared: &Shared, at: Instant, link: &mut Option<Link>) {
        tokio::time::sleep_until(at).await;
        if self.glimpse.is_known(shared) {
            return;
        }
        *link = None;
        let at_most = Instant::now() + shared.config.mirror.breaker.now().lag.min(UNREAD_MAX);
        self.glimpse.known(shared, at_most).await;
    }

    /// Asks the shadow with growing pauses. What the mirror feeds in order the shadow had when it
    /// was asked the first time, so that a later write explains nothing, and nothing is to be learnt once
    /// there is one; that there perhaps is one, unread, ends nothing. What replication feeds counts while nobody has
    /// written to the tables since the read began.
    async fn on_shadow(
        &self,
        shared: &Shared,
        again: &Again,
        link: &mut Option<Link>,
        (began, end): (Instant, Instant),
    ) -> Looked {
        let mut pause = PAUSE;
        loop {
            let at = (Instant::now() + pause).min(end);
            tokio::time::sleep_until(at).await;
            if let Some(cause) = self.glimpse.tainted(shared) {
                return Looked::Settled(Box::new(self.follows(cause)));
            }
            if shared.tainted_by(self.glimpse.scope()).is_some() {
                // What was lost since says nothing of the first answer, but spoils all others.
                return Looked::Unable;
            }
            let asked = Instant::now();
            let patience = asked + PAUSE_MAX.max(end.saturating_duration_since(asked));
            let answer = tokio::time::timeout_at(patience, again.on_shadow(shared, link)).await;
            let Ok(Some(answer)) = answer else {
                return Looked::Unable;
            };
            let quiet = !self.glimpse.written_since(shared);
            let persists = match again.compare(shared, &again.served, &answer) {
                Verdict::Match | Verdict::Tolerated(_) => {
                    return Looked::Settled(Box::new(self.passed(shared, quiet)));
                }
                Verdict::NotCompared(_) => return Looked::Unable,
                Verdict::Diverged(_) if again.fails_newly(&answer) => return Looked::Unable,
                Verdict::Diverged(_) if quiet => Some(asked - began),
                Verdict::Diverged(_) if !shared.feeds() => None,
                Verdict::Diverged(_) if self.glimpse.was_written_since(shared) => {
                    return Looked::Persists(Some(asked - began));
                }
                Verdict::Diverged(_) => Some(asked - began),
            };
            if at >= end {
                return Looked::Persists(persists);
            }
            // A read that takes long is not run all the time.
            pause = (pause * 2).min(PAUSE_MAX).max(asked.elapsed() * 2);
        }
    }

    /// Reads both sides now, where that may be done: they agree, or differ while nobody writes.
    async fn on_both(
        &self,
        shared: &Shared,
        again: &Again,
        link: &mut Option<Link>,
    ) -> Option<Conclusion> {
        if !again.is_quick {
            return None;
        }
        let at_most = shared.config.compare.recheck_for;
        for _ in 0..BOTH_SIDES {
            let legacy = shared.rechecks.legacy()?;
            // The primary is not asked for what could not be compared then.
            let asked = Instant::now();
            if !shared.unread.known(asked, asked + at_most).await {
                return Some(self.untold(shared));
            }
            let both = tokio::time::timeout(at_most, self.both(shared, again, link, legacy));
            match both.await.ok()? {
                Both::Agree { moved: true } => return Some(race()),
                Both::Agree { moved: false } => {
                    return Some(self.passed(shared, !self.glimpse.written_since(shared)));
                }
                Both::Differ => {
                    let said = format!(
                        "the {} and the shadow, read at the same time, still differ",
                        legacy.by.name()
                    );
                    return Some(self.persists(legacy.by, said));
                }
                Both::Unread => return Some(self.untold(shared)),
                Both::Unsure => {}
            }
        }
        None
    }

    async fn both(
        &self,
        shared: &Shared,
        again: &Again,
        link: &mut Option<Link>,
        legacy: &Legacy,
    ) -> Both {
        let arrives_late = !shared.feeds() || legacy.by == By::Replica;
        let on_its_way = if arrives_late {
            shared.config.compare.recheck_for
        } else {
            QUIET // in the tee
        };
        let asked = Instant::now();
        let from = asked.checked_sub(on_its_way).unwrap_or(asked);
        let one = again.on_legacy(legacy).await;
        // Behind what the mirror has yet to bring to these tables: what lies unread has no place yet.
        let at_most = asked + shared.config.compare.recheck_for / 2; // sooner than all of this
        if !shared.unread.known(Instant::now(), at_most).await {
            return Both::Unread;
        }
        let ticket = self.glimpse.ticket(shared);
        if ticket.turn(shared.config.compare.recheck_for).await != Turn::Came {
            return Both::Unsure;
        }
        ticket.start();
        let other = again.on_shadow(shared, link).await;
        drop(ticket);
        let (Some(one), Some(other)) = (one, other) else {
            return Both::Unsure;
        };
        if again.fails_newly(&one) || again.fails_newly(&other) {
            return Both::Unsure;
        }
        match again.compare(shared, &one, &other) {
            Verdict::Match | Verdict::Tolerated(_) => {
                let served = again.compare(shared, &again.served, &one);
                let moved = matches!(served, Verdict::Diverged(_));
                return Both::Agree { moved };
            }
            Verdict::NotCompared(_) => return Both::Unsure,
            Verdict::Diverged(_) => {}
        }
        let to = Instant::now();
        tokio::time::sleep(QUIET).await;
        if self.glimpse.written_between(shared, from, to) {
            Both::Unsure
        } else {
            Both::Differ
        }
    }

    /// Both sides were to be read and could not be, for something lies unread: nobody may say that it differs.
    fn untold(&self, shared: &Shared) -> Conclusion {
        self.explained(shared).unwrap_or_else(race)
    }

    fn explained(&self, shared: &Shared) -> Option<Conclusion> {
        let (reason, cause) = self.glimpse.explains(shared)?;
        Some(cause.map_or_else(|| not_compared(reason), |cause| self.follows(cause)))
    }

    /// It differed to the end, and nothing more can be asked. `persists`: it did so while nobody had
    /// written to the tables, for this long.
    fn unsettled(&self, shared: &Shared, persists: Option<Duration>) -> Conclusion {
        if let Some(conclusion) = self.explained(shared) {
            return conclusion;
        }
        match persists {
            Some(time) => {
                let said = format!("the shadow still differed after {} ms", time.as_millis());
                self.persists(By::Shadow, said)
            }
            None if self.may_lag(shared) => lag(),
            None => race(),
        }
    }

    /// Whether what the shadow lacks may be on its way, or what it has more may have come already:
    /// replication feeds it, and somebody had written to the tables shortly before, or did so until it
    /// answered. That may be the read's own transaction, which was rehearsed behind its own rows.
    fn may_lag(&self, shared: &Shared) -> bool {
        let glimpse = &self.glimpse;
        !shared.feeds()
            && (glimpse.written_before(shared, shared.config.compare.recheck_for)
                || glimpse.written_meanwhile(shared))
    }

    /// The shadow answers now as the primary did.
    fn passed(&self, shared: &Shared, quiet: bool) -> Conclusion {
        let met = self.glimpse.met(shared).is_some();
        if !met && (quiet || !shared.feeds()) {
            lag()
        } else {
            race()
        }
    }

    /// As it stands, without having been run again, or not to the end.
    fn stands(&self, shared: &Shared, outcome: Outcome) -> Conclusion {
        let rechecked = Rechecked::not(outcome);
        let mut conclusion = match self.explained(shared) {
            Some(conclusion) => conclusion,
            None if self.may_lag(shared) => not_compared(Reason::Lag),
            None => Conclusion {
                verdict: Verdict::Diverged(self.divergence.clone()),
                follows: None,
                rechecked: rechecked.clone(),
            },
        };
        conclusion.rechecked = rechecked;
        conclusion
    }

    fn persists(&self, by: By, said: String) -> Conclusion {
        Conclusion {
            verdict: Verdict::Diverged(self.divergence.clone()),
            follows: None,
            rechecked: Rechecked {
                outcome: Outcome::Diverged,
                by: Some(by),
                said: Some(said),
            },
        }
    }

    fn follows(&self, cause: Cause) -> Conclusion {
        Conclusion {
            follows: Some(Follows {
                cause,
                divergence: self.divergence.clone(),
            }),
            ..not_compared(Reason::Tainted)
        }
    }
}

fn lag() -> Conclusion {
    Conclusion {
        rechecked: Rechecked::not(Outcome::Lag),
        ..not_compared(Reason::Lag)
    }
}

fn race() -> Conclusion {
    Conclusion {
        rechecked: Rechecked::not(Outcome::Race),
        ..not_compared(Reason::Race)
    }
}

fn not_compared(reason: Reason) -> Conclusion {
    Conclusion {
        verdict: Verdict::NotCompared(reason),
        follows: None,
        rechecked: Rechecked::not(Outcome::NotCompared),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_so_many_a_second_through() {
        let mut rate = Rate::new(2);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let taken = [0, 1, 2, 400, 501, 10_000, 10_000, 10_000].map(|ms| rate.take(at(ms)));
        assert_eq!(taken, [true, true, false, false, true, true, true, false]);
    }

    #[test]
    fn an_error_that_no_first_answer_had_confirms_nothing() {
        for (first, now, new) in [
            ([None, None], None, false),
            ([None, None], Some(1142), true),
            ([None, Some(1317)], Some(1317), false),
            ([Some(1146), None], Some(1146), false),
            ([Some(1146), None], Some(1040), true),
            ([Some(1146), None], None, false),
        ] {
            assert_eq!(is_new(first, now), new, "{first:?} {now:?}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_given_back() {
        let all = Arc::new(AtomicU64::new(0));
        let kept = Kept::take(&all, KEPT_BYTES_MAX - 1);
        assert!(kept.is_some() && Kept::take(&all, 2).is_none());
        assert!(Kept::take(&all, 1).is_some());
        drop(kept);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}

//! One session, as the dispatcher sees it: its journal, its transaction, and what becomes of each
//! of its commands.

use super::Control;
use super::job::{Held, Job, Mode, Run, Skip};
use super::journal::{Entry, Journal, unsafe_collation};
use super::order::{Part, Request, Scope};
use super::owed::Owed;
use super::policy::{self, Decision, Situation};
use super::reading::{Missing, Reader, Reading, Text};
use super::replay::Worker;
use super::shared::Shared;
use super::transaction::{Ending, Seen, Step, Tracker, flag_after};
use crate::compare::errors::says_nothing;
use crate::compare::verdict::Reason;
use crate::ledger::Side;
use crate::sql::{Change, Class, Control as Transaction};
use crate::tee::{Charged, End, Exchange, Facts, Stub};
use crate::wire::answer::Failure;
use crate::wire::capability::Capabilities;
use crate::wire::command::{Command, Expect};
use crate::wire::status::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    facts: Arc<Facts>,
    journal: Journal,
    tracker: Tracker,
    /// The switches as they were when the transaction began.
    control: Control,
    worker: Option<Worker>,
    /// Why the rest of the open transaction is not mirrored.
    absent: Option<Reason>,
    /// What the open transaction wrote that the shadow will not have.
    lost: Scope,
    long: BTreeMap<u32, Long>,
    no_backslash_escapes: bool,
}

/// Values of one statement's parameters that were sent apart, for its next execution.
#[derive(Debug, Default)]
struct Long {
    parts: Vec<Charged>,
    numbers: BTreeSet<u16>,
    /// One of them did not come through.
    lost: bool,
}

impl Desk {
    /// A session that has logged in.
    pub(super) fn new(shared: &Shared, facts: &Arc<Facts>) -> Self {
        Self {
            facts: Arc::clone(facts),
            journal: Journal::new(&facts.database),
            tracker: Tracker::default(),
            control: shared.control(),
            worker: None,
            absent: None,
            lost: Scope::none(),
            long: BTreeMap::new(),
            no_backslash_escapes: false,
        }
    }

    /// Takes an exchange. `tight`: so much waits that reads are let go.
    pub(super) fn exchange(&mut self, shared: &Arc<Shared>, charged: Box<Charged>, tight: bool) {
        self.log_in(&charged.facts);
        let reading = self.read(shared, &charged.command, missing(&charged));
        if reading.kind == Command::STMT_SEND_LONG_DATA {
            return self.keep_long(&reading, charged);
        }
        let step = self.step(&charged, &reading);
        if !step.before {
            self.absent = None;
            self.control = shared.control();
        }
        let long = self.take_long(&reading);
        let entries = if charged.answered {
            let capabilities = self.facts.capabilities;
            let answer = (reading.kind.expect() != Expect::Nothing).then_some(&charged.answer);
            reading.entries(&charged.command, capabilities, answer, &long.numbers)
        } else {
            Vec::new()
        };
        if reading.kind == Command::STMT_CLOSE {
            return self.close_statement(shared, charged, entries);
        }
        let decision = match self.decide(shared, &charged, &reading, &step) {
            Ok(_) if long.lost => Err(Reason::Dropped),
            Ok(_) if tight && is_lone_read(&reading, &step) => Err(Reason::Dropped),
            other => other,
        };
        self.remember(shared, &reading, &step, &charged);
        self.lose(
            shared,
            &reading,
            &step,
            decision,
            may_have_written(&charged),
        );
        match decision {
            Ok(mode) => self.run(shared, charged, reading, step, mode, entries, long.parts),
            Err(reason) => self.skip(shared, charged, &reading, &step, reason, entries),
        }
    }

    /// Takes what stayed of an exchange that was dropped.
    pub(super) fn stub(&mut self, shared: &Arc<Shared>, stub: Box<Stub>) {
        self.log_in(&stub.facts);
        let cut = stub.command_bytes > stub.command.len() as u64;
        let mut reading = self.read(shared, &stub.command, self.missing(cut));
        if reading.kind == Command::STMT_SEND_LONG_DATA {
            if let Some((id, _)) = &reading.statement {
                self.long.entry(*id).or_default().lost = true;
            }
            return;
        }
        if cut && !is_told_by_its_beginning(&reading) {
            reading.writes = Scope::All;
            reading.scope = Scope::All;
        }
        let step = self.tracker.step(&Seen {
            flag_before: stub.in_transaction_before,
            flag_after: (!stub.failed).then_some(stub.in_transaction_after),
            error: None,
            control: reading.control,
            resets: resets(reading.kind),
            reads: false,
            writes: written(&reading),
            began: tokio::time::Instant::now(),
        });
        if !step.before {
            self.control = shared.control();
        }
        let entries = self.entries_of_stub(&stub, &reading, cut);
        if stub.kind().expect() != Expect::Nothing {
            let primary = Side {
                server: Arc::clone(&stub.facts.primary),
                rows: 0,
                error: None,
                affected_rows: None,
                first_byte_us: None,
                latency_us: None,
            };
            let database = self.journal.database();
            Owed::of(&shared.ledger, &reading, database, &stub.facts, primary)
                .not_compared(Reason::Dropped);
        }
        let dropped = Err(Reason::Dropped);
        self.lose(
            shared,
            &reading,
            &step,
            dropped,
            !stub.failed || reading.ends_inside,
        );
        self.pass_on(Skip {
            ends: step.ended,
            abandons: step.before && written(&reading).is_some(),
            _held: Held::Stub(stub),
            entries,
        });
    }

    /// Commands of the session came to nothing.
    pub(super) fn lose_all(&mut self, shared: &Arc<Shared>, facts: &Arc<Facts>) {
        self.log_in(facts);
        self.journal.lose();
        self.absent = Some(Reason::Dropped);
        shared.taint(
            &Scope::All,
            self.journal.database(),
            "commands were lost: the queue and even the room for their first bytes were full",
        );
        self.pass_on(Skip {
            entries: vec![Entry::Change(Change::Unknown)],
            ends: None,
            abandons: true,
            _held: Held::Nothing,
        });
    }

    /// The session has ended. Its replay finishes what it was given; the owner sees to its end.
    pub(super) fn close(mut self, shared: &Shared, end: End) -> Option<Worker> {
        if end == End::Tunnelled {
            let cause = "a session became a tunnel: what it wrote since is not known";
            shared.taint(&Scope::All, self.journal.database(), cause);
        }
        self.worker.take()
    }

    /// A new login on the same connection begins afresh.
    fn log_in(&mut self, facts: &Arc<Facts>) {
        if facts.login == self.facts.login {
            return;
        }
        self.facts = Arc::clone(facts);
        let entry = Entry::Login {
            database: facts.database.clone(),
        };
        self.journal.apply(&entry, 0);
        self.long.clear();
        // The old login's replay goes on to the end of what it was given.
        self.worker = None;
    }

    /// What may be missing of a stub that was cut.
    fn missing(&self, cut: bool) -> Missing {
        let agreed = self.facts.capabilities.has(Capabilities::MULTI_STATEMENTS);
        match (cut, self.journal.multi_statements().unwrap_or(agreed)) {
            (false, _) => Missing::Nothing,
            (true, false) => Missing::End,
            (true, true) => Missing::Statements,
        }
    }

    fn read(&self, shared: &Shared, command: &[u8], missing: Missing) -> Reading {
        let reader = Reader {
            catalog: &shared.catalog,
            journal: &self.journal,
            capabilities: self.facts.capabilities,
            no_backslash_escapes: self.no_backslash_escapes,
            databases: &shared.server.databases,
            missing,
        };
        reader.read(command)
    }

    fn step(&mut self, one: &Exchange, reading: &Reading) -> Step {
        if let Some(status) = one.answer.status {
            self.no_backslash_escapes = status.has(Status::NO_BACKSLASH_ESCAPES);
        }
        let reads = reading.runs && reading.class == Class::Read && !reading.scope.is_empty();
        self.tracker.step(&Seen {
            flag_before: one.in_transaction_before,
            flag_after: flag_after(&one.answer, one.answered),
            error: one.answer.error().map(|failure| failure.code),
            control: reading.control,
            resets: resets(reading.kind),
            reads: reads && self.journal.keeps_snapshot(),
            writes: written(reading),
            began: one.began,
        })
    }

    /// How the command is run, or why not.
    fn decide(
        &self,
        shared: &Shared,
        one: &Exchange,
        reading: &Reading,
        step: &Step,
    ) -> Result<Mode, Reason> {
        let in_transaction = step.before || step.after;
        let situation = Situation {
            class: reading.class,
            in_transaction: in_transaction && reading.runs,
            written_before: step.written_before,
            prepared: reading.kind == Command::STMT_EXECUTE,
            plannable: reading.plannable,
            ends_inside: reading.ends_inside,
            die: if reading.runs { die(one) } else { 0.0 },
            ddl: shared.config.mirror.ddl,
        };
        let decision = policy::decide(&self.control, &situation);
        if reading.kind == Command::STMT_FETCH {
            return Err(Reason::Cursor);
        }
        if decision == Decision::Not(Reason::NotMirrored) {
            return Err(Reason::NotMirrored);
        }
        self.may_be_mirrored(shared)?;
        let says_nothing = |failure: &Failure| {
            // What the primary cannot prepare, the client sends as text, and that is compared.
            says_nothing(failure)
                || reading.kind == Command::STMT_PREPARE && failure.code == UNSUPPORTED_PS
        };
        if !one.answered || one.answer.error().is_some_and(says_nothing) {
            return Err(Reason::PrimaryError);
        }
        let limit = shared.config.mirror.answer_bytes_max;
        if one.command_bytes > one.command.len() as u64 || one.answer.bytes > limit {
            return Err(Reason::TooLarge);
        }
        let mode = match decision {
            Decision::Not(reason) => return Err(reason),
            // To prepare is to run nothing.
            _ if !reading.runs => Mode::Replay,
            Decision::Replay => Mode::Replay,
            Decision::Rollback => Mode::Rollback,
            Decision::Plan => Mode::Plan,
        };
        if reading.text == Text::Unsure {
            return Err(Reason::Database);
        }
        Ok(mode)
    }

    /// Whether the session's commands are mirrored at all, now.
    fn may_be_mirrored(&self, shared: &Shared) -> Result<(), Reason> {
        if let Some(reason) = self.absent {
            return Err(reason);
        }
        if unsafe_collation(self.facts.collation) || self.journal.charset_is_unsafe() {
            return Err(Reason::Charset);
        }
        if self.control.paused {
            return Err(Reason::Paused);
        }
        if shared.is_suspended() {
            return Err(Reason::Suspended);
        }
        let unknown = self.journal.is_unknown() && self.worker.is_none();
        if unknown || self.facts.share.journal_unknown() {
            return Err(Reason::Dropped);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "all that a run is made of")]
    fn run(
        &mut self,
        shared: &Arc<Shared>,
        charged: Box<Charged>,
        reading: Reading,
        step: Step,
        mode: Mode,
        entries: Vec<Entry>,
        long: Vec<Charged>,
    ) {
        let database = self.journal.database();
        let (part, scope) = part(&reading, &step);
        let run = Run {
            owed: Owed::new(&shared.ledger, &reading, database, &charged),
            ticket: shared.line.join(Request {
                part,
                scope,
                began: charged.began,
                acked: charged.acked,
            }),
            charged,
            reading,
            step,
            mode,
            long,
            entries: entries.clone(),
        };
        let worker = self
            .worker
            .get_or_insert_with(|| Worker::start(shared, &self.facts, self.journal.clone()));
        if let Err((job, reason)) = worker.give(Job::Run(Box::new(run))) {
            self.part_with_replay(reason);
            if let Job::Run(run) = job {
                let cause = format!(
                    "a dark write was lost ({}): {}",
                    reason.name(),
                    run.reading.fingerprint
                );
                shared.taint(&run.reading.writes, self.journal.database(), &cause);
                run.owed.not_compared(reason);
            }
        }
        self.apply(&shared.config, &entries);
    }

    fn skip(
        &mut self,
        shared: &Shared,
        charged: Box<Charged>,
        reading: &Reading,
        step: &Step,
        reason: Reason,
        entries: Vec<Entry>,
    ) {
        if charged.counts() {
            Owed::new(&shared.ledger, reading, self.journal.database(), &charged)
                .not_compared(reason);
        }
        let loses = step.before && written(reading).is_some() && is_a_drop(reason);
        let opens = step.after && !step.before;
        if (loses || opens) && self.absent.is_none() {
            self.absent = Some(reason);
        }
        self.apply(&shared.config, &entries);
        self.pass_on(Skip {
            entries,
            ends: step.ended,
            abandons: loses,
            _held: Held::Exchange(charged),
        });
    }

    /// A CLOSE has no answer and no verdict; the replay closes its own.
    fn close_statement(&mut self, shared: &Shared, charged: Box<Charged>, entries: Vec<Entry>) {
        self.apply(&shared.config, &entries);
        self.pass_on(Skip {
            entries,
            ends: None,
            abandons: false,
            _held: Held::Exchange(charged),
        });
    }

    fn apply(&mut self, config: &crate::config::Config, entries: &[Entry]) {
        for entry in entries {
            self.journal.apply(entry, config.mirror.prepared_max);
        }
    }

    /// Tells the replay of a command that is not run, if that concerns it.
    fn pass_on(&mut self, skip: Skip) {
        let concerns = !skip.entries.is_empty() || skip.ends.is_some() || skip.abandons;
        if let Some(worker) = self.worker.as_ref().filter(|_| concerns)
            && let Err((_, reason)) = worker.give(Job::Skip(skip))
        {
            self.part_with_replay(reason);
        }
    }

    /// The replay takes no more: it does what it has, and the next transaction gets another.
    fn part_with_replay(&mut self, reason: Reason) {
        self.worker = None;
        self.absent = Some(reason);
    }

    /// Remembers the primary's commit points, mirrored or not.
    fn remember(&self, shared: &Shared, reading: &Reading, step: &Step, one: &Exchange) {
        if !may_have_written(one) {
            return;
        }
        let mut scope = Scope::none();
        if step.ended == Some(Ending::Commit) {
            scope.join(&step.wrote);
        }
        if !step.after {
            scope.join(&reading.writes);
        }
        if !scope.is_empty() {
            let mut recent = shared.recent.lock();
            recent.push(self.facts.session, scope, one.began, one.acked);
        }
    }

    /// Keeps account of what the primary has and the shadow will not: tainted once it is
    /// committed, forgotten where it is rolled back.
    fn lose(
        &mut self,
        shared: &Shared,
        reading: &Reading,
        step: &Step,
        decision: Result<Mode, Reason>,
        may_have_written: bool,
    ) {
        let is_lost = !matches!(decision, Ok(Mode::Replay));
        if is_lost && may_have_written && !reading.only_locks() {
            self.lost.join(&reading.writes);
            if step.before && matches!(decision, Err(reason) if is_a_drop(reason)) {
                let whole = self.tracker.wrote();
                self.lost.join(&whole);
            }
        }
        if !step.after || step.ended.is_some() {
            let lost = std::mem::replace(&mut self.lost, Scope::none());
            if step.ended != Some(Ending::Rollback) && !lost.is_empty() {
                let cause = format!(
                    "a write was not carried to the shadow ({}): {}",
                    reason_of(decision),
                    reading.fingerprint
                );
                shared.taint(&lost, self.journal.database(), &cause);
            }
        }
    }

    fn keep_long(&mut self, reading: &Reading, charged: Box<Charged>) {
        let Some((id, _)) = &reading.statement else {
            return;
        };
        let long = self.long.entry(*id).or_default();
        match crate::wire::execute::long_parameter(&charged.command) {
            Ok(number) if charged.command_bytes <= charged.command.len() as u64 => {
                long.numbers.insert(number);
                long.parts.push(*charged);
            }
            _ => long.lost = true,
        }
    }

    /// An execution takes the values that were sent apart, a reset or a close forgets them.
    fn take_long(&mut self, reading: &Reading) -> Long {
        let ends = matches!(
            reading.kind,
            Command::STMT_EXECUTE | Command::STMT_RESET | Command::STMT_CLOSE
        );
        let id = reading.statement.as_ref().map(|(id, _)| *id);
        id.filter(|_| ends)
            .and_then(|id| self.long.remove(&id))
            .unwrap_or_default()
    }

    fn entries_of_stub(&mut self, stub: &Stub, reading: &Reading, cut: bool) -> Vec<Entry> {
        let mut entries = match reading.kind {
            // Its id is in the answer, which is gone: executions will not be known.
            Command::STMT_PREPARE => vec![Entry::NotPrepared],
            // Perhaps it bound types.
            Command::STMT_EXECUTE => reading
                .statement
                .iter()
                .map(|(id, _)| Entry::Types(*id, None))
                .collect(),
            _ if cut && !matches!(reading.class, Class::Read | Class::Write) => {
                vec![Entry::Change(Change::Unknown)]
            }
            _ if stub.failed => Vec::new(),
            _ => reading.entries(
                &stub.command,
                self.facts.capabilities,
                None,
                &BTreeSet::new(),
            ),
        };
        if resets(reading.kind) && stub.failed {
            entries.clear();
        }
        for entry in &entries {
            self.journal.apply(entry, usize::MAX);
        }
        entries
    }
}

/// ER_UNSUPPORTED_PS: the statement exists, but cannot be prepared.
const UNSUPPORTED_PS: u16 = 1295;

/// Whether the reason is one of ours, for which whole transactions are let go.
const fn is_a_drop(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Dropped | Reason::Suspended | Reason::Paused | Reason::Internal
    )
}

fn reason_of(decision: Result<Mode, Reason>) -> &'static str {
    match decision {
        Ok(Mode::Replay) => "replayed",
        Ok(Mode::Rollback) => "writes = rollback",
        Ok(Mode::Plan) => "writes = plan",
        Err(reason) => reason.name(),
    }
}

const fn resets(kind: Command) -> bool {
    kind.0 == Command::CHANGE_USER.0 || kind.0 == Command::RESET_CONNECTION.0
}

fn written(reading: &Reading) -> Option<&Scope> {
    Some(&reading.writes).filter(|writes| !writes.is_empty())
}

/// Whether the primary's answer leaves it possible that something was written: several statements
/// may have been run before the one that failed, and without an answer nobody knows.
fn may_have_written(one: &Exchange) -> bool {
    !one.answered || one.answer.error().is_none() || one.answer.results.len() > 1
}

/// What is missing of a whole exchange's command: its answer says how many statements ran.
fn missing(one: &Exchange) -> Missing {
    match one.command_bytes > one.command.len() as u64 {
        false => Missing::Nothing,
        true if one.answered && one.answer.results.len() == 1 => Missing::End,
        true => Missing::Statements,
    }
}

fn is_lone_read(reading: &Reading, step: &Step) -> bool {
    matches!(reading.class, Class::Read | Class::Metadata) && !step.before && !step.after
}

/// Whether the first KiB of a longer command says which tables it writes.
fn is_told_by_its_beginning(reading: &Reading) -> bool {
    let one_statement = reading
        .analysis
        .as_ref()
        .is_some_and(|analysis| analysis.statements.len() == 1);
    let known = matches!(&reading.writes, Scope::Known(tables) if !tables.is_empty());
    let is_execute = reading.kind == Command::STMT_EXECUTE;
    is_execute || one_statement && (known || reading.class == Class::Read)
}

/// How the command takes part in the order of all sessions, and with which tables.
fn part(reading: &Reading, step: &Step) -> (Part, Scope) {
    let mut scope = reading.scope.clone();
    if reading.kind == Command::STMT_PREPARE {
        // It reads nothing, but the tables must be there.
        return (Part::Within, scope);
    }
    if !reading.runs {
        return (Part::Within, Scope::none());
    }
    if step.ended == Some(Ending::Commit) {
        scope.join(&step.wrote);
    }
    match reading.class {
        Class::Ddl => (Part::Ddl, scope),
        Class::Write | Class::LockingRead if step.after => (Part::Write, scope),
        Class::Write | Class::LockingRead => (Part::Commit, scope),
        _ if step.ended == Some(Ending::Commit) && !step.wrote.is_empty() => (Part::End, scope),
        Class::Transaction
            if matches!(reading.control, Some(Transaction::Begin { snapshot: true })) =>
        {
            (Part::Snapshot, scope)
        }
        _ if step.opens_snapshot => (Part::Snapshot, scope),
        _ if step.snapshot.is_some() => (Part::Within, scope),
        _ => (Part::Read, scope),
    }
}

/// A number from 0 to 1 for a command, the same at every look.
fn die(one: &Exchange) -> f64 {
    let mut key = [0; 16];
    let (session, seq) = key.split_at_mut(8);
    session.copy_from_slice(&one.facts.session.to_le_bytes());
    seq.copy_from_slice(&one.seq.to_le_bytes());
    let hash = xxhash_rust::xxh3::xxh3_64(&key) >> 32;
    f64::from(u32::try_from(hash).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
}

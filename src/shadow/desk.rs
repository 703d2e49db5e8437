//! One session, as the dispatcher sees it: its journal, its transaction, and what becomes of each
//! of its commands.

use super::Control;
use super::antechamber::Came;
use super::effect::{
    changes_definitions, commits, committed, is_missed, is_statement, may_have_written, part,
    part_of_end, reads_to_the_end, resets, written,
};
use super::errand::Rested;
use super::job::{End as TransactionEnd, Held, Job, Mode, Run, Skip, Times};
use super::journal::{Entry, Journal, unsafe_collation};
use super::line::Ticket;
use super::load::Load;
use super::long::{Long, LongValues};
use super::order::{Request, Scope};
use super::owed::{Asker, Owed};
use super::pin::{LastKey, Pin, last_key_after};
use super::policy::{self, Decision, Situation};
use super::reading::{Missing, Reader, Reading, Text, mapped};
use super::replay::{Counted, Worker};
use super::shared::Shared;
use super::stake::Stake;
use super::state::{SessionState, Soft, Stuck};
use super::ties::{Feature, Ties, Told};
use super::transaction::{Ending, Seen, Step, Tracker, said};
use super::values::Values;
use crate::compare::errors::says_nothing;
use crate::compare::verdict::Reason;
use crate::config::Writes;
use crate::sql::{Change, Class};
use crate::tee::{Charged, End, Exchange, Facts};
use crate::wire::answer::{Answer, Failure};
use crate::wire::command::{Command, Expect};
use crate::wire::status::Status;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

mod stub;

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    facts: Arc<Facts>,
    /// The user that it logged in as.
    user: Arc<str>,
    journal: Journal,
    tracker: Tracker,
    /// The switches as they were when the transaction began.
    control: Control,
    worker: Option<Worker>,
    /// Counts the session as mirrored, from its first replay to its end.
    mirrored: Option<Counted>,
    /// Replays that are given no more, on their last commands.
    former: Vec<JoinHandle<()>>,
    /// Why the rest of the open transaction is not mirrored.
    absent: Option<Reason>,
    /// What the open transaction wrote that the shadow will not have.
    lost: Scope,
    long: LongValues,
    no_backslash_escapes: bool,
    /// What LAST_INSERT_ID() says on the primary, where it is known.
    last_key: LastKey,
    /// The last command was a replica's: from there on the session is a pipe, and writes nothing.
    dumps: bool,
    /// What no other connection can be given.
    ties: Ties,
    features: BTreeSet<Feature>,
    /// How often it was reset.
    resets: u64,
    /// Its last command.
    seq: u64,
    /// A transaction was open behind it.
    in_transaction: bool,
}

impl Desk {
    /// A session that has logged in.
    pub(super) fn new(shared: &Shared, facts: &Arc<Facts>) -> Self {
        shared.census.see_user(&facts.user);
        Self {
            user: Arc::from(facts.user.as_str()),
            facts: Arc::clone(facts),
            journal: Journal::new(&facts.database),
            tracker: Tracker::default(),
            control: shared.control(),
            worker: None,
            mirrored: None,
            former: Vec::new(),
            absent: None,
            lost: Scope::none(),
            long: LongValues::default(),
            no_backslash_escapes: false,
            last_key: LastKey::Known(0),
            dumps: false,
            ties: Ties::default(),
            features: BTreeSet::new(),
            resets: 0,
            seq: 0,
            in_transaction: false,
        }
    }

    /// The session's number.
    pub(super) fn session(&self) -> u64 {
        self.facts.session
    }

    /// What its replay has to do, if it has one.
    pub(super) fn load(&self) -> Option<&Load> {
        self.worker.as_ref().map(Worker::load)
    }

    /// Whether it ever had a replay.
    pub(super) const fn was_mirrored(&self) -> bool {
        self.mirrored.is_some()
    }

    /// A transaction is open whose switches are from when answers were compared.
    pub(super) fn compares_on(&self) -> bool {
        self.in_transaction && self.control.compares()
    }

    fn asker(&self) -> Asker<'_> {
        Asker {
            session: self.facts.session,
            user: &self.user,
            database: self.journal.database_kept(),
        }
    }

    /// What another server would need to take it over.
    pub(super) fn state(&self) -> SessionState {
        let mut state = SessionState::of(&self.facts, &self.journal);
        if self.in_transaction {
            state.stuck.push(Stuck::Transaction);
        }
        state.stuck.extend(self.ties.stuck());
        state.soft = self.ties.soft();
        if !self.long.is_empty() {
            state.soft.push(Soft::LongData);
        }
        state.values.clone_from(self.ties.values());
        state.last_insert_id = match self.last_key {
            LastKey::Known(key) => Some(key),
            LastKey::Behind(_) | LastKey::Unknown => None,
        };
        state.features.clone_from(&self.features);
        state.resets = self.resets;
        state.seq = self.seq;
        state
    }

    /// The session was asked what its variables hold, between two commands: a replay that begins now
    /// can set them, too.
    pub(super) fn learn(&mut self, shared: &Shared, values: &Values) {
        for one in values.assignments() {
            let entry = Entry::Change(Change::Variable {
                name: one.name.clone(),
                assignment: one.text(false),
            });
            self.apply_one(&entry, shared.config.mirror.prepared_max);
        }
        self.ties.learned();
        self.see_what_it_lacks();
        self.last_key = LastKey::Known(values.last_insert_id);
    }

    /// The roles have turned: what was the primary is the shadow. The session goes on, and its
    /// next replay opens a connection as the journal says.
    pub(super) fn turn(&mut self, shared: &Shared) {
        self.let_replay_go();
        self.absent = self.in_transaction.then_some(Reason::Internal);
        self.tracker = Tracker::default();
        self.lost = Scope::none();
        if let LastKey::Behind(_) = self.last_key {
            self.last_key = LastKey::Unknown;
        }
        let databases = &shared.server.databases;
        self.journal
            .map_again(|prepared| mapped(prepared, databases));
        self.see_what_it_lacks();
    }

    /// Where the journal says all of it again, a replay that begins now lacks nothing.
    fn see_what_it_lacks(&mut self) {
        if self.ties.values().is_empty() && self.ties.stuck().is_empty() {
            self.journal.is_told();
        }
    }

    /// Takes an exchange. `tight`: so much waits that reads are let go.
    pub(super) fn exchange(
        &mut self,
        shared: &Arc<Shared>,
        charged: Charged,
        came: Came,
        tight: bool,
    ) {
        self.log_in(shared, &charged.facts);
        self.seq = charged.seq;
        let reading = self.read(shared, &charged.command, missing(&charged));
        if reading.kind == Command::STMT_SEND_LONG_DATA {
            return self.keep_long(&reading, charged);
        }
        self.dumps = is_a_replicas(reading.kind);
        if charged.answer.error().is_none() && changes_definitions(&reading) {
            shared.reach.is_stale();
        }
        let step = self.step(&charged, &reading);
        self.in_transaction = step.after;
        self.begin(came, &step);
        if charged.answered {
            if missing(&charged) == Missing::Statements {
                self.ties.lose("a command was cut");
            }
            let answer = Some(&charged.answer);
            self.take_ties(shared, &reading, &charged.command, answer);
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
        let decision = match self.decide(shared, &charged, came, &reading, &step) {
            Ok(_) if long.lost => Err(Reason::Dropped),
            Ok(_) if tight && is_lone_read(&reading, &step) => Err(Reason::Dropped),
            other => other,
        };
        self.remember(shared, &reading, &step, &charged);
        let may_have_written = may_have_written(&charged);
        self.lose(shared, &reading, &step, decision, may_have_written);
        let key = last_key_after(shared, &reading, &charged, &self.journal, self.last_key);
        let key = std::mem::replace(&mut self.last_key, key);
        let long = long.parts;
        match decision {
            Ok(mode) => self.run(shared, charged, reading, step, mode, entries, long, key),
            Err(reason) => self.skip(shared, charged, &reading, &step, reason, entries),
        }
    }

    /// The session has ended. Its replays finish what they were given; the owner sees to their
    /// end.
    pub(super) fn close(mut self, shared: &Shared, end: End) -> Vec<JoinHandle<()>> {
        if end == End::Tunnelled && !self.dumps {
            let cause = "a session became a tunnel: what it wrote since is not known";
            shared.taint(&Scope::All, self.journal.database(), &cause.into());
        }
        self.let_replay_go();
        self.former
    }

    /// A new login on the same connection begins afresh.
    /// One without a new login tells that the session has moved to another primary.
    fn log_in(&mut self, shared: &Shared, facts: &Arc<Facts>) {
        if Arc::ptr_eq(facts, &self.facts) {
            return;
        }
        let is_same = facts.login == self.facts.login;
        self.facts = Arc::clone(facts);
        if is_same {
            return;
        }
        shared.census.see_user(&facts.user);
        self.user = Arc::from(facts.user.as_str());
        self.ties.clear();
        self.in_transaction = false;
        let entry = Entry::Login {
            database: facts.database.clone(),
        };
        self.journal.apply(&entry, 0);
        self.last_key = LastKey::Known(0);
        self.long.clear();
        self.let_replay_go();
    }

    /// The replay goes on to the end of what it was given.
    fn let_replay_go(&mut self) {
        self.former.retain(|task| !task.is_finished());
        self.former.extend(self.worker.take().map(Worker::close));
    }

    /// Lets go of a replay that has done all that it was given; where it was given more since, or a
    /// transaction is open, it stays.
    pub(super) fn part_with_rested(&mut self, rested: &Rested) -> Option<JoinHandle<()>> {
        let open = self.in_transaction || !self.lost.is_empty();
        let worker = self.worker.as_ref()?;
        if open || worker.given() != rested.done {
            return None;
        }
        if let (LastKey::Behind(seq), Some((of, key))) = (self.last_key, rested.last_key)
            && seq == of
        {
            self.last_key = key.map_or(LastKey::Unknown, LastKey::Known);
        }
        self.worker.take().map(Worker::retire)
    }

    /// Outside of a transaction the switches hold anew, and so does the mirror.
    fn begin(&mut self, came: Came, step: &Step) {
        if !step.before {
            self.absent = None;
            self.control = came.control;
            self.lost = Scope::none();
        }
    }

    fn read(&self, shared: &Shared, command: &[u8], missing: Missing) -> Reading {
        let reader = Reader {
            shapes: &shared.shapes,
            journal: &self.journal,
            capabilities: self.facts.capabilities,
            no_backslash_escapes: self.no_backslash_escapes,
            databases: &shared.server.databases,
            missing,
        };
        let mut reading = reader.read(command);
        shared.reach.extend(&mut reading);
        reading
    }

    fn step(&mut self, one: &Exchange, reading: &Reading) -> Step {
        if let Some(status) = one.answer.status {
            self.no_backslash_escapes = status.has(Status::NO_BACKSLASH_ESCAPES);
        }
        let said = said(&one.answer, one.answered);
        self.tracker.step(&Seen {
            flag_before: one.in_transaction_before,
            said,
            control: reading.control,
            commits: commits(reading, said),
            resets: resets(reading.kind),
            reads: self.opens_snapshot(reading),
            writes: written(reading),
            touches: &reading.scope,
            began: one.began,
        })
    }

    /// Whether the command would open a transaction's snapshot.
    fn opens_snapshot(&self, reading: &Reading) -> bool {
        reads_to_the_end(reading) && self.journal.keeps_snapshot()
    }

    /// How the command is run, or why not.
    fn decide(
        &self,
        shared: &Shared,
        one: &Exchange,
        came: Came,
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
        if *one.facts.primary != *shared.primary {
            // The roles have turned since: the server that answered it is the shadow now.
            return Err(Reason::Internal);
        }
        self.may_be_mirrored(shared, came)?;
        let says_nothing = |failure: &Failure| {
            // What the primary cannot prepare, the client sends as text, and that is compared.
            says_nothing(failure)
                || reading.kind == Command::STMT_PREPARE && failure.code == UNSUPPORTED_PS
        };
        let unknown = step.ended == Some(Ending::Unknown);
        if unknown || !one.answered || one.answer.error().is_some_and(says_nothing) {
            return Err(Reason::PrimaryError);
        }
        let limit = shared.config.mirror.answer_bytes_max.now();
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
        if !one.answer.is_digested() {
            // It began before the switches were turned.
            return Err(Reason::Off);
        }
        Ok(mode)
    }

    /// Whether the session's commands are mirrored at all, now.
    fn may_be_mirrored(&self, shared: &Shared, came: Came) -> Result<(), Reason> {
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
        if unknown || came.journal_unknown {
            return Err(Reason::Dropped);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "all that a run is made of")]
    fn run(
        &mut self,
        shared: &Arc<Shared>,
        charged: Charged,
        reading: Reading,
        step: Step,
        mode: Mode,
        entries: Vec<Entry>,
        long: Vec<Charged>,
        last_key: LastKey,
    ) {
        let waits = self.load().is_some_and(Load::is_behind);
        // The relay needs its buffers back before this one's turn comes.
        let charged = if waits { charged.put_aside() } else { charged };
        let database = self.journal.database_kept();
        let (part, scope) = part(&reading, &step);
        let staked = if mode == Mode::Replay {
            committed(&reading, &step, may_have_written(&charged))
        } else {
            Scope::none() // nothing of it stays there, and that is known
        };
        let run = Run {
            owed: Owed::new(&shared.ledger, &reading, self.asker(), &charged),
            stake: Some(Stake::new(shared, staked, database, &reading.fingerprint)),
            ticket: shared.line.join(Request {
                session: charged.facts.session,
                part,
                scope,
                writes: reading.writes.clone(),
                began: charged.began,
                acked: charged.acked,
                statement: Some(Arc::clone(&reading.fingerprint)),
            }),
            last_key,
            settles_key: self.last_key == LastKey::Behind(charged.seq),
            charged,
            reading,
            step,
            mode,
            long,
            pin: Pin::default(),
            entries: entries.clone(),
        };
        self.mirrored
            .get_or_insert_with(|| Counted::session(&shared.counters));
        let worker = self
            .worker
            .get_or_insert_with(|| Worker::start(shared, &self.facts, self.journal.clone()));
        if let Err((job, reason)) = worker.give(Job::Run(Box::new(run))) {
            self.part_with_replay(job, reason);
        }
        self.apply(&shared.config, &entries);
    }

    fn skip(
        &mut self,
        shared: &Arc<Shared>,
        charged: Charged,
        reading: &Reading,
        step: &Step,
        reason: Reason,
        entries: Vec<Entry>,
    ) {
        if charged.counts() {
            Owed::new(&shared.ledger, reading, self.asker(), &charged).not_compared(reason);
        }
        self.apply(&shared.config, &entries);
        let held = Held::Exchange(charged);
        self.tell_skipped(shared, reading, step, reason, entries, held);
    }

    /// Tells the replay what a command that is not run means to its transaction.
    fn tell_skipped(
        &mut self,
        shared: &Arc<Shared>,
        reading: &Reading,
        step: &Step,
        reason: Reason,
        entries: Vec<Entry>,
        held: Held,
    ) {
        if self.worker.is_none() {
            return; // what is lost is tainted already, see `lose`
        }
        let times = held.times();
        let whole = self.absent.is_none() && self.control.writes == Writes::Apply;
        let stake = |ending| {
            let staked = if whole && ending == Ending::Commit {
                step.wrote.clone()
            } else {
                Scope::none()
            };
            let database = self.journal.database_kept();
            Stake::new(shared, staked, database, &reading.fingerprint)
        };
        self.pass_on(Skip {
            entries,
            ends: step.ended.map(|ending| TransactionEnd {
                ending,
                another: step.after,
                applies: self.control.writes == Writes::Apply,
                stake: stake(ending),
            }),
            abandons: self.absent.filter(|_| is_missed(reading, step, reason)),
            ticket: self.place_of_end(shared, step, times),
            misses: if step.after && !reading.only_locks() {
                reading.writes.clone()
            } else {
                Scope::none()
            },
            _held: held,
        });
    }

    /// The place of a transaction's end whose command is not run.
    fn place_of_end(&self, shared: &Shared, step: &Step, times: Times) -> Option<Ticket> {
        let (part, scope) = part_of_end(step)?;
        let (began, acked) = times?;
        Some(shared.line.join(Request {
            session: self.facts.session,
            part,
            scope,
            writes: Scope::none(),
            began,
            acked,
            statement: None,
        }))
    }

    /// A CLOSE has no answer and no verdict; the replay closes its own.
    fn close_statement(&mut self, shared: &Shared, charged: Charged, entries: Vec<Entry>) {
        self.apply(&shared.config, &entries);
        self.pass_on(Skip {
            entries,
            ends: None,
            abandons: None,
            ticket: None,
            misses: Scope::none(),
            _held: Held::Exchange(charged),
        });
    }

    fn apply(&mut self, config: &crate::config::Config, entries: &[Entry]) {
        for entry in entries {
            self.apply_one(entry, config.mirror.prepared_max);
        }
    }

    fn apply_one(&mut self, entry: &Entry, prepared_max: usize) {
        if matches!(entry, Entry::Reset) {
            self.long.clear();
            self.ties.clear();
            self.resets += 1;
        }
        self.journal.apply(entry, prepared_max);
    }

    /// What the command leaves behind that no other connection can be given. `answer` is none where
    /// nothing of it is known but that it was no error.
    fn take_ties(
        &mut self,
        shared: &Shared,
        reading: &Reading,
        command: &[u8],
        answer: Option<&Answer>,
    ) {
        let used = self.ties.take(&Told {
            reading,
            command,
            capabilities: self.facts.capabilities,
            answer,
            database: self.journal.database(),
        });
        for feature in used {
            shared.census.see_feature(feature);
            self.features.insert(feature);
        }
    }

    /// Tells the replay of a command that is not run, if that concerns it.
    fn pass_on(&mut self, skip: Skip) {
        let concerns = !skip.entries.is_empty()
            || skip.ends.is_some()
            || skip.abandons.is_some()
            || !skip.misses.is_empty();
        if let Some(worker) = self.worker.as_mut().filter(|_| concerns)
            && let Err((job, reason)) = worker.give(Job::Skip(Box::new(skip)))
        {
            self.part_with_replay(job, reason);
        }
    }

    /// The replay takes no more: it does what it has, and the next transaction gets another.
    fn part_with_replay(&mut self, job: Job, reason: Reason) {
        self.let_replay_go();
        self.absent = Some(reason);
        match job {
            Job::Run(run) => {
                if let Some(stake) = run.stake {
                    stake.missed(reason);
                }
                run.owed.not_compared(reason);
            }
            Job::Skip(skip) => {
                if let Some(end) = skip.ends {
                    end.stake.missed(reason);
                }
            }
        }
    }

    /// Remembers the primary's commit points, mirrored or not.
    fn remember(&self, shared: &Shared, reading: &Reading, step: &Step, one: &Exchange) {
        if reading.class == Class::Ddl {
            forget_tables(shared, &reading.writes, one.acked);
        }
        if !may_have_written(one) {
            return;
        }
        let mut scope = Scope::none();
        if matches!(step.ended, Some(Ending::Commit | Ending::Unknown)) {
            scope.join(&step.wrote);
        }
        if !step.after || reading.ends_inside {
            scope.join(&reading.writes);
        }
        if !scope.is_empty() {
            shared.beside.note(&scope, one.acked);
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
        if let Err(reason) = decision {
            let opens = is_statement(reading) && step.after;
            let opens = opens && (!step.before || step.ended.is_some());
            if (opens || is_missed(reading, step, reason)) && self.absent.is_none() {
                self.absent = Some(reason);
            }
        }
        let is_lost = !matches!(decision, Ok(Mode::Replay));
        if is_lost && may_have_written && !reading.only_locks() {
            self.lost.join(&reading.writes);
        }
        if step.after && step.ended.is_none() {
            return;
        }
        let mut lost = std::mem::replace(&mut self.lost, Scope::none());
        match step.ended {
            // Of several statements, some may have been run behind the ROLLBACK.
            Some(Ending::Rollback) if !reading.ends_inside => return,
            Some(Ending::Commit) if self.absent.is_some() => lost.join(&step.wrote),
            Some(Ending::Unknown) => lost.join(&step.wrote),
            Some(Ending::Commit | Ending::Rollback) | None => {}
        }
        if !lost.is_empty() {
            let cause = format!(
                "a write was not carried to the shadow ({}): {}",
                reason_of(decision),
                reading.fingerprint
            );
            let cause = cause.as_str().into();
            // Where nobody knows what it was, it may be of any database.
            let database = match &lost {
                Scope::All => "",
                Scope::Known(_) => self.journal.database(),
            };
            shared.taint(&lost, database, &cause);
        }
    }

    fn keep_long(&mut self, reading: &Reading, charged: Charged) {
        if let Some((id, _)) = &reading.statement {
            self.long.keep(*id, charged);
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
            .map(|id| self.long.take(id))
            .unwrap_or_default()
    }
}

/// ER_UNSUPPORTED_PS: the statement exists, but cannot be prepared.
pub(super) const UNSUPPORTED_PS: u16 = 1295;

/// Whether a replica says this before it reads the binary log: COM_REGISTER_SLAVE,
/// COM_BINLOG_DUMP, COM_BINLOG_DUMP_GTID.
const fn is_a_replicas(kind: Command) -> bool {
    matches!(kind, Command(0x15) | Command::BINLOG_DUMP | Command(0x1E))
}

fn reason_of(decision: Result<Mode, Reason>) -> &'static str {
    match decision {
        Ok(Mode::Replay) => "replayed",
        Ok(Mode::Rollback) => "writes = rollback",
        Ok(Mode::Plan) => "writes = plan",
        Err(reason) => reason.name(),
    }
}

/// DDL makes other tables of these.
fn forget_tables(shared: &Shared, scope: &Scope, acked: Instant) {
    shared.forget_clocks(scope);
    match scope {
        Scope::Known(tables) => shared.tables.changed(tables.iter(), acked),
        Scope::All => shared.tables.all_changed(acked),
    }
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

/// A number from 0 to 1 for a command, the same at every look.
fn die(one: &Exchange) -> f64 {
    let mut key = [0; 16];
    let (session, seq) = key.split_at_mut(8);
    session.copy_from_slice(&one.facts.session.to_le_bytes());
    seq.copy_from_slice(&one.seq.to_le_bytes());
    let hash = xxhash_rust::xxh3::xxh3_64(&key) >> 32;
    f64::from(u32::try_from(hash).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
}

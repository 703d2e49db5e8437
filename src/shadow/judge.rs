//! From two answers and their circumstances to a verdict, and whether a dark write went wrong.

use super::job::{Mode, Run};
use super::line::Ticket;
use super::link::Trouble;
use super::order::{Part, Request, Scope};
use super::recent::Recent;
use super::shared::Shared;
use super::talk::Reply;
use crate::compare::verdict::{Divergence, Kind, Reason, Verdict};
use crate::compare::{Context, compare};
use crate::ledger::Cause;
use crate::ledger::observation::Follows;
use crate::sql::{ANY_ROWS, Class, Statement};
use crate::wire::answer::{Answer, Failure, Outcome};
use std::time::Duration;
use tokio::time::Instant;

/// What came of a comparison.
#[derive(Debug)]
pub(super) struct Judgement {
    /// The verdict.
    pub(super) verdict: Verdict,
    /// What the difference is and what it follows from, where it is *not compared: tainted*.
    pub(super) follows: Option<Follows>,
    /// The shadow ran the command itself, so its side is one of two. A plan that was refused is.
    pub(super) ran: bool,
    /// The difference, where a commit that the primary has not acknowledged yet may explain it, or
    /// another look at the shadow; and what the command saw.
    pub(super) unsettled: Option<(Glimpse, Divergence)>,
    /// The shadow's rows are no longer the primary's, and why, in words without literals.
    pub(super) damage: Option<String>,
}

#[cfg(feature = "simulation")]
impl Judgement {
    /// Where only the replay is measured, what differs is taken for equal.
    pub(super) fn unless_measured(self) -> Self {
        let is_measured = crate::planted::measures().is_some();
        let differs = matches!(self.verdict, Verdict::Diverged(_))
            || self.follows.is_some()
            || self.unsettled.is_some();
        if !is_measured || !differs {
            return self;
        }
        Self {
            verdict: Verdict::Match,
            follows: None,
            unsettled: None,
            damage: None,
            ..self
        }
    }
}

/// What else must be known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    /// It did not wait for its turn to the end.
    pub(super) late: bool,
    /// Why a table that it touches holds other rows in the open transaction, if one does.
    pub(super) owed: Option<&'a Cause>,
}

/// Judges what the shadow answered to a command.
pub(super) fn judge(
    shared: &Shared,
    run: &Run,
    reply: &Reply,
    circumstances: Circumstances<'_>,
) -> Judgement {
    let (primary, shadow) = (run.primary(), &reply.answer);
    let is_refused_plan = run.mode == Mode::Plan && shadow.error().is_some();
    if run.has_stand_in() && !is_refused_plan {
        return Judgement {
            verdict: Verdict::NotCompared(Reason::Off),
            follows: None,
            ran: false,
            unsettled: None,
            damage: None,
        };
    }
    let statements = statements(run);
    let clock_columns = shared.clock_columns();
    let verdict = compare(
        primary,
        shadow,
        &Context {
            command: &run.charged.command,
            statements,
            rules: &shared.config.compare.measure.now(),
            key_pinned: run.pin.keys,
            clock_columns: &clock_columns,
            behind: reply.sent.saturating_duration_since(run.charged.sent),
            transactions_mirrored: run.mode == Mode::Replay,
        },
    );
    let damage = damage(shared, run, shadow, &verdict);
    let mut judgement = Judgement {
        verdict,
        follows: None,
        ran: true,
        unsettled: None,
        damage,
    };
    if has_cursor(primary) {
        judgement.verdict = Verdict::NotCompared(Reason::Cursor);
    } else if circumstances.late {
        judgement.verdict = Verdict::NotCompared(Reason::OrderWait);
    } else {
        excuse(shared, run, reply, circumstances.owed, &mut judgement);
    }
    judgement
}

/// Whether the shadow gave no answer for it answers far more than the primary did: where it does so again and
/// again, it takes the network and the processors that clients need, and is unwell.
pub(super) fn is_flood(shared: &Shared, run: &Run, trouble: &Trouble) -> bool {
    let limit = shared.config.mirror.answer_bytes_max.now();
    let primary = run.primary();
    matches!(trouble, Trouble::TooLarge)
        && primary.bytes < limit / 2
        // What a cursor would bring is no answer on the primary, and a plan none to the statement.
        && !has_cursor(primary)
        && run.mode != Mode::Plan
}

/// The client asked for a cursor and got one: its rows were not in the answer.
fn has_cursor(answer: &Answer) -> bool {
    answer
        .results
        .iter()
        .any(|outcome| matches!(outcome, Outcome::Rows(rows) if rows.cursor))
}

/// Whether the shadow's rows are no longer the primary's.
fn damage(shared: &Shared, run: &Run, shadow: &Answer, verdict: &Verdict) -> Option<String> {
    if run.mode != Mode::Replay || !run.reading.runs {
        return None;
    }
    let fingerprint = &run.reading.fingerprint;
    let (one, other) = (run.primary().error(), shadow.error());
    let ran = run.primary().results.len();
    let how = match (one, other, verdict) {
        (Some(_), Some(_), _) if ran != shadow.results.len() => {
            "stopped at another of its statements".to_owned()
        }
        (Some(_), Some(_), Verdict::Diverged(divergence)) if ran > 1 => {
            format!("diverged ({}) and failed", divergence.kind.name())
        }
        (Some(_), Some(_), _) => return None,
        (None, Some(failure), _) => format!("failed with error {}", failure.code),
        (Some(failure), None, _) => format!(
            "succeeded where the primary refused it with error {}",
            failure.code
        ),
        (None, None, Verdict::Diverged(divergence)) => {
            format!("diverged ({})", divergence.kind.name())
        }
        (None, None, _) => {
            let why = swapped(shared, run).or_else(|| inexact(run))?;
            let cause = format!("{why}: {fingerprint}");
            shared.warn_once(run.reading.digest, &cause);
            return Some(cause);
        }
    };
    Some(format!("a dark write {how}: {fingerprint}"))
}

/// Why a write that both servers took may stand in another place on the shadow: sessions of the process that was
/// here before wrote to the same tables.
fn swapped(shared: &Shared, run: &Run) -> Option<String> {
    let (reading, began) = (&run.reading, run.charged.began);
    let is_swapped = shared.beside.may_be_swapped(&reading.writes, began);
    is_swapped.then(|| "in a hand-over both processes wrote to its table".to_owned())
}

/// Why a write that both servers took may have written other rows.
fn inexact(run: &Run) -> Option<String> {
    if let Some(why) = run.pin.cannot {
        return Some(format!("cannot pin the generated key: {why}"));
    }
    let differs = differs_by_nature(run)?;
    let why = match differs {
        ANY_ROWS => "its LIMIT takes any rows".to_owned(),
        variable if variable.starts_with('@') => format!("{variable} differs by nature"),
        function => format!("{function}() differs by nature"),
    };
    Some(format!("a dark write cannot be mirrored exactly ({why})"))
}

/// The command's statements, without what is pinned in them.
fn statements(run: &Run) -> &[Statement] {
    let analysis = run.reading.analysis.as_ref();
    let own = || analysis.map(|analysis| analysis.statements.as_slice());
    let pinned = run.pin.statements.as_deref();
    pinned.or_else(own).unwrap_or_default()
}

/// A function in the write whose value differs on every server.
fn differs_by_nature(run: &Run) -> Option<&'static str> {
    statements(run)
        .iter()
        .filter(|one| matches!(one.class, Class::Write | Class::Ddl))
        .find_map(|one| one.nondeterministic.first().copied())
}

/// A difference that follows from what is known already is no divergence of its own.
fn excuse(
    shared: &Shared,
    run: &Run,
    reply: &Reply,
    owed: Option<&Cause>,
    judgement: &mut Judgement,
) {
    let Verdict::Diverged(divergence) = &judgement.verdict else {
        return;
    };
    if !comes_from_rows(divergence, run.primary(), &reply.answer) {
        return;
    }
    if let Some(cause) = shared.tainted_by(&run.reading.scope).or(owed.cloned()) {
        judgement.follows = Some(Follows {
            cause,
            divergence: divergence.clone(),
        });
        judgement.verdict = Verdict::NotCompared(Reason::Tainted);
        return;
    }
    if may_outrun(shared.feeds(), run) {
        judgement.verdict = Verdict::NotCompared(Reason::Lag);
        return;
    }
    let (scope, one) = (&run.reading.scope, &run.charged);
    let saw = run.step.snapshot.unwrap_or(one.began);
    if shared.beside.may_explain(scope, saw, one.acked) {
        if let Some(damage) = &mut judgement.damage {
            *damage = raced(run);
        }
        judgement.verdict = Verdict::NotCompared(Reason::Race);
        return;
    }
    let Some(glimpse) = Glimpse::of(run, reply.done) else {
        return;
    };
    let reason = glimpse.has_met(shared);
    judgement.unsettled = Some((glimpse, divergence.clone()));
    if let Some(reason) = reason {
        if let Some(damage) = &mut judgement.damage {
            *damage = raced(run);
        }
        judgement.verdict = Verdict::NotCompared(reason);
    }
}

/// Whether replication may have brought the write's own rows, or not yet those before it, when the
/// write was rehearsed: then the row is there already, or the update changes nothing.
fn may_outrun(feeds: bool, run: &Run) -> bool {
    is_outrun(feeds, run.mode, run.reading.class)
}

fn is_outrun(feeds: bool, mode: Mode, class: Class) -> bool {
    !feeds && mode == Mode::Rollback && class == Class::Write
}

/// What a write did to its tables that differs, and overlapped another on the primary.
pub(super) fn raced(run: &Run) -> String {
    let shape = &run.reading.fingerprint;
    format!("a dark write overlapped another on the primary, perhaps in another order: {shape}")
}

/// Compares what a read was answered, on whatever connection.
pub(super) fn compare_reads(
    shared: &Shared,
    command: &[u8],
    statements: &[Statement],
    one: &Answer,
    other: &Answer,
) -> Verdict {
    let clock_columns = shared.clock_columns();
    let context = Context {
        clock_columns: &clock_columns,
        // Each of them was run again, no one looks when.
        behind: shared.config.mirror.timeout.now(),
        command,
        statements,
        rules: &shared.config.compare.measure.now(),
        key_pinned: false,
        // The connection's own state says nothing of the session's.
        transactions_mirrored: false,
    };
    compare(one, other, &context)
}

/// Whether other rows would explain the difference; a statement that the shadow does not have, or
/// columns of other types, differ whatever the rows are.
fn comes_from_rows(divergence: &Divergence, primary: &Answer, shadow: &Answer) -> bool {
    match divergence.kind {
        Kind::Rows
        | Kind::Null
        | Kind::Value
        | Kind::Order
        | Kind::AffectedRows
        | Kind::LastInsertId => true,
        Kind::Error | Kind::OtherError => [primary, shadow]
            .into_iter()
            .filter_map(Answer::error)
            .all(is_about_rows),
        Kind::Unsupported | Kind::ShadowLimit | Kind::Columns | Kind::Latency => false,
    }
}

/// Duplicate keys, foreign keys, and rows that do not fit.
fn is_about_rows(failure: &Failure) -> bool {
    matches!(
        failure.code,
        1022 | 1062
            | 1216
            | 1217
            | 1242
            | 1264
            | 1365
            | 1406
            | 1451
            | 1452
            | 1557
            | 1690
            | 1761
            | 1762
    )
}

/// What is lost of another session's writes is known so much later, at most, than what followed it
/// was read.
const TEE_LATE: Duration = Duration::from_millis(100);

/// Others see a commit before its acknowledgement comes through the tee; on an overloaded machine too the rest
/// of the way takes less than this.
pub(super) const SEEN_EARLY: Duration = Duration::from_secs(2);

/// No session has this number: see [`Recent::met`].
pub(super) const NOBODY: u64 = u64::MAX;

/// What a command saw on the primary: these tables, between two instants.
#[derive(Clone, Debug)]
pub(super) struct Glimpse {
    session: u64,
    scope: Scope,
    from: Instant,
    to: Instant,
    done: Instant,
    reason: Reason,
    /// It wrote to them.
    writes: bool,
    /// A later taint is of a write that the shadow had not lost yet.
    taints_until: jiff::Timestamp,
}

impl Glimpse {
    fn of(run: &Run, done: Instant) -> Option<Self> {
        let one = &run.charged;
        let (from, to, reason) = match run.step.snapshot {
            // vtgate opens a snapshot on each shard when that is first touched: at the latest now.
            Some(opened) => (opened, done, Reason::Snapshot),
            None => (one.began, one.acked, Reason::Race),
        };
        let alone = !run.step.before && !run.step.after && run.mode == Mode::Replay;
        let may_be_met = match run.reading.class {
            Class::Read | Class::LockingRead | Class::Metadata => true,
            // Within a transaction its locks keep the order.
            Class::Write => alone,
            Class::Empty | Class::Session | Class::Transaction | Class::Ddl | Class::Unmirrored => {
                false
            }
        };
        may_be_met.then(|| Self {
            session: one.facts.session,
            scope: run.reading.scope.clone(),
            from,
            to,
            done,
            reason,
            writes: run.reading.class == Class::Write,
            taints_until: jiff::Timestamp::now()
                .checked_add(TEE_LATE)
                .unwrap_or(jiff::Timestamp::MAX),
        })
    }

    /// What explains a difference by now: a taint, with its cause, or that it met a commit.
    pub(super) fn explains(&self, shared: &Shared) -> Option<(Reason, Option<Cause>)> {
        if let Some(cause) = self.tainted(shared) {
            return Some((Reason::Tainted, Some(cause)));
        }
        self.met(shared).map(|reason| (reason, None))
    }

    /// The cause of a taint that was there when the command was done on the shadow.
    pub(super) fn tainted(&self, shared: &Shared) -> Option<Cause> {
        // A write that went wrong has tainted its tables itself.
        let reads = !self.writes;
        reads
            .then(|| shared.tainted_until(&self.scope, self.taints_until(shared)))
            .flatten()
    }

    /// What was lost and lay unread when this was done is known only since it was looked at.
    fn taints_until(&self, shared: &Shared) -> jiff::Timestamp {
        if shared.unread.has_lain(self.done) {
            return jiff::Timestamp::MAX;
        }
        self.taints_until
    }

    /// Whether all has been looked at that explains what this saw.
    pub(super) fn is_known(&self, shared: &Shared) -> bool {
        shared.unread.is_known(self.seen_by())
    }

    /// Waits until it has, at most to this moment.
    pub(super) async fn known(&self, shared: &Shared, at_most: Instant) {
        let _ = shared.unread.known(self.seen_by(), at_most).await;
    }

    /// What this saw was acknowledged by then.
    fn seen_by(&self) -> Instant {
        self.to + SEEN_EARLY
    }

    /// A place in the line behind what is to be written to the tables.
    pub(super) fn ticket(&self, shared: &Shared) -> Ticket {
        let now = Instant::now();
        shared.line.join(Request {
            session: NOBODY,
            part: Part::Read,
            scope: self.scope.clone(),
            writes: Scope::none(),
            began: now,
            acked: now,
            statement: None,
        })
    }

    /// The tables.
    pub(super) const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether anybody has written to the tables since it began, as far as is known by now.
    pub(super) fn written_since(&self, shared: &Shared) -> bool {
        self.written_between(shared, self.from, Instant::now())
    }

    /// Whether anybody wrote to the tables in this time before it began.
    pub(super) fn written_before(&self, shared: &Shared, time: Duration) -> bool {
        let from = self.from.checked_sub(time).unwrap_or(self.from);
        self.written_between(shared, from, self.from)
    }

    /// Whether anybody wrote to the tables from its beginning to the shadow's answer.
    pub(super) fn written_meanwhile(&self, shared: &Shared) -> bool {
        self.written_between(shared, self.from, self.done)
    }

    /// Whether anybody wrote to the tables between two instants, this session included; or perhaps did, for
    /// not all that was acknowledged until then has been looked at.
    pub(super) fn written_between(&self, shared: &Shared, from: Instant, to: Instant) -> bool {
        !shared.unread.is_known(to) || self.was_written(shared, from, to)
    }

    /// Whether somebody is known to have written to the tables since it began.
    pub(super) fn was_written_since(&self, shared: &Shared) -> bool {
        self.was_written(shared, self.from, Instant::now())
    }

    fn was_written(&self, shared: &Shared, from: Instant, to: Instant) -> bool {
        let recent = shared.recent.lock();
        recent.met(NOBODY, &self.scope, from, to)
    }

    /// The reason, where another session committed to these tables at that time: then the two
    /// sides may have seen different rows. Or perhaps did, for not all has been looked at that may have.
    pub(super) fn met(&self, shared: &Shared) -> Option<Reason> {
        if !self.is_known(shared) {
            return Some(self.reason);
        }
        self.has_met(shared)
    }

    /// The same, as far as is known by now.
    fn has_met(&self, shared: &Shared) -> Option<Reason> {
        let met = |points: &Recent, to| points.met(self.session, &self.scope, self.from, to);
        let is_met =
            met(&shared.recent.lock(), self.to) || met(&shared.overtaking.lock(), self.done);
        is_met.then_some(self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsed_write_may_be_outrun_by_replication_alone() {
        assert!(is_outrun(false, Mode::Rollback, Class::Write));
        assert!(!is_outrun(true, Mode::Rollback, Class::Write));
        assert!(!is_outrun(false, Mode::Replay, Class::Write));
        assert!(!is_outrun(false, Mode::Rollback, Class::Read));
    }
}

//! Runs one command on the shadow as its mode says, and a transaction again where the shadow asks
//! for it.

use super::desk::UNSUPPORTED_PS;
use super::job::{Mode, Run};
use super::link::{Link, Trouble};
use super::reading::{Text, shape};
use super::shared::{Shared, count};
use super::talk::Reply;
use super::transaction::{Ending, is_ended_by_limit, is_retriable};
use crate::ledger::observation::Wording;
use crate::sql::Class;
use crate::wire::command::Command;
use crate::wire::execute::{self, Execute};
use crate::wire::query::query_text;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of one transaction's commands that are kept to run it again.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// How often a transaction is run again.
const RETRIES: u32 = 4;

/// Pause before it is, the first time; doubles each time.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// For so long vtgate may need to see a table that was just made (VT09015), and how often it is
/// asked.
const SCHEMA_WAIT: Duration = Duration::from_secs(5);
const SCHEMA_PAUSE: Duration = Duration::from_millis(200);

/// A transaction's commands as they were sent to the shadow, within limits.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Each with whether the shadow did it.
    payloads: Vec<(Vec<u8>, bool)>,
    bytes: usize,
    /// Some of them did not fit: it cannot be run again.
    is_partial: bool,
}

impl Kept {
    fn keep(&mut self, shared: &Shared, payload: Vec<u8>, done: bool) {
        let bytes = payload.len();
        if self.is_partial || self.bytes + bytes > KEPT_BYTES_MAX || !shared.keep(bytes as u64) {
            self.is_partial = true;
            return;
        }
        self.bytes += bytes;
        self.payloads.push((payload, done));
    }

    /// Whether they are all of the transaction's.
    pub(super) const fn is_whole(&self) -> bool {
        !self.is_partial
    }

    /// From here on, some are missing.
    pub(super) const fn is_not_whole(&mut self) {
        self.is_partial = true;
    }

    /// Forgets them.
    pub(super) fn clear(&mut self, shared: &Shared) {
        shared.let_go(self.bytes as u64);
        *self = Self::default();
    }
}

/// Runs the command.
pub(super) async fn perform(
    shared: &Shared,
    link: &mut Link,
    run: &mut Run,
    kept: &mut Kept,
) -> Result<Reply, Trouble> {
    match run.mode {
        Mode::Replay => replay(shared, link, run, kept).await,
        Mode::Rollback => rehearse(shared, link, run).await,
        Mode::Plan => plan(link, run).await,
    }
}

async fn replay(
    shared: &Shared,
    link: &mut Link,
    run: &mut Run,
    kept: &mut Kept,
) -> Result<Reply, Trouble> {
    let mut asked = exchange(shared, link, run).await?;
    for tried in 0..RETRIES {
        if !is_transient(run, &asked.reply) || !may_repeat(run, &asked.reply, kept) {
            break;
        }
        count(&shared.counters.retries);
        link.query(b"ROLLBACK").await?;
        tokio::time::sleep(RETRY_PAUSE * 2_u32.pow(tried)).await;
        if !again(link, kept).await? {
            continue;
        }
        let was_ended = asked.reply.answer.error().is_some_and(is_ended_by_limit);
        asked = exchange(shared, link, run).await?;
        asked.reply.ended_before = was_ended;
    }
    let schema_deadline = Instant::now() + SCHEMA_WAIT;
    while is_one_statement(run)
        && is_schema_unseen(&asked.reply)
        && Instant::now() < schema_deadline
    {
        tokio::time::sleep(SCHEMA_PAUSE).await;
        asked = exchange(shared, link, run).await?;
    }
    if run.step.after {
        match asked.payload {
            // No ROLLBACK undoes it: run again, what stood before it would find another session.
            _ if run.reading.class == Class::Session => kept.is_partial = true,
            // It may have committed a part of itself.
            _ if run.reading.ends_inside => kept.is_partial = true,
            Some(payload) if run.long.is_empty() => {
                let done = asked.reply.answer.error().is_none();
                kept.keep(shared, payload, done);
            }
            None if outlives_a_rollback(run.reading.kind) => {}
            _ => kept.is_partial = true,
        }
    }
    Ok(asked.reply)
}

/// Whether what a command did is there after a ROLLBACK, too, and changes nothing of what ran before:
/// it need not be run again. A driver may prepare each statement within its transaction.
const fn outlives_a_rollback(kind: Command) -> bool {
    matches!(
        kind,
        Command::STMT_PREPARE
            | Command::STMT_RESET
            | Command::PING
            | Command::STATISTICS
            | Command::FIELD_LIST
    )
}

/// Runs a transaction's commands so far again, from its start, until the shadow takes them.
pub(super) async fn run_again(link: &mut Link, kept: &Kept) -> Result<(), Trouble> {
    for tried in 0..RETRIES {
        if again(link, kept).await? {
            return Ok(());
        }
        link.query(b"ROLLBACK").await?;
        tokio::time::sleep(RETRY_PAUSE * 2_u32.pow(tried)).await;
    }
    Err(Trouble::Changed)
}

/// Runs the commands of the transaction so far again; whether the shadow took them. Where one of
/// them ends otherwise than before, nothing that follows can be trusted.
async fn again(link: &mut Link, kept: &Kept) -> Result<bool, Trouble> {
    for (payload, done) in &kept.payloads {
        let reply = link.ask(payload).await?;
        let failure = reply.answer.error();
        if failure.is_some_and(|failure| is_retriable(failure, true)) {
            return Ok(false);
        }
        if failure.is_none() != *done {
            return Err(Trouble::Changed);
        }
    }
    Ok(true)
}

/// Whether nothing of the command can have been committed, so that it may be run again.
fn may_repeat(run: &Run, reply: &Reply, kept: &Kept) -> bool {
    if run.reading.ends_inside {
        return false;
    }
    if run.step.before || run.step.after {
        // A COMMIT that failed may have reached some shards.
        return run.step.ended.is_none() && kept.is_whole();
    }
    // On its own it is a transaction on each shard, of which some may have come to their end.
    let ended = reply
        .answer
        .error()
        .is_some_and(|failure| failure.code == 1317);
    is_one_statement(run) && !ended
}

fn is_one_statement(run: &Run) -> bool {
    let analysis = run.reading.analysis.as_ref();
    analysis.is_none_or(|analysis| analysis.statements.len() == 1)
}

/// Runs the command so that nothing of it stays.
async fn rehearse(shared: &Shared, link: &mut Link, run: &mut Run) -> Result<Reply, Trouble> {
    if run.step.ended == Some(Ending::Commit) {
        let reply = link.query(b"ROLLBACK").await?;
        if run.has_stand_in() {
            return Ok(reply);
        }
    }
    let writes = matches!(run.reading.class, Class::Write | Class::LockingRead);
    if !writes || !run.reading.runs {
        return Ok(exchange(shared, link, run).await?.reply);
    }
    if !link.in_transaction() {
        link.query(b"BEGIN").await?;
    }
    // Refused, or answered by a pool that opens none: then what is rehearsed would stay.
    if !link.in_transaction() {
        return Err(Trouble::OutOfStep);
    }
    let reply = exchange(shared, link, run).await?.reply;
    if !run.step.after {
        link.query(b"ROLLBACK").await?;
    }
    Ok(reply)
}

/// Asks how the shadow would run it.
async fn plan(link: &mut Link, run: &Run) -> Result<Reply, Trouble> {
    let text = text(run)?;
    let ask: &[u8] = if link.is_vitess() {
        b"VEXPLAIN PLAN "
    } else {
        b"EXPLAIN "
    };
    link.query(&[ask, text].concat()).await
}

/// What was sent and what came back.
struct Asked {
    reply: Reply,
    /// Where it can be sent again.
    payload: Option<Vec<u8>>,
}

impl Asked {
    /// What cannot be sent again as it is.
    const fn once(reply: Reply) -> Self {
        Self {
            reply,
            payload: None,
        }
    }
}

/// Sends the command in the shadow's terms.
async fn exchange(shared: &Shared, link: &mut Link, run: &Run) -> Result<Asked, Trouble> {
    let command = &run.charged.command;
    match run.reading.kind {
        Command::QUERY => {
            let text = match &run.pin.text {
                Some((text, _)) => text.as_slice(),
                None => text(run)?,
            };
            Ok(Asked {
                reply: link.query(text).await?,
                payload: run.step.after.then(|| link.query_payload(text)),
            })
        }
        Command::STMT_PREPARE => Ok(Asked::once(prepare(link, run).await?)),
        Command::STMT_EXECUTE => execute(link, run).await,
        Command::STMT_RESET => {
            let Ok(own) = statement(link, run).await? else {
                return Err(Trouble::Unreadable);
            };
            let mut payload = command.clone();
            execute::set_statement_id(&mut payload, own).map_err(|_| Trouble::Unreadable)?;
            Ok(Asked::once(link.ask(&payload).await?))
        }
        Command::INIT_DB => {
            let mut payload = command.clone();
            if let Text::Mapped(name) = &run.reading.text {
                payload.truncate(1);
                payload.extend_from_slice(name);
            }
            Ok(Asked::once(link.ask(&payload).await?))
        }
        Command::RESET_CONNECTION => {
            let reply = link.ask(command).await?;
            link.forget_statements();
            link.init(shared).await?;
            Ok(Asked::once(reply))
        }
        _ => Ok(Asked::once(link.ask(command).await?)),
    }
}

/// The text as the shadow is sent it.
pub(super) fn text(run: &Run) -> Result<&[u8], Trouble> {
    match &run.reading.text {
        Text::Mapped(text) => Ok(text),
        Text::Same | Text::Unsure => {
            query_text(&run.charged.command, run.charged.facts.capabilities)
                .map_err(|_| Trouble::Unreadable)
        }
    }
}

/// Prepares under the client's id; under none where the primary refused it.
async fn prepare(link: &mut Link, run: &Run) -> Result<Reply, Trouble> {
    let text = match &run.reading.text {
        Text::Mapped(text) => text.as_slice(),
        Text::Same | Text::Unsure => run.charged.command.get(1..).unwrap_or_default(),
    };
    let id = run.primary().prepared().map(|(id, _)| id);
    let reply = link.prepare(id.unwrap_or_default(), text).await?;
    if id.is_none() {
        link.close(0).await?;
    }
    Ok(reply)
}

/// The shadow's id of the statement, prepared now if need be; or why it refuses to.
async fn statement(link: &mut Link, run: &Run) -> Result<Result<u32, Reply>, Trouble> {
    let Some((id, statement)) = &run.reading.statement else {
        return Err(Trouble::Unreadable);
    };
    if let Some(own) = link.statement(*id) {
        return Ok(Ok(own));
    }
    let text = statement.prepared.mapped.as_ref();
    let reply = link.prepare(*id, text.ok_or(Trouble::Unreadable)?).await?;
    Ok(link.statement(*id).ok_or(reply))
}

/// The same for the text that was made of the statement for this execution.
async fn pinned(link: &mut Link, run: &Run, text: &[u8]) -> Result<Result<u32, Reply>, Trouble> {
    let Some((id, _)) = &run.reading.statement else {
        return Err(Trouble::Unreadable);
    };
    link.prepare_other(*id, text).await
}

async fn execute(link: &mut Link, run: &Run) -> Result<Asked, Trouble> {
    let prepared = match &run.pin.text {
        Some((text, _)) => pinned(link, run, text).await?,
        None => statement(link, run).await?,
    };
    let own = match prepared {
        Ok(own) => own,
        Err(refusal) => return unprepared(link, run, refusal).await,
    };
    let Some((_, statement)) = &run.reading.statement else {
        return Err(Trouble::Unreadable);
    };
    let mut long = BTreeSet::new();
    for part in &run.long {
        let mut payload = part.command.clone();
        let number = execute::long_parameter(&payload).map_err(|_| Trouble::Unreadable)?;
        long.insert(number);
        let Some(number) = run.pin.number_of(number) else {
            continue; // the key that the primary put in its place is bound
        };
        execute::set_long_parameter(&mut payload, number).map_err(|_| Trouble::Unreadable)?;
        execute::set_statement_id(&mut payload, own).map_err(|_| Trouble::Unreadable)?;
        link.tell(&payload).await?;
    }
    let shape = shape(statement, run.charged.facts.capabilities, &long);
    let sent = Execute::parse(&run.charged.command, shape).map_err(|_| Trouble::Unreadable)?;
    let types = sent.types.as_deref().or(shape.types);
    if shape.parameters > 0 && types.is_none() {
        return Err(Trouble::Unreadable);
    }
    let payload = match &run.pin.text {
        Some((_, arguments)) => sent
            .rebind(own, link.capabilities(), shape, arguments)
            .map_err(|_| Trouble::Unreadable)?,
        None => sent.encode(own, link.capabilities(), shape.types),
    };
    Ok(Asked {
        reply: link.ask(&payload).await?,
        payload: Some(payload),
    })
}

/// What the shadow refused to prepare. The control of transactions it runs as text then: vtgate prepares a
/// BEGIN, a 5.6 does not, and without it all that follows would be lost there.
async fn unprepared(link: &mut Link, run: &Run, refusal: Reply) -> Result<Asked, Trouble> {
    let failure = refusal.answer.error();
    let cannot = failure.is_some_and(|failure| failure.code == UNSUPPORTED_PS);
    let controls = run.reading.class == Class::Transaction;
    let statement = run.reading.statement.as_ref();
    let text = statement.and_then(|(_, statement)| statement.prepared.mapped.as_deref());
    let Some(text) = text.filter(|_| cannot && controls) else {
        return Ok(Asked::once(refusal));
    };
    let payload = link.query_payload(text);
    Ok(Asked {
        reply: link.ask(&payload).await?,
        payload: Some(payload),
    })
}

/// The statement as the client worded it, to be read; not to be run, for it may have bytes that are
/// no UTF-8.
pub(super) fn wording_of(run: &Run) -> Option<Wording> {
    Some(Wording {
        text: String::from_utf8_lossy(worded(run)?).into_owned(),
        dialect: run.reading.dialect,
    })
}

/// The statement as the client worded it, byte for byte.
pub(super) fn worded(run: &Run) -> Option<&[u8]> {
    let command = &run.charged.command;
    let text = match (&run.reading.statement, run.reading.kind) {
        (Some((_, statement)), _) => statement.prepared.text.as_ref(),
        (None, Command::QUERY) => query_text(command, run.charged.facts.capabilities).ok()?,
        (None, Command::STMT_PREPARE) => command.get(1..)?,
        (None, _) => return None,
    };
    Some(text)
}

/// The text that the shadow was sent, parameters not filled in.
pub(super) fn shadow_text(run: &Run) -> Option<String> {
    let text = match &run.reading.statement {
        Some((_, statement)) => statement.prepared.mapped.as_deref()?,
        None => text(run).ok()?,
    };
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Whether the shadow failed in a way that says: the same again may succeed.
pub(super) fn is_transient(run: &Run, reply: &Reply) -> bool {
    let failure = reply.answer.error();
    // Run again it came to the same end: that is the shadow's limit.
    let is_limit = reply.ended_before && failure.is_some_and(is_ended_by_limit);
    !run.failed_on_primary() && !is_limit && was_rolled_back(run, reply)
}

/// Whether the shadow rolled the transaction back.
pub(super) fn was_rolled_back(run: &Run, reply: &Reply) -> bool {
    let locks = !matches!(run.reading.class, Class::Read | Class::Metadata);
    let failure = reply.answer.error();
    failure.is_some_and(|failure| is_retriable(failure, locks))
}

/// vtgate has not seen the table yet.
fn is_schema_unseen(reply: &Reply) -> bool {
    reply
        .answer
        .error()
        .is_some_and(|failure| failure.message.windows(7).any(|word| word == b"VT09015"))
}

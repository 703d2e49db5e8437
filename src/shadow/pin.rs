//! What the primary made up, for the shadow: joins a command with what is known of its tables, of
//! the primary's clock and of its answer. What is written where, `sql::pin` says.

use super::clock::offset;
use super::effect::resets;
use super::job::{Mode, Run};
use super::journal::Journal;
use super::order::Scope;
use super::reading::{Reading, Text, shape};
use super::shared::Shared;
use crate::sql::pin::{self, Bound, Given, Known, LAST, Literal, Moment, Parameter, TableFacts};
use crate::sql::{Class, Statement, Table, Tables};
use crate::tee::{Charged, Exchange};
use crate::wire::answer::{Answer, Done, Outcome};
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::execute::{self, Argument, Execute, Value};
use crate::wire::query::query_text;
use crate::wire::row::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What LAST_INSERT_ID() says in a session on the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastKey {
    /// This.
    Known(u64),
    /// What it says behind the command with this number: known once its table is, to the replay.
    Behind(u64),
    /// That cannot be told.
    Unknown,
}

/// Stands for what LAST_INSERT_ID() was before, whatever that is.
const BEFORE: u64 = u64::MAX;

/// What was made of a command's text for the shadow.
#[derive(Debug, Default)]
pub(super) struct Pin {
    /// The text that is sent in its place, and, where it is prepared, its parameters.
    pub(super) text: Option<(Vec<u8>, Vec<Argument>)>,
    /// The shadow was given the primary's keys, or should have been: its own say nothing.
    pub(super) keys: bool,
    /// The statements as they are now: without what is no longer left to chance.
    pub(super) statements: Option<Vec<Statement>>,
    /// Why a key that the primary generated is not the shadow's too.
    pub(super) cannot: Option<&'static str>,
    /// LAST_INSERT_ID() behind it on the primary, where it is known.
    pub(super) last_insert_id_after: Option<u64>,
}

impl Pin {
    /// The number that a parameter of the client's has in the text that is sent.
    pub(super) fn number_of(&self, own: u16) -> Option<u16> {
        let Some((_, arguments)) = &self.text else {
            return Some(own);
        };
        let at = arguments
            .iter()
            .position(|argument| *argument == Argument::Own(own))?;
        u16::try_from(at).ok()
    }
}

/// Makes of a command what the primary made of it.
pub(super) async fn pin(
    shared: &Shared,
    run: &Run,
    journal: &Journal,
    last_insert_id: Option<u64>,
) -> Pin {
    if run.reading.class == Class::Ddl {
        // Asked for before the dispatcher knew of it.
        shared.tables.forget(run.reading.writes.tables().iter());
        shared.forget_clocks(&run.reading.writes);
    }
    let (Some(analysis), true) = (&run.reading.analysis, wants(&run.reading)) else {
        return Pin::default();
    };
    if run.mode == Mode::Plan {
        return Pin::default();
    }
    let database = journal.database();
    let mut facts = Vec::with_capacity(analysis.statements.len());
    let began = run.charged.began;
    for (nth, one) in analysis.statements.iter().enumerate() {
        let inserted = done(&run.charged.answer, nth).is_some_and(|done| done.affected_rows > 0);
        facts.push(match written(one, database) {
            // Only what an INSERT brought about is worth waiting for.
            Some(table) if one.insert && inserted => shared.tables.soon(&table, began).await,
            Some(table) => shared.tables.now(&table, began),
            None => None,
        });
    }
    shared.clock.soon().await;
    let known = known(shared, &run.charged, journal, last_insert_id);
    let Some(made) = make(&run.reading, &run.charged, &run.long, &known, &facts) else {
        return Pin::default();
    };
    remember_clocks(
        shared,
        &analysis.statements,
        &facts,
        &made.clocked,
        database,
    );
    let statements = made.last_insert_id.then(|| {
        let mut statements = analysis.statements.clone();
        for one in &mut statements {
            one.nondeterministic.retain(|name| !LAST.contains(name));
        }
        statements
    });
    Pin {
        text: made.text.map(|text| (text, arguments(made.parameters))),
        keys: made.key || made.cannot.is_some(),
        statements,
        cannot: made.cannot,
        last_insert_id_after: made.last_insert_id_after,
    }
}

/// LAST_INSERT_ID() of a session behind a command that the primary answered, by what is known
/// without asking.
pub(super) fn last_key_after(
    shared: &Shared,
    reading: &Reading,
    one: &Exchange,
    journal: &Journal,
    before: LastKey,
) -> LastKey {
    if resets(reading.kind) {
        let failed = one.answer.error().is_some();
        return if failed { before } else { LastKey::Known(0) };
    }
    let Some(analysis) = reading.analysis.as_ref().filter(|_| reading.runs) else {
        // An execution of who knows what.
        return if reading.writes == Scope::All {
            LastKey::Unknown
        } else {
            before
        };
    };
    let leaves = |statement| leaves_key(statement, &one.answer);
    if analysis.statements.iter().all(leaves) {
        return before;
    }
    if one.command_bytes > one.command.len() as u64 {
        return LastKey::Unknown;
    }
    let mut facts = Vec::with_capacity(analysis.statements.len());
    for statement in &analysis.statements {
        let table = written(statement, journal.database()).filter(|_| statement.insert);
        let known = table
            .as_ref()
            .and_then(|table| shared.tables.now(table, one.began));
        if table.is_some() && known.is_none() {
            return LastKey::Behind(one.seq);
        }
        facts.push(known);
    }
    let known = known(shared, one, journal, Some(BEFORE));
    let made = make(reading, one, &[], &known, &facts);
    match made.and_then(|made| made.last_insert_id_after) {
        Some(BEFORE) => before,
        Some(key) => LastKey::Known(key),
        None => LastKey::Unknown,
    }
}

/// Whether it is clear at a glance that a statement leaves LAST_INSERT_ID() as it was.
fn leaves_key(statement: &Statement, answer: &Answer) -> bool {
    let generates = |outcome: &Outcome| match outcome {
        Outcome::Ok(done) => done.last_insert_id != 0,
        Outcome::Error(_) | Outcome::RowsThenError(..) => true,
        Outcome::Rows(_) | Outcome::Prepared { .. } | Outcome::LocalInfile | Outcome::Other => {
            false
        }
    };
    !statement.sets_last_insert_id
        && match statement.class {
            Class::Empty | Class::Metadata | Class::Read | Class::Transaction | Class::Ddl => true,
            Class::Write => !answer.results.iter().any(generates),
            Class::Session | Class::LockingRead | Class::Unmirrored => false,
        }
}

/// Whether there may be something to pin.
fn wants(reading: &Reading) -> bool {
    let analysis = reading.analysis.as_ref();
    let concerns = |one: &Statement| {
        let runs = matches!(one.class, Class::Read | Class::LockingRead | Class::Write);
        let reads_last = one.nondeterministic.iter().any(|name| LAST.contains(name));
        runs && (one.clock || one.class == Class::Write)
            || reads_last && (runs || one.class == Class::Metadata)
    };
    reading.runs && analysis.is_some_and(|analysis| analysis.statements.iter().any(concerns))
}

/// The one table that a statement writes rows of its own making to.
fn written(one: &Statement, database: &str) -> Option<Table> {
    let deletes = one.fingerprint.starts_with("DELETE");
    let Tables::Known(tables) = &one.written else {
        return None;
    };
    let [table] = tables.as_slice() else {
        return None;
    };
    (one.class == Class::Write && !deletes).then(|| Table {
        database: table.database.clone().or_else(|| Some(database.to_owned())),
        name: table.name.clone(),
    })
}

/// What is known of the session and the moment.
fn known(shared: &Shared, one: &Exchange, journal: &Journal, last: Option<u64>) -> Known {
    let mirror = &shared.config.mirror;
    let settings = shared.clock.settings();
    // Where the session set its clock, that is carried to the shadow, whose calls then say the same.
    let stands = journal.value_of(&["timestamp", "@@timestamp"]);
    let goes = stands.is_none_or(|assignment| goes_on(&assignment)) && mirror.pin_clock;
    let unix_micros = shared.clock.when(one.sent).filter(|_| goes);
    let zone = journal.value_of(&["time_zone"]);
    let moment = unix_micros.map(|unix_micros| Moment {
        unix_micros,
        offset_s: settings
            .as_ref()
            .and_then(|settings| offset(zone.as_deref(), settings, unix_micros)),
    });
    let number = |text: String| text.split_once('=')?.1.trim().parse().ok();
    let increment = match journal.value_of(&["auto_increment_increment"]) {
        Some(set) => number(set),
        None => settings.as_ref().and_then(|settings| settings.increment),
    };
    let by_default = settings.map(|settings| settings.sql_mode);
    let mode = match journal.value_of(&["sql_mode"]) {
        Some(set) if set.contains("@@") => by_default.map(|mode| set + &mode),
        Some(set) => Some(set),
        None => by_default,
    };
    Known {
        last_insert_id: last,
        moment,
        increment,
        zero_is_a_key: mode.is_some_and(|mode| {
            let mode = mode.to_ascii_lowercase();
            mode.contains("no_auto_value_on_zero")
        }),
        found_rows: one.facts.capabilities.has(Capabilities::FOUND_ROWS),
        keys: mirror.pin_keys,
        rehearsed: !shared.feeds(),
    }
}

/// Whether an assignment to `timestamp` lets the session's clock go: DEFAULT, or 0.
fn goes_on(assignment: &str) -> bool {
    let value = assignment.split_once('=').map(|(_, value)| value.trim());
    matches!(value, Some("default" | "0"))
}

/// Writes what is known into the command's text; none where it has no text, or cannot be read.
fn make(
    reading: &Reading,
    one: &Exchange,
    long: &[Charged],
    known: &Known,
    facts: &[Option<Arc<TableFacts>>],
) -> Option<pin::Pinned> {
    let analysis = reading.analysis.as_ref()?;
    let given: Vec<Given<'_>> = analysis
        .statements
        .iter()
        .enumerate()
        .map(|(nth, statement)| Given {
            statement: Some(statement),
            done: done(&one.answer, nth),
            facts: facts.get(nth).and_then(Option::as_deref),
        })
        .collect();
    let dialect = reading.dialect;
    if reading.kind == Command::STMT_EXECUTE {
        let (_, statement) = reading.statement.as_ref()?;
        let text = statement.prepared.mapped.as_ref()?;
        let bound = bound(reading, one, long)?;
        let prepared = pin::Protocol::Prepared(&bound);
        return Some(pin::pin(text, dialect, prepared, known, &given));
    }
    let text = match &reading.text {
        Text::Mapped(text) => text.as_slice(),
        Text::Same | Text::Unsure => query_text(&one.command, one.facts.capabilities).ok()?,
    };
    Some(pin::pin(text, dialect, pin::Protocol::Text, known, &given))
}

/// The OK that the primary answered a statement with.
fn done(answer: &Answer, nth: usize) -> Option<Done> {
    match answer.results.get(nth)? {
        Outcome::Ok(done) => Some(*done),
        Outcome::Error(_)
        | Outcome::Rows(_)
        | Outcome::RowsThenError(..)
        | Outcome::Prepared { .. }
        | Outcome::LocalInfile
        | Outcome::Other => None,
    }
}

/// What an execution binds.
fn bound(reading: &Reading, one: &Exchange, long: &[Charged]) -> Option<Vec<Bound>> {
    let (_, statement) = reading.statement.as_ref()?;
    let long: BTreeSet<u16> = long
        .iter()
        .filter_map(|part| execute::long_parameter(&part.command).ok())
        .collect();
    let shape = shape(statement, one.facts.capabilities, &long);
    let sent = Execute::parse(&one.command, shape).ok()?;
    let values = sent.decode(shape).ok()?;
    Some(values.into_iter().map(kind_of).collect())
}

fn kind_of(value: Value<'_>) -> Bound {
    let of = |is_zero| if is_zero { Bound::Zero } else { Bound::Number };
    match value {
        Value::Here(Cell::Null) => Bound::Null,
        Value::Here(Cell::Int(number)) => of(number == 0),
        Value::Here(Cell::UInt(number)) => of(number == 0),
        Value::Here(Cell::Double(number)) => of(number.abs() < 0.5),
        Value::Here(Cell::Float(number)) => of(number.abs() < 0.5),
        Value::Here(Cell::Bytes(text)) => Bound::of_text(text),
        Value::Here(Cell::Date(_) | Cell::Time(_)) | Value::SentBefore => Bound::Unsure,
    }
}

fn arguments(parameters: Vec<Parameter>) -> Vec<Argument> {
    let argument = |parameter| match parameter {
        Parameter::Own(number) => Argument::Own(number),
        Parameter::Added(Literal::Key(key)) => Argument::Number(key),
        Parameter::Added(Literal::Unix(seconds)) => {
            Argument::Number(u64::try_from(seconds).unwrap_or(0))
        }
        Parameter::Added(
            Literal::DateTime(text, _) | Literal::Date(text) | Literal::Time(text, _),
        ) => Argument::Text(text),
    };
    parameters.into_iter().map(argument).collect()
}

/// From here on these columns may differ as clocks do.
fn remember_clocks(
    shared: &Shared,
    statements: &[Statement],
    facts: &[Option<Arc<TableFacts>>],
    clocked: &[pin::Clocked],
    database: &str,
) {
    for (nth, statement) in statements.iter().enumerate() {
        let Tables::Known(tables) = &statement.written else {
            continue;
        };
        let own = clocked.iter().filter(|one| one.statement == nth);
        let own = own.map(|one| (one.column.as_str(), one.is_unix));
        let facts = facts.get(nth).and_then(Option::as_deref);
        let filled = facts.into_iter().flat_map(|facts| &facts.columns);
        let filled = filled
            .filter(|column| column.default_clock.is_some() || column.on_update.is_some())
            .map(|column| (column.name.as_str(), false));
        let columns: Vec<(&str, bool)> = own.chain(filled).collect();
        for table in tables {
            let database = table.database.as_deref().unwrap_or(database);
            shared.know_clocks(database, &table.name, &columns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_the_session_set_stands_until_it_is_let_go() {
        for (assignment, goes) in [
            ("timestamp = default", true),
            ("@@session.timestamp=0", true),
            ("timestamp = 1700000000", false),
            ("timestamp = @then", false),
        ] {
            assert_eq!(goes_on(assignment), goes, "{assignment}");
        }
    }
}

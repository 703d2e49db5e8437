//! What the primary made up, written into the text for the shadow: generated keys,
//! LAST_INSERT_ID(), the clock. By token: all that the client wrote stays byte for byte, but for the
//! calls and values that are replaced and the columns that are added. Pure.
//!
//! It refuses to guess: where the primary's answer does not determine a generated key it says why,
//! and the text stays as it is.

mod clock;
mod insert;
mod keys;
mod update;

pub use clock::Moment;
pub use keys::LAST;

use super::lexer::{Kind, Lexer, Token};
use super::statements::{Statement as Tokens, split};
use super::{Class, Dialect, Statement};
use crate::wire::answer::Done;
use clock::Shape;

/// What the primary says of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFacts {
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Something runs for each row that is inserted.
    pub insert_triggers: bool,
}

/// What the primary says of a column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// AUTO_INCREMENT.
    pub auto_increment: bool,
    /// The clock is its default, with so many digits of a second.
    pub default_clock: Option<u8>,
    /// ON UPDATE CURRENT_TIMESTAMP, with so many digits of a second.
    pub on_update: Option<u8>,
    /// INVISIBLE: no part of a list of values without names.
    pub invisible: bool,
}

impl Column {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// What is known of one statement beside its text.
#[derive(Clone, Debug, Default)]
pub struct Given<'a> {
    /// What it is.
    pub statement: Option<&'a Statement>,
    /// The primary's OK, where it answered with one.
    pub done: Option<Done>,
    /// The one table that it writes.
    pub facts: Option<&'a TableFacts>,
}

/// What is known of the session and of the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// LAST_INSERT_ID() before the first statement, where it is known.
    pub last_insert_id: Option<u64>,
    /// The primary's clock when the command ran there, where it is known.
    pub moment: Option<Moment>,
    /// `auto_increment_increment`, where it is known.
    pub increment: Option<u64>,
    /// NO_AUTO_VALUE_ON_ZERO: a 0 is a key like any other.
    pub zero_is_a_key: bool,
    /// The client counts found rows, not changed ones.
    pub found_rows: bool,
    /// Pin generated keys and LAST_INSERT_ID().
    pub keys: bool,
    /// The rows come by another way, with their keys: an INSERT that is rehearsed must get another
    /// key than the primary's, or it meets its own row.
    pub rehearsed: bool,
}

/// A value that is written into the text, or bound to a parameter that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// A key.
    Key(u64),
    /// Seconds since 1970.
    Unix(i64),
    /// `YYYY-MM-DD HH:MM:SS[.f]`, with so many digits of a second.
    DateTime(String, u8),
    /// `YYYY-MM-DD`.
    Date(String),
    /// `HH:MM:SS[.f]`, with so many digits of a second.
    Time(String, u8),
}

impl Literal {
    /// As SQL, without a parameter.
    fn text(&self) -> String {
        match self {
            Self::Key(key) => key.to_string(),
            Self::Unix(seconds) => seconds.to_string(),
            Self::DateTime(text, _) => format!("TIMESTAMP'{text}'"),
            Self::Date(text) => format!("DATE'{text}'"),
            Self::Time(text, _) => format!("TIME'{text}'"),
        }
    }

    /// As SQL, with its value bound. Without a cast `? - INTERVAL 1 DAY` would be a text.
    fn parameter(&self) -> String {
        match self {
            Self::Key(_) | Self::Unix(_) => "?".to_owned(),
            Self::DateTime(_, digits) => format!("CAST(? AS DATETIME({digits}))"),
            Self::Date(_) => "CAST(? AS DATE)".to_owned(),
            Self::Time(_, digits) => format!("CAST(? AS TIME({digits}))"),
        }
    }
}

/// A parameter of a rewritten prepared statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// The client's own, by its number.
    Own(u16),
    /// One that was added.
    Added(Literal),
}

/// What an execution binds to a parameter, as far as a key must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// NULL.
    Null,
    /// A zero of whatever type.
    Zero,
    /// A number that is not zero.
    Number,
    /// Anything else.
    Unsure,
}

impl Bound {
    /// A number in digits.
    #[must_use]
    pub fn of_text(text: &[u8]) -> Self {
        keys::number(text)
    }
}

/// How a text is sent: as it is, or prepared, with these values.
#[derive(Clone, Copy, Debug)]
pub enum Protocol<'a> {
    /// COM_QUERY: literals are written.
    Text,
    /// COM_STMT_EXECUTE: parameters are added.
    Prepared(&'a [Bound]),
}

/// A text that was made to say what the primary did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// The text; none where it stays as it is.
    pub text: Option<Vec<u8>>,
    /// The parameters of a rewritten prepared text, in order.
    pub parameters: Vec<Parameter>,
    /// A generated key was written into it, so the shadow generates none; or the shadow's must be
    /// another one.
    pub key: bool,
    /// All that the text says of LAST_INSERT_ID() was replaced.
    pub last_insert_id: bool,
    /// Columns of the written tables that hold the clock now.
    pub clocked: Vec<Clocked>,
    /// Why a key that the primary generated could not be written.
    pub cannot: Option<&'static str>,
    /// LAST_INSERT_ID() behind the last statement, where it is known.
    pub last_insert_id_after: Option<u64>,
}

/// A column that a statement filled with the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocked {
    /// The statement's number.
    pub statement: usize,
    /// The column's name.
    pub column: String,
    /// It was assigned UNIX_TIMESTAMP() and nothing else: a number, too, holds the clock then.
    pub is_unix: bool,
}

/// One change of a text: these bytes give way to those.
#[derive(Clone, Debug)]
struct Edit {
    from: usize,
    to: usize,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Value(Literal),
}

/// What is being made of a text.
struct Draft<'a> {
    known: &'a Known,
    bound: &'a [Bound],
    edits: Vec<Edit>,
    pinned: Pinned,
    /// LAST_INSERT_ID() before the statement at hand.
    last_insert_id: Option<u64>,
    /// The number of the statement at hand.
    number: usize,
    /// Parameters before the statement at hand.
    parameters_before: usize,
    /// A LAST_INSERT_ID() stays as it is.
    left_over: bool,
}

impl Draft<'_> {
    fn replace(&mut self, tokens: Tokens<'_>, from: usize, to: usize, value: Literal) {
        self.edit(tokens, from, to, vec![Piece::Value(value)]);
    }

    /// The tokens from `from` to before `to` give way.
    fn edit(&mut self, tokens: Tokens<'_>, from: usize, to: usize, pieces: Vec<Piece>) {
        let first = tokens.tokens.get(from);
        let last = to.checked_sub(1).and_then(|to| tokens.tokens.get(to));
        if let (Some(first), Some(last)) = (first, last) {
            self.edits.push(Edit {
                from: first.start,
                to: last.end,
                pieces,
            });
        }
    }

    /// Added before a token.
    fn before(&mut self, tokens: Tokens<'_>, at: usize, pieces: Vec<Piece>) {
        if let Some(token) = tokens.tokens.get(at) {
            self.edits.push(Edit {
                from: token.start,
                to: token.start,
                pieces,
            });
        }
    }

    /// Added behind a token.
    fn behind(&mut self, tokens: Tokens<'_>, at: usize, pieces: Vec<Piece>) {
        if let Some(token) = tokens.tokens.get(at) {
            self.edits.push(Edit {
                from: token.end,
                to: token.end,
                pieces,
            });
        }
    }

    /// Notes a column whose value is these tokens, where the clock is read in them.
    fn clocked(&mut self, tokens: Tokens<'_>, (from, to): (usize, usize), column: &str) {
        if clock::any(tokens, from, to) {
            self.pinned.clocked.push(Clocked {
                statement: self.number,
                column: column.to_owned(),
                is_unix: clock::is_unix(tokens, from, to),
            });
        }
    }
}

/// Writes what is known into a text. `given` has one entry for each of its statements, in order.
#[must_use]
pub fn pin(
    text: &[u8],
    dialect: Dialect,
    protocol: Protocol<'_>,
    known: &Known,
    given: &[Given<'_>],
) -> Pinned {
    let all: Vec<Token> = Lexer::new(text, dialect).collect();
    let bound = match protocol {
        Protocol::Text => &[],
        Protocol::Prepared(bound) => bound,
    };
    let mut draft = Draft {
        known,
        bound,
        edits: Vec::new(),
        pinned: Pinned::default(),
        last_insert_id: known.last_insert_id,
        number: 0,
        parameters_before: 0,
        left_over: false,
    };
    for (number, tokens) in split(text, &all).into_iter().enumerate() {
        let Some(one) = given.get(number) else { break };
        draft.number = number;
        statement(&mut draft, tokens, one);
        let params = tokens.tokens.iter().filter(|it| it.kind == Kind::Param);
        draft.parameters_before += params.count();
    }
    let mut pinned = draft.pinned;
    pinned.last_insert_id_after = draft.last_insert_id;
    pinned.last_insert_id &= !draft.left_over;
    let prepared = matches!(protocol, Protocol::Prepared(_));
    if draft.edits.is_empty() {
        return pinned;
    }
    if let Some((text, parameters)) = written(text, &all, draft.edits, prepared) {
        pinned.text = Some(text);
        pinned.parameters = parameters;
    } else {
        // The text stays as it is: nothing was pinned, and nobody may think that it was.
        pinned.key = false;
        pinned.last_insert_id = false;
        pinned.clocked.clear();
        pinned.cannot = Some("two values would be written in one place");
    }
    pinned
}

fn statement(draft: &mut Draft<'_>, tokens: Tokens<'_>, given: &Given<'_>) {
    let Some(one) = given.statement else {
        draft.last_insert_id = None;
        return;
    };
    let runs = matches!(one.class, Class::Read | Class::LockingRead | Class::Write);
    if runs && one.clock {
        clock::calls(draft, tokens, one.class);
    }
    // SELECT @@identity asks about the server, says its class.
    if (runs || one.class == Class::Metadata) && keys::reads_last(one) {
        keys::read_last(draft, tokens);
    }
    if one.class == Class::Write && one.insert {
        insert::pin(draft, tokens, given);
    } else if one.class == Class::Write {
        update::pin(draft, tokens);
    }
    draft.last_insert_id = keys::after(draft.last_insert_id, tokens, given, draft);
}

/// The text with its edits, and its parameters; none where two of them are of one place.
fn written(
    text: &[u8],
    tokens: &[Token],
    mut edits: Vec<Edit>,
    prepared: bool,
) -> Option<(Vec<u8>, Vec<Parameter>)> {
    edits.sort_by_key(|edit| (edit.from, edit.to));
    let mut out = Vec::with_capacity(text.len() + 64 * edits.len());
    let mut parameters = Vec::new();
    let mut questions = tokens.iter().filter(|token| token.kind == Kind::Param);
    let mut question = questions.next();
    let mut number = 0;
    let mut end = 0;
    for edit in edits {
        if edit.from < end {
            return None; // two edits of one place: better none
        }
        out.extend_from_slice(text.get(end..edit.from)?);
        while let Some(token) = question.filter(|token| token.start < edit.to) {
            if token.start < edit.from {
                parameters.push(Parameter::Own(number));
            }
            number += 1;
            question = questions.next();
        }
        for piece in edit.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Value(value) if prepared => {
                    out.extend_from_slice(value.parameter().as_bytes());
                    parameters.push(Parameter::Added(value));
                }
                Piece::Value(value) => out.extend_from_slice(value.text().as_bytes()),
            }
        }
        end = edit.to;
    }
    out.extend_from_slice(text.get(end..)?);
    while question.is_some() {
        parameters.push(Parameter::Own(number));
        number += 1;
        question = questions.next();
    }
    Some((out, parameters))
}

/// The clock's value at this precision, where it is known.
fn clock_value(draft: &Draft<'_>, digits: u8) -> Option<Literal> {
    draft.known.moment?.literal(Shape::DateTime, digits)
}

#[cfg(test)]
mod tests;

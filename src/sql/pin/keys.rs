//! Which keys the primary generated, and what LAST_INSERT_ID() says.

use super::clock::SelectLists;
use super::insert::{Insert, Place, Source, place, read};
use super::{Bound, Draft, Given, Known, Literal, Piece};
use crate::sql::lexer::Kind;
use crate::sql::names::{quote, unquote};
use crate::sql::statements::Statement as Tokens;
use crate::sql::{Change, Class, Statement, Tables};
use crate::wire::answer::Done;
use xxhash_rust::xxh3::xxh3_64;

/// What the primary generated in one INSERT.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Nothing.
    None,
    /// These, one for each row whose key was generated.
    Known(Vec<Written>),
    /// Something, and why it cannot be told what.
    Unknown(&'static str),
}

/// Where a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// In a column that is added, in the next row.
    Added(u64),
    /// In the place of these tokens.
    Over { from: usize, to: usize, value: u64 },
}

impl Written {
    pub(super) const fn value(&self) -> u64 {
        match self {
            Self::Added(value) | Self::Over { value, .. } => *value,
        }
    }
}

/// How the key of one row came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Absent,
    Generated(usize, usize),
    Explicit,
    Unsure(usize, usize),
}

/// What the primary generated.
pub(super) fn generated(
    insert: Option<&Insert>,
    tokens: Tokens<'_>,
    given: &Given<'_>,
    draft: &Draft<'_>,
) -> Keys {
    let reader = Reader {
        tokens,
        known: draft.known,
        bound: draft.bound,
        parameters_before: draft.parameters_before,
    };
    reader.generated(insert, given)
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    known: &'a Known,
    bound: &'a [Bound],
    /// Parameters in the statements before.
    parameters_before: usize,
}

impl Reader<'_> {
    fn generated(&self, insert: Option<&Insert>, given: &Given<'_>) -> Keys {
        let Some(done) = given.done.filter(|done| done.last_insert_id != 0) else {
            return Keys::None;
        };
        let Some(facts) = given.facts else {
            // MySQL's OK carries the last key that a statement names, too.
            return if self.names(done.last_insert_id) {
                Keys::None
            } else {
                Keys::Unknown("what its table is like is not known")
            };
        };
        let Some(column) = facts.columns.iter().find(|column| column.auto_increment) else {
            return Keys::None; // LAST_INSERT_ID(expression)
        };
        let Some(insert) = insert else {
            return Keys::Unknown("it is made up in a way that is not known");
        };
        let place = place(insert, facts, column);
        if let Source::Query(from) = insert.source {
            return self.queried(place, from);
        }
        let Some(origins) = self.origins(insert, place, &column.name) else {
            return Keys::Unknown("its values are not as many as the table's columns");
        };
        if origins.iter().all(|origin| *origin == Origin::Explicit) {
            return Keys::None;
        }
        match self.inserted(insert, &done, origins.len() as u64) {
            Inserted::None => Keys::None,
            Inserted::Unsure(why) => Keys::Unknown(why),
            Inserted::All if facts.insert_triggers => Keys::Unknown("its table has triggers"),
            Inserted::All => self.spread(&origins, done.last_insert_id),
        }
    }

    /// Rows that come from a query: generated where the column is not named, or gets a NULL.
    fn queried(&self, place: Place, from: usize) -> Keys {
        const WHY: Keys = Keys::Unknown("INSERT … SELECT");
        let tokens = self.tokens;
        let Place::At(nth) = place else { return WHY };
        let Some(select) = tokens.find(from, |at| tokens.is(at, "SELECT")) else {
            return Keys::None;
        };
        let end = tokens
            .find(select, |at| tokens.is(at, "FROM"))
            .unwrap_or(tokens.len());
        let list = tokens.slice(0, end);
        let mut at = select + 1;
        for _ in 0..nth {
            match list.find(at, |it| tokens.op(it, b",")) {
                Some(comma) => at = comma + 1,
                None => return Keys::None, // a `*`
            }
        }
        let stop = list.find(at, |it| tokens.op(it, b",")).unwrap_or(end);
        match self.origin(at, stop) {
            Origin::Generated(..) => WHY,
            Origin::Absent | Origin::Explicit | Origin::Unsure(..) => Keys::None,
        }
    }

    /// How each row's key came about.
    fn origins(&self, insert: &Insert, place: Place, column: &str) -> Option<Vec<Origin>> {
        match (&insert.source, place) {
            (Source::Set(set), Place::Set) => {
                let mut all = set.all.iter();
                let one = all.find(|one| one.column.eq_ignore_ascii_case(column))?;
                Some(vec![self.origin(one.from, one.to)])
            }
            (Source::Set(_), Place::Absent) => Some(vec![Origin::Absent]),
            (Source::Rows { rows, .. }, Place::Absent) => Some(vec![Origin::Absent; rows.len()]),
            (Source::Rows { rows, .. }, Place::At(nth)) => {
                let value = |(from, to): &(usize, usize)| self.origin(*from, *to);
                rows.iter()
                    .map(|row| row.values.get(nth).map(value))
                    .collect()
            }
            _ => None,
        }
    }

    /// What a value is to an AUTO_INCREMENT column.
    fn origin(&self, from: usize, to: usize) -> Origin {
        let (generated, unsure) = (Origin::Generated(from, to), Origin::Unsure(from, to));
        let zero = if self.known.zero_is_a_key {
            Origin::Explicit
        } else {
            generated
        };
        let tokens = self.tokens;
        if to.saturating_sub(from) != 1 {
            let negative = to.saturating_sub(from) == 2 && tokens.op(from, b"-");
            let number = negative && tokens.kind(from + 1) == Some(Kind::Number);
            return if number { Origin::Explicit } else { unsure };
        }
        match tokens.kind(from) {
            Some(Kind::Word) if tokens.is_any(from, &["NULL", "DEFAULT"]) => generated,
            Some(Kind::Number) => match number(tokens.bytes(from)) {
                Bound::Zero => zero,
                Bound::Number => Origin::Explicit,
                Bound::Null | Bound::Unsure => unsure,
            },
            Some(Kind::Text) => match number(&unquote(tokens.bytes(from))) {
                Bound::Number => Origin::Explicit,
                Bound::Zero => zero,
                Bound::Null | Bound::Unsure => unsure,
            },
            Some(Kind::Param) => match self.parameter(from) {
                Some(Bound::Null) => generated,
                Some(Bound::Zero) => zero,
                Some(Bound::Number) => Origin::Explicit,
                Some(Bound::Unsure) | None => unsure,
            },
            _ => unsure,
        }
    }

    fn parameter(&self, at: usize) -> Option<Bound> {
        let before = self.tokens.slice(0, at);
        let before = before.tokens.iter().filter(|it| it.kind == Kind::Param);
        let number = self.parameters_before + before.count();
        self.bound.get(number).copied()
    }

    /// Whether all rows were inserted, by what the OK says.
    fn inserted(&self, insert: &Insert, done: &Done, rows: u64) -> Inserted {
        let affected = done.affected_rows;
        if insert.replaces {
            // Each row is written anew, whatever it drove out.
            return Inserted::All;
        }
        if insert.updates {
            return match (rows, affected) {
                (_, 0) => Inserted::None,
                (1, 1) => Inserted::All,
                (rows, affected) if affected == rows.saturating_mul(2) => Inserted::None,
                (rows, affected) if affected == rows && self.has_no_duplicates(done, rows) => {
                    Inserted::All
                }
                _ => Inserted::Unsure("ON DUPLICATE KEY UPDATE met some of its rows"),
            };
        }
        match affected {
            0 => Inserted::None,
            affected if affected == rows => Inserted::All,
            _ if insert.ignores => Inserted::Unsure("IGNORE left some of its rows out"),
            _ => Inserted::Unsure("not all of its rows were inserted"),
        }
    }

    /// Whether the info text says that none of the rows was there before.
    fn has_no_duplicates(&self, done: &Done, rows: u64) -> bool {
        let warnings = done.warnings;
        let info = format!("Records: {rows}  Duplicates: 0  Warnings: {warnings}");
        !self.known.found_rows && done.info == xxh3_64(info.as_bytes())
    }

    /// The keys of the rows, of which `first` is the first that was generated.
    fn spread(&self, origins: &[Origin], first: u64) -> Keys {
        let made = |origin: &&Origin| **origin != Origin::Explicit;
        let count = origins.iter().filter(made).count();
        let unsure = origins.iter().any(|it| matches!(it, Origin::Unsure(..)));
        if origins.len() > 1 && unsure {
            return Keys::Unknown("a row's key cannot be read off it");
        }
        if count > 1 && count < origins.len() {
            return Keys::Unknown("explicit and generated keys are mixed");
        }
        let step = match self.known.increment {
            _ if count == 1 => 0,
            Some(step) => step,
            None => return Keys::Unknown("auto_increment_increment is not known"),
        };
        let mut next = first;
        let mut keys = Vec::with_capacity(count);
        for origin in origins {
            let value = next;
            keys.push(match *origin {
                Origin::Absent => Written::Added(value),
                Origin::Generated(from, to) | Origin::Unsure(from, to) => {
                    Written::Over { from, to, value }
                }
                Origin::Explicit => continue,
            });
            next = match next.checked_add(step) {
                Some(next) => next,
                None => return Keys::Unknown("the table has no more keys"),
            };
        }
        Keys::Known(keys)
    }

    /// Whether the statement has this number in it.
    fn names(&self, number: u64) -> bool {
        let digits = number.to_string();
        let tokens = self.tokens;
        let written = (0..tokens.len()).any(|at| match tokens.kind(at) {
            Some(Kind::Number) => tokens.bytes(at) == digits.as_bytes(),
            Some(Kind::Text) => *unquote(tokens.bytes(at)) == *digits.as_bytes(),
            _ => false,
        });
        // What is bound is not looked into: a parameter may be the key.
        written || !self.bound.is_empty()
    }
}

/// Whether all rows of an INSERT were inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inserted {
    All,
    /// None of them.
    None,
    Unsure(&'static str),
}

/// A number's text.
pub(super) fn number(text: &[u8]) -> Bound {
    let digits = text.iter().all(u8::is_ascii_digit) && !text.is_empty();
    match digits {
        true if text.iter().all(|digit| *digit == b'0') => Bound::Zero,
        true => Bound::Number,
        false => Bound::Unsure,
    }
}

/// Whether the statement reads the session's last key.
pub(super) fn reads_last(one: &Statement) -> bool {
    one.nondeterministic.iter().any(|name| LAST.contains(name))
}

/// What stands for LAST_INSERT_ID() in [`Statement::nondeterministic`].
pub const LAST: [&str; 3] = ["last_insert_id", "@@last_insert_id", "@@identity"];

/// Replaces the statement's LAST_INSERT_ID() and its variables.
pub(super) fn read_last(draft: &mut Draft<'_>, tokens: Tokens<'_>) {
    let Some(value) = draft.last_insert_id.filter(|_| draft.known.keys) else {
        draft.left_over = true;
        return;
    };
    let mut lists = SelectLists::default();
    let mut at = 0;
    while at < tokens.len() {
        let Some(end) = last_at(tokens, at) else {
            lists.step(tokens, at);
            at += 1;
            continue;
        };
        let mut pieces = vec![Piece::Value(Literal::Key(value))];
        let bare = end >= tokens.len() || tokens.op(end, b",") || tokens.is(end, "FROM");
        if bare && lists.is_item(tokens, at, end) {
            // The column keeps the name that the client knows it by.
            let name = (at..end).flat_map(|at| tokens.bytes(at).iter().copied());
            let name = quote(&name.collect::<Vec<u8>>());
            pieces.push(Piece::Text(format!(
                " AS {}",
                String::from_utf8_lossy(&name)
            )));
        }
        draft.edit(tokens, at, end, pieces);
        draft.pinned.last_insert_id = true;
        at = end;
    }
}

/// The token behind the LAST_INSERT_ID() that begins here.
fn last_at(tokens: Tokens<'_>, at: usize) -> Option<usize> {
    match tokens.kind(at)? {
        Kind::Word if tokens.is(at, "LAST_INSERT_ID") => {
            let calls = tokens.op(at + 1, b"(") && tokens.op(at + 2, b")");
            let named = at.checked_sub(1).is_some_and(|at| tokens.op(at, b"."));
            (calls && !named).then_some(at + 3)
        }
        Kind::SystemVariable => {
            let is = |at: usize, names: &[&[u8]]| {
                names
                    .iter()
                    .any(|it| it.eq_ignore_ascii_case(tokens.bytes(at)))
            };
            if is(at, &[b"@@last_insert_id", b"@@identity"]) {
                return Some(at + 1);
            }
            let scoped = is(at, &[b"@@session", b"@@local"]) && tokens.op(at + 1, b".");
            (scoped && is(at + 2, &[b"last_insert_id", b"identity"])).then_some(at + 3)
        }
        _ => None,
    }
}

/// LAST_INSERT_ID() after a statement, given what it was before.
pub(super) fn after(
    before: Option<u64>,
    tokens: Tokens<'_>,
    given: &Given<'_>,
    draft: &Draft<'_>,
) -> Option<u64> {
    let one = given.statement?;
    let sets = |change: &Change| match change {
        Change::Variable { name, .. } | Change::Value(name) => {
            name == "last_insert_id" || name == "identity"
        }
        Change::Unknown | Change::Database(_) => false,
    };
    match one.class {
        _ if one.changes.iter().any(sets) => None,
        Class::Unmirrored => None,
        Class::LockingRead if one.written == Tables::Unknown => None,
        Class::Write => match given.done?.last_insert_id {
            0 => before,
            // LAST_INSERT_ID(expression)
            id if !one.insert => Some(id),
            id => match generated(read(tokens).as_ref(), tokens, given, draft) {
                Keys::Known(_) => Some(id),
                Keys::Unknown(_) if one.sets_last_insert_id => Some(id),
                Keys::Unknown("INSERT … SELECT" | "its table has triggers") => Some(id),
                Keys::Unknown(_) if given.facts.is_none() => Some(id),
                Keys::None if one.sets_last_insert_id => Some(id),
                Keys::None if given.facts.is_some() => before,
                Keys::None | Keys::Unknown(_) => None,
            },
        },
        _ if one.sets_last_insert_id => None,
        Class::Empty
        | Class::Metadata
        | Class::Read
        | Class::Session
        | Class::Transaction
        | Class::LockingRead
        | Class::Ddl => before,
    }
}

//! Functions of texts that SQLite's own of the same names do in far more time than the texts are
//! long. SQLite looks at a query's bounds between two steps, never within a function: whatever a
//! query may call takes time in proportion to what it is given.

use memchr::memmem;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result, ffi};
use std::borrow::Cow;
use std::collections::HashSet;

/// SQLite's words for a text that is too long; of a function's error it keeps the words alone.
pub(super) const TOO_BIG: &str = "string or blob too big";

/// Registers them in the place of SQLite's; a text that one makes has at most so many bytes.
pub(super) fn register(connection: &Connection, most: usize) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    for (name, left, right) in [
        ("trim", true, true),
        ("ltrim", true, false),
        ("rtrim", false, true),
    ] {
        for arguments in [1, 2] {
            connection.create_scalar_function(name, arguments, flags, move |context| {
                Ok(trim(context, left, right))
            })?;
        }
    }
    connection.create_scalar_function("instr", 2, flags, |context| Ok(instr(context)))?;
    connection.create_scalar_function("replace", 3, flags, move |context| replace(context, most))
}

/// An argument as a text; `None` where it is NULL.
fn text<'a>(context: &'a Context<'_>, at: usize) -> Option<Cow<'a, str>> {
    match context.get_raw(at) {
        ValueRef::Null => None,
        ValueRef::Integer(n) => Some(n.to_string().into()),
        ValueRef::Real(n) => Some(format!("{n:?}").into()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes)),
    }
}

/// Without the characters of a set (else blanks) at its ends.
fn trim(context: &Context<'_>, left: bool, right: bool) -> Option<String> {
    let whole = text(context, 0)?;
    let set: HashSet<char> = match context.len() {
        1 => HashSet::from([' ']),
        _ => text(context, 1)?.chars().collect(),
    };
    let mut rest: &str = &whole;
    if left {
        rest = rest.trim_start_matches(|c| set.contains(&c));
    }
    if right {
        rest = rest.trim_end_matches(|c| set.contains(&c));
    }
    Some(rest.to_owned())
}

/// Where a text stands in another, counted from 1 in characters, in bytes between two blobs; 0 for nowhere.
fn instr(context: &Context<'_>) -> Option<i64> {
    let place = |n: usize| i64::try_from(n + 1).unwrap_or(i64::MAX);
    if let (ValueRef::Blob(whole), ValueRef::Blob(part)) = (context.get_raw(0), context.get_raw(1))
    {
        return Some(memmem::find(whole, part).map_or(0, place));
    }
    let (whole, part) = (text(context, 0)?, text(context, 1)?);
    let found = memmem::find(whole.as_bytes(), part.as_bytes());
    let before = found.and_then(|at| whole.get(..at));
    Some(before.map_or(0, |before| place(before.chars().count())))
}

fn replace(context: &Context<'_>, most: usize) -> Result<Value> {
    let (Some(whole), Some(part), Some(by)) =
        (text(context, 0), text(context, 1), text(context, 2))
    else {
        return Ok(Value::Null);
    };
    if part.is_empty() {
        return Ok(Value::Text(whole.into_owned()));
    }
    let (mut made, mut done) = (String::new(), 0);
    let ends = memmem::find_iter(whole.as_bytes(), part.as_bytes());
    for (from, to) in ends
        .map(|at| (at, at + part.len()))
        .chain([(whole.len(), whole.len())])
    {
        made.push_str(whole.get(done..from).unwrap_or_default());
        if to > from {
            made.push_str(&by);
        }
        if made.len() > most {
            let too_big = ffi::Error::new(ffi::SQLITE_TOOBIG);
            return Err(rusqlite::Error::SqliteFailure(
                too_big,
                Some(TOO_BIG.to_owned()),
            ));
        }
        done = to;
    }
    Ok(Value::Text(made))
}

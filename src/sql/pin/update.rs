//! Columns that the clock fills when a row is updated.

use super::{Draft, Given, Piece, clock, clock_value};
use crate::sql::names::{plain, quote};
use crate::sql::statements::Statement as Tokens;
use crate::wire::answer::Done;
use xxhash_rust::xxh3::xxh3_64;

/// Names the columns ON UPDATE CURRENT_TIMESTAMP of an UPDATE of one table, with the primary's
/// clock. MySQL leaves them alone in a row where nothing else changes: only where all rows that
/// were found were changed does naming them say the same.
pub(super) fn pin(draft: &mut Draft<'_>, tokens: Tokens<'_>, given: &Given<'_>) {
    if !tokens.is(0, "UPDATE") || draft.known.moment.is_none() {
        return;
    }
    let Some(set) = tokens.find(0, |at| tokens.is(at, "SET")) else {
        return;
    };
    let assigned = assignments(tokens, set + 1);
    for one in &assigned.all {
        if clock::any(tokens, one.from, one.to) {
            draft.clocked(one.column.clone());
        }
    }
    let several = tokens
        .slice(0, set)
        .tokens
        .iter()
        .enumerate()
        .any(|(at, _)| tokens.op(at, b",") || tokens.is_any(at, &["JOIN", "STRAIGHT_JOIN"]));
    let (Some(facts), Some(done), Some(last)) = (given.facts, given.done, assigned.last()) else {
        return;
    };
    let filled: Vec<_> = facts
        .columns
        .iter()
        .filter_map(|column| Some((column, column.on_update?)))
        .filter(|(column, _)| !assigned.all.iter().any(|one| column.is(&one.column)))
        .collect();
    if filled.is_empty() || several || !all_changed(&done) {
        return;
    }
    for (column, digits) in filled {
        if let Some(value) = clock_value(draft, digits) {
            let name = String::from_utf8_lossy(&quote(column.name.as_bytes())).into_owned();
            let pieces = vec![Piece::Text(format!(", {name} = ")), Piece::Value(value)];
            draft.behind(tokens, last, pieces);
        }
    }
}

/// Whether the info text says that so many rows were found as were changed.
fn all_changed(done: &Done) -> bool {
    let (rows, warnings) = (done.affected_rows, done.warnings);
    let info = format!("Rows matched: {rows}  Changed: {rows}  Warnings: {warnings}");
    rows > 0 && done.info == xxh3_64(info.as_bytes())
}

/// `column = expression, …`
#[derive(Debug, Default)]
pub(super) struct Assignments {
    pub(super) all: Vec<Assignment>,
}

/// The tokens of one assignment's expression.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) column: String,
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Assignments {
    /// The last token of the last of them.
    pub(super) fn last(&self) -> Option<usize> {
        self.all.last()?.to.checked_sub(1)
    }
}

/// Reads assignments from a token on, to the clause that ends them.
pub(super) fn assignments(tokens: Tokens<'_>, from: usize) -> Assignments {
    let ends = |at: usize| {
        tokens.is_any(at, &["WHERE", "ORDER", "LIMIT", "RETURNING", "AS"])
            || tokens.are(at, &["ON", "DUPLICATE"])
    };
    let end = tokens.find(from, ends).unwrap_or(tokens.len());
    let mut found = Assignments::default();
    let mut at = from;
    while at < end {
        let part = tokens.slice(0, end);
        let stop = part.find(at, |it| tokens.op(it, b",")).unwrap_or(end);
        let Some(sign) = part.find(at, |it| tokens.op(it, b"=") || tokens.op(it, b":=")) else {
            break;
        };
        if sign >= stop || sign == at || sign + 1 >= stop {
            break;
        }
        found.all.push(Assignment {
            column: plain(tokens.bytes(sign - 1)),
            from: sign + 1,
            to: stop,
        });
        at = stop + 1;
    }
    found
}

//! What an UPDATE assigns.
//!
//! Columns ON UPDATE CURRENT_TIMESTAMP are not named for it: a row that the shadow's UPDATE leaves
//! as it was would be changed by the name alone, and the difference would never be seen. They are
//! known as columns that hold the clock.

use super::Draft;
use crate::sql::names::plain;
use crate::sql::statements::Statement as Tokens;

/// Notes the columns that an UPDATE fills with the clock.
pub(super) fn pin(draft: &mut Draft<'_>, tokens: Tokens<'_>) {
    if !tokens.is(0, "UPDATE") || draft.known.moment.is_none() {
        return;
    }
    let Some(set) = tokens.find(0, |at| tokens.is(at, "SET")) else {
        return;
    };
    for one in &assignments(tokens, set + 1).all {
        draft.clocked(tokens, (one.from, one.to), &one.column);
    }
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

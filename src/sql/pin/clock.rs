//! Calls that read the clock, replaced by what the primary's clock said.

use super::{Draft, Literal};
use crate::sql::Class;
use crate::sql::lexer::Kind;
use crate::sql::statements::Statement as Tokens;
use jiff::Timestamp;
use jiff::tz::Offset;

/// The primary's clock at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970.
    pub unix_micros: i64,
    /// Seconds by which the session's time zone is ahead of UTC, where that can be told.
    pub offset_s: Option<i32>,
}

/// What a call brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    DateTime,
    Date,
    Time,
    UtcDateTime,
    UtcDate,
    UtcTime,
    Unix,
}

impl Moment {
    /// The moment as a literal, cut (as the server cuts it) to so many digits of a second.
    pub(super) fn literal(self, shape: Shape, digits: u8) -> Option<Literal> {
        let offset = match shape {
            Shape::Unix => return Some(Literal::Unix(self.unix_micros.div_euclid(1_000_000))),
            Shape::DateTime | Shape::Date | Shape::Time => self.offset_s?,
            Shape::UtcDateTime | Shape::UtcDate | Shape::UtcTime => 0,
        };
        let offset = Offset::from_seconds(offset).ok()?;
        let instant = Timestamp::from_microsecond(self.unix_micros).ok()?;
        let local = offset.to_datetime(instant);
        let micros = self.unix_micros.rem_euclid(1_000_000);
        let fraction = match digits {
            0 => String::new(),
            digits => {
                let all = format!("{micros:06}");
                format!(".{}", all.get(..usize::from(digits))?)
            }
        };
        let date = || local.date().to_string();
        let time = || {
            let time = local.time();
            let (hour, minute, second) = (time.hour(), time.minute(), time.second());
            format!("{hour:02}:{minute:02}:{second:02}{fraction}")
        };
        Some(match shape {
            Shape::Date | Shape::UtcDate => Literal::Date(date()),
            Shape::Time | Shape::UtcTime => Literal::Time(time(), digits),
            Shape::DateTime | Shape::UtcDateTime | Shape::Unix => {
                Literal::DateTime(format!("{} {}", date(), time()), digits)
            }
        })
    }
}

/// A call's name, what it brings, and whether it needs parentheses.
const CALLS: &[(&str, Shape, bool)] = &[
    ("NOW", Shape::DateTime, true),
    ("SYSDATE", Shape::DateTime, true),
    ("CURRENT_TIMESTAMP", Shape::DateTime, false),
    ("LOCALTIME", Shape::DateTime, false),
    ("LOCALTIMESTAMP", Shape::DateTime, false),
    ("CURDATE", Shape::Date, true),
    ("CURRENT_DATE", Shape::Date, false),
    ("CURTIME", Shape::Time, true),
    ("CURRENT_TIME", Shape::Time, false),
    ("UTC_TIMESTAMP", Shape::UtcDateTime, false),
    ("UTC_DATE", Shape::UtcDate, false),
    ("UTC_TIME", Shape::UtcTime, false),
    ("UNIX_TIMESTAMP", Shape::Unix, true),
];

/// A call of the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) shape: Shape,
    pub(super) digits: u8,
    /// The token behind it.
    pub(super) end: usize,
}

/// The call of the clock that begins at a token.
pub(super) fn call_at(tokens: Tokens<'_>, at: usize) -> Option<Call> {
    if tokens.kind(at) != Some(Kind::Word) {
        return None;
    }
    let (_, shape, called) = *CALLS.iter().find(|(name, ..)| tokens.is(at, name))?;
    let before = at.checked_sub(1);
    let is_a_name = before.is_some_and(|it| {
        tokens.op(it, b".") || tokens.op(it, b"@") || tokens.is_any(it, &["AS", "INTO"])
    });
    if is_a_name {
        return None;
    }
    let here = |digits, end| Some(Call { shape, digits, end });
    if !tokens.op(at + 1, b"(") {
        return if called { None } else { here(0, at + 1) };
    }
    if tokens.op(at + 2, b")") {
        return here(0, at + 3);
    }
    let has_digits = tokens.kind(at + 2) == Some(Kind::Number) && tokens.op(at + 3, b")");
    let takes_digits = !matches!(shape, Shape::Unix | Shape::Date | Shape::UtcDate);
    match tokens.bytes(at + 2) {
        [digit @ b'0'..=b'6'] if has_digits && takes_digits => here(digit - b'0', at + 4),
        _ => None,
    }
}

/// Replaces the calls of one statement. Where a read only shows the clock, the shadow shows its
/// own: another time zone there would not be seen else.
pub(super) fn calls(draft: &mut Draft<'_>, tokens: Tokens<'_>, class: Class) {
    let Some(moment) = draft.known.moment else {
        return;
    };
    let mut lists = SelectLists::default();
    let mut at = 0;
    while at < tokens.len() {
        let Some(call) = call_at(tokens, at) else {
            lists.step(tokens, at);
            at += 1;
            continue;
        };
        let shown = class != Class::Write && lists.is_item(tokens, at, call.end);
        let value = moment.literal(call.shape, call.digits);
        if let Some(value) = value.filter(|_| !shown) {
            draft.replace(tokens, at, call.end, value);
        }
        at = call.end;
    }
}

/// Whether a call of the clock stands among these tokens.
pub(super) fn any(tokens: Tokens<'_>, from: usize, to: usize) -> bool {
    (from..to).any(|at| call_at(tokens, at).is_some())
}

/// Whether these tokens are UNIX_TIMESTAMP() and nothing else.
pub(super) fn is_unix(tokens: Tokens<'_>, from: usize, to: usize) -> bool {
    call_at(tokens, from).is_some_and(|call| call.shape == Shape::Unix && call.end == to)
}

/// Which of the parentheses around a token are select lists.
#[derive(Debug)]
pub(super) struct SelectLists(Vec<bool>);

impl Default for SelectLists {
    fn default() -> Self {
        Self(vec![false])
    }
}

impl SelectLists {
    /// Takes the next token in.
    pub(super) fn step(&mut self, tokens: Tokens<'_>, at: usize) {
        if tokens.op(at, b"(") {
            self.0.push(false);
        } else if tokens.op(at, b")") {
            self.0.pop();
        } else if tokens.kind(at) == Some(Kind::Word) {
            let ends = [
                "FROM",
                "WHERE",
                "INTO",
                "UNION",
                "EXCEPT",
                "INTERSECT",
                "GROUP",
                "HAVING",
                "ORDER",
                "LIMIT",
                "FOR",
                "ON",
                "SET",
                "VALUES",
                "LOCK",
            ];
            if let Some(last) = self.0.last_mut() {
                *last = tokens.is(at, "SELECT") || *last && !tokens.is_any(at, &ends);
            }
        }
    }

    /// Whether the tokens from `from` to before `to` are an item of a select list, whole.
    pub(super) fn is_item(&self, tokens: Tokens<'_>, from: usize, to: usize) -> bool {
        let begins = from.checked_sub(1).is_some_and(|before| {
            tokens.op(before, b",") || tokens.is_any(before, &["SELECT", "DISTINCT", "ALL"])
        });
        let ends = to >= tokens.len()
            || tokens.op(to, b",")
            || tokens.op(to, b")")
            || tokens.is_any(to, &["FROM", "UNION", "AS", "LIMIT", "INTO", "WHERE"])
            || tokens.is_name(to);
        self.0.last() == Some(&true) && begins && ends
    }
}

//! What a session's variables hold, asked from the session's own connection, and written so that
//! another server takes it for the same.
//!
//! Texts go as hexadecimal digits with their character set's name, so that neither connection's
//! character set nor SQL mode changes them.

use super::carry::CarryError;
use super::state::SessionState;
use super::talk::Talk;
use crate::wire::answer::Answer;
use crate::wire::column::{Column, kind};
use crate::wire::row::{Cell, text_row};
use crate::wire::sample::Sampled;

/// The collation id of what has no character set.
const BINARY: u16 = 63;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    assignments: Vec<Assignment>,
    pub(super) last_insert_id: u64,
}

/// One variable and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// A user variable with its `@`, one of the system's without.
    pub(super) name: String,
    literal: String,
    /// Its collation, where the other server may have it too.
    collation: Option<String>,
}

impl Assignment {
    /// Ready to run after `SET `.
    pub(super) fn text(&self, with_collation: bool) -> String {
        let place = if self.name.starts_with('@') {
            quoted(&self.name)
        } else {
            format!("SESSION {}", self.name)
        };
        match &self.collation {
            Some(collation) if with_collation => {
                format!("{place} = {} COLLATE {collation}", self.literal)
            }
            _ => format!("{place} = {}", self.literal),
        }
    }
}

impl Values {
    /// Of a session from which nothing must be read; `None` where something must be.
    pub(super) fn known(state: &SessionState) -> Option<Self> {
        let last_insert_id = state.last_insert_id?;
        state.values.is_empty().then(|| Self {
            assignments: Vec::new(),
            last_insert_id,
        })
    }

    /// Asks the session.
    pub(super) async fn ask(talk: &mut Talk, state: &SessionState) -> Result<Self, CarryError> {
        if let Some(known) = Self::known(state) {
            return Ok(known);
        }
        let text = question(state);
        let reply = talk.query(text.as_bytes()).await?;
        if let Some(failure) = reply.answer.error() {
            return Err(CarryError::refused(
                "the question for its variables",
                failure,
            ));
        }
        if talk.status().in_transaction() {
            // Without autocommit the question may have opened one, and nothing is in it.
            talk.query(b"ROLLBACK").await?;
        }
        Self::read(state, &reply.answer).ok_or(CarryError::Unreadable)
    }

    fn read(state: &SessionState, answer: &Answer) -> Option<Self> {
        let mut sampled = Sampled::all(answer).next()?;
        let row = sampled.next()?;
        let cells = text_row(row, sampled.columns.len()).ok()?;
        let mut columns = sampled.columns.iter();
        let mut cells = cells.into_iter();
        let mut next = || Some((columns.next()?, cells.next()?));
        let mut last_insert_id = state.last_insert_id;
        if last_insert_id.is_none() {
            last_insert_id = ascii(next()?.1)?.parse().ok();
        }
        let mut assignments = Vec::with_capacity(state.values.len());
        for name in &state.values {
            let (column, value) = next()?;
            let (_, digits) = next()?;
            let (_, collation) = next()?;
            assignments.push(assignment(name, column, value, digits, collation)?);
        }
        Some(Self {
            assignments,
            last_insert_id: last_insert_id?,
        })
    }

    /// What is to be set.
    pub(super) fn assignments(&self) -> &[Assignment] {
        &self.assignments
    }
}

/// One row of everything.
fn question(state: &SessionState) -> String {
    let mut asked = Vec::new();
    if state.last_insert_id.is_none() {
        asked.push("LAST_INSERT_ID()".to_owned());
    }
    for name in &state.values {
        let place = if name.starts_with('@') {
            quoted(name)
        } else {
            format!("@@session.{name}")
        };
        asked.push(format!("{place}, HEX({place}), COLLATION({place})"));
    }
    format!("SELECT {}", asked.join(", "))
}

/// A user variable, its name in backticks where it needs them.
fn quoted(name: &str) -> String {
    let bare = name.strip_prefix('@').unwrap_or(name);
    if is_plain(bare) {
        format!("@{bare}")
    } else {
        format!("@`{}`", bare.replace('`', "``"))
    }
}

/// Whether every server takes the name of a user variable as it is.
pub(super) fn is_plain(bare: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !bare.is_empty() && bare.bytes().all(plain)
}

fn ascii(cell: Cell<'_>) -> Option<&str> {
    match cell {
        Cell::Bytes(bytes) if bytes.is_ascii() => std::str::from_utf8(bytes).ok(),
        Cell::Bytes(_)
        | Cell::Null
        | Cell::Int(_)
        | Cell::UInt(_)
        | Cell::Float(_)
        | Cell::Double(_)
        | Cell::Date(_)
        | Cell::Time(_) => None,
    }
}

fn assignment(
    name: &str,
    column: &Column,
    value: Cell<'_>,
    digits: Cell<'_>,
    collation: Cell<'_>,
) -> Option<Assignment> {
    let bare = |literal: String| Assignment {
        name: name.to_owned(),
        literal,
        collation: None,
    };
    if matches!(value, Cell::Null) {
        return Some(bare("NULL".to_owned()));
    }
    if is_number(column.kind) {
        return Some(bare(number(column.kind, ascii(value)?)?));
    }
    let digits = ascii(digits)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    // What the settings of a session are made of is plain text, whose collation says nothing.
    let collation = ascii(collation).filter(|collation| is_plain(collation));
    let is_binary = column.charset == BINARY && collation.is_none_or(|name| name == "binary");
    if !name.starts_with('@') {
        return Some(bare(setting(ascii(value), digits)));
    }
    let charset = collation.and_then(|collation| collation.split('_').next());
    let Some(charset) = charset.filter(|_| !is_binary) else {
        return Some(bare(format!("x'{digits}'")));
    };
    Some(Assignment {
        name: name.to_owned(),
        literal: format!("_{charset} x'{digits}'"),
        collation: collation.map(str::to_owned),
    })
}

/// The value of one of the system's variables: as it is, where nothing in it needs care, so that
/// whoever reads the journal reads a SQL mode or a time zone.
fn setting(value: Option<&str>, digits: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_,+-:/. ".contains(&byte);
    match value.filter(|value| value.bytes().all(is_plain)) {
        Some(value) => format!("'{value}'"),
        None => format!("_utf8 x'{digits}'"),
    }
}

const fn is_number(kind: u8) -> bool {
    matches!(
        kind,
        kind::DECIMAL
            | kind::TINY
            | kind::SHORT
            | kind::LONG
            | kind::INT24
            | kind::LONGLONG
            | kind::FLOAT
            | kind::DOUBLE
            | kind::NEWDECIMAL
            | kind::YEAR
    )
}

/// As the server wrote it; a floating-point number with an exponent, or it would be a decimal.
fn number(kind: u8, text: &str) -> Option<String> {
    let known =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    if text.is_empty() || !text.bytes().all(known) {
        return None;
    }
    let floats = matches!(kind, kind::FLOAT | kind::DOUBLE);
    let has_exponent = text.contains(['e', 'E']);
    Some(if floats && !has_exponent {
        format!("{text}e0")
    } else {
        text.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: u8, charset: u16) -> Column {
        Column {
            kind,
            charset,
            ..Column::default()
        }
    }

    fn text(name: &str, kind: u8, charset: u16, cells: [&str; 3]) -> Option<String> {
        let [value, digits, collation] = cells.map(|cell| Cell::Bytes(cell.as_bytes()));
        let made = assignment(name, &column(kind, charset), value, digits, collation)?;
        Some(made.text(true))
    }

    #[test]
    fn values_are_written_as_what_they_are() {
        for (name, kind, charset, cells, wanted) in [
            ("@a", kind::LONGLONG, 63, ["-5", "0", "binary"], "@a = -5"),
            (
                "@a",
                kind::NEWDECIMAL,
                63,
                ["1.50", "2", "binary"],
                "@a = 1.50",
            ),
            ("@a", kind::DOUBLE, 63, ["1.5", "2", "binary"], "@a = 1.5e0"),
            (
                "@a",
                kind::DOUBLE,
                63,
                ["1e100", "2", "binary"],
                "@a = 1e100",
            ),
            (
                "@a",
                kind::LONG_BLOB,
                63,
                ["?", "00FF", "binary"],
                "@a = x'00FF'",
            ),
            (
                "@b c`",
                kind::VAR_STRING,
                45,
                ["x'", "7827", "utf8mb4_bin"],
                "@`b c``` = _utf8mb4 x'7827' COLLATE utf8mb4_bin",
            ),
            (
                "sql_mode",
                kind::VAR_STRING,
                33,
                ["ANSI", "414E5349", "utf8_general_ci"],
                "SESSION sql_mode = 'ANSI'",
            ),
            (
                "init_connect",
                kind::VAR_STRING,
                33,
                ["x'", "7827", "utf8_general_ci"],
                "SESSION init_connect = _utf8 x'7827'",
            ),
        ] {
            assert_eq!(text(name, kind, charset, cells).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn what_is_no_number_and_no_digits_is_not_written() {
        for (kind, cells) in [
            (kind::LONGLONG, ["1; DROP TABLE t", "0", "binary"]),
            (kind::VAR_STRING, ["x", "7827'", "utf8mb4_bin"]),
        ] {
            assert_eq!(text("@a", kind, 45, cells), None);
        }
    }

    #[test]
    fn a_collation_can_be_left_out_and_null_has_none() {
        let null = assignment(
            "@a",
            &column(kind::NULL, 63),
            Cell::Null,
            Cell::Null,
            Cell::Null,
        );
        assert_eq!(null.map(|one| one.text(true)).as_deref(), Some("@a = NULL"));
        let [value, digits, collation] =
            ["x", "78", "utf8mb4_0900_ai_ci"].map(|cell| Cell::Bytes(cell.as_bytes()));
        let made = assignment(
            "@a",
            &column(kind::VAR_STRING, 255),
            value,
            digits,
            collation,
        );
        assert_eq!(
            made.map(|one| one.text(false)).as_deref(),
            Some("@a = _utf8mb4 x'78'")
        );
    }
}

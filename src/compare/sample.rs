//! What an answer's sample holds of one result: definitions and rows, as far as they were kept.
//!
//! Rows of both protocols become cells in the text that MySQL prints, so that the rungs above
//! know one kind of cell. Decoding happens only where digests differ, and never past the sample.

use crate::wire::answer::{Answer, Rows};
use crate::wire::column::{Column, kind};
use crate::wire::row::{Cell, Date, Time, binary_row, text_row};
use crate::wire::sample::Sampled;
use std::borrow::Cow;

/// A row's cells in MySQL's text form; `None` is NULL.
pub(super) type Row<'a> = Vec<Option<Cow<'a, [u8]>>>;

/// One result's definitions and its first rows.
#[derive(Debug, Default)]
pub(super) struct Sample<'a> {
    /// All of them, or none where the sample ends before the last.
    pub(super) columns: Vec<Column>,
    /// Empty until [`Sample::decode`].
    pub(super) rows: Vec<Row<'a>>,
    /// Whether `rows` are all of the result's.
    pub(super) whole: bool,
    undecoded: Option<(Sampled<'a>, bool)>,
}

impl<'a> Sample<'a> {
    /// Reads the definitions of the result that `rows` describes.
    pub(super) fn definitions(answer: &'a Answer, rows: &Rows) -> Self {
        let mut undecoded = Sampled::read(answer, rows);
        let columns = undecoded
            .as_mut()
            .map(|sampled| std::mem::take(&mut sampled.columns));
        Self {
            columns: columns.unwrap_or_default(),
            undecoded: undecoded.map(|sampled| (sampled, rows.binary)),
            ..Self::default()
        }
    }

    /// Reads the rows as well. What cannot be read counts as cut off.
    pub(super) fn decode(&mut self) {
        let Some((mut sampled, is_binary)) = self.undecoded.take() else {
            return;
        };
        for payload in sampled.by_ref() {
            let Some(row) = row(payload, is_binary, &self.columns) else {
                return;
            };
            self.rows.push(row);
        }
        self.whole = sampled.is_whole();
    }
}

fn row<'a>(payload: &'a [u8], is_binary: bool, columns: &[Column]) -> Option<Row<'a>> {
    let cells = if is_binary {
        binary_row(payload, columns)
    } else {
        text_row(payload, columns.len())
    };
    let mut columns = columns.iter();
    cells
        .ok()?
        .into_iter()
        .map(|cell| Some(text(cell, columns.next()?)))
        .collect()
}

/// A cell as a text row would have it.
fn text<'a>(cell: Cell<'a>, column: &Column) -> Option<Cow<'a, [u8]>> {
    let text = match cell {
        Cell::Null => return None,
        Cell::Bytes(bytes) => return Some(Cow::Borrowed(bytes)),
        Cell::Int(number) => number.to_string(),
        Cell::UInt(number) => number.to_string(),
        Cell::Float(number) => float(f64::from(number), number.to_string()),
        Cell::Double(number) => float(number, number.to_string()),
        Cell::Date(date) => datetime(date, column),
        Cell::Time(time) => span(time, column.decimals),
    };
    Some(Cow::Owned(text.into_bytes()))
}

/// Numbers far from 1 are written with an exponent.
fn float(number: f64, plain: String) -> String {
    if number == 0.0 || (1e-5..1e15).contains(&number.abs()) {
        plain
    } else {
        format!("{number:e}")
    }
}

fn datetime(date: Date, column: &Column) -> String {
    let Date {
        year,
        month,
        day,
        hour,
        minute,
        second,
        micros,
    } = date;
    let text = format!("{year:04}-{month:02}-{day:02}");
    if matches!(column.kind, kind::DATE | kind::NEWDATE) {
        text
    } else {
        format!(
            "{text} {hour:02}:{minute:02}:{second:02}{}",
            fraction(micros, column.decimals)
        )
    }
}

fn span(time: Time, decimals: u8) -> String {
    let Time {
        negative,
        days,
        hours,
        minutes,
        seconds,
        micros,
    } = time;
    let sign = if negative { "-" } else { "" };
    let hours = u64::from(days) * 24 + u64::from(hours);
    format!(
        "{sign}{hours:02}:{minutes:02}:{seconds:02}{}",
        fraction(micros, decimals)
    )
}

/// As many digits as the column has, which is what a text row prints; all six where the definition
/// has fewer than the value needs.
fn fraction(micros: u32, decimals: u8) -> String {
    let digits = format!("{micros:06}");
    let needed = digits.trim_end_matches('0').len();
    let held = Some(usize::from(decimals)).filter(|held| *held <= 6);
    let shown = held.filter(|held| *held >= needed);
    let shown = shown.unwrap_or(if needed == 0 { 0 } else { 6 });
    match digits.get(..shown) {
        Some("") | None => String::new(),
        Some(digits) => format!(".{digits}"),
    }
}

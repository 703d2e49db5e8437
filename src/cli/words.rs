//! Tables and answers as people read them; numbers and times as [`crate::words`] has them.

pub(super) use crate::words::{ago, brief, bytes, count, micros, share, span};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

/// Columns of a line where the output is no terminal.
const WIDTH_ELSEWHERE: u16 = 160;

/// A table that fits the terminal. Columns whose numbers are in `right` are aligned to the right.
pub(super) fn table(head: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width());
    table.set_header(head.iter().map(|title| Cell::new(title.to_uppercase())));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for number in right {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The terminal's width in columns.
pub(super) fn width() -> u16 {
    if cfg!(test) {
        return WIDTH_ELSEWHERE;
    }
    let told = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let seen = || {
        rustix::termios::tcgetwinsize(std::io::stdout())
            .ok()
            .map(|size| size.ws_col)
    };
    told.or_else(seen)
        .filter(|columns| *columns >= 40)
        .unwrap_or(WIDTH_ELSEWHERE)
}

/// A text of an answer; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A number of an answer; 0 where there is none.
pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// The items of a list answer.
pub(super) fn items(value: &Value) -> &[Value] {
    value
        .get("items")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The texts of a list, with commas.
pub(super) fn list(value: &Value, pointer: &str) -> String {
    let texts = value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    texts
        .iter()
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

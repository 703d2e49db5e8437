//! Tables and answers as people read them; numbers and times as [`crate::words`] has them.

pub(super) use crate::words::{brief, count, micros, share, span};
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

/// Bytes: `12 KiB`, `1.5 MiB`.
pub(super) fn bytes(n: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, bits)| n >> bits > 0) {
        None => format!("{n} B"),
        Some((unit, bits)) => {
            let tenths = ((n % (1 << bits)) * 10) >> bits;
            if tenths == 0 {
                format!("{} {unit}", n >> bits)
            } else {
                format!("{}.{tenths} {unit}", n >> bits)
            }
        }
    }
}

/// An RFC 3339 timestamp as its age: `12 s ago`.
pub(super) fn ago(at: &str, now: jiff::Timestamp) -> String {
    let Ok(then) = at.parse::<jiff::Timestamp>() else {
        return at.to_owned();
    };
    let seconds = now
        .as_second()
        .saturating_sub(then.as_second())
        .max(0)
        .unsigned_abs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_as_people_write_them() {
        assert_eq!(
            [12, 12_288, 1_572_864, 268_435_456].map(bytes),
            ["12 B", "12 KiB", "1.5 MiB", "256 MiB"]
        );
    }

    #[test]
    fn a_timestamp_is_shown_as_its_age() {
        let now: jiff::Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        assert_eq!(ago("2026-01-01T23:59:48Z", now), "12 s ago");
        assert_eq!(ago("2026-01-02T00:00:05Z", now), "0 s ago");
        assert_eq!(ago("2025-12-31T00:00:00Z", now), "2 d ago");
        assert_eq!(ago("yesterday", now), "yesterday");
    }
}

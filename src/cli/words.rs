//! Numbers, times and tables as people read them.

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

/// `text` on one line, with an ellipsis where it is longer than `most` characters.
pub(super) fn brief(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    let cut: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// A number with its thousands apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share of a whole, in percent; what is more than nothing never shows as 0.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::new();
    }
    let hundredths = u128::from(part) * 10_000 / u128::from(whole);
    match hundredths {
        0 if part > 0 => "<0.01 %".to_owned(),
        _ => format!("{}.{:02} %", hundredths / 100, hundredths % 100),
    }
}

/// Microseconds, in the unit that fits: `850 µs`, `1.25 ms`, `3.4 s`.
pub(super) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        10_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        1_000_000..60_000_000 => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
        _ => span(us / 1_000_000),
    }
}

/// Seconds: `42 s`, `3 min 5 s`, `2 h 7 min`, `3 d 4 h`.
pub(super) fn span(seconds: u64) -> String {
    let (m, h, d) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{m} min {} s", seconds % 60),
        3_600..86_400 => format!("{h} h {} min", m % 60),
        _ => format!("{d} d {} h", h % 24),
    }
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
    fn numbers_read_as_people_write_them() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0, 850, 1_250, 12_345, 3_456_000, 61_000_000].map(micros),
            [
                "0 µs",
                "850 µs",
                "1.25 ms",
                "12.3 ms",
                "3.45 s",
                "1 min 1 s"
            ]
        );
        assert_eq!(
            [5, 185, 7_620, 273_600].map(span),
            ["5 s", "3 min 5 s", "2 h 7 min", "3 d 4 h"]
        );
        assert_eq!(
            [12, 12_288, 1_572_864, 268_435_456].map(bytes),
            ["12 B", "12 KiB", "1.5 MiB", "256 MiB"]
        );
        assert_eq!(share(1, 3), "33.33 %");
        assert_eq!(share(1, 1_000_000), "<0.01 %");
        assert_eq!(share(0, 0), "");
    }

    #[test]
    fn a_timestamp_is_shown_as_its_age() {
        let now: jiff::Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        assert_eq!(ago("2026-01-01T23:59:48Z", now), "12 s ago");
        assert_eq!(ago("2026-01-02T00:00:05Z", now), "0 s ago");
        assert_eq!(ago("2025-12-31T00:00:00Z", now), "2 d ago");
        assert_eq!(ago("yesterday", now), "yesterday");
    }

    #[test]
    fn a_long_statement_is_cut_to_one_line() {
        assert_eq!(brief("SELECT  a,\n b FROM t", 80), "SELECT a, b FROM t");
        assert_eq!(brief("SELECT a, b FROM t", 10), "SELECT a,…");
    }
}

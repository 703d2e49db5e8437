//! Numbers, times and long texts as people read them. Pure.

/// `text` on one line, with an ellipsis where it is longer than `most` characters.
#[must_use]
pub fn brief(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    let cut: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// Whether a character could make a text look like another one, or steer a terminal: controls, and
/// marks that turn the direction of writing.
#[must_use]
pub fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text for a terminal: its lines stay, and each character that [`is_misleading`] is U+FFFD.
#[must_use]
pub fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        c if is_misleading(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// A number with its thousands apart.
#[must_use]
pub fn count(n: u64) -> String {
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
#[must_use]
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::new();
    }
    let hundredths = u128::from(part) * 10_000 / u128::from(whole);
    match hundredths {
        0 if part > 0 => "<0.01 %".to_owned(),
        _ => format!("{}.{:02} %", hundredths / 100, hundredths % 100),
    }
}

/// A share from 0 to 1 that somebody chose: `99.5 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    let written = format!("{:.2}", share * 100.0);
    let short = written.trim_end_matches('0').trim_end_matches('.');
    format!("{short} %")
}

/// Microseconds, in the unit that fits: `850 µs`, `1.25 ms`, `3.4 s`.
#[must_use]
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        10_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        1_000_000..60_000_000 => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
        _ => span(us / 1_000_000),
    }
}

/// Seconds: `42 s`, `3 min 5 s`, `2 h 7 min`, `3 d 4 h`.
#[must_use]
pub fn span(seconds: u64) -> String {
    let (m, h, d) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{m} min {} s", seconds % 60),
        3_600..86_400 => format!("{h} h {} min", m % 60),
        _ => format!("{d} d {} h", h % 24),
    }
}

/// Seconds that somebody chose: `1 day`, `12 hours`, `1 min 30 s`.
#[must_use]
pub fn period(seconds: u64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let whole = |(unit, _): &(u64, &str)| seconds > 0 && seconds.is_multiple_of(*unit);
    match units.into_iter().find(whole) {
        None => span(seconds),
        Some((unit, name)) => several(seconds / unit, name),
    }
}

/// So many of something: `1 hour`, `12 hours`.
#[must_use]
pub fn several(n: u64, name: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {name}{s}", count(n))
}

/// Bytes: `12 KiB`, `1.5 MiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
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
#[must_use]
pub fn ago(at: &str, now: jiff::Timestamp) -> String {
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

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        let evil = "a\u{1b}]0;x\u{7}\u{1b}[2J\r\n\tb\u{9b}31m\u{202e}c\u{2066}\u{8}\u{7f}ä";
        let shown = harmless(evil);
        assert!(shown.ends_with('ä') && shown.contains("\n\tb"), "{shown:?}");
        let left = shown.chars().filter(|c| is_misleading(*c)).count();
        assert_eq!(left, 2, "the line's end and the tab alone: {shown:?}");
    }

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
            [0, 90, 60, 300, 3_600, 43_200, 86_400, 172_800].map(period),
            [
                "0 s",
                "1 min 30 s",
                "1 minute",
                "5 minutes",
                "1 hour",
                "12 hours",
                "1 day",
                "2 days"
            ]
        );
        assert_eq!(share(1, 3), "33.33 %");
        assert_eq!(share(1, 1_000_000), "<0.01 %");
        assert_eq!(share(0, 0), "");
        assert_eq!([1.0, 0.995, 0.0].map(percent), ["100 %", "99.5 %", "0 %"]);
    }

    #[test]
    fn a_long_statement_is_cut_to_one_line() {
        assert_eq!(brief("SELECT  a,\n b FROM t", 80), "SELECT a, b FROM t");
        assert_eq!(brief("SELECT a, b FROM t", 10), "SELECT a,…");
    }
}

//! Sizes with their units, read and shown.

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads `256MiB`, `64 KiB`, `1GB` or a bare number of bytes.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.replace('_', "").parse().ok()?;
    let unit = unit.trim();
    let (_, factor) = UNITS
        .iter()
        .find(|(name, _)| unit.is_empty() || name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

/// Shows a size by the largest binary unit that divides it.
pub(super) fn shown(bytes: u64) -> String {
    let unit = UNITS
        .iter()
        .take(5)
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) if *factor > 1 => format!("{}{name}", bytes / factor),
        _ => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_they_are_meant() {
        let cases = [
            ("0", Some(0)),
            ("65536", Some(65_536)),
            ("65_536", Some(65_536)),
            ("64KiB", Some(65_536)),
            ("64 kib", Some(65_536)),
            ("1MB", Some(1_000_000)),
            ("256MiB", Some(268_435_456)),
            ("", None),
            ("MiB", None),
            ("1.5MiB", None),
            ("-1", None),
            ("10 apples", None),
            ("99999999TiB", None),
        ];
        for (text, meant) in cases {
            assert_eq!(bytes(text), meant, "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_as_one_would_write_them() {
        for (n, text) in [
            (0, "0"),
            (1000, "1000"),
            (65_536, "64KiB"),
            (1 << 30, "1GiB"),
            (3 << 20, "3MiB"),
        ] {
            assert_eq!(shown(n), text);
        }
    }
}

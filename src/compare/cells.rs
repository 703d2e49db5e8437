//! Whether two cells say the same, and which tolerance that takes.
//!
//! Cells of either protocol come here in the text that MySQL prints. A tolerance is asked only
//! where the texts differ, and only the one that fits the column's type.

use super::temporal;
use super::verdict::{Tolerance, Tolerances};
use crate::wire::column::kind;
use std::cmp::Ordering;
use std::time::Duration;

/// Types whose values an application handles alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Integer,
    Decimal,
    Float,
    Text,
    Date,
    DateTime,
    Time,
    Bit,
    Json,
    Geometry,
    /// The type of a bare NULL, which goes with every other.
    Null,
}

impl Family {
    /// The family of a column's type code; strings for codes that are not known.
    pub(super) const fn of(kind: u8) -> Self {
        match kind {
            kind::TINY
            | kind::SHORT
            | kind::LONG
            | kind::LONGLONG
            | kind::INT24
            | kind::YEAR
            | kind::BOOL => Self::Integer,
            kind::DECIMAL | kind::NEWDECIMAL => Self::Decimal,
            kind::FLOAT | kind::DOUBLE => Self::Float,
            kind::NULL => Self::Null,
            kind::TIMESTAMP | kind::TIMESTAMP2 | kind::DATETIME | kind::DATETIME2 => Self::DateTime,
            kind::DATE | kind::NEWDATE => Self::Date,
            kind::TIME | kind::TIME2 => Self::Time,
            kind::BIT => Self::Bit,
            kind::JSON => Self::Json,
            kind::GEOMETRY => Self::Geometry,
            _ => Self::Text,
        }
    }

    /// The word for it in a divergence's detail.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Float => "float",
            Self::Text => "string",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Time => "time",
            Self::Bit => "bit",
            Self::Json => "json",
            Self::Geometry => "geometry",
            Self::Null => "null",
        }
    }
}

/// How the cells of one column are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ruler {
    pub(super) family: Family,
    /// FLOAT on either side: 6 digits count, not 15.
    pub(super) single: bool,
    /// CHAR on either side, which a server may pad.
    pub(super) padded: bool,
    /// Filled by the clock, which may differ by so much.
    pub(super) clock: Option<Duration>,
    /// How the two sides encode text.
    pub(super) encodings: (Encoding, Encoding),
    /// Strings that sort by a collation which may take different bytes for equal.
    pub(super) collated: bool,
    /// What the config tolerates.
    pub(super) tolerate: Tolerances,
}

/// As far as the same text can be recognised in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    /// MySQL's latin1, which is Windows' code page 1252.
    Latin1,
    Other,
}

impl Encoding {
    /// The encoding of a collation id.
    pub(super) const fn of(collation: u16) -> Self {
        match collation {
            5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 => Self::Latin1,
            33 | 45 | 46 | 76 | 83 | 192..=247 | 255..=323 => Self::Utf8,
            _ => Self::Other,
        }
    }
}

/// What two cells are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    Equal,
    /// Equal by this tolerance.
    Like(Tolerance),
    /// NULL against a value.
    Null,
    Unlike,
}

impl Likeness {
    pub(super) const fn is_like(self) -> bool {
        matches!(self, Self::Equal | Self::Like(_))
    }
}

impl Ruler {
    /// Judges two cells in MySQL's text form; `None` is NULL.
    pub(super) fn judge(&self, primary: Option<&[u8]>, shadow: Option<&[u8]>) -> Likeness {
        let (one, other) = match (primary, shadow) {
            (None, None) => return Likeness::Equal,
            (Some(one), Some(other)) => (one, other),
            _ => return Likeness::Null,
        };
        if one == other {
            return Likeness::Equal;
        }
        self.tolerance(one, other)
            .map_or(Likeness::Unlike, Likeness::Like)
    }

    fn tolerance(&self, one: &[u8], other: &[u8]) -> Option<Tolerance> {
        let found = match self.family {
            Family::Decimal => {
                (decimal(one)? == decimal(other)?).then_some(Tolerance::DecimalScale)
            }
            Family::Float => float_like(one, other, self.single).then_some(Tolerance::FloatText),
            Family::Date | Family::DateTime | Family::Time => {
                fraction_like(one, other).then_some(Tolerance::TemporalFraction)
            }
            Family::Text => self.text(one, other),
            Family::Integer | Family::Bit | Family::Json | Family::Geometry | Family::Null => None,
        };
        found
            .filter(|found| self.tolerate.has(*found))
            .or_else(|| self.clock_like(one, other).then_some(Tolerance::Clock))
    }

    fn text(&self, one: &[u8], other: &[u8]) -> Option<Tolerance> {
        if self.padded
            && one.trim_ascii_end() == other.trim_ascii_end()
            && only_spaces_follow(one, other)
        {
            return Some(Tolerance::Padding);
        }
        let same = match self.encodings {
            (Encoding::Latin1, Encoding::Utf8) => latin1(one).as_bytes() == other,
            (Encoding::Utf8, Encoding::Latin1) => latin1(other).as_bytes() == one,
            _ => false,
        };
        same.then_some(Tolerance::Charset)
    }

    fn clock_like(&self, one: &[u8], other: &[u8]) -> bool {
        let Some(allowed) = self.clock else {
            return false;
        };
        let (Some(one), Some(other)) = (self.moment(one), self.moment(other)) else {
            return false;
        };
        u128::from(one.abs_diff(other)) <= allowed.as_micros()
    }

    fn moment(&self, text: &[u8]) -> Option<i64> {
        match self.family {
            Family::Integer | Family::Decimal => temporal::epoch(text),
            _ => temporal::moment(text),
        }
    }

    /// Which of two cells of one side is the later, where the clock filled them.
    pub(super) fn clock_order(&self, one: Option<&[u8]>, other: Option<&[u8]>) -> Option<Ordering> {
        self.clock?;
        Some(self.moment(one?)?.cmp(&self.moment(other?)?))
    }

    /// A total order of one column's values that puts those together which a tolerance makes equal.
    pub(super) fn order(&self, one: &[u8], other: &[u8]) -> Ordering {
        let number = |text: &[u8]| {
            std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse::<f64>().ok())
        };
        match self.family {
            _ if self.clock.is_some() => Ordering::Equal,
            Family::Decimal | Family::Float => {
                let number = |text| number(text).unwrap_or(f64::NAN);
                number(one).total_cmp(&number(other))
            }
            _ => one.trim_ascii_end().cmp(other.trim_ascii_end()),
        }
    }

    /// Whether two sort keys may be equal to the server that sorted by them: as cells, or as
    /// strings whose collation does not look at case, accents or trailing spaces.
    pub(super) fn same_key(&self, primary: Option<&[u8]>, shadow: Option<&[u8]>) -> bool {
        if self.judge(primary, shadow).is_like() {
            return true;
        }
        let (Some(one), Some(other)) = (primary, shadow) else {
            return false;
        };
        self.collated && self.family == Family::Text && folded(one) == folded(other)
    }
}

/// `trim_ascii_end` takes more than spaces; pad characters are spaces only.
fn only_spaces_follow(one: &[u8], other: &[u8]) -> bool {
    let (long, short) = if one.len() > other.len() {
        (one, other)
    } else {
        (other, one)
    };
    long.strip_prefix(short)
        .is_some_and(|tail| tail.iter().all(|byte| *byte == b' '))
}

/// Code page 1252 as UTF-8; its five holes are control characters, as MySQL has them.
pub(super) fn latin1(bytes: &[u8]) -> String {
    const HIGH: [char; 32] = [
        '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}',
        '\u{2021}', '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}',
        '\u{8f}', '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}',
        '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}',
        '\u{178}',
    ];
    let decode = |byte: u8| {
        byte.checked_sub(0x80)
            .and_then(|at| HIGH.get(usize::from(at)))
            .copied()
    };
    bytes
        .iter()
        .map(|byte| decode(*byte).unwrap_or(char::from(*byte)))
        .collect()
}

/// A string as a collation that ignores case and accents would see it, for the Latin letters that
/// decompose into an ASCII one; other characters are only lower-cased.
pub(super) fn folded(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches(' ')
        .chars()
        .flat_map(char::to_lowercase)
        .map(plain_letter)
        .collect()
}

const fn plain_letter(letter: char) -> char {
    match letter {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => 'c',
        'ď' => 'd',
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => 'e',
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => 'g',
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' => 'i',
        'ñ' | 'ń' | 'ņ' | 'ň' => 'n',
        'ò'..='ö' | 'ō' | 'ŏ' | 'ő' => 'o',
        'ŕ' | 'ŗ' | 'ř' => 'r',
        'ś' | 'ŝ' | 'ş' | 'š' => 's',
        'ţ' | 'ť' => 't',
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        other => other,
    }
}

/// A decimal's sign, integer digits and fraction digits, without the zeros that say nothing.
pub(super) fn decimal(text: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = digits
        .iter()
        .position(|byte| *byte == b'.')
        .unwrap_or(digits.len());
    let (whole, fraction) = digits.split_at_checked(dot)?;
    let fraction = fraction.strip_prefix(b".").unwrap_or(fraction);
    if !whole.iter().chain(fraction).all(u8::is_ascii_digit) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let zeros = whole.iter().take_while(|byte| **byte == b'0').count();
    let whole = whole.get(zeros..)?;
    let kept = fraction
        .iter()
        .rposition(|byte| *byte != b'0')
        .map_or(0, |last| last + 1);
    let fraction = fraction.get(..kept)?;
    let is_zero = whole.is_empty() && fraction.is_empty();
    Some((negative && !is_zero, whole, fraction))
}

/// Equal to the digits that both print: as numbers they are one, or apart only behind the digits
/// that every server prints of the type, or the longer text rounds to the shorter.
fn float_like(one: &[u8], other: &[u8], single: bool) -> bool {
    let (Some((a, a_digits)), Some((b, b_digits))) = (float(one), float(other)) else {
        return false;
    };
    let (digits, apart) = if single { (6, 5e-7) } else { (15, 1e-14) };
    let (small, large) = (a.abs().min(b.abs()), a.abs().max(b.abs()));
    let printed = a_digits.min(b_digits);
    // Sums in another order differ in their last bits, which print as more digits than count. A
    // text that has no more than those is exact, or the other's rounding.
    let step = unit(small, digits);
    let most = if printed > digits { step } else { step / 2.0 };
    if a == b || (a - b).abs() <= most.min(apart * large) {
        return true;
    }
    let rounded = |value: f64| format!("{value:.*e}", printed.saturating_sub(1));
    printed >= digits && rounded(a) == rounded(b)
}

/// What one step of the last of so many significant digits is worth.
fn unit(number: f64, digits: usize) -> f64 {
    let text = format!("{number:e}");
    let exponent = text.split_once('e').map(|(_, exponent)| exponent.parse());
    match (exponent, i32::try_from(digits)) {
        (Some(Ok(exponent)), Ok(digits)) => 10_f64.powi(i32::saturating_sub(exponent, digits - 1)),
        _ => 0.0,
    }
}

/// A number and how many significant digits it is printed with.
fn float(text: &[u8]) -> Option<(f64, usize)> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    let mantissa = text.split(['e', 'E']).next()?;
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    let digits = if mantissa.contains('.') {
        digits
    } else {
        digits.trim_end_matches('0')
    };
    value.is_finite().then_some((value, digits.len()))
}

/// One text is the other, and a fraction's digits more.
fn fraction_like(one: &[u8], other: &[u8]) -> bool {
    let (long, short) = if one.len() > other.len() {
        (one, other)
    } else {
        (other, one)
    };
    let Some(tail) = long.strip_prefix(short) else {
        return false;
    };
    let digits = if short.contains(&b'.') {
        tail
    } else {
        tail.strip_prefix(b".").unwrap_or(b"x")
    };
    temporal::is_temporal(short) && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruler(family: Family) -> Ruler {
        Ruler {
            family,
            single: false,
            padded: false,
            clock: None,
            encodings: (Encoding::Utf8, Encoding::Utf8),
            collated: false,
            tolerate: Tolerances::all(),
        }
    }

    fn judged(ruler: Ruler, one: &str, other: &str) -> Likeness {
        let there = ruler.judge(Some(one.as_bytes()), Some(other.as_bytes()));
        let back = Ruler {
            encodings: (ruler.encodings.1, ruler.encodings.0),
            ..ruler
        };
        assert_eq!(
            there,
            back.judge(Some(other.as_bytes()), Some(one.as_bytes())),
            "{one} {other}"
        );
        there
    }

    #[test]
    fn decimals_are_equal_by_value() {
        for (one, other, like) in [
            ("1.50", "1.5", true),
            ("-0.00", "0", true),
            (".5", "0.50", true),
            ("100", "1", false),
            ("0.10", "0.01", false),
            ("-1.5", "1.5", false),
            ("", "0", false),
            ("1.x", "1.", false),
        ] {
            assert_eq!(
                judged(ruler(Family::Decimal), one, other).is_like(),
                like,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn floats_are_equal_to_the_digits_that_both_print() {
        for (single, one, other, like) in [
            (false, "0.3", "0.30000000000000004", true),
            (false, "1e10", "10000000000", true),
            (false, "-0", "0", true),
            (false, "2.96", "3", false),
            (false, "3.14159", "3.14159265", false),
            (false, "100000000000001", "100000000000002", false),
            (false, "9.99999999999999", "10", false),
            (false, "100.00000000000001", "100.00000000000004", true),
            (false, "1.2345678901234549", "1.2345678901234551", true),
            (false, "9.1234567890123451", "9.1234567890123486", true),
            (false, "9.1234567890123451", "9.1234567890123651", false),
            (false, "1.23", "1.23000000000001", false),
            (false, "0", "1e-17", false),
            (true, "3.14159", "3.14159265", true),
            (true, "3.14159", "3.14158", false),
            (true, "16777200", "16777216", true),
            (true, "1.1", "1.100000023841858", true),
            (true, "1.00001", "1.00000", false),
            (false, "1.5", "x", false),
        ] {
            let ruler = Ruler {
                single,
                ..ruler(Family::Float)
            };
            assert_eq!(judged(ruler, one, other).is_like(), like, "{one} {other}");
        }
    }

    #[test]
    fn temporal_values_may_lack_a_fraction_that_the_other_prints() {
        for (one, other, like) in [
            ("2024-01-02 03:04:05", "2024-01-02 03:04:05.000000", true),
            ("2024-01-02 03:04:05.12", "2024-01-02 03:04:05.123456", true),
            ("03:04:05", "03:04:05.5", true),
            ("2024-01-02 03:04:05", "2024-01-02 03:04:06", false),
            ("2024-01-02", "2024-01-02 00:00:00", false),
            ("", "2024-01-02", false),
        ] {
            assert_eq!(
                judged(ruler(Family::DateTime), one, other).is_like(),
                like,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn pad_spaces_are_tolerated_on_char_alone() {
        let char = Ruler {
            padded: true,
            ..ruler(Family::Text)
        };
        assert_eq!(judged(char, "a", "a  "), Likeness::Like(Tolerance::Padding));
        assert_eq!(judged(char, "a", "a\n"), Likeness::Unlike);
        assert_eq!(judged(char, "a", " a"), Likeness::Unlike);
        assert_eq!(judged(ruler(Family::Text), "a", "a  "), Likeness::Unlike);
    }

    #[test]
    fn the_same_text_in_another_charset_is_the_same() {
        let ruler = Ruler {
            encodings: (Encoding::Latin1, Encoding::Utf8),
            ..ruler(Family::Text)
        };
        assert_eq!(
            ruler.judge(Some(b"caf\xE9 \x80"), Some("café €".as_bytes())),
            Likeness::Like(Tolerance::Charset)
        );
        assert_eq!(
            ruler.judge(Some(b"caf\xE9"), Some("cafe".as_bytes())),
            Likeness::Unlike
        );
    }

    #[test]
    fn the_clock_may_differ_by_as_much_as_the_rule_says() {
        let clock = Some(Duration::from_secs(2));
        for (family, one, other, like) in [
            (
                Family::DateTime,
                "2024-02-28 23:59:59",
                "2024-02-29 00:00:01",
                true,
            ),
            (
                Family::DateTime,
                "2024-02-28 23:59:59.5",
                "2024-02-29 00:00:01.6",
                false,
            ),
            (Family::Time, "10:00:00", "10:00:02", true),
            (Family::Time, "-10:00:00", "10:00:00", false),
            (Family::Date, "2024-02-28", "2024-02-29", false),
            (Family::Integer, "1700000000", "1700000001", true),
            (Family::Integer, "5", "6", false),
            (Family::Decimal, "1700000000.25", "1700000001.000000", true),
            (
                Family::Text,
                "2024-01-01 00:00:00",
                "2024-01-01 00:00:01",
                true,
            ),
            (Family::Text, "a", "b", false),
        ] {
            let with = Ruler {
                clock,
                ..ruler(family)
            };
            assert_eq!(
                judged(with, one, other),
                if like {
                    Likeness::Like(Tolerance::Clock)
                } else {
                    Likeness::Unlike
                },
                "{one} {other}"
            );
            assert_eq!(
                judged(ruler(family), one, other),
                Likeness::Unlike,
                "without the rule: {one} {other}"
            );
        }
    }

    #[test]
    fn sort_keys_may_be_equal_by_collation() {
        let collated = Ruler {
            collated: true,
            ..ruler(Family::Text)
        };
        for (one, other, same) in [
            ("Ab", "aB", true),
            ("é", "E", true),
            ("a ", "A", true),
            ("a", "b", false),
            ("ä", "z", false),
        ] {
            assert_eq!(
                collated.same_key(Some(one.as_bytes()), Some(other.as_bytes())),
                same,
                "{one} {other}"
            );
            assert!(!ruler(Family::Text).same_key(Some(one.as_bytes()), Some(other.as_bytes())));
        }
        assert!(collated.same_key(None, None));
        assert!(!collated.same_key(None, Some(b"a")));
    }
}

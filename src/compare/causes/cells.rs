//! Causes by the cells of the differing rows.

use super::{Cause, Code};
use crate::compare::cells::{decimal, folded, latin1};
use crate::compare::temporal;
use crate::compare::verdict::Example;

const MINUTE_MICROS: i64 = 60 * 1_000_000;

/// Time zones are apart by whole quarters of an hour, and no two in use by more than this.
const QUARTER_MICROS: i64 = 15 * MINUTE_MICROS;
const OFFSET_MICROS_MAX: i64 = 14 * 60 * MINUTE_MICROS;

/// The cause of other values: that of every differing cell, or, where they disagree, that the
/// values are others.
pub(super) fn of_values(examples: &[Example]) -> Option<Cause> {
    let mut common = None;
    for example in examples {
        if example.primary.is_empty() || example.shadow.is_empty() {
            return of_rows_alone(examples);
        }
        let mut others = example.shadow.iter();
        for one in &example.primary {
            let Some(other) = others.next() else { break };
            let seen = Seen::of(one.as_deref(), other.as_deref());
            match &common {
                None => common = Some(seen),
                Some(known) if *known == seen => {}
                Some(_) => return Some(Code::ChangedValue.into()),
            }
        }
    }
    common.map(Seen::cause)
}

/// As many rows on both sides, which are not each other's: one is missing, one is too many.
fn of_rows_alone(examples: &[Example]) -> Option<Cause> {
    let is_missing = examples.iter().any(|one| one.shadow.is_empty());
    let is_extra = examples.iter().any(|one| one.primary.is_empty());
    Some(match (is_missing, is_extra) {
        (true, false) => Code::MissingRow.into(),
        (false, true) => Code::ExtraRow.into(),
        _ => Code::ChangedValue.into(),
    })
}

/// The cause of another order: text is sorted by its collation. Small letters alone are sorted
/// alike by all of them: an ENUM is not.
pub(super) fn of_order(examples: &[Example]) -> Code {
    let is_word = |cell: &Option<String>| {
        cell.as_deref().is_some_and(|text| {
            text.chars().any(char::is_alphabetic) && !temporal::is_temporal(text.as_bytes())
        })
    };
    let is_plain = |example: &Example| {
        let mut words = example.primary.iter().chain(&example.shadow);
        words.all(|cell| {
            let mut letters = cell.iter().flat_map(|text| text.chars());
            letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
        })
    };
    if examples.first().is_some_and(is_plain) {
        return Code::Order;
    }
    let sorted_words = examples.first().is_some_and(|example| {
        let has_case = |cells: &[Option<String>]| cells.iter().any(is_word);
        has_case(&example.primary) && has_case(&example.shadow)
    });
    if sorted_words {
        Code::Collation
    } else {
        Code::Order
    }
}

/// Whether a row that one side has alone matches a literal of the statement only where case and
/// accents do not count.
pub(super) fn matches_by_collation(example: &Example, literals: &[String]) -> bool {
    let cells = example.primary.iter().chain(&example.shadow).flatten();
    let mut like = false;
    for cell in cells {
        if literals.contains(cell) {
            return false;
        }
        let is_like = |literal: &String| folded(literal.as_bytes()) == folded(cell.as_bytes());
        like |= !cell.is_empty() && literals.iter().any(is_like);
    }
    like
}

/// What is seen of one pair of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Plain(Code),
    /// Moments so far apart, in µs.
    Offset(i64),
}

impl Seen {
    fn of(primary: Option<&str>, shadow: Option<&str>) -> Self {
        let (one, other) = match (primary, shadow) {
            (Some(one), Some(other)) => (one, other),
            (Some(value), None) | (None, Some(value)) => {
                return Self::Plain(if is_a_zero(value) {
                    Code::DefaultValue
                } else {
                    Code::Null
                });
            }
            (None, None) => return Self::Plain(Code::ChangedValue),
        };
        if let Some(offset) = offset(one, other) {
            return Self::Offset(offset);
        }
        Self::Plain(code(one, other))
    }

    fn cause(self) -> Cause {
        match self {
            Self::Plain(code) => code.into(),
            Self::Offset(micros) => {
                let minutes = micros.abs() / MINUTE_MICROS;
                let sign = if micros < 0 { '-' } else { '+' };
                Cause {
                    code: Code::TimeZone,
                    seen: format!(
                        "the shadow's are {sign}{:02}:{:02} apart",
                        minutes / 60,
                        minutes % 60
                    ),
                }
            }
        }
    }
}

fn code(one: &str, other: &str) -> Code {
    let (ours, theirs) = (one.as_bytes(), other.as_bytes());
    if is_zero_date(one) || is_zero_date(other) {
        Code::ZeroDate
    } else if one.trim_end_matches(' ') == other.trim_end_matches(' ') {
        Code::Padding
    } else if is_rounded(one, other) {
        Code::Rounding
    } else if boolean(one).is_some() && boolean(one) == boolean(other) {
        Code::Boolean
    } else if is_of_another_charset(one, other) {
        Code::Charset
    } else if is_text(one) && folded(ours) == folded(theirs) {
        Code::Collation
    } else if is_same_json(one, other) {
        Code::JsonText
    } else {
        Code::ChangedValue
    }
}

/// How far the shadow's moment is behind the primary's, where a time zone may explain it.
fn offset(one: &str, other: &str) -> Option<i64> {
    let has_clock = one.contains(':') && other.contains(':');
    let moment = |text: &str| temporal::moment(text.as_bytes());
    if !has_clock || is_zero_date(one) || is_zero_date(other) {
        return None;
    }
    let apart = moment(other)? - moment(one)?;
    let fits = apart != 0 && apart % QUARTER_MICROS == 0 && apart.abs() <= OFFSET_MICROS_MAX;
    fits.then_some(apart)
}

fn is_text(text: &str) -> bool {
    text.chars().any(char::is_alphabetic)
}

fn is_a_zero(value: &str) -> bool {
    let is_number = decimal(value.as_bytes())
        .is_some_and(|(_, whole, fraction)| whole.is_empty() && fraction.is_empty());
    value.is_empty() || is_number || is_zero_date(value) || value == "00:00:00"
}

/// `0000-00-00`, or a month or day of 0.
fn is_zero_date(value: &str) -> bool {
    let day = value.split([' ', 'T']).next().unwrap_or_default();
    let parts: Vec<&str> = day.split('-').collect();
    let is_date = temporal::is_temporal(value.as_bytes()) && parts.len() == 3;
    is_date && parts.iter().skip(1).any(|part| *part == "00")
}

/// Whether one number is the other, rounded or cut off after fewer digits; or they are alike in
/// more digits than chance explains.
fn is_rounded(one: &str, other: &str) -> bool {
    let digits = |text: &str| {
        decimal(text.as_bytes())
            .map(|(negative, whole, fraction)| (negative, whole.len(), fraction.len()))
    };
    let value = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
    let (Some(a), Some(b)) = (value(one), value(other)) else {
        return false;
    };
    if (a - b).abs() < 1e-5 * a.abs().max(b.abs())
        && (one.contains(['.', 'e']) || other.contains(['.', 'e']))
    {
        return true;
    }
    let (Some((_, _, ours)), Some((_, _, theirs))) = (digits(one), digits(other)) else {
        return false;
    };
    let (precise, coarse, kept) = match ours.cmp(&theirs) {
        std::cmp::Ordering::Greater => (a, b, theirs),
        std::cmp::Ordering::Less => (b, a, ours),
        std::cmp::Ordering::Equal => return false,
    };
    let unit = 10_f64.powi(i32::try_from(kept).unwrap_or(0).saturating_neg());
    let near = |value: f64| (value - coarse).abs() < unit / 1000.0;
    near((precise / unit).round() * unit) || near((precise / unit).trunc() * unit)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "0x01" | "true" | "TRUE" => Some(true),
        "0" | "0x00" | "false" | "FALSE" => Some(false),
        _ => None,
    }
}

/// UTF-8 that was read as latin1, on either side; or characters that a charset lacks, as `?`.
fn is_of_another_charset(one: &str, other: &str) -> bool {
    let misread = |text: &str| latin1(text.as_bytes());
    if one.is_ascii() && other.is_ascii() {
        return false;
    }
    misread(one) == other || misread(other) == one || is_lossy(one, other) || is_lossy(other, one)
}

/// Whether `lossy` is `text` with `?` in the place of characters outside ASCII.
fn is_lossy(text: &str, lossy: &str) -> bool {
    let mut others = lossy.chars();
    let mut lost = false;
    for one in text.chars() {
        let Some(other) = others.next() else {
            return false;
        };
        if one == other {
            continue;
        }
        if one.is_ascii() || !matches!(other, '?' | '\u{FFFD}') {
            return false;
        }
        lost = true;
    }
    lost && others.next().is_none()
}

fn is_same_json(one: &str, other: &str) -> bool {
    let read = |text: &str| {
        let begins = text.starts_with(['{', '[']);
        begins.then(|| serde_json::from_str::<serde_json::Value>(text).ok())?
    };
    read(one).is_some_and(|value| read(other) == Some(value))
}

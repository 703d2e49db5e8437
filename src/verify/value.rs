//! The canonical form of a value: two servers' texts of one value are the same bytes here. Pure.
//!
//! What cannot be read in its form is kept as it came, marked as such: it equals nothing but itself.
//! Both servers were asked for UTF-8 and for UTC; for a character that has no UTF-8 a server says `?`, so where a
//! column's character set may hold some, such a text is asked for by its bytes (`statements`).

use super::json;
use super::number;
use super::types::Form;
use jiff::SignedDuration;
use jiff::civil::DateTime;
use xxhash_rust::xxh3::xxh3_128;

/// How a value is marked: what was read, what was not, and NULL.
const NULL: u8 = 0;
const READ: u8 = 1;
const AS_IT_CAME: u8 = 2;

/// Adds a value's canonical form, behind its mark and its length.
pub(super) fn write(out: &mut Vec<u8>, form: Form, value: Option<&[u8]>) {
    let Some(bytes) = value else {
        out.push(NULL);
        return;
    };
    match form {
        Form::Bytes | Form::Text => mark(out, READ, bytes),
        Form::Bits => mark(out, READ, number::bits(bytes)),
        Form::Number => read_in_place(out, bytes),
        Form::Digits => read_or_raw(out, number::float(bytes), bytes),
        Form::Float | Form::Double => read_or_raw(out, number::double(bytes), bytes),
        Form::Moment => read_or_raw(out, moment(bytes), bytes),
        Form::Time => read_or_raw(out, time(bytes), bytes),
        Form::Json => read_or_raw(out, json::canonical(bytes), bytes),
        Form::Words => mark(out, READ, &words(bytes)),
    }
}

fn mark(out: &mut Vec<u8>, mark: u8, bytes: &[u8]) {
    out.push(mark);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The same as [`read_or_raw`] of a number, whose length is written once it is known.
fn read_in_place(out: &mut Vec<u8>, raw: &[u8]) {
    let at = out.len();
    mark(out, READ, &[]);
    let from = out.len();
    let read = number::write_decimal(out, raw);
    let len = (out.len() - from) as u64;
    match out.get_mut(at + 1..from).filter(|_| read.is_some()) {
        Some(place) => place.copy_from_slice(&len.to_le_bytes()),
        None => {
            out.truncate(at);
            mark(out, AS_IT_CAME, raw);
        }
    }
}

fn read_or_raw(out: &mut Vec<u8>, read: Option<impl AsRef<[u8]>>, raw: &[u8]) {
    match read {
        Some(read) => mark(out, READ, read.as_ref()),
        None => mark(out, AS_IT_CAME, raw),
    }
}

/// `2024-02-29 12:30:01.5`: a date alone is its first moment, and zeros behind the point say nothing.
fn moment(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let (date, clock) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let is_date = date.len() == 10
        && date
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_date.then_some(())?;
    Some(format!("{date} {}", clock_time(clock)?))
}

/// A value's moment, where it is one, as the time from a fixed one: that of a TIME from midnight, for a TIME may be that of
/// a clock. Two of one form are as far apart as these are.
#[must_use]
pub(super) fn instant(form: Form, value: Option<&[u8]>) -> Option<SignedDuration> {
    let text = value?;
    match form {
        Form::Moment => {
            let at: DateTime = moment(text)?.parse().ok()?;
            Some(at.duration_since(DateTime::ZERO))
        }
        Form::Time => since_midnight(&time(text)?),
        _ => None,
    }
}

/// Of `-838:59:59.5`.
fn since_midnight(text: &str) -> Option<SignedDuration> {
    let (is_before, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
    let seconds = minutes.checked_mul(60)?.checked_add(seconds)?;
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let since = SignedDuration::new(seconds, nanos);
    if is_before {
        since.checked_neg()
    } else {
        Some(since)
    }
}

/// `-838:59:59.5`
fn time(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let clock = clock_time(rest)?;
    let is_zero = clock.bytes().all(|byte| matches!(byte, b'0' | b':'));
    Some(if is_zero {
        clock
    } else {
        format!("{sign}{clock}")
    })
}

fn clock_time(text: &str) -> Option<String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_clock = !whole.is_empty()
        && whole
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b':')
        && part.bytes().all(|byte| byte.is_ascii_digit());
    is_clock.then_some(())?;
    Some(match part.trim_end_matches('0') {
        "" => whole.to_owned(),
        part => format!("{whole}.{part}"),
    })
}

/// The words of a SET in one order.
fn words(text: &[u8]) -> Vec<u8> {
    let mut words: Vec<&[u8]> = text.split(|byte| *byte == b',').collect();
    words.sort_unstable();
    words.join(&b',')
}

/// The digest of a row's values.
#[must_use]
pub(super) fn digest(canonical: &[u8]) -> u128 {
    xxh3_128(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(form: Form, value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, form, Some(value.as_bytes()));
        out
    }

    #[test]
    fn one_value_has_one_form() {
        for (form, one, other) in [
            (Form::Number, "007", "7"),
            (Form::Number, "1.50", "1.5"),
            (Form::Double, "1e15", "1000000000000000"),
            (Form::Digits, "1234567", "1.23457e6"),
            (
                Form::Moment,
                "2024-02-29 12:30:01.500000",
                "2024-02-29 12:30:01.5",
            ),
            (Form::Moment, "2024-02-29", "2024-02-29 00:00:00"),
            (Form::Moment, "0000-00-00 00:00:00", "0000-00-00"),
            (Form::Time, "-00:00:00", "00:00:00.000"),
            (Form::Json, "{\"a\":1,\"b\":2}", "{\"b\": 2, \"a\": 1.0}"),
            (Form::Words, "b,a", "a,b"),
        ] {
            assert_eq!(of(form, one), of(form, other), "{form:?} {one}");
        }
    }

    #[test]
    fn other_values_have_other_forms() {
        for (form, one, other) in [
            (Form::Text, "a", "A"),
            (Form::Text, "a", "a "),
            (Form::Text, "é", "e"),
            (Form::Bytes, "1", "01"),
            (Form::Number, "1", "2"),
            (Form::Number, "1", "-1"),
            (Form::Float, "1234567", "1234568"),
            (
                Form::Moment,
                "2024-02-29 12:30:01.000001",
                "2024-02-29 12:30:01",
            ),
            (Form::Moment, "2024-02-29 12:30:01", "2024-02-29 13:30:01"),
            (Form::Time, "-01:00:00", "01:00:00"),
            (Form::Json, "{\"a\":1}", "{\"a\":2}"),
            (Form::Words, "a", "a,b"),
        ] {
            assert_ne!(of(form, one), of(form, other), "{form:?} {one}");
        }
    }

    #[test]
    fn a_moment_is_read_where_it_is_one() {
        let read = |form, text: &str| instant(form, Some(text.as_bytes()));
        for (form, one, other, apart_ms) in [
            (
                Form::Moment,
                "2024-03-01 00:00:00.500000",
                "2024-02-29 23:59:59",
                1_500,
            ),
            (Form::Moment, "2024-03-01", "2024-02-29 23:59:59", 1_000),
            (Form::Time, "12:30:01.5", "12:30:00", 1_500),
            (Form::Time, "00:00:00.25", "-00:00:00.5", 750),
            (Form::Time, "-838:59:58", "-838:59:59", 1_000),
        ] {
            let apart = read(form, one).unwrap() - read(form, other).unwrap();
            assert_eq!(apart, SignedDuration::from_millis(apart_ms), "{one}");
        }
        for (form, text) in [
            (Form::Moment, "0000-00-00 00:00:00"),
            (Form::Moment, "12:30:01"),
            (Form::Text, "2024-02-29 12:30:01"),
            (Form::Text, "12:30:01"),
            (Form::Time, "12:30"),
            (Form::Time, "12::01"),
            (Form::Time, "1:2:3:4"),
            (Form::Time, "9999999999999999999:00:00"),
            (Form::Time, "999999999999999999:00:00"),
        ] {
            assert_eq!(read(form, text), None, "{text}");
        }
        assert_eq!(instant(Form::Moment, None), None);
    }

    #[test]
    fn null_equals_nothing_else() {
        let mut null = Vec::new();
        write(&mut null, Form::Text, None);
        for other in ["", "NULL", "\0"] {
            assert_ne!(null, of(Form::Text, other));
        }
    }

    #[test]
    fn what_cannot_be_read_equals_itself_alone() {
        assert_eq!(of(Form::Number, "abc"), of(Form::Number, "abc"));
        assert_ne!(of(Form::Number, "abc"), of(Form::Number, "abd"));
        // Not even a text that looks like what was read.
        assert_ne!(of(Form::Number, "1e0x"), of(Form::Number, "1"));
    }

    proptest! {
        #[test]
        fn neighbours_cannot_be_mistaken(a in ".{0,6}", b in ".{0,6}", c in ".{0,6}", d in ".{0,6}") {
            let pair = |x: &str, y: &str| [of(Form::Text, x), of(Form::Text, y)].concat();
            prop_assert_eq!(pair(&a, &b) == pair(&c, &d), (&a, &b) == (&c, &d));
        }
    }
}

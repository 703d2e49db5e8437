//! Numbers by value: two texts of one number are one text here. Pure.
//!
//! Integers and decimals keep every digit. A DOUBLE is read back exactly from the digits that servers print, and so
//! is a FLOAT that was asked for as one; of a FLOAT against another type six digits are looked at.

use std::io::Write as _;

/// Digits of an exponent that are read: what is longer is no number that a server prints.
const EXPONENT_DIGITS_MAX: usize = 6;

/// The number as its digits, without zeros at either end, and a power of ten: `-12.50` is `-125e-1`, zero is
/// `0`. `None` for what is no number.
#[must_use]
pub(super) fn decimal(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_decimal(&mut out, text)?;
    String::from_utf8(out).ok()
}

/// Adds the same to what is there: nothing of its own is allocated, for most columns of most rows are numbers. What was
/// added where it is `None` means nothing.
pub(super) fn write_decimal(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let text = text.trim_ascii();
    let (is_negative, rest) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let (mantissa, exponent) = match split(rest, |byte| matches!(byte, b'e' | b'E')) {
        Some((mantissa, exponent)) => (mantissa, power(exponent)?),
        None => (rest, 0),
    };
    let (whole, part) = split(mantissa, |byte| byte == b'.').unwrap_or((mantissa, &[]));
    let digits = || whole.iter().chain(part).copied();
    let all = whole.len() + part.len();
    if all == 0 || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let is_zero = |digit: &u8| *digit == b'0';
    let before = digits().take_while(is_zero).count();
    if before == all {
        out.push(b'0');
        return Some(());
    }
    let behind = digits().rev().take_while(is_zero).count();
    if is_negative {
        out.push(b'-');
    }
    out.extend(digits().skip(before).take(all - before - behind));
    let scale = i64::try_from(part.len()).ok()? - i64::try_from(behind).ok()?;
    write!(out, "e{}", exponent - scale).ok()
}

/// Before and behind the first such byte.
fn split(text: &[u8], is_one: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| is_one(*byte))?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn power(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.trim_start_matches(['+', '-']);
    (!digits.is_empty() && digits.len() <= EXPONENT_DIGITS_MAX).then_some(())?;
    text.parse().ok()
}

/// A DOUBLE as the shortest digits that say it.
#[must_use]
pub(super) fn double(text: &[u8]) -> Option<String> {
    let value = float_of(text)?;
    Some(format!("{value:e}"))
}

/// A FLOAT as the six digits that every server prints.
#[must_use]
pub(super) fn float(text: &[u8]) -> Option<String> {
    let value = float_of(text)?;
    Some(format!("{value:.5e}"))
}

fn float_of(text: &[u8]) -> Option<f64> {
    // Only what `decimal` takes: no `inf`, no `nan`.
    decimal(text)?;
    let value: f64 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    // Nobody means the sign of zero.
    Some(if value == 0.0 { 0.0 } else { value })
}

/// A BIT's number; `None` for more bits than there are.
#[must_use]
pub(super) fn whole(bytes: &[u8]) -> Option<u64> {
    let bytes = bits(bytes);
    (bytes.len() <= 8).then(|| {
        bytes
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte))
    })
}

/// A BIT's bytes as the number that they are: a wider column pads with zeros.
#[must_use]
pub(super) fn bits(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_number_has_one_text() {
        for (same, texts) in [
            ("0", &["0", "-0", "0.00", "000", "0e5", "+0"][..]),
            ("1e0", &["1", "01", "1.0", "1.000", "10e-1", "0.1E1", "+1"]),
            ("-125e-1", &["-12.5", "-12.50", "-0012.5000", "-1.25e1"]),
            ("1e22", &["10000000000000000000000", "1e22", "1E+22"]),
            ("12345678901234567890123e-3", &["12345678901234567890.123"]),
        ] {
            for text in texts {
                assert_eq!(decimal(text.as_bytes()).as_deref(), Some(same), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "",
            "-",
            ".",
            "1.2.3",
            "abc",
            "1e",
            "1e9999999",
            "0x10",
            "nan",
            "inf",
            "1-",
        ] {
            assert_eq!(decimal(text.as_bytes()), None, "{text}");
            assert_eq!(double(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn floats_are_equal_where_the_digits_are_that_both_print() {
        assert_eq!(double(b"1e15"), double(b"1000000000000000"));
        assert_eq!(double(b"0.1"), double(b"0.10000000000000001"));
        assert_ne!(double(b"0.1"), double(b"0.10000000000000002"));
        assert_eq!(float(b"1.23457"), float(b"1.234568"));
        assert_ne!(float(b"1.23457"), float(b"1.23458"));
        assert_eq!(float(b"-0"), float(b"0"));
    }

    #[test]
    fn a_bits_number_has_no_sign() {
        assert_eq!(whole(&[0x80, 0, 0, 0, 0, 0, 0, 1]), Some((1 << 63) + 1));
        assert_eq!(whole(&[0, 0, 0, 0, 0, 0, 0, 0, 7]), Some(7));
        assert_eq!(whole(&[1; 9]), None);
        assert_eq!(whole(&[]), Some(0));
    }

    #[test]
    fn a_wider_bit_is_the_same_number() {
        assert_eq!(bits(&[0, 0, 5]), bits(&[5]));
        assert_ne!(bits(&[5, 0]), bits(&[5]));
    }

    proptest! {
        #[test]
        fn every_integer_keeps_its_value(n in any::<i64>(), zeros in 0_usize..4) {
            let padded = format!("{}{}{}", if n < 0 { "-" } else { "" }, "0".repeat(zeros), n.unsigned_abs());
            prop_assert_eq!(decimal(padded.as_bytes()), decimal(n.to_string().as_bytes()));
            prop_assert_eq!(decimal(format!("{n}.000").as_bytes()), decimal(n.to_string().as_bytes()));
        }

        #[test]
        fn two_integers_are_told_apart(a in any::<i64>(), b in any::<i64>()) {
            let same = decimal(a.to_string().as_bytes()) == decimal(b.to_string().as_bytes());
            prop_assert_eq!(same, a == b);
        }

        #[test]
        fn a_double_that_was_printed_is_read_back(x in any::<f64>().prop_filter("finite", |x| x.is_finite())) {
            prop_assert_eq!(double(format!("{x}").as_bytes()), double(format!("{x:e}").as_bytes()));
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (decimal(&bytes), double(&bytes), float(&bytes), bits(&bytes));
        }
    }
}

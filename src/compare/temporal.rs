//! Moments in MySQL's text form, as microseconds that can be subtracted.

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Whether the text is a date, a time or both.
pub(super) fn is_temporal(text: &[u8]) -> bool {
    moment(text).is_some()
}

/// `YYYY-MM-DD[ HH:MM:SS[.f]]` or `[-]H…H:MM:SS[.f]` in microseconds, since any fixed moment.
pub(super) fn moment(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    match text.split_once([' ', 'T']) {
        Some((day, time)) => Some(date(day)? + of_day(time)?),
        None if text.contains(':') => of_day(text),
        None => date(text),
    }
}

/// A number of seconds that may be a Unix time: of the years 2001 to 2106.
pub(super) fn epoch(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = number(whole)?;
    (1_000_000_000..=4_294_967_295)
        .contains(&seconds)
        .then_some(())?;
    Some(seconds * SECOND + micros(fraction)?)
}

fn date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (
        number(parts.next()?)?,
        number(parts.next()?)?,
        number(parts.next()?)?,
    );
    (year <= 9999 && month <= 12 && day <= 31).then(|| days(year, month, day) * DAY)
}

/// Days since 0000-03-01 in the proleptic Gregorian calendar.
///
/// <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year
}

fn of_day(text: &str) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.splitn(3, ':');
    let (hour, minute, second) = (
        number(parts.next()?)?,
        number(parts.next()?)?,
        number(parts.next()?)?,
    );
    (hour <= 838 && minute <= 59 && second <= 60).then_some(())?;
    Some(sign * (((hour * 60 + minute) * 60 + second) * SECOND + micros(fraction)?))
}

/// Digits after the point as microseconds.
fn micros(fraction: &str) -> Option<i64> {
    if fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number(&format!("{fraction:0<6}"))
}

/// At most ten digits and nothing else.
fn number(text: &str) -> Option<i64> {
    let digits =
        !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_subtract() {
        for (one, other, micros) in [
            ("2024-03-01", "2024-02-28", 2 * DAY),
            ("2023-03-01", "2023-02-28", DAY),
            ("2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", 1),
            ("00:00:01", "-00:00:01", 2 * SECOND),
            ("100:00:00.5", "99:59:59.5", SECOND),
        ] {
            let found =
                moment(one.as_bytes()).and_then(|one| Some(one - moment(other.as_bytes())?));
            assert_eq!(found, Some(micros), "{one} - {other}");
        }
    }

    #[test]
    fn other_text_is_no_moment() {
        for text in [
            "",
            "a",
            "1",
            "2024-13-01",
            "2024-01-01 ",
            "10:00",
            "10:00:00.1234567",
            "-2024-01-01",
            "99999999999:00:00",
        ] {
            assert_eq!(moment(text.as_bytes()), None, "{text}");
        }
    }
}

//! A text without its literals, in one pass over its bytes: the quick way to a shape that is known.
//!
//! Texts with one skeleton have one fingerprint, whatever their literals; not the other way round:
//! spaces and the case of words stay as they are. What is not clear at a glance (comments, a quote
//! without an end, a quoted variable) has no skeleton, and is read by the lexer. A property of both
//! proves it.

use super::Dialect;
use super::lexer::is_name;

/// In place of a number, and of a string. Texts that hold these bytes have no skeleton.
const NUMBER: u8 = 0x01;
const STRING: u8 = 0x02;

/// Longer texts have none: to read them is the least that they cost.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// A number of so many digits behind a BY may say which column to sort by, and stays.
const ORDINAL_DIGITS: usize = 4;

/// Writes a text's skeleton into `out`; whether it has one.
pub(super) fn strip(text: &[u8], dialect: Dialect, out: &mut Vec<u8>) -> bool {
    out.clear();
    text.len() <= TEXT_BYTES_MAX && walk(text, dialect, out).is_some()
}

fn walk(text: &[u8], dialect: Dialect, out: &mut Vec<u8>) -> Option<()> {
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    let escapes = !dialect.no_backslash_escapes;
    let (mut at, mut before, mut by) = (0, 0, false);
    while let Some(&first) = text.get(at) {
        let end = match first {
            b'0'..=b'9' => {
                let end = run_end(text, at, u8::is_ascii_digit);
                let stays = matches!(before, b'.' | b'@') || by && end - at <= ORDINAL_DIGITS;
                match number_end(text, end) {
                    Some(end) if !stays => {
                        out.push(NUMBER);
                        end
                    }
                    _ => copy(text, at, run_end(text, end, |b| is_name(*b)), out),
                }
            }
            b'\'' | b'"' => {
                if before == b'@' || first == b'"' && dialect.ansi_quotes {
                    return None;
                }
                out.push(STRING);
                quote_end(text, at + 1, first, escapes)?
            }
            b'`' => copy(text, at, quote_end(text, at + 1, b'`', false)?, out),
            _ if is_name(first) => {
                let end = run_end(text, at, |b| is_name(*b));
                by |= end - at == 2
                    && text
                        .get(at..end)
                        .is_some_and(|word| word.eq_ignore_ascii_case(b"BY"));
                copy(text, at, end, out)
            }
            b'#' => return None,
            b'-' if byte(at + 1) == b'-' => return None,
            b'/' if byte(at + 1) == b'*' => return None,
            b'\t' | b'\n' | b'\r' | b' '.. => copy(text, at, at + 1, out),
            _ => return None,
        };
        // `1e` or the `e` of `1.e`: what follows the sign may be the exponent's digits, or a number.
        let may_be_exponent = first.is_ascii_digit() || before == b'.' && end - at == 1;
        if may_be_exponent
            && matches!(byte(end - 1), b'e' | b'E')
            && matches!(byte(end), b'+' | b'-')
        {
            return None;
        }
        before = byte(end - 1);
        at = end;
    }
    Some(())
}

fn copy(text: &[u8], from: usize, to: usize, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(text.get(from..to).unwrap_or_default());
    to
}

fn run_end(text: &[u8], from: usize, is: impl Fn(&u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !is(byte)).unwrap_or(rest.len())
}

/// Where a number ends whose first digits end here; `None` where it may be more than digits and one
/// dot, or no number at all.
fn number_end(text: &[u8], digits_end: usize) -> Option<usize> {
    let goes_on = |at: usize| text.get(at).is_some_and(|b| *b == b'.' || is_name(*b));
    if !goes_on(digits_end) {
        return Some(digits_end);
    }
    let has_dot = text.get(digits_end) == Some(&b'.');
    let end = run_end(text, digits_end + 1, u8::is_ascii_digit);
    (has_dot && !goes_on(end)).then_some(end)
}

/// Behind the quote that ends what began before `from`; a doubled one does not end it.
fn quote_end(text: &[u8], from: usize, quote: u8, escapes: bool) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = text.get(at..)?;
        at += rest
            .iter()
            .position(|byte| *byte == quote || escapes && *byte == b'\\')?;
        if text.get(at) == Some(&quote) && text.get(at + 1) != Some(&quote) {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skeleton(text: &str, dialect: Dialect) -> Option<String> {
        let mut out = Vec::new();
        strip(text.as_bytes(), dialect, &mut out).then(|| {
            String::from_utf8_lossy(&out)
                .replace('\u{1}', "#")
                .replace('\u{2}', "$")
        })
    }

    #[test]
    fn literals_go_and_all_else_stays() {
        for (text, expected) in [
            (
                "SELECT a FROM t WHERE id = 12",
                "SELECT a FROM t WHERE id = #",
            ),
            ("SELECT 1.5, 2., -3", "SELECT #, #, -#"),
            ("SELECT 'it''s', \"b\\\"\", x'4d'", "SELECT $, $, x$"),
            (
                "SELECT t1.c2, `3``4` FROM 5t",
                "SELECT t1.c2, `3``4` FROM 5t",
            ),
            (
                "SELECT a.1, .5, 1e5, 0x1f, 1.5e3",
                "SELECT a.1, .5, 1e5, 0x1f, 1.5e3",
            ),
            ("SELECT @1, 2", "SELECT @1, #"),
            ("ORDER by 2, 12345 LIMIT 10", "ORDER by 2, # LIMIT 10"),
        ] {
            let found = skeleton(text, Dialect::default());
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_clear_at_a_glance_has_none() {
        for text in [
            "SELECT 1 -- a",
            "SELECT 1 # a",
            "SELECT /* a */ 1",
            "SELECT 'a",
            "SELECT `a",
            "SELECT @'a'",
            "SELECT \u{1}",
            "SELECT 1e+5",
            "SELECT 1e+5.5",
            "SELECT .5E-3",
            "SELECT 1.5e-3",
            "SELECT 1.e+5.5",
        ] {
            assert_eq!(skeleton(text, Dialect::default()), None, "{text}");
        }
        let ansi = Dialect {
            ansi_quotes: true,
            ..Dialect::default()
        };
        assert_eq!(skeleton("SELECT \"a\"", ansi), None);
        let plain = Dialect {
            no_backslash_escapes: true,
            ..Dialect::default()
        };
        let found = skeleton("SELECT 'a\\', 1", plain);
        assert_eq!(found.as_deref(), Some("SELECT $, #"));
    }
}

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

/// What a byte begins, or goes on with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A digit; part of a name, too, but for its first byte.
    Digit,
    /// Of a word or name.
    Name,
    /// A space, a comma, an operator: nothing begins there that is to be read.
    Plain,
    /// A quote, or what may begin a comment.
    Mark,
    /// A byte that no text with a skeleton holds.
    Unclear,
}

const KINDS: [Kind; 256] = kinds();

const fn kinds() -> [Kind; 256] {
    let mut kinds = [Kind::Unclear; 256];
    let (mut rest, mut byte) = (kinds.as_mut_slice(), 0u8);
    while let [kind, others @ ..] = rest {
        *kind = match byte {
            b'0'..=b'9' => Kind::Digit,
            _ if is_name(byte) => Kind::Name,
            b'\'' | b'"' | b'`' | b'#' | b'-' | b'/' => Kind::Mark,
            b'\t' | b'\n' | b'\r' | b' '.. => Kind::Plain,
            _ => Kind::Unclear,
        };
        (rest, byte) = (others, byte.wrapping_add(1));
    }
    kinds
}

fn kind(byte: u8) -> Kind {
    KINDS
        .get(usize::from(byte))
        .copied()
        .unwrap_or(Kind::Unclear)
}

fn is_of_name(byte: &u8) -> bool {
    matches!(kind(*byte), Kind::Digit | Kind::Name)
}

fn walk(text: &[u8], dialect: Dialect, out: &mut Vec<u8>) -> Option<()> {
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    let escapes = !dialect.no_backslash_escapes;
    // What lies before `copied` is in `out`; the rest is copied where a literal ends it.
    let (mut at, mut copied, mut before, mut by) = (0, 0, 0, false);
    while let Some(&first) = text.get(at) {
        let mut literal = None;
        let end = match kind(first) {
            Kind::Plain => run_end(text, at + 1, |b| kind(*b) == Kind::Plain),
            Kind::Name => {
                let end = run_end(text, at + 1, is_of_name);
                by |= end - at == 2
                    && first.eq_ignore_ascii_case(&b'B')
                    && byte(at + 1).eq_ignore_ascii_case(&b'Y');
                end
            }
            Kind::Digit => {
                let end = run_end(text, at + 1, u8::is_ascii_digit);
                let stays = matches!(before, b'.' | b'@') || by && end - at <= ORDINAL_DIGITS;
                match number_end(text, end) {
                    Some(end) if !stays => {
                        literal = Some(NUMBER);
                        end
                    }
                    _ => run_end(text, end, is_of_name),
                }
            }
            Kind::Mark => match first {
                b'`' => quote_end(text, at + 1, b'`', false)?,
                b'\'' | b'"' if before == b'@' || first == b'"' && dialect.ansi_quotes => {
                    return None;
                }
                b'\'' | b'"' => {
                    literal = Some(STRING);
                    quote_end(text, at + 1, first, escapes)?
                }
                b'-' if byte(at + 1) != b'-' => at + 1,
                b'/' if byte(at + 1) != b'*' => at + 1,
                _ => return None,
            },
            Kind::Unclear => return None,
        };
        // `1e` or the `e` of `1.e`: what follows the sign may be the exponent's digits, or a number.
        let last = byte(end - 1);
        if matches!(last, b'e' | b'E')
            && (first.is_ascii_digit() || before == b'.' && end - at == 1)
            && matches!(byte(end), b'+' | b'-')
        {
            return None;
        }
        if let Some(literal) = literal {
            copy(text, copied, at, out);
            out.push(literal);
            copied = end;
        }
        (before, at) = (last, end);
    }
    copy(text, copied, at, out);
    Some(())
}

fn copy(text: &[u8], from: usize, to: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(text.get(from..to).unwrap_or_default());
}

fn run_end(text: &[u8], from: usize, is: impl Fn(&u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !is(byte)).unwrap_or(rest.len())
}

/// Where a number ends whose first digits end here; `None` where it may be more than digits and one
/// dot, or no number at all.
fn number_end(text: &[u8], digits_end: usize) -> Option<usize> {
    let goes_on = |at: usize| text.get(at).is_some_and(|b| *b == b'.' || is_of_name(b));
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

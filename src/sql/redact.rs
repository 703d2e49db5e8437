//! Texts for the ledger, without the users' data.

use super::Dialect;
use super::lexer::{Kind, Lexer};

/// A statement with its literals as `?` and without its comments; its words and its layout stay.
#[must_use]
pub fn redact(text: &[u8], dialect: Dialect) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut end = 0;
    for token in Lexer::new(text, dialect) {
        let gap = text.get(end..token.start).unwrap_or_default();
        out.extend_from_slice(if gap.iter().all(u8::is_ascii_whitespace) {
            gap
        } else {
            b" "
        });
        let bytes = text.get(token.start..token.end).unwrap_or_default();
        match token.kind {
            Kind::Text | Kind::Number | Kind::Param => out.push(b'?'),
            Kind::Broken => out.extend_from_slice("…".as_bytes()),
            Kind::UserVariable if matches!(bytes.get(1), Some(b'\'' | b'"')) => {
                out.extend_from_slice(b"@?")
            }
            Kind::UserVariable
            | Kind::Word
            | Kind::Name
            | Kind::SystemVariable
            | Kind::Fold
            | Kind::Operator => out.extend_from_slice(bytes),
        }
        end = token.end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// At most so many texts of a statement are read from it.
const LITERALS_MAX: usize = 64;

/// The texts that stand in a statement as literals, without their quotes: the first 64 of them.
#[must_use]
pub fn literals(text: &[u8], dialect: Dialect) -> Vec<String> {
    Lexer::new(text, dialect)
        .filter(|token| token.kind == Kind::Text)
        .filter_map(|token| text.get(token.start..token.end))
        .map(|bytes| unquoted(bytes, dialect))
        .take(LITERALS_MAX)
        .collect()
}

/// A quoted text as the server reads it.
fn unquoted(bytes: &[u8], dialect: Dialect) -> String {
    let open = bytes.iter().position(|byte| matches!(byte, b'\'' | b'"'));
    let quote = open.and_then(|at| bytes.get(at)).copied().unwrap_or(b'\'');
    let inner = bytes.get(open.map_or(0, |at| at + 1)..bytes.len().saturating_sub(1));
    let mut inner = inner.unwrap_or_default().iter().copied();
    let mut out = Vec::new();
    while let Some(byte) = inner.next() {
        match byte {
            b'\\' if !dialect.no_backslash_escapes => match inner.next() {
                Some(b'n') => out.push(b'\n'),
                Some(b't') => out.push(b'\t'),
                Some(b'r') => out.push(b'\r'),
                Some(b'0') => out.push(0),
                Some(other) => out.push(other),
                None => {}
            },
            _ if byte == quote => out.extend(inner.next()),
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where vtgate and its tablets begin to repeat the statement and its values.
const TAILS: &[&str] = &[
    "(CallerID",
    "CallerID:",
    "Sql:",
    "BindVars:",
    "bind vars",
    "bind variables",
    "bindVars",
    "Query:",
];

/// What stands before a quoted name, which says what is wrong and is no user's data.
const NAMES: &[&str] = &[
    "key",
    "column",
    "columns",
    "table",
    "database",
    "keyspace",
    "field",
    "function",
    "procedure",
    "view",
    "index",
    "constraint",
    "in",
    "variable",
    "engine",
    "collation",
    "savepoint",
    "trigger",
    "partition",
];

/// What may follow a quoted value in the servers' messages.
const AFTER_VALUE: &[&str] = &[
    "' for key '",
    "' for column '",
    "' for column `",
    "' in 'field list'",
    "' in 'where clause'",
    "' at row ",
    "' at line ",
    "' for function ",
    "' can't be ",
    "' (errno ",
    "' doesn't exist",
    "' doesn''t exist",
];

/// What a value stands behind and where its template goes on: such a value may hold any text, and
/// with it what would end another one.
const AROUND_VALUE: &[(&str, &str)] = &[
    ("Duplicate entry ", "' for key '"),
    ("near ", "' at line "),
    ("value: ", "' for column "),
];

/// An error's text without quoted values and numbers, and without what vtgate appends of the
/// statement. Names of tables, columns and keys stay.
#[must_use]
pub fn redact_error(text: &str) -> String {
    let cut = TAILS
        .iter()
        .filter_map(|tail| text.find(tail))
        .min()
        .unwrap_or(text.len());
    let rest = text.get(..cut).unwrap_or_default().trim_end();
    let mut rest = rest.trim_end_matches([':', '(', ',']).trim_end();
    let mut out = String::with_capacity(rest.len());
    while let Some(open) = opening(rest) {
        let (before, from) = rest.split_at(open);
        number_free(before, &mut out);
        let (kept, after) = quoted(before, from);
        out.push_str(kept);
        rest = after;
    }
    number_free(rest, &mut out);
    out
}

/// The first quote; the apostrophe of `doesn't` is none.
fn opening(text: &str) -> Option<usize> {
    let is_quote = |at: &usize| {
        let contraction = text.get(..*at).is_some_and(|b| b.ends_with('n'))
            && text.get(*at..).is_some_and(|a| a.starts_with("'t "));
        !contraction
    };
    text.match_indices(['\'', '"'])
        .map(|(at, _)| at)
        .find(is_quote)
}

/// A quoted part that begins `text`: what is kept of it, and what comes after it.
fn quoted<'a>(before: &str, text: &'a str) -> (&'a str, &'a str) {
    let quote = text.get(..1).unwrap_or("'");
    let inner = text.get(1..).unwrap_or_default();
    if let Some(end) = inner.find(quote) {
        let name = inner.get(..end).unwrap_or_default();
        if is_named(before) && is_name(name) {
            return text.split_at(end + 2);
        }
    }
    // A value may hold quotes itself: it ends at the last place where it may.
    let last = |after: &str| text.rfind(after).filter(|at| *at > 0);
    let template = AROUND_VALUE
        .iter()
        .filter(|(begins, _)| before.ends_with(begins))
        .find_map(|(_, ends)| last(ends));
    let known = || AFTER_VALUE.iter().filter_map(|after| last(after)).min();
    let end = template
        .or_else(known)
        .or_else(|| text.rfind(quote).filter(|at| *at > 0))
        .map_or(text.len(), |at| at + 1);
    ("'?'", text.get(end..).unwrap_or_default())
}

fn is_named(before: &str) -> bool {
    let word = before
        .trim_end()
        .rsplit([' ', '('])
        .next()
        .unwrap_or_default();
    NAMES.iter().any(|name| name.eq_ignore_ascii_case(word))
}

fn is_name(name: &str) -> bool {
    let starts = name
        .chars()
        .next()
        .is_some_and(|c| c.is_alphabetic() || c == '_');
    starts
        && name.len() <= 128
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | ' ' | '-'))
}

/// Numbers that stand alone become `?`; those in a word (`VT12001`, `utf8mb4`) are part of it.
fn number_free(text: &str, out: &mut String) {
    let mut word = String::new();
    for c in text.chars().chain(std::iter::once(' ')) {
        if c.is_alphanumeric() || c == '_' || (c == '.' && !word.is_empty()) {
            word.push(c);
            continue;
        }
        flush(&word, out);
        word.clear();
        out.push(c);
    }
    out.pop();
}

/// A word goes part by part between its dots: `1.5` and `10.0.0.1` are one number.
fn flush(word: &str, out: &mut String) {
    let is_number = |part: &str| part.starts_with(|c: char| c.is_numeric());
    let mut numbers = false;
    for (at, part) in word.split('.').enumerate() {
        let number = is_number(part);
        if number && numbers {
            continue;
        }
        if at > 0 {
            out.push('.');
        }
        out.push_str(if number { "?" } else { part });
        numbers = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_a_statement_are_read_as_the_server_reads_them() {
        let plain = Dialect::default();
        let bare = Dialect {
            no_backslash_escapes: true,
            ..plain
        };
        for (text, dialect, wanted) in [
            (
                r#"a = 'it''s' AND b = "x\"y" AND c = 5"#,
                plain,
                &["it's", "x\"y"][..],
            ),
            (r"a = 'C:\' OR a = N'é'", bare, &[r"C:\", "é"]),
            (r"a = 'line\nend\\'", plain, &["line\nend\\"]),
            ("a = ''", plain, &[""]),
            ("a = 'open", plain, &[]),
        ] {
            assert_eq!(literals(text.as_bytes(), dialect), wanted, "{text}");
        }
    }
}

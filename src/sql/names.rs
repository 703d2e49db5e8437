//! Names and their quotes.

use std::borrow::Cow;

/// A name without its quotes; as it is where it has none.
pub(crate) fn unquote(name: &[u8]) -> Cow<'_, [u8]> {
    let Some((quote @ (b'`' | b'"' | b'\''), rest)) = name.split_first() else {
        return Cow::Borrowed(name);
    };
    let inner = rest.strip_suffix(&[*quote]).unwrap_or(rest);
    if !inner.contains(quote) {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut doubled = false;
    for byte in inner {
        doubled = byte == quote && !doubled;
        if !doubled {
            out.push(*byte);
        }
    }
    Cow::Owned(out)
}

/// A name in backticks.
pub(crate) fn quote(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    out.push(b'`');
    for byte in name {
        if *byte == b'`' {
            out.push(b'`');
        }
        out.push(*byte);
    }
    out.push(b'`');
    out
}

/// A name as text, without its quotes.
pub(crate) fn plain(name: &[u8]) -> String {
    String::from_utf8_lossy(&unquote(name)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_and_gain_their_quotes() {
        for (written, name, quoted) in [
            ("a", "a", "`a`"),
            ("`a``b`", "a`b", "`a``b`"),
            ("\"a\"\"b`\"", "a\"b`", "`a\"b```"),
        ] {
            assert_eq!(plain(written.as_bytes()), name);
            assert_eq!(quote(&unquote(written.as_bytes())), quoted.as_bytes());
        }
    }
}

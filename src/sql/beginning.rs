//! What can be read of a text whose end is missing.

use super::Dialect;
use super::lexer::Lexer;

/// A cut text without its last token, which may be half of one, and without the names before it
/// that end in its dot: what is left reads as it did in the whole.
#[must_use]
pub fn beginning(text: &[u8], dialect: Dialect) -> &[u8] {
    let mut end = 0;
    let mut after_dot = false;
    for token in Lexer::new(text, dialect) {
        let dot = text.get(token.start..token.end) == Some(b".");
        if !dot && !after_dot {
            end = token.start;
        }
        after_dot = dot;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_is_left_out_with_the_names_that_it_ends() {
        for (cut, kept) in [
            ("INSERT INTO t VALUES ('abc", "INSERT INTO t VALUES ("),
            ("INSERT INTO t VALUES (1, 2", "INSERT INTO t VALUES (1, "),
            ("INSERT INTO us", "INSERT INTO "),
            ("INSERT INTO app.us", "INSERT INTO "),
            ("INSERT INTO app.", "INSERT INTO "),
            ("SELECT a /* and so", "SELECT a "),
            ("", ""),
        ] {
            let found = beginning(cut.as_bytes(), Dialect::default());
            assert_eq!(std::str::from_utf8(found), Ok(kept), "{cut}");
        }
    }
}

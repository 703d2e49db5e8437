//! A statement's parameters: where they stand, and their values put in their places.

use super::Dialect;
use super::lexer::{Kind, Lexer};

/// The pieces of a text before, between and behind its `?`: one more than it has of them.
#[must_use]
pub fn between_parameters(text: &str, dialect: Dialect) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut end = 0;
    for token in Lexer::new(text.as_bytes(), dialect) {
        if token.kind == Kind::Param {
            pieces.push(text.get(end..token.start).unwrap_or_default());
            end = token.end;
        }
    }
    pieces.push(text.get(end..).unwrap_or_default());
    pieces
}

/// The text with these literals in the places of its `?`; `None` where there are more or fewer.
#[must_use]
pub fn with_parameters(text: &str, dialect: Dialect, literals: &[String]) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut literals = literals.iter();
    for (at, piece) in between_parameters(text, dialect).into_iter().enumerate() {
        if at > 0 {
            out.push_str(literals.next()?);
        }
        out.push_str(piece);
    }
    literals.next().is_none().then_some(out)
}

/// A text as a literal: no byte of it can end it, whatever the dialect makes of a backslash.
#[must_use]
pub fn quoted(text: &str, dialect: Dialect) -> String {
    let doubled = text.replace('\'', "''");
    if dialect.no_backslash_escapes {
        format!("'{doubled}'")
    } else {
        format!("'{}'", doubled.replace('\\', "\\\\"))
    }
}

/// Whether a SELECT stands within the statement, or several are joined: a derived table, a
/// subquery, a UNION.
#[must_use]
pub fn nests(text: &str, dialect: Dialect) -> bool {
    let selects = Lexer::new(text.as_bytes(), dialect).filter(|token| {
        let word = text.get(token.start..token.end).unwrap_or_default();
        token.kind == Kind::Word && word.eq_ignore_ascii_case("SELECT")
    });
    let begins = text.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    let begins = begins
        .get(..6)
        .is_some_and(|word| word.eq_ignore_ascii_case("SELECT"));
    selects.count() > usize::from(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Dialect = Dialect {
        ansi_quotes: false,
        no_backslash_escapes: false,
    };

    #[test]
    fn a_question_mark_in_a_text_or_a_name_is_no_parameter() {
        let text = "SELECT '?' FROM `a?` WHERE a = ? /* ? */ AND b IN (?, ?)";
        let values = ["1", "'x'", "NULL"].map(str::to_owned);
        let filled = with_parameters(text, PLAIN, &values).unwrap();
        let wanted = "SELECT '?' FROM `a?` WHERE a = 1 /* ? */ AND b IN ('x', NULL)";
        assert_eq!(filled, wanted);
        assert_eq!(with_parameters(text, PLAIN, &values[..2]), None);
        assert_eq!(with_parameters("SELECT 1", PLAIN, &values), None);
    }

    #[test]
    fn no_text_ends_its_own_literal() {
        let bare = Dialect {
            no_backslash_escapes: true,
            ..PLAIN
        };
        for dialect in [PLAIN, bare] {
            for text in ["it's", r"\", r"\' OR 1 = 1 -- ", "''", "é\n?"] {
                let statement = format!("SELECT {}", quoted(text, dialect));
                let read = crate::sql::literals(statement.as_bytes(), dialect);
                assert_eq!(read, [text], "{statement}");
                let tokens = Lexer::new(statement.as_bytes(), dialect).count();
                assert_eq!(tokens, 2, "{statement}");
            }
        }
    }

    #[test]
    fn what_nests_is_told() {
        for (text, told) in [
            ("SELECT a FROM t WHERE b = 'select'", false),
            ("(select 1)", false),
            ("SELECT a FROM (SELECT 1) d", true),
            ("DELETE FROM t WHERE a IN (SELECT 1)", true),
            ("UPDATE t SET a = 1", false),
            ("SELECT 1 UNION SELECT 2", true),
        ] {
            assert_eq!(nests(text, PLAIN), told, "{text}");
        }
    }
}

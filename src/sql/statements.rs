//! One text, several statements: split at `;`, by token.

use super::lexer::{Kind, Token};
use super::words::RESERVED;

/// A statement's tokens, in the text that they point into. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) tokens: &'a [Token],
}

impl<'a> Statement<'a> {
    /// The bytes of a token; none beyond the end.
    pub(crate) fn bytes(self, at: usize) -> &'a [u8] {
        self.tokens
            .get(at)
            .and_then(|t| self.text.get(t.start..t.end))
            .unwrap_or_default()
    }

    pub(crate) fn kind(self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|t| t.kind)
    }

    /// Whether a token is this word, unquoted.
    pub(crate) fn is(self, at: usize, word: &str) -> bool {
        self.kind(at) == Some(Kind::Word) && self.bytes(at).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether these words begin at a token.
    pub(crate) fn are(self, at: usize, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(n, word)| self.is(at + n, word))
    }

    /// Whether a token is one of these words.
    pub(crate) fn is_any(self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    /// Whether a token is this operator.
    pub(crate) fn op(self, at: usize, operator: &[u8]) -> bool {
        matches!(self.kind(at), Some(Kind::Operator | Kind::Fold)) && self.bytes(at) == operator
    }

    /// Whether a token may be a name: quoted, or a word that is not reserved.
    pub(crate) fn is_name(self, at: usize) -> bool {
        match self.kind(at) {
            Some(Kind::Name) => true,
            Some(Kind::Word) => !RESERVED.has(self.bytes(at)) || (at > 0 && self.op(at - 1, b".")),
            _ => false,
        }
    }

    pub(crate) fn len(self) -> usize {
        self.tokens.len()
    }

    /// The first token at or after `from`, outside parentheses opened after it, that `found` likes.
    pub(crate) fn find(self, from: usize, found: impl Fn(usize) -> bool) -> Option<usize> {
        let mut depth = 0_usize;
        for at in from..self.len() {
            if self.op(at, b"(") {
                depth += 1;
            } else if self.op(at, b")") {
                depth = depth.saturating_sub(1);
            } else if depth == 0 && found(at) {
                return Some(at);
            }
        }
        None
    }

    /// The token of the `)` that closes the `(` at `open`; the end where there is none.
    pub(crate) fn closing(self, open: usize) -> usize {
        let mut depth = 0_usize;
        for at in open..self.len() {
            if self.op(at, b"(") {
                depth += 1;
            } else if self.op(at, b")") {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
        }
        self.len()
    }

    /// These tokens as a statement of their own.
    pub(crate) fn slice(self, from: usize, to: usize) -> Self {
        Self {
            text: self.text,
            tokens: self.tokens.get(from..to.max(from)).unwrap_or_default(),
        }
    }
}

/// The statements of a text, at least one; empty ones where two `;` have nothing between them or
/// only a comment. What stands after the last `;` counts even if it is empty.
pub(crate) fn split<'a>(text: &'a [u8], tokens: &'a [Token]) -> Vec<Statement<'a>> {
    let whole = Statement { text, tokens };
    let mut statements = Vec::new();
    let mut from = 0;
    loop {
        let rest = whole.slice(from, whole.len());
        let length = if has_body(rest) {
            rest.len()
        } else {
            (0..rest.len())
                .find(|at| rest.op(*at, b";"))
                .unwrap_or(rest.len())
        };
        statements.push(rest.slice(0, length));
        from += length + 1;
        if from > whole.len() {
            return statements;
        }
    }
}

/// A stored program's body holds semicolons of its own: the rest of the text is taken for it.
fn has_body(statement: Statement<'_>) -> bool {
    if statement.are(0, &["BEGIN", "NOT"]) {
        return true;
    }
    if !statement.is_any(0, &["CREATE", "ALTER"]) {
        return false;
    }
    (1..statement.len().min(16))
        .take_while(|at| {
            !statement.op(*at, b";")
                && !statement.op(*at, b"(")
                && !statement.is_any(*at, &["TABLE", "VIEW", "INDEX", "DATABASE", "SCHEMA"])
        })
        .any(|at| {
            statement.is_any(
                at,
                &["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"],
            )
        })
}

//! Database names, where the two servers call them differently: mapped in a text by token.
//!
//! Only tokens that name a database are touched, everything else stays byte for byte. Where it
//! cannot be told whether a database is meant, there is no answer, and the statement is *not
//! compared: database* rather than run against the wrong one.

use super::Dialect;
use super::classify::read;
use super::lexer::{Kind, Lexer, Token};
use super::names::{plain, quote};
use super::statements::{Statement, split};
use std::collections::BTreeMap;

/// The text with every database's name replaced as `names` says; `None` where that cannot be told.
#[must_use]
pub fn map_databases(
    text: &[u8],
    dialect: Dialect,
    names: &BTreeMap<String, String>,
) -> Option<Vec<u8>> {
    let tokens: Vec<Token> = Lexer::new(text, dialect).collect();
    let mut edits: Vec<(Token, Vec<u8>)> = Vec::new();
    for statement in split(text, &tokens) {
        let reading = read(statement);
        if in_literal(statement, names) {
            return None;
        }
        for at in reading.databases {
            match mapped(&plain(statement.bytes(at)), names) {
                Mapped::Same => {}
                Mapped::To(name) => {
                    edits.push((*statement.tokens.get(at)?, quote(name.as_bytes())))
                }
                Mapped::Unsure => return None,
            }
        }
    }
    edits.sort_by_key(|(token, _)| token.start);
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut end = 0;
    for (token, name) in edits {
        if token.start < end {
            continue;
        }
        out.extend_from_slice(text.get(end..token.start)?);
        out.extend_from_slice(&in_quotes_of(text.get(token.start)?, name, dialect));
        end = token.end;
    }
    out.extend_from_slice(text.get(end..)?);
    Some(out)
}

enum Mapped<'a> {
    Same,
    To(&'a str),
    /// The same name but for its case: some servers tell them apart, some do not.
    Unsure,
}

fn mapped<'a>(name: &str, names: &'a BTreeMap<String, String>) -> Mapped<'a> {
    if let Some(to) = names.get(name) {
        return if to == name {
            Mapped::Same
        } else {
            Mapped::To(to)
        };
    }
    let alike = names.keys().any(|known| known.eq_ignore_ascii_case(name));
    if alike { Mapped::Unsure } else { Mapped::Same }
}

/// Backticks are right in every mode; they are left out where the client had none and the name
/// needs none.
fn in_quotes_of(first: &u8, quoted: Vec<u8>, _dialect: Dialect) -> Vec<u8> {
    let inner = quoted
        .get(1..quoted.len().saturating_sub(1))
        .unwrap_or_default();
    let simple = inner.iter().all(|b| super::lexer::is_name(*b))
        && !inner.first().is_none_or(u8::is_ascii_digit);
    let free = simple && !super::words::RESERVED.has(inner);
    if free && !matches!(first, b'`' | b'"') {
        inner.to_vec()
    } else {
        quoted
    }
}

/// A query of information_schema may hold a database's name as a string.
fn in_literal(statement: Statement<'_>, names: &BTreeMap<String, String>) -> bool {
    let about = (0..statement.len()).any(|at| {
        let name = statement.bytes(at);
        [
            b"information_schema".as_slice(),
            b"performance_schema",
            b"SHOW",
            b"TABLE_SCHEMA",
            b"SCHEMA_NAME",
        ]
        .iter()
        .any(|n| n.eq_ignore_ascii_case(&super::names::unquote(name)))
    });
    about
        && statement.tokens.iter().any(|t| {
            let bytes = statement.text.get(t.start..t.end).unwrap_or_default();
            t.kind == Kind::Text
                && names
                    .keys()
                    .any(|name| name.eq_ignore_ascii_case(&plain(bytes)))
        })
}

//! A text's analysis, read from its fingerprint.
//!
//! Two texts with one fingerprint get one analysis by construction, whatever their literals. Only
//! what a SET changes is read from the text itself.

use super::classify::{Reading, read};
use super::fingerprint::Fingerprinter;
use super::lexer::{Lexer, Token};
use super::order::{has_limit, has_limit_inside, order_by, takes_any_rows};
use super::statements::{Statement as Tokens, split};
use super::{Analysis, Change, Class, Dialect, Statement, session, ties};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// A fingerprint is kept up to this length; its digest is always of the whole.
pub(crate) const FINGERPRINT_BYTES_MAX: usize = 16 << 10;

/// Analyses a text. The [`super::Catalog`] does the same, and remembers.
#[must_use]
pub fn analyze(text: &[u8], dialect: Dialect) -> Analysis {
    let mut fingerprinter = Fingerprinter::default();
    let fingerprint = String::from_utf8_lossy(fingerprinter.run(text, dialect));
    let mut analysis = of_fingerprint(&fingerprint);
    fill_changes(&mut analysis, text, dialect);
    analysis
}

/// All of an analysis but the changes that its SETs make.
pub(crate) fn of_fingerprint(fingerprint: &str) -> Analysis {
    let text = fingerprint.as_bytes();
    let tokens: Vec<Token> = Lexer::new(text, Dialect::default()).collect();
    let statements: Vec<Statement> = split(text, &tokens)
        .into_iter()
        .map(|tokens| statement(fingerprint, tokens))
        .collect();
    let class = statements
        .iter()
        .map(|s| s.class)
        .max()
        .unwrap_or(Class::Empty);
    Analysis {
        statements,
        class,
        fingerprint: cut(fingerprint),
        digest: xxh3_64(text),
    }
}

/// Whether the analysis holds what each text must be asked for anew.
pub(crate) fn has_literal_changes(analysis: &Analysis) -> bool {
    analysis.statements.iter().any(is_set)
}

/// Reads what the SETs of this very text change.
pub(crate) fn fill_changes(analysis: &mut Analysis, text: &[u8], dialect: Dialect) {
    for (nth, statement) in analysis.statements.iter_mut().enumerate() {
        if is_set(statement) {
            statement.changes = session::changes(text, dialect, nth);
        }
    }
}

fn is_set(statement: &Statement) -> bool {
    statement.class == Class::Session && statement.fingerprint.starts_with("SET ")
}

fn statement(fingerprint: &str, tokens: Tokens<'_>) -> Statement {
    let Reading {
        class,
        control,
        tables,
        written,
        changes,
        sets,
        databases,
        calls,
    } = read(tokens);
    let text = span(fingerprint, tokens);
    let rows = matches!(
        class,
        Class::Read | Class::LockingRead | Class::Metadata | Class::Session
    );
    let mut nondeterministic = calls.nondeterministic;
    if class == Class::Write && takes_any_rows(tokens) {
        nondeterministic.push(super::ANY_ROWS);
    }
    let leaves = ties::of_statement(tokens);
    Statement {
        ties: leaves.is_some_and(|ties| !ties.is_empty() || changes.contains(&Change::Unknown)),
        stored: calls.unknown && class != Class::Ddl,
        fingerprint: cut(text),
        digest: xxh3_64(text.as_bytes()),
        class,
        tables,
        written,
        control,
        changes: if sets { vec![Change::Unknown] } else { changes },
        order_by: if rows { order_by(tokens) } else { None },
        limit: has_limit(tokens),
        limit_inside: has_limit_inside(tokens),
        nondeterministic,
        clock: calls.clock,
        sets_last_insert_id: calls.sets_last_insert_id,
        insert: tokens.is_any(0, &["INSERT", "REPLACE"]),
        qualified: !databases.is_empty(),
    }
}

/// The statement's own part of the fingerprint.
fn span<'a>(fingerprint: &'a str, tokens: Tokens<'_>) -> &'a str {
    match (tokens.tokens.first(), tokens.tokens.last()) {
        (Some(first), Some(last)) => fingerprint.get(first.start..last.end).unwrap_or_default(),
        _ => "",
    }
}

/// A fingerprint as it is kept.
fn cut(fingerprint: &str) -> Arc<str> {
    if fingerprint.len() <= FINGERPRINT_BYTES_MAX {
        return Arc::from(fingerprint);
    }
    let end = fingerprint.floor_char_boundary(FINGERPRINT_BYTES_MAX);
    let head = fingerprint.get(..end).unwrap_or_default();
    Arc::from(format!("{head} …"))
}

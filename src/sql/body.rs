//! The tables that a stored program's body names, found without taking it apart: it branches, and
//! declares names of its own.

use super::lexer::{Lexer, Token};
use super::names::plain;
use super::statements::Statement;
use super::{Dialect, Table};

/// Words between the one that announces a table and its name.
const BETWEEN: &[&str] = &[
    "LOW_PRIORITY",
    "DELAYED",
    "HIGH_PRIORITY",
    "IGNORE",
    "QUICK",
    "INTO",
    "LATERAL",
];

/// The tables that are named behind INTO, UPDATE, FROM and JOIN, and at times the name of something
/// else: it may be more, not less. `None` where other programs or texts are run.
#[must_use]
pub fn tables_of_body(body: &str) -> Option<Vec<Table>> {
    let all: Vec<Token> = Lexer::new(body.as_bytes(), Dialect::default()).collect();
    let tokens = Statement {
        text: body.as_bytes(),
        tokens: &all,
    };
    let mut tables = Vec::new();
    for at in 0..tokens.len() {
        if tokens.is_any(at, &["CALL", "EXECUTE", "PREPARE"]) {
            return None;
        }
        let announces = tokens.is_any(
            at,
            &[
                "INTO",
                "UPDATE",
                "FROM",
                "JOIN",
                "STRAIGHT_JOIN",
                "INSERT",
                "REPLACE",
                "DELETE",
            ],
        );
        let locks_or_keys = at
            .checked_sub(1)
            .is_some_and(|before| tokens.is_any(before, &["FOR", "KEY"]));
        if announces && !(tokens.is(at, "UPDATE") && locks_or_keys) {
            list(tokens, at + 1, &mut tables);
        }
    }
    Some(tables)
}

/// Names with commas between them, each with or without an alias.
fn list(tokens: Statement<'_>, from: usize, tables: &mut Vec<Table>) {
    let mut at = from;
    loop {
        while tokens.is_any(at, BETWEEN) || tokens.op(at, b"(") {
            at += 1;
        }
        if !tokens.is_name(at) {
            return;
        }
        let first = plain(tokens.bytes(at));
        at += 1;
        let (database, name) = if tokens.op(at, b".") && tokens.is_name(at + 1) {
            at += 2;
            (Some(first), plain(tokens.bytes(at - 1)))
        } else {
            (None, first)
        };
        tables.push(Table { database, name });
        if tokens.is(at, "AS") {
            at += 1;
        }
        if tokens.is_name(at) {
            at += 1;
        }
        if !tokens.op(at, b",") {
            return;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_branches_still_names_its_tables() {
        let body = "BEGIN DECLARE n INT DEFAULT 0; \
            SELECT COUNT(*) INTO n FROM a AS x, app.b WHERE x.k = 'FROM c' FOR UPDATE; \
            IF n > 0 THEN INSERT IGNORE d VALUES (NEW.id) ON DUPLICATE KEY UPDATE k = 1; \
            ELSE UPDATE `e` JOIN (f) SET g = 1; END IF; DELETE FROM h; END";
        let mut names: Vec<String> = tables_of_body(body)
            .unwrap()
            .into_iter()
            .map(|table| table.name)
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names, ["a", "b", "d", "e", "f", "h", "n"]);
        assert_eq!(
            tables_of_body("BEGIN IF 1 THEN CALL p(); END IF; END"),
            None
        );
    }
}

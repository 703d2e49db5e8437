//! SET: what it changes, assignment by assignment.

use super::functions::calls;
use super::lexer::{self, Lexer};
use super::names::unquote;
use super::statements::{Statement, split};
use super::{Change, Dialect, dialect_of};

/// What a SET reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The session's variables.
    Session,
    /// `SET TRANSACTION`: the next transaction alone.
    Transaction,
    /// The server's variables.
    Global,
    /// The server's and the session's.
    Mixed,
    /// Passwords, roles, `SET STATEMENT`: none of ours.
    Other,
}

/// Reads what a SET reaches. Where a scope is named once, it depends on the server whether it goes
/// for the assignments behind it too.
pub(crate) fn kind(statement: Statement<'_>) -> Kind {
    if statement.is(1, "TRANSACTION") {
        return Kind::Transaction;
    }
    let account = statement.is_any(1, &["PASSWORD", "ROLE", "STATEMENT", "RESOURCE"])
        || statement.are(1, &["DEFAULT", "ROLE"]);
    if statement.len() < 2 || account {
        return Kind::Other;
    }
    let reached = assignments(statement).map(|(from, to)| reach(statement.slice(from, to)));
    let reached = reached.reduce(|all, one| match (all, one) {
        (Kind::Other, _) | (_, Kind::Other) => Kind::Other,
        (one, other) if one == other => one,
        (Kind::Global | Kind::Mixed, _) | (_, Kind::Global | Kind::Mixed) => Kind::Mixed,
        _ => Kind::Session,
    });
    reached.unwrap_or(Kind::Other)
}

fn reach(assignment: Statement<'_>) -> Kind {
    let names_scope = !is_assign(assignment, 1) && !assignment.op(1, b".");
    let global = ["GLOBAL", "PERSIST", "PERSIST_ONLY"];
    if (names_scope && assignment.is_any(0, &global))
        || ["@@GLOBAL", "@@PERSIST", "@@PERSIST_ONLY"]
            .iter()
            .any(|g| g.as_bytes().eq_ignore_ascii_case(assignment.bytes(0)))
    {
        return Kind::Global;
    }
    if assignment.is(0, "PASSWORD") || name(assignment).is_none() {
        Kind::Other
    } else if is_for_one_transaction(assignment) {
        Kind::Transaction
    } else {
        Kind::Session
    }
}

/// `SET @@transaction_isolation = …` without a scope is for the next transaction alone, which the
/// same without `@@` is not.
///
/// <https://dev.mysql.com/doc/refman/8.4/en/set-transaction.html>
fn is_for_one_transaction(assignment: Statement<'_>) -> bool {
    let level = ["transaction_isolation", "transaction_read_only"];
    assignment.kind(0) == Some(lexer::Kind::SystemVariable)
        && is_assign(assignment, 1)
        && name(assignment).is_some_and(|(name, _)| level.contains(&name.as_str()))
}

/// The changes of the n-th statement of a text, a SET of kind [`Kind::Session`].
pub(crate) fn changes(text: &[u8], dialect: Dialect, nth: usize) -> Vec<Change> {
    let tokens: Vec<lexer::Token> = Lexer::new(text, dialect).collect();
    let Some(statement) = split(text, &tokens).get(nth).copied() else {
        return vec![Change::Unknown];
    };
    assignments(statement)
        .map(|(from, to)| statement.slice(from, to))
        .filter(|assignment| !is_for_one_transaction(*assignment))
        .map(change)
        .collect()
}

/// The tokens that are the user variables which a SET itself assigns.
pub(crate) fn assigned(statement: Statement<'_>) -> Vec<usize> {
    assignments(statement).map(|(from, _)| from).collect()
}

/// From and to of each assignment behind SET.
fn assignments(statement: Statement<'_>) -> impl Iterator<Item = (usize, usize)> {
    let mut from = 1;
    std::iter::from_fn(move || {
        if from > statement.len() || statement.len() < 2 {
            return None;
        }
        let to = statement
            .find(from, |at| statement.op(at, b","))
            .unwrap_or(statement.len());
        let found = (from, to);
        from = to + 1;
        Some(found)
    })
}

fn change(assignment: Statement<'_>) -> Change {
    let Some((name, value)) = name(assignment) else {
        return Change::Unknown;
    };
    match source(assignment) {
        Some(text) if can_be_run_again(assignment.slice(value, assignment.len())) => {
            Change::Variable {
                name,
                assignment: text,
            }
        }
        _ => Change::Value(name),
    }
}

fn is_assign(assignment: Statement<'_>, at: usize) -> bool {
    assignment.op(at, b"=") || assignment.op(at, b":=")
}

/// The variable's name, and where its value begins.
fn name(assignment: Statement<'_>) -> Option<(String, usize)> {
    let scoped = assignment.is_any(0, &["SESSION", "LOCAL"]) && !is_assign(assignment, 1);
    let at = usize::from(scoped);
    if scoped && assignment.is(at, "TRANSACTION") || assignment.is_any(0, &["ISOLATION", "READ"]) {
        return Some((transaction(assignment), assignment.len()));
    }
    if assignment.is(at, "NAMES")
        || assignment.are(at, &["CHARACTER", "SET"])
        || assignment.is(at, "CHARSET")
    {
        return Some(("names".to_owned(), at + 1));
    }
    let first = assignment.bytes(at);
    match assignment.kind(at)? {
        lexer::Kind::UserVariable => {
            let name = unquote(first.get(1..)?);
            variable(assignment, at + 1, format!("@{}", lower(&name)))
        }
        lexer::Kind::SystemVariable => {
            let scope = ["@@SESSION", "@@LOCAL"]
                .iter()
                .any(|s| s.as_bytes().eq_ignore_ascii_case(first));
            if scope {
                system(assignment, at + 2)
            } else {
                variable(
                    assignment,
                    at + 1,
                    canonical(&lower(&unquote(first.get(2..)?))),
                )
            }
        }
        lexer::Kind::Word | lexer::Kind::Name => system(assignment, at),
        // `@'quoted'` of a fingerprint: the name itself is read from the text.
        lexer::Kind::Operator if assignment.op(at, b"@") => {
            variable(assignment, at + 2, "@".to_owned())
        }
        _ => None,
    }
}

/// `name = …` or `structured.name = …`.
fn system(assignment: Statement<'_>, at: usize) -> Option<(String, usize)> {
    let first = lower(&unquote(assignment.bytes(at)));
    if assignment.op(at + 1, b".") {
        let second = lower(&unquote(assignment.bytes(at + 2)));
        return variable(assignment, at + 3, format!("{first}.{second}"));
    }
    variable(assignment, at + 1, canonical(&first))
}

fn variable(assignment: Statement<'_>, at: usize, name: String) -> Option<(String, usize)> {
    (is_assign(assignment, at) && at + 1 < assignment.len()).then_some((name, at + 1))
}

/// `SESSION TRANSACTION ISOLATION LEVEL …` and `READ ONLY` set two variables; either may stand
/// behind the comma.
fn transaction(assignment: Statement<'_>) -> String {
    let isolation = (0..assignment.len()).any(|at| assignment.is(at, "ISOLATION"));
    if isolation {
        "transaction_isolation".to_owned()
    } else {
        "transaction_read_only".to_owned()
    }
}

/// One name for what has two.
fn canonical(name: &str) -> String {
    match name {
        "tx_isolation" => "transaction_isolation".to_owned(),
        "tx_read_only" => "transaction_read_only".to_owned(),
        _ => name.to_owned(),
    }
}

fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_lowercase()
}

/// The assignment as the client wrote it, ready to run after `SET `.
fn source(assignment: Statement<'_>) -> Option<String> {
    let mut out = Vec::new();
    let mut end = None;
    for (at, token) in assignment.tokens.iter().enumerate() {
        if let Some(end) = end {
            let gap = assignment.text.get(end..token.start)?;
            out.extend_from_slice(if gap.iter().all(u8::is_ascii_whitespace) {
                gap
            } else {
                b" "
            });
        }
        out.extend_from_slice(assignment.bytes(at));
        end = Some(token.end);
    }
    let text = String::from_utf8(out).ok()?;
    // Behind the comma of SET SESSION TRANSACTION the words have lost what they belong to.
    let orphan = assignment.is(0, "ISOLATION")
        || (assignment.is(0, "READ") && assignment.is_any(1, &["ONLY", "WRITE"]));
    Some(if orphan {
        format!("SESSION TRANSACTION {text}")
    } else {
        text
    })
}

/// Whether the value comes out the same when it is run again elsewhere, given that the variables
/// which it reads are as they were.
fn can_be_run_again(value: Statement<'_>) -> bool {
    let opaque = (0..value.len()).any(|at| match value.kind(at) {
        Some(lexer::Kind::Param | lexer::Kind::Broken | lexer::Kind::Fold) | None => true,
        _ => value.is(at, "SELECT"),
    });
    let calls = calls(value, &[]);
    !opaque
        && calls.nondeterministic.is_empty()
        && !calls.clock
        && !calls.never_twice
        && !calls.unknown
        && !calls.assigns
}

/// Whether a text names a user variable.
#[must_use]
pub fn names_variable(text: &[u8], dialect: Dialect) -> bool {
    Lexer::new(text, dialect)
        .any(|token| matches!(token.kind, lexer::Kind::UserVariable | lexer::Kind::Broken))
}

/// The user variables that a text names, in lower case with their `@`.
#[must_use]
pub fn names_of_variables(text: &[u8], dialect: Dialect) -> Vec<String> {
    let mut lexer = Lexer::new(text, dialect);
    let mut names = Vec::new();
    while let Some(token) = lexer.next() {
        if token.kind == lexer::Kind::UserVariable {
            let name = lexer.text(token).get(1..).unwrap_or_default();
            names.push(format!("@{}", lower(&unquote(name))));
        }
    }
    names
}

/// Whether the right side of `name = …` reads a variable, whatever the session's dialect is.
#[must_use]
pub fn reads_variables(assignment: &str) -> bool {
    [false, true].into_iter().any(|no_backslash_escapes| {
        let dialect = Dialect {
            no_backslash_escapes,
            ..Dialect::default()
        };
        let tokens: Vec<lexer::Token> = Lexer::new(assignment.as_bytes(), dialect).collect();
        let assignment = Statement {
            text: assignment.as_bytes(),
            tokens: &tokens,
        };
        let value = value(assignment);
        (0..value.len()).any(|at| {
            matches!(
                value.kind(at),
                Some(lexer::Kind::UserVariable | lexer::Kind::SystemVariable | lexer::Kind::Broken)
            ) || value.op(at, b"@")
        })
    })
}

/// The dialect that an assignment to `sql_mode` leaves. Where the new mode is no list of words,
/// nor one added to the old, `"` quotes a text: what is taken for a text is kept from the ledger.
#[must_use]
pub fn dialect_after(before: Dialect, assignment: &str) -> Dialect {
    let tokens: Vec<lexer::Token> = Lexer::new(assignment.as_bytes(), Dialect::default()).collect();
    let value = value(Statement {
        text: assignment.as_bytes(),
        tokens: &tokens,
    });
    let mut after = Dialect::default();
    for at in 0..value.len() {
        match value.kind(at) {
            Some(lexer::Kind::Text | lexer::Kind::Name) => add(&mut after, value.bytes(at)),
            Some(lexer::Kind::Word) if value.len() == 1 => add(&mut after, value.bytes(at)),
            Some(lexer::Kind::SystemVariable) if is_own(value.bytes(at)) => {
                after = join(after, before);
            }
            Some(lexer::Kind::Word) if value.is_any(at, &["CONCAT", "CONCAT_WS", "SQL_MODE"]) => {}
            Some(lexer::Kind::Operator) => {}
            _ => return Dialect::default(),
        }
    }
    after
}

/// Whether a `@@variable` is the session's mode, or the scope before it.
fn is_own(variable: &[u8]) -> bool {
    [b"@@sql_mode".as_slice(), b"@@session", b"@@local"]
        .iter()
        .any(|own| own.eq_ignore_ascii_case(variable))
}

fn add(dialect: &mut Dialect, words: &[u8]) {
    let words = String::from_utf8_lossy(words);
    let words = words.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', ",");
    *dialect = join(*dialect, dialect_of(&words));
}

const fn join(one: Dialect, other: Dialect) -> Dialect {
    Dialect {
        ansi_quotes: one.ansi_quotes || other.ansi_quotes,
        no_backslash_escapes: one.no_backslash_escapes || other.no_backslash_escapes,
    }
}

/// The right side of `name = …`.
fn value(assignment: Statement<'_>) -> Statement<'_> {
    let from = (0..assignment.len())
        .find(|at| is_assign(assignment, *at))
        .map_or(assignment.len(), |at| at + 1);
    assignment.slice(from, assignment.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_read_where_it_is_no_part_of_a_text() {
        for (assignment, reads) in [
            ("@a = @b", true),
            ("@a := CONCAT(@@sql_mode, ',ANSI')", true),
            ("@a = CONCAT('\\', @b, '')", true),
            ("@`a@b` = 1", false),
            ("@user = 'a@b.c'", false),
            ("NAMES utf8", false),
        ] {
            assert_eq!(reads_variables(assignment), reads, "{assignment}");
        }
    }

    #[test]
    fn a_mode_is_what_its_words_say_and_nothing_where_they_do_not() {
        let ansi = Dialect {
            ansi_quotes: true,
            ..Dialect::default()
        };
        for (assignment, after_ansi) in [
            ("sql_mode = 'NO_ZERO_DATE,ANSI_QUOTES'", true),
            ("sql_mode = ANSI", true),
            (
                "sql_mode = CONCAT(@@session.sql_mode, ',NO_ZERO_DATE')",
                true,
            ),
            ("sql_mode = CONCAT(@@sql_mode, ',ANSI')", true),
            ("sql_mode = ''", false),
            ("sql_mode = DEFAULT", false),
            ("sql_mode = @@global.sql_mode", false),
            ("sql_mode = REPLACE(@@sql_mode, 'ANSI_QUOTES', '')", false),
            ("sql_mode = @old", false),
        ] {
            assert_eq!(
                dialect_after(ansi, assignment).ansi_quotes,
                after_ansi,
                "{assignment}"
            );
        }
    }
}

//! Which rows a statement touches, where its text says so: one table, and a condition that means the same whenever it
//! is asked. Pure.
//!
//! It refuses to guess: a join, an alias, a subquery, a function or a variable may mean anything, an INSERT does not
//! say its key's name, and an UPDATE that assigns what it looks for does not find its rows again.

use super::Dialect;
use super::lexer::{Kind, Lexer, Token};
use super::names::unquote;
use super::statements::{Statement, split};

/// Words of a condition that are no names.
const WORDS: [&str; 10] = [
    "AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "IS", "NULL", "TRUE", "FALSE",
];

/// What ends a condition.
const ENDS: [&str; 8] = [
    "GROUP", "HAVING", "ORDER", "LIMIT", "FOR", "LOCK", "INTO", "UNION",
];

/// Signs that a condition may have.
const SIGNS: [&[u8]; 12] = [
    b"=", b"<", b">", b"<=", b">=", b"<>", b"!=", b"<=>", b"(", b")", b",", b"-",
];

/// The condition of a statement on one table; `None` where the text does not say.
#[must_use]
pub fn rows_touched(text: &str, dialect: Dialect) -> Option<String> {
    let tokens: Vec<Token> = Lexer::new(text.as_bytes(), dialect).collect();
    let statements = split(text.as_bytes(), &tokens);
    let [statement] = statements.as_slice() else {
        return None;
    };
    let statement = *statement;
    let find = |word: &'static str| (0..statement.len()).filter(move |at| statement.is(*at, word));
    let mut wheres = find("WHERE");
    let (Some(at), None) = (wheres.next(), wheres.next()) else {
        return None;
    };
    let table = match statement.bytes(0).to_ascii_uppercase().as_slice() {
        b"SELECT" => {
            let mut selects = find("SELECT").skip(1);
            let mut froms = find("FROM");
            let from = froms
                .next()
                .filter(|_| froms.next().is_none() && selects.next().is_none());
            from? + 1
        }
        b"DELETE" if statement.is(1, "FROM") => 2,
        b"UPDATE" => 1,
        _ => return None,
    };
    let behind = name_ends(statement, table)?;
    let is_update = statement.is(0, "UPDATE");
    // Nothing may stand between the name and what follows it: neither an alias nor another table.
    (is_update && statement.is(behind, "SET") || behind == at).then_some(())?;
    let end = (at + 1..statement.len())
        .find(|at| statement.is_any(*at, &ENDS))
        .unwrap_or(statement.len());
    let names = names(statement, at + 1, end)?;
    if is_update {
        let assigned = (behind + 1..at).filter(|at| statement.op(at + 1, b"="));
        for one in assigned.map(|at| lower(statement, at)) {
            (!names.contains(&one)).then_some(())?;
        }
    }
    let from = statement.tokens.get(at + 1)?.start;
    let to = statement.tokens.get(end.checked_sub(1)?)?.end;
    text.get(from..to).map(str::to_owned)
}

/// Where the name of a table ends that begins here.
fn name_ends(statement: Statement<'_>, at: usize) -> Option<usize> {
    statement.is_name(at).then_some(())?;
    if statement.op(at + 1, b".") {
        statement.is_name(at + 2).then_some(at + 3)
    } else {
        Some(at + 1)
    }
}

/// The columns that a condition names; `None` where it has what may mean something else the next time.
fn names(statement: Statement<'_>, from: usize, to: usize) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for at in from..to {
        match statement.kind(at)? {
            Kind::Number | Kind::Text => {}
            Kind::Operator => SIGNS.contains(&statement.bytes(at)).then_some(())?,
            Kind::Word if statement.is_any(at, &WORDS) => {}
            Kind::Word | Kind::Name => {
                (statement.is_name(at) && !statement.op(at + 1, b"(")).then_some(())?;
                names.push(lower(statement, at));
            }
            Kind::Param | Kind::UserVariable | Kind::SystemVariable | Kind::Fold | Kind::Broken => {
                return None;
            }
        }
    }
    (!names.is_empty()).then_some(names)
}

fn lower(statement: Statement<'_>, at: usize) -> String {
    String::from_utf8_lossy(&unquote(statement.bytes(at))).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        rows_touched(text, Dialect::default())
    }

    #[test]
    fn a_condition_on_one_table_says_which_rows() {
        for (text, condition) in [
            ("SELECT * FROM t WHERE id = 5", "id = 5"),
            (
                "select a from `app`.`t` where `id` in (1, -2) and v like 'a%' order by a limit 3",
                "`id` in (1, -2) and v like 'a%'",
            ),
            (
                "DELETE FROM app.t WHERE id BETWEEN 1 AND 3 LIMIT 1",
                "id BETWEEN 1 AND 3",
            ),
            (
                "UPDATE t SET a = a + 1, b = 'id = 7' WHERE id = 7 OR v IS NULL",
                "id = 7 OR v IS NULL",
            ),
            ("SELECT count(*) FROM t WHERE id > 3 FOR UPDATE", "id > 3"),
        ] {
            assert_eq!(of(text).as_deref(), Some(condition), "{text}");
        }
    }

    #[test]
    fn what_may_mean_something_else_is_not_taken() {
        for text in [
            "SELECT * FROM t",
            "SELECT * FROM t WHERE id = ?",
            "SELECT * FROM t WHERE id = @x",
            "SELECT * FROM t WHERE at > NOW()",
            "SELECT * FROM t x WHERE x.id = 1",
            "SELECT * FROM t, u WHERE id = 1",
            "SELECT * FROM t JOIN u USING (id) WHERE id = 1",
            "SELECT * FROM t WHERE id IN (SELECT id FROM u)",
            "SELECT * FROM t WHERE id = 1 UNION SELECT * FROM t WHERE id = 2",
            "UPDATE t SET a = 2 WHERE a = 1",
            "UPDATE t SET `A` = 2 WHERE a = 1",
            "UPDATE t, u SET t.a = 2 WHERE id = 1",
            "INSERT INTO t VALUES (1)",
            "DELETE t FROM t JOIN u WHERE t.id = 1",
            "SELECT 1; SELECT * FROM t WHERE id = 1",
            "SELECT * FROM t WHERE id = 1 + RAND()",
            "SELECT * FROM t WHERE 1",
            "SELECT * FROM t WHERE id = CURRENT_DATE",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}

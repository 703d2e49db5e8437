//! What a statement leaves behind that only the session's own connection has, or lets go of: user
//! variables, locks, temporary tables, handlers.
//!
//! Names are read from the text itself, for a fingerprint has no literals. It refuses to guess: of
//! a statement that it does not know it says so.

use super::lexer::{Kind, Lexer, Token};
use super::names::{plain, unquote};
use super::statements::{Statement, split};
use super::{Dialect, Table, Tables, ddl, session};

/// One thing that a statement leaves behind, or lets go of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tie {
    /// A user variable was assigned otherwise than by SET: its name in lower case, with its `@`.
    Variable(String),
    /// GET_LOCK; the lock's name in lower case, where it is a literal.
    Lock(Option<Vec<u8>>),
    /// RELEASE_LOCK, likewise.
    Unlock(Option<Vec<u8>>),
    /// RELEASE_ALL_LOCKS.
    UnlockAll,
    /// LOCK TABLES.
    TablesLocked,
    /// FLUSH TABLES … WITH READ LOCK, FOR EXPORT: BEGIN does not let go of it.
    ReadLocked,
    /// UNLOCK TABLES.
    TablesUnlocked,
    /// CREATE TEMPORARY TABLE.
    TemporaryMade(Table),
    /// DROP TABLE; perhaps the table was a temporary one.
    Dropped(Table),
    /// HANDLER … OPEN, by the name under which it is read.
    HandlerOpened(String),
    /// HANDLER … CLOSE.
    HandlerClosed(String),
    /// XA START.
    XaBegun,
    /// XA COMMIT, XA ROLLBACK.
    XaEnded,
    /// SQL_CALC_FOUND_ROWS.
    FoundRows,
    /// SET TRANSACTION: of the next transaction alone.
    NextTransaction,
    /// CALL: it may leave anything.
    Called,
    /// PREPARE, EXECUTE, DEALLOCATE in SQL: the server's statements, and what they did.
    Prepared,
}

/// What each statement of a text leaves behind; `None` for one of which nothing is known here.
#[must_use]
pub fn ties(text: &[u8], dialect: Dialect) -> Vec<Option<Vec<Tie>>> {
    let tokens: Vec<Token> = Lexer::new(text, dialect).collect();
    split(text, &tokens).into_iter().map(of_statement).collect()
}

/// What one statement leaves behind.
pub(crate) fn of_statement(statement: Statement<'_>) -> Option<Vec<Tie>> {
    let first = (0..statement.len()).find(|at| !statement.op(*at, b"("))?;
    let word = statement.bytes(first).to_ascii_uppercase();
    match word.as_slice() {
        b"CALL" => Some(vec![Tie::Called]),
        b"PREPARE" | b"EXECUTE" | b"DEALLOCATE" => Some(vec![Tie::Prepared]),
        b"LOCK" if statement.is_any(1, &["TABLE", "TABLES"]) => Some(vec![Tie::TablesLocked]),
        b"UNLOCK" if statement.is_any(1, &["TABLE", "TABLES"]) => Some(vec![Tie::TablesUnlocked]),
        b"FLUSH" => Some(flush(statement)),
        b"HANDLER" => handler(statement),
        b"XA" => Some(xa(statement)),
        b"CREATE" => {
            let mut ties = create(statement);
            ties.extend(values(statement, &word).unwrap_or_default());
            Some(ties)
        }
        b"DROP" if statement.is(1, "PREPARE") => Some(vec![Tie::Prepared]),
        b"DROP" => Some(drop_tables(statement)),
        b"SET" if session::kind(statement) == session::Kind::Transaction => {
            Some(vec![Tie::NextTransaction])
        }
        _ => values(statement, &word),
    }
}

/// What is left by values being computed: assignments and locks.
fn values(statement: Statement<'_>, first: &[u8]) -> Option<Vec<Tie>> {
    let mut ties = Vec::new();
    let into = statement
        .find(0, |at| statement.is(at, "INTO"))
        .unwrap_or(usize::MAX);
    let own = if first == b"SET" {
        session::assigned(statement)
    } else {
        Vec::new()
    };
    for at in 0..statement.len() {
        if let Some((name, next)) = variable(statement, at) {
            let is_target = match first {
                b"LOAD" => true,
                b"GET" => statement.op(next, b"="),
                // Behind INTO stand the query's targets, and its tables no more.
                _ => at > into && is_in_list_from(statement, into, at),
            };
            if is_target || statement.op(next, b":=") && !own.contains(&at) {
                ties.push(Tie::Variable(name));
            }
        }
        ties.extend(call(statement, at));
    }
    (!ties.is_empty()).then_some(ties)
}

/// Whether all from INTO to here are variables and commas.
fn is_in_list_from(statement: Statement<'_>, into: usize, at: usize) -> bool {
    (into + 1..at).all(|between| {
        matches!(
            statement.kind(between),
            Some(Kind::UserVariable | Kind::Param | Kind::Operator)
        ) && !statement.op(between, b";")
    })
}

/// The user variable at a token, and the token behind it. A fingerprint has `@ ?` for `@'quoted'`.
fn variable(statement: Statement<'_>, at: usize) -> Option<(String, usize)> {
    if statement.kind(at) == Some(Kind::UserVariable) {
        let name = unquote(statement.bytes(at).get(1..)?);
        let name = String::from_utf8_lossy(&name).to_lowercase();
        return Some((format!("@{name}"), at + 1));
    }
    let quoted = statement.op(at, b"@") && statement.kind(at + 1) == Some(Kind::Param);
    quoted.then(|| ("@".to_owned(), at + 2))
}

fn call(statement: Statement<'_>, at: usize) -> Option<Tie> {
    if statement.is(at, "SQL_CALC_FOUND_ROWS") {
        return Some(Tie::FoundRows);
    }
    if !statement.op(at + 1, b"(") {
        return None;
    }
    let ends = statement.op(at + 3, b",") || statement.op(at + 3, b")");
    let literal = statement.kind(at + 2) == Some(Kind::Text) && ends;
    let name = literal.then(|| unquote(statement.bytes(at + 2)).to_ascii_lowercase());
    if statement.is(at, "GET_LOCK") {
        Some(Tie::Lock(name))
    } else if statement.is(at, "RELEASE_LOCK") {
        Some(Tie::Unlock(name))
    } else if statement.is(at, "RELEASE_ALL_LOCKS") {
        Some(Tie::UnlockAll)
    } else {
        None
    }
}

fn flush(statement: Statement<'_>) -> Vec<Tie> {
    let locks = (1..statement.len()).any(|at| {
        statement.are(at, &["WITH", "READ", "LOCK"]) || statement.are(at, &["FOR", "EXPORT"])
    });
    if locks {
        vec![Tie::ReadLocked]
    } else {
        Vec::new()
    }
}

/// `HANDLER t OPEN AS a`, `HANDLER a READ …`, `HANDLER a CLOSE`.
fn handler(statement: Statement<'_>) -> Option<Vec<Tie>> {
    let (table, next) = super::tables::table_name(statement, 1)?;
    if statement.is(next, "OPEN") {
        let alias = next + 1 + usize::from(statement.is(next + 1, "AS"));
        let name = if statement.is_name(alias) {
            plain(statement.bytes(alias))
        } else {
            table.name
        };
        return Some(vec![Tie::HandlerOpened(name.to_lowercase())]);
    }
    if statement.is(next, "CLOSE") {
        return Some(vec![Tie::HandlerClosed(table.name.to_lowercase())]);
    }
    Some(Vec::new())
}

fn xa(statement: Statement<'_>) -> Vec<Tie> {
    if statement.is_any(1, &["START", "BEGIN"]) {
        vec![Tie::XaBegun]
    } else if statement.is_any(1, &["COMMIT", "ROLLBACK"]) {
        vec![Tie::XaEnded]
    } else {
        Vec::new()
    }
}

fn create(statement: Statement<'_>) -> Vec<Tie> {
    let tables = if ddl::is_temporary(statement) {
        written(statement)
    } else {
        Vec::new()
    };
    tables.into_iter().map(Tie::TemporaryMade).collect()
}

fn drop_tables(statement: Statement<'_>) -> Vec<Tie> {
    let of_tables = (1..3).any(|at| statement.is_any(at, &["TABLE", "TABLES"]));
    let tables = if of_tables {
        written(statement)
    } else {
        Vec::new()
    };
    tables.into_iter().map(Tie::Dropped).collect()
}

fn written(statement: Statement<'_>) -> Vec<Table> {
    match ddl::ddl(statement).map(|scan| scan.written()) {
        Some(Tables::Known(tables)) => tables,
        Some(Tables::Unknown) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Vec<Tie>> {
        ties(text.as_bytes(), Dialect::default()).remove(0)
    }

    fn variables(names: &[&str]) -> Option<Vec<Tie>> {
        Some(
            names
                .iter()
                .map(|name| Tie::Variable((*name).into()))
                .collect(),
        )
    }

    fn table(name: &str) -> Table {
        Table {
            database: None,
            name: name.into(),
        }
    }

    #[test]
    fn variables_are_named_where_they_are_assigned_and_not_where_they_are_read() {
        for (text, names) in [
            ("SELECT @a := 1, @B:=2, @c", &["@a", "@b"][..]),
            (
                "SELECT x, y INTO @x, @`y z` FROM t WHERE id = @id",
                &["@x", "@y z"],
            ),
            ("SELECT x FROM t WHERE id = @id INTO @x", &["@x"]),
            ("SELECT @'quoted' := 1", &["@quoted"]),
            ("SET @a = (@b := 2)", &["@b"]),
            (
                "GET DIAGNOSTICS CONDITION 1 @code = MYSQL_ERRNO",
                &["@code"],
            ),
            (
                "LOAD DATA INFILE 'x' INTO TABLE t (a, @b) SET c = @b",
                &["@b", "@b"],
            ),
        ] {
            assert_eq!(of(text), variables(names), "{text}");
        }
        assert_eq!(of("UPDATE t SET v = @n := @n + 1"), variables(&["@n"]));
        for text in [
            "INSERT INTO t SELECT @a",
            "SELECT @a",
            "SET @a := 1, @b = 2",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn what_ties_a_session_to_its_server_is_told_by_name() {
        let lock = |name: &str| Some(name.as_bytes().to_vec());
        for (text, tie) in [
            ("SELECT GET_LOCK('Job', 10)", Tie::Lock(lock("job"))),
            ("SELECT GET_LOCK(?, ?)", Tie::Lock(None)),
            ("DO RELEASE_LOCK(\"job\")", Tie::Unlock(lock("job"))),
            ("SELECT RELEASE_LOCK(CONCAT('a', 'b'))", Tie::Unlock(None)),
            ("SELECT RELEASE_ALL_LOCKS()", Tie::UnlockAll),
            ("LOCK TABLES t READ", Tie::TablesLocked),
            ("UNLOCK TABLES", Tie::TablesUnlocked),
            ("FLUSH TABLES t WITH READ LOCK", Tie::ReadLocked),
            ("CREATE TABLE t SELECT @a := 1", Tie::Variable("@a".into())),
            (
                "CREATE TEMPORARY TABLE IF NOT EXISTS x (id INT)",
                Tie::TemporaryMade(table("x")),
            ),
            ("DROP TABLE IF EXISTS x", Tie::Dropped(table("x"))),
            ("DROP TEMPORARY TABLE x", Tie::Dropped(table("x"))),
            ("HANDLER t OPEN AS H", Tie::HandlerOpened("h".into())),
            ("HANDLER t OPEN", Tie::HandlerOpened("t".into())),
            ("HANDLER h CLOSE", Tie::HandlerClosed("h".into())),
            ("XA START 'x'", Tie::XaBegun),
            ("XA COMMIT 'x' ONE PHASE", Tie::XaEnded),
            (
                "SELECT SQL_CALC_FOUND_ROWS a FROM t LIMIT 1",
                Tie::FoundRows,
            ),
            ("SET TRANSACTION READ ONLY", Tie::NextTransaction),
            ("CALL p(@a)", Tie::Called),
            ("PREPARE s FROM 'SELECT 1'", Tie::Prepared),
            ("DEALLOCATE PREPARE s", Tie::Prepared),
            ("DROP PREPARE s", Tie::Prepared),
        ] {
            assert_eq!(of(text), Some(vec![tie]), "{text}");
        }
        for text in [
            "HANDLER t READ FIRST",
            "XA END 'x'",
            "FLUSH TABLES",
            "CREATE TABLE t (a INT)",
        ] {
            assert_eq!(of(text), Some(Vec::new()), "{text}");
        }
        assert_eq!(of("BEGIN NOT ATOMIC SET @a = 1; END"), None);
    }

    #[test]
    fn each_statement_of_a_text_has_its_own() {
        let all = ties(
            b"CREATE TEMPORARY TABLE a (i INT); DROP TABLE a",
            Dialect::default(),
        );
        let made = Some(vec![Tie::TemporaryMade(table("a"))]);
        assert_eq!(all, [made, Some(vec![Tie::Dropped(table("a"))])]);
    }
}

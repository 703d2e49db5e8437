//! How a server takes in the types of a prepared statement's parameters, which a client may have sent once
//! and rely on since. Nothing of the statement is done, and nothing stays of it but the types.
//!
//! MySQL up to 5.7, MariaDB and vtgate keep the types of an execution that lacks its values, and refuse
//! it. MySQL 8 reads all of an execution first, and forgets them: there the parameters are NULL, in a
//! transaction that only reads. A write is then refused (1792) before it does anything, and so is a locking
//! read; a read has a millisecond. Refuses what would leave something behind even so.

use super::journal::Statement;
use super::link::{Link, Trouble};
use crate::ask::rows;
use crate::sql::{Analysis, Class};
use crate::wire::answer::Failure;
use crate::wire::execute::{Execute, Type};

/// ER_WRONG_ARGUMENTS of MySQL up to 5.7 and of MariaDB, CR_MALFORMED_PACKET of vtgate: they have
/// taken in the types of an execution that lacked its values.
const TAKEN: [u16; 2] = [1210, 2027];

/// ER_WRONG_ARGUMENTS, ER_MALFORMED_PACKET: it has not.
const NOT_TAKEN: [u16; 2] = [1210, 1835];

/// Has the server take in the types by an execution that lacks its values; whether it has.
pub(super) async fn without_values(
    link: &mut Link,
    own: u32,
    (statement, types): (&Statement, &[Type]),
) -> Result<bool, Trouble> {
    let failed = execute(link, own, (statement, types), 0).await?;
    Ok(failed.is_some_and(|failure| TAKEN.contains(&failure.code)))
}

/// The same by NULLs, in a transaction that only reads. Not cancel-safe: given up, the connection is to be
/// dropped.
pub(super) async fn with_nulls(
    link: &mut Link,
    own: u32,
    (statement, types): (&Statement, &[Type]),
) -> Result<bool, Trouble> {
    let prepared = &statement.prepared;
    if link.is_vitess() || !is_harmless(&prepared.analysis, &prepared.text) {
        return Ok(false);
    }
    let asked = link.query(b"SELECT @@SESSION.max_execution_time").await?;
    let said = rows(&asked.answer).unwrap_or_default();
    let limit = said.into_iter().flatten().flatten().next();
    let is_number = |limit: &String| limit.bytes().all(|byte| byte.is_ascii_digit());
    // A server without it has no such transactions either, or is no MySQL.
    let Some(limit) = limit.filter(is_number) else {
        return Ok(false);
    };
    if !runs(link, "START TRANSACTION READ ONLY").await? {
        return Ok(false);
    }
    let mut taken = runs(link, "SET SESSION max_execution_time = 1").await?;
    if taken {
        let failed = execute(link, own, (statement, types), u8::MAX).await?;
        taken = failed.is_none_or(|failure| !NOT_TAKEN.contains(&failure.code));
    }
    let back = format!("SET SESSION max_execution_time = {limit}");
    let is_as_before = runs(link, &back).await? && runs(link, "ROLLBACK").await?;
    if is_as_before {
        return Ok(taken);
    }
    Err(Trouble::Down(
        "a connection cannot be made as it was before".to_owned(),
    ))
}

async fn runs(link: &mut Link, text: &str) -> Result<bool, Trouble> {
    let reply = link.query(text.as_bytes()).await?;
    Ok(reply.answer.error().is_none())
}

/// An execution with types and no values; `nulls`: what each byte says of eight parameters.
async fn execute(
    link: &mut Link,
    own: u32,
    (statement, types): (&Statement, &[Type]),
    nulls: u8,
) -> Result<Option<Failure>, Trouble> {
    let parameters = statement.prepared.parameters;
    let execution = Execute {
        statement_id: own,
        flags: 0,
        iterations: 1,
        parameters,
        nulls: vec![nulls; usize::from(parameters).div_ceil(8)],
        types: Some(types.to_vec()),
        attributes: 0,
        values: &[],
    };
    let payload = execution.encode(own, link.capabilities(), None);
    let reply = link.ask(&payload).await?;
    Ok(reply.answer.error().cloned())
}

/// Whether an execution with NULLs in a transaction that only reads leaves nothing behind: no lock, no
/// variable, no last key, and nothing that a stored function does.
fn is_harmless(analysis: &Analysis, text: &[u8]) -> bool {
    let mut statements = analysis.statements.iter();
    let assigns = text.windows(2).any(|two| two == b":=");
    !assigns
        && statements.all(|one| {
            let is_of_rows = match one.class {
                Class::Read | Class::Write => true,
                // Not what reads into a variable.
                Class::LockingRead => !has_word(text, b"into"),
                Class::Empty
                | Class::Metadata
                | Class::Session
                | Class::Transaction
                | Class::Ddl
                | Class::Unmirrored => false,
            };
            let leaves = one.sets_last_insert_id || one.ties || one.stored;
            is_of_rows && !leaves && one.changes.is_empty()
        })
}

fn has_word(text: &[u8], word: &[u8]) -> bool {
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut words = text.split(|byte| !of_name(byte));
    words.any(|one| one.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Dialect, analyze};

    #[test]
    fn only_what_leaves_nothing_behind_is_run_with_nulls() {
        for (text, is) in [
            ("SELECT a FROM t WHERE id = ?", true),
            ("SELECT a FROM t WHERE id = ? FOR UPDATE", true),
            ("UPDATE t SET a = ?", true),
            ("INSERT INTO t (a) VALUES (?)", true),
            ("SELECT a INTO @x FROM t WHERE id = ?", false),
            ("SELECT @x := ?", false),
            ("SELECT LAST_INSERT_ID(?)", false),
            ("SELECT GET_LOCK(?, 0)", false),
            ("SELECT shop.price(?)", false),
            ("UPDATE t SET a = shop.price(?)", false),
            ("SET @x = ?", false),
            ("CALL p(?)", false),
            ("SHOW TABLES LIKE ?", false),
        ] {
            let analysis = analyze(text.as_bytes(), Dialect::default());
            assert_eq!(is_harmless(&analysis, text.as_bytes()), is, "{text}");
        }
    }
}

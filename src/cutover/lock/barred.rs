//! Whom a table's lock would have to wait for: seen before it is asked for, for from then on every writer waits behind
//! it. Two looks, one hold apart: who is there at both, with the same transaction or statement, would have it wait in
//! vain.
//!
//! Where the server keeps a table of its metadata locks, it says who writes to this table. Else the open transactions
//! that wrote to any are all that is seen, and a statement that names the table. What the account may not see bars
//! nothing: the hold is bounded all the same. Reads only.

use super::names::{Table, texts};
use crate::ask::{AskError, Asker, Row};
use std::collections::BTreeMap;
use std::time::Duration;

/// An older server looks anew at its transactions after a tenth of a second.
const APART: Duration = Duration::from_millis(150);

/// Who is named.
const NAMED_MAX: usize = 5;

const TELLS_LOCKS: &str = "SELECT 1 FROM performance_schema.setup_instruments WHERE name = 'wait/lock/metadata/sql/mdl' AND enabled = 'YES'";

const WRITERS: &str = "SELECT CONCAT('transaction ', t.trx_id), t.trx_mysql_thread_id, p.user, 'has a transaction open that wrote or locks rows, of which table is not shown here' \
     FROM information_schema.innodb_trx t LEFT JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
     WHERE t.trx_rows_modified > 0 OR t.trx_rows_locked > 0";

/// Who bars it, by what stays the same.
type Look = BTreeMap<String, String>;

/// Who would have this table's lock wait for longer than `hold`, in words; none where nobody is seen.
pub(super) async fn barred(aside: &mut Asker, table: &Table, hold: Duration) -> Option<String> {
    let first = look(aside, table).await;
    if first.is_empty() {
        return None;
    }
    tokio::time::sleep(hold.max(APART)).await;
    stays(&first, look(aside, table).await)
}

/// Who is there at both.
fn stays(first: &Look, later: Look) -> Option<String> {
    let stay = later.into_iter().filter(|(key, _)| first.contains_key(key));
    let stay: Vec<String> = stay.map(|(_, words)| words).take(NAMED_MAX).collect();
    (!stay.is_empty()).then(|| stay.join("; "))
}

async fn look(aside: &mut Asker, table: &Table) -> Look {
    let tells = aside.ask(TELLS_LOCKS).await;
    if tells.is_ok_and(|rows| !rows.is_empty())
        && let Ok(rows) = aside.ask(&locks(table)).await
    {
        return seen(&rows);
    }
    let mut all = Look::new();
    for statement in [WRITERS.to_owned(), statements(table)] {
        match aside.ask(&statement).await {
            Ok(rows) => all.extend(seen(&rows)),
            // It may not be seen.
            Err(AskError::Refused { .. }) => {}
            Err(_) => break,
        }
    }
    all
}

/// Locks of this table that do not go with one against writers.
fn locks(table: &Table) -> String {
    let (database, name) = texts(table);
    format!(
        "SELECT CONCAT('lock ', m.owner_thread_id, ' ', m.owner_event_id), t.processlist_id, t.processlist_user, CONCAT('has a lock on it (', m.lock_type, ', ', m.lock_status, ')') \
         FROM performance_schema.metadata_locks m LEFT JOIN performance_schema.threads t ON t.thread_id = m.owner_thread_id \
         WHERE m.object_type = 'TABLE' AND m.object_schema = {database} AND m.object_name = {name} \
         AND m.lock_type NOT IN ('SHARED', 'SHARED_HIGH_PRIO', 'SHARED_READ', 'SHARED_READ_ONLY')"
    )
}

/// Statements that name it, and do not only read.
fn statements(table: &Table) -> String {
    let (_, name) = texts(table);
    format!(
        "SELECT CONCAT('statement ', id, ' ', LEFT(info, 200)), id, user, 'has a statement under way that names it' FROM information_schema.processlist \
         WHERE command = 'Query' AND id <> CONNECTION_ID() AND INSTR(LOWER(info), LOWER({name})) > 0 \
         AND LOWER(LEFT(LTRIM(info), 4)) NOT IN ('sele', 'show', 'desc', 'expl', 'with')"
    )
}

/// Each row: what stays the same, the thread, its user, and what it does.
fn seen(rows: &[Row]) -> Look {
    let one = |row: &Row| {
        let cell = |at: usize| row.get(at).and_then(Option::as_deref);
        let (key, does) = (cell(0)?, cell(3)?);
        let thread = cell(1).unwrap_or("of the server's own");
        let user = cell(2).map_or(String::new(), |user| format!(" ({user})"));
        Some((key.to_owned(), format!("thread {thread}{user} {does}")))
    };
    rows.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_there_at_both_looks_would_be_waited_for() {
        let row = |cells: [&str; 4]| -> Row { cells.map(|cell| Some(cell.to_owned())).into() };
        let first = seen(&[
            row(["transaction 7", "12", "batch", "has a transaction open"]),
            row(["transaction 8", "13", "shop", "has a transaction open"]),
        ]);
        let later = [
            row(["transaction 7", "12", "batch", "has a transaction open"]),
            // The next one of the same session.
            row(["transaction 9", "13", "shop", "has a transaction open"]),
        ];
        let told = stays(&first, seen(&later));
        assert_eq!(
            told.as_deref(),
            Some("thread 12 (batch) has a transaction open")
        );
        assert_eq!(stays(&first, Look::new()), None);
    }
}

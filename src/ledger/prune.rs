//! What is too old or too much is let go, a step at a time, so that no write takes long.

use super::tallies::kept;
use crate::config;
use rusqlite::{Transaction, params};

/// Rows of a table that one step lets go at most. More than findings between two steps, so that
/// the file shrinks under load too.
const STEP: u32 = 500;

/// Records of what operators did.
const AUDIT_MAX: i64 = 10_000;

/// Statements that are tallied apart, for each finding that may be kept.
const SHAPES_PER_FINDING: u64 = 4;

/// One step.
pub(super) fn prune(
    transaction: &Transaction<'_>,
    limits: &config::Ledger,
) -> rusqlite::Result<()> {
    let age = i64::try_from(limits.max_age.as_micros()).unwrap_or(i64::MAX);
    let oldest = jiff::Timestamp::now().as_microsecond().saturating_sub(age);
    transaction
        .prepare_cached(
            "DELETE FROM divergences WHERE id IN (SELECT id FROM divergences WHERE at < ?1 ORDER BY at LIMIT ?2)",
        )?
        .execute(params![oldest, STEP])?;
    surplus(transaction, "divergences", signed(limits.divergences_max))?;
    surplus(transaction, "audit", AUDIT_MAX)?;
    transaction
        .prepare_cached(
            "DELETE FROM findings WHERE id IN (
               SELECT id FROM findings ORDER BY last_seen DESC, id DESC LIMIT ?2 OFFSET ?1)",
        )?
        .execute(params![signed(limits.findings_max), STEP])?;
    super::plans::prune(transaction, STEP)?;
    let shapes = signed(limits.findings_max.saturating_mul(SHAPES_PER_FINDING));
    kept::prune(transaction, shapes, STEP)
}

/// Ids only grow, so the number of rows is at most the span of ids; counting is not needed.
fn surplus(transaction: &Transaction<'_>, table: &str, most: i64) -> rusqlite::Result<()> {
    let text = format!(
        "DELETE FROM {table} WHERE id <= (SELECT coalesce(max(id), 0) - ?1 FROM {table})
         AND id < (SELECT coalesce(min(id), 0) + ?2 FROM {table})"
    );
    transaction
        .prepare_cached(&text)?
        .execute(params![most, STEP])
        .map(drop)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use std::time::Duration;

    fn limits() -> config::Ledger {
        config::Ledger {
            path: "unused".into(),
            log: None,
            log_bytes: 0,
            log_files: 0,
            literals: config::Literals::Redact,
            divergences_max: 10,
            findings_max: 100,
            max_age: Duration::from_secs(3600),
            queue: 16,
            fingerprints_max: 10,
        }
    }

    fn pruned(fill: &str) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&mut connection).unwrap();
        connection.execute_batch(fill).unwrap();
        for _ in 0..50 {
            let transaction = connection.transaction().unwrap();
            prune(&transaction, &limits()).unwrap();
            transaction.commit().unwrap();
        }
        connection
    }

    fn number(connection: &Connection, ask: &str) -> i64 {
        connection.query_row(ask, (), |row| row.get(0)).unwrap()
    }

    const NUMBERS: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)";

    #[test]
    fn statements_not_seen_for_long_are_counted_together() {
        let connection = pruned(&format!(
            "INSERT INTO traffic (digest, protocol, commands, seen) {NUMBERS} SELECT printf('%016x', i), 'text', 2, i FROM n"
        ));
        let apart = "SELECT count(*) FROM traffic WHERE digest <> '0000000000000000'";
        assert_eq!(number(&connection, apart), 400);
        assert_eq!(number(&connection, "SELECT max(seen) FROM traffic"), 12000);
        assert_eq!(
            number(&connection, "SELECT sum(commands) FROM traffic"),
            24000
        );
    }

    #[test]
    fn tables_not_seen_for_long_are_counted_together_and_old_hours_go() {
        let connection = pruned(&format!(
            "INSERT INTO traffic_tables (name, commands, race, seen) {NUMBERS} SELECT 't' || i, 2, 1, i FROM n;
             INSERT INTO traffic_hours (hour, commands) {NUMBERS} SELECT i, 1 FROM n"
        ));
        let apart = "SELECT count(*) FROM traffic_tables WHERE name <> '*'";
        assert_eq!(number(&connection, apart), 10_000);
        let together = "SELECT race FROM traffic_tables WHERE name = '*'";
        assert_eq!(number(&connection, together), 2_000);
        let all = "SELECT sum(commands) FROM traffic_tables";
        assert_eq!(number(&connection, all), 24_000);
        assert_eq!(
            number(&connection, "SELECT count(*) FROM traffic_hours"),
            9_600
        );
        assert_eq!(
            number(&connection, "SELECT max(hour) FROM traffic_hours"),
            12_000
        );
    }

    #[test]
    fn the_oldest_audit_records_go() {
        let connection = pruned(&format!(
            "INSERT INTO audit (at, who, what, why) {NUMBERS} SELECT '', '', i, '' FROM n"
        ));
        assert_eq!(number(&connection, "SELECT count(*) FROM audit"), AUDIT_MAX);
        assert_eq!(number(&connection, "SELECT max(id) FROM audit"), 12000);
    }
}

//! What is too old or too much is let go, a step at a time, so that no write takes long.

use super::tallies::kept;
use crate::config;
use rusqlite::{OptionalExtension, Transaction, params};

/// Rows of a table that one step lets go at most. More than findings between two steps, so that
/// the file shrinks under load too.
const STEP: u32 = 500;

/// Records of what operators did, and, apart from them, of what became of findings by itself: that
/// may be much at once, and must not drive out what a person has said.
const AUDIT_MAX: i64 = 10_000;

/// Requests of those who may ask for it; and, apart from them, of those who did not prove who they are, or may not
/// change anything: who may only look, or not even that, must not drive out what others did.
const REQUESTS_MAX: [(&str, i64); 2] = [
    ("who IS NOT NULL AND status IS NOT 403", 10_000),
    ("(who IS NULL OR status IS 403)", 1_000),
];

/// What an operator has to judge, or has judged for a time: let go last.
const AWAITED: &str = "rule = '' AND state IN ('open', 'regressed', 'accepted')";

/// Statements that are tallied apart, for each finding that may be kept.
const SHAPES_PER_FINDING: u64 = 4;

/// One step. Says how many findings were ever let go that an operator had to judge.
pub(super) fn prune(
    transaction: &Transaction<'_>,
    limits: &config::Ledger,
) -> rusqlite::Result<u64> {
    let age = i64::try_from(limits.max_age.now().as_micros()).unwrap_or(i64::MAX);
    let oldest = jiff::Timestamp::now().as_microsecond().saturating_sub(age);
    transaction
        .prepare_cached(
            "DELETE FROM divergences WHERE id IN (SELECT id FROM divergences WHERE at < ?1 ORDER BY at LIMIT ?2)",
        )?
        .execute(params![oldest, STEP])?;
    surplus(
        transaction,
        "divergences",
        signed(limits.divergences_max.now()),
    )?;
    for whose in ["who = 'understudy'", "who <> 'understudy'"] {
        transaction
            .prepare_cached(&format!(
                "DELETE FROM audit WHERE id IN (
                   SELECT id FROM audit WHERE {whose} ORDER BY id DESC LIMIT ?2 OFFSET ?1)"
            ))?
            .execute(params![AUDIT_MAX, STEP])?;
    }
    for (whose, most) in REQUESTS_MAX {
        transaction
            .prepare_cached(&format!(
                "DELETE FROM requests WHERE id IN (
                   SELECT id FROM requests WHERE {whose} ORDER BY id DESC LIMIT ?2 OFFSET ?1)"
            ))?
            .execute(params![most, STEP])?;
    }
    evict(transaction, signed(limits.findings_max.now()))?;
    super::plans::prune(transaction, STEP)?;
    let shapes = signed(limits.findings_max.now().saturating_mul(SHAPES_PER_FINDING));
    kept::prune(transaction, shapes, STEP)?;
    evicted(transaction)
}

/// Lets go of the findings that are too many: what is judged for good, or by a rule, before what is
/// not, and of these the ones not seen for longest. What was still to be judged is counted.
fn evict(transaction: &Transaction<'_>, most: i64) -> rusqlite::Result<()> {
    let number: i64 = transaction
        .prepare_cached("SELECT count(*) FROM findings")?
        .query_row((), |row| row.get(0))?;
    let surplus = number.saturating_sub(most).min(i64::from(STEP));
    if surplus <= 0 {
        return Ok(());
    }
    let mut statement = transaction.prepare_cached(&format!(
        "DELETE FROM findings WHERE id IN (
           SELECT id FROM findings ORDER BY {AWAITED}, last_seen, id LIMIT ?1) RETURNING {AWAITED}"
    ))?;
    let gone = statement.query_map([surplus], |row| row.get::<_, bool>(0))?;
    let gone: Vec<bool> = gone.collect::<Result<_, _>>()?;
    let awaited = gone.iter().filter(|&&awaited| awaited).count();
    if awaited > 0 {
        transaction
            .prepare_cached(
                "INSERT INTO meta VALUES ('evicted', ?1)
                 ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + ?1",
            )?
            .execute([i64::try_from(awaited).unwrap_or(i64::MAX)])?;
    }
    Ok(())
}

/// Findings that were let go though an operator had to judge them, since the file was made.
pub(super) fn evicted(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let told: Option<String> = transaction
        .prepare_cached("SELECT value FROM meta WHERE key = 'evicted'")?
        .query_row((), |row| row.get(0))
        .optional()?;
    Ok(told.and_then(|told| told.parse().ok()).unwrap_or(0))
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
            log_bytes: 0.into(),
            log_files: 0.into(),
            literals: config::Literals::Redact,
            divergences_max: 10.into(),
            findings_max: 100.into(),
            max_age: Duration::from_secs(3600).into(),
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
            "INSERT INTO audit (at, who, what, why) {NUMBERS} SELECT '', 'dba', i, '' FROM n"
        ));
        assert_eq!(number(&connection, "SELECT count(*) FROM audit"), AUDIT_MAX);
        assert_eq!(number(&connection, "SELECT max(id) FROM audit"), 12000);
    }

    #[test]
    fn what_became_of_findings_by_itself_drives_out_no_word_of_an_operator() {
        let connection = pruned(&format!(
            "INSERT INTO audit (at, who, what, why) VALUES ('', 'dba', 'accepted', '');
             INSERT INTO audit (at, who, what, why) {NUMBERS} SELECT '', 'understudy', i, '' FROM n"
        ));
        let theirs = "SELECT count(*) FROM audit WHERE who = 'dba'";
        assert_eq!(number(&connection, theirs), 1);
        let ours = "SELECT count(*) FROM audit WHERE who = 'understudy'";
        assert_eq!(number(&connection, ours), AUDIT_MAX);
    }

    #[test]
    fn who_has_no_token_drives_out_nothing_that_was_done_with_one() {
        let insert = "INSERT INTO requests (at, who, address, what, body, status)";
        let connection = pruned(&format!(
            "{insert} VALUES (0, 'alice', '', 'first', '', 200);
             {insert} {NUMBERS} SELECT i, NULL, '', 'guess', '', 401 FROM n;
             {insert} {NUMBERS} SELECT i, 'bob', '', 'change', '', 200 FROM n WHERE i < 9000"
        ));
        let of = |wanted: &str| {
            number(
                &connection,
                &format!("SELECT count(*) FROM requests WHERE {wanted}"),
            )
        };
        assert_eq!((of("who = 'alice'"), of("who = 'bob'")), (1, 8_999));
        assert_eq!(
            (of("who IS NULL"), of("who IS NULL AND at > 11000")),
            (1_000, 1_000)
        );
    }

    #[test]
    fn noise_is_let_go_before_what_an_operator_has_to_judge_and_that_is_counted() {
        let insert =
            "INSERT INTO findings (digest, kind, protocol, rule, fingerprint, tables, count,
                        first_seen, last_seen, state)";
        let fill = format!(
            "{insert} {NUMBERS} SELECT i, 'value', 'text', '', '', '[]', 1, i, i, 'open' FROM n WHERE i <= 60;
             {insert} {NUMBERS} SELECT i, 'rows', 'text', '', '', '[]', 1, i, i, 'noise' FROM n WHERE i > 900 AND i <= 1200;
             {insert} {NUMBERS} SELECT i, 'value', 'text', 'r', '', '[]', 1, i, i, 'accepted' FROM n WHERE i > 900 AND i <= 1200;"
        );
        let of = |connection: &Connection, wanted: &str| {
            number(
                connection,
                &format!("SELECT count(*) FROM findings WHERE {wanted}"),
            )
        };
        let mut connection = pruned(&fill);
        assert_eq!(of(&connection, "state = 'open'"), 60);
        assert_eq!(of(&connection, "1"), 100);
        let total = |connection: &mut Connection| {
            let transaction = connection.transaction().unwrap();
            evicted(&transaction).unwrap()
        };
        assert_eq!(total(&mut connection), 0);
        let more = fill.replace("i <= 60", "i <= 170");
        let mut connection = pruned(&more);
        assert_eq!(of(&connection, "state = 'open'"), 100);
        assert_eq!(of(&connection, "last_seen <= 70"), 0, "the oldest went");
        assert_eq!(total(&mut connection), 70);
    }
}

//! The ledger's tables, and how an older file becomes a newer one.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// One script a version; `user_version` counts those that ran.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE findings (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        digest TEXT NOT NULL, kind TEXT NOT NULL, protocol TEXT NOT NULL,
        fingerprint TEXT NOT NULL, tables TEXT NOT NULL,
        count INTEGER NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'open', who TEXT, why TEXT, until TEXT, cause_id INTEGER,
        UNIQUE (digest, kind, protocol)
    );
    CREATE TABLE divergences (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL, kind TEXT NOT NULL, digest TEXT NOT NULL, fingerprint TEXT NOT NULL,
        tables TEXT NOT NULL, finding_id INTEGER NOT NULL, item TEXT NOT NULL
    );
    CREATE INDEX divergences_at ON divergences (at);
    CREATE INDEX divergences_finding ON divergences (finding_id);
    CREATE TABLE traffic (
        digest TEXT NOT NULL, protocol TEXT NOT NULL, commands INTEGER NOT NULL,
        PRIMARY KEY (digest, protocol)
    ) WITHOUT ROWID;
    CREATE TABLE taints (
        database TEXT NOT NULL, name TEXT NOT NULL, cause TEXT NOT NULL, since TEXT NOT NULL,
        PRIMARY KEY (database, name)
    ) WITHOUT ROWID;
    CREATE TABLE mirrored_tables (
        database TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (database, name)
    ) WITHOUT ROWID;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, why TEXT NOT NULL
    );
",
    "
    ALTER TABLE traffic ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX traffic_seen ON traffic (seen);
    CREATE INDEX findings_last_seen ON findings (last_seen);
",
    // What a rule takes goes to a finding of its own, so that the key has another part.
    "
    CREATE TABLE findings_anew (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        digest TEXT NOT NULL, kind TEXT NOT NULL, protocol TEXT NOT NULL, rule TEXT NOT NULL DEFAULT '',
        fingerprint TEXT NOT NULL, tables TEXT NOT NULL, class TEXT NOT NULL DEFAULT '',
        count INTEGER NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'open', who TEXT, why TEXT, until TEXT,
        expired INTEGER NOT NULL DEFAULT 0, cause_id INTEGER,
        UNIQUE (digest, kind, protocol, rule)
    );
    INSERT INTO findings_anew (id, digest, kind, protocol, fingerprint, tables, count, first_seen, last_seen,
                               state, who, why, until, cause_id)
        SELECT id, digest, kind, protocol, fingerprint, tables, count, first_seen, last_seen,
               state, who, why, until, cause_id FROM findings;
    DELETE FROM sqlite_sequence WHERE name = 'findings_anew';
    INSERT INTO sqlite_sequence (name, seq)
        SELECT 'findings_anew', seq FROM sqlite_sequence WHERE name = 'findings';
    DROP TABLE findings;
    ALTER TABLE findings_anew RENAME TO findings;
    CREATE INDEX findings_last_seen ON findings (last_seen);
    CREATE INDEX findings_until ON findings (until) WHERE state = 'accepted';
    CREATE INDEX findings_rule ON findings (rule) WHERE rule <> '';
    ALTER TABLE audit ADD COLUMN finding_id INTEGER;
    UPDATE audit SET finding_id = CAST(substr(what, 9) AS INTEGER) WHERE what LIKE 'finding %:%';
    CREATE INDEX audit_finding ON audit (finding_id) WHERE finding_id IS NOT NULL;
    CREATE TABLE rules (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        source TEXT NOT NULL, place INTEGER NOT NULL, name TEXT NOT NULL UNIQUE,
        fingerprint TEXT, on_table TEXT, kind TEXT, on_column TEXT,
        state TEXT NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL, until TEXT,
        made INTEGER NOT NULL, hits INTEGER NOT NULL DEFAULT 0, last_hit INTEGER,
        ended INTEGER NOT NULL DEFAULT 0
    );
",
    "
    ALTER TABLE traffic ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
    ALTER TABLE traffic ADD COLUMN class TEXT NOT NULL DEFAULT '';
    ALTER TABLE traffic ADD COLUMN first_seen INTEGER;
    ALTER TABLE traffic ADD COLUMN first_compared INTEGER;
    ALTER TABLE traffic ADD COLUMN last_compared INTEGER;
    ALTER TABLE traffic ADD COLUMN \"matched\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"tolerated\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"diverged\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"off\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"paused\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"suspended\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"sampled_out\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"dropped\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"not_mirrored\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"primary_error\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"nondeterministic\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"race\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"lag\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"snapshot\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"unstable_limit\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"order_wait\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"order_not_judged\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"beyond_sample\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"too_large\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"tainted\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"cursor\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"charset\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"database\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"shadow_down\" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE traffic ADD COLUMN \"internal\" INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE traffic_tables (
        name TEXT COLLATE NOCASE PRIMARY KEY,
        first_seen INTEGER, seen INTEGER NOT NULL DEFAULT 0, first_compared INTEGER, last_compared INTEGER,
        \"commands\" INTEGER NOT NULL DEFAULT 0, \"matched\" INTEGER NOT NULL DEFAULT 0, \"tolerated\" INTEGER NOT
        NULL DEFAULT 0, \"diverged\" INTEGER NOT NULL DEFAULT 0, \"off\" INTEGER NOT NULL DEFAULT 0, \"paused\"
        INTEGER NOT NULL DEFAULT 0, \"suspended\" INTEGER NOT NULL DEFAULT 0, \"sampled_out\" INTEGER NOT NULL
        DEFAULT 0, \"dropped\" INTEGER NOT NULL DEFAULT 0, \"not_mirrored\" INTEGER NOT NULL DEFAULT 0,
        \"primary_error\" INTEGER NOT NULL DEFAULT 0, \"nondeterministic\" INTEGER NOT NULL DEFAULT 0, \"race\"
        INTEGER NOT NULL DEFAULT 0, \"lag\" INTEGER NOT NULL DEFAULT 0, \"snapshot\" INTEGER NOT NULL DEFAULT 0,
        \"unstable_limit\" INTEGER NOT NULL DEFAULT 0, \"order_wait\" INTEGER NOT NULL DEFAULT 0,
        \"order_not_judged\" INTEGER NOT NULL DEFAULT 0, \"beyond_sample\" INTEGER NOT NULL DEFAULT 0, \"too_large\"
        INTEGER NOT NULL DEFAULT 0, \"tainted\" INTEGER NOT NULL DEFAULT 0, \"cursor\" INTEGER NOT NULL DEFAULT 0,
        \"charset\" INTEGER NOT NULL DEFAULT 0, \"database\" INTEGER NOT NULL DEFAULT 0, \"shadow_down\" INTEGER NOT
        NULL DEFAULT 0, \"internal\" INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE INDEX traffic_tables_seen ON traffic_tables (seen);
    CREATE TABLE traffic_hours (
        hour INTEGER PRIMARY KEY, seconds INTEGER NOT NULL DEFAULT 0,
        first_seen INTEGER, seen INTEGER NOT NULL DEFAULT 0, first_compared INTEGER, last_compared INTEGER,
        \"commands\" INTEGER NOT NULL DEFAULT 0, \"matched\" INTEGER NOT NULL DEFAULT 0, \"tolerated\" INTEGER NOT
        NULL DEFAULT 0, \"diverged\" INTEGER NOT NULL DEFAULT 0, \"off\" INTEGER NOT NULL DEFAULT 0, \"paused\"
        INTEGER NOT NULL DEFAULT 0, \"suspended\" INTEGER NOT NULL DEFAULT 0, \"sampled_out\" INTEGER NOT NULL
        DEFAULT 0, \"dropped\" INTEGER NOT NULL DEFAULT 0, \"not_mirrored\" INTEGER NOT NULL DEFAULT 0,
        \"primary_error\" INTEGER NOT NULL DEFAULT 0, \"nondeterministic\" INTEGER NOT NULL DEFAULT 0, \"race\"
        INTEGER NOT NULL DEFAULT 0, \"lag\" INTEGER NOT NULL DEFAULT 0, \"snapshot\" INTEGER NOT NULL DEFAULT 0,
        \"unstable_limit\" INTEGER NOT NULL DEFAULT 0, \"order_wait\" INTEGER NOT NULL DEFAULT 0,
        \"order_not_judged\" INTEGER NOT NULL DEFAULT 0, \"beyond_sample\" INTEGER NOT NULL DEFAULT 0, \"too_large\"
        INTEGER NOT NULL DEFAULT 0, \"tainted\" INTEGER NOT NULL DEFAULT 0, \"cursor\" INTEGER NOT NULL DEFAULT 0,
        \"charset\" INTEGER NOT NULL DEFAULT 0, \"database\" INTEGER NOT NULL DEFAULT 0, \"shadow_down\" INTEGER NOT
        NULL DEFAULT 0, \"internal\" INTEGER NOT NULL DEFAULT 0
    );
",
    // How both servers run what diverged, once a shape and protocol.
    "
    CREATE TABLE plans (
        digest TEXT NOT NULL, protocol TEXT NOT NULL, at TEXT NOT NULL, class TEXT,
        primary_plan TEXT NOT NULL, shadow_plan TEXT NOT NULL, PRIMARY KEY (digest, protocol)
    ) WITHOUT ROWID;
",
    // What follows from a taint: the cause's text (null for a finding of its own), and the key of the
    // finding that it is, by which `cause_id` is found whichever of the two is written first.
    "
    ALTER TABLE findings ADD COLUMN cause TEXT;
    ALTER TABLE findings ADD COLUMN cause_key TEXT;
    CREATE INDEX findings_cause_key ON findings (cause_key) WHERE cause_key IS NOT NULL;
    ALTER TABLE taints ADD COLUMN cause_key TEXT;
",
    // How a rule ended, so that it gives back in steps (`ended` is 2 for one that is gone); what a
    // finding causes, without a look at all findings; our own records apart from the operators'.
    "
    ALTER TABLE rules ADD COLUMN ended_why TEXT;
    ALTER TABLE rules ADD COLUMN noted INTEGER NOT NULL DEFAULT 1;
    CREATE INDEX findings_cause_id ON findings (cause_id) WHERE cause_id IS NOT NULL;
    CREATE INDEX audit_ours ON audit (id) WHERE who = 'understudy';
    CREATE INDEX audit_theirs ON audit (id) WHERE who <> 'understudy';
",
    // Commands that were counted before verdicts were tallied stand apart: they are traffic, but
    // nothing is known of whether they were compared. And what was lost, by the hour.
    "
    ALTER TABLE traffic ADD COLUMN earlier INTEGER NOT NULL DEFAULT 0;
    UPDATE traffic SET earlier = max(0, commands - (
        \"matched\" + \"tolerated\" + \"diverged\" + \"off\" + \"paused\" + \"suspended\" + \"sampled_out\"
        + \"dropped\" + \"not_mirrored\" + \"primary_error\" + \"nondeterministic\" + \"race\" + \"lag\"
        + \"snapshot\" + \"unstable_limit\" + \"order_wait\" + \"order_not_judged\" + \"beyond_sample\"
        + \"too_large\" + \"tainted\" + \"cursor\" + \"charset\" + \"database\" + \"shadow_down\" + \"internal\"));
    UPDATE traffic SET commands = commands - earlier WHERE earlier > 0;
    ALTER TABLE traffic_hours ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
",
    // The cutovers and their steps; which server is primary stands in `meta` under `primary`.
    "
    CREATE TABLE cutovers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        from_server TEXT NOT NULL, to_server TEXT NOT NULL, who TEXT NOT NULL,
        dry_run INTEGER NOT NULL, is_back INTEGER NOT NULL, forced TEXT NOT NULL,
        started INTEGER NOT NULL, switched INTEGER, ended INTEGER,
        state TEXT NOT NULL, outcome TEXT, why TEXT, hold_us INTEGER, figures TEXT NOT NULL DEFAULT '{}'
    );
    CREATE INDEX cutovers_open ON cutovers (id) WHERE ended IS NULL;
    CREATE TABLE cutover_steps (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        cutover_id INTEGER NOT NULL, step TEXT NOT NULL, at INTEGER NOT NULL,
        took_us INTEGER, outcome TEXT, why TEXT
    );
    CREATE INDEX cutover_steps_cutover ON cutover_steps (cutover_id);
",
    // Verifications of data at rest: the runs, each table of each, and the rows that differ. A cursor
    // holds a key of the application's while its table is walked, and no longer.
    "
    CREATE TABLE verifications (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        primary_server TEXT NOT NULL, shadow_server TEXT NOT NULL, who TEXT NOT NULL, wish TEXT NOT NULL,
        started INTEGER NOT NULL, ended INTEGER, outcome TEXT, why TEXT,
        paused INTEGER NOT NULL DEFAULT 0, resumed INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE verification_tables (
        verification_id INTEGER NOT NULL, database TEXT NOT NULL, name TEXT NOT NULL,
        asked INTEGER NOT NULL, started INTEGER, ended INTEGER, outcome TEXT,
        rows_primary INTEGER, rows_shadow INTEGER, cursor TEXT, standing TEXT,
        PRIMARY KEY (verification_id, database, name)
    ) WITHOUT ROWID;
    CREATE TABLE verification_rows (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        verification_id INTEGER NOT NULL, database TEXT NOT NULL, name TEXT NOT NULL, item TEXT NOT NULL
    );
    CREATE INDEX verification_rows_table ON verification_rows (verification_id, database, name);
",
    // Repairs: each row of its own, from before it is run.
    "
    CREATE TABLE verification_repairs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        verification_id INTEGER NOT NULL, database TEXT NOT NULL, name TEXT NOT NULL,
        server TEXT NOT NULL, who TEXT NOT NULL, at INTEGER NOT NULL, how TEXT NOT NULL,
        columns TEXT NOT NULL, key TEXT, statement TEXT, outcome TEXT
    );
    CREATE INDEX verification_repairs_run ON verification_repairs (verification_id, database, name);
",
    // Between which servers a verification was, by more than their names; what it could not see; and whether it
    // was run without an understudy, which nobody goes on with.
    "
    ALTER TABLE verifications ADD COLUMN servers TEXT NOT NULL DEFAULT '';
    ALTER TABLE verifications ADD COLUMN identities TEXT;
    ALTER TABLE verifications ADD COLUMN unseen TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE verifications ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;
",
    // About how many rows each of the primary's tables had, those too that the run was not asked for.
    "ALTER TABLE verification_tables ADD COLUMN rows_about INTEGER;",
    // Of a run in snapshot mode: its instants, and for how long sessions were held for each.
    "
    ALTER TABLE verifications ADD COLUMN instants TEXT;
",
    // What was asked of the admin that would change something, and how it was answered.
    "
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL, who TEXT, said TEXT, address TEXT NOT NULL,
        what TEXT NOT NULL, body TEXT NOT NULL, status INTEGER
    );
    CREATE INDEX requests_nobodys ON requests (id) WHERE (who IS NULL OR status IS 403);
    CREATE INDEX requests_somebodys ON requests (id) WHERE who IS NOT NULL AND status IS NOT 403;
",
    // When a table was tainted last: null where only the first time is known.
    "ALTER TABLE taints ADD COLUMN last TEXT;",
    // A run's condition as it was written, where the wish has it without values: for as long as the run is under way.
    "ALTER TABLE verifications ADD COLUMN condition TEXT;",
];

/// Brings the file to this version; an error if it is of a newer one. Two connections may do so at
/// once: each step looks again once it has the file for itself.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Unfit> {
    while !todo(connection)?.1.is_empty() {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (version, todo) = todo(&transaction)?;
        if let Some(script) = todo.first() {
            run(&transaction, script, version + 1)?;
        }
        transaction.commit()?;
    }
    Ok(())
}

/// Whether the file is one that [`migrate`] can bring to this version.
pub(super) fn fits(connection: &Connection) -> Result<(), Unfit> {
    todo(connection).map(drop)
}

/// The file's version, and what it still has to run.
fn todo(connection: &Connection) -> Result<(usize, &'static [&'static str]), Unfit> {
    let version: usize =
        connection.query_row("PRAGMA user_version", (), |row| row.get::<_, u32>(0))? as usize;
    let todo = MIGRATIONS.get(version..).ok_or(Unfit::Newer(version))?;
    Ok((version, todo))
}

fn run(transaction: &Transaction<'_>, script: &str, version: usize) -> rusqlite::Result<()> {
    transaction.execute_batch(script)?;
    transaction.execute_batch(&format!("PRAGMA user_version = {version}"))
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// It was written by a later version of understudy.
    #[error("it was written by a later version of understudy (its schema is {0})")]
    Newer(usize),
    /// SQLite says so.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as a version of so many scripts had it.
    fn older(scripts: usize) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        let transaction = connection.transaction().unwrap();
        for (step, script) in MIGRATIONS.iter().take(scripts).enumerate() {
            run(&transaction, script, step + 1).unwrap();
        }
        transaction.commit().unwrap();
        connection
    }

    fn traffic(connection: &Connection) -> Vec<(String, i64, i64)> {
        let ask = "SELECT digest, commands, earlier FROM traffic ORDER BY digest";
        let mut statement = connection.prepare(ask).unwrap();
        let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn commands_that_were_counted_before_verdicts_were_are_kept_apart() {
        let mut connection = older(3);
        connection
            .execute_batch(
                "INSERT INTO traffic (digest, protocol, commands) VALUES ('a', 'text', 40)",
            )
            .unwrap();
        let transaction = connection.transaction().unwrap();
        run(&transaction, MIGRATIONS[3], 4).unwrap();
        transaction.commit().unwrap();
        connection
            .execute_batch(
                "UPDATE traffic SET commands = commands + 3, matched = 2, race = 1;
                 INSERT INTO traffic (digest, protocol, commands, diverged) VALUES ('b', 'text', 5, 5)",
            )
            .unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(
            traffic(&connection),
            [("a".to_owned(), 3, 40), ("b".to_owned(), 5, 0)]
        );
    }

    #[test]
    fn every_version_of_the_file_becomes_this_one() {
        for scripts in 0..=MIGRATIONS.len() {
            migrate(&mut older(scripts)).unwrap();
        }
    }
}

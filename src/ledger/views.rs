//! The ledger as flat tables for people who ask in SQL: what the console shows.
//!
//! What stands in the file is a view, so that `findings` says what the API says; what is counted in
//! memory is written into tables of the reader's own, which end with its connection. A reader
//! opens the file read-only and has it open for one question.

use super::Ledger;
use super::file::open_reader;
use super::{findings, redact};
use crate::config::Literals;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Transaction, params};
use serde_json::Value;

/// Tables of the ledger's file that the views read.
pub const BASE_TABLES: [&str; 10] = [
    "findings",
    "divergences",
    "traffic",
    "traffic_tables",
    "audit",
    "requests",
    "plans",
    "cutovers",
    "cutover_steps",
    "verification_repairs",
];

/// A view's columns: names, and types as `DESCRIBE` tells them.
type Columns = &'static [(&'static str, &'static str)];

/// One table of the console.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Its name.
    pub name: &'static str,
    /// Its columns and their types.
    pub columns: Columns,
    /// What it shows, for people.
    pub about: &'static str,
}

/// Every table of the console, in reading order.
pub const VIEWS: [View; 12] = [
    View {
        name: "findings",
        about: "divergences rolled up by statement, kind and protocol, with impact and triage",
        columns: &[
            ("id", "bigint"),
            ("kind", "text"),
            ("state", "text"),
            ("impact", "double"),
            ("count", "bigint"),
            ("commands", "bigint"),
            ("fingerprint", "text"),
            ("digest", "text"),
            ("protocol", "text"),
            ("class", "text"),
            ("tables", "text"),
            ("first_seen", "text"),
            ("last_seen", "text"),
            ("follows", "bigint"),
            ("cause_id", "bigint"),
            ("cause", "text"),
            ("plan_class", "text"),
            ("rule", "text"),
            ("expired", "bigint"),
            ("who", "text"),
            ("why", "text"),
            ("until", "text"),
        ],
    },
    View {
        name: "divergences",
        about: "exchanges whose answers differed, with both sides' answers; what follows from a taint (follows = 1) was not compared",
        columns: &[
            ("id", "bigint"),
            ("at", "text"),
            ("kind", "text"),
            ("also", "text"),
            ("finding_id", "bigint"),
            ("follows", "bigint"),
            ("fingerprint", "text"),
            ("digest", "text"),
            ("protocol", "text"),
            ("class", "text"),
            ("user", "text"),
            ("database", "text"),
            ("tables", "text"),
            ("statement", "text"),
            ("detail", "text"),
            ("cause", "text"),
            ("advice", "text"),
            ("primary_server", "text"),
            ("primary_rows", "bigint"),
            ("primary_affected_rows", "bigint"),
            ("primary_error_code", "bigint"),
            ("primary_error", "text"),
            ("primary_latency_us", "bigint"),
            ("shadow_server", "text"),
            ("shadow_rows", "bigint"),
            ("shadow_affected_rows", "bigint"),
            ("shadow_error_code", "bigint"),
            ("shadow_error", "text"),
            ("shadow_latency_us", "bigint"),
            ("examples", "text"),
            ("session", "text"),
        ],
    },
    View {
        name: "latency",
        about: "both servers' times in microseconds since the start, by statement; fingerprint NULL: all of the class together",
        columns: &[
            ("fingerprint", "text"),
            ("protocol", "text"),
            ("class", "text"),
            ("server", "text"),
            ("count", "bigint"),
            ("p50_us", "bigint"),
            ("p90_us", "bigint"),
            ("p99_us", "bigint"),
            ("p999_us", "bigint"),
            ("max_us", "bigint"),
            ("first_byte_p50_us", "bigint"),
            ("first_byte_p90_us", "bigint"),
            ("first_byte_p99_us", "bigint"),
            ("first_byte_p999_us", "bigint"),
            ("first_byte_max_us", "bigint"),
        ],
    },
    View {
        name: "coverage",
        about: "what became of all commands since the start; a tolerated command counts in each of its tolerances",
        columns: &[
            ("verdict", "text"),
            ("reason", "text"),
            ("commands", "bigint"),
            ("share", "double"),
        ],
    },
    View {
        name: "coverage_by_fingerprint",
        about: "what became of each statement's commands since the ledger's file was made",
        columns: &[
            ("fingerprint", "text"),
            ("digest", "text"),
            ("protocol", "text"),
            ("class", "text"),
            ("commands", "bigint"),
            ("compared", "bigint"),
            ("matched", "bigint"),
            ("tolerated", "bigint"),
            ("diverged", "bigint"),
            ("race", "bigint"),
            ("tainted", "bigint"),
            ("first_seen", "text"),
            ("last_seen", "text"),
            ("last_compared", "text"),
        ],
    },
    View {
        name: "coverage_by_table",
        about: "the same by table",
        columns: &[
            ("table_name", "text"),
            ("commands", "bigint"),
            ("compared", "bigint"),
            ("matched", "bigint"),
            ("tolerated", "bigint"),
            ("diverged", "bigint"),
            ("race", "bigint"),
            ("tainted", "bigint"),
            ("first_seen", "text"),
            ("last_seen", "text"),
            ("last_compared", "text"),
        ],
    },
    View {
        name: "rules",
        about: "what operators have judged beforehand, and what each rule took",
        columns: &[
            ("id", "bigint"),
            ("name", "text"),
            ("source", "text"),
            ("fingerprint", "text"),
            ("table_name", "text"),
            ("kind", "text"),
            ("column_name", "text"),
            ("state", "text"),
            ("who", "text"),
            ("why", "text"),
            ("until", "text"),
            ("hits", "bigint"),
            ("last_hit", "text"),
            ("findings", "bigint"),
            ("expired", "bigint"),
            ("stale", "bigint"),
            ("why_stale", "text"),
        ],
    },
    View {
        name: "taints",
        about: "tables that may hold other rows on the shadow, and why",
        columns: &[
            ("name", "text"),
            ("database", "text"),
            ("table_name", "text"),
            ("cause", "text"),
            ("since", "text"),
        ],
    },
    View {
        name: "audit",
        about: "what was asked for by operators and how it was answered (source request), and what was changed and why (source record)",
        columns: &[
            ("id", "bigint"),
            ("at", "text"),
            ("who", "text"),
            ("what", "text"),
            ("why", "text"),
            ("said", "text"),
            ("address", "text"),
            ("body", "text"),
            ("status", "bigint"),
            ("source", "text"),
        ],
    },
    View {
        name: "repairs",
        about: "each row that a verification wrote to the shadow; without an outcome it is not known whether it did",
        columns: &[
            ("id", "bigint"),
            ("verification_id", "bigint"),
            ("at", "text"),
            ("who", "text"),
            ("server", "text"),
            ("database", "text"),
            ("name", "text"),
            ("how", "text"),
            ("columns_set", "text"),
            ("row_key", "text"),
            ("statement", "text"),
            ("outcome", "text"),
        ],
    },
    View {
        name: "cutovers",
        about: "every cutover and rollback, how it ended, and how long transactions waited",
        columns: &[
            ("id", "bigint"),
            ("from_server", "text"),
            ("to_server", "text"),
            ("who", "text"),
            ("dry_run", "bigint"),
            ("is_back", "bigint"),
            ("forced", "text"),
            ("started", "text"),
            ("switched", "text"),
            ("ended", "text"),
            ("state", "text"),
            ("outcome", "text"),
            ("why", "text"),
            ("hold_us", "bigint"),
            ("figures", "text"),
        ],
    },
    View {
        name: "cutover_steps",
        about: "the steps of each cutover",
        columns: &[
            ("cutover_id", "bigint"),
            ("step", "text"),
            ("at", "text"),
            ("took_us", "bigint"),
            ("outcome", "text"),
            ("why", "text"),
        ],
    },
];

impl Ledger {
    /// A connection that reads the ledger's file and has every table of [`VIEWS`]; those that are
    /// counted in memory are filled where `wanted` says so. For one question, off the runtime's
    /// threads.
    ///
    /// # Errors
    /// The file cannot be read, or there is none.
    pub fn views(&self, wanted: impl Fn(&str) -> bool) -> Result<Connection, String> {
        let Some(store) = &self.inner.store else {
            return Err("this ledger has no file".to_owned());
        };
        if wanted("coverage_by") {
            store.store_tallies();
        } else {
            self.refresh();
        }
        let path = store.path();
        let mut connection = open_reader(path).map_err(|fault| fault.to_string())?;
        let kept = if wanted("rules") {
            self.rules()?
        } else {
            Vec::new()
        };
        self.prepare(&mut connection, wanted, &kept)
            .map_err(|fault| fault.to_string())?;
        Ok(connection)
    }

    fn prepare(
        &self,
        connection: &mut Connection,
        wanted: impl Fn(&str) -> bool,
        kept: &[Value],
    ) -> rusqlite::Result<()> {
        connection.execute_batch("PRAGMA temp_store = MEMORY")?;
        register_redacted(connection, self.inner.literals)?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(&views())?;
        if wanted("latency") {
            latency(&transaction, &self.latency(None), false)?;
            latency(&transaction, &self.latency_by_class(), true)?;
        }
        if wanted("coverage") {
            self.fill_coverage(&transaction)?;
        }
        rules(&transaction, kept)?;
        if wanted("taints") {
            self.fill_taints(&transaction)?;
        }
        transaction.commit()
    }

    fn fill_coverage(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let now = self.coverage();
        let mut rows = vec![
            ("matched", None, now.matched),
            ("tolerated", None, now.tolerated),
        ];
        rows.extend(
            now.by_tolerance
                .iter()
                .map(|(name, n)| ("tolerated", Some(*name), *n)),
        );
        rows.push(("diverged", None, now.diverged));
        rows.extend(
            now.not_compared
                .iter()
                .map(|(reason, n)| ("not_compared", Some(*reason), *n)),
        );
        rows.push(("pending", None, now.pending));
        let mut insert = transaction.prepare(
            "INSERT INTO temp.coverage VALUES (?1, ?2, ?3, round(CAST(?3 AS REAL) / max(1, ?4), 6))",
        )?;
        for (verdict, reason, n) in rows {
            insert.execute(params![verdict, reason, count(n), count(now.commands)])?;
        }
        Ok(())
    }

    fn fill_taints(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut insert =
            transaction.prepare("INSERT INTO temp.taints VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for taint in self.taints() {
            insert.execute(params![
                taint.name(),
                taint.database,
                taint.table,
                taint.cause.text,
                taint.since.to_string()
            ])?;
        }
        Ok(())
    }
}

/// `redacted(item)` for [`views`]: an item of the file without the literals that it may have been
/// stored with, where the config says so now.
fn register_redacted(connection: &Connection, literals: Literals) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("redacted", 1, flags, move |context| {
        let item = context.get_raw(0).as_str().unwrap_or_default();
        if literals == Literals::Keep {
            return Ok(item.to_owned());
        }
        let mut item = serde_json::from_str(item).unwrap_or(Value::Null);
        redact::again(&mut item);
        Ok(item.to_string())
    })
}

/// One row a server. Of a class altogether where `all`: its fingerprint is null; and what is left of
/// a class beside the fingerprints that are kept apart is named `other`.
fn latency(transaction: &Transaction<'_>, items: &[Value], all: bool) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare(
        "INSERT INTO temp.latency VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    for item in items {
        let text = |key: &str| item.get(key).and_then(Value::as_str);
        let fingerprint = match text("fingerprint") {
            None if !all => Some("other"),
            known => known,
        };
        let servers = item.as_object().into_iter().flatten();
        let servers =
            servers.filter(|(_, figures)| figures.get("first_byte").is_some_and(Value::is_object));
        for (server, figures) in servers {
            let number = |of: &Value, key: &str| of.get(key).and_then(Value::as_i64);
            let first = figures.get("first_byte").unwrap_or(&Value::Null);
            insert.execute(params![
                fingerprint,
                text("protocol"),
                text("class"),
                server,
                number(figures, "count"),
                number(figures, "p50"),
                number(figures, "p90"),
                number(figures, "p99"),
                number(figures, "p999"),
                number(figures, "max"),
                number(first, "p50"),
                number(first, "p90"),
                number(first, "p99"),
                number(first, "p999"),
                number(first, "max"),
            ])?;
        }
    }
    Ok(())
}

/// The items of the API, flat.
fn rules(transaction: &Transaction<'_>, items: &[Value]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare(
        "INSERT INTO temp.rules SELECT ?1 ->> 'id', ?1 ->> 'name', ?1 ->> 'from', ?1 ->> 'fingerprint', ?1 ->> 'table',
           ?1 ->> 'kind', ?1 ->> 'column', ?1 ->> 'state', ?1 ->> 'who', ?1 ->> 'why', ?1 ->> 'until', ?1 ->> 'hits',
           ?1 ->> 'last_hit', ?1 ->> 'findings', ?1 ->> 'expired', ?1 ->> 'stale', ?1 ->> 'why_stale'",
    )?;
    for item in items {
        insert.execute([item.to_string()])?;
    }
    Ok(())
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A time in µs as the API writes it, with six digits of its second, so that texts sort as times.
fn time(column: &str) -> String {
    format!(
        "strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch') || printf('.%06dZ', {column} % 1000000)"
    )
}

/// What makes the views, and the empty tables of what is counted in memory.
fn views() -> String {
    let mut script = String::new();
    for view in &VIEWS {
        let names: Vec<String> = view
            .columns
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let names = names.join(", ");
        let name = view.name;
        let text = match selected(name) {
            Some(select) => format!("CREATE TEMP VIEW {name} ({names}) AS {select};\n"),
            None => format!("CREATE TEMP TABLE {name} ({names});\n"),
        };
        script.push_str(&text);
    }
    script
}

/// What a view selects, in the order of its columns; `None` for what is counted in memory.
fn selected(view: &str) -> Option<String> {
    match view {
        "findings" => Some(format!(
            "SELECT id, kind, state, round(impact, 3), count, commands, fingerprint, digest, protocol, class,
                    tables, {}, {}, cause IS NOT NULL, cause_id,
                    coalesce(cause, (SELECT d.item ->> '$.cause.text' FROM main.divergences d
                                     WHERE d.finding_id = b.id ORDER BY d.id DESC LIMIT 1)),
                    (SELECT p.class FROM main.plans p WHERE p.digest = b.digest AND p.protocol = b.protocol),
                    nullif(rule, ''), expired, who, why, until FROM ({}) AS b",
            time("first_seen"),
            time("last_seen"),
            findings::BASE
        )),
        "divergences" => Some(format!(
            "SELECT id, item ->> 'at', kind, item ->> 'also', finding_id, coalesce(item ->> 'follows', 0), fingerprint, digest, item ->> 'protocol',
                    item ->> 'class', item ->> 'user', item ->> 'database', tables, item ->> 'statement',
                    item ->> 'detail', item ->> '$.cause.text', item ->> '$.cause.advice', {}, {},
                    item ->> 'examples', item ->> 'session'
             FROM (SELECT id, kind, finding_id, fingerprint, digest, tables, redacted(item) AS item
                   FROM main.divergences LIMIT -1)",
            side("primary"),
            side("shadow")
        )),
        "coverage_by_fingerprint" => Some(format!(
            "SELECT fingerprint, digest, protocol, class, {} FROM main.traffic",
            tallied()
        )),
        "coverage_by_table" => Some(format!(
            "SELECT name, {} FROM main.traffic_tables",
            tallied()
        )),
        // Each has numbers of its own.
        "audit" => Some(format!(
            "SELECT id, at, who, what, why, NULL, NULL, NULL, NULL, 'record' FROM main.audit
             UNION ALL SELECT id, {}, who, what, NULL, said, address, body, status, 'request' FROM main.requests",
            time("at")
        )),
        "cutovers" => Some(format!(
            "SELECT id, from_server, to_server, who, dry_run, is_back, forced, {}, {}, {}, state, outcome, why, hold_us, figures FROM main.cutovers",
            time("started"),
            time("switched"),
            time("ended")
        )),
        "cutover_steps" => Some(format!(
            "SELECT cutover_id, step, {}, took_us, outcome, why FROM main.cutover_steps ORDER BY id",
            time("at")
        )),
        "repairs" => Some(format!(
            "SELECT id, verification_id, {}, who, server, database, name, how, columns, key, statement, outcome FROM main.verification_repairs",
            time("at")
        )),
        _ => None,
    }
}

/// What tallies have in common.
fn tallied() -> String {
    format!(
        "commands, matched + tolerated + diverged, matched, tolerated, diverged, race, tainted, {}, {}, {}",
        time("first_seen"),
        time("seen"),
        time("last_compared")
    )
}

fn side(side: &str) -> String {
    [
        "server",
        "rows",
        "affected_rows",
        "error.code",
        "error.message",
        "latency_us",
    ]
    .map(|field| format!("item ->> '$.{side}.{field}'"))
    .join(", ")
}

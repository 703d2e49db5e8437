//! What the writer writes: one transaction a batch.

use super::redact::Entry;
use super::store::{Known, Message};
use super::taints::Taint;
use crate::config;
use crate::sql::Table;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Value, json};

/// Rows that one batch prunes at most, so that no write takes long.
const PRUNE_STEP: u32 = 500;

/// Messages that are written together, or together not.
pub(super) struct Batch {
    messages: Vec<Message>,
}

impl Batch {
    pub(super) fn new(kept: Vec<Message>, fresh: Vec<Message>) -> Self {
        let mut messages = kept;
        messages.extend(fresh);
        Self { messages }
    }

    pub(super) fn divergences(&self) -> u64 {
        let divergences = self.messages.iter();
        divergences
            .filter(|message| matches!(message, Message::Divergence(_)))
            .count() as u64
    }

    /// Tells those who wait that nothing was written. Those whose change was made were told when
    /// it was.
    pub(super) fn answer(&mut self, result: &Result<(), String>) {
        if let Err(fault) = result {
            for message in &self.messages {
                if let Message::Patch { reply, .. } = message {
                    let _waiting = reply.try_send(Err(fault.clone()));
                }
            }
        }
    }

    /// What must be written some day: the newest, at most so many.
    pub(super) fn into_lasting(self, most: usize) -> Vec<Message> {
        let lasting =
            |message: &Message| !matches!(message, Message::Divergence(_) | Message::Patch { .. });
        let mut kept: Vec<Message> = self.messages.into_iter().filter(lasting).collect();
        let surplus = kept.len().saturating_sub(most);
        kept.drain(..surplus);
        kept
    }
}

/// Reads what the file knows; after a stop without its mark, every table that the mirror ever
/// wrote is tainted. The mark is taken away until [`end`].
pub(super) fn begin(connection: &mut Connection) -> rusqlite::Result<Known> {
    let transaction = connection.transaction()?;
    let clean: Option<String> = transaction
        .query_row("SELECT value FROM meta WHERE key = 'clean'", (), |row| {
            row.get(0)
        })
        .optional()?;
    if clean.as_deref() == Some("0") {
        let since = jiff::Timestamp::now().to_string();
        transaction.execute(
            "INSERT OR IGNORE INTO taints (database, name, cause, since)
             SELECT database, name, 'gap: understudy ended without a clean stop, queued dark writes may be lost', ?1
             FROM mirrored_tables",
            [since],
        )?;
    }
    transaction.execute("INSERT OR REPLACE INTO meta VALUES ('clean', '0')", ())?;
    let known = Known {
        taints: taints(&transaction)?,
        mirrored: mirrored(&transaction)?,
    };
    transaction.commit()?;
    Ok(known)
}

/// Sets the mark of a clean stop.
pub(super) fn end(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA synchronous = FULL; INSERT OR REPLACE INTO meta VALUES ('clean', '1')",
    )
}

fn taints(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<Taint>> {
    let mut statement = transaction.prepare("SELECT database, name, cause, since FROM taints")?;
    let rows = statement.query_map((), |row| {
        let since: String = row.get(3)?;
        Ok(Taint {
            database: named(row.get(0)?),
            table: row.get(1)?,
            cause: row.get(2)?,
            since: since.parse().unwrap_or(jiff::Timestamp::UNIX_EPOCH),
        })
    })?;
    rows.collect()
}

fn mirrored(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<Table>> {
    let mut statement = transaction.prepare("SELECT database, name FROM mirrored_tables")?;
    let rows = statement.query_map((), |row| {
        Ok(Table {
            database: named(row.get(0)?),
            name: row.get(1)?,
        })
    })?;
    rows.collect()
}

fn named(database: String) -> Option<String> {
    (!database.is_empty()).then_some(database)
}

/// Writes a batch; returns the log's lines. With taints in it the batch is on the disk when this
/// returns.
pub(super) fn batch(
    connection: &mut Connection,
    batch: &Batch,
    limits: &config::Ledger,
) -> rusqlite::Result<Vec<String>> {
    let lasting = batch.messages.iter();
    let full = lasting
        .filter(|message| !matches!(message, Message::Divergence(_) | Message::Traffic(_)))
        .count()
        > 0;
    connection.execute_batch(if full {
        "PRAGMA synchronous = FULL"
    } else {
        "PRAGMA synchronous = NORMAL"
    })?;
    let transaction = connection.transaction()?;
    let mut lines = Vec::new();
    let mut replies = Vec::new();
    for message in &batch.messages {
        match message {
            Message::Divergence(entry) => lines.push(divergence(&transaction, entry)?),
            Message::Taint(taints) => taint(&transaction, taints)?,
            Message::Cleared { tables, who, why } => clear(&transaction, tables, who, why)?,
            Message::Wrote(tables) => wrote(&transaction, tables)?,
            Message::Traffic(counts) => traffic(&transaction, counts)?,
            Message::Patch { id, patch, reply } => {
                replies.push((reply, super::findings::patch(&transaction, *id, patch)?));
            }
            Message::Close | Message::Abandon => {}
            #[cfg(test)]
            Message::Limit(pages) => {
                transaction.execute_batch(&format!("PRAGMA max_page_count = {pages}"))?;
            }
        }
    }
    prune(&transaction, limits)?;
    transaction.commit()?;
    for (reply, found) in replies {
        let _waiting = reply.try_send(Ok(found));
    }
    Ok(lines)
}

fn divergence(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<String> {
    let digest = format!("{:016x}", entry.digest);
    let at = entry.at.as_microsecond();
    let tables = json!(entry.tables).to_string();
    let finding: i64 = transaction
        .prepare_cached(
            "INSERT INTO findings (digest, kind, protocol, fingerprint, tables, count, first_seen, last_seen)
             VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?6)
             ON CONFLICT (digest, kind, protocol) DO UPDATE SET
               count = count + 1, last_seen = max(last_seen, ?6),
               state = CASE state WHEN 'fixed' THEN 'regressed' ELSE state END
             RETURNING id",
        )?
        .query_row(
            params![digest, entry.kind, entry.protocol, entry.fingerprint, tables, at],
            |row| row.get(0),
        )?;
    transaction
        .prepare_cached(
            "INSERT INTO divergences (at, kind, digest, fingerprint, tables, finding_id, item)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            at,
            entry.kind,
            digest,
            entry.fingerprint,
            tables,
            finding,
            entry.item.to_string()
        ])?;
    let mut line = with_ids(&entry.item, transaction.last_insert_rowid(), finding).to_string();
    line.push('\n');
    Ok(line)
}

/// An item of the API: the stored one with its ids.
pub(super) fn with_ids(item: &Value, id: i64, finding: i64) -> Value {
    let mut item = item.clone();
    if let Some(fields) = item.as_object_mut() {
        fields.insert("id".into(), json!(id));
        fields.insert("finding_id".into(), json!(finding));
    }
    item
}

fn taint(transaction: &Transaction<'_>, taints: &[Taint]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR IGNORE INTO taints (database, name, cause, since) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for taint in taints {
        let database = taint.database.as_deref().unwrap_or_default();
        statement.execute(params![
            database,
            taint.table,
            taint.cause,
            taint.since.to_string()
        ])?;
    }
    Ok(())
}

fn clear(
    transaction: &Transaction<'_>,
    tables: &[Taint],
    who: &str,
    why: &str,
) -> rusqlite::Result<()> {
    for taint in tables {
        let database = taint.database.as_deref().unwrap_or_default();
        transaction.execute(
            "DELETE FROM taints WHERE database = ?1 AND name = ?2",
            params![database, taint.table],
        )?;
        transaction.execute(
            "INSERT INTO audit (at, who, what, why) VALUES (?1, ?2, ?3, ?4)",
            params![
                jiff::Timestamp::now().to_string(),
                who,
                format!("cleared the taint of {database}.{}", taint.table),
                why
            ],
        )?;
    }
    Ok(())
}

fn wrote(transaction: &Transaction<'_>, tables: &[Table]) -> rusqlite::Result<()> {
    let mut statement = transaction
        .prepare_cached("INSERT OR IGNORE INTO mirrored_tables (database, name) VALUES (?1, ?2)")?;
    for table in tables {
        statement.execute(params![
            table.database.as_deref().unwrap_or_default(),
            table.name
        ])?;
    }
    Ok(())
}

fn traffic(
    transaction: &Transaction<'_>,
    counts: &[(String, &'static str, u64)],
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO traffic (digest, protocol, commands) VALUES (?1, ?2, ?3)
         ON CONFLICT (digest, protocol) DO UPDATE SET commands = commands + ?3",
    )?;
    for (digest, protocol, commands) in counts {
        statement.execute(params![
            digest,
            protocol,
            i64::try_from(*commands).unwrap_or(i64::MAX)
        ])?;
    }
    Ok(())
}

/// Lets go of what is too old or too much, a step at a time.
fn prune(transaction: &Transaction<'_>, limits: &config::Ledger) -> rusqlite::Result<()> {
    let age = i64::try_from(limits.max_age.as_micros()).unwrap_or(i64::MAX);
    let oldest = jiff::Timestamp::now().as_microsecond().saturating_sub(age);
    let most = i64::try_from(limits.divergences_max).unwrap_or(i64::MAX);
    transaction
        .prepare_cached(
            "DELETE FROM divergences WHERE id IN (SELECT id FROM divergences WHERE at < ?1 ORDER BY at LIMIT ?2)",
        )?
        .execute(params![oldest, PRUNE_STEP])?;
    // Ids only grow, so the number of rows is at most the span of ids; counting is not needed.
    transaction
        .prepare_cached(
            "DELETE FROM divergences WHERE id <= (SELECT coalesce(max(id), 0) - ?1 FROM divergences)
             AND id < (SELECT coalesce(min(id), 0) + ?2 FROM divergences)",
        )?
        .execute(params![most, PRUNE_STEP])?;
    let most = i64::try_from(limits.findings_max).unwrap_or(i64::MAX);
    transaction
        .prepare_cached(
            "DELETE FROM findings WHERE id IN (
               SELECT id FROM findings ORDER BY last_seen DESC, id DESC LIMIT ?2 OFFSET ?1)",
        )?
        .execute(params![most, PRUNE_STEP])?;
    Ok(())
}

//! What the writer writes: one transaction a batch.

use super::file::Known;
use super::lasting::Unsaved;
use super::prune::prune;
use super::redact::Entry;
use super::store::Message;
use super::taints::{Clearance, Taint};
use super::traffic::Flush;
use crate::config;
use crate::sql::Table;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Messages that are written together, or together not.
pub(super) struct Batch {
    messages: Vec<Message>,
}

impl Batch {
    /// Changes that nobody waits for any more are left out.
    pub(super) fn new(mut messages: Vec<Message>) -> Self {
        messages.retain(|message| match message {
            Message::Patch { claim, .. } => claim.take(),
            _ => true,
        });
        Self { messages }
    }

    /// Nothing in it is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.messages
            .iter()
            .all(|message| matches!(message, Message::Wake | Message::Traffic))
    }

    pub(super) fn divergences(&self) -> u64 {
        let divergences = self.messages.iter();
        divergences
            .filter(|message| matches!(message, Message::Divergence(_)))
            .count() as u64
    }

    /// Tells those who wait that nothing was written.
    pub(super) fn refuse(&self, fault: &str) {
        for message in &self.messages {
            if let Message::Patch { reply, .. } = message {
                let _waiting = reply.try_send(Err(fault.to_owned()));
            }
        }
    }

    /// Whether it must be on the disk when it is written.
    fn is_urgent(&self) -> bool {
        self.messages
            .iter()
            .any(|message| matches!(message, Message::Patch { .. }))
    }
}

/// Reads what the file knows.
pub(super) fn known(connection: &mut Connection) -> rusqlite::Result<Known> {
    let transaction = connection.transaction()?;
    let clean: Option<String> = transaction
        .query_row("SELECT value FROM meta WHERE key = 'clean'", (), |row| {
            row.get(0)
        })
        .optional()?;
    Ok(Known {
        taints: taints(&transaction)?,
        mirrored: mirrored(&transaction)?,
        unclean: clean.as_deref() == Some("0"),
    })
}

/// Takes the mark of a clean stop away, until [`end`]: on the disk, before anything is mirrored.
pub(super) fn begin(connection: &Connection) -> rusqlite::Result<()> {
    mark(connection, '0')
}

/// Sets the mark of a clean stop.
pub(super) fn end(connection: &Connection) -> rusqlite::Result<()> {
    mark(connection, '1')
}

fn mark(connection: &Connection, clean: char) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL; INSERT OR REPLACE INTO meta VALUES ('clean', '{clean}')"
    ))
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

/// Writes a batch and what else the file lacks; returns the log's lines. With taints in it all of
/// it is on the disk when this returns. With limits, what is too much is let go.
pub(super) fn batch(
    connection: &mut Connection,
    batch: &Batch,
    unsaved: &Unsaved,
    limits: Option<&config::Ledger>,
) -> rusqlite::Result<Vec<String>> {
    connection.execute_batch(if unsaved.is_urgent() || batch.is_urgent() {
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
            Message::Patch {
                id, patch, reply, ..
            } => {
                replies.push((reply, super::findings::patch(&transaction, *id, patch)?));
            }
            Message::Wake | Message::Traffic | Message::Close | Message::Abandon => {}
            #[cfg(test)]
            Message::Limit(pages) => {
                transaction.execute_batch(&format!("PRAGMA max_page_count = {pages}"))?;
            }
        }
    }
    lasting(&transaction, unsaved)?;
    if let Some(limits) = limits {
        prune(&transaction, limits)?;
    }
    transaction.commit()?;
    for (reply, found) in replies {
        let _waiting = reply.try_send(Ok(found));
    }
    Ok(lines)
}

fn lasting(transaction: &Transaction<'_>, unsaved: &Unsaved) -> rusqlite::Result<()> {
    if let Some(change) = &unsaved.taints {
        transaction.execute("DELETE FROM taints", ())?;
        taint(transaction, &change.taints)?;
        for clearance in &change.cleared {
            record(transaction, clearance)?;
        }
    }
    wrote(transaction, &unsaved.wrote)?;
    traffic(transaction, &unsaved.traffic)
}

/// An item's bytes at most; with more its examples are left out.
const ITEM_BYTES_MAX: usize = 64 << 10;

/// A fingerprint's bytes at most; its digest is that of the whole.
const FINGERPRINT_BYTES_MAX: usize = 4 << 10;

/// A text, cut.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= FINGERPRINT_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let (kept, _) = text.split_at(text.floor_char_boundary(FINGERPRINT_BYTES_MAX));
    Cow::Owned(format!("{kept}…"))
}

/// What is stored of an item, bounded: the file holds very many.
fn bounded(entry: &Entry) -> Value {
    let mut item = entry.item.clone();
    let size = item.to_string().len();
    if let Some(fields) = item.as_object_mut() {
        fields.insert("fingerprint".into(), json!(cut(&entry.fingerprint)));
        if size > ITEM_BYTES_MAX {
            fields.insert("examples".into(), json!([]));
            fields.insert("examples_left_out".into(), json!(true));
        }
    }
    item
}

fn divergence(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<String> {
    let item = bounded(entry);
    let fingerprint = cut(&entry.fingerprint);
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
            params![digest, entry.kind, entry.protocol, fingerprint, tables, at],
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
            fingerprint,
            tables,
            finding,
            item.to_string()
        ])?;
    let mut line = with_ids(&item, transaction.last_insert_rowid(), finding).to_string();
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

fn record(transaction: &Transaction<'_>, clearance: &Clearance) -> rusqlite::Result<()> {
    transaction
        .execute(
            "INSERT INTO audit (at, who, what, why) VALUES (?1, ?2, ?3, ?4)",
            params![
                clearance.at.to_string(),
                clearance.who,
                clearance.what,
                clearance.why
            ],
        )
        .map(drop)
}

fn wrote(transaction: &Transaction<'_>, tables: &BTreeSet<Table>) -> rusqlite::Result<()> {
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

fn traffic(transaction: &Transaction<'_>, counts: &Flush) -> rusqlite::Result<()> {
    let now = jiff::Timestamp::now().as_microsecond();
    let mut statement = transaction.prepare_cached(
        "INSERT INTO traffic (digest, protocol, commands, seen) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (digest, protocol) DO UPDATE SET commands = commands + ?3, seen = ?4",
    )?;
    for ((digest, protocol), commands) in counts {
        statement.execute(params![
            format!("{digest:016x}"),
            protocol.name(),
            i64::try_from(*commands).unwrap_or(i64::MAX),
            now
        ])?;
    }
    Ok(())
}

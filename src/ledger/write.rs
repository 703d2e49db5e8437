//! What the writer writes: one transaction a batch.

use super::Changed;
use super::audited;
use super::cause::{Amended, Cause, Tally};
use super::file::Known;
use super::findings::{FOLLOWS, id_of};
use super::lasting::Unsaved;
use super::prune::{evicted, prune};
use super::redact::Entry;
use super::rulebook;
use super::rules::{Kept, Rules};
use super::store::{Change, Message};
use super::taints::{Clearance, Taint};
use super::tallies::kept::{self, cut};
use super::triage::{self, Noted, Word};
use crate::config;
use crate::sql::Table;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Messages that are written together, or together not.
pub(super) struct Batch {
    messages: Vec<Message>,
}

impl Batch {
    /// Changes that nobody waits for any more are left out.
    pub(super) fn new(mut messages: Vec<Message>) -> Self {
        messages.retain(|message| match message {
            Message::Change { claim, .. } => claim.take(),
            _ => true,
        });
        Self { messages }
    }

    /// Nothing in it is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.iter().all(|message| {
            matches!(
                message,
                Message::Wake | Message::Tallies(_) | Message::Followed
            )
        })
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
            if let Message::Change { reply, .. } = message {
                let _waiting = reply.try_send(Err(fault.to_owned()));
            }
        }
    }

    /// Whether it must be on the disk when it is written.
    fn is_urgent(&self) -> bool {
        self.messages
            .iter()
            .any(|message| matches!(message, Message::Change { .. }))
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
        evicted: evicted(&transaction)?,
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

/// Brings all that stands in the write-ahead log into the file, which is whole by itself then. Whether it is: not
/// where a reader still needs what stands there.
pub(super) fn fold(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| {
        row.get::<_, i64>(0).map(|busy| busy == 0)
    })
}

fn mark(connection: &Connection, clean: char) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL; INSERT OR REPLACE INTO meta VALUES ('clean', '{clean}')"
    ))
}

fn taints(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<Taint>> {
    let mut statement =
        transaction.prepare("SELECT database, name, cause, since, cause_key, last FROM taints")?;
    let rows = statement.query_map((), |row| {
        let (text, since): (String, String) = (row.get(2)?, row.get(3)?);
        let (key, last): (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
        let since = since.parse().unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Ok(Taint {
            database: named(row.get(0)?),
            table: row.get(1)?,
            cause: Cause {
                text: text.into(),
                finding: key.and_then(|key| key.parse().ok()),
            },
            since,
            last: last.and_then(|last| last.parse().ok()).unwrap_or(since),
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

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The divergence log's lines.
    pub(super) lines: Vec<String>,
    /// What the operators' log is told.
    pub(super) noted: Vec<Noted>,
    /// Rules that ended have more to give back.
    pub(super) gives_back: bool,
    /// Findings that were ever let go though an operator had to judge them; where it was looked at.
    pub(super) evicted: Option<u64>,
    /// What it is told that needs nobody's attention.
    pub(super) good: Vec<Noted>,
}

/// Writes a batch and what else the file lacks. With taints in it all of it is on the disk when
/// this returns. With limits, what is too much is let go, and what has an end is ended.
pub(super) fn batch(
    connection: &mut Connection,
    batch: &Batch,
    unsaved: &Unsaved,
    limits: Option<&config::Ledger>,
    rules: &mut Rules,
) -> rusqlite::Result<Written> {
    connection.execute_batch(if unsaved.is_urgent() || batch.is_urgent() {
        "PRAGMA synchronous = FULL"
    } else {
        "PRAGMA synchronous = NORMAL"
    })?;
    let transaction = connection.transaction()?;
    let mut written = Written::default();
    let mut replies = Vec::new();
    let mut anew = None;
    for message in &batch.messages {
        // What an operator just changed holds for what comes behind it.
        let rules = anew.as_ref().unwrap_or(rules);
        match message {
            Message::Divergence(entry) => divergence(&transaction, entry, rules, &mut written)?,
            Message::Look(look) => super::slow::kept(&transaction, look, rules, &mut written)?,
            Message::Plans(plans) => super::plans::write(&transaction, plans)?,
            Message::Change { change, reply, .. } => {
                replies.push((reply, changed(&transaction, change)?));
                if change.is_of_rules() {
                    written.gives_back = true;
                    anew = Some(rulebook::load(&transaction)?);
                }
            }
            Message::Wake
            | Message::Tallies(_)
            | Message::Followed
            | Message::Close
            | Message::Abandon => {}
            #[cfg(test)]
            Message::Limit(pages) => {
                transaction.execute_batch(&format!("PRAGMA max_page_count = {pages}"))?;
            }
        }
    }
    lasting(&transaction, unsaved, &mut written)?;
    if let Some(limits) = limits {
        let now = jiff::Timestamp::now();
        written.noted.extend(rulebook::expire(&transaction, now)?);
        written.noted.extend(triage::expire(&transaction, now)?);
        written.gives_back = rulebook::release(&transaction)?;
        // What is still to be given back is not let go as a rule's.
        if !written.gives_back {
            written.evicted = Some(prune(&transaction, limits)?);
        }
    }
    transaction.commit()?;
    if let Some(anew) = anew {
        *rules = anew;
    }
    for (reply, found) in replies {
        let _waiting = reply.try_send(Ok(found));
    }
    Ok(written)
}

fn changed(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<Changed<i64>> {
    match change {
        Change::Finding { id, patch } => triage::patch(transaction, *id, patch),
        Change::AddRule(rule) => rulebook::add(transaction, rule),
        Change::DeleteRule { id, who, why } => rulebook::delete(transaction, *id, who, why),
        Change::Audited(request) => audited::write(transaction, request).map(Changed::Done),
        Change::Note { who, what } => {
            triage::note(transaction, None, who, what, "")?;
            Ok(Changed::Done(0))
        }
    }
}

fn lasting(
    transaction: &Transaction<'_>,
    unsaved: &Unsaved,
    written: &mut Written,
) -> rusqlite::Result<()> {
    for amended in &unsaved.amended {
        if let Some(finding) = amend(transaction, amended)? {
            written.noted.push(triage::regress(transaction, finding)?);
        }
    }
    for tally in unsaved.followed.values() {
        let (finding, regressed) = follow_up(transaction, tally)?;
        if regressed {
            written.noted.push(triage::regress(transaction, finding)?);
        }
    }
    if let Some(change) = &unsaved.taints {
        transaction.execute("DELETE FROM taints", ())?;
        taint(transaction, &change.taints)?;
        for clearance in &change.cleared {
            record(transaction, clearance)?;
        }
    }
    wrote(transaction, &unsaved.wrote)?;
    kept::store(transaction, &unsaved.tallies)
}

/// An item's bytes at most; with more its examples are left out.
const ITEM_BYTES_MAX: usize = 64 << 10;

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

fn divergence(
    transaction: &Transaction<'_>,
    entry: &Entry,
    rules: &Rules,
    written: &mut Written,
) -> rusqlite::Result<()> {
    let mut item = bounded(entry);
    // What follows is no divergence that a rule could take.
    let taken = rules.take(entry, jiff::Timestamp::now());
    let taken = taken.filter(|_| entry.cause.is_none());
    if let (Some(kept), Some(fields)) = (taken, item.as_object_mut()) {
        fields.insert("rule".into(), json!(kept.rule.name));
        rulebook::hit(transaction, kept.id, entry.at)?;
    }
    let (finding, regressed) = match &entry.cause {
        None => finding(transaction, entry, taken)?,
        // What follows is counted elsewhere: this is an example of it.
        Some(cause) => {
            let example = Tally {
                cause: cause.clone(),
                count: 0,
                first: entry.at,
                last: entry.at,
                tables: BTreeSet::new(),
            };
            follow_up(transaction, &example)?
        }
    };
    if regressed {
        written.noted.push(triage::regress(transaction, finding)?);
    }
    transaction
        .prepare_cached(
            "INSERT INTO divergences (at, kind, digest, fingerprint, tables, finding_id, item)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            entry.at.as_microsecond(),
            entry.kind,
            format!("{:016x}", entry.digest),
            cut(&entry.fingerprint),
            json!(entry.tables).to_string(),
            finding,
            item.to_string()
        ])?;
    let mut line = with_ids(&item, transaction.last_insert_rowid(), finding).to_string();
    line.push('\n');
    written.lines.push(line);
    Ok(())
}

/// The finding that a divergence belongs to, and whether it had been fixed until now: then
/// [`triage::regress`] follows.
pub(super) fn finding(
    transaction: &Transaction<'_>,
    entry: &Entry,
    taken: Option<&Kept>,
) -> rusqlite::Result<(i64, bool)> {
    let digest = format!("{:016x}", entry.digest);
    let at = entry.at.as_microsecond();
    let rule = taken.map(|kept| &kept.rule);
    let name = rule.map_or("", |rule| rule.name.as_str());
    let known: Option<(i64, String)> = transaction
        .prepare_cached(
            "SELECT id, state FROM findings WHERE digest = ?1 AND kind = ?2 AND protocol = ?3 AND rule = ?4",
        )?
        .query_row(params![digest, entry.kind, entry.protocol, name], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    if let Some((id, state)) = known {
        let regressed = state == "fixed";
        transaction
            .prepare_cached(
                "UPDATE findings SET count = count + 1, last_seen = max(last_seen, ?2), class = ?3
                 WHERE id = ?1",
            )?
            .execute(params![id, at, entry.class])?;
        return Ok((id, regressed));
    }
    transaction
        .prepare_cached(
            "INSERT INTO findings (digest, kind, protocol, rule, fingerprint, tables, class, count, first_seen,
               last_seen, state, who, why, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            digest,
            entry.kind,
            entry.protocol,
            name,
            cut(&entry.fingerprint),
            json!(entry.tables).to_string(),
            entry.class,
            at,
            rule.map_or("open", |rule| rule.state.name()),
            rule.map(|rule| &rule.who),
            rule.map(|rule| &rule.why),
            rule.and_then(|rule| rule.until).map(|until| until.to_string()),
        ])?;
    let id = transaction.last_insert_rowid();
    // What follows from it may have been written before.
    let key = format!("{digest} {} {}", entry.kind, entry.protocol);
    transaction
        .prepare_cached("UPDATE findings SET cause_id = ?1 WHERE cause_key = ?2")?
        .execute(params![id, key])?;
    Ok((id, false))
}

/// Counts what followed from one cause, all of it in one finding; its id, and whether it had been
/// fixed until now: then [`triage::regress`] follows. It is told from the findings of divergences by its kind and by having a cause.
fn follow_up(transaction: &Transaction<'_>, tally: &Tally) -> rusqlite::Result<(i64, bool)> {
    let tables: Vec<String> = tally.tables.iter().map(super::redact::name).collect();
    let digest = format!("{:016x}", tally.cause.digest());
    let protocol = tally.cause.protocol().name();
    let state: Option<String> = transaction
        .prepare_cached(
            "SELECT state FROM findings
             WHERE digest = ?1 AND kind = ?2 AND protocol = ?3 AND rule = ''",
        )?
        .query_row(params![digest, FOLLOWS, protocol], |row| row.get(0))
        .optional()?;
    let regressed = tally.count > 0 && state.as_deref() == Some("fixed");
    let id = transaction
        .prepare_cached(
            "INSERT INTO findings (digest, kind, protocol, fingerprint, tables, count, first_seen,
               last_seen, cause, cause_key, cause_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?4, ?9, ?10)
             ON CONFLICT (digest, kind, protocol, rule) DO UPDATE SET
               count = count + ?6, last_seen = max(last_seen, ?8),
               tables = (SELECT json_group_array(value) FROM (
                 SELECT value FROM json_each(tables) UNION SELECT value FROM json_each(?5) LIMIT 50))
             RETURNING id",
        )?
        .query_row(
            params![
                digest,
                FOLLOWS,
                protocol,
                cut(&tally.cause.text),
                json!(tables).to_string(),
                i64::try_from(tally.count).unwrap_or(i64::MAX),
                tally.first.as_microsecond(),
                tally.last.as_microsecond(),
                tally.cause.finding.map(|key| key.to_string()),
                id_of(transaction, &tally.cause)?,
            ],
            |row| row.get(0),
        )?;
    Ok((id, regressed))
}

/// What is stored of what followed from one cause goes to another, if it began since then; the
/// other's finding, if that had been fixed until now.
fn amend(transaction: &Transaction<'_>, amended: &Amended) -> rusqlite::Result<Option<i64>> {
    let told = &amended.told;
    let stored: Option<(i64, Tally)> = transaction
        .prepare_cached(
            "SELECT id, count, first_seen, last_seen, tables FROM findings
             WHERE digest = ?1 AND kind = ?2 AND protocol = ?3 AND rule = '' AND first_seen >= ?4",
        )?
        .query_row(
            params![
                format!("{:016x}", told.digest()),
                FOLLOWS,
                told.protocol().name(),
                amended.since.as_microsecond()
            ],
            |row| {
                let time = |at: i64| jiff::Timestamp::from_microsecond(at).unwrap_or_default();
                let tables: String = row.get(4)?;
                let tables: Vec<String> = serde_json::from_str(&tables).unwrap_or_default();
                let tally = Tally {
                    cause: amended.cause.clone(),
                    count: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
                    first: time(row.get(2)?),
                    last: time(row.get(3)?),
                    tables: tables.iter().map(|name| table(name)).collect(),
                };
                Ok((row.get(0)?, tally))
            },
        )
        .optional()?;
    let Some((from, tally)) = stored else {
        return Ok(None);
    };
    let (into, regressed) = follow_up(transaction, &tally)?;
    for text in [
        "UPDATE divergences SET finding_id = ?2 WHERE finding_id = ?1",
        "UPDATE audit SET finding_id = ?2 WHERE finding_id = ?1",
    ] {
        transaction.prepare_cached(text)?.execute([from, into])?;
    }
    transaction
        .prepare_cached("DELETE FROM findings WHERE id = ?1")?
        .execute([from])?;
    Ok(regressed.then_some(into))
}

/// A table by its name in the API.
fn table(name: &str) -> Table {
    match name.split_once('.') {
        Some((database, name)) => Table {
            database: Some(database.to_owned()),
            name: name.to_owned(),
        },
        None => Table {
            database: None,
            name: name.to_owned(),
        },
    }
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
        "INSERT OR IGNORE INTO taints (database, name, cause, since, cause_key, last)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for taint in taints {
        let database = taint.database.as_deref().unwrap_or_default();
        statement.execute(params![
            database,
            taint.table,
            taint.cause.text,
            taint.since.to_string(),
            taint.cause.finding.map(|key| key.to_string()),
            taint.last.to_string()
        ])?;
    }
    Ok(())
}

fn record(transaction: &Transaction<'_>, clearance: &Clearance) -> rusqlite::Result<()> {
    let word = Word {
        who: Some(clearance.who.clone()),
        why: Some(clearance.why.clone()),
        ..Word::default()
    };
    for cause in &clearance.over {
        let digest = format!("{cause:016x}");
        let over: Vec<i64> = transaction
            .prepare_cached(
                "SELECT id FROM findings
                 WHERE digest = ?1 AND kind = ?2 AND state IN ('open', 'accepted', 'regressed')",
            )?
            .query_map(params![digest, FOLLOWS], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in over {
            triage::set(transaction, id, "fixed", &word)?;
        }
    }
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

//! A vtgate's sequences, taken past the keys that are there.
//!
//! The mirror writes the primary's keys into the shadow's rows, which takes an AUTO_INCREMENT along
//! but no sequence: once a vtgate is the primary, its sequence would give keys that are there, and
//! clients would see ER_DUP_ENTRY. Which sequence fills a column, vtgate says in the plan of an
//! INSERT, which is asked for and not run.

use super::shared::Shared;
use crate::ask::{AskError, Questions, Row};
use crate::connect::TlsError;
use crate::sql::sequence_in;
use std::collections::BTreeMap;

/// Tables with a generated key that are looked at, at most.
const TABLES_MAX: usize = 10_000;

/// Questions a second, at most, of each server.
const PER_SECOND: u32 = 200;

/// A table of the shadow's whose keys come from a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The database, by the primary's name for it.
    pub database: String,
    /// The table.
    pub table: String,
    /// The sequence, by vtgate's name for it.
    pub name: String,
    /// The greatest key that the primary's table has; 0 for none.
    pub key: u64,
    /// What the sequence would have given next.
    pub was: u64,
    /// What it gives next at the earliest.
    pub next: u64,
}

/// Why the sequences are not known to be past the keys.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    /// A server cannot be asked: there is no account of the proxy's own.
    #[error("{0} cannot be asked: it has no account of the proxy's own, set user and password")]
    Account(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A question was not answered.
    #[error("{what}: {why}")]
    Asked {
        /// What was asked about.
        what: String,
        /// Why there is no answer.
        why: AskError,
    },
    /// There are more tables than are looked at.
    #[error("more than {TABLES_MAX} tables have a generated key")]
    Many,
}

/// Takes each sequence of the shadow's past the primary's keys, by `ahead` at least; says where each
/// stands. None where the shadow is no vtgate. Safe to run again: each time takes a value of each.
pub(super) async fn advance(shared: &Shared, ahead: u64) -> Result<Vec<Sequence>, SequenceError> {
    let questions = |server| {
        Questions::new(&shared.dial, server, PER_SECOND)?
            .ok_or_else(|| SequenceError::Account(server.name.clone()))
    };
    let shadow = questions(&shared.server)?;
    let version = ask(&shadow, "its version", "SELECT @@version").await?;
    if !cell(version.first(), 0).is_some_and(|version| version.contains("Vitess")) {
        return Ok(Vec::new());
    }
    let primary = questions(&shared.primary_server)?;
    let mut sequences = Vec::new();
    for table in tables(&primary).await? {
        let database = &table.database;
        let mapped = shared.server.databases.get(database).unwrap_or(database);
        let Some(name) = sequence_of(&shadow, mapped, &table).await? else {
            continue;
        };
        sequences.push(past(&primary, &shadow, table, name, ahead).await?);
    }
    Ok(sequences)
}

/// A table with a generated key.
#[derive(Debug, Default)]
struct Table {
    database: String,
    name: String,
    key: String,
    others: Vec<String>,
}

async fn ask(questions: &Questions, what: &str, text: &str) -> Result<Vec<Row>, SequenceError> {
    let server = &questions.server().name;
    questions
        .ask(text)
        .await
        .map_err(|why| SequenceError::Asked {
            what: format!("{what}, of {server}"),
            why,
        })
}

fn cell(row: Option<&Row>, at: usize) -> Option<&str> {
    row?.get(at)?.as_deref()
}

async fn tables(primary: &Questions) -> Result<Vec<Table>, SequenceError> {
    let with_keys = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS \
         WHERE EXTRA LIKE '%auto_increment%' \
         AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') \
         LIMIT {}",
        TABLES_MAX + 1
    );
    let rows = ask(primary, "its generated keys", &with_keys).await?;
    if rows.len() > TABLES_MAX {
        return Err(SequenceError::Many);
    }
    let mut found = BTreeMap::new();
    for row in &rows {
        let at = |at| cell(Some(row), at).unwrap_or_default().to_owned();
        let table = Table {
            database: at(0),
            name: at(1),
            key: at(2),
            others: Vec::new(),
        };
        found.insert((at(0), at(1)), table);
    }
    for table in found.values_mut() {
        let columns = format!("SHOW COLUMNS FROM {}", place(&table.database, &table.name));
        let rows = ask(primary, &table.name, &columns).await?;
        let names = rows.iter().filter_map(|row| cell(Some(row), 0));
        let others = names.filter(|name| *name != table.key);
        table.others = others.map(str::to_owned).collect();
    }
    Ok(found.into_values().collect())
}

/// The sequence that fills the table's key on the vtgate, if one does.
async fn sequence_of(
    shadow: &Questions,
    database: &str,
    table: &Table,
) -> Result<Option<String>, SequenceError> {
    let columns: Vec<String> = table.others.iter().map(|name| quoted(name)).collect();
    let nulls = vec!["NULL"; columns.len()].join(", ");
    let plan = format!(
        "VEXPLAIN PLAN INSERT INTO {} ({}) VALUES ({nulls})",
        place(database, &table.name),
        columns.join(", ")
    );
    let rows = ask(shadow, &table.name, &plan).await?;
    Ok(cell(rows.first(), 0)
        .and_then(sequence_in)
        .map(str::to_owned))
}

/// One question more than it takes: another session may draw meanwhile.
async fn past(
    primary: &Questions,
    shadow: &Questions,
    table: Table,
    name: String,
    ahead: u64,
) -> Result<Sequence, SequenceError> {
    let greatest = format!(
        "SELECT MAX({}) FROM {}",
        quoted(&table.key),
        place(&table.database, &table.name)
    );
    let rows = ask(primary, &table.name, &greatest).await?;
    let key = number(&rows).unwrap_or(0);
    let was = draw(shadow, &name, 1).await?;
    let wanted = key.saturating_add(ahead);
    let mut next = was.saturating_add(1);
    if next <= wanted {
        let count = wanted - next + 1;
        next = draw(shadow, &name, count).await?.saturating_add(count);
    }
    Ok(Sequence {
        database: table.database,
        table: table.name,
        name,
        key,
        was,
        next,
    })
}

/// Draws so many values; the first of them.
async fn draw(shadow: &Questions, name: &str, count: u64) -> Result<u64, SequenceError> {
    let rows = ask(
        shadow,
        name,
        &format!("SELECT NEXT {count} VALUES FROM {name}"),
    )
    .await?;
    number(&rows).ok_or_else(|| SequenceError::Asked {
        what: name.to_owned(),
        why: AskError::Answer,
    })
}

fn number(rows: &[Row]) -> Option<u64> {
    cell(rows.first(), 0)?.parse().ok()
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn place(database: &str, table: &str) -> String {
    format!("{}.{}", quoted(database), quoted(table))
}

//! What happened lately, for people who come back to a screen: findings that are new, and what was said.

use super::findings::{BASE, COLUMNS, finding};
use rusqlite::{Connection, params};
use serde_json::{Value, json};

/// Findings, and lines of the audit, that are told at most.
const MOST: u32 = 50;

/// What is new, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent {
    /// Findings that were seen for the first time, in the API's shape.
    pub opened: Vec<Value>,
    /// What was said of findings, rules, taints and roles: `at`, `who`, `what`, `why`, `finding_id`.
    pub said: Vec<Value>,
}

/// Where the file stands: another value means that there is a new finding, or a new word on one.
pub type Mark = [i64; 2];

/// Since a moment.
pub(super) fn since(connection: &Connection, since: jiff::Timestamp) -> rusqlite::Result<Recent> {
    let text = format!(
        "SELECT {COLUMNS} FROM ({BASE}) AS b WHERE b.first_seen >= ?1 AND b.cause IS NULL
         ORDER BY b.first_seen DESC LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&text)?;
    let opened = statement.query_map(params![since.as_microsecond(), MOST], finding)?;
    let opened = opened.collect::<Result<_, _>>()?;
    let mut statement = connection.prepare_cached(
        "SELECT at, who, what, why, finding_id FROM audit ORDER BY id DESC LIMIT ?1",
    )?;
    let said = statement.query_map([MOST], |row| {
        let (at, who): (String, String) = (row.get(0)?, row.get(1)?);
        let (what, why): (String, String) = (row.get(2)?, row.get(3)?);
        let finding: Option<i64> = row.get(4)?;
        let is_new = at
            .parse::<jiff::Timestamp>()
            .is_ok_and(|then| then >= since);
        let item = json!({"at": at, "who": who, "what": what, "why": why, "finding_id": finding});
        Ok(is_new.then_some(item))
    })?;
    let said: Vec<Option<Value>> = said.collect::<Result<_, _>>()?;
    Ok(Recent {
        opened,
        said: said.into_iter().flatten().collect(),
    })
}

/// Two look-ups at the ends of indexes: cheap enough to be asked every second.
pub(super) fn mark(connection: &Connection) -> rusqlite::Result<Mark> {
    connection
        .prepare_cached(
            "SELECT (SELECT coalesce(max(id), 0) FROM main.findings), (SELECT coalesce(max(id), 0) FROM audit)",
        )?
        .query_row((), |row| Ok([row.get(0)?, row.get(1)?]))
}

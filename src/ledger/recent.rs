//! What happened lately, for people who come back to a screen: findings that are new, and what was said.

use super::findings::{BASE, COLUMNS, finding};
use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

/// Findings, and lines of the audit, that are told at most.
const MOST: u16 = 50;

/// What is new.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent {
    /// Findings that were seen for the first time, in the API's shape.
    pub opened: Vec<Value>,
    /// What was said of findings, rules, taints and roles: `at`, `who`, `what`, `why`, `finding_id`.
    pub said: Vec<Value>,
}

/// Where the file stands: another value means that there is a new finding, or a new word on one.
pub type Mark = [i64; 2];

/// What is new since a mark, oldest first, and the mark to ask from the next time. Of more than fit there is the
/// beginning; the rest comes with that mark.
pub(super) fn after(
    connection: &Connection,
    [finding, said]: Mark,
) -> rusqlite::Result<(Recent, Mark)> {
    // Before the lists are read: what is written meanwhile is in them, or comes the next time.
    let [last_finding, last_said] = mark(connection)?;
    let text = format!(
        "SELECT {COLUMNS} FROM ({BASE}) AS b WHERE b.id > ?1 AND b.cause IS NULL ORDER BY b.id LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&text)?;
    let opened = statement.query_map(params![finding, MOST], self::finding)?;
    let opened: Vec<Value> = opened.collect::<Result<_, _>>()?;
    let mut statement = connection.prepare_cached(
        "SELECT at, who, what, why, finding_id, id FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let words = statement.query_map(params![said, MOST], |row| Ok((word(row)?, row.get(5)?)))?;
    let words: Vec<(Value, i64)> = words.collect::<Result<_, _>>()?;
    let newest = opened.last().and_then(|one| one.get("id")?.as_i64());
    let next = [
        next(last_finding, newest, opened.len()),
        next(last_said, words.last().map(|(_, id)| *id), words.len()),
    ];
    let said = words.into_iter().map(|(word, _)| word).collect();
    Ok((Recent { opened, said }, next))
}

/// From where the next look goes on: behind what was read, and where that was all, behind what there was.
fn next(last: i64, read: Option<i64>, count: usize) -> i64 {
    match read {
        Some(read) if count >= usize::from(MOST) => read,
        read => last.max(read.unwrap_or(0)),
    }
}

/// What is new since a moment, newest first.
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
        let at: String = row.get(0)?;
        let is_new = at
            .parse::<jiff::Timestamp>()
            .is_ok_and(|then| then >= since);
        let word = word(row)?;
        Ok(is_new.then_some(word))
    })?;
    let said: Vec<Option<Value>> = said.collect::<Result<_, _>>()?;
    Ok(Recent {
        opened,
        said: said.into_iter().flatten().collect(),
    })
}

fn word(row: &Row<'_>) -> rusqlite::Result<Value> {
    let (at, who): (String, String) = (row.get(0)?, row.get(1)?);
    let (what, why): (String, String) = (row.get(2)?, row.get(3)?);
    let finding: Option<i64> = row.get(4)?;
    Ok(json!({"at": at, "who": who, "what": what, "why": why, "finding_id": finding}))
}

/// Two look-ups at the ends of indexes: cheap enough to be asked every second.
pub(super) fn mark(connection: &Connection) -> rusqlite::Result<Mark> {
    connection
        .prepare_cached(
            "SELECT (SELECT coalesce(max(id), 0) FROM main.findings), (SELECT coalesce(max(id), 0) FROM audit)",
        )?
        .query_row((), |row| Ok([row.get(0)?, row.get(1)?]))
}

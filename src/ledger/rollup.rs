//! Findings rolled up by fingerprint or by table, greatest impact first.

use super::findings::{BASE, Page, Where, bounded};
use super::triage::time;
use rusqlite::{Connection, Row, params_from_iter};
use serde_json::{Value, json};

/// By what findings are rolled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The statement's shape, both protocols together.
    Fingerprint,
    /// Each table that it names: a finding of two tables stands under both.
    Table,
}

/// The states, worst first.
const WORST_FIRST: [&str; 5] = ["regressed", "open", "accepted", "fixed", "noise"];

/// A page of the roll-up. The filter chooses findings, before they are rolled up.
pub(super) fn rollup(
    connection: &Connection,
    by: By,
    wanted: Where,
    limit: u32,
    before: Option<i64>,
) -> rusqlite::Result<Page> {
    let (key, from) = match by {
        By::Fingerprint => ("b.digest", ""),
        By::Table => ("j.value", ", json_each(b.tables) AS j"),
    };
    let limit = bounded(limit);
    let skip = before.unwrap_or(0).max(0);
    let state = |name: &str| format!("sum(state = '{name}')");
    let states = WORST_FIRST.map(state).join(", ");
    let sums = (1..=WORST_FIRST.len())
        .map(|at| format!("s{at}"))
        .collect::<Vec<_>>();
    let summed = sums
        .iter()
        .map(|one| format!("sum({one})"))
        .collect::<Vec<_>>();
    let named = sums.join(", ");
    // First by key and kind, for the numbers of each kind, then by key.
    let text = format!(
        "WITH kinds (key, kind, fingerprint, findings, count, impact, first_seen, last_seen, {named}) AS (
           SELECT {key}, b.kind, min(b.fingerprint), count(*), sum(b.count), sum(b.impact), min(b.first_seen),
             max(b.last_seen), {states}
           FROM ({BASE}) AS b{from} WHERE {} GROUP BY {key}, b.kind)
         SELECT key, min(fingerprint), sum(findings), sum(count), sum(impact) AS impact, min(first_seen),
           max(last_seen), json_group_object(kind, count),
           (SELECT sum(commands + earlier) FROM traffic WHERE digest = key), {}
         FROM kinds GROUP BY key ORDER BY impact DESC, key LIMIT {} OFFSET {skip}",
        wanted.text,
        summed.join(", "),
        limit + 1
    );
    let mut statement = connection.prepare_cached(&text)?;
    let rows = statement.query_map(params_from_iter(wanted.values), |row| item(row, by))?;
    let items: Vec<Value> = rows.collect::<Result<_, _>>()?;
    Ok(Page::skipped(items, skip, limit))
}

/// Columns before the states' numbers.
const STATES_FROM: usize = 9;

fn item(row: &Row<'_>, by: By) -> rusqlite::Result<Value> {
    let key: String = row.get(0)?;
    let kinds: String = row.get(7)?;
    let impact: f64 = row.get(4)?;
    let count: i64 = row.get(3)?;
    let mut states = serde_json::Map::new();
    for (at, state) in WORST_FIRST.into_iter().enumerate() {
        let number: i64 = row.get(STATES_FROM + at)?;
        if number > 0 {
            states.insert(state.to_owned(), json!(number));
        }
    }
    let worst = WORST_FIRST
        .iter()
        .find(|state| states.contains_key(**state));
    let mut item = json!({
        "state": worst,
        "states": states,
        "findings": row.get::<_, i64>(2)?,
        "count": count,
        "kinds": serde_json::from_str(&kinds).unwrap_or(Value::Null),
        "impact": (impact * 1000.0).round() / 1000.0,
        "first_seen": time(row.get(5)?),
        "last_seen": time(row.get(6)?),
    });
    if let Some(fields) = item.as_object_mut() {
        match by {
            By::Fingerprint => {
                let commands: Option<i64> = row.get(8)?;
                fields.insert("digest".into(), json!(key));
                fields.insert("fingerprint".into(), json!(row.get::<_, String>(1)?));
                fields.insert("commands".into(), json!(commands.unwrap_or(0).max(count)));
            }
            By::Table => {
                fields.insert("table".into(), json!(key));
            }
        }
    }
    Ok(item)
}

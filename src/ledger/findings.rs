//! Divergences and findings, as they are asked for and triaged.

use super::write::with_ids;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A page's items at most.
pub const LIMIT_MAX: u32 = 500;

/// The states of a finding.
pub const STATES: [&str; 5] = ["open", "accepted", "fixed", "regressed", "noise"];

/// Which divergences, newest first.
#[derive(Clone, Debug, Default)]
pub struct DivergenceFilter {
    /// Of this kind.
    pub kind: Option<String>,
    /// That touch this table: `table` or `database.table`.
    pub table: Option<String>,
    /// Of this fingerprint: its text, or 16 hexadecimal digits.
    pub fingerprint: Option<String>,
    /// Whose finding is in this state.
    pub state: Option<String>,
    /// At most so many; [`LIMIT_MAX`] if more.
    pub limit: u32,
    /// With a smaller id than this cursor.
    pub before: Option<i64>,
}

/// How findings are sorted, greatest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FindingSort {
    /// Share of traffic × weight of the kind.
    #[default]
    Impact,
    /// Number of divergences.
    Count,
    /// Seen last.
    LastSeen,
}

/// Which findings.
#[derive(Clone, Debug, Default)]
pub struct FindingFilter {
    /// This one.
    pub id: Option<i64>,
    /// In this state.
    pub state: Option<String>,
    /// The order.
    pub sort: FindingSort,
    /// At most so many; [`LIMIT_MAX`] if more.
    pub limit: u32,
    /// After so many in that order (a cursor of an earlier page).
    pub before: Option<i64>,
}

/// A change of a finding's triage.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingPatch {
    /// One of [`STATES`].
    pub state: Option<String>,
    /// Who says so.
    pub who: Option<String>,
    /// Why.
    pub why: Option<String>,
    /// Until when it is accepted, RFC 3339.
    pub until: Option<String>,
}

/// Some items, and the cursor of the next page.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Page {
    /// In the API's shape.
    pub items: Vec<Value>,
    /// For `before`; null on the last page.
    pub next: Option<i64>,
}

impl Page {
    fn of(mut items: Vec<(i64, Value)>, limit: u32) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        Self {
            next: items.last().map(|(cursor, _)| *cursor).filter(|_| more),
            items: items.into_iter().map(|(_, item)| item).collect(),
        }
    }
}

/// The filter's `limit`, within bounds.
fn bounded(limit: u32) -> u32 {
    limit.clamp(1, LIMIT_MAX)
}

struct Where {
    text: String,
    values: Vec<Sql>,
}

impl Where {
    fn and(&mut self, condition: &str, value: Option<impl Into<Sql>>) {
        if let Some(value) = value {
            self.values.push(value.into());
            let place = format!("?{}", self.values.len());
            self.text.push_str(" AND ");
            self.text.push_str(&condition.replace('@', &place));
        }
    }
}

/// A page of divergences.
pub(super) fn divergences(
    connection: &Connection,
    filter: &DivergenceFilter,
) -> rusqlite::Result<Page> {
    let mut wanted = Where {
        text: "1".to_owned(),
        values: Vec::new(),
    };
    wanted.and("d.kind = @", filter.kind.clone());
    wanted.and(
        "(d.digest = @ OR d.fingerprint = @)",
        filter.fingerprint.clone(),
    );
    wanted.and(
        "EXISTS (SELECT 1 FROM json_each(d.tables) WHERE value = @ OR substr(value, instr(value, '.') + 1) = @)",
        filter.table.clone(),
    );
    wanted.and(
        "EXISTS (SELECT 1 FROM findings f WHERE f.id = d.finding_id AND f.state = @)",
        filter.state.clone(),
    );
    wanted.and("d.id < @", filter.before);
    let limit = bounded(filter.limit);
    let text = format!(
        "SELECT d.id, d.finding_id, d.item FROM divergences d WHERE {} ORDER BY d.id DESC LIMIT {}",
        wanted.text,
        limit + 1
    );
    let mut statement = connection.prepare_cached(&text)?;
    let rows = statement.query_map(params_from_iter(wanted.values), stored)?;
    Ok(Page::of(rows.collect::<Result<_, _>>()?, limit))
}

/// One divergence, whole.
pub(super) fn divergence(connection: &Connection, id: i64) -> rusqlite::Result<Option<Value>> {
    connection
        .query_row(
            "SELECT id, finding_id, item FROM divergences WHERE id = ?1",
            [id],
            stored,
        )
        .optional()
        .map(|found| found.map(|(_, item)| item))
}

fn stored(row: &Row<'_>) -> rusqlite::Result<(i64, Value)> {
    let (id, finding, item): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let item = serde_json::from_str(&item).unwrap_or(Value::Null);
    Ok((id, with_ids(&item, id, finding)))
}

/// How much a divergence of a kind matters beside others: what fails counts most, what is slower
/// least. Impact = share of all commands that diverged so (in percent) × this weight.
const WEIGHTS: &str = "CASE kind
    WHEN 'unsupported' THEN 10 WHEN 'error' THEN 10 WHEN 'shadow_limit' THEN 8
    WHEN 'value' THEN 8 WHEN 'rows' THEN 8 WHEN 'null' THEN 8 WHEN 'affected_rows' THEN 6
    WHEN 'order' THEN 4 WHEN 'columns' THEN 4 WHEN 'last_insert_id' THEN 4
    WHEN 'other_error' THEN 2 ELSE 1 END";

/// A finding is accepted until a time, and open again after it.
const STATE: &str =
    "CASE WHEN f.state = 'accepted' AND unixepoch(f.until, 'subsec') < unixepoch('now', 'subsec')
    THEN 'open' ELSE f.state END";

/// A page of findings.
pub(super) fn findings(connection: &Connection, filter: &FindingFilter) -> rusqlite::Result<Page> {
    let order = match filter.sort {
        FindingSort::Impact => "impact",
        FindingSort::Count => "count",
        FindingSort::LastSeen => "last_seen",
    };
    let mut wanted = Where {
        text: "1".to_owned(),
        values: Vec::new(),
    };
    wanted.and("state = @", filter.state.clone());
    wanted.and("id = @", filter.id);
    let limit = bounded(filter.limit);
    let skip = filter.before.unwrap_or(0).max(0);
    let text = format!(
        "SELECT id, kind, fingerprint, digest, protocol, tables, count, commands, first_seen, last_seen,
                state, impact, cause_id, who, why, until FROM (
           SELECT f.id, f.kind, f.fingerprint, f.digest, f.protocol, f.tables, f.count, f.first_seen, f.last_seen,
             f.cause_id, f.who, f.why, f.until, {STATE} AS state, max(coalesce(t.commands, 0), f.count) AS commands,
             100.0 * f.count / max(1, (SELECT coalesce(sum(commands), 0) FROM traffic), f.count) * {WEIGHTS} AS impact
           FROM findings f LEFT JOIN traffic t ON t.digest = f.digest AND t.protocol = f.protocol)
         WHERE {} ORDER BY {order} DESC, id DESC LIMIT {} OFFSET {skip}",
        wanted.text,
        limit + 1
    );
    let mut statement = connection.prepare_cached(&text)?;
    let rows = statement.query_map(params_from_iter(wanted.values), finding)?;
    let items: Vec<Value> = rows.collect::<Result<_, _>>()?;
    let numbered = items.into_iter().enumerate();
    let cursors = numbered.map(|(at, item)| {
        let passed = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1);
        (skip.saturating_add(passed), item)
    });
    Ok(Page::of(cursors.collect(), limit))
}

fn finding(row: &Row<'_>) -> rusqlite::Result<Value> {
    let time = |at: i64| {
        jiff::Timestamp::from_microsecond(at).map_or_else(|_| String::new(), |at| at.to_string())
    };
    let tables: String = row.get(5)?;
    let impact: f64 = row.get(11)?;
    Ok(json!({
        "id": row.get::<_, i64>(0)?,
        "kind": row.get::<_, String>(1)?,
        "fingerprint": row.get::<_, String>(2)?,
        "digest": row.get::<_, String>(3)?,
        "protocol": row.get::<_, String>(4)?,
        "tables": serde_json::from_str(&tables).unwrap_or(Value::Null),
        "count": row.get::<_, i64>(6)?,
        "commands": row.get::<_, i64>(7)?,
        "first_seen": time(row.get(8)?),
        "last_seen": time(row.get(9)?),
        "state": row.get::<_, String>(10)?,
        "impact": (impact * 1000.0).round() / 1000.0,
        "cause_id": row.get::<_, Option<i64>>(12)?,
        "who": row.get::<_, Option<String>>(13)?,
        "why": row.get::<_, Option<String>>(14)?,
        "until": row.get::<_, Option<String>>(15)?,
    }))
}

/// Changes a finding's triage; false if there is no such finding.
pub(super) fn patch(
    transaction: &Transaction<'_>,
    id: i64,
    patch: &FindingPatch,
) -> rusqlite::Result<bool> {
    let changed = transaction.execute(
        "UPDATE findings SET state = coalesce(?2, state), who = coalesce(?3, who),
           why = coalesce(?4, why), until = coalesce(?5, until) WHERE id = ?1",
        params![id, patch.state, patch.who, patch.why, patch.until],
    )?;
    if changed > 0 {
        transaction.execute(
            "INSERT INTO audit (at, who, what, why) VALUES (?1, ?2, ?3, ?4)",
            params![
                jiff::Timestamp::now().to_string(),
                patch.who.as_deref().unwrap_or("unknown"),
                format!(
                    "finding {id}: {}",
                    patch.state.as_deref().unwrap_or("changed")
                ),
                patch.why.as_deref().unwrap_or_default()
            ],
        )?;
    }
    Ok(changed > 0)
}

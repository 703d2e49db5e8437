//! Divergences and findings, as they are asked for.

use super::cause::Cause;
use super::floor::Floor;
use super::observation::Protocol;
use super::taints::Taint;
use super::triage::{self, time};
use super::write::with_ids;
use crate::sql::Class;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A page's items at most.
pub const LIMIT_MAX: u32 = 500;

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
    /// Of this finding.
    pub finding: Option<i64>,
    /// Those that follow from a taint instead, whose verdict is *not compared: tainted*; where it
    /// does not say, they are left out but for a `finding` of theirs.
    pub follows: Option<bool>,
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
    /// Of this kind.
    pub kind: Option<String>,
    /// That touch this table: `table` or `database.table`.
    pub table: Option<String>,
    /// Of this fingerprint: its text, or 16 hexadecimal digits.
    pub fingerprint: Option<String>,
    /// Whose fingerprint or one of whose tables holds this text, in whatever case.
    pub search: Option<String>,
    /// That this rule took, by its name.
    pub rule: Option<String>,
    /// The order.
    pub sort: FindingSort,
    /// At most so many; [`LIMIT_MAX`] if more.
    pub limit: u32,
    /// After so many in that order (a cursor of an earlier page).
    pub before: Option<i64>,
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
    pub(super) fn of(mut items: Vec<(i64, Value)>, limit: u32) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        Self {
            next: items.last().map(|(cursor, _)| *cursor).filter(|_| more),
            items: items.into_iter().map(|(_, item)| item).collect(),
        }
    }

    /// Of items that are found by their place in an order; `skip` stand before them.
    pub(super) fn skipped(items: Vec<Value>, skip: i64, limit: u32) -> Self {
        let numbered = items.into_iter().enumerate();
        let cursors = numbered.map(|(at, item)| {
            let passed = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1);
            (skip.saturating_add(passed), item)
        });
        Self::of(cursors.collect(), limit)
    }
}

/// The filter's `limit`, within bounds.
pub(super) fn bounded(limit: u32) -> u32 {
    limit.clamp(1, LIMIT_MAX)
}

/// Conditions and their values.
pub(super) struct Where {
    pub(super) text: String,
    pub(super) values: Vec<Sql>,
}

impl Where {
    fn all() -> Self {
        Self {
            text: "1".to_owned(),
            values: Vec::new(),
        }
    }

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
    let mut wanted = Where::all();
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
        &format!("d.finding_id IN (SELECT id FROM ({BASE}) WHERE state = @)"),
        filter.state.clone(),
    );
    wanted.and("d.finding_id = @", filter.finding);
    let follows = filter.follows.or(filter.finding.is_none().then_some(false));
    wanted.and(
        "EXISTS (SELECT 1 FROM findings f WHERE f.id = d.finding_id AND f.cause IS NOT NULL) = @",
        follows,
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

/// The kind under which all is kept that follows from one cause.
pub(super) const FOLLOWS: &str = "tainted";

/// The id of the finding that is a cause, if it is one and was kept.
pub(super) fn id_of(connection: &Connection, cause: &Cause) -> rusqlite::Result<Option<i64>> {
    let Some(key) = cause.finding else {
        return Ok(None);
    };
    connection
        .prepare_cached(
            "SELECT max(id) FROM findings
             WHERE digest = ?1 AND kind = ?2 AND protocol = ?3 AND cause IS NULL",
        )?
        .query_row(
            params![
                format!("{:016x}", key.digest),
                key.kind.name(),
                key.protocol.name()
            ],
            |row| row.get(0),
        )
}

/// What followed: how many, and the last of them.
type Count = Option<(u64, jiff::Timestamp)>;

/// A taint in the API's shape, beside what is not in the file yet.
pub(super) fn taint(
    connection: &Connection,
    taint: &Taint,
    unsaved: Count,
) -> rusqlite::Result<Value> {
    let digest = format!("{:016x}", taint.cause.digest());
    let protocol: Protocol = taint.cause.protocol();
    let saved = connection
        .prepare_cached(
            "SELECT count, last_seen FROM findings WHERE digest = ?1 AND kind = ?2 AND protocol = ?3",
        )?
        .query_row(params![digest, FOLLOWS, protocol.name()], |row| {
            let (count, last): (i64, i64) = (row.get(0)?, row.get(1)?);
            let last = jiff::Timestamp::from_microsecond(last).unwrap_or_default();
            Ok((u64::try_from(count).unwrap_or(0), last))
        })
        .optional()?;
    let finding = id_of(connection, &taint.cause)?;
    Ok(tainted(taint, finding, saved, unsaved))
}

/// A taint in the API's shape, of what was asked for apart.
pub(super) fn tainted(taint: &Taint, finding: Option<i64>, saved: Count, unsaved: Count) -> Value {
    let counts = [saved, unsaved].into_iter().flatten();
    let count: u64 = counts.clone().map(|(count, _)| count).sum();
    let last = counts.map(|(_, last)| last).max();
    let mut item = taint.shown();
    if let Some(fields) = item.as_object_mut() {
        fields.insert("finding_id".into(), json!(finding));
        let last = last.map(|last| last.to_string());
        fields.insert("followed".into(), json!({"count": count, "last": last}));
    }
    item
}

/// Tables that a finding tainted and that are named with it.
const TAINTED_MAX: usize = 50;

/// Tells of a finding which tables it tainted that still are.
pub(super) fn tell_tainted(
    connection: &Connection,
    item: &mut Value,
    taints: &[Taint],
) -> rusqlite::Result<()> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
    let key = format!("{} {} {}", text("digest"), text("kind"), text("protocol"));
    let of_it = |taint: &&Taint| {
        let finding = taint.cause.finding;
        finding.is_some_and(|finding| finding.to_string() == key)
    };
    let of_it: Vec<&Taint> = taints.iter().filter(of_it).collect();
    // What a rule takes is another finding with the same key.
    let id = match of_it.first() {
        Some(taint) => id_of(connection, &taint.cause)?,
        None => None,
    };
    let is_it = id.is_some() && id == item.get("id").and_then(Value::as_i64);
    let named = of_it.iter().filter(|_| is_it).take(TAINTED_MAX);
    let names: Vec<String> = named.map(|taint| taint.name()).collect();
    if let Some(fields) = item.as_object_mut() {
        fields.insert("tainted".into(), json!(names));
    }
    Ok(())
}

/// Findings with all that is told of them; who else reads them reads them here. Accepted is a finding until a time, and open after it.
///
/// Impact = share of all commands that diverged so (in percent) × how much a divergence of its kind
/// matters beside others: what fails counts most, what is slower least; what follows
/// from another finding has no weight beside it. The weights stand in `docs/findings.md`, too.
pub(super) const BASE: &str = "SELECT f.id, f.kind, f.fingerprint, f.digest, f.protocol, f.class, f.tables,
      f.count, f.first_seen, f.last_seen, f.cause_id, f.cause, f.rule, f.who, f.why, f.until,
      f.over OR f.expired AS expired, CASE WHEN f.over THEN 'open' ELSE f.state END AS state,
      max(coalesce(t.commands + t.earlier, 0), f.count) AS commands,
      100.0 * f.count / max(1, (SELECT coalesce(sum(commands + earlier), 0) FROM traffic), f.count)
        * CASE kind
      WHEN 'unsupported' THEN 10 WHEN 'error' THEN 10 WHEN 'shadow_limit' THEN 8
      WHEN 'value' THEN 8 WHEN 'rows' THEN 8 WHEN 'null' THEN 8 WHEN 'affected_rows' THEN 6
      WHEN 'order' THEN 4 WHEN 'columns' THEN 4 WHEN 'last_insert_id' THEN 4
      WHEN 'other_error' THEN 2 WHEN 'tainted' THEN 0 ELSE 1 END AS impact
    FROM (SELECT *, coalesce(state IN ('accepted', 'noise')
            AND unixepoch(until, 'subsec') <= unixepoch('now', 'subsec'), 0) AS over FROM main.findings) AS f
      LEFT JOIN traffic t ON t.digest = f.digest AND t.protocol = f.protocol";

/// A page of findings.
pub(super) fn findings(connection: &Connection, filter: &FindingFilter) -> rusqlite::Result<Page> {
    let order = match filter.sort {
        FindingSort::Impact => "impact",
        FindingSort::Count => "count",
        FindingSort::LastSeen => "last_seen",
    };
    let wanted = filter.conditions();
    let limit = bounded(filter.limit);
    let skip = filter.before.unwrap_or(0).max(0);
    let text = format!(
        "SELECT {COLUMNS} FROM ({BASE}) AS b WHERE {} ORDER BY {order} DESC, id DESC LIMIT {} OFFSET {skip}",
        wanted.text,
        limit + 1
    );
    let mut statement = connection.prepare_cached(&text)?;
    let rows = statement.query_map(params_from_iter(wanted.values), finding)?;
    let items: Vec<Value> = rows.collect::<Result<_, _>>()?;
    Ok(Page::skipped(items, skip, limit))
}

impl FindingFilter {
    /// What it asks of a row of [`BASE`], named `b`.
    pub(super) fn conditions(&self) -> Where {
        let mut wanted = Where::all();
        wanted.and("b.state = @", self.state.clone());
        wanted.and("b.id = @", self.id);
        wanted.and("b.kind = @", self.kind.clone());
        wanted.and("b.rule = @", self.rule.clone());
        wanted.and(
            "(b.digest = @ OR b.fingerprint = @)",
            self.fingerprint.clone(),
        );
        wanted.and(
            "EXISTS (SELECT 1 FROM json_each(b.tables) WHERE value = @ OR substr(value, instr(value, '.') + 1) = @)",
            self.table.clone(),
        );
        wanted.and(
            "(instr(lower(b.fingerprint), lower(@)) > 0 OR instr(lower(b.tables), lower(@)) > 0)",
            self.search.clone(),
        );
        wanted
    }
}

/// The columns that [`finding`] reads, in its order.
pub(super) const COLUMNS: &str =
    "id, kind, fingerprint, digest, protocol, class, tables, count, commands, first_seen,
    last_seen, state, impact, cause_id, rule, expired, who, why, until, cause";

pub(super) fn finding(row: &Row<'_>) -> rusqlite::Result<Value> {
    let tables: String = row.get(6)?;
    let impact: f64 = row.get(12)?;
    let rule: String = row.get(14)?;
    let cause: Option<String> = row.get(19)?;
    Ok(json!({
        "id": row.get::<_, i64>(0)?,
        "kind": row.get::<_, String>(1)?,
        "fingerprint": row.get::<_, String>(2)?,
        "digest": row.get::<_, String>(3)?,
        "protocol": row.get::<_, String>(4)?,
        "class": row.get::<_, String>(5)?,
        "tables": serde_json::from_str(&tables).unwrap_or(Value::Null),
        "count": row.get::<_, i64>(7)?,
        "commands": row.get::<_, i64>(8)?,
        "first_seen": time(row.get(9)?),
        "last_seen": time(row.get(10)?),
        "state": row.get::<_, String>(11)?,
        "impact": (impact * 1000.0).round() / 1000.0,
        "cause_id": row.get::<_, Option<i64>>(13)?,
        "rule": (!rule.is_empty()).then_some(rule),
        "expired": row.get::<_, bool>(15)?,
        "who": row.get::<_, Option<String>>(16)?,
        "why": row.get::<_, Option<String>>(17)?,
        "until": row.get::<_, Option<String>>(18)?,
        "floor": null,
        "follows": cause.is_some(),
        // As an object, like the causes that the catalogue knows.
        "cause": cause.map(|text| super::redact::tainted_by(&text)),
    }))
}

/// Divergences of one finding that are shown with it, the newest.
const EXAMPLES_MAX: u32 = 3;

/// One finding whole: with its triage's history and its newest divergences.
pub(super) fn whole(connection: &Connection, id: i64) -> rusqlite::Result<Option<Value>> {
    let filter = FindingFilter {
        id: Some(id),
        limit: 1,
        ..FindingFilter::default()
    };
    let Some(mut found) = findings(connection, &filter)?.items.into_iter().next() else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached(
        "SELECT id, finding_id, item FROM divergences WHERE finding_id = ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map([id, i64::from(EXAMPLES_MAX)], stored)?;
    let examples: Vec<(i64, Value)> = rows.collect::<Result<_, _>>()?;
    let examples: Vec<Value> = examples.into_iter().map(|(_, item)| item).collect();
    if let Some(fields) = found.as_object_mut() {
        fields.insert("history".into(), json!(triage::history(connection, id)?));
        fields.insert("examples".into(), json!(examples));
    }
    Ok(Some(found))
}

/// The newest divergence of a finding, whole.
pub(super) fn newest(connection: &Connection, finding: i64) -> rusqlite::Result<Option<Value>> {
    connection
        .query_row(
            "SELECT id, finding_id, item FROM divergences WHERE finding_id = ?1 ORDER BY id DESC LIMIT 1",
            [finding],
            stored,
        )
        .optional()
        .map(|found| found.map(|(_, item)| item))
}

/// Open findings of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Open {
    /// How many.
    pub findings: u64,
    /// Of these, those that had been fixed.
    pub regressed: u64,
    /// Their divergences.
    pub divergences: u64,
    /// The ids of some of them, those with the most divergences first.
    pub ids: Vec<i64>,
    /// Their statements' fingerprints, in that order.
    pub fingerprints: Vec<String>,
}

/// Open findings, by kind: what an operator still has to judge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OpenFindings {
    /// All but those of metadata.
    pub by_kind: BTreeMap<String, Open>,
    /// Those of SHOW and of reads of information_schema, whose answers seldom matter.
    pub metadata: BTreeMap<String, Open>,
    /// Findings that are open but at their floor: no more than two equal servers show.
    pub at_floor: u64,
}

/// Ids that stand for all of a kind.
const IDS_MAX: usize = 5;

/// Open findings that are no consequence of others, were taken by no rule, and are above their
/// floor.
pub(super) fn open(
    connection: &Connection,
    floor: Option<&Floor>,
) -> rusqlite::Result<OpenFindings> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM ({BASE}) AS b
         WHERE state IN ('open', 'regressed') AND {ROOT} ORDER BY count DESC, id"
    ))?;
    let mut found = OpenFindings::default();
    let rows = statement.query_map((), finding)?;
    for item in rows {
        let item = item?;
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        if floor.is_some_and(|floor| floor.has(&item)) {
            found.at_floor += 1;
            continue;
        }
        let kinds = if text("class") == Class::Metadata.name() {
            &mut found.metadata
        } else {
            &mut found.by_kind
        };
        let open = kinds.entry(text("kind").to_owned()).or_default();
        open.findings += 1;
        open.regressed += u64::from(text("state") == "regressed");
        open.divergences += item.get("count").and_then(Value::as_u64).unwrap_or(0);
        if open.ids.len() < IDS_MAX {
            open.ids.extend(item.get("id").and_then(Value::as_i64));
            open.fingerprints.push(text("fingerprint").to_owned());
        }
    }
    Ok(found)
}

/// Whether a finding is a cause of its own.
const ROOT: &str = "cause IS NULL AND cause_id IS NULL";

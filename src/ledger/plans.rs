//! How both servers run a statement that diverged: kept once a shape and protocol, told with its
//! findings and divergences.

use super::observation::Protocol;
use crate::config::Literals;
use crate::sql::{self, Dialect};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Value, json};

/// The bytes of one server's plan at most; a longer one is left out.
const PLAN_BYTES_MAX: usize = 64 << 10;

/// Fields of vtgate's plans whose texts are names and kinds of its own, never a client's.
const PLAIN: &[&str] = &[
    "server",
    "OperatorType",
    "Variant",
    "Name",
    "Sharded",
    "Vindex",
    "Table",
    "TableName",
    "QueryType",
    "Type",
    "JoinColumnIndexes",
    "GroupBy",
    "OrderBy",
];

/// Columns of EXPLAIN that hold names, ways and numbers. All others may hold a client's literals:
/// its remarks do, and the one column of a plan that is told as a tree is made of them.
const COLUMNS: &[&str] = &[
    "id",
    "select_type",
    "table",
    "partitions",
    "type",
    "possible_keys",
    "key",
    "key_len",
    "ref",
    "rows",
    "filtered",
];

/// Between our words and a server's own in why there is no plan.
pub const REFUSED: &str = ", it says: ";

/// What both servers answered when they were asked for their plans.
#[derive(Clone, Debug)]
pub struct Plans {
    /// xxh3-64 of the statement's fingerprint.
    pub digest: u64,
    /// Text or prepared.
    pub protocol: Protocol,
    /// When they were asked.
    pub at: jiff::Timestamp,
    /// The class of the shadow's plan: `EqualUnique`, `Scatter` …; where it has several routes,
    /// theirs in turn.
    pub class: Option<String>,
    /// The primary's: `server`, and `rows` or `why` there are none.
    pub primary: Value,
    /// The shadow's: `server`, and `plan`, `rows` or `why` there are none.
    pub shadow: Value,
}

impl Plans {
    /// As they may be written down.
    pub(super) fn redacted(mut self, literals: Literals) -> Self {
        for side in [&mut self.primary, &mut self.shadow] {
            if literals == Literals::Redact {
                redact(side, "");
            }
            flag(side, literals);
            if side.to_string().len() > PLAN_BYTES_MAX {
                let server = side.get("server").cloned();
                let why = "left out: the plan is longer than 64 KiB";
                *side = json!({"server": server, "why": why});
                flag(side, literals);
            }
        }
        self
    }
}

/// Writes down whether literals were kept.
fn flag(side: &mut Value, literals: Literals) {
    if let Some(fields) = side.as_object_mut() {
        fields.insert("literals_kept".into(), json!(literals == Literals::Keep));
    }
}

/// Redacts plans of the file that may hold literals.
pub(super) fn again(plans: &mut Value) {
    for server in ["primary", "shadow"] {
        let side = plans.get_mut(server);
        if let Some(side) = side.filter(|side| side.get("literals_kept") != Some(&json!(false))) {
            redact(side, "");
            flag(side, Literals::Redact);
        }
    }
}

/// Replaces literals in all texts that may hold some.
fn redact(value: &mut Value, field: &str) {
    match value {
        Value::String(_) if PLAIN.contains(&field) => {}
        // Ours, but for a server's error, whose number stands before it.
        Value::String(text) if field == "why" => {
            if let Some((ours, theirs)) = text.split_once(REFUSED) {
                *text = format!("{ours}{REFUSED}{}", sql::redact_error(theirs));
            }
        }
        Value::String(text) => *text = sql::redact(text.as_bytes(), Dialect::default()),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, field)),
        Value::Object(fields) => {
            for (name, item) in fields.iter_mut() {
                let is_column = |one: &&str| one.eq_ignore_ascii_case(name);
                match field {
                    "rows" if item.is_string() && COLUMNS.iter().any(is_column) => {}
                    // A column's name says nothing of what vtgate's field of that name holds.
                    "rows" => redact(item, ""),
                    _ => redact(item, name),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

pub(super) fn write(transaction: &Transaction<'_>, plans: &Plans) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO plans (digest, protocol, at, class, primary_plan, shadow_plan)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            format!("{:016x}", plans.digest),
            plans.protocol.name(),
            plans.at.to_string(),
            plans.class,
            plans.primary.to_string(),
            plans.shadow.to_string()
        ])
        .map(drop)
}

/// Lets go of the plans of what has no finding any more.
pub(super) fn prune(transaction: &Transaction<'_>, step: u32) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM plans WHERE (digest, protocol) IN (SELECT p.digest, p.protocol FROM plans p
               WHERE NOT EXISTS (SELECT 1 FROM findings f WHERE f.digest = p.digest AND f.protocol = p.protocol)
               LIMIT ?1)",
        )?
        .execute([step])
        .map(drop)
}

/// Adds the plans to a divergence or a finding: null where none were asked for.
pub(super) fn tell(connection: &Connection, item: &mut Value) -> rusqlite::Result<()> {
    let text = |field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default();
    let found = connection
        .prepare_cached(
            "SELECT at, class, primary_plan, shadow_plan FROM plans WHERE digest = ?1 AND protocol = ?2",
        )?
        .query_row(params![text("digest"), text("protocol")], |row| {
            let plan = |text: String| serde_json::from_str::<Value>(&text).unwrap_or(Value::Null);
            Ok(json!({
                "at": row.get::<_, String>(0)?,
                "class": row.get::<_, Option<String>>(1)?,
                "primary": plan(row.get(2)?),
                "shadow": plan(row.get(3)?),
            }))
        })
        .optional()?;
    if let Some(fields) = item.as_object_mut() {
        fields.insert("plans".into(), json!(found));
    }
    Ok(())
}

/// Adds to a finding what its newest divergence says of it: its cause, where the finding has none
/// yet, and the class of the shadow's plan.
pub(super) fn brief(connection: &Connection, item: &mut Value) -> rusqlite::Result<()> {
    let text = |field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default();
    let class: Option<Option<String>> = connection
        .prepare_cached("SELECT class FROM plans WHERE digest = ?1 AND protocol = ?2")?
        .query_row(params![text("digest"), text("protocol")], |row| row.get(0))
        .optional()?;
    let cause = match item.get("cause").filter(|cause| !cause.is_null()) {
        Some(known) => known.clone(),
        None => newest(connection, item)?.map_or(Value::Null, |mut newest| {
            newest.get_mut("cause").map_or(Value::Null, Value::take)
        }),
    };
    if let Some(fields) = item.as_object_mut() {
        fields.insert("plan_class".into(), json!(class.flatten()));
        fields.insert("cause".into(), cause);
    }
    Ok(())
}

/// The newest divergence of a finding, as it is stored.
fn newest(connection: &Connection, finding: &Value) -> rusqlite::Result<Option<Value>> {
    let id = finding.get("id").and_then(Value::as_i64);
    let stored: Option<String> = connection
        .prepare_cached(
            "SELECT item FROM divergences WHERE finding_id = ?1 ORDER BY id DESC LIMIT 1",
        )?
        .query_row([id], |row| row.get(0))
        .optional()?;
    Ok(stored.and_then(|text| serde_json::from_str(&text).ok()))
}

/// The id of a finding's newest divergence that is kept.
pub(super) fn newest_id(connection: &Connection, finding: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT max(id) FROM divergences WHERE finding_id = ?1")?
        .query_row([finding], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> Plans {
        Plans {
            digest: 1,
            protocol: Protocol::Text,
            at: jiff::Timestamp::UNIX_EPOCH,
            class: Some("Scatter".to_owned()),
            primary: json!({"server": "legacy", "rows": [
                {"id": "1", "table": "t", "key": "PRIMARY", "rows": "42", "Extra": "Using where; a = 'planted'"}]}),
            shadow: json!({"server": "vitess", "plan": {
                "OperatorType": "Route", "Variant": "EqualUnique", "Values": ["'planted'"],
                "Query": "select a from t where b = 'planted' and c = 12345"}}),
        }
    }

    #[test]
    fn no_literal_is_left_of_redacted_plans_and_their_words_stay() {
        let plans = plans().redacted(Literals::Redact);
        let text = plans.primary.to_string() + &plans.shadow.to_string();
        assert!(
            !text.contains("planted") && !text.contains("12345"),
            "{text}"
        );
        for word in [
            "EqualUnique",
            "PRIMARY",
            "42",
            "Using where",
            "select a from t",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }

    #[test]
    fn no_literal_is_left_of_a_plan_that_is_told_as_a_tree() {
        for (column, told) in [
            (
                "EXPLAIN",
                "-> Filter: (t.a = 'planted')  (cost=0.35 rows=1)\n    -> Index lookup on t using k (b=12345)",
            ),
            (
                "EXPLAIN",
                r#"{"query_block": {"table": {"attached_condition": "(`t`.`a` = 'planted')", "n": 12345}}}"#,
            ),
            ("Name", "a = 'planted' and b = 12345"),
        ] {
            let mut plans = plans();
            plans.primary = json!({"server": "legacy", "rows": [{column: told}]});
            let text = plans.redacted(Literals::Redact).primary.to_string();
            assert!(
                !text.contains("planted") && !text.contains("12345"),
                "{text}"
            );
        }
    }

    #[test]
    fn why_there_is_no_plan_keeps_our_words_and_loses_the_servers_literals() {
        let refused = format!(
            "error 1142{REFUSED}UPDATE command denied to user 'planted'@'10.0.0.1' for table 't'"
        );
        for (why, kept) in [
            (refused.as_str(), "error 1142"),
            ("not asked: it is longer than 16 KiB", "16 KiB"),
        ] {
            let mut plans = plans();
            plans.primary = json!({"server": "legacy", "why": why});
            let text = plans.redacted(Literals::Redact).primary.to_string();
            assert!(text.contains(kept), "{text}");
            assert!(
                !text.contains("planted") && !text.contains("10.0"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_plan_that_is_too_long_says_so() {
        let mut plans = plans();
        plans.shadow = json!({"server": "vitess", "plan": "x".repeat(PLAN_BYTES_MAX)});
        let plans = plans.redacted(Literals::Keep);
        assert_eq!(plans.shadow["server"], "vitess");
        assert!(plans.shadow["why"].as_str().unwrap().contains("64 KiB"));
        assert!(plans.primary.to_string().contains("planted"));
    }
}

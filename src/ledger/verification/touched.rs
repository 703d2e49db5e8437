//! Which rows a finding touched, as far as its divergences say. Pure.

use crate::sql::{Dialect, rows_touched, with_parameters};
use serde_json::Value;
use std::collections::BTreeSet;

/// Divergences of a finding that are looked at.
pub(super) const TOUCHED_MAX: i64 = 200;

/// Conditions that are asked for together.
const CONDITIONS_MAX: usize = 50;

/// What a finding touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Its tables, `database.table`.
    pub tables: Vec<String>,
    /// Its rows; none where a statement does not say, or was not kept: then it is the tables as a whole.
    pub condition: Option<String>,
}

impl Touched {
    /// From its divergences.
    pub(super) fn of(items: &[Value]) -> Self {
        let mut tables = BTreeSet::new();
        for item in items {
            let database = item.get("database").and_then(Value::as_str);
            let named = item.get("tables").and_then(Value::as_array);
            for table in named.into_iter().flatten().filter_map(Value::as_str) {
                let bare = database.filter(|name| !name.is_empty() && !table.contains('.'));
                tables.insert(match bare {
                    Some(database) => format!("{database}.{table}"),
                    None => table.to_owned(),
                });
            }
        }
        let conditions: Option<BTreeSet<String>> = items.iter().map(condition).collect();
        let conditions = conditions
            .filter(|all| tables.len() == 1 && !all.is_empty() && all.len() <= CONDITIONS_MAX);
        let condition = conditions.map(|all| {
            let all: Vec<String> = all.iter().map(|one| format!("({one})")).collect();
            all.join(" OR ")
        });
        Self {
            tables: tables.into_iter().collect(),
            condition,
        }
    }
}

/// The rows of one divergence.
fn condition(item: &Value) -> Option<String> {
    (item.get("literals_kept")? == true).then_some(())?;
    let text = item.get("statement")?.as_str()?;
    let dialect = Dialect::default();
    let values: Option<Vec<String>> = item.get("parameters").and_then(Value::as_array).map(|all| {
        all.iter()
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect()
    });
    match values {
        Some(values) => rows_touched(&with_parameters(text, dialect, &values)?, dialect),
        None => rows_touched(text, dialect),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(statement: &str, more: Value) -> Value {
        let mut item = json!({
            "database": "app", "tables": ["app.t"], "statement": statement, "literals_kept": true, "parameters": null,
        });
        for (key, value) in more.as_object().unwrap() {
            item[key] = value.clone();
        }
        item
    }

    #[test]
    fn the_rows_of_all_its_statements_are_asked_for() {
        let touched = Touched::of(&[
            item("SELECT * FROM t WHERE id = 1", json!({})),
            item(
                "SELECT * FROM t WHERE id = ?",
                json!({"parameters": ["'x'"]}),
            ),
            item("SELECT * FROM t WHERE id = 1", json!({})),
        ]);
        assert_eq!(touched.tables, ["app.t"]);
        assert_eq!(touched.condition.as_deref(), Some("(id = 'x') OR (id = 1)"));
    }

    #[test]
    fn where_one_does_not_say_it_is_the_tables() {
        for (other, tables) in [
            (item("SELECT * FROM t", json!({})), 1),
            (
                item(
                    "SELECT * FROM t WHERE id = ?",
                    json!({"literals_kept": false}),
                ),
                1,
            ),
            (
                item("SELECT * FROM t WHERE id = ?", json!({"parameters": []})),
                1,
            ),
            (
                item("SELECT * FROM u WHERE id = 1", json!({"tables": ["u"]})),
                2,
            ),
        ] {
            let touched = Touched::of(&[item("SELECT * FROM t WHERE id = 1", json!({})), other]);
            assert_eq!((touched.tables.len(), touched.condition), (tables, None));
        }
        assert_eq!(Touched::of(&[]), Touched::default());
    }
}

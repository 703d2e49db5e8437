//! What understudy asks with its own account, answered as a MySQL would of the tables that the loads use.

use std::time::{SystemTime, UNIX_EPOCH};

/// Columns and rows of an answer.
pub type Rows = (usize, Vec<Vec<String>>);

/// The columns of every table.
const COLUMNS: [[&str; 4]; 3] = [
    ["id", "int", "", ""],
    ["k", "int", "0", ""],
    ["c", "char", "", ""],
];

/// The answer to a question that is not a load's.
pub fn answer(statement: &str) -> Rows {
    let asked = |words: &str| statement.contains(words);
    if asked("information_schema.TABLES ") {
        one(&["BASE TABLE"])
    } else if asked("DATA_TYPE, COLUMN_DEFAULT, EXTRA") {
        (4, COLUMNS.map(|column| texts(&column)).to_vec())
    } else if asked("UNIX_TIMESTAMP(SYSDATE(6))") {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let clock = format!("{}.{:06}", now.as_secs(), now.subsec_micros());
        one(&[&clock, "0", "0", "1", "NO_ENGINE_SUBSTITUTION"])
    } else if asked("@@version") || asked("VERSION()") {
        let version = super::greeting::VERSION;
        one(&[&String::from_utf8_lossy(version)])
    } else if asked("@@") {
        one(&["0"])
    } else {
        // Views, triggers, keys: there are none.
        (columns(statement), Vec::new())
    }
}

fn one(row: &[&str]) -> Rows {
    (row.len(), vec![texts(row)])
}

fn texts(row: &[&str]) -> Vec<String> {
    row.iter().copied().map(str::to_owned).collect()
}

/// As many as the select list has; at least one.
fn columns(statement: &str) -> usize {
    let list = statement.split(" FROM ").next().unwrap_or_default();
    list.matches(',').count() + 1
}

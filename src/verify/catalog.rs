//! What a server says of its tables: which there are, their definitions, and, of a vtgate, how they are
//! sharded and which sequence fills their keys. Asked by SHOW, which every server words alike.

use super::reader::{ReadError, Reader};
use super::shape::{Column, Index, Shape};
use super::statements::quoted;
use super::types::SqlType;
use crate::sql::{Table, sequence_in};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Databases that hold a server's own; `sys` where there is no table of an application's in it.
const SYSTEM: [&str; 5] = [
    "mysql",
    "information_schema",
    "performance_schema",
    "sys",
    "_vt",
];

/// Tables that are looked at, at most.
pub(super) const TABLES_MAX: usize = 20_000;

/// What servers answer where there is no such table, database or keyspace.
const ABSENT: [u16; 3] = [1146, 1049, 1051];

fn is_absent(fault: &ReadError) -> bool {
    matches!(fault, ReadError::Refused { code, .. } if ABSENT.contains(code))
}

fn cell(row: &[Option<String>], at: usize) -> Option<&str> {
    row.get(at)?.as_deref()
}

/// The databases that hold an application's.
///
/// # Errors
/// As [`Reader::all`].
pub(super) async fn databases(reader: &mut Reader) -> Result<Vec<String>, ReadError> {
    let rows = reader.all("SHOW DATABASES").await?;
    let names = rows.iter().filter_map(|row| cell(row, 0));
    let is_system = |name: &str| SYSTEM.iter().any(|one| name.eq_ignore_ascii_case(one));
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let is_taken = name.eq_ignore_ascii_case("sys") && {
            let of = tables(reader, name).await?.tables;
            of.iter().any(|table| table != "sys_config")
        };
        if is_taken || !is_system(name) {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

/// What a database has.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Its tables.
    pub(super) tables: Vec<String>,
    /// What is not compared: views, and what Vitess keeps beside an application's tables.
    pub(super) others: Vec<String>,
}

/// The tables of a database; none where there is no such database.
///
/// # Errors
/// As [`Reader::all`].
pub(super) async fn tables(reader: &mut Reader, database: &str) -> Result<Listed, ReadError> {
    let ask = format!("SHOW FULL TABLES FROM {}", quoted(database));
    let rows = match reader.all(&ask).await {
        Ok(rows) => rows,
        Err(fault) if is_absent(&fault) => return Ok(Listed::default()),
        Err(fault) => return Err(fault),
    };
    Ok(listed(&rows))
}

fn listed(rows: &[Vec<Option<String>>]) -> Listed {
    let mut listed = Listed::default();
    for row in rows {
        let Some(name) = cell(row, 0) else { continue };
        let is_table = cell(row, 1).is_none_or(|kind| kind.eq_ignore_ascii_case("BASE TABLE"));
        if is_table && !name.starts_with("_vt_") {
            listed.tables.push(name.to_owned());
        } else {
            listed.others.push(name.to_owned());
        }
    }
    listed
}

/// A table's definition; `None` where there is no such table.
///
/// # Errors
/// As [`Reader::all`].
pub(super) async fn shape(
    reader: &mut Reader,
    database: &str,
    table: &str,
) -> Result<Option<Shape>, ReadError> {
    let place = format!("{}.{}", quoted(database), quoted(table));
    let columns = match reader.all(&format!("SHOW FULL COLUMNS FROM {place}")).await {
        Ok(rows) => rows,
        Err(fault) if is_absent(&fault) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let indexes = reader.all(&format!("SHOW INDEX FROM {place}")).await?;
    Ok(Some(Shape {
        columns: columns.iter().filter_map(|row| column(row)).collect(),
        indexes: read_indexes(&indexes),
    }))
}

fn column(row: &[Option<String>]) -> Option<Column> {
    Some(Column {
        name: cell(row, 0)?.to_owned(),
        kind: SqlType::parse(cell(row, 1)?),
        collation: cell(row, 2).map(str::to_owned),
        nullable: cell(row, 3).is_some_and(|word| word.eq_ignore_ascii_case("YES")),
        default: cell(row, 5).map(str::to_owned),
        extra: cell(row, 6).unwrap_or_default().to_ascii_lowercase(),
    })
}

fn read_indexes(rows: &[Vec<Option<String>>]) -> Vec<Index> {
    let mut indexes: BTreeMap<String, (usize, Index)> = BTreeMap::new();
    for (nth, row) in rows.iter().enumerate() {
        let name = cell(row, 2).unwrap_or_default().to_owned();
        // An index of an expression has no column.
        let of = cell(row, 4).map_or_else(
            || format!("({})", cell(row, 14).unwrap_or("an expression")),
            str::to_owned,
        );
        let cut = cell(row, 7).and_then(|length| length.parse().ok());
        let (_, index) = indexes.entry(name.clone()).or_insert_with(|| {
            let unique = cell(row, 1) == Some("0");
            let columns = Vec::new();
            (
                nth,
                Index {
                    name,
                    unique,
                    columns,
                },
            )
        });
        index.columns.push((of, cut));
    }
    let mut indexes: Vec<(usize, Index)> = indexes.into_values().collect();
    indexes.sort_by_key(|(nth, _)| *nth);
    indexes.into_iter().map(|(_, index)| index).collect()
}

/// The keyspaces that have several shards.
///
/// # Errors
/// As [`Reader::all`].
pub(super) async fn sharded(reader: &mut Reader) -> Result<BTreeSet<String>, ReadError> {
    if !reader.is_vitess() {
        return Ok(BTreeSet::new());
    }
    let mut shards: BTreeMap<String, usize> = BTreeMap::new();
    for row in reader.all("SHOW VITESS_SHARDS").await? {
        if let Some((keyspace, _)) = cell(&row, 0).and_then(|name| name.split_once('/')) {
            *shards.entry(keyspace.to_owned()).or_default() += 1;
        }
    }
    let several = shards.into_iter().filter(|(_, shards)| *shards > 1);
    Ok(several.map(|(keyspace, _)| keyspace).collect())
}

/// The columns that say on which shard a row is; none where the vtgate does not tell.
///
/// # Errors
/// As [`Reader::all`].
pub(super) async fn spread_by(
    reader: &mut Reader,
    database: &str,
    table: &str,
) -> Result<Vec<String>, ReadError> {
    let place = format!("{}.{}", quoted(database), quoted(table));
    for word in ["FROM", "ON"] {
        match reader
            .all(&format!("SHOW VSCHEMA VINDEXES {word} {place}"))
            .await
        {
            // The first one is the one that places rows.
            Ok(rows) => {
                let columns = rows
                    .first()
                    .and_then(|row| cell(row, 0))
                    .unwrap_or_default();
                let columns = columns.split(',').map(|name| name.trim().to_owned());
                return Ok(columns.filter(|name| !name.is_empty()).collect());
            }
            Err(ReadError::Refused { .. }) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(Vec::new())
}

/// The sequence that fills the key of a vtgate's table, if one does.
///
/// # Errors
/// As [`Reader::all`].
pub(super) async fn sequence_of(
    reader: &mut Reader,
    database: &str,
    table: &str,
    shape: &Shape,
    key: &str,
) -> Result<Option<String>, ReadError> {
    if !reader.is_vitess() {
        return Ok(None);
    }
    let others = shape.columns.iter();
    let others =
        others.filter(|column| !column.name.eq_ignore_ascii_case(key) && !column.is_generated());
    let names: Vec<String> = others.map(|column| quoted(&column.name)).collect();
    // It is planned, not run.
    let ask = format!(
        "VEXPLAIN PLAN INSERT INTO {}.{} ({}) VALUES ({})",
        quoted(database),
        quoted(table),
        names.join(", "),
        vec!["NULL"; names.len()].join(", ")
    );
    match reader.all(&ask).await {
        Ok(rows) => {
            let plan = rows.first().and_then(|row| cell(row, 0));
            Ok(plan.and_then(sequence_in).map(str::to_owned))
        }
        Err(ReadError::Refused { .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Where a server reads a table that is named with its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Led {
    /// There.
    Here,
    /// In this keyspace: a routing rule of a vtgate's sends it there.
    To(String),
    /// It does not say, and why.
    Unknown(String),
}

/// Where a server reads this table.
///
/// # Errors
/// As [`Reader::all`]; what it refuses for now, too.
pub(super) async fn led_to(
    reader: &mut Reader,
    keyspace: &str,
    table: &str,
) -> Result<Led, ReadError> {
    if !reader.is_vitess() {
        return Ok(Led::Here);
    }
    // It is planned, not run: of the rules themselves a vtgate tells nothing by SQL.
    let ask = format!(
        "VEXPLAIN PLAN SELECT 1 FROM {}.{} LIMIT 1",
        quoted(keyspace),
        quoted(table)
    );
    match reader.all(&ask).await {
        Ok(rows) => Ok(led_by(rows.first().and_then(|row| cell(row, 0)), keyspace)),
        Err(fault) => not_led(fault),
    }
}

/// What it means that it does not tell. A tablet that is away comes back; a vtgate that has no VEXPLAIN has none later.
fn not_led(fault: ReadError) -> Result<Led, ReadError> {
    match &fault {
        ReadError::Refused { message, .. }
            if !fault.may_pass() || message.contains("syntax error") =>
        {
            Ok(Led::Unknown(fault.to_string()))
        }
        _ => Err(fault),
    }
}

/// Where a plan leads to.
fn led_by(plan: Option<&str>, keyspace: &str) -> Led {
    let plan = plan.and_then(|plan| serde_json::from_str(plan).ok());
    let keyspaces = plan.as_ref().map(keyspaces_in).unwrap_or_default();
    if keyspaces.is_empty() {
        return Led::Unknown("its plan names no keyspace".to_owned());
    }
    let other = keyspaces.into_iter().find(|one| one != keyspace);
    other.map_or(Led::Here, Led::To)
}

/// The keyspaces that a plan goes to.
fn keyspaces_in(plan: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut parts = vec![plan];
    while let Some(part) = parts.pop() {
        match part {
            Value::Object(fields) => {
                let name = fields.get("Keyspace").and_then(|one| one.get("Name"));
                names.extend(name.and_then(Value::as_str).map(str::to_owned));
                parts.extend(fields.values());
            }
            Value::Array(all) => parts.extend(all),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    names
}

/// Where a sequence stands: no value from here on was given yet. `None` where that cannot be read without
/// drawing one.
///
/// # Errors
/// As [`Reader::all`].
pub(super) async fn sequence_next(
    reader: &mut Reader,
    name: &str,
) -> Result<Option<u64>, ReadError> {
    match reader.all(&format!("SELECT next_id FROM {name}")).await {
        Ok(rows) => Ok(rows
            .first()
            .and_then(|row| cell(row, 0))
            .and_then(|next| next.parse().ok())),
        Err(ReadError::Refused { .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// What a server says of a table beside its definition: its engine, and about how many rows it has.
///
/// # Errors
/// As [`Reader::all`].
pub(super) async fn status(
    reader: &mut Reader,
    database: &str,
    table: &str,
) -> Result<(Option<String>, Option<u64>), ReadError> {
    let all = format!("SHOW TABLE STATUS FROM {}", quoted(database));
    let is_it = |row: &Vec<Option<String>>| {
        cell(row, 0).is_some_and(|name| name.eq_ignore_ascii_case(table))
    };
    // Not every server takes the escapes.
    for ask in [format!("{all} LIKE '{}'", like(table)), all] {
        let rows = match reader.all(&ask).await {
            Ok(rows) => rows,
            Err(ReadError::Refused { .. }) => continue,
            Err(fault) => return Err(fault),
        };
        if let Some(row) = rows.into_iter().find(is_it) {
            let about = cell(&row, 4).and_then(|rows| rows.parse().ok());
            return Ok((cell(&row, 1).map(str::to_owned), about));
        }
    }
    Ok((None, None))
}

/// About how many rows each table of a database has, by its name: one listing, whatever number of tables.
///
/// # Errors
/// As [`Reader::all`].
pub(super) async fn estimates(
    reader: &mut Reader,
    database: &str,
) -> Result<BTreeMap<String, u64>, ReadError> {
    let ask = format!("SHOW TABLE STATUS FROM {}", quoted(database));
    let rows = match reader.all(&ask).await {
        Ok(rows) => rows,
        Err(ReadError::Refused { .. }) => return Ok(BTreeMap::new()),
        Err(fault) => return Err(fault),
    };
    let estimate = |row: &Vec<Option<String>>| {
        let rows = cell(row, 4)?.parse().ok()?;
        Some((cell(row, 0)?.to_owned(), rows))
    };
    Ok(rows.iter().filter_map(estimate).collect())
}

/// A name as LIKE takes it, within quotes: `_` and `%` stand for themselves.
fn like(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '_' | '%' => out.extend(['\\', c]),
            '\\' => out.push_str(r"\\\\"),
            '\'' => out.push_str("''"),
            c => out.push(c),
        }
    }
    out
}

/// The greatest value of a column; `None` where there is no row.
///
/// # Errors
/// As [`Reader::all`].
pub(super) async fn greatest(
    reader: &mut Reader,
    table: &Table,
    column: &str,
) -> Result<Option<u64>, ReadError> {
    let database = table.database.as_deref().unwrap_or_default();
    let ask = format!(
        "SELECT MAX({}) FROM {}.{}",
        quoted(column),
        quoted(database),
        quoted(&table.name)
    );
    let rows = reader.all(&ask).await?;
    Ok(rows
        .first()
        .and_then(|row| cell(row, 0))
        .and_then(|value| value.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<Option<String>> {
        let cells = cells.iter();
        cells
            .map(|cell| (*cell != "NULL").then(|| (*cell).to_owned()))
            .collect()
    }

    #[test]
    fn an_index_is_put_together_from_its_rows() {
        let rows = [
            row(&["t", "0", "PRIMARY", "1", "id", "A", "5", "NULL"]),
            row(&["t", "1", "by_name", "1", "name", "A", "5", "10"]),
            row(&["t", "1", "by_name", "2", "age", "A", "5", "NULL"]),
            row(&["t", "1", "a_first", "1", "age", "A", "5", "NULL"]),
        ];
        let found = read_indexes(&rows);
        let names: Vec<&str> = found.iter().map(|index| index.name.as_str()).collect();
        assert_eq!(names, ["PRIMARY", "by_name", "a_first"]);
        assert!(found[0].unique && !found[1].unique);
        assert_eq!(
            found[1].columns,
            [("name".into(), Some(10)), ("age".into(), None)]
        );
    }

    #[test]
    fn a_plan_names_the_keyspaces_that_it_goes_to() {
        let route = |name: &str| {
            format!(
                r#"{{"OperatorType": "Route", "Variant": "Scatter", "Keyspace": {{"Name": "{name}", "Sharded": true}}, "Query": "select 1 from t limit 1"}}"#
            )
        };
        let limit = format!(
            r#"{{"OperatorType": "Limit", "Count": "1", "Inputs": [{}, {}]}}"#,
            route("customer"),
            route("app")
        );
        for (plan, names) in [
            (route("app"), &["app"][..]),
            (limit, &["app", "customer"]),
            ("[1, null, \"Keyspace\"]".to_owned(), &[]),
        ] {
            let parsed = serde_json::from_str(&plan).unwrap();
            let found: Vec<String> = keyspaces_in(&parsed).into_iter().collect();
            assert_eq!(found, names);
            let led = led_by(Some(&plan), "app");
            assert_eq!(led == Led::Here, names == ["app"], "{led:?}");
            assert_eq!(led == Led::To("customer".into()), names.len() == 2);
        }
        assert!(matches!(led_by(None, "app"), Led::Unknown(_)));
    }

    /// Finding: a tablet that was away for a moment was taken for a vtgate without such a rule.
    #[test]
    fn what_is_refused_says_nothing_of_where_a_table_is() {
        let refused = |code, message: &str| {
            not_led(ReadError::Refused {
                server: "vitess".into(),
                code,
                message: message.into(),
            })
        };
        for (code, message) in [(1105, "no healthy tablet"), (1203, "pool"), (2013, "")] {
            assert!(refused(code, message).is_err(), "{code}");
        }
        for (code, message) in [
            (1105, "syntax error at position ? near '?'"),
            (1064, "syntax error"),
            (1142, "denied"),
        ] {
            let led = refused(code, message).unwrap();
            assert!(matches!(led, Led::Unknown(_)), "{code}: {led:?}");
        }
    }

    #[test]
    fn a_name_stands_for_itself_alone() {
        assert_eq!(like("a_b%c"), r"a\_b\%c");
        assert_eq!(like(r"it's\"), r"it''s\\\\");
    }

    #[test]
    fn what_is_no_table_of_an_applications_is_kept_apart() {
        let listed = listed(&[
            row(&["t", "BASE TABLE"]),
            row(&["v", "VIEW"]),
            row(&[
                "_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
                "BASE TABLE",
            ]),
        ]);
        assert_eq!((listed.tables.len(), listed.others.len()), (1, 2));
    }

    #[test]
    fn a_column_is_read_from_its_row() {
        let read = column(&row(&[
            "id",
            "int(11) unsigned",
            "NULL",
            "NO",
            "PRI",
            "NULL",
            "AUTO_INCREMENT",
        ]))
        .unwrap();
        assert!(read.is_counted() && !read.nullable && read.default.is_none());
        assert_eq!(read.kind.told(), "int unsigned");
    }
}

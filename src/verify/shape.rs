//! A table's definition on both sides, and where they differ. Pure.
//!
//! Compared are columns and their order, types, whether NULL is allowed, defaults, generated keys and indexes. Not
//! compared: foreign keys, triggers, partitions, comments, and the engine.

use super::types::SqlType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A table as one side has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Its columns, in their order.
    pub(super) columns: Vec<Column>,
    /// Its indexes.
    pub(super) indexes: Vec<Index>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// Its type.
    pub(super) kind: SqlType,
    /// Its collation; none where it has no characters.
    pub(super) collation: Option<String>,
    /// NULL is allowed.
    pub(super) nullable: bool,
    /// Its default; none for none, or NULL.
    pub(super) default: Option<String>,
    /// `auto_increment`, `on update …`, `STORED GENERATED` and the like, in lower case.
    pub(super) extra: String,
}

impl Column {
    /// Its values are computed from others.
    #[must_use]
    pub(super) fn is_generated(&self) -> bool {
        let extra = &self.extra;
        extra.contains("virtual") || extra.contains("stored") || extra.contains("persistent")
    }

    /// Its values come from a counter.
    #[must_use]
    pub(super) fn is_counted(&self) -> bool {
        self.extra.contains("auto_increment")
    }
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// Its name.
    pub(super) name: String,
    /// No two rows have the same.
    pub(super) unique: bool,
    /// Its columns, each with the length that it is cut to, if it is.
    pub(super) columns: Vec<(String, Option<u32>)>,
}

/// How much a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Weight {
    /// The two tables are not the same.
    Differs,
    /// Worth knowing; rows and meaning are the same.
    Note,
}

/// A difference between two definitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Difference {
    /// How much it means.
    pub(super) weight: Weight,
    /// What: `column`, `type`, `null`, `default`, `generated_key`, `collation`, `index`, `sequence` …
    pub(super) what: String,
    /// In words.
    pub(super) said: String,
}

impl Shape {
    /// A column by its name, in whatever case.
    #[must_use]
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// Who is compared: the names of the primary and the shadow, and what is known of the shadow's counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides<'a> {
    /// The primary.
    pub(super) primary: &'a str,
    /// The shadow.
    pub(super) shadow: &'a str,
    /// The shadow's column whose values come from a sequence, if one does.
    pub(super) sequence: bool,
}

/// Where the two definitions differ, in the order in which one looks.
#[must_use]
pub(super) fn compare(primary: &Shape, shadow: &Shape, sides: Sides<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    for one in &primary.columns {
        match shadow.column(&one.name) {
            Some(other) => columns(one, other, sides, &mut found),
            None => found.push(differs(
                "column",
                format!("the column {} is missing on {}", one.name, sides.shadow),
            )),
        }
    }
    for other in &shadow.columns {
        if primary.column(&other.name).is_none() {
            found.push(differs(
                "column",
                format!("{} has a column more: {}", sides.shadow, other.name),
            ));
        }
    }
    order(primary, shadow, sides, &mut found);
    indexes(primary, shadow, sides, &mut found);
    found
}

/// `SELECT *`, and an INSERT that names no columns, go by their order.
fn order(primary: &Shape, shadow: &Shape, sides: Sides<'_>, found: &mut Vec<Difference>) {
    let common = |one: &Shape, other: &Shape| -> Vec<String> {
        let columns = one.columns.iter();
        let columns = columns.filter(|column| other.column(&column.name).is_some());
        columns
            .map(|column| column.name.to_ascii_lowercase())
            .collect()
    };
    let (mine, theirs) = (common(primary, shadow), common(shadow, primary));
    if mine != theirs {
        found.push(differs(
            "order",
            format!(
                "the columns stand in another order: {} on {}, {} on {}",
                mine.join(", "),
                sides.primary,
                theirs.join(", "),
                sides.shadow
            ),
        ));
    }
}

fn differs(what: &str, said: String) -> Difference {
    Difference {
        weight: Weight::Differs,
        what: what.to_owned(),
        said,
    }
}

fn note(what: &str, said: String) -> Difference {
    Difference {
        weight: Weight::Note,
        what: what.to_owned(),
        said,
    }
}

fn columns(one: &Column, other: &Column, sides: Sides<'_>, found: &mut Vec<Difference>) {
    let name = &one.name;
    let between = |one: &str, other: &str| {
        format!(
            "{name} is {one} on {}, {other} on {}",
            sides.primary, sides.shadow
        )
    };
    if one.kind != other.kind && !is_json_as_text(one, other) {
        found.push(differs(
            "type",
            between(&one.kind.told(), &other.kind.told()),
        ));
    }
    if one.nullable != other.nullable {
        let word = |nullable| if nullable { "NULL" } else { "NOT NULL" };
        found.push(differs(
            "null",
            between(word(one.nullable), word(other.nullable)),
        ));
    }
    if default(one) != default(other) {
        let word = |column: &Column| match default(column) {
            Some(text) => format!("DEFAULT {text}"),
            None => "without a default".to_owned(),
        };
        found.push(differs("default", between(&word(one), &word(other))));
    }
    if on_update(one) != on_update(other) {
        let word = |column: &Column| on_update(column).unwrap_or("never").to_owned();
        found.push(differs(
            "on_update",
            format!(
                "{name} is set at an UPDATE: {} on {}, {} on {}",
                word(one),
                sides.primary,
                word(other),
                sides.shadow
            ),
        ));
    }
    if one.is_generated() != other.is_generated() {
        let word = |generated| {
            if generated {
                "generated"
            } else {
                "not generated"
            }
        };
        found.push(differs(
            "generated",
            between(word(one.is_generated()), word(other.is_generated())),
        ));
    }
    if one.is_counted() && !other.is_counted() && !sides.sequence {
        found.push(differs(
            "generated_key",
            format!(
                "{name} is AUTO_INCREMENT on {}, and nothing generates it on {}",
                sides.primary, sides.shadow
            ),
        ));
    }
    let collations = (one.collation.as_deref(), other.collation.as_deref());
    if let (Some(mine), Some(theirs)) = collations
        && spelling(mine) != spelling(theirs)
    {
        found.push(note("collation", between(mine, theirs)));
    }
}

/// MariaDB keeps JSON as a longtext.
fn is_json_as_text(one: &Column, other: &Column) -> bool {
    let names = [one.kind.name.as_str(), other.kind.name.as_str()];
    names.contains(&"json") && names.contains(&"longtext")
}

/// utf8 and utf8mb3 are two names of one.
fn spelling(collation: &str) -> String {
    match collation.strip_prefix("utf8_") {
        Some(rest) => format!("utf8mb3_{rest}"),
        None => collation.to_owned(),
    }
}

/// A default in one spelling.
fn default(column: &Column) -> Option<String> {
    let text = column.default.as_deref()?;
    let lower = text.to_ascii_lowercase();
    if let Some(rest) = lower.strip_prefix("current_timestamp") {
        return Some(format!(
            "current_timestamp{}",
            rest.trim_start_matches("()").trim_start_matches("(0)")
        ));
    }
    if lower == "null" && column.nullable {
        return None;
    }
    let is_number = matches!(
        column.kind.name.as_str(),
        "tinyint"
            | "smallint"
            | "mediumint"
            | "int"
            | "bigint"
            | "decimal"
            | "float"
            | "double"
            | "year"
    );
    let number = is_number
        .then(|| super::number::decimal(text.as_bytes()))
        .flatten();
    Some(number.unwrap_or_else(|| text.to_owned()))
}

fn on_update(column: &Column) -> Option<&str> {
    let (_, rest) = column.extra.split_once("on update ")?;
    let word = rest.split(' ').next()?;
    Some(word.strip_suffix("()").unwrap_or(word))
}

/// What an index is, whatever it is called: whether it is unique, and its columns with what it takes of each.
type Essence = (bool, Vec<(String, Option<u32>)>);

fn indexes(primary: &Shape, shadow: &Shape, sides: Sides<'_>, found: &mut Vec<Difference>) {
    let of = |shape: &Shape| -> BTreeMap<Essence, String> {
        let indexes = shape.indexes.iter().map(|index| {
            let columns = index.columns.iter();
            let columns = columns.map(|(name, cut)| (name.to_ascii_lowercase(), *cut));
            ((index.unique, columns.collect()), index.name.clone())
        });
        indexes.collect()
    };
    let (mine, theirs) = (of(primary), of(shadow));
    let told = |(unique, columns): &Essence, name: &str| {
        let columns = columns.iter().map(|(column, cut)| match cut {
            Some(cut) => format!("{column}({cut})"),
            None => column.clone(),
        });
        let columns: Vec<String> = columns.collect();
        let kind = if *unique { "unique key" } else { "index" };
        format!("the {kind} {name} ({})", columns.join(", "))
    };
    for (index, name) in &mine {
        if !theirs.contains_key(index) {
            let said = format!("{} is missing on {}", told(index, name), sides.shadow);
            found.push(differs("index", said));
        }
    }
    for (index, name) in &theirs {
        if !mine.contains_key(index) {
            let said = format!("{} is on {} alone", told(index, name), sides.shadow);
            found.push(if index.0 {
                differs("index", said)
            } else {
                note("index", said)
            });
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::verify) fn column(name: &str, kind: &str) -> Column {
        let kind = SqlType::parse(kind);
        Column {
            name: name.into(),
            kind,
            collation: None,
            nullable: false,
            default: None,
            extra: String::new(),
        }
    }

    pub(in crate::verify) fn index(name: &str, unique: bool, columns: &[&str]) -> Index {
        Index {
            name: name.into(),
            unique,
            columns: columns
                .iter()
                .map(|one| ((*one).to_owned(), None))
                .collect(),
        }
    }

    const SIDES: Sides<'_> = Sides {
        primary: "legacy",
        shadow: "vitess",
        sequence: false,
    };

    fn table() -> Shape {
        Shape {
            columns: vec![
                Column {
                    extra: "auto_increment".into(),
                    ..column("id", "int(11)")
                },
                Column {
                    default: Some("0.00".into()),
                    ..column("price", "decimal(10,2)")
                },
                Column {
                    default: Some("CURRENT_TIMESTAMP".into()),
                    extra: "on update current_timestamp".into(),
                    ..column("at", "timestamp")
                },
                Column {
                    nullable: true,
                    collation: Some("utf8_general_ci".into()),
                    ..column("name", "varchar(20)")
                },
            ],
            indexes: vec![
                index("PRIMARY", true, &["id"]),
                index("by_name", false, &["name"]),
            ],
        }
    }

    fn of(change: impl FnOnce(&mut Shape)) -> Vec<(Weight, String)> {
        let mut shadow = table();
        change(&mut shadow);
        let found = compare(&table(), &shadow, SIDES);
        found
            .into_iter()
            .map(|one| (one.weight, one.what))
            .collect()
    }

    #[test]
    fn the_same_table_in_another_servers_words_is_the_same() {
        let found = of(|shadow| {
            shadow.columns[0].kind = SqlType::parse("int");
            shadow.columns[1].default = Some("0".into());
            shadow.columns[2].default = Some("current_timestamp()".into());
            shadow.columns[2].extra = "default_generated on update current_timestamp()".into();
            shadow.columns[3].collation = Some("utf8mb3_general_ci".into());
            shadow.columns[3].default = Some("NULL".into());
            shadow.indexes[1].name = "another_name".into();
        });
        assert_eq!(found, []);
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        use Weight::{Differs, Note};
        type Case<'a> = (fn(&mut Shape), &'a [(Weight, &'a str)]);
        let cases: [Case<'_>; 12] = [
            (|shadow| shadow.columns.swap(1, 2), &[(Differs, "order")]),
            (
                |shadow| drop(shadow.columns.remove(1)),
                &[(Differs, "column")],
            ),
            (
                |shadow| shadow.columns.push(column("more", "int")),
                &[(Differs, "column")],
            ),
            (
                |shadow| shadow.columns[1].kind = SqlType::parse("decimal(10,3)"),
                &[(Differs, "type")],
            ),
            (
                |shadow| shadow.columns[3].nullable = false,
                &[(Differs, "null")],
            ),
            (
                |shadow| shadow.columns[1].default = Some("1".into()),
                &[(Differs, "default")],
            ),
            (
                |shadow| shadow.columns[1].default = None,
                &[(Differs, "default")],
            ),
            (
                |shadow| shadow.columns[2].extra = String::new(),
                &[(Differs, "on_update")],
            ),
            (
                |shadow| shadow.columns[0].extra = String::new(),
                &[(Differs, "generated_key")],
            ),
            (
                |shadow| shadow.columns[3].collation = Some("utf8mb4_0900_ai_ci".into()),
                &[(Note, "collation")],
            ),
            (
                |shadow| drop(shadow.indexes.remove(1)),
                &[(Differs, "index")],
            ),
            (
                |shadow| shadow.indexes.push(index("u", true, &["name"])),
                &[(Differs, "index")],
            ),
        ];
        for (change, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|(weight, what)| (*weight, (*what).to_owned()))
                .collect();
            assert_eq!(of(change), expected);
        }
    }

    #[test]
    fn a_sequence_generates_keys_too() {
        let mut shadow = table();
        shadow.columns[0].extra = String::new();
        let sides = Sides {
            sequence: true,
            ..SIDES
        };
        assert_eq!(compare(&table(), &shadow, sides), []);
    }
}

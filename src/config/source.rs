//! The config as written: a tree of values that know where they stand.
//!
//! TOML first, then the environment on top: `UNDERSTUDY__SECTION__KEY`.

use super::fault::{Fault, Place};
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// What an environment variable must begin with to be ours.
pub(super) const PREFIX: &str = "UNDERSTUDY__";

pub(super) type Table = BTreeMap<String, Node>;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value as written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    /// An environment variable's text, whose type is the key's.
    Untyped(String),
    /// What no key is: a date, a number past 64 bits.
    Other(&'static str),
}

impl Value {
    /// What it is, in a word.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Untyped(_) => "a text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a fraction",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Parses TOML. A syntax error is one fault with its line.
pub(super) fn parse(text: &str) -> Result<Table, Fault> {
    match DeTable::parse(text) {
        Ok(table) => Ok(read_table(text, table.get_ref())),
        Err(error) => Err(Fault {
            place: error
                .span()
                .map_or(Place::Absent, |span| line(text, span.start)),
            key: String::new(),
            wrong: format!("this is not TOML: {}", error.message().replace('\n', ", ")),
            right: "write sections as [section] and below them key = value, texts in quotes"
                .to_owned(),
        }),
    }
}

fn line(text: &str, offset: usize) -> Place {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    Place::Line(1 + before.iter().filter(|byte| **byte == b'\n').count())
}

fn read_table(text: &str, table: &DeTable<'_>) -> Table {
    let node = |key: &toml::Spanned<_>, value| Node {
        place: line(text, key.span().start),
        value,
    };
    table
        .iter()
        .map(|(key, value)| {
            (
                key.get_ref().to_string(),
                node(key, read_value(text, value.get_ref())),
            )
        })
        .collect()
}

fn read_value(text: &str, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(one) => Value::Text(one.to_string()),
        DeValue::Integer(one) => i64::from_str_radix(one.as_str(), one.radix())
            .map_or(Value::Other("a number past 64 bits"), Value::Integer),
        DeValue::Float(one) => one
            .as_str()
            .parse()
            .map_or(Value::Other("a strange number"), Value::Float),
        DeValue::Boolean(one) => Value::Bool(*one),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(list) => Value::List(
            list.iter()
                .map(|one| Node {
                    place: line(text, one.span().start),
                    value: read_value(text, one.get_ref()),
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(read_table(text, table)),
    }
}

/// Lays the environment over the file. Names are matched without regard to case; a name that the
/// file does not have is taken in lower case.
pub(super) fn overlay(root: &mut Table, variables: &[(String, String)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (variable, text) in variables {
        let Some(path) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let steps: Vec<&str> = path.split("__").collect();
        if steps.iter().any(|step| step.is_empty()) || !set(root, &steps, variable, text) {
            faults.push(Fault {
                place: Place::Variable(variable.clone()),
                key: String::new(),
                wrong: "this names no key".to_owned(),
                right: format!("write {PREFIX}SECTION__KEY, such as {PREFIX}PRIMARY__PASSWORD"),
            });
        }
    }
    faults
}

fn set(table: &mut Table, steps: &[&str], variable: &str, text: &str) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return false;
    };
    let name = table
        .keys()
        .find(|key| key.eq_ignore_ascii_case(step))
        .cloned();
    let name = name.unwrap_or_else(|| step.to_lowercase());
    let place = Place::Variable(variable.to_owned());
    if rest.is_empty() {
        table.insert(
            name,
            Node {
                place,
                value: Value::Untyped(text.to_owned()),
            },
        );
        return true;
    }
    let node = table.entry(name).or_insert(Node {
        place,
        value: Value::Table(Table::new()),
    });
    match &mut node.value {
        Value::Table(inner) => set(inner, rest, variable, text),
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::List(_)
        | Value::Untyped(_)
        | Value::Other(_) => false,
    }
}

//! Column definitions: what an application must be able to rely on, and what it need not.
//!
//! The type's family and the name of a table's column must be the same. Lengths, decimals, flags,
//! charsets, type codes within a family, names of expressions and origins differ on every healthy
//! pair of MySQL and vtgate: tolerated, each under its name.

use super::Context;
use super::cells::{Encoding, Family, Ruler};
use super::findings::Findings;
use super::verdict::{Kind, Tolerance};
use crate::wire::column::{Column, flag, kind};
use std::fmt::Arguments;

/// The charset of bytes that are no text.
const BINARY_CHARSET: u16 = 63;

/// Compares the definitions of one column; `number` counts from 1, as in ORDER BY 1.
pub(super) fn compare(number: usize, one: &Column, other: &Column, found: &mut Findings<'_>) {
    family(number, one, other, found);
    names(number, one, other, found);
    details(format_args!("column {number}"), one, other, found);
}

/// The same where the statement was only prepared. While a parameter has no value, the type of an
/// expression may hang on it and is a guess, which each server makes in its own way; the
/// execution's definitions, which follow, are held to the rule.
pub(super) fn prepared(
    number: usize,
    one: &Column,
    other: &Column,
    has_parameters: bool,
    found: &mut Findings<'_>,
) {
    if !has_parameters || one.is_a_tables() || other.is_a_tables() {
        family(number, one, other, found);
    }
    names(number, one, other, found);
    details(format_args!("column {number}"), one, other, found);
}

fn family(number: usize, one: &Column, other: &Column, found: &mut Findings<'_>) {
    let (family, other_family) = (Family::of(one.kind), Family::of(other.kind));
    if !go_together(family, other_family) {
        found.diverge(Kind::Columns, || {
            format!(
                "column {number}: type class {} against {}",
                family.name(),
                other_family.name()
            )
        });
    }
}

fn names(number: usize, one: &Column, other: &Column, found: &mut Findings<'_>) {
    if one.name != other.name {
        if one.is_a_tables() || other.is_a_tables() {
            found.diverge(Kind::Columns, || {
                format!("column {number}: another name for a table's column")
            });
        } else {
            found.tolerate(Tolerance::ExpressionName, || {
                format!("column {number}: another name for an expression")
            });
        }
    }
}

/// What differs on every healthy pair; `what` says of which definition.
pub(super) fn details(what: Arguments<'_>, one: &Column, other: &Column, found: &mut Findings<'_>) {
    let differences = [
        (one.kind != other.kind, Tolerance::TypeCode),
        (one.length != other.length, Tolerance::ColumnLength),
        (one.decimals != other.decimals, Tolerance::Decimals),
        (one.flags != other.flags, Tolerance::ColumnFlags),
        (came_from(one) != came_from(other), Tolerance::ColumnFlags),
        (one.charset != other.charset, Tolerance::Charset),
    ];
    for (differs, tolerance) in differences {
        if differs {
            found.tolerate(tolerance, || format!("{what}: {}", tolerance.name()));
        }
    }
}

/// Whether values of the two can be compared at all.
pub(super) fn go_together(one: Family, other: Family) -> bool {
    one == other || one == Family::Null || other == Family::Null
}

/// What decides how a value is written in a binary row: two columns of one family that agree in
/// this write equal values as equal bytes.
pub(super) fn encoding(column: &Column) -> (u8, bool) {
    match Family::of(column.kind) {
        Family::Integer | Family::Float => (column.kind, column.is_unsigned()),
        Family::Decimal
        | Family::Text
        | Family::Date
        | Family::DateTime
        | Family::Time
        | Family::Bit
        | Family::Json
        | Family::Geometry
        | Family::Null => (0, false),
    }
}

fn came_from(column: &Column) -> [&str; 4] {
    [
        &column.schema,
        &column.table,
        &column.org_table,
        &column.org_name,
    ]
}

/// How this column's cells are judged by the rules. `reads_clock`: the statement calls NOW() or
/// the like.
pub(super) fn ruler(
    one: &Column,
    other: &Column,
    reads_clock: bool,
    context: &Context<'_>,
) -> Ruler {
    let rules = context.rules;
    let family = match Family::of(one.kind) {
        Family::Null => Family::of(other.kind),
        known => known,
    };
    let either = |test: fn(&Column) -> bool| test(one) || test(other);
    let filled_by_clock = if either(|column| column.is_a_tables()) {
        either(|column| column.flags & (flag::TIMESTAMP | flag::ON_UPDATE_NOW) != 0)
            || context.clock_columns.fills(one)
    } else {
        reads_clock
    };
    let allowed = if one.is_a_tables() {
        rules.clock
    } else {
        rules.clock.saturating_add(context.behind)
    };
    Ruler {
        family,
        single: either(|column| column.kind == kind::FLOAT),
        padded: either(|column| column.kind == kind::STRING),
        clock: (filled_by_clock && rules.tolerate.has(Tolerance::Clock)).then_some(allowed),
        encodings: (Encoding::of(one.charset), Encoding::of(other.charset)),
        collated: !either(|column| {
            column.charset == BINARY_CHARSET || column.flags & flag::BINARY != 0
        }),
        tolerate: rules.tolerate,
    }
}

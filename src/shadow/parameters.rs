//! The values of a prepared statement's parameters, as SQL has them. Pure.

use super::job::Run;
use super::reading::shape;
use crate::sql::{Dialect, quoted};
use crate::wire::command::Command;
use crate::wire::execute::{Execute, Value, long_parameter};
use crate::wire::row::Cell;
use std::collections::BTreeSet;

/// Bytes of all values together at most.
const BYTES_MAX: usize = 16 << 10;

/// The literals of an execution, or why they cannot be told; `None` for other commands.
pub(super) fn of(run: &Run) -> Option<Result<Vec<String>, &'static str>> {
    if run.reading.kind != Command::STMT_EXECUTE {
        return None;
    }
    Some(read(run))
}

fn read(run: &Run) -> Result<Vec<String>, &'static str> {
    let (_, statement) = run.reading.statement.as_ref().ok_or("it is not known")?;
    let parts = run.long.iter();
    let long: BTreeSet<u16> = parts
        .filter_map(|part| long_parameter(&part.command).ok())
        .collect();
    let shape = shape(statement, run.charged.facts.capabilities, &long);
    let sent = Execute::parse(&run.charged.command, shape).map_err(|_| "it cannot be read")?;
    let values = sent
        .decode(shape)
        .map_err(|_| "its parameters cannot be read")?;
    let mut bytes = 0;
    let mut literals = Vec::with_capacity(values.len());
    for value in values {
        let Value::Here(cell) = value else {
            return Err("some of its parameters were sent apart");
        };
        let literal = literal(cell, run.reading.dialect);
        bytes += literal.len();
        if bytes > BYTES_MAX {
            return Err("its parameters are longer than 16 KiB");
        }
        literals.push(literal);
    }
    Ok(literals)
}

fn literal(cell: Cell<'_>, dialect: Dialect) -> String {
    match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => quoted(text, dialect),
            // Longer than is kept anyway: no need to write all of it.
            Err(_) => bytes
                .iter()
                .take(BYTES_MAX)
                .fold("0x".to_owned(), |text, byte| text + &format!("{byte:02X}")),
        },
        Cell::Int(number) => number.to_string(),
        Cell::UInt(number) => number.to_string(),
        Cell::Float(number) => format!("{number:e}"),
        Cell::Double(number) => format!("{number:e}"),
        Cell::Date(at) => format!(
            "'{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}'",
            at.year, at.month, at.day, at.hour, at.minute, at.second, at.micros
        ),
        Cell::Time(span) => format!(
            "'{}{:02}:{:02}:{:02}.{:06}'",
            if span.negative { "-" } else { "" },
            u64::from(span.days) * 24 + u64::from(span.hours),
            span.minutes,
            span.seconds,
            span.micros
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::row::{Date, Time};

    #[test]
    fn values_are_written_as_literals() {
        for (cell, wanted) in [
            (Cell::Null, "NULL"),
            (Cell::Int(-5), "-5"),
            (Cell::UInt(u64::MAX), "18446744073709551615"),
            (Cell::Double(1.5), "1.5e0"),
            (Cell::Bytes(br"it's \"), r"'it''s \\'"),
            (Cell::Bytes(b"\xff\x00"), "0xFF00"),
            (
                Cell::Date(Date {
                    year: 2024,
                    month: 1,
                    day: 2,
                    ..Date::default()
                }),
                "'2024-01-02 00:00:00.000000'",
            ),
            (
                Cell::Time(Time {
                    negative: true,
                    days: 1,
                    hours: 2,
                    ..Time::default()
                }),
                "'-26:00:00.000000'",
            ),
        ] {
            assert_eq!(literal(cell, Dialect::default()), wanted);
        }
    }
}

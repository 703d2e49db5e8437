//! Rows, text and binary, as cells.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset_row.html>
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html>

use super::column::{Column, kind};
use super::packet::{Reader, Short};

/// A value in a row, or a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// Any value of a text row; strings, decimals, bits, JSON and the like of a binary one.
    Bytes(&'a [u8]),
    /// A signed integer of any width.
    Int(i64),
    /// An unsigned integer of any width, and YEAR.
    UInt(u64),
    /// A FLOAT.
    Float(f32),
    /// A DOUBLE.
    Double(f64),
    /// A DATE, DATETIME or TIMESTAMP.
    Date(Date),
    /// A TIME.
    Time(Time),
}

/// A point in time, as a binary row says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Date {
    pub year: u16,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub micros: u32,
}

/// A span of time, as a binary row says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Time {
    pub negative: bool,
    pub days: u32,
    pub hours: u8,
    pub minutes: u8,
    pub seconds: u8,
    pub micros: u32,
}

/// Why a row cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Cut off.
    #[error("a row: {0}")]
    Short(#[from] Short),
    /// Bytes are left behind the last column.
    #[error("a row goes on behind its last column")]
    Long,
    /// Not the layout of a binary row, or of a date or time in it.
    #[error("a binary row is not laid out as the protocol says")]
    Layout,
    /// A type that the protocol does not know.
    #[error("a column of unknown type {0}")]
    Type(u8),
}

/// The cells of a text row of so many columns.
pub fn text_row(payload: &[u8], columns: usize) -> Result<Vec<Cell<'_>>, RowError> {
    let mut reader = Reader::new(payload);
    // Each cell takes a byte at least, so no length from the wire can make this large.
    let mut cells = Vec::with_capacity(columns.min(payload.len()));
    for _ in 0..columns {
        cells.push(reader.lenenc_bytes()?.map_or(Cell::Null, Cell::Bytes));
    }
    whole(&reader, cells)
}

/// The cells of a binary row with these columns.
pub fn binary_row<'a>(payload: &'a [u8], columns: &[Column]) -> Result<Vec<Cell<'a>>, RowError> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != 0 {
        return Err(RowError::Layout);
    }
    let nulls = reader.bytes((columns.len() + 7 + NULLS_OFFSET) / 8)?;
    let mut cells = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        cells.push(if is_null(nulls, at + NULLS_OFFSET) {
            Cell::Null
        } else {
            binary_value(&mut reader, column.kind, column.is_unsigned())?
        });
    }
    whole(&reader, cells)
}

/// The first two bits of a binary row's NULL bitmap are reserved.
const NULLS_OFFSET: usize = 2;

/// Whether bit `at` of a NULL bitmap is set; bits behind its end are not.
pub(super) fn is_null(nulls: &[u8], at: usize) -> bool {
    nulls
        .get(at / 8)
        .is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

fn whole<'a>(reader: &Reader<'a>, cells: Vec<Cell<'a>>) -> Result<Vec<Cell<'a>>, RowError> {
    if reader.is_empty() {
        Ok(cells)
    } else {
        Err(RowError::Long)
    }
}

/// Takes one value of the binary protocol.
///
/// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html#sect_protocol_binary_resultset_row_value>
pub(super) fn binary_value<'a>(
    reader: &mut Reader<'a>,
    kind: u8,
    unsigned: bool,
) -> Result<Cell<'a>, RowError> {
    Ok(match kind {
        kind::NULL => Cell::Null,
        kind::TINY | kind::BOOL => integer(reader, 1, unsigned)?,
        kind::SHORT => integer(reader, 2, unsigned)?,
        kind::YEAR => integer(reader, 2, true)?,
        kind::LONG | kind::INT24 => integer(reader, 4, unsigned)?,
        kind::LONGLONG => integer(reader, 8, unsigned)?,
        kind::FLOAT => Cell::Float(f32::from_bits(reader.u32()?)),
        kind::DOUBLE => Cell::Double(f64::from_bits(reader.u64()?)),
        kind::DATE
        | kind::NEWDATE
        | kind::DATETIME
        | kind::DATETIME2
        | kind::TIMESTAMP
        | kind::TIMESTAMP2 => Cell::Date(date(reader)?),
        kind::TIME | kind::TIME2 => Cell::Time(time(reader)?),
        kind::DECIMAL
        | kind::VARCHAR
        | kind::BIT
        | kind::VECTOR
        | kind::JSON
        | kind::NEWDECIMAL
        | kind::ENUM
        | kind::SET
        | kind::TINY_BLOB
        | kind::MEDIUM_BLOB
        | kind::LONG_BLOB
        | kind::BLOB
        | kind::VAR_STRING
        | kind::STRING
        | kind::GEOMETRY => reader.lenenc_bytes()?.map_or(Cell::Null, Cell::Bytes),
        unknown => return Err(RowError::Type(unknown)),
    })
}

/// An integer of 1, 2, 4 or 8 bytes.
fn integer<'a>(reader: &mut Reader<'a>, bytes: u8, unsigned: bool) -> Result<Cell<'a>, RowError> {
    let raw = match bytes {
        1 => u64::from(reader.u8()?),
        2 => u64::from(reader.u16()?),
        4 => u64::from(reader.u32()?),
        _ => reader.u64()?,
    };
    if unsigned {
        return Ok(Cell::UInt(raw));
    }
    let unused = 64 - 8 * u32::from(bytes);
    Ok(Cell::Int((raw << unused).cast_signed() >> unused))
}

fn date(reader: &mut Reader<'_>) -> Result<Date, RowError> {
    let len = reader.u8()?;
    let mut date = Date::default();
    if !matches!(len, 0 | 4 | 7 | 11) {
        return Err(RowError::Layout);
    }
    if len >= 4 {
        (date.year, date.month, date.day) = (reader.u16()?, reader.u8()?, reader.u8()?);
    }
    if len >= 7 {
        (date.hour, date.minute, date.second) = (reader.u8()?, reader.u8()?, reader.u8()?);
    }
    if len == 11 {
        date.micros = reader.u32()?;
    }
    Ok(date)
}

fn time(reader: &mut Reader<'_>) -> Result<Time, RowError> {
    let len = reader.u8()?;
    let mut time = Time::default();
    if !matches!(len, 0 | 8 | 12) {
        return Err(RowError::Layout);
    }
    if len >= 8 {
        (time.negative, time.days) = (reader.u8()? != 0, reader.u32()?);
        (time.hours, time.minutes, time.seconds) = (reader.u8()?, reader.u8()?, reader.u8()?);
    }
    if len == 12 {
        time.micros = reader.u32()?;
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::super::column::flag;
    use super::*;

    fn column(kind: u8, flags: u16) -> Column {
        Column {
            kind,
            flags,
            ..Column::default()
        }
    }

    #[test]
    fn a_text_row_reads_nulls_and_empty_strings_apart() {
        let cells = text_row(b"\x01a\xFB\x00\x03abc", 4).unwrap();
        assert_eq!(
            cells,
            [
                Cell::Bytes(b"a"),
                Cell::Null,
                Cell::Bytes(b""),
                Cell::Bytes(b"abc")
            ]
        );
        assert_eq!(text_row(b"\x01a\x00", 1), Err(RowError::Long));
        assert_eq!(text_row(b"\x01a", usize::MAX), Err(RowError::Short(Short)));
    }

    #[test]
    fn every_binary_type_reads() {
        let date = Date {
            year: 2024,
            month: 2,
            day: 29,
            ..Date::default()
        };
        let noon = Date {
            hour: 12,
            minute: 30,
            second: 1,
            ..date
        };
        let time = Time {
            negative: true,
            days: 1,
            hours: 2,
            minutes: 3,
            seconds: 4,
            micros: 5,
        };
        let cases: [(u8, u16, &[u8], Cell<'_>); 19] = [
            (kind::TINY, 0, b"\xFF", Cell::Int(-1)),
            (kind::TINY, flag::UNSIGNED, b"\xFF", Cell::UInt(255)),
            (kind::SHORT, 0, b"\x00\x80", Cell::Int(-32768)),
            (kind::YEAR, 0, b"\xE8\x07", Cell::UInt(2024)),
            (kind::LONG, 0, b"\xFE\xFF\xFF\xFF", Cell::Int(-2)),
            (kind::INT24, 0, b"\x05\x00\x00\x00", Cell::Int(5)),
            (kind::LONGLONG, 0, &[0xFF; 8], Cell::Int(-1)),
            (
                kind::LONGLONG,
                flag::UNSIGNED,
                &[0xFF; 8],
                Cell::UInt(u64::MAX),
            ),
            (kind::FLOAT, 0, b"\x00\x00\xC0\x3F", Cell::Float(1.5)),
            (
                kind::DOUBLE,
                0,
                b"\x00\x00\x00\x00\x00\x00\xF8\x3F",
                Cell::Double(1.5),
            ),
            (kind::DATE, 0, b"\x04\xE8\x07\x02\x1D", Cell::Date(date)),
            (
                kind::DATETIME,
                0,
                b"\x07\xE8\x07\x02\x1D\x0C\x1E\x01",
                Cell::Date(noon),
            ),
            (
                kind::TIMESTAMP,
                0,
                b"\x0B\xE8\x07\x02\x1D\x0C\x1E\x01\x07\x00\x00\x00",
                Cell::Date(Date { micros: 7, ..noon }),
            ),
            (kind::DATETIME, 0, b"\x00", Cell::Date(Date::default())),
            (
                kind::TIME,
                0,
                b"\x0C\x01\x01\x00\x00\x00\x02\x03\x04\x05\x00\x00\x00",
                Cell::Time(time),
            ),
            (kind::TIME, 0, b"\x00", Cell::Time(Time::default())),
            (kind::NEWDECIMAL, 0, b"\x041.50", Cell::Bytes(b"1.50")),
            (kind::BIT, 0, b"\x01\x05", Cell::Bytes(b"\x05")),
            (kind::JSON, 0, b"\x02{}", Cell::Bytes(b"{}")),
        ];
        for (kind, flags, value, expected) in cases {
            let payload = [b"\x00\x00", value].concat();
            let columns = [column(kind, flags)];
            assert_eq!(
                binary_row(&payload, &columns),
                Ok(vec![expected]),
                "type {kind}"
            );
            for len in 0..payload.len() {
                assert!(
                    binary_row(&payload[..len], &columns).is_err(),
                    "type {kind} cut at {len}"
                );
            }
        }
    }

    #[test]
    fn nulls_of_a_binary_row_stand_in_its_bitmap_from_the_third_bit() {
        let columns = vec![column(kind::TINY, 0); 8];
        let cells = binary_row(b"\x00\xF8\x01\x09\x0A", &columns).unwrap();
        let nulls = cells
            .iter()
            .map(|cell| *cell == Cell::Null)
            .collect::<Vec<_>>();
        assert_eq!(nulls, [false, true, true, true, true, true, true, false]);
    }

    #[test]
    fn what_is_not_laid_out_right_is_refused() {
        let columns = [column(kind::DATE, 0)];
        assert_eq!(binary_row(b"\x00\x00\x05", &columns), Err(RowError::Layout));
        assert_eq!(binary_row(b"\x01", &columns), Err(RowError::Layout));
        assert_eq!(
            binary_row(b"\x00\x00\x00", &[column(200, 0)]),
            Err(RowError::Type(200))
        );
    }
}

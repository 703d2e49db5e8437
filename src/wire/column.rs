//! Column definitions.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset_column_definition.html>

use super::packet::{Reader, Short};

/// A column's definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Database.
    pub schema: String,
    /// Table, by its alias.
    pub table: String,
    /// Table, by its own name; empty for expressions.
    pub org_table: String,
    /// Column, by its alias.
    pub name: String,
    /// Column, by its own name; empty for expressions.
    pub org_name: String,
    /// Collation id; 63 is binary.
    pub charset: u16,
    /// Display length, in bytes.
    pub length: u32,
    /// Type: see [`kind`].
    pub kind: u8,
    /// Flags: see [`flag`].
    pub flags: u16,
    /// Digits behind the point; 0x1F for those that a float has.
    pub decimals: u8,
}

/// Column flags.
///
/// <https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__column__definition__flags.html>
pub mod flag {
    /// Cannot be NULL.
    pub const NOT_NULL: u16 = 1;
    /// Part of the primary key.
    pub const PRIMARY_KEY: u16 = 2;
    /// Unique by itself.
    pub const UNIQUE_KEY: u16 = 4;
    /// Unsigned.
    pub const UNSIGNED: u16 = 32;
    /// Binary.
    pub const BINARY: u16 = 128;
    /// Numbered by the server.
    pub const AUTO_INCREMENT: u16 = 512;
    /// Filled by the clock at INSERT.
    pub const TIMESTAMP: u16 = 1024;
    /// Filled by the clock at UPDATE.
    pub const ON_UPDATE_NOW: u16 = 8192;
}

/// Column types.
///
/// <https://dev.mysql.com/doc/dev/mysql-server/latest/field__types_8h.html>
#[expect(missing_docs, reason = "MySQL's names say it")]
pub mod kind {
    pub const DECIMAL: u8 = 0;
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const TYPED_ARRAY: u8 = 20;
    pub const VECTOR: u8 = 242;
    pub const BOOL: u8 = 244;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

impl Column {
    /// Reads a definition's payload. What COM_FIELD_LIST adds behind it is not read.
    pub fn parse(payload: &[u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(payload);
        let _catalog = name(&mut reader)?;
        let column = Self {
            schema: name(&mut reader)?,
            table: name(&mut reader)?,
            org_table: name(&mut reader)?,
            name: name(&mut reader)?,
            org_name: name(&mut reader)?,
            ..Self::default()
        };
        reader.lenenc_int()?;
        Ok(Self {
            charset: reader.u16()?,
            length: reader.u32()?,
            kind: reader.u8()?,
            flags: reader.u16()?,
            decimals: reader.u8()?,
            ..column
        })
    }

    /// Whether it is a table's column and not an expression.
    #[must_use]
    pub const fn is_a_tables(&self) -> bool {
        !self.org_name.is_empty()
    }

    /// Whether the column's numbers have no sign.
    #[must_use]
    pub const fn is_unsigned(&self) -> bool {
        self.flags & flag::UNSIGNED != 0
    }
}

/// A name comes in the session's charset. What is not UTF-8 is read byte by byte, so that two
/// names never become one.
fn name(reader: &mut Reader<'_>) -> Result<String, Short> {
    let bytes = reader.lenenc_bytes()?.unwrap_or_default();
    let text = std::str::from_utf8(bytes).map(str::to_owned);
    Ok(text.unwrap_or_else(|_| bytes.iter().copied().map(char::from).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `select u.id from shop.users u` on MySQL 5.6.
    const ID: &[u8] = b"\x03def\x04shop\x01u\x05users\x02id\x02ID\x0c\x3f\x00\x0b\x00\x00\x00\x03\x03\x42\x00\x00\x00";

    #[test]
    fn a_definition_reads_as_the_manual_lays_it_out() {
        let column = Column::parse(ID).unwrap();
        let names = [
            &column.schema,
            &column.table,
            &column.org_table,
            &column.name,
            &column.org_name,
        ];
        assert_eq!(names, ["shop", "u", "users", "id", "ID"]);
        assert_eq!((column.charset, column.length), (63, 11));
        assert_eq!(
            (column.kind, column.flags, column.decimals),
            (kind::LONG, 0x4203, 0)
        );
        assert!(!column.is_unsigned());
    }

    #[test]
    fn a_definition_cut_anywhere_is_short() {
        for len in 0..ID.len() - 2 {
            assert_eq!(Column::parse(&ID[..len]), Err(Short), "{len}");
        }
    }

    #[test]
    fn names_that_are_not_utf_8_stay_apart() {
        let named =
            |byte| Column::parse(&[b"\x00\x00\x00\x00\x01", &[byte][..], &ID[20..]].concat());
        assert_ne!(named(0xE4).unwrap().name, named(0xF6).unwrap().name);
    }
}

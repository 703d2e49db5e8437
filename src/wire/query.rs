//! The text of a COM_QUERY, which stands behind its query attributes where those were agreed on.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query.html>

use super::capability::Capabilities;
use super::command::Command;
use super::packet::{Reader, Short};
use super::parameter::{Block, Value, values};
use super::row::RowError;
use std::collections::BTreeSet;

/// A COM_QUERY, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Query<'a> {
    /// The statement, or statements.
    pub text: &'a [u8],
    /// Query attributes: name and value.
    pub attributes: Vec<(&'a [u8], Value<'a>)>,
}

/// The statement of a COM_QUERY's payload, for a connection that agreed on `capabilities`.
pub fn query_text(payload: &[u8], capabilities: Capabilities) -> Result<&[u8], RowError> {
    Query::parse(payload, capabilities).map(|query| query.text)
}

impl<'a> Query<'a> {
    /// Reads a payload, the command byte included.
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Result<Self, RowError> {
        let mut reader = Reader::new(payload);
        if Command(reader.u8()?) != Command::QUERY {
            return Err(RowError::Layout);
        }
        let mut attributes = Vec::new();
        if capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
            let count = usize::try_from(reader.lenenc_int()?).map_err(|_| Short)?;
            let _sets = reader.lenenc_int()?;
            if count > 0 {
                attributes = read_attributes(&mut reader, count)?;
            }
        }
        Ok(Self {
            text: reader.rest(),
            attributes,
        })
    }
}

fn read_attributes<'a>(
    reader: &mut Reader<'a>,
    count: usize,
) -> Result<Vec<(&'a [u8], Value<'a>)>, RowError> {
    let block = Block::read(reader, count, true)?;
    // A query has no earlier one whose types could count.
    let types = block.types.ok_or(RowError::Layout)?;
    let values = values(reader, block.nulls, &types, &BTreeSet::new())?;
    let names = block.names.into_iter();
    Ok(names
        .enumerate()
        .filter_map(|(at, name)| Some((name, *values.get(at)?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::row::Cell;
    use super::*;

    const PLAIN: Capabilities = Capabilities::PROTOCOL_41;
    const ATTRIBUTES: Capabilities = PLAIN.with(Capabilities::QUERY_ATTRIBUTES);

    /// As the `mysql` client sends `query_attributes trace abc n NULL` and `select 1`.
    const TWO: &[u8] = b"\x03\x02\x01\x02\x01\xFE\x00\x05trace\xFE\x00\x01n\x03abcselect 1";

    #[test]
    fn the_text_stands_behind_the_attributes() {
        let query = Query::parse(TWO, ATTRIBUTES).unwrap();
        assert_eq!(query.text, b"select 1");
        let expected: [(&[u8], Value<'_>); 2] = [
            (b"trace", Value::Here(Cell::Bytes(b"abc"))),
            (b"n", Value::Here(Cell::Null)),
        ];
        assert_eq!(query.attributes, expected);
        assert_eq!(
            query_text(b"\x03\x00\x01select 1", ATTRIBUTES),
            Ok(&b"select 1"[..])
        );
        assert_eq!(query_text(b"\x03select 1", PLAIN), Ok(&b"select 1"[..]));
    }

    #[test]
    fn attributes_cut_anywhere_or_countless_are_refused() {
        for len in 0..TWO.len() - 8 {
            assert!(query_text(&TWO[..len], ATTRIBUTES).is_err(), "{len}");
        }
        assert!(
            query_text(
                b"\x03\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x00\x01",
                ATTRIBUTES
            )
            .is_err()
        );
        assert_eq!(query_text(b"\x0E", PLAIN), Err(RowError::Layout));
    }
}

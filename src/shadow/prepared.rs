//! Prepared statements on their way to another server: ids exchanged, query attributes taken out,
//! a cursor's flag cleared, the parameters' types always sent. Pure.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_stmt_execute.html>

use crate::sql::Analysis;
use crate::wire::command::Command;
use crate::wire::{Reader, Short};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A statement as the client prepared it.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its text as sent, not mapped.
    pub(super) text: Vec<u8>,
    /// What it is.
    pub(super) analysis: Arc<Analysis>,
    /// How many parameters the primary found in it.
    pub(super) parameters: u16,
}

/// A COM_STMT_EXECUTE, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Execute {
    /// A cursor was asked for.
    pub(super) cursor: bool,
    /// One bit for each parameter.
    pub(super) nulls: Vec<u8>,
    /// Two bytes for each parameter, where they were sent.
    pub(super) types: Option<Vec<u8>>,
    /// The values, one after the other.
    pub(super) values: Vec<u8>,
}

/// The statement id of an EXECUTE, SEND_LONG_DATA, CLOSE, RESET or FETCH.
pub(super) fn statement_id(payload: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(payload);
    reader.u8().and_then(|_| reader.u32()).ok()
}

/// The parameter number of a SEND_LONG_DATA.
pub(super) fn long_parameter(payload: &[u8]) -> Option<u16> {
    let mut reader = Reader::new(payload);
    reader.bytes(5).and_then(|_| reader.u16()).ok()
}

/// Whether a COM_STMT_EXECUTE asks for a cursor.
pub(super) fn asks_for_cursor(payload: &[u8]) -> bool {
    payload.get(5).is_some_and(|flags| flags & CURSOR_MASK != 0)
}

const CURSOR_MASK: u8 = 0x07;
const PARAMETER_COUNT_AVAILABLE: u8 = 0x08;

/// What must be known to read an EXECUTE.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape<'a> {
    /// Parameters of the statement.
    pub(super) parameters: u16,
    /// The session agreed on query attributes.
    pub(super) attributes: bool,
    /// The types sent with an earlier EXECUTE.
    pub(super) known_types: Option<&'a [u8]>,
    /// Parameters whose value was sent by SEND_LONG_DATA.
    pub(super) long: &'a BTreeSet<u16>,
}

impl Execute {
    /// Reads a payload.
    pub(super) fn parse(payload: &[u8], shape: Shape<'_>) -> Result<Self, Short> {
        let mut reader = Reader::new(payload);
        reader.bytes(5)?;
        let flags = reader.u8()?;
        reader.u32()?;
        let own = usize::from(shape.parameters);
        let cursor = flags & CURSOR_MASK != 0;
        let mut all = own;
        if shape.attributes && (own > 0 || flags & PARAMETER_COUNT_AVAILABLE != 0) {
            all = usize::try_from(reader.lenenc_int()?).map_err(|_| Short)?;
        }
        if own == 0 {
            return Ok(Self {
                cursor,
                nulls: Vec::new(),
                types: None,
                values: Vec::new(),
            });
        }
        if all < own {
            return Err(Short);
        }
        let nulls = reader.bytes(all.div_ceil(8))?.to_vec();
        let types = match reader.u8()? {
            0 => None,
            _ => Some(types(&mut reader, all, own, shape.attributes)?),
        };
        let mut values = reader.rest();
        if all > own {
            let sent = types.as_deref().or(shape.known_types).ok_or(Short)?;
            let length = values_length(values, &nulls, sent, shape.long)?;
            values = values.get(..length).ok_or(Short)?;
        }
        let nulls = nulls.get(..own.div_ceil(8)).ok_or(Short)?.to_vec();
        Ok(Self {
            cursor,
            nulls,
            types,
            values: values.to_vec(),
        })
    }

    /// The payload for another server: its id, no cursor, no attributes, types always sent.
    pub(super) fn payload(&self, id: u32, known_types: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.nulls.len() + self.values.len());
        out.push(Command::STMT_EXECUTE.0);
        out.extend_from_slice(&id.to_le_bytes());
        out.push(0);
        out.extend_from_slice(&1u32.to_le_bytes());
        if self.nulls.is_empty() {
            return out;
        }
        out.extend_from_slice(&self.nulls);
        match self.types.as_deref().or(known_types) {
            Some(types) => {
                out.push(1);
                out.extend_from_slice(types);
            }
            None => out.push(0),
        }
        out.extend_from_slice(&self.values);
        out
    }
}

fn types(reader: &mut Reader<'_>, all: usize, own: usize, names: bool) -> Result<Vec<u8>, Short> {
    let mut kept = Vec::new();
    for nth in 0..all {
        let two = reader.bytes(2)?;
        if names {
            reader.lenenc_bytes()?;
        }
        if nth < own {
            kept.extend_from_slice(two);
        }
    }
    Ok(kept)
}

/// How many bytes the values of the parameters that `types` describes take.
fn values_length(
    values: &[u8],
    nulls: &[u8],
    types: &[u8],
    long: &BTreeSet<u16>,
) -> Result<usize, Short> {
    let mut reader = Reader::new(values);
    for (nth, two) in (0u16..).map_while(|nth| {
        let at = usize::from(nth) * 2;
        types.get(at..at + 2).map(|two| (nth, two))
    }) {
        let null = nulls
            .get(usize::from(nth / 8))
            .is_some_and(|byte| byte >> (nth % 8) & 1 == 1);
        if null || long.contains(&nth) {
            continue;
        }
        skip_value(&mut reader, two.first().copied().unwrap_or(0))?;
    }
    Ok(values.len() - reader.rest().len())
}

/// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html>
fn skip_value(reader: &mut Reader<'_>, kind: u8) -> Result<(), Short> {
    match kind {
        6 => Ok(()),                            // NULL
        1 => reader.bytes(1).map(drop),         // TINY
        2 | 13 => reader.bytes(2).map(drop),    // SHORT, YEAR
        3 | 4 | 9 => reader.bytes(4).map(drop), // LONG, FLOAT, INT24
        5 | 8 => reader.bytes(8).map(drop),     // DOUBLE, LONGLONG
        7 | 10 | 11 | 12 => {
            let len = reader.u8()?; // temporal values carry a one-byte length
            reader.bytes(usize::from(len)).map(drop)
        }
        _ => reader.lenenc_bytes().map(drop),
    }
}

/// A COM_QUERY's payload without its query attributes; the text begins after the first byte.
///
/// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query.html>
pub(super) fn query_text(payload: &[u8], attributes: bool) -> Result<&[u8], Short> {
    let mut reader = Reader::new(payload);
    reader.u8()?;
    if !attributes {
        return Ok(reader.rest());
    }
    let count = usize::try_from(reader.lenenc_int()?).map_err(|_| Short)?;
    reader.lenenc_int()?;
    if count > 0 {
        let nulls = reader.bytes(count.div_ceil(8))?.to_vec();
        reader.u8()?;
        let types = types(&mut reader, count, count, true)?;
        let length = values_length(reader.rest(), &nulls, &types, &BTreeSet::new())?;
        reader.bytes(length)?;
    }
    Ok(reader.rest())
}

/// A command's payload: its first byte, then `rest`.
pub(super) fn payload(command: Command, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + rest.len());
    out.push(command.0);
    out.extend_from_slice(rest);
    out
}

/// A SEND_LONG_DATA or STMT_RESET under another id.
pub(super) fn with_id(original: &[u8], id: u32) -> Vec<u8> {
    let mut out = original.to_vec();
    if let Some(place) = out.get_mut(1..5) {
        place.copy_from_slice(&id.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(parameters: u16, attributes: bool, long: &BTreeSet<u16>) -> Shape<'_> {
        Shape {
            parameters,
            attributes,
            known_types: None,
            long,
        }
    }

    #[test]
    fn the_id_is_exchanged_the_cursor_cleared_and_the_types_sent_again() {
        let none = BTreeSet::new();
        let sent = [
            0x17, 9, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 8, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        ];
        let first = Execute::parse(&sent, shape(1, false, &none)).unwrap();
        assert!(first.cursor);
        let mut expected = sent.to_vec();
        expected[1] = 4;
        expected[5] = 0;
        assert_eq!(first.payload(4, None), expected);
        let again = [
            0x17, 9, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        ];
        let again = Execute::parse(&again, shape(1, false, &none)).unwrap();
        assert_eq!(again.payload(4, first.types.as_deref()), expected);
    }

    #[test]
    fn query_attributes_are_taken_out_of_both_protocols() {
        let none = BTreeSet::new();
        let mut execute = vec![0x17, 9, 0, 0, 0, 8, 1, 0, 0, 0];
        execute.extend([2, 0b00, 1]); // one parameter, one attribute
        execute.extend([8, 0, 0]); // LONGLONG, no name
        execute.extend([254, 0, 1, b'k']); // an attribute k
        execute.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        execute.extend([2, b'v', b'v']);
        let parsed = Execute::parse(&execute, shape(1, true, &none)).unwrap();
        assert_eq!(parsed.types.as_deref(), Some([8, 0].as_slice()));
        assert_eq!(parsed.values, [7, 0, 0, 0, 0, 0, 0, 0]);
        let mut query = vec![3, 1, 1, 0, 1, 254, 0, 1, b'k', 2, b'v', b'v'];
        query.extend(b"SELECT 1");
        assert_eq!(query_text(&query, true), Ok(b"SELECT 1".as_slice()));
        assert_eq!(
            query_text(b"\x03\0\x01SELECT 1", true),
            Ok(b"SELECT 1".as_slice())
        );
        assert_eq!(
            query_text(b"\x03SELECT 1", false),
            Ok(b"SELECT 1".as_slice())
        );
    }

    #[test]
    fn values_that_were_sent_as_long_data_are_not_looked_for() {
        let long = BTreeSet::from([0]);
        let mut execute = vec![0x17, 9, 0, 0, 0, 8, 1, 0, 0, 0];
        execute.extend([3, 0, 1]);
        execute.extend([252, 0, 0, 1, 0, 0, 254, 0, 1, b'k']);
        execute.extend([5, 1, b'v']);
        let parsed = Execute::parse(&execute, shape(2, true, &long)).unwrap();
        assert_eq!(parsed.values, [5]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            parameters in 0u16..20,
            attributes: bool,
        ) {
            let none = BTreeSet::new();
            let _ = Execute::parse(&bytes, shape(parameters, attributes, &none))
                .map(|execute| execute.payload(1, None));
            let _ = query_text(&bytes, attributes);
            let _ = (statement_id(&bytes), long_parameter(&bytes), asks_for_cursor(&bytes));
        }
    }
}

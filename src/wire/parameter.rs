//! The block of binary values that a COM_QUERY's attributes and a COM_STMT_EXECUTE's parameters
//! share: NULL bitmap, types, names, values.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_stmt_execute.html>

use super::column::kind;
use super::packet::{Reader, Short};
use super::row::{self, Cell, RowError};
use std::collections::BTreeSet;

/// A parameter's type as a client sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type {
    /// The type: see [`super::column::kind`].
    pub kind: u8,
    /// The byte behind it; 0x80 for unsigned.
    pub flags: u8,
}

impl Type {
    const UNSIGNED: u8 = 0x80;

    /// BIGINT UNSIGNED.
    pub const NUMBER: Self = Self {
        kind: kind::LONGLONG,
        flags: Self::UNSIGNED,
    };

    /// A string.
    pub const TEXT: Self = Self {
        kind: kind::VAR_STRING,
        flags: 0,
    };

    /// Whether its numbers have no sign.
    #[must_use]
    pub const fn is_unsigned(self) -> bool {
        self.flags & Self::UNSIGNED != 0
    }
}

/// A parameter's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// It stands in the packet.
    Here(Cell<'a>),
    /// COM_STMT_SEND_LONG_DATA brought it.
    SentBefore,
}

/// What stands before the values.
#[derive(Clone, Debug)]
pub(super) struct Block<'a> {
    pub(super) nulls: &'a [u8],
    /// The types, where the packet has them.
    pub(super) types: Option<Vec<Type>>,
    /// The names, where the packet has types and names.
    pub(super) names: Vec<&'a [u8]>,
}

impl<'a> Block<'a> {
    /// Takes the block of `count` parameters from the front; the values follow.
    pub(super) fn read(reader: &mut Reader<'a>, count: usize, named: bool) -> Result<Self, Short> {
        let nulls = reader.bytes(count.div_ceil(8))?;
        let mut block = Self {
            nulls,
            types: None,
            names: Vec::new(),
        };
        if reader.u8()? == 0 {
            return Ok(block);
        }
        // Two bytes each at least: no count from the wire can make these large.
        let mut types = Vec::with_capacity(count.min(reader.rest().len() / 2));
        for _ in 0..count {
            types.push(Type {
                kind: reader.u8()?,
                flags: reader.u8()?,
            });
            if named {
                block.names.push(reader.lenenc_bytes()?.unwrap_or_default());
            }
        }
        block.types = Some(types);
        Ok(block)
    }
}

/// Takes the values of parameters of these types; `long` are the numbers of those that were sent
/// before.
pub(super) fn values<'a>(
    reader: &mut Reader<'a>,
    nulls: &[u8],
    types: &[Type],
    long: &BTreeSet<u16>,
) -> Result<Vec<Value<'a>>, RowError> {
    let mut values = Vec::with_capacity(types.len());
    for (at, kind) in types.iter().enumerate() {
        values.push(if u16::try_from(at).is_ok_and(|at| long.contains(&at)) {
            Value::SentBefore
        } else if row::is_null(nulls, at) {
            Value::Here(Cell::Null)
        } else {
            Value::Here(row::binary_value(reader, kind.kind, kind.is_unsigned())?)
        });
    }
    Ok(values)
}

/// The bytes of parameters of these types, as they stand in the packet; none for NULLs and for
/// those that were sent before.
pub(super) fn spans<'a>(
    reader: &mut Reader<'a>,
    nulls: &[u8],
    types: &[Type],
    long: &BTreeSet<u16>,
) -> Result<Vec<&'a [u8]>, RowError> {
    let mut spans = Vec::with_capacity(types.len());
    for (at, kind) in types.iter().enumerate() {
        let sent_before = u16::try_from(at).is_ok_and(|at| long.contains(&at));
        let rest = reader.rest();
        if !sent_before && !row::is_null(nulls, at) {
            row::binary_value(reader, kind.kind, kind.is_unsigned())?;
        }
        let used = rest.len() - reader.rest().len();
        spans.push(rest.get(..used).unwrap_or_default());
    }
    Ok(spans)
}

/// Appends types as a packet without names carries them.
pub(super) fn write_types(out: &mut Vec<u8>, types: &[Type]) {
    for kind in types {
        out.extend_from_slice(&[kind.kind, kind.flags]);
    }
}

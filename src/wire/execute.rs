//! Commands on prepared statements: read, and made ready for another server, with its id, without
//! query attributes or a cursor, with the types that the client sent once.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_stmt_execute.html>

use super::capability::Capabilities;
use super::command::Command;
use super::packet::{Reader, Short, write_lenenc, write_lenenc_bytes};
use super::parameter::{Block, spans, values, write_types};
pub use super::parameter::{Type, Value};
use super::row::{self, RowError};
use std::collections::BTreeSet;

/// Flags that ask for a cursor, of whatever kind.
const CURSOR: u8 = 0x07;
/// Flag: the packet says how many parameters follow, attributes included.
const PARAMETER_COUNT_AVAILABLE: u8 = 0x08;

/// What must be known to read a COM_STMT_EXECUTE.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// Parameters of the statement, as COM_STMT_PREPARE's answer said.
    pub parameters: u16,
    /// What the connection agreed on.
    pub capabilities: Capabilities,
    /// The types that an earlier execution bound.
    pub types: Option<&'a [Type]>,
    /// Numbers of the parameters that COM_STMT_SEND_LONG_DATA brought.
    pub long: &'a BTreeSet<u16>,
}

/// A COM_STMT_EXECUTE, taken apart; its query attributes are read and left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The statement.
    pub statement_id: u32,
    /// Flags, as sent.
    pub flags: u8,
    /// Always 1.
    pub iterations: u32,
    /// Parameters of the statement.
    pub parameters: u16,
    /// One bit for each parameter.
    pub nulls: Vec<u8>,
    /// The parameters' types, where the packet binds them anew.
    pub types: Option<Vec<Type>>,
    /// Number of query attributes.
    pub attributes: usize,
    /// The parameters' values, undecoded.
    pub values: &'a [u8],
}

impl<'a> Execute<'a> {
    /// Reads a payload, the command byte included.
    pub fn parse(payload: &'a [u8], shape: Shape<'_>) -> Result<Self, RowError> {
        let mut reader = Reader::new(payload);
        if Command(reader.u8()?) != Command::STMT_EXECUTE {
            return Err(RowError::Layout);
        }
        let statement_id = reader.u32()?;
        let flags = reader.u8()?;
        let iterations = reader.u32()?;
        let mut execute = Self {
            statement_id,
            flags,
            iterations,
            parameters: shape.parameters,
            nulls: Vec::new(),
            types: None,
            attributes: 0,
            values: &[],
        };
        let own = usize::from(shape.parameters);
        let named = shape.capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        let all = if named && (own > 0 || flags & PARAMETER_COUNT_AVAILABLE != 0) {
            usize::try_from(reader.lenenc_int()?).map_err(|_| Short)?
        } else {
            own
        };
        execute.attributes = all.checked_sub(own).ok_or(RowError::Layout)?;
        if all > 0 {
            execute.read_parameters(&mut reader, own, all, shape)?;
        }
        Ok(execute)
    }

    fn read_parameters(
        &mut self,
        reader: &mut Reader<'a>,
        own: usize,
        all: usize,
        shape: Shape<'_>,
    ) -> Result<(), RowError> {
        let named = shape.capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        let block = Block::read(reader, all, named)?;
        self.nulls = first_bits(block.nulls, own);
        self.types = block
            .types
            .and_then(|types| types.get(..own).map(<[Type]>::to_vec));
        self.values = reader.rest();
        if self.attributes > 0 {
            let types = self
                .types
                .as_deref()
                .or(shape.types)
                .ok_or(RowError::Layout)?;
            let types = types.get(..own).ok_or(RowError::Layout)?;
            values(reader, &self.nulls, types, shape.long)?;
            let used = self.values.len() - reader.rest().len();
            self.values = self.values.get(..used).unwrap_or_default();
        }
        Ok(())
    }

    /// The parameters' values, by the types that the packet or an earlier one bound.
    pub fn decode(&self, shape: Shape<'_>) -> Result<Vec<Value<'a>>, RowError> {
        if shape.parameters == 0 {
            return Ok(Vec::new());
        }
        let types = self
            .types
            .as_deref()
            .or(shape.types)
            .ok_or(RowError::Layout)?;
        let types = types
            .get(..usize::from(shape.parameters))
            .ok_or(RowError::Layout)?;
        let mut reader = Reader::new(self.values);
        let values = values(&mut reader, &self.nulls, types, shape.long)?;
        if reader.is_empty() {
            Ok(values)
        } else {
            Err(RowError::Long)
        }
    }

    /// The payload for a server that agreed on `capabilities` and knows the statement under
    /// `statement_id`: no cursor, no attributes, and the types, the packet's own or else `types`.
    #[must_use]
    pub fn encode(
        &self,
        statement_id: u32,
        capabilities: Capabilities,
        types: Option<&[Type]>,
    ) -> Vec<u8> {
        let named = capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        let types = self.types.as_deref().or(types).unwrap_or_default();
        let mut out =
            Vec::with_capacity(24 + self.nulls.len() + 3 * types.len() + self.values.len());
        out.push(Command::STMT_EXECUTE.0);
        out.extend_from_slice(&statement_id.to_le_bytes());
        out.push(self.flags & !CURSOR & !PARAMETER_COUNT_AVAILABLE);
        out.extend_from_slice(&self.iterations.to_le_bytes());
        if self.nulls.is_empty() {
            return out;
        }
        if named {
            write_lenenc(&mut out, self.parameters.into());
        }
        out.extend_from_slice(&self.nulls);
        out.push(u8::from(!types.is_empty()));
        if named {
            for kind in types {
                write_types(&mut out, &[*kind]);
                out.push(0);
            }
        } else {
            write_types(&mut out, types);
        }
        out.extend_from_slice(self.values);
        out
    }
}

/// A parameter of an execution that is put together anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// The client's own, by its number.
    Own(u16),
    /// A BIGINT UNSIGNED.
    Number(u64),
    /// A string.
    Text(String),
}

impl Execute<'_> {
    /// The payload for a statement of other parameters: `arguments`, in order, those of the client
    /// with the types that they were bound with. `shape` is that of the client's own statement.
    ///
    /// # Errors
    /// The client's types are not known, or its values are not as they say.
    pub fn rebind(
        &self,
        statement_id: u32,
        capabilities: Capabilities,
        shape: Shape<'_>,
        arguments: &[Argument],
    ) -> Result<Vec<u8>, RowError> {
        let own = usize::from(shape.parameters);
        let types = self.types.as_deref().or(shape.types).unwrap_or_default();
        let types = types.get(..own).ok_or(RowError::Layout)?;
        let mut reader = Reader::new(self.values);
        let spans = spans(&mut reader, &self.nulls, types, shape.long)?;
        let mut nulls = vec![0; arguments.len().div_ceil(8)];
        let (mut bound, mut values) = (Vec::with_capacity(arguments.len()), Vec::new());
        for (at, argument) in arguments.iter().enumerate() {
            match argument {
                Argument::Own(number) => {
                    let number = usize::from(*number);
                    bound.push(*types.get(number).ok_or(RowError::Layout)?);
                    values.extend_from_slice(spans.get(number).ok_or(RowError::Layout)?);
                    if row::is_null(&self.nulls, number)
                        && let Some(byte) = nulls.get_mut(at / 8)
                    {
                        *byte |= 1 << (at % 8);
                    }
                }
                Argument::Number(number) => {
                    bound.push(Type::NUMBER);
                    values.extend_from_slice(&number.to_le_bytes());
                }
                Argument::Text(text) => {
                    bound.push(Type::TEXT);
                    write_lenenc_bytes(&mut values, text.as_bytes());
                }
            }
        }
        let other = Execute {
            parameters: u16::try_from(arguments.len()).map_err(|_| RowError::Layout)?,
            nulls,
            types: Some(bound),
            values: &values,
            ..self.clone()
        };
        Ok(other.encode(statement_id, capabilities, None))
    }
}

/// The first `count` bits of a bitmap, the rest of the last byte clear.
fn first_bits(bitmap: &[u8], count: usize) -> Vec<u8> {
    let mut bits = bitmap.get(..count.div_ceil(8)).unwrap_or(bitmap).to_vec();
    if let Some(last) = bits.last_mut()
        && !count.is_multiple_of(8)
    {
        *last &= (1 << (count % 8)) - 1;
    }
    bits
}

/// The statement of an EXECUTE, SEND_LONG_DATA, CLOSE, RESET or FETCH.
pub fn statement_id(payload: &[u8]) -> Result<u32, Short> {
    let mut reader = Reader::new(payload);
    reader.u8()?;
    reader.u32()
}

/// Writes another statement into such a command.
pub fn set_statement_id(payload: &mut [u8], statement_id: u32) -> Result<(), Short> {
    let place = payload.get_mut(1..5).ok_or(Short)?;
    place.copy_from_slice(&statement_id.to_le_bytes());
    Ok(())
}

/// The parameter that a COM_STMT_SEND_LONG_DATA brings.
pub fn long_parameter(payload: &[u8]) -> Result<u16, Short> {
    let mut reader = Reader::new(payload);
    reader.bytes(5)?;
    reader.u16()
}

/// Writes another parameter into a COM_STMT_SEND_LONG_DATA.
pub fn set_long_parameter(payload: &mut [u8], number: u16) -> Result<(), Short> {
    let place = payload.get_mut(5..7).ok_or(Short)?;
    place.copy_from_slice(&number.to_le_bytes());
    Ok(())
}

/// Whether a COM_STMT_EXECUTE asks for a cursor.
#[must_use]
pub fn asks_for_cursor(payload: &[u8]) -> bool {
    payload.get(5).is_some_and(|flags| flags & CURSOR != 0)
}

#[cfg(test)]
mod tests {
    use super::super::column::kind;
    use super::super::row::Cell;
    use super::*;

    const PLAIN: Capabilities = Capabilities::PROTOCOL_41;
    const ATTRIBUTES: Capabilities = PLAIN.with(Capabilities::QUERY_ATTRIBUTES);
    const NONE: &BTreeSet<u16> = &BTreeSet::new();
    const LONGLONG: Type = Type {
        kind: kind::LONGLONG,
        flags: 0,
    };
    const TEXT: Type = Type {
        kind: kind::VAR_STRING,
        flags: 0,
    };

    const fn shape(parameters: u16, capabilities: Capabilities) -> Shape<'static> {
        Shape {
            parameters,
            capabilities,
            types: None,
            long: NONE,
        }
    }

    /// Statement 9, a cursor wanted, a number and a string.
    const FIRST: &[u8] = b"\x17\x09\x00\x00\x00\x01\x01\x00\x00\x00\x00\x01\x08\x00\xFD\x00\
        \x07\x00\x00\x00\x00\x00\x00\x00\x02hi";
    /// The same again, its types known.
    const AGAIN: &[u8] =
        b"\x17\x09\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x02hi";
    /// The same with one attribute, `n` = 5, on a connection that agreed on them.
    const ATTRIBUTED: &[u8] = b"\x17\x09\x00\x00\x00\x08\x01\x00\x00\x00\x03\x00\x01\x08\x00\x00\xFD\x00\x00\x01\x00\x01n\
        \x07\x00\x00\x00\x00\x00\x00\x00\x02hi\x05";

    fn for_the_other() -> Vec<u8> {
        let mut expected = FIRST.to_vec();
        expected[1] = 4;
        expected[5] = 0;
        expected
    }

    #[test]
    fn parameters_read_by_the_types_that_were_bound() {
        let expected = [Value::Here(Cell::Int(7)), Value::Here(Cell::Bytes(b"hi"))];
        let types = [LONGLONG, TEXT];
        let known = Shape {
            types: Some(&types),
            ..shape(2, PLAIN)
        };
        for (payload, shape) in [
            (FIRST, known),
            (AGAIN, known),
            (ATTRIBUTED, shape(2, ATTRIBUTES)),
        ] {
            let execute = Execute::parse(payload, shape).unwrap();
            assert_eq!((execute.statement_id, execute.iterations), (9, 1));
            assert_eq!(execute.decode(shape).unwrap(), expected);
        }
        let unknown = Execute::parse(AGAIN, shape(2, PLAIN)).unwrap();
        assert_eq!(unknown.decode(shape(2, PLAIN)), Err(RowError::Layout));
    }

    #[test]
    fn another_server_gets_its_id_the_types_no_cursor_and_no_attributes() {
        let types = [LONGLONG, TEXT];
        let cases = [(FIRST, PLAIN), (AGAIN, PLAIN), (ATTRIBUTED, ATTRIBUTES)];
        for (payload, capabilities) in cases {
            let execute = Execute::parse(payload, shape(2, capabilities)).unwrap();
            assert_eq!(execute.encode(4, PLAIN, Some(&types)), for_the_other());
            let named = execute.encode(4, ATTRIBUTES, Some(&types));
            let again = Execute::parse(&named, shape(2, ATTRIBUTES)).unwrap();
            assert_eq!(again.encode(4, PLAIN, None), for_the_other());
        }
        let again = Execute::parse(AGAIN, shape(2, PLAIN)).unwrap();
        assert_eq!(again.encode(9, PLAIN, None), AGAIN);
        let named = again.encode(9, ATTRIBUTES, None);
        assert_eq!(named[10..13], [2, 0, 0]);
    }

    #[test]
    fn an_execution_is_bound_anew_with_more_parameters_in_any_order() {
        let types = [LONGLONG, TEXT];
        let known = Shape {
            types: Some(&types),
            ..shape(2, PLAIN)
        };
        let arguments = [
            Argument::Number(u64::MAX),
            Argument::Own(1),
            Argument::Text("now".into()),
            Argument::Own(0),
        ];
        for (payload, own) in [
            (FIRST, known),
            (AGAIN, known),
            (
                ATTRIBUTED,
                Shape {
                    types: None,
                    ..shape(2, ATTRIBUTES)
                },
            ),
        ] {
            let execute = Execute::parse(payload, own).unwrap();
            let sent = execute.rebind(4, PLAIN, own, &arguments).unwrap();
            let again = Execute::parse(&sent, shape(4, PLAIN)).unwrap();
            assert_eq!((again.statement_id, again.flags), (4, 0));
            assert_eq!(
                again.decode(shape(4, PLAIN)).unwrap(),
                [
                    Value::Here(Cell::UInt(u64::MAX)),
                    Value::Here(Cell::Bytes(b"hi")),
                    Value::Here(Cell::Bytes(b"now")),
                    Value::Here(Cell::Int(7)),
                ]
            );
        }
        let long = BTreeSet::from([1]);
        let sent_before = Shape {
            long: &long,
            ..known
        };
        let execute = Execute::parse(&FIRST[..FIRST.len() - 3], sent_before).unwrap();
        let sent = execute.rebind(4, PLAIN, sent_before, &arguments).unwrap();
        assert!(sent.ends_with(b"\x03now\x07\x00\x00\x00\x00\x00\x00\x00"));
        let execute = Execute::parse(AGAIN, shape(2, PLAIN)).unwrap();
        let unknown = execute.rebind(4, PLAIN, shape(2, PLAIN), &arguments);
        assert_eq!(unknown, Err(RowError::Layout));
    }

    #[test]
    fn a_null_stays_one_wherever_it_is_moved() {
        let types = [LONGLONG, TEXT];
        let known = Shape {
            types: Some(&types),
            ..shape(2, PLAIN)
        };
        let mut null = AGAIN[..AGAIN.len() - 3].to_vec();
        null[10] = 0b10;
        let execute = Execute::parse(&null, known).unwrap();
        let arguments = [Argument::Own(1), Argument::Own(0)];
        let sent = execute.rebind(4, PLAIN, known, &arguments).unwrap();
        let again = Execute::parse(&sent, shape(2, PLAIN)).unwrap();
        assert_eq!(
            again.decode(shape(2, PLAIN)).unwrap(),
            [Value::Here(Cell::Null), Value::Here(Cell::Int(7))]
        );
    }

    #[test]
    fn values_that_were_sent_before_are_not_looked_for() {
        let long = BTreeSet::from([1]);
        let shape = Shape {
            long: &long,
            ..shape(2, PLAIN)
        };
        let execute = Execute::parse(&FIRST[..FIRST.len() - 3], shape).unwrap();
        let expected = [Value::Here(Cell::Int(7)), Value::SentBefore];
        assert_eq!(execute.decode(shape).unwrap(), expected);
    }

    #[test]
    fn a_statement_without_parameters_may_have_attributes() {
        let plain = b"\x17\x09\x00\x00\x00\x00\x01\x00\x00\x00";
        let with_one = [
            &plain[..5],
            b"\x08\x01\x00\x00\x00\x01\x00\x01\x01\x00\x01n\x05",
        ]
        .concat();
        let with_none = [&plain[..5], b"\x08\x01\x00\x00\x00\x00"].concat();
        for payload in [plain.to_vec(), with_one, with_none] {
            let execute = Execute::parse(&payload, shape(0, ATTRIBUTES)).unwrap();
            assert_eq!(execute.encode(9, PLAIN, None), plain);
            assert_eq!(execute.decode(shape(0, ATTRIBUTES)), Ok(Vec::new()));
        }
    }

    #[test]
    fn nulls_of_attributes_are_not_those_of_parameters() {
        assert_eq!(first_bits(&[0xFF, 0xFF], 9), [0xFF, 0x01]);
        assert_eq!(first_bits(&[0xFF], 8), [0xFF]);
        assert!(first_bits(&[0xFF], 0).is_empty());
    }

    #[test]
    fn a_command_cut_anywhere_never_panics() {
        for payload in [FIRST, AGAIN, ATTRIBUTED] {
            for len in 0..payload.len() {
                for capabilities in [PLAIN, ATTRIBUTES] {
                    let _ = Execute::parse(&payload[..len], shape(2, capabilities))
                        .and_then(|execute| execute.decode(shape(2, capabilities)).map(drop));
                }
            }
        }
    }

    #[test]
    fn ids_and_numbers_stand_where_every_such_command_has_them() {
        let mut payload = b"\x18\x09\x00\x00\x00\x03\x00data".to_vec();
        assert_eq!(
            (statement_id(&payload), long_parameter(&payload)),
            (Ok(9), Ok(3))
        );
        set_statement_id(&mut payload, 4).unwrap();
        assert_eq!(statement_id(&payload), Ok(4));
        assert_eq!(set_statement_id(&mut [0x19, 0, 0], 4), Err(Short));
        assert!(asks_for_cursor(FIRST) && !asks_for_cursor(ATTRIBUTED));
    }
}

//! Answers as MySQL's packets: text rows for COM_QUERY, binary ones for COM_STMT_EXECUTE.
//!
//! SQLite's columns have no types, so a column's is that of the cells that it holds: whole numbers,
//! numbers, else text.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response.html>

use super::ask::{Fault, Rows};
use crate::ledger::VIEWS;
use crate::wire::answer::Done;
use crate::wire::column::kind;
use crate::wire::packet::{write_lenenc, write_lenenc_bytes, write_packet};
use crate::wire::reply::{write_eof, write_err, write_ok};
use crate::wire::status::Status;
use rusqlite::types::Value;

/// utf8mb4_general_ci, and the character set of numbers and bytes.
const UTF8: u16 = 45;
const BINARY: u16 = 63;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Binary,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Integers,
    Numbers,
    Texts,
    Bytes,
}

impl Holds {
    /// Nothing but NULL is text.
    fn of<'a>(cells: impl Iterator<Item = &'a Value>) -> Self {
        let mut holds = None;
        for cell in cells {
            let one = match cell {
                Value::Null => continue,
                Value::Integer(_) => Self::Integers,
                Value::Real(_) => Self::Numbers,
                Value::Text(_) => Self::Texts,
                Value::Blob(_) => Self::Bytes,
            };
            holds = Some(match (holds, one) {
                (None, one) => one,
                (Some(before), one) if before == one => one,
                (Some(Self::Integers | Self::Numbers), Self::Integers | Self::Numbers) => {
                    Self::Numbers
                }
                (Some(_), Self::Bytes) | (Some(Self::Bytes), _) => Self::Bytes,
                (Some(_), _) => Self::Texts,
            });
        }
        holds.unwrap_or(Self::Texts)
    }

    const fn kind(self) -> u8 {
        match self {
            Self::Integers => kind::LONGLONG,
            Self::Numbers => kind::DOUBLE,
            Self::Texts => kind::VAR_STRING,
            Self::Bytes => kind::BLOB,
        }
    }
}

const DONE: Status = Status(Status::AUTOCOMMIT);

/// An OK packet; returns the sequence number that follows, as all here.
pub(super) fn ok(out: &mut Vec<u8>, seq: u8) -> u8 {
    let done = Done {
        status: DONE,
        ..Done::default()
    };
    write_ok(out, seq, done)
}

/// An EOF packet.
pub(super) fn eof(out: &mut Vec<u8>, seq: u8) -> u8 {
    write_eof(out, seq, DONE, 0)
}

/// An ERR packet.
pub(super) fn fault(out: &mut Vec<u8>, seq: u8, fault: &Fault) -> u8 {
    write_err(out, seq, fault.code, fault.sqlstate, &fault.text)
}

/// The head of an answer to COM_STMT_PREPARE, and the definitions of what the statement takes and
/// gives. What a column will hold is not known before it is run: it is told with the rows.
pub(super) fn prepared(
    out: &mut Vec<u8>,
    mut seq: u8,
    id: u32,
    parameters: u16,
    columns: &[String],
) -> u8 {
    let count = u16::try_from(columns.len()).unwrap_or(u16::MAX);
    let mut head = vec![0];
    head.extend_from_slice(&id.to_le_bytes());
    head.extend_from_slice(&count.to_le_bytes());
    head.extend_from_slice(&parameters.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]);
    seq = write_packet(out, seq, &head);
    if parameters > 0 {
        for _ in 0..parameters {
            seq = definition(out, seq, "?", Holds::Texts);
        }
        seq = eof(out, seq);
    }
    if count > 0 {
        for name in columns {
            seq = definition(out, seq, name, Holds::Texts);
        }
        seq = eof(out, seq);
    }
    seq
}

/// A result set, written piece by piece.
pub(super) struct Writer<'a> {
    rows: std::slice::Iter<'a, Vec<Value>>,
    holds: Vec<Holds>,
    form: Form,
    seq: u8,
    over: bool,
}

impl<'a> Writer<'a> {
    /// Writes the head: column count and definitions.
    pub(super) fn begin(out: &mut Vec<u8>, seq: u8, answer: &'a Rows, form: Form) -> Self {
        let holds: Vec<Holds> = (0..answer.columns.len())
            .map(|at| Holds::of(answer.rows.iter().filter_map(|row| row.get(at))))
            .collect();
        let mut head = Vec::new();
        write_lenenc(&mut head, answer.columns.len() as u64);
        let mut seq = write_packet(out, seq, &head);
        for (at, name) in answer.columns.iter().enumerate() {
            let holds = holds.get(at).copied().unwrap_or(Holds::Texts);
            seq = definition(out, seq, name, holds);
        }
        seq = eof(out, seq);
        Self {
            rows: answer.rows.iter(),
            holds,
            form,
            seq,
            over: false,
        }
    }

    /// Writes rows until `out` has about so many bytes; whether there is more to write.
    pub(super) fn go_on(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        while !self.over && out.len() < bytes {
            match self.rows.next() {
                Some(row) => {
                    let payload = match self.form {
                        Form::Text => text(row),
                        Form::Binary => self.binary(row),
                    };
                    self.seq = write_packet(out, self.seq, &payload);
                }
                None => {
                    self.seq = eof(out, self.seq);
                    self.over = true;
                }
            }
        }
        !self.over
    }

    fn binary(&self, row: &[Value]) -> Vec<u8> {
        let mut nulls = vec![0_u8; (row.len() + 9) / 8];
        let mut cells = Vec::new();
        for (at, cell) in row.iter().enumerate() {
            let holds = self.holds.get(at).copied().unwrap_or(Holds::Texts);
            match (cell, holds) {
                (Value::Null, _) => {
                    if let Some(byte) = nulls.get_mut((at + 2) / 8) {
                        *byte |= 1 << ((at + 2) % 8);
                    }
                }
                (Value::Integer(n), Holds::Integers) => cells.extend_from_slice(&n.to_le_bytes()),
                (Value::Integer(_) | Value::Real(_), Holds::Numbers) => {
                    cells.extend_from_slice(&number(cell).to_le_bytes());
                }
                _ => write_lenenc_bytes(&mut cells, &shown(cell)),
            }
        }
        let mut payload = vec![0];
        payload.extend_from_slice(&nulls);
        payload.extend_from_slice(&cells);
        payload
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a column that holds other numbers too is one of doubles"
)]
fn number(cell: &Value) -> f64 {
    match cell {
        Value::Integer(n) => *n as f64,
        Value::Real(n) => *n,
        Value::Null | Value::Text(_) | Value::Blob(_) => 0.0,
    }
}

fn text(row: &[Value]) -> Vec<u8> {
    let mut payload = Vec::new();
    for cell in row {
        match cell {
            Value::Null => payload.push(0xFB),
            cell => write_lenenc_bytes(&mut payload, &shown(cell)),
        }
    }
    payload
}

fn shown(cell: &Value) -> Vec<u8> {
    match cell {
        Value::Null => Vec::new(),
        Value::Integer(n) => n.to_string().into_bytes(),
        Value::Real(n) => n.to_string().into_bytes(),
        Value::Text(text) => text.clone().into_bytes(),
        Value::Blob(bytes) => bytes.clone(),
    }
}

fn definition(out: &mut Vec<u8>, seq: u8, name: &str, holds: Holds) -> u8 {
    write_packet(out, seq, &defined(name, holds))
}

fn defined(name: &str, holds: Holds) -> Vec<u8> {
    let (charset, length) = match holds {
        Holds::Integers | Holds::Numbers => (BINARY, 22_u32),
        Holds::Texts => (UTF8, 1 << 20),
        Holds::Bytes => (BINARY, 1 << 20),
    };
    let mut payload = Vec::new();
    for part in ["def", "", "", "", name, ""] {
        write_lenenc_bytes(&mut payload, part.as_bytes());
    }
    payload.push(0x0C);
    payload.extend_from_slice(&charset.to_le_bytes());
    payload.extend_from_slice(&length.to_le_bytes());
    payload.push(holds.kind());
    payload.extend_from_slice(&[0, 0]);
    payload.push(if holds == Holds::Numbers { 31 } else { 0 });
    payload.extend_from_slice(&[0, 0]);
    payload
}

/// The columns of a table, as COM_FIELD_LIST asks for them: each with its default, which is NULL.
pub(super) fn fields(out: &mut Vec<u8>, mut seq: u8, table: &str) -> u8 {
    let view = VIEWS.iter().find(|view| view.name == table);
    for (name, kind) in view.map(|view| view.columns).unwrap_or_default() {
        let holds = match *kind {
            "bigint" => Holds::Integers,
            "double" => Holds::Numbers,
            _ => Holds::Texts,
        };
        let mut payload = defined(name, holds);
        payload.push(0xFB);
        seq = write_packet(out, seq, &payload);
    }
    eof(out, seq)
}

//! Answers, laid out once: the same bytes for the same question, whoever asks.

use crate::protocol::{AUTOCOMMIT, IN_TRANSACTION, packet, text};

/// What an answer depends on beside the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The client asked for DEPRECATE_EOF.
    pub deprecate_eof: bool,
    /// Binary rows.
    pub binary: bool,
    /// A transaction is open.
    pub in_transaction: bool,
}

impl Form {
    const COUNT: usize = 8;

    fn index(self) -> usize {
        usize::from(self.deprecate_eof)
            | usize::from(self.binary) << 1
            | usize::from(self.in_transaction) << 2
    }

    fn of_index(index: usize) -> Self {
        Self {
            deprecate_eof: index & 1 != 0,
            binary: index & 2 != 0,
            in_transaction: index & 4 != 0,
        }
    }

    fn status(self) -> u16 {
        AUTOCOMMIT
            | if self.in_transaction {
                IN_TRANSACTION
            } else {
                0
            }
    }
}

/// A read, by the size of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    B200,
    K16,
    M1,
    G1,
}

impl Size {
    /// The tables that the loads read are called by the size of their answers.
    pub const fn table(self) -> &'static [u8] {
        match self {
            Self::B200 => b"b200",
            Self::K16 => b"k16",
            Self::M1 => b"m1",
            Self::G1 => b"g1",
        }
    }

    /// Rows, and the bytes of each.
    const fn rows(self) -> (usize, usize) {
        match self {
            Self::B200 => (1, 120),
            Self::K16 => (16, KIB_ROW),
            Self::M1 => (1 << 10, KIB_ROW),
            // Of these rows, G1_TIMES as many.
            Self::G1 => (CYCLE, KIB_ROW),
        }
    }
}

/// A row's cell, so that its packet has 1 KiB.
const KIB_ROW: usize = 1017;

/// Rows after which the sequence numbers are the same again.
const CYCLE: usize = 256;

/// So many cycles are 1 GiB.
pub const G1_TIMES: usize = 4096;

/// A read's answer: the middle comes so many times.
#[derive(Debug)]
pub struct Answer {
    pub head: Vec<u8>,
    pub middle: Vec<u8>,
    pub times: usize,
    pub tail: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Answers {
    reads: Vec<[Answer; 4]>,
}

impl Answers {
    pub fn new() -> Self {
        let sizes = [Size::B200, Size::K16, Size::M1, Size::G1];
        let forms = (0..Form::COUNT).map(Form::of_index);
        Self {
            reads: forms
                .map(|form| sizes.map(|size| read(size, form)))
                .collect(),
        }
    }

    pub fn read(&self, size: Size, form: Form) -> &Answer {
        let of_form = self.reads.get(form.index()).expect("every form is there");
        let [b200, k16, m1, g1] = of_form;
        match size {
            Size::B200 => b200,
            Size::K16 => k16,
            Size::M1 => m1,
            Size::G1 => g1,
        }
    }
}

fn read(size: Size, form: Form) -> Answer {
    let (rows, bytes) = size.rows();
    let mut head = Vec::new();
    packet(&mut head, 1, &[1]);
    packet(&mut head, 2, &column(size.table(), b"c"));
    let mut sequence = 3;
    if !form.deprecate_eof {
        packet(&mut head, sequence, &end(form));
        sequence += 1;
    }
    let mut row = if form.binary { vec![0, 0] } else { Vec::new() };
    text(&mut row, &vec![b'x'; bytes]);
    let mut middle = Vec::new();
    for _ in 0..rows {
        packet(&mut middle, sequence, &row);
        sequence = sequence.wrapping_add(1);
    }
    let mut tail = Vec::new();
    packet(&mut tail, sequence, &end(form));
    let times = if size == Size::G1 { G1_TIMES } else { 1 };
    if times == 1 {
        // One write.
        head.append(&mut middle);
        head.append(&mut tail);
    }
    Answer {
        head,
        middle,
        times: if times == 1 { 0 } else { times },
        tail,
    }
}

/// What ends definitions and rows.
fn end(form: Form) -> Vec<u8> {
    let [low, high] = form.status().to_le_bytes();
    if form.deprecate_eof {
        vec![0xfe, 0, 0, low, high, 0, 0]
    } else {
        vec![0xfe, 0, 0, low, high]
    }
}

/// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset_column_definition.html>
fn column(table: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [b"def", &b"app"[..], table, table, name, name] {
        text(&mut out, part);
    }
    // utf8mb4, a CHAR of 1,020 bytes, no flags.
    out.extend_from_slice(&[0x0c, 45, 0, 0xfc, 3, 0, 0, 0xfe, 0, 0, 0, 0, 0]);
    out
}

/// An OK packet.
pub fn ok(out: &mut Vec<u8>, form: Form, affected: u8) {
    let [low, high] = form.status().to_le_bytes();
    packet(out, 1, &[0, affected, 0, low, high, 0, 0]);
}

/// A prepared statement's id, so many parameters, one column if it reads.
pub fn prepared(out: &mut Vec<u8>, form: Form, id: u32, parameters: u16, reads: Option<Size>) {
    let [a, b, c, d] = id.to_le_bytes();
    let [low, high] = parameters.to_le_bytes();
    packet(
        out,
        1,
        &[
            0,
            a,
            b,
            c,
            d,
            u8::from(reads.is_some()),
            0,
            low,
            high,
            0,
            0,
            0,
        ],
    );
    let mut sequence = 1_u8;
    let mut definitions = |columns: u16, definition: &[u8]| {
        for _ in 0..columns {
            sequence = sequence.wrapping_add(1);
            packet(out, sequence, definition);
        }
        if columns > 0 && !form.deprecate_eof {
            sequence = sequence.wrapping_add(1);
            packet(out, sequence, &end(form));
        }
    };
    definitions(parameters, &column(b"", b"?"));
    let table = reads.map_or(&b""[..], Size::table);
    definitions(u16::from(reads.is_some()), &column(table, b"c"));
}

/// Rows of texts.
pub fn rows(out: &mut Vec<u8>, form: Form, columns: usize, rows: &[Vec<String>]) {
    packet(out, 1, &[columns as u8]);
    let mut sequence = 1_u8;
    let mut next = |payload: &[u8]| {
        sequence = sequence.wrapping_add(1);
        packet(out, sequence, payload);
    };
    for _ in 0..columns {
        next(&column(b"", b"c"));
    }
    if !form.deprecate_eof {
        next(&end(form));
    }
    for row in rows {
        let mut payload = Vec::new();
        for cell in row {
            text(&mut payload, cell.as_bytes());
        }
        next(&payload);
    }
    next(&end(form));
}

//! What is said in a simulated session: commands drawn from a seed, and the bytes that a server
//! answers to each. Both fake servers answer by the same function, so that a healthy pair agrees.

use super::store::{self, Done, Failure, Session};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use understudy::wire::packet::{write_lenenc, write_lenenc_bytes, write_packet};
use understudy::wire::status::Status;

/// The client's capabilities in every simulated session: CONNECT_WITH_DB, PROTOCOL_41, LONG_FLAG, TRANSACTIONS,
/// SECURE_CONNECTION, MULTI_STATEMENTS, MULTI_RESULTS, PS_MULTI_RESULTS, PLUGIN_AUTH.
pub const CAPABILITIES: u32 =
    0x0008 | 0x0200 | 0x0004 | 0x2000 | 0x8000 | (1 << 16) | (1 << 17) | (1 << 18) | (1 << 19);

/// One command of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The payload.
    pub payload: Vec<u8>,
    /// Whether the next command is sent without waiting for this one's answer.
    pub pipelined: bool,
    /// Whether a server answers it at all.
    pub answered: bool,
}

fn command(payload: Vec<u8>) -> Command {
    let answered = !matches!(payload.first(), Some(0x18 | 0x19 | 0x01));
    Command {
        payload,
        pipelined: false,
        answered,
    }
}

fn query(text: &str) -> Command {
    command([b"\x03", text.as_bytes()].concat())
}

/// The commands of one session, QUIT not included.
pub fn commands(seed: u64, session: u64, count: usize) -> Vec<Command> {
    let mut drawn = Draw {
        rng: StdRng::seed_from_u64(seed ^ session.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        all: Vec::new(),
        in_transaction: false,
        next_id: 1000 * (session + 1),
    };
    while drawn.all.len() < count {
        drawn.next();
    }
    let mut all = drawn.all;
    for one in &mut all {
        one.pipelined = drawn.rng.random_range(0..6u32) == 0;
    }
    if drawn.rng.random_range(0..8u32) == 0 {
        // A replica's: from here on it reads the binary log.
        let kind = [0x12, 0x15, 0x1E][drawn.rng.random_range(0..3usize)];
        all.push(command(vec![kind, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
    }
    all
}

/// A session's script while it is drawn.
struct Draw {
    rng: StdRng,
    all: Vec<Command>,
    in_transaction: bool,
    /// Rows that no other session inserts.
    next_id: u64,
}

impl Draw {
    fn next(&mut self) {
        let id = self.rng.random_range(1..50u32);
        let table = self.rng.random_range(1..4u32);
        match self.rng.random_range(0..29u32) {
            0..=4 => self.say(&format!("SELECT id, v FROM t{table} WHERE id = {id}")),
            5 => self.say(&format!(
                "SELECT id, v FROM t{table} ORDER BY id LIMIT {}",
                id * 20
            )),
            6..=9 => self.say(&update(table, "1", id)),
            10 => self.say(&update(table, "@a", id)),
            11 | 12 => {
                let insert = self.insert(table);
                self.say(&insert);
            }
            13 => self.say(&format!(
                "DELETE FROM t{table} WHERE id = {}",
                self.next_id.saturating_sub(1)
            )),
            14..=17 => {
                self.in_transaction = !self.in_transaction;
                self.say(if self.in_transaction {
                    "BEGIN"
                } else {
                    "COMMIT"
                });
            }
            18 => {
                self.in_transaction = self.rng.random_range(0..3u32) == 0;
                self.say(if self.in_transaction {
                    "BEGIN"
                } else {
                    "ROLLBACK"
                });
            }
            19 if self.in_transaction => {
                self.say("SAVEPOINT s");
                self.say(&update(table, "10", id));
                self.say("ROLLBACK TO SAVEPOINT s");
            }
            20 => self.all.push(command(vec![0x0E])),
            21 => self.say(&format!("SELECT {id} FROM missing{table}")),
            22 => self.say(&format!("SET @a = {id}")),
            23 => self.variable(id),
            24 => self.all.extend(prepared(id)),
            25 => self.autocommit(),
            26 => self.database(),
            27 => {
                let insert = self.insert(table);
                self.say(&format!("{insert}; {}", update(table, "1", id)));
            }
            _ => self.say(&format!(
                "SELECT id FROM t{table}; SELECT v FROM t{table} WHERE id = {id}"
            )),
        }
    }

    fn say(&mut self, text: &str) {
        self.all.push(query(text));
    }

    fn insert(&mut self, table: u32) -> String {
        self.next_id += 1;
        format!("INSERT INTO t{table} (v, id) VALUES (0, {})", self.next_id)
    }

    /// Sets the variable, at times as a limited shadow does not know.
    fn variable(&mut self, id: u32) {
        match self.rng.random_range(0..5u32) {
            0 => self.say(&format!("SET @a := {id}")),
            // What it leaves behind, no journal can tell.
            1 => self.say(&format!("SELECT @a := {id}")),
            _ => self.say(&format!("SET @a = {id}")),
        }
    }

    fn autocommit(&mut self) {
        let on = self.rng.random_range(0..2u32);
        self.in_transaction = false;
        self.say(&format!("SET autocommit = {on}"));
    }

    fn database(&mut self) {
        let nth = self.rng.random_range(0..3usize) / 2;
        self.say(&format!("USE {}", super::store::DATABASES[nth]));
    }
}

fn update(table: u32, by: &str, id: u32) -> String {
    format!("UPDATE t{table} SET v = v + {by} WHERE id = {id}")
}

/// Prepare, two executions, close. The fake servers give every statement the id 7, so a script
/// holds one at a time. At times the session has gone to another database in between.
fn prepared(id: u32) -> Vec<Command> {
    let text = if id.is_multiple_of(2) {
        "SELECT id, v FROM t1 WHERE id = ?"
    } else {
        "UPDATE t1 SET v = v + 1 WHERE id = ?"
    };
    let prepare = command([b"\x16", text.as_bytes()].concat());
    let mut execute = vec![0x17, 7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0];
    execute.extend_from_slice(&id.to_le_bytes());
    let execute = command(execute);
    let mut all = vec![prepare, execute.clone(), execute];
    if id.is_multiple_of(3) {
        all.insert(2, query(&format!("USE {}", super::store::DATABASES[1])));
    }
    all.push(command(vec![0x19, 7, 0, 0, 0]));
    all
}

/// A fake server's answer to a command, packet headers included; empty where there is none.
pub fn answer(session: &mut Session, payload: &[u8], whim: Option<Whim>) -> Vec<u8> {
    let (kind, rest) = payload
        .split_first()
        .map_or((0, &[][..]), |(kind, rest)| (*kind, rest));
    let text = String::from_utf8_lossy(rest);
    match kind {
        0x03 => answer_query(session, &text, whim),
        0x16 => {
            let id = session.prepare(&text);
            prepared_header(id, text.starts_with("SELECT"), status(session))
        }
        0x17 => {
            // The types without a value: they are taken in.
            if rest.len() < 17 {
                return error(&store::NO_VALUES, 1);
            }
            let parameter = rest.last_chunk().map_or(0, |id| u32::from_le_bytes(*id));
            let done = session.execute(id_of(rest), parameter);
            outcome(done, status(session), 1, true).0
        }
        0x19 => {
            session.close_statement(id_of(rest));
            Vec::new()
        }
        0x01 | 0x18 => Vec::new(),
        0x02 => outcome(session.enter(&text), status(session), 1, false).0,
        0x1F => {
            session.reset();
            ok(status(session), 0)
        }
        _ => ok(status(session), 0),
    }
}

/// The statement's id in a command that names one.
fn id_of(rest: &[u8]) -> u32 {
    rest.first_chunk().map_or(0, |id| u32::from_le_bytes(*id))
}

/// What a server does of its own accord instead of running a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whim {
    /// The statement of the command, from 0.
    pub at: usize,
    /// What it says.
    pub failure: &'static Failure,
    /// It runs the statement nevertheless.
    pub runs: bool,
    /// It gives the transaction up.
    pub gives_up: bool,
}

fn answer_query(session: &mut Session, text: &str, whim: Option<Whim>) -> Vec<u8> {
    let statements: Vec<&str> = text.trim().split("; ").collect();
    let mut out = Vec::new();
    let mut seq = 1;
    for (nth, statement) in statements.iter().enumerate() {
        let done = match whim.filter(|whim| whim.at == nth) {
            Some(whim) => {
                if whim.runs {
                    session.run(statement);
                }
                if whim.gives_up {
                    session.give_up();
                }
                Done::Failed(whim.failure)
            }
            None => session.run(statement),
        };
        let more = if nth + 1 < statements.len() {
            Status::MORE_RESULTS
        } else {
            0
        };
        let (bytes, next) = outcome(done, status(session) | more, seq, false);
        out.extend(bytes);
        seq = next;
        if matches!(done, Done::Failed(_)) {
            break;
        }
    }
    out
}

fn status(session: &Session) -> u16 {
    let mut status = 0;
    if session.autocommit() {
        status |= Status::AUTOCOMMIT;
    }
    if session.in_transaction() {
        status |= Status::IN_TRANS;
    }
    status
}

fn outcome(done: Done, status: u16, seq: u8, binary: bool) -> (Vec<u8>, u8) {
    match done {
        Done::Ok { affected } => ok_after(status, affected, seq),
        Done::Rows { columns, rows } => result(columns, rows, status, seq, binary),
        Done::Values { key, variable } => values(key, variable, status, seq),
        Done::Failed(failure) => (error(failure, seq), seq + 1),
    }
}

/// An OK packet with sequence number 1.
pub fn ok(status: u16, affected: u64) -> Vec<u8> {
    ok_after(status, affected, 1).0
}

fn ok_after(status: u16, affected: u64, seq: u8) -> (Vec<u8>, u8) {
    let mut payload = vec![0];
    write_lenenc(&mut payload, affected);
    write_lenenc(&mut payload, 0);
    payload.extend_from_slice(&status.to_le_bytes());
    payload.extend_from_slice(&[0, 0]);
    packet(seq, &payload)
}

/// An error packet.
pub fn error(failure: &Failure, seq: u8) -> Vec<u8> {
    let mut payload = vec![0xFF];
    payload.extend_from_slice(&failure.code.to_le_bytes());
    payload.push(b'#');
    payload.extend_from_slice(failure.sqlstate.as_bytes());
    payload.extend_from_slice(failure.text.as_bytes());
    packet(seq, &payload).0
}

fn packet(seq: u8, payload: &[u8]) -> (Vec<u8>, u8) {
    let mut out = Vec::new();
    let next = write_packet(&mut out, seq, payload);
    (out, next)
}

fn column(name: &str, kind: u8) -> Vec<u8> {
    let mut payload = Vec::new();
    for part in ["def", "app", "t1", "t1", name, name] {
        write_lenenc_bytes(&mut payload, part.as_bytes());
    }
    payload.extend_from_slice(&[0x0C, 33, 0, 11, 0, 0, 0, kind, 0, 0, 0, 0, 0]);
    payload
}

fn eof(status: u16) -> Vec<u8> {
    let [low, high] = status.to_le_bytes();
    vec![0xFE, 0, 0, low, high]
}

/// A result set of `columns` (the first a number, the others strings) and `rows`.
fn result(columns: u8, rows: u32, status: u16, seq: u8, binary: bool) -> (Vec<u8>, u8) {
    let mut out = Vec::new();
    let mut seq = write_packet(&mut out, seq, &[columns]);
    for number in 0..columns {
        seq = write_packet(
            &mut out,
            seq,
            &column(&format!("c{number}"), if number == 0 { 3 } else { 253 }),
        );
    }
    seq = write_packet(&mut out, seq, &eof(status));
    for row in 0..rows {
        let mut payload = Vec::new();
        if binary {
            payload.extend_from_slice(&[0, 0]);
            payload.extend_from_slice(&row.to_le_bytes());
        } else {
            write_lenenc_bytes(&mut payload, row.to_string().as_bytes());
        }
        for number in 1..columns {
            write_lenenc_bytes(
                &mut payload,
                format!("value {row} of column {number}").as_bytes(),
            );
        }
        seq = write_packet(&mut out, seq, &payload);
    }
    seq = write_packet(&mut out, seq, &eof(status));
    (out, seq)
}

/// One row: a key, if that was asked for, and a variable with its digits and its collation.
fn values(key: bool, variable: Option<i64>, status: u16, seq: u8) -> (Vec<u8>, u8) {
    let mut row = Vec::new();
    let mut columns = vec![("v", 8), ("h", 253), ("c", 253)];
    if key {
        columns.insert(0, ("k", 8));
        write_lenenc_bytes(&mut row, b"0");
    }
    match variable {
        Some(value) => write_lenenc_bytes(&mut row, value.to_string().as_bytes()),
        None => row.push(0xFB),
    }
    write_lenenc_bytes(&mut row, b"0");
    write_lenenc_bytes(&mut row, b"binary");
    let mut out = Vec::new();
    let mut seq = write_packet(&mut out, seq, &[columns.len() as u8]);
    for (name, kind) in columns {
        seq = write_packet(&mut out, seq, &column(name, kind));
    }
    for payload in [&eof(status)[..], &row, &eof(status)] {
        seq = write_packet(&mut out, seq, payload);
    }
    (out, seq)
}

fn prepared_header(id: u32, reads: bool, status: u16) -> Vec<u8> {
    let columns = if reads { 2 } else { 0 };
    let mut header = vec![0];
    header.extend_from_slice(&id.to_le_bytes());
    header.extend_from_slice(&[columns, 0, 1, 0, 0, 0, 0]);
    let mut out = Vec::new();
    let mut seq = write_packet(&mut out, 1, &header);
    seq = write_packet(&mut out, seq, &column("?", 3));
    seq = write_packet(&mut out, seq, &eof(status));
    if reads {
        seq = write_packet(&mut out, seq, &column("c0", 3));
        seq = write_packet(&mut out, seq, &column("c1", 253));
        write_packet(&mut out, seq, &eof(status));
    }
    out
}

/// The greeting of a fake server with `mysql_native_password`.
pub fn greeting() -> Vec<u8> {
    let mut payload = vec![10];
    payload.extend_from_slice(b"5.6.24-fake\0");
    payload.extend_from_slice(&42u32.to_le_bytes());
    payload.extend_from_slice(b"12345678\0");
    payload.extend_from_slice(&(CAPABILITIES as u16).to_le_bytes());
    payload.push(33);
    payload.extend_from_slice(&Status::AUTOCOMMIT.to_le_bytes());
    payload.extend_from_slice(&((CAPABILITIES >> 16) as u16).to_le_bytes());
    payload.push(21);
    payload.extend_from_slice(&[0; 10]);
    payload.extend_from_slice(b"123456789012\0mysql_native_password\0");
    packet(0, &payload).0
}

/// A client's login, sequence number 1.
pub fn login() -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend_from_slice(&CAPABILITIES.to_le_bytes());
    payload.extend_from_slice(&0x100_0000u32.to_le_bytes());
    payload.push(33);
    payload.extend_from_slice(&[0; 23]);
    payload.extend_from_slice(b"app\0");
    payload.push(20);
    payload.extend_from_slice(&[7; 20]);
    payload.extend_from_slice(b"app\0");
    payload.extend_from_slice(b"mysql_native_password\0");
    packet(1, &payload).0
}

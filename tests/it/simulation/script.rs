//! What is said in a simulated session: commands drawn from a seed, and the bytes that a server
//! answers to each. Both fake servers answer by the same function, so that a healthy pair agrees.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use understudy::wire::packet::{write_lenenc, write_lenenc_bytes, write_packet};
use understudy::wire::status::Status;

/// The client's capabilities in every simulated session: PROTOCOL_41, LONG_FLAG, TRANSACTIONS,
/// SECURE_CONNECTION, MULTI_STATEMENTS, MULTI_RESULTS, PS_MULTI_RESULTS, PLUGIN_AUTH.
pub const CAPABILITIES: u32 =
    0x0200 | 0x0004 | 0x2000 | 0x8000 | (1 << 16) | (1 << 17) | (1 << 18) | (1 << 19);

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
    let mut rng = StdRng::seed_from_u64(seed ^ session.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut all = Vec::new();
    let mut in_transaction = false;
    while all.len() < count {
        let id = rng.random_range(1..50u32);
        let table = rng.random_range(1..4u32);
        match rng.random_range(0..16u32) {
            0..=3 => all.push(query(&format!(
                "SELECT id, v FROM t{table} WHERE id = {id}"
            ))),
            4 => all.push(query(&format!(
                "SELECT id, v FROM t{table} ORDER BY id LIMIT {}",
                id * 20
            ))),
            5 | 6 => all.push(query(&format!(
                "UPDATE t{table} SET v = {id} WHERE id = {id}"
            ))),
            7 => all.push(query(&format!(
                "INSERT INTO t{table} (id, v) VALUES ({id}, 'x')"
            ))),
            8 | 9 => {
                all.push(query(if in_transaction { "COMMIT" } else { "BEGIN" }));
                in_transaction = !in_transaction;
            }
            10 => {
                all.push(query("ROLLBACK"));
                in_transaction = false;
            }
            11 => all.push(command(vec![0x0E])),
            12 => all.push(query(&format!("SELECT {id} FROM missing{table}"))),
            13 => all.push(query("SET @a = 1")),
            14 => all.extend(prepared(id)),
            _ => all.push(query(&format!(
                "SELECT id FROM t{table}; SELECT v FROM t{table} WHERE id = {id}"
            ))),
        }
    }
    for one in &mut all {
        one.pipelined = rng.random_range(0..6u32) == 0;
    }
    all
}

/// Prepare, two executions, close. The fake servers give every statement the id 7 plus the count
/// of those open, so a script holds one at a time.
fn prepared(id: u32) -> [Command; 4] {
    let prepare = command([b"\x16".as_slice(), b"SELECT id, v FROM t1 WHERE id = ?"].concat());
    let mut execute = vec![0x17, 7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0];
    execute.extend_from_slice(&id.to_le_bytes());
    let execute = command(execute);
    [
        prepare,
        execute.clone(),
        execute,
        command(vec![0x19, 7, 0, 0, 0]),
    ]
}

/// A fake server's session: what the answers depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Server {
    in_transaction: bool,
}

impl Server {
    fn status(self) -> u16 {
        Status::AUTOCOMMIT
            | if self.in_transaction {
                Status::IN_TRANS
            } else {
                0
            }
    }

    /// The answer to a command, packet headers included; empty where there is none.
    pub fn answer(&mut self, payload: &[u8]) -> Vec<u8> {
        let (kind, rest) = payload
            .split_first()
            .map_or((0, &[][..]), |(kind, rest)| (*kind, rest));
        match kind {
            0x03 => self.query(&String::from_utf8_lossy(rest)),
            0x16 => prepared_header(),
            0x17 => result(2, 1, self.status(), 1, true).0,
            0x01 | 0x18 | 0x19 => Vec::new(),
            0x1F => {
                self.in_transaction = false;
                ok(self.status(), 0)
            }
            _ => ok(self.status(), 0),
        }
    }

    fn query(&mut self, text: &str) -> Vec<u8> {
        let text = text.trim();
        match text {
            "BEGIN" => self.in_transaction = true,
            "COMMIT" | "ROLLBACK" => self.in_transaction = false,
            _ => {}
        }
        if text.contains("missing") {
            return error(1146, "42S02", "Table 'app.missing' doesn't exist");
        }
        if text.contains("; ") {
            let more = self.status() | Status::MORE_RESULTS;
            let (first, seq) = result(1, 3, more, 1, false);
            return [first, result(1, 1, self.status(), seq, false).0].concat();
        }
        if text.starts_with("SELECT") {
            let rows = text
                .rsplit("LIMIT ")
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(1);
            return result(2, rows, self.status(), 1, false).0;
        }
        let affected = u64::from(text.starts_with("UPDATE") || text.starts_with("INSERT"));
        ok(self.status(), affected)
    }
}

/// An OK packet with sequence number 1.
pub fn ok(status: u16, affected: u64) -> Vec<u8> {
    let mut payload = vec![0];
    write_lenenc(&mut payload, affected);
    write_lenenc(&mut payload, 0);
    payload.extend_from_slice(&status.to_le_bytes());
    payload.extend_from_slice(&[0, 0]);
    packet(1, &payload).0
}

fn error(code: u16, sqlstate: &str, text: &str) -> Vec<u8> {
    let mut payload = vec![0xFF];
    payload.extend_from_slice(&code.to_le_bytes());
    payload.push(b'#');
    payload.extend_from_slice(sqlstate.as_bytes());
    payload.extend_from_slice(text.as_bytes());
    packet(1, &payload).0
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

fn prepared_header() -> Vec<u8> {
    let mut out = Vec::new();
    let mut seq = write_packet(&mut out, 1, &[0, 7, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0]);
    seq = write_packet(&mut out, seq, &column("?", 3));
    seq = write_packet(&mut out, seq, &eof(Status::AUTOCOMMIT));
    seq = write_packet(&mut out, seq, &column("c0", 3));
    seq = write_packet(&mut out, seq, &column("c1", 253));
    write_packet(&mut out, seq, &eof(Status::AUTOCOMMIT));
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
    payload.extend_from_slice(b"mysql_native_password\0");
    packet(1, &payload).0
}

//! What a load sends: texts like sysbench's, or executions of them.

use crate::arguments::Ask;
use crate::protocol::{QUERY, STMT_EXECUTE, packet};

/// Ids of rows that are asked for.
const IDS: u64 = 100_000;

const BEGIN: &str = "BEGIN";
const UPDATE: &str = "UPDATE b200 SET k=k+1 WHERE id=?";
const INSERT: &str = "INSERT INTO b200 (id, k, c) VALUES (?, 1, 'a new row')";
const COMMIT: &str = "COMMIT";

/// One after the other, around and around; `?` is an id.
fn texts(ask: Ask) -> Vec<&'static str> {
    const B200: &str = "SELECT c FROM b200 WHERE id=?";
    match ask {
        Ask::B200 => vec![B200],
        Ask::K16 => vec!["SELECT c FROM k16 WHERE id=?"],
        Ask::M1 => vec!["SELECT c FROM m1 WHERE id=?"],
        Ask::G1 => vec!["SELECT c FROM g1 WHERE id=?"],
        Ask::Transaction => vec![BEGIN, B200, B200, B200, B200, UPDATE, INSERT, COMMIT],
    }
}

/// The texts that are prepared, each once and in this order.
pub fn to_prepare(ask: Ask) -> Vec<&'static str> {
    let mut each = Vec::new();
    for text in texts(ask) {
        if !each.contains(&text) {
            each.push(text);
        }
    }
    each
}

/// The commands of one worker, laid out beforehand.
#[derive(Debug)]
pub struct Script {
    steps: Vec<Step>,
    at: usize,
    random: u64,
    packet: Vec<u8>,
}

#[derive(Debug)]
enum Step {
    /// The text before the id and behind it.
    Text(&'static str, Option<&'static str>),
    /// Which of the prepared statements, and whether it has an id.
    Execution(usize, bool),
}

impl Script {
    pub fn new(ask: Ask, prepared: bool, worker: usize) -> Self {
        let each = to_prepare(ask);
        let step = |text: &'static str| {
            let nth = each.iter().position(|one| *one == text);
            match (prepared, nth, text.split_once('?')) {
                (true, Some(nth), parts) => Step::Execution(nth, parts.is_some()),
                (_, _, Some((before, behind))) => Step::Text(before, Some(behind)),
                (_, _, None) => Step::Text(text, None),
            }
        };
        Self {
            steps: texts(ask).into_iter().map(step).collect(),
            at: 0,
            random: 0x9e37_79b9_7f4a_7c15 ^ (worker as u64 + 1),
            packet: Vec::new(),
        }
    }

    /// Whether the next command begins anew: no transaction is open.
    pub const fn is_at_start(&self) -> bool {
        self.at == 0
    }

    /// A number that nobody foresees, xorshift's.
    pub fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// The next command's packet; `ids` are those of the prepared statements.
    pub fn next(&mut self, ids: &[u32]) -> &[u8] {
        let id = self.random() % IDS + 1;
        let step = self.steps.get(self.at).expect("a step");
        let mut payload = Vec::with_capacity(128);
        match step {
            Step::Text(before, behind) => {
                payload.push(QUERY);
                payload.extend_from_slice(before.as_bytes());
                if let Some(behind) = behind {
                    payload.extend_from_slice(id.to_string().as_bytes());
                    payload.extend_from_slice(behind.as_bytes());
                }
            }
            Step::Execution(nth, has_id) => {
                payload.push(STMT_EXECUTE);
                let statement = ids.get(*nth).expect("a prepared statement");
                payload.extend_from_slice(&statement.to_le_bytes());
                // No cursor, once.
                payload.extend_from_slice(&[0, 1, 0, 0, 0]);
                if *has_id {
                    // No NULL; its type, LONGLONG, comes along.
                    payload.extend_from_slice(&[0, 1, 8, 0]);
                    payload.extend_from_slice(&id.to_le_bytes());
                }
            }
        }
        self.packet.clear();
        packet(&mut self.packet, 0, &payload);
        self.at = (self.at + 1) % self.steps.len();
        &self.packet
    }
}

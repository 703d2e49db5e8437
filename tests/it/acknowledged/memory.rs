//! What one client remembers.

use super::Timed;

/// What became of a write, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server said OK.
    Acknowledged,
    /// The server said no, or it was never told to commit.
    Refused,
    /// The connection broke before the answer.
    Unknown,
}

/// An amount from one account to another, by a number that no other has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    pub id: i64,
    pub source: i64,
    pub target: i64,
    pub amount: i64,
}

/// A write that a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// A row of the client's own in the unsharded table. No key keeps a second one out.
    Mark(i64),
    /// The same in the sharded table.
    Row(i64),
    /// A row whose key the server generates, and which key that was.
    Key(i64, Option<i64>),
    /// One more in the client's counter.
    Count,
    /// Two accounts and the row that tells of it, in one transaction.
    Transfer(Move),
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub client: i64,
    pub writes: Vec<(Write, Outcome)>,
    /// What a server or the proxy said no to, and connections that broke.
    pub errors: Vec<String>,
    /// Answers that were wrong: state that a session lost, a write that was not read back.
    pub wrong: Vec<String>,
    /// Every command's time.
    pub commands: Vec<Timed>,
    /// Sessions: one, and one more after each broken connection.
    pub sessions: u64,
}

impl Memory {
    pub fn of(client: i64) -> Self {
        Self {
            client,
            ..Self::default()
        }
    }

    pub fn remember(&mut self, write: Write, outcome: Outcome) {
        self.writes.push((write, outcome));
    }

    /// The least and the most that the counter may say.
    pub fn counted(&self) -> (i64, i64) {
        let of = |wanted: Outcome| {
            let is_so =
                |(write, outcome): &&(Write, Outcome)| *write == Write::Count && *outcome == wanted;
            i64::try_from(self.writes.iter().filter(is_so).count()).expect("a short run")
        };
        let least = of(Outcome::Acknowledged);
        (least, least + of(Outcome::Unknown))
    }
}

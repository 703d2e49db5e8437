//! What is kept of verifications, as it is handed to and fro.

use serde::Serialize;
use serde_json::Value;

/// Why something was not written or read: what SQLite says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger's record of verifications: {0}")]
pub struct VerificationError(String);

impl VerificationError {
    pub(super) fn of(fault: impl std::fmt::Display) -> Self {
        Self(fault.to_string())
    }
}

/// What a run begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunBegun {
    /// The primary's name.
    pub primary: String,
    /// The shadow's.
    pub shadow: String,
    /// Who asked for it.
    pub who: String,
    /// What was asked for, as it is told.
    pub wish: String,
    /// The condition as it was written, where the wish tells it without values: kept until the run ends.
    pub condition: Option<String>,
    /// Where both servers are: of a server of the same name elsewhere it says nothing.
    pub servers: String,
    /// There is no understudy around it: no other process goes on with it.
    pub alone: bool,
}

/// What is known of data at rest between two servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AtRest {
    /// Each of the primary's tables.
    pub tables: Vec<Verified>,
    /// What the newest run could not see of the primary: nobody knows which tables there are beside these.
    pub unseen: Vec<String>,
}

/// One of the primary's tables, as a run finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// The run is asked for it.
    pub asked: bool,
    /// About how many rows it has, where the server says so.
    pub rows_about: Option<u64>,
}

/// A run, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRecord {
    /// Its number.
    pub id: i64,
    /// The primary's name.
    pub primary: String,
    /// The shadow's.
    pub shadow: String,
    /// Who asked for it.
    pub who: String,
    /// What was asked for, as it is told.
    pub wish: Value,
    /// The condition as it was written, of a run that has not ended, where the wish tells it without values.
    #[serde(skip)]
    pub condition: Option<String>,
    /// When it began.
    pub started: jiff::Timestamp,
    /// When it ended.
    pub ended: Option<jiff::Timestamp>,
    /// How.
    pub outcome: Option<String>,
    /// Why.
    pub why: Option<String>,
    /// An operator has it wait.
    pub paused: bool,
    /// Processes that went on with it since a table of it ended last.
    pub resumed: u32,
    /// Its instants and what sessions were held for them, of a run in snapshot mode.
    pub instants: Value,
}

/// A table of a run that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLeft {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// How it ended, if it did.
    pub outcome: Option<String>,
    /// How far it has come.
    pub cursor: Option<String>,
    /// How it stands.
    pub standing: Option<String>,
    /// When its walk began, in microseconds.
    pub started: Option<i64>,
}

/// How a table ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEnd<'a> {
    /// A word.
    pub outcome: &'a str,
    /// Rows read on both sides.
    pub rows: (u64, u64),
    /// How it stands, without the rows that differ.
    pub standing: &'a str,
}

/// What is known of a table between two servers: of the newest runs that say something of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// How it stands: `equal`, `different`, `unfinished`, `repaired` or `tainted` since; none where no run was
    /// asked for it.
    pub outcome: Option<String>,
    /// Rows of the primary's that were read.
    pub rows: u64,
    /// About how many it has, by what the server said to the newest run; none where it said nothing.
    pub rows_about: Option<u64>,
    /// When that began: what was read first may have changed since.
    pub began: Option<jiff::Timestamp>,
}

//! Where an answer ends, and what it said in bounded memory.
//!
//! [`AnswerTracker`] scans a server's bytes as they arrive, in whatever pieces, and never decodes
//! a row: it reads headers, the few bytes that say how a packet is meant, and folds rows into
//! digests. Relay and shadow use the same tracker, so their digests compare.

mod tracker;

#[cfg(test)]
mod captures;
#[cfg(test)]
mod tests;

pub use tracker::AnswerTracker;

use super::status::Status;

/// What one server answered to one command, in bounded memory.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Each result in turn: one for most commands, several for multi-statements. At most
    /// [`RESULTS_MAX`], and the error that ended the answer; `results_more` counts the rest,
    /// which were not kept.
    pub results: Vec<Outcome>,
    /// Results past [`RESULTS_MAX`].
    pub results_more: u64,
    /// The answer's first bytes as they came, packet headers included.
    pub sample: Vec<u8>,
    /// Whether `sample` is the whole answer.
    pub sample_whole: bool,
    /// Length of the answer on the wire, in bytes, headers included.
    pub bytes: u64,
    /// The last status flags that the answer carried (an ERR packet carries none).
    pub status: Option<Status>,
}

/// How many results of one answer are kept apart.
pub const RESULTS_MAX: usize = 64;

/// How many bytes of an error's text are kept.
pub const ERROR_TEXT_MAX: usize = 512;

/// One result of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An OK packet (or the EOF that stands for one).
    Ok(Done),
    /// An ERR packet.
    Error(Failure),
    /// Rows, to their end.
    Rows(Rows),
    /// Rows that an ERR packet broke off.
    RowsThenError(Rows, Failure),
    /// A prepared statement.
    Prepared {
        /// The id that the server gave.
        statement_id: u32,
        /// Number of columns in its result.
        columns: u16,
        /// Number of its parameters.
        parameters: u16,
        /// Digest of the definitions' payloads: its parameters', then its columns'.
        definitions: u64,
    },
    /// A request for the client's file; the OK or ERR that followed the file stands next.
    LocalInfile,
    /// A raw string (COM_STATISTICS), or the columns of COM_FIELD_LIST.
    Other,
}

/// What an OK packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows changed (or found, with FOUND_ROWS).
    pub affected_rows: u64,
    /// The first generated key.
    pub last_insert_id: u64,
    /// Status flags.
    pub status: Status,
    /// Number of warnings.
    pub warnings: u16,
    /// xxh3 of the info text; 0 for none.
    pub info: u64,
}

/// What an ERR packet says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// The error number.
    pub code: u16,
    /// The SQLSTATE; `HY000` where the packet has none.
    pub sqlstate: [u8; 5],
    /// At most [`ERROR_TEXT_MAX`] bytes of its text.
    pub message: Vec<u8>,
}

/// A result set in bounded memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Rows in the binary protocol.
    pub binary: bool,
    /// Number of columns.
    pub columns: u64,
    /// Digest of the column definitions' payloads, in order.
    pub columns_digest: u64,
    /// Number of rows.
    pub rows: u64,
    /// Digest of the rows' payloads, in order.
    pub ordered: u128,
    /// Digest of the rows' payloads, whatever their order.
    pub unordered: u128,
    /// Bytes of the rows' payloads.
    pub bytes: u64,
    /// Status flags of the packet that ended the rows.
    pub status: Status,
    /// Number of warnings, of the same packet.
    pub warnings: u16,
    /// Where this result's first packet (the column count) begins in the answer, in bytes.
    pub offset: u64,
    /// Whether the answer went no further than the definitions because a cursor was opened.
    pub cursor: bool,
    /// Its rows were counted and not digested, for nobody was to compare them: the digests say nothing.
    pub undigested: bool,
}

impl Answer {
    /// Empties the answer for its next use; keeps what it has allocated.
    pub fn clear(&mut self) {
        self.results.clear();
        self.results_more = 0;
        self.sample.clear();
        self.sample_whole = false;
        self.bytes = 0;
        self.status = None;
    }

    /// Whether all of it was digested, so that it can be compared.
    #[must_use]
    pub fn is_digested(&self) -> bool {
        self.results.iter().all(|outcome| match outcome {
            Outcome::Rows(rows) | Outcome::RowsThenError(rows, _) => !rows.undigested,
            Outcome::Ok(_)
            | Outcome::Error(_)
            | Outcome::Prepared { .. }
            | Outcome::LocalInfile
            | Outcome::Other => true,
        })
    }

    /// The error that the answer ended with.
    #[must_use]
    pub fn error(&self) -> Option<&Failure> {
        match self.results.last()? {
            Outcome::Error(failure) | Outcome::RowsThenError(_, failure) => Some(failure),
            Outcome::Ok(_)
            | Outcome::Rows(_)
            | Outcome::Prepared { .. }
            | Outcome::LocalInfile
            | Outcome::Other => None,
        }
    }

    /// The id and the number of parameters of what was prepared.
    #[must_use]
    pub fn prepared(&self) -> Option<(u32, u16)> {
        match self.results.first()? {
            Outcome::Prepared {
                statement_id,
                parameters,
                ..
            } => Some((*statement_id, *parameters)),
            Outcome::Error(_)
            | Outcome::RowsThenError(..)
            | Outcome::Ok(_)
            | Outcome::Rows(_)
            | Outcome::LocalInfile
            | Outcome::Other => None,
        }
    }

    /// Rows in all results together.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.results
            .iter()
            .map(|outcome| match outcome {
                Outcome::Rows(rows) | Outcome::RowsThenError(rows, _) => rows.rows,
                Outcome::Ok(_)
                | Outcome::Error(_)
                | Outcome::Prepared { .. }
                | Outcome::LocalInfile
                | Outcome::Other => 0,
            })
            .sum()
    }
}

/// What a piece of an answer brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of the piece belongs to the answer, which goes on.
    More,
    /// The answer ended after `used` bytes of the piece.
    Ended {
        /// Bytes of the piece that belong to the answer.
        used: usize,
    },
    /// The server asks for the client's file, or (in a login) for the client's next packet:
    /// `used` bytes of the piece were read, and now the client speaks.
    ClientTurn {
        /// Bytes of the piece that belong to the answer so far.
        used: usize,
    },
    /// The bytes cannot be placed: tunnel.
    Unsure,
}

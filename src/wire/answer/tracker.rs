//! The scanner of answers: one pass over the bytes, nothing decoded but what says where an answer
//! ends. On the hot path: it allocates nothing in the steady state.
//!
//! It is told how the answer to a command ends ([`Expect`]) and goes from [`Stage`] to [`Stage`],
//! one packet each. A packet's first byte and its chunk's length say its [`Role`]; the short ones
//! are read whole, rows and definitions are only digested. What fits no stage is
//! [`Progress::Unsure`], and stays so.

use super::super::capability::Capabilities;
use super::super::command::Expect;
use super::super::digest::{self, Parts};
use super::super::frame::{Frames, Part};
use super::super::packet::{CHUNK_MAX, HEADER_LEN, Reader, Short};
use super::super::reply;
use super::super::status::Status;
use super::{Answer, Done, Outcome, Progress, RESULTS_MAX, Rows};

/// Bytes that are read of an OK, ERR or other short packet; longer texts count as far as that.
const HEAD_MAX: usize = 1024;

/// More columns than this no server sends: MySQL allows 4,096.
const COLUMNS_MAX: u64 = 0xFFFF;

/// The error number under which MariaDB reports progress; the answer goes on after it. Clients
/// get it only by a capability that the proxy does not offer.
const PROGRESS_REPORT: u16 = 0xFFFF;

/// With any of these, answers are laid out as this tracker does not know.
const UNKNOWN_LAYOUTS: Capabilities = Capabilities::OPTIONAL_RESULTSET_METADATA
    .with(Capabilities::COMPRESS)
    .with(Capabilities::ZSTD_COMPRESSION);

/// Follows one connection's answers. See the module.
#[derive(Debug)]
pub struct AnswerTracker {
    capabilities: Capabilities,
    sample_bytes: usize,
    digests: bool,
    samples: bool,
    frames: Frames,
    stage: Stage,
    role: Role,
    /// First bytes of a short packet that came in parts.
    head: Vec<u8>,
    /// A row or a definition that came in parts.
    parts: Parts,
    /// The result under way.
    rows: Rows,
}

/// What the next packet of the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No answer is expected.
    Idle,
    /// An answer without any bytes.
    Nothing,
    /// A raw string.
    Text,
    /// OK, EOF or ERR.
    One,
    /// A packet of a login.
    Login,
    /// The first packet of a result.
    First { binary: bool },
    /// What follows the client's file.
    AfterFile { binary: bool },
    /// A column definition of a result; `left` with this one.
    Definition { left: u64 },
    /// The EOF behind the definitions.
    DefinitionsEnd,
    /// A row, or what ends them. `more` where the definitions said that another result follows
    /// these rows, whatever their end says.
    Row { more: bool },
    /// A row of a cursor, or what ends them.
    FetchedRow,
    /// The header of a prepared statement.
    Prepared,
    /// One of its definitions; `left` with this one in this group, `then` in the next one.
    PreparedDefinition { left: u16, then: u16 },
    /// The EOF behind such a group.
    PreparedEnd { then: u16 },
    /// A definition of COM_FIELD_LIST, or what ends them.
    ListedColumn,
    /// The tracker lost its way.
    Lost,
}

/// How a packet is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Read, as far as [`HEAD_MAX`].
    Head,
    Row,
    Definition,
    Unknown,
}

/// Where a packet leaves the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    On,
    Ended,
    ClientTurn,
    Lost,
}

impl From<Short> for Step {
    fn from(Short: Short) -> Self {
        Self::Lost
    }
}

impl AnswerTracker {
    /// A tracker for a connection that agreed on `capabilities`. At most `sample_bytes` of each
    /// answer are copied into [`Answer::sample`].
    #[must_use]
    pub const fn new(capabilities: Capabilities, sample_bytes: usize) -> Self {
        Self {
            capabilities,
            sample_bytes,
            digests: true,
            samples: true,
            frames: Frames::new(),
            stage: Stage::Idle,
            role: Role::Unknown,
            head: Vec::new(),
            parts: Parts::new(),
            rows: NO_ROWS,
        }
    }

    /// Whether the rows of the answers that begin from here on are digested, as they are without this.
    /// Else they are only counted, and each result says so.
    pub const fn digest_rows(&mut self, digests: bool) {
        self.digests = digests;
    }

    /// Whether the answers that begin from here on are copied, as far as the sample goes, as they are without
    /// this.
    pub const fn take_sample(&mut self, samples: bool) {
        self.samples = samples;
    }

    /// Begins the next answer; the `answer` that [`AnswerTracker::feed`] gets must be empty by
    /// now. Unsure from here on where the answer before did not end.
    pub fn begin(&mut self, expect: Expect) {
        let known = self.capabilities.has(Capabilities::PROTOCOL_41)
            && self.capabilities.and(UNKNOWN_LAYOUTS) == Capabilities(0);
        self.rows = NO_ROWS;
        self.stage = match expect {
            _ if !known || self.stage != Stage::Idle => Stage::Lost,
            Expect::Results { binary } => Stage::First { binary },
            Expect::Prepared => Stage::Prepared,
            Expect::Rows => {
                self.rows.binary = true;
                Stage::FetchedRow
            }
            Expect::Columns => Stage::ListedColumn,
            Expect::Text => Stage::Text,
            Expect::One => Stage::One,
            Expect::Login => Stage::Login,
            Expect::Nothing => Stage::Nothing,
            Expect::Tunnel => Stage::Lost,
        };
    }

    /// Scans the next piece of the server's bytes into `answer`. After an answer's end, and before
    /// [`AnswerTracker::begin`], any byte is one that the server sent unasked: `Unsure`.
    pub fn feed(&mut self, piece: &[u8], answer: &mut Answer) -> Progress {
        let mut rest = piece;
        let step = self.scan(piece.len(), &mut rest, answer);
        let used = piece.len() - rest.len();
        if self.samples {
            keep_sample(
                answer,
                piece.get(..used).unwrap_or(piece),
                self.sample_bytes,
            );
        }
        answer.bytes += used as u64;
        match step {
            Step::On => Progress::More,
            Step::ClientTurn => Progress::ClientTurn { used },
            Step::Ended => {
                self.stage = Stage::Idle;
                if let Some(Outcome::Prepared { definitions, .. }) = answer.results.last_mut() {
                    *definitions = self.rows.columns_digest;
                }
                answer.sample_whole = answer.sample.len() as u64 == answer.bytes;
                Progress::Ended { used }
            }
            Step::Lost => {
                self.stage = Stage::Lost;
                Progress::Unsure
            }
        }
    }

    fn scan(&mut self, piece_len: usize, rest: &mut &[u8], answer: &mut Answer) -> Step {
        match self.stage {
            Stage::Nothing => return Step::Ended,
            Stage::Lost => return Step::Lost,
            Stage::Idle if !rest.is_empty() => return Step::Lost,
            _ => {}
        }
        while let Some(part) = self.frames.next(rest) {
            if part.first {
                self.role = self.place(part.chunk_len, part.data.first().copied());
                if let Stage::First { .. } = self.stage {
                    let read = (piece_len - rest.len() - part.data.len()) as u64;
                    self.rows.offset = (answer.bytes + read).saturating_sub(HEADER_LEN as u64);
                }
            }
            let step = match self.role {
                Role::Row => self.take_row(part),
                Role::Definition => self.take_definition(part),
                Role::Head => self.take_head(part, answer),
                Role::Unknown => Step::Lost,
            };
            if step != Step::On {
                return step;
            }
        }
        Step::On
    }

    /// A packet's role, by its first chunk's length and first byte.
    fn place(&self, chunk_len: usize, first: Option<u8>) -> Role {
        let Some(first) = first else {
            let may_be_empty = matches!(self.stage, Stage::Text | Stage::Login);
            return if may_be_empty {
                Role::Head
            } else {
                Role::Unknown
            };
        };
        match self.stage {
            Stage::Row { .. } | Stage::FetchedRow => self.place_row(chunk_len, first),
            Stage::Definition { .. } | Stage::PreparedDefinition { .. } => match first {
                0..=0xFA => Role::Definition,
                reply::ERR => Role::Head,
                _ => Role::Unknown,
            },
            Stage::ListedColumn => match first {
                0..=0xFA => Role::Definition,
                _ => Role::Head,
            },
            _ => Role::Head,
        }
    }

    /// Rows begin with the length of their first cell, or with 0 where they are binary. A length
    /// that begins with 0xFE is that of a cell of 16 MiB or more, whose chunk is full.
    fn place_row(&self, chunk_len: usize, first: u8) -> Role {
        let ends = match first {
            reply::ERR => chunk_len < CHUNK_MAX,
            reply::EOF if self.deprecates_eof() => chunk_len < CHUNK_MAX,
            reply::EOF => chunk_len < 9,
            _ => false,
        };
        match first {
            _ if ends => Role::Head,
            0 => Role::Row,
            reply::ERR => Role::Unknown,
            _ if self.rows.binary => Role::Unknown,
            _ => Role::Row,
        }
    }

    fn take_row(&mut self, part: Part<'_>) -> Step {
        if !self.digests {
            self.rows.undigested = true;
            self.rows.bytes += part.data.len() as u64;
            self.rows.rows += u64::from(part.last);
            return Step::On;
        }
        if part.first && part.last {
            digest::fold_row(
                &mut self.rows,
                digest::row(part.data),
                part.data.len() as u64,
            );
            return Step::On;
        }
        self.parts.push(part.data);
        if part.last {
            let (digest, bytes) = self.parts.take();
            digest::fold_row(&mut self.rows, digest, bytes);
        }
        Step::On
    }

    fn take_definition(&mut self, part: Part<'_>) -> Step {
        let digest = if part.first && part.last {
            digest::row(part.data)
        } else {
            self.parts.push(part.data);
            if !part.last {
                return Step::On;
            }
            self.parts.take().0
        };
        digest::fold_column(&mut self.rows, digest);
        match self.stage {
            Stage::Definition { left: 2.. } => self.count_definition(),
            Stage::Definition { .. } if self.deprecates_eof() => {
                self.go(Stage::Row { more: false })
            }
            Stage::Definition { .. } => self.go(Stage::DefinitionsEnd),
            Stage::PreparedDefinition { left: 2.., .. } => self.count_definition(),
            Stage::PreparedDefinition { then, .. } if self.deprecates_eof() => {
                self.go_prepared(then, 0)
            }
            Stage::PreparedDefinition { then, .. } => self.go(Stage::PreparedEnd { then }),
            Stage::ListedColumn => Step::On,
            _ => Step::Lost,
        }
    }

    fn count_definition(&mut self) -> Step {
        match &mut self.stage {
            Stage::Definition { left } => *left -= 1,
            Stage::PreparedDefinition { left, .. } => *left -= 1,
            _ => return Step::Lost,
        }
        Step::On
    }

    fn take_head(&mut self, part: Part<'_>, answer: &mut Answer) -> Step {
        if part.first && part.last {
            return self.read(part.data.get(..HEAD_MAX).unwrap_or(part.data), answer);
        }
        if part.first {
            self.head.clear();
        }
        let room = HEAD_MAX.saturating_sub(self.head.len());
        self.head
            .extend_from_slice(part.data.get(..room).unwrap_or(part.data));
        if !part.last {
            return Step::On;
        }
        let head = std::mem::take(&mut self.head);
        let step = self.read(&head, answer);
        self.head = head;
        step
    }

    /// Reads a short packet by the stage that it came in.
    fn read(&mut self, head: &[u8], answer: &mut Answer) -> Step {
        let read = match (self.stage, head.first()) {
            (Stage::Login, _) => self.read_login(head, answer),
            (Stage::PreparedEnd { then }, Some(&reply::EOF)) => {
                self.read_prepared_end(head, then, answer)
            }
            (_, Some(&reply::ERR)) => Ok(self.read_error(head, answer)),
            (Stage::Text, _) => Ok(self.push_and_end(Outcome::Other, answer)),
            (Stage::One, Some(&(reply::OK | reply::EOF))) => self.read_one(head, answer),
            (Stage::First { binary } | Stage::AfterFile { binary }, Some(&reply::OK)) => {
                self.read_ok(head, binary, answer)
            }
            (Stage::First { binary }, Some(&reply::LOCAL_INFILE)) => {
                push(answer, Outcome::LocalInfile);
                self.stage = Stage::AfterFile { binary };
                Ok(Step::ClientTurn)
            }
            (Stage::First { binary }, Some(_)) => self.read_column_count(head, binary),
            (Stage::DefinitionsEnd, Some(&reply::EOF)) => self.read_definitions_end(head, answer),
            (Stage::Row { .. } | Stage::FetchedRow, Some(&reply::EOF)) => {
                self.read_rows_end(head, answer)
            }
            (Stage::Prepared, Some(&reply::OK)) => self.read_prepared(head, answer),
            (Stage::ListedColumn, Some(&reply::EOF)) => self.end(head).map(|done| {
                answer.status = Some(done.status);
                self.push_and_end(Outcome::Other, answer)
            }),
            _ => Ok(Step::Lost),
        };
        read.unwrap_or_else(Step::from)
    }

    fn read_login(&mut self, head: &[u8], answer: &mut Answer) -> Result<Step, Short> {
        use super::super::login::{AUTH_MORE, FAST_AUTH_OK};
        match head {
            [reply::OK, ..] => self.read_one(head, answer),
            [reply::ERR, ..] => Ok(self.read_error(head, answer)),
            [AUTH_MORE, FAST_AUTH_OK] => Ok(Step::On),
            // A demand for another plugin or factor, or what a plugin says.
            _ => Ok(Step::ClientTurn),
        }
    }

    fn read_error(&mut self, head: &[u8], answer: &mut Answer) -> Step {
        let failure = reply::parse_err(head);
        if head.len() < 3 || failure.code == PROGRESS_REPORT {
            return Step::Lost;
        }
        let in_rows = match self.stage {
            Stage::Definition { .. } | Stage::DefinitionsEnd | Stage::Row { .. } => true,
            Stage::FetchedRow => self.rows.rows > 0,
            _ => false,
        };
        push_last(
            answer,
            if in_rows {
                Outcome::RowsThenError(self.rows, failure)
            } else {
                Outcome::Error(failure)
            },
        );
        Step::Ended
    }

    fn read_one(&mut self, head: &[u8], answer: &mut Answer) -> Result<Step, Short> {
        let done = match head.first() {
            Some(&reply::EOF) => self.end(head)?,
            _ => reply::parse_ok(head, self.capabilities)?,
        };
        answer.status = Some(done.status);
        Ok(self.push_and_end(Outcome::Ok(done), answer))
    }

    fn read_ok(&mut self, head: &[u8], binary: bool, answer: &mut Answer) -> Result<Step, Short> {
        let done = reply::parse_ok(head, self.capabilities)?;
        push(answer, Outcome::Ok(done));
        Ok(self.next_result(done.status, binary, answer))
    }

    fn read_column_count(&mut self, head: &[u8], binary: bool) -> Result<Step, Short> {
        let mut reader = Reader::new(head);
        let columns = reader.lenenc_int()?;
        if columns == 0 || columns > COLUMNS_MAX || !reader.is_empty() {
            return Ok(Step::Lost);
        }
        self.rows = Rows {
            binary,
            columns,
            offset: self.rows.offset,
            ..NO_ROWS
        };
        Ok(self.go(Stage::Definition { left: columns }))
    }

    /// Without DEPRECATE_EOF an opened cursor shows here, and no rows follow. So does a result of
    /// OUT parameters: MySQL leaves MORE_RESULTS out of the packet behind their row, and yet an OK
    /// follows.
    fn read_definitions_end(&mut self, head: &[u8], answer: &mut Answer) -> Result<Step, Short> {
        let done = self.end(head)?;
        if self.rows.binary && done.status.has(Status::CURSOR_EXISTS) {
            return Ok(self.end_rows(done, false, answer));
        }
        let more = done.status.has(Status::PS_OUT_PARAMS) && done.status.has(Status::MORE_RESULTS);
        Ok(self.go(Stage::Row { more }))
    }

    fn read_rows_end(&mut self, head: &[u8], answer: &mut Answer) -> Result<Step, Short> {
        let done = self.end(head)?;
        if let Stage::Row { more } = self.stage {
            return Ok(self.end_rows(done, more, answer));
        }
        self.rows.status = done.status;
        self.rows.warnings = done.warnings;
        answer.status = Some(done.status);
        Ok(self.push_and_end(Outcome::Rows(self.rows), answer))
    }

    fn end_rows(&mut self, done: Done, more: bool, answer: &mut Answer) -> Step {
        let Rows { binary, rows, .. } = self.rows;
        self.rows.cursor = binary && rows == 0 && done.status.has(Status::CURSOR_EXISTS);
        self.rows.status = done.status;
        self.rows.warnings = done.warnings;
        push(answer, Outcome::Rows(self.rows));
        match self.next_result(done.status, binary, answer) {
            Step::Ended if more => self.go(Stage::First { binary }),
            step => step,
        }
    }

    fn next_result(&mut self, status: Status, binary: bool, answer: &mut Answer) -> Step {
        answer.status = Some(status);
        if status.has(Status::MORE_RESULTS) {
            return self.go(Stage::First { binary });
        }
        Step::Ended
    }

    fn read_prepared(&mut self, head: &[u8], answer: &mut Answer) -> Result<Step, Short> {
        let mut reader = Reader::new(head);
        reader.u8()?;
        let statement_id = reader.u32()?;
        let columns = reader.u16()?;
        let parameters = reader.u16()?;
        push(
            answer,
            Outcome::Prepared {
                statement_id,
                columns,
                parameters,
                definitions: 0, // until they have come
            },
        );
        Ok(self.go_prepared(parameters, columns))
    }

    fn read_prepared_end(
        &mut self,
        head: &[u8],
        then: u16,
        answer: &mut Answer,
    ) -> Result<Step, Short> {
        answer.status = Some(self.end(head)?.status);
        Ok(self.go_prepared(then, 0))
    }

    /// To a prepared statement's next group of definitions that is not empty, or to its end.
    fn go_prepared(&mut self, next: u16, then: u16) -> Step {
        match (next, then) {
            (0, 0) => Step::Ended,
            (0, left) => self.go(Stage::PreparedDefinition { left, then: 0 }),
            (left, then) => self.go(Stage::PreparedDefinition { left, then }),
        }
    }

    /// Reads the packet that ends definitions or rows. An OK is never as short as an EOF, so an
    /// EOF is told from it in either dialect.
    fn end(&self, head: &[u8]) -> Result<Done, Short> {
        match head.len() {
            reply::EOF_LEN => reply::parse_eof(head),
            _ if self.deprecates_eof() => reply::parse_ok(head, self.capabilities),
            6..9 => reply::parse_eof(head),
            _ => Err(Short),
        }
    }

    const fn deprecates_eof(&self) -> bool {
        self.capabilities.has(Capabilities::DEPRECATE_EOF)
    }

    const fn go(&mut self, stage: Stage) -> Step {
        self.stage = stage;
        Step::On
    }

    fn push_and_end(&self, outcome: Outcome, answer: &mut Answer) -> Step {
        push(answer, outcome);
        Step::Ended
    }
}

const NO_ROWS: Rows = Rows {
    binary: false,
    columns: 0,
    columns_digest: 0,
    rows: 0,
    ordered: 0,
    unordered: 0,
    bytes: 0,
    status: Status(0),
    warnings: 0,
    offset: 0,
    cursor: false,
    undigested: false,
};

fn push(answer: &mut Answer, outcome: Outcome) {
    if answer.results.len() < RESULTS_MAX {
        answer.results.push(outcome);
    } else {
        answer.results_more += 1;
    }
}

/// The error that ends an answer is kept however many results went before.
fn push_last(answer: &mut Answer, outcome: Outcome) {
    answer.results.push(outcome);
}

fn keep_sample(answer: &mut Answer, piece: &[u8], sample_bytes: usize) {
    let room = sample_bytes.saturating_sub(answer.sample.len());
    answer
        .sample
        .extend_from_slice(piece.get(..room).unwrap_or(piece));
}

//! A few questions to one server, over the very login that replay uses.

use crate::config::{Account, Server};
use crate::connect::{self, ConnectError, Connection, Login, Tcp, TlsContext};
use crate::wire::answer::{Answer, AnswerTracker, Progress};
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::packet::write_packet;
use crate::wire::row::{Cell, text_row};
use crate::wire::sample::Sampled;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest answer that is looked at, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// A question is answered within this time, or not at all.
const TIMEOUT: Duration = Duration::from_secs(15);

/// utf8mb4_general_ci, which every server since 5.5 knows.
const COLLATION: u16 = 45;

/// A row of texts; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The server's ERR packet.
    #[error("{message} ({code})")]
    Refused {
        /// The error number.
        code: u16,
        /// Its text.
        message: String,
    },
    /// The connection broke off.
    #[error("the connection broke off: {0}")]
    Broken(#[from] std::io::Error),
    /// No answer in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// More than is looked at.
    #[error("the answer is longer than {} MiB, or is none of MySQL's", ANSWER_BYTES_MAX >> 20)]
    Answer,
}

/// A connection that asks.
pub(super) struct Asker {
    connection: Connection,
    tracker: AnswerTracker,
}

impl Asker {
    /// Logs in.
    pub(super) async fn open(server: &Server, account: &Account) -> Result<Self, ConnectError> {
        let tls = TlsContext::new(server)?;
        let login = Login {
            user: account.user.clone(),
            password: account.password.clone(),
            database: None,
            capabilities: Capabilities::PROTOCOL_41.with(Capabilities::TRANSACTIONS),
            collation: COLLATION,
        };
        let connection = connect::open(&Tcp, server, &tls, &login).await?;
        let tracker = AnswerTracker::new(connection.capabilities, ANSWER_BYTES_MAX);
        Ok(Self {
            connection,
            tracker,
        })
    }

    /// Whether the connection is encrypted.
    pub(super) fn is_tls(&self) -> bool {
        self.connection.stream.is_tls()
    }

    /// The rows that a statement brings.
    pub(super) async fn ask(&mut self, statement: &str) -> Result<Vec<Row>, AskError> {
        tokio::time::timeout(TIMEOUT, self.answer(statement))
            .await
            .unwrap_or(Err(AskError::Timeout))
    }

    async fn answer(&mut self, statement: &str) -> Result<Vec<Row>, AskError> {
        let mut payload = vec![Command::QUERY.0];
        payload.extend_from_slice(statement.as_bytes());
        let mut packets = Vec::new();
        write_packet(&mut packets, 0, &payload);
        self.connection.stream.write_all(&packets).await?;
        let mut answer = Answer::default();
        self.tracker.begin(Command::QUERY.expect());
        let mut piece = vec![0; 16 << 10];
        loop {
            let n = self.connection.stream.read(&mut piece).await?;
            if n == 0 {
                return Err(AskError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
            }
            match self
                .tracker
                .feed(piece.get(..n).unwrap_or_default(), &mut answer)
            {
                Progress::More => {}
                Progress::Ended { .. } => return rows(&answer),
                Progress::ClientTurn { .. } | Progress::Unsure => return Err(AskError::Answer),
            }
        }
    }

    /// Leaves as a client should.
    pub(super) async fn leave(mut self) {
        let mut packet = Vec::new();
        write_packet(&mut packet, 0, &[Command::QUIT.0]);
        let _ = tokio::time::timeout(
            Duration::from_secs(1),
            self.connection.stream.write_all(&packet),
        )
        .await;
    }
}

fn rows(answer: &Answer) -> Result<Vec<Row>, AskError> {
    if let Some(failure) = answer.error() {
        let message = String::from_utf8_lossy(&failure.message).into_owned();
        return Err(AskError::Refused {
            code: failure.code,
            message,
        });
    }
    let Some(mut sampled) = Sampled::all(answer).next() else {
        return Ok(Vec::new());
    };
    let columns = sampled.columns.len();
    let mut rows = Vec::new();
    for payload in sampled.by_ref() {
        let cells = text_row(payload, columns).map_err(|_| AskError::Answer)?;
        rows.push(cells.into_iter().map(text).collect());
    }
    if sampled.is_whole() {
        Ok(rows)
    } else {
        Err(AskError::Answer)
    }
}

fn text(cell: Cell<'_>) -> Option<String> {
    match cell {
        Cell::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Cell::Null
        | Cell::Int(_)
        | Cell::UInt(_)
        | Cell::Float(_)
        | Cell::Double(_)
        | Cell::Date(_)
        | Cell::Time(_) => None,
    }
}

//! A connection between two commands, asked one command at a time, within bounds.

use super::link::Trouble;
use crate::config::Config;
use crate::connect::{Connection, Stream};
use crate::wire::answer::{Answer, AnswerTracker, Progress};
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::packet::{write_lenenc, write_packet};
use crate::wire::status::Status;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// Bytes read at once.
const PIECE: usize = 16 << 10;

/// What the server answered, and when.
#[derive(Debug)]
pub(super) struct Reply {
    /// The answer.
    pub(super) answer: Answer,
    /// When the command's last byte was sent.
    pub(super) sent: Instant,
    /// When the answer's first byte was read.
    pub(super) first_byte: Instant,
    /// When its last byte was read.
    pub(super) done: Instant,
    /// It was run again, for the shadow had ended its transaction for its age.
    pub(super) ended_before: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Talk {
    stream: Stream,
    tracker: AnswerTracker,
    capabilities: Capabilities,
    status: Status,
    buffer: Vec<u8>,
    answer_bytes_max: u64,
    timeout: Duration,
}

impl Talk {
    /// Of a connection that was just opened.
    pub(super) fn new(config: &Config, connection: Connection) -> Self {
        Self {
            status: connection.status,
            ..Self::of(config, connection.stream, connection.capabilities)
        }
    }

    /// Of a connection between two commands.
    pub(super) fn of(config: &Config, stream: Stream, capabilities: Capabilities) -> Self {
        Self {
            tracker: AnswerTracker::new(capabilities, config.compare.sample_bytes),
            capabilities,
            status: Status::default(),
            stream,
            buffer: Vec::new(),
            answer_bytes_max: config.mirror.answer_bytes_max,
            timeout: config.mirror.timeout,
        }
    }

    /// What was agreed on.
    pub(super) const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The last status flags.
    pub(super) const fn status(&self) -> Status {
        self.status
    }

    /// The stream; nothing was read ahead of it.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Runs a text.
    pub(super) async fn query(&mut self, text: &[u8]) -> Result<Reply, Trouble> {
        self.ask(&self.query_payload(text)).await
    }

    /// The command that runs a text here.
    pub(super) fn query_payload(&self, text: &[u8]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(text.len() + 3);
        payload.push(Command::QUERY.0);
        if self.capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
            write_lenenc(&mut payload, 0);
            write_lenenc(&mut payload, 1);
        }
        payload.extend_from_slice(text);
        payload
    }

    /// Sends a command that has no answer.
    pub(super) async fn tell(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        let timeout = self.timeout;
        tokio::time::timeout(timeout, self.send(payload))
            .await
            .map_err(|_| Trouble::Timeout)?
    }

    /// Sends a command and reads its whole answer.
    pub(super) async fn ask(&mut self, payload: &[u8]) -> Result<Reply, Trouble> {
        let timeout = self.timeout;
        tokio::time::timeout(timeout, self.exchange(payload))
            .await
            .map_err(|_| Trouble::Timeout)?
    }

    async fn send(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        self.buffer.clear();
        write_packet(&mut self.buffer, 0, payload);
        self.stream.write_all(&self.buffer).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        self.buffer.shrink_to(PIECE);
        Ok(())
    }

    async fn exchange(&mut self, payload: &[u8]) -> Result<Reply, Trouble> {
        let kind = payload.first().map_or(Command::QUIT, |byte| Command(*byte));
        self.tracker.begin(kind.expect());
        self.send(payload).await?;
        let sent = Instant::now();
        let mut first_byte = None;
        let mut answer = Answer::default();
        let mut piece = std::mem::take(&mut self.buffer);
        piece.resize(PIECE, 0);
        loop {
            let read = self.stream.read(&mut piece).await?;
            let first_byte = *first_byte.get_or_insert_with(Instant::now);
            let bytes = piece.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return Err(Trouble::Down(
                    "the server closed the connection before its answer was whole".to_owned(),
                ));
            }
            match self.tracker.feed(bytes, &mut answer) {
                Progress::More if answer.bytes > self.answer_bytes_max => {
                    return Err(Trouble::TooLarge);
                }
                Progress::More => {}
                Progress::Ended { used } if used == read => {
                    self.buffer = piece;
                    self.status = answer.status.unwrap_or(self.status);
                    return Ok(Reply {
                        answer,
                        sent,
                        first_byte,
                        done: Instant::now(),
                        ended_before: false,
                    });
                }
                Progress::Ended { .. } | Progress::ClientTurn { .. } | Progress::Unsure => {
                    return Err(Trouble::Down(
                        "the server answered what is not MySQL's protocol".to_owned(),
                    ));
                }
            }
        }
    }
}

//! A connection between two commands, asked one command at a time, within bounds.

use super::link::Trouble;
use super::patience::Patience;
use crate::config::{Config, Live};
use crate::connect::{Connection, Stream};
use crate::wire::answer::{Answer, AnswerTracker, Progress};
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::packet::{CHUNK_MAX, HEADER_LEN, Header, write_lenenc, write_packet};
use crate::wire::status::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// Bytes read at once, and kept of what was sent.
const PIECE: usize = 16 << 10;

/// An answer whose sample has grown beyond this is not kept for the next one.
const SPARE_BYTES_MAX: usize = 16 << 10;

/// What the server answered, and when.
#[derive(Debug)]
pub(super) struct Reply {
    /// The answer.
    pub(super) answer: Answer,
    /// When the command's last piece was there to be sent, as on the primary's side: what writing it takes is
    /// the server's time on both.
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
    wire: Wire,
    patience: Patience,
}

/// The connection, and buffers that are used again.
#[derive(Debug)]
struct Wire {
    stream: Stream,
    tracker: AnswerTracker,
    capabilities: Capabilities,
    status: Status,
    /// The command on its way.
    out: Vec<u8>,
    /// What is read; none until there is an answer to read.
    piece: Vec<u8>,
    spare: Answer,
    answer_bytes_max: Live<u64>,
}

impl Talk {
    /// Of a connection that was just opened.
    pub(super) fn new(config: &Config, connection: Connection) -> Self {
        let mut talk = Self::of(config, connection.stream, connection.capabilities);
        talk.wire.status = connection.status;
        talk
    }

    /// Of a connection between two commands.
    pub(super) fn of(config: &Config, stream: Stream, capabilities: Capabilities) -> Self {
        Self {
            wire: Wire {
                tracker: AnswerTracker::new(capabilities, config.compare.sample_bytes),
                capabilities,
                status: Status::default(),
                stream,
                out: Vec::new(),
                piece: Vec::new(),
                spare: Answer::default(),
                answer_bytes_max: config.mirror.answer_bytes_max.clone(),
            },
            patience: Patience::live(&config.mirror.timeout),
        }
    }

    /// What was agreed on.
    pub(super) const fn capabilities(&self) -> Capabilities {
        self.wire.capabilities
    }

    /// The last status flags.
    pub(super) const fn status(&self) -> Status {
        self.wire.status
    }

    /// The stream; nothing was read ahead of it.
    pub(super) fn into_stream(self) -> Stream {
        self.wire.stream
    }

    /// Runs a text.
    pub(super) async fn query(&mut self, text: &[u8]) -> Result<Reply, Trouble> {
        self.wire.pack_query(text);
        self.exchange(Command::QUERY).await
    }

    /// The command that runs a text here.
    pub(super) fn query_payload(&self, text: &[u8]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(text.len() + 3);
        self.wire.write_query(&mut payload, text);
        payload
    }

    /// Sends a command that has no answer.
    pub(super) async fn tell(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        self.wire.pack(payload);
        let sent = self.patience.with(self.wire.send()).await;
        sent.map_err(|_| Trouble::Timeout)?.map(drop)
    }

    /// Sends a command and reads its whole answer.
    pub(super) async fn ask(&mut self, payload: &[u8]) -> Result<Reply, Trouble> {
        let kind = payload.first().map_or(Command::QUIT, |byte| Command(*byte));
        self.wire.pack(payload);
        self.exchange(kind).await
    }

    /// Takes an answer back that nobody needs any more: the next one has its room.
    pub(super) fn recycle(&mut self, mut answer: Answer) {
        if answer.sample.capacity() <= SPARE_BYTES_MAX {
            answer.clear();
            self.wire.spare = answer;
        }
    }

    async fn exchange(&mut self, kind: Command) -> Result<Reply, Trouble> {
        let reply = self.patience.with(self.wire.exchange(kind)).await;
        reply.map_err(|_| Trouble::Timeout)?
    }
}

impl Wire {
    /// Makes a command ready to be sent.
    fn pack(&mut self, payload: &[u8]) {
        self.out.clear();
        write_packet(&mut self.out, 0, payload);
    }

    /// The same for a text, which is copied once.
    fn pack_query(&mut self, text: &[u8]) {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        out.extend_from_slice(&[0; HEADER_LEN]);
        self.write_query(&mut out, text);
        let bytes = out.len() - HEADER_LEN;
        match u32::try_from(bytes) {
            Ok(len) if bytes < CHUNK_MAX => {
                if let Some(header) = out.first_chunk_mut() {
                    *header = Header { len, seq: 0 }.encode();
                }
                self.out = out;
            }
            _ => {
                let payload = out.split_off(HEADER_LEN);
                self.pack(&payload);
            }
        }
    }

    fn write_query(&self, out: &mut Vec<u8>, text: &[u8]) {
        out.push(Command::QUERY.0);
        if self.capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
            write_lenenc(out, 0);
            write_lenenc(out, 1);
        }
        out.extend_from_slice(text);
    }

    /// Sends what was packed, and says when its last piece was there to be written.
    async fn send(&mut self) -> Result<Instant, Trouble> {
        let (most, last) = self.out.split_at(self.out.len().saturating_sub(PIECE));
        if !most.is_empty() {
            self.stream.write_all(most).await?;
        }
        let sent = Instant::now();
        self.stream.write_all(last).await?;
        self.stream.flush().await?;
        self.out.clear();
        self.out.shrink_to(PIECE);
        Ok(sent)
    }

    async fn exchange(&mut self, kind: Command) -> Result<Reply, Trouble> {
        self.tracker.begin(kind.expect());
        let sent = self.send().await?;
        let mut first_byte = None;
        let mut answer = std::mem::take(&mut self.spare);
        self.piece.resize(PIECE, 0);
        loop {
            let read = self.stream.read(&mut self.piece).await?;
            let now = Instant::now();
            let first_byte = *first_byte.get_or_insert(now);
            let bytes = self.piece.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return Err(Trouble::Down(
                    "the server closed the connection before its answer was whole".to_owned(),
                ));
            }
            match self.tracker.feed(bytes, &mut answer) {
                Progress::More if answer.bytes > self.answer_bytes_max.now() => {
                    return Err(Trouble::TooLarge);
                }
                Progress::More => {}
                Progress::Ended { used } if used == read => {
                    self.status = answer.status.unwrap_or(self.status);
                    return Ok(Reply {
                        answer,
                        sent,
                        first_byte,
                        done: now,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SLOW: Duration = Duration::from_millis(5);

    /// A server that is slow to read, and answers at once.
    async fn latency(command: Vec<u8>) -> Duration {
        let (near, mut far) = tokio::io::duplex(8);
        let text = "[listen]\naddress = \"127.0.0.1:0\"\n\
            [primary]\nname = \"legacy\"\naddress = \"127.0.0.1:1\"\n\
            [shadow]\nname = \"vitess\"\naddress = \"127.0.0.1:2\"\n\
            [shadow.users]\napp = { user = \"app\", password = \"app\" }\n\
            [ledger]\npath = \"unused.db\"\n";
        let config = Config::parse(text, &[]).unwrap();
        let capabilities = Capabilities(Capabilities::PROTOCOL_41.0 | Capabilities::TRANSACTIONS.0);
        let mut talk = Talk::of(&config, Stream::Memory(near), capabilities);
        let len = command.len() + HEADER_LEN;
        let serves = async {
            tokio::time::sleep(SLOW).await;
            let mut bytes = vec![0; len];
            far.read_exact(&mut bytes).await.unwrap();
            let mut answer = Vec::new();
            write_packet(&mut answer, 1, &[0, 0, 0, 2, 0, 0, 0]);
            far.write_all(&answer).await.unwrap();
        };
        let (reply, ()) = tokio::join!(talk.ask(&command), serves);
        let reply = reply.unwrap();
        reply.first_byte - reply.sent
    }

    #[tokio::test(start_paused = true)]
    async fn what_writing_takes_is_the_servers_time() {
        assert_eq!(latency(b"\x03SELECT 1".to_vec()).await, SLOW);
        assert_eq!(
            latency(vec![3; 2 * PIECE]).await,
            Duration::ZERO,
            "its last piece was sent late"
        );
    }
}

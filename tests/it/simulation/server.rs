//! A fake server over an in-memory stream: logs in anyone, answers by the script, in pieces and
//! with stalls that a seed draws.

use super::script::{self, Server};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// How a fake server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers by the script, in pieces, with small stalls drawn from the seed.
    Primary,
    /// Answers whole and at once.
    Prompt,
    /// Takes everything and says nothing for an hour.
    Stalled,
    /// Answers, stalls, breaks off, or talks nonsense, as the seed draws it.
    Chaotic,
}

/// What a fake server sent to one client after the login's OK.
#[derive(Debug, Default)]
pub struct Sent {
    /// Every byte.
    pub bytes: Vec<u8>,
    /// Length of each answer, in order.
    pub answers: Vec<usize>,
}

/// Everything that a server sent, by connection in the order in which they were opened.
pub type Record = Arc<Mutex<Vec<Sent>>>;

/// Serves one connection to its end. `number` counts connections.
pub async fn serve(stream: DuplexStream, manner: Manner, seed: u64, record: Record) {
    let number = {
        let mut record = record.lock().unwrap();
        record.push(Sent::default());
        record.len() - 1
    };
    let rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64 * 7919));
    let mut connection = Connection {
        stream,
        rng,
        manner,
        number,
        record,
    };
    let _gone = connection.run().await;
}

struct Connection {
    stream: DuplexStream,
    rng: StdRng,
    manner: Manner,
    number: usize,
    record: Record,
}

impl Connection {
    async fn run(&mut self) -> std::io::Result<()> {
        self.stream.write_all(&script::greeting()).await?;
        let _login = self.packet().await?;
        let mut ok = script::ok(2, 0);
        ok[3] = 2;
        self.stream.write_all(&ok).await?;
        let mut server = Server::default();
        loop {
            let payload = self.packet().await?;
            if payload.first() == Some(&1) {
                return Ok(());
            }
            let answer = server.answer(&payload);
            if !answer.is_empty() {
                self.record.lock().unwrap()[self.number]
                    .answers
                    .push(answer.len());
                self.say(&answer).await?;
            }
        }
    }

    async fn packet(&mut self) -> std::io::Result<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let len = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await?;
        Ok(payload)
    }

    async fn say(&mut self, answer: &[u8]) -> std::io::Result<()> {
        match self.manner {
            Manner::Prompt => self.write(answer).await,
            Manner::Primary => self.in_pieces(answer).await,
            Manner::Stalled => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                self.write(answer).await
            }
            Manner::Chaotic => match self.rng.random_range(0..40u32) {
                0 => Err(std::io::ErrorKind::ConnectionReset.into()),
                1 => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    self.write(answer).await
                }
                2 => self.write(&[0xFF; 64]).await,
                3 => {
                    let half = answer.len() / 2;
                    self.write(&answer[..half]).await?;
                    Err(std::io::ErrorKind::ConnectionReset.into())
                }
                _ => self.in_pieces(answer).await,
            },
        }
    }

    async fn in_pieces(&mut self, answer: &[u8]) -> std::io::Result<()> {
        let mut rest = answer;
        while !rest.is_empty() {
            let most = if self.rng.random_range(0..3u32) == 0 {
                7
            } else {
                4096
            };
            let (piece, tail) = rest.split_at(self.rng.random_range(1..=most).min(rest.len()));
            if self.rng.random_range(0..4u32) == 0 {
                tokio::time::sleep(Duration::from_micros(self.rng.random_range(1..5000u64))).await;
            }
            self.write(piece).await?;
            rest = tail;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.record.lock().unwrap()[self.number]
            .bytes
            .extend_from_slice(bytes);
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }
}

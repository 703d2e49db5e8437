//! A fake server over an in-memory stream: logs in anyone, answers by the script, in pieces and
//! with stalls that a seed draws.

use super::script::{self, Whim};
use super::store::{self, Done, Session, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use understudy::wire::login::Login;

/// How a fake server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers by the script, in pieces, with small stalls drawn from the seed.
    Primary,
    /// The same, but it breaks off now and then, and gives transactions up.
    Failing,
    /// Answers whole and at once.
    Prompt,
    /// The same, but it lacks a database and one spelling of SET.
    Limited,
    /// Refuses every login.
    Refusing,
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
pub async fn serve(stream: DuplexStream, manner: Manner, seed: u64, record: Record, store: Store) {
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
        session: Session::new(store, manner == Manner::Limited),
    };
    let _gone = connection.run().await;
}

struct Connection {
    stream: DuplexStream,
    rng: StdRng,
    manner: Manner,
    number: usize,
    record: Record,
    session: Session,
}

impl Connection {
    async fn run(&mut self) -> std::io::Result<()> {
        self.stream.write_all(&script::greeting()).await?;
        let login = self.packet().await?;
        if self.manner == Manner::Refusing {
            let refusal = script::error(&store::ACCESS_DENIED, 2);
            return self.stream.write_all(&refusal).await;
        }
        if let Done::Failed(failure) = self.session.enter(&database_of(&login)) {
            return self.stream.write_all(&script::error(failure, 2)).await;
        }
        let mut ok = script::ok(2, 0);
        ok[3] = 2;
        self.stream.write_all(&ok).await?;
        loop {
            let payload = self.packet().await?;
            if payload.first() == Some(&1) {
                return Ok(());
            }
            self.serve(&payload).await?;
        }
    }

    async fn serve(&mut self, payload: &[u8]) -> std::io::Result<()> {
        let breaks_off = match self.manner {
            Manner::Failing => self.rng.random_range(0..60u32) == 0,
            Manner::Chaotic => self.rng.random_range(0..80u32) == 0,
            _ => false,
        };
        if breaks_off {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        let whim = self.whim(payload);
        let answer = script::answer(&mut self.session, payload, whim);
        if answer.is_empty() {
            return Ok(());
        }
        if self.manner == Manner::Failing && self.rng.random_range(0..60u32) == 0 {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        self.record.lock().unwrap()[self.number]
            .answers
            .push(answer.len());
        self.say(&answer).await
    }

    /// Locks that were not to be had, transactions that were given up, a COMMIT that failed, or
    /// was said to.
    fn whim(&mut self, payload: &[u8]) -> Option<Whim> {
        if !matches!(self.manner, Manner::Failing | Manner::Chaotic)
            || self.rng.random_range(0..16u32) != 0
        {
            return None;
        }
        let text = String::from_utf8_lossy(payload.get(1..)?);
        let chaotic = self.manner == Manner::Chaotic;
        if text == "COMMIT" {
            return Some(Whim {
                at: 0,
                failure: if chaotic {
                    &store::ENDED
                } else {
                    &store::COMMIT_FAILED
                },
                runs: chaotic && self.rng.random_range(0..2u32) == 0,
                gives_up: true,
            });
        }
        let writes = text.contains("UPDATE") || text.contains("INSERT");
        let failure = match self.rng.random_range(0..6u32) {
            0 | 1 => &store::LOCK_WAIT,
            2 if chaotic => &store::ABORTED,
            _ => &store::DEADLOCK,
        };
        writes.then(|| Whim {
            at: self
                .rng
                .random_range(0..2usize)
                .min(text.matches("; ").count()),
            failure,
            runs: false,
            gives_up: failure != &store::LOCK_WAIT,
        })
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
            Manner::Prompt | Manner::Limited | Manner::Refusing => self.write(answer).await,
            Manner::Primary => self.in_pieces(answer).await,
            Manner::Failing if self.rng.random_range(0..60u32) == 0 => {
                let half = answer.len() / 2;
                self.write(&answer[..half]).await?;
                Err(std::io::ErrorKind::ConnectionReset.into())
            }
            Manner::Failing => self.in_pieces(answer).await,
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

/// The database that a login names; empty for none.
fn database_of(login: &[u8]) -> String {
    let login = Login::parse(login).expect("a login");
    String::from_utf8(login.database.unwrap_or_default()).expect("a name")
}

//! A fake server of these runs: answers in pieces and with small stalls, hangs, dies and comes back
//! as it is told, and keeps its rows through all that.

use super::truth::{Tag, Truth};
use crate::simulation::script;
use crate::simulation::store::{self, Done, Session, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use understudy::wire::login::Login;

/// How it fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// It takes connections and commands, and says nothing.
    Hangs,
    /// Its connections break, and it takes none.
    Dead,
}

/// See the module.
#[derive(Debug)]
pub struct Fake {
    pub name: &'static str,
    pub rows: Store,
    mood: watch::Sender<Mood>,
    /// Statements have other ids than those of the other server.
    first_id: u32,
    seed: u64,
    connections: AtomicU64,
}

impl Fake {
    pub fn new(name: &'static str, first_id: u32, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            name,
            rows: store::store(),
            mood: watch::channel(Mood::Well).0,
            first_id,
            seed,
            connections: AtomicU64::new(0),
        })
    }

    pub fn fares(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub fn is_dead(&self) -> bool {
        *self.mood.borrow() == Mood::Dead
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Arc<Self>, stream: DuplexStream, truth: Arc<Truth>) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let seed = self.seed.wrapping_add(number.wrapping_mul(7919));
        let mut mood = self.mood.subscribe();
        let session = Session::new(Arc::clone(&self.rows), false);
        let mut connection = Connection {
            stream,
            rng: StdRng::seed_from_u64(seed),
            session: session.with_ids_from(self.first_id),
            fake: self,
            truth,
            number,
        };
        tokio::select! {
            biased;
            _ = mood.wait_for(|mood| *mood == Mood::Dead) => {}
            _ended = connection.run() => {}
        }
    }
}

struct Connection {
    stream: DuplexStream,
    rng: StdRng,
    session: Session,
    fake: Arc<Fake>,
    truth: Arc<Truth>,
    number: u64,
}

impl Connection {
    async fn run(&mut self) -> std::io::Result<()> {
        self.pause().await;
        self.stream.write_all(&script::greeting()).await?;
        let login = self.packet().await?;
        self.pause().await;
        let login = Login::parse(&login).expect("a login");
        let database = String::from_utf8(login.database.unwrap_or_default()).expect("a name");
        if let Done::Failed(failure) = self.session.enter(&database) {
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
            self.answer(&payload).await?;
        }
    }

    async fn answer(&mut self, payload: &[u8]) -> std::io::Result<()> {
        self.pause().await;
        let (tag, bare) = Tag::of(payload);
        if let Some(tag) = tag {
            self.truth.heard(tag, self.fake.name);
        }
        let answer = script::answer(&mut self.session, &bare, None);
        let command = String::from_utf8_lossy(&bare);
        tracing::debug!(server = self.fake.name, self.number, ?tag, %command);
        if let Some(tag) = tag {
            self.truth.says(tag, self.fake.name, &answer);
        }
        let mut rest = &answer[..];
        while !rest.is_empty() {
            let most = if self.rng.random_range(0..3u32) == 0 {
                7
            } else {
                4096
            };
            let (piece, tail) = rest.split_at(self.rng.random_range(1..=most).min(rest.len()));
            self.pause().await;
            self.stream.write_all(piece).await?;
            rest = tail;
        }
        Ok(())
    }

    /// While it hangs, and for a moment now and then.
    async fn pause(&mut self) {
        if self.rng.random_range(0..4u32) == 0 {
            let pause = self.rng.random_range(1..2000u64);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        let mut mood = self.fake.mood.subscribe();
        let _ended = mood.wait_for(|mood| *mood != Mood::Hangs).await;
    }

    async fn packet(&mut self) -> std::io::Result<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let len = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await?;
        Ok(payload)
    }
}

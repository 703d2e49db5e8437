//! A client of these runs: it draws what it does, knows what its session is (database, variable,
//! statements, transaction), and writes down what it was told.

use super::truth::{Fault, Row, Tag, Truth, Write};
use crate::simulation::script;
use crate::simulation::store;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use understudy::wire::answer::{Answer, AnswerTracker, Progress};
use understudy::wire::capability::Capabilities;
use understudy::wire::command::Command;
use understudy::wire::packet::write_packet;

/// The session is over, and why.
#[derive(Clone, Debug)]
pub struct Gone(pub String);

impl From<std::io::Error> for Gone {
    fn from(error: std::io::Error) -> Self {
        Self(format!("it broke off: {error}"))
    }
}

/// A prepared INSERT, by the client's id.
#[derive(Debug)]
struct Statement {
    id: u32,
    database: String,
    table: String,
}

/// One command, and how its answer is known.
struct Said {
    payload: Vec<u8>,
    tag: Option<Tag>,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    stream: DuplexStream,
    /// Read, and of the next answer.
    ahead: Vec<u8>,
    tracker: AnswerTracker,
    rng: StdRng,
    truth: Arc<Truth>,
    database: &'static str,
    variable: Option<i64>,
    /// The mirror can tell it, too.
    variable_is_plain: bool,
    statements: Vec<Statement>,
    autocommit: bool,
    /// In a transaction: what it changed.
    open: Option<Vec<Write>>,
}

impl Client {
    /// Logs in.
    pub async fn log_in(
        mut stream: DuplexStream,
        truth: Arc<Truth>,
        seed: u64,
    ) -> Result<Self, Gone> {
        packet(&mut stream).await?;
        stream.write_all(&script::login()).await?;
        packet(&mut stream).await?;
        Ok(Self {
            stream,
            ahead: Vec::new(),
            tracker: AnswerTracker::new(Capabilities(script::CAPABILITIES), 4096),
            rng: StdRng::seed_from_u64(seed),
            truth,
            database: store::DATABASES[0],
            variable: None,
            variable_is_plain: true,
            statements: Vec::new(),
            autocommit: true,
            open: None,
        })
    }

    /// Does something, and rests a moment.
    pub async fn act(&mut self) -> Result<(), Gone> {
        let table = format!("t{}", self.rng.random_range(1..4u32));
        let number = self.rng.random_range(1..store::SHARED_IDS as u32);
        match self.rng.random_range(0..20u32) {
            0..=2 => {
                let rows = self.rng.random_range(1..30u32);
                let text = format!("SELECT id, v FROM {table} ORDER BY id LIMIT {rows}");
                self.query(&text).await?;
            }
            3..=5 => self.update(&table, number, false).await?,
            6 | 7 => self.insert(&table).await?,
            // Else its replay is not possible, which taints: seldom, so that there are flips.
            8 if self.variable.is_some()
                && (self.variable_is_plain || self.rng.random_range(0..20u32) == 0) =>
            {
                self.update(&table, number, true).await?
            }
            8 | 9 => self.set(number).await?,
            10..=12 => self.transaction(&table, number).await?,
            13 => self.prepare(&table).await?,
            14 | 15 => self.execute().await?,
            16 => self.close().await?,
            17 => self.database().await?,
            18 => self.pair(&table, number).await?,
            _ => self.seldom(&table, number).await?,
        }
        let pause = match self.rng.random_range(0..40u32) {
            0 => 1_500_000,
            1..=20 => self.rng.random_range(1..6000u64),
            _ => 0,
        };
        tokio::time::sleep(Duration::from_micros(pause)).await;
        Ok(())
    }

    /// A transaction that lasts so long.
    pub async fn linger(&mut self, lasts: Duration) -> Result<(), Gone> {
        self.begin().await?;
        self.insert("t1").await?;
        tokio::time::sleep(lasts).await;
        self.commit().await
    }

    /// Ends what is open, and says goodbye.
    pub async fn leave(mut self) -> Result<(), Gone> {
        if self.open.is_some() {
            self.commit().await?;
        }
        self.send(&[1]).await
    }

    async fn seldom(&mut self, table: &str, number: u32) -> Result<(), Gone> {
        match self.rng.random_range(0..4u32) {
            0 => self.reset().await,
            1 => self.without_autocommit(table, number).await,
            2 => self.with_locks(table, number).await,
            _ => self.savepoint(table, number).await,
        }
    }

    async fn update(&mut self, table: &str, id: u32, by_variable: bool) -> Result<(), Gone> {
        let (what, by) = match self.variable {
            Some(value) if by_variable => ("@a", value),
            _ => ("1", 1),
        };
        let text = format!("UPDATE {table} SET v = v + {what} WHERE id = {id}");
        let write = Write {
            row: self.row(table, u64::from(id)),
            by: Some(by),
        };
        self.write(&text, write).await
    }

    async fn insert(&mut self, table: &str) -> Result<(), Gone> {
        let id = self.truth.next_row();
        let text = format!("INSERT INTO {table} (v, id) VALUES (0, {id})");
        let write = Write {
            row: self.row(table, id),
            by: None,
        };
        self.write(&text, write).await
    }

    fn row(&self, table: &str, id: u64) -> Row {
        (self.database.to_owned(), table.to_owned(), id)
    }

    /// By a literal, or by what no journal can tell.
    async fn set(&mut self, number: u32) -> Result<(), Gone> {
        let text = if number.is_multiple_of(2) {
            format!("SET @a = {number}")
        } else {
            format!("SELECT @a := {number}")
        };
        self.query(&text).await?;
        self.variable = Some(i64::from(number));
        self.variable_is_plain = number.is_multiple_of(2);
        Ok(())
    }

    async fn transaction(&mut self, table: &str, number: u32) -> Result<(), Gone> {
        self.begin().await?;
        for _ in 0..self.rng.random_range(1..5u32) {
            match self.rng.random_range(0..4u32) {
                0 => self.insert(table).await?,
                1 => self.execute().await?,
                _ => self.update(table, number, false).await?,
            }
            let pause = self.rng.random_range(0..3000u64);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        self.end_transaction().await
    }

    async fn end_transaction(&mut self) -> Result<(), Gone> {
        if self.rng.random_range(0..5u32) == 0 {
            self.query("ROLLBACK").await?;
            self.open = None;
            return Ok(());
        }
        self.commit().await
    }

    async fn savepoint(&mut self, table: &str, number: u32) -> Result<(), Gone> {
        self.begin().await?;
        self.insert(table).await?;
        self.query("SAVEPOINT s").await?;
        let kept = self.open.clone();
        self.update(table, number, false).await?;
        self.query("ROLLBACK TO SAVEPOINT s").await?;
        self.open = kept;
        self.commit().await
    }

    async fn without_autocommit(&mut self, table: &str, number: u32) -> Result<(), Gone> {
        self.query("SET autocommit = 0").await?;
        self.autocommit = false;
        for _ in 0..self.rng.random_range(1..4u32) {
            self.open.get_or_insert_default();
            self.update(table, number, false).await?;
            let pause = self.rng.random_range(0..5000u64);
            self.end_transaction().await?;
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        self.query("SET autocommit = 1").await?;
        self.autocommit = true;
        Ok(())
    }

    /// Something that cannot move, for a moment.
    async fn with_locks(&mut self, table: &str, number: u32) -> Result<(), Gone> {
        self.query(&format!("LOCK TABLES {table} WRITE")).await?;
        for _ in 0..self.rng.random_range(1..3u32) {
            self.update(table, number, false).await?;
            let pause = self.rng.random_range(0..5000u64);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        self.query("UNLOCK TABLES").await.map(drop)
    }

    async fn reset(&mut self) -> Result<(), Gone> {
        let reset = Said {
            payload: vec![0x1F],
            tag: None,
        };
        self.say(&[reset]).await?;
        self.variable = None;
        self.statements.clear();
        Ok(())
    }

    async fn prepare(&mut self, table: &str) -> Result<(), Gone> {
        if self.statements.len() == 3 {
            return self.close().await;
        }
        let number = self.truth.next_tag();
        let text = Tag::mark(
            number,
            &format!("INSERT INTO {table} (v, id) VALUES (0, ?)"),
        );
        let prepare = Said {
            payload: [b"\x16", text.as_bytes()].concat(),
            tag: Some(Tag::Text(number)),
        };
        let answers = self.say(&[prepare]).await?;
        let (id, _) = answers[0].prepared().expect("a statement");
        self.statements.push(Statement {
            id,
            database: self.database.to_owned(),
            table: table.to_owned(),
        });
        Ok(())
    }

    async fn execute(&mut self) -> Result<(), Gone> {
        if self.statements.is_empty() {
            return self.prepare("t1").await;
        }
        let at = self.rng.random_range(0..self.statements.len());
        let statement = &self.statements[at];
        let id = self.truth.next_row();
        let row = (statement.database.clone(), statement.table.clone(), id);
        let mut payload = vec![0x17];
        payload.extend_from_slice(&statement.id.to_le_bytes());
        payload.extend_from_slice(&[0, 1, 0, 0, 0, 0, 1, 3, 0]);
        payload.extend_from_slice(&(id as u32).to_le_bytes());
        let tag = Some(Tag::Row(id as u32));
        self.writes(&[(Said { payload, tag }, Some(Write { row, by: None }))])
            .await
    }

    async fn close(&mut self) -> Result<(), Gone> {
        let Some(statement) = self.statements.pop() else {
            return Ok(());
        };
        let mut payload = vec![0x19];
        payload.extend_from_slice(&statement.id.to_le_bytes());
        self.send(&payload).await
    }

    async fn database(&mut self) -> Result<(), Gone> {
        let database = store::DATABASES[self.rng.random_range(0..3usize) / 2];
        self.query(&format!("USE {database}")).await?;
        self.database = database;
        Ok(())
    }

    /// Two commands without waiting for the first one's answer.
    async fn pair(&mut self, table: &str, number: u32) -> Result<(), Gone> {
        let read = self.text(&format!("SELECT id FROM {table} WHERE id = {number}"));
        let update = format!("UPDATE {table} SET v = v + 1 WHERE id = {number}");
        let write = Write {
            row: self.row(table, u64::from(number)),
            by: Some(1),
        };
        let both = [(self.text(&update), Some(write)), (read, None)];
        self.writes(&both).await
    }

    async fn begin(&mut self) -> Result<(), Gone> {
        self.query("BEGIN").await?;
        self.open = Some(Vec::new());
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Gone> {
        let open = self.open.take().unwrap_or_default();
        self.truth.doubt(&open);
        self.query("COMMIT").await?;
        self.truth.confirm(&open);
        Ok(())
    }

    async fn write(&mut self, text: &str, write: Write) -> Result<(), Gone> {
        let said = self.text(text);
        self.writes(&[(said, Some(write))]).await
    }

    /// Writes, each at once or in what is open.
    async fn writes(&mut self, all: &[(Said, Option<Write>)]) -> Result<(), Gone> {
        let writes: Vec<Write> = all.iter().filter_map(|(_, write)| write.clone()).collect();
        let is_open = self.open.is_some();
        if !is_open {
            self.truth.doubt(&writes);
        }
        let said = all.iter().map(|(said, _)| Said {
            payload: said.payload.clone(),
            tag: said.tag,
        });
        let said: Vec<Said> = said.collect();
        self.say(&said).await?;
        match &mut self.open {
            Some(open) => open.extend(writes),
            None => self.truth.confirm(&writes),
        }
        Ok(())
    }

    fn text(&self, text: &str) -> Said {
        let number = self.truth.next_tag();
        let text = Tag::mark(number, text);
        Said {
            payload: [b"\x03", text.as_bytes()].concat(),
            tag: Some(Tag::Text(number)),
        }
    }

    async fn query(&mut self, text: &str) -> Result<Answer, Gone> {
        let said = self.text(text);
        let answers = self.say(&[said]).await?;
        Ok(answers.into_iter().next().expect("an answer"))
    }

    /// Says it all, then reads the answers, each of which is to be the primary's own.
    async fn say(&mut self, all: &[Said]) -> Result<Vec<Answer>, Gone> {
        for said in all {
            self.send(&said.payload).await?;
        }
        let mut answers = Vec::new();
        for said in all {
            let (bytes, answer) = self.answer(Command(said.payload[0])).await?;
            let is_prepared = said.payload[0] == 0x16;
            let is_own = said
                .tag
                .is_none_or(|tag| self.truth.is_answer(tag, &bytes, is_prepared));
            if let Some(failure) = answer.error() {
                let text = String::from_utf8_lossy(&failure.message).into_owned();
                let of = if is_own { "the primary" } else { "the proxy" };
                return Err(Gone(format!("{of} says {} {text}", failure.code)));
            }
            if !is_own {
                let text = format!("{:?} was answered {bytes:?}", said.tag);
                self.truth.fault(Fault::Bytes(text));
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn send(&mut self, payload: &[u8]) -> Result<(), Gone> {
        let mut bytes = Vec::new();
        write_packet(&mut bytes, 0, payload);
        if self.rng.random_range(0..4u32) == 0 {
            let (first, second) = bytes.split_at(self.rng.random_range(1..bytes.len()));
            self.stream.write_all(first).await?;
            let pause = self.rng.random_range(1..2000u64);
            tokio::time::sleep(Duration::from_micros(pause)).await;
            self.stream.write_all(second).await?;
            return Ok(());
        }
        Ok(self.stream.write_all(&bytes).await?)
    }

    async fn answer(&mut self, command: Command) -> Result<(Vec<u8>, Answer), Gone> {
        let (mut answer, mut bytes) = (Answer::default(), Vec::new());
        self.tracker.begin(command.expect());
        loop {
            if self.ahead.is_empty() {
                let mut piece = [0; 4096];
                let read = self.stream.read(&mut piece).await?;
                if read == 0 {
                    return Err(Gone("it was closed".into()));
                }
                self.ahead.extend_from_slice(&piece[..read]);
            }
            let used = match self.tracker.feed(&self.ahead, &mut answer) {
                Progress::More => self.ahead.len(),
                Progress::Ended { used } => {
                    bytes.extend(self.ahead.drain(..used));
                    return Ok((bytes, answer));
                }
                other => return Err(Gone(format!("an answer that is none: {other:?}"))),
            };
            bytes.extend(self.ahead.drain(..used));
        }
    }
}

/// Reads a packet of the login.
async fn packet(stream: &mut DuplexStream) -> Result<(), Gone> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let len = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).await?;
    if payload.first() == Some(&0xFF) {
        let text = String::from_utf8_lossy(&payload[3..]).into_owned();
        return Err(Gone(format!("the login was refused: {text}")));
    }
    Ok(())
}

//! Questions to a server with the proxy's own account: grants, table definitions, the clock,
//! plans, a read once more. Never on a client's connection, never on the relay's threads.
//!
//! [`Asker`] is one connection; [`Questions`] opens one when it is first needed, opens it anew
//! after it broke, and asks no more often than it may. Both refuse to replay sessions: that needs
//! a journal (`shadow`).

use crate::config::{Account, Server};
use crate::connect::{self, ConnectError, Connection, Dial, Login, Stream, TlsContext, TlsError};
use crate::task;
use crate::wire::answer::{Answer, AnswerTracker, Progress};
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::packet::write_packet;
use crate::wire::row::{Cell, text_row};
use crate::wire::sample::Sampled;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The longest answer that is looked at, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// A question whose answer is longer than this, in bytes, is given up, and its connection: a server that floods is not
/// read until the time is over.
const GIVEN_UP_BYTES: u64 = 64 << 20;

/// A question is answered within this time, or not at all.
const TIMEOUT: Duration = Duration::from_secs(15);

/// After a connection failed, the next is opened no sooner.
const PAUSE: Duration = Duration::from_secs(1);

/// Time to end a question that was given up.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// utf8mb4_general_ci, which every server since 5.5 knows.
const COLLATION: u16 = 45;

/// By the first of these that it knows a server says which it is. MariaDB has no server_uuid, and two of them may have one
/// server_id: on one machine they have a port and a directory of their own, on two, since 10.5.26 and the like, a
/// server_uid, which is made of an address of the machine's network.
pub const IDENTITIES: [&str; 3] = [
    "SELECT @@GLOBAL.server_uuid",
    "SELECT concat_ws('/', @@GLOBAL.hostname, @@GLOBAL.server_id, @@GLOBAL.port, @@GLOBAL.datadir, @@GLOBAL.server_uid)",
    "SELECT concat_ws('/', @@GLOBAL.hostname, @@GLOBAL.server_id, @@GLOBAL.port, @@GLOBAL.datadir)",
];

/// A row of texts; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The server's ERR packet.
    #[error("{message} ({code})")]
    Refused {
        /// The error number.
        code: u16,
        /// Its text.
        message: String,
    },
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke off.
    #[error("the connection broke off: {0}")]
    Broken(#[from] std::io::Error),
    /// No answer in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// More than is looked at.
    #[error("the answer is longer than {} MiB, or is none of MySQL's", ANSWER_BYTES_MAX >> 20)]
    Answer,
    /// The last connection failed a moment ago.
    #[error("the last connection failed a moment ago")]
    Waits,
    /// It is not the server that was to be asked.
    #[error(
        "its address led to several servers: {asked} was asked where {wanted} is meant; give the address of one"
    )]
    Another {
        /// Which was asked, by its own word.
        asked: String,
        /// Which is meant.
        wanted: String,
    },
}

impl AskError {
    /// Whether the connection is still good.
    const fn keeps_connection(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// What a connection is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    /// The database to begin in, by the server's own name for it.
    pub database: Option<String>,
    /// The dialect; what the login itself needs is added.
    pub capabilities: Capabilities,
    /// The collation id.
    pub collation: u16,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            database: None,
            capabilities: Capabilities::PROTOCOL_41.with(Capabilities::TRANSACTIONS),
            collation: COLLATION,
        }
    }
}

/// A connection that asks, one question at a time.
#[derive(Debug)]
pub struct Asker {
    connection: Connection,
    tracker: AnswerTracker,
}

impl Asker {
    /// Logs in.
    ///
    /// # Errors
    /// As [`connect::open`].
    pub async fn open(
        dial: &dyn Dial,
        server: &Server,
        account: &Account,
        manner: &Manner,
    ) -> Result<Self, ConnectError> {
        let tls = TlsContext::new(server)?;
        Self::open_with(dial, server, account, manner, &tls).await
    }

    async fn open_with(
        dial: &dyn Dial,
        server: &Server,
        account: &Account,
        manner: &Manner,
        tls: &TlsContext,
    ) -> Result<Self, ConnectError> {
        let login = Login {
            user: account.user.clone(),
            password: account.password.clone(),
            database: manner.database.clone(),
            capabilities: manner.capabilities,
            collation: manner.collation,
            client: None,
        };
        let connection = connect::open(dial, server, tls, &login).await?;
        let tracker = AnswerTracker::new(connection.capabilities, ANSWER_BYTES_MAX);
        Ok(Self {
            connection,
            tracker,
        })
    }

    /// The server's version, as its greeting says it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.connection.server_version
    }

    /// Which server it is, by its own word; none where it has none to tell: a vtgate, which stands for many.
    ///
    /// # Errors
    /// As [`Asker::ask`], but for a refusal.
    pub async fn identity(&mut self) -> Result<Option<String>, AskError> {
        if self.connection.is_vitess() {
            return Ok(None);
        }
        for ask in IDENTITIES {
            match self.ask(ask).await {
                Ok(rows) => return Ok(rows.into_iter().flatten().next().flatten()),
                Err(AskError::Refused { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }

    async fn must_be(&mut self, wanted: &str) -> Result<(), AskError> {
        match self.identity().await? {
            Some(asked) if asked == wanted => Ok(()),
            asked => Err(AskError::Another {
                asked: asked.unwrap_or_else(|| "one that does not say which it is".to_owned()),
                wanted: wanted.to_owned(),
            }),
        }
    }

    /// The number under which the server knows the connection.
    #[must_use]
    pub const fn thread(&self) -> u32 {
        self.connection.thread_id
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.connection.stream.is_tls()
    }

    /// The rows of texts that a statement brings; none for one that brings none.
    ///
    /// # Errors
    /// [`AskError::Refused`] leaves the connection good, the others do not.
    pub async fn ask(&mut self, statement: &str) -> Result<Vec<Row>, AskError> {
        let mut payload = vec![Command::QUERY.0];
        payload.extend_from_slice(statement.as_bytes());
        rows(&self.within(&payload, GIVEN_UP_BYTES).await?)
    }

    /// The answer to a command (its payload) as the server gave it, an error of the server's
    /// included; of its bytes at most 8 MiB are kept.
    ///
    /// # Errors
    /// The connection is no longer good.
    pub async fn answer(&mut self, payload: &[u8]) -> Result<Answer, AskError> {
        self.within(payload, u64::MAX).await
    }

    /// The same; a longer answer is given up as soon as it is.
    async fn within(&mut self, payload: &[u8], bytes_max: u64) -> Result<Answer, AskError> {
        let stream = &mut self.connection.stream;
        let asked = exchange(stream, &mut self.tracker, payload, bytes_max);
        tokio::time::timeout(TIMEOUT, asked)
            .await
            .unwrap_or(Err(AskError::Timeout))
    }

    /// Has the server itself end every later read that takes longer, where it can.
    async fn bound(&mut self, at_most: Duration) -> Result<(), AskError> {
        match time_limit(&self.connection.server_version, at_most) {
            Some(statement) => self.ask(&statement).await.map(drop),
            None => Ok(()),
        }
    }

    /// Leaves as a client should.
    pub async fn leave(mut self) {
        let mut packet = Vec::new();
        write_packet(&mut packet, 0, &[Command::QUIT.0]);
        let _ = tokio::time::timeout(
            Duration::from_secs(1),
            self.connection.stream.write_all(&packet),
        )
        .await;
    }
}

async fn exchange(
    stream: &mut Stream,
    tracker: &mut AnswerTracker,
    payload: &[u8],
    bytes_max: u64,
) -> Result<Answer, AskError> {
    let mut packets = Vec::new();
    write_packet(&mut packets, 0, payload);
    stream.write_all(&packets).await?;
    stream.flush().await?;
    let mut answer = Answer::default();
    let kind = payload.first().map_or(Command::PING, |byte| Command(*byte));
    tracker.begin(kind.expect());
    let mut piece = vec![0; 16 << 10];
    loop {
        let n = stream.read(&mut piece).await?;
        if n == 0 {
            return Err(AskError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        match tracker.feed(piece.get(..n).unwrap_or_default(), &mut answer) {
            Progress::More if answer.bytes > bytes_max => return Err(AskError::Answer),
            Progress::More => {}
            Progress::Ended { .. } => return Ok(answer),
            Progress::ClientTurn { .. } | Progress::Unsure => return Err(AskError::Answer),
        }
    }
}

/// The answer to a statement on a connection that is another's, in its dialect, between two of its
/// commands.
///
/// # Errors
/// The connection is no longer good. It is not, either, where this is dropped before its end.
pub async fn ask_over(
    stream: &mut Stream,
    capabilities: Capabilities,
    statement: &str,
) -> Result<Answer, AskError> {
    let mut payload = vec![Command::QUERY.0];
    if capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
        // No attributes, one set of them.
        payload.extend_from_slice(&[0, 1]);
    }
    payload.extend_from_slice(statement.as_bytes());
    let mut tracker = AnswerTracker::new(capabilities, ANSWER_BYTES_MAX);
    let asked = exchange(stream, &mut tracker, &payload, GIVEN_UP_BYTES);
    tokio::time::timeout(TIMEOUT, asked)
        .await
        .unwrap_or(Err(AskError::Timeout))
}

/// A server that can be asked at any time: see the module.
pub struct Questions {
    door: Arc<Door>,
    /// See [`Questions::bound`].
    bound: Option<Duration>,
    /// The time from one question to the next, at least.
    spacing: Duration,
    state: Mutex<State>,
}

/// What it takes to open a connection.
struct Door {
    dial: Arc<dyn Dial>,
    server: Arc<Server>,
    account: Account,
    tls: TlsContext,
}

impl Door {
    async fn open(&self, manner: &Manner) -> Result<Asker, ConnectError> {
        Asker::open_with(&*self.dial, &self.server, &self.account, manner, &self.tls).await
    }
}

/// A question that the server has not answered yet: dropped, it is ended there too, for a server
/// that runs a query does not see that nobody waits for it any more.
struct Unanswered {
    door: Arc<Door>,
    thread: Option<u32>,
}

impl Unanswered {
    fn answered(&mut self) {
        self.thread = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let Some(thread) = self.thread else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let door = Arc::clone(&self.door);
        drop(task::spawn("kill", async move {
            let killed = tokio::time::timeout(KILL_TIMEOUT, async {
                let mut asker = door.open(&Manner::default()).await?;
                let killed = asker.ask(&format!("KILL QUERY {thread}")).await;
                asker.leave().await;
                killed
            });
            match killed.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, thread, "a question was not ended"),
                Err(_) => tracing::debug!(thread, "a question was not ended in time"),
            }
        }));
    }
}

/// The connection, and when the next question may be asked.
#[derive(Debug, Default)]
struct State {
    open: Option<(Manner, Asker)>,
    next: Option<Instant>,
    failed: Option<Instant>,
}

impl Questions {
    /// A server with an account of the proxy's own, asked at most so often; `None` without one.
    ///
    /// # Errors
    /// TLS towards the server cannot be set up as the config says.
    pub fn new(
        dial: &Arc<dyn Dial>,
        server: &Arc<Server>,
        per_second: u32,
    ) -> Result<Option<Self>, TlsError> {
        let Some(account) = server.account.clone() else {
            return Ok(None);
        };
        let door = Door {
            dial: Arc::clone(dial),
            tls: TlsContext::new(server)?,
            server: Arc::clone(server),
            account,
        };
        Ok(Some(Self {
            door: Arc::new(door),
            bound: None,
            spacing: Duration::from_secs(1) / per_second.max(1),
            state: Mutex::default(),
        }))
    }

    /// The same for questions that may cost the server something: a read that takes longer than
    /// this the server ends itself, where it can (MySQL since 5.7.8, MariaDB since 10.1.1); what is
    /// given up is killed there.
    #[must_use]
    pub const fn bound(mut self, at_most: Duration) -> Self {
        self.bound = Some(at_most);
        self
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.door.server
    }

    /// The rows that a statement brings, on a connection without a database.
    ///
    /// # Errors
    /// See [`AskError`]. Cancel-safe: a question that is given up closes its connection.
    pub async fn ask(&self, statement: &str) -> Result<Vec<Row>, AskError> {
        self.ask_of(statement, None).await
    }

    /// The same of this server, by its own word ([`Asker::identity`]), where one is named: an address may lead to
    /// several.
    ///
    /// # Errors
    /// As [`Questions::ask`]; [`AskError::Another`] where it is not that one: it was not asked, and the next question goes
    /// by another connection.
    pub async fn ask_of(
        &self,
        statement: &str,
        server: Option<&str>,
    ) -> Result<Vec<Row>, AskError> {
        let mut payload = vec![Command::QUERY.0];
        payload.extend_from_slice(statement.as_bytes());
        let manner = Manner::default();
        let answer = self.answer_of(server, &manner, &[], &payload, GIVEN_UP_BYTES);
        rows(&answer.await?)
    }

    /// The answer to a command, on a connection of this manner after these statements were run on
    /// it (a session's settings). A connection of another manner, or with settings, is not kept.
    ///
    /// # Errors
    /// See [`AskError`]; [`AskError::Refused`] where one of the statements before was refused.
    /// Cancel-safe: a question that is given up closes its connection.
    pub async fn answer(
        &self,
        manner: &Manner,
        before: &[String],
        payload: &[u8],
    ) -> Result<Answer, AskError> {
        self.answer_of(None, manner, before, payload, u64::MAX)
            .await
    }

    async fn answer_of(
        &self,
        server: Option<&str>,
        manner: &Manner,
        before: &[String],
        payload: &[u8],
        bytes_max: u64,
    ) -> Result<Answer, AskError> {
        let mut state = self.state.lock().await;
        if let Some(next) = state.next {
            tokio::time::sleep_until(next).await;
        }
        state.next = Some(Instant::now() + self.spacing);
        let mut asker = self.asker(&mut state, manner).await?;
        if let Some(wanted) = server {
            asker.must_be(wanted).await?;
        }
        for statement in before {
            asker.ask(statement).await?;
        }
        let mut unanswered = self.unanswered(&asker);
        let answer = asker.within(payload, bytes_max).await;
        if answer.is_ok() {
            unanswered.answered();
        }
        let is_good = answer
            .as_ref()
            .map_or_else(AskError::keeps_connection, |_| true);
        if is_good && before.is_empty() {
            state.open = Some((manner.clone(), asker));
        }
        answer
    }

    /// The answer to an execution of a statement that is prepared for it, on a connection as
    /// [`Questions::answer`] has it; the server's refusal to prepare it is an answer, too. `encode` is
    /// told the statement's id and the dialect, and gives the execution's payload.
    ///
    /// # Errors
    /// See [`AskError`]; [`AskError::Answer`] where there is no payload. Cancel-safe, as above.
    pub async fn execute(
        &self,
        manner: &Manner,
        before: &[String],
        text: &[u8],
        encode: impl FnOnce(u32, Capabilities) -> Option<Vec<u8>>,
    ) -> Result<Answer, AskError> {
        let mut state = self.state.lock().await;
        if let Some(next) = state.next {
            tokio::time::sleep_until(next).await;
        }
        state.next = Some(Instant::now() + self.spacing);
        let mut asker = self.asker(&mut state, manner).await?;
        for statement in before {
            asker.ask(statement).await?;
        }
        let prepare = [&[Command::STMT_PREPARE.0], text].concat();
        let prepared = asker.answer(&prepare).await?;
        let Some((id, _)) = prepared.prepared() else {
            return Ok(prepared);
        };
        let payload = encode(id, asker.connection.capabilities).ok_or(AskError::Answer)?;
        let mut unanswered = self.unanswered(&asker);
        let answer = asker.answer(&payload).await?;
        unanswered.answered();
        Ok(answer)
    }

    fn unanswered(&self, asker: &Asker) -> Unanswered {
        Unanswered {
            door: Arc::clone(&self.door),
            thread: self.bound.map(|_| asker.connection.thread_id),
        }
    }

    async fn asker(&self, state: &mut State, manner: &Manner) -> Result<Asker, AskError> {
        if let Some((_, asker)) = state.open.take().filter(|(known, _)| known == manner) {
            return Ok(asker);
        }
        let now = Instant::now();
        if state.failed.is_some_and(|failed| now < failed + PAUSE) {
            return Err(AskError::Waits);
        }
        let opened = self.door.open(manner).await;
        state.failed = opened.is_err().then(Instant::now);
        let mut opened = opened?;
        if let Some(at_most) = self.bound {
            opened.bound(at_most).await?;
        }
        Ok(opened)
    }
}

impl std::fmt::Debug for Questions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Questions")
            .field("server", &self.door.server.name)
            .finish_non_exhaustive()
    }
}

/// The number of a server's version, as its greeting says it.
#[must_use]
pub fn version_number(version: &str) -> (u32, u32, u32) {
    // What MariaDB says before its own, for the replicas of old.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    (next(), next(), next())
}

/// What has a server of this version end a session's reads that take longer; `None` where it cannot.
fn time_limit(version: &str, at_most: Duration) -> Option<String> {
    let is_mariadb = version.contains("MariaDB");
    let number = version_number(version);
    let ms = at_most.as_millis().max(1);
    match is_mariadb {
        true if number >= (10, 1, 1) => Some(format!(
            "SET SESSION max_statement_time = {}.{:03}",
            ms / 1000,
            ms % 1000
        )),
        false if number >= (5, 7, 8) => Some(format!("SET SESSION max_execution_time = {ms}")),
        _ => None,
    }
}

/// The rows of texts of an answer to a query; none where it has no rows.
///
/// # Errors
/// The answer is an error, or longer than what was kept of it.
pub fn rows(answer: &Answer) -> Result<Vec<Row>, AskError> {
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

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_to_end_long_reads_itself_where_it_can() {
        let time = Duration::from_millis(2050);
        let mysql = Some("SET SESSION max_execution_time = 2050");
        let mariadb = Some("SET SESSION max_statement_time = 2.050");
        for (version, limit) in [
            ("5.6.51-log", None),
            ("5.7.7", None),
            ("5.7.8-log", mysql),
            ("8.0.36", mysql),
            ("5.5.5-10.0.38-MariaDB", None),
            ("5.5.5-10.6.12-MariaDB-log", mariadb),
            ("11.4.2-MariaDB", mariadb),
            ("", None),
        ] {
            assert_eq!(time_limit(version, time).as_deref(), limit, "{version}");
        }
    }

    #[tokio::test]
    async fn a_server_says_which_it_is_by_the_first_of_the_words_that_it_knows() {
        for known in IDENTITIES {
            let fake = fake::Fake::new(move |_, statement| {
                if statement == known {
                    fake::Say::Rows(vec![fake::row(&["this one"])])
                } else {
                    fake::Say::Refuse(1193)
                }
            });
            let server = fake::server("other");
            let account = server.account.clone().unwrap();
            let opened = Asker::open(&fake, &server, &account, &Manner::default()).await;
            let told = opened.unwrap().identity().await.unwrap();
            assert_eq!(told.as_deref(), Some("this one"), "{known}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_an_end_is_given_up_and_not_read_until_the_time_is_over() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut stream = Stream::Memory(near);
        let floods = async {
            let mut packets = Vec::new();
            write_packet(&mut packets, 1, &[1]);
            let column = b"\x03def\0\0\0\x04body\0\x0c\x21\0\0\0\0\0\xfd\0\0\0\0\0";
            write_packet(&mut packets, 2, column);
            write_packet(&mut packets, 3, &[0xfe, 0, 0, 2, 0]);
            let mut row = vec![0xfc, 0, 0x40];
            row.resize(row.len() + 0x4000, b'x');
            let numbers = (4..=u8::MAX).chain((0..=u8::MAX).cycle());
            // Twice as much as is read, and then silence, which ends in a time-out.
            for seq in numbers.take(1 << 13) {
                if far.write_all(&packets).await.is_err() {
                    return;
                }
                packets.clear();
                write_packet(&mut packets, seq, &row);
            }
        };
        let began = Instant::now();
        let asks = async {
            let answer = ask_over(&mut stream, Capabilities::PROTOCOL_41, "SELECT 1").await;
            drop(stream);
            answer
        };
        let (answer, ()) = tokio::join!(asks, floods);
        assert!(matches!(answer, Err(AskError::Answer)), "{answer:?}");
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

//! A connection that reads rows as they come: one row in memory at a time, whatever the answer's length.
//!
//! It logs in as the rest of the house does, with the proxy's own account, and asks both servers for the same:
//! UTF-8, UTC, no sql_mode; a vtgate for `workload = olap`, so that it streams and caps no rows. It sends
//! nothing but SELECT and SHOW, and where the server can it says that its session only reads. A connection
//! that failed, or an answer that was not read to its end, is not used again: what the server still does for it is
//! ended by a KILL QUERY of another connection's, before the next one is opened and before a run ends.
//!
//! All connections of a run to one side are to one server: behind a name, or a balancer, of several, what one has
//! says nothing of what another has.

use crate::ask::{AskError, Asker, IDENTITIES, Manner};
use crate::config::Server;
use crate::connect::{self, ConnectError, Connection, Dial, Login, TlsContext, TlsError};
use crate::sql;
use crate::wire::command::Command;
use crate::wire::packet::{CHUNK_MAX, HEADER_LEN, Header, write_packet};
use crate::wire::reply;
use crate::wire::row::{Cell, text_row};
use crate::wire::status::Status;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server that says nothing for so long in the midst of an answer is given up.
const SILENCE: Duration = Duration::from_secs(120);

/// To end on a server what was given up there.
const END_MAX: Duration = Duration::from_secs(2);

/// What is read at once.
const PIECE_BYTES: usize = 64 << 10;

mod view;

pub(super) use view::Sight;

/// What every server must take: none of it may cut an answer short, change its values, or keep a lock.
const SETTINGS: &[&str] = &[
    "SET NAMES utf8mb4",
    "SET time_zone = '+00:00'",
    "SET sql_mode = ''",
    "SET autocommit = 1",
    "SET sql_select_limit = DEFAULT",
];

/// What a vtgate must take beside them: it streams, and caps no rows.
const VITESS_SETTINGS: &[&str] = &["SET workload = 'olap'"];

/// What it takes beside them where it is new enough.
const VITESS_EXTRAS: &[&str] = &["SET query_timeout = 0"];

/// What a server takes beside them, as far as it knows it. The last but one says that nothing uncommitted is read.
const SERVER_SETTINGS: &[&str] = &[
    // `DEFAULT` is the server's own setting, which may be a limit.
    "SET sql_select_limit = 18446744073709551615",
    "SET sql_big_selects = 1",
    "SET sql_auto_is_null = 0",
    "SET max_execution_time = 0",
    "SET max_statement_time = 0",
    // It rests between rows, which a server must wait for.
    "SET net_write_timeout = 600",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    // MySQL 5.5 knows no such sessions.
    "SET SESSION TRANSACTION READ ONLY",
];

/// The longest row that is looked at, in bytes.
pub(super) const ROW_BYTES_MAX: usize = 256 << 20;

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// There is no account of the proxy's own.
    #[error("{0} cannot be asked: it has no account of the proxy's own, set user and password")]
    Account(String),
    /// TLS cannot be set up.
    #[error("{0}: {1}")]
    Tls(String, TlsError),
    /// There is no connection.
    #[error("{0}: {1}")]
    Connect(String, ConnectError),
    /// It broke off.
    #[error("{0}: the connection broke off: {1}")]
    Broken(String, std::io::Error),
    /// It hangs.
    #[error("{0}: no answer within {s} s", s = SILENCE.as_secs())]
    Silent(String),
    /// It refused.
    #[error("{server}: {message} ({code})")]
    Refused {
        /// The server's name.
        server: String,
        /// The error number.
        code: u16,
        /// Its text.
        message: String,
    },
    /// The transaction that a view stands in has ended: what is shown from then on is of another moment.
    #[error("{0}: it ended the transaction in which it showed one moment")]
    Lost(String),
    /// It cannot show one moment.
    #[error("{0} cannot be read as it is at one moment: {1}")]
    NoView(String, String),
    /// Another server than before.
    #[error(
        "{server}'s address led to several servers: first to {first}, then to {then}, and what one has says nothing of what the other has; give the address of one"
    )]
    Another {
        /// The server's name.
        server: String,
        /// What the first said of itself.
        first: String,
        /// And this one.
        then: String,
    },
    /// It does not speak MySQL's protocol, or a row is longer than is looked at.
    #[error("{0}: an answer that cannot be read, or a row of more than {mib} MiB", mib = ROW_BYTES_MAX >> 20)]
    Answer(String),
}

impl ReadError {
    /// Whether it may pass by itself: the server is gone, starts, or is overloaded.
    #[must_use]
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_, ConnectError::Refused(_)) => true,
            Self::Connect(_, fault) => matches!(
                fault,
                ConnectError::Unreachable(_) | ConnectError::Timeout | ConnectError::Broken(_)
            ),
            Self::Broken(..) | Self::Silent(_) | Self::Lost(_) => true,
            // Killed, shut down, a lock's or a deadlock's, out of time or idle for too long; and what vtgate says of
            // tablets that are away, or whose pool of transactions is empty (1203).
            Self::Refused { code, .. } => matches!(
                *code,
                1040 | 1053 | 1105 | 1203 | 1205 | 1213 | 1317 | 1969 | 2006 | 2013 | 3024 | 4031
            ),
            Self::Account(_)
            | Self::Tls(..)
            | Self::Answer(_)
            | Self::NoView(..)
            | Self::Another { .. } => false,
        }
    }

    /// Whether another view may show what this one cannot any more: it may pass, the table's definition has changed
    /// since the view was opened, or the view is gone.
    #[must_use]
    pub(super) const fn ends_view(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(*code, 1412 | 1305 | 1927) || self.may_pass(),
            _ => self.may_pass(),
        }
    }
}

/// The cells of a row; `None` is NULL.
pub(super) type Cells<'a> = Vec<Option<&'a [u8]>>;

/// A server that rows are read from.
#[derive(Clone)]
pub(super) struct Door {
    dial: Arc<dyn Dial>,
    server: Arc<Server>,
    /// The ledger keeps literals: so may what the server says.
    tells: bool,
    /// The server that the first connection led to, by its own identity.
    first: Arc<Mutex<Option<String>>>,
    given_up: GivenUp,
}

/// Connections that were given up in the midst of an answer, by the server's numbers for them.
type GivenUp = Arc<Mutex<Vec<u32>>>;

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door")
            .field("server", &self.server.name)
            .finish_non_exhaustive()
    }
}

impl Door {
    /// The way to a server. What it refuses is told without values, unless `tells`.
    #[must_use]
    pub(super) fn new(dial: Arc<dyn Dial>, server: Arc<Server>, tells: bool) -> Self {
        Self {
            dial,
            server,
            tells,
            first: Arc::default(),
            given_up: GivenUp::default(),
        }
    }

    /// Ends what was given up here and may still run: nothing of it stays beside what is asked next. In time, as far
    /// as the server lets it.
    pub(super) async fn end_given_up(&self) {
        let threads = self.given_up.lock().clone();
        let Some(account) = self.server.account.as_ref().filter(|_| !threads.is_empty()) else {
            return;
        };
        let ending = async {
            let manner = Manner::default();
            let mut asker = Asker::open(&*self.dial, &self.server, account, &manner).await?;
            let first = self.first();
            if first.is_some() && asker.identity().await? != first {
                // There the numbers are of others.
                return Err(AskError::Answer);
            }
            for thread in &threads {
                match asker.ask(&format!("KILL QUERY {thread}")).await {
                    // It has ended by itself.
                    Ok(_) | Err(AskError::Refused { .. }) => {}
                    Err(fault) => return Err(fault),
                }
            }
            asker.leave().await;
            Ok::<_, AskError>(())
        };
        let ended = tokio::time::timeout(END_MAX, ending).await;
        if !matches!(ended, Ok(Ok(()))) {
            let server = self.server.name.as_str();
            tracing::warn!(server, ?threads, "what was given up there may still run");
        }
        self.given_up.lock().retain(|one| !threads.contains(one));
    }

    /// Opens a connection and sets its session.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub(super) async fn open(&self) -> Result<Reader, ReadError> {
        self.end_given_up().await;
        let name = self.server.name.clone();
        let account = self.server.account.clone();
        let account = account.ok_or_else(|| ReadError::Account(name.clone()))?;
        let tls =
            TlsContext::new(&self.server).map_err(|fault| ReadError::Tls(name.clone(), fault))?;
        let manner = Manner::default();
        let login = Login {
            user: account.user,
            password: account.password,
            database: None,
            capabilities: manner.capabilities,
            collation: manner.collation,
            client: None,
        };
        let connection = connect::open(&*self.dial, &self.server, &tls, &login)
            .await
            .map_err(|fault| ReadError::Connect(name.clone(), fault))?;
        let mut reader = Reader {
            is_vitess: connection.is_vitess(),
            connection,
            name,
            identity: None,
            tells: self.tells,
            buffer: Vec::new(),
            taken: 0,
            end: 0,
            columns: 0,
            under_way: false,
            viewing: false,
            given_up: Arc::clone(&self.given_up),
        };
        reader.set_session().await?;
        reader.identity = reader.says_who().await?;
        self.is_the_first(&reader)?;
        Ok(reader)
    }

    /// The server that the first connection led to, by its own identity; none where it has none to tell.
    pub(super) fn first(&self) -> Option<String> {
        self.first.lock().clone()
    }

    /// Whether it is the server that was read first.
    fn is_the_first(&self, reader: &Reader) -> Result<(), ReadError> {
        let Some(now) = &reader.identity else {
            return Ok(());
        };
        let mut first = self.first.lock();
        let first = first.get_or_insert_with(|| now.clone());
        if first == now {
            return Ok(());
        }
        Err(ReadError::Another {
            server: self.server.name.clone(),
            first: first.clone(),
            then: now.clone(),
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    name: String,
    is_vitess: bool,
    identity: Option<String>,
    /// See [`Door`].
    tells: bool,
    /// What was read, of which `taken` bytes are behind us; the packet that is looked at ends at `end`.
    buffer: Vec<u8>,
    taken: usize,
    end: usize,
    /// Columns of the answer that is being read.
    columns: usize,
    /// The server has not said the last of its answer.
    under_way: bool,
    /// A view is open: every answer must be of its transaction.
    viewing: bool,
    given_up: GivenUp,
}

/// A vtgate ends by itself what nobody waits for.
impl Drop for Reader {
    fn drop(&mut self) {
        if self.under_way && !self.is_vitess {
            self.given_up.lock().push(self.connection.thread_id);
        }
    }
}

impl Reader {
    /// Whether the server is a vtgate.
    #[must_use]
    pub(super) const fn is_vitess(&self) -> bool {
        self.is_vitess
    }

    /// Whatever the server gives new sessions (`init_connect`, its own settings): what is read must be all of it.
    async fn set_session(&mut self) -> Result<(), ReadError> {
        for statement in SETTINGS {
            self.run(statement).await?;
        }
        let (must, may) = if self.is_vitess {
            (VITESS_SETTINGS, VITESS_EXTRAS)
        } else {
            (&[][..], SERVER_SETTINGS)
        };
        for statement in must {
            self.run(statement).await?;
        }
        for statement in may {
            match self.run(statement).await {
                // Servers differ in which of these they know, and one that knows it not has not set it either.
                Ok(()) | Err(ReadError::Refused { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Which server it is, so that what one said is not held for what another says: its own identity, or none
    /// where it has none to tell (a vtgate, which stands for many).
    pub(super) fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    async fn says_who(&mut self) -> Result<Option<String>, ReadError> {
        if self.is_vitess {
            return Ok(None);
        }
        for ask in IDENTITIES {
            match self.all(ask).await {
                Ok(rows) => {
                    let cell = rows.into_iter().next();
                    return Ok(cell.and_then(|row| row.into_iter().next()).flatten());
                }
                Err(ReadError::Refused { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }

    async fn run(&mut self, statement: &str) -> Result<(), ReadError> {
        self.all(statement).await.map(drop)
    }

    /// All rows of an answer that is known to be short, as texts.
    ///
    /// # Errors
    /// See [`ReadError`]; after [`ReadError::Refused`] the connection is good.
    pub(super) async fn all(
        &mut self,
        statement: &str,
    ) -> Result<Vec<Vec<Option<String>>>, ReadError> {
        let mut rows = Vec::new();
        self.ask(statement).await?;
        while let Some(cells) = self.next().await? {
            let texts = cells.into_iter();
            let texts =
                texts.map(|cell| cell.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
            rows.push(texts.collect());
        }
        Ok(rows)
    }

    /// Asks; the rows are then taken with [`Reader::next`], to the end.
    ///
    /// # Errors
    /// As [`Reader::all`].
    pub(super) async fn ask(&mut self, statement: &str) -> Result<(), ReadError> {
        let mut packets = Vec::with_capacity(statement.len() + HEADER_LEN + 1);
        let payload = [&[Command::QUERY.0], statement.as_bytes()].concat();
        write_packet(&mut packets, 0, &payload);
        self.under_way = true;
        let stream = &mut self.connection.stream;
        let sent = async {
            stream.write_all(&packets).await?;
            stream.flush().await
        };
        match tokio::time::timeout(SILENCE, sent).await {
            Ok(sent) => sent.map_err(|fault| self.broken(fault))?,
            Err(_) => return Err(ReadError::Silent(self.name.clone())),
        }
        self.columns = self.heading().await?;
        Ok(())
    }

    /// The answer's first packets, up to its rows: how many columns they have; 0 where it has no rows.
    async fn heading(&mut self) -> Result<usize, ReadError> {
        let first = self.packet().await?;
        let columns = match first.first() {
            Some(&reply::OK) => {
                self.under_way = false;
                let done = reply::parse_ok(&first, self.connection.capabilities);
                let status = done.map(|done| done.status);
                self.is_in_view(status.unwrap_or_default())?;
                return Ok(0);
            }
            Some(&reply::ERR) => {
                self.under_way = false;
                return Err(self.refused(&first));
            }
            Some(&reply::LOCAL_INFILE) | None => return Err(self.unreadable()),
            Some(_) => crate::wire::packet::Reader::new(&first).lenenc_int(),
        };
        let columns = columns.ok().and_then(|n| usize::try_from(n).ok());
        let columns = columns.filter(|n| *n > 0 && *n <= COLUMNS_MAX);
        let columns = columns.ok_or_else(|| self.unreadable())?;
        for _ in 0..columns {
            self.packet().await?;
        }
        let end = self.packet().await?;
        if reply::is_eof(&end) {
            Ok(columns)
        } else {
            Err(self.unreadable())
        }
    }

    /// The next row's cells; `None` behind the last one.
    ///
    /// # Errors
    /// As [`Reader::all`]; the connection is then no longer good.
    pub(super) async fn next(&mut self) -> Result<Option<Cells<'_>>, ReadError> {
        if self.columns == 0 {
            return Ok(None);
        }
        let (from, to) = self.place().await?;
        let payload = self.buffer.get(from..to).unwrap_or_default();
        if reply::is_eof(payload) {
            let status = status_of(payload);
            self.under_way = false;
            self.columns = 0;
            self.is_in_view(status)?;
            return Ok(None);
        }
        if payload.first() == Some(&reply::ERR) {
            let payload = payload.to_vec();
            self.under_way = false;
            return Err(self.refused(&payload));
        }
        match text_row(payload, self.columns) {
            Ok(cells) => Ok(Some(cells.into_iter().map(bytes).collect())),
            Err(_) => Err(ReadError::Answer(self.name.clone())),
        }
    }

    fn is_in_view(&self, status: Status) -> Result<(), ReadError> {
        if self.viewing && !status.in_transaction() {
            return Err(ReadError::Lost(self.name.clone()));
        }
        Ok(())
    }

    /// Has the current runtime watch its connection.
    pub(super) fn come_home(&mut self) {
        if let Err(error) = self.connection.stream.come_home() {
            tracing::debug!(%error, "a reader's connection stays with another thread");
        }
    }

    async fn packet(&mut self) -> Result<Vec<u8>, ReadError> {
        let (from, to) = self.place().await?;
        Ok(self.buffer.get(from..to).unwrap_or_default().to_vec())
    }

    /// Where in the buffer the next packet's payload is. One of several chunks is put together.
    async fn place(&mut self) -> Result<(usize, usize), ReadError> {
        self.taken = self.end;
        let mut len = 0;
        loop {
            // What was put together so far begins with one header.
            let at = if len == 0 { 0 } else { HEADER_LEN + len };
            self.fill(at + HEADER_LEN).await?;
            let header = self.buffer.get(self.taken + at..);
            let header = header.and_then(|header| header.first_chunk::<HEADER_LEN>());
            let header = Header::parse(*header.ok_or_else(|| self.unreadable())?);
            let chunk = usize::try_from(header.len).unwrap_or(usize::MAX);
            if len.saturating_add(chunk) > ROW_BYTES_MAX {
                return Err(self.unreadable());
            }
            self.fill(at + HEADER_LEN + chunk).await?;
            if len > 0 {
                let header = self.taken + at;
                self.buffer.drain(header..header + HEADER_LEN);
            }
            len += chunk;
            if chunk < CHUNK_MAX {
                let from = self.taken + HEADER_LEN;
                self.end = from + len;
                return Ok((from, self.end));
            }
        }
    }

    /// Reads until the buffer has so many bytes behind what was taken.
    async fn fill(&mut self, bytes: usize) -> Result<(), ReadError> {
        while self.buffer.len() - self.taken < bytes {
            if self.taken > 0 {
                self.buffer.drain(..self.taken);
                self.taken = 0;
            }
            self.buffer.reserve(PIECE_BYTES);
            let read = self.connection.stream.read_buf(&mut self.buffer);
            match tokio::time::timeout(SILENCE, read).await {
                Ok(Ok(0)) => return Err(self.broken(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(Ok(_)) => {}
                Ok(Err(fault)) => return Err(self.broken(fault)),
                Err(_) => return Err(ReadError::Silent(self.name.clone())),
            }
        }
        Ok(())
    }

    fn broken(&self, fault: std::io::Error) -> ReadError {
        ReadError::Broken(self.name.clone(), fault)
    }

    fn unreadable(&self) -> ReadError {
        ReadError::Answer(self.name.clone())
    }

    fn refused(&self, payload: &[u8]) -> ReadError {
        let failure = reply::parse_err(payload);
        let message = String::from_utf8_lossy(&failure.message);
        ReadError::Refused {
            server: self.name.clone(),
            code: failure.code,
            message: if self.tells {
                message.into_owned()
            } else {
                sql::redact_error(&message)
            },
        }
    }
}

/// What an EOF packet says of the session.
fn status_of(eof: &[u8]) -> Status {
    let flags = eof.get(3..).and_then(|flags| flags.first_chunk::<2>());
    Status(flags.map_or(0, |flags| u16::from_le_bytes(*flags)))
}

/// What MySQL has at most.
const COLUMNS_MAX: usize = 4096;

fn bytes(cell: Cell<'_>) -> Option<&[u8]> {
    match cell {
        Cell::Bytes(bytes) => Some(bytes),
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
mod tests;

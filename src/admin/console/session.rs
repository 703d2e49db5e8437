//! One connection of the console: packets in, packets out, one command after another.

use super::answer::{self, Form, Writer};
use super::ask::{self, Described, Fault, Rows};
use super::chatter::{self, Reply};
use super::login::{self, CAPABILITIES};
use super::{Shared, count};
use crate::admin::places::LetIn;
use crate::admin::who::Caller;
use crate::wire::command::Command;
use crate::wire::execute::{Execute, Shape, Type, Value as Bound, long_parameter, statement_id};
use crate::wire::packet::write_packet;
use crate::wire::row::Cell;
use crate::wire::{HEADER_LEN, Header};
use parking_lot::Mutex;
use rusqlite::types::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A login is done within this time.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that asks nothing for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// The rest of a packet arrives within this time of its first byte.
const PACKET_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that takes nothing of its answer for so long is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A command's packet at most, in bytes.
const PACKET_BYTES_MAX: usize = 256 << 10;

/// So much of an answer is made before it is sent, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Statements that one connection may have prepared.
const PREPARED_MAX: usize = 64;

/// Bytes that COM_STMT_SEND_LONG_DATA may bring for all of them.
const LONG_BYTES_MAX: usize = 256 << 10;

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client left, was sent away, or was slow.
    Left,
    /// What it sent is no protocol.
    Broken(&'static str),
}

/// The connection's bytes.
#[derive(Debug)]
pub(super) struct Line {
    stream: BufReader<TcpStream>,
    out: Vec<u8>,
}

impl Line {
    /// What is to be sent next.
    pub(super) const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Who is at its other end.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.stream.get_ref().peer_addr().ok()
    }

    /// Sends it.
    pub(super) async fn send(&mut self) -> Result<(), Ended> {
        let sent = tokio::time::timeout(WRITE_TIMEOUT, self.stream.write_all(&self.out)).await;
        self.out.clear();
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ended::Left),
        }
    }

    /// The next packet's sequence number and payload, of so many bytes at most.
    pub(super) async fn read(&mut self, bytes_max: usize) -> Result<(u8, Vec<u8>), Ended> {
        let first = tokio::time::timeout(IDLE_TIMEOUT, self.stream.read_u8()).await;
        let Ok(Ok(first)) = first else {
            return Err(Ended::Left);
        };
        tokio::time::timeout(PACKET_TIMEOUT, self.rest(first, bytes_max))
            .await
            .unwrap_or(Err(Ended::Broken("a packet did not arrive whole in time")))
    }

    /// Ends when the client has left; one that has sent more meanwhile is there.
    async fn is_left(&mut self) {
        if self
            .stream
            .fill_buf()
            .await
            .is_ok_and(|more| !more.is_empty())
        {
            std::future::pending().await
        }
    }

    async fn rest(&mut self, first: u8, bytes_max: usize) -> Result<(u8, Vec<u8>), Ended> {
        let half = |error: std::io::Error| match error.kind() {
            ErrorKind::UnexpectedEof => Ended::Broken("the client left in the midst of a packet"),
            _ => Ended::Left,
        };
        let mut more = [0; HEADER_LEN - 1];
        self.stream.read_exact(&mut more).await.map_err(half)?;
        let [second, third, seq] = more;
        let header = Header::parse([first, second, third, seq]);
        let len = header.len as usize;
        if len > bytes_max {
            let text = format!("Got a packet bigger than {bytes_max} bytes");
            answer::fault(
                &mut self.out,
                seq.wrapping_add(1),
                &Fault::new(1153, b"08S01", text),
            );
            self.send().await?;
            return Err(Ended::Broken("a packet is too long"));
        }
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await.map_err(half)?;
        Ok((header.seq, payload))
    }
}

/// Serves one client until it leaves.
pub(super) async fn serve(
    stream: TcpStream,
    shared: &Arc<Shared>,
    number: u32,
    let_in: &LetIn,
) -> Ended {
    let _ = stream.set_nodelay(true);
    let mut line = Line {
        stream: BufReader::new(stream),
        out: Vec::new(),
    };
    let login = login::log_in(&mut line, shared, number, let_in);
    let caller = match tokio::time::timeout(LOGIN_TIMEOUT, login).await {
        Ok(Ok(caller)) => caller,
        Ok(Err(ended)) => return ended,
        Err(_) => return Ended::Left,
    };
    let mut session = Session {
        line,
        caller,
        shared: Arc::clone(shared),
        number,
        prepared: HashMap::new(),
        next_id: 1,
    };
    loop {
        if let Err(ended) = session.command().await {
            return ended;
        }
    }
}

/// Queries that run or wait for their turn, by their connection's number: as many as there are
/// connections, at most.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<HashMap<u32, Arc<AtomicBool>>>);

impl Running {
    /// Notes one, until what this returns is dropped.
    fn note(&self, number: u32, gone: &Arc<AtomicBool>) -> Noted<'_> {
        self.0.lock().insert(number, Arc::clone(gone));
        Noted { of: self, number }
    }

    /// Has one end.
    fn kill(&self, number: u32) -> Result<(), Fault> {
        match self.0.lock().get(&number) {
            Some(gone) => gone.store(true, Ordering::Relaxed),
            None => return Err(Fault::no_such_thread(&number.to_string())),
        }
        Ok(())
    }
}

/// A query that is noted.
struct Noted<'a> {
    of: &'a Running,
    number: u32,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.of.0.lock().remove(&self.number);
    }
}

/// A client that is logged in.
struct Session {
    line: Line,
    caller: Caller,
    shared: Arc<Shared>,
    /// As the greeting told it.
    number: u32,
    prepared: HashMap<u32, Prepared>,
    next_id: u32,
}

/// A prepared statement.
#[derive(Debug)]
struct Prepared {
    text: String,
    parameters: u16,
    types: Option<Vec<Type>>,
    long: BTreeMap<u16, Vec<u8>>,
}

impl Session {
    /// Reads one command and answers it.
    async fn command(&mut self) -> Result<(), Ended> {
        let (seq, payload) = self.line.read(PACKET_BYTES_MAX).await?;
        let Some((kind, rest)) = payload.split_first() else {
            return Err(Ended::Broken("an empty packet is no command"));
        };
        let seq = seq.wrapping_add(1);
        if self.caller.is_over() {
            let text = "the token that you logged in with is one no more; log in with another one";
            self.fault(seq, &Fault::new(1045, b"28000", text));
            self.line.send().await?;
            return Err(Ended::Left);
        }
        match Command(*kind) {
            Command::QUIT => return Err(Ended::Left),
            Command::QUERY => self.query(seq, rest).await?,
            Command::STMT_PREPARE => self.prepare(seq, rest).await?,
            Command::STMT_EXECUTE => self.execute(seq, &payload).await?,
            // These two have no answer.
            Command::STMT_SEND_LONG_DATA => return self.take_long(&payload),
            Command::STMT_CLOSE => {
                let id = statement_id(&payload).map_err(|_| SHORT)?;
                self.prepared.remove(&id);
                return Ok(());
            }
            Command::STMT_RESET => {
                let id = statement_id(&payload).map_err(|_| SHORT)?;
                if let Some(prepared) = self.prepared.get_mut(&id) {
                    prepared.long.clear();
                }
                answer::ok(self.line.out(), seq);
            }
            Command::RESET_CONNECTION => {
                self.prepared.clear();
                answer::ok(self.line.out(), seq);
            }
            Command::PING => {
                answer::ok(self.line.out(), seq);
            }
            Command::STATISTICS => {
                write_packet(self.line.out(), seq, b"understudy's console");
            }
            Command::SET_OPTION => {
                answer::eof(self.line.out(), seq);
            }
            Command::INIT_DB => {
                match chatter::no_such_database(&String::from_utf8_lossy(rest)) {
                    None => answer::ok(self.line.out(), seq),
                    Some(fault) => answer::fault(self.line.out(), seq, &fault),
                };
            }
            Command::FIELD_LIST => {
                let table = rest.split(|byte| *byte == 0).next().unwrap_or_default();
                answer::fields(self.line.out(), seq, &String::from_utf8_lossy(table));
            }
            Command(other) => {
                let text = format!("Unknown command {other:#04x}: the console answers queries");
                self.fault(seq, &Fault::new(1047, b"08S01", text));
            }
        }
        self.line.send().await
    }

    fn fault(&mut self, seq: u8, fault: &Fault) {
        if fault.cut {
            count(&self.shared.counters.cut);
        }
        answer::fault(self.line.out(), seq, fault);
    }

    async fn query(&mut self, seq: u8, text: &[u8]) -> Result<(), Ended> {
        let answered = match worded(text) {
            Ok(text) => self.answer(text, Vec::new()).await,
            Err(fault) => Err(fault),
        };
        self.tell(seq, answered, Form::Text).await
    }

    /// Tells an answer, in pieces; the last one is left to be sent.
    async fn tell(
        &mut self,
        seq: u8,
        answered: Result<Option<Rows>, Fault>,
        form: Form,
    ) -> Result<(), Ended> {
        match answered {
            Ok(Some(rows)) => {
                let mut writer = Writer::begin(self.line.out(), seq, &rows, form);
                while writer.go_on(self.line.out(), PIECE_BYTES) {
                    self.line.send().await?;
                }
            }
            Ok(None) => {
                answer::ok(self.line.out(), seq);
            }
            Err(fault) => self.fault(seq, &fault),
        }
        Ok(())
    }

    /// The rows of a statement; `None` for one that is answered with OK.
    async fn answer(&mut self, text: &str, values: Vec<Value>) -> Result<Option<Rows>, Fault> {
        match chatter::reply(text)? {
            Reply::Done => Ok(None),
            Reply::Rows(rows) => Ok(Some(rows)),
            Reply::Kill(number) => self.shared.running.kill(number).map(|()| None),
            Reply::Ask(text) => {
                count(&self.shared.counters.queries);
                let asked = self.aside(move |shared, gone| {
                    ask::ask(&shared.ledger, shared.bounds(), gone, &text, &values)
                });
                asked.await.map(Some)
            }
        }
    }

    /// Asks SQLite on a thread for that, when it is its turn, which it waits for no longer than a query
    /// may take. It ends early where this connection does, or its client, or another one says so.
    async fn aside<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Shared, &Arc<AtomicBool>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let shared = Arc::clone(&self.shared);
        let gone = Gone::default();
        let flag = Arc::clone(&gone.0);
        let _noted = shared.running.note(self.number, &flag);
        let turn = Arc::clone(&shared.turns).acquire_owned();
        let turn = tokio::select! {
            turn = tokio::time::timeout(shared.time.now(), turn) => turn,
            () = self.line.is_left() => return Err(Fault::interrupted()),
        };
        let turn = turn.map_err(|_| Fault::no_turn(shared.time.now()))?;
        let turn = turn.map_err(|_| Fault::new(1053, b"08S01", "Server shutdown in progress"))?;
        let (asked, counters) = (Arc::clone(&shared), Arc::clone(&shared.counters));
        let work = move || {
            let _turn = turn;
            work(&asked, &flag)
        };
        let done = tokio::select! {
            done = tokio::task::spawn_blocking(work) => done,
            () = self.line.is_left() => return Err(Fault::interrupted()),
        };
        done.unwrap_or_else(|_| {
            count(&counters.broken);
            let text = "a fault of understudy's own broke the query; the log says more";
            Err(Fault::new(1105, b"HY000", text))
        })
    }

    async fn prepare(&mut self, seq: u8, text: &[u8]) -> Result<(), Ended> {
        let described = match worded(text) {
            Ok(text) => self.describe(text).await,
            Err(fault) => Err(fault),
        };
        match described {
            Ok(described) => {
                let id = self.next_id;
                self.next_id = self.next_id.wrapping_add(1).max(1);
                let prepared = Prepared {
                    text: String::from_utf8_lossy(text).into_owned(),
                    parameters: described.parameters,
                    types: None,
                    long: BTreeMap::new(),
                };
                self.prepared.insert(id, prepared);
                let Described {
                    parameters,
                    columns,
                } = described;
                answer::prepared(self.line.out(), seq, id, parameters, &columns);
            }
            Err(fault) => self.fault(seq, &fault),
        }
        Ok(())
    }

    async fn describe(&mut self, text: &str) -> Result<Described, Fault> {
        if self.prepared.len() >= PREPARED_MAX {
            let text = format!("{PREPARED_MAX} statements are prepared here: close one");
            return Err(Fault::new(1461, b"42000", text));
        }
        match chatter::reply(text)? {
            Reply::Done | Reply::Kill(_) => Ok(Described::default()),
            Reply::Rows(rows) => Ok(Described {
                parameters: 0,
                columns: rows.columns,
            }),
            Reply::Ask(text) => {
                let described = self.aside(move |shared, gone| {
                    ask::describe(&shared.ledger, shared.bounds(), gone, &text)
                });
                described.await
            }
        }
    }

    async fn execute(&mut self, seq: u8, payload: &[u8]) -> Result<(), Ended> {
        let id = statement_id(payload).map_err(|_| SHORT)?;
        let Some(prepared) = self.prepared.get_mut(&id) else {
            let text = format!("Unknown prepared statement handler ({id}) given to EXECUTE");
            self.fault(seq, &Fault::new(1243, b"HY000", text));
            return Ok(());
        };
        let values = prepared.bind(payload)?;
        let text = prepared.text.clone();
        let answered = self.answer(&text, values).await;
        self.tell(seq, answered, Form::Binary).await
    }

    fn take_long(&mut self, payload: &[u8]) -> Result<(), Ended> {
        let id = statement_id(payload).map_err(|_| SHORT)?;
        let number = long_parameter(payload).map_err(|_| SHORT)?;
        let data = payload.get(7..).unwrap_or_default();
        let long = self
            .prepared
            .values()
            .flat_map(|prepared| prepared.long.values());
        let have: usize = long.map(Vec::len).sum();
        if let Some(prepared) = self.prepared.get_mut(&id) {
            if have + data.len() > LONG_BYTES_MAX || number >= prepared.parameters {
                return Err(Ended::Broken("a parameter is too long, or is none"));
            }
            prepared.long.entry(number).or_default().extend(data);
        }
        Ok(())
    }
}

/// A command is shorter than it must be.
const SHORT: Ended = Ended::Broken("a command is cut off");

/// Tells whoever works for a connection that it is gone.
#[derive(Debug, Default)]
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Prepared {
    /// The values of a COM_STMT_EXECUTE; what was sent before it is used up.
    fn bind(&mut self, payload: &[u8]) -> Result<Vec<Value>, Ended> {
        let long: BTreeSet<u16> = self.long.keys().copied().collect();
        let shape = Shape {
            parameters: self.parameters,
            capabilities: CAPABILITIES,
            types: self.types.as_deref(),
            long: &long,
        };
        let wrong = |_| Ended::Broken("the parameters of a statement cannot be read");
        let execute = Execute::parse(payload, shape).map_err(wrong)?;
        let bound = execute.decode(shape).map_err(wrong)?;
        let mut sent = std::mem::take(&mut self.long);
        let values = bound
            .into_iter()
            .enumerate()
            .map(|(at, value)| match value {
                Bound::Here(cell) => meant(cell),
                Bound::SentBefore => {
                    let number = u16::try_from(at).unwrap_or(u16::MAX);
                    bytes(&sent.remove(&number).unwrap_or_default())
                }
            })
            .collect();
        if execute.types.is_some() {
            self.types = execute.types;
        }
        Ok(values)
    }
}

/// A parameter as SQLite takes it; times as text.
fn meant(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Bytes(text) => bytes(text),
        Cell::Int(n) => Value::Integer(n),
        Cell::UInt(n) => i64::try_from(n).map_or_else(|_| Value::Text(n.to_string()), Value::from),
        Cell::Float(n) => Value::Real(n.into()),
        Cell::Double(n) => Value::Real(n),
        Cell::Date(at) => Value::Text(format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            at.year, at.month, at.day, at.hour, at.minute, at.second, at.micros
        )),
        Cell::Time(span) => Value::Text(format!(
            "{}{:02}:{:02}:{:02}.{:06}",
            if span.negative { "-" } else { "" },
            u64::from(span.days) * 24 + u64::from(span.hours),
            span.minutes,
            span.seconds,
            span.micros
        )),
    }
}

fn bytes(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(
        |_| Value::Blob(bytes.to_vec()),
        |text| Value::Text(text.to_owned()),
    )
}

fn worded(text: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(text)
        .map_err(|_| Fault::new(1300, b"HY000", "Invalid utf8mb4 character string"))
}

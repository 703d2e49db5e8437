//! A server of a test's own: it lets anybody in and answers each statement as the test says, by the name of the
//! server that it stands for.

use crate::config::{Account, FedBy, Server, TlsMode};
use crate::connect::{Dial, Dialing, Stream};
use crate::wire::packet::{write_lenenc_bytes, write_packet};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What it says to a statement.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// It is done.
    Done,
    /// It is done, and so many rows were met.
    Met(u8),
    /// These rows.
    Rows(Vec<Vec<Option<String>>>),
    /// This error.
    Refuse(u16),
    /// Nothing, ever.
    Hang,
}

/// By server, the number of the connection, and the statement; and whether a transaction is open then.
type Script = dyn Fn(&str, u64, &str) -> (Say, bool) + Send + Sync;

/// See the module.
#[derive(Clone)]
pub(crate) struct Fake {
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<(String, String)>>>,
    connections: Arc<AtomicU64>,
    version: &'static str,
}

impl Fake {
    /// One that answers by server and statement. `SET` it takes without asking.
    pub(crate) fn new(script: impl Fn(&str, &str) -> Say + Send + Sync + 'static) -> Self {
        Self::of_connections(move |server, _, statement| (script(server, statement), false))
    }

    /// The same, by the connection too.
    pub(crate) fn of_connections(
        script: impl Fn(&str, u64, &str) -> (Say, bool) + Send + Sync + 'static,
    ) -> Self {
        Self {
            script: Arc::new(script),
            asked: Arc::default(),
            connections: Arc::default(),
            version: "8.4.6",
        }
    }

    /// The same, which says that it is of this version.
    pub(crate) fn of_version(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// What a server was asked, in its order.
    pub(crate) fn asked(&self, server: &str) -> Vec<String> {
        let asked = self.asked.lock();
        let of = asked.iter().filter(|(of, _)| of == server);
        of.map(|(_, statement)| statement.clone()).collect()
    }
}

/// A server of this name.
pub(crate) fn server(name: &str) -> Server {
    Server {
        name: name.into(),
        host: "127.0.0.1".into(),
        port: 1,
        tls: TlsMode::Off,
        tls_ca: None,
        account: Some(Account {
            user: "understudy".to_owned(),
            password: "secret".to_owned(),
        }),
        users: Default::default(),
        databases: Default::default(),
        fed_by: FedBy::Mirror,
        init: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        source_addresses: Vec::new(),
        proxy_protocol: Default::default(),
    }
}

/// A row's cells.
pub(crate) fn row(cells: &[&str]) -> Vec<Option<String>> {
    cells.iter().map(|cell| Some((*cell).to_owned())).collect()
}

impl Dial for Fake {
    fn dial<'a>(&'a self, server: &'a Server) -> Dialing<'a> {
        Box::pin(async {
            let (near, far) = tokio::io::duplex(1 << 16);
            let (fake, name) = (self.clone(), server.name.clone());
            drop(crate::task::spawn("fake", async move {
                // The far end goes when the near one does.
                let _ = fake.serve(far, &name).await;
            }));
            Ok(Stream::Memory(near))
        })
    }
}

impl Fake {
    async fn serve(&self, mut end: DuplexStream, name: &str) -> std::io::Result<()> {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        send(&mut end, 0, &[greeting(self.version, connection)]).await?;
        let (seq, _) = receive(&mut end).await?;
        send(&mut end, seq.wrapping_add(1), &[OK.to_vec()]).await?;
        loop {
            let received = receive(&mut end).await;
            let Ok((seq, command)) = received else {
                // Whoever has left sees nothing any more.
                let _ = (self.script)(name, connection, "");
                return Ok(());
            };
            let statement = String::from_utf8_lossy(command.get(1..).unwrap_or_default());
            self.asked
                .lock()
                .push((name.to_owned(), statement.clone().into_owned()));
            let (says, in_transaction) = if statement.starts_with("SET ") {
                (Say::Done, false)
            } else {
                (self.script)(name, connection, &statement)
            };
            let mut packets = match says {
                Say::Done => vec![OK.to_vec()],
                Say::Met(rows) => vec![[&[0, rows][..], &OK[2..]].concat()],
                Say::Rows(rows) => answer(&rows),
                Say::Refuse(code) => {
                    let [low, high] = code.to_le_bytes();
                    vec![[&[0xFF, low, high], &b"#HY000no"[..]].concat()]
                }
                Say::Hang => std::future::pending().await,
            };
            if in_transaction {
                packets.iter_mut().for_each(|packet| say_it_is_open(packet));
            }
            send(&mut end, seq.wrapping_add(1), &packets).await?;
        }
    }
}

/// Sets the flag of an open transaction in a packet that has flags.
fn say_it_is_open(packet: &mut [u8]) {
    match packet {
        [0, _, 0, flags, _, _, _] => *flags |= 1,
        [0xFE, _, _, flags, _] => *flags |= 1,
        _ => {}
    }
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const EOF: &[u8] = &[0xFE, 0, 0, 2, 0];
const NONCE: &[u8; 20] = b"abcdefghijklmnopqrst";

/// The server's number for a connection is this one.
fn greeting(version: &str, connection: u64) -> Vec<u8> {
    let capabilities = 0x01FF_F7FF_u32 & !(1 << 11);
    let [a, b, c, d] = capabilities.to_le_bytes();
    let mut payload = [b"\x0a", version.as_bytes(), b"\x00"].concat();
    payload.extend_from_slice(&u32::try_from(connection).unwrap().to_le_bytes());
    let (first, rest) = NONCE.split_at(8);
    payload.extend_from_slice(first);
    payload.extend_from_slice(&[0, a, b, 45, 2, 0, c, d, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend_from_slice(rest);
    payload.extend_from_slice(b"\0mysql_native_password\0");
    payload
}

fn answer(rows: &[Vec<Option<String>>]) -> Vec<Vec<u8>> {
    let columns = rows.first().map_or(1, Vec::len);
    let mut packets = vec![vec![u8::try_from(columns).unwrap()]];
    packets.extend((0..columns).map(|_| definition()));
    packets.push(EOF.to_vec());
    for row in rows {
        let mut payload = Vec::new();
        for cell in row {
            match cell {
                Some(text) => write_lenenc_bytes(&mut payload, text.as_bytes()),
                None => payload.push(0xFB),
            }
        }
        packets.push(payload);
    }
    packets.push(EOF.to_vec());
    packets
}

/// A column of texts.
fn definition() -> Vec<u8> {
    let mut payload = Vec::new();
    for name in ["def", "", "", "", "column", ""] {
        write_lenenc_bytes(&mut payload, name.as_bytes());
    }
    payload.extend_from_slice(&[12, 45, 0, 255, 0, 0, 0, 0xFD, 0, 0, 0, 0, 0]);
    payload
}

async fn send(end: &mut DuplexStream, seq: u8, packets: &[Vec<u8>]) -> std::io::Result<()> {
    let (mut out, mut seq) = (Vec::new(), seq);
    for packet in packets {
        seq = write_packet(&mut out, seq, packet);
    }
    end.write_all(&out).await
}

async fn receive(end: &mut DuplexStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    end.read_exact(&mut header).await?;
    let [a, b, c, seq] = header;
    let len = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    let mut payload = vec![0; len];
    end.read_exact(&mut payload).await?;
    Ok((seq, payload))
}

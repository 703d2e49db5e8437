//! Wire scripts: `tests/wire/*.wire`, said to each primary directly and through the proxy. Every
//! packet that comes back, headers included, must be the same.

use super::proxy::Setup;
use super::{Lab, Primary, Proxy};
use mysql_common::scramble::{scramble_native, scramble_sha256};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use understudy::config::{FedBy, Server, TlsMode};
use understudy::connect::{self, Connection, Login, Tcp, TlsContext};
use understudy::wire::answer::{Answer, AnswerTracker, Outcome, Progress};
use understudy::wire::capability::Capabilities;
use understudy::wire::command::{Command, Expect};
use understudy::wire::login::AuthSwitch;
use understudy::wire::packet::{write_lenenc_bytes, write_packet};

pub(super) const BASE: Capabilities = Capabilities(
    Capabilities::LONG_FLAG.0
        | Capabilities::TRANSACTIONS.0
        | Capabilities::MULTI_RESULTS.0
        | Capabilities::PS_MULTI_RESULTS.0,
);

/// One side of a script's run.
struct Session {
    connection: Connection,
    tracker: AnswerTracker,
    statements: Vec<(String, u32)>,
    /// Read, but not yet part of an answer (a pipelined one follows).
    ahead: Vec<u8>,
    printed: String,
}

fn capability(name: &str) -> Capabilities {
    match name {
        "MULTI_STATEMENTS" => Capabilities::MULTI_STATEMENTS,
        "DEPRECATE_EOF" => Capabilities::DEPRECATE_EOF,
        "LOCAL_FILES" => Capabilities::LOCAL_FILES,
        "FOUND_ROWS" => Capabilities::FOUND_ROWS,
        "SESSION_TRACK" => Capabilities::SESSION_TRACK,
        "QUERY_ATTRIBUTES" => Capabilities::QUERY_ATTRIBUTES,
        other => panic!("no capability is called {other}"),
    }
}

fn wanted(script: &str) -> Capabilities {
    let line = script
        .lines()
        .find_map(|line| line.strip_prefix("capabilities "))
        .unwrap_or("");
    line.split_whitespace()
        .map(|word| capability(word.trim_start_matches('+')))
        .fold(BASE, Capabilities::with)
}

/// Logs in at `address` as the application; the bytes that follow are the caller's.
pub(super) async fn open(
    address: &str,
    capabilities: Capabilities,
) -> Result<Connection, connect::ConnectError> {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    let server = Server {
        name: "primary".into(),
        host: host.into(),
        port: port.parse().expect("a port"),
        tls: TlsMode::Off,
        tls_ca: None,
        account: None,
        users: Default::default(),
        databases: Default::default(),
        fed_by: FedBy::Mirror,
        init: Vec::new(),
        connect_timeout: Duration::from_secs(60),
        source_addresses: Vec::new(),
        proxy_protocol: understudy::config::ProxyProtocol::Off,
    };
    let login = Login {
        user: "app".into(),
        password: "app".into(),
        database: Some("scratch".into()),
        capabilities,
        collation: 45,
        client: None,
    };
    connect::open(&Tcp::default(), &server, &TlsContext::off(), &login).await
}

impl Session {
    /// `None` where the server has not all of the capabilities that the script wants.
    async fn open(address: &str, script: &str) -> Option<Self> {
        let connection = match open(address, wanted(script)).await {
            Ok(connection) => connection,
            Err(connect::ConnectError::Capability(_)) => return None,
            Err(fault) => panic!("{address}: {fault}"),
        };
        let tracker = AnswerTracker::new(connection.capabilities, 1 << 30);
        Some(Self {
            connection,
            tracker,
            statements: Vec::new(),
            ahead: Vec::new(),
            printed: String::new(),
        })
    }

    async fn send(&mut self, payload: &[u8]) {
        let mut bytes = Vec::new();
        write_packet(&mut bytes, 0, payload);
        self.connection
            .stream
            .write_all(&bytes)
            .await
            .expect("the server takes the command");
    }

    /// Reads one answer, prints it, and returns it. `file` is what a LOCAL INFILE gets.
    async fn answer(&mut self, expect: Expect, file: &[u8]) -> Answer {
        self.tracker.begin(expect);
        let mut answer = Answer::default();
        loop {
            if self.ahead.is_empty() {
                self.read().await;
            }
            let piece = std::mem::take(&mut self.ahead);
            match self.tracker.feed(&piece, &mut answer) {
                Progress::More => {}
                Progress::Ended { used } => {
                    self.ahead = piece[used..].to_vec();
                    break;
                }
                Progress::ClientTurn { used } => {
                    self.ahead = piece[used..].to_vec();
                    self.stream_file(file).await;
                }
                Progress::Unsure => panic!("an answer that cannot be placed:\n{}", self.printed),
            }
        }
        self.print(&answer);
        answer
    }

    async fn read(&mut self) {
        let mut piece = vec![0; 64 << 10];
        let read = tokio::time::timeout(
            Duration::from_secs(60),
            self.connection.stream.read(&mut piece),
        );
        let count = read
            .await
            .expect("an answer within a minute")
            .expect("the server answers");
        assert_ne!(
            count, 0,
            "the server closed in mid-answer; so far:\n{}",
            self.printed
        );
        piece.truncate(count);
        self.ahead = piece;
    }

    async fn stream_file(&mut self, file: &[u8]) {
        let mut bytes = Vec::new();
        let seq = write_packet(&mut bytes, 2, file);
        write_packet(&mut bytes, seq, &[]);
        self.connection
            .stream
            .write_all(&bytes)
            .await
            .expect("the server takes the file");
    }

    /// A packet a line: sequence number, length, text with the unprintable escaped; long ones by digest.
    fn print(&mut self, answer: &Answer) {
        assert!(
            answer.sample_whole,
            "the sample holds a script's answers whole"
        );
        let mut sample = answer.sample.clone();
        if let Some(Outcome::Prepared { .. }) = answer.results.first() {
            // MariaDB goes on counting where the thread's last session ended: by our own count.
            let number = self.statements.len() as u32 + 1;
            sample[5..9].copy_from_slice(&number.to_le_bytes());
        }
        let mut rest = sample.as_slice();
        while let Some((header, tail)) = rest.split_at_checked(4) {
            let len = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
            let (payload, tail) = tail.split_at_checked(len).expect("a whole packet");
            let shown = if len > 400 {
                format!("{:032x}", xxhash_rust::xxh3::xxh3_128(payload))
            } else {
                payload.escape_ascii().to_string()
            };
            let shown = match shown.split_once(" handler (") {
                // Errors name the server's own number of a statement.
                Some((before, after)) => {
                    let (_, after) = after.split_once(')').expect("a bracket");
                    format!("{before} handler (?){after}")
                }
                None => format!("{len} {shown}"),
            };
            writeln!(self.printed, "  {} {shown}", header[3]).expect("a string takes it");
            rest = tail;
        }
    }

    fn id(&self, name: &str) -> u32 {
        self.statements
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map_or(999, |(_, id)| *id)
    }

    async fn say(&mut self, kind: Command, rest: &[u8]) -> Answer {
        self.send(&[&[kind.0], rest].concat()).await;
        self.answer(kind.expect(), b"").await
    }

    async fn query(&mut self, text: &str) -> Answer {
        let attributes = self.connection.capabilities;
        let none: &[u8] = if attributes.has(Capabilities::QUERY_ATTRIBUTES) {
            &[0, 1]
        } else {
            &[]
        };
        self.say(Command::QUERY, &[none, text.as_bytes()].concat())
            .await
    }

    /// A query with one attribute.
    async fn attribute(&mut self, name: &str, value: &str, text: &str) {
        // One parameter in one set, not null, its type sent: a string.
        let mut payload = vec![1, 1, 0, 1, 253, 0];
        write_lenenc_bytes(&mut payload, name.as_bytes());
        write_lenenc_bytes(&mut payload, value.as_bytes());
        payload.extend_from_slice(text.as_bytes());
        self.say(Command::QUERY, &payload).await;
    }

    /// One packet, whatever it is.
    async fn packet(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some((header, rest)) = self.ahead.split_at_checked(4) {
                let len = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
                if let Some((payload, rest)) = rest.split_at_checked(len) {
                    let packet = (header[3], payload.to_vec());
                    self.ahead = rest.to_vec();
                    return packet;
                }
            }
            let before = std::mem::take(&mut self.ahead);
            self.read().await;
            self.ahead = [before, std::mem::take(&mut self.ahead)].concat();
        }
    }

    /// A login in the middle; what is random in it is not printed.
    async fn change_user(&mut self, user: &str, database: &str) {
        let mut payload = vec![Command::CHANGE_USER.0];
        payload.extend_from_slice(format!("{user}\0\0{database}\0").as_bytes());
        payload.extend_from_slice(&45u16.to_le_bytes());
        payload.extend_from_slice(b"mysql_native_password\0");
        self.send(&payload).await;
        loop {
            let (seq, packet) = self.packet().await;
            if packet[0] == 0xFE {
                let switch = AuthSwitch::parse(&packet).expect("an auth switch");
                let plugin = String::from_utf8_lossy(switch.plugin).into_owned();
                writeln!(self.printed, "  {seq} {plugin}").expect("a string takes it");
                let proof = if plugin == "caching_sha2_password" {
                    scramble_sha256(switch.data, b"app").map(|proof| proof.to_vec())
                } else {
                    scramble_native(switch.data, b"app").map(|proof| proof.to_vec())
                };
                let mut bytes = Vec::new();
                write_packet(&mut bytes, seq + 1, &proof.expect("a nonce and a password"));
                let sent = self.connection.stream.write_all(&bytes).await;
                sent.expect("the server takes the proof");
                continue;
            }
            let shown = packet.escape_ascii();
            writeln!(self.printed, "  {seq} {shown}").expect("a string takes it");
            if matches!(packet[0], 0 | 0xFF) {
                return;
            }
        }
    }

    async fn prepare(&mut self, name: &str, text: &str) {
        let answer = self.say(Command::STMT_PREPARE, text.as_bytes()).await;
        if let Some(Outcome::Prepared { statement_id, .. }) = answer.results.first() {
            self.statements.push((name.to_owned(), *statement_id));
        }
    }

    /// `int:N`, `text:S`, `null`, `long` (sent before by `long`).
    async fn execute(&mut self, words: &[&str], cursor: u8) {
        let (name, values) = words.split_first().expect("a statement's name");
        let mut payload = self.id(name).to_le_bytes().to_vec();
        payload.push(cursor);
        payload.extend_from_slice(&1u32.to_le_bytes());
        let mut nulls = vec![0u8; values.len().div_ceil(8)];
        let (mut types, mut data) = (Vec::new(), Vec::new());
        for (at, value) in values.iter().enumerate() {
            match value.split_once(':') {
                Some(("int", n)) => {
                    types.extend_from_slice(&[3, 0]);
                    data.extend_from_slice(&n.parse::<i32>().expect("a number").to_le_bytes());
                }
                Some(("text", text)) => {
                    types.extend_from_slice(&[253, 0]);
                    write_lenenc_bytes(&mut data, text.as_bytes());
                }
                _ if *value == "long" => types.extend_from_slice(&[252, 0]),
                _ => {
                    nulls[at / 8] |= 1 << (at % 8);
                    types.extend_from_slice(&[6, 0]);
                }
            }
        }
        if !values.is_empty() {
            payload.extend_from_slice(&nulls);
            payload.push(1);
            payload.extend_from_slice(&types);
            payload.extend_from_slice(&data);
        }
        self.say(Command::STMT_EXECUTE, &payload).await;
    }

    async fn pipeline(&mut self, texts: &[&str]) {
        let mut bytes = Vec::new();
        for text in texts {
            write_packet(&mut bytes, 0, &[b"\x03", text.as_bytes()].concat());
        }
        self.connection
            .stream
            .write_all(&bytes)
            .await
            .expect("the server takes the commands");
        for _ in texts {
            self.answer(Command::QUERY.expect(), b"").await;
        }
    }

    async fn line(&mut self, line: &str) {
        writeln!(self.printed, "> {line}").expect("a string takes it");
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match verb {
            "capabilities" => {}
            "query" => drop(self.query(rest).await),
            "ping" => drop(self.say(Command::PING, &[]).await),
            "debug" => drop(self.say(Command::DEBUG, &[]).await),
            "init_db" => drop(self.say(Command::INIT_DB, rest.as_bytes()).await),
            "reset_connection" => drop(self.say(Command::RESET_CONNECTION, &[]).await),
            "field_list" => drop(
                self.say(Command::FIELD_LIST, &[rest.as_bytes(), b"\0"].concat())
                    .await,
            ),
            // A command that the proxy does not know: whatever comes back is one packet.
            "hex" => {
                let byte = u8::from_str_radix(rest, 16).expect("a byte in hexadecimal");
                self.send(&[byte]).await;
                self.answer(Expect::One, b"").await;
            }
            "option" => {
                let option: u16 = rest.parse().expect("a number");
                self.say(Command::SET_OPTION, &option.to_le_bytes()).await;
            }
            "prepare" => {
                let (name, text) = rest.split_once(' ').expect("a name and a text");
                self.prepare(name, text).await;
            }
            "execute" => self.execute(&words, 0).await,
            "cursor" => self.execute(&words, 1).await,
            "fetch" => {
                let rows: u32 = words[1].parse().expect("a number");
                let payload = [self.id(words[0]).to_le_bytes(), rows.to_le_bytes()].concat();
                self.say(Command::STMT_FETCH, &payload).await;
            }
            "reset" => drop(
                self.say(Command::STMT_RESET, &self.id(rest).to_le_bytes())
                    .await,
            ),
            "close" => {
                self.send(&[&[Command::STMT_CLOSE.0][..], &self.id(rest).to_le_bytes()].concat())
                    .await
            }
            "long" => {
                let mut parts = rest.splitn(3, ' ');
                let id = self.id(parts.next().expect("a name")).to_le_bytes();
                let parameter: u16 = parts
                    .next()
                    .and_then(|n| n.parse().ok())
                    .expect("a parameter's number");
                let text = parts.next().expect("a text");
                let head = [Command::STMT_SEND_LONG_DATA.0];
                self.send(&[&head, &id[..], &parameter.to_le_bytes(), text.as_bytes()].concat())
                    .await;
            }
            "attribute" => {
                let mut parts = rest.splitn(3, ' ');
                let mut next = || parts.next().expect("a name, a value, a text");
                self.attribute(next(), next(), next()).await;
            }
            "change_user" => self.change_user(words[0], words[1]).await,
            "pipeline" => self.pipeline(&rest.split(" | ").collect::<Vec<_>>()).await,
            "large" => {
                let (text, len) = rest.split_once(" | ").expect("a text and a length");
                let len: usize = len.parse().expect("a length");
                drop(
                    self.query(&text.replace('@', &"z".repeat(len - text.len())))
                        .await,
                );
            }
            "infile" => {
                let (text, file) = rest.split_once(" | ").expect("a text and a file");
                self.send(&[b"\x03", text.as_bytes()].concat()).await;
                self.answer(
                    Command::QUERY.expect(),
                    file.replace("\\n", "\n").as_bytes(),
                )
                .await;
            }
            other => panic!("no verb is called {other}"),
        }
    }
}

async fn run(address: &str, script: &str) -> Option<String> {
    let mut session = Session::open(address, script).await?;
    for line in script
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        session.line(line).await;
    }
    Some(session.printed)
}

async fn same_both_ways(primary: Primary, name: &str, lab: &Lab, proxy: &Proxy) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/wire")
        .join(format!("{name}.wire"));
    let script = std::fs::read_to_string(&path).expect("the script is there");
    let Some(direct) = run(&lab.legacy(), &script).await else {
        return false;
    };
    let through = run(&proxy.address, &script)
        .await
        .unwrap_or_else(|| panic!("{name}: the proxy offers less"));
    if let Some((ours, theirs)) = first_difference(&through, &direct) {
        panic!("{name} on {primary:?}: through the proxy\n{ours}\ndirectly\n{theirs}");
    }
    assert!(
        direct.lines().count() > script.lines().count() / 2,
        "{name} printed something"
    );
    true
}

fn first_difference(ours: &str, theirs: &str) -> Option<(String, String)> {
    let (mut ours, mut theirs) = (ours.lines(), theirs.lines());
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => {
                return Some((
                    a.unwrap_or("(end)").to_owned(),
                    b.unwrap_or("(end)").to_owned(),
                ));
            }
        }
    }
}

async fn all_scripts(primary: Primary) {
    let lab = Lab::of(primary);
    // Dark reads go on beside: they must not be seen. Writes stay off, as three primaries share one shadow.
    let proxy = Proxy::start_with(
        &lab,
        &Setup {
            primary: Some(lab.legacy()),
            mirror: "writes = \"off\"",
            ..Setup::default()
        },
    );
    let mut ran = 0;
    for name in [
        "text",
        "transactions",
        "multi",
        "prepared",
        "session",
        "eof",
        "large",
        "pipelined",
        "infile",
        "routines",
        "users",
    ] {
        ran += usize::from(same_both_ways(primary, name, &lab, &proxy).await);
    }
    // What vtgate lacks is offered where there is no shadow to share it.
    let alone = Proxy::start_with(
        &lab,
        &Setup {
            mirror: "reads = false\nwrites = \"off\"",
            shadow: Some(format!("127.0.0.1:{}", super::proxy::free_port())),
            ..Setup::default()
        },
    );
    for name in ["tracking", "attributes"] {
        ran += usize::from(same_both_ways(primary, name, &lab, &alone).await);
    }
    // MySQL 5.6 has neither DEPRECATE_EOF nor what came later, MariaDB no query attributes.
    let all = match primary {
        Primary::MySql56 => 10,
        Primary::MariaDb => 12,
        Primary::MySql97 => 13,
    };
    assert_eq!(ran, all, "scripts ran on {primary:?}");
}

#[tokio::test]
async fn every_wire_script_says_the_same_through_the_proxy_to_mysql_5_6() {
    all_scripts(Primary::MySql56).await;
}

#[tokio::test]
async fn every_wire_script_says_the_same_through_the_proxy_to_mysql_9_7() {
    all_scripts(Primary::MySql97).await;
}

#[tokio::test]
async fn every_wire_script_says_the_same_through_the_proxy_to_mariadb() {
    all_scripts(Primary::MariaDb).await;
}

use super::*;
use crate::config::{FedBy, TlsMode};
use crate::wire::packet::write_packet;
use crate::wire::reply;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const CAPABILITIES: Capabilities = Capabilities(0x01FF_F7FF & !(1 << 11));
const NONCE: &[u8; 20] = b"abcdefghijklmnopqrst";

pub(super) fn server() -> Server {
    Server {
        name: "vitess".into(),
        host: "127.0.0.1".into(),
        port: 1,
        tls: TlsMode::Off,
        tls_ca: None,
        account: None,
        users: Default::default(),
        databases: Default::default(),
        fed_by: FedBy::Mirror,
        init: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        source_addresses: Vec::new(),
        proxy_protocol: Default::default(),
    }
}

fn login() -> Login {
    Login {
        user: "app".into(),
        password: "secret".into(),
        database: Some("shop".into()),
        capabilities: Capabilities::DEPRECATE_EOF.with(Capabilities::MULTI_STATEMENTS),
        collation: 45,
        client: None,
    }
}

/// Hands out one end of a pair.
struct Pair(Mutex<Option<DuplexStream>>);

impl Dial for Pair {
    fn dial<'a>(&'a self, _: &'a Server) -> Dialing<'a> {
        Box::pin(async {
            let end = self.0.lock().unwrap().take();
            end.map(Stream::Memory)
                .ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
        })
    }
}

fn greeting(capabilities: Capabilities, plugin: &str) -> Vec<u8> {
    let [a, b, c, d] = capabilities.0.to_le_bytes();
    let mut payload = b"\x0a8.4.6\x00\x07\x00\x00\x00".to_vec();
    payload.extend_from_slice(&NONCE[..8]);
    payload.extend_from_slice(&[0, a, b, 45, 2, 0, c, d, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend_from_slice(&NONCE[8..]);
    payload.push(0);
    payload.extend_from_slice(plugin.as_bytes());
    payload.push(0);
    payload
}

/// What the fake server says after each packet of the client's, from the greeting on.
async fn speak(mut end: DuplexStream, says: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let (mut heard, mut seq) = (Vec::new(), 0);
    for say in says {
        let mut out = Vec::new();
        write_packet(&mut out, seq, &say);
        // One byte at a time: nothing may depend on how the bytes arrive.
        for byte in out {
            if end.write_all(&[byte]).await.is_err() {
                return heard;
            }
        }
        let fast = say == [1, 3];
        if fast || matches!(say.first(), Some(0 | 0xFF)) {
            seq = seq.wrapping_add(1);
            continue;
        }
        let mut header = [0; 4];
        if end.read_exact(&mut header).await.is_err() {
            return heard;
        }
        let mut payload = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8];
        end.read_exact(&mut payload).await.unwrap();
        seq = header[3].wrapping_add(1);
        heard.push(payload);
    }
    heard
}

async fn open_against(says: Vec<Vec<u8>>) -> (Result<Connection, ConnectError>, Vec<Vec<u8>>) {
    let (ours, theirs) = tokio::io::duplex(4096);
    let dial = Pair(Mutex::new(Some(ours)));
    let (server, login, tls) = (server(), login(), TlsContext::off());
    let opening = async {
        let result = open(&dial, &server, &tls, &login).await;
        if let Ok(connection) = &result {
            assert_eq!(connection.thread_id, 7);
        }
        result
    };
    tokio::join!(opening, speak(theirs, says))
}

fn ok() -> Vec<u8> {
    vec![0, 0, 0, 3, 0, 0, 0]
}

#[tokio::test(start_paused = true)]
async fn a_login_asks_for_its_dialect_and_no_more() {
    let says = vec![greeting(CAPABILITIES, "mysql_native_password"), ok()];
    let (result, heard) = open_against(says).await;
    let connection = result.unwrap();
    let sent = crate::wire::login::Login::parse(&heard[0]).unwrap();
    let expected = login()
        .capabilities
        .with(Capabilities::PROTOCOL_41)
        .with(Capabilities::SECURE_CONNECTION)
        .with(Capabilities::PLUGIN_AUTH)
        .with(Capabilities::CONNECT_WITH_DB);
    assert_eq!(
        (sent.capabilities, connection.capabilities),
        (expected, expected)
    );
    assert_eq!(
        (sent.user.as_slice(), sent.database.as_deref()),
        (&b"app"[..], Some(&b"shop"[..]))
    );
    let proof = mysql_common::scramble::scramble_native(NONCE, b"secret").unwrap();
    assert_eq!(sent.auth_response, proof);
    assert!(connection.status.in_transaction());
}

#[tokio::test(start_paused = true)]
async fn a_switch_of_plugins_and_the_fast_path_lead_to_ok() {
    let switch = b"\xFEcaching_sha2_password\x00ABCDEFGHIJKLMNOPQRST\x00".to_vec();
    let says = vec![
        greeting(CAPABILITIES, "client_ed25519"),
        switch,
        vec![1, 3],
        ok(),
    ];
    let (result, heard) = open_against(says).await;
    assert!(result.is_ok(), "{result:?}");
    let proof = mysql_common::scramble::scramble_sha256(b"ABCDEFGHIJKLMNOPQRST", b"secret");
    assert_eq!(heard[1], proof.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_clear_password_never_goes_over_a_plain_leg() {
    let says = vec![
        greeting(CAPABILITIES, "caching_sha2_password"),
        vec![1, 4],
        b"\x01no key".to_vec(),
    ];
    let (result, heard) = open_against(says).await;
    assert!(
        matches!(result, Err(ConnectError::Protocol(_))),
        "{result:?}"
    );
    assert_eq!(heard[1], [2], "asks for the key");
    assert!(
        heard
            .iter()
            .all(|sent| !sent.windows(6).any(|bytes| bytes == b"secret"))
    );
    let switch = b"\xFEmysql_clear_password\x00".to_vec();
    let (result, _) = open_against(vec![greeting(CAPABILITIES, ""), switch]).await;
    assert!(matches!(result, Err(ConnectError::Plugin(_))), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn each_failure_has_a_name_of_its_own() {
    let lacking = CAPABILITIES.without(Capabilities::DEPRECATE_EOF);
    let mut refusal = Vec::new();
    reply::write_err(&mut refusal, 0, 1045, *b"28000", "no");
    let cases: Vec<(Vec<Vec<u8>>, &str)> = vec![
        (vec![greeting(lacking, "")], "DEPRECATE_EOF"),
        (
            vec![b"\xff\x10\x04Too many connections".to_vec()],
            "Too many connections (1040)",
        ),
        (
            vec![greeting(CAPABILITIES, ""), refusal.split_off(4)],
            "no (1045)",
        ),
        (vec![vec![9, 9]], "4.1"),
        (vec![vec![10, 0, 1]], "cut off"),
        (
            vec![greeting(CAPABILITIES, ""), vec![0x42]],
            "a packet that no login has",
        ),
        (vec![greeting(CAPABILITIES, ""), vec![0, 1]], "cut off"),
        (Vec::new(), "broke the connection off"),
    ];
    for (says, expected) in cases {
        let (result, _) = open_against(says).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}: {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_given_up() {
    let (ours, _theirs) = tokio::io::duplex(64);
    let dial = Pair(Mutex::new(Some(ours)));
    let result = open(&dial, &server(), &TlsContext::off(), &login()).await;
    assert!(matches!(result, Err(ConnectError::Timeout)), "{result:?}");
    let result = open(&dial, &server(), &TlsContext::off(), &login()).await;
    assert!(
        matches!(result, Err(ConnectError::Unreachable(_))),
        "{result:?}"
    );
}

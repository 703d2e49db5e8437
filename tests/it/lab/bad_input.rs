//! Clients and servers that misbehave: their connection ends, everything else goes on, nothing
//! leaks.

use super::{Lab, Proxy, client, proxy::Setup};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use understudy::connect::Stream;

/// Reads one packet's payload.
fn packet(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let mut payload = vec![0; u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}

fn raw(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(&proxy.address).expect("the proxy listens");
    let bound = Some(Duration::from_secs(30));
    stream.set_read_timeout(bound).expect("a bound");
    stream
}

/// Everything up to the end of the connection, which must come.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    let is_reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
    assert!(
        end.as_ref().is_ok() || end.as_ref().is_err_and(is_reset),
        "{end:?}"
    );
    rest
}

async fn serves(proxy: &Proxy) {
    let mut app = Conn::new(client(&proxy.address, "app"))
        .await
        .expect("a login");
    let one: Option<i32> = app.query_first("SELECT 1").await.expect("an answer");
    assert_eq!(one, Some(1));
    app.disconnect().await.expect("the end");
}

#[tokio::test]
async fn bad_clients_end_alone_and_nothing_leaks() {
    let lab = Lab::get();
    let setup = Setup {
        listen: "login_timeout_s = 2",
        ..Setup::default()
    };
    let mut proxy = Proxy::start_with(&lab, &setup);
    for _ in 0..30 {
        misbehave(&proxy).await;
    }
    let (descriptors, resident) = calm(&proxy);
    for _ in 0..150 {
        misbehave(&proxy).await;
    }
    let (descriptors_after, resident_after) = calm(&proxy);
    println!(
        "descriptors {descriptors} → {descriptors_after}, resident {resident} → {resident_after} KiB"
    );
    assert!(
        descriptors_after <= descriptors + 10,
        "{descriptors} → {descriptors_after}"
    );
    assert!(
        resident_after <= resident + (16 << 10),
        "{resident} → {resident_after} KiB"
    );
    assert!(proxy.alive());
    serves(&proxy).await;
}

/// Waits until every session has ended here and on the shadow; then the descriptors and the memory.
fn calm(proxy: &Proxy) -> (usize, u64) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let sessions = proxy.get("/api/v1/status")["sessions"].clone();
        if sessions["open"] == 0 && proxy.metric("understudy_mirror_connections") == 0 {
            break;
        }
        assert!(
            Instant::now() < end,
            "sessions stay open: {sessions}\n{}",
            proxy.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    proxy.settled();
    (proxy.descriptors(), proxy.resident_kib())
}

/// One of each: nothing said, nonsense, an absurd length, leaving before an answer, in the middle
/// of one, and in the middle of a command.
async fn misbehave(proxy: &Proxy) {
    drop(raw(proxy));
    let mut greeted = raw(proxy);
    packet(&mut greeted).expect("a greeting");
    drop(greeted);
    let mut nonsense = raw(proxy);
    packet(&mut nonsense).expect("a greeting");
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    // The proxy may have closed already.
    let _half_closed = nonsense.shutdown(std::net::Shutdown::Write);
    rest(&mut nonsense);
    let mut absurd = raw(proxy);
    packet(&mut absurd).expect("a greeting");
    absurd
        .write_all(&[0xFF, 0xFF, 0xFF, 1, 0, 0])
        .expect("sent");
    rest(&mut absurd);
    for text in ["SELECT REPEAT('x', 1000000)", "SELECT SLEEP(1)"] {
        let mut answering = logged_in(proxy).await;
        query(&mut answering, text.len(), text).await;
        let mut some = [0; 5];
        if !text.contains("SLEEP") {
            answering.read_exact(&mut some).await.expect("it begins");
        }
    }
    let mut asking = logged_in(proxy).await;
    query(&mut asking, 1000, "SELECT 'the rest never").await;
}

/// A client past its login, with a transaction open, as bare bytes: dropping it closes the socket
/// without a word.
async fn logged_in(proxy: &Proxy) -> Stream {
    let login = super::wire::open(&proxy.address, super::wire::BASE).await;
    let mut stream = login.expect("a login").stream;
    query(&mut stream, 5, "BEGIN").await;
    let mut ok = [0; 11];
    stream.read_exact(&mut ok).await.expect("its OK");
    stream
}

/// Sends the beginning of a query that claims to have `length` bytes.
async fn query(stream: &mut Stream, length: usize, text: &str) {
    let mut packet = ((length + 1) as u32).to_le_bytes().to_vec();
    packet.push(3);
    packet.extend_from_slice(text.as_bytes());
    stream.write_all(&packet).await.expect("sent");
    stream.flush().await.expect("sent");
}

#[tokio::test]
async fn a_client_that_never_logs_in_is_let_go() {
    let lab = Lab::get();
    let setup = Setup {
        listen: "login_timeout_s = 1",
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let mut silent = raw(&proxy);
    packet(&mut silent).expect("a greeting");
    rest(&mut silent);
    serves(&proxy).await;
}

#[tokio::test]
async fn one_client_too_many_gets_mysqls_error() {
    let lab = Lab::get();
    let setup = Setup {
        listen: "max_connections = 1",
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let first = Conn::new(client(&proxy.address, "app"))
        .await
        .expect("the first");
    let second = Conn::new(client(&proxy.address, "app")).await;
    let error = second.expect_err("one too many").to_string();
    assert!(error.contains("1040"), "{error}");
    first.disconnect().await.expect("the end");
}

#[tokio::test]
async fn a_server_that_vanishes_in_its_answer_ends_that_session_alone() {
    let lab = Lab::get();
    let proxy = Proxy::start(&lab);
    let mut app = Conn::new(client(&proxy.address, "app"))
        .await
        .expect("a login");
    let mut killer = Conn::new(client(&lab.legacy(), "app"))
        .await
        .expect("a login");
    let thread: Option<u64> = app
        .query_first("SELECT CONNECTION_ID()")
        .await
        .expect("an id");
    let thread = thread.expect("an id");
    // More than any buffer on the way holds, of which a little is read.
    let long = "SELECT REPEAT('x', 16000000) UNION ALL SELECT REPEAT('y', 16000000)";
    let mut rows = app.query_iter(long).await.expect("the answer begins");
    killer
        .query_drop(format!("KILL {thread}"))
        .await
        .expect("KILL");
    let mut whole = 0;
    let broken = loop {
        match rows.next().await {
            Ok(Some(_)) => whole += 1,
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(
        broken && whole < 2,
        "the server is gone, after {whole} rows"
    );
    drop(rows);
    serves(&proxy).await;
}

#[tokio::test]
async fn a_primary_that_is_down_is_told_at_once_and_found_again() {
    let lab = Lab::get();
    let port = super::proxy::free_port();
    let setup = Setup {
        primary: Some(format!("127.0.0.1:{port}")),
        ..Setup::default()
    };
    // Not ready: the primary has never answered. So the readiness is not waited for.
    let proxy = Proxy::start_unready(&lab, &setup);
    let began = Instant::now();
    let refused = Conn::new(client(&proxy.address, "app")).await;
    let error = refused.expect_err("no primary").to_string();
    assert!(
        error.contains("2003") && began.elapsed() < Duration::from_secs(5),
        "{error}"
    );
    // The primary comes: a pipe to the real one, on that port.
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    let legacy = lab.legacy();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = TcpStream::connect(&legacy).expect("the legacy listens");
            for (mut from, mut to) in [
                (
                    near.try_clone().expect("a clone"),
                    far.try_clone().expect("a clone"),
                ),
                (far, near),
            ] {
                std::thread::spawn(move || {
                    let _end = std::io::copy(&mut from, &mut to);
                    let _closed = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    serves(&proxy).await;
}

#[tokio::test]
async fn sigterm_lets_a_transaction_end() {
    let lab = Lab::get();
    let mut proxy = Proxy::start(&lab);
    let mut busy = Conn::new(client(&proxy.address, "app"))
        .await
        .expect("a login");
    let _idle = Conn::new(client(&proxy.address, "app"))
        .await
        .expect("a login");
    busy.query_drop("BEGIN").await.expect("BEGIN");
    proxy.signal("TERM");
    let end = Instant::now() + Duration::from_secs(30);
    while proxy.get("/api/v1/status")["sessions"]["open"] != 1 {
        assert!(Instant::now() < end, "the idle session closes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(proxy.alive(), "a transaction is open");
    let ready = ureq::get(format!("{}/readyz", proxy.admin)).call();
    assert!(ready.is_err(), "who drains is not ready");
    busy.query_drop("SELECT 1").await.expect("it goes on");
    busy.query_drop("COMMIT").await.expect("it ends");
    assert_eq!(proxy.exit_code(Duration::from_secs(60)), Some(0));
}

/// Unsupported by vtgate: a divergence at every time.
const DIVERGES: &str = "SELECT status, COUNT(*) FROM orders GROUP BY status WITH ROLLUP";

#[tokio::test]
async fn a_ledger_that_cannot_be_written_costs_findings_and_says_so() {
    let lab = Lab::get();
    let setup = Setup {
        ledger: "queue = 64",
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let blocker = rusqlite::Connection::open(proxy.file("ledger.db")).expect("the ledger");
    blocker.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    let mut app = Conn::new(client(&proxy.address, "app"))
        .await
        .expect("a login");
    let ledger = || proxy.get("/api/v1/status")["ledger"].clone();
    let mut end = Instant::now() + Duration::from_secs(120);
    while ledger()["ok"] != false || ledger()["lost"].as_u64() == Some(0) {
        app.query_drop(DIVERGES).await.expect("served");
        assert!(Instant::now() < end, "{}", ledger());
    }
    assert!(ledger()["last_error"].is_string(), "{}", ledger());
    blocker.execute_batch("ROLLBACK").expect("free again");
    end = Instant::now() + Duration::from_secs(120);
    while ledger()["ok"] != true {
        app.query_drop(DIVERGES).await.expect("served");
        assert!(Instant::now() < end, "it recovers: {}", ledger());
    }
    let coverage = proxy.settled();
    assert!(coverage["diverged"].as_u64() > Some(64), "{coverage}");
}

#[test]
fn a_wrong_config_names_the_key_and_the_remedy_and_exits_with_2() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wrong.toml");
    std::fs::write(&file, "[listen]\nadress = \"127.0.0.1:1\"\n").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["serve", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("listen.adress") && said.contains("did you mean address?"),
        "{said}"
    );
}

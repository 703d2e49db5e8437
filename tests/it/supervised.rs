//! What a supervisor hears of a real process, over a socket as systemd has one: that it is ready once the primary
//! has answered and not before, that it lives, that it drains. The primary is a thread that says a greeting. And that
//! none of it waits for who reads the log.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::io::{PipeReader, PipeWriter, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server that greets once it may, and hangs until then.
struct Primary {
    address: String,
    may_greet: Arc<AtomicBool>,
    visits: Arc<AtomicUsize>,
}

impl Primary {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (may_greet, visits) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (may, seen) = (Arc::clone(&may_greet), Arc::clone(&visits));
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().flatten() {
                seen.fetch_add(1, Ordering::SeqCst);
                if may.load(Ordering::SeqCst) {
                    let _it_may_have_left = stream.write_all(&greeting());
                }
                kept.push(stream);
            }
        });
        Self {
            address,
            may_greet,
            visits,
        }
    }

    fn wait_for_visits(&self, n: usize) {
        let end = Instant::now() + PATIENCE;
        while self.visits.load(Ordering::SeqCst) < n {
            assert!(Instant::now() < end, "nobody looks at the primary");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// HandshakeV10 of a MySQL 8 with mysql_native_password.
fn greeting() -> Vec<u8> {
    let mut payload = b"\x0a8.0.36\0\x01\0\0\0abcdefgh\0".to_vec();
    // PROTOCOL_41 and SECURE_CONNECTION; utf8mb4; autocommit; PLUGIN_AUTH.
    payload.extend(b"\x00\x82\x2d\x02\x00\x08\x00\x15");
    payload.extend([0; 10]);
    payload.extend(b"ijklmnopqrst\0mysql_native_password\0");
    let length = u8::try_from(payload.len()).expect("a short packet");
    let mut packet = vec![length, 0, 0, 0];
    packet.extend(payload);
    packet
}

/// Ended when dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Serving {
    fn start(primary: &str, dir: &std::path::Path, told: &std::path::Path, stderr: Stdio) -> Self {
        let dir_text = dir.display();
        let config = format!(
            "[listen]\naddress = \"127.0.0.1:0\"\ndrain_timeout_s = 7\n\
             [primary]\naddress = \"{primary}\"\ntls = \"off\"\nconnect_timeout_ms = 300\n\
             [shadow]\naddress = \"127.0.0.1:1\"\ntls = \"off\"\nconnect_timeout_ms = 300\n\
             [ledger]\npath = \"{dir_text}/understudy.db\"\nlog = \"\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\nconsole = \"\"\n"
        );
        let file = dir.join("understudy.toml");
        std::fs::write(&file, config).expect("the config is written");
        let child = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(["serve", "--config"])
            .arg(&file)
            .env("NOTIFY_SOCKET", told)
            .env("WATCHDOG_USEC", "3000000")
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("understudy starts");
        Self(child)
    }

    fn exit_code(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait().expect("the child can be asked") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end");
    }
}

/// The next that is said.
fn heard(ear: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let length = ear.recv(&mut buffer).expect("something is said in time");
    String::from_utf8(buffer[..length].to_vec()).expect("text")
}

#[test]
fn systemd_hears_that_it_is_ready_that_it_lives_and_that_it_drains() {
    let dir = tempfile::tempdir().expect("a directory");
    let told = dir.path().join("notify");
    let ear = UnixDatagram::bind(&told).expect("a socket");
    ear.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let primary = Primary::start();
    let mut serving = Serving::start(&primary.address, dir.path(), &told, Stdio::inherit());

    let begun = heard(&ear);
    assert!(
        begun.starts_with("STATUS=listening; legacy has not answered yet"),
        "{begun}"
    );
    // It has looked at the primary in vain, and looks again.
    primary.wait_for_visits(3);
    ear.set_nonblocking(true).expect("it can be asked at once");
    let nothing = ear.recv(&mut [0; 1024]);
    assert!(nothing.is_err(), "it is ready without a primary");

    primary.may_greet.store(true, Ordering::SeqCst);
    ear.set_nonblocking(false).expect("it can be waited for");
    assert_eq!(heard(&ear), "READY=1\nSTATUS=serving clients");
    for _ in 0..2 {
        assert_eq!(heard(&ear), "WATCHDOG=1");
    }

    let pid = i32::try_from(serving.0.id()).expect("a pid");
    let said = || std::iter::from_fn(|| Some(heard(&ear))).find(|words| words != "WATCHDOG=1");
    crate::lab::signal(pid, "HUP");
    let begun = said().expect("it says so");
    assert!(begun.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{begun}");
    assert_eq!(
        said().as_deref(),
        Some("READY=1\nSTATUS=serving clients; 0 keys of the config were changed")
    );

    crate::lab::signal(pid, "TERM");
    let stopping = std::iter::from_fn(|| Some(heard(&ear))).find(|words| words != "WATCHDOG=1");
    let stopping = stopping.expect("it says so");
    let fields: Vec<&str> = stopping.lines().collect();
    // The drain that the config allows, and all that comes after it.
    for field in [
        "STOPPING=1",
        "EXTEND_TIMEOUT_USEC=55000000",
        "WATCHDOG_USEC=55000000",
    ] {
        assert!(fields.contains(&field), "{stopping}");
    }
    assert_eq!(serving.exit_code(), Some(0));
}

/// A pipe that takes nothing more, and its end that nobody reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (unread, mut full) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&full).expect("its flags");
    fcntl_setfl(&full, flags | OFlags::NONBLOCK).expect("it can be filled");
    for piece in [&[b'.'; 4096][..], b"."] {
        while full.write(piece).is_ok() {}
    }
    fcntl_setfl(&full, flags).expect("whoever writes to it waits");
    (unread, full)
}

#[test]
fn who_reads_the_log_and_has_stopped_holds_nothing_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let told = dir.path().join("notify");
    let ear = UnixDatagram::bind(&told).expect("a socket");
    ear.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let primary = Primary::start();
    primary.may_greet.store(true, Ordering::SeqCst);
    let (unread, full) = full_pipe();
    let mut serving = Serving::start(&primary.address, dir.path(), &told, full.into());
    while !heard(&ear).starts_with("READY=1") {}
    // Each of the relay's threads has run since it said that it serves.
    while heard(&ear) != "WATCHDOG=1" {}
    let pid = i32::try_from(serving.0.id()).expect("a pid");
    crate::lab::signal(pid, "TERM");
    while !heard(&ear).contains("STOPPING=1") {}
    assert_eq!(serving.exit_code(), Some(0));
    drop(unread);
}

#[test]
fn nor_does_it_keep_a_start_that_fails_from_ending() {
    let dir = tempfile::tempdir().expect("a directory");
    let somebody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = somebody.local_addr().expect("an address");
    let path = dir.path().join("understudy.db");
    // What is wrong is seen before there is a log, and behind it.
    for (text, code) in [
        ("[listen]\nadress = \"127.0.0.1:0\"\n".to_owned(), 2),
        (
            format!(
                "[listen]\naddress = \"127.0.0.1:0\"\n[ledger]\npath = {path:?}\nlog = \"\"\n\
                 [admin]\naddress = \"{taken}\"\nconsole = \"\"\n"
            ),
            1,
        ),
    ] {
        let file = dir.path().join("understudy.toml");
        std::fs::write(&file, text).expect("the config is written");
        let (unread, full) = full_pipe();
        let child = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(["serve", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(full)
            .spawn()
            .expect("understudy starts");
        assert_eq!(Serving(child).exit_code(), Some(code));
        drop(unread);
    }
}

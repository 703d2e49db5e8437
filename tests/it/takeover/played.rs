//! A new process that says what a test has it say. It is a process of its own, as the old one ends it where it is not fit
//! to serve: this program once more, which runs the one test below.

use super::PATIENCE;
use super::process::{House, until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Tells the child where the old process listens.
const AT: &str = "UNDERSTUDY_TEST_PLAYED_AT";

/// Said to the child itself: it hears nothing more.
const DEAF: &str = "deaf";

/// A real one says so every three seconds.
const BEAT: Duration = Duration::from_secs(1);

/// See the module. Dropped it is dead.
pub struct Played {
    child: Child,
    line: BufReader<UnixStream>,
}

impl Played {
    /// Asks the process that serves.
    pub fn hello(house: &House) -> Self {
        let (here, there) = UnixStream::pair().expect("a pair");
        here.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let this = std::env::current_exe().expect("this program");
        let (_, module) = module_path!().split_once("::").expect("a module");
        let child = Command::new(this)
            .args([
                "--exact",
                "--nocapture",
                &format!("{module}::the_child_plays"),
            ])
            .env(AT, house.file("ledger.db.handover"))
            .stdin(Stdio::from(OwnedFd::from(there)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut played = Self {
            child: child.expect("it starts"),
            line: BufReader::new(here),
        };
        let ledger = house.file("ledger.db").canonicalize().expect("it is there");
        played.says(&json!({"hello": {
            "form": 3, "version": "0", "listen": house.address, "ledger": ledger,
            "servers": [
                format!("legacy at {}", house.primary.address),
                format!("vitess at {}", house.shadow.address),
            ],
            "supervisor": house.supervisor(),
            "drain_s": 5,
        }}));
        played
    }

    /// One that has been given the clients.
    pub fn serving(house: &House) -> Self {
        let mut played = Self::hello(house);
        played.hears();
        played.says(&json!("ready"));
        let yours = played.hears();
        assert!(yours["yours"].is_object(), "{yours}");
        played
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A letter of the old one's.
    pub fn hears(&mut self) -> Value {
        let mut line = String::new();
        self.line.read_line(&mut line).expect("a letter");
        serde_json::from_str(&line).expect("a letter")
    }

    pub fn says(&mut self, letter: &Value) {
        self.says_raw(&letter.to_string());
    }

    /// What may be no letter.
    pub fn says_raw(&mut self, line: &str) {
        let line = format!("{line}\n");
        let said = self.line.get_mut().write_all(line.as_bytes());
        said.expect("it is said");
    }

    /// Hears nothing more, and the old one sees that when it says something.
    pub fn is_deaf(&mut self) {
        self.says_raw(DEAF);
    }

    /// Hangs.
    pub fn hangs(&self) {
        crate::lab::signal(self.id().cast_signed(), "STOP");
    }

    /// Waits until somebody has killed it.
    pub fn is_killed(&mut self) {
        until("it was killed", || {
            let ended = self.child.try_wait().expect("it can be asked");
            ended.is_some_and(|status| status.code().is_none())
        });
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The child of a [`Played`], and nothing where nobody started it as that.
#[test]
fn the_child_plays() {
    let Some(at) = std::env::var_os(AT).map(PathBuf::from) else {
        return;
    };
    let line = std::io::stdin().as_fd().try_clone_to_owned();
    let line = UnixStream::from(line.expect("the test's end"));
    let old = UnixStream::connect(at).expect("it listens");
    let to_test = line.try_clone().expect("a copy");
    let from_old = old.try_clone().expect("a copy");
    std::thread::spawn(move || passes_on(from_old, to_test));
    let (old, mut beats) = (Arc::new(Mutex::new(old)), false);
    for said in BufReader::new(line).lines().map_while(Result::ok) {
        let old = Arc::clone(&old);
        if said == DEAF {
            let heard = old.lock().expect("nobody panics");
            heard.shutdown(Shutdown::Read).expect("it is deaf");
            continue;
        }
        let sent = writeln!(old.lock().expect("nobody panics"), "{said}");
        if sent.is_err() {
            return;
        }
        if said == "\"ready\"" && !std::mem::replace(&mut beats, true) {
            std::thread::spawn(move || {
                while writeln!(old.lock().expect("nobody panics"), "\"beat\"").is_ok() {
                    std::thread::sleep(BEAT);
                }
            });
        }
    }
}

/// What the old one says, to the test.
fn passes_on(mut from: UnixStream, mut to: UnixStream) {
    let mut piece = [0; 4096];
    while let Ok(length) = from.read(&mut piece) {
        if length == 0 || to.write_all(&piece[..length]).is_err() {
            return;
        }
    }
}

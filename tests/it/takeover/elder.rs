//! An old process that says what a test has it say, to a real new one.

use super::PATIENCE;
use super::process::House;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// See the module. It has the ledger until it is dropped.
pub struct Elder {
    door: UnixListener,
    clients: TcpListener,
    operators: TcpListener,
    _ledger: File,
}

impl Elder {
    pub fn start(house: &House) -> Self {
        let door = UnixListener::bind(house.file("ledger.db.handover")).expect("a socket");
        let ledger = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(house.file("ledger.db.lock"))
            .expect("a lock's file");
        ledger.try_lock().expect("nobody has it");
        let bind = |address: &str| TcpListener::bind(address).expect("the port is free");
        Self {
            door,
            clients: bind(&house.address),
            operators: bind(house.admin.trim_start_matches("http://")),
            _ledger: ledger,
        }
    }

    /// Hands over to who comes; the talk with it.
    pub fn hands_over(&self) -> Talk {
        let (stream, _) = self.door.accept().expect("somebody asks");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut talk = Talk(BufReader::new(stream));
        assert!(talk.hears()["hello"].is_object());
        let offer = json!({"offer": {
            "process": std::process::id(), "primary": "legacy", "dialect": 0, "token": "7-1",
            "ends_s": 600, "console": false, "supervised": false, "drain_s": 5,
        }});
        let line = format!("{offer}\n");
        let doors = [self.clients.as_fd(), self.operators.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&doors)));
        let sent = sendmsg(
            talk.0.get_ref(),
            &[IoSlice::new(line.as_bytes())],
            &mut control,
            SendFlags::empty(),
        );
        assert_eq!(sent.expect("it is sent"), line.len());
        assert_eq!(talk.hears(), json!("ready"));
        talk.says(&json!({"yours": {}}));
        talk
    }
}

/// Dropped it is closed.
pub struct Talk(BufReader<UnixStream>);

impl Talk {
    pub fn hears(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a letter");
        serde_json::from_str(&line).expect("a letter")
    }

    pub fn says(&mut self, letter: &Value) {
        writeln!(self.0.get_mut(), "{letter}").expect("it is said");
    }
}

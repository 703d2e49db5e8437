//! What must be so, whatever the cutovers did: what clients were told, what servers heard and said,
//! and who was primary by the record when they did.

use crate::simulation::store::{self, Rows};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use understudy::ledger::{Recorded, recorded};

/// An invariant that broke, and how.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "the texts are printed where a seed fails")]
pub enum Fault {
    /// A client's command reached a server that the record does not name.
    Usurped(String),
    /// An answer is not what the primary sent.
    Bytes(String),
    /// A client was told an error, or was cut off.
    Error(String),
    /// A write that was told OK is not there, or one is there twice.
    Writes(String),
    /// The roles changed before the new primary had everything.
    Behind(String),
    /// The servers differ, and no taint says so.
    Untainted(String),
    /// It came to no rest.
    Restless(String),
}

/// A row: database, table, id.
pub type Row = (String, String, u64);

/// What a client changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub row: Row,
    /// Added to what is there; `None` inserts the row.
    pub by: Option<i64>,
}

/// Which command it is, among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tag {
    /// By its comment.
    Text(u64),
    /// By the row that an execution inserts.
    Row(u32),
}

impl Tag {
    /// A command's text with its tag.
    pub fn mark(number: u64, text: &str) -> String {
        format!("{text} /*c{number}*/")
    }

    /// The tag of a command, and the command without it.
    pub fn of(payload: &[u8]) -> (Option<Self>, Vec<u8>) {
        let whole = || payload.to_vec();
        match payload.first() {
            Some(0x03 | 0x16) => {
                let text = String::from_utf8_lossy(payload);
                let Some((bare, rest)) = text.split_once(" /*c") else {
                    return (None, whole());
                };
                let number = rest.trim_end_matches("*/").parse().expect("a tag");
                (Some(Self::Text(number)), bare.as_bytes().to_vec())
            }
            // With a value: types alone are the mirror's.
            Some(0x17) if payload.len() >= 18 => {
                let row = payload.last_chunk().map(|id| u32::from_le_bytes(*id));
                (row.map(Self::Row), whole())
            }
            _ => (None, whole()),
        }
    }
}

/// What the first server that heard a command said to it.
#[derive(Debug)]
struct Heard {
    by: &'static str,
    sent: Option<Vec<u8>>,
}

/// See the module.
#[derive(Debug)]
pub struct Truth {
    /// Where the record stands, and who is primary without one.
    ledger: PathBuf,
    configured: &'static str,
    /// Once there is a file.
    reader: Mutex<Option<Connection>>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tags: u64,
    rows: u64,
    heard: BTreeMap<Tag, Heard>,
    told: BTreeMap<Row, i64>,
    told_inserted: BTreeSet<Row>,
    /// Those for which no answer came.
    doubted: Vec<Write>,
    faults: Vec<Fault>,
}

impl Truth {
    pub fn new(ledger: PathBuf, configured: &'static str) -> Self {
        Self {
            ledger,
            configured,
            reader: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// A number for the next command.
    pub fn next_tag(&self) -> u64 {
        let mut known = self.known.lock().unwrap();
        known.tags += 1;
        known.tags
    }

    /// An id that no other row has.
    pub fn next_row(&self) -> u64 {
        let mut known = self.known.lock().unwrap();
        known.rows += 1;
        store::SHARED_IDS + known.rows
    }

    pub fn fault(&self, fault: Fault) {
        tracing::error!(?fault);
        self.known.lock().unwrap().faults.push(fault);
    }

    pub fn first_fault(&self) -> Option<Fault> {
        self.known.lock().unwrap().faults.first().cloned()
    }

    /// Who is primary by the record, and by nothing else.
    pub fn primary(&self) -> String {
        let mut reader = self.reader.lock().unwrap();
        let Some(connection) = &*reader else {
            // The program's own look, until there is something to read.
            return match recorded(&self.ledger) {
                Recorded::Is(name) => {
                    *reader = Some(Connection::open(&self.ledger).expect("the ledger"));
                    name
                }
                Recorded::Nothing => self.configured.to_owned(),
                Recorded::Unreadable(why) => panic!("{why}"),
            };
        };
        let ask = "SELECT value FROM meta WHERE key = 'primary'";
        let mut asked = connection.prepare_cached(ask).expect("a question");
        asked.query_row((), |row| row.get(0)).expect("a primary")
    }

    /// A server hears a command. Whoever hears it first is to be the primary: what the mirror runs
    /// was answered before.
    pub fn heard(&self, tag: Tag, by: &'static str) {
        if self.known.lock().unwrap().heard.contains_key(&tag) {
            return;
        }
        let primary = self.primary();
        let mut known = self.known.lock().unwrap();
        known.heard.insert(tag, Heard { by, sent: None });
        if primary != by {
            let text = format!("{by} hears {tag:?} while {primary} is primary");
            known.faults.push(Fault::Usurped(text));
        }
    }

    /// What it says to it.
    pub fn says(&self, tag: Tag, by: &'static str, answer: &[u8]) {
        let mut known = self.known.lock().unwrap();
        if let Some(heard) = known.heard.get_mut(&tag)
            && heard.by == by
            && heard.sent.is_none()
        {
            heard.sent = Some(answer.to_vec());
        }
    }

    /// Whether this is the answer, but for a statement's id where one was `prepared`.
    pub fn is_answer(&self, tag: Tag, got: &[u8], prepared: bool) -> bool {
        let known = self.known.lock().unwrap();
        let sent = known.heard.get(&tag).and_then(|heard| heard.sent.as_ref());
        sent.is_some_and(|sent| {
            let (mut sent, mut got) = (sent.clone(), got.to_vec());
            if prepared && sent.len() == got.len() && sent.len() > 9 && sent[4] == 0 {
                sent[5..9].fill(0);
                got[5..9].fill(0);
            }
            sent == got
        })
    }

    /// From here on nobody knows whether they are done.
    pub fn doubt(&self, writes: &[Write]) {
        self.known.lock().unwrap().doubted.extend_from_slice(writes);
    }

    /// They are not done.
    pub fn deny(&self, writes: &[Write]) {
        let mut known = self.known.lock().unwrap();
        for write in writes {
            let at = known.doubted.iter().position(|one| one == write);
            known.doubted.remove(at.expect("it was doubted"));
        }
    }

    /// A client was told that they are done.
    pub fn confirm(&self, writes: &[Write]) {
        self.deny(writes);
        let mut known = self.known.lock().unwrap();
        for write in writes {
            match write.by {
                Some(by) => *known.told.entry(write.row.clone()).or_default() += by,
                None => assert!(known.told_inserted.insert(write.row.clone())),
            }
        }
    }

    /// Holds a server's rows against what clients were told.
    ///
    /// # Errors
    /// How they differ.
    pub fn compare(&self, rows: &Rows) -> Result<(), String> {
        let known = self.known.lock().unwrap();
        let of = |row: &Row| {
            let table = rows.get(&(row.0.clone(), row.1.clone()));
            table.and_then(|table| table.get(&row.2)).copied()
        };
        for row in &known.told_inserted {
            if of(row).is_none() {
                return Err(format!("{row:?} was told to be inserted, and is not there"));
            }
        }
        for ((database, table), rows) in rows {
            for (id, value) in rows {
                let row = (database.clone(), table.clone(), *id);
                let told = known.told.get(&row).copied().unwrap_or_default();
                let doubted = known.doubted.iter().filter(|write| write.row == row);
                let (mut most, mut is_there) = (told, known.told_inserted.contains(&row));
                for write in doubted {
                    is_there |= write.by.is_none();
                    most += write.by.unwrap_or_default();
                }
                if *id > store::SHARED_IDS && !is_there {
                    return Err(format!("{row:?} is there, and nobody inserted it"));
                }
                if *value < told || *value > most {
                    return Err(format!(
                        "{row:?} is {value}, and {told} to {most} were added"
                    ));
                }
            }
        }
        Ok(())
    }
}

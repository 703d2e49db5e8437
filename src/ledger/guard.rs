//! One process a ledger: a lock file beside it, which also remembers a start that the ledger's file
//! itself could not be told of.
//!
//! The lock is the kernel's and ends with the process, however that ends. The word in the file is
//! written in place, so that a full disk does not stop it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The word's place, in bytes: always as long.
const WIDTH: usize = 32;

/// What stands in the file after a clean stop.
const CLEAN: &str = "clean";

/// And after one that left the ledger to a process which serves already; its token follows.
const HEIR: &str = "heir ";

/// And while such a process serves beside the one that still has the ledger, or has it and has not yet taken in what its
/// clients said before: should it end now, nobody knows what they wrote.
const LENT: &str = "lent ";

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    /// `None` where there can be no lock: production is served without.
    file: Option<File>,
    left: Left,
}

/// How the last process that held it left it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Left {
    /// After a clean stop.
    Clean,
    /// To this process, which has the token.
    ToUs(String),
    /// To one that did not come, with this word: what its clients wrote nobody has taken in.
    Orphaned(String),
    /// In its midst.
    Unclean,
}

impl Left {
    fn of(word: &str, heir: Option<&str>) -> Self {
        // An empty file is one that was just made.
        if word.is_empty() || word == CLEAN {
            return Self::Clean;
        }
        match (word.strip_prefix(HEIR), word.strip_prefix(LENT)) {
            (Some(token), _) if heir == Some(token) => Self::ToUs(token.to_owned()),
            // It knows what its own clients wrote; the other one ended without a word.
            (_, Some(token)) if heir == Some(token) => Self::Unclean,
            (Some(_), _) | (_, Some(_)) => Self::Orphaned(word.to_owned()),
            (None, None) => Self::Unclean,
        }
    }
}

/// Another process has the ledger.
#[derive(Debug)]
pub(super) struct Held {
    /// Its number, where the file tells.
    pub(super) by: Option<String>,
}

impl Guard {
    /// Takes the lock of the ledger at this path, and writes down that it is in use. `heir` is the token by which it
    /// was left to this process, whose clients have written already: until [`Guard::set_lent`] says otherwise that is
    /// what stands there.
    pub(super) fn take(ledger: &Path, heir: Option<&str>) -> Result<Self, Held> {
        let path = beside(ledger);
        let file = match open(&path) {
            Ok(file) => file,
            Err(fault) => return Ok(Self::without(&path, &fault)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let word = read(&file).unwrap_or_default();
                return Err(Held {
                    by: word.strip_prefix("pid ").map(str::to_owned),
                });
            }
            Err(TryLockError::Error(fault)) => return Ok(Self::without(&path, &fault)),
        }
        let word = read(&file).unwrap_or_default();
        let guard = Self {
            file: Some(file),
            left: Left::of(&word, heir),
        };
        guard.set_lent(heir);
        Ok(guard)
    }

    fn without(path: &Path, fault: &io::Error) -> Self {
        tracing::warn!(%fault, path = %path.display(), "the ledger cannot be locked against a second understudy");
        Self {
            file: None,
            left: Left::Clean,
        }
    }

    /// Whether the last process that held it ended without a clean stop.
    pub(super) const fn was_unclean(&self) -> bool {
        matches!(self.left, Left::Unclean | Left::Orphaned(_))
    }

    /// Whether it was left to a process that never came.
    pub(super) const fn was_orphaned(&self) -> bool {
        matches!(self.left, Left::Orphaned(_))
    }

    /// Writes down whose it is: this process', beside which one with that token serves clients, where there is one.
    pub(super) fn set_lent(&self, heir: Option<&str>) {
        match heir {
            Some(token) => self.write(&format!("{LENT}{token}")),
            None => self.write(&format!("pid {}", std::process::id())),
        }
    }

    /// Writes down a clean stop; `heir` is the token of the process that has taken over.
    pub(super) fn set_clean(&self, heir: Option<&str>) {
        match heir {
            Some(token) => self.write(&format!("{HEIR}{token}")),
            None => self.write(CLEAN),
        }
    }

    /// Leaves it as it was left, where that was not in its midst.
    pub(super) fn give_back(&self) {
        match &self.left {
            Left::Clean => self.set_clean(None),
            Left::ToUs(token) => self.set_clean(Some(token)),
            Left::Orphaned(word) => self.write(word),
            Left::Unclean => {}
        }
    }

    fn write(&self, word: &str) {
        let Some(file) = &self.file else { return };
        let line = format!("{word:<width$}\n", width = WIDTH - 1);
        let written = file
            .write_all_at(line.as_bytes(), 0)
            .and_then(|()| file.sync_data());
        if let Err(fault) = written {
            tracing::warn!(%fault, "the ledger's lock file cannot be written");
        }
    }
}

/// Whether a process holds it now. Where there can be no lock, none does.
pub(super) fn is_held(ledger: &Path) -> bool {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(beside(ledger));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn beside(ledger: &Path) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
}

fn read(mut file: &File) -> io::Result<String> {
    let mut word = String::new();
    file.by_ref()
        .take(WIDTH as u64)
        .read_to_string(&mut word)
        .map(|_| word.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_holds_the_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let first = Guard::take(&path, None).unwrap();
        let held = Guard::take(&path, None).unwrap_err();
        assert_eq!(held.by, Some(std::process::id().to_string()));
        assert!(is_held(&path));
        drop(first);
        assert!(!is_held(&path) && !is_held(&dir.path().join("none.db")));
        Guard::take(&path, None).unwrap();
    }

    #[test]
    fn only_a_clean_stop_leaves_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let first = Guard::take(&path, None).unwrap();
        assert!(!first.was_unclean());
        drop(first);
        let second = Guard::take(&path, None).unwrap();
        assert!(second.was_unclean());
        second.set_clean(None);
        drop(second);
        assert!(!Guard::take(&path, None).unwrap().was_unclean());
    }

    #[test]
    fn what_was_left_to_one_process_is_clean_for_that_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let token = "1a2b3-5f00ba7c0ffee";
        Guard::take(&path, None).unwrap().set_clean(Some(token));
        let ours = Guard::take(&path, Some(token)).unwrap();
        assert!(!ours.was_unclean() && !ours.was_orphaned());
        // Finding: had it ended before it had taken in what its clients had said, only known tables were tainted.
        drop(ours);
        let next = Guard::take(&path, None).unwrap();
        assert!(next.was_unclean() && next.was_orphaned());
        next.set_clean(Some(token));
        drop(next);
        // Nor can it use the file: what its clients wrote is lost.
        let ours = Guard::take(&path, Some(token)).unwrap();
        ours.give_back();
        drop(ours);
        for token in [None, Some("another")] {
            let other = Guard::take(&path, token).unwrap();
            assert!(other.was_unclean() && other.was_orphaned(), "{token:?}");
            other.give_back();
        }
        // Nor where both ended, one of them with the ledger in its hands.
        let first = Guard::take(&path, Some(token)).unwrap();
        first.set_lent(Some(token));
        drop(first);
        let heir = Guard::take(&path, Some(token)).unwrap();
        assert!(heir.was_unclean() && !heir.was_orphaned());
        heir.set_lent(Some(token));
        drop(heir);
        for _ in 0..2 {
            let next = Guard::take(&path, None).unwrap();
            assert!(next.was_unclean() && next.was_orphaned());
            next.give_back();
        }
        let back = Guard::take(&path, None).unwrap();
        back.set_lent(Some(token));
        back.set_lent(None);
        drop(back);
        let after = Guard::take(&path, None).unwrap();
        assert!(after.was_unclean() && !after.was_orphaned());
        after.set_clean(Some(token));
        drop(after);
        // Nor does it become clean by being in use.
        drop(Guard::take(&path, Some(token)).unwrap());
        let after = Guard::take(&path, Some(token)).unwrap();
        assert!(after.was_unclean() && !after.was_orphaned());
    }
}

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

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    /// `None` where there can be no lock: production is served without.
    file: Option<File>,
    unclean: bool,
}

/// Another process has the ledger.
#[derive(Debug)]
pub(super) struct Held {
    /// Its number, where the file tells.
    pub(super) by: Option<String>,
}

impl Guard {
    /// Takes the lock of the ledger at this path, and writes down that it is in use.
    pub(super) fn take(ledger: &Path) -> Result<Self, Held> {
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
        // An empty file is one that was just made.
        let word = read(&file).unwrap_or_default();
        let guard = Self {
            file: Some(file),
            unclean: !word.is_empty() && word != CLEAN,
        };
        guard.write(&format!("pid {}", std::process::id()));
        Ok(guard)
    }

    fn without(path: &Path, fault: &io::Error) -> Self {
        tracing::warn!(%fault, path = %path.display(), "the ledger cannot be locked against a second understudy");
        Self {
            file: None,
            unclean: false,
        }
    }

    /// Whether the last process that held it ended without a clean stop.
    pub(super) const fn was_unclean(&self) -> bool {
        self.unclean
    }

    /// Writes down a clean stop.
    pub(super) fn set_clean(&self) {
        self.write(CLEAN);
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
        let first = Guard::take(&path).unwrap();
        let held = Guard::take(&path).unwrap_err();
        assert_eq!(held.by, Some(std::process::id().to_string()));
        drop(first);
        Guard::take(&path).unwrap();
    }

    #[test]
    fn only_a_clean_stop_leaves_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let first = Guard::take(&path).unwrap();
        assert!(!first.was_unclean());
        drop(first);
        let second = Guard::take(&path).unwrap();
        assert!(second.was_unclean());
        second.set_clean();
        drop(second);
        assert!(!Guard::take(&path).unwrap().was_unclean());
    }
}

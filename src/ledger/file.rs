//! The SQLite file: opened, brought to this version, read, and its mark of a clean stop taken away.
//!
//! A file that is locked, or whose disk is full, may come round: it is asked again. One that cannot
//! be read is not touched.

use super::schema::{self, Unfit};
use super::taints::Taint;
use super::write;
use crate::sql::Table;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long SQLite waits for a lock in one try.
const BUSY: Duration = Duration::from_millis(250);

/// The writer's connection, once there is one.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    connection: Option<Connection>,
    /// It says that it is in use.
    marked: bool,
}

/// What a file knew when it was opened.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) taints: Vec<Taint>,
    pub(super) mirrored: Vec<Table>,
    /// The last process that had it ended without a clean stop.
    pub(super) unclean: bool,
    /// Findings that were let go though an operator had to judge them.
    pub(super) evicted: u64,
}

impl File {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            connection: None,
            marked: false,
        }
    }

    /// A connection to the file at this path, brought to this version.
    pub(super) fn connect(path: &Path) -> Result<Connection, Unfit> {
        create_private(path);
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")?;
        schema::migrate(&mut connection)?;
        Ok(connection)
    }

    /// The connection, ready to be written. `load` is told what the file knows, once.
    pub(super) fn ready(&mut self, load: impl FnOnce(Known)) -> Result<&mut Connection, Unfit> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let (connection, known) = open(&self.path)?;
                load(known);
                connection
            }
        };
        let connection = self.connection.insert(connection);
        if !self.marked {
            write::begin(connection)?;
            self.marked = true;
        }
        Ok(connection)
    }
}

/// What was found is the owner's to read: SQLite gives the files beside it the same mode. One that is there keeps its
/// own, and is not opened here: closing it would let go the locks of this process's other connections.
fn create_private(path: &Path) {
    let created = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path);
    // Why it could not be, SQLite says in its own words.
    drop(created);
}

fn open(path: &Path) -> Result<(Connection, Known), Unfit> {
    let mut connection = File::connect(path)?;
    let known = write::known(&mut connection)?;
    Ok((connection, known))
}

/// A connection of the readers' own, which writers never block.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    Ok(connection)
}

/// Whether a fault may pass by itself: another process has the file locked, or the disk is full.
/// All else says that this file cannot be used.
pub(super) fn may_pass(unfit: &Unfit) -> bool {
    let Unfit::Sqlite(rusqlite::Error::SqliteFailure(fault, _)) = unfit else {
        return false;
    };
    match fault.code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::DiskFull => true,
        // A quota, and a shared-memory file that cannot grow, are told as faults of writing.
        ErrorCode::SystemIoFailure => matches!(
            fault.extended_code,
            ffi::SQLITE_IOERR_WRITE
                | ffi::SQLITE_IOERR_FSYNC
                | ffi::SQLITE_IOERR_DIR_FSYNC
                | ffi::SQLITE_IOERR_TRUNCATE
                | ffi::SQLITE_IOERR_LOCK
                | ffi::SQLITE_IOERR_SHMLOCK
                | ffi::SQLITE_IOERR_SHMSIZE
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_and_a_full_disk_may_pass_and_damage_does_not() {
        let fault = |code| {
            let fault = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            may_pass(&Unfit::Sqlite(fault))
        };
        for code in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_SHMSIZE,
        ] {
            assert!(fault(code), "{code}");
        }
        for code in [
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_IOERR_READ,
        ] {
            assert!(!fault(code), "{code}");
        }
        assert!(!may_pass(&Unfit::Newer(9)));
    }

    #[test]
    fn the_mark_is_on_the_disk_before_anything_is_mirrored() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::new(&dir.path().join("ledger.db"));
        let connection = file.ready(drop).unwrap();
        let ask = |text: &str| connection.query_row(text, (), |row| row.get::<_, String>(0));
        let clean = ask("SELECT value FROM meta WHERE key = 'clean'").unwrap();
        let full = ask("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").unwrap();
        assert_eq!((clean.as_str(), full.as_str()), ("0", "2"));
    }

    #[test]
    fn what_was_found_is_its_owners_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let mode = |name: &str| {
            let kept = std::fs::metadata(dir.path().join(name)).unwrap();
            kept.permissions().mode() & 0o777
        };
        let connection = File::connect(&path).unwrap();
        assert_eq!((mode("ledger.db"), mode("ledger.db-wal")), (0o600, 0o600));
        drop(connection);
        // One that an operator lets others read stays so.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        drop(File::connect(&path).unwrap());
        assert_eq!(mode("ledger.db"), 0o640);
    }
}

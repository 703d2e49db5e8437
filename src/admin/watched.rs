//! A file that an operator changes while understudy runs: looked at once a second, read again when it has changed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// A file that changed so shortly before it was read may change once more within the clock's grain.
const SETTLED: Duration = Duration::from_secs(2);

/// What a file is known by: when it was written, how long it is, and which one it is.
type Stamp = (i64, i64, u64, u64);

/// See the module.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    /// As it was read last; nothing where it could not be seen.
    read: Option<Option<Stamp>>,
    settled: bool,
}

impl Watched {
    /// One that is due at the first look.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: None,
            settled: false,
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is to be read: it has changed since the last time that this was so, or may have. Asks the file
    /// system: not for a runtime's thread.
    pub(super) fn is_due(&mut self) -> bool {
        let now = SystemTime::now();
        let seen = std::fs::metadata(&self.path).ok();
        let stamp = seen
            .as_ref()
            .map(|file| (file.mtime(), file.mtime_nsec(), file.len(), file.ino()));
        let due = self.read != Some(stamp) || !self.settled;
        self.read = Some(stamp);
        // A clock that was put back settles nothing; then it is read each time.
        self.settled = seen
            .and_then(|file| file.modified().ok())
            .is_none_or(|at| now.duration_since(at).is_ok_and(|age| age >= SETTLED));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &Path, text: &str, ago: Duration) {
        std::fs::write(path, text).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    }

    #[test]
    fn a_file_is_due_once_for_each_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut watched = Watched::new(path.clone());
        assert!(watched.is_due() && !watched.is_due(), "there is none");
        written(&path, "one", Duration::from_secs(60));
        assert!(watched.is_due() && !watched.is_due());
        written(&path, "two", Duration::from_secs(50));
        assert!(watched.is_due() && !watched.is_due());
        // Another file of the same length and time.
        let other = dir.path().join("other");
        let at = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&other, "six").unwrap();
        let file = std::fs::File::options().write(true).open(&other).unwrap();
        file.set_modified(at).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(watched.is_due() && !watched.is_due());
        std::fs::remove_file(&path).unwrap();
        assert!(watched.is_due() && !watched.is_due());
    }

    #[test]
    fn what_was_written_a_moment_ago_is_read_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        written(&path, "one", Duration::ZERO);
        let mut watched = Watched::new(path.clone());
        assert!(watched.is_due() && watched.is_due());
    }
}

//! The JSON-lines log of divergences, rotated by size. A fault here is counted, never fatal.

use crate::config::Live;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log with its older files beside it: `name.1` is the newest of them.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    bytes_max: Live<u64>,
    files: Live<usize>,
    open: Option<(File, u64)>,
}

impl Log {
    pub(super) fn new(path: &Path, bytes_max: Live<u64>, files: Live<usize>) -> Self {
        Self {
            path: path.to_owned(),
            bytes_max,
            files,
            open: None,
        }
    }

    /// Appends lines, each ended by a line feed already: all of them or none.
    pub(super) fn append(&mut self, lines: &str) -> io::Result<()> {
        if self.size()? >= self.bytes_max.now() {
            // A log that cannot be rotated takes no more lines: it would grow without a bound.
            self.open = None;
            self.rotate()?;
        }
        let (mut file, size) = self.take()?;
        if let Err(fault) = file.write_all(lines.as_bytes()) {
            // A line that was begun is taken back: the next one would go on in the midst of it.
            file.set_len(size)?;
            return Err(fault);
        }
        self.open = Some((file, size + lines.len() as u64));
        Ok(())
    }

    fn size(&mut self) -> io::Result<u64> {
        let (file, size) = self.take()?;
        self.open = Some((file, size));
        Ok(size)
    }

    /// The file and its size. Whoever does not put it back has it opened again.
    fn take(&mut self) -> io::Result<(File, u64)> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&self.path)?;
        let size = mended(&file)?;
        Ok((file, size))
    }

    fn rotate(&self) -> io::Result<()> {
        let name = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let files = self.files.now();
        for number in (1..files).rev() {
            if name(number).exists() {
                std::fs::rename(name(number), name(number + 1))?;
            }
        }
        if files == 0 {
            return std::fs::remove_file(&self.path);
        }
        std::fs::rename(&self.path, name(1))
    }
}

/// The file's size, after its last line was ended: a crash may have left it torn.
fn mended(mut file: &File) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut last = [b'\n'];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    if last == [b'\n'] {
        return Ok(size);
    }
    file.write_all(b"\n")?;
    Ok(size + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_does_not_swallow_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "{\"torn").unwrap();
        let mut log = Log::new(&path, 1000.into(), 2.into());
        log.append("whole\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"torn\nwhole\n");
    }

    #[test]
    fn a_log_that_cannot_be_rotated_takes_no_more_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        // A folder in the place of the older file.
        std::fs::create_dir_all(dir.path().join("log.1/full")).unwrap();
        let mut log = Log::new(&path, 10.into(), 1.into());
        log.append("a first line\n").unwrap();
        assert!(log.append("another\n").is_err());
        assert!(log.append("another\n").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a first line\n");
        std::fs::remove_dir_all(dir.path().join("log.1")).unwrap();
        log.append("another\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another\n");
    }

    #[test]
    fn a_full_log_is_rotated_and_the_oldest_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::new(&path, 10.into(), 2.into());
        for line in ["first line\n", "second line\n", "third line\n", "4\n"] {
            log.append(line).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("log"), "4\n");
        assert_eq!(read("log.1"), "third line\n");
        assert_eq!(read("log.2"), "second line\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_an_error_and_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing").join("log");
        let mut log = Log::new(&path, 100.into(), 2.into());
        assert!(log.append("x\n").is_err());
        std::fs::create_dir(dir.path().join("missing")).unwrap();
        log.append("x\n").unwrap();
    }
}

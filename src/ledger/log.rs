//! The JSON-lines log of divergences, rotated by size. A fault here is counted, never fatal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A log with its older files beside it: `name.1` is the newest of them.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    bytes_max: u64,
    files: usize,
    open: Option<(File, u64)>,
}

impl Log {
    pub(super) fn new(path: &Path, bytes_max: u64, files: usize) -> Self {
        Self {
            path: path.to_owned(),
            bytes_max,
            files,
            open: None,
        }
    }

    /// Appends lines, each ended by a line feed already.
    pub(super) fn append(&mut self, lines: &str) -> io::Result<()> {
        let result = self.write(lines.as_bytes());
        if result.is_err() {
            // The next append opens it again.
            self.open = None;
        }
        result
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => {
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&self.path)?;
                let size = file.metadata()?.len();
                (file, size)
            }
        };
        file.write_all(bytes)?;
        size += bytes.len() as u64;
        if size >= self.bytes_max {
            drop(file);
            return self.rotate();
        }
        self.open = Some((file, size));
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        let name = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.files).rev() {
            if name(number).exists() {
                std::fs::rename(name(number), name(number + 1))?;
            }
        }
        if self.files == 0 {
            return std::fs::remove_file(&self.path);
        }
        std::fs::rename(&self.path, name(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_rotated_and_the_oldest_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::new(&path, 10, 2);
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
        let mut log = Log::new(&path, 100, 2);
        assert!(log.append("x\n").is_err());
        std::fs::create_dir(dir.path().join("missing")).unwrap();
        log.append("x\n").unwrap();
    }
}

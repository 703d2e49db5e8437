//! Where lines wait for whoever reads stderr, and who writes them.
//!
//! A thread of the log's own writes, behind a queue. Lines for which it has no room are let go, and so are those that
//! cannot be written; both are counted, and told of once a line can be written again.

use super::line;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait, at most: of about a hundred bytes each, of [`LINE_BYTES_MAX`] never more. 64 MiB, then.
pub(super) const WAITING_MAX: usize = 8192;

/// A line (of a panic with its trace, or of a library that prints what it reads) is cut behind so many bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// What stands where one was cut.
const CUT: &str = "… (cut)\n";

/// At the end of the process whoever reads stderr is waited for so long.
pub(super) const END_MAX: Duration = Duration::from_millis(1500);

/// Where somebody else has stderr return at once rather than wait, it is tried again after this time.
const AGAIN: Duration = Duration::from_millis(10);

/// The process' log. Dropped, it has what waits written, and takes nothing more.
#[derive(Debug)]
#[must_use = "the log ends where it is dropped"]
pub struct Log {
    writing: Option<WorkerGuard>,
}

impl Drop for Log {
    fn drop(&mut self) {
        // Where nobody reads, this might say so on stdout, which nobody may read either.
        if let Some(writing) = self.writing.take() {
            aside(END_MAX, move || drop(writing));
        }
    }
}

/// Does what may hang on a thread of its own; the process ends without it.
pub(super) fn aside(at_most: Duration, work: impl FnOnce() + Send + 'static) {
    let (ends, ended) = sync_channel::<()>(0);
    let begun = std::thread::Builder::new()
        .name("last words".to_owned())
        .spawn(move || {
            let _ends = ends;
            work();
        });
    if begun.is_ok() {
        let _in_time = ended.recv_timeout(at_most);
    }
}

/// What waits to be written there, so many lines at most; who writes it; and how many were not.
pub(super) fn queue(
    to: impl Write + Send + Sync + 'static,
    ranked: bool,
    most: usize,
) -> (Entrance, Log, Missing) {
    let missing = Missing::default();
    let outlet = Outlet {
        to: Patient(to),
        ranked,
        missing: missing.clone(),
        told: 0,
    };
    let (waiting, writing) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(most)
        .thread_name("log")
        .finish(outlet);
    let _first = missing.let_go.set(waiting.error_counter());
    let writing = Some(writing);
    (Entrance(waiting), Log { writing }, missing)
}

/// Lines that never came to be written. Clones count the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Missing {
    let_go: Arc<OnceLock<ErrorCounter>>,
    unwritten: Arc<AtomicU64>,
}

impl Missing {
    /// Since the start.
    pub(super) fn count(&self) -> u64 {
        let let_go = self.let_go.get().map_or(0, ErrorCounter::dropped_lines);
        let let_go = u64::try_from(let_go).unwrap_or(u64::MAX);
        let_go.saturating_add(self.unwritten.load(Ordering::Relaxed))
    }
}

/// Where lines go in, each whole. It neither waits nor fails.
#[derive(Clone, Debug)]
pub(super) struct Entrance(NonBlocking);

impl Write for Entrance {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match line.get(..LINE_BYTES_MAX) {
            Some(begins) if line.len() > LINE_BYTES_MAX => {
                let cut = format!("{}{CUT}", String::from_utf8_lossy(begins));
                self.0.write_all(cut.as_bytes())?;
            }
            Some(_) | None => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Entrance {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Waits where what it writes to will not.
struct Patient<W>(W);

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Where lines are written, and told of that were not.
struct Outlet<W> {
    to: Patient<W>,
    ranked: bool,
    missing: Missing,
    /// Of these it was said.
    told: u64,
}

impl<W: Write> Write for Outlet<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.to.write(bytes);
        if matches!(&done, Err(fault) if fault.kind() != ErrorKind::Interrupted) {
            self.missing.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    /// All that waited was written.
    fn flush(&mut self) -> io::Result<()> {
        let missing = self.missing.count();
        let more = missing.saturating_sub(self.told);
        if more > 0 {
            let text = format!(
                "{more} lines of this log are missing before this one: whoever reads stderr was too slow or away, and nobody waits for that; {missing} since the start"
            );
            let line = line(self.ranked, Level::WARN, &text);
            self.to.write_all(line.as_bytes())?;
            self.told = missing;
        }
        self.to.flush()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::mpsc::{Receiver, SyncSender};

    /// What was written.
    #[derive(Clone, Default)]
    pub(in crate::app::logging) struct Kept(pub(in crate::app::logging) Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A reader that takes nothing until it is let.
    struct Stopped {
        goes_on: Mutex<Receiver<()>>,
        kept: Kept,
    }

    impl Write for Stopped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _it_goes_on_for_good = self.goes_on.lock().recv();
            self.kept.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stopped() -> (Stopped, SyncSender<()>, Kept) {
        let (go_on, goes_on) = sync_channel(0);
        let kept = Kept::default();
        let reader = Stopped {
            goes_on: Mutex::new(goes_on),
            kept: kept.clone(),
        };
        (reader, go_on, kept)
    }

    #[test]
    fn nobody_waits_for_a_reader_that_has_stopped_and_what_is_missing_is_told() {
        let (reader, go_on, kept) = stopped();
        let (mut waiting, log, missing) = queue(reader, true, 4);
        for nth in 0..100 {
            waiting.write_all(format!("{nth}\n").as_bytes()).unwrap();
        }
        let let_go = missing.count();
        // One may have been taken out by who cannot write it.
        assert!(let_go == 95 || let_go == 96, "{let_go}");
        drop(go_on);
        let written = || String::from_utf8(kept.0.lock().clone()).unwrap();
        for _ in 0..6_000 {
            if written().contains("missing") {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(log);
        let written = written();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines.len() as u64, 100 - let_go + 1, "{written}");
        let told = lines[lines.len() - 1];
        assert!(told.starts_with("<4>20"), "{told}");
        let wanted = format!(" WARN {let_go} lines of this log are missing");
        assert!(told.contains(&wanted), "{told}");
    }

    #[test]
    fn the_end_waits_for_no_reader_either() {
        let (reader, go_on, kept) = stopped();
        let (mut waiting, log, _missing) = queue(reader, false, 4);
        for _ in 0..9 {
            waiting.write_all(b"a line\n").unwrap();
        }
        // It would never return.
        drop(log);
        assert!(kept.0.lock().is_empty());
        drop(go_on);
    }

    /// Finding: what could not be written was in no count.
    #[test]
    fn what_cannot_be_written_is_missing_and_what_may_be_soon_is_not() {
        struct Away(Vec<ErrorKind>, Vec<u8>);
        impl Write for Away {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0
                    .pop()
                    .map_or_else(|| self.1.write(bytes), |kind| Err(kind.into()))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut outlet = Outlet {
            to: Patient(Away(
                vec![ErrorKind::BrokenPipe, ErrorKind::WouldBlock],
                Vec::new(),
            )),
            ranked: false,
            missing: Missing::default(),
            told: 0,
        };
        assert!(outlet.write_all(b"one\n").is_err());
        outlet.to.0.0 = vec![ErrorKind::WouldBlock; 3];
        outlet.write_all(b"two\n").unwrap();
        assert_eq!(outlet.missing.count(), 1);
        outlet.flush().unwrap();
        outlet.flush().unwrap();
        let written = String::from_utf8(outlet.to.0.1).unwrap();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines.len(), 2, "{written}");
        assert!(
            lines[0] == "two" && lines[1].contains("1 lines of this log are missing"),
            "{written}"
        );
    }

    #[test]
    fn a_line_is_cut_where_it_is_too_long() {
        let kept = Kept::default();
        let (mut waiting, log, missing) = queue(kept.clone(), false, 4);
        waiting.write_all(&vec![b'x'; 3 * LINE_BYTES_MAX]).unwrap();
        waiting.write_all(b"short\n").unwrap();
        drop(log);
        let written = String::from_utf8(kept.0.lock().clone()).unwrap();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(
            (lines.len(), lines[0].len()),
            (2, LINE_BYTES_MAX + CUT.len() - 1)
        );
        assert!(lines[0].ends_with("… (cut)") && lines[1] == "short");
        assert_eq!(missing.count(), 0);
    }
}

//! The log: lines for people on stderr, as many as `log.filter` says. What it says may change while the process runs.
//!
//! Nobody who logs waits for who reads stderr, the relay's threads above all: a thread of the log's own writes, behind a
//! queue. Lines for which it has no room are let go, counted, and told of once there is room again.

use jiff::Timestamp;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Lines that wait for whoever reads stderr, at most: of about a hundred bytes each.
const WAITING_MAX: usize = 8192;

/// At the end of the process whoever reads stderr is waited for so long.
const END_MAX: Duration = Duration::from_millis(1500);

/// Has the process' log go by another filter; none before it has begun.
static FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Lines of the process' log that were let go; none before it has begun.
static LET_GO: OnceLock<ErrorCounter> = OnceLock::new();

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

/// Begins. `filter` is in the words of `RUST_LOG`; an empty one is for what that says, or `info` where it says nothing.
/// From here on a panic is told in the log, too.
pub fn log_to_stderr(filter: &str) -> Log {
    let ranked = is_journals();
    let (waiting, log) = queue(io::stderr(), ranked, WAITING_MAX);
    let _first = LET_GO.set(waiting.error_counter());
    let of_panics = waiting.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let _it_never_fails = of_panics.clone().write_all(told(ranked, panic).as_bytes());
    }));
    let lines = tracing_subscriber::fmt()
        .with_writer(waiting)
        .with_ansi(io::stderr().is_terminal())
        // It would be told on stderr, at once.
        .log_internal_errors(false)
        .event_format(Lines {
            line: Format::default().with_target(false),
            ranked,
        })
        .with_env_filter(meant(filter))
        .with_filter_reloading();
    let handle = lines.reload_handle();
    lines.init();
    let _first = FILTER.set(Box::new(move |filter| {
        if let Err(error) = handle.reload(filter) {
            tracing::error!(%error, "the log's filter stays as it was; this is a fault of understudy's");
        }
    }));
    log
}

/// Lines that were let go since the start, as whoever reads stderr was too slow.
pub(super) fn let_go() -> u64 {
    LET_GO.get().map_or(0, |lines| lines.dropped_lines() as u64)
}

/// Says on stderr why a process ends that serves no more, and waits no longer than a moment for whoever reads it.
pub fn say_last(words: String) {
    aside(END_MAX, move || {
        let _nobody_is_left_to_be_told = writeln!(io::stderr(), "{words}");
    });
}

/// Does what may hang on a thread of its own; the process ends without it.
fn aside(at_most: Duration, work: impl FnOnce() + Send + 'static) {
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

/// What waits to be written there, so many lines at most, and who writes it.
fn queue(to: impl Write + Send + Sync + 'static, ranked: bool, most: usize) -> (NonBlocking, Log) {
    let let_go = Arc::new(OnceLock::new());
    let outlet = Outlet {
        to,
        ranked,
        let_go: Arc::clone(&let_go),
        told: 0,
    };
    let (waiting, writing) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(most)
        .thread_name("log")
        .finish(outlet);
    let _first = let_go.set(waiting.error_counter());
    let writing = Some(writing);
    (waiting, Log { writing })
}

/// Where lines are written, and told of that were not.
struct Outlet<W> {
    to: W,
    ranked: bool,
    let_go: Arc<OnceLock<ErrorCounter>>,
    /// Of these it was said.
    told: usize,
}

impl<W: Write> Write for Outlet<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    /// All that waited was written.
    fn flush(&mut self) -> io::Result<()> {
        let let_go = self.let_go.get().map_or(0, ErrorCounter::dropped_lines);
        let more = let_go.saturating_sub(self.told);
        if more > 0 {
            self.told = let_go;
            let text = format!(
                "{more} lines of this log are missing before this one: whoever reads stderr was too slow, and nobody waits for that; {let_go} since the start"
            );
            let line = line(self.ranked, Level::WARN, &text);
            self.to.write_all(line.as_bytes())?;
        }
        self.to.flush()
    }
}

/// A line as the others are, of what does not come by them.
fn line(ranked: bool, level: Level, text: &str) -> String {
    let rank = if ranked {
        format!("<{}>", priority(level))
    } else {
        String::new()
    };
    format!("{rank}{:.6} {level:>5} {text}\n", Timestamp::now())
}

/// The line of a panic.
fn told(ranked: bool, panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let why = panic.payload_as_str().unwrap_or("it does not say why");
    let at = panic.location().map(ToString::to_string);
    let at = at.unwrap_or_else(|| "nobody knows where".to_owned());
    let mut text = format!("thread {name} panicked at {at}: {why}");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("\n{trace}"));
    }
    line(ranked, Level::ERROR, &text)
}

/// Goes by another filter from now on.
pub(super) fn go_by(filter: &str) {
    if let Some(set) = FILTER.get() {
        set(meant(filter));
    }
}

/// Whether stderr is systemd's journal, by what systemd.exec(5) says of `JOURNAL_STREAM`.
fn is_journals() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let stderr = rustix::fs::fstat(io::stderr()).ok();
    stream.is_some()
        && stream == stderr.map(|stderr| format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// A line as ever, for the journal behind its priority, by which `journalctl -p` chooses (sd-daemon(3)).
struct Lines {
    line: Format,
    ranked: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.ranked {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        self.line.format_event(context, writer, event)
    }
}

/// In syslog's numbers.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn meant(filter: &str) -> EnvFilter {
    if filter.is_empty() {
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"))
    } else {
        EnvFilter::new(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::mpsc::{Receiver, SyncSender};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(ranked: bool) -> Vec<String> {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(Lines {
                line: Format::default().with_target(false),
                ranked,
            })
            .finish();
        tracing::subscriber::with_default(lines, || {
            tracing::error!("it broke");
            tracing::warn!("it may");
            tracing::info!("it serves");
        });
        let said = String::from_utf8(kept.0.lock().clone()).unwrap();
        said.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_journal_is_told_each_lines_priority_and_a_terminal_is_not() {
        let ranked = said(true);
        let [broke, may, serves] = ranked.as_slice() else {
            panic!("{ranked:?}");
        };
        assert!(
            broke.starts_with("<3>20") && broke.ends_with("it broke"),
            "{broke}"
        );
        assert!(may.starts_with("<4>20") && may.ends_with("it may"), "{may}");
        assert!(
            serves.starts_with("<6>20") && serves.ends_with("it serves"),
            "{serves}"
        );
        assert!(said(false).iter().all(|line| line.starts_with("20")));
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
        let (mut waiting, log) = queue(reader, true, 4);
        for nth in 0..100 {
            waiting.write_all(format!("{nth}\n").as_bytes()).unwrap();
        }
        let let_go = waiting.error_counter().dropped_lines();
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
        assert_eq!(lines.len(), 100 - let_go + 1, "{written}");
        let told = lines[lines.len() - 1];
        assert!(told.starts_with("<4>20"), "{told}");
        let wanted = format!(" WARN {let_go} lines of this log are missing");
        assert!(told.contains(&wanted), "{told}");
    }

    #[test]
    fn the_end_waits_for_no_reader_either() {
        let (reader, go_on, kept) = stopped();
        let (mut waiting, log) = queue(reader, false, 4);
        for _ in 0..9 {
            waiting.write_all(b"a line\n").unwrap();
        }
        // It would never return.
        drop(log);
        assert!(kept.0.lock().is_empty());
        drop(go_on);
    }

    #[test]
    fn a_line_that_comes_by_itself_looks_like_the_others() {
        let whole = said(false);
        let own = line(false, Level::WARN, "it may");
        // But for the time.
        let text = |line: &str| line.split_once('Z').map(|(_, text)| text.to_owned());
        assert_eq!(text(own.trim_end()), text(&whole[1]));
        assert_eq!(own.trim_end().len(), whole[1].len(), "{own} {}", whole[1]);
    }
}

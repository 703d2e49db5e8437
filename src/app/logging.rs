//! The log: lines for people on stderr, as many as `log.filter` says. What it says may change while the process runs.
//!
//! Nobody who logs waits for who reads stderr, the relay's threads above all: what is said goes into a queue (`outlet`).

mod outlet;

pub use outlet::Log;

use jiff::Timestamp;
use outlet::{END_MAX, Missing, WAITING_MAX, aside, queue};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Has the process' log go by another filter; none before it has begun.
static FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Lines that are missing from the process' log; none before it has begun.
static MISSING: OnceLock<Missing> = OnceLock::new();

/// Begins. `filter` is in the words of `RUST_LOG`; an empty one is for what that says, or `info` where it says nothing.
/// From here on a panic is told in the log, too.
pub fn log_to_stderr(filter: &str) -> Log {
    let ranked = is_journals();
    let (waiting, log, missing) = queue(io::stderr(), ranked, WAITING_MAX);
    let _first = MISSING.set(missing);
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

/// Lines that are missing from the log since the start: whoever reads stderr was too slow, or has left.
pub(super) fn missing() -> u64 {
    MISSING.get().map_or(0, Missing::count)
}

/// Says on stderr why a process ends that serves no more, and waits no longer than a moment for whoever reads it.
pub fn say_last(words: &str) {
    let mut said = words.to_owned();
    if is_journals() {
        said = ranked_lines(Level::ERROR, words);
    }
    aside(END_MAX, move || {
        let _nobody_is_left_to_be_told = writeln!(io::stderr(), "{said}");
    });
}

/// The journal reads a priority from each line.
fn ranked_lines(level: Level, text: &str) -> String {
    let rank = format!("<{}>", priority(level));
    let lines: Vec<String> = text.lines().map(|line| format!("{rank}{line}")).collect();
    lines.join("\n")
}

/// A line as the others are, of what does not come by them.
fn line(ranked: bool, level: Level, text: &str) -> String {
    let line = format!("{:.6} {level:>5} {text}", Timestamp::now());
    if ranked {
        return ranked_lines(level, &line) + "\n";
    }
    line + "\n"
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
    use outlet::tests::Kept;

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

    #[test]
    fn a_line_that_comes_by_itself_looks_like_the_others() {
        let whole = said(false);
        let own = line(false, Level::WARN, "it may");
        // But for the time.
        let text = |line: &str| line.split_once('Z').map(|(_, text)| text.to_owned());
        assert_eq!(text(own.trim_end()), text(&whole[1]));
        assert_eq!(own.trim_end().len(), whole[1].len(), "{own} {}", whole[1]);
    }

    #[test]
    fn each_line_of_what_is_said_last_has_its_priority() {
        let said = ranked_lines(Level::ERROR, "it broke\nat the end");
        assert_eq!(said, "<3>it broke\n<3>at the end");
        let own = line(true, Level::ERROR, "panicked\n   0: somewhere");
        assert!(
            own.starts_with("<3>20") && own.ends_with("\n<3>   0: somewhere\n"),
            "{own}"
        );
    }
}

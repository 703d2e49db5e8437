//! The log: lines for people on stderr, as many as `log.filter` says. What it says may change while the process runs.

use std::fmt;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Has the process' log go by another filter; none before it has begun.
static FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Begins. `filter` is in the words of `RUST_LOG`; an empty one is for what that says, or `info` where it says nothing.
pub fn log_to_stderr(filter: &str) {
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .event_format(Lines {
            line: Format::default().with_target(false),
            ranked: is_journals(),
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
    let stderr = rustix::fs::fstat(std::io::stderr()).ok();
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
    use std::io::{self, Write};
    use std::sync::Arc;

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
}

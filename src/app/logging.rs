//! The log: lines for people on stderr, as many as `log.filter` says. What it says may change while the process runs.

use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

/// Has the process' log go by another filter; none before it has begun.
static FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Begins. `filter` is in the words of `RUST_LOG`; an empty one is for what that says, or `info` where it says nothing.
pub fn log_to_stderr(filter: &str) {
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
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

fn meant(filter: &str) -> EnvFilter {
    if filter.is_empty() {
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"))
    } else {
        EnvFilter::new(filter)
    }
}

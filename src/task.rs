//! The one place where tasks are spawned: each has a name, and its owner keeps the handle.

use std::future::Future;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// Spawns a task on the current runtime. The owner keeps the handle and sees to the task's end.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.instrument(tracing::debug_span!("task", name)))
}

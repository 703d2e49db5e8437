//! The one place where tasks are spawned: each has a name, and its owner keeps the handle.

use std::future::Future;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// Spawns a task on the current runtime. The owner keeps the handle and sees to the task's end.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_on(&Handle::current(), name, future)
}

/// Spawns a task on a runtime. The owner keeps the handle and sees to the task's end. A name that
/// nobody logs costs the task nothing.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn spawn_on<F>(runtime: &Handle, name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let span = tracing::debug_span!("task", name);
    if span.is_disabled() {
        runtime.spawn(future)
    } else {
        runtime.spawn(future.instrument(span))
    }
}

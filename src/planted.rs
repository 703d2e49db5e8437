//! Planted bugs, which the simulation must catch. Compiled only with the feature `simulation`
//! and off unless a test switches one on for its own thread; and what measures the replay alone.

use std::cell::Cell;
use std::sync::OnceLock;

/// A bug that breaks one of the invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The relay loses a byte of an answer.
    DropByte,
    /// The relay waits for room behind the tee.
    AwaitTee,
    /// A verdict is recorded twice.
    CountTwice,
    /// The tee lets in more than its budget.
    Overfill,
    /// A lost write taints nothing.
    Untainted,
    /// Reads do not wait for commits.
    ReadsOvertake,
    /// Commits do not wait for reads.
    CommitsOvertakeReads,
    /// Writes do not wait for commits and rollbacks.
    WritesOvertake,
    /// The end of a transaction waits for other transactions' writes.
    EndsWaitForWrites,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether `bug` is planted on this thread.
#[must_use]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// What a run is for that measures the replay alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// The replay as it is.
    Ordered,
    /// Without the order across sessions.
    Unordered,
}

/// Whether this process measures the replay alone, by the environment variable
/// `UNDERSTUDY_MEASURES` (`ordered`, `unordered`): differences then are taken for equal, as without
/// the order there are many, and to keep them costs what is not to be measured.
#[must_use]
pub fn measures() -> Option<Measured> {
    static MEASURED: OnceLock<Option<Measured>> = OnceLock::new();
    *MEASURED.get_or_init(|| match std::env::var("UNDERSTUDY_MEASURES").as_deref() {
        Ok("ordered") => Some(Measured::Ordered),
        Ok("unordered") => Some(Measured::Unordered),
        _ => None,
    })
}

/// Plants a bug on this thread, or removes it.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

//! Planted bugs, which the simulation must catch. Compiled only with the feature `simulation`
//! and off unless a test switches one on for its own thread; and what measures the replay alone.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Duration;

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
    /// Sessions are let go on the new primary before it is recorded.
    LetGoEarly,
    /// The roles are changed without waiting for the shadow.
    Undrained,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    static JOBS_MAX: Cell<Option<usize>> = const { Cell::new(None) };
}

/// With so many jobs at its replays a mirror leaves unread what comes more, where a test says so: so few
/// that this happens in a short history.
#[must_use]
pub fn jobs_max() -> Option<usize> {
    JOBS_MAX.get()
}

/// Says so for the mirrors that are started on this thread, or takes it back.
pub fn plant_jobs_max(jobs: Option<usize>) {
    JOBS_MAX.set(jobs);
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

/// How long a cutover of this process pauses at a place of that name, by the environment variable
/// `UNDERSTUDY_PLANTED_PAUSE` (`switching:2000`: there, for two seconds), so that a test can kill it
/// there. The places are the states of the machine, entered and recorded, before they act; `whole`: a
/// proxy of a fleet has said so, and nobody has switched yet; and
/// `switched`: the record of the roles is committed, and no session is let go yet.
#[must_use]
pub fn pause(at: &str) -> Option<Duration> {
    static PLANTED: OnceLock<Option<(String, Duration)>> = OnceLock::new();
    let planted = PLANTED.get_or_init(|| parse(&std::env::var("UNDERSTUDY_PLANTED_PAUSE").ok()?));
    let (place, pause) = planted.as_ref()?;
    (place == at).then_some(*pause)
}

fn parse(planted: &str) -> Option<(String, Duration)> {
    let (place, ms) = planted.split_once(':')?;
    Some((place.to_owned(), Duration::from_millis(ms.parse().ok()?)))
}

/// Plants a bug on this thread, or removes it.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_place_and_its_milliseconds() {
        let two_seconds = ("switching".to_owned(), Duration::from_secs(2));
        assert_eq!(parse("switching:2000"), Some(two_seconds));
        assert_eq!(parse("switching"), None);
        assert_eq!(parse("switching:soon"), None);
        assert_eq!(pause("switching"), None);
    }
}

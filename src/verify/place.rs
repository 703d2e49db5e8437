//! A repair's place in the mirror's order: what a run asks of the understudy that it runs in before it writes.

use std::time::Duration;

/// A place that was reached: behind every dark write on the table that came before, and before every one that comes
/// later. Until it is dropped those wait, and no cutover turns the roles.
pub trait Place: Send + Sync {
    /// Whether it still is one; asked right before each statement.
    ///
    /// # Errors
    /// Nothing may be written in it any more, and why.
    fn holds(&self) -> Result<(), String>;

    /// How long it may be kept.
    fn at_most(&self) -> Duration;
}

/// Why there is no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// Not now; it may be asked for again.
    Later(String),
    /// Never again in this run.
    Never(String),
}

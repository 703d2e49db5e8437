//! Two answers, one verdict. Pure: values in, values out.
//!
//! A ladder, cheapest rung first (see `ladder`): how the answers ended, then what the column
//! definitions say, then the rows' digests; cells are decoded only where the digests differ, and
//! only from the samples. What cannot be told from the samples is *not compared* with its reason,
//! never a guess. What this module refuses: to look at a clock, to ask a server again, to word an
//! error's text into a verdict's detail, and to put a literal anywhere but into the examples.

pub mod verdict;

pub mod causes;
mod clocks;
pub mod errors;
mod key;
mod ladder;

pub use clocks::ClockColumns;

mod metadata;
mod rows;

mod align;
mod identity;
mod order;

mod cells;
mod temporal;

mod example;
mod findings;
mod sample;

use crate::config;
use crate::sql::Statement;
use crate::wire::answer::Answer;
use std::time::Duration;
use verdict::Verdict;

/// What a comparison must know besides the two answers.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The payload of the command that both servers answered, its first byte included.
    pub command: &'a [u8],
    /// The command's statements, one for each result in turn. Fewer than there are results, or
    /// none, where they are not known: then neither order nor keys can be judged.
    pub statements: &'a [Statement],
    /// What is tolerated, and how much is kept for examples.
    pub rules: &'a config::Measure,
    /// The replay put the primary's generated key into the statement, so the shadow generated
    /// none and its `last_insert_id` says nothing.
    pub key_pinned: bool,
    /// Columns of tables that hold the clock.
    pub clock_columns: &'a ClockColumns,
    /// So much later than the primary the shadow ran the command: what reads the clock there may be
    /// as much later.
    pub behind: Duration,
    /// Whether the shadow's transactions are opened and closed by the client's own statements.
    /// Not so where the mirror wraps a write to roll it back: then IN_TRANS says nothing.
    pub transactions_mirrored: bool,
}

/// Compares what the two servers answered to one command.
#[must_use]
pub fn compare(primary: &Answer, shadow: &Answer, context: &Context<'_>) -> Verdict {
    ladder::climb(primary, shadow, context)
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod notation;
#[cfg(test)]
mod scenarios;

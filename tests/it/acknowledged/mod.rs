//! What clients were told, against what a server holds: the judge of every cutover.
//!
//! A client remembers of each write whether it was acknowledged, refused, or broken off before an
//! answer came. A server is right if it holds what was acknowledged exactly once, what was refused
//! not at all, what nobody knows at most once and whole, and nothing else. Pure: rows come as values,
//! so that a store which loses, doubles or half-applies can be made up (`fake`).

#[cfg(test)]
mod fake;
mod held;
mod judge;
mod memory;
mod pauses;

pub use held::{Held, differences};
pub use judge::judge;
pub use memory::{Memory, Move, Outcome, Write};
pub use pauses::{Timed, met, quantile};

/// What each account holds in the beginning.
pub const BALANCE: i64 = 1_000;

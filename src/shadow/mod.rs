//! Replays what clients did on the shadow, in order, and says what became of each command.
//!
//! The dispatcher drains the tee, keeps every session's journal and decides; one task for each
//! mirrored session replays and compares. Every command with an answer ends in exactly one
//! observation in the ledger. Nothing here is ever waited for by the relay, and nothing here
//! knows of it.

pub mod control;

mod breaker;
mod journal;
mod order;
mod policy;
mod prepared;
mod recent;
mod transaction;

pub use control::Control;

//! Data at rest: whether the shadow has the rows that the primary has.
//!
//! The core is pure: `types`, `number`, `json`, `value` say when two values are one; `shape` compares
//! definitions; `plan` says by which key a table is walked; `rows` and `buckets` compare; `statements` words
//! the questions; `wish` is what was asked for, `board` how it stands, `cursor` how far a table has come.
//!
//! Around it: `reader` streams rows, `catalog` asks for definitions and `rights` says what an account sees,
//! `prepare` and `definition` say what there is, `walk` goes through a table, `range` by `range`, as long as it gets on (`lap`) (`heap` through one
//! without a key), `settle` looks again at what looked different until it stays so (a `batch` at a time, beside the walk), `repair` makes the shadow's row the
//! primary's (`mending` does so for a table), `instants` has views of both servers opened at one moment, `gate` gives way to production, `run` does all of it for many tables (each
//! a `table`), and the `verifier` is whom operators ask, as an `inspector`.
//!
//! It reads with the proxy's own accounts and writes nothing but repairs, on the shadow, which whoever runs it
//! puts in the mirror's order ([`gate::Around`]). Nothing is called equal that was not read.

pub mod gate;
pub mod place;
pub mod verifier;
pub mod wish;

mod batch;
mod behind;
mod board;
mod buckets;
mod catalog;
mod cursor;
mod definition;
#[cfg(test)]
mod fake;
mod heap;
mod inspector;
mod instants;
mod json;
mod lap;
mod mending;
mod number;
mod plan;
mod prepare;
mod range;
mod reader;
mod repair;
mod rights;
mod rows;
mod run;
mod settle;
mod shape;
mod statements;
mod table;
mod types;
mod value;
mod walk;

pub use board::Outcome;
pub use gate::{Around, By, CaughtUp, Held, On, Opening, Soon, Sought, Still};
pub use inspector::{Absent, Figures, Inspector, Refused};
pub use instants::HoldFigures;
pub use place::{NoPlace, Place};
pub use verifier::{Verifier, VerifierParts, between};
pub use wish::Wish;

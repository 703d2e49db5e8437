//! Data at rest: whether the shadow has the rows that the primary has.
//!
//! The core is pure: `types`, `number`, `json`, `value` say when two values are one; `shape` compares
//! definitions; `plan` says by which key a table is walked; `rows` and `buckets` compare; `statements` words
//! the questions.
//!
//! Nothing is called equal that was not read.

pub mod buckets;
pub mod json;
pub mod number;
pub mod plan;
pub mod rows;
pub mod shape;
pub mod statements;
pub mod types;
pub mod value;

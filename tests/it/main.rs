//! The one integration binary. `cargo test --features simulation` builds it once. `guide` needs nothing else either.
//!
//! `layers`, `reference`, `reload`, `simulation`, `supervised` and `takeover` need nothing; everything below `lab` runs against real servers,
//! which `tests/bin/with-lab` starts beforehand. A lab that is missing fails those tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, prints what it saw, and waits in real time for real servers"
)]

mod acknowledged;
mod guide;
mod handed;
mod lab;
mod layers;
mod reference;
mod reload;
#[cfg(feature = "simulation")]
mod simulation;
mod supervised;
mod takeover;

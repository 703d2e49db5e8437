//! The bench: understudy beside what a user would pick instead, in one interleaved run.
//!
//! `make bench` starts all of it by itself: a canned backend, a load, the peers, each a process of its own, so
//! that the kernel accounts for each apart. Nothing here judges: it measures, says which goals are
//! missed, and ends with 0. See README.md.

#![allow(
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a bench prints what it saw, reckons in floating point, and ends where its own set-up fails"
)]

mod arguments;
mod process;

mod backend;
mod load;
mod protocol;

mod account;
mod lab;
mod peers;
mod scene;
mod workplace;

mod report;
mod rounds;
mod rows;

use arguments::{Arguments, Work};
use clap::Parser;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.work {
        Some(Work::Backend(backend)) => backend::run(&backend),
        Some(Work::Load(load)) => load::run(&load),
        Some(Work::Child(child)) => process::become_child(&child),
        None => rows::run(&arguments.table),
    }
}

//! understudy: a MySQL wire-protocol shadowing proxy.
//!
//! An application's connection string points here. The [`relay`] answers from the primary and
//! hands each exchange through the [`tee`] to the [`shadow`] side, which replays it on the shadow
//! server, [`compare`]s the two answers and writes what it found into the [`ledger`]. Operators
//! look at it through the [`admin`] door. [`roles`] say who is who; the [`cutover`] is their only writer.
//! Whether both servers have the same rows, [`verify`] finds out.
//!
//! Modules stand in the order in which a newcomer should read them.

pub mod config;
#[cfg(feature = "simulation")]
pub mod planted;
pub mod roles;
pub mod task;
pub mod words;

pub mod ask;
pub mod connect;
pub mod tee;
pub mod wire;

pub mod compare;
pub mod ledger;
pub mod relay;
pub mod shadow;
pub mod sql;

pub mod readiness;
pub mod report;

pub mod cutover;
pub mod verify;

pub mod admin;
pub mod metrics;

pub mod app;
pub mod cli;

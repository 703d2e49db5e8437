//! The cutover on real servers, alone on the machine: MySQL 5.6 and vtgate, sysbench and the checker.
//!
//! | file | proves |
//! |---|---|
//! | `flips` | flips to and fro under load lose and double nothing, and no client sees an error |
//! | `refusals` | a dry run changes nothing; what is refused says why; an abort lets production go on |
//! | `sleepers` | sessions that say nothing meanwhile lose nothing, and new logins only wait |
//! | `stuck` | sessions that cannot move stop a cutover, or end, as the config says |
//! | `fenced` | a fenced old primary refuses everybody's writes but the dark ones |
//! | `kills` | the proxy is killed at every step, and comes up with the one right primary |
//! | `servers` | a server that hangs, is cut off or dies at a step: an abort, or nobody notices; nothing is lost |
//!
//! `tests/bin/cutover` runs all of them in their long form.

mod fenced;
mod flips;
mod kills;
mod refusals;
pub mod scene;
mod servers;
mod sleepers;
mod stuck;

/// A number of the environment.
pub fn number(name: &str, default: u32) -> u32 {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

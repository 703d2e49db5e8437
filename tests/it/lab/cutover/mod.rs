//! The cutover on real servers, alone on the machine: MySQL 5.6 and vtgate, or a MySQL 9.7 and its replica,
//! sysbench and the checker.
//!
//! | file | proves |
//! |---|---|
//! | `flips` | flips to and fro under load lose and double nothing, and no client sees an error |
//! | `refusals` | a dry run changes nothing; what is refused says why; an abort lets production go on |
//! | `sleepers` | sessions that say nothing meanwhile lose nothing, and new logins only wait |
//! | `kills_by_id` | KILL by the id that a client was told first, whichever server answers it now |
//! | `change_user` | CHANGE_USER and RESET_CONNECTION after a flip, and the statements of an `init` behind them |
//! | `unprepared` | a session with a statement that the other side cannot prepare is carried all the same |
//! | `stuck` | sessions that cannot move stop a cutover, or end, as the config says |
//! | `fenced` | a fenced old primary refuses everybody's writes but the dark ones |
//! | `kills` | the proxy is killed at every step, and comes up with the one right primary |
//! | `replicated` | replication feeds the shadow: each way of catching up, replication that stands still, a way back that waits for its end |
//! | `options` | the fence in hard times, the hooks, what a soak that fails brings |
//! | `servers` | a server that hangs, is cut off or dies at a step: an abort, or nobody notices; nothing is lost |
//!
//! `tests/bin/cutover` runs all of them in their long form.

mod change_user;
mod fenced;
mod flips;
mod kills;
mod kills_by_id;
mod options;
mod refusals;
pub mod replica;
mod replicated;
pub mod scene;
mod servers;
mod sleepers;
mod stuck;
mod unprepared;

/// A number of the environment.
pub fn number(name: &str, default: u32) -> u32 {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

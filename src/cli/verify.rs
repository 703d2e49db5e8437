//! `understudy verify`: whether the shadow has the rows that the primary has.
//!
//! Asks a running understudy and shows how far it is, to the end; with `--config` and none running, it reads both
//! servers itself. The exit code is 0 where all of what was asked for was read and is the same, 1 where something
//! differs (or nothing could be begun), and 2 where nothing differs of what was read, and that was not all.

mod alone;
mod shown;
mod still;

use super::{Client, Format, Remote, Trouble, say, say_json, whoami};
use crate::config;
use crate::verify::Wish;
use clap::Args;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    asked: Asked,
    /// Tell how the run under way (or the last one) stands.
    #[arg(long, group = "other")]
    status: bool,
    /// Have the run under way wait.
    #[arg(long, group = "other")]
    pause: bool,
    /// Let it go on.
    #[arg(long, group = "other")]
    resume: bool,
    /// End it; what was found stays.
    #[arg(long, group = "other")]
    abort: bool,
    /// Begin it, and do not wait for its end.
    #[arg(long)]
    detach: bool,
    /// Without a running understudy: read both servers of this config file, and record it in its ledger.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["other", "detach", "admin", "token_file"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

/// What is to be compared.
#[derive(Args, Debug)]
struct Asked {
    /// Tables: database.table, database.*, or a table in any database; without it all of the primary's.
    #[arg(
        long,
        value_name = "TABLES",
        value_delimiter = ',',
        conflicts_with = "other"
    )]
    tables: Vec<String>,
    /// How: "chunks" compares range by range under live traffic; "snapshot" compares both servers as they were at one
    /// instant, for which the running understudy has all sessions wait at their boundary, milliseconds.
    #[arg(long, value_name = "MODE", conflicts_with = "other")]
    mode: Option<String>,
    /// With mode "snapshot", where replication feeds the shadow: the primary locks one table at a time for it (LOCK
    /// TABLES … READ, milliseconds), so that writers which go past this proxy stand still too.
    #[arg(long, requires = "mode", conflicts_with = "other")]
    lock: bool,
    /// Read this share of the ranges alone, such as 1%.
    #[arg(long, value_name = "SHARE", conflicts_with = "other")]
    sample: Option<String>,
    /// Read the rows alone that this condition takes, on both servers.
    #[arg(long = "where", value_name = "CONDITION", conflicts_with = "other")]
    condition: Option<String>,
    /// Read the rows that this finding touched (its tables, where its statements do not say which rows).
    #[arg(long, value_name = "ID", conflicts_with_all = ["other", "tables", "condition"])]
    finding: Option<i64>,
    /// Tables at a time.
    #[arg(long, value_name = "N", conflicts_with = "other")]
    jobs: Option<usize>,
    /// Rows a second at most, both servers together.
    #[arg(long, value_name = "N", conflicts_with = "other")]
    rows_per_second: Option<u64>,
    /// "plan" prints the statements that would repair the shadow, "apply" runs them there.
    #[arg(long, value_name = "HOW", conflicts_with = "other")]
    repair: Option<String>,
    /// Repair although replication feeds the shadow, or others are seen to write past this proxy.
    #[arg(long, requires = "repair")]
    force: bool,
}

impl Asked {
    fn wish(&self) -> Wish {
        Wish {
            tables: self.tables.clone(),
            mode: self.mode.clone(),
            lock: self.lock,
            sample: self.sample.clone(),
            condition: self.condition.clone(),
            finding: self.finding,
            jobs: self.jobs,
            rows_per_second: self.rows_per_second,
            repair: self.repair.clone(),
            force: self.force,
        }
    }
}

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Looks in a row that may fail, about a minute: a run goes on when understudy is started again.
const BLIND_MAX: u32 = 120;

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let wish = arguments.asked.wish();
    wish.meant()
        .map_err(|wrong| Trouble::usage(format!("--{wrong}")))?;
    let format = arguments.remote.format;
    if let Some(file) = &arguments.config {
        let told = alone::run(file, &wish, who().as_deref(), |told| progress(format, told))?;
        return Ok(end(&told, format));
    }
    let client = Client::new(&arguments.remote)?;
    let who = json!({"who": who()});
    let other = if arguments.pause {
        Some(client.post("/api/v1/verify/pause", &who)?)
    } else if arguments.resume {
        Some(client.post("/api/v1/verify/resume", &who)?)
    } else if arguments.abort {
        Some(client.post("/api/v1/verify/abort", &who)?)
    } else if arguments.status {
        Some(client.get("/api/v1/verify", &[])?)
    } else {
        None
    };
    if let Some(told) = other {
        tell(&told, format);
        return Ok(ExitCode::SUCCESS);
    }
    let mut body = json!(wish);
    if let (Some(body), Some(who)) = (body.as_object_mut(), self::who()) {
        body.insert("who".to_owned(), json!(who));
    }
    let begun = client.post("/api/v1/verify", &body)?;
    if arguments.detach {
        tell(&begun, format);
        return Ok(ExitCode::SUCCESS);
    }
    let id = begun
        .pointer("/run/id")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    Ok(end(&follow(&client, id, format)?, format))
}

/// Who asks, where that is somebody: understudy itself is nobody.
fn who() -> Option<String> {
    whoami().filter(|user| !user.eq_ignore_ascii_case(config::OURSELVES))
}

/// Looks until it has ended.
fn follow(client: &Client, id: i64, format: Format) -> Result<Value, Trouble> {
    let mut blind = 0;
    loop {
        std::thread::sleep(PAUSE);
        match client.get("/api/v1/verify", &[]) {
            Ok(told) => {
                blind = 0;
                if told.pointer("/run/id").and_then(Value::as_i64) != Some(id) {
                    return Err(Trouble::failed(format!(
                        "verification {id} is not told any more; understudy verify --status tells how it ended"
                    )));
                }
                if told.pointer("/state").and_then(Value::as_str) == Some("ended") {
                    return Ok(told);
                }
                progress(format, &told);
            }
            Err(super::ClientError::Unreachable(..)) if blind < BLIND_MAX => blind += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// One line that is written over, where somebody looks.
fn progress(format: Format, told: &Value) {
    let mut out = std::io::stderr().lock();
    if format == Format::Table && out.is_terminal() {
        let line = crate::words::harmless(&shown::line(told));
        let _ = write!(out, "\r\x1b[2K{line}");
        let _ = out.flush();
    }
}

fn tell(told: &Value, format: Format) {
    match format {
        Format::Json => say_json(told),
        Format::Table => say(&shown::whole(told)),
    }
}

/// What became of it.
fn end(told: &Value, format: Format) -> ExitCode {
    if format == Format::Table && std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[2K");
    }
    tell(told, format);
    ExitCode::from(code(told))
}

/// See the module.
fn code(told: &Value) -> u8 {
    match told.pointer("/run/outcome").and_then(Value::as_str) {
        Some("equal") => 0,
        Some("different") => 1,
        Some(_) | None => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_whole_and_is_the_same_ends_with_0() {
        for (outcome, expected) in [
            ("equal", 0),
            ("different", 1),
            ("equal_in_part", 2),
            ("unfinished", 2),
            ("aborted", 2),
            ("failed", 2),
            ("left", 2),
        ] {
            let told = json!({"run": {"outcome": outcome}});
            assert_eq!(code(&told), expected, "{outcome}");
        }
        assert_eq!(code(&json!({"run": null})), 2);
    }
}

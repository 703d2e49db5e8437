//! `understudy serve`: runs until it is told to end.

use super::Trouble;
use crate::app::{self, AppError, How};
use crate::config::Config;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The config file; config/understudy.toml tells every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The server that answers, where the ledger cannot be read or does not tell. A ledger that says
    /// otherwise is not overruled.
    #[arg(long, value_name = "NAME")]
    primary: Option<String>,
    /// Take over from the process that serves with this config: it hands over its listeners, lets its sessions end
    /// and ends. Where there is none, this is a start like any other.
    #[arg(long)]
    take_over: bool,
    /// Has another process started that takes over, and ends: that one is nobody's child then.
    #[arg(long, hide = true, requires = "take_over")]
    detached: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    if arguments.detached {
        app::detach().map_err(Trouble::failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(&arguments.config).map_err(Trouble::usage)?;
    // To the end, whatever that is.
    let _log = app::log_to_stderr(&config.log.filter.whole());
    let how = How {
        primary: arguments.primary.as_deref(),
        take_over: arguments.take_over,
    };
    match app::run(config, how) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(AppError::Config(why)) => Err(Trouble::usage(format!(
            "{}: {why}",
            arguments.config.display()
        ))),
        Err(error @ AppError::Failed(_)) => Err(Trouble::failed(error)),
    }
}

//! SIGUSR2: the process starts a new one by the path and with the arguments that it was started with itself, which
//! then asks it to hand over. What stands at that path may be another version by now.

use super::giving::is_the_container;
use crate::task;
use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// The argument that has a process ask.
const TAKE_OVER: &str = "--take-over";

/// The new processes that this one has started; one at a time.
#[derive(Debug, Default)]
pub(in crate::app) struct Heirs {
    last: Option<JoinHandle<()>>,
}

impl Heirs {
    /// Starts one, unless the last one lives.
    pub(in crate::app) fn start(&mut self) {
        if self.last.as_ref().is_some_and(|last| !last.is_finished()) {
            tracing::warn!(
                "SIGUSR2: the process that the last one started lives: there is no second"
            );
            return;
        }
        if let Some(why) = is_the_container(std::process::id()) {
            tracing::error!("SIGUSR2: no new process was started: {why}; this one goes on");
            return;
        }
        match spawn() {
            Ok(heir) => {
                tracing::info!(
                    process = heir.id(),
                    "SIGUSR2: a new process was started, which is to take over"
                );
                self.last = Some(task::spawn("heir", attend(heir)));
            }
            Err(error) => {
                tracing::error!(
                    "SIGUSR2: no new process could be started: {error}; this one goes on. Is the program still at its path?"
                );
            }
        }
    }
}

/// Says how it ended, should it end before this process does.
async fn attend(mut heir: Child) {
    match heir.wait().await {
        Ok(status) => tracing::warn!(
            "the process that was to take over has ended ({status}); its own log says why"
        ),
        Err(error) => {
            tracing::warn!("of the process that was to take over nothing is known: {error}")
        }
    }
}

fn spawn() -> std::io::Result<Child> {
    let mut arguments = std::env::args_os();
    let program = arguments
        .next()
        .ok_or_else(|| std::io::Error::other("this one was started without a name"))?;
    Command::new(program)
        .args(with_take_over(arguments))
        // systemd's, of this process.
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .spawn()
}

fn with_take_over(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    if !arguments.iter().any(|one| one == OsStr::new(TAKE_OVER)) {
        arguments.push(TAKE_OVER.into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_started_with_the_same_arguments_and_asked_to_take_over_once() {
        let with = |arguments: &[&str]| {
            let arguments = arguments.iter().map(OsString::from);
            with_take_over(arguments)
        };
        let expected = ["serve", "--config", "a.toml", "--take-over"];
        assert_eq!(with(&expected[..3]), expected);
        assert_eq!(with(&expected), expected);
    }
}

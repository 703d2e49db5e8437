//! SIGUSR2: the process starts a new one by the path and with the arguments that it was started with itself, which
//! then asks it to hand over. What stands at that path may be another version by now.
//!
//! The new one is started by a process in between that ends at once, so that it is no child of the old one's: to
//! systemd a main process that is not its own child is a stranger for good, of which it does not wait for the end
//! before it kills all that is left.

use super::LETTER;
use super::container::is_the_container;
use super::peer::Peer;
use crate::app::supervisor::Supervisor;
use crate::task;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The argument that has a process ask.
const TAKE_OVER: &str = "--take-over";

/// The argument of the process in between.
const DETACHED: &str = "--detached";

/// A new process that has not taken over by then hangs, and is ended.
const PATIENCE: Duration = LETTER.saturating_mul(3);

/// The new processes that this one has started; one at a time.
#[derive(Debug, Default)]
pub(in crate::app) struct Heirs {
    last: Option<JoinHandle<()>>,
}

impl Heirs {
    /// Starts one, unless the last one lives. `handed` resolves once another process has taken over. Where none does, the
    /// supervisor is told.
    pub(in crate::app) fn start(
        &mut self,
        handed: impl Future<Output = ()> + Send + 'static,
        supervisor: &Arc<Supervisor>,
    ) {
        if self.last.as_ref().is_some_and(|last| !last.is_finished()) {
            tracing::warn!(
                "SIGUSR2: the process that the last one started lives: there is no second"
            );
            return;
        }
        if let Some(why) = is_the_container() {
            tracing::error!("SIGUSR2: no new process was started: {why}; this one goes on");
            supervisor.keeps();
            return;
        }
        match spawn() {
            Ok((between, line)) => {
                let supervisor = Arc::clone(supervisor);
                let attending = async move {
                    if !attend(between, line, PATIENCE, handed).await {
                        supervisor.keeps();
                    }
                };
                self.last = Some(task::spawn("heir", attending));
            }
            Err(error) => {
                tracing::error!(
                    "SIGUSR2: no new process could be started: {error}; this one goes on. Is the program still at its path?"
                );
                supervisor.keeps();
            }
        }
    }
}

/// Stays with it to its end, should that come before this process' own; whether it had taken over. Where it has not in
/// time, its end is now.
async fn attend(
    mut between: Child,
    line: UnixStream,
    patience: Duration,
    handed: impl Future<Output = ()>,
) -> bool {
    let mut line = BufReader::new(line);
    let started = timeout(patience, started(&mut between, &mut line)).await;
    let heir = match started.unwrap_or_else(|_| Err("it hangs, and was ended".to_owned())) {
        Ok(heir) => heir,
        Err(why) => {
            let _gone_already = between.kill().await;
            tracing::error!(
                "SIGUSR2: no new process could be started: {why}; this one goes on. Its own log says more"
            );
            return false;
        }
    };
    tracing::info!(
        process = heir,
        "SIGUSR2: a new process was started, which is to take over"
    );
    let ended = async {
        // Nothing more is said: it only ends.
        let _ended = line.read_line(&mut String::new()).await;
    };
    tokio::pin!(ended);
    let handed = tokio::select! {
        () = &mut ended => None,
        handed = timeout(patience, handed) => Some(handed.is_ok()),
    };
    match handed {
        // What its end means then is for whoever handed over to say.
        Some(true) => {
            ended.await;
            return true;
        }
        Some(false) => {
            tracing::error!(
                "process {heir} was to take over and has not within {} s: it is ended, and this one goes on",
                patience.as_secs()
            );
            let _ended = Peer::new(heir).kill();
            ended.await;
        }
        None => {}
    }
    tracing::warn!("process {heir}, which was to take over, has ended; its own log says why");
    false
}

/// The new process' number, once the one in between has ended.
async fn started(between: &mut Child, line: &mut BufReader<UnixStream>) -> Result<u32, String> {
    let mut said = String::new();
    let read = line.read_line(&mut said).await;
    let status = between.wait().await.map_err(|error| error.to_string())?;
    read.map_err(|error| error.to_string())?;
    let heir = said.trim_end().parse();
    heir.map_err(|_| format!("the one that was to start it ended ({status})"))
}

/// Starts the process in between; on its input it, and then the new one, has the other end of a line to here.
fn spawn() -> io::Result<(Child, UnixStream)> {
    let (here, there) = std::os::unix::net::UnixStream::pair()?;
    here.set_nonblocking(true)?;
    let (program, arguments) = own()?;
    let between = Command::new(program)
        .args(with_take_over(arguments))
        .arg(DETACHED)
        // systemd's, of this process.
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::from(OwnedFd::from(there)))
        .spawn()?;
    Ok((between, UnixStream::from_std(here)?))
}

/// The process in between: starts the new one with the same arguments but for its own, and says its number on the line
/// that both have as their input.
///
/// # Errors
/// It could not be started, or nobody hears that it was.
pub fn detach() -> io::Result<()> {
    let (program, arguments) = own()?;
    let heir = std::process::Command::new(program)
        .args(arguments.filter(|one| one != OsStr::new(DETACHED)))
        .spawn()?;
    let said = format!("{}\n", heir.id());
    rustix::io::write(io::stdin(), said.as_bytes())?;
    Ok(())
}

/// How this process was started.
fn own() -> io::Result<(OsString, std::env::ArgsOs)> {
    let mut arguments = std::env::args_os();
    let program = arguments.next();
    let program = program.ok_or_else(|| io::Error::other("this one was started without a name"))?;
    Ok((program, arguments))
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

    /// A shell in between, which says of another process that this is the new one.
    fn shell(script: &str) -> (Child, UnixStream) {
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let between = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::from(OwnedFd::from(there)))
            .spawn();
        (between.unwrap(), UnixStream::from_std(here).unwrap())
    }

    #[tokio::test]
    async fn a_new_process_that_hangs_is_ended_and_another_may_be_started() {
        let short = Duration::from_millis(500);
        let long = Duration::from_secs(60);
        // The one in between hangs; and the new one does, with the line's end.
        for script in ["exec sleep 600", "exec 3<&0; sleep 600 & echo $! >&3"] {
            let (between, line) = shell(script);
            let over = attend(between, line, short, std::future::pending());
            assert!(!timeout(long, over).await.expect("it was ended"));
        }
    }

    #[tokio::test]
    async fn one_that_has_taken_over_is_let_be_to_its_end() {
        let (between, line) = shell("exec 3<&0; sleep 2 & echo $! >&3");
        let start = tokio::time::Instant::now();
        assert!(attend(between, line, Duration::from_secs(1), async {}).await);
        assert!(start.elapsed() >= Duration::from_millis(1900));
    }
}

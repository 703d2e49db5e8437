//! Commands of the operators that take part in a cutover: run with a time-out, told what happens by
//! their environment, heard by their exit code. Refuses a shell: a command is a list of words.

use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// Bytes of a hook's words that are kept for the record.
const SAID_MAX: u64 = 2048;

/// Why a hook counts as failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    /// The command cannot be started.
    #[error("the hook {program} cannot be started: {source}")]
    Start {
        /// The command's first word.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time, and was killed.
    #[error("the hook {program} did not end within {} s and was killed", .at_most.as_secs_f64())]
    Timeout {
        /// The command's first word.
        program: String,
        /// `cutover.hook_timeout_s`
        at_most: Duration,
    },
    /// It says no.
    #[error("the hook {program} failed ({status}): {said}")]
    Failed {
        /// The command's first word.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The beginning of what it wrote to its error output.
        said: String,
    },
}

/// Runs a hook to its end. `told` are environment variables without their prefix `UNDERSTUDY_`. An
/// empty command is none.
///
/// # Errors
/// It cannot be started, takes too long (it is killed), or exits with another code than 0.
pub(super) async fn run(
    command: &[String],
    told: &[(&str, &str)],
    at_most: Duration,
) -> Result<(), HookError> {
    let Some((program, words)) = command.split_first() else {
        return Ok(());
    };
    let start = |source| HookError::Start {
        program: program.clone(),
        source,
    };
    let named = told
        .iter()
        .map(|(name, value)| (format!("UNDERSTUDY_{name}"), *value));
    let mut command = Command::new(program);
    // What overrides the config may be a password.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UNDERSTUDY_") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(words)
        .envs(named)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let mut group = Group(child.id());
    let mut said = Vec::new();
    let stderr = child.stderr.take();
    let ending = async {
        if let Some(mut stderr) = stderr {
            let _ = (&mut stderr).take(SAID_MAX).read_to_end(&mut said).await;
            // The rest is read, too: a hook that cannot write would end by that.
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        }
        child.wait().await
    };
    let Ok(ended) = tokio::time::timeout(at_most, ending).await else {
        return Err(HookError::Timeout {
            program: program.clone(),
            at_most,
        });
    };
    let status = ended.map_err(start)?;
    group.has_ended();
    if status.success() {
        return Ok(());
    }
    Err(HookError::Failed {
        program: program.clone(),
        status,
        said: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// A hook and what it has started: ended where nobody waits for it any more, because its time is over or
/// because the cutover is aborted.
struct Group(Option<u32>);

impl Group {
    /// It has ended by itself: the number may be another's from now on.
    const fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.and_then(|id| i32::try_from(id).ok());
        let Some(group) = group.and_then(rustix::process::Pid::from_raw) else {
            return;
        };
        let killed = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        if let Err(error) = killed {
            tracing::debug!(%error, "a hook's processes were not ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, at_most: Duration) -> Result<(), HookError> {
        let words = ["sh", "-c", script].map(str::to_owned);
        run(&words, &[("FROM", "legacy"), ("TO", "vitess")], at_most).await
    }

    #[tokio::test]
    async fn a_hook_is_told_what_happens_and_heard_by_its_exit_code() {
        let most = Duration::from_secs(30);
        assert!(run(&[], &[], most).await.is_ok());
        let told = "test $UNDERSTUDY_FROM = legacy && test $UNDERSTUDY_TO = vitess";
        shell(told, most).await.expect("it is told");
        let failed = shell("echo not now >&2; exit 3", most).await.unwrap_err();
        let words = failed.to_string();
        assert!(words.contains("not now") && words.contains('3'), "{words}");
        let none = run(&["/nowhere/hook".to_owned()], &[], most).await;
        assert!(matches!(none, Err(HookError::Start { .. })), "{none:?}");
    }

    /// A hook that waits for a child of its own, whose number it leaves in a file.
    fn hanging(dir: &std::path::Path) -> (String, impl Fn() -> bool + use<>) {
        let mark = dir.join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", mark.display());
        let runs = move || {
            let pid = std::fs::read_to_string(&mark).unwrap_or_default();
            let pid: Option<u32> = pid.trim().parse().ok();
            let stat = pid.map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")));
            stat.is_some_and(|stat| stat.is_ok_and(|stat| !stat.contains(") Z ")))
        };
        (script, runs)
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        for _ in 0..500 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what}");
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let (script, runs) = hanging(dir.path());
        let late = shell(&script, Duration::from_secs(2)).await;
        assert!(matches!(late, Err(HookError::Timeout { .. })), "{late:?}");
        until("its child still runs", || !runs()).await;
    }

    #[tokio::test]
    async fn a_hook_that_nobody_waits_for_any_more_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let (script, runs) = hanging(dir.path());
        let hook = crate::task::spawn("a hook", async move {
            shell(&script, Duration::from_secs(600)).await
        });
        until("it never began", &runs).await;
        hook.abort();
        until("its child still runs", || !runs()).await;
    }
}

//! Processes of the bench's own: each ends with it, however it ends.

use crate::arguments;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process. Killed, by its pid, when dropped.
pub struct Process {
    child: Child,
}

/// How a process is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Only on this processor.
    pub processor: Option<usize>,
    /// At a lower priority by so much.
    pub nice: i32,
}

impl Process {
    /// A program whose output goes into a file. The kernel kills it when this thread ends.
    pub fn start(manner: Manner, command: &[String], log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("{}", log.display()))?;
        let mut all = wrapped(manner, command)?;
        all.stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let child = all.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Self { child })
    }

    /// The same, to be talked to; what it says on stderr is the bench's.
    pub fn talk(manner: Manner, command: &[String]) -> Result<Self> {
        let mut all = wrapped(manner, command)?;
        all.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = all.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Self { child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Fails if it has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it has ended: {status}"),
        }
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a pid")?, signal).context("kill")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bench itself, to become `command`: what the kernel is to do when the parent ends must be said by the child.
fn wrapped(manner: Manner, command: &[String]) -> Result<Command> {
    let mut all = Command::new(std::env::current_exe()?);
    all.arg("child");
    if let Some(processor) = manner.processor {
        all.args(["--processor", &processor.to_string()]);
    }
    if manner.nice != 0 {
        all.args(["--nice", &manner.nice.to_string()]);
    }
    all.arg("--").args(command);
    Ok(all)
}

/// Dies with its parent from now on, and becomes the program.
pub fn become_child(child: &arguments::Child) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if let Some(processor) = child.processor {
        let mut set = rustix::thread::CpuSet::new();
        set.set(processor);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    if child.nice != 0 {
        rustix::process::nice(child.nice)?;
    }
    let (program, arguments) = child.command.split_first().context("a command")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| program.clone())
}

/// Moves those threads of a process to a processor whose names say so.
pub fn move_threads(pid: u32, processor: usize, is_one: impl Fn(&str) -> bool) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(processor);
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let thread = task.file_name().to_str().and_then(|id| id.parse().ok());
        if is_one(name.trim()) {
            rustix::thread::sched_setaffinity(thread.and_then(Pid::from_raw), &set)?;
        }
    }
    Ok(())
}

/// As many descriptors as the system lets us have: a proxy needs two for each client.
pub fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, all);
}

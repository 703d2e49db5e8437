//! What some processes cost from their start to their end: time, CPU and memory, theirs and the two servers'.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// From one look at their memory to the next.
const LOOK: Duration = Duration::from_millis(10);

/// The kernel's ticks of `/proc/*/stat` a second: the same on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent {
    pub(super) wall_s: f64,
    /// User and system, of the processes and what they started.
    pub(super) cpu_s: f64,
    /// The most that those which ran at the same time had, together.
    pub(super) peak_mib: f64,
    /// CPU of the first server and of the second.
    pub(super) servers_s: (f64, f64),
    /// What it should have told, and did not.
    pub(super) missed: Vec<&'static str>,
}

impl Spent {
    /// One after the other.
    pub(super) fn then(self, next: Self) -> Self {
        Self {
            wall_s: self.wall_s + next.wall_s,
            cpu_s: self.cpu_s + next.cpu_s,
            peak_mib: self.peak_mib.max(next.peak_mib),
            servers_s: (
                self.servers_s.0 + next.servers_s.0,
                self.servers_s.1 + next.servers_s.1,
            ),
            missed: Vec::new(),
        }
    }
}

/// A command; what it says goes into a file. Exit codes that are as good as 0.
pub(super) struct Step<'a> {
    pub(super) command: Command,
    pub(super) out: &'a Path,
    pub(super) good: &'a [i32],
}

/// Runs all of them at once, to their ends.
pub(super) fn run(steps: &mut [Step<'_>], servers: [&[u32]; 2]) -> Result<Spent> {
    let of_servers = || -> Result<(f64, f64)> {
        let [first, second] = servers;
        Ok((processes(first)?, processes(second)?))
    };
    let (ours_before, servers_before) = (waited_for()?, of_servers()?);
    let began = Instant::now();
    let mut children = Vec::new();
    for step in steps.iter_mut() {
        let out = std::fs::File::create(step.out)?;
        let child = step
            .command
            .stdin(Stdio::null())
            .stdout(out)
            .spawn()
            .with_context(|| format!("{:?}", step.command))?;
        children.push(Running {
            child,
            peak_kib: 0,
            code: None,
        });
    }
    while children.iter().any(|one| one.code.is_none()) {
        for one in &mut children {
            one.look()?;
        }
        std::thread::sleep(LOOK);
    }
    let wall_s = began.elapsed().as_secs_f64();
    let (ours, servers) = (waited_for()?, of_servers()?);
    let mut peak_kib = 0;
    for (at, one) in children.iter().enumerate() {
        peak_kib += one.peak_kib;
        let step = steps.get(at).context("as many as were started")?;
        ensure!(
            one.code.is_some_and(|code| step.good.contains(&code)),
            "{:?} ended with {:?}",
            step.command,
            one.code
        );
    }
    Ok(Spent {
        wall_s,
        cpu_s: ours - ours_before,
        peak_mib: peak_kib as f64 / 1024.0,
        servers_s: (servers.0 - servers_before.0, servers.1 - servers_before.1),
        missed: Vec::new(),
    })
}

struct Running {
    child: Child,
    peak_kib: u64,
    code: Option<i32>,
}

impl Running {
    fn look(&mut self) -> Result<()> {
        if self.code.is_some() {
            return Ok(());
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        self.peak_kib = self.peak_kib.max(kib.unwrap_or(0));
        if let Some(status) = self.child.try_wait()? {
            self.code = Some(status.code().unwrap_or(-1));
        }
        Ok(())
    }
}

/// CPU seconds of all children that have ended and were waited for.
fn waited_for() -> Result<f64> {
    ticks("/proc/self/stat", [13, 14])
}

fn processes(pids: &[u32]) -> Result<f64> {
    let all = pids
        .iter()
        .map(|pid| ticks(&format!("/proc/{pid}/stat"), [11, 12]));
    all.sum()
}

/// Fields behind the process' name, counted from its state on.
fn ticks(file: &str, fields: [usize; 2]) -> Result<f64> {
    let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    let (_, behind) = text.rsplit_once(')').context("a name")?;
    let of = |nth| -> Result<f64> {
        let word = behind.split_whitespace().nth(nth).context("a field")?;
        Ok(word.parse()?)
    };
    let [one, other] = fields;
    Ok((of(one)? + of(other)?) / TICKS)
}

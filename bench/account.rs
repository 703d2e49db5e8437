//! What a process has cost, from the kernel's own accounting: nanoseconds on a processor and switches of
//! each of its threads, by their names; its memory.
//!
//! A thread that has ended takes its share with it; none of those measured here end under load. The
//! kernel's memory for sockets is in no process's account.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;

/// A process at a moment, or between two.
#[derive(Clone, Debug, Default)]
pub struct Account {
    threads: BTreeMap<String, Thread>,
}

/// All threads of one name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thread {
    /// Time on a processor.
    pub cpu_ns: u64,
    /// Times that it went to sleep by itself, and that it was put aside.
    pub switches: u64,
}

impl Account {
    pub fn of(pid: u32) -> Result<Self> {
        let mut account = Self::default();
        let tasks = format!("/proc/{pid}/task");
        for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
            let path = task?.path();
            let read = |name: &str| fs::read_to_string(path.join(name));
            // It may have ended just now.
            let (Ok(name), Ok(times), Ok(status)) =
                (read("comm"), read("schedstat"), read("status"))
            else {
                continue;
            };
            let thread = account.threads.entry(name.trim().to_owned()).or_default();
            let ns = times.split_whitespace().next();
            thread.cpu_ns += ns.and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
            thread.switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0)
                + field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Ok(account)
    }

    /// What was added since then.
    pub fn since(&self, before: &Self) -> Self {
        let added = self.threads.iter().map(|(name, now)| {
            let then = before.threads.get(name).copied().unwrap_or_default();
            let thread = Thread {
                cpu_ns: now.cpu_ns.saturating_sub(then.cpu_ns),
                switches: now.switches.saturating_sub(then.switches),
            };
            (name.clone(), thread)
        });
        Self {
            threads: added.collect(),
        }
    }

    /// The threads whose name is among these.
    pub fn of_threads(&self, is_one: impl Fn(&str) -> bool) -> Thread {
        let mut all = Thread::default();
        for (_, thread) in self.threads.iter().filter(|(name, _)| is_one(name)) {
            all.cpu_ns += thread.cpu_ns;
            all.switches += thread.switches;
        }
        all
    }
}

/// Memory, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub rss: u64,
    /// Pages that are shared count in part.
    pub pss: u64,
    /// The most that it ever had.
    pub most: u64,
}

impl Memory {
    pub fn of(pid: u32) -> Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self {
            rss: field(&rollup, "Rss:").context("Rss")?,
            pss: field(&rollup, "Pss:").context("Pss")?,
            most: field(&status, "VmHWM:").context("VmHWM")?,
        })
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

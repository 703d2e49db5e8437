//! System calls a request, counted by strace in short runs of their own, for it makes everything slow: the
//! counts hold, nothing else of such a run does.

use super::Bench;
use super::cost::understudy_off;
use crate::arguments::Backend;
use crate::peers::Kind;
use crate::peers::understudy::{Mirror, Setup};
use crate::process::{Manner, Process};
use crate::report::{Details, Outcome};
use crate::scene::{Canned, Contender, Shape};
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::path::Path;
use std::time::Duration;

const SECONDS: f64 = 1.5;

/// Until strace holds all threads; and until it has written what it counted.
const ATTACHES: Duration = Duration::from_millis(500);

/// Kinds of calls that are named, the most frequent.
const NAMED: usize = 6;

pub fn rows(bench: &Bench) -> Result<Outcome> {
    let workplace = &bench.workplace;
    let backend = Canned::start(workplace, &Backend::default())?;
    let shadow = Canned::start(workplace, &Backend::default())?;
    let all = Kind::Understudy(Setup {
        threads: 1,
        mirror: Mirror::All,
        shadow: Some(shadow.port),
        ..Setup::default()
    });
    let kinds = [
        ("HAProxy", Kind::Haproxy { threads: 1 }),
        (
            "MySQL Router",
            Kind::Router {
                threads: 1,
                tls: None,
            },
        ),
        ("understudy, mirror off", understudy_off(1)),
        ("understudy, dark reads and writes", all),
    ];
    let mut rows = Vec::new();
    let many: &[usize] = if bench.is_long() { &[1, 8, 64] } else { &[8] };
    for connections in many.iter().copied() {
        let shape = Shape {
            connections,
            ..Shape::default()
        };
        for (name, kind) in &kinds {
            let contender = Contender::start(workplace, name, kind, backend.port, &shape)?;
            let Some(mut contender) = contender else {
                continue;
            };
            contender.measure(0.3, None)?;
            let (each, most) = count(bench, &mut contender)?;
            rows.push(vec![
                connections.to_string(),
                (*name).to_owned(),
                format!("{each:.2}"),
                most,
            ]);
        }
    }
    Ok(Outcome {
        lines: Vec::new(),
        details: vec![Details {
            title: "system calls a request (strace), all threads, the shadow side's included"
                .to_owned(),
            columns: vec!["connections", "through", "calls/request", "of these"],
            rows,
        }],
    })
}

/// Calls a request, and the most frequent ones.
fn count(bench: &Bench, contender: &mut Contender) -> Result<(f64, String)> {
    let workplace = &bench.workplace;
    let pid = contender.peer.pid().context("a process")?.to_string();
    let file = workplace.file(&format!("strace-{pid}"));
    let mut command = workplace.peer("STRACE").context("strace is not here")?;
    let more = [
        "-c",
        "-f",
        "-q",
        "-p",
        &pid,
        "-o",
        &file.display().to_string(),
    ];
    command.extend(more.map(str::to_owned));
    let strace = Process::start(Manner::default(), &command, &workplace.file("strace.log"))?;
    std::thread::sleep(ATTACHES);
    let requests = contender.load.run(SECONDS, None)?.requests.max(1) as f64;
    strace.signal(Signal::INT)?;
    std::thread::sleep(ATTACHES);
    let mut calls = counted(&file)?;
    calls.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let all: f64 = calls.iter().map(|(_, calls)| calls).sum();
    let most = calls
        .iter()
        .take(NAMED)
        .map(|(name, calls)| format!("{name} {:.2}", calls / requests));
    Ok((all / requests, most.collect::<Vec<_>>().join(", ")))
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall`
fn counted(file: &Path) -> Result<Vec<(String, f64)>> {
    let text = std::fs::read_to_string(file).context("strace wrote nothing; may it trace?")?;
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let calls = words.get(3)?.parse().ok()?;
        let name = words.last().filter(|name| **name != "total")?;
        Some(((*name).to_owned(), calls))
    };
    Ok(text.lines().filter_map(line).collect())
}

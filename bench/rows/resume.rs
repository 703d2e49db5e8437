//! A shadow that hangs for a while and then goes on: the longest time that a client waits for an answer
//! around that moment, beside the same without a hang.

use super::Bench;
use crate::arguments::Backend;
use crate::peers::Kind;
use crate::peers::understudy::{Coverage, Mirror, Setup};
use crate::report::{Details, Goal, Outcome, short};
use crate::rounds::Spread;
use crate::scene::{Canned, Contender, Shape};
use anyhow::Result;
use rustix::process::Signal;
use std::time::Duration;

/// Requests a second: so few that none waits for a processor, but for what the resume makes.
const RATE: f64 = 4_000.0;

/// The run in whose midst the shadow goes on.
const AROUND_S: f64 = 4.0;
const BEFORE: Duration = Duration::from_secs(1);

pub fn rows(bench: &Bench) -> Result<Outcome> {
    let (hangs_s, times) = if bench.is_long() { (26.0, 5) } else { (8.0, 2) };
    let workplace = &bench.workplace;
    let backend = Canned::start(workplace, &Backend::default())?;
    let shadow = Canned::start(workplace, &Backend::default())?;
    let kind = Kind::Understudy(Setup {
        threads: 1,
        mirror: Mirror::All,
        shadow: Some(shadow.port),
        ..Setup::default()
    });
    let shape = Shape::default();
    let Some(mut client) = Contender::start(workplace, "understudy", &kind, backend.port, &shape)?
    else {
        anyhow::bail!("understudy can always be had");
    };
    client.measure(1.0, Some(RATE))?;
    let (mut calm, mut resumed, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let first = Coverage::settled(&client.peer)?;
    for _ in 0..times {
        calm.push(client.load.run(AROUND_S, Some(RATE))?.max / 1000.0);
        Coverage::settled(&client.peer)?;
        shadow.process.signal(Signal::STOP)?;
        client.load.run(hangs_s, Some(RATE))?;
        memory.push(client.peer.memory()?.rss as f64 / 1024.0);
        client.load.begin(AROUND_S, Some(RATE))?;
        std::thread::sleep(BEFORE);
        shadow.process.signal(Signal::CONT)?;
        resumed.push(client.load.came()?.max / 1000.0);
        Coverage::settled(&client.peer)?;
    }
    let coverage = Coverage::settled(&client.peer)?.since(&first);
    let mut outcome = Outcome::default();
    let beside = Spread::of(calm.clone()).map_or(0.0, |calm| calm.median);
    outcome.line(
        format!("longest stall of a client when a shadow that hung for {hangs_s} s resumes"),
        Goal::AtMost(5.0),
        "ms",
        Spread::of(resumed.clone()),
        Some(format!(
            "without a hang {} ms; {}",
            short(beside),
            coverage
                .fault()
                .unwrap_or_else(|| "all was compared afterwards, and matched".to_owned())
        )),
    );
    let each = |values: &[f64]| {
        values
            .iter()
            .map(|value| short(*value))
            .collect::<Vec<_>>()
            .join(", ")
    };
    outcome.details.push(Details {
        title: format!("a shadow that hangs, {RATE} requests a second over 8 connections"),
        columns: vec![
            "longest stall in ms, without",
            "when it resumes",
            "MiB resident at the end of the hang",
        ],
        rows: vec![vec![each(&calm), each(&resumed), each(&memory)]],
    });
    Ok(outcome)
}

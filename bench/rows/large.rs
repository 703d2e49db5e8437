//! Answers of 1 GiB: what a byte costs, and whether memory grows with them.

use super::Bench;
use super::cost::understudy_off;
use crate::arguments::{Ask, Backend};
use crate::peers::Kind;
use crate::peers::understudy::{Mirror, Setup};
use crate::report::{Details, Goal, Outcome, short};
use crate::rounds::{Pace, Spread, alternate};
use crate::scene::{Canned, Contender, Figures, Shape};
use anyhow::Result;

const HAPROXY: &str = "HAProxy";
const OFF: &str = "understudy, mirror off";
const ALL: &str = "understudy, dark reads and writes";

/// What a proxy may have more than before and still be called constant: buffers, not answers.
const CONSTANT_MIB: f64 = 16.0;

pub fn rows(bench: &Bench) -> Result<Outcome> {
    bench.workplace.set_apart(true);
    let workplace = &bench.workplace;
    let backend = Canned::start(workplace, &Backend::default())?;
    let shadow = Canned::start(workplace, &Backend::default())?;
    let shape = Shape {
        connections: 1,
        ask: Ask::G1,
        ..Shape::default()
    };
    // What is longer than mirror.answer_bytes_max is not fetched from the shadow: the relay's share shows.
    let all = Kind::Understudy(Setup {
        threads: 1,
        mirror: Mirror::All,
        shadow: Some(shadow.port),
        ..Setup::default()
    });
    let kinds = [
        (HAPROXY, Kind::Haproxy { threads: 1 }),
        (OFF, understudy_off(1)),
        (ALL, all),
    ];
    let mut contenders = Vec::new();
    for (name, kind) in &kinds {
        contenders.extend(Contender::start(
            workplace,
            name,
            kind,
            backend.port,
            &shape,
        )?);
    }
    let before = memory(&contenders)?;
    let rounds = alternate(&mut contenders, pace(bench), None)?;
    let after = memory(&contenders)?;
    let mut outcome = Outcome::default();
    let a_byte = |figures: &Figures| {
        figures.cpu_us() * figures.came.requests as f64 / figures.came.bytes as f64
    };
    for (name, goal) in [(OFF, Goal::AtMost(1.0)), (ALL, Goal::Known)] {
        outcome.line(
            format!("CPU a byte of answers of 1 GiB against HAProxy; {name}"),
            goal,
            "×",
            rounds.ratio(name, HAPROXY, a_byte),
            rounds.of(name).and_then(|figures| {
                figures
                    .iter()
                    .find(|figures| figures.came.errors + figures.came.broken > 0)?
                    .fault()
            }),
        );
    }
    let mut table = Vec::new();
    for (at, contender) in contenders.iter().enumerate() {
        let grown = |of: &[(u64, u64)], which: fn(&(u64, u64)) -> u64| of.get(at).map_or(0, which);
        // The most that it ever had, against what it had before the first answer.
        let more = grown(&after, |(_, most)| *most).saturating_sub(grown(&before, |(rss, _)| *rss));
        let more = more as f64 / 1024.0;
        if contender.name != HAPROXY {
            outcome.line(
                format!(
                    "memory at most, while answers of 1 GiB pass, more than before; {}",
                    contender.name
                ),
                Goal::AtMost(CONSTANT_MIB),
                "MiB",
                Spread::of(vec![more]),
                None,
            );
        }
        let cpu = rounds.spread(&contender.name, |figures| {
            a_byte(figures) * f64::from(1 << 20)
        });
        let rate = rounds.spread(&contender.name, |figures| {
            figures.came.bytes as f64 / figures.came.seconds / f64::from(1 << 20)
        });
        table.push(vec![
            contender.name.clone(),
            cpu.map_or_else(String::new, |cpu| short(cpu.median)),
            rate.map_or_else(String::new, |rate| short(rate.median)),
            short(more),
        ]);
    }
    outcome.details.push(Details {
        title: "answers of 1 GiB in rows of 1 KiB, one connection".to_owned(),
        columns: vec!["through", "CPU µs/MiB", "MiB/s", "MiB more at most"],
        rows: table,
    });
    Ok(outcome)
}

/// A run is one answer at least.
fn pace(bench: &Bench) -> Pace {
    Pace {
        rounds: if bench.is_long() { 5 } else { 3 },
        seconds: 0.1,
        warm_up: 0.1,
    }
}

/// Of each: now, and at most, in KiB.
fn memory(contenders: &[Contender]) -> Result<Vec<(u64, u64)>> {
    let of_each = contenders.iter().map(|contender| {
        let memory = contender.peer.memory()?;
        Ok((memory.rss, memory.most))
    });
    of_each.collect()
}

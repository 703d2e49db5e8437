//! How many mirrored commands a second the shadow side gets done on one core, against what the relay serves
//! on one.
//!
//! The shadow is stopped, many commands are handed over, and it goes on once no client asks any more: from
//! then on the shadow side's one thread has a core to itself, and the canned shadow the other. What the relay
//! serves on one core is reckoned from its CPU a request: load and backend leave it no core to itself.

use super::Bench;
use super::cost::understudy_off;
use crate::arguments::{Ask, Backend};
use crate::peers::Kind;
use crate::peers::understudy::{Coverage, Mirror, PATIENT, Setup};
use crate::report::{Details, Goal, Outcome, short};
use crate::rounds::Spread;
use crate::scene::{Canned, Contender, Shape};
use anyhow::Result;
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::Instant;

const CONNECTIONS: usize = 64;

/// From one look at what is pending to the next.
const LOOKS: Duration = Duration::from_millis(20);

/// One round.
struct Round {
    /// Commands that the shadow side got done in a second.
    done: f64,
    /// Requests that the relay serves in a second of CPU.
    served: f64,
    /// µs of the shadow side's CPU for each command.
    each: f64,
}

pub fn rows(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (what, ask) in [("reads", Ask::B200), ("transactions", Ask::Transaction)] {
        measure(bench, what, ask, &mut outcome)?;
    }
    Ok(outcome)
}

fn measure(bench: &Bench, what: &str, ask: Ask, outcome: &mut Outcome) -> Result<()> {
    let (times, seconds) = if bench.is_long() { (5, 4.0) } else { (2, 1.5) };
    let workplace = &bench.workplace;
    let backend = Canned::start(workplace, &Backend::default())?;
    let shadow = Canned::start(workplace, &Backend::default())?;
    let mirroring = Kind::Understudy(Setup {
        threads: 1,
        mirror: Mirror::All,
        shadow: Some(shadow.port),
        mirror_more: format!("threads = 1\n{PATIENT}"),
        ..Setup::default()
    });
    let shape = Shape {
        connections: CONNECTIONS,
        ask,
        ..Shape::default()
    };
    let start = |name, kind: &Kind| Contender::start(workplace, name, kind, backend.port, &shape);
    let (Some(mut off), Some(mut all)) =
        (start("off", &understudy_off(1))?, start("all", &mirroring)?)
    else {
        anyhow::bail!("understudy can always be had");
    };
    off.measure(bench.pace().warm_up, None)?;
    all.measure(bench.pace().warm_up, None)?;
    let first = Coverage::settled(&all.peer)?;
    let mut rounds = Vec::new();
    for _ in 0..times {
        let served = 1e6 / off.measure(seconds, None)?.relay_us();
        shadow.process.signal(Signal::STOP)?;
        all.load.run(seconds, None)?;
        rounds.push(drain(&all, &shadow, served)?);
    }
    let coverage = Coverage::settled(&all.peer)?.since(&first);
    let of = |figure: fn(&Round) -> f64| Spread::of(rounds.iter().map(figure).collect());
    outcome.line(
        format!("mirrored commands a second that the shadow side sustains on one core, against the relay's requests on one core; {what}"),
        Goal::AtLeast(1.0),
        "×",
        of(|round| round.done / round.served),
        coverage.fault(),
    );
    let cell =
        |spread: Option<Spread>| spread.map_or_else(String::new, |spread| short(spread.median));
    outcome.details.push(Details {
        title: format!("replay on one core, {CONNECTIONS} sessions, {what}"),
        columns: vec![
            "commands/s, shadow side",
            "µs of CPU each",
            "requests/s of the relay on one core, reckoned",
        ],
        rows: vec![vec![
            cell(of(|round| round.done)),
            cell(of(|round| round.each)),
            cell(of(|round| round.served)),
        ]],
    });
    Ok(())
}

/// Lets the shadow go on, and sees how fast what waits gets done.
fn drain(all: &Contender, shadow: &Canned, served: f64) -> Result<Round> {
    let waits = Coverage::now(&all.peer)?.pending();
    let before = all.peer.account()?;
    shadow.process.signal(Signal::CONT)?;
    let began = Instant::now();
    while Coverage::now(&all.peer)?.pending() > 0 {
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(120),
            "it does not get done"
        );
        std::thread::sleep(LOOKS);
    }
    let took = began.elapsed().as_secs_f64();
    let spent = all.peer.account()?.since(&before);
    let shadow_ns = spent.of_threads(|name| name.starts_with("shadow")).cpu_ns;
    Ok(Round {
        done: waits as f64 / took,
        served,
        each: shadow_ns as f64 / 1000.0 / waits.max(1) as f64,
    })
}

//! What clients notice of a shadow that is stopped, dead, slow, or answers 1 GiB to every statement: nothing
//! that can be measured, says the goal, against a mirror that is off and the same work beside it.
//!
//! A second understudy with its mirror off is measured with them: what it differs by from the first is what two that
//! are equal differ by, and no other row is told more finely.
//!
//! Only the flood makes work. What it costs the machine (the flooding server's own CPU, and that of who reads
//! it) is put beside the mirror that is off, too: a reader of a canned server's, as fast as the flood was.

use super::Bench;
use super::cost::understudy_off;
use crate::account::Account;
use crate::arguments::{Ask, Backend};
use crate::peers::Kind;
use crate::peers::understudy::{Coverage, Mirror, Setup};
use crate::report::{Details, Goal, Outcome};
use crate::rounds::{COLUMNS, Rounds, Spread, alternate};
use crate::scene::{Canned, Contender, Figures, Load, Shape};
use anyhow::Result;
use rustix::process::Signal;
use tokio::time::Instant;

const OFF: &str = "mirror off";
const AGAIN: &str = "mirror off, once more";
const STOPPED: &str = "shadow stopped";
const DEAD: &str = "shadow dead";
const SLOW: &str = "shadow 1 s slow";
const FLOOD: &str = "shadow answers 1 GiB to everything";

/// As fast as clients can, which on two processors keeps both busy, and anything that the shadow side does is
/// taken from clients; and at a rate, as production has one.
const HOW: [(&str, Option<f64>); 2] = [
    ("as fast as they can", None),
    ("8,000 requests a second", Some(8_000.0)),
];

/// The flooding server and its reader stand for other machines, and for the shadow side, whose threads
/// have this priority.
const NICE: i32 = 10;

pub fn rows(bench: &Bench) -> Result<Outcome> {
    let mut outcome = idle_ones(bench)?;
    outcome.add(flood(bench)?);
    Ok(outcome)
}

fn mirroring(shadow: u16) -> Kind {
    Kind::Understudy(Setup {
        threads: 1,
        mirror: Mirror::All,
        shadow: Some(shadow),
        ..Setup::default()
    })
}

/// The shadows that make no work.
fn idle_ones(bench: &Bench) -> Result<Outcome> {
    let workplace = &bench.workplace;
    let backend = Canned::start(workplace, &Backend::default())?;
    let stopped = Canned::start(workplace, &Backend::default())?;
    let dead = Canned::start(workplace, &Backend::default())?;
    let slow = Canned::start(
        workplace,
        &Backend {
            delay_ms: 1_000,
            ..Backend::default()
        },
    )?;
    let kinds = [
        (OFF, understudy_off(1)),
        (STOPPED, mirroring(stopped.port)),
        (DEAD, mirroring(dead.port)),
        (SLOW, mirroring(slow.port)),
        (AGAIN, understudy_off(1)),
    ];
    let mut contenders = Vec::new();
    for (name, kind) in &kinds {
        let contender = Contender::start(workplace, name, kind, backend.port, &Shape::default())?;
        contenders.extend(contender.map(Contender::unjudged));
    }
    // First they are well, so that connections are open which then hang or break.
    for contender in &mut contenders {
        contender.measure(bench.pace().warm_up, None)?;
    }
    stopped.process.signal(Signal::STOP)?;
    drop(dead);
    let mut outcome = Outcome::default();
    for (how, rate) in HOW {
        let rounds = alternate(&mut contenders, bench.pace(), rate)?;
        for contender in contenders.iter().filter(|one| one.name != OFF) {
            judge(
                &mut outcome,
                &rounds,
                &contender.name,
                how,
                if contender.name == AGAIN {
                    String::new()
                } else {
                    coverage(contender)?
                },
            );
        }
        let title = format!("isolation, 8 connections, {how}");
        outcome.details.push(details(&title, &rounds));
    }
    Ok(outcome)
}

/// What became of the mirrored commands, for the note.
fn coverage(contender: &Contender) -> Result<String> {
    Ok(Coverage::now(&contender.peer)?.fault().unwrap_or_default())
}

fn details(title: &str, rounds: &Rounds) -> Details {
    Details {
        title: title.to_owned(),
        columns: COLUMNS.to_vec(),
        rows: rounds.table(),
    }
}

fn judge(outcome: &mut Outcome, rounds: &Rounds, name: &str, how: &str, note: String) {
    let faults = rounds.faults(&[name, OFF]);
    let note = faults.map_or(note.clone(), |faults| format!("{faults}; {note}"));
    let (throughput, p99) = if name == AGAIN {
        (Goal::Known, Goal::Known)
    } else {
        (Goal::AtLeast(0.97), Goal::AtMost(1.05))
    };
    outcome.line(
        format!(
            "clients' throughput, {how}, {name}, against mirror off with the same work beside it"
        ),
        throughput,
        "×",
        rounds.ratio(name, OFF, Figures::throughput),
        None,
    );
    outcome.line(
        format!("clients' p99, {how}, {name}, against mirror off with the same work beside it"),
        p99,
        "×",
        rounds.ratio(name, OFF, |figures| figures.came.p99),
        Some(note),
    );
}

/// The shadow that floods. It floods only while it is measured.
fn flood(bench: &Bench) -> Result<Outcome> {
    let workplace = &bench.workplace;
    let pace = bench.pace();
    let backend = Canned::start(workplace, &Backend::default())?;
    let shadow = Canned::start_nice(
        workplace,
        NICE,
        &Backend {
            flood: true,
            ..Backend::default()
        },
    )?;
    let start = |name, kind: &Kind| {
        Contender::start(workplace, name, kind, backend.port, &Shape::default())
    };
    let (Some(off), Some(flooded)) = (
        start(OFF, &understudy_off(1))?,
        start(FLOOD, &mirroring(shadow.port))?,
    ) else {
        anyhow::bail!("understudy can always be had");
    };
    let (mut off, mut flooded) = (off.unjudged(), flooded.unjudged());
    off.measure(pace.warm_up, None)?;
    flooded.measure(pace.warm_up, None)?;
    let mut beside = Beside::start(bench)?;
    let mut outcome = Outcome::default();
    for (how, rate) in HOW {
        let mut rounds = Rounds::new([OFF, FLOOD]);
        let mut shares = Vec::new();
        for _ in 0..pace.rounds {
            shadow.process.signal(Signal::CONT)?;
            let (before, began) = (Account::of(shadow.process.pid())?, Instant::now());
            rounds.take(FLOOD, flooded.measure(pace.seconds, rate)?);
            let share = share(&shadow, &before, began)?;
            shadow.process.signal(Signal::STOP)?;
            shares.push(share);
            beside.begin(share, pace.seconds)?;
            rounds.take(OFF, off.measure(pace.seconds, rate)?);
            beside.end()?;
        }
        let flooding = Spread::of(shares).map_or(0.0, |share| share.median);
        let note = format!(
            "the flooding server used {:.0} % of a processor, the one beside mirror off {:.0} %; {}",
            flooding * 100.0,
            beside.share() * 100.0,
            coverage(&flooded)?
        );
        judge(&mut outcome, &rounds, FLOOD, how, note);
        outcome.details.push(details(
            &format!("isolation from a flood, 8 connections, {how}"),
            &rounds,
        ));
    }
    Ok(outcome)
}

/// Of a processor, that a server has used since then.
fn share(server: &Canned, before: &Account, began: Instant) -> Result<f64> {
    let spent = Account::of(server.process.pid())?.since(before);
    let cpu = spent.of_threads(|_| true).cpu_ns as f64 / 1e9;
    Ok(cpu / began.elapsed().as_secs_f64())
}

/// A canned server that is read from, so that it uses as much of a processor as is wanted.
struct Beside {
    canned: Canned,
    load: Load,
    /// CPU seconds of the server for each answer of 1 MiB.
    each: f64,
    runs: bool,
    shares: Vec<f64>,
    before: (Account, Instant),
}

impl Beside {
    /// Finds out what an answer costs.
    fn start(bench: &Bench) -> Result<Self> {
        const TRIED_S: f64 = 0.5;
        let canned = Canned::start_nice(&bench.workplace, NICE, &Backend::default())?;
        let shape = Shape {
            connections: 4,
            ask: Ask::M1,
            nice: NICE,
            ..Shape::default()
        };
        let mut load = Load::start(&bench.workplace, &shape, canned.port)?;
        let before = Account::of(canned.process.pid())?;
        let came = load.run(TRIED_S, Some(200.0))?;
        let spent = Account::of(canned.process.pid())?.since(&before);
        let each = spent.of_threads(|_| true).cpu_ns as f64 / 1e9 / came.requests.max(1) as f64;
        Ok(Self {
            before: (spent, Instant::now()),
            canned,
            load,
            each,
            runs: false,
            shares: Vec::new(),
        })
    }

    fn begin(&mut self, share: f64, seconds: f64) -> Result<()> {
        let rate = share / self.each;
        self.runs = rate >= 1.0;
        self.before = (Account::of(self.canned.process.pid())?, Instant::now());
        if self.runs {
            self.load.begin(seconds, Some(rate))?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if self.runs {
            self.load.came()?;
        }
        let (before, began) = &self.before;
        self.shares.push(share(&self.canned, before, *began)?);
        Ok(())
    }

    /// Of a processor, that it has used in the middle.
    fn share(&mut self) -> f64 {
        Spread::of(std::mem::take(&mut self.shares)).map_or(0.0, |share| share.median)
    }
}

//! What a request costs: through nothing, through the peers, through understudy with its mirror off and on.

use super::Bench;
use crate::arguments::{Ask, Backend};
use crate::peers::Kind;
use crate::peers::understudy::{Mirror, PATIENT, Setup};
use crate::report::{Details, Goal, Outcome};
use crate::rounds::{COLUMNS, Rounds, alternate};
use crate::scene::{Canned, Contender, Figures, Shape};
use anyhow::Result;

const DIRECT: &str = "direct";
const HAPROXY: &str = "HAProxy";
const ROUTER: &str = "MySQL Router";
const OFF: &str = "understudy, mirror off";
const UNOBSERVED: &str = "understudy, mirror off, unobserved";
const READS: &str = "understudy, dark reads";
const ALL: &str = "understudy, dark reads and writes";

/// A load, and what of it is judged.
struct Trial {
    shape: Shape,
    threads: usize,
    /// Against the peers, by the goals; else it is told to know it.
    is_judged: bool,
}

pub fn rows(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for trial in trials(bench.is_long()) {
        println!("  {}", words(&trial));
        outcome.add(measure(bench, &trial)?);
    }
    Ok(outcome)
}

fn trials(long: bool) -> Vec<Trial> {
    let trial = |connections, threads| Trial {
        shape: Shape {
            connections,
            ..Shape::default()
        },
        threads,
        is_judged: true,
    };
    let transactions = |prepared| {
        let mut trial = trial(8, 1);
        trial.shape.ask = Ask::Transaction;
        trial.shape.prepared = prepared;
        trial
    };
    let known = |change: fn(&mut Shape)| {
        let mut trial = trial(8, 1);
        change(&mut trial.shape);
        trial.is_judged = false;
        trial
    };
    let mut trials = vec![trial(8, 1), trial(64, 1), trial(64, 2), transactions(false)];
    if long {
        trials.extend([
            trial(8, 2),
            transactions(true),
            known(|shape| shape.prepared = true),
            known(|shape| shape.connections = 1),
            known(|shape| shape.ask = Ask::K16),
            known(|shape| shape.ask = Ask::M1),
            known(|shape| shape.tls = true),
        ]);
    }
    trials
}

/// What a load is, for titles.
fn words(trial: &Trial) -> String {
    let Trial { shape, threads, .. } = trial;
    let what = match shape.ask {
        Ask::B200 => "reads of 200 bytes",
        Ask::K16 => "reads of 16 KiB",
        Ask::M1 => "reads of 1 MiB",
        Ask::G1 => "reads of 1 GiB",
        Ask::Transaction => "transactions of 8 commands",
    };
    let prepared = if shape.prepared { ", prepared" } else { "" };
    let tls = if shape.tls { ", TLS" } else { "" };
    let s = |count: usize| if count == 1 { "" } else { "s" };
    let connections = shape.connections;
    format!(
        "{what}{prepared}{tls}, {connections} connection{}, {threads} thread{}",
        s(connections),
        s(*threads)
    )
}

/// understudy, and nothing is mirrored.
pub fn understudy_off(threads: usize) -> Kind {
    Kind::Understudy(Setup {
        threads,
        ..Setup::default()
    })
}

fn measure(bench: &Bench, trial: &Trial) -> Result<Outcome> {
    let workplace = &bench.workplace;
    let Trial { shape, threads, .. } = trial;
    let threads = *threads;
    // With two threads a proxy has both processors.
    workplace.set_apart(threads == 1);
    let tls = shape.tls.then(|| workplace.tls()).transpose()?;
    let backend = Canned::start(
        workplace,
        &Backend {
            tls: tls.clone(),
            ..Backend::default()
        },
    )?;
    let shadow = Canned::start(workplace, &Backend::default())?;
    let understudy = |mirror| {
        Kind::Understudy(Setup {
            threads,
            mirror,
            shadow: Some(shadow.port),
            tls: tls.clone(),
            mirror_more: PATIENT.to_owned(),
            ..Setup::default()
        })
    };
    let router = Kind::Router {
        threads,
        tls: tls.clone(),
    };
    // HAProxy does not speak MySQL's TLS: it passes it on to the server, and is spared the work.
    let kinds = [
        (DIRECT, Kind::Direct),
        (HAPROXY, Kind::Haproxy { threads }),
        (ROUTER, router),
        (UNOBSERVED, understudy(Mirror::Unobserved)),
        (OFF, understudy(Mirror::Off)),
        (READS, understudy(Mirror::Reads)),
        (ALL, understudy(Mirror::All)),
    ];
    let mut contenders = Vec::new();
    for (name, kind) in &kinds {
        contenders.extend(Contender::start(
            workplace,
            name,
            kind,
            backend.port,
            shape,
        )?);
    }
    let pace = if trial.is_judged {
        bench.pace()
    } else {
        bench.glance()
    };
    let rounds = alternate(&mut contenders, pace, None)?;
    let mut outcome = Outcome::default();
    if trial.is_judged {
        against_peers(&mut outcome, &rounds, trial);
        of_the_mirror(&mut outcome, &rounds, trial);
    }
    outcome.details.push(Details {
        title: words(trial),
        columns: COLUMNS.to_vec(),
        rows: rounds.table(),
    });
    Ok(outcome)
}

/// The mirror is off, with production followed all the same and without.
fn against_peers(outcome: &mut Outcome, rounds: &Rounds, trial: &Trial) {
    for (off, how) in [(UNOBSERVED, "mirror off, unobserved"), (OFF, "mirror off")] {
        of_one(outcome, rounds, trial, off, how);
    }
}

fn of_one(outcome: &mut Outcome, rounds: &Rounds, trial: &Trial, off: &str, how: &str) {
    let with = words(trial);
    let mut line = |what: String, goal, peer: &str, figure: fn(&Figures) -> f64| {
        let faults = rounds.faults(&[off, peer]);
        outcome.line(what, goal, "×", rounds.ratio(off, peer, figure), faults);
    };
    line(
        format!("CPU a request, {how}, against HAProxy; {with}"),
        Goal::AtMost(1.0),
        HAPROXY,
        Figures::cpu_us,
    );
    line(
        format!("throughput, {how}, against HAProxy; {with}"),
        Goal::AtLeast(1.0),
        HAPROXY,
        Figures::throughput,
    );
    line(
        format!("CPU a request, {how}, against MySQL Router; {with}"),
        Goal::AtMost(0.6),
        ROUTER,
        Figures::cpu_us,
    );
    line(
        format!("throughput, {how}, against MySQL Router; {with}"),
        Goal::AtLeast(1.3),
        ROUTER,
        Figures::throughput,
    );
    if trial.shape.connections == 8 {
        let added = |of: &Figures, direct: &Figures| of.came.p99 - direct.came.p99;
        outcome.line(
            format!("added p99, {how}, against HAProxy's; {with}"),
            Goal::AtMost(1.0),
            "×",
            rounds.each([off, HAPROXY, DIRECT], |[off, haproxy, direct]| {
                added(off, direct) / added(haproxy, direct)
            }),
            rounds.faults(&[off, HAPROXY, DIRECT]),
        );
    }
}

fn of_the_mirror(outcome: &mut Outcome, rounds: &Rounds, trial: &Trial) {
    let with = words(trial);
    let faults = |names: &[&str]| rounds.faults(names);
    outcome.line(
        format!(
            "CPU of the relay's threads a request, everything mirrored, against mirror off; {with}"
        ),
        Goal::AtMost(1.1),
        "×",
        rounds.ratio(ALL, OFF, Figures::relay_us),
        faults(&[ALL, OFF]),
    );
    outcome.line(
        format!(
            "CPU of the shadow side a mirrored command, against the relay's own a request; {with}"
        ),
        Goal::AtMost(1.0),
        "×",
        rounds.each([ALL], |[all]| all.shadow_us() / all.relay_us()),
        faults(&[ALL]),
    );
    outcome.line(
        format!("CPU of the whole process a request, everything mirrored and compared, against HAProxy mirroring nothing; {with}"),
        Goal::AtMost(2.0),
        "×",
        rounds.ratio(ALL, HAPROXY, Figures::cpu_us),
        faults(&[ALL, HAPROXY]),
    );
}

//! What a request costs: through nothing, through the peers, through understudy with its mirror off and on.

use super::Bench;
use crate::arguments::Backend;
use crate::peers::Kind;
use crate::peers::understudy::{Mirror, Setup};
use crate::report::{Details, Goal, Outcome};
use crate::rounds::{COLUMNS, Rounds, alternate};
use crate::scene::{Canned, Contender, Figures, Shape};
use anyhow::Result;

const DIRECT: &str = "direct";
const HAPROXY: &str = "HAProxy";
const ROUTER: &str = "MySQL Router";
const OFF: &str = "understudy, mirror off";
const READS: &str = "understudy, dark reads";
const ALL: &str = "understudy, dark reads and writes";

pub fn rows(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for threads in [1, 2] {
        for connections in [8, 64] {
            let shape = Shape {
                connections,
                ..Shape::default()
            };
            outcome.add(measure(bench, &shape, threads)?);
        }
    }
    Ok(outcome)
}

/// understudy, and nothing is mirrored.
pub fn understudy_off(threads: usize) -> Kind {
    Kind::Understudy(Setup {
        threads,
        ..Setup::default()
    })
}

fn measure(bench: &Bench, shape: &Shape, threads: usize) -> Result<Outcome> {
    let workplace = &bench.workplace;
    // With two threads a proxy has both processors.
    workplace.set_apart(threads == 1);
    let backend = Canned::start(workplace, &Backend::default())?;
    let shadow = Canned::start(workplace, &Backend::default())?;
    let understudy = |mirror| {
        Kind::Understudy(Setup {
            threads,
            mirror,
            shadow: Some(shadow.port),
            ..Setup::default()
        })
    };
    let kinds = [
        (DIRECT, Kind::Direct),
        (HAPROXY, Kind::Haproxy { threads }),
        (ROUTER, Kind::Router { threads }),
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
    let rounds = alternate(&mut contenders, bench.pace(), None)?;
    Ok(judge(&rounds, shape, threads))
}

fn judge(rounds: &Rounds, shape: &Shape, threads: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let Shape { connections, .. } = shape;
    let with = format!("{connections} connections, {threads} threads");
    let cpu = rounds.ratio(OFF, HAPROXY, Figures::cpu_us);
    let faults = |names: &[&str]| rounds.faults(names);
    outcome.line(
        format!("CPU a request, mirror off, against HAProxy; {with}"),
        Goal::AtMost(1.0),
        "×",
        cpu,
        faults(&[OFF, HAPROXY]),
    );
    outcome.line(
        format!("throughput, mirror off, against HAProxy; {with}"),
        Goal::AtLeast(1.0),
        "×",
        rounds.ratio(OFF, HAPROXY, Figures::throughput),
        faults(&[OFF, HAPROXY]),
    );
    outcome.line(
        format!("CPU a request, mirror off, against MySQL Router; {with}"),
        Goal::AtMost(0.6),
        "×",
        rounds.ratio(OFF, ROUTER, Figures::cpu_us),
        faults(&[OFF, ROUTER]),
    );
    outcome.line(
        format!("throughput, mirror off, against MySQL Router; {with}"),
        Goal::AtLeast(1.3),
        "×",
        rounds.ratio(OFF, ROUTER, Figures::throughput),
        faults(&[OFF, ROUTER]),
    );
    if *connections == 8 {
        let added = |of: &Figures, direct: &Figures| of.came.p99 - direct.came.p99;
        outcome.line(
            format!("added p99, mirror off, against HAProxy's; {with}"),
            Goal::AtMost(1.0),
            "×",
            rounds.each([OFF, HAPROXY, DIRECT], |[off, haproxy, direct]| {
                added(off, direct) / added(haproxy, direct)
            }),
            faults(&[OFF, HAPROXY, DIRECT]),
        );
    }
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
    outcome.details.push(Details {
        title: format!("reads of 200 bytes, {with}"),
        columns: COLUMNS.to_vec(),
        rows: rounds.table(),
    });
    outcome
}

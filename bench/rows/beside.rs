//! Eight busy clients beside thousands of idle ones, against the same eight alone.

use super::Bench;
use super::cost::understudy_off;
use crate::arguments::Backend;
use crate::peers::Kind;
use crate::report::{Details, Goal, Outcome};
use crate::rounds::{COLUMNS, alternate};
use crate::scene::{Canned, Contender, Figures, Shape};
use anyhow::Result;

/// As many as the descriptor limit of such a machine allows a proxy, which needs two for each.
pub const CROWD: usize = 9_000;

const BUSY: usize = 8;

pub fn rows(bench: &Bench) -> Result<Outcome> {
    bench.workplace.set_apart(true);
    let mut outcome = Outcome::default();
    one(
        bench,
        "understudy, mirror off",
        &understudy_off(1),
        Goal::AtMost(1.1),
        &mut outcome,
    )?;
    one(
        bench,
        "HAProxy",
        &Kind::Haproxy { threads: 1 },
        Goal::Known,
        &mut outcome,
    )?;
    Ok(outcome)
}

/// One after the other: the canned server's descriptors are limited, too.
fn one(bench: &Bench, name: &str, kind: &Kind, goal: Goal, outcome: &mut Outcome) -> Result<()> {
    let (alone, beside) = (format!("{name}, alone"), format!("{name}, beside"));
    let shape = |connections| Shape {
        connections,
        workers: Some(BUSY),
        ..Shape::default()
    };
    let mut contenders = Vec::new();
    let mut backends = Vec::new();
    for (name, connections) in [(&alone, BUSY), (&beside, CROWD)] {
        let backend = Canned::start(&bench.workplace, &Backend::default())?;
        let contender = Contender::start(
            &bench.workplace,
            name,
            kind,
            backend.port,
            &shape(connections),
        )?;
        contenders.extend(contender);
        backends.push(backend);
    }
    let rounds = alternate(&mut contenders, bench.pace(), None)?;
    outcome.line(
        format!("CPU a request of {BUSY} busy clients beside {CROWD} connections that are idle, against without them; {name}"),
        goal,
        "×",
        rounds.ratio(&beside, &alone, Figures::cpu_us),
        rounds.faults(&[&beside, &alone]),
    );
    outcome.details.push(Details {
        title: format!("{BUSY} busy beside {CROWD}; {name}"),
        columns: COLUMNS.to_vec(),
        rows: rounds.table(),
    });
    Ok(())
}

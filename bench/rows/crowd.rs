//! Thousands of connections of which one in a hundred is active, against a hundred of them: as many requests
//! under way and as many a second, over more connections.

use super::Bench;
use super::beside::CROWD;
use super::cost::understudy_off;
use crate::arguments::Backend;
use crate::peers::Kind;
use crate::report::{Details, Goal, Outcome};
use crate::rounds::{COLUMNS, alternate};
use crate::scene::{Canned, Contender, Shape};
use anyhow::Result;

/// One in a hundred.
const ACTIVE: usize = CROWD / 100;

const FEW: usize = 100;

/// Requests a second, all together: far from what such a machine bears, so that nothing queues.
const RATE: f64 = 4_000.0;

pub fn rows(bench: &Bench) -> Result<Outcome> {
    bench.workplace.set_apart(true);
    let mut outcome = Outcome::default();
    one(
        bench,
        "understudy, mirror off",
        &understudy_off(1),
        Goal::AtMost(1.5),
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

fn one(bench: &Bench, name: &str, kind: &Kind, goal: Goal, outcome: &mut Outcome) -> Result<()> {
    let (few, many) = (format!("{name}, {FEW}"), format!("{name}, {CROWD}"));
    let mut contenders = Vec::new();
    let mut backends = Vec::new();
    for (name, connections) in [(&few, FEW), (&many, CROWD)] {
        let backend = Canned::start(&bench.workplace, &Backend::default())?;
        let shape = Shape {
            connections,
            workers: Some(ACTIVE),
            roam: true,
            ..Shape::default()
        };
        contenders.extend(Contender::start(
            &bench.workplace,
            name,
            kind,
            backend.port,
            &shape,
        )?);
        backends.push(backend);
    }
    let rounds = alternate(&mut contenders, bench.pace(), Some(RATE))?;
    outcome.line(
        format!("p99 over {CROWD} connections, {ACTIVE} active, against {FEW} connections at the same rate; {name}"),
        goal,
        "×",
        rounds.ratio(&many, &few, |figures| figures.came.p99),
        rounds.faults(&[&many, &few]),
    );
    outcome.details.push(Details {
        title: format!("{ACTIVE} active of {FEW} and of {CROWD}, {RATE} requests a second; {name}"),
        columns: COLUMNS.to_vec(),
        rows: rounds.table(),
    });
    Ok(())
}

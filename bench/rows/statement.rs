//! What it takes to know a statement of 200 bytes: its fingerprint and class, where its shape was seen
//! before, and where it is new. In the bench's own process, on one thread.

use super::Bench;
use crate::report::{Goal, Outcome};
use crate::rounds::Spread;
use anyhow::Result;
use std::hint::black_box;
use tokio::time::Instant;
use understudy::sql::{Catalog, Dialect};

/// Runs; the fastest half of them counts, for what else the machine does only adds.
const RUNS: usize = 40;

/// Statements of one run.
const SEEN: u32 = 20_000;
const NEW: u32 = 2_000;

/// Shapes that are remembered: more than are asked for.
const SHAPES: usize = 4_096;

pub fn rows(_: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (what, limit, run) in [
        ("seen", 0.5, seen as fn() -> f64),
        ("new", 15.0, new as fn() -> f64),
    ] {
        let mut runs: Vec<f64> = (0..RUNS).map(|_| run()).collect();
        runs.sort_by(f64::total_cmp);
        runs.truncate(RUNS / 2);
        outcome.line(
            format!("fingerprint and class of a statement of 200 bytes whose shape is {what}"),
            Goal::AtMost(limit),
            "µs",
            Spread::of(runs),
            None,
        );
    }
    Ok(outcome)
}

/// Some 200 bytes; what differs is a literal, or a column's name.
fn statement(column: &str, id: u32) -> String {
    format!(
        "SELECT o.id, o.state, o.made_at, o.{column}, c.name, c.email FROM orders o JOIN customers c ON c.id = o.customer_id \
         WHERE o.id = {id} AND o.state IN ('new', 'paid', 'sent') ORDER BY o.made_at DESC LIMIT 20"
    )
}

fn seen() -> f64 {
    let catalog = Catalog::new(SHAPES);
    let texts: Vec<String> = (0..64).map(|id| statement("total", 10_000 + id)).collect();
    each(SEEN, |nth| {
        let text = texts
            .get(nth as usize % texts.len())
            .map_or("", String::as_str);
        black_box(catalog.analyze(black_box(text.as_bytes()), Dialect::default()));
    })
}

fn new() -> f64 {
    let catalog = Catalog::new(SHAPES);
    let texts: Vec<String> = (0..NEW)
        .map(|nth| statement(&format!("c{nth:04}"), 10_000))
        .collect();
    each(NEW, |nth| {
        let text = texts.get(nth as usize).map_or("", String::as_str);
        black_box(catalog.analyze(black_box(text.as_bytes()), Dialect::default()));
    })
}

/// µs each.
fn each(times: u32, mut one: impl FnMut(u32)) -> f64 {
    let began = Instant::now();
    (0..times).for_each(&mut one);
    began.elapsed().as_secs_f64() * 1e6 / f64::from(times)
}

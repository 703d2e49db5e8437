//! What an idle client connection with its primary connection takes of the proxy's memory: the slope
//! between some connections and many, so that what a process begins with does not count.

use super::Bench;
use super::cost::understudy_off;
use crate::arguments::Backend;
use crate::peers::understudy::Setup;
use crate::peers::{Kind, Peer};
use crate::report::{Details, Goal, Outcome};
use crate::rounds::Spread;
use crate::scene::{Canned, Load, Shape};
use anyhow::Result;

const SOME: usize = 500;

/// Seconds after which a proxy has come to rest.
const RESTS: f64 = 1.0;

pub fn rows(bench: &Bench) -> Result<Outcome> {
    let more = if bench.is_long() { 8_000 } else { 3_000 };
    let tls = Kind::Understudy(Setup {
        threads: 1,
        tls: Some(bench.workplace.tls()?),
        ..Setup::default()
    });
    let contenders = [
        ("HAProxy", Kind::Haproxy { threads: 1 }, false),
        (
            "MySQL Router",
            Kind::Router {
                threads: 1,
                tls: None,
            },
            false,
        ),
        ("understudy", understudy_off(1), false),
        ("understudy, TLS on the client leg", tls, true),
    ];
    let times = if bench.is_long() { 3 } else { 1 };
    let mut slopes: Vec<Vec<Slope>> = vec![Vec::new(); contenders.len()];
    for _ in 0..times {
        for (at, (_, kind, tls)) in contenders.iter().enumerate() {
            let slope = slope(bench, kind, more, *tls)?;
            if let Some(of) = slopes.get_mut(at) {
                of.extend(slope);
            }
        }
    }
    let mut outcome = Outcome::default();
    let [haproxy, _, plain, over_tls] = &*slopes else {
        anyhow::bail!("four were measured");
    };
    for (what, limit, of) in [
        ("plain", 1.0, plain),
        ("TLS on the client leg", 4.0, over_tls),
    ] {
        let pairs = (0..of.len()).filter_map(|at| Some(of.get(at)?.pss / haproxy.get(at)?.pss));
        outcome.line(
            format!("memory of an idle client connection with its primary connection, {what}, against HAProxy's plain"),
            Goal::AtMost(limit),
            "×",
            Spread::of(pairs.collect()),
            None,
        );
    }
    let mut rows = Vec::new();
    for (at, (name, _, _)) in contenders.iter().enumerate() {
        let of = slopes.get(at).map_or(&[][..], Vec::as_slice);
        let median = |figure: fn(&Slope) -> f64| {
            let spread = Spread::of(of.iter().map(figure).collect());
            spread.map_or_else(|| "–".to_owned(), |spread| format!("{:.2}", spread.median))
        };
        rows.push(vec![
            (*name).to_owned(),
            median(|slope| slope.pss),
            median(|slope| slope.rss),
            median(|slope| slope.begin),
        ]);
    }
    outcome.details.push(Details {
        title: format!(
            "memory from {SOME} to {} idle connections (the kernel's for sockets does not count)",
            SOME + more
        ),
        columns: vec![
            "through",
            "KiB a connection (Pss)",
            "KiB a connection (Rss)",
            "MiB before (Pss)",
        ],
        rows,
    });
    Ok(outcome)
}

/// KiB a connection, and MiB without any.
#[derive(Clone, Copy, Debug)]
struct Slope {
    pss: f64,
    rss: f64,
    begin: f64,
}

fn slope(bench: &Bench, kind: &Kind, more: usize, tls: bool) -> Result<Option<Slope>> {
    let backend = Canned::start(&bench.workplace, &Backend::default())?;
    let Some(peer) = Peer::start(&bench.workplace, kind, backend.port)? else {
        return Ok(None);
    };
    let begin = peer.memory()?;
    let open = |connections| {
        let shape = Shape {
            connections,
            workers: Some(8),
            tls,
            ..Shape::default()
        };
        Load::start(&bench.workplace, &shape, peer.port)
    };
    let mut first = open(SOME)?;
    // A little traffic, as after a while of use.
    first.run(RESTS, None)?;
    let some = peer.memory()?;
    let _second = open(more)?;
    first.run(RESTS, None)?;
    let many = peer.memory()?;
    let each = |now: u64, then: u64| now.saturating_sub(then) as f64 / more as f64;
    Ok(Some(Slope {
        pss: each(many.pss, some.pss),
        rss: each(many.rss, some.rss),
        begin: begin.pss as f64 / 1024.0,
    }))
}

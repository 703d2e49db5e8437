//! sysbench against a real primary, through nothing, the peers and understudy: what one sees who measures for
//! oneself. The primary is what holds everything up, so the proxies differ by their CPU.
//!
//! Mirroring goes to a vtgate, at a rate that it bears on such a machine. In the long form only: it needs
//! the lab's servers.

use super::Bench;
use crate::account::Account;
use crate::lab::Lab;
use crate::peers::understudy::{Coverage, Login, Mirror, Setup};
use crate::peers::{Kind, Peer};
use crate::report::{Details, Goal, Outcome, short};
use crate::rounds::Spread;
use anyhow::{Context, Result, ensure};
use std::process::Command;

const TABLES: u32 = 4;
const ROWS: u32 = 10_000;

const ROUNDS: usize = 3;
const SECONDS: u32 = 3;
const SECONDS_PACED: u32 = 10;

/// oltp_read_write transactions a second that vtgate bears beside everything else.
const RATE: u32 = 40;

const HAPROXY: &str = "HAProxy";
const OFF: &str = "understudy, mirror off";
const ALL: &str = "understudy, everything mirrored to vtgate";

/// What is asked, and how.
#[derive(Clone, Copy)]
struct Test {
    name: &'static str,
    prepared: bool,
    threads: usize,
    rate: Option<u32>,
}

/// What a run came to.
struct Ran {
    /// CPU µs a query of the proxy.
    cpu: f64,
    queries_a_second: f64,
    p95_ms: f64,
}

pub fn rows(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if !bench.is_long() {
        println!("  in the long form only");
        return Ok(outcome);
    }
    let lab = Lab::start()?;
    let primary = lab.port("LEGACY_PORT")?;
    let login = Login::Lab {
        own: lab.account("LEGACY_PROXY")?,
        replay: lab.account("SHADOW")?,
    };
    let setup = |mirror| {
        Kind::Understudy(Setup {
            threads: 1,
            mirror,
            shadow: lab.port("SHADOW_PORT").ok(),
            login: login.clone(),
            ..Setup::default()
        })
    };
    let kinds = [
        ("direct", Kind::Direct),
        (HAPROXY, Kind::Haproxy { threads: 1 }),
        (
            "MySQL Router",
            Kind::Router {
                threads: 1,
                tls: None,
            },
        ),
        (OFF, setup(Mirror::Off)),
        (ALL, setup(Mirror::All)),
    ];
    let mut peers = Vec::new();
    for (name, kind) in &kinds {
        let peer = Peer::start(&bench.workplace, kind, primary)?;
        peers.extend(peer.map(|peer| (*name, peer)));
    }
    let mirror = peers.iter().find(|(name, _)| *name == ALL);
    let (_, mirror) = mirror.context("understudy can always be had")?;
    prepare(bench, mirror)?;
    // First, and alone: what is written past the mirror makes the two sides differ.
    paced(bench, &peers, &mut outcome)?;
    unpaced(bench, &peers, &mut outcome)?;
    Ok(outcome)
}

/// Through everything but the mirror.
fn unpaced(bench: &Bench, peers: &[(&str, Peer)], outcome: &mut Outcome) -> Result<()> {
    let rounds = bench.pace().rounds.min(ROUNDS);
    let mut rows = Vec::new();
    for name in ["oltp_point_select", "oltp_read_only", "oltp_read_write"] {
        for (prepared, threads) in [(false, 1), (false, 8), (false, 64), (true, 8)] {
            let test = Test {
                name,
                prepared,
                threads,
                rate: None,
            };
            let peers: Vec<_> = peers.iter().filter(|(name, _)| *name != ALL).collect();
            let all = alternate(bench, &peers, test, rounds, SECONDS)?;
            let of = |name: &str| all.iter().find(|(one, _)| *one == name).map(|(_, ran)| ran);
            let (off, haproxy) = (of(OFF), of(HAPROXY));
            let ratios = off.into_iter().flatten().enumerate();
            let ratios = ratios.filter_map(|(at, off)| Some(off.cpu / haproxy?.get(at)?.cpu));
            outcome.line(
                format!(
                    "CPU a query, mirror off, against HAProxy; sysbench {}",
                    words(test)
                ),
                Goal::AtMost(1.0),
                "×",
                Spread::of(ratios.collect()),
                None,
            );
            rows.extend(all.iter().map(|(name, ran)| cells(test, name, ran)));
        }
    }
    outcome.details.push(Details {
        title: "sysbench, a real primary (MySQL 5.6)".to_owned(),
        columns: vec!["test", "through", "CPU µs/query", "queries/s", "p95 ms"],
        rows,
    });
    Ok(())
}

/// Everything mirrored to vtgate.
fn paced(bench: &Bench, peers: &[(&str, Peer)], outcome: &mut Outcome) -> Result<()> {
    let test = Test {
        name: "oltp_read_write",
        prepared: false,
        threads: 8,
        rate: Some(RATE),
    };
    let both: Vec<_> = peers.iter().filter(|(name, _)| *name == ALL).collect();
    let (_, mirror) = both
        .iter()
        .find(|(name, _)| *name == ALL)
        .context("it mirrors")?;
    let before = Coverage::settled(mirror)?;
    let all = alternate(
        bench,
        &both,
        test,
        bench.pace().rounds.min(ROUNDS),
        SECONDS_PACED,
    )?;
    let coverage = Coverage::settled(mirror)?.since(&before);
    outcome.line(
        format!("commands that were compared with vtgate's answers and matched or were tolerated; sysbench {}", words(test)),
        Goal::AtLeast(0.95),
        "of all",
        Spread::of(vec![coverage.judged() as f64 / coverage.commands.max(1) as f64]),
        coverage.fault(),
    );
    outcome.details.push(Details {
        title: format!("sysbench at {RATE} transactions a second, mirrored to vtgate"),
        columns: vec!["test", "through", "CPU µs/query", "queries/s", "p95 ms"],
        rows: all
            .iter()
            .map(|(name, ran)| cells(test, name, ran))
            .collect(),
    });
    Ok(())
}

fn alternate<'a>(
    bench: &Bench,
    peers: &[&'a (&'a str, Peer)],
    test: Test,
    rounds: usize,
    seconds: u32,
) -> Result<Vec<(&'a str, Vec<Ran>)>> {
    let mut all: Vec<(&str, Vec<Ran>)> =
        peers.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for _ in 0..rounds {
        for (at, (_, peer)) in peers.iter().enumerate() {
            let ran = run(bench, peer, test, seconds)?;
            if let Some((_, of)) = all.get_mut(at) {
                of.push(ran);
            }
        }
    }
    Ok(all)
}

fn words(test: Test) -> String {
    let prepared = if test.prepared { "prepared" } else { "text" };
    format!("{}, {prepared}, {} threads", test.name, test.threads)
}

fn cells(test: Test, name: &str, ran: &[Ran]) -> Vec<String> {
    let median = |figure: fn(&Ran) -> f64| {
        let spread = Spread::of(ran.iter().map(figure).collect());
        spread.map_or_else(String::new, |spread| short(spread.median))
    };
    vec![
        words(test),
        name.to_owned(),
        median(|ran| ran.cpu),
        median(|ran| ran.queries_a_second),
        median(|ran| ran.p95_ms),
    ]
}

/// The tables on both sides, through the mirror.
fn prepare(bench: &Bench, mirror: &Peer) -> Result<()> {
    let test = Test {
        name: "oltp_read_write",
        prepared: false,
        threads: 4,
        rate: None,
    };
    for what in ["cleanup", "prepare"] {
        sysbench(bench, mirror, test, what, 0)?;
    }
    Coverage::settled(mirror)?;
    Ok(())
}

fn run(bench: &Bench, peer: &Peer, test: Test, seconds: u32) -> Result<Ran> {
    let before = peer.account()?;
    let said = sysbench(bench, peer, test, "run", seconds)?;
    if peer.admin().is_some() {
        Coverage::settled(peer)?;
    }
    let spent: Account = peer.account()?.since(&before);
    let queries = figure(&said, "total:")?;
    let cpu_ns = spent.of_threads(|name| name != "admin").cpu_ns as f64;
    Ok(Ran {
        cpu: cpu_ns / 1000.0 / queries.max(1.0),
        queries_a_second: queries / f64::from(seconds),
        p95_ms: figure(&said, "95th percentile:")?,
    })
}

/// A figure of sysbench's report.
fn figure(said: &str, name: &str) -> Result<f64> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word
        .with_context(|| format!("no {name} in {said}"))?
        .parse()?)
}

fn sysbench(bench: &Bench, peer: &Peer, test: Test, what: &str, seconds: u32) -> Result<String> {
    let program = bench
        .workplace
        .peer("SYSBENCH")
        .context("sysbench is not here")?;
    let mut command = Command::new(program.first().context("a program")?);
    let mode = if test.prepared { "auto" } else { "disable" };
    command
        .args([
            test.name,
            "--db-driver=mysql",
            "--auto_inc=off",
            "--mysql-host=127.0.0.1",
        ])
        .args(["--mysql-user=app", "--mysql-password=app", "--mysql-db=app"])
        // What the primary refuses (a deadlock's victim) is no fault of the proxy.
        .arg("--mysql-ignore-errors=1213,1205,1020")
        .arg(format!("--mysql-port={}", peer.port))
        .arg(format!("--tables={TABLES}"))
        .arg(format!("--table-size={ROWS}"))
        .arg(format!("--threads={}", test.threads))
        .arg(format!("--time={seconds}"))
        .arg(format!("--db-ps-mode={mode}"));
    if let Some(rate) = test.rate {
        command.arg(format!("--rate={rate}"));
    }
    let output = command.arg(what).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "sysbench {what}: {said}");
    Ok(said)
}

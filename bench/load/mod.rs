//! The load generator: connections in closed loop, or at a rate, and how long each request took.
//!
//! One thread. Told `run SECONDS [RATE]` on stdin, it says on stdout in one line of JSON what came of
//! it; connections stay open in between, so that runs against several proxies can take turns. At a rate a
//! request's time counts from when it was sent, so that a late timer of ours is nobody's latency;
//! a stall shows as the longest time.

mod answer;
mod connection;
mod run;
mod statements;

use crate::arguments;
use anyhow::{Context, Result, bail};
use connection::{Connection, Door};
use run::{Pool, run_once};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;

/// What came of a run. Times are in µs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Came {
    pub requests: u64,
    /// Answered with an error.
    pub errors: u64,
    /// Connections that broke.
    pub broken: u64,
    /// Bytes of answers.
    pub bytes: u64,
    pub seconds: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// Connections are opened so many at a time.
const AT_ONCE: usize = 64;

pub fn run(arguments: &arguments::Load) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(arguments))
}

async fn serve(arguments: &arguments::Load) -> Result<()> {
    let pool = Rc::new(open(arguments).await?);
    println!("ready");
    // Between two runs there is nothing to serve: the thread may wait.
    for line in std::io::stdin().lines() {
        let (seconds, rate) = told(&line?)?;
        let came = run_once(arguments, &pool, seconds, rate).await?;
        println!("{}", serde_json::to_string(&came)?);
    }
    Ok(())
}

/// `run SECONDS [RATE]`
fn told(line: &str) -> Result<(Duration, Option<f64>)> {
    let mut words = line.split_whitespace();
    if words.next() != Some("run") {
        bail!("{line:?} is not understood");
    }
    let seconds = words.next().context("seconds")?.parse()?;
    let rate = words.next().map(str::parse).transpose()?;
    Ok((Duration::from_secs_f64(seconds), rate))
}

async fn open(arguments: &arguments::Load) -> Result<Pool> {
    let door = Door::new(arguments.port, arguments.tls.as_deref())?;
    let statements = if arguments.prepared {
        statements::to_prepare(arguments.ask)
    } else {
        Vec::new()
    };
    let mut pool = Vec::new();
    while pool.len() < arguments.connections {
        let some = AT_ONCE.min(arguments.connections - pool.len());
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..some {
            let (door, statements) = (door.clone(), statements.clone());
            opening.spawn_local(async move { Connection::open(&door, &statements).await });
        }
        while let Some(opened) = opening.join_next().await {
            pool.push(RefCell::new(Some(opened??)));
        }
    }
    Ok(pool)
}

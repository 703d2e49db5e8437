//! What stands between load and backend: nothing, a peer, or understudy.

mod haproxy;
mod router;
pub mod understudy;

use crate::account::{Account, Memory};
use crate::process::{Manner, Process};
use crate::workplace::Workplace;
use anyhow::{Context, Result};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;
use understudy::Setup;

/// A server is there within this time, or the bench ends.
const STARTS: Duration = Duration::from_secs(60);

/// What is started.
#[derive(Clone, Debug)]
pub enum Kind {
    Direct,
    Haproxy {
        threads: usize,
    },
    Router {
        threads: usize,
        /// Directory of the certificate for the client leg.
        tls: Option<PathBuf>,
    },
    Understudy(Setup),
}

/// Something that listens.
pub struct Peer {
    pub port: u16,
    process: Option<Process>,
    /// The admin's URL, of an understudy that mirrors.
    admin: Option<String>,
}

impl Peer {
    /// In front of the backend on this port; none where the peer cannot be had.
    pub fn start(workplace: &Workplace, kind: &Kind, backend: u16) -> Result<Option<Self>> {
        match kind {
            Kind::Direct => Ok(Some(Self {
                port: backend,
                process: None,
                admin: None,
            })),
            Kind::Haproxy { threads } => haproxy::start(workplace, *threads, backend),
            Kind::Router { threads, tls } => {
                router::start(workplace, *threads, tls.as_deref(), backend)
            }
            Kind::Understudy(setup) => understudy::start(workplace, setup, backend).map(Some),
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// What it has cost so far; nothing where there is none.
    pub fn account(&self) -> Result<Account> {
        self.pid()
            .map_or_else(|| Ok(Account::default()), Account::of)
    }

    pub fn memory(&self) -> Result<Memory> {
        Memory::of(self.pid().context("no process")?)
    }

    pub fn admin(&self) -> Option<&str> {
        self.admin.as_deref()
    }
}

/// Starts a program that is to listen on a port, and waits until it does.
pub fn started(
    workplace: &Workplace,
    name: &str,
    manner: Manner,
    command: &[String],
    port: u16,
) -> Result<Process> {
    let log = workplace.file(&format!("{name}-{port}.log"));
    let mut process = Process::start(manner, command, &log)?;
    let end = Instant::now() + STARTS;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        process.still_runs().with_context(|| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            format!("{name} does not listen on {port}:\n{said}")
        })?;
        anyhow::ensure!(Instant::now() < end, "{name} does not listen on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

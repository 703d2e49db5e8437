//! understudy, as a config makes it; and what its API says of what it mirrored.

use super::{Peer, STARTS, started};
use crate::process::move_threads;
use crate::workplace::{Workplace, free_port};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// All that was handed over is settled within this time, or the row says that it was not.
const SETTLES: Duration = Duration::from_secs(30);

/// From one look at what is pending to the next.
const LOOKS: Duration = Duration::from_millis(50);

/// Limits below `[mirror]` for loads that no shadow side keeps up with: nothing is dropped, and nothing is too
/// late, for what was dropped costs nothing.
pub const PATIENT: &str = "queue_bytes = \"1GiB\"\nsession_queue_bytes = \"256MiB\"\n\
    order_wait_ms = 600000\nbreaker_lag_ms = 600000\ntimeout_ms = 600000";

/// What is mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mirror {
    /// Nothing; production is followed all the same, as it is by default.
    #[default]
    Off,
    /// Nothing, and nothing is observed: what stays is the relay.
    Unobserved,
    Reads,
    All,
}

/// The proxy's own account at both servers.
#[derive(Clone, Debug, Default)]
pub enum Login {
    /// Anybody is let in.
    #[default]
    Canned,
    /// User and password at the primary, and at the shadow.
    Lab {
        own: (String, String),
        replay: (String, String),
    },
}

/// How it is set up.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// `listen.threads`.
    pub threads: usize,
    pub mirror: Mirror,
    /// The shadow's port; without one the backend is its own shadow, for a mirror that is off.
    pub shadow: Option<u16>,
    pub login: Login,
    /// Directory of the certificate for the client leg.
    pub tls: Option<PathBuf>,
    /// More lines below `[mirror]`.
    pub mirror_more: String,
}

/// In front of the backend on this port.
pub fn start(workplace: &Workplace, setup: &Setup, backend: u16) -> Result<Peer> {
    let (port, admin) = (free_port()?, free_port()?);
    let directory = workplace.file(&format!("understudy-{port}"));
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("understudy.toml");
    std::fs::write(
        &file,
        config(
            setup,
            &directory.display().to_string(),
            port,
            admin,
            backend,
        ),
    )?;
    let command = [
        workplace.understudy.display().to_string(),
        "serve".to_owned(),
        "--config".to_owned(),
        file.display().to_string(),
    ];
    let process = started(
        workplace,
        "understudy",
        workplace.of_proxy(),
        &command,
        port,
    )?;
    let peer = Peer {
        port,
        process: Some(process),
        admin: Some(format!("http://127.0.0.1:{admin}")),
    };
    let end = Instant::now() + STARTS;
    while get(&peer, "/readyz").is_err() {
        ensure!(Instant::now() < end, "understudy does not get ready");
        std::thread::sleep(LOOKS);
    }
    if let (Some(processor), Some(pid)) = (workplace.of_others().processor, peer.pid()) {
        move_threads(pid, processor, |name| !is_relay(name))?;
    }
    Ok(peer)
}

/// Whether threads of this name serve clients.
pub fn is_relay(name: &str) -> bool {
    name.starts_with("relay")
}

fn config(setup: &Setup, directory: &str, port: u16, admin: u16, backend: u16) -> String {
    let tls = setup.tls.as_ref().map_or_else(String::new, |tls| {
        let tls = tls.display();
        format!("tls_cert = \"{tls}/cert.pem\"\ntls_key = \"{tls}/key.pem\"\n")
    });
    let (reads, writes) = match setup.mirror {
        Mirror::Off | Mirror::Unobserved => (false, "off"),
        Mirror::Reads => (true, "off"),
        Mirror::All => (true, "apply"),
    };
    let observe = setup.mirror != Mirror::Unobserved;
    let shadow = setup.shadow.unwrap_or(backend);
    let (threads, more) = (setup.threads, &setup.mirror_more);
    let account = |user: &str, password: &str| {
        format!("tls = \"off\"\nuser = \"{user}\"\npassword = \"{password}\"\n")
    };
    let (own, replay) = match &setup.login {
        Login::Canned => (account("proxy", "proxy"), account("proxy", "proxy")),
        Login::Lab { own, replay } => (account(&own.0, &own.1), account(&replay.0, &replay.1)),
    };
    format!(
        "[listen]\naddress = \"127.0.0.1:{port}\"\nthreads = {threads}\n{tls}\
         [primary]\naddress = \"127.0.0.1:{backend}\"\n{own}\
         [shadow]\naddress = \"127.0.0.1:{shadow}\"\n{replay}\
         [mirror]\nreads = {reads}\nwrites = \"{writes}\"\nobserve = {observe}\n{more}\n\
         [ledger]\npath = \"{directory}/understudy.db\"\nlog = \"{directory}/divergences.jsonl\"\n\
         [admin]\naddress = \"127.0.0.1:{admin}\"\nconsole = \"\"\n"
    )
}

fn get(peer: &Peer, path: &str) -> Result<String> {
    let url = format!("{}{path}", peer.admin().context("no admin")?);
    Ok(ureq::get(&url).call()?.body_mut().read_to_string()?)
}

/// The commands of a time, by what became of them.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub commands: u64,
    pub matched: u64,
    /// All others, by name.
    pub others: BTreeMap<String, u64>,
}

impl Coverage {
    /// As the status has it now.
    pub fn now(peer: &Peer) -> Result<Self> {
        let status: Value = serde_json::from_str(&get(peer, "/api/v1/status")?)?;
        let coverage = status.get("coverage").context("no coverage")?;
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
        let mut others = BTreeMap::new();
        for name in ["tolerated", "diverged", "pending"] {
            others.insert(name.to_owned(), number(coverage.get(name)));
        }
        let reasons = coverage.get("not_compared").and_then(Value::as_object);
        for (reason, count) in reasons.into_iter().flatten() {
            others.insert(reason.clone(), number(Some(count)));
        }
        Ok(Self {
            commands: number(coverage.get("commands")),
            matched: number(coverage.get("matched")),
            others,
        })
    }

    /// Once nothing is pending any more, or it has been waited for long enough.
    pub fn settled(peer: &Peer) -> Result<Self> {
        let end = Instant::now() + SETTLES;
        loop {
            let coverage = Self::now(peer)?;
            if coverage.pending() == 0 || Instant::now() > end {
                return Ok(coverage);
            }
            std::thread::sleep(LOOKS);
        }
    }

    pub fn pending(&self) -> u64 {
        self.others.get("pending").copied().unwrap_or(0)
    }

    /// Those that were compared and found equal, or as good as that.
    pub fn judged(&self) -> u64 {
        self.matched + self.others.get("tolerated").copied().unwrap_or(0)
    }

    pub fn since(&self, before: &Self) -> Self {
        let others = self.others.iter().map(|(name, now)| {
            let then = before.others.get(name).copied().unwrap_or(0);
            (name.clone(), now.saturating_sub(then))
        });
        Self {
            commands: self.commands - before.commands,
            matched: self.matched - before.matched,
            others: others.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// What else became of commands than a match, in words; nothing where all matched.
    pub fn fault(&self) -> Option<String> {
        if self.matched == self.commands && self.commands > 0 {
            return None;
        }
        let others: Vec<String> = self
            .others
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        Some(format!(
            "of {} mirrored commands {} matched; {}",
            self.commands,
            self.matched,
            others.join(", ")
        ))
    }
}

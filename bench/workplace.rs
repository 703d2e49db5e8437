//! Where a run of the bench keeps its files, and what it found of the peers.

use crate::arguments::Table;
use crate::process::Manner;
use anyhow::{Context, Result, bail};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

/// See the module.
pub struct Workplace {
    directory: tempfile::TempDir,
    peers: BTreeMap<String, String>,
    /// The understudy that is measured.
    pub understudy: PathBuf,
    apart: Cell<bool>,
}

impl Workplace {
    /// Has the peers installed, where they are not.
    pub fn new(table: &Table) -> Result<Self> {
        let root = root();
        let installed = Command::new(root.join("bench/install")).status();
        if !installed.context("bench/install")?.success() {
            bail!("bench/install failed; it says why above");
        }
        let peers = std::fs::read_to_string(root.join("target/bench/peers"))?;
        let peers = peers.lines().filter_map(|line| line.split_once('='));
        let mut directory = tempfile::Builder::new()
            .prefix("understudy-bench-")
            .tempdir()?;
        if table.keep {
            directory.disable_cleanup(true);
            println!("logs: {}", directory.path().display());
        }
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_understudy"));
        Ok(Self {
            directory,
            peers: peers
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            understudy: table.understudy.clone().unwrap_or_else(built),
            apart: Cell::new(false),
        })
    }

    /// Whether what is started from now on has places: what serves clients in a proxy one processor for
    /// itself, all else another, the shadow side of an understudy included.
    /// Where the scheduler chooses, it chooses now this, now that, and a request costs half as much or twice.
    pub fn set_apart(&self, apart: bool) {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.apart.set(apart && processors > 1);
    }

    /// How a proxy is started.
    pub fn of_proxy(&self) -> Manner {
        Manner {
            processor: self.apart.get().then_some(0),
            ..Manner::default()
        }
    }

    /// How canned servers and loads are started.
    pub fn of_others(&self) -> Manner {
        Manner {
            processor: self.apart.get().then_some(1),
            ..Manner::default()
        }
    }

    /// A file's path.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What `bench/install` found, as a command; none where it could not be had.
    pub fn peer(&self, key: &str) -> Option<Vec<String>> {
        let command = self.peers.get(key)?;
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        (!words.is_empty()).then_some(words)
    }

    /// Directory of the certificate.
    pub fn tls(&self) -> Result<PathBuf> {
        let tls = self
            .peers
            .get("TLS")
            .context("no TLS in target/bench/peers")?;
        Ok(PathBuf::from(tls))
    }
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

//! A contender: a peer in front of a canned server, its load, and what a run of it came to.

use crate::account::{Account, Thread};
use crate::arguments::{Ask, Backend};
use crate::load::Came;
use crate::peers::understudy::{Coverage, Mirror, is_relay};
use crate::peers::{Kind, Peer, started};
use crate::process::{Manner, Process};
use crate::workplace::{Workplace, free_port};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::ChildStdout;

/// A canned server in a process of its own.
pub struct Canned {
    pub port: u16,
    pub process: Process,
}

impl Canned {
    pub fn start(workplace: &Workplace, how: &Backend) -> Result<Self> {
        Self::start_nice(workplace, 0, how)
    }

    /// At a lower priority.
    pub fn start_nice(workplace: &Workplace, nice: i32, how: &Backend) -> Result<Self> {
        let manner = Manner {
            nice,
            ..workplace.of_others()
        };
        let port = free_port()?;
        let mut command = itself("backend")?;
        command.extend(["--port".to_owned(), port.to_string()]);
        command.extend(["--delay-ms".to_owned(), how.delay_ms.to_string()]);
        if how.flood {
            command.push("--flood".to_owned());
        }
        if let Some(tls) = &how.tls {
            command.extend(["--tls".to_owned(), tls.display().to_string()]);
        }
        Ok(Self {
            port,
            process: started(workplace, "canned", manner, &command, port)?,
        })
    }
}

/// What a load is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    pub connections: usize,
    pub workers: Option<usize>,
    pub roam: bool,
    pub ask: Ask,
    pub prepared: bool,
    pub tls: bool,
    pub nice: i32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            connections: 8,
            workers: None,
            roam: false,
            ask: Ask::B200,
            prepared: false,
            tls: false,
            nice: 0,
        }
    }
}

/// A load generator whose connections are open.
pub struct Load {
    process: Process,
    says: BufReader<ChildStdout>,
}

impl Load {
    pub fn start(workplace: &Workplace, shape: &Shape, port: u16) -> Result<Self> {
        let mut command = itself("load")?;
        let mut add = |words: &[&str]| command.extend(words.iter().copied().map(str::to_owned));
        add(&["--port", &port.to_string()]);
        add(&["--connections", &shape.connections.to_string()]);
        add(&["--ask", shape.ask.word()]);
        if let Some(workers) = shape.workers {
            add(&["--workers", &workers.to_string()]);
        }
        if shape.roam {
            add(&["--roam"]);
        }
        if shape.prepared {
            add(&["--prepared"]);
        }
        if shape.tls {
            add(&["--tls", &workplace.tls()?.display().to_string()]);
        }
        let manner = Manner {
            nice: shape.nice,
            ..workplace.of_others()
        };
        let mut process = Process::talk(manner, &command)?;
        let stdout = process.child().stdout.take().context("stdout")?;
        let mut load = Self {
            process,
            says: BufReader::new(stdout),
        };
        let said = load.line()?;
        anyhow::ensure!(said == "ready", "the load says {said:?}");
        Ok(load)
    }

    /// Tells it to begin; [`Load::came`] waits for the end.
    pub fn begin(&mut self, seconds: f64, rate: Option<f64>) -> Result<()> {
        let stdin = self.process.child().stdin.as_mut().context("stdin")?;
        match rate {
            None => writeln!(stdin, "run {seconds}")?,
            Some(rate) => writeln!(stdin, "run {seconds} {rate}")?,
        }
        Ok(())
    }

    pub fn came(&mut self) -> Result<Came> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| line)
    }

    pub fn run(&mut self, seconds: f64, rate: Option<f64>) -> Result<Came> {
        self.begin(seconds, rate)?;
        self.came()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "the load has ended; it says why above");
        Ok(line.trim_end().to_owned())
    }
}

/// See the module.
pub struct Contender {
    pub name: String,
    pub peer: Peer,
    pub load: Load,
    /// It is an understudy, and a run ends once its shadow side has nothing left to do.
    settles: bool,
    /// Its commands are mirrored and must match.
    mirrors: bool,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Figures {
    pub came: Came,
    account: Account,
    /// What became of the mirrored commands; none where nothing is mirrored.
    pub coverage: Option<Coverage>,
}

impl Contender {
    /// None where the peer cannot be had.
    pub fn start(
        workplace: &Workplace,
        name: &str,
        kind: &Kind,
        backend: u16,
        shape: &Shape,
    ) -> Result<Option<Self>> {
        let Some(peer) = Peer::start(workplace, kind, backend).with_context(|| name.to_owned())?
        else {
            return Ok(None);
        };
        let load = Load::start(workplace, shape, peer.port).with_context(|| name.to_owned())?;
        let mirrors = matches!(kind, Kind::Understudy(setup) if setup.mirror != Mirror::Off);
        Ok(Some(Self {
            name: name.to_owned(),
            peer,
            load,
            settles: matches!(kind, Kind::Understudy(_)),
            mirrors,
        }))
    }

    /// What becomes of its mirrored commands is not looked at, nor waited for.
    pub fn unjudged(self) -> Self {
        Self {
            settles: false,
            mirrors: false,
            ..self
        }
    }

    /// A run, with what it cost; of an understudy, until all was compared: what it still had to do would be
    /// done at the next one's cost.
    pub fn measure(&mut self, seconds: f64, rate: Option<f64>) -> Result<Figures> {
        let before = self.settled()?;
        let account = self.peer.account()?;
        let came = self.load.run(seconds, rate)?;
        let after = self.settled()?;
        let account = self.peer.account()?.since(&account);
        let coverage = before.and_then(|before| Some(after?.since(&before)));
        Ok(Figures {
            came,
            account,
            coverage: coverage.filter(|_| self.mirrors),
        })
    }

    fn settled(&self) -> Result<Option<Coverage>> {
        let of = self.settles.then_some(&self.peer);
        of.map(Coverage::settled).transpose()
    }
}

impl Figures {
    /// CPU µs a request of the whole process; without the admin's thread, which serves the bench's own questions.
    pub fn cpu_us(&self) -> f64 {
        self.each(self.account.of_threads(|name| name != "admin").cpu_ns) / 1000.0
    }

    /// … of the threads that serve clients.
    pub fn relay_us(&self) -> f64 {
        self.each(self.relay().cpu_ns) / 1000.0
    }

    /// … of all that is done for the mirror: all threads but those, and the admin's.
    pub fn shadow_us(&self) -> f64 {
        let shadow = self
            .account
            .of_threads(|name| !is_relay(name) && name != "admin");
        self.each(shadow.cpu_ns) / 1000.0
    }

    /// Switches a request of the whole process.
    pub fn switches(&self) -> f64 {
        self.each(self.account.of_threads(|name| name != "admin").switches)
    }

    /// Requests a second.
    pub fn throughput(&self) -> f64 {
        self.came.requests as f64 / self.came.seconds
    }

    fn relay(&self) -> Thread {
        self.account.of_threads(is_relay)
    }

    fn each(&self, of_all: u64) -> f64 {
        of_all as f64 / self.came.requests.max(1) as f64
    }

    /// Why the figures are worth little: errors, connections that broke, a mirror that did not compare.
    pub fn fault(&self) -> Option<String> {
        if self.came.errors + self.came.broken > 0 {
            return Some(format!(
                "{} errors, {} connections broke",
                self.came.errors, self.came.broken
            ));
        }
        self.coverage.as_ref().and_then(Coverage::fault)
    }
}

/// The bench itself, as one of its processes.
fn itself(work: &str) -> Result<Vec<String>> {
    let program = std::env::current_exe()?;
    Ok(vec![program.display().to_string(), work.to_owned()])
}

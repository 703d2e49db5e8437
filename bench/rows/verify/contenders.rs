//! Who compares two servers, and by which commands.
//!
//! The others log in as root by the servers' sockets, which costs them less than understudy's TCP does: their client
//! library cannot log in to MySQL 9.7 over plain TCP.

use super::super::Bench;
use super::fill::Table;
use super::spent::{Spent, Step, run};
use crate::lab::Lab;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Understudy,
    Dumps,
    Percona,
}

impl Contender {
    pub(super) const ALL: [Self; 3] = [Self::Understudy, Self::Dumps, Self::Percona];
    /// Where the others cannot compare.
    pub(super) const OURS: [Self; 1] = [Self::Understudy];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Understudy => "understudy verify",
            Self::Dumps => "two dumps at once and a diff",
            Self::Percona => "pt-table-sync --print",
        }
    }

    /// How a row stands in what it says.
    fn tells(self, said: &str, id: u32) -> bool {
        let words = match self {
            Self::Understudy => format!("`id` = {id}\""),
            Self::Dumps => format!(" {id}\t"),
            Self::Percona => format!("'{id}'"),
        };
        said.contains(&words)
    }
}

/// Two servers.
pub(super) struct Pair<'a> {
    bench: &'a Bench,
    pub(super) name: &'static str,
    /// Their processes.
    pids: [Vec<u32>; 2],
    /// Root's sockets, where both have one.
    sockets: Option<[String; 2]>,
    /// understudy's.
    config: PathBuf,
}

impl<'a> Pair<'a> {
    pub(super) fn plain(bench: &'a Bench, lab: &Lab, modern: &Lab) -> Result<Self> {
        let socket = |lab: &Lab| lab.value("LEGACY_ROOT_SOCKET").map(str::to_owned);
        let accounts = [
            lab.account("LEGACY_PROXY")?,
            modern.account("LEGACY_PROXY")?,
        ];
        let ports = [lab.port("LEGACY_PORT")?, modern.port("LEGACY_PORT")?];
        Ok(Self {
            bench,
            name: "MySQL 5.6 and MySQL 9.7",
            pids: [pids(lab, &["LEGACY_PID"])?, pids(modern, &["LEGACY_PID"])?],
            sockets: Some([socket(lab)?, socket(modern)?]),
            config: config(bench, "plain", ports, &accounts)?,
        })
    }

    pub(super) fn sharded(bench: &'a Bench, lab: &Lab) -> Result<Self> {
        let accounts = [lab.account("LEGACY_PROXY")?, lab.account("SHADOW_PROXY")?];
        let ports = [lab.port("LEGACY_PORT")?, lab.port("SHADOW_PORT")?];
        Ok(Self {
            bench,
            name: "MySQL 5.6 and a vtgate of two shards",
            pids: [
                pids(lab, &["LEGACY_PID"])?,
                pids(lab, &["SHADOW_PID", "SHADOW_STORE_PID"])?,
            ],
            sockets: None,
            config: config(bench, "sharded", ports, &accounts)?,
        })
    }

    pub(super) fn run(&self, contender: Contender, table: &Table) -> Result<Spent> {
        let out = self.bench.workplace.file("verify.out");
        let mut spent = match contender {
            Contender::Understudy => self.understudy(table, &out)?,
            Contender::Dumps => self.dumps(table, &out)?,
            Contender::Percona => self.percona(table, &out)?,
        };
        let said = std::fs::read_to_string(&out)?;
        let planted = table.planted();
        let missed = planted
            .iter()
            .filter(|(_, id)| !contender.tells(&said, *id));
        spent.missed = missed.map(|(what, _)| *what).collect();
        Ok(spent)
    }

    fn servers(&self) -> [&[u32]; 2] {
        let [first, second] = &self.pids;
        [first, second]
    }

    /// Without a running understudy: what reads is all that there is of it.
    fn understudy(&self, table: &Table, out: &PathBuf) -> Result<Spent> {
        let mut command = Command::new(&self.bench.workplace.understudy);
        command
            .args(["verify", "--format", "json", "--config"])
            .arg(&self.config)
            .arg(format!("--tables=app.{}", table.name()));
        let step = Step {
            command,
            out,
            // Something differs.
            good: &[1],
        };
        run(&mut [step], self.servers())
    }

    /// By the client's own hand, which writes less than mysqldump does: MariaDB's mysqldump, which is what Debian has, asks a
    /// MySQL 5.6 for a column that it lacks.
    fn dumps(&self, table: &Table, out: &PathBuf) -> Result<Spent> {
        let sockets = self.sockets.as_ref().context("two sockets")?;
        let files = ["one.tsv", "other.tsv"].map(|name| self.bench.workplace.file(name));
        let mut steps = Vec::new();
        for (at, socket) in sockets.iter().enumerate() {
            let mut command = Command::new("mysql");
            command
                .arg("--no-defaults")
                .arg(format!("--socket={socket}"))
                .args(["--user=root", "--default-character-set=utf8mb4"])
                .args(["--quick", "--batch", "--skip-column-names", "app"])
                .arg(format!(
                    "--execute=SELECT * FROM {} ORDER BY id",
                    table.name()
                ));
            let out = files.get(at).context("a file for each")?;
            let good = &[0];
            steps.push(Step { command, out, good });
        }
        let dumped = run(&mut steps, self.servers())?;
        let mut command = Command::new("diff");
        command.args(&files);
        let step = Step {
            command,
            out,
            good: &[1],
        };
        let compared = run(&mut [step], self.servers())?;
        files.iter().try_for_each(std::fs::remove_file)?;
        Ok(dumped.then(compared))
    }

    fn percona(&self, table: &Table, out: &PathBuf) -> Result<Spent> {
        let [first, second] = self.sockets.as_ref().context("two sockets")?;
        let name = table.name();
        let mut command = Command::new("pt-table-sync");
        command
            .args(["--print", "--no-check-slave", "--charset=utf8mb4"])
            .arg(format!("u=root,S={first},D=app,t={name}"))
            .arg(format!("u=root,S={second},D=app,t={name}"));
        let step = Step {
            command,
            out,
            good: &[2],
        };
        run(&mut [step], self.servers())
    }
}

fn pids(lab: &Lab, keys: &[&str]) -> Result<Vec<u32>> {
    keys.iter()
        .map(|key| Ok(lab.value(key)?.parse()?))
        .collect()
}

/// As fast as it can, for nobody is served, and with keys told.
fn config(
    bench: &Bench,
    name: &str,
    ports: [u16; 2],
    accounts: &[(String, String); 2],
) -> Result<PathBuf> {
    let file = bench.workplace.file(&format!("verify-{name}.toml"));
    let ledger = bench.workplace.file(&format!("verify-{name}.db"));
    let server = |at: usize| {
        let (user, password) = accounts.get(at)?;
        let port = ports.get(at)?;
        Some(format!(
            "address = \"127.0.0.1:{port}\"\ntls = \"off\"\nuser = \"{user}\"\npassword = \"{password}\"\n"
        ))
    };
    let (first, second) = (server(0).context("two")?, server(1).context("two")?);
    let text = format!(
        "[primary]\n{first}[shadow]\n{second}[ledger]\npath = \"{}\"\nlog = \"\"\nliterals = \"keep\"\n[verify]\nshare = 1.0\nrange_rows = 10000\n",
        ledger.display()
    );
    std::fs::write(&file, text)?;
    Ok(file)
}

//! Real servers, from `lab/up`: MySQL 5.6 and a vtgate, or a MySQL 9.7 by itself. Taken down when dropped.

use crate::workplace::root;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// They end by themselves after so long, whatever becomes of the bench.
const ENDS_AFTER_S: &str = "3600";

/// See the module.
pub struct Lab {
    run: PathBuf,
    values: BTreeMap<String, String>,
}

impl Lab {
    /// MySQL 5.6 and a vtgate.
    pub fn start() -> Result<Self> {
        Self::up("lab", &[("LAB_PARTS", "legacy,shadow")])
    }

    /// MySQL 9.7 alone: as the lab's legacy, for it stands by itself.
    pub fn modern() -> Result<Self> {
        let parts = [("LAB_PARTS", "legacy"), ("LAB_LEGACY", "mysql97")];
        Self::up("lab-modern", &parts)
    }

    fn up(name: &str, parts: &[(&str, &str)]) -> Result<Self> {
        let run = root().join("target/bench").join(name);
        let mut up = lab("up", &run);
        up.env("LAB_TTL_S", ENDS_AFTER_S)
            .envs(parts.iter().copied());
        ensure!(up.status()?.success(), "lab/up failed; it says why above");
        let text = std::fs::read_to_string(run.join("env"))?;
        let values = text.lines().filter_map(|line| line.split_once('='));
        let values = values.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(Self {
            values: values.collect(),
            run,
        })
    }

    /// What the `env` says.
    pub fn value(&self, key: &str) -> Result<&str> {
        let value = self.values.get(key).with_context(|| key.to_owned())?;
        Ok(value)
    }

    /// A user and the password, by what the `env` calls them.
    pub fn account(&self, of: &str) -> Result<(String, String)> {
        let value = |key: &str| self.value(key).map(str::to_owned);
        Ok((
            value(&format!("{of}_USER"))?,
            value(&format!("{of}_PASSWORD"))?,
        ))
    }

    pub fn port(&self, key: &str) -> Result<u16> {
        Ok(self.value(key)?.parse()?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It ends by itself, too.
        let _ = lab("down", &self.run).status();
    }
}

fn lab(what: &str, run: &PathBuf) -> Command {
    let mut command = Command::new(root().join("lab").join(what));
    command.env("LAB_RUN", run).stdin(Stdio::null());
    command
}

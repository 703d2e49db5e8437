//! What the two processes say to each other, a line of JSON each.

use crate::app::supervisor;
use crate::config::Config;
use crate::shadow::{Switched, Written};
use crate::sql::Table;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// The form of these letters. Two processes that write different ones do not hand over.
pub(super) const FORM: u32 = 3;

/// The longest drain that a config may say.
const DRAIN_MAX_S: u64 = 3600;

/// A drain that a letter tells.
pub(super) fn drain(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(DRAIN_MAX_S))
}

/// What the new process says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromNew {
    /// Who it is.
    Hello(Hello),
    /// It has all that it needs to serve, and waits for the old one's word.
    Ready,
    /// It serves, and all of its relay's threads turn.
    Beat,
    /// It was told to end, and asks the old one to end its sessions too.
    End,
}

/// What the old process says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromOld {
    /// It does not hand over, and why.
    Refused(String),
    /// What the new one needs; the listeners come with it.
    Offer(Offer),
    /// It accepts no more: the new one does, from here on, with the mirror switched otherwise than the config says as
    /// it is at this moment.
    Yours(Switched),
    /// It was told to end, and asks the new one to end too.
    End,
    /// Its last session is over and the shadow has all of it; it closes the ledger.
    Ended(Wrote),
}

/// What of the new process' config must be as the old one's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) form: u32,
    pub(super) version: String,
    /// `listen.address`
    pub(super) listen: SocketAddr,
    /// The ledger's file, whole.
    pub(super) ledger: PathBuf,
    /// Both servers, and where they are.
    pub(super) servers: Vec<String>,
    /// Its supervisor, where it has one ([`supervisor::whose`]).
    pub(super) supervisor: Option<String>,
    /// Its `listen.drain_timeout_s`, which may differ: where both end, each counts with the longer one.
    #[serde(default)]
    pub(super) drain_s: u64,
}

impl Hello {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            form: FORM,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: config.listen.address,
            ledger: whole(&config.ledger.path),
            servers: [&config.primary, &config.shadow]
                .map(|server| format!("{} at {}:{}", server.name, server.host, server.port))
                .to_vec(),
            supervisor: supervisor::whose(),
            drain_s: config.listen.drain_timeout.now().as_secs(),
        }
    }

    /// Why a process with this config does not hand over to who says so; none where it may.
    pub(super) fn is_wrong_for(&self, config: &Config) -> Option<String> {
        let ours = Self::of(config);
        if self.form != ours.form {
            return Some(format!(
                "{} and {} do not understand each other's hand-over: stop the one that serves, then start the other",
                ours.version, self.version
            ));
        }
        if self.listen != ours.listen {
            return Some(format!(
                "it listens on {}, and listen.address of the new config is {}: that takes a restart",
                ours.listen, self.listen
            ));
        }
        if self.ledger != ours.ledger {
            return Some(format!(
                "its ledger is {}, and the new config's is {}: who is primary stands there, so that takes a restart",
                ours.ledger.display(),
                self.ledger.display()
            ));
        }
        if let Some(why) = self.is_a_strangers(ours.supervisor.as_deref()) {
            return Some(why);
        }
        let (mut mine, mut theirs) = (ours.servers, self.servers.clone());
        mine.sort();
        theirs.sort();
        (mine != theirs).then(|| {
            format!(
                "its servers are {}, and the new config's are {}: sessions of both processes would write to different ones, so that takes a restart",
                mine.join(" and "),
                theirs.join(" and ")
            )
        })
    }
}

impl Hello {
    /// At the end of a process that its supervisor watches it must go on with one that is in the same place: else it
    /// starts the program anew, beside the one that serves.
    fn is_a_strangers(&self, ours: Option<&str>) -> Option<String> {
        let is_same = ours.is_none() || self.supervisor.as_deref() == ours;
        (!is_same).then(|| {
            "it runs in a unit of systemd's, and the new one does not run in the same: have that start it, by `systemctl kill --kill-who=main --signal=USR2 UNIT`".to_owned()
        })
    }
}

/// The same path however it was written, as far as it is there.
fn whole(path: &Path) -> PathBuf {
    let whole = path.canonicalize().or_else(|_| std::path::absolute(path));
    whole.unwrap_or_else(|_| path.to_owned())
}

/// What the old process hands over, beside the listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offer {
    /// Its number.
    pub(super) process: u32,
    /// Who is primary.
    pub(super) primary: String,
    /// What clients are offered ([`crate::relay::Offer`]).
    pub(super) dialect: u32,
    /// By which the ledger knows the new one.
    pub(super) token: String,
    /// Its end comes within so many seconds.
    pub(super) ends_s: u64,
    /// Behind the listeners of clients and admin there is the console's.
    pub(super) console: bool,
    /// A supervisor watches it, and hears of both processes from it alone, to its end.
    pub(super) supervised: bool,
    /// Its `listen.drain_timeout_s`: see [`Hello`].
    pub(super) drain_s: u64,
}

/// What the old process' sessions wrote while the new one served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wrote {
    /// The moment of which this is said, in µs since the machine's start: the same for both, and nobody sets it.
    at_us: u64,
    /// Database, table, and how many µs before it was written last.
    tables: Vec<(Option<String>, String, u64)>,
    /// The same of tables that are not known.
    any_us: Option<u64>,
}

/// A letter is not longer on its way: what is more is another machine's clock.
const WAY_MAX: Duration = Duration::from_secs(10);

impl From<Written> for Wrote {
    fn from(written: Written) -> Self {
        let tables = written.tables.into_iter();
        Self {
            at_us: uptime_us().saturating_sub(micros(written.at.elapsed())),
            tables: tables
                .map(|(table, ago)| (table.database, table.name, micros(ago)))
                .collect(),
            any_us: written.any.map(micros),
        }
    }
}

impl From<Wrote> for Written {
    fn from(wrote: Wrote) -> Self {
        let way = uptime_us().saturating_sub(wrote.at_us);
        let way = Duration::from_micros(way).min(WAY_MAX);
        let now = Instant::now();
        let tables = wrote.tables.into_iter();
        Self {
            at: now.checked_sub(way).unwrap_or(now),
            tables: tables
                .map(|(database, name, ago)| (Table { database, name }, Duration::from_micros(ago)))
                .collect(),
            any: wrote.any_us.map(Duration::from_micros),
        }
    }
}

fn uptime_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = |part: i64| u64::try_from(part).unwrap_or(0);
    micros(now.tv_sec) * 1_000_000 + micros(now.tv_nsec) / 1000
}

/// Rounded down: then it was written later rather than earlier.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, &[]).unwrap()
    }

    #[test]
    fn a_process_with_another_place_or_other_servers_is_given_nothing() {
        let ours = config("");
        let wrong = |text: &str| Hello::of(&config(text)).is_wrong_for(&ours);
        assert_eq!(wrong(""), None);
        assert_eq!(wrong("[mirror]\nsample = 0.5\n"), None);
        for (text, why) in [
            ("[listen]\naddress = \"127.0.0.1:3307\"\n", "listen.address"),
            ("[ledger]\npath = \"other.db\"\n", "its ledger is"),
            ("[primary]\nname = \"old\"\n", "its servers are"),
            (
                "[primary]\naddress = \"other:3306\"\n",
                "legacy at other:3306",
            ),
            (
                "[shadow]\naddress = \"127.0.0.1:9\"\n",
                "vitess at 127.0.0.1:9",
            ),
        ] {
            let said = wrong(text).unwrap();
            assert!(said.contains(why), "{said}");
        }
        let mut by_hand = Hello::of(&ours);
        by_hand.supervisor = None;
        assert_eq!(by_hand.is_a_strangers(None), None);
        let said = by_hand.is_a_strangers(Some("/run/systemd/notify 0::/a"));
        assert!(said.unwrap().contains("USR2"));
        by_hand.supervisor = Some("/run/systemd/notify 0::/a".into());
        assert_eq!(by_hand.is_a_strangers(by_hand.supervisor.as_deref()), None);
        assert_eq!(by_hand.is_a_strangers(None), None);
        by_hand
            .is_a_strangers(Some("/run/systemd/notify 0::/b"))
            .unwrap();
        let mut later = Hello::of(&ours);
        later.form += 1;
        let said = later.is_wrong_for(&ours).unwrap();
        assert!(said.contains("do not understand"), "{said}");
    }

    #[test]
    fn what_was_written_comes_across_as_it_was() {
        let table = |database: Option<&str>| Table {
            database: database.map(str::to_owned),
            name: "t".into(),
        };
        let written = Written {
            at: Instant::now(),
            tables: vec![
                (table(Some("app")), Duration::from_millis(1500)),
                (table(None), Duration::ZERO),
            ],
            any: Some(Duration::from_secs(3)),
        };
        let letter = FromOld::Ended(written.clone().into());
        let line = serde_json::to_string(&letter).unwrap();
        let FromOld::Ended(read) = serde_json::from_str(&line).unwrap() else {
            panic!("{line}");
        };
        let read = Written::from(read);
        let apart = read.at.max(written.at) - read.at.min(written.at);
        assert!(apart < Duration::from_secs(1), "{apart:?}");
        assert_eq!(read.as_of(written.at), written);
    }
}

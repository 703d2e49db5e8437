//! What stands in the store, and how it is read: who belongs to the fleet, which cutover is called, what
//! each proxy has said of it, and who is primary.
//!
//! Pure. Below the prefix: `primary`, `members`, `cutover`; `said/ID/NAME` for each proxy's last word in the
//! cutover ID, and `sessions/ID/NAME` for its sessions while the guards are judged; `lost/NAME` for a proxy
//! that took dark writes with it, and `replication_stopped`. All are JSON, so that an operator can read them
//! with `etcdctl get --prefix`. Who may write there can order a cutover.

use super::store::{Look, Revision};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A proxy of the fleet. It has no lease: who is silent still counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The run of the process.
    pub instance: String,
    /// Since when it has been running.
    pub at: jiff::Timestamp,
}

/// Who is primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Primary {
    /// The server's name.
    pub name: String,
    /// The cutover that made it so; none where the first proxy of the fleet said it.
    pub cutover: Option<String>,
    /// That cutover was a way back: it is not undone.
    #[serde(default)]
    pub is_back: bool,
    /// Since when.
    pub at: jiff::Timestamp,
}

/// A proxy that took dark writes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// When it went.
    pub at: jiff::Timestamp,
    /// How.
    pub why: String,
}

/// A cutover that every proxy is called to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its name.
    pub id: String,
    /// The proxy that was asked.
    pub leader: String,
    /// The primary.
    pub from: String,
    /// Who is to be.
    pub to: String,
    /// Who asked.
    pub who: String,
    /// It ends before the hold.
    pub dry_run: bool,
    /// It goes back to the server that was primary before.
    pub is_back: bool,
    /// The guards that it overrides.
    pub force: Vec<String>,
    /// Those that must take part, each with its run.
    pub members: BTreeMap<String, String>,
    /// Since when.
    pub at: jiff::Timestamp,
    /// How far it is.
    pub phase: Phase,
    /// Why it ended so.
    pub why: String,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is under way.
    Called,
    /// It made its server the primary.
    Switched,
    /// It ended before, as it was to.
    Ended,
    /// It ended before, and was not to.
    Aborted,
}

/// What a proxy says in a call. Each word says those before it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// It has heard the call.
    Here,
    /// Its guards let it pass.
    Checked,
    /// Its sessions have their connections to the other side.
    Prepared,
    /// Its sessions are held.
    Held,
    /// And the shadow has everything of theirs: from here on it knows its primary from the store alone.
    Whole,
}

impl Word {
    /// What one has not done who has not said it.
    pub(super) const fn undone(self) -> &'static str {
        match self {
            Self::Here => "does not answer",
            Self::Checked => "has not judged its guards",
            Self::Prepared => "has not prepared its sessions",
            Self::Held => "has not held its sessions",
            Self::Whole => "has not caught up",
        }
    }
}

/// A proxy's last word in a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::cutover) struct Said {
    /// The word.
    pub(in crate::cutover) word: Word,
    /// The run of the process that says it.
    pub(in crate::cutover) instance: String,
    /// Its guards that refuse.
    #[serde(default)]
    pub(in crate::cutover) refused: Vec<RefusedGuard>,
}

/// A proxy's sessions at the primary, so that no other takes them for clients past the proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cutover) struct Sessions {
    /// The primary's newest thread when this was said; none where the primary does not tell.
    pub(in crate::cutover) newest: Option<u32>,
    /// Their threads.
    pub(in crate::cutover) threads: BTreeSet<u32>,
}

/// A guard that refuses at another proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::cutover) struct RefusedGuard {
    /// Its name.
    pub(in crate::cutover) name: String,
    /// Its figure.
    pub(in crate::cutover) value: Value,
    /// Why.
    pub(in crate::cutover) why: String,
}

/// Everything that stands in the store, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::cutover) struct Board {
    /// The store's revision then.
    pub(in crate::cutover) revision: Revision,
    pub(in crate::cutover) members: BTreeMap<String, Member>,
    pub(in crate::cutover) members_at: Revision,
    pub(in crate::cutover) call: Option<Call>,
    pub(in crate::cutover) call_at: Revision,
    pub(in crate::cutover) primary: Option<Primary>,
    pub(in crate::cutover) primary_at: Revision,
    /// Of the present call alone.
    pub(in crate::cutover) said: BTreeMap<String, (Said, Revision)>,
    /// Likewise, while the guards are judged.
    pub(super) sessions: BTreeMap<String, Sessions>,
    /// Proxies that took dark writes with them.
    pub(super) lost: BTreeMap<String, Lost>,
    /// The switch since which forward replication has ended.
    pub(super) stopped: Option<String>,
}

/// The keys below a prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    /// `prefix` ends with a slash, or is given one.
    pub(super) fn below(prefix: &str) -> Self {
        let mut prefix = prefix.to_owned();
        if !prefix.ends_with('/') {
            prefix.push('/');
        }
        Self { prefix }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn primary(&self) -> String {
        format!("{}primary", self.prefix)
    }

    pub(super) fn members(&self) -> String {
        format!("{}members", self.prefix)
    }

    pub(super) fn cutover(&self) -> String {
        format!("{}cutover", self.prefix)
    }

    /// Since which switch forward replication has ended.
    pub(super) fn stopped(&self) -> String {
        format!("{}replication_stopped", self.prefix)
    }

    pub(super) fn all_lost(&self) -> String {
        format!("{}lost/", self.prefix)
    }

    pub(super) fn lost(&self, name: &str) -> String {
        format!("{}lost/{name}", self.prefix)
    }

    /// Of all calls.
    pub(super) fn all_said(&self) -> String {
        format!("{}said/", self.prefix)
    }

    pub(super) fn said(&self, call: &str, name: &str) -> String {
        format!("{}said/{call}/{name}", self.prefix)
    }

    /// Of all calls.
    pub(super) fn all_sessions(&self) -> String {
        format!("{}sessions/", self.prefix)
    }

    pub(super) fn sessions(&self, call: &str, name: &str) -> String {
        format!("{}sessions/{call}/{name}", self.prefix)
    }

    /// What a look has seen.
    ///
    /// # Errors
    /// A value is none of a fleet's, in words.
    pub(super) fn read(&self, look: &Look) -> Result<Board, String> {
        let mut board = Board {
            revision: look.revision,
            ..Board::default()
        };
        let mut of_calls = Vec::new();
        for entry in &look.entries {
            let value = &entry.value;
            match entry.key.strip_prefix(&self.prefix) {
                Some("primary") => {
                    board.primary = Some(read(&entry.key, value)?);
                    board.primary_at = entry.revision;
                }
                Some("members") => {
                    board.members = read(&entry.key, value)?;
                    board.members_at = entry.revision;
                }
                Some("cutover") => {
                    board.call = Some(read(&entry.key, value)?);
                    board.call_at = entry.revision;
                }
                Some("replication_stopped") => board.stopped = read(&entry.key, value)?,
                Some(other) if other.starts_with("lost/") => {
                    let name = other.trim_start_matches("lost/").to_owned();
                    board.lost.insert(name, read(&entry.key, value)?);
                }
                Some(other) if other.starts_with("said/") || other.starts_with("sessions/") => {
                    of_calls.push(entry);
                }
                // A later version's, or somebody else's.
                _ => {}
            }
        }
        let Some(call) = &board.call else {
            return Ok(board);
        };
        let (said, sessions) = (self.said(&call.id, ""), self.sessions(&call.id, ""));
        for entry in of_calls {
            if let Some(name) = entry.key.strip_prefix(&said) {
                let one = (read(&entry.key, &entry.value)?, entry.revision);
                board.said.insert(name.to_owned(), one);
            } else if let Some(name) = entry.key.strip_prefix(&sessions) {
                let one = read(&entry.key, &entry.value)?;
                board.sessions.insert(name.to_owned(), one);
            }
        }
        Ok(board)
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| {
        format!(
            "what etcd has at {key} is none of understudy's ({error}): is fleet.prefix used by something else, or a newer version?"
        )
    })
}

impl Board {
    /// Those of the present call who have not said this word, in the run that was called.
    pub(super) fn missing(&self, word: Word) -> Vec<&str> {
        let Some(call) = &self.call else {
            return Vec::new();
        };
        let missing = call.members.iter().filter(|(name, instance)| {
            let said = self.said.get(*name);
            !said.is_some_and(|(said, _)| said.word >= word && said.instance == **instance)
        });
        missing.map(|(name, _)| name.as_str()).collect()
    }

    /// The sessions of all proxies of the call. A thread that one of them may not have known when it said
    /// its own is judged by nobody.
    pub(super) fn all_sessions(&self) -> Sessions {
        let all = self.sessions.values();
        Sessions {
            newest: all.clone().filter_map(|one| one.newest).min(),
            threads: all.flat_map(|one| &one.threads).copied().collect(),
        }
    }

    /// Why there can be no cutover, where proxies took dark writes with them.
    pub(super) fn why_lost(&self) -> Option<String> {
        let told = self.lost.iter();
        let told: Vec<String> = told
            .map(|(name, lost)| format!("{name} {}", lost.why))
            .collect();
        (!told.is_empty()).then(|| {
            format!(
                "dark writes may be missing on the shadow: {}. Compare the tables and put them right, then POST /api/v1/taints/clear with tables [\"*\"]; or override the guard taint",
                told.join("; ")
            )
        })
    }

    /// Whether forward replication has ended since the last switch.
    pub(in crate::cutover) fn has_stopped(&self) -> bool {
        let switched = self
            .primary
            .as_ref()
            .and_then(|primary| primary.cutover.as_ref());
        switched.is_some() && self.stopped.as_ref() == switched
    }

    /// The call, where it is this one.
    pub(super) fn call_of(&self, id: &str) -> Option<&Call> {
        self.call.as_ref().filter(|call| call.id == id)
    }

    /// The call, where it is under way.
    pub(in crate::cutover) fn under_way(&self) -> Option<&Call> {
        let called = |call: &&Call| call.phase == Phase::Called;
        self.call.as_ref().filter(called)
    }
}

//! The config read again, while the process runs with an earlier one: which keys say something else, which of them
//! can be taken now, and taking them.
//!
//! All or nothing: where one key cannot change in a running process, none does. A key that can is a [`Live`]
//! value, and stands in the table [`LIVE`]; every other one needs a restart.
//!
//! [`Live`]: super::Live

use super::Config;
use super::source::{self, Table, Value};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Has the running config take one value of the one that was read.
type Take = fn(&Config, &Config);

macro_rules! live {
    ($($key:literal => $($field:ident).+),+ $(,)?) => {
        &[$((
            $key,
            |running: &Config, read: &Config| running.$($field).+.follow(&read.$($field).+),
        )),+]
    };
}

/// The keys that can change while the process runs, or sections of such keys, and how each is taken.
const LIVE: &[(&str, Take)] = live! {
    "log.filter" => log.filter,
    "listen.max_connections" => listen.max_connections,
    "listen.login_timeout_s" => listen.login_timeout,
    "listen.write_timeout_s" => listen.write_timeout,
    "listen.drain_timeout_s" => listen.drain_timeout,
    "listen.handover_s" => listen.handover_time,
    "mirror.reads" => mirror.reads,
    "mirror.writes" => mirror.writes,
    "mirror.sample" => mirror.sample,
    "mirror.observe" => mirror.observe,
    "mirror.answer_bytes_max" => mirror.answer_bytes_max,
    "mirror.order_wait_ms" => mirror.order_wait,
    "mirror.timeout_ms" => mirror.timeout,
    "mirror.breaker_errors" => mirror.breaker,
    "mirror.breaker_lag_ms" => mirror.breaker,
    "mirror.breaker_pause_ms" => mirror.breaker,
    "compare.tolerate" => compare.measure,
    "compare.examples" => compare.measure,
    "compare.example_cell_bytes" => compare.measure,
    "compare.clock_ms" => compare.measure,
    "compare.rules" => compare.rules,
    "compare.rule_stale_s" => compare.rule_stale,
    "ledger.log_bytes" => ledger.log_bytes,
    "ledger.log_files" => ledger.log_files,
    "ledger.divergences_max" => ledger.divergences_max,
    "ledger.findings_max" => ledger.findings_max,
    "ledger.max_age_s" => ledger.max_age,
    "readiness" => readiness,
    "cutover.hold_ms_max" => cutover.hold_max,
    "cutover.soak_s" => cutover.soak,
    "cutover.soak_errors_max" => cutover.soak_errors_max,
    "cutover.soak_latency_max" => cutover.soak_latency_max,
    "cutover.hook_timeout_s" => cutover.hook_timeout,
    "cutover.require_verification" => cutover.require_verification,
    "cutover.verification_age_max_s" => cutover.verification_age_max,
    "cutover.verification_tables" => cutover.verification_tables,
    "cutover.verification_rows" => cutover.verification_rows,
    "admin.console_rows" => admin.console_rows,
    "admin.console_timeout_ms" => admin.console_timeout,
};

/// Files that stay the same ones while it runs, and whose content is taken where it is another one: by whoever reads
/// the config again, for no value of the config has it. Of all others that are read once, that needs a restart.
const CONTENTS: [&str; 2] = ["listen.tls_cert", "listen.tls_key"];

/// Lists whose entries are not told one by one.
const WHOLE: [&str; 1] = ["compare.rules"];

/// A key that says something else in the config that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its dotted name, `listen.max_connections`.
    pub key: String,
    /// What it said, as it was written; words where nothing is written, or what is must not be shown.
    pub from: String,
    /// What it says.
    pub to: String,
    /// Why a key that could change cannot to this value.
    pub why: Option<&'static str>,
}

/// What differs between the config that a process runs with and one that was read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Keys that can change while the process runs.
    pub changed: Vec<Difference>,
    /// Keys that cannot: while there are any, none is changed.
    pub needs_restart: Vec<Difference>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.key, self.from, self.to)?;
        match self.why {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

impl Differences {
    /// One more, and whether it can change while the process runs.
    fn add(&mut self, (difference, is_taken): (Difference, bool)) {
        let list = if is_taken {
            &mut self.changed
        } else {
            &mut self.needs_restart
        };
        if !list.contains(&difference) {
            list.push(difference);
        }
    }

    /// Why nothing of it can be taken, and what to do.
    #[must_use]
    pub fn refusal(&self) -> String {
        let keys: Vec<String> = self.needs_restart.iter().map(ToString::to_string).collect();
        format!(
            "a running process cannot change {}; a new one takes over with it and no client notices, by `understudy serve --take-over` or, under systemd, by SIGUSR2 (docs/upgrade.md); or put the file back",
            keys.join(", ")
        )
    }
}

impl Config {
    /// Whether a key, by its dotted name, can change while the process runs.
    #[must_use]
    pub fn is_live(key: &str) -> bool {
        takes(key).next().is_some()
    }

    /// In which keys `read` differs.
    #[must_use]
    pub fn differences(&self, read: &Self) -> Differences {
        let (ours, theirs) = (self.keys.whole(), read.keys.whole());
        let names: BTreeSet<&String> = ours.0.keys().chain(theirs.0.keys()).collect();
        let mut found = Differences::default();
        for name in names {
            let (from, to) = (ours.0.get(name), theirs.0.get(name));
            let means_same = from.map(|one| &one.meant) == to.map(|one| &one.meant);
            let has_same = from.map(|one| one.content) == to.map(|one| one.content);
            if means_same && !has_same {
                found.add(content(name, shown(name, from)));
                continue;
            }
            if means_same {
                continue;
            }
            let whole = WHOLE.into_iter().find(|list| is_in(name, list));
            let difference = Difference {
                key: whole.unwrap_or(name).to_owned(),
                from: whole.map_or_else(|| shown(name, from), |_| "a list".to_owned()),
                to: whole.map_or_else(|| shown(name, to), |_| "another list".to_owned()),
                why: self.too_far(read, name),
            };
            let is_taken = Self::is_live(name) && difference.why.is_none();
            found.add((difference, is_taken));
        }
        found
    }

    /// Takes all that differs in `read`, unless any of it needs a restart: then nothing is taken. Says what differs.
    pub fn follow(&self, read: &Self) -> Differences {
        let found = self.differences(read);
        if found.needs_restart.is_empty() {
            for take in found.changed.iter().flat_map(|one| takes(&one.key)) {
                take(self, read);
            }
            self.keys.follow(&read.keys);
        }
        found
    }

    /// Why this key cannot be what it is in `read`, though it can change.
    fn too_far(&self, read: &Self, key: &str) -> Option<&'static str> {
        let (room, wanted) = (&self.listen.max_connections, &read.listen.max_connections);
        let is_too_many = wanted.now() > room.at_start().saturating_mul(2);
        (key == "listen.max_connections" && is_too_many).then_some(
            "this is more than twice what the process was started with, and laid out for",
        )
    }
}

/// The same file has another content.
fn content(key: &str, path: String) -> (Difference, bool) {
    let is_taken = CONTENTS.contains(&key);
    let why = "it is read at the start alone, and what is in it has changed";
    let difference = Difference {
        key: key.to_owned(),
        from: path,
        to: "the same file with another content".to_owned(),
        why: (!is_taken).then_some(why),
    };
    (difference, is_taken)
}

fn takes(key: &str) -> impl Iterator<Item = Take> {
    let takes = LIVE.iter().filter(move |(name, _)| is_in(key, name));
    takes.map(|(_, take)| *take)
}

/// Whether a key is this one, or one below it.
fn is_in(key: &str, whole: &str) -> bool {
    key.strip_prefix(whole)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What each key says, by its dotted name.
#[derive(Clone, Default)]
pub(super) struct Keys(pub(super) BTreeMap<String, Said>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)") // there are secrets in it
    }
}

/// What a key says.
#[derive(Clone)]
pub(super) struct Said {
    /// What it means. Two that mean the same say the same, however they are written.
    pub(super) meant: String,
    pub(super) written: Written,
    /// Where it names a file that is read once: what that file's content is known by.
    pub(super) content: Option<[u8; 32]>,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Said").field(&self.written).finish()
    }
}

/// How it is written, as far as that may be shown.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Nowhere,
    So(String),
    /// A secret, or what may have one in it.
    Hidden,
}

impl Written {
    pub(super) fn of(value: Option<&Value>) -> Self {
        match value {
            None => Self::Nowhere,
            Some(Value::Text(text) | Value::Untyped(text)) => Self::So(format!("{text:?}")),
            Some(Value::Integer(number)) => Self::So(number.to_string()),
            Some(Value::Float(number)) => Self::So(number.to_string()),
            Some(Value::Bool(flag)) => Self::So(flag.to_string()),
            Some(Value::List(_) | Value::Table(_) | Value::Other(_)) => Self::Hidden,
        }
    }
}

/// Every key at its default, as a file says it; those that have none are comments there.
const DEFAULTS: &str = include_str!("../../config/understudy.toml");

/// What a key says that is written nowhere; nothing of one without a default.
fn default_of(name: &str) -> Option<String> {
    let mut table: Table = source::parse(DEFAULTS).ok()?;
    let mut parts = name.split('.').peekable();
    while let Some(part) = parts.next() {
        match (table.remove(part)?.value, parts.peek()) {
            (Value::Table(below), Some(_)) => table = below,
            (value, None) => {
                return match Written::of(Some(&value)) {
                    Written::So(words) => Some(words),
                    Written::Nowhere | Written::Hidden => None,
                };
            }
            (_, Some(_)) => return None,
        }
    }
    None
}

fn shown(name: &str, said: Option<&Said>) -> String {
    match said.map(|one| &one.written) {
        None | Some(Written::Nowhere) => match default_of(name) {
            Some(words) => format!("{words} (default)"),
            None => "(not written)".to_owned(),
        },
        Some(Written::So(words)) => words.clone(),
        Some(Written::Hidden) => "(not shown)".to_owned(),
    }
}

#[cfg(test)]
mod tests;

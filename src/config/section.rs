//! One section of the file, read key by key: each key is asked for by the type that it means.
//!
//! A key that is wrong leaves a fault and yields its default, so that one run names all faults.

mod named;

use super::again::{Said, Written as Told};
use super::fault::{Fault, Place};
use super::source::{Node, Table, Value};
use super::units;
use super::{Account, Secret, file};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Source addresses of one server at most: with 28,000 ports each they are far more than enough.
const SOURCES_MAX: usize = 64;

/// What reading has found so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) faults: Vec<Fault>,
    /// Every key that was asked for, with its section.
    pub(super) known: Vec<(String, &'static str)>,
    /// Keys that nobody asked for: section, key, place.
    pub(super) unknown: Vec<(String, String, Place)>,
    /// Where each key stands that was written and asked for.
    pub(super) places: Vec<(String, Place)>,
    /// What each key says, by its dotted name.
    pub(super) said: BTreeMap<String, Said>,
}

impl Reading {
    /// Notes a fault of a key (with its section) that was asked for before.
    pub(super) fn fault(&mut self, key: &str, wrong: impl Into<String>, right: impl Into<String>) {
        let place = self.place(key);
        self.faults.push(Fault {
            place,
            key: key.to_owned(),
            wrong: wrong.into(),
            right: right.into(),
        });
    }

    fn place(&self, key: &str) -> Place {
        self.places
            .iter()
            .find(|(one, _)| *one == key)
            .map_or(Place::Absent, |(_, place)| place.clone())
    }
}

/// A section being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    name: String,
    entries: Table,
    reading: &'a mut Reading,
}

impl<'a> Section<'a> {
    /// Takes the section out of the tree; an absent one is an empty one.
    pub(super) fn take(root: &mut Table, name: &str, reading: &'a mut Reading) -> Self {
        let entries = match root.remove(name) {
            Some(Node {
                value: Value::Table(entries),
                ..
            }) => entries,
            Some(Node { place, value }) => {
                let wrong = format!("this is {}, not a section", value.kind());
                reading.faults.push(Fault {
                    place,
                    key: name.to_owned(),
                    wrong,
                    right: format!("write [{name}]"),
                });
                Table::new()
            }
            None => Table::new(),
        };
        Self {
            name: name.to_owned(),
            entries,
            reading,
        }
    }

    /// Ends the section: what is left was asked for by nobody.
    pub(super) fn finish(self) {
        for (key, node) in self.entries {
            self.reading
                .unknown
                .push((self.name.clone(), key, node.place));
        }
    }

    /// Notes a fault of a key that was asked for before.
    pub(super) fn fault(&mut self, key: &str, wrong: impl Into<String>, right: impl Into<String>) {
        self.reading
            .fault(&format!("{}.{key}", self.name), wrong, right);
    }

    /// Notes a fault of the section as a whole.
    pub(super) fn fault_of_all(&mut self, wrong: impl Into<String>, right: impl Into<String>) {
        let name = self.name.clone();
        self.reading.fault(&name, wrong, right);
    }

    /// Faults that were noted so far.
    pub(super) fn faults(&self) -> usize {
        self.reading.faults.len()
    }

    /// Whether the key's value came from the environment.
    pub(super) fn is_from_environment(&self, key: &str) -> bool {
        matches!(
            self.reading.place(&format!("{}.{key}", self.name)),
            Place::Variable(_)
        )
    }

    fn value(&mut self, key: &'static str) -> Option<Value> {
        let known = (self.name.clone(), key);
        if !self.reading.known.contains(&known) {
            self.reading.known.push(known);
        }
        let node = self.entries.remove(key)?;
        self.reading
            .places
            .push((format!("{}.{key}", self.name), node.place));
        Some(node.value)
    }

    /// Notes what a key says; it may be one of the operator's own, below one of the section's.
    fn says(&mut self, key: &str, meant: String, written: Told) {
        let name = format!("{}.{key}", self.name);
        let said = Said {
            meant,
            written,
            content: None,
        };
        self.reading.said.insert(name, said);
    }

    /// The same of one that is noted already, where it means the same however it is written.
    pub(super) fn means(&mut self, key: &str, meant: &impl Debug) {
        let name = format!("{}.{key}", self.name);
        if let Some(said) = self.reading.said.get_mut(&name) {
            said.meant = format!("{meant:?}");
        }
    }

    fn read<T: Debug>(
        &mut self,
        key: &'static str,
        default: T,
        right: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let value = self.value(key);
        let written = Told::of(value.as_ref());
        let meant = match value {
            None => default,
            Some(value) => self.understand(key, &value, default, right, read),
        };
        self.says(key, format!("{meant:?}"), written);
        meant
    }

    fn understand<T>(
        &mut self,
        key: &'static str,
        value: &Value,
        default: T,
        right: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> T {
        if let Some(meant) = read(value) {
            return meant;
        }
        let wrong = match value {
            Value::Text(text) | Value::Untyped(text) => found(text),
            Value::Integer(n) => format!("found {n}"),
            Value::Float(n) => format!("found {n}"),
            Value::Bool(flag) => format!("found {flag}"),
            Value::List(_) | Value::Table(_) | Value::Other(_) => format!("found {}", value.kind()),
        };
        self.fault(key, wrong, right);
        default
    }

    /// A text that may be absent.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.read(key, None, "write a text in quotes", |value| {
            Some(Some(text(value)?.to_owned()))
        })
    }

    /// A text with a default.
    pub(super) fn text_or(&mut self, key: &'static str, default: &str) -> String {
        let text = self.text(key).unwrap_or_else(|| default.to_owned());
        self.means(key, &text);
        text
    }

    /// A path that may be absent; an empty one is as if absent.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.read(key, None, "write a path in quotes", |value| {
            Some(Some(text(value)?.to_owned()))
        });
        let path = path.filter(|path| !path.is_empty());
        self.means(key, &path);
        path.map(PathBuf::from)
    }

    /// The path of a file that is read once, so that its content matters, too; see [`Section::path`].
    pub(super) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.path(key);
        let content = path.as_deref().and_then(file::digest);
        let name = format!("{}.{key}", self.name);
        if let Some(said) = self.reading.said.get_mut(&name) {
            said.content = content;
        }
        path
    }

    /// A path with a default; an empty one is for none.
    pub(super) fn path_or(&mut self, key: &'static str, default: &str) -> Option<PathBuf> {
        let right = format!("write a path in quotes, \"{default}\", or \"\" for none");
        let path = self.read(key, default.to_owned(), &right, |value| {
            Some(text(value)?.to_owned())
        });
        (!path.is_empty()).then(|| PathBuf::from(path))
    }

    /// One of several words.
    pub(super) fn choice<T: Copy + Debug>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&str, T)],
    ) -> T {
        let words: Vec<String> = choices
            .iter()
            .map(|(word, _)| format!("{word:?}"))
            .collect();
        let right = format!("write one of {}", words.join(", "));
        self.read(key, default, &right, |value| {
            let word = text(value)?;
            choices
                .iter()
                .find(|(one, _)| *one == word)
                .map(|(_, meant)| *meant)
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.read(key, default, "write true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            Value::Untyped(text) => text.parse().ok(),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::List(_)
            | Value::Table(_)
            | Value::Other(_) => None,
        })
    }

    /// A share from 0 to 1.
    pub(super) fn share(&mut self, key: &'static str, default: f64) -> f64 {
        self.read(key, default, "write a share from 0.0 to 1.0", |value| {
            let share = match value {
                Value::Float(share) => *share,
                Value::Integer(0) => 0.0,
                Value::Integer(1) => 1.0,
                Value::Untyped(text) => text.parse().ok()?,
                Value::Integer(_)
                | Value::Text(_)
                | Value::Bool(_)
                | Value::List(_)
                | Value::Table(_)
                | Value::Other(_) => return None,
            };
            (0.0..=1.0).contains(&share).then_some(share)
        })
    }

    /// A factor from 1 to 1000.
    pub(super) fn factor(&mut self, key: &'static str, default: f64) -> f64 {
        self.read(key, default, "write a factor from 1.0 to 1000.0", |value| {
            let factor = match value {
                Value::Float(factor) => *factor,
                Value::Untyped(text) => text.parse().ok()?,
                Value::Integer(_) => f64::from(u32::try_from(integer(value)?).ok()?),
                Value::Text(_)
                | Value::Bool(_)
                | Value::List(_)
                | Value::Table(_)
                | Value::Other(_) => return None,
            };
            (1.0..=1000.0).contains(&factor).then_some(factor)
        })
    }

    /// A count.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let right = format!("write an integer from {} to {}", range.start(), range.end());
        self.read(key, default, &right, |value| {
            integer(value).filter(|n| range.contains(n))
        })
    }

    /// A count that is held in memory.
    pub(super) fn count(
        &mut self,
        key: &'static str,
        default: usize,
        range: RangeInclusive<u64>,
    ) -> usize {
        usize::try_from(self.number(key, default as u64, range)).unwrap_or(default)
    }

    /// A number of bytes, bare or with a unit.
    pub(super) fn bytes(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let (least, most) = (units::shown(*range.start()), units::shown(*range.end()));
        let right = format!(
            "write a size from {least} to {most}, such as \"{}\"",
            units::shown(default)
        );
        self.read(key, default, &right, |value| {
            let bytes = match value {
                Value::Text(text) | Value::Untyped(text) => units::bytes(text)?,
                Value::Integer(_)
                | Value::Float(_)
                | Value::Bool(_)
                | Value::List(_)
                | Value::Table(_)
                | Value::Other(_) => integer(value)?,
            };
            range.contains(&bytes).then_some(bytes)
        })
    }

    /// A number of bytes that are held in memory.
    pub(super) fn memory(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> usize {
        usize::try_from(self.bytes(key, default, range)).unwrap_or(usize::MAX)
    }

    /// A time; the key's ending, `_ms` (or `_ms_max`) or `_s`, is its unit.
    pub(super) fn time(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<u64>,
    ) -> Duration {
        let (unit, of): (&str, fn(u64) -> Duration) =
            if key.trim_end_matches("_max").ends_with("_ms") {
                ("milliseconds", Duration::from_millis)
            } else {
                ("seconds", Duration::from_secs)
            };
        let right = format!(
            "write a whole number of {unit} from {} to {}",
            range.start(),
            range.end()
        );
        self.read(key, default, &right, |value| {
            integer(value).filter(|n| range.contains(n)).map(of)
        })
    }

    /// An address to listen on.
    pub(super) fn address(&mut self, key: &'static str, default: SocketAddr) -> SocketAddr {
        let right = format!(
            "write an IP address and a port, such as \"{default}\" (0.0.0.0 for every interface)"
        );
        self.read(key, default, &right, |value| listened(text(value)?))
    }

    /// An address to listen on that may be none, written as an empty text.
    pub(super) fn address_or_none(
        &mut self,
        key: &'static str,
        default: SocketAddr,
    ) -> Option<SocketAddr> {
        let right = format!(
            "write an IP address and a port, such as \"{default}\" (0.0.0.0 for every interface), or \"\" for none"
        );
        self.read(key, Some(default), &right, |value| match text(value)? {
            "" => Some(None),
            written => listened(written).map(Some),
        })
    }

    /// A server's `host:port`.
    pub(super) fn host(&mut self, key: &'static str, host: &str, port: u16) -> (String, u16) {
        let right = format!("write a host and a port, such as \"{host}:{port}\"");
        self.read(key, (host.to_owned(), port), &right, |value| {
            host_and_port(text(value)?)
        })
    }

    /// `host:port` that may be absent; an empty text is as if absent.
    pub(super) fn optional_host(&mut self, key: &'static str) -> Option<(String, u16)> {
        let given = self.text_or(key, "");
        if given.is_empty() {
            return None;
        }
        let read = host_and_port(&given);
        if read.is_none() {
            let right = "write a host and a port, such as \"127.0.0.1:3306\"";
            self.fault(key, found(&given), right);
        }
        read
    }

    /// A list of texts. What stands in it is never shown, right or wrong: it may be a command's arguments, or a URL
    /// with a password.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.value(key);
        let texts = value.as_ref().and_then(list);
        let meant = texts.as_deref().unwrap_or_default();
        let written = texts.as_ref().map_or(Told::Nowhere, |_| Told::Hidden);
        self.says(key, format!("{meant:?}"), written);
        if let (Some(value), None) = (&value, &texts) {
            let wrong = match value {
                Value::List(_) => "found other things than texts in it".to_owned(),
                other => format!("found {}", other.kind()),
            };
            let right = "write a list of texts, such as [\"one\", \"two\"]";
            self.fault(key, wrong, right);
        }
        texts
    }

    /// Networks, each by its prefix (`10.0.0.0/8`) or a single address; none where nothing is written.
    pub(super) fn networks(&mut self, key: &'static str) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for written in self.texts(key).unwrap_or_default() {
            let network: Option<IpNet> = written.parse().ok();
            let single = || written.parse().ok().map(IpAddr::into);
            match network.or_else(single) {
                // One with bits behind its prefix is a slip of the pen, for a smaller one.
                Some(network) if network.addr() != network.network() => {
                    let right = format!("write {} or \"{}\"", network.trunc(), network.addr());
                    self.fault(
                        key,
                        format!("{written:?} has bits behind its prefix"),
                        right,
                    );
                }
                Some(network) => networks.push(network),
                None => {
                    let right = "write networks such as \"10.0.0.0/8\", or single addresses";
                    self.fault(key, format!("found {written:?}"), right);
                }
            }
        }
        networks
    }

    /// Addresses of this machine, each once; none where nothing is written.
    pub(super) fn source_addresses(&mut self, key: &'static str) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for written in self.texts(key).unwrap_or_default() {
            let address: Option<IpAddr> = written.parse().ok();
            let usable = address.filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
            match usable {
                Some(address) if !addresses.contains(&address) => addresses.push(address),
                Some(_) => {
                    self.fault(key, format!("{written} stands twice"), "name each once");
                }
                None => {
                    let right = "write IP addresses of this machine, such as \"10.0.0.11\"";
                    self.fault(key, format!("found {written:?}"), right);
                }
            }
        }
        if addresses.len() > SOURCES_MAX {
            let wrong = format!("{} addresses", addresses.len());
            self.fault(key, wrong, format!("name {SOURCES_MAX} at most"));
        }
        addresses
    }

    /// A secret, from its own key or from a file; the environment's wins over the file's.
    pub(super) fn secret(&mut self, key: &'static str, file_key: &'static str) -> Option<Secret> {
        let own = self.hidden(key);
        let file = self.path(file_key);
        let secret = self.one_of(key, own, file_key, file);
        let meant = secret.as_ref().map(|secret| secret.0.clone());
        let written = meant.as_ref().map_or(Told::Nowhere, |_| Told::Hidden);
        self.says(key, meant.unwrap_or_default(), written);
        secret
    }

    fn one_of(
        &mut self,
        key: &'static str,
        own: Option<Secret>,
        file_key: &'static str,
        file: Option<PathBuf>,
    ) -> Option<Secret> {
        match (own, file) {
            (None, None) => None,
            (Some(own), None) => Some(own),
            (Some(own), Some(_))
                if self.is_from_environment(key) && !self.is_from_environment(file_key) =>
            {
                Some(own)
            }
            (Some(_), Some(_)) if !self.is_from_environment(file_key) => {
                self.fault(
                    file_key,
                    format!("both {key} and {file_key} are set"),
                    "keep one of them",
                );
                None
            }
            (_, Some(path)) => self.secret_file(file_key, &path),
        }
    }

    /// A text that no fault shows.
    pub(super) fn hidden(&mut self, key: &'static str) -> Option<Secret> {
        let value = self.value(key)?;
        let own = text(&value).map(|own| Secret(own.to_owned()));
        if own.is_none() {
            let right = "write a text in quotes, or better name a file";
            self.fault(key, format!("found {}", value.kind()), right);
        }
        own
    }

    fn secret_file(&mut self, key: &'static str, path: &std::path::Path) -> Option<Secret> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let wrong = format!("{} cannot be read: {error}", path.display());
                self.fault(key, wrong, "name a file that this user may read");
                return None;
            }
        };
        let first = text.lines().next().unwrap_or_default();
        if text.lines().nth(1).is_some() {
            let wrong = format!("{} has more than one line", path.display());
            self.fault(key, wrong, "write the secret alone, on one line");
        }
        Some(Secret(first.to_owned()))
    }

    /// A login: `user`, and `password` or `password_file`.
    pub(super) fn account(&mut self) -> Option<Account> {
        let user = Some(self.text_or("user", "")).filter(|user| !user.is_empty());
        let password = self.secret("password", "password_file");
        match (user, password) {
            (Some(user), password) => Some(Account {
                user,
                password: password.map(|one| one.0).unwrap_or_default(),
            }),
            (None, Some(_)) => {
                self.fault(
                    "user",
                    "a password without a user",
                    "write the user, or take the password out",
                );
                None
            }
            (None, None) => None,
        }
    }
}

fn listened(written: &str) -> Option<SocketAddr> {
    written.replace("localhost:", "127.0.0.1:").parse().ok()
}

/// What was found, where there can be no password in it, as in a URL or before an @.
fn found(text: &str) -> String {
    if text.contains('@') || text.contains("://") {
        "found a text that is not shown, as there may be a password in it".to_owned()
    } else {
        format!("found {text:?}")
    }
}

/// The texts of a list, which a variable writes as the file does.
fn list(value: &Value) -> Option<Vec<String>> {
    let texts = |list: &[Node]| {
        let texts = list.iter();
        let texts = texts.map(|node| text(&node.value).map(str::to_owned));
        texts.collect()
    };
    match value {
        Value::List(list) => texts(list),
        Value::Untyped(line) => {
            let mut written = super::source::parse(&format!("x = {line}")).ok()?;
            match written.remove("x")?.value {
                Value::List(list) => texts(&list),
                _ => None,
            }
        }
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::Table(_)
        | Value::Other(_) => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) | Value::Untyped(text) => Some(text),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::List(_)
        | Value::Table(_)
        | Value::Other(_) => None,
    }
}

fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(n) => u64::try_from(*n).ok(),
        Value::Untyped(text) => text.trim().replace('_', "").parse().ok(),
        Value::Text(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::List(_)
        | Value::Table(_)
        | Value::Other(_) => None,
    }
}

/// A host and a port, from a text such as `db:3306` or `[::1]:3306`.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let clean = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = bare.map_or_else(
        || host.chars().all(clean),
        |ip| ip.parse::<std::net::Ipv6Addr>().is_ok(),
    );
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    (fits && !host.is_empty()).then(|| (bare.unwrap_or(host).to_owned(), port))
}

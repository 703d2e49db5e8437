//! `faults.txt`: what is planted, and what must be said of it.

use super::by_fault;
use serde_json::Value;
use std::collections::BTreeMap;

/// One fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What all of its tables begin with, and none of another fault's.
    pub name: String,
    /// In the keyspace of two shards.
    pub sharded: bool,
    /// Its tables stay out of the vschema.
    pub unrouted: bool,
    /// What every session on the shadow begins with. It has an understudy of its own then.
    pub init: Option<String>,
    /// A tolerance that is switched off. Likewise.
    pub without: Option<String>,
    /// What is said before the traffic, and to whom.
    pub set_up: Vec<(Whom, String)>,
    /// What is said through understudy.
    pub said: Vec<Said>,
    /// What must come of it.
    pub expected: Vec<Expected>,
}

/// Who is told directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Both,
    Legacy,
    Vtgate,
    /// The store, behind all shards, or behind the one of this name.
    Store(Option<&'static str>),
}

/// Something said while the traffic runs.
#[derive(Clone, Debug)]
pub enum Said {
    Text(String),
    Prepared(String, Vec<String>),
    /// To the store, later.
    Later(String),
}

/// One thing that must be found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    Root {
        kind: String,
        cause: String,
    },
    Follows,
    /// One of its tables is tainted.
    Tainted,
    Not {
        reason: String,
        count: u64,
    },
}

impl Fault {
    /// Whether it is one of the config, not of the store.
    pub const fn is_of_config(&self) -> bool {
        self.init.is_some() || self.without.is_some()
    }

    /// Whether one of its tables is named. The names end before anything that a name may go on with,
    /// or with the `_b` of a second table.
    pub fn is_named_in(&self, text: &str) -> bool {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        text.match_indices(&self.name).any(|(at, _)| {
            let rest = &text.as_bytes()[at + self.name.len()..];
            let rest = rest.strip_prefix(b"_b").unwrap_or(rest);
            let before = text.as_bytes()[..at].last().copied();
            !rest.first().copied().is_some_and(is_word) && !before.is_some_and(is_word)
        })
    }
}

/// All faults of the file.
pub fn read() -> Vec<Fault> {
    let text = super::file("faults.txt");
    text.split("\n# ").skip(1).map(parse).collect()
}

fn parse(block: &str) -> Fault {
    let mut lines = block.lines();
    let title = lines.next().expect("a title");
    let mut fault = Fault {
        name: format!("p_{}", title.replace(' ', "_")),
        sharded: false,
        unrouted: false,
        init: None,
        without: None,
        set_up: Vec::new(),
        said: Vec::new(),
        expected: Vec::new(),
    };
    for line in lines.map(str::trim).filter(|line| !line.is_empty()) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        fault.line(verb, rest);
    }
    assert!(!fault.said.is_empty(), "{title}: nothing is said");
    fault
}

impl Fault {
    fn line(&mut self, verb: &str, rest: &str) {
        let text = rest.replace("{t}", &self.name);
        match verb {
            "init" => return self.init = Some(text),
            "without" => return self.without = Some(text),
            _ => {}
        }
        let mut set_up = |whom| self.set_up.push((whom, text.clone()));
        match verb {
            "in" => self.sharded = rest == "app",
            "unrouted" => self.unrouted = true,
            "both" => set_up(Whom::Both),
            "legacy" => set_up(Whom::Legacy),
            "vtgate" => set_up(Whom::Vtgate),
            "store" => set_up(Whom::Store(None)),
            "-80" => set_up(Whom::Store(Some("-80"))),
            "80-" => set_up(Whom::Store(Some("80-"))),
            "later" => self.said.push(Said::Later(text)),
            "text" => self.said.push(Said::Text(text)),
            "prepared" => {
                let (statement, parameters) = text.split_once(" | ").unwrap_or((&text, ""));
                let parameters = parameters.split(", ").filter(|one| !one.is_empty());
                let parameters = parameters.map(str::to_owned).collect();
                self.said
                    .push(Said::Prepared(statement.to_owned(), parameters));
            }
            "=>" => self.expected.extend(expected(rest)),
            _ => panic!("{}: {verb} {rest}", self.name),
        }
    }
}

fn expected(text: &str) -> Option<Expected> {
    let words: Vec<&str> = text.splitn(3, ' ').collect();
    let word = |at: usize| words.get(at).copied().unwrap_or("").to_owned();
    match word(0).as_str() {
        "silent" => None,
        "root" => Some(Expected::Root {
            kind: word(1),
            cause: word(2),
        }),
        "follows" => Some(Expected::Follows),
        "tainted" => Some(Expected::Tainted),
        "not" => Some(Expected::Not {
            reason: word(1),
            count: word(2).parse().unwrap_or(1),
        }),
        other => panic!("no such expectation: {other}"),
    }
}

/// What is not as it should be, each in words.
pub fn judge(
    faults: &[Fault],
    findings: &[Value],
    taints: &Value,
    coverage: &Value,
) -> Vec<String> {
    let found = by_fault(faults, findings);
    let mut wrong: Vec<String> = faults
        .iter()
        .filter_map(|fault| differs(fault, found.get(&fault.name).map_or(&[][..], Vec::as_slice)))
        .collect();
    for finding in found.get("").into_iter().flatten() {
        wrong.push(format!(
            "found, and nothing was planted: {}",
            brief(finding)
        ));
    }
    wrong.extend(tainted(faults, taints));
    wrong.extend(counted(faults, coverage));
    wrong
}

/// Taints that nobody planted, and planted ones that are missing.
fn tainted(faults: &[Fault], taints: &Value) -> Vec<String> {
    let items = taints["items"].as_array().expect("items");
    let of = |fault: &Fault| {
        let named = |taint: &Value| fault.is_named_in(&taint["table"].to_string());
        items.iter().any(named)
    };
    let expects = |fault: &&Fault| fault.expected.contains(&Expected::Tainted);
    let missing = faults.iter().filter(expects).filter(|fault| !of(fault));
    let missing = missing.map(|fault| format!("{}: not tainted", fault.name));
    let foreign = items.iter().filter(|taint| {
        let table = taint["table"].to_string();
        !faults.iter().any(|fault| fault.is_named_in(&table))
    });
    let foreign = foreign.map(|taint| format!("tainted, and nothing was planted: {taint}"));
    // A finding that was planted may taint as well; what is silent may not.
    let may = |one: &Expected| matches!(one, Expected::Tainted | Expected::Root { .. });
    let silent = faults
        .iter()
        .filter(|fault| !fault.expected.iter().any(may));
    let too_much = silent.filter(|fault| of(fault));
    let too_much = too_much.map(|fault| format!("{}: tainted, and should not be", fault.name));
    missing.chain(foreign).chain(too_much).collect()
}

fn differs(fault: &Fault, found: &[&Value]) -> Option<String> {
    let mut expected: Vec<Expected> = fault
        .expected
        .iter()
        .filter(|one| matches!(one, Expected::Root { .. } | Expected::Follows))
        .cloned()
        .collect();
    let mut got: Vec<Expected> = found.iter().map(|finding| as_expected(finding)).collect();
    expected.sort();
    got.sort();
    if expected == got {
        return None;
    }
    let found: Vec<String> = found.iter().map(|finding| brief(finding)).collect();
    let name = &fault.name;
    Some(format!(
        "{name}: {expected:?} should be found, and this is:\n    {}",
        found.join("\n    ")
    ))
}

fn as_expected(finding: &Value) -> Expected {
    if finding["cause_id"].is_null() && finding["follows"] != true {
        Expected::Root {
            kind: finding["kind"].as_str().unwrap_or("").to_owned(),
            cause: finding["cause_code"].as_str().unwrap_or("").to_owned(),
        }
    } else {
        Expected::Follows
    }
}

fn brief(finding: &Value) -> String {
    format!(
        "{} ×{} cause {} ({}) {} {}",
        finding["kind"],
        finding["count"],
        finding["cause_code"],
        finding["cause_id"],
        finding["tables"],
        finding["fingerprint"]
    )
}

/// Commands that were not compared: as many as the faults say, for their reasons.
fn counted(faults: &[Fault], coverage: &Value) -> Vec<String> {
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for one in faults.iter().flat_map(|fault| &fault.expected) {
        if let Expected::Not { reason, count } = one {
            *expected.entry(reason).or_default() += count;
        }
    }
    let reasons = coverage["not_compared"].as_object().expect("reasons");
    let differs = |(reason, count): (&String, &Value)| {
        let wanted = expected.get(reason.as_str()).copied().unwrap_or(0);
        (count.as_u64() != Some(wanted))
            .then(|| format!("not compared: {reason} should be {wanted}, and is {count}"))
    };
    reasons.iter().filter_map(differs).collect()
}

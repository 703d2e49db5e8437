//! What stands below a section by names of the operator's own, and lists of tables: databases, counts, logins, rules.

use super::super::fault::Fault;
use super::super::source::{Node, Table, Value};
use super::super::{Account, RULES_MAX, Rule, Written};
use super::{Section, Told, integer, text};
use std::collections::BTreeMap;

impl Section<'_> {
    /// The tables of a section whose keys are names of the operator's own.
    pub(in crate::config) fn named(&mut self, key: &'static str) -> Vec<(String, Node)> {
        match self.value(key) {
            None => Vec::new(),
            Some(Value::Table(table)) => table.into_iter().collect(),
            Some(other) => {
                let right = format!(
                    "write [{}.{key}] and below it a line for each name",
                    self.name
                );
                self.fault(
                    key,
                    format!("this is {}, not a section", other.kind()),
                    right,
                );
                Vec::new()
            }
        }
    }

    /// A table of names to texts.
    pub(in crate::config) fn names(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for (name, node) in self.named(key) {
            match text(&node.value).filter(|text| !text.is_empty()) {
                Some(meant) => {
                    let written = Told::of(Some(&node.value));
                    self.says(&format!("{key}.{name}"), meant.to_owned(), written);
                    names.insert(name, meant.to_owned());
                }
                None => self.reading.faults.push(Fault {
                    place: node.place,
                    key: format!("{}.{key}.{name}", self.name),
                    wrong: format!("found {}", node.value.kind()),
                    right: "write a name in quotes".to_owned(),
                }),
            }
        }
        names
    }

    /// A list of tables, each a rule.
    pub(in crate::config) fn rules(&mut self, key: &'static str) -> Vec<Rule> {
        let right = "write [[compare.rules]] and below it name, state, who, and what it takes";
        let list = match self.value(key) {
            None => return Vec::new(),
            Some(Value::List(list)) => list,
            Some(other) => {
                self.fault(key, format!("found {}", other.kind()), right);
                return Vec::new();
            }
        };
        if list.len() > RULES_MAX {
            let wrong = format!("found {} rules", list.len());
            self.fault(key, wrong, format!("write at most {RULES_MAX}"));
            return Vec::new();
        }
        let mut rules: Vec<Rule> = Vec::new();
        for (at, node) in list.into_iter().enumerate() {
            let number = at + 1;
            let place = node.place.clone();
            let path = format!("{}.{key}.{number}", self.name);
            let mut alone = Table::from([(path.clone(), node)]);
            let faults = self.reading.faults.len();
            let mut section = Section::take(&mut alone, &path, self.reading);
            let written = section.rule();
            section.finish();
            let fault = match written.meant() {
                Ok(rule) if rules.iter().any(|known| known.name == rule.name) => {
                    let wrong = format!("there are two rules {:?}", rule.name);
                    ("name", wrong, "give each a name of its own".to_owned())
                }
                Ok(rule) => {
                    rules.push(rule);
                    continue;
                }
                Err(fault) => (fault.key, fault.wrong, fault.right),
            };
            // A key of another type has its fault already, and is missing for that reason alone.
            if self.reading.faults.len() == faults {
                self.reading.faults.push(Fault {
                    place,
                    key: format!("{path}.{}", fault.0),
                    wrong: fault.1,
                    right: fault.2,
                });
            }
        }
        rules
    }

    fn rule(&mut self) -> Written {
        Written {
            name: self.text("name"),
            fingerprint: self.text("fingerprint"),
            table: self.text("table"),
            kind: self.text("kind"),
            column: self.text("column"),
            state: self.text("state"),
            who: self.text("who"),
            why: self.text("why"),
            until: self.text("until"),
        }
    }

    /// A table of names to counts.
    pub(in crate::config) fn numbers(
        &mut self,
        key: &'static str,
        is_name: impl Fn(&str) -> bool,
        names_are: &str,
    ) -> BTreeMap<String, u64> {
        let mut numbers = BTreeMap::new();
        for (name, node) in self.named(key) {
            let (wrong, right) = match integer(&node.value) {
                Some(number) if is_name(&name) => {
                    let written = Told::of(Some(&node.value));
                    self.says(&format!("{key}.{name}"), number.to_string(), written);
                    numbers.insert(name, number);
                    continue;
                }
                Some(_) => (format!("{name:?} is no such name"), names_are.to_owned()),
                None => (
                    format!("found {}", node.value.kind()),
                    "write a count".to_owned(),
                ),
            };
            self.reading.faults.push(Fault {
                place: node.place,
                key: format!("{}.{key}.{name}", self.name),
                wrong,
                right,
            });
        }
        numbers
    }

    /// A table of names to logins.
    pub(in crate::config) fn accounts(&mut self, key: &'static str) -> BTreeMap<String, Account> {
        let mut accounts = BTreeMap::new();
        for (name, node) in self.named(key) {
            let path = format!("{}.{key}.{name}", self.name);
            let place = node.place.clone();
            let mut alone = Table::from([(path.clone(), node)]);
            let mut section = Section::take(&mut alone, &path, self.reading);
            let account = section.account();
            section.finish();
            match account {
                Some(account) => {
                    accounts.insert(name, account);
                }
                None if self
                    .reading
                    .faults
                    .iter()
                    .any(|fault| fault.key.starts_with(&path)) => {}
                None => self.reading.faults.push(Fault {
                    place,
                    key: path,
                    wrong: "a login without a user".to_owned(),
                    right: "write { user = \"…\", password_file = \"…\" }".to_owned(),
                }),
            }
        }
        accounts
    }
}

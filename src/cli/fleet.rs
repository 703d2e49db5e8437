//! `understudy fleet`: the proxies that change their primary together, and what each said last.

use super::words::{ago, table, text};
use super::{Client, Door, Format, Remote, Trouble, say, say_json};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    change: Option<Change>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Takes a proxy out that is gone for good. One that still serves must be stopped instead (SIGTERM):
    /// a cutover would leave it behind.
    Forget(Forgotten),
}

#[derive(Args, Debug)]
struct Forgotten {
    /// Its name.
    name: String,
    #[command(flatten)]
    door: Door,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    match &arguments.change {
        None => {
            let fleet = Client::new(&arguments.remote)?.get("/api/v1/fleet", &[])?;
            match arguments.remote.format {
                Format::Json => say_json(&fleet),
                Format::Table => say(&shown(&fleet, jiff::Timestamp::now())),
            }
        }
        Some(Change::Forget(forgotten)) => {
            let client = Client::behind(&forgotten.door)?;
            let body = json!({"name": forgotten.name});
            let fleet = client.post("/api/v1/fleet/forget", &body)?;
            say(&format!("{} is forgotten", forgotten.name));
            say(&shown(&fleet, jiff::Timestamp::now()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(fleet: &Value, now: jiff::Timestamp) -> String {
    let mut words = Vec::new();
    if fleet.pointer("/etcd/reachable") != Some(&Value::Bool(true)) {
        words.push(format!(
            "{}. Production goes on; there can be no cutover until it answers",
            text(fleet, "/etcd/why")
        ));
        return words.join("\n");
    }
    let here = text(fleet, "/name");
    words.push(format!("{} is primary", text(fleet, "/primary")));
    if let Some(call) = fleet.get("cutover").filter(|call| call.is_object()) {
        let why = text(call, "/why");
        words.push(format!(
            "the last cutover, to {}, led by {}, {}: {}{}{why}",
            text(call, "/to"),
            text(call, "/leader"),
            ago(text(call, "/at"), now),
            text(call, "/phase"),
            if why.is_empty() { "" } else { ": " },
        ));
    }
    for (name, lost) in fleet
        .get("lost")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        words.push(format!(
            "dark writes may be missing on the shadow, and there is no cutover until an operator has put that right: {name} {}",
            text(lost, "/why")
        ));
    }
    let mut proxies = table(&["proxy", "running since", "said last"], &[]);
    for member in items_of(fleet, "members") {
        let name = text(member, "/name");
        let mark = if name == here { " (this one)" } else { "" };
        proxies.add_row([
            format!("{name}{mark}"),
            ago(text(member, "/at"), now),
            text(member, "/said").to_owned(),
        ]);
    }
    words.push(String::new());
    words.push(proxies.to_string());
    words.join("\n")
}

fn items_of<'a>(fleet: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    let list = fleet.get(name).and_then(Value::as_array);
    list.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_in_words() {
        let now = "2030-01-01T00:00:10Z".parse().unwrap();
        let at = "2030-01-01T00:00:00Z";
        let fleet = json!({
            "name": "a",
            "etcd": {"reachable": true, "why": null},
            "primary": "legacy",
            "members": [
                {"name": "a", "instance": "1", "at": at, "said": "checked"},
                {"name": "b", "instance": "2", "at": at, "said": null},
            ],
            "lost": {"c": {"at": at, "why": "was stopped before 7 commands had come to the shadow"}},
            "cutover": {"to": "vitess", "leader": "b", "at": at, "phase": "aborted", "why": "the proxy b: it was ended"},
        });
        let told = shown(&fleet, now);
        for word in [
            "legacy is primary",
            "a (this one)",
            "checked",
            "put that right: c was stopped before 7 commands",
            "led by b",
            "aborted: the proxy b: it was ended",
        ] {
            assert!(told.contains(word), "{word} in {told}");
        }
        let down = json!({"etcd": {"reachable": false, "why": "etcd does not answer"}});
        assert!(shown(&down, now).starts_with("etcd does not answer. Production goes on"));
    }
}

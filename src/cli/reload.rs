//! `understudy reload`: has a running understudy read its config again.

use super::words::text;
use super::{Client, Format, Remote, Trouble, say, say_json, whoami};
use crate::config;
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Say what would be changed and what needs a restart, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::new(&arguments.remote)?;
    let who = whoami().filter(|user| !user.eq_ignore_ascii_case(config::OURSELVES));
    let body = json!({"dry_run": arguments.dry_run, "who": who});
    let (status, answer) = client.ask("/api/v1/config/reload", &body)?;
    let is_told = answer.get("needs_restart").is_some_and(Value::is_array);
    if !is_told {
        return Err(client.refused(status, &answer).into());
    }
    match arguments.remote.format {
        Format::Json => say_json(&answer),
        Format::Table => say(&shown(&answer)),
    }
    let is_refused = listed(&answer, "needs_restart").next().is_some();
    Ok(if is_refused {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

fn shown(answer: &Value) -> String {
    let refused = lines(answer, "needs_restart");
    let changed = lines(answer, "changed");
    let is_taken = answer.get("taken") == Some(&Value::Bool(true));
    let mut words = Vec::new();
    if !changed.is_empty() {
        words.push(
            if is_taken {
                "changed:"
            } else {
                "can change while it runs:"
            }
            .to_owned(),
        );
        words.extend(changed);
    }
    if !refused.is_empty() {
        words.push("needs a restart, so nothing is changed:".to_owned());
        words.extend(refused);
        words.push("`understudy serve --take-over` has a new process take over with this config, and no client notices (docs/upgrade.md)".to_owned());
    }
    if words.is_empty() {
        words.push("the config says nothing new".to_owned());
    }
    let switches: Vec<String> = listed(answer, "switches").map(switch).collect();
    if !switches.is_empty() {
        words.push("of the mirror's switches, which were set at run time:".to_owned());
        words.extend(switches);
    }
    words.join("\n")
}

fn switch(one: &Value) -> String {
    let (key, file, why) = (text(one, "/key"), text(one, "/file"), text(one, "/why"));
    let (was, is) = (text(one, "/was"), text(one, "/is"));
    let stands = if was == is {
        format!("stays {is}, the file says {file}")
    } else {
        format!("{was} → {is}")
    };
    format!("  {key}  {stands} ({why})")
}

fn listed<'a>(answer: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let list = answer.get(list).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn lines(answer: &Value, list: &str) -> Vec<String> {
    let line = |one: &Value| {
        let why = match text(one, "/why") {
            "" => String::new(),
            why => format!(" ({why})"),
        };
        let (key, from, to) = (text(one, "/key"), text(one, "/from"), text(one, "/to"));
        format!("  {key}  {from} → {to}{why}")
    };
    listed(answer, list).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_and_what_needs_a_restart() {
        let one = |key: &str| json!({"key": key, "from": "1", "to": "2", "why": null});
        let taken =
            json!({"taken": true, "changed": [one("listen.drain_timeout_s")], "needs_restart": []});
        assert_eq!(shown(&taken), "changed:\n  listen.drain_timeout_s  1 → 2");
        let dry = json!({"taken": false, "changed": [one("a.b")], "needs_restart": [one("listen.address")]});
        let dry = shown(&dry);
        assert!(dry.starts_with("can change while it runs:\n  a.b  1 → 2\nneeds a restart"));
        assert!(dry.contains("  listen.address  1 → 2\n"), "{dry}");
        let nothing = json!({"taken": true, "changed": [], "needs_restart": []});
        assert_eq!(shown(&nothing), "the config says nothing new");
        let switch = |was: &str, is: &str| json!({"key": "mirror.reads", "file": "true", "was": was, "is": is, "why": "W"});
        let mut switched = nothing;
        switched["switches"] = json!([switch("false", "false"), switch("false", "true")]);
        assert_eq!(
            shown(&switched),
            "the config says nothing new\nof the mirror's switches, which were set at run time:\n  mirror.reads  stays false, the file says true (W)\n  mirror.reads  false → true (W)"
        );
    }
}

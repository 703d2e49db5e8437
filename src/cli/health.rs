//! `understudy health`: whether a running understudy lives, or serves, as an exit code. For supervisors that
//! run a command where others ask an URL, such as a container without a shell. Needs no token.

use super::{Client, Door, Trouble, say};
use clap::Args;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    door: Door,
    /// Ask whether clients may be sent here (/readyz), and not only whether the process lives (/healthz).
    #[arg(long)]
    ready: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::behind(&arguments.door)?;
    if !arguments.ready {
        client.get("/healthz", &[])?;
        say("it lives");
        return Ok(ExitCode::SUCCESS);
    }
    match client.look("/readyz")? {
        (200, _) => {
            say("ready: clients may be sent here");
            Ok(ExitCode::SUCCESS)
        }
        (503, ready) => Err(Trouble::failed(why_not(&ready))),
        (status, body) => Err(client.refused(status, &body).into()),
    }
}

/// What is missing, as `/readyz` says it.
fn why_not(ready: &Value) -> String {
    let is = |key: &str, as_said: bool| ready.get(key) == Some(&Value::Bool(as_said));
    let missing = [
        (is("draining", true), "it drains, and will end"),
        (is("listener", false), "it does not listen yet"),
        (
            is("primary", false),
            "the primary has not answered since the start: its address, or the server",
        ),
        (is("ledger", false), "its ledger is not open"),
    ];
    let words: Vec<&str> = missing
        .into_iter()
        .filter_map(|(is, words)| is.then_some(words))
        .collect();
    format!("not ready: {}", words.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_named() {
        let ready = json!({"ready": false, "listener": true, "primary": false, "ledger": true, "draining": true});
        assert_eq!(
            why_not(&ready),
            "not ready: it drains, and will end; the primary has not answered since the start: its address, or the server"
        );
    }
}

//! `understudy rollback`: the same as a cutover, back to the server that was primary before the last one.

use super::cutover::{Wish, ask};
use super::words::text;
use super::{Client, Remote, Trouble};
use clap::Args;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::new(&arguments.remote)?;
    let standing = client.get("/api/v1/cutover", &[])?;
    let primary = text(&standing, "/primary");
    let to = before(&standing).ok_or_else(|| {
        Trouble::failed(format!(
            "there is nothing to roll back: no cutover made {primary} the primary; `understudy cutover --to NAME` makes another server the primary"
        ))
    })?;
    ask(&client, to, &arguments.wish, arguments.remote.format)
}

/// Who was primary before the last switch, if that is still the one that holds.
fn before(standing: &Value) -> Option<&str> {
    let history = standing.get("history").and_then(Value::as_array)?;
    let last = history
        .iter()
        .find(|record| record.get("switched").is_some_and(Value::is_string))?;
    let holds = text(last, "/to") == text(standing, "/primary");
    Some(text(last, "/from")).filter(|from| holds && !from.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_way_back_leads_to_who_was_primary_before_the_last_switch() {
        let record = |from: &str, to: &str, switched: bool| {
            let switched = switched.then_some("2026-01-01T00:00:00Z");
            json!({"from": from, "to": to, "switched": switched})
        };
        let standing =
            |primary: &str, history: &[Value]| json!({"primary": primary, "history": history});
        let there = record("legacy", "vitess", true);
        let back = record("vitess", "legacy", true);
        let refused = record("vitess", "legacy", false);
        for (standing, to) in [
            (standing("legacy", &[]), None),
            (
                standing("vitess", std::slice::from_ref(&there)),
                Some("legacy"),
            ),
            (
                standing("vitess", &[refused, there.clone()]),
                Some("legacy"),
            ),
            (standing("legacy", &[back, there.clone()]), Some("vitess")),
            // An operator has said otherwise since.
            (standing("legacy", &[there]), None),
        ] {
            assert_eq!(before(&standing), to, "{standing}");
        }
    }
}

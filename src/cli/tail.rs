//! `understudy tail`: commands as they get their verdicts, a line each, until it is interrupted.

use super::words::{brief, count, micros, number, text, width};
use super::{Client, Door, Format, Trouble, is_heard, say};
use crate::words::harmless;
use clap::Args;
use serde_json::Value;
use std::io::{self, BufRead};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Where nothing happens understudy gives a sign of life every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Lines that are read before they are printed.
const LINES_AHEAD: usize = 256;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Of this fingerprint only (the statement's shape, or its digest).
    #[arg(long)]
    fingerprint: Option<String>,
    /// Of this user only.
    #[arg(long)]
    user: Option<String>,
    /// That touch this table only: database.table, or a table in any database.
    #[arg(long)]
    table: Option<String>,
    /// Of this class only: read, write, transaction, session …
    #[arg(long)]
    class: Option<String>,
    /// With this verdict only: matched, tolerated, diverged, not_compared.
    #[arg(long)]
    verdict: Option<String>,
    /// For which either server took so many milliseconds at least.
    #[arg(long, value_name = "MS")]
    slower: Option<u64>,
    #[command(flatten)]
    door: Door,
    /// How a line is printed; json is the API's own, one object a line.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::behind(&arguments.door)?;
    let lines = client.lines("/api/v1/querylog", &query(arguments))?;
    let lines = heard(lines).map_err(|error| {
        Trouble::failed(format!(
            "no thread could be started to read the log: {error}"
        ))
    })?;
    if arguments.format == Format::Table {
        say(&head());
    }
    loop {
        let line = match lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let s = SILENCE_MAX.as_secs();
                let words = format!(
                    "nothing was heard for {s} s, not even a sign of life: understudy hangs, or the way to it is cut"
                );
                return Err(Trouble::failed(words));
            }
        };
        let line = line.map_err(|error| Trouble::failed(format!("the log broke off: {error}")))?;
        if line.is_empty() {
            continue;
        }
        let went = match arguments.format {
            Format::Json => is_heard(&line),
            Format::Table => {
                let one: Value = serde_json::from_str(&line).map_err(|error| {
                    Trouble::failed(format!("a line of the log is no JSON: {error}"))
                })?;
                is_heard(&harmless(&shown(&one)))
            }
        };
        if !went {
            // Whoever reads this has enough.
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(Trouble::failed("understudy has ended, and the log with it"))
}

/// The lines as they come, read on a thread of their own.
fn heard(lines: impl BufRead + Send + 'static) -> io::Result<Receiver<io::Result<String>>> {
    let (tell, told) = sync_channel(LINES_AHEAD);
    let read = move || {
        for line in lines.lines() {
            let is_last = line.is_err();
            if tell.send(line).is_err() || is_last {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("tail".to_owned())
        .spawn(read)?;
    Ok(told)
}

fn query(arguments: &Arguments) -> Vec<(&'static str, String)> {
    let slower = arguments.slower.map(|ms| ms.saturating_mul(1000));
    let texts = [
        ("fingerprint", &arguments.fingerprint),
        ("user", &arguments.user),
        ("table", &arguments.table),
        ("class", &arguments.class),
        ("verdict", &arguments.verdict),
    ];
    let given = texts
        .into_iter()
        .filter_map(|(name, given)| Some((name, given.clone()?)));
    given
        .chain(slower.map(|us| ("slower_us", us.to_string())))
        .collect()
}

fn head() -> String {
    columns(
        ["TIME", "USER", "PRIMARY", "SHADOW", "VERDICT"],
        "STATEMENT",
    )
}

fn columns([time, user, primary, shadow, verdict]: [&str; 5], statement: &str) -> String {
    let user = brief(user, 12);
    let verdict = brief(verdict, 24);
    let front = format!("{time:<12}  {user:<12}  {primary:>9}  {shadow:>9}  {verdict:<24}  ");
    let room = usize::from(width())
        .saturating_sub(front.chars().count())
        .max(24);
    format!("{front}{}", brief(statement, room))
}

fn shown(line: &Value) -> String {
    if let Some(dropped) = line.get("dropped").and_then(Value::as_u64) {
        return format!(
            "({} more came than could be shown: ask for fewer, by --table, --user, --verdict …)",
            count(dropped)
        );
    }
    let time: String = text(line, "/at")
        .chars()
        .skip_while(|one| *one != 'T')
        .skip(1)
        .take(12)
        .collect();
    let side = |side: &str| {
        let latency = line.pointer(&format!("/{side}/latency_us"));
        latency
            .and_then(Value::as_u64)
            .map_or_else(|| "-".to_owned(), micros)
    };
    let error = number(line, "/primary/error");
    let statement = match (text(line, "/fingerprint"), error) {
        (shape, 0) => shape.to_owned(),
        (shape, error) => format!("(error {error}) {shape}"),
    };
    let reasons = super::words::list(line, "/reasons");
    let verdict = match (text(line, "/verdict"), &*reasons) {
        (verdict, "") => verdict.to_owned(),
        // Why it was not compared says that it was not.
        ("not_compared", reasons) => format!("- {reasons}"),
        (verdict, reasons) => format!("{verdict}: {reasons}"),
    };
    columns(
        [
            &time,
            text(line, "/user"),
            &side("primary"),
            &side("shadow"),
            &verdict,
        ],
        &statement,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_has_both_times_the_verdict_and_the_shape() {
        let line = json!({
            "at": "2026-01-02T03:04:05.678901Z", "user": "app", "fingerprint": "SELECT ?",
            "verdict": "diverged", "reasons": ["value", "order"],
            "primary": {"latency_us": 1200, "error": null}, "shadow": {"latency_us": 340},
        });
        let shown = shown(&line);
        let words: Vec<&str> = shown.split_whitespace().collect();
        assert_eq!(words.first(), Some(&"03:04:05.678"), "{shown}");
        assert!(
            shown.contains("1.20 ms") && shown.contains("340 µs"),
            "{shown}"
        );
        assert!(shown.contains("diverged: value, order"), "{shown}");
        assert!(shown.ends_with("SELECT ?"), "{shown}");
    }

    #[test]
    fn what_did_not_run_on_the_shadow_says_why_and_an_error_its_number() {
        let line = json!({
            "at": "2026-01-02T03:04:05Z", "user": "app", "fingerprint": "SELECT ?",
            "verdict": "not_compared", "reasons": ["paused"],
            "primary": {"latency_us": 5, "error": 1146}, "shadow": null,
        });
        let shown = shown(&line);
        assert!(shown.contains(" -  - paused "), "{shown}");
        assert!(shown.ends_with("(error 1146) SELECT ?"), "{shown}");
        assert!(shown.starts_with("03:04:05Z   "), "{shown}");
    }

    #[test]
    fn lines_that_were_let_go_are_told() {
        assert!(super::shown(&json!({"dropped": 1234})).starts_with("(1,234 more came"));
    }
}

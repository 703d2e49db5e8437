//! `understudy status`: who is primary, the mirror's state, sessions, coverage.

use super::words::{bytes, count, number, share, span, table, text};
use super::{Client, Format, Remote, Trouble, say, say_json, watch};
use crate::words::harmless;
use clap::Args;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// A dashboard in the terminal, asked anew every second, until `q`.
    #[arg(long, conflicts_with = "format")]
    watch: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    if arguments.watch {
        return watch::run(&arguments.remote.door);
    }
    let status = Client::new(&arguments.remote)?.get("/api/v1/status", &[])?;
    match arguments.remote.format {
        Format::Json => say_json(&status),
        Format::Table => say(&shown(&status)),
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(status: &Value) -> String {
    let mut lines = vec![
        format!(
            "understudy {}, up {}",
            text(status, "/version"),
            span(number(status, "/uptime_s"))
        ),
        format!("primary   {}", server(status, "primary")),
        format!("shadow    {}", server(status, "shadow")),
        format!("mirror    {}", mirror(status)),
        format!(
            "sessions  {} open, {} mirrored, {} tunnelled",
            count(number(status, "/sessions/open")),
            count(number(status, "/sessions/mirrored")),
            count(number(status, "/sessions/tunnelled")),
        ),
    ];
    lines.extend(cutover(status).map(|words| format!("cutover   {words}")));
    if status.pointer("/handover/to").is_some() {
        lines.push(format!(
            "handover  process {} has taken over; this one ends with its last session",
            number(status, "/handover/to")
        ));
    }
    if let Some(trouble) = status.pointer("/ledger/last_error").and_then(Value::as_str) {
        lines.push(format!("ledger    {trouble}"));
    }
    let lost = number(status, "/ledger/lost");
    if lost > 0 {
        lines.push(format!(
            "ledger    {} divergences lost: counted, but not kept",
            count(lost)
        ));
    }
    lines.push(String::new());
    lines.push(coverage(status.get("coverage").unwrap_or(&Value::Null)));
    lines.join("\n")
}

/// A server in a line.
pub(super) fn server(status: &Value, role: &str) -> String {
    let name = text(status, &format!("/{role}"));
    let server = status
        .pointer("/servers")
        .and_then(|servers| servers.get(name))
        .unwrap_or(&Value::Null);
    let mut words = name.to_owned();
    for (key, before) in [("/address", " at "), ("/version", ", ")] {
        let said = text(server, key);
        if !said.is_empty() {
            words.push_str(before);
            words.push_str(said);
        }
    }
    let error = text(server, "/error");
    if !error.is_empty() {
        words.push_str(", NOT REACHED: ");
        words.push_str(error);
    }
    if server.get("watched") == Some(&Value::Bool(false)) {
        words.push_str(", not watched: it has no account in the config");
    }
    words
}

/// A cutover that is under way or soaks, in a line; none at rest.
pub(super) fn cutover(status: &Value) -> Option<String> {
    let state = text(status, "/cutover/state");
    if matches!(state, "" | "idle" | "done" | "aborted") {
        return None;
    }
    let state = state.replace('_', " ");
    Some(match text(status, "/cutover/progress/words") {
        "" => state,
        words => format!("{state}: {}", harmless(words)),
    })
}

/// The mirror in a line.
pub(super) fn mirror(status: &Value) -> String {
    let switch = |on| if on == Some(true) { "on" } else { "off" };
    let reason = text(status, "/mirror/reason");
    let sample = status
        .pointer("/mirror/sample")
        .and_then(Value::as_f64)
        .unwrap_or(0.0);
    format!(
        "{}{}; reads {}, writes {}, sample {} %; queue {} of {}",
        word(status),
        if reason.is_empty() {
            String::new()
        } else {
            format!(" ({reason})")
        },
        switch(status.pointer("/mirror/reads").and_then(Value::as_bool)),
        text(status, "/mirror/writes"),
        sample * 100.0,
        bytes(number(status, "/mirror/queue_bytes")),
        bytes(number(status, "/mirror/queue_bytes_max")),
    )
}

/// The mirror's state in a word: `off` where it runs, and neither reads nor writes are mirrored.
pub(super) fn word(status: &Value) -> &str {
    let mirrors = status.pointer("/mirror/mirrors").and_then(Value::as_bool);
    match text(status, "/mirror/state") {
        "running" if mirrors == Some(false) => "off",
        state => state,
    }
}

fn coverage(coverage: &Value) -> String {
    let commands = number(coverage, "/commands");
    let mut table = table(&["coverage", "commands", "share"], &[1, 2]);
    let mut row = |name: &str, n: u64| {
        table.add_row([name.to_owned(), count(n), share(n, commands)]);
    };
    row("all", commands);
    row("matched", number(coverage, "/matched"));
    row("tolerated", number(coverage, "/tolerated"));
    row("diverged", number(coverage, "/diverged"));
    let reasons = coverage.get("not_compared").and_then(Value::as_object);
    let mut reasons: Vec<(&str, u64)> = reasons
        .into_iter()
        .flatten()
        .map(|(reason, n)| (reason.as_str(), n.as_u64().unwrap_or(0)))
        .filter(|(_, n)| *n > 0)
        .collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    row("not compared", reasons.iter().map(|(_, n)| n).sum());
    for (reason, n) in reasons {
        row(&format!("  {reason}"), n);
    }
    row("pending", number(coverage, "/pending"));
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_process_that_hands_over_says_to_whom() {
        let status = json!({"handover": {"to": 4711}});
        let line = "handover  process 4711 has taken over; this one ends with its last session";
        assert!(shown(&status).contains(line));
        assert!(!shown(&json!({"handover": null})).contains("handover"));
    }

    #[test]
    fn a_mirror_that_mirrors_nothing_is_off() {
        let mut status = json!({"mirror": {"state": "running", "mirrors": false, "reads": false, "writes": "off",
            "reason": "reads and writes are both off", "sample": 1.0, "queue_bytes": 0, "queue_bytes_max": 1_024}});
        let line = "off (reads and writes are both off); reads off, writes off, sample 100 %; queue 0 B of 1 KiB";
        assert_eq!(mirror(&status), line);
        status["mirror"]["state"] = json!("paused");
        assert_eq!(word(&status), "paused");
        status["mirror"] = json!({"state": "running", "mirrors": true});
        assert_eq!(word(&status), "running");
        // An older one does not say it.
        assert_eq!(word(&json!({"mirror": {"state": "running"}})), "running");
    }

    #[test]
    fn a_cutover_that_lasts_has_a_line_and_one_that_is_over_has_none() {
        let of = |state: &str, progress: Value| json!({"cutover": {"state": state, "progress": progress}});
        let soak = of("soaking", json!({"words": "4 min 2 s left"}));
        let words = shown(&soak);
        assert!(
            words.contains("\ncutover   soaking: 4 min 2 s left\n"),
            "{words}"
        );
        let catching_up = of("catching_up", Value::Null);
        assert_eq!(cutover(&catching_up).as_deref(), Some("catching up"));
        for rest in ["idle", "done", "aborted"] {
            assert_eq!(cutover(&of(rest, Value::Null)), None);
        }
        assert_eq!(
            cutover(&json!({})),
            None,
            "an older understudy says nothing"
        );
    }

    #[test]
    fn the_status_is_shown_with_its_coverage() {
        let status = json!({
            "version": "0.1.0", "uptime_s": 7_620, "primary": "legacy", "shadow": "vitess",
            "servers": {
                "legacy": {"address": "127.0.0.1:3356", "version": "5.6.24", "error": null},
                "vitess": {"address": "127.0.0.1:15306", "version": null, "error": "connection refused"},
            },
            "mirror": {"state": "suspended", "reason": "the shadow is down", "reads": true, "writes": "apply",
                       "sample": 0.5, "queue_bytes": 1_572_864, "queue_bytes_max": 268_435_456},
            "sessions": {"open": 8, "mirrored": 7, "tunnelled": 1},
            "coverage": {"commands": 12_345, "matched": 12_000, "tolerated": 300, "diverged": 5,
                         "not_compared": {"race": 10, "off": 0, "shadow_down": 28}, "pending": 2},
            "ledger": {"lost": 3, "last_error": "the disk is full"},
        });
        let expected = "\
understudy 0.1.0, up 2 h 7 min
primary   legacy at 127.0.0.1:3356, 5.6.24
shadow    vitess at 127.0.0.1:15306, NOT REACHED: connection refused
mirror    suspended (the shadow is down); reads on, writes apply, sample 50 %; queue 1.5 MiB of 256 MiB
sessions  8 open, 7 mirrored, 1 tunnelled
ledger    the disk is full
ledger    3 divergences lost: counted, but not kept

COVERAGE       COMMANDS     SHARE
all              12,345  100.00 %
matched          12,000   97.20 %
tolerated           300    2.43 %
diverged              5    0.04 %
not compared         38    0.30 %
  shadow_down        28    0.22 %
  race               10    0.08 %
pending               2    0.01 %";
        let shown = shown(&status);
        let trimmed: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), expected);
    }
}

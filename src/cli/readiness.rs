//! `understudy readiness`: whether the shadow is ready to be the primary, and if not, why.

use super::words::{table, text};
use super::{Client, Format, Remote, Trouble, say, say_json};
use crate::words::harmless;
use clap::Args;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let readiness = Client::new(&arguments.remote)?.get("/api/v1/readiness", &[])?;
    match arguments.remote.format {
        Format::Json => say_json(&readiness),
        Format::Table => say(&shown(&readiness)),
    }
    Ok(if is_ready(&readiness) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn is_ready(readiness: &Value) -> bool {
    readiness.get("ready") == Some(&Value::Bool(true))
}

pub(super) fn shown(readiness: &Value) -> String {
    let guards = readiness
        .get("guards")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let passes = |guard: &Value| guard.get("pass") == Some(&Value::Bool(true));
    let failed = guards.iter().filter(|guard| !passes(guard)).count();
    let head = if is_ready(readiness) {
        "ready: every guard passes".to_owned()
    } else {
        format!("NOT READY: {failed} of {} guards do not pass", guards.len())
    };
    let head = match way_back(readiness) {
        Some(back) => format!(
            "{back}\nand a cutover forward, as if nobody had been served from that server: {head}"
        ),
        None => head,
    };
    format!("{head}\n\n{}", self::guards(guards))
}

/// Whether the way back is open, where there is one.
pub(super) fn way_back(readiness: &Value) -> Option<String> {
    let back = readiness.get("way_back").filter(|back| back.is_object())?;
    let to = text(back, "/to");
    if back.get("open") == Some(&Value::Bool(true)) {
        return Some(format!(
            "the way back to {to}: open, understudy rollback (as far as is known here; a dry run asks the rest)"
        ));
    }
    let bars = back.get("barred_by").and_then(Value::as_array);
    let bars: Vec<String> = bars
        .into_iter()
        .flatten()
        .map(|bar| format!("{}: {}", text(bar, "/name"), harmless(text(bar, "/why"))))
        .collect();
    Some(format!(
        "the way back to {to}: BARRED by {}",
        bars.join("; ")
    ))
}

/// Guards as a table, with those that an operator overrides.
pub(super) fn guards(guards: &[Value]) -> String {
    let mut table = table(&["guard", "", "found"], &[]);
    for guard in guards {
        let is = |key: &str| guard.get(key) == Some(&Value::Bool(true));
        let mark = match (is("pass"), is("forced")) {
            (true, _) => "pass",
            (false, true) => "forced",
            (false, false) => "FAIL",
        };
        table.add_row([text(guard, "/name"), mark, text(guard, "/why")]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_guard_is_shown_with_its_reason() {
        let readiness = json!({"ready": false, "guards": [
            {"name": "taint", "pass": true, "value": 0, "limit": 0, "why": "no table is tainted"},
            {"name": "lag", "pass": false, "value": {}, "limit": {}, "why": "mirroring is paused"},
        ]});
        let shown = shown(&readiness);
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "NOT READY: 1 of 2 guards do not pass",
                "",
                "GUARD        FOUND",
                "taint  pass  no table is tainted",
                "lag    FAIL  mirroring is paused",
            ]
        );
        assert!(!is_ready(&readiness) && !is_ready(&Value::Null));
    }

    /// Finding: "NOT READY" stood beside a rollback that none of those guards bars.
    #[test]
    fn the_way_back_is_judged_by_itself() {
        let with = |way_back: Value| json!({"ready": false, "guards": [], "way_back": way_back});
        let open = with(json!({"to": "legacy", "open": true, "barred_by": []}));
        let words = shown(&open);
        assert!(
            words.starts_with(
                "the way back to legacy: open, understudy rollback (as far as is known here; a dry run asks the rest)\nand a cutover forward"
            ),
            "{words}"
        );
        assert!(words.contains("NOT READY"), "{words}");
        let bar = json!({"name": "taint", "why": "tainted: app.t"});
        let barred = with(json!({"to": "legacy", "open": false, "barred_by": [bar]}));
        let words = shown(&barred);
        assert!(
            words.starts_with("the way back to legacy: BARRED by taint: tainted: app.t\n"),
            "{words}"
        );
        assert_eq!(way_back(&with(Value::Null)), None);
    }
}

//! `understudy latency`: how long both servers took, side by side.

use super::words::{brief, count, items, micros, number, table, text, width};
use super::{Client, Format, Remote, Trouble, say, say_json};
use clap::Args;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// One statement only (its shape, or its digest).
    #[arg(long)]
    fingerprint: Option<String>,
    /// At most so many statements, the busiest first.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::new(&arguments.remote)?;
    let query: Vec<_> = arguments
        .fingerprint
        .iter()
        .map(|one| ("fingerprint", one.clone()))
        .collect();
    let latency = client.get("/api/v1/latency", &query)?;
    if arguments.remote.format == Format::Json {
        say_json(&latency);
        return Ok(ExitCode::SUCCESS);
    }
    let status = client.get("/api/v1/status", &[])?;
    let servers = [text(&status, "/primary"), text(&status, "/shadow")];
    say(&shown(&latency, servers, arguments.limit));
    Ok(ExitCode::SUCCESS)
}

fn shown(latency: &Value, servers: [&str; 2], limit: usize) -> String {
    let all = items(latency);
    if all.is_empty() {
        return "no latencies yet".to_owned();
    }
    let busiest = |of: Vec<Value>| {
        let mut of = of;
        of.sort_by_key(|item| std::cmp::Reverse(number(item, "/count")));
        of
    };
    let statements = all.to_vec();
    let classes = latency
        .get("classes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut parts = Vec::new();
    if !classes.is_empty() {
        parts.push(side_by_side("class", &busiest(classes), servers));
    }
    if !statements.is_empty() {
        let more = statements.len().saturating_sub(limit);
        let mut shown = busiest(statements);
        shown.truncate(limit);
        parts.push(side_by_side("statement", &shown, servers));
        if more > 0 {
            parts.push(format!("{} more: --limit N", count(more as u64)));
        }
    }
    parts.join("\n\n")
}

/// A row for each item: the last byte's quantiles of both servers, and how they compare.
fn side_by_side(title: &str, list: &[Value], servers: [&str; 2]) -> String {
    let [primary, shadow] = servers;
    let heads: Vec<String> = ["p50", "p99", "max"]
        .iter()
        .flat_map(|quantile| {
            [
                format!("{primary} {quantile}"),
                format!("{shadow} {quantile}"),
            ]
        })
        .collect();
    let mut head = vec![title, "count"];
    head.extend(heads.iter().map(String::as_str));
    head.push("p50 ratio");
    let mut table = table(&head, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let room = usize::from(width()).saturating_sub(100).max(24);
    for item in list {
        let class = text(item, "/class");
        let name = match item.get("fingerprint").and_then(Value::as_str) {
            Some(fingerprint) if text(item, "/protocol") == "prepared" => {
                format!("{} (prepared)", brief(fingerprint, room))
            }
            Some(fingerprint) => brief(fingerprint, room),
            None if title == "class" => class.to_owned(),
            None => format!("(other {class})"),
        };
        let mut row = vec![name, count(number(item, "/count"))];
        for quantile in ["p50", "p99", "max"] {
            for server in servers {
                let us = item
                    .get(server)
                    .and_then(|side| side.get(quantile))
                    .and_then(Value::as_u64);
                row.push(us.map_or_else(|| "-".to_owned(), micros));
            }
        }
        row.push(ratio(item, servers));
        table.add_row(row);
    }
    table.trim_fmt()
}

/// The shadow's median over the primary's.
fn ratio(item: &Value, [primary, shadow]: [&str; 2]) -> String {
    let median = |server| {
        item.get(server)
            .and_then(|side| side.get("p50"))
            .and_then(Value::as_f64)
    };
    match (median(primary), median(shadow)) {
        (Some(primary), Some(shadow)) if primary > 0.0 => format!("{:.1} ×", shadow / primary),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_servers_stand_side_by_side() {
        let side =
            |p50: u64| json!({"p50": p50, "p90": 1, "p99": p50 * 2, "p999": 1, "max": p50 * 3});
        let read = json!({"fingerprint": null, "class": "read", "count": 1_000, "legacy": side(200), "vitess": side(900)});
        let select =
            json!({"fingerprint": "SELECT ?", "class": "read", "count": 5, "legacy": side(100)});
        let latency = json!({"items": [select], "classes": [read]});
        let shown = shown(&latency, ["legacy", "vitess"], 20);
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "CLASS  COUNT  LEGACY P50  VITESS P50  LEGACY P99  VITESS P99  LEGACY MAX  VITESS MAX  P50 RATIO",
                "read   1,000      200 µs      900 µs      400 µs     1.80 ms      600 µs     2.70 ms      4.5 ×",
                "",
                "STATEMENT  COUNT  LEGACY P50  VITESS P50  LEGACY P99  VITESS P99  LEGACY MAX  VITESS MAX  P50 RATIO",
                "SELECT ?       5      100 µs           -      200 µs           -      300 µs           -          -",
            ]
        );
    }
}

//! `GET /api/v1/report`: one document for a team, as JSON, Markdown or HTML.

use super::answer::{Asked, Refusal, read};
use super::status::mirror_json;
use super::{Parts, readiness};
use crate::config::Literals;
use crate::ledger::{Byte, CoverageBy, CoverageFilter, FindingFilter, LIMIT_MAX};
use crate::readiness::{judge, slower};
use crate::report::{Found, Report, Server};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

/// Findings that a report holds, each with its newest divergence.
const FINDINGS: u32 = 50;

/// Statements and tables in each of its lists.
const LISTED: u32 = 25;

/// In which form.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    format: Option<String>,
}

/// The report of this moment.
pub(super) async fn report(
    State(parts): State<Parts>,
    Asked(form): Asked<Form>,
) -> Result<Response, Refusal> {
    let form = form.format.unwrap_or_else(|| "json".to_owned());
    let (kind, write): (&str, fn(&Report) -> String) = match form.as_str() {
        "json" => return Ok(Json(read(move || made(&parts)).await?).into_response()),
        "markdown" => ("text/markdown; charset=utf-8", Report::markdown),
        "html" => ("text/html; charset=utf-8", Report::html),
        other => {
            return Err(Refusal::bad(format!(
                "format: found {other:?}; it is one of json, markdown, html"
            )));
        }
    };
    let text = read(move || made(&parts).map(|report| write(&report))).await?;
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Gathers all that a report tells. Reads the ledger's file.
fn made(parts: &Parts) -> Result<Report, String> {
    let figures = readiness::figures(parts)?;
    let limits = &*parts.config.readiness.whole();
    let verdict = judge(&figures, limits, &parts.config.cutover);
    let page = parts.ledger.findings(&FindingFilter {
        limit: FINDINGS,
        ..FindingFilter::default()
    })?;
    let found = |finding: Value| {
        let id = finding.get("id").and_then(Value::as_i64).unwrap_or(0);
        let example = parts.ledger.newest(id)?;
        Ok::<_, String>(Found { finding, example })
    };
    let more_findings = page.next.is_some();
    let findings = page.items.into_iter().map(found);
    let findings = findings.collect::<Result<Vec<_>, _>>()?;
    let covered = |by, compared, limit| {
        let filter = CoverageFilter {
            by,
            compared,
            limit,
            before: None,
        };
        parts.ledger.covered(&filter).map(|page| page.items)
    };
    let since = readiness::since(parts, figures.now);
    let never = |by| {
        let items = covered(by, Some(false), LIMIT_MAX)?;
        Ok::<_, String>(within(items, since))
    };
    let slow = |pace| slower(pace, &limits.latency).is_some();
    let servers = readiness::names(parts);
    let [primary, shadow] = [&servers[0], &servers[1]];
    let seen = |name: &String| Server {
        name: name.clone(),
        version: parts.house.seen(name).version,
    };
    Ok(Report {
        at: figures.now,
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: parts.started.elapsed().as_secs(),
        primary: seen(primary),
        shadow: seen(shadow),
        first: parts.config.primary.name.clone(),
        mirror: mirror_json(parts),
        redacted: parts.config.ledger.literals == Literals::Redact,
        readiness: verdict,
        findings,
        more_findings,
        taints: parts.ledger.taints(),
        never_statements: never(CoverageBy::Fingerprint)?,
        never_tables: never(CoverageBy::Table)?,
        tables: covered(CoverageBy::Table, None, LISTED)?,
        curves: parts.ledger.curves([primary, shadow], Byte::Last),
        slower: figures
            .paces
            .iter()
            .enumerate()
            .filter(|(_, pace)| slow(pace))
            .map(|(at, _)| at)
            .collect(),
        paces: figures.paces,
        evidence: figures.evidence,
    })
}

/// Those that were seen since a time, as the guard `coverage` counts them: not what is added up of
/// many names.
fn within(items: Vec<Value>, since: jiff::Timestamp) -> Vec<Value> {
    let text = |item: &Value, key: &str| {
        let text = item.get(key).and_then(Value::as_str);
        text.map(str::to_owned)
    };
    let counts = |item: &Value| {
        let named = text(item, "fingerprint").or_else(|| text(item, "table"));
        let seen = text(item, "last_seen").and_then(|at| at.parse::<jiff::Timestamp>().ok());
        named.is_some_and(|name| !name.is_empty() && name != "*")
            && seen.is_some_and(|seen| seen >= since)
    };
    let most = usize::try_from(LISTED).unwrap_or(usize::MAX);
    items.into_iter().filter(counts).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_never_compared_is_what_the_guard_counts() {
        let (old, new) = ("2030-01-01T00:00:00Z", "2030-01-02T00:00:00Z");
        let items = vec![
            json!({"fingerprint": "a", "last_seen": new}),
            json!({"fingerprint": "b", "last_seen": old}),
            json!({"fingerprint": null, "last_seen": new}),
            json!({"table": "t", "last_seen": new}),
            json!({"table": "*", "last_seen": new}),
            json!({"table": "u", "last_seen": null}),
        ];
        let kept = within(items, new.parse().unwrap());
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert_eq!(kept[0]["fingerprint"], "a");
        assert_eq!(kept[1]["table"], "t");
    }
}

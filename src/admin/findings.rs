//! `/api/v1/divergences`, `/api/v1/findings`: what differed, one by one and rolled up, and its triage.

use super::Parts;
use super::answer::{Asked, Id, Refusal, Told, read};
use super::status::Nothing;
use crate::compare::verdict::Kind;
use crate::ledger::{DivergenceFilter, FindingFilter, FindingPatch, FindingSort, Page, STATES};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

/// Items of a page where the query does not say.
const LIMIT: u32 = 100;

/// Which divergences.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Divergences {
    kind: Option<String>,
    table: Option<String>,
    fingerprint: Option<String>,
    state: Option<String>,
    limit: Option<u32>,
    before: Option<i64>,
}

/// A page of divergences, newest first.
pub(super) async fn divergences(
    State(parts): State<Parts>,
    Asked(asked): Asked<Divergences>,
) -> Result<Json<Page>, Refusal> {
    if let Some(kind) = asked
        .kind
        .as_deref()
        .filter(|kind| Kind::named(kind).is_none())
    {
        let kinds = Kind::ALL.map(Kind::name).join(", ");
        return Err(Refusal::bad(format!(
            "kind: found {kind:?}; it is one of {kinds}"
        )));
    }
    let filter = DivergenceFilter {
        kind: asked.kind,
        table: asked.table,
        fingerprint: asked.fingerprint,
        state: known_state(asked.state)?,
        limit: limit(asked.limit)?,
        before: asked.before,
    };
    read(move || parts.ledger.divergences(&filter))
        .await
        .map(Json)
}

/// One divergence, whole.
pub(super) async fn divergence(
    State(parts): State<Parts>,
    Id(id): Id,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Value>, Refusal> {
    let found = read(move || parts.ledger.divergence(id)).await?;
    found.map(Json).ok_or_else(|| {
        Refusal::not_found(format!(
            "there is no divergence {id}, or not any more: the oldest are let go"
        ))
    })
}

/// Which findings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Findings {
    sort: Option<String>,
    state: Option<String>,
    limit: Option<u32>,
    before: Option<i64>,
}

/// A page of findings.
pub(super) async fn findings(
    State(parts): State<Parts>,
    Asked(asked): Asked<Findings>,
) -> Result<Json<Page>, Refusal> {
    let sort = match asked.sort.as_deref() {
        None | Some("impact") => FindingSort::Impact,
        Some("count") => FindingSort::Count,
        Some("last_seen") => FindingSort::LastSeen,
        Some(other) => {
            return Err(Refusal::bad(format!(
                "sort: found {other:?}; it is one of impact, count, last_seen"
            )));
        }
    };
    let filter = FindingFilter {
        id: None,
        state: known_state(asked.state)?,
        sort,
        limit: limit(asked.limit)?,
        before: asked.before,
    };
    read(move || parts.ledger.findings(&filter)).await.map(Json)
}

/// Triages a finding, and answers with it as it is then.
pub(super) async fn triage(
    State(parts): State<Parts>,
    Id(id): Id,
    Told(mut patch): Told<FindingPatch>,
) -> Result<Json<Value>, Refusal> {
    patch.state = known_state(patch.state)?;
    if patch.state.is_none() && patch.who.is_none() && patch.why.is_none() && patch.until.is_none()
    {
        return Err(Refusal::bad(
            "the body changes nothing; it takes state, who, why, until",
        ));
    }
    for (key, text) in [("who", &patch.who), ("why", &patch.why)] {
        if text.as_ref().is_some_and(|text| text.len() > 1_000) {
            return Err(Refusal::bad(format!("{key}: at most 1000 bytes")));
        }
    }
    if let Some(until) = &patch.until {
        let at: jiff::Timestamp = until.parse().map_err(|_| {
            Refusal::bad(format!(
                "until: found {until:?}; write a time such as 2030-01-31T00:00:00Z"
            ))
        })?;
        patch.until = Some(at.to_string());
    }
    let changed = read(move || parts.ledger.patch_finding(id, patch)).await?;
    changed
        .map(Json)
        .ok_or_else(|| Refusal::not_found(format!("there is no finding {id}")))
}

fn known_state(state: Option<String>) -> Result<Option<String>, Refusal> {
    match state {
        Some(state) if !STATES.contains(&state.as_str()) => Err(Refusal::bad(format!(
            "state: found {state:?}; it is one of {}",
            STATES.join(", ")
        ))),
        known => Ok(known),
    }
}

/// At least 1; the ledger has the upper bound.
fn limit(limit: Option<u32>) -> Result<u32, Refusal> {
    match limit {
        Some(0) => Err(Refusal::bad("limit: found 0; it is at least 1")),
        given => Ok(given.unwrap_or(LIMIT)),
    }
}

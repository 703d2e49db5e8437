//! `/api/v1/divergences`, `/api/v1/findings`: what differed, one by one and rolled up, and its triage.

use super::Parts;
use super::answer::{Asked, Id, Refusal, Told, change, read};
use super::sheet::{self, Form};
use super::status::Nothing;
use super::who::Caller;
use crate::compare::verdict::{Kind, Reason};
use crate::ledger::{
    By, Changed, DivergenceFilter, FindingFilter, FindingPatch, FindingSort, Page, STATES,
};
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
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
    finding: Option<i64>,
    follows: Option<bool>,
    limit: Option<u32>,
    before: Option<i64>,
    format: Option<String>,
}

/// A page of divergences, newest first; what follows from a taint only where it is asked for.
pub(super) async fn divergences(
    State(parts): State<Parts>,
    headers: HeaderMap,
    Asked(asked): Asked<Divergences>,
) -> Result<Response, Refusal> {
    let form = Form::asked(asked.format.as_deref(), &headers)?;
    let mut filter = DivergenceFilter {
        kind: known_kind(asked.kind)?,
        table: asked.table,
        fingerprint: asked.fingerprint,
        state: known_state(asked.state)?,
        finding: asked.finding,
        follows: asked.follows,
        limit: limit(asked.limit, form)?,
        before: asked.before,
    };
    if form == Form::Json {
        let page = read(move || parts.ledger.divergences(&filter)).await?;
        return Ok(Json(page).into_response());
    }
    let most = filter.limit;
    read(move || {
        sheet::of_pages(&sheet::DIVERGENCES, most, |limit, before| {
            filter.limit = limit;
            filter.before = before.or(filter.before);
            parts.ledger.divergences(&filter)
        })
    })
    .await
    .map(IntoResponse::into_response)
}

/// One divergence, whole.
pub(super) async fn divergence(
    State(parts): State<Parts>,
    Id(id): Id,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Value>, Refusal> {
    one_divergence(parts, id).await.map(Json)
}

/// The same, for the page too.
pub(super) async fn one_divergence(parts: Parts, id: i64) -> Result<Value, Refusal> {
    let found = read(move || parts.ledger.divergence(id)).await?;
    found.ok_or_else(|| {
        Refusal::not_found(format!(
            "there is no divergence {id}, or not any more: the oldest are let go"
        ))
    })
}

/// Which findings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Findings {
    pub(super) by: Option<String>,
    pub(super) sort: Option<String>,
    pub(super) state: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) table: Option<String>,
    pub(super) fingerprint: Option<String>,
    pub(super) search: Option<String>,
    pub(super) rule: Option<String>,
    pub(super) limit: Option<u32>,
    pub(super) before: Option<i64>,
    format: Option<String>,
}

impl Findings {
    /// What is meant by it.
    ///
    /// # Errors
    /// A word that is none of those which are known, and these.
    pub(super) fn meant(&self, limit: u32) -> Result<(Option<By>, FindingFilter), Refusal> {
        let by = known_by(self.by.as_deref(), self.sort.as_deref())?;
        let filter = FindingFilter {
            id: None,
            state: known_state(self.state.clone())?,
            kind: match self.kind.clone() {
                // What follows from a taint is a finding of this kind, and no divergence.
                Some(kind) if kind == Reason::Tainted.name() => Some(kind),
                kind => known_kind(kind)?,
            },
            table: self.table.clone(),
            fingerprint: self.fingerprint.clone(),
            search: self.search.clone(),
            rule: self.rule.clone(),
            sort: known_sort(self.sort.as_deref())?,
            limit,
            before: self.before,
        };
        Ok((by, filter))
    }
}

/// A page of findings, or of their roll-up. Reads the ledger's file.
pub(super) fn listed(
    parts: &Parts,
    by: Option<By>,
    filter: &FindingFilter,
) -> Result<Page, String> {
    match by {
        None => parts.ledger.findings(filter),
        Some(by) => parts.ledger.rollup(by, filter),
    }
}

/// A page of findings, or of their roll-up.
pub(super) async fn findings(
    State(parts): State<Parts>,
    headers: HeaderMap,
    Asked(asked): Asked<Findings>,
) -> Result<Response, Refusal> {
    let form = Form::asked(asked.format.as_deref(), &headers)?;
    let (by, mut filter) = asked.meant(limit(asked.limit, form)?)?;
    let page = move |filter: &FindingFilter| listed(&parts, by, filter);
    if form == Form::Json {
        let page = read(move || page(&filter)).await?;
        return Ok(Json(page).into_response());
    }
    let columns = match by {
        None => &sheet::FINDINGS[..],
        Some(By::Fingerprint) => &sheet::BY_FINGERPRINT[..],
        Some(By::Table) => &sheet::BY_TABLE[..],
    };
    let most = filter.limit;
    read(move || {
        sheet::of_pages(columns, most, |limit, before| {
            filter.limit = limit;
            filter.before = before.or(filter.before);
            page(&filter)
        })
    })
    .await
    .map(IntoResponse::into_response)
}

/// One finding, whole.
pub(super) async fn finding(
    State(parts): State<Parts>,
    Id(id): Id,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Value>, Refusal> {
    one_finding(parts, id).await.map(Json)
}

/// The same, for the page too.
pub(super) async fn one_finding(parts: Parts, id: i64) -> Result<Value, Refusal> {
    let found = read(move || parts.ledger.finding(id)).await?;
    found.ok_or_else(|| missing(id))
}

fn missing(id: i64) -> Refusal {
    Refusal::not_found(format!(
        "there is no finding {id}, or not any more: those not seen for longest are let go"
    ))
}

/// Triages a finding, and answers with it as it is then.
pub(super) async fn triage(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Told(patch): Told<FindingPatch>,
) -> Result<Json<Value>, Refusal> {
    triaged(parts, &caller, id, patch).await.map(Json)
}

/// The same, for the page too.
pub(super) async fn triaged(
    parts: Parts,
    caller: &Caller,
    id: i64,
    patch: FindingPatch,
) -> Result<Value, Refusal> {
    let patch = FindingPatch {
        who: caller.signs(patch.who)?,
        ..patch
    };
    let patch = patch.sound(jiff::Timestamp::now()).map_err(Refusal::bad)?;
    match change(move || parts.ledger.patch_finding(id, patch)).await? {
        Changed::Done(finding) => Ok(finding),
        Changed::Missing => Err(missing(id)),
        Changed::Refused(why) => Err(Refusal::conflict(why)),
    }
}

fn known_by(by: Option<&str>, sort: Option<&str>) -> Result<Option<By>, Refusal> {
    let by = match by {
        None => return Ok(None),
        Some("fingerprint") => By::Fingerprint,
        Some("table") => By::Table,
        Some(other) => {
            return Err(Refusal::bad(format!(
                "by: found {other:?}; it is one of fingerprint, table"
            )));
        }
    };
    match sort {
        None | Some("impact") => Ok(Some(by)),
        Some(_) => Err(Refusal::bad(
            "sort: what is rolled up comes by impact; leave sort out",
        )),
    }
}

fn known_sort(sort: Option<&str>) -> Result<FindingSort, Refusal> {
    match sort {
        None | Some("impact") => Ok(FindingSort::Impact),
        Some("count") => Ok(FindingSort::Count),
        Some("last_seen") => Ok(FindingSort::LastSeen),
        Some(other) => Err(Refusal::bad(format!(
            "sort: found {other:?}; it is one of impact, count, last_seen"
        ))),
    }
}

fn known_kind(kind: Option<String>) -> Result<Option<String>, Refusal> {
    match kind {
        Some(kind) if Kind::named(&kind).is_none() => {
            let kinds = Kind::ALL.map(Kind::name).join(", ");
            Err(Refusal::bad(format!(
                "kind: found {kind:?}; it is one of {kinds}"
            )))
        }
        known => Ok(known),
    }
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

/// At least 1; the ledger and the sheet have the upper bounds.
fn limit(limit: Option<u32>, form: Form) -> Result<u32, Refusal> {
    match (limit, form) {
        (Some(0), _) => Err(Refusal::bad("limit: found 0; it is at least 1")),
        (Some(given), _) => Ok(given),
        (None, Form::Json) => Ok(LIMIT),
        (None, Form::Csv) => Ok(sheet::ROWS_MAX),
    }
}

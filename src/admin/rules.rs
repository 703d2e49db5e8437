//! `/api/v1/rules`: divergences that are judged beforehand.

use super::Parts;
use super::answer::{Asked, Id, Refusal, Told, change, read};
use super::status::Nothing;
use super::who::Caller;
use crate::config::{self, Written};
use crate::ledger::Changed;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// All rules, in the order in which they are asked.
pub(super) async fn rules(
    State(parts): State<Parts>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Value>, Refusal> {
    let rules = read(move || parts.ledger.rules()).await?;
    Ok(Json(json!({"items": rules})))
}

/// Adds a rule, and answers with it as it is kept.
pub(super) async fn add(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    Told(written): Told<Written>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let written = Written {
        who: caller.signs(written.who)?,
        ..written
    };
    let rule = written.meant().map_err(|wrong| {
        Refusal::bad(format!("{}: {}; {}", wrong.key, wrong.wrong, wrong.right))
    })?;
    if let Some(until) = rule.until.filter(|until| *until <= jiff::Timestamp::now()) {
        return Err(Refusal::bad(format!("until: {until} is over already")));
    }
    match change(move || parts.ledger.add_rule(rule)).await? {
        Changed::Done(rule) => Ok((StatusCode::CREATED, Json(rule))),
        Changed::Refused(why) => Err(Refusal::conflict(why)),
        Changed::Missing => Err(Refusal::unavailable(
            "this ledger has no file: it keeps no rules",
        )),
    }
}

/// Who deletes a rule, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deletion {
    who: Option<String>,
    why: Option<String>,
}

/// Deletes a rule; what it took is open again, unless a person has judged the same shape.
pub(super) async fn delete(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Asked(said): Asked<Deletion>,
) -> Result<Json<Value>, Refusal> {
    // Who says nothing is unknown, and need not say why.
    let told = |text: Option<String>| text.filter(|text| !text.is_empty());
    let who = caller.signs(told(said.who))?;
    let why = told(said.why).unwrap_or_default();
    if !why.is_empty() {
        config::said("why", &why).map_err(|wrong| Refusal::bad(wrong.to_string()))?;
    }
    let who = who.unwrap_or_else(|| "unknown".to_owned());
    match change(move || parts.ledger.delete_rule(id, &who, &why)).await? {
        Changed::Done(()) => Ok(Json(json!({"deleted": id}))),
        Changed::Missing => Err(Refusal::not_found(format!("there is no rule {id}"))),
        Changed::Refused(why) => Err(Refusal::conflict(why)),
    }
}

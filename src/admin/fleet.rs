//! `GET /api/v1/fleet`: the proxies that flip together with this one; `POST /api/v1/fleet/forget` takes one
//! out that is gone for good.

use super::Parts;
use super::answer::{Asked, Refusal, Told};
use super::status::Nothing;
use super::who::Caller;
use crate::config::FedBy;
use crate::cutover::Fleet;
use crate::cutover::fleet::{FleetError, Shown};
use crate::sql::Table;
use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use std::sync::Arc;

pub(super) async fn fleet(
    State(parts): State<Parts>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Shown>, Refusal> {
    Ok(Json(of(&parts)?.shown().await))
}

/// Which one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    name: String,
    /// Who says so, for the record.
    who: Option<String>,
}

/// The fleet without it.
pub(super) async fn forget(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    Told(which): Told<Which>,
) -> Result<Json<Shown>, Refusal> {
    let shown = forgotten(&parts, &caller, &which.name, which.who).await?;
    Ok(Json(shown))
}

/// The same, for the page too. What it had not yet brought to the shadow went with it, and only its own ledger
/// would tell of which tables: here it may be any.
pub(super) async fn forgotten(
    parts: &Parts,
    caller: &Caller,
    name: &str,
    who: Option<String>,
) -> Result<Shown, Refusal> {
    let who = caller.says(who)?;
    let fleet = of(parts)?;
    let fed_by = parts.roles.borrow().shadow.fed_by;
    let lost = (fed_by == FedBy::Mirror)
        .then_some("was taken out of the fleet, and dark writes that waited in it are lost");
    fleet
        .forget(name, lost)
        .await
        .map_err(|error| match error {
            FleetError::No(why) => Refusal::conflict(why),
            FleetError::Down(why) => Refusal::unavailable(why),
        })?;
    if let Some(how) = lost {
        let cause = format!("gap: the proxy {name} {how}");
        parts.ledger.taint(&[everything()], &cause.as_str().into());
    }
    let (ledger, what) = (parts.ledger.clone(), format!("fleet: {name} forgotten"));
    super::mirror::noted(ledger, who, what).await;
    Ok(fleet.shown().await)
}

fn everything() -> Table {
    Table {
        database: None,
        name: "*".to_owned(),
    }
}

/// The fleet of this proxy.
///
/// # Errors
/// It is alone.
pub(super) fn of(parts: &Parts) -> Result<Arc<Fleet>, Refusal> {
    parts
        .helm
        .fleet()
        .ok_or_else(|| Refusal::not_found("this proxy is alone: its config has no etcd in [fleet]"))
}

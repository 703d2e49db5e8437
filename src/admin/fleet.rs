//! `GET /api/v1/fleet`: the proxies that flip together with this one; `POST /api/v1/fleet/forget` takes one
//! out that is gone for good.

use super::Parts;
use super::answer::{Asked, Refusal, Told};
use super::status::Nothing;
use crate::cutover::Fleet;
use crate::cutover::fleet::{FleetError, Shown};
use axum::Json;
use axum::extract::State;
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
}

/// The fleet without it.
pub(super) async fn forget(
    State(parts): State<Parts>,
    Told(which): Told<Which>,
) -> Result<Json<Shown>, Refusal> {
    let fleet = of(&parts)?;
    fleet
        .forget(&which.name)
        .await
        .map_err(|error| match error {
            FleetError::No(why) => Refusal::conflict(why),
            FleetError::Down(why) => Refusal::unavailable(why),
        })?;
    Ok(Json(fleet.shown().await))
}

fn of(parts: &Parts) -> Result<Arc<Fleet>, Refusal> {
    parts
        .helm
        .fleet()
        .ok_or_else(|| Refusal::not_found("this proxy is alone: its config has no etcd in [fleet]"))
}

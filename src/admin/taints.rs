//! `GET /api/v1/taints`, `POST /api/v1/taints/clear`: tables whose differences follow from a lost write.

use super::Parts;
use super::answer::{Asked, Refusal, Told, change, read};
use super::status::Nothing;
use super::who::Caller;
use crate::config;
use crate::ledger::Taint;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

/// All tainted tables and their causes.
pub(super) async fn taints(
    State(parts): State<Parts>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Value>, Refusal> {
    let items = read(move || parts.ledger.tainted()).await?;
    Ok(Json(json!({"items": items})))
}

/// Which taints to clear, and who says so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clear {
    tables: Vec<String>,
    who: Option<String>,
    why: String,
}

/// Tables in one request at most.
const TABLES_MAX: usize = 10_000;

/// Clears taints, and answers with those that were cleared and those that are left.
pub(super) async fn clear(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    Told(clear): Told<Clear>,
) -> Result<Json<Value>, Refusal> {
    if clear.tables.is_empty()
        || clear.tables.len() > TABLES_MAX
        || clear.tables.iter().any(String::is_empty)
    {
        return Err(Refusal::bad(
            "tables: name at least one, as \"database.table\", \"table\" or \"*\"",
        ));
    }
    let who = caller
        .signs(clear.who)?
        .ok_or_else(|| Refusal::bad("who: write who says that these tables are the same again"))?;
    config::said("why", &clear.why).map_err(|wrong| Refusal::bad(wrong.to_string()))?;
    let fleet = parts.helm.fleet();
    if let Some(fleet) = fleet.filter(|_| clear.tables.iter().any(|table| table == "*")) {
        // What went with proxies may be in any table.
        fleet
            .forgive()
            .await
            .map_err(|down| Refusal::unavailable(format!("nothing was cleared: {down}")))?;
    }
    let (cleared, left) = change(move || {
        let ledger = &parts.ledger;
        let cleared = ledger.clear_taints(&clear.tables, &who, &clear.why);
        // What is cleared is cleared, whether or not the file can be read now.
        let left = ledger.tainted();
        let left = left.unwrap_or_else(|_| ledger.taints().iter().map(Taint::shown).collect());
        Ok::<_, std::convert::Infallible>((cleared, left))
    })
    .await?;
    let cleared: Vec<Value> = cleared.iter().map(Taint::shown).collect();
    Ok(Json(json!({"cleared": cleared, "items": left})))
}

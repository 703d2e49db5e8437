//! `GET` and `POST /api/v1/cutover`, `POST /api/v1/cutover/abort`, `POST
//! /api/v1/cutover/replication_stopped`: how a cutover stands, and what an operator asks of it.

use super::Parts;
use super::answer::{Asked, Refusal, Told, ToldOrNothing, read, read_afterwards};
use super::status::Nothing;
use super::who::{Caller, Said};
use crate::cutover::{GUARDS, Helm, Judged, Order, Refused, guards, is_way_back};
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Records in the answer at most, the newest.
const HISTORY: usize = 20;

/// The guards must be judged, and an abort be over, within this time.
const TIMEOUT: Duration = Duration::from_secs(25);

/// The state, what it waits for, the primary, where a rollback leads, the record that the state is of, and the newest
/// records.
pub(super) async fn standing(
    State(parts): State<Parts>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Value>, Refusal> {
    told(parts, None).await.map(Json)
}

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    pub(super) to: String,
    #[serde(default)]
    pub(super) dry_run: bool,
    #[serde(default)]
    pub(super) force: Vec<String>,
    pub(super) who: Option<String>,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Ordered {
    /// The guards have let it pass: the number of its record.
    Begun(i64),
    /// They refuse; all of them.
    Refused(Vec<Judged>),
}

/// Asks for a cutover: 202 with its record once the guards have let it pass, 409 with the guards where
/// they do not.
pub(super) async fn order(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    Told(wanted): Told<Wanted>,
) -> Result<Response, Refusal> {
    match ordered(&parts, &caller, wanted).await? {
        Ordered::Begun(id) => {
            let told = told_afterwards(parts, Some(id)).await;
            Ok((StatusCode::ACCEPTED, Json(told)).into_response())
        }
        Ordered::Refused(guards) => Ok(refused(&guards)),
    }
}

/// Asks the helm, for the page too.
pub(super) async fn ordered(
    parts: &Parts,
    caller: &Caller,
    wanted: Wanted,
) -> Result<Ordered, Refusal> {
    let order = meant(parts, caller, wanted)?;
    match tokio::time::timeout(TIMEOUT, parts.helm.order(order)).await {
        Ok(Ok(id)) => Ok(Ordered::Begun(id)),
        Ok(Err(Refused::Guards(guards))) => Ok(Ordered::Refused(guards)),
        Ok(Err(other)) => Err(refusal(other)),
        Err(_) => Err(late()),
    }
}

fn meant(parts: &Parts, caller: &Caller, wanted: Wanted) -> Result<Order, Refusal> {
    let who = caller.says(wanted.who)?;
    let mut force = Vec::new();
    for name in &wanted.force {
        let guard = guards::named(name).ok_or_else(|| {
            Refusal::bad(format!(
                "force: there is no guard {name:?}; the guards are {}",
                GUARDS.join(", ")
            ))
        })?;
        if !force.contains(&guard) {
            force.push(guard);
        }
    }
    let roles = parts.roles.borrow();
    let (primary, shadow) = (&roles.primary.name, &roles.shadow.name);
    if wanted.to == *primary {
        return Err(Refusal::conflict(format!(
            "{primary} is the primary already"
        )));
    }
    if wanted.to != *shadow {
        return Err(Refusal::bad(format!(
            "to: there is no server {:?}; {primary} is the primary, and {shadow} can be",
            wanted.to
        )));
    }
    Ok(Order {
        to: wanted.to,
        dry_run: wanted.dry_run,
        force,
        who,
    })
}

/// Ends the cutover that is under way, before its switch; the answer comes once it has ended.
pub(super) async fn abort(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    ToldOrNothing(body): ToldOrNothing<Said>,
) -> Result<Json<Value>, Refusal> {
    let id = aborted(&parts, &caller, body.who).await?;
    Ok(Json(told_afterwards(parts, Some(id)).await))
}

/// Asks the helm for it, for the page too; the number of the record that has ended.
pub(super) async fn aborted(
    parts: &Parts,
    caller: &Caller,
    who: Option<String>,
) -> Result<i64, Refusal> {
    let who = caller.says(who)?;
    match tokio::time::timeout(TIMEOUT, parts.helm.abort(who)).await {
        Ok(Ok(id)) => Ok(id),
        Ok(Err(refused)) => Err(refusal(refused)),
        Err(_) => Err(late()),
    }
}

/// Takes an operator's word that replication from the old primary to the new one has ended.
pub(super) async fn replication_stopped(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    ToldOrNothing(body): ToldOrNothing<Said>,
) -> Result<Json<Value>, Refusal> {
    stopped(&parts, &caller, body.who).await?;
    Ok(Json(told_afterwards(parts, None).await))
}

/// Gives the word to the helm, for the page too.
pub(super) async fn stopped(
    parts: &Parts,
    caller: &Caller,
    who: Option<String>,
) -> Result<(), Refusal> {
    let who = caller.says(who)?;
    match tokio::time::timeout(TIMEOUT, parts.helm.replication_stopped(who)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refused)) => Err(refusal(refused)),
        Err(_) => Err(late()),
    }
}

fn late() -> Refusal {
    Refusal::unavailable(
        "there was no answer in time: whether it was done is not known, GET /api/v1/cutover tells",
    )
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::NotNow(why) => Refusal::conflict(why),
        Refused::Unable(why) => Refusal::unavailable(why),
        Refused::Guards(_) => Refusal::conflict("the guards refuse"),
    }
}

/// 409, with every guard.
fn refused(guards: &[Judged]) -> Response {
    let refuse = |one: &&Judged| !one.guard.pass && !one.forced;
    let names = guards.iter().filter(refuse).map(|one| one.guard.name);
    let names: Vec<&str> = names.collect();
    let message = format!(
        "the guards refuse: {}; each says why, and `force` overrides those that it names",
        names.join(", ")
    );
    let body = json!({"error": {"code": "refused", "message": message}, "guards": guards});
    (StatusCode::CONFLICT, Json(body)).into_response()
}

/// How it stands; with this record, or the one that the state is of. Reads the ledger's file.
pub(super) async fn told(parts: Parts, id: Option<i64>) -> Result<Value, Refusal> {
    read(move || stands(&parts, id)).await
}

/// The same once what was asked for was done: where it cannot be read, as far as it is known without.
async fn told_afterwards(parts: Parts, id: Option<i64>) -> Value {
    let known = parts.clone();
    let unread = match read_afterwards(move || stands(&parts, id)).await {
        Ok(told) => return told,
        Err(why) => why,
    };
    let primary = known.roles.borrow().primary.name.clone();
    json!({
        "state": known.helm.state().name(),
        "primary": primary,
        "way_back": null,
        "progress": null,
        "record": id.map(|id| json!({"id": id})),
        "history": [],
        "unread": format!(
            "what was asked for was done, and its record cannot be read now: {unread}; GET /api/v1/cutover tells it later"
        ),
    })
}

fn stands(parts: &Parts, id: Option<i64>) -> Result<Value, String> {
    let helm = &parts.helm;
    // The state first: the records are then no older than it.
    let state = helm.state();
    let id = id.or_else(|| helm.record());
    let primary = parts.roles.borrow().primary.name.clone();
    let records = helm.records(HISTORY)?;
    let known = records.iter().find(|record| Some(record.id) == id);
    let record = match (known, id) {
        (Some(record), _) => Some(record.clone()),
        // It has long been in its soak, and many were refused since.
        (None, Some(id)) => helm.kept(id)?,
        (None, None) => None,
    };
    Ok(json!({
        "state": state.name(),
        "primary": primary,
        "way_back": way_back(&**helm, &primary)?,
        "progress": helm.progress(),
        "record": record,
        "history": records,
    }))
}

/// Where a rollback leads: none where the last switch was a rollback itself, and where this is not the primary
/// that it made. Reads the ledger's file.
pub(super) fn way_back(helm: &dyn Helm, primary: &str) -> Result<Option<String>, String> {
    let last = helm.last_switched()?;
    // Where an operator has said since who is primary, no switch leads back.
    let last = last.filter(|last| last.to == primary);
    let way_back = last.filter(|last| is_way_back(Some(last), &last.from));
    Ok(way_back.map(|last| last.from))
}

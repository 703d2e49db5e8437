//! `GET` and `POST /api/v1/verify`, `POST /api/v1/verify/pause`, `…/resume`, `…/abort`: how the verification of
//! data at rest stands, and what an operator asks of it.

use super::Parts;
use super::answer::{Asked, Refusal, ToldOrNothing, change, read, read_afterwards, scrape};
use super::status::Nothing;
use super::who::{Caller, Said};
use crate::config::Role;
use crate::verify::{Inspector, Refused, Wish};
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Runs in the answer at most, the newest.
const HISTORY: usize = 20;

/// The run under way or the last one, and the newest runs.
pub(super) async fn standing(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Value>, Refusal> {
    told(parts.inspector, &caller).await.map(Json)
}

/// What is asked for, and who asks.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    who: Option<String>,
    #[serde(flatten)]
    wish: serde_json::Map<String, Value>,
}

/// Begins a run: 202, and how it stands.
pub(super) async fn start(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    ToldOrNothing(wanted): ToldOrNothing<WantedOrAll>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let wanted = wanted.0;
    let who = caller.says(wanted.who)?;
    let wish: Wish = serde_json::from_value(Value::Object(wanted.wish))
        .map_err(|error| Refusal::bad(format!("the body is wrong: {error}")))?;
    steered(&parts, Steer::Start(wish, who)).await?;
    let told = told_afterwards(parts.inspector, &caller).await;
    Ok((StatusCode::ACCEPTED, Json(told)))
}

/// What an operator asks of the inspector.
#[derive(Debug)]
pub(super) enum Steer {
    /// To begin with this, for whom.
    Start(Wish, String),
    /// To wait.
    Pause,
    /// To go on.
    Resume,
    /// To end, for whom.
    Abort(String),
}

/// No body at all asks for everything.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct WantedOrAll(Wanted);

impl Default for WantedOrAll {
    fn default() -> Self {
        Self(Wanted {
            who: None,
            wish: serde_json::Map::new(),
        })
    }
}

/// The run waits until it is let go on.
pub(super) async fn pause(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    ToldOrNothing(body): ToldOrNothing<Said>,
) -> Result<Json<Value>, Refusal> {
    caller.says(body.who)?;
    steered(&parts, Steer::Pause).await?;
    Ok(Json(told_afterwards(parts.inspector, &caller).await))
}

/// It goes on.
pub(super) async fn resume(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    ToldOrNothing(body): ToldOrNothing<Said>,
) -> Result<Json<Value>, Refusal> {
    caller.says(body.who)?;
    steered(&parts, Steer::Resume).await?;
    Ok(Json(told_afterwards(parts.inspector, &caller).await))
}

/// It ends; what was found stays.
pub(super) async fn abort(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    ToldOrNothing(body): ToldOrNothing<Said>,
) -> Result<Json<Value>, Refusal> {
    let who = caller.says(body.who)?;
    steered(&parts, Steer::Abort(who)).await?;
    Ok(Json(told_afterwards(parts.inspector, &caller).await))
}

/// Does it where one may wait for the disk, for the page too; the number of the run.
pub(super) async fn steered(parts: &Parts, steer: Steer) -> Result<i64, Refusal> {
    let inspector = Arc::clone(&parts.inspector);
    let order = move || match &steer {
        Steer::Start(wish, who) => inspector.start(wish, who),
        Steer::Pause => inspector.pause(),
        Steer::Resume => inspector.resume(),
        Steer::Abort(who) => inspector.abort(who),
    };
    change(move || Ok::<_, std::convert::Infallible>(order()))
        .await?
        .map_err(refusal)
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Wrong(why) => Refusal::bad(why),
        Refused::NotNow(why) => Refusal::conflict(why),
        Refused::Unable(why) => Refusal::unavailable(why),
    }
}

/// How it stands, with the newest runs; the statements of a plan only for who could run them.
pub(super) async fn told(inspector: Arc<dyn Inspector>, caller: &Caller) -> Result<Value, Refusal> {
    let whole = caller.role() == Role::Operator;
    read(move || stands(&*inspector, whole)).await
}

/// The same once what was asked for was done: where it cannot be read, as far as it is known without.
async fn told_afterwards(inspector: Arc<dyn Inspector>, caller: &Caller) -> Value {
    let whole = caller.role() == Role::Operator;
    let known = Arc::clone(&inspector);
    let unread = match read_afterwards(move || stands(&*inspector, whole)).await {
        Ok(told) => return told,
        Err(why) => why,
    };
    let standing = scrape(move || known.standing(whole)).await;
    let mut told = standing.unwrap_or_else(|_| json!({"state": null, "run": null}));
    if let Some(told) = told.as_object_mut() {
        told.insert("history".to_owned(), json!([]));
        let unread = format!(
            "what was asked for was done, and the runs before cannot be read now: {unread}; GET /api/v1/verify tells them later"
        );
        told.insert("unread".to_owned(), json!(unread));
    }
    told
}

fn stands(inspector: &dyn Inspector, whole: bool) -> Result<Value, String> {
    let mut told = inspector.standing(whole);
    let history = json!(inspector.history(HISTORY)?);
    if let Some(told) = told.as_object_mut() {
        told.insert("history".to_owned(), history);
    }
    Ok(told)
}

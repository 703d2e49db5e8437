//! `POST /api/v1/config/reload`: the config is read again, and what differs is taken: all of it, or nothing.

use super::answer::{Refusal, ToldOrNothing, change};
use super::who::Caller;
use super::{Parts, Reloaded};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    dry_run: bool,
    /// Who asks, for the record.
    who: Option<String>,
}

/// Has it read again: 200 with what was taken, or would be; 409 with every key that needs a restart, or with what is
/// wrong with the file. A dry run that finds such keys is answered with 200, for that was the question.
pub(super) async fn reload(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    ToldOrNothing(wanted): ToldOrNothing<Wanted>,
) -> Result<Response, Refusal> {
    let who = caller.says(wanted.who)?;
    let (dry_run, house) = (wanted.dry_run, parts.house);
    let reading = change(move || Ok::<_, Infallible>(house.reload(dry_run, &who)));
    let all = reading.await?.map_err(|not| {
        Refusal::conflict(format!(
            "the config was not taken, and nothing was changed: {not}"
        ))
    })?;
    Ok(told(dry_run, &all))
}

fn told(dry_run: bool, Reloaded { found, switches }: &Reloaded) -> Response {
    let is_refused = !found.needs_restart.is_empty();
    if is_refused && !dry_run {
        let message = format!("nothing was changed: {}", found.refusal());
        let body = json!({
            "error": {"code": "refused", "message": message},
            "changed": [],
            "needs_restart": found.needs_restart,
        });
        return (StatusCode::CONFLICT, Json(body)).into_response();
    }
    let body = json!({
        "taken": !dry_run,
        "changed": found.changed,
        "needs_restart": found.needs_restart,
        "switches": switches,
    });
    (StatusCode::OK, Json(body)).into_response()
}

//! `GET …/repro` of a divergence or a finding: how to repeat it.

use super::Parts;
use super::answer::{Asked, Id, Refusal, read};
use super::repro::{Place, script};
use super::status::Nothing;
use crate::config::Server;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// A script that repeats a divergence.
pub(super) async fn of_divergence(
    State(parts): State<Parts>,
    Id(id): Id,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Response, Refusal> {
    let ledger = parts.ledger.clone();
    let found = read(move || ledger.divergence(id)).await?;
    let item = found.ok_or_else(|| {
        Refusal::not_found(format!(
            "there is no divergence {id}, or not any more: the oldest are let go"
        ))
    })?;
    script_of(&parts, &item).map(as_text)
}

/// A script that repeats the newest divergence of a finding.
pub(super) async fn of_finding(
    State(parts): State<Parts>,
    Id(id): Id,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Response, Refusal> {
    let ledger = parts.ledger.clone();
    let found = read(move || ledger.newest_divergence(id)).await?;
    let item = found.ok_or_else(|| {
        Refusal::not_found(format!(
            "there is no finding {id}, or none of its divergences is kept any more"
        ))
    })?;
    script_of(&parts, &item).map(as_text)
}

fn as_text(script: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (kind, script).into_response()
}

/// The script that repeats this divergence.
///
/// # Errors
/// There can be none, and why.
pub(super) fn script_of(parts: &Parts, item: &Value) -> Result<String, Refusal> {
    let text = |path: &str| item.pointer(path).and_then(Value::as_str);
    let user = text("/user").unwrap_or_default();
    let database = text("/database").unwrap_or_default();
    let roles = parts.roles.borrow().clone();
    let primary = place(&roles.primary, user, database);
    let there = text("/session/shadow_database").unwrap_or(database);
    let shadow = Place {
        user: login(&roles.shadow, user),
        ..place(&roles.shadow, user, there)
    };
    script(item, primary, shadow).map_err(Refusal::conflict)
}

fn place<'a>(server: &'a Server, user: &'a str, database: &'a str) -> Place<'a> {
    Place {
        name: &server.name,
        host: &server.host,
        port: server.port,
        user,
        database,
    }
}

/// The user that the replay of this application's user has on the shadow.
fn login<'a>(server: &'a Server, user: &'a str) -> &'a str {
    let own = server.users.get(user).or(server.account.as_ref());
    own.map_or(user, |account| &account.user)
}

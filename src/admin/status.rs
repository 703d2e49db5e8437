//! `GET /api/v1/status` and `GET /api/v1/latency`: what is counted in memory.

use super::answer::{Asked, Refusal};
use super::{House, Parts};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Roles, servers, mirror, cutover, sessions, coverage, ledger.
pub(super) async fn status(
    State(parts): State<Parts>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Json<Value> {
    Json(told(&parts))
}

/// The same, for the page too.
pub(super) fn told(parts: &Parts) -> Value {
    let roles = parts.roles.borrow().clone();
    let servers: Map<String, Value> = [&roles.primary, &roles.shadow]
        .into_iter()
        .map(|server| {
            let seen = parts.house.seen(&server.name);
            let address = if server.host.contains(':') {
                format!("[{}]:{}", server.host, server.port)
            } else {
                format!("{}:{}", server.host, server.port)
            };
            (
                server.name.clone(),
                json!({"address": address, "version": seen.version, "error": seen.error,
                    "watched": !seen.unwatched}),
            )
        })
        .collect();
    let sessions = parts.house.sessions();
    let coverage = parts.ledger.coverage();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": parts.started.elapsed().as_secs(),
        "primary": roles.primary.name,
        "shadow": roles.shadow.name,
        "servers": servers,
        "mirror": mirror_json(parts),
        "handover": parts.house.heir().map(|process| json!({"to": process})),
        "cutover": {"state": parts.helm.state().name(), "progress": parts.helm.progress()},
        "sessions": {"open": sessions.open, "mirrored": sessions.mirrored, "tunnelled": sessions.tunnelled},
        "coverage": coverage,
        "ledger": parts.ledger.health(),
    })
}

/// A query with nothing in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// The mirror, as status and PATCH show it.
pub(super) fn mirror_json(parts: &Parts) -> Value {
    let house: &dyn House = &*parts.house;
    let (mirror, tee) = (house.mirror(), house.tee());
    json!({
        "state": mirror.state,
        "mirrors": mirror.mirrors(),
        "reason": mirror.reason,
        "reads": mirror.control.reads,
        "writes": mirror.control.writes.name(),
        "sample": mirror.control.sample,
        "observe": mirror.control.observe,
        "waiting": mirror.waiting,
        "unread": mirror.unread,
        "queue_bytes": tee.queue_bytes,
        "queue_bytes_max": tee.queue_bytes_max,
    })
}

/// Which latencies.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    fingerprint: Option<String>,
}

/// Both servers' quantiles, by class and by fingerprint.
pub(super) async fn latency(
    State(parts): State<Parts>,
    Asked(which): Asked<Which>,
) -> Result<Json<Value>, Refusal> {
    super::answer::scrape(move || {
        let items = parts.ledger.latency(which.fingerprint.as_deref());
        json!({"items": items, "classes": parts.ledger.latency_by_class()})
    })
    .await
    .map(Json)
}

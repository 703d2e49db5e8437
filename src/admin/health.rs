//! `/healthz`, `/readyz`, `/metrics`: for load balancers, supervisors and Prometheus.

use super::Parts;
use super::answer::scrape;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The process lives.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"ok": true}))
}

/// Clients may be sent here: the listener is bound, the primary has answered, the ledger is open.
/// The shadow does not matter.
pub(super) async fn readyz(State(parts): State<Parts>) -> Response {
    let ready = parts.house.ready();
    let body = json!({
        "ready": ready.is_ready(),
        "listener": ready.listener,
        "primary": ready.primary,
        "ledger": ready.ledger,
        "draining": ready.draining,
    });
    let status = if ready.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body)).into_response()
}

/// Everything that is counted, for Prometheus.
pub(super) async fn metrics(State(parts): State<Parts>) -> Response {
    match scrape(move || parts.metrics.render(&parts)).await {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

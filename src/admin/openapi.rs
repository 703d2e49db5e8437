//! `GET /api/v1/openapi.json`: the API's description ([OpenAPI 3.1](https://spec.openapis.org/oas/v3.1.0)), as
//! `openapi.json` beside this file has it. A test asks the running API whether each path, method, parameter and
//! key is there, and no other; another one writes `docs/api.md` from it.

use super::answer::Asked;
use super::status::Nothing;
use axum::http::header;
use axum::response::IntoResponse;

/// The document.
pub(super) const TEXT: &str = include_str!("openapi.json");

/// Answers with it.
pub(super) async fn openapi(Asked(Nothing {}): Asked<Nothing>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT)
}

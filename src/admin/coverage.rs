//! `GET /api/v1/coverage`: what became of each statement's commands, each table's, each hour's; and of
//! which nothing was ever compared.

use super::Parts;
use super::answer::{Asked, Refusal, read};
use crate::ledger::{CoverageBy, CoverageFilter, Page};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;

/// Items of a page where the query does not say.
const LIMIT: u32 = 100;

/// Which rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Coverage {
    by: Option<String>,
    compared: Option<String>,
    limit: Option<u32>,
    before: Option<i64>,
}

/// A page of coverage, the busiest first; hours newest first.
pub(super) async fn coverage(
    State(parts): State<Parts>,
    Asked(asked): Asked<Coverage>,
) -> Result<Json<Page>, Refusal> {
    let by = match asked.by.as_deref() {
        None | Some("fingerprint") => CoverageBy::Fingerprint,
        Some("table") => CoverageBy::Table,
        Some("hour") => CoverageBy::Hour,
        Some(other) => {
            return Err(Refusal::bad(format!(
                "by: found {other:?}; it is one of fingerprint, table, hour"
            )));
        }
    };
    let compared = match asked.compared.as_deref() {
        None => None,
        Some("ever") => Some(true),
        Some("never") => Some(false),
        Some(other) => {
            return Err(Refusal::bad(format!(
                "compared: found {other:?}; it is one of ever, never"
            )));
        }
    };
    let limit = match asked.limit {
        Some(0) => return Err(Refusal::bad("limit: found 0; it is at least 1")),
        given => given.unwrap_or(LIMIT),
    };
    let filter = CoverageFilter {
        by,
        compared,
        limit,
        before: asked.before,
    };
    read(move || parts.ledger.covered(&filter)).await.map(Json)
}

//! `PATCH /api/v1/mirror`: the mirror's switches, at run time. A restart brings the config's back.

use super::answer::{Refusal, Told};
use super::status::mirror_json;
use super::who::Caller;
use super::{Parts, may_write};
use crate::config::Writes;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

/// What may be changed; what is left out stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    reads: Option<bool>,
    writes: Option<String>,
    sample: Option<f64>,
    paused: Option<bool>,
    observe: Option<bool>,
}

/// Changes the switches, and answers with the mirror as it is then.
pub(super) async fn switch(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    Told(change): Told<Change>,
) -> Result<Json<Value>, Refusal> {
    let mut control = parts.house.mirror().control;
    if let Some(word) = &change.writes {
        let writes = Writes::named(word).ok_or_else(|| {
            Refusal::bad(format!(
                "writes: found {word:?}; it is one of apply, rollback, plan, off"
            ))
        })?;
        if !may_write(&parts, writes) {
            return Err(Refusal::conflict(
                "writes = \"apply\" would write every row twice, for the shadow is fed by replication",
            ));
        }
        control.writes = writes;
    }
    if let Some(sample) = change.sample {
        if !(0.0..=1.0).contains(&sample) {
            return Err(Refusal::bad(format!(
                "sample: found {sample}; it is a share from 0.0 to 1.0"
            )));
        }
        control.sample = sample;
    }
    control.reads = change.reads.unwrap_or(control.reads);
    control.paused = change.paused.unwrap_or(control.paused);
    control.observe = change.observe.unwrap_or(control.observe);
    parts.house.set_control(control);
    tracing::info!(
        who = &**caller.name(),
        reads = control.reads,
        writes = control.writes.name(),
        sample = control.sample,
        paused = control.paused,
        observe = control.observe,
        "the mirror's switches were set by the admin"
    );
    Ok(Json(mirror_json(&parts)))
}

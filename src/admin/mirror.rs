//! `PATCH /api/v1/mirror`: the mirror's switches, at run time. A restart brings the config's back.

use super::Parts;
use super::answer::{Refusal, Told, change as changed};
use super::status::mirror_json;
use super::who::Caller;
use crate::config::{self, FedBy, Writes};
use crate::ledger::Ledger;
pub(super) use crate::shadow::Control;
use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// So long is waited for the ledger to write down who did it.
const NOTE_MAX: Duration = Duration::from_secs(2);

/// What may be changed; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    pub(super) reads: Option<bool>,
    pub(super) writes: Option<String>,
    pub(super) sample: Option<f64>,
    pub(super) paused: Option<bool>,
    pub(super) observe: Option<bool>,
    /// Who says so, for the record.
    pub(super) who: Option<String>,
}

/// Changes the switches, and answers with the mirror as it is then.
pub(super) async fn switch(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    Told(change): Told<Change>,
) -> Result<Json<Value>, Refusal> {
    switched(&parts, &caller, &change, |_, _| Ok(())).await?;
    Ok(Json(mirror_json(&parts)))
}

/// How the switches would be that are so `now`.
fn meant(now: &Control, change: &Change, config: &config::Config) -> Result<Control, Refusal> {
    let mut control = *now;
    if let Some(word) = &change.writes {
        let writes = Writes::named(word).ok_or_else(|| {
            Refusal::bad(format!(
                "writes: found {word:?}; it is one of apply, rollback, plan, off"
            ))
        })?;
        let is_new = writes != now.writes;
        if is_new && writes == Writes::Apply && config.shadow.fed_by == FedBy::Replication {
            return Err(Refusal::conflict(no_apply(now.flows_back, config)));
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
    Ok(control)
}

/// Why dark writes are not written by a word of an operator's, where the config has replication feed the shadow.
fn no_apply(flows_back: bool, config: &config::Config) -> String {
    let (primary, shadow) = (&config.primary.name, &config.shadow.name);
    if flows_back {
        format!(
            "writes = \"apply\" would write rows to {primary} that replication may still carry to {shadow}, and they would come back: say that it has ended, and they flow (understudy cutover --replication-stopped, POST /api/v1/cutover/replication_stopped)"
        )
    } else {
        format!(
            "writes = \"apply\" would write every row twice, for {shadow} is fed by replication"
        )
    }
}

/// Sets them, and writes down who did, for the page too. `may` has them as they are and as they would be. Where it
/// cannot be written down they are set all the same: a full disk may be why somebody pauses.
///
/// # Errors
/// What cannot be, and why: nothing is changed.
pub(super) async fn switched(
    parts: &Parts,
    caller: &Caller,
    change: &Change,
    may: impl Fn(&Control, &Control) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let who = caller.says(change.who.clone())?;
    let mut done = Err(Refusal::unavailable("the switches cannot be changed"));
    parts.house.change_control(&mut |control| {
        let before = *control;
        done = meant(&before, change, &parts.config).and_then(|then| {
            may(&before, &then)?;
            // The other process is told of the switches as they are behind this look.
            not_in_vain(parts)?;
            *control = then;
            Ok((before, then))
        });
    });
    let (before, control) = done?;
    tracing::info!(
        who,
        reads = control.reads,
        writes = control.writes.name(),
        sample = control.sample,
        paused = control.paused,
        observe = control.observe,
        "the mirror's switches were set by the admin"
    );
    let what = differences(&before, &control);
    if what.is_empty() {
        return Ok(());
    }
    let (ledger, what) = (parts.ledger.clone(), format!("mirror: {}", what.join(", ")));
    noted(ledger, who, what).await;
    Ok(())
}

/// A process that another one has taken over from ends with its switches.
fn not_in_vain(parts: &Parts) -> Result<(), Refusal> {
    match parts.house.heir() {
        None => Ok(()),
        Some(process) => Err(Refusal::conflict(format!(
            "process {process} has taken over, with switches of its own, and mirrors once this one has ended: switch it there, where it will answer at this address then (docs/upgrade.md)"
        ))),
    }
}

/// Has the ledger write down who did what; waits a moment for it.
pub(super) async fn noted(ledger: Ledger, who: String, what: String) {
    let noted = changed(move || ledger.note(&who, &what));
    let fault = match tokio::time::timeout(NOTE_MAX, noted).await {
        Ok(Ok(())) => return,
        Ok(Err(refusal)) => refusal.message().to_owned(),
        Err(_) => "the ledger is slow".to_owned(),
    };
    tracing::warn!(fault, "who did this may not be written down");
}

/// What is other than before, in words.
fn differences(before: &Control, after: &Control) -> Vec<String> {
    let on = |is: bool| if is { "on" } else { "off" };
    let share = |sample: f64| format!("{sample}");
    let all = [
        (
            "reads",
            on(before.reads).to_owned(),
            on(after.reads).to_owned(),
        ),
        (
            "writes",
            before.writes.name().to_owned(),
            after.writes.name().to_owned(),
        ),
        ("sample", share(before.sample), share(after.sample)),
        (
            "paused",
            on(before.paused).to_owned(),
            on(after.paused).to_owned(),
        ),
        (
            "observe",
            on(before.observe).to_owned(),
            on(after.observe).to_owned(),
        ),
    ];
    let other = all.iter().filter(|(_, before, after)| before != after);
    other
        .map(|(name, before, after)| format!("{name} {before} → {after}"))
        .collect()
}

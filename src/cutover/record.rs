//! Writes a cutover's record: each step before it acts and after, off the runtime's threads. Keeps
//! which record is whose, and a fault of the disk until somebody asks.

use super::machine::State;
use crate::ledger::{Begun, OpenStep, Record, RecordError, Records, StepEnd, SwitchError};
use crate::task;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What an operator was told is not told again before.
const ALERT_AGAIN: Duration = Duration::from_secs(600);

/// Between two tries to record a switch that is done already.
const SWITCH_AGAIN: Duration = Duration::from_secs(2);

/// So often it is tried.
const SWITCH_TRIES: u32 = 1_800;

/// See the module.
pub(super) struct Recorder {
    records: Arc<Records>,
    /// The cutover that was begun last.
    current: i64,
    /// The one whose new primary is watched.
    soaks: Option<i64>,
    /// The one that is told, and the one before it, should it be refused.
    shown: i64,
    shown_before: i64,
    steps: BTreeMap<i64, OpenStep>,
    figures: Map<String, Value>,
    why: String,
    /// What was said last of the cutover that was begun last.
    last: String,
    fault: Option<String>,
    alerted: Option<Instant>,
}

impl Recorder {
    pub(super) fn new(records: Arc<Records>) -> Self {
        Self {
            records,
            current: 0,
            soaks: None,
            shown: 0,
            shown_before: 0,
            steps: BTreeMap::new(),
            figures: Map::new(),
            why: String::new(),
            last: String::new(),
            fault: None,
            alerted: None,
        }
    }

    pub(super) const fn current(&self) -> i64 {
        self.current
    }

    pub(super) const fn shown(&self) -> i64 {
        self.shown
    }

    /// What was said last of the cutover that was begun last, whether it is written already or not.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    pub(super) fn because(&mut self, why: &str) {
        why.clone_into(&mut self.why);
        why.clone_into(&mut self.last);
    }

    pub(super) fn figure(&mut self, name: &str, value: Value) {
        self.figures.insert(name.to_owned(), value);
    }

    /// What was measured does not hold any more.
    pub(super) fn no_figure(&mut self, name: &str) {
        self.figures.remove(name);
    }

    /// Why the last write failed, if it did; once.
    pub(super) fn fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// The cutover that switched last.
    pub(super) async fn last_switched(&self) -> Result<Option<Record>, String> {
        let records = Arc::clone(&self.records);
        aside(move || records.last_switched()).await
    }

    /// What was measured of a cutover; null where nobody can tell.
    pub(super) async fn figures_of(&self, id: i64) -> Value {
        let records = Arc::clone(&self.records);
        let record = aside(move || records.cutover(id)).await;
        record
            .ok()
            .flatten()
            .map_or(Value::Null, |record| record.figures)
    }

    /// Whether this proxy was in that switch of its fleet.
    pub(super) async fn was_in(&self, cutover: &str) -> Result<bool, String> {
        let (records, cutover) = (Arc::clone(&self.records), cutover.to_owned());
        aside(move || records.was_in_switch_of_fleet(&cutover)).await
    }

    pub(super) async fn begin(&mut self, begun: Begun) -> Result<(), String> {
        let records = Arc::clone(&self.records);
        let id = aside(move || records.begin(&begun)).await?;
        self.current = id;
        self.shown_before = self.shown;
        self.shown = id;
        self.figures.clear();
        self.why.clear();
        self.last.clear();
        self.fault = None;
        self.alerted = None;
        Ok(())
    }

    /// What an earlier process left is told, too.
    pub(super) const fn remember(&mut self, id: i64) {
        self.current = id;
        self.shown = id;
    }

    /// An earlier process left it in its soak.
    pub(super) const fn soaks(&mut self, id: i64) {
        self.soaks = Some(id);
    }

    /// The step of a soak that goes on.
    pub(super) async fn enter_soak(&mut self) {
        let Some(id) = self.soaks else { return };
        self.open(id, "soaking").await;
    }

    /// The machine goes from one state to another: the one's step ends, the other's begins.
    pub(super) async fn enter(&mut self, from: State, to: State) {
        let left = match from {
            State::Soaking(_) if self.begins(to) => None,
            State::Soaking(_) => self.soaks,
            _ => Some(self.current),
        };
        if matches!(to, State::Soaking(_)) && matches!(from, State::Switching(_)) {
            self.soaks = Some(self.current);
        }
        let entered = match to {
            State::Idle | State::Done | State::Aborted => None,
            State::Soaking(_) => self.soaks,
            _ => Some(self.current),
        };
        let why = std::mem::take(&mut self.why);
        let rests = to.rest().is_some();
        let outcome = match from {
            // A dry run has a reason only where it failed, wherever it came from.
            State::Preparing(_) if rests && why.is_empty() => "done",
            State::Preparing(_) if rests => "aborted",
            _ if to == State::Aborted => "aborted",
            State::Checking(_) if rests => "refused",
            _ => "done",
        };
        let ends = rests && matches!(from, State::Checking(_) | State::Preparing(_));
        let ended = left.and_then(|id| self.steps.remove(&id));
        let entered = entered.filter(|id| !self.steps.contains_key(id));
        let (records, name) = (Arc::clone(&self.records), to.name());
        let end_why = why.clone();
        let written = aside(move || {
            let end = StepEnd {
                outcome,
                why: &end_why,
            };
            match (ended, entered) {
                (Some(ended), Some(id)) => {
                    let step = records.step_follows(&ended, end, id, name)?;
                    Ok(Some((id, step)))
                }
                (Some(ended), None) => records.step_ends(&ended, end).map(|()| None),
                (None, Some(id)) => records.step_begins(id, name).map(|step| Some((id, step))),
                (None, None) => Ok(None),
            }
        })
        .await;
        // The record's end says it, too.
        self.why = why;
        if let Some((id, step)) = self.heard(written).flatten() {
            self.steps.insert(id, step);
        }
        let why = if self.why.is_empty() { "" } else { ": " };
        let stands = match to {
            _ if rests && outcome != "done" => outcome,
            _ if ends => "a dry run, and nothing was changed",
            _ => to.name(),
        };
        tracing::info!("cutover {}: {stands}{why}{}", self.current, self.why);
        if !ends && to != State::Aborted {
            self.why.clear();
        }
    }

    /// Whether a state is the beginning of another cutover.
    const fn begins(&self, to: State) -> bool {
        matches!(to, State::Checking(_))
    }

    async fn open(&mut self, id: i64, name: &'static str) {
        let records = Arc::clone(&self.records);
        let written = aside(move || records.step_begins(id, name)).await;
        if let Some(step) = self.heard(written) {
            self.steps.insert(id, step);
        }
    }

    fn heard<T>(&mut self, written: Result<T, String>) -> Option<T> {
        match written {
            Ok(written) => Some(written),
            Err(why) => {
                tracing::error!("{why}");
                self.fault = Some(why);
                None
            }
        }
    }

    pub(super) async fn note(
        &mut self,
        step: &'static str,
        took: Duration,
        outcome: &'static str,
        why: &str,
    ) {
        let id = self.soaks.unwrap_or(self.current);
        let (records, why) = (Arc::clone(&self.records), why.to_owned());
        let end = move || {
            let why = &why;
            records.note(id, step, took, StepEnd { outcome, why })
        };
        let written = aside(end).await;
        self.heard(written);
    }

    /// An operator must look. Said again only after a while.
    pub(super) async fn alert(&mut self) {
        let why = std::mem::take(&mut self.why);
        let now = Instant::now();
        if self.alerted.is_some_and(|last| now < last + ALERT_AGAIN) {
            return tracing::debug!("cutover {}: {why}", self.current);
        }
        self.alerted = Some(now);
        tracing::error!("cutover {}: {why}", self.current);
        self.note("alert", Duration::ZERO, "alert", &why).await;
    }

    pub(super) async fn held(&mut self, hold: Duration) {
        let (records, id) = (Arc::clone(&self.records), self.current);
        let written = aside(move || records.held(id, hold)).await;
        self.heard(written);
    }

    pub(super) async fn keep_figures(&mut self) {
        let (records, id) = (Arc::clone(&self.records), self.current);
        let figures = Value::Object(self.figures.clone());
        let written = aside(move || records.keep_figures(id, &figures)).await;
        self.heard(written);
    }

    /// Sets a figure of the last switch to true.
    pub(super) async fn confirm(&mut self, figure: &'static str) {
        if self.soaks.is_none_or(|id| id == self.current) {
            self.figure(figure, Value::Bool(true));
        }
        let records = Arc::clone(&self.records);
        let written = aside(move || {
            let Some(last) = records.last_switched()? else {
                return Ok(());
            };
            let mut figures = last.figures;
            if let Some(figures) = figures.as_object_mut() {
                figures.insert(figure.to_owned(), Value::Bool(true));
            }
            records.keep_figures(last.id, &figures)
        });
        let written = written.await;
        self.heard(written);
    }

    pub(super) async fn switch(&self) -> Result<(), SwitchError> {
        let (records, id) = (Arc::clone(&self.records), self.current);
        let switched = tokio::task::spawn_blocking(move || records.switch(id)).await;
        // Where it broke, nobody knows how far it had come.
        switched.unwrap_or_else(|broken| Err(SwitchError::Unknown(broken.to_string())))
    }

    /// Records the switch whenever the disk lets it, within an hour.
    pub(super) fn switch_later(&self) {
        let (records, id) = (Arc::clone(&self.records), self.current);
        // It ends once it is recorded.
        drop(task::spawn("record", async move {
            for _ in 0..SWITCH_TRIES {
                tokio::time::sleep(SWITCH_AGAIN).await;
                let records = Arc::clone(&records);
                let switched = tokio::task::spawn_blocking(move || records.switch(id)).await;
                if let Ok(Ok(())) = switched {
                    return tracing::info!("cutover {id}: the fleet's switch is recorded");
                }
            }
        }));
    }

    pub(super) async fn settle(&self) -> Result<bool, String> {
        let (records, id) = (Arc::clone(&self.records), self.current);
        aside(move || records.settle(id)).await
    }

    /// The guards refuse: what was told before is told again.
    pub(super) async fn refuse(&mut self) {
        self.end("refused").await;
        self.shown = self.shown_before;
    }

    /// The soak is over (`passed`), or another cutover has replaced it.
    pub(super) async fn end_soak(&mut self, passed: bool) {
        let Some(id) = self.soaks.take() else { return };
        let why = if passed {
            std::mem::take(&mut self.why)
        } else {
            "another cutover followed".to_owned()
        };
        if let Some(step) = self.steps.remove(&id) {
            let (records, said) = (Arc::clone(&self.records), why.clone());
            let written = aside(move || {
                let why = &said;
                records.step_ends(
                    &step,
                    StepEnd {
                        outcome: "done",
                        why,
                    },
                )
            });
            let written = written.await;
            self.heard(written);
        }
        let records = Arc::clone(&self.records);
        let written = aside(move || records.end(id, "done", &why)).await;
        self.heard(written);
    }

    pub(super) async fn end(&mut self, outcome: &'static str) {
        let why = std::mem::take(&mut self.why);
        let (records, id) = (Arc::clone(&self.records), self.current);
        let written = aside(move || records.end(id, outcome, &why)).await;
        self.heard(written);
    }
}

/// Off the runtime's threads: it waits for the disk.
async fn aside<T: Send + 'static>(
    write: impl FnOnce() -> Result<T, RecordError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(write).await {
        Ok(written) => written.map_err(|fault| fault.to_string()),
        Err(broken) => Err(broken.to_string()),
    }
}

//! One look a second at everything that events are of, for all who listen.

use crate::admin::answer::read;
use crate::admin::{House, Parts, readiness};
use crate::ledger::{Ledger, Mark, Recent, Taint};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A look that is younger serves another listener too.
const YOUNG: Duration = Duration::from_millis(900);

/// A look that is older was the last of listeners who are gone: what happened since is no news.
const OLD: Duration = Duration::from_secs(30);

/// Guards are asked so often, for that reads much of the ledger.
const GUARDS: Duration = Duration::from_secs(15);

/// A read of the file takes no longer, or this look has no news of it.
const READ_MAX: Duration = Duration::from_secs(5);

/// Of what happened, so much is kept for listeners that are behind.
const HAPPENED_MAX: usize = 256;

/// Tainted tables that are named.
const TABLES_MAX: usize = 50;

/// The last look. Who wants one while one is taken waits for it, twice [`READ_MAX`] at most.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<Option<Arc<Look>>>);

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    at: Instant,
    /// What stands, by the name of its event.
    stands: BTreeMap<&'static str, Value>,
    /// When the guards were asked last.
    guards: Option<Instant>,
    /// How far the ledger's file was read.
    mark: Option<Mark>,
    /// What happened last, oldest first, each with the name of its event.
    happened: VecDeque<(&'static str, Value)>,
    /// The number that the next will have.
    next: u64,
}

impl Looks {
    /// How everything stands, as of a second ago at most.
    pub(super) async fn look(&self, parts: &Parts) -> Arc<Look> {
        let mut last = self.0.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < YOUNG) {
            return Arc::clone(look);
        }
        let before = last.as_ref().filter(|look| look.at.elapsed() < OLD);
        let mut look = before.map_or_else(Look::first_of_all, |look| Look::clone(look));
        look.again(parts).await;
        let look = Arc::new(look);
        *last = Some(Arc::clone(&look));
        look
    }
}

impl Look {
    fn first_of_all() -> Self {
        Self {
            at: Instant::now(),
            stands: BTreeMap::new(),
            guards: None,
            mark: None,
            happened: VecDeque::new(),
            next: 0,
        }
    }

    /// What stands, by the name of its event.
    pub(super) fn stands(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.stands.iter().map(|(name, stands)| (*name, stands))
    }

    /// The number of the first that is kept of what happened.
    pub(super) fn first(&self) -> u64 {
        let kept = u64::try_from(self.happened.len()).unwrap_or(u64::MAX);
        self.next.saturating_sub(kept)
    }

    /// The number that the next will have.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// What happened from this number on, as far as it is kept.
    pub(super) fn since(&self, number: u64) -> impl Iterator<Item = &(&'static str, Value)> {
        let told = number.saturating_sub(self.first());
        self.happened
            .iter()
            .skip(usize::try_from(told).unwrap_or(usize::MAX))
    }

    /// Looks at everything anew. A file that cannot be read has no news, and holds up nothing that is known without it.
    async fn again(&mut self, parts: &Parts) {
        let (ledger, mark) = (parts.ledger.clone(), self.mark);
        if let Some((recent, mark)) = soon(move || news(&ledger, mark)).await {
            self.mark = Some(mark);
            for finding in &recent.opened {
                self.happens("finding", opened(finding));
            }
            for word in recent.said {
                self.happens("said", word);
            }
        }
        self.stands.extend(stands(parts));
        if self.guards.is_none_or(|at| at.elapsed() >= GUARDS) {
            self.guards = Some(Instant::now());
            let parts = parts.clone();
            let guards = soon(move || guards(&parts)).await;
            self.stands
                .extend(guards.map(|guards| ("readiness", guards)));
        }
        self.at = Instant::now();
    }

    fn happens(&mut self, name: &'static str, what: Value) {
        if self.happened.len() >= HAPPENED_MAX {
            self.happened.pop_front();
        }
        self.happened.push_back((name, what));
        self.next += 1;
    }
}

/// What the file says, where it can be read in time.
async fn soon<T: Send + 'static>(
    asked: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Option<T> {
    let answer = tokio::time::timeout(READ_MAX, read(asked)).await;
    answer.ok().and_then(Result::ok)
}

/// What was found and said since the mark; nothing where there is none yet. Reads the ledger's file.
fn news(ledger: &Ledger, mark: Option<Mark>) -> Result<(Recent, Mark), String> {
    match mark {
        Some(mark) => ledger.recent_after(mark),
        None => Ok((Recent::default(), ledger.mark()?)),
    }
}

/// A finding in brief; `GET /api/v1/findings/{id}` has it whole.
fn opened(finding: &Value) -> Value {
    let keys = ["id", "kind", "state", "fingerprint", "protocol", "tables"];
    let of = |key: &str| {
        let value = finding.get(key).cloned().unwrap_or_default();
        (key.to_owned(), value)
    };
    Value::Object(keys.into_iter().map(of).collect())
}

/// The guards of readiness. Reads the ledger's file.
fn guards(parts: &Parts) -> Result<Value, String> {
    let judged = readiness::judged(parts)?;
    let failing = judged.guards.iter().filter(|guard| !guard.pass);
    let failing: Vec<&str> = failing.map(|guard| guard.name).collect();
    Ok(json!({"ready": judged.ready, "failing": failing}))
}

/// What stands in memory.
fn stands(parts: &Parts) -> [(&'static str, Value); 8] {
    let house: &dyn House = &*parts.house;
    let roles = parts.roles.borrow().clone();
    let (primary, shadow) = (&roles.primary.name, &roles.shadow.name);
    let errors: BTreeMap<&str, Option<String>> = [primary, shadow]
        .into_iter()
        .map(|name| (name.as_str(), house.seen(name).error))
        .collect();
    let ready = house.ready();
    let mirror = house.mirror();
    let health = parts.ledger.health();
    let figures = parts.inspector.figures();
    let taints = parts.ledger.taints();
    let tables = taints.iter().take(TABLES_MAX).map(Taint::name);
    let tables: Vec<String> = tables.collect();
    [
        ("roles", json!({"primary": primary, "shadow": shadow})),
        ("servers", json!({"errors": errors})),
        (
            "serving",
            json!({"ready": ready.is_ready(), "listener": ready.listener, "primary": ready.primary,
                "ledger": ready.ledger, "draining": ready.draining}),
        ),
        (
            "mirror",
            json!({"state": mirror.state, "mirrors": mirror.mirrors(), "reason": mirror.reason,
                "reads": mirror.control.reads, "writes": mirror.control.writes.name(),
                "sample": mirror.control.sample, "observe": mirror.control.observe}),
        ),
        (
            "ledger",
            json!({"ok": health.ok, "error": health.last_error}),
        ),
        (
            "cutover",
            json!({"state": parts.helm.state().name(), "record": parts.helm.record()}),
        ),
        (
            "verification",
            json!({"state": figures.state, "different": figures.different}),
        ),
        ("taints", json!({"count": taints.len(), "tables": tables})),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_behind_is_told_how_much_was_let_go() {
        let mut look = Look::first_of_all();
        for number in 0..300 {
            look.happens("said", json!({ "number": number }));
        }
        assert_eq!((look.first(), look.next()), (44, 300));
        assert_eq!(look.since(0).count(), HAPPENED_MAX);
        assert_eq!(look.since(298).count(), 2);
        assert_eq!(look.since(300).count(), 0);
        let (_, first) = look.since(299).next().expect("one");
        assert_eq!(first, &json!({"number": 299}));
    }
}

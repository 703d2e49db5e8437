//! How far the step under way has come: what it waits for and how long it may, and how the new primary does
//! in its soak. Whoever waits says it, who looks on reads it.
//!
//! To look takes the slate's own lock, which is held for as long as a copy takes, and where the shadow is awaited the
//! line's, as each of its workers does: it holds up no session. Nothing is decided by what stands here.

use super::behind::Behind;
use super::hold::{Failed, in_words, longest_first};
use super::machine::{Rest, State};
use super::soak::Soak;
use crate::words::{count, micros, span};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Sessions that are named at most.
pub(super) const NAMED_MAX: usize = 5;

/// Who is missing is said no more often.
const NAME_AGAIN: Duration = Duration::from_millis(50);

/// What the step under way waits for, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// All of it, in words.
    pub words: String,
    /// For how long it has waited, in milliseconds.
    pub passed_ms: u64,
    /// How long it may, in milliseconds; null where nothing says so.
    pub limit_ms: Option<u64>,
    /// The key of the config that says how long; null where none does.
    pub limit_key: Option<&'static str>,
    /// How many sessions it waits for.
    pub missing: u64,
    /// The first of them, the longest transaction first.
    pub sessions: Vec<Missing>,
    /// How far the shadow is behind, where that is what it waits for.
    pub behind: Option<Behind>,
    /// How the new primary answers, in a soak.
    pub soak: Option<Soak>,
}

/// A session that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Its number.
    pub session: u64,
    /// Its connection's id at the primary, for a KILL there; null where that is not known.
    pub connection: Option<u32>,
    /// For how long its transaction has been open, in milliseconds, where the primary told.
    pub open_ms: Option<u64>,
    /// Why it is waited for.
    pub why: String,
}

/// How long something may take, and the key of the config that says so, where one does.
pub(super) type Limit = (Duration, Option<&'static str>);

/// Where it is said. Cheap to clone: it is the same slate.
#[derive(Clone, Debug, Default)]
pub(super) struct Slate(Arc<Mutex<Posts>>);

#[derive(Debug, Default)]
struct Posts {
    /// Of a cutover under way.
    step: Option<Post>,
    /// Of the new primary. The watch goes on while the next cutover is checked.
    soak: Option<Watched>,
    /// Since when each of the primary's threads has had its transaction open, as far as it told.
    opened: BTreeMap<u32, Instant>,
    /// When it was said last who is missing.
    named: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Post {
    /// In words that follow `waits for`.
    what: String,
    since: Instant,
    limit: Option<Limit>,
    missing: u64,
    sessions: Vec<Missing>,
    who: String,
    /// The shadow is what it waits for.
    shadow: bool,
}

#[derive(Clone, Debug)]
struct Watched {
    until: Instant,
    /// The whole soak.
    lasts: Duration,
    figures: Soak,
}

impl Slate {
    /// The step waits for this from now on, in words that follow `waits for`.
    pub(super) fn waits(&self, what: &str, limit: Option<Limit>) {
        self.waits_since(what, Instant::now(), limit);
    }

    /// The same of what has been waited for since then.
    pub(super) fn waits_since(&self, what: &str, since: Instant, limit: Option<Limit>) {
        self.0.lock().step = Some(Post {
            what: what.to_owned(),
            since,
            limit,
            missing: 0,
            sessions: Vec::new(),
            who: String::new(),
            shadow: false,
        });
    }

    /// The same, where the shadow has to catch up: it is told how far it is behind.
    pub(super) fn waits_for_shadow(&self, what: &str, since: Instant, limit: Option<Limit>) {
        self.waits_since(what, since, limit);
        if let Some(post) = &mut self.0.lock().step {
            post.shadow = true;
        }
    }

    /// Whether who is missing may be said once more: to name them costs something, and a hold looks often.
    pub(super) fn is_due(&self) -> bool {
        let (mut posts, now) = (self.0.lock(), Instant::now());
        let due = posts.named.is_none_or(|last| now >= last + NAME_AGAIN);
        if due {
            posts.named = Some(now);
        }
        due
    }

    /// So many are still missing: these, and others.
    pub(super) fn misses(&self, missing: usize, named: &Failed) {
        let first = longest_first(named).into_iter().take(NAMED_MAX);
        let sessions = first.map(|(session, why)| Missing {
            session,
            connection: why.connection(),
            open_ms: why.open().map(millis),
            why: why.words().to_owned(),
        });
        let (sessions, mut who) = (sessions.collect(), in_words(named));
        let others = missing.saturating_sub(named.len()) as u64;
        if others > 0 {
            who = format!("{who} and {} more", count(others));
        }
        if let Some(post) = &mut self.0.lock().step {
            post.missing = missing as u64;
            post.sessions = sessions;
            post.who = who;
        }
    }

    /// For how long the primary's threads have had their transactions open by now.
    pub(super) fn opened(&self, ages: BTreeMap<u32, Duration>) {
        let now = Instant::now();
        let since = |(thread, age)| Some((thread, now.checked_sub(age)?));
        self.0.lock().opened = ages.into_iter().filter_map(since).collect();
    }

    /// For how long each of the primary's threads has had its transaction open, as far as it told.
    pub(super) fn ages(&self) -> BTreeMap<u32, Duration> {
        let now = Instant::now();
        let opened = self.0.lock().opened.clone();
        let age = |(thread, since)| (thread, now.saturating_duration_since(since));
        opened.into_iter().map(age).collect()
    }

    /// Another step begins: nothing is known of it yet.
    pub(super) fn clear(&self) {
        let mut posts = self.0.lock();
        posts.step = None;
        posts.named = None;
        posts.opened.clear();
    }

    /// The new primary is watched until then, for so long in all.
    pub(super) fn soaks(&self, until: Instant, lasts: Duration, figures: Soak) {
        self.0.lock().soak = Some(Watched {
            until,
            lasts,
            figures,
        });
    }

    /// How far it has come in this state; none at rest, and where nothing was said yet. `behind` is asked only
    /// where it waits for the shadow.
    pub(super) fn told(&self, state: State, behind: impl FnOnce() -> Behind) -> Option<Progress> {
        let now = Instant::now();
        match state.rest() {
            Some(Rest::Soaking(_)) => {
                let watched = self.0.lock().soak.clone();
                watched.map(|watched| watched.told(now))
            }
            Some(Rest::Idle | Rest::Done | Rest::Aborted) => None,
            None => {
                let post = self.0.lock().step.clone()?;
                let behind = post.shadow.then(behind);
                Some(post.told(now, behind))
            }
        }
    }
}

impl Post {
    fn told(self, now: Instant, behind: Option<Behind>) -> Progress {
        let passed = now.saturating_duration_since(self.since);
        let mut words = vec![format!("waits for {}", self.what)];
        if self.missing > 0 {
            words.push(format!("{} missing: {}", count(self.missing), self.who));
        }
        if let Some(behind) = &behind {
            words.push(format!("the shadow {}", behind.words()));
        }
        words.push(match self.limit {
            None => format!("for {}", time(passed)),
            Some((limit, key)) => {
                let key = key.map_or_else(String::new, |key| format!(" ({key})"));
                format!("for {} of {}{key}", time(passed), time(limit))
            }
        });
        Progress {
            words: words.join("; "),
            passed_ms: millis(passed),
            limit_ms: self.limit.map(|(limit, _)| millis(limit)),
            limit_key: self.limit.and_then(|(_, key)| key),
            missing: self.missing,
            sessions: self.sessions,
            behind,
            soak: None,
        }
    }
}

impl Watched {
    fn told(self, now: Instant) -> Progress {
        let left = self.until.saturating_duration_since(now).min(self.lasts);
        // A second that has begun is left.
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Progress {
            words: format!(
                "{} of {} left (cutover.soak_s); {}",
                span(seconds),
                span(self.lasts.as_secs()),
                self.figures.words()
            ),
            passed_ms: millis(self.lasts.saturating_sub(left)),
            limit_ms: Some(millis(self.lasts)),
            limit_key: Some("cutover.soak_s"),
            missing: 0,
            sessions: Vec::new(),
            behind: None,
            soak: Some(self.figures),
        }
    }
}

fn time(time: Duration) -> String {
    micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

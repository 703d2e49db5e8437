//! Several proxies of one deployment, which change their primary together, through etcd.
//!
//! The proxy that an operator asks calls the others, and leads. Each runs the same machine on its own
//! sessions, and after each step waits for the word of all others: `checked`, `prepared`, `held`. Who says
//! `whole` has held its sessions and its shadow has everything; from there on it knows its primary from
//! etcd alone. The leader then switches by one transaction, which is done only if the call still stands
//! and everybody's `whole` is there as it was seen. To abort is a transaction as well, which anybody may
//! make, and of the two only one happens. So a proxy goes on with the old primary only after the call was
//! aborted or before it said `whole`, and with the new one only after the switch; one that cannot ask ends
//! its sessions and stays shut until it can.
//!
//! `board` is what stands in etcd, `store` what a fleet needs of it, `etcd` how that is asked. `joining` is how
//! a proxy comes and goes, `watch` how it hears of a call, `calling` how all come as far, `deciding` how it ends. Refuses to tell from silence
//! that a proxy is dead: membership has no lease, and an operator says `understudy fleet forget NAME`.

mod board;
mod calling;
mod deciding;
mod etcd;
mod joining;
mod secure;
mod shown;
mod store;
mod watch;

#[cfg(test)]
pub(super) mod memory;
#[cfg(test)]
pub(super) mod tests;

pub use board::{Call, Lost, Member, Primary};
pub use joining::{JoinError, Joined};
pub use shown::Shown;
pub use store::Down;

pub(crate) use secure::certificates;

pub(super) use board::{Board, Phase, RefusedGuard, Sessions, Word};
pub(super) use deciding::Decision;
pub(super) use watch::watch;

use crate::config;
use board::Keys;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::{Change, Look, Store};
use tokio_util::sync::CancellationToken;

/// Between two looks while sessions are held.
const LOOK: Duration = Duration::from_millis(4);

/// Between two looks where etcd did not answer.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// For one look that sessions wait for.
const GLANCE: Duration = Duration::from_millis(500);

/// Tries of a change that others come before.
const TRIES: u32 = 50;

/// See the module. Cheap to share.
pub struct Fleet {
    name: String,
    instance: String,
    keys: Keys,
    store: Arc<dyn Store>,
    /// Why etcd did not answer at the last time; none where it did.
    down: Mutex<Option<String>>,
    /// Calls of this proxy that nobody leads.
    withdrawn: Mutex<BTreeSet<String>>,
    /// It has joined since its start.
    joined: AtomicBool,
    registered: AtomicBool,
    /// How dark writes go with it, should it leave.
    along: Mutex<Option<String>>,
    /// Set where this proxy must not go on, and why.
    lost: CancellationToken,
    why_lost: Mutex<String>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// etcd does not answer, or nothing that can be read.
    #[error("{0}")]
    Down(String),
    /// It is so that it cannot be done.
    #[error("{0}")]
    No(String),
}

impl From<Down> for FleetError {
    fn from(down: Down) -> Self {
        Self::Down(down.0)
    }
}

impl Fleet {
    /// The fleet of this config; none where it has none. Asks nobody.
    ///
    /// # Errors
    /// A file of its TLS cannot be used.
    pub fn of(config: &config::Config) -> Result<Option<Arc<Self>>, FleetError> {
        let fleet = &config.fleet;
        if fleet.etcd.is_empty() {
            return Ok(None);
        }
        let store = etcd::Etcd::of(fleet)?;
        let keys = Keys::below(&fleet.prefix);
        let fleet = Self::with(&fleet.name, keys, Arc::new(store));
        Ok(Some(Arc::new(fleet)))
    }

    fn with(name: &str, keys: Keys, store: Arc<dyn Store>) -> Self {
        Self {
            name: name.to_owned(),
            instance: unique(name),
            keys,
            store,
            down: Mutex::default(),
            withdrawn: Mutex::default(),
            joined: AtomicBool::new(false),
            registered: AtomicBool::new(false),
            along: Mutex::default(),
            lost: CancellationToken::new(),
            why_lost: Mutex::default(),
        }
    }

    /// This proxy's name in it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Resolves once this proxy must not go on, and why.
    ///
    /// Cancel-safe.
    pub async fn lost(&self) -> String {
        self.lost.cancelled().await;
        self.why_lost.lock().clone()
    }

    /// This proxy must not go on.
    pub(super) fn lose(&self, why: String) {
        tracing::error!("{why}");
        *self.why_lost.lock() = why;
        self.lost.cancel();
    }

    /// What stands in etcd now.
    pub(super) async fn board(&self) -> Result<Board, FleetError> {
        let looked = self.store.look(self.keys.prefix()).await;
        let read = looked.and_then(|look: Look| self.keys.read(&look).map_err(Down));
        self.hear(read.as_ref().err());
        Ok(read?)
    }

    async fn change(&self, change: Change) -> Result<bool, Down> {
        let changed = self.store.change(change).await;
        self.hear(changed.as_ref().err());
        changed
    }

    /// Says once that etcd is gone, and once that it is back.
    fn hear(&self, down: Option<&Down>) {
        let mut place = self.down.lock();
        match (&*place, down) {
            (None, Some(down)) => tracing::warn!(
                "{down}; production goes on, and there can be no cutover until it answers"
            ),
            (Some(_), None) => tracing::info!("etcd answers again"),
            _ => {}
        }
        *place = down.map(ToString::to_string);
    }

    /// Whether etcd answered the last question.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.down.lock().is_none()
    }

    /// Whether a call of this proxy's is one that nobody leads.
    pub(super) fn is_withdrawn(&self, call: &Call) -> bool {
        self.withdrawn.lock().contains(&call.id)
    }

    /// Whether it is a member since its start.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Acquire)
    }

    /// Dark writes go with this proxy when it leaves, and how.
    pub fn takes_along(&self, how: &str) {
        *self.along.lock() = Some(how.to_owned());
    }

    /// Whether it has joined since its start.
    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Whether another run goes by this proxy's name: which, in words.
    pub(super) fn replaced(&self, board: &Board) -> Option<String> {
        let member = board.members.get(&self.name)?;
        (member.instance != self.instance).then(|| {
            format!(
                "another process ({}) has come to the fleet as {}, which is this proxy's name: give each a name of its own (fleet.name) and start this one again; it is in no cutover until then",
                member.instance, self.name
            )
        })
    }

    /// Says that forward replication has ended since the fleet's last switch, so that dark writes flow back
    /// at every proxy.
    pub(super) async fn say_stopped(&self) -> Result<(), FleetError> {
        let board = self.board().await?;
        let Some(cutover) = board.primary.and_then(|primary| primary.cutover) else {
            return Ok(());
        };
        let change = Change {
            puts: vec![(self.keys.stopped(), json(&cutover))],
            ..Change::default()
        };
        self.change(change).await?;
        Ok(())
    }

    /// An operator has put right what was lost with proxies.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn forgive(&self) -> Result<(), FleetError> {
        let change = Change {
            clears: vec![self.keys.all_lost()],
            ..Change::default()
        };
        self.change(change).await?;
        Ok(())
    }

    /// Whether this run of this proxy is called.
    pub(super) fn is_called(&self, call: &Call) -> bool {
        call.members.get(&self.name) == Some(&self.instance)
    }

    /// Whether this run of this proxy belongs to the fleet.
    pub(super) fn is_in(&self, board: &Board) -> bool {
        let member = board.members.get(&self.name);
        member.is_some_and(|member| member.instance == self.instance)
    }

    /// Whether no run of this proxy does.
    pub(super) fn is_absent(&self, board: &Board) -> bool {
        !board.members.contains_key(&self.name)
    }

    /// The primary, where the fleet has made another one while this proxy was in a call: it slept. Where
    /// etcd does not tell at once, none.
    pub(super) async fn has_gone_on(&self, call: &Call) -> Option<String> {
        let looked = tokio::time::timeout(GLANCE, self.board()).await;
        let primary = looked.ok()?.ok()?.primary?;
        (primary.name != call.from).then_some(primary.name)
    }

    /// Whether this proxy leads the call.
    pub(super) fn leads(&self, call: &Call) -> bool {
        call.leader == self.name
    }
}

fn busy() -> FleetError {
    FleetError::Down("etcd's keys change faster than one can follow".to_owned())
}

/// A name that no other proxy gives, nor this one again.
fn unique(name: &str) -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("{name}.{}.{now:x}", std::process::id())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and maps with text for keys: that cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

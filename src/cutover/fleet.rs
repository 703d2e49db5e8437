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
//! `board` is what stands in etcd, `store` what a fleet needs of it, `etcd` how that is asked,
//! `joining` how a proxy comes and goes, `watch` how it hears of a call. Refuses to tell from silence
//! that a proxy is dead: membership has no lease, and an operator says `understudy fleet forget NAME`.

mod board;
mod etcd;
mod joining;
mod secure;
mod store;
mod watch;

#[cfg(test)]
pub(super) mod memory;
#[cfg(test)]
pub(super) mod tests;

pub use board::{Call, Lost, Member, Primary};
pub use joining::{JoinError, Joined};
pub use store::Down;

pub(super) use board::{Board, Phase, RefusedGuard, Sessions, Word};
pub(super) use watch::watch;

use super::helm::Order;
use crate::config;
use board::{Keys, Said};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::{Change, Look, Store};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two looks while sessions are held.
const LOOK: Duration = Duration::from_millis(4);

/// Between two looks before.
const LOOK_EARLY: Duration = Duration::from_millis(40);

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

/// How a call has ended, for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The new primary is recorded.
    Switched,
    /// The old one stays, and why.
    Aborted(String),
    /// It was to end before the hold.
    Ended,
    /// It is over, and meanwhile another cutover has made another server the primary: this one, by its
    /// name. A proxy that hears it was not in that one.
    Lost(String),
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

/// What is told of a fleet.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// This proxy's name.
    pub name: String,
    /// Whether etcd answers.
    pub etcd: Reachable,
    /// The primary, as etcd has it.
    pub primary: Option<String>,
    /// All proxies.
    pub members: Vec<ShownMember>,
    /// The last cutover that they were called to.
    pub cutover: Option<Call>,
    /// Proxies that took dark writes with them, and how.
    pub lost: BTreeMap<String, Lost>,
}

/// Whether etcd answers.
#[derive(Clone, Debug, Serialize)]
pub struct Reachable {
    /// It does.
    pub reachable: bool,
    /// Why not.
    pub why: Option<String>,
}

/// A proxy, and what it said last.
#[derive(Clone, Debug, Serialize)]
pub struct ShownMember {
    /// Its name.
    pub name: String,
    /// The run of its process.
    pub instance: String,
    /// Since when it has been running.
    pub at: jiff::Timestamp,
    /// Its last word in the cutover; none where it is not in it, or has said nothing.
    pub said: Option<Word>,
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

    /// What is told.
    ///
    /// # Errors
    /// Nothing: where etcd does not answer, that is told.
    pub async fn shown(&self) -> Shown {
        let (board, why) = match self.board().await {
            Ok(board) => (board, None),
            Err(error) => (Board::default(), Some(error.to_string())),
        };
        let said = |name: &str| board.said.get(name).map(|(said, _)| said.word);
        let members = board.members.iter().map(|(name, member)| ShownMember {
            name: name.clone(),
            instance: member.instance.clone(),
            at: member.at,
            said: said(name),
        });
        Shown {
            name: self.name.clone(),
            etcd: Reachable {
                reachable: why.is_none(),
                why,
            },
            primary: board.primary.as_ref().map(|primary| primary.name.clone()),
            members: members.collect(),
            cutover: board.call.clone(),
            lost: board.lost.clone(),
        }
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

    /// Calls every proxy to a cutover, and leads it.
    ///
    /// # Errors
    /// One is under way; dark writes were lost with a proxy; etcd has another primary, or does not answer.
    pub(super) async fn call(
        &self,
        order: &Order,
        from: &str,
        is_back: bool,
    ) -> Result<Call, FleetError> {
        let id = unique(&self.name);
        let called = self.call_as(&id, order, from, is_back).await;
        if matches!(called, Err(FleetError::Down(_))) {
            // Its answer may be lost, and nobody would lead it.
            self.withdrawn.lock().insert(id);
        }
        called
    }

    async fn call_as(
        &self,
        id: &str,
        order: &Order,
        from: &str,
        is_back: bool,
    ) -> Result<Call, FleetError> {
        for _ in 0..TRIES {
            let board = self.board().await?;
            if let Some(call) = board.call_of(id) {
                return Ok(call.clone());
            }
            if let Some(call) = board.under_way() {
                return Err(FleetError::No(format!(
                    "a cutover is under way: {} leads it to {}, for {}",
                    call.leader, call.to, call.who
                )));
            }
            self.may_take_part(&board, from)?;
            if !order.force.contains(&"taint")
                && let Some(why) = board.why_lost()
            {
                return Err(FleetError::No(why));
            }
            // Of two servers the other one was primary before a switch.
            let switched = board
                .primary
                .as_ref()
                .and_then(|told| told.cutover.as_ref());
            let members = board.members.iter();
            let call = Call {
                id: id.to_owned(),
                leader: self.name.clone(),
                from: from.to_owned(),
                to: order.to.clone(),
                who: order.who.clone(),
                dry_run: order.dry_run,
                is_back: is_back || switched.is_some(),
                force: order.force.iter().map(|name| (*name).to_owned()).collect(),
                members: members
                    .map(|(name, member)| (name.clone(), member.instance.clone()))
                    .collect(),
                at: jiff::Timestamp::now(),
                phase: Phase::Called,
                why: String::new(),
            };
            let change = Change {
                seen: vec![
                    (self.keys.cutover(), board.call_at),
                    (self.keys.members(), board.members_at),
                    (self.keys.primary(), board.primary_at),
                ],
                puts: vec![(self.keys.cutover(), json(&call))],
                clears: vec![self.keys.all_said(), self.keys.all_sessions()],
            };
            if self.change(change).await? {
                return Ok(call);
            }
        }
        Err(busy())
    }

    /// Whether this proxy is one of the fleet, and of one mind with it.
    fn may_take_part(&self, board: &Board, primary: &str) -> Result<(), FleetError> {
        let name = &self.name;
        match board.members.get(name) {
            Some(member) if member.instance == self.instance => {}
            Some(_) => {
                return Err(FleetError::No(format!(
                    "another proxy has come to the fleet as {name}: give each a name of its own (fleet.name), and start this one again"
                )));
            }
            None => {
                return Err(FleetError::No(format!(
                    "this proxy, {name}, was forgotten by the fleet, and is about to join it again: ask again in a moment"
                )));
            }
        }
        match &board.primary {
            Some(told) if told.name == primary => Ok(()),
            Some(told) => Err(FleetError::No(format!(
                "etcd says that {} is primary, and here it is {primary}: start this proxy again, it then learns its primary from etcd",
                told.name
            ))),
            None => Err(FleetError::No(
                "etcd has no primary: was its data lost? Start every proxy of the fleet again"
                    .to_owned(),
            )),
        }
    }

    /// Says a word in a call. Said again it stays as it is.
    ///
    /// # Errors
    /// etcd does not answer: whether it is said is not known.
    pub(super) async fn say(
        &self,
        call: &Call,
        word: Word,
        refused: Vec<RefusedGuard>,
    ) -> Result<(), FleetError> {
        self.change(self.saying(call, word, refused)).await?;
        Ok(())
    }

    /// Says that this proxy has heard a call, and which sessions are its own.
    ///
    /// # Errors
    /// As [`Fleet::say`].
    pub(super) async fn here(&self, call: &Call, own: &Sessions) -> Result<(), FleetError> {
        let mut change = self.saying(call, Word::Here, Vec::new());
        let sessions = self.keys.sessions(&call.id, &self.name);
        change.puts.push((sessions, json(own)));
        self.change(change).await?;
        Ok(())
    }

    fn saying(&self, call: &Call, word: Word, refused: Vec<RefusedGuard>) -> Change {
        let said = Said {
            word,
            instance: self.instance.clone(),
            refused,
        };
        let mut change = Change {
            puts: vec![(self.keys.said(&call.id, &self.name), json(&said))],
            ..Change::default()
        };
        if word > Word::Checked {
            // All have judged their guards by then, and what stands there is read at every look.
            change.clears.push(self.keys.all_sessions());
        }
        change
    }

    /// Waits until every proxy of the call has said the word.
    ///
    /// # Errors
    /// It was aborted, somebody has not said it by then, or etcd has not answered; in words.
    pub(super) async fn all(
        &self,
        call: &Call,
        word: Word,
        until: Instant,
    ) -> Result<Everybody, String> {
        loop {
            let board = self.board().await;
            let late = Instant::now() >= until;
            match board {
                Ok(board) => {
                    match decided(&board, call) {
                        Some(Decision::Aborted(why)) => return Err(why),
                        Some(Decision::Lost(primary)) => return Err(left_behind(&primary)),
                        // A dry run that the leader has ended: all had come so far.
                        Some(Decision::Ended) => return Ok(Everybody(board)),
                        Some(Decision::Switched) => {
                            return Err("it has switched already".to_owned());
                        }
                        None if board.call_of(&call.id).is_none() => return Err(EMPTIED.to_owned()),
                        None => {}
                    }
                    let missing = board.missing(word);
                    if missing.is_empty() {
                        return Ok(Everybody(board));
                    }
                    if late {
                        return Err(silent(&missing, word));
                    }
                    let pause = if word < Word::Held { LOOK_EARLY } else { LOOK };
                    tokio::time::sleep(pause).await;
                }
                Err(error) if late => return Err(error.to_string()),
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The guards that refuse at other proxies, each with its proxy's name.
    pub(super) async fn refused(&self, call: &Call) -> Vec<(String, RefusedGuard)> {
        let Ok(board) = self.board().await else {
            return Vec::new();
        };
        if board.call_of(&call.id).is_none() {
            return Vec::new();
        }
        let said = board.said.into_iter();
        let of = |(name, (said, _)): (String, (Said, _))| {
            let refused = said.refused.into_iter();
            refused.map(move |guard| (name.clone(), guard))
        };
        said.flat_map(of).collect()
    }

    /// The leader's one transaction: everybody was seen to be whole.
    ///
    /// # Errors
    /// Whether it was done is not known.
    pub(super) async fn switch(
        &self,
        call: &Call,
        everybody: &Everybody,
    ) -> Result<Decision, FleetError> {
        let board = &everybody.0;
        let members = board.members.iter();
        let now: BTreeMap<String, String> = members
            .map(|(name, member)| (name.clone(), member.instance.clone()))
            .collect();
        if now != call.members {
            let why = "the fleet's proxies are not those that were called any more";
            return self.abort(call, why).await;
        }
        let mut seen = vec![
            (self.keys.cutover(), board.call_at),
            (self.keys.members(), board.members_at),
            (self.keys.primary(), board.primary_at),
        ];
        let said = board.said.iter();
        seen.extend(said.map(|(name, (_, at))| (self.keys.said(&call.id, name), *at)));
        let primary = Primary {
            name: call.to.clone(),
            cutover: Some(call.id.clone()),
            at: jiff::Timestamp::now(),
        };
        let switched = Call {
            phase: Phase::Switched,
            ..call.clone()
        };
        let change = Change {
            seen,
            puts: vec![
                (self.keys.primary(), json(&primary)),
                (self.keys.cutover(), json(&switched)),
            ],
            clears: Vec::new(),
        };
        if self.change(change).await? {
            return Ok(Decision::Switched);
        }
        let why = "what stands in etcd changed in the midst of the switch";
        self.abort(call, why).await
    }

    /// Ends a call that has not switched; how it has ended, where it has.
    ///
    /// # Errors
    /// Whether it was done is not known.
    pub(super) async fn abort(&self, call: &Call, why: &str) -> Result<Decision, FleetError> {
        self.close(call, Phase::Aborted, why).await
    }

    /// Ends a call that has not switched, whichever way.
    ///
    /// # Errors
    /// Whether it was done is not known.
    pub(super) async fn close(
        &self,
        call: &Call,
        phase: Phase,
        why: &str,
    ) -> Result<Decision, FleetError> {
        for _ in 0..TRIES {
            let board = self.board().await?;
            if let Some(decision) = decided(&board, call) {
                return Ok(decision);
            }
            let Some(call) = board.call_of(&call.id) else {
                return Err(FleetError::Down(EMPTIED.to_owned()));
            };
            let closed = Call {
                phase,
                why: format!("the proxy {}: {why}", self.name),
                ..call.clone()
            };
            let change = Change {
                seen: vec![(self.keys.cutover(), board.call_at)],
                puts: vec![(self.keys.cutover(), json(&closed))],
                clears: Vec::new(),
            };
            if self.change(change).await? {
                return Ok(Decision::Aborted(closed.why));
            }
        }
        Err(busy())
    }

    /// Waits for the leader's decision; after the time it makes one, to abort.
    ///
    /// # Errors
    /// etcd does not tell: nobody here knows who is primary.
    pub(super) async fn decision(
        &self,
        call: &Call,
        until: Instant,
    ) -> Result<Decision, FleetError> {
        loop {
            let board = self.board().await;
            if let Ok(board) = &board
                && let Some(decision) = decided(board, call)
            {
                return Ok(decision);
            }
            if Instant::now() >= until {
                let why = format!("{}, who leads, did not switch in time", call.leader);
                return self.abort(call, &why).await;
            }
            let pause = if board.is_ok() { LOOK } else { LOOK_AGAIN };
            tokio::time::sleep(pause).await;
        }
    }

    /// Waits until etcd answers: how the call has ended, where it has.
    ///
    /// # Errors
    /// It does not by then.
    pub(super) async fn answers(
        &self,
        call: &Call,
        until: Instant,
    ) -> Result<Option<Decision>, FleetError> {
        loop {
            match self.board().await {
                Ok(board) => return Ok(decided(&board, call)),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
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

/// A look at which everybody had said the word that was waited for.
pub(super) struct Everybody(Board);

impl Everybody {
    /// The sessions of all of them.
    pub(super) fn sessions(&self) -> Sessions {
        self.0.all_sessions()
    }
}

/// What stood in etcd is gone.
const EMPTIED: &str = "the cutover is not in etcd any more: was its data lost? Then stop every proxy of the fleet, find out which server took the last writes, and start each with --primary NAME";

/// How a call has ended; none where it has not, or where nothing tells. One that is not there any more was
/// replaced, which only an ended one can be: the primary tells how that was.
fn decided(board: &Board, call: &Call) -> Option<Decision> {
    if let Some(seen) = board.call_of(&call.id) {
        return match seen.phase {
            Phase::Called => None,
            Phase::Switched => Some(Decision::Switched),
            Phase::Ended => Some(Decision::Ended),
            Phase::Aborted => Some(Decision::Aborted(seen.why.clone())),
        };
    }
    let primary = board.primary.as_ref()?;
    if primary.cutover.as_deref() == Some(&call.id) {
        return Some(Decision::Switched);
    }
    board.call.as_ref()?;
    Some(if primary.name == call.from {
        Decision::Aborted("another cutover followed".to_owned())
    } else {
        Decision::Lost(primary.name.clone())
    })
}

fn left_behind(primary: &str) -> String {
    format!("the fleet has gone on without this proxy, and {primary} is primary")
}

fn silent(missing: &[&str], word: Word) -> String {
    let names = missing.join(", ");
    let undone = word.undone();
    match word {
        Word::Here => format!(
            "of the fleet {names} {undone}; a proxy that is gone for good is taken out by `understudy fleet forget NAME`"
        ),
        _ => format!("of the fleet {names} {undone} in time"),
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

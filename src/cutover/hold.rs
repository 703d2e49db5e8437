//! The hold: from the moment when sessions stop at their boundaries to the moment when they go on,
//! with the connections that they go on with.
//!
//! Everything here is bounded by a deadline. Refuses to decide what a hold that fails means: it says
//! why, and the coordinator lets everybody go.

use super::carry::Carrier;
use crate::relay::{Leg, Relay, StandIn, Unheld};
use crate::shadow::{Carried, CarryError, Mirror, SessionState, Soft, Unprepared, Values};
use crate::task;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Sessions whose connections are opened, or brought up to date, at the same time.
const TOGETHER: usize = 32;

/// Sessions that cannot be moved yet are looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// So long a session is let go on for a command that may ask for its warnings, or for FOUND_ROWS().
/// An idle one would hold up all others.
const SOFT_WAIT: Duration = Duration::from_millis(10);

/// Between two looks at whether those that are missed do anything.
const IDLE_LOOK: Duration = Duration::from_millis(20);

/// Sessions that are named in a reason.
const NAMED_MAX: usize = 5;

/// What a hold works with.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) relay: Relay,
    pub(super) mirror: Arc<Mirror>,
    pub(super) carrier: Arc<Carrier>,
    /// The relay's threads: to open a session's new connection is theirs, too, shared out among them.
    pub(super) threads: Arc<[Handle]>,
}

/// A connection to the other side, and the values that were set on it.
pub(super) struct Opened {
    carried: Carried,
    values: Option<Values>,
}

/// Connections to the other side that are like their sessions.
pub(super) type Ready = BTreeMap<u64, Opened>;

/// Sessions and why something cannot be done with them.
pub(super) type Failed = BTreeMap<u64, Why>;

/// Why something cannot be done with a session.
#[derive(Clone, Debug)]
pub(super) struct Why {
    words: String,
    /// It is not the session's own: the server does not answer, or in time.
    of_server: bool,
}

impl Why {
    fn own(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            of_server: false,
        }
    }

    fn of_server(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            of_server: true,
        }
    }
}

impl From<CarryError> for Why {
    fn from(error: CarryError) -> Self {
        Self {
            of_server: matches!(error, CarryError::Down(_)),
            words: error.to_string(),
        }
    }
}

/// Whether a server is at fault, so that to end the sessions would help nobody.
pub(super) fn is_the_servers(failed: &Failed) -> bool {
    failed.values().any(|why| why.of_server)
}

/// The first few, in words.
pub(super) fn in_words(failed: &Failed) -> String {
    let named = failed.iter().take(NAMED_MAX);
    let named: Vec<String> = named
        .map(|(session, why)| match session {
            0 => why.words.clone(),
            _ => format!("session {session}: {}", why.words),
        })
        .collect();
    match failed.len().saturating_sub(named.len()) {
        0 => named.join("; "),
        more => format!("{} and {more} more", named.join("; ")),
    }
}

impl Hands {
    /// Opens and prepares a connection for each session that has none, before the hold. Those for
    /// which it fails are tried again in the hold.
    ///
    /// # Errors
    /// The mirror has ended.
    pub(super) async fn prepare(
        &self,
        ready: &mut Ready,
        until: Instant,
    ) -> Result<Failed, String> {
        let states = self.states().await?.into_iter();
        let mut of: BTreeMap<u64, SessionState> =
            states.map(|state| (state.facts.session, state)).collect();
        let open = self.relay.open_sessions();
        let known: BTreeSet<u64> = open.iter().map(|facts| facts.session).collect();
        ready.retain(|session, _| known.contains(session));
        let todo = open.iter().map(|facts| {
            let known = of.remove(&facts.session);
            let known = known.filter(|state| state.facts.login == facts.login);
            known.unwrap_or_else(|| SessionState::fresh(facts))
        });
        // One in a transaction is out of it in the hold.
        let todo = todo
            .filter(|state| state.unknown().is_none() && !ready.contains_key(&state.facts.session));
        let todo: Vec<SessionState> = todo.collect();
        let (done, failed) = self.open(todo, until).await;
        ready.extend(done);
        Ok(failed)
    }

    async fn states(&self) -> Result<Vec<SessionState>, String> {
        self.mirror
            .sessions()
            .await
            .map_err(|ended| ended.to_string())
    }

    async fn open(&self, states: Vec<SessionState>, until: Instant) -> (Ready, Failed) {
        let one = |hands: Self, state: SessionState| async move {
            let opened = hands.mirror.prepare(&state).await;
            let carried = opened.map_err(Why::from)?;
            let values = None;
            Ok(Opened { carried, values })
        };
        self.each(states, until, one).await
    }

    /// One of the threads, the same for a session each time.
    fn thread(&self, session: u64) -> Handle {
        let threads = self.threads.len().max(1) as u64;
        let one = usize::try_from(session % threads).ok();
        let one = one.and_then(|one| self.threads.get(one));
        one.cloned().unwrap_or_else(Handle::current)
    }

    /// Does something with each session, some at a time, on the relay's threads.
    async fn each<T, F>(
        &self,
        states: Vec<SessionState>,
        until: Instant,
        one: impl Fn(Self, SessionState) -> F,
    ) -> (BTreeMap<u64, T>, Failed)
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Why>> + Send + 'static,
    {
        let (mut done, mut failed) = (BTreeMap::new(), BTreeMap::new());
        let mut left: BTreeSet<u64> = states.iter().map(|state| state.facts.session).collect();
        let mut states = states.into_iter();
        let mut tasks = JoinSet::new();
        loop {
            while tasks.len() < TOGETHER
                && let Some(state) = states.next()
            {
                let session = state.facts.session;
                let doing = one(self.clone(), state);
                let bounded = async move { (session, timeout_at(until, doing).await) };
                tasks.spawn_on(bounded, &self.thread(session));
            }
            let Some(ended) = tasks.join_next().await else {
                break;
            };
            let Ok((session, ended)) = ended else {
                continue; // It broke: what is left has failed.
            };
            left.remove(&session);
            match ended {
                Ok(Ok(one)) => {
                    done.insert(session, one);
                }
                Ok(Err(why)) => {
                    failed.insert(session, why);
                }
                Err(_) => {
                    let why = Why::of_server("the other side did not answer in time");
                    failed.insert(session, why);
                }
            }
        }
        failed.extend(
            left.into_iter()
                .map(|session| (session, Why::own("its carrying broke off"))),
        );
        (done, failed)
    }

    /// Stops every session at its boundary. Those that hold what cannot move go on, one command at a
    /// time, until they have let it go. `patience`: once nobody is missed but sessions that have done
    /// nothing for so long, it is given up, for all others wait for them alone.
    ///
    /// # Errors
    /// At the deadline, or then: who is not there, and why.
    pub(super) async fn gather(
        &self,
        until: Instant,
        patience: Option<Duration>,
    ) -> Result<Vec<SessionState>, Failed> {
        self.carrier.begin();
        self.relay.hold();
        let (mut stuck, began) = (BTreeMap::new(), Instant::now());
        let mut idlers = Idlers::default();
        loop {
            if !self.all_held(until, patience, &mut idlers).await {
                return Err(self.unheld(&stuck));
            }
            stuck = match timeout_at(until, self.look(began, &stuck)).await {
                Ok(Ok(states)) => return Ok(states),
                Ok(Err(stuck)) => stuck,
                Err(_) => {
                    let why = Why::of_server("understudy's shadow side does not answer");
                    return Err(BTreeMap::from([(0, why)]));
                }
            };
            if Instant::now() >= until {
                return Err(stuck);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether all are there; false once it is given up.
    async fn all_held(
        &self,
        until: Instant,
        patience: Option<Duration>,
        idlers: &mut Idlers,
    ) -> bool {
        loop {
            let next = until.min(Instant::now() + IDLE_LOOK);
            if timeout_at(next, self.relay.all_held()).await.is_ok() {
                return true;
            }
            let now = Instant::now();
            let unheld = self.relay.census().unheld;
            let alone = patience.is_some_and(|patience| idlers.are_alone(&unheld, now, patience));
            if now >= until || alone {
                return false;
            }
        }
    }

    /// Who is not there, and why; `known`: what was seen to hold some of them, who went on for a
    /// command.
    fn unheld(&self, known: &Failed) -> Failed {
        let unheld = self.relay.census().unheld;
        let why = |one: &Unheld| match (one.tunnel, one.in_transaction, one.idle) {
            (true, ..) => "it became a tunnel, which cannot be moved",
            (false, true, true) => "its transaction is still open, and its client says nothing",
            (false, true, false) => "its transaction is still open",
            (false, false, _) => "its command is still running",
        };
        let named = unheld.into_iter().map(|one| {
            let why = || {
                let why = why(&one);
                Why::own(format!("({}) {why}", one.user))
            };
            let why = known.get(&one.session).cloned().unwrap_or_else(why);
            (one.session, why)
        });
        named.collect()
    }

    /// All sessions as they wait, or those that hold what cannot be moved. `began`: since when all are
    /// asked to wait; `known`: what the look before this one saw.
    async fn look(&self, began: Instant, known: &Failed) -> Result<Vec<SessionState>, Failed> {
        let seats = self.carrier.seats();
        let states = self.states().await;
        let states = states.map_err(|ended| BTreeMap::from([(0, Why::of_server(ended))]))?;
        let mut of: BTreeMap<u64, SessionState> = states
            .into_iter()
            .map(|state| (state.facts.session, state))
            .collect();
        let patient = began.elapsed() < SOFT_WAIT;
        let (mut all, mut stuck) = (Vec::new(), BTreeMap::new());
        for (facts, seq) in seats {
            let session = facts.session;
            let state = of.remove(&session);
            let is_behind = state.as_ref().map_or(0, |state| state.seq) < seq;
            if is_behind && !facts.share.journal_unknown() {
                // What it said last is still on its way to its journal.
                let why = Why::own("what it said last is not known yet");
                stuck.insert(session, why);
                continue;
            }
            // One that has logged in anew since is as fresh.
            let known = state.filter(|state| state.facts.login == facts.login);
            let state = known.unwrap_or_else(|| SessionState::fresh(&facts));
            let why = state.stuck.first().map(ToString::to_string);
            let why = why.or_else(|| waits_for(&state, patient).map(str::to_owned));
            match why {
                Some(why) => {
                    self.carrier.let_once(session);
                    let why = Why::own(format!("({}) {why}", facts.user));
                    stuck.insert(session, why);
                }
                None => all.push(state),
            }
        }
        // One that was let go on before, and may not even be awake: it would speak to the old primary.
        let going = self.carrier.going();
        if !going.is_empty() {
            let open = self.relay.open_sessions();
            let here = open.iter().map(|facts| facts.session);
            for session in here.filter(|session| going.contains(session)) {
                let why = || Why::own("it goes on for a command");
                let why = known.get(&session).cloned().unwrap_or_else(why);
                stuck.entry(session).or_insert(why);
            }
        }
        if self.carrier.lent() > 0 {
            let why = Why::of_server("an earlier question to it is not answered yet");
            stuck.insert(0, why);
        }
        if stuck.is_empty() && self.relay.unheld() == 0 {
            Ok(all)
        } else {
            Err(stuck)
        }
    }

    /// Ends the sessions that are in the way.
    pub(super) fn end(&self, in_the_way: &Failed, why: &str) {
        self.relay.end_unheld(why);
        for session in in_the_way.keys() {
            self.carrier.end_one(*session, why);
        }
    }

    /// Lets no session go on any more.
    pub(super) fn shut(&self, why: &str) {
        self.carrier.begin();
        self.relay.hold();
        self.end_all(why);
    }

    /// Ends every session, for nobody knows where it should go on.
    pub(super) fn end_all(&self, why: &str) {
        self.relay.end_unheld(why);
        for (facts, _) in self.carrier.seats() {
            self.carrier.end_one(facts.session, why);
        }
    }

    /// Brings each session's connection up to date with what the session is now, its variables by
    /// value. Those for which it fails stand beside.
    pub(super) async fn legs(
        &self,
        states: Vec<SessionState>,
        ready: Ready,
        until: Instant,
    ) -> (BTreeMap<u64, Leg>, Failed) {
        let ready = Arc::new(parking_lot::Mutex::new(ready));
        let one = |hands: Self, state: SessionState| {
            let ready = Arc::clone(&ready);
            async move {
                let opened = ready.lock().remove(&state.facts.session);
                let carried = hands.carry(&state, opened).await?;
                Ok(leg(carried))
            }
        };
        self.each(states, until, one).await
    }

    /// One session. A connection that cannot be brought up to date, or has died, is opened anew.
    async fn carry(&self, state: &SessionState, opened: Option<Opened>) -> Result<Carried, Why> {
        let values = self.ask(state).await?;
        if let Some(mut opened) = opened {
            let followed = opened.carried.catch_up(state).await;
            let set = match followed {
                Ok(()) if opened.values.as_ref() == Some(&values) => Ok(()),
                Ok(()) => opened.carried.set_values(&values).await,
                Err(error) => Err(error),
            };
            if set.is_ok() && opened.carried.is_alive().await {
                return Ok(opened.carried);
            }
        }
        let mut carried = self.mirror.prepare(state).await?;
        carried.set_values(&values).await?;
        Ok(carried)
    }

    /// Asks to the end, in a task of its own: a hold that is given up meanwhile would lose the
    /// session's connection with half an answer on it.
    async fn ask(&self, state: &SessionState) -> Result<Values, Why> {
        let gone = || Why::own("it does not wait any more");
        let session = state.facts.session;
        let mut lent = self.carrier.lend(session).ok_or_else(gone)?;
        let stream = lent.take().ok_or_else(gone)?;
        let (mirror, state) = (Arc::clone(&self.mirror), state.clone());
        let asking = async move {
            let read = mirror.read_values(stream, &state).await;
            // One connection that breaks is the session's own: a server that is gone takes all of them.
            let (stream, values) = read.map_err(|error| {
                Why::own(format!("its connection to the primary broke: {error}"))
            })?;
            lent.give_back(stream);
            values.map_err(|error| Why::own(format!("its variables cannot be read: {error}")))
        };
        let asked = task::spawn_on(&self.thread(session), "asking", asking).await;
        asked.map_err(|broken| Why::of_server(broken.to_string()))?
    }
}

/// Sessions that are missed and do nothing: how many commands each has said, and since when no more.
#[derive(Debug, Default)]
struct Idlers(BTreeMap<u64, (u64, Instant)>);

impl Idlers {
    /// Whether nobody is missed but sessions that have done nothing for so long. Asked every so often:
    /// what a session did in between shows in its number of commands.
    fn are_alone(&mut self, unheld: &[Unheld], now: Instant, patience: Duration) -> bool {
        let is_idle = |one: &&Unheld| one.idle || one.tunnel;
        let idle = unheld.iter().filter(is_idle).map(|one| {
            let known = self.0.get(&one.session);
            let known = known.filter(|(seq, _)| *seq == one.seq);
            let since = known.map_or(now, |(_, since)| *since);
            (one.session, (one.seq, since))
        });
        self.0 = idle.collect();
        let is_long = |since: &Instant| now.saturating_duration_since(*since) >= patience;
        !unheld.is_empty()
            && self.0.len() == unheld.len()
            && self.0.values().all(|(_, since)| is_long(since))
    }
}

/// What one more command of the session's may bring to its end: what its next command needs, and, for
/// a moment, what it may ask for.
fn waits_for(state: &SessionState, patient: bool) -> Option<&'static str> {
    let needed = |soft: &&Soft| match soft {
        Soft::LongData | Soft::NextTransaction => true,
        Soft::Warnings | Soft::FoundRows => patient,
    };
    state.soft.iter().find(needed).map(|soft| soft.name())
}

fn leg(carried: Carried) -> Leg {
    let parts = carried.into_parts();
    Leg {
        stream: parts.stream,
        server: parts.server,
        thread_id: parts.thread_id,
        status: parts.status,
        vitess: parts.vitess,
        statements: parts.statements,
        stand_ins: parts.unprepared.into_iter().map(stand_in).collect(),
        last: parts.last,
    }
}

fn stand_in((id, unprepared): (u32, Unprepared)) -> (u32, StandIn) {
    let stands_in = match unprepared {
        Unprepared::Text(text) => StandIn::Text(text.to_vec()),
        Unprepared::Refused(failure) => StandIn::Error(failure),
    };
    (id, stands_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unheld(session: u64, idle: bool, seq: u64) -> Unheld {
        Unheld {
            session,
            user: "app".into(),
            thread_id: 7,
            in_transaction: true,
            tunnel: false,
            idle,
            seq,
        }
    }

    #[test]
    fn only_those_who_do_nothing_for_long_are_not_waited_for() {
        let patience = Duration::from_secs(1);
        let start = Instant::now();
        let mut idlers = Idlers::default();
        let mut look = |at_ms: u64, missed: &[Unheld]| {
            let now = start + Duration::from_millis(at_ms);
            idlers.are_alone(missed, now, patience)
        };
        assert!(!look(0, &[unheld(1, true, 4)]));
        assert!(!look(990, &[unheld(1, true, 4)]), "not for so long");
        assert!(!look(1_000, &[]), "nobody is missed");
        assert!(
            !look(1_100, &[unheld(1, true, 4)]),
            "it was there meanwhile"
        );
        assert!(!look(2_000, &[unheld(1, true, 5)]), "it has said something");
        let busy = unheld(2, false, 1);
        assert!(!look(3_000, &[unheld(1, true, 5), busy]), "a command runs");
        let other = unheld(3, true, 1);
        assert!(
            !look(3_100, &[unheld(1, true, 5), other.clone()]),
            "one is new"
        );
        assert!(look(3_120, &[unheld(1, true, 5)]));
        assert!(!look(3_130, &[unheld(1, true, 5), other.clone()]));
        assert!(look(4_200, &[unheld(1, true, 5), other]));
        let tunnel = Unheld {
            tunnel: true,
            ..unheld(4, false, 0)
        };
        assert!(!look(5_000, std::slice::from_ref(&tunnel)));
        assert!(look(6_000, &[tunnel]), "no pipe can be moved");
    }
}

//! The hold: from the moment when sessions stop at their boundaries to the moment when they go on,
//! with the connections that they go on with.
//!
//! Everything here is bounded by a deadline. Refuses to decide what a hold that fails means: it says
//! why, and the coordinator lets everybody go.

use super::carry::Carrier;
use super::progress::{NAMED_MAX, Slate};
use crate::config::{self, Stuck};
use crate::relay::{Connection, Leg, Relay, StandIn, Unheld};
use crate::shadow::{Carried, CarryError, Mirror, SessionState, Soft, Unprepared, Values};
use crate::task;
use crate::words::micros;
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

/// Of a client that says nothing it is told for how long from here on.
const IDLE_TOLD: Duration = Duration::from_millis(100);

/// What a hold works with.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) relay: Relay,
    pub(super) mirror: Arc<Mirror>,
    pub(super) carrier: Arc<Carrier>,
    /// The relay's threads: to open a session's new connection is theirs, too, shared out among them.
    pub(super) threads: Arc<[Handle]>,
    /// Where it says who is missing.
    pub(super) slate: Slate,
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
    /// The session's connection at the primary.
    connection: Option<u32>,
    /// A vtgate has it, which ends no connection by KILL.
    is_vitess: bool,
    /// For how long its transaction has been open, where the primary told.
    open: Option<Duration>,
}

impl Why {
    fn own(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            of_server: false,
            connection: None,
            is_vitess: false,
            open: None,
        }
    }

    fn of_server(words: impl Into<String>) -> Self {
        Self {
            of_server: true,
            ..Self::own(words)
        }
    }

    /// Why a session is not held: `open`, for how long its transaction has been; `silent`, for how long it has
    /// been seen to do nothing.
    fn unheld(one: &Unheld, open: Option<Duration>, silent: Option<Duration>) -> Self {
        let for_long = |time: Duration| micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let is_open = match open {
            Some(open) => format!("its transaction is still open, for {}", for_long(open)),
            None => "its transaction is still open".to_owned(),
        };
        let why = match (one.tunnel, one.in_transaction, one.idle) {
            (true, ..) => "it became a tunnel, which cannot be moved".to_owned(),
            (false, true, true) => match silent.filter(|silent| *silent >= IDLE_TOLD) {
                Some(silent) => {
                    let silent = for_long(silent);
                    format!("{is_open}, and its client says nothing, for at least {silent}")
                }
                None => format!("{is_open}, and its client says nothing"),
            },
            (false, true, false) => is_open,
            (false, false, _) => "its command is still running".to_owned(),
        };
        Self {
            connection: Some(one.thread_id),
            is_vitess: one.is_vitess,
            open: open.filter(|_| one.in_transaction),
            ..Self::own(format!(
                "({}, connection {}) {why}",
                one.user, one.thread_id
            ))
        }
    }

    /// Why a session that is held cannot be moved: what it holds or waits for; `at`, its connection, where it is still open.
    fn stuck(user: &str, at: Option<Connection>, what: &str) -> Self {
        let Some(at) = at else {
            return Self::own(format!("({user}) {what}"));
        };
        Self {
            connection: Some(at.thread_id),
            is_vitess: at.is_vitess,
            ..Self::own(format!("({user}, connection {}) {what}", at.thread_id))
        }
    }

    /// In words.
    pub(super) fn words(&self) -> &str {
        &self.words
    }

    /// The session's connection at the primary, where it is known.
    pub(super) const fn connection(&self) -> Option<u32> {
        self.connection
    }

    /// For how long its transaction has been open, where the primary told.
    pub(super) const fn open(&self) -> Option<Duration> {
        self.open
    }
}

impl From<CarryError> for Why {
    fn from(error: CarryError) -> Self {
        match error {
            CarryError::Down(_) => Self::of_server(error.to_string()),
            _ => Self::own(error.to_string()),
        }
    }
}

/// Whether a server is at fault, so that to end the sessions would help nobody.
pub(super) fn is_the_servers(failed: &Failed) -> bool {
    failed.values().any(|why| why.of_server)
}

/// Those with the longest transactions first, then in the order of their numbers.
pub(super) fn longest_first(failed: &Failed) -> Vec<(u64, &Why)> {
    let mut all: Vec<(u64, &Why)> = failed.iter().map(|(id, why)| (*id, why)).collect();
    all.sort_by_key(|(_, why)| std::cmp::Reverse(why.open));
    all
}

/// What can be done about sessions that could not be held, in a sentence; empty where a server is at fault.
pub(super) fn remedy(failed: &Failed, config: &config::Cutover, primary: &str) -> String {
    if failed.is_empty() || is_the_servers(failed) {
        return String::new();
    }
    let known = longest_first(failed).into_iter();
    let kill = known
        .filter(|(_, why)| !why.is_vitess)
        .filter_map(|(_, why)| why.connection)
        .next();
    let kill = kill.map_or_else(String::new, |id| format!(" (KILL {id} on {primary})"));
    let end = match config.stuck {
        Stuck::Abort => ", or let such sessions be ended (cutover.stuck = \"end\")",
        Stuck::End => "",
    };
    format!(
        ". Have them end what they hold{kill}, choose a moment without them, or raise cutover.hold_ms_max, which is {} ms{end}",
        config.hold_max.now().as_millis()
    )
}

/// The first few, in words.
pub(super) fn in_words(failed: &Failed) -> String {
    let named = longest_first(failed).into_iter().take(NAMED_MAX);
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
            if !self.all_held(until, patience, &mut idlers, &stuck).await {
                let unheld = self.relay.census().unheld;
                return Err(self.unheld(unheld, &stuck, &idlers));
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
            if self.slate.is_due() {
                self.slate.misses(stuck.len(), &stuck);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether all are there; false once it is given up. Meanwhile who looks on is told who is missing;
    /// `known`: what was seen to hold some of them.
    async fn all_held(
        &self,
        until: Instant,
        patience: Option<Duration>,
        idlers: &mut Idlers,
        known: &Failed,
    ) -> bool {
        loop {
            let next = until.min(Instant::now() + IDLE_LOOK);
            if timeout_at(next, self.relay.all_held()).await.is_ok() {
                return true;
            }
            let now = Instant::now();
            let unheld = self.relay.census().unheld;
            let patience = patience.unwrap_or(Duration::MAX);
            let alone = idlers.are_alone(&unheld, now, patience);
            if now >= until || alone {
                return false;
            }
            if self.slate.is_due() {
                let missing = unheld.len();
                let few = self.unheld(self.oldest(unheld), known, idlers);
                self.slate.misses(missing, &few);
            }
        }
    }

    /// The few that are named: those with the longest transactions.
    fn oldest(&self, mut unheld: Vec<Unheld>) -> Vec<Unheld> {
        let ages = self.slate.ages();
        unheld.sort_by_key(|one| std::cmp::Reverse(ages.get(&one.thread_id)));
        unheld.truncate(NAMED_MAX);
        unheld
    }

    /// Who is not there, and why; `known`: what was seen to hold some of them, who went on for a
    /// command.
    fn unheld(&self, unheld: Vec<Unheld>, known: &Failed, idlers: &Idlers) -> Failed {
        let (ages, now) = (self.slate.ages(), Instant::now());
        let named = unheld.into_iter().map(|one| {
            let why = || {
                let open = ages.get(&one.thread_id).copied();
                Why::unheld(&one, open, idlers.silent(one.session, now))
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
                Some(what) => {
                    self.carrier.let_once(session);
                    let at = self.relay.connection(session);
                    stuck.insert(session, Why::stuck(&facts.user, at, &what));
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
    /// For how long this session has been seen to do nothing.
    fn silent(&self, session: u64, now: Instant) -> Option<Duration> {
        let (_, since) = self.0.get(&session)?;
        Some(now.saturating_duration_since(*since))
    }

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
            is_vitess: false,
            in_transaction: true,
            tunnel: false,
            idle,
            seq,
        }
    }

    #[test]
    fn who_is_missing_is_named_with_what_can_be_done_and_the_longest_first() {
        let config = crate::config::Config::parse("", &[]).unwrap().cutover;
        let seconds = |n| Some(Duration::from_secs(n));
        let young = Why::unheld(&unheld(3, false, 1), seconds(2), None);
        let old = Why::unheld(&unheld(9, true, 1), seconds(12), seconds(4));
        assert_eq!(
            old.words(),
            "(app, connection 7) its transaction is still open, for 12.00 s, and its client says nothing, for at least 4.00 s"
        );
        let unknown = Why::unheld(&unheld(1, true, 1), None, Some(Duration::ZERO));
        assert_eq!(
            unknown.words(),
            "(app, connection 7) its transaction is still open, and its client says nothing"
        );
        let failed = Failed::from([(1, unknown), (3, young), (9, old)]);
        let words = in_words(&failed);
        assert!(words.starts_with("session 9: (app"), "{words}");
        assert!(words.contains("; session 3: "), "{words}");
        let remedy = remedy(&failed, &config, "legacy");
        for part in [
            "KILL 7 on legacy",
            "raise cutover.hold_ms_max, which is 5000 ms",
            "cutover.stuck",
        ] {
            assert!(remedy.contains(part), "{part}: {remedy}");
        }
        // Finding: KILL was the remedy on a vtgate, which has none.
        let there = Unheld {
            is_vitess: true,
            ..unheld(1, true, 1)
        };
        let there = Failed::from([(1, Why::unheld(&there, None, None))]);
        assert!(!super::remedy(&there, &config, "vitess").contains("KILL"));
        // Finding: of who held a lock of GET_LOCK's nobody could tell which connection that was.
        let at = |is_vitess| {
            Some(Connection {
                thread_id: 41,
                is_vitess,
            })
        };
        let of = |at| Failed::from([(1, Why::stuck("app", at, "GET_LOCK"))]);
        let (held, there, gone) = (of(at(false)), of(at(true)), of(None));
        assert_eq!(in_words(&held), "session 1: (app, connection 41) GET_LOCK");
        assert_eq!(held[&1].connection(), Some(41));
        assert!(super::remedy(&held, &config, "legacy").contains("(KILL 41 on legacy)"));
        assert!(!super::remedy(&there, &config, "vitess").contains("KILL"));
        assert_eq!(in_words(&gone), "session 1: (app) GET_LOCK");
        let servers = Failed::from([(0, Why::of_server("it does not answer"))]);
        assert_eq!(super::remedy(&servers, &config, "legacy"), "");
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

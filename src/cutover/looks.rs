//! Gathers what the guards judge: from both servers, from the sessions, from the ledger. Reads only.

use super::carry::login_of;
use super::coordinator::Parts;
use super::crowd::{self, Crowd, Threads};
use super::fleet::Sessions;
use super::guards::{Feature, Figures, Holds, Known, Offset, Reach, Session, Side, User, unfed};
use super::rights::lacks_to_lift;
use super::room;
use super::visit::{Visit, visit};
use crate::ask::{Asker, Manner, Questions};
use crate::config::{Account, FedBy, Server};
use crate::relay::Connection;
use crate::shadow::{SessionState, Stuck};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Logins are tried for so many users; the others are judged by the config alone.
const TRIED_MAX: usize = 200;

/// So many at the same time.
const TOGETHER: usize = 16;

/// Whoever asked for the cutover waits as long.
const TRYING_MAX: Duration = Duration::from_secs(10);

/// Questions to the primary about who is there.
const PER_SECOND: u32 = 20;

/// What vtgate does not have, or not for every keyspace.
const NOT_IN_VITESS: [&str; 8] = [
    "call",
    "cursors",
    "handler",
    "local_infile",
    "lock_tables",
    "stored_functions",
    "temporary_tables",
    "xa",
];

/// A fleet waits for each proxy's sessions, and takes one that is slow for dead.
const OWN_MAX: Duration = Duration::from_secs(2);

/// This proxy's sessions at the primary, for the others of its fleet.
pub(super) async fn sessions(parts: &Parts) -> Sessions {
    let server = Arc::clone(&parts.roles.borrow().primary);
    let looked = tokio::time::timeout(OWN_MAX, list(parts, &server)).await;
    let newest = looked.ok().and_then(Result::ok);
    Sessions {
        newest: newest.and_then(|(threads, _)| threads.newest()),
        threads: ours(parts).collect(),
    }
}

fn ours(parts: &Parts) -> impl Iterator<Item = u32> + use<> {
    let unheld = parts.relay.census().unheld.into_iter();
    unheld.map(|one| one.thread_id)
}

/// Everything, as it is now. `is_back`: the other server was the primary before the last switch. `fleet`:
/// the sessions of all its proxies.
///
/// # Errors
/// The ledger cannot be read, or the mirror has ended.
pub(super) async fn figures(
    parts: &Parts,
    is_back: bool,
    fleet: &Sessions,
) -> Result<Figures, String> {
    let roles = parts.roles.borrow().clone();
    let (from, to) = (side(parts, &roles.primary), side(parts, &roles.shadow));
    let (here, there) = tokio::join!(visit(parts, &from), visit(parts, &to));
    let states = parts.mirror.sessions().await;
    let states = states.map_err(|ended| ended.to_string())?;
    let states = with_the_silent(parts, states);
    let reachable = there.is_ok();
    let vitess_here = here.as_ref().is_ok_and(Visit::is_vitess);
    let vitess_there = there.as_ref().is_ok_and(Visit::is_vitess);
    let looked = if vitess_here {
        Err("vtgate does not list who is connected to it".to_owned())
    } else {
        look_around(parts, &from.server, fleet).await
    };
    let (crowd, ages) = match looked {
        Ok((crowd, ages)) => (Ok(crowd), ages),
        Err(why) => (Err(why), BTreeMap::new()),
    };
    // By session, for a session's thread is another at each server.
    let connections = parts.relay.connections();
    let ages: BTreeMap<u64, Duration> = connections
        .iter()
        .filter_map(|(session, at)| Some((*session, *ages.get(&at.thread_id)?)))
        .collect();
    let judge = Arc::clone(&parts.judge);
    let readiness = tokio::task::spawn_blocking(move || judge()).await;
    let config = &parts.config;
    let fences = config.cutover.fence;
    let unfenced = here.as_ref().ok().filter(|_| fences);
    let unfenced = unfenced.map(|here| here.lacks.clone()).unwrap_or_default();
    // With a fence the new primary is let write in the hold, by who may.
    let is_read_only = there.as_ref().is_ok_and(|there| there.is_read_only);
    let unlifted = there.as_ref().ok().filter(|_| fences && is_read_only);
    let unlifted = unlifted
        .map(|there| lacks_to_lift(&there.lacks))
        .unwrap_or_default();
    let stops = config.cutover.stop_replication && to.server.fed_by == FedBy::Replication;
    let unstopped = there.as_ref().ok().filter(|_| stops);
    let unstopped = unstopped
        .map(|there| there.lacks_to_stop.clone())
        .unwrap_or_default();
    Ok(Figures {
        readiness: readiness.map_err(|broken| broken.to_string())??,
        is_back,
        unfenced,
        unstopped,
        reach: Reach {
            ledger: ledger(parts),
            disk_bytes: room::disk(&config.ledger.path),
            memory: room::memory(),
            clocks: clocks([(&from, &here), (&to, &there)]),
            clock_max: config.compare.measure.now().clock,
            read_only: is_read_only && (!fences || !unlifted.is_empty()),
            unlifted,
            from: here.err(),
            to: there.err(),
        },
        users: users(parts, &to.server, reachable).await,
        writers: of(&crowd, |crowd| crowd.past.clone()),
        ddl: of(&crowd, |crowd| crowd.ddl.clone()),
        features: features(parts, vitess_there),
        renamed: renamed(parts),
        sessions: states
            .iter()
            .map(|state| session(state, &ages, &connections))
            .collect(),
        unfed: unfed(config, &parts.mirror.control(), &roles),
        from,
        to,
    })
}

/// And those of which the mirror never heard: they said nothing, or what they said passed by.
fn with_the_silent(parts: &Parts, mut states: Vec<SessionState>) -> Vec<SessionState> {
    let heard: BTreeSet<(u64, u32)> = states
        .iter()
        .map(|state| (state.facts.session, state.facts.login))
        .collect();
    let open = parts.relay.open_sessions();
    let silent = open
        .iter()
        .filter(|facts| !heard.contains(&(facts.session, facts.login)));
    states.extend(silent.map(SessionState::fresh));
    states
}

fn of(crowd: &Known<Crowd>, what: impl Fn(&Crowd) -> Vec<String>) -> Known<Vec<String>> {
    crowd.as_ref().map(what).map_err(Clone::clone)
}

fn side(parts: &Parts, server: &Arc<Server>) -> Side {
    let is_first = parts.config.primary.name == server.name;
    Side {
        server: Arc::clone(server),
        section: if is_first { "primary" } else { "shadow" },
    }
}

/// Of those that answered.
fn clocks(visits: [(&Side, &Known<Visit>); 2]) -> Vec<(String, Known<Offset>)> {
    let seen = visits.into_iter().filter_map(|(side, visit)| {
        let visit = visit.as_ref().ok()?;
        Some((side.server.name.clone(), visit.clock.clone()))
    });
    seen.collect()
}

async fn open(parts: &Parts, server: &Server, account: &Account) -> Result<Asker, String> {
    let opened = Asker::open(&*parts.dial, server, account, &Manner::default()).await;
    opened.map_err(|error| error.to_string())
}

/// Who else is on the primary, and how long the transactions of its threads have been open.
async fn look_around(
    parts: &Parts,
    server: &Arc<Server>,
    fleet: &Sessions,
) -> Result<(Crowd, BTreeMap<u32, Duration>), String> {
    let mut known: BTreeSet<u32> = ours(parts).chain(fleet.threads.iter().copied()).collect();
    let (threads, questions) = list(parts, server).await?;
    // Who has logged in meanwhile is no stranger.
    known.extend(ours(parts));
    let account = server.account.as_ref();
    let account = account.map_or("", |account| account.user.as_str());
    let crowd = threads.sort(&known, account, fleet.newest);
    let ages = crowd::transactions(&questions).await.unwrap_or_default();
    Ok((crowd, ages))
}

/// How long the transactions of the primary's threads have been open, as far as it tells.
///
/// # Errors
/// It cannot be asked.
pub(super) async fn transactions(parts: &Parts) -> Result<BTreeMap<u32, Duration>, String> {
    let server = Arc::clone(&parts.roles.borrow().primary);
    let asked = crowd::transactions(&questions(parts, &server)?).await;
    asked.map_err(|error| error.to_string())
}

fn questions(parts: &Parts, server: &Arc<Server>) -> Result<Questions, String> {
    let questions = Questions::new(&parts.dial, server, PER_SECOND);
    let questions = questions.map_err(|error| error.to_string())?;
    questions.ok_or_else(|| format!("the proxy has no account on {}", server.name))
}

/// The primary's list of threads, and who gave it.
async fn list(parts: &Parts, server: &Arc<Server>) -> Result<(Threads, Questions), String> {
    let questions = questions(parts, server)?;
    let threads = crowd::look(&questions).await;
    Ok((threads.map_err(|error| error.to_string())?, questions))
}

fn ledger(parts: &Parts) -> Option<String> {
    let health = parts.ledger.health();
    (!health.ok).then(|| {
        let fault = health
            .last_error
            .unwrap_or_else(|| "it is not known why".to_owned());
        format!("it cannot be written: {fault}")
    })
}

/// Who was seen, and whether they can log in to the other side as themselves.
async fn users(parts: &Parts, to: &Arc<Server>, reachable: bool) -> Vec<User> {
    let mut names: BTreeSet<String> = parts.mirror.users().logins.into_keys().collect();
    // Who has said nothing yet would be carried, too.
    names.extend(parts.relay.census().unheld.into_iter().map(|one| one.user));
    let mut tries = JoinSet::new();
    let together = Arc::new(Semaphore::new(TOGETHER));
    for name in names.iter().take(if reachable { TRIED_MAX } else { 0 }) {
        let Some(account) = login_of(to, name).cloned() else {
            continue;
        };
        let (parts, to, name) = (parts.clone(), Arc::clone(to), name.clone());
        let together = Arc::clone(&together);
        tries.spawn(async move {
            let _turn = together.acquire_owned().await;
            let opened = open(&parts, &to, &account).await;
            let tried = match opened {
                Ok(opened) => {
                    opened.leave().await;
                    Ok(())
                }
                Err(why) => Err(why),
            };
            (name, tried)
        });
    }
    let mut tried = BTreeMap::new();
    let deadline = Instant::now() + TRYING_MAX;
    while let Ok(Some(one)) = timeout_at(deadline, tries.join_next()).await {
        tried.extend(one);
    }
    let user = |name: String| User {
        tried: tried.remove(&name),
        name,
    };
    names.into_iter().map(user).collect()
}

fn features(parts: &Parts, to_vitess: bool) -> Vec<Feature> {
    let seen = parts.mirror.features().into_iter();
    seen.filter(|(name, _)| to_vitess && NOT_IN_VITESS.contains(name))
        .map(|(name, seen)| Feature {
            name: name.to_owned(),
            seen,
        })
        .collect()
}

fn renamed(parts: &Parts) -> Vec<(String, String)> {
    let named = parts.config.shadow.databases.iter();
    named
        .filter(|(here, there)| here != there)
        .map(|(here, there)| (here.clone(), there.clone()))
        .collect()
}

fn session(
    state: &SessionState,
    ages: &BTreeMap<u64, Duration>,
    connections: &BTreeMap<u64, Connection>,
) -> Session {
    let holds = state.stuck.iter().find(|stuck| !stuck.is_unknown());
    let holds = holds.map(|stuck| Holds {
        what: stuck.name().to_owned(),
        // What ends by itself may have begun just now.
        lasts: (*stuck == Stuck::Transaction)
            .then(|| ages.get(&state.facts.session).copied().unwrap_or_default()),
    });
    Session {
        id: state.facts.session,
        user: state.facts.user.clone(),
        connection: connections.get(&state.facts.session).map(|at| at.thread_id),
        unknown: state.unknown().map(|why| why.name().to_owned()),
        holds,
    }
}

//! The roles turn under a running mirror: sessions go on with the other server, each on a connection
//! that the mirror made like it, and what they write there flows back. Once all is carried, both
//! servers hold the same rows.

use super::script::{self, Command};
use super::server::{self, Manner};
use super::store::{self, Store};
use crate::handed::{Session, exchange};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use understudy::config::{Config, Server, Writes};
use understudy::connect::{Dial, Dialing, Stream};
use understudy::ledger::{Commands, Ledger};
use understudy::planted;
use understudy::roles::Roles;
use understudy::shadow::{Carried, CarryError, Mirror, MirrorParts, SessionState, Stuck, Values};
use understudy::tee::{self, Limits, Regard, Tee};
use understudy::wire::answer::{AnswerTracker, Outcome};
use understudy::wire::capability::Capabilities;

const SESSIONS: u64 = 3;
const COMMANDS: usize = 24;
const SEEDS: u64 = 60;

/// Two prompt servers.
struct Servers {
    legacy: Store,
    vitess: Store,
    /// What `vitess` is like.
    manner: Manner,
}

impl Dial for Servers {
    fn dial<'a>(&'a self, server: &'a Server) -> Dialing<'a> {
        let (rows, manner) = if server.name == "legacy" {
            (&self.legacy, Manner::Prompt)
        } else {
            (&self.vitess, self.manner)
        };
        let (near, far) = tokio::io::duplex(64 << 10);
        let record = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(server::serve(far, manner, 0, record, Arc::clone(rows)));
        Box::pin(async move { Ok(Stream::Memory(near)) })
    }
}

/// A mirror between them, and what it was built from.
pub(super) struct House {
    servers: Arc<Servers>,
    pub(super) mirror: Mirror,
    ledger: Ledger,
    tee: Tee,
    config: Arc<Config>,
}

impl House {
    pub(super) fn build() -> Self {
        Self::with(Manner::Prompt)
    }

    fn with(manner: Manner) -> Self {
        Self::with_config(manner, config())
    }

    fn with_config(manner: Manner, config: Config) -> Self {
        let servers = Arc::new(Servers {
            legacy: store::store(),
            vitess: store::store(),
            manner,
        });
        let (tee, receiver) = tee::door(Limits::default());
        let ledger = Ledger::in_memory({
            let tee = tee.clone();
            Arc::new(move || Commands {
                handed: tee.handed(),
                lost: tee.lost(),
                passed: tee.passed(),
            })
        });
        let config = Arc::new(config);
        let (_writer, roles) = watch::channel(Roles {
            primary: Arc::new(config.primary.clone()),
            shadow: Arc::new(config.shadow.clone()),
        });
        let mirror = Mirror::start(MirrorParts {
            config: Arc::clone(&config),
            roles,
            dial: Arc::clone(&servers) as Arc<dyn Dial>,
            receiver,
            ledger: ledger.clone(),
        })
        .expect("a mirror");
        Self {
            servers,
            mirror,
            ledger,
            tee,
            config,
        }
    }

    /// `back`: the legacy server is the primary again.
    pub(super) fn roles(&self, back: bool) -> Roles {
        let (one, other) = (&self.config.primary, &self.config.shadow);
        let (primary, shadow) = if back { (one, other) } else { (other, one) };
        Roles {
            primary: Arc::new(primary.clone()),
            shadow: Arc::new(shadow.clone()),
        }
    }

    async fn log_in(&self, session: u64) -> Session {
        let dialled = self.servers.dial(&self.config.primary).await;
        let Stream::Memory(mut stream) = dialled.expect("a stream") else {
            unreachable!("all streams are memory")
        };
        super::client::log_in(&mut stream).await.expect("a login");
        let capabilities = Capabilities(script::CAPABILITIES);
        Session::new(session, Stream::Memory(stream), capabilities, &self.tee)
    }
}

fn config() -> Config {
    let text = "[listen]\naddress = \"127.0.0.1:0\"\n\
        [primary]\nname = \"legacy\"\naddress = \"127.0.0.1:1\"\n\
        [primary.users]\napp = { user = \"app\", password = \"app\" }\n\
        [shadow]\nname = \"vitess\"\naddress = \"127.0.0.1:2\"\n\
        [shadow.users]\napp = { user = \"app\", password = \"app\" }\n\
        [mirror]\nwrites = \"apply\"\ntimeout_ms = 5000\nidle_s = 1\n\
        [ledger]\npath = \"unused.db\"\n";
    Config::parse(text, &[]).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A session's script, without what makes a pipe of it.
fn commands(seed: u64, session: u64) -> Vec<Command> {
    let mut all = script::commands(seed, session, COMMANDS);
    all.retain(|one| !matches!(one.payload[0], 0x12 | 0x15 | 0x1E));
    all
}

fn run<T>(play: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(play)
}

/// Half of the commands before a turn, half after it, in an order drawn from the seed; with
/// `back`, three thirds and two turns.
async fn play(seed: u64, back: bool) {
    planted::plant_jobs_max(super::world::jobs_max(seed));
    let house = House::build();
    planted::plant_jobs_max(None);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let script = commands(seed, number).into_iter();
        sessions.push((house.log_in(number).await, script));
    }
    let parts = if back { 3 } else { 2 };
    let mut early = Vec::new();
    for part in 0..parts {
        for _ in 0..SESSIONS as usize * COMMANDS / parts {
            let (session, script) = &mut sessions[rng.random_range(0..SESSIONS as usize)];
            if let Some(command) = script.next() {
                session.say(&command.payload).await;
            }
            if rng.random_range(0..40u32) == 0 {
                tokio::time::sleep(Duration::from_secs(2)).await; // replays are parked
            }
        }
        if part + 1 == parts {
            break;
        }
        // Some are prepared before their last commands, some behind them.
        early.clear();
        for (session, script) in &mut sessions {
            let prepared = if session.in_transaction {
                None
            } else {
                let state = session.state(&house.mirror).await;
                Some(house.mirror.prepare(&state).await.expect("prepared"))
            };
            early.push(prepared);
            if let Some(command) = script.next() {
                session.say(&command.payload).await;
            }
            if session.in_transaction {
                session.query("COMMIT").await;
            }
        }
        turn(&house, &mut sessions, &mut early, part == 1).await;
    }
    for (session, _) in &mut sessions {
        session.query("ROLLBACK").await;
        house.tee.closed(&session.facts, tee::End::Left);
    }
    house.mirror.drain(Duration::from_secs(60)).await;
    judge(&house, seed);
}

async fn turn(
    house: &House,
    sessions: &mut [(Session, std::vec::IntoIter<Command>)],
    early: &mut [Option<Carried>],
    back: bool,
) {
    house.mirror.drained().await.expect("a mirror");
    assert_eq!(house.ledger.taints(), []);
    let legacy = house.servers.legacy.lock().unwrap().clone();
    assert_eq!(
        legacy,
        *house.servers.vitess.lock().unwrap(),
        "once drained"
    );
    for (at, (session, _)) in sessions.iter_mut().enumerate() {
        let carried = match early[at].take() {
            Some(carried) => carried,
            None => {
                let state = session.state(&house.mirror).await;
                house.mirror.prepare(&state).await.expect("prepared")
            }
        };
        session.move_to(&house.mirror, carried).await;
    }
    for _ in 0..2 {
        // Safe to run again.
        house
            .mirror
            .turn(house.roles(back))
            .await
            .expect("a mirror");
    }
}

fn judge(house: &House, seed: u64) {
    let coverage = house.ledger.coverage();
    assert_eq!(coverage.pending, 0, "seed {seed}: {coverage:?}");
    assert_eq!(coverage.commands, house.tee.handed(), "seed {seed}");
    assert_eq!(coverage.diverged, 0, "seed {seed}: {coverage:?}");
    let judged = coverage.matched + coverage.tolerated;
    assert!(
        judged * 10 > coverage.commands * 6,
        "seed {seed}: {coverage:?}"
    );
    assert_eq!(house.ledger.taints(), [], "seed {seed}");
    let legacy = house.servers.legacy.lock().unwrap();
    assert_eq!(
        *legacy,
        *house.servers.vitess.lock().unwrap(),
        "seed {seed}"
    );
}

#[test]
fn what_is_written_after_a_turn_flows_back() {
    for seed in 0..SEEDS {
        run(play(seed, false));
    }
}

#[test]
fn it_turns_there_and_back() {
    for seed in 0..SEEDS {
        run(play(seed, true));
    }
}

/// What the server says of a connection, once the values are set: all that it is.
async fn whole(mut carried: Carried, values: &Values) -> (u64, Vec<u32>, Option<u32>, u16) {
    carried.set_values(values).await.expect("set");
    let mut parts = carried.into_parts();
    let mut tracker = AnswerTracker::new(Capabilities(script::CAPABILITIES), 0);
    let answer = exchange(&mut parts.stream, &mut tracker, b"\x03STATE").await;
    let Some(Outcome::Ok(done)) = answer.results.first() else {
        panic!("{answer:?}")
    };
    let ids = parts.statements.iter().map(|(id, _)| *id).collect();
    (done.affected_rows, ids, parts.last, parts.status.0)
}

#[test]
fn a_connection_that_caught_up_is_the_one_that_would_be_opened_now() {
    let mut with_statements = 0;
    for seed in 0..SEEDS {
        with_statements += run(caught_up(seed));
    }
    assert!(with_statements > 20, "hardly anything was prepared");
}

/// Behind each command: a connection from the command before, and a fresh one. Says how often a
/// statement was on them.
async fn caught_up(seed: u64) -> u32 {
    let house = House::build();
    let mut session = house.log_in(1).await;
    let state = SessionState::fresh(&session.facts);
    let mut old = house.mirror.prepare(&state).await.expect("prepared");
    let mut with_statements = 0;
    for command in commands(seed, 1) {
        session.say(&command.payload).await;
        if session.in_transaction {
            continue;
        }
        let state = session.state(&house.mirror).await;
        let prepare = || async { house.mirror.prepare(&state).await.expect("prepared") };
        let (fresh, next) = (prepare().await, prepare().await);
        old.catch_up(&state).await.expect("caught up");
        let values = session.values(&house.mirror, &state).await;
        let (old_one, fresh) = (whole(old, &values).await, whole(fresh, &values).await);
        assert_eq!(old_one, fresh, "seed {seed} behind {command:?}");
        let is_like_it = exchange(&mut session.stream, &mut session.tracker, b"\x03STATE").await;
        let Some(Outcome::Ok(done)) = is_like_it.results.first() else {
            panic!("{is_like_it:?}")
        };
        assert_eq!(
            fresh.0, done.affected_rows,
            "seed {seed} behind {command:?}"
        );
        with_statements += u32::from(!fresh.1.is_empty());
        old = next;
    }
    house.mirror.drain(Duration::from_secs(60)).await;
    with_statements
}

#[test]
fn a_reset_and_a_pause_go_through_a_turn() {
    run(async {
        let house = House::build();
        let mut session = house.log_in(1).await;
        session.query("SET @a = 5").await;
        let state = session.state(&house.mirror).await;
        let mut carried = house.mirror.prepare(&state).await.expect("prepared");
        session.say(&[0x1F]).await;
        session.query("USE spare").await;
        let state = session.state(&house.mirror).await;
        carried.catch_up(&state).await.expect("caught up");
        let fresh = house.mirror.prepare(&state).await.expect("prepared");
        let none = Values::default();
        assert_eq!(whole(carried, &none).await, whole(fresh, &none).await);
        let control = house.mirror.change_control(|control| {
            control.paused = true;
            *control
        });
        let opened = house.mirror.figures().opened;
        house
            .mirror
            .turn(house.roles(false))
            .await
            .expect("a mirror");
        assert_eq!(house.mirror.control(), control);
        assert_eq!(house.mirror.figures().opened, opened);
    });
}

#[test]
fn what_the_old_primary_answered_after_a_turn_is_not_run_on_it_again() {
    run(async {
        let house = House::build();
        let mut session = house.log_in(1).await;
        session.query("UPDATE t1 SET v = v + 1 WHERE id = 1").await;
        house
            .mirror
            .turn(house.roles(false))
            .await
            .expect("a mirror");
        session.query("UPDATE t1 SET v = v + 1 WHERE id = 1").await;
        house.mirror.drained().await.expect("a mirror");
        let key = ("app".to_owned(), "t1".to_owned());
        let value = |store: &Store| store.lock().unwrap()[&key][&1];
        assert_eq!(
            (value(&house.servers.legacy), value(&house.servers.vitess)),
            (2, 1)
        );
        let tainted = house.ledger.taints();
        assert_eq!(tainted.len(), 1, "{tainted:?}");
        assert_eq!(tainted[0].table, "t1");
    });
}

#[test]
fn a_session_in_a_transaction_is_told_and_so_is_one_that_said_nothing() {
    run(async {
        let house = House::build();
        let mut session = house.log_in(1).await;
        let silent = house.log_in(2).await;
        assert!(house.mirror.sessions().await.expect("a mirror").is_empty());
        session.query("BEGIN").await;
        assert_eq!(
            session.state(&house.mirror).await.stuck,
            [Stuck::Transaction]
        );
        let state = silent.state(&house.mirror).await;
        assert_eq!((state.stuck.len(), state.last_insert_id), (0, Some(0)));
        assert_eq!(state.database(), "app");
        session.query("COMMIT").await;
        let all = house.mirror.sessions().await.expect("a mirror");
        assert_eq!(all.len(), 1);
        assert!(all[0].is_free() && all[0].soft.is_empty());
        assert_eq!(house.mirror.users().logins.get("app"), Some(&1));
    });
}

#[test]
fn a_session_that_vanished_in_a_transaction_leaves_nothing_open_once_drained() {
    run(async {
        let house = House::build();
        for number in 0..20 {
            let mut session = house.log_in(number).await;
            session.query("BEGIN").await;
            session.query("UPDATE t1 SET v = v + 1 WHERE id = 1").await;
            if number % 2 == 0 {
                house.mirror.drained().await.expect("a mirror");
                assert!(house.mirror.figures().connections > 0);
            }
            house.tee.closed(&session.facts, tee::End::Vanished);
            house.mirror.drained().await.expect("a mirror");
            assert_eq!(house.mirror.figures().connections, 0, "session {number}");
        }
        assert_eq!(house.ledger.taints(), []);
    });
}

#[test]
fn what_the_other_server_lacks_is_said_before_a_session_moves() {
    run(async {
        let house = House::with(Manner::Limited);
        let mut session = house.log_in(1).await;
        let mut opened = None;
        for (text, lacks) in [
            ("SET @a = 1", None),
            ("SET @a := 2", Some("@a")),
            ("SET @a = 3", None),
            ("USE spare", Some("the database spare")),
        ] {
            session.query(text).await;
            let state = session.state(&house.mirror).await;
            let fresh = house.mirror.prepare(&state).await;
            let refusal = fresh.as_ref().err().map(CarryError::to_string);
            match lacks {
                None => assert_eq!(refusal, None, "{text}"),
                Some(lacks) => assert!(refusal.is_some_and(|why| why.contains(lacks)), "{text}"),
            }
            opened = fresh.ok().or(opened);
        }
        let state = session.state(&house.mirror).await;
        let caught_up = opened.expect("one").catch_up(&state).await;
        assert!(matches!(caught_up, Err(CarryError::Database(name)) if name == "spare"));
    });
}

#[test]
fn a_session_whose_user_is_not_let_in_is_told_so() {
    run(async {
        let house = House::with(Manner::Refusing);
        let session = house.log_in(1).await;
        let state = session.state(&house.mirror).await;
        let refused = house.mirror.prepare(&state).await;
        assert!(
            matches!(refused, Err(CarryError::Account(_))),
            "{refused:?}"
        );
    });
}

/// Many sessions, nearly all of them idle: what an idle one holds is its desk, and no more. What it had is
/// opened anew as it was.
#[test]
fn an_idle_session_has_neither_a_connection_to_the_shadow_nor_a_replay() {
    run(async {
        let house = House::build();
        let mut sessions = Vec::new();
        for number in 0..20 {
            let mut session = house.log_in(number).await;
            session.query("SET @a = 7").await;
            session.query("SELECT 1").await;
            sessions.push(session);
        }
        let (busy, idle) = sessions.split_at_mut(1);
        idle[0].query("BEGIN").await;
        house.mirror.drained().await.expect("a mirror");
        let figures = house.mirror.figures();
        assert_eq!((figures.replays, figures.connections), (20, 20));
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            busy[0].query("SELECT 1").await;
        }
        let figures = house.mirror.figures();
        // One is busy, and one has a transaction open.
        assert_eq!((figures.replays, figures.connections), (2, 2));
        assert_eq!(figures.sessions, 20, "they are mirrored all the same");
        idle[0].query("COMMIT").await;
        for session in &mut *idle {
            session.query("SELECT @a").await;
        }
        house.mirror.drained().await.expect("a mirror");
        let figures = house.mirror.figures();
        assert_eq!((figures.replays, figures.connections), (20, 20));
        assert_eq!(figures.opened, 20 + 18);
        let coverage = house.ledger.coverage();
        assert_eq!(coverage.matched, coverage.commands, "{coverage:?}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let figures = house.mirror.figures();
        assert_eq!((figures.replays, figures.connections), (0, 0));
        for session in &sessions {
            house.tee.closed(&session.facts, tee::End::Left);
        }
        house.mirror.drained().await.expect("a mirror");
        assert_eq!(house.mirror.figures().sessions, 0);
    });
}

/// More sessions than connections: who needs one gets that of whoever has been idle longest, long before
/// `mirror.idle_s`.
#[test]
fn a_connection_goes_from_who_is_idle_to_who_needs_it() {
    run(async {
        let mut config = config();
        config.mirror.connections_max = 2;
        config.mirror.idle = Duration::from_secs(3600);
        let house = House::with_config(Manner::Prompt, config);
        for round in 0..3 {
            for number in 0..8 {
                let mut session = house.log_in(round * 8 + number).await;
                session.query("SELECT 1").await;
                house.mirror.drained().await.expect("a mirror");
            }
        }
        let figures = house.mirror.figures();
        assert_eq!((figures.connections, figures.opened), (2, 24));
        let coverage = house.ledger.coverage();
        assert_eq!(
            (coverage.commands, coverage.matched),
            (24, 24),
            "{coverage:?}"
        );
    });
}

/// Many ask at one instant for the connections of those who have been idle for too short a time yet: once
/// they have been idle for long enough, each ask moves one, and no more.
#[test]
fn as_many_connections_go_to_who_needs_one_as_are_asked_for() {
    run(async {
        let mut config = config();
        config.mirror.connections_max = 20;
        config.mirror.idle = Duration::from_secs(3600);
        assert!(config.mirror.order_wait.now() >= Duration::from_secs(1));
        let house = House::with_config(Manner::Prompt, config);
        for number in 0..20 {
            house.log_in(number).await.query("SELECT 1").await;
        }
        house.mirror.drained().await.expect("a mirror");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut late = Vec::new();
        for number in 20..30 {
            late.push(house.log_in(number).await);
        }
        for session in &mut late {
            session.query("SELECT 1").await;
        }
        house.mirror.drained().await.expect("a mirror");
        let figures = house.mirror.figures();
        assert_eq!((figures.connections, figures.opened), (20, 30));
        let coverage = house.ledger.coverage();
        assert_eq!(
            (coverage.commands, coverage.matched),
            (30, 30),
            "{coverage:?}"
        );
    });
}

/// A transaction that was not mirrored leaves nothing behind its COMMIT.
#[test]
fn a_session_whose_last_transaction_was_not_mirrored_is_parted_from_its_replay() {
    run(async {
        let house = House::build();
        let mut session = house.log_in(1).await;
        session.query("SELECT 1").await;
        house.mirror.drained().await.expect("a mirror");
        house.mirror.change_control(|control| control.paused = true);
        for text in ["BEGIN", "SELECT 1"] {
            session.query(text).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(house.mirror.figures().replays, 1, "a transaction is open");
        session.query("COMMIT").await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(house.mirror.figures().replays, 0);
        house
            .mirror
            .change_control(|control| control.paused = false);
        session.query("SELECT 1").await;
        house.mirror.drained().await.expect("a mirror");
        assert_eq!(house.mirror.figures().replays, 1);
        assert_eq!(house.ledger.coverage().matched, 2);
    });
}

/// Switches hold from a session's next transaction on: one that is open goes on as it began, to its end.
#[test]
fn a_transaction_that_is_open_when_the_mirror_is_paused_is_compared_to_its_end() {
    run(async {
        let house = House::build();
        let mut session = house.log_in(1).await;
        for text in ["BEGIN", "SELECT 1"] {
            session.query(text).await;
        }
        house.mirror.drained().await.expect("a mirror");
        house.mirror.change_control(|control| control.paused = true);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(
            house.tee.regard() == Regard::Compare,
            "a transaction is open"
        );
        for text in ["SELECT 1", "COMMIT"] {
            session.query(text).await;
        }
        house.mirror.drained().await.expect("a mirror");
        assert_eq!(house.ledger.coverage().matched, 4);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(house.tee.regard(), Regard::Follow);
    });
}

/// The rows of an answer that nobody was to compare have no digest; one that began then is not compared.
#[test]
fn answers_are_compared_from_the_moment_the_mirror_is_switched_on() {
    run(async {
        let house = House::build();
        let mut session = house.log_in(1).await;
        let control = house.mirror.control();
        for _ in 0..3 {
            house.mirror.change_control(|control| {
                (control.reads, control.writes) = (false, Writes::Off);
            });
            session.query("SELECT 1").await;
            house.mirror.drained().await.expect("a mirror");
            // Answers are digested until the last transaction of before has ended.
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(house.tee.regard(), Regard::Follow);
            session.query("SELECT 1").await;
            house.mirror.change_control(|now| *now = control);
            assert!(house.tee.regard() == Regard::Compare);
            // The dispatcher may see the one before by the switches of now.
            session.query("SELECT 1").await;
            house.mirror.drained().await.expect("a mirror");
        }
        let coverage = house.ledger.coverage();
        assert_eq!(
            (coverage.commands, coverage.matched, coverage.diverged),
            (9, 3, 0),
            "{coverage:?}"
        );
    });
}

/// What passes by unobserved is counted, taints all that it may have written, and leaves a session that nobody
/// knows any more.
#[test]
fn what_passed_by_is_off_and_its_session_is_taken_up_once_it_has_reconnected() {
    run(async {
        let house = House::build();
        let mut session = house.log_in(1).await;
        let control = house.mirror.control();
        house.mirror.change_control(|control| {
            (control.reads, control.writes) = (false, Writes::Off);
            control.observe = false;
        });
        // The transactions of before come to their end first.
        while house.tee.regard() != Regard::Nothing {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(house.mirror.passes_by(), Some(true));
        assert_eq!(house.ledger.taints(), [], "nothing has passed by");
        let wait_for_taint = async || {
            while house.ledger.taints().is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            house
                .ledger
                .clear_taints(&["*".to_owned()], "ops", "verified");
        };
        for text in ["SET @a = 5", "USE spare"] {
            session.query(text).await;
            wait_for_taint().await;
        }
        let state = house.mirror.session(&session.facts).await;
        let state = state.expect("a mirror");
        assert!(state.unknown().is_some(), "it has no journal: {state:?}");
        // Its transaction is open when the mirror comes back: nobody knows what it will commit.
        session.query("BEGIN").await;
        wait_for_taint().await;
        house.mirror.change_control(|now| *now = control);
        session.query("SELECT 1").await;
        house.log_in(2).await.query("SELECT 1").await;
        house.mirror.drained().await.expect("a mirror");
        assert_eq!(house.ledger.taints(), [], "nothing passed by since");
        session.query("COMMIT").await;
        house.mirror.drained().await.expect("a mirror");
        assert_eq!(house.ledger.taints().len(), 1, "any table");
        let coverage = house.ledger.coverage();
        assert_eq!(coverage.commands, 6, "{coverage:?}");
        assert_eq!(coverage.not_compared.get("off"), Some(&3), "{coverage:?}");
        assert_eq!(
            coverage.not_compared.get("dropped"),
            Some(&2),
            "{coverage:?}"
        );
        assert_eq!(
            (coverage.pending, coverage.diverged),
            (0, 0),
            "{coverage:?}"
        );
    });
}

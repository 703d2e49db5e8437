//! A shadow that hangs or crawls: what would only wait there lies unread. Nothing that is said, asked or
//! judged meanwhile is another for it. Four commands at the replays are many here, two of one session.

use super::script;
use super::server::{self, Manner};
use super::store::{self, Store};
use crate::handed::Session;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use understudy::config::{Config, Server};
use understudy::connect::{Dial, Dialing, Stream};
use understudy::ledger::{Commands, Ledger};
use understudy::planted;
use understudy::roles::Roles;
use understudy::shadow::{Mirror, MirrorParts};
use understudy::tee::{self, End, Limits, Regard, Tee};
use understudy::wire::capability::Capabilities;

const JOBS: usize = 4;

const READ: &str = "SELECT id FROM t1 WHERE id = 1";
const WRITE: &str = "UPDATE t1 SET v = v + 1 WHERE id = 1";

/// The dispatcher and the replays come to rest, but for what hangs.
const MOMENT: Duration = Duration::from_millis(50);

/// Two servers. Of the shadow's connections, counted from 0, these hang.
pub struct Servers {
    pub legacy: Store,
    pub vitess: Store,
    pub hung: watch::Sender<BTreeSet<usize>>,
    /// The shadow has what it lacked: it says two rows where it said one.
    agrees: AtomicBool,
    opened: AtomicUsize,
    /// The shadow takes so many milliseconds for each command.
    pub takes_ms: AtomicU64,
    /// Who asks the primary with an account of the proxy's own hears nothing.
    pub is_silent: AtomicBool,
}

impl Servers {
    pub fn start() -> Arc<Self> {
        Arc::new(Self {
            legacy: store::store(),
            vitess: store::store(),
            hung: watch::Sender::new(BTreeSet::new()),
            agrees: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            takes_ms: AtomicU64::new(0),
            is_silent: AtomicBool::new(false),
        })
    }

    pub fn serve(store: &Store) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 << 10);
        let record = Arc::new(Mutex::new(Vec::new()));
        let store = Arc::clone(store);
        tokio::spawn(server::serve(far, Manner::Prompt, 0, record, store));
        near
    }

    /// What the shadow is sent stays on its way while the connection hangs.
    fn through_a_valve(self: Arc<Self>) -> DuplexStream {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let mut hung = self.hung.subscribe();
        let server = Self::serve(&self.vitess);
        let (near, far) = tokio::io::duplex(64 << 10);
        tokio::spawn(async move {
            let (mut from_mirror, mut to_mirror) = tokio::io::split(far);
            let (mut from_server, mut to_server) = tokio::io::split(server);
            let there = async move {
                let mut bytes = vec![0; 4096];
                loop {
                    let read = from_mirror.read(&mut bytes).await.unwrap_or(0);
                    let opens = hung
                        .wait_for(|hung| !hung.contains(&number))
                        .await
                        .map(drop);
                    if read == 0 || opens.is_err() {
                        break;
                    }
                    let mut windows = bytes[..read].windows(READ.len());
                    let one = windows.position(|at| at == READ.as_bytes());
                    if let Some(at) = one.filter(|_| self.agrees.load(Ordering::Relaxed)) {
                        let end = at + READ.len();
                        bytes[end - 12..end].copy_from_slice(b"     LIMIT 2");
                    }
                    sleep(Duration::from_millis(self.takes_ms.load(Ordering::Relaxed))).await;
                    let sent = to_server.write_all(&bytes[..read]).await;
                    if sent.is_err() {
                        break;
                    }
                }
                let _gone = to_server.shutdown().await;
            };
            let back = tokio::io::copy(&mut from_server, &mut to_mirror);
            let _both = tokio::join!(there, back);
        });
        near
    }
}

pub struct Ways(pub Arc<Servers>);

impl Dial for Ways {
    fn dial<'a>(&'a self, server: &'a Server) -> Dialing<'a> {
        if server.name == "legacy" && self.0.is_silent.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        let near = if server.name == "legacy" {
            Servers::serve(&self.0.legacy)
        } else {
            Arc::clone(&self.0).through_a_valve()
        };
        Box::pin(async move { Ok(Stream::Memory(near)) })
    }
}

/// A mirror, and sessions of which each has a connection to the shadow, by its number.
struct House {
    servers: Arc<Servers>,
    mirror: Mirror,
    ledger: Ledger,
    tee: Tee,
    sessions: Vec<Session>,
}

impl House {
    async fn of(sessions: usize, limits: Limits) -> Self {
        Self::with(sessions, limits, Some(JOBS)).await
    }

    async fn with(sessions: usize, limits: Limits, jobs: Option<usize>) -> Self {
        let servers = Servers::start();
        let (tee, receiver) = tee::door(limits);
        let ledger = Ledger::in_memory({
            let tee = tee.clone();
            Arc::new(move || Commands {
                handed: tee.handed(),
                lost: tee.lost(),
                passed: tee.passed(),
            })
        });
        let config = Arc::new(config());
        let (_writer, roles) = watch::channel(Roles {
            primary: Arc::new(config.primary.clone()),
            shadow: Arc::new(config.shadow.clone()),
        });
        planted::plant_jobs_max(jobs);
        let mirror = Mirror::start(MirrorParts {
            config,
            roles,
            dial: Arc::new(Ways(Arc::clone(&servers))),
            receiver,
            ledger: ledger.clone(),
        })
        .expect("a mirror");
        planted::plant_jobs_max(None);
        let mut house = Self {
            servers,
            mirror,
            ledger,
            tee,
            sessions: Vec::new(),
        };
        for number in 0..sessions {
            let mut stream = Servers::serve(&house.servers.legacy);
            super::client::log_in(&mut stream).await.expect("a login");
            let capabilities = Capabilities(script::CAPABILITIES);
            let stream = Stream::Memory(stream);
            let mut session = Session::new(number as u64, stream, capabilities, &house.tee);
            session.query("SELECT 1").await;
            house.mirror.drained().await.expect("a mirror");
            house.sessions.push(session);
        }
        assert_eq!(house.mirror.figures().connections, sessions as u64);
        house
    }

    /// These connections to the shadow hang from here on, and no others.
    fn hang(&self, connections: impl IntoIterator<Item = usize>) {
        let hung = connections.into_iter().collect();
        self.servers.hung.send_replace(hung);
    }

    async fn say(&mut self, session: usize, text: &str, times: usize) {
        for _ in 0..times {
            self.sessions[session].query(text).await;
        }
        sleep(MOMENT).await;
    }

    fn unread(&self) -> u64 {
        self.mirror.figures().unread
    }

    fn matched(&self) -> u64 {
        self.ledger.coverage().matched
    }

    /// All is done, each command has its verdict, and both servers hold the same.
    async fn ends(&self) {
        self.hang([]);
        self.mirror.drained().await.expect("a mirror");
        sleep(Duration::from_secs(60)).await;
        let figures = self.mirror.figures();
        assert_eq!((figures.unread, figures.waiting), (0, 0));
        let coverage = self.ledger.coverage();
        assert_eq!(coverage.pending, 0, "{coverage:?}");
        assert_eq!(coverage.commands, self.tee.handed());
        assert_eq!(self.tee.lost() + self.tee.stubbed(), 0);
        assert_eq!(self.ledger.taints(), []);
        assert!(self.has_the_same_rows());
    }

    fn has_the_same_rows(&self) -> bool {
        let legacy = self.servers.legacy.lock().unwrap();
        *legacy == *self.servers.vitess.lock().unwrap()
    }
}

fn config() -> Config {
    config_of("", "")
}

/// With these lines more below `[primary]` and `[mirror]`.
pub fn config_of(primary: &str, mirror: &str) -> Config {
    let text = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n\
        [primary]\nname = \"legacy\"\naddress = \"127.0.0.1:1\"\n{primary}\
        [shadow]\nname = \"vitess\"\naddress = \"127.0.0.1:2\"\n\
        [shadow.users]\napp = {{ user = \"app\", password = \"app\" }}\n\
        [mirror]\nwrites = \"apply\"\ntimeout_ms = 3600000\norder_wait_ms = 600000\nidle_s = 3600\n\
        breaker_lag_ms = 30000\n{mirror}\
        [ledger]\npath = \"unused.db\"\n"
    );
    Config::parse(&text, &[]).unwrap_or_else(|faults| panic!("{faults:?}"))
}

pub fn run(play: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(play);
}

#[test]
fn what_comes_while_the_shadow_hangs_is_counted_at_once_and_done_in_the_end() {
    run(async {
        let mut house = House::of(3, Limits::default()).await;
        house.hang(0..3);
        let began = Instant::now() - Duration::from_secs(5); // a slot of the pulse
        for _ in 0..5 {
            for session in 0..3 {
                house.sessions[session].query(WRITE).await;
                house.say(session, READ, 1).await;
            }
        }
        let figures = house.mirror.figures();
        assert!(figures.unread > 15, "{figures:?}");
        assert_eq!(figures.waiting, 30);
        assert!(figures.oldest > MOMENT * 10, "{figures:?}");
        let answers = house.mirror.pulse(began, Instant::now()).answers;
        assert_eq!(answers, 33, "how the primary answers is known at once");
        assert_eq!(house.matched(), 3);
        house.ends().await;
        assert_eq!(house.matched(), 33);
    });
}

/// Far fewer than make the shadow be far behind, all of one session.
#[test]
fn the_relay_has_its_buffers_back_from_what_waits_behind_others_of_its_session() {
    run(async {
        let mut house = House::with(1, Limits::default(), None).await;
        house.hang([0]);
        let long = format!("{READ} /* {} */", "-".repeat(500));
        let buffer = |house: &House| house.tee.blank(&house.sessions[0].facts).command.capacity();
        house.say(0, &long, 4).await;
        assert!(buffer(&house) < long.len(), "they are with the replay");
        house.say(0, &long, 16).await;
        assert_eq!(house.unread(), 0);
        assert!(buffer(&house) > long.len());
        house.ends().await;
        assert_eq!(house.matched(), 21);
    });
}

#[test]
fn who_asks_how_a_session_stands_hears_of_all_that_it_said() {
    run(async {
        let mut house = House::of(1, Limits::default()).await;
        house.hang([0]);
        house.say(0, READ, 20).await;
        assert!(house.unread() > 10);
        // It asserts that its last command is among them.
        let state = house.sessions[0].state(&house.mirror).await;
        assert_eq!(state.seq, 21);
        house.ends().await;
        assert_eq!(house.matched(), 21);
    });
}

#[test]
fn one_session_with_a_slow_command_holds_no_other_up() {
    run(async {
        let mut house = House::of(3, Limits::default()).await;
        house.hang([0]);
        let slow = "SELECT id FROM t3 WHERE id = 1";
        house.say(0, slow, 30).await;
        assert!(house.unread() > 20, "nobody else says anything");
        for round in 1..=5 {
            house.say(1, READ, 1).await;
            house.say(2, WRITE, 1).await;
            assert_eq!(house.matched(), 3 + 2 * round);
            house.say(0, slow, 10).await;
        }
        house.ends().await;
        assert_eq!(house.matched(), 3 + 80 + 10);
    });
}

/// Finding: where more were slow than quick, the quick ones waited for the slow ones.
#[test]
fn several_sessions_with_slow_commands_hold_no_other_up_for_long() {
    run(async {
        let mut house = House::of(6, Limits::default()).await;
        house.hang(0..4);
        for session in 0..4 {
            house.say(session, READ, 30).await;
        }
        for round in 1..=5 {
            house.say(0, READ, 10).await;
            house.say(4, READ, 1).await;
            house.say(5, WRITE, 1).await;
            sleep(Duration::from_millis(1_300)).await;
            assert_eq!(house.matched(), 6 + 2 * round);
        }
        house.ends().await;
        assert_eq!(house.matched(), 6 + 4 * 30 + 5 * 12);
    });
}

/// Finding: sessions that said a command now and then had all that the others said read, given places and jobs.
#[test]
fn where_the_shadow_hangs_who_says_little_keeps_no_door_open() {
    run(async {
        let mut house = House::of(12, Limits::default()).await;
        house.hang(0..12);
        for session in [0, 1] {
            house.say(session, READ, 20).await;
        }
        sleep(Duration::from_secs(3)).await;
        for session in 2..8 {
            house.say(session, READ, 1).await;
            house.say(0, READ, 20).await;
            sleep(Duration::from_millis(900)).await;
        }
        assert!(house.unread() > 80, "{:?}", house.mirror.figures());
        house.ends().await;
        assert_eq!(house.matched(), 12 + 2 * 20 + 6 * 21);
    });
}

#[test]
fn what_lies_there_is_let_in_a_little_at_a_time_and_the_tee_is_received_in_between() {
    const LIE: usize = 5_000;
    const A_TURN: usize = 300;
    run(async {
        let limits = Limits {
            slots: 512,
            ..Limits::default()
        };
        let mut house = House::of(1, limits).await;
        house.hang([0]);
        for _ in 0..LIE / 100 {
            house.say(0, READ, 100).await;
        }
        assert!(house.unread() as usize > LIE - 10);
        // While all of it is let in, commands keep coming, and others have their turns.
        let others = house.sessions[0].facts.clone();
        let asked = house.mirror.session(&others);
        tokio::pin!(asked);
        let mut turns = 0;
        loop {
            tokio::select! {
                biased;
                state = &mut asked => {
                    state.expect("a mirror");
                    break;
                }
                () = tokio::task::yield_now() => {}
            }
            turns += 1;
            for _ in 0..A_TURN {
                house.sessions[0].says_again();
            }
            assert_eq!(house.tee.lost(), 0, "in turn {turns}");
        }
        assert!(turns > LIE / (A_TURN + 400), "{turns} turns");
        assert!(turns < LIE / 100, "{turns} turns");
        house.ends().await;
        assert_eq!(house.matched() as usize, 1 + LIE + turns * A_TURN);
    });
}

/// A read that the primary answered while a commit was under way, and that the shadow answers while the
/// commit lies unread. The shadow agrees this much later, if it does.
async fn a_read_meets(commit: &str, agrees: Option<Duration>) -> House {
    let mut house = House::of(3, Limits::default()).await;
    house.hang(0..3);
    let then = Instant::now();
    // The shadow says one row.
    let two_rows = "SELECT id FROM t1 LIMIT 2";
    house.sessions[0].say_from(then, READ, two_rows).await;
    sleep(MOMENT).await;
    house.say(1, "SELECT 1", 3).await;
    house.say(2, "SELECT 1", 3).await;
    house.sessions[1].say_from(then, commit, commit).await;
    sleep(MOMENT).await;
    assert!(house.unread() > 0);
    house.hang([1, 2]);
    if let Some(time) = agrees {
        sleep(time).await;
        house.servers.agrees.store(true, Ordering::Relaxed);
    }
    sleep(Duration::from_secs(20)).await;
    assert!(house.unread() > 0, "it lies there still");
    assert_eq!(house.ledger.coverage().diverged, 0, "before all is known");
    house
}

#[test]
fn a_read_that_met_a_commit_which_lies_unread_is_no_divergence() {
    run(async {
        let house = a_read_meets(WRITE, None).await;
        house.ends().await;
        let coverage = house.ledger.coverage();
        assert_eq!(coverage.diverged, 0, "{coverage:?}");
        assert_eq!(house.matched(), 3 + 7);
    });
}

#[test]
fn one_that_met_none_is_one_once_all_is_known() {
    run(async {
        let house = a_read_meets("UPDATE t2 SET v = v + 1 WHERE id = 1", None).await;
        house.ends().await;
        let coverage = house.ledger.coverage();
        assert_eq!(coverage.diverged, 1, "{coverage:?}");
    });
}

/// Finding: it was looked at once, for somebody may have written to the table, and nobody had.
#[test]
fn one_that_passes_is_none_though_something_lies_unread() {
    run(async {
        let other = "UPDATE t2 SET v = v + 1 WHERE id = 1";
        let house = a_read_meets(other, Some(Duration::from_millis(700))).await;
        house.ends().await;
        let coverage = house.ledger.coverage();
        assert_eq!(coverage.diverged, 0, "{coverage:?}");
        assert_eq!(coverage.not_compared_total(), 1, "{coverage:?}");
    });
}

#[test]
fn one_that_nobody_can_tell_of_in_time_is_not_compared() {
    run(async {
        let house = a_read_meets(WRITE, None).await;
        sleep(Duration::from_secs(20)).await;
        let coverage = house.ledger.coverage();
        assert_eq!(house.mirror.figures().suspensions, 1);
        assert_eq!(coverage.diverged, 0, "{coverage:?}");
    });
}

#[test]
fn sessions_of_which_something_lies_unread_are_behind_for_the_breaker() {
    run(async {
        let mut house = House::of(10, Limits::default()).await;
        house.hang(0..10);
        for session in (0..6).chain(0..4) {
            house.say(session, READ, 1).await;
        }
        assert_eq!(house.unread(), 0, "two commands are at four of six replays");
        sleep(Duration::from_secs(29)).await;
        // Four of ten wait for more than the limit; with two more it is more than half.
        for session in 4..6 {
            house.say(session, READ, 1).await;
        }
        assert_eq!(house.unread(), 2);
        sleep(Duration::from_secs(29)).await;
        assert_eq!(house.mirror.figures().suspensions, 0);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(house.mirror.figures().suspensions, 1);
    });
}

#[test]
fn the_end_of_a_transaction_that_is_open_on_the_shadow_does_not_lie_there() {
    run(async {
        let mut house = House::of(3, Limits::default()).await;
        house.say(2, "BEGIN", 1).await;
        house.say(2, WRITE, 1).await;
        assert_eq!(house.matched(), 5);
        house.hang([0, 1]);
        for session in [0, 1] {
            house.say(session, "SELECT 1", 4).await;
        }
        assert!(house.unread() > 0);
        assert!(house.has_the_same_rows(), "neither has committed");
        house.say(2, "COMMIT", 1).await;
        assert!(house.has_the_same_rows(), "both have");
        assert_eq!(house.matched(), 6);
        house.ends().await;
    });
}

#[test]
fn switches_hold_for_what_comes_from_then_on() {
    run(async {
        let mut house = House::of(1, Limits::default()).await;
        house.hang([0]);
        house.say(0, WRITE, 20).await;
        let control = house.mirror.control();
        house.mirror.change_control(|control| control.paused = true);
        house.say(0, READ, 5).await;
        house.mirror.change_control(|now| *now = control);
        house.say(0, READ, 5).await;
        assert!(house.unread() > 20);
        house.ends().await;
        let coverage = house.ledger.coverage();
        assert_eq!(coverage.matched, 1 + 20 + 5, "{coverage:?}");
        assert_eq!(coverage.not_compared_total(), 5, "{coverage:?}");
    });
}

#[test]
fn answers_are_digested_while_a_transaction_of_before_the_switch_lies_unread() {
    run(async {
        let mut house = House::of(1, Limits::default()).await;
        house.hang([0]);
        house.say(0, READ, 10).await;
        house.say(0, "BEGIN", 1).await;
        house.mirror.change_control(|control| control.paused = true);
        sleep(Duration::from_secs(1)).await;
        assert!(house.unread() > 0 && house.tee.regard() == Regard::Compare);
        house.say(0, READ, 1).await;
        house.say(0, "COMMIT", 1).await;
        house.hang([]);
        house.mirror.drained().await.expect("a mirror");
        assert_eq!(house.matched(), 14);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(house.tee.regard(), Regard::Follow);
    });
}

#[test]
fn the_end_of_a_session_of_which_nothing_lies_there_is_not_held_up() {
    run(async {
        let mut house = House::of(4, Limits::default()).await;
        house.hang(0..3);
        for session in 0..3 {
            house.say(session, READ, 10).await;
        }
        assert!(house.unread() > 0);
        for (session, connections) in [(3, 3), (0, 3), (1, 3), (2, 3)] {
            let facts = &house.sessions[session].facts;
            house.tee.closed(facts, End::Left);
            sleep(MOMENT).await;
            assert_eq!(house.mirror.figures().connections, connections);
        }
        house.ends().await;
        let figures = house.mirror.figures();
        assert_eq!((figures.connections, figures.sessions), (0, 0));
        assert_eq!(house.matched(), 4 + 30);
    });
}

#[test]
fn what_lies_there_has_its_verdict_when_the_mirror_ends() {
    run(async {
        let mut house = House::of(2, Limits::default()).await;
        house.hang(0..2);
        for session in [0, 1] {
            house.say(session, READ, 600).await;
        }
        assert!(house.unread() > 500);
        house.mirror.drain(Duration::from_secs(60)).await;
        let coverage = house.ledger.coverage();
        assert_eq!((coverage.commands, coverage.pending), (1_202, 0));
        assert_eq!(coverage.matched, 2);
    });
}

/// Writes of two sessions, of which most lie unread.
async fn writes_lie_unread() -> House {
    let mut house = House::of(2, Limits::default()).await;
    house.hang(0..2);
    for _ in 0..30 {
        for session in [0, 1] {
            house.say(session, WRITE, 100).await;
        }
    }
    assert!(house.unread() > 5_000);
    assert_eq!(house.ledger.taints(), []);
    house
}

fn tainted(house: &House) -> Vec<String> {
    let taints = house.ledger.taints();
    taints.into_iter().map(|one| one.table).collect()
}

/// Finding: the mark of a clean stop was set though writes had not been looked at, and nothing was tainted.
#[test]
fn a_stop_that_is_cut_short_taints_what_nobody_looked_at() {
    run(async {
        let house = writes_lie_unread().await;
        house.mirror.drain(Duration::ZERO).await;
        assert_eq!(tainted(&house), ["*"]);
    });
}

#[test]
fn a_stop_that_looks_slowly_at_what_lies_there_ends_in_time_and_taints() {
    // So long each turn takes in which some is let in: about twenty are needed.
    for (turn, tables, all) in [
        (1, vec!["t1"], true),
        (150, vec!["t1"], true),
        (900, vec!["*", "t1"], false),
    ] {
        run(async {
            let house = writes_lie_unread().await;
            let began = Instant::now();
            let ends = house.mirror.drain(Duration::from_secs(60));
            tokio::pin!(ends);
            loop {
                tokio::select! {
                    biased;
                    () = &mut ends => break,
                    () = tokio::time::advance(Duration::from_millis(turn)) => {}
                }
            }
            assert!(
                began.elapsed() < Duration::from_secs(8),
                "{turn} ms: {:?}",
                began.elapsed()
            );
            let mut names = tainted(&house);
            names.sort();
            assert_eq!(names, tables, "{turn} ms");
            let coverage = house.ledger.coverage();
            assert_eq!(coverage.pending == 0, all, "{turn} ms: {coverage:?}");
        });
    }
}

/// More than is let in at a time, and none of it is a job for a replay.
#[test]
fn it_is_drained_once_all_was_looked_at() {
    run(async {
        let mut house = House::of(1, Limits::default()).await;
        house.mirror.change_control(|control| control.paused = true);
        for _ in 0..2_000 {
            house.sessions[0].says_again();
        }
        house.mirror.drained().await.expect("a mirror");
        let coverage = house.ledger.coverage();
        assert_eq!((coverage.commands, coverage.pending), (2_001, 0));
    });
}

#[test]
fn the_roles_turn_once_all_was_looked_at_and_done() {
    run(async {
        let mut house = House::of(2, Limits::default()).await;
        house.hang(0..2);
        for session in [0, 1] {
            house.say(session, WRITE, 10).await;
        }
        assert!(house.unread() > 0);
        let drained = house.mirror.drained();
        tokio::pin!(drained);
        let early = tokio::time::timeout(Duration::from_secs(5), &mut drained).await;
        assert!(early.is_err(), "20 writes are not on the shadow");
        assert_eq!(house.unread(), 0, "they are with the replays");
        house.hang([]);
        drained.await.expect("a mirror");
        assert!(house.has_the_same_rows());
    });
}

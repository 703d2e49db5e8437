//! One run: everything that the program builds for a cutover, between clients and two fake servers
//! on in-memory streams, in paused time; and the hand that asks for cutovers and gets in their way.
//!
//! The records are in a file, and are written on threads of their own. In tokio's paused time of one
//! thread that is no contradiction: while a blocking task runs the clock stands, so that a disk takes
//! no virtual time at all. Only what else is ready at that very moment may run in another order from
//! one run to the next: a seed draws all that is said and when, and nearly all of what follows.

use super::client::{Client, Gone};
use super::server::{Fake, Mood};
use super::truth::{Fault, Truth};
use super::{Tally, Trouble};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use understudy::config::{Config, Server};
use understudy::connect::{Dial, Dialing, Stream};
use understudy::cutover::{Carrier, Cutovers, GUARDS, Helm, Judge, Order, Parts, Refused};
use understudy::ledger::{Commands, Evidence, Ledger, OpenFindings, Records};
use understudy::planted;
use understudy::readiness::{Figures, Lag};
use understudy::relay::{Offer, Relay, RelayParts};
use understudy::roles::{Roles, RolesWatch};
use understudy::shadow::{Mirror, MirrorParts};
use understudy::sql::Table;
use understudy::tee::{self, Limits};

/// Sessions that stay from the first flip to the last.
const STAYING: u64 = 3;

/// `cutover.hold_ms_max`
const HOLD_MAX: Duration = Duration::from_millis(300);

/// In virtual time; whatever takes longer does not end.
const LONGEST: Duration = Duration::from_secs(600);

/// Guards that ask for what a run does not have: accounts of the proxy's own, and a history. What
/// the sessions, the tables and the lag say stands.
const FORCED: [&str; 9] = [
    "reachability",
    "divergences",
    "coverage",
    "evidence",
    "latency",
    "verification",
    "writers",
    "ddl",
    "open_transactions",
];

/// See the module.
pub struct World {
    seed: u64,
    trouble: Trouble,
    truth: Arc<Truth>,
    fakes: Arc<[Arc<Fake>; 2]>,
    relay: Relay,
    mirror: Arc<Mirror>,
    ledger: Ledger,
    helm: Cutovers,
    roles: RolesWatch,
    /// Clients are to come to their end.
    over: AtomicBool,
    /// Nothing is to be seen for a while: clients take their time.
    slow: AtomicBool,
    /// A transaction that somebody is to keep open, in microseconds.
    linger: AtomicU64,
    tally: Tally,
}

/// The way to the fakes.
struct Wires {
    fakes: Arc<[Arc<Fake>; 2]>,
    truth: Arc<Truth>,
}

impl Dial for Wires {
    fn dial<'a>(&'a self, server: &'a Server) -> Dialing<'a> {
        Box::pin(async move {
            let fake = self.fakes.iter().find(|fake| fake.name == server.name);
            let fake = Arc::clone(fake.expect("a server"));
            if fake.is_dead() {
                return Err(std::io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(64 << 10);
            tokio::spawn(fake.serve(far, Arc::clone(&self.truth)));
            Ok(Stream::Memory(near))
        })
    }
}

/// Runs it; the first invariant that breaks is the error.
pub fn run(seed: u64, trouble: Trouble) -> Result<Tally, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let dir = directory();
    let played = runtime.block_on(play(seed, trouble, dir.path()));
    runtime.shutdown_background();
    played
}

/// In memory where the system has such a place: a commit there takes microseconds.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a directory")
}

async fn play(seed: u64, trouble: Trouble, dir: &Path) -> Result<Tally, Fault> {
    let world = Arc::new(World::build(seed, trouble, dir));
    let turns = tokio::spawn(Arc::clone(&world).watch_turns());
    let mut clients = JoinSet::new();
    for number in 0..STAYING {
        clients.spawn(Arc::clone(&world).stay(number));
    }
    clients.spawn(Arc::clone(&world).come_and_go());
    let driven = timeout(LONGEST, world.drive()).await;
    world.over.store(true, Ordering::Relaxed);
    for fake in world.fakes.iter() {
        fake.fares(Mood::Well);
    }
    let ended = timeout(LONGEST, async {
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client's task");
        }
    });
    let ended = ended.await;
    turns.abort();
    if driven.is_err() || ended.is_err() {
        let who = if driven.is_err() {
            "a cutover"
        } else {
            "a client"
        };
        let text = format!("{who} does not end: {:?}", world.relay.census());
        return Err(world.truth.first_fault().unwrap_or(Fault::Restless(text)));
    }
    world.judge().await
}

impl World {
    fn build(seed: u64, trouble: Trouble, dir: &Path) -> Self {
        let config = Arc::new(config(dir, trouble));
        let truth = Arc::new(Truth::new(config.ledger.path.clone(), "legacy"));
        let fakes = Arc::new([
            Fake::new("legacy", 7, seed),
            Fake::new("vitess", 1000, seed ^ 0x5EED),
        ]);
        let (tee, receiver) = tee::door(Limits::default());
        let ledger = Ledger::in_memory({
            let tee = tee.clone();
            Arc::new(move || Commands {
                handed: tee.handed(),
                lost: tee.lost(),
                passed: tee.passed(),
            })
        });
        let (writer, roles) = watch::channel(Roles::configured(&config));
        let dial: Arc<dyn Dial> = Arc::new(Wires {
            fakes: Arc::clone(&fakes),
            truth: Arc::clone(&truth),
        });
        let mirror = MirrorParts {
            config: Arc::clone(&config),
            roles: roles.clone(),
            dial: Arc::clone(&dial),
            receiver,
            ledger: ledger.clone(),
        };
        planted::plant_jobs_max(crate::simulation::world::jobs_max(seed));
        let mirror = Arc::new(Mirror::start(mirror).expect("a mirror"));
        planted::plant_jobs_max(None);
        let carrier = Arc::new(Carrier::new(roles.clone(), Arc::clone(&dial)));
        let relay = RelayParts {
            threads: Vec::new(),
            listen: config.listen.clone(),
            copy_bytes_max: config.mirror.command_bytes_max,
            sample_bytes: config.compare.sample_bytes,
            roles: roles.clone(),
            dial: Arc::clone(&dial),
            tee,
            offer: Offer::all(),
            carry: Arc::clone(&carrier) as _,
        };
        let relay = Relay::new(relay).expect("a relay");
        let (helm, _running) = Cutovers::start(Parts {
            config: Arc::clone(&config),
            roles: Arc::new(writer),
            relay: relay.clone(),
            mirror: Arc::clone(&mirror),
            carrier,
            ledger: ledger.clone(),
            records: Arc::new(Records::at(&config.ledger.path)),
            dial,
            threads: vec![Handle::current()],
            judge: judge(&ledger, &mirror),
            fleet: None,
        });
        Self {
            seed,
            trouble,
            truth,
            fakes,
            relay,
            mirror,
            ledger,
            helm,
            roles,
            over: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            linger: AtomicU64::new(0),
            tally: Tally::default(),
        }
    }

    fn rng(&self, of: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ of)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn client(&self, seed: u64) -> Result<Client, Gone> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let relay = self.relay.clone();
        tokio::spawn(async move {
            relay
                .serve(Stream::Memory(far), ([127, 0, 0, 1], 4000).into())
                .await;
        });
        Client::log_in(near, Arc::clone(&self.truth), seed).await
    }

    /// A session is gone that had no reason to be.
    fn mourn(&self, gone: &Gone) {
        self.tally.gone();
        let is_fair = match self.trouble {
            Trouble::Hanging => false,
            // Whatever dies, what a session is does not get lost.
            Trouble::Dying => !gone.0.starts_with("the primary says"),
            Trouble::Ending => {
                gone.0.starts_with("the proxy says 1053") || gone.0.starts_with("it ")
            }
        };
        if !is_fair {
            self.truth.fault(Fault::Error(gone.0.clone()));
        }
    }

    /// A client that works until the end, and comes back where it was cut off.
    async fn stay(self: Arc<Self>, number: u64) {
        let mut rng = self.rng(100 + number);
        while !self.is_over() {
            if let Err(gone) = self.work(rng.random_range(0..u64::MAX)).await {
                self.mourn(&gone);
                sleep(Duration::from_millis(rng.random_range(1..50u64))).await;
            }
        }
    }

    async fn work(&self, seed: u64) -> Result<(), Gone> {
        let mut client = self.client(seed).await?;
        while !self.is_over() {
            let linger = self.linger.swap(0, Ordering::Relaxed);
            if linger > 0 {
                client.linger(Duration::from_micros(linger)).await?;
            }
            client.act().await?;
            if self.slow.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(100)).await;
            }
        }
        client.leave().await
    }

    /// A while, the most of which is quiet.
    async fn pass(&self, time: Duration) {
        let busy = time.min(Duration::from_millis(200));
        sleep(busy).await;
        self.slow.store(true, Ordering::Relaxed);
        sleep(time - busy).await;
        self.slow.store(false, Ordering::Relaxed);
    }

    /// Clients that come, do something and leave, each at some moment, and not always with a word.
    async fn come_and_go(self: Arc<Self>) {
        let mut rng = self.rng(200);
        let mut coming = JoinSet::new();
        while !self.is_over() {
            let pause = match self.helm.state().is_holding() {
                true => 1000,
                false if self.slow.load(Ordering::Relaxed) => 300_000,
                false => 12_000,
            };
            sleep(Duration::from_micros(rng.random_range(1..pause))).await;
            let (seed, acts) = (rng.random_range(0..u64::MAX), rng.random_range(0..8u32));
            let vanishes = (rng.random_range(0..3u32) == 0)
                .then(|| Duration::from_micros(rng.random_range(1..30_000u64)));
            if coming.len() < 12 {
                coming.spawn(Arc::clone(&self).visit(seed, acts, vanishes));
            }
            while let Some(ended) = coming.try_join_next() {
                ended.expect("a client's task");
            }
        }
        while let Some(ended) = coming.join_next().await {
            ended.expect("a client's task");
        }
    }

    async fn visit(self: Arc<Self>, seed: u64, acts: u32, vanishes: Option<Duration>) {
        let began_held = self.helm.state().is_holding();
        let visiting = async {
            let mut client = self.client(seed).await?;
            for _ in 0..acts {
                client.act().await?;
            }
            client.leave().await
        };
        let ended = timeout(vanishes.unwrap_or(LONGEST), visiting).await;
        match ended {
            Ok(Ok(())) if began_held => self.tally.came_in_hold(),
            Ok(Ok(())) => {}
            Ok(Err(gone)) => self.mourn(&gone),
            Err(_) if self.helm.state().is_holding() => self.tally.left_in_hold(),
            Err(_) => {}
        }
    }

    /// At each turn of the roles the new primary has everything, or it is tainted.
    async fn watch_turns(self: Arc<Self>) {
        let mut roles = self.roles.clone();
        while roles.changed().await.is_ok() {
            self.tally.turned();
            if let Err(text) = self.compare_servers() {
                self.truth.fault(Fault::Behind(text));
            }
        }
    }

    /// Asks for cutovers, and gets in their way.
    async fn drive(&self) {
        let mut rng = self.rng(300);
        for _ in 0..rng.random_range(3..7u32) {
            sleep(Duration::from_micros(rng.random_range(1..60_000u64))).await;
            let order = Order {
                to: self.roles.borrow().shadow.name.clone(),
                dry_run: rng.random_range(0..12u32) == 0,
                force: FORCED.to_vec(),
                who: "a test".into(),
            };
            let seed = rng.random_range(0..u64::MAX);
            let (ordered, ()) = tokio::join!(self.helm.order(order), self.hinder(seed));
            match ordered {
                Ok(_) => {}
                Err(Refused::Guards(_)) => self.tally.refused(),
                Err(Refused::NotNow(_)) => {}
                Err(Refused::Unable(why)) => {
                    assert!(self.trouble.breaks(), "seed {}: {why}", self.seed);
                }
            }
            self.rest().await;
            if self.helm.state().name() == "aborted" {
                self.tally.aborted();
            }
            if self.trouble == Trouble::Dying && rng.random_range(0..3u32) == 0 {
                self.pass(Duration::from_secs(rng.random_range(1..20u64)))
                    .await;
            }
        }
    }

    /// Waits until nothing is under way. What takes long is waited for with fewer looks, and fewer
    /// commands.
    async fn rest(&self) {
        let mut step = Duration::from_micros(500);
        while self.helm.state().rest().is_none() {
            sleep(step).await;
            step = (step + step / 32).min(Duration::from_millis(50));
            let is_long = step > Duration::from_millis(20);
            self.slow.store(is_long, Ordering::Relaxed);
        }
        self.slow.store(false, Ordering::Relaxed);
    }

    /// What comes in between while a cutover runs.
    async fn hinder(&self, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let soon = Duration::from_micros(rng.random_range(1..40_000u64));
        match rng.random_range(0..10u32) {
            0 => {
                sleep(soon).await;
                // Refused where it comes too late.
                let _asked = self.helm.abort("a test".into()).await;
            }
            1 => {
                self.in_hold(seed).await;
                sleep(soon / 8).await;
                let _asked = self.helm.abort("a test".into()).await;
            }
            2 => {
                self.in_hold(seed).await;
                let shadow = self.roles.borrow().shadow.name.clone();
                let hangs = Duration::from_millis(rng.random_range(1..1500u64));
                self.fare(&shadow, Mood::Hangs, hangs).await;
            }
            3 => {
                let lasts = HOLD_MAX * 2;
                self.linger
                    .store(lasts.as_micros() as u64, Ordering::Relaxed);
                sleep(soon).await;
            }
            4 | 5 if self.trouble == Trouble::Dying => {
                if rng.random_range(0..2u32) == 0 {
                    self.in_hold(seed).await;
                }
                sleep(soon / 4).await;
                let who = ["legacy", "vitess"][rng.random_range(0..2usize)];
                let mood = [Mood::Dead, Mood::Dead, Mood::Hangs][rng.random_range(0..3usize)];
                let lasts = Duration::from_millis(rng.random_range(1..9000u64));
                self.fare(who, mood, lasts).await;
            }
            _ => {}
        }
    }

    /// Waits for a hold, or until there will be none.
    async fn in_hold(&self, seed: u64) {
        let step = Duration::from_micros(50 + seed % 300);
        for _ in 0..2000 {
            if self.helm.state().is_holding() {
                return;
            }
            sleep(step).await;
        }
    }

    async fn fare(&self, name: &str, mood: Mood, lasts: Duration) {
        let fake = self.fakes.iter().find(|fake| fake.name == name);
        let fake = fake.expect("a server");
        fake.fares(mood);
        self.pass(lasts).await;
        fake.fares(Mood::Well);
    }

    async fn judge(&self) -> Result<Tally, Fault> {
        let state = self.helm.state();
        if !matches!(state.name(), "idle" | "soaking" | "done" | "aborted") {
            return Err(Fault::Restless(format!("it rests {}", state.name())));
        }
        // Sessions that vanished are found out.
        sleep(Duration::from_secs(5)).await;
        let open = self.relay.census();
        if open.open > 0 {
            return Err(Fault::Restless(format!("sessions are left: {open:?}")));
        }
        let drained = timeout(LONGEST, self.mirror.drained()).await;
        drained
            .map_err(|_| Fault::Restless("the shadow is never done".into()))?
            .expect("a mirror");
        self.helm.stop().await;
        self.mirror.drain(LONGEST).await;
        if let Some(fault) = self.truth.first_fault() {
            return Err(fault);
        }
        let primary = self.truth.primary();
        if self.roles.borrow().primary.name != primary {
            let text = format!("{primary} is the record's primary, and not the roles'");
            return Err(Fault::Usurped(text));
        }
        let fake = self.fakes.iter().find(|fake| fake.name == primary);
        let rows = fake.expect("a server").rows.lock().unwrap().clone();
        self.truth.compare(&rows).map_err(Fault::Writes)?;
        self.compare_servers().map_err(Fault::Untainted)?;
        self.tally.ends(&self.relay.counters());
        Ok(self.tally.clone())
    }

    /// Where the servers' rows differ, the table is tainted.
    fn compare_servers(&self) -> Result<(), String> {
        let [one, other] = [0, 1].map(|at: usize| self.fakes[at].rows.lock().unwrap().clone());
        for (key, rows) in &one {
            if self.is_tainted(&key.0, &key.1) || other[key] == *rows {
                continue;
            }
            let differ = |rows: &std::collections::BTreeMap<u64, i64>, from: &str| {
                let of = if from == "legacy" {
                    &other[key]
                } else {
                    &one[key]
                };
                let mine = rows.iter().filter(|(id, value)| of.get(id) != Some(value));
                format!("{:?} on {from}", mine.collect::<Vec<_>>())
            };
            return Err(format!(
                "{key:?}: {}, {}; tainted: {:?}",
                differ(rows, "legacy"),
                differ(&other[key], "vitess"),
                self.ledger.taints()
            ));
        }
        Ok(())
    }

    fn is_tainted(&self, database: &str, name: &str) -> bool {
        let named = |database: Option<&str>, name: &str| Table {
            database: database.map(str::to_owned),
            name: name.to_owned(),
        };
        [
            named(Some(database), name),
            named(Some(database), "*"),
            named(None, "*"),
        ]
        .iter()
        .any(|table| self.ledger.is_tainted(table))
    }
}

/// What the guards see of the mirror and its taints.
fn judge(ledger: &Ledger, mirror: &Arc<Mirror>) -> Judge {
    assert!(FORCED.iter().all(|name| GUARDS.contains(name)));
    let (ledger, mirror) = (ledger.clone(), Arc::clone(mirror));
    Arc::new(move || {
        let figures = mirror.figures();
        let state = if figures.suspended.is_some() {
            "suspended"
        } else {
            "running"
        };
        Ok(Figures {
            now: jiff::Timestamp::now(),
            open: OpenFindings::default(),
            lost: 0,
            evidence: Evidence::default(),
            paces: Vec::new(),
            lag: Lag {
                state: state.to_owned(),
                reason: figures.suspended,
                commands: figures.waiting,
                // Asked off the runtime, where time is another one.
                oldest: Duration::ZERO,
            },
            verified: Vec::new(),
            unseen: Vec::new(),
            tainted: ledger
                .taints()
                .into_iter()
                .map(|taint| taint.table)
                .collect(),
        })
    })
}

fn config(dir: &Path, trouble: Trouble) -> Config {
    let stuck = if trouble == Trouble::Ending {
        "end"
    } else {
        "abort"
    };
    let path = dir.join("ledger.db");
    let text = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n\
         [primary]\nname = \"legacy\"\naddress = \"127.0.0.1:1\"\n\
         [primary.users]\napp = {{ user = \"app\", password = \"app\" }}\n\
         [shadow]\nname = \"vitess\"\naddress = \"127.0.0.1:2\"\n\
         [shadow.users]\napp = {{ user = \"app\", password = \"app\" }}\n\
         [mirror]\nwrites = \"apply\"\ntimeout_ms = 5000\nidle_s = 1\nbreaker_lag_ms = 10000\n\
         [cutover]\nhold_ms_max = {}\nstuck = \"{stuck}\"\nsoak_s = 1\n\
         [ledger]\npath = {path:?}\n",
        HOLD_MAX.as_millis()
    );
    Config::parse(&text, &[]).unwrap_or_else(|faults| panic!("{faults:?}"))
}

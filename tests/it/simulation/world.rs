//! One run: a relay, a tee, a mirror and a ledger as the program builds them, between fake clients
//! and fake servers on in-memory streams, in paused time.

use super::client::{self, Leaving, Seen};
use super::gatekeeper::Gatekeeper;
use super::script;
use super::server::{self, Manner, Record};
use super::store::{self, Store};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use understudy::config::{Config, Server};
use understudy::connect::{Dial, Dialing, Stream};
use understudy::ledger::{Commands, Ledger, Snapshot};
use understudy::planted;
use understudy::relay::{Offer, Relay, RelayParts};
use understudy::roles::Roles;
use understudy::shadow::{Mirror, MirrorParts};
use understudy::sql::Table;
use understudy::tee::{self, Budget, Limits, Tee};

const SESSIONS: u64 = 3;
const COMMANDS: usize = 18;

/// The most that a stalled or dead shadow may hold one run up, in virtual time.
const LONGEST: Duration = Duration::from_secs(900);

/// A stalled server's hour, and a little more.
const SETTLING: Duration = Duration::from_secs(4000);

/// Room for one client's commands, and no more, in a world of tiny queues.
const TINY: Limits = Limits {
    queue_bytes: 4 << 10,
    session_queue_bytes: 3 << 10,
    stub_bytes: 1 << 10,
    slots: 12,
    sessions: 3,
};

/// What the shadow is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shadow {
    Prompt,
    /// Prompt, but it lacks something that the primary has.
    Limited,
    /// It is there, but lets nobody in.
    Refusing,
    Stalled,
    Dead,
    Chaotic,
}

/// An invariant that broke, and how.
#[derive(Debug)]
#[expect(dead_code, reason = "the texts are printed where a seed fails")]
pub enum Broken {
    Bytes(String),
    Delayed(String),
    Coverage(String),
    Overfull(String),
    Untainted(String),
    Suspended(u64),
    Vacuous(String),
    /// A healthy pair is told to differ.
    Noise(String),
}

/// What a run shows to be compared with others.
#[derive(Debug)]
pub struct Outcome {
    /// When each answer was whole, by client.
    pub times: Vec<Vec<Duration>>,
    /// So much lay unread at a time, at the most.
    pub unread: u64,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    seed: u64,
    shadow: Shadow,
    limits: Limits,
    vanishing: bool,
    failing: bool,
    tiny: bool,
    holding: bool,
    /// With so many jobs at the replays, what comes more lies unread.
    jobs_max: Option<usize>,
}

impl World {
    pub fn new(seed: u64, shadow: Shadow) -> Self {
        Self {
            seed,
            shadow,
            limits: Limits::default(),
            vanishing: false,
            failing: false,
            tiny: false,
            holding: false,
            jobs_max: jobs_max(seed),
        }
    }

    pub fn with_tiny_queues(mut self) -> Self {
        self.limits = TINY;
        self.tiny = true;
        self
    }

    /// Sessions are held now and then, and go on as before.
    pub fn with_holds(mut self) -> Self {
        self.holding = true;
        self
    }

    pub fn with_vanishing_clients(mut self) -> Self {
        self.vanishing = true;
        self
    }

    pub fn with_a_failing_primary(mut self) -> Self {
        self.failing = true;
        self
    }

    /// Runs it; the first invariant that breaks is the error.
    pub fn run(self) -> Result<Outcome, Broken> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(self.play())
    }

    async fn play(self) -> Result<Outcome, Broken> {
        let world = Instant::now();
        let wires = Arc::new(Wires::new(self.seed, self.shadow, self.failing));
        let (tee, receiver) = tee::door(self.limits);
        let ledger = Ledger::in_memory({
            let tee = tee.clone();
            Arc::new(move || Commands {
                handed: tee.handed(),
                lost: tee.lost(),
                passed: tee.passed(),
            })
        });
        let config = Arc::new(config());
        let (_roles, roles) = watch::channel(Roles {
            primary: Arc::new(config.primary.clone()),
            shadow: Arc::new(config.shadow.clone()),
        });
        let dial: Arc<dyn Dial> = Arc::clone(&wires) as Arc<dyn Dial>;
        planted::plant_jobs_max(self.jobs_max);
        let mirror = Mirror::start(MirrorParts {
            config: Arc::clone(&config),
            roles: roles.clone(),
            dial: Arc::clone(&dial),
            receiver,
            ledger: ledger.clone(),
        })
        .expect("a mirror");
        planted::plant_jobs_max(None);
        let mirror = Arc::new(mirror);
        let (gatekeeper, keeper) = Gatekeeper::new();
        let relay = Relay::new(RelayParts {
            threads: Vec::new(),
            listen: config.listen.clone(),
            copy_bytes_max: config.mirror.command_bytes_max,
            sample_bytes: config.compare.sample_bytes,
            roles,
            dial,
            tee: tee.clone(),
            offer: Offer::all(),
            carry: keeper,
        })
        .expect("a relay");
        let watcher = Watcher::start(tee.budget(), ledger.clone(), Arc::clone(&mirror));
        let at_gate = self
            .holding
            .then(|| gatekeeper.start(relay.clone(), self.seed));
        let seen = self.clients(&relay, &wires.primary, world).await;
        if let Some(at_gate) = at_gate {
            at_gate.abort();
            let ended = at_gate.await;
            assert!(ended.is_err_and(|error| error.is_cancelled()));
            // Clients that vanish may do so before the first hold.
            if relay.counters().held.value() == 0 && !self.vanishing {
                return Err(Broken::Vacuous("nobody was held".into()));
            }
        }
        drop(relay);
        mirror.drain(LONGEST).await;
        let suspensions = mirror.figures().suspensions;
        if suspensions > 0 && matches!(self.shadow, Shadow::Prompt | Shadow::Refusing) {
            return Err(Broken::Suspended(suspensions));
        }
        let worst = watcher.stop().await;
        wires.settle().await;
        self.judge(&wires, &seen, &tee, &ledger, worst)
    }

    /// Lets the clients log in one by one, so that the primary's record has their order, and then
    /// work side by side.
    async fn clients(&self, relay: &Relay, primary: &Record, world: Instant) -> Vec<Seen> {
        let mut serving = Vec::new();
        let mut working = Vec::new();
        for number in 0..SESSIONS {
            let (mut near, far) = tokio::io::duplex(64 << 10);
            let relay = relay.clone();
            serving.push(tokio::spawn(async move {
                relay
                    .serve(Stream::Memory(far), ([127, 0, 0, 1], 4000).into())
                    .await;
            }));
            client::log_in(&mut near).await.expect("the login");
            let leaving = if self.vanishing {
                Leaving::Vanish((self.seed.wrapping_add(number * 5) % 17) as usize)
            } else {
                Leaving::Quit
            };
            working.push(tokio::spawn(client::run(
                near,
                script::commands(self.seed, number, COMMANDS),
                leaving,
                self.seed ^ number,
                world,
                (Arc::clone(primary), number as usize),
            )));
        }
        let mut seen = Vec::new();
        for task in working {
            let one = tokio::time::timeout(LONGEST, task).await;
            seen.push(one.map_or_else(|_| Seen::default(), |one| one.expect("a client's task")));
        }
        for task in serving {
            let _ended = tokio::time::timeout(LONGEST, task).await;
        }
        seen
    }

    fn judge(
        &self,
        wires: &Wires,
        seen: &[Seen],
        tee: &Tee,
        ledger: &Ledger,
        worst: Result<u64, Broken>,
    ) -> Result<Outcome, Broken> {
        let unread = worst?;
        let coverage = &ledger.coverage();
        let breaks = self.vanishing || self.failing;
        let record = wires.primary.lock().unwrap();
        for (number, one) in seen.iter().enumerate() {
            let sent = &record[number].bytes;
            let equal = if one.finished {
                one.bytes == *sent
            } else {
                breaks && sent.starts_with(&one.bytes)
            };
            if !equal {
                let (got, of) = (one.bytes.len(), sent.len());
                return Err(Broken::Bytes(format!(
                    "client {number}: {got} bytes of {of}, or others"
                )));
            }
        }
        let sent: u64 = seen.iter().map(|one| one.commands).sum();
        // Where an end breaks off, there are commands that the relay never saw whole.
        let handed = tee.handed();
        let all_there = handed == sent || breaks && handed <= sent;
        if coverage.pending != 0 || coverage.commands != handed || !all_there || !adds_up(coverage)
        {
            return Err(Broken::Coverage(format!(
                "{sent} sent, {handed} handed: {coverage:?}"
            )));
        }
        self.compare_rows(wires, ledger)?;
        let judged = coverage.matched + coverage.tolerated;
        let taints = ledger.taints();
        let healthy = self.shadow == Shadow::Prompt && !breaks && !self.tiny;
        if healthy && coverage.diverged > 0 {
            return Err(Broken::Noise(format!("{coverage:?}")));
        }
        if healthy && (judged * 10 < handed * 6 || !taints.is_empty()) {
            return Err(Broken::Vacuous(format!(
                "hardly anything was compared, or something tainted: {coverage:?} {taints:?}"
            )));
        }
        Ok(Outcome {
            times: seen.iter().map(|one| one.times.clone()).collect(),
            unread,
        })
    }
}

impl World {
    /// Where the two servers' rows differ, the table is tainted.
    fn compare_rows(&self, wires: &Wires, ledger: &Ledger) -> Result<(), Broken> {
        let (one, other) = (wires.rows.lock().unwrap(), wires.other_rows.lock().unwrap());
        for (key, rows) in one.iter() {
            let (database, name) = key;
            let named = |database: Option<&str>, name: &str| Table {
                database: database.map(str::to_owned),
                name: name.to_owned(),
            };
            let tainted = [
                named(Some(database), name),
                named(Some(database), "*"),
                named(None, "*"),
            ]
            .iter()
            .any(|table| ledger.is_tainted(table));
            if !tainted && other.get(key) != Some(rows) {
                let differ: Vec<_> = rows
                    .iter()
                    .filter(|(id, value)| other[key].get(id) != Some(value))
                    .collect();
                let shadow: Vec<_> = other[key]
                    .iter()
                    .filter(|(id, value)| rows.get(id) != Some(value))
                    .collect();
                return Err(Broken::Untainted(format!(
                    "{database}.{name}: {differ:?} on the primary, {shadow:?} on the shadow, in {self:?}; \
                     tainted: {:?}",
                    ledger.taints()
                )));
            }
        }
        Ok(())
    }
}

/// Drawn from the seed: as it is, or so few that something lies unread in a short history.
pub fn jobs_max(seed: u64) -> Option<usize> {
    [None, Some(1), Some(2), Some(4)][(seed % 4) as usize]
}

fn adds_up(coverage: &Snapshot) -> bool {
    let settled = coverage.matched + coverage.tolerated + coverage.diverged;
    settled + coverage.not_compared_total() + coverage.pending == coverage.commands
}

/// Looks at every small step of time whether the queues are within their limits and the coverage
/// adds up.
struct Watcher {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<u64, Broken>>,
}

impl Watcher {
    fn start(budget: Arc<Budget>, ledger: Ledger, mirror: Arc<Mirror>) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut step = Duration::from_micros(200);
            let mut unread = 0;
            loop {
                if budget.used() > budget.max() {
                    let (used, max) = (budget.used(), budget.max());
                    return Err(Broken::Overfull(format!("{used} of {max} bytes")));
                }
                unread = mirror.figures().unread.max(unread);
                let coverage = ledger.coverage();
                if !adds_up(&coverage) {
                    return Err(Broken::Coverage(format!("{coverage:?}")));
                }
                tokio::select! {
                    _ = &mut stopped => return Ok(unread),
                    () = tokio::time::sleep(step) => {}
                }
                // Fine steps while clients work, coarse ones while a stalled shadow is waited for.
                step = (step + step / 64).min(Duration::from_millis(50));
            }
        });
        Self { stop, task }
    }

    /// How much lay unread at the most.
    async fn stop(self) -> Result<u64, Broken> {
        let _ended = self.stop.send(());
        self.task.await.expect("the watcher's task")
    }
}

/// The way to the fake servers.
struct Wires {
    seed: u64,
    shadow: Shadow,
    failing: bool,
    primary: Record,
    other: Record,
    rows: Store,
    other_rows: Store,
    serving: Mutex<Vec<JoinHandle<()>>>,
}

impl Wires {
    fn new(seed: u64, shadow: Shadow, failing: bool) -> Self {
        Self {
            seed,
            shadow,
            failing,
            primary: Arc::new(Mutex::new(Vec::new())),
            other: Arc::new(Mutex::new(Vec::new())),
            rows: store::store(),
            other_rows: store::store(),
            serving: Mutex::default(),
        }
    }

    /// Lets the servers come to the end of what they were sent.
    async fn settle(&self) {
        let serving = std::mem::take(&mut *self.serving.lock().unwrap());
        for task in serving {
            let _ended = tokio::time::timeout(SETTLING, task).await;
        }
    }

    fn manner(&self, server: &Server) -> Option<Manner> {
        Some(match self.shadow {
            _ if server.name == "legacy" && self.failing => Manner::Failing,
            _ if server.name == "legacy" => Manner::Primary,
            Shadow::Prompt => Manner::Prompt,
            Shadow::Limited => Manner::Limited,
            Shadow::Refusing => Manner::Refusing,
            Shadow::Stalled => Manner::Stalled,
            Shadow::Chaotic => Manner::Chaotic,
            Shadow::Dead => return None,
        })
    }
}

impl Dial for Wires {
    fn dial<'a>(&'a self, server: &'a Server) -> Dialing<'a> {
        Box::pin(async move {
            let manner = self.manner(server);
            let manner = manner.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            let (record, rows) = if server.name == "legacy" {
                (&self.primary, &self.rows)
            } else {
                (&self.other, &self.other_rows)
            };
            let (near, far) = tokio::io::duplex(64 << 10);
            let (record, rows) = (Arc::clone(record), Arc::clone(rows));
            let serving = tokio::spawn(server::serve(far, manner, self.seed, record, rows));
            self.serving.lock().unwrap().push(serving);
            Ok(Stream::Memory(near))
        })
    }
}

fn config() -> Config {
    let text = "[listen]\naddress = \"127.0.0.1:0\"\n\
        [primary]\nname = \"legacy\"\naddress = \"127.0.0.1:1\"\n\
        [shadow]\nname = \"vitess\"\naddress = \"127.0.0.1:2\"\nuser = \"app\"\npassword = \"app\"\n\
        [mirror]\nwrites = \"apply\"\ntimeout_ms = 5000\nbreaker_lag_ms = 10000\n\
        idle_s = 1\nbreaker_errors = 3\n\
        [ledger]\npath = \"unused.db\"\n";
    Config::parse(text, &[]).unwrap_or_else(|faults| panic!("{faults:?}"))
}

//! A model of the whole: random histories on a small reference database, replayed through the real
//! readings, steps, parts and line on another one. Time is virtual; a seed draws everything.
//!
//! Whatever was drawn: no command waits for its turn in vain (no deadlock of our own making), every
//! read sees what it saw on the primary unless a commit overlapped it there, and every row has the
//! same values in the same order. Where the shadow's locks are coarser than the primary's, commands
//! may have to give their locks back, but everything still ends, and ends the same.

mod database;

use super::effect::{commits, part, part_of_end, reads_to_the_end, written};
use super::journal::Journal;
use super::line::{Line, Ticket, Turn, YIELD_AFTER};
use super::order::{Request, Scope};
use super::outline::Shapes;
use super::reading::{Missing, Reader, Reading};
use super::recent::Recent;
use super::transaction::{Ending, Said as Word, Seen, Step, Tracker};
use crate::planted::{self, Bug};
use crate::sql::{Class, Table};
use crate::wire::capability::Capabilities;
use database::{Connection, Database, Row, Said, Statement};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

const TABLES: [&str; 2] = ["a", "b"];
const IDS: u64 = 6;
const COMMANDS: usize = 12;

/// `mirror.order_wait_ms`.
const ORDER_WAIT: Duration = Duration::from_secs(2);

/// As in `perform`.
const RETRIES: u32 = 4;

/// In what way a history is drawn and replayed.
#[derive(Clone, Copy, Debug)]
struct Manner {
    sessions: usize,
    /// Neighbouring keys that one lock of the shadow covers.
    grain: u64,
    /// All is replayed once all has happened, not while it happens.
    backlog: bool,
}

/// A command of one statement or several.
type Command = Vec<Statement>;

/// What the tee hands over.
#[derive(Debug)]
struct Exchange {
    session: usize,
    command: Command,
    answer: Vec<Said>,
    flag_before: bool,
    flag_after: bool,
    began: Instant,
    acked: Instant,
}

/// What a history came to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    commands: u64,
    reads: u64,
    /// Reads that saw something else, which a commit explains.
    raced: u64,
    overtook_reads: u64,
    yielded: u64,
    late: u64,
    retried: u64,
    lock_waits: u64,
    /// Writes that were lost or late, and said so.
    tainted: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.commands += other.commands;
        self.reads += other.reads;
        self.raced += other.raced;
        self.overtook_reads += other.overtook_reads;
        self.yielded += other.yielded;
        self.late += other.late;
        self.retried += other.retried;
        self.lock_waits += other.lock_waits;
        self.tainted += other.tainted;
    }
}

/// One session's commands.
struct Draw {
    rng: StdRng,
    /// Values that no other statement writes.
    value: u64,
}

impl Draw {
    fn commands(&mut self) -> Vec<Command> {
        let mut all = Vec::new();
        let mut open = false;
        match self.rng.random_range(0..6) {
            0 => all.push(vec![Statement::ReadCommitted]),
            1 => all.push(vec![Statement::Autocommit(false)]),
            _ => {}
        }
        let commits_nothing = all.first() == Some(&vec![Statement::Autocommit(false)]);
        while all.len() < COMMANDS {
            let command = match self.rng.random_range(0..20) {
                // Seldom in an open transaction, which it commits.
                0..=3 if !open || self.rng.random_range(0..40) == 0 => vec![Statement::Begin],
                0..=5 => vec![Statement::Commit],
                6 => vec![Statement::Rollback],
                // What fails in its midst leaves a transaction open: the next BEGIN would commit it
                // and let its locks go long before its command is handed over.
                7..=9 => vec![
                    Statement::Begin,
                    self.sure_write(),
                    self.sure_write(),
                    Statement::Commit,
                ],
                10 | 11 => vec![self.read(), self.write()],
                12..=14 => vec![self.read()],
                _ => vec![self.write()],
            };
            let ends = |one: &Statement| matches!(one, Statement::Begin | Statement::Commit);
            let ends_inside = command.len() > 1 && command.iter().any(ends);
            if ends_inside && open {
                continue;
            }
            for statement in &command {
                open = match statement {
                    Statement::Begin => true,
                    Statement::Commit | Statement::Rollback => false,
                    _ => open || commits_nothing,
                };
            }
            all.push(command);
        }
        all.push(vec![Statement::Commit]);
        all
    }

    fn table(&mut self) -> &'static str {
        TABLES[self.rng.random_range(0..TABLES.len())]
    }

    fn row(&mut self) -> Row {
        (self.table(), self.rng.random_range(0..IDS))
    }

    fn read(&mut self) -> Statement {
        let (table, from) = self.row();
        let to = from + self.rng.random_range(0..3);
        Statement::Read { table, from, to }
    }

    /// A write that no key refuses.
    fn sure_write(&mut self) -> Statement {
        loop {
            let write = self.write();
            if !matches!(write, Statement::Insert { .. } | Statement::Copy { .. }) {
                return write;
            }
        }
    }

    fn write(&mut self) -> Statement {
        self.value += 1;
        let (row, value) = (self.row(), self.value);
        match self.rng.random_range(0..12) {
            0..=4 => Statement::Set { row, value },
            5 | 6 => Statement::Add { row },
            7 => Statement::Insert { row, value },
            8 => Statement::Delete { row },
            9 => Statement::Lock { row },
            10 => Statement::Copy {
                from: row,
                to: TABLES[usize::from(row.0 == TABLES[0])],
            },
            _ => Statement::Set {
                row: (row.0, 0),
                value,
            },
        }
    }
}

/// So long an answer takes from the server to the hand-over. The same for each, so that commands
/// are handed over in the order of their effects; that others see a commit before it is handed
/// over stays.
const RETURN: Duration = Duration::from_millis(2);

/// What the postman carries: the exchange, when it is due, and the client that waits for it.
type Parcel = (Exchange, Instant, oneshot::Sender<()>);

/// A client on the primary.
async fn client(number: usize, seed: u64, database: Arc<Database>, post: mpsc::Sender<Parcel>) {
    let mut rng = StdRng::seed_from_u64(seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9));
    let value = (number as u64 + 1) * 1000;
    let commands = Draw {
        rng: StdRng::seed_from_u64(rng.random()),
        value,
    }
    .commands();
    let mut connection = Connection::new(&database, number);
    for command in commands {
        sleep(Duration::from_millis(rng.random_range(0..6))).await;
        let began = Instant::now();
        sleep(Duration::from_millis(rng.random_range(1..4))).await;
        let flag_before = connection.in_transaction();
        let mut answer = Vec::new();
        for statement in &command {
            answer.push(connection.run(*statement).await);
            if fails(answer.last()) {
                break;
            }
        }
        let due = Instant::now() + RETURN;
        let exchange = Exchange {
            session: number,
            command,
            answer,
            flag_before,
            flag_after: connection.in_transaction(),
            began,
            acked: due,
        };
        let (delivered, delivery) = oneshot::channel();
        post.send((exchange, due, delivered))
            .await
            .expect("the postman is there");
        delivery.await.expect("it is delivered");
    }
}

fn fails(said: Option<&Said>) -> bool {
    matches!(said, Some(Said::Duplicate | Said::Deadlock))
}

/// Hands over what is due, in the order of the effects.
async fn postman(mut post: mpsc::Receiver<Parcel>, tee: mpsc::Sender<Exchange>) {
    while let Some((exchange, due, delivered)) = post.recv().await {
        sleep_until(due).await;
        tee.send(exchange).await.expect("the dispatcher is there");
        let _gone = delivered.send(());
    }
}

/// What the dispatcher's desk knows of a session, by the real code.
struct Desk {
    journal: Journal,
    tracker: Tracker,
}

/// A command to be replayed, or only its end.
struct Job {
    exchange: Exchange,
    reading: Reading,
    step: Step,
    /// The primary gave it up for reasons of its own: it is not run.
    skipped: bool,
    ticket: Option<Ticket>,
}

/// What all replays share.
struct World {
    tainted: Mutex<Scope>,
    start: Instant,
    line: Arc<Line>,
    recent: Mutex<Recent>,
    overtaking: Mutex<Recent>,
    tally: Mutex<Tally>,
    faults: Mutex<Vec<String>>,
    unexplained: Mutex<Vec<Glimpse>>,
}

/// A read that saw something else than on the primary.
struct Glimpse {
    session: u64,
    scope: Scope,
    from: Instant,
    to: Instant,
    done: Instant,
    what: String,
}

impl Desk {
    fn job(&mut self, world: &World, shapes: &Shapes, exchange: Exchange) -> Job {
        let texts: Vec<String> = exchange.command.iter().map(ToString::to_string).collect();
        let payload = [b"\x03", texts.join("; ").as_bytes()].concat();
        let reader = Reader {
            shapes,
            journal: &self.journal,
            capabilities: Capabilities::default(),
            no_backslash_escapes: false,
            databases: &BTreeMap::new(),
            missing: Missing::Nothing,
        };
        let reading = reader.read(&payload);
        let flag = Some(exchange.flag_after);
        let several = exchange.answer.len() > 1;
        let said = match exchange.answer.last() {
            Some(Said::Deadlock) => Word::Failed(1213, flag.filter(|_| several)),
            Some(Said::Duplicate) => Word::Failed(1062, flag.filter(|_| several)),
            _ => Word::Done(flag),
        };
        let step = self.tracker.step(&Seen {
            flag_before: exchange.flag_before,
            said,
            control: reading.control,
            commits: commits(&reading, said),
            resets: false,
            reads: reads_to_the_end(&reading) && self.journal.keeps_snapshot(),
            writes: written(&reading),
            touches: &reading.scope,
            began: exchange.began,
        });
        let long = std::collections::BTreeSet::new();
        for entry in reading.entries(&payload, Capabilities::default(), None, &long) {
            self.journal.apply(&entry, 8);
        }
        let session = exchange.session as u64;
        let unknown = step.ended == Some(Ending::Unknown);
        let skipped = unknown || exchange.answer.last() == Some(&Said::Deadlock);
        let mut committed = Scope::none();
        if matches!(step.ended, Some(Ending::Commit | Ending::Unknown)) {
            committed.join(&step.wrote);
        }
        if !step.after || reading.ends_inside {
            committed.join(&reading.writes);
        }
        if !committed.is_empty() {
            let (began, acked) = (exchange.began, exchange.acked);
            world.recent.lock().push(session, committed, began, acked);
        }
        if std::env::var_os("UNDERSTUDY_SEED").is_some() {
            let at = |then: Instant| then.saturating_duration_since(world.start).as_millis();
            println!(
                "{session} {}..{}: {} {:?}: {:?} {:?}",
                at(exchange.began),
                at(exchange.acked),
                texts.join("; "),
                exchange.answer,
                part(&reading, &step).0,
                step.ended,
            );
        }
        let place = if skipped {
            part_of_end(&step)
        } else {
            Some(part(&reading, &step))
        };
        let ticket = place.map(|(part, scope)| {
            let (began, acked) = (exchange.began, exchange.acked);
            let writes = reading.writes.clone();
            world.line.join(Request {
                session,
                part,
                scope,
                writes,
                began,
                acked,
                statement: None,
            })
        });
        Job {
            exchange,
            reading,
            step,
            skipped,
            ticket,
        }
    }
}

/// A session's replay, as in `replay` and `perform` but for the sockets.
struct Worker {
    world: Arc<World>,
    connection: Connection,
    rng: StdRng,
    kept: Vec<Command>,
    /// The transaction's commands are not all kept.
    is_partial: bool,
    wrote: Scope,
    broken: bool,
    /// Locks of the shadow are not those of the primary.
    coarse: bool,
}

impl Worker {
    async fn serve(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            self.run(job).await;
        }
    }

    async fn run(&mut self, job: Job) {
        if !job.step.before {
            self.connection.roll_back();
            self.forget();
        }
        if job.skipped {
            self.connection.roll_back();
            // What the primary refused and may have committed nevertheless is not known, and what
            // follows it in a transaction is not run.
            if job.step.ended == Some(Ending::Unknown) {
                self.taint(&job);
            }
            self.forget();
            self.broken = job.step.ended == Some(Ending::Unknown) && job.step.after;
            return;
        }
        let Some(ticket) = &job.ticket else { return };
        if self.broken {
            self.taint(&job);
            if !job.step.after {
                self.forget();
            }
            return;
        }
        let (turn, yielded) = self.turn(ticket).await;
        if yielded && job.reading.ends_inside {
            self.taint(&job);
        }
        let session = job.exchange.session as u64;
        if turn == Turn::Late {
            self.world.tally.lock().late += 1;
            if self.coarse {
                self.taint(&job);
            } else {
                self.fault(format!("late: {}", words(&job)));
            }
        }
        if turn != Turn::Came {
            self.world.tally.lock().overtook_reads += 1;
            let mut scope = job.reading.writes.clone();
            scope.join(&job.step.wrote);
            let mut overtaking = self.world.overtaking.lock();
            overtaking.push(session, scope, job.exchange.began, Instant::now());
        }
        ticket.start();
        sleep(Duration::from_millis(self.rng.random_range(0..5))).await;
        let answer = self.perform(&job).await;
        self.wrote.join(&job.reading.writes);
        let out_of_step = job.step.after && !self.connection.in_transaction();
        if out_of_step || answer.last() == Some(&Said::Deadlock) {
            self.taint(&job);
            self.broken = job.step.after;
            return;
        }
        self.judge(&job, &answer);
        if job.step.ended.is_some() || !job.step.after {
            self.forget();
            self.is_partial = job.step.after;
        }
        if job.step.after && job.reading.ends_inside {
            self.is_partial = true;
        } else if job.step.after {
            self.kept.push(job.exchange.command.clone());
        }
    }

    /// The tables that the command wrote, and its transaction, hold other rows from here on.
    fn taint(&self, job: &Job) {
        let mut tainted = self.world.tainted.lock();
        tainted.join(&job.reading.writes);
        tainted.join(&job.step.wrote);
        tainted.join(&self.wrote);
        self.world.tally.lock().tainted += 1;
    }

    fn forget(&mut self) {
        self.broken = false;
        self.is_partial = false;
        self.kept.clear();
        self.wrote = Scope::none();
    }

    /// Waits for its turn; says whether it gave its locks back meanwhile.
    async fn turn(&mut self, ticket: &Ticket) -> (Turn, bool) {
        let turn = ticket.turn(YIELD_AFTER).await;
        if turn != Turn::Late {
            return (turn, false);
        }
        if self.wrote.is_empty() || self.is_partial {
            let rest = ORDER_WAIT.saturating_sub(YIELD_AFTER);
            return (ticket.turn(rest).await, false);
        }
        self.world.tally.lock().yielded += 1;
        self.connection.roll_back();
        let turn = ticket.turn(ORDER_WAIT).await;
        for tried in 0..RETRIES {
            if self.again().await {
                break;
            }
            sleep(Duration::from_millis(5) * 2_u32.pow(tried)).await;
        }
        (turn, true)
    }

    async fn perform(&mut self, job: &Job) -> Vec<Said> {
        let mut answer = self.ask(&job.exchange.command).await;
        for tried in 0..RETRIES {
            if answer.last() != Some(&Said::Deadlock) || !self.may_repeat(job) {
                break;
            }
            self.world.tally.lock().retried += 1;
            sleep(Duration::from_millis(5) * 2_u32.pow(tried)).await;
            if self.again().await {
                answer = self.ask(&job.exchange.command).await;
            }
        }
        answer
    }

    fn may_repeat(&self, job: &Job) -> bool {
        let open = job.step.before || job.step.after;
        !job.reading.ends_inside
            && if open {
                job.step.ended.is_none() && !self.is_partial
            } else {
                job.exchange.command.len() == 1
            }
    }

    /// Runs the transaction's commands so far again; whether that was done.
    async fn again(&mut self) -> bool {
        for command in self.kept.clone() {
            if self.ask(&command).await.last() == Some(&Said::Deadlock) {
                return false;
            }
        }
        true
    }

    async fn ask(&mut self, command: &Command) -> Vec<Said> {
        let mut answer = Vec::new();
        for statement in command {
            answer.push(self.connection.run(*statement).await);
            if fails(answer.last()) {
                break;
            }
        }
        answer
    }

    fn judge(&self, job: &Job, answer: &[Said]) {
        let mut tally = self.world.tally.lock();
        tally.commands += 1;
        let is_read = job.reading.class == Class::Read;
        tally.reads += u64::from(is_read);
        drop(tally);
        if answer == job.exchange.answer || self.world.tainted.lock().meets(&job.reading.scope) {
            return;
        }
        let what = format!("{} said {answer:?}", words(job));
        if !is_read && !matches!(job.exchange.command[0], Statement::Read { .. }) {
            return self.fault(what);
        }
        let done = Instant::now();
        let (from, to) = match job.step.snapshot {
            Some(opened) => (opened, done),
            None => (job.exchange.began, job.exchange.acked),
        };
        self.world.unexplained.lock().push(Glimpse {
            session: job.exchange.session as u64,
            scope: job.reading.scope.clone(),
            from,
            to,
            done,
            what,
        });
    }

    fn fault(&self, what: String) {
        self.world.faults.lock().push(what);
    }
}

fn words(job: &Job) -> String {
    let exchange = &job.exchange;
    let texts: Vec<String> = exchange.command.iter().map(ToString::to_string).collect();
    let (session, answer) = (exchange.session, &exchange.answer);
    format!(
        "session {session}: {}: {answer:?}; the shadow",
        texts.join("; ")
    )
}

/// Draws a history, replays it, and says what broke.
async fn play(seed: u64, manner: Manner) -> Result<Tally, String> {
    let rows = || {
        let all = TABLES
            .iter()
            .flat_map(|table| (0..IDS).map(move |id| (*table, id)));
        all.filter(|(_, id)| id % 3 != 1).map(|row| (row, 7))
    };
    let (primary, shadow) = (
        Database::new(1, rows()),
        Database::new(manner.grain, rows()),
    );
    let start = Instant::now();
    let (post, parcels) = mpsc::channel(64);
    let (tee, mut handed) = mpsc::channel(1024);
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..manner.sessions {
        clients.spawn(client(number, seed, Arc::clone(&primary), post.clone()));
    }
    drop(post);
    clients.spawn(postman(parcels, tee));
    let world = Arc::new(World {
        start,
        tainted: Mutex::new(Scope::none()),
        line: Arc::default(),
        recent: Mutex::default(),
        overtaking: Mutex::default(),
        tally: Mutex::default(),
        faults: Mutex::default(),
        unexplained: Mutex::default(),
    });
    if manner.backlog {
        while clients.join_next().await.is_some() {}
    }
    let shapes = Shapes::new(64);
    let mut desks: BTreeMap<usize, (Desk, mpsc::Sender<Job>)> = BTreeMap::new();
    let mut workers = tokio::task::JoinSet::new();
    while let Some(exchange) = handed.recv().await {
        let number = exchange.session;
        let (desk, jobs) = desks.entry(number).or_insert_with(|| {
            let worker = Worker {
                world: Arc::clone(&world),
                connection: Connection::new(&shadow, number),
                rng: StdRng::seed_from_u64(seed.wrapping_add(number as u64 * 7919)),
                kept: Vec::new(),
                is_partial: false,
                wrote: Scope::none(),
                broken: false,
                coarse: manner.grain > 1,
            };
            let (jobs, receiver) = mpsc::channel(64);
            workers.spawn(worker.serve(receiver));
            let desk = Desk {
                journal: Journal::new("app"),
                tracker: Tracker::default(),
            };
            (desk, jobs)
        });
        let job = desk.job(&world, &shapes, exchange);
        jobs.send(job).await.expect("the replay is there");
    }
    drop(desks);
    while workers.join_next().await.is_some() {}
    judge(&world, &primary, &shadow)
}

fn judge(world: &World, primary: &Database, shadow: &Database) -> Result<Tally, String> {
    if let Some(fault) = world.faults.lock().first() {
        return Err(fault.clone());
    }
    let mut tally = *world.tally.lock();
    for one in world.unexplained.lock().iter() {
        let met = |points: &Recent, to| points.met(one.session, &one.scope, one.from, to);
        let raced = met(&world.recent.lock(), one.to) || met(&world.overtaking.lock(), one.done);
        if !raced {
            return Err(format!("unexplained: {}", one.what));
        }
        tally.raced += 1;
    }
    tally.lock_waits = shadow.lock_waits();
    let (one, other) = (primary.versions(), shadow.versions());
    let tainted = world.tainted.lock();
    let is_tainted = |row: &Row| {
        let table = Table {
            database: Some("app".into()),
            name: row.0.into(),
        };
        tainted.meets(&Scope::Known([table].into()))
    };
    match one
        .iter()
        .find(|(row, values)| other.get(*row) != Some(*values) && !is_tainted(row))
    {
        Some((row, values)) => Err(format!("{row:?} was {values:?}, is {:?}", other.get(row))),
        None => Ok(tally),
    }
}

fn run(seed: u64, manner: Manner) -> Result<Tally, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let played = async { tokio::time::timeout(Duration::from_secs(600), play(seed, manner)).await };
    let played = runtime.block_on(played);
    played.unwrap_or_else(|_| Err("it never ends".to_owned()))
}

const SAME_LOCKS: Manner = Manner {
    sessions: 4,
    grain: 1,
    backlog: false,
};

fn all(seeds: std::ops::Range<u64>, manner: Manner) -> Tally {
    let mut sum = Tally::default();
    for seed in seeds {
        match run(seed, manner) {
            Ok(tally) => sum.add(tally),
            Err(broken) => panic!("seed {seed}, {manner:?}: {broken}"),
        }
    }
    println!("{manner:?}: {sum:?}");
    assert!(
        sum.raced * 2 < sum.reads,
        "most reads say something: {sum:?}"
    );
    sum
}

#[test]
fn with_the_primarys_locks_nothing_waits_in_vain_over_thousands_of_histories() {
    for backlog in [false, true] {
        let sum = all(
            0..1000,
            Manner {
                backlog,
                ..SAME_LOCKS
            },
        );
        let waits = (sum.yielded, sum.retried, sum.overtook_reads, sum.tainted);
        assert_eq!(waits, (0, 0, 0, 0), "{sum:?}");
    }
}

#[test]
fn with_coarser_locks_everything_still_ends_the_same() {
    for backlog in [false, true] {
        let manner = Manner {
            backlog,
            grain: 3,
            ..SAME_LOCKS
        };
        let sum = all(0..300, manner);
        assert!(sum.lock_waits > 0, "{sum:?}");
        assert!(sum.late * 200 < sum.commands, "{sum:?}");
        assert!(sum.tainted * 100 < sum.commands, "{sum:?}");
    }
}

/// The first seed at which the model sees the bug.
fn caught(bug: Bug) -> Option<(u64, String)> {
    let manner = Manner {
        backlog: true,
        ..SAME_LOCKS
    };
    planted::plant(Some(bug));
    let found = (0..200).find_map(|seed| run(seed, manner).err().map(|broken| (seed, broken)));
    planted::plant(None);
    found
}

#[test]
fn each_rule_that_is_taken_out_is_missed() {
    for (bug, how) in [
        (Bug::ReadsOvertake, "unexplained"),
        (Bug::CommitsOvertakeReads, "unexplained"),
        (Bug::WritesOvertake, ""),
    ] {
        let found = caught(bug);
        println!("{bug:?}: {found:?}");
        assert!(
            found.is_some_and(|(_, broken)| broken.starts_with(how)),
            "{bug:?}"
        );
    }
}

#[test]
fn an_end_that_waits_for_writes_gives_its_locks_back_far_more_often() {
    let manner = Manner {
        grain: 3,
        ..SAME_LOCKS
    };
    let yielded = |bug| {
        planted::plant(bug);
        let played = (0..200).map(|seed| run(seed, manner).map_or(0, |tally| tally.yielded));
        let sum: u64 = played.sum();
        planted::plant(None);
        sum
    };
    let (sound, broken) = (yielded(None), yielded(Some(Bug::EndsWaitForWrites)));
    println!("{sound} without the bug, {broken} with it");
    assert!(
        broken * 2 > sound * 3,
        "{sound} without the bug, {broken} with it"
    );
}

#[test]
fn replay_a_model_history() {
    let read = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let manner = Manner {
        grain: read("UNDERSTUDY_GRAIN").unwrap_or(1),
        backlog: read("UNDERSTUDY_BACKLOG") == Some(1),
        ..SAME_LOCKS
    };
    let seed = read("UNDERSTUDY_SEED").unwrap_or(0);
    if let Err(broken) = run(seed, manner) {
        panic!("seed {seed}, {manner:?}: {broken}");
    }
}

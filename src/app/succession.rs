//! A start that takes over from a process which serves: clients first, then, once that one has left the ledger, all
//! the rest.
//!
//! In four steps, each of which has what is known by then: all that may fail is made [`Ready`] while the other process
//! serves; its clients are taken; this one is [`Waiting`] for the ledger; and then it goes on as after any start.

use super::doors::{Given, Operating, Places};
use super::front::Front;
use super::handover::{self, BOTH_END, Giving, Taken, Word};
use super::house::Feed;
use super::primary::Start;
use super::rest::{Materials, Rest};
use super::runtime::Threads;
use super::signals::Signals;
use super::supervisor::Supervisor;
use super::{
    AppError, Doors, FALL, Outset, Serving, broken, estate, judged, open_ledger, probe, verifying,
};
use crate::config::Config;
use crate::cutover::Fleet;
use crate::ledger::Judged;
use crate::relay::Offer;
use crate::roles::Roles;
use crate::shadow::{Control, Early, Written};
use crate::task;
use crate::tee::{Receiver, Tee};
use rustix::net::Shutdown;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The primary may take so long to answer this process; the old one waits for longer.
const ANSWER: Duration = Duration::from_secs(5);

/// A process that is gone has no ledger after this time. Where one still has it then, it lives, and may serve again.
const GONE: Duration = Duration::from_secs(5);

/// Serves from the old process' word on. Until then an error changes nothing for clients: the old one goes on.
pub(super) async fn serve(outset: Outset, threads: &Threads, taken: Taken) -> Result<(), AppError> {
    let ready = Ready::prepare(outset, threads, taken).await?;
    let (mut waiting, inheritance) = ready.take(threads).await?;
    let supervisor = Arc::clone(&waiting.supervisor);
    let raised = tokio::select! {
        raised = waiting.inherit(threads, inheritance) => raised,
        never = supervisor.feed(threads.relay.handles()) => match never {},
    };
    match raised {
        Ok(rest) => waiting.go_on(threads, rest).await,
        Err(error) => {
            waiting.drain().await;
            Err(late(error))
        }
    }
}

/// All that it takes to serve is there, and the other process serves.
struct Ready {
    config: Arc<Config>,
    signals: Signals,
    started: Instant,
    supervisor: Arc<Supervisor>,
    fleet: Option<Arc<Fleet>>,
    tee: Tee,
    receiver: Receiver,
    judged: Judged,
    front: Front,
    writer: watch::Sender<Roles>,
    doors: Doors,
    copies: Given,
    taken: Taken,
}

impl Ready {
    /// Tries what the config names: behind the old process' word nobody could take it back.
    ///
    /// # Errors
    /// Anything that it takes to serve is not there.
    async fn prepare(
        outset: Outset,
        threads: &Threads,
        mut taken: Taken,
    ) -> Result<Self, AppError> {
        let Outset {
            config,
            signals,
            started,
            supervisor,
            fleet,
            tee,
            receiver,
        } = outset;
        let roles = roles(&config, taken.primary())?;
        let judged = judged(&config)?;
        let offer = Offer::new(taken.dialect());
        let (front, writer) = Front::build(&config, threads, tee.clone(), roles, offer)?;
        let given = taken.doors();
        let given = given.ok_or_else(|| AppError::Failed("there are no listeners".to_owned()))?;
        let doors = Doors::taken(threads, &config, given)?;
        let copies = doors.copies()?;
        answers(&front).await?;
        Ok(Self {
            config,
            signals,
            started,
            supervisor,
            fleet,
            tee,
            receiver,
            judged,
            front,
            writer,
            doors,
            copies,
            taken,
        })
    }

    /// Has the old process leave its clients to this one, and serves them.
    ///
    /// # Errors
    /// It has not, and may go on: nobody is served here.
    async fn take(mut self, threads: &Threads) -> Result<(Waiting, Inheritance), AppError> {
        self.taken.ready().await?;
        let Self {
            config,
            supervisor,
            front,
            doors,
            taken,
            ..
        } = self;
        let relay = front.open(threads, doors.clients);
        if taken.is_supervised() {
            // The old one speaks for both, to its end.
            supervisor.is_silent(true);
        } else {
            supervisor.takes_over();
        }
        tracing::info!(
            "clients are served on {}; process {} ends its sessions, and until it has, nothing is mirrored, and operators are answered by that one",
            doors.at.clients,
            taken.process()
        );
        let control = switches(&config, &front, &taken);
        let inheritance = Inheritance {
            judged: self.judged,
            tee: self.tee,
            early: Collecting::start(threads, Early::new(self.receiver, control)),
            writer: self.writer,
            operating: doors.operating,
            fleet: self.fleet.clone(),
            started: self.started,
        };
        let waiting = Waiting {
            config,
            supervisor,
            fleet: self.fleet,
            front,
            copies: self.copies,
            at: doors.at,
            signals: self.signals,
            relay,
            taken,
            ends: false,
        };
        Ok((waiting, inheritance))
    }
}

/// Who is primary, by the old process' word.
fn roles(config: &Config, primary: &str) -> Result<Roles, AppError> {
    Roles::with_primary(config, primary).ok_or_else(|| {
        AppError::Failed(format!(
            "--take-over: {primary} is primary, and the config has no server of that name"
        ))
    })
}

/// Whether the primary answers this process, by this config.
async fn answers(front: &Front) -> Result<(), AppError> {
    let primary = Arc::clone(&front.roles.borrow().primary);
    let within = primary.connect_timeout.min(ANSWER);
    let tried = probe::try_out(&*front.dial, &primary, within).await;
    tried.map_err(|error| {
        AppError::Failed(format!(
            "--take-over: {} does not serve this process as the config says: {error}. The process that serves goes on",
            primary.name
        ))
    })
}

/// An error once clients are served here. The process before this one has no more to do with it, and a supervisor is
/// to start the next one, whatever it was: an error of the config would be the end of all.
fn late(error: AppError) -> AppError {
    let (AppError::Config(why) | AppError::Failed(why)) = error;
    AppError::Failed(format!(
        "{why}. Clients had been handed over to this process, and their sessions were ended"
    ))
}

/// The mirror's switches: the config's, but for what an operator or a cutover had switched in the old process.
fn switches(config: &Config, front: &Front, taken: &Taken) -> Control {
    let fed_by = front.roles.borrow().shadow.fed_by;
    let control = Control::after(&config.mirror, taken.switched(), fed_by);
    if control != Control::new(&config.mirror) {
        tracing::info!(
            reads = control.reads,
            writes = control.writes.name(),
            sample = control.sample,
            paused = control.paused,
            observe = control.observe,
            "the mirror's switches are as they were set in process {}",
            taken.process()
        );
    }
    control
}

/// The ledger, which must say what the old process said.
async fn opened(
    config: &Arc<Config>,
    judged: Judged,
    taken: &Taken,
    tee: Tee,
) -> Result<Start, AppError> {
    let (config, token) = (Arc::clone(config), taken.token().to_owned());
    // A large ledger, or a slow disk, may take longer than a watchdog waits.
    let opening = tokio::task::spawn_blocking(move || {
        open_ledger(&config, judged, (None, None), &tee, Some(&token))
    });
    let start = opening
        .await
        .map_err(|error| AppError::Failed(format!("the ledger could not be opened: {error}")))??;
    let (told, is) = (taken.primary(), &start.roles.primary.name);
    if told == is {
        return Ok(start);
    }
    let why = format!(
        "the process before this one said that {told} is primary, and its ledger says {is}: this is a fault of understudy's. Start it again"
    );
    start.ledger.close();
    Err(AppError::Failed(why))
}

/// What clients say lies, on the shadow side's threads.
struct Collecting {
    task: JoinHandle<Early>,
    end: CancellationToken,
}

impl Collecting {
    fn start(threads: &Threads, early: Early) -> Self {
        let end = CancellationToken::new();
        let until = end.clone().cancelled_owned();
        let task = task::spawn_on(threads.shadow.handle(), "early", early.collect(until));
        Self { task, end }
    }

    async fn end(self) -> Result<Early, AppError> {
        self.end.cancel();
        self.task.await.map_err(|error| {
            AppError::Failed(format!(
                "what clients said before there was a mirror is lost ({error}): this is a fault of understudy's; start it again"
            ))
        })
    }
}

/// What there is for the time when the ledger is this process'.
struct Inheritance {
    judged: Judged,
    tee: Tee,
    early: Collecting,
    writer: watch::Sender<Roles>,
    operating: Operating,
    fleet: Option<Arc<Fleet>>,
    started: Instant,
}

/// Clients are served, and the old process still has the ledger.
struct Waiting {
    config: Arc<Config>,
    supervisor: Arc<Supervisor>,
    fleet: Option<Arc<Fleet>>,
    front: Front,
    /// The listeners, which both processes have.
    copies: Given,
    at: Places,
    signals: Signals,
    relay: JoinHandle<()>,
    taken: Taken,
    /// It was told to end: its own sessions have.
    ends: bool,
}

impl Waiting {
    /// Waits for the ledger, and raises all that needs it.
    async fn inherit(&mut self, threads: &Threads, of: Inheritance) -> Result<Rest, AppError> {
        let written = self.for_the_ledger(threads).await?;
        if !self.ends {
            self.supervisor.takes_over();
        }
        let start = opened(&self.config, of.judged, &self.taken, of.tee).await?;
        let early = of.early.end().await;
        let early = early.inspect_err(|_| start.ledger.close())?;
        Rest::raise(Materials {
            config: &self.config,
            threads,
            front: &self.front,
            writer: of.writer,
            start,
            feed: Feed::After(Box::new(early), written),
            operating: of.operating,
            fleet: of.fleet,
            started: of.started,
            serves: true,
        })
        .await
    }

    /// Waits until the old process has left the ledger; what its sessions wrote meanwhile. Where either is told to end,
    /// both end their sessions; told again, this one cuts its own off.
    async fn for_the_ledger(&mut self, threads: &Threads) -> Result<Written, AppError> {
        let deadline = self.taken.deadline();
        let relay = threads.relay.handles();
        let (why, is_told) = tokio::select! {
            left = left(&self.config, &mut self.taken, relay, deadline) => match left? {
                Left::Ledger(written) => return Ok(written),
                Left::End => ("its word".to_owned(), true),
            },
            signal = self.signals.next() => (signal.to_owned(), false),
            ended = &mut self.relay => {
                let why = ended.err().map_or_else(String::new, |error| error.to_string());
                return Err(AppError::Failed(format!("the relay broke: {why}")));
            }
            () = threads.relay.broken() => return Err(broken()),
        };
        tracing::info!(
            "{why}: no new connections, here and in process {}; transactions may end, idle sessions close",
            self.taken.process()
        );
        let both = self.begin(is_told).await;
        let deadline = deadline.min(Instant::now() + both);
        let Self {
            config,
            front,
            relay: accepts,
            signals,
            taken,
            ..
        } = self;
        let drained = async {
            tokio::select! {
                () = drain(front, accepts) => {}
                signal = signals.next() => tracing::warn!("{signal} again: sessions are cut off"),
            }
        };
        let inherited = async {
            loop {
                if let Left::Ledger(written) = left(config, taken, relay, deadline).await? {
                    return Ok::<_, AppError>(written);
                }
            }
        };
        let ((), written) = tokio::join!(drained, inherited);
        written
    }

    /// Both processes end, within this time. `is_told`: by the old one's word.
    async fn begin(&mut self, is_told: bool) -> Duration {
        self.ends = true;
        let own = self.config.listen.drain_timeout.now();
        let both = own.max(self.taken.drain()) + BOTH_END;
        self.supervisor.stopping(both);
        // Only once the old one knows that it does not serve again: nobody is to wait there for processes that end, and no
        // other copy of the listener keeps it open.
        if (is_told || self.taken.end().await)
            && let Err(error) = rustix::net::shutdown(&self.copies.clients, Shutdown::Both)
        {
            tracing::debug!(%error, "who connects now is not refused but waits");
        }
        both
    }

    /// Ends the sessions here, within the drain's time.
    async fn drain(&mut self) {
        self.ends = true;
        drain(&self.front, &mut self.relay).await;
    }

    /// The ledger is this process', and the mirror runs: goes on as after any start, or ends.
    async fn go_on(self, threads: &Threads, rest: Rest) -> Result<(), AppError> {
        let Self {
            config,
            supervisor,
            fleet,
            front,
            copies,
            at,
            mut signals,
            relay,
            taken,
            ends,
        } = self;
        // The old one waits for this process' end where both end, which is what closes the connection.
        std::mem::forget(taken);
        if !ends {
            verifying::go_on(rest.verifier.as_ref()).await;
        }
        let giving = Giving::start(estate(&config, &front, &rest, &supervisor, copies)).await;
        signals.forget_hand_over();
        if ends {
            giving.close(false).await;
            rest.house.catch_up(handover::CATCH_UP).await;
            rest.fall(&giving, &front.roles, fleet.as_ref()).await;
            return Ok(());
        }
        let serving = Serving {
            config,
            signals,
            supervisor,
            fleet,
            front,
            rest,
            relay,
            giving,
        };
        serving.serve_to_the_end(threads, at).await
    }
}

async fn drain(front: &Front, relay: &mut JoinHandle<()>) {
    front.drain.cancel();
    if !relay.is_finished() {
        let _ = relay.await;
    }
}

/// What comes of the old process.
enum Left {
    /// It has left the ledger; what its sessions wrote.
    Ledger(Written),
    /// It was told to end, and this one is to end too.
    End,
}

/// Resolves once the old process has left the ledger, or was told to end.
///
/// # Errors
/// It still has the ledger.
async fn left(
    config: &Config,
    taken: &mut Taken,
    relay: &[Handle],
    deadline: Instant,
) -> Result<Left, AppError> {
    let word = tokio::time::timeout_at(deadline, taken.heard(relay)).await;
    let (path, process) = (&config.ledger.path, taken.process());
    let written = match word {
        Ok(Word::End) => return Ok(Left::End),
        Ok(Word::Gone) => return gone(path, process).await,
        Ok(Word::Ended(written)) => written,
        Err(_) => Written::anything(),
    };
    let last = deadline.max(Instant::now() + FALL);
    if handover::is_freed(path, last).await {
        return Ok(Left::Ledger(written));
    }
    Err(AppError::Failed(format!(
        "process {process}, which handed over, still has the ledger {}, and its time to end is over: its log says what it is at. End it, and start again",
        path.display()
    )))
}

/// The old process has closed the connection: dead, it has no ledger any more. Alive it serves again, and two that
/// serve, one of them unmirrored, is what must not be.
async fn gone(path: &Path, process: u32) -> Result<Left, AppError> {
    if handover::is_freed(path, Instant::now() + GONE).await {
        return Ok(Left::Ledger(Written::anything()));
    }
    Err(AppError::Failed(format!(
        "process {process} has closed the connection to this one and lives: it still has the ledger {}, and may serve again, so this one does not. Where nobody is served, end that one, and start again",
        path.display()
    )))
}

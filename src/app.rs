//! Builds every part, binds, starts, drains.
//!
//! The relay, the shadow side and the admin each have threads of their own; the shadow's run at a
//! lower priority, and what breaks there never reaches the relay. Neither server needs to be there
//! at the start: without the primary clients are told so, without the shadow nothing is mirrored.
//!
//! There are two steps: the front serves clients, the rest looks at what they do. A first start raises the rest
//! before anybody is served; one that takes over from another process serves first, and raises the rest once that
//! one has left it the ledger.

mod doors;
mod fleet;
mod front;
mod handover;
mod house;
mod limits;
mod logging;
mod primary;
mod probe;
mod reload;
mod rest;
mod runtime;
mod succession;
mod supervisor;
mod verifying;

pub use handover::detach;
pub use limits::{Need, needs};
pub use logging::log_to_stderr;
pub use verifying::{held, left_out, of, sureness};

use crate::config::{Config, Server};
use crate::cutover::fleet::Primary;
use crate::cutover::{Cutovers, Fleet};
use crate::ledger::{AskCommands, Commands, Floor, Judged, Ledger};
use crate::relay::Offer;
use crate::roles::{Roles, RolesWatch};
use crate::tee::{self, Receiver, Tee};
use doors::{Doors, Operators, Places};
use front::Front;
use futures_util::FutureExt as _;
use handover::{Estate, Giving, Heirs};
use house::{Feed, Running};
use primary::Start;
use rest::{Materials, Rest};
use runtime::Threads;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use supervisor::Supervisor;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

/// Why it does not serve, or does not any more.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The config names what cannot be used.
    #[error("{0}")]
    Config(String),
    /// Something that is needed failed.
    #[error("{0}")]
    Failed(String),
}

impl AppError {
    fn failed(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Failed(format!("{what}: {error}"))
    }
}

/// After the first try to reach both servers has taken this long, clients are served anyway.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Time for the shadow side to finish what was handed over, once no client is left.
const MIRROR_DRAIN: Duration = Duration::from_secs(8);

/// Time for a cutover under way to let everybody go.
const CUTOVER_STOP: Duration = Duration::from_secs(10);

/// Time for the ledger to write what waits.
const LEDGER_CLOSE: Duration = Duration::from_secs(10);

/// Time for all that a stop does besides: the verification's end, the fleet's, the threads'.
const STOP_ASIDE: Duration = Duration::from_secs(20);

/// All that a process takes at most from its last session to its end.
const FALL: Duration = MIRROR_DRAIN
    .saturating_add(LEDGER_CLOSE)
    .saturating_add(STOP_ASIDE);

/// How it is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct How<'a> {
    /// The server that answers where the ledger does not tell.
    pub primary: Option<&'a str>,
    /// A process that serves with this config is to hand over.
    pub take_over: bool,
}

/// Serves until SIGTERM or SIGINT, or until another process has taken over, then drains.
///
/// # Errors
/// The config cannot be used, an address is taken, the ledger cannot be opened or does not tell who is
/// primary, the process that serves does not hand over, or the relay broke.
pub fn run(config: Config, how: How<'_>) -> Result<(), AppError> {
    limits::prepare_machine(&config);
    let config = Arc::new(config);
    let fleet = fleet::of(&config)?;
    let threads = Threads::new(&config).map_err(AppError::failed("threads cannot be started"))?;
    let served = threads.block_on(serve(&config, how, fleet.as_ref(), &threads));
    threads.end();
    // No session is left: the others need not wait for this proxy any more.
    if let Some(fleet) = fleet {
        fleet::leave(&fleet);
    }
    served
}

async fn serve(
    config: &Arc<Config>,
    how: How<'_>,
    fleet: Option<&Arc<Fleet>>,
    threads: &Threads,
) -> Result<(), AppError> {
    let signals = Signals::new().map_err(AppError::failed("signals cannot be listened for"))?;
    let (tee, receiver) = tee::door(limits::tee(config));
    let mut outset = Outset {
        config: Arc::clone(config),
        signals,
        started: tokio::time::Instant::now(),
        supervisor: Arc::new(Supervisor::from_environment()),
        fleet: fleet.cloned(),
        tee,
        receiver,
    };
    if how.take_over
        && let Some(taken) = handover::ask(config).await?
    {
        agree(how.primary, taken.primary())?;
        return succession::serve(outset, threads, taken).await;
    }
    // A second start with the same config fails here, before it can touch the first one's ledger.
    let operators = Operators::bind(config)?;
    // And no client is let in before it is known who answers.
    let joined = tokio::select! {
        joined = fleet::join(fleet.map(Arc::as_ref), config, how.primary) => joined?,
        signal = outset.signals.next() => {
            tracing::info!("{signal}: it had not begun to serve");
            return Ok(());
        }
    };
    let doors = Doors::bind(threads, config, operators)?;
    serve_first(outset, threads, doors, (how.primary, joined.as_ref())).await
}

/// Whom `--primary` names must be who is primary, in the word of the process that serves.
fn agree(named: Option<&str>, is: &str) -> Result<(), AppError> {
    match named {
        Some(name) if name != is => Err(AppError::Failed(format!(
            "--take-over: --primary names {name}, and {is} is primary, says the process that serves, and goes on: leave --primary out"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// What there is before anything is built that lasts.
struct Outset {
    config: Arc<Config>,
    signals: Signals,
    started: tokio::time::Instant,
    supervisor: Arc<Supervisor>,
    fleet: Option<Arc<Fleet>>,
    tee: Tee,
    receiver: Receiver,
}

/// No other process serves. `told` is whom `--primary` names, and who the fleet says is primary.
async fn serve_first(
    outset: Outset,
    threads: &Threads,
    doors: Doors,
    told: (Option<&str>, Option<&Primary>),
) -> Result<(), AppError> {
    let Outset {
        config,
        signals,
        started,
        supervisor,
        fleet,
        tee,
        receiver,
    } = outset;
    let start = open_ledger(&config, judged(&config)?, told, &tee, None)?;
    fleet::declare(fleet.as_deref(), &start.roles.primary.name)
        .await
        .inspect_err(|_| start.ledger.close())?;
    let (front, writer) = Front::build(&config, threads, tee, start.roles.clone(), Offer::all())
        .inspect_err(|_| start.ledger.close())?;
    let copies = doors.copies().inspect_err(|_| start.ledger.close())?;
    let rest = Rest::raise(Materials {
        config: &config,
        threads,
        front: &front,
        writer,
        start,
        feed: Feed::First(receiver),
        operating: doors.operating,
        fleet: fleet.clone(),
        started,
        serves: false,
    })
    .await?;
    let relay = front.open(threads, doors.clients);
    verifying::go_on(rest.verifier.as_ref()).await;
    let giving = Giving::start(estate(&config, &front, &rest, &supervisor, copies)).await;
    // Whoever hears that it is ready may ask it to hand over.
    rest.house.set_listening();
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
    serving.serve_to_the_end(threads, doors.at).await
}

/// What another process is given.
fn estate(
    config: &Arc<Config>,
    front: &Front,
    rest: &Rest,
    supervisor: &Arc<Supervisor>,
    doors: doors::Given,
) -> Estate {
    Estate {
        config: Arc::clone(config),
        relay: front.relay.clone(),
        roles: front.roles.clone(),
        offer: front.offer.clone(),
        house: Arc::clone(&rest.house),
        cutovers: rest.cutovers.clone(),
        verifier: rest.verifier.clone(),
        ledger: rest.ledger.clone(),
        supervisor: Arc::clone(supervisor),
        doors,
    }
}

/// Everything, running.
struct Serving {
    config: Arc<Config>,
    signals: Signals,
    supervisor: Arc<Supervisor>,
    fleet: Option<Arc<Fleet>>,
    front: Front,
    rest: Rest,
    /// Accepts clients.
    relay: JoinHandle<()>,
    giving: Giving,
}

impl Serving {
    /// Serves until there is a reason to end, and ends.
    async fn serve_to_the_end(self, threads: &Threads, at: Places) -> Result<(), AppError> {
        let Self {
            config,
            signals,
            supervisor,
            fleet,
            front,
            rest,
            relay,
            giving,
        } = self;
        say_started(&config, &front.roles.borrow(), at);
        let is_steered = rest.cutovers.is_some();
        let ending = Ending {
            config: &config,
            supervisor: &supervisor,
            house: &rest.house,
            cutovers: rest.cutovers.as_ref(),
            front: &front,
            giving: &giving,
        };
        let ended = tokio::select! {
            ended = ending.until_told(signals, relay) => ended,
            why = fleet::lost(fleet.as_ref(), is_steered, &front.roles, &front.relay) => {
                ending.begin();
                Err(AppError::Failed(why))
            }
            never = attend(&supervisor, &rest.house, &front.roles, threads) => match never {},
            () = threads.relay.broken() => Err(broken()),
        };
        let falls = async {
            rest.fall(&giving, &front.roles, fleet.as_ref()).await;
            leave(&giving, &supervisor).await;
        };
        tokio::select! {
            () = falls => ended,
            never = supervisor.feed(threads.relay.handles()) => match never {},
        }
    }
}

/// The last that a process does which another one has taken over from. Where both end it is the last of both, for to a
/// supervisor its end is the service's; else the other one is named, and goes on.
async fn leave(giving: &Giving, supervisor: &Supervisor) {
    let Some(heir) = giving.heir() else {
        return;
    };
    if !giving.ends_both() {
        supervisor.leaves_to(heir);
    } else if tokio::time::timeout(handover::CATCH_UP + FALL, giving.until_gone())
        .await
        .is_err()
    {
        tracing::error!("process {heir} was told to end, and has not: it is not waited for");
    }
}

fn broken() -> AppError {
    AppError::Failed(
        "one of the relay's threads broke, and its sessions with it: this is a fault of understudy's; start it again".to_owned(),
    )
}

/// By what the ledger judges findings.
///
/// # Errors
/// The floor cannot be read.
fn judged(config: &Config) -> Result<Judged, AppError> {
    let floor = config.compare.floor.as_deref().map(Floor::read);
    let floor = floor.transpose();
    Ok(Judged {
        rules: config.compare.rules.clone(),
        stale_after: config.compare.rule_stale.clone(),
        floor: floor.map_err(|error| AppError::Config(error.to_string()))?,
    })
}

/// Opens the ledger, which says who is primary where no fleet does. `heir` is the token by which another process
/// leaves it to this one.
fn open_ledger(
    config: &Config,
    judged: Judged,
    (primary, fleet): (Option<&str>, Option<&Primary>),
    tee: &Tee,
    heir: Option<&str>,
) -> Result<Start, AppError> {
    let tee = tee.clone();
    let commands: AskCommands = Arc::new(move || {
        // What is lost was handed over before: asked the other way round, a loss in between would
        // be a verdict ahead of its command.
        let lost = tee.lost();
        Commands {
            handed: tee.handed(),
            lost,
            passed: tee.passed(),
        }
    });
    let asked = Arc::clone(&commands);
    let fed_by = primary::fed_by(config, primary, fleet);
    let open = move || Ledger::inherit(&config.ledger, fed_by, judged, asked, heir);
    Start::with(config, primary, fleet, open, move || {
        Ledger::in_memory(commands)
    })
}

/// SIGTERM and SIGINT; SIGUSR2, for another process to take over; and SIGHUP, for the config to be read again. One
/// that comes before anybody asks for it waits until then.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hand_over: tokio::signal::unix::Signal,
    reload: tokio::signal::unix::Signal,
}

/// What a signal has a process that serves do.
enum Told {
    /// End; the signal's name.
    End(&'static str),
    HandOver,
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hand_over: signal(SignalKind::user_defined2())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Lets a SIGUSR2 go that came too early.
    fn forget_hand_over(&mut self) {
        if self.hand_over.recv().now_or_never().is_some() {
            tracing::warn!(
                "SIGUSR2 came while this process was itself being handed over to, and is let go: send it again"
            );
        }
    }

    /// The next that has it end.
    ///
    /// Cancel-safe.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The next that has it do something.
    ///
    /// Cancel-safe.
    async fn any(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End("SIGTERM"),
            _ = self.interrupt.recv() => Told::End("SIGINT"),
            _ = self.hand_over.recv() => Told::HandOver,
            _ = self.reload.recv() => Told::Reload,
        }
    }
}

/// Tells the supervisor how it stands, for as long as it serves.
async fn attend(
    supervisor: &Supervisor,
    house: &Running,
    roles: &RolesWatch,
    threads: &Threads,
) -> Infallible {
    let primary = roles.borrow().primary.name.clone();
    let ready = house.until_primary_answered();
    let relay = threads.relay.handles();
    supervisor.attend(ready, &primary, relay).await
}

/// The way to the end.
struct Ending<'a> {
    config: &'a Config,
    supervisor: &'a Arc<Supervisor>,
    house: &'a Arc<Running>,
    cutovers: Option<&'a Cutovers>,
    front: &'a Front,
    giving: &'a Giving,
}

impl Ending<'_> {
    /// Whoever asks is told that it drains, and the supervisor how long that takes at most, from here to the
    /// process's end; where another one has taken over, and ends too, to the end of both.
    fn begin(&self) {
        let drain = self.config.listen.drain_timeout.now() + CUTOVER_STOP;
        let falls = if self.giving.ends_both() {
            handover::BOTH_END
        } else {
            FALL
        };
        self.house.set_draining();
        self.supervisor.stopping(drain + falls);
    }

    /// Waits for a reason to end, and then for the drain; a second signal ends the drain.
    async fn until_told(
        &self,
        mut signals: Signals,
        mut relay: JoinHandle<()>,
    ) -> Result<(), AppError> {
        let Some(signal) = self.reason(&mut signals, &mut relay).await? else {
            // Where the process that has taken over goes on, nobody is sent elsewhere.
            if self.giving.ends_both() {
                self.begin();
            }
            tracing::info!("the sessions of this process have ended, or their time is up: it ends");
            self.drained(&mut signals, &mut relay).await;
            return Ok(());
        };
        self.giving.close(false).await;
        self.begin();
        tracing::info!("{signal}: no new connections; transactions may end, idle sessions close");
        if let Some(cutovers) = self.cutovers {
            tokio::select! {
                stopped = tokio::time::timeout(CUTOVER_STOP, cutovers.stop()) => {
                    if stopped.is_err() {
                        tracing::error!("the cutover under way did not end in time; its record says how far it came");
                    }
                }
                signal = signals.next() => tracing::warn!("{signal} again: the cutover under way is not waited for"),
            }
        }
        self.drained(&mut signals, &mut relay).await;
        Ok(())
    }

    /// Why it is to end: a signal; or `None`, where another process has taken over and no session is left here.
    async fn reason(
        &self,
        signals: &mut Signals,
        relay: &mut JoinHandle<()>,
    ) -> Result<Option<&'static str>, AppError> {
        let mut heirs = Heirs::default();
        let at_most = &self.config.listen.handover_time;
        loop {
            tokio::select! {
                ended = &mut *relay => {
                    let why = ended.err().map_or_else(|| "it ended by itself".to_owned(), |error| error.to_string());
                    return Err(AppError::Failed(format!("the relay broke: {why}")));
                }
                signal = signals.any() => match signal {
                    Told::End(signal) => return Ok(Some(signal)),
                    Told::HandOver => heirs.start(self.giving.handed()),
                    Told::Reload => reload::at_signal(self.house, self.supervisor),
                },
                () = self.giving.emptied(&self.front.relay, at_most) => {
                    // Unless that process has ended just now.
                    if self.giving.close(true).await {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn drained(&self, signals: &mut Signals, relay: &mut JoinHandle<()>) {
        self.front.drain.cancel();
        tokio::select! {
            _ = relay => tracing::info!("every session has ended"),
            signal = signals.next() => tracing::warn!("{signal} again: sessions are cut off"),
        }
    }
}

fn say_started(config: &Config, roles: &Roles, places: Places) {
    let Places {
        clients: client_at,
        admin: admin_at,
        console: console_at,
    } = places;
    let at = |server: &Server| format!("{} at {}:{}", server.name, server.host, server.port);
    let tls = if config.listen.tls.is_some() {
        "with TLS for those that ask"
    } else {
        "without TLS"
    };
    tracing::info!(
        "understudy {} serves clients on {client_at}, {tls}",
        env!("CARGO_PKG_VERSION")
    );
    tracing::info!("primary: {}, which answers them", at(&roles.primary));
    let mirror = &config.mirror;
    tracing::info!(
        "shadow: {}, which rehearses: reads {}, writes {}, sample {} %",
        at(&roles.shadow),
        if mirror.reads.now() { "on" } else { "off" },
        mirror.writes.now().name(),
        mirror.sample.now() * 100.0,
    );
    let token = if config.admin.wants_token() {
        "with a token"
    } else {
        "from this host"
    };
    let scheme = if config.admin.tls.is_some() {
        "https"
    } else {
        "http"
    };
    tracing::info!("operators ask {scheme}://{admin_at}, {token}");
    if let Some(at) = console_at {
        tracing::info!(
            "the console answers SQL over the ledger: mysql -h {} -P {}, {token}",
            at.ip(),
            at.port()
        );
    }
}

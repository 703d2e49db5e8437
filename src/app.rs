//! Builds every part, binds, starts, drains.
//!
//! The relay, the shadow side and the admin each have threads of their own; the shadow's run at a
//! lower priority, and what breaks there never reaches the relay. Neither server needs to be there
//! at the start: without the primary clients are told so, without the shadow nothing is mirrored.

mod fleet;
mod house;
mod limits;
mod primary;
mod probe;
mod runtime;
mod supervisor;
mod verifying;

pub use limits::{Need, needs};
pub use verifying::{held, left_out};

use crate::admin;
use crate::config::{Config, Server};
use crate::connect::{Dial, Tcp};
use crate::cutover;
use crate::cutover::fleet::Primary;
use crate::cutover::{Carrier, Cutovers, Fleet, Helm, Unmanned};
use crate::ledger::{AskCommands, Commands, Floor, Judged, Ledger};
use crate::metrics::Metrics;
use crate::relay::{self, Offer, Relay, RelayParts};
use crate::roles::{Roles, RolesWatch};
use crate::task;
use crate::tee::{self, Receiver, Tee};
use house::Running;
use primary::Start;
use runtime::Threads;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use supervisor::Supervisor;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

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

/// Serves until SIGTERM or SIGINT, then drains. `primary` is the server that answers where the ledger
/// does not tell.
///
/// # Errors
/// The config cannot be used, an address is taken, the ledger cannot be opened or does not tell who is
/// primary, or the relay broke.
pub fn run(config: Config, primary: Option<&str>) -> Result<(), AppError> {
    limits::prepare_machine(&config);
    let config = Arc::new(config);
    let fleet = fleet::of(&config)?;
    let threads = Threads::new(&config).map_err(AppError::failed("threads cannot be started"))?;
    let served = threads.block_on(serve(&config, primary, fleet.as_ref(), &threads));
    threads.end();
    // No session is left: the others need not wait for this proxy any more.
    if let Some(fleet) = fleet {
        fleet::leave(&fleet);
    }
    served
}

async fn serve(
    config: &Arc<Config>,
    primary: Option<&str>,
    fleet: Option<&Arc<Fleet>>,
    threads: &Threads,
) -> Result<(), AppError> {
    let mut signals = Signals::new().map_err(AppError::failed("signals cannot be listened for"))?;
    let started = tokio::time::Instant::now();
    let (tee, receiver) = tee::door(limits::tee(config));
    // A second start with the same config fails here, before it can touch the first one's ledger.
    let operators = Operators::bind(config)?;
    // And no client is let in before it is known who answers.
    let joined = tokio::select! {
        joined = fleet::join(fleet.map(Arc::as_ref), config, primary) => joined?,
        signal = signals.next() => {
            tracing::info!("{signal}: it had not begun to serve");
            return Ok(());
        }
    };
    let doors = Doors::bind(threads, config, operators)?;
    let begun = Begun {
        signals,
        started,
        doors,
        tee,
        receiver,
        told: primary,
        joined,
        fleet: fleet.cloned(),
    };
    serve_as(config, begun, threads).await
}

/// What there is before anything is built that lasts.
struct Begun<'a> {
    signals: Signals,
    started: tokio::time::Instant,
    doors: Doors,
    tee: Tee,
    receiver: Receiver,
    /// Whom `--primary` names.
    told: Option<&'a str>,
    /// Who the fleet says is primary.
    joined: Option<Primary>,
    fleet: Option<Arc<Fleet>>,
}

/// What is said where one of the relay's threads has ended.
const BROKEN: &str = "one of the relay's threads broke, and its sessions with it: this is a fault of understudy's; start it again";

async fn serve_as(
    config: &Arc<Config>,
    begun: Begun<'_>,
    threads: &Threads,
) -> Result<(), AppError> {
    let Begun {
        signals,
        started,
        doors,
        tee,
        receiver,
        told,
        joined,
        fleet,
    } = begun;
    let start = open_ledger(config, told, joined.as_ref(), &tee)?;
    fleet::declare(fleet.as_deref(), &start.roles.primary.name)
        .await
        .inspect_err(|_| start.ledger.close())?;
    let (ledger, records) = (start.ledger, start.records);
    let (writer, roles) = watch::channel(start.roles);
    let dial: Arc<dyn Dial> = Arc::new(Tcp::default());
    let carrier = Arc::new(Carrier::new(roles.clone(), Arc::clone(&dial)));
    let offer = Offer::all();
    let made_of = relay_parts(config, &roles, &dial, &tee, &offer, &carrier);
    let relay = Relay::new(RelayParts {
        threads: threads.relay.handles().to_vec(),
        ..made_of
    })
    .inspect_err(|_| ledger.close())
    .map_err(|error| AppError::Config(error.to_string()))?;
    let mirror = house::start_mirror(threads, config, &roles, &dial, receiver, &ledger)
        .inspect_err(|_| ledger.close())
        .map_err(|error| AppError::Config(format!("[shadow]: {error}")))?;
    let house = Arc::new(Running::new(relay.clone(), Arc::clone(&mirror), tee));
    house.set_ledger_open();
    let (helm, cutovers) = match records {
        None => (unmanned(fleet.as_ref()), None),
        Some(records) => {
            let (cutovers, running) = Cutovers::start(cutover::Parts {
                config: Arc::clone(config),
                roles: Arc::new(writer),
                relay: relay.clone(),
                mirror,
                carrier,
                ledger: ledger.clone(),
                records,
                dial: Arc::clone(&dial),
                threads: threads.relay.handles().to_vec(),
                judge: judge(config, &ledger, &house, &roles),
                fleet: fleet.clone(),
            });
            let helm: Arc<dyn Helm> = Arc::new(cutovers.clone());
            (helm, Some((cutovers, running)))
        }
    };
    let standstill = cutovers.as_ref().map(|(one, _)| one.standstill());
    let verifier = verifying::verifier(config, &roles, &house, (&helm, standstill), &ledger);
    // The operators' door stays open while sessions drain, and the ledger closes.
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let (client_at, admin_at, console_at) = (doors.client_at, doors.admin_at, doors.console_at);
    let parts = admin::Parts {
        config: Arc::clone(config),
        roles: roles.clone(),
        ledger: ledger.clone(),
        house: Arc::clone(&house) as Arc<dyn admin::House>,
        helm,
        inspector: verifying::inspector(verifier.as_ref()),
        metrics: Arc::new(Metrics::new()),
        started,
        console: Arc::default(),
        counters: Arc::default(),
        tls: doors.tls,
    };
    threads
        .admin(doors.admin, doors.console, parts, stop.clone())
        .map_err(AppError::failed("the admin's thread cannot be started"))?;
    let probes = probe::start(&roles, &dial, &house, offer, &stop, FIRST_LOOK).await;
    let (relay_side, relay) = (
        relay.clone(),
        start_relay(threads, relay, doors.clients, &drain),
    );
    house.set_listening();
    verifying::go_on(verifier.as_ref()).await;
    say_started(config, &roles.borrow(), client_at, admin_at, console_at);
    let cutovers = cutovers.as_ref().map(|(one, _)| one);
    let supervisor = Supervisor::from_environment();
    let stopping = || begin_to_stop(&house, &supervisor, config);
    let ended = tokio::select! {
        ended = until_told(signals, relay, &stopping, cutovers, &drain) => ended,
        why = fleet::lost(fleet.as_ref(), cutovers.is_some(), &roles, &relay_side) => {
            stopping();
            Err(AppError::Failed(why))
        }
        never = attend(&supervisor, &house, &roles, threads) => match never {},
        () = threads.relay.broken() => Err(AppError::Failed(BROKEN.to_owned())),
    };
    verifying::leave(verifier).await;
    house.drain_mirror(MIRROR_DRAIN).await;
    fleet::takes_along(fleet.as_deref(), &roles.borrow(), &house, &ledger);
    close_ledger(ledger).await;
    probe::end(probes, &stop).await;
    ended
}

/// What the relay is made of, but for its threads.
fn relay_parts(
    config: &Config,
    roles: &RolesWatch,
    dial: &Arc<dyn Dial>,
    tee: &Tee,
    offer: &Offer,
    carrier: &Arc<Carrier>,
) -> RelayParts {
    RelayParts {
        listen: config.listen.clone(),
        copy_bytes_max: config.mirror.command_bytes_max,
        sample_bytes: config.compare.sample_bytes,
        roles: roles.clone(),
        dial: Arc::clone(dial),
        tee: tee.clone(),
        offer: offer.clone(),
        carry: Arc::clone(carrier) as Arc<dyn relay::Carry>,
        threads: Vec::new(),
    }
}

/// Opens the ledger, which says who is primary where no fleet does.
fn open_ledger(
    config: &Config,
    primary: Option<&str>,
    fleet: Option<&Primary>,
    tee: &Tee,
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
    let floor = config.compare.floor.as_deref().map(Floor::read);
    let floor = floor.transpose();
    let judged = Judged {
        rules: config.compare.rules.clone(),
        stale_after: config.compare.rule_stale,
        floor: floor.map_err(|error| AppError::Config(error.to_string()))?,
    };
    let asked = Arc::clone(&commands);
    let fed_by = primary::fed_by(config, primary, fleet);
    let open = move || Ledger::open(&config.ledger, fed_by, judged, asked);
    Start::with(config, primary, fleet, open, move || {
        Ledger::in_memory(commands)
    })
}

/// Nobody steers the cutovers.
fn unmanned(fleet: Option<&Arc<Fleet>>) -> Arc<dyn Helm> {
    let why = "there is no ledger that could record it";
    Arc::new(Unmanned::new(why, None, fleet.cloned()))
}

/// Asks for what readiness is judged by.
fn judge(
    config: &Arc<Config>,
    ledger: &Ledger,
    house: &Arc<Running>,
    roles: &RolesWatch,
) -> cutover::Judge {
    let (config, ledger) = (Arc::clone(config), ledger.clone());
    let (house, roles) = (Arc::clone(house), roles.clone());
    Arc::new(move || admin::readiness::figures_of(&config, &ledger, &*house, &roles))
}

/// Sets the mark of a clean stop, unless the disk hangs.
async fn close_ledger(ledger: Ledger) {
    let closed = tokio::task::spawn_blocking(move || ledger.close());
    if tokio::time::timeout(LEDGER_CLOSE, closed).await.is_err() {
        tracing::warn!(
            "the ledger could not be closed in time: the next start will take it for a crash"
        );
    }
}

/// The listeners, bound.
struct Doors {
    clients: tokio::net::TcpListener,
    client_at: SocketAddr,
    admin: std::net::TcpListener,
    admin_at: SocketAddr,
    tls: Option<Arc<admin::Tls>>,
    console: Option<std::net::TcpListener>,
    console_at: Option<SocketAddr>,
}

/// The operators' listener, bound.
struct Operators {
    admin: std::net::TcpListener,
    at: SocketAddr,
    tls: Option<Arc<admin::Tls>>,
}

impl Operators {
    fn bind(config: &Config) -> Result<Self, AppError> {
        let at = config.admin.address;
        let tls =
            admin::Tls::open(&config.admin).map_err(|error| AppError::Config(error.to_string()))?;
        let failed = || AppError::failed(taken("admin.address", at));
        let admin = std::net::TcpListener::bind(at).map_err(failed())?;
        admin.set_nonblocking(true).map_err(failed())?;
        let at = admin.local_addr().map_err(failed())?;
        Ok(Self { admin, at, tls })
    }
}

fn taken(key: &str, at: SocketAddr) -> String {
    format!("{key} {at} cannot be listened on")
}

impl Doors {
    fn bind(threads: &Threads, config: &Config, operators: Operators) -> Result<Self, AppError> {
        let at = config.listen.address;
        let failed = || AppError::failed(taken("listen.address", at));
        let _on_the_first = threads.relay.handles().first().map(Handle::enter);
        let clients = relay::bind(at).map_err(failed())?;
        let client_at = clients.local_addr().map_err(failed())?;
        let console = config.admin.console.and_then(console);
        Ok(Self {
            clients,
            client_at,
            admin: operators.admin,
            admin_at: operators.at,
            tls: operators.tls,
            console_at: console.as_ref().and_then(|door| door.local_addr().ok()),
            console,
        })
    }
}

/// The console's door. Where it cannot be opened production is served without, which is said.
fn console(at: SocketAddr) -> Option<std::net::TcpListener> {
    let opened = std::net::TcpListener::bind(at).and_then(|door| {
        door.set_nonblocking(true)?;
        Ok(door)
    });
    opened
        .inspect_err(|error| {
            tracing::error!(
                "admin.console {at} cannot be listened on: {error}; there is no console until the next start. Set another port, or \"\" for none"
            );
        })
        .ok()
}

fn start_relay(
    threads: &Threads,
    relay: Relay,
    listener: tokio::net::TcpListener,
    drain: &CancellationToken,
) -> JoinHandle<()> {
    let drain = drain.clone();
    let accepting = async move { relay.run(listener, drain).await };
    // The listener was bound on the first.
    let first = threads.relay.handles().first();
    let first = first.cloned().unwrap_or_else(Handle::current);
    task::spawn_on(&first, "listener", accepting)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Cancel-safe.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
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

/// Whoever asks is told that it drains, and the supervisor how long that takes at most, from here to the
/// process's end.
fn begin_to_stop(house: &Running, supervisor: &Supervisor, config: &Config) {
    let drain = config.listen.drain_timeout + CUTOVER_STOP + MIRROR_DRAIN;
    house.set_draining();
    supervisor.stopping(drain + LEDGER_CLOSE + STOP_ASIDE);
}

/// Waits for a signal, and then for the drain; a second signal ends the drain.
async fn until_told(
    mut signals: Signals,
    mut relay: JoinHandle<()>,
    stopping: &impl Fn(),
    cutovers: Option<&Cutovers>,
    drain: &CancellationToken,
) -> Result<(), AppError> {
    let signal = tokio::select! {
        ended = &mut relay => {
            let why = ended.err().map_or_else(|| "it ended by itself".to_owned(), |error| error.to_string());
            return Err(AppError::Failed(format!("the relay broke: {why}")));
        }
        signal = signals.next() => signal,
    };
    stopping();
    tracing::info!("{signal}: no new connections; transactions may end, idle sessions close");
    if let Some(cutovers) = cutovers {
        tokio::select! {
            stopped = tokio::time::timeout(CUTOVER_STOP, cutovers.stop()) => {
                if stopped.is_err() {
                    tracing::error!("the cutover under way did not end in time; its record says how far it came");
                }
            }
            signal = signals.next() => tracing::warn!("{signal} again: the cutover under way is not waited for"),
        }
    }
    drain.cancel();
    tokio::select! {
        _ = &mut relay => tracing::info!("every session has ended"),
        signal = signals.next() => tracing::warn!("{signal} again: sessions are cut off"),
    }
    Ok(())
}

fn say_started(
    config: &Config,
    roles: &Roles,
    client_at: SocketAddr,
    admin_at: SocketAddr,
    console_at: Option<SocketAddr>,
) {
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
        if mirror.reads { "on" } else { "off" },
        mirror.writes.name(),
        mirror.sample * 100.0,
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

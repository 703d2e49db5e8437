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
mod ending;
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
mod signals;
mod succession;
mod supervisor;
mod verifying;

pub use handover::detach;
pub use limits::{Need, needs};
pub use logging::{Log, log_to_stderr, say_last};
pub use verifying::{clock, held, left_out, of, sureness};

use crate::config::{Config, Server};
use crate::cutover::Fleet;
use crate::cutover::fleet::Primary;
use crate::ledger::{AskCommands, Commands, Floor, Judged, Ledger};
use crate::relay::Offer;
use crate::roles::{Roles, RolesWatch};
use crate::tee::{self, Receiver, Tee};
use doors::{Doors, Operators, Places};
use ending::Ending;
use front::Front;
use handover::{Estate, Giving};
use house::{Feed, Running};
use primary::Start;
use rest::{Materials, Rest};
use runtime::Threads;
use signals::Signals;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use supervisor::Supervisor;
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
            mut signals,
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
            house: Arc::clone(&rest.house),
            cutovers: rest.cutovers.clone(),
            front: &front,
            giving: &giving,
        };
        let ended = tokio::select! {
            ended = ending.until_told(&mut signals, relay) => ended,
            why = fleet::lost(fleet.as_ref(), is_steered, &front.roles, &front.relay) => {
                ending.begin();
                Err(AppError::Failed(why))
            }
            never = attend(&supervisor, &rest.house, &front.roles, threads) => match never {},
            () = threads.relay.broken() => Err(broken()),
        };
        tokio::select! {
            () = ending.fall(rest, fleet.as_ref(), &mut signals) => ended,
            never = supervisor.feed(threads.relay.handles()) => match never {},
        }
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

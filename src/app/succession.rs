//! A start that takes over from a process which serves: clients first, then, once that one has left the ledger, all
//! the rest.

use super::doors::Given;
use super::front::Front;
use super::handover::{self, Giving, Taken};
use super::house::Feed;
use super::primary::Start;
use super::rest::{Materials, Rest};
use super::runtime::Threads;
use super::supervisor::Supervisor;
use super::{
    AppError, Doors, FALL, Outset, Serving, Signals, broken, estate, open_ledger, verifying,
};
use crate::config::Config;
use crate::relay::Offer;
use crate::roles::Roles;
use crate::shadow::{Control, Early, Written};
use crate::task;
use crate::tee::Tee;
use rustix::net::Shutdown;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Serves from the old process' word on. Until then an error changes nothing for clients: the old one goes on.
pub(super) async fn serve(
    outset: Outset,
    threads: &Threads,
    mut taken: Taken,
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
    let roles = Roles::with_primary(&config, taken.primary()).ok_or_else(|| {
        let name = taken.primary();
        AppError::Failed(format!(
            "--take-over: {name} is primary, and the config has no server of that name"
        ))
    })?;
    let offer = Offer::new(taken.dialect());
    let (front, writer) = Front::build(&config, threads, tee.clone(), roles, offer)?;
    let given = taken.doors();
    let given = given.ok_or_else(|| AppError::Failed("there are no listeners".to_owned()))?;
    let doors = Doors::taken(threads, &config, given)?;
    let copies = doors.copies()?;
    taken.ready().await?;
    let relay = front.open(threads, doors.clients);
    supervisor.takes_over();
    tracing::info!(
        "clients are served on {}; process {} ends its sessions, and until it has, nothing is mirrored and there is no admin",
        doors.at.clients,
        taken.process()
    );
    let control = switches(&config, &front, &taken);
    let early = Collecting::start(threads, Early::new(receiver, control));
    let mut waiting = Waiting {
        config: &config,
        threads,
        supervisor: &supervisor,
        front: &front,
        listener: &copies,
        signals,
        relay,
        ends: false,
    };
    let waited = waiting.for_the_ledger(&mut taken).await;
    let opened = match waited {
        Ok(written) => opened(&config, &taken, &tee).map(|start| (start, written)),
        Err(error) => Err(error),
    };
    let (start, written) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            waiting.drain().await;
            return Err(error);
        }
    };
    let Waiting {
        mut signals,
        relay,
        ends,
        ..
    } = waiting;
    let early = early.end().await?;
    let rest = Rest::raise(Materials {
        config: &config,
        threads,
        front: &front,
        writer,
        start,
        feed: Feed::After(early, written),
        operating: doors.operating,
        fleet: fleet.clone(),
        started,
        serves: true,
    })
    .await?;
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
    serving.serve_to_the_end(threads, doors.at).await
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
fn opened(config: &Config, taken: &Taken, tee: &Tee) -> Result<Start, AppError> {
    let start = open_ledger(config, (None, None), tee, Some(taken.token()))?;
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

/// Clients are served, and the old process still has the ledger.
struct Waiting<'a> {
    config: &'a Config,
    threads: &'a Threads,
    supervisor: &'a Arc<Supervisor>,
    front: &'a Front,
    /// Both processes have it.
    listener: &'a Given,
    signals: Signals,
    relay: JoinHandle<()>,
    /// It was told to end: its own sessions have.
    ends: bool,
}

impl Waiting<'_> {
    /// Waits until the old process has left the ledger; what its sessions wrote meanwhile. Told to end, both end their
    /// sessions.
    async fn for_the_ledger(&mut self, taken: &mut Taken) -> Result<Written, AppError> {
        let mut deadline = taken.deadline();
        let signal = tokio::select! {
            written = left(self.config, taken, deadline) => return written,
            signal = self.signals.next() => signal,
            ended = &mut self.relay => {
                let why = ended.err().map_or_else(String::new, |error| error.to_string());
                return Err(AppError::Failed(format!("the relay broke: {why}")));
            }
            never = attend(self.supervisor, self.front, self.threads) => match never {},
            () = self.threads.relay.broken() => return Err(broken()),
        };
        tracing::info!(
            "{signal}: no new connections, here and in process {}; transactions may end, idle sessions close",
            taken.process()
        );
        let drain = self.config.listen.drain_timeout.now();
        // The old one's end, and then this one's.
        let both = drain + (handover::CATCH_UP + FALL) * 2;
        self.supervisor.stopping(both);
        // Nobody is to wait there for processes that end: no other copy of it keeps it open.
        if let Err(error) = rustix::net::shutdown(&self.listener.clients, Shutdown::Both) {
            tracing::debug!(%error, "who connects now is not refused but waits");
        }
        taken.end().await;
        deadline = deadline.min(Instant::now() + both);
        let config = self.config;
        let ((), written) = tokio::join!(self.drain(), left(config, taken, deadline));
        written
    }

    /// Ends the sessions here, within the drain's time.
    async fn drain(&mut self) {
        self.ends = true;
        self.front.drain.cancel();
        if !self.relay.is_finished() {
            let _ = (&mut self.relay).await;
        }
    }
}

async fn attend(
    supervisor: &Supervisor,
    front: &Front,
    threads: &Threads,
) -> std::convert::Infallible {
    let primary = front.roles.borrow().primary.name.clone();
    // It has answered the old process.
    let ready = std::future::ready(());
    supervisor
        .attend(ready, &primary, threads.relay.handles())
        .await
}

/// Resolves once the old process has left the ledger, with what its sessions wrote.
async fn left(config: &Config, taken: &mut Taken, deadline: Instant) -> Result<Written, AppError> {
    let written = tokio::time::timeout_at(deadline, taken.ended()).await;
    let written = written.unwrap_or_else(|_| Written::anything());
    let last = deadline.max(Instant::now() + FALL);
    handover::until_free(&config.ledger.path, last).await?;
    Ok(written)
}

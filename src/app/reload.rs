//! The config is read again, at SIGHUP or where an operator asks for it, and what differs is taken: all of it, or
//! nothing where any key needs a restart or the file is wrong.
//!
//! Most of what can change is asked for where it is needed ([`Live`]). The rest is told here to whoever keeps a copy:
//! the mirror its switches, the log its filter, the machine how many descriptors may be open. None of that can fail.
//!
//! [`Live`]: crate::config::Live

use super::house::Running;
use super::supervisor::Supervisor;
use super::{limits, logging};
use crate::admin::{House, NotReloaded};
use crate::config::{Config, Differences};
use crate::ledger::Ledger;
use crate::shadow::{Control, Mirror};
use crate::task;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who reads it again where nobody but a signal asked.
const SIGNAL: &str = "SIGHUP";

/// Of what copies are kept.
struct Copied {
    switches: Control,
    filter: Arc<String>,
    connections: usize,
}

impl Copied {
    fn of(config: &Config) -> Self {
        Self {
            switches: Control::new(&config.mirror),
            filter: config.log.filter.whole(),
            connections: config.listen.max_connections.now(),
        }
    }
}

/// See the module.
pub(super) struct Reload {
    config: Arc<Config>,
    mirror: Arc<Mirror>,
    ledger: Ledger,
    /// One at a time.
    turn: Mutex<()>,
    /// Whether nothing is taken, as another process is about to take over.
    rests: Mutex<bool>,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Reload {
    pub(super) fn new(config: Arc<Config>, mirror: Arc<Mirror>, ledger: Ledger) -> Self {
        Self {
            config,
            mirror,
            ledger,
            turn: Mutex::new(()),
            rests: Mutex::new(false),
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Reads it, and takes what differs; with `dry_run` only says what that would be. Reads files, and waits for the
    /// ledger to write down who asked.
    ///
    /// # Errors
    /// The file is wrong, or it cannot be read now: nothing was changed.
    pub(super) fn again(&self, dry_run: bool, who: &str) -> Result<Differences, NotReloaded> {
        let said = self.read(dry_run, who);
        match &said {
            _ if dry_run => {}
            Ok(found) if found.needs_restart.is_empty() => {
                self.taken.fetch_add(1, Ordering::Relaxed);
                self.note(found, who);
            }
            Ok(_) | Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        said
    }

    fn read(&self, dry_run: bool, who: &str) -> Result<Differences, NotReloaded> {
        let not_now = |why: &str| NotReloaded::NotNow(why.to_owned());
        let turn = self.turn.try_lock();
        let _turn = turn.ok_or_else(|| not_now("it is being read already: ask again"))?;
        let file = self.config.file.as_deref();
        let file = file.ok_or_else(|| not_now("the config of this process is of no file"))?;
        let read = Config::load(file).map_err(NotReloaded::Wrong)?;
        if dry_run {
            return Ok(self.config.differences(&read));
        }
        // What another process was told holds until it has taken over, or has not.
        let rests = self.rests.lock();
        if *rests {
            return Err(not_now(
                "another process is about to take over: once it has, it is the one to ask",
            ));
        }
        let before = Copied::of(&self.config);
        let found = self.config.follow(&read);
        if found.needs_restart.is_empty() {
            // Said before there may be another filter.
            tracing::info!(who, "the config was read again; {}", words(&found));
            self.tell(&before);
        }
        Ok(found)
    }

    /// From here on nothing is taken; or it may be again. Waits for what is being taken at this moment.
    pub(super) fn set_rests(&self, rests: bool) {
        *self.rests.lock() = rests;
    }

    /// Tells those that keep a copy. A switch that an operator has set stays, unless the file says another word now.
    fn tell(&self, before: &Copied) {
        let now = Copied::of(&self.config);
        let set = self.mirror.control();
        let control = set.following(&before.switches, &now.switches);
        if control != set {
            self.mirror.set_control(control);
        }
        if now.filter != before.filter {
            logging::go_by(&now.filter);
        }
        if now.connections != before.connections {
            limits::prepare_machine(&self.config);
        }
    }

    /// Has the ledger write down who did it.
    fn note(&self, found: &Differences, who: &str) {
        if found.changed.is_empty() {
            return;
        }
        if let Err(fault) = self.ledger.note(who, &words(found)) {
            tracing::warn!(fault, "who did this may not be written down");
        }
    }

    /// Metric names and values.
    pub(super) fn counters(&self) -> [(&'static str, u64); 2] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("understudy_config_reloads_total", value(&self.taken)),
            (
                "understudy_config_reloads_refused_total",
                value(&self.refused),
            ),
        ]
    }
}

fn words(found: &Differences) -> String {
    let changed: Vec<String> = found.changed.iter().map(ToString::to_string).collect();
    if changed.is_empty() {
        return "config: nothing new".to_owned();
    }
    format!("config: {}", changed.join(", "))
}

/// Reads the config again because of a signal, beside all else, and tells systemd.
pub(super) fn at_signal(house: &Arc<Running>, supervisor: &Arc<Supervisor>) {
    let (house, supervisor) = (Arc::clone(house), Arc::clone(supervisor));
    // It ends by itself; a second one meanwhile is refused.
    drop(task::spawn("reload", async move {
        // Who is not ready yet, or does not speak any more, says nothing of a reload either.
        let tells = house.ready().is_ready();
        if tells {
            supervisor.reloading();
        }
        let asked = Arc::clone(&house);
        let reading = tokio::task::spawn_blocking(move || asked.reload(false, SIGNAL));
        let refused = match reading.await {
            Ok(Ok(found)) if found.needs_restart.is_empty() => Ok(format!(
                "{} keys of the config were changed",
                found.changed.len()
            )),
            Ok(Ok(found)) => Err(found.refusal()),
            Ok(Err(why)) => Err(why.to_string()),
            Err(broken) => Err(format!("the reading broke off: {broken}")),
        };
        let words = refused.unwrap_or_else(|why| {
            tracing::error!("{SIGNAL}: nothing of the config was changed: {why}");
            "nothing of the config was changed, the log says why".to_owned()
        });
        match house.heir() {
            _ if !tells => {}
            None => supervisor.reloaded(&words),
            // That is how it stands still.
            Some(heir) => supervisor.reloaded_beside(heir),
        }
    }));
}

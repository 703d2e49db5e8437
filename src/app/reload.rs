//! The config is read again, at SIGHUP or where an operator asks for it, and what differs is taken: all of it, or
//! nothing where any key needs a restart or the file is wrong.
//!
//! Most of what can change is asked for where it is needed ([`Live`]). The rest is told here to whoever keeps a copy:
//! the mirror its switches, the relay its certificate, the log its filter, the machine how many descriptors may be
//! open. None of that can fail.
//!
//! [`Live`]: crate::config::Live

use super::house::Running;
use super::supervisor::Supervisor;
use super::{limits, logging};
use crate::admin::{House, NotReloaded, Reloaded};
use crate::config::{Config, ConfigError, Differences, Fault, Place};
use crate::connect;
use crate::ledger::Ledger;
use crate::relay::Relay;
use crate::shadow::{Control, Mirror, Switch};
use crate::task;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// Who reads it again where nobody but a signal asked.
const SIGNAL: &str = "SIGHUP";

/// A reading that takes longer hangs at one of its files, and that is said.
const HANGS: Duration = Duration::from_secs(10);

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
    relay: Relay,
    mirror: Arc<Mirror>,
    ledger: Ledger,
    /// One at a time: since when it is being read.
    turn: Mutex<Option<Instant>>,
    /// Whether nothing is taken, as another process is about to take over.
    rests: Mutex<bool>,
    taken: AtomicU64,
    refused: AtomicU64,
}

/// The turn of who reads it, until it is dropped.
struct Turn<'a>(&'a Mutex<Option<Instant>>);

impl<'a> Turn<'a> {
    fn take(turn: &'a Mutex<Option<Instant>>) -> Result<Self, NotReloaded> {
        let mut since = turn.lock();
        if let Some(since) = *since {
            let seconds = since.elapsed().as_secs();
            return Err(NotReloaded::NotNow(format!(
                "it is being read already, for {seconds} s: ask again; where that does not end, a file that the config names hangs (a network's file system, a pipe)"
            )));
        }
        *since = Some(Instant::now());
        drop(since);
        Ok(Self(turn))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl Reload {
    pub(super) fn new(
        config: Arc<Config>,
        relay: Relay,
        mirror: Arc<Mirror>,
        ledger: Ledger,
    ) -> Self {
        Self {
            config,
            relay,
            mirror,
            ledger,
            turn: Mutex::default(),
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
    pub(super) fn again(&self, dry_run: bool, who: &str) -> Result<Reloaded, NotReloaded> {
        let said = self.read(dry_run, who);
        match &said {
            _ if dry_run => {}
            Ok(all) if all.found.needs_restart.is_empty() => {
                self.taken.fetch_add(1, Ordering::Relaxed);
                self.note(all, who);
            }
            Ok(_) | Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        said
    }

    fn read(&self, dry_run: bool, who: &str) -> Result<Reloaded, NotReloaded> {
        let _turn = Turn::take(&self.turn)?;
        let file = self.config.file.as_deref();
        let file = file.ok_or_else(|| {
            NotReloaded::NotNow("the config of this process is of no file".to_owned())
        })?;
        let read = Config::load_again(file).map_err(NotReloaded::Wrong)?;
        let mut found = self.config.differences(&read);
        let renewed = certificate(&read, &mut found).map_err(NotReloaded::Wrong)?;
        let before = Copied::of(&self.config);
        if dry_run {
            let (set, now) = (self.mirror.control(), Copied::of(&read).switches);
            let then = set.following(&before.switches, &now);
            let switches = Switch::all(&before.switches, &now, &set, &then);
            return Ok(Reloaded { found, switches });
        }
        if !found.needs_restart.is_empty() {
            return Ok(Reloaded {
                found,
                switches: Vec::new(),
            });
        }
        // What another process was told holds until it has taken over, or has not.
        let rests = self.rests.lock();
        if *rests {
            return Err(NotReloaded::NotNow(
                "another process is about to take over: once it has, it is the one to ask"
                    .to_owned(),
            ));
        }
        // Before the switches: a rollback meanwhile brings back what the config says by then.
        let _known = self.config.follow(&read);
        let switches = self.switch(&before.switches);
        let all = Reloaded { found, switches };
        // Said before there may be another filter.
        tracing::info!(who, "the config was read again; {}", words(&all));
        self.tell(&before, renewed);
        Ok(all)
    }

    /// From here on nothing is taken; or it may be again. Waits for what is being taken at this moment.
    pub(super) fn set_rests(&self, rests: bool) {
        *self.rests.lock() = rests;
    }

    /// Has the mirror's switches follow the file. One that an operator has set stays, unless the file says another
    /// word now.
    fn switch(&self, before: &Control) -> Vec<Switch> {
        let now = Control::new(&self.config.mirror);
        self.mirror.change_control(|control| {
            let set = *control;
            *control = set.following(before, &now);
            Switch::all(before, &now, &set, control)
        })
    }

    /// Tells the others that keep a copy.
    fn tell(&self, before: &Copied, renewed: Option<TlsAcceptor>) {
        let now = Copied::of(&self.config);
        if let Some(renewed) = renewed {
            self.relay.renew(renewed);
        }
        if now.filter != before.filter {
            logging::go_by(&now.filter);
        }
        if now.connections != before.connections {
            limits::prepare_machine(&self.config);
        }
    }

    /// Has the ledger write down who did it.
    fn note(&self, all: &Reloaded, who: &str) {
        if all.found.changed.is_empty() {
            return;
        }
        if let Err(fault) = self.ledger.note(who, &words(all)) {
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

/// Certificate and key for clients, where their files have another content that can be taken. When the certificate
/// expires is said with what differs.
fn certificate(read: &Config, found: &mut Differences) -> Result<Option<TlsAcceptor>, ConfigError> {
    const CHAIN: &str = "listen.tls_cert";
    const KEY: &str = "listen.tls_key";
    let is_of_it = |key: &str| key == CHAIN || key == KEY;
    let renewed = found.changed.iter().any(|one| is_of_it(&one.key));
    let (Some((chain, key)), true) = (&read.listen.tls, renewed) else {
        return Ok(None);
    };
    let acceptor = connect::acceptor("listen", chain, key).map_err(|error| ConfigError {
        file: read.file.clone().unwrap_or_default(),
        faults: vec![Fault {
            place: Place::Absent,
            key: CHAIN.to_owned(),
            wrong: error.to_string(),
            right: "write a certificate and its key, and ask again".to_owned(),
        }],
    })?;
    let expires = connect::expires(chain);
    let expires = expires.map(|at| at.to_string());
    for one in found.changed.iter_mut().filter(|one| one.key == CHAIN) {
        if let Some(at) = &expires {
            one.to = format!("{}, which expires {at}", one.to);
        }
    }
    Ok(Some(acceptor))
}

fn words(all: &Reloaded) -> String {
    let changed: Vec<String> = all.found.changed.iter().map(ToString::to_string).collect();
    let mut words = if changed.is_empty() {
        "config: nothing new".to_owned()
    } else {
        format!("config: {}", changed.join(", "))
    };
    if !all.switches.is_empty() {
        let switches: Vec<String> = all.switches.iter().map(ToString::to_string).collect();
        words = format!("{words}; switches: {}", switches.join(", "));
    }
    words
}

/// Reads the config again because of a signal, beside all else, and tells systemd.
pub(super) fn at_signal(house: &Arc<Running>, supervisor: &Arc<Supervisor>) {
    let (house, supervisor) = (Arc::clone(house), Arc::clone(supervisor));
    // It ends with its files; a second one meanwhile is refused.
    drop(task::spawn("reload", async move {
        // Who is not ready yet, or does not speak any more, says nothing of a reload either.
        let tells = house.ready().is_ready();
        let told = |words: &str| match house.heir() {
            _ if !tells => {}
            None => supervisor.reloaded(words),
            // That is how it stands still.
            Some(heir) => supervisor.reloaded_beside(heir),
        };
        if tells {
            supervisor.reloading();
        }
        let asked = Arc::clone(&house);
        let mut reading = tokio::task::spawn_blocking(move || asked.reload(false, SIGNAL));
        let read = match tokio::time::timeout(HANGS, &mut reading).await {
            Ok(read) => read,
            Err(_) => {
                tracing::error!(
                    "{SIGNAL}: the config has been being read for {} s: a file that it names hangs (a network's file system, a pipe); nothing of it is changed until that has been read",
                    HANGS.as_secs()
                );
                told("the config could not be read yet: a file that it names hangs");
                reading.await
            }
        };
        let refused = match read {
            Ok(Ok(all)) if all.found.needs_restart.is_empty() => Ok(format!(
                "{} keys of the config were changed",
                all.found.changed.len()
            )),
            Ok(Ok(all)) => Err(all.found.refusal()),
            Ok(Err(why)) => Err(why.to_string()),
            Err(broken) => Err(format!("the reading broke off: {broken}")),
        };
        let words = refused.unwrap_or_else(|why| {
            tracing::error!("{SIGNAL}: nothing of the config was changed: {why}");
            "nothing of the config was changed, the log says why".to_owned()
        });
        told(&words);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reads_it_at_a_time_and_the_next_is_told_since_when() {
        let turn = Mutex::default();
        let first = Turn::take(&turn).map_err(|not| not.to_string());
        let refused = Turn::take(&turn).map(|_| ()).map_err(|not| not.to_string());
        let why = refused.unwrap_err();
        assert!(why.contains("being read already, for 0 s"), "{why}");
        drop(first);
        assert!(Turn::take(&turn).is_ok());
    }
}

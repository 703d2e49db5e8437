//! The running parts, as the admin sees them.

use super::front::Front;
use super::logging;
use super::reload::Reload;
use super::runtime::Threads;
use crate::admin::{House, Mirror, NotReloaded, Ready, Reloaded, Seen, Sessions, Tee as TeeCounts};
use crate::config::Config;
use crate::connect::TlsError;
use crate::ledger::Ledger;
use crate::relay::{Census, Relay};
use crate::shadow::{self, Control, Early, Written};
use crate::tee::{Facts, Receiver, Tee};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::SetOnce;

/// What a mirror begins with: the tee's other end, and in a process that has taken over what its clients have said
/// already, and what the old one's sessions wrote meanwhile.
pub(super) enum Feed {
    First(Receiver),
    After(Box<Early>, Written),
}

/// Starts the shadow side on its own threads.
pub(super) fn start_mirror(
    threads: &Threads,
    config: &Arc<Config>,
    front: &Front,
    feed: Feed,
    ledger: &Ledger,
) -> Result<Arc<shadow::Mirror>, TlsError> {
    let _on_its_threads = threads.shadow.enter();
    let parts = |receiver| shadow::MirrorParts {
        config: Arc::clone(config),
        roles: front.roles.clone(),
        dial: Arc::clone(&front.dial),
        receiver,
        ledger: ledger.clone(),
    };
    let started = match feed {
        Feed::First(receiver) => shadow::Mirror::start(parts(receiver)),
        Feed::After(early, written) => {
            let (receiver, before) = early.end();
            shadow::Mirror::start_after(parts(receiver), before, &written)
        }
    };
    started.map(Arc::new)
}

/// See the module.
pub(super) struct Running {
    relay: Relay,
    mirror: Arc<shadow::Mirror>,
    tee: Tee,
    seen: Mutex<BTreeMap<String, Seen>>,
    listening: AtomicBool,
    primary_answered: SetOnce<()>,
    ledger_open: AtomicBool,
    draining: AtomicBool,
    /// The process that has taken over; 0 for none.
    heir: AtomicU32,
    reload: Reload,
}

impl Running {
    pub(super) fn new(relay: Relay, mirror: Arc<shadow::Mirror>, tee: Tee, reload: Reload) -> Self {
        Self {
            relay,
            mirror,
            tee,
            seen: Mutex::new(BTreeMap::new()),
            listening: AtomicBool::new(false),
            primary_answered: SetOnce::new(),
            ledger_open: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            heir: AtomicU32::new(0),
            reload,
        }
    }

    pub(super) fn set_listening(&self) {
        self.listening.store(true, Ordering::Release);
    }

    pub(super) fn set_primary_answered(&self) {
        let _it_has_before = self.primary_answered.set(());
    }

    /// Resolves once the primary has answered since the start.
    pub(super) async fn until_primary_answered(&self) {
        self.primary_answered.wait().await;
    }

    pub(super) fn set_ledger_open(&self) {
        self.ledger_open.store(true, Ordering::Release);
    }

    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Another process has taken over, or has not any more.
    pub(super) fn set_heir(&self, process: Option<u32>) {
        self.heir.store(process.unwrap_or(0), Ordering::Release);
    }

    /// Nothing of the config is taken any more, for another process is about to take over, which knows what holds; or it
    /// may be again.
    pub(super) fn set_reload_rests(&self, rests: bool) {
        self.reload.set_rests(rests);
    }

    pub(super) fn seen_of(&self, server: &str) -> Seen {
        self.seen.lock().get(server).cloned().unwrap_or_default()
    }

    pub(super) fn see(&self, server: &str, seen: Seen) {
        self.seen.lock().insert(server.to_owned(), seen);
    }

    /// The mirror.
    pub(super) fn shadow_side(&self) -> Arc<shadow::Mirror> {
        Arc::clone(&self.mirror)
    }

    /// Asks every session how it stands, which the census then tells.
    pub(super) fn call(&self) {
        self.relay.call();
    }

    /// Who is here.
    pub(super) fn census(&self) -> Census {
        self.relay.census()
    }

    /// Every open session, as it logged in last.
    pub(super) fn open_sessions(&self) -> Vec<Arc<Facts>> {
        self.relay.open_sessions()
    }

    /// The primary's numbers for the sessions.
    pub(super) fn threads(&self) -> BTreeSet<u32> {
        let unheld = self.relay.census().unheld.into_iter();
        unheld.map(|one| one.thread_id).collect()
    }

    /// Commands that have not come to the shadow.
    pub(super) fn waiting(&self) -> u64 {
        self.mirror.figures().waiting
    }

    /// Lets the shadow side finish what was handed over, within a time.
    pub(super) async fn drain_mirror(&self, at_most: Duration) {
        self.mirror.drain(at_most).await;
    }

    /// Waits until nothing waits for the shadow any more, within a time.
    pub(super) async fn catch_up(&self, at_most: Duration) {
        // What has not been done then, the drain says of.
        let _ = tokio::time::timeout(at_most, self.mirror.drained()).await;
    }
}

impl House for Running {
    fn sessions(&self) -> Sessions {
        let relay = self.relay.sessions();
        Sessions {
            open: relay.open,
            // A session that has ended may still be replayed for a moment. One that has a replay is not mirrored while
            // nothing is.
            mirrored: if House::mirror(self).mirrors() {
                self.mirror.figures().sessions.min(relay.open)
            } else {
                0
            },
            tunnelled: relay.tunnelled,
        }
    }

    fn mirror(&self) -> Mirror {
        let control = self.mirror.control();
        let figures = self.mirror.figures();
        let suspended = figures.suspended;
        let state = match &suspended {
            _ if control.paused => "paused",
            Some(_) => "suspended",
            None => "running",
        };
        let unobserved = || {
            let why = if self.mirror.passes_by()? {
                "mirror.observe is false: what is not mirrored passes by, and is only counted"
            } else {
                "mirror.observe is false: commands pass by once the transactions have ended that are compared"
            };
            Some(why.to_owned())
        };
        let off = || {
            let why = "reads and writes are both off: commands are counted, and none is run on the shadow";
            (!control.paused && !control.compares()).then(|| why.to_owned())
        };
        Mirror {
            state,
            reason: suspended.or_else(unobserved).or_else(off),
            control,
            waiting: figures.waiting,
            unread: figures.unread,
            oldest: figures.oldest,
        }
    }

    fn change_control(&self, change: &mut dyn FnMut(&mut Control)) {
        self.mirror.change_control(change);
    }

    fn seen(&self, server: &str) -> Seen {
        self.seen_of(server)
    }

    fn ready(&self) -> Ready {
        Ready {
            listener: self.listening.load(Ordering::Acquire),
            primary: self.primary_answered.initialized(),
            ledger: self.ledger_open.load(Ordering::Acquire),
            draining: self.draining.load(Ordering::Acquire),
        }
    }

    fn heir(&self) -> Option<u32> {
        let process = self.heir.load(Ordering::Acquire);
        (process > 0).then_some(process)
    }

    fn reload(&self, dry_run: bool, who: &str) -> Result<Reloaded, NotReloaded> {
        if let Some(process) = self.heir() {
            return Err(NotReloaded::NotNow(format!(
                "process {process} has taken over: it is the one to ask"
            )));
        }
        if self.draining.load(Ordering::Acquire) {
            return Err(NotReloaded::NotNow("this process ends".to_owned()));
        }
        self.reload.again(dry_run, who)
    }

    fn tee(&self) -> TeeCounts {
        let budget = self.tee.budget();
        TeeCounts {
            queue_bytes: budget.used(),
            queue_bytes_max: budget.max(),
            stub_bytes: budget.stubs_used(),
            stubbed: self.tee.stubbed(),
            lost: self.tee.lost(),
            samples_shed: self.tee.samples_shed(),
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let count = self.relay.counters();
        let mirror = self.mirror.figures();
        let mut counters = vec![
            ("understudy_mirror_connections", mirror.connections),
            ("understudy_mirror_waiting_commands", mirror.waiting),
            ("understudy_mirror_unread_commands", mirror.unread),
            ("understudy_mirror_connects_total", mirror.opened),
            ("understudy_mirror_suspensions_total", mirror.suspensions),
            ("understudy_mirror_order_waits_total", mirror.order_waits),
            ("understudy_mirror_retries_total", mirror.retries),
            ("understudy_mirror_transient_total", mirror.transient),
            ("understudy_mirror_overtakes_total", mirror.overtakes),
            ("understudy_mirror_unsettled_total", mirror.unsettled),
            ("understudy_tee_wakes_total", self.tee.wakes()),
            ("understudy_mirror_broken_total", mirror.broken),
            ("understudy_plans_total", mirror.planned),
            ("understudy_plans_skipped_total", mirror.plans_skipped),
            ("understudy_accepted_total", count.accepted.value()),
            (
                "understudy_accept_errors_total",
                count.accept_errors.value(),
            ),
            ("understudy_refused_too_many_total", count.too_many.value()),
            (
                "understudy_refused_primary_down_total",
                count.primary_down.value(),
            ),
            ("understudy_logins_total", count.logins.value()),
            (
                "understudy_logins_refused_total",
                count.logins_refused.value(),
            ),
            (
                "understudy_logins_mixed_tls_total",
                count.logins_mixed.value(),
            ),
            (
                "understudy_logins_timed_out_total",
                count.logins_timed_out.value(),
            ),
            ("understudy_logins_bad_total", count.bad_logins.value()),
            (
                "understudy_proxy_headers_wrong_total",
                count.proxy_headers_wrong.value(),
            ),
            ("understudy_probes_total", count.probes.value()),
            (
                "understudy_probes_finished_total",
                count.probes_finished.value(),
            ),
            (
                "understudy_commands_too_large_total",
                count.too_large.value(),
            ),
            ("understudy_commands_cut_total", count.commands_cut.value()),
            ("understudy_tunnelled_total", count.tunnelled.value()),
            ("understudy_unasked_total", count.unasked.value()),
            ("understudy_primary_lost_total", count.primary_lost.value()),
            ("understudy_drain_cut_total", count.drain_cut.value()),
            ("understudy_sessions_held_total", count.held.value()),
            ("understudy_sessions_moved_total", count.moved.value()),
            ("understudy_sessions_ended_total", count.ended.value()),
            (
                "understudy_sessions_untranslated_total",
                count.untranslated.value(),
            ),
            ("understudy_kills_total", count.kills.value()),
            ("understudy_logins_held_total", count.logins_held.value()),
            ("understudy_client_bytes_total", count.bytes_up.value()),
            ("understudy_primary_bytes_total", count.bytes_down.value()),
            ("understudy_process_log_dropped_total", logging::missing()),
        ];
        counters.extend(self.reload.counters());
        counters
    }
}

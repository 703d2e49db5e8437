//! Every metric's name, kind and meaning, in one table.
//!
//! Nothing is counted here: the parts count for themselves in plain atomics, and a scrape reads
//! them. So no metric costs the hot path anything.

mod verification;

pub use verification::VERIFICATION;

use crate::admin::Parts;
use crate::cutover::State;
use crate::readiness::Readiness;
use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use serde_json::Value;
use std::sync::atomic::Ordering;

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows while the process lives.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name; the unit is its end.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it says, and its labels.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        help,
    }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
    }
}

/// All metrics that this module reads by itself. The relay's own counters stand in [`RELAY`].
pub const METRICS: [Metric; 34] = [
    gauge("understudy_build_info", "Always 1; labels: version."),
    gauge("understudy_uptime_seconds", "Time since the start."),
    gauge("understudy_ready", "1 while clients may be sent here."),
    counter(
        "understudy_audit_lost_total",
        "Requests that would change something and are missing in the ledger's audit; the process's log has them.",
    ),
    counter(
        "understudy_admin_turned_away_total",
        "Connections to the admin that were closed because all of its places were taken.",
    ),
    gauge(
        "understudy_tokens_file_refused",
        "1 while admin.tokens_file is wrong or cannot be read, and those may ask who stood in it before.",
    ),
    gauge(
        "understudy_server_up",
        "1 where the last try reached the server, NaN where nobody looks; labels: server, role.",
    ),
    gauge(
        "understudy_fleet_up",
        "1 where etcd answered the last question about the fleet; only with a fleet.",
    ),
    gauge(
        "understudy_sessions",
        "Open client sessions; labels: state (open, mirrored, tunnelled).",
    ),
    gauge(
        "understudy_mirror_state",
        "1 for the mirror's state, else 0; labels: state (running, paused, suspended).",
    ),
    gauge(
        "understudy_mirror_sample_ratio",
        "Share of reads outside transactions that is mirrored.",
    ),
    counter(
        "understudy_commands_total",
        "Commands that have an answer: matched + tolerated + diverged + not compared + pending.",
    ),
    counter(
        "understudy_matched_total",
        "Commands whose two answers were equal.",
    ),
    counter(
        "understudy_tolerated_total",
        "Commands whose answers differed in nothing but what is tolerated.",
    ),
    counter(
        "understudy_tolerances_total",
        "Differences that were tolerated; labels: tolerance.",
    ),
    counter(
        "understudy_diverged_total",
        "Commands whose answers differed.",
    ),
    counter(
        "understudy_not_compared_total",
        "Commands that were not compared; labels: reason.",
    ),
    counter(
        "understudy_rechecks_total",
        "Differences that were looked at again before they were settled; labels: outcome (lag, race, diverged, not_compared, skipped, unavailable, cut).",
    ),
    gauge(
        "understudy_pending_commands",
        "Commands whose verdict is still to come.",
    ),
    gauge(
        "understudy_queue_bytes",
        "Memory of what waits for the shadow.",
    ),
    gauge(
        "understudy_queue_max_bytes",
        "The most it may be (mirror.queue_bytes).",
    ),
    gauge(
        "understudy_stub_bytes",
        "Memory of what stayed of dropped commands.",
    ),
    counter(
        "understudy_tee_stubbed_total",
        "Exchanges dropped of which only the beginning stayed.",
    ),
    counter(
        "understudy_tee_lost_total",
        "Exchanges dropped of which nothing stayed.",
    ),
    counter(
        "understudy_tee_samples_shed_total",
        "Answers' samples let go to fit more.",
    ),
    gauge(
        "understudy_ledger_up",
        "1 while the ledger's last write worked.",
    ),
    gauge(
        "understudy_ledger_queued",
        "Entries that wait for the ledger's writer.",
    ),
    counter(
        "understudy_ledger_lost_total",
        "Divergences that were counted, but could not be kept.",
    ),
    counter(
        "understudy_log_lost_total",
        "Lines of the divergence log that could not be written.",
    ),
    gauge(
        "understudy_tainted_tables",
        "Tables whose differences follow from a lost or differing write.",
    ),
    gauge(
        "understudy_readiness_guard",
        "1 where the guard passed when it was last looked at, every 15 s; labels: name.",
    ),
    gauge(
        "understudy_cutover_state",
        "1 for the cutover's state, else 0; labels: state (idle, checking … as GET /api/v1/cutover tells it).",
    ),
    gauge(
        "understudy_latency_seconds",
        "Time to the answer's last byte; labels: server, class, quantile (0.5, 0.9, 0.99, 0.999, 1).",
    ),
    gauge(
        "understudy_first_byte_seconds",
        "Time to the answer's first byte; labels: server, class, quantile.",
    ),
];

/// The process itself, from the kernel.
pub const PROCESS: [Metric; 2] = [
    gauge("understudy_resident_bytes", "Resident memory."),
    gauge("understudy_open_descriptors", "Open file descriptors."),
];

/// The relay's and the shadow side's own counters, by the names under which [`crate::admin::House`] tells them.
pub const RELAY: [Metric; 43] = [
    gauge(
        "understudy_mirror_connections",
        "Connections to the shadow that are open.",
    ),
    gauge(
        "understudy_mirror_waiting_commands",
        "Commands that wait for the shadow or run there.",
    ),
    gauge(
        "understudy_mirror_unread_commands",
        "Of these, commands that lie unread, as most sessions are far behind on the shadow.",
    ),
    counter(
        "understudy_mirror_connects_total",
        "Connections to the shadow that were opened.",
    ),
    counter(
        "understudy_mirror_suspensions_total",
        "How often mirroring was suspended.",
    ),
    counter(
        "understudy_mirror_order_waits_total",
        "Commands that waited for their turn longer than mirror.order_wait_ms.",
    ),
    counter(
        "understudy_mirror_retries_total",
        "Transactions and writes that were run again after a deadlock or a lock's time-out.",
    ),
    counter(
        "understudy_mirror_transient_total",
        "Commands that the shadow refused for a deadlock or a lock's time-out, however often they were run again.",
    ),
    counter(
        "understudy_mirror_overtakes_total",
        "Commits that ran on the shadow before reads which should have come first.",
    ),
    counter(
        "understudy_mirror_unsettled_total",
        "Differences that could not wait to be looked at again, as too many did.",
    ),
    counter(
        "understudy_tee_wakes_total",
        "How often the relay had to wake the shadow side; each costs it a system call.",
    ),
    counter(
        "understudy_mirror_broken_total",
        "Transactions that could not be carried to their end on the shadow.",
    ),
    counter(
        "understudy_plans_total",
        "Diverged statements whose plans both servers were asked for.",
    ),
    counter(
        "understudy_plans_skipped_total",
        "Diverged statements whose plans were not asked for, as too many waited.",
    ),
    counter(
        "understudy_accepted_total",
        "Client connections accepted, refused ones included.",
    ),
    counter(
        "understudy_config_reloads_total",
        "Times that the config was read again and taken.",
    ),
    counter(
        "understudy_config_reloads_refused_total",
        "Times that it was read again and nothing was changed: the file is wrong, or a key needs a restart.",
    ),
    counter(
        "understudy_accept_errors_total",
        "Connections that could not be accepted.",
    ),
    counter(
        "understudy_refused_too_many_total",
        "Clients refused with error 1040.",
    ),
    counter(
        "understudy_refused_primary_down_total",
        "Clients refused because the primary cannot be reached.",
    ),
    counter(
        "understudy_logins_total",
        "Logins that the primary granted.",
    ),
    counter(
        "understudy_logins_refused_total",
        "Logins that the primary refused.",
    ),
    counter(
        "understudy_logins_mixed_tls_total",
        "Logins refused because only one leg has TLS.",
    ),
    counter(
        "understudy_logins_timed_out_total",
        "Logins that took too long.",
    ),
    counter(
        "understudy_logins_bad_total",
        "Clients that broke the protocol in their login.",
    ),
    counter(
        "understudy_proxy_headers_wrong_total",
        "Connections closed because they did not begin with the PROXY header that they must begin with.",
    ),
    counter(
        "understudy_probes_total",
        "Clients that left before their login.",
    ),
    counter(
        "understudy_probes_finished_total",
        "Those whose login the proxy finished with its own account.",
    ),
    counter(
        "understudy_commands_too_large_total",
        "Commands refused with error 1153.",
    ),
    counter(
        "understudy_commands_cut_total",
        "Commands of which only the beginning was copied for the shadow.",
    ),
    counter(
        "understudy_tunnelled_total",
        "Sessions that became tunnels.",
    ),
    counter(
        "understudy_unasked_total",
        "Sessions ended after a packet that the primary sent unasked.",
    ),
    counter(
        "understudy_primary_lost_total",
        "Sessions that the primary broke off in a command.",
    ),
    counter(
        "understudy_drain_cut_total",
        "Sessions that the drain closed in the middle of something.",
    ),
    counter(
        "understudy_sessions_held_total",
        "Times that a session was held between two transactions for a cutover.",
    ),
    counter(
        "understudy_sessions_moved_total",
        "Times that a session went on with another primary.",
    ),
    counter(
        "understudy_sessions_ended_total",
        "Sessions ended because they could not be held or not be moved.",
    ),
    counter(
        "understudy_sessions_untranslated_total",
        "Moved sessions ended because their statements' ids could be translated no longer.",
    ),
    counter(
        "understudy_kills_total",
        "KILLs that the proxy carried out itself, as the primary has none.",
    ),
    counter(
        "understudy_logins_held_total",
        "Logins refused because a cutover held for longer than a login may take.",
    ),
    counter(
        "understudy_client_bytes_total",
        "Bytes from clients to the primary, of ended sessions.",
    ),
    counter(
        "understudy_primary_bytes_total",
        "Bytes from the primary to clients, of ended sessions.",
    ),
    counter(
        "understudy_process_log_dropped_total",
        "Lines missing from the process's log, as whoever reads stderr was too slow or away.",
    ),
];

/// The console's own counters, by the names under which it tells them.
pub const CONSOLE: [Metric; 6] = [
    counter(
        "understudy_console_connections_total",
        "Connections to the console, refused ones excepted.",
    ),
    counter(
        "understudy_console_refused_total",
        "Connections to the console refused with error 1040, or closed before their login, for want of places.",
    ),
    counter(
        "understudy_console_denied_total",
        "Logins to the console with a wrong token.",
    ),
    counter(
        "understudy_console_queries_total",
        "Queries on the console that SQLite was asked.",
    ),
    counter(
        "understudy_console_cut_total",
        "Queries on the console that met a bound: time, memory, rows, lengths.",
    ),
    counter(
        "understudy_console_broken_total",
        "Connections to the console that broke, by the client's bytes or by a fault of understudy's; each ended alone.",
    ),
];

/// The recorder of one process (or of one test).
pub struct Metrics {
    recorder: PrometheusRecorder,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

const ABOUT: Metadata<'static> = Metadata::new("understudy", Level::INFO, None);

impl Metrics {
    /// A recorder that knows every metric.
    #[must_use]
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let own = METRICS.iter().chain(&PROCESS);
        for metric in own.chain(&RELAY).chain(&CONSOLE).chain(&VERIFICATION) {
            let (name, help) = (
                KeyName::from_const_str(metric.name),
                SharedString::const_str(metric.help),
            );
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
            }
        }
        Self { recorder }
    }

    /// Reads every counter, and writes them as Prometheus reads them.
    #[must_use]
    pub fn render(&self, parts: &Parts) -> String {
        self.process();
        self.house(parts);
        self.verification(parts);
        self.coverage(parts);
        self.latency(parts);
        self.recorder.handle().render()
    }

    /// Notes what the guards say: a scrape does not judge, for that takes a look into the file.
    pub fn readiness(&self, readiness: &Readiness) {
        for guard in &readiness.guards {
            let labels = [("name", guard.name)];
            self.set("understudy_readiness_guard", &labels, flag(guard.pass));
        }
    }

    fn set(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.recorder
            .register_gauge(&key(name, labels), &ABOUT)
            .set(value);
    }

    fn count(&self, name: &'static str, labels: &[(&'static str, &str)], value: u64) {
        self.recorder
            .register_counter(&key(name, labels), &ABOUT)
            .absolute(value);
    }

    fn process(&self) {
        self.set(
            "understudy_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1.0,
        );
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm
            .split_whitespace()
            .nth(1)
            .and_then(|pages| pages.parse().ok())
            .unwrap_or(0);
        self.set(
            "understudy_resident_bytes",
            &[],
            float(pages * rustix::param::page_size() as u64),
        );
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.set("understudy_open_descriptors", &[], float(open as u64));
    }

    fn house(&self, parts: &Parts) {
        self.set(
            "understudy_uptime_seconds",
            &[],
            parts.started.elapsed().as_secs_f64(),
        );
        self.set(
            "understudy_ready",
            &[],
            flag(parts.house.ready().is_ready()),
        );
        let roles = parts.roles.borrow().clone();
        for (role, server) in [("primary", &roles.primary), ("shadow", &roles.shadow)] {
            let seen = parts.house.seen(&server.name);
            let labels = [("server", server.name.as_str()), ("role", role)];
            let up = if seen.unwatched {
                f64::NAN
            } else {
                flag(seen.error.is_none() && seen.version.is_some())
            };
            self.set("understudy_server_up", &labels, up);
        }
        if let Some(fleet) = parts.helm.fleet() {
            self.set("understudy_fleet_up", &[], flag(fleet.is_heard()));
        }
        let stands = parts.helm.state().name();
        for state in State::NAMES {
            let labels = [("state", state)];
            self.set("understudy_cutover_state", &labels, flag(state == stands));
        }
        let sessions = parts.house.sessions();
        for (state, n) in [
            ("open", sessions.open),
            ("mirrored", sessions.mirrored),
            ("tunnelled", sessions.tunnelled),
        ] {
            self.set("understudy_sessions", &[("state", state)], float(n));
        }
        let mirror = parts.house.mirror();
        for state in ["running", "paused", "suspended"] {
            self.set(
                "understudy_mirror_state",
                &[("state", state)],
                flag(mirror.state == state),
            );
        }
        self.set("understudy_mirror_sample_ratio", &[], mirror.control.sample);
        let tee = parts.house.tee();
        self.set("understudy_queue_bytes", &[], float(tee.queue_bytes));
        self.set(
            "understudy_queue_max_bytes",
            &[],
            float(tee.queue_bytes_max),
        );
        self.set("understudy_stub_bytes", &[], float(tee.stub_bytes));
        self.count("understudy_tee_stubbed_total", &[], tee.stubbed);
        self.count("understudy_tee_lost_total", &[], tee.lost);
        self.count("understudy_tee_samples_shed_total", &[], tee.samples_shed);
        let lost = parts.counters.audit_lost.load(Ordering::Relaxed);
        self.count("understudy_audit_lost_total", &[], lost);
        let turned_away = parts.counters.turned_away.load(Ordering::Relaxed);
        self.count("understudy_admin_turned_away_total", &[], turned_away);
        let refused = parts.counters.tokens_refused.load(Ordering::Relaxed) > 0;
        self.set("understudy_tokens_file_refused", &[], flag(refused));
        for (name, n) in parts.console.values() {
            self.count(name, &[], n);
        }
        for (name, n) in parts.house.counters() {
            if name.ends_with("_total") {
                self.count(name, &[], n);
            } else {
                self.set(name, &[], float(n));
            }
        }
    }

    fn coverage(&self, parts: &Parts) {
        let coverage = parts.ledger.coverage();
        self.count("understudy_commands_total", &[], coverage.commands);
        self.count("understudy_matched_total", &[], coverage.matched);
        self.count("understudy_tolerated_total", &[], coverage.tolerated);
        for (name, n) in &coverage.by_tolerance {
            self.count("understudy_tolerances_total", &[("tolerance", name)], *n);
        }
        self.count("understudy_diverged_total", &[], coverage.diverged);
        // From the start, or the first of a kind would be an increase that nobody sees.
        for (reason, n) in coverage.by_every_reason() {
            self.count("understudy_not_compared_total", &[("reason", reason)], n);
        }
        for (outcome, n) in &coverage.rechecks {
            self.count("understudy_rechecks_total", &[("outcome", outcome)], *n);
        }
        self.set("understudy_pending_commands", &[], float(coverage.pending));
        self.set(
            "understudy_tainted_tables",
            &[],
            float(parts.ledger.taints().len() as u64),
        );
        let health = parts.ledger.health();
        self.set("understudy_ledger_up", &[], flag(health.ok));
        self.set("understudy_ledger_queued", &[], float(health.queued));
        self.count("understudy_ledger_lost_total", &[], health.lost);
        self.count("understudy_log_lost_total", &[], health.log_lost);
    }

    /// By class only: a label for each statement would be too many.
    fn latency(&self, parts: &Parts) {
        let roles = parts.roles.borrow().clone();
        for item in parts.ledger.latency_by_class() {
            let class = item
                .get("class")
                .and_then(Value::as_str)
                .unwrap_or_default();
            for server in [&roles.primary.name, &roles.shadow.name] {
                let Some(last) = item.get(server) else {
                    continue;
                };
                self.quantiles("understudy_latency_seconds", server, class, last);
                if let Some(first) = last.get("first_byte") {
                    self.quantiles("understudy_first_byte_seconds", server, class, first);
                }
            }
        }
    }

    fn quantiles(&self, name: &'static str, server: &str, class: &str, of: &Value) {
        for (key, quantile) in [
            ("p50", "0.5"),
            ("p90", "0.9"),
            ("p99", "0.99"),
            ("p999", "0.999"),
            ("max", "1"),
        ] {
            if let Some(us) = of.get(key).and_then(Value::as_f64) {
                self.set(
                    name,
                    &[("server", server), ("class", class), ("quantile", quantile)],
                    us / 1e6,
                );
            }
        }
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(
        name,
        labels
            .iter()
            .map(|(name, value)| Label::new(*name, (*value).to_owned()))
            .collect::<Vec<_>>(),
    )
}

const fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

/// Past 2⁵³ a gauge is no longer exact, which nobody will notice.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
const fn float(n: u64) -> f64 {
    n as f64
}

//! What is told of the verification of data at rest that is under way, or was the last of this process.

use super::{Metric, Metrics, counter, flag, float, gauge};
use crate::admin::Parts;

/// Its metrics.
pub const VERIFICATION: [Metric; 9] = [
    gauge(
        "understudy_verification_state",
        "1 for the verification's state, else 0; labels: state (idle, running, paused, ended).",
    ),
    gauge(
        "understudy_verification_waiting",
        "1 while the verification under way waits or gives way to production.",
    ),
    gauge(
        "understudy_verification_rows",
        "Rows of the primary's that the verification under way, or the last one, has read.",
    ),
    gauge(
        "understudy_verification_rows_different",
        "Rows that it found different and did not repair.",
    ),
    gauge(
        "understudy_verification_tables",
        "Tables that it is asked for; labels: outcome (pending, equal, equal_in_part, different, unfinished).",
    ),
    gauge(
        "understudy_verification_hold_seconds",
        "How long sessions waited for an instant of verify --mode snapshot, or a table was locked for it (--lock); labels: quantile (0.5, 0.9, 0.99, 1).",
    ),
    gauge(
        "understudy_verification_held_seconds",
        "All of these holds together, since the start.",
    ),
    counter(
        "understudy_verification_holds_total",
        "How many there were, those in vain too.",
    ),
    counter(
        "understudy_verification_instants_failed_total",
        "Instants that were asked for and could not be had in time.",
    ),
];

impl Metrics {
    pub(super) fn verification(&self, parts: &Parts) {
        let figures = parts.inspector.figures();
        for state in ["idle", "running", "paused", "ended"] {
            let labels = [("state", state)];
            let is_it = flag(figures.state == state);
            self.set("understudy_verification_state", &labels, is_it);
        }
        self.set("understudy_verification_waiting", &[], flag(figures.waits));
        self.set("understudy_verification_rows", &[], float(figures.rows));
        let different = float(figures.different);
        self.set("understudy_verification_rows_different", &[], different);
        let holds = figures.holds;
        for (quantile, time) in holds.quantiles {
            let labels = [("quantile", quantile)];
            let seconds = time.as_secs_f64();
            self.set("understudy_verification_hold_seconds", &labels, seconds);
        }
        let all = holds.sum.as_secs_f64();
        self.set("understudy_verification_held_seconds", &[], all);
        self.count("understudy_verification_holds_total", &[], holds.holds);
        self.count(
            "understudy_verification_instants_failed_total",
            &[],
            holds.failed,
        );
        for (outcome, tables) in figures.tables {
            let labels = [("outcome", outcome)];
            self.set("understudy_verification_tables", &labels, float(tables));
        }
    }
}

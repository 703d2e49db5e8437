//! What is told of the verification of data at rest that is under way, or was the last of this process.

use super::{Metric, Metrics, flag, float, gauge};
use crate::admin::Parts;

/// Its metrics.
pub const VERIFICATION: [Metric; 5] = [
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
        for (outcome, tables) in figures.tables {
            let labels = [("outcome", outcome)];
            self.set("understudy_verification_tables", &labels, float(tables));
        }
    }
}

//! Curves for a terminal or a wiki.

use super::{Decades, float, name, times};
use crate::ledger::{Curve, SHARES};
use crate::words::{count, micros};
use std::fmt::Write as _;

/// Characters of a bar.
const MARKS: f64 = 48.0;

/// A curve: a bar for each server at a few shares.
pub(in crate::report) fn plain(curve: &Curve, servers: [&str; 2]) -> String {
    let decades = Decades::of(&times(curve));
    let name = name(curve);
    let mut out = format!(
        "{name}, {} timed on both (bars in powers of ten)",
        count(curve.samples)
    );
    let wide = servers.iter().map(|name| name.chars().count()).max();
    let wide = wide.unwrap_or(0);
    for (share, label) in [
        (50.0, "50 %"),
        (90.0, "90 %"),
        (99.0, "99 %"),
        (99.9, "99.9 %"),
        (100.0, "max"),
    ] {
        let known = (1.0 - share / 100.0) * float(curve.samples) >= 1.0 || label == "max";
        let Some(at) = SHARES
            .iter()
            .position(|one| (one - share).abs() < 1e-9 && known)
        else {
            continue;
        };
        let [primary, shadow] = servers;
        for (server, of, label) in [
            (primary, &curve.primary, label),
            (shadow, &curve.shadow, ""),
        ] {
            let us = of.get(at).copied().unwrap_or(0);
            let bar = "█".repeat(marks(decades.share(us) * MARKS));
            let _ = write!(
                out,
                "\n{label:>7}  {server:<wide$}  {:>9}  {bar}",
                micros(us)
            );
        }
    }
    out
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and the width of a bar"
)]
fn marks(wide: f64) -> usize {
    wide.round().clamp(1.0, MARKS) as usize
}

//! Latency curves: how long the fastest half, nine in ten, 99 in a hundred took, both axes in powers of
//! ten. As SVG that takes its colours from the page, and as text.

use super::html::escaped;
use crate::ledger::{Curve, SHARES};
use crate::words::{count, micros};
use std::fmt::Write as _;

/// The picture, and its margins.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 96.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 36.0;

/// The right end of the axis of shares, in nines: at least, and at most.
const NINES: (f64, f64) = (1.3, 4.3);

/// Characters of a bar of the text's chart.
const MARKS: f64 = 48.0;

/// A point: how many nines, how many µs.
type Point = (f64, u64);

/// One server's points. The tail beyond the number of samples is their maximum, and says nothing more.
fn points(of: &[u64], samples: u64) -> Vec<Point> {
    let samples = float(samples).max(1.0);
    let mut points: Vec<Point> = SHARES
        .iter()
        .enumerate()
        .filter(|(_, share)| (1.0 - **share / 100.0) * samples >= 1.0)
        .filter_map(|(at, share)| Some((nines(*share), *of.get(at)?)))
        .collect();
    if let Some(longest) = of.last() {
        let end = end(samples);
        // What is all but the last command is not told apart from the last one.
        points.retain(|(nines, _)| *nines < end - 0.05);
        points.push((end, *longest));
    }
    points
}

/// Where the last of so many commands stands, in nines.
fn end(samples: f64) -> f64 {
    let (_, most) = NINES;
    samples.max(1.3).log10().min(most)
}

/// 90 % is one, 99 % is two.
fn nines(share: f64) -> f64 {
    -(1.0 - share / 100.0).max(1e-5).log10()
}

/// Powers of ten of µs that hold all points.
fn decades(curve: &Curve) -> (f64, f64) {
    let all = || curve.primary.iter().chain(&curve.shadow).copied();
    let least = float(all().min().unwrap_or(1).max(1)).log10().floor();
    let most = float(all().max().unwrap_or(10).max(10)).log10().ceil();
    (least, most.max(least + 1.0))
}

/// The curve of a class as SVG; the names are escaped already.
pub(super) fn svg(curve: &Curve, [primary, shadow]: [String; 2]) -> String {
    let (least, most) = decades(curve);
    let right = (end(float(curve.samples)) + 0.1).max(NINES.0);
    let x = |nines: f64| LEFT + nines / right * (WIDTH - LEFT - RIGHT);
    let y = |us: u64| {
        let high = (float(us.max(1)).log10() - least) / (most - least);
        HEIGHT - BOTTOM - high * (HEIGHT - TOP - BOTTOM)
    };
    let name = escaped(curve.class.unwrap_or("all commands").replace('_', " "));
    let mut out = format!(
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"latency of {name}: {primary} and {shadow}\">\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"16\">{name} <tspan class=\"note\">{} timed on both</tspan></text>\n",
        count(curve.samples)
    );
    grid(&mut out, (least, most), right, x, y);
    let ends = [
        ("primary", &primary, points(&curve.primary, curve.samples)),
        ("shadow", &shadow, points(&curve.shadow, curve.samples)),
    ];
    let mut labels: Vec<(f64, &str, &String)> = Vec::new();
    for (role, server, points) in &ends {
        let line: Vec<String> = points
            .iter()
            .map(|(nines, us)| format!("{:.1},{:.1}", x(*nines), y(*us)))
            .collect();
        let _ = writeln!(
            out,
            "<polyline class=\"line {role}\" points=\"{}\"/>",
            line.join(" ")
        );
        for (nines, us) in points {
            let share = (1.0 - 10f64.powf(-nines)) * 100.0;
            let _ = writeln!(
                out,
                "<circle class=\"dot {role}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{server}: {share:.2} % within {}</title></circle>",
                x(*nines),
                y(*us),
                micros(*us)
            );
        }
        if let Some((_, us)) = points.last() {
            labels.push((y(*us), role, server));
        }
    }
    write_labels(&mut out, labels, x(right) + 6.0);
    out.push_str("</svg></figure>\n");
    out
}

fn grid(
    out: &mut String,
    (least, most): (f64, f64),
    nines_max: f64,
    x: impl Fn(f64) -> f64,
    y: impl Fn(u64) -> f64,
) {
    let (left, right) = (x(0.0), x(nines_max));
    let mut decade = least;
    while decade <= most {
        let us = power(decade);
        let at = y(us);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"axis\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left - 6.0,
            at + 4.0,
            tick(us)
        );
        decade += 1.0;
    }
    let bottom = HEIGHT - BOTTOM;
    for (nines, label) in [
        (0.0, "0"),
        (0.301, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
    ] {
        if nines > nines_max {
            continue;
        }
        let at = x(nines);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"axis\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
            bottom + 18.0
        );
    }
}

/// The servers' names at the ends of their lines, apart from each other.
fn write_labels(out: &mut String, mut labels: Vec<(f64, &str, &String)>, x: f64) {
    labels.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    let mut above = f64::MIN;
    for (y, role, server) in labels {
        let y = y.max(above + 15.0);
        above = y;
        let _ = writeln!(
            out,
            "<text class=\"label {role}\" x=\"{x:.1}\" y=\"{:.1}\">{server}</text>",
            y + 4.0
        );
    }
}

/// A power of ten µs, short.
fn tick(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{} s", us / 1_000_000),
    }
}

/// The same for a terminal or a wiki: a bar for each server at a few shares.
pub(super) fn plain(curve: &Curve, servers: [&str; 2]) -> String {
    let (least, most) = decades(curve);
    let name = curve.class.unwrap_or("all commands").replace('_', " ");
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
            let high = (float(us.max(1)).log10() - least) / (most - least);
            let bar = "█".repeat(marks(high * MARKS));
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

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "powers of ten up to an hour in µs"
)]
fn power(decade: f64) -> u64 {
    10f64.powf(decade.clamp(0.0, 12.0)).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "a picture needs no more")]
const fn float(n: u64) -> f64 {
    n as f64
}

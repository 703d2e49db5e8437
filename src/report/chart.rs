//! Charts of latency: as SVG that takes its colours from the document around it, and as text. Of the report
//! and of the operators' page alike.
//!
//! A curve ([`curve`]) says how long the fastest half, nine in ten, 99 in a hundred took, both axes in powers of
//! ten; a course ([`course()`]) how that went over time. Whoever shows one says its figures in a table too.

mod course;
mod plain;

pub use course::course;

pub(super) use plain::plain;

use crate::ledger::{Curve, SHARES};
use crate::words::{brief, count, harmless, micros};
use maud::{Markup, html};

/// The picture, and its margins.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 96.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 36.0;

/// Its coordinates.
const VIEW: &str = "0 0 560 260";

/// Characters of a server's name at the end of its line.
const NAME: usize = 10;

/// The right end of the axis of shares, in nines: at least, and at most.
const NINES: (f64, f64) = (1.3, 4.3);

/// A point: how many nines, how many µs.
type Point = (f64, u64);

/// Two servers and their colours: each keeps its own, whoever is the primary.
#[derive(Clone, Copy, Debug)]
pub struct Servers<'a> {
    /// The primary's name, the shadow's.
    names: [&'a str; 2],
    /// Their classes, which the document around gives their colours.
    hues: [&'static str; 2],
}

impl<'a> Servers<'a> {
    /// Of these names, the primary's first. The `first` server of the config has the first colour.
    #[must_use]
    pub fn new(names: [&'a str; 2], first: &str) -> Self {
        let [primary, shadow] = names;
        let hues = if shadow == first && primary != first {
            ["other", "one"]
        } else {
            ["one", "other"]
        };
        Self { names, hues }
    }

    /// The primary's name, the shadow's.
    #[must_use]
    pub const fn names(self) -> [&'a str; 2] {
        self.names
    }

    /// The class of the primary's colour, and of the shadow's.
    #[must_use]
    pub const fn hues(self) -> [&'static str; 2] {
        self.hues
    }
}

/// What stands at the end of a line: how high, in whose colour, and the words.
type Label = (f64, &'static str, String);

/// Powers of ten of µs that hold all times of a chart: the axis of latency.
#[derive(Clone, Copy, Debug)]
struct Decades {
    least: f64,
    most: f64,
}

impl Decades {
    fn of(times: &[u64]) -> Self {
        let least = times.iter().min().map_or(1, |us| (*us).max(1));
        let most = times.iter().max().map_or(10, |us| (*us).max(10));
        let least = float(least).log10().floor();
        let most = float(most).log10().ceil().max(least + 1.0);
        Self { least, most }
    }

    /// How high a time stands, from 0 to 1.
    fn share(self, us: u64) -> f64 {
        (float(us.max(1)).log10() - self.least) / (self.most - self.least)
    }

    fn y(self, us: u64) -> f64 {
        HEIGHT - BOTTOM - self.share(us) * (HEIGHT - TOP - BOTTOM)
    }

    /// A line for each power of ten, with its time.
    fn grid(self, left: f64, right: f64) -> Markup {
        let steps = (self.most - self.least).round();
        let decades = (0..=12_u32).map(f64::from).filter(|step| *step <= steps);
        html! {
            @for step in decades {
                @let us = power(self.least + step);
                @let y = self.y(us);
                line class="grid" x1=(fine(left)) x2=(fine(right)) y1=(fine(y)) y2=(fine(y)) {}
                text class="axis" text-anchor="end" x=(fine(left - 6.0)) y=(fine(y + 4.0)) { (tick(us)) }
            }
        }
    }
}

/// What a curve is of.
#[must_use]
pub fn name(curve: &Curve) -> String {
    curve.class.unwrap_or("all commands").replace('_', " ")
}

/// All times of a curve.
fn times(curve: &Curve) -> Vec<u64> {
    let all = curve.primary.iter().chain(&curve.shadow);
    all.copied().collect()
}

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

/// A curve of this name as SVG.
#[must_use]
pub fn curve(curve: &Curve, name: &str, servers: Servers<'_>) -> Markup {
    let decades = Decades::of(&times(curve));
    let right = (end(float(curve.samples)) + 0.1).max(NINES.0);
    let x = |nines: f64| LEFT + nines / right * (WIDTH - LEFT - RIGHT);
    let Servers {
        names: [primary, shadow],
        hues: [own, others],
    } = servers;
    let lines = [
        (own, primary, points(&curve.primary, curve.samples)),
        (others, shadow, points(&curve.shadow, curve.samples)),
    ];
    let labels = lines.iter().filter_map(|(hue, server, points)| {
        let (_, us) = points.last()?;
        Some((decades.y(*us), *hue, brief(&harmless(server), NAME)))
    });
    let labels = labels.collect();
    let said = format!("latency of {name}: {primary} and {shadow}");
    let place = |(nines, us): &Point| format!("{:.1},{:.1}", x(*nines), decades.y(*us));
    html! {
        svg class="chart" viewBox=(VIEW) role="img" aria-label=(harmless(&said)) {
            text class="title" x=(fine(LEFT)) y="16" {
                (harmless(name)) " " tspan class="note" { (count(curve.samples)) " timed on both" } }
            (decades.grid(x(0.0), x(right)))
            (shares(right, x))
            @for (hue, server, points) in &lines {
                polyline class={"line " (hue)} points=(points.iter().map(place).collect::<Vec<_>>().join(" ")) {}
                @for (nines, us) in points {
                    circle class={"dot " (hue)} cx=(fine(x(*nines))) cy=(fine(decades.y(*us))) r="3" {
                        title { (harmless(server)) ": " (percent(*nines)) " % within " (micros(*us)) }
                    }
                }
            }
            (ends(labels, x(right) + 6.0))
        }
    }
}

/// So many nines, in percent.
fn percent(nines: f64) -> String {
    format!("{:.2}", (1.0 - 10f64.powf(-nines)) * 100.0)
}

/// The axis of shares.
fn shares(nines_max: f64, x: impl Fn(f64) -> f64) -> Markup {
    const LABELS: [(f64, &str); 6] = [
        (0.0, "0"),
        (0.301, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
    ];
    html! {
        @for (nines, label) in LABELS.iter().filter(|(nines, _)| *nines <= nines_max) {
            (upright(x(*nines), label))
        }
    }
}

/// A line from top to bottom, and what it stands for.
fn upright(x: f64, label: &str) -> Markup {
    let bottom = HEIGHT - BOTTOM;
    html! {
        line class="grid" x1=(fine(x)) x2=(fine(x)) y1=(fine(TOP)) y2=(fine(bottom)) {}
        text class="axis" text-anchor="middle" x=(fine(x)) y=(fine(bottom + 18.0)) { (label) }
    }
}

/// The words at the ends of lines, apart from each other.
fn ends(mut labels: Vec<Label>, x: f64) -> Markup {
    const APART: f64 = 15.0;
    labels.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    let mut above = f64::MIN;
    for (y, ..) in &mut labels {
        *y = y.max(above + APART);
        above = *y;
    }
    // Those at the bottom push the others up.
    let mut below = HEIGHT - BOTTOM + APART;
    for (y, ..) in labels.iter_mut().rev() {
        *y = y.min(below - APART);
        below = *y;
    }
    html! {
        @for (y, hue, words) in &labels {
            text class={"label " (hue)} x=(fine(x)) y=(fine(*y + 4.0)) { (words) }
        }
    }
}

/// A coordinate.
fn fine(at: f64) -> String {
    format!("{at:.1}")
}

/// A power of ten µs, short.
fn tick(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{} s", us / 1_000_000),
    }
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

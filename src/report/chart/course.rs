//! How both servers' latency went over time, as SVG: median and 99th percentile of each.

use super::{
    BOTTOM, Decades, HEIGHT, LEFT, RIGHT, Servers, TOP, VIEW, WIDTH, ends, fine, float, upright,
};
use crate::ledger::{Course, Moment, Turn};
use crate::words::{brief, harmless, micros};
use jiff::Timestamp;
use maud::{Markup, html};

/// The time that the axis holds at least, in seconds.
const SPAN_MIN: i64 = 600;

/// A line goes on over a pause of so many seconds, and breaks at a longer one.
const PAUSE_MAX: i64 = 150;

/// A moment stands for so many seconds.
const MOMENT: i64 = 60;

/// Marks of the axis of time at most.
const MARKS_MAX: i64 = 6;

/// They are so many minutes apart.
const APART: [i64; 9] = [1, 2, 5, 10, 15, 30, 60, 120, 180];

/// Characters of a server's name at the end of its lines, with their quantile behind it.
const NAME: usize = 8;

/// So far apart stand words over two changes of the primary, or the earlier one has none.
const WORDS_APART: f64 = 80.0;

/// How high the marks of slow minutes are.
const SLOW: f64 = 6.0;

/// A line: in whose colour, whether it is dashed, whose, and its time of a moment.
type Line<'a> = (&'static str, &'static str, &'a str, fn(&Moment) -> u64);

/// A course of this name as SVG, in UTC. Moments that are slow are marked at the foot, and where another server
/// became the primary an upright line stands.
#[must_use]
pub fn course(
    course: &Course,
    name: &str,
    servers: Servers<'_>,
    is_slow: impl Fn(&Moment) -> bool,
) -> Markup {
    let moments = course.moments.as_slice();
    let [primary, shadow] = servers.names;
    let [own, others] = servers.hues;
    let lines: [Line<'_>; 4] = [
        (own, "p99", primary, |one| one.primary[1]),
        (others, "p99", shadow, |one| one.shadow[1]),
        (own, "p50", primary, |one| one.primary[0]),
        (others, "p50", shadow, |one| one.shadow[0]),
    ];
    let seconds = |one: &Moment| one.at.as_second();
    let turned = course.turns.last().map_or(0, |turn| turn.at.as_second());
    let until = moments.last().map_or(0, seconds).max(turned);
    let from = moments.first().map_or(0, seconds).min(until - SPAN_MIN);
    let x = |at: i64| {
        let share = float((at - from).unsigned_abs()) / float((until - from).unsigned_abs().max(1));
        LEFT + share * (WIDTH - LEFT - RIGHT)
    };
    let times = moments.iter().flat_map(|one| [one.primary, one.shadow]);
    let times: Vec<u64> = times.flatten().collect();
    let decades = Decades::of(&times);
    let place = |one: &Moment, us: u64| (fine(x(one.at.as_second())), fine(decades.y(us)));
    let labels = lines.iter().filter_map(|(hue, quantile, server, of)| {
        let last = moments.last()?;
        let words = format!("{} {quantile}", brief(&harmless(server), NAME));
        Some((decades.y(of(last)), *hue, words))
    });
    let labels = labels.collect();
    let said = format!(
        "latency of {name} over time, {} to {} UTC: {primary} and {shadow}",
        clock(from),
        clock(until)
    );
    html! {
        svg class="chart" viewBox=(VIEW) role="img" aria-label=(harmless(&said)) {
            text class="title" x=(fine(LEFT)) y="16" { (harmless(name)) " " tspan class="note" { "over time, UTC" } }
            (decades.grid(LEFT, WIDTH - RIGHT))
            @for at in marks(from, until) { (upright(x(at), &clock(at))) }
            (turns(&course.turns, from, x))
            @for (since, to) in stretches(moments, &is_slow) {
                rect class="slow" x=(fine(x((since - MOMENT).max(from)))) width=(fine((x(to) - x((since - MOMENT).max(from))).max(1.0)))
                    y=(fine(HEIGHT - BOTTOM - SLOW)) height=(fine(SLOW)) {
                    title { "slower than allowed, " (clock(since - MOMENT)) " to " (clock(to)) " UTC" }
                }
            }
            @for (hue, quantile, server, of) in &lines {
                @for run in unbroken(moments) {
                    @let points: Vec<(String, String)> = run.iter().map(|one| place(one, of(one))).collect();
                    @if let ([(cx, cy)], [one]) = (points.as_slice(), run) {
                        circle class={"dot " (hue)} cx=(cx) cy=(cy) r="2" {
                            title { (harmless(server)) " " (quantile) ": " (micros(of(one))) } }
                    } @else {
                        polyline class={"line " (hue) " " (quantile)} points=(points.iter().map(|(x, y)| format!("{x},{y}")).collect::<Vec<_>>().join(" ")) {}
                    }
                }
            }
            (ends(labels, WIDTH - RIGHT + 6.0))
        }
    }
}

/// An upright line for each change of the primary since then, with the new one's name over it where there is room.
fn turns(turns: &[Turn], from: i64, x: impl Fn(i64) -> f64) -> Markup {
    let seen = turns.iter().filter(|turn| turn.at.as_second() >= from);
    let seen: Vec<(f64, &Turn)> = seen.map(|turn| (x(turn.at.as_second()), turn)).collect();
    html! {
        @for (nth, (at, turn)) in seen.iter().enumerate() {
            @let is_apart = seen.get(nth + 1).is_none_or(|(next, _)| next - at >= WORDS_APART);
            line class="turn" x1=(fine(*at)) x2=(fine(*at)) y1=(fine(TOP)) y2=(fine(HEIGHT - BOTTOM)) {
                title { (harmless(&turn.to)) " became the primary, " (clock(turn.at.as_second())) " UTC" }
            }
            @if is_apart {
                text class="note" text-anchor="middle" x=(fine(*at)) y=(fine(TOP - 4.0)) { "→ " (brief(&harmless(&turn.to), NAME)) }
            }
        }
    }
}

/// Moments without a long pause between them.
fn unbroken(moments: &[Moment]) -> impl Iterator<Item = &[Moment]> {
    moments.chunk_by(|one, next| next.at.as_second() - one.at.as_second() <= PAUSE_MAX)
}

/// The ends of the first and of the last moment of each stretch of slow ones.
fn stretches(moments: &[Moment], is_slow: impl Fn(&Moment) -> bool) -> Vec<(i64, i64)> {
    let mut stretches: Vec<(i64, i64)> = Vec::new();
    for one in moments.iter().filter(|one| is_slow(one)) {
        let at = one.at.as_second();
        match stretches.last_mut() {
            Some((_, to)) if at - *to <= PAUSE_MAX => *to = at,
            _ => stretches.push((at, at)),
        }
    }
    stretches
}

/// Even times, a few of them.
fn marks(from: i64, until: i64) -> impl Iterator<Item = i64> {
    let fits = |minutes: &i64| (until - from) / (minutes * 60) < MARKS_MAX;
    let step = APART.into_iter().find(fits).unwrap_or(180) * 60;
    let first = from.div_euclid(step) * step;
    (0..=MARKS_MAX)
        .map(move |nth| first + nth * step)
        .filter(move |at| (from..=until).contains(at))
}

/// Hours and minutes, in UTC.
fn clock(at: i64) -> String {
    let at = Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Then;

    fn moment(minute: i64, shadow: u64) -> Moment {
        Moment {
            at: Timestamp::from_second(minute * 60).expect("a time"),
            samples: 100,
            primary: [1_000, 5_000],
            shadow: [shadow, shadow * 5],
            then: Then::Same,
        }
    }

    fn turned(minute: i64, to: &str) -> Turn {
        let at = Timestamp::from_second(minute * 60).expect("a time");
        Turn { at, to: to.into() }
    }

    fn drawn_by(moments: &[Moment], turns: Vec<Turn>, servers: Servers<'_>) -> String {
        let slow = |one: &Moment| one.shadow[1] > 20_000;
        let moments = moments.to_vec();
        course(&Course { moments, turns }, "<b>", servers, slow).into_string()
    }

    fn drawn(moments: &[Moment]) -> String {
        let servers = Servers::new(["legacy", "vitess"], "legacy");
        drawn_by(moments, Vec::new(), servers)
    }

    #[test]
    fn a_server_keeps_its_colour_when_the_primary_changes_and_that_is_marked() {
        let all = [moment(600, 1_000), moment(601, 1_000), moment(602, 1_000)];
        let before = drawn(&all);
        let turns = vec![turned(1, "gone"), turned(601, "vitess")];
        let servers = Servers::new(["vitess", "legacy"], "legacy");
        let after = drawn_by(&all, turns, servers);
        let hue = |svg: &str, server: &str| {
            let (head, _) = svg.split_once(&format!(">{server} p50<")).expect("a label");
            let (_, class) = head.rsplit_once("class=\"label ").expect("its class");
            class.split('"').next().map(str::to_owned)
        };
        assert_eq!(hue(&before, "legacy").as_deref(), Some("one"));
        assert_eq!(hue(&before, "vitess").as_deref(), Some("other"));
        for server in ["legacy", "vitess"] {
            assert_eq!(hue(&before, server), hue(&after, server));
        }
        assert!(!before.contains("class=\"turn\""), "{before}");
        assert_eq!(after.matches("class=\"turn\"").count(), 1, "{after}");
        assert!(after.contains("vitess became the primary, 10:01 UTC"));
        assert!(
            after.contains("→ vitess") && !after.contains("gone"),
            "{after}"
        );
    }

    #[test]
    fn a_line_breaks_where_nothing_ran_and_what_was_slow_is_marked() {
        let all = [
            moment(600, 1_000),
            moment(601, 9_000),
            moment(602, 9_000),
            moment(640, 1_000),
            moment(641, 1_000),
            moment(660, 9_000),
        ];
        let svg = drawn(&all);
        assert_eq!(svg.matches("<polyline").count(), 8, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 4, "the last one is alone");
        assert_eq!(svg.matches("class=\"slow\"").count(), 2, "{svg}");
        assert!(
            svg.contains("slower than allowed, 10:00 to 10:02 UTC"),
            "{svg}"
        );
        assert!(svg.contains("vitess p99") && svg.contains("10:30"), "{svg}");
        assert!(!svg.contains("<b>") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn one_moment_or_none_is_a_chart_all_the_same() {
        for moments in [&[][..], &[moment(0, 0)]] {
            let svg = drawn(moments);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn times_are_marked_at_even_ones_and_few() {
        let hour = 3_600;
        for (from, until) in [(0, 600), (61, 4_000), (5, 12 * hour), (hour, 3 * hour)] {
            let marks: Vec<i64> = marks(from, until).collect();
            let count = i64::try_from(marks.len()).expect("few");
            assert!(
                (2..=MARKS_MAX + 1).contains(&count),
                "{from} {until}: {marks:?}"
            );
            assert!(marks.iter().all(|at| at % 60 == 0));
        }
    }
}

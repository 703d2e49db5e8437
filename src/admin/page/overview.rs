//! The overview: who is what, what was compared, whether the shadow is ready and why not, and what is new.

use super::bits::{self, Tone, is, number, tag, text, wide};
use super::layout::{Frame, Here};
use super::mirror::{Answered, switches};
use super::seats::Visitor;
use super::{Page, Wanted, form, recent, taints};
use crate::admin::answer::read;
use crate::admin::readiness::{Standing, WayBack};
use crate::admin::{House, Parts, readiness, status};
use crate::ledger::Snapshot;
use crate::readiness::Readiness;
use crate::report::chart::Servers;
use crate::words::{bytes, count, harmless, share, span};
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use maud::{Markup, html};
use serde_json::Value;
use std::sync::Arc;

/// The view, or the parts of it that are asked for.
pub(super) async fn view(
    State(parts): State<Parts>,
    Extension(page): Extension<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    headers: HeaderMap,
) -> Markup {
    let answered = Answered {
        who: form::who(&visitor, &headers),
        ..Answered::default()
    };
    shown(&parts, &page, &visitor, &wanted, &answered).await
}

/// The same, with what the form of the mirror's switches came to.
pub(super) async fn shown(
    parts: &Parts,
    page: &Page,
    visitor: &Visitor,
    wanted: &Wanted,
    answered: &Answered,
) -> Markup {
    let ready = if wanted.has("readiness") {
        let asked = parts.clone();
        Some(read(move || readiness::told(&asked)).await)
    } else {
        None
    };
    let news = if wanted.has("recent") {
        let asked = parts.clone();
        Some(read(move || recent::gathered(&asked)).await)
    } else {
        None
    };
    let tainted = if wanted.has("taints") {
        let asked = parts.clone();
        Some(read(move || asked.ledger.tainted()).await)
    } else {
        None
    };
    let told = status::told(parts);
    let content = html! {
        @if wanted.whole() { h1 class="unseen" { "Overview" } }
        div class="grid" {
            @if wanted.has("servers") { (servers(parts, &told)) }
            @if wanted.has("mirror") { (mirror(parts, &told)) }
            @if wanted.has("rates") { (rates(page)) }
        }
        @if wanted.has("coverage") { (coverage(&parts.ledger.coverage())) }
        div class="halves" {
            div class="column" {
                @if let Some(ready) = &ready {
                    section class="panel" id="readiness" data-part="readiness" data-by="readiness roles" {
                        @match ready {
                            Ok(ready) => (guards(ready, text(&told, "/shadow"))),
                            Err(refusal) => { h2 { "Readiness" } p class="problem" { (refusal.message()) } }
                        }
                    }
                }
                @if wanted.has("switches") { (switches(parts, visitor, answered)) }
            }
            div class="column" {
                @if let Some(news) = &news {
                    section class="panel" id="recent" data-part="recent" data-by="findings cutover verification readiness" {
                        h2 { "The last hour" }
                        @match news {
                            Ok(news) => (recent::list(news)),
                            Err(refusal) => p class="problem" { (refusal.message()) },
                        }
                    }
                }
                @if let Some(tainted) = &tainted {
                    section class="panel" id="taints" data-part="taints" data-by="readiness findings verification" {
                        @match tainted {
                            Ok(tainted) => (taints::card(tainted)),
                            Err(refusal) => { h2 { "Tainted tables" } p class="problem" { (refusal.message()) } }
                        }
                    }
                }
            }
        }
    };
    Frame {
        parts,
        visitor,
        wanted,
        here: Here::Overview,
        title: "Overview",
    }
    .around(&content)
}

fn servers(parts: &Parts, told: &Value) -> Markup {
    let names = [text(told, "/primary"), text(told, "/shadow")];
    let [own, others] = Servers::new(names, &parts.config.primary.name).hues();
    let one = |role: &str, does: &str, hue: &str| {
        let name = text(told, &format!("/{role}"));
        let server = told.get("servers").and_then(|all| all.get(name));
        let server = server.unwrap_or(&Value::Null);
        let version = match text(server, "/version") {
            "" => "version not seen",
            version => version,
        };
        html! {
            div class="server" {
                p class="what" { (role) ", which " (does) }
                p class="big" { (bits::hue(hue)) (name) }
                p { (version) br; span class="soft" { (text(server, "/address")) } }
                @if !text(server, "/error").is_empty() {
                    p class="problem" { "not reached: " (text(server, "/error")) }
                }
                @if !is(server, "/watched") { p class="soft" { "not looked at any more" } }
            }
        }
    };
    html! {
        section class="panel" id="servers" data-part="servers" data-by="status roles" {
            h2 { "Servers" }
            div class="pair" { (one("primary", "answers", own)) (one("shadow", "rehearses", others)) }
            p class="soft" { "understudy " (text(told, "/version")) ", up " (span(number(told, "/uptime_s"))) }
        }
    }
}

fn mirror(parts: &Parts, told: &Value) -> Markup {
    let house: &dyn House = &*parts.house;
    let mirror = house.mirror();
    let on = |on: bool| if on { "on" } else { "off" };
    let (used, most) = (
        number(told, "/mirror/queue_bytes"),
        number(told, "/mirror/queue_bytes_max"),
    );
    let ledger = told.get("ledger").unwrap_or(&Value::Null);
    html! {
        section class="panel" id="mirror" data-part="mirror" data-by="status" {
            h2 { "Mirror " (bits::mirror(&mirror)) }
            // What somebody has switched off is no trouble.
            @if let Some(reason) = &mirror.reason { p class=(if mirror.word() == "off" { "soft" } else { "problem" }) { (reason) } }
            @if let Some(process) = house.heir() {
                p class="problem" { "Process " (process) " has taken over: this one ends with its last session, and that one goes on here" }
            }
            dl class="facts" {
                dt { "Mirrored" }
                dd { "reads " (on(mirror.control.reads)) ", writes " (mirror.control.writes.name())
                    ", sample " (percent(mirror.control.sample)) ". " a href="#switches" { "Change" } }
                dt { "Queue" }
                dd class="number" { (bytes(used)) " of " (bytes(most)) " " (bits::progress(used, most, "Queue in use")) }
                dt { "Behind" }
                dd class="number" {
                    @if mirror.waiting == 0 { "nothing waits" }
                    @else { (count(mirror.waiting)) " commands, the first for " (count(millis(mirror.oldest))) " ms" }
                }
                dt { "Sessions" }
                dd class="number" { (count(number(told, "/sessions/open"))) " open, "
                    (count(number(told, "/sessions/mirrored"))) " mirrored, "
                    (count(number(told, "/sessions/tunnelled"))) " tunnelled" }
                dt { "Ledger" }
                dd {
                    @if is(ledger, "/ok") { "written" } @else { (tag(Tone::Bad, "cannot be written")) " " (text(ledger, "/last_error")) }
                    @if number(ledger, "/lost") > 0 { ", " (count(number(ledger, "/lost"))) " divergences lost" }
                }
            }
        }
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A share from 0 to 1.
pub(super) fn percent(share: f64) -> String {
    format!("{:.4}", share * 100.0)
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
        + " %"
}

fn rates(page: &Page) -> Markup {
    let tenths = |n: u64| format!("{}.{}", count(n / 10), n % 10);
    html! {
        section class="panel" id="rates" data-part="rates" data-by="status" {
            h2 { "Commands a second" }
            @match page.pace.rates() {
                None => p class="soft" { "Counting since a moment ago." },
                Some(rates) => {
                    p class="big number" { (tenths(rates.commands)) }
                    (line(&rates.steps))
                    dl class="facts" {
                        dt { "Compared" } dd class="number" { (tenths(rates.compared)) " /s" }
                        dt { "Diverged" } dd class="number" { (tenths(rates.diverged)) " /s" }
                    }
                    p class="soft" { "Of the last minute; the line is of the last ten." }
                }
            }
        }
    }
}

/// A line through the steps, the newest at the right.
fn line(steps: &[u64]) -> Markup {
    const WIDTH: usize = 119;
    const HEIGHT: u64 = 40;
    let most = steps.iter().copied().max().unwrap_or(0).max(1);
    let from = WIDTH.saturating_sub(steps.len().saturating_sub(1));
    let points = steps.iter().enumerate().map(|(at, rate)| {
        let height = HEIGHT - rate * HEIGHT / most;
        format!("{},{height}", from + at)
    });
    let points = points.collect::<Vec<_>>().join(" ");
    html! {
        svg class="line" viewBox="0 -2 119 44" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            path d="M0,40.5 H119" {}
            polyline points=(points) {}
        }
    }
}

/// A part of the bar: its words, its count, its class.
type Piece = (&'static str, u64, &'static str);

fn coverage(now: &Snapshot) -> Markup {
    let skipped = now.not_compared_total();
    let pieces: [Piece; 5] = [
        ("matched", now.matched, "matched"),
        ("tolerated", now.tolerated, "tolerated"),
        ("diverged", now.diverged, "diverged"),
        ("not compared", skipped, "skipped"),
        ("pending", now.pending, "pending"),
    ];
    let mut reasons: Vec<(&str, u64)> = now
        .not_compared
        .iter()
        .map(|(name, n)| (*name, *n))
        .collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let mut tolerances: Vec<(&str, u64)> = now
        .by_tolerance
        .iter()
        .map(|(name, n)| (*name, *n))
        .collect();
    tolerances.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    html! {
        section class="panel" id="coverage" data-part="coverage" data-by="status" {
            h2 { "Coverage " span class="soft" { (count(now.commands)) " commands since the start" } }
            @if now.commands == 0 {
                p class="soft" { "No command has come through yet." }
            } @else {
                (bar(&pieces, now.commands))
                div class="legend" {
                    div {
                        table class="numbers" {
                            caption class="unseen" { "Verdicts" }
                            thead { tr { th scope="col" { "Verdict" } th scope="col" class="number" { "Commands" } th scope="col" class="number" { "Share" } } }
                            tbody {
                                @for (name, n, class) in pieces {
                                    tr { th scope="row" { span class={"swatch " (class)} aria-hidden="true" {} (name) }
                                        td class="number" { (count(n)) } td class="number" { (share(n, now.commands)) } }
                                }
                            }
                        }
                    }
                    div { (counted("Not compared, by reason", &reasons, now.commands, "No command was left out.")) }
                    div { (counted("Tolerated, by rule", &tolerances, now.commands, "Nothing was tolerated.")) }
                }
                p class="soft small" { "Shares are of all commands, and cut to two digits, not rounded."
                    @if tolerances.len() > 1 { " A command that several rules tolerate stands under each of them." } }
            }
        }
    }
}

fn counted(title: &str, rows: &[(&str, u64)], whole: u64, none: &str) -> Markup {
    html! {
        @if rows.is_empty() { p class="soft" { (none) } }
        @else {
            table class="numbers" {
                caption class="unseen" { (title) }
                thead { tr { th scope="col" { (title) } th scope="col" class="number" { "Commands" } th scope="col" class="number" { "Share" } } }
                tbody {
                    @for (name, n) in rows {
                        tr { th scope="row" { (name.replace('_', " ")) } td class="number" { (count(*n)) } td class="number" { (share(*n, whole)) } }
                    }
                }
            }
        }
    }
}

/// What a part that is not nothing has of the bar at least, in hundredths of a percent.
const SEEN: u64 = 50;

/// The whole is every command: what was not compared has its own length. Patterns tell the parts apart where
/// colours do not. A part that is very small is drawn a little larger, or nobody would see it; the figures below
/// are exact.
fn bar(pieces: &[Piece], whole: u64) -> Markup {
    let seen = pieces.iter().filter(|(_, n, _)| *n > 0);
    let words = seen
        .clone()
        .map(|(name, n, _)| format!("{name} {}", share(*n, whole)));
    let words = words.collect::<Vec<_>>().join(", ");
    let of = |part: u64, whole: u64| {
        let share = u128::from(part) * 10_000 / u128::from(whole.max(1));
        u64::try_from(share).unwrap_or(0)
    };
    let widths: Vec<(&str, u64)> = seen
        .map(|(_, n, class)| (*class, of(*n, whole).max(SEEN)))
        .collect();
    let all: u64 = widths.iter().map(|(_, width)| width).sum();
    let mut at = 0;
    let mut rects = Vec::new();
    for (class, width) in &widths {
        rects.push((*class, hundredths(of(at, all)), hundredths(of(*width, all))));
        at += width;
    }
    html! {
        svg class="bar" role="img" aria-label={"Coverage: " (words)} width="100%" height="28" {
            defs {
                pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect class="ink" width="2" height="6" {}
                }
                pattern id="dots" width="6" height="6" patternUnits="userSpaceOnUse" {
                    circle class="ink" cx="3" cy="3" r="1" {}
                }
            }
            @for (class, x, width) in &rects {
                rect class=(class) x=(x) y="0" width=(width) height="28" {}
                @if *class == "diverged" { rect fill="url(#hatch)" x=(x) y="0" width=(width) height="28" {} }
                @if *class == "skipped" { rect fill="url(#dots)" x=(x) y="0" width=(width) height="28" {} }
            }
        }
    }
}

fn hundredths(n: u64) -> String {
    format!("{}.{:02}%", n / 100, n % 100)
}

/// Whether what can be done now may be: the way back, where there is one, and readiness beside; else readiness.
pub(super) fn guards(told: &Standing, shadow: &str) -> Markup {
    let ready = &told.guards;
    let verdict = if ready.ready {
        tag(Tone::Good, "ready")
    } else {
        tag(Tone::Bad, "not ready")
    };
    let Some(back) = &told.way_back else {
        return html! {
            h2 { "Readiness " (verdict) }
            (judged(ready, shadow))
        };
    };
    html! {
        (way_back(back))
        details {
            summary { "Readiness for a cutover forward: " @if ready.ready { "ready" } @else { "not ready" } }
            p class="soft" { "As if nobody had been served from " (shadow) " yet. It does not stand in the way back." }
            (judged(ready, shadow))
        }
    }
}

fn way_back(back: &WayBack) -> Markup {
    html! {
        h2 { "The way back to " (back.to) " "
            @if back.open { (tag(Tone::Good, "open")) } @else { (tag(Tone::Bad, "barred")) } }
        @if back.open {
            p { "Nothing that is known bars it. How good " (back.to) " is is not asked again: it has been the primary." }
        } @else {
            p { "Barred by:" }
            ul { @for bar in &back.barred_by { li { strong { (bar.name) } " " (harmless(&bar.why)) } } }
        }
    }
}

/// The verdict, and every guard with what it found.
fn judged(ready: &Readiness, shadow: &str) -> Markup {
    let failed: Vec<&str> = ready
        .guards
        .iter()
        .filter(|guard| !guard.pass)
        .map(|guard| guard.name)
        .collect();
    html! {
        p {
            @if ready.ready { "Every guard passes: " (shadow) " may become the primary." }
            @else {
                (count(failed.len() as u64)) " of " (count(ready.guards.len() as u64)) " guards "
                @if failed.len() == 1 { "does" } @else { "do" } " not pass: " (failed.join(", ")) "."
            }
        }
        (wide("Guards", &html! {
            table class="guards" {
                caption class="unseen" { "Guards" }
                thead { tr { th scope="col" { "Guard" } th scope="col" { "Verdict" } th scope="col" { "Found" } } }
                tbody {
                    @for guard in &ready.guards {
                        tr {
                            th scope="row" { (guard.name) }
                            td { @if guard.pass { (tag(Tone::Good, "pass")) } @else { (tag(Tone::Bad, "fail")) } }
                            td class="words" { (harmless(&guard.why)) }
                        }
                    }
                }
            }
        }))
    }
}

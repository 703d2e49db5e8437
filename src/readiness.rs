//! Whether the shadow is ready to be the primary: guards over figures. Pure: what was seen and what is
//! asked for are arguments, so that the cutover is judged by the same function as the operator's question.
//!
//! A guard without anything to judge by does not pass: nothing seen is no evidence.

mod verification;

use crate::compare::verdict::Kind;
use crate::config::{Cutover, LatencyLimits, Readiness as Limits};
use crate::ledger::{Evidence, Open, OpenFindings, Pace, Reach, Sum, Verified};
use crate::words::{brief, count, micros, percent, period, several, share, span};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Characters of a statement in a guard's words.
const STATEMENT_CHARS: usize = 100;

/// Names in a guard's words.
const NAMES: usize = 5;

/// What readiness is judged by.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The time of all this.
    pub now: jiff::Timestamp,
    /// Open findings with a cause of their own, by kind.
    pub open: OpenFindings,
    /// Divergences that were counted, but could not be kept.
    pub lost: u64,
    /// What was seen and compared.
    pub evidence: Evidence,
    /// Both servers' latencies, of classes and of statements.
    pub paces: Vec<Pace>,
    /// How far the shadow is behind.
    pub lag: Lag,
    /// Tables that are tainted.
    pub tainted: Vec<String>,
    /// What is known of the primary's tables at rest.
    pub verified: Vec<Verified>,
    /// What the newest verification could not see of them.
    pub unseen: Vec<String>,
}

/// How far the shadow is behind.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    /// The mirror's state: `running`, `paused` or `suspended`.
    pub state: String,
    /// Why it does not run.
    pub reason: Option<String>,
    /// Commands that wait for the shadow, or run there.
    pub commands: u64,
    /// How long the first of them has been waiting.
    pub oldest: Duration,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guard {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub pass: bool,
    /// What was found: a number, or several under their names.
    pub value: Value,
    /// The limits, likewise.
    pub limit: Value,
    /// What was found, in words.
    pub why: String,
}

/// All guards.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Readiness {
    /// Whether every guard passes.
    pub ready: bool,
    /// In the order in which one looks.
    pub guards: Vec<Guard>,
}

/// The names of the guards, in their order.
pub const GUARDS: [&str; 8] = [
    "divergences",
    "coverage",
    "evidence",
    "latency",
    "lag",
    "taint",
    "unsettled",
    "verification",
];

/// Judges. Whether data at rest must have been verified stands with the cutover's own limits.
#[must_use]
pub fn judge(figures: &Figures, limits: &Limits, cutover: &Cutover) -> Readiness {
    let guards = vec![
        divergences(figures, limits),
        coverage(&figures.evidence, limits),
        evidence(figures, limits),
        latency(&figures.paces, &limits.latency),
        lag(&figures.lag, limits),
        taint(&figures.tainted, limits.taints),
        unsettled(&figures.evidence.unsettled, limits),
        verification::verification(figures, cutover),
    ];
    Readiness {
        ready: guards.iter().all(|guard| guard.pass),
        guards,
    }
}

/// Open findings by kind, but those of kind `latency`, which have a guard of their own.
fn divergences(figures: &Figures, limits: &Limits) -> Guard {
    let (mut value, mut limit, mut words) = (Map::new(), Map::new(), Vec::new());
    let mut pass = true;
    let open = &figures.open;
    let metadata = limits.metadata.then_some(&open.metadata);
    let kinds = Kind::ALL.map(Kind::name);
    for kind in kinds.into_iter().filter(|one| *one != Kind::Latency.name()) {
        let lists = std::iter::once(&open.by_kind).chain(metadata);
        let of: Vec<&Open> = lists.filter_map(|list| list.get(kind)).collect();
        let findings: u64 = of.iter().map(|open| open.findings).sum();
        if findings == 0 {
            continue;
        }
        let most = limits.divergences.get(kind).copied().unwrap_or(0);
        pass &= findings <= most;
        value.insert(kind.to_owned(), json!(findings));
        limit.insert(kind.to_owned(), json!(most));
        let names = of.iter().flat_map(|open| named(open));
        words.push(format!(
            "{} {kind} ({}{})",
            count(findings),
            listed(names, findings),
            but(most)
        ));
    }
    let compared = figures.evidence.ever.compared();
    // Nothing seen is no evidence.
    pass &= compared > 0;
    let mut why = match (words.is_empty(), compared) {
        (false, _) => format!("open findings: {}", words.join("; ")),
        (true, 0) => "nothing was compared yet".to_owned(),
        (true, _) => uncounted(open, limits),
    };
    if figures.lost > 0 {
        pass = false;
        why = format!(
            "{why}; {} divergences were counted and could not be kept, so findings may be missing",
            count(figures.lost)
        );
    }
    Guard {
        name: "divergences",
        pass,
        value: Value::Object(value),
        limit: Value::Object(limit),
        why,
    }
}

/// No finding counts: what is open all the same is judged elsewhere, and the pages that list it say so beside.
fn uncounted(open: &OpenFindings, limits: &Limits) -> String {
    let all =
        |list: &BTreeMap<String, Open>| -> u64 { list.values().map(|one| one.findings).sum() };
    let slow = |list: &BTreeMap<String, Open>| {
        let slow = list.get(Kind::Latency.name());
        slow.map_or(0, |one| one.findings)
    };
    let latency = slow(&open.by_kind) + slow(&open.metadata);
    let metadata = all(&open.metadata) - slow(&open.metadata);
    let mut words = Vec::new();
    if latency > 0 {
        words.push(format!(
            "{} of kind latency, which the guard latency judges",
            several(latency, "finding")
        ));
    }
    if metadata > 0 && !limits.metadata {
        words.push(format!(
            "{} of metadata (readiness.metadata)",
            several(metadata, "finding")
        ));
    }
    if open.at_floor > 0 {
        words.push(format!(
            "{} no more frequent than on a healthy pair (the floor)",
            several(open.at_floor, "finding")
        ));
    }
    if words.is_empty() {
        "no finding is open".to_owned()
    } else {
        format!(
            "no finding that counts is open; beside: {}",
            words.join(", ")
        )
    }
}

/// Findings by number and statement.
fn named(open: &Open) -> impl Iterator<Item = String> {
    let ids = open.ids.iter().enumerate();
    ids.map(|(at, id)| {
        let fingerprint = open.fingerprints.get(at).map_or("", String::as_str);
        format!("#{id} {fingerprint}")
    })
}

fn coverage(evidence: &Evidence, limits: &Limits) -> Guard {
    let sum = &evidence.window;
    let reached = |reach: &Reach| (reach.all - reach.never.min(reach.all), reach.all);
    let parts = [
        (
            "commands",
            (sum.compared(), sum.commands),
            limits.coverage_commands,
        ),
        (
            "fingerprints",
            reached(&evidence.fingerprints),
            limits.coverage_fingerprints,
        ),
        ("tables", reached(&evidence.tables), limits.coverage_tables),
    ];
    let (mut value, mut limit) = (Map::new(), Map::new());
    let mut pass = sum.commands > 0;
    for (name, (part, whole), least) in parts {
        // Where there is no table at all, none is missing.
        let share = if whole == 0 { 1.0 } else { ratio(part, whole) };
        pass &= share >= least;
        let shown = (sum.commands > 0).then_some((share * 1e4).floor() / 1e4);
        value.insert(name.to_owned(), json!(shown));
        limit.insert(name.to_owned(), json!(least));
    }
    Guard {
        name: "coverage",
        pass,
        value: Value::Object(value),
        limit: Value::Object(limit),
        why: covered(evidence, limits),
    }
}

/// What was compared and what was not, and what is wanted, in words.
fn covered(evidence: &Evidence, limits: &Limits) -> String {
    let sum = &evidence.window;
    let within = period(limits.window.as_secs());
    if sum.commands == 0 {
        return format!("nothing was seen within {within}");
    }
    let mut words = vec![format!(
        "of {} commands within {within} {} were compared ({} wanted)",
        count(sum.commands),
        share(sum.compared(), sum.commands),
        percent(limits.coverage_commands)
    )];
    let reasons = reasons(sum);
    if !reasons.is_empty() {
        words.push(format!("not: {reasons}"));
    }
    for (what, reach, least) in [
        (
            "statements",
            &evidence.fingerprints,
            limits.coverage_fingerprints,
        ),
        ("tables", &evidence.tables, limits.coverage_tables),
    ] {
        if reach.never > 0 {
            words.push(format!(
                "never compared: {} of {} {what} ({}), where {} are wanted",
                count(reach.never),
                count(reach.all),
                listed(reach.names.clone(), reach.never),
                percent(least)
            ));
        }
    }
    words.join("; ")
}

/// The most frequent reasons, with their shares.
fn reasons(sum: &Sum) -> String {
    let mut reasons: Vec<_> = sum.not_compared.iter().collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let shown: Vec<_> = reasons
        .into_iter()
        .take(NAMES)
        .map(|(reason, n)| format!("{reason} {}", share(*n, sum.commands)))
        .collect();
    shown.join(", ")
}

fn evidence(figures: &Figures, limits: &Limits) -> Guard {
    let seen = &figures.evidence;
    let since = |then: Option<jiff::Timestamp>| {
        then.map(|then| {
            let age = figures.now.as_second().saturating_sub(then.as_second());
            age.max(0).unsigned_abs()
        })
    };
    let (age, last) = (since(seen.first_compared), since(seen.last_compared));
    let compared = seen.ever.compared();
    let pass = compared > 0
        && age.is_some_and(|age| age >= limits.evidence.as_secs())
        && last.is_some_and(|last| last <= limits.evidence_age_max.as_secs())
        && seen.hours >= limits.evidence_hours
        && compared >= limits.evidence_commands;
    let why = match (age, last) {
        (Some(age), Some(last)) => format!(
            "{} commands compared ({} wanted), in {} of the clock ({} wanted); the first {} ago ({} wanted), the last {} ago ({} at most)",
            count(compared),
            count(limits.evidence_commands),
            several(seen.hours, "hour"),
            count(limits.evidence_hours),
            span(age),
            period(limits.evidence.as_secs()),
            span(last),
            period(limits.evidence_age_max.as_secs())
        ),
        _ => "nothing was compared yet".to_owned(),
    };
    Guard {
        name: "evidence",
        pass,
        value: json!({"commands": compared, "hours": seen.hours, "age_s": age, "last_s": last}),
        limit: json!({
            "commands": limits.evidence_commands,
            "hours": limits.evidence_hours,
            "age_s": limits.evidence.as_secs(),
            "last_s": limits.evidence_age_max.as_secs(),
        }),
        why,
    }
}

/// A quantile in which the shadow is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slower {
    /// In the median only.
    P50,
    /// In the 99th percentile, whatever the median.
    P99,
}

/// Whether the shadow is slower than the limits allow.
#[must_use]
pub fn slower(pace: &Pace, limits: &LatencyLimits) -> Option<Slower> {
    let past = |primary, shadow, factor, time| shadow > allowed(primary, factor, time);
    if past(
        pace.primary.p99,
        pace.shadow.p99,
        limits.p99_ratio,
        limits.p99,
    ) {
        Some(Slower::P99)
    } else if past(
        pace.primary.p50,
        pace.shadow.p50,
        limits.p50_ratio,
        limits.p50,
    ) {
        Some(Slower::P50)
    } else {
        None
    }
}

/// How long the shadow may take, in µs, where the primary takes so many: within the factor or within
/// the time.
#[must_use]
pub fn allowed(primary: u64, factor: f64, time: Duration) -> u64 {
    let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    scaled(primary, factor).max(primary.saturating_add(time))
}

fn latency(paces: &[Pace], limits: &LatencyLimits) -> Guard {
    let judged = paces.iter().filter(|pace| pace.samples >= limits.samples);
    let judged: Vec<&Pace> = judged.collect();
    let slow: Vec<&Pace> = judged
        .iter()
        .copied()
        .filter(|pace| slower(pace, limits).is_some())
        .collect();
    let worst = |of: fn(&Pace) -> (u64, u64)| {
        let ratios = judged.iter().map(|pace| {
            let (primary, shadow) = of(pace);
            ratio(shadow, primary.max(1))
        });
        ratios
            .fold(None, |worst: Option<f64>, one| {
                Some(worst.map_or(one, |worst| worst.max(one)))
            })
            .map(|worst| (worst * 100.0).round() / 100.0)
    };
    let allowed = format!(
        "allowed: p50 ×{} or {} more, p99 ×{} or {} more",
        limits.p50_ratio,
        whole_micros(limits.p50),
        limits.p99_ratio,
        whole_micros(limits.p99)
    );
    let why = if judged.is_empty() {
        format!(
            "no class of statements has {} timed commands on both servers yet",
            count(limits.samples)
        )
    } else if slow.is_empty() {
        format!(
            "{} classes and statements are within the limits ({allowed})",
            judged.len()
        )
    } else {
        let names: Vec<String> = slow.iter().take(NAMES).map(|pace| told(pace)).collect();
        format!(
            "{} of {} classes and statements are slower than allowed on the shadow ({allowed}): {}",
            slow.len(),
            judged.len(),
            listed(names, slow.len() as u64)
        )
    };
    Guard {
        name: "latency",
        pass: !judged.is_empty() && slow.is_empty(),
        value: json!({
            "judged": judged.len(),
            "slower": slow.len(),
            "p50_ratio": worst(|pace| (pace.primary.p50, pace.shadow.p50)),
            "p99_ratio": worst(|pace| (pace.primary.p99, pace.shadow.p99)),
        }),
        limit: json!({
            "slower": 0,
            "p50_ratio": limits.p50_ratio,
            "p50_ms": millis(limits.p50),
            "p99_ratio": limits.p99_ratio,
            "p99_ms": millis(limits.p99),
            "samples": limits.samples,
        }),
        why,
    }
}

/// A pace in words: `read: p50 200 µs → 900 µs, p99 1.00 ms → 9.00 ms`.
#[must_use]
pub fn told(pace: &Pace) -> String {
    format!("{}: {}", pace.name(STATEMENT_CHARS), times(pace))
}

/// The same without its name.
#[must_use]
pub fn times(pace: &Pace) -> String {
    format!(
        "p50 {} → {}, p99 {} → {}",
        micros(pace.primary.p50),
        micros(pace.shadow.p50),
        micros(pace.primary.p99),
        micros(pace.shadow.p99)
    )
}

fn lag(lag: &Lag, limits: &Limits) -> Guard {
    let runs = lag.state == "running";
    let mut words = vec![match &lag.reason {
        Some(reason) => format!("mirroring is {}: {reason}", lag.state),
        None => format!("mirroring is {}", lag.state),
    }];
    words.push(match lag.commands {
        0 => "nothing waits for the shadow".to_owned(),
        n => format!(
            "{} commands wait for the shadow ({} allowed), the first for {} ({} allowed)",
            count(n),
            count(limits.lag_commands),
            whole_micros(lag.oldest),
            whole_micros(limits.lag)
        ),
    });
    Guard {
        name: "lag",
        pass: runs && lag.commands <= limits.lag_commands && lag.oldest <= limits.lag,
        value: json!({"state": lag.state, "commands": lag.commands, "oldest_ms": millis(lag.oldest)}),
        limit: json!({"state": "running", "commands": limits.lag_commands, "oldest_ms": millis(limits.lag)}),
        why: words.join("; "),
    }
}

fn taint(tainted: &[String], most: u64) -> Guard {
    let tables = tainted.len() as u64;
    Guard {
        name: "taint",
        pass: tables <= most,
        value: json!(tables),
        limit: json!(most),
        why: if tables == 0 {
            "no table is tainted".to_owned()
        } else {
            format!("tainted: {}{}", listed(tainted.to_vec(), tables), but(most))
        },
    }
}

fn unsettled(unsettled: &Reach, limits: &Limits) -> Guard {
    Guard {
        name: "unsettled",
        pass: unsettled.never <= limits.unsettled,
        value: json!(unsettled.never),
        limit: json!(limits.unsettled),
        why: if unsettled.never == 0 {
            "every statement that raced was settled some time".to_owned()
        } else {
            format!(
                "raced every time and never settled: {}{}",
                listed(unsettled.names.clone(), unsettled.never),
                but(limits.unsettled)
            )
        },
    }
}

/// The first names, and how many more there are.
fn listed(names: impl IntoIterator<Item = String>, all: u64) -> String {
    let shown: Vec<String> = names
        .into_iter()
        .take(NAMES)
        .map(|name| brief(&name, STATEMENT_CHARS * 2))
        .collect();
    match all.saturating_sub(shown.len() as u64) {
        0 => shown.join(" | "),
        more => format!("{} and {} more", shown.join(" | "), count(more)),
    }
}

/// That some are let pass, where some are.
fn but(most: u64) -> String {
    match most {
        0 => String::new(),
        most => format!(", {} allowed", count(most)),
    }
}

fn whole_micros(time: Duration) -> String {
    micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a ratio needs no more than 53 bits"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "micros of at most an hour, times at most a thousand"
)]
fn scaled(micros: u64, factor: f64) -> u64 {
    (micros as f64 * factor) as u64
}

#[cfg(test)]
pub(crate) mod tests;

//! Whether the new primary is worse than the old one was: its errors and its times against those of
//! the time before, looked at until the soak's time is over.

use super::coordinator::Parts;
use super::machine::Event;
use super::progress::Slate;
use crate::ask::{Asker, Manner};
use crate::config::{Cutover, Server};
use crate::shadow::Beat;
use crate::words::{count, micros, share};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// So many visits in a row that fail are a server that died.
const VISITS_MAX: u32 = 3;

/// With fewer commands nothing is judged.
const COMMANDS_MIN: u64 = 500;

/// So many errors more, in a hundred commands, are none of the server's.
const ERRORS_SLACK: f64 = 0.005;

/// So much longer nobody notices.
const TIME_SLACK: Duration = Duration::from_millis(5);

/// The figure of a record that says how the primary answered before its hold.
pub(super) const BEFORE: &str = "before";

/// How the new primary answers since the switch, beside the old one before it, and what is allowed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Soak {
    /// Why nothing is judged by the limits, or not yet; null where it is.
    pub unjudged: Option<String>,
    /// Commands that were answered.
    pub commands: Sides<u64>,
    /// The share of them that failed, from 0 to 1.
    pub errors: Sides<f64>,
    /// The share that is allowed to fail, by `cutover.soak_errors_max`.
    pub errors_limit: f64,
    /// The 99th percentile, in microseconds.
    pub p99_us: Sides<u64>,
    /// What that may be, by `cutover.soak_latency_max`.
    pub p99_limit_us: u64,
    #[serde(skip)]
    failed: Sides<u64>,
}

/// A figure of the new primary, and of the old one in the time before its hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sides<T> {
    /// Since the switch.
    pub now: T,
    /// Before it.
    pub before: T,
}

impl Soak {
    pub(super) fn of(before: &Beat, now: &Beat, limits: &Cutover) -> Self {
        let sides = |of: fn(&Beat) -> u64| Sides {
            now: of(now),
            before: of(before),
        };
        Self {
            unjudged: unjudged(before, now),
            commands: sides(|beat| beat.answers),
            errors: Sides {
                now: errors(now),
                before: errors(before),
            },
            errors_limit: errors_most(before, limits),
            p99_us: sides(|beat| whole_micros(beat.p99)),
            p99_limit_us: whole_micros(p99_most(before, limits)),
            failed: sides(|beat| beat.errors),
        }
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        let failed = |failed: u64, of: u64| match of {
            0 => "none".to_owned(),
            of => share(failed, of),
        };
        let mut words = vec![
            format!(
                "errors {} of {} commands, before the switch {} of {}, allowed {} (cutover.soak_errors_max)",
                failed(self.failed.now, self.commands.now),
                count(self.commands.now),
                failed(self.failed.before, self.commands.before),
                count(self.commands.before),
                percent(self.errors_limit)
            ),
            format!(
                "p99 {}, before {}, allowed {} (cutover.soak_latency_max)",
                micros(self.p99_us.now),
                micros(self.p99_us.before),
                micros(self.p99_limit_us)
            ),
        ];
        words.extend(self.unjudged.clone());
        words.join("; ")
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn whole_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// That figure.
pub(super) fn kept(before: &Beat) -> Value {
    json!({
        "answers": before.answers,
        "errors": before.errors,
        "p50_us": whole_micros(before.p50),
        "p99_us": whole_micros(before.p99),
    })
}

/// Read back from a record's figures by a later process; nothing where it is not there, by which nobody is
/// judged.
pub(super) fn recalled(figures: &Value) -> Beat {
    let number = |name: &str| figures.pointer(&format!("/{BEFORE}/{name}"))?.as_u64();
    let read = || {
        Some(Beat {
            answers: number("answers")?,
            errors: number("errors")?,
            p50: Duration::from_micros(number("p50_us")?),
            p99: Duration::from_micros(number("p99_us")?),
        })
    };
    read().unwrap_or_default()
}

/// Looks until the time is over, and tells what it sees, to who looks on, too. `before`: how the old primary
/// answered; `soaked`: for so long it was looked at by an earlier process.
pub(super) async fn watch<F: Future<Output = ()>>(
    parts: &Parts,
    slate: &Slate,
    (before, soaked): (Beat, Duration),
    tell: impl Fn(Event, String) -> F,
) {
    let limits = &parts.config.cutover;
    let began = Instant::now();
    let end = || began + limits.soak.now().saturating_sub(soaked);
    let primary = Arc::clone(&parts.roles.borrow().primary);
    let (mut failed, mut beat) = (0, Beat::default());
    loop {
        let (now, until) = (Instant::now(), end());
        if now >= until {
            return tell(Event::SoakPassed, String::new()).await;
        }
        let figures = Soak::of(&before, &beat, limits);
        slate.soaks(until, limits.soak.now(), figures);
        tokio::time::sleep_until(until.min(now + LOOK)).await;
        let now = Instant::now();
        beat = parts.mirror.pulse(began, now);
        if let Some(why) = worse(&before, &beat, limits) {
            tell(Event::SoakFailed, why).await;
        }
        failed = match visit(parts, &primary).await {
            Ok(()) => 0,
            Err(why) if failed + 1 == VISITS_MAX => {
                let why = format!("{} does not answer: {why}", primary.name);
                tell(Event::SoakFailed, why).await;
                0
            }
            Err(_) => failed + 1,
        };
    }
}

async fn visit(parts: &Parts, server: &Server) -> Result<(), String> {
    let Some(account) = &server.account else {
        return Ok(());
    };
    let opened = Asker::open(&*parts.dial, server, account, &Manner::default()).await;
    opened.map_err(|error| error.to_string())?.leave().await;
    Ok(())
}

/// Why the new primary fails, in words; `None` where it does not, or where there is too little to say.
pub(super) fn worse(before: &Beat, now: &Beat, limits: &Cutover) -> Option<String> {
    if unjudged(before, now).is_some() {
        return None;
    }
    let most = errors_most(before, limits);
    if errors(now) > most {
        return Some(format!(
            "{} of commands fail, {} did before the switch; cutover.soak_errors_max allows {}",
            share(now.errors, now.answers),
            share(before.errors, before.answers),
            percent(most)
        ));
    }
    let most = p99_most(before, limits);
    if now.p99 > most {
        let words = |time: Duration| micros(whole_micros(time));
        return Some(format!(
            "99 in 100 commands take up to {}, up to {} before the switch; cutover.soak_latency_max allows {}",
            words(now.p99),
            words(before.p99),
            words(most)
        ));
    }
    None
}

/// Why nothing can be said yet, or at all; none where it can.
fn unjudged(before: &Beat, now: &Beat) -> Option<String> {
    if before.answers < COMMANDS_MIN {
        return Some(format!(
            "neither is judged: in the minutes before the switch there were fewer than {COMMANDS_MIN} commands"
        ));
    }
    (now.answers < COMMANDS_MIN)
        .then(|| format!("neither is judged before there were {COMMANDS_MIN} commands"))
}

/// The share of commands that may fail.
fn errors_most(before: &Beat, limits: &Cutover) -> f64 {
    errors(before) * limits.soak_errors_max.now() + ERRORS_SLACK
}

/// What 99 in 100 commands may take.
fn p99_most(before: &Beat, limits: &Cutover) -> Duration {
    before.p99.mul_f64(limits.soak_latency_max.now()) + TIME_SLACK
}

fn errors(beat: &Beat) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = beat.errors as f64 / beat.answers.max(1) as f64;
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn beat(answers: u64, errors: u64, p99_ms: u64) -> Beat {
        Beat {
            answers,
            errors,
            p50: Duration::from_millis(1),
            p99: Duration::from_millis(p99_ms),
        }
    }

    #[test]
    fn the_time_before_outlives_the_process_in_the_record() {
        let before = beat(12_000, 7, 31);
        let figures = json!({BEFORE: kept(&before), "moved": 3});
        let text = figures.to_string();
        let read = serde_json::from_str(&text).unwrap();
        assert_eq!(recalled(&read), before);
        for other in [Value::Null, json!({}), json!({BEFORE: {"answers": 5}})] {
            assert_eq!(recalled(&other), Beat::default(), "{other}");
        }
    }

    #[test]
    fn who_looks_on_sees_both_figures_beside_those_before_and_what_is_allowed() {
        let config = crate::config::Config::parse("", &[]).unwrap();
        let soak = |before, now| Soak::of(&before, &now, &config.cutover);
        let (before, now) = (beat(12_000, 12, 4), beat(2_000, 4, 6));
        let seen = soak(before, now);
        let words = seen.words();
        for part in [
            "errors 0.20 % of 2,000 commands, before the switch 0.10 % of 12,000, allowed ",
            "p99 6.00 ms, before 4.00 ms, allowed ",
            "cutover.soak_errors_max",
            "cutover.soak_latency_max",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(
            seen.unjudged.is_none() && !words.contains("judged"),
            "{words}"
        );
        // What stands beside is what it fails by.
        let worst = Beat {
            p99: Duration::from_micros(seen.p99_limit_us),
            ..now
        };
        assert_eq!(worse(&before, &worst, &config.cutover), None);
        let worst = Beat {
            p99: worst.p99 + Duration::from_micros(1),
            ..now
        };
        assert!(worse(&before, &worst, &config.cutover).is_some());
        let early = soak(before, beat(0, 0, 0)).words();
        assert!(early.contains("errors none of 0 commands"), "{early}");
        assert!(early.contains("before there were 500"), "{early}");
        let unknown = soak(Beat::default(), now).words();
        assert!(unknown.contains("fewer than 500 commands"), "{unknown}");
    }

    #[test]
    fn only_what_is_much_worse_and_well_seen_fails() {
        let config = crate::config::Config::parse("", &[]).unwrap();
        let judge = |before: Beat, now: Beat| worse(&before, &now, &config.cutover);
        let before = beat(10_000, 10, 10);
        assert_eq!(judge(before, beat(10_000, 20, 18)), None);
        assert_eq!(judge(before, beat(100, 100, 900)), None, "too few to say");
        assert_eq!(
            judge(beat(0, 0, 0), beat(9_000, 90, 90)),
            None,
            "nothing before"
        );
        let errors = judge(before, beat(10_000, 200, 10)).unwrap();
        assert!(errors.contains("soak_errors_max"), "{errors}");
        let slow = judge(before, beat(10_000, 10, 60)).unwrap();
        assert!(slow.contains("soak_latency_max"), "{slow}");
    }
}

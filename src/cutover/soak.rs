//! Whether the new primary is worse than the old one was: its errors and its times against those of
//! the time before, looked at until the soak's time is over.

use super::coordinator::Parts;
use super::machine::Event;
use crate::ask::{Asker, Manner};
use crate::config::{Cutover, Server};
use crate::shadow::Beat;
use crate::words::{micros, share};
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

/// That figure.
pub(super) fn kept(before: &Beat) -> Value {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    json!({
        "answers": before.answers,
        "errors": before.errors,
        "p50_us": micros(before.p50),
        "p99_us": micros(before.p99),
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

/// Looks until the time is over, and tells what it sees. `before`: how the old primary answered;
/// `soaked`: for so long it was looked at by an earlier process.
pub(super) async fn watch<F: Future<Output = ()>>(
    parts: &Parts,
    (before, soaked): (Beat, Duration),
    tell: impl Fn(Event, String) -> F,
) {
    let limits = &parts.config.cutover;
    let began = Instant::now();
    let end = || began + limits.soak.now().saturating_sub(soaked);
    let primary = Arc::clone(&parts.roles.borrow().primary);
    let mut failed = 0;
    loop {
        let (now, until) = (Instant::now(), end());
        if now >= until {
            return tell(Event::SoakPassed, String::new()).await;
        }
        tokio::time::sleep_until(until.min(now + LOOK)).await;
        let now = Instant::now();
        let beat = parts.mirror.pulse(began, now);
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
    if now.answers < COMMANDS_MIN || before.answers < COMMANDS_MIN {
        return None;
    }
    let (was, is) = (errors(before), errors(now));
    let most = was * limits.soak_errors_max.now() + ERRORS_SLACK;
    if is > most {
        return Some(format!(
            "{} of commands fail, {} did before the switch; cutover.soak_errors_max allows {}",
            share(now.errors, now.answers),
            share(before.errors, before.answers),
            format_args!("{:.2} %", most * 100.0)
        ));
    }
    let most = before.p99.mul_f64(limits.soak_latency_max.now()) + TIME_SLACK;
    if now.p99 > most {
        let words = |time: Duration| micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        return Some(format!(
            "99 in 100 commands take up to {}, up to {} before the switch; cutover.soak_latency_max allows {}",
            words(now.p99),
            words(before.p99),
            words(most)
        ));
    }
    None
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

//! The primary's clock, as it is estimated from here: an answer carries no time.
//!
//! Asked with the proxy's own account from time to time; the sample with the shortest way there and
//! back counts, half of which is added. The time zones are asked along.

use crate::ask::{AskError, Questions, Row};
use crate::task;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Between two looks at the primary's clock.
const INTERVAL: Duration = Duration::from_secs(60);

/// After a look that failed, the next comes sooner.
const RETRY: Duration = Duration::from_secs(5);

/// The first commands wait so long for the first look.
const WAIT: Duration = Duration::from_secs(2);

/// Questions of one look.
const SAMPLES: usize = 5;

/// Questions a second, at most: so many that one does not wait for the other, which would count as
/// way. A look has five.
const PER_SECOND: u32 = 1_000;

/// An estimate is good for so long: longer than a few looks that fail in a row.
const GOOD_FOR: Duration = Duration::from_secs(600);

/// A new estimate that is as near to the old one as this is averaged with it; else the clock was
/// set.
const SMOOTH_MICROS: i64 = 50_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Clock {
    state: Mutex<Option<State>>,
    /// The first look is over, whatever came of it.
    looked: watch::Sender<bool>,
}

/// What is known of the primary at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    at: Instant,
    unix_micros: i64,
    /// Half of the way there and back.
    way: Duration,
    settings: Settings,
}

/// What a session begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Seconds by which the default time zone is ahead of UTC.
    pub(super) default_offset_s: Option<i32>,
    /// Seconds by which the zone SYSTEM is ahead of UTC.
    pub(super) system_offset_s: Option<i32>,
    /// `auto_increment_increment`.
    pub(super) increment: Option<u64>,
    /// `sql_mode`.
    pub(super) sql_mode: String,
}

impl Clock {
    /// A clock that nobody is asked for.
    pub(super) fn unknown() -> Self {
        Self {
            state: Mutex::new(None),
            looked: watch::Sender::new(true),
        }
    }

    /// A clock that is asked for, and the task that does.
    pub(super) fn asking(questions: Questions) -> (Arc<Self>, JoinHandle<()>) {
        let clock = Arc::new(Self {
            looked: watch::Sender::new(false),
            ..Self::unknown()
        });
        let task = task::spawn("clock", follow(Arc::downgrade(&clock), questions));
        (clock, task)
    }

    /// Questions a second that [`Clock::asking`] may be given.
    pub(super) const fn per_second() -> u32 {
        PER_SECOND
    }

    /// Returns once the first look at the clock is over, at the latest after a short time.
    pub(super) async fn soon(&self) {
        let mut looked = self.looked.subscribe();
        let _ = tokio::time::timeout(WAIT, looked.wait_for(|looked| *looked)).await;
    }

    /// The primary's clock when a command that was sent at `sent` began there.
    pub(super) fn when(&self, sent: Instant) -> Option<i64> {
        let state = self.state.lock();
        let state = state.as_ref()?;
        (Instant::now() < state.at + GOOD_FOR).then_some(())?;
        let sent = sent + state.way;
        let later = micros(sent.saturating_duration_since(state.at))?;
        let earlier = micros(state.at.saturating_duration_since(sent))?;
        state.unix_micros.checked_add(later)?.checked_sub(earlier)
    }

    /// What a session begins with, where it is known.
    pub(super) fn settings(&self) -> Option<Settings> {
        Some(self.state.lock().as_ref()?.settings.clone())
    }

    fn take(&self, mut new: State) {
        let mut state = self.state.lock();
        if let Some(old) = state.as_ref()
            && let Some(later) = micros(new.at.saturating_duration_since(old.at))
        {
            let ahead = new.unix_micros - (old.unix_micros + later);
            if ahead.abs() <= SMOOTH_MICROS {
                new.unix_micros -= ahead / 2;
            }
        }
        *state = Some(new);
    }
}

fn micros(time: Duration) -> Option<i64> {
    i64::try_from(time.as_micros()).ok()
}

/// Looks at the clock until nobody wants to know.
async fn follow(clock: std::sync::Weak<Clock>, questions: Questions) {
    loop {
        let looked = look(&questions).await;
        let Some(clock) = clock.upgrade() else { return };
        let pause = match looked {
            Ok(state) => {
                clock.take(state);
                INTERVAL
            }
            Err(error) => {
                tracing::debug!(%error, "the primary's clock is not known");
                RETRY
            }
        };
        clock.looked.send_replace(true);
        drop(clock);
        tokio::time::sleep(pause).await;
    }
}

/// The shortest of some samples.
async fn look(questions: &Questions) -> Result<State, AskError> {
    let mut best: Option<State> = None;
    for _ in 0..SAMPLES {
        let state = sample(questions).await?;
        if best.as_ref().is_none_or(|best| state.way < best.way) {
            best = Some(state);
        }
    }
    best.ok_or(AskError::Answer)
}

async fn sample(questions: &Questions) -> Result<State, AskError> {
    let asked = Instant::now();
    let rows = questions
        .ask(
            "SELECT UNIX_TIMESTAMP(SYSDATE(6)), TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), NOW()), \
             TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', 'SYSTEM')), \
             @@global.auto_increment_increment, @@global.sql_mode",
        )
        .await?;
    let answered = Instant::now();
    let way = answered.saturating_duration_since(asked) / 2;
    let row = rows.first().ok_or(AskError::Answer)?;
    let unix_micros = unix_micros(row).ok_or(AskError::Answer)?;
    let number = |at: usize| row.get(at).and_then(|cell| cell.as_deref()?.parse().ok());
    Ok(State {
        at: asked + way,
        unix_micros,
        way,
        settings: Settings {
            default_offset_s: number(1),
            system_offset_s: number(2),
            increment: row.get(3).and_then(|cell| cell.as_deref()?.parse().ok()),
            sql_mode: row.get(4).cloned().flatten().unwrap_or_default(),
        },
    })
}

/// `1795645261.376620`
fn unix_micros(row: &Row) -> Option<i64> {
    let text = row.first()?.as_deref()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let micros: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let seconds: i64 = seconds.parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}

/// Seconds by which the session's time zone is ahead of UTC at a moment. `assignment` is the
/// session's last to `time_zone`, if any.
pub(super) fn offset(
    assignment: Option<&str>,
    settings: &Settings,
    unix_micros: i64,
) -> Option<i32> {
    let Some(assignment) = assignment else {
        return settings.default_offset_s;
    };
    let (_, value) = assignment.split_once('=')?;
    let value = value.trim();
    if value.eq_ignore_ascii_case("default") || value.eq_ignore_ascii_case("@@global.time_zone") {
        return settings.default_offset_s;
    }
    let bare = value
        .strip_prefix(['\'', '"'])
        .and_then(|rest| rest.strip_suffix(['\'', '"']))
        .unwrap_or(value);
    if bare.eq_ignore_ascii_case("system") {
        return settings.system_offset_s;
    }
    if let Some(ahead) = bare.strip_prefix('+') {
        return hours(ahead);
    }
    if let Some(behind) = bare.strip_prefix('-') {
        return hours(behind).map(|seconds| -seconds);
    }
    let zone = jiff::tz::db().get(bare).ok()?;
    let instant = jiff::Timestamp::from_microsecond(unix_micros).ok()?;
    Some(zone.to_offset(instant).seconds())
}

/// `2:00`, `05:30`
fn hours(text: &str) -> Option<i32> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then_some((hours * 60 + minutes) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(at: Instant, unix_micros: i64) -> State {
        State {
            at,
            unix_micros,
            way: Duration::from_millis(1),
            settings: Settings::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_primarys_clock_goes_on_from_the_last_look_and_small_jumps_are_smoothed() {
        let (clock, now) = (Clock::unknown(), Instant::now());
        assert_eq!(clock.when(now), None);
        clock.take(state(now, 1_000_000));
        assert_eq!(clock.when(now), Some(1_001_000));
        let later = now + Duration::from_secs(2);
        assert_eq!(clock.when(later), Some(3_001_000));
        clock.take(state(later, 3_010_000));
        assert_eq!(clock.when(later), Some(3_006_000));
        clock.take(state(later, 9_000_000)); // it was set
        assert_eq!(clock.when(later), Some(9_001_000));
        assert_eq!(clock.when(now), Some(7_001_000));
        tokio::time::advance(GOOD_FOR + Duration::from_secs(3)).await;
        assert_eq!(clock.when(Instant::now()), None);
    }

    #[test]
    fn the_sessions_time_zone_is_told_where_it_can_be() {
        let settings = Settings {
            default_offset_s: Some(3600),
            system_offset_s: Some(7200),
            ..Settings::default()
        };
        let winter = 1_800_000_000_000_000; // January 2027
        for (assignment, wanted) in [
            (None, Some(3600)),
            (Some("time_zone = DEFAULT"), Some(3600)),
            (Some("time_zone = 'SYSTEM'"), Some(7200)),
            (Some("time_zone='+05:30'"), Some(19_800)),
            (Some("@@session.time_zone = \"-3:00\""), Some(-10_800)),
            (Some("time_zone = 'Europe/Berlin'"), Some(3600)),
            (Some("time_zone = 'utc'"), Some(0)),
            (Some("time_zone = @zone"), None),
            (Some("time_zone = 'Nowhere/At_all'"), None),
            (Some("time_zone = '+25:00'"), None),
        ] {
            assert_eq!(
                offset(assignment, &settings, winter),
                wanted,
                "{assignment:?}"
            );
        }
    }
}

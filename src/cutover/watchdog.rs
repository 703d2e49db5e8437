//! Ends a hold that nobody ends: whatever the coordinator waits for, production goes on. It never acts
//! once the switch is under way, for then only the record says who is primary.

use super::fleet::{Call, Fleet};
use super::hold::Hands;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What a hold may take beyond `hold_ms_max` and the time of those that are ended, before everybody is let
/// go whatever the coordinator does.
const SLACK: Duration = Duration::from_secs(5);

/// How far a hold has come, for the watchdog: who comes first decides.
#[derive(Debug, Default)]
pub(super) struct Stage(AtomicU8);

impl Stage {
    const LET_GO: u8 = 1;
    const GOES_ON: u8 = 2;

    /// The coordinator goes on to the switch; false where everybody was let go.
    pub(super) fn goes_on(&self) -> bool {
        self.0
            .compare_exchange(0, Self::GOES_ON, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Everybody is to be let go; false where the switch is under way, or the hold is over.
    fn lets_go(&self) -> bool {
        self.0
            .compare_exchange(0, Self::LET_GO, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// There is nothing to watch any more.
    pub(super) fn is_over(&self) {
        let _ = self.goes_on();
    }
}

/// Lets everybody go where the coordinator has not come to its end in time: it may wait for a disk or
/// a server that hangs. What is recorded is not touched. `until`: when the hold should have ended.
/// One that has slept meanwhile asks its fleet whether that has gone on without it.
pub(super) async fn watch(
    hands: Hands,
    stage: Arc<Stage>,
    until: Instant,
    fleet: Option<(Arc<Fleet>, Call)>,
) {
    tokio::time::sleep_until(until + SLACK).await;
    if stage.lets_go() {
        if let Some((fleet, call)) = fleet
            && let Some(primary) = fleet.has_gone_on(&call).await
        {
            let why = format!("the fleet has gone on without this proxy, and {primary} is primary");
            hands.end_all(&why);
            return fleet.lose(why);
        }
        tracing::error!("the hold has not ended in time: every session goes on as before");
        hands.carrier.let_go();
        hands.relay.resume();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_decides_and_the_other_does_nothing() {
        let switched = Stage::default();
        assert!(switched.goes_on());
        assert!(!switched.lets_go(), "the switch is under way");
        let let_go = Stage::default();
        assert!(let_go.lets_go());
        assert!(!let_go.goes_on(), "nobody is held any more");
        let over = Stage::default();
        over.is_over();
        assert!(!over.lets_go(), "there is no hold any more");
    }
}

//! When what lies in the antechamber is let in.
//!
//! It is shut where most of the sessions that have anything to do are far behind on the shadow, and opens
//! - where the replays have half of that left to do;
//! - where as many sessions come that are not behind: the shadow is there, and some have a slow command of
//!   their own;
//! - where a session's transaction is open on the shadow, its replay has nothing to do, and its next command
//!   lies here: whoever waits there for its locks waits for that command. A transaction whose client says nothing
//!   is no reason: on the primary others wait for it, too.
//!
//! So no command on the shadow waits for one that lies unread: those that its place in the line waits for came
//! before it, and were let in before it. It refuses to know commands; errands and want of room are the
//! dispatcher's.

use super::load::{Load, Loads};
use std::time::Duration;
use tokio::time::Instant;

/// From one look at the sessions of which something lies here to the next; where there are more than
/// [`SESSIONS`], longer by as much.
const LOOKS: Duration = Duration::from_millis(10);
const SESSIONS: u32 = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Doorkeeper {
    is_open: bool,
    /// Sessions of which something lies here, and whose replays have nothing to do.
    strangers: usize,
    /// The transaction of one of them is open on the shadow.
    is_thirsty: bool,
    /// When the sessions were looked at last.
    looked: Option<Instant>,
    /// So many times [`LOOKS`] are between two, and one more.
    rest: u32,
    /// They were to be looked at sooner.
    is_asked: bool,
}

impl Doorkeeper {
    /// Something lies here from now on.
    pub(super) fn closes(&mut self) {
        *self = Self::default();
    }

    /// Whether the next one may be looked at.
    pub(super) fn opens(&mut self, loads: &Loads) -> bool {
        self.is_open = if self.is_open {
            !loads.are_far_behind(self.strangers)
        } else {
            loads.want_more(self.strangers)
        };
        self.is_open || self.is_thirsty
    }

    /// Whether it is time to look at the sessions; if not, when it [is due](Self::due).
    pub(super) fn looks(&mut self, now: Instant) -> bool {
        let rest = self.rest();
        let is_time = self.looked.is_none_or(|looked| now >= looked + rest);
        self.is_asked = !is_time;
        if is_time {
            self.looked = Some(now);
        }
        is_time
    }

    /// Others lie here than were looked at: it is time at once, unless they are many and nothing hangs on it.
    pub(super) fn looks_again(&mut self) {
        if self.is_thirsty || self.rest == 0 {
            self.looked = None;
        }
    }

    fn rest(&self) -> Duration {
        LOOKS * self.rest.saturating_add(1)
    }

    /// Whether a look is due for which it was not time yet.
    pub(super) const fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// When it is.
    pub(super) fn due(&self) -> Instant {
        self.looked
            .map_or_else(Instant::now, |looked| looked + self.rest())
    }

    /// Looks at the sessions of which something lies here; those without a replay have nothing to do.
    pub(super) fn see<'a>(
        &mut self,
        loads: &Loads,
        sessions: impl Iterator<Item = Option<&'a Load>>,
    ) {
        let any_is_thirsty = loads.any_is_thirsty();
        (self.strangers, self.is_thirsty) = (0, false);
        let mut seen: u32 = 0;
        for load in sessions {
            seen = seen.saturating_add(1);
            self.strangers += usize::from(load.is_none_or(Load::is_idle));
            self.is_thirsty |= any_is_thirsty && load.is_some_and(Load::is_thirsty);
        }
        self.rest = seen / SESSIONS;
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Busy, Limits};
    use super::*;
    use std::sync::Arc;

    struct House {
        loads: Arc<Loads>,
        load: Arc<Load>,
        keeper: Doorkeeper,
    }

    /// Eight jobs are many, and a session is there that has ten.
    fn house() -> (House, Vec<Busy>) {
        let loads = Arc::new(Loads::new(Limits::of(8)));
        let load = Load::new(&loads);
        let busy = (0..10).map(|_| Busy::new(&load)).collect();
        let mut keeper = Doorkeeper::default();
        keeper.closes();
        let house = House {
            loads,
            load,
            keeper,
        };
        (house, busy)
    }

    #[test]
    fn it_opens_once_half_is_done_and_shuts_once_all_is_there_again() {
        let (mut house, mut busy) = house();
        for (jobs, open) in [
            (10, false),
            (4, false),
            (3, true),
            (7, true),
            (8, false),
            (4, false),
        ] {
            busy.truncate(jobs);
            while busy.len() < jobs {
                busy.push(Busy::new(&house.load));
            }
            assert_eq!(house.keeper.opens(&house.loads), open, "{jobs}");
        }
    }

    #[test]
    fn it_opens_where_somebody_comes_who_is_not_behind() {
        let (mut house, _busy) = house();
        house
            .keeper
            .see(&house.loads, [Some(&*house.load)].into_iter());
        assert!(
            !house.keeper.opens(&house.loads),
            "who is behind is no stranger"
        );
        house
            .keeper
            .see(&house.loads, [Some(&*house.load), None].into_iter());
        assert!(house.keeper.opens(&house.loads));
    }

    #[test]
    fn it_opens_where_a_transaction_on_the_shadow_waits_for_what_lies_here() {
        let (mut house, _busy) = house();
        let more = [Load::new(&house.loads), Load::new(&house.loads)];
        let _more: Vec<_> = more
            .iter()
            .flat_map(|one| (0..4).map(|_| Busy::new(one)))
            .collect();
        let inside = Load::new(&house.loads);
        let job = Busy::new(&inside);
        inside.is_inside(true);
        drop(job);
        house
            .keeper
            .see(&house.loads, [Some(&*house.load)].into_iter());
        assert!(!house.keeper.opens(&house.loads), "its client says nothing");
        let lie = || [Some(&*house.load), Some(&*inside)].into_iter();
        house.keeper.see(&house.loads, lie());
        assert!(house.keeper.opens(&house.loads));
        let _job = Busy::new(&inside);
        house.keeper.see(&house.loads, lie());
        assert!(!house.keeper.opens(&house.loads), "it has something to do");
    }

    #[tokio::test(start_paused = true)]
    async fn the_sessions_are_looked_at_now_and_then_and_at_once_where_others_lie_here() {
        let mut keeper = Doorkeeper::default();
        let start = Instant::now();
        assert!(keeper.looks(start) && !keeper.is_asked());
        assert!(!keeper.looks(start) && keeper.is_asked());
        assert_eq!(keeper.due(), start + LOOKS);
        assert!(keeper.looks(keeper.due()) && !keeper.is_asked());
        keeper.looks_again();
        assert!(keeper.looks(start));
        let loads = Loads::new(Limits::of(8));
        keeper.see(&loads, std::iter::repeat_n(None, 600));
        keeper.looks_again();
        assert!(!keeper.looks(start), "they are many");
        assert_eq!(keeper.due(), start + LOOKS * 3);
    }
}

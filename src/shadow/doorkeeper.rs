//! When what lies in the antechamber is let in.
//!
//! It is shut where most of the sessions that have anything to do are far behind on the shadow, and opens
//! - where the replays have half of that left to do;
//! - where as many sessions come that are not behind: some have a slow command of their own. They count while
//!   the shadow is there: within a second a session has done all that it had;
//! - where something has lain here for a second and somebody lies here whose replay is idle, or who is new: while
//!   the shadow is there, he waits for no majority. Where it is not known to be, all that lies here is let in once, to
//!   try, and if that shows nothing, after eight seconds again, and then after eight times as long. A session that was
//!   never mirrored, whatever it said, is no reason;
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

/// For so long what lies here waits for a majority, and the shadow is held to be there after a session had done
/// all that it had.
const LONG: Duration = Duration::from_secs(1);

/// From one try to the next, in [`LONG`]; each is so many times the one before.
const TRIES: u32 = 8;

/// Whose something lies here is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Guest<'a> {
    /// Nothing that it said has been looked at yet.
    New,
    /// It has a replay, with this to do.
    Has(&'a Load),
    /// It had one, which had nothing to do.
    Parked,
    /// It has said something, and never had one.
    Never,
}

/// What lies here: since when, and how many ever came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lies {
    pub(super) since: Option<Instant>,
    pub(super) entered: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Doorkeeper {
    is_open: bool,
    /// Sessions of which something lies here, and whose replays have nothing to do, while the shadow is there.
    strangers: usize,
    /// So many of those that came in may be looked at, whoever is behind.
    until: u64,
    /// How often a session had done all that it had, and when that was seen to have grown.
    rested: Option<(u64, Instant)>,
    /// When it is next tried whether the shadow is there, and how long after that again.
    tries: Option<(Instant, Duration)>,
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
        *self = Self {
            rested: self.rested,
            tries: self.tries,
            ..Self::default()
        };
    }

    /// Whether the next one may be looked at; so many were.
    pub(super) fn opens(&mut self, loads: &Loads, left: u64) -> bool {
        self.is_open = if self.is_open {
            !loads.are_far_behind(self.strangers)
        } else {
            loads.want_more(self.strangers)
        };
        self.is_open || self.is_thirsty || left < self.until
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

    /// Looks at the sessions of which something lies here.
    pub(super) fn see<'a>(
        &mut self,
        loads: &Loads,
        now: Instant,
        lies: Lies,
        guests: impl Iterator<Item = Guest<'a>>,
    ) {
        let any_is_thirsty = loads.any_is_thirsty();
        self.is_thirsty = false;
        let (mut strangers, mut new) = (0, 0);
        let mut seen: u32 = 0;
        for guest in guests {
            seen = seen.saturating_add(1);
            match guest {
                Guest::New => new += 1,
                Guest::Parked => strangers += 1,
                Guest::Never => {}
                Guest::Has(load) => {
                    strangers += usize::from(load.is_idle());
                    self.is_thirsty |= any_is_thirsty && load.is_thirsty();
                }
            }
        }
        self.rest = seen / SESSIONS;
        let is_there = self.is_there(loads, now);
        self.strangers = if is_there { strangers } else { 0 };
        let lies_long = |since| now.saturating_duration_since(since) >= LONG;
        let waits = strangers + new > 0 && lies.since.is_some_and(lies_long);
        if waits && (is_there || self.tries(now)) {
            self.until = lies.entered;
        }
    }

    /// Whether a session has come to rest on the shadow lately.
    fn is_there(&mut self, loads: &Loads, now: Instant) -> bool {
        let rested = loads.rested();
        let seen = match self.rested {
            Some((before, seen)) if before == rested => seen,
            _ => {
                self.rested = Some((rested, now));
                self.tries = None;
                now
            }
        };
        now.saturating_duration_since(seen) < LONG
    }

    /// Whether it is time to try whether the shadow is there.
    fn tries(&mut self, now: Instant) -> bool {
        let (next, pause) = self.tries.unwrap_or((now, LONG * TRIES));
        let is_time = now >= next;
        if is_time {
            self.tries = Some((now + pause, pause.saturating_mul(TRIES)));
        }
        is_time
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
            assert_eq!(house.keeper.opens(&house.loads, 0), open, "{jobs}");
        }
    }

    impl House {
        /// Looks at these; the first thing lies there since then.
        fn sees(&mut self, since: Instant, guests: &[Guest<'_>]) -> bool {
            let lies = Lies {
                since: Some(since),
                entered: 9,
            };
            let guests = guests.iter().copied();
            self.keeper.see(&self.loads, Instant::now(), lies, guests);
            self.keeper.opens(&self.loads, 5)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_where_somebody_comes_who_is_not_behind() {
        let (mut house, _busy) = house();
        let (now, behind) = (Instant::now(), Arc::clone(&house.load));
        let behind = Guest::Has(&behind);
        for no_stranger in [behind, Guest::New, Guest::Never] {
            assert!(!house.sees(now, &[behind, no_stranger]), "{no_stranger:?}");
        }
        let idle = Load::new(&house.loads);
        for stranger in [Guest::Has(&idle), Guest::Parked] {
            assert!(house.sees(now, &[behind, stranger]), "{stranger:?}");
        }
        assert!(!house.sees(now, &[behind]));
        tokio::time::advance(LONG).await;
        let now = Instant::now();
        assert!(
            !house.sees(now, &[behind, Guest::Parked]),
            "no session came to rest"
        );
        drop(Busy::new(&idle));
        assert!(house.sees(now, &[behind, Guest::Parked]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_long_waits_for_no_majority_while_the_shadow_is_there_and_else_it_is_tried() {
        let (mut house, _busy) = house();
        let more: Vec<_> = (0..9).map(|_| Load::new(&house.loads)).collect();
        let _more: Vec<_> = more
            .iter()
            .flat_map(|one| (0..4).map(|_| Busy::new(one)))
            .collect();
        let (since, behind) = (Instant::now(), Arc::clone(&house.load));
        let (behind, quick) = (Guest::Has(&behind), Load::new(&house.loads));
        let lie = [behind, Guest::New, Guest::Has(&quick)];
        assert!(!house.sees(since, &lie), "one quick of eleven, for no time");
        tokio::time::advance(LONG).await;
        assert!(!house.sees(since, &[behind, Guest::Never]), "nobody waits");
        drop(Busy::new(&quick));
        assert!(house.sees(since, &lie), "it is there");
        assert!(
            !house.keeper.opens(&house.loads, 9),
            "no more than lay here"
        );
        // From here on it hangs.
        let mut opened = Vec::new();
        for second in 1..=100 {
            tokio::time::advance(LONG).await;
            house.keeper.closes();
            if house.sees(since, &lie) {
                opened.push(second);
            }
        }
        assert_eq!(opened, [1, 9, 73]);
        drop(Busy::new(&quick));
        for _ in 0..3 {
            assert!(house.sees(since, &lie), "it is there again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_where_a_transaction_on_the_shadow_waits_for_what_lies_here() {
        let (mut house, _busy) = house();
        let now = Instant::now();
        let more = [Load::new(&house.loads), Load::new(&house.loads)];
        let _more: Vec<_> = more
            .iter()
            .flat_map(|one| (0..4).map(|_| Busy::new(one)))
            .collect();
        let inside = Load::new(&house.loads);
        let job = Busy::new(&inside);
        inside.is_inside(true);
        drop(job);
        let behind = Arc::clone(&house.load);
        let behind = Guest::Has(&behind);
        assert!(!house.sees(now, &[behind]), "its client says nothing");
        let lie = [behind, Guest::Has(&inside)];
        assert!(house.sees(now, &lie));
        let _job = Busy::new(&inside);
        assert!(!house.sees(now, &lie), "it has something to do");
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
        let lies = Lies {
            since: None,
            entered: 0,
        };
        keeper.see(&loads, start, lies, std::iter::repeat_n(Guest::New, 600));
        keeper.looks_again();
        assert!(!keeper.looks(start), "they are many");
        assert_eq!(keeper.due(), start + LOOKS * 3);
    }
}

//! What the replays have been given and have not done: how far the shadow is behind.
//!
//! Counted where jobs come and go, so that asking costs a few loads. It judges sessions, not their jobs: one
//! session with a thousand jobs behind a slow report of its own says nothing of the others. Who says little is judged
//! by time: a session is behind also where its first job has been there for about a second.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// So many jobs at all replays together, and what comes more may lie unread.
const JOBS: usize = 1024;

/// A session with so many is behind: what is given to it now will lie there for a while.
const BACKLOG: usize = 4;

/// Looks in turn, ten a second, in which a session has done none of its jobs, and it is stuck.
const STILL: u32 = 10;

/// From how much on the replays are given no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Jobs of all replays together.
    pub(super) jobs: usize,
    /// Jobs of a session that is behind.
    pub(super) each: usize,
}

impl Default for Limits {
    fn default() -> Self {
        #[cfg(feature = "simulation")]
        if let Some(jobs) = crate::planted::jobs_max() {
            return Self::of(jobs);
        }
        Self::of(JOBS)
    }
}

impl Limits {
    /// With so many jobs at all replays; a session's share is less where that is little.
    pub(super) fn of(jobs: usize) -> Self {
        Self {
            jobs: jobs.max(1),
            each: (jobs / 2).clamp(1, BACKLOG),
        }
    }

    /// With fewer jobs than this the replays are given more.
    fn few(self) -> usize {
        (self.jobs / 2).max(1)
    }
}

/// All replays together.
#[derive(Debug, Default)]
pub(super) struct Loads {
    limits: Limits,
    /// Jobs that wait for a replay, or that it works on; and what else is under way on the shadow.
    busy: AtomicUsize,
    /// Jobs that replays were ever given.
    given: AtomicU64,
    /// Of these, how many are done, or were let go.
    done: AtomicU64,
    /// Sessions with a job.
    active: AtomicI64,
    /// Of these, sessions that are behind.
    behind: AtomicI64,
    /// Sessions without a job, in a transaction on the shadow: they may hold locks, and only their next
    /// command goes on with it.
    thirsty: AtomicI64,
    /// How often a session had done all its jobs.
    rested: AtomicU64,
    /// Sessions that are stuck, and not behind by their jobs, as of the last look.
    stuck: AtomicI64,
    /// Every session's; those that are gone are let go by the look.
    each: Mutex<Vec<Weak<Load>>>,
    /// Somebody waits for news: see [`Loads::news`].
    is_watched: AtomicBool,
    bell: Notify,
}

impl Loads {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// How many jobs of replays were ever done, or let go.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Whether anything waits for the shadow or runs there, second looks left out.
    pub(super) fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0
    }

    /// Something is under way on the shadow beside the replays.
    pub(super) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    /// It is over.
    pub(super) fn end(&self) {
        let before = self.busy.fetch_sub(1, Ordering::AcqRel);
        if before == self.limits.few() {
            self.tell();
        }
    }

    /// Whether the replays have so much, and more than half of their sessions are behind, that more would
    /// only wait there. `strangers`: sessions beside theirs that are not behind.
    pub(super) fn are_far_behind(&self, strangers: usize) -> bool {
        self.busy.load(Ordering::Relaxed) >= self.limits.jobs && self.most_are_behind(strangers)
    }

    /// Whether they have little enough to be given more; the gap to [`Loads::are_far_behind`] is what one
    /// look brings them.
    pub(super) fn want_more(&self, strangers: usize) -> bool {
        self.busy.load(Ordering::Relaxed) < self.limits.few() || !self.most_are_behind(strangers)
    }

    fn most_are_behind(&self, strangers: usize) -> bool {
        let strangers = i64::try_from(strangers).unwrap_or(i64::MAX);
        let active = self.active.load(Ordering::Relaxed);
        let behind = self.behind.load(Ordering::Relaxed) + self.stuck.load(Ordering::Relaxed);
        behind * 2 > active.saturating_add(strangers)
    }

    /// Looks which sessions are stuck, ten times a second; not at all while the replays have little to do.
    pub(super) fn look(&self) {
        let has_little = self.busy.load(Ordering::Relaxed) < self.limits.few();
        if has_little && self.stuck.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut stuck = 0;
        self.each.lock().retain(|load| {
            let load = load.upgrade();
            let is_stuck = load.as_ref().is_some_and(|load| load.is_stuck());
            stuck += i64::from(is_stuck);
            load.is_some()
        });
        self.stuck.store(stuck, Ordering::Relaxed);
    }

    /// How often a session had done all its jobs: while that grows the shadow is there.
    pub(super) fn rested(&self) -> u64 {
        self.rested.load(Ordering::Relaxed)
    }

    fn know(&self, load: &Arc<Load>) {
        let mut each = self.each.lock();
        // Where nobody looks, room is made before more is taken, so that it is no more than twice too much.
        if each.len() == each.capacity() {
            each.retain(|load| load.strong_count() > 0);
            let room = each.len().max(64);
            each.reserve_exact(room);
        }
        each.push(Arc::downgrade(load));
    }

    /// Whether a session's transaction on the shadow waits for its next command.
    pub(super) fn any_is_thirsty(&self) -> bool {
        self.thirsty.load(Ordering::Acquire) > 0
    }

    /// From here on somebody waits for news, or nobody does.
    pub(super) fn watch(&self, watched: bool) {
        if self.is_watched.load(Ordering::Relaxed) != watched {
            self.is_watched.store(watched, Ordering::Release);
        }
    }

    /// Resolves once the replays want more, or one of them got thirsty, since it was asked for last; while
    /// they are watched.
    ///
    /// Cancel-safe: what was told is told to the next who asks.
    pub(super) async fn news(&self) {
        self.bell.notified().await;
    }

    fn tell(&self) {
        if self.is_watched.load(Ordering::Acquire) {
            self.bell.notify_one();
        }
    }
}

/// One session's.
#[derive(Debug)]
pub(super) struct Load {
    all: Arc<Loads>,
    jobs: AtomicUsize,
    /// Its connection to the shadow is in a transaction.
    is_inside: AtomicBool,
    /// Jobs that were done, as far as 32 bits tell.
    done: AtomicU32,
    /// How many were at the last look, and looks in turn at which no more were, though there were jobs.
    seen: AtomicU32,
    still: AtomicU32,
}

impl Load {
    pub(super) fn new(all: &Arc<Loads>) -> Arc<Self> {
        let load = Arc::new(Self {
            all: Arc::clone(all),
            jobs: AtomicUsize::new(0),
            is_inside: AtomicBool::new(false),
            done: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            still: AtomicU32::new(0),
        });
        all.know(&load);
        load
    }

    /// Looks whether it does none of its jobs, which are too few for it to be behind by them.
    fn is_stuck(&self) -> bool {
        let done = self.done.load(Ordering::Relaxed);
        let still = if self.is_idle() || self.seen.swap(done, Ordering::Relaxed) != done {
            0
        } else {
            self.still.load(Ordering::Relaxed).saturating_add(1)
        };
        self.still.store(still, Ordering::Relaxed);
        still >= STILL && !self.is_behind()
    }

    /// Whether what it is given now will lie there for a while.
    pub(super) fn is_behind(&self) -> bool {
        self.jobs.load(Ordering::Relaxed) >= self.all.limits.each
    }

    /// Whether its replay has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.load(Ordering::Acquire) == 0
    }

    /// Whether its transaction on the shadow waits for its next command.
    pub(super) fn is_thirsty(&self) -> bool {
        self.is_idle() && self.is_inside.load(Ordering::Acquire)
    }

    /// Its connection is in a transaction, or is not; told by its replay before a job is done.
    pub(super) fn is_inside(&self, inside: bool) {
        if self.is_inside.load(Ordering::Relaxed) != inside {
            self.is_inside.store(inside, Ordering::Release);
        }
    }

    fn add(&self) {
        let before = self.jobs.fetch_add(1, Ordering::AcqRel);
        if before == 0 {
            self.all.active.fetch_add(1, Ordering::Relaxed);
            if self.is_inside.load(Ordering::Acquire) {
                self.all.thirsty.fetch_sub(1, Ordering::AcqRel);
            }
        }
        if before + 1 == self.all.limits.each {
            self.all.behind.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self) {
        // Its last job done, it may be given another at once, which may be done by another thread: what is
        // inside is looked at before.
        let inside = self.is_inside.load(Ordering::Acquire);
        self.done.fetch_add(1, Ordering::Relaxed);
        self.all.done.fetch_add(1, Ordering::Relaxed);
        let before = self.jobs.fetch_sub(1, Ordering::AcqRel);
        if before == self.all.limits.each {
            self.all.behind.fetch_sub(1, Ordering::Relaxed);
        }
        if before == 1 {
            self.all.rested.fetch_add(1, Ordering::Relaxed);
            self.all.active.fetch_sub(1, Ordering::Relaxed);
            if inside {
                self.all.thirsty.fetch_add(1, Ordering::AcqRel);
                self.all.tell();
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Of a replay that broke.
        if self.is_thirsty() {
            self.all.thirsty.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Counts a job from when it is given until it is done, or let go.
pub(super) struct Busy {
    load: Arc<Load>,
    number: u64,
}

impl Busy {
    pub(super) fn new(load: &Arc<Load>) -> Self {
        let all = &load.all;
        all.begin();
        load.add();
        let before = all.given.fetch_add(1, Ordering::Relaxed);
        Self {
            load: Arc::clone(load),
            number: before.saturating_add(1),
        }
    }

    /// Its number, among all jobs of all sessions.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.load.take();
        self.load.all.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(jobs: usize) -> Arc<Loads> {
        Arc::new(Loads::new(Limits::of(jobs)))
    }

    fn given(load: &Arc<Load>, jobs: usize) -> Vec<Busy> {
        (0..jobs).map(|_| Busy::new(load)).collect()
    }

    #[test]
    fn one_session_with_any_number_of_jobs_is_not_the_shadow() {
        let all = loads(1024);
        let (report, others) = (Load::new(&all), [Load::new(&all), Load::new(&all)]);
        let _report = given(&report, 10_000);
        assert!(all.are_far_behind(0), "nobody else is there to tell");
        assert!(!all.are_far_behind(1), "somebody who comes is");
        let _others: Vec<_> = others.iter().map(|one| given(one, 3)).collect();
        assert!(report.is_behind() && !others[0].is_behind());
        assert!(!all.are_far_behind(0), "two of three are not behind");
        assert!(all.want_more(0));
    }

    #[test]
    fn the_shadow_is_far_behind_where_most_sessions_are_and_until_half_is_done() {
        let all = loads(1024);
        let sessions: Vec<_> = (0..100).map(|_| Load::new(&all)).collect();
        let mut busy: Vec<_> = sessions.iter().map(|one| given(one, 10)).collect();
        assert!(!all.are_far_behind(0), "1,000 jobs are few");
        busy.push(given(&sessions[0], 24));
        assert!(all.are_far_behind(0) && all.are_far_behind(99));
        assert!(!all.are_far_behind(100), "half of 200 are not behind");
        while busy.len() > 51 {
            assert!(!all.want_more(0), "{}", busy.len());
            busy.remove(1);
        }
        assert!(!all.want_more(0), "524 are more than half");
        busy.pop();
        assert!(!all.are_far_behind(0) && all.want_more(0), "500 are not");
        drop(busy);
        assert!(all.is_idle());
        assert_eq!(all.active.load(Ordering::Relaxed), 0);
        assert_eq!(all.behind.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_says_little_is_behind_once_nothing_of_it_was_done_for_a_second() {
        let all = loads(1024);
        let hot: Vec<_> = (0..20).map(|_| Load::new(&all)).collect();
        let cold: Vec<_> = (0..80).map(|_| Load::new(&all)).collect();
        let _hot: Vec<_> = hot.iter().map(|one| given(one, 60)).collect();
        assert!(all.are_far_behind(0));
        let mut cold: Vec<_> = cold.iter().map(|one| given(one, 2)).collect();
        assert!(!all.are_far_behind(0), "80 have two jobs");
        for _ in 0..10 {
            assert!(!all.are_far_behind(0));
            all.look();
        }
        all.look();
        assert!(all.are_far_behind(0), "of all 100 none was done");
        cold.iter_mut().take(60).for_each(|jobs| drop(jobs.pop()));
        all.look();
        assert!(!all.are_far_behind(0), "60 go on");
        cold.clear();
        all.look();
        assert_eq!((all.stuck.load(Ordering::Relaxed), all.rested()), (0, 80));
    }

    #[test]
    fn those_that_are_gone_are_not_kept() {
        let all = loads(1024);
        (0..10_000).for_each(|_| drop(Load::new(&all)));
        assert!(all.each.lock().len() <= 64);
        let kept: Vec<_> = (0..1_000).map(|_| Load::new(&all)).collect();
        (0..10_000).for_each(|_| drop(Load::new(&all)));
        assert!(all.each.lock().len() <= 4 * kept.len());
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_hears_once_that_more_is_wanted() {
        let all = loads(4);
        let load = Load::new(&all);
        all.watch(true);
        let mut busy = given(&load, 5);
        let news = || tokio::time::timeout(std::time::Duration::from_secs(1), all.news());
        busy.truncate(2);
        assert!(news().await.is_err(), "two are as many as they were given");
        busy.truncate(1);
        assert!(news().await.is_ok());
        busy.clear();
        assert!(news().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_thirsty_in_a_transaction_without_a_job() {
        let all = loads(1024);
        let load = Load::new(&all);
        all.watch(true);
        let job = Busy::new(&load);
        load.is_inside(true);
        assert!(!all.any_is_thirsty(), "it has something to do");
        drop(job);
        assert!(all.any_is_thirsty() && load.is_thirsty());
        all.news().await;
        let job = Busy::new(&load);
        assert!(!all.any_is_thirsty());
        load.is_inside(false);
        drop(job);
        assert!(!all.any_is_thirsty());
        let job = Busy::new(&load);
        load.is_inside(true);
        drop(job);
        drop(load);
        assert!(!all.any_is_thirsty(), "its replay broke");
    }
}

//! Who has the sessions stand still at their boundaries: a cutover, or for a moment somebody who opens one view of
//! both servers. One of them at a time, and a cutover comes first: it cuts a moment short, and while one is under way
//! none begins.
//!
//! A moment ends whatever becomes of whoever asked for it: it has a deadline, it is let go where its future is
//! dropped or panics, and a watch on another thread lets everybody go where nothing else does. Refuses to move a
//! session: all go on with the connection that they came with, and lose nothing of what they hold there. A moment may
//! be somebody's who holds no session here, too, but locks a table (`lock`): it is cut short the same way.

use super::carry::Carrier;
use crate::relay::{Relay, Unheld};
use crate::task;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What a moment may take beyond its deadline before everybody is let go from another thread.
const SLACK: Duration = Duration::from_millis(500);

/// Of the time for which somebody may wait, this is kept for letting everybody go, and this part of it at most: a timer is
/// late by a millisecond or two, and so is a thread.
const LETTING_GO: Duration = Duration::from_millis(5);
const LETTING_GO_PART: u32 = 10;

/// Sessions that are named in a reason.
const NAMED_MAX: usize = 5;

/// Between two looks at a session that does nothing in the midst of its transaction, or is in the midst of a command.
const IDLE_LOOK: Duration = Duration::from_millis(50);

/// The asked have this time to say how they stand.
const ANSWER: Duration = Duration::from_millis(20);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Standstill {
    relay: Relay,
    carrier: Arc<Carrier>,
    /// The watch is kept on these.
    threads: Arc<[Handle]>,
    whose: Arc<Whose>,
}

impl std::fmt::Debug for Standstill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standstill").finish_non_exhaustive()
    }
}

/// Whose it is.
#[derive(Debug, Default)]
struct Whose {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// A moment is under way.
    moment: bool,
    /// A cutover has it, or waits for the moment's end.
    cutover: bool,
    /// Cutovers that have claimed it: what one of them cut short stays so, however soon it left.
    claims: u64,
}

impl Whose {
    /// A moment begins, unless it is somebody's: with so many claims before it.
    fn enter(&self) -> Result<u64, Why> {
        let mut state = self.state.lock();
        if state.cutover {
            return Err(Why::Cutover);
        }
        if state.moment {
            return Err(Why::Taken);
        }
        state.moment = true;
        Ok(state.claims)
    }

    fn leave(&self) {
        self.state.lock().moment = false;
        self.changed.notify_waiters();
    }

    fn set_cutover(&self, on: bool) {
        let mut state = self.state.lock();
        state.cutover = on;
        state.claims += u64::from(on);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Resolves once this is so. Cancel-safe.
    async fn until(&self, what: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on nothing that changes is missed.
            changed.as_mut().enable();
            if what(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }
}

/// Why there was no moment, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// A cutover is under way, or came.
    #[error("a cutover is under way")]
    Cutover,
    /// There is one at a time.
    #[error("sessions are held by another one")]
    Taken,
    /// Not all sessions came to a boundary: nobody was held, or until the deadline only.
    #[error("{0}")]
    Unheld(String),
    /// What was to be done was not done by the deadline.
    #[error("{0} was not done within {ms} ms, for which sessions may be held", ms = .1.as_millis())]
    Late(&'static str, Duration),
    /// It was done, and failed.
    #[error("{0}")]
    Failed(String),
}

/// When what is done must be over, so that whoever waits since then goes on after this time at the latest.
pub(super) fn over_by(began: Instant, at_most: Duration) -> Instant {
    began + at_most.saturating_sub(LETTING_GO.min(at_most / LETTING_GO_PART))
}

/// What became of a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// How long sessions were held, from the first word to the last; none where nobody was asked to wait.
    pub held: Option<Duration>,
    /// When all stood still, in that time.
    pub gathered: Option<Duration>,
    /// How many stood still.
    pub sessions: u64,
    /// Whether all was done.
    pub outcome: Result<(), Why>,
}

impl Moment {
    pub(super) const fn none(why: Why) -> Self {
        Self {
            held: None,
            gathered: None,
            sessions: 0,
            outcome: Err(why),
        }
    }
}

impl Standstill {
    /// Nobody has it.
    #[must_use]
    pub fn new(relay: Relay, carrier: Arc<Carrier>, threads: Vec<Handle>) -> Self {
        Self {
            relay,
            carrier,
            threads: threads.into(),
            whose: Arc::default(),
        }
    }

    /// It is a cutover's from here on, until [`Standstill::give_back`]: a moment that is under way is cut short.
    pub(super) fn claim(&self) {
        self.whose.set_cutover(true);
    }

    /// Resolves once no moment is under way: the sessions are the cutover's, who has claimed them.
    pub(super) async fn claimed(&self) {
        self.whose.until(|state| !state.moment).await;
    }

    /// The cutover has let everybody go.
    pub(super) fn give_back(&self) {
        self.whose.set_cutover(false);
    }

    /// Has every session stand at its boundary, does this, and lets them go; at the latest after this time, in
    /// which `work` is dropped where it is. `what` it is, for words. To be called on a thread that does not wait
    /// for others' work, for sessions wait for it.
    ///
    /// Not where sessions are seen that cannot be held: pipes, those whose client says nothing in the midst of a
    /// transaction, and those whose command has been under way for so long already. Then nobody is held.
    pub async fn moment(
        &self,
        at_most: Duration,
        what: &'static str,
        work: impl Future<Output = Result<(), String>> + Send,
    ) -> Moment {
        if let Err(why) = self.is_promising(at_most).await {
            return Moment::none(why);
        }
        let claims = match self.whose.enter() {
            Ok(claims) => claims,
            Err(why) => return Moment::none(why),
        };
        let held = Held::begin(self, at_most);
        let until = over_by(held.began, at_most);
        let mut gathered = None;
        let mut sessions = 0;
        let doing = async {
            if timeout_at(until, self.relay.all_held()).await.is_err() {
                return Err(Why::Unheld(self.unheld()));
            }
            gathered = Some(held.began.elapsed());
            sessions = self.relay.census().held;
            match timeout_at(until, work).await {
                Ok(done) => done.map_err(Why::Failed),
                Err(_) => Err(Why::Late(what, at_most)),
            }
        };
        let outcome = tokio::select! {
            // Production comes first, then whoever changes it.
            biased;
            () = self.whose.until(|state| state.claims != claims) => Err(Why::Cutover),
            done = doing => done,
        };
        let (took, was_whole) = held.end();
        Moment {
            held: Some(took),
            gathered,
            sessions,
            // Somebody may have gone on in the midst of it.
            outcome: if was_whole {
                outcome
            } else {
                Err(Why::Late(what, at_most))
            },
        }
    }

    /// A moment in which no session is held here, for whoever has writers stand still in another way: it is one at a
    /// time all the same, and a cutover comes first.
    ///
    /// # Errors
    /// There is a cutover, or another moment.
    pub(super) fn beside(&self) -> Result<Beside, Why> {
        Ok(Beside {
            claims: self.whose.enter()?,
            whose: Arc::clone(&self.whose),
        })
    }

    /// Whether nobody is seen who cannot be held in this time.
    async fn is_promising(&self, at_most: Duration) -> Result<(), Why> {
        self.relay.call();
        tokio::time::sleep(ANSWER).await;
        let first = self.relay.census();
        if first.tunnels > 0 {
            return Err(Why::Unheld(self.unheld()));
        }
        let look = match (
            first.unheld.iter().any(thinks),
            first.unheld.iter().any(works),
        ) {
            (false, false) => return Ok(()),
            // A command that is under way for longer than all would wait is likely to be so once more.
            (_, true) => at_most.max(IDLE_LOOK),
            (true, false) => IDLE_LOOK,
        };
        tokio::time::sleep(look).await;
        self.relay.call();
        tokio::time::sleep(ANSWER).await;
        let stay = stay(&first.unheld, &self.relay.census().unheld);
        if stay.is_empty() {
            return Ok(());
        }
        Err(Why::Unheld(format!(
            "nobody was held, for these would not come to their boundary in time: {}",
            some(&stay)
        )))
    }

    /// Who was not there.
    fn unheld(&self) -> String {
        let unheld = self.relay.census().unheld;
        let named = unheld.iter().map(|one| {
            let why = match (one.tunnel, one.in_transaction) {
                (true, _) => "is a pipe, which nothing can hold",
                (false, true) => "has a transaction open",
                (false, false) => "has a command running",
            };
            format!("session {} ({}) {why}", one.session, one.user)
        });
        let named: Vec<String> = named.collect();
        if named.is_empty() {
            return "not all sessions could be held in time".to_owned();
        }
        format!("not all sessions could be held: {}", some(&named))
    }
}

/// See [`Standstill::beside`]. It lasts until this is dropped.
pub(super) struct Beside {
    whose: Arc<Whose>,
    claims: u64,
}

impl Beside {
    /// Resolves where a cutover comes: it is to end at once.
    pub(super) async fn cut(&self) {
        self.whose.until(|state| state.claims != self.claims).await;
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.whose.leave();
    }
}

/// The first few, in words.
fn some(named: &[String]) -> String {
    let first = named.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>();
    match named.len().saturating_sub(first.len()) {
        0 => first.join("; "),
        more => format!("{} and {more} more", first.join("; ")),
    }
}

/// Sessions are held until this is dropped, wherever that happens.
struct Held<'a> {
    of: &'a Standstill,
    began: Instant,
    over: Arc<AtomicBool>,
}

impl<'a> Held<'a> {
    fn begin(of: &'a Standstill, at_most: Duration) -> Self {
        let held = Self {
            of,
            began: Instant::now(),
            over: Arc::default(),
        };
        let watch = watch(of.clone(), Arc::clone(&held.over), at_most + SLACK);
        let thread = of.threads.first().cloned().unwrap_or_else(Handle::current);
        // It ends by itself, soon after the moment.
        drop(task::spawn_on(&thread, "watch", watch));
        of.carrier.begin();
        of.relay.hold();
        held
    }

    /// Lets everybody go; how long that was, and whether all were held until now.
    fn end(self) -> (Duration, bool) {
        let was_whole = self.let_go();
        (self.began.elapsed(), was_whole)
    }

    fn let_go(&self) -> bool {
        let is_ours = !self.over.swap(true, Ordering::AcqRel);
        if is_ours {
            self.of.let_go();
        }
        is_ours
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = self.let_go();
    }
}

impl Standstill {
    fn let_go(&self) {
        self.carrier.let_go();
        self.relay.resume();
        self.whose.leave();
    }
}

/// Lets everybody go where the moment's own thread has not by then.
async fn watch(of: Standstill, over: Arc<AtomicBool>, after: Duration) {
    tokio::time::sleep(after).await;
    if !over.swap(true, Ordering::AcqRel) {
        tracing::error!("a moment's hold has not ended in time: every session goes on");
        of.let_go();
    }
}

/// Its client says nothing in the midst of a transaction.
const fn thinks(one: &Unheld) -> bool {
    one.idle && one.in_transaction
}

/// A command of it is under way.
const fn works(one: &Unheld) -> bool {
    !one.idle
}

/// Who stood the same at both looks, and can wait for nothing so: in words.
fn stay(first: &[Unheld], later: &[Unheld]) -> Vec<String> {
    let before: BTreeMap<u64, &Unheld> = first.iter().map(|one| (one.session, one)).collect();
    let why = |one: &Unheld| {
        let was = before.get(&one.session).filter(|was| was.seq == one.seq)?;
        if thinks(one) && thinks(was) {
            Some("has a transaction open, and its client says nothing")
        } else if works(one) && works(was) {
            Some("has a command that runs for long")
        } else {
            None
        }
    };
    let told = later.iter().filter_map(|one| {
        let why = why(one)?;
        Some(format!("session {} ({}) {why}", one.session, one.user))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_not_come_in_time_is_seen_before_anybody_is_held() {
        let one = |session, idle, in_transaction, seq| Unheld {
            session,
            user: "app".to_owned(),
            thread_id: 1,
            is_vitess: false,
            in_transaction,
            tunnel: false,
            idle,
            seq,
        };
        let first = [
            one(1, true, true, 5),
            one(2, false, false, 5),
            one(3, false, true, 5),
            one(4, true, true, 5),
            one(5, false, false, 5),
            one(6, true, false, 5),
        ];
        let later = [
            one(1, true, true, 5),
            one(2, false, false, 5),
            // Another command, none any more, one that has only begun, and nothing to do.
            one(3, false, true, 6),
            one(4, true, false, 6),
            one(5, true, false, 5),
            one(6, true, false, 5),
            one(7, false, false, 0),
        ];
        let told = stay(&first, &later);
        assert_eq!(
            told,
            [
                "session 1 (app) has a transaction open, and its client says nothing",
                "session 2 (app) has a command that runs for long",
            ]
        );
    }

    /// Finding: what was not done in 50 ms let sessions go after 51 to 53.
    #[test]
    fn what_is_late_ends_soon_enough_for_everybody_to_go_on_in_time() {
        let began = Instant::now();
        for (at_most, us) in [(5, 4_500), (50, 45_000), (500, 495_000)] {
            let over = over_by(began, Duration::from_millis(at_most));
            assert_eq!(over - began, Duration::from_micros(us), "{at_most} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cutover_comes_first_and_there_is_one_moment_at_a_time() {
        let whose = Arc::new(Whose::default());
        assert_eq!(whose.enter(), Ok(0));
        assert_eq!(whose.enter(), Err(Why::Taken));
        let hears = {
            let whose = Arc::clone(&whose);
            task::spawn("moment", async move {
                whose.until(|state| state.claims != 0).await;
                tokio::time::sleep(Duration::from_millis(3)).await;
                whose.leave();
            })
        };
        tokio::time::sleep(Duration::from_millis(7)).await;
        let began = Instant::now();
        whose.set_cutover(true);
        whose.until(|state| !state.moment).await;
        assert_eq!(began.elapsed(), Duration::from_millis(3));
        hears.await.unwrap();
        assert_eq!(whose.enter(), Err(Why::Cutover));
        whose.set_cutover(false);
        assert_eq!(whose.enter(), Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_of_somebody_elses_gives_way_to_a_cutover_and_ends_with_what_it_is_held_by() {
        let whose = Arc::new(Whose::default());
        let beside = Beside {
            claims: whose.enter().unwrap(),
            whose: Arc::clone(&whose),
        };
        assert_eq!(whose.enter(), Err(Why::Taken));
        let hour = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(hour, beside.cut()).await.is_err());
        whose.set_cutover(true);
        beside.cut().await;
        drop(beside);
        whose.until(|state| !state.moment).await;
    }
}

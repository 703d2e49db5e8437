//! Who has the sessions stand still at their boundaries: a cutover, or for a moment somebody who opens one view of
//! both servers. One of them at a time, and a cutover comes first: it cuts a moment short, and while one is under way
//! none begins.
//!
//! A moment ends whatever becomes of whoever asked for it: it has a deadline, it is let go where its future is
//! dropped or panics, and a watch on another thread lets everybody go where nothing else does. Refuses to move a
//! session: all go on with the connection that they came with, and lose nothing of what they hold there.

use super::carry::Carrier;
use crate::relay::Relay;
use crate::task;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What a moment may take beyond its deadline before everybody is let go from another thread.
const SLACK: Duration = Duration::from_millis(500);

/// Sessions that are named in a reason.
const NAMED_MAX: usize = 5;

/// Between two looks at a session that does nothing in the midst of its transaction.
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
    const fn none(why: Why) -> Self {
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
    /// Not where sessions are seen that cannot be held: pipes, and those whose client says nothing in the midst of
    /// a transaction. Then nobody is held.
    pub async fn moment(
        &self,
        at_most: Duration,
        what: &'static str,
        work: impl Future<Output = Result<(), String>> + Send,
    ) -> Moment {
        if let Err(why) = self.is_promising().await {
            return Moment::none(why);
        }
        let claims = match self.whose.enter() {
            Ok(claims) => claims,
            Err(why) => return Moment::none(why),
        };
        let held = Held::begin(self, at_most);
        let until = held.began + at_most;
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

    /// Whether nobody is seen who cannot be held.
    async fn is_promising(&self) -> Result<(), Why> {
        self.relay.call();
        tokio::time::sleep(ANSWER).await;
        let first = self.relay.census();
        if first.tunnels > 0 {
            return Err(Why::Unheld(self.unheld()));
        }
        let thinks = |one: &&crate::relay::Unheld| one.idle && one.in_transaction;
        if !first.unheld.iter().any(|one| thinks(&one)) {
            return Ok(());
        }
        tokio::time::sleep(IDLE_LOOK).await;
        self.relay.call();
        tokio::time::sleep(ANSWER).await;
        let later = self.relay.census();
        let stays = |one: &&crate::relay::Unheld| {
            let is_it =
                |was: &crate::relay::Unheld| was.session == one.session && was.seq == one.seq;
            thinks(one) && first.unheld.iter().any(is_it)
        };
        let stay = later.unheld.iter().filter(stays);
        let named: Vec<String> = stay
            .map(|one| format!("session {} ({})", one.session, one.user))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        Err(Why::Unheld(format!(
            "nobody was held, for a transaction is open and its client says nothing: {}",
            some(&named)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}

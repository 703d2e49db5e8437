//! When a run may go on: it gives way to production at once, keeps its own pace, and says why it waits.

use super::place::{NoPlace, Place};
use crate::sql::Table;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// An answer that takes its time.
pub type Soon<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Pause between two looks at what holds it up.
const LOOK: Duration = Duration::from_millis(200);

/// And between two while it rests.
const REST_LOOK: Duration = Duration::from_secs(1);

const PAUSED: &str = "an operator paused it";

/// What a run must know of the understudy that it runs in.
pub trait Around: Send + Sync + 'static {
    /// Why it must give way now; none where it need not.
    fn holds(&self) -> Option<String>;

    /// The share of the time in which it may work now, of this at most.
    fn share(&self, most: f64) -> f64;

    /// Rows are about to be read: whoever is to say later what was written meanwhile looks now how it stands.
    fn begins(&self) -> Soon<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Resolves once all that was seen on the primary before, on this table, is on the shadow, as far as
    /// anybody here can know. What is seen there before it is acknowledged is waited for, too.
    ///
    /// # Errors
    /// It is not known, and why.
    fn caught_up<'a>(
        &'a self,
        table: &'a Table,
        sought: Sought<'a>,
    ) -> Soon<'a, Result<CaughtUp, String>>;

    /// A place in the mirror's order for repairs of this table on this server, which must be the shadow.
    ///
    /// # Errors
    /// There is none, and why.
    fn place<'a>(
        &'a self,
        table: &'a Table,
        server: &'a str,
    ) -> Soon<'a, Result<Box<dyn Place>, NoPlace>>;

    /// A repair is about to write to this table: how it stands is not known until it is read whole again.
    fn repairs(&self, table: &Table);

    /// By so much a moment that the mirror wrote may differ: what NOW() was on the primary is estimated. Nothing where
    /// that counts as any other difference.
    fn clock(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether a write to this table was lost since then: what was read of it before may not be so any more.
    fn lost_since(&self, table: &Table, since: jiff::Timestamp) -> bool;

    /// All of a table was read from this moment on, and is the same on both sides.
    fn verified(&self, table: &Table, since: jiff::Timestamp);

    /// Why repairs cannot be run at all; none where they can.
    fn cannot_apply(&self) -> Option<String>;

    /// One instant for both servers: has these writers stand still and waits until the shadow has everything that the
    /// primary has committed; then does this, and lets them go on, at the latest after this time.
    fn instant<'a>(
        &'a self,
        still: Still<'a>,
        at_most: Duration,
        opening: Opening,
    ) -> Soon<'a, Held>;

    /// Why there can be no instant at all, in which writers stand still in this way; none where there can.
    fn no_instants(&self, by: By) -> Option<String>;

    /// Whether tables of these databases of the primary's can be locked for it, as far as can be known beforehand.
    ///
    /// # Errors
    /// Why not, and what would help.
    fn may_lock<'a>(&'a self, databases: &'a [String]) -> Soon<'a, Result<(), String>>;

    /// Who is seen to write to the primary past this understudy, within this time.
    ///
    /// # Errors
    /// The primary does not say.
    fn others<'a>(&'a self, time: Duration) -> Soon<'a, Result<Vec<String>, String>>;
}

/// What a catch-up is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sought<'a> {
    /// The servers on which rows are read.
    pub on: On<'a>,
    /// What differs behind it is said to differ: a commit that is seen already, and whose command goes on, must have
    /// been waited for by then.
    pub concludes: bool,
}

/// How it is known that the shadow has what the primary had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaughtUp {
    /// The servers themselves say so: another look tells something new at once.
    Seen,
    /// Nothing says that it has not, and so much time has passed as that takes: another look is taken after a pause.
    Waited,
}

/// How writers come to stand still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Every session of this understudy's stands at its boundary.
    #[default]
    Gate,
    /// The primary locks a table, against writers that go past it too.
    Lock,
}

/// Who stands still for an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Still<'a> {
    /// Every session of this understudy's.
    Sessions,
    /// Whoever writes to this table: the instant is of this table alone. It is looked at on these servers: a lock of
    /// another one's, or what another one has, says nothing of them.
    Table(&'a Table, On<'a>),
}

/// The two servers by which rows are read, by their own identities; none of one that has none to tell (a vtgate).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct On<'a> {
    /// The primary.
    pub primary: Option<&'a str>,
    /// The shadow.
    pub shadow: Option<&'a str>,
}

/// What is done while writers stand still: it opens a view of each server. On another thread, and dropped where
/// it takes too long.
pub type Opening = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// What became of an instant that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// How long sessions were held for it; none where nobody was asked to wait.
    pub held: Option<Duration>,
    /// In that time: until all stood still,
    pub gathered: Option<Duration>,
    /// and until the shadow had everything.
    pub caught_up: Option<Duration>,
    /// How many stood still.
    pub sessions: u64,
    /// Why there is none; none where there is.
    pub failed: Option<String>,
    /// It is of no use to ask for it again.
    pub hopeless: bool,
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It runs.
    Go,
    /// It waits.
    Pause,
    /// It ends, for an operator says so.
    Abort,
    /// It ends, and goes on at the next start: understudy itself ends.
    Leave,
}

/// It is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// See [`Signal::Abort`].
    Aborted,
    /// See [`Signal::Leave`].
    Left,
}

/// How fast it goes at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Rows a second, both sides together; none for no limit.
    pub rows_per_second: Option<u64>,
    /// The share of the time in which it works.
    pub share: f64,
}

/// See the module.
pub struct Gate {
    signal: watch::Receiver<Signal>,
    around: Arc<dyn Around>,
    pace: Pace,
    /// Rows that the cap allows for, up to when.
    paid_until: Mutex<Option<Instant>>,
    waits: Mutex<Option<String>>,
    waited: Mutex<Waited>,
}

/// How long it has waited: whoever waits beside others waits with them.
#[derive(Debug, Default)]
struct Waited {
    /// So many wait now, of which the first began then.
    many: u32,
    since: Option<Instant>,
    before: Duration,
}

impl Waited {
    fn time(&self) -> Duration {
        let now = self.since.map(|since| since.elapsed());
        self.before + now.unwrap_or_default()
    }
}

/// One that waits, until it is dropped.
struct Waiting<'a>(&'a Mutex<Waited>);

impl<'a> Waiting<'a> {
    fn of(waited: &'a Mutex<Waited>) -> Self {
        let mut all = waited.lock();
        all.many += 1;
        all.since.get_or_insert_with(Instant::now);
        drop(all);
        Self(waited)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.0.lock();
        all.many = all.many.saturating_sub(1);
        if all.many == 0 {
            all.before = all.time();
            all.since = None;
        }
    }
}

impl Gate {
    /// A gate of its own for a run.
    #[must_use]
    pub fn new(signal: watch::Receiver<Signal>, around: Arc<dyn Around>, pace: Pace) -> Self {
        Self {
            signal,
            around,
            pace,
            paid_until: Mutex::new(None),
            waits: Mutex::new(None),
            waited: Mutex::default(),
        }
    }

    /// What it runs in.
    #[must_use]
    pub fn around(&self) -> &Arc<dyn Around> {
        &self.around
    }

    /// Why it waits; none where it runs.
    #[must_use]
    pub fn waits(&self) -> Option<String> {
        self.waits.lock().clone()
    }

    /// How long it has waited, whichever of its jobs did.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited.lock().time()
    }

    /// Says why it waits, where something else than the gate holds it up.
    pub fn say(&self, why: Option<String>) {
        let mut waits = self.waits.lock();
        // Its words may change with each look.
        if let Some(why) = why.as_ref().filter(|_| waits.is_none()) {
            tracing::info!("verification waits: {why}");
        }
        *waits = why;
    }

    /// Returns once it may go on. Cancel-safe.
    ///
    /// # Errors
    /// It is to end.
    pub async fn pass(&self) -> Result<(), Stopped> {
        self.pass_or(|| ()).await
    }

    /// The same; where it has to wait, `lets_go` is done first.
    ///
    /// # Errors
    /// It is to end.
    pub async fn pass_or(&self, lets_go: impl FnMut()) -> Result<(), Stopped> {
        let _waiting = Waiting::of(&self.waited);
        let passed = self.open(lets_go).await;
        self.say(None);
        passed
    }

    async fn open(&self, mut lets_go: impl FnMut()) -> Result<(), Stopped> {
        let mut signal = self.signal.clone();
        loop {
            let now = *signal.borrow_and_update();
            match now {
                Signal::Abort => return Err(Stopped::Aborted),
                Signal::Leave => return Err(Stopped::Left),
                Signal::Pause => {
                    lets_go();
                    self.say(Some(PAUSED.to_owned()));
                    if signal.changed().await.is_err() {
                        return Err(Stopped::Left);
                    }
                }
                Signal::Go => match self.around.holds() {
                    None => return Ok(()),
                    Some(why) => {
                        lets_go();
                        self.say(Some(why));
                        self.sleep(LOOK).await?;
                    }
                },
            }
        }
    }

    /// Sleeps; ends early where it is to end.
    ///
    /// # Errors
    /// It is to end.
    pub async fn sleep(&self, time: Duration) -> Result<(), Stopped> {
        let mut signal = self.signal.clone();
        let ended = signal.wait_for(|one| matches!(one, Signal::Abort | Signal::Leave));
        match tokio::time::timeout(time, ended).await {
            Err(_) => Ok(()),
            Ok(Ok(one)) if *one == Signal::Abort => Err(Stopped::Aborted),
            Ok(_) => Err(Stopped::Left),
        }
    }

    /// Does this, and drops it in its midst where it is to end: for what only reads.
    ///
    /// # Errors
    /// It is to end.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut signal = self.signal.clone();
        let ended = signal.wait_for(|one| matches!(one, Signal::Abort | Signal::Leave));
        tokio::select! {
            biased;
            ended = ended => Err(match ended {
                Ok(one) if *one == Signal::Abort => Stopped::Aborted,
                _ => Stopped::Left,
            }),
            done = work => Ok(done),
        }
    }

    /// Why what is under way must not go on as it does: production comes first, or an operator says so.
    #[must_use]
    pub fn bars(&self) -> Option<String> {
        match *self.signal.borrow() {
            Signal::Go => self.around.holds(),
            Signal::Pause => Some(PAUSED.to_owned()),
            Signal::Abort | Signal::Leave => Some("it is to end".to_owned()),
        }
    }

    /// Rests after so much work.
    ///
    /// # Errors
    /// It is to end.
    pub async fn rest(&self, rows: u64, worked: Duration) -> Result<(), Stopped> {
        self.rest_for(self.owes(rows, worked), || ()).await
    }

    /// The share of the time in which it works now.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.around.share(self.pace.share).clamp(0.01, 1.0)
    }

    /// How long it is to rest after so much work.
    pub fn owes(&self, rows: u64, worked: Duration) -> Duration {
        let rest = worked.mul_f64(1.0 / self.share() - 1.0);
        let owed = |per_second| self.owed(rows, per_second, worked, Instant::now());
        rest.max(self.pace.rows_per_second.map_or(Duration::ZERO, owed))
    }

    /// Rests for so long. What it runs in is looked at all the while, so that nobody takes a rest for an absence; where
    /// it is to wait behind it, `lets_go` is done at once.
    ///
    /// # Errors
    /// It is to end.
    pub async fn rest_for(&self, rest: Duration, mut lets_go: impl FnMut()) -> Result<(), Stopped> {
        let until = Instant::now() + rest;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.sleep(left.min(REST_LOOK)).await?;
            if left > REST_LOOK && self.bars().is_some() {
                lets_go();
            }
        }
    }

    /// How long the cap has it wait: all jobs share it.
    fn owed(&self, rows: u64, per_second: u64, worked: Duration, now: Instant) -> Duration {
        let cost = Duration::from_micros(rows.saturating_mul(1_000_000) / per_second.max(1));
        let mut paid = self.paid_until.lock();
        let began = now.checked_sub(worked).unwrap_or(now);
        let until = paid.map_or(began, |until| until.max(began)) + cost;
        *paid = Some(until);
        until.saturating_duration_since(now)
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    /// An understudy that holds it up where it is told to.
    #[derive(Debug, Default)]
    pub(in crate::verify) struct Quiet {
        pub(in crate::verify) busy: AtomicBool,
        /// Times that it was asked.
        looks: AtomicU32,
    }

    impl Around for Quiet {
        fn holds(&self) -> Option<String> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            self.busy
                .load(Ordering::Relaxed)
                .then(|| "production is slow".to_owned())
        }

        fn share(&self, most: f64) -> f64 {
            most
        }

        fn caught_up<'a>(
            &'a self,
            _table: &'a Table,
            _sought: Sought<'a>,
        ) -> Soon<'a, Result<CaughtUp, String>> {
            Box::pin(std::future::ready(Ok(CaughtUp::Waited)))
        }

        fn place<'a>(
            &'a self,
            _table: &'a Table,
            _server: &'a str,
        ) -> Soon<'a, Result<Box<dyn Place>, NoPlace>> {
            let never = NoPlace::Never("nobody is around".to_owned());
            Box::pin(std::future::ready(Err(never)))
        }

        fn repairs(&self, _table: &Table) {}

        fn lost_since(&self, _table: &Table, _since: jiff::Timestamp) -> bool {
            false
        }

        fn verified(&self, _table: &Table, _since: jiff::Timestamp) {}

        fn cannot_apply(&self) -> Option<String> {
            None
        }

        fn instant<'a>(
            &'a self,
            _still: Still<'a>,
            _at_most: Duration,
            opening: Opening,
        ) -> Soon<'a, Held> {
            Box::pin(async {
                Held {
                    failed: opening.await.err(),
                    ..Held::default()
                }
            })
        }

        fn no_instants(&self, _by: By) -> Option<String> {
            None
        }

        fn may_lock<'a>(&'a self, _databases: &'a [String]) -> Soon<'a, Result<(), String>> {
            Box::pin(std::future::ready(Ok(())))
        }

        fn others<'a>(&'a self, _time: Duration) -> Soon<'a, Result<Vec<String>, String>> {
            Box::pin(std::future::ready(Ok(Vec::new())))
        }
    }

    fn gate(pace: Pace) -> (watch::Sender<Signal>, Arc<Quiet>, Arc<Gate>) {
        let (sender, signal) = watch::channel(Signal::Go);
        let around = Arc::new(Quiet::default());
        let gate = Gate::new(signal, Arc::clone(&around) as Arc<dyn Around>, pace);
        (sender, around, Arc::new(gate))
    }

    const FREE: Pace = Pace {
        rows_per_second: None,
        share: 1.0,
    };

    #[tokio::test(start_paused = true)]
    async fn it_gives_way_while_production_needs_it_and_says_why() {
        let (_sender, around, gate) = gate(FREE);
        around.busy.store(true, Ordering::Relaxed);
        let waiting = {
            let gate = Arc::clone(&gate);
            crate::task::spawn("pass", async move { gate.pass().await })
        };
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(gate.waits().as_deref(), Some("production is slow"));
        around.busy.store(false, Ordering::Relaxed);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert_eq!(gate.waits(), None);
        assert!(gate.waited() >= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_pauses_lets_go_on_and_ends_it() {
        let (sender, _, gate) = gate(FREE);
        sender.send_replace(Signal::Pause);
        assert!(
            tokio::time::timeout(Duration::from_secs(9), gate.pass())
                .await
                .is_err()
        );
        sender.send_replace(Signal::Go);
        assert_eq!(gate.pass().await, Ok(()));
        sender.send_replace(Signal::Abort);
        assert_eq!(gate.pass().await, Err(Stopped::Aborted));
        assert_eq!(
            gate.sleep(Duration::from_secs(60)).await,
            Err(Stopped::Aborted)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn while_it_rests_it_is_there_and_lets_go_what_it_must() {
        let (sender, around, gate) = gate(FREE);
        let (start, mut gone) = (Instant::now(), Vec::new());
        let looks = around.looks.load(Ordering::Relaxed);
        let rests = gate.rest_for(Duration::from_secs(60), || gone.push(start.elapsed()));
        let pauses = async {
            tokio::time::sleep(Duration::from_millis(30_500)).await;
            sender.send_replace(Signal::Pause);
        };
        let (rested, ()) = tokio::join!(rests, pauses);
        assert_eq!((rested, start.elapsed()), (Ok(()), Duration::from_secs(60)));
        assert_eq!(gone.first(), Some(&Duration::from_secs(31)));
        let looked = around.looks.load(Ordering::Relaxed) - looks;
        assert_eq!(looked, 30, "each second, until it was paused");
    }

    #[tokio::test(start_paused = true)]
    async fn it_rests_as_long_as_its_pace_says() {
        let start = Instant::now();
        let (_one, _, half) = gate(Pace { share: 0.5, ..FREE });
        half.rest(1, Duration::from_secs(2)).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        let (_two, _, capped) = gate(Pace {
            rows_per_second: Some(100),
            share: 1.0,
        });
        let start = Instant::now();
        for _ in 0..5 {
            capped.rest(100, Duration::ZERO).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}

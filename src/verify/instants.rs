//! The instants of a run in snapshot mode: views of both servers that were opened while writers stood still and the
//! shadow had everything, so that what differs between them differs. Either every session stood still: such an instant
//! is of all tables. Or the primary had one table locked: then it is of this table alone, and serves no other.
//!
//! A view does not live long: a tablet ends a transaction after its time, and a primary cannot clear away old versions
//! of rows meanwhile. So a pair of views serves for some seconds, for whichever tables come in them, and then another
//! instant is asked for. Where one cannot be had (sessions do not come to their boundary in time) they go on, and it is
//! asked for again after a growing pause, so many times. Refuses to compare across two instants.
//!
//! No view is open that nobody reads: what a table gives back is kept only while another one waits to begin, and is
//! swept as soon as it is out of time, or the run waits.

use super::board::Stage;
use super::gate::{By, Gate, Held, On, Still, Stopped};
use super::prepare::on_shadow;
use super::reader::{ReadError, Sight};
use super::run::{Parts, Run, said};
use super::settle::{Broke, Pair};
use super::table::Doors;
use crate::sql::Table;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Times that an instant is asked for, one after the other.
const TRIES: u32 = 12;

/// The first pause after one that could not be had, and the longest.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 250 });
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What was given back is looked at so often, whether it is still to be kept.
const SWEEP: Duration = Duration::from_millis(500);

/// Sessions are held again so long after the last time at the earliest, and after so many times what that took: they
/// wait for a twentieth of the time at most.
const LEAST: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1_000 });
const LEAST_TIMES: u32 = 20;

/// The least grows up to this, where views end before their time.
const LEAST_MAX: Duration = Duration::from_secs(60);

/// Tables in a row of which no lock could be had, each asked for that often: none is asked for after that.
const IN_VAIN_MAX: u32 = 3;

/// Holds of a run that are told, the newest.
const HOLDS_MAX: usize = 200;

/// A pair's views.
#[derive(Debug)]
pub(super) struct View {
    primary: Sight,
    shadow: Sight,
    /// So long they are of use; none where they are not open.
    until: Option<Instant>,
}

impl Pair {
    /// Whether it shows one instant, which may still be used.
    pub(super) fn is_in_time(&self) -> bool {
        let until = self.view.as_ref().and_then(|view| view.until);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Until when the instant that it shows is of use; none where it shows none.
    pub(super) fn until(&self) -> Option<Instant> {
        self.view.as_ref().and_then(|view| view.until)
    }

    /// Whether its views show these databases, by their names on both sides; where it has none, there is nothing to ask.
    ///
    /// # Errors
    /// [`ReadError::NoView`].
    pub(super) fn must_show(&self, (primary, shadow): (&str, &str)) -> Result<(), ReadError> {
        let Some(view) = &self.view else {
            return Ok(());
        };
        self.primary.must_show(&view.primary, primary)?;
        self.shadow.must_show(&view.shadow, shadow)
    }

    /// Lets go of what was locked on the way; nothing where it shows no instant.
    ///
    /// # Errors
    /// The view is lost.
    pub(super) async fn release(&mut self) -> Result<(), ReadError> {
        if self.view.is_none() {
            return Ok(());
        }
        let (primary, shadow) = tokio::join!(self.primary.release(), self.shadow.release());
        primary.and(shadow)
    }

    fn come_home(&mut self) {
        self.primary.come_home();
        self.shadow.come_home();
    }

    async fn begin(&mut self) -> Result<(), ReadError> {
        let Some(view) = &self.view else {
            return Ok(());
        };
        let (primary, shadow) = tokio::join!(
            self.primary.begin_view(&view.primary),
            self.shadow.begin_view(&view.shadow)
        );
        primary.and(shadow)
    }

    async fn stand(&mut self) -> Result<(), ReadError> {
        let Some(view) = &self.view else {
            return Ok(());
        };
        let (primary, shadow) = tokio::join!(
            self.primary.stand_in_view(&view.primary),
            self.shadow.stand_in_view(&view.shadow)
        );
        primary.and(shadow)
    }

    /// Ends both views, if they are open; the connections are ready for others.
    ///
    /// # Errors
    /// The connections are no longer good.
    pub(super) async fn end(&mut self) -> Result<(), ReadError> {
        let Some(view) = &mut self.view else {
            return Ok(());
        };
        if view.until.take().is_none() {
            return Ok(());
        }
        let (primary, shadow) = tokio::join!(
            self.primary.end_view(&view.primary),
            self.shadow.end_view(&view.shadow)
        );
        primary.and(shadow)
    }
}

/// A hold, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hold {
    at: jiff::Timestamp,
    /// The table that was locked for it; none where sessions were held.
    #[serde(default)]
    table: Option<String>,
    /// How long writers were held; none where nobody was asked to wait.
    hold_us: Option<u64>,
    gathered_us: Option<u64>,
    caught_up_us: Option<u64>,
    sessions: u64,
    failed: Option<String>,
}

/// What a run tells of its instants, and keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Log {
    /// Instants that it read in.
    instants: u64,
    /// Of these, such as a server ended before their time.
    ended_early: u64,
    /// Times that one was asked for and could not be had.
    failed: u64,
    /// The longest hold.
    hold_us_max: u64,
    /// The newest holds.
    holds: VecDeque<Hold>,
}

impl Log {
    /// As a record has it.
    pub(super) fn restored(kept: &serde_json::Value) -> Self {
        serde_json::from_value(kept.clone()).unwrap_or_default()
    }

    fn note(&mut self, held: &Held, table: Option<String>) {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        match held.failed {
            None => self.instants += 1,
            Some(_) => self.failed += 1,
        }
        self.hold_us_max = self.hold_us_max.max(held.held.map_or(0, us));
        if self.holds.len() >= HOLDS_MAX {
            self.holds.pop_front();
        }
        self.holds.push_back(Hold {
            at: jiff::Timestamp::now(),
            table,
            hold_us: held.held.map(us),
            gathered_us: held.gathered.map(us),
            caught_up_us: held.caught_up.map(us),
            sessions: held.sessions,
            failed: held.failed.clone(),
        });
    }
}

/// All holds of this process, for metrics.
#[derive(Debug)]
pub(super) struct Holds(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    /// None where its bounds are wrong, which they are not.
    us: Option<Histogram<u64>>,
    sum: Duration,
    failed: u64,
}

/// How long sessions were held, and how often in vain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HoldFigures {
    /// Holds, those in vain too.
    pub holds: u64,
    /// Instants that could not be had.
    pub failed: u64,
    /// All holds together.
    pub sum: Duration,
    /// By quantile.
    pub quantiles: [(&'static str, Duration); 4],
}

/// A longer one counts as this.
const HOLD_US_MAX: u64 = 60_000_000;

/// Holds are told by these.
const QUANTILES: [(&str, f64); 4] = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99), ("1", 1.0)];

impl Default for Holds {
    fn default() -> Self {
        Self(Mutex::new(Counted {
            us: Histogram::new_with_bounds(1, HOLD_US_MAX, 2).ok(),
            sum: Duration::ZERO,
            failed: 0,
        }))
    }
}

impl Holds {
    fn note(&self, held: &Held) {
        let mut counted = self.0.lock();
        counted.failed += u64::from(held.failed.is_some());
        if let Some(time) = held.held {
            counted.sum += time;
            let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            if let Some(known) = &mut counted.us {
                known.saturating_record(us);
            }
        }
    }

    pub(super) fn figures(&self) -> HoldFigures {
        let counted = self.0.lock();
        HoldFigures {
            holds: counted.us.as_ref().map_or(0, Histogram::len),
            failed: counted.failed,
            sum: counted.sum,
            quantiles: QUANTILES.map(|(name, at)| {
                let us = counted.us.as_ref();
                let us = us.map_or(0, |known| known.value_at_quantile(at));
                (name, Duration::from_micros(us))
            }),
        }
    }
}

/// How often sessions are held.
#[derive(Debug, Default)]
struct Interval {
    /// Nobody is held before.
    until: Option<Instant>,
    /// Doubled where views end before their time; none where they do not.
    least: Option<Duration>,
    /// One has, since the last hold.
    early: bool,
}

impl Interval {
    /// How long it is to be waited now.
    fn left(&self, now: Instant) -> Duration {
        let until = self.until.unwrap_or(now);
        until.saturating_duration_since(now)
    }

    /// Sessions were held, until now.
    fn held(&mut self, time: Duration, now: Instant) {
        let least = match (std::mem::take(&mut self.early), self.least) {
            (false, _) => LEAST,
            (true, least) => (least.unwrap_or(LEAST) * 2).min(LEAST_MAX),
        };
        self.least = Some(least);
        self.until = Some(now + least.max(time * LEAST_TIMES));
    }
}

/// See the module.
pub(super) struct Instants<'a> {
    run: &'a Run,
    parts: &'a Parts,
    doors: &'a Doors,
    /// The databases of which rows are read, by their names on both sides.
    databases: (Vec<String>, Vec<String>),
    /// Between two tables.
    idle: Mutex<Vec<Pair>>,
    /// One is asked for at a time.
    asking: tokio::sync::Mutex<()>,
    interval: Mutex<Interval>,
    /// There are none any more, and why.
    none: Mutex<Option<String>>,
    /// Tables in a row of which there was none.
    in_vain: Mutex<u32>,
}

impl<'a> Instants<'a> {
    /// None was asked for yet.
    pub(super) fn new(
        run: &'a Run,
        parts: &'a Parts,
        doors: &'a Doors,
        databases: (Vec<String>, Vec<String>),
    ) -> Self {
        Self {
            run,
            parts,
            doors,
            databases,
            idle: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            interval: Mutex::default(),
            none: Mutex::default(),
            in_vain: Mutex::default(),
        }
    }

    /// A pair that shows one instant of this table: one that was given back, or of a new instant, on the connections of
    /// this one where there are some.
    ///
    /// # Errors
    /// There is none to be had.
    pub(super) async fn pair(&self, of: &Table, had: Option<Pair>) -> Result<Pair, Broke> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(pair) if pair.is_in_time() => Ok(pair),
            idle => self.renewed(of, had.or(idle)).await,
        }
    }

    /// Of a new instant, on the same connections where there are some.
    ///
    /// # Errors
    /// There is none to be had.
    pub(super) async fn renewed(&self, of: &Table, pair: Option<Pair>) -> Result<Pair, Broke> {
        let mut kept = None;
        // What was given back is not to stay open beside it.
        let pair = pair.or_else(|| self.idle.lock().pop());
        if let Some(mut pair) = pair
            && pair.end().await.is_ok()
        {
            kept = Some(pair);
        }
        let _one = self.asking.lock().await;
        let mut pause = PAUSE;
        for nth in 1..=TRIES {
            if let Some(why) = self.none.lock().clone() {
                return Err(Broke::NoInstant(why));
            }
            let gate: &Gate = &self.run.gate;
            self.wait_its_time().await?;
            gate.pass_or(|| self.let_go()).await?;
            let ready = match kept.take() {
                Some(pair) => pair,
                None => self.ready(of).await?,
            };
            let why = match self.ask(of, ready).await? {
                Asked::Opened(pair) => {
                    *self.in_vain.lock() = 0;
                    return Ok(pair);
                }
                Asked::Never(why) => return Err(Broke::NoInstant(why)),
                Asked::Not(why, pair) => {
                    kept = pair;
                    why
                }
            };
            if nth == TRIES {
                let why = format!(
                    "no instant could be had, and it was asked for {TRIES} times, the last time {why}"
                );
                return Err(self.given_up(why));
            }
            gate.say(Some(format!("no instant could be had: {why}")));
            gate.sleep(pause).await?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Err(Broke::NoInstant("no instant could be had".to_owned()))
    }

    /// It is not asked for any more: where sessions do not come to stand still for one table, they do not for another,
    /// but a lock is of one.
    fn given_up(&self, why: String) -> Broke {
        let mut in_vain = self.in_vain.lock();
        *in_vain += 1;
        let all = match self.by() {
            By::Gate => Some(why.clone()),
            By::Lock if *in_vain >= IN_VAIN_MAX => Some(format!(
                "it was not locked, for {IN_VAIN_MAX} tables in a row could not be; of the last one {why}"
            )),
            By::Lock => None,
        };
        if let Some(all) = all {
            self.none.lock().get_or_insert(all);
        }
        Broke::NoInstant(why)
    }

    fn by(&self) -> By {
        self.run.meant.by
    }

    /// Given back between two tables: for one that waits to begin. Where there is none its views end, and where they
    /// are of one table alone.
    pub(super) fn give_back(&self, pair: Pair) {
        if self.by() == By::Lock {
            return;
        }
        let jobs = self.run.meant.jobs.unwrap_or(self.parts.limits.jobs);
        let waits = self.run.board.all();
        let waits = waits.iter().any(|one| one.stage == Stage::Waiting);
        let mut idle = self.idle.lock();
        if waits && pair.is_in_time() && idle.len() < jobs {
            idle.push(pair);
        }
    }

    /// Nothing is kept open meanwhile: it waits for something else than a server.
    pub(super) fn let_go(&self) {
        self.idle.lock().clear();
    }

    /// Ends what was given back once it is out of time, or the run waits. It has no end of its own.
    pub(super) async fn sweep<T>(&self) -> T {
        loop {
            tokio::time::sleep(SWEEP).await;
            if self.run.gate.waits().is_some() || self.run.is_paused() {
                self.let_go();
            } else {
                self.idle.lock().retain(Pair::is_in_time);
            }
        }
    }

    /// Sessions are not held so soon again.
    async fn wait_its_time(&self) -> Result<(), Stopped> {
        let left = self.interval.lock().left(Instant::now());
        if left > LEAST {
            let s = left.as_secs();
            self.run.gate.say(Some(format!("snapshots end before their time, or holds take long: sessions are not held again before {s} s")));
        }
        self.run.gate.rest_for(left, || self.let_go()).await
    }

    /// A server ended one before its time.
    pub(super) fn lost(&self) {
        self.interval.lock().early = true;
        self.run.log(|log| log.ended_early += 1);
    }

    /// Connections that are ready for views.
    async fn ready(&self, of: &Table) -> Result<Pair, ReadError> {
        let own = match self.by() {
            By::Gate => None,
            // Views of others would be opened in vain, while writers wait.
            By::Lock => of.database.clone().map(|database| {
                let there = on_shadow(self.parts, &database).to_owned();
                (vec![database], vec![there])
            }),
        };
        let (on_primary, on_shadow) = own.as_ref().unwrap_or(&self.databases);
        let mut primary = self.doors.primary.open().await?;
        let mut shadow = self.doors.shadow.open().await?;
        let on_primary: Vec<&str> = on_primary.iter().map(String::as_str).collect();
        let on_shadow: Vec<&str> = on_shadow.iter().map(String::as_str).collect();
        let view = View {
            primary: primary.prepare_views(&on_primary).await?,
            shadow: shadow.prepare_views(&on_shadow).await?,
            until: None,
        };
        Ok(Pair {
            primary,
            shadow,
            view: Some(view),
        })
    }

    /// Asks for one instant.
    async fn ask(&self, of: &Table, pair: Pair) -> Result<Asked, ReadError> {
        let on = [&pair.primary, &pair.shadow].map(|one| one.identity().map(str::to_owned));
        let place = Arc::new(Mutex::new((Some(pair), None)));
        let opening = {
            let place = Arc::clone(&place);
            async move {
                let pair = place.lock().0.take();
                let Some(mut pair) = pair else {
                    return Err("it was asked for twice".to_owned());
                };
                // Whoever compares rows is not to keep sessions waiting.
                pair.come_home();
                let opened = pair.begin().await;
                let told = opened.as_ref().copied().map_err(ToString::to_string);
                *place.lock() = (Some(pair), Some(opened));
                told
            }
        };
        let at_most = self.parts.limits.hold_max;
        let around = &self.parts.around;
        let still = match self.by() {
            By::Gate => Still::Sessions,
            By::Lock => {
                let [primary, shadow] = on.each_ref().map(Option::as_deref);
                Still::Table(of, On { primary, shadow })
            }
        };
        let held = around.instant(still, at_most, Box::pin(opening)).await;
        self.note(&held, still);
        let (pair, opened) = std::mem::take(&mut *place.lock());
        if held.hopeless {
            return Ok(Asked::Never(held.failed.unwrap_or_default()));
        }
        match (held.failed, pair, opened) {
            (None, Some(mut pair), Some(Ok(()))) => {
                pair.come_home();
                if let Some(view) = &mut pair.view {
                    view.until = Some(Instant::now() + self.parts.limits.snapshot);
                }
                match pair.stand().await {
                    Ok(()) => Ok(Asked::Opened(pair)),
                    Err(fault) if fault.ends_view() => Ok(Asked::Not(fault.to_string(), None)),
                    Err(fault) => Err(fault),
                }
            }
            (_, _, Some(Err(fault))) if !fault.ends_view() => Err(fault),
            // It never came to the opening: nothing has become of the connections.
            (failed, Some(mut pair), None) => {
                pair.come_home();
                Ok(Asked::Not(failed.unwrap_or_default(), Some(pair)))
            }
            (failed, _, _) => {
                let why = failed.unwrap_or_else(|| "it was given up in its midst".to_owned());
                Ok(Asked::Not(why, None))
            }
        }
    }

    fn note(&self, held: &Held, still: Still<'_>) {
        let table = match still {
            Still::Sessions => None,
            Still::Table(of, _) => Some(format!(
                "{}.{}",
                of.database.as_deref().unwrap_or_default(),
                of.name
            )),
        };
        self.run.log(|log| log.note(held, table));
        self.parts.holds.note(held);
        if let Some(time) = held.held {
            self.interval.lock().held(time, Instant::now());
        }
        let id = self.run.id;
        said(self.parts.records.instants(id, &self.run.instants()));
        let ms = held.held.map(|time| time.as_millis());
        match &held.failed {
            None => tracing::debug!(?ms, "verification {id} has an instant"),
            Some(why) => tracing::info!(?ms, "verification {id} has no instant: {why}"),
        }
    }
}

enum Asked {
    Opened(Pair),
    /// Why not, and that it is of no use to ask again.
    Never(String),
    /// Why not, and the connections where they are still good.
    Not(String, Option<Pair>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_held_for_a_part_of_the_time_and_seldom_where_views_do_not_last() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let mut interval = Interval::default();
        assert_eq!(interval.left(now), Duration::ZERO);
        interval.held(ms(50), now);
        assert_eq!(interval.left(now), ms(1_000), "a twentieth of the time");
        let mut left = Vec::new();
        for _ in 0..20 {
            interval.early = true;
            interval.held(Duration::ZERO, now);
            left.push(interval.left(now));
        }
        assert_eq!(left.first(), Some(&(LEAST * 2)));
        assert!(left.is_sorted_by(|one, next| *next == (*one * 2).min(LEAST_MAX)));
        // One that lasted has it forgotten.
        interval.held(Duration::ZERO, now);
        assert_eq!(interval.left(now), LEAST);
        assert_eq!(interval.left(now + LEAST), Duration::ZERO);
    }

    #[test]
    fn the_newest_holds_are_told_and_all_of_them_are_counted() {
        let mut log = Log::default();
        let holds = Holds::default();
        let held = |ms, failed: Option<&str>| Held {
            held: Some(Duration::from_millis(ms)),
            sessions: 3,
            failed: failed.map(str::to_owned),
            ..Held::default()
        };
        for ms in 1..=300 {
            let one = held(ms, (ms == 300).then_some("a transaction is open"));
            log.note(&one, None);
            holds.note(&one);
        }
        let nobody = Held {
            held: None,
            ..held(0, Some("nobody was held"))
        };
        log.note(&nobody, Some("app.t".to_owned()));
        holds.note(&nobody);
        assert_eq!((log.instants, log.failed), (299, 2));
        assert_eq!((log.holds.len(), log.hold_us_max), (HOLDS_MAX, 300_000));
        let kept = serde_json::to_value(&log).unwrap();
        assert_eq!(Log::restored(&kept), log);
        let figures = holds.figures();
        assert_eq!((figures.holds, figures.failed), (300, 2));
        assert_eq!(figures.sum, Duration::from_millis(300 * 301 / 2));
        let [(_, p50), .., (_, max)] = figures.quantiles;
        assert!((145..156).contains(&p50.as_millis()), "{p50:?}");
        assert!((299..305).contains(&max.as_millis()), "{max:?}");
    }
}

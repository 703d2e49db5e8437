//! Makes the shadow's rows the primary's. Never the other way, and never on the primary.
//!
//! Some rows at a time: both sides are read, a place in the mirror's order is taken, both are read again in it, and
//! what the primary still has as before is written, each row by a transaction of its own. The connections are open
//! before the place is taken, and it is kept for a moment only; what could not be done in it is tried again. Each
//! repair stands in the ledger before it is run. Rows on the wrong shard, or on two, are told and left: a statement
//! by the key does not reach them.

mod hand;
mod look;
mod words;

use super::gate::{Gate, Stopped};
use super::place::NoPlace;
use super::plan::Plan;
use super::reader::{Door, ReadError};
use super::rows::{How, Key};
use super::settle::{Differs, Pair, Places};
use crate::config::Server;
use crate::connect::Dial;
use crate::ledger::{RepairBegun, Verifications};
use hand::{Hand, Wrote};
use look::{Look, survives};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Rows that are repaired in one place.
const ROWS_MAX: usize = 50;

/// How often what could not be done is tried again, and the pauses: each is twice the one before.
const PASSES_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The acknowledgement of a commit that was seen has come through the tee after this time, and stands before a place
/// that is taken then.
const QUIET: Duration = Duration::from_millis(100);

/// A repair, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// What is run.
    pub(super) statement: String,
    /// What is run instead where the statement would move a row to another shard.
    instead: Vec<String>,
}

impl Made {
    const fn of(statement: String) -> Self {
        Self {
            statement,
            instead: Vec::new(),
        }
    }
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// It was written.
    Done,
    /// Both sides had the same by then.
    Same,
    /// It was not written, and why.
    Not(String),
    /// Nobody knows, and why.
    Unknown(String),
}

impl Became {
    /// In words.
    #[must_use]
    pub(super) fn told(&self) -> String {
        match self {
            Self::Done => "done".to_owned(),
            Self::Same => "the same by then".to_owned(),
            Self::Not(why) => format!("not repaired: {why}"),
            Self::Unknown(why) => format!("not known: {why}"),
        }
    }
}

/// How a try ended.
enum Tried {
    Ended(Became),
    /// It may do another time.
    Again(String),
    /// It may do once others are repaired.
    Behind(String),
}

/// Whether a statement by the key can repair it.
///
/// # Errors
/// It cannot be, and why.
pub(super) fn can(how: How, plan: &Plan) -> Result<(), &'static str> {
    match how {
        How::Missing | How::Extra | How::Changed if !plan.key.is_empty() => Ok(()),
        How::Missing | How::Extra | How::Changed => Err("the table has no key to repair a row by"),
        How::Twice | How::Misplaced => Err(
            "a statement by its key does not reach it: take it off the wrong shard, then verify again",
        ),
    }
}

/// The statement for each row, or why there is none, as both sides are now; none where they are the same.
///
/// # Errors
/// A server could not be read.
pub(super) async fn plan(
    pair: &mut Pair,
    places: &Places<'_>,
    rows: &[Differs],
) -> Result<Vec<Result<Option<String>, String>>, ReadError> {
    let mut told = Vec::with_capacity(rows.len());
    for some in rows.chunks(ROWS_MAX) {
        let keys: Vec<Key> = some.iter().map(|one| one.key.clone()).collect();
        let look = Look::of(pair, places, &keys).await?;
        for one in some {
            let made = can(one.how, places.primary.plan);
            let made = made.and_then(|()| look.made(places, &one.key));
            told.push(match made {
                Err(why) => Err(why.to_owned()),
                Ok(made) => match lossy(pair, places, &look, &one.key).await? {
                    Some(why) => Err(why),
                    None => Ok(made.map(|made| made.statement)),
                },
            });
        }
    }
    Ok(told)
}

/// Why what would be written of a row is not what the primary has.
async fn lossy(
    pair: &mut Pair,
    places: &Places<'_>,
    look: &Look,
    key: &Key,
) -> Result<Option<String>, ReadError> {
    for at in look.doubtful(&places.primary, key) {
        if !survives(&mut pair.primary, &places.primary, key, at).await? {
            let column = places.primary.plan.columns.get(at);
            let name = column.map_or("a column", |column| column.name.as_str());
            return Ok(Some(format!(
                "{name} holds characters that cannot be told in UTF-8"
            )));
        }
    }
    Ok(None)
}

/// Who repairs a table: see the module.
pub(super) struct Repairs<'a> {
    /// The table on both sides.
    pub(super) places: &'a Places<'a>,
    /// When it may go on, and the places.
    pub(super) gate: &'a Gate,
    /// The ways to read both sides.
    pub(super) doors: (&'a Door, &'a Door),
    /// The way to the shadow that is written to: the run's own, whatever the roles are by then.
    pub(super) dial: &'a Arc<dyn Dial>,
    /// See `dial`.
    pub(super) shadow: &'a Arc<Server>,
    /// Where each repair is recorded, and of which run, asked for by whom.
    pub(super) records: &'a Verifications,
    /// See `records`.
    pub(super) run: (i64, &'a str),
    /// The ledger keeps literals.
    pub(super) tells: bool,
}

/// What is open while a table is repaired, and what is recorded of it.
#[derive(Default)]
struct Tools {
    pair: Option<Pair>,
    hand: Option<Hand>,
    records: HashMap<usize, i64>,
}

impl Repairs<'_> {
    /// Repairs these rows; what became of each, in their order.
    ///
    /// # Errors
    /// It is to end: what was repaired by then is in the ledger.
    pub(super) async fn apply(&self, rows: &[Differs]) -> Result<Vec<Became>, Stopped> {
        let mut became = vec![Became::Not("its turn did not come".to_owned()); rows.len()];
        let mut left: Vec<usize> = (0..rows.len()).collect();
        // What stands in the way of another goes first.
        left.sort_by_key(|nth| rows.get(*nth).is_some_and(|one| one.how != How::Extra));
        let (mut tools, mut pause) = (Tools::default(), PAUSE);
        for _ in 0..PASSES_MAX {
            let (mut again, mut behind) = (Vec::new(), Vec::new());
            for some in left.chunks(ROWS_MAX) {
                let tried = self.some(&mut tools, rows, some).await?;
                let pairs = some.iter().enumerate();
                for (nth, at) in pairs {
                    let Some(place) = became.get_mut(*at) else {
                        continue;
                    };
                    match tried.get(nth) {
                        Some(Tried::Ended(end)) => *place = end.clone(),
                        Some(Tried::Again(why)) => {
                            *place = Became::Not(why.clone());
                            again.push(*at);
                        }
                        Some(Tried::Behind(why)) => {
                            *place = Became::Not(why.clone());
                            behind.push(*at);
                        }
                        None => again.push(*at),
                    }
                }
                self.record(&tools, some, &became);
            }
            let did_some = again.len() + behind.len() < left.len();
            if again.is_empty() && (behind.is_empty() || !did_some) {
                break;
            }
            left = again;
            left.append(&mut behind);
            self.gate.sleep(pause).await?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(became)
    }

    /// Some rows, in one place.
    async fn some(
        &self,
        tools: &mut Tools,
        rows: &[Differs],
        some: &[usize],
    ) -> Result<Vec<Tried>, Stopped> {
        self.gate.pass().await?;
        let rows: Vec<(usize, &Differs)> = some
            .iter()
            .filter_map(|at| Some((*at, rows.get(*at)?)))
            .collect();
        let (before, doubts) = match self.first_look(tools, &rows).await {
            Ok(seen) => seen,
            Err(why) => return Ok(rows.iter().map(|_| why.again()).collect()),
        };
        if let Err(why) = self.begin(tools, &rows, &before) {
            let not = Became::Not(format!("the ledger cannot record it: {why}"));
            return Ok(rows.iter().map(|_| Tried::Ended(not.clone())).collect());
        }
        self.gate.sleep(QUIET).await?;
        let around = self.gate.around();
        let place = match around.place(self.places.table, &self.shadow.name).await {
            Ok(place) => place,
            Err(NoPlace::Later(why)) => {
                return Ok(rows.iter().map(|_| Tried::Again(why.clone())).collect());
            }
            Err(NoPlace::Never(why)) => {
                let not = Became::Not(why);
                return Ok(rows.iter().map(|_| Tried::Ended(not.clone())).collect());
            }
        };
        around.repairs(self.places.table);
        let until = Instant::now() + place.at_most();
        let now = match timeout_at(until, self.look(tools, &rows)).await {
            Ok(Ok(now)) => now,
            Ok(Err(why)) => return Ok(rows.iter().map(|_| why.again()).collect()),
            Err(_) => {
                // An answer may be on its way.
                tools.pair = None;
                let slow = || Tried::Again("the servers do not answer in time".to_owned());
                return Ok(rows.iter().map(|_| slow()).collect());
            }
        };
        let mut tried = Vec::with_capacity(rows.len());
        for (nth, (_, one)) in rows.iter().enumerate() {
            if let Some(Some(why)) = doubts.get(nth) {
                tried.push(Tried::Ended(Became::Not(why.clone())));
                continue;
            }
            if Instant::now() >= until {
                tried.push(Tried::Again(
                    "its place was kept for long enough".to_owned(),
                ));
                continue;
            }
            if let Err(why) = place.holds() {
                tried.push(Tried::Again(why));
                continue;
            }
            tried.push(self.one(tools, one, &before, &now, until).await);
        }
        drop(place);
        Ok(tried)
    }

    /// One row, in its place.
    async fn one(
        &self,
        tools: &mut Tools,
        one: &Differs,
        before: &Look,
        now: &Look,
        until: Instant,
    ) -> Tried {
        if before.seen(&one.key) != now.seen(&one.key) {
            // A commit since: its dark write waits behind this place, and would be run twice.
            return Tried::Again("the row changes all the time".to_owned());
        }
        let made = match now.made(self.places, &one.key) {
            Ok(Some(made)) => made,
            Ok(None) => return Tried::Ended(Became::Same),
            Err(why) => return Tried::Ended(Became::Not(why.to_owned())),
        };
        let Some(hand) = tools.hand.as_mut() else {
            return Tried::Again("the connection broke off".to_owned());
        };
        let mut wrote = hand.write(&[made.statement], until).await;
        if let Wrote::Refused(why) = &wrote
            && why.to_ascii_lowercase().contains("vindex")
            && !made.instead.is_empty()
        {
            // A vtgate changes no column that says on which shard a row is.
            wrote = hand.write(&made.instead, until).await;
        }
        match wrote {
            Wrote::Done => Tried::Ended(Became::Done),
            Wrote::Passing(why) => Tried::Again(why),
            Wrote::InTheWay(why) => Tried::Behind(why),
            Wrote::Refused(why) => Tried::Ended(Became::Not(why)),
            Wrote::Unknown(why) => Tried::Ended(Became::Unknown(why)),
        }
    }

    /// What both sides have, and of each row why it would not be written as it is.
    async fn first_look(
        &self,
        tools: &mut Tools,
        rows: &[(usize, &Differs)],
    ) -> Result<(Look, Vec<Option<String>>), Fault> {
        if tools.pair.is_none() {
            let (primary, shadow) = self.doors;
            tools.pair = Some(Pair {
                primary: primary.open().await?,
                shadow: shadow.open().await?,
            });
        }
        if !tools.hand.as_ref().is_some_and(Hand::is_good) {
            let primary = match tools.pair.as_mut() {
                Some(pair) => pair.primary.all("SELECT @@GLOBAL.server_uuid").await,
                None => Ok(Vec::new()),
            };
            let primary = primary
                .ok()
                .and_then(|rows| rows.into_iter().next()?.into_iter().next()?);
            let hand = Hand::open(self.dial, self.shadow, primary.as_deref()).await;
            tools.hand = Some(hand.map_err(Fault::Hand)?);
        }
        let look = self.look(tools, rows).await?;
        let mut doubts = Vec::with_capacity(rows.len());
        for (_, one) in rows {
            let can = can(one.how, self.places.primary.plan);
            let doubt = match (can, tools.pair.as_mut()) {
                (Err(why), _) => Some(why.to_owned()),
                (Ok(()), Some(pair)) => match lossy(pair, self.places, &look, &one.key).await {
                    Ok(doubt) => doubt,
                    Err(fault) => {
                        tools.pair = None;
                        return Err(fault.into());
                    }
                },
                (Ok(()), None) => None,
            };
            doubts.push(doubt);
        }
        Ok((look, doubts))
    }

    /// What both sides have. A pair that failed is not used again.
    async fn look(&self, tools: &mut Tools, rows: &[(usize, &Differs)]) -> Result<Look, Fault> {
        let keys: Vec<Key> = rows.iter().map(|(_, one)| one.key.clone()).collect();
        let mut pair = tools.pair.take().ok_or(Fault::Lost)?;
        let look = Look::of(&mut pair, self.places, &keys).await?;
        tools.pair = Some(pair);
        Ok(look)
    }

    /// Each repair is in the ledger before it is run.
    fn begin(
        &self,
        tools: &mut Tools,
        rows: &[(usize, &Differs)],
        look: &Look,
    ) -> Result<(), String> {
        let new: Vec<&(usize, &Differs)> = rows
            .iter()
            .filter(|(at, _)| !tools.records.contains_key(at))
            .collect();
        let begun: Vec<RepairBegun> = new
            .iter()
            .map(|(_, one)| {
                let made = look.made(self.places, &one.key).ok().flatten();
                let columns = one.columns.iter();
                let columns = columns.filter_map(|at| self.places.primary.plan.columns.get(*at));
                RepairBegun {
                    how: one.how.name(),
                    columns: columns.map(|column| column.name.clone()).collect(),
                    key: self.tells.then(|| self.places.primary.is(&one.key)),
                    statement: made.map(|made| made.statement).filter(|_| self.tells),
                }
            })
            .collect();
        let table = (self.places.primary.database, self.places.primary.table);
        let ids = self
            .records
            .repairs_begin(self.run, table, &self.shadow.name, &begun)
            .map_err(|fault| fault.to_string())?;
        for (nth, (at, _)) in new.iter().enumerate() {
            if let Some(id) = ids.get(nth) {
                tools.records.insert(*at, *id);
            }
        }
        Ok(())
    }

    /// What became of them, as far as it is known.
    fn record(&self, tools: &Tools, some: &[usize], became: &[Became]) {
        let ends: Vec<(i64, String)> = some
            .iter()
            .filter_map(|at| Some((*tools.records.get(at)?, became.get(*at)?.told())))
            .collect();
        super::run::said(self.records.repairs_end(&ends));
    }
}

/// Why nothing could be looked at.
#[derive(Debug)]
enum Fault {
    Read(ReadError),
    /// The connection that writes.
    Hand(String),
    /// The one that reads broke off before.
    Lost,
}

impl From<ReadError> for Fault {
    fn from(fault: ReadError) -> Self {
        Self::Read(fault)
    }
}

impl Fault {
    fn again(&self) -> Tried {
        match self {
            Self::Read(fault) if fault.may_pass() => Tried::Again(fault.to_string()),
            Self::Read(fault) => Tried::Ended(Became::Not(fault.to_string())),
            Self::Hand(why) => Tried::Again(why.clone()),
            Self::Lost => Tried::Again("the connection broke off".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;

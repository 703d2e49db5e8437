//! Some rows, repaired in one place: looked at, the place taken, looked at again, written.

use super::super::gate::Stopped;
use super::super::place::{NoPlace, Place};
use super::super::reader::ReadError;
use super::super::rows::{How, Key};
use super::super::settle::{Differs, Pair};
use super::hand::{Hand, Who, Wrote};
use super::look::Look;
use super::strays::{Seeker, aimed};
use super::{Became, QUIET, Repairs, Tools, Tried, can, lossy};
use tokio::time::{Instant, timeout_at};

/// What was seen of some rows before their place was taken.
pub(super) struct Seen {
    pub(super) look: Look,
    /// Of each row why it cannot be repaired as it is.
    doubts: Vec<Option<String>>,
    /// Of each row the shards that have it and should not.
    pub(super) strays: Vec<Vec<String>>,
}

/// A row's place among those that are repaired, and the row.
pub(super) type Nth<'a> = (usize, &'a Differs);

impl Repairs<'_> {
    /// Some rows, in one place.
    pub(super) async fn some(
        &self,
        tools: &mut Tools,
        rows: &[Differs],
        some: &[usize],
    ) -> Result<Vec<Tried>, Stopped> {
        self.gate.pass().await?;
        let rows: Vec<Nth<'_>> = some
            .iter()
            .filter_map(|at| Some((*at, rows.get(*at)?)))
            .collect();
        let all = |tried: Tried| Ok(vec![tried; rows.len()]);
        let before = match self.first_look(tools, &rows).await {
            Ok(seen) => seen,
            Err(why) => return all(why.again()),
        };
        if let Err(why) = self.begin(tools, &rows, &before) {
            let why = format!("the ledger cannot record it: {why}");
            return all(Tried::Ended(Became::Not(why)));
        }
        self.gate.sleep(QUIET).await?;
        let around = self.gate.around();
        let place = match around.place(self.places.table, &self.shadow.name).await {
            Ok(place) => place,
            Err(NoPlace::Later(why)) => return all(Tried::Again(why)),
            Err(NoPlace::Never(why)) => return all(Tried::Ended(Became::Not(why))),
        };
        around.repairs(self.places.table);
        let until = Instant::now() + place.at_most();
        let now = match timeout_at(until, self.look(tools, &rows)).await {
            Ok(Ok(now)) => now,
            Ok(Err(why)) => return all(why.again()),
            Err(_) => {
                // An answer may be on its way.
                tools.pair = None;
                let why = "the servers do not answer in time";
                return all(Tried::Again(why.to_owned()));
            }
        };
        let mut tried = Vec::with_capacity(rows.len());
        for (nth, (_, one)) in rows.iter().enumerate() {
            let in_place = InPlace {
                place: &*place,
                until,
                begins_until: until - place.at_most() / 2,
                before: &before,
                now: &now,
            };
            tried.push(match before.doubts.get(nth) {
                Some(Some(why)) => Tried::Ended(Became::Not(why.clone())),
                _ => self.one(tools, (nth, one), &in_place).await,
            });
        }
        Ok(tried)
    }

    /// One row, in its place.
    async fn one(&self, tools: &mut Tools, (nth, one): Nth<'_>, at: &InPlace<'_>) -> Tried {
        if at.before.look.seen(&one.key) != at.now.seen(&one.key) {
            // A commit since: its dark write waits behind this place, and would be run twice.
            return Tried::Again("the row changes all the time".to_owned());
        }
        let made = match at.now.made(self.places, &one.key) {
            Ok(made) => made,
            Err(why) => return Tried::Ended(Became::Not(why.to_owned())),
        };
        let strays = at.before.strays.get(nth).map_or(&[][..], Vec::as_slice);
        if made.is_none() && strays.is_empty() {
            return Tried::Ended(Became::Same);
        }
        let Some(hand) = tools.hand.as_mut() else {
            return Tried::Again("the connection broke off".to_owned());
        };
        if let Some(made) = made {
            if let Err(why) = at.holds() {
                return Tried::Again(why);
            }
            let mut wrote = hand.write(&[made.statement], at.until).await;
            if let Wrote::Refused(why) = &wrote
                && why.to_ascii_lowercase().contains("vindex")
                && !made.instead.is_empty()
            {
                // A vtgate changes no column that says on which shard a row is.
                wrote = hand.write(&made.instead, at.until).await;
            }
            if wrote != Wrote::Done {
                return wrote.into();
            }
        }
        // Only once it is where it belongs.
        let shadow = &self.places.shadow;
        for shard in strays {
            if let Err(why) = at.holds() {
                return Tried::Again(why);
            }
            let target = aimed(shadow.database, shard);
            let delete = [shadow.delete_here(&one.key)];
            let wrote = hand
                .write_at((&target, shadow.database), &delete, at.until)
                .await;
            if wrote != Wrote::Done {
                return wrote.into();
            }
        }
        Tried::Ended(Became::Done)
    }

    /// Opens what is not open, and looks.
    async fn first_look(&self, tools: &mut Tools, rows: &[Nth<'_>]) -> Result<Seen, Fault> {
        self.open(tools).await?;
        let look = self.look(tools, rows).await?;
        tools.together = super::fitting(rows.len(), look.bytes());
        let (mut doubts, mut strays) = (Vec::new(), Vec::new());
        for (_, one) in rows {
            let mut doubt = can(one.how, self.places).err().map(str::to_owned);
            let mut found = Vec::new();
            if doubt.is_none() {
                let mut pair = tools.pair.take().ok_or(Fault::Lost)?;
                doubt = lossy(&mut pair, self.places, &look, &one.key).await?;
                tools.pair = Some(pair);
            }
            if doubt.is_none() && self.may_stray(one, &look) {
                match self.strays(tools, &one.key).await {
                    Ok(shards) => found = shards,
                    Err(why) => doubt = Some(why),
                }
            }
            doubts.push(doubt);
            strays.push(found);
        }
        Ok(Seen {
            look,
            doubts,
            strays,
        })
    }

    async fn open(&self, tools: &mut Tools) -> Result<(), Fault> {
        let mut pair = match tools.pair.take() {
            Some(pair) => pair,
            None => Pair {
                primary: self.doors.0.open().await?,
                shadow: self.doors.1.open().await?,
                view: None,
            },
        };
        if !tools.hand.as_ref().is_some_and(Hand::is_good) {
            let uuid = match pair.primary.all("SELECT @@GLOBAL.server_uuid").await {
                Ok(rows) => rows
                    .into_iter()
                    .next()
                    .and_then(|row| row.into_iter().next()?),
                // MariaDB has none.
                Err(ReadError::Refused { .. }) => None,
                Err(fault) => return Err(fault.into()),
            };
            let who = Who {
                primary: uuid.as_deref(),
                shadow: pair.shadow.identity(),
                tells: self.tells,
            };
            let hand = Hand::open(self.dial, self.shadow, who).await;
            tools.hand = Some(hand.map_err(Fault::Hand)?);
        }
        tools.pair = Some(pair);
        Ok(())
    }

    /// Whether a row may be on a shard where it does not belong.
    pub(super) fn may_stray(&self, one: &Differs, look: &Look) -> bool {
        may_stray(one, look, self.places.sharded && self.places.routed)
    }

    async fn strays(&self, tools: &mut Tools, key: &Key) -> Result<Vec<String>, String> {
        let shadow = &self.places.shadow;
        let mut seeker = match tools.seeker.take() {
            Some(seeker) => seeker,
            None => Seeker::open(self.dial, self.shadow, shadow.database, self.tells).await?,
        };
        let strays = seeker.strays(shadow, key).await?;
        tools.seeker = Some(seeker);
        Ok(strays)
    }

    /// What both sides have. A pair that failed is not used again.
    async fn look(&self, tools: &mut Tools, rows: &[Nth<'_>]) -> Result<Look, Fault> {
        let keys: Vec<Key> = rows.iter().map(|(_, one)| one.key.clone()).collect();
        let mut pair = tools.pair.take().ok_or(Fault::Lost)?;
        let look = Look::of(&mut pair, self.places, &keys).await?;
        tools.pair = Some(pair);
        Ok(look)
    }
}

/// See [`Repairs::may_stray`].
pub(super) fn may_stray(one: &Differs, look: &Look, routed: bool) -> bool {
    routed
        && match one.how {
            How::Twice | How::Misplaced => true,
            How::Extra => !look.is_there(&one.key),
            How::Missing | How::Changed | How::Clock => false,
        }
}

/// A place, until when it may be kept, and what was seen before it and in it.
struct InPlace<'a> {
    place: &'a dyn Place,
    until: Instant,
    /// What begins later would not have the time to end.
    begins_until: Instant,
    before: &'a Seen,
    now: &'a Look,
}

impl InPlace<'_> {
    fn holds(&self) -> Result<(), String> {
        if Instant::now() >= self.begins_until {
            return Err("its place was kept for long enough".to_owned());
        }
        self.place.holds()
    }
}

impl From<Wrote> for Tried {
    fn from(wrote: Wrote) -> Self {
        match wrote {
            Wrote::Done => Self::Ended(Became::Done),
            Wrote::Passing(why) => Self::Again(why),
            Wrote::InTheWay(why) => Self::Behind(why),
            Wrote::Refused(why) => Self::Ended(Became::Not(why)),
            Wrote::Unknown(why) => Self::Ended(Became::Unknown(why)),
        }
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

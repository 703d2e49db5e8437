//! What looked different is looked at again, until it stays so across the mirror's catch-up.
//!
//! A round reads the rows on the primary, lets the shadow catch up, reads them there, and reads the primary
//! once more. Where the primary had the same before and after, the shadow had everything that made it so: if it
//! has something else, that is a difference, but for a row that was changed and changed back. So it must be the
//! same difference in several rounds. What does not come to rest in time is *unsettled*: it is neither equal
//! nor different. The last of these rounds waits for every command that is under way on the primary, too: what it
//! wrote may be seen there long before it ends, and comes to the shadow behind that.
//!
//! How far apart the rounds are depends on how it is known that the shadow caught up ([`CaughtUp`]). Where the servers
//! themselves say so, nothing is on its way when the shadow is read: the next round tells something new at once, and
//! pauses are only there so that a row which is changed and changed back is not met in the same beat. Where time alone
//! speaks for it, what is late for once must not be late three times: the pauses grow.
//!
//! All that is looked at shares a round's waits, and `walk` goes on reading meanwhile.

use super::gate::{CaughtUp, Gate, On, Sought, Stopped};
use super::instants::View;
use super::reader::{ReadError, Reader};
use super::rows::{How, Key, Suspect};
use super::statements::{self, Place};
use super::value;
use crate::sql::Table;
use jiff::SignedDuration;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Rounds in a row in which a difference must be the same.
const ROUNDS: u32 = 3;

/// The first pause between two rounds, and the longest; each is three times the one before.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Of these pauses a part is enough where the servers say that the shadow caught up.
const SEEN_PART: u32 = 5;

/// Looks at each key in a round, both servers together.
const LOOKS: u64 = 3;

/// Keys in one statement.
pub(super) const KEYS_MAX: usize = 200;

/// Keys that share a round's waits.
const ROUND_KEYS: usize = 5 * KEYS_MAX;

/// Both servers, each with a connection.
#[derive(Debug)]
pub(super) struct Pair {
    /// The primary.
    pub(super) primary: Reader,
    /// The shadow.
    pub(super) shadow: Reader,
    /// They show both servers at one instant; none where each shows what it has by now.
    pub(super) view: Option<View>,
}

impl Pair {
    /// Which servers these are.
    pub(super) fn on(&self) -> On<'_> {
        On {
            primary: self.primary.identity(),
            shadow: self.shadow.identity(),
        }
    }
}

/// Where a table is on both sides.
#[derive(Clone, Debug)]
pub(super) struct Places<'a> {
    /// The table, by the primary's names.
    pub(super) table: &'a Table,
    /// On the primary.
    pub(super) primary: Place<'a>,
    /// On the shadow.
    pub(super) shadow: Place<'a>,
    /// The shadow's rows are on several shards.
    pub(super) sharded: bool,
    /// A lookup by the key goes to the one shard that a row belongs on.
    pub(super) routed: bool,
    /// Moments that the mirror wrote may differ by so much.
    pub(super) clock: Duration,
    /// The ledger keeps literals: values that differ are told.
    pub(super) tells: bool,
}

impl Places<'_> {
    /// The table's database, by its names on both sides.
    pub(super) const fn databases(&self) -> (&str, &str) {
        (self.primary.database, self.shadow.database)
    }
}

/// A row: it is another one where one of its columns' digests is.
#[derive(Clone, Debug)]
struct Seen {
    columns: Vec<u128>,
    /// Of each column the moment that it is, where it is one ([`value::instant`]); of a row that is looked at closely.
    moments: Vec<Option<SignedDuration>>,
    /// The same: its values for people, where they are told.
    told: Vec<String>,
}

impl Seen {
    /// Nothing more is kept of it than whether it is another one.
    fn bare(&mut self) {
        self.moments = Vec::new();
        self.told = Vec::new();
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns
    }
}

impl Eq for Seen {}

/// What the shadow has of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct There {
    /// What a lookup by the key finds.
    routed: Option<Seen>,
    /// What is on any shard.
    any: Vec<Seen>,
}

/// A difference that stayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Differs {
    /// Its key.
    pub(super) key: Key,
    /// How.
    pub(super) how: How,
    /// The columns that differ, as places in the plan.
    pub(super) columns: Vec<usize>,
    /// What the primary and the shadow have in the first of them, where values are told.
    pub(super) values: [Vec<String>; 2],
}

/// Columns of a row whose values are told.
const VALUES_MAX: usize = 8;

impl Differs {
    fn of(key: Key, (here, there): (Option<&Seen>, &There), how: How, columns: Vec<usize>) -> Self {
        let values = |seen: Option<&Seen>| -> Vec<String> {
            let told = |at: &usize| seen?.told.get(*at).cloned();
            columns.iter().take(VALUES_MAX).filter_map(told).collect()
        };
        Self {
            values: [values(here), values(there.any.first())],
            key,
            how,
            columns,
        }
    }

    /// By its key and columns alone.
    #[must_use]
    pub(super) fn without_values(self) -> Self {
        Self {
            values: [Vec::new(), Vec::new()],
            ..self
        }
    }
}

/// What became of suspects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// They stay different.
    pub(super) different: Vec<Differs>,
    /// So many are the same.
    pub(super) same: u64,
    /// So many did not come to rest.
    pub(super) unsettled: u64,
    /// Why they did not, where it is known.
    pub(super) why: Option<String>,
}

/// Why it was not settled.
#[derive(Debug)]
pub(super) enum Broke {
    /// A server could not be read.
    Read(ReadError),
    /// It is to end.
    Stopped(Stopped),
    /// There is no instant to be had any more, and why.
    NoInstant(String),
}

impl From<ReadError> for Broke {
    fn from(fault: ReadError) -> Self {
        Self::Read(fault)
    }
}

impl From<Stopped> for Broke {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

/// A suspect on its way.
struct Open {
    key: Key,
    last: Option<(Option<Seen>, There)>,
    times: u32,
}

impl Open {
    /// It waits for another round, and many do.
    fn bare(&mut self) {
        if let Some((here, there)) = &mut self.last {
            let seen = here.iter_mut().chain(&mut there.routed);
            seen.chain(&mut there.any).for_each(Seen::bare);
        }
    }
}

/// Looks again at suspects of one table, for `at_most`; what it waits for production is not counted.
///
/// # Errors
/// A server could not be read, or it is to end: then nothing is settled.
pub(super) async fn settle(
    pair: &mut Pair,
    places: &Places<'_>,
    gate: &Gate,
    suspects: Vec<Suspect>,
    at_most: Duration,
) -> Result<Settled, Broke> {
    let mut settled = Settled::default();
    let mut open: HashMap<Box<[u8]>, Open> = HashMap::new();
    for suspect in suspects {
        let new = Open {
            key: suspect.key,
            last: None,
            times: 0,
        };
        open.entry(new.key.canonical.clone()).or_insert(new);
    }
    let (mut spent, mut pause) = (Duration::ZERO, PAUSE);
    while !open.is_empty() {
        let mut rested = Duration::ZERO;
        let mut keys: Vec<Key> = open.values().map(|one| one.key.clone()).collect();
        keys.sort_unstable();
        let mut seen = true;
        for some in keys.chunks(ROUND_KEYS) {
            gate.pass().await?;
            if spent >= at_most {
                break;
            }
            let began = Instant::now();
            let is_last = |key: &Key| {
                let one = open.get(&key.canonical);
                one.is_some_and(|one| one.times + 1 >= ROUNDS)
            };
            let concludes = some.iter().any(is_last);
            let round = round(pair, places, gate, (some, concludes)).await?;
            spent += began.elapsed();
            // The walk goes on beside it, and each of them keeps its share.
            rested = gate.owes(LOOKS * some.len() as u64, round.worked);
            gate.rest_for(rested, || ()).await?;
            seen &= round.caught_up == Ok(CaughtUp::Seen);
            settled.why = round.caught_up.err().or(settled.why);
            for (canonical, look) in round.looks {
                conclude(&mut open, &mut settled, (&*canonical, places.clock), look);
            }
        }
        if open.is_empty() {
            break;
        }
        if spent >= at_most {
            settled.unsettled += open.len() as u64;
            break;
        }
        let wait = if seen { pause / SEEN_PART } else { pause };
        let wait = wait.saturating_sub(rested);
        gate.sleep(wait).await?;
        spent += wait;
        pause = (pause * 3).min(PAUSE_MAX);
    }
    settled
        .different
        .sort_unstable_by(|one, other| one.key.cmp(&other.key));
    Ok(settled)
}

/// Looks at suspects in the instant that the pair shows: what differs there differs, for nothing is on its way. More
/// than `enough` of these are not looked for.
///
/// # Errors
/// A server could not be read: then nothing is settled.
pub(super) async fn settle_at_once(
    pair: &mut Pair,
    places: &Places<'_>,
    suspects: Vec<Suspect>,
    enough: u64,
) -> Result<Settled, ReadError> {
    let mut keys: Vec<Key> = suspects.into_iter().map(|suspect| suspect.key).collect();
    keys.sort_unstable();
    keys.dedup_by(|one, other| one.canonical == other.canonical);
    let mut settled = Settled::default();
    for some in keys.chunks(KEYS_MAX) {
        if settled.different.len() as u64 > enough {
            break;
        }
        let (here, there) = tokio::join!(
            here(&mut pair.primary, places, some, true),
            there(&mut pair.shadow, places, some, true)
        );
        let (here, mut there) = (here?, there?);
        for key in some {
            let there = there.remove(&key.canonical).unwrap_or_default();
            let key = key.clone();
            let both = (here.get(&key.canonical), &there);
            match judge(both.0, both.1, places.clock) {
                Some((how, columns)) => {
                    settled.different.push(Differs::of(key, both, how, columns));
                }
                None => settled.same += 1,
            }
        }
    }
    Ok(settled)
}

/// The primary's rows with these keys, `closely` where it may be said how they differ.
async fn here(
    primary: &mut Reader,
    places: &Places<'_>,
    keys: &[Key],
    closely: bool,
) -> Result<HashMap<Box<[u8]>, Seen>, ReadError> {
    let mut first = HashMap::with_capacity(keys.len());
    for some in keys.chunks(KEYS_MAX) {
        let ask = places.primary.lookup(some);
        let found = rows(primary, places, (&ask, some), closely).await?;
        let found = found.into_iter();
        first.extend(found.filter_map(|(key, seen)| Some((key, seen.into_iter().next()?))));
    }
    Ok(first)
}

/// What the shadow has of these keys: where they belong, and anywhere.
async fn there(
    shadow: &mut Reader,
    places: &Places<'_>,
    keys: &[Key],
    closely: bool,
) -> Result<HashMap<Box<[u8]>, There>, ReadError> {
    let mut found = HashMap::with_capacity(keys.len());
    for some in keys.chunks(KEYS_MAX) {
        let ask = places.shadow.lookup(some);
        let mut routed = rows(shadow, places, (&ask, some), closely).await?;
        let mut any = if places.sharded && places.routed {
            let ask = places.shadow.spots(some);
            rows(shadow, places, (&ask, some), closely).await?
        } else {
            routed.clone()
        };
        for key in some {
            let of = |all: &mut HashMap<Box<[u8]>, Vec<Seen>>| all.remove(&key.canonical);
            let there = There {
                routed: of(&mut routed).and_then(|seen| seen.into_iter().next()),
                any: of(&mut any).unwrap_or_default(),
            };
            found.insert(key.canonical.clone(), there);
        }
    }
    Ok(found)
}

/// What a round saw of a key.
enum Look {
    /// Both sides have the same.
    Same,
    /// The primary's row changed in the round, or the shadow may not have caught up.
    Moved,
    /// Both stood still, and differ.
    Differ(Option<Seen>, There),
}

struct Round {
    looks: Vec<(Box<[u8]>, Look)>,
    caught_up: Result<CaughtUp, String>,
    /// What it took beside that.
    worked: Duration,
}

async fn round(
    pair: &mut Pair,
    places: &Places<'_>,
    gate: &Gate,
    (keys, concludes): (&[Key], bool),
) -> Result<Round, Broke> {
    let began = Instant::now();
    let before = here(&mut pair.primary, places, keys, concludes).await?;
    let read = began.elapsed();
    let on = pair.on();
    let sought = Sought { on, concludes };
    let caught_up = gate.around().caught_up(places.table, sought).await;
    let went_on = Instant::now();
    let mut on_shadow = there(&mut pair.shadow, places, keys, concludes).await?;
    let after = here(&mut pair.primary, places, keys, false).await?;
    let worked = read + went_on.elapsed();
    let mut looks = Vec::with_capacity(keys.len());
    for key in keys {
        let (here, later) = (before.get(&key.canonical), after.get(&key.canonical));
        let there = on_shadow.remove(&key.canonical).unwrap_or_default();
        let look = if here != later {
            Look::Moved
        } else if judge(here, &there, places.clock).is_none() {
            Look::Same
        } else if caught_up.is_err() {
            Look::Moved
        } else {
            Look::Differ(here.cloned(), there)
        };
        looks.push((key.canonical.clone(), look));
    }
    Ok(Round {
        looks,
        caught_up,
        worked,
    })
}

fn conclude(
    open: &mut HashMap<Box<[u8]>, Open>,
    settled: &mut Settled,
    (canonical, clock): (&[u8], Duration),
    look: Look,
) {
    let Some(one) = open.get_mut(canonical) else {
        return;
    };
    match look {
        Look::Same => {
            settled.same += 1;
            open.remove(canonical);
        }
        Look::Moved => {
            one.last = None;
            one.times = 0;
        }
        Look::Differ(here, there) => {
            let now = Some((here, there));
            one.times = if one.last == now { one.times + 1 } else { 1 };
            one.last = now;
            if one.times < ROUNDS {
                one.bare();
                return;
            }
            if let Some(Open {
                key,
                last: Some((here, there)),
                ..
            }) = open.remove(canonical)
                && let Some((how, columns)) = judge(here.as_ref(), &there, clock)
            {
                let both = (here.as_ref(), &there);
                settled.different.push(Differs::of(key, both, how, columns));
            }
        }
    }
}

/// How a row differs, and in which columns; none where it does not. Moments may differ by so much where the mirror wrote
/// them: that is told apart.
fn judge(here: Option<&Seen>, there: &There, clock: Duration) -> Option<(How, Vec<usize>)> {
    match (here, there.any.as_slice()) {
        (None, []) => None,
        (None, _) => Some((How::Extra, Vec::new())),
        (Some(_), []) => Some((How::Missing, Vec::new())),
        (Some(_), [_, _, ..]) => Some((How::Twice, Vec::new())),
        (Some(_), [_]) if there.routed.is_none() => Some((How::Misplaced, Vec::new())),
        (Some(mine), [theirs]) if mine == theirs => None,
        (Some(mine), [theirs]) => {
            let columns = mine.columns.iter().enumerate();
            let differ = columns.filter(|(at, digest)| theirs.columns.get(*at) != Some(digest));
            let differ: Vec<usize> = differ.map(|(at, _)| at).collect();
            let is_clock =
                !differ.is_empty() && differ.iter().all(|at| near(mine, theirs, *at, clock));
            let how = if is_clock { How::Clock } else { How::Changed };
            Some((how, differ))
        }
    }
}

/// Whether both have a moment in this column, no further apart than that.
fn near(mine: &Seen, theirs: &Seen, at: usize, clock: Duration) -> bool {
    let moment = |seen: &Seen| seen.moments.get(at).copied().flatten();
    let (Some(mine), Some(theirs)) = (moment(mine), moment(theirs)) else {
        return false;
    };
    mine.saturating_sub(theirs).unsigned_abs() <= clock
}

/// Rows with these keys, by the canonical form. Of one key there may be several, on several shards; more than
/// two say nothing more. Rows with other keys, which the collation takes for these, are left out.
async fn rows(
    reader: &mut Reader,
    places: &Places<'_>,
    (ask, keys): (&str, &[Key]),
    closely: bool,
) -> Result<HashMap<Box<[u8]>, Vec<Seen>>, ReadError> {
    let plan = places.primary.plan;
    let mut found: HashMap<Box<[u8]>, Vec<Seen>> = keys
        .iter()
        .map(|key| (key.canonical.clone(), Vec::new()))
        .collect();
    let mut buffer = Vec::new();
    reader.ask(ask).await?;
    while let Some(cells) = reader.next().await? {
        let mut columns = Vec::with_capacity(plan.columns.len());
        let (mut moments, mut told) = (Vec::new(), Vec::new());
        for (at, column) in plan.columns.iter().enumerate() {
            let cell = cells.get(at).copied().flatten();
            buffer.clear();
            value::write(&mut buffer, column.form, cell);
            columns.push(value::digest(&buffer));
            if closely {
                moments.push(value::instant(column.form, cell));
            }
            if closely && places.tells {
                told.push(statements::told(column, cell));
            }
        }
        let key = super::rows::Row::read(plan, &cells, &mut buffer).key;
        if let Some(seen) = found.get_mut(&key.canonical).filter(|seen| seen.len() < 2) {
            seen.push(Seen {
                columns,
                moments,
                told,
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Duration = Duration::from_secs(1);

    fn seen(values: &[u128]) -> Seen {
        Seen {
            columns: values.to_vec(),
            moments: Vec::new(),
            told: Vec::new(),
        }
    }

    fn judge(here: Option<&Seen>, there: &There) -> Option<(How, Vec<usize>)> {
        super::judge(here, there, CLOCK)
    }

    #[test]
    fn moments_that_are_near_are_the_clocks_where_nothing_else_differs() {
        let of = |id: u128, moments: &[Option<&str>]| {
            let digest = |moment: &Option<&str>| value::digest(moment.unwrap_or("").as_bytes());
            let form = super::super::types::Form::Moment;
            let read = |moment: &Option<&str>| value::instant(form, moment.map(str::as_bytes));
            let columns = [id].into_iter().chain(moments.iter().map(digest));
            let read = [None].into_iter().chain(moments.iter().map(read));
            Seen {
                columns: columns.collect(),
                moments: read.collect(),
                told: Vec::new(),
            }
        };
        let how = |one: &Seen, other: &Seen| {
            let there = There {
                routed: Some(other.clone()),
                any: vec![other.clone()],
            };
            judge(Some(one), &there)
        };
        let at = |second: &str| of(1, &[Some(second), Some("2024-01-01 00:00:00")]);
        let mine = at("2024-02-29 23:59:59");
        let clock = Some((How::Clock, vec![1]));
        assert_eq!(how(&mine, &at("2024-03-01 00:00:00")), clock);
        assert_eq!(how(&mine, &at("2024-02-29 23:59:58.5")), clock);
        let further = at("2024-03-01 00:00:00.000001");
        assert_eq!(how(&mine, &further), Some((How::Changed, vec![1])));
        // Anything else beside it, and it is a change like any other.
        let other = of(
            2,
            &[Some("2024-03-01 00:00:00"), Some("2024-01-01 00:00:00")],
        );
        assert_eq!(how(&mine, &other), Some((How::Changed, vec![0, 1])));
        let none = of(1, &[None, Some("2024-01-01 00:00:00")]);
        assert_eq!(how(&mine, &none), Some((How::Changed, vec![1])));
    }

    fn there(routed: Option<&[u128]>, any: &[&[u128]]) -> There {
        There {
            routed: routed.map(seen),
            any: any.iter().map(|one| seen(one)).collect(),
        }
    }

    #[test]
    fn a_row_is_judged_by_what_both_have() {
        let here = seen(&[1, 2, 3]);
        let on = Some(&here);
        assert_eq!(judge(on, &there(Some(&[1, 2, 3]), &[&[1, 2, 3]])), None);
        assert_eq!(judge(None, &There::default()), None);
        assert_eq!(judge(on, &There::default()), Some((How::Missing, vec![])));
        assert_eq!(
            judge(None, &there(Some(&[1, 2, 3]), &[&[1, 2, 3]])),
            Some((How::Extra, vec![]))
        );
        let changed = judge(on, &there(Some(&[1, 9, 3]), &[&[1, 9, 3]]));
        assert_eq!(changed, Some((How::Changed, vec![1])));
        let twice = judge(on, &there(Some(&[1, 2, 3]), &[&[1, 2, 3], &[1, 2, 3]]));
        assert_eq!(twice, Some((How::Twice, vec![])));
        assert_eq!(
            judge(on, &there(None, &[&[1, 2, 3]])),
            Some((How::Misplaced, vec![]))
        );
        assert_eq!(
            judge(None, &there(None, &[&[1, 2, 3]])),
            Some((How::Extra, vec![]))
        );
    }

    fn open() -> (Key, HashMap<Box<[u8]>, Open>) {
        let key = Key {
            canonical: [1].into(),
            values: Vec::new(),
        };
        let one = Open {
            key: key.clone(),
            last: None,
            times: 0,
        };
        (key, HashMap::from([([1].into(), one)]))
    }

    #[test]
    fn a_difference_must_stay_the_same_to_be_one() {
        let (key, mut all) = open();
        let mut settled = Settled::default();
        let differ = |value: u128| Look::Differ(Some(seen(&[value])), There::default());
        let mut see = |look, settled: &mut Settled| {
            conclude(&mut all, settled, (&*key.canonical, CLOCK), look);
        };
        see(differ(1), &mut settled);
        see(differ(1), &mut settled);
        // Another one: it begins anew.
        see(differ(2), &mut settled);
        see(differ(2), &mut settled);
        see(Look::Moved, &mut settled);
        see(differ(2), &mut settled);
        see(differ(2), &mut settled);
        assert_eq!(settled, Settled::default());
        see(differ(2), &mut settled);
        assert_eq!(settled.different.len(), 1);
        assert_eq!(settled.different[0].how, How::Missing);
    }

    #[test]
    fn what_is_the_same_once_was_a_race() {
        let (key, mut all) = open();
        let mut settled = Settled::default();
        conclude(
            &mut all,
            &mut settled,
            (&*key.canonical, CLOCK),
            Look::Differ(Some(seen(&[1])), There::default()),
        );
        let place = (&*key.canonical, CLOCK);
        conclude(&mut all, &mut settled, place, Look::Same);
        assert_eq!(
            (settled.same, settled.different.len(), all.len()),
            (1, 0, 0)
        );
    }
}

//! In which order commands of different sessions run on the shadow. Pure: a ticket is registered
//! for each in hand-over order, says which earlier ones it waits for, and is completed once.
//!
//! A *commit point* is an autocommit write or the end of a transaction that wrote. The rules:
//! - a read waits for the commit points on its tables that were acknowledged before it began; the
//!   read that opens a snapshot counts as reading every table, later ones in it wait for nothing;
//! - a write waits for all commit points on its tables that were handed over before it, and for
//!   the rollbacks: it may have stood behind their locks;
//! - a commit point waits for the reads on its tables that were acknowledged before it began, those
//!   of other writes (INSERT … SELECT) and those that opened a snapshot among them, but never for
//!   other open transactions' writes, which may wait for it in the shadow's lock queue;
//! - DDL waits for everything on its tables, and everything later on them waits for it.
//!
//! A ticket waits for earlier ones only, so there is no circle. But a read may stand behind a
//! write of its own session that waits on the shadow for a lock which the waiting commit holds
//! (gap locks differ between one table and its shards): so a commit waits for reads a short time
//! only, and a read that was overtaken is judged as one. It refuses to know statements,
//! sessions' states or clocks: instants are compared, never read.

#[cfg(feature = "simulation")]
use crate::planted;
use crate::sql::Table;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::time::Instant;

pub(super) use super::scope::Scope;

/// A command's place among all others: its number in hand-over order.
pub(super) type Place = u64;

/// How a command takes part in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A read outside transactions, or one in READ COMMITTED: it sees what is committed when it
    /// begins.
    Read,
    /// The read that opens a REPEATABLE READ snapshot.
    Snapshot,
    /// A later read within a snapshot.
    Within,
    /// A write or locking read in a transaction.
    Write,
    /// An autocommit write: a commit point.
    Commit,
    /// The end of a transaction that wrote: a commit point.
    End,
    /// The rollback of a transaction that wrote: nobody sees it, but it lets locks go.
    Rollback,
    /// DDL.
    Ddl,
}

/// A command to be put in order.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The session's number.
    pub(super) session: u64,
    /// How it takes part.
    pub(super) part: Part,
    /// The tables it touches.
    pub(super) scope: Scope,
    /// Those that it writes or locks, where it is a write in a transaction.
    pub(super) writes: Scope,
    /// When the primary was sent its first byte.
    pub(super) began: Instant,
    /// When the primary's answer was complete.
    pub(super) acked: Instant,
    /// Its fingerprint, where it is a command that runs.
    pub(super) statement: Option<Arc<str>>,
}

/// What a ticket waits for: in each lane, the places up to and including a last one.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits(Vec<Wait>);

#[derive(Clone, Debug)]
struct Wait {
    lane: Option<Table>,
    sort: Sort,
    until: Place,
}

/// What is waited for, and up to which acknowledgement.
type Asked = (Sort, Option<Instant>);

/// What lies in a lane, by what others ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Commits,
    /// Commits and rollbacks.
    Ends,
    Reads,
    Barriers,
    Everything,
}

/// Lanes that are kept though they are empty: the next command on the table finds its own.
const LANES_MAX: usize = 1024;

/// Of each kind so many are looked at for the one that holds up the others.
const FOREMOST: usize = 16;

/// All tickets that are not yet completed.
#[derive(Debug, Default)]
pub(super) struct Order {
    next: Place,
    open: HashMap<Place, Request>,
    /// Those that do not run yet, and when the primary acknowledged them.
    waiting: BTreeMap<Place, Instant>,
    tables: HashMap<Table, Lane>,
    /// Those that may touch any table.
    anywhere: Lane,
    /// Every one of them.
    all: Lane,
}

#[derive(Debug, Default)]
struct Lane {
    commits: BTreeMap<Place, Instant>,
    rollbacks: BTreeMap<Place, Instant>,
    reads: BTreeMap<Place, Instant>,
    barriers: BTreeMap<Place, Instant>,
    rest: BTreeMap<Place, Instant>,
}

impl Order {
    /// Puts a command behind all that were registered before; says its place and what it waits for.
    pub(super) fn register(&mut self, request: Request) -> (Place, Waits) {
        let place = self.next;
        self.next += 1;
        let waits = self.waits(&request, place);
        self.all.insert(place, &request, None);
        if request.lies_anywhere() {
            self.anywhere.insert(place, &request, None);
        } else if let Scope::Known(tables) = &request.scope {
            for table in tables.iter() {
                if let Some(lane) = self.tables.get_mut(table) {
                    lane.insert(place, &request, Some(table));
                } else {
                    let lane = self.tables.entry(table.clone()).or_default();
                    lane.insert(place, &request, Some(table));
                }
            }
        }
        self.waiting.insert(place, request.acked);
        self.open.insert(place, request);
        (place, waits)
    }

    /// The last of those that the ticket waits for and that are still open. `patient`: reads
    /// count, too.
    pub(super) fn blocker(&self, waits: &Waits, patient: bool) -> Option<Place> {
        let waits = waits.0.iter();
        let waits = waits.filter(|wait| patient || wait.sort != Sort::Reads);
        waits
            .filter_map(|wait| {
                let lane = match &wait.lane {
                    None => Some(&self.all),
                    Some(table) => self.tables.get(table),
                };
                let own = lane.and_then(|lane| lane.blocker(wait.sort, wait.until));
                let anywhere = wait.lane.as_ref();
                let anywhere = anywhere.and_then(|_| self.anywhere.blocker(wait.sort, wait.until));
                own.max(anywhere)
            })
            .max()
    }

    /// The command runs: it waits no longer.
    pub(super) fn start(&mut self, place: Place) {
        self.waiting.remove(&place);
    }

    /// The command has its answer from the shadow, or will never run. A second call does nothing.
    pub(super) fn complete(&mut self, place: Place) {
        let Some(request) = self.open.remove(&place) else {
            return;
        };
        self.waiting.remove(&place);
        self.all.remove(place);
        if request.lies_anywhere() {
            self.anywhere.remove(place);
        } else if let Scope::Known(tables) = &request.scope {
            for table in tables.iter() {
                if let Some(lane) = self.tables.get_mut(table) {
                    lane.remove(place);
                    if lane.is_empty() && self.tables.len() > LANES_MAX {
                        self.tables.remove(table);
                    }
                }
            }
        }
    }

    /// Tickets that are not yet completed.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// When the oldest of those that wait was acknowledged by the primary. One that runs for long
    /// is not behind.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, acked)| *acked)
    }

    /// When the primary acknowledged the first of those that are not yet completed. Looks at each of them: for who asks
    /// now and then, and decides by it.
    pub(super) fn acked_first(&self) -> Option<Instant> {
        self.open.values().map(|request| request.acked).min()
    }

    /// Of the few that were handed over first and are not yet completed, what the primary acknowledged first, and whether
    /// it runs. However many there are, no more are looked at: they come nearly in the order of their acknowledgements,
    /// and nothing is decided by this.
    pub(super) fn foremost(&self) -> Option<(&Request, bool)> {
        let rows = self.all.rows(Sort::Everything);
        let few = rows.flat_map(|row| row.iter().take(FOREMOST));
        let (place, _) = few.min_by_key(|(place, acked)| (**acked, **place))?;
        let request = self.open.get(place)?;
        Some((request, !self.waiting.contains_key(place)))
    }

    /// Sessions with a command that waits and that the primary acknowledged before then.
    pub(super) fn sessions_behind(&self, then: Instant) -> BTreeSet<u64> {
        let behind = self.waiting.iter().filter(|(_, acked)| **acked < then);
        behind
            .filter_map(|(place, _)| Some(self.open.get(place)?.session))
            .collect()
    }

    fn waits(&self, request: &Request, place: Place) -> Waits {
        let mut waits = Waits::default();
        let Some(last) = place.checked_sub(1).filter(|_| !self.open.is_empty()) else {
            return waits;
        };
        #[cfg(feature = "simulation")]
        if planted::measures() == Some(planted::Measured::Unordered) {
            return waits;
        }
        let (own, began) = (&request.scope, Some(request.began));
        let mut add = |scope: &Scope, asked: &[Asked]| {
            let asked = asked.iter();
            let asked = asked.filter(|(sort, _)| !is_planted_away(request.part, *sort));
            self.add(&mut waits, scope, asked, last);
        };
        match request.part {
            Part::Read => add(own, &[(Sort::Commits, began), (Sort::Barriers, None)]),
            Part::Snapshot => {
                add(&Scope::All, &[(Sort::Commits, began)]);
                add(own, &[(Sort::Barriers, None)]);
            }
            Part::Within => add(own, &[(Sort::Barriers, None)]),
            Part::Write => add(own, &[(Sort::Ends, None), (Sort::Barriers, None)]),
            Part::Commit => add(
                own,
                &[
                    (Sort::Ends, None),
                    (Sort::Reads, began),
                    (Sort::Barriers, None),
                ],
            ),
            Part::End => {
                add(
                    own,
                    &[
                        (Sort::Commits, began),
                        (Sort::Reads, began),
                        // Not for DDL that overlapped it: on the shadow that may wait for this
                        // very end.
                        (Sort::Barriers, began),
                    ],
                );
                #[cfg(feature = "simulation")]
                if planted::is(planted::Bug::EndsWaitForWrites) {
                    add(own, &[(Sort::Everything, None)]);
                }
            }
            Part::Rollback => {}
            Part::Ddl => add(own, &[(Sort::Everything, None)]),
        }
        waits
    }

    fn add<'a>(
        &self,
        waits: &mut Waits,
        scope: &Scope,
        asked: impl Iterator<Item = &'a Asked> + Clone,
        last: Place,
    ) {
        // Where most read, nothing of what they wait for is open on any table.
        let mut open = asked.filter(|(sort, _)| self.all.has(*sort)).peekable();
        if open.peek().is_none() {
            return;
        }
        let mut of_lane = |table: Option<&Table>| {
            let lane = match table {
                None => Some(&self.all),
                Some(table) => self.tables.get(table),
            };
            for (sort, before) in open.clone() {
                let own = lane.and_then(|lane| lane.last(*sort, *before, last));
                let anywhere = table.and_then(|_| self.anywhere.last(*sort, *before, last));
                if let Some(until) = own.max(anywhere) {
                    waits.0.push(Wait {
                        lane: table.cloned(),
                        sort: *sort,
                        until,
                    });
                }
            }
        };
        match scope {
            Scope::All => of_lane(None),
            Scope::Known(tables) => tables.iter().for_each(|table| of_lane(Some(table))),
        }
    }
}

impl Waits {
    /// Whether it waits for nothing.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Request {
    /// Whether it lies in every table's lane: a snapshot may be read from any of them.
    fn lies_anywhere(&self) -> bool {
        self.part == Part::Snapshot || self.scope == Scope::All
    }

    /// Whether it touches tables that it does not write.
    fn reads_beyond_its_writes(&self) -> bool {
        match (&self.scope, &self.writes) {
            (Scope::Known(touched), writes) => touched.iter().any(|table| !writes.has(table)),
            (Scope::All, writes) => *writes != Scope::All,
        }
    }
}

/// A rule that a planted bug takes out.
#[cfg(feature = "simulation")]
fn is_planted_away(part: Part, sort: Sort) -> bool {
    use planted::{Bug, is};
    match (part, sort) {
        (Part::Read | Part::Snapshot, Sort::Commits) => is(Bug::ReadsOvertake),
        (Part::Commit | Part::End, Sort::Reads) => is(Bug::CommitsOvertakeReads),
        (Part::Write | Part::Commit, Sort::Ends) => is(Bug::WritesOvertake),
        _ => false,
    }
}

#[cfg(not(feature = "simulation"))]
const fn is_planted_away(_: Part, _: Sort) -> bool {
    false
}

impl Lane {
    /// `table`: whose lane this is. Without one it is a lane of many tables: there counts as a read what
    /// is one in the lane of any, so that who finds no read in it need not look elsewhere.
    fn insert(&mut self, place: Place, request: &Request, table: Option<&Table>) {
        let only_reads = || match table {
            Some(table) => !request.writes.has(table),
            None => request.reads_beyond_its_writes(),
        };
        let row = match request.part {
            Part::Read | Part::Snapshot => &mut self.reads,
            Part::Commit | Part::End => &mut self.commits,
            Part::Rollback => &mut self.rollbacks,
            Part::Ddl => &mut self.barriers,
            // INSERT … SELECT reads its other tables as a read does.
            Part::Write if only_reads() => &mut self.reads,
            Part::Write | Part::Within => &mut self.rest,
        };
        row.insert(place, request.acked);
    }

    fn remove(&mut self, place: Place) {
        for row in [
            &mut self.commits,
            &mut self.rollbacks,
            &mut self.reads,
            &mut self.barriers,
            &mut self.rest,
        ] {
            row.remove(&place);
        }
    }

    fn is_empty(&self) -> bool {
        self.rows(Sort::Everything).all(BTreeMap::is_empty)
    }

    /// Whether there is one of this sort.
    fn has(&self, sort: Sort) -> bool {
        self.rows(sort).any(|row| !row.is_empty())
    }

    /// The last place of this sort, up to `last`, that was acknowledged no later than `before`.
    fn last(&self, sort: Sort, before: Option<Instant>, last: Place) -> Option<Place> {
        self.rows(sort)
            .filter_map(|row| {
                row.range(..=last)
                    .rev()
                    .find(|(_, acked)| before.is_none_or(|before| **acked <= before))
                    .map(|(place, _)| *place)
            })
            .max()
    }

    fn blocker(&self, sort: Sort, until: Place) -> Option<Place> {
        self.rows(sort)
            .filter_map(|row| row.range(..=until).next_back().map(|(place, _)| *place))
            .max()
    }

    fn rows(&self, sort: Sort) -> impl Iterator<Item = &BTreeMap<Place, Instant>> {
        let everything = sort == Sort::Everything;
        let ends = sort == Sort::Ends;
        [
            (ends || sort == Sort::Commits, &self.commits),
            (ends, &self.rollbacks),
            (sort == Sort::Reads, &self.reads),
            (sort == Sort::Barriers, &self.barriers),
            (false, &self.rest),
        ]
        .into_iter()
        .filter(move |(asked, _)| everything || *asked)
        .map(|(_, row)| row)
    }
}

#[cfg(test)]
mod tests;

//! In which order commands of different sessions run on the shadow. Pure: a ticket is registered
//! for each in hand-over order, says which earlier ones it waits for, and is completed once.
//!
//! A *commit point* is an autocommit write or the end of a transaction that wrote. The rules:
//! - a read waits for the commit points on its tables that were acknowledged before it began; the
//!   read that opens a snapshot counts as reading every table, later ones in it wait for nothing;
//! - a write waits for all commit points on its tables that were handed over before it;
//! - a commit point waits for the reads on its tables that were acknowledged before it began, but
//!   never for other open transactions' writes, which may wait for it in the shadow's lock queue;
//! - DDL waits for everything on its tables, and everything later on them waits for it.
//!
//! A ticket waits for earlier ones only, so there is no circle. But a read may stand behind a
//! write of its own session that waits on the shadow for a lock which the waiting commit holds
//! (gap locks differ between one table and its shards): so a commit waits for reads a short time
//! only, and a read that was overtaken is judged as one. It refuses to know statements,
//! sessions' states or clocks: instants are compared, never read.

use crate::sql::{Table, Tables};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio::time::Instant;

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
    /// DDL.
    Ddl,
}

/// The tables that a command touches, as far as the order must know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// These and no others, qualified by their database.
    Known(BTreeSet<Table>),
    /// Perhaps any.
    All,
}

impl Scope {
    /// The scope of a statement's tables, unqualified ones taken to be in `database`.
    pub(super) fn of(tables: &Tables, database: &str) -> Self {
        match tables {
            Tables::Known(tables) => Self::Known(
                tables
                    .iter()
                    .map(|table| qualified(table, database))
                    .collect(),
            ),
            Tables::Unknown => Self::All,
        }
    }

    /// The tables, as far as they are known.
    pub(super) fn tables(&self) -> Vec<Table> {
        match self {
            Self::Known(tables) => tables.iter().cloned().collect(),
            Self::All => Vec::new(),
        }
    }

    /// The tables for a taint: where they are not known, all of the database.
    pub(super) fn taintable(&self, database: &str) -> Vec<Table> {
        match self {
            Self::Known(tables) => tables.iter().cloned().collect(),
            Self::All => vec![Table {
                database: (!database.is_empty()).then(|| database.to_owned()),
                name: "*".to_owned(),
            }],
        }
    }

    /// No table at all.
    pub(super) const fn none() -> Self {
        Self::Known(BTreeSet::new())
    }

    /// Whether it is known to touch nothing.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Known(tables) if tables.is_empty())
    }

    /// Whether both may touch the same table.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(mine), Self::Known(theirs)) => !mine.is_disjoint(theirs),
            (Self::All, one) | (one, Self::All) => !one.is_empty(),
        }
    }

    /// This scope and `other` together; past [`SCOPE_TABLES_MAX`] tables it is [`Scope::All`].
    pub(super) fn join(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (Self::Known(_), Self::All) => *self = Self::All,
            (Self::Known(mine), Self::Known(theirs)) => {
                mine.extend(theirs.iter().cloned());
                if mine.len() > SCOPE_TABLES_MAX {
                    *self = Self::All;
                }
            }
        }
    }
}

/// A transaction that touches more tables than this counts as touching all: what is remembered of
/// it stays small.
const SCOPE_TABLES_MAX: usize = 256;

/// The table with the session's database filled in.
pub(super) fn qualified(table: &Table, database: &str) -> Table {
    match &table.database {
        Some(_) => table.clone(),
        None => Table {
            database: (!database.is_empty()).then(|| database.to_owned()),
            name: table.name.clone(),
        },
    }
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
    /// When the primary was sent its first byte.
    pub(super) began: Instant,
    /// When the primary's answer was complete.
    pub(super) acked: Instant,
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

/// What lies in a lane, by what others ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Commits,
    Reads,
    Barriers,
    Everything,
}

/// All tickets that are not yet completed.
#[derive(Debug, Default)]
pub(super) struct Order {
    next: Place,
    open: BTreeMap<Place, Request>,
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
        self.all.insert(place, &request);
        match &request.scope {
            Scope::All => self.anywhere.insert(place, &request),
            Scope::Known(tables) => {
                for table in tables {
                    self.tables
                        .entry(table.clone())
                        .or_default()
                        .insert(place, &request);
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
        match &request.scope {
            Scope::All => self.anywhere.remove(place),
            Scope::Known(tables) => {
                for table in tables {
                    if let Some(lane) = self.tables.get_mut(table) {
                        lane.remove(place);
                        if lane.is_empty() {
                            self.tables.remove(table);
                        }
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

    /// Sessions with a command that waits and that the primary acknowledged before then.
    pub(super) fn sessions_behind(&self, then: Instant) -> usize {
        let behind = self.waiting.iter().filter(|(_, acked)| **acked < then);
        let sessions: BTreeSet<u64> = behind
            .filter_map(|(place, _)| Some(self.open.get(place)?.session))
            .collect();
        sessions.len()
    }

    fn waits(&self, request: &Request, place: Place) -> Waits {
        let Some(last) = place.checked_sub(1) else {
            return Waits::default();
        };
        let mut waits = Waits::default();
        let own = &request.scope;
        let began = request.began;
        let mut add = |scope: &Scope, sort: Sort, before: Option<Instant>| {
            self.add(&mut waits, scope, (sort, before, last));
        };
        match request.part {
            Part::Read => {
                add(own, Sort::Commits, Some(began));
                add(own, Sort::Barriers, None);
            }
            Part::Snapshot => {
                add(&Scope::All, Sort::Commits, Some(began));
                add(own, Sort::Barriers, None);
            }
            Part::Within => add(own, Sort::Barriers, None),
            Part::Write => {
                add(own, Sort::Commits, None);
                add(own, Sort::Barriers, None);
            }
            Part::Commit => {
                add(own, Sort::Commits, None);
                add(own, Sort::Reads, Some(began));
                add(own, Sort::Barriers, None);
            }
            Part::End => {
                add(own, Sort::Commits, Some(began));
                add(own, Sort::Reads, Some(began));
                // Not for DDL that overlapped it: on the shadow that may wait for this very end.
                add(own, Sort::Barriers, Some(began));
            }
            Part::Ddl => add(own, Sort::Everything, None),
        }
        waits
    }

    fn add(&self, waits: &mut Waits, scope: &Scope, what: (Sort, Option<Instant>, Place)) {
        let (sort, before, last) = what;
        let lanes: Vec<Option<&Table>> = match scope {
            Scope::All => vec![None],
            Scope::Known(tables) => tables.iter().map(Some).collect(),
        };
        for table in lanes {
            let lane = match table {
                None => Some(&self.all),
                Some(table) => self.tables.get(table),
            };
            let own = lane.and_then(|lane| lane.last(sort, before, last));
            let anywhere = table.and_then(|_| self.anywhere.last(sort, before, last));
            if let Some(until) = own.max(anywhere) {
                waits.0.push(Wait {
                    lane: table.cloned(),
                    sort,
                    until,
                });
            }
        }
    }
}

impl Lane {
    fn insert(&mut self, place: Place, request: &Request) {
        let row = match request.part {
            Part::Read | Part::Snapshot => &mut self.reads,
            Part::Commit | Part::End => &mut self.commits,
            Part::Ddl => &mut self.barriers,
            Part::Write | Part::Within => &mut self.rest,
        };
        row.insert(place, request.acked);
    }

    fn remove(&mut self, place: Place) {
        for row in [
            &mut self.commits,
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
        [
            (Sort::Commits, &self.commits),
            (Sort::Reads, &self.reads),
            (Sort::Barriers, &self.barriers),
            (Sort::Everything, &self.rest),
        ]
        .into_iter()
        .filter(move |(own, _)| everything || *own == sort)
        .map(|(_, row)| row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn scope(names: &[&str]) -> Scope {
        Scope::Known(
            names
                .iter()
                .map(|name| Table {
                    database: Some("app".into()),
                    name: (*name).into(),
                })
                .collect(),
        )
    }

    /// Registers `(part, tables, began, acked)` in turn; returns for each the places it waits for.
    fn waits_of(history: &[(Part, Scope, u64, u64)]) -> Vec<Vec<Place>> {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut all = Vec::new();
        for upto in 0..history.len() {
            // What the last one waits for: those whose completion alone is missing.
            let mut found = Vec::new();
            for missing in 0..upto {
                let mut order = Order::default();
                let mut last = Waits::default();
                for (part, scope, began, acked) in &history[..=upto] {
                    let request = Request {
                        session: 0,
                        part: *part,
                        scope: scope.clone(),
                        began: at(*began),
                        acked: at(*acked),
                    };
                    last = order.register(request).1;
                }
                for place in (0..upto).filter(|place| *place != missing) {
                    order.complete(place as u64);
                }
                if order.blocker(&last, true).is_some() {
                    found.push(missing as u64);
                }
            }
            all.push(found);
        }
        all
    }

    #[test]
    fn a_read_waits_for_the_commits_acknowledged_before_it_began() {
        let history = [
            (Part::Commit, scope(&["a"]), 0, 5),
            (Part::Commit, scope(&["b"]), 0, 6),
            (Part::Commit, scope(&["a"]), 7, 12),
            (Part::Read, scope(&["a"]), 10, 13),
        ];
        assert_eq!(waits_of(&history)[3], [0]);
    }

    #[test]
    fn the_read_that_opens_a_snapshot_waits_for_every_table_and_the_next_for_none() {
        let history = [
            (Part::Commit, scope(&["a"]), 0, 5),
            (Part::Commit, scope(&["b"]), 0, 6),
            (Part::Snapshot, scope(&["a"]), 10, 13),
            (Part::Within, scope(&["a"]), 14, 15),
        ];
        let waits = waits_of(&history);
        assert_eq!(waits[2], [0, 1]);
        assert_eq!(waits[3], [0; 0]);
    }

    #[test]
    fn a_write_waits_for_every_earlier_commit_on_its_tables_even_an_overlapping_one() {
        let history = [
            (Part::Commit, scope(&["a"]), 0, 5),
            (Part::Write, scope(&["a"]), 1, 6),
            (Part::Commit, scope(&["a"]), 1, 7),
        ];
        let waits = waits_of(&history);
        assert_eq!(waits[1], [0]);
        assert_eq!(waits[2], [0]);
    }

    #[test]
    fn a_commit_never_waits_for_open_writes_nor_for_what_overlapped_it() {
        let history = [
            (Part::Write, scope(&["a"]), 0, 1),
            (Part::Commit, scope(&["a"]), 2, 9),
            (Part::Read, scope(&["a"]), 2, 3),
            (Part::End, scope(&["a"]), 5, 10),
        ];
        assert_eq!(waits_of(&history)[3], [2]);
    }

    #[test]
    fn ddl_is_a_barrier_for_its_tables_alone() {
        let history = [
            (Part::Write, scope(&["a"]), 0, 1),
            (Part::Within, scope(&["a"]), 0, 1),
            (Part::Read, scope(&["b"]), 0, 1),
            (Part::Ddl, scope(&["a"]), 2, 3),
            (Part::Within, scope(&["a"]), 2, 4),
            (Part::Read, scope(&["b"]), 2, 4),
        ];
        let waits = waits_of(&history);
        assert_eq!(waits[3], [0, 1]);
        assert_eq!(waits[4], [3]);
        assert_eq!(waits[5], [0; 0]);
    }

    #[test]
    fn a_table_is_the_same_in_whatever_case_it_is_named() {
        assert!(scope(&["Users"]).meets(&scope(&["users"])));
        let history = [
            (Part::Commit, scope(&["Users"]), 0, 1),
            (Part::Read, scope(&["users"]), 2, 3),
        ];
        assert_eq!(waits_of(&history)[1], [0]);
    }

    #[test]
    fn unknown_tables_are_all_tables() {
        let history = [
            (Part::Commit, Scope::All, 0, 1),
            (Part::Commit, scope(&["a"]), 0, 2),
            (Part::Read, scope(&["b"]), 3, 4),
            (Part::Read, Scope::All, 3, 4),
        ];
        let waits = waits_of(&history);
        assert_eq!(waits[2], [0]);
        assert_eq!(waits[3], [0, 1]);
    }

    #[test]
    fn the_oldest_is_one_that_waits_not_one_that_runs() {
        let start = Instant::now();
        let mut order = Order::default();
        let mut register = |ms| {
            let acked = start + Duration::from_millis(ms);
            let request = Request {
                session: 0,
                part: Part::Read,
                scope: scope(&["a"]),
                began: start,
                acked,
            };
            (order.register(request).0, acked)
        };
        let (slow, _) = register(1);
        let (_, acked) = register(2);
        order.start(slow);
        assert_eq!(order.oldest(), Some(acked));
    }

    fn part() -> impl Strategy<Value = Part> {
        prop_oneof![
            Just(Part::Read),
            Just(Part::Snapshot),
            Just(Part::Within),
            Just(Part::Write),
            Just(Part::Commit),
            Just(Part::End),
            Just(Part::Ddl),
        ]
    }

    fn tables() -> impl Strategy<Value = Scope> {
        prop_oneof![
            8 => prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..3)
                .prop_map(|names| scope(&names)),
            1 => Just(Scope::All),
        ]
    }

    fn commits(part: Part) -> bool {
        matches!(part, Part::Commit | Part::End | Part::Ddl)
    }

    proptest! {
        /// A model: commands are registered in the order of their acknowledgement and completed in
        /// a random order that the tickets allow. Whatever order comes out keeps the rules, and
        /// the first open one is never blocked: no deadlock.
        #[test]
        fn every_order_that_the_tickets_allow_keeps_the_rules(
            drawn in prop::collection::vec((part(), tables(), 0u64..40, 0u64..20), 1..40),
            picks in prop::collection::vec(any::<u16>(), 40),
        ) {
            let start = Instant::now();
            let mut history: Vec<_> = drawn
                .into_iter()
                .map(|(part, scope, began, took)| (part, scope, began, began + took))
                .collect();
            history.sort_by_key(|(_, _, _, acked)| *acked);
            let mut order = Order::default();
            let mut open = Vec::new();
            for (part, scope, began, acked) in &history {
                let request = Request {
                    session: 0,
                    part: *part,
                    scope: scope.clone(),
                    began: start + Duration::from_millis(*began),
                    acked: start + Duration::from_millis(*acked),
                };
                open.push(order.register(request));
            }
            let mut done: Vec<usize> = Vec::new();
            let mut picks = picks.into_iter();
            while !open.is_empty() {
                prop_assert!(order.blocker(&open[0].1, true).is_none(), "the first open ticket is blocked");
                let free: Vec<usize> =
                    (0..open.len()).filter(|i| order.blocker(&open[*i].1, true).is_none()).collect();
                let pick = free[usize::from(picks.next().unwrap_or(0)) % free.len()];
                let (place, _) = open.remove(pick);
                order.complete(place);
                done.push(usize::try_from(place).unwrap());
            }
            prop_assert_eq!(order.len(), 0);
            prop_assert!(order.tables.is_empty());
            for (nth, later) in done.iter().enumerate() {
                for earlier in &done[nth + 1..] {
                    // `later` ran before `earlier` on the shadow, and was handed over after it.
                    if earlier > later {
                        continue;
                    }
                    let (e_part, e_scope, _, e_acked) = &history[*earlier];
                    let (l_part, l_scope, l_began, _) = &history[*later];
                    let meets = e_scope.meets(l_scope);
                    let causal = e_acked <= l_began;
                    let broken = match l_part {
                        Part::Read => commits(*e_part) && causal && meets,
                        Part::Snapshot => matches!(e_part, Part::Commit | Part::End) && causal,
                        Part::Within => *e_part == Part::Ddl && meets,
                        Part::Write => commits(*e_part) && meets,
                        Part::Commit => {
                            meets && (commits(*e_part)
                                || matches!(e_part, Part::Read | Part::Snapshot) && causal)
                        }
                        Part::End => {
                            meets && causal
                                && !matches!(e_part, Part::Write | Part::Within)
                        }
                        Part::Ddl => meets,
                    };
                    prop_assert!(!broken, "{:?} overtook {:?}", history[*later], history[*earlier]);
                }
            }
        }
    }
}

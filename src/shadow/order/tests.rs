//! What waits for what, rule by rule, and a property over all of them.

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
                    writes: scope.clone(),
                    began: at(*began),
                    acked: at(*acked),
                    statement: None,
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

/// Finding: who looked at a cutover had all that was open scanned, however much it was, while the line was held.
#[test]
fn what_holds_up_the_others_is_sought_among_the_few_that_came_first() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut order = Order::default();
    assert!(order.foremost().is_none() && order.acked_first().is_none());
    for place in 0..40 {
        // Two come later than others that were acknowledged after them.
        let acked = match place {
            3 => 50,
            30 => 10,
            place => 100 + place,
        };
        order.register(Request {
            session: place,
            part: Part::Commit,
            scope: scope(&["a"]),
            writes: Scope::none(),
            began: at(acked),
            acked: at(acked),
            statement: None,
        });
    }
    let first = |order: &Order| {
        let (request, runs) = order.foremost().unwrap();
        (request.session, runs)
    };
    assert_eq!(first(&order), (3, false));
    assert_eq!(order.acked_first(), Some(at(10)), "who decides has all");
    order.start(3);
    assert_eq!(first(&order), (3, true));
    for place in 0..4 {
        order.complete(place);
    }
    assert_eq!(first(&order), (4, false));
    for place in 4..15 {
        order.complete(place);
    }
    assert_eq!(first(&order), (30, false));
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
fn a_commit_waits_for_what_an_open_transaction_reads_to_write_elsewhere() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let request = |part, touched: Scope, writes: Scope, began| Request {
        session: 0,
        part,
        scope: touched,
        writes,
        began: at(began),
        acked: at(began + 1),
        statement: None,
    };
    let (a, b) = (scope(&["a"]), scope(&["b"]));
    for (touched, part, on, waits) in [
        (scope(&["a", "b"]), Part::Commit, &a, true),
        (scope(&["a", "b"]), Part::End, &a, true),
        (scope(&["a", "b"]), Part::Commit, &Scope::All, true),
        // It may wait for this one on the shadow.
        (scope(&["a", "b"]), Part::Commit, &b, false),
        (b.clone(), Part::Commit, &b, false),
        // Of several statements one opened a snapshot.
        (Scope::All, Part::Commit, &a, true),
    ] {
        let mut order = Order::default();
        let reads = request(Part::Write, touched.clone(), b.clone(), 0);
        let (place, _) = order.register(reads);
        let (_, asked) = order.register(request(part, on.clone(), on.clone(), 2));
        let expected = waits.then_some(place);
        assert_eq!(
            order.blocker(&asked, true),
            expected,
            "{touched:?} {part:?} {on:?}"
        );
        assert_eq!(order.blocker(&asked, false), None, "with patience alone");
        order.complete(place);
        assert_eq!(order.blocker(&asked, true), None);
    }
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
            writes: Scope::none(),
            began: start,
            acked,
            statement: None,
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
        Just(Part::Rollback),
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

/// Some of the tables, or no more than that of those that may be any.
fn some_of(scope: &Scope, drawn: u8) -> Scope {
    match scope {
        _ if drawn.is_multiple_of(4) => scope.clone(),
        Scope::All => self::scope(&["a"]),
        Scope::Known(tables) => {
            let mut bits = drawn;
            let chosen = tables.iter().filter(|_| {
                bits >>= 1;
                bits & 1 != 0
            });
            Scope::Known(chosen.cloned().collect())
        }
    }
}

/// What a write in a transaction reads and does not write.
fn beyond(scope: &Scope, writes: &Scope) -> Scope {
    match (scope, writes) {
        (_, Scope::All) => Scope::none(),
        (Scope::All, Scope::Known(_)) => Scope::All,
        (Scope::Known(touched), writes) => {
            let only = touched.iter().filter(|table| !writes.has(table));
            Scope::Known(only.cloned().collect())
        }
    }
}

/// Whether it reads what the other, with this scope, touches.
fn reads((part, scope, writes): (Part, &Scope, &Scope), other: &Scope) -> bool {
    match part {
        Part::Read => scope.meets(other),
        Part::Snapshot => true,
        Part::Write => beyond(scope, writes).meets(other),
        _ => false,
    }
}

proptest! {
    /// A model: commands are registered in the order of their acknowledgement and completed in
    /// a random order that the tickets allow. Whatever order comes out keeps the rules, and
    /// the first open one is never blocked: no deadlock.
    #[test]
    fn every_order_that_the_tickets_allow_keeps_the_rules(
        drawn in prop::collection::vec((part(), tables(), any::<u8>(), 0u64..40, 0u64..20), 1..40),
        picks in prop::collection::vec(any::<u16>(), 40),
    ) {
        let start = Instant::now();
        let mut history: Vec<_> = drawn
            .into_iter()
            .map(|(part, scope, drawn, began, took)| {
                let writes = some_of(&scope, drawn);
                (part, scope, writes, began, began + took)
            })
            .collect();
        history.sort_by_key(|(.., acked)| *acked);
        let mut order = Order::default();
        let mut open = Vec::new();
        for (part, scope, writes, began, acked) in &history {
            let request = Request {
                session: 0,
                part: *part,
                scope: scope.clone(),
                writes: writes.clone(),
                began: start + Duration::from_millis(*began),
                acked: start + Duration::from_millis(*acked),
                statement: None,
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
        prop_assert!(order.tables.values().all(Lane::is_empty));
        for (nth, later) in done.iter().enumerate() {
            for earlier in &done[nth + 1..] {
                // `later` ran before `earlier` on the shadow, and was handed over after it.
                if earlier > later {
                    continue;
                }
                let (e_part, e_scope, e_writes, _, e_acked) = &history[*earlier];
                let (l_part, l_scope, _, l_began, _) = &history[*later];
                let meets = e_scope.meets(l_scope);
                let reads = reads((*e_part, e_scope, e_writes), l_scope);
                let causal = e_acked <= l_began;
                let broken = match l_part {
                    Part::Read => commits(*e_part) && causal && meets,
                    Part::Snapshot => matches!(e_part, Part::Commit | Part::End) && causal,
                    Part::Within => *e_part == Part::Ddl && meets,
                    Part::Write => (commits(*e_part) || *e_part == Part::Rollback) && meets,
                    Part::Commit => {
                        meets && (commits(*e_part) || *e_part == Part::Rollback)
                            || reads && causal
                    }
                    Part::End => {
                        causal && (meets && commits(*e_part) || reads)
                    }
                    Part::Rollback => false,
                    Part::Ddl => meets,
                };
                prop_assert!(!broken, "{:?} overtook {:?}", history[*later], history[*earlier]);
            }
        }
    }
}

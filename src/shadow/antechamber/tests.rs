use super::*;
use crate::tee::{Charged, End, Exchange, Facts, Limits, Share, door};
use crate::wire::answer::Answer;
use crate::wire::capability::Capabilities;
use std::sync::Arc;
use tokio::time::Instant;

fn facts(session: u64) -> Arc<Facts> {
    Arc::new(Facts {
        session,
        login: 0,
        user: "app".into(),
        database: "app".into(),
        capabilities: Capabilities::default(),
        collation: 45,
        primary: "legacy".into(),
        thread_id: 1,
        share: Arc::new(Share::default()),
    })
}

fn exchange(facts: &Arc<Facts>, seq: u64, bytes: usize) -> Exchange {
    let now = Instant::now();
    Exchange {
        facts: Arc::clone(facts),
        seq,
        command: vec![3; bytes],
        command_bytes: bytes as u64,
        in_transaction_before: false,
        answer: Answer::default(),
        answered: true,
        began: now,
        sent: now,
        first_byte: now,
        acked: now,
    }
}

fn seq(handed: Option<Handed>) -> Option<u64> {
    match handed? {
        Handed::Exchange(one) => Some(one.seq),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_lies_there_comes_out_in_its_order_once_the_replays_have_caught_up() {
    let (tee, _receiver) = door(Limits::default());
    let (budget, facts) = (tee.budget(), facts(1));
    let mut antechamber = Antechamber::default();
    for n in 1..=3 {
        let free = Charged::free(exchange(&facts, n, 10));
        antechamber.enter(Handed::Exchange(free), n != 1, &budget);
    }
    assert_eq!(seq(antechamber.next(true)), None);
    let out: Vec<_> = (0..4).map(|_| seq(antechamber.next(false))).collect();
    assert_eq!(out, [Some(1), Some(2), Some(3), None]);
    assert!(antechamber.is_empty());
}

#[test]
fn all_of_it_is_let_in_where_room_runs_short_and_none_once_it_is_there_again() {
    let (tee, mut receiver) = door(Limits {
        queue_bytes: 100_000,
        ..Limits::default()
    });
    let (budget, facts) = (tee.budget(), facts(1));
    let mut antechamber = Antechamber::default();
    let mut hand = |antechamber: &mut Antechamber, n, bytes| {
        tee.hand(exchange(&facts, n, bytes));
        antechamber.enter(receiver.try_recv().expect("it fits"), true, &budget);
    };
    hand(&mut antechamber, 1, 40_000);
    assert_eq!(seq(antechamber.next(true)), None);
    hand(&mut antechamber, 2, 50_000);
    for n in [Some(1), Some(2), None] {
        assert_eq!(seq(antechamber.next(true)), n);
    }
    hand(&mut antechamber, 3, 100);
    assert_eq!(seq(antechamber.next(true)), None, "there is room again");
    assert!(!antechamber.is_empty());
}

#[test]
fn what_was_lost_lets_all_of_it_in() {
    let (tee, _receiver) = door(Limits::default());
    let (budget, facts) = (tee.budget(), facts(1));
    let mut antechamber = Antechamber::default();
    let free = Charged::free(exchange(&facts, 1, 10));
    antechamber.enter(Handed::Exchange(free), true, &budget);
    antechamber.enter(
        Handed::Closed {
            session: 2,
            end: End::Left,
        },
        true,
        &budget,
    );
    assert!(antechamber.next(true).is_none());
    antechamber.enter(Handed::Lost(facts), true, &budget);
    let mut let_in = Vec::new();
    while let Some(handed) = antechamber.next(true) {
        let_in.push(format!("{handed:?}"));
    }
    assert_eq!(let_in.len(), 3, "{let_in:?}");
    assert!(let_in[2].starts_with("Lost"), "{let_in:?}");
}

#[test]
fn the_replays_are_far_behind_with_many_commands_and_no_open_transaction() {
    let standing = |busy, connections, open| Standing {
        busy,
        connections,
        open,
    };
    assert!(standing(1024, 8, 0).is_far_behind());
    assert!(!standing(1023, 8, 0).is_far_behind());
    assert!(
        !standing(1024, 8, 1).is_far_behind(),
        "its end may free others"
    );
    assert!(
        !standing(3_999, 1_000, 0).is_far_behind(),
        "each is to be seen"
    );
    assert!(standing(4_000, 1_000, 0).is_far_behind());
}

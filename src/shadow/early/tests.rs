use super::*;
use crate::config::Writes;
use crate::tee::{End, Exchange, Facts, Limits, Tee, door};
use crate::wire::answer::Answer;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const CONTROL: Control = Control {
    reads: true,
    writes: Writes::Apply,
    sample: 1.0,
    paused: false,
    observe: true,
    flows_back: false,
};

/// Room for a few commands, and for a few that are cut.
const SMALL: Limits = Limits {
    queue_bytes: 16 << 10,
    session_queue_bytes: 8 << 10,
    stub_bytes: 4 << 10,
    slots: 4096,
    sessions: 4096,
};

fn facts(session: u64) -> Arc<Facts> {
    Facts::plain(session, &Arc::default())
}

fn says(tee: &Tee, facts: &Arc<Facts>, seq: u64) {
    let now = Instant::now();
    tee.hand(Exchange {
        facts: Arc::clone(facts),
        seq,
        command: b"\x03INSERT INTO t VALUES (1)".to_vec(),
        command_bytes: 25,
        in_transaction_before: false,
        answer: Answer::default(),
        answered: true,
        began: now,
        sent: now,
        first_byte: now,
        acked: now,
    });
}

/// Has what came be taken in.
fn take(early: &mut Early) {
    while let Some(handed) = early.receiver.try_recv() {
        early.enter(handed);
    }
}

fn losses(before: &mut Before) -> usize {
    let all = std::iter::from_fn(|| before.antechamber.next());
    all.filter(|(handed, _)| matches!(handed, Handed::Lost(_)))
        .count()
}

#[tokio::test(start_paused = true)]
async fn what_is_said_is_collected_in_its_order_until_a_mirror_begins() {
    let (tee, receiver) = door(Limits {
        slots: 64,
        ..Limits::default()
    });
    let end = CancellationToken::new();
    let early = Early::new(receiver, CONTROL).collect(end.clone().cancelled_owned());
    let collecting = crate::task::spawn("early", early);
    let one = facts(7);
    // Many more than the tee has room for.
    for seq in 1..=1_000 {
        says(&tee, &one, seq);
        if seq % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    end.cancel();
    let (_receiver, mut before) = collecting.await.unwrap().end();
    assert_eq!((tee.handed(), tee.lost(), tee.stubbed()), (1_000, 0, 0));
    assert!(before.waited >= Duration::from_millis(200) && !before.is_full);
    for seq in 1..=1_000 {
        match before.antechamber.next() {
            Some((Handed::Exchange(one), came)) => {
                assert_eq!((one.seq, came.journal_unknown), (seq, false));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(before.antechamber.is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_ends_where_no_tee_is_left() {
    let (tee, receiver) = door(Limits::default());
    says(&tee, &facts(1), 1);
    drop(tee);
    let early = Early::new(receiver, CONTROL);
    let early = early.collect(std::future::pending()).await;
    assert_eq!(early.antechamber.len(), 1);
}

/// Finding: each command that had no room left something that nobody counted.
#[test]
fn a_session_that_says_more_than_fits_leaves_one_loss() {
    let (tee, receiver) = door(SMALL);
    let mut early = Early::new(receiver, CONTROL);
    let one = facts(1);
    for seq in 0..100_000 {
        says(&tee, &one, seq);
        take(&mut early);
    }
    assert!(tee.lost() > 99_000);
    assert!(early.antechamber.len() < 100, "{}", early.antechamber.len());
    // Others have their room still.
    says(&tee, &facts(2), 1);
    take(&mut early);
    assert!(early.antechamber.has(2));
    assert_eq!(tee.regard(), Regard::Compare);
    let (_receiver, mut before) = early.end();
    assert!(!before.is_full);
    assert_eq!(losses(&mut before), 1);
}

/// Finding: so did each session that came and went.
#[test]
fn where_too_many_sessions_have_lost_something_all_passes_by() {
    let (tee, receiver) = door(SMALL);
    let mut early = Early::new(receiver, CONTROL);
    for session in 0..50_000 {
        let one = facts(session);
        says(&tee, &one, 1);
        says(&tee, &one, 2);
        tee.closed(&one, End::Left);
        take(&mut early);
    }
    assert_eq!(tee.regard(), Regard::Nothing);
    assert!(tee.passed() > 90_000, "{}", tee.passed());
    let most = 3 * LOST_MAX;
    assert!(
        early.antechamber.len() < most,
        "{}",
        early.antechamber.len()
    );
    let (_receiver, mut before) = early.end();
    assert!(before.is_full);
    assert_eq!(losses(&mut before), LOST_MAX);
}

#[test]
fn no_more_is_wanted_than_the_switches_say() {
    for (reads, observe, regard) in [
        (true, false, Regard::Compare),
        (false, true, Regard::Follow),
        (false, false, Regard::Nothing),
    ] {
        let (tee, receiver) = door(Limits::default());
        let control = Control {
            reads,
            writes: Writes::Off,
            observe,
            ..CONTROL
        };
        let mut early = Early::new(receiver, control);
        assert_eq!(tee.regard(), regard);
        says(&tee, &facts(1), 1);
        take(&mut early);
        assert_eq!(early.antechamber.is_empty(), regard == Regard::Nothing);
    }
}

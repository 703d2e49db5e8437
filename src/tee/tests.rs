use super::*;
use crate::wire::status::Status;
use std::time::Duration;

fn exchange(facts: &Arc<Facts>, seq: u64, command: &[u8], sample: usize) -> Exchange {
    let now = Instant::now();
    Exchange {
        facts: Arc::clone(facts),
        seq,
        command: command.to_vec(),
        command_bytes: command.len() as u64,
        in_transaction_before: false,
        answer: Answer {
            sample: vec![0; sample],
            sample_whole: true,
            status: Some(Status(Status::IN_TRANS)),
            ..Answer::default()
        },
        answered: true,
        began: now,
        sent: now,
        first_byte: now,
        acked: now,
    }
}

fn query(bytes: usize) -> Vec<u8> {
    let mut query = vec![b'x'; bytes];
    query[0] = Command::QUERY.0;
    query
}

/// What came through, as text.
fn drain(receiver: &mut Receiver) -> Vec<String> {
    std::iter::from_fn(|| receiver.try_recv())
        .map(|handed| match handed {
            Handed::Exchange(it) => {
                format!("exchange {} sample {}", it.seq, it.answer.sample.len())
            }
            Handed::Stub(it) => format!("stub {} of {}", it.seq, it.command.len()),
            Handed::Lost(facts) => format!("lost {}", facts.session),
            Handed::Passed(facts) => format!("passed {}", facts.session),
            Handed::Closed { session, end } => format!("closed {session} {end:?}"),
        })
        .collect()
}

#[test]
fn what_is_handed_comes_out_in_order_and_gives_its_bytes_back() {
    let (tee, mut receiver) = door(Limits::default());
    let facts = Facts::plain(7, &Arc::default());
    tee.hand(exchange(&facts, 1, &query(10), 100));
    tee.hand(exchange(&facts, 2, &[Command::STMT_CLOSE.0, 1, 0, 0, 0], 0));
    tee.closed(&facts, End::Left);
    assert!(tee.budget().used() > 110);
    let seen = drain(&mut receiver);
    assert_eq!(
        seen,
        [
            "exchange 1 sample 100",
            "exchange 2 sample 0",
            "closed 7 Left"
        ]
    );
    assert_eq!((tee.budget().used(), facts.share.used()), (0, 0));
    assert_eq!(
        (tee.handed(), tee.lost()),
        (1, 0),
        "a CLOSE is no counted command"
    );
}

#[test]
fn a_full_budget_takes_first_the_sample_then_all_but_a_stub_then_the_journal() {
    let limits = Limits {
        queue_bytes: 20_000,
        session_queue_bytes: 20_000,
        stub_bytes: 1_500,
        slots: 8,
        sessions: 1,
    };
    let (tee, mut receiver) = door(limits);
    let facts = Facts::plain(7, &Arc::default());
    tee.hand(exchange(&facts, 1, &query(12_000), 0));
    tee.hand(exchange(&facts, 2, &query(2_000), 6_000));
    tee.hand(exchange(&facts, 3, &query(9_000), 0));
    assert!(!facts.share.journal_unknown());
    tee.hand(exchange(&facts, 4, &query(9_000), 0));
    tee.hand(exchange(&facts, 5, &query(9_000), 0));
    assert!(facts.share.journal_unknown());
    tee.closed(&facts, End::Vanished);
    assert!(tee.budget().used() <= tee.budget().max());
    assert!(tee.budget().stubs_used() <= limits.stub_bytes);
    let counts = (tee.handed(), tee.samples_shed(), tee.stubbed(), tee.lost());
    assert_eq!(counts, (5, 1, 1, 2));
    let seen = drain(&mut receiver);
    let expected = [
        "exchange 1 sample 0",
        "exchange 2 sample 0",
        "stub 3 of 1024",
        "lost 7",
        "closed 7 Vanished",
    ];
    assert_eq!(seen, expected);
    assert_eq!((tee.budget().used(), tee.budget().stubs_used()), (0, 0));
}

#[test]
fn one_session_cannot_use_up_what_others_need() {
    let limits = Limits {
        session_queue_bytes: 2_000,
        ..Limits::default()
    };
    let (tee, mut receiver) = door(limits);
    let (greedy, modest) = (
        Facts::plain(1, &Arc::default()),
        Facts::plain(2, &Arc::default()),
    );
    tee.hand(exchange(&greedy, 1, &query(5_000), 0));
    tee.hand(exchange(&modest, 1, &query(500), 0));
    assert_eq!(
        drain(&mut receiver),
        ["stub 1 of 1024", "exchange 1 sample 0"]
    );
}

#[test]
fn a_sessions_end_is_told_even_where_the_slots_are_full() {
    let (tee, mut receiver) = door(Limits {
        slots: 1,
        sessions: 1,
        ..Limits::default()
    });
    let (first, second) = (
        Facts::plain(1, &Arc::default()),
        Facts::plain(2, &Arc::default()),
    );
    tee.hand(exchange(&first, 1, &query(1), 0));
    tee.hand(exchange(&first, 2, &query(1), 0));
    tee.hand(exchange(&second, 1, &query(1), 0));
    tee.closed(&first, End::Left);
    tee.closed(&second, End::Left);
    assert_eq!(
        drain(&mut receiver),
        ["exchange 1 sample 0", "lost 1", "closed 1 Left"]
    );
    assert!(second.share.journal_unknown());
    assert_eq!((tee.lost(), tee.lost_unsaid()), (2, 1));
    tee.hand(exchange(&second, 2, &query(1), 0));
    assert_eq!(
        drain(&mut receiver),
        ["exchange 2 sample 0"],
        "the place is free again"
    );
}

#[test]
fn a_sample_that_is_shed_later_gives_its_bytes_back() {
    let (tee, mut receiver) = door(Limits::default());
    let facts = Facts::plain(1, &Arc::default());
    tee.hand(exchange(&facts, 1, &query(10), 5_000));
    let Some(Handed::Exchange(mut charged)) = receiver.try_recv() else {
        panic!("an exchange")
    };
    let before = tee.budget().used();
    charged.shed_sample();
    assert_eq!(before - tee.budget().used(), 5_000);
    assert!(!charged.answer.sample_whole);
    drop(charged);
    assert_eq!(tee.budget().used(), 0);
}

#[test]
fn buffers_come_back_unless_they_have_grown() {
    let (tee, mut receiver) = door(Limits::default());
    let facts = Facts::plain(1, &Arc::default());
    tee.hand(exchange(&facts, 1, &query(300), 0));
    drain(&mut receiver);
    assert!(tee.blank(&facts).command.capacity() >= 300);
    tee.hand(exchange(&facts, 2, &query(1 << 20), 0));
    drain(&mut receiver);
    assert_eq!(tee.blank(&facts).command.capacity(), 0);
}

#[test]
fn what_is_put_aside_is_the_same_and_leaves_its_buffers_to_the_relay() {
    let (tee, mut receiver) = door(Limits::default());
    let facts = Facts::plain(1, &Arc::default());
    let mut roomy = exchange(&facts, 7, &query(300), 200);
    roomy.command.reserve_exact(4_000);
    tee.hand(roomy);
    let Some(Handed::Exchange(charged)) = receiver.try_recv() else {
        panic!("an exchange")
    };
    let told = |one: &Exchange| format!("{} {:?} {:?}", one.seq, one.command, one.answer);
    let (before, came) = (tee.budget().used(), told(&charged));
    let aside = charged.put_aside();
    assert_eq!(told(&aside), came);
    assert!(tee.budget().used() + 3_000 < before, "as large as it is");
    assert_eq!(tee.budget().used(), aside.bytes());
    let blank = tee.blank(&facts);
    assert!(
        blank.command.capacity() >= 4_000,
        "the relay has its own back"
    );
    assert!(blank.command.is_empty());
    drop(aside);
    assert_eq!((tee.budget().used(), facts.share.used()), (0, 0));
    assert_eq!(tee.blank(&facts).command.capacity(), 0, "the copy is gone");
}

#[test]
fn what_would_not_be_kept_is_put_aside_as_it_is() {
    let (tee, mut receiver) = door(Limits::default());
    let facts = Facts::plain(1, &Arc::default());
    tee.hand(exchange(&facts, 1, &query(1 << 20), 0));
    let Some(Handed::Exchange(charged)) = receiver.try_recv() else {
        panic!("an exchange")
    };
    let (before, at) = (tee.budget().used(), charged.command.as_ptr());
    let aside = charged.put_aside();
    assert_eq!((tee.budget().used(), aside.command.as_ptr()), (before, at));
}

#[tokio::test]
async fn the_receiver_ends_once_every_tee_is_gone() {
    let (tee, mut receiver) = door(Limits::default());
    let facts = Facts::plain(1, &Arc::default());
    tee.clone().hand(exchange(&facts, 1, &query(1), 0));
    drop(tee);
    assert!(matches!(receiver.recv().await, Some(Handed::Exchange(_))));
    assert!(receiver.recv().await.is_none());
}

#[test]
fn nothing_is_missed_across_runtimes() {
    const EACH: u64 = 20_000;
    let (tee, mut receiver) = door(Limits::default());
    let senders: Vec<_> = (0..2)
        .map(|session| {
            let tee = tee.clone();
            let facts = Facts::plain(session, &Arc::default());
            std::thread::spawn(move || {
                for seq in 1..=EACH {
                    tee.hand(exchange(&facts, seq, &query(20), 0));
                    if seq % 64 == 0 {
                        std::thread::sleep(Duration::from_micros(20));
                    }
                }
                tee.closed(&facts, End::Left);
            })
        })
        .collect();
    let watch = tee.clone();
    drop(tee);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let received = runtime.block_on(async {
        let (mut received, mut closed) = (0, 0);
        while closed < 2 {
            let next = tokio::time::timeout(Duration::from_secs(20), receiver.recv());
            match next.await.expect("a wake-up was missed") {
                Some(Handed::Closed { .. }) => closed += 1,
                Some(Handed::Lost(_) | Handed::Passed(_)) | None => {}
                Some(Handed::Exchange(_) | Handed::Stub(_)) => received += 1,
            }
        }
        received
    });
    for sender in senders {
        sender.join().unwrap();
    }
    assert_eq!(received + watch.lost(), 2 * EACH);
    assert_eq!(watch.handed(), 2 * EACH);
    // It dozes while they come, and needs no waking.
    assert!(watch.wakes() <= 2 * EACH / 16, "{}", watch.wakes());
}

#[test]
fn what_passes_by_is_counted_and_told_once_when_somebody_wants_to_know_again() {
    let (tee, mut receiver) = door(Limits::default());
    let appraisal = receiver.appraisal();
    let (first, second) = (
        Facts::plain(1, &Arc::default()),
        Facts::plain(2, &Arc::default()),
    );
    tee.hand(exchange(&first, 1, &query(10), 100));
    appraisal.set(Regard::Nothing);
    for seq in 2..5 {
        tee.hand(exchange(&first, seq, &query(10), 100));
    }
    tee.hand(exchange(
        &second,
        1,
        &[Command::STMT_CLOSE.0, 1, 0, 0, 0],
        0,
    ));
    assert_eq!(drain(&mut receiver), ["exchange 1 sample 100"]);
    assert_eq!(
        (tee.handed(), tee.passed()),
        (1, 3),
        "a CLOSE has no answer"
    );
    assert!(first.share.journal_unknown() && second.share.journal_unknown());
    assert_eq!(tee.budget().used(), 0);

    appraisal.set(Regard::Follow);
    for seq in 5..7 {
        tee.hand(exchange(&first, seq, &query(10), 0));
    }
    tee.closed(&first, End::Left);
    tee.closed(&second, End::Left);
    assert_eq!(
        drain(&mut receiver),
        [
            "passed 1",
            "exchange 5 sample 0",
            "exchange 6 sample 0",
            "closed 1 Left"
        ],
        "of the second nobody ever heard"
    );
}

/// Finding: a session of which nothing was ever handed over became a tunnel, and nobody heard of it.
#[test]
fn a_tunnel_of_one_that_never_entered_is_a_loss() {
    let (tee, mut receiver) = door(Limits::default());
    receiver.appraisal().set(Regard::Nothing);
    let of = |session| Facts::plain(session, &Arc::default());
    tee.closed(&of(1), End::Left);
    assert_eq!(tee.lost_unsaid(), 0, "it is gone");
    tee.closed(&of(2), End::Tunnelled);
    assert_eq!((tee.lost_unsaid(), receiver.lost_unsaid()), (1, 1));
    assert!(drain(&mut receiver).is_empty());
}

#[test]
fn a_loss_is_told_of_though_it_waits_to_be_told_that_others_passed_by() {
    let limits = Limits {
        slots: 1,
        ..Limits::default()
    };
    let (tee, mut receiver) = door(limits);
    let appraisal = receiver.appraisal();
    let (first, second) = (
        Facts::plain(1, &Arc::default()),
        Facts::plain(2, &Arc::default()),
    );
    appraisal.set(Regard::Nothing);
    tee.hand(exchange(&first, 1, &query(10), 0));
    appraisal.set(Regard::Compare);
    tee.hand(exchange(&second, 1, &query(10), 0));
    tee.hand(exchange(&first, 2, &query(10), 0));
    assert_eq!(
        drain(&mut receiver),
        ["exchange 1 sample 0", "passed 1", "lost 1"]
    );
}

//! Sessions that go on with another primary: whose bytes go where, and the ids of statements.

use super::gate::{exchange, leg, rest, world};
use super::world::*;
use crate::relay::book::{Book, ClientThen, Limits, PrimaryThen};
use crate::relay::counters::Counters;
use crate::relay::own::Own;
use crate::relay::{Leg, StandIn, Then};
use crate::tee::{self, Facts, Handed, Receiver, Share};
use crate::wire::answer::Failure;
use crate::wire::capability::Capabilities;
use crate::wire::status::Status;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// A command that names a statement.
fn naming(kind: u8, id: u32, rest: &[u8]) -> Vec<u8> {
    [&[kind], &id.to_le_bytes()[..], rest].concat()
}

/// The answer to a PREPARE without parameters and columns.
fn prepared(id: u32) -> Vec<u8> {
    [&[0], &id.to_le_bytes()[..], &[0; 7]].concat()
}

#[tokio::test(start_paused = true)]
async fn a_moved_session_speaks_to_the_new_primary_only() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut old) = world.session().await;
    exchange(&mut client, &mut old, b"\x0e", 2).await;
    world.relay.hold();
    let waiting = desk.recv().await.unwrap();
    client.say(0, b"\x03select 1").await;
    let (leg, mut new) = leg(&[]);
    world.flip();
    waiting.say(|old| {
        crate::relay::part_with(old);
        Then::Moved(leg)
    });
    assert_eq!(old.hear().await, (0, vec![1]));
    assert!(old.rest().await.is_empty());
    assert_eq!(new.hear().await.1, b"\x03select 1");
    world.relay.resume();
    new.send(&rows(&[b"1"], 3)).await;
    client.expect(&rows(&[b"1"], 3)).await;
    world.relay.call();
    rest().await;
    let census = world.relay.census();
    assert_eq!(census.unheld[0].thread_id, 70, "the new primary's");
    assert!(census.unheld[0].in_transaction);
    let mut seen = Vec::new();
    while let Some(Handed::Exchange(it)) = world.receiver.try_recv() {
        let facts = &it.facts;
        assert_eq!((facts.session, facts.thread_id), (1, 7), "the client's");
        seen.push((it.seq, facts.primary.to_string()));
    }
    assert_eq!(seen, [(1, "legacy".into()), (2, "vitess".into())]);
    // The way back is the same.
    exchange(&mut client, &mut new, b"\x03commit", 2).await;
    world.flip();
    world.relay.hold();
    let waiting = desk.recv().await.unwrap();
    assert_eq!((waiting.held.seq, waiting.held.thread_id), (3, 70));
    let at = world.relay.connection(1).unwrap();
    assert_eq!(at.thread_id, 70, "the new primary's");
    assert_eq!(&*waiting.held.facts.primary, "vitess");
    assert_eq!(world.relay.counters().moved.value(), 1);
}

/// Every command that names a statement, both ways, cut everywhere.
#[tokio::test(start_paused = true)]
async fn ids_are_translated_however_the_bytes_are_cut() {
    let says = [
        naming(0x17, 3, b"\0\x01\0\0\0"),
        b"\x16select 2".to_vec(),
        naming(0x18, 9, &[0; 40]),
        naming(0x1c, 4, &[1, 0, 0, 0]),
        naming(0x1a, 3, b""),
        naming(0x19, 9, b""),
        naming(0x17, 10, b"\0\x01\0\0\0"),
        naming(0x17, 9, b"\0\x01\0\0\0"),
    ];
    let hears = [
        naming(0x17, 1, b"\0\x01\0\0\0"),
        b"\x16select 2".to_vec(),
        naming(0x18, 2, &[0; 40]),
        naming(0x1c, 300, &[1, 0, 0, 0]),
        naming(0x1a, 1, b""),
        naming(0x19, 2, b""),
        naming(0x17, 0x0A0B_0C0D, b"\0\x01\0\0\0"),
        // It was closed, and no server has a statement 0.
        naming(0x17, 0, b"\0\x01\0\0\0"),
    ];
    let unknown = error(1243, "Unknown prepared statement handler");
    let answers = [ok(2), prepared(0x0A0B_0C0D), ok(2), ok(2), ok(2), unknown];
    let told = [ok(2), prepared(10), ok(2), ok(2), ok(2), answers[5].clone()];
    // FETCH is answered with the end of the rows.
    let eof = vec![0xFE, 0, 0, 0x80, 0];
    let wire = |payloads: &[Vec<u8>], seq| -> Vec<u8> {
        payloads.iter().flat_map(|it| packet(seq, it)).collect()
    };
    let (says, hears) = (wire(&says, 0), wire(&hears, 0));
    let put_eof = |mut payloads: [Vec<u8>; 6]| {
        payloads[2] = eof.clone();
        wire(&payloads, 1)
    };
    let (answers, told) = (put_eof(answers), put_eof(told));
    for piece in (1..24).chain([says.len()]) {
        let (mut world, mut desk) = world(Setting::default());
        let (mut client, _old) = world.session().await;
        world.relay.hold();
        let (leg, mut new) = leg(&[(3, 1), (9, 2), (4, 300)]);
        desk.recv().await.unwrap().say(|_| Then::Moved(leg));
        // The statement that is run last must have been told before.
        let known = wire(&[naming(0x17, 10, b"\0\x01\0\0\0")], 0).len() * 2;
        let (first, second) = says.split_at(says.len() - known);
        for bytes in first.chunks(piece) {
            client.send(bytes).await;
            tokio::task::yield_now().await;
        }
        new.expect(&hears[..first.len()]).await;
        let tail = wire(
            &[ok(2), error(1243, "Unknown prepared statement handler")],
            1,
        )
        .len();
        let (early, late) = answers.split_at(answers.len() - tail);
        for bytes in early.chunks(piece) {
            new.send(bytes).await;
            tokio::task::yield_now().await;
        }
        client.expect(&told[..early.len()]).await;
        for bytes in second.chunks(piece) {
            client.send(bytes).await;
            tokio::task::yield_now().await;
        }
        new.expect(&hears[first.len()..]).await;
        new.send(late).await;
        client.expect(&told[early.len()..]).await;
        // What is handed has the client's ids.
        let mut ids = Vec::new();
        while let Some(Handed::Exchange(it)) = world.receiver.try_recv() {
            match it.answer.prepared() {
                Some((id, _)) => ids.push(id),
                None => ids.push(u32::from(it.command[1])),
            }
        }
        assert_eq!(ids, [3, 10, 9, 4, 3, 9, 10, 9], "in pieces of {piece}");
        world.relay.resume();
        world.relay.hold();
        let held = desk.recv().await.unwrap().held;
        let pairs = vec![(3, 1), (4, 300), (10, 0x0A0B_0C0D)];
        assert_eq!(held.statements, Some(pairs));
        assert_eq!(world.relay.sessions().tunnelled, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_bytes_of_an_id_and_the_first_of_a_command_wait_for_the_rest() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, _old) = world.session().await;
    world.relay.hold();
    let (leg, mut new) = leg(&[(3, 0x0101_0101)]);
    desk.recv().await.unwrap().say(|_| Then::Moved(leg));
    let (says, hears) = (
        packet(0, &naming(0x17, 3, b"\0\x01")),
        packet(0, &naming(0x17, 0x0101_0101, b"\0\x01")),
    );
    for at in 0..says.len() {
        client.send(&says[at..=at]).await;
        match at {
            // It may be a KILL.
            0..4 => assert!(new.is_silent().await, "{at}"),
            4 => new.expect(&hears[..5]).await,
            5..8 => assert!(new.is_silent().await, "{at}"),
            8 => new.expect(&hears[5..9]).await,
            _ => new.expect(&hears[at..=at]).await,
        }
    }
    // A client that vanishes within an id has begun a command and not ended it.
    new.say(1, &ok(2)).await;
    client.hear().await;
    client.send(&says[..7]).await;
    drop(client);
    assert_eq!(new.rest().await, &says[..5]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.handed().last().unwrap(), "Vanished");
    assert_eq!(world.relay.sessions().open, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_prepared_last_is_said_by_the_servers_id() {
    let last = u32::MAX;
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, _old) = world.session().await;
    world.relay.hold();
    let (leg, mut new) = leg(&[(3, 1), (9, 2)]);
    desk.recv().await.unwrap().say(|_| Then::Moved(leg));
    let run = naming(0x17, last, b"\0");
    client.say(0, &run).await;
    assert_eq!(new.hear().await.1, naming(0x17, 2, b"\0"));
    new.say(1, &ok(2)).await;
    client.hear().await;
    // Which one it will be is not known before the answer: the server is asked by the same id.
    client.say(0, b"\x16select 1").await;
    client.say(0, &run).await;
    new.hear().await;
    assert_eq!(new.hear().await.1, run);
    new.say(1, &prepared(5)).await;
    new.say(1, &ok(2)).await;
    assert_eq!(client.hear().await.1, prepared(10));
    client.hear().await;
    client.say(0, &run).await;
    assert_eq!(new.hear().await.1, naming(0x17, 5, b"\0"));
    new.say(1, &ok(2)).await;
    client.hear().await;
    client.say(0, b"\x16bad").await;
    new.hear().await;
    new.say(1, &error(1064, "bad")).await;
    assert_eq!(client.hear().await.1, error(1064, "bad"));
    client.say(0, &run).await;
    assert_eq!(new.hear().await.1, run);
}

#[tokio::test(start_paused = true)]
async fn a_reset_forgets_the_statements_if_it_is_granted() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, _old) = world.session().await;
    world.relay.hold();
    let (leg, mut new) = leg(&[(3, 1)]);
    desk.recv().await.unwrap().say(|_| Then::Moved(leg));
    let run = naming(0x17, 3, b"\0");
    for (granted, expected) in [(false, 1), (true, 0)] {
        client.say(0, b"\x1f").await;
        new.hear().await;
        let answer = if granted { ok(2) } else { error(1047, "no") };
        new.say(1, &answer).await;
        client.hear().await;
        client.say(0, &run).await;
        assert_eq!(new.hear().await.1, naming(0x17, expected, b"\0"));
        new.say(1, &ok(2)).await;
        client.hear().await;
    }
    // The ids that the client had are not given again.
    client.say(0, b"\x16select 1").await;
    new.hear().await;
    new.say(1, &prepared(3)).await;
    assert_eq!(client.hear().await.1, prepared(4));
}

/// A pipe would carry the client's ids to a server that has others.
#[tokio::test(start_paused = true)]
async fn a_translated_session_ends_where_it_would_become_a_tunnel() {
    for (command, answer) in [
        (&b"\x42what"[..], None),
        (b"\x0e", Some([1, 0, 0, 1, 0x77])),
    ] {
        let (mut world, mut desk) = world(Setting::default());
        let (mut client, _old) = world.session().await;
        world.relay.hold();
        let (leg, mut new) = leg(&[(3, 1)]);
        desk.recv().await.unwrap().say(|_| Then::Moved(leg));
        client.say(0, command).await;
        assert_eq!(new.hear().await.1, command);
        if let Some(answer) = answer {
            new.send(&answer).await;
            client.expect(&answer).await;
        }
        assert!(client.rest().await.is_empty());
        drop(client);
        assert!(new.rest().await.is_empty());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(world.relay.counters().untranslated.value(), 1);
        assert_eq!(world.relay.counters().tunnelled.value(), 0);
        assert_eq!(world.relay.sessions().open, 0);
        assert_eq!(world.handed().last().unwrap(), "Vanished");
    }
}

/// A session without statements has none to translate, and may become one.
#[tokio::test(start_paused = true)]
async fn a_session_moved_without_statements_is_as_any_other() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, _old) = world.session().await;
    world.relay.hold();
    let (leg, mut new) = leg(&[]);
    desk.recv().await.unwrap().say(|_| Then::Moved(leg));
    client.say(0, b"\x16select 1").await;
    new.hear().await;
    new.say(1, &prepared(1)).await;
    assert_eq!(client.hear().await.1, prepared(1));
    client.say(0, b"\x42what").await;
    new.hear().await;
    client.0.write_all(b"loose").await.unwrap();
    new.expect(b"loose").await;
    assert_eq!(world.relay.sessions().tunnelled, 1);
}

/// A statement that the new primary cannot prepare is not lost: its text stands in for it, or the
/// refusal does.
#[tokio::test(start_paused = true)]
async fn what_the_new_primary_cannot_prepare_is_run_as_text_or_answered_for_it() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, _old) = world.session().await;
    world.relay.hold();
    let (mut leg, mut new) = leg(&[(1, 101)]);
    let failure = Failure {
        code: 1295,
        sqlstate: *b"HY000",
        message: b"not in the prepared statement protocol".to_vec(),
    };
    leg.stand_ins = vec![
        (4, StandIn::Text(b"BEGIN".to_vec())),
        (5, StandIn::Error(failure)),
    ];
    leg.last = Some(4);
    desk.recv().await.unwrap().say(|_| Then::Moved(leg));
    world.flip();
    world.relay.resume();
    for id in [4, u32::MAX] {
        let execution = packet(0, &naming(0x17, id, b"\0\x01\0\0\0"));
        for cut in 0..execution.len() {
            client.send(&execution[..cut]).await;
            rest().await;
            client.send(&execution[cut..]).await;
            assert_eq!(new.hear().await, (0, b"\x03BEGIN".to_vec()), "{id}, {cut}");
            new.say(1, &ok(3)).await;
            assert_eq!(client.hear().await, (1, ok(3)));
        }
    }
    // What was executed is what the rest sees: a transaction is open.
    world.relay.call();
    rest().await;
    assert!(world.relay.census().unheld[0].in_transaction);
    exchange(&mut client, &mut new, b"\x03COMMIT", 2).await;
    // Others beside it, and behind it in one piece.
    let pieces = [naming(0x1a, 4, b""), naming(0x17, 5, b"\0\x01\0\0\0")];
    let other = naming(0x17, 1, b"\0\x01\0\0\0");
    let piece: Vec<u8> = [&pieces[0], &pieces[1], &other]
        .iter()
        .flat_map(|payload| packet(0, payload))
        .collect();
    client.send(&piece).await;
    assert_eq!(client.hear().await, (1, ok(2)), "there is nothing to reset");
    let (seq, refusal) = client.hear().await;
    let refusal = crate::wire::reply::parse_err(&refusal);
    assert_eq!((seq, refusal.code), (1, 1295));
    assert_eq!(refusal.message, b"not in the prepared statement protocol");
    let translated = naming(0x17, 101, b"\0\x01\0\0\0");
    assert_eq!(new.hear().await.1, translated);
    new.say(1, &ok(2)).await;
    client.hear().await;
    // An id that stands for nothing on the server is not given to another statement.
    client.say(0, b"\x16select 1").await;
    new.hear().await;
    new.say(1, &prepared(1)).await;
    assert_eq!(client.hear().await.1, prepared(6));
    // Closed it is gone.
    client.say(0, &naming(0x19, 4, b"")).await;
    assert_eq!(new.hear().await.1, naming(0x19, 0, b""));
    client.say(0, &naming(0x17, 4, b"\0\x01\0\0\0")).await;
    assert_eq!(new.hear().await.1, naming(0x17, 0, b"\0\x01\0\0\0"));
}

/// A book that has been moved, without sockets.
fn book() -> (Book, Receiver) {
    let (tee, receiver) = tee::door(tee::Limits {
        slots: 64,
        sessions: 1,
        ..tee::Limits::default()
    });
    let facts = Arc::new(Facts {
        session: 1,
        login: 0,
        user: "app".into(),
        database: String::new(),
        capabilities: CLIENT.with(Capabilities::DEPRECATE_EOF),
        collation: 45,
        primary: "vitess".into(),
        thread_id: 7,
        client: None,
        share: Arc::new(Share::default()),
    });
    let limits = Limits {
        command_bytes_max: 1 << 20,
        copy_bytes_max: 1 << 20,
        sample_bytes: 1 << 16,
    };
    let counters = Arc::new(Counters::default());
    let own = Own::new(Arc::default(), facts.capabilities, (false, false));
    let mut book = Book::new(Arc::clone(&facts), tee, limits, Status(2), counters, own);
    let (near, _far) = tokio::io::duplex(1);
    let leg = Leg {
        stream: crate::connect::Stream::Memory(near),
        server: "vitess".into(),
        thread_id: 70,
        status: Status(2),
        vitess: false,
        statements: vec![(1, 101), (2, 102), (3, 0xFFFF_FF00)],
        stand_ins: Vec::new(),
        last: Some(2),
    };
    book.take_over(facts, &leg, false);
    (book, receiver)
}

/// Feeds a stream in pieces as the relay does: what waits comes again, with more behind it.
fn feed(stream: &[u8], cuts: &[usize], mut look: impl FnMut(&mut [u8]) -> usize) -> Vec<u8> {
    let (mut out, mut waits, mut at) = (Vec::new(), Vec::new(), 0);
    for cut in cuts.iter().copied().chain([stream.len()]) {
        if cut <= at {
            continue;
        }
        waits.extend_from_slice(&stream[at..cut]);
        at = cut;
        let went = look(&mut waits);
        assert!(waits.len() - went < 4, "only an id waits");
        out.extend(waits.drain(..went));
    }
    out.extend(waits);
    out
}

/// A command's payload: those that name statements, others, and some that no client would send.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![1..5_u32, Just(u32::MAX), any::<u32>()];
    let tail = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        3 => (prop::sample::select(vec![0x17, 0x18, 0x19, 0x1a, 0x1c]), id, tail.clone())
            .prop_map(|(kind, id, tail)| naming(kind, id, &tail)),
        1 => (prop::sample::select(vec![0x17, 0x19, 0x03]), prop::collection::vec(any::<u8>(), 0..4))
            .prop_map(|(kind, tail)| [&[kind], &tail[..]].concat()),
        1 => tail.prop_map(|tail| [&[0x03], &tail[..]].concat()),
        1 => Just(vec![0x0e]),
    ]
}

proptest! {
    /// Any split of a stream of commands gives the same bytes, and hands the same commands.
    #[test]
    fn any_split_of_commands_is_translated_alike(
        commands in prop::collection::vec(command(), 1..12),
        cuts in prop::collection::btree_set(0..300_usize, 0..40),
    ) {
        let stream: Vec<u8> = commands.iter().flat_map(|it| packet(0, it)).collect();
        let cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut < stream.len()).collect();
        let run = |cuts: &[usize]| {
            let (mut book, mut receiver) = book();
            let out = feed(&stream, cuts, |piece| {
                let (went, then) = book.client(piece, Instant::now());
                assert!(matches!(then, ClientThen::Go | ClientThen::Partial));
                assert_eq!(went == piece.len(), then == ClientThen::Go);
                went
            });
            book.sent(stream.len() as u64, None);
            book.abandon();
            let mut handed = Vec::new();
            while let Some(Handed::Exchange(it)) = receiver.try_recv() {
                handed.push(it.command.clone());
            }
            (out, handed)
        };
        let whole = run(&[]);
        prop_assert_eq!(&whole, &run(&cuts));
        prop_assert_eq!(&whole.1, &commands, "what is handed is the client's");
        // Told apart from the translation under test: by its own, simple one.
        let mut ids = std::collections::BTreeMap::from([(1, 101), (2, 102), (3, 0xFFFF_FF00_u32)]);
        let expected: Vec<u8> = commands.iter().flat_map(|command| {
            let mut command = command.clone();
            if matches!(command[0], 0x17 | 0x18 | 0x19 | 0x1a | 0x1c) && command.len() >= 5 {
                let id = u32::from_le_bytes(command[1..5].try_into().unwrap());
                let server = match id {
                    u32::MAX => ids.get(&2).copied().unwrap_or(u32::MAX),
                    id => ids.get(&id).copied().unwrap_or(0),
                };
                if command[0] == 0x19 {
                    ids.remove(&id);
                }
                command[1..5].copy_from_slice(&server.to_le_bytes());
            }
            packet(0, &command)
        }).collect();
        prop_assert_eq!(whole.0, expected);
    }

    /// The same for the answers to PREPARE, those with definitions and refusals among them.
    #[test]
    fn any_split_of_answers_is_translated_alike(
        answers in prop::collection::vec(0..3_u8, 1..8),
        ids in prop::collection::vec(any::<u32>(), 8),
        cuts in prop::collection::btree_set(0..400_usize, 0..40),
    ) {
        let definition =
            b"\x03def\x00\x00\x00\x01a\x00\x0c\x2d\x00\x01\x00\x00\x00\xfd\x00\x00\x00\x00\x00";
        let wire = |ids: &[u32]| -> Vec<u8> {
            answers.iter().enumerate().flat_map(|(at, kind)| {
                let header = |columns| [&[0], &ids[at].to_le_bytes()[..], &[columns, 0, 0, 0, 0, 0, 0]].concat();
                match kind {
                    0 => packet(1, &header(0)),
                    1 => [packet(1, &header(1)), packet(2, definition)].concat(),
                    _ => packet(1, &error(1064, "bad")),
                }
            }).collect()
        };
        let stream = wire(&ids);
        let cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut < stream.len()).collect();
        let run = |cuts: &[usize]| {
            let (mut book, mut receiver) = book();
            let mut commands = packet(0, b"\x16select a").repeat(answers.len());
            book.client(&mut commands, Instant::now());
            book.sent(commands.len() as u64, None);
            let out = feed(&stream, cuts, |piece| {
                let (went, then) = book.primary(piece, Instant::now());
                assert!(matches!(then, PrimaryThen::Go | PrimaryThen::Partial));
                assert_eq!(went == piece.len(), then == PrimaryThen::Go);
                went
            });
            let mut handed = Vec::new();
            while let Some(Handed::Exchange(it)) = receiver.try_recv() {
                handed.push((it.answer.prepared(), it.answer.sample.clone()));
            }
            (out, handed)
        };
        let whole = run(&[]);
        prop_assert_eq!(&whole, &run(&cuts));
        let mut next = 4;
        let given: Vec<u32> = answers.iter().map(|kind| {
            let id = next;
            next += u32::from(*kind < 2);
            id
        }).collect();
        prop_assert_eq!(&whole.0, &wire(&given));
        let samples: Vec<u8> = whole.1.iter().flat_map(|(_, sample)| sample.clone()).collect();
        prop_assert_eq!(samples, whole.0, "what is handed is what the client sees");
    }
}

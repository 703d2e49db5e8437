//! What is bounded stays bounded.

use super::world::*;
use crate::relay::book::PIPELINE_MAX;
use crate::relay::buffer::BUFFER_BYTES;
use crate::tee::{Handed, Limits, Regard};
use crate::wire::reply;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

#[tokio::test(start_paused = true)]
async fn one_connection_too_many_gets_mysqls_error() {
    let world = &mut World::new(Setting {
        max_connections: 1,
        ..Setting::default()
    });
    let (client, server) = world.session().await;
    let (mut refused, _) = world.knock();
    let (seq, payload) = refused.hear().await;
    let failure = reply::parse_err(&payload);
    assert_eq!((seq, failure.code, &failure.sqlstate), (0, 1040, b"08004"));
    assert_eq!(failure.message, b"Too many connections");
    assert!(refused.rest().await.is_empty());
    assert_eq!(world.relay.counters().too_many.value(), 1);
    drop((client, server));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (_client, _server) = world.session().await;
    assert_eq!(world.relay.sessions().open, 1);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_too_long_gets_mysqls_error() {
    let world = &mut World::new(Setting {
        command_bytes_max: 1000,
        ..Setting::default()
    });
    let (mut client, mut server) = world.session().await;
    client.say(0, &[3; 1000]).await;
    server.hear().await;
    server.say(1, &ok(2)).await;
    client.hear().await;
    // Behind one that is still unanswered.
    client
        .send(&[packet(0, b"\x0e"), packet(0, &[3; 1001])].concat())
        .await;
    server.hear().await;
    assert!(client.is_silent().await);
    server.say(1, &ok(2)).await;
    assert_eq!(client.hear().await, (1, ok(2)));
    let (seq, payload) = client.hear().await;
    let failure = reply::parse_err(&payload);
    assert_eq!((seq, failure.code, &failure.sqlstate), (1, 1153, b"08S01"));
    assert!(client.rest().await.is_empty());
    assert!(
        server.rest().await.is_empty(),
        "the primary cannot run what the client was refused"
    );
    drop((client, server));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.handed().last().unwrap(), "Vanished");
    assert_eq!(world.relay.counters().too_large.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_slows_the_primary_and_nothing_grows() {
    let world = &mut World::new(Setting {
        pipe_bytes: 1000,
        ..Setting::default()
    });
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x03select a from t").await;
    server.hear().await;
    let answer = rows(&vec![&[7; 200][..]; 1000], 2);
    let mut went = 0;
    let writing = async {
        while went < answer.len() {
            went += server.0.write(&answer[went..]).await.unwrap();
        }
    };
    let writing = tokio::time::timeout(Duration::from_secs(1), writing);
    assert!(writing.await.is_err(), "the primary has to wait");
    // At most both pipes and one buffer.
    assert!(went <= 2 * 1000 + BUFFER_BYTES, "{went} bytes went");
    client.expect(&answer[..went]).await;
}

/// The goodbye waits for the answer before it, without turning in circles.
#[tokio::test(start_paused = true)]
async fn a_command_that_is_too_long_behind_an_answer_that_is_not_read_waits() {
    let world = &mut World::new(Setting {
        command_bytes_max: 1000,
        pipe_bytes: 2000,
        ..Setting::default()
    });
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x03select a from t").await;
    server.hear().await;
    let answer = rows(&[&[7; 200][..]; 12], 2);
    server.send(&answer).await;
    client.send(&packet(0, &[3; 1001])).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.expect(&answer).await;
    let (seq, payload) = client.hear().await;
    assert_eq!((seq, reply::parse_err(&payload).code), (1, 1153));
    assert!(client.rest().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_file_may_be_longer_than_a_command() {
    let world = &mut World::new(Setting {
        command_bytes_max: 1000,
        ..Setting::default()
    });
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x03load").await;
    server.hear().await;
    server.say(1, b"\xFBfile").await;
    client.hear().await;
    let file = [packet(2, &[1; 5000]), packet(3, b"")].concat();
    client.send(&file).await;
    server.expect(&file).await;
    server.say(4, &ok(2)).await;
    assert_eq!(client.hear().await, (4, ok(2)));
    client.say(0, b"\x0e").await;
    server.hear().await;
    server.say(1, &ok(2)).await;
    assert_eq!(client.hear().await, (1, ok(2)));
    assert_eq!(world.relay.counters().too_large.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_its_answers_is_not_read_from_for_ever() {
    let world = &mut World::new(Setting {
        pipe_bytes: 1 << 20,
        ..Setting::default()
    });
    let (mut client, mut server) = world.session().await;
    let pings = packet(0, b"\x0e").repeat(20_000);
    client.send(&pings).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut got = vec![0; pings.len()];
    let mut space = tokio::io::ReadBuf::new(&mut got);
    std::future::poll_fn(|context| {
        tokio::io::AsyncRead::poll_read(std::pin::Pin::new(&mut server.0), context, &mut space)
    })
    .await
    .unwrap();
    let forwarded = space.filled().len() / 5;
    assert!(forwarded >= PIPELINE_MAX, "{forwarded}");
    assert!(
        forwarded <= PIPELINE_MAX + BUFFER_BYTES / 5 + 1,
        "{forwarded}"
    );
    // Every one is answered all the same.
    let (mut from_client, _to_client) = tokio::io::split(client.0);
    let answers = packet(1, &ok(2)).repeat(20_000);
    let mut seen = vec![0; answers.len()];
    tokio::join!(
        async {
            server
                .0
                .write_all(&answers[..answers.len() / 20_000 * forwarded])
                .await
                .unwrap()
        },
        async {
            let len = answers.len() / 20_000 * forwarded;
            tokio::io::AsyncReadExt::read_exact(&mut from_client, &mut seen[..len])
                .await
                .unwrap();
        }
    );
    assert_eq!(world.handed().len(), forwarded);
}

#[tokio::test(start_paused = true)]
async fn a_large_command_that_finds_no_room_is_served_and_not_copied() {
    let tee = Limits {
        queue_bytes: 200_000,
        session_queue_bytes: 200_000,
        ..Limits::default()
    };
    let world = &mut World::new(Setting {
        tee,
        pipe_bytes: 4 << 20,
        ..Setting::default()
    });
    let (mut client, mut server) = world.session().await;
    let command = packet(0, &[3; 1_000_000]);
    client.send(&command).await;
    server.expect(&command).await;
    assert!(world.receiver.budget().used() <= 200_000);
    server.say(1, &ok(2)).await;
    client.hear().await;
    let Some(crate::tee::Handed::Exchange(it)) = world.receiver.try_recv() else {
        panic!("it")
    };
    assert_eq!((it.command_bytes, it.command.len()), (1_000_000, 1024));
    drop(it);
    assert_eq!(world.receiver.budget().used(), 0);
    assert_eq!(world.relay.counters().commands_cut.value(), 1);
}

/// The digest of a large answer's rows is most of what it costs.
#[tokio::test(start_paused = true)]
async fn rows_are_digested_while_somebody_is_to_compare_them() {
    let world = &mut World::new(Setting::default());
    let appraisal = world.receiver.appraisal();
    let (mut client, mut server) = world.session().await;
    let (command, answer) = (packet(0, b"\x03select a"), rows(&[b"one", b"two"], 2));
    for compares in [true, false, true] {
        appraisal.set(if compares {
            Regard::Compare
        } else {
            Regard::Follow
        });
        client.send(&command).await;
        server.expect(&command).await;
        server.send(&answer).await;
        client.expect(&answer).await;
        let Some(crate::tee::Handed::Exchange(it)) = world.receiver.recv().await else {
            panic!("it")
        };
        assert_eq!((it.answer.is_digested(), it.answer.rows()), (compares, 2));
    }
}

/// Nobody wants to know: the relay relays, and counts.
#[tokio::test(start_paused = true)]
async fn what_nobody_observes_passes_by_and_is_counted() {
    let world = &mut World::new(Setting::default());
    let appraisal = world.receiver.appraisal();
    let (mut client, mut server) = world.session().await;
    let (command, answer) = (packet(0, b"\x03select a"), rows(&[b"one", b"two"], 2));
    for regard in [Regard::Nothing, Regard::Nothing, Regard::Follow] {
        appraisal.set(regard);
        client.send(&command).await;
        server.expect(&command).await;
        server.send(&answer).await;
        client.expect(&answer).await;
    }
    let Some(Handed::Passed(facts)) = world.receiver.recv().await else {
        panic!("what passed by is told of first")
    };
    assert!(facts.share.journal_unknown(), "nobody knows what it was");
    let Some(Handed::Exchange(it)) = world.receiver.recv().await else {
        panic!("it")
    };
    assert_eq!((it.seq, it.answer.rows()), (3, 2));
    assert!(world.receiver.try_recv().is_none());
}

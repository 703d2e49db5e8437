//! How sessions end.

use super::world::*;
use crate::relay::drain::Phase;
use crate::wire::reply;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

async fn settle() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_quits_or_closes_has_left() {
    for quits in [true, false] {
        let world = &mut World::new(Setting::default());
        let (mut client, mut server) = world.session().await;
        client.say(0, b"\x0e").await;
        server.hear().await;
        server.say(1, &ok(2)).await;
        client.hear().await;
        if quits {
            client.say(0, b"\x01").await;
            assert_eq!(server.hear().await, (0, vec![1]));
        }
        drop(client);
        assert!(server.rest().await.is_empty());
        settle().await;
        assert_eq!(
            world.handed(),
            ["1 0x0e : 1 result, 0 rows", "Left"],
            "quits: {quits}"
        );
        assert_eq!(world.relay.sessions().open, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_in_a_command_takes_the_primary_with_it() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x0e").await;
    server.hear().await;
    server.say(1, &ok(3)).await;
    client.hear().await;
    client.send(&packet(0, b"\x03insert")[..7]).await;
    drop(client);
    assert_eq!(server.rest().await, &packet(0, b"\x03insert")[..7]);
    settle().await;
    assert_eq!(world.handed(), ["1 0x0e : 1 result, 0 rows", "Vanished"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_before_or_in_its_answer_leaves_it_unanswered() {
    for sent in [0, 10] {
        let world = &mut World::new(Setting::default());
        let (mut client, mut server) = world.session().await;
        client.say(0, b"\x03select 1").await;
        server.hear().await;
        server.send(&rows(&[b"1"], 2)[..sent]).await;
        tokio::task::yield_now().await;
        drop(client);
        // It is gone for good, which the next write to it finds out.
        let _ = server.0.write_all(&rows(&[b"1"], 2)[sent..30]).await;
        assert!(server.rest().await.is_empty());
        settle().await;
        assert_eq!(
            world.handed(),
            ["1 0x03 select 1: unanswered", "Vanished"],
            "{sent}"
        );
        assert_eq!(world.relay.sessions().open, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_in_a_file_takes_the_primary_with_it() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x03load").await;
    server.hear().await;
    server.say(1, b"\xFBfile").await;
    client.hear().await;
    let some = packet(2, &[1; 100]);
    client.send(&some).await;
    drop(client);
    assert_eq!(server.rest().await, some);
    drop(server);
    settle().await;
    assert_eq!(world.handed(), ["1 0x03 load: unanswered", "Vanished"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_closes_its_side_still_gets_its_answers() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    client
        .send(&[packet(0, b"\x03select 1"), packet(0, b"\x0e")].concat())
        .await;
    client.0.shutdown().await.unwrap();
    server.hear().await;
    server.hear().await;
    settle().await;
    let answers = [rows(&[b"1"], 2), packet(1, &ok(2))].concat();
    server.send(&answers).await;
    assert_eq!(client.rest().await, answers);
    settle().await;
    let expected = [
        "1 0x03 select 1: 1 result, 1 rows",
        "2 0x0e : 1 result, 0 rows",
        "Left",
    ];
    assert_eq!(world.handed(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_vanishes_before_its_answer_is_told_as_an_error() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    client
        .send(&[packet(0, b"\x03select 1"), packet(0, b"\x0e")].concat())
        .await;
    server.hear().await;
    server.hear().await;
    drop(server);
    let (seq, payload) = client.hear().await;
    let failure = reply::parse_err(&payload);
    assert_eq!((seq, failure.code, &failure.sqlstate), (1, 2013, b"HY000"));
    assert!(client.rest().await.is_empty());
    drop(client);
    settle().await;
    let expected = [
        "1 0x03 select 1: unanswered",
        "2 0x0e : unanswered",
        "Vanished",
    ];
    assert_eq!(world.handed(), expected);
    assert_eq!(world.relay.counters().primary_lost.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_vanishes_in_its_answer_closes_the_client() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x03select 1").await;
    server.hear().await;
    let part = &rows(&[b"1"], 2)[..40];
    server.send(part).await;
    drop(server);
    assert_eq!(
        client.rest().await,
        part,
        "what came is passed on, and nothing is made up"
    );
    drop(client);
    settle().await;
    assert_eq!(world.handed(), ["1 0x03 select 1: unanswered", "Vanished"]);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_closes_an_idle_session_closes_the_client() {
    let world = &mut World::new(Setting::default());
    let (mut client, server) = world.session().await;
    drop(server);
    assert!(client.rest().await.is_empty());
    drop(client);
    settle().await;
    assert!(
        world.handed().is_empty(),
        "a session of which nothing was handed has no end"
    );
    assert_eq!(world.relay.sessions().open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_packet_that_nobody_asked_for_is_passed_on_and_ends_the_session() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    let unasked = packet(0, &error(4031, "The client was disconnected by the server"));
    server.send(&unasked).await;
    assert_eq!(client.rest().await, unasked);
    assert!(server.rest().await.is_empty());
    assert_eq!(world.relay.counters().unasked.value(), 1);

    // The same in the middle of a command.
    let (mut client, mut server) = world.session().await;
    client.send(&packet(0, &[3; 1000])[..500]).await;
    server.send(&unasked).await;
    assert_eq!(client.rest().await, unasked);
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_idle_sessions_and_waits_for_transactions() {
    let world = &mut World::new(Setting::default());
    let (mut idle, _idle_server) = world.session().await;
    let (mut busy, mut server) = world.session().await;
    busy.say(0, b"\x03begin").await;
    server.hear().await;
    server.say(1, &ok(3)).await;
    busy.hear().await;
    let relay = world.relay.clone();
    let draining = crate::task::spawn("drain", async move { relay.drain().await });
    let told = idle.rest().await;
    assert_eq!((told[3], reply::parse_err(&told[4..]).code), (1, 1053));
    drop(idle);
    busy.say(0, b"\x03insert").await;
    server.hear().await;
    server.say(1, &ok(3)).await;
    busy.hear().await;
    settle().await;
    busy.say(0, b"\x03commit").await;
    server.hear().await;
    assert!(busy.is_silent().await);
    server.say(1, &ok(2)).await;
    assert_eq!(
        busy.hear().await,
        (1, ok(2)),
        "the transaction ends as it would have"
    );
    assert_eq!(reply::parse_err(&busy.hear().await.1).code, 1053);
    drop(busy);
    draining.await.unwrap();
    assert_eq!(world.relay.sessions().open, 0);
    assert_eq!(world.relay.counters().drain_cut.value(), 0);
    assert_eq!(world.handed().last().unwrap(), "Vanished");
}

#[tokio::test(start_paused = true)]
async fn a_drain_has_a_bound() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x03select sleep(1000)").await;
    server.hear().await;
    let began = tokio::time::Instant::now();
    world.relay.drain().await;
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(30) && took < Duration::from_secs(32),
        "{took:?}"
    );
    assert!(client.rest().await.is_empty());
    drop(client);
    settle().await;
    assert_eq!(world.relay.sessions().open, 0);
    assert_eq!(
        world.handed(),
        ["1 0x03 select sleep(1000): unanswered", "Vanished"]
    );
    assert_eq!(world.relay.shared.drain.phase(), Phase::Cut);
}

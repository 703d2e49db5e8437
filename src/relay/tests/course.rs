//! Commands and answers in their course, byte for byte.

use super::world::*;
use crate::wire::CHUNK_MAX;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(start_paused = true)]
async fn bytes_pass_unchanged_however_they_are_cut() {
    let commands = [
        packet(0, b"\x03select a from t"),
        packet(0, b"\x19\x01\0\0\0"),
        packet(0, b"\x03update t set a = 1"),
        packet(0, b"\x03bad"),
    ]
    .concat();
    let answers = [
        rows(&[b"one", b"", &[7; 300]], 3),
        packet(1, &ok(3)),
        packet(1, &error(1064, "bad")),
    ]
    .concat();
    let expected = [
        "1 0x03 select a from t: 1 result, 3 rows",
        "2 0x19 \u{1}\0\0\0: silent in transaction",
        "3 0x03 update t set a = 1: 1 result, 0 rows in transaction",
        "4 0x03 bad: error 1064 in transaction",
    ];
    for piece in [1, 2, 3, 5, 7, 16, 1000] {
        let world = &mut World::new(Setting::default());
        let (mut client, mut server) = world.session().await;
        for bytes in commands.chunks(piece) {
            client.send(bytes).await;
            tokio::task::yield_now().await;
        }
        server.expect(&commands).await;
        for bytes in answers.chunks(piece) {
            server.send(bytes).await;
            tokio::task::yield_now().await;
        }
        client.expect(&answers).await;
        assert_eq!(world.handed(), expected, "in pieces of {piece}");
        assert_eq!(world.relay.sessions().tunnelled, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_back_to_finish_a_packet() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    let command = packet(0, b"\x03select 1");
    for byte in &command {
        client.send(&[*byte]).await;
        server.expect(&[*byte]).await;
    }
    for byte in &rows(&[b"1"], 2) {
        server.send(&[*byte]).await;
        client.expect(&[*byte]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_exchange_is_handed_before_the_answers_last_byte_can_be_read() {
    let world = &mut World::new(Setting {
        pipe_bytes: 16,
        ..Setting::default()
    });
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x03a").await;
    server.hear().await;
    let answer = packet(1, &error(1, "12345678901234567890"));
    let (head, last) = answer.split_at(answer.len() - 1);
    server.send(&head[..20]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(world.handed().is_empty());
    let (mut read, mut write) = tokio::io::split(client.0);
    let sending = async {
        server.send(&head[20..]).await;
        server.send(last).await;
    };
    let reading = async {
        let mut seen = vec![0; 8];
        read.read_exact(&mut seen).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        // 16 bytes are in the pipe and more are on their way: the last one cannot have come.
        world.handed()
    };
    let (handed, ()) = tokio::join!(reading, sending);
    assert_eq!(handed, ["1 0x03 a: error 1"]);
    write.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn packets_over_16_mib_pass_in_both_directions() {
    let world = &mut World::new(Setting::default());
    let (client, server) = world.session().await;
    let mut command = vec![b'x'; CHUNK_MAX + 1000];
    command[0] = 3;
    let command = packet(0, &command);
    let answer = rows(
        &[&vec![b'y'; CHUNK_MAX], &vec![b'z'; CHUNK_MAX + 7], b"end"],
        2,
    );
    let (mut from_client, mut to_client) = tokio::io::split(client.0);
    let (mut from_server, mut to_server) = tokio::io::split(server.0);
    let relaying = async {
        let mut seen = vec![0; command.len()];
        tokio::join!(
            async { to_client.write_all(&command).await.unwrap() },
            async { from_server.read_exact(&mut seen).await.map(drop).unwrap() }
        );
        assert!(seen == command);
        let mut seen = vec![0; answer.len()];
        tokio::join!(
            async { to_server.write_all(&answer).await.unwrap() },
            async { from_client.read_exact(&mut seen).await.map(drop).unwrap() }
        );
        assert!(seen == answer);
    };
    relaying.await;
    assert_eq!(
        world.handed(),
        ["1 0x03 xxxxxxxxxxxxxxxxxxxx: 1 result, 3 rows"]
    );
    assert_eq!(world.relay.sessions().tunnelled, 0);
    assert_eq!(world.receiver.budget().used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_clients_file_passes_and_the_course_goes_on() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    for _ in 0..2 {
        client.say(0, b"\x03load").await;
        server.hear().await;
        server.say(1, b"\xFBfile").await;
        client.hear().await;
        let file = [
            packet(2, b"\x03select 1"),
            packet(3, &[1; 40_000]),
            packet(4, b""),
        ]
        .concat();
        client.send(&file).await;
        server.expect(&file).await;
        server.say(5, &ok(2)).await;
        client.hear().await;
    }
    client.say(0, b"\x0e").await;
    server.hear().await;
    server.say(1, &ok(2)).await;
    client.hear().await;
    let load = "0x03 load: 2 result, 0 rows";
    let expected = [
        format!("1 {load}"),
        format!("2 {load}"),
        "3 0x0e : 1 result, 0 rows".into(),
    ];
    assert_eq!(world.handed(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_command_behind_one_that_asks_for_a_file_cannot_be_placed() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    let both = [packet(0, b"\x03load"), packet(0, b"\x03select 1")].concat();
    client.send(&both).await;
    server.expect(&both).await;
    server.say(1, b"\xFBfile").await;
    assert_eq!(client.hear().await.0, 1);
    assert_eq!(
        world.handed(),
        [
            "1 0x03 load: unanswered",
            "2 0x03 select 1: unanswered",
            "Tunnelled"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_placed_is_piped_on() {
    for (command, answer) in [
        (&b"\x12binlog"[..], &[7; 100][..]),
        (b"\x42what", b"anything at all"),
        (b"", b"anything at all"),
        (b"\x0e", &[1, 0, 0, 1, 0x77]),
    ] {
        let world = &mut World::new(Setting::default());
        let (mut client, mut server) = world.session().await;
        client
            .send(&[packet(0, command), b"loose bytes".to_vec()].concat())
            .await;
        server.expect(&packet(0, command)).await;
        server.send(answer).await;
        client.expect(answer).await;
        server.expect(b"loose bytes").await;
        assert_eq!(world.relay.sessions().tunnelled, 1, "{command:?}");
        let handed = world.handed();
        assert!(
            handed[0].ends_with("unanswered") && handed[1] == "Tunnelled",
            "{handed:?}"
        );
        client.send(b"more").await;
        server.expect(b"more").await;
        // A half-closed pipe goes on in the other direction.
        client.0.shutdown().await.unwrap();
        assert!(server.rest().await.is_empty());
        server.send(b"and more").await;
        drop(server);
        assert_eq!(client.rest().await, b"and more");
        assert!(world.handed().is_empty());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            (
                world.relay.sessions().tunnelled,
                world.relay.sessions().open
            ),
            (0, 0)
        );
        assert_eq!(world.relay.counters().tunnelled.value(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_commands_before_an_unknown_one_are_answered_first() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    let both = [packet(0, b"\x0e"), packet(0, b"\x42what")].concat();
    client.send(&both).await;
    server.expect(&both).await;
    server
        .send(&[packet(1, &ok(2)), b"anything".to_vec()].concat())
        .await;
    client
        .expect(&[packet(1, &ok(2)), b"anything".to_vec()].concat())
        .await;
    let expected = [
        "1 0x0e : 1 result, 0 rows",
        "2 0x42 what: unanswered",
        "Tunnelled",
    ];
    assert_eq!(world.handed(), expected);
}

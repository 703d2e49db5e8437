//! KILL by the id that a client knows and by its server's, on a MySQL and where the server has none.

use super::gate::{Waiting, exchange, leg, rest, world};
use super::world::*;
use crate::relay::Then;
use crate::wire::reply;
use tokio::sync::mpsc;

/// Error number and text.
fn refusal(heard: &(u8, Vec<u8>)) -> (u8, u16, String) {
    let failure = reply::parse_err(&heard.1);
    let text = String::from_utf8_lossy(&failure.message).into_owned();
    (heard.0, failure.code, text)
}

fn query(text: &str) -> Vec<u8> {
    [b"\x03", text.as_bytes()].concat()
}

const INTERRUPTED: &str = "Query execution was interrupted";

/// Moves the session that the gate holds next to a MySQL, where its id is a hundred times what its
/// client knows; and that.
async fn move_on(desk: &mut mpsc::Receiver<Waiting>) -> (u32, End) {
    let waiting = desk.recv().await.unwrap();
    let client_knows = waiting.held.facts.thread_id;
    let (mut leg, new) = leg(&[]);
    leg.thread_id = client_knows * 100;
    waiting.say(|_| Then::Moved(leg));
    (client_knows, new)
}

#[tokio::test(start_paused = true)]
async fn before_any_cutover_a_kill_passes_as_it_comes() {
    let mut world = World::new(Setting::default());
    let (mut client, mut server, _) = world.session_as("app", MYSQL, 7).await;
    let kill = packet(0, &query("KILL 7"));
    for cut in 1..kill.len() {
        client.send(&kill[..cut]).await;
        server.expect(&kill[..cut]).await;
        client.send(&kill[cut..]).await;
        server.expect(&kill[cut..]).await;
        server.say(1, &ok(2)).await;
        client.hear().await;
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_mysql_the_id_that_a_client_knows_becomes_the_servers() {
    let (mut world, mut desk) = world(Setting::default());
    let (_victim, _old, told) = world.session_as("app", MYSQL, 7).await;
    assert_eq!(told, 7);
    let (mut killer, _old, _) = world.session_as("app", MYSQL, 8).await;
    world.relay.hold();
    // In whichever order they come.
    let mut ends = [move_on(&mut desk).await, move_on(&mut desk).await];
    world.flip();
    world.relay.resume();
    ends.sort_by_key(|(known, _)| *known);
    let [_, (_, mut server)] = ends;
    for (says, hears) in [
        (query("KILL QUERY 7"), query("KILL QUERY 700")),
        (query("/* it */ kill 7;"), query("/* it */ kill 700;")),
        (query("KILL CONNECTION 8"), query("KILL CONNECTION 800")),
        (b"\x0c\x07\0\0\0".to_vec(), b"\x0c\xBC\x02\0\0".to_vec()),
        // By the id that it has now.
        (query("KILL 700"), query("KILL 700")),
        // Nobody's here, or no number.
        (query("KILL 4711"), query("KILL 4711")),
        (query("KILL 99999999999"), query("KILL 99999999999")),
        (query("KILL @id"), query("KILL @id")),
        (query("KILLJOY"), query("KILLJOY")),
        (query("K"), query("K")),
    ] {
        let piece = packet(0, &says);
        for cut in 0..piece.len() {
            killer.send(&piece[..cut]).await;
            rest().await;
            killer.send(&piece[cut..]).await;
            let shown = String::from_utf8_lossy(&says).into_owned();
            assert_eq!(server.hear().await, (0, hears.clone()), "{shown}, {cut}");
            server.say(1, &ok(2)).await;
            assert_eq!(killer.hear().await, (1, ok(2)));
        }
    }
    // In a pipeline each stands in its place, and so do the answers.
    let pipeline = [
        packet(0, b"\x0e"),
        packet(0, &query("KILL 7")),
        packet(0, &query("select 1")),
    ];
    killer.send(&pipeline.concat()).await;
    assert_eq!(server.hear().await.1, b"\x0e");
    assert!(server.is_silent().await, "it waits for what is before it");
    server.say(1, &ok(2)).await;
    assert_eq!(server.hear().await.1, query("KILL 700"));
    assert_eq!(server.hear().await.1, query("select 1"));
    let failure = error(1317, INTERRUPTED);
    server.say(1, &failure).await;
    server.send(&rows(&[b"1"], 2)).await;
    assert_eq!(killer.hear().await, (1, ok(2)));
    assert_eq!(killer.hear().await, (1, failure));
    killer.expect(&rows(&[b"1"], 2)).await;
    assert_eq!(world.relay.counters().kills.value(), 0);
    let handed = world.handed();
    let [.., ping, kill, select] = handed.as_slice() else {
        panic!("{handed:?}")
    };
    assert!(ping.ends_with("0x0e : 1 result, 0 rows"), "{ping}");
    assert!(kill.ends_with("0x03 KILL 700: error 1317"), "{kill}");
    assert!(
        select.ends_with("0x03 select 1: 1 result, 1 rows"),
        "{select}"
    );
}

/// Two servers number their connections from one: the second client to be told a number of the
/// other server's is told one that nobody has.
#[tokio::test(start_paused = true)]
async fn no_two_sessions_know_the_same_id() {
    let (mut world, mut desk) = world(Setting::default());
    let (victim, _old, told) = world.session_as("app", MYSQL, 7).await;
    assert_eq!(told, 7);
    let (_another, _old, _) = world.session_as("app", MYSQL, 8).await;
    world.relay.hold();
    let _moved = [move_on(&mut desk).await, move_on(&mut desk).await];
    world.flip();
    world.relay.resume();
    let (mut second, mut server, told) = world.session_as("app", MYSQL, 7).await;
    assert_eq!(told, u32::MAX - 1, "no server comes that far");
    let (_third, _server, told) = world.session_as("app", MYSQL, 8).await;
    assert_eq!(told, u32::MAX - 2, "nor two of them have the same");
    let (_fourth, _server, told) = world.session_as("app", MYSQL, 9).await;
    assert_eq!(told, 9);
    for (says, hears) in [
        ("KILL 7", "KILL 700"),
        ("KILL 4294967294", "KILL 7"),
        // Nobody was told it, and the first one has it now.
        ("KILL 700", "KILL 700"),
        ("KILL 8", "KILL 800"),
        ("KILL 4294967293", "KILL 8"),
        ("KILL 9", "KILL 9"),
    ] {
        second.say(0, &query(says)).await;
        assert_eq!(server.hear().await.1, query(hears), "{says}");
        server.say(1, &ok(2)).await;
        second.hear().await;
    }
    // Once the first has left its number is free.
    drop(victim);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let (_fifth, _server, told) = world.session_as("app", MYSQL, 7).await;
    assert_eq!(told, 7);
}

/// A world whose primary is a vtgate, a session that asks something, and one that kills.
async fn vtgate() -> (World, (End, End), (End, End)) {
    let mut world = World::new(Setting::default());
    world.flip();
    let (mut client, mut server, _) = world.session_as("app", VTGATE, 7).await;
    client.say(0, &query("select slow")).await;
    server.hear().await;
    let (killer, other, _) = world.session_as("app", VTGATE, 8).await;
    (world, (client, server), (killer, other))
}

#[tokio::test(start_paused = true)]
async fn where_the_server_has_no_kill_the_query_is_cut_and_no_late_answer_comes() {
    for says in ["KILL QUERY 7", "/* a */ kill query 7"] {
        let (mut world, (mut client, mut server), (mut killer, mut other)) = vtgate().await;
        killer.say(0, &query(says)).await;
        assert_eq!(killer.hear().await, (1, ok(2)));
        let told = refusal(&client.hear().await);
        assert_eq!(told, (1, 1317, INTERRUPTED.to_owned()));
        // Its leg is closed, and with it the client's: the answer would come to nobody.
        assert!(server.rest().await.is_empty());
        let _ = tokio::io::AsyncWriteExt::write_all(&mut server.0, &rows(&[b"late"], 2)).await;
        assert!(client.rest().await.is_empty());
        assert!(other.is_silent().await, "the server was asked nothing");
        assert_eq!(world.relay.counters().kills.value(), 1);
        exchange(&mut killer, &mut other, b"\x0e", 2).await;
        assert_eq!(
            world.handed(),
            [
                format!("1 0x03 {says}: 1 result, 0 rows"),
                "1 0x03 select slow: unanswered".to_owned(),
                "Vanished".to_owned(),
                "2 0x0e : 1 result, 0 rows".to_owned(),
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_begun_is_cut_off_by_the_close() {
    let (_world, (mut client, mut server), (mut killer, _other)) = vtgate().await;
    let answer = rows(&[b"1", b"2"], 2);
    server.send(&answer[..40]).await;
    client.expect(&answer[..40]).await;
    killer.say(0, &query("KILL QUERY 7")).await;
    assert_eq!(killer.hear().await, (1, ok(2)));
    assert!(client.rest().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_killed_closes_whatever_it_does() {
    for (kill, idle) in [
        (query("KILL 7"), false),
        (query("KILL CONNECTION 7"), true),
        (b"\x0c\x07\0\0\0".to_vec(), true),
    ] {
        let (_world, (mut client, mut server), (mut killer, _other)) = vtgate().await;
        if idle {
            server.send(&rows(&[b"1"], 2)).await;
            client.expect(&rows(&[b"1"], 2)).await;
        }
        killer.say(0, &kill).await;
        assert_eq!(killer.hear().await, (1, ok(2)));
        assert!(client.rest().await.is_empty());
        assert!(server.rest().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_runs_a_kill_of_the_query_changes_nothing() {
    let (_world, (mut client, mut server), (mut killer, _other)) = vtgate().await;
    server.send(&rows(&[b"1"], 2)).await;
    client.expect(&rows(&[b"1"], 2)).await;
    killer.say(0, &query("KILL QUERY 7")).await;
    assert_eq!(killer.hear().await, (1, ok(2)));
    rest().await;
    exchange(&mut client, &mut server, b"\x03select 2", 2).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_kill_is_told_so_as_by_a_mysql() {
    let (mut world, (mut client, mut server), (mut killer, mut other)) = vtgate().await;
    let (mut stranger, _third, _) = world.session_as("bob", VTGATE, 9).await;
    stranger.say(0, &query("KILL QUERY 7")).await;
    let told = refusal(&stranger.hear().await);
    assert_eq!(told, (1, 1095, "You are not owner of thread 7".to_owned()));
    for (kill, id) in [
        (query("KILL 4711"), "4711"),
        (query("KILL 99999999999"), "99999999999"),
        (b"\x0c\x06\0\0\0".to_vec(), "6"),
    ] {
        killer.say(0, &kill).await;
        let told = refusal(&killer.hear().await);
        assert_eq!(told, (1, 1094, format!("Unknown thread id: {id}")));
    }
    // What is no number is the server's to refuse.
    exchange(&mut killer, &mut other, b"\x03KILL CONNECTION_ID()", 2).await;
    server.send(&rows(&[b"1"], 2)).await;
    client.expect(&rows(&[b"1"], 2)).await;
    assert_eq!(world.relay.counters().kills.value(), 0);
    // Itself.
    killer.say(0, &query("KILL QUERY 8")).await;
    let told = refusal(&killer.hear().await);
    assert_eq!(told, (1, 1317, INTERRUPTED.to_owned()));
    exchange(&mut killer, &mut other, b"\x0e", 2).await;
    killer.say(0, &query("KILL 8")).await;
    assert_eq!(refusal(&killer.hear().await).1, 1317);
    assert!(killer.rest().await.is_empty());
    assert!(other.rest().await.is_empty());
}

/// A session that waits at the gate hears of it when it goes on.
#[tokio::test(start_paused = true)]
async fn a_held_session_that_is_killed_ends_when_it_is_let_go() {
    let (mut world, mut desk) = world(Setting::default());
    world.flip();
    let (mut client, mut server, _) = world.session_as("app", VTGATE, 7).await;
    let (mut killer, mut other, _) = world.session_as("app", VTGATE, 8).await;
    exchange(&mut killer, &mut other, b"\x03begin", 3).await;
    world.relay.hold();
    let waiting = desk.recv().await.unwrap();
    assert_eq!(waiting.held.thread_id, 7);
    killer.say(0, &query("KILL 7")).await;
    assert_eq!(
        killer.hear().await,
        (1, ok(3)),
        "its transaction is open still"
    );
    waiting.back();
    assert!(client.rest().await.is_empty());
    assert!(server.rest().await.is_empty());
}

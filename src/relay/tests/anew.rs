//! Sessions that begin anew: CHANGE_USER where the server does not know it, and the statements of a
//! server's `init` after CHANGE_USER and RESET_CONNECTION.

use super::gate::{exchange, leg, rest, world as world_with_desk};
use super::world::*;
use crate::relay::Then;
use crate::tee::Handed;
use crate::wire::login::{AuthSwitch, Login};
use crate::wire::reply;

const INIT: &str = "SET workload = 'olap'";

fn change_user(database: &str) -> Vec<u8> {
    let mut change = b"\x11bob\0\x14".to_vec();
    change.extend_from_slice(&[0xAB; 20]);
    change.extend_from_slice(database.as_bytes());
    change.extend_from_slice(b"\0\x08\0mysql_native_password\0");
    change
}

fn with_init() -> Setting {
    Setting {
        init: vec![INIT.to_owned()],
        ..Setting::default()
    }
}

fn init() -> Vec<u8> {
    [b"\x03", INIT.as_bytes()].concat()
}

/// Says CHANGE_USER to a vtgate's session, up to the proof that the new connection waits for.
async fn change(world: &mut World, client: &mut End, old: &mut End, database: &str) -> End {
    client.say(0, &change_user(database)).await;
    assert_eq!(old.hear().await, (0, vec![1]), "it is left");
    assert!(old.rest().await.is_empty());
    let (name, mut new) = world.dialled().await;
    assert_eq!(name, "vitess");
    new.say(0, &greeting_of(VTGATE, 70, SERVER)).await;
    let (seq, demand) = client.hear().await;
    let switch = AuthSwitch::parse(&demand).unwrap();
    assert_eq!((seq, switch.plugin), (1, &b"mysql_native_password"[..]));
    assert_eq!(switch.data, NONCE, "the new connection's");
    client.say(2, &[5; 20]).await;
    let (seq, login) = new.hear().await;
    let login = Login::parse(&login).unwrap();
    assert_eq!((seq, login.user.as_slice()), (1, &b"bob"[..]));
    assert_eq!(login.auth_response, [5; 20]);
    let named = (!database.is_empty()).then(|| database.as_bytes().to_vec());
    assert_eq!((login.database, login.collation), (named, 8));
    new
}

#[tokio::test(start_paused = true)]
async fn where_the_server_has_no_change_of_user_it_is_a_new_connection() {
    for database in ["other", ""] {
        let mut world = World::new(Setting::default());
        world.flip();
        let (mut client, mut old, _) = world.session_as("app", VTGATE, 7).await;
        exchange(&mut client, &mut old, b"\x03begin", 3).await;
        let mut new = change(&mut world, &mut client, &mut old, database).await;
        new.say(2, &ok(2)).await;
        assert_eq!(client.hear().await, (3, ok(2)));
        exchange(&mut client, &mut new, b"\x0e", 2).await;
        world.relay.call();
        rest().await;
        let census = world.relay.census();
        let one = &census.unheld[0];
        assert_eq!((one.thread_id, one.user.as_str()), (70, "bob"));
        assert!(!one.in_transaction, "it went with the old one");
        let mut seen = Vec::new();
        while let Some(Handed::Exchange(it)) = world.receiver.try_recv() {
            seen.push(it);
        }
        let [_, change, ping] = seen.as_slice() else {
            panic!("{seen:?}")
        };
        assert!(change.answered && change.answer.error().is_none());
        assert!(!change.command.contains(&0xAB), "the proof is not kept");
        assert_eq!((change.facts.login, change.facts.user.as_str()), (0, "app"));
        let facts = &ping.facts;
        assert_eq!((facts.login, facts.user.as_str()), (1, "bob"));
        assert_eq!((facts.database.as_str(), facts.collation), (database, 8));
        assert_eq!((facts.thread_id, ping.seq), (7, 3), "the client's");
        // By either id.
        let (mut killer, _other, _) = world.session_as("bob", VTGATE, 9).await;
        killer.say(0, b"\x03KILL 7").await;
        assert_eq!(killer.hear().await, (1, ok(2)));
        assert!(client.rest().await.is_empty());
    }
}

/// It waits for what is before it, however the bytes are cut. What is behind it cannot be told from
/// the proof that the client is asked for, as a server would say too.
#[tokio::test(start_paused = true)]
async fn a_change_of_user_over_a_new_connection_stands_in_its_place() {
    for cut in [1, 4, 5, 9, 40] {
        let mut world = World::new(with_init());
        world.flip();
        let (mut client, mut old, _) = world.session_as("app", VTGATE, 7).await;
        let piece = [
            packet(0, b"\x0e"),
            packet(0, &change_user("other")),
            packet(0, b"\x02third"),
        ]
        .concat();
        client.send(&piece[..5 + cut]).await;
        assert_eq!(old.hear().await.1, b"\x0e");
        rest().await;
        client.send(&piece[5 + cut..]).await;
        assert!(old.is_silent().await);
        old.say(1, &ok(2)).await;
        assert_eq!(client.hear().await, (1, ok(2)));
        assert_eq!(old.hear().await, (0, vec![1]));
        let (_, mut new) = world.dialled().await;
        new.say(0, &greeting_of(VTGATE, 70, SERVER)).await;
        assert_eq!(client.hear().await.0, 1);
        // The third stands before the proof.
        client.say(2, &[5; 20]).await;
        assert!(new.rest().await.is_empty());
        assert!(client.rest().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_ends_the_session_as_on_a_mysql() {
    let mut world = World::new(with_init());
    world.flip();
    let (mut client, mut old, _) = world.session_as("app", VTGATE, 7).await;
    let mut new = change(&mut world, &mut client, &mut old, "other").await;
    let denied = error(1045, "Access denied for user 'bob'");
    new.say(2, &denied).await;
    assert_eq!(client.hear().await, (3, denied));
    assert!(client.rest().await.is_empty());
    assert!(new.rest().await.is_empty(), "nothing is asked of it");
    drop(client);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let handed = world.handed();
    assert!(handed[0].ends_with("error 1045"), "{handed:?}");
    assert_eq!(handed[1], "Vanished");
    assert_eq!(world.relay.sessions().open, 0);
}

/// caching_sha2's fast path, and a demand for another plugin: the dialogue goes on.
#[tokio::test(start_paused = true)]
async fn the_new_connection_may_ask_for_more() {
    let mut world = World::new(Setting::default());
    world.flip();
    let (mut client, mut old, _) = world.session_as("app", VTGATE, 7).await;
    let mut new = change(&mut world, &mut client, &mut old, "other").await;
    let switch = b"\xFEcaching_sha2_password\0ABCDEFGHIJKLMNOPQRST\0";
    new.say(2, switch).await;
    assert_eq!(client.hear().await, (3, switch.to_vec()));
    client.say(4, &[6; 32]).await;
    assert_eq!(new.hear().await, (3, vec![6; 32]));
    new.send(&[packet(4, b"\x01\x03"), packet(5, &ok(2))].concat())
        .await;
    assert_eq!(client.hear().await, (5, b"\x01\x03".to_vec()));
    assert_eq!(client.hear().await, (6, ok(2)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_greet_is_told_as_a_login_would_be() {
    for (greets, code) in [(false, 2003), (true, 1040)] {
        let mut world = World::new(Setting::default());
        world.flip();
        let (mut client, _old, _) = world.session_as("app", VTGATE, 7).await;
        client.say(0, &change_user("other")).await;
        let (_, mut new) = world.dialled().await;
        if greets {
            new.say(0, b"\xff\x10\x04Too many connections").await;
        }
        drop(new);
        let (seq, payload) = client.hear().await;
        assert_eq!((seq, reply::parse_err(&payload).code), (1, code));
        assert!(client.rest().await.is_empty());
    }
}

/// On a MySQL it is relayed; what the config wants is run again behind it, and the client sees
/// nothing of it.
#[tokio::test(start_paused = true)]
async fn init_is_run_again_after_a_change_of_user() {
    for version in [MYSQL, VTGATE] {
        let mut world = World::new(with_init());
        world.flip();
        let (mut client, mut server, _) = world.session_as("app", version, 7).await;
        let (seq, answer) = if version == VTGATE {
            server = change(&mut world, &mut client, &mut server, "other").await;
            (2, 3)
        } else {
            client.say(0, &change_user("other")).await;
            assert_eq!(server.hear().await, (0, change_user("other")));
            (1, 1)
        };
        server.say(seq, &ok(2)).await;
        assert_eq!(server.hear().await, (0, init()));
        assert!(client.is_silent().await, "it is not done yet");
        // It may open a transaction, as without autocommit.
        server.say(1, &ok(0)).await;
        assert_eq!(client.hear().await, (answer, ok(2)));
        exchange(&mut client, &mut server, b"\x0e", 2).await;
        let handed = world.handed();
        assert_eq!(handed.len(), 2, "{handed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn init_is_run_again_after_a_reset() {
    for version in [MYSQL, VTGATE] {
        let mut world = World::new(with_init());
        world.flip();
        let (mut client, mut server, _) = world.session_as("app", version, 7).await;
        // One before it, and one behind it.
        let piece = [b"\x0e", b"\x1f", b"\x0e"].map(|payload| packet(0, payload));
        client.send(&piece.concat()).await;
        assert_eq!(server.hear().await.1, b"\x0e");
        server.say(1, &ok(2)).await;
        assert_eq!(client.hear().await, (1, ok(2)));
        assert_eq!(server.hear().await, (0, b"\x1f".to_vec()));
        server.say(1, &ok(2)).await;
        assert_eq!(server.hear().await, (0, init()));
        assert!(client.is_silent().await);
        server.say(1, &ok(2)).await;
        assert_eq!(client.hear().await, (1, ok(2)));
        assert_eq!(server.hear().await.1, b"\x0e");
        server.say(1, &ok(2)).await;
        assert_eq!(client.hear().await, (1, ok(2)));
        assert_eq!(
            world.handed(),
            [
                "1 0x0e : 1 result, 0 rows",
                "2 0x1f : 1 result, 0 rows",
                "3 0x0e : 1 result, 0 rows"
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_is_refused_runs_no_init_and_one_without_passes_through() {
    let mut world = World::new(with_init());
    let (mut client, mut server, _) = world.session_as("app", MYSQL, 7).await;
    exchange(&mut client, &mut server, b"\x1f", 2).await;
    world.flip();
    let (mut client, mut server, _) = world.session_as("app", MYSQL, 8).await;
    client.say(0, b"\x1f").await;
    server.hear().await;
    server.say(1, &error(1047, "Unknown command")).await;
    assert_eq!(client.hear().await, (1, error(1047, "Unknown command")));
    exchange(&mut client, &mut server, b"\x0e", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_init_is_refused_is_told_so_and_ends() {
    for command in [b"\x1f".to_vec(), change_user("other")] {
        let mut world = World::new(with_init());
        world.flip();
        let (mut client, mut server, _) = world.session_as("app", MYSQL, 7).await;
        client.say(0, &command).await;
        server.hear().await;
        server.say(1, &ok(2)).await;
        server.hear().await;
        server.say(1, &error(1193, "Unknown system variable")).await;
        let (seq, payload) = client.hear().await;
        let failure = reply::parse_err(&payload);
        assert_eq!((seq, failure.code), (1, 1193));
        let text = String::from_utf8_lossy(&failure.message);
        assert!(
            text.contains("init of 'vitess'") && text.contains(INIT),
            "{text}"
        );
        assert!(client.rest().await.is_empty());
        assert_eq!(world.handed()[0].split(": ").last(), Some("unanswered"));
    }
}

/// A session that was moved to a server with an `init` has it from there on, and forgets its
/// statements with a reset.
#[tokio::test(start_paused = true)]
async fn a_moved_session_is_reset_as_its_new_server_wants_it() {
    let (mut world, mut desk) = world_with_desk(with_init());
    let (mut client, mut old) = world.session().await;
    exchange(&mut client, &mut old, b"\x1f", 2).await;
    world.relay.hold();
    let (leg, mut new) = leg(&[(1, 101)]);
    desk.recv().await.unwrap().say(|_| Then::Moved(leg));
    world.flip();
    world.relay.resume();
    client.say(0, b"\x1f").await;
    assert_eq!(new.hear().await.1, b"\x1f");
    new.say(1, &ok(2)).await;
    assert_eq!(new.hear().await.1, init());
    new.say(1, &ok(2)).await;
    assert_eq!(client.hear().await, (1, ok(2)));
    client.say(0, b"\x17\x01\0\0\0\0\x01\0\0\0").await;
    let forgotten = b"\x17\0\0\0\0\0\x01\0\0\0".to_vec();
    assert_eq!(new.hear().await, (0, forgotten));
}

//! Logins, as the two ends see them.

use super::world::*;
use crate::relay::Offer;
use crate::tee::Handed;
use crate::wire::capability::Capabilities;
use crate::wire::greeting::Greeting;
use crate::wire::login::Login;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

#[tokio::test(start_paused = true)]
async fn the_greeting_loses_what_cannot_be_carried_and_nothing_else() {
    let world = &mut World::new(Setting::default());
    let (mut client, _) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    let (seq, seen) = client.hear().await;
    let (before, after) = (Greeting::parse(&greeting(SERVER)), Greeting::parse(&seen));
    let (before, after) = (before.unwrap(), after.unwrap());
    for carried_not in [
        Capabilities::COMPRESS,
        Capabilities::ZSTD_COMPRESSION,
        Capabilities::OPTIONAL_RESULTSET_METADATA,
        Capabilities::SSL,
    ] {
        assert!(!after.capabilities.has(carried_not), "{carried_not:?}");
    }
    assert!(
        after
            .capabilities
            .has(Capabilities::DEPRECATE_EOF.with(Capabilities::SESSION_TRACK))
    );
    assert_eq!(
        (
            seq,
            Greeting {
                capabilities: after.capabilities,
                ..before
            }
        ),
        (0, after)
    );
}

#[tokio::test(start_paused = true)]
async fn clients_are_offered_only_what_both_servers_can() {
    let offer = Offer::new(CLIENT.with(Capabilities::DEPRECATE_EOF));
    let world = &mut World::new(Setting {
        offer,
        ..Setting::default()
    });
    let (mut client, _) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    let greeted = Greeting::parse(&client.hear().await.1)
        .unwrap()
        .capabilities;
    assert!(greeted.has(CLIENT.with(Capabilities::DEPRECATE_EOF)));
    assert!(
        greeted.has(Capabilities::CONNECT_ATTRS),
        "what only the login needs stays"
    );
    assert!(!greeted.has(Capabilities::SESSION_TRACK));
    // A client that asks for more than it was offered does not get it, and what was offered holds
    // even if the offer changes meanwhile.
    world.offer.set(Capabilities(0));
    let greedy = CLIENT
        .with(Capabilities::DEPRECATE_EOF)
        .with(Capabilities::SESSION_TRACK);
    client.say(1, &login(greedy)).await;
    let asked = Login::parse(&server.hear().await.1).unwrap().capabilities;
    assert_eq!(asked, CLIENT.with(Capabilities::DEPRECATE_EOF));
}

#[tokio::test(start_paused = true)]
async fn a_login_is_forwarded_as_it_came_and_its_facts_are_known() {
    let world = &mut World::new(Setting::default());
    let (mut client, _) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    let mut sent = login(CLIENT);
    sent.extend_from_slice(b"something new");
    client.say(1, &sent).await;
    assert_eq!(server.hear().await, (1, sent));
    server
        .say(2, b"\xFEcaching_sha2_password\0ABCDEFGHIJKLMNOPQRST\0")
        .await;
    assert_eq!(client.hear().await.0, 2);
    client.say(3, &[9; 32]).await;
    assert_eq!(server.hear().await, (3, vec![9; 32]));
    for more in [vec![1, 4], b"\x01some key".to_vec()] {
        server.say(4, &more).await;
        assert_eq!(client.hear().await, (4, more));
        client.say(5, &[2]).await;
        assert_eq!(server.hear().await, (5, vec![2]));
    }
    server.say(8, &ok(3)).await;
    assert_eq!(client.hear().await, (8, ok(3)));
    client.say(0, b"\x0e").await;
    server.hear().await;
    server.say(1, &ok(3)).await;
    client.hear().await;
    let Some(Handed::Exchange(it)) = world.receiver.recv().await else {
        panic!("an exchange")
    };
    assert!(it.in_transaction_before, "the login's own OK said so");
    let facts = &it.facts;
    assert_eq!(
        (
            facts.user.as_str(),
            facts.database.as_str(),
            facts.collation
        ),
        ("app", "shop", 45)
    );
    assert_eq!(
        (facts.capabilities, facts.thread_id, facts.login),
        (CLIENT, 7, 0)
    );
    assert_eq!(&*facts.primary, "legacy");
}

#[tokio::test(start_paused = true)]
async fn a_command_sent_before_the_verdict_waits_for_it() {
    let world = &mut World::new(Setting::default());
    let (mut client, _) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    client.say(1, &login(CLIENT)).await;
    let early = [packet(0, b"\x0e"), packet(0, b"\x03select 1")].concat();
    client.send(&early).await;
    server.hear().await;
    assert!(server.is_silent().await);
    server.say(2, &ok(2)).await;
    server.expect(&early).await;
    client.hear().await;
    server.say(1, &ok(2)).await;
    client.hear().await;
    assert_eq!(world.handed(), ["1 0x0e : 1 result, 0 rows"]);
}

#[tokio::test(start_paused = true)]
async fn a_long_command_sent_before_the_verdict_is_not_lost() {
    let world = &mut World::new(Setting {
        pipe_bytes: 1 << 20,
        ..Setting::default()
    });
    let (mut client, _) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    let early = packet(0, &[3; 400_000]);
    client.say(1, &login(CLIENT)).await;
    client.send(&early).await;
    server.hear().await;
    server.say(2, &ok(2)).await;
    assert_eq!(client.hear().await, (2, ok(2)));
    server.expect(&early).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_the_primarys_own() {
    let world = &mut World::new(Setting::default());
    let (mut client, serving) = world.knock();
    let mut server = world.server().await;
    let refusal = b"\xff\x10\x04Too many connections";
    server.say(0, refusal).await;
    assert_eq!(client.hear().await, (0, refusal.to_vec()));
    assert!(client.rest().await.is_empty());
    drop(client);
    serving.await.unwrap();

    let (mut client, _) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    client.say(1, &login(CLIENT)).await;
    server.hear().await;
    server.say(2, &error(1045, "Access denied")).await;
    assert_eq!(client.hear().await, (2, error(1045, "Access denied")));
    assert!(client.rest().await.is_empty());
    assert_eq!(world.relay.counters().logins_refused.value(), 2);
    assert!(world.handed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_down_is_told_at_once() {
    let world = &mut World::new(Setting {
        primary_up: false,
        ..Setting::default()
    });
    let (mut client, serving) = world.knock();
    let (seq, payload) = client.hear().await;
    let failure = crate::wire::reply::parse_err(&payload);
    assert_eq!((seq, failure.code, &failure.sqlstate), (0, 2003, b"HY000"));
    let message = String::from_utf8(failure.message).unwrap();
    assert!(
        message.starts_with("Can't connect to MySQL server 'legacy' ("),
        "{message}"
    );
    assert!(client.rest().await.is_empty());
    drop(client);
    serving.await.unwrap();
    assert_eq!(world.relay.sessions().open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_does_not_greet_is_given_up() {
    let world = &mut World::new(Setting::default());
    let (mut client, _) = world.knock();
    let _server = world.server().await;
    let (_, payload) = client.hear().await;
    assert_eq!(crate::wire::reply::parse_err(&payload).code, 2003);
    let (mut client, _) = world.knock();
    world
        .server()
        .await
        .say(0, b"HTTP/1.1 400 Bad Request")
        .await;
    let (_, payload) = client.hear().await;
    assert_eq!(crate::wire::reply::parse_err(&payload).code, 2003);
}

#[tokio::test(start_paused = true)]
async fn the_login_of_a_client_that_leaves_before_it_is_finished_by_the_proxy() {
    let world = &mut World::new(Setting {
        account: true,
        ..Setting::default()
    });
    let (mut client, serving) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    drop(client);
    let (seq, own) = server.hear().await;
    assert_eq!(
        (seq, Login::parse(&own).unwrap().user),
        (1, b"proxy".to_vec())
    );
    server.say(2, &ok(2)).await;
    assert_eq!(server.hear().await, (0, vec![1]));
    serving.await.unwrap();
    let counters = world.relay.counters();
    assert_eq!((counters.probes.value(), counters.logins.value()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_breaks_off_in_the_middle_is_made_up_for() {
    let world = &mut World::new(Setting {
        account: true,
        ..Setting::default()
    });
    let (mut client, _) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    client.say(1, &login(CLIENT)).await;
    server.hear().await;
    drop(client);
    let mut second = world.server().await;
    second.say(0, &greeting(SERVER)).await;
    assert_eq!(Login::parse(&second.hear().await.1).unwrap().user, b"proxy");
    assert!(server.rest().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_nonsense_is_let_go() {
    let world = &mut World::new(Setting::default());
    let (mut client, serving) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    assert!(client.rest().await.is_empty());
    serving.await.unwrap();
    assert!(server.rest().await.is_empty());
    assert_eq!(world.relay.counters().logins_timed_out.value(), 1);

    for (nonsense, told) in [
        (packet(1, b"GET / HTTP/1.1\r\n\r\n"), true),
        (packet(1, &[0xFF; 40]), true),
        (packet(1, &login(CLIENT)[..33]), true),
        (
            packet(1, &login(CLIENT.with(Capabilities::SSL))[..32]),
            true,
        ),
        (vec![0xFF, 0xFF, 0xFF, 1, 0], false),
        (Vec::new(), false),
    ] {
        let (mut client, _) = world.knock();
        let mut server = world.server().await;
        server.say(0, &greeting(SERVER)).await;
        client.hear().await;
        client.send(&nonsense).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.0)
            .await
            .unwrap();
        let answer = client.rest().await;
        assert_eq!(!answer.is_empty(), told, "{nonsense:?}");
        if told {
            assert_eq!(
                (answer[3], crate::wire::reply::parse_err(&answer[4..]).code),
                (2, 1043)
            );
        }
        assert!(
            server.rest().await.is_empty(),
            "nothing of it reaches the primary"
        );
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.relay.sessions().open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_breaks_a_login_off_is_named() {
    let world = &mut World::new(Setting::default());
    let (mut client, _) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    client.say(1, &login(CLIENT)).await;
    server.hear().await;
    drop(server);
    let (seq, payload) = client.hear().await;
    assert_eq!(
        (seq, crate::wire::reply::parse_err(&payload).code),
        (2, 2013)
    );
}

fn change_user() -> Vec<u8> {
    let mut change = b"\x11bob\0\x14".to_vec();
    change.extend_from_slice(&[0xAB; 20]);
    change.extend_from_slice(b"other\0\x08\0mysql_native_password\0");
    change
}

#[tokio::test(start_paused = true)]
async fn a_change_of_user_is_a_login_in_the_middle() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    // A command before it is still unanswered, and one follows it at once.
    let piece = [
        packet(0, b"\x0e"),
        packet(0, &change_user()),
        packet(0, b"\x02third"),
    ]
    .concat();
    client.send(&piece).await;
    let (first, rest) = (packet(0, b"\x0e"), packet(0, &change_user()));
    server.expect(&[first, rest].concat()).await;
    assert!(
        server.is_silent().await,
        "what follows waits for the verdict"
    );
    let switch = b"\xFEmysql_native_password\0ABCDEFGHIJKLMNOPQRST\0";
    server
        .send(&[packet(1, &ok(3)), packet(1, switch)].concat())
        .await;
    assert_eq!(client.hear().await, (1, ok(3)));
    assert_eq!(client.hear().await, (1, switch.to_vec()));
    client.say(2, &[5; 20]).await;
    assert!(
        server.is_silent().await,
        "the third command stands before the proof"
    );
    let _ = world.handed();
}

/// The answer before a change of user is larger than what the client's pipe takes at once.
#[tokio::test(start_paused = true)]
async fn a_change_of_user_waits_until_the_answers_before_it_are_gone() {
    let world = &mut World::new(Setting {
        pipe_bytes: 1000,
        ..Setting::default()
    });
    let (mut client, mut server) = world.session().await;
    client
        .send(&[packet(0, b"\x03select a from t"), packet(0, &change_user())].concat())
        .await;
    server
        .expect(&[packet(0, b"\x03select a from t"), packet(0, &change_user())].concat())
        .await;
    let answer = rows(&[&[7; 200][..]; 20], 2);
    let verdict = packet(1, &ok(2));
    let sending = server.0.write_all(&answer);
    let (sent, ()) = tokio::join!(sending, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.expect(&answer).await;
    });
    sent.unwrap();
    server.send(&verdict).await;
    client.expect(&verdict).await;
    client.say(0, b"\x0e").await;
    assert_eq!(server.hear().await, (0, b"\x0e".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn after_a_change_of_user_the_facts_are_new() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    client.say(0, &change_user()).await;
    assert_eq!(server.hear().await, (0, change_user()));
    server
        .say(1, b"\xFEmysql_native_password\0ABCDEFGHIJKLMNOPQRST\0")
        .await;
    client.hear().await;
    client.say(2, &[5; 20]).await;
    assert_eq!(server.hear().await, (2, vec![5; 20]));
    server.say(3, &ok(2)).await;
    assert_eq!(client.hear().await, (3, ok(2)));
    client.say(0, b"\x0e").await;
    server.hear().await;
    server.say(1, &ok(2)).await;
    client.hear().await;
    let Some(Handed::Exchange(change)) = world.receiver.recv().await else {
        panic!("it")
    };
    let Some(Handed::Exchange(ping)) = world.receiver.recv().await else {
        panic!("it")
    };
    assert_eq!((change.facts.login, change.facts.user.as_str()), (0, "app"));
    assert!(change.answered && change.answer.error().is_none());
    assert!(!change.command.contains(&0xAB), "the proof is not kept");
    assert_eq!(change.command.len(), change_user().len());
    let facts = &ping.facts;
    assert_eq!(
        (facts.login, facts.user.as_str(), facts.database.as_str()),
        (1, "bob", "other")
    );
    assert_eq!((facts.collation, ping.seq), (8, 2));
}

/// caching_sha2's fast path: what tells its success and the verdict come in one piece.
#[tokio::test(start_paused = true)]
async fn a_change_of_user_may_take_several_packets() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    client.say(0, &change_user()).await;
    server.hear().await;
    server
        .say(1, b"\xFEcaching_sha2_password\0ABCDEFGHIJKLMNOPQRST\0")
        .await;
    client.hear().await;
    client.say(2, &[5; 32]).await;
    server.hear().await;
    server
        .send(&[packet(3, b"\x01\x03"), packet(4, &ok(2))].concat())
        .await;
    assert_eq!(client.hear().await, (3, b"\x01\x03".to_vec()));
    assert_eq!(client.hear().await, (4, ok(2)));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_user_that_is_refused_or_breaks_off_changes_nothing() {
    let world = &mut World::new(Setting::default());
    let (mut client, mut server) = world.session().await;
    client.say(0, &change_user()).await;
    server.hear().await;
    server.say(1, &error(1045, "no")).await;
    drop(server);
    assert_eq!(client.hear().await, (1, error(1045, "no")));
    assert!(client.rest().await.is_empty());
    drop(client);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        world.handed(),
        [
            "1 0x11 bob\0\u{14}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0: error 1045",
            "Vanished"
        ]
    );

    let (mut client, mut server) = world.session().await;
    client.say(0, &change_user()).await;
    server.hear().await;
    drop(server);
    let (seq, payload) = client.hear().await;
    assert_eq!(
        (seq, crate::wire::reply::parse_err(&payload).code),
        (1, 2013)
    );
}

#[test]
fn only_what_would_expose_a_password_needs_equal_legs() {
    use crate::relay::auth::needs_equal_legs;
    for (plugin, client_tls, expected) in [
        (&b"mysql_native_password"[..], true, false),
        (b"caching_sha2_password", true, false),
        (b"sha256_password", true, true),
        (b"sha256_password", false, true),
        (b"mysql_clear_password", true, true),
        (b"mysql_clear_password", false, false),
    ] {
        assert_eq!(
            needs_equal_legs(plugin, client_tls),
            expected,
            "{plugin:?} {client_tls}"
        );
    }
}

//! The gate, as clients, servers and whoever carries sessions across see it.

use super::world::*;
use crate::connect::Stream;
use crate::relay::{Carry, Carrying, Connection, Held, Leg, Then, Unheld};
use crate::wire::reply;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Carries as the test says, one held session after the other.
struct Desk(mpsc::Sender<Waiting>);

/// A held session, for the test to judge.
pub(super) struct Waiting {
    pub(super) held: Held,
    answer: oneshot::Sender<Then>,
}

impl Carry for Desk {
    fn held<'a>(&'a self, held: Held) -> Carrying<'a> {
        Box::pin(async {
            let (answer, answered) = oneshot::channel();
            self.0.try_send(Waiting { held, answer }).ok().unwrap();
            answered.await.unwrap()
        })
    }
}

impl Waiting {
    pub(super) fn say(self, then: impl FnOnce(Stream) -> Then) {
        let then = then(self.held.primary);
        self.answer.send(then).ok().unwrap();
    }

    pub(super) fn back(self) {
        self.say(Then::Back);
    }
}

/// A world with a desk.
pub(super) fn world(setting: Setting) -> (World, mpsc::Receiver<Waiting>) {
    let (sender, desk) = mpsc::channel(16);
    let carry = Arc::new(Desk(sender));
    (World::new(Setting { carry, ..setting }), desk)
}

/// A leg to `vitess`, and its other end.
pub(super) fn leg(statements: &[(u32, u32)]) -> (Box<Leg>, End) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let leg = Leg {
        stream: Stream::Memory(near),
        server: "vitess".into(),
        thread_id: 70,
        status: crate::wire::status::Status(2),
        vitess: false,
        statements: statements.to_vec(),
        stand_ins: Vec::new(),
        last: statements.last().map(|(client, _)| *client),
    };
    (Box::new(leg), End(far))
}

/// Time for every task to come to rest.
pub(super) async fn rest() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Says a command, hears it, answers it, hears the answer.
pub(super) async fn exchange(client: &mut End, server: &mut End, command: &[u8], status: u8) {
    client.say(0, command).await;
    assert_eq!(server.hear().await, (0, command.to_vec()));
    server.say(1, &ok(status)).await;
    assert_eq!(client.hear().await, (1, ok(status)));
}

fn refusal(heard: &(u8, Vec<u8>)) -> (u8, u16, String) {
    let failure = reply::parse_err(&heard.1);
    let text = String::from_utf8_lossy(&failure.message).into_owned();
    (heard.0, failure.code, text)
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_held_at_once_and_goes_back() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    rest().await;
    assert_eq!(world.relay.unheld(), 1);
    world.relay.hold();
    world.relay.all_held().await;
    let census = world.relay.census();
    assert_eq!((census.open, census.held, census.in_login), (1, 1, 0));
    assert!(census.unheld.is_empty());
    let waiting = desk.recv().await.unwrap();
    assert_eq!((waiting.held.seq, waiting.held.thread_id), (1, 7));
    assert_eq!(&*waiting.held.facts.primary, "legacy");
    // Which connection that is, is known of who is held, too.
    let session = waiting.held.facts.session;
    let at = Connection {
        thread_id: 7,
        is_vitess: false,
    };
    assert_eq!(world.relay.connection(session), Some(at));
    assert_eq!(world.relay.connections(), BTreeMap::from([(session, at)]));
    assert_eq!(world.relay.connection(session + 1), None);
    assert_eq!(
        (waiting.held.status.0, &waiting.held.statements),
        (2, &None)
    );
    // What the client says meanwhile waits.
    client.say(0, b"\x03select 1").await;
    assert!(server.is_silent().await);
    waiting.back();
    assert_eq!(server.hear().await.1, b"\x03select 1");
    server.send(&rows(&[b"1"], 2)).await;
    client.expect(&rows(&[b"1"], 2)).await;
    // It is not held again by the hold that has let it go.
    assert!(desk.try_recv().is_err());
    world.relay.resume();
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    assert!(desk.try_recv().is_err());
    world.relay.hold();
    desk.recv().await.unwrap().back();
    assert_eq!(world.relay.counters().held.value(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_session_in_a_transaction_is_held_when_it_ends() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    exchange(&mut client, &mut server, b"\x03begin", 3).await;
    world.relay.hold();
    rest().await;
    let unheld = Unheld {
        session: 1,
        user: "app".into(),
        thread_id: 7,
        is_vitess: false,
        in_transaction: true,
        tunnel: false,
        idle: true,
        seq: 1,
    };
    assert_eq!(world.relay.census().unheld, std::slice::from_ref(&unheld));
    exchange(&mut client, &mut server, b"\x03insert", 3).await;
    rest().await;
    assert!(desk.try_recv().is_err());
    client.say(0, b"\x03commit").await;
    server.hear().await;
    rest().await;
    let busy = Unheld {
        idle: false,
        seq: 2,
        ..unheld
    };
    assert_eq!(world.relay.census().unheld, [busy]);
    assert!(desk.try_recv().is_err(), "it is not answered yet");
    server.say(1, &ok(2)).await;
    let waiting = desk.recv().await.unwrap();
    assert_eq!(waiting.held.seq, 3);
    assert_eq!(client.hear().await, (1, ok(2)), "the answer has gone");
    assert_eq!(world.relay.unheld(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_in_a_command_is_held_when_it_is_answered() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    let command = packet(0, b"\x03select 1");
    client.send(&command[..7]).await;
    server.expect(&command[..7]).await;
    world.relay.hold();
    rest().await;
    assert!(desk.try_recv().is_err());
    client.send(&command[7..]).await;
    server.expect(&command[7..]).await;
    let answer = rows(&[b"1"], 2);
    server.send(&answer[..30]).await;
    rest().await;
    assert!(desk.try_recv().is_err());
    server.send(&answer[30..]).await;
    let waiting = desk.recv().await.unwrap();
    client.expect(&answer).await;
    assert_eq!(waiting.held.seq, 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_client_has_not_taken_its_answer_is_not_held() {
    let (mut world, mut desk) = world(Setting {
        pipe_bytes: 32,
        ..Setting::default()
    });
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x0e").await;
    server.hear().await;
    let answer = packet(1, &error(1, &"x".repeat(60)));
    server.send(&answer).await;
    world.relay.hold();
    rest().await;
    assert!(desk.try_recv().is_err());
    client.expect(&answer).await;
    desk.recv().await.unwrap();
}

/// A client that never waits for its answers would otherwise never come to a boundary.
#[tokio::test(start_paused = true)]
async fn a_pipeline_is_held_back_behind_what_was_read() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    let ping = packet(0, b"\x0e");
    client.send(&ping.repeat(3)).await;
    server.expect(&ping.repeat(3)).await;
    world.relay.hold();
    rest().await;
    client.send(&ping.repeat(2)).await;
    assert!(server.is_silent().await);
    server.send(&packet(1, &ok(2)).repeat(2)).await;
    rest().await;
    assert!(desk.try_recv().is_err(), "one is unanswered");
    server.say(1, &ok(2)).await;
    let waiting = desk.recv().await.unwrap();
    assert_eq!(waiting.held.seq, 3);
    client.expect(&packet(1, &ok(2)).repeat(3)).await;
    assert!(server.is_silent().await);
    waiting.back();
    server.expect(&ping.repeat(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_has_begun_a_transaction_is_read_on() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x03begin").await;
    server.hear().await;
    world.relay.hold();
    client.say(0, b"\x03commit").await;
    assert!(server.is_silent().await);
    server.say(1, &ok(3)).await;
    assert_eq!(server.hear().await.1, b"\x03commit");
    assert!(desk.try_recv().is_err());
    server.say(1, &ok(2)).await;
    assert_eq!(desk.recv().await.unwrap().held.seq, 2);
}

#[tokio::test(start_paused = true)]
async fn a_clients_file_is_no_boundary() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x03load").await;
    server.hear().await;
    server.say(1, b"\xFBfile").await;
    client.hear().await;
    world.relay.hold();
    rest().await;
    let file = [packet(2, &[1; 100]), packet(3, b"")].concat();
    client.send(&file).await;
    server.expect(&file).await;
    assert!(desk.try_recv().is_err());
    server.say(4, &ok(2)).await;
    desk.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_change_of_user_is_no_boundary() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    let mut change = b"\x11bob\0\0other\0\x08\0mysql_native_password\0".to_vec();
    client.say(0, &change).await;
    server.hear().await;
    server
        .say(1, b"\xFEmysql_native_password\0ABCDEFGHIJKLMNOPQRST\0")
        .await;
    client.hear().await;
    world.relay.hold();
    rest().await;
    assert!(desk.try_recv().is_err());
    client.say(2, &[5; 20]).await;
    server.hear().await;
    server.say(3, &ok(2)).await;
    let waiting = desk.recv().await.unwrap();
    assert_eq!(client.hear().await, (3, ok(2)));
    assert_eq!(waiting.held.facts.user, "bob");
    waiting.back();
    change[1] = b'r';
    client.say(0, &change).await;
    server.hear().await;
    rest().await;
    assert_eq!(world.relay.census().unheld[0].user, "bob");
    // Nor can it keep the others waiting.
    world.relay.end_unheld("why");
    assert_eq!(refusal(&client.hear().await), (1, 1053, "why".into()));
    world.relay.all_held().await;
    assert!(server.rest().await.is_empty());
    assert!(client.rest().await.is_empty());
    drop(client);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let handed = world.handed();
    assert_eq!(handed.len(), 3, "{handed:?}");
    assert!(handed[1].ends_with("unanswered") && handed[2] == "Vanished");
}

#[tokio::test(start_paused = true)]
async fn one_more_command_and_the_session_is_held_again() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    world.relay.hold();
    desk.recv().await.unwrap().say(Then::Once);
    rest().await;
    assert_eq!(world.relay.unheld(), 1, "it may speak");
    assert!(desk.try_recv().is_err());
    client.say(0, b"\x03select 1").await;
    server.hear().await;
    // The next one is not for this primary any more.
    client.say(0, b"\x03select 2").await;
    assert!(server.is_silent().await);
    server.say(1, &ok(2)).await;
    let waiting = desk.recv().await.unwrap();
    assert_eq!((client.hear().await.0, waiting.held.seq), (1, 1));
    assert!(server.is_silent().await);
    waiting.say(Then::Once);
    assert_eq!(server.hear().await.1, b"\x03select 2");
    server.say(1, &ok(2)).await;
    client.hear().await;
    desk.recv().await.unwrap().say(Then::Once);
    // The gate opens before it has said one: it goes on as ever.
    world.relay.resume();
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    assert!(desk.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn the_one_more_command_of_an_earlier_hold_is_not_one_of_the_next() {
    let (mut world, mut desk) = world(Setting::default());
    let (_client, _server) = world.session().await;
    world.relay.hold();
    desk.recv().await.unwrap().say(Then::Once);
    rest().await;
    world.relay.resume();
    world.relay.hold();
    desk.recv().await.unwrap().back();
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_to_end_is_told_so_and_closed() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    world.relay.hold();
    let why = "it holds a lock that cannot move";
    desk.recv().await.unwrap().say(|_| Then::End(why.into()));
    assert_eq!(refusal(&client.hear().await), (1, 1053, why.into()));
    assert!(client.rest().await.is_empty());
    assert!(server.rest().await.is_empty());
    drop(client);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.handed(), ["1 0x0e : 1 result, 0 rows", "Vanished"]);
    assert_eq!((world.relay.unheld(), world.relay.sessions().open), (0, 0));
    assert_eq!(world.relay.counters().ended.value(), 1);
}

/// Whether it is held or not yet when all are ended, it hears why.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_ended_twice_is_told_once() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    world.relay.hold();
    let waiting = desk.recv().await.unwrap();
    world.relay.end_unheld("all who are in the way");
    waiting.say(|_| Then::End("it holds a lock".into()));
    let told = refusal(&client.hear().await);
    assert_eq!(told, (1, 1053, "it holds a lock".into()));
    assert!(client.rest().await.is_empty() && server.rest().await.is_empty());
    world.relay.all_held().await;
    assert_eq!(world.relay.counters().ended.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn new_logins_wait_and_then_go_to_the_primary_of_then() {
    let (mut world, _desk) = world(Setting::default());
    world.relay.hold();
    let (mut client, _) = world.knock();
    assert!(client.is_silent().await);
    let census = world.relay.census();
    assert_eq!((census.open, census.in_login), (0, 1));
    world.relay.all_held().await;
    world.flip();
    world.relay.resume();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    client.say(1, &login(CLIENT)).await;
    server.hear().await;
    server.say(2, &ok(2)).await;
    client.hear().await;
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    let Some(crate::tee::Handed::Exchange(it)) = world.receiver.recv().await else {
        panic!("an exchange")
    };
    assert_eq!(&*it.facts.primary, "vitess");
    assert_eq!(world.relay.census().in_login, 0);
}

#[tokio::test(start_paused = true)]
async fn a_login_does_not_wait_for_ever() {
    let (world, _desk) = world(Setting::default());
    world.relay.hold();
    let (mut client, serving) = world.knock();
    let began = tokio::time::Instant::now();
    let told = refusal(&client.hear().await);
    assert_eq!((told.0, told.1), (0, 2003));
    assert_eq!(began.elapsed().as_secs(), 10);
    assert!(client.rest().await.is_empty());
    drop(client);
    serving.await.unwrap();
    assert_eq!(world.relay.counters().logins_held.value(), 1);
    // One that waits when the proxy drains is told that.
    let (mut client, _) = world.knock();
    rest().await;
    let relay = world.relay.clone();
    let draining = crate::task::spawn("drain", async move { relay.drain().await });
    assert_eq!(refusal(&client.hear().await).1, 1053);
    drop(client);
    draining.await.unwrap();
}

/// Its login ends on the old primary, after the switch; what it sent ahead goes to the new one.
#[tokio::test(start_paused = true)]
async fn a_login_under_way_is_held_before_its_first_command_and_moved() {
    for flipped_first in [false, true] {
        let (mut world, mut desk) = world(Setting::default());
        let (mut client, _) = world.knock();
        let mut old = world.server().await;
        old.say(0, &greeting(SERVER)).await;
        client.hear().await;
        client.say(1, &login(CLIENT)).await;
        client.say(0, b"\x03select 1").await;
        old.hear().await;
        world.relay.hold();
        world.relay.all_held().await;
        if flipped_first {
            world.flip();
            world.relay.resume();
        }
        old.say(2, &ok(2)).await;
        assert_eq!(client.hear().await, (2, ok(2)));
        let waiting = desk.recv().await.unwrap();
        assert_eq!(waiting.held.seq, 0);
        assert!(old.is_silent().await);
        let (leg, mut new) = leg(&[]);
        waiting.say(|_| Then::Moved(leg));
        assert!(old.rest().await.is_empty());
        assert_eq!(new.hear().await.1, b"\x03select 1");
        if !flipped_first {
            world.flip();
            world.relay.resume();
        }
        new.say(1, &ok(2)).await;
        client.hear().await;
        exchange(&mut client, &mut new, b"\x0e", 2).await;
        assert!(desk.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn the_roles_alone_hold_a_session_that_was_missed() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    exchange(&mut client, &mut server, b"\x03begin", 3).await;
    world.relay.hold();
    world.flip();
    world.relay.resume();
    exchange(&mut client, &mut server, b"\x03commit", 2).await;
    // Not before its transaction has ended, and whether the gate holds or not.
    let waiting = desk.recv().await.unwrap();
    assert_eq!(waiting.held.seq, 2);
    waiting.back();
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    assert!(desk.try_recv().is_err(), "whoever carries it wanted it so");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_held_is_found_when_it_goes_on() {
    for moves in [false, true] {
        let (mut world, mut desk) = world(Setting::default());
        let (mut client, mut server) = world.session().await;
        exchange(&mut client, &mut server, b"\x0e", 2).await;
        world.relay.hold();
        let waiting = desk.recv().await.unwrap();
        drop(client);
        rest().await;
        assert_eq!(world.relay.census().held, 1);
        let (leg, mut new) = leg(&[]);
        if moves {
            waiting.say(|_| Then::Moved(leg));
            assert!(new.rest().await.is_empty());
        } else {
            waiting.back();
        }
        assert!(server.rest().await.is_empty());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((world.relay.unheld(), world.relay.sessions().open), (0, 0));
        assert_eq!(world.relay.census(), Default::default());
        assert_eq!(world.handed(), ["1 0x0e : 1 result, 0 rows", "Left"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_held_sessions() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    world.relay.hold();
    let waiting = desk.recv().await.unwrap();
    let relay = world.relay.clone();
    let draining = crate::task::spawn("drain", async move { relay.drain().await });
    assert_eq!(refusal(&client.hear().await).1, 1053);
    assert!(client.rest().await.is_empty());
    drop(client);
    draining.await.unwrap();
    assert_eq!(world.relay.counters().drain_cut.value(), 0);
    assert!(waiting.answer.is_closed());
    drop(waiting);
    assert!(server.rest().await.is_empty());
    assert_eq!(world.relay.census(), Default::default());
    assert_eq!(world.handed().last().unwrap(), "Vanished");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_comes_to_its_boundary_in_the_drain_is_not_held() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    exchange(&mut client, &mut server, b"\x03begin", 3).await;
    world.relay.hold();
    let relay = world.relay.clone();
    let draining = crate::task::spawn("drain", async move { relay.drain().await });
    exchange(&mut client, &mut server, b"\x03commit", 2).await;
    assert_eq!(refusal(&client.hear().await).1, 1053);
    drop(client);
    draining.await.unwrap();
    assert!(desk.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_be_held_can_be_ended() {
    let (mut world, mut desk) = world(Setting::default());
    // In a transaction; in a command; in an answer; in half a command; a tunnel; held.
    let (mut open, mut open_server) = world.session().await;
    exchange(&mut open, &mut open_server, b"\x03begin", 3).await;
    let (mut busy, mut busy_server) = world.session().await;
    busy.say(0, b"\x03select sleep(100)").await;
    busy_server.hear().await;
    let (mut answered, mut answering) = world.session().await;
    answered.say(0, b"\x03select 1").await;
    answering.hear().await;
    answering.send(&rows(&[b"1"], 2)[..20]).await;
    let (mut half, mut half_server) = world.session().await;
    half.send(&packet(0, b"\x03select 1")[..8]).await;
    half_server.expect(&packet(0, b"\x03select 1")[..8]).await;
    let (mut pipe, mut pipe_server) = world.session().await;
    pipe.say(0, b"\x12binlog").await;
    pipe_server.hear().await;
    let (mut held, mut held_server) = world.session().await;
    rest().await;
    world.relay.end_unheld("too early");
    world.relay.hold();
    let waiting = desk.recv().await.unwrap();
    rest().await;
    let census = world.relay.census();
    assert_eq!((census.open, census.held, census.tunnels), (6, 1, 1));
    let told: Vec<_> = census
        .unheld
        .iter()
        .map(|one| (one.in_transaction, one.tunnel))
        .collect();
    let none = (false, false);
    assert_eq!(told, [(true, false), none, none, none, (false, true)]);
    let why = "the primary changes";
    world.relay.end_unheld(why);
    world.relay.all_held().await;
    assert_eq!(refusal(&open.hear().await), (1, 1053, why.into()));
    assert_eq!(refusal(&busy.hear().await), (1, 1053, why.into()));
    assert_eq!(refusal(&half.hear().await), (1, 1053, why.into()));
    assert_eq!(answered.rest().await, &rows(&[b"1"], 2)[..20]);
    for client in [&mut open, &mut busy, &mut half, &mut pipe] {
        assert!(client.rest().await.is_empty());
    }
    for server in [&mut open_server, &mut busy_server, &mut half_server] {
        assert!(server.rest().await.is_empty());
    }
    assert!(answering.rest().await.is_empty() && pipe_server.rest().await.is_empty());
    assert_eq!(world.relay.counters().ended.value(), 5);
    // Whoever was held is let go as before, whatever became of the others.
    waiting.back();
    exchange(&mut held, &mut held_server, b"\x0e", 2).await;
    world.relay.resume();
    exchange(&mut held, &mut held_server, b"\x0e", 2).await;
    world.relay.hold();
    desk.recv().await.unwrap();
}

/// Those that had no turn between the two calls.
#[tokio::test(start_paused = true)]
async fn whoever_can_be_held_is_not_ended() {
    let (mut world, mut desk) = world(Setting::default());
    let (mut client, mut server) = world.session().await;
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    rest().await;
    world.relay.hold();
    world.relay.end_unheld("why");
    desk.recv().await.unwrap().back();
    exchange(&mut client, &mut server, b"\x0e", 2).await;
    assert_eq!(world.relay.counters().ended.value(), 0);
}

/// A client that reads nothing cannot keep the others waiting.
#[tokio::test(start_paused = true)]
async fn a_session_is_ended_though_its_client_does_not_read() {
    let (mut world, _desk) = world(Setting {
        pipe_bytes: 32,
        ..Setting::default()
    });
    let (mut client, mut server) = world.session().await;
    client.say(0, b"\x0e").await;
    server.hear().await;
    let sending = crate::task::spawn("server", async move {
        let answer = packet(1, &error(1, &"x".repeat(200)));
        let _ = tokio::io::AsyncWriteExt::write_all(&mut server.0, &answer).await;
        server
    });
    world.relay.hold();
    rest().await;
    world.relay.end_unheld("why");
    let began = tokio::time::Instant::now();
    world.relay.all_held().await;
    assert!(began.elapsed() < Duration::from_secs(2));
    sending.await.unwrap();
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_call_asks_who_is_in_a_transaction_and_holds_nobody() {
    let (mut world, mut desk) = world(Setting::default());
    let (_idle, _idle_server) = world.session().await;
    let (mut open, mut server) = world.session().await;
    exchange(&mut open, &mut server, b"\x03begin", 3).await;
    let asked = |world: &World| {
        let unheld = world.relay.census().unheld;
        unheld
            .iter()
            .map(|one| one.in_transaction)
            .collect::<Vec<_>>()
    };
    world.relay.call();
    rest().await;
    assert_eq!(asked(&world), [false, true]);
    exchange(&mut open, &mut server, b"\x03commit", 2).await;
    world.relay.call();
    rest().await;
    assert_eq!(asked(&world), [false, false]);
    assert!(desk.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_parts_with_a_leg_says_so() {
    let (near, far) = tokio::io::duplex(64);
    crate::relay::part_with(Stream::Memory(near));
    let mut far = End(far);
    assert_eq!(far.hear().await, (0, vec![1]));
    assert!(far.rest().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_statements_gets_them_before_the_client_is_in() {
    let (mut world, _desk) = world(Setting {
        init: vec!["SET a = 1".into(), "SELECT 1".into()],
        ..Setting::default()
    });
    let (_client, mut server) = world.session().await;
    assert!(server.is_silent().await, "legacy wants nothing");
    world.flip();
    let (mut client, _) = world.knock();
    let mut server = world.server().await;
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    client.say(1, &login(CLIENT)).await;
    client.say(0, b"\x03mine").await;
    server.hear().await;
    server.say(2, &ok(2)).await;
    assert_eq!(server.hear().await, (0, b"\x03SET a = 1".to_vec()));
    assert!(client.is_silent().await);
    server.say(1, &ok(2)).await;
    assert_eq!(server.hear().await, (0, b"\x03SELECT 1".to_vec()));
    for byte in rows(&[b"1", b"2"], 2) {
        server.send(&[byte]).await;
    }
    assert_eq!(client.hear().await, (2, ok(2)));
    assert_eq!(server.hear().await, (0, b"\x03mine".to_vec()));
    assert!(world.handed().is_empty(), "they are nobody's commands");
}

#[tokio::test(start_paused = true)]
async fn a_refused_statement_of_the_config_ends_the_login() {
    for answer in [
        error(1193, "Unknown system variable 'a'"),
        b"\xFBfile".to_vec(),
    ] {
        let (mut world, _desk) = world(Setting {
            init: vec!["SET a = 1".into()],
            ..Setting::default()
        });
        world.flip();
        let (mut client, _) = world.knock();
        let mut server = world.server().await;
        server.say(0, &greeting(SERVER)).await;
        client.hear().await;
        client.say(1, &login(CLIENT)).await;
        server.hear().await;
        server.say(2, &ok(2)).await;
        server.hear().await;
        server.say(1, &answer).await;
        let (seq, code, text) = refusal(&client.hear().await);
        let refused = answer[0] == 0xFF;
        assert_eq!((seq, code), (2, if refused { 1193 } else { 2013 }));
        let expected = "init of 'vitess': \"SET a = 1\" was refused: Unknown system variable 'a'";
        assert!(!refused || text == expected, "{text}");
        assert!(client.rest().await.is_empty());
        assert!(server.rest().await.is_empty());
        assert_eq!(world.relay.counters().logins.value(), 0);
    }
}

/// It has been let go for the next hold already, which it has heard nothing of.
#[tokio::test(start_paused = true)]
async fn a_session_that_goes_back_in_the_next_hold_is_held_again() {
    let (mut world, mut desk) = world(Setting::default());
    let (_client, _server) = world.session().await;
    world.relay.hold();
    let waiting = desk.recv().await.unwrap();
    waiting.back();
    world.relay.resume();
    world.relay.hold();
    desk.recv().await.unwrap().back();
    rest().await;
    assert!(desk.try_recv().is_err());
}

//! Sessions that come, are lent, ended, let go and moved, in whatever order.

use super::*;
use crate::config::{FedBy, TlsMode};
use crate::connect::Dialing;
use crate::roles::Roles;
use crate::task;
use crate::tee::Share;
use crate::wire::capability::Capabilities;
use crate::wire::packet::write_packet;
use crate::wire::status::Status;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

fn server(name: &str) -> Arc<Server> {
    Arc::new(Server {
        name: name.into(),
        host: "127.0.0.1".into(),
        port: 1,
        tls: TlsMode::Off,
        tls_ca: None,
        account: None,
        users: [("app".to_owned(), account("app"))].into(),
        databases: Default::default(),
        fed_by: FedBy::Mirror,
        init: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        source_addresses: Vec::new(),
        proxy_protocol: Default::default(),
    })
}

fn account(user: &str) -> Account {
    Account {
        user: user.to_owned(),
        password: "secret".to_owned(),
    }
}

/// Each dial gives the test the far end.
struct Ends(mpsc::Sender<(String, DuplexStream)>);

impl Dial for Ends {
    fn dial<'a>(&'a self, server: &'a Server) -> Dialing<'a> {
        Box::pin(async {
            let (near, far) = tokio::io::duplex(1 << 16);
            let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
            let opened = (server.name.clone(), far);
            self.0.send(opened).await.map_err(refused)?;
            Ok(Stream::Memory(near))
        })
    }
}

struct World {
    carrier: Arc<Carrier>,
    roles: watch::Sender<Roles>,
    dialled: mpsc::Receiver<(String, DuplexStream)>,
}

/// A session that the gate holds.
struct Session {
    told: JoinHandle<Then>,
    /// The far end of the connection that it came with.
    leg: DuplexStream,
}

impl World {
    fn new() -> Self {
        let roles = Roles {
            primary: server("legacy"),
            shadow: server("vitess"),
        };
        let (writer, roles) = watch::channel(roles);
        let (opened, dialled) = mpsc::channel(8);
        Self {
            carrier: Arc::new(Carrier::new(roles, Arc::new(Ends(opened)))),
            roles: writer,
            dialled,
        }
    }

    fn flip(&self) {
        self.roles.send_modify(|roles| {
            std::mem::swap(&mut roles.primary, &mut roles.shadow);
        });
    }

    /// A session comes to the gate with its primary's connection.
    async fn comes(&self, session: u64, seq: u64, primary: &str) -> Session {
        let (near, leg) = tokio::io::duplex(1 << 10);
        let held = Held {
            facts: facts(session, "app", primary),
            seq,
            status: Status(2),
            primary: Stream::Memory(near),
            thread_id: 7,
            statements: None,
        };
        let carrier = Arc::clone(&self.carrier);
        let told = task::spawn("session", async move { carrier.held(held).await });
        rest().await;
        Session { told, leg }
    }

    fn waiting(&self) -> Vec<u64> {
        let seats = self.carrier.seats().into_iter();
        seats.map(|(facts, _)| facts.session).collect()
    }
}

fn facts(session: u64, user: &str, primary: &str) -> Arc<Facts> {
    Arc::new(Facts {
        session,
        login: 0,
        user: user.into(),
        database: "shop".into(),
        capabilities: Capabilities::PROTOCOL_41
            .with(Capabilities::SECURE_CONNECTION)
            .with(Capabilities::PLUGIN_AUTH),
        collation: 45,
        primary: primary.into(),
        thread_id: 7,
        client: None,
        share: Arc::new(Share::default()),
    })
}

fn leg() -> (Leg, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 10);
    let leg = Leg {
        stream: Stream::Memory(near),
        server: "vitess".into(),
        thread_id: 70,
        status: Status(2),
        vitess: true,
        statements: Vec::new(),
        stand_ins: Vec::new(),
        last: None,
    };
    (leg, far)
}

/// Time for every task to come to rest.
async fn rest() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Whether both are ends of one connection.
async fn is_one(mut near: Stream, far: &mut DuplexStream) -> bool {
    let mut byte = [0];
    near.write_all(b"x").await.unwrap();
    let read = timeout(Duration::from_secs(1), far.read_exact(&mut byte)).await;
    read.is_ok_and(|read| read.is_ok()) && byte == *b"x"
}

impl Session {
    async fn waits(&mut self) -> bool {
        let told = timeout(Duration::from_secs(1), &mut self.told).await;
        told.is_err()
    }

    async fn told(&mut self) -> Then {
        let told = timeout(Duration::from_secs(10), &mut self.told).await;
        told.expect("it is told").expect("it does not panic")
    }

    async fn goes_back(mut self) {
        let Then::Back(primary) = self.told().await else {
            panic!("it does not go back")
        };
        assert!(is_one(primary, &mut self.leg).await, "with its own leg");
    }

    async fn ends(mut self) -> String {
        match self.told().await {
            Then::End(why) => why,
            other => panic!("it does not end: {other:?}"),
        }
    }

    /// What its old connection is told, up to its end.
    async fn quits(&mut self) -> bool {
        let mut said = Vec::new();
        let read = timeout(Duration::from_secs(10), self.leg.read_to_end(&mut said)).await;
        read.is_ok() && said == [1, 0, 0, 0, 1]
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_outside_of_a_hold_goes_back_where_its_server_is_the_primary() {
    let world = World::new();
    world.comes(1, 5, "legacy").await.goes_back().await;
    assert!(world.waiting().is_empty());
}

/// Lets a login in, as a server does that wants no more than a name.
async fn lets_in(far: &mut DuplexStream) {
    let mut greeting =
        b"\x0a8.4.6-Vitess\0\x46\0\0\0abcdefgh\0\xff\xf7\x2d\x02\0\xff\xff\x15".to_vec();
    greeting.extend_from_slice(b"\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0mysql_native_password\0");
    let mut out = Vec::new();
    write_packet(&mut out, 0, &greeting);
    far.write_all(&out).await.unwrap();
    let mut header = [0; 4];
    far.read_exact(&mut header).await.unwrap();
    let mut login = vec![0; usize::from(header[0])];
    far.read_exact(&mut login).await.unwrap();
    let mut out = Vec::new();
    write_packet(&mut out, 2, &[0, 0, 0, 2, 0, 0, 0]);
    far.write_all(&out).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_logged_in_to_the_old_primary_and_said_nothing_opens_its_own_leg() {
    let mut world = World::new();
    world.flip();
    let mut session = world.comes(1, 0, "legacy").await;
    assert!(session.quits().await);
    let (name, mut far) = world.dialled.recv().await.unwrap();
    assert_eq!(name, "vitess");
    lets_in(&mut far).await;
    let Then::Moved(leg) = session.told().await else {
        panic!("it is not moved")
    };
    assert_eq!(
        (&*leg.server, leg.thread_id, leg.vitess),
        ("vitess", 70, true)
    );
    assert!(is_one(leg.stream, &mut far).await);
    // One that has said something has a state that nobody has carried.
    let mut session = world.comes(2, 3, "legacy").await;
    assert!(session.quits().await);
    assert!(session.ends().await.contains("not ready"));
    // Nor is there a way for a user that is not known there.
    let (near, _leg) = tokio::io::duplex(1);
    let held = Held {
        facts: facts(3, "bob", "legacy"),
        seq: 0,
        status: Status(2),
        primary: Stream::Memory(near),
        thread_id: 7,
        statements: None,
    };
    match world.carrier.held(held).await {
        Then::End(why) => assert!(why.contains("user bob"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_hold_all_wait_and_are_let_go_as_they_came() {
    let world = World::new();
    world.carrier.begin();
    let mut first = world.comes(2, 5, "legacy").await;
    let second = world.comes(1, 0, "legacy").await;
    assert!(first.waits().await);
    assert_eq!(world.waiting(), [1, 2]);
    world.carrier.let_go();
    first.goes_back().await;
    second.goes_back().await;
    assert!(world.waiting().is_empty());
    // The hold is over: who comes now does not wait, and to let go again does nothing.
    world.carrier.let_go();
    world.comes(3, 1, "legacy").await.goes_back().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_goes_on_for_a_command_comes_again() {
    let world = World::new();
    world.carrier.begin();
    let mut session = world.comes(1, 5, "legacy").await;
    world.carrier.let_once(1);
    let Then::Once(primary) = session.told().await else {
        panic!("it does not go on")
    };
    assert!(is_one(primary, &mut session.leg).await);
    assert!(world.waiting().is_empty());
    world.carrier.let_once(1);
    world.carrier.let_once(9);
    assert_eq!(
        world.carrier.going(),
        [1].into(),
        "it counts until it is back"
    );
    let again = world.comes(1, 6, "legacy").await;
    assert_eq!(world.carrier.seats()[0].1, 6);
    assert!(world.carrier.going().is_empty());
    world.carrier.let_once(1);
    world.carrier.let_go();
    assert!(world.carrier.going().is_empty(), "with the hold it is over");
    assert!(matches!(Session::told(&mut { again }).await, Then::Once(_)));
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_move_is_ended_and_its_leg_is_left() {
    let world = World::new();
    world.carrier.begin();
    let mut session = world.comes(1, 5, "legacy").await;
    world.carrier.end_one(1, "it is in the way");
    assert!(session.quits().await);
    assert_eq!(session.ends().await, "it is in the way");
    world.carrier.end_one(1, "twice");
    world.carrier.let_go();
}

#[tokio::test(start_paused = true)]
async fn a_leg_that_was_lent_is_back_in_its_seat_afterwards() {
    let world = World::new();
    world.carrier.begin();
    let session = world.comes(1, 5, "legacy").await;
    let mut lent = world.carrier.lend(1).expect("a seat");
    assert_eq!((world.waiting(), world.carrier.lent()), (vec![], 1));
    assert!(world.carrier.lend(1).is_none(), "it is lent already");
    assert!(world.carrier.lend(9).is_none(), "nobody's");
    let stream = lent.take().expect("its leg");
    assert!(lent.take().is_none(), "it is taken");
    lent.give_back(stream);
    drop(lent);
    assert_eq!((world.waiting(), world.carrier.lent()), (vec![1], 0));
    world.carrier.let_go();
    session.goes_back().await;
}

/// The hold ends while the question is on its way.
#[tokio::test(start_paused = true)]
async fn one_that_is_let_go_while_it_is_lent_goes_on_when_it_is_given_back() {
    let world = World::new();
    world.carrier.begin();
    let mut session = world.comes(1, 5, "legacy").await;
    let mut lent = world.carrier.lend(1).expect("a seat");
    let stream = lent.take().expect("its leg");
    world.carrier.let_go();
    assert!(session.waits().await, "an answer is on its way");
    // Meanwhile neither of these finds it.
    world.carrier.let_once(1);
    world.carrier.end_one(1, "it is lent");
    lent.give_back(stream);
    drop(lent);
    session.goes_back().await;
    assert_eq!(world.carrier.lent(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_whose_leg_is_not_given_back_ends_whatever_the_hold_does() {
    for moves in [false, true] {
        let world = World::new();
        world.carrier.begin();
        let mut session = world.comes(1, 5, "legacy").await;
        let mut lent = world.carrier.lend(1).expect("a seat");
        drop(lent.take());
        drop(lent);
        assert_eq!(world.waiting(), [1], "the coordinator still decides");
        if moves {
            world.flip();
            let (leg, mut far) = leg();
            let legs = BTreeMap::from([(1, leg)]);
            assert_eq!(world.carrier.move_all(legs), (1, vec![]));
            let Then::Moved(leg) = session.told().await else {
                panic!("its new leg is as good as any")
            };
            assert!(is_one(leg.stream, &mut far).await);
        } else {
            world.carrier.let_go();
            assert!(session.ends().await.contains("did not answer"));
        }
    }
}

/// A question of an earlier hold is still unanswered when the next one begins.
#[tokio::test(start_paused = true)]
async fn one_that_is_lent_over_the_end_of_a_hold_waits_in_the_next() {
    let world = World::new();
    world.carrier.begin();
    let mut session = world.comes(1, 5, "legacy").await;
    let lent = world.carrier.lend(1).expect("a seat");
    world.carrier.let_go();
    world.carrier.begin();
    assert_eq!((world.waiting(), world.carrier.lent()), (vec![], 1));
    drop(lent);
    assert_eq!((world.waiting(), world.carrier.lent()), (vec![1], 0));
    assert!(session.waits().await);
    world.carrier.let_go();
    session.goes_back().await;
}

/// It was lent when all moved: it cannot go back to a server that is no primary.
#[tokio::test(start_paused = true)]
async fn one_that_is_lent_when_the_primary_changes_is_left_behind_and_told_so() {
    let world = World::new();
    world.carrier.begin();
    let mut session = world.comes(1, 5, "legacy").await;
    let mut lent = world.carrier.lend(1).expect("a seat");
    let stream = lent.take().expect("its leg");
    world.flip();
    assert_eq!(world.carrier.move_all(BTreeMap::new()), (0, vec![]));
    assert!(session.waits().await);
    lent.give_back(stream);
    drop(lent);
    assert_eq!(session.ends().await, LEFT);
}

#[tokio::test(start_paused = true)]
async fn all_move_but_who_has_no_leg_opens_its_own_or_ends() {
    let mut world = World::new();
    world.carrier.begin();
    let mut moved = world.comes(1, 5, "legacy").await;
    let mut new = world.comes(2, 0, "legacy").await;
    let mut old = world.comes(3, 9, "legacy").await;
    let gone = world.comes(4, 9, "legacy").await;
    gone.told.abort();
    rest().await;
    world.flip();
    let (one, mut far) = leg();
    let (unclaimed, mut nobodys) = leg();
    let (left, mut its) = leg();
    let legs = BTreeMap::from([(1, one), (4, left), (77, unclaimed)]);
    let (count, ended) = world.carrier.move_all(legs);
    assert_eq!((count, ended), (2, vec![3]));
    let Then::Moved(leg) = moved.told().await else {
        panic!("it is not moved")
    };
    assert!(is_one(leg.stream, &mut far).await);
    assert!(moved.quits().await && old.quits().await && new.quits().await);
    assert_eq!(old.ends().await, LEFT);
    let (name, mut opened) = world.dialled.recv().await.unwrap();
    assert_eq!(name, "vitess");
    lets_in(&mut opened).await;
    assert!(matches!(new.told().await, Then::Moved(_)));
    // Legs that nobody took are closed.
    let mut rest = Vec::new();
    assert_eq!(nobodys.read_to_end(&mut rest).await.unwrap(), 0);
    assert_eq!(its.read_to_end(&mut rest).await.unwrap(), 0);
    assert!(world.waiting().is_empty());
    // The next hold begins with nobody.
    world.carrier.begin();
    let session = world.comes(1, 6, "vitess").await;
    assert_eq!(world.waiting(), [1]);
    world.carrier.let_go();
    session.goes_back().await;
}

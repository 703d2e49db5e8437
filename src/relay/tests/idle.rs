//! What the gate costs a session that it does not concern: nothing but a look at its word.

use super::world::*;
use crate::connect::Stream;
use crate::relay::book::Book;
use crate::relay::census::Newcomer;
use crate::relay::ear::Ear;
use crate::relay::own::Own;
use crate::relay::pump::{Event, Pump};
use crate::tee::{self, Facts, Handed, Limits, Share};
use crate::wire::proxied::Addresses;
use crate::wire::status::Status;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::unconstrained;

const POLLS: usize = 10_000;

/// A pump in the test's own hands, and the far ends of its legs.
fn pump(world: &World) -> (Pump, DuplexStream, DuplexStream) {
    let shared = &world.relay.shared;
    let facts = Arc::new(Facts {
        session: 9,
        login: 0,
        user: "app".into(),
        database: "shop".into(),
        capabilities: CLIENT,
        collation: 45,
        primary: "legacy".into(),
        thread_id: 7,
        client: None,
        share: Arc::new(Share::default()),
    });
    let newcomer = Newcomer {
        told: None,
        thread_id: 7,
        vitess: false,
    };
    let seat = shared.roster.enter(&facts, newcomer);
    let own = Own::new(shared.roster.ids_differ(), CLIENT, (false, false));
    let counters = Arc::clone(&shared.counters);
    let (tee, book) = (shared.tee.clone(), shared.limits.book);
    let book = Book::new(facts, tee, book, Status(2), Arc::clone(&counters), own);
    let (client, far_client) = tokio::io::duplex(64 << 10);
    let (primary, far_primary) = tokio::io::duplex(64 << 10);
    let (client, primary) = (Stream::Memory(client), Stream::Memory(primary));
    let at_gate = (seat, shared.gate.word_never());
    let pump = Pump::new(client, primary, book, counters, at_gate);
    (pump, far_client, far_primary)
}

/// Polls as the session's task does.
fn poll(world: &World, pump: &mut Pump, ear: &mut Ear<'_>) -> Poll<Event> {
    let shared = &world.relay.shared;
    let mut context = Context::from_waker(Waker::noop());
    let word = ear.listen(&mut context);
    pump.poll(&mut context, word, (&shared.gate, &shared.drain))
}

fn ear(world: &World) -> Ear<'_> {
    let shared = &world.relay.shared;
    Ear::new(&shared.drain, &shared.gate, &shared.bell)
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_polls_allocate_nothing() {
    // Without tokio's budget for one task, which would cut the polls short.
    unconstrained(async {
        let world = &World::new(Setting::default());
        let (mut pump, _client, _primary) = pump(world);
        let mut ear = ear(world);
        assert!(poll(world, &mut pump, &mut ear).is_pending());
        let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![0; 10])));
        assert_eq!(counted.count_total, 1, "the measure measures");
        let used = allocation_counter::measure(|| {
            for _ in 0..POLLS {
                assert!(poll(world, &mut pump, &mut ear).is_pending());
            }
        });
        assert_eq!((used.count_total, used.bytes_total), (0, 0));
    })
    .await;
}

/// The same with bytes on their way: a command, and a long answer in pieces.
#[tokio::test(start_paused = true)]
async fn bytes_on_their_way_allocate_nothing() {
    // Without tokio's budget for one task, which would cut the polls short.
    unconstrained(async {
        let world = &World::new(Setting::default());
        let (mut pump, mut client, mut primary) = pump(world);
        let mut ear = ear(world);
        client
            .write_all(&packet(0, b"\x03select a from t"))
            .await
            .unwrap();
        let answer = rows(&vec![&[7; 200][..]; 1000], 2);
        let mut seen = vec![0; 1000];
        let (mut pieces, mut used) = (0, 0);
        for piece in answer.chunks_exact(1000) {
            primary.write_all(piece).await.unwrap();
            let went = allocation_counter::measure(|| {
                assert!(poll(world, &mut pump, &mut ear).is_pending());
            });
            client.read_exact(&mut seen).await.unwrap();
            // The first fill the sample, and what lies in memory in place of sockets.
            pieces += 1;
            if pieces > 70 {
                used += went.count_total;
            }
        }
        assert!(pieces > 200);
        assert_eq!(used, 0);
    })
    .await;
}

/// Commands, answers and hand-overs, one after the other, as the shadow side takes them in.
#[tokio::test(start_paused = true)]
async fn an_exchange_allocates_nothing_once_it_has_warmed_up() {
    const WARM: usize = 600;
    const COUNTED: usize = 2000;
    // Without tokio's budget for one task, which would cut the polls short.
    unconstrained(async {
        let mut world = World::new(Setting::default());
        let (_, nobody) = tee::door(Limits::default());
        let mut receiver = std::mem::replace(&mut world.receiver, nobody);
        let world = &world;
        let (mut pump, mut client, mut primary) = pump(world);
        let mut ear = ear(world);
        let command = packet(0, b"\x03select a, b from t where id = 7");
        let answer = rows(&[&[7; 200][..], &[8; 30][..]], 2);
        let mut seen = vec![0; answer.len()];
        let (mut used, mut handed) = (0, 0);
        for round in 0..WARM + COUNTED {
            client.write_all(&command).await.unwrap();
            let up = allocation_counter::measure(|| {
                assert!(poll(world, &mut pump, &mut ear).is_pending());
            });
            primary
                .read_exact(&mut vec![0; command.len()])
                .await
                .unwrap();
            primary.write_all(&answer).await.unwrap();
            let down = allocation_counter::measure(|| {
                assert!(poll(world, &mut pump, &mut ear).is_pending());
            });
            client.read_exact(&mut seen).await.unwrap();
            while let Some(one) = receiver.try_recv() {
                handed += usize::from(matches!(one, Handed::Exchange(_)));
            }
            if round >= WARM {
                used += up.count_total + down.count_total;
            }
        }
        assert_eq!(handed, WARM + COUNTED);
        assert_eq!(used, 0);
    })
    .await;
}

/// An untroubled session takes no lock: neither the roles' nor the census'.
#[tokio::test(start_paused = true)]
async fn a_session_that_has_settled_asks_nobody() {
    // Without tokio's budget for one task, which would cut the polls short.
    unconstrained(async {
        let world = &World::new(Setting::default());
        let (mut pump, _client, _primary) = pump(world);
        let mut ear = ear(world);
        world.relay.call();
        assert!(poll(world, &mut pump, &mut ear).is_pending());
        let mut held = false;
        // Both are held by this very thread: a session that took one would stand still for ever.
        let _census = world.relay.shared.roster.lock_for_a_test();
        world.roles.send_if_modified(|_| {
            for _ in 0..POLLS {
                held |= poll(world, &mut pump, &mut ear).is_ready();
            }
            false
        });
        assert!(!held);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_wakes_a_session_once() {
    struct Counting(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let world = &World::new(Setting::default());
    let mut ear = ear(world);
    let counting = Arc::new(Counting(Default::default()));
    let waker = Waker::from(Arc::clone(&counting));
    let mut context = Context::from_waker(&waker);
    let woken = || counting.0.load(std::sync::atomic::Ordering::SeqCst);
    let open = ear.listen(&mut context);
    for _ in 0..3 {
        assert_eq!(ear.listen(&mut context), open);
    }
    world.relay.hold();
    world.relay.hold();
    assert_eq!(woken(), 1);
    let holding = ear.listen(&mut context);
    assert_ne!(holding, open);
    world.relay.resume();
    assert_eq!(woken(), 2);
    // Woken by the drain as well: it is one bell.
    ear.listen(&mut context);
    world
        .relay
        .shared
        .drain
        .set(crate::relay::drain::Phase::Draining);
    assert_eq!(woken(), 3);
}

/// What an idle session holds, but for texts and what the runtime keeps of its task and its sockets.
/// What all of it adds up to is measured: docs/sizing.md.
#[tokio::test]
async fn an_idle_session_is_small() {
    let world = &World::new(Setting::default());
    let shared = &world.relay.shared;
    let (client, _far) = tokio::io::duplex(64);
    let open = shared.open.enter(1).unwrap();
    let client = Stream::Memory(client);
    let here = ([127, 0, 0, 1], 1).into();
    let serving = crate::relay::session::serve(
        Arc::clone(shared),
        || Ok(client),
        Addresses {
            client: here,
            met: here,
        },
        (open, None),
    );
    let task = size_of_val(&serving);
    drop(serving);
    assert!(task <= 192, "{task}");
    let pump = size_of::<Pump>();
    assert!(pump <= 960, "{pump}");
    let facts = size_of::<Facts>() + size_of::<Share>();
    assert!(facts <= 128, "{facts}");
}

//! Sessions that work, come and go on several threads while the primary changes again and again:
//! no command may reach a server that is not the primary, nor any while all are held.

use super::world::*;
use crate::connect::Stream;
use crate::relay::{Carry, Carrying, Held, Leg, Relay, Then, part_with};
use crate::roles::Roles;
use crate::wire::status::Status;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const FLIPS: u64 = 60;
const COMMANDS: usize = 150;
/// Sessions at a time.
const SESSIONS: usize = 8;

/// What is true now, and what was seen that is not.
#[derive(Default)]
struct Truth {
    primary: Mutex<String>,
    /// All are held: nobody may say anything to any server.
    still: AtomicBool,
    wrong: AtomicU64,
    served: AtomicU64,
}

impl Truth {
    fn hear(&self, server: &str) {
        let fine = !self.still.load(Ordering::SeqCst) && *self.primary.lock().unwrap() == server;
        self.wrong.fetch_add(u64::from(!fine), Ordering::SeqCst);
        self.served.fetch_add(1, Ordering::SeqCst);
    }
}

/// Moves everyone to the primary of now, as soon as they may go on.
struct Mover {
    truth: Arc<Truth>,
    /// Whether sessions may go on.
    go: watch::Receiver<bool>,
    roles: watch::Receiver<Roles>,
}

impl Carry for Mover {
    fn held<'a>(&'a self, held: Held) -> Carrying<'a> {
        Box::pin(async move {
            let mut go = self.go.clone();
            let _the_end = go.wait_for(|go| *go).await;
            let now = self.roles.borrow().primary.name.clone();
            if now == *held.facts.primary {
                return Then::Back(held.primary);
            }
            let (near, far) = tokio::io::duplex(1 << 10);
            let _ends_with_its_client = serve(End(far), now.clone(), Arc::clone(&self.truth));
            part_with(held.primary);
            Then::Moved(Box::new(Leg {
                stream: Stream::Memory(near),
                server: now.into(),
                thread_id: 7,
                status: Status(2),
                vitess: false,
                statements: vec![(1, 100)],
                stand_ins: Vec::new(),
                last: None,
            }))
        })
    }
}

/// A server, logged in to: every other command begins a transaction that the next one ends.
fn serve(mut end: End, name: String, truth: Arc<Truth>) -> JoinHandle<()> {
    crate::task::spawn("server", async move {
        loop {
            let mut header = [0; 4];
            if end.0.read_exact(&mut header).await.is_err() {
                return;
            }
            let mut payload = vec![0; usize::from(header[0])];
            if end.0.read_exact(&mut payload).await.is_err() || payload == [1] {
                return;
            }
            truth.hear(&name);
            let status = if payload == b"\x03begin" { 3 } else { 2 };
            end.say(1, &ok(status)).await;
        }
    })
}

async fn work(mut client: End) {
    for at in 0..COMMANDS {
        let command: &[u8] = match at % 3 {
            0 => b"\x03begin",
            1 => b"\x03commit",
            _ => b"\x0e",
        };
        let status = if at % 3 == 0 { 3 } else { 2 };
        client.say(0, command).await;
        assert_eq!(client.hear().await, (1, ok(status)));
        if at % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    client.say(0, &[1]).await;
}

async fn flip(
    relay: Relay,
    roles: watch::Sender<Roles>,
    go: watch::Sender<bool>,
    truth: Arc<Truth>,
) {
    for _ in 0..FLIPS {
        tokio::time::sleep(Duration::from_millis(1)).await;
        go.send_replace(false);
        relay.hold();
        relay.all_held().await;
        truth.still.store(true, Ordering::SeqCst);
        tokio::task::yield_now().await;
        roles.send_modify(|roles| std::mem::swap(&mut roles.primary, &mut roles.shadow));
        truth
            .primary
            .lock()
            .unwrap()
            .clone_from(&roles.borrow().primary.name);
        truth.still.store(false, Ordering::SeqCst);
        go.send_replace(true);
        relay.resume();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_command_reaches_a_server_that_is_not_the_primary() {
    let truth = Arc::new(Truth::default());
    *truth.primary.lock().unwrap() = "legacy".into();
    let (go, may_go) = watch::channel(true);
    let later = Arc::new(Later::default());
    let mut world = World::new(Setting {
        carry: Arc::clone(&later) as Arc<dyn Carry>,
        max_connections: 2 * SESSIONS,
        ..Setting::default()
    });
    let (placeholder, _) = watch::channel(world.roles.borrow().clone());
    let roles = std::mem::replace(&mut world.roles, placeholder);
    let mover = Mover {
        truth: Arc::clone(&truth),
        go: may_go,
        roles: roles.subscribe(),
    };
    assert!(later.0.set(mover).is_ok());
    let flipping = flip(world.relay.clone(), roles, go, Arc::clone(&truth));
    let flipping = crate::task::spawn("flips", flipping);
    let mut working = tokio::task::JoinSet::new();
    while !flipping.is_finished() {
        while working.len() >= SESSIONS {
            working.join_next().await.unwrap().unwrap();
        }
        let (client, server, name) = world.session_of().await;
        drop(serve(server, name, Arc::clone(&truth)));
        working.spawn(work(client));
        // What is handed is not looked at.
        let _ = world.handed();
    }
    flipping.await.unwrap();
    while let Some(ended) = working.join_next().await {
        ended.unwrap();
    }
    let served = truth.served.load(Ordering::SeqCst);
    assert_eq!(truth.wrong.load(Ordering::SeqCst), 0, "of {served}");
    assert!(served > FLIPS);
    assert!(world.relay.counters().moved.value() > FLIPS);
}

/// A carry that is known only once the relay is.
#[derive(Default)]
struct Later(std::sync::OnceLock<Mover>);

impl Carry for Later {
    fn held<'a>(&'a self, held: Held) -> Carrying<'a> {
        self.0.get().unwrap().held(held)
    }
}

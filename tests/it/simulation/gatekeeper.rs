//! Holds the sessions now and then, as a cutover that is given up does, and lets them go on as
//! before: some for one more command first.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use understudy::relay::{Carry, Carrying, Held, Relay, Then};

/// Keeps who is held until the gate is opened.
#[derive(Debug)]
pub struct Keeper(watch::Receiver<u64>);

impl Carry for Keeper {
    fn held<'a>(&'a self, held: Held) -> Carrying<'a> {
        let mut opened = self.0.clone();
        Box::pin(async move {
            if held.seq % 3 == 1 {
                return Then::Once(held.primary);
            }
            let _given_up = opened.changed().await;
            Then::Back(held.primary)
        })
    }
}

/// The hand at the gate.
#[derive(Debug)]
pub struct Gatekeeper {
    opens: watch::Sender<u64>,
}

impl Gatekeeper {
    pub fn new() -> (Self, Arc<Keeper>) {
        let (opens, opened) = watch::channel(0);
        (Self { opens }, Arc::new(Keeper(opened)))
    }

    /// Goes to work, until the task is aborted.
    pub fn start(self, relay: Relay, seed: u64) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            loop {
                tokio::time::sleep(Duration::from_micros(rng.random_range(1..9000u64))).await;
                relay.hold();
                let bound = Duration::from_micros(rng.random_range(1..6000u64));
                let all_held = tokio::time::timeout(bound, relay.all_held()).await.is_ok();
                assert_eq!(all_held, relay.unheld() == 0);
                if rng.random_range(0..2u32) == 0 {
                    relay.resume();
                    self.opens.send_modify(|opens| *opens += 1);
                } else {
                    self.opens.send_modify(|opens| *opens += 1);
                    relay.resume();
                }
            }
        })
    }
}

//! A mirror that begins with what clients said before there was one, as in a process that has taken over: what was
//! kept is brought to the shadow, at its pace, and what could not be kept taints.

use super::script;
use super::unread::{Servers, Ways, config_of, run};
use crate::handed::Session;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use understudy::config::Config;
use understudy::connect::Stream;
use understudy::ledger::{Commands, Ledger};
use understudy::roles::Roles;
use understudy::shadow::{Control, Early, Mirror, MirrorParts, Written};
use understudy::tee::{self, End, Limits, Regard, Tee};
use understudy::wire::capability::Capabilities;

/// Clients, and nobody who mirrors them yet.
struct House {
    servers: Arc<Servers>,
    config: Arc<Config>,
    tee: Tee,
    ledger: Ledger,
    early: JoinHandle<Early>,
    end: CancellationToken,
    sessions: Vec<Session>,
}

impl House {
    async fn of(sessions: u64, limits: Limits, config: Config) -> Self {
        let (tee, receiver) = tee::door(limits);
        let ledger = Ledger::in_memory({
            let tee = tee.clone();
            Arc::new(move || Commands {
                handed: tee.handed(),
                lost: tee.lost(),
                passed: tee.passed(),
            })
        });
        let end = CancellationToken::new();
        let early = Early::new(receiver, Control::new(&config.mirror));
        let mut house = Self {
            servers: Servers::start(),
            config: Arc::new(config),
            tee,
            ledger,
            early: tokio::spawn(early.collect(end.clone().cancelled_owned())),
            end,
            sessions: Vec::new(),
        };
        for number in 0..sessions {
            let session = house.log_in(number).await;
            house.sessions.push(session);
        }
        house
    }

    async fn log_in(&self, number: u64) -> Session {
        let mut stream = Servers::serve(&self.servers.legacy);
        super::client::log_in(&mut stream).await.expect("a login");
        let capabilities = Capabilities(script::CAPABILITIES);
        Session::new(number, Stream::Memory(stream), capabilities, &self.tee)
    }

    /// Each session writes to a table of its own.
    async fn write(&mut self) {
        for (number, session) in (1..).zip(&mut self.sessions) {
            let text = format!("UPDATE t{number} SET v = v + 1 WHERE id = 1");
            session.query(&text).await;
        }
    }

    /// They say it again until the queue is as good as full.
    async fn fill(&mut self) {
        let budget = self.tee.budget();
        while budget.used() * 100 < budget.max() * 96 {
            self.sessions.iter_mut().for_each(Session::says_again);
            tokio::task::yield_now().await;
        }
    }

    /// The mirror begins; the house goes on without its early one.
    async fn begins(&mut self) -> Mirror {
        self.end.cancel();
        let early = (&mut self.early).await.expect("no panic");
        let (receiver, before) = early.end();
        let (_writer, roles) = watch::channel(Roles {
            primary: Arc::new(self.config.primary.clone()),
            shadow: Arc::new(self.config.shadow.clone()),
        });
        let parts = MirrorParts {
            config: Arc::clone(&self.config),
            roles,
            dial: Arc::new(Ways(Arc::clone(&self.servers))),
            receiver,
            ledger: self.ledger.clone(),
        };
        let nothing = Written {
            at: Instant::now(),
            tables: Vec::new(),
            any: None,
        };
        Mirror::start_after(parts, before, &nothing).expect("a mirror")
    }

    fn shadow_takes(&self, time: Duration) {
        let time = u64::try_from(time.as_millis()).expect("a short time");
        self.servers.takes_ms.store(time, Ordering::Relaxed);
    }
}

/// Three sessions have written for 100 seconds; `mirror.breaker_lag_ms` is 30 seconds.
async fn much_was_said() -> House {
    let mut house = House::of(3, Limits::default(), config_of("", "")).await;
    for _ in 0..100 {
        house.write().await;
        sleep(Duration::from_secs(1)).await;
    }
    house
}

#[test]
fn the_shadow_may_take_as_long_for_what_was_said_as_that_took() {
    run(async {
        let mut house = much_was_said().await;
        house.shadow_takes(Duration::from_millis(500));
        let mirror = house.begins().await;
        sleep(Duration::from_secs(20)).await;
        let figures = mirror.figures();
        assert!(figures.oldest > Duration::from_secs(60), "{figures:?}");
        mirror.drained().await.expect("a mirror");
        assert_eq!(mirror.figures().suspensions, 0);
        let coverage = house.ledger.coverage();
        assert_eq!((coverage.matched, coverage.pending), (300, 0));
        assert_eq!(house.ledger.taints(), []);
    });
}

#[test]
fn after_that_time_lag_suspends_as_ever() {
    run(async {
        let mut house = much_was_said().await;
        house.shadow_takes(Duration::from_secs(2));
        let mirror = house.begins().await;
        sleep(Duration::from_secs(130)).await;
        assert_eq!(mirror.figures().suspensions, 0);
        sleep(Duration::from_secs(20)).await;
        let figures = mirror.figures();
        assert_eq!(figures.suspensions, 1, "{figures:?}");
    });
}

/// Finding: a queue that was full of what was kept suspended the mirror, which threw all of it away.
#[test]
fn a_queue_that_is_full_of_what_was_said_is_brought_to_the_shadow_and_one_that_stands_still_is_not()
{
    run(async {
        let limits = Limits {
            queue_bytes: 200_000,
            session_queue_bytes: 100_000,
            ..Limits::default()
        };
        let mut house = House::of(3, limits, config_of("", "")).await;
        house.write().await;
        house.fill().await;
        house.shadow_takes(Duration::from_millis(20));
        let mirror = house.begins().await;
        for _ in 0..2_000 {
            house.fill().await;
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(house.tee.stubbed() + house.tee.lost(), 0);
        assert!(house.ledger.coverage().matched > 1_000);
        assert_eq!(mirror.figures().suspensions, 0);
        assert_eq!(house.ledger.taints(), []);
        house.servers.hung.send_replace((0..100).collect());
        sleep(Duration::from_millis(100)).await;
        house.fill().await;
        sleep(Duration::from_secs(7)).await;
        let figures = mirror.figures();
        assert_eq!(figures.suspensions, 1, "{figures:?}");
    });
}

#[test]
fn what_could_not_be_kept_taints_all_and_what_comes_then_is_mirrored() {
    run(async {
        let limits = Limits {
            queue_bytes: 16 << 10,
            session_queue_bytes: 8 << 10,
            stub_bytes: 4 << 10,
            ..Limits::default()
        };
        let mut house = House::of(0, limits, config_of("", "")).await;
        for number in 0..1_200 {
            let mut session = house.log_in(number).await;
            session.query("UPDATE t1 SET v = v + 1 WHERE id = 1").await;
            house.tee.closed(&session.facts, End::Left);
            sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(house.tee.regard(), Regard::Nothing);
        let mirror = house.begins().await;
        let taints = house.ledger.taints();
        assert!(taints.iter().any(|taint| taint.table == "*"), "{taints:?}");
        let words = format!("{taints:?}");
        assert!(
            words.contains("hand-over") && !words.contains("observe"),
            "{words}"
        );
        mirror.drained().await.expect("a mirror");
        let before = house.ledger.coverage();
        assert_eq!((before.commands, before.pending), (1_200, 0), "{before:?}");
        house.log_in(9_999).await.query("SELECT 1").await;
        mirror.drained().await.expect("a mirror");
        assert_eq!(house.ledger.coverage().matched, before.matched + 1);
    });
}

/// Finding: what had come meanwhile was let in before anybody knew which tables it touches beyond those it names.
#[test]
fn what_was_said_waits_until_the_primary_has_told_its_foreign_keys_but_not_for_long() {
    for (is_silent, before, after) in [(true, 9, 2), (false, 0, 5)] {
        run(async move {
            let account = "user = \"proxy\"\npassword = \"proxy\"\nconnect_timeout_ms = 60000\n";
            let config = config_of(account, "pin_keys = false\npin_clock = false\n");
            let mut house = House::of(3, Limits::default(), config).await;
            house.servers.is_silent.store(is_silent, Ordering::Relaxed);
            house.write().await;
            let mirror = house.begins().await;
            sleep(Duration::from_secs(before)).await;
            house.write().await;
            sleep(Duration::from_millis(100)).await;
            let figures = mirror.figures();
            assert_eq!((figures.unread, figures.connections), (6, 0), "{figures:?}");
            sleep(Duration::from_secs(after)).await;
            mirror.drained().await.expect("a mirror");
            assert_eq!(house.ledger.coverage().matched, 6);
        });
    }
}

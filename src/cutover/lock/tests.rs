//! What a primary and its shadow are asked, and in which order, and what becomes of a lock that is not had, does not
//! last, or is of no use.

use super::*;
use crate::ask::fake::{Fake, Say, row, server};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const HOLD: Duration = Duration::from_millis(200);

/// What is not done by then is given up, so that everybody goes on in time.
const LATE: Duration = Duration::from_millis(195);

const TABLE: Of<'static> = Of {
    database: "app",
    name: "t",
    primary: None,
    shadow: None,
};

/// What goes well, unless the test says otherwise, by server and statement.
fn usual(statement: &str) -> Say {
    let first = statement.split([' ', '(']).take(2).collect::<Vec<_>>();
    match first.as_slice() {
        ["SELECT", "@@GLOBAL.gtid_mode,"] => Say::Rows(vec![row(&["ON", "1", "a:1-9"])]),
        ["SELECT", "WAIT_FOR_EXECUTED_GTID_SET"] => Say::Rows(vec![row(&["0"])]),
        ["SHOW", "GRANTS"] => Say::Rows(vec![row(&[
            "GRANT SELECT, LOCK TABLES ON `app`.* TO `u`@`%`",
        ])]),
        ["SELECT", "LEAST"] => Say::Rows(vec![row(&["50"])]),
        ["SELECT", "CURRENT_USER"] => Say::Rows(vec![row(&["u@10.%"])]),
        // Nobody is seen.
        ["SELECT", _] => Say::Rows(Vec::new()),
        _ => Say::Done,
    }
}

struct Scene {
    fake: Fake,
    lock: Lock,
    /// The opening was done.
    opened: Arc<AtomicBool>,
    /// Numbers of the connections that asked for a lock.
    lockers: Arc<Mutex<Vec<u64>>>,
}

impl Scene {
    fn new(says: impl Fn(&str, &str) -> Option<Say> + Send + Sync + 'static) -> Self {
        Self::of("8.4.6", says)
    }

    /// Both servers are of this version.
    fn of(
        version: &'static str,
        says: impl Fn(&str, &str) -> Option<Say> + Send + Sync + 'static,
    ) -> Self {
        let lockers: Arc<Mutex<Vec<u64>>> = Arc::default();
        let seen = Arc::clone(&lockers);
        let fake = Fake::of_connections(move |server, connection, statement| {
            if statement.starts_with("LOCK TABLES") {
                seen.lock().push(connection);
            }
            let said = says(server, statement).unwrap_or_else(|| match statement {
                "SELECT CONNECTION_ID(), @@GLOBAL.server_uuid" => {
                    Say::Rows(vec![row(&[&connection.to_string(), server])])
                }
                other => usual(other),
            });
            (said, false)
        });
        let fake = fake.of_version(version);
        let roles = Roles {
            primary: Arc::new(server("legacy")),
            shadow: Arc::new(server("replica")),
        };
        let dial = Arc::new(fake.clone());
        let lock = Lock::new(dial, roles, &[], (Handle::current(), None));
        Self {
            fake,
            lock,
            opened: Arc::default(),
            lockers,
        }
    }

    async fn moment(&self) -> Locked {
        let opened = Arc::clone(&self.opened);
        let work = async move {
            opened.store(true, Ordering::Relaxed);
            Ok(())
        };
        self.lock.moment(TABLE, HOLD, Box::pin(work)).await
    }

    fn is_opened(&self) -> bool {
        self.opened.load(Ordering::Relaxed)
    }

    /// What the primary was asked from the first lock on.
    fn since_lock(&self) -> Vec<String> {
        let asked = self.fake.asked("legacy").into_iter();
        // A connection that ends asks for nothing.
        asked
            .filter(|one| !one.is_empty())
            .skip_while(|one| !one.starts_with("LOCK TABLES"))
            .collect()
    }
}

fn failed(locked: &Locked) -> String {
    let outcome = locked.moment.outcome.as_ref();
    outcome.expect_err("no moment").to_string()
}

/// Statements that only look come before the first lock; behind it there is one question, and the end.
#[tokio::test(start_paused = true)]
async fn the_lock_is_had_then_the_shadow_waited_for_then_both_are_looked_at() {
    let scene = Scene::new(|_, _| None);
    let locked = scene.moment().await;
    assert_eq!(locked.moment.outcome, Ok(()));
    assert!(scene.is_opened());
    assert!(locked.moment.held >= locked.moment.gathered && locked.caught_up.is_some());
    assert_eq!(
        scene.since_lock(),
        [
            "LOCK TABLES `app`.`t` READ",
            "SELECT @@GLOBAL.gtid_mode, @@GLOBAL.log_bin, @@GLOBAL.gtid_executed",
            "UNLOCK TABLES",
        ]
    );
    let asked = scene.fake.asked("legacy");
    let first_lock = asked.iter().position(|one| one.starts_with("LOCK TABLES"));
    for bound in [
        "SET autocommit = 0, innodb_table_locks = 1, lock_wait_timeout = 1, innodb_lock_wait_timeout = 1",
        "SET wait_timeout = 1",
    ] {
        let at = asked.iter().position(|one| one == bound);
        assert!(at.is_some() && at < first_lock, "{bound}: {asked:#?}");
    }
    // Once before, and once in the hold.
    let wait = "SELECT WAIT_FOR_EXECUTED_GTID_SET('a:1-9', ";
    let waits = scene.fake.asked("replica");
    assert_eq!(waits.len(), 2, "{waits:#?}");
    assert!(waits.iter().all(|one| one.starts_with(wait)), "{waits:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_not_had_in_time_is_ended_on_the_server() {
    let hangs = |_: &str, statement: &str| statement.starts_with("LOCK").then_some(Say::Hang);
    let scene = Scene::new(hangs);
    let locked = scene.moment().await;
    assert!(failed(&locked).contains("the lock was not had"));
    assert!(!scene.is_opened() && !locked.hopeless);
    assert_eq!(locked.moment.held, Some(LATE));
    let on = scene.since_lock();
    let killed: Vec<&String> = on.iter().filter(|one| one.starts_with("KILL ")).collect();
    let [locker] = scene.lockers.lock().clone().try_into().unwrap();
    assert_eq!(killed, [&format!("KILL {locker}")], "{on:#?}");
    assert!(!on.iter().any(|one| one == "UNLOCK TABLES"), "{on:#?}");
}

/// A number is one server's own: on another it is somebody else's connection.
#[tokio::test(start_paused = true)]
async fn behind_an_address_of_several_servers_nothing_is_locked() {
    let asked = Mutex::new(0);
    let scene = Scene::new(move |server, statement| {
        (server == "legacy" && statement.contains("server_uuid")).then(|| {
            *asked.lock() += 1;
            Say::Rows(vec![row(&["7", &format!("server {}", asked.lock())])])
        })
    });
    let locked = scene.moment().await;
    assert!(failed(&locked).contains("several servers"), "{locked:?}");
    assert!(scene.since_lock().is_empty() && scene.lockers.lock().is_empty());
}

/// Finding: a lock was had on one server of a balancer's, and rows were read on another.
#[tokio::test(start_paused = true)]
async fn what_is_locked_and_waited_for_is_what_rows_are_read_on() {
    let on = async |primary, shadow| {
        let scene = Scene::new(|server, statement| {
            let asks = statement == "SELECT @@GLOBAL.server_uuid";
            asks.then(|| Say::Rows(vec![row(&[server])]))
        });
        let of = Of {
            primary: Some(primary),
            shadow,
            ..TABLE
        };
        let work = Box::pin(std::future::ready(Ok(())));
        let locked = scene.lock.moment(of, HOLD, work).await;
        (locked, scene.lockers.lock().len())
    };
    // A vtgate has no identity to tell.
    for shadow in [Some("replica"), None] {
        let (locked, locks) = on("legacy", shadow).await;
        assert_eq!((locked.moment.outcome, locks), (Ok(()), 1), "{shadow:?}");
    }
    for (primary, shadow, named) in [
        ("another", Some("replica"), "legacy's address"),
        ("legacy", Some("another"), "replica's address"),
    ] {
        let (locked, locks) = on(primary, shadow).await;
        let why = failed(&locked);
        assert!(
            why.contains(named) && why.contains("several servers"),
            "{why}"
        );
        assert!(locked.hopeless && locked.moment.held.is_none() && locks == 0);
    }
}

/// Finding: a run that was ended while its lock waited left the request in the line, with whoever writes behind it.
#[tokio::test(start_paused = true)]
async fn a_lock_that_nobody_waits_for_any_more_is_taken_back_at_once() {
    let hangs = |_: &str, statement: &str| statement.starts_with("LOCK").then_some(Say::Hang);
    let scene = Scene::new(hangs);
    let long = Duration::from_secs(20);
    let work = Box::pin(std::future::ready(Ok(())));
    {
        let moment = scene.lock.moment(TABLE, long, work);
        let asked = async {
            while scene.lockers.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            locked = moment => panic!("{locked:?}"),
            () = asked => {}
        }
    }
    let [locker] = scene.lockers.lock().clone().try_into().unwrap();
    let kill = format!("KILL {locker}");
    let ended = Instant::now();
    while !scene.since_lock().contains(&kill) {
        assert!(
            ended.elapsed() < Duration::from_secs(1),
            "{:#?}",
            scene.since_lock()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_lock_may_cost_production_something_it_is_not_asked_for() {
    let scene = Scene::of("5.6.24-log", |_, _| None);
    let locked = scene.moment().await;
    assert!(
        locked.hopeless && failed(&locked).contains("1213"),
        "{locked:?}"
    );
    assert!(scene.since_lock().is_empty());
    let may = scene.lock.may(&["app".to_owned()]).await.unwrap_err();
    assert!(
        may.contains("5.6.24") && may.contains("--mode chunks"),
        "{may}"
    );
    // Finding: a MariaDB was refused as an old MySQL, for what its greeting says to replicas of old.
    let scene = Scene::of("5.5.5-10.11.6-MariaDB", |_, _| None);
    let may = scene.lock.may(&["app".to_owned()]).await.unwrap_err();
    assert!(
        may.contains("no GTIDs of MySQL's") && !may.contains("5.7"),
        "{may}"
    );
    // What a foreign key changes before MySQL 8 no lock of the server's keeps.
    let scene = Scene::of("5.7.44", |_, statement| {
        let asks = statement.contains("referential_constraints");
        asks.then(|| Say::Rows(vec![row(&["of_parent"])]))
    });
    let locked = scene.moment().await;
    assert!(
        locked.hopeless && failed(&locked).contains("(of_parent)"),
        "{locked:?}"
    );
    assert!(scene.since_lock().is_empty());
    // Sessions that wait would be refused.
    let scene = Scene::new(|_, statement| {
        let asks = statement.starts_with("SELECT LEAST(");
        asks.then(|| Say::Rows(vec![row(&["0"])]))
    });
    let locked = scene.moment().await;
    assert!(
        locked.hopeless && failed(&locked).contains("1205"),
        "{locked:?}"
    );
    assert!(scene.since_lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn past_the_bound_writers_go_on_whatever_is_waited_for() {
    // A shadow that does not come, once it was near.
    let asked = Mutex::new(0);
    let scene = Scene::new(move |server, _| {
        if server != "replica" {
            return None;
        }
        *asked.lock() += 1;
        (*asked.lock() > 1).then_some(Say::Hang)
    });
    let locked = scene.moment().await;
    let why = failed(&locked);
    assert!(
        why.contains("behind or stopped") && why.contains("replica"),
        "{why}"
    );
    assert_eq!(locked.moment.held, Some(LATE));
    assert_eq!(scene.since_lock().last().unwrap(), "UNLOCK TABLES");
    assert!(!scene.is_opened());
    // And an opening that does not end.
    let scene = Scene::new(|_, _| None);
    let hangs = Box::pin(std::future::pending());
    let locked = scene.lock.moment(TABLE, HOLD, hangs).await;
    assert!(failed(&locked).contains("the opening of both snapshots"));
    assert_eq!(locked.moment.held, Some(LATE));
    assert_eq!(scene.since_lock().last().unwrap(), "UNLOCK TABLES");
}

/// A server that has closed a connection has let go of its lock: who wrote since is in one of the views, perhaps.
#[tokio::test(start_paused = true)]
async fn a_lock_that_was_lost_on_the_way_is_none() {
    let scene =
        Scene::new(|_, statement| (statement == "UNLOCK TABLES").then_some(Say::Refuse(1927)));
    let locked = scene.moment().await;
    assert!(scene.is_opened());
    assert!(failed(&locked).contains("was lost on the way"));
    assert!(!locked.hopeless);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_lock_that_would_be_in_vain() {
    let open = |transaction: &str| {
        let who = [transaction, "12", "batch", "has a transaction open"];
        Some(Say::Rows(vec![row(&who)]))
    };
    let scene = Scene::new(move |_, statement| {
        statement
            .contains("innodb_trx")
            .then(|| open("transaction 7"))
            .flatten()
    });
    let why = failed(&scene.moment().await);
    assert!(
        why.contains("thread 12 (batch) has a transaction open"),
        "{why}"
    );
    assert!(scene.since_lock().is_empty());
    // Another one each time: they come to their end.
    let looks = Mutex::new(0);
    let scene = Scene::new(move |_, statement| {
        if !statement.contains("innodb_trx") {
            return None;
        }
        *looks.lock() += 1;
        open(&format!("transaction {}", looks.lock()))
    });
    assert_eq!(scene.moment().await.moment.outcome, Ok(()));
    // A server that shows its locks is asked for those of this table.
    let scene = Scene::new(move |_, statement| {
        if statement.contains("setup_instruments") {
            Some(Say::Rows(vec![row(&["1"])]))
        } else if statement.contains("metadata_locks") {
            open("lock 3 4")
        } else {
            None
        }
    });
    let why = failed(&scene.moment().await);
    assert!(why.contains("thread 12"), "{why}");
    let asked = scene.fake.asked("legacy");
    assert!(!asked.iter().any(|one| one.contains("innodb_trx")));
    // Replication is stopped, or slow.
    let stopped =
        Scene::new(|server, _| (server == "replica").then(|| Say::Rows(vec![row(&["1"])])));
    let why = failed(&stopped.moment().await);
    assert!(
        why.contains("was not locked") && why.contains("stopped"),
        "{why}"
    );
    assert!(stopped.since_lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_never_will_be_is_not_asked_for_again() {
    let scene =
        Scene::new(|_, statement| statement.starts_with("LOCK").then_some(Say::Refuse(1142)));
    let locked = scene.moment().await;
    assert!(
        locked.hopeless && failed(&locked).contains("1142"),
        "{locked:?}"
    );
    let on = scene.since_lock();
    assert_eq!(on.last().unwrap(), "UNLOCK TABLES", "{on:#?}");
    let off = |_: &str, statement: &str| {
        let is_asked = statement.contains("gtid_mode");
        is_asked.then(|| Say::Rows(vec![row(&["OFF", "1", "a:1-9"])]))
    };
    let scene = Scene::new(off);
    let locked = scene.moment().await;
    assert!(locked.hopeless && failed(&locked).contains("gtid_mode = ON"));
    let able = scene.lock.may(&["app".to_owned()]).await;
    assert!(able.unwrap_err().contains("gtid_mode = ON"));
}

#[tokio::test(start_paused = true)]
async fn rights_are_asked_for_before_anything_is_locked() {
    let scene = Scene::new(|_, _| None);
    assert_eq!(scene.lock.may(&["app".to_owned()]).await, Ok(()));
    let two = ["app".to_owned(), "other".to_owned()];
    let lacks = scene.lock.may(&two).await.unwrap_err();
    let grant = "GRANT SELECT, LOCK TABLES ON `other`.* TO 'u'@'10.%'";
    assert!(lacks.contains(grant), "{lacks}");
    assert!(scene.lockers.lock().is_empty());
}

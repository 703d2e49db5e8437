//! A session that says nothing while the primary changes finds everything as it left it, there and back;
//! and clients that come and go meanwhile notice nothing but a wait.

use super::scene::{LIGHT, Scene, flip, setup};
use crate::lab::checker::{assert_none, set_up};
use crate::lab::mirroring::connect;
use crate::lab::{Lab, client};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row, Statement, Value as Cell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What it sets, what asks for it, and the answer of either server.
const STATE: [(&str, &str, &str); 10] = [
    ("SET @whole = 7", "SELECT @whole", "7"),
    ("SET @exact = 1.50", "SELECT @exact", "1.50"),
    (
        "SET @words = 'it''s \"grün\", \\\\ and\\nmore'",
        "SELECT HEX(@words)",
        "6974277320226772C3BC6E222C205C20616E640A6D6F7265",
    ),
    ("SET @bytes = x'00FF27'", "SELECT HEX(@bytes)", "00FF27"),
    ("SET @gone = NULL", "SELECT @gone", "NULL"),
    (
        "SET SESSION sql_mode = 'STRICT_TRANS_TABLES'",
        "SELECT @@sql_mode",
        "STRICT_TRANS_TABLES",
    ),
    ("SET time_zone = '-03:30'", "SELECT @@time_zone", "-03:30"),
    (
        "SET SESSION group_concat_max_len = 77",
        "SELECT @@group_concat_max_len",
        "77",
    ),
    (
        "SET foreign_key_checks = 0",
        "SELECT @@foreign_key_checks",
        "0",
    ),
    ("SET autocommit = 0", "SELECT @@autocommit", "0"),
];

/// What a session has that no SET shows.
struct Sleeper {
    conn: Conn,
    insert: Statement,
    /// Prepared before, and never run until the primary is another.
    unused: Statement,
    last_id: u64,
}

impl Sleeper {
    async fn settle(address: &str) -> Self {
        let mut conn = connect(address, "app").await;
        conn.query_drop("USE scratch").await.expect("the database");
        let insert = "INSERT INTO checker_keys (client, n) VALUES (?, ?)";
        let insert = conn.prep(insert).await.expect("it is prepared");
        let unused = "SELECT CONCAT(DATABASE(), ' ', ?)";
        let unused = conn.prep(unused).await.expect("it is prepared");
        conn.exec_drop(&insert, (0, -1)).await.expect("a row");
        let last_id = conn.last_insert_id().expect("a key");
        for (set, ..) in STATE {
            conn.query_drop(set).await.expect(set);
        }
        Self {
            conn,
            insert,
            unused,
            last_id,
        }
    }

    /// Everything that it has lost.
    async fn lost(&mut self) -> Vec<String> {
        let mut lost = Vec::new();
        // First of all: any other command might change it.
        let last_id = self.asked("SELECT LAST_INSERT_ID()").await;
        if last_id != self.last_id.to_string() {
            let due = self.last_id;
            lost.push(format!("LAST_INSERT_ID() is {last_id}, and was {due}"));
        }
        for (set, ask, due) in STATE {
            let said = self.asked(ask).await;
            if said != due {
                lost.push(format!("{set}: {said}"));
            }
        }
        let said: Option<String> = self
            .conn
            .exec_first(&self.unused, ("it is",))
            .await
            .expect("a statement from before");
        if said.as_deref() != Some("scratch it is") {
            lost.push(format!("prepared before: {said:?}"));
        }
        // Without autocommit a ROLLBACK takes it back.
        let insert = self.insert.clone();
        self.conn.exec_drop(insert, (0, -2)).await.expect("a row");
        self.conn.query_drop("ROLLBACK").await.expect("ROLLBACK");
        let rows = self
            .asked("SELECT COUNT(*) FROM checker_keys WHERE n = -2")
            .await;
        if rows != "0" {
            lost.push(format!("autocommit: {rows} rows after a ROLLBACK"));
        }
        self.conn.query_drop("COMMIT").await.expect("COMMIT");
        self.last_id = self
            .conn
            .query_first("SELECT LAST_INSERT_ID()")
            .await
            .expect("it")
            .expect("a row");
        self.conn.query_drop("COMMIT").await.expect("COMMIT");
        lost
    }

    async fn asked(&mut self, ask: &str) -> String {
        let row: Option<Row> = self.conn.query_first(ask).await.expect(ask);
        match row.and_then(|row| row.unwrap().into_iter().next()) {
            Some(Cell::Bytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Some(other) => other.as_sql(true),
            None => "no row".to_owned(),
        }
    }
}

/// So that what is lost across a cutover is the cutover's.
#[tokio::test]
async fn each_server_alone_keeps_what_a_session_sets() {
    let lab = Lab::get();
    set_up(&lab, LIGHT).await;
    for address in [lab.legacy(), lab.shadow()] {
        let mut sleeper = Sleeper::settle(&address).await;
        for _ in 0..2 {
            assert_none(&address, &sleeper.lost().await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_slept_finds_everything_as_it_left_it() {
    let scene = Scene::open(&setup("soak_s = 3600"), LIGHT).await;
    let mut sleepers = Vec::new();
    for _ in 0..5 {
        sleepers.push(Sleeper::settle(&scene.proxy.address).await);
    }
    for sleeper in &mut sleepers {
        // The transaction that its row began without autocommit.
        sleeper.conn.query_drop("COMMIT").await.expect("COMMIT");
    }
    let visitors = Visitors::come(&scene.proxy.address, 3);
    for to in ["vitess", "legacy"] {
        flip(&scene.proxy, to).await;
        for sleeper in &mut sleepers {
            assert_none(&format!("lost on {to}"), &sleeper.lost().await);
        }
    }
    let (visits, longest, errors) = visitors.leave().await;
    println!("{visits} visits, the longest took {longest:?}");
    assert_none("visitors saw errors", &errors);
    assert!(visits > 20);
    let report = scene.checker.stop().await;
    report.print();
    assert_none("clients saw errors", &report.errors());
    assert_none("clients had wrong answers", &report.wrong());
}

/// Clients that log in, ask once and leave, over and over.
struct Visitors {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<(usize, Duration, Vec<String>)>>,
}

impl Visitors {
    fn come(address: &str, number: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let visitor = |_| tokio::spawn(visit(client(address, "scratch"), Arc::clone(&stop)));
        Self {
            tasks: (0..number).map(visitor).collect(),
            stop,
        }
    }

    /// How many visits there were, the longest, and what went wrong.
    async fn leave(self) -> (usize, Duration, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut visits, mut longest, mut errors) = (0, Duration::ZERO, Vec::new());
        for task in self.tasks {
            let (some, long, more) = task.await.expect("a visitor does not panic");
            visits += some;
            longest = longest.max(long);
            errors.extend(more);
        }
        (visits, longest, errors)
    }
}

async fn visit(opts: Opts, stop: Arc<AtomicBool>) -> (usize, Duration, Vec<String>) {
    let (mut visits, mut longest, mut errors) = (0, Duration::ZERO, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let visit = async {
            let mut conn = Conn::new(opts.clone()).await?;
            conn.query_drop("SELECT COUNT(*) FROM checker_counters")
                .await?;
            conn.disconnect().await
        };
        match visit.await {
            Ok(()) => visits += 1,
            Err(fault) => errors.push(fault.to_string()),
        }
        longest = longest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (visits, longest, errors)
}

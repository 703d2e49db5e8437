//! A row that somebody else has locked on the shadow: a transaction waits for it in vain there, and
//! is run again.

use super::mirroring::{connect, divergences, judged, reason, table};
use super::planted::store;
use super::proxy::Setup;
use super::{Lab, Proxy};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::time::Duration;

/// How a wait for a lock ends on the shadow after a second: with 1205 by its store, with 3024 by
/// vtgate's own time-out.
const ENDS: [(u16, &str); 2] = [
    (1205, "SET innodb_lock_wait_timeout = 1"),
    (3024, "SET query_timeout = 1000"),
];

/// An understudy whose sessions' waits on the shadow end so, a table of three rows on both sides, and
/// the application's session.
struct Stage {
    lab: Lab,
    proxy: Proxy,
    table: String,
    app: Conn,
    commands: u64,
}

impl Stage {
    async fn set(init: &str) -> Self {
        let lab = Lab::get();
        let setup = Setup {
            shadow_more: format!("init = [\"{init}\"]"),
            ..Setup::default()
        };
        let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
        let mut app = connect(&proxy.address, "scratch").await;
        let rows = format!("INSERT INTO {table} (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')");
        app.query_drop(rows).await.expect("the rows");
        let commands = judged(&proxy.settled());
        Self {
            lab,
            proxy,
            table,
            app,
            commands,
        }
    }

    /// Locks a row behind vtgate; until what is given back is told to roll back.
    async fn lock(&self, row: u32) -> Conn {
        let mut other = store(&self.lab, "vt_scratch_0").await;
        let lock = format!("SELECT id FROM {} WHERE id = {row} FOR UPDATE", self.table);
        for statement in ["BEGIN", &lock] {
            other.query_drop(statement).await.expect("the lock");
        }
        other
    }

    async fn say(&mut self, statements: &[&str]) {
        for statement in statements {
            let statement = statement.replace("{t}", &self.table);
            let said = self.app.query_drop(&statement).await;
            said.unwrap_or_else(|fault| panic!("{statement}: {fault}"));
        }
    }

    async fn names(&self, address: &str) -> Vec<(u32, String)> {
        let mut direct = connect(address, "scratch").await;
        let read = format!("SELECT id, name FROM {} ORDER BY id", self.table);
        direct.query(read).await.expect("the rows")
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Proxy) -> bool) {
        for _ in 0..600 {
            if is_so(&self.proxy) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never {what}: {}", self.proxy.text("/metrics"));
    }
}

/// A transaction of three writes, the second of which finds row 2 locked.
const TRANSACTION: [&str; 5] = [
    "BEGIN",
    "UPDATE {t} SET name = CONCAT(name, '1') WHERE id = 1",
    "UPDATE {t} SET name = CONCAT(name, '2') WHERE id = 2",
    "UPDATE {t} SET name = CONCAT(name, '3') WHERE id = 3",
    "COMMIT",
];

const RETRIES: &str = "understudy_mirror_retries_total";
const TRANSIENT: &str = "understudy_mirror_transient_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_let_go_in_time_leaves_no_trace() {
    for (code, init) in ENDS {
        let mut stage = Stage::set(init).await;
        let alone = "UPDATE {t} SET name = CONCAT(name, '!') WHERE id = 2";
        let mut said = 0;
        for statements in [TRANSACTION.as_slice(), &[alone]] {
            let (mut other, before) = (stage.lock(2).await, stage.proxy.metric(RETRIES));
            stage.say(statements).await;
            said += statements.len() as u64;
            let again = |proxy: &Proxy| proxy.metric(RETRIES) > before;
            stage.until("run again", again).await;
            other.query_drop("ROLLBACK").await.expect("the lock goes");
            stage.proxy.settled();
        }
        let coverage = stage.proxy.settled();
        assert_eq!(
            judged(&coverage),
            stage.commands + said,
            "{code}: {coverage}"
        );
        assert_eq!(coverage["diverged"], 0, "{code}: {coverage}");
        assert_eq!(stage.proxy.metric(TRANSIENT), 0, "{code}");
        assert_eq!(stage.proxy.get("/api/v1/taints")["items"], json!([]));
        let legacy = stage.names(&stage.lab.legacy()).await;
        assert_eq!(legacy[1].1, "b2!");
        assert_eq!(stage.names(&stage.lab.shadow()).await, legacy, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_for_longer_is_a_race_that_taints_and_never_a_divergence() {
    for (code, init) in ENDS {
        let mut stage = Stage::set(init).await;
        let mut other = stage.lock(2).await;
        stage.say(&TRANSACTION).await;
        let coverage = stage.proxy.settled();
        other.query_drop("ROLLBACK").await.expect("the lock goes");
        assert_eq!(coverage["diverged"], 0, "{code}: {coverage}");
        // The write that found the lock, the one behind it, and the COMMIT; what stood before them was
        // taken, and compared.
        assert_eq!(reason(&coverage, "race"), 3, "{code}: {coverage}");
        assert_eq!(judged(&coverage), stage.commands + 2, "{code}: {coverage}");
        assert_eq!(stage.proxy.metric(TRANSIENT), 1, "{code}");
        assert!(stage.proxy.metric(RETRIES) >= 4, "{code}");
        let tainted = |proxy: &Proxy| proxy.get("/api/v1/taints")["items"] != json!([]);
        stage.until("tainted", tainted).await;
        let taints = stage.proxy.get("/api/v1/taints");
        assert!(
            taints.to_string().contains(&stage.table),
            "{code}: {taints}"
        );
        // Nothing of the transaction is left there.
        let shadow = stage.names(&stage.lab.shadow()).await;
        assert_eq!(shadow[0].1, "a", "{code}: {shadow:?}");
        stage.say(&["SELECT name FROM {t} WHERE id = 1"]).await;
        let coverage = stage.proxy.settled();
        assert_eq!(reason(&coverage, "tainted"), 1, "{code}: {coverage}");
        assert_eq!(coverage["diverged"], 0, "{code}: {coverage}");
        let found = divergences(&stage.proxy);
        let follows = |one: &Value| one["follows"] == true;
        assert!(found.iter().all(follows), "{code}: {found:?}");
    }
}

/// As a driver does that prepares within the transaction and closes at once: what was closed is
/// needed to run the transaction again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_prepares_and_closes_each_statement_is_run_again() {
    let (_, init) = ENDS[0];
    let mut stage = Stage::set(init).await;
    let mut other = stage.lock(3).await;
    stage.say(&["BEGIN"]).await;
    let update = format!(
        "UPDATE {} SET name = CONCAT(name, ?) WHERE id = ?",
        stage.table
    );
    for row in 1..=3 {
        let statement = stage.app.prep(&update).await.expect("it is prepared");
        let run = stage.app.exec_drop(&statement, ("!", row)).await;
        run.expect("it is run");
        stage.app.close(statement).await.expect("it is closed");
    }
    stage.say(&["COMMIT"]).await;
    stage
        .until("run again", |proxy| proxy.metric(RETRIES) > 0)
        .await;
    other.query_drop("ROLLBACK").await.expect("the lock goes");
    let coverage = stage.proxy.settled();
    assert_eq!(coverage["diverged"], 0, "{coverage}");
    assert_eq!(stage.proxy.metric(TRANSIENT), 0, "{coverage}");
    assert_eq!(stage.proxy.get("/api/v1/taints")["items"], json!([]));
    let legacy = stage.names(&stage.lab.legacy()).await;
    assert_eq!(legacy[0].1, "a!");
    assert_eq!(stage.names(&stage.lab.shadow()).await, legacy);
}

//! A MySQL 9.7 as the legacy, and another one that replicates from it as the shadow, by GTIDs. Every test
//! makes them anew: what an earlier one left behind is forgotten on both.

use super::scene::setup;
use crate::lab::Lab;
use crate::lab::checker::{self, Load};
use crate::lab::proxy::Setup;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Row};
use std::time::Duration;

/// See the module. It keeps no connection open: a guard would see a client that goes past the proxy.
pub struct Pair {
    pub lab: Lab,
}

/// One of the two.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    Source,
    Replica,
}

/// What replication needs of the source, on either: a cutover swaps them. Out of the binary log, so that it
/// is there on both whatever is replicated.
const ACCOUNTS: [&str; 7] = [
    "SET SESSION sql_log_bin = 0",
    "CREATE USER IF NOT EXISTS 'repl'@'%' IDENTIFIED BY 'repl'",
    "GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%'",
    "CREATE DATABASE IF NOT EXISTS understudy",
    "CREATE TABLE IF NOT EXISTS understudy.heartbeat (id INT PRIMARY KEY, beat VARCHAR(40))",
    "GRANT ALL ON understudy.* TO 'understudy'@'%'",
    "SET SESSION sql_log_bin = 1",
];

/// Of the guards, those that a minute of reads alone could not meet.
const LOWER: &str = "coverage_commands = 0.0
coverage_fingerprints = 0.0
coverage_tables = 0.0
";

/// With these lines below `[mirror]` and `[cutover]`, and replication as what feeds the shadow.
pub fn replicated(lab: &Lab, mirror: &'static str, cutover: &str) -> Setup {
    let mut setup = setup(cutover);
    for name in ["commands", "fingerprints", "tables"] {
        setup.more = setup.more.replace(&format!("coverage_{name} = 0.5\n"), "");
    }
    setup.more = setup
        .more
        .replace("[readiness]\n", &format!("[readiness]\n{LOWER}"));
    setup.shadow = Some(lab.shadow());
    setup.shadow_more = "fed_by = \"replication\"".to_owned();
    setup.mirror = mirror;
    setup
}

/// A connection with all rights.
async fn root(lab: &Lab, of: Of) -> Conn {
    let socket = match of {
        Of::Source => "LEGACY_ROOT_SOCKET",
        Of::Replica => "SHADOW_ROOT_SOCKET",
    };
    let opts = OptsBuilder::default()
        .socket(Some(lab.value(socket)))
        .user(Some("root"));
    Conn::new(opts).await.expect("root logs in by the socket")
}

impl Pair {
    /// The checker's tables on both, the same rows, and replication from the one to the other.
    pub async fn begin(load: Load) -> Self {
        let pair = Self { lab: Lab::pair() };
        pair.part().await;
        for of in [Of::Source, Of::Replica] {
            pair.run(of, &ACCOUNTS).await;
        }
        checker::set_up(&pair.lab, load).await;
        pair.replicate_behind(&pair.stands().await).await;
        pair
    }

    /// Two servers that know nothing of each other, and take writes.
    pub async fn part(&self) {
        for of in [Of::Source, Of::Replica] {
            let alone = [
                "STOP REPLICA",
                "RESET REPLICA ALL",
                "SET GLOBAL read_only = 0",
            ];
            self.run(of, &alone).await;
        }
    }

    /// Runs these with all rights, or fails with the words of the one that is refused.
    pub async fn run(&self, of: Of, statements: &[&str]) {
        let mut conn = root(&self.lab, of).await;
        for statement in statements {
            let done = conn.query_drop(*statement).await;
            done.unwrap_or_else(|fault| panic!("{of:?}: {statement}: {fault}"));
        }
        conn.disconnect().await.expect("it closes");
    }

    async fn ask(&self, of: Of, question: &str) -> Option<Row> {
        let mut conn = root(&self.lab, of).await;
        let row = conn.query_first(question).await;
        let row = row.unwrap_or_else(|fault| panic!("{of:?}: {question}: {fault}"));
        conn.disconnect().await.expect("it closes");
        row
    }

    /// Where the source stands.
    pub async fn stands(&self) -> String {
        let row = self.ask(Of::Source, "SELECT @@GLOBAL.gtid_executed").await;
        row.expect("a row").get(0).expect("its GTIDs")
    }

    /// Replication from the source, of what comes behind these GTIDs: the replica has what they stand for,
    /// however it came there.
    pub async fn replicate_behind(&self, stands: &str) {
        let port = self.lab.port("LEGACY_PORT");
        let mut conn = root(&self.lab, Of::Replica).await;
        conn.query_drop("STOP REPLICA").await.expect("it stops");
        if let Err(Error::Server(said)) = conn.query_drop("RESET BINARY LOGS AND GTIDS").await {
            // Before MySQL 8.4 it had another name.
            assert_eq!(said.code, 1064, "{said}");
            conn.query_drop("RESET MASTER").await.expect("its GTIDs go");
        }
        conn.disconnect().await.expect("it closes");
        let purged = format!("SET GLOBAL gtid_purged = '{stands}'");
        let source = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = 'repl', SOURCE_PASSWORD = 'repl', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1"
        );
        self.run(Of::Replica, &[&purged, &source, "START REPLICA"])
            .await;
        self.until_replicated().await;
    }

    /// Waits until the replica has all that the source has now.
    pub async fn until_replicated(&self) {
        let stands = self.stands().await;
        let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{stands}', 20)");
        let late: Option<i64> = self.ask(Of::Replica, &wait).await.expect("a row").get(0);
        assert_eq!(late, Some(0), "{}", self.standing().await);
    }

    /// `Yes` or `No`: whether the replica applies what it gets.
    pub async fn applies(&self) -> String {
        self.of_status("Replica_SQL_Running").await
    }

    async fn of_status(&self, column: &str) -> String {
        let row = self.ask(Of::Replica, "SHOW REPLICA STATUS").await;
        let cell = row
            .expect("it is a replica")
            .get::<Option<String>, _>(column);
        cell.flatten().unwrap_or_default()
    }

    async fn standing(&self) -> String {
        let io = self.of_status("Last_IO_Error").await;
        format!("{io} {}", self.of_status("Last_SQL_Error").await)
    }

    /// Waits until it applies, and is a replica in the source's eyes too, no client.
    pub async fn until_it_applies(&self) {
        for _ in 0..600 {
            let reads = self.of_status("Replica_IO_State").await;
            if self.applies().await == "Yes" && reads.starts_with("Waiting for") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "replication was not started again: {}",
            self.standing().await
        );
    }
}

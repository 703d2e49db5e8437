//! One process takes over from another between MySQL and vtgate, under writes: no client sees an error, nothing
//! differs, nothing is tainted, and the tables are equal.

use super::mirroring::{connect, table};
use super::{Lab, Proxy, signal};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);

/// Who is told when to leave, and tells how far it has come.
#[derive(Clone, Default)]
struct Word {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU32>,
}

impl Word {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    async fn more(&self, rounds: u32) {
        let then = self.rounds.load(Ordering::SeqCst) + rounds;
        until("clients go on", || {
            self.rounds.load(Ordering::SeqCst) >= then
        })
        .await;
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A round: a row is written and read, then another and a change of the first in a transaction.
async fn round(app: &mut Conn, table: &str, n: u32) -> mysql_async::Result<()> {
    let (one, two) = (n * 2, n * 2 + 1);
    app.query_drop(format!(
        "INSERT INTO {table} (id, name) VALUES ({one}, 'first')"
    ))
    .await?;
    app.query_drop("BEGIN").await?;
    app.exec_drop(
        format!("INSERT INTO {table} (id, name) VALUES (?, ?)"),
        (two, "second"),
    )
    .await?;
    app.query_drop(format!(
        "UPDATE {table} SET name = 'changed' WHERE id = {one}"
    ))
    .await?;
    app.query_drop("COMMIT").await?;
    let rows: Vec<(u32, String)> = app
        .query(format!(
            "SELECT id, name FROM {table} WHERE id IN ({one}, {two}) ORDER BY id"
        ))
        .await?;
    assert_eq!(
        rows,
        [(one, "changed".to_owned()), (two, "second".to_owned())]
    );
    Ok(())
}

fn start(
    address: &str,
    table: &str,
    stays: bool,
    word: &Word,
) -> JoinHandle<mysql_async::Result<u32>> {
    let (address, table, word) = (address.to_owned(), table.to_owned(), word.clone());
    tokio::spawn(async move {
        let mut n = 0;
        let mut kept = None;
        while word.goes_on() {
            let mut app = match kept.take() {
                Some(app) => app,
                None => Conn::new(super::client(&address, "scratch")).await?,
            };
            round(&mut app, &table, n).await?;
            n += 1;
            word.rounds.fetch_add(1, Ordering::SeqCst);
            if stays {
                tokio::time::sleep(Duration::from_millis(10)).await;
                kept = Some(app);
            } else {
                app.disconnect().await?;
            }
        }
        if let Some(app) = kept {
            app.disconnect().await?;
        }
        Ok(n)
    })
}

async fn rows(address: &str, table: &str) -> Vec<(u32, String)> {
    let mut direct = connect(address, "scratch").await;
    direct
        .query(format!("SELECT id, name FROM {table} ORDER BY id"))
        .await
        .expect("the rows")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_takes_over_under_writes_and_nothing_differs() {
    let lab = Lab::get();
    let mut tables = Vec::new();
    for _ in 0..4 {
        tables.push(table(&lab).await);
    }
    let mut old = Proxy::start(&lab);
    let (come, stay) = (Word::default(), Word::default());
    let mut comers = Vec::new();
    for table in &tables[..2] {
        comers.push(start(&old.address, table, false, &come));
    }
    let mut stayers = Vec::new();
    for table in &tables[2..] {
        stayers.push(start(&old.address, table, true, &stay));
    }
    come.more(6).await;
    stay.more(6).await;
    let process = old.pid();
    old.signal("USR2");
    until("it is handed over", || {
        !old.get("/api/v1/status")["handover"].is_null()
    })
    .await;
    let heir = old.get("/api/v1/status")["handover"]["to"]
        .as_u64()
        .expect("a process");
    come.more(6).await;
    stay.more(6).await;
    stay.stop.store(true, Ordering::SeqCst);
    for stayer in stayers {
        stayer.await.expect("no panic").expect("no error");
    }
    assert_eq!(old.exit_code(PATIENCE), Some(0));
    until("the new one answers", || {
        let status = old.try_get("/api/v1/status");
        status.is_ok_and(|status| status.contains("\"handover\":null"))
    })
    .await;
    come.more(6).await;
    come.stop.store(true, Ordering::SeqCst);
    for comer in comers {
        comer.await.expect("no panic").expect("no error");
    }
    let coverage = old.settled();
    until("nothing waits for the shadow", || {
        old.metric("understudy_mirror_waiting_commands") == 0
    })
    .await;
    assert_ne!(u64::from(process), heir);
    println!("after process {process} and in {heir}: {coverage}");
    assert_eq!(coverage["diverged"], 0, "{coverage}");
    let dropped = coverage["not_compared"].get("dropped");
    assert_eq!(dropped, None, "{coverage}");
    let taints = old.get("/api/v1/taints");
    assert_eq!(taints["items"], serde_json::json!([]), "{taints}");
    let findings = old.get("/api/v1/findings");
    let answered = findings["items"].as_array().expect("items").iter();
    let other = answered
        .filter(|finding| finding["kind"] != "latency")
        .count();
    assert_eq!(other, 0, "{findings}");
    for table in &tables {
        let (legacy, shadow) = (
            rows(&lab.legacy(), table).await,
            rows(&lab.shadow(), table).await,
        );
        assert!(legacy.len() >= 6, "{table}");
        assert_eq!(legacy, shadow, "{table}");
    }
    let heir = i32::try_from(heir).expect("a process");
    signal(heir, "TERM");
    let lock = old.file("ledger.db.lock");
    until("the new one has ended", || {
        std::fs::read_to_string(&lock).is_ok_and(|word| word.trim_end() == "clean")
    })
    .await;
}

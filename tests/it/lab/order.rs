//! The order of all sessions on real servers.

use super::mirroring::{connect, table};
use super::planted::store;
use super::proxy::Setup;
use super::{Lab, Proxy};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::json;
use std::time::Duration;

/// Sessions that write the same rows, and how often each does.
const WRITERS: u32 = 8;
const ROUNDS: u32 = 30;
const WRITES: u32 = 10;

/// Writes rows that all others write too, alone or in transactions. Each leaves its mark at the
/// end of what the row holds, so that the row tells in which order they came.
async fn writer(address: String, table: String, number: u32) {
    let mut app = connect(&address, "scratch").await;
    for round in 0..ROUNDS {
        for write in 0..WRITES {
            let row = round * 2 + (number + write) % 2;
            let mark = format!(
                "UPDATE {table} SET body = CONCAT(body, ' {number}.{write}') WHERE id = {row}"
            );
            if write % 5 == 4 {
                for statement in ["BEGIN", &mark, "COMMIT"] {
                    app.query_drop(statement).await.expect(statement);
                }
            } else {
                app.query_drop(&mark).await.expect(&mark);
            }
        }
    }
    app.disconnect().await.expect("the end");
}

async fn bodies(address: &str, table: &str) -> Vec<(u32, String)> {
    let mut direct: Conn = connect(address, "scratch").await;
    direct
        .query(format!("SELECT id, body FROM {table} ORDER BY id"))
        .await
        .expect("the rows")
}

/// A row's marks.
fn marks(body: &str) -> Vec<String> {
    body.split(' ').map(str::to_owned).collect()
}

/// All marks of all rows, whatever their order.
fn sorted(rows: &[(u32, String)]) -> Vec<(u32, String)> {
    let of = |(id, body): &(u32, String)| marks(body).into_iter().map(|mark| (*id, mark)).collect();
    let mut all: Vec<(u32, String)> = rows.iter().flat_map::<Vec<_>, _>(of).collect();
    all.sort();
    all
}

/// How many marks stand in another place.
fn moved(legacy: &[(u32, String)], shadow: &[(u32, String)]) -> usize {
    let of = |at: usize| {
        let (one, other) = (marks(&legacy[at].1), marks(&shadow[at].1));
        let moved = (0..one.len()).filter(|place| other.get(*place) != one.get(*place));
        moved.count()
    };
    (0..legacy.len()).map(of).sum()
}

/// Lets all writers write, and waits until the shadow has what it is to have. What both sides hold
/// then.
async fn written(
    lab: &Lab,
    proxy: &Proxy,
    table: &str,
) -> (Vec<(u32, String)>, Vec<(u32, String)>) {
    let mut app = connect(&proxy.address, "scratch").await;
    for row in 0..ROUNDS * 2 {
        app.query_drop(format!("INSERT INTO {table} (id, body) VALUES ({row}, '')"))
            .await
            .expect("a row");
    }
    proxy.settled();
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(writer(proxy.address.clone(), table.to_owned(), number));
    }
    while let Some(done) = writers.join_next().await {
        done.expect("a writer");
    }
    proxy.settled();
    // A transaction's end may have no verdict of its own.
    while proxy.metric("understudy_mirror_waiting_commands") != 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    (
        bodies(&lab.legacy(), table).await,
        bodies(&lab.shadow(), table).await,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_writes_of_one_row_each_come_once() {
    let lab = Lab::get();
    // So patient that a machine which is busy with other things suspends nothing.
    let setup = Setup {
        mirror: "writes = \"apply\"\norder_wait_ms = 60000\nbreaker_lag_ms = 120000",
        ..Setup::default()
    };
    let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
    let (legacy, shadow) = written(&lab, &proxy, &table).await;
    let status = proxy.get("/api/v1/status");
    let taints = proxy.get("/api/v1/taints")["items"].take();
    assert_eq!(taints, json!([]), "it lost writes and said so: {status}");
    // Not by the list: how slow the shadow is stands there, too.
    assert_eq!(status["coverage"]["diverged"], 0, "{status}");
    assert_eq!(
        sorted(&legacy),
        sorted(&shadow),
        "it lost writes and said nothing: {status}"
    );
    // Acknowledgements that cross on their way are all that is known of the order: see "Order
    // across sessions".
    let moved = moved(&legacy, &shadow);
    let writes = WRITERS * ROUNDS * WRITES;
    println!("{moved} of {writes} marks stand in another place");
}

/// Locks all rows on the shadow from time to time, behind vtgate, so that everybody waits there.
async fn hold_up(lab: Lab, table: String) {
    let mut other = store(&lab, "vt_scratch_0").await;
    let lock = format!("SELECT id FROM {table} FOR UPDATE");
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for statement in ["BEGIN", &lock, "DO SLEEP(0.4)", "ROLLBACK"] {
            // It may be a deadlock's victim.
            let _done = other.query_drop(statement).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_suspension_loses_of_overlapping_writes_is_tainted() {
    let lab = Lab::get();
    let (mut suspensions, mut differ) = (0, 0);
    for mirror in [
        "writes = \"apply\"\nbreaker_lag_ms = 100\nbreaker_pause_ms = 100",
        "writes = \"apply\"\norder_wait_ms = 50\nbreaker_lag_ms = 200\nbreaker_pause_ms = 100",
    ] {
        let setup = Setup {
            mirror,
            ..Setup::default()
        };
        let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
        let holds_up = tokio::spawn(hold_up(lab.clone(), table.clone()));
        let (legacy, shadow) = written(&lab, &proxy, &table).await;
        holds_up.abort();
        suspensions += proxy.metric("understudy_mirror_suspensions_total");
        if sorted(&legacy) != sorted(&shadow) {
            differ += 1;
            let taints = proxy.get("/api/v1/taints");
            let coverage = proxy.settled();
            assert!(taints.to_string().contains(&table), "{taints} {coverage}");
        }
    }
    assert!(suspensions > 0 && differ > 0, "{suspensions} {differ}");
}

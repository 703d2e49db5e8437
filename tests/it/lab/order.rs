//! The order of all sessions on real servers.

use super::mirroring::{connect, divergences, table};
use super::proxy::Setup;
use super::{Lab, Proxy};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

/// Sessions that write the same rows, and how often each does.
const WRITERS: u32 = 8;
const ROUNDS: u32 = 60;
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

/// Of how many marks the place differs; the marks themselves must be the same, each once.
fn moved(one: &str, other: &str) -> usize {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (words(one), words(other));
    let moved = (0..one.len()).filter(|at| other.get(*at) != one.get(*at));
    let moved = moved.count();
    let sorted = |mut words: Vec<String>| {
        words.sort();
        words
    };
    assert_eq!(sorted(one), sorted(other));
    moved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_writes_of_one_row_each_come_once() {
    let lab = Lab::get();
    let setup = Setup {
        mirror: "writes = \"apply\"\norder_wait_ms = 60000",
        ..Setup::default()
    };
    let (proxy, table) = (Proxy::start_with(&lab, &setup), table(&lab).await);
    let mut app = connect(&proxy.address, "scratch").await;
    for row in 0..ROUNDS * 2 {
        app.query_drop(format!("INSERT INTO {table} (id, body) VALUES ({row}, '')"))
            .await
            .expect("a row");
    }
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(writer(proxy.address.clone(), table.clone(), number));
    }
    while let Some(done) = writers.join_next().await {
        done.expect("a writer");
    }
    let coverage = proxy.settled();
    let (legacy, shadow) = (
        bodies(&lab.legacy(), &table).await,
        bodies(&lab.shadow(), &table).await,
    );
    assert_eq!(legacy.len(), shadow.len());
    let moved: usize = (0..legacy.len())
        .map(|at| moved(&legacy[at].1, &shadow[at].1))
        .sum();
    // Acknowledgements that cross on their way are all that is known of the order: see "Order
    // across sessions".
    let writes = WRITERS * ROUNDS * WRITES;
    println!("{moved} of {writes} marks stand in another place");
    assert_eq!(proxy.get("/api/v1/taints")["items"], json!([]));
    assert_eq!(divergences(&proxy), Vec::<Value>::new(), "{coverage}");
}

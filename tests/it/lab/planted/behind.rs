//! A shadow that replication feeds, half a second behind: what differs for that long is *lag*.

use super::run::Doors;
use crate::lab::mirroring::connect;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use std::time::Duration;
use tokio::time::Instant;

/// How far the shadow is behind.
const BEHIND: Duration = Duration::from_millis(500);
const WRITES: u64 = 40;

/// Says to the shadow what replication would, later.
async fn feed(
    mut shadow: mysql_async::Conn,
    mut statements: tokio::sync::mpsc::Receiver<(Instant, String)>,
) {
    while let Some((said, statement)) = statements.recv().await {
        tokio::time::sleep_until(said + BEHIND).await;
        shadow
            .query_drop(&statement)
            .await
            .expect("the shadow takes it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_half_a_second_behind_says_lag_and_differs_in_nothing() {
    let lab = Lab::get();
    let table = crate::lab::mirroring::table(&lab).await;
    let setup = Setup {
        mirror: "writes = \"off\"",
        shadow_more: "fed_by = \"replication\"".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let (tell, told) = tokio::sync::mpsc::channel(1_000);
    let feeder = tokio::spawn(feed(Doors::open(&lab, false).await.vtgate, told));
    let mut app = connect(&proxy.address, "scratch").await;
    for id in 1..=WRITES {
        let statement = if id % 4 == 0 {
            format!("UPDATE {table} SET name = 'changed' WHERE id = {}", id - 1)
        } else {
            format!("INSERT INTO {table} (id, name) VALUES ({id}, 'n{id}')")
        };
        app.query_drop(&statement)
            .await
            .expect("the primary takes it");
        tell.send((Instant::now(), statement))
            .await
            .expect("the feeder runs");
        let read = format!("SELECT id, name FROM {table} WHERE id IN (?, ?)");
        app.exec_drop(read, (id - 1, id))
            .await
            .expect("it is served");
        app.query_drop(format!("SELECT COUNT(*) FROM {table}"))
            .await
            .expect("it is served");
    }
    app.disconnect().await.expect("it closes");
    drop(tell);
    feeder.await.expect("it has fed all");
    let coverage = proxy.settled();
    let findings = super::run::findings(&proxy);
    assert_eq!(coverage["diverged"], 0, "{coverage} {findings:?}");
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(coverage["not_compared"]["off"], WRITES, "{coverage}");
    let lag = coverage["not_compared"]["lag"].as_u64().unwrap_or(0);
    let race = coverage["not_compared"]["race"].as_u64().unwrap_or(0);
    assert!(lag >= WRITES && lag + race <= 2 * WRITES, "{coverage}");
}

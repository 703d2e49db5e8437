//! `understudy verify --config` between two servers of which nothing says that the one feeds the other: quick where both
//! stand still, and patient where somebody writes, who may bring what is late.

use super::lock::filled;
use super::table;
use crate::lab::Proxy;
use crate::lab::cutover::replica::{Of, Pair};
use crate::lab::cutover::scene::LIGHT;
use crate::lab::mirroring::connect;
use crate::lab::proxy::Setup;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the pauses alone took, and take where somebody writes.
const PAUSES: Duration = Duration::from_millis(6_400);

/// A config of this pair, and its files: the proxy itself has ended.
fn config(pair: &Pair) -> Proxy {
    let setup = Setup {
        shadow: Some(pair.lab.shadow()),
        mirror: "writes = \"off\"",
        more: "[verify]\nshare = 1.0".to_owned(),
        ..Setup::default()
    };
    let mut proxy = Proxy::start_with(&pair.lab, &setup);
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(Duration::from_secs(30)), Some(0));
    proxy
}

/// A run to its end, and how long it took.
fn alone(config: &Path, tables: &str) -> (Value, Duration) {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["verify", "--format", "json", "--config"])
        .arg(config)
        .args(["--tables", tables])
        .output()
        .expect("it runs");
    let told = serde_json::from_slice(&output.stdout);
    let told = told.unwrap_or_else(|fault| panic!("{fault}: {output:?}"));
    (told, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_between_servers_that_stand_still_differs_at_once() {
    let pair = Pair::begin(LIGHT).await;
    filled(&pair, "v_still").await;
    pair.part().await;
    let proxy = config(&pair);
    pair.run(Of::Replica, &["DELETE FROM scratch.v_still WHERE id = 7"])
        .await;
    let file = proxy.file("understudy.toml");
    let (told, took) = tokio::task::block_in_place(|| alone(&file, "scratch.v_still"));
    let one = table(&told, "v_still");
    assert_eq!(one["differences"], json!({"missing": 1}), "{told:#}");
    assert!(took < PAUSES, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_brings_late_is_no_difference_while_he_writes() {
    let pair = Pair::begin(LIGHT).await;
    filled(&pair, "v_late").await;
    pair.part().await;
    let proxy = config(&pair);
    let others = [
        "DROP TABLE IF EXISTS scratch.v_others",
        "CREATE TABLE scratch.v_others (id INT PRIMARY KEY)",
    ];
    pair.run(Of::Replica, &others).await;
    let newer = "UPDATE scratch.v_late SET n = 1 WHERE id = 9";
    pair.run(Of::Source, &[newer]).await;
    let mut feeder = connect(&pair.lab.shadow(), "scratch").await;
    let feeding = tokio::spawn(async move {
        for id in 0..30 {
            let other = format!("INSERT INTO v_others VALUES ({id})");
            feeder.query_drop(other).await.expect("another table's");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        feeder.query_drop(newer).await.expect("what was late");
    });
    let file = proxy.file("understudy.toml");
    let (told, _) = tokio::task::block_in_place(|| alone(&file, "scratch.v_late"));
    assert_eq!(table(&told, "v_late")["outcome"], "equal", "{told:#}");
    feeding.await.expect("it fed");
}

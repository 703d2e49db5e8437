//! Sessions that hold what no other server can be given: a cutover waits for them, then aborts, or
//! ends them where the config says so.

use super::scene::{LIGHT, Scene, ask, flip, primary, setup, until_state, why};
use crate::lab::checker::assert_none;
use crate::lab::mirroring::connect;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use serde_json::{Value, json};
use std::time::Duration;

/// What a session does to be stuck, how it gets free again, and a word of the reason.
const STUCK: [(&str, &str, &str, &str); 3] = [
    (
        "GET_LOCK",
        "SELECT GET_LOCK('checker', 1)",
        "SELECT RELEASE_LOCK('checker')",
        "GET_LOCK",
    ),
    (
        "a temporary table",
        "CREATE TEMPORARY TABLE checker_scratch (id INT)",
        "DROP TEMPORARY TABLE checker_scratch",
        "temporary",
    ),
    (
        "LOCK TABLES",
        "LOCK TABLES checker_stuck READ",
        "UNLOCK TABLES",
        "LOCK TABLES",
    ),
];

/// Past these guards, which name such sessions beforehand.
fn forced() -> Value {
    json!({"to": "vitess", "force": ["open_transactions", "features"]})
}

async fn stuck(scene: &Scene, statement: &str) -> Conn {
    let mut session = connect(&scene.proxy.address, "scratch").await;
    session.query_drop(statement).await.expect(statement);
    session
}

/// A table that only this file locks.
async fn table(scene: &Scene) {
    for server in ["legacy", "vitess"] {
        let mut direct = connect(&scene.address(server), "scratch").await;
        let make = "CREATE TABLE IF NOT EXISTS checker_stuck (id INT PRIMARY KEY)";
        direct.query_drop(make).await.expect("the table");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_cannot_move_stops_a_cutover_until_it_is_free() {
    let scene = Scene::open(&setup("hold_ms_max = 500"), LIGHT).await;
    table(&scene).await;
    for (what, sticks, frees, word) in STUCK {
        let mut session = stuck(&scene, sticks).await;
        let (status, answer) = ask(&scene.proxy, &forced());
        assert_eq!(status, 202, "{what}: {answer:#}");
        let cutover = until_state(
            &scene.proxy,
            &["aborted", "soaking"],
            Duration::from_secs(30),
        )
        .await;
        assert_eq!(cutover["state"], "aborted", "{what}: {cutover:#}");
        assert!(
            why(&cutover["record"]).contains(word),
            "{what}: {cutover:#}"
        );
        let connection = format!("connection {}) ", session.id());
        assert!(
            why(&cutover["record"]).contains(&connection),
            "{what}: {cutover:#}"
        );
        assert_eq!(primary(&scene.proxy), "legacy");
        // The session itself never noticed.
        session.query_drop(frees).await.expect(frees);
        session.disconnect().await.expect("the end");
    }
    let (status, answer) = ask(&scene.proxy, &forced());
    assert_eq!(status, 202, "{answer:#}");
    until_state(&scene.proxy, &["soaking", "done"], Duration::from_secs(30)).await;
    assert_eq!(primary(&scene.proxy), "vitess");
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_cannot_move_is_told_so_and_ended_where_the_config_says_so() {
    let scene = Scene::open(&setup("hold_ms_max = 1500\nstuck = \"end\""), LIGHT).await;
    let (_, sticks, _, _) = STUCK[0];
    let mut session = stuck(&scene, sticks).await;
    let (status, answer) = ask(&scene.proxy, &forced());
    assert_eq!(status, 202, "{answer:#}");
    until_state(&scene.proxy, &["soaking", "done"], Duration::from_secs(30)).await;
    assert_eq!(primary(&scene.proxy), "vitess");
    match session.query_drop("SELECT 1").await {
        Err(Error::Server(said)) => assert_eq!(said.code, 1053, "{said}"),
        other => panic!("it is not told: {other:?}"),
    }
    flip(&scene.proxy, "legacy").await;
    let report = scene.close_in_order().await;
    assert_none("the others saw errors", &report.errors());
}

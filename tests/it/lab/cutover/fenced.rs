//! A fence: the old primary refuses the application's writes, and takes in the dark ones all the same, so
//! that the way back loses nothing; and it is gone once that server is primary again.

use super::scene::{LIGHT, Scene, flip, setup};
use crate::lab::checker::assert_none;
use crate::lab::mirroring::connect;
use mysql_async::Error;
use mysql_async::prelude::Queryable;
use std::time::Duration;

/// ER_OPTION_PREVENTS_STATEMENT.
const READ_ONLY: u16 = 1290;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_server_refuses_all_but_the_dark_writes() {
    let scene = Scene::open(&setup("fence = true\nsoak_s = 3600"), LIGHT).await;
    let write = "UPDATE checker_counters SET n = n + 0 WHERE client = 0";
    for _ in 0..2 {
        flip(&scene.proxy, "vitess").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut past = connect(&scene.lab.legacy(), "scratch").await;
        let refused = past.query_drop(write).await;
        let is_fenced = matches!(&refused, Err(Error::Server(said)) if said.code == READ_ONLY);
        assert!(is_fenced, "{refused:?}");
        past.disconnect().await.expect("the end");
        flip(&scene.proxy, "legacy").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut past = connect(&scene.lab.legacy(), "scratch").await;
    past.query_drop(write).await.expect("the fence is gone");
    past.disconnect().await.expect("the end");
    let taints = scene.proxy.get("/api/v1/taints")["items"].clone();
    assert_eq!(taints, serde_json::json!([]));
    let report = scene.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

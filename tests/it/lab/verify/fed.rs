//! A shadow that replication feeds: how far that is, is asked, not guessed. Who replicates is the test: it carries the
//! heartbeat across, and what the primary has, seconds later.

use super::{table, until, verify};
use crate::lab::mirroring::{connect, table as new_table};
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use serde_json::json;
use std::time::Duration;

async fn beats(lab: &Lab) {
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address, "scratch").await;
        for statement in [
            "DROP TABLE IF EXISTS v_beat",
            "CREATE TABLE v_beat (id INT PRIMARY KEY, beat VARCHAR(40))",
        ] {
            direct.query_drop(statement).await.expect("the heartbeat");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_that_is_behind_is_no_difference() {
    let lab = Lab::get();
    let name = new_table(&lab).await;
    beats(&lab).await;
    let mut legacy = connect(&lab.legacy(), "scratch").await;
    let fill = format!("INSERT INTO {name} VALUES (1, 'a', 'b')");
    legacy.query_drop(&fill).await.expect("filled");
    let setup = Setup {
        mirror: "writes = \"off\"",
        shadow_more: "fed_by = \"replication\"".to_owned(),
        more: "[cutover]\ncatch_up = \"heartbeat\"\nheartbeat_table = \"scratch.v_beat\"\n[verify]\nshare = 1.0\nsettle_s = 30".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let tables = format!("scratch.{name}");
    let body = json!({"tables": [tables.clone()]});
    proxy.send("POST", "/api/v1/verify", &body);
    // Four seconds behind: longer than anybody slept for it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let told = proxy.get("/api/v1/verify");
    assert_eq!(told["state"], "running", "{told:#}");
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    shadow.query_drop(&fill).await.expect("replicated");
    let carried = tokio::spawn(async move {
        loop {
            let all: Vec<(i32, String)> = legacy
                .query("SELECT id, beat FROM v_beat")
                .await
                .expect("the beats");
            for (id, beat) in all {
                let carry = format!("REPLACE INTO v_beat (id, beat) VALUES ({id}, '{beat}')");
                shadow.query_drop(carry).await.expect("carried");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let told = tokio::task::block_in_place(|| until(&proxy, &|told| told["state"] == "ended"));
    assert_eq!(table(&told, &name)["outcome"], "equal", "{told:#}");
    // What replication never brings is a difference, for it is known to be there by then.
    let mut legacy = connect(&lab.legacy(), "scratch").await;
    let lost = format!("INSERT INTO {name} VALUES (2, 'a', 'b')");
    legacy.query_drop(lost).await.expect("lost");
    let (code, told) = tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", &tables]));
    assert_eq!(
        (code, &table(&told, &name)["differences"]),
        (1, &json!({"missing": 1})),
        "{told:#}"
    );
    // And where nobody can say how far it is, it is neither.
    carried.abort();
    drop(carried.await);
    proxy.send("POST", "/api/v1/verify", &body);
    let told = tokio::task::block_in_place(|| until(&proxy, &|told| told["state"] == "ended"));
    let one = table(&told, &name);
    assert_eq!(
        (&one["outcome"], &one["unsettled"]),
        (&json!("unfinished"), &json!(1)),
        "{told:#}"
    );
    assert!(
        one["why"].as_str().unwrap().contains("heartbeat"),
        "{told:#}"
    );
    // Its own table is not compared.
    let (_, told) =
        tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", "scratch.v_beat"]));
    assert_eq!(told["run"]["tables"], json!([]), "{told:#}");
}

//! What can be wrong with a row on shards: it is on two of them, or on one that a lookup does not ask.

use super::{store, table, verify};
use crate::lab::mirroring::connect;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use serde_json::json;

const SHARDS: [&str; 2] = ["vt_app_-80", "vt_app_80-"];

#[tokio::test]
async fn a_row_on_two_shards_or_on_the_wrong_one_is_found() {
    let lab = Lab::get();
    const TABLE: &str = "sbtest8";
    let (mut legacy, mut vtgate) = (
        connect(&lab.legacy(), "app").await,
        connect(&lab.shadow(), "app").await,
    );
    for conn in [&mut legacy, &mut vtgate] {
        conn.query_drop(format!("DROP TABLE IF EXISTS {TABLE}"))
            .await
            .expect("dropped");
        conn.query_drop(format!(
            "CREATE TABLE {TABLE} (id INT PRIMARY KEY, v VARCHAR(9))"
        ))
        .await
        .expect("made");
        let mut tries = 0;
        let rows: Vec<String> = (1..=40).map(|id| format!("({id}, 'v{id}')")).collect();
        while let Err(fault) = conn
            .query_drop(format!("INSERT INTO {TABLE} VALUES {}", rows.join(", ")))
            .await
        {
            tries += 1;
            assert!(tries < 100, "{fault}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    let setup = Setup {
        more: "[verify]\nshare = 1.0\nrange_rows = 7".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let tables = format!("app.{TABLE}");
    let (code, told) = verify(&proxy.admin, &["--tables", &tables]);
    assert_eq!(
        (code, &table(&told, TABLE)["outcome"]),
        (0, &json!("equal")),
        "{told:#}"
    );

    let (mut one, mut other) = (store(&lab, SHARDS[0]).await, store(&lab, SHARDS[1]).await);
    let ids: Vec<i32> = one
        .query(format!("SELECT id FROM {TABLE} ORDER BY id"))
        .await
        .expect("ids");
    let [twice, moved, ..] = ids.as_slice() else {
        panic!("the first shard has too few rows: {ids:?}")
    };
    for id in [twice, moved] {
        let copy = format!("INSERT INTO {TABLE} VALUES ({id}, 'v{id}')");
        other.query_drop(copy).await.expect("copied");
    }
    one.query_drop(format!("DELETE FROM {TABLE} WHERE id = {moved}"))
        .await
        .expect("moved");
    // And an extra one where no lookup finds it.
    other
        .query_drop(format!("INSERT INTO {TABLE} SELECT {moved} + 1000, 'x'"))
        .await
        .expect("planted");
    let (code, told) = verify(&proxy.admin, &["--tables", &tables]);
    assert_eq!(code, 1);
    let differences = &table(&told, TABLE)["differences"];
    assert_eq!(
        *differences,
        json!({"twice": 1, "misplaced": 1, "extra": 1}),
        "{told:#}"
    );
    for conn in [&mut legacy, &mut vtgate] {
        conn.query_drop(format!("DROP TABLE {TABLE}"))
            .await
            .expect("dropped");
    }
}

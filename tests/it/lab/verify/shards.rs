//! What can be wrong with a row on shards: it is on two of them, or on one that a lookup does not ask.

use super::{store, table, verify};
use crate::lab::mirroring::connect;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

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
    // A plan names the shard; a repair takes away what does not belong there, and a second look is clean.
    let (_, plan) = verify(&proxy.admin, &["--tables", &tables, "--repair", "plan"]);
    let plan = table(&plan, TABLE)["rows"].to_string();
    let away = format!("USE `app:80-`; DELETE FROM `{TABLE}` WHERE `id` = {twice}; USE `app`");
    assert!(plan.contains(&away), "{plan}");
    let (_, told) = verify(&proxy.admin, &["--tables", &tables, "--repair", "apply"]);
    assert_eq!(table(&told, TABLE)["repaired"], 3, "{told:#}");
    let (code, told) = verify(&proxy.admin, &["--tables", &tables]);
    assert_eq!(
        (code, &table(&told, TABLE)["outcome"]),
        (0, &json!("equal")),
        "{told:#}"
    );
    let now: Vec<i32> = one
        .query(format!("SELECT id FROM {TABLE} ORDER BY id"))
        .await
        .expect("ids");
    assert_eq!(now, ids, "each is where it was");
    for conn in [&mut legacy, &mut vtgate] {
        conn.query_drop(format!("DROP TABLE {TABLE}"))
            .await
            .expect("dropped");
    }
}

/// Makes a table of ours on both sides, sharded by this column, and fills it.
async fn sharded(lab: &Lab, name: &str, columns: &str, by: &str, rows: &str) -> (Conn, Conn) {
    let (mut legacy, mut vtgate) = (
        connect(&lab.legacy(), "app").await,
        connect(&lab.shadow(), "app").await,
    );
    let vindex = format!("ALTER VSCHEMA ON app.{name} ADD VINDEX xxhash({by}) USING xxhash");
    // It is there already where an earlier test broke off.
    let _ = vtgate.query_drop(vindex).await;
    for conn in [&mut legacy, &mut vtgate] {
        for statement in [
            format!("DROP TABLE IF EXISTS {name}"),
            format!("CREATE TABLE {name} ({columns})"),
        ] {
            conn.query_drop(statement).await.expect("made");
        }
        super::planted::run(conn, &format!("INSERT INTO {name} VALUES {rows}")).await;
    }
    (legacy, vtgate)
}

async fn gone(name: &str, conns: [&mut Conn; 2]) {
    for conn in conns {
        let drop = format!("DROP TABLE {name}");
        conn.query_drop(drop).await.expect("dropped");
    }
}

#[tokio::test]
async fn a_row_that_belongs_on_another_shard_is_taken_there() {
    let lab = Lab::get();
    let columns = "id INT PRIMARY KEY, owner INT, v VARCHAR(9)";
    let rows: Vec<String> = (1..=40).map(|id| format!("({id}, {id}, 'v')")).collect();
    let (mut legacy, mut vtgate) =
        sharded(&lab, "r_moved", columns, "owner", &rows.join(", ")).await;
    // A vtgate refuses to change the column: so does a repair that only updates.
    for id in 1..=8 {
        for statement in [
            format!("DELETE FROM r_moved WHERE id = {id}"),
            format!("INSERT INTO r_moved VALUES ({id}, {id} + 1000, 'v')"),
        ] {
            vtgate.query_drop(statement).await.expect("planted");
        }
    }
    let setup = Setup {
        more: "[verify]\nshare = 1.0".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let tables = ["--tables", "app.r_moved"];
    let (_, told) = verify(
        &proxy.admin,
        &[&tables[..], &["--repair", "apply"]].concat(),
    );
    let one = table(&told, "r_moved");
    assert_eq!(one["differences"], json!({"changed": 8}), "{told:#}");
    assert_eq!(one["repaired"], 8, "{told:#}");
    let owners: Vec<(i32, i32)> = vtgate
        .query("SELECT id, owner FROM r_moved ORDER BY id")
        .await
        .expect("rows");
    assert!(owners.iter().all(|(id, owner)| id == owner), "{owners:?}");
    let (_, told) = verify(&proxy.admin, &tables);
    let one = table(&told, "r_moved");
    // Whether each is where its vindex puts it, its key does not say.
    assert_eq!(
        (&one["outcome"], &one["differences"]),
        (&json!("equal_in_part"), &json!({})),
        "{told:#}"
    );
    gone("r_moved", [&mut legacy, &mut vtgate]).await;
}

#[tokio::test]
async fn a_key_of_several_columns_is_met_on_its_shard_and_on_a_wrong_one() {
    let lab = Lab::get();
    let columns = "a INT NOT NULL, b INT NOT NULL, v VARCHAR(9), PRIMARY KEY (a, b)";
    let rows: Vec<String> = (1..=20)
        .flat_map(|a| (1..=2).map(move |b| format!("({a}, {b}, 'v')")))
        .collect();
    let (mut legacy, mut vtgate) = sharded(&lab, "r_lines", columns, "a", &rows.join(", ")).await;
    let (mut one, mut other) = (store(&lab, SHARDS[0]).await, store(&lab, SHARDS[1]).await);
    let first: Vec<i32> = one
        .query("SELECT a FROM r_lines WHERE b = 1 ORDER BY a")
        .await
        .expect("keys");
    let [twice, moved, ..] = first.as_slice() else {
        panic!("the first shard has too few rows: {first:?}")
    };
    for a in [twice, moved] {
        let copy = format!("INSERT INTO r_lines VALUES ({a}, 1, 'v')");
        other.query_drop(copy).await.expect("copied");
    }
    let away = format!("DELETE FROM r_lines WHERE a = {moved} AND b = 1");
    one.query_drop(away).await.expect("moved");
    let setup = Setup {
        more: "[verify]\nshare = 1.0\nrange_rows = 7".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let tables = ["--tables", "app.r_lines"];
    let (_, told) = verify(
        &proxy.admin,
        &[&tables[..], &["--repair", "apply"]].concat(),
    );
    let found = table(&told, "r_lines");
    assert_eq!(
        found["differences"],
        json!({"twice": 1, "misplaced": 1}),
        "{told:#}"
    );
    assert_eq!(found["repaired"], 2, "{told:#}");
    let (code, told) = verify(&proxy.admin, &tables);
    assert_eq!(
        (code, &told["run"]["outcome"]),
        (0, &json!("equal")),
        "{told:#}"
    );
    let strays: Vec<i32> = other
        .query(format!(
            "SELECT a FROM r_lines WHERE a IN ({twice}, {moved})"
        ))
        .await
        .expect("rows");
    assert!(strays.is_empty(), "{strays:?}");
    gone("r_lines", [&mut legacy, &mut vtgate]).await;
}

#[tokio::test]
async fn a_sequence_that_is_behind_is_told_and_no_fault_of_the_rows() {
    let lab = Lab::get();
    let (mut legacy, mut vtgate) = (
        connect(&lab.legacy(), "app").await,
        connect(&lab.shadow(), "app").await,
    );
    let mut sequences = store(&lab, "vt_lookup_0").await;
    let next: Option<i64> = sequences
        .query_first("SELECT next_id FROM events_seq")
        .await
        .expect("a sequence");
    let id = next.expect("it stands somewhere") + 1_000;
    for conn in [&mut legacy, &mut vtgate] {
        // Other tests plant statements here that the two sides do not do alike.
        let emptied = conn.query_drop("TRUNCATE TABLE events").await;
        emptied.expect("nothing is there");
        let insert = format!("INSERT INTO events VALUES ({id}, 'k', 'p', '2024-01-01 00:00:00')");
        conn.query_drop(insert).await.expect("it is there");
    }
    let setup = Setup {
        more: "[verify]\nshare = 1.0".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let (_, told) = verify(&proxy.admin, &["--tables", "app.events"]);
    let found = table(&told, "events");
    let notes = found["schema"].as_array().expect("notes").iter();
    let notes: Vec<&Value> = notes.filter(|one| one["what"] == "sequence").collect();
    for conn in [&mut legacy, &mut vtgate] {
        let away = format!("DELETE FROM events WHERE id = {id}");
        conn.query_drop(away).await.expect("it is gone");
    }
    assert_eq!(notes.len(), 1, "{told:#}");
    assert_eq!(notes[0]["weight"], "note", "{told:#}");
    let said = notes[0]["said"].as_str().unwrap_or_default();
    assert!(said.contains(&format!("keys up to {id}")), "{said}");
    assert_eq!(found["differences"], json!({}), "{told:#}");
}

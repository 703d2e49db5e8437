//! Under traffic: nothing differs that does not, a lost write is found, and a run goes on after kill -9.

use super::{begin, table, understudy, until, verify};
use crate::lab::mirroring::{connect, table as new_table};
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) const ROWS: u32 = 3000;

/// Fills a table on both sides.
pub(super) async fn filled(lab: &Lab) -> String {
    let table = new_table(lab).await;
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address, "scratch").await;
        for chunk in 0..ROWS / 500 {
            let rows: Vec<String> = (1..=500)
                .map(|id| format!("({}, 'n', 'b')", chunk * 500 + id))
                .collect();
            direct
                .query_drop(format!("INSERT INTO {table} VALUES {}", rows.join(", ")))
                .await
                .expect("filled");
        }
        direct.disconnect().await.expect("it closes");
    }
    table
}

/// Sessions that write until told to stop: how many statements they ran.
fn writers(
    address: &str,
    table: &str,
    stop: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<u32>> {
    let writer = |number: u32| {
        let (address, table, stop) = (address.to_owned(), table.to_owned(), Arc::clone(stop));
        async move {
            let mut app = connect(&address, "scratch").await;
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let id = (n * 37 + number * 1009) % ROWS + 1;
                let new = 1_000_000 * (number + 1) + n;
                for statement in [
                    // The one row that all of them write, too.
                    format!("UPDATE {table} SET name = '{number}-{n}' WHERE id = {id}"),
                    format!("UPDATE {table} SET body = '{n}' WHERE id = {number} + 1"),
                    format!("INSERT INTO {table} VALUES ({new}, 'x', 'y')"),
                    format!("DELETE FROM {table} WHERE id = {new} - 3"),
                ] {
                    app.query_drop(statement).await.expect("written");
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
            n * 4
        }
    };
    (0..3).map(|number| tokio::spawn(writer(number))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_traffic_nothing_differs_that_does_not_and_a_lost_write_does() {
    let lab = Lab::get();
    let table_name = filled(&lab).await;
    let setup = Setup {
        // A slow machine makes the shadow late, not the mirror lossy.
        mirror: "writes = \"apply\"\norder_wait_ms = 600000\nbreaker_lag_ms = 600000",
        ledger: "literals = \"keep\"",
        more: "[verify]\nshare = 1.0\nrange_rows = 100".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let stop = Arc::new(AtomicBool::new(false));
    let writers = writers(&proxy.address, &table_name, &stop);
    let tables = format!("scratch.{table_name}");
    let mut settled = 0;
    for _ in 0..3 {
        let (_, told) =
            tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", &tables]));
        let one = table(&told, &table_name);
        assert_eq!(one["differences"], json!({}), "{told:#}");
        settled += one["settled"].as_u64().unwrap_or(0);
    }
    // A row that the mirror did not bring, in the midst of all that.
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    shadow
        .query_drop(format!("DELETE FROM {table_name} WHERE id = {ROWS}"))
        .await
        .expect("planted");
    let (code, told) = tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", &tables]));
    let one = table(&told, &table_name);
    // The writers may have met it: then its update found no row on the shadow, which changes nothing.
    assert_eq!(
        (code, &one["differences"]),
        (1, &json!({"missing": 1})),
        "{told:#}"
    );
    assert_eq!(one["rows"][0]["key"], json!(format!("`id` = {ROWS}")));
    let (_, told) = tokio::task::block_in_place(|| {
        verify(&proxy.admin, &["--tables", &tables, "--repair", "apply"])
    });
    assert_eq!(table(&told, &table_name)["repaired"], 1, "{told:#}");
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.expect("it wrote");
    }
    proxy.settled();
    let (code, told) = tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", &tables]));
    assert_eq!(
        (code, &table(&told, &table_name)["outcome"]),
        (0, &json!("equal")),
        "{told:#}"
    );
    println!("{written} statements written; {settled} rows that looked different were the same");
    // It is tainted no more, if it was: what differed was repaired, and all of it was read since.
    let taints = proxy.get("/api/v1/taints");
    assert!(!taints.to_string().contains(&table_name), "{taints}");
}

#[tokio::test]
async fn a_run_that_was_killed_goes_on_where_it_was_and_an_operator_steers_it() {
    let lab = Lab::get();
    let table_name = filled(&lab).await;
    let setup = Setup {
        more: format!("[verify]\nrange_rows = 50\nrows_per_second = {}", 2000),
        ..Setup::default()
    };
    let mut proxy = Proxy::start_with(&lab, &setup);
    let tables = format!("scratch.{table_name}");
    begin(&proxy, &tables);
    let again = understudy(&["verify", "--admin", &proxy.admin]);
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("is under way"),
        "{again:?}"
    );
    let read = |told: &Value| {
        table(told, &table_name)["rows_primary"]
            .as_u64()
            .unwrap_or(0)
    };
    let told = until(&proxy, &|told| {
        !told["run"]["tables"][0].is_null() && read(told) > 1200
    });
    assert_eq!(told["state"], "running");
    proxy.kill_and_start_again();
    let told = until(&proxy, &|told| !told["run"]["tables"][0].is_null());
    assert_eq!(
        (&told["run"]["resumed"], &told["run"]["id"]),
        (&json!(true), &json!(1)),
        "{told:#}"
    );
    assert!(read(&told) >= 500, "it did not begin anew: {told:#}");
    let told = proxy.send("POST", "/api/v1/verify/pause", &json!({}));
    assert_eq!(told["state"], "paused");
    std::thread::sleep(Duration::from_millis(500));
    let before = read(&proxy.get("/api/v1/verify"));
    std::thread::sleep(Duration::from_millis(500));
    let told = proxy.get("/api/v1/verify");
    assert_eq!(read(&told), before, "it does not pause");
    assert_eq!(told["run"]["waits"], "an operator paused it", "{told:#}");
    proxy.kill_and_start_again();
    let told = until(&proxy, &|told| !told["run"].is_null());
    assert_eq!(told["state"], "paused", "a restart let it go on: {told:#}");
    proxy.send("POST", "/api/v1/verify/resume", &json!({}));
    let told = until(&proxy, &|told| told["state"] == "ended");
    assert_eq!(
        (&told["run"]["outcome"], read(&told)),
        (&json!("equal_in_part"), u64::from(ROWS)),
        "{told:#}"
    );
    // What was lost between the processes nobody knows.
    let part = table(&told, &table_name)["not_covered"].to_string();
    assert!(part.contains("its taint stays"), "{told:#}");
    // And it ends at an operator's word; nothing is called equal then.
    begin(&proxy, &tables);
    proxy.send("POST", "/api/v1/verify/abort", &json!({"who": "dba"}));
    let told = until(&proxy, &|told| told["state"] == "ended");
    assert_eq!(
        (&told["run"]["outcome"], &told["run"]["why"]),
        (&json!("aborted"), &json!("dba ended it")),
        "{told:#}"
    );
}

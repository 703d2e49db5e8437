//! A server that goes away in the midst of a run: what was not read is never equal, and once it is back the run goes on.

use super::live::{ROWS, filled};
use super::{begin, table, until};
use crate::lab::proxy::Setup;
use crate::lab::way::Way;
use crate::lab::{Lab, Proxy};
use serde_json::{Value, json};

/// Which of the two goes.
#[derive(Clone, Copy, Debug)]
enum Goes {
    Primary,
    Shadow,
}

async fn between(goes: Goes, patience_s: u32) -> (Way, Proxy, String) {
    let lab = Lab::get();
    let name = filled(&lab).await;
    let (way, mut setup) = match goes {
        Goes::Primary => (Way::to(lab.legacy()).await, Setup::default()),
        Goes::Shadow => (Way::to(lab.shadow()).await, Setup::default()),
    };
    let address = Some(way.address.clone());
    match goes {
        Goes::Primary => setup.primary = address,
        Goes::Shadow => setup.shadow = address,
    }
    setup.more =
        format!("[verify]\nrange_rows = 50\nrows_per_second = 2000\npatience_s = {patience_s}");
    let proxy = Proxy::start_with(&lab, &setup);
    let tables = format!("scratch.{name}");
    begin(&proxy, &tables);
    (way, proxy, name)
}

fn read(told: &Value, name: &str) -> u64 {
    if told["run"]["tables"][0].is_null() {
        return 0;
    }
    table(told, name)["rows_primary"].as_u64().unwrap_or(0)
}

async fn comes_back(goes: Goes) {
    let (way, proxy, name) = between(goes, 60).await;
    let so_far = tokio::task::block_in_place(|| until(&proxy, &|told| read(told, &name) > 600));
    way.gone(true);
    // It says what it waits for, and gets no further.
    tokio::task::block_in_place(|| {
        until(&proxy, &|told| {
            let waits = told["run"]["waits"].as_str().unwrap_or_default();
            let server = match goes {
                Goes::Primary => "legacy",
                Goes::Shadow => "vitess",
            };
            waits.starts_with(server) || waits.contains("behind")
        })
    });
    way.gone(false);
    let told = tokio::task::block_in_place(|| until(&proxy, &|told| told["state"] == "ended"));
    let one = table(&told, &name);
    assert_eq!(
        (&one["outcome"], read(&told, &name)),
        (&json!("equal"), u64::from(ROWS)),
        "{goes:?}: {told:#}"
    );
    assert_eq!(one["rows_shadow"], ROWS, "{told:#}");
    assert!(read(&so_far, &name) < u64::from(ROWS));
}

async fn stays_away(goes: Goes) {
    let (way, proxy, name) = between(goes, 2).await;
    tokio::task::block_in_place(|| until(&proxy, &|told| read(told, &name) > 600));
    way.gone(true);
    let told = tokio::task::block_in_place(|| until(&proxy, &|told| told["state"] == "ended"));
    let one = table(&told, &name);
    assert_eq!(
        (&told["run"]["outcome"], &one["outcome"]),
        (&json!("unfinished"), &json!("unfinished")),
        "{goes:?}: {told:#}"
    );
    assert!(read(&told, &name) < u64::from(ROWS), "{told:#}");
    assert_ne!(one["not_covered"], json!([]), "it does not say why");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_once_the_shadow_is_back() {
    comes_back(Goes::Shadow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_once_the_primary_is_back() {
    comes_back(Goes::Primary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_shadow_nothing_is_equal() {
    stays_away(Goes::Shadow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_primary_nothing_is_equal() {
    stays_away(Goes::Primary).await;
}

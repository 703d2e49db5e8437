//! Repairs in hard times: a locked row, a cutover in their midst, replication that feeds the shadow, characters that
//! nobody can tell. What was written, and what was not, stands in the ledger.

use super::planted::{doors, make, run};
use super::{table, verify};
use crate::lab::cutover::scene::{self, state};
use crate::lab::mirroring::{connect, reason, table as new_table};
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value as Cell};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const KEEP: &str = "literals = \"keep\"";
const FAST: &str = "[verify]\nshare = 1.0\n";

/// So many rows on the legacy, and on the shadow those up to `there`.
async fn filled(lab: &Lab, rows: u32, there: u32) -> String {
    let table = new_table(lab).await;
    for (address, rows) in [(lab.legacy(), rows), (lab.shadow(), there)] {
        let mut direct = connect(&address, "scratch").await;
        let all: Vec<u32> = (1..=rows).collect();
        for some in all.chunks(500) {
            let some: Vec<String> = some.iter().map(|id| format!("({id}, 'n', 'b')")).collect();
            let insert = format!("INSERT INTO {table} VALUES {}", some.join(", "));
            direct.query_drop(insert).await.expect("filled");
        }
    }
    table
}

/// What the console tells of the repairs.
async fn told(proxy: &Proxy, ask: &str) -> Vec<Vec<String>> {
    let at = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(proxy.console)
        .prefer_socket(false);
    let mut console = Conn::new(at).await.expect("the console");
    let rows: Vec<Row> = console.query(ask).await.expect("it tells");
    let text = |cell: Cell| match cell {
        Cell::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Cell::NULL => "NULL".to_owned(),
        other => other.as_sql(true),
    };
    let rows = rows.into_iter().map(Row::unwrap);
    rows.map(|row| row.into_iter().map(text).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_is_given_up_at_once_and_repaired_once_it_is_free() {
    let lab = Lab::get();
    let name = filled(&lab, 20, 20).await;
    let setup = Setup {
        ledger: KEEP,
        more: FAST.to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let change = format!("UPDATE {name} SET body = 'wrong' WHERE id IN (5, 6)");
    shadow.query_drop(change).await.expect("planted");
    let mut holder = connect(&lab.shadow(), "scratch").await;
    holder.query_drop("BEGIN").await.expect("begun");
    let lock = format!("SELECT id FROM {name} WHERE id = 5 FOR UPDATE");
    holder.query_drop(lock).await.expect("locked");
    let freed = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(4)).await;
        holder.query_drop("ROLLBACK").await.expect("free");
        Instant::now()
    });
    // Production goes on meanwhile, on the same table.
    let (address, writes) = (proxy.address.clone(), name.clone());
    let app = tokio::spawn(async move {
        let mut app = connect(&address, "scratch").await;
        let (began, mut slowest) = (Instant::now(), Duration::ZERO);
        for id in 100.. {
            if began.elapsed() > Duration::from_secs(6) {
                break;
            }
            let one = Instant::now();
            let insert = format!("INSERT INTO {writes} VALUES ({id}, 'x', 'y')");
            app.query_drop(insert).await.expect("written");
            slowest = slowest.max(one.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest
    });
    let tables = format!("scratch.{name}");
    let (_, run) = tokio::task::block_in_place(|| {
        verify(&proxy.admin, &["--tables", &tables, "--repair", "apply"])
    });
    let ended = Instant::now();
    let one = table(&run, &name);
    assert_eq!(one["differences"], json!({"changed": 2}), "{run:#}");
    assert_eq!(one["repaired"], 2, "{run:#}");
    assert!(ended >= freed.await.expect("it was freed"));
    let slowest = app.await.expect("it wrote");
    let coverage = proxy.settled();
    assert_eq!(reason(&coverage, "order_wait"), 0, "{coverage}");
    println!("the slowest write took {} ms", slowest.as_millis());
    let ask = "SELECT how, columns_set, row_key, statement, server, outcome FROM repairs ORDER BY row_key";
    let set = format!("UPDATE `scratch`.`{name}` SET `body` = x'62' WHERE `id` = ");
    let expected = [5, 6].map(|id| {
        let key = format!("`id` = {id}");
        [
            "changed",
            "body",
            &key,
            &format!("{set}{id}"),
            "vitess",
            "done",
        ]
        .map(str::to_owned)
    });
    assert_eq!(told(&proxy, ask).await, expected);
    let (code, again) =
        tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", &tables]));
    assert_eq!(
        (code, &table(&again, &name)["outcome"]),
        (0, &json!("equal")),
        "{again:#}"
    );
    let taints = proxy.get("/api/v1/taints");
    assert!(!taints.to_string().contains(&name), "{taints}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_cutover_nothing_is_repaired_on_the_server_that_is_primary_now() {
    const ROWS: u32 = 900;
    let lab = Lab::get();
    let name = filled(&lab, ROWS, 0).await;
    let mut setup = scene::setup("soak_s = 600");
    setup.more = format!("{FAST}{}", setup.more);
    let proxy = Proxy::start_with(&lab, &setup);
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let count = format!("SELECT COUNT(*) FROM {name}");
    let wish = json!({"tables": [format!("scratch.{name}")], "repair": "apply"});
    proxy.send("POST", "/api/v1/verify", &wish);
    let end = Instant::now() + Duration::from_secs(90);
    let mut repaired = 0;
    while repaired < 60 {
        assert!(Instant::now() < end, "{}", proxy.get("/api/v1/verify"));
        tokio::time::sleep(Duration::from_millis(20)).await;
        repaired = shadow.query_first(&count).await.expect("rows").unwrap_or(0);
    }
    let readiness = proxy.get("/api/v1/readiness");
    let guards = readiness["guards"].as_array().expect("guards").iter();
    let failing = guards.filter(|guard| guard["pass"] == false);
    let force: Vec<Value> = failing.map(|guard| guard["name"].clone()).collect();
    assert!(
        force.contains(&json!("taint")),
        "a table in repair is tainted: {readiness:#}"
    );
    let (status, answer) = scene::ask(&proxy, &json!({"to": "vitess", "force": force}));
    assert_eq!(status, 202, "{answer:#}");
    while state(&proxy) != "soaking" {
        assert!(Instant::now() < end, "{:#}", proxy.get("/api/v1/cutover"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let then: u32 = shadow.query_first(&count).await.expect("rows").unwrap_or(0);
    assert!(then < ROWS, "all was repaired before the cutover");
    let run = loop {
        let told = proxy.get("/api/v1/verify");
        if told["state"] == "ended" {
            break told;
        }
        assert!(Instant::now() < end, "{told:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(run["run"]["outcome"], "aborted", "{run:#}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let now: u32 = shadow.query_first(&count).await.expect("rows").unwrap_or(0);
    assert_eq!(now, then, "the primary was repaired");
    let recorded = told(
        &proxy,
        "SELECT COUNT(*) FROM repairs WHERE outcome = 'done'",
    )
    .await;
    println!(
        "{now} of {ROWS} rows were there when the roles turned; {recorded:?} repairs are told as done"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_repaired_is_known_and_the_rest_is_repaired_later() {
    const ROWS: u64 = 400;
    let lab = Lab::get();
    let name = filled(&lab, 400, 0).await;
    let setup = Setup {
        ledger: KEEP,
        more: FAST.to_owned(),
        ..Setup::default()
    };
    let mut proxy = Proxy::start_with(&lab, &setup);
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let count = format!("SELECT COUNT(*) FROM {name}");
    let tables = format!("scratch.{name}");
    let wish = json!({"tables": [tables], "repair": "apply"});
    proxy.send("POST", "/api/v1/verify", &wish);
    let end = Instant::now() + Duration::from_secs(90);
    let mut there = 0_u64;
    while there < 60 {
        assert!(Instant::now() < end, "{}", proxy.get("/api/v1/verify"));
        tokio::time::sleep(Duration::from_millis(5)).await;
        there = shadow.query_first(&count).await.expect("rows").unwrap_or(0);
    }
    proxy.kill_and_start_again();
    let told_of = async |condition: &str| -> u64 {
        let ask = format!("SELECT COUNT(*) FROM repairs WHERE {condition}");
        told(&proxy, &ask).await[0][0].parse().expect("a number")
    };
    let there: u64 = shadow.query_first(&count).await.expect("rows").unwrap_or(0);
    let (done, open) = (
        told_of("outcome = 'done'").await,
        told_of("outcome IS NULL").await,
    );
    assert!(there < ROWS, "all was repaired before the kill");
    assert!(
        done <= there && there <= done + open,
        "{done} {there} {open}"
    );
    assert!(open <= 50, "{open}");
    // What repairs goes on only where an operator says so.
    let waiting = proxy.get("/api/v1/verify");
    assert_eq!(waiting["state"], "paused", "{waiting:#}");
    proxy.send("POST", "/api/v1/verify/resume", &json!({"who": "dba"}));
    let run = loop {
        let told = proxy.get("/api/v1/verify");
        if told["state"] == "ended" {
            break told;
        }
        assert!(Instant::now() < end, "{told:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // It goes on with the table, and repairs what is left.
    let one = table(&run, &name);
    assert_eq!(
        (&one["outcome"], &one["repaired"]),
        (&json!("equal_in_part"), &json!(ROWS - there)),
        "{run:#}"
    );
    let (code, told) = tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", &tables]));
    assert_eq!(
        (code, &table(&told, &name)["outcome"]),
        (0, &json!("equal")),
        "{told:#}"
    );
    println!(
        "{there} rows were there at the kill; {done} repairs are told as done, {open} as not known"
    );
}

#[tokio::test]
async fn where_replication_feeds_the_shadow_nothing_is_repaired_unless_forced() {
    let lab = Lab::get();
    let name = filled(&lab, 3, 2).await;
    let setup = Setup {
        mirror: "writes = \"off\"",
        shadow_more: "fed_by = \"replication\"".to_owned(),
        ledger: KEEP,
        more: FAST.to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let tables = format!("scratch.{name}");
    let wish = json!({"tables": [tables], "repair": "apply"});
    let (status, answer) = proxy.ask("POST", "/api/v1/verify", &wish);
    let why = answer["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(status, 409, "{answer:#}");
    assert!(why.contains("replication feeds vitess"), "{answer:#}");
    // Forced, it begins; and what nobody knows replication to have brought by then is not called missing.
    let forced = ["--tables", &tables, "--repair", "apply", "--force"];
    let (code, told) = verify(&proxy.admin, &forced);
    assert_eq!(
        (code, &told["run"]["outcome"]),
        (2, &json!("unfinished")),
        "{told:#}"
    );
    assert_eq!(table(&told, &name)["differences"], json!({}), "{told:#}");
}

#[tokio::test]
async fn what_cannot_be_told_in_utf_8_is_not_written() {
    let lab = Lab::get();
    let (mut legacy, mut vtgate) = doors(&lab).await;
    const NAME: &str = "r_lossy";
    make(
        &mut legacy,
        NAME,
        "id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET sjis, w INT",
    )
    .await;
    make(
        &mut vtgate,
        NAME,
        "id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET utf8mb4, w INT",
    )
    .await;
    run(
        &mut legacy,
        &format!(
            "INSERT INTO {NAME} VALUES (1, _sjis x'F040', 1), (2, 'a?', 1), (3, _sjis x'F040', 1)"
        ),
    )
    .await;
    run(
        &mut vtgate,
        &format!("INSERT INTO {NAME} VALUES (1, 'x', 1), (2, 'b?', 1), (3, '?', 2)"),
    )
    .await;
    let setup = Setup {
        ledger: KEEP,
        more: FAST.to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let tables = format!("scratch.{NAME}");
    let (_, run) = verify(&proxy.admin, &["--tables", &tables, "--repair", "apply"]);
    let one = table(&run, NAME);
    assert_eq!(one["differences"], json!({"changed": 3}), "{run:#}");
    let rows = one["rows"].as_array().expect("rows").iter();
    let said: Vec<&str> = rows.filter_map(|row| row["repaired"].as_str()).collect();
    let cannot = "not repaired: v holds characters that cannot be told in UTF-8";
    // The third differs in `v` as well: a literal `?` is not what a server only says so.
    assert_eq!(said, [cannot, "done", cannot], "{run:#}");
    let there: Vec<(String, i32)> = vtgate
        .query(format!("SELECT v, w FROM {NAME} ORDER BY id"))
        .await
        .expect("rows");
    let expected = [("x", 1), ("a?", 1), ("?", 2)].map(|(v, w)| (v.to_owned(), w));
    assert_eq!(there, expected);
}

//! The checker itself, on real servers and without a cutover.

use super::tables::{held, id};
use super::{Checker, Load, Report, assert_none, begin_anew, copy, set_up};
use crate::lab::mirroring::connect;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use serde_json::json;
use std::time::Duration;

const LOAD: Load = Load {
    clients: 12,
    guests: 0,
    rate: 60,
    reconnects: true,
};

async fn run(address: &str, load: Load, seconds: u64) -> Report {
    let mut checker = Checker::start(address, load).await;
    if load.guests > 0 {
        checker.invite(address, &["pymysql", "go", "connector-j"]);
    }
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(checker.working(), 12);
    let report = checker.stop().await;
    report.print();
    report
}

fn print_findings(proxy: &Proxy) {
    let findings = proxy.get("/api/v1/findings?limit=20")["items"].clone();
    for finding in findings.as_array().expect("items") {
        let (count, kind) = (&finding["count"], &finding["kind"]);
        println!("{count} × {kind} {}", finding["fingerprint"]);
    }
}

/// So that what is wrong across a cutover is the cutover's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_server_alone_is_right() {
    let lab = Lab::get();
    let load = Load { guests: 6, ..LOAD };
    set_up(&lab, load).await;
    for address in [lab.legacy(), lab.shadow()] {
        begin_anew(&lab, load).await;
        let report = run(&address, load, 8).await;
        assert_none("clients saw errors", &report.errors());
        assert_none("clients had wrong answers", &report.wrong());
        assert_none(&address, &report.verify(&address).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_clients_were_told_is_on_both_sides_and_what_is_amiss_is_seen() {
    let lab = Lab::get();
    let load = Load { guests: 6, ..LOAD };
    set_up(&lab, load).await;
    let proxy = Proxy::start(&lab);
    let report = run(&proxy.address, load, 10).await;
    println!("{}", proxy.settled());
    print_findings(&proxy);
    assert_none("clients saw errors", &report.errors());
    assert_none("clients had wrong answers", &report.wrong());
    assert!(report.writes() > 100);
    for address in [lab.legacy(), lab.shadow()] {
        assert_none(&address, &report.verify(&address).await);
    }
    let between = report.differences(&lab.legacy(), &lab.shadow()).await;
    assert_none("they differ", &between);
    assert_eq!(proxy.get("/api/v1/taints")["items"], json!([]));
    // What a cutover could do to it: lost, doubled, half applied.
    let (client, n) = held(&lab.shadow(), load.all()).await.rows[0];
    let again = id(client, n);
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    for (damage, word) in [
        ("DELETE FROM checker_marks LIMIT 1".to_owned(), "lost"),
        (
            format!("INSERT INTO app.checker_rows (id, client, n) VALUES ({again}, {client}, {n})"),
            "doubled",
        ),
        (
            "UPDATE checker_accounts SET balance = balance + 1 WHERE id = 1".to_owned(),
            "half done",
        ),
    ] {
        shadow.query_drop(&damage).await.expect("the damage");
        let said = report.verify(&lab.shadow()).await;
        assert!(
            said.iter().any(|line| line.contains(word)),
            "{damage}: {said:?}"
        );
        let between = report.differences(&lab.legacy(), &lab.shadow()).await;
        assert!(!between.is_empty(), "{damage}");
    }
}

/// What a rollback leans on: vtgate answers, and its writes flow to the 5.6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_roles_the_other_way_round_nothing_is_lost_either() {
    let lab = Lab::get();
    let load = Load { guests: 6, ..LOAD };
    set_up(&lab, load).await;
    let setup = Setup {
        primary: Some(lab.shadow()),
        shadow: Some(lab.legacy()),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let report = run(&proxy.address, load, 10).await;
    println!("{}", proxy.settled());
    print_findings(&proxy);
    assert_none("clients saw errors", &report.errors());
    assert_none("clients had wrong answers", &report.wrong());
    for address in [lab.legacy(), lab.shadow()] {
        assert_none(&address, &report.verify(&address).await);
    }
    assert_eq!(proxy.get("/api/v1/taints")["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_every_acknowledged_write_is_on_the_primary_once() {
    let lab = Lab::get();
    set_up(&lab, LOAD).await;
    let mut proxy = Proxy::start(&lab);
    let checker = Checker::start(&proxy.address, LOAD).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.kill_and_start_again();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let report = checker.stop().await;
    report.print();
    proxy.settled();
    assert!(report.broken() >= 12, "{}", report.broken());
    assert_none("legacy", &report.verify(&lab.legacy()).await);
    assert_none("clients had wrong answers", &report.wrong());
    let taints = proxy.get("/api/v1/taints")["items"].clone();
    assert!(taints.to_string().contains("gap"), "{taints}");
    copy(&lab.legacy(), &lab.shadow(), LOAD.all()).await;
    let between = report.differences(&lab.legacy(), &lab.shadow()).await;
    assert_none("they differ after the repair", &between);
}

//! What a finding shows beside the difference: the session's state, the known cause, both plans,
//! error texts without literals, and a script that repeats it.

use super::mirroring::{connect, divergences, table};
use super::proxy::Setup;
use super::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use serde_json::Value;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn understudy(proxy: &Proxy, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(arguments)
        .args(["--admin", &proxy.admin])
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a script that was printed, as the lab's application; whatever it says, and its exit code.
fn run(proxy: &Proxy, script: &str, arguments: &[(&str, &str)]) -> (Option<i32>, String) {
    let file = proxy.file("repro.sh");
    std::fs::write(&file, script).expect("the script is written");
    let output = Command::new("bash")
        .arg(&file)
        .env("PRIMARY_PASSWORD", "app")
        .env("SHADOW_PASSWORD", "app")
        .env("SHADOW_USER", "app")
        .env("MYSQL_OPTIONS", "--skip-ssl")
        .envs(arguments.iter().copied())
        .output()
        .expect("bash runs");
    (output.status.code(), said(&output))
}

/// The one divergence of this kind, whole, once the ledger has it.
async fn the_one(proxy: &Proxy, kind: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let found: Vec<Value> = divergences(proxy)
            .into_iter()
            .filter(|item| item["kind"] == kind)
            .collect();
        if let [one] = found.as_slice() {
            return proxy.get(&format!("/api/v1/divergences/{}", one["id"]));
        }
        assert!(Instant::now() < end, "{kind}: {:?}", divergences(proxy));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A divergence once both servers' plans stand with it.
async fn with_plans(proxy: &Proxy, id: &Value) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let item = proxy.get(&format!("/api/v1/divergences/{id}"));
        if item["plans"].is_object() {
            return item;
        }
        assert!(Instant::now() < end, "no plans: {item}\n{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A table with one row on both sides, which the shadow has otherwise.
async fn with_another_name(lab: &Lab) -> (String, Conn) {
    let table = table(lab).await;
    for (address, name) in [(lab.legacy(), "anna"), (lab.shadow(), "berta")] {
        let mut direct = connect(&address, "scratch").await;
        let row = format!("INSERT INTO {table} (id, name) VALUES (7, '{name}')");
        direct.query_drop(row).await.unwrap();
        direct.disconnect().await.unwrap();
    }
    let shadow = connect(&lab.shadow(), "scratch").await;
    (table, shadow)
}

#[tokio::test]
async fn a_divergence_shows_state_cause_and_plans_and_can_be_repeated() {
    let lab = Lab::get();
    let (table, _) = with_another_name(&lab).await;
    let proxy = Proxy::start(&lab);
    let mut app = connect(&proxy.address, "scratch").await;
    for statement in [
        "SET sql_mode = 'NO_ENGINE_SUBSTITUTION'".to_owned(),
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
        "SET time_zone = '+03:00'".to_owned(),
        "SET NAMES utf8".to_owned(),
        "SET @mail = 'planted@example.com'".to_owned(),
        "BEGIN".to_owned(),
        "SELECT 1".to_owned(),
        format!("SELECT id, name FROM {table} WHERE id = 7"),
        "COMMIT".to_owned(),
    ] {
        app.query_drop(statement).await.unwrap();
    }
    app.disconnect().await.unwrap();
    proxy.settled();
    let item = the_one(&proxy, "value").await;
    let session = &item["session"];
    for (field, value) in [
        ("sql_mode", "NO_ENGINE_SUBSTITUTION"),
        ("isolation", "READ-COMMITTED"),
        ("time_zone", "+03:00"),
        ("charset", "utf8"),
        ("database", "scratch"),
        ("shadow_database", "scratch"),
    ] {
        assert_eq!(session[field], value, "{session}");
    }
    assert_eq!(session["in_transaction"], true, "{session}");
    assert_eq!(session["commands_before"], 2, "{session}");
    assert_eq!(session["wrote_before"], false, "{session}");
    assert!(session["autocommit"].is_null(), "{session}");
    assert!(!item.to_string().contains("planted"), "{item}");
    assert_eq!(item["cause"]["code"], "changed_value");
    let example = &item["examples"][0];
    assert_eq!(example["names"][0], "name", "{example}");
    assert_eq!(example["row"], 0);

    let item = with_plans(&proxy, &item["id"]).await;
    let plans = &item["plans"];
    assert_eq!(
        plans["primary"]["rows"][0]["table"],
        table.as_str(),
        "{plans}"
    );
    assert_eq!(plans["primary"]["rows"][0]["key"], "PRIMARY", "{plans}");
    assert_eq!(plans["shadow"]["plan"]["OperatorType"], "Route", "{plans}");
    assert_eq!(plans["class"], "Unsharded", "{plans}");
    let finding = proxy.get(&format!("/api/v1/findings/{}", item["finding_id"]));
    assert_eq!(finding["plan_class"], "Unsharded", "{finding}");
    assert_eq!(finding["cause"]["code"], "changed_value", "{finding}");
    assert_eq!(finding["examples"][0]["id"], item["id"], "{finding}");

    let id = item["id"].to_string();
    let shown = understudy(&proxy, &["divergences", &id]);
    for words in [
        "in a transaction, 2 commands before it",
        "changed_value",
        "plan of vitess: Unsharded",
    ] {
        assert!(said(&shown).contains(words), "{words}:\n{}", said(&shown));
    }
    let finding = item["finding_id"].to_string();
    let shown = understudy(&proxy, &["findings", &finding]);
    assert!(
        said(&shown).contains("count        1 of 1 commands"),
        "{}",
        said(&shown)
    );

    for arguments in [&["repro", &id][..], &["repro", "--finding", &finding]] {
        let script = said(&understudy(&proxy, arguments));
        let (code, _) = run(&proxy, &script, &[]);
        assert_eq!(code, Some(2), "a literal is missing");
        let literals = [("ARG1", "'a@b.c'"), ("ARG2", "7")];
        let (code, said) = run(&proxy, &script, &literals);
        assert_eq!(code, Some(1), "{said}\n{script}");
        for words in ["-7\tanna", "+7\tberta"] {
            assert!(said.contains(words), "{words}:\n{said}\n{script}");
        }
    }
}

#[tokio::test]
async fn with_literals_kept_a_prepared_write_is_repeated_as_it_is_and_leaves_nothing() {
    let lab = Lab::get();
    let (table, mut shadow) = with_another_name(&lab).await;
    let setup = Setup {
        ledger: "literals = \"keep\"",
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let mut app = connect(&proxy.address, "scratch").await;
    app.exec_drop(
        format!("UPDATE {table} SET name = ? WHERE name = ?"),
        ("it's \\ new", "anna"),
    )
    .await
    .unwrap();
    app.disconnect().await.unwrap();
    proxy.settled();
    let item = the_one(&proxy, "affected_rows").await;
    assert_eq!(item["protocol"], "prepared");
    assert_eq!(item["cause"]["code"], "skipped_write", "{item}");
    assert_eq!(item["parameters"][1], "'anna'", "{item}");
    let item = with_plans(&proxy, &item["id"]).await;
    assert!(
        item["plans"]["shadow"]["plan"].is_object(),
        "{}",
        item["plans"]
    );

    // As it was before the write, so that the two differ again.
    let mut legacy = connect(&lab.legacy(), "scratch").await;
    let back = format!("UPDATE {table} SET name = 'anna'");
    legacy.query_drop(back).await.unwrap();
    let script = said(&understudy(&proxy, &["repro", &item["id"].to_string()]));
    let (code, said) = run(&proxy, &script, &[]);
    assert_eq!(code, Some(1), "{said}\n{script}");
    assert!(
        said.contains("-1") && said.contains("+0"),
        "{said}\n{script}"
    );
    let names = format!("SELECT name FROM {table}");
    let ours: Vec<String> = legacy.query(names.as_str()).await.unwrap();
    let theirs: Vec<String> = shadow.query(names.as_str()).await.unwrap();
    assert_eq!((ours, theirs), (vec!["anna".into()], vec!["berta".into()]));
}

#[tokio::test]
async fn no_literal_is_left_of_vtgates_errors_and_their_words_stay() {
    const SECRET: &str = "zqplanted";
    let lab = Lab::get();
    let (long, duplicate, column) = (table(&lab).await, table(&lab).await, table(&lab).await);
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let row = format!("INSERT INTO {duplicate} (id) VALUES (9)");
    shadow.query_drop(row).await.unwrap();
    let mut legacy = connect(&lab.legacy(), "scratch").await;
    let extra = format!("ALTER TABLE {column} ADD COLUMN extra INT");
    legacy.query_drop(extra).await.unwrap();
    let proxy = Proxy::start(&lab);
    let mut app = connect(&proxy.address, "scratch").await;
    for (statement, code, cause, words) in [
        (
            format!("INSERT INTO {duplicate} (id, name) VALUES (9, '{SECRET}')"),
            1062,
            "unique_extra",
            "Duplicate entry '?' for key",
        ),
        (
            format!(
                "INSERT INTO {long} (id, name) VALUES (1, '{}')",
                SECRET.repeat(9)
            ),
            1406,
            "strict_mode",
            "Data too long for column 'name'",
        ),
        (
            format!("SELECT extra FROM {column} WHERE name = '{SECRET}'"),
            1054,
            "column_missing",
            "extra",
        ),
        (
            format!("SET @a := '{SECRET}'"),
            1105,
            "syntax",
            "syntax error at position ?",
        ),
    ] {
        app.query_drop(statement.as_str()).await.unwrap();
        proxy.settled();
        let end = Instant::now() + Duration::from_secs(60);
        let item = loop {
            let found = divergences(&proxy).into_iter().next();
            if let Some(item) = found.filter(|item| item["shadow"]["error"]["code"] == code) {
                break item;
            }
            assert!(
                Instant::now() < end,
                "{statement}: {:?}",
                divergences(&proxy)
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert!(!item.to_string().contains(SECRET), "{item}");
        assert_eq!(item["cause"]["code"], cause, "{item}");
        let text = item["shadow"]["error"]["message"]
            .as_str()
            .unwrap_or_default();
        assert!(text.contains(words), "{words}: {text}");
        for tail in ["CallerID", "BindVars", "Sql:"] {
            assert!(!text.contains(tail), "{text}");
        }
    }
    let log = std::fs::read_to_string(proxy.file("divergences.jsonl")).unwrap_or_default();
    assert!(!log.is_empty() && !log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn rows_of_one_side_alone_and_another_order_are_shown_where_they_part() {
    let lab = Lab::get();
    let table = table(&lab).await;
    for (address, rows) in [
        (lab.legacy(), "(1, 'a'), (2, 'B'), (3, 'c')"),
        (lab.shadow(), "(1, 'a'), (2, 'B'), (4, 'd'), (5, 'e')"),
    ] {
        let mut direct = connect(&address, "scratch").await;
        let insert = format!("INSERT INTO {table} (id, name) VALUES {rows}");
        direct.query_drop(insert).await.unwrap();
    }
    let proxy = Proxy::start(&lab);
    let mut app = connect(&proxy.address, "scratch").await;
    let all = format!("SELECT id, name FROM {table}");
    let _: Vec<Row> = app.query(all).await.unwrap();
    app.disconnect().await.unwrap();
    proxy.settled();
    let item = the_one(&proxy, "rows").await;
    let examples = item["examples"].as_array().unwrap().clone();
    assert!(examples.len() >= 2, "{item}");
    for example in &examples {
        let empty = |side: &str| example[side].as_array().unwrap().is_empty();
        assert!(!(empty("primary") && empty("shadow")), "{item}");
        assert_eq!(example["columns"].as_array().unwrap().len(), 2, "{item}");
    }
    assert_eq!(item["cause"]["code"], "extra_row", "{item}");
}

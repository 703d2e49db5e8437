//! Percona's pt-upgrade and understudy on the same statements: whatever pt-upgrade finds, understudy
//! found too, or says why it is none.
//!
//! Run by `tests/bin/pt-upgrade`, which installs the tool.

use super::faults::{Fault, Said};
use super::healthy::Healthy;
use super::{faults, healthy, run};
use crate::lab::mirroring::connect;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What pt-upgrade times is its own affair, and understudy tolerates warnings by name.
const NOT_ANSWERS: [&str; 2] = ["Query time diffs", "Warning diffs"];

/// What understudy tolerates in rows; another tolerance explains no difference of rows.
const IN_ROWS: [&str; 7] = [
    "unordered",
    "ties",
    "float_text",
    "decimal_scale",
    "temporal_fraction",
    "padding",
    "clock",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pt_upgrade_finds_understudy_found_or_explains() {
    let lab = Lab::get();
    let (mut faults, healthy) = (faults::read(), healthy::read());
    faults.retain(|fault| !fault.is_of_config());
    healthy::set_up(&lab, &healthy, 1).await;
    run::plant(&lab, &faults).await;
    let mut missed = Vec::new();
    for sharded in [false, true] {
        let database = run::keyspace(sharded);
        let statements = reads(&faults, &healthy, sharded);
        let said = verdicts(&lab, database, &statements).await;
        let differing = pt_upgrade(&lab, database, &statements).await;
        assert!(!differing.is_empty(), "pt-upgrade found nothing at all");
        missed.extend(compare(database, &said, &differing));
    }
    assert!(missed.is_empty(), "missed:\n{}", missed.join("\n"));
}

/// The SELECTs of one keyspace, as text.
fn reads(faults: &[Fault], healthy: &Healthy, sharded: bool) -> Vec<String> {
    let mine = faults.iter().filter(|fault| fault.sharded == sharded);
    let mut said: Vec<Said> = mine.flat_map(|fault| fault.said.clone()).collect();
    if !sharded {
        said.extend(healthy.of(0));
    }
    let mut statements: Vec<String> = said.iter().filter_map(as_text).collect();
    statements.retain(|text| {
        let one = text.starts_with("select") && !text.contains(';');
        // Words that mean another thing in another session, or at another time.
        one && !["@", "for update", "now()"]
            .iter()
            .any(|word| text.contains(word))
    });
    statements.sort();
    statements.dedup();
    statements
}

fn as_text(said: &Said) -> Option<String> {
    match said {
        Said::Text(text) => Some(text.clone()),
        Said::Prepared(text, parameters) => {
            let mut parameters = parameters.iter();
            let mut pieces = text.split('?');
            let first = pieces.next()?.to_owned();
            Some(pieces.fold(first, |whole, piece| {
                let parameter = parameters.next().expect("a parameter for each ?");
                whole + &literal(parameter) + piece
            }))
        }
        Said::Later(_) => None,
    }
}

fn literal(parameter: &str) -> String {
    if parameter.parse::<i64>().is_ok() || parameter == "null" {
        parameter.to_owned()
    } else {
        format!("'{parameter}'")
    }
}

/// What understudy says of each, by what its coverage gains.
async fn verdicts(lab: &Lab, database: &str, statements: &[String]) -> BTreeMap<String, String> {
    let proxy = Proxy::start(lab);
    let mut app = connect(&proxy.address, database).await;
    let mut before = proxy.settled();
    let mut said = BTreeMap::new();
    for statement in statements {
        let _either = app.query_drop(statement).await;
        let after = proxy.settled();
        said.insert(statement.clone(), gained(&before, &after));
        before = after;
    }
    said
}

fn gained(before: &Value, after: &Value) -> String {
    let grew = |name: &&str| before[*name] != after[*name];
    let verdict = ["matched", "diverged"].into_iter().find(grew);
    let names = |of: &str| {
        let counts = after[of].as_object().expect("counts by name");
        let grown = counts.iter().filter(|(name, n)| before[of][*name] != **n);
        let names: Vec<&str> = grown.map(|(name, _)| name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(" "))
    };
    verdict
        .map(str::to_owned)
        .or_else(|| names("not_compared").map(|reason| format!("not compared: {reason}")))
        .or_else(|| names("by_tolerance").map(|names| format!("tolerated: {names}")))
        .unwrap_or_else(|| "nothing".to_owned())
}

/// The statements that pt-upgrade reports, and what differs in them.
async fn pt_upgrade(
    lab: &Lab,
    database: &str,
    statements: &[String],
) -> BTreeMap<String, BTreeSet<String>> {
    let mut doors = run::Doors::open(lab, false).await;
    // It clears warnings by a table, which it cannot make behind vtgate by itself.
    let made = "create table if not exists pt_upgrade (id int)";
    run::persist(&mut doors.legacy, made).await;
    run::persist(&mut doors.vtgate, made).await;
    run::persist(&mut doors.vtgate, "select * from pt_upgrade").await;
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("statements");
    std::fs::write(&log, statements.join("\n") + "\n").expect("written");
    let dsn = |host: &str, port: u16| format!("h={host},P={port},u=app,p=app,D={database}");
    let output = Command::new("pt-upgrade")
        .args(["--no-version-check", "--no-disable-query-cache"])
        .args([
            "--no-create-upgrade-table",
            "--upgrade-table=scratch.pt_upgrade",
        ])
        .args(["--type=rawlog", "--max-examples=1000", "--charset=utf8mb4"])
        .arg(&log)
        .arg(dsn(lab.value("LEGACY_HOST"), lab.port("LEGACY_PORT")))
        .arg(dsn(lab.value("SHADOW_HOST"), lab.port("SHADOW_PORT")))
        .output()
        .expect("pt-upgrade runs: lab/install percona-toolkit");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(report.contains("# Stats"), "{report}\n{errors}");
    let read = report
        .lines()
        .find_map(|line| line.strip_prefix("queries_read"))
        .and_then(|count| count.trim().parse().ok());
    assert_eq!(read, Some(statements.len()), "{report}");
    reported(&report, statements)
}

/// Its report has a paragraph for each difference, which ends with the statement.
fn reported(report: &str, statements: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let known: BTreeSet<&str> = statements.iter().map(String::as_str).collect();
    let mut differing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut what = String::new();
    for line in report.lines() {
        if line.starts_with("# Query class") {
            what.clear();
        } else if let Some(heading) = line.strip_prefix("## ") {
            what = heading.split(':').next().unwrap_or_default().to_owned();
        } else if !what.is_empty() && !NOT_ANSWERS.contains(&what.as_str()) && known.contains(line)
        {
            let found = differing.entry(line.to_owned()).or_default();
            found.insert(what.clone());
        }
    }
    differing
}

/// Prints both, and hands back what understudy missed.
fn compare(
    database: &str,
    said: &BTreeMap<String, String>,
    differing: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let (mut both, mut alone) = (0, 0);
    let mut missed = Vec::new();
    println!("--- {database}: {} statements", said.len());
    for (statement, verdict) in said {
        let theirs = differing.get(statement);
        let words: Vec<&str> = theirs.into_iter().flatten().map(String::as_str).collect();
        let theirs = words.join(", ");
        match (theirs.is_empty(), verdict.as_str()) {
            (true, "diverged") => {
                alone += 1;
                println!("understudy alone: {statement}");
            }
            (true, _) => {}
            (false, "diverged") => both += 1,
            // Both servers refuse it.
            (false, "matched") if theirs == "SQL errors" => {}
            (false, verdict) if explains(verdict) => {
                println!("pt-upgrade says {theirs}, understudy {verdict}: {statement}");
            }
            (false, verdict) => missed.push(format!("{theirs} ({verdict}): {statement}")),
        }
    }
    println!(
        "--- {database}: {both} found by both, {alone} by understudy alone, {} missed",
        missed.len()
    );
    missed
}

fn explains(verdict: &str) -> bool {
    let tolerated = verdict.strip_prefix("tolerated: ").unwrap_or_default();
    verdict.starts_with("not compared: ")
        || tolerated.split(' ').any(|name| IN_ROWS.contains(&name))
}

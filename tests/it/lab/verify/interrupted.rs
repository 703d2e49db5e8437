//! A run of `understudy verify --config` that somebody ends in its midst: it says so, calls nothing equal, is recorded as
//! aborted, and leaves no connection, no lock and nothing to go on with.

use super::live::{ROWS, filled};
use super::verify;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy, client, signal};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Slow enough to be met in its midst: the whole table takes six seconds.
const SLOWLY: &str = "[verify]\nrange_rows = 50\nrows_per_second = 1000";

fn alone(config: &Path, table: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["verify", "--format", "json", "--config"])
        .arg(config)
        .args(["--tables", table])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs")
}

async fn eye(lab: &Lab) -> Conn {
    let account = OptsBuilder::from_opts(client(&lab.legacy(), "app"))
        .user(Some(lab.value("LEGACY_PROXY_USER")))
        .pass(Some(lab.value("LEGACY_PROXY_PASSWORD")));
    Conn::new(account).await.expect("the login")
}

/// Waits until the proxy's account has so many connections to the primary, or none.
async fn until_readers(eye: &mut Conn, are_there: bool) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let readers: Option<u32> = eye
            .query_first(
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'understudy' AND ID <> CONNECTION_ID()",
            )
            .await
            .expect("the list");
        if readers.is_some_and(|readers| (readers > 0) == are_there) {
            return;
        }
        assert!(Instant::now() < end, "{readers:?} read, {are_there}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Begins one, lets it read a little, and ends it.
async fn ended_by(name: &str, eye: &mut Conn, config: &Path, table: &str) -> Output {
    let child = alone(config, table);
    until_readers(eye, true).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    signal(child.id().cast_signed(), name);
    let output = child.wait_with_output().expect("its end");
    until_readers(eye, false).await;
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_ended_says_so_and_leaves_nothing_behind() {
    let lab = Lab::get();
    let name = filled(&lab).await;
    let setup = Setup {
        more: SLOWLY.to_owned(),
        ..Setup::default()
    };
    // For its files.
    let mut proxy = Proxy::start_with(&lab, &setup);
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(Duration::from_secs(30)), Some(0));
    let (config, table) = (proxy.file("understudy.toml"), format!("scratch.{name}"));
    let mut eye = eye(&lab).await;
    for (sent, by) in [("INT", "Ctrl-C"), ("TERM", "SIGTERM")] {
        let output = ended_by(sent, &mut eye, &config, &table).await;
        assert_eq!(output.status.code(), Some(2), "{sent}: {output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(told["run"]["outcome"], "aborted", "{sent}: {told:#}");
        let why = told["run"]["why"].as_str().unwrap_or_default();
        assert!(why.contains(by), "{why}");
        let one = super::table(&told, &name);
        let read = one["rows_primary"].as_u64().unwrap_or(0);
        assert!(read > 0 && read < u64::from(ROWS), "{one:#}");
        assert_ne!(one["outcome"], "equal", "{one:#}");
    }
    let output = ended_by("KILL", &mut eye, &config, &table).await;
    assert_eq!(output.status.code(), None, "{output:?}");
    // The ledger is free, nobody goes on with them, and each is recorded.
    proxy.start_again();
    let told = proxy.get("/api/v1/verify");
    assert_eq!(told["state"], "idle", "{told:#}");
    let history = told["history"].as_array().expect("runs").iter();
    let ends: Vec<&Value> = history.map(|run| &run["outcome"]).collect();
    assert_eq!(ends, vec!["aborted"; 3], "{told:#}");
    let (code, told) = tokio::task::block_in_place(|| verify(&proxy.admin, &["--tables", &table]));
    assert_eq!(
        (code, &told["run"]["outcome"]),
        (0, &json!("equal")),
        "{told:#}"
    );
}

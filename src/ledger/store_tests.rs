//! The ledger as a file: kept, asked, pruned, killed, locked, full.

use super::tests::{diverged, observation};
use super::*;
use crate::compare::verdict::{Reason, Verdict};
use crate::sql::Class;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

pub(super) fn config(dir: &Path) -> config::Ledger {
    config::Ledger {
        path: dir.join("ledger.db"),
        log: Some(dir.join("divergences.jsonl")),
        log_bytes: (1 << 20).into(),
        log_files: 2.into(),
        literals: Literals::Redact,
        divergences_max: 1000.into(),
        findings_max: 100.into(),
        max_age: Duration::from_secs(3600).into(),
        queue: 1000,
        fingerprints_max: 100,
    }
}

pub(super) fn open(config: &config::Ledger) -> Ledger {
    judging(config, Judged::default())
}

pub(super) fn judging(config: &config::Ledger, judged: Judged) -> Ledger {
    Ledger::open(config, FedBy::Mirror, judged, Arc::new(Commands::default)).unwrap()
}

pub(super) fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn all(limit: u32) -> DivergenceFilter {
    DivergenceFilter {
        limit,
        ..DivergenceFilter::default()
    }
}

pub(super) fn count(ledger: &Ledger) -> usize {
    ledger.divergences(&all(500)).unwrap().items.len()
}

fn table(name: &str) -> Table {
    Table {
        database: Some("app".into()),
        name: name.into(),
    }
}

#[test]
fn divergences_come_newest_first_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&config(dir.path()));
    for _ in 0..5 {
        ledger.record(diverged("SELECT ?"));
    }
    until("five are kept", || count(&ledger) == 5);
    let first = ledger.divergences(&all(3)).unwrap();
    assert_eq!(first.items[0]["id"], 5);
    let second = ledger
        .divergences(&DivergenceFilter {
            before: first.next,
            ..all(3)
        })
        .unwrap();
    assert_eq!(second.items.len(), 2);
    assert_eq!(second.items[0]["id"], 2);
    assert_eq!(second.next, None);
    assert_eq!(ledger.divergence(4).unwrap().unwrap()["id"], 4);
    assert_eq!(ledger.divergence(99).unwrap(), None);
}

#[test]
fn filters_choose_by_kind_table_fingerprint_and_state() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&config(dir.path()));
    ledger.record(diverged("a"));
    ledger.record(diverged("b"));
    until("two are kept", || count(&ledger) == 2);
    let found = |filter: DivergenceFilter| ledger.divergences(&filter).unwrap().items.len();
    let digest = format!("{:016x}", diverged("b").digest);
    for (filter, expected) in [
        (
            DivergenceFilter {
                kind: Some("value".into()),
                ..all(9)
            },
            2,
        ),
        (
            DivergenceFilter {
                kind: Some("rows".into()),
                ..all(9)
            },
            0,
        ),
        (
            DivergenceFilter {
                table: Some("t".into()),
                ..all(9)
            },
            2,
        ),
        (
            DivergenceFilter {
                table: Some("app.t".into()),
                ..all(9)
            },
            2,
        ),
        (
            DivergenceFilter {
                table: Some("other".into()),
                ..all(9)
            },
            0,
        ),
        (
            DivergenceFilter {
                fingerprint: Some("a".into()),
                ..all(9)
            },
            1,
        ),
        (
            DivergenceFilter {
                fingerprint: Some(digest),
                ..all(9)
            },
            1,
        ),
        (
            DivergenceFilter {
                state: Some("open".into()),
                ..all(9)
            },
            2,
        ),
        (
            DivergenceFilter {
                state: Some("noise".into()),
                ..all(9)
            },
            0,
        ),
    ] {
        assert_eq!(found(filter.clone()), expected, "{filter:?}");
    }
}

#[test]
fn a_finding_counts_each_divergence_once_and_regresses_once_fixed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&config(dir.path()));
    for _ in 0..3 {
        ledger.record(diverged("a"));
        ledger.record(observation("a", Verdict::Match));
    }
    ledger.record(diverged("b"));
    until("four are kept", || count(&ledger) == 4);
    let filter = FindingFilter {
        limit: 10,
        ..FindingFilter::default()
    };
    until("traffic is known", || {
        ledger.findings(&filter).unwrap().items[0]["commands"] == 6
    });
    let page = ledger.findings(&filter).unwrap();
    assert_eq!(page.items.len(), 2);
    assert_eq!(page.items[0]["count"], 3);
    assert!(page.items[0]["impact"].as_f64() > page.items[1]["impact"].as_f64());
    let id = page.items[0]["id"].as_i64().unwrap();
    let patch = FindingPatch {
        state: Some("fixed".into()),
        who: Some("dba".into()),
        ..FindingPatch::default()
    };
    let fixed = ledger.patch_finding(id, patch.clone()).unwrap();
    let fixed = fixed.done().unwrap();
    assert_eq!(fixed["state"], "fixed");
    let none = ledger.patch_finding(999, patch).unwrap();
    assert_eq!(none, Changed::Missing);
    ledger.record(diverged("a"));
    until("it regresses", || {
        ledger.findings(&filter).unwrap().items[0]["state"] == "regressed"
    });
}

#[test]
fn what_was_accepted_until_a_time_is_open_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&config(dir.path()));
    ledger.record(diverged("a"));
    until("it is kept", || count(&ledger) == 1);
    for (until, state) in [
        ("2020-01-31T00:00:00Z", "open"),
        ("2920-01-31T00:00:00.5Z", "accepted"),
    ] {
        let patch = FindingPatch {
            state: Some("accepted".into()),
            until: Some(until.into()),
            ..FindingPatch::default()
        };
        let finding = ledger.patch_finding(1, patch).unwrap().done().unwrap();
        assert_eq!(finding["state"], state, "{until}");
        let filter = FindingFilter {
            state: Some(state.into()),
            limit: 1,
            ..FindingFilter::default()
        };
        assert_eq!(ledger.findings(&filter).unwrap().items.len(), 1, "{until}");
    }
}

fn covered(ledger: &Ledger, by: CoverageBy, compared: Option<bool>) -> Vec<Value> {
    let filter = CoverageFilter {
        by,
        compared,
        limit: 50,
        before: None,
    };
    ledger.covered(&filter).unwrap().items
}

fn raced(shape: &str) -> Observation {
    observation(shape, Verdict::NotCompared(Reason::Race))
}

#[test]
fn tallies_outlive_the_process_and_say_what_was_never_compared() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    let now = jiff::Timestamp::from_microsecond(jiff::Timestamp::now().as_microsecond()).unwrap();
    let first = now - jiff::SignedDuration::from_hours(5);
    for at in 0..3 {
        let mut one = observation("a", Verdict::Match);
        one.at = first + jiff::SignedDuration::from_hours(at);
        ledger.record(one);
    }
    for _ in 0..25 {
        let mut one = raced("never");
        one.tables = [table("lonely")].into();
        ledger.record(one);
    }
    ledger.close();
    let again = open(&config);
    again.record(diverged("a"));
    again.record(raced("a"));
    let shapes = covered(&again, CoverageBy::Fingerprint, None);
    assert_eq!(shapes[0]["fingerprint"], "never");
    assert_eq!(shapes[0]["last_compared"], Value::Null);
    let a = &shapes[1];
    assert_eq!(
        (&a["class"], &a["protocol"]),
        (&json!("read"), &json!("text"))
    );
    assert_eq!((&a["commands"], &a["compared"]), (&json!(5), &json!(4)));
    assert_eq!((&a["matched"], &a["diverged"]), (&json!(3), &json!(1)));
    assert_eq!(a["not_compared"], json!({"race": 1}));
    assert_eq!(a["first_seen"], json!(first));
    let never = covered(&again, CoverageBy::Table, Some(false));
    assert_eq!(never.len(), 1, "{never:?}");
    assert_eq!(never[0]["table"], "app.lonely");
    let hours = covered(&again, CoverageBy::Hour, Some(true));
    assert_eq!(hours.len(), 4, "{hours:?}");
    let day = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    let evidence = again.evidence(day, 20).unwrap();
    assert_eq!(evidence.first_compared, Some(first));
    assert_eq!((evidence.hours, evidence.seconds), (4, 4));
    assert_eq!((evidence.ever.commands, evidence.ever.compared()), (30, 4));
    assert_eq!(evidence.window.not_compared["race"], 26);
    assert_eq!(
        (evidence.fingerprints.all, evidence.fingerprints.never),
        (2, 1)
    );
    assert_eq!(evidence.tables.names, ["app.lonely"]);
    assert_eq!(evidence.unsettled.names, ["never"]);
    assert_eq!(again.evidence(day, 26).unwrap().unsettled.never, 0);
    let hour = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    assert!(again.evidence(hour, 20).unwrap().window.commands < 30);
}

#[test]
fn what_was_lost_is_known_after_a_restart_and_counts_in_its_hour_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let losing = |lost| {
        let commands = Arc::new(move || Commands {
            handed: 0,
            lost,
            passed: 0,
        });
        Ledger::open(&config, FedBy::Mirror, Judged::default(), commands).unwrap()
    };
    let evidence = |ledger: &Ledger, hours| {
        let since = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
        ledger.evidence(since, 20).unwrap()
    };
    let first = losing(7);
    assert_eq!(evidence(&first, 24).window.not_compared["dropped"], 7);
    assert_eq!(
        evidence(&first, 24).ever.commands,
        7,
        "once, however often one asks"
    );
    first.close();
    let second = losing(2);
    assert_eq!(evidence(&second, 24).ever.not_compared["dropped"], 9);
    second.close();
    let file = rusqlite::Connection::open(&config.path).unwrap();
    file.execute_batch("UPDATE traffic_hours SET hour = hour - 48, lost = 5")
        .unwrap();
    let third = losing(0);
    let now = evidence(&third, 24);
    assert_eq!(
        (now.window.commands, now.ever.commands, now.lost),
        (0, 9, 0)
    );
    assert_eq!(evidence(&third, 96).lost, 5);
}

#[test]
fn tallies_of_a_file_that_was_locked_count_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    let blocker = locked(&config.path);
    ledger.record(observation("a", Verdict::Match));
    until("the writer notices", || !ledger.health().ok);
    ledger.record(observation("a", Verdict::Match));
    drop(blocker);
    until("it counts again", || {
        covered(&ledger, CoverageBy::Fingerprint, None)
            .first()
            .is_some_and(|row| row["commands"] == 2)
    });
}

fn look(slow: Option<Slow>) -> Look {
    let times = |p99| Quantiles {
        p99,
        ..Quantiles::default()
    };
    Look {
        at: jiff::Timestamp::now(),
        pace: Pace {
            fingerprint: Some("SELECT ?".into()),
            shape: Some((7, Protocol::Prepared)),
            class: Class::Read,
            tables: vec!["app.t".into()],
            samples: 500,
            primary: times(1_000),
            shadow: times(9_000),
        },
        servers: ["legacy", "vitess"].map(str::to_owned),
        slow,
    }
}

#[test]
fn a_statement_that_is_too_slow_is_one_finding_until_it_is_fast_enough() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&config(dir.path()));
    let slow = |more| {
        Some(Slow {
            more,
            detail: "p99 1.00 ms → 9.00 ms".into(),
        })
    };
    let finding = || {
        let filter = FindingFilter {
            limit: 9,
            ..FindingFilter::default()
        };
        ledger.findings(&filter).unwrap().items
    };
    let becomes = |state: &str, count: u64| {
        until(state, || {
            let found = finding();
            found.len() == 1 && found[0]["state"] == state && found[0]["count"] == count
        });
    };
    assert!(ledger.looked(look(slow(5))));
    becomes("open", 5);
    assert!(ledger.looked(look(slow(2))));
    becomes("open", 7);
    assert_eq!(count(&ledger), 1, "one item, of the last look");
    let item = ledger.newest(1).unwrap().unwrap();
    assert_eq!(item["kind"], "latency");
    assert_eq!(item["shadow"]["quantiles"]["p99"], 9_000);
    assert_eq!(
        (&item["primary"]["server"], &item["protocol"]),
        (&json!("legacy"), &json!("prepared"))
    );
    assert!(ledger.looked(look(None)));
    becomes("fixed", 7);
    assert_eq!(ledger.open_findings().unwrap(), OpenFindings::default());
    assert!(ledger.looked(look(slow(1))));
    becomes("regressed", 8);
    let open = ledger.open_findings().unwrap();
    assert_eq!(open.by_kind["latency"].fingerprints, ["SELECT ?"]);
    assert_eq!(ledger.coverage().diverged, 0);
}

#[test]
fn the_oldest_divergences_go_when_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let config = config::Ledger {
        divergences_max: 10.into(),
        ..config(dir.path())
    };
    let ledger = open(&config);
    for _ in 0..50 {
        ledger.record(diverged("a"));
    }
    until("all are written", || {
        ledger.divergence(50).unwrap().is_some() && ledger.health().queued == 0
    });
    ledger.record(diverged("a"));
    until("the newest is kept and the surplus is gone", || {
        ledger.divergence(51).unwrap().is_some() && count(&ledger) == 10
    });
}

#[test]
fn a_clean_stop_keeps_findings_and_taints_and_leaves_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    let mut write = observation("UPDATE t", Verdict::Match);
    write.class = Class::Write;
    write.written = write.tables.clone();
    ledger.record(write);
    ledger.record(diverged("a"));
    ledger.taint(&[table("spoiled")], &"dropped".into());
    ledger.close();
    let again = open(&config);
    assert_eq!(count(&again), 1);
    assert!(again.is_tainted(&table("spoiled")));
    assert!(!again.is_tainted(&table("t")), "no gap");
    let cleared = again.clear_taints(&["app.spoiled".into()], "dba", "copied anew");
    assert_eq!(cleared.len(), 1);
    again.close();
    assert!(!open(&config).is_tainted(&table("spoiled")));
}

/// Finding: whoever copied the file alone after a clean stop had an empty ledger, and one that forgot a cutover.
#[test]
fn after_a_clean_stop_the_file_alone_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config_here = config(dir.path());
    let ledger = open(&config_here);
    ledger.record(diverged("a"));
    ledger.taint(&[table("spoiled")], &"dropped".into());
    // A reader that asks for nothing is in nobody's way.
    let reader = super::file::open_reader(&config_here.path).unwrap();
    let all: i64 = reader
        .query_row("SELECT count(*) FROM meta", (), |row| row.get(0))
        .unwrap();
    assert!(all > 0);
    ledger.close();
    let elsewhere = tempfile::tempdir().unwrap();
    let config_there = config(elsewhere.path());
    std::fs::copy(&config_here.path, &config_there.path).unwrap();
    let copy = open(&config_there);
    assert_eq!(count(&copy), 1);
    assert!(copy.is_tainted(&table("spoiled")));
}

const CHILD: &str = "UNDERSTUDY_LEDGER_CHILD";

/// Run by the test below in a process of its own, which it kills in mid-write.
#[test]
fn child_that_records_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let ledger = open(&config(Path::new(&dir)));
    let mut write = observation("UPDATE t", Verdict::Match);
    write.class = Class::Write;
    write.written = write.tables.clone();
    ledger.record(write);
    loop {
        ledger.record(diverged("a"));
        std::thread::sleep(Duration::from_micros(300));
    }
}

#[test]
fn after_kill_9_the_file_is_whole_and_every_mirrored_table_is_tainted() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "ledger::store_tests::child_that_records_until_it_is_killed",
        ])
        .env(CHILD, dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the child has written", || {
        let reader = rusqlite::Connection::open(&config.path);
        let rows = reader.and_then(|reader| {
            reader.query_row("SELECT count(*) FROM divergences", (), |row| row.get(0))
        });
        rows.unwrap_or(0) > 100
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let ledger = open(&config);
    let taints = ledger.taints();
    assert!(ledger.is_tainted(&table("t")), "{taints:?}");
    assert!(taints[0].cause.text.starts_with("gap"), "{taints:?}");
    let check = rusqlite::Connection::open(&config.path).unwrap();
    let verdict: String = check
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    assert!(count(&ledger) > 100);
}

#[test]
fn a_locked_file_loses_findings_that_are_counted_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let config = config::Ledger {
        queue: 5,
        ..config(dir.path())
    };
    let ledger = open(&config);
    let blocker = rusqlite::Connection::open(&config.path).unwrap();
    blocker.execute_batch("BEGIN EXCLUSIVE").unwrap();
    until("the writer notices", || {
        ledger.record(diverged("a"));
        !ledger.health().ok && ledger.health().lost > 0
    });
    ledger.taint(&[table("spoiled")], &"dropped".into());
    assert!(ledger.coverage().diverged > 0);
    blocker.execute_batch("ROLLBACK").unwrap();
    until("it recovers", || {
        ledger.record(diverged("b"));
        std::thread::sleep(Duration::from_millis(50));
        ledger.health().ok
    });
    assert_eq!(ledger.health().last_error, None);
}

#[test]
fn a_full_file_is_told_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&config(dir.path()));
    let store = ledger.inner.store.as_ref().unwrap();
    store.tell(Message::Limit(40));
    until("the file is full", || {
        for _ in 0..50 {
            ledger.record(diverged("a statement that fills the file"));
        }
        ledger.health().lost > 0
    });
    let fault = ledger.health().last_error.unwrap();
    assert!(fault.contains("full"), "{fault}");
}

#[test]
fn no_planted_literal_reaches_the_file_its_journal_or_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&config(dir.path()));
    for _ in 0..20 {
        ledger.record(diverged("SELECT * FROM t WHERE name = ?"));
    }
    let lines = || {
        let log = std::fs::read_to_string(dir.path().join("divergences.jsonl"));
        log.unwrap_or_default().lines().count()
    };
    // The log is written behind the file.
    until("all are kept", || count(&ledger) == 20 && lines() == 20);
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap().flatten() {
        let content = std::fs::read(entry.path()).unwrap();
        bytes += content.len();
        let planted = content.windows(7).any(|window| window == b"planted");
        assert!(!planted, "{:?}", entry.path());
    }
    assert!(bytes > 5000);
    let log = std::fs::read_to_string(dir.path().join("divergences.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 20);
    let line: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&line["id"], &line["finding_id"]),
        (&Value::from(1), &Value::from(1))
    );
}

#[test]
fn a_file_that_is_no_ledger_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    std::fs::write(&config.path, vec![b'x'; 5000]).unwrap();
    let fault = Ledger::open(
        &config,
        FedBy::Mirror,
        Judged::default(),
        Arc::new(Commands::default),
    )
    .unwrap_err();
    let text = fault.to_string();
    assert!(
        text.contains("ledger.db") && text.contains("ledger.path"),
        "{text}"
    );
    std::fs::remove_file(&config.path).unwrap();
    let newer = rusqlite::Connection::open(&config.path).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    let fault = Ledger::open(
        &config,
        FedBy::Mirror,
        Judged::default(),
        Arc::new(Commands::default),
    )
    .unwrap_err();
    assert!(
        matches!(fault, LedgerError::Newer { version: 99, .. }),
        "{fault}"
    );
}

/// Blocks writers as another process would.
fn locked(path: &Path) -> rusqlite::Connection {
    let blocker = rusqlite::Connection::open(path).unwrap();
    blocker.execute_batch("BEGIN EXCLUSIVE").unwrap();
    blocker
}

fn wrote(name: &str) -> Observation {
    let mut write = observation("UPDATE t", Verdict::Match);
    write.class = Class::Write;
    write.tables = [table(name)].into();
    write.written = write.tables.clone();
    write
}

#[test]
fn a_taint_that_finds_the_queue_full_is_written_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let config = config::Ledger {
        queue: 5,
        ..config(dir.path())
    };
    let ledger = open(&config);
    let blocker = locked(&config.path);
    until("the queue is full", || {
        ledger.record(diverged("a"));
        ledger.health().lost > 0
    });
    ledger.taint(&[table("spoiled")], &"dropped".into());
    ledger.record(wrote("written"));
    blocker.execute_batch("ROLLBACK").unwrap();
    until("it recovers", || ledger.health().ok);
    ledger.close();
    let again = open(&config);
    assert!(again.is_tainted(&table("spoiled")));
    assert!(!again.is_tainted(&table("written")), "the stop was clean");
    drop(again);
    let killed = open_when_free(&config, FedBy::Mirror);
    assert!(killed.is_tainted(&table("written")), "it was mirrored");
}

/// A ledger that was dropped gives its lock back a moment later.
fn open_when_free(config: &config::Ledger, fed_by: FedBy) -> Ledger {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match Ledger::open(
            config,
            fed_by,
            Judged::default(),
            Arc::new(Commands::default),
        ) {
            Ok(ledger) => return ledger,
            Err(LedgerError::InUse { .. }) if Instant::now() < end => {}
            Err(fault) => panic!("{fault}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A file that the mirror wrote to, with a taint, closed.
fn known_file(config: &config::Ledger) {
    let ledger = open(config);
    ledger.record(wrote("written"));
    ledger.taint(&[table("known")], &"dropped".into());
    ledger.close();
}

#[test]
fn a_file_locked_at_the_start_is_read_and_taken_up_later() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    known_file(&config);
    let blocker = locked(&config.path);
    let ledger = open(&config);
    assert!(!ledger.health().ok);
    assert!(ledger.health().last_error.unwrap().contains("locked"));
    assert!(ledger.is_tainted(&table("known")), "it can be read");
    assert!(!ledger.is_tainted(&table("written")));
    until("findings are lost", || {
        ledger.record(diverged("a"));
        ledger.health().lost > 0
    });
    blocker.execute_batch("ROLLBACK").unwrap();
    until("it recovers", || ledger.health().ok);
    ledger.record(diverged("b"));
    until("findings are kept", || count(&ledger) > 0);
    drop(ledger);
    let killed = open_when_free(&config, FedBy::Mirror);
    assert!(killed.is_tainted(&table("written")), "a gap");
}

#[test]
fn a_file_that_nobody_else_may_read_at_the_start_is_merged_later() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    known_file(&config);
    let blocker = rusqlite::Connection::open(&config.path).unwrap();
    blocker
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM audit")
        .unwrap();
    let ledger = open(&config);
    assert!(!ledger.health().ok);
    ledger.taint(&[table("spoiled")], &"dropped".into());
    blocker.execute_batch("COMMIT").unwrap();
    drop(blocker);
    until("it is read", || ledger.is_tainted(&table("known")));
    until("it recovers", || ledger.health().ok);
    ledger.close();
    let again = open(&config);
    assert!(again.is_tainted(&table("known")) && again.is_tainted(&table("spoiled")));
}

#[test]
fn a_crash_is_known_even_if_the_file_was_locked_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    known_file(&config);
    let blocker = locked(&config.path);
    drop(open(&config));
    blocker.execute_batch("ROLLBACK").unwrap();
    drop(blocker);
    let again = open_when_free(&config, FedBy::Mirror);
    assert!(again.is_tainted(&table("written")), "a gap");
}

#[test]
fn a_crash_leaves_no_gap_where_replication_feeds_the_shadow() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    known_file(&config);
    drop(open(&config));
    let again = open_when_free(&config, FedBy::Replication);
    assert!(!again.is_tainted(&table("written")));
    again.record(wrote("rehearsed"));
    drop(again);
    let again = open_when_free(&config, FedBy::Mirror);
    assert!(!again.is_tainted(&table("rehearsed")));
}

#[test]
fn after_a_cutover_away_from_replication_a_crash_leaves_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open_when_free(&config, FedBy::Replication);
    ledger.record(wrote("rehearsed"));
    ledger.is_fed_by(FedBy::Mirror);
    ledger.record(wrote("written"));
    drop(ledger);
    let again = open_when_free(&config, FedBy::Mirror);
    assert!(again.is_tainted(&table("written")));
    assert!(!again.is_tainted(&table("rehearsed")));
}

#[test]
fn a_second_process_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    known_file(&config);
    let ledger = open(&config);
    let fault = Ledger::open(
        &config,
        FedBy::Mirror,
        Judged::default(),
        Arc::new(Commands::default),
    )
    .unwrap_err();
    let text = fault.to_string();
    let us = format!("process {}", std::process::id());
    assert!(text.contains(&us) && text.contains("ledger.path"), "{text}");
    assert!(!ledger.is_tainted(&table("written")));
    ledger.close();
    assert!(!open(&config).is_tainted(&table("written")), "no gap");
}

#[test]
fn a_change_that_was_refused_is_not_made_later() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    ledger.record(diverged("a"));
    until("it is kept", || count(&ledger) == 1);
    let blocker = locked(&config.path);
    let fixed = FindingPatch {
        state: Some("fixed".into()),
        ..FindingPatch::default()
    };
    ledger.patch_finding(1, fixed).unwrap_err();
    blocker.execute_batch("ROLLBACK").unwrap();
    until("it recovers", || ledger.health().ok);
    let filter = FindingFilter {
        limit: 1,
        ..FindingFilter::default()
    };
    assert_eq!(ledger.findings(&filter).unwrap().items[0]["state"], "open");
}

#[test]
fn one_divergence_never_takes_much_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&config(dir.path()));
    let mut large = diverged(&"SELECT a, ".repeat(100_000));
    if let Verdict::Diverged(divergence) = &mut large.verdict {
        divergence.examples[0].names = vec!["n".repeat(1 << 20)];
    }
    ledger.record(large);
    until("it is kept", || count(&ledger) == 1);
    let item = ledger.divergence(1).unwrap().unwrap();
    assert!(item.to_string().len() < 16 << 10);
    assert_eq!(item["examples_left_out"], true);
}

/// An observation whose difference follows from a cause.
fn following(shape: &str, cause: &Cause) -> Observation {
    let mut one = diverged(shape);
    let tainted = Verdict::NotCompared(crate::compare::verdict::Reason::Tainted);
    let Verdict::Diverged(divergence) = std::mem::replace(&mut one.verdict, tainted) else {
        unreachable!("it diverged");
    };
    let cause = cause.clone();
    one.follows = Some(observation::Follows { cause, divergence });
    one
}

fn findings(ledger: &Ledger) -> Vec<Value> {
    let filter = FindingFilter {
        limit: 100,
        ..FindingFilter::default()
    };
    ledger.findings(&filter).unwrap().items
}

/// What followed from one cause: its finding, once it counts so many.
fn follow_up(ledger: &Ledger, count: u64) -> Value {
    let found = || {
        let mut all = findings(ledger).into_iter();
        all.find(|one| one["follows"] == true && one["count"] == count)
    };
    until("what followed is counted", || found().is_some());
    found().unwrap()
}

#[test]
fn what_follows_from_a_divergence_is_one_finding_that_names_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    let root = diverged("UPDATE t SET v = ?");
    let cause = Cause::diverged(
        "a dark write diverged (value): UPDATE t SET v = ?",
        FindingKey {
            digest: root.digest,
            kind: crate::compare::verdict::Kind::Value,
            protocol: Protocol::Text,
        },
    );
    ledger.taint(&[table("t")], &cause);
    for n in 0..9 {
        ledger.record(following(&format!("SELECT {n}"), &cause));
    }
    // The finding that is the cause may come to the file later than what follows from it.
    let early = follow_up(&ledger, 9);
    assert_eq!(early["cause_id"], Value::Null);
    ledger.record(root);
    until("both are kept", || findings(&ledger).len() == 2);
    let follows = follow_up(&ledger, 9);
    let roots: Vec<Value> = findings(&ledger)
        .into_iter()
        .filter(|one| one["follows"] == false)
        .collect();
    assert_eq!(roots.len(), 1, "{roots:?}");
    assert_eq!(roots[0]["cause_id"], Value::Null);
    assert_eq!(follows["cause_id"], roots[0]["id"]);
    assert_eq!(follows["cause"]["text"], &*cause.text);
    assert_eq!(follows["tables"], serde_json::json!(["app.t"]));
    assert_eq!(follows["impact"], 0.0, "it ranks behind every cause");
    let listed = |finding, follows| {
        let filter = DivergenceFilter {
            finding,
            follows,
            ..all(100)
        };
        ledger.divergences(&filter).unwrap().items
    };
    let divergences = listed(None, None);
    assert_eq!(
        divergences.len(),
        1,
        "what follows is none: {divergences:?}"
    );
    assert_eq!(divergences[0]["follows"], false);
    let examples = listed(None, Some(true));
    assert!(examples.iter().all(|one| one["follows"] == true));
    assert_eq!(examples.len(), 5);
    assert_eq!(listed(follows["id"].as_i64(), None).len(), 5);
    assert_eq!(listed(roots[0]["id"].as_i64(), Some(true)).len(), 0);
    let snapshot = ledger.coverage();
    assert_eq!(
        (snapshot.diverged, snapshot.not_compared["tainted"]),
        (1, 9)
    );
    ledger.close();
    drop(ledger);
    let again = open(&config);
    assert_eq!(again.cause(&table("t")), Some(cause));
    let taint = &again.tainted().unwrap()[0];
    assert_eq!(taint["finding_id"], roots[0]["id"]);
    assert_eq!(taint["followed"]["count"], 9);
    assert_eq!(taint["followed"]["last"], follows["last_seen"]);
    assert_eq!(taint["name"], "app.t");
    let tainted = |finding: &Value| {
        let id = finding["id"].as_i64().unwrap();
        again.finding(id).unwrap().unwrap()["tainted"].take()
    };
    assert_eq!(tainted(&roots[0]), serde_json::json!(["app.t"]));
    assert_eq!(tainted(&follows), serde_json::json!([]), "it tainted none");
    again.clear_taints(&["app.t".into()], "dba", "copied anew");
    assert_eq!(tainted(&roots[0]), serde_json::json!([]));
}

#[test]
fn what_followed_goes_with_its_cause_where_that_turns_out_to_be_another() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    let key = FindingKey {
        digest: 7,
        kind: crate::compare::verdict::Kind::Value,
        protocol: Protocol::Prepared,
    };
    let told = Cause::diverged("a dark write diverged (value): UPDATE t SET v = ?", key);
    let raced = Cause::from("a dark write raced: UPDATE t SET v = ?");
    let since = jiff::Timestamp::now();
    ledger.taint(&[table("t")], &told);
    for _ in 0..3 {
        ledger.record(following("SELECT ?", &told));
    }
    let before = follow_up(&ledger, 3);
    assert_eq!(before["cause"]["text"], &*told.text);
    ledger.record(following("SELECT ?", &told));
    ledger.amend(&told, &raced, since);
    let after = follow_up(&ledger, 4);
    assert_eq!(after["cause"]["text"], &*raced.text);
    let of_told = |one: &Value| one["cause"]["text"] == *told.text && one["count"] != 0;
    assert!(!findings(&ledger).iter().any(of_told));
    let examples = ledger.finding(after["id"].as_i64().unwrap()).unwrap();
    assert_eq!(examples.unwrap()["examples"].as_array().unwrap().len(), 3);

    // Where an older taint has the same cause, it is not known which of them it followed from.
    ledger.taint(&[table("old")], &told);
    let since = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1);
    std::thread::sleep(Duration::from_millis(5));
    ledger.taint(&[table("new")], &told);
    ledger.record(following("SELECT ?", &told));
    ledger.amend(&told, &raced, since);
    until("it stays where it was", || {
        findings(&ledger).iter().any(of_told)
    });
}

#[test]
fn what_follows_is_fixed_when_the_taint_is_cleared_and_regresses_when_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&config(dir.path()));
    let cause = Cause::from("a dark write was lost (dropped): INSERT INTO t VALUES (?)");
    ledger.taint(&[table("t"), table("u")], &cause);
    ledger.record(following("SELECT ?", &cause));
    assert_eq!(follow_up(&ledger, 1)["state"], "open");
    assert_eq!(follow_up(&ledger, 1)["cause_id"], Value::Null);
    ledger.clear_taints(&["app.t".into()], "dba", "copied anew");
    until("it is kept", || ledger.health().queued == 0);
    assert_eq!(follow_up(&ledger, 1)["state"], "open", "u is still tainted");
    ledger.clear_taints(&["app.u".into()], "dba", "copied anew");
    until("it is fixed", || follow_up(&ledger, 1)["state"] == "fixed");
    let fixed = follow_up(&ledger, 1);
    assert_eq!(
        (&fixed["who"], &fixed["why"]),
        (&"dba".into(), &"copied anew".into())
    );
    ledger.taint(&[table("t")], &cause);
    ledger.record(following("SELECT ?", &cause));
    assert_eq!(follow_up(&ledger, 2)["state"], "regressed");
}

#[test]
fn the_flat_tables_show_no_literal_that_was_kept_once_the_config_says_redact() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.literals = Literals::Keep;
    let mut observation = diverged("SELECT ?");
    observation.statement = Some("SELECT 'planted'".into());
    let ledger = open(&config);
    ledger.record(observation);
    until("it is kept", || count(&ledger) == 1);
    let shown = |ledger: &Ledger| -> String {
        let flat = ledger.views(|_| true).unwrap();
        flat.query_row("SELECT statement FROM divergences", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(shown(&ledger), "SELECT 'planted'");
    ledger.close();
    config.literals = Literals::Redact;
    assert_eq!(shown(&open(&config)), "SELECT ?");
}

//! What operators say of findings, by hand and by rule, and what becomes of it.

use super::store_tests::{config, count, judging, open, until};
use super::tests::{diverged, observation};
use super::*;
use crate::compare::verdict::{Kind, Verdict};
use crate::config::{Live, RuleState};
use jiff::Timestamp;
use serde_json::json;

fn rule(name: &str) -> Rule {
    Rule {
        name: name.into(),
        fingerprint: None,
        table: None,
        kind: None,
        column: None,
        state: RuleState::Noise,
        who: "dba".into(),
        why: "known".into(),
        until: None,
    }
}

fn shape(name: &str, fingerprint: &str) -> Rule {
    Rule {
        fingerprint: Some(fingerprint.into()),
        ..rule(name)
    }
}

fn findings(ledger: &Ledger) -> Vec<Value> {
    let filter = FindingFilter {
        sort: FindingSort::LastSeen,
        limit: 100,
        ..FindingFilter::default()
    };
    ledger.findings(&filter).unwrap().items
}

fn of<'a>(findings: &'a [Value], fingerprint: &str) -> Vec<&'a Value> {
    let shape = |one: &&Value| one["fingerprint"] == fingerprint;
    findings.iter().filter(shape).collect()
}

fn judged(rules: Vec<Rule>) -> Judged {
    Judged {
        rules: rules.into(),
        ..Judged::default()
    }
}

fn kept(ledger: &Ledger, number: usize) {
    until("all are kept", || count(ledger) == number);
}

#[test]
fn what_a_rule_takes_is_a_finding_of_its_own_and_never_open() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = judging(
        &config(dir.path()),
        judged(vec![shape("first", "a"), shape("second", "a")]),
    );
    for name in ["a", "a", "b"] {
        ledger.record(diverged(name));
    }
    kept(&ledger, 3);
    assert_eq!(ledger.coverage().diverged, 3, "coverage is not touched");
    let all = findings(&ledger);
    let [taken] = of(&all, "a")[..] else {
        panic!("{all:?}")
    };
    assert_eq!(
        (&taken["state"], &taken["rule"]),
        (&json!("noise"), &json!("first"))
    );
    assert_eq!(taken["who"], "dba");
    let open = ledger.open_findings().unwrap();
    let expected = Open {
        findings: 1,
        regressed: 0,
        divergences: 1,
        ids: vec![of(&all, "b")[0]["id"].as_i64().unwrap()],
        fingerprints: vec!["b".to_owned()],
    };
    assert_eq!(open.by_kind, [("value".to_owned(), expected)].into());
    let rules = ledger.rules().unwrap();
    let hits: Vec<_> = rules
        .iter()
        .map(|rule| (&rule["name"], &rule["hits"]))
        .collect();
    assert_eq!(
        hits,
        [(&json!("first"), &json!(2)), (&json!("second"), &json!(0))]
    );
    assert!(rules[0]["last_hit"].is_string() && rules[1]["last_hit"].is_null());
    assert_eq!(ledger.divergence(1).unwrap().unwrap()["rule"], "first");
}

#[test]
fn a_rule_of_the_api_is_kept_counts_and_gives_back_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    ledger.record(diverged("a"));
    kept(&ledger, 1);
    let made = ledger.add_rule(shape("mine", "a")).unwrap().done().unwrap();
    assert_eq!((&made["from"], &made["hits"]), (&json!("api"), &json!(0)));
    assert!(matches!(
        ledger.add_rule(shape("mine", "b")).unwrap(),
        Changed::Refused(_)
    ));
    ledger.record(diverged("a"));
    ledger.record(diverged("a"));
    kept(&ledger, 3);
    assert_eq!(findings(&ledger).len(), 2);
    ledger.close();
    let ledger = open(&config);
    ledger.record(diverged("a"));
    kept(&ledger, 4);
    let rules = ledger.rules().unwrap();
    assert_eq!((rules.len(), &rules[0]["hits"]), (1, &json!(3)));
    let id = rules[0]["id"].as_i64().unwrap();
    assert_eq!(ledger.delete_rule(99, "dba", "").unwrap(), Changed::Missing);
    assert_eq!(
        ledger.delete_rule(id, "dba", "wrong").unwrap(),
        Changed::Done(())
    );
    let all = findings(&ledger);
    let [one] = &all[..] else { panic!("{all:?}") };
    assert_eq!(
        (&one["count"], &one["state"], &one["rule"]),
        (&json!(4), &json!("open"), &Value::Null)
    );
    let whole = ledger
        .finding(one["id"].as_i64().unwrap())
        .unwrap()
        .unwrap();
    let history = whole["history"].to_string();
    assert!(
        history.contains("mine") && history.contains("deleted by dba"),
        "{history}"
    );
    assert_eq!(whole["examples"].as_array().unwrap().len(), 3);
    assert_eq!(ledger.rules().unwrap(), Vec::<Value>::new());
}

#[test]
fn a_rule_that_left_the_config_gives_back_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = judging(
        &config,
        judged(vec![shape("gone", "a"), shape("stays", "b")]),
    );
    ledger.record(diverged("a"));
    ledger.record(diverged("b"));
    kept(&ledger, 2);
    let id = ledger.rules().unwrap()[0]["id"].as_i64().unwrap();
    assert!(matches!(
        ledger.delete_rule(id, "dba", "").unwrap(),
        Changed::Refused(_)
    ));
    ledger.close();
    let until = "2900-01-01T00:00:00Z".parse().unwrap();
    let accepted = Rule {
        state: RuleState::Accepted,
        until: Some(until),
        ..shape("stays", "b")
    };
    let ledger = judging(&config, judged(vec![accepted]));
    let all = findings(&ledger);
    assert_eq!(of(&all, "a")[0]["state"], "open");
    assert_eq!(of(&all, "a")[0]["who"], Value::Null, "nobody judges it now");
    assert_eq!(of(&all, "b")[0]["state"], "accepted");
    let rules = ledger.rules().unwrap();
    assert_eq!(
        (rules.len(), &rules[0]["hits"]),
        (1, &json!(1)),
        "it counts on"
    );
}

#[test]
fn a_rule_whose_time_is_over_takes_nothing_and_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let soon = Timestamp::now() + Duration::from_secs(2);
    let short = Rule {
        until: Some(soon),
        ..shape("short", "a")
    };
    let ledger = judging(&config, judged(vec![short]));
    ledger.record(diverged("a"));
    kept(&ledger, 1);
    assert_eq!(ledger.open_findings().unwrap().by_kind.len(), 0);
    until("it is given back", || {
        findings(&ledger)[0]["rule"].is_null()
    });
    let finding = &findings(&ledger)[0];
    assert_eq!(
        (&finding["state"], &finding["expired"]),
        (&json!("open"), &json!(true))
    );
    assert_eq!(ledger.open_findings().unwrap().by_kind["value"].findings, 1);
    ledger.record(diverged("a"));
    kept(&ledger, 2);
    assert_eq!(findings(&ledger).len(), 1, "it goes to the same finding");
    let rules = ledger.rules().unwrap();
    assert_eq!(
        (&rules[0]["expired"], &rules[0]["hits"]),
        (&json!(true), &json!(1))
    );
    let told = audit(&config.path, "rule \"short\": expired");
    assert_eq!(told, 1);
}

fn audit(path: &std::path::Path, what: &str) -> i64 {
    let file = rusqlite::Connection::open(path).unwrap();
    let ask = "SELECT count(*) FROM audit WHERE what = ?1";
    file.query_row(ask, [what], |row| row.get(0)).unwrap()
}

#[test]
fn what_was_accepted_is_open_again_and_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    ledger.record(diverged("a"));
    kept(&ledger, 1);
    let patch = FindingPatch {
        state: Some("accepted".into()),
        who: Some("dba".into()),
        why: Some("known".into()),
        until: Some((Timestamp::now() + Duration::from_secs(1)).to_string()),
    };
    let accepted = ledger.patch_finding(1, patch).unwrap().done().unwrap();
    assert_eq!(
        (&accepted["state"], &accepted["expired"]),
        (&json!("accepted"), &json!(false))
    );
    let with_state = |state: &str| {
        let filter = DivergenceFilter {
            state: Some(state.into()),
            limit: 9,
            ..DivergenceFilter::default()
        };
        ledger.divergences(&filter).unwrap().items.len()
    };
    assert_eq!(ledger.open_findings().unwrap(), OpenFindings::default());
    until("it is written down", || {
        audit(&config.path, "finding 1: open again, expired") == 1
    });
    let finding = ledger.finding(1).unwrap().unwrap();
    assert_eq!(
        (&finding["state"], &finding["expired"]),
        (&json!("open"), &json!(true))
    );
    assert_eq!((with_state("open"), with_state("accepted")), (1, 0));
    assert_eq!(finding["who"], "dba", "whose word is over is still told");
    assert_eq!(finding["history"][1]["who"], "dba");
    assert_eq!(ledger.open_findings().unwrap().by_kind["value"].findings, 1);
}

#[test]
fn a_fixed_finding_that_comes_back_is_open_as_regressed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    ledger.record(diverged("a"));
    kept(&ledger, 1);
    let fixed = FindingPatch {
        state: Some("fixed".into()),
        who: Some("dba".into()),
        ..FindingPatch::default()
    };
    ledger.patch_finding(1, fixed).unwrap().done().unwrap();
    ledger.record(diverged("a"));
    ledger.record(diverged("a"));
    kept(&ledger, 3);
    assert_eq!(
        ledger.open_findings().unwrap().by_kind["value"].regressed,
        1
    );
    assert_eq!(audit(&config.path, "finding 1: regressed"), 1);
}

#[test]
fn what_a_rule_took_is_not_triaged_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = judging(&config(dir.path()), judged(vec![shape("it", "a")]));
    ledger.record(diverged("a"));
    kept(&ledger, 1);
    let patch = FindingPatch {
        state: Some("open".into()),
        ..FindingPatch::default()
    };
    assert!(matches!(
        ledger.patch_finding(1, patch).unwrap(),
        Changed::Refused(_)
    ));
}

#[test]
fn an_unused_rule_is_stale_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let by = |commands, stale_after| {
        let judged = Judged {
            rules: vec![shape("used", "a"), shape("unused", "z")].into(),
            stale_after: Live::from(stale_after),
            floor: None,
        };
        let commands = Arc::new(move || Commands {
            handed: commands,
            lost: 0,
            passed: 0,
        });
        Ledger::open(&config(dir.path()), FedBy::Mirror, judged, commands).unwrap()
    };
    let stale = |ledger: &Ledger| -> Vec<bool> {
        let rules = ledger.rules().unwrap();
        rules.iter().map(|rule| rule["stale"] == true).collect()
    };
    let ledger = by(10, Duration::from_secs(60));
    ledger.record(diverged("a"));
    kept(&ledger, 1);
    assert_eq!(stale(&ledger), [false, false]);
    ledger.close();
    let ledger = by(5_000, Duration::from_secs(60));
    assert_eq!(stale(&ledger), [false, true], "never used, in much traffic");
    ledger.close();
    let ledger = by(10, Duration::from_micros(1));
    assert_eq!(stale(&ledger), [true, true], "not used for too long");
}

#[test]
fn findings_are_rolled_up_by_fingerprint_and_by_table() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&config(dir.path()));
    let other = |kind| {
        let mut one = diverged("a");
        if let Verdict::Diverged(divergence) = &mut one.verdict {
            divergence.kind = kind;
        }
        one
    };
    let mut wide = diverged("b");
    let another = Table {
        database: Some("app".into()),
        name: "u".into(),
    };
    wide.tables = wide.tables.iter().cloned().chain([another]).collect();
    for one in [diverged("a"), other(Kind::Rows), other(Kind::Rows), wide] {
        ledger.record(one);
    }
    ledger.record(observation("a", Verdict::Match));
    kept(&ledger, 4);
    let filter = FindingFilter {
        limit: 10,
        ..FindingFilter::default()
    };
    until("traffic is known", || {
        ledger.rollup(By::Fingerprint, &filter).unwrap().items[0]["commands"] == 4
    });
    let shapes = ledger.rollup(By::Fingerprint, &filter).unwrap();
    let [a, b] = &shapes.items[..] else {
        panic!("{shapes:?}")
    };
    assert_eq!(
        (&a["fingerprint"], &b["fingerprint"]),
        (&json!("a"), &json!("b"))
    );
    assert_eq!((&a["findings"], &a["count"]), (&json!(2), &json!(3)));
    assert_eq!(a["kinds"], json!({"rows": 2, "value": 1}));
    assert!(a["impact"].as_f64() > b["impact"].as_f64());
    let tables = ledger.rollup(By::Table, &filter).unwrap();
    let named: Vec<_> = tables
        .items
        .iter()
        .map(|one| (&one["table"], &one["count"]))
        .collect();
    assert_eq!(
        named,
        [(&json!("app.t"), &json!(4)), (&json!("app.u"), &json!(1))]
    );
    let fixed = FindingPatch {
        state: Some("noise".into()),
        who: Some("dba".into()),
        ..FindingPatch::default()
    };
    let id = findings(&ledger)
        .iter()
        .find(|one| one["kind"] == "value" && one["fingerprint"] == "a")
        .unwrap()["id"]
        .as_i64();
    ledger
        .patch_finding(id.unwrap(), fixed)
        .unwrap()
        .done()
        .unwrap();
    let a = &ledger.rollup(By::Fingerprint, &filter).unwrap().items[0];
    assert_eq!(
        (&a["state"], &a["states"]),
        (&json!("open"), &json!({"open": 1, "noise": 1}))
    );
    let noise = FindingFilter {
        state: Some("noise".into()),
        ..filter.clone()
    };
    let page = ledger.rollup(By::Table, &noise).unwrap();
    assert_eq!(
        (page.items.len(), &page.items[0]["kinds"]),
        (1, &json!({"value": 1}))
    );
    let first = FindingFilter { limit: 1, ..filter };
    let page = ledger.rollup(By::Table, &first).unwrap();
    let second = FindingFilter {
        before: page.next,
        ..first
    };
    let page = ledger.rollup(By::Table, &second).unwrap();
    assert_eq!(
        (&page.items[0]["table"], page.next),
        (&json!("app.u"), None)
    );
}

#[test]
fn findings_are_chosen_by_kind_table_fingerprint_and_rule() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = judging(&config(dir.path()), judged(vec![shape("it", "a")]));
    ledger.record(diverged("a"));
    ledger.record(diverged("b"));
    kept(&ledger, 2);
    let all = || FindingFilter {
        limit: 9,
        ..FindingFilter::default()
    };
    let digest = format!("{:016x}", diverged("b").digest);
    for (filter, number) in [
        (all(), 2),
        (
            FindingFilter {
                kind: Some("value".into()),
                ..all()
            },
            2,
        ),
        (
            FindingFilter {
                kind: Some("rows".into()),
                ..all()
            },
            0,
        ),
        (
            FindingFilter {
                table: Some("t".into()),
                ..all()
            },
            2,
        ),
        (
            FindingFilter {
                table: Some("app.t".into()),
                ..all()
            },
            2,
        ),
        (
            FindingFilter {
                table: Some("u".into()),
                ..all()
            },
            0,
        ),
        (
            FindingFilter {
                fingerprint: Some("b".into()),
                ..all()
            },
            1,
        ),
        (
            FindingFilter {
                fingerprint: Some(digest),
                ..all()
            },
            1,
        ),
        (
            FindingFilter {
                rule: Some("it".into()),
                ..all()
            },
            1,
        ),
        (
            FindingFilter {
                state: Some("open".into()),
                ..all()
            },
            1,
        ),
    ] {
        assert_eq!(
            ledger.findings(&filter).unwrap().items.len(),
            number,
            "{filter:?}"
        );
    }
}

#[test]
fn what_two_equal_servers_show_too_does_not_count_as_open() {
    let dir = tempfile::tempdir().unwrap();
    let aa = config::Ledger {
        path: dir.path().join("aa.db"),
        log: None,
        ..config(dir.path())
    };
    let ledger = open(&aa);
    ledger.record(diverged("a"));
    for _ in 0..99 {
        ledger.record(observation("a", Verdict::Match));
    }
    kept(&ledger, 1);
    ledger.close();
    let judged = Judged {
        floor: Some(Floor::read(&aa.path).unwrap()),
        ..Judged::default()
    };
    let ledger = judging(&config(dir.path()), judged);
    ledger.record(diverged("a"));
    ledger.record(diverged("b"));
    kept(&ledger, 2);
    let open = ledger.open_findings().unwrap();
    assert_eq!(
        (open.by_kind["value"].findings, open.at_floor),
        (2, 0),
        "one of one is above it"
    );
    for _ in 0..99 {
        ledger.record(observation("a", Verdict::Match));
    }
    until("traffic is known", || {
        of(&findings(&ledger), "a")[0]["commands"] == 100
    });
    let open = ledger.open_findings().unwrap();
    assert_eq!((open.by_kind["value"].findings, open.at_floor), (1, 1));
    let all = findings(&ledger);
    let floor = &of(&all, "a")[0]["floor"];
    assert_eq!(
        (&floor["rate"], &floor["at_or_below"]),
        (&json!(0.01), &json!(true))
    );
    assert_eq!(of(&all, "b")[0]["floor"], Value::Null);
}

/// The second version's tables, as a file of it has them.
const SECOND: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE findings (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        digest TEXT NOT NULL, kind TEXT NOT NULL, protocol TEXT NOT NULL,
        fingerprint TEXT NOT NULL, tables TEXT NOT NULL,
        count INTEGER NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'open', who TEXT, why TEXT, until TEXT, cause_id INTEGER,
        UNIQUE (digest, kind, protocol)
    );
    CREATE TABLE divergences (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL, kind TEXT NOT NULL, digest TEXT NOT NULL, fingerprint TEXT NOT NULL,
        tables TEXT NOT NULL, finding_id INTEGER NOT NULL, item TEXT NOT NULL
    );
    CREATE INDEX divergences_at ON divergences (at);
    CREATE INDEX divergences_finding ON divergences (finding_id);
    CREATE TABLE traffic (
        digest TEXT NOT NULL, protocol TEXT NOT NULL, commands INTEGER NOT NULL,
        seen INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (digest, protocol)
    ) WITHOUT ROWID;
    CREATE INDEX traffic_seen ON traffic (seen);
    CREATE INDEX findings_last_seen ON findings (last_seen);
    CREATE TABLE taints (
        database TEXT NOT NULL, name TEXT NOT NULL, cause TEXT NOT NULL, since TEXT NOT NULL,
        PRIMARY KEY (database, name)
    ) WITHOUT ROWID;
    CREATE TABLE mirrored_tables (
        database TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (database, name)
    ) WITHOUT ROWID;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, why TEXT NOT NULL
    );
    INSERT INTO findings VALUES (7, '2a', 'value', 'text', 'b', '[\"app.t\"]', 3, 1, 2, 'fixed', 'me', 'done', NULL, 4);
    INSERT INTO findings VALUES (9, '2b', 'value', 'text', 'c', '[]', 1, 1, 2, 'open', NULL, NULL, NULL, NULL);
    DELETE FROM findings WHERE id = 9;
    INSERT INTO audit VALUES (1, '2026-01-01T00:00:00Z', 'me', 'finding 7: fixed', 'done');
    PRAGMA user_version = 2;
";

#[test]
fn a_ledger_of_the_second_version_keeps_all_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let old = rusqlite::Connection::open(&config.path).unwrap();
    old.execute_batch(SECOND).unwrap();
    drop(old);
    let ledger = open(&config);
    let finding = ledger.finding(7).unwrap().unwrap();
    for (key, value) in [
        ("state", json!("fixed")),
        ("who", json!("me")),
        ("why", json!("done")),
        ("count", json!(3)),
        ("cause_id", json!(4)),
        ("tables", json!(["app.t"])),
        ("rule", Value::Null),
        ("expired", json!(false)),
    ] {
        assert_eq!(finding[key], value, "{key}");
    }
    assert_eq!(finding["history"][0]["what"], "finding 7: fixed");
    ledger.record(diverged("a"));
    kept(&ledger, 1);
    let newest = &findings(&ledger)[0];
    assert_eq!(newest["id"], 10, "no id is given twice");
}

fn accept(ledger: &Ledger, id: i64, until: &str) {
    let patch = FindingPatch {
        state: Some("accepted".into()),
        who: Some("dba".into()),
        why: Some("known".into()),
        until: Some(until.into()),
    };
    ledger.patch_finding(id, patch).unwrap().done().unwrap();
}

fn why(path: &std::path::Path, what: &str) -> String {
    let file = rusqlite::Connection::open(path).unwrap();
    let ask = "SELECT coalesce(group_concat(why), 'nothing') FROM audit WHERE what = ?1";
    file.query_row(ask, [what], |row| row.get(0)).unwrap()
}

#[test]
fn what_a_person_accepted_stays_accepted_where_a_rule_of_its_shape_ends_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    ledger.record(diverged("a"));
    kept(&ledger, 1);
    accept(&ledger, 1, "2831-01-01T00:00:00Z");
    let made = ledger.add_rule(rule("mine")).unwrap().done().unwrap();
    ledger.record(diverged("a"));
    ledger.record(diverged("b"));
    kept(&ledger, 3);
    let id = made["id"].as_i64().unwrap();
    assert_eq!(
        ledger.delete_rule(id, "dba", "wrong").unwrap(),
        Changed::Done(())
    );
    let all = findings(&ledger);
    assert_eq!(all.len(), 2, "{all:?}");
    let a = of(&all, "a")[0];
    assert_eq!(
        (&a["state"], &a["who"], &a["count"]),
        (&json!("accepted"), &json!("dba"), &json!(2))
    );
    assert_eq!(of(&all, "b")[0]["state"], "open");
    let history = ledger.finding(1).unwrap().unwrap()["history"].to_string();
    assert!(
        history.contains("accepted until 2831-01-01T00:00:00Z as before"),
        "{history}"
    );
    assert!(!history.contains(": open"), "{history}");
    assert_eq!(
        why(&config.path, "rule \"mine\": gives back"),
        "deleted by dba; findings open again: 1; accepted by hand, as before: 1"
    );
}

#[test]
fn a_large_rule_gives_back_in_steps_while_the_writer_serves_others() {
    let dir = tempfile::tempdir().unwrap();
    let config = config::Ledger {
        findings_max: 2000.into(),
        ..config(dir.path())
    };
    let ledger = open(&config);
    let made = ledger.add_rule(shape("large", "a*")).unwrap();
    let id = made.done().unwrap()["id"].as_i64().unwrap();
    ledger.close();
    let file = rusqlite::Connection::open(&config.path).unwrap();
    file.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1300)
         INSERT INTO findings (digest, kind, protocol, rule, fingerprint, tables, count, first_seen,
                               last_seen, state)
           SELECT i, 'value', 'text', 'large', 'a' || i, '[]', 1, i, i, 'noise' FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700)
         INSERT INTO findings (digest, kind, protocol, rule, fingerprint, tables, count, first_seen,
                               last_seen)
           SELECT i, 'value', 'text', '', 'a' || i, '[]', 1, i, i FROM n;",
    )
    .unwrap();
    let ledger = open(&config);
    assert_eq!(
        ledger.delete_rule(id, "dba", "wrong").unwrap(),
        Changed::Done(())
    );
    let left = "SELECT count(*) FROM findings WHERE rule = 'large'";
    let number = |ask: &str| file.query_row(ask, (), |row| row.get::<_, i64>(0)).unwrap();
    assert!(number(left) > 0, "one step is not all");
    assert_eq!(ledger.rules().unwrap(), Vec::<Value>::new());
    until("all is given back", || number(left) == 0);
    let both = "SELECT count(*) FROM findings WHERE state = 'open' AND count = 2";
    assert_eq!(number(both), 700);
    assert_eq!(
        number("SELECT count(*) FROM findings WHERE state = 'open'"),
        1300
    );
    assert_eq!(
        number("SELECT count(*) FROM audit WHERE who = 'understudy'"),
        1,
        "one record for them all"
    );
    until("the rule is let go", || {
        number("SELECT count(*) FROM rules") == 0
    });
}

#[test]
fn a_finding_that_is_judged_anew_is_not_expired_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let ledger = open(&config);
    ledger.record(diverged("a"));
    kept(&ledger, 1);
    let soon = Timestamp::now() + Duration::from_secs(1);
    accept(&ledger, 1, &soon.to_string());
    until("it is open again", || {
        findings(&ledger)[0]["expired"] == true
    });
    until("it is written down", || {
        audit(&config.path, "finding 1: open again, expired") == 1
    });
    let mut connection = rusqlite::Connection::open(&config.path).unwrap();
    let transaction = connection.transaction().unwrap();
    triage::regress(&transaction, 1).unwrap();
    transaction.commit().unwrap();
    let finding = &findings(&ledger)[0];
    assert_eq!(
        (&finding["state"], &finding["expired"], &finding["until"]),
        (&json!("regressed"), &json!(false), &Value::Null)
    );
}

#[test]
fn rules_of_a_config_that_was_read_again_hold_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let read = |text: &str| crate::config::Config::parse(text, &[]).unwrap();
    let running = read("");
    let judged = Judged {
        rules: running.compare.rules.clone(),
        ..Judged::default()
    };
    let ledger = judging(&config(dir.path()), judged);
    let hits = || {
        let rules = ledger.rules().unwrap();
        let hits = rules.iter().filter_map(|rule| rule["hits"].as_u64());
        hits.collect::<Vec<u64>>()
    };
    ledger.record(diverged("a"));
    kept(&ledger, 1);
    running.follow(&read(
        "[[compare.rules]]\nname = \"n\"\nfingerprint = \"a\"\nstate = \"noise\"\nwho = \"dba\"",
    ));
    until("it is there", || hits() == [0]);
    ledger.record(diverged("a"));
    until("it takes what comes", || hits() == [1]);
    running.follow(&read(""));
    until("it is gone", || hits().is_empty());
    ledger.close();
}

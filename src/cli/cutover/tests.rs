use super::*;
use crate::cli::Arguments as Line;
use clap::Parser;

fn step(name: &str, outcome: Option<&str>, why: Option<&str>) -> Value {
    json!({"step": name, "at": "2026-01-01T23:59:48Z", "took_us": outcome.map(|_| 1_500), "outcome": outcome, "why": why})
}

fn record(steps: &[Value], outcome: Option<&str>) -> Value {
    json!({
        "id": 3, "from": "legacy", "to": "vitess", "started": "2026-01-01T23:59:48Z",
        "switched": null, "ended": outcome.map(|_| "2026-01-02T00:00:00Z"), "state": "holding",
        "outcome": outcome, "why": null, "hold_us": 12_300, "who": "dba", "steps": steps,
    })
}

fn standing(record: &Value) -> Value {
    json!({"state": "holding", "primary": "legacy", "record": record, "history": [record]})
}

#[test]
fn each_step_is_told_once_when_it_lasts_and_once_when_it_ends() {
    let done = |name| step(name, Some("done"), None);
    let mut looks = vec![
        record(&[done("checking"), step("preparing", None, None)], None),
        record(&[done("checking"), step("preparing", None, None)], None),
        record(
            &[
                done("checking"),
                step("preparing", Some("done"), Some("200 sessions")),
                done("holding"),
                step("catching_up", None, None),
            ],
            None,
        ),
        record(
            &[
                done("checking"),
                done("preparing"),
                done("holding"),
                step("catching_up", Some("cut"), Some("a write was lost")),
            ],
            Some("aborted"),
        ),
    ];
    looks.reverse();
    let mut told = Vec::new();
    let end = follow(
        3,
        || Ok(standing(&looks.pop().expect("it ends"))),
        |line| told.push(line.to_owned()),
    );
    assert_eq!(found(&end.expect("followed"), 3)["outcome"], "aborted");
    assert_eq!(
        told,
        [
            "checking       done        1.50 ms",
            "preparing      …",
            "preparing      done        1.50 ms  200 sessions",
            "holding        done        1.50 ms",
            "catching_up    …",
            "catching_up    cut         1.50 ms  a write was lost",
        ]
    );
}

/// Finding: eleven seconds of "preparing …", and none of a soak's five minutes, said why.
#[test]
fn what_a_step_waits_for_is_told_now_and_then_while_it_lasts() {
    let mut looks = 0;
    let mut told = Vec::new();
    let prepared = step("preparing", Some("done"), None);
    let lasts = |name| step(name, None, None);
    follow(
        3,
        || {
            looks += 1;
            let mut now = standing(&match looks {
                1..=45 => record(&[lasts("preparing")], None),
                46..=250 => record(&[prepared.clone(), lasts("soaking")], None),
                _ => record(&[], Some("done")),
            });
            now["progress"] = json!({"words": format!("waits, look {looks}")});
            Ok(now)
        },
        |line| told.push(line.to_owned()),
    )
    .expect("followed");
    assert_eq!(
        told,
        [
            "preparing      …",
            "preparing      … waits, look 20",
            "preparing      … waits, look 40",
            "preparing      done        1.50 ms",
            "soaking        …",
            "soaking        … waits, look 145",
            "soaking        … waits, look 245",
        ]
    );
}

#[test]
fn a_proxy_that_is_started_again_is_looked_for_a_while() {
    let away = || {
        Err(ClientError::Unreachable(
            "http://a:1".into(),
            "refused".into(),
        ))
    };
    let mut looks = 0;
    let mut told = Vec::new();
    let end = follow(
        3,
        || {
            looks += 1;
            match looks {
                1..=5 => away(),
                _ => Ok(standing(&record(&[], Some("aborted")))),
            }
        },
        |line| told.push(line.to_owned()),
    );
    assert!(end.is_ok());
    assert_eq!(told.len(), 1, "{told:?}");
    let mut looks = 0;
    let gone = follow(
        3,
        || {
            looks += 1;
            away()
        },
        |_| {},
    );
    assert!(matches!(gone, Err(ClientError::Unreachable(..))));
    assert_eq!(looks, BLIND_MAX + 1);
}

#[test]
fn an_end_is_a_sentence() {
    let mut one = record(&[], Some("done"));
    assert_eq!(
        ended(&one, "vitess"),
        "done: vitess is the primary; transactions waited 12.3 ms"
    );
    one["outcome"] = json!("aborted");
    one["why"] = json!("hold_ms_max was over");
    assert_eq!(
        ended(&one, "legacy"),
        "aborted: hold_ms_max was over; legacy is the primary"
    );
    one["outcome"] = json!("dry_run");
    one["why"] = json!("200 sessions would move");
    assert_eq!(
        ended(&one, "legacy"),
        "dry run: 200 sessions would move; nothing was changed, legacy is the primary"
    );
    assert_eq!(
        ended(&Value::Null, "legacy"),
        "its record is not told any more; legacy is the primary"
    );
}

#[test]
fn how_it_stands_is_shown_with_its_steps_and_what_was_before() {
    let now: jiff::Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
    let one = record(&[step("checking", Some("done"), None)], None);
    let mut all = standing(&one);
    let mut older = record(&[], Some("done"));
    older["id"] = json!(2);
    all["history"] = json!([one, older]);
    let shown_all = shown(&all, now);
    let lines: Vec<&str> = shown_all.lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "state     holding",
            "primary   legacy",
            "cutover   3: legacy → vitess, 12 s ago, holding",
            "  checking       done        1.50 ms",
            "",
            "ID  FROM    TO      BEGAN     OUTCOME     HELD  WHO",
            "3   legacy  vitess  12 s ago           12.3 ms  dba",
            "2   legacy  vitess  12 s ago  done     12.3 ms  dba",
        ]
    );
    all["progress"] = json!({"words": "waits for 1 session"});
    let shown_now = shown(&all, now);
    assert!(
        shown_now.contains("\nnow       waits for 1 session\n"),
        "{shown_now}"
    );
    let none = json!({"state": "idle", "primary": "legacy", "record": null, "history": []});
    assert_eq!(
        shown(&none, now),
        "state     idle\nprimary   legacy\nno cutover yet"
    );
    let mut unread = standing(&json!({"id": 3}));
    unread["unread"] = json!("what was asked for was done");
    assert_eq!(
        shown(&unread, now),
        "state     holding\nprimary   legacy\ncutover   3\nwhat was asked for was done"
    );
}

#[test]
fn guards_that_refuse_are_shown_with_what_is_forced() {
    let guard = |name: &str, pass: bool, forced: bool| json!({"name": name, "pass": pass, "forced": forced, "why": "so it is"});
    let answer = json!({"guards": [guard("lag", false, false), guard("taint", false, true), guard("ddl", true, false)]});
    let shown = refused("vitess", &answer);
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "REFUSED: 1 of 3 guards stand between you and vitess; --force GUARD overrides one",
            "",
            "GUARD          FOUND",
            "lag    FAIL    so it is",
            "taint  forced  so it is",
            "ddl    pass    so it is",
        ]
    );
}

#[test]
fn the_command_line_says_one_thing_at_a_time() {
    for (line, fits) in [
        ("cutover", true),
        ("cutover --to vitess", true),
        (
            "cutover --to vitess --dry-run --watch --force lag --force taint",
            true,
        ),
        ("cutover --watch", true),
        ("cutover --abort", true),
        ("cutover --replication-stopped --format json", true),
        ("cutover --abort --to vitess", false),
        ("cutover --abort --replication-stopped", false),
        ("cutover vitess", false),
        ("rollback", true),
        (
            "rollback --watch --force lag --admin http://127.0.0.1:1",
            true,
        ),
        ("rollback --to legacy", false),
    ] {
        let words = std::iter::once("understudy").chain(line.split(' '));
        assert_eq!(Line::try_parse_from(words).is_ok(), fits, "{line}");
    }
}

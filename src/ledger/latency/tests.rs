//! What is counted, what is told of it, and what is forgotten.

use super::*;
use crate::compare::verdict::{Reason, Verdict};
use crate::ledger::tests::observation;

#[test]
fn both_servers_stand_under_their_names_with_first_and_last_byte() {
    let latency = Latency::new(10);
    for _ in 0..100 {
        latency.record(&observation("SELECT ?", Verdict::Match));
    }
    let items = latency.items(None);
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["count"], 100);
    assert_eq!(items[0]["class"], "read");
    assert!(items[0]["legacy"]["p50"].as_u64().unwrap() >= 990);
    assert!(items[0]["vitess"]["first_byte"]["p99"].as_u64().is_some());
    assert!(items[0]["queue_wait"]["p50"].as_u64().is_some());
}

#[test]
fn a_class_is_all_its_statements_however_many_are_told_and_copied_at_once() {
    let latency = Latency::new(1000);
    for n in 0..CHUNK * 3 + 5 {
        latency.record(&observation(&format!("SELECT {n}"), Verdict::Match));
        latency.record(&observation("SELECT ?", Verdict::Match));
    }
    let all = (CHUNK as u64 * 3 + 5) * 2;
    let paces = latency.paces(["legacy", "vitess"], 1, 2);
    assert_eq!(paces.len(), 3, "the class and the two busiest");
    assert_eq!((paces[0].shape, paces[0].samples), (None, all));
    assert_eq!(paces[1].samples, all / 2);
    let curves = latency.curves(["legacy", "vitess"], Byte::Last);
    assert_eq!((curves[0].class, curves[0].samples), (None, all));
    assert!(latency.look(["legacy", "vitess"], Byte::Last, 2).is_whole);
}

#[test]
fn fingerprints_past_the_limit_are_kept_together_as_other() {
    let latency = Latency::new(2);
    for shape in ["a", "a", "b", "b", "c", "d", "c"] {
        latency.record(&observation(shape, Verdict::Match));
    }
    let items = latency.items(None);
    assert_eq!(items.len(), 3);
    assert_eq!(items[0]["fingerprint"], Value::Null);
    assert_eq!(items[0]["count"], 3);
}

#[test]
fn the_real_load_is_kept_apart_though_one_off_statements_came_first() {
    let latency = Latency::new(5);
    for n in 0..100 {
        latency.record(&observation(&format!("one-off {n}"), Verdict::Match));
    }
    for _ in 0..50 {
        latency.record(&observation("load", Verdict::Match));
    }
    let items = latency.items(None);
    assert_eq!(items[1]["fingerprint"], "load");
    assert!(items[1]["count"].as_u64() > Some(45), "{}", items[1]);
    let counts = items.iter().filter_map(|item| item["count"].as_u64());
    assert_eq!(counts.sum::<u64>(), 150);
    let times = items[0]["legacy"]["count"].as_u64();
    assert_eq!(
        times,
        items[0]["count"].as_u64(),
        "their times go with them"
    );
}

#[test]
fn a_command_whose_times_are_not_known_is_counted_and_not_timed() {
    let latency = Latency::new(10);
    latency.record(&observation("a", Verdict::Match));
    let mut dropped = observation("a", Verdict::NotCompared(Reason::Dropped));
    dropped.primary.first_byte_us = None;
    dropped.primary.latency_us = None;
    dropped.shadow = None;
    latency.record(&dropped);
    let item = &latency.items(None)[0];
    assert_eq!(item["count"], 2);
    assert_eq!(item["legacy"]["count"], 1);
    assert!(item["legacy"]["p50"].as_u64() > Some(900));
}

#[test]
fn paces_are_of_what_ran_on_both_servers_often_enough() {
    let latency = Latency::new(10);
    for _ in 0..20 {
        let mut one = observation("a", Verdict::Match);
        one.shadow.as_mut().expect("it ran").latency_us = Some(5000);
        latency.record(&one);
        let mut alone = observation("b", Verdict::NotCompared(Reason::Off));
        alone.shadow = None;
        alone.primary.latency_us = Some(90_000);
        latency.record(&alone);
    }
    latency.record(&observation("c", Verdict::Match));
    let servers = ["legacy", "vitess"];
    let paces = latency.paces(servers, 20, 5);
    let names: Vec<_> = paces.iter().map(|one| one.fingerprint.as_deref()).collect();
    assert_eq!(names, [None, Some("a")]);
    assert!(paces[0].primary.max < 2000, "{:?}", paces[0]);
    assert_eq!(paces[1].tables, ["app.t"]);
    assert!(paces[1].shadow.p99 >= 4900 && paces[1].primary.p99 <= 1100);
    assert_eq!(latency.longer(&paces[1], "vitess", 2000), 20);
    assert_eq!(latency.longer(&paces[1], "vitess", 60_000), 0);
    assert_eq!(latency.paces(servers, 1, 0).len(), 1, "the class alone");
    let curves = latency.curves(servers, Byte::Last);
    assert_eq!(curves.len(), 2, "all, and the class");
    assert_eq!(curves[0].shadow.len(), SHARES.len());
    assert!(curves[0].shadow.is_sorted());
}

#[test]
fn what_was_slow_long_ago_is_forgotten() {
    let latency = Latency::new(10);
    let servers = ["legacy", "vitess"];
    let record = |us, times| {
        for _ in 0..times {
            let mut one = observation("a", Verdict::Match);
            one.shadow.as_mut().expect("it ran").latency_us = Some(us);
            latency.record(&one);
        }
    };
    let slowest = || {
        let paces = latency.paces(servers, 1, 5);
        assert_eq!(paces.len(), 2, "the class and the statement");
        paces.iter().map(|pace| pace.shadow.p99).max()
    };
    record(90_000, 50);
    latency.turn(servers, 5, Duration::ZERO);
    assert!(
        slowest() > Some(80_000),
        "there is no window before this one"
    );
    record(2_000, 50);
    assert!(slowest() > Some(80_000), "at most one window ago");
    latency.turn(servers, 5, Duration::ZERO);
    assert!(slowest() < Some(2_100), "{:?}", slowest());
    latency.turn(servers, 5, Duration::from_secs(3_600));
    assert_eq!(
        latency.paces(servers, 50, 5).len(),
        2,
        "it was not time to turn"
    );
    assert_eq!(
        latency.items(None)[0]["vitess"]["count"],
        100,
        "the list forgets nothing"
    );
}

#[test]
fn a_server_that_failed_alone_is_not_timed() {
    let latency = Latency::new(10);
    let error = || Some((1235, "42000".to_owned(), "unsupported".to_owned()));
    for (primary, shadow) in [(None, error()), (error(), None), (error(), error())] {
        let mut one = observation("a", Verdict::Match);
        one.primary.error = primary;
        one.shadow.as_mut().expect("it ran").error = shadow;
        latency.record(&one);
    }
    let item = &latency.items(None)[0];
    assert_eq!(item["count"], 3);
    assert_eq!(
        (&item["legacy"]["count"], &item["vitess"]["count"]),
        (&json!(2), &json!(2))
    );
}

#[test]
fn text_and_prepared_are_timed_apart() {
    let latency = Latency::new(10);
    let mut one = observation("a", Verdict::Match);
    latency.record(&one);
    one.protocol = Protocol::Prepared;
    latency.record(&one);
    let items = latency.items(Some("a"));
    assert_eq!(items.len(), 2);
    assert_ne!(items[0]["protocol"], items[1]["protocol"]);
}

#[test]
fn one_fingerprint_is_found_by_text_and_by_digest() {
    let latency = Latency::new(10);
    latency.record(&observation("a", Verdict::Match));
    latency.record(&observation("b", Verdict::Match));
    let digest = format!("{:016x}", observation("b", Verdict::Match).digest);
    for name in ["b", digest.as_str()] {
        let items = latency.items(Some(name));
        assert_eq!(items.len(), 1, "{name}");
        assert_eq!(items[0]["fingerprint"], "b");
    }
}

#[test]
fn after_a_cutover_each_server_is_held_against_itself() {
    let latency = Latency::new(10);
    let record = |primary: &str, shadow: &str, times| {
        for _ in 0..times {
            let mut one = observation("a", Verdict::Match);
            for (side, name) in [
                (Some(&mut one.primary), primary),
                (one.shadow.as_mut(), shadow),
            ] {
                let side = side.expect("it ran");
                side.server = name.into();
                side.latency_us = Some(if name == "vitess" { 90_000 } else { 1_000 });
            }
            latency.record(&one);
        }
    };
    record("legacy", "vitess", 50);
    for _ in 0..2 {
        latency.turn(["legacy", "vitess"], 5, Duration::ZERO);
    }
    record("vitess", "legacy", 7);
    let paces = latency.paces(["vitess", "legacy"], 1, 5);
    let [_, statement] = &*paces else {
        panic!("the class and the statement: {paces:?}")
    };
    assert_eq!(statement.samples, 7, "of before nothing counts");
    assert!(statement.primary.p50 > 80_000 && statement.shadow.p50 < 1_100);
}

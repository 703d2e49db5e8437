//! Who belongs to a fleet: one that comes late serves with the primary of now; one that is dead stands in
//! the way of every cutover until it is back or forgotten; one that is stopped leaves by itself.

use super::scene::{Fleet, Settings};
use crate::lab::checker::{Report, assert_none};
use crate::lab::cutover::scene::{primary, until_state, why};
use crate::lab::{Lab, Proxy};
use serde_json::Value;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_comes_late_serves_with_the_primary_of_now() {
    let mut fleet = Fleet::open(&Settings {
        late: 1,
        ..Settings::default()
    })
    .await;
    assert_eq!(fleet.etcd.members(), ["a", "b"]);
    fleet.flip(0, "vitess").await;
    // Its config says legacy, and its ledger nothing.
    fleet.join().await;
    let late = fleet.at("c");
    assert_eq!(primary(&fleet.members[late].proxy), "vitess");
    assert_eq!(fleet.etcd.members(), ["a", "b", "c"]);
    fleet.until_ready().await;
    fleet.flip(late, "legacy").await;
    let report = fleet.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_dead_stands_in_the_way_until_it_is_forgotten_and_one_that_is_stopped_leaves() {
    let mut fleet = Fleet::open(&Settings {
        cutover: "hold_ms_max = 2000",
        reconnects: true,
        ..Settings::default()
    })
    .await;
    let (a, b, c) = (fleet.at("a"), fleet.at("b"), fleet.at("c"));
    // A clean stop: nobody has to be told.
    fleet.rest(c).await;
    let stopped = &mut fleet.members[c];
    stopped.is_away = true;
    stopped.proxy.signal("TERM");
    let code = stopped.proxy.exit_code(Duration::from_secs(60));
    assert_eq!(code, Some(0), "{}", stopped.proxy.log());
    assert_eq!(fleet.etcd.members(), ["a", "b"]);
    fleet.flip(b, "vitess").await;
    // A death: it may be serving somebody, for all that others know.
    fleet.members[b].proxy.signal("KILL");
    fleet.members[b].is_away = true;
    tokio::time::sleep(Duration::from_secs(1)).await;
    is_in_the_way(&fleet, a, "b").await;
    assert_eq!(fleet.etcd.members(), ["a", "b"]);
    let (output, said) = fleet.understudy(a, &["fleet", "forget", "nobody"]);
    assert!(
        !output.status.success() && said.contains("nobody"),
        "{said}"
    );
    let (output, said) = fleet.understudy(a, &["fleet", "forget", "b"]);
    assert!(output.status.success(), "{said}");
    assert_eq!(fleet.etcd.members(), ["a"]);
    // What waited in it for the shadow is lost, whatever tables that was of.
    let (status, answer) = fleet.ask(a, "legacy");
    let said = answer.to_string();
    assert_eq!(status, 409, "{said}");
    assert!(names(&said, "b") && said.contains("dark writes"), "{said}");
    assert!(
        fleet.tainted()[0].contains("the proxy b"),
        "{:?}",
        fleet.tainted()
    );
    fleet.rest(a).await;
    fleet.members[a].proxy.settled();
    fleet.make_equal("vitess").await;
    fleet.flip(a, "legacy").await;
    // It was primary's shadow when it died, and is not any more.
    let back = &mut fleet.members[b];
    back.proxy.start_again();
    back.is_away = false;
    assert_eq!(primary(&back.proxy), "legacy");
    assert_eq!(fleet.etcd.members(), ["a", "b"]);
    let agreed = fleet.until_agreed().await;
    assert_eq!(agreed, "legacy");
    // It says itself what it may have lost.
    assert!(fleet.tainted()[0].contains("gap"), "{:?}", fleet.tainted());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let reports = fleet.stop_working().await;
    assert_none("clients of a saw errors", &reports[a].errors());
    assert_none("clients of c saw errors", &reports[c].errors());
    assert!(reports[b].broken() > 0, "the kill was seen");
    let report = Report::joined(reports);
    let wrong = report.verify(&fleet.lab.legacy()).await;
    assert_none("legacy, the primary, is wrong", &wrong);
    assert_none("a client had a wrong answer", &report.wrong());
    // What only its ledger knows does not go with it.
    let back = &mut fleet.members[b];
    back.is_away = true;
    back.proxy.signal("TERM");
    assert_eq!(back.proxy.exit_code(Duration::from_secs(60)), Some(0));
    assert_eq!(fleet.etcd.members(), ["a"]);
    let lost = fleet.members[a].proxy.get("/api/v1/fleet")["lost"].clone();
    assert!(lost["b"]["why"].is_string(), "{lost}");
    let (status, answer) = fleet.ask(a, "vitess");
    assert!(
        status == 409 && names(&answer.to_string(), "b"),
        "{answer:#}"
    );
    fleet.leave().await;
}

/// It refuses or aborts, and names the one that is dead; production goes on.
async fn is_in_the_way(fleet: &Fleet, asked: usize, dead: &str) {
    let proxy = &fleet.members[asked].proxy;
    let before = primary(proxy);
    let (status, answer) = fleet.ask(asked, "legacy");
    let said = match status {
        202 => {
            let ends = ["aborted", "soaking", "done"];
            let cutover = until_state(proxy, &["aborted"], Duration::from_secs(90)).await;
            assert!(ends.contains(&cutover["state"].as_str().unwrap_or("")));
            why(&cutover["record"])
        }
        _ => answer.to_string(),
    };
    assert!(names(&said, dead), "it names {dead}: {status} {said}");
    assert_eq!(primary(proxy), before);
    assert_eq!(fleet.until_agreed().await, before);
}

/// Whether a proxy is named: its name is a word, and any text has its letter.
fn names(said: &str, name: &str) -> bool {
    said.split(|letter: char| !letter.is_alphanumeric())
        .any(|word| word == name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_has_no_fleet_says_so() {
    let proxy = Proxy::start(&Lab::get());
    let request = ureq::get(format!("{}/api/v1/fleet", proxy.admin));
    let request = request.config().http_status_as_error(false).build();
    let mut answer = request.call().expect("an answer");
    let said: Value = answer.body_mut().read_json().expect("JSON");
    assert_eq!(answer.status().as_u16(), 404, "{said}");
    let message = said["error"]["message"].as_str().unwrap_or("");
    assert!(message.contains("[fleet]"), "{said}");
}

#[test]
fn a_name_is_a_word_of_its_own() {
    assert!(names("no word of b, which is registered", "b"));
    assert!(names("\"b\" did not answer", "b"));
    assert!(!names("it was not able to", "b"));
}

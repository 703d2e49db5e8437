//! Flips to and fro, each asked of another proxy, under load through all of them: no client sees an
//! error, nothing is lost or doubled, both sides are equal in the end, and all name one primary. And two
//! that are asked at once: one passes.

use super::scene::{Fleet, NAMES, Settings};
use crate::lab::checker::assert_none;
use crate::lab::cutover::number;
use crate::lab::cutover::scene::hold_us;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_asked_all_flip_together_and_no_client_sees_an_error() {
    let (flips, rest) = (number("FLEET_FLIPS", 5), number("FLEET_REST_S", 2));
    // Dark writes to the old primary flow past its fence.
    let settings = Settings {
        is_fenced: true,
        ..Settings::default()
    };
    let fleet = Fleet::open(&settings).await;
    assert_eq!(fleet.etcd.members(), NAMES);
    tells_of_itself(&fleet);
    let mut longest = [0; NAMES.len()];
    for turn in 0..usize::try_from(flips).expect("few") {
        tokio::time::sleep(Duration::from_secs(u64::from(rest))).await;
        let to = if turn % 2 == 0 { "vitess" } else { "legacy" };
        let leader = turn % NAMES.len();
        let records = fleet.flip(leader, to).await;
        let holds: Vec<u64> = records.iter().map(hold_us).collect();
        let asked = NAMES[leader];
        println!(
            "flip {:>2} to {to:<7} asked of {asked}: hold_us {holds:?}",
            turn + 1
        );
        for (at, hold) in holds.into_iter().enumerate() {
            longest[at] = hold.max(longest[at]);
            let who = records[at]["who"].to_string();
            let led = who.contains(&format!("proxy {asked}"));
            assert!(at == leader || led, "{who}: {:#}", records[at]);
        }
    }
    for (at, longest) in longest.into_iter().enumerate() {
        let longest = Duration::from_micros(longest);
        println!("the longest hold at {}: {longest:?}", NAMES[at]);
    }
    let report = fleet.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

/// `GET /api/v1/fleet` and the command line.
fn tells_of_itself(fleet: &Fleet) {
    for (at, name) in NAMES.iter().enumerate() {
        let told = fleet.members[at].proxy.get("/api/v1/fleet");
        assert_eq!(told["name"], *name, "{told:#}");
        assert_eq!(told["etcd"]["reachable"], true, "{told:#}");
        assert_eq!(told["primary"], "legacy", "{told:#}");
        assert!(told["cutover"].is_null(), "{told:#}");
        let members = told["members"].as_array().expect("members");
        let named: Vec<&str> = members.iter().filter_map(|m| m["name"].as_str()).collect();
        assert_eq!(named, NAMES, "{told:#}");
        let (output, said) = fleet.understudy(at, &["fleet"]);
        assert!(output.status.success(), "{said}");
        for name in NAMES.iter().chain(&["legacy"]) {
            assert!(said.contains(name), "{name}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_are_asked_at_once_one_passes() {
    // Long enough that the other's answer cannot be of the time after it.
    let settings = Settings {
        pause: "checking:300".into(),
        ..Settings::default()
    };
    let fleet = Fleet::open(&settings).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = |leader: usize| {
        let url = format!("{}/api/v1/cutover", fleet.members[leader].proxy.admin);
        std::thread::spawn(move || {
            let request = ureq::post(&url)
                .config()
                .http_status_as_error(false)
                .build();
            let mut answer = request
                .send_json(json!({"to": "vitess"}))
                .expect("an answer");
            let said = answer.body_mut().read_to_string().unwrap_or_default();
            (answer.status().as_u16(), said)
        })
    };
    let both = [asked(0), asked(1)].map(|thread| thread.join().expect("it ends"));
    let mut statuses = both.each_ref().map(|(status, _)| *status);
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 409], "{both:#?}\n{:#}", fleet.standing());
    let agreed = fleet.until_agreed().await;
    assert_eq!(agreed, "vitess", "{:#}", fleet.standing());
    let report = fleet.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

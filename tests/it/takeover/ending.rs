//! Where one of both processes is told to end while one takes over from the other: both do, the old one last.

use super::played::Played;
use super::process::{House, Process, until};
use super::server::Client;
use super::{PATIENCE, number, same_on_both};
use serde_json::json;
use std::os::unix::net::UnixDatagram;

#[test]
fn told_to_end_meanwhile_both_end_and_nothing_is_lost() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    let mut new: Process = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    let mut comes = Client::connect(&house.address).expect("a session");
    stays
        .query("INSERT INTO app.old VALUES (1)")
        .expect("it is done");
    comes
        .query("INSERT INTO app.new VALUES (2)")
        .expect("it is done");
    new.signal("TERM");
    assert!(stays.is_closed() && comes.is_closed());
    assert_eq!((old.exit_code(), new.exit_code()), (Some(0), Some(0)));
    same_on_both(&house);
    assert_eq!(house.owner(), "clean");
}

#[test]
fn the_old_one_told_to_end_meanwhile_both_end_and_it_is_the_last() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    let mut new = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    let mut comes = Client::connect(&house.address).expect("a session");
    for (client, table) in [(&mut stays, "old"), (&mut comes, "new")] {
        let text = format!("INSERT INTO app.{table} VALUES (1)");
        client.query(&text).expect("it is done");
    }
    // As systemctl stop does, and a supervisor that knows this one alone: its end is the service's.
    old.signal("TERM");
    assert!(stays.is_closed() && comes.is_closed());
    assert_eq!(old.exit_code(), Some(0));
    assert!(!new.is_alive(), "it has ended before");
    assert_eq!(new.exit_code(), Some(0));
    same_on_both(&house);
    assert_eq!(house.owner(), "clean");
}

/// Finding: SIGTERM was swallowed, and at the old one's end systemd killed the new one with all its clients.
#[test]
fn the_old_one_told_to_end_behind_its_last_session_both_end_and_it_is_the_last() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    let mut new = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    let mut comes = Client::connect(&house.address).expect("a session");
    house.shadow.set_hangs(true);
    for (client, table) in [(&mut stays, "old"), (&mut comes, "new")] {
        let text = format!("INSERT INTO app.{table} VALUES (1)");
        client.query(&text).expect("it is done");
    }
    stays.quit().expect("it leaves");
    old.says("every session has ended");
    old.signal("TERM");
    assert!(comes.is_closed());
    house.shadow.set_hangs(false);
    assert_eq!(old.exit_code(), Some(0), "{}", old.log());
    assert!(!new.is_alive(), "it has ended before");
    assert_eq!(new.exit_code(), Some(0), "{}", new.log());
    same_on_both(&house);
    assert_eq!(house.owner(), "clean");
}

/// Finding: the first SIGTERM counted as the second.
#[test]
fn the_old_one_told_to_end_while_its_last_sessions_drain_cuts_nobody_off() {
    let house = House::new("handover_s = 1");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    stays.query("BEGIN").expect("it is done");
    let mut new = house.start("new", &["--take-over"]);
    old.says("or their time is up: it ends");
    old.signal("TERM");
    old.says("the process that has taken over ends, too");
    for text in ["INSERT INTO app.t VALUES (1)", "COMMIT"] {
        stays.query(text).expect("it goes on to its boundary");
    }
    assert!(stays.is_closed());
    assert_eq!((old.exit_code(), new.exit_code()), (Some(0), Some(0)));
    assert!(!old.log().contains("cut off"), "{}", old.log());
    same_on_both(&house);
}

/// Finding: each counted with its own, and systemd's patience ended before the other's drain did.
#[test]
fn where_their_drains_differ_both_count_with_the_longer_one() {
    let house = House::new("");
    let ear = UnixDatagram::bind(house.file("notify")).expect("a socket");
    ear.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut old = house.serving();
    let stays = Client::connect(&house.address).expect("a session");
    let config = std::fs::read_to_string(house.file("understudy.toml")).expect("the config");
    let longer = config.replace("drain_timeout_s = 5", "drain_timeout_s = 500");
    std::fs::write(house.file("understudy.toml"), longer).expect("it is written");
    let mut new = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    old.signal("TERM");
    let mut buffer = [0; 1024];
    let at_most = loop {
        let length = ear.recv(&mut buffer).expect("it is said in time");
        let words = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if words.contains("STOPPING=1") {
            break number(&words, "EXTEND_TIMEOUT_USEC=");
        }
    };
    assert!(at_most >= 500_000_000, "{at_most}");
    drop(stays);
    assert_eq!((old.exit_code(), new.exit_code()), (Some(0), Some(0)));
}

#[test]
fn the_new_one_dies_while_both_end_and_the_old_one_does_not_serve_again() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    stays.query("BEGIN").expect("it is done");
    let mut played = Played::serving(&house);
    played.says(&json!("end"));
    until("both end", || house.get("/readyz").is_err());
    drop(played);
    stays.query("COMMIT").expect("it goes on to its boundary");
    assert!(stays.is_closed());
    assert_eq!(old.exit_code(), Some(0));
    assert!(
        !old.log().contains("accepts clients again"),
        "{}",
        old.log()
    );
    let mut next = house.serving();
    let taints = house.taints();
    assert!(
        taints.iter().any(|taint| taint["table"] == "*"),
        "{taints:?}"
    );
    next.signal("TERM");
    assert_eq!(next.exit_code(), Some(0));
}

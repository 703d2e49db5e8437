//! Where one of both processes fails: dies, hangs, or says what nobody understands.

use super::elder::Elder;
use super::played::Played;
use super::process::{House, until};
use super::server::Client;
use super::{Load, is_owner, stays};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn where_the_new_process_dies_the_old_one_goes_on() {
    let house = House::new("");
    let mut old = house.serving();
    let load = Load::start(2, stays, &house);
    // Before it has said that it can serve: nobody notices.
    let mut played = Played::hello(&house);
    let offer = played.hears();
    assert_eq!(offer["offer"]["primary"], "legacy", "{offer}");
    drop(played);
    old.says("was not handed over to: it ended before it could serve");
    assert_eq!(house.taints(), Vec::<Value>::new());
    Client::connect(&house.address)
        .expect("it accepts")
        .quit()
        .expect("it leaves");
    // After it: whoever comes meanwhile waits for a moment.
    let played = Played::serving(&house);
    let address = house.address.clone();
    let waits = std::thread::spawn(move || Client::connect(&address).and_then(Client::quit));
    until("it is handed over", || {
        let status = house.get("/api/v1/status").expect("the status");
        !status["handover"].is_null()
    });
    drop(played);
    old.says("this one accepts clients again");
    waits.join().expect("no panic").expect("it was served");
    let taints = house.taints();
    assert_eq!(taints.len(), 1, "{taints:?}");
    load.goes_on(10);
    load.end();
    // And it may hand over again.
    let mut new = house.start("new", &["--take-over"]);
    assert_eq!(old.exit_code(), Some(0));
    is_owner(&house, new.id());
    new.signal("TERM");
    assert_eq!(new.exit_code(), Some(0));
}

/// Finding: all tables were tainted though nobody had been served.
#[test]
fn where_the_new_process_never_heard_that_it_may_serve_nothing_is_tainted() {
    let house = House::new("");
    let mut old = house.serving();
    let _stays = Client::connect(&house.address).expect("a session");
    let mut played = Played::hello(&house);
    played.hears();
    played.is_deaf();
    played.says(&json!("ready"));
    old.says("did not hear so");
    played.is_killed();
    Client::connect(&house.address)
        .expect("it accepts")
        .quit()
        .expect("it leaves");
    assert_eq!(house.taints(), Vec::<Value>::new());
    old.signal("TERM");
    assert_eq!(old.exit_code(), Some(0));
}

/// Finding: the old one served again beside a new one that lived.
#[test]
fn a_new_process_that_is_not_understood_is_dead_before_the_old_one_serves_again() {
    let house = House::new("");
    let mut old = house.serving();
    let _stays = Client::connect(&house.address).expect("a session");
    let mut played = Played::serving(&house);
    played.says_raw("{");
    old.says("this one accepts clients again");
    played.is_killed();
    assert!(old.log().contains("cannot be understood"), "{}", old.log());
    Client::connect(&house.address)
        .expect("it accepts")
        .quit()
        .expect("it leaves");
    assert_eq!(house.taints().len(), 1);
    old.signal("TERM");
    assert_eq!(old.exit_code(), Some(0));
}

#[test]
fn a_process_that_hangs_behind_the_word_is_ended_and_the_old_one_serves_again() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    let mut new = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    new.signal("STOP");
    old.says("hangs: it is ended");
    old.says("this one accepts clients again");
    assert_eq!(new.exit_code(), None, "it was killed");
    Client::connect(&house.address)
        .expect("it accepts")
        .quit()
        .expect("it leaves");
    stays
        .query("INSERT INTO app.t VALUES (1)")
        .expect("it goes on");
    assert_eq!(house.taints().len(), 1);
    old.signal("TERM");
    assert_eq!(old.exit_code(), Some(0));
}

/// Finding: it went on for twelve minutes, with the old one serving again beside it.
#[test]
fn a_new_process_does_not_serve_beside_an_old_one_that_closed_and_lives() {
    let house = House::new("");
    let elder = Elder::start(&house);
    let mut new = house.start("new", &["--take-over"]);
    let talk = elder.hands_over();
    new.says("clients are served on");
    Client::connect(&house.address)
        .expect("it serves")
        .quit()
        .expect("it leaves");
    drop(talk);
    assert_eq!(new.exit_code(), Some(1));
    assert!(new.log().contains("and lives"), "{}", new.log());
}

/// Finding: nobody looked whether the new one hung while the old one brought up its mirror.
#[test]
fn a_new_process_that_hangs_while_the_old_one_ends_is_ended() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    house.shadow.set_hangs(true);
    let mut played = Played::serving(&house);
    stays
        .query("INSERT INTO app.t VALUES (1)")
        .expect("it is done");
    stays.quit().expect("it leaves");
    old.says("every session has ended");
    played.hangs();
    old.says("hangs while this one is ending: it is ended");
    played.is_killed();
    old.says("nobody serves until the next start");
    assert_eq!(old.exit_code(), Some(0), "{}", old.log());
    house.shadow.set_hangs(false);
}

/// Finding: nobody accepted for as long as the old one took to end, up to a minute.
#[test]
fn where_the_new_process_dies_while_the_old_one_ends_that_one_makes_way() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    house.shadow.set_hangs(true);
    let played = Played::serving(&house);
    stays
        .query("INSERT INTO app.t VALUES (1)")
        .expect("it is done");
    stays.quit().expect("it leaves");
    old.says("every session has ended");
    let since = std::time::Instant::now();
    drop(played);
    assert_eq!(old.exit_code(), Some(0), "{}", old.log());
    // It does not wait for the shadow: CATCH_UP alone is 30 s.
    assert!(since.elapsed() < Duration::from_secs(20), "{}", old.log());
    house.shadow.set_hangs(false);
    let mut next = house.start("next", &[]);
    is_owner(&house, next.id());
    // What the clients of the one that died wrote, nobody knows.
    let taints = house.taints();
    assert!(
        taints.iter().any(|taint| taint["table"] == "*"),
        "{taints:?}"
    );
    next.signal("TERM");
    assert_eq!(next.exit_code(), Some(0));
}

/// Finding: of tables that no mirror had written before, nothing was said.
#[test]
fn where_both_die_all_tables_are_tainted() {
    let house = House::new("");
    let mut old = house.serving();
    // Else it would be at its end at once, and the ledger be left to the new one.
    let _stays = Client::connect(&house.address).expect("a session");
    let played = Played::serving(&house);
    until("it is written down", || house.owner().starts_with("lent "));
    old.signal("KILL");
    assert_eq!(old.exit_code(), None);
    drop(played);
    let mut next = house.start("next", &["--take-over"]);
    is_owner(&house, next.id());
    let taints = house.taints();
    assert!(
        taints.iter().any(|taint| taint["table"] == "*"),
        "{taints:?}"
    );
    next.signal("TERM");
    assert_eq!(next.exit_code(), Some(0));
}

/// Finding: where the new one died with the ledger in its hands, what its clients had said before was lost in silence.
#[test]
fn where_the_new_one_dies_before_it_has_taken_in_what_was_said_all_tables_are_tainted() {
    let house = House::new("");
    let mut old = house.serving();
    let stays = Client::connect(&house.address).expect("a session");
    let mut new = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    let mut comes = Client::connect(&house.address).expect("a session");
    house.shadow.set_hangs(true);
    comes
        .query("INSERT INTO app.never_before VALUES (1)")
        .expect("it is done");
    stays.quit().expect("it leaves");
    assert_eq!(old.exit_code(), Some(0));
    until("the new one has the ledger", || {
        let status = house.get("/api/v1/status");
        status.is_ok_and(|status| {
            status["handover"].is_null() && status["mirror"]["waiting"].as_u64() > Some(0)
        })
    });
    // Some looks of its writer later it says so still.
    for _ in 0..10 {
        assert!(house.owner().starts_with("lent "), "{}", house.owner());
        std::thread::sleep(Duration::from_millis(100));
    }
    new.signal("KILL");
    assert_eq!(new.exit_code(), None);
    house.shadow.set_hangs(false);
    let mut next = house.start("next", &[]);
    is_owner(&house, next.id());
    let taints = house.taints();
    assert!(
        taints.iter().any(|taint| taint["table"] == "*"),
        "{taints:?}"
    );
    next.signal("TERM");
    assert_eq!(next.exit_code(), Some(0));
}

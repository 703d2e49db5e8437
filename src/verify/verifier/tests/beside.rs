//! What looks different is looked at again while the walk goes on.

use super::super::super::fake::world::{Data, World, ended, until, wish};
use super::Inspector;
use super::table;
use serde_json::json;
use std::time::Duration;

/// Finding: a walk stood still while a few rows were looked at again, and each two hundred of them were waited for anew.
#[test]
fn all_that_is_looked_at_again_is_waited_for_together() {
    let world = World::new(&[("t", Data::of(1_000))]);
    let mut state = world.state.lock();
    let rows = &mut state.table("other", "t").rows;
    rows.retain(|id, _| id % 2 == 1 || *id <= 100);
    drop(state);
    let process = world.process(|_| ());
    process.start(&wish(&[]), "dba").unwrap();
    let told = ended(&process);
    assert_eq!(
        table(&told)["differences"],
        json!({"missing": 450}),
        "{told:#}"
    );
    assert_eq!(*world.around.catch_ups.lock(), 3, "three rounds");
}

#[test]
fn a_walk_goes_on_beside_and_its_cursor_does_not() {
    let world = World::new(&[("t", Data::of(3_000))]);
    let mut state = world.state.lock();
    state.table("other", "t").rows.retain(|id, _| *id > 600);
    drop(state);
    // The shadow does not catch up in this process's time.
    *world.around.catches_up_in.lock() = Duration::from_secs(3_600);
    let process = world.process(|limits| limits.range_rows = 50);
    process.start(&wish(&[]), "dba").unwrap();
    until(&process, |told| table(told)["rows_primary"] == json!(3_000));
    process.leave();
    let left = world.left();
    let read = left.first().and_then(|one| one.cursor.clone());
    assert!(read.is_none_or(|cursor| !cursor.contains("\"rows_primary\":3000")));
    // The next one meets all of it.
    *world.around.catches_up_in.lock() = Duration::ZERO;
    let process = world.process(|_| ());
    assert_eq!(process.go_on(), Some(1));
    let told = ended(&process);
    let one = table(&told);
    assert_eq!(
        (&one["differences"], &one["rows_primary"]),
        (&json!({"missing": 600}), &json!(3_000)),
        "{told:#}"
    );
}

/// Finding: behind an address of two servers the walk read one that had lost rows, and what looked different was looked
/// at again on the other, which had them.
#[test]
fn what_one_server_has_says_nothing_of_another_at_the_same_address() {
    let world = World::new(&[("t", Data::of(3_000))]);
    let mut state = world.state.lock();
    state.table("other", "t").rows.retain(|id, _| *id > 600);
    drop(state);
    let mut read = false;
    world.before(move |server, statement, state| {
        if server == "other" && super::is_range(statement) {
            read = true;
        } else if server == "other" && read && statement == crate::ask::IDENTITIES[0] {
            // Whoever connects from here on comes to its twin.
            state.identity.insert("other", "its twin".into());
            state.table("other", "t").rows = Data::of(3_000).rows;
        }
        None
    });
    let process = world.process(|limits| limits.range_rows = 50);
    process.start(&wish(&[]), "dba").unwrap();
    let told = ended(&process);
    let one = table(&told);
    assert_eq!(one["outcome"], "unfinished", "{told:#}");
    let why = one["not_covered"].to_string();
    let words = "first to uuid of other, then to its twin";
    assert!(
        why.contains(words) && why.contains("give the address of one"),
        "{why}"
    );
}

/// Finding: a row that was committed by a command which went on for longer than three looks was told as different.
#[test]
fn what_a_command_under_way_may_have_written_is_not_said_to_differ() {
    let world = World::new(&[("t", Data::of(300))]);
    world.state.lock().table("other", "t").rows.remove(&7);
    *world.around.under_way.lock() = Some("a command is under way".to_owned());
    let process = world.process(|limits| limits.settle = Duration::from_millis(500));
    process.start(&wish(&[]), "dba").unwrap();
    let told = ended(&process);
    let one = table(&told);
    assert_eq!(
        (&one["outcome"], &one["unsettled"], &one["why"]),
        (
            &json!("unfinished"),
            &json!(1),
            &json!("a command is under way")
        ),
        "{told:#}"
    );
}

/// What is the same after all is no difference, whether or not more came while it was looked at.
#[test]
fn a_cursor_is_kept_where_the_walk_stood_when_it_looked() {
    let world = World::new(&[("t", Data::of(4_000))]);
    let mut state = world.state.lock();
    state.table("other", "t").rows.retain(|id, _| *id > 500);
    drop(state);
    *world.around.catches_up_in.lock() = Duration::from_millis(300);
    // Each range takes a little, and after the first five hundred rows each has one that is not there.
    world.before(|server, statement, state| {
        if server == "legacy" && super::is_range(statement) {
            std::thread::sleep(Duration::from_millis(10));
            state.table("other", "t").rows.retain(|id, _| id % 50 != 7);
        }
        None
    });
    let process = world.process(|limits| {
        limits.range_rows = 50;
        limits.differences_max = 2_000;
    });
    process.start(&wish(&[]), "dba").unwrap();
    until(&process, |told| {
        table(told)["differences"]["missing"].as_u64() >= Some(500)
    });
    process.leave();
    let left = world.left();
    let cursor = left.first().and_then(|one| one.cursor.clone());
    let cursor = cursor.expect("it was kept, though more waits");
    assert!(cursor.contains("\"missing\":500"), "{cursor}");
    world.before(|_, _, _| None);
    *world.around.catches_up_in.lock() = Duration::ZERO;
    let process = world.process(|limits| limits.differences_max = 2_000);
    assert_eq!(process.go_on(), Some(1));
    let told = ended(&process);
    let one = table(&told);
    assert_eq!(one["rows_primary"], json!(4_000), "{told:#}");
    assert_eq!(one["differences"], json!({"missing": 570}), "{told:#}");
}

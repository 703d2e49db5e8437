//! Repairs between two fake servers: when they are written, and when not.

use super::super::fake::Say;
use super::super::fake::world::{Data, World, ended, wish};
use super::super::{Inspector, NoPlace, Refused, Wish};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Ten rows, of which the shadow has the third otherwise, and what is written there is taken.
fn world() -> World {
    let world = World::new(&[("t", Data::of(10))]);
    world
        .state
        .lock()
        .table("other", "t")
        .rows
        .insert(3, "wrong".into());
    taking(&world, |_, _, _| ());
    world
}

/// Takes writes to `v` on the shadow, once a test has had its look at a statement.
fn taking(
    world: &World,
    mut look: impl FnMut(&str, &str, &mut super::super::fake::world::State) + Send + 'static,
) {
    world.before(move |server, statement, state| {
        look(server, statement, state);
        if ["BEGIN", "COMMIT", "ROLLBACK"].contains(&statement) {
            return Some(Say::Done);
        }
        let set = statement.strip_prefix("UPDATE `app`.`t` SET `v` = x'")?;
        let (hex, rest) = set.split_once('\'').unwrap();
        let id = rest
            .strip_prefix(" WHERE `id` = ")
            .unwrap()
            .parse()
            .unwrap();
        let bytes = hex.as_bytes().chunks(2);
        let bytes =
            bytes.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap());
        let value = String::from_utf8(bytes.collect()).unwrap();
        assert_eq!(server, "other", "the primary was written to");
        state.table("other", "t").rows.insert(id, value);
        Some(Say::Met(1))
    });
}

fn repairing() -> Wish {
    Wish {
        repair: Some("apply".to_owned()),
        ..wish(&["app.t"])
    }
}

fn repaired(world: &World) -> Value {
    let process = world.process(|_| ());
    process.start(&repairing(), "dba").unwrap();
    ended(&process)
}

fn writes(world: &World) -> usize {
    let asked = world.asked("other");
    asked.iter().filter(|one| one.starts_with("UPDATE")).count()
}

#[test]
fn a_repair_is_recorded_tainted_and_no_equality() {
    let world = world();
    let told = repaired(&world);
    let one = &told["run"]["tables"][0];
    assert_eq!(one["rows"][0]["repaired"], "done", "{told:#}");
    assert_eq!(
        (&one["repaired"], &one["outcome"]),
        (&json!(1), &json!("equal_in_part")),
        "{told:#}"
    );
    assert_eq!(world.state.lock().table("other", "t").rows[&3], "v3");
    let kept = world.records().repairs(1).unwrap();
    assert_eq!(kept.len(), 1);
    let statement = "UPDATE `app`.`t` SET `v` = x'7633' WHERE `id` = 3";
    assert_eq!(kept[0].statement.as_deref(), Some(statement));
    assert_eq!(
        (kept[0].server.as_str(), kept[0].outcome.as_deref()),
        ("other", Some("done"))
    );
    assert_eq!(world.around.places.lock().tainted, ["t"]);
    assert!(
        world.around.verified.lock().is_empty(),
        "not before it is read again"
    );
    assert_eq!(repaired(&world)["run"]["outcome"], "equal");
    assert_eq!(*world.around.verified.lock(), ["t"]);
}

/// Finding: a repair took whichever server was the shadow at that moment.
#[test]
fn it_asks_for_a_place_on_its_own_shadow_and_writes_nothing_without_one() {
    let world = world();
    world.around.places.lock().refused = Some(NoPlace::Never("legacy is the shadow now".into()));
    let told = repaired(&world);
    let said = &told["run"]["tables"][0]["rows"][0]["repaired"];
    assert_eq!(said, "not repaired: legacy is the shadow now", "{told:#}");
    assert_eq!(told["run"]["outcome"], "different");
    assert_eq!(world.around.places.lock().asked, ["t on other"]);
    assert_eq!(writes(&world), 0);
    assert!(
        world.around.places.lock().tainted.is_empty(),
        "nothing was about to be written"
    );
}

#[test]
fn a_place_that_is_none_any_more_is_not_written_in() {
    let world = world();
    world.around.places.lock().lost = Some("a cutover is under way".into());
    let told = repaired(&world);
    assert_eq!(told["run"]["tables"][0]["repaired"], 1, "{told:#}");
    let asked = world.around.places.lock().asked.len();
    assert_eq!((asked, writes(&world)), (2, 1), "in the second place alone");
}

/// A commit between the two looks comes to the shadow by itself, behind the place.
#[test]
fn a_row_that_was_written_between_the_looks_is_looked_at_again() {
    let world = world();
    let places = Arc::clone(&world.around);
    let done = Mutex::new(false);
    taking(&world, move |server, statement, state| {
        let in_place = !places.places.lock().asked.is_empty();
        let mut done = done.lock();
        if server == "legacy" && statement.contains(" IN (") && in_place && !*done {
            *done = true;
            state.table("legacy", "t").rows.insert(3, "newer".into());
        }
    });
    let told = repaired(&world);
    assert_eq!(told["run"]["tables"][0]["repaired"], 1, "{told:#}");
    assert_eq!(
        (world.around.places.lock().asked.len(), writes(&world)),
        (2, 1)
    );
    assert_eq!(world.state.lock().table("other", "t").rows[&3], "newer");
}

/// Finding: a connection that failed in the midst of an answer was asked again.
#[test]
fn a_reader_that_failed_in_a_repair_is_not_used_again() {
    let world = world();
    let probe = world.clone();
    let failed = Arc::new(Mutex::new(None));
    let at = Arc::clone(&failed);
    world.before(move |server, statement, state| {
        let in_place = !probe.around.places.lock().asked.is_empty();
        let mut at = at.lock();
        if server == "legacy" && statement.contains(" IN (") && in_place && at.is_none() {
            *at = Some(probe.asked("legacy").len());
            return Some(Say::Refuse(1317));
        }
        if ["BEGIN", "COMMIT", "ROLLBACK"].contains(&statement) {
            return Some(Say::Done);
        }
        statement.starts_with("UPDATE").then(|| {
            state.table("other", "t").rows.insert(3, "v3".into());
            Say::Met(1)
        })
    });
    let told = repaired(&world);
    assert_eq!(told["run"]["tables"][0]["repaired"], 1, "{told:#}");
    let at = failed.lock().unwrap();
    let behind = &world.asked("legacy")[at..];
    assert!(
        behind[0].starts_with("SET "),
        "another connection is opened first: {behind:?}"
    );
}

/// Finding: 200 rows of 500 KB took a gigabyte, and every look at the run copied it.
#[test]
fn a_plan_is_told_up_to_its_bytes_and_counts_on() {
    let world = World::new(&[("t", Data::of(10))]);
    for id in 1..=10 {
        let mut state = world.state.lock();
        state
            .table("legacy", "t")
            .rows
            .insert(id, "x".repeat(1 << 20));
    }
    let plan = Wish {
        repair: Some("plan".to_owned()),
        ..repairing()
    };
    // A busy machine takes its time for 20 MiB.
    let process = world.process(|limits| limits.settle = Duration::from_secs(300));
    process.start(&plan, "dba").unwrap();
    let told = ended(&process);
    let one = &told["run"]["tables"][0];
    assert_eq!(one["differences"], json!({"changed": 10}));
    let rows = one["rows"].as_array().unwrap();
    let said: Vec<&str> = rows
        .iter()
        .map(|row| row["repair"].as_str().unwrap())
        .collect();
    let statements = said.iter().filter(|one| one.starts_with("UPDATE"));
    let bytes: usize = statements.clone().map(|one| one.len()).sum();
    assert!(bytes > 0 && bytes <= 4 << 20, "{bytes}");
    let untold = said.iter().filter(|one| one.contains("is not told"));
    assert_eq!(untold.count() + statements.count(), 10);
}

/// Finding: the statements of a plan, with all that its rows hold, were told to whoever may look, and a run's condition
/// was kept with its values, whatever the config says of literals.
#[test]
fn where_the_ledger_keeps_no_literals_a_plan_is_told_to_operators_alone() {
    let mut world = world();
    world.tells_keys = false;
    let plan = Wish {
        repair: Some("plan".to_owned()),
        condition: Some("v <> 'alice@x'".to_owned()),
        ..repairing()
    };
    let process = world.process(|_| ());
    process.start(&plan, "dba").unwrap();
    let whole = ended(&process);
    let repair = |told: &Value| told["run"]["tables"][0]["rows"][0]["repair"].to_string();
    assert!(repair(&whole).contains("UPDATE `app`.`t`"), "{whole:#}");
    let row = &whole["run"]["tables"][0]["rows"][0];
    assert_eq!(row["columns"], json!(["v"]));
    assert_eq!((&row["primary"], &row["shadow"]), (&json!([]), &json!([])));
    let part = process.standing(false);
    let hidden = repair(&part);
    assert!(
        hidden.contains("the role operator") && !hidden.contains("UPDATE"),
        "{hidden}"
    );
    let history = json!(process.history(5).unwrap());
    for told in [whole, part, history] {
        let told = told.to_string();
        assert!(told.contains("v <> ?") && !told.contains("alice"), "{told}");
    }
    assert!(
        world
            .asked("legacy")
            .iter()
            .any(|one| one.contains("(v <> 'alice@x')"))
    );
    // Where it keeps them, everybody is told.
    world.tells_keys = true;
    let process = world.process(|_| ());
    process.start(&plan, "dba").unwrap();
    ended(&process);
    let told = process.standing(false);
    assert!(repair(&told).contains("UPDATE `app`.`t`"), "{told:#}");
    assert_eq!(told["run"]["where"], "v <> 'alice@x'");
}

/// It is needed until the run ends, and no longer.
#[test]
fn a_condition_without_its_values_is_gone_on_with_as_it_was_written() {
    let mut world = world();
    world.tells_keys = false;
    *world.around.holds.lock() = Some("production is slow".to_owned());
    let asked = Wish {
        condition: Some("v <> 'alice@x'".to_owned()),
        ..wish(&["app.t"])
    };
    let process = world.process(|_| ());
    process.start(&asked, "dba").unwrap();
    process.leave();
    let left = world.records().left("legacy", "other").unwrap().unwrap();
    assert_eq!(left.wish["where"], "v <> ?");
    assert_eq!(left.condition, asked.condition);
    *world.around.holds.lock() = None;
    let process = world.process(|_| ());
    assert_eq!(process.go_on(), Some(1));
    assert_eq!(ended(&process)["run"]["where"], "v <> ?");
    assert!(
        world
            .asked("legacy")
            .iter()
            .any(|one| one.contains("(v <> 'alice@x')"))
    );
    let kept = world.records().runs(1).unwrap();
    assert_eq!(kept[0].condition, None);
}

/// Finding: two proxies without a fleet repaired and mirrored at once.
#[test]
fn where_others_are_seen_to_write_nothing_is_repaired_unless_forced() {
    let world = world();
    *world.around.others.lock() = vec!["shop at 10.0.0.2".to_owned()];
    let told = repaired(&world);
    assert_eq!(told["run"]["outcome"], "failed", "{told:#}");
    let why = told["run"]["why"].as_str().unwrap();
    assert!(why.contains("shop at 10.0.0.2 wrote to legacy"), "{why}");
    assert_eq!(writes(&world), 0);
    let process = world.process(|_| ());
    let forced = Wish {
        force: true,
        ..repairing()
    };
    process.start(&forced, "dba").unwrap();
    let told = ended(&process);
    assert_eq!(told["run"]["tables"][0]["repaired"], 1, "{told:#}");
    let notes = told["run"]["notes"].to_string();
    assert!(notes.contains("is not known here"), "{told:#}");
}

#[test]
fn where_nothing_can_be_repaired_none_begins() {
    let world = world();
    world.around.places.lock().never = Some("other proxies of the fleet write, too".into());
    let refused = world.process(|_| ()).start(&repairing(), "dba");
    let why = "nothing can be repaired: other proxies of the fleet write, too";
    assert_eq!(refused, Err(Refused::NotNow(why.to_owned())));
    let plan = Wish {
        repair: Some("plan".to_owned()),
        ..repairing()
    };
    let process = world.process(|_| ());
    process.start(&plan, "dba").unwrap();
    let told = ended(&process);
    let said = &told["run"]["tables"][0]["rows"][0]["repair"];
    assert_eq!(
        said, "UPDATE `app`.`t` SET `v` = x'7633' WHERE `id` = 3",
        "{told:#}"
    );
    assert_eq!(writes(&world), 0);
}

/// Finding: MySQL 5.6 did not find rows by a literal of their own, and the shadow's were deleted.
#[test]
fn what_the_primary_finds_in_other_words_is_not_taken_away() {
    let world = World::new(&[("t", Data::of(10))]);
    taking(&world, |server, statement, state| {
        if server == "legacy" {
            let rows = &mut state.table("legacy", "t").rows;
            if statement.contains("`id` >= '5'") {
                rows.insert(5, "v5".into());
            } else {
                rows.remove(&5);
            }
        }
    });
    let told = repaired(&world);
    let row = &told["run"]["tables"][0]["rows"][0];
    assert_eq!(row["how"], "extra", "{told:#}");
    let became = row["repaired"].to_string();
    assert!(became.contains("in other words"), "{told:#}");
    let asked = world.asked("other");
    assert!(
        !asked.iter().any(|one| one.starts_with("DELETE")),
        "{asked:#?}"
    );
}

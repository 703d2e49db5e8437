//! Runs in snapshot mode: what they must not say, and what becomes of an instant that cannot be had or is lost.

use super::super::super::fake::Say;
use super::super::super::fake::world::{Data, World, ended, until, wish};
use super::*;

fn snapshot(tables: &[&str]) -> Wish {
    Wish {
        mode: Some("snapshot".to_owned()),
        ..wish(tables)
    }
}

/// A run in snapshot mode to its end.
fn run(world: &World, change: impl FnOnce(&mut config::Verify)) -> Value {
    let process = world.process(change);
    process.start(&snapshot(&["t"]), "dba").unwrap();
    ended(&process)
}

/// Has the primary's first row written to, each time that its rows are asked for, and the shadow follow when its own are.
fn written_to(world: &World) {
    let mut n = 0;
    world.before(move |server, statement, state| {
        if is_range(statement) {
            let name = if server == "legacy" {
                "legacy"
            } else {
                "other"
            };
            n += u64::from(name == "legacy");
            let value = format!("written {n}");
            state.table(name, "t").rows.insert(1, value);
        }
        None
    });
}

#[test]
fn in_an_instant_nothing_differs_that_is_written_meanwhile_and_what_differs_does() {
    let world = World::new(&[("t", Data::of(300))]);
    written_to(&world);
    let told = run(&world, |limits| limits.range_rows = 50);
    let one = table(&told);
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    assert_eq!(
        (&one["settled"], &one["rows_primary"]),
        (&json!(0), &json!(300))
    );
    assert_eq!(told["run"]["instants"]["instants"], 1, "{told:#}");
    assert_eq!(told["run"]["instants"]["hold_us_max"], 7_000, "{told:#}");
    assert_eq!(*world.around.verified.lock(), ["t"]);
    // The shadow does not even say that it has caught up: nobody asks.
    *world.around.behind.lock() = Some("the shadow is behind".to_owned());
    world.state.lock().table("other", "t").rows.remove(&7);
    world
        .state
        .lock()
        .table("other", "t")
        .rows
        .insert(9, "?".into());
    world
        .state
        .lock()
        .table("other", "t")
        .rows
        .insert(900, "?".into());
    let told = run(&world, |limits| limits.range_rows = 50);
    let differs = json!({"missing": 1, "changed": 1, "extra": 1});
    assert_eq!(table(&told)["differences"], differs, "{told:#}");
    assert_eq!(table(&told)["unsettled"], 0);
    assert!(table(&told)["why"].is_null(), "{told:#}");
    // The ledger knows of a lost write: that is told, and hides nothing.
    *world.around.lost.lock() = vec!["t".to_owned()];
    let told = run(&world, |_| ());
    assert_eq!(table(&told)["differences"], differs, "{told:#}");
    assert!(
        table(&told)["why"].to_string().contains("tainted"),
        "{told:#}"
    );
    let kept = world.records().runs(1).unwrap().remove(0).instants;
    assert_eq!(kept["holds"][0]["hold_us"], 7_000, "{kept:#}");
}

#[test]
fn an_instant_that_is_over_is_followed_by_another_and_no_range_is_of_two() {
    let world = World::new(&[("t", Data::of(400))]);
    written_to(&world);
    let told = run(&world, |limits| {
        limits.range_rows = 50;
        limits.snapshot = Duration::from_nanos(1);
    });
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    assert_eq!(table(&told)["rows_shadow"], 400, "{told:#}");
    let instants = told["run"]["instants"]["instants"].as_u64().unwrap();
    assert!(instants >= 8, "{told:#}");
    // On the connections that there are.
    let asked = world.asked("other");
    let logins = asked.iter().filter(|one| *one == "SET autocommit = 1");
    assert!(logins.count() <= 4, "{asked:#?}");
}

/// A vtgate goes on without the transaction that a tablet ended, and shows rows of another moment.
#[test]
fn a_range_whose_view_is_lost_on_the_way_is_read_again() {
    for silent in [true, false] {
        for lost in ["legacy", "other"] {
            let world = World::new(&[("t", Data::of(400))]);
            let mut ranges = 0;
            world.before(move |server, statement, state| {
                if server != lost || !is_range(statement) {
                    return None;
                }
                ranges += 1;
                if ranges != 3 {
                    return None;
                }
                // Between the two servers' looks, both were written to.
                for server in ["legacy", "other"] {
                    for value in state.table(server, "t").rows.values_mut() {
                        *value = "later".to_owned();
                    }
                }
                if !silent {
                    return Some(Say::Refuse(1317));
                }
                state.views.clear();
                None
            });
            let told = run(&world, |limits| limits.range_rows = 50);
            let one = table(&told);
            assert_eq!(one["outcome"], "equal", "{silent} {lost}: {told:#}");
            assert_eq!(one["rows_primary"], 400, "{silent} {lost}: {told:#}");
            let instants = &told["run"]["instants"];
            assert_eq!(instants["instants"], 2, "{silent} {lost}: {told:#}");
            assert_eq!(instants["ended_early"], 1, "{silent} {lost}: {told:#}");
        }
    }
}

#[test]
fn an_instant_that_cannot_be_had_is_asked_for_again_and_not_for_ever() {
    let world = World::new(&[("t", Data::of(30))]);
    let why = "session 7 (app) has a transaction open";
    world.around.instants.lock().refused = vec![why.to_owned(); 4];
    let told = run(&world, |_| ());
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    assert_eq!(told["run"]["instants"]["failed"], 4, "{told:#}");
    world.around.instants.lock().refused = vec![why.to_owned(); 1_000];
    let told = run(&world, |_| ());
    assert_eq!(told["run"]["outcome"], "unfinished", "{told:#}");
    let why_not = table(&told)["not_covered"].to_string();
    assert!(
        why_not.contains("12 times") && why_not.contains(why),
        "{told:#}"
    );
    assert_eq!(table(&told)["rows_primary"], 0);
}

#[test]
fn an_instant_that_was_cut_short_is_none() {
    let world = World::new(&[("t", Data::of(30))]);
    world.around.instants.lock().cut = true;
    let told = run(&world, |_| ());
    let instants = &told["run"]["instants"];
    assert_eq!(
        (&instants["instants"], &instants["failed"]),
        (&json!(1), &json!(1)),
        "{told:#}"
    );
    // Of the first one nothing was read.
    let asked = world.asked("legacy");
    let begun = asked
        .iter()
        .rposition(|one| one.starts_with("START TRANSACTION"));
    let read = asked.iter().position(|one| is_range(one));
    assert!(begun < read, "{asked:#?}");
}

#[test]
fn what_cannot_be_shown_at_one_instant_is_said() {
    let world = World::new(&[("t", Data::of(30))]);
    world.around.instants.lock().never = Some("nobody holds the writers".to_owned());
    let process = world.process(|_| ());
    let refused = process.start(&snapshot(&["t"]), "dba").unwrap_err();
    assert!(
        refused.to_string().contains("nobody holds the writers"),
        "{refused}"
    );
    process.start(&wish(&["t"]), "dba").unwrap();
    ended(&process);
    world.around.instants.lock().never = None;
    for side in ["legacy", "other"] {
        world.state.lock().table(side, "t").engine = "MyISAM";
        let told = run(&world, |_| ());
        assert_eq!(table(&told)["outcome"], "unfinished", "{told:#}");
        let why = table(&told)["not_covered"].to_string();
        assert!(why.contains(&format!("{side} (MyISAM)")), "{told:#}");
        world.state.lock().table(side, "t").engine = "InnoDB";
    }
    world.state.lock().isolation = "READ-COMMITTED";
    let told = run(&world, |_| ());
    assert_eq!(table(&told)["outcome"], "unfinished", "{told:#}");
    assert!(
        table(&told)["not_covered"]
            .to_string()
            .contains("READ-COMMITTED"),
        "{told:#}"
    );
}

#[test]
fn while_it_waits_no_view_is_kept_open_and_the_next_process_goes_on_in_another_instant() {
    let world = World::new(&[("t", Data::of(2_000))]);
    let process = world.process(|limits| {
        limits.range_rows = 50;
        limits.rows_per_second = Some(4_000);
    });
    process.start(&snapshot(&["t"]), "dba").unwrap();
    let read = |told: &Value| table(told)["rows_primary"].as_u64().unwrap_or(0);
    until(&process, |told| read(told) >= 100);
    assert!(!world.state.lock().views.is_empty());
    process.pause().unwrap();
    until(&process, |told| {
        told["run"]["waits"] == "an operator paused it"
    });
    none_is_open(&world);
    process.leave();
    let process = world.process(|limits| limits.range_rows = 50);
    assert_eq!(process.go_on(), Some(1));
    process.resume().unwrap();
    let told = ended(&process);
    assert_eq!(table(&told)["differences"], json!({}), "{told:#}");
    assert_eq!(read(&told), 2_000, "{told:#}");
    assert_eq!(told["run"]["instants"]["instants"], 2, "{told:#}");
}

/// Servers see that a connection was closed, a little later.
fn none_is_open(world: &World) {
    let began = tokio::time::Instant::now();
    while !world.state.lock().views.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "a view is open");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One table is done in the time of a view, and another one takes long: what the first one read in is not kept open.
#[test]
fn what_nobody_reads_in_is_not_kept_open() {
    for waits in [false, true] {
        let world = World::new(&[
            ("a", Data::of(10)),
            ("b", Data::of(3_000)),
            ("c", Data::of(10)),
        ]);
        let process = world.process(|limits| {
            limits.range_rows = 50;
            limits.rows_per_second = Some(1_000);
        });
        let tables: &[&str] = if waits { &["a", "b", "c"] } else { &["a", "b"] };
        let wish = Wish {
            jobs: Some(2),
            ..snapshot(tables)
        };
        process.start(&wish, "dba").unwrap();
        let of = |told: &Value, name: &str, key: &str| -> Value {
            let tables = told["run"]["tables"].as_array();
            let mut tables = tables.into_iter().flatten();
            let one = tables.find(|one| one["table"] == name);
            one.map_or(Value::Null, |one| one[key].clone())
        };
        let last = if waits { "c" } else { "a" };
        let told = until(&process, |told| of(told, last, "outcome") == "equal");
        assert!(of(&told, "b", "outcome").is_null(), "{told:#}");
        let began = tokio::time::Instant::now();
        while world.state.lock().views.len() > 2 {
            assert!(began.elapsed() < Duration::from_secs(2), "it is kept");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Its range of this moment may be at its end, and no other is read before a rest.
        assert!(of(&process.standing(true), "b", "outcome").is_null());
        process.abort("dba").unwrap();
        ended(&process);
        none_is_open(&world);
    }
}

/// A rest that goes past a view's time is not rested in it.
#[test]
fn a_rest_is_not_rested_in_a_view_that_is_of_no_use_behind_it() {
    let world = World::new(&[("t", Data::of(400))]);
    let process = world.process(|limits| {
        limits.range_rows = 50;
        limits.rows_per_second = Some(5);
        limits.snapshot = Duration::from_secs(5);
    });
    process.start(&snapshot(&["t"]), "dba").unwrap();
    until(&process, |told| table(told)["rows_primary"] == 50);
    none_is_open(&world);
    let told = process.standing(true);
    assert_eq!(table(&told)["rows_primary"], 50, "{told:#}");
    process.abort("dba").unwrap();
    ended(&process);
}

#[test]
fn a_table_without_a_key_is_read_in_one_instant_too() {
    let data = Data {
        has_key: false,
        ..Data::of(300)
    };
    let world = World::new(&[("t", data)]);
    written_to(&world);
    let told = run(&world, |_| ());
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    world.state.lock().table("other", "t").rows.remove(&7);
    let told = run(&world, |_| ());
    assert_eq!(
        table(&told)["differences"],
        json!({"missing": 1}),
        "{told:#}"
    );
}

#[test]
fn a_table_without_a_key_is_read_in_the_time_of_a_view_or_not_at_all_and_locks_nothing_behind_its_readings()
 {
    let data = Data {
        has_key: false,
        ..Data::of(3_000)
    };
    let world = World::new(&[("t", data)]);
    let told = run(&world, |limits| limits.snapshot = Duration::from_nanos(1));
    assert_eq!(table(&told)["outcome"], "unfinished", "{told:#}");
    let why = table(&told)["not_covered"].to_string();
    assert!(why.contains("take --mode chunks"), "{told:#}");
    none_is_open(&world);
    let before = world.asked("legacy").len();
    let told = run(&world, |_| ());
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    let asked = world.asked("legacy");
    let asked = asked.get(before..).unwrap_or_default();
    let read = asked
        .iter()
        .position(|one| one.contains("FROM `app`.`t`") && one.starts_with("SELECT "));
    let next = read.and_then(|at| asked.get(at + 1));
    assert_eq!(
        next.map(String::as_str),
        Some("ROLLBACK TO SAVEPOINT understudy"),
        "{asked:#?}"
    );
    none_is_open(&world);
}

fn locking(tables: &[&str]) -> Wish {
    Wish {
        lock: true,
        ..snapshot(tables)
    }
}

/// Runs these tables to their end, each in an instant for which it was locked.
fn locked(world: &World, tables: &[&str]) -> Value {
    let process = world.process(|limits| limits.range_rows = 50);
    process.start(&locking(tables), "dba").unwrap();
    ended(&process)
}

fn outcomes(told: &Value) -> Vec<String> {
    let tables = told["run"]["tables"].as_array().unwrap().iter();
    tables
        .map(|one| {
            format!(
                "{} {}",
                one["table"].as_str().unwrap(),
                one["outcome"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn an_instant_of_a_locked_table_is_of_this_table_alone() {
    let world = World::new(&[
        ("a", Data::of(60)),
        ("b", Data::of(60)),
        ("c", Data::of(60)),
    ]);
    // They still wait when the first one has ended: what shows that one shows nothing of them.
    let told = locked(&world, &["a", "b", "c"]);
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    assert_eq!(told["run"]["lock"], true);
    assert_eq!(world.around.instants.lock().locked, ["a", "b", "c"]);
    let on = ["uuid of legacy", "uuid of other"].map(|one| Some(one.to_owned()));
    assert_eq!(world.around.instants.lock().on, on);
    let holds = told["run"]["instants"]["holds"].as_array().unwrap();
    let of: Vec<&Value> = holds.iter().map(|one| &one["table"]).collect();
    assert_eq!(of, ["app.a", "app.b", "app.c"]);
    none_is_open(&world);
    // Others who write stand still as well: nothing is said of them.
    *world.around.others.lock() = vec!["cron at 10.0.0.4".to_owned()];
    world.state.lock().table("other", "b").rows.remove(&7);
    let told = locked(&world, &["a", "b"]);
    assert_eq!(outcomes(&told), ["a equal", "b different"], "{told:#}");
    assert_eq!(told["run"]["notes"], json!([]), "{told:#}");
}

#[test]
fn a_table_that_cannot_be_locked_leaves_the_others_to_be() {
    let names = ["a", "b", "c", "d", "e"];
    let world = World::new(&names.map(|name| (name, Data::of(10))));
    let why = "thread 12 (batch) has a transaction open";
    let refuse = |tables: &[&str]| {
        let all = tables.iter().map(|one| ((*one).to_owned(), why.to_owned()));
        let mut instants = world.around.instants.lock();
        instants.unlockable = all.collect();
        instants.locked.clear();
    };
    refuse(&["a", "c"]);
    let told = locked(&world, &names);
    let expected = [
        "a unfinished",
        "b equal",
        "c unfinished",
        "d equal",
        "e equal",
    ];
    assert_eq!(outcomes(&told), expected, "{told:#}");
    let of_first = world
        .around
        .instants
        .lock()
        .locked
        .iter()
        .filter(|one| *one == "a")
        .count();
    assert_eq!(of_first, 12);
    let not_covered = told["run"]["tables"][0]["not_covered"].to_string();
    assert!(
        not_covered.contains(why) && not_covered.contains("12 times"),
        "{told:#}"
    );
    // Three in a row: no more is tried in vain.
    refuse(&["a", "b", "c", "d"]);
    let told = locked(&world, &names);
    assert!(
        outcomes(&told)
            .iter()
            .all(|one| one.ends_with("unfinished")),
        "{told:#}"
    );
    let asked = world.around.instants.lock().locked.clone();
    assert_eq!(asked.len(), 36, "{asked:?}");
    assert!(!asked.contains(&"d".to_owned()) && !asked.contains(&"e".to_owned()));
    let last = told["run"]["tables"][4]["not_covered"].to_string();
    assert!(last.contains("3 tables in a row"), "{told:#}");
    // Where it is known that it never can be, it is asked for once.
    refuse(&["a", "b", "c", "d"]);
    world.around.instants.lock().hopeless = true;
    let told = locked(&world, &names);
    let asked = world.around.instants.lock().locked.clone();
    assert_eq!(asked, names, "{told:#}");
    assert_eq!(outcomes(&told)[4], "e equal", "{told:#}");
    none_is_open(&world);
}

#[test]
fn what_is_lacking_to_lock_is_told_before_anything_is() {
    let world = World::new(&[("t", Data::of(10))]);
    world.around.instants.lock().lacks = Some("GRANT LOCK TABLES ON `app`.*".to_owned());
    let told = locked(&world, &["t"]);
    assert_eq!(told["run"]["outcome"], "failed", "{told:#}");
    let why = told["run"]["why"].to_string();
    assert!(why.contains("GRANT LOCK TABLES"), "{told:#}");
    assert_eq!(world.around.instants.lock().asked, 0);
}

//! Runs between two fake servers: what they must not say, and what the next process makes of them.

mod beside;
mod instants;
mod keyless;

use super::super::fake::Say;
use super::super::fake::world::{Data, World, ended, until, wish};
use super::*;
use std::time::Duration;

fn table(told: &Value) -> &Value {
    &told["run"]["tables"][0]
}

fn is_range(statement: &str) -> bool {
    statement.starts_with("SELECT `id`") && !statement.contains(" IN (")
}

#[test]
fn what_is_the_same_is_equal_and_what_is_not_is_told() {
    let world = World::new(&[("t", Data::of(300))]);
    let told = world.run(&[]);
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    assert_eq!(*world.around.verified.lock(), ["t"]);
    world.state.lock().table("other", "t").rows.remove(&7);
    let told = world.run(&[]);
    assert_eq!(told["run"]["outcome"], "different", "{told:#}");
    assert_eq!(table(&told)["rows"][0]["key"], "`id` = 7");
    assert_eq!(world.around.verified.lock().len(), 1);
}

/// Finding: one row of some hundred had its NOW() a second off, no answer had shown it, and the table was different
/// without a word of why.
#[test]
fn a_moment_that_is_off_as_the_mirrors_own_may_be_is_told_apart() {
    let mut data = Data::of(3);
    data.kind = "datetime";
    for at in data.rows.values_mut() {
        *at = "2024-02-29 12:30:01".to_owned();
    }
    let world = World::new(&[("t", data)]);
    let set = |id: i64, at: &str| {
        let mut state = world.state.lock();
        state.table("other", "t").rows.insert(id, at.to_owned());
    };
    set(2, "2024-02-29 12:30:02");
    let told = world.run(&[]);
    let one = table(&told);
    assert_eq!(one["outcome"], "different", "{told:#}");
    assert_eq!(one["differences"], serde_json::json!({"clock": 1}));
    let why = one["why"].as_str().unwrap();
    assert!(why.contains("--repair apply"), "{why}");
    assert_eq!(one["rows"][0]["how"], "clock", "{told:#}");
    assert_eq!(one["rows"][0]["columns"], serde_json::json!(["v"]));
    let values = |side: &str, at: &str| assert_eq!(one["rows"][0][side], serde_json::json!([at]));
    values("primary", "2024-02-29 12:30:01");
    values("shadow", "2024-02-29 12:30:02");
    set(3, "2024-02-29 12:30:03");
    let told = world.run(&[]);
    let differences = &table(&told)["differences"];
    assert_eq!(*differences, serde_json::json!({"changed": 1, "clock": 1}));
    assert_eq!(table(&told)["why"], Value::Null, "{told:#}");
    // What replication brings has the primary's own moments.
    *world.around.is_replicated.lock() = true;
    let told = world.run(&[]);
    let one = table(&told);
    assert_eq!(one["differences"], serde_json::json!({"changed": 2}));
    assert_eq!(one["why"], Value::Null, "{told:#}");
}

/// Finding: what CURTIME() filled was `changed` where a DATETIME beside it was `clock`.
#[test]
fn a_time_of_day_is_a_moment_too() {
    let mut data = Data::of(4);
    data.kind = "time";
    for (id, at) in &mut data.rows {
        *at = if *id == 4 { "23:59:59" } else { "12:30:01" }.to_owned();
    }
    let world = World::new(&[("t", data)]);
    for (id, at) in [(1, "12:30:02"), (2, "12:30:00.5"), (3, "12:30:02.5")] {
        let mut state = world.state.lock();
        state.table("other", "t").rows.insert(id, at.to_owned());
    }
    let told = world.run(&[]);
    let differences = &table(&told)["differences"];
    assert_eq!(*differences, serde_json::json!({"changed": 1, "clock": 2}));
    // A span of a day is one, whatever a clock would show.
    let midnight = "00:00:00".to_owned();
    let mut state = world.state.lock();
    state.table("other", "t").rows.insert(4, midnight);
    drop(state);
    let told = world.run(&[]);
    let differences = &table(&told)["differences"];
    assert_eq!(*differences, serde_json::json!({"changed": 2, "clock": 2}));
}

#[test]
fn a_session_is_set_so_that_no_server_cuts_an_answer_short() {
    let world = World::new(&[("t", Data::of(3))]);
    world.run(&[]);
    let asked = world.asked("legacy");
    for setting in [
        "SET autocommit = 1",
        "SET sql_select_limit = 18446744073709551615",
        "SET sql_mode = ''",
        "SET time_zone = '+00:00'",
        "SET max_execution_time = 0",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    ] {
        let set = asked.iter().position(|one| one == setting);
        let read = asked.iter().position(|one| is_range(one));
        assert!(set.is_some() && set < read, "{setting}: {asked:#?}");
    }
}

/// Finding: a million rows that the shadow alone has were all kept in memory.
#[test]
fn more_suspects_than_can_be_looked_at_are_not_collected() {
    let world = World::new(&[("t", Data::of(10))]);
    for id in 1_000..31_000 {
        let mut state = world.state.lock();
        state.table("other", "t").rows.insert(id, "extra".into());
    }
    // Nothing is looked at for long enough to be judged.
    let process = world.process(|limits| {
        limits.settle = Duration::from_millis(1);
        limits.differences_max = 100_000;
    });
    process.start(&wish(&[]), "dba").unwrap();
    let told = ended(&process);
    let one = table(&told);
    assert_eq!(one["outcome"], "unfinished", "{told:#}");
    let why = one["not_covered"].to_string();
    assert!(why.contains("looked different at once"), "{told:#}");
    assert_eq!(one["unsettled"], 20_000, "they were all collected");
    // Where they can be, enough of them is enough.
    let told = world.run(&[]);
    let one = table(&told);
    assert_eq!(one["outcome"], "different", "{told:#}");
    let extra = one["differences"]["extra"].as_u64().unwrap();
    assert!((1_001..3_000).contains(&extra), "{extra}");
    assert!(one["rows"].as_array().unwrap().len() <= 1_000);
}

/// Finding: a difference that one saw between two looks that never ended kept a run busy for ever.
#[test]
fn what_does_not_come_to_rest_is_left_in_time() {
    let world = World::new(&[("t", Data::of(2_000))]);
    world.state.lock().table("other", "t").rows.clear();
    *world.around.behind.lock() = Some("the shadow is behind".to_owned());
    let process = world.process(|limits| {
        limits.settle = Duration::from_millis(300);
        limits.differences_max = 10_000;
    });
    process.start(&wish(&[]), "dba").unwrap();
    let told = ended(&process);
    let one = table(&told);
    assert_eq!(one["outcome"], "unfinished", "{told:#}");
    assert_eq!(one["unsettled"], 2_000, "{told:#}");
}

/// Finding: a table that a shadow lacks which does not catch up was settled for hours, 500 rows at a time.
#[test]
fn of_rows_that_do_not_come_to_rest_there_are_so_many_at_most() {
    let world = World::new(&[("t", Data::of(2_000))]);
    world.state.lock().table("other", "t").rows.clear();
    *world.around.behind.lock() = Some("the shadow is behind".to_owned());
    let process = world.process(|limits| {
        limits.settle = Duration::from_millis(100);
        limits.differences_max = 600;
    });
    process.start(&wish(&[]), "dba").unwrap();
    let told = ended(&process);
    let one = table(&told);
    assert_eq!(one["outcome"], "unfinished", "{told:#}");
    assert_eq!(one["unsettled"], 1_000, "{told:#}");
    let why = one["not_covered"].to_string();
    assert!(why.contains("the rest of the table was not read"), "{why}");
}

/// Finding: no test crossed a range's end, for the first range was never of fewer than 50 rows.
#[test]
fn a_range_has_as_few_rows_as_it_is_told() {
    let world = World::new(&[("t", Data::of(7))]);
    let process = world.process(|limits| limits.range_rows = 2);
    process.start(&wish(&[]), "dba").unwrap();
    assert_eq!(ended(&process)["run"]["outcome"], "equal");
    let asked = world.asked("legacy");
    let ranges = asked.iter().filter(|one| one.ends_with(" LIMIT 2"));
    assert_eq!(ranges.count(), 4, "{asked:#?}");
}

/// Finding: a server that does not order a key as it compares it was asked for the same rows for ever.
#[test]
fn a_walk_that_comes_round_again_ends_and_is_no_equality() {
    let world = World::new(&[("t", Data::of(50))]);
    let mut turn = 0;
    world.before(move |server, statement, _| {
        if server != "legacy" || !statement.ends_with(" LIMIT 2") {
            return None;
        }
        turn = turn % 3 + 1;
        let rows =
            [2 * turn - 1, 2 * turn].map(|id| vec![Some(id.to_string()), Some(format!("v{id}"))]);
        Some(Say::Rows(rows.into()))
    });
    let process = world.process(|limits| limits.range_rows = 2);
    process.start(&wish(&[]), "dba").unwrap();
    let told = ended(&process);
    let one = table(&told);
    assert_eq!(one["outcome"], "unfinished", "{told:#}");
    let why = one["not_covered"].to_string();
    assert!(why.contains("round and round"), "{why}");
}

/// Finding: of two rows that a server told with the same key, one was dropped and nobody said so.
#[test]
fn two_rows_with_the_same_key_are_no_equality() {
    let world = World::new(&[("t", Data::of(2))]);
    world.before(|server, statement, _| {
        let rows = ["v1", "v2"].map(|v| vec![Some("1".to_owned()), Some(v.to_owned())]);
        (server == "legacy" && is_range(statement)).then(|| Say::Rows(rows.into()))
    });
    let told = world.run(&[]);
    let one = table(&told);
    assert_eq!(one["outcome"], "unfinished", "{told:#}");
    let why = one["not_covered"].to_string();
    assert!(why.contains("with the same key"), "{why}");
}

fn slow(world: &World) {
    // Each range takes a little, so that a cursor is kept.
    world.before(|server, statement, _| {
        if server == "legacy" && is_range(statement) {
            std::thread::sleep(Duration::from_millis(45));
        }
        None
    });
}

/// A run of 2,000 rows that another process left in its midst.
fn left(world: &World) {
    slow(world);
    let process = world.process(|limits| limits.range_rows = 50);
    process.start(&wish(&["t"]), "dba").unwrap();
    until(&process, |told| {
        table(told)["rows_primary"].as_u64().unwrap_or(0) >= 1_300
    });
    process.leave();
    world.before(|_, _, _| None);
    assert!(world.left()[0].cursor.is_some());
}

#[test]
fn a_walk_that_spans_two_processes_clears_no_taint() {
    let world = World::new(&[("t", Data::of(2_000))]);
    left(&world);
    let process = world.process(|_| ());
    assert_eq!(process.go_on(), Some(1));
    let told = ended(&process);
    let one = table(&told);
    assert_eq!(
        (&one["outcome"], &one["rows_primary"]),
        (&json!("equal_in_part"), &json!(2_000)),
        "{told:#}"
    );
    let why = one["not_covered"].to_string();
    assert!(why.contains("its taint stays"), "{told:#}");
    assert_eq!(*world.around.verified.lock(), Vec::<String>::new());
    world.run(&["t"]);
    assert_eq!(*world.around.verified.lock(), ["t"]);
}

/// Seen under sysbench: a row was read, its next write was lost, and the table was equal.
#[test]
fn a_table_to_which_a_write_is_lost_while_it_is_read_is_not_equal() {
    let world = World::new(&[("t", Data::of(300))]);
    let around = Arc::clone(&world.around);
    world.before(move |server, statement, _| {
        if server == "legacy" && is_range(statement) {
            *around.lost.lock() = vec!["t".to_owned()];
        }
        None
    });
    let told = world.run(&[]);
    assert_eq!(table(&told)["outcome"], "equal_in_part", "{told:#}");
    assert_eq!(told["run"]["outcome"], "equal_in_part", "{told:#}");
    assert!(table(&told)["not_covered"].to_string().contains("tainted"));
    assert_eq!(*world.around.verified.lock(), Vec::<String>::new());
}

#[test]
fn a_finding_asks_for_what_it_touched() {
    let world = World::new(&[("t", Data::of(30)), ("u", Data::of(30))]);
    for id in [5, 7] {
        world.state.lock().table("other", "t").rows.remove(&id);
    }
    let of = |finding| Wish {
        finding: Some(finding),
        ..Wish::default()
    };
    let process = world.process(|_| ());
    let refused = process.start(&of(1), "dba").unwrap_err();
    assert_eq!(refused, Refused::Wrong("there is no finding 1".to_owned()));
    let item = |statement: &str| {
        json!({"database": "app", "tables": ["t"], "statement": statement, "literals_kept": true})
            .to_string()
    };
    let items = [
        item("SELECT v FROM t WHERE id IN (5)"),
        item("SELECT v FROM t WHERE id IN (6)"),
    ];
    world.records().find_for_tests(1, &items).unwrap();
    world
        .records()
        .find_for_tests(2, &[item("SELECT v FROM t")])
        .unwrap();
    process.start(&of(1), "dba").unwrap();
    let told = ended(&process);
    assert_eq!(
        told["run"]["where"], "(id IN (5)) OR (id IN (6))",
        "{told:#}"
    );
    let tables = told["run"]["tables"].as_array().unwrap();
    assert_eq!((tables.len(), &tables[0]["table"]), (1, &json!("t")));
    process.start(&of(2), "dba").unwrap();
    let told = ended(&process);
    assert_eq!(
        table(&told)["differences"],
        json!({"missing": 2}),
        "{told:#}"
    );
    let both = Wish {
        tables: vec!["app.t".into()],
        ..of(1)
    };
    assert!(matches!(
        process.start(&both, "dba"),
        Err(Refused::Wrong(_))
    ));
}

#[test]
fn of_another_server_at_the_same_address_a_cursor_says_nothing() {
    let world = World::new(&[("t", Data::of(2_000))]);
    left(&world);
    {
        let mut state = world.state.lock();
        state.identity.insert("legacy", "another".into());
        // What the earlier process had read is not what this server has.
        state.table("other", "t").rows.remove(&7);
    }
    let process = world.process(|_| ());
    process.go_on();
    let told = ended(&process);
    assert_eq!(
        table(&told)["differences"],
        json!({"missing": 1}),
        "{told:#}"
    );
    assert_eq!(table(&told)["rows_primary"], 2_000, "{told:#}");
}

#[test]
fn a_column_that_comes_while_a_table_is_read_is_read_too() {
    let world = World::new(&[("t", Data::of(300))]);
    let mut done = false;
    world.before(move |server, statement, state| {
        if server == "legacy" && is_range(statement) && !done {
            done = true;
            // On the primary alone, once its rows are being read.
            state.table("legacy", "t").more.push("more".into());
        }
        None
    });
    let told = world.run(&[]);
    assert_eq!(table(&told)["outcome"], "different", "{told:#}");
    assert_eq!(table(&told)["schema"][0]["what"], "column", "{told:#}");
    assert_eq!(*world.around.verified.lock(), Vec::<String>::new());
}

#[test]
fn a_definition_that_changes_all_the_time_is_never_equal() {
    let world = World::new(&[("t", Data::of(300))]);
    let mut n = 0;
    world.before(move |server, statement, state| {
        if server == "legacy" && is_range(statement) {
            n += 1;
            for server in ["legacy", "other"] {
                state.table(server, "t").more = vec![format!("c{n}")];
            }
        }
        // The columns that were asked for a moment ago are there for as long as the statement takes.
        None
    });
    let told = world.run(&[]);
    assert_eq!(table(&told)["outcome"], "unfinished", "{told:#}");
    assert!(
        table(&told)["not_covered"]
            .to_string()
            .contains("definition changed")
    );
}

#[test]
fn tables_that_the_account_does_not_see_are_not_equal() {
    let world = World::new(&[("t", Data::of(3))]);
    world.state.lock().grants = vec!["GRANT SELECT ON `app`.* TO `u`@`%`".to_owned()];
    assert_eq!(world.run(&[])["run"]["outcome"], "equal_in_part");
    assert_eq!(world.run(&["app.*"])["run"]["outcome"], "equal");
    world.state.lock().grants = vec!["GRANT SELECT ON `app`.`t` TO `u`@`%`".to_owned()];
    let told = world.run(&["app.*"]);
    assert_eq!(told["run"]["outcome"], "unfinished", "{told:#}");
    assert!(
        told["run"]["notes"]
            .to_string()
            .contains("single tables of app")
    );
    assert_eq!(world.run(&["app.t"])["run"]["outcome"], "equal");
    assert_eq!(
        world.run(&["app.t", "app.u"])["run"]["outcome"],
        "unfinished"
    );
}

#[test]
fn a_table_that_was_mirrored_and_is_not_shown_leaves_the_run_unfinished() {
    let world = World::new(&[("t", Data::of(3)), ("hidden", Data::of(3))]);
    assert_eq!(world.run(&[])["run"]["outcome"], "equal");
    let tables = world
        .records()
        .mirror_for_tests(&[("app", "hidden"), ("app", "gone")]);
    tables.unwrap();
    world
        .state
        .lock()
        .tables
        .remove(&("legacy", "hidden".to_owned()));
    let told = world.run(&[]);
    assert_eq!(told["run"]["outcome"], "unfinished", "{told:#}");
    let notes = told["run"]["notes"].to_string();
    assert!(notes.contains("app.hidden was mirrored"), "{notes}");
    // What neither has was dropped.
    assert!(!notes.contains("app.gone"), "{notes}");
}

#[test]
fn a_run_that_was_paused_stays_paused_in_the_next_process() {
    let world = World::new(&[("t", Data::of(2_000))]);
    slow(&world);
    let process = world.process(|limits| limits.range_rows = 50);
    process.start(&wish(&["t"]), "dba").unwrap();
    process.pause().unwrap();
    process.leave();
    let process = world.process(|_| ());
    assert_eq!(process.go_on(), Some(1));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(process.standing(true)["state"], "paused");
    process.resume().unwrap();
    assert_eq!(ended(&process)["run"]["outcome"], "equal");
}

#[test]
fn no_run_begins_or_goes_on_while_another_process_takes_over() {
    let world = World::new(&[("t", Data::of(2_000))]);
    slow(&world);
    let process = world.process(|limits| limits.range_rows = 50);
    process.start(&wish(&["t"]), "dba").unwrap();
    process.pause().unwrap();
    let why = process.rest().unwrap_err();
    assert!(why.contains("verification 1 is under way"), "{why}");
    process.leave();
    let process = world.process(|_| ());
    process.rest().unwrap();
    assert_eq!(process.go_on(), None);
    let refused = process.start(&wish(&["t"]), "dba").unwrap_err();
    assert!(format!("{refused:?}").contains("hands over"), "{refused:?}");
    // What was left is still left.
    process.rest_is_over();
    assert_eq!(process.go_on(), Some(1));
    process.abort("dba").unwrap();
}

/// Finding: a run of `understudy verify --config` whose terminal hung up went on by itself in the next `serve`.
#[test]
fn a_run_without_an_understudy_is_gone_on_with_by_nobody() {
    let world = World::new(&[("t", Data::of(2_000))]);
    slow(&world);
    let process = world.process_alone();
    process.start(&wish(&["t"]), "dba").unwrap();
    until(&process, |told| {
        table(told)["rows_primary"].as_u64().unwrap_or(0) >= 100
    });
    process.leave();
    let process = world.process(|_| ());
    assert_eq!(process.go_on(), None);
    let record = world.records().runs(1).unwrap().remove(0);
    assert_eq!(record.outcome.as_deref(), Some("aborted"));
    assert!(record.why.unwrap().contains("its process ended"));
}

#[test]
fn a_run_that_repairs_goes_on_only_where_an_operator_says_so() {
    let world = World::new(&[("t", Data::of(2_000))]);
    slow(&world);
    let process = world.process(|limits| limits.range_rows = 50);
    let repairing = Wish {
        repair: Some("apply".to_owned()),
        ..wish(&["t"])
    };
    process.start(&repairing, "dba").unwrap();
    process.leave();
    for _ in 0..2 {
        let process = world.process(|_| ());
        assert_eq!(process.go_on(), Some(1));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(process.standing(true)["state"], "paused");
        process.leave();
    }
    let process = world.process(|_| ());
    process.go_on();
    process.resume().unwrap();
    assert_eq!(ended(&process)["run"]["outcome"], "equal");
}

/// Finding: the guard counted the tables that the account sees, and results by the servers' names.
#[test]
fn what_is_kept_for_the_guard_is_of_these_servers_and_says_what_was_not_seen() {
    let world = World::new(&[("t", Data::of(3)), ("u", Data::of(3))]);
    let at_rest = || {
        let known = world.records().verified("legacy", "other", world.between());
        let known = known.unwrap();
        let told = known.tables.into_iter();
        let told: Vec<_> = told.map(|one| (one.name, one.outcome)).collect();
        (told, known.unseen)
    };
    let equal = |name: &str| (name.to_owned(), Some("equal".to_owned()));
    world.run(&[]);
    assert_eq!(at_rest(), (vec![equal("t"), equal("u")], vec![]));
    let elsewhere = world.records().verified("legacy", "other", "elsewhere");
    assert!(elsewhere.unwrap().tables.is_empty());
    // Which tables there are is asked whatever a run is asked for.
    world.state.lock().grants = vec!["GRANT SELECT ON `app`.* TO `u`@`%`".to_owned()];
    assert_eq!(world.run(&["app.t"])["run"]["outcome"], "equal");
    assert!(at_rest().1[0].contains("other databases were not looked at"));
    // Another server at the same place: what was read of the one before says nothing.
    world
        .state
        .lock()
        .identity
        .insert("other", "built anew".into());
    world.run(&["app.t"]);
    assert_eq!(at_rest().0, [equal("t"), ("u".to_owned(), None)]);
    // A table that the mirror wrote since.
    let wrote = world.records().mirror_for_tests(&[("app", "new")]);
    wrote.unwrap();
    assert!(at_rest().0.contains(&("new".to_owned(), None)));
    // Once it is gone on both sides, it is none.
    world.run(&["app.t"]);
    assert_eq!(at_rest().0.len(), 2);
}

#[test]
fn a_run_that_no_process_gets_further_with_is_left() {
    let world = World::new(&[("t", Data::of(2_000))]);
    world.before(|_, statement, _| is_range(statement).then_some(Say::Hang));
    let process = world.process(|_| ());
    process.start(&wish(&["t"]), "dba").unwrap();
    process.leave();
    let mut went_on = 0;
    loop {
        let process = world.process(|_| ());
        if process.go_on().is_none() {
            break;
        }
        went_on += 1;
        assert!(went_on < 20);
        process.leave();
    }
    assert_eq!(went_on, 5);
    let record = world.records().runs(1).unwrap().remove(0);
    assert_eq!(record.outcome.as_deref(), Some("failed"));
    assert!(record.why.unwrap().contains("5 processes went on with it"));
}

#[test]
fn a_run_that_breaks_off_is_not_under_way() {
    let world = World::new(&[("t", Data::of(3))]);
    *world.around.panics.lock() = true;
    let process = world.process(|_| ());
    process.start(&wish(&[]), "dba").unwrap();
    let told = ended(&process);
    assert_eq!(told["run"]["outcome"], "failed", "{told:#}");
    let record = world.records().runs(1).unwrap().remove(0);
    assert_eq!(record.outcome.as_deref(), Some("failed"));
    *world.around.panics.lock() = false;
    assert_eq!(world.run(&[])["run"]["outcome"], "equal");
}

#[test]
fn a_table_that_its_engine_locks_is_told() {
    let world = World::new(&[("t", Data::of(3))]);
    world.state.lock().table("legacy", "t").engine = "MyISAM";
    let notes = world.run(&[])["run"]["notes"].to_string();
    assert!(notes.contains("app.t is of MyISAM on legacy"), "{notes}");
}

/// Finding: a statement that was given up went on on the primary for as long as it took.
#[test]
fn what_is_given_up_is_ended_on_the_server() {
    let world = World::new(&[("t", Data::of(300))]);
    let kills = |world: &World| {
        let asked = world.asked("legacy").into_iter();
        asked.filter(|one| one.starts_with("KILL")).count()
    };
    world.run(&[]);
    assert_eq!(kills(&world), 0, "nothing was given up");
    world.before(|server, statement, _| {
        (server == "legacy" && is_range(statement)).then_some(Say::Hang)
    });
    let process = world.process(|_| ());
    let before = world.asked("legacy").len();
    process.start(&wish(&[]), "dba").unwrap();
    until(&process, |_| {
        let asked = world.asked("legacy");
        asked.iter().skip(before).any(|one| is_range(one))
    });
    process.abort("dba").unwrap();
    assert_eq!(ended(&process)["run"]["outcome"], "aborted");
    let asked = world.asked("legacy");
    let last = asked.iter().rev().find(|one| !one.is_empty());
    assert!(last.is_some_and(|one| one.starts_with("KILL QUERY ")));
    assert_eq!(kills(&world), 1);
}

/// Finding: a condition that few rows meet made each range one statement through the whole table.
#[test]
fn with_a_condition_a_range_is_bounded_by_its_keys_first() {
    let world = World::new(&[("t", Data::of(300))]);
    let process = world.process(|limits| limits.range_rows = 50);
    let some = Wish {
        condition: Some("v <> 'rare'".to_owned()),
        ..wish(&["t"])
    };
    process.start(&some, "dba").unwrap();
    let told = ended(&process);
    assert_eq!(told["run"]["outcome"], "equal_in_part", "{told:#}");
    assert_eq!(table(&told)["rows_primary"], 300, "{told:#}");
    let asked = world.asked("legacy");
    let by_condition = asked.iter().filter(|one| one.contains("rare"));
    let by_condition: Vec<&String> = by_condition.collect();
    assert!(by_condition.len() > 3, "{asked:#?}");
    for (nth, one) in by_condition.iter().enumerate() {
        let bounded = one.contains("`id` <= ") || nth + 1 == by_condition.len();
        assert!(bounded && !one.contains("LIMIT"), "{one}");
    }
}

#[test]
fn an_operator_ends_a_run_whose_servers_hang() {
    for hangs in ["SHOW DATABASES", "SHOW FULL COLUMNS", "SELECT `id`"] {
        let world = World::new(&[("t", Data::of(3))]);
        world.before(move |_, statement, _| statement.starts_with(hangs).then_some(Say::Hang));
        let process = world.process(|_| ());
        process.start(&wish(&[]), "dba").unwrap();
        std::thread::sleep(Duration::from_millis(100));
        process.abort("dba").unwrap();
        let told = ended(&process);
        assert_eq!(told["run"]["outcome"], "aborted", "{hangs}: {told:#}");
        assert_eq!(told["run"]["why"], "dba ended it");
    }
}

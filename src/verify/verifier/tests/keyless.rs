//! Tables without a key: when they are read at all, and what differs in them while they are written to.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_table_without_a_key_is_read_where_it_is_named_and_locked_by_nobody() {
    let heap = Data {
        has_key: false,
        ..Data::of(50)
    };
    let world = World::new(&[("t", heap)]);
    let told = world.run(&[]);
    assert_eq!(table(&told)["outcome"], "unfinished", "{told:#}");
    assert!(
        table(&told)["not_covered"][0]
            .as_str()
            .unwrap()
            .contains("name it in --tables")
    );
    assert!(!world.asked("legacy").iter().any(|one| is_range(one)));
    assert_eq!(world.run(&["app.t"])["run"]["outcome"], "equal");
    world.state.lock().table("legacy", "t").engine = "MyISAM";
    let told = world.run(&["app.t"]);
    assert_eq!(table(&told)["outcome"], "unfinished", "{told:#}");
    assert!(
        table(&told)["not_covered"]
            .to_string()
            .contains("MyISAM) locks it"),
        "{told:#}"
    );
}

#[test]
fn reading_a_table_without_a_key_is_given_up_where_production_comes_first() {
    let heap = Data {
        has_key: false,
        ..Data::of(5_000)
    };
    let world = World::new(&[("t", heap)]);
    let around = Arc::clone(&world.around);
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    world.before(move |server, statement, _| {
        if server == "legacy" && is_range(statement) && counted.fetch_add(1, Ordering::Relaxed) == 0
        {
            *around.holds.lock() = Some("production is slow".to_owned());
        }
        None
    });
    let process = world.process(|_| ());
    process.start(&wish(&["t"]), "dba").unwrap();
    until(&process, |told| {
        told["run"]["waits"] == "production is slow"
    });
    *world.around.holds.lock() = None;
    let told = ended(&process);
    assert_eq!(told["run"]["outcome"], "equal", "{told:#}");
    assert_eq!(reads.load(Ordering::Relaxed), 2, "it did not begin anew");
}

/// Finding: two readings under traffic that differ in as many rows, and not in the same ones, were a difference.
#[test]
fn a_table_without_a_key_that_is_written_to_differs_only_where_it_does() {
    let heap = Data {
        has_key: false,
        ..Data::of(50)
    };
    let world = World::new(&[("t", heap)]);
    // Before each reading one row comes and one goes, on both sides: each time as many differ, and others.
    let mut next = 1_000;
    world.before(move |_, statement, state| {
        if is_range(statement) {
            next += 1;
            for server in ["legacy", "other"] {
                let rows = &mut state.table(server, "t").rows;
                rows.insert(next, "new".into());
                rows.remove(&(next - 3));
            }
        }
        None
    });
    let told = world.run(&["t"]);
    assert_eq!(table(&told)["differences"], json!({}), "{told:#}");
    assert_eq!(table(&told)["outcome"], "unfinished", "{told:#}");
    // One that the shadow lacks is found for all that.
    world.state.lock().table("other", "t").rows.remove(&5);
    let told = world.run(&["t"]);
    assert_eq!(
        table(&told)["differences"],
        json!({"missing": 1}),
        "{told:#}"
    );
}

/// Whoever always reads the same side first meets such a row the same way each time.
#[test]
fn a_row_that_comes_and_goes_in_a_table_without_a_key_is_no_difference() {
    let heap = Data {
        has_key: false,
        ..Data::of(50)
    };
    let world = World::new(&[("t", heap)]);
    let mut there = false;
    world.before(move |_, statement, state| {
        if is_range(statement) {
            there = !there;
            for server in ["legacy", "other"] {
                let rows = &mut state.table(server, "t").rows;
                if there {
                    rows.insert(1_000, "new".into());
                } else {
                    rows.remove(&1_000);
                }
            }
        }
        None
    });
    let told = world.run(&["t"]);
    assert_eq!(table(&told)["differences"], json!({}), "{told:#}");
    assert_eq!(table(&told)["outcome"], "unfinished", "{told:#}");
}

//! A run's records, of one process and of the next.

use super::*;

fn begun() -> RunBegun {
    RunBegun {
        primary: "legacy".into(),
        shadow: "vitess".into(),
        who: "dba".into(),
        wish: "{\"tables\": []}".into(),
        condition: Some("id > 5".into()),
        servers: "here".into(),
        alone: false,
    }
}

fn kept() -> (tempfile::TempDir, Verifications) {
    let dir = tempfile::tempdir().unwrap();
    let kept = Verifications::at(&dir.path().join("ledger.db"));
    (dir, kept)
}

fn end(kept: &Verifications, run: i64, name: &str, outcome: &str, rows: u64) {
    let end = TableEnd {
        outcome,
        rows: (rows, rows),
        standing: "{}",
    };
    kept.table_ends(run, ("app", name), &end).unwrap();
}

fn run_of(kept: &Verifications, tables: &[(&str, bool)]) -> i64 {
    let run = kept.begin(&begun()).unwrap();
    let tables: Vec<_> = tables
        .iter()
        .map(|(name, asked)| Listed {
            database: "app".to_owned(),
            name: (*name).to_owned(),
            asked: *asked,
            rows_about: Some(70),
        })
        .collect();
    kept.tables(run, &tables).unwrap();
    run
}

#[test]
fn a_run_that_was_left_goes_on_where_it_was() {
    let (_dir, kept) = kept();
    assert_eq!(kept.left("legacy", "vitess").unwrap(), None);
    let run = run_of(&kept, &[("a", true), ("b", true), ("c", false)]);
    kept.table_begins(run, ("app", "a")).unwrap();
    end(&kept, run, "a", "equal", 5);
    kept.table_begins(run, ("app", "b")).unwrap();
    kept.keep_cursor(run, ("app", "b"), "here").unwrap();
    kept.found(run, ("app", "b"), &["{}".into()]).unwrap();
    // Another process.
    let later = Verifications::at(&kept.path);
    let left = later.left("legacy", "vitess").unwrap().unwrap();
    assert_eq!((left.id, left.condition.as_deref()), (run, Some("id > 5")));
    assert_eq!(
        later.left("vitess", "legacy").unwrap(),
        None,
        "in other roles"
    );
    let tables = later.tables_left(run).unwrap();
    let told: Vec<_> = tables
        .iter()
        .map(|one| {
            (
                one.name.as_str(),
                one.outcome.as_deref(),
                one.cursor.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("a", Some("equal"), None), ("b", None, Some("here"))]
    );
    assert_eq!(later.rows(run, ("app", "b")).unwrap().len(), 1);
    later.end(run, "aborted", Some("by an operator")).unwrap();
    assert_eq!(later.left("legacy", "vitess").unwrap(), None);
    assert_eq!(
        later.tables_left(run).unwrap()[1].cursor,
        None,
        "no key stays"
    );
}

#[test]
fn what_is_known_of_a_table_is_of_the_newest_run_that_says_something() {
    let (_dir, kept) = kept();
    let told = || -> Vec<(String, Option<String>, u64)> {
        let all = kept.verified("legacy", "vitess", "here").unwrap().tables;
        all.into_iter()
            .map(|one| (one.name, one.outcome, one.rows))
            .collect()
    };
    let named = |name: &str, outcome: Option<&str>, rows| {
        (name.to_owned(), outcome.map(str::to_owned), rows)
    };
    assert_eq!(told(), []);
    let first = run_of(&kept, &[("a", true), ("b", false)]);
    end(&kept, first, "a", "equal", 5);
    assert_eq!(told(), [named("a", Some("equal"), 5), named("b", None, 0)]);
    let all = kept.verified("legacy", "vitess", "here").unwrap().tables;
    let about: Vec<_> = all.iter().map(|one| one.rows_about).collect();
    assert_eq!(
        about,
        [Some(70), Some(70)],
        "of those too that nobody asked for"
    );
    let second = run_of(&kept, &[("a", true), ("b", true)]);
    end(&kept, second, "a", "equal_in_part", 1);
    end(&kept, second, "b", "different", 7);
    // A part that was the same takes nothing back.
    assert_eq!(
        told(),
        [
            named("a", Some("equal"), 5),
            named("b", Some("different"), 7)
        ]
    );
    let third = run_of(&kept, &[("a", false), ("b", true)]);
    end(&kept, third, "b", "equal", 7);
    assert_eq!(told()[1], named("b", Some("equal"), 7));
    assert_eq!(
        kept.verified("vitess", "legacy", "here").unwrap().tables,
        [],
        "in other roles"
    );
}

#[test]
fn a_run_that_begins_closes_the_one_that_was_left_and_old_ones_go() {
    let (_dir, kept) = kept();
    let first = run_of(&kept, &[("a", true)]);
    run_of(&kept, &[("a", true)]);
    let runs = kept.runs(9).unwrap();
    assert_eq!(
        (runs[1].id, runs[1].outcome.as_deref()),
        (first, Some("aborted"))
    );
    for _ in 0..RUNS_MAX {
        run_of(&kept, &[("a", true)]);
    }
    assert!(kept.tables_left(first).unwrap().is_empty());
    assert_eq!(
        i64::try_from(kept.runs(1000).unwrap().len()).unwrap(),
        RUNS_MAX
    );
}

#[test]
fn a_pause_and_the_processes_that_went_on_with_a_run_are_remembered() {
    let (_dir, kept) = kept();
    let run = run_of(&kept, &[("a", true), ("b", true)]);
    let left = |kept: &Verifications| {
        let left = kept.left("legacy", "vitess").unwrap().unwrap();
        (left.paused, left.resumed)
    };
    assert_eq!(left(&kept), (false, 0));
    kept.pause(run, true).unwrap();
    assert_eq!((kept.resumes(run), kept.resumes(run)), (Ok(1), Ok(2)));
    assert_eq!(left(&Verifications::at(&kept.path)), (true, 2));
    // What comes to an end is no loop.
    end(&kept, run, "a", "equal", 5);
    kept.pause(run, false).unwrap();
    assert_eq!(left(&kept), (false, 0));
}

/// Finding: a table that was repaired, or that a later run came to no end with, still counted as equal.
#[test]
fn what_was_repaired_or_left_since_is_not_equal() {
    let (_dir, kept) = kept();
    let told = || -> Vec<Option<String>> {
        let known = kept.verified("legacy", "vitess", "here").unwrap();
        known.tables.into_iter().map(|one| one.outcome).collect()
    };
    let says = |word: &str| Some(word.to_owned());
    let first = run_of(&kept, &[("a", true), ("b", true)]);
    end(&kept, first, "a", "equal", 5);
    end(&kept, first, "b", "equal", 5);
    let second = run_of(&kept, &[("a", true), ("b", true)]);
    let repair = RepairBegun {
        how: "changed",
        columns: Vec::new(),
        key: None,
        statement: None,
    };
    let begin = |run, name| {
        let all = std::slice::from_ref(&repair);
        kept.repairs_begin((run, "dba"), ("app", name), "vitess", all)
            .unwrap()
    };
    let ids = begin(second, "a");
    end(&kept, second, "a", "equal_in_part", 5);
    assert_eq!(told(), [says("repaired"), says("equal")], "it may have run");
    kept.repairs_end(&[(ids[0], "done".to_owned())]).unwrap();
    assert_eq!(told()[0], says("repaired"));
    kept.repairs_end(&[(ids[0], "not repaired: no place".to_owned())])
        .unwrap();
    assert_eq!(told()[0], says("equal"), "nothing was written");
    end(&kept, second, "b", "unfinished", 5);
    assert_eq!(told()[1], says("unfinished"));
    let third = run_of(&kept, &[("a", true), ("b", true)]);
    end(&kept, third, "b", "equal", 5);
    assert_eq!(told()[1], says("equal"));
}

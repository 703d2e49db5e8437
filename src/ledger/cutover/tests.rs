//! What is recorded, and what a restart makes of it.

use super::*;
use tempfile::TempDir;

fn begun() -> Begun {
    Begun {
        from: "legacy".into(),
        to: "vitess".into(),
        dry_run: false,
        is_back: true,
        forced: vec!["lag".into()],
        who: "dba".into(),
    }
}

const WELL: StepEnd<'static> = StepEnd {
    outcome: "done",
    why: "",
};

struct World {
    dir: TempDir,
    records: Records,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::at(&dir.path().join("ledger.db"));
        Self { dir, records }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger.db")
    }

    /// As after a kill: nothing is closed in order.
    fn restarted(self) -> Self {
        let records = Records::at(&self.path());
        std::mem::forget(self.records);
        Self {
            dir: self.dir,
            records,
        }
    }

    /// A cutover in this step.
    fn in_step(&self, step: &str) -> i64 {
        let id = self.records.begin(&begun()).unwrap();
        let mut open = self.records.step_begins(id, "checking").unwrap();
        for next in ["preparing", "holding", "catching_up", "switching"] {
            if self.records.cutover(id).unwrap().unwrap().state == step {
                break;
            }
            open = self.records.step_follows(&open, WELL, id, next).unwrap();
        }
        assert_eq!(self.records.cutover(id).unwrap().unwrap().state, step);
        id
    }
}

#[test]
fn a_cutover_is_told_with_its_steps() {
    let world = World::new();
    let records = &world.records;
    let id = world.in_step("switching");
    records.held(id, Duration::from_millis(12)).unwrap();
    let took = Duration::from_secs(2);
    let failed = StepEnd {
        outcome: "failed",
        why: "it exited with 3",
    };
    records.note(id, "before_hold", took, failed).unwrap();
    let figures = serde_json::json!({"sessions": 200});
    records.keep_figures(id, &figures).unwrap();
    records.switch(id).unwrap();
    records.end(id, "done", "").unwrap();
    let all = records.cutovers(10).unwrap();
    assert_eq!(all.len(), 1);
    let record = serde_json::to_value(&all[0]).unwrap();
    for key in [
        "id", "from", "to", "started", "ended", "outcome", "hold_us", "steps",
    ] {
        assert!(!record[key].is_null(), "{key}: {record}");
    }
    assert_eq!(
        (&record["hold_us"], &record["is_back"]),
        (&Value::from(12_000), &Value::from(true))
    );
    assert_eq!(record["forced"], serde_json::json!(["lag"]));
    assert_eq!(record["figures"], figures);
    let steps: Vec<_> = all[0].steps.iter().map(|step| &*step.step).collect();
    assert_eq!(
        steps,
        [
            "checking",
            "preparing",
            "holding",
            "catching_up",
            "switching",
            "before_hold"
        ]
    );
    let hook = &record["steps"][5];
    assert_eq!(
        (&hook["took_us"], &hook["outcome"], &hook["why"]),
        (
            &Value::from(2_000_000),
            &Value::from("failed"),
            &Value::from("it exited with 3")
        )
    );
    assert_eq!(all[0].steps[4].outcome, None);
    assert!(all[0].steps[3].took_us.is_some());
}

#[test]
fn only_the_switch_makes_another_server_the_primary() {
    for step in [
        "checking",
        "preparing",
        "holding",
        "catching_up",
        "switching",
    ] {
        let world = World::new();
        let id = world.in_step(step);
        let world = world.restarted();
        assert_eq!(recorded(&world.path()), Recorded::Nothing, "{step}");
        assert_eq!(world.records.take_over().unwrap(), None, "{step}");
        let record = world.records.cutover(id).unwrap().unwrap();
        assert_eq!(record.outcome.as_deref(), Some("aborted"), "{step}");
        let why = record.why.unwrap();
        assert!(why.contains("legacy is primary as before"), "{why}");
        assert!(why.contains(&step.replace('_', " ")), "{why}");
        let last = record.steps.last().unwrap();
        assert_eq!(last.outcome.as_deref(), Some("cut"), "{step}");
        assert!(record.steps.iter().all(|step| step.outcome.is_some()));
    }
}

#[test]
fn after_the_switch_a_restart_soaks_on_the_new_side() {
    let world = World::new();
    let id = world.in_step("switching");
    world.records.switch(id).unwrap();
    let world = world.restarted();
    assert_eq!(recorded(&world.path()), Recorded::Is("vitess".into()));
    let soaks = world.records.take_over().unwrap().unwrap();
    assert_eq!(
        (soaks.id, &*soaks.state, soaks.ended),
        (id, "soaking", None)
    );
    let why = soaks.steps.last().unwrap().why.as_deref().unwrap();
    assert!(why.contains("vitess is primary"), "{why}");
    // Once more is the same.
    assert_eq!(
        world.records.take_over().unwrap().map(|one| one.id),
        Some(id)
    );
    world.records.end(id, "done", "").unwrap();
    assert_eq!(world.records.take_over().unwrap(), None);
    world.records.end(id, "aborted", "too late").unwrap();
    let record = world.records.cutover(id).unwrap().unwrap();
    assert_eq!(record.outcome.as_deref(), Some("done"));
}

#[test]
fn the_last_that_was_switched_and_the_last_that_did_anything_are_told() {
    let world = World::new();
    let records = &world.records;
    let told = || {
        let id = |found: Result<Option<Record>, _>| found.unwrap().map(|one: Record| one.id);
        (id(records.last_switched()), id(records.last_acted()))
    };
    assert_eq!(told(), (None, None));
    let first = world.in_step("switching");
    assert_eq!(told(), (None, Some(first)));
    records.switch(first).unwrap();
    records.end(first, "done", "").unwrap();
    let second = world.in_step("checking");
    assert_eq!(told(), (Some(first), Some(second)));
    records.end(second, "refused", "lag").unwrap();
    let dry_run = Begun {
        dry_run: true,
        ..begun()
    };
    let third = records.begin(&dry_run).unwrap();
    records.end(third, "dry_run", "").unwrap();
    assert_eq!(told(), (Some(first), Some(first)));
    let fourth = world.in_step("holding");
    records.end(fourth, "aborted", "").unwrap();
    assert_eq!(told(), (Some(first), Some(fourth)));
}

#[test]
fn a_switch_is_audited_once_and_may_be_run_again() {
    let world = World::new();
    let id = world.in_step("switching");
    for _ in 0..3 {
        world.records.switch(id).unwrap();
    }
    let connection = Connection::open(world.path()).unwrap();
    let ask = "SELECT count(*), max(what) FROM audit WHERE who = 'dba'";
    let told: (i64, String) = connection
        .query_row(ask, (), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(told, (1, format!("cutover {id}: legacy → vitess")));
}

#[test]
fn what_has_ended_is_not_switched_any_more() {
    let world = World::new();
    let id = world.in_step("switching");
    world.records.end(id, "aborted", "").unwrap();
    let refused = world.records.switch(id).unwrap_err();
    assert!(matches!(refused, SwitchError::Failed(_)), "{refused}");
    assert_eq!(recorded(&world.path()), Recorded::Nothing);
}

#[test]
fn an_unknown_switch_is_settled_on_the_side_that_the_file_has() {
    let world = World::new();
    let id = world.in_step("switching");
    assert!(!world.records.settle(id).unwrap());
    assert_eq!(recorded(&world.path()), Recorded::Is("legacy".into()));
    world.records.switch(id).unwrap();
    assert!(world.records.settle(id).unwrap());
    assert!(world.records.settle(id).unwrap(), "again");
    assert_eq!(recorded(&world.path()), Recorded::Is("vitess".into()));
}

#[test]
fn a_switch_waits_for_the_ledgers_writer_and_gives_up_for_certain() {
    let world = World::new();
    let id = world.in_step("switching");
    let writer = Connection::open(world.path()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let switched = scope.spawn(|| world.records.switch(id));
        std::thread::sleep(Duration::from_millis(50));
        writer.execute_batch("ROLLBACK").unwrap();
        switched.join().unwrap().unwrap();
    });
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = world.records.begin(&begun()).unwrap_err();
    assert!(refused.to_string().contains("locked"), "{refused}");
    let refused = world.records.switch(id).unwrap_err();
    assert!(matches!(refused, SwitchError::Failed(_)), "{refused}");
    writer.execute_batch("ROLLBACK").unwrap();
    world.records.switch(id).unwrap();
}

#[test]
fn who_is_primary_can_be_read_while_another_process_writes() {
    let world = World::new();
    world
        .records
        .declare("vitess", "dba", "moved by hand")
        .unwrap();
    let writer = Connection::open(world.path()).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_eq!(recorded(&world.path()), Recorded::Is("vitess".into()));
}

#[test]
fn a_file_that_cannot_be_read_says_so_and_one_that_is_not_there_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    assert_eq!(recorded(&path), Recorded::Nothing);
    std::fs::write(&path, "").unwrap();
    assert_eq!(recorded(&path), Recorded::Nothing);
    std::fs::write(&path, vec![b'x'; 5_000]).unwrap();
    assert!(matches!(recorded(&path), Recorded::Unreadable(_)));
    assert_eq!(
        std::fs::read(&path).unwrap(),
        vec![b'x'; 5_000],
        "untouched"
    );
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(recorded(&path), Recorded::Unreadable(_)));
}

#[test]
fn an_older_ledger_has_no_cutovers_and_says_nothing_of_a_primary() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let older = Connection::open(&path).unwrap();
    older
        .execute_batch(
            "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        )
        .unwrap();
    assert_eq!(recorded(&path), Recorded::Nothing);
    let records = Records::at(&path);
    assert_eq!(records.cutovers(5).unwrap(), []);
    assert_eq!(records.cutover(1).unwrap(), None);
}

#[test]
fn the_oldest_cutovers_go_with_their_steps() {
    let world = World::new();
    let first = world.in_step("checking");
    world.records.end(first, "aborted", "").unwrap();
    let switched = world.in_step("switching");
    world.records.switch(switched).unwrap();
    world.records.end(switched, "done", "").unwrap();
    let connection = Connection::open(world.path()).unwrap();
    let more = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
                INSERT INTO cutovers (from_server, to_server, who, dry_run, is_back, forced, started, ended, state)
                SELECT 'a', 'b', 'c', 0, 0, '[]', 0, 1, 'done' FROM n";
    connection.execute_batch(more).unwrap();
    world.in_step("checking");
    let count = |ask: &str| connection.query_row(ask, (), |row| row.get::<_, i64>(0));
    assert_eq!(count("SELECT count(*) FROM cutovers").unwrap(), 1_001);
    assert_eq!(count("SELECT count(*) FROM cutover_steps").unwrap(), 6);
    assert_eq!(world.records.cutover(first).unwrap(), None);
    let last = world.records.last_switched().unwrap().unwrap();
    assert_eq!(last.id, switched, "it says where the way back leads");
}

#[test]
fn the_switch_is_on_the_disk_and_nothing_else_takes_time() {
    let world = World::new();
    let id = world.in_step("switching");
    let synchronous = || {
        let place = world.records.connection.lock();
        place
            .as_ref()
            .unwrap()
            .query_row("SELECT synchronous FROM pragma_synchronous", (), |row| {
                row.get::<_, i64>(0)
            })
            .unwrap()
    };
    assert_eq!(synchronous(), 1);
    world.records.switch(id).unwrap();
    assert_eq!(synchronous(), 2);
    let place = world.records.connection.lock();
    let checkpoint: i64 = place
        .as_ref()
        .unwrap()
        .query_row("PRAGMA wal_autocheckpoint", (), |row| row.get(0))
        .unwrap();
    assert_eq!(checkpoint, 0, "no checkpoint while sessions are held");
}

/// What a power cut leaves: the file, and so many bytes of its log.
fn cut_after(bytes: usize, file: &[u8], log: &[u8]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ledger.db"), file).unwrap();
    let left = log.get(..bytes).unwrap();
    std::fs::write(dir.path().join("ledger.db-wal"), left).unwrap();
    dir
}

#[test]
fn a_power_cut_leaves_the_record_and_the_primary_on_one_side() {
    let world = World::new();
    let id = world.in_step("switching");
    world.records.switch(id).unwrap();
    world.records.held(id, Duration::from_millis(1)).unwrap();
    let read = |name: &str| std::fs::read(world.dir.path().join(name)).unwrap();
    let (file, log) = (read("ledger.db"), read("ledger.db-wal"));
    let mut sides = std::collections::BTreeSet::new();
    // Where a page ends, and in the midst of one.
    for bytes in (0..=log.len()).step_by(2_060).chain([log.len()]) {
        let dir = cut_after(bytes, &file, &log);
        let path = dir.path().join("ledger.db");
        let primary = recorded(&path);
        let records = Records::at(&path);
        records.take_over().unwrap();
        let after = records.cutover(id).unwrap();
        let switched = after.is_some_and(|record| record.switched.is_some());
        let meant = if switched {
            Recorded::Is("vitess".into())
        } else {
            Recorded::Nothing
        };
        assert_eq!(primary, meant, "after {bytes} bytes of the log");
        assert_eq!(recorded(&path), meant, "after {bytes} bytes of the log");
        sides.insert(switched);
    }
    assert_eq!(sides.len(), 2, "both sides were seen");
}

#[test]
fn the_console_tells_of_cutovers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let text = format!("[ledger]\npath = {path:?}\nlog = \"\"\n");
    let config = crate::config::Config::parse(&text, &[]).unwrap();
    let ledger = crate::ledger::Ledger::open(
        &config.ledger,
        config.shadow.fed_by,
        crate::ledger::Judged::default(),
        std::sync::Arc::new(crate::ledger::Commands::default),
    )
    .unwrap();
    let records = Records::at(&path);
    let id = records.begin(&begun()).unwrap();
    records.step_begins(id, "checking").unwrap();
    let connection = ledger.views(|_| true).unwrap();
    let ask = "SELECT c.from_server, c.to_server, s.step, s.at FROM cutovers c JOIN cutover_steps s ON s.cutover_id = c.id";
    let told: [String; 4] = connection
        .query_row(ask, (), |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
        })
        .unwrap();
    let [from, to, step, at] = told;
    assert_eq!([from, to, step], ["legacy", "vitess", "checking"]);
    at.parse::<jiff::Timestamp>().unwrap();
    ledger.close();
}

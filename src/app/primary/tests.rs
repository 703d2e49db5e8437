use super::*;
use crate::config::FedBy;
use crate::cutover::machine::Soak;
use crate::cutover::{self, State};
use crate::ledger::{Begun, Commands, Judged};
use std::path::Path;

fn config(dir: &Path) -> Config {
    let path = dir.join("ledger.db");
    Config::parse(&format!("[ledger]\npath = {path:?}\nlog = \"\"\n"), &[]).unwrap()
}

fn start(config: &Config, told: Option<&str>) -> Result<Start, AppError> {
    Start::with(
        config,
        told,
        None,
        || {
            let commands = Arc::new(Commands::default);
            Ledger::open(&config.ledger, FedBy::Mirror, Judged::default(), commands)
        },
        || Ledger::in_memory(Arc::new(Commands::default)),
    )
}

/// Who is primary; or the exit code and what is said.
fn primary(config: &Config, told: Option<&str>) -> Result<String, (u8, String)> {
    match start(config, told) {
        Ok(start) => {
            start.ledger.close();
            Ok(start.roles.primary.name.clone())
        }
        Err(AppError::Config(why)) => Err((2, why)),
        Err(AppError::Failed(why)) => Err((1, why)),
    }
}

#[test]
fn every_record_meets_every_wish() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let is = |name: &str| Recorded::Is(name.to_owned());
    let unread = || Recorded::Unreadable("disk I/O error".to_owned());
    for (record, told, meant, declares) in [
        (Recorded::Nothing, None, Ok("legacy"), false),
        (Recorded::Nothing, Some("legacy"), Ok("legacy"), true),
        (Recorded::Nothing, Some("vitess"), Ok("vitess"), true),
        (is("legacy"), None, Ok("legacy"), false),
        (is("legacy"), Some("legacy"), Ok("legacy"), false),
        (is("legacy"), Some("vitess"), Err("does not tell"), false),
        (is("vitess"), None, Ok("vitess"), false),
        (is("vitess"), Some("vitess"), Ok("vitess"), false),
        (
            is("vitess"),
            Some("legacy"),
            Err("understudy rollback"),
            false,
        ),
        (is("older"), None, Err("no server of that name"), false),
        (is("older"), Some("vitess"), Ok("vitess"), true),
        (unread(), None, Err("--primary NAME"), false),
        (unread(), Some("legacy"), Ok("legacy"), true),
    ] {
        let chosen = choose(&config, &record, told, None);
        match (chosen, meant) {
            (Ok(chosen), Ok(name)) => {
                assert_eq!(chosen.roles.primary.name, name, "{record:?} {told:?}");
                assert_ne!(chosen.roles.shadow.name, name);
                assert_eq!(chosen.declare, declares, "{record:?} {told:?}");
                let beats = record == is("vitess");
                assert_eq!(chosen.words.is_some(), declares || beats);
            }
            (Err(AppError::Failed(why)), Err(words)) => {
                assert!(why.contains(words), "{words:?} in {why:?}");
            }
            (chosen, meant) => panic!("{record:?} {told:?}: {chosen:?}, not {meant:?}"),
        }
    }
}

#[test]
fn a_name_that_no_server_has_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let (code, why) = primary(&config(dir.path()), Some("vites")).unwrap_err();
    assert_eq!(code, 2);
    assert!(why.contains("legacy") && why.contains("vitess"), "{why}");
    assert!(
        !dir.path().join("ledger.db").exists(),
        "nothing was touched"
    );
}

#[test]
fn what_an_operator_said_once_holds_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    assert_eq!(primary(&config, None).unwrap(), "legacy");
    assert_eq!(primary(&config, Some("vitess")).unwrap(), "vitess");
    assert_eq!(primary(&config, None).unwrap(), "vitess");
    let (code, why) = primary(&config, Some("legacy")).unwrap_err();
    assert_eq!(code, 1, "{why}");
}

#[test]
fn a_ledger_that_cannot_be_read_stops_the_start_unless_somebody_knows() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    std::fs::write(&config.ledger.path, vec![b'x'; 5_000]).unwrap();
    let (code, why) = primary(&config, None).unwrap_err();
    assert_eq!(code, 1);
    assert!(why.contains("--primary NAME"), "{why}");
    let started = start(&config, Some("vitess")).unwrap();
    assert_eq!(started.roles.primary.name, "vitess");
    assert!(started.records.is_none() && !started.ledger.is_kept());
    let left = std::fs::read(&config.ledger.path).unwrap();
    assert_eq!(left, vec![b'x'; 5_000], "untouched");
}

#[test]
fn a_ledger_of_another_process_is_nobodys_to_serve_with() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let first = start(&config, None).unwrap();
    for told in [None, Some("vitess")] {
        let (code, why) = primary(&config, told).unwrap_err();
        assert_eq!(code, 1);
        assert!(why.contains("in use"), "{why}");
    }
    first.ledger.close();
}

fn stands(start: &Start) -> State {
    let records = start.records.as_ref().unwrap();
    cutover::restored(records.last_acted().unwrap().as_ref())
}

#[test]
fn a_start_after_a_crash_is_on_the_side_that_the_record_has() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let begun = Begun {
        from: "legacy".into(),
        to: "vitess".into(),
        dry_run: false,
        is_back: false,
        forced: Vec::new(),
        who: "dba".into(),
    };
    let records = Records::at(&config.ledger.path);
    let aborted = records.begin(&begun).unwrap();
    records.step_begins(aborted, "holding").unwrap();
    let started = start(&config, None).unwrap();
    assert_eq!(started.roles.primary.name, "legacy");
    assert_eq!(stands(&started), State::Aborted);
    started.ledger.close();
    let switched = records.begin(&begun).unwrap();
    records.step_begins(switched, "switching").unwrap();
    records.switch(switched).unwrap();
    let started = start(&config, None).unwrap();
    assert_eq!(started.roles.primary.name, "vitess");
    assert_eq!(started.roles.shadow.name, "legacy");
    let soak = Soak { is_back: false };
    assert_eq!(stands(&started), State::Soaking(soak));
    started.ledger.close();
    let ended: Vec<_> = records.cutovers(9).unwrap();
    let outcomes: Vec<_> = ended.iter().map(|one| one.outcome.as_deref()).collect();
    assert_eq!(outcomes, [None, Some("aborted")]);
}

fn told_by_fleet(name: &str, cutover: Option<&str>) -> Primary {
    Primary {
        name: name.into(),
        cutover: cutover.map(str::to_owned),
        is_back: false,
        at: jiff::Timestamp::now(),
    }
}

#[test]
fn the_fleet_is_believed_whatever_stands_here() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let is = |name: &str| Recorded::Is(name.to_owned());
    let unread = || Recorded::Unreadable("disk I/O error".to_owned());
    for (record, fleet, declares, says) in [
        (Recorded::Nothing, "legacy", true, false),
        (Recorded::Nothing, "vitess", true, true),
        (is("legacy"), "legacy", false, false),
        (is("legacy"), "vitess", true, true),
        (is("vitess"), "legacy", true, true),
        (is("older"), "vitess", true, true),
        (unread(), "vitess", true, true),
    ] {
        let fleet = told_by_fleet(fleet, None);
        let chosen = choose(&config, &record, None, Some(&fleet)).unwrap();
        assert_eq!(chosen.roles.primary.name, fleet.name, "{record:?}");
        assert_eq!(chosen.declare, declares, "{record:?}");
        assert_eq!(chosen.words.is_some(), says, "{record:?}");
    }
    let stranger = told_by_fleet("older", None);
    let error = choose(&config, &Recorded::Nothing, None, Some(&stranger)).unwrap_err();
    assert!(
        error.to_string().contains("no server of that name"),
        "{error}"
    );
    let error = agree(Some("legacy"), Some(&told_by_fleet("vitess", None))).unwrap_err();
    assert!(error.to_string().contains("Start without it"), "{error}");
    agree(Some("vitess"), Some(&told_by_fleet("vitess", None))).unwrap();
}

#[test]
fn a_process_that_ended_behind_the_fleets_switch_goes_on_with_its_soak() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let begin = |call: &str| {
        let records = Records::at(&config.ledger.path);
        let id = records
            .begin(&Begun {
                from: "legacy".into(),
                to: "vitess".into(),
                dry_run: false,
                is_back: false,
                forced: Vec::new(),
                who: "dba".into(),
            })
            .unwrap();
        let figures = serde_json::json!({"fleet": call});
        records.keep_figures(id, &figures).unwrap();
    };
    let start = |fleet: &Primary| {
        let start = Start::with(
            &config,
            None,
            Some(fleet),
            || {
                let commands = Arc::new(Commands::default);
                Ledger::open(&config.ledger, FedBy::Mirror, Judged::default(), commands)
            },
            || Ledger::in_memory(Arc::new(Commands::default)),
        );
        let start = start.unwrap();
        start.ledger.close();
        let last = start.records.unwrap().last_acted().unwrap();
        (
            start.roles.primary.name.clone(),
            cutover::restored(last.as_ref()),
        )
    };
    let legacy = told_by_fleet("legacy", None);
    assert_eq!(start(&legacy), ("legacy".into(), State::Idle));
    begin("a.1");
    let soak = Soak { is_back: false };
    let here = told_by_fleet("vitess", Some("a.1"));
    assert_eq!(start(&here), ("vitess".into(), State::Soaking(soak)));
    let records = Records::at(&config.ledger.path);
    let was_in = |cutover| records.was_in_switch_of_fleet(cutover).unwrap();
    assert!(was_in("a.1") && !was_in("a.2"));
    // One that the fleet did not switch is closed.
    begin("a.2");
    let other = told_by_fleet("vitess", Some("a.3"));
    assert_eq!(start(&other), ("vitess".into(), State::Aborted));
    assert!(
        !was_in("a.2"),
        "it was called to it, and it was not switched"
    );
}

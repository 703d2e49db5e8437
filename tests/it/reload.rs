//! A real process reads its config again: by a signal, by the API, and on the command line.

use crate::takeover::process::{House, until};
use crate::takeover::server::Client;
use serde_json::{Value, json};
use std::process::Command;

const PATH: &str = "/api/v1/config/reload";

/// Changes a house's config: each first text into its second.
fn rewrite(house: &House, changes: &[(&str, &str)]) {
    let file = house.file("understudy.toml");
    let mut text = std::fs::read_to_string(&file).expect("the config");
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    std::fs::write(&file, text).expect("written");
}

fn keys(answer: &Value, list: &str) -> Vec<String> {
    let list = answer[list].as_array().expect("a list").iter();
    list.map(|one| one["key"].as_str().expect("a key").to_owned())
        .collect()
}

fn control(house: &House) -> Value {
    house.get("/api/v1/status").expect("the status")["mirror"].clone()
}

#[test]
fn sighup_takes_all_that_can_change_or_nothing() {
    let house = House::new("max_connections = 3");
    let process = house.serving();
    let _one = Client::connect(&house.address).expect("a session");
    let two = Client::connect(&house.address).expect("another one");
    assert!(
        !process.log().contains("logged in"),
        "it is no line of info"
    );

    rewrite(
        &house,
        &[
            ("max_connections = 3", "max_connections = 2"),
            ("[ledger]", "[log]\nfilter = \"debug\"\n[ledger]"),
        ],
    );
    process.signal("HUP");
    process.says("config: listen.max_connections 3 → 2, log.filter (not written) → \"debug\"");
    let refused = Client::connect(&house.address).err().expect("refused");
    assert!(
        refused.to_string().contains("Too many connections"),
        "{refused}"
    );
    two.quit().expect("it goes");
    let mut three = None;
    until("there is a place again", || {
        three = Client::connect(&house.address).ok();
        three.is_some()
    });
    process.says("logged in");

    // A wrong file.
    rewrite(&house, &[("max_connections = 2", "max_conections = 9")]);
    process.signal("HUP");
    process.says("nothing of the config was changed");
    process.says("listen.max_conections: unknown key; did you mean max_connections?");
    // A key that needs a restart, beside one that does not.
    rewrite(
        &house,
        &[("max_conections = 9", "max_connections = 4\nthreads = 2")],
    );
    process.signal("HUP");
    process.says("a running process cannot change listen.threads (not written) → 2");
    assert!(
        Client::connect(&house.address).is_err(),
        "2 are the most, as before"
    );
    // And all is well once that is taken out.
    rewrite(&house, &[("\nthreads = 2", "")]);
    process.signal("HUP");
    process.says("config: listen.max_connections 2 → 4");
    Client::connect(&house.address).expect("a third one");
}

#[test]
fn the_api_and_the_command_line_say_what_they_take() {
    let house = House::new("");
    let process = house.serving();
    let ask = |dry_run: bool| house.post(PATH, &json!({"dry_run": dry_run, "who": "dba"}));
    let (status, answer) = ask(false);
    let nothing = json!({"taken": true, "changed": [], "needs_restart": []});
    assert_eq!((status, answer), (200, nothing));

    // Switched by hand, and not by the file: what the file says anew holds, and nothing else of it.
    let patch = json!({"reads": false, "sample": 0.25});
    let sent = ureq::patch(format!("{}/api/v1/mirror", house.admin)).send_json(&patch);
    assert_eq!(sent.expect("switched").status(), 200);
    rewrite(
        &house,
        &[
            ("[mirror]", "[mirror]\nsample = 0.5\nbreaker_errors = 7"),
            ("[ledger]", "[readiness]\ntaints = 3\n[ledger]"),
        ],
    );
    let (status, answer) = ask(true);
    let expected = ["mirror.breaker_errors", "mirror.sample", "readiness.taints"];
    assert_eq!(
        (status, keys(&answer, "changed")),
        (200, expected.map(str::to_owned).to_vec())
    );
    assert_eq!(
        (&answer["taken"], &control(&house)["sample"]),
        (&json!(false), &json!(0.25))
    );
    let (status, answer) = ask(false);
    assert_eq!((status, &answer["taken"]), (200, &json!(true)), "{answer}");
    let now = control(&house);
    assert_eq!(
        (&now["sample"], &now["reads"]),
        (&json!(0.5), &json!(false))
    );
    let readiness = house.get("/api/v1/readiness").expect("the guards");
    let guards = readiness["guards"].as_array().expect("guards");
    let taint = guards.iter().find(|guard| guard["name"] == "taint");
    assert_eq!(taint.expect("the guard")["limit"], 3);

    // What needs a restart is refused by name, and the rest with it.
    rewrite(
        &house,
        &[
            ("taints = 3", "taints = 4"),
            ("password = \"understudy\"", "password = \"another-one\""),
        ],
    );
    let (status, answer) = ask(false);
    assert_eq!(
        (status, keys(&answer, "needs_restart")),
        (409, vec!["shadow.password".to_owned()])
    );
    let message = answer["error"]["message"].as_str().expect("a message");
    assert!(message.contains("--take-over"), "{message}");
    assert!(!answer.to_string().contains("another-one"), "{answer}");
    let told = |arguments: &[&str]| {
        let told = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(["reload", "--admin", &house.admin])
            .args(arguments)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&told.stdout).into_owned();
        (told.status.code(), said)
    };
    let (code, said) = told(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("shadow.password  (not shown) → (not shown)"),
        "{said}"
    );

    rewrite(&house, &[("another-one", "understudy")]);
    let (code, said) = told(&["--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("readiness.taints  3 → 4"), "{said}");
    assert_eq!(told(&[]).0, Some(0));
    let metrics = ureq::get(format!("{}/metrics", house.admin)).call();
    let metrics = metrics
        .expect("metrics")
        .body_mut()
        .read_to_string()
        .expect("text");
    for line in [
        "understudy_config_reloads_total 3",
        "understudy_config_reloads_refused_total 2",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!process.log().contains("another-one"));
}

#[test]
fn a_filter_of_the_log_that_is_none_is_a_fault() {
    let text = "[log]\nfilter = \"understudy=loud\"";
    let faults = understudy::config::Config::parse(text, &[]).expect_err("loud");
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["log.filter"]);
}

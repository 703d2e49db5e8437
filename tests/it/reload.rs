//! A real process reads its config again: by a signal, by the API, and on the command line.

use crate::takeover::process::{House, until};
use crate::takeover::server::Client;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

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
    process.says("config: listen.max_connections 3 → 2, log.filter \"\" (default) → \"debug\"");
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
    process.says("a running process cannot change listen.threads 0 (default) → 2");
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
    let nothing = json!({"taken": true, "changed": [], "needs_restart": [], "switches": []});
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
    let told = |switch: &Value| ["key", "file", "was", "is"].map(|key| switch[key].clone());
    let switches = answer["switches"].as_array().expect("switches").iter();
    assert_eq!(
        json!(switches.map(told).collect::<Vec<_>>()),
        json!([
            ["mirror.reads", "true", "false", "false"],
            ["mirror.sample", "0.5", "0.25", "0.5"],
        ]),
        "{answer}"
    );
    process.says("switches: mirror.reads false → false, the file true");
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
fn half_a_file_is_not_taken() {
    let house = House::new("");
    let process = house.serving();
    let file = house.file("understudy.toml");
    let text = std::fs::read_to_string(&file).expect("the config");
    let (half, _) = text.split_once("[admin]").expect("its last section");
    std::fs::write(&file, half.trim_end()).expect("written");
    process.signal("HUP");
    process.says("the file does not end with a newline: it may be half written");
    std::fs::write(&file, "").expect("written");
    process.signal("HUP");
    process.says("the file is empty");
    // Elsewhere, and renamed over.
    let other = house.file("other.toml");
    let changed = text.replace("drain_timeout_s = 5", "drain_timeout_s = 6");
    std::fs::write(&other, changed).expect("written");
    std::fs::rename(&other, &file).expect("renamed");
    process.signal("HUP");
    process.says("config: listen.drain_timeout_s 5 → 6");
}

#[test]
fn a_file_that_hangs_is_said_to_who_asks_next() {
    let secrets = tempfile::tempdir().expect("a directory");
    let password = secrets.path().join("password");
    std::fs::write(&password, "understudy\n").expect("written");
    let house = House::new("");
    let named = format!("password_file = {password:?}");
    rewrite(&house, &[("password = \"understudy\"", &named)]);
    let process = house.serving();
    // A pipe in its place, that nobody writes to.
    std::fs::remove_file(&password).expect("removed");
    let made = Command::new("mkfifo").arg(&password).status();
    assert!(made.expect("mkfifo runs").success());
    // One of two readings waits for it, and the other is told.
    until("it is being read", || {
        process.signal("HUP");
        process.log().contains("it is being read already, for ")
    });
    process.says("the config has been being read for 10 s");
    // Somebody writes there at last: it is the same secret.
    std::fs::write(&password, "understudy\n").expect("written");
    process.says("config: nothing new");
    std::fs::remove_file(&password).expect("removed");
    std::fs::write(&password, "understudy\n").expect("written");
    until("it can be read again", || {
        house.post(PATH, &json!({"dry_run": true})).0 == 200
    });
}

/// A certificate for 127.0.0.1 that vouches for itself, and its key, in their files; what stands in it.
fn certify(chain: &Path, key: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("made");
    std::fs::write(chain, made.cert.pem()).expect("written");
    std::fs::write(key, made.signing_key.serialize_pem()).expect("written");
    made.cert.der().clone()
}

/// Whether a client that asks for TLS is shown this certificate.
fn is_shown(address: &str, wanted: &CertificateDer<'static>) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(wanted.clone()).expect("one that can be used");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "127.0.0.1".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = TcpStream::connect(address).expect("connected");
    let mut head = [0; 4];
    stream.read_exact(&mut head).expect("a greeting");
    let mut greeting = vec![0; usize::from(head[0]) | usize::from(head[1]) << 8];
    stream.read_exact(&mut greeting).expect("a greeting");
    // PROTOCOL_41, SSL, SECURE_CONNECTION.
    let mut request = vec![32, 0, 0, 1];
    request.extend(0x8A00_u32.to_le_bytes());
    request.extend([0, 0, 0, 1, 45]);
    request.extend([0; 23]);
    stream.write_all(&request).expect("asked for TLS");
    while client.is_handshaking() {
        if client.complete_io(&mut stream).is_err() {
            return false;
        }
    }
    true
}

#[test]
fn a_renewed_certificate_is_shown_to_clients_from_the_next_reading_on() {
    let files = tempfile::tempdir().expect("a directory");
    let (chain, key) = (files.path().join("chain.pem"), files.path().join("key.pem"));
    let first = certify(&chain, &key);
    let house = House::new(&format!("tls_cert = {chain:?}\ntls_key = {key:?}"));
    let process = house.serving();
    let ask = || house.post(PATH, &json!({}));
    assert!(is_shown(&house.address, &first));
    assert_eq!(ask().1["changed"], json!([]), "nothing new");

    // Half of it: the key is another one's.
    let second = certify(&chain, &files.path().join("elsewhere.pem"));
    let (status, answer) = ask();
    assert_eq!(status, 409, "{answer}");
    let message = answer["error"]["message"].as_str().expect("a message");
    assert!(message.contains("listen.tls_cert"), "{message}");
    assert!(is_shown(&house.address, &first));

    std::fs::rename(files.path().join("elsewhere.pem"), &key).expect("renamed");
    let (status, answer) = ask();
    assert_eq!(
        (status, keys(&answer, "changed")),
        (
            200,
            vec!["listen.tls_cert".to_owned(), "listen.tls_key".to_owned()]
        ),
        "{answer}"
    );
    let to = answer["changed"][0]["to"].as_str().expect("words");
    assert!(
        to.contains("another content, which expires 4096-01-01"),
        "{to}"
    );
    assert!(is_shown(&house.address, &second) && !is_shown(&house.address, &first));
    process.says("the same file with another content, which expires");
    assert_eq!(ask().1["changed"], json!([]), "it is known");
}

#[test]
fn a_filter_of_the_log_that_is_none_is_a_fault() {
    let text = "[log]\nfilter = \"understudy=loud\"";
    let faults = understudy::config::Config::parse(text, &[]).expect_err("loud");
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["log.filter"]);
}

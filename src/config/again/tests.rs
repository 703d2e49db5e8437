//! Every key that there is: it changes, or is refused by name.

use super::super::meaning;
use super::*;

const DOCUMENTED: &str = include_str!("../../../config/understudy.toml");

/// Values of which each key that stands alone takes at least one that is not its default.
const OTHERS: [&str; 19] = [
    "false",
    "true",
    "1",
    "2",
    "60",
    "600",
    "3601",
    "0.5",
    "64KiB",
    "2MiB",
    "off",
    "v1",
    "keep",
    "end",
    "rollback",
    "replication",
    "gtid",
    "127.0.0.1:1",
    "[\"info\"]",
];

/// Tables and lists, whose entries are the operator's own.
const OF_ONES_OWN: [(&str, &str); 5] = [
    ("primary.users", "[primary.users]\na = { user = \"b\" }"),
    ("shadow.users", "[shadow.users]\na = { user = \"b\" }"),
    ("shadow.databases", "[shadow.databases]\na = \"b\""),
    ("readiness.divergences", "[readiness.divergences]\nrows = 5"),
    (
        "compare.rules",
        "[[compare.rules]]\nname = \"n\"\ntable = \"t\"\nstate = \"noise\"\nwho = \"dba\"",
    ),
];

fn read(text: &str) -> Config {
    Config::parse(text, &[]).expect(text)
}

fn names(list: &[Difference]) -> Vec<&str> {
    list.iter().map(|one| one.key.as_str()).collect()
}

/// A config in which this key says something else, be it right or not in the light of others.
fn with_another(key: &str) -> Config {
    if let Some((_, text)) = OF_ONES_OWN.iter().find(|(name, _)| *name == key) {
        return read(text);
    }
    let variable = format!("UNDERSTUDY__{}", key.replace('.', "__").to_uppercase());
    let meant = |config: &Config| Some(config.keys.whole().0.get(key)?.meant.clone());
    let usual = meant(&read(""));
    let tried = OTHERS.iter().map(|value| {
        let variables = [(variable.clone(), (*value).to_owned())];
        let (config, ..) = meaning::read("", &variables).expect("TOML");
        config
    });
    let mut others = tried.filter(|config| meant(config) != usual);
    others
        .next()
        .unwrap_or_else(|| panic!("nothing else for {key}"))
}

#[test]
fn every_key_changes_or_is_refused_by_name() {
    let (_, faults, known) = meaning::read("", &[]).expect("TOML");
    assert_eq!(faults, []);
    assert!(known.len() > 150, "{}", known.len());
    for key in known {
        let (running, other) = (read(""), with_another(&key));
        let before = format!("{running:#?}");
        let found = running.follow(&other);
        let is_of_it = |one: &str| is_in(one, &key);
        if Config::is_live(&key) {
            assert_eq!(names(&found.needs_restart), [""; 0], "{key}");
            assert!(
                names(&found.changed).iter().all(|one| is_of_it(one)),
                "{key}: {found:?}"
            );
            assert!(!found.changed.is_empty(), "{key}");
            // All that there is of the config is as in the other one.
            assert_eq!(format!("{running:#?}"), format!("{other:#?}"), "{key}");
            assert_eq!(running.differences(&other), Differences::default(), "{key}");
        } else {
            let refused = names(&found.needs_restart);
            assert!(refused.iter().any(|one| is_of_it(one)), "{key}: {found:?}");
            assert_eq!(format!("{running:#?}"), before, "{key}");
        }
    }
}

#[test]
fn every_live_key_is_one_of_the_configs() {
    let (_, _, known) = meaning::read("", &[]).expect("TOML");
    for (name, _) in LIVE {
        assert!(known.iter().any(|key| is_in(key, name)), "{name}");
    }
}

#[test]
fn what_means_the_same_says_nothing_new() {
    assert_eq!(
        read("").differences(&read(DOCUMENTED)),
        Differences::default()
    );
    for (one, other) in [
        (
            "[ledger]\nlog_bytes = \"64MiB\"",
            "[ledger]\nlog_bytes = 67108864",
        ),
        ("[mirror]\nsample = 1.0", "[mirror]\nsample = 1"),
        ("[fleet]\netcd = []", ""),
        ("[compare]\nfloor = \"\"", ""),
    ] {
        assert_eq!(
            read(one).differences(&read(other)),
            Differences::default(),
            "{one}"
        );
    }
}

#[test]
fn where_one_key_needs_a_restart_none_is_taken() {
    let running = read("[listen]\ndrain_timeout_s = 5");
    let other = read("[listen]\ndrain_timeout_s = 6\nthreads = 3");
    let found = running.follow(&other);
    assert_eq!(names(&found.changed), ["listen.drain_timeout_s"]);
    assert_eq!(names(&found.needs_restart), ["listen.threads"]);
    assert_eq!(running.listen.drain_timeout.now().as_secs(), 5);
    let told = found.refusal();
    assert!(
        told.contains("listen.threads 0 (default) → 3") && told.contains("--take-over"),
        "{told}"
    );
    // The file is put back, but for what can change.
    let found = running.follow(&read("[listen]\ndrain_timeout_s = 6"));
    assert_eq!(
        found.changed,
        [Difference {
            key: "listen.drain_timeout_s".to_owned(),
            from: "5".to_owned(),
            to: "6".to_owned(),
            why: None,
        }]
    );
    assert_eq!(running.listen.drain_timeout.now().as_secs(), 6);
}

#[test]
fn nothing_secret_is_told() {
    let secret = "[primary]\nuser = \"u\"\npassword = \"hunter2\"\n\
        [shadow.users]\na = { user = \"b\", password = \"hunter2\" }\n\
        [admin]\ntoken = \"hunter2hunter2hunter2\"\n\
        [cutover]\nbefore_hold = [\"curl\", \"-H\", \"hunter2\"]\n\
        [fleet]\netcd = [\"http://a:hunter2@b:2379\"]\n";
    let (other, ..) = meaning::read(secret, &[]).expect("TOML");
    let running = read("");
    for found in [running.differences(&other), other.differences(&running)] {
        let keys = names(&found.needs_restart);
        for key in [
            "primary.password",
            "shadow.users.a.password",
            "admin.token",
            "cutover.before_hold",
            "fleet.etcd",
        ] {
            assert!(keys.contains(&key), "{key}: {keys:?}");
        }
        let told = format!("{found:?} {} {}", found.refusal(), serde_json::json!(found));
        assert!(!told.contains("hunter2"), "{told}");
    }
    let kept = format!("{:?} {:?}", other.keys, other.keys.whole().0);
    assert!(!kept.contains("hunter2"), "{kept}");
}

#[test]
fn no_fault_shows_what_may_be_secret() {
    let file = |text: &str| meaning::read(text, &[]).expect("TOML").1;
    let variable = |name: &str, value: &str| {
        let variable = [(format!("UNDERSTUDY__{name}"), value.to_owned())];
        meaning::read("", &variable).expect("TOML").1
    };
    for (faults, key) in [
        (
            file("[cutover]\nbefore_hold = \"curl -H 'Authorization: hunter2'\""),
            "cutover.before_hold",
        ),
        (
            file("[cutover]\nafter_switch = [\"curl\", [\"hunter2\"]]"),
            "cutover.after_switch",
        ),
        (
            variable("CUTOVER__BEFORE_HOLD", "curl -H hunter2"),
            "cutover.before_hold",
        ),
        (file("[shadow]\ninit = \"SET hunter2\""), "shadow.init"),
        (
            file("[fleet]\nname = \"a\"\netcd = [\"http://root:hunter2@etcd:2379/v3\"]"),
            "fleet.etcd",
        ),
        (
            file("[primary]\naddress = \"mysql://root:hunter2@db\""),
            "primary.address",
        ),
        (
            file("[compare]\nrecheck = \"replica\"\nrecheck_replica = \"root:hunter2@db\""),
            "compare.recheck_replica",
        ),
        (
            file("[primary]\nuser = \"u\"\npassword = [\"hunter2\"]"),
            "primary.password",
        ),
        (
            file("[admin]\ntoken = \"hunter2\"\naddress = \"0.0.0.0:8306\""),
            "admin.token_file",
        ),
    ] {
        assert!(
            faults.iter().any(|fault| fault.key == key),
            "{key}: {faults:?}"
        );
        assert!(!format!("{faults:?}").contains("hunter2"), "{faults:?}");
    }
}

#[test]
fn a_files_other_content_is_taken_or_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
    let of = |text: &str| {
        let text = text.replace("DIR", &dir.path().display().to_string());
        meaning::read(&text, &[]).expect("TOML").0
    };
    let served = "[listen]\ntls_cert = \"DIR/cert\"\ntls_key = \"DIR/key\"";
    write("cert", "1");
    write("key", "1");
    let running = of(served);
    assert_eq!(running.differences(&of(served)), Differences::default());
    write("cert", "2");
    write("key", "2");
    let found = running.follow(&of(served));
    assert_eq!(names(&found.needs_restart), [""; 0]);
    assert_eq!(names(&found.changed), ["listen.tls_cert", "listen.tls_key"]);
    assert_eq!(found.changed[0].to, "the same file with another content");
    assert_eq!(running.differences(&of(served)), Differences::default());
    // Another file of the same content is another one.
    write("other", "2");
    let other = of(&served.replace("DIR/cert", "DIR/other"));
    let found = running.follow(&other);
    assert_eq!(names(&found.needs_restart), ["listen.tls_cert"]);

    for (key, section) in [
        ("primary.tls_ca", "[primary]\ntls = \"verify-ca\""),
        ("shadow.tls_ca", "[shadow]\ntls = \"verify-ca\""),
        ("fleet.tls_ca", "[fleet]"),
    ] {
        let text = format!("{section}\ntls_ca = \"DIR/{key}\"");
        write(key, "1");
        let running = of(&text);
        assert_eq!(running.differences(&of(&text)), Differences::default());
        write(key, "2");
        let found = running.follow(&of(&text));
        assert_eq!(names(&found.needs_restart), [key]);
        assert!(
            found.refusal().contains("what is in it has changed"),
            "{found:?}"
        );
    }
    // These are looked at all the time.
    let admin = "[admin]\ntls_cert = \"DIR/cert\"\ntls_key = \"DIR/key\"";
    let running = of(admin);
    write("cert", "3");
    assert_eq!(running.differences(&of(admin)), Differences::default());
}

#[test]
fn connections_are_at_most_twice_what_was_laid_out() {
    let running = read("[listen]\nmax_connections = 10");
    let found = running.follow(&read("[listen]\nmax_connections = 21"));
    assert_eq!(names(&found.needs_restart), ["listen.max_connections"]);
    assert!(found.refusal().contains("more than twice"), "{found:?}");
    for most in [20, 1, 20] {
        let found = running.follow(&read(&format!("[listen]\nmax_connections = {most}")));
        assert_eq!(found.needs_restart, []);
        assert_eq!(running.listen.max_connections.now(), most);
    }
}

#[test]
fn rules_are_told_as_one_list() {
    let (_, rule) = OF_ONES_OWN[4];
    let running = read("");
    let found = running.follow(&read(rule));
    assert_eq!(names(&found.changed), ["compare.rules"]);
    assert_eq!(running.compare.rules.whole().len(), 1);
}

//! The file as written and the config as meant, told apart where they part.

use super::*;
use std::path::Path;

const DEFAULTS: &str = include_str!("../../../config/understudy.toml");

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

fn wrong(text: &str, environment: &[(&str, &str)]) -> String {
    let faults = Config::parse(text, &variables(environment)).expect_err(text);
    super::super::ConfigError {
        file: Path::new("c.toml").to_owned(),
        faults,
    }
    .to_string()
}

#[test]
fn the_documented_file_holds_every_key_at_its_default() {
    let (written, faults, known) = read(DEFAULTS, &[]).expect("TOML");
    assert_eq!(faults, []);
    let defaults = Config::parse("", &[]).expect("the defaults are sound");
    assert_eq!(format!("{written:#?}"), format!("{defaults:#?}"));
    for key in known {
        let (section, key) = key.rsplit_once('.').expect("section.key");
        let below = DEFAULTS
            .split(&format!("\n[{section}]\n"))
            .nth(1)
            .unwrap_or_else(|| panic!("[{section}]"));
        let below = below.split("\n[").next().expect("a section");
        let sub = format!("\n[{section}.{key}]");
        let lines: Vec<&str> = below.lines().collect();
        let at = lines.iter().position(|line| {
            line.trim_start_matches("# ")
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(" = "))
        });
        let Some(at) = at else {
            assert!(
                DEFAULTS.contains(&sub),
                "{section}.{key} is not in config/understudy.toml"
            );
            continue;
        };
        let told = at
            .checked_sub(1)
            .and_then(|above| lines.get(above))
            .is_some_and(|line| line.starts_with("# "));
        assert!(
            told,
            "{section}.{key} has no sentence in config/understudy.toml"
        );
    }
}

#[test]
fn what_stands_commented_out_in_the_documented_file_is_understood() {
    let uncommented: String = DEFAULTS
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest.split_once(" = ").is_some_and(|(key, _)| {
                    key.chars().all(|c| c == '_' || c.is_ascii_lowercase())
                }) =>
            {
                rest
            }
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let (_, faults, _) = read(&uncommented, &[]).expect("TOML");
    let unknown: Vec<_> = faults
        .iter()
        .filter(|fault| fault.wrong.starts_with("unknown"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one row a fault")]
fn a_wrong_config_is_told_where_what_and_what_would_be_right() {
    let cases: &[(&str, &str)] = &[
        (
            "[listen]\nadress = \"127.0.0.1:1\"",
            "c.toml:2: listen.adress: unknown key; did you mean address?",
        ),
        (
            "[miror]\nreads = true",
            "c.toml:1: miror: unknown section; did you mean [mirror]?",
        ),
        (
            "[cutover]\nfence = true\n[fleet]\netcd = [\"http://a:2379\"]",
            "c.toml: fleet.name: this proxy of a fleet has no name; give each proxy a name of its own, which it keeps when it is started again",
        ),
        (
            "[fleet]\nprefix = \"/\"",
            "c.toml:2: fleet.prefix: found \"/\": everything in etcd would be read; write a prefix of this deployment's own, such as \"/understudy/\"",
        ),
        (
            "[fleet]\nname = \"a\"\netcd = [\"127.0.0.1:2379\"]",
            "c.toml:3: fleet.etcd: no. 1 in the list is no URL without a path; write etcd's client URLs, such as [\"http://127.0.0.1:2379\"]",
        ),
        (
            "[fleet]\nname = \"a\"\netcd = [\"http://127.0.0.1:2379/\"]",
            "c.toml: cutover.fence: a proxy of a fleet may be cut off from the others: what it then still holds must not be able to write to the old primary; set cutover.fence = true, or take fleet.etcd out",
        ),
        (
            "[cutover]\nfence = true\n[fleet]\nname = \"a\"\netcd = [\"https://a:2379\"]",
            "c.toml: fleet.tls_ca: etcd has URLs with https, and nobody is named who signs its certificate; name the CA's file (PEM)",
        ),
        (
            "[cutover]\nstuck = \"wait\"",
            "c.toml:2: cutover.stuck: found \"wait\"; write one of \"abort\", \"end\"",
        ),
        (
            "[cutover]\ncatch_up = \"gtid\"",
            "c.toml:2: cutover.catch_up: nothing but the mirror feeds this shadow: shadow.fed_by is \"mirror\"; write \"mirror\", or take it out",
        ),
        (
            "[shadow]\nfed_by = \"replication\"\n[mirror]\nwrites = \"off\"\n[cutover]\ncatch_up = \"mirror\"",
            "c.toml:6: cutover.catch_up: the mirror does not feed this shadow: shadow.fed_by is \"replication\"; write \"heartbeat\", \"gtid\" or \"hook\"",
        ),
        (
            "[shadow]\nfed_by = \"replication\"\n[mirror]\nwrites = \"off\"\n[cutover]\ncatch_up = \"hook\"",
            "c.toml: cutover.catch_up_hook: catch_up is \"hook\", and none is named; write a command, such as [\"/usr/local/bin/caught-up\"]",
        ),
        (
            "[shadow]\nfed_by = \"replication\"\n[mirror]\nwrites = \"off\"\n[cutover]\nfence = true\nstop_replication = true\n[fleet]\nname = \"a\"\netcd = [\"http://127.0.0.1:2379\"]",
            "c.toml:7: cutover.stop_replication: one proxy of a fleet would stop it before the others have seen that all has come; take it out, and stop it in after_switch where UNDERSTUDY_LEADS is 1",
        ),
        (
            "[cutover]\nstop_replication = true",
            "c.toml:2: cutover.stop_replication: no replication feeds this shadow: shadow.fed_by is \"mirror\"; take it out",
        ),
        (
            "[cutover]\ncatch_up_hook = [\"true\"]",
            "c.toml:2: cutover.catch_up_hook: a hook that nothing runs; set catch_up = \"hook\"",
        ),
        (
            "[cutover]\nafter_switch = [\"\"]",
            "c.toml:2: cutover.after_switch: the program has no name; write the program and its arguments, such as [\"/usr/local/bin/hook\", \"now\"]",
        ),
        (
            "[admin]\nconsole = \"127.0.0.1:8306\"",
            "c.toml:2: admin.console: this is listen.address or admin.address; choose another port",
        ),
        (
            "[admin]\nconsole = \"off\"",
            "c.toml:2: admin.console: found \"off\"; write an IP address and a port, such as \"127.0.0.1:8307\" (0.0.0.0 for every interface), or \"\" for none",
        ),
        (
            "[admin]\nconsole = \"0.0.0.0:8307\"",
            "c.toml:2: admin.console: 0.0.0.0:8307 can be reached from elsewhere, and there is no token; set admin.token_file, or listen on 127.0.0.1",
        ),
        (
            "[mirror]\nsample_bytes = 5",
            "c.toml:2: mirror.sample_bytes: unknown key; it belongs to [compare]",
        ),
        (
            "[admin]\ncolour = 5",
            "c.toml:2: admin.colour: unknown key; the keys of [admin] are address, token, token_file, tokens_file, tls_cert, tls_key, console, console_rows, console_timeout_ms",
        ),
        (
            "[mirror]\n\nqueue_bytes = \"lots\"",
            "c.toml:3: mirror.queue_bytes: found \"lots\"; write a size from 1MiB to 1TiB, such as \"256MiB\"",
        ),
        (
            "[mirror]\nsample = 1.5",
            "c.toml:2: mirror.sample: found 1.5; write a share from 0.0 to 1.0",
        ),
        (
            "[mirror]\nreads = \"yes\"",
            "c.toml:2: mirror.reads: found \"yes\"; write true or false",
        ),
        (
            "[mirror]\nwrites = \"on\"",
            "c.toml:2: mirror.writes: found \"on\"; write one of \"apply\", \"rollback\", \"plan\", \"off\"",
        ),
        (
            "[mirror]\ntimeout_ms = \"5s\"",
            "c.toml:2: mirror.timeout_ms: found \"5s\"; write a whole number of milliseconds from 10 to 3600000",
        ),
        (
            "[mirror]\nbreaker_errors = 0",
            "c.toml:2: mirror.breaker_errors: found 0; write an integer from 1 to 1000000",
        ),
        (
            "[listen]\naddress = \"db:3306\"",
            "c.toml:2: listen.address: found \"db:3306\"; write an IP address and a port, such as \"127.0.0.1:3306\" (0.0.0.0 for every interface)",
        ),
        (
            "[primary]\naddress = \"db\"",
            "c.toml:2: primary.address: found \"db\"; write a host and a port, such as \"127.0.0.1:3356\"",
        ),
        (
            "[listen]\ntls_cert = \"a.pem\"",
            "c.toml:2: listen.tls_cert: a certificate without its key; set listen.tls_key too",
        ),
        (
            "[primary]\nname = \"vitess\"",
            "c.toml: shadow.name: both servers are named \"vitess\"; give each server a name of its own: it keeps it whatever role it has",
        ),
        (
            "[primary]\nname = \"count\"",
            "c.toml:2: primary.name: \"count\" is a word of the API's own; choose another name",
        ),
        (
            "[shadow]\nfed_by = \"replication\"\n[mirror]\nwrites = \"apply\"",
            "c.toml:4: mirror.writes: \"apply\" would write every row twice, for shadow.fed_by is \"replication\"; set mirror.writes = \"rollback\" (or \"plan\", \"off\"), or shadow.fed_by = \"mirror\"",
        ),
        (
            "[shadow]\naddress = \"127.0.0.1:3356\"",
            "c.toml:2: shadow.address: primary and shadow are the same server, and writes would be replayed on it; name another server, or set mirror.writes = \"off\"",
        ),
        (
            "[shadow]\naddress = \"LocalHost:3356\"",
            "c.toml:2: shadow.address: primary and shadow are the same server, and writes would be replayed on it; name another server, or set mirror.writes = \"off\"",
        ),
        (
            "[shadow]\nname = \"queue_wait\"",
            "c.toml:2: shadow.name: \"queue_wait\" is a word of the API's own; choose another name",
        ),
        (
            "[primary]\naddress = \"localhost:3306\"",
            "c.toml:2: primary.address: this is listen.address: understudy would connect to itself; write the server's own address",
        ),
        (
            "[admin]\naddress = \"0.0.0.0:8306\"",
            "c.toml:2: admin.address: 0.0.0.0:8306 can be reached from elsewhere, and there is no token; set admin.token_file, or listen on 127.0.0.1",
        ),
        (
            "[primary]\npassword = \"hush\"",
            "c.toml: primary.user: a password without a user; write the user, or take the password out",
        ),
        (
            "[primary]\nuser = \"a\"\npassword = 12345",
            "c.toml:3: primary.password: found an integer; write a text in quotes, or better name a file",
        ),
        (
            "[primary]\nuser = \"a\"\npassword = \"b\"\npassword_file = \"c\"",
            "c.toml:4: primary.password_file: both password and password_file are set; keep one of them",
        ),
        (
            "[shadow.users]\napp = { pasword = \"x\", user = \"y\" }",
            "c.toml:2: shadow.users.app.pasword: unknown key; did you mean password?",
        ),
        (
            "[shadow.users]\napp = 5",
            "c.toml:2: shadow.users.app: this is an integer, not a section; write [shadow.users.app]",
        ),
        (
            "[shadow.users]\napp = {}",
            "c.toml:2: shadow.users.app: a login without a user; write { user = \"…\", password_file = \"…\" }",
        ),
        (
            "[shadow.databases]\nshop = \"\"",
            "c.toml:2: shadow.databases.shop: found a text; write a name in quotes",
        ),
        (
            "[primary.databases]\nshop = \"s\"",
            "c.toml:1: primary.databases: unknown key; it belongs to [shadow]",
        ),
        (
            "[compare]\ntolerate = [\"clok\"]",
            "c.toml:2: compare.tolerate: \"clok\" is no tolerance; did you mean clock?",
        ),
        (
            "[mirror]\nsession_queue_bytes = \"512MiB\"",
            "c.toml:2: mirror.session_queue_bytes: one session's share is larger than mirror.queue_bytes; lower it",
        ),
        (
            "[readiness]\nlatency_p99_ratio = 0.5",
            "c.toml:2: readiness.latency_p99_ratio: found 0.5; write a factor from 1.0 to 1000.0",
        ),
        (
            "[readiness.divergences]\nvalues = 1",
            "c.toml:2: readiness.divergences.values: \"values\" is no such name; the kinds are unsupported, error, shadow_limit, other_error, columns, rows, null, value, order, affected_rows, last_insert_id",
        ),
        (
            "[readiness.divergences]\nlatency = 1",
            "c.toml:2: readiness.divergences.latency: \"latency\" is no such name; the kinds are unsupported, error, shadow_limit, other_error, columns, rows, null, value, order, affected_rows, last_insert_id",
        ),
        (
            "listen = 5",
            "c.toml:1: listen: this is an integer, not a section; write [listen]",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(wrong(text, &[]), *message, "{text}");
    }
}

#[test]
fn rules_are_read_and_told_what_is_wrong_with_them() {
    let rule = |more: &str| {
        format!("[[compare.rules]]\nname = \"a\"\nstate = \"noise\"\nwho = \"me\"\n{more}\n")
    };
    let config = Config::parse(&rule("column = \"at\""), &[]).expect("sound");
    assert_eq!(
        config.compare.rules.whole()[0].column.as_deref(),
        Some("at")
    );
    for (text, message) in [
        (
            rule(""),
            "c.toml:1: compare.rules.1.name: this rule takes everything; name at least one of fingerprint, table, kind, column",
        ),
        (
            rule("tabel = \"t\"\nkind = \"value\""),
            "c.toml:5: compare.rules.1.tabel: unknown key; did you mean table?",
        ),
        (
            rule("kind = 5"),
            "c.toml:5: compare.rules.1.kind: found 5; write a text in quotes",
        ),
        (
            rule("table = \"t\"") + &rule("table = \"u\""),
            "c.toml:6: compare.rules.2.name: there are two rules \"a\"; give each a name of its own",
        ),
    ] {
        assert_eq!(wrong(&text, &[]), message, "{text}");
    }
    let long_over =
        "state = \"accepted\"\nwhy = \"b\"\nuntil = \"2020-01-01T00:00:00Z\"\ntable = \"t\"";
    let text = rule(long_over).replace("state = \"noise\"\n", "");
    Config::parse(&text, &[]).expect("what is over does not keep a proxy from its start");
}

#[test]
fn what_is_not_toml_is_told_with_its_line_and_without_its_text() {
    let message = wrong("[primary]\nuser = \"a\"\npassword = hush", &[]);
    assert!(
        message.starts_with("c.toml:3: this is not TOML: "),
        "{message}"
    );
    assert!(!message.contains("hush"), "{message}");
}

#[test]
fn every_fault_is_told_at_once_in_the_order_of_the_file() {
    let message = wrong("[mirror]\nreads = 1\nwrits = 2\n[admin]\naddress = 3", &[]);
    let places: Vec<_> = message
        .lines()
        .map(|line| line.split(": ").nth(1).expect("a key"))
        .collect();
    assert_eq!(places, ["mirror.reads", "mirror.writs", "admin.address"]);
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = "[primary]\nuser = \"u\"\npassword_file = \"/nowhere\"\n[shadow.users]\nApp = { user = \"x\" }\n";
    let config = Config::parse(
        file,
        &variables(&[
            ("UNDERSTUDY__PRIMARY__PASSWORD", "hush"),
            ("UNDERSTUDY__SHADOW__USERS__APP__PASSWORD", "still"),
            ("UNDERSTUDY__MIRROR__SAMPLE", "0.25"),
            ("UNDERSTUDY__MIRROR__QUEUE_BYTES", "1GiB"),
            ("UNDERSTUDY__MIRROR__READS", "false"),
            ("UNDERSTUDY__MIRROR__TIMEOUT_MS", "1500"),
            ("UNDERSTUDY__SHADOW__INIT", "[\"SET a = 1\"]"),
            ("UNDERSTUDY_ADMIN", "not ours"),
        ]),
    )
    .expect("sound");
    assert_eq!(config.primary.account.expect("an account").password, "hush");
    assert_eq!(
        config.shadow.users.get("App").expect("a login").password,
        "still"
    );
    assert_eq!(
        (
            config.mirror.sample.now(),
            config.mirror.queue_bytes,
            config.mirror.reads.now()
        ),
        (0.25, GIB, false)
    );
    assert_eq!(config.mirror.timeout.now(), Duration::from_millis(1500));
    assert_eq!(config.shadow.init, ["SET a = 1"]);
}

#[test]
fn a_wrong_variable_is_named() {
    assert_eq!(
        wrong("", &[("UNDERSTUDY__MIRROR__READS", "perhaps")]),
        "environment UNDERSTUDY__MIRROR__READS: mirror.reads: found \"perhaps\"; write true or false"
    );
    assert_eq!(
        wrong("", &[("UNDERSTUDY__MIRROR__RAEDS", "true")]),
        "environment UNDERSTUDY__MIRROR__RAEDS: mirror.raeds: unknown key; did you mean reads?"
    );
    assert!(wrong("", &[("UNDERSTUDY____X", "1")]).contains("this names no key"));
}

#[test]
fn a_secret_is_read_from_its_file_and_never_shown() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "hush-hush-hush-hush\n").expect("written");
    let text = format!(
        "[admin]\naddress = \"0.0.0.0:1\"\ntoken_file = {:?}\n",
        file.path()
    );
    let config = Config::parse(&text, &[]).expect("sound");
    assert_eq!(
        config.admin.token.as_ref().map(|token| token.0.as_str()),
        Some("hush-hush-hush-hush")
    );
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn a_tokens_file_is_read_at_the_start_and_refused_by_the_line_that_is_wrong() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let line = "[alice]\nrole = \"viewer\"\ntoken = \"hush-hush-hush-hush\"\n";
    std::fs::write(file.path(), line).expect("written");
    let text = format!(
        "[admin]\naddress = \"0.0.0.0:1\"\ntokens_file = {:?}\n",
        file.path()
    );
    let config = Config::parse(&text, &[]).expect("sound");
    assert!(config.admin.wants_token() && config.admin.token.is_none());
    let holders = &config.admin.tokens_file.as_ref().expect("a file").holders;
    assert_eq!(&*holders[0].name, "alice");
    assert!(!format!("{config:?}").contains("hush"));
    std::fs::write(file.path(), line.replace("hush-hush-", "")).expect("written");
    let told = wrong(&text, &[]);
    let at = format!(
        "c.toml:3: admin.tokens_file: {}:3: alice.token: the token is too short",
        file.path().display()
    );
    assert!(told.starts_with(&at), "{told}");
    // That there is no token that could be taken is no second fault.
    assert_eq!(told.lines().count(), 1, "{told}");
}

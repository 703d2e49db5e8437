use super::*;
use crate::config::Config;
use crate::ledger::Verified;

/// Everything as it should be, under this config.
fn good(config: &Config) -> Figures {
    let side = |server: &Server, section| Side {
        server: Arc::new(server.clone()),
        section,
    };
    let user = |name: &str| User {
        name: name.to_owned(),
        tried: Some(Ok(())),
    };
    Figures {
        readiness: readiness::tests::good(),
        from: side(&config.primary, "primary"),
        to: side(&config.shadow, "shadow"),
        is_back: false,
        reach: Reach {
            disk_bytes: Some(1 << 30),
            memory: Memory {
                resident: Some(50 << 20),
                left: Some(1 << 30),
            },
            clocks: ["legacy", "vitess"]
                .map(|name| (name.to_owned(), Ok(ahead(120))))
                .to_vec(),
            clock_max: Duration::from_secs(1),
            ..Reach::default()
        },
        users: vec![user("app")],
        writers: Ok(Vec::new()),
        ddl: Ok(Vec::new()),
        features: Vec::new(),
        renamed: Vec::new(),
        sessions: vec![session(None, Some(("a transaction", Some(20))))],
        unfed: None,
        unfenced: Vec::new(),
        unstopped: Vec::new(),
    }
}

fn ahead(ms: i64) -> Offset {
    Offset {
        ahead_us: ms * 1_000,
        way: Duration::from_millis(1),
    }
}

fn session(unknown: Option<&str>, holds: Option<(&str, Option<u64>)>) -> Session {
    Session {
        id: 7,
        user: "app".into(),
        connection: None,
        unknown: unknown.map(str::to_owned),
        holds: holds.map(|(what, lasts)| Holds {
            what: what.into(),
            lasts: lasts.map(Duration::from_millis),
        }),
    }
}

const LOGINS: &str = "[primary]\nuser = \"understudy\"\n[shadow.users]\napp = { user = \"app\" }\n";

fn config(more: &str) -> Config {
    Config::parse(&format!("{LOGINS}{more}"), &[]).expect("sound")
}

fn judged(config: &Config, figures: &Figures, forced: &[&str]) -> Verdict {
    judge(figures, &config.readiness.whole(), &config.cutover, forced)
}

#[test]
fn with_all_as_it_should_be_it_may_begin() {
    let config = config("");
    let verdict = judged(&config, &good(&config), &[]);
    assert!(verdict.pass, "{}", verdict.refusal());
    let names: Vec<_> = verdict.guards.iter().map(|one| one.guard.name).collect();
    assert_eq!(names, GUARDS);
    assert_eq!(verdict.refusal(), "");
}

/// What is changed in the good figures; the guard that then refuses; what it says.
type Case = (fn(&mut Figures), &'static str, &'static str);

const CASES: &[Case] = &[
    (
        |f| f.reach.to = Some("it does not answer".into()),
        "reachability",
        "vitess: it does not answer",
    ),
    (
        |f| f.reach.from = Some("gone".into()),
        "reachability",
        "legacy: gone",
    ),
    (
        |f| f.reach.ledger = Some("disk full".into()),
        "reachability",
        "the ledger: disk full",
    ),
    (
        |f| f.reach.disk_bytes = Some(10 << 20),
        "reachability",
        "10 MiB left",
    ),
    (
        |f| f.reach.memory.left = Some(64 << 20),
        "reachability",
        "64 MiB of memory are left to the proxy, which has 50 MiB",
    ),
    (
        |f| f.reach.clocks[1].1 = Ok(ahead(-1_002)),
        "reachability",
        "vitess: its clock is 1.00 s behind the proxy's, and compare.clock_ms allows 1000 ms",
    ),
    (
        |f| f.reach.clocks[0].1 = Err("its clock cannot be read: no".into()),
        "reachability",
        "legacy: its clock cannot be read: no",
    ),
    (
        |f| f.reach.read_only = true,
        "reachability",
        "vitess is read-only",
    ),
    (
        |f| {
            f.reach.read_only = true;
            f.reach.unlifted = vec!["SYSTEM_VARIABLES_ADMIN"];
        },
        "reachability",
        "lacks SYSTEM_VARIABLES_ADMIN there: GRANT SYSTEM_VARIABLES_ADMIN ON *.* TO ",
    ),
    (
        |f| f.unstopped = vec!["REPLICATION_SLAVE_ADMIN"],
        "accounts",
        "cutover.stop_replication needs REPLICATION_SLAVE_ADMIN on vitess",
    ),
    (
        |f| f.unfenced = vec!["SUPER"],
        "accounts",
        "understudy: cutover.fence needs SUPER on legacy",
    ),
    (
        |f| f.users[0].name = "report".into(),
        "accounts",
        "report: no login to vitess is known; write [shadow.users] report = { user = \"report\", password_file",
    ),
    (
        |f| f.users[0].tried = Some(Err("Access denied".into())),
        "accounts",
        "app: vitess refuses it: Access denied",
    ),
    (
        |f| {
            let mut server = (*f.to.server).clone();
            server.users.insert(
                "app".into(),
                Account {
                    user: "vt_app".into(),
                    password: String::new(),
                },
            );
            f.to.server = Arc::new(server);
        },
        "accounts",
        "app: it is replayed on vitess as \"vt_app\"",
    ),
    (
        |f| {
            let mut server = (*f.from.server).clone();
            server.account = None;
            f.from.server = Arc::new(server);
        },
        "accounts",
        "once legacy is the shadow, nothing is replayed there without a login: set [primary] user",
    ),
    (
        |f| f.readiness.lost = 2,
        "divergences",
        "2 divergences were counted and could not be kept",
    ),
    (
        |f| f.readiness.evidence.window.matched = 0,
        "coverage",
        "were compared",
    ),
    (
        |f| f.readiness.evidence.hours = 0,
        "evidence",
        "in 0 hours of the clock (12 wanted)",
    ),
    (|f| f.readiness.paces.clear(), "latency", "no class"),
    (
        |f| f.readiness.lag.commands = 5_000,
        "lag",
        "5,000 commands wait",
    ),
    (
        |f| f.unfed = Some("forward replication is not confirmed stopped".into()),
        "lag",
        "forward replication is not confirmed stopped",
    ),
    (
        |f| f.readiness.tainted = vec!["app.t".into()],
        "taint",
        "app.t",
    ),
    (
        |f| f.writers = Ok(vec!["batch from 10.0.0.7".into()]),
        "writers",
        "connected to legacy past the proxy: batch from 10.0.0.7",
    ),
    (
        |f| f.writers = Err("there is no [primary] user".into()),
        "writers",
        "it cannot be told: there is no [primary] user",
    ),
    (
        |f| f.ddl = Ok(vec!["legacy: ALTER TABLE t".into()]),
        "ddl",
        "tables are being changed: legacy: ALTER TABLE t",
    ),
    (
        |f| f.ddl = Err("refused".into()),
        "ddl",
        "cannot be told: refused",
    ),
    (
        |f| {
            f.features.push(Feature {
                name: "CALL".into(),
                seen: 1_200,
            });
        },
        "features",
        "vitess lacks: CALL (seen 1,200 times)",
    ),
    (
        |f| f.renamed.push(("shop".into(), "commerce".into())),
        "features",
        "shop is commerce; give them the same name",
    ),
    (
        |f| f.sessions.push(session(Some("CALL"), None)),
        "journals",
        "7 (app): CALL",
    ),
    (
        |f| {
            f.sessions
                .push(session(None, Some(("temporary tables", None))));
        },
        "open_transactions",
        "7 (app): temporary tables, as long as the session",
    ),
    (
        |f| {
            f.sessions
                .push(session(None, Some(("a transaction", Some(5_000)))));
        },
        "open_transactions",
        "7 (app): a transaction, 5.00 s",
    ),
];

#[test]
fn each_guard_refuses_by_itself_says_why_and_can_be_forced() {
    let config = config("");
    let mut named: Vec<_> = CASES.iter().map(|(_, name, _)| *name).collect();
    named.push("verification");
    assert!(GUARDS.iter().all(|guard| named.contains(guard)));
    for (change, name, words) in CASES {
        let mut figures = good(&config);
        change(&mut figures);
        let verdict = judged(&config, &figures, &[]);
        let refusal = verdict.refusal();
        assert!(!verdict.pass, "{name}: {words}");
        assert!(refusal.starts_with(&format!("{name}: ")), "{refusal}");
        assert!(refusal.contains(words), "{words:?} in {refusal:?}");
        let failed = verdict.guards.iter().filter(|one| !one.guard.pass);
        assert_eq!(failed.count(), 1, "{refusal}");
        let forced = judged(&config, &figures, &[name]);
        assert!(forced.pass, "{name}");
        assert_eq!(forced.overridden(), [*name]);
        let other = if *name == "lag" { "taint" } else { "lag" };
        assert!(!judged(&config, &figures, &[other]).pass);
    }
}

#[test]
fn verification_stands_in_the_way_only_where_the_config_asks_for_it() {
    let lax = config("");
    let verdict = judged(&lax, &good(&lax), &[]);
    let guard = &verdict.guards[8].guard;
    assert_eq!((guard.name, guard.pass), ("verification", true));
    assert!(guard.why.starts_with("not required"), "{}", guard.why);
    let strict = config("[cutover]\nrequire_verification = true");
    let verdict = judged(&strict, &good(&strict), &[]);
    assert!(verdict.refusal().starts_with("verification: "));
    assert!(judged(&strict, &good(&strict), &["verification"]).pass);
}

#[test]
fn every_table_must_have_been_read_whole_and_lately_and_be_the_same() {
    let config = config("[cutover]\nrequire_verification = true\nverification_age_max_s = 3600");
    let now = good(&config).readiness.now;
    let table = |name: &str, outcome: &str, age_s: i64| Verified {
        database: "app".into(),
        name: name.into(),
        outcome: Some(outcome.into()),
        rows: 10,
        rows_about: Some(10),
        began: now.checked_sub(jiff::SignedDuration::from_secs(age_s)).ok(),
    };
    let of = |verified: Vec<Verified>| {
        let mut figures = good(&config);
        figures.readiness.verified = verified;
        judged(&config, &figures, &[]).guards[8].guard.clone()
    };
    let good = of(vec![table("a", "equal", 60), table("b", "equal", 3000)]);
    assert!(good.pass, "{}", good.why);
    assert_eq!(
        (&good.value["rows"], &good.value["oldest_s"]),
        (&json!(20), &json!(3000))
    );
    for (verified, words) in [
        (vec![], "no table was verified"),
        (
            vec![table("a", "equal", 60), table("b", "different", 60)],
            "different: app.b",
        ),
        (
            vec![table("a", "equal", 60), table("b", "equal", 4000)],
            "too long ago: app.b",
        ),
        (
            vec![
                table("a", "equal", 60),
                Verified {
                    outcome: None,
                    ..table("b", "", 0)
                },
            ],
            "not verified, or too long ago: app.b",
        ),
    ] {
        let guard = of(verified);
        assert!(!guard.pass && guard.why.contains(words), "{}", guard.why);
    }
}

#[test]
fn on_the_way_back_quality_does_not_stand_in_the_way_and_lost_writes_do() {
    let config = config("[cutover]\nrequire_verification = true");
    let mut figures = good(&config);
    figures.is_back = true;
    figures.readiness.evidence = crate::ledger::Evidence::default();
    figures.readiness.paces.clear();
    figures.reach.memory.left = Some(1 << 20);
    let verdict = judged(&config, &figures, &[]);
    assert!(verdict.pass, "{}", verdict.refusal());
    let latency = &verdict.guards[5].guard;
    assert!(
        latency.why.starts_with("not required on the way back"),
        "{}",
        latency.why
    );
    figures.readiness.tainted.push("app.t".into());
    figures.unfed = Some("nothing feeds it".into());
    let refusal = judged(&config, &figures, &[]).refusal();
    assert!(
        refusal.contains("lag: ") && refusal.contains("taint: "),
        "{refusal}"
    );
}

#[test]
fn sessions_that_would_be_ended_are_named_where_the_config_ends_them() {
    let config = config("[cutover]\nstuck = \"end\"");
    let mut figures = good(&config);
    figures.sessions.push(session(Some("CALL"), None));
    figures
        .sessions
        .push(session(None, Some(("GET_LOCK", None))));
    let verdict = judged(&config, &figures, &[]);
    assert!(verdict.pass, "{}", verdict.refusal());
    for (at, word) in [(12, "CALL"), (13, "GET_LOCK")] {
        let guard = &verdict.guards[at].guard;
        assert_eq!(guard.value, json!(1));
        assert!(
            guard.why.contains("they would be ended") && guard.why.contains(word),
            "{}",
            guard.why
        );
    }
}

/// Finding: a session that holds a lock was named by a number that the primary does not know.
#[test]
fn a_session_is_named_with_its_connection() {
    let config = config("");
    let mut figures = good(&config);
    for one in [
        session(None, Some(("GET_LOCK", None))),
        session(Some("CALL"), None),
    ] {
        figures.sessions.push(Session {
            connection: Some(41),
            ..one
        });
    }
    let refusal = judged(&config, &figures, &[]).refusal();
    for words in [
        "7 (app, connection 41): GET_LOCK, as long as the session",
        "7 (app, connection 41): CALL",
    ] {
        assert!(refusal.contains(words), "{words:?} in {refusal:?}");
    }
}

#[test]
fn many_names_are_cut_and_counted() {
    let config = config("");
    let mut figures = good(&config);
    figures.writers = Ok((0..9).map(|n| format!("client {n}")).collect());
    let refusal = judged(&config, &figures, &[]).refusal();
    assert!(refusal.ends_with("client 4 and 4 more"), "{refusal}");
}

#[test]
fn a_guard_is_told_in_the_contracts_shape() {
    let config = config("");
    let verdict = judged(&config, &good(&config), &["lag"]);
    let told = serde_json::to_value(&verdict.guards[6]).expect("JSON");
    let keys: Vec<_> = told.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["forced", "limit", "name", "pass", "value", "why"]);
    assert_eq!(
        (&told["name"], &told["forced"]),
        (&json!("lag"), &json!(true))
    );
    assert!(verdict.overridden().is_empty(), "it passes by itself");
    assert_eq!(named("lag"), Some("lag"));
    assert_eq!(named("luck"), None);
}

#[test]
fn the_way_back_is_barred_by_what_is_asked_there_alone() {
    let config = config("");
    let bars = |figures: &readiness::Figures, unfed: Option<&str>| {
        let told = readiness::judge(figures, &config.readiness.whole(), &config.cutover);
        assert!(!told.ready, "it is not ready");
        bars_way_back(&told, unfed)
    };
    let mut figures = readiness::tests::good();
    figures.paces.clear();
    figures.evidence.hours = 0;
    figures.lost = 3;
    assert!(bars(&figures, None).is_empty());
    let unfed = "nothing feeds legacy";
    assert_eq!(bars(&figures, Some(unfed)), [("lag", unfed.to_owned())]);
    figures.tainted = vec!["app.t".into()];
    figures.lag.state = "paused".into();
    let barred = bars(&figures, Some(unfed));
    let names: Vec<_> = barred.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["lag", "taint"]);
    let [(_, lag), (_, taint)] = &barred[..] else {
        panic!("{barred:?}");
    };
    assert!(
        lag.starts_with("mirroring is paused") && lag.ends_with(unfed),
        "{lag}"
    );
    assert_eq!(taint, "tainted: app.t");
}

#[test]
fn a_shadow_that_nothing_feeds_is_told_with_why() {
    let config = config("");
    let roles = Roles {
        primary: Arc::new(config.primary.clone()),
        shadow: Arc::new(config.shadow.clone()),
    };
    let with = |change: fn(&mut Control)| {
        let mut control = Control::new(&config.mirror);
        change(&mut control);
        unfed(&config, &control, &roles)
    };
    assert_eq!(with(|_| {}), None);
    let paused = with(|control| control.paused = true);
    assert_eq!(
        paused.as_deref(),
        Some("nothing feeds vitess: mirroring is paused")
    );
    let off = with(|control| control.writes = Writes::Off);
    assert_eq!(
        off.as_deref(),
        Some("nothing feeds vitess: mirror.writes is \"off\"")
    );
}

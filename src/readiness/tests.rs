use super::*;
use crate::config::Config;
use crate::ledger::Quantiles;
use crate::sql::Class;
use std::collections::BTreeMap;
use std::sync::Arc;

fn limits(text: &str) -> Limits {
    let text = format!("[readiness]\n{text}");
    let config = Config::parse(&text, &[]).expect("sound");
    (*config.readiness.whole()).clone()
}

fn cutover(text: &str) -> crate::config::Cutover {
    let text = format!("[cutover]\n{text}");
    Config::parse(&text, &[]).expect("sound").cutover
}

fn pace(primary: (u64, u64), shadow: (u64, u64)) -> Pace {
    let times = |(p50, p99)| Quantiles {
        p50,
        p90: p99,
        p99,
        p999: p99,
        max: p99,
    };
    Pace {
        fingerprint: Some(Arc::from("SELECT ?")),
        shape: None,
        class: Class::Read,
        tables: Vec::new(),
        samples: 1_000,
        primary: times(primary),
        shadow: times(shadow),
    }
}

fn reach(all: u64, never: u64) -> Reach {
    Reach {
        all,
        never,
        names: (0..never).map(|n| format!("name {n}")).collect(),
    }
}

/// Everything as it should be.
pub(crate) fn good() -> Figures {
    let now: jiff::Timestamp = "2026-01-03T00:00:00Z".parse().expect("a time");
    let sum = Sum {
        commands: 50_000,
        matched: 49_000,
        tolerated: 500,
        diverged: 0,
        not_compared: BTreeMap::from([("race", 300), ("off", 200)]),
    };
    Figures {
        now,
        open: OpenFindings::default(),
        lost: 0,
        evidence: Evidence {
            lost: 0,
            window: sum.clone(),
            ever: sum,
            first_compared: Some("2026-01-01T00:00:00Z".parse().expect("a time")),
            last_compared: Some("2026-01-02T23:59:00Z".parse().expect("a time")),
            hours: 40,
            seconds: 90_000,
            fingerprints: reach(40, 1),
            tables: reach(7, 0),
            unsettled: reach(0, 0),
        },
        paces: vec![pace((200, 1_000), (900, 4_000))],
        lag: Lag {
            state: "running".into(),
            reason: None,
            commands: 3,
            oldest: Duration::from_millis(20),
        },
        tainted: Vec::new(),
        verified: Vec::new(),
        unseen: Vec::new(),
    }
}

/// So many findings, of which so many are of metadata.
fn open(kind: &str, findings: u64, metadata: u64) -> OpenFindings {
    let list = |findings| {
        let open = Open {
            findings,
            ids: vec![4],
            fingerprints: vec!["SELECT a FROM t".into()],
            ..Open::default()
        };
        BTreeMap::from([(kind.to_owned(), open)])
    };
    OpenFindings {
        by_kind: list(findings - metadata),
        metadata: list(metadata),
        at_floor: 0,
    }
}

#[test]
fn with_all_as_it_should_be_it_is_ready() {
    let readiness = judge(&good(), &limits(""), &cutover(""));
    let failed: Vec<_> = readiness.guards.iter().filter(|one| !one.pass).collect();
    assert!(readiness.ready, "{failed:?}");
    let names: Vec<_> = readiness.guards.iter().map(|guard| guard.name).collect();
    assert_eq!(names, GUARDS);
}

/// What is changed in the good figures; the guard that then fails; what it says.
type Case = (fn(&mut Figures), &'static str, &'static str);

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one row a fault")]
fn each_guard_fails_by_itself_and_says_why() {
    let cases: &[Case] = &[
        (
            |f| f.open = open("value", 2, 0),
            "divergences",
            "2 value (#4 SELECT a FROM t and 1 more)",
        ),
        (
            |f| f.lost = 3,
            "divergences",
            "3 divergences were counted and could not be kept",
        ),
        (
            |f| f.evidence.window.matched = 40_000,
            "coverage",
            "81.00 % were compared (95 % wanted); not: race 0.60 %, off 0.40 %",
        ),
        (
            |f| f.evidence.fingerprints = reach(40, 8),
            "coverage",
            "never compared: 8 of 40 statements (name 0 | name 1",
        ),
        (
            |f| f.evidence.tables = reach(7, 1),
            "coverage",
            "1 of 7 tables (name 0)",
        ),
        (
            |f| f.evidence.window = Sum::default(),
            "coverage",
            "nothing was seen within 1 day",
        ),
        (
            |f| f.evidence.first_compared = Some(f.now),
            "evidence",
            "the first 0 s ago (1 day wanted)",
        ),
        (
            |f| f.evidence.last_compared = f.evidence.first_compared,
            "evidence",
            "the last 2 d 0 h ago (1 hour at most)",
        ),
        (
            |f| f.evidence.hours = 3,
            "evidence",
            "in 3 hours of the clock (12 wanted)",
        ),
        (
            |f| (f.evidence.ever.matched, f.evidence.ever.tolerated) = (9_000, 0),
            "evidence",
            "9,000 commands compared (10,000 wanted)",
        ),
        (
            |f| f.paces = vec![pace((200, 1_000), (900, 9_000))],
            "latency",
            "SELECT ?: p50 200 µs → 900 µs, p99 1.00 ms → 9.00 ms",
        ),
        (
            |f| f.paces = vec![pace((2_000, 10_000), (5_000, 11_000))],
            "latency",
            "1 of 1",
        ),
        (
            |f| f.paces[0].samples = 499,
            "latency",
            "no class of statements has 500 timed commands",
        ),
        (|f| f.paces.clear(), "latency", "no class of statements"),
        (
            |f| f.lag.state = "paused".into(),
            "lag",
            "mirroring is paused",
        ),
        (
            |f| {
                f.lag.state = "suspended".into();
                f.lag.reason = Some("the queue is full".into());
            },
            "lag",
            "suspended: the queue is full",
        ),
        (
            |f| f.lag.commands = 1_001,
            "lag",
            "1,001 commands wait for the shadow (1,000 allowed)",
        ),
        (
            |f| f.lag.oldest = Duration::from_secs(6),
            "lag",
            "the first for 6.00 s (5.00 s allowed)",
        ),
        (
            |f| f.tainted = vec!["app.t".into()],
            "taint",
            "tainted: app.t",
        ),
        (
            |f| f.evidence.unsettled = reach(2, 2),
            "unsettled",
            "never settled: name 0 | name 1",
        ),
    ];
    for (change, name, words) in cases {
        let mut figures = good();
        change(&mut figures);
        let readiness = judge(&figures, &limits(""), &cutover(""));
        let failed: Vec<_> = readiness.guards.iter().filter(|one| !one.pass).collect();
        assert!(!readiness.ready, "{name}: {words}");
        assert_eq!(failed.len(), 1, "{name}: {failed:?}");
        assert_eq!(failed[0].name, *name, "{failed:?}");
        assert!(
            failed[0].why.contains(words),
            "{words:?} in {:?}",
            failed[0].why
        );
    }
}

#[test]
fn what_was_never_asked_anything_is_not_ready() {
    let nothing = Figures {
        verified: Vec::new(),
        unseen: Vec::new(),
        now: jiff::Timestamp::UNIX_EPOCH,
        open: OpenFindings::default(),
        lost: 0,
        evidence: Evidence::default(),
        paces: Vec::new(),
        lag: Lag {
            state: "running".into(),
            ..Lag::default()
        },
        tainted: Vec::new(),
    };
    let lowest = "coverage_commands = 0.0\ncoverage_fingerprints = 0.0\ncoverage_tables = 0.0\nevidence_s = 0\nevidence_hours = 0\nevidence_commands = 0";
    for text in ["", lowest] {
        let readiness = judge(&nothing, &limits(text), &cutover(""));
        let failed: Vec<_> = readiness.guards.iter().filter(|one| !one.pass).collect();
        let names: Vec<_> = failed.iter().map(|guard| guard.name).collect();
        assert_eq!(
            names,
            ["divergences", "coverage", "evidence", "latency"],
            "{text}"
        );
    }
}

#[test]
fn metadata_and_what_the_limits_let_pass_do_not_block() {
    for (kind, text, passes) in [
        (open("value", 2, 2), "", true),
        (open("value", 2, 1), "", false),
        (open("value", 2, 2), "metadata = true", false),
        (
            open("value", 2, 0),
            "[readiness.divergences]\nvalue = 2",
            true,
        ),
        (
            open("value", 3, 0),
            "[readiness.divergences]\nvalue = 2",
            false,
        ),
        (
            open("value", 1, 0),
            "[readiness.divergences]\nrows = 2",
            false,
        ),
        // The guard `latency` judges those.
        (open("latency", 5, 0), "", true),
    ] {
        let mut figures = good();
        figures.open = kind;
        let guard = divergences(&figures, &limits(text));
        assert_eq!(guard.pass, passes, "{:?} {text}", figures.open);
    }
}

/// Finding: "no finding is open" stood beside a list of open findings of kind latency.
#[test]
fn what_is_open_and_does_not_count_is_said_with_who_judges_it() {
    let mut figures = good();
    let why = |figures: &Figures| {
        let guard = divergences(figures, &limits(""));
        assert!(guard.pass, "{}", guard.why);
        guard.why
    };
    assert_eq!(why(&figures), "no finding is open");
    figures.open = open("latency", 7, 0);
    assert_eq!(
        why(&figures),
        "no finding that counts is open; beside: 7 findings of kind latency, which the guard latency judges"
    );
    figures.open = open("value", 1, 1);
    figures.open.at_floor = 2;
    assert_eq!(
        why(&figures),
        "no finding that counts is open; beside: 1 finding of metadata (readiness.metadata), 2 findings no more frequent than on a healthy pair (the floor)"
    );
}

/// Finding: what was wanted stood nowhere but in the API's raw figures.
#[test]
fn what_was_found_stands_beside_what_is_wanted() {
    let judged = judge(
        &good(),
        &limits(""),
        &cutover("require_verification = true"),
    );
    let why = |name: &str| {
        let guard = judged.guards.iter().find(|one| one.name == name);
        guard.map(|guard| guard.why.clone()).expect("a guard")
    };
    for (name, words) in [
        ("coverage", "99.00 % were compared (95 % wanted)"),
        (
            "coverage",
            "1 of 40 statements (name 0), where 90 % are wanted",
        ),
        (
            "evidence",
            "49,500 commands compared (10,000 wanted), in 40 hours of the clock (12 wanted); the first 2 d 0 h ago (1 day wanted), the last 1 min 0 s ago (1 hour at most)",
        ),
        (
            "latency",
            "allowed: p50 ×1.5 or 2.00 ms more, p99 ×1.5 or 5.00 ms more",
        ),
        (
            "lag",
            "(1,000 allowed), the first for 20.0 ms (5.00 s allowed)",
        ),
        ("verification", "wanted: 100 % of the tables"),
    ] {
        assert!(why(name).contains(words), "{words:?} in {:?}", why(name));
    }
}

#[test]
fn a_quantile_is_past_its_limit_only_past_factor_and_time() {
    let limits = limits("").latency;
    for (primary, shadow, slow) in [
        // Ten times as long, but 2 ms at most.
        ((200, 500), (2_000, 5_000), None),
        // 40 ms more, but within half as much again.
        ((90_000, 100_000), (130_000, 140_000), None),
        ((200, 1_000), (200, 7_000), Some(Slower::P99)),
        ((2_000, 9_000), (4_500, 9_000), Some(Slower::P50)),
        ((2_000, 9_000), (9_000, 90_000), Some(Slower::P99)),
    ] {
        let pace = pace(primary, shadow);
        assert_eq!(slower(&pace, &limits), slow, "{pace:?}");
    }
}

#[test]
fn no_finding_of_nothing_compared_is_no_pass() {
    let mut figures = good();
    figures.evidence.ever = Sum::default();
    let guard = divergences(&figures, &limits(""));
    assert!(!guard.pass);
    assert_eq!(guard.why, "nothing was compared yet");
}

#[test]
fn data_at_rest_stands_in_the_way_where_the_cutover_asks_for_it() {
    let asked =
        cutover("require_verification = true\nverification_tables = 0.5\nverification_rows = 0.5");
    let table = |name: &str, outcome: &str| crate::ledger::Verified {
        database: "app".into(),
        name: name.into(),
        outcome: Some(outcome.into()),
        rows: 10,
        rows_about: Some(10),
        began: Some(good().now),
    };
    let mut figures = good();
    let mut of = |verified: Vec<crate::ledger::Verified>| {
        figures.verified = verified;
        judge(&figures, &limits(""), &asked)
    };
    assert!(!of(Vec::new()).ready);
    // A share of the tables may do; one that differs never does.
    let half = of(vec![table("a", "equal"), table("b", "unfinished")]);
    assert!(half.ready, "{:?}", half.guards);
    let differs = of(vec![table("a", "equal"), table("b", "different")]);
    let guard = &differs.guards[7];
    assert!(!differs.ready && guard.why.contains("different: app.b"));
}

#[test]
fn a_small_share_of_the_tables_may_be_left_out_and_a_large_share_of_the_rows_not() {
    let asked = cutover("require_verification = true\nverification_tables = 0.5");
    let table =
        |name: &str, outcome: Option<&str>, rows_about: Option<u64>| crate::ledger::Verified {
            database: "app".into(),
            name: name.into(),
            outcome: outcome.map(Into::into),
            rows: if outcome.is_some() { 990 } else { 0 },
            rows_about,
            began: Some(good().now),
        };
    let of = |left_out: Option<u64>| {
        let mut figures = good();
        figures.verified = vec![
            table("a", Some("equal"), Some(900)),
            table("b", None, left_out),
        ];
        let judged = judge(&figures, &limits(""), &asked);
        (judged.ready, judged.guards[7].clone())
    };
    let (ready, guard) = of(Some(10));
    assert!(
        ready && guard.why.contains("990 of about 1,000 rows"),
        "{}",
        guard.why
    );
    assert_eq!(guard.value["of_rows"], 1000);
    let (ready, guard) = of(Some(11));
    assert!(
        !ready && guard.why.contains("1 of 2 tables"),
        "{}",
        guard.why
    );
    let (ready, guard) = of(None);
    assert!(
        !ready && guard.why.contains("not known before the next run: app.b"),
        "{}",
        guard.why
    );
}

/// Finding: an account that sees one database had "1 of 1 tables", and a table that lost a write since it was read
/// still counted.
#[test]
fn data_at_rest_that_nobody_saw_or_that_lost_a_write_since_is_not_verified() {
    let asked = cutover("require_verification = true");
    let table = |outcome: &str| crate::ledger::Verified {
        database: "app".into(),
        name: "a".into(),
        outcome: Some(outcome.into()),
        rows: 10,
        rows_about: Some(10),
        began: Some(good().now),
    };
    let of = |outcome: &str, unseen: &[&str]| {
        let mut figures = good();
        figures.verified = vec![table(outcome)];
        figures.unseen = unseen.iter().map(|one| (*one).to_owned()).collect();
        let judged = judge(&figures, &limits(""), &asked);
        (judged.ready, judged.guards[7].why.clone())
    };
    assert!(of("equal", &[]).0);
    let (ready, why) = of("equal", &["the account sees app alone"]);
    assert!(
        !ready && why.contains("not seen: the account sees"),
        "{why}"
    );
    let (ready, why) = of("tainted", &[]);
    assert!(
        !ready && why.contains("may have lost a write since: app.a"),
        "{why}"
    );
    let (ready, why) = of("repaired", &[]);
    assert!(
        !ready && why.contains("not read whole since: app.a"),
        "{why}"
    );
}

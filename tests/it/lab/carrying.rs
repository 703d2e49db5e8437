//! A session is taken over on real servers: from MySQL 5.6 to vtgate and back, with all that its
//! connection held.

use super::{Lab, Primary};
use crate::handed::{Session, exchange};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use understudy::config::{Config, Server};
use understudy::connect::{self, Login, Stream, Tcp, TlsContext};
use understudy::ledger::{Commands, Ledger};
use understudy::roles::Roles;
use understudy::shadow::{Mirror, MirrorParts, Stuck};
use understudy::tee::{self, Limits, Tee};
use understudy::wire::answer::{Answer, AnswerTracker, Outcome};
use understudy::wire::capability::Capabilities;
use understudy::wire::execute::{Execute, Type};

/// What a client may agree on with both.
const CAPABILITIES: Capabilities = Capabilities::PROTOCOL_41
    .with(Capabilities::TRANSACTIONS)
    .with(Capabilities::MULTI_STATEMENTS);

/// `legacy` and `vitess`, the first of them the primary.
fn config(lab: &Lab, vitess_first: bool) -> Config {
    let (legacy, vitess) = (("legacy", lab.legacy()), ("vitess", lab.shadow()));
    let (one, other) = if vitess_first {
        (vitess, legacy)
    } else {
        (legacy, vitess)
    };
    let account = |side: &str, (name, address): &(&str, String)| {
        let key = if *name == "legacy" {
            "LEGACY"
        } else {
            "SHADOW"
        };
        format!(
            "[{side}]\nname = \"{name}\"\naddress = \"{address}\"\ntls = \"off\"\n\
             user = \"{}\"\npassword = \"{}\"\n\
             [{side}.users]\napp = {{ user = \"app\", password = \"app\" }}\n",
            lab.value(&format!("{key}_PROXY_USER")),
            lab.value(&format!("{key}_PROXY_PASSWORD")),
        )
    };
    let text = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n{}{}[ledger]\npath = \"unused.db\"\n",
        account("primary", &one),
        account("shadow", &other),
    );
    Config::parse(&text, &[]).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn mirror(config: &Arc<Config>) -> (Mirror, Tee, Ledger) {
    let (tee, receiver) = tee::door(Limits::default());
    let (_writer, roles) = watch::channel(Roles {
        primary: Arc::new(config.primary.clone()),
        shadow: Arc::new(config.shadow.clone()),
    });
    let counting = tee.clone();
    let ledger = Ledger::in_memory(Arc::new(move || Commands {
        handed: counting.handed(),
        lost: counting.lost(),
        passed: counting.passed(),
    }));
    let mirror = Mirror::start(MirrorParts {
        config: Arc::clone(config),
        roles,
        dial: Arc::new(Tcp::default()),
        receiver,
        ledger: ledger.clone(),
    });
    (mirror.expect("a mirror"), tee, ledger)
}

async fn log_in(server: &Server) -> Stream {
    let login = Login {
        user: "app".to_owned(),
        password: "app".to_owned(),
        database: Some("app".to_owned()),
        capabilities: CAPABILITIES,
        collation: 45,
        client: None,
    };
    let tls = TlsContext::new(server).expect("no TLS");
    let opened = connect::open(&Tcp::default(), server, &tls, &login).await;
    opened.expect("a login").stream
}

/// An execution of a statement of two parameters, a number and a text.
fn execution(id: u32, number: i64, with_types: bool) -> Vec<u8> {
    let values = [&number.to_le_bytes()[..], b"\x02hi"].concat();
    let types = [8, 253].map(|kind| Type { kind, flags: 0 });
    let execute = Execute {
        statement_id: id,
        flags: 0,
        iterations: 1,
        parameters: 2,
        nulls: vec![0],
        types: with_types.then(|| types.to_vec()),
        attributes: 0,
        values: &values,
    };
    execute.encode(id, CAPABILITIES, None)
}

/// The row that an answer has, as it came.
fn row(answer: &Answer) -> String {
    let found = understudy::wire::sample::Sampled::all(answer).next();
    let row = found.and_then(|mut rows| rows.next().map(<[u8]>::to_vec));
    let row = row.unwrap_or_else(|| panic!("{answer:?}"));
    row.escape_ascii().to_string()
}

/// Statements of a number and a text, and how often each is executed with its types before the move; behind
/// it, it is executed without.
const TYPED: [(&str, u32); 6] = [
    ("SELECT ? + 1, CONCAT(?, 'x')", 1),
    ("SELECT ? + 2, CONCAT(?, 'x')", 2),
    (
        "SELECT a, b FROM typed WHERE a < ? AND b = ? ORDER BY a FOR UPDATE",
        1,
    ),
    (
        "SELECT COUNT(*), MAX(b) FROM typed WHERE a < ? AND b = ?",
        1,
    ),
    ("INSERT INTO typed (a, b) VALUES (?, ?)", 1),
    ("UPDATE typed SET a = a + ? WHERE b <> ?", 1),
];

/// MySQL 8 and later forget the types of an execution that is refused.
#[tokio::test]
async fn the_types_of_parameters_move_to_a_mysql_97_with_nothing_run_there() {
    let (lab, other) = (Lab::get(), Lab::of(Primary::MySql97));
    let lab = lab
        .with("SHADOW_PORT", other.value("LEGACY_PORT"))
        .with("SHADOW_PROXY_USER", other.value("LEGACY_PROXY_USER"))
        .with(
            "SHADOW_PROXY_PASSWORD",
            other.value("LEGACY_PROXY_PASSWORD"),
        );
    let config = Arc::new(config(&lab, false));
    for server in [&config.primary, &config.shadow] {
        let mut stream = log_in(server).await;
        let mut tracker = AnswerTracker::new(CAPABILITIES, 1 << 20);
        for text in [
            "DROP TABLE IF EXISTS app.typed",
            "CREATE TABLE app.typed (a BIGINT NOT NULL, b VARCHAR(9) NOT NULL)",
            "INSERT INTO app.typed VALUES (1, 'hi'), (2, 'hi')",
        ] {
            let payload = [b"\x03", text.as_bytes()].concat();
            let done = exchange(&mut stream, &mut tracker, &payload).await;
            assert!(done.error().is_none(), "{text}: {done:?}");
        }
    }
    let (mirror, tee, _ledger) = mirror(&config);
    // What the mirror would run there is not what is asked about.
    mirror.change_control(|control| control.paused = true);
    let mut session = Session::new(1, log_in(&config.primary).await, CAPABILITIES, &tee);
    let mut ids = Vec::new();
    for (text, times) in TYPED {
        let prepared = session.say(&[b"\x16", text.as_bytes()].concat()).await;
        let (id, _) = prepared.prepared().expect("a statement");
        for n in 0..times {
            session.say(&execution(id, 5 + i64::from(n), true)).await;
        }
        ids.push(id);
    }
    let state = session.state(&mirror).await;
    let mut carried = mirror.prepare(&state).await.expect("prepared");
    let values = session.values(&mirror, &state).await;
    carried.set_values(&values).await.expect("set");
    let before = rows(&config.shadow, "app", "SELECT a, b FROM typed ORDER BY a").await;
    assert_eq!(before.len(), 2, "nothing was run there: {before:?}");
    let mut parts = carried.into_parts();
    assert!(!parts.status.in_transaction());
    let mut tracker = AnswerTracker::new(CAPABILITIES, 64 << 10);
    for (at, (text, times)) in TYPED.into_iter().enumerate() {
        let (_, own) = parts
            .statements
            .iter()
            .find(|(id, _)| *id == ids[at])
            .expect("carried");
        // Who sends them each time goes on to do so.
        let with_types = times > 1;
        let said = exchange(
            &mut parts.stream,
            &mut tracker,
            &execution(*own, 7, with_types),
        )
        .await;
        assert!(said.error().is_none(), "{text}: {said:?}");
        if text.starts_with("SELECT ?") {
            let here = row(&session.say(&execution(ids[at], 7, with_types)).await);
            assert_eq!(here, row(&said), "{text}");
        }
    }
    let limit = exchange(
        &mut parts.stream,
        &mut tracker,
        b"\x03SELECT @@SESSION.max_execution_time",
    )
    .await;
    assert_eq!(row(&limit), "\\x010", "as before");
    mirror.drain(Duration::from_secs(10)).await;
}

/// Sets all of this, moves the session, and asks both connections the same.
async fn carry(vitess_first: bool, sets: &[&str], questions: &[&str]) {
    let lab = Lab::get();
    let config = Arc::new(config(&lab, vitess_first));
    let (mirror, tee, _ledger) = mirror(&config);
    let stream = log_in(&config.primary).await;
    let mut session = Session::new(1, stream, CAPABILITIES, &tee);
    session.is_on(&config.primary.name);
    let early = session.state(&mirror).await;
    let mut carried = mirror.prepare(&early).await.expect("prepared");
    for text in sets {
        let answer = session.query(text).await;
        assert!(answer.error().is_none(), "{text}: {answer:?}");
    }
    let prepared = session.say(b"\x16SELECT ? + 1, CONCAT(?, @n)").await;
    let (id, _) = prepared.prepared().expect("a statement");
    session.say(&execution(id, 5, true)).await;
    session.say(&execution(id, 6, false)).await;
    session.query("COMMIT").await;
    let state = session.state(&mirror).await;
    assert_eq!(state.stuck, []);
    carried.catch_up(&state).await.expect("caught up");
    let values = session.values(&mirror, &state).await;
    carried.set_values(&values).await.expect("set");
    assert!(carried.refused().is_empty(), "{:?}", carried.refused());
    let mut parts = carried.into_parts();
    assert_eq!(
        (parts.server.as_ref(), parts.last),
        (config.shadow.name.as_str(), Some(id))
    );
    assert!(!parts.status.in_transaction());
    assert!(
        !session
            .query("SET @x = 1")
            .await
            .status
            .unwrap_or_default()
            .in_transaction()
    );
    let (_, own) = parts.statements[0];
    let mut tracker = AnswerTracker::new(CAPABILITIES, 64 << 10);
    let warnings = exchange(&mut parts.stream, &mut tracker, b"\x03SHOW WARNINGS").await;
    assert_eq!(warnings.rows(), 0, "{warnings:?}");
    for text in questions {
        let here = row(&session.query(text).await);
        let payload = [b"\x03", text.as_bytes()].concat();
        let there = row(&exchange(&mut parts.stream, &mut tracker, &payload).await);
        assert_eq!(here, there, "{text}");
    }
    // Without the types that were sent before.
    let here = row(&session.say(&execution(id, 7, false)).await);
    let there = exchange(&mut parts.stream, &mut tracker, &execution(own, 7, false)).await;
    assert_eq!(here, row(&there));
    mirror.drain(Duration::from_secs(10)).await;
}

const QUESTIONS: [&str; 4] = [
    "SELECT @n, HEX(@s), @d, @f, @z, HEX(@b), @i",
    "SELECT LAST_INSERT_ID()",
    "SELECT @@session.time_zone, @@session.sql_safe_updates, @@session.autocommit",
    "SELECT DATABASE()",
];

#[tokio::test]
async fn a_session_moves_from_mysql_to_vtgate() {
    let sets = [
        "SET NAMES utf8mb4",
        "SET @n = (SELECT 5), @s = 'it''s \u{20ac}', @z = NULL, @i = @s",
        "SELECT @d := 1.50, @f := 1.5e0, @b := x'00FF27'",
        "SET time_zone = '+02:00', sql_safe_updates = 0",
        "SELECT LAST_INSERT_ID(77)",
        "SET autocommit = 0",
    ];
    carry(false, &sets, &QUESTIONS).await;
}

#[tokio::test]
async fn a_session_moves_from_vtgate_to_mysql() {
    let sets = [
        "SET NAMES utf8mb4",
        "SET @n = 5, @s = 'it''s \u{20ac}', @z = NULL, @d = 1.50, @f = 1.5e0, @b = x'00FF27'",
        "SET @i = @s",
        "SET time_zone = '+02:00', sql_safe_updates = 0",
        "SELECT LAST_INSERT_ID(77)",
        "SET autocommit = 0",
    ];
    carry(true, &sets, &QUESTIONS).await;
}

#[tokio::test]
async fn what_ties_a_session_on_mysql_is_seen_in_its_answers() {
    let lab = Lab::get();
    let config = Arc::new(config(&lab, false));
    let (mirror, tee, _ledger) = mirror(&config);
    let mut other = Session::new(2, log_in(&config.primary).await, CAPABILITIES, &tee);
    let mut session = Session::new(1, log_in(&config.primary).await, CAPABILITIES, &tee);
    let lock = "SELECT GET_LOCK('carrying', 0)";
    for (text, stuck) in [
        (lock, &[Stuck::GetLock][..]),
        ("SELECT RELEASE_LOCK('carrying')", &[]),
        (
            "CREATE TEMPORARY TABLE carried_t (id INT)",
            &[Stuck::TemporaryTables],
        ),
        ("DROP TABLE carried_t", &[]),
        ("BEGIN", &[Stuck::Transaction]),
        ("COMMIT", &[]),
    ] {
        let answer = session.query(text).await;
        assert!(answer.error().is_none(), "{text}: {answer:?}");
        assert_eq!(session.state(&mirror).await.stuck, stuck, "{text}");
    }
    session.query(lock).await;
    let refused = other.query(lock).await;
    assert!(matches!(refused.results[..], [Outcome::Rows(_)]));
    assert_eq!(other.state(&mirror).await.stuck, [], "it was not granted");
    let features = mirror.features();
    assert_eq!(features.get("get_lock"), Some(&3), "{features:?}");
    mirror.drain(Duration::from_secs(10)).await;
}

/// What a statement brings of a server, asked directly.
async fn rows(server: &Server, database: &str, query: &str) -> Vec<String> {
    let mut stream = log_in(server).await;
    let mut tracker = AnswerTracker::new(CAPABILITIES, 1 << 20);
    let used = exchange(
        &mut stream,
        &mut tracker,
        format!("\x03USE {database}").as_bytes(),
    )
    .await;
    assert!(used.error().is_none(), "{used:?}");
    let answer = exchange(&mut stream, &mut tracker, format!("\x03{query}").as_bytes()).await;
    let found = understudy::wire::sample::Sampled::all(&answer).next();
    let found = found.unwrap_or_else(|| panic!("{query}: {answer:?}"));
    found.map(|row| row.escape_ascii().to_string()).collect()
}

/// The one number of one row.
fn number(rows: &[String]) -> u64 {
    let digits: String = rows[0].chars().skip("\\x04".len()).collect(); // behind its length
    digits.parse().unwrap_or_else(|_| panic!("{rows:?}"))
}

/// Says something that must be done.
async fn does(session: &mut Session, text: &str) {
    let answer = session.query(text).await;
    assert!(answer.error().is_none(), "{text}: {answer:?}");
}

#[tokio::test]
async fn what_is_written_after_a_turn_flows_back_and_so_do_keys_and_the_clock() {
    let lab = Lab::get();
    let config = Arc::new(config(&lab, false));
    let (mirror, tee, ledger) = mirror(&config);
    let mut session = Session::new(1, log_in(&config.primary).await, CAPABILITIES, &tee);
    let table = format!("carried_{}", std::process::id());
    does(&mut session, "USE scratch").await;
    does(&mut session, &format!(
        "CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, v INT, at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"
    ))
    .await;
    let insert = format!("INSERT INTO {table} (v) VALUES (1), (2)");
    let update = format!("UPDATE {table} SET v = v + @n, at = NOW() WHERE id = LAST_INSERT_ID()");
    let events =
        format!("INSERT INTO app.events (kind, payload, at) VALUES ('{table}', @n, NOW())");
    let both = [(config.primary.clone(), config.shadow.clone())];
    // Keys that are written into a table do not take its sequence along.
    let next = "SELECT NEXT 1 VALUES FROM lookup.events_seq";
    let drawn = number(&rows(&config.shadow, "app", next).await);
    let key = drawn + 1000;
    does(
        &mut session,
        &format!(
            "INSERT INTO app.events (id, kind, payload, at) VALUES ({key}, '{table}', '', NOW())"
        ),
    )
    .await;
    mirror.drained().await.expect("a mirror");
    let sequences = mirror.advance_sequences(10).await.expect("asked");
    let [sequence] = sequences.as_slice() else {
        panic!("{sequences:?}")
    };
    assert_eq!((sequence.table.as_str(), sequence.key), ("events", key));
    assert!(
        sequence.was <= key && sequence.next > key + 10,
        "{sequence:?}"
    );
    let drawn = number(&rows(&config.shadow, "app", next).await);
    assert_eq!(drawn, sequence.next);
    let again = mirror.advance_sequences(10).await.expect("asked");
    assert_eq!(again[0].next, sequence.next + 2, "it was past them already");
    for turns in 0..3 {
        does(&mut session, "SET @n = (SELECT 5)").await;
        does(&mut session, &insert).await;
        does(&mut session, &update).await;
        does(&mut session, "BEGIN").await;
        does(&mut session, &events).await;
        does(&mut session, &update).await;
        does(&mut session, "COMMIT").await;
        mirror.drained().await.expect("a mirror");
        assert_eq!(ledger.taints(), [], "turn {turns}");
        for (one, other) in &both {
            for (database, query) in [
                ("scratch", format!("SELECT * FROM {table} ORDER BY id")),
                (
                    "app",
                    format!("SELECT * FROM events WHERE kind = '{table}' ORDER BY id"),
                ),
            ] {
                let here = rows(one, database, &query).await;
                assert!(here.len() > turns, "{here:?}");
                assert_eq!(
                    here,
                    rows(other, database, &query).await,
                    "turn {turns}: {query}"
                );
            }
        }
        let state = session.state(&mirror).await;
        let carried = mirror.prepare(&state).await.expect("prepared");
        session.move_to(&mirror, carried).await;
        let (one, other) = (
            Arc::new(config.primary.clone()),
            Arc::new(config.shadow.clone()),
        );
        let roles = if turns % 2 == 0 {
            Roles {
                primary: other,
                shadow: one,
            }
        } else {
            Roles {
                primary: one,
                shadow: other,
            }
        };
        mirror.turn(roles).await.expect("a mirror");
    }
    does(&mut session, &format!("DROP TABLE {table}")).await;
    does(
        &mut session,
        &format!("DELETE FROM app.events WHERE kind = '{table}'"),
    )
    .await;
    mirror.drain(Duration::from_secs(10)).await;
    let coverage = ledger.coverage();
    assert_eq!(
        (coverage.diverged, coverage.pending),
        (0, 0),
        "{coverage:?}"
    );
}

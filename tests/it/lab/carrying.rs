//! A session is taken over on real servers: from MySQL 5.6 to vtgate and back, with all that its
//! connection held.

use super::Lab;
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
    let text = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n\
         [primary]\nname = \"{}\"\naddress = \"{}\"\ntls = \"off\"\n\
         [shadow]\nname = \"{}\"\naddress = \"{}\"\ntls = \"off\"\nuser = \"app\"\npassword = \"app\"\n\
         [ledger]\npath = \"unused.db\"\n",
        one.0, one.1, other.0, other.1
    );
    Config::parse(&text, &[]).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn mirror(config: &Arc<Config>) -> (Mirror, Tee) {
    let (tee, receiver) = tee::door(Limits::default());
    let (_writer, roles) = watch::channel(Roles {
        primary: Arc::new(config.primary.clone()),
        shadow: Arc::new(config.shadow.clone()),
    });
    let counting = tee.clone();
    let mirror = Mirror::start(MirrorParts {
        config: Arc::clone(config),
        roles,
        dial: Arc::new(Tcp),
        receiver,
        ledger: Ledger::in_memory(Arc::new(move || Commands {
            handed: counting.handed(),
            lost: counting.lost(),
        })),
    });
    (mirror.expect("a mirror"), tee)
}

async fn log_in(server: &Server) -> Stream {
    let login = Login {
        user: "app".to_owned(),
        password: "app".to_owned(),
        database: Some("app".to_owned()),
        capabilities: CAPABILITIES,
        collation: 45,
    };
    let tls = TlsContext::new(server).expect("no TLS");
    let opened = connect::open(&Tcp, server, &tls, &login).await;
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

/// Sets all of this, moves the session, and asks both connections the same.
async fn carry(vitess_first: bool, sets: &[&str], questions: &[&str]) {
    let lab = Lab::get();
    let config = Arc::new(config(&lab, vitess_first));
    let (mirror, tee) = mirror(&config);
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
    let (mirror, tee) = mirror(&config);
    let mut other = Session::new(2, log_in(&config.primary).await, CAPABILITIES, &tee);
    let mut session = Session::new(1, log_in(&config.primary).await, CAPABILITIES, &tee);
    let lock = "SELECT GET_LOCK('h2_carrying', 0)";
    for (text, stuck) in [
        (lock, &[Stuck::GetLock][..]),
        ("SELECT RELEASE_LOCK('h2_carrying')", &[]),
        (
            "CREATE TEMPORARY TABLE h2_t (id INT)",
            &[Stuck::TemporaryTables],
        ),
        ("DROP TABLE h2_t", &[]),
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

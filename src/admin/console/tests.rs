//! Hostile and ordinary questions over real sockets, with a ledger in a file.

use super::*;
use crate::compare::verdict::{Divergence, Example, Kind, Reason, Verdict};
use crate::config;
use crate::ledger::{Commands, Observation, Protocol, Side};
use crate::sql::{Class, Table, TableSet};
use ask::{Bounds, Fault, Rows};
use mysql_async::prelude::Queryable;
use rusqlite::types::Value;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use tokio::io::AsyncReadExt;

/// A ledger with one finding and a divergence, a match, a tolerance and a taint.
struct Kept {
    ledger: Ledger,
    _files: tempfile::TempDir,
}

fn observation(shape: &str, verdict: Verdict) -> Observation {
    let side = |server: &str| Side {
        server: server.into(),
        rows: 1,
        error: None,
        affected_rows: None,
        first_byte_us: Some(900),
        latency_us: Some(1000),
    };
    Observation {
        at: "2030-01-02T03:04:05.000006Z".parse().unwrap(),
        session: 1,
        fingerprint: shape.into(),
        digest: xxhash_rust::xxh3::xxh3_64(shape.as_bytes()),
        protocol: Protocol::Text,
        class: Class::Read,
        user: "app".into(),
        database: "app".into(),
        tables: [Table {
            database: Some("app".into()),
            name: "orders".into(),
        }]
        .into(),
        written: TableSet::none(),
        statement: None,
        verdict,
        follows: None,
        rechecked: None,
        primary: side("legacy"),
        shadow: Some(side("vitess")),
        queue_us: Some(50),
        context: None,
    }
}

const RULE: &str = "[[compare.rules]]\nname = \"known noise\"\ntable = \"app.other\"\nstate = \"noise\"\nwho = \"dba\"\nwhy = \"a test\"\n";

fn kept() -> Kept {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("ledger.db");
    let text = format!("[ledger]\npath = {path:?}\nlog = \"\"\n{RULE}");
    let config = config::Config::parse(&text, &[]).unwrap();
    let commands = Arc::new(|| Commands {
        handed: 4,
        lost: 0,
        passed: 0,
    });
    let ledger = Ledger::open(
        &config.ledger,
        config.shadow.fed_by,
        crate::ledger::Judged {
            rules: config.compare.rules.clone(),
            stale_after: config.compare.rule_stale.clone(),
            floor: None,
        },
        commands,
    )
    .unwrap();
    let divergence = Divergence {
        kind: Kind::Value,
        also: vec![Kind::Order],
        detail: "column 2: value".into(),
        columns: None,
        examples: vec![Example {
            row: Some(0),
            columns: vec![1],
            names: vec!["name".into()],
            primary: vec![Some("a".into())],
            shadow: vec![None],
        }],
    };
    ledger.record(observation("SELECT ?", Verdict::Match));
    ledger.record(observation(
        "SELECT ? FROM t",
        Verdict::NotCompared(Reason::Race),
    ));
    ledger.record(observation(
        "SELECT * FROM orders",
        Verdict::Diverged(divergence),
    ));
    ledger.taint(
        &[Table {
            database: Some("app".into()),
            name: "orders".into(),
        }],
        &"a write was lost".into(),
    );
    let end = std::time::SystemTime::now() + Duration::from_secs(20);
    while ledger
        .findings(&Default::default())
        .unwrap()
        .items
        .is_empty()
    {
        assert!(std::time::SystemTime::now() < end, "it was never written");
        std::thread::sleep(Duration::from_millis(20));
    }
    Kept {
        ledger,
        _files: files,
    }
}

const BOUNDS: Bounds = Bounds {
    rows: 1_000,
    time: Duration::from_millis(400),
};

fn asked(kept: &Kept, text: &str) -> Result<Rows, Fault> {
    asked_with(kept, text, &[])
}

fn asked_with(kept: &Kept, text: &str, values: &[Value]) -> Result<Rows, Fault> {
    match chatter::reply(text)? {
        chatter::Reply::Ask(text) => ask::ask(&kept.ledger, BOUNDS, &Arc::default(), &text, values),
        chatter::Reply::Rows(rows) => Ok(rows),
        chatter::Reply::Done | chatter::Reply::Kill(_) => Ok(Rows::default()),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

/// What must not get through, and the error it gets; `@` is a file that must not come to be.
const HOSTILE: &[(u16, &str)] = &[
    (1290, "ATTACH '@' AS other"),
    (1290, "DETACH main"),
    (1290, "VACUUM INTO '@'"),
    (1290, "VACUUM"),
    (1290, "PRAGMA query_only = OFF"),
    (1290, "PRAGMA writable_schema = ON"),
    (1290, "PRAGMA database_list"),
    (1290, "PRAGMA wal_checkpoint(TRUNCATE)"),
    (1290, "PRAGMA user_version"),
    (1290, "DELETE FROM findings"),
    (1290, "DELETE FROM main.findings"),
    (1290, "UPDATE main.findings SET state = 'fixed'"),
    (1290, "INSERT INTO main.audit VALUES (9, '', '', '', '')"),
    (1290, "INSERT INTO coverage VALUES ('matched', NULL, 1, 1)"),
    (1290, "REPLACE INTO main.meta VALUES ('clean', '1')"),
    (1290, "WITH x AS (SELECT 1) DELETE FROM main.findings"),
    (1290, "DELETE FROM main.findings RETURNING id"),
    (1290, "CREATE TABLE t (a)"),
    (1290, "CREATE TEMP TABLE t AS SELECT 1"),
    (1290, "CREATE TEMP VIEW v AS SELECT 1"),
    (
        1290,
        "CREATE TEMP TRIGGER t AFTER INSERT ON coverage BEGIN SELECT 1; END",
    ),
    (1290, "CREATE VIRTUAL TABLE temp.t USING fts5(a)"),
    (1290, "CREATE INDEX main.i ON findings (id)"),
    (1290, "DROP TABLE main.findings"),
    (1290, "DROP VIEW temp.findings"),
    (1290, "ALTER TABLE main.findings RENAME TO f"),
    (1290, "REINDEX"),
    (1290, "ANALYZE"),
    (1290, "SAVEPOINT s"),
    (1290, "END"),
    (1305, "SELECT load_extension('/tmp/x.so')"),
    (1305, "SELECT readfile('/etc/passwd')"),
    (1305, "SELECT writefile('/tmp/x', 'y')"),
    (1305, "SELECT edit('x')"),
    (1305, "SELECT fts3_tokenizer('simple')"),
    (1305, "SELECT randomblob(1000000000)"),
    (1305, "SELECT zeroblob(1000000000)"),
    (1305, "SELECT sqlite_compileoption_get(0)"),
    (1305, "SELECT sqlite_version()"),
    (1305, "SELECT id FROM findings WHERE load_extension(kind)"),
    (1142, "SELECT * FROM sqlite_master"),
    (1142, "SELECT * FROM sqlite_temp_master"),
    (1142, "SELECT * FROM main.sqlite_schema"),
    (1142, "SELECT * FROM pragma_database_list"),
    (1142, "SELECT * FROM pragma_table_info('findings')"),
    (1142, "SELECT * FROM dbstat"),
    (1142, "SELECT * FROM main.findings"),
    (1142, "SELECT count(*) FROM main.divergences"),
    (1142, "SELECT * FROM meta"),
    (1142, "SELECT * FROM mirrored_tables"),
    (1142, "SELECT * FROM traffic"),
    (
        1142,
        "WITH findings AS (SELECT * FROM main.meta) SELECT * FROM findings",
    ),
    (1142, "SELECT count(*) FROM meta"),
    (1146, "SELECT 1 FROM Divergences_At"),
    (1142, "SELECT count(*) FROM sqlite_master"),
    (1142, "SELECT count(*) FROM Pragma_database_list"),
    (1142, "SELECT count(*) FROM dbstat"),
    (1142, "SELECT 1 FROM main.findings"),
    (1142, "SELECT 1 UNION SELECT value FROM meta"),
    (1142, "SELECT (SELECT value FROM meta) FROM findings"),
    (1290, "SELECT 1; DELETE FROM main.findings"),
    (1064, "SELECT 1; SELECT 2"),
    (1064, "SELEC 1"),
    (1146, "SELECT * FROM missing"),
    (1146, "SELECT * FROM information_schema.tables"),
    (1054, "SELECT missing FROM findings"),
];

#[test]
fn nothing_but_reads_of_the_consoles_tables_gets_through() {
    let kept = kept();
    let file = kept._files.path().join("stolen.db");
    for (code, statement) in HOSTILE {
        let statement = statement.replace('@', &file.to_string_lossy());
        let fault = asked(&kept, &statement).expect_err(&statement);
        assert_eq!(fault.code, *code, "{statement}: {}", fault.text);
        if *code == 1290 {
            assert!(fault.text.contains("read-only"), "{}", fault.text);
        }
    }
    assert!(!file.exists());
    let left = asked(&kept, "SELECT count(*), max(state) FROM findings").unwrap();
    assert_eq!(left.rows, [[Value::Integer(1), Value::Text("open".into())]]);
}

#[test]
fn a_bomb_is_cut_off_in_time_and_in_memory() {
    let kept = kept();
    let begun = tokio::time::Instant::now();
    let long = "x".repeat(70_000);
    for (codes, statement) in [
        (
            &[3024][..],
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        ),
        (
            &[3024],
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)
             SELECT count(*) FROM n a, n b, n c",
        ),
        (
            &[3024, 1038],
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
             SELECT count(DISTINCT i || printf('%.60000c', 'x')) FROM n",
        ),
        (
            &[1038, 3024],
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000)
             SELECT i, printf('%.200000c', 'x') AS x FROM n ORDER BY x, i DESC",
        ),
        (
            &[1301],
            "WITH RECURSIVE n(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM n) SELECT max(length(x)) FROM n",
        ),
        (&[1301], "SELECT printf('%.900000000c', 'x')"),
        (
            &[1104],
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n LIMIT 1001",
        ),
        (
            &[1104],
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
             SELECT printf('%.200000c', 'x') FROM n LIMIT 900",
        ),
        (
            &[1301],
            "SELECT replace(printf('%.250000c', 'a'), 'a', printf('%.250000c', 'b'))",
        ),
        (&[1153], &*format!("SELECT '{long}'")),
    ] {
        let fault = asked(&kept, statement).expect_err(statement);
        assert!(codes.contains(&fault.code), "{statement:.200}: {fault:?}");
        assert!(fault.cut, "{fault:?}");
    }
    let nested = format!("SELECT {}1{}", "(1+".repeat(1_000), ")".repeat(1_000));
    assert_eq!(asked(&kept, &nested).unwrap_err().code, 1064);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

/// Within a function SQLite looks at nothing: what each may cost is bounded by what it is given.
#[test]
fn no_function_runs_on_past_the_bounds() {
    let kept = kept();
    let many = "%a".repeat(48);
    let like = format!("SELECT printf('%.250000c', 'a') LIKE '{many}b%'");
    let glob = like.replace("LIKE", "GLOB").replace("%a", "*a");
    let deep = "SELECT json_extract(printf('%.999c', '[') || '1' || printf('%.240000c', ',') || ']', '$[0]')";
    let flat = "SELECT count(*) FROM json_each('[1' || replace(printf('%.120000c', 'x'), 'x', ',1') || ']')";
    for statement in [
        "SELECT trim(printf('%.500000c', 'z'), printf('%.43000c', 'a') || 'z')",
        "SELECT length(trim(printf('%.200000c', 'z'), printf('%.200000c', 'a') || 'z'))",
        "SELECT length(ltrim(printf('%.200000c', 'z'), printf('%.200000c', 'a') || 'z'))",
        "SELECT length(rtrim(printf('%.200000c', 'z'), printf('%.200000c', 'a') || 'z'))",
        "SELECT instr(printf('%.250000c', 'a'), printf('%.125000c', 'a') || 'b')",
        "SELECT length(replace(printf('%.250000c', 'a'), printf('%.125000c', 'a') || 'b', 'c'))",
        "SELECT replace(printf('%.250000c', 'a'), 'a', printf('%.250000c', 'b'))",
        "SELECT printf('%2000000000d', 1)",
        "SELECT printf('%.2000000000d', 1)",
        "SELECT printf('%2000000000.1000000000f', 1)",
        "SELECT printf('%*d', 2000000000, 1)",
        "SELECT json_pretty(printf('%.900c', '[') || '1' || printf('%.900c', ']'), printf('%.200000c', ' '))",
        "SELECT length(strftime(replace(printf('%.100000c', 'x'), 'x', '%f'), 'now'))",
        deep,
        flat,
        &like,
        &glob,
    ] {
        let begun = tokio::time::Instant::now();
        let answer = asked(&kept, statement);
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{statement:.80}: {:?}, {answer:.80?}",
            begun.elapsed()
        );
    }
}

#[test]
fn functions_of_our_own_answer_as_sqlites_do() {
    let kept = kept();
    let plain = rusqlite::Connection::open_in_memory().unwrap();
    for call in [
        "trim('  a b ')",
        "ltrim('  a ')",
        "rtrim('  a ')",
        "trim('xyax', 'yx')",
        "ltrim('äöa', 'öä')",
        "rtrim('aäö', 'öä')",
        "trim(NULL)",
        "trim('a', NULL)",
        "trim('aXa', '')",
        "trim(' 12 ')",
        "trim(5)",
        "instr('abc', 'c')",
        "instr('äbc', 'c')",
        "instr('abc', 'x')",
        "instr('abc', '')",
        "instr('', 'a')",
        "instr(NULL, 'a')",
        "instr('a', NULL)",
        "instr(12345, 34)",
        "instr(x'01e402', x'02')",
        "instr('a', x'61')",
        "replace('abcabc', 'bc', 'X')",
        "replace('aaa', 'aa', 'b')",
        "replace('abc', '', 'x')",
        "replace('abc', 'b', '')",
        "replace(NULL, 'a', 'b')",
        "replace('a', 'a', NULL)",
        "replace('', 'a', 'b')",
        "replace(1.5, '.', ',')",
    ] {
        let select = format!("SELECT {call}");
        let theirs: Value = plain.query_row(&select, (), |row| row.get(0)).unwrap();
        assert_eq!(asked(&kept, &select).unwrap().rows, [[theirs]], "{call}");
    }
}

#[test]
fn a_row_larger_than_an_answer_is_refused() {
    let kept = kept();
    let wide = vec!["x"; 50].join(", ");
    let text = format!("WITH n(x) AS (SELECT printf('%.250000c', 'x')) SELECT {wide} FROM n");
    assert_eq!(asked(&kept, &text).unwrap_err().code, 1104);
    let columns = vec!["1"; 101].join(", ");
    assert_eq!(
        asked(&kept, &format!("SELECT {columns}")).unwrap_err().code,
        1064
    );
}

#[test]
fn a_query_whose_client_is_gone_ends() {
    let kept = kept();
    let gone = Arc::new(AtomicBool::new(true));
    let bounds = Bounds {
        time: Duration::from_secs(600),
        ..BOUNDS
    };
    let text =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let fault = ask::ask(&kept.ledger, bounds, &gone, text, &[]).unwrap_err();
    assert_eq!(fault.code, 1317);
}

#[test]
fn every_table_has_the_columns_that_describe_tells() {
    let kept = kept();
    for view in crate::ledger::VIEWS {
        let all = asked(&kept, &format!("SELECT * FROM {}", view.name)).unwrap();
        let names: Vec<&str> = view.columns.iter().map(|(name, _)| *name).collect();
        assert_eq!(all.columns, names, "{}", view.name);
        if !["audit", "rules", "cutovers", "cutover_steps", "repairs"].contains(&view.name) {
            assert!(!all.rows.is_empty(), "{}", view.name);
        }
    }
}

#[test]
fn findings_say_what_the_api_says() {
    let kept = kept();
    let api = kept.ledger.findings(&Default::default()).unwrap().items;
    let rows = asked(&kept, "SELECT * FROM findings").unwrap();
    assert_eq!(rows.rows.len(), api.len());
    for (name, cell) in rows
        .columns
        .iter()
        .enumerate()
        .map(|(at, name)| (name, &rows.rows[0][at]))
    {
        let said = match name.as_str() {
            "cause" => &api[0]["cause"]["text"],
            name => &api[0][name],
        };
        let same = match cell {
            Value::Null => said.is_null(),
            Value::Integer(n) => said.as_i64().or(said.as_bool().map(i64::from)) == Some(*n),
            Value::Real(n) => said.as_f64() == Some(*n),
            Value::Text(text) if name == "tables" => {
                *said == serde_json::from_str::<serde_json::Value>(text).unwrap()
            }
            Value::Text(text) => said.as_str() == Some(text),
            Value::Blob(_) => false,
        };
        assert!(same, "{name}: {cell:?}, and the API says {said}");
    }
    // The floor is of another ledger, which the console does not read.
    for key in api[0]
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| *key != "floor")
    {
        assert!(rows.columns.contains(key), "{key} is not in the console");
    }
}

#[test]
fn ordinary_questions_are_answered() {
    let kept = kept();
    for (question, answer) in [
        (
            "SELECT kind, also, detail FROM divergences",
            "value|[\"order\"]|column 2: value",
        ),
        ("SELECT at FROM divergences", "2030-01-02T03:04:05.000006Z"),
        (
            "SELECT primary_server, primary_rows, shadow_error_code FROM divergences",
            "legacy|Integer(1)|Null",
        ),
        (
            "SELECT d.kind FROM divergences d JOIN findings f ON f.id = d.finding_id",
            "value",
        ),
        (
            "SELECT j.value FROM findings f, json_each(f.tables) j",
            "app.orders",
        ),
        (
            "SELECT verdict FROM coverage WHERE reason = 'race'",
            "not_compared",
        ),
        (
            "SELECT commands, share FROM coverage WHERE verdict = 'pending'",
            "Integer(1)|Real(0.25)",
        ),
        (
            "SELECT table_name, cause FROM taints",
            "orders|a write was lost",
        ),
        (
            "SELECT count(*) FROM latency WHERE fingerprint IS NULL AND class = 'read'",
            "Integer(2)",
        ),
        (
            "SELECT server, p50_us > 900 FROM latency WHERE fingerprint = 'SELECT ?' ORDER BY server LIMIT 1",
            "legacy|Integer(1)",
        ),
        (
            "SELECT rank() OVER (ORDER BY impact DESC) FROM ledger.findings",
            "Integer(1)",
        ),
        (
            "select @@version_comment limit 1",
            "understudy's console: read-only SQL over the ledger",
        ),
        ("SELECT DATABASE()", "ledger"),
        ("SELECT 1", "Integer(1)"),
        ("SELECT count(*) FROM Findings", "Integer(1)"),
        (
            "WITH n AS (SELECT 1 UNION ALL SELECT 2) SELECT count(*) FROM n",
            "Integer(2)",
        ),
        ("VALUES (1, 'a')", "Integer(1)|a"),
    ] {
        let rows = asked(&kept, question).unwrap_or_else(|fault| panic!("{question}: {fault:?}"));
        let row: Vec<String> = rows.rows[0].iter().map(text).collect();
        assert_eq!(row.join("|"), answer, "{question}");
    }
    let bound = asked_with(
        &kept,
        "SELECT ? || kind FROM findings WHERE id = ?",
        &["a ".to_owned().into(), 1.into()],
    );
    assert_eq!(text(&bound.unwrap().rows[0][0]), "a value");
}

/// A running console, ended when dropped.
struct Door {
    at: SocketAddr,
    counters: Arc<Counters>,
    stop: CancellationToken,
    _kept: Kept,
    _roles: tokio::sync::watch::Sender<crate::roles::Roles>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Door {
    async fn open(token: Option<&str>) -> Self {
        let line = token.map_or_else(String::new, |token| format!("[admin]\ntoken = {token:?}\n"));
        Self::open_with(&line).await
    }

    async fn open_with(text: &str) -> Self {
        let kept = kept();
        let config = config::Config::parse(text, &[]).unwrap();
        let counters = Arc::new(Counters::default());
        let (writer, parts) = super::super::tests::parts(config, kept.ledger.clone(), &counters);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let holders = Holders::new(&parts.config.admin, &parts.counters);
        let watch = Arc::clone(&holders).watch(stop.clone());
        crate::task::spawn("tokens", watch);
        crate::task::spawn("console", serve(listener, parts, holders, stop.clone()));
        Self {
            at,
            counters,
            stop,
            _kept: kept,
            _roles: writer,
        }
    }

    fn options(&self) -> mysql_async::OptsBuilder {
        mysql_async::OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.at.port())
            .user(Some("somebody"))
            .prefer_socket(false)
    }

    async fn log_in(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        packet(&mut stream).await;
        let login = crate::wire::login::Login {
            capabilities: login::CAPABILITIES,
            user: b"raw".to_vec(),
            auth_plugin: Some(b"mysql_native_password".to_vec()),
            tail: vec![0],
            ..Default::default()
        };
        let without_database = crate::wire::login::Login {
            capabilities: login::CAPABILITIES
                .without(crate::wire::capability::Capabilities::CONNECT_WITH_DB),
            ..login
        };
        send(&mut stream, 1, &without_database.encode()).await;
        assert_eq!(packet(&mut stream).await.first(), Some(&0), "OK");
        stream
    }

    async fn still_serves(&self) {
        let mut stream = self.log_in().await;
        send(&mut stream, 0, b"\x0e").await;
        assert_eq!(packet(&mut stream).await.first(), Some(&0), "a ping");
    }

    async fn broken(&self, so_many: u64) {
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.counters.broken.load(Ordering::Relaxed) < so_many {
            assert!(tokio::time::Instant::now() < end, "it was never counted");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.unwrap();
    let len = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).await.unwrap();
    payload
}

async fn send(stream: &mut TcpStream, seq: u8, payload: &[u8]) {
    let mut out = Vec::new();
    crate::wire::packet::write_packet(&mut out, seq, payload);
    stream.write_all(&out).await.unwrap();
}

/// The error number of an ERR packet; 0 for another one.
fn error(payload: &[u8]) -> u16 {
    if payload.first() == Some(&0xFF) {
        u16::from_le_bytes([payload[1], payload[2]])
    } else {
        0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_driver_asks_in_text_and_prepared() {
    let door = Door::open(None).await;
    let mut client = mysql_async::Conn::new(door.options()).await.unwrap();
    let kinds: Vec<(i64, String, f64)> = client
        .query("SELECT id, kind, impact FROM findings")
        .await
        .unwrap();
    assert_eq!((kinds[0].0, kinds[0].1.as_str()), (1, "value"));
    assert!(kinds[0].2 > 0.0);
    let row: Option<(i64, Option<String>, f64, String)> = client
        .exec_first(
            "SELECT id, cause_id, impact, kind FROM findings WHERE kind = ? AND id >= ? AND impact > ?",
            ("value", 1_u64, 0.001),
        )
        .await
        .unwrap();
    let (id, cause, _, kind) = row.unwrap();
    assert_eq!((id, cause, kind.as_str()), (1, None, "value"));
    let none: Vec<String> = client
        .exec(
            "SELECT kind FROM findings WHERE kind = ?",
            (Option::<i64>::None,),
        )
        .await
        .unwrap();
    assert!(none.is_empty());
    let shown: Vec<String> = client.exec("SHOW TABLES", ()).await.unwrap();
    assert_eq!(shown.len(), crate::ledger::VIEWS.len());
    client.exec_drop("SET NAMES utf8mb4", ()).await.unwrap();
    client.ping().await.unwrap();
    client.reset().await.unwrap();
    let fault = client.query_drop("DROP TABLE findings").await.unwrap_err();
    assert!(fault.to_string().contains("1290"), "{fault}");
    client.query_drop("SELECT 1").await.unwrap();
    client.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tokens_file_lets_in_whose_token_it_has_until_it_has_it_no_more() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let alice = "[alice]\nrole = \"viewer\"\ntoken = \"alice-alice-alice\"\n";
    // SHA-256 of "abc".
    let bob = "[bob]\nrole = \"operator\"\nsha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n";
    std::fs::write(file.path(), format!("{alice}{bob}")).unwrap();
    let door = Door::open_with(&format!("[admin]\ntokens_file = {:?}\n", file.path())).await;
    for wrong in ["abc", "alice"] {
        let options = door.options().pass(Some(wrong));
        let error = mysql_async::Conn::new(options).await.unwrap_err();
        assert!(error.to_string().contains("not as `sha256`"), "{error}");
    }
    let options = door.options().pass(Some("alice-alice-alice"));
    let mut client = mysql_async::Conn::new(options).await.unwrap();
    client.query_drop("SELECT 1").await.unwrap();
    std::fs::write(file.path(), bob).unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    let error = loop {
        assert!(tokio::time::Instant::now() < end, "it was never sent away");
        match client.query_drop("SELECT 1").await {
            Ok(()) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("1045"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_token_the_password_is_the_token() {
    let door = Door::open(Some("hush")).await;
    for (password, may) in [(None, false), (Some("hus"), false), (Some("hush"), true)] {
        let options = door.options().pass(password);
        let came_in = mysql_async::Conn::new(options).await;
        assert_eq!(came_in.is_ok(), may, "{password:?}");
        if let Err(error) = came_in {
            assert!(error.to_string().contains("token"), "{error}");
        }
    }
    assert_eq!(door.counters.denied.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_plugin_is_switched_and_its_proof_judged() {
    let door = Door::open(Some("hush")).await;
    for (plugin, token, may) in [
        ("caching_sha2_password", "hush", true),
        ("caching_sha2_password", "hus", false),
        ("client_ed25519", "hush", true),
    ] {
        let mut stream = TcpStream::connect(door.at).await.unwrap();
        packet(&mut stream).await;
        let login = crate::wire::login::Login {
            capabilities: login::CAPABILITIES,
            user: b"raw".to_vec(),
            database: Some(b"ledger".to_vec()),
            auth_plugin: Some(plugin.as_bytes().to_vec()),
            ..Default::default()
        };
        send(&mut stream, 1, &login.encode()).await;
        let demand = packet(&mut stream).await;
        let demand = crate::wire::login::AuthSwitch::parse(&demand).unwrap();
        let nonce = &demand.data[..20];
        let proof = if plugin == "caching_sha2_password" {
            mysql_common::scramble::scramble_sha256(nonce, token.as_bytes())
                .unwrap()
                .to_vec()
        } else {
            mysql_common::scramble::scramble_native(nonce, token.as_bytes())
                .unwrap()
                .to_vec()
        };
        send(&mut stream, 3, &proof).await;
        let mut last = packet(&mut stream).await;
        if last == [1, 3] {
            last = packet(&mut stream).await;
        }
        assert_eq!(error(&last), if may { 0 } else { 1045 }, "{plugin} {token}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_commands_in_one_write_are_answered_in_turn() {
    let door = Door::open(None).await;
    let mut stream = door.log_in().await;
    let mut both = Vec::new();
    crate::wire::packet::write_packet(&mut both, 0, b"\x03SELECT 'first'");
    crate::wire::packet::write_packet(&mut both, 0, b"\x03SELECT 'second'");
    crate::wire::packet::write_packet(&mut both, 0, b"\x0e");
    stream.write_all(&both).await.unwrap();
    for word in ["first", "second"] {
        let mut packets = Vec::new();
        for _ in 0..5 {
            packets.push(packet(&mut stream).await);
        }
        assert_eq!(packets[3][1..], *word.as_bytes());
    }
    assert_eq!(packet(&mut stream).await[0], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_in_single_bytes_is_one_command() {
    let door = Door::open(None).await;
    let mut stream = door.log_in().await;
    let mut out = Vec::new();
    crate::wire::packet::write_packet(&mut out, 0, b"\x03SELECT 7");
    for byte in out {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut packets = Vec::new();
    for _ in 0..5 {
        packets.push(packet(&mut stream).await);
    }
    assert_eq!(packets[3], b"\x017");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_it_does_not_know_and_texts_that_are_none_get_an_error() {
    let door = Door::open(None).await;
    let mut stream = door.log_in().await;
    for (payload, code) in [
        (&b"\x12\x00\x00"[..], 1047),
        (b"\x11somebody\x00", 1047),
        (b"\x1c\x01\x00\x00\x00\x01\x00\x00\x00", 1047),
        (b"\xfe", 1047),
        (b"\x03SELECT '\xff\xfe'", 1300),
        (b"\x16SELECT '\xff\xfe'", 1300),
        (b"\x16SELECT missing FROM findings", 1054),
        (b"\x17\x09\x00\x00\x00\x00\x01\x00\x00\x00", 1243),
        (b"\x03", 1065),
        (b"\x02mysql", 1049),
    ] {
        send(&mut stream, 0, payload).await;
        let answer = packet(&mut stream).await;
        let told = String::from_utf8_lossy(&answer);
        assert_eq!(error(&answer), code, "{payload:?}: {told}");
    }
    for payload in [
        &b"\x0e"[..],
        b"\x09",
        b"\x1f",
        b"\x02ledger",
        b"\x1b\x00\x00",
        b"\x04nothing\x00",
    ] {
        send(&mut stream, 0, payload).await;
        assert_eq!(error(&packet(&mut stream).await), 0, "{payload:?}");
    }
    send(&mut stream, 0, b"\x04taints\x00").await;
    for _ in 0..6 {
        assert_eq!(error(&packet(&mut stream).await), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_ends_alone_and_is_counted() {
    let door = Door::open(None).await;
    let mut whole = door.log_in().await;
    // Half a packet, an empty one, one that is too long, parameters that are none.
    let mut half = door.log_in().await;
    half.write_all(&[9, 0, 0, 0, 3, b'S']).await.unwrap();
    half.shutdown().await.unwrap();
    door.broken(1).await;
    let mut empty = door.log_in().await;
    send(&mut empty, 0, b"").await;
    door.broken(2).await;
    let mut long = door.log_in().await;
    long.write_all(&[0xFF, 0xFF, 0xFF, 0]).await.unwrap();
    assert_eq!(error(&packet(&mut long).await), 1153);
    door.broken(3).await;
    let mut bad = door.log_in().await;
    send(&mut bad, 0, b"\x16SELECT ? FROM findings").await;
    for _ in 0..5 {
        packet(&mut bad).await;
    }
    send(
        &mut bad,
        0,
        b"\x17\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x01\xfe",
    )
    .await;
    door.broken(4).await;
    // Bytes that are no login.
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0xFF; 300],
        &[1, 0, 0, 1, 0],
    ] {
        let mut stream = TcpStream::connect(door.at).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    send(&mut whole, 0, b"\x0e").await;
    assert_eq!(packet(&mut whole).await[0], 0, "the others go on");
    door.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_told_so() {
    let door = Door::open(None).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        held.push(door.log_in().await);
    }
    let mut stream = TcpStream::connect(door.at).await.unwrap();
    assert_eq!(error(&packet(&mut stream).await), 1040);
    assert_eq!(door.counters.refused.load(Ordering::Relaxed), 1);
    drop(held.pop());
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let mut stream = TcpStream::connect(door.at).await.unwrap();
        if error(&packet(&mut stream).await) == 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "the place is free again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_keep_no_operator_out() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let alice = "[alice]\nrole = \"operator\"\ntoken = \"alice-alice-alice\"\n";
    let bob = "[bob]\nrole = \"viewer\"\ntoken = \"bob-bob-bob-bob-bob\"\n";
    std::fs::write(file.path(), format!("{alice}{bob}")).unwrap();
    let door = Door::open_with(&format!("[admin]\ntokens_file = {:?}\n", file.path())).await;
    let log_in = |token: &'static str| mysql_async::Conn::new(door.options().pass(Some(token)));
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX / 4 * 3 {
        held.push(log_in("bob-bob-bob-bob-bob").await.unwrap());
    }
    let refused = log_in("bob-bob-bob-bob-bob").await.unwrap_err();
    let words = "viewers have 12 of the console's 16 places";
    assert!(refused.to_string().contains(words), "{refused}");
    assert_eq!(door.counters.refused.load(Ordering::Relaxed), 1);
    // Who says nothing leaves for who comes.
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(TcpStream::connect(door.at).await.unwrap());
    }
    for _ in 0..CONNECTIONS_MAX / 4 {
        held.push(log_in("alice-alice-alice").await.unwrap());
    }
    for client in &mut held {
        client.query_drop("SELECT 1").await.unwrap();
    }
}

const ENDLESS: &[u8] =
    b"\x03WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_killed_by_its_number() {
    let door = Door::open(None).await;
    let mut first = door.log_in().await;
    let mut second = door.log_in().await;
    for (statement, code) in [
        (&b"\x03KILL QUERY 1"[..], 1094),
        (b"\x03KILL QUERY 'x'", 1094),
        (b"\x03KILL 1", 1235),
    ] {
        send(&mut second, 0, statement).await;
        assert_eq!(error(&packet(&mut second).await), code);
    }
    send(&mut first, 0, ENDLESS).await;
    let end = tokio::time::Instant::now() + Duration::from_secs(4);
    loop {
        send(&mut second, 0, b"\x03KILL QUERY 1").await;
        if error(&packet(&mut second).await) == 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "it never ran");
    }
    assert_eq!(error(&packet(&mut first).await), 1317);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_left_holds_no_turn() {
    let door = Door::open(None).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..QUERIES_MAX * 3 {
        let mut stream = door.log_in().await;
        send(&mut stream, 0, ENDLESS).await;
    }
    let mut stream = door.log_in().await;
    send(&mut stream, 0, b"\x03SELECT count(*) FROM findings").await;
    assert_eq!(error(&packet(&mut stream).await), 0);
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_is_waited_for_no_longer_than_a_query_may_take() {
    let door = Door::open_with("[admin]\nconsole_timeout_ms = 1000\n").await;
    let begun = tokio::time::Instant::now();
    let mut streams = Vec::new();
    for _ in 0..QUERIES_MAX * 6 {
        let mut stream = door.log_in().await;
        send(&mut stream, 0, ENDLESS).await;
        streams.push(stream);
    }
    for stream in &mut streams {
        let code = error(&packet(stream).await);
        // What other tests take at that time counts as the query's memory.
        assert!(matches!(code, 3024 | 1038), "{code}");
    }
    // One wait and one query; in turns it would be six queries.
    assert!(
        begun.elapsed() < Duration::from_millis(4_500),
        "{:?}",
        begun.elapsed()
    );
}

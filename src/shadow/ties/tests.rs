use super::super::journal::{Entry, Journal};
use super::super::outline::Shapes;
use super::super::reading::{Missing, Reader};
use super::*;
use crate::wire::answer::{AnswerTracker, Done, Failure, Progress, Rows};
use crate::wire::capability::Capabilities;
use crate::wire::packet::{write_lenenc_bytes, write_packet};
use std::collections::BTreeMap;

/// A session in the database `app`.
struct Session {
    ties: Ties,
    journal: Journal,
}

impl Session {
    fn new() -> Self {
        Self {
            ties: Ties::default(),
            journal: Journal::new("app"),
        }
    }

    /// Takes in a command's payload, and says which features it used.
    fn hear(&mut self, command: &[u8], answer: Option<&Answer>) -> Vec<Feature> {
        let reader = Reader {
            shapes: &Shapes::new(8),
            journal: &self.journal,
            capabilities: Capabilities::default(),
            no_backslash_escapes: false,
            databases: &BTreeMap::new(),
            missing: Missing::Nothing,
        };
        let reading = reader.read(command);
        let used = self.ties.take(&Told {
            reading: &reading,
            command,
            capabilities: Capabilities::default(),
            answer,
            database: self.journal.database(),
        });
        let entries = reading.entries(
            command,
            Capabilities::default(),
            answer,
            &std::collections::BTreeSet::new(),
        );
        for entry in &entries {
            self.journal.apply(entry, 8);
        }
        used.into_iter().collect()
    }

    fn say(&mut self, text: &str, answer: &Answer) -> Vec<Feature> {
        self.hear(&[b"\x03", text.as_bytes()].concat(), Some(answer))
    }

    /// Says something that is done.
    fn does(&mut self, text: &str) -> Vec<Feature> {
        self.say(text, &done(0))
    }

    fn prepares(&mut self, id: u32, text: &str, parameters: u16) {
        let answer = of(vec![Outcome::Prepared {
            statement_id: id,
            columns: 1,
            parameters,
            definitions: 0,
        }]);
        self.hear(&[b"\x16", text.as_bytes()].concat(), Some(&answer));
    }

    fn values(&self) -> Vec<&str> {
        self.ties.values().iter().map(String::as_str).collect()
    }
}

fn of(results: Vec<Outcome>) -> Answer {
    Answer {
        results,
        status: Some(Status(Status::AUTOCOMMIT)),
        ..Answer::default()
    }
}

fn done(warnings: u16) -> Answer {
    of(vec![Outcome::Ok(Done {
        warnings,
        ..Done::default()
    })])
}

fn failed(code: u16) -> Answer {
    of(vec![Outcome::Error(Failure {
        code,
        ..Failure::default()
    })])
}

/// One row of one column, as a server sends it.
fn one(value: &[u8], binary: bool) -> Answer {
    let mut column = Vec::new();
    for part in ["def", "", "", "", "l", ""] {
        write_lenenc_bytes(&mut column, part.as_bytes());
    }
    column.extend_from_slice(&[0x0C, 63, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0]);
    let end = [0xFE, 0, 0, 2, 0];
    let mut bytes = Vec::new();
    let mut seq = 1;
    for payload in [&[1][..], &column, &end, value, &end] {
        seq = write_packet(&mut bytes, seq, payload);
    }
    let mut tracker = AnswerTracker::new(Capabilities::PROTOCOL_41, 1024);
    let kind = if binary {
        Command::STMT_EXECUTE
    } else {
        Command::QUERY
    };
    tracker.begin(kind.expect());
    let mut answer = Answer::default();
    let used = bytes.len();
    assert_eq!(tracker.feed(&bytes, &mut answer), Progress::Ended { used });
    answer
}

fn cursor() -> Answer {
    of(vec![Outcome::Rows(Rows {
        binary: true,
        cursor: true,
        ..Rows::default()
    })])
}

fn execute(id: u8) -> Vec<u8> {
    vec![0x17, id, 0, 0, 0, 1, 1, 0, 0, 0]
}

#[test]
fn what_is_held_ties_until_it_is_let_go() {
    for (takes, lets_go, stuck, feature) in [
        (
            "CREATE TEMPORARY TABLE t (id INT)",
            "DROP TABLE app.t",
            Stuck::TemporaryTables,
            "temporary_tables",
        ),
        (
            "LOCK TABLES t READ",
            "UNLOCK TABLES",
            Stuck::LockTables,
            "lock_tables",
        ),
        (
            "LOCK TABLES t READ",
            "BEGIN",
            Stuck::LockTables,
            "lock_tables",
        ),
        (
            "FLUSH TABLES WITH READ LOCK",
            "UNLOCK TABLES",
            Stuck::LockTables,
            "lock_tables",
        ),
        (
            "HANDLER t OPEN AS h",
            "HANDLER h CLOSE",
            Stuck::Handler,
            "handler",
        ),
        ("XA START 'x'", "XA COMMIT 'x'", Stuck::Xa, "xa"),
    ] {
        let mut session = Session::new();
        assert_eq!(session.does(takes), [feature], "{takes}");
        assert_eq!(session.ties.stuck(), [stuck], "{takes}");
        session.say(lets_go, &failed(1064));
        assert_eq!(session.ties.stuck(), [stuck], "{lets_go} failed");
        session.does(lets_go);
        assert_eq!(session.ties.stuck(), [], "{lets_go}");
        session.does(takes);
        session.ties.clear();
        assert_eq!(session.ties.stuck(), []);
    }
    let mut session = Session::new();
    session.does("FLUSH TABLES WITH READ LOCK");
    session.does("BEGIN");
    assert_eq!(session.ties.stuck(), [Stuck::LockTables]);
}

#[test]
fn each_temporary_table_must_be_dropped() {
    let mut session = Session::new();
    session.does("CREATE TEMPORARY TABLE a (id INT)");
    session.does("CREATE TEMPORARY TABLE b LIKE c");
    session.does("DROP TABLE IF EXISTS a, other");
    assert_eq!(session.ties.stuck(), [Stuck::TemporaryTables]);
    session.does("DROP TEMPORARY TABLE b");
    assert_eq!(session.ties.stuck(), []);
    session.say("CREATE TEMPORARY TABLE a (id INT)", &failed(1050));
    assert_eq!(session.ties.stuck(), []);
}

#[test]
fn a_lock_is_held_by_its_answer_and_let_go_by_its_name_or_its_answer() {
    let (yes, no) = (one(b"\x011", false), one(b"\x010", false));
    let mut session = Session::new();
    session.say("SELECT GET_LOCK('job', 0)", &no);
    assert_eq!(session.ties.stuck(), []);
    session.say("SELECT GET_LOCK('job', 0)", &yes);
    assert_eq!(session.ties.stuck(), [Stuck::GetLock]);
    session.say("SELECT RELEASE_LOCK(CONCAT('j', 'ob'))", &no);
    assert_eq!(session.ties.stuck(), [Stuck::GetLock]);
    session.say("DO RELEASE_LOCK('JOB')", &done(0));
    assert_eq!(session.ties.stuck(), []);
    session.say("SELECT GET_LOCK('a', 0), GET_LOCK('b', 0)", &of(Vec::new()));
    session.say("SELECT RELEASE_LOCK('a')", &yes);
    assert_eq!(session.ties.stuck(), [Stuck::GetLock]);
    session.does("SELECT RELEASE_ALL_LOCKS()");
    assert_eq!(session.ties.stuck(), []);
}

#[test]
fn a_lock_in_a_prepared_statement_is_followed_by_its_answers() {
    let (yes, null) = (one(b"\0\0\x01\0\0\0\0\0\0\0", true), one(b"\0\x04", true));
    let mut session = Session::new();
    session.prepares(1, "SELECT GET_LOCK(?, 10)", 0);
    session.prepares(2, "SELECT RELEASE_LOCK(?)", 0);
    session.hear(&execute(1), Some(&null));
    assert_eq!(session.ties.stuck(), []);
    session.hear(&execute(1), Some(&yes));
    assert_eq!(session.ties.stuck(), [Stuck::GetLock]);
    session.hear(&execute(2), Some(&null));
    assert_eq!(session.ties.stuck(), [Stuck::GetLock]);
    session.hear(&execute(2), Some(&yes));
    assert_eq!(session.ties.stuck(), []);
}

#[test]
fn a_cursor_is_open_until_its_last_row_was_sent_or_it_is_closed() {
    let mut last = of(vec![Outcome::Rows(Rows::default())]);
    last.status = Some(Status(Status::AUTOCOMMIT | Status::LAST_ROW_SENT));
    let (fetch, reset) = (b"\x1C\x01\0\0\0\x05\0\0\0", b"\x1A\x01\0\0\0");
    for (ends, answer, still) in [
        (&fetch[..], Some(&last), false),
        (
            &fetch[..],
            Some(&of(vec![Outcome::Rows(Rows::default())])),
            true,
        ),
        (&reset[..], Some(&done(0)), false),
        (&b"\x19\x01\0\0\0"[..], None, false),
        (
            &execute(1)[..],
            Some(&of(vec![Outcome::Rows(Rows::default())])),
            false,
        ),
    ] {
        let mut session = Session::new();
        session.prepares(1, "SELECT a FROM t", 0);
        assert_eq!(session.hear(&execute(1), Some(&cursor())), ["cursors"]);
        assert_eq!(session.ties.stuck(), [Stuck::Cursor]);
        session.hear(ends, answer);
        assert_eq!(!session.ties.stuck().is_empty(), still, "{ends:?}");
    }
    // Where the answer is not known, it may have opened the one that was asked for.
    let mut session = Session::new();
    session.prepares(1, "SELECT a FROM t", 0);
    session.hear(&execute(1), None);
    assert_eq!(session.ties.stuck(), [Stuck::Cursor]);
}

#[test]
fn what_cannot_be_followed_makes_it_unknown() {
    for (text, answer, unknown) in [
        ("CALL p(1)", done(0), true),
        ("CALL p(1)", failed(1305), false),
        ("CALL p(1)", failed(1644), true),
        ("PREPARE s FROM 'SELECT 1'", done(0), true),
        ("PREPARE s FROM 'SELEC 1'", failed(1064), false),
        ("EXECUTE s", done(0), true),
        ("SET ROLE admin", done(0), true),
        ("SET NAMES @charset", done(0), false),
        ("SELECT f(1)", done(0), true),
        ("SELECT f(1)", failed(1305), false),
        ("BEGIN NOT ATOMIC SET @a = 1; END", done(0), true),
        ("SET GLOBAL max_connections = 5", done(0), false),
        ("KILL 5", done(0), false),
        ("HANDLER t READ FIRST", done(0), false),
        ("XA END 'x'", done(0), false),
        ("LOAD DATA INFILE 'x' INTO TABLE t", done(0), false),
        ("DO SLEEP(0)", done(0), false),
    ] {
        let mut session = Session::new();
        session.say(text, &answer);
        let stuck = session.ties.stuck();
        let found = stuck.iter().any(|stuck| stuck.is_unknown());
        assert_eq!(found, unknown, "{text} {answer:?}: {stuck:?}");
    }
}

#[test]
fn variables_are_carried_by_value_where_no_text_says_it() {
    for (texts, values) in [
        (&["SET @a = 1"][..], &[][..]),
        (&["SELECT @A := 1, @b := 2"], &["@a", "@b"]),
        (&["SELECT v INTO @a FROM t"], &["@a"]),
        (&["SET @a = NOW(), @b = 1"], &["@a"]),
        (&["SET @a = @@sql_mode"], &["@a"]),
        (&["SELECT @a := 1", "SET @a = 2"], &[]),
        (&["SET sql_mode = (SELECT m FROM modes)"], &["sql_mode"]),
        (
            &["SELECT @a := 'ANSI'", "SET sql_mode = @a"],
            &["@a", "sql_mode"],
        ),
        (&["SET @a = 'ANSI'", "SET sql_mode = @a"], &[]),
        (
            &[
                "SELECT @a := 'ANSI'",
                "SET sql_mode = @a",
                "SET sql_mode = ''",
            ],
            &["@a"],
        ),
        (&["UPDATE t SET v = @n := @n + 1"], &["@n"]),
    ] {
        let mut session = Session::new();
        for text in texts {
            session.does(text);
        }
        assert_eq!(session.values(), values, "{texts:?}");
        assert_eq!(session.ties.stuck(), [], "{texts:?}");
    }
    // It may have assigned some before it failed.
    let mut session = Session::new();
    session.say("SELECT @a := v FROM t", &failed(1317));
    assert_eq!(session.values(), ["@a"]);
}

#[test]
fn what_the_next_command_may_ask_for_is_soft() {
    let mut session = Session::new();
    session.say("INSERT INTO t VALUES ('x')", &done(1));
    assert_eq!(session.ties.soft(), [Soft::Warnings]);
    session.hear(&[0x0E], Some(&done(0)));
    assert_eq!(session.ties.soft(), [Soft::Warnings]);
    session.does("SHOW WARNINGS");
    assert_eq!(session.ties.soft(), []);
    session.does("SELECT SQL_CALC_FOUND_ROWS a FROM t LIMIT 1");
    assert_eq!(session.ties.soft(), [Soft::FoundRows]);
    session.does("SELECT FOUND_ROWS()");
    assert_eq!(session.ties.soft(), []);
    session.does("SET TRANSACTION READ ONLY");
    assert_eq!(session.ties.soft(), [Soft::NextTransaction]);
    session.does("SET @a = 1");
    assert_eq!(session.ties.soft(), [Soft::NextTransaction]);
    session.does("SELECT a FROM t");
    assert_eq!(session.ties.soft(), []);
}

#[test]
fn other_features_are_told_too() {
    let mut session = Session::new();
    let infile = of(vec![Outcome::LocalInfile, Outcome::Ok(Done::default())]);
    let text = "LOAD DATA LOCAL INFILE 'x' INTO TABLE t";
    assert_eq!(session.say(text, &infile), ["local_infile"]);
    assert_eq!(
        session.hear(b"\x11app\0\0\0", Some(&done(0))),
        ["change_user"]
    );
    assert_eq!(session.hear(b"\x11app\0\0\0", Some(&failed(1045))), [""; 0]);
    assert_eq!(session.does("CALL p()"), ["call"]);
}

#[test]
fn more_than_is_remembered_makes_it_unknown_and_stays_bounded() {
    let mut session = Session::new();
    for n in 0..=EACH_MAX {
        session.does(&format!("SELECT @v{n} := 1"));
    }
    assert!(matches!(session.ties.stuck()[..], [Stuck::Unknown(_)]));
    assert!(session.values().is_empty());
}

#[test]
fn a_reset_is_an_entry_of_its_own() {
    let mut session = Session::new();
    let reader = Reader {
        shapes: &Shapes::new(8),
        journal: &session.journal,
        capabilities: Capabilities::default(),
        no_backslash_escapes: false,
        databases: &BTreeMap::new(),
        missing: Missing::Nothing,
    };
    let entries = reader.read(&[0x1F]).entries(
        &[0x1F],
        Capabilities::default(),
        Some(&done(0)),
        &std::collections::BTreeSet::new(),
    );
    assert!(matches!(entries[..], [Entry::Reset]));
    session.ties.lose("CALL");
    session.ties.clear();
    assert_eq!(session.ties.stuck(), []);
}

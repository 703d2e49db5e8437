use super::*;
use crate::sql::Table;
use crate::wire::answer::Outcome;

/// Reads a text of a session in the database `app`, whose server calls `Shop` otherwise.
fn read(text: &str, missing: Missing) -> Reading {
    read_payload(&[b"\x03", text.as_bytes()].concat(), missing)
}

fn read_payload(payload: &[u8], missing: Missing) -> Reading {
    let reader = Reader {
        shapes: &Shapes::new(16),
        journal: &Journal::new("app"),
        capabilities: Capabilities::default(),
        no_backslash_escapes: false,
        databases: &BTreeMap::from([("Shop".to_owned(), "store".to_owned())]),
        missing,
    };
    reader.read(payload)
}

fn tables(names: &[&str]) -> Scope {
    let tables: Vec<Table> = names
        .iter()
        .map(|name| Table {
            database: None,
            name: (*name).to_owned(),
        })
        .collect();
    Scope::of(&Tables::Known(tables), "app")
}

#[test]
fn several_statements_may_end_what_is_around_them() {
    for (text, ends_inside) in [
        ("COMMIT", false),
        ("SET autocommit = 1", false),
        ("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)", false),
        ("SAVEPOINT a; SET NAMES utf8; DELETE FROM t", false),
        ("COMMIT; ROLLBACK", true),
        ("INSERT INTO t VALUES (1); TRUNCATE t", true),
        ("SET autocommit = 0; INSERT INTO t VALUES (1)", true),
        ("DELETE FROM t; SET @@SESSION.autocommit = ON", true),
        ("SET autocommit = (SELECT 1); DELETE FROM t", true),
    ] {
        let reading = read(text, Missing::Nothing);
        assert_eq!(reading.ends_inside, ends_inside, "{text}");
    }
}

#[test]
fn a_plan_is_asked_of_one_statement_that_calls_no_stored_function() {
    for (text, plannable) in [
        ("INSERT INTO t VALUES (1)", true),
        ("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)", false),
        ("UPDATE t SET a = f(a)", false),
        ("SELECT f(a) FROM t", false),
    ] {
        let reading = read(text, Missing::Nothing);
        assert_eq!(reading.plannable, plannable, "{text}");
    }
}

#[test]
fn a_stored_function_may_write_any_table_and_a_lock_none() {
    let function = read("SELECT f(1)", Missing::Nothing);
    assert!(!function.only_locks());
    assert_eq!(function.writes, Scope::All);
    let written = function.written("app");
    let names: Vec<&str> = written.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["*"]);
    let lock = read("SELECT a FROM t FOR UPDATE", Missing::Nothing);
    assert!(lock.only_locks());
    assert_eq!(
        (lock.writes.clone(), lock.written("app")),
        (tables(&["t"]), TableSet::none())
    );
}

#[test]
fn what_a_write_with_a_stored_function_writes_is_known() {
    let reading = read("INSERT INTO t VALUES (f(1))", Missing::Nothing);
    assert_eq!(reading.scope, Scope::All);
    assert_eq!(reading.written("app"), tables(&["t"]).tables());
}

#[test]
fn a_cut_statement_keeps_its_tables_where_nothing_can_follow_it() {
    let half = "INSERT INTO t (a, b) VALUES (1, 'a long te";
    for (missing, writes) in [
        (Missing::End, tables(&["t"])),
        (Missing::Statements, Scope::All),
    ] {
        let reading = read(half, missing);
        assert_eq!((reading.class, &reading.writes), (Class::Write, &writes));
        assert_eq!(reading.scope, Scope::All);
        assert!(
            reading
                .entries(b"", Capabilities::default(), None, &BTreeSet::new())
                .is_empty()
        );
    }
    let read_cut = read("SELECT a FROM t WHERE b IN ('x', 'y", Missing::End);
    assert_eq!(
        (read_cut.class, read_cut.writes),
        (Class::Read, Scope::none())
    );
    let name_cut = read("DELETE FROM app.us", Missing::End);
    assert_eq!(name_cut.writes, Scope::All);
}

fn read_within(journal: &Journal, payload: &[u8]) -> Reading {
    let reader = Reader {
        shapes: &Shapes::new(16),
        journal,
        capabilities: Capabilities::PROTOCOL_41,
        no_backslash_escapes: false,
        databases: &BTreeMap::new(),
        missing: Missing::Nothing,
    };
    reader.read(payload)
}

fn take(journal: &mut Journal, payload: &[u8], answer: &Answer) {
    let read = read_within(journal, payload);
    let capabilities = Capabilities::PROTOCOL_41;
    for entry in read.entries(payload, capabilities, Some(answer), &BTreeSet::new()) {
        journal.apply(&entry, 16);
    }
}

#[test]
fn a_prepared_statement_is_read_as_when_it_was_prepared() {
    let prepared = Answer {
        results: vec![Outcome::Prepared {
            statement_id: 7,
            columns: 1,
            parameters: 0,
            definitions: 0,
        }],
        ..Answer::default()
    };
    let mut journal = Journal::new("app");
    let set = b"\x03SET sql_mode = 'NO_BACKSLASH_ESCAPES'";
    take(&mut journal, set, &Answer::default());
    take(&mut journal, b"\x16SELECT 'C:\\', 'b'", &prepared);
    take(&mut journal, b"\x03SET sql_mode = ''", &Answer::default());
    let execute = b"\x17\x07\0\0\0\0\x01\0\0\0";
    assert!(read_within(&journal, execute).dialect.no_backslash_escapes);
    let text = read_within(&journal, b"\x03SELECT 'a'");
    assert!(!text.dialect.no_backslash_escapes);
}

#[test]
fn a_database_that_differs_in_case_alone_is_mapped_to_none() {
    for (name, mapped) in [
        ("Shop", Text::Mapped(b"store".to_vec())),
        ("shop", Text::Unsure),
        ("other", Text::Same),
    ] {
        let payload = [b"\x02", name.as_bytes()].concat();
        assert_eq!(
            read_payload(&payload, Missing::Nothing).text,
            mapped,
            "{name}"
        );
    }
}

#[test]
fn a_prepare_without_an_id_leaves_none_to_be_the_last() {
    let payload = b"\x16SELECT 1";
    let reading = read_payload(payload, Missing::Nothing);
    let entries = reading.entries(payload, Capabilities::default(), None, &BTreeSet::new());
    assert!(matches!(entries.as_slice(), [Entry::NotPrepared]));
}

//! What clients ask of any MySQL server, mostly at connect: answered without SQLite, or put into
//! SQLite's words. Everything else is passed on as it is.

use super::ask::{Fault, Rows};
use super::guard::{STATEMENT_BYTES_MAX, Why};
use crate::ledger::{VIEWS, View};
use rusqlite::types::Value;

/// The console's one database.
const DATABASE: &str = "ledger";

/// What the console says it is: clients choose their ways by the number in front.
pub(super) const VERSION: &str = concat!("8.0.36-understudy-", env!("CARGO_PKG_VERSION"));

/// Variables that clients ask for; any other one is NULL.
const VARIABLES: &[(&str, &str)] = &[
    ("auto_increment_increment", "1"),
    ("autocommit", "1"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_database", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("character_set_server", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("collation_database", "utf8mb4_general_ci"),
    ("collation_server", "utf8mb4_general_ci"),
    ("init_connect", ""),
    ("interactive_timeout", "3600"),
    ("license", "Apache-2.0"),
    ("lower_case_table_names", "0"),
    ("max_allowed_packet", "262144"),
    ("net_buffer_length", "16384"),
    ("net_write_timeout", "30"),
    ("performance_schema", "0"),
    ("query_cache_size", "0"),
    ("query_cache_type", "OFF"),
    ("read_only", "1"),
    ("sql_mode", ""),
    ("system_time_zone", "UTC"),
    ("time_zone", "UTC"),
    ("transaction_isolation", "REPEATABLE-READ"),
    ("transaction_read_only", "1"),
    ("tx_isolation", "REPEATABLE-READ"),
    ("tx_read_only", "1"),
    ("version", VERSION),
    (
        "version_comment",
        "understudy's console: read-only SQL over the ledger",
    ),
    ("wait_timeout", "3600"),
];

/// What becomes of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    /// OK: it changes nothing here.
    Done,
    /// An answer that needs no ledger.
    Rows(Rows),
    /// SQLite is asked this.
    Ask(String),
    /// The query that this connection runs is to end.
    Kill(u32),
}

/// The reply to a statement.
pub(super) fn reply(text: &str) -> Result<Reply, Fault> {
    if text.len() > STATEMENT_BYTES_MAX {
        return Err(Fault::too_long());
    }
    let text = bare(text);
    let words: Vec<String> = text
        .split(|c: char| c.is_whitespace() || c == '(' || c == ';')
        .filter(|word| !word.is_empty())
        .take(8)
        .map(|word| word.trim_matches('`').to_ascii_lowercase())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Err(Fault::new(1065, b"42000", "Query was empty")),
        ["set", "global" | "persist" | "password", ..] => Err(Fault::refused(Why::NotARead)),
        ["set" | "begin" | "commit" | "rollback", ..] | ["start", "transaction", ..] => {
            Ok(Reply::Done)
        }
        ["kill", "query", number] => killed(number),
        ["kill", ..] => {
            let text = "the console ends queries, not connections: KILL QUERY number";
            Err(Fault::new(1235, b"42000", text))
        }
        ["use", name, ..] => no_such_database(name).map_or(Ok(Reply::Done), Err),
        ["show", rest @ ..] => show(rest, text),
        ["describe" | "desc", table] => columns(table),
        ["explain", table] if VIEWS.iter().any(|view| view.name == *table) => columns(table),
        _ => Ok(Reply::Ask(translated(text))),
    }
}

fn killed(number: &str) -> Result<Reply, Fault> {
    let known = number.parse().map(Reply::Kill);
    known.map_err(|_| Fault::no_such_thread(number))
}

/// The fault where a database is not the console's; no name is none.
pub(super) fn no_such_database(name: &str) -> Option<Fault> {
    let name = name.trim_matches('`');
    (!name.is_empty() && name != DATABASE).then(|| {
        let text = format!("Unknown database '{name}': the console has one, '{DATABASE}'");
        Fault::new(1049, b"42000", text)
    })
}

/// The statement without comments before it and semicolons behind it; MySQL's own comments
/// (`/*!40101 SET … */`) are statements.
fn bare(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        text = text.trim_start();
        let rest = if let Some(rest) = text.strip_prefix("/*!") {
            let version = |c: char| c.is_ascii_digit();
            let inside = rest.trim_end_matches([';', ' ']).strip_suffix("*/");
            return inside.unwrap_or(rest).trim_start_matches(version).trim();
        } else if let Some(rest) = text.strip_prefix("/*") {
            rest.split_once("*/").map_or("", |(_, rest)| rest)
        } else if text.starts_with("-- ") || text.starts_with('#') {
            text.split_once('\n').map_or("", |(_, rest)| rest)
        } else {
            return text.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        };
        text = rest;
    }
}

fn show(words: &[&str], text: &str) -> Result<Reply, Fault> {
    let words: Vec<&str> = words
        .iter()
        .copied()
        .skip_while(|word| matches!(*word, "full" | "extended" | "session" | "global"))
        .collect();
    let empty = |columns: &[&str]| Ok(Reply::Rows(rows(columns, Vec::new())));
    match words.as_slice() {
        ["tables", ..] => {
            let names = VIEWS.iter().map(|view| view.name);
            let full = text.to_ascii_lowercase().contains("full");
            let shown = names
                .filter(|name| like(text, name))
                .map(|name| if full { vec![name, "VIEW"] } else { vec![name] });
            let columns: &[&str] = if full {
                &["Tables_in_ledger", "Table_type"]
            } else {
                &["Tables_in_ledger"]
            };
            Ok(Reply::Rows(rows(columns, shown.collect())))
        }
        ["databases" | "schemas", ..] => Ok(Reply::Rows(rows(&["Database"], vec![vec![DATABASE]]))),
        ["columns" | "fields", "from" | "in", table, ..] => columns(table),
        ["variables", ..] => {
            let known = VARIABLES.iter().filter(|(name, _)| like(text, name));
            let shown = known.map(|(name, value)| vec![*name, *value]).collect();
            Ok(Reply::Rows(rows(&["Variable_name", "Value"], shown)))
        }
        ["status", ..] => empty(&["Variable_name", "Value"]),
        ["warnings" | "errors", ..] => empty(&["Level", "Code", "Message"]),
        ["collation", ..] => empty(&[
            "Collation",
            "Charset",
            "Id",
            "Default",
            "Compiled",
            "Sortlen",
        ]),
        ["character", "set", ..] | ["charset", ..] => {
            empty(&["Charset", "Description", "Default collation", "Maxlen"])
        }
        ["engines", ..] => empty(&["Engine", "Support", "Comment"]),
        ["plugins", ..] => empty(&["Name", "Status", "Type", "Library", "License"]),
        ["index" | "indexes" | "keys", ..] => empty(&["Table", "Key_name", "Column_name"]),
        ["table", "status", ..] => {
            let shown = VIEWS.iter().map(|view| vec![view.name, view.about]);
            Ok(Reply::Rows(rows(&["Name", "Comment"], shown.collect())))
        }
        _ => {
            let text = "the console answers SHOW TABLES, SHOW TABLE STATUS, SHOW COLUMNS, SHOW DATABASES, SHOW VARIABLES and SHOW WARNINGS; it is read-only";
            Err(Fault::new(1235, b"42000", text))
        }
    }
}

fn columns(table: &str) -> Result<Reply, Fault> {
    let name = table.rsplit('.').next().unwrap_or(table).trim_matches('`');
    let Some(View { columns, .. }) = VIEWS.iter().find(|view| view.name == name) else {
        let text = format!("Table '{DATABASE}.{name}' doesn't exist: see SHOW TABLES");
        return Err(Fault::new(1146, b"42S02", text));
    };
    let shown = columns
        .iter()
        .map(|(name, kind)| vec![*name, *kind, "YES", "", "", ""]);
    Ok(Reply::Rows(rows(
        &["Field", "Type", "Null", "Key", "Default", "Extra"],
        shown.collect(),
    )))
}

fn rows(columns: &[&str], rows: Vec<Vec<&str>>) -> Rows {
    let cell = |text: &str| Value::Text(text.to_owned());
    Rows {
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        rows: rows
            .into_iter()
            .map(|row| row.into_iter().map(cell).collect())
            .collect(),
    }
}

/// Whether a name is what `LIKE '…'` or `= '…'` in the statement asks for; without one every name is.
fn like(text: &str, name: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let Some(pattern) = ["like", "="].iter().find_map(|word| {
        let (_, rest) = lower.split_once(word)?;
        rest.split(['\'', '"']).nth(1).map(str::to_owned)
    }) else {
        return true;
    };
    matches(pattern.as_bytes(), name.as_bytes())
}

/// LIKE without escapes. Back to the last `%` only, so that no pattern takes long.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    // Where the last `%` stands, and up to where it has taken the name.
    let mut any = None;
    while let Some(byte) = name.get(of) {
        match pattern.get(at) {
            Some(b'%') => {
                any = Some((at, of));
                at += 1;
            }
            Some(one) if *one == b'_' || one == byte => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((percent, taken)) = any else {
                    return false;
                };
                any = Some((percent, taken + 1));
                at = percent + 1;
                of = taken + 1;
            }
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'%'))
}

/// The statement in SQLite's words: variables (`@@…`) and what a session is asked of itself
/// (`DATABASE()`, `VERSION()` …) become texts, and `ledger.` before a table's name goes.
fn translated(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // Whether an item of the outermost select list may begin here: only such a one is given a name.
    let mut item = false;
    let mut depth = 0_u32;
    let mut listed = true;
    while let Some(first) = rest.chars().next() {
        let (taken, after) = token(rest, first);
        rest = after;
        let lower = taken.to_ascii_lowercase();
        let mut said = taken;
        if let Some(value) = variable(&lower).or_else(|| own(&lower, &mut rest, &mut said, text)) {
            out.push_str(&value);
            if item && depth == 0 && listed && ends_item(rest) {
                out.push_str(&format!(" AS \"{}\"", said.replace('"', "")));
            }
            item = false;
            continue;
        }
        match lower.as_str() {
            "ledger" | "`ledger`" if names_view(rest) => {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            "select" | "distinct" | "," => item = true,
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            "from" | "where" | "order" | "group" => listed = false,
            blank if blank.trim().is_empty() || blank.starts_with("/*") => {}
            _ => item = false,
        }
        out.push_str(taken);
    }
    out
}

/// The next token: a quoted text, a comment, a word (with `@@` and dots where it is a variable),
/// blanks, or one character.
fn token(text: &str, first: char) -> (&str, &str) {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    let end = match first {
        '\'' | '"' | '`' => text
            .get(1..)
            .and_then(|inside| inside.find(first))
            .map(|at| at + 2),
        '/' if text.starts_with("/*") => text.find("*/").map(|at| at + 2),
        '-' if text.starts_with("--") => text.find('\n'),
        '@' if text.starts_with("@@") => text
            .char_indices()
            .find(|(_, c)| !word(*c) && !matches!(c, '@' | '.'))
            .map(|(at, _)| at),
        c if word(c) => text
            .char_indices()
            .find(|(_, c)| !word(*c))
            .map(|(at, _)| at),
        c if c.is_whitespace() => text
            .char_indices()
            .find(|(_, c)| !c.is_whitespace())
            .map(|(at, _)| at),
        c => Some(c.len_utf8()),
    };
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, ""))
}

/// The value of `@@name`, `@@session.name` or `@@global.name`, in SQLite's words.
fn variable(word: &str) -> Option<String> {
    let name = word.strip_prefix("@@")?;
    let name = ["session.", "global.", "local."]
        .iter()
        .find_map(|scope| name.strip_prefix(scope))
        .unwrap_or(name);
    let value = VARIABLES.iter().find(|(known, _)| *known == name);
    Some(value.map_or_else(|| "NULL".to_owned(), |(_, value)| literal(value)))
}

/// The value of a function that asks for the session itself, and the call as it was written.
fn own<'a>(word: &str, rest: &mut &'a str, said: &mut &'a str, whole: &'a str) -> Option<String> {
    let value = match word {
        "database" | "schema" => literal(DATABASE),
        "user" | "current_user" | "session_user" | "system_user" => literal("operator@localhost"),
        "version" => literal(VERSION),
        "connection_id" => "1".to_owned(),
        "now" | "utc_timestamp" => "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')".to_owned(),
        _ => return None,
    };
    let after = rest.trim_start().strip_prefix('(')?;
    let after = after.trim_start().strip_prefix(')')?;
    let begun = whole.len() - rest.len() - said.len();
    let ended = whole.len() - after.len();
    *said = whole.get(begun..ended).unwrap_or(said);
    *rest = after;
    Some(value)
}

fn literal(value: &str) -> String {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', "''"))
}

/// Whether an item of a select list ends here, so that it has no name of its own.
fn ends_item(rest: &str) -> bool {
    let rest = rest.trim_start();
    let begins = |word: &str| {
        rest.get(..word.len())
            .is_some_and(|begun| begun.eq_ignore_ascii_case(word))
    };
    rest.is_empty() || begins(",") || begins("limit") || begins("from")
}

/// Whether a dot and the name of one of the console's tables follow.
fn names_view(rest: &str) -> bool {
    let Some(after) = rest.strip_prefix('.') else {
        return false;
    };
    let name = after.trim_start_matches('`');
    VIEWS.iter().any(|view| {
        name.strip_prefix(view.name)
            .is_some_and(|end| !end.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_ask_of_any_server_is_put_into_sqlites_words() {
        for (asked, put) in [
            (
                "select @@version_comment limit 1",
                "select 'understudy''s console: read-only SQL over the ledger' AS \"@@version_comment\" limit 1",
            ),
            (
                "SELECT @@max_allowed_packet,@@wait_timeout, @@nonsense",
                "SELECT 262144 AS \"@@max_allowed_packet\",3600 AS \"@@wait_timeout\", NULL AS \"@@nonsense\"",
            ),
            (
                "/* a driver */ SELECT  @@session.auto_increment_increment AS a, @@init_connect AS b;",
                "SELECT  1 AS a, '' AS b",
            ),
            ("SELECT DATABASE()", "SELECT 'ledger' AS \"DATABASE()\""),
            (
                "SELECT kind FROM findings WHERE who = user()",
                "SELECT kind FROM findings WHERE who = 'operator@localhost'",
            ),
            (
                "SELECT '@@version', \"now()\", `database` FROM ledger.findings f, `ledger`.`taints`",
                "SELECT '@@version', \"now()\", `database` FROM findings f, `taints`",
            ),
            (
                "SELECT ledger.id FROM findings ledger",
                "SELECT ledger.id FROM findings ledger",
            ),
            (
                "SELECT 'it''s @@x' -- @@y\n, 1",
                "SELECT 'it''s @@x' -- @@y\n, 1",
            ),
            ("SELECT 'never ended", "SELECT 'never ended"),
            ("SELECT * FROM fällig", "SELECT * FROM fällig"),
        ] {
            assert_eq!(reply(asked), Ok(Reply::Ask(put.to_owned())), "{asked}");
        }
    }

    #[test]
    fn settings_and_transactions_are_done_and_change_nothing() {
        for text in [
            "SET NAMES utf8mb4",
            "set autocommit=1;",
            "/*!40101 SET NAMES utf8 */;",
            "START TRANSACTION",
            "BEGIN;",
            "COMMIT",
            "USE `ledger`",
            "use ledger;",
        ] {
            assert_eq!(reply(text), Ok(Reply::Done), "{text}");
        }
        assert_eq!(reply("SET GLOBAL read_only = 0").unwrap_err().code, 1290);
        assert_eq!(reply("USE mysql").unwrap_err().code, 1049);
        assert_eq!(reply(" -- nothing\n;").unwrap_err().code, 1065);
        assert_eq!(reply("SHOW GRANTS").unwrap_err().code, 1235);
        assert_eq!(reply("DESC nothing").unwrap_err().code, 1146);
    }

    #[test]
    fn names_are_found_by_pattern() {
        let names = |text: &str| match reply(text) {
            Ok(Reply::Rows(rows)) => rows.rows.len(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(names("SHOW TABLES"), VIEWS.len());
        assert_eq!(names("SHOW TABLES LIKE 'f%'"), 1);
        assert_eq!(names("show full tables from `ledger` like '%en%'"), 2);
        assert_eq!(names("SHOW VARIABLES LIKE 'lower_case_table_names'"), 1);
        assert_eq!(
            names("SHOW SESSION VARIABLES WHERE Variable_name = 'sql_mode'"),
            1
        );
        assert_eq!(names("SHOW WARNINGS"), 0);
        let bomb = format!("SHOW TABLES LIKE '{}!'", "%a_".repeat(20_000));
        assert_eq!(names(&bomb), 0);
        assert!(matches(b"%_in%g_", b"findings") && !matches(b"_%in", b"findings"));
        for view in VIEWS {
            assert_eq!(
                names(&format!("DESCRIBE {}", view.name)),
                view.columns.len()
            );
            assert_eq!(
                names(&format!("SHOW COLUMNS FROM `{}`", view.name)),
                view.columns.len()
            );
        }
    }
}

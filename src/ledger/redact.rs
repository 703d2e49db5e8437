//! A diverged observation → what may be written down: literals replaced, unless the config keeps
//! them. Nothing goes to the store or to the log but through here.

use super::cause::Cause;
use super::observation::{By, Observation, Side};
use super::session;
use crate::compare::causes::{Case, Told, cause};
use crate::compare::verdict::{Divergence, Example, Verdict};
use crate::config::Literals;
use crate::sql::{self, Table};
use serde_json::{Value, json};

/// How many bytes of a statement are written down.
const STATEMENT_MAX: usize = 8192;

/// A divergence that may be written down.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) at: jiff::Timestamp,
    pub(super) kind: &'static str,
    pub(super) fingerprint: String,
    pub(super) digest: u64,
    pub(super) protocol: &'static str,
    pub(super) tables: Vec<String>,
    pub(super) class: &'static str,
    /// The columns that differ, where it is known that nothing else does.
    pub(super) columns: Option<Vec<String>>,
    /// What it follows from, where it is no divergence of its own.
    pub(super) cause: Option<Cause>,
    /// The API's shape, without `id` and `finding_id`, which the store gives.
    pub(super) item: Value,
}

/// The entry of an observation that diverged, or would have but for a taint; `None` for any other.
pub(super) fn entry(observation: &Observation, literals: Literals) -> Option<Entry> {
    let follows = observation.follows.as_ref();
    let divergence = match &observation.verdict {
        Verdict::Diverged(divergence) => divergence,
        _ => &follows?.divergence,
    };
    let followed = follows.map(|follows| follows.cause.clone());
    let rechecked = observation.rechecked.as_ref();
    let tables: Vec<String> = observation.tables.iter().map(name).collect();
    let also: Vec<&str> = divergence.also.iter().map(|kind| kind.name()).collect();
    let item = json!({
        "at": observation.at.to_string(),
        "kind": divergence.kind.name(),
        "also": also,
        "detail": divergence.detail,
        "columns": divergence.columns,
        "fingerprint": &*observation.fingerprint,
        "digest": format!("{:016x}", observation.digest),
        "protocol": observation.protocol.name(),
        "class": observation.class.name(),
        "session": session(observation, literals),
        "user": &*observation.user,
        "database": &*observation.database,
        "tables": tables,
        "statement": statement(observation, literals),
        "parameters": parameters(observation, literals),
        "primary": side(&observation.primary, literals),
        "shadow": observation.shadow.as_ref().map(|one| side(one, literals)),
        "cause": match &followed {
            Some(cause) => tainted_by(&cause.text),
            None => known_cause(observation, divergence),
        },
        "follows": followed.is_some(),
        "examples": examples(divergence, literals),
        "literals_kept": literals == Literals::Keep,
        "rechecked": rechecked.and_then(|one| one.by).map_or("no", By::name),
        "recheck": rechecked.and_then(|one| one.said.as_deref()),
    });
    Some(Entry {
        at: observation.at,
        kind: divergence.kind.name(),
        fingerprint: observation.fingerprint.to_string(),
        digest: observation.digest,
        protocol: observation.protocol.name(),
        tables,
        class: observation.class.name(),
        columns: divergence.columns.clone(),
        cause: followed,
        item,
    })
}

/// A table as it stands in the API.
pub(super) fn name(table: &Table) -> String {
    match &table.database {
        Some(database) => format!("{database}.{}", table.name),
        None => table.name.clone(),
    }
}

fn statement(observation: &Observation, literals: Literals) -> Option<String> {
    let wording = observation.statement.as_ref()?;
    let mut shown = match literals {
        Literals::Redact => sql::redact(wording.text.as_bytes(), wording.dialect),
        Literals::Keep => wording.text.clone(),
    };
    if shown.len() > STATEMENT_MAX {
        shown.truncate(shown.floor_char_boundary(STATEMENT_MAX));
        shown.push('…');
    }
    Some(shown)
}

fn session(observation: &Observation, literals: Literals) -> Value {
    let (id, database) = (observation.session, &observation.database);
    match &observation.context {
        Some(context) => session::shown(id, database, context, literals),
        None => json!({"id": id, "known": false, "database": &**database}),
    }
}

/// Why the answers differ, where their tables were tainted before.
pub(super) fn tainted_by(text: &str) -> Value {
    json!({
        "code": "tainted",
        "text": text,
        "advice": "see to what tainted the tables, make their rows equal and clear the taint",
    })
}

/// Why the answers differ, where that is known; its words hold no literals.
fn known_cause(observation: &Observation, divergence: &Divergence) -> Value {
    let wording = observation.statement.as_ref();
    let literals = wording.map_or_else(Vec::new, |wording| {
        let mut literals = sql::literals(wording.text.as_bytes(), wording.dialect);
        let context = observation.context.as_ref();
        let values = context.and_then(|context| context.parameters.as_ref());
        for value in values.into_iter().flatten() {
            literals.extend(sql::literals(value.as_bytes(), wording.dialect));
        }
        literals
    });
    let none = Told::default();
    let found = cause(&Case {
        divergence,
        primary: told(&observation.primary),
        shadow: observation.shadow.as_ref().map_or(none, told),
        class: observation.class,
        fingerprint: &observation.fingerprint,
        literals: &literals,
    });
    found.map_or(Value::Null, |cause| {
        json!({"code": cause.code.name(), "text": cause.text(), "advice": cause.code.advice()})
    })
}

fn told(side: &Side) -> Told<'_> {
    Told {
        rows: side.rows,
        error: side
            .error
            .as_ref()
            .map(|(code, sqlstate, message)| (*code, sqlstate.as_str(), message.as_str())),
        affected_rows: side.affected_rows,
    }
}

/// A prepared statement's values; null where they are not kept.
fn parameters(observation: &Observation, literals: Literals) -> Value {
    let context = observation.context.as_ref();
    let known = context.and_then(|context| context.parameters.as_ref());
    match literals {
        Literals::Keep => json!(known),
        Literals::Redact => Value::Null,
    }
}

fn side(side: &Side, literals: Literals) -> Value {
    let error = side.error.as_ref().map(|(code, sqlstate, message)| {
        let message = match literals {
            Literals::Redact if is_signalled(*code, sqlstate) => "…".to_owned(),
            Literals::Redact => sql::redact_error(message),
            Literals::Keep => message.clone(),
        };
        json!({"code": code, "sqlstate": sqlstate, "message": message})
    });
    json!({
        "server": &*side.server,
        "rows": side.rows,
        "error": error,
        "affected_rows": side.affected_rows,
        "first_byte_us": side.first_byte_us,
        "latency_us": side.latency_us,
    })
}

/// The application's own error, by SIGNAL: its text has no form that is known. 1644 is the number
/// and 45000 the SQLSTATE that stand for such errors; the application may give either another one.
fn is_signalled(code: u16, sqlstate: &str) -> bool {
    code == 1644 || sqlstate == "45000"
}

fn examples(divergence: &Divergence, literals: Literals) -> Vec<Value> {
    let one = |example: &Example| {
        let cells = |cells: &[Option<String>]| -> Vec<Value> {
            cells
                .iter()
                .map(|cell| shown(cell.as_deref(), literals))
                .collect()
        };
        json!({
            "row": example.row,
            "columns": example.columns,
            "names": example.names,
            "primary": cells(&example.primary),
            "shadow": cells(&example.shadow),
        })
    };
    divergence.examples.iter().map(one).collect()
}

/// Redacts an item of the file that may hold literals: it was stored while they were kept, or by a
/// version that did not write down whether they were.
pub(super) fn again(item: &mut Value) {
    for example in each(item, "examples") {
        again(example);
    }
    if let Some(plans) = item.get_mut("plans") {
        super::plans::again(plans);
    }
    if item.get("statement").is_none() || item.get("literals_kept") == Some(&json!(false)) {
        return;
    }
    if let Some(statement) = statement_again(item) {
        put(item, "statement", json!(statement));
    }
    put(item, "parameters", Value::Null);
    for server in ["primary", "shadow"] {
        if let Some(error) = item.pointer_mut(&format!("/{server}/error")) {
            error_again(error);
        }
    }
    for example in each(item, "examples") {
        for side in ["primary", "shadow"] {
            for cell in each(example, side) {
                if let Some(text) = cell.as_str().filter(|text| !is_placeholder(text)) {
                    *cell = json!(placeholder(text));
                }
            }
        }
    }
    if let Some(session) = item.get_mut("session") {
        session::again(session);
    }
    put(item, "literals_kept", json!(false));
}

fn each<'a>(item: &'a mut Value, field: &str) -> Vec<&'a mut Value> {
    let items = item.get_mut(field).and_then(Value::as_array_mut);
    items.into_iter().flatten().collect()
}

fn put(item: &mut Value, field: &str, value: Value) {
    if let Some(fields) = item.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

/// Where it is not known how the session read quotes and backslashes, the shape stands for it.
fn statement_again(item: &Value) -> Option<String> {
    let statement = item.get("statement")?.as_str()?;
    let session = item.get("session");
    let told = |field: &str| session.and_then(|session| session.get(field));
    let is_known = told("known").and_then(Value::as_bool) == Some(true);
    if !is_known && statement.contains(['\\', '"']) {
        return item.get("fingerprint")?.as_str().map(str::to_owned);
    }
    let mode = told("sql_mode").and_then(Value::as_str).unwrap_or_default();
    let dialect = sql::Dialect {
        no_backslash_escapes: told("no_backslash_escapes") == Some(&json!(true)),
        ..sql::dialect_of(mode)
    };
    Some(sql::redact(statement.as_bytes(), dialect))
}

fn error_again(error: &mut Value) {
    let code = error.get("code").and_then(Value::as_u64);
    let code = code.and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
    let message = if is_signalled(code, text("sqlstate")) {
        "…".to_owned()
    } else {
        sql::redact_error(text("message"))
    };
    if error.is_object() {
        put(error, "message", json!(message));
    }
}

/// What [`placeholder`] makes of a text.
fn is_placeholder(text: &str) -> bool {
    let inner = text
        .strip_prefix('<')
        .and_then(|text| text.strip_suffix('>'));
    inner
        .and_then(|inner| inner.split_once(' '))
        .is_some_and(|(kind, length)| {
            ["number", "text"].contains(&kind) && length.chars().all(|c| c.is_ascii_digit())
        })
}

/// A cell as it may be shown: what kind of text it is and how long, where literals are redacted.
fn shown(cell: Option<&str>, literals: Literals) -> Value {
    match (cell, literals) {
        (None, _) => Value::Null,
        (Some(text), Literals::Keep) => json!(text),
        (Some(text), Literals::Redact) => json!(placeholder(text)),
    }
}

fn placeholder(text: &str) -> String {
    let number = !text.is_empty() && text.len() < 40 && text.parse::<f64>().is_ok();
    if number {
        format!("<number {}>", text.len())
    } else {
        format!("<text {}>", text.chars().count())
    }
}

#[cfg(test)]
mod tests {
    use super::super::observation::Wording;
    use super::super::tests::diverged;
    use super::*;
    use crate::sql::Dialect;

    #[test]
    fn no_literal_is_left_of_a_redacted_divergence() {
        let entry = entry(&diverged("SELECT ?"), Literals::Redact).unwrap();
        let text = entry.item.to_string();
        assert!(!text.contains("planted"), "{text}");
        assert!(text.contains("<text 13>"), "{text}");
        assert_eq!(entry.item["examples"][0]["shadow"][0], Value::Null);
    }

    #[test]
    fn a_literal_ends_where_the_sessions_dialect_says() {
        let names = Dialect {
            ansi_quotes: true,
            ..Dialect::default()
        };
        let backslashes = Dialect {
            no_backslash_escapes: true,
            ..Dialect::default()
        };
        for (dialect, text, kept) in [
            (
                backslashes,
                r"SELECT * FROM t WHERE a = 'C:\' AND b = 'planted'",
                "SELECT * FROM t WHERE a = ? AND b = ?",
            ),
            (
                names,
                r#"SELECT "a\" FROM t WHERE b = "planted" OR b = 'planted'"#,
                r#"SELECT "a\" FROM t WHERE b = "planted" OR b = ?"#,
            ),
        ] {
            let mut observation = diverged("SELECT ?");
            observation.statement = Some(Wording {
                text: text.to_owned(),
                dialect,
            });
            let entry = entry(&observation, Literals::Redact).unwrap();
            assert_eq!(entry.item["statement"], kept);
        }
    }

    #[test]
    fn nothing_is_left_of_what_an_application_signals() {
        for (code, sqlstate) in [(1644, "45000"), (30001, "45000"), (1644, "HY000")] {
            let mut observation = diverged("INSERT INTO t VALUES (?)");
            let text = "no balance for planted@example.com".to_owned();
            observation.primary.error = Some((code, sqlstate.into(), text));
            let entry = entry(&observation, Literals::Redact).unwrap();
            assert!(!entry.item.to_string().contains("planted"));
            assert_eq!(entry.item["primary"]["error"]["code"], code);
        }
    }

    #[test]
    fn literals_are_kept_where_the_config_says_so() {
        let entry = entry(&diverged("SELECT ?"), Literals::Keep).unwrap();
        assert!(
            entry.item["statement"]
                .as_str()
                .unwrap()
                .contains("planted")
        );
        assert_eq!(entry.item["examples"][0]["primary"][0], "planted value");
    }

    #[test]
    fn what_was_stored_with_its_literals_is_redacted_on_its_way_out() {
        let mut kept = entry(&diverged("SELECT ?"), Literals::Keep).unwrap().item;
        assert_eq!(kept["literals_kept"], true);
        put(&mut kept, "parameters", json!(["'planted value'"]));
        let plans = json!({"primary": {"rows": [{"Extra": "a = 'planted'"}]}, "shadow": {}});
        put(&mut kept, "plans", plans);
        let settings = json!(["@x = 'planted'", "sql_mode = 'ANSI'"]);
        let session = json!({"known": true, "settings": settings, "sql_mode": "it's planted"});
        put(&mut kept, "session", session);
        let mut whole = json!({"id": 1, "examples": [kept.clone()]});
        for item in [&mut kept, &mut whole] {
            again(item);
            assert!(!item.to_string().contains("planted"), "{item}");
        }
        assert_eq!(kept["literals_kept"], false);
        assert_eq!(kept["statement"], "SELECT * FROM t WHERE name = ?");
        assert_eq!(kept["examples"][0]["primary"][0], "<text 13>");
        assert_eq!(kept["session"]["settings"][1], "sql_mode = 'ANSI'");
    }

    #[test]
    fn what_was_redacted_stays_as_it_is() {
        let mut item = entry(&diverged("SELECT ?"), Literals::Redact).unwrap().item;
        let before = item.clone();
        again(&mut item);
        assert_eq!(item, before);
        // Of an older version, which did not say.
        item.as_object_mut().unwrap().remove("literals_kept");
        again(&mut item);
        assert_eq!(item, before);
    }

    #[test]
    fn the_cause_stands_beside_what_differs_and_holds_no_literal() {
        let mut observation = diverged("SELECT ?");
        observation.primary.error = None;
        let item = entry(&observation, Literals::Redact).unwrap().item;
        assert_eq!(item["cause"]["code"], "null");
        for field in ["text", "advice"] {
            assert!(item["cause"][field].is_string(), "{item}");
        }
    }

    #[test]
    fn the_contracts_fields_are_all_there() {
        let item = entry(&diverged("SELECT ?"), Literals::Redact).unwrap().item;
        for field in [
            "at",
            "kind",
            "fingerprint",
            "digest",
            "protocol",
            "user",
            "database",
            "tables",
            "statement",
            "also",
            "primary",
            "shadow",
        ] {
            assert!(item.get(field).is_some(), "{field}");
        }
        for field in ["server", "rows", "error", "affected_rows", "latency_us"] {
            assert!(item["primary"].get(field).is_some(), "{field}");
        }
        assert_eq!(item["primary"]["error"]["code"], 1062);
    }
}

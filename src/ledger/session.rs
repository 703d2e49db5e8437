//! The state of a session at a divergence, as it is written down: what its client set, the rest as
//! the server has it (null).
//!
//! Values of system variables stay as they are where they are words and numbers (modes, charsets,
//! levels, zones); all else is a literal and is redacted unless the config keeps it.

use super::observation::Context;
use crate::config::Literals;
use crate::sql;
use serde_json::{Value, json};

/// Settings that are written down at most, and the bytes of each.
const SETTINGS_MAX: usize = 32;
const SETTING_BYTES_MAX: usize = 512;

/// Where more than words and numbers stand in a value.
const HIDDEN: &str = "?";

/// The session as an item of the API has it.
pub(super) fn shown(session: u64, database: &str, context: &Context, literals: Literals) -> Value {
    let value = |names: &[&str]| last(context, names).map(|value| kept(&value, literals));
    let settings: Vec<String> = context
        .settings
        .iter()
        .take(SETTINGS_MAX)
        .map(|(name, assignment)| setting(name, assignment, literals))
        .collect();
    json!({
        "id": session,
        "known": context.known,
        "database": database,
        "shadow_database": context.shadow_database,
        "sql_mode": value(&["sql_mode"]),
        "isolation": isolation(context),
        "charset": charset(context),
        "collation": collation(context),
        "time_zone": value(&["time_zone"]),
        "autocommit": last(context, &["autocommit"]).map(|value| is_on(&value)),
        "in_transaction": context.in_transaction,
        "commands_before": context.commands_before,
        "wrote_before": context.wrote_before,
        "rewritten": context.rewritten,
        "no_backslash_escapes": context.no_backslash_escapes,
        "settings": settings,
        "settings_left_out": context.settings.len().saturating_sub(SETTINGS_MAX),
    })
}

/// What the client assigned last to one of these variables.
fn last(context: &Context, names: &[&str]) -> Option<String> {
    let settings = context.settings.iter().rev();
    settings
        .filter(|(name, _)| names.contains(&name.strip_prefix("@@").unwrap_or(name)))
        .map(|(_, assignment)| value(assignment))
        .next()
}

/// The value of an assignment, without its quotes.
fn value(assignment: &str) -> String {
    let value = assignment
        .split_once('=')
        .map_or(assignment, |(_, value)| value)
        .trim();
    let quoted = ['\'', '"'].iter().find_map(|quote| {
        value
            .strip_prefix(*quote)?
            .strip_suffix(*quote)
            .filter(|inner| !inner.contains(*quote))
    });
    quoted.unwrap_or(value).to_owned()
}

/// Variables whose values are words of the server's own, or limits: no user's data.
const PLAIN: [&str; 34] = [
    "autocommit",
    "big_tables",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "collation_connection",
    "completion_type",
    "default_storage_engine",
    "default_week_format",
    "div_precision_increment",
    "explicit_defaults_for_timestamp",
    "foreign_key_checks",
    "group_concat_max_len",
    "innodb_lock_wait_timeout",
    "interactive_timeout",
    "lc_time_names",
    "lock_wait_timeout",
    "max_execution_time",
    "max_statement_time",
    "names",
    "net_read_timeout",
    "net_write_timeout",
    "sql_auto_is_null",
    "sql_mode",
    "sql_notes",
    "sql_safe_updates",
    "sql_select_limit",
    "time_zone",
    "transaction_isolation",
    "transaction_read_only",
    "tx_isolation",
    "unique_checks",
    "wait_timeout",
    "workload",
];

/// Words, numbers and what joins them: a mode, a charset, a level, a zone.
fn is_harmless(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_,:+-/. ".contains(c);
    value.len() <= SETTING_BYTES_MAX && value.chars().all(plain)
}

fn kept(value: &str, literals: Literals) -> String {
    match literals {
        Literals::Redact if !is_harmless(value) => HIDDEN.to_owned(),
        Literals::Redact | Literals::Keep => value.to_owned(),
    }
}

/// One assignment, ready to stand behind SET.
fn setting(name: &str, assignment: &str, literals: Literals) -> String {
    let is_kept = match literals {
        Literals::Keep => true,
        Literals::Redact => {
            let name = name.strip_prefix("@@").unwrap_or(name);
            PLAIN.contains(&name) && is_harmless(&value(assignment))
        }
    };
    if is_kept && assignment.len() <= SETTING_BYTES_MAX {
        return assignment.to_owned();
    }
    // How a quote or a backslash is read depends on the mode at that time.
    let is_clear = !assignment.contains(['"', '\\']);
    let redacted = if is_clear && assignment.len() <= SETTING_BYTES_MAX {
        sql::redact(assignment.as_bytes(), sql::Dialect::default())
    } else {
        format!("{name} = {HIDDEN}")
    };
    if redacted.len() <= SETTING_BYTES_MAX {
        redacted
    } else {
        HIDDEN.to_owned()
    }
}

/// Redacts a session as an item of the file has it.
pub(super) fn again(session: &mut Value) {
    let settings = session.get_mut("settings").and_then(Value::as_array_mut);
    for told in settings.into_iter().flatten() {
        let assignment = told.as_str().unwrap_or_default();
        let name = assignment.split('=').next().unwrap_or_default();
        let name = name.trim().to_ascii_lowercase();
        *told = json!(setting(&name, assignment, Literals::Redact));
    }
    for field in ["sql_mode", "time_zone"] {
        if let Some(value) = session.get_mut(field)
            && let Some(text) = value.as_str()
        {
            *value = json!(kept(text, Literals::Redact));
        }
    }
}

fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "on" | "true")
}

/// `REPEATABLE-READ`, as MySQL's variable has it.
fn isolation(context: &Context) -> Option<&'static str> {
    const LEVELS: [&str; 4] = [
        "READ-UNCOMMITTED",
        "READ-COMMITTED",
        "REPEATABLE-READ",
        "SERIALIZABLE",
    ];
    let set = last(context, &["transaction_isolation", "tx_isolation"])?;
    let words: Vec<&str> = set.split_whitespace().collect();
    let set = words.join("-").to_ascii_uppercase();
    LEVELS.into_iter().find(|level| set.contains(level))
}

/// The connection's character set: what was set last, or the login's.
fn charset(context: &Context) -> Option<String> {
    let set = last(context, &["names", "character_set_client"]);
    let named = set.map(|set| {
        let words = set.split_whitespace().map(unquoted);
        words
            .filter(|word| {
                !["names", "character", "set", "charset"]
                    .iter()
                    .any(|key| key.eq_ignore_ascii_case(word))
            })
            .map(str::to_ascii_lowercase)
            .next()
            .unwrap_or_default()
    });
    named
        .filter(|name| is_harmless(name) && !name.is_empty() && name != "default")
        .or_else(|| charset_of(context.collation).map(str::to_owned))
}

/// The connection's collation, where the client named one.
fn collation(context: &Context) -> Option<String> {
    let set = last(context, &["names", "collation_connection"])?;
    let mut words = set.split_whitespace();
    let named = words
        .find(|word| word.eq_ignore_ascii_case("collate"))
        .and_then(|_| words.next())
        .map(unquoted);
    let whole = (!set.contains(' ')).then_some(set.as_str());
    let is_collation = |name: &&str| name.contains('_') && is_harmless(name);
    named.or(whole).filter(is_collation).map(str::to_owned)
}

fn unquoted(word: &str) -> &str {
    word.trim_matches(['\'', '"', '`'])
}

/// The character set of a collation's id, of those that clients log in with.
const fn charset_of(collation: u16) -> Option<&'static str> {
    match collation {
        33 | 76 | 83 | 192..=215 | 223 => Some("utf8"),
        45 | 46 | 224..=247 | 255..=323 => Some("utf8mb4"),
        5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 => Some("latin1"),
        11 | 65 => Some("ascii"),
        63 => Some("binary"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(settings: &[(&str, &str)]) -> Context {
        Context {
            known: true,
            collation: 45,
            settings: settings
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            ..Context::default()
        }
    }

    #[test]
    fn what_the_client_never_set_is_the_servers() {
        let item = shown(7, "app", &context(&[]), Literals::Redact);
        for field in [
            "sql_mode",
            "isolation",
            "collation",
            "time_zone",
            "autocommit",
        ] {
            assert!(item[field].is_null(), "{field}: {item}");
        }
        assert_eq!(
            (&item["id"], &item["charset"]),
            (&json!(7), &json!("utf8mb4"))
        );
    }

    #[test]
    fn a_users_variable_is_no_system_variable_of_the_same_name() {
        let settings = [("@sql_mode", "@sql_mode = 'planted'")];
        let item = shown(7, "app", &context(&settings), Literals::Redact);
        assert!(item["sql_mode"].is_null(), "{item}");
        let settings = [("@@sql_mode", "@@sql_mode = 'ANSI'")];
        let item = shown(7, "app", &context(&settings), Literals::Redact);
        assert_eq!(item["sql_mode"], "ANSI");
    }

    #[test]
    fn what_it_set_is_told_by_its_last_value() {
        let context = context(&[
            ("names", "NAMES utf8 COLLATE utf8_bin"),
            ("sql_mode", "sql_mode = ''"),
            ("sql_mode", "sql_mode='STRICT_TRANS_TABLES,ANSI_QUOTES'"),
            (
                "transaction_isolation",
                "SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            ),
            ("time_zone", "time_zone = '+02:00'"),
            ("autocommit", "autocommit = OFF"),
        ]);
        let item = shown(7, "app", &context, Literals::Redact);
        for (field, value) in [
            ("charset", json!("utf8")),
            ("collation", json!("utf8_bin")),
            ("sql_mode", json!("STRICT_TRANS_TABLES,ANSI_QUOTES")),
            ("isolation", json!("READ-COMMITTED")),
            ("time_zone", json!("+02:00")),
            ("autocommit", json!(false)),
        ] {
            assert_eq!(item[field], value, "{field}: {item}");
        }
    }

    #[test]
    fn literals_in_settings_are_redacted_unless_they_are_harmless_words() {
        for (name, assignment, written) in [
            ("@mail", "@mail = 'planted@example.com'", "@mail = ?"),
            ("@n", "@n = 12345", "@n = ?"),
            ("insert_id", "insert_id = 12345", "insert_id = ?"),
            (
                "time_zone",
                "time_zone = 'planted@example.com'",
                "time_zone = ?",
            ),
            ("@q", "@q = \"planted\"", "@q = ?"),
            ("sql_mode", "sql_mode = 'ANSI'", "sql_mode = 'ANSI'"),
            (
                "sql_mode",
                "sql_mode = CONCAT(@@sql_mode, ',ANSI')",
                "sql_mode = CONCAT(@@sql_mode, ?)",
            ),
            (
                "time_zone",
                "time_zone = 'Europe/Berlin'",
                "time_zone = 'Europe/Berlin'",
            ),
        ] {
            let item = shown(1, "", &context(&[(name, assignment)]), Literals::Redact);
            assert_eq!(item["settings"][0], written);
            let item = shown(1, "", &context(&[(name, assignment)]), Literals::Keep);
            assert_eq!(item["settings"][0], assignment);
        }
    }

    #[test]
    fn settings_are_bounded() {
        let long = format!("sql_mode = '{}'", "A".repeat(2 * SETTING_BYTES_MAX));
        let mut context = context(&[("sql_mode", &long)]);
        context.settings = vec![context.settings[0].clone(); 2 * SETTINGS_MAX];
        let item = shown(1, "", &context, Literals::Keep);
        assert_eq!(item["settings"].as_array().unwrap().len(), SETTINGS_MAX);
        assert_eq!(item["settings"][0], "sql_mode = ?");
        assert_eq!(item["settings_left_out"], SETTINGS_MAX);
    }
}

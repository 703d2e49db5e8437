//! What a query may do: read the console's tables, with functions that only compute. SQLite asks
//! for each thing that a statement would touch, before it runs; whatever is not on the list is
//! refused.
//!
//! It is one of several walls: the file is open read-only, no statement that could write is
//! stepped, no database can be attached, and lengths, depths, time and memory are bounded.

use super::functions;
use crate::ledger::{BASE_TABLES, VIEWS};
use parking_lot::Mutex;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, config::DbConfig};
use std::collections::HashSet;
use std::sync::Arc;

/// The longest statement, in bytes.
pub(super) const STATEMENT_BYTES_MAX: usize = 64 << 10;

/// The longest text or row that SQLite makes, in bytes: whole items of the ledger fit, with both
/// servers' plans of 64 KiB each. What one function may cost hangs on it.
const LENGTH_MAX: i32 = 256 << 10;

/// Tables of SQLite's own that take lists in JSON apart: `tables`, `also`, `examples`.
const JSON_TABLES: [&str; 2] = ["json_each", "json_tree"];

/// Functions that compute from what they are given, and from nothing else, in time and memory in
/// proportion to it: bounds are looked at between two steps of SQLite's, never within a function. So
/// `json_pretty` is missing (depth × length), and others are our own (`functions`).
const FUNCTIONS: &[&str] = &[
    "->",
    "->>",
    "abs",
    "avg",
    "ceil",
    "ceiling",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_length",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_object",
    "json_quote",
    "json_type",
    "json_valid",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "max",
    "median",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "percentile",
    "pow",
    "power",
    "printf",
    "quote",
    "rank",
    "redacted",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sqrt",
    "strftime",
    "string_agg",
    "subtype",
    "substr",
    "substring",
    "sum",
    "time",
    "timediff",
    "total",
    "trim",
    "trunc",
    "typeof",
    "unicode",
    "unixepoch",
    "unlikely",
    "upper",
];

/// What was refused last, for people.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused(Arc<Mutex<Option<Why>>>);

/// Why a statement is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It would change something, or is no question.
    NotARead,
    /// It names a table that is not the console's.
    Table(String),
    /// It calls a function that is not on the list.
    Function(String),
}

impl Refused {
    pub(super) fn take(&self) -> Option<Why> {
        self.0.lock().take()
    }

    fn note(&self, why: Why) {
        self.0.lock().get_or_insert(why);
    }
}

/// Puts the walls around a connection; what they refuse is told in the answer.
pub(super) fn put_around(connection: &mut Connection) -> rusqlite::Result<Refused> {
    let hidden = hidden(connection)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, LENGTH_MAX),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 << 10),
        (Limit::SQLITE_LIMIT_COLUMN, 100),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
        (Limit::SQLITE_LIMIT_VDBE_OP, 100_000),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, 64),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100),
        (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 1_000),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, most)?;
    }
    functions::register(connection, usize::try_from(LENGTH_MAX).unwrap_or(0))?;
    let refused = Refused::default();
    let told = refused.clone();
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        match judge(&context, &hidden) {
            Ok(()) => Authorization::Allow,
            Err(why) => {
                told.note(why);
                Authorization::Deny
            }
        }
    }))?;
    Ok(refused)
}

/// Every table that there is and that is not the console's: those of the file, and SQLite's own.
fn hidden(connection: &Connection) -> rusqlite::Result<HashSet<String>> {
    let mut statement = connection.prepare(
        "SELECT lower(name) FROM main.sqlite_schema UNION SELECT lower(name) FROM pragma_module_list",
    )?;
    let names = statement.query_map((), |row| row.get(0))?;
    names.collect()
}

fn judge(context: &AuthContext<'_>, hidden: &HashSet<String>) -> Result<(), Why> {
    match context.action {
        AuthAction::Select | AuthAction::Recursive => Ok(()),
        AuthAction::Function { function_name } if is_listed(function_name) => Ok(()),
        AuthAction::Function { function_name } => Err(Why::Function(function_name.to_owned())),
        AuthAction::Read {
            table_name,
            column_name,
        } => {
            let may = may_read(context, table_name)
                || column_name.is_empty() && is_made_up(context, table_name, hidden);
            if may {
                Ok(())
            } else {
                Err(Why::Table(table_name.to_owned()))
            }
        }
        _ => Err(Why::NotARead),
    }
}

fn is_listed(function: &str) -> bool {
    FUNCTIONS
        .iter()
        .any(|one| one.eq_ignore_ascii_case(function))
}

/// The console's tables are the reader's own (`temp`); a table of the file is read by way of a view
/// alone. That a query names a table expression of its own like a view opens nothing more: these
/// tables hold what the views show.
fn may_read(context: &AuthContext<'_>, table: &str) -> bool {
    match context.database_name {
        Some("temp") => is_view(table),
        Some("main") => {
            JSON_TABLES.contains(&table)
                || context.accessor.is_some_and(is_view) && BASE_TABLES.contains(&table)
        }
        _ => false,
    }
}

/// Of what a query names without using a column of it, SQLite does not say where it stands: it may
/// be a table expression of the query's own, so anything but a table that there is.
fn is_made_up(context: &AuthContext<'_>, table: &str, hidden: &HashSet<String>) -> bool {
    let name = table.to_ascii_lowercase();
    let is_sqlites = name.starts_with("sqlite_") || name.starts_with("pragma_");
    context.database_name.is_none()
        && (is_view(table)
            || JSON_TABLES.contains(&name.as_str())
            || !is_sqlites && !hidden.contains(&name))
}

fn is_view(name: &str) -> bool {
    VIEWS
        .iter()
        .any(|view| view.name.eq_ignore_ascii_case(name))
}

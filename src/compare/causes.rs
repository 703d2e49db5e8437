//! Why two answers differ, where that is known: a catalogue of causes by pattern. Pure.
//!
//! A cause is what an engineer would say at first sight of the errors, the cells and the counts; it
//! is never a proof, and where nothing is recognised there is none. What a cause says holds no
//! literal. The codes, in the order of [`Code::ALL`]:
//!
//! | code | the two servers |
//! |---|---|
//! | `unsupported` | the shadow's planner does not have the statement (VT12…, 1235) |
//! | `row_cap` | more rows than vtgate returns (1317, 10,000) |
//! | `time_limit` | the shadow's query or transaction time-out (3024, 1317, 1969) |
//! | `lock_wait` | the shadow waited for a lock (1205, 1213) |
//! | `pool_full` | a connection or transaction pool of the shadow is full (1203, 1040, 1226) |
//! | `packet_limit` | a packet or answer larger than the shadow takes (1153, 1301) |
//! | `schema_unseen` | vtgate has not seen the table's columns yet (VT09015, VT09004) |
//! | `vschema_table` | the sharded vschema lacks the table (1105 not found, VT05004, VT05005) |
//! | `table_missing`, `table_extra` | the shadow lacks the table, or the primary does (1146, 1051) |
//! | `database_missing` | the shadow lacks the database (1049, VT05003) |
//! | `column_missing`, `column_extra` | the shadow lacks the column, or the primary does (1054) |
//! | `column_count`, `column_renamed`, `column_type` | the answers' columns differ |
//! | `view` | a view refers to what is not there (1356) |
//! | `strict_mode`, `laxer_mode` | only the shadow refuses the value, or only the primary |
//! | `group_by` | ONLY_FULL_GROUP_BY (1055) |
//! | `zero_date` | 0000-00-00 |
//! | `not_null` | NULL where one side's column takes none (1048) |
//! | `unique_extra`, `unique_missing` | a duplicate to the shadow alone, or to the primary alone (1062) |
//! | `foreign_key_extra`, `foreign_key_missing` | likewise for foreign keys (1451, 1452) |
//! | `check_constraint` | a CHECK of one side (3819, 4025) |
//! | `trigger` | a trigger or routine of one side refuses (SIGNAL, 1442) |
//! | `unknown_variable`, `unknown_function` | one side has not the variable (1193, VT05006) or function (1305) |
//! | `syntax` | only one side's grammar takes it (1064, 1105) |
//! | `access` | an account may not (1044, 1045, 1142, ACL) |
//! | `error_number` | both refuse it for the same reason, with other numbers |
//! | `missing_row`, `extra_row` | a row stands on the primary alone, or on the shadow alone |
//! | `changed_value` | a value is another one |
//! | `null`, `default_value` | NULL against a value; against a type's zero or the empty text |
//! | `time_zone` | moments apart by one offset of whole quarters of an hour |
//! | `collation` | texts that differ in case or accents alone; rows that match so; text sorted otherwise |
//! | `padding` | trailing spaces |
//! | `charset` | a text read in another charset, or with `?` for what that lacks |
//! | `rounding` | one number is the other, rounded or cut off |
//! | `boolean`, `json_text` | one value in another notation |
//! | `order` | rows sorted otherwise |
//! | `skipped_write`, `extra_write` | the shadow changed fewer rows, or more |
//! | `transaction_state` | a transaction is open, or autocommit on, on one side alone |
//! | `auto_increment` | another generated key |
//! | `session_figures`, `server_variable`, `server_metadata` | the statement asks the server about itself |

mod cells;
mod failures;

use super::verdict::{Divergence, Example, Kind};
use crate::sql::Class;

/// What is known of a divergence when its cause is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The divergence, its examples not redacted.
    pub divergence: &'a Divergence,
    /// The primary's side.
    pub primary: Told<'a>,
    /// The shadow's.
    pub shadow: Told<'a>,
    /// The command's class.
    pub class: Class,
    /// The statement's shape.
    pub fingerprint: &'a str,
    /// Texts that stand in the statement as literals.
    pub literals: &'a [String],
}

/// What one side said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// Rows in its answer.
    pub rows: u64,
    /// Number, SQLSTATE and text of its error.
    pub error: Option<(u16, &'a str, &'a str)>,
    /// Rows changed.
    pub affected_rows: Option<u64>,
}

/// A known cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Which one.
    pub code: Code,
    /// What is seen in this case, in words without literals; empty where the code says it all.
    pub seen: String,
}

impl From<Code> for Cause {
    fn from(code: Code) -> Self {
        Self {
            code,
            seen: String::new(),
        }
    }
}

impl Cause {
    /// The cause in a sentence.
    #[must_use]
    pub fn text(&self) -> String {
        if self.seen.is_empty() {
            self.code.text().to_owned()
        } else {
            format!("{} ({})", self.code.text(), self.seen)
        }
    }
}

/// One line for each code: the name, what it says, what to do.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident $name:literal $text:literal $advice:literal;)*) => {
        /// The causes that are known: see the module.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $text] $code,)*
        }

        impl Code {
            /// All of them, in the order of the module's table.
            pub const ALL: &'static [Self] = &[$(Self::$code,)*];

            /// The name in API and ledger.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$code => $name,)* }
            }

            /// What it says of the two servers.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }

            /// What to do about it.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$code => $advice,)* }
            }
        }
    };
}

codes! {
    Unsupported "unsupported"
        "the shadow's planner does not support this statement"
        "rewrite the statement, or route its tables to an unsharded keyspace";
    RowCap "row_cap"
        "the answer has more rows than the shadow returns at once"
        "page the query with LIMIT, run it under SET workload = 'olap', or raise vttablet's row limit";
    TimeLimit "time_limit"
        "the shadow ended the statement at one of its time-outs (query, transaction, or lock wait)"
        "look at its plan; then at vtgate's and vttablet's query and transaction time-outs";
    LockWait "lock_wait"
        "the shadow waited too long for a lock, or met a deadlock"
        "look for long transactions there; locks of shards are others than those of one server";
    PoolFull "pool_full"
        "a pool of connections or transactions on the shadow is full"
        "raise vttablet's pool sizes (or the server's max_connections) to what production needs";
    PacketLimit "packet_limit"
        "a packet or answer is larger than the shadow takes"
        "raise max_allowed_packet and vtgate's message sizes to the primary's";
    SchemaUnseen "schema_unseen"
        "the shadow's gate does not know the table's columns (yet)"
        "wait for its schema tracking after DDL; name the columns in the vschema where it stays";
    VschemaTable "vschema_table"
        "the shadow's vschema has no such table, though it may exist on the shards"
        "add the table to the keyspace's vschema (with its vindex)";
    TableMissing "table_missing"
        "the shadow has no such table"
        "create it there; look for DDL that was not mirrored";
    TableExtra "table_extra"
        "the primary has no such table, the shadow has"
        "drop it there; look for DDL that was not mirrored";
    DatabaseMissing "database_missing"
        "the shadow has no such database"
        "create the keyspace, or map the name under [shadow.databases]";
    ColumnMissing "column_missing"
        "a column that the statement names does not exist on the shadow"
        "compare both definitions of the table: it is missing or has another name there";
    ColumnExtra "column_extra"
        "a column that the statement names exists on the shadow alone"
        "compare both definitions of the table";
    ColumnCount "column_count"
        "the two sides have another number of columns"
        "compare both definitions of the table (or view)";
    ColumnRenamed "column_renamed"
        "a column has another name on the shadow"
        "compare both definitions of the table (or view)";
    ColumnType "column_type"
        "a column is of another type on the shadow"
        "compare both definitions of the table; of an expression, cast it";
    View "view"
        "a view refers to a table, column or function that is not there, or may not be used"
        "create the view anew on that side";
    StrictMode "strict_mode"
        "only the shadow refuses the value: its sql_mode is stricter"
        "mend the value, or give the shadow the primary's sql_mode ([shadow] init, or the server's)";
    LaxerMode "laxer_mode"
        "only the primary refuses the value: the shadow's sql_mode or column takes it"
        "give the shadow the primary's sql_mode and column types";
    GroupBy "group_by"
        "one side wants every selected column in GROUP BY (ONLY_FULL_GROUP_BY)"
        "name the columns in GROUP BY, or use ANY_VALUE() or an aggregate";
    ZeroDate "zero_date"
        "a zero date (0000-00-00, or a month or day of 0), which one side does not take or keep"
        "store NULL, or take NO_ZERO_DATE and NO_ZERO_IN_DATE out of the shadow's sql_mode";
    NotNull "not_null"
        "NULL where one side's column takes none"
        "compare both definitions of the table: NOT NULL, defaults, and sql_mode";
    UniqueExtra "unique_extra"
        "a duplicate key on the shadow alone: it has a unique key more, another collation of one, or a row that the primary has not"
        "compare the table's keys and collations; then look for a delete that was lost";
    UniqueMissing "unique_missing"
        "a duplicate key on the primary alone: the shadow lacks the unique key, or the row"
        "compare the table's keys (a unique key holds within one shard only); then look for a lost insert";
    ForeignKeyExtra "foreign_key_extra"
        "a foreign key refuses it on the shadow alone"
        "compare the foreign keys; then look for a parent row that is missing there";
    ForeignKeyMissing "foreign_key_missing"
        "a foreign key refuses it on the primary alone"
        "compare the foreign keys: the shadow lacks one, or has rows that the primary has not";
    CheckConstraint "check_constraint"
        "a CHECK constraint refuses it on one side alone"
        "compare the constraints: MySQL before 8.0.16 parses and ignores them";
    Trigger "trigger"
        "a trigger or stored routine refuses it on one side alone"
        "compare the triggers of the table";
    UnknownVariable "unknown_variable"
        "one side does not have (or not let be set) a variable that the statement names"
        "leave it out, or set it where both have it; vtgate knows only some of MySQL's";
    UnknownFunction "unknown_function"
        "one side does not have a function that the statement calls"
        "replace it; stored functions must be created on the shadow";
    Syntax "syntax"
        "only one side's grammar takes the statement"
        "write it as both take it; reserved words differ between versions";
    Access "access"
        "an account may do this on one side alone"
        "compare the grants of the account that the replay uses ([shadow.users])";
    ErrorNumber "error_number"
        "both sides refuse the statement for the same reason, with other error numbers"
        "accept it, unless the application looks for the number";
    MissingRow "missing_row"
        "rows of the primary are missing on the shadow"
        "look for a write that was lost or differed; then restore the rows";
    ExtraRow "extra_row"
        "the shadow has rows that the primary has not"
        "look for a delete that was lost, or writers that bypass the proxy";
    ChangedValue "changed_value"
        "a value on the shadow is another one"
        "look for a write that was lost or differed, a trigger, or a writer that bypasses the proxy";
    Null "null"
        "NULL on one side, a value on the other"
        "look for a write that was lost; compare the column's default and generation";
    DefaultValue "default_value"
        "NULL on one side, the type's zero or an empty text on the other"
        "compare the column's default and the two sides' sql_mode";
    TimeZone "time_zone"
        "moments differ by one and the same offset: another time zone"
        "give the shadow the primary's time_zone (sessions that set none use the server's)";
    Collation "collation"
        "the difference is one of case, accents or sorting of text: another collation"
        "give the shadow's columns the primary's collation; the default differs between versions";
    Padding "padding"
        "texts differ in trailing spaces alone"
        "compare the column's type (CHAR, VARCHAR, BINARY) and PAD_CHAR_TO_FULL_LENGTH";
    Charset "charset"
        "a text was stored or sent in another character set"
        "compare the columns' charsets, and what the session sets by SET NAMES";
    Rounding "rounding"
        "one number is the other, rounded or cut off: another precision"
        "compare the column's type and scale; of expressions, div_precision_increment and casts";
    Boolean "boolean"
        "one value in two notations (bit, boolean)"
        "compare the column's type; cast it in the statement";
    JsonText "json_text"
        "one JSON value in two notations"
        "compare by value in the application; the text's spacing and order of keys are the server's";
    Order "order"
        "the rows are sorted otherwise"
        "compare collation and type of the sort keys; add a unique key to ORDER BY";
    SkippedWrite "skipped_write"
        "the shadow changed fewer rows than the primary"
        "the rows are missing there, or hold other values already: look for an earlier lost write";
    ExtraWrite "extra_write"
        "the shadow changed more rows than the primary"
        "it has rows that the primary has not, or another collation matches more";
    TransactionState "transaction_state"
        "a transaction is open, or autocommit on, on one side alone"
        "look at the statements before it in the same session";
    AutoIncrement "auto_increment"
        "another generated key: a sequence or counter stands elsewhere"
        "let the mirror carry the key; set the sequence past the primary's highest before a cutover";
    SessionFigures "session_figures"
        "the statement asks for figures of the session, which each server counts in its own way"
        "accept it, or keep the application from using them";
    ServerVariable "server_variable"
        "the statement asks for a variable of the server itself"
        "compare the two servers' settings; accept what is each server's own";
    ServerMetadata "server_metadata"
        "the statement asks the server about itself (SHOW, information_schema)"
        "accept it, unless the application depends on it";
}

/// The cause of a divergence, where one is known.
#[must_use]
pub fn cause(case: &Case<'_>) -> Option<Cause> {
    if let Some(cause) = of_itself(case) {
        return Some(cause.into());
    }
    match (case.primary.error, case.shadow.error) {
        (Some(one), Some(other)) => failures::both(one, other),
        (None, Some(failure)) => failures::of_the_shadow(failure),
        (Some(failure), None) => failures::of_the_primary(failure),
        (None, None) => return of_answers(case),
    }
    .map(Cause::from)
}

/// A statement that asks the server about itself, and was answered.
fn of_itself(case: &Case<'_>) -> Option<Code> {
    if case.primary.error.is_some() || case.shadow.error.is_some() {
        return None;
    }
    let shape = case.fingerprint.to_ascii_lowercase();
    let asks = |words: &[&str]| words.iter().any(|word| shape.contains(word));
    match case.class {
        Class::Metadata => Some(Code::ServerMetadata),
        Class::Read | Class::LockingRead if asks(&["found_rows(", "row_count("]) => {
            Some(Code::SessionFigures)
        }
        Class::Read | Class::LockingRead if asks(&["last_insert_id()"]) => {
            Some(Code::SessionFigures)
        }
        Class::Read if asks(&["@@"]) => Some(Code::ServerVariable),
        _ => None,
    }
}

fn of_answers(case: &Case<'_>) -> Option<Cause> {
    match case.divergence.kind {
        Kind::Columns => of_columns(&case.divergence.detail).map(Cause::from),
        Kind::Rows => Some(of_rows(case)),
        Kind::Null | Kind::Value => cells::of_values(&case.divergence.examples),
        Kind::Order => Some(cells::of_order(&case.divergence.examples).into()),
        Kind::AffectedRows => of_changes(case).map(Cause::from),
        Kind::LastInsertId => Some(Code::AutoIncrement.into()),
        Kind::Unsupported | Kind::Error | Kind::ShadowLimit | Kind::OtherError | Kind::Latency => {
            None
        }
    }
}

/// By the words of `ladder` and `metadata`.
fn of_columns(detail: &str) -> Option<Code> {
    if detail.contains("columns against") {
        Some(Code::ColumnCount)
    } else if detail.contains("type class") {
        Some(Code::ColumnType)
    } else if detail.contains("name") {
        Some(Code::ColumnRenamed)
    } else {
        None
    }
}

/// Another number of rows: which side has more, unless the rows are there for another collation.
fn of_rows(case: &Case<'_>) -> Cause {
    let examples = &case.divergence.examples;
    let alone = |example: &Example| example.primary.is_empty() != example.shadow.is_empty();
    let by_collation = |example: &Example| cells::matches_by_collation(example, case.literals);
    let mut single = examples.iter().filter(|example| alone(example)).peekable();
    if single.peek().is_some() && single.all(by_collation) {
        return Code::Collation.into();
    }
    let (ours, theirs) = (case.primary.rows, case.shadow.rows);
    let code = if theirs < ours {
        Code::MissingRow
    } else {
        Code::ExtraRow
    };
    Cause {
        code,
        seen: format!("{theirs} rows against {ours}"),
    }
}

fn of_changes(case: &Case<'_>) -> Option<Code> {
    if case.divergence.detail.starts_with("transaction open") {
        return Some(Code::TransactionState);
    }
    let (ours, theirs) = (case.primary.affected_rows?, case.shadow.affected_rows?);
    match theirs.cmp(&ours) {
        std::cmp::Ordering::Less => Some(Code::SkippedWrite),
        std::cmp::Ordering::Greater => Some(Code::ExtraWrite),
        std::cmp::Ordering::Equal => None,
    }
}

#[cfg(test)]
mod tests;

//! Causes by the number and the text of an error.

use super::Code;
use crate::compare::errors::{meaning, shadow_kind};
use crate::compare::verdict::Kind;
use crate::wire::answer::Failure;

/// Number, SQLSTATE, text.
type Error<'a> = (u16, &'a str, &'a str);

fn says(error: Error<'_>, words: &[&str]) -> bool {
    words.iter().any(|word| error.2.contains(word))
}

fn failure(error: Error<'_>) -> Failure {
    let mut failure = Failure {
        code: error.0,
        message: error.2.as_bytes().to_vec(),
        ..Failure::default()
    };
    let known = failure.sqlstate.len().min(error.1.len());
    if let (Some(to), Some(from)) = (
        failure.sqlstate.get_mut(..known),
        error.1.as_bytes().get(..known),
    ) {
        to.copy_from_slice(from);
    }
    failure
}

/// Both failed, with different numbers.
pub(super) fn both(primary: Error<'_>, shadow: Error<'_>) -> Option<Code> {
    let (one, other) = (failure(primary), failure(shadow));
    if meaning(&one).is_some() && meaning(&one) == meaning(&other) {
        return Some(Code::ErrorNumber);
    }
    of_the_shadow(shadow)
}

/// The shadow alone failed.
pub(super) fn of_the_shadow(error: Error<'_>) -> Option<Code> {
    of_the_gate(error).or_else(|| {
        Some(match of_either(error)? {
            Of::Table => Code::TableMissing,
            Of::Column => Code::ColumnMissing,
            Of::Value => Code::StrictMode,
            Of::Unique => Code::UniqueExtra,
            Of::ForeignKey => Code::ForeignKeyExtra,
            Of::Other(code) => code,
        })
    })
}

/// The primary alone failed.
pub(super) fn of_the_primary(error: Error<'_>) -> Option<Code> {
    Some(match of_either(error)? {
        Of::Table => Code::TableExtra,
        Of::Column => Code::ColumnExtra,
        Of::Value => Code::LaxerMode,
        Of::Unique => Code::UniqueMissing,
        Of::ForeignKey => Code::ForeignKeyMissing,
        Of::Other(code) => code,
    })
}

/// What vtgate says of itself.
fn of_the_gate(error: Error<'_>) -> Option<Code> {
    let is_table = says(
        error,
        &["VT05004", "VT05005", "does not have a primary vindex"],
    ) || error.0 == 1105 && says(error, &["table "]) && says(error, &["not found"]);
    Some(match error.0 {
        _ if says(error, &["VT09015", "VT09004", "schema tracking required"]) => Code::SchemaUnseen,
        1317 if says(error, &["count exceeded"]) => Code::RowCap,
        1105 if says(error, &["count exceeded"]) => Code::RowCap,
        1205 | 1213 => Code::LockWait,
        1040 | 1203 | 1226 => Code::PoolFull,
        1153 | 1301 => Code::PacketLimit,
        1317 | 1969 | 3024 => Code::TimeLimit,
        1105 if says(error, &["larger than max"]) => Code::PacketLimit,
        1105 if says(error, &["RESOURCE_EXHAUSTED", "ResourceExhausted"]) => Code::PoolFull,
        1105 if says(
            error,
            &["deadline exceeded", "DeadlineExceeded", "timed out"],
        ) =>
        {
            Code::TimeLimit
        }
        _ if is_table => Code::VschemaTable,
        _ if says(error, &["VT05003"]) => Code::DatabaseMissing,
        _ if says(error, &["VT03019"]) => Code::ColumnMissing,
        _ if says(error, &["VT05006"]) => Code::UnknownVariable,
        1105 if says(error, &["acl error"]) => Code::Access,
        1105 if says(error, &["syntax error"]) => Code::Syntax,
        _ if shadow_kind(&failure(error)) == Kind::Unsupported => Code::Unsupported,
        _ => return None,
    })
}

/// A code that does not depend on whose error it is, or what it depends on.
enum Of {
    Table,
    Column,
    Value,
    Unique,
    ForeignKey,
    Other(Code),
}

fn of_either(error: Error<'_>) -> Option<Of> {
    let is_zero_date = says(error, &["'0000-00-00", "-00'", "-00 ", "-00-"]);
    Some(match error.0 {
        1067 | 1292 | 1411 | 1525 if is_zero_date => Of::Other(Code::ZeroDate),
        1051 | 1109 | 1146 => Of::Table,
        1054 => Of::Column,
        // Out of range, cut off, no default, a wrong value, too long, a wrong date.
        1264 | 1265 | 1292 | 1364 | 1365 | 1366 | 1406 | 1411 | 1525 => Of::Value,
        1022 | 1062 | 1169 | 1586 => Of::Unique,
        1216 | 1217 | 1451 | 1452 => Of::ForeignKey,
        1048 => Of::Other(Code::NotNull),
        1049 | 1008 => Of::Other(Code::DatabaseMissing),
        1055 | 1140 => Of::Other(Code::GroupBy),
        1136 | 1058 => Of::Other(Code::ColumnCount),
        1356 | 1347 => Of::Other(Code::View),
        3819 | 4025 => Of::Other(Code::CheckConstraint),
        1422 | 1423 | 1442 | 1644 => Of::Other(Code::Trigger),
        _ if error.1 == "45000" => Of::Other(Code::Trigger),
        1193 | 1231 | 1238 => Of::Other(Code::UnknownVariable),
        1305 | 1128 => Of::Other(Code::UnknownFunction),
        1064 | 1149 => Of::Other(Code::Syntax),
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 => Of::Other(Code::Access),
        1115 | 1253 | 1267 | 1270 | 1271 | 1273 => Of::Other(Code::Collation),
        _ => return None,
    })
}

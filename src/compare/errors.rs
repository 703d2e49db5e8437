//! What an error number says: about the statement, about a limit, or nothing at all.
//!
//! Numbers decide; text is read only where vtgate gives many things one number (1105, 1317), and
//! is never compared word for word: vtgate appends the caller, the SQL and the bind values to it.
//!
//! Two different numbers are two different errors (`other_error`), even where both mean the same
//! ([`meaning`]): an application that looks for 1146 does not find it in 1105. The meaning goes
//! into the divergence's detail, so that such findings can be accepted at a glance.

use super::findings::Findings;
use super::verdict::{Kind, Reason};
use crate::wire::answer::Failure;

/// Whether the primary's error says nothing about the statement: a lock, a time-out, a kill, a
/// shutdown, a full disk. The same statement may succeed the next moment, so a shadow that
/// answered otherwise did not diverge, and a write that failed so is not replayed.
#[must_use]
pub fn says_nothing(failure: &Failure) -> bool {
    matches!(
        failure.code,
        1020 // ER_CHECKREAD: the row changed since it was read (MariaDB's snapshot)
            | 1021 // ER_DISK_FULL
            | 1037 // ER_OUTOFMEMORY
            | 1038 // ER_OUT_OF_SORTMEMORY
            | 1040 // ER_CON_COUNT_ERROR
            | 1041 // ER_OUT_OF_RESOURCES
            | 1053 // ER_SERVER_SHUTDOWN
            | 1114 // ER_RECORD_FILE_FULL
            | 1152 // ER_ABORTING_CONNECTION
            | 1158
            ..=1161 // ER_NET_…: the network
            | 1180 // ER_ERROR_DURING_COMMIT
            | 1203 // ER_TOO_MANY_USER_CONNECTIONS
            | 1205 // ER_LOCK_WAIT_TIMEOUT
            | 1206 // ER_LOCK_TABLE_FULL
            | 1213 // ER_LOCK_DEADLOCK
            | 1226 // ER_USER_LIMIT_REACHED
            | 1317 // ER_QUERY_INTERRUPTED
            | 1613 | 1614 // ER_XA_RBTIMEOUT, ER_XA_RBDEADLOCK
            | 1637 // ER_TOO_MANY_CONCURRENT_TRXS
            | 1927 // MariaDB's ER_CONNECTION_KILLED
            | 1969 // MariaDB's ER_STATEMENT_TIMEOUT
            | 3024 // ER_QUERY_TIMEOUT
            | 3572 // ER_LOCK_NOWAIT
            | 4031 // ER_CLIENT_INTERACTION_TIMEOUT
    )
}

/// What kind of divergence it is that the shadow failed so where the primary did not fail so.
#[must_use]
pub fn shadow_kind(failure: &Failure) -> Kind {
    if is_unsupported(failure) {
        Kind::Unsupported
    } else if is_limit(failure) {
        Kind::ShadowLimit
    } else {
        Kind::Error
    }
}

/// The shadow does not have it: vtgate's planner (VT12…), or a command that it does not know.
fn is_unsupported(failure: &Failure) -> bool {
    matches!(
        failure.code,
        1047 // ER_UNKNOWN_COM_ERROR
            | 1235 // ER_NOT_SUPPORTED_YET
            | 1286 // ER_UNKNOWN_STORAGE_ENGINE
            | 1289 // ER_FEATURE_DISABLED
            | 1295 // ER_UNSUPPORTED_PS
    ) || (matches!(failure.code, 1105 | 1815)
        && says_any(
            failure,
            &["VT12", "unsupported", "not supported", "not implemented"],
        ))
}

/// The shadow would have it, but not so much or not so long.
fn is_limit(failure: &Failure) -> bool {
    matches!(
        failure.code,
        1037 | 1038 // ER_OUTOFMEMORY, ER_OUT_OF_SORTMEMORY
            | 1040 // ER_CON_COUNT_ERROR
            | 1041 // ER_OUT_OF_RESOURCES
            | 1104 // ER_TOO_BIG_SELECT
            | 1114 // ER_RECORD_FILE_FULL
            | 1153 // ER_NET_PACKET_TOO_LARGE
            | 1203 // ER_TOO_MANY_USER_CONNECTIONS: vtgate's when a pool is full
            | 1205 // ER_LOCK_WAIT_TIMEOUT
            | 1206 // ER_LOCK_TABLE_FULL
            | 1226 // ER_USER_LIMIT_REACHED
            | 1301 // ER_WARN_ALLOWED_PACKET_OVERFLOWED
            | 1317 // ER_QUERY_INTERRUPTED: vtgate's row caps, its transaction and query time-outs
            | 1390 // ER_PS_MANY_PARAM
            | 1436 // ER_STACK_OVERRUN_NEED_MORE
            | 1461 // ER_MAX_PREPARED_STMT_COUNT_REACHED
            | 1637 // ER_TOO_MANY_CONCURRENT_TRXS
            | 1969 // MariaDB's ER_STATEMENT_TIMEOUT
            | 3024 // ER_QUERY_TIMEOUT
            | 3170 // ER_CAPACITY_EXCEEDED
    ) || (failure.code == 1105
        && says_any(
            failure,
            &[
                "count exceeded",
                "RESOURCE_EXHAUSTED",
                "ResourceExhausted",
                "DEADLINE_EXCEEDED",
                "DeadlineExceeded",
                "deadline exceeded",
                "larger than max",
                "timed out",
                "timeout",
            ],
        ))
}

/// What an error means, where two servers are known to give one meaning different numbers.
#[must_use]
pub fn meaning(failure: &Failure) -> Option<&'static str> {
    let by_number = match failure.code {
        1064 | 1149 => Some("syntax error"),
        1146 | 1051 | 1109 => Some("unknown table"),
        1049 | 1008 => Some("unknown database"),
        1054 => Some("unknown column"),
        1052 => Some("ambiguous column"),
        1022 | 1062 | 1169 | 1586 => Some("duplicate key"),
        1216 | 1452 => Some("foreign key without parent"),
        1217 | 1451 => Some("foreign key with children"),
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 => Some("access denied"),
        1193 => Some("unknown variable"),
        1205 | 1317 | 1969 | 3024 => Some("time-out"),
        _ => None,
    };
    by_number.or_else(|| meaning_by_text(failure))
}

/// vtgate's 1105 (ER_UNKNOWN_ERROR) by its text, and 1235's for what it cannot plan.
fn meaning_by_text(failure: &Failure) -> Option<&'static str> {
    const TEXTS: [(&str, &str); 9] = [
        ("syntax error", "syntax error"),
        ("VT05004", "unknown table"),
        ("VT05005", "unknown table"),
        ("VT05003", "unknown database"),
        ("VT03019", "unknown column"),
        ("VT03021", "ambiguous column"),
        ("VT05006", "unknown variable"),
        ("acl error", "access denied"),
        ("deadline exceeded", "time-out"),
    ];
    if failure.code != 1105 {
        return None;
    }
    let known = TEXTS
        .iter()
        .find(|(text, _)| says_any(failure, &[text]))
        .map(|(_, meaning)| *meaning);
    known.or_else(|| {
        (says_any(failure, &["table "]) && says_any(failure, &["not found"]))
            .then_some("unknown table")
    })
}

fn says_any(failure: &Failure, texts: &[&str]) -> bool {
    texts.iter().any(|text| {
        failure
            .message
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}

/// The primary failed, the shadow did not.
pub(super) fn only_primary(failure: &Failure, found: &mut Findings<'_>) {
    if says_nothing(failure) {
        found.doubt(Reason::PrimaryError);
    } else {
        found.diverge(Kind::Error, || {
            format!("error {} against success", failure.code)
        });
    }
}

/// The shadow failed, the primary did not.
pub(super) fn only_shadow(failure: &Failure, found: &mut Findings<'_>) {
    found.diverge(shadow_kind(failure), || {
        format!("success against error {}", failure.code)
    });
}

/// Both failed.
pub(super) fn both(primary: &Failure, shadow: &Failure, found: &mut Findings<'_>) {
    if primary.code == shadow.code {
        return;
    }
    if says_nothing(primary) {
        found.doubt(Reason::PrimaryError);
        return;
    }
    let detail = || match (meaning(primary), meaning(shadow)) {
        (Some(one), Some(other)) if one == other => {
            format!(
                "error {} against error {}: both mean {one}",
                primary.code, shadow.code
            )
        }
        _ => format!("error {} against error {}", primary.code, shadow.code),
    };
    match shadow_kind(shadow) {
        Kind::Error => {}
        more_precise => found.diverge(more_precise, detail),
    }
    found.diverge(Kind::OtherError, detail);
}
